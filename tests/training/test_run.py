"""A training run from a recipe to a folder, and the verb that starts it."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import shutil
import sys
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tribrain
from conftest import ROOT
from tribrain import cli
from tribrain.encoder.network import Encoder
from tribrain.errors import InputError
from tribrain.studies.prepare import prepare
from tribrain.studies.prepared import open_prepared
from tribrain.studies.simulated import Simulated
from tribrain.training import run as running
from tribrain.training import run_files
from tribrain.training.distributed import Processes
from tribrain.training.run import fold_fading, train_recipe
from tribrain.training.run_files import recipe_text
from tribrain.training.series import stimulus_series
from tribrain.training.settings import DataSettings, read_recipe

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
    whole = running.append_metrics

    def stop(out, numbers):
        whole(out, numbers)
        if numbers["epoch"] == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(running, "append_metrics", stop)
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


_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(_TEXTS, st.floats(allow_nan=False), max_size=3),
    st.lists(_TEXTS, max_size=3),
)
def test_any_recipe_comes_back_from_its_text(tmp_path_factory, weights, names):
    plain = read_recipe("debug")
    written = dataclasses.replace(
        plain,
        data=dataclasses.replace(
            plain.data, weights=weights, studies=tuple(names), held_out=tuple(names)
        ),
        training=dataclasses.replace(plain.training, teacher="".join(names)),
    )
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(recipe_text(written).encode())
    assert read_recipe(path) == written


@pytest.mark.parametrize("name", ["a.b", "my study", "é", "films \U0001f3ac", 'a"b', "\x7f"])
def test_names_of_studies_come_back(tmp_path, name):
    written = dataclasses.replace(
        read_recipe("debug"), data=DataSettings(studies=(name,), weights={name: 2.0})
    )
    (tmp_path / "recipe.toml").write_bytes(recipe_text(written).encode())
    assert read_recipe(tmp_path / "recipe.toml") == written


def copied(trained, tmp_path):
    return shutil.copytree(trained[0], tmp_path / "run")


def test_a_run_that_goes_on_keeps_what_it_was_begun_with(trained, store, tmp_path, monkeypatch):
    folder = copied(trained, tmp_path)
    before = {name: (folder / name).read_bytes() for name in ("recipe.toml", "split.tsv")}
    begun = json.loads((folder / "run.json").read_text())
    monkeypatch.setattr(run_files, "git_state", lambda: {"commit": "other", "changed": False})
    for versions in ({"torch": "y"}, {"torch": "y"}):
        train_recipe(recipe(store), folder, resume=True, versions=versions)
        told = json.loads((folder / "run.json").read_text())
        later = {"versions": {"torch": "y"}, "git": {"commit": "other", "changed": False}}
        assert told == {**begun, "resumed": [later]}
    assert {name: (folder / name).read_bytes() for name in before} == before
    (folder / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json is damaged"):
        train_recipe(recipe(store), folder, resume=True)


def test_a_run_does_not_go_on_with_other_data(trained, tmp_path):
    folder = copied(trained, tmp_path)
    prepare(
        Simulated(n_subjects=2, films=12, minutes=0.5, space=30, snr=2.0, seed=8),
        tmp_path / "other" / "simulated",
    )
    changed = recipe(tmp_path / "other" / "simulated")
    (folder / "recipe.toml").write_text(recipe_text(changed), "utf-8")
    begun = (folder / "run.json").read_bytes()
    with pytest.raises(InputError, match="begun with other data of simulated"):
        train_recipe(changed, folder, resume=True)
    assert (folder / "run.json").read_bytes() == begun


def test_metrics_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    run_files.write_metrics(tmp_path, [{"epoch": 1, "loss": 0.5}])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert before["metrics.csv"] == b"epoch,loss\r\n1,0.5\r\n"

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(csv.DictWriter, "writerows", fail)
    with pytest.raises(KeyboardInterrupt):
        run_files.write_metrics(tmp_path, [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.4}])
    assert (tmp_path / "metrics.csv").read_bytes() == before["metrics.csv"]
    assert {path.name for path in tmp_path.iterdir()} == set(before)


def test_other_processes_wait_until_the_model_is_written(store, tmp_path, monkeypatch):
    """Not at the barrier, whose time is limited: rows of many people take long."""
    events = []

    class Store:
        def set(self, key, value):
            events.append((key, (tmp_path / "run" / "model" / "model.json").is_file()))

        def wait(self, keys, timeout):
            events.append((*keys, timeout.days))

    @contextlib.contextmanager
    def process(rank):
        yield Processes(rank=rank, store=Store())

    monkeypatch.setattr(running, "joined", lambda *_: process(0))
    train_recipe(recipe(store, "training.epochs=1"), tmp_path / "run")
    assert events[-1] == ("model", True)
    monkeypatch.setattr(running, "joined", lambda *_: process(1))
    monkeypatch.setattr(running, "train", lambda encoder, *_, **__: (encoder, None))
    train_recipe(recipe(store, "training.epochs=1"), tmp_path / "other")
    assert events[-1] == ("model", 30)
    assert not (tmp_path / "other").exists()


def test_the_verb_trains_and_says_where(store, tmp_path, monkeypatch, run_program):
    monkeypatch.chdir(tmp_path)
    options = [part for change in SMALL for part in ("--set", change)]

    call = partial(run_program, "train")
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


class Other(Simulated):
    """The same in a space of its own."""

    name = "other"


def test_studies_in_two_spaces_make_one_model(store, tmp_path):
    prepare(Other(n_subjects=1, films=4, minutes=0.5, space=12, snr=2.0, seed=1), tmp_path / "two")
    folders = str([str(store), str(tmp_path / "two")])
    wanted = recipe(store, f"data.studies={folders}", "data.weights.other=3", "data.seed=1")
    assert train_recipe(wanted, tmp_path / "run") == tmp_path / "run" / "model"
    model = tribrain.load_model(tmp_path / "run" / "model", device="cpu")
    sizes = {name: space.size for name, space in model.spaces.items()}
    assert list(sizes.values()) == [30, 12]
    assert model.card.subjects == {"simulated/01": 0, "simulated/02": 1, "other/01": 3}
    assert model.encoder.n_subjects == 5
    study = open_prepared(tmp_path / "two")
    series = stimulus_series([study], lambda stimulus: None)
    features = dict(next(iter(series.values())).values)
    for subject, size in (("simulated/02", 30), ("other/01", 12), (None, 30)):
        assert model.predict(features=features, subject=subject).data.shape == (30, size)
    resumed = train_recipe(wanted, tmp_path / "run", resume=True)
    again = tribrain.load_model(resumed, device="cpu")
    for key, value in model.encoder.state_dict().items():
        assert torch.equal(value, again.encoder.state_dict()[key])


def test_a_model_of_brought_series_reads_no_film_and_says_so_at_once(trained, monkeypatch, capsys):
    model = tribrain.load_model(trained[1], device="cpu")
    assert model.card.recipe.modalities == ()
    assert model.card.recipe.frequency == 2.0
    for place in (trained[1], trained[0]):  # a run folder is its model
        film = str(ROOT / "examples" / "film.mp4")
        monkeypatch.setattr(sys, "argv", ["tribrain", "predict", film, "--model", str(place)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == 2
        assert "trained on feature series that its study brought" in capsys.readouterr().err
