"""LeBel 2023: its two forms, its clock, and damage to it."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

from makers import write_sound
from training_makers import (
    LEBEL_PEOPLE,
    LEBEL_RAW,
    LEBEL_STORIES,
    add_lebel_volumes,
    change_hdf5,
    lebel_array,
    lebel_bold,
    lebel_rows,
    lebel_volume,
    make_lebel,
    sides,
    text_grid,
    write_hdf5,
    write_volume,
    written,
)
from tribrain.errors import InputError
from tribrain.studies.catalogue import open_study
from tribrain.studies.check import check
from tribrain.studies.lebel import MARKERS, TEST_STORY, Lebel, read_story
from tribrain.studies.runs import sort_out

NAMES = [f"sub-{person}_task-{story}" for person in LEBEL_PEOPLE for story in LEBEL_STORIES]
RECORDED = [stem for stem in LEBEL_RAW if stem.split("task-")[1].split("_")[0] in LEBEL_STORIES]


@pytest.fixture
def folder(tmp_path):
    return make_lebel(tmp_path / "ds003020")


@pytest.fixture
def raw(folder):
    return add_lebel_volumes(folder)


def found_of(study):
    """Runs and problems, but for the one that several people in a folder always are."""
    runs, problems = sort_out(study.runs())
    return runs, [problem for problem in problems if problem.where != study.name]


def test_several_people_are_told_at_once_as_a_store_has_one_space(folder):
    told = next(Lebel(folder).runs())
    assert str(told) == (
        "lebel2023: each of its 2 people has other voxels, and a store has one space: prepare one "
        "person a store (subjects=UTS01)"
    )
    assert not told.fatal


@pytest.mark.parametrize("asked", ["UTS04", " sub-UTS04", ("UTS04",), ["UTS04"]])
def test_one_person_is_read_alone(folder, asked):
    runs, problems = sort_out(Lebel(folder, subjects=asked).runs())
    assert problems == []
    assert [run.name for run in runs] == NAMES[len(LEBEL_STORIES) :]


def test_people_are_chosen_from_the_command_line_and_the_unknown_are_named(folder):
    runs, _ = sort_out(open_study(f"lebel2023:{folder}", {"subjects": "UTS01, UTS04"}).runs())
    assert [run.name for run in runs] == NAMES
    runs, problems = sort_out(Lebel(folder, subjects="UTS04,UTS09").runs())
    assert [run.subject for run in runs] == ["UTS04"] * len(LEBEL_STORIES)
    assert [str(problem) for problem in problems] == [
        "sub-UTS09: is not in the data set; there are: UTS01, UTS04"
    ]


def test_people_are_chosen_among_volumes(raw):
    options = {"form": "volume", "mesh": "fsaverage3"}
    runs, problems = sort_out(Lebel(raw, subjects="UTS04", **options).runs())
    assert runs == []
    assert [str(p) for p in problems] == ["sub-UTS04: is not in the data set; there are: UTS01"]
    assert len(sort_out(Lebel(raw, subjects="UTS01", **options).runs())[0]) == len(RECORDED)


def test_every_story_of_a_person_is_a_run_in_the_voxels_of_that_person(folder):
    runs, problems = found_of(Lebel(folder))
    assert problems == []
    assert [run.name for run in runs] == NAMES
    for run in runs:
        series = run.bold.load()
        assert run.bold.header() == (lebel_rows(run.task), None)
        np.testing.assert_allclose(series.values, lebel_bold(run.subject, run.task), rtol=1e-6)
        assert series.space.name == f"lebel-{run.subject}"
        assert series.space.size == LEBEL_PEOPLE[run.subject]
        assert (series.repetition_time, run.repetition_time) == (2.0, 2.0)


@pytest.mark.parametrize("trimmed", [10.0, 20.0])
def test_first_row_was_measured_at_the_second_that_was_trimmed(folder, trimmed):
    runs, _ = sort_out(Lebel(folder, trimmed=trimmed).runs())
    for run in runs:
        (shown,) = run.shown
        seconds = run.bold.load().time - shown.onset + shown.start
        assert seconds[0] == trimmed
        assert shown.end == pytest.approx(
            min(LEBEL_STORIES[run.task] - trimmed, 2.0 * len(seconds))
        )
        assert shown.group == run.task
        if trimmed == 10.0:
            assert shown.duration - seconds[-1] == pytest.approx(2)


def test_nothing_looks_wrong_with_a_whole_copy(folder):
    report = check(Lebel(folder, subjects="UTS01"), deep=True)
    assert report.problems == ()
    several = check(Lebel(folder)).problems
    assert [problem.where for problem in several] == ["lebel2023", "lebel2023"]  # of the spaces


def test_words_are_without_markers(folder):
    runs, _ = sort_out(Lebel(folder).runs())
    stimulus = runs[0].shown[0].source.open()
    assert [(w.text, w.start) for w in stimulus.words] == [
        ("i", 1.0),
        ("reached", 1.5),
        ("over", 3.0),
        ("and", 5.0),
    ]
    assert stimulus.modalities == ("text", "audio")
    assert any("4 markers" in note for note in stimulus.notes)
    assert len({run.shown[0].source.content() for run in runs}) == len(LEBEL_STORIES)


@pytest.mark.parametrize("form", ["{}", "{{{}}}"])
@pytest.mark.parametrize("marker", sorted(MARKERS))
@pytest.mark.parametrize("case", [str.upper, str.lower])
def test_every_marker_is_dropped_in_any_form(tmp_path, form, marker, case):
    label = form.format(case(marker))
    path = tmp_path / "s.TextGrid"
    path.write_text(text_grid(9.0).replace('"reached"', f'"{label}"'))
    words, _ = read_story(path)
    assert [word.text for word in words] == ["i", "over", "and"]


def test_story_of_markers_alone_is_refused(tmp_path):
    path = tmp_path / "s.TextGrid"
    grid = text_grid(9.0)
    for word in ("i", "reached", "over", "and"):
        grid = grid.replace(f'"{word}"', '"{NS}"')
    path.write_text(grid)
    with pytest.raises(InputError, match=r"s\.TextGrid holds markers and no words"):
        read_story(path)


def test_corrupted_recording_is_left_out_and_named(folder):
    for person in LEBEL_PEOPLE:
        path = lebel_array(folder, person, "treasureisland")
        shutil.copy(lebel_array(folder, person, "souls"), path)
    for ending in ("stimuli/{}.wav", "derivative/TextGrids/{}.TextGrid"):
        shutil.copy(folder / ending.format("souls"), folder / ending.format("treasureisland"))
    runs, problems = found_of(Lebel(folder))
    assert {run.subject for run in runs if run.task == "treasureisland"} == {"UTS04"}
    assert [(str(p), p.fatal) for p in problems] == [
        ("sub-UTS01_task-treasureisland: is left out: its recording is corrupted", False)
    ]


def damage(folder, how):
    """Damage souls of UTS01, or what is needed for it; how many runs are lost."""
    path = lebel_array(folder, "UTS01", "souls")
    values = lebel_bold("UTS01", "souls")
    grid = folder / "derivative/TextGrids/souls.TextGrid"
    if how == "no sound":
        (folder / "stimuli/souls.wav").unlink()
    elif how == "sound damaged":
        (folder / "stimuli/souls.wav").write_bytes(b"RIFF")
    elif how == "no words":
        grid.unlink()
    elif how == "sound longer":
        write_sound(folder / "stimuli/souls.wav", np.zeros(200_000), 1000)
    elif how == "run truncated":
        change_hdf5(path, "data", values[:5])
    elif how == "other voxels":
        change_hdf5(path, "data", values[:, :30])
    elif how == "other key":
        path.unlink()
        write_hdf5(path, {"resp": values})
    elif how == "one axis":
        change_hdf5(path, "data", values[0])
    elif how == "nothing but nan":
        change_hdf5(path, "data", np.full_like(values, np.nan))
    elif how == "file truncated":
        path.write_bytes(path.read_bytes()[:500])
    elif how == "empty":
        path.write_bytes(b"")
    return 2 if how in ("no sound", "sound damaged", "no words", "sound longer") else 1


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("no sound", r"souls\.wav does not exist"),
        ("sound damaged", r"souls\.wav"),
        ("no words", r"souls\.TextGrid does not exist"),
        ("sound longer", "stimulus ends at 190.0 s of the run, and the 25 volumes"),
        ("run truncated", r"the 5 volumes of souls\.hf5 at 10.0 s: cut short"),
        ("other voxels", r"shape \(25, 30\); \(time, values\) with 50 values of lebel-UTS01"),
        ("other key", r"has no array 'data'; it has: resp"),
        ("one axis", r"shape \(50,\)"),
        ("nothing but nan", "holds nothing but NaN"),
        ("file truncated", r"souls\.hf5 cannot be read, it seems damaged"),
        ("empty", r"souls\.hf5 cannot be read, it seems damaged"),
    ],
)
def test_damaged_run_is_named_and_the_others_go_on(folder, how, said):
    lost = [f"sub-{person}_task-souls" for person in ("UTS01", "UTS04")[: damage(folder, how)]]
    runs, problems = found_of(Lebel(folder))
    assert [run.name for run in runs] == [name for name in NAMES if name not in lost]
    assert [p.where for p in problems] == lost
    for problem in problems:
        assert problem.fatal
        assert re.search(said, problem.what)
        assert "\n" not in str(problem)


def test_rows_of_nan_are_told_and_stay_and_a_voxel_of_nan_is_none(folder):
    values = lebel_bold("UTS04", "souls")
    values[3] = np.nan
    values[:, 0] = np.nan
    change_hdf5(lebel_array(folder, "UTS04", "souls"), "data", values)
    runs, problems = found_of(Lebel(folder))
    (problem,) = problems
    assert str(problem).startswith("sub-UTS04_task-souls: 1 of 25 rows hold NaN")
    assert not problem.fatal
    loaded = runs[NAMES.index(problem.where)].bold.load().values
    np.testing.assert_array_equal(np.isnan(loaded), np.isnan(values))


def test_recordings_are_projected_with_their_blank_before(raw):
    runs, problems = sort_out(Lebel(raw, "volume", mesh="fsaverage3").runs())
    assert [run.name for run in runs] == RECORDED
    assert [run.number for run in runs] == ["", "1", "10"]
    for run in runs:
        story = run.task
        rows = int((LEBEL_STORIES[story] + 20) / 2)
        assert run.bold.header() == (rows, 2.0)
        (shown,) = run.shown
        assert (shown.onset, shown.group) == (10.0, story)
        assert rows * 2.0 - shown.end == pytest.approx(10)
    series = runs[1].bold.load()
    np.testing.assert_allclose(sides(series.values), written(50, 30), rtol=1e-5)
    assert series.space.name == "fsaverage3"
    assert {run.shown[0].group for run in runs[1:]} == {TEST_STORY}
    assert [(str(p), p.fatal) for p in problems] == [
        ("sub-UTS01_ses-7_task-treasureisland: is left out: its recording is corrupted", False),
        ("sub-UTS01: 2 localizer runs are left out: they play no story", False),
    ]


def test_volumes_are_found_elsewhere_and_with_a_resolution_in_their_names(raw, tmp_path):
    path = lebel_volume(raw, RECORDED[0])
    path.rename(lebel_volume(raw, RECORDED[0], "_res-2"))
    (raw / "derivatives/fmriprep").rename(tmp_path / "prepared")
    runs, _ = sort_out(Lebel(raw, "volume", fmriprep=tmp_path / "prepared").runs())
    assert [run.name for run in runs] == RECORDED


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("missing", r"run-10_space-\S+ does not exist"),
        ("repetition time", "states a repetition time of 1.5 s; the study measured every 2 s"),
        ("truncated", "stimulus ends at 90.0 s of the run, and the 20 volumes"),
        ("no NIfTI", "cannot be read as NIfTI"),
        ("twice", "are the same run; keep one"),
    ],
)
def test_damaged_volume_is_named_and_the_others_go_on(raw, how, said):
    path = lebel_volume(raw, RECORDED[2])
    if how == "missing":
        path.unlink()
    elif how == "repetition time":
        write_volume(path, 50, 1.5)
    elif how == "truncated":
        write_volume(path, 20, 2.0)
    elif how == "no NIfTI":
        path.write_bytes(b"no")
    else:
        shutil.copy(path, lebel_volume(raw, RECORDED[2], "_res-2"))
    runs, problems = sort_out(Lebel(raw, "volume").runs())
    assert [run.name for run in runs] == RECORDED[:2]
    (problem,) = [p for p in problems if p.fatal]
    assert problem.where == RECORDED[2]
    assert re.search(said, problem.what)


def test_folder_that_is_another(tmp_path):
    for form in ("hdf5", "volume"):
        (problem,) = Lebel(tmp_path, form).runs()
        assert "give the folder of ds003020" in str(problem)


def test_unknown_form_is_refused():
    with pytest.raises(InputError, match="form 'gifti' is unknown; known: hdf5, volume"):
        Lebel("anywhere", "gifti")
