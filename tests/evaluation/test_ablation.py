"""A trained encoder without modalities: what it is given, how it is scored, what is said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tribrain.brain.atlas_regions import Region
from tribrain.brain.atlases import Atlas
from tribrain.brain.spaces import parcel_space
from tribrain.encoder.checkpoints import ModelCard
from tribrain.encoder.ensembles import EnsembleModel
from tribrain.encoder.network import Encoder
from tribrain.encoder.predict import TrainedModel
from tribrain.errors import InputError
from tribrain.evaluation.ablation import Ablation, ablate, modality_dropout_of
from tribrain.evaluation.evaluation import MODEL, UNSEEN
from tribrain.evaluation.rows import measured_rows, parts_of
from tribrain.evaluation.scoring import BOLD, Scorer, mean_map
from tribrain.evaluation.ways import predict_with_model
from tribrain.evaluation.work import Work
from tribrain.features.recipe import FeatureRecipe
from tribrain.studies.groups import Span
from tribrain.studies.prepared import PreparedRun, PreparedStudy
from tribrain.studies.runs import FeatureArrays, Shown
from tribrain.training.model_rows import ModelledRows, members_of
from tribrain.training.run_files import recipe_text
from tribrain.training.settings import read_recipe

DIMS = {"text": (1, 3), "audio": (2, 2), "video": (1, 4)}
SPACE = parcel_space("fives", [f"parcel{k}" for k in range(5)])
SECONDS, LAG, WINDOW = 50, 5, 20
PEOPLE = {"1": 0, "2": 1}  # and their rows of the head; person 2 is not known to the model


class ArrayRun(PreparedRun):
    """A prepared run whose rows are given."""

    values: np.ndarray

    def read(self, first: int, n: int, dtype: Any = np.float32) -> np.ndarray:
        return self.values[first : first + n].astype(dtype)


def film(name: str, modalities: Sequence[str] = tuple(DIMS)) -> FeatureArrays:
    rng = np.random.default_rng(list(name.encode()))
    series = {one: rng.normal(size=(*DIMS[one], 2 * SECONDS)).astype("f4") for one in modalities}
    return FeatureArrays(series, 2.0, Path(name))


def study_of(films: Sequence[FeatureArrays]) -> PreparedStudy:
    """Two people who saw all films, a run a film; some rows were not measured.

    Parcel 4 does not vary in person 2, nor parcel 3 in anyone.
    """
    runs = []
    for person in PEOPLE:
        for number, one in enumerate(films):
            rng = np.random.default_rng([int(person), number])
            values = rng.normal(size=(SECONDS + LAG, SPACE.size)).astype("f4")
            values[rng.random(values.shape) < 0.1] = np.nan
            values[:, 3] = 0.5
            if person == "2":
                values[:, 4] = -1
            shown = Shown(one, 0.0, float(SECONDS), one.file.name)
            run = ArrayRun(
                "coded", f"{person}-{number}", person, "", "t", "", (shown,), *values.shape,
                0.0, 1.0, "float32", 0, (), (), Path("none.npy"), 0, "",
            )  # fmt: skip
            object.__setattr__(run, "values", values)
            runs.append(run)
    return PreparedStudy(
        Path("coded"), "coded", "CC0", "nobody", "itself", {}, SPACE, tuple(runs), (), True
    )


def spans_of(study: PreparedStudy) -> dict[Span, str]:
    return {
        Span("coded", run.name, run.subject, 0.0, float(SECONDS), run.shown[0].group): "test"
        for run in study.runs
    }


def model_of(seed: int = 0, **changes: Any) -> TrainedModel:
    torch.manual_seed(seed)
    build: dict[str, Any] = {
        "feature_dims": DIMS,
        "n_outputs": SPACE.size,
        "n_output_samples": WINDOW,
        "n_subjects": 2,
        "hidden": 96,
        "depth": 1,
        "heads": 2,
        "rank": None,
        "max_samples": 2 * WINDOW,
    } | changes
    encoder = Encoder(**build)
    card = ModelCard(
        build, FeatureRecipe(), float(WINDOW), float(LAG), SPACE.name, {"coded/1": 0}, "CC0",
        f"seed{seed}", "local", {},
    )  # fmt: skip
    return TrainedModel(card, encoder.eval().requires_grad_(False))


@pytest.fixture
def scored(tmp_path):
    """A model's rows on a study and what scores them."""

    def prepared(model, study, mask=None) -> tuple[ModelledRows, Scorer]:
        rows = ModelledRows(members_of(model), [study], spans_of(study))
        parts = parts_of(rows.data[0], rows.stretches)
        work = Work(tmp_path / "work", "key")
        for part in parts:
            work.put(measured_rows(rows.data[0], rows.stretches[part.number]), BOLD, part.number)
        return rows, Scorer(work, parts, np.ones(SPACE.size, bool) if mask is None else mask)

    return prepared


@pytest.fixture
def ablated(scored):
    def found(model, study, mask=None, **options) -> Ablation:
        return ablate(model, *scored(model, study, mask), **options)

    return found


def predicted(model: TrainedModel, source: FeatureArrays, row: int, kept: Sequence[str]):
    """Rows of a film, window after window, from some modalities alone."""
    parts = []
    for first in range(0, SECONDS, WINDOW):
        features = {}
        for name in kept:
            if name in source.series:
                piece = source.series[name][..., 2 * first : 2 * (first + WINDOW)]
                lacking = 2 * WINDOW - piece.shape[-1]
                features[name] = torch.from_numpy(np.pad(piece, ((0, 0), (0, 0), (0, lacking))))
        features = {name: one[None] for name, one in features.items()}
        parts.append(model.encoder(features, row)[0].numpy())
    return np.concatenate(parts)[:SECONDS]


def plain_r(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    found = []
    for one, other in zip(x.T, y.T, strict=True):
        there = ~np.isnan(other)
        varies = np.ptp(other[there]) > 0
        found.append(np.corrcoef(one[there], other[there])[0, 1] if varies else np.nan)
    return np.array(found)


def expected_r(study, kept, predict, films=None) -> np.ndarray:
    """Mean over people of the mean over runs, by a function from a run to its prediction."""
    people = []
    for person in PEOPLE:
        scores = [
            plain_r(predict(run, kept), run.values[LAG:])
            for run in study.runs
            if run.subject == person and (films is None or run.shown[0].group in films)
        ]
        people.append(np.mean(scores, axis=0))
    known = np.isfinite(people)
    total = np.where(known, people, 0).sum(axis=0)
    return np.divide(total, known.sum(axis=0), out=np.full(SPACE.size, np.nan), where=known.any(0))


@pytest.fixture(scope="module")
def study() -> PreparedStudy:
    return study_of([film("a"), film("b")])


@pytest.mark.parametrize("unseen", [False, True])
def test_scores_are_those_of_the_encoder_that_is_given_fewer_modalities(study, unseen, ablated):
    model = model_of()
    found = ablated(model, study, unseen=unseen, modality_dropout=0.2)

    def predict(run, kept):
        return predicted(model, run.shown[0].source, 1 if unseen else PEOPLE[run.subject], kept)

    assert found.modalities == ("text", "audio", "video")
    sets = {
        "all": tuple(DIMS),
        **{f"without {name}": tuple(one for one in DIMS if one != name) for name in DIMS},
        **{f"{name} alone": (name,) for name in DIMS},
    }
    maps = found.maps()
    assert list(maps) == [*sets, "gain"]
    for name, kept in sets.items():
        np.testing.assert_allclose(maps[name], expected_r(study, kept, predict), atol=1e-5)
    assert np.isnan(found.whole[3])
    assert np.isfinite(np.delete(found.whole, 3)).all()  # parcel 4 by person 1 alone
    best = np.max([found.alone[name] for name in DIMS], axis=0)
    np.testing.assert_allclose(found.gain, found.whole - best)
    for name, drop in found.unique.items():
        np.testing.assert_allclose(drop, found.whole - found.without[name])
    assert (found.people, found.parts, found.rows) == (2, 4, 4 * SECONDS)
    assert found.notes == ("the model was trained with modality dropout of 0.2",)


def test_r2_is_that_of_its_definition(study, ablated):
    model = model_of()
    found = ablated(model, study, measure="r2")
    runs = {person: [] for person in PEOPLE}
    for run in study.runs:
        x, y = (
            predicted(model, run.shown[0].source, PEOPLE[run.subject], ["text"]),
            run.values[LAG:],
        )
        x, y = x[:, :3], y[:, :3]
        y = (y - np.nanmean(y, axis=0)) / np.nanstd(y, axis=0)
        runs[run.subject].append(1 - np.nanmean((y - x) ** 2, axis=0))
    expected = np.mean([np.mean(one, axis=0) for one in runs.values()], axis=0)
    np.testing.assert_allclose(found.alone["text"][:3], expected, atol=1e-5)


def test_what_the_encoder_does_not_use_costs_nothing_and_what_it_follows_wins(study, ablated):
    model = model_of()
    for weight in model.encoder.projectors["video"].parameters():
        weight.zero_()
    told = study_of([film("a"), film("b")])
    for run in told.runs:  # BOLD that is what the model makes of text alone
        row = PEOPLE[run.subject]
        run.values[LAG:, :3] = predicted(model, run.shown[0].source, row, ["text"])[:, :3]
    found = ablated(model, told)
    np.testing.assert_allclose(found.unique["video"][:3], 0, atol=1e-6)
    np.testing.assert_allclose(found.alone["text"][:3], 1, atol=1e-5)
    won = found.winners()
    assert won.labels()[:4].tolist() == ["text", "text", "text", ""]
    assert (won.margin[:3] > 0.1).all()
    assert (found.gain[:3] < 0).all()  # with audio it predicts something else
    regions = (Region("front", "front", "left", np.arange(3)),)
    table = found.table(Atlas("made", SPACE, regions, "made"))
    assert table["best"].tolist() == ["text"]
    np.testing.assert_allclose(table["gain"], found.gain[:3].mean(), atol=1e-12)
    np.testing.assert_allclose(table["without text"], found.unique["text"][:3].mean(), atol=1e-12)


def test_an_ensemble_is_scored_by_its_mean(study, ablated):
    members = [model_of(0), model_of(1)]
    ensemble = EnsembleModel(members)
    found = ablated(ensemble, study, unseen=True)

    def predict(run, kept):
        return np.mean([predicted(one, run.shown[0].source, 1, kept) for one in members], axis=0)

    for name in DIMS:
        expected = expected_r(study, (name,), predict)
        np.testing.assert_allclose(found.alone[name], expected, atol=1e-5)


def test_films_that_lack_a_modality_are_scored_from_what_they_have(ablated):
    study = study_of([film("a"), film("b", ["text", "audio"]), film("c", ["text"])])
    model = model_of()
    found = ablated(model, study)

    def predict(run, kept):
        return predicted(model, run.shown[0].source, PEOPLE[run.subject], kept)

    np.testing.assert_allclose(found.whole, expected_r(study, tuple(DIMS), predict), atol=1e-5)
    for kept, films in ((("video",), "a"), (("audio",), "ab"), (("text",), "abc")):
        expected = expected_r(study, kept, predict, films)
        np.testing.assert_allclose(found.alone[kept[0]], expected, atol=1e-5)
    expected = expected_r(study, ("audio", "video"), predict, "ab")
    np.testing.assert_allclose(found.without["text"], expected, atol=1e-5)
    told = "\n".join(found.notes)
    assert "2 of 6 spans have no audio or video" in told
    assert "4 of 6 spans have no video and are not scored from video alone" in told
    assert "not known whether the model was trained with modalities left out" in told


def test_one_modality_has_nothing_to_leave_out(ablated):
    dims = DIMS | {"audio": None, "video": None}
    study = study_of([film("a", ["text"])])
    found = ablated(model_of(feature_dims=dims), study)
    assert (found.modalities, found.without, found.notes) == (("text",), {}, ())
    np.testing.assert_array_equal(found.whole, found.alone["text"])


def test_what_cannot_be_scored_is_refused(study, ablated, scored):
    with pytest.raises(InputError, match="measure 'mse' is unknown; known: r, r2"):
        ablated(model_of(), study, measure="mse")
    rows, scorer = scored(model_of(), study)
    nothing = Scorer(scorer.work, (), scorer.mask)
    with pytest.raises(InputError, match="no row of BOLD to score"):
        ablate(model_of(), rows, nothing)


def test_members_that_read_less_than_others_are_refused_where_it_matters(study, ablated):
    ensemble = EnsembleModel([model_of(), model_of(1, feature_dims=DIMS | {"audio": None})])
    with pytest.raises(InputError, match="member seed1 does not read audio, which others do"):
        ablated(ensemble, study)
    film_of_two = study_of([film("a", ["text", "video"])])
    assert ablated(ensemble, film_of_two).modalities == ("text", "video")


def test_the_recipe_of_the_run_tells_the_dropout(tmp_path):
    recipe = read_recipe("debug", ["training.modality_dropout=0.35"])
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "recipe.toml").write_text(recipe_text(recipe), "utf-8")
    assert modality_dropout_of(tmp_path / "run") == 0.35
    assert modality_dropout_of(tmp_path / "run" / "model") == 0.35
    assert modality_dropout_of(tmp_path) is None
    assert modality_dropout_of("facebook/tribev2") is None


def test_a_model_that_never_did_without_is_told_of(study, ablated):
    found = ablated(model_of(), study, modality_dropout=0.0)
    assert "trained without modality dropout" in found.notes[0]


@pytest.mark.parametrize("way", [MODEL, UNSEEN])
def test_what_was_predicted_of_all_modalities_is_read_and_scored_as_the_model_is(
    study, scored, way
):
    """Person 2 is unknown to the model: the row of people never seen stands in for theirs."""
    model = model_of()
    rows, everyone = scored(model, study)
    predict_with_model(model, rows, everyone.parts, everyone.work)
    known = [part for part in everyone.parts if part.subject == "1"]
    scorer = Scorer(everyone.work, known if way == MODEL else everyone.parts, everyone.mask)
    given = ablate(model, rows, scorer, unseen=way == UNSEEN, known=way)
    anew = ablate(model, rows, scorer, unseen=way == UNSEEN)
    one = {part.number: scorer.correlation(way, part) for part in scorer.parts}
    np.testing.assert_array_equal(given.whole, mean_map(one, scorer.parts))
    np.testing.assert_allclose(given.whole, anew.whole, atol=1e-6)


def test_outputs_outside_the_mask_have_no_score(study, ablated):
    mask = np.array([True, False, True, True, True])
    for name, values in ablated(model_of(), study, mask).maps().items():
        assert np.isnan(values[1]), name
        assert np.isfinite(values[[0, 2, 4]]).all(), name
