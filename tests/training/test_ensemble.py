"""Weights of ensembles, the rows that they come from, and averages of seeds."""

from __future__ import annotations

import json
import math
import shutil
import sys

import numpy as np
import pytest

from ensemble_makers import LOADING, SMALL, make_recipe, make_study
from tribrain import cli
from tribrain.encoder.ensembles import EnsembleModel
from tribrain.encoder.models import load_model
from tribrain.errors import InputError, InputWarning
from tribrain.studies.prepared import open_prepared
from tribrain.training.ensemble import (
    judge,
    make_ensemble,
    scale_factors,
    softmax_weights,
    train_seeds,
)
from tribrain.training.model_rows import ModelledRows
from tribrain.training.run import train_recipe
from tribrain.training.sides import recipe_sides

pytestmark = pytest.mark.filterwarnings("ignore::tribrain.errors.InputWarning")
SEEDS = (0, 2)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("studies") / "simulated")


@pytest.fixture(scope="module")
def runs(store, tmp_path_factory):
    """Two seeds and their average."""
    folder = tmp_path_factory.mktemp("runs") / "pair"
    train_seeds(make_recipe(store), SEEDS, folder, device="cpu")
    return folder


def side_rows(models, store, side: str) -> ModelledRows:
    study = open_prepared(store)
    sides = recipe_sides(make_recipe(store), [study])
    return ModelledRows(models, [study], {one: to for one, to in sides.items() if to == side})


# --- weights --------------------------------------------------------------------------------------

CORRELATIONS = np.array([[0.1, 0.5, -0.2, 0.3], [0.3, 0.1, -0.1, 0.3], [0.2, 0.4, -0.3, 0.1]])


@pytest.mark.parametrize("temperature", [0.3, 0.02, 5.0])
def test_weights_are_a_softmax_of_the_correlations(temperature):
    found = softmax_weights(CORRELATIONS, temperature)
    for output in range(4):
        powers = [math.exp(r / temperature) for r in CORRELATIONS[:, output]]
        np.testing.assert_allclose(found[:, output], np.array(powers) / sum(powers), rtol=1e-12)


def test_without_temperature_the_best_member_counts_and_with_endless_all_do():
    coldest = [[0, 1, 0, 0.5], [1, 0, 1, 0.5], [0, 0, 0, 0]]
    np.testing.assert_array_equal(softmax_weights(CORRELATIONS, 0), coldest)
    np.testing.assert_allclose(softmax_weights(CORRELATIONS, 1e-4), coldest, atol=1e-12)
    np.testing.assert_allclose(softmax_weights(CORRELATIONS, math.inf), 1 / 3)
    np.testing.assert_allclose(softmax_weights(CORRELATIONS, 1e9), 1 / 3, atol=1e-9)


@pytest.mark.parametrize("temperature", [0, 0.3, math.inf])
def test_members_without_a_correlation_have_no_weight_unless_none_has_one(temperature):
    given = CORRELATIONS.copy()
    given[1, 0] = given[:2, 1] = given[:, 2] = np.nan
    found = softmax_weights(given, temperature)
    assert found[1, 0] == 0
    np.testing.assert_array_equal(found[:, 1], [0, 0, 1])
    np.testing.assert_allclose(found[:, 2], 1 / 3)
    np.testing.assert_allclose(found.sum(axis=0), 1)
    alone = softmax_weights(given[[0, 2]][:, :1], temperature)
    np.testing.assert_allclose(found[[0, 2], 0], alone[:, 0])


@pytest.mark.parametrize("temperature", [-0.1, math.nan])
def test_temperatures_that_are_none_are_refused(temperature):
    with pytest.raises(InputError, match="0 or more fits"):
        softmax_weights(CORRELATIONS, temperature)


def test_factors_make_predictions_as_large_as_they_are_good():
    random = np.random.default_rng(0)
    bold = random.normal(size=20_000)
    bold = (bold - bold.mean()) / bold.std()
    given = np.stack([5 * bold + 20 * random.normal(size=len(bold)), 0.01 * bold])
    correlations = np.array([[np.corrcoef(part, bold)[0, 1]] for part in given])
    factors = scale_factors(given.std(axis=1, keepdims=True), correlations)
    best = [[np.dot(part, bold) / np.dot(part, part)] for part in given - given.mean(1)[:, None]]
    np.testing.assert_allclose(factors, best, rtol=1e-9)  # least squares


def test_factors_where_correlations_or_deviations_are_none():
    deviations = np.array([[0.5, 0.5, 0.5, 0.0]])
    correlations = np.array([[-0.2, np.nan, 0.005, np.nan]])
    np.testing.assert_allclose(scale_factors(deviations, correlations), [[0.02, 0.02, 0.02, 0]])


def test_factors_undo_the_units_of_members():
    deviations = np.array([[0.1, 0.2], [0.4, 0.2]])
    units = np.array([[100.0], [0.01]])
    plain, scaled = (
        scale_factors(part, CORRELATIONS[:2, :2]) for part in (deviations, deviations * units)
    )
    np.testing.assert_allclose(scaled * units, plain)


# --- what members are judged by -------------------------------------------------------------------


def test_correlations_are_of_runs_and_deviations_of_all_rows(runs, store):
    models = [load_model(runs / f"seed-{n}" / "model", **LOADING) for n in SEEDS]
    rows = side_rows(models, store, "validation")
    told = judge(rows)
    by_run, predicted = [], []
    for _, parts, measured in rows.predicted():
        by_run.append(
            [
                [np.corrcoef(part[:, v], measured[:, v])[0, 1] for v in range(part.shape[1])]
                for part in parts
            ]
        )
        predicted.append(parts)
    assert len(by_run) == 4  # two people, two films
    np.testing.assert_allclose(told.correlations, np.mean(by_run, axis=0), atol=1e-5)
    joined = np.concatenate(predicted, axis=1)
    np.testing.assert_allclose(told.deviations, joined.std(axis=1), rtol=1e-4)
    assert told.rows == joined.shape[1]


def test_rows_of_a_person_are_predicted_by_their_own_row_and_as_the_model_itself_does(runs, store):
    model = load_model(runs / "seed-0" / "model", **LOADING)
    rows = side_rows([model], store, "test")
    stretch, (found,), _ = rows.predict(0)
    series = rows.data[0].series[stretch.run.shown[0].source.content()].values
    subject = f"simulated/{stretch.span.subject}"
    expected = model.predict(features=series, subject=subject).data.values
    np.testing.assert_allclose(found[:15], expected[:15], atol=1e-5)
    _, (unseen,), _ = rows.predict(0, unseen=True)
    np.testing.assert_allclose(
        unseen[:15], model.predict(features=series).data.values[:15], atol=1e-5
    )


def test_two_seeds_together_do_better_than_each(runs, store):
    ensemble = load_model(runs / "ensemble", **LOADING)
    rows = side_rows(ensemble.members, store, "test")
    singles = np.nanmean(judge(rows).correlations, axis=1)
    (both,) = np.nanmean(
        judge(rows, lambda parts: [ensemble.combined(parts)]).correlations, axis=1, keepdims=True
    )
    assert singles.min() > 0.2
    assert both > singles.max() + 0.02


# --- making one -----------------------------------------------------------------------------------


def test_a_study_weights_members_by_its_validation_rows_alone(runs, store, tmp_path):
    said: list[str] = []
    made = make_ensemble(
        [runs / "seed-0", runs / "seed-2" / "model"],  # a run folder does as well
        tmp_path / "weighted",
        studies=[open_prepared(store)],
        temperature=0.05,
        said=said.append,
        **LOADING,
    )
    models = [load_model(runs / f"seed-{n}" / "model", **LOADING) for n in SEEDS]
    told = judge(side_rows(models, store, "validation"))
    powers = np.exp(told.correlations / 0.05)
    np.testing.assert_allclose(made.weights, powers / powers.sum(axis=0), rtol=1e-9)
    np.testing.assert_allclose(
        made.factors * told.deviations, np.maximum(told.correlations, 0.01), rtol=1e-9
    )
    loaded = load_model(tmp_path / "weighted", **LOADING)
    np.testing.assert_array_equal(loaded.weights, made.weights)
    rows = loaded.how["weighted_by"]
    assert rows["groups"] == ["film2", "film3"]
    assert rows["people"] == ["simulated/01", "simulated/02"]
    assert rows["rows"] == told.rows
    assert len(said) == 3
    assert said[2].startswith("ensemble: r ")
    correlations = loaded.how["correlations"]
    np.testing.assert_allclose(correlations["members"], told.correlations.mean(axis=1), rtol=1e-9)
    series = next(iter(side_rows(models, store, "test").data[0].series.values())).values
    alone, together = (
        model.predict(features=series, subject="simulated/02").data.values
        for model in (models[0], loaded)
    )
    assert together.shape == alone.shape


def test_without_a_study_all_count_alike(runs):
    ensemble = load_model(runs / "ensemble", **LOADING)
    assert ensemble.name == "pair"
    assert [one.name for one in ensemble.members] == ["pair-seed-0", "pair-seed-2"]
    np.testing.assert_array_equal(ensemble.weights, np.full((2, 20), 0.5))
    np.testing.assert_array_equal(ensemble.factors, np.ones((2, 20)))
    assert not (runs / "ensemble" / "members").exists()
    assert ensemble.trained_on


def test_rows_that_a_member_was_trained_on_are_left_out_or_refused(runs, store, tmp_path):
    study = open_prepared(store)
    other = train_recipe(
        make_recipe(store, 'data.validation_groups=["film3", "film6"]', "training.epochs=1"),
        tmp_path / "other",
        device="cpu",
    )
    with pytest.warns(InputWarning, match="split in different ways.* 2 of 16 spans"):
        made = make_ensemble(
            [runs / "seed-0", other], tmp_path / "mixed", studies=[study], **LOADING
        )
    assert made.how["weighted_by"]["groups"] == ["film3"]
    refit = train_recipe(
        make_recipe(store, "training.refit=true", "training.epochs=1"),
        tmp_path / "refit",
        device="cpu",
    )
    with pytest.raises(InputError, match=r"none of the 16 spans of simulated is free.*refit"):
        make_ensemble([runs / "seed-0", refit], tmp_path / "no", studies=[study], **LOADING)
    assert not (tmp_path / "no").exists()


def test_models_without_a_run_folder_are_told_of(runs, store, tmp_path):
    places = []
    for seed in SEEDS:
        places.append(tmp_path / "models" / str(seed))
        shutil.copytree(runs / f"seed-{seed}" / "model", places[-1])
    with pytest.warns(InputWarning, match="nothing tells what .* was trained on"):
        made = make_ensemble(places, tmp_path / "made", studies=[open_prepared(store)], **LOADING)
    assert len(made.how["weighted_by"]["groups"]) == 8
    assert made.trained_on is None


def test_members_whose_study_is_gone_are_averaged_and_weighted_by_where_it_is_now(
    runs, store, tmp_path
):
    shutil.copytree(runs, tmp_path / "runs")
    for seed in SEEDS:
        file = tmp_path / "runs" / f"seed-{seed}" / "run.json"
        file.write_text(file.read_text().replace(str(store), str(tmp_path / "gone")))
    places = [tmp_path / "runs" / f"seed-{seed}" for seed in SEEDS]
    with pytest.warns(InputWarning, match="gone, which is not there .* not tell what it was"):
        plain = make_ensemble(places, tmp_path / "plain", **LOADING)
    assert plain.trained_on is None
    made = make_ensemble(places, tmp_path / "made", studies=[open_prepared(store)], **LOADING)
    assert made.how["weighted_by"]["groups"] == ["film2", "film3"]
    other = open_prepared(make_study(tmp_path / "other", seed=3, films=2, n_subjects=1))
    with pytest.raises(InputError, match=r"pair-seed-0 was trained on simulated in .*gone"):
        make_ensemble(places, tmp_path / "no", studies=[other], **LOADING)


def test_what_cannot_be_made_is_refused_before_anything_is_written(runs, store, tmp_path):
    seeds = [runs / "seed-0", runs / "seed-2"]
    for places, out, words in (
        ([seeds[0], seeds[0]], "new", "is given twice"),
        ([seeds[0]], "new", "two members or more"),
        ([*seeds, "textbook"], "new", "textbook is no trained model"),
        ([*seeds, runs / "ensemble"], "new", "pair is no trained model"),
    ):
        with pytest.raises(InputError, match=words):
            make_ensemble(places, tmp_path / out, **LOADING)
        assert not (tmp_path / out).exists()
    (tmp_path / "begun").mkdir()
    shutil.copy(runs / "seed-0" / "recipe.toml", tmp_path / "begun")
    with pytest.raises(InputError, match="is not done"):
        make_ensemble([seeds[0], tmp_path / "begun"], tmp_path / "new", **LOADING)
    with pytest.raises(InputError, match="holds something else"):
        make_ensemble(seeds, tmp_path / "begun", **LOADING)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        make_ensemble(seeds, tmp_path / "file", **LOADING)
    other = make_study(tmp_path / "wide", space=21, films=2, n_subjects=1)
    with pytest.raises(InputError, match=r"21 values.* predicts .*\(20\)"):
        make_ensemble(seeds, tmp_path / "new", studies=[open_prepared(other)], **LOADING)


def test_members_may_be_copied(runs, tmp_path):
    seeds = [runs / "seed-0", runs / "seed-2"]
    for copy, there in ((None, True), (True, True), (False, False)):
        out = tmp_path / str(copy)
        make_ensemble(seeds, out, copy=copy, **LOADING)
        assert (out / "members").exists() == there
        assert isinstance(load_model(out, **LOADING), EnsembleModel)


# --- seeds ----------------------------------------------------------------------------------------


def test_seeds_go_on_where_they_were_stopped(runs, store, tmp_path, monkeypatch):
    recipe = make_recipe(store)
    train_recipe(make_recipe(store, "training.seed=0"), tmp_path / "pair" / "seed-0", device="cpu")
    with pytest.raises(InputError, match="--resume"):
        train_seeds(recipe, SEEDS, tmp_path / "pair", device="cpu")
    folder = train_seeds(recipe, SEEDS, tmp_path / "pair", device="cpu", resume=True)
    for seed in SEEDS:
        found, expected = (
            (place / f"seed-{seed}" / "model" / "model.safetensors").read_bytes()
            for place in (tmp_path / "pair", runs)
        )
        assert found == expected
    assert isinstance(load_model(folder, **LOADING), EnsembleModel)


@pytest.mark.parametrize("seeds", [(0,), (1, 1), (0, -1), ()])
def test_seeds_that_are_none_are_refused(seeds, store, tmp_path):
    with pytest.raises(InputError, match="two or more fit"):
        train_seeds(make_recipe(store), seeds, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


# --- the verbs ------------------------------------------------------------------------------------


def test_the_verbs_train_seeds_and_average_models(store, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = [part for change in (*SMALL, "training.epochs=1") for part in ("--set", change)]

    def call(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tribrain", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        shown = capsys.readouterr()
        return stop.value.code, shown.out, shown.err

    train = ("train", "debug", "--study", store, *options, "--no-cache", "--device", "cpu")
    code, out, err = call(*train, "--seeds", "3,4", "--out", "runs")
    assert code == 0, err
    assert out.splitlines()[-1] == "written to runs; predict with --model runs/ensemble"
    seeds = ("ensemble", "runs/seed-3", "runs/seed-4", "--device", "cpu")
    code, out, err = call(*seeds, "--study", store, "--temperature", "0.1", "--out", "weighted")
    assert code == 0, err
    assert [line.split(":")[0] for line in out.splitlines()[:3]] == [
        "runs-seed-3",
        "runs-seed-4",
        "ensemble",
    ]
    assert json.loads((tmp_path / "weighted" / "ensemble.json").read_text())["how"][
        "temperature"
    ] == pytest.approx(0.1)
    code, out, err = call("models", "info", "weighted")
    assert [one["name"] for one in json.loads(out)["members"]] == ["runs-seed-3", "runs-seed-4"]
    for arguments, words in (
        ((*seeds, "--temperature", "0.1"), "--study"),
        ((*seeds, "--study", store, "--temperature", "-1"), "0 or more fits"),
        (("ensemble", "runs/seed-3"), "two members"),
        ((*train, "--seeds", "3;4", "--out", "new"), "whole numbers"),
    ):
        code, out, err = call(*arguments)
        assert code == 2, (arguments, out)
        assert len([line for line in err.splitlines() if line.startswith("tribrain: ")]) == 1
        assert words in err
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "ensemble").exists()


def test_seeds_are_not_written_into_another_run(store, tmp_path):
    (tmp_path / "recipe.toml").write_text("", "utf-8")
    with pytest.raises(InputError, match="holds a run already"):
        train_seeds(make_recipe(store), SEEDS, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.toml"]
