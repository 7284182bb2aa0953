"""A training run from a recipe to a folder, and the verb that starts it."""

from __future__ import annotations

import csv
import json
import sys

import numpy as np
import pytest
import torch

import tribrain
from tribrain import cli
from tribrain.encoder.network import Encoder
from tribrain.errors import InputError
from tribrain.studies.prepare import prepare
from tribrain.studies.simulated import Simulated
from tribrain.training import run as running
from tribrain.training.run import fold_fading, recipe_text, train_recipe
from tribrain.training.settings import read_recipe

pytestmark = pytest.mark.filterwarnings("ignore::tribrain.errors.InputWarning")

SMALL = ("encoder.rank=16", "training.rate=1e-2", "data.length=20", "data.step=20")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Two people, twelve films of half a minute, 30 parcels."""
    folder = tmp_path_factory.mktemp("prepared") / "simulated"
    prepare(Simulated(n_subjects=2, films=12, minutes=0.5, space=30, snr=2.0), folder)
    return folder


def recipe(store, *changes: str):
    return read_recipe("debug", [*SMALL, f"data.studies={[str(store)]}", *changes])


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "first"
    lines = []
    model = train_recipe(recipe(store), folder, said=lines.append, versions={"torch": "x"})
    return folder, model, lines


def test_folder_holds_everything_about_the_run(trained, store):
    folder, model, lines = trained
    assert model == folder / "model"
    assert read_recipe(folder / "recipe.toml").as_table() == recipe(store).as_table()
    told = json.loads((folder / "run.json").read_text())
    assert told["versions"] == {"torch": "x"}
    assert told["seed"] == 0
    assert len(told["studies"][0]["runs"]) == 24
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    with (folder / "metrics.csv").open() as file:
        table = list(csv.DictReader(file))
    np.testing.assert_allclose([float(r["loss"]) for r in table], [r["loss"] for r in rows])
    assert rows[1]["loss"] < rows[0]["loss"]
    assert "validation" in rows[0]
    assert lines[0].startswith("epoch 1 of 2: loss ")
    assert "validation" in (folder / "split.tsv").read_text()


def test_model_loads_and_predicts_for_everyone(trained, store):
    model = tribrain.load_model(str(trained[1]), device="cpu")
    assert model.subjects == ("simulated/01", "simulated/02")
    assert model.card.space == Simulated(space=30).bold_space.name
    features = Simulated(n_subjects=2, films=12, minutes=0.5, space=30).features("film1")
    series = {name: np.asarray(part) for name, part in features.series.items()}
    own, unseen = (
        model.predict(features=series, duration=20, subject=subject).data.values
        for subject in ("simulated/01", None)
    )
    assert own.shape == (20, 30)
    assert np.isfinite(own).all()
    assert np.abs(own - unseen).max() > 1e-3


def test_the_same_recipe_gives_the_same_model(trained, store, tmp_path):
    again = train_recipe(recipe(store), tmp_path / "again")
    for file in ("model.safetensors",):
        assert (again / file).read_bytes() == (trained[1] / file).read_bytes()
    other = train_recipe(recipe(store, "training.seed=1"), tmp_path / "other")
    assert (other / file).read_bytes() != (trained[1] / file).read_bytes()


def test_a_run_that_was_stopped_goes_on_to_the_same_model(trained, store, tmp_path, monkeypatch):
    whole = running._append_metrics

    def stop(out, numbers):
        whole(out, numbers)
        if numbers["epoch"] == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(running, "_append_metrics", stop)
    with pytest.raises(KeyboardInterrupt):
        train_recipe(recipe(store), tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()
    monkeypatch.undo()
    with pytest.raises(InputError, match="--resume"):
        train_recipe(recipe(store), tmp_path / "run")
    with pytest.raises(InputError, match="another recipe"):
        train_recipe(recipe(store, "training.rate=0.1"), tmp_path / "run", resume=True)
    model = train_recipe(recipe(store), tmp_path / "run", resume=True)
    expected = (trained[1] / "model.safetensors").read_bytes()
    assert (model / "model.safetensors").read_bytes() == expected
    rows = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in rows] == [1, 2]


def test_refit_trains_on_validation_as_well(store, tmp_path):
    plain = train_recipe(recipe(store), tmp_path / "plain")
    refit = train_recipe(recipe(store, "training.refit=true"), tmp_path / "refit")
    assert (plain / "model.safetensors").read_bytes() != (refit / "model.safetensors").read_bytes()
    assert not (tmp_path / "refit" / "refit").exists()


@pytest.mark.parametrize("aggregation", ["cat", "mean"])
def test_folded_fading_equals_faded_features(aggregation):
    torch.manual_seed(0)
    encoder = Encoder(
        feature_dims={"audio": (2, 5), "video": (1, 3)},
        n_outputs=4,
        n_output_samples=10,
        hidden=64,
        depth=1,
        heads=2,
        rank=8,
        layer_aggregation=aggregation,
    ).eval()
    features = {"audio": torch.randn(3, 2, 5, 20), "video": torch.randn(3, 1, 3, 20)}
    scaled = {
        name: part * (torch.arange(1, part.shape[2] + 1) ** -0.5)[:, None]
        for name, part in features.items()
    }
    with torch.inference_mode():
        found = fold_fading(encoder, 0.5)(features)
        torch.testing.assert_close(found, encoder(scaled), atol=1e-5, rtol=1e-5)
        assert (found - encoder(features)).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["debug", "lite", "tribev2", "song"])
def test_recipes_of_the_package_are_whole(name, tmp_path):
    found = read_recipe(name)
    (tmp_path / "copy.toml").write_text(recipe_text(found))
    assert read_recipe(tmp_path / "copy.toml").as_table() == found.as_table()


def test_the_verb_trains_and_says_where(store, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = [part for change in SMALL for part in ("--set", change)]

    def call(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tribrain", "train", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    code, out, err = call("debug", "--study", store, *options, "--out", "run", "--no-cache")
    assert code == 0, err
    assert out.splitlines()[-1].startswith("written to run; predict with --model run")
    for arguments, words in (
        (["debug", "--study", store, "--out", "run"], "--resume"),
        (["debug", "--out", "new"], "names no study"),
        (["debugg", "--study", store], "debug"),
        (["debug", "--study", tmp_path, "--out", "new"], "no prepared study"),
        (["debug", "--study", store, "--set", "training.epoch=3"], "epochs"),
        (["debug", "--study", store, "--set", "encoder.hidden=65", "--out", "new"], "heads"),
    ):
        code, out, err = call(*arguments)
        assert code == 2, (arguments, out)
        assert len([line for line in err.splitlines() if line.startswith("tribrain: ")]) == 1
        assert words in err
    assert not (tmp_path / "new").exists()
