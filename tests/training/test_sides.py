"""What run folders tell of the rows that models were trained on."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from ensemble_makers import make_recipe, make_study
from tribrain.encoder.models import model_folder
from tribrain.errors import InputError
from tribrain.studies.prepared import open_prepared
from tribrain.training.run import train_recipe
from tribrain.training.sides import (
    all_trained,
    free_spans,
    is_trained,
    member_split,
    recipe_sides,
)

pytestmark = pytest.mark.filterwarnings("ignore::tribrain.errors.InputWarning")
TRAINED = {"film1", "film6", "film7", "film8"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("studies") / "simulated")


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "one"
    train_recipe(make_recipe(store, "training.epochs=1"), folder, device="cpu")
    return folder


def test_a_run_folder_tells_the_sides_of_its_recipe(run, store):
    study = open_prepared(store)
    told = member_split("one", run / "model", [study])
    sides = recipe_sides(make_recipe(store), [study])
    by_name = {one.name: one for one in study.runs}
    for span, side in sides.items():
        assert told.side(span, by_name[span.run]) == side
        assert is_trained(told.trained, span, by_name[span.run]) == (side == "train")
        assert (side == "train") == (span.group in TRAINED)
    free = free_spans({"one": told}, [study], 5.0)
    assert {span.group for span in free} == {"film2", "film3"}
    assert set(free.values()) == {"validation"}


def test_other_recordings_of_films_that_were_trained_on_are_not_new(run, store, tmp_path):
    told = member_split("one", run / "model", [open_prepared(store)])
    # Other people watched the same films; in the second study, films that nobody has seen.
    for folder, changes, groups in (
        ("people", {"n_subjects": 3, "snr": 1.0}, {"film2", "film3", "film4", "film5"}),
        ("films", {"seed": 9, "n_subjects": 1}, {f"film{n}" for n in range(1, 9)}),
    ):
        other = open_prepared(make_study(tmp_path / folder, **changes))
        assert {span.group for span in free_spans({"one": told}, [other], 5.0)} == groups


def test_seconds_of_a_stimulus_are_what_counts(run, store):
    study = open_prepared(store)
    span = next(one for one in recipe_sides(make_recipe(store), [study]) if one.group == "film1")
    shown_run = study.run(span.run)
    (shown,) = shown_run.shown
    content, shift = shown.source.content(), shown.start - shown.onset
    begin, end = span.begin + shift, span.end + shift
    for seconds, expected in (
        ((begin, end), True),
        ((begin - 9, begin), False),
        ((end, end + 9), False),
        ((end - 1, end + 9), True),
        ((begin + 3, begin + 4), True),
    ):
        assert is_trained({content: [seconds]}, span, shown_run) == expected
        assert not is_trained({"other": [seconds]}, span, shown_run)


def test_refitted_models_were_trained_on_their_validation(run, store, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    recipe = tmp_path / "run" / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("refit = false", "refit = true"))
    study = open_prepared(store)
    told = member_split("refit", tmp_path / "run" / "model", [study])
    with pytest.raises(InputError, match=r"none of the 16 spans .* refit was trained on 12"):
        free_spans({"refit": told}, [study], 5.0)
    assert len(all_trained([told])) == 6
    assert all_trained([told, None]) is None


def test_a_study_that_moved_is_found_among_those_given(store, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(store, tmp_path / "first")
    train_recipe(
        make_recipe(tmp_path / "first", "training.epochs=1"), tmp_path / "run", device="cpu"
    )
    (tmp_path / "first").rename(moved)
    place = tmp_path / "run" / "model"
    with pytest.raises(InputError, match=r"one was trained on simulated in .*first, which is not"):
        member_split("one", place)
    told = member_split("one", place, [open_prepared(moved)])
    assert {span.group for span in free_spans({"one": told}, [open_prepared(moved)], 5.0)} == {
        "film2",
        "film3",
    }


def test_folders_that_tell_nothing_and_damaged_ones(run, store, tmp_path):
    shutil.copytree(run / "model", tmp_path / "alone" / "model")
    assert member_split("alone", tmp_path / "alone" / "model") is None
    assert model_folder(tmp_path / "alone" / "model") == tmp_path / "alone" / "model"
    assert model_folder("some/model") == "some/model"
    assert model_folder(run) == run / "model"
    shutil.copytree(run, tmp_path / "run")
    whole = json.loads((run / "run.json").read_text())
    for damaged in ("{", "[]", json.dumps(whole | {"studies": [{"name": "x"}]})):
        (tmp_path / "run" / "run.json").write_text(damaged)
        with pytest.raises(InputError, match=r"run\.json is damaged") as error:
            member_split("one", tmp_path / "run" / "model")
        assert "\n" not in str(error.value)


def test_spans_on_no_side_and_of_held_out_people_are_not_free(run, store, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    recipe = Path(tmp_path / "run" / "recipe.toml")
    recipe.write_text(recipe.read_text().replace("held_out = []", 'held_out = ["02"]'))
    study = open_prepared(store)
    told = member_split("one", tmp_path / "run" / "model", [study])
    free = free_spans({"one": told}, [study], 5.0)
    assert {(span.subject, span.group) for span in free} == {("01", "film2"), ("01", "film3")}
    span = next(iter(free))
    cut = dataclasses.replace(span, end=span.end - 5)
    assert told.side(cut, study.run(span.run)) == "on no side"
