"""From features to a response: windows, overlap, people, modalities, clock."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import makers
from tribrain.brain.response import UNIT, Response
from tribrain.encoder.checkpoints import ModelCard, load_folder
from tribrain.encoder.models import load_model
from tribrain.encoder.network import Encoder, SpaceRows
from tribrain.encoder.predict import WINDOWS_PER_BATCH, TrainedModel
from tribrain.errors import InputError, InputWarning
from tribrain.features.recipe import FeatureRecipe
from tribrain.stimuli.media import AudioTrack
from tribrain.stimuli.stimulus import Stimulus
from tribrain.stimuli.words import Word

DIMS = {"text": (1, 3), "audio": (2, 2), "video": (1, 4)}
LENGTH = 6  # seconds and rows of a window
FREQUENCY = 2


def make_model(encoder: Any, **changes: Any) -> TrainedModel:
    card = ModelCard(
        build={},
        recipe=FeatureRecipe(frequency=float(FREQUENCY)),
        window=float(LENGTH),
        lag=5.0,
        space=None,
        subjects={"Study/sub-01": 0, "Study/sub-02": 1},
        licence="CC0-1.0",
        name="small",
        revision="abc",
        checksums={},
    )
    return TrainedModel(ModelCard(**{**vars(card), **changes}), encoder)


def make_encoder(**changes: Any) -> Encoder:
    torch.manual_seed(0)
    options = {
        "feature_dims": DIMS,
        "n_outputs": 5,
        "n_output_samples": LENGTH,
        "n_subjects": 3,
        "hidden": 48,
        "depth": 1,
        "heads": 1,
        "widening": 1,
        "max_samples": FREQUENCY * LENGTH,
        "rank": None,
    }
    encoder = Encoder(**{**options, **changes})
    for weight in encoder.parameters():
        weight.data = torch.randn(weight.shape) * weight.shape[-1] ** -0.5 + 0.1
    return encoder.eval().requires_grad_(False)


MODEL = make_model(make_encoder())


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Networks this small only wait for each other's threads where the cores are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def draw_features(seconds: float, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    n = round(FREQUENCY * seconds)
    return {
        name: generator.standard_normal((*dims, n)).astype(np.float32)
        for name, dims in DIMS.items()
    }


def one_window(features: dict[str, np.ndarray], start: int, subject: int | None = None):
    """The encoder's own rows of the window that starts at `start` seconds, zeros past the end."""
    inputs = {}
    for name, series in features.items():
        window = torch.zeros(1, *DIMS[name], FREQUENCY * LENGTH)
        for sample in range(FREQUENCY * LENGTH):
            if FREQUENCY * start + sample < series.shape[-1]:
                window[0, ..., sample] = torch.from_numpy(
                    series[..., FREQUENCY * start + sample].copy()
                )
        inputs[name] = window
    return MODEL.encoder(inputs, subject)[0].numpy()


class StartTeller:
    """In the encoder's place: every row of a window is the number in the window's first sample."""

    n_outputs = 1
    feature_dims: dict[str, tuple[int, int]] = {"text": (1, 1)}  # noqa: RUF012 (a stand-in)
    projectors: dict[str, None] = {"text": None}  # noqa: RUF012 (a stand-in)
    spaces: dict[str, SpaceRows] = {"": SpaceRows(1, range(1))}  # noqa: RUF012 (a stand-in)

    def __init__(self, length: int) -> None:
        self.n_output_samples = length
        self.batches: list[int] = []

    def to(self, device: str) -> StartTeller:
        return self

    def __call__(self, features: dict[str, torch.Tensor], subject: int | None) -> torch.Tensor:
        self.batches.append(len(features["text"]))
        first = features["text"][:, 0, 0, 0]
        return first[:, None, None].expand(-1, self.n_output_samples, 1)


def told_starts(length: int, duration: int, overlap: int) -> np.ndarray:
    """Response of `StartTeller` to features that count the seconds."""
    seconds = np.arange(FREQUENCY * duration, dtype=np.float32)[None, None] / FREQUENCY
    model = make_model(StartTeller(length), window=float(length))
    return model.predict(features={"text": seconds}, overlap=overlap).data.values[:, 0]


# --- rows and windows ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("duration", "rows"), [(1, 1), (5.2, 6), (6, 6), (6.01, 7), (12.0000001, 12), (29.9, 30)]
)
def test_there_is_a_row_for_every_second_begun(duration, rows):
    response = MODEL.predict(features=draw_features(30), duration=duration)
    assert isinstance(response, Response)
    assert response.data.shape == (rows, 5)
    assert response.data.dtype == np.float32
    assert response.data["time"].values.tolist() == list(range(rows))


def test_without_a_duration_all_that_the_features_cover_is_predicted():
    assert MODEL.predict(features=draw_features(15)).data.shape[0] == 15
    assert MODEL.predict(features=draw_features(7.5)).data.shape[0] == 8


@pytest.mark.parametrize("seconds", [1, 5.5, 6, 7, 12, 12.5, 17])
def test_without_overlap_windows_follow_each_other_and_the_last_is_padded(seconds):
    features = draw_features(seconds)
    rows = math.ceil(seconds)
    expected = np.concatenate([one_window(features, start) for start in range(0, rows, LENGTH)])
    response = MODEL.predict(features=features).data.values
    np.testing.assert_allclose(response, expected[:rows], atol=1e-5)


def test_the_response_of_the_small_model_follows_its_features():
    response = MODEL.predict(features=draw_features(20)).data.values
    assert response.std(0).min() > 0.01


def test_padding_is_zeros_whether_the_features_hold_them_or_not():
    features = draw_features(8)
    padded = {name: np.pad(s, ((0, 0), (0, 0), (0, 8))) for name, s in features.items()}
    short = MODEL.predict(features=features).data.values
    np.testing.assert_allclose(
        MODEL.predict(features=padded, duration=8).data.values, short, atol=1e-6
    )


def test_rows_past_the_features_are_predicted_from_zeros():
    features = draw_features(3)
    response = MODEL.predict(features=features, duration=14).data.values
    assert response.shape == (14, 5)
    np.testing.assert_allclose(response[12:], one_window(features, 12)[:2], atol=1e-5)


def test_a_shorter_duration_cuts_rows_and_not_what_the_encoder_sees():
    features = draw_features(12)
    whole = MODEL.predict(features=features).data.values
    cut = MODEL.predict(features=features, duration=9).data.values
    np.testing.assert_allclose(cut, whole[:9], atol=1e-6)


def test_more_windows_than_fit_in_a_batch_are_all_predicted():
    windows = 2 * WINDOWS_PER_BATCH + 3
    features = draw_features(windows * LENGTH)
    response = MODEL.predict(features=features).data.values
    for number in range(windows):
        rows = response[number * LENGTH : (number + 1) * LENGTH]
        np.testing.assert_allclose(rows, one_window(features, number * LENGTH), atol=1e-5)


def test_windows_go_through_the_encoder_in_batches():
    encoder = StartTeller(4)
    model = make_model(encoder, window=4.0)
    model.predict(features={"text": np.zeros((1, 1, 2 * 4 * 19), np.float32)})
    assert encoder.batches == [8, 8, 3]


@pytest.mark.parametrize("kind", [np.float16, np.float64, np.int64])
def test_features_of_other_number_types_are_read(kind):
    features = {name: (4 * series).astype(kind) for name, series in draw_features(8).items()}
    single = {name: series.astype(np.float32) for name, series in features.items()}
    np.testing.assert_array_equal(
        MODEL.predict(features=features).data.values, MODEL.predict(features=single).data.values
    )


def test_predicting_changes_no_features():
    features = draw_features(8)
    before = {name: series.copy() for name, series in features.items()}
    MODEL.predict(features=features, overlap=2)
    assert all(np.array_equal(features[name], before[name]) for name in before)


@pytest.mark.golden
def test_golden_features_give_the_golden_response(golden):
    with pytest.warns(InputWarning, match="licence"):
        model = load_model(golden / "end-to-end" / "checkpoint", device="cpu")
    with np.load(golden / "end-to-end" / "reference.npz") as numbers:
        features = {name: numbers[f"features_{name}"][0] for name in DIMS}
        expected, starts = numbers["predictions"], numbers["prediction_start"]
    response = model.predict(features=features, duration=16).data
    assert response["time"].values.tolist() == starts.tolist()
    np.testing.assert_allclose(response.values, expected, atol=1e-4)


# --- overlap -------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlap", [0, 1, 2, 3])
def test_windows_start_one_hop_apart(overlap):
    told = told_starts(LENGTH, 25, overlap)
    hop = LENGTH - overlap
    for start in range(0, 25 - LENGTH, hop):
        alone = told[start + overlap : start + hop]
        assert alone == pytest.approx(np.full(len(alone), start), abs=1e-5)


def test_shared_rows_go_over_in_even_steps():
    told = told_starts(10, 17, 3)  # windows at 0 and 7 s share rows 7, 8 and 9
    np.testing.assert_allclose(told[:7], 0, atol=1e-5)
    np.testing.assert_allclose(told[7:10], [7 / 4, 14 / 4, 21 / 4], atol=1e-5)
    np.testing.assert_allclose(told[10:], 7, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 12), st.integers(1, 40), st.data())
def test_the_weight_of_the_later_window_rises_linearly(length, duration, data):
    overlap = data.draw(st.integers(0, length // 2))
    told, hop = told_starts(length, duration, overlap), length - overlap
    for row in range(duration):
        later = min(row // hop, max(0, math.ceil((duration - length) / hop)))
        earlier, step = later - 1, row - later * hop
        weight = (step + 1) / (overlap + 1) if step < overlap and earlier >= 0 else 1
        expected = weight * later * hop + (1 - weight) * earlier * hop
        assert told[row] == pytest.approx(expected, abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(0, LENGTH - 1))
def test_every_row_is_a_mixture_of_the_windows_that_hold_it(duration, overlap):
    features, hop = draw_features(duration), LENGTH - overlap
    response = MODEL.predict(features=features, overlap=overlap).data.values
    assert response.shape == (duration, 5)
    last = hop * max(0, math.ceil((duration - LENGTH) / hop))
    windows = {start: one_window(features, start) for start in range(0, last + 1, hop)}
    for row in range(duration):
        held = [w[row - start] for start, w in windows.items() if 0 <= row - start < LENGTH]
        assert (response[row] <= np.max(held, axis=0) + 1e-5).all()
        assert (response[row] >= np.min(held, axis=0) - 1e-5).all()
        if len(held) == 1:
            np.testing.assert_allclose(response[row], held[0], atol=1e-5)
        if len(held) == 2 and overlap <= LENGTH // 2:
            later = (row % hop + 1) / (overlap + 1)  # the later window started row % hop s ago
            mixed = (1 - later) * held[0] + later * held[1]
            np.testing.assert_allclose(response[row], mixed, atol=1e-5)


@pytest.mark.parametrize("overlap", [0, 1, 4, 5])
def test_where_all_windows_agree_overlap_changes_nothing(overlap):
    constant = {name: np.zeros((*dims, 60), np.float32) for name, dims in DIMS.items()}
    encoder = make_encoder(position_embedding=False)
    rows = make_model(encoder).predict(features=constant, overlap=overlap).data.values
    np.testing.assert_allclose(rows, np.broadcast_to(rows[0], rows.shape), atol=1e-5)


def test_a_stimulus_of_one_window_is_the_same_with_any_overlap():
    features = draw_features(5)
    plain = MODEL.predict(features=features).data.values
    for overlap in range(1, LENGTH):
        rows = MODEL.predict(features=features, overlap=overlap).data.values
        np.testing.assert_allclose(rows, plain, atol=1e-5)


@pytest.mark.parametrize("overlap", [-1, LENGTH, 100, float("nan"), float("inf"), -0.5])
def test_an_overlap_that_does_not_fit_the_window_is_refused(overlap):
    with pytest.raises(InputError, match=f"overlap.*under {LENGTH} s"):
        MODEL.predict(features=draw_features(8), overlap=overlap)


def test_an_overlap_of_part_of_a_second_is_refused():
    with pytest.raises(InputError, match=r"overlap 1\.5 s: whole seconds"):
        MODEL.predict(features=draw_features(8), overlap=1.5)


def test_a_model_of_another_clock_than_one_row_a_second_is_refused():
    with pytest.raises(InputError, match="6 rows for a window of 12 s"):
        make_model(MODEL.encoder, window=12.0).predict(features=draw_features(12))


# --- people --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("subject", "row"), [("Study/sub-01", 0), ("Study/sub-02", 1), (None, 2)])
def test_a_subject_is_a_row_of_the_head_and_none_is_the_unseen_one(subject, row):
    features = draw_features(LENGTH)
    response = MODEL.predict(features=features, subject=subject)
    np.testing.assert_allclose(response.data.values, one_window(features, 0, row), atol=1e-5)
    assert response.data.attrs["subject"] == (subject or "unseen")


@pytest.mark.parametrize("subject", ["sub-01", "", "Study/sub-03", "unseen"])
def test_an_unknown_subject_lists_the_known_ones(subject):
    with pytest.raises(InputError, match="Study/sub-01, Study/sub-02") as caught:
        MODEL.predict(features=draw_features(6), subject=subject)
    assert repr(subject) in str(caught.value)
    assert "small" in str(caught.value)


def test_a_model_that_knows_nobody_says_so():
    model = make_model(MODEL.encoder, subjects={})
    with pytest.raises(InputError, match="known: none"):
        model.predict(features=draw_features(6), subject="Study/sub-01")


# --- features and modalities ---------------------------------------------------------------------


def test_features_of_different_lengths_are_refused_with_their_lengths():
    features = draw_features(8)
    features["audio"] = features["audio"][..., :-1]
    with pytest.raises(InputError, match=r"one length.*\[15, 16\]"):
        MODEL.predict(features=features)


def test_nothing_to_predict_from_is_refused():
    with pytest.raises(InputError, match="needs a stimulus or features"):
        MODEL.predict()


def test_some_modalities_are_the_features_of_those_alone():
    features = draw_features(8)
    chosen = MODEL.predict(features=features, modalities=("video", "text"))
    alone = MODEL.predict(features={name: features[name] for name in ("text", "video")})
    np.testing.assert_array_equal(chosen.data.values, alone.data.values)
    assert chosen.data.attrs["modalities"] == ["text", "video"]
    every = MODEL.predict(features=features).data.values
    assert np.abs(every - alone.data.values).max() > 0.01


def test_a_missing_modality_is_not_one_of_zeros():
    features = draw_features(6)
    silent = {**features, "audio": np.zeros_like(features["audio"])}
    del features["audio"]
    missing = MODEL.predict(features=features).data.values
    assert np.abs(missing - MODEL.predict(features=silent).data.values).max() > 0.01


def test_an_unknown_modality_is_refused_beside_known_ones():
    with pytest.raises(InputError, match="smell"):
        MODEL.predict(features=draw_features(6), modalities=("text", "smell"))


def test_a_modality_that_is_wanted_and_not_among_the_features_is_refused():
    features = draw_features(6)
    del features["audio"]
    with pytest.raises(InputError, match="audio"):
        MODEL.predict(features=features, modalities=("text", "audio"))


@pytest.mark.parametrize("options", [{"features": {}}, {"modalities": ()}])
def test_no_features_at_all_are_told_as_such(options):
    with pytest.raises(InputError) as caught:
        MODEL.predict(**{"features": draw_features(6), **options})
    assert "[]" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("smell", (1, 3, 12)), ("text", (1, 4, 12)), ("text", (3, 12)), ("text", (1, 1, 3, 12))],
)
def test_features_that_the_encoder_does_not_read_are_told_as_the_user_s(name, shape):
    features = {**draw_features(6), name: np.zeros(shape, np.float32)}
    with pytest.raises(InputError, match=name):
        MODEL.predict(features=features)


@pytest.mark.parametrize(
    ("name", "shape"), [("smell", (1, 3, 12)), ("text", (1, 4, 12)), ("text", (2, 3, 12))]
)
def test_features_that_the_encoder_does_not_read_are_refused(name, shape):
    features = {**draw_features(6), name: np.zeros(shape, np.float32)}
    with pytest.raises(ValueError, match=name):
        MODEL.predict(features=features)


@pytest.mark.parametrize("duration", [-5.0, 0.0, float("nan"), float("inf")])
def test_a_duration_that_is_no_time_is_refused(duration):
    with pytest.raises(InputError, match="duration"):
        MODEL.predict(features=draw_features(6), duration=duration)


# --- what the response tells ---------------------------------------------------------------------


def test_attributes_tell_where_the_response_is_from():
    attrs = MODEL.predict(features=draw_features(6)).data.attrs
    assert attrs["space"] == "outputs5"
    assert attrs["unit"] == UNIT
    assert "no absolute amplitude" in attrs["unit"]
    assert attrs["lag"] == 5.0
    assert (attrs["model"], attrs["revision"]) == ("small", "abc")
    assert attrs["subject"] == "unseen"
    assert attrs["modalities"] == ["text", "audio", "video"]
    assert attrs["licence"] == "CC0-1.0"


@pytest.mark.parametrize("lag", [5.0, 0.0, 3.5])
def test_bold_time_is_the_time_and_the_lag(lag):
    data = make_model(MODEL.encoder, lag=lag).predict(features=draw_features(9)).data
    assert data.attrs["lag"] == lag
    np.testing.assert_array_equal(data["time"], np.arange(9))
    np.testing.assert_array_equal(data["bold_time"], np.arange(9) + lag)


def test_without_a_stimulus_every_row_counts_as_stimulus():
    data = MODEL.predict(features=draw_features(9)).data
    assert data["stimulus"].dtype == bool
    assert data["stimulus"].values.all()


def make_stimulus(duration: float, words=(), audio: tuple[float, float] | None = None) -> Stimulus:
    track = None if audio is None else AudioTrack(Path("a.wav"), 0, *audio, 16_000, 1)
    return Stimulus(
        "talk", duration, None, track, tuple(Word(*word) for word in words), None, Path("talk.wav")
    )


def test_rows_outside_every_event_are_marked():
    stimulus = make_stimulus(9.5, [("one", 1.2, 0.3), ("two", 4.9, 1.3)])
    features = {"text": draw_features(12)["text"]}
    data = MODEL.predict(stimulus, features=features).data
    assert data.sizes["time"] == 10
    assert np.flatnonzero(data["stimulus"].values).tolist() == [1, 4, 5, 6]


def test_events_of_modalities_that_are_left_out_do_not_count():
    stimulus = make_stimulus(9.5, [("one", 1.2, 0.3)], audio=(3.0, 4.0))
    features = draw_features(12)
    del features["video"]

    def marked(*modalities: str) -> list[int]:
        data = MODEL.predict(stimulus, features=features, modalities=modalities).data
        return np.flatnonzero(data["stimulus"].values).tolist()

    assert marked("text") == [1]
    assert marked("audio") == [3, 4, 5, 6]
    assert marked("text", "audio") == [1, 3, 4, 5, 6]


def test_the_stimulus_gives_the_number_of_rows():
    stimulus = make_stimulus(7.3, [("one", 1.0, 0.5)])
    assert MODEL.predict(stimulus, features=draw_features(12)).data.sizes["time"] == 8


def test_provenance_holds_the_card_and_the_settings():
    response = MODEL.predict(features=draw_features(9), overlap=2)
    assert response.provenance["model"] == MODEL.describe()
    assert response.provenance["model"]["revision"] == "abc"
    settings = {"overlap_s": 2.0, "device": "cpu", "precision": "fp32"}
    assert response.provenance["settings"] == settings


def test_a_model_describes_itself_as_plain_data(checkpoint):
    model = TrainedModel(*load_folder(checkpoint))
    described = json.loads(json.dumps(model.describe()))
    assert described["build"]["n_outputs"] == makers.N_OUTPUTS
    assert described["recipe"]["depths"] == [0.5, 0.75, 1.0]
    assert described["window"] == 100.0


def test_a_surface_model_names_its_space_and_hemispheres(checkpoint):
    card, encoder = load_folder(checkpoint)
    generator = np.random.default_rng(0)
    features = {
        name: generator.standard_normal((*dims, 60)).astype(np.float32)
        for name, dims in makers.FEATURE_DIMS.items()
    }
    data = TrainedModel(card, encoder).predict(features=features).data
    assert data.shape == (30, 1284)
    assert data.attrs["space"] == "fsaverage3"
    assert data["hemisphere"].values.tolist() == ["left"] * 642 + ["right"] * 642


# --- from a stimulus -----------------------------------------------------------------------------


def test_words_alone_give_features_on_whole_windows_and_a_row_a_second(checkpoint, backbones):
    model = TrainedModel(*load_folder(checkpoint), backbones=backbones)
    stimulus = make_stimulus(11.4, [("the", 1.0, 0.4), ("sea", 2.0, 0.5), ("boat", 9.0, 1.0)])
    features = model.extract(stimulus)
    assert {name: series.shape for name, series in features.items()} == {"text": (2, 24, 200)}
    from_features = model.predict(stimulus, features=features)
    response = model.predict(stimulus)
    assert response.data.sizes["time"] == 12
    assert response.data.attrs["modalities"] == ["text"]
    np.testing.assert_array_equal(response.data.values, from_features.data.values)


@pytest.mark.parametrize(
    ("modalities", "told"),
    [
        (("smell",), "'smell' is unknown; known: text, audio, video"),
        (("text", "video"), "talk.wav has no video; it has: text"),
        (("audio",), "has no audio"),
    ],
)
def test_modalities_that_the_stimulus_has_not_are_refused(modalities, told):
    stimulus = make_stimulus(5.0, [("the", 1.0, 0.4)])
    for use in (MODEL.extract, MODEL.predict):
        with pytest.raises(InputError, match=told):
            use(stimulus, modalities=modalities)


def test_a_stimulus_with_nothing_that_the_model_reads_is_refused():
    model = make_model(make_encoder(feature_dims={"video": (1, 4)}))
    with pytest.raises(InputError, match=r"nothing that the model reads \(video\)"):
        model.predict(make_stimulus(5.0, [("the", 1.0, 0.4)]))


def test_extracted_features_know_how_long_their_stimulus_is(tmp_path, checkpoint, backbones):
    (tmp_path / "text.txt").write_text("The sea was calm. Nobody, it seemed, had noticed.")
    stimulus = Stimulus.from_text(tmp_path / "text.txt")
    with pytest.warns(InputWarning, match="licence"):
        model = load_model(checkpoint, backbones=backbones, device="cpu")
    for each in (model, load_model("textbook")):
        whole = each.predict(stimulus)
        again = each.predict(features=each.extract(stimulus))
        assert again.data.identical(whole.data)
        assert again.provenance["stimulus"] == whole.provenance["stimulus"]


def test_rows_without_any_feature_hold_no_stimulus():
    features = draw_features(6)
    for series in features.values():
        series[..., 4:8] = 0
    covered = MODEL.predict(features=features).data["stimulus"].values
    frequency = MODEL.card.recipe.frequency
    empty = [row for row in range(len(covered)) if 4 <= row * frequency < 8]
    assert empty
    assert not covered[empty].any()
    assert covered[0]


def test_long_texts_say_that_their_context_is_not_the_published_one(
    tmp_path, checkpoint, backbones
):
    (tmp_path / "text.txt").write_text("the old man pulled the boat " * 4)
    stimulus = Stimulus.from_text(tmp_path / "text.txt")
    for exact in (False, True):
        with pytest.warns(InputWarning, match="licence"):
            model = load_model(
                checkpoint, backbones=backbones, device="cpu", exact_context=exact, cache=False
            )
        assert model.card.recipe.exact_context is exact
        model.card = replace(model.card, recipe=replace(model.card.recipe, context_words=10))
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            model.extract(stimulus)
        said = [str(one.message) for one in heard if "--exact-context" in str(one.message)]
        assert len(said) == (not exact)


# --- several spaces ------------------------------------------------------------------------------


def test_people_are_predicted_in_their_space_and_others_in_the_one_asked_for():
    encoder = make_encoder(n_outputs={"fives": 5, "twos": 2}, n_subjects={"fives": 2, "twos": 2})
    model = make_model(encoder, space="fives", subjects={"A/1": 0, "B/1": 2})
    features = draw_features(6)
    assert {name: space.size for name, space in model.spaces.items()} == {"fives": 5, "twos": 2}
    for options, row, name in (
        ({}, 1, "fives"),
        ({"space": "twos"}, 3, "twos"),
        ({"subject": "A/1"}, 0, "fives"),
        ({"subject": "B/1"}, 2, "twos"),
        ({"subject": "B/1", "space": "twos"}, 2, "twos"),
    ):
        response = model.predict(features=features, **options)
        inputs = {key: torch.from_numpy(value)[None] for key, value in features.items()}
        np.testing.assert_array_equal(response.data.values, encoder(inputs, row)[0].numpy())
        assert response.data.attrs["space"] == name
    with pytest.raises(InputError, match="has no space 'threes'; it has fives, twos"):
        model.predict(features=features, space="threes")
    with pytest.raises(InputError, match="'B/1' is predicted in twos, not in fives"):
        model.predict(features=features, subject="B/1", space="fives")
