"""Simple features of what is seen, heard and read, which the textbook model runs on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import correlate, correlate1d
from wordfreq import zipf_frequency

from makers import textbook_sound, textbook_visual, write_film, write_sound
from tribrain.errors import InputError
from tribrain.features import sound, visual
from tribrain.features.lexical import LEXICAL_FEATURES, lexical_series, word_rarities
from tribrain.features.sound import SOUND_FEATURES
from tribrain.features.visual import FRAME_RATE, VISUAL_FEATURES
from tribrain.stimuli.media import picture_track, probe
from tribrain.stimuli.words import Word

ROOT = Path(__file__).parents[2]
RATE = 16_000


def seen(path: Path, seconds: float) -> dict[str, np.ndarray]:
    track = probe(path)[0]
    assert track is not None
    series = textbook_visual(track, round(2 * seconds), 2.0)
    assert series.dtype == np.float32
    assert np.isfinite(series).all()
    return dict(zip(VISUAL_FEATURES, series, strict=True))


def film(path: Path, frames: np.ndarray, rate: int = FRAME_RATE) -> dict[str, np.ndarray]:
    return seen(write_film(path, frames, rate=rate), len(frames) / rate)


def picture(path: Path, image: np.ndarray, seconds: float = 2.0) -> dict[str, np.ndarray]:
    Image.fromarray(image).save(path)
    series = textbook_visual(picture_track(path, seconds), round(2 * seconds), 2.0)
    return dict(zip(VISUAL_FEATURES, series, strict=True))


def heard(path: Path, samples: np.ndarray, rate: int = RATE) -> dict[str, np.ndarray]:
    track = probe(write_sound(path, samples, rate))[1]
    assert track is not None
    series = textbook_sound(track, int(np.ceil(track.duration)) * 2, 2.0)
    assert series.dtype == np.float32
    assert np.isfinite(series).all()
    return dict(zip(SOUND_FEATURES, series, strict=True))


def sine(hertz: float, seconds: float, amplitude: float = 0.1, rate: int = RATE) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


def grating(hertz: float, angle: float = 0.0, cycles: float = 8, seconds: int = 4) -> np.ndarray:
    """Frames (n, 36, 64, 3) of a grating that drifts at `hertz` cycles a second."""
    y, x = np.mgrid[:36, :64]
    time = np.arange(seconds * FRAME_RATE)[:, None, None] / FRAME_RATE
    place = cycles / 64 * (x * np.cos(angle) + y * np.sin(angle))
    wave = 128 + 100 * np.sin(2 * np.pi * (place - hertz * time))
    return np.repeat(wave[..., None], 3, axis=3).astype(np.uint8)


def motion_energy(luma: np.ndarray) -> np.ndarray:
    """Motion energy (time, 2 halves), each half of the picture on its own."""
    halves = [energy_of_half(luma[:, :, :32]), energy_of_half(luma[:, :, 32:])]
    root = np.sqrt(np.stack(halves, axis=1))
    return (root / visual._TYPICAL_MOTION) ** visual._MOTION_EXPONENT


def energy_of_half(luma: np.ndarray) -> np.ndarray:
    """Mean energy (time,) with complex filters, in double precision."""
    time = np.arange(-visual._REACH, visual._REACH + 1) / FRAME_RATE
    envelope = np.exp(-(time**2) / (2 * 0.15**2))
    wave = np.exp(2j * np.pi * visual._TEMPORAL_FREQUENCY * time)
    envelope /= envelope.sum()
    in_time = envelope * (wave - (envelope * wave).sum())
    energies = []
    for wavelength in visual._WAVELENGTHS:
        reach = round(wavelength)
        y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        window = np.exp(-(x**2 + y**2) / (2 * (wavelength / 2) ** 2))
        window /= window.sum()
        for angle in np.pi * np.arange(visual._ORIENTATIONS) / visual._ORIENTATIONS:
            wave = np.exp(2j * np.pi / wavelength * (x * np.cos(angle) + y * np.sin(angle)))
            in_space = window * (wave - (window * wave).sum())
            parts = [
                np.stack([correlate(image, kernel, mode="nearest") for image in luma])[:, ::2, ::2]
                for kernel in (in_space.real, in_space.imag)
            ]
            for direction in (in_time, in_time.conj()):
                answer = 0
                for part, unit in zip(parts, (1, 1j), strict=True):
                    for kernel, turn in ((direction.real, 1), (direction.imag, 1j)):
                        one = correlate1d(part, kernel, axis=0, mode="nearest")
                        answer = answer + unit * turn * one
                energies.append(np.abs(answer) ** 2)
    return np.mean([energy.mean((1, 2)) for energy in energies], axis=0)


# What is seen


def test_contrast_is_the_rms_contrast_of_each_half(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (36, 64, 3), np.uint8)
    image[:, 32:] //= 3
    found = picture(tmp_path / "p.png", image)
    luma = image / 255 @ [0.2126, 0.7152, 0.0722]
    np.testing.assert_allclose(found["contrast_left"], luma[:, :32].std() / 0.2, rtol=1e-4)
    np.testing.assert_allclose(found["contrast_right"], luma[:, 32:].std() / 0.2, rtol=1e-4)


def test_colour_is_hasler_and_suesstrunks_colourfulness(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (36, 64, 3), np.uint8)
    image[..., 0] //= 2
    red, green, blue = np.moveaxis(image / 255, 2, 0)
    opponents = red - green, (red + green) / 2 - blue
    expected = np.hypot(*(o.std() for o in opponents))
    expected += 0.3 * np.hypot(*(o.mean() for o in opponents))
    np.testing.assert_allclose(picture(tmp_path / "p.png", image)["colour"], expected / 0.15, 1e-4)


def test_grey_picture_has_no_colour_and_a_pure_hue_has(tmp_path):
    grey = np.repeat(np.random.default_rng(0).integers(0, 256, (36, 64, 1), np.uint8), 3, axis=2)
    assert picture(tmp_path / "p.png", grey)["colour"].max() < 1e-5
    hue = np.full((36, 64, 3), (200, 30, 30), np.uint8)
    assert picture(tmp_path / "p.png", hue)["colour"].min() > 1


@pytest.mark.parametrize("level", [0, 90, 255])
def test_uniform_picture_gives_nothing(tmp_path, level):
    found = picture(tmp_path / "p.png", np.full((36, 64, 3), level, np.uint8))
    assert max(np.abs(series).max() for series in found.values()) < 1e-5


@pytest.mark.parametrize("level", [0, 128])
def test_uniform_film_gives_nothing(tmp_path, level):
    found = film(tmp_path / "f.mp4", np.full((36, 36, 64, 3), level, np.uint8))
    assert max(np.abs(series).max() for series in found.values()) < 1e-4


def test_whole_field_flicker_is_no_motion(tmp_path):
    level = 128 + 100 * np.sin(2 * np.pi * 3 * np.arange(48) / FRAME_RATE)
    frames = np.broadcast_to(level[:, None, None, None], (48, 36, 64, 3)).astype(np.uint8)
    found = film(tmp_path / "f.mp4", frames)
    assert max(found["motion_left"].max(), found["motion_right"].max()) < 0.01


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("cycles", [8, 4])
def test_drifting_grating_has_far_more_motion_energy_than_a_static_one(tmp_path, side, cycles):
    still = film(tmp_path / "still.mp4", grating(0, cycles=cycles))[f"motion_{side}"]
    moving = film(tmp_path / "moving.mp4", grating(3, cycles=cycles))[f"motion_{side}"]
    assert moving.min() > 1
    assert moving.min() > 10 * still.max()


def test_contrast_is_the_same_whether_a_grating_moves_or_not(tmp_path):
    still = film(tmp_path / "still.mp4", grating(0))["contrast_left"]
    moving = film(tmp_path / "moving.mp4", grating(3))["contrast_left"]
    np.testing.assert_allclose(moving, still, rtol=0.02)


@pytest.mark.parametrize("angle", [0, np.pi / 4, np.pi / 2])
def test_direction_of_drift_does_not_matter(tmp_path, angle):
    there = film(tmp_path / "there.mp4", grating(3, angle))
    back = film(tmp_path / "back.mp4", grating(-3, angle))
    for name in ("motion_left", "motion_right"):
        assert there[name].min() > 1
        np.testing.assert_allclose(there[name], back[name], rtol=0.02)


def test_motion_energy_is_largest_at_the_tuned_speed(tmp_path):
    found = [film(tmp_path / "f.mp4", grating(hz))["motion_left"].mean() for hz in (0.5, 3, 6)]
    assert found[1] > 3 * max(found[0], found[2])


def test_motion_energy_grows_by_the_same_factor_with_every_doubling_of_contrast():
    frames = torch.from_numpy(grating(3)).permute(0, 3, 1, 2).float() / 255
    found = [visual._motion(frames * scale)[4:-4].mean().item() for scale in (0.25, 0.5, 1)]
    assert found[1] / found[0] == pytest.approx(found[2] / found[1], rel=1e-3)
    assert 1.2 < found[1] / found[0] <= 2.01


def test_motion_energy_is_that_of_complex_filters_in_double_precision():
    frames = np.random.default_rng(0).random((14, 20, 64, 3))
    luma = frames @ [0.2126, 0.7152, 0.0722]
    found = visual._motion(torch.from_numpy(frames).permute(0, 3, 1, 2).float())
    np.testing.assert_allclose(found, motion_energy(luma), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("side", ["left", "right"])
def test_grating_in_one_half_drives_that_half(tmp_path, side):
    frames = grating(3)
    frames[:, :, 32:] = 128
    frames = frames if side == "left" else frames[:, :, ::-1]
    found = film(tmp_path / "half.mp4", frames)
    other = {"left": "right", "right": "left"}[side]
    assert found[f"contrast_{side}"].min() > 1 > 20 * found[f"contrast_{other}"].max()
    assert found[f"motion_{side}"].min() > 2 * found[f"motion_{other}"].max()


def test_grating_in_one_half_is_hardly_seen_to_move_in_the_other(tmp_path):
    frames = grating(3)
    frames[:, :, 32:] = 128
    found = film(tmp_path / "half.mp4", frames)
    assert found["motion_left"].min() > 10 * found["motion_right"].max()


def test_what_is_seen_lies_in_its_own_half_second(tmp_path):
    frames = np.full((48, 36, 64, 3), 128, np.uint8)
    frames[24:30] = grating(0)[:6]
    contrast = film(tmp_path / "flash.mp4", frames)["contrast_left"]
    assert np.flatnonzero(contrast > 0.01).tolist() == [4]
    assert contrast[4] > 1


def test_samples_after_the_end_of_the_film_are_zero(tmp_path):
    found = seen(write_film(tmp_path / "f.mp4", grating(3), rate=FRAME_RATE), 7)
    for name in ("contrast_left", "motion_right"):
        assert (found[name][:8] > 0.5).all()
        assert not found[name][8:].any()


@pytest.mark.parametrize("block", [1, 3, 7])
def test_blocks_of_frames_do_not_show(tmp_path, monkeypatch, block):
    noise = np.random.default_rng(0).integers(0, 256, (18, 18, 64, 3), np.uint8)
    path = write_film(tmp_path / "noise.mp4", noise, rate=FRAME_RATE)
    whole = seen(path, 1.5)
    monkeypatch.setattr(visual, "_BLOCK", block)
    blocks, counts = visual._blocks, []
    monkeypatch.setattr(
        visual, "_blocks", lambda *args: (counts.append(b[2]) or b for b in blocks(*args))
    )
    parts = seen(path, 1.5)
    assert max(counts) == block
    assert sum(counts) == 18
    for name, series in whole.items():
        np.testing.assert_allclose(parts[name], series, atol=1e-4)


@pytest.mark.parametrize("rate", [6, 24, 30, 60])
def test_frame_rate_of_the_film_changes_little(tmp_path, rate):
    slow = film(tmp_path / "slow.mp4", grating(1, cycles=4))
    image = grating(1, cycles=4)
    numbers = np.arange(4 * rate) * FRAME_RATE // rate
    other = film(tmp_path / "other.mp4", image[numbers], rate=rate)
    np.testing.assert_allclose(other["contrast_left"], slow["contrast_left"], rtol=0.05)
    np.testing.assert_allclose(other["motion_left"][1:-1], slow["motion_left"][1:-1], rtol=1)


@pytest.mark.parametrize(("height", "width"), [(64, 36), (16, 256), (360, 640), (18, 32)])
def test_any_shape_of_picture_is_taken(tmp_path, height, width):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    found = film(tmp_path / "f.mp4", np.repeat(image[None], 12, axis=0))
    assert found["contrast_left"].min() > 0
    assert found["motion_left"].max() < 0.2


def test_shortest_film_is_looked_at_too(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (36, 64, 3), np.uint8)
    assert picture(tmp_path / "p.png", image, seconds=0.5)["contrast_left"][0] > 0.1
    Image.fromarray(image).save(tmp_path / "p.png")
    assert textbook_visual(picture_track(tmp_path / "p.png", 0.04), 2, 2.0)[0, 0] > 0


# What is heard


def test_silence_gives_exactly_nothing(tmp_path):
    found = heard(tmp_path / "s.wav", np.zeros(35 * RATE))
    assert all((series == 0).all() for series in found.values())


@pytest.mark.parametrize("amplitude", [0.01, 0.1, 0.5])
def test_loudness_of_a_tone_is_its_rms_to_the_power_of_stevens(tmp_path, amplitude):
    found = heard(tmp_path / "s.wav", sine(500, 6, amplitude))
    rms = amplitude / np.sqrt(2)
    np.testing.assert_allclose(found["loudness"][2:-2], (rms / 0.1) ** 0.6, rtol=0.01)
    np.testing.assert_allclose(found["low_tones"][2:-2], (rms / 0.08) ** 0.6, rtol=0.01)
    assert found["high_tones"][2:-2].max() < 0.05


def test_loudness_of_noise_is_its_rms_to_the_power_of_stevens(tmp_path):
    noise = np.random.default_rng(0).normal(size=20 * RATE) * 0.05
    found = heard(tmp_path / "s.wav", noise)["loudness"][2:-2]
    assert found.mean() == pytest.approx((0.05 / 0.1) ** 0.6, rel=0.02)


def test_high_tone_is_high_and_a_tone_between_is_neither(tmp_path):
    high = heard(tmp_path / "h.wav", sine(4000, 6))
    between = heard(tmp_path / "b.wav", sine(1300, 6))
    rms = 0.1 / np.sqrt(2)
    np.testing.assert_allclose(high["high_tones"][2:-2], (rms / 0.03) ** 0.6, rtol=0.01)
    assert high["low_tones"][2:-2].max() < 0.05
    assert max(between["low_tones"][2:-2].max(), between["high_tones"][2:-2].max()) < 0.05
    np.testing.assert_allclose(between["loudness"][2:-2], (rms / 0.1) ** 0.6, rtol=0.01)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_sample_rate_of_the_file_does_not_matter(tmp_path, rate):
    tone = heard(tmp_path / "t.wav", sine(500, 6))
    other = heard(tmp_path / "o.wav", sine(500, 6, rate=rate), rate)
    for name in ("loudness", "low_tones"):
        np.testing.assert_allclose(other[name], tone[name], rtol=0.02)


def test_stereo_is_heard_as_the_mean_of_its_channels(tmp_path):
    left, right = sine(500, 4), sine(3000, 4, 0.05)
    stereo = heard(tmp_path / "s.wav", np.stack([left, right]))
    mono = heard(tmp_path / "m.wav", (left + right) / 2)
    for name, series in mono.items():
        np.testing.assert_allclose(stereo[name], series, atol=2e-3)


@pytest.mark.parametrize("hertz", [4, 5])
def test_voice_is_the_modulation_at_the_rate_of_syllables(tmp_path, hertz):
    found = heard(tmp_path / "s.wav", sine(1000, 10) * (1 + sine(hertz, 10, 1.0)))["voice"]
    # Amplitude 0.1 wholly modulated: the envelope's RMS is 0.1 / sqrt 2, its modulation's / sqrt 2.
    np.testing.assert_allclose(found[4:-4], 0.05 / 0.04, rtol=0.1)


@pytest.mark.parametrize("hertz", [0.5, 1, 12, 20])
def test_slower_and_faster_modulation_is_no_voice(tmp_path, hertz):
    found = heard(tmp_path / "s.wav", sine(1000, 10) * (1 + sine(hertz, 10, 1.0)))["voice"]
    assert found[4:-4].max() < 0.15


@pytest.mark.parametrize("hertz", [100, 6000])
def test_modulation_outside_the_voice_band_is_no_voice(tmp_path, hertz):
    found = heard(tmp_path / "s.wav", sine(hertz, 10) * (1 + sine(4, 10, 1.0)))["voice"]
    assert found[4:-4].max() < 0.05


def test_steady_tone_is_no_voice_but_where_it_starts_and_ends(tmp_path):
    found = heard(tmp_path / "s.wav", sine(1000, 10))["voice"]
    assert found[3:-3].max() < 0.01


@pytest.mark.parametrize(
    ("rate", "block"), [(16_000, 4), (16_000, 7), (16_000, 1000), (44_100, 13)]
)
def test_blocks_of_sound_do_not_show(tmp_path, monkeypatch, rate, block):
    time = np.arange(95 * rate) / rate
    noise = np.random.default_rng(0).normal(size=95 * rate) * 0.05
    noise *= 1 + np.sin(2 * np.pi * 4 * time) * np.sin(2 * np.pi * 0.1 * time)
    track = probe(write_sound(tmp_path / "s.wav", noise, rate))[1]
    assert track is not None
    whole = textbook_sound(track, 190, 2.0)
    monkeypatch.setattr(sound, "_BLOCK", block)
    parts = textbook_sound(track, 190, 2.0)
    np.testing.assert_allclose(parts, whole, atol=1e-4)


def test_values_do_not_depend_on_what_else_the_recording_holds(tmp_path):
    tone = sine(500, 4)
    alone = heard(tmp_path / "a.wav", tone)
    beside = heard(tmp_path / "b.wav", np.concatenate([tone, np.zeros(40 * RATE), 5 * tone]))
    for name, series in alone.items():
        np.testing.assert_allclose(beside[name][:8], series, atol=1e-5)
        assert not beside[name][10:86].any()


@pytest.mark.parametrize("samples", [1, 100, 500, 16_001])
def test_shortest_sounds_have_features(tmp_path, samples):
    noise = np.random.default_rng(0).normal(size=samples) * 0.1
    found = heard(tmp_path / "s.wav", noise)
    assert found["loudness"][0] > 0


def test_samples_after_the_end_of_the_sound_are_zero(tmp_path):
    track = probe(write_sound(tmp_path / "s.wav", sine(500, 3), RATE))[1]
    assert track is not None
    series = textbook_sound(track, 20, 2.0)
    assert series.shape == (4, 20)
    assert (series[0, :6] > 0.5).all()
    assert not series[:, 6:].any()


# What is read

words_in_time = st.lists(
    st.builds(
        Word,
        st.sampled_from(["the", "boat", "sextant", "zephyr", "qzxvq"]),
        st.floats(0, 19.9),
        st.just(0.0) | st.floats(0.001, 8),
    ),
    max_size=12,
)


@settings(max_examples=80, deadline=None)
@given(words_in_time)
def test_each_word_counts_once_however_long_it_lasts(words):
    rate, rarity = lexical_series(words, 40, 2.0)
    assert rate.sum() / 2 * 2.5 == pytest.approx(len(words), abs=1e-3)
    known = sum(word_rarities([word.text for word in words], "en"))
    assert rarity.sum() / 2 * 2.5 * 2.2 == pytest.approx(known, abs=1e-3)


@settings(max_examples=40, deadline=None)
@given(words_in_time, words_in_time)
def test_words_add_up(one, two):
    together = lexical_series([*one, *two], 40, 2.0)
    apart = lexical_series(one, 40, 2.0) + lexical_series(two, 40, 2.0)
    np.testing.assert_allclose(together, apart, atol=1e-4)


def test_word_lies_on_the_samples_it_fills():
    rate = lexical_series([Word("boat", 3.0, 2.0)], 20, 2.0)[0]
    assert np.flatnonzero(rate).tolist() == [6, 7, 8, 9]
    np.testing.assert_allclose(rate[6:10], 0.5 / 2.5)


def test_running_speech_lies_near_one():
    words = [
        Word(text, 0.4 * number, 0.4)
        for number, text in enumerate("the old man pulled the boat across the wet sand".split() * 5)
    ]
    rate, rarity = lexical_series(words, 40, 2.0)
    assert rate.mean() == pytest.approx(1, abs=0.01)
    assert 0.7 < rarity.mean() < 1.5


def test_no_words_give_nothing():
    series = lexical_series([], 10, 2.0)
    assert series.shape == (len(LEXICAL_FEATURES), 10)
    assert not series.any()


def test_rarity_is_eight_less_the_zipf_frequency():
    words = ["the", "The", "boat", "quixotic"]
    assert word_rarities(words, "en") == [8 - zipf_frequency(word, "en") for word in words]
    assert word_rarities(["quixotic"], "en") > word_rarities(["boat"], "en")
    assert 0 <= word_rarities(["the"], "en")[0] < 1


def test_rarity_depends_on_the_language():
    assert word_rarities(["und"], "de")[0] < 1 < word_rarities(["und"], "en")[0]


def test_unknown_word_counts_as_used_once_in_a_hundred_million():
    assert word_rarities(["qzxvq"], "en") == [7.0]


@pytest.mark.parametrize("mark", [".", "-", "..."])
def test_marks_alone_are_no_words(mark):
    assert not lexical_series([Word(mark, 1.0, 1.0)], 10, 2.0).any()


def test_language_without_word_frequencies_is_refused():
    with pytest.raises(InputError, match=r"no word frequencies for language 'xx'; known: .*en"):
        lexical_series([Word("boat", 0, 1)], 4, 2.0, "xx")


# The demo film drives each of them in its own scene


@pytest.fixture(scope="module")
def demo() -> dict[str, np.ndarray]:
    video, audio = probe(ROOT / "examples" / "film.mp4")
    assert video is not None
    assert audio is not None
    pictures = zip(VISUAL_FEATURES, textbook_visual(video, 80, 2.0), strict=True)
    sounds = zip(SOUND_FEATURES, textbook_sound(audio, 80, 2.0), strict=True)
    return dict(pictures) | dict(sounds)


def scene(series: np.ndarray, start: float, end: float) -> float:
    """Mean of a series at 2 Hz, half a second in from both ends of a scene."""
    return float(series[round(2 * start) + 1 : round(2 * end) - 1].mean())


def test_demo_film_moves_where_its_gratings_and_shapes_do(demo):
    for side in ("left", "right"):
        motion, contrast = demo[f"motion_{side}"], demo[f"contrast_{side}"]
        assert scene(motion, 6, 12) > 10 * scene(motion, 12, 18)
        assert scene(contrast, 6, 12) == pytest.approx(scene(contrast, 12, 18), rel=0.05)
        assert scene(contrast, 0, 6) < 0.2 * scene(contrast, 12, 18)
        assert scene(motion, 33, 40) > 10 * scene(motion, 24, 33)


def test_demo_film_is_coloured_where_its_shapes_are(demo):
    assert scene(demo["colour"], 24, 40) > 0.5
    assert scene(demo["colour"], 0, 24) < 0.1


def test_demo_film_sounds_low_then_high_then_speaks(demo):
    low, high, voice = demo["low_tones"], demo["high_tones"], demo["voice"]
    assert scene(demo["loudness"], 0, 18) < 0.01
    assert scene(low, 18, 21) > 5 * scene(high, 18, 21)
    assert scene(high, 21, 24) > 5 * scene(low, 21, 24)
    assert scene(voice, 24, 33) > 0.5
