"""Trainings on parts of the data, from the verb to the law."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pandas as pd
import pytest

from tribrain import cli
from tribrain.errors import InputError
from tribrain.studies.prepare import prepare
from tribrain.studies.prepared import open_prepared
from tribrain.studies.simulated import Simulated
from tribrain.training import scaling as scaling_module
from tribrain.training.scaling import parse_scale, train_scaling
from tribrain.training.settings import read_recipe
from tribrain.training.torchrun import VARIABLES

pytestmark = pytest.mark.filterwarnings("ignore::tribrain.errors.InputWarning")

SMALL = (
    "encoder.rank=16",
    "training.rate=1e-2",
    "training.epochs=3",
    "data.length=20",
    "data.step=20",
    "data.validation=0.15",
    "data.test=0.25",
)
HOURS = (0.05, 0.1, 0.2)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Three people, sixteen films of half a minute, 30 parcels."""
    folder = tmp_path_factory.mktemp("prepared") / "simulated"
    prepare(Simulated(n_subjects=3, films=16, minutes=0.5, space=30, snr=2.0), folder)
    return folder


def recipe(store, *changes: str):
    return read_recipe("debug", [*SMALL, f"data.studies={[str(store)]}", *changes])


@pytest.fixture(scope="module")
def scaled(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "scaling"
    lines = []
    found = train_scaling(recipe(store), folder, "hours", HOURS, said=lines.append)
    return folder, found, lines


def test_more_hours_score_more(scaled):
    _, found, _ = scaled
    assert found.side == "test"
    assert found.table["score"].iloc[-1] > found.table["score"].iloc[0]
    assert found.law.slope > 0
    assert any("3 sizes" in note for note in found.law.notes)


def test_true_hours_are_recorded_within_half_a_window(scaled):
    folder, found, _ = scaled
    table = pd.read_csv(folder / "scaling.tsv", sep="\t")
    np.testing.assert_allclose(table["asked"], HOURS)
    assert (abs(table["hours"] - table["asked"]) <= 10 / 3600 + 1e-6).all()
    assert (table["people"] == 3).all()
    np.testing.assert_allclose(found.law.amounts, table["hours"], rtol=1e-5)


def test_sizes_are_nested_and_test_is_the_same(scaled):
    folder, _, _ = scaled
    parts = [pd.read_csv(folder / f"hours-{h:g}" / "split.tsv", sep="\t", index_col=0)
             for h in HOURS]  # fmt: skip
    names = [set(part.loc["train", "names"].split(", ")) for part in parts]
    assert names[0] <= names[1] <= names[2]
    for side in ("validation", "test"):
        assert len({part.loc[side, "names"] for part in parts}) == 1
    for part, hours in zip(parts, HOURS, strict=True):
        assert abs(part.loc["train", "hours"] - hours) <= 10 / 3600 + 1e-4


def test_the_folder_tells_everything(scaled):
    folder, found, lines = scaled
    told = json.loads((folder / "scaling.json").read_text())
    assert told["side"] == "test"
    assert told["slope"] == found.law.slope
    assert told["slope_interval"] == list(found.law.slope_interval)
    for run, score in zip(told["runs"], found.table["score"], strict=True):
        assert np.mean([one["r"] for one in run["scores"]]) == pytest.approx(score)
        assert {one["subject"] for one in run["scores"]} == {"01", "02", "03"}
    assert "hours-0.2: r" in lines[-1]
    assert found.lines()[0].startswith("r = ")


def test_finished_sizes_are_not_repeated_and_sizes_may_be_added(scaled, store, monkeypatch):
    folder, found, _ = scaled
    trained = []
    plain = scaling_module.train_recipe

    def watched(plan, out, **how):
        trained.append(out.name)
        return plain(plan, out, **how)

    monkeypatch.setattr(scaling_module, "train_recipe", watched)
    with pytest.raises(InputError, match="--resume"):
        train_scaling(recipe(store), folder, "hours", HOURS)
    again = train_scaling(recipe(store), folder, "hours", HOURS, resume=True)
    assert trained == []
    pd.testing.assert_frame_equal(again.table, found.table)
    model = folder / "hours-0.1" / "model" / "model.safetensors"
    before = model.read_bytes()
    model.unlink()
    more = train_scaling(recipe(store), folder, "hours", (0.03, *HOURS), resume=True)
    assert trained == ["hours-0.03", "hours-0.1"]
    assert model.read_bytes() == before
    assert len(more.table) == 4
    with pytest.raises(InputError, match="another recipe"):
        train_scaling(recipe(store, "training.rate=0.1"), folder, "hours", HOURS, resume=True)


def test_runs_of_other_data_are_refused(scaled, store, tmp_path):
    """The same recipe at the same place, whose study was prepared anew with other BOLD."""
    folder = shutil.copytree(scaled[0], tmp_path / "scaling")
    place = shutil.copytree(store, tmp_path / "simulated")
    plan = recipe(place)
    for run in folder.glob("hours-*"):
        text = (run / "recipe.toml").read_text("utf-8").replace(str(store), str(place))
        (run / "recipe.toml").write_text(text, "utf-8")
    shutil.rmtree(place)
    prepare(Simulated(n_subjects=3, films=16, minutes=0.5, space=30, snr=2.0, seed=3), place)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="begun with other data of simulated"):
        train_scaling(plan, folder, "hours", HOURS, resume=True)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_scores_of_other_data_are_found_anew(scaled, store, tmp_path):
    folder = shutil.copytree(scaled[0] / "hours-0.1", tmp_path / "run")
    plan = recipe(store, "data.hours=0.1")
    kept = scaling_module._scores(folder, plan, [open_prepared(store)], "test", {"device": "cpu"})
    other = tmp_path / "simulated"
    prepare(Simulated(n_subjects=3, films=16, minutes=0.5, space=30, snr=2.0, seed=3), other)
    found = scaling_module._scores(folder, plan, [open_prepared(other)], "test", {"device": "cpu"})
    assert len(found) == len(kept)
    assert [one.r for one in found] != [one.r for one in kept]


def test_people_scale_on_people_never_seen(store, tmp_path):
    with pytest.raises(InputError, match="held_out"):
        train_scaling(recipe(store), tmp_path / "a", "subjects", (1, 2))
    chosen = recipe(store, 'data.held_out=["03"]', "training.epochs=1", "training.seed=5")
    found = train_scaling(chosen, tmp_path / "b", "subjects", (1, 2), seeds=(0, 1))
    assert found.side == "held_out_unseen"
    assert found.table["people"].tolist() == [1, 1, 2, 2]
    assert found.table["seed"].tolist() == [0, 1, 0, 1]
    assert found.law.scores.shape == (2,)
    assert "one person, 2 seeds" in found.lines()[0]
    assert any("tells nothing of others" in line for line in found.lines())
    assert (tmp_path / "b" / "subjects-2_seed-1" / "model").is_dir()


def test_wrong_sizes_are_refused_before_anything_is_trained(store, tmp_path):
    with pytest.raises(InputError, match=r"99 hours to train on, and the training side has 0\.\d"):
        train_scaling(recipe(store), tmp_path / "run", "hours", (0.05, 99))
    none = recipe(store, "data.test=0.0", "data.validation=0.0")
    with pytest.raises(InputError, match="neither test nor validation"):
        train_scaling(none, tmp_path / "run", "hours", HOURS)
    assert not (tmp_path / "run").exists()


def test_several_processes_are_refused(store, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "x")
    with pytest.raises(InputError, match="variables of several processes are missing"):
        train_scaling(recipe(store), tmp_path / "run", "hours", HOURS)
    for name, value in zip(VARIABLES, ("0", "2", "0", "localhost", "1"), strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="without torchrun"):
        train_scaling(recipe(store), tmp_path / "run", "hours", HOURS)


@pytest.mark.parametrize(
    "text", ["hours", "hours=", "hours=1", "hours=1,1", "hours=a,b", "hours=0,1", "minutes=1,2",
             "subjects=1.5,2", "hours=-1,2", "hours=nan,1"],
)  # fmt: skip
def test_a_wrong_scale_says_what_fits(text):
    with pytest.raises(InputError, match="hours=1,2,4 or subjects=1,2,4 fits"):
        parse_scale(text)


def test_scales_are_sorted():
    assert parse_scale("hours=4, 1,2.5") == ("hours", (1.0, 2.5, 4.0))
    assert parse_scale("subjects=2,1") == ("subjects", (1, 2))


def test_the_verb_draws_the_law(store, tmp_path, monkeypatch, capsys):
    from PIL import Image

    options = [part for change in SMALL for part in ("--set", change)]
    arguments = ["train", "debug", "--study", str(store), *options, "--no-cache"]
    arguments += ["--scale", "hours=0.05,0.2", "--set", "training.epochs=1"]
    monkeypatch.setattr(sys, "argv", ["tribrain", *arguments, "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    told = capsys.readouterr().out.splitlines()
    assert stop.value.code == 0
    law = next(line for line in told if line.startswith("r = "))
    assert "expected at 0.4" in law
    assert any(line.startswith("note: two sizes") for line in told)
    with Image.open(tmp_path / "out" / "scaling.png") as picture:
        assert picture.width > 800
        assert np.asarray(picture.convert("L")).std() > 5
