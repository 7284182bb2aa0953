"""The textbook model: what drives which region, how strongly and when."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile
from scipy.signal import convolve

import tribrain
from makers import write_film, write_sound
from tribrain.brain.regions import textbook_table
from tribrain.encoder import textbook
from tribrain.encoder.textbook import FEATURES, TextbookModel, feature_maps
from tribrain.errors import InputError, InputWarning
from tribrain.stimuli.stimulus import Stimulus

ROOT = Path(__file__).parents[2]
RATE = 16_000
MODEL = TextbookModel()
TABLE = textbook_table()
LANGUAGE = ("pSTS", "aSTS", "IFG", "IFGorb", "MFG", "AG")
VISUAL = ("V1", "V2d", "V2v", "V3d", "V3v", "V3A", "hMT+", "V6", "hV4", "V8")
AUDITORY = ("A1", "HG-low", "HG-high-post", "HG-high-ant", "PT", "TVA")


def double_gamma() -> np.ndarray:
    """The response at 2 Hz, written out: t^5 e^-t / 5! less a sixth of t^15 e^-t / 15!."""
    times = np.arange(0, 32.5, 0.5)
    response = times**5 * np.exp(-times) / math.factorial(5)
    response = response - times**15 * np.exp(-times) / math.factorial(15) / 6
    return response / response.sum()


def expected_series(features: dict[str, np.ndarray], rows: int) -> dict[str, np.ndarray]:
    """Each region's own features, weighted by its rows of the table, at t + 5 s."""
    named = {
        name: series[0, place]
        for modality, series in features.items()
        for place, name in enumerate(FEATURES[modality])
    }
    result = {}
    for (region, letter), drives in TABLE.groupby(["region", "hemisphere"]):
        pairs = zip(drives["feature"], drives["weight"], strict=True)
        activity = sum(weight * np.float64(named[feature]) for feature, weight in pairs)
        bold = np.zeros(2 * rows + 10)
        whole = convolve(activity, double_gamma(), method="direct")[: len(bold)]
        bold[: len(whole)] = whole
        result[f"{region}_{letter}"] = bold[10::2][:rows]
    return result


def smallest_correlation(response, features: dict[str, np.ndarray]) -> float:
    found = response.regions()
    expected = expected_series(features, len(found))
    assert set(expected) == set(found)
    return min(np.corrcoef(found[name], expected[name])[0, 1] for name in found)


def hear(path: Path, samples: np.ndarray, rate: int = RATE) -> Stimulus:
    with pytest.warns(InputWarning, match="text is left out"):
        return Stimulus.from_audio(write_sound(path, samples, rate))


def sine(hertz: float, seconds: float, amplitude: float = 0.1) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hertz * np.arange(round(RATE * seconds)) / RATE)


def grating(drift: float, part: str = "all", seconds: int = 8, rate: int = 12) -> np.ndarray:
    """Frames (n, 36, 64, 3) of a vertical grating of 8 cycles, at `drift` cycles a second."""
    x = np.arange(64)
    shown = {"all": x >= 0, "left": x < 32, "right": x >= 32}[part]
    time = np.arange(seconds * rate)[:, None] / rate
    wave = 128 + 100 * np.sin(2 * np.pi * (8 * x / 64 - drift * time)) * shown
    return np.broadcast_to(wave[:, None, :, None], (len(time), 36, 64, 3)).astype(np.uint8)


def see(path: Path, frames: np.ndarray, rate: int = 12) -> Stimulus:
    return Stimulus.from_video(write_film(path, frames, rate=rate))


def peaks(stimulus: Stimulus):
    """Largest value of each region's series."""
    return MODEL.predict(stimulus).regions().max()


def read_aloud(folder: Path, words: list[str], start: float = 1.0, step: float = 0.5) -> Stimulus:
    """A text whose words come every `step` seconds."""
    text, table = folder / "text.txt", folder / "words.tsv"
    text.write_text(" ".join(words))
    rows = [f"{word}\t{start + step * number}\t{step}" for number, word in enumerate(words)]
    table.write_text("\n".join(["text\tstart\tduration", *rows]) + "\n")
    return Stimulus.from_text(text, transcript=table)


def late_film(path: Path, video_start: int, sound_start: int, seconds: int = 6) -> Path:
    """A film whose drifting grating and tone start at their own second."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=12)
        video.width, video.height, video.pix_fmt = 64, 36, "yuv420p"
        video.options = {"bf": "0"}
        audio = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for number, image in enumerate(grating(3, seconds=seconds)):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
            frame.pts, frame.time_base = number + 12 * video_start, Fraction(1, 12)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        tone = (sine(500, seconds, 0.3) * 32767).astype(np.int16).reshape(-1, 1600)
        for number, block in enumerate(tone):
            sound = av.AudioFrame.from_ndarray(block[None], "s16", "mono")
            sound.sample_rate = RATE
            sound.pts, sound.time_base = 1600 * number + RATE * sound_start, Fraction(1, RATE)
            container.mux(audio.encode(sound))
        container.mux(audio.encode())
    return path


@pytest.fixture(scope="module")
def demo() -> Stimulus:
    return Stimulus.from_video(
        ROOT / "examples" / "film.mp4", transcript=ROOT / "examples" / "film_words.tsv"
    )


@pytest.fixture(scope="module")
def demo_features(demo) -> dict[str, np.ndarray]:
    return MODEL.extract(demo)


@pytest.fixture(scope="module")
def jfk(stimuli: Path) -> Stimulus:
    with pytest.warns(InputWarning, match="text is left out"):
        return Stimulus.from_audio(stimuli / "jfk-speech" / "jfk.wav")


def test_textbook_is_the_model_by_default():
    model = tribrain.load_model()
    assert isinstance(model, TextbookModel)
    assert (model.name, model.modalities) == ("textbook", ("text", "audio", "video"))


def test_label_says_that_it_was_not_trained(demo, demo_features):
    attrs = MODEL.predict(demo, features=demo_features).data.attrs
    assert attrs["label"] == "textbook model, not trained on data"
    assert attrs["modalities"] == ["text", "audio", "video"]
    assert (attrs["space"], attrs["lag"], attrs["subject"]) == ("fsaverage5", 5.0, "unseen")


def test_features_are_two_samples_a_row_with_the_stated_shapes(demo, demo_features):
    assert {name: series.shape for name, series in demo_features.items()} == {
        "text": (1, 2, 80),
        "audio": (1, 4, 80),
        "video": (1, 5, 80),
    }
    assert all(np.isfinite(series).all() for series in demo_features.values())
    response = MODEL.predict(demo, features=demo_features)
    assert response.data.shape == (40, 20484)
    assert np.isfinite(response.data.values).all()


def test_each_region_of_the_demo_film_follows_its_named_features(demo, demo_features):
    response = MODEL.predict(demo, features=demo_features)
    assert smallest_correlation(response, demo_features) > 0.9


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", ["normal", "exponential"])
def test_each_region_follows_its_named_features_when_these_are_random(seed, kind):
    draw = getattr(np.random.default_rng(seed), kind)
    features = {name: draw(size=(1, len(each), 600)) for name, each in FEATURES.items()}
    assert smallest_correlation(MODEL.predict(features=features), features) > 0.9


def test_vertex_values_are_the_weighted_convolved_features():
    draw = np.random.default_rng(3).exponential
    features = {name: draw(size=(1, len(each), 90)) for name, each in FEATURES.items()}
    found = MODEL.predict(features=features).data.values
    expected = np.zeros((45, 20484))
    for modality, series in features.items():
        for place, name in enumerate(FEATURES[modality]):
            bold = convolve(series[0, place], double_gamma(), method="direct")
            expected += np.outer(bold[10:100:2], feature_maps()[name])
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_response_is_linear_in_the_features():
    draw = np.random.default_rng(4).normal
    one, two = (
        {name: draw(size=(1, len(each), 40)) for name, each in FEATURES.items()} for _ in "ab"
    )
    both = {name: 2 * one[name] - 3 * two[name] for name in FEATURES}
    found = MODEL.predict(features=both).data.values
    apart = [MODEL.predict(features=each).data.values for each in (one, two)]
    np.testing.assert_allclose(found, 2 * apart[0] - 3 * apart[1], atol=1e-4)


def test_nothing_in_gives_nothing_out():
    features = {name: np.zeros((1, len(each), 20)) for name, each in FEATURES.items()}
    assert not MODEL.predict(features=features).data.values.any()


def test_speech_drives_auditory_cortex_at_least_five_times_primary_visual(jfk):
    table = MODEL.predict(jfk).regions()
    visual = table[["V1_L", "V1_R"]].abs().max().max()
    for region in AUDITORY:
        for letter in "LR":
            series = table[f"{region}_{letter}"]
            assert series.max() > 0.3, region
            assert series.max() >= 5 * visual, region
            assert series.mean() >= 5 * visual, region


def test_speech_under_a_steady_picture_still_drives_a1_over_v1(jfk, tmp_path):
    rate, samples = wavfile.read(jfk.path)
    sound = samples[: rate * 10] / 32768
    frames = np.full((120, 36, 64, 3), 90, np.uint8)
    path = write_film(tmp_path / "grey.mp4", frames, rate=12, sound=sound, sound_rate=rate)
    with pytest.warns(InputWarning, match="text is left out"):
        found = peaks(Stimulus.from_video(path))
    assert min(found["A1_L"], found["A1_R"]) > 0.3
    assert min(found["A1_L"], found["A1_R"]) >= 5 * max(found["V1_L"], found["V1_R"])


def test_sound_alone_leaves_visual_regions_at_zero(jfk):
    table = MODEL.predict(jfk).regions()
    assert not table[[f"{region}_{letter}" for region in VISUAL for letter in "LR"]].any(axis=None)


def test_moving_grating_drives_hmt_and_a_static_one_does_not(tmp_path):
    still = peaks(see(tmp_path / "still.mp4", grating(0)))
    moving = peaks(see(tmp_path / "moving.mp4", grating(3)))
    for letter in "LR":
        assert moving[f"hMT+_{letter}"] > 1
        assert moving[f"hMT+_{letter}"] > 10 * abs(still[f"hMT+_{letter}"])
        assert still[f"V1_{letter}"] > 0.5
        assert 1 < moving[f"V1_{letter}"] / still[f"V1_{letter}"] < 2.5


@pytest.mark.parametrize(("part", "driven", "spared"), [("left", "R", "L"), ("right", "L", "R")])
def test_half_field_grating_drives_the_opposite_hemisphere(tmp_path, part, driven, spared):
    found = peaks(see(tmp_path / "half.mp4", grating(3, part)))
    assert found[f"V1_{driven}"] > 1
    assert found[f"V1_{driven}"] > 20 * abs(found[f"V1_{spared}"])
    assert found[f"hMT+_{driven}"] > 1.3 * found[f"hMT+_{spared}"]
    assert found[f"hMT+_{spared}"] > 0.3 * found[f"hMT+_{driven}"]  # both half-fields reach MST


def test_colour_drives_v8_and_its_grey_version_does_not(tmp_path):
    colours = np.zeros((36, 64, 3), np.uint8)
    colours[:, :32], colours[:, 32:] = (210, 40, 40), (40, 100, 220)
    luma = (colours @ [0.2126, 0.7152, 0.0722]).round().astype(np.uint8)
    found = {}
    for name, image in {"colour": colours, "grey": np.stack([luma] * 3, axis=2)}.items():
        Image.fromarray(image).save(tmp_path / f"{name}.png")
        found[name] = peaks(Stimulus.from_image(tmp_path / f"{name}.png", duration=10))
    for letter in "LR":
        assert found["colour"][f"V8_{letter}"] > 0.5
        assert found["colour"][f"V8_{letter}"] > 5 * abs(found["grey"][f"V8_{letter}"])
        assert found["colour"][f"hV4_{letter}"] > found["grey"][f"hV4_{letter}"]
        assert found["colour"][f"V1_{letter}"] == pytest.approx(
            found["grey"][f"V1_{letter}"], abs=0.05
        )


def test_low_tone_drives_hg_low_and_high_tone_hg_high(tmp_path):
    low = peaks(hear(tmp_path / "low.wav", sine(250, 10)))
    high = peaks(hear(tmp_path / "high.wav", sine(4000, 10)))
    for letter in "LR":
        for region in ("HG-high-post", "HG-high-ant"):
            assert high[f"{region}_{letter}"] > 4 * low[f"{region}_{letter}"]
            assert high[f"{region}_{letter}"] > 4 * high[f"HG-low_{letter}"]
            assert low[f"HG-low_{letter}"] > 3 * low[f"{region}_{letter}"]
        assert low[f"HG-low_{letter}"] > 4 * high[f"HG-low_{letter}"]
        assert low[f"A1_{letter}"] == pytest.approx(high[f"A1_{letter}"], rel=0.25)


def test_noise_modulated_like_speech_drives_the_voice_area_more_than_steady_noise(tmp_path):
    steady = np.random.default_rng(0).normal(size=10 * RATE) * 0.08
    modulated = steady * (1 + sine(4, 10, 1.0))
    modulated *= np.sqrt(np.mean(steady**2) / np.mean(modulated**2))
    found = peaks(hear(tmp_path / "modulated.wav", modulated))
    other = peaks(hear(tmp_path / "steady.wav", steady))
    for letter in "LR":
        assert found[f"TVA_{letter}"] > 3 * other[f"TVA_{letter}"]
        assert found[f"A1_{letter}"] == pytest.approx(other[f"A1_{letter}"], rel=0.3)


def test_words_drive_left_language_regions_more_than_right_ones(tmp_path):
    found = peaks(read_aloud(tmp_path, ["the", "boat", "slides", "towards", "the", "light"] * 4))
    assert all(found[f"{region}_L"] > 0.1 for region in LANGUAGE)
    for region in ("pSTS", "aSTS"):
        assert found[f"{region}_L"] > 1.5 * found[f"{region}_R"] > 0.1
    elsewhere = [f"{region}_{letter}" for region in (*VISUAL, "A1", "HG-low") for letter in "LR"]
    assert found[elsewhere].abs().max() < 0.01 * found["pSTS_L"]


def test_rare_words_drive_language_regions_more_than_frequent_ones(tmp_path):
    common = peaks(read_aloud(tmp_path, ["the", "and", "you", "that"] * 5))
    rare = peaks(read_aloud(tmp_path, ["quixotic", "sextant", "gherkin", "zephyr"] * 5))
    for region in ("pSTS", "aSTS", "IFG", "IFGorb", "MFG"):
        assert rare[f"{region}_L"] > 1.1 * common[f"{region}_L"], region
    assert rare["AG_L"] == pytest.approx(common["AG_L"], rel=0.01)  # counts words alone


def test_more_words_a_second_drive_language_regions_more(tmp_path):
    slow = peaks(read_aloud(tmp_path, ["boat"] * 8, step=1.0))
    fast = peaks(read_aloud(tmp_path, ["boat"] * 16, step=0.5))
    for region in LANGUAGE:
        assert fast[f"{region}_L"] == pytest.approx(2 * slow[f"{region}_L"], rel=0.05)


def test_a1_grows_with_every_doubling_of_loudness_and_does_not_saturate(tmp_path):
    amplitudes = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64]
    found = [peaks(hear(tmp_path / "a.wav", sine(500, 8, each)))["A1_L"] for each in amplitudes]
    steps = np.array(found[1:]) / np.array(found[:-1])
    # Stevens' law: 0.6 of amplitude; 16 bits round the softest a little.
    np.testing.assert_allclose(steps, 2**0.6, rtol=0.02)


def test_speech_scaled_down_gives_a_graded_response_of_the_same_shape(jfk, tmp_path):
    rate, samples = wavfile.read(jfk.path)
    series = []
    for scale in (1.0, 0.5, 0.25):
        stimulus = hear(tmp_path / "scaled.wav", samples / 32768 * scale, rate)
        series.append(MODEL.predict(stimulus).regions()["A1_R"].to_numpy())
    for louder, softer in itertools.pairwise(series):
        np.testing.assert_allclose(louder, softer * 2**0.6, rtol=0.03, atol=0.01)


def test_click_at_ten_seconds_peaks_at_fifteen_of_bold_time(tmp_path):
    samples = np.zeros(20 * RATE)
    samples[10 * RATE : 10 * RATE + 16] = 0.9
    response = MODEL.predict(hear(tmp_path / "click.wav", samples))
    table = response.regions()
    for letter in "LR":
        row = int(table[f"A1_{letter}"].to_numpy().argmax())
        assert float(response.data["bold_time"][row]) == pytest.approx(15, abs=1)
        assert float(response.data["time"][row]) == pytest.approx(10, abs=1)
        assert table[f"A1_{letter}"].iloc[:5].abs().max() == 0


def test_flash_and_word_at_ten_seconds_peak_at_fifteen_of_bold_time(tmp_path):
    frames = np.full((240, 36, 64, 3), 128, np.uint8)
    frames[120:126] = grating(0)[:6]
    shown = MODEL.predict(see(tmp_path / "flash.mp4", frames))
    words = MODEL.extract(read_aloud(tmp_path, ["boat"], start=10.0, step=0.4))
    read = MODEL.predict(features=words, duration=20)
    for response, region in ((shown, "V1_L"), (read, "pSTS_L")):
        series = response.regions()[region].to_numpy()
        peak = float(response.data["bold_time"][int(series.argmax())])
        assert peak == pytest.approx(15, abs=1), region


def test_inserted_silence_changes_only_the_rows_it_should(jfk, tmp_path):
    rate, samples = wavfile.read(jfk.path)
    speech = np.tile(samples[: 11 * rate] / 32768, 7)
    cut = 20 * rate
    gapped = np.concatenate([speech[:cut], np.zeros(5 * rate), speech[cut:]])
    before = MODEL.predict(hear(tmp_path / "whole.wav", speech, rate)).data.values
    after = MODEL.predict(hear(tmp_path / "gapped.wav", gapped, rate)).data.values
    assert (len(before), len(after)) == (77, 82)
    # Row t is BOLD at t + 5 s; the modulation filter sees 0.75 s ahead, so to row 13 none differs.
    np.testing.assert_array_equal(after[:14], before[:14])
    # What follows the silence is the same 5 s later, once the response to what was before is over.
    np.testing.assert_allclose(after[54:], before[49:], atol=1e-5)
    changed = np.abs(after[15:30] - before[15:30]).max(axis=1)
    assert changed.max() > 0.3
    silent = (feature_maps()[name] != 0 for name in FEATURES["audio"])
    assert not after[:, ~np.any(list(silent), axis=0)].any()


def test_silence_dips_where_it_is_and_nowhere_before(jfk, tmp_path):
    rate, samples = wavfile.read(jfk.path)
    speech = np.tile(samples[: 11 * rate] / 32768, 4)
    cut = 22 * rate
    gapped = np.concatenate([speech[:cut], np.zeros(5 * rate), speech[cut:]])
    response = MODEL.predict(hear(tmp_path / "gapped.wav", gapped, rate))
    series = response.regions()["A1_L"]
    lowest = 10 + int(series.iloc[10:45].to_numpy().argmin())
    assert 27 <= float(response.data["bold_time"][lowest]) <= 34
    assert series.iloc[lowest] < 0.5 * series.iloc[10:20].mean()


@pytest.mark.parametrize(("video", "sound"), [(0, 3), (3, 0)])
def test_streams_that_start_late_are_placed_where_they_start(tmp_path, video, sound):
    path = late_film(tmp_path / "late.mkv", video, sound)
    with pytest.warns(InputWarning, match="text is left out"):
        stimulus = Stimulus.from_video(path)
    assert stimulus.duration == pytest.approx(9, abs=0.1)
    features = MODEL.extract(stimulus)
    for series, start in ((features["video"][0, 0], video), (features["audio"][0, 0], sound)):
        assert not series[: 2 * start].any()
        assert not series[2 * start + 12 :].any()
        assert (series[2 * start : 2 * start + 12] > 0.5).all()
    table = MODEL.predict(stimulus, features=features).regions()
    half = {name: int((table[name] > table[name].max() / 2).argmax()) for name in table}
    assert half["A1_L"] - half["V1_L"] == pytest.approx(sound - video, abs=1)


def test_streams_that_start_late_together_start_the_clock(tmp_path):
    with pytest.warns(InputWarning, match="text is left out"):
        stimulus = Stimulus.from_video(late_film(tmp_path / "both.mkv", 2, 2))
    features = MODEL.extract(stimulus)
    assert stimulus.duration == pytest.approx(6, abs=0.1)
    assert features["video"][0, 0, 0] > 0.5
    assert features["audio"][0, 0, 0] > 0.5


def test_chosen_modalities_alone_are_used(demo, demo_features):
    response = MODEL.predict(demo, features=demo_features, modalities=["audio"])
    assert response.data.attrs["modalities"] == ["audio"]
    assert not response.regions()[["V1_L", "pSTS_R"]].abs().max().max() > 0.05
    assert set(MODEL.extract(demo, modalities=["text"])) == {"text"}


def test_modalities_add_up(demo, demo_features):
    whole = MODEL.predict(demo, features=demo_features).data.values
    parts = [
        MODEL.predict(demo, features={name: series}).data.values
        for name, series in demo_features.items()
    ]
    np.testing.assert_allclose(whole, sum(parts), atol=1e-4)


def test_progress_reaches_the_end_of_every_modality(tmp_path):
    seen: dict[str, tuple[int, int]] = {}
    stimulus = see(tmp_path / "still.mp4", grating(0, seconds=2))
    MODEL.extract(stimulus, progress=lambda name, done, total: seen.update({name: (done, total)}))
    assert set(seen) == {"video"}
    assert all(done == total > 0 for done, total in seen.values())


@pytest.mark.parametrize(("samples", "rows"), [(10, 5), (11, 6), (1, 1)])
def test_features_alone_give_a_row_for_every_second_begun(samples, rows):
    response = MODEL.predict(features={"audio": np.ones((1, 4, samples))})
    assert response.data.shape == (rows, 20484)
    assert response.data["stimulus"].all()


def test_duration_beyond_the_features_gives_the_decay():
    response = MODEL.predict(features={"audio": np.ones((1, 4, 10))}, duration=60)
    assert response.data.shape == (60, 20484)
    assert response.data.values[3].max() > 0.1
    np.testing.assert_allclose(response.data.values[38:], 0, atol=1e-6)
    assert response.data["stimulus"].values.tolist() == [True] * 5 + [False] * 55


def test_rows_without_any_event_are_marked(tmp_path):
    stimulus = read_aloud(tmp_path, ["boat", "light"], start=3.0, step=1.0)
    marked = MODEL.predict(stimulus).data["stimulus"].values
    assert marked.tolist() == [False, False, False, True, True]


@pytest.mark.parametrize(
    "features",
    [
        {"audio": np.zeros((1, 5, 10))},
        {"audio": np.zeros((2, 4, 10))},
        {"audio": np.zeros((4, 10))},
        {"smell": np.zeros((1, 4, 10))},
    ],
    ids=["five", "two layers", "flat", "smell"],
)
def test_features_of_another_shape_are_refused(features):
    with pytest.raises(InputError, match="the model reads"):
        MODEL.predict(features=features)


@pytest.mark.parametrize(
    "arguments",
    [{"features": {}}, {"features": {"audio": np.zeros((1, 4, 10))}, "modalities": ["smell"]}],
)
def test_no_features_at_all_are_refused(arguments):
    with pytest.raises(InputError, match="features"):
        MODEL.predict(**arguments)


def test_subject_is_refused_and_so_is_nothing_at_all():
    with pytest.raises(InputError, match="knows no people"):
        MODEL.predict(features={"audio": np.zeros((1, 4, 10))}, subject="sub-01")
    with pytest.raises(InputError, match="needs a stimulus or features"):
        MODEL.predict()


def test_provenance_describes_the_model(demo, demo_features):
    described = MODEL.predict(demo, features=demo_features).provenance["model"]
    assert described == MODEL.describe()
    assert described["table_rows"] == len(TABLE)
    assert described["features"]["audio"] == ["loudness", "low_tones", "high_tones", "voice"]
    assert textbook.LABEL in described.values()
