"""Models that learn from others: targets, what a teacher may know, and what a student gains."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from ensemble_makers import LOADING, make_recipe, make_study
from tribrain.encoder.models import load_model
from tribrain.errors import InputError, InputWarning
from tribrain.studies.prepared import open_prepared
from tribrain.training import run as running
from tribrain.training.adapt import AdaptSettings, adapt
from tribrain.training.data import TrainingData
from tribrain.training.ensemble import train_seeds
from tribrain.training.model_rows import ModelledRows
from tribrain.training.run import train_recipe, training_data
from tribrain.training.teaching import TaughtData, open_teacher, write_lessons

pytestmark = pytest.mark.filterwarnings("ignore::tribrain.errors.InputWarning")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("studies") / "simulated")


@pytest.fixture(scope="module")
def seeds(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "three"
    train_seeds(make_recipe(store), (0, 1, 2), folder, device="cpu")
    return folder


@pytest.fixture(scope="module")
def teacher(seeds):
    return load_model(seeds / "ensemble", **LOADING)


def data_of(store, *changes: str) -> TrainingData:
    return training_data(make_recipe(store, *changes), [open_prepared(store)])


def holes(data: TrainingData) -> None:
    """Take measurements out of what is read."""
    plain = data._fill_targets

    def fill(targets, stretch, first):
        plain(targets, stretch, first)
        targets[2:4, 5] = np.nan

    data._fill_targets = fill


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_targets_are_a_mixture_on_training_rows_and_the_bold_elsewhere(
    share, store, teacher, tmp_path
):
    data = data_of(store)
    holes(data)
    taught = TaughtData(data, write_lessons(teacher, data, ("train",), tmp_path), share, 0.1)
    rows = ModelledRows(teacher.members, data.studies, {s.span: s.side for s in data.stretches})
    for number, stretch in enumerate(data.stretches):
        for row in (stretch.row, -1):
            one = dataclasses.replace(stretch, row=row)
            for first in (stretch.first, stretch.first + 7, stretch.stop - 4):
                plain, found = (part.batch([(one, first)]) for part in (data, taught))
                measured = plain.targets[0].numpy()
                expected = measured.copy()
                if stretch.side == "train":
                    _, parts, _ = rows.predict(number, unseen=row < 0)
                    mean = np.mean(parts, axis=0)[first - stretch.first :][: data.length]
                    expected[: len(mean)] = share * mean + (1 - share) * measured[: len(mean)]
                np.testing.assert_allclose(found.targets[0].numpy(), expected, atol=2e-3)
                assert found.rows.tolist() == [row]
                for name, part in plain.features.items():
                    assert torch.equal(found.features[name], part)
        if stretch.side == "train" and number > 3:
            break


def test_only_training_rows_are_predicted_and_those_of_people_never_seen_once(
    store, teacher, tmp_path
):
    data = data_of(store)
    lessons = write_lessons(teacher, data, ("train",), tmp_path)
    trained = data.side("train")
    assert {span for span, _ in lessons} == {one.span for one in trained}
    own = {path for (_, unseen), path in lessons.items() if not unseen}
    shared = {path for (_, unseen), path in lessons.items() if unseen}
    assert (len(own), len(shared)) == (8, 4)  # two people, four films
    assert set(tmp_path.glob("*.npy")) == own | shared
    before = {path: path.stat().st_mtime_ns for path in own | shared}
    assert write_lessons(teacher, data, ("train",), tmp_path) == lessons
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with pytest.raises(InputError, match="another teacher than three-seed-0"):
        write_lessons(teacher.members[0], data, ("train",), tmp_path)


def test_windows_are_given_to_people_never_seen_as_often_as_is_said(store, teacher, tmp_path):
    data = data_of(store)
    taught = TaughtData(data, {}, 0.5, 0.25)
    trained = data.side("train")
    given, windows = 0, 0
    for epoch in range(50):
        plain, found = (
            part.drawn(trained, np.random.default_rng(epoch)) for part in (data, taught)
        )
        assert [(s.span, first) for s, first in found] == [(s.span, first) for s, first in plain]
        given += sum(stretch.row == -1 for stretch, _ in found)
        windows += len(found)
    assert abs(given / windows - 0.25) < 4 * (0.25 * 0.75 / windows) ** 0.5
    assert all(
        stretch.row == 0
        for stretch, _ in TaughtData(data, {}, 0.5, 0.0).drawn(
            [one for one in trained if one.row == 0], np.random.default_rng(0)
        )
    )


def test_a_student_comes_nearer_to_its_teacher_than_the_same_seed_untaught(
    seeds, store, teacher, tmp_path
):
    """On films that none of them was trained on, for a person and for people never seen."""
    changes = (f"training.teacher={seeds / 'ensemble'}", "training.teacher_share=1.0")
    student, untaught = (
        load_model(
            train_recipe(
                make_recipe(store, "training.seed=7", "training.epochs=20", *more),
                tmp_path / name,
                device="cpu",
            ),
            **LOADING,
        )
        for name, more in (("student", changes), ("untaught", ()))
    )
    data = data_of(store)
    spans = {one.span: "test" for one in data.side("test")}
    rows = ModelledRows([*teacher.members, student, untaught], data.studies, spans)
    for unseen in (False, True):
        apart = []
        for number in range(len(rows.stretches)):
            _, (*members, own, other), _ = rows.predict(number, unseen=unseen)
            mean = teacher.combined(members)
            apart.append([np.mean((part - mean) ** 2) for part in (own, other)])
        near, far = np.mean(apart, axis=0)
        assert near < 0.8 * far
    assert not list((tmp_path / "student" / "teacher").glob("*.npy"))
    told = json.loads((tmp_path / "student" / "teacher" / "teacher.json").read_text())
    assert told["name"] == "three"


def test_a_stopped_student_goes_on_to_the_same_model(seeds, store, tmp_path, monkeypatch):
    changes = (f"training.teacher={seeds / 'ensemble'}", "training.epochs=2")
    whole = train_recipe(make_recipe(store, *changes), tmp_path / "whole", device="cpu")
    plain = running.append_metrics

    def stop(out, numbers):
        plain(out, numbers)
        if numbers["epoch"] == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(running, "append_metrics", stop)
    with pytest.raises(KeyboardInterrupt):
        train_recipe(make_recipe(store, *changes), tmp_path / "stopped", device="cpu")
    monkeypatch.undo()
    model = train_recipe(make_recipe(store, *changes), tmp_path / "stopped", resume=True)
    found, expected = ((part / "model.safetensors").read_bytes() for part in (model, whole))
    assert found == expected


def test_a_teacher_who_knows_what_judges_its_student_is_refused(seeds, store, tmp_path):
    place = seeds / "ensemble"
    for changes, words in (
        (['data.validation_groups=["film1"]'], r"film1.*on the side validation"),
        (['data.test_groups=["film6", "film5"]'], r"film6.*on the side test"),
        (['data.held_out=["02"]'], "on the side held_out"),
    ):
        recipe = make_recipe(store, f"training.teacher={place}", *changes)
        with pytest.raises(InputError, match=words):
            train_recipe(recipe, tmp_path / "student", device="cpu")
        assert not (tmp_path / "student").exists()
    data = data_of(store)
    assert open_teacher(place, data).name == "three"
    assert open_teacher(seeds / "seed-0", data).name == "three-seed-0"
    with pytest.raises(InputError, match="was trained on"):
        open_teacher(seeds / "seed-0", data_of(store, 'data.validation_groups=["film1"]'))


def test_an_adapter_of_what_judges_the_student_does_not_teach(seeds, store):
    model = seeds / "seed-0" / "model"
    base, study = load_model(model, **LOADING), open_prepared(store)
    new = seeds / "seed-0" / "new"
    adapt(base, study, ["02"], AdaptSettings(minutes=4), place=model, out=new)
    with pytest.raises(InputError, match=r"new was trained on .*film[23]\D.* side validation"):
        open_teacher(new, data_of(store))
    told = json.loads((new / "adapter.json").read_text())
    films = [one.source.content() for run in study.runs for one in run.shown if run.task == "film1"]
    (new / "adapter.json").write_text(
        json.dumps(told | {"trained_on": {one: told["trained_on"][one] for one in films}})
    )
    assert open_teacher(new, data_of(store)).name == "new"
    # Its model knows the first person, who is not among those whom it predicts.
    with pytest.raises(InputError, match="on the side held_out"):
        open_teacher(new, data_of(store, 'data.held_out=["01"]', "data.test_groups=[]"))
    shutil.rmtree(new)


def test_teachers_that_do_not_fit_are_refused(seeds, store, tmp_path):
    data = data_of(store)
    with pytest.raises(InputError, match="textbook model teaches nothing"):
        open_teacher("textbook", data)
    with pytest.raises(InputError, match="5 s late, and the recipe reads it 4 s late"):
        open_teacher(seeds / "ensemble", data_of(store, "data.lag=4.0"))
    wide = make_study(tmp_path / "wide", space=21, films=5)
    changes = ('data.validation_groups=["film2"]', 'data.test_groups=["film4"]')
    with pytest.raises(InputError, match=r"21 values.* three predicts .*\(20\)"):
        open_teacher(seeds / "ensemble", data_of(wide, *changes))
    alone = tmp_path / "models" / "alone"
    alone.parent.mkdir()
    shutil.copytree(seeds / "seed-0" / "model", alone)
    with pytest.warns(InputWarning, match="nothing tells what three-seed-0 was trained on"):
        open_teacher(alone, data)
    with pytest.raises(InputError, match=r"teacher_share is 1\.5; 0 to 1 fits"):
        make_recipe(store, "training.teacher_share=1.5")
