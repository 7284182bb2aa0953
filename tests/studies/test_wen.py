"""Wen 2017: its layout, its clock, and damage to it."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

from training_makers import (
    WEN_SHOWINGS,
    make_film,
    make_wen,
    sides,
    wen_file,
    write_volume,
    written,
)
from tribrain.studies import wen
from tribrain.studies.runs import sort_out
from tribrain.studies.wen import SHOWINGS, Wen


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_wen(tmp_path_factory.mktemp("wen"))


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """A copy to damage, of a study that showed three segments."""
    monkeypatch.setattr(wen, "SHOWINGS", WEN_SHOWINGS)
    return shutil.copytree(made, tmp_path / "wen")


NAMES = [
    f"sub-{subject}_task-{segment}_run-{showing}"
    for subject in (1, 3)
    for segment, showings in WEN_SHOWINGS.items()
    for showing in range(1, showings + 1)
]


def others(problems):
    return [p for p in problems if "headers state" not in p.what]


def test_every_showing_is_a_run(folder):
    for given in (folder, folder / "video_fmri_dataset"):
        runs, problems = sort_out(Wen(given, mesh="fsaverage3").runs())
        assert [run.name for run in runs] == NAMES
        assert others(problems) == []
    for run in runs[:5:2]:
        rows = 246 if run.task == "test2" else 245
        series = run.bold.load()
        offset = 10 * list(WEN_SHOWINGS).index(run.task)
        np.testing.assert_allclose(sides(series.values), written(rows, offset), rtol=1e-5)
        assert series.space.name == "fsaverage3"


def test_the_studys_own_repetition_time_wins_and_it_is_told(folder):
    runs, problems = sort_out(Wen(folder, mesh="fsaverage3").runs())
    assert {run.bold.header()[1] for run in runs} == {1.0}
    assert {run.repetition_time for run in runs} == {2.0}
    series = runs[0].bold.load()
    np.testing.assert_array_equal(series.time, 2.0 * np.arange(245))
    said = "headers state a repetition time of 1 s (5 runs); the study's own, 2 s, is used"
    assert [(str(p), p.fatal) for p in problems] == [
        (f"sub-{subject}: {said}", False) for subject in (1, 3)
    ]


def test_film_began_before_the_recording_of_245_volumes(folder):
    """Either way, the six volumes after the end of the film are of its last frame."""
    runs, _ = sort_out(Wen(folder).runs())
    onsets = {run.task: run.shown[0].onset for run in runs}
    assert onsets == {"seg1": -2.0, "test1": -2.0, "test2": 0.0}
    for run in runs:
        (shown,) = run.shown
        assert shown.duration == pytest.approx(480)
        assert run.bold.header()[0] * 2.0 - shown.end == pytest.approx(12)


def test_showings_of_a_segment_are_one_group(folder):
    runs, _ = sort_out(Wen(folder).runs())
    assert {run.shown[0].group for run in runs} == set(WEN_SHOWINGS)
    content = {(run.task, run.shown[0].source.content()) for run in runs}
    assert len(content) == len({value for _, value in content}) == 3


def test_showings_that_are_missing_are_named(made):
    runs, problems = sort_out(Wen(made).runs())
    assert [run.name for run in runs] == NAMES
    found = others(problems)
    assert (len(SHOWINGS), sum(SHOWINGS.values())) == (23, 86)
    assert len(found) == 2 * 86 - len(NAMES)
    missing = {p.where for p in found if p.fatal}
    assert "sub-1_task-seg18_run-2" in missing
    assert "sub-3_task-test5_run-10" in missing
    (known,) = [p for p in found if not p.fatal]
    assert known.where == "sub-3_task-test2_run-9"
    assert "left out: recorded about 10 s beside the film" in known.what


def test_showing_beside_the_films_clock_is_left_out_even_if_it_is_there(folder, monkeypatch):
    monkeypatch.setattr(wen, "SHOWINGS", {"test2": 9})
    for subject in (1, 3):
        shutil.copy(wen_file(folder, 1, "test2", 1, "."), wen_file(folder, subject, "test2", 9))
    runs, _ = sort_out(Wen(folder).runs())
    assert [run.name for run in runs if run.number == "9"] == ["sub-1_task-test2_run-9"]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("missing", r"seg1_2_mni\.nii\.gz does not exist"),
        ("truncated", "has 200 volumes; the study measured 245 in such a run"),
        ("begun with the film", "has 246 volumes; the study measured 245"),
        ("three dimensions", "a series has four dimensions"),
        ("no NIfTI", "cannot be read as NIfTI"),
        ("empty", "cannot be read as NIfTI"),
        ("twice", r"seg1_2_mni\.nii\.gz and seg1_2\.mni\.nii\.gz are the same run; keep one"),
    ],
)
def test_damaged_run_is_named_and_the_others_go_on(folder, how, said):
    path = wen_file(folder, 1, "seg1", 2)
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        write_volume(path, 200, 1.0)
    elif how == "begun with the film":
        write_volume(path, 246, 1.0)
    elif how == "three dimensions":
        import nibabel as nib

        nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), "f4"), np.diag([12, 12, 12, 1])), path)
    elif how == "no NIfTI":
        path.write_bytes(b"no NIfTI at all")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "twice":
        shutil.copy(path, wen_file(folder, 1, "seg1", 2, "."))
    runs, problems = sort_out(Wen(folder).runs())
    assert [run.name for run in runs] == [n for n in NAMES if n != "sub-1_task-seg1_run-2"]
    (problem,) = others(problems)
    assert (problem.where, problem.fatal) == ("sub-1_task-seg1_run-2", True)
    assert re.search(said, problem.what)
    assert "\n" not in str(problem)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("missing", r"test1\.mp4 does not exist"),
        ("damaged", r"test1\.mp4"),
        ("longer", "stimulus ends at 518.0 s of the run, and the 245 volumes"),
    ],
)
def test_damaged_film_is_named_for_each_run(folder, how, said):
    film = folder / "video_fmri_dataset/stimuli/test1.mp4"
    if how == "missing":
        film.unlink()
    elif how == "damaged":
        film.write_bytes(b"no film")
    else:
        make_film(film, 520, 3)
    runs, problems = sort_out(Wen(folder).runs())
    assert [run.name for run in runs] == [n for n in NAMES if "test1" not in n]
    found = others(problems)
    assert [p.where for p in found] == ["sub-1_task-test1_run-1", "sub-3_task-test1_run-1"]
    assert all(p.fatal and re.search(said, p.what) for p in found)


def test_folder_that_is_another(tmp_path):
    (problem,) = Wen(tmp_path).runs()
    assert "holds no folders subjectN; give the folder video_fmri_dataset" in str(problem)
