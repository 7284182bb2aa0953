"""Features of what is heard: known truths, references in numpy, and how the sound is cut."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import hilbert

from makers import textbook_sound, write_sound
from tribrain.errors import InputError
from tribrain.features import sound
from tribrain.features.modulation import log_frequency
from tribrain.features.sound import FREQUENCIES, SOUND, SOUND_FEATURES, sound_pieces
from tribrain.stimuli.media import AudioTrack, iter_audio, probe

RATE = 16_000
ALL = tuple(SOUND)
CUT = ("voice", "envelope", "log_mel", "pitch")
CHANNELS = {8000: 2, 11_025: 1, 16_000: 4, 44_100: 7, 48_000: 8}  # by sample rate
MODULATION = SOUND["modulation"].columns


def describe(name: str, samples: np.ndarray) -> np.ndarray:
    """A feature of 16 kHz samples, (time, columns), but for half a second at either end."""
    values = SOUND[name].describe(torch.from_numpy(samples.astype(np.float32))).numpy()
    assert values.shape == (len(samples) * 100 // RATE, len(SOUND[name].columns))
    assert np.isfinite(values).all()
    return values[50:-50]


def sine(hertz: float, seconds: float = 3.0, amplitude: float = 0.1) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hertz * np.arange(round(RATE * seconds)) / RATE)


def white(seconds: float = 3.0, level: float = 0.05, rate: int = RATE) -> np.ndarray:
    return np.random.default_rng(0).normal(size=round(rate * seconds)) * level


def harmonics(hertz: float, seconds: float = 3.0) -> np.ndarray:
    """A train of pulses, with nothing above 7.5 kHz."""
    parts = [sine(hertz * number, seconds) for number in range(1, int(7500 / hertz) + 1)]
    train = np.sum(parts, axis=0)
    return 0.1 * train / train.std()


def ripple(rate: float, scale: float, seconds: float = 3.0, depth: float = 0.8) -> np.ndarray:
    """Tones 0.03 octave apart whose power moves by `depth` decades; upward if rate > 0."""
    octaves = np.arange(0, 5.3, 0.03)
    phase = np.random.default_rng(0).uniform(0, 2 * np.pi, len(octaves))
    time = np.arange(round(RATE * seconds)) / RATE
    result = np.zeros(len(time))
    for octave, start in zip(octaves, phase, strict=True):
        hertz = 180 * 2**octave
        power = depth * np.cos(2 * np.pi * (rate * time - scale * octave))
        result += 10 ** (power / 2) * np.sqrt(hertz) * np.sin(2 * np.pi * hertz * time + start)
    return 0.1 * result / result.std()


def strengths(samples: np.ndarray) -> dict[str, float]:
    return dict(zip(MODULATION, describe("modulation", samples).mean(0), strict=True))


def track_of(path: Path, samples: np.ndarray, rate: int = RATE) -> AudioTrack:
    track = probe(write_sound(path, samples, rate))[1]
    assert track is not None
    return track


def whole(track: AudioTrack, n: int, frequency: float = 100, names=ALL) -> np.ndarray:
    return next(sound_pieces(track, names, [(0, n)], frequency))


# Log mel spectrogram and envelope


def mel(hertz):
    return 1127.01 * np.log1p(np.asarray(hertz) / 700)


@pytest.mark.parametrize("hertz", [110, 440, 1000, 3000, 7000])
def test_tone_has_its_peak_in_the_mel_band_that_holds_it(hertz):
    found = describe("log_mel", sine(hertz)).mean(0)
    edges = np.linspace(*mel([50, 7500]), 34)
    number = int(found.argmax())
    assert edges[number] < mel(hertz) < edges[number + 2]
    name = SOUND["log_mel"].columns[number]
    centre = float(name.removeprefix("log_mel_").removesuffix("hz"))
    assert mel(centre) == pytest.approx(edges[number + 1], abs=1)


def test_log_mel_is_that_of_an_independent_computation():
    samples = white(0.5) * np.linspace(0.001, 1, RATE // 2)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    padded = np.pad(samples, 200)
    frames = np.stack([padded[160 * i : 160 * i + 400] for i in range(50)])
    power = np.abs(np.fft.rfft(frames * window, 512)) ** 2 * 2 / (512 * (window**2).sum())
    edges = np.linspace(*mel([50, 7500]), 34)
    places = mel(np.fft.rfftfreq(512, 1 / RATE))
    bands = [
        np.interp(places, edges[i : i + 3], [0, 1, 0], left=0, right=0) @ power.T for i in range(32)
    ]
    found = SOUND["log_mel"].describe(torch.from_numpy(samples.astype(np.float32)))
    np.testing.assert_allclose(found, np.log10(1 + np.array(bands).T / 1e-8), atol=2e-3)


def test_ten_times_the_amplitude_is_two_decades_more():
    quiet, loud = describe("log_mel", white(level=0.05)), describe("log_mel", white(level=0.5))
    np.testing.assert_allclose((loud - quiet).mean(0), 2, atol=0.005)


@pytest.mark.parametrize("hertz", [60, 500, 4000])
def test_envelope_of_a_tone_is_its_amplitude(hertz):
    found = describe("envelope", sine(hertz, amplitude=0.2))
    np.testing.assert_allclose(found, 0.2 / (0.1 * np.sqrt(2)), rtol=2e-3)


def test_envelope_is_the_smoothed_modulus_of_scipys_analytic_signal():
    samples = sine(700) * (1 + 0.8 * np.sin(2 * np.pi * 5 * np.arange(3 * RATE) / RATE))
    samples += sine(2100, amplitude=0.03)
    window = np.hanning(401)
    smooth = np.convolve(np.abs(hilbert(samples)), window / window.sum(), "same")[::160]
    expected = smooth[50:-50] / (0.1 * np.sqrt(2))
    np.testing.assert_allclose(describe("envelope", samples)[:, 0], expected, atol=2e-3)


# Modulation


@pytest.mark.parametrize("rate", [2, 4, 8, 16])
def test_rate_of_amplitude_modulation_is_the_strongest(rate):
    found = strengths(white() * (1 + 0.9 * np.sin(2 * np.pi * rate * np.arange(3 * RATE) / RATE)))
    others = [name for name in found if f"_rate{rate}_" not in name]
    for half in ("low", "high"):
        strongest = found[f"modulation_rate{rate}_scale0_{half}"]
        assert strongest > 2 * max(found[name] for name in others)
        assert strongest == max(v for name, v in found.items() if name.endswith(half))


@pytest.mark.parametrize("scale", [0.5, 1, 2])
@pytest.mark.parametrize(("rate", "direction"), [(4, "up"), (-8, "down")])
def test_moving_ripple_drives_its_rate_scale_and_direction(rate, direction, scale):
    found = strengths(ripple(rate, scale))
    for half in ("low", "high"):
        here = {name: v for name, v in found.items() if name.endswith(half)}
        own = f"modulation_rate{abs(rate)}_scale{scale:g}_{direction}_{half}"
        other = own.replace(direction, {"up": "down", "down": "up"}[direction])
        assert own == max(here, key=here.__getitem__)
        assert here[own] > 4 * here[other]
    assert found[own] == pytest.approx(0.8, rel=0.2)  # the ripple's depth in decades


def test_rising_chirps_drive_up_and_falling_ones_down():
    rising = np.arange(3 * RATE) / RATE % 0.5
    chirps = 0.1 * np.sin(2 * np.pi * np.cumsum(250 * 2 ** (8 * rising)) / RATE)
    up, down = strengths(chirps), strengths(chirps[::-1].copy())
    one, other = (f"modulation_rate4_scale0.5_{name}_low" for name in ("up", "down"))
    assert up[one] > 3 * up[other]
    assert down[other] > 3 * down[one]


def test_steady_sound_has_no_modulation():
    found = describe("modulation", sine(1000))
    assert found[0].max() > 0.01  # half a second after it starts, it is not steady yet
    assert found[30:-30].max() < 1e-3


def test_tone_lies_in_its_channel_twelve_to_the_octave():
    for octave in (1, 2.5, 4):
        found = log_frequency(torch.from_numpy(sine(180 * 2**octave).astype(np.float32)))
        assert found[:, 150].argmax() == pytest.approx(12 * octave, abs=0.5)


def test_modulation_is_that_of_complex_filters_in_double_precision():
    spectrogram = log_frequency(torch.from_numpy(ripple(4, 1)).float()).double().numpy()
    row, scale, rate = 150, 0.5, 4
    tau, xi = np.arange(-38, 39) / 100, np.arange(-24, 25) / 12

    def gabor(at, frequency, reach):
        taper = np.cos(np.pi * at / (2 * reach)) ** 2
        taper /= taper.sum()
        wave = np.exp(2j * np.pi * frequency * at)
        return taper * (wave - (taper * wave).sum().real)

    in_time, in_octaves = gabor(tau, rate, 0.39), gabor(xi, scale, 25 / 12)
    edged = np.pad(spectrogram, ((24, 24), (0, 0)), mode="edge")[:, row - 38 : row + 39]
    moving = 2 * edged @ in_time
    answers = {
        "up": np.correlate(moving, in_octaves, "valid"),  # conjugates the second
        "down": np.correlate(moving, in_octaves.conj(), "valid"),
    }
    found = SOUND["modulation"].describe(torch.from_numpy(ripple(4, 1)).float())[row].numpy()
    for direction, answer in answers.items():
        for half, part in (("low", answer[:32]), ("high", answer[32:])):
            column = MODULATION.index(f"modulation_rate4_scale0.5_{direction}_{half}")
            expected = np.sqrt((np.abs(part) ** 2).mean())
            assert found[column] == pytest.approx(expected, abs=2e-4)


# Pitch


@pytest.mark.parametrize("hertz", [76, 120, 151.7, 333.3, 599])
@pytest.mark.parametrize("make", [harmonics, sine])
def test_pitch_is_in_octaves_re_100_hz(make, hertz):
    octaves, strength = describe("pitch", make(hertz)).T
    np.testing.assert_allclose(octaves, np.log2(hertz / 100), atol=2e-3)
    assert strength.min() > 0.95


def test_pitch_of_pulses_on_whole_samples():
    pulses = np.zeros(3 * RATE)
    pulses[np.arange(0, 3 * RATE, 400 / 3).round().astype(int)] = 0.5  # 120 Hz
    octaves = describe("pitch", pulses)[:, 0]
    np.testing.assert_allclose(octaves, np.log2(1.2), atol=0.01)


def test_pitch_without_its_fundamental_is_the_same():
    missing = np.sum([sine(150 * number) for number in (4, 5, 6, 7)], axis=0)
    octaves, strength = describe("pitch", missing).T
    np.testing.assert_allclose(octaves, np.log2(1.5), atol=2e-3)
    assert strength.min() > 0.9


def test_noise_is_not_voiced_and_weakly_periodic():
    octaves, strength = describe("pitch", white()).T
    assert not octaves.any()
    assert 0 < strength.mean() < 0.25
    assert strength.max() < 0.45


def test_noise_beside_a_voice_weakens_its_periodicity_and_leaves_its_pitch():
    octaves, strength = describe("pitch", harmonics(200) + white(level=0.05)).T
    assert np.mean(np.abs(octaves - 1) < 0.02) > 0.97
    # Four parts of power in five repeat (Boersma 1993: r / (1 - r) is their ratio).
    assert strength.mean() == pytest.approx(0.8, abs=0.05)


def test_loudness_and_offset_do_not_change_the_pitch():
    quiet, loud = (describe("pitch", harmonics(180) * gain) for gain in (0.1, 3))
    np.testing.assert_allclose(quiet, loud, atol=1e-3)
    offset = describe("pitch", harmonics(180) + 0.3)
    np.testing.assert_allclose(offset, loud, atol=5e-3)


def test_sound_below_the_floor_counts_as_aperiodic():
    octaves, strength = describe("pitch", harmonics(180) * 1e-5).T
    assert not octaves.any()
    assert strength.max() < 1e-3


# All features


@pytest.mark.parametrize("name", ALL)
def test_silence_is_exactly_zero(name):
    assert not describe(name, np.zeros(3 * RATE)).any()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("level", [1e-6, 1.0])
def test_values_are_finite_at_any_level(name, level):
    square = level * np.sign(sine(150)) * (np.arange(3 * RATE) % 9000 < 4000)
    assert np.abs(describe(name, square)).max() < 30


@pytest.mark.parametrize("name", ALL)
def test_no_value_sees_more_than_a_second(name):
    near = np.concatenate([sine(300, 2), white(2)])
    # One sample more of margin for the 16 kHz samples that lie on the edge itself.
    other = near.copy()
    other[: RATE - 1] = white(1)[:-1] * 5
    other[3 * RATE + 1 :] = 0
    values = [SOUND[name].describe(torch.from_numpy(x).float()).numpy() for x in (near, other)]
    np.testing.assert_allclose(values[0][200], values[1][200], atol=1e-5)
    assert not np.allclose(values[0][300], values[1][300], atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_columns_have_names_of_their_own(name):
    columns = SOUND[name].columns
    assert len(set(columns)) == len(columns)
    assert all(column.startswith(name) for column in columns)


# Pieces


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Iterator[tuple[AudioTrack, np.ndarray]]:
    samples = np.concatenate([harmonics(130, 2.3), white(2.2), ripple(4, 1, 2.2)])
    samples *= 1 + 0.5 * np.sin(2 * np.pi * 3 * np.arange(len(samples)) / RATE)
    folder = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sound, "_BLOCK", 2)
        track = track_of(folder / "s.wav", samples * 0.5)
        yield track, whole(track, 16, 2)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory, recording) -> dict[int, tuple[AudioTrack, np.ndarray]]:
    """Sounds of 7.4 s at several sample rates and numbers of channels, and their features."""
    folder = tmp_path_factory.mktemp("sounds")
    result = {}
    for rate, channels in CHANNELS.items():
        samples = np.random.default_rng(0).normal(size=(channels, round(7.4 * rate))) * 0.05
        samples += 0.1 * np.sign(np.sin(2 * np.pi * 130 * np.arange(samples.shape[1]) / rate))
        track = track_of(folder / f"{rate}.wav", samples, rate)
        result[rate] = (track, whole(track, 20, 2, CUT))
    return result


@settings(max_examples=40, deadline=None)
@given(
    rate=st.sampled_from(list(CHANNELS)),
    cuts=st.sets(st.integers(0, 20), min_size=2, max_size=6),
    chosen=st.lists(st.booleans(), min_size=5, max_size=5),
)
def test_values_are_the_same_however_the_sound_is_cut(recordings, rate, cuts, chosen):
    track, expected = recordings[rate]
    edges = pairwise(sorted(cuts))
    pieces = [(a, b - a) for (a, b), kept in zip(edges, chosen, strict=False) if kept]
    found = list(sound_pieces(track, CUT, pieces, 2))
    assert len(found) == len(pieces)
    for (first, n), piece in zip(pieces, found, strict=True):
        assert piece.dtype == np.float32
        np.testing.assert_array_equal(piece, expected[:, first : first + n])


@pytest.mark.parametrize(("rate", "channels"), CHANNELS.items())
def test_blocks_do_not_show_at_any_sample_rate(tmp_path, monkeypatch, rate, channels):
    seconds = np.arange(round(7.4 * rate)) / rate
    samples = 0.02 * np.random.default_rng(0).normal(size=(channels, len(seconds)))
    samples += 0.1 * np.sign(np.sin(2 * np.pi * 110 * seconds)) * np.sin(2 * np.pi * seconds)
    track = track_of(tmp_path / "s.wav", samples, rate)
    expected = whole(track, 800)
    assert np.abs(expected[:, 740:]).max() > 0  # the last second counts whole
    for block in (1, 3):
        monkeypatch.setattr(sound, "_BLOCK", block)
        np.testing.assert_allclose(whole(track, 800), expected, atol=1e-5)


@pytest.mark.parametrize("frequency", FREQUENCIES)
def test_lower_frequencies_are_means_of_the_hundredths(recording, frequency):
    track = recording[0]
    fine = whole(track, 700).reshape(-1, 7 * frequency, 100 // frequency).mean(2)
    np.testing.assert_allclose(whole(track, 7 * frequency, frequency), fine, atol=1e-5)


def test_columns_follow_the_order_of_the_names(recording):
    track, expected = recording
    columns = [name for feature in SOUND.values() for name in feature.columns]
    names = ("pitch", "loudness", "log_mel")
    wanted = [column for name in names for column in SOUND[name].columns]
    rows = [columns.index(column) for column in wanted]
    np.testing.assert_array_equal(whole(track, 16, 2, names), expected[rows])


def test_features_of_the_textbook_model_are_these_pieces(recording):
    track, expected = recording
    assert len(SOUND_FEATURES) == 4
    np.testing.assert_array_equal(textbook_sound(track, 16, 2.0), expected[:4])


def test_channels_are_mixed(tmp_path):
    left, right = sine(300, 2), sine(900, 2, 0.05)
    stereo = whole(track_of(tmp_path / "s.wav", np.stack([left, right])), 200)
    mono = whole(track_of(tmp_path / "m.wav", (left + right) / 2), 200)
    np.testing.assert_allclose(stereo, mono, atol=0.02)


def test_after_the_end_there_is_nothing(tmp_path):
    track = track_of(tmp_path / "s.wav", white(2))
    first, second, third = sound_pieces(track, ALL, [(100, 200), (300, 50), (1000, 0)], 100)
    assert first[0, :100].min() > 0.5
    assert not first[:, 100:].any()
    assert second.shape == (len(first), 50)
    assert not second.any()
    assert third.shape == (len(first), 0)


def test_sound_is_decoded_once_and_never_held_whole(tmp_path, monkeypatch):
    """Of a minute in 3 channels, with a gap between what is wanted."""
    track = track_of(tmp_path / "s.wav", white(60).reshape(1, -1).repeat(3, axis=0))
    monkeypatch.setattr(sound, "_BLOCK", 5)
    calls, seen, blocks = [], [], []

    def counted(*args, **options):
        calls.append(args)
        for piece in iter_audio(*args, **options):
            seen.append(piece.shape[1])
            yield piece

    def measured(samples: torch.Tensor) -> torch.Tensor:
        blocks.append(len(samples))
        return SOUND["envelope"].describe(samples)

    monkeypatch.setattr(sound, "iter_audio", counted)
    monkeypatch.setitem(SOUND, "measured", sound.SoundFeature(("measured",), measured))
    pieces = [(0, 10), (10, 7), (17, 6), (90, 10), (110, 10)]
    assert len(list(sound_pieces(track, ["measured"], pieces, 2))) == 5
    assert len(calls) == 1
    assert max(seen) <= track.rate
    assert sum(seen) <= 60 * track.rate
    # Seconds 0-5, 5-10, 10-15, 45-50 and 55-60, each once, with a second to each side.
    assert blocks == [7 * RATE] * 5


@pytest.mark.parametrize("frequency", [0.5, 3, 2.5, 200, 0, -2, float("nan")])
def test_frequency_that_does_not_divide_a_hundred_is_refused(recording, frequency):
    with pytest.raises(InputError, match=r"do not divide 100; these fit: 1, 2, 4, 5, 10"):
        sound_pieces(recording[0], ALL, [(0, 10)], frequency)


def test_unknown_feature_is_refused(recording):
    with pytest.raises(InputError, match=r"'timbre' is unknown; known: loudness, .*pitch"):
        sound_pieces(recording[0], ["pitch", "timbre"], [(0, 10)], 2)
    with pytest.raises(InputError, match=r"no sound feature; known: loudness"):
        sound_pieces(recording[0], [], [(0, 10)], 2)
