"""BOLD Moments: its layout, and damage to it."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

from training_makers import (
    MNI,
    MOMENTS_ROWS,
    TEST_CLIPS,
    TRAIN_CLIPS,
    make_bold_moments,
    moments_events,
    moments_file,
    sides,
    write_moments_surface,
    write_volume,
    written,
)
from tribrain.errors import InputError
from tribrain.studies import bold_moments
from tribrain.studies.bold_moments import RUNS, VOLUMES, BoldMoments
from tribrain.studies.runs import sort_out

CLIPS = {"train": TRAIN_CLIPS, "test": TEST_CLIPS}
NAMES = [f"sub-01_ses-02_task-{task}_run-{run}" for task in ("test", "train") for run in (1, 2)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_bold_moments(tmp_path_factory.mktemp("moments"))


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """A copy to damage, of a study with two runs of each task."""
    monkeypatch.setattr(bold_moments, "RUNS", {"train": 2, "test": 2})
    return shutil.copytree(made, tmp_path / "ds005165")


def of(folder, **settings):
    return BoldMoments(folder, **{"form": "volume", "mesh": "fsaverage3", **settings})


def test_every_run_of_a_session_is_read(folder):
    runs, problems = sort_out(of(folder).runs())
    assert problems == []
    assert [run.name for run in runs] == NAMES
    for run in runs:
        rows, number = MOMENTS_ROWS[run.task], int(run.number)
        assert run.bold.header() == (rows, 1.75)
        assert run.repetition_time == 1.75
        assert run.confounds.name == f"{run.name}_desc-confounds_timeseries.tsv"
        assert run.bold.path.name.startswith(f"sub-01_ses-02_task-{run.task}_run-0{number}_space")
    series = runs[1].bold.load()
    np.testing.assert_allclose(sides(series.values), written(268, 20), rtol=1e-5)
    assert (series.space.name, series.repetition_time) == ("fsaverage3", 1.75)


def test_clips_are_shown_at_their_onsets_and_oddballs_are_not(folder):
    runs, _ = sort_out(of(folder).runs())
    for run in runs:
        clips = CLIPS[run.task][int(run.number)]
        assert [shown.source.path.name for shown in run.shown] == [f"{c}.mp4" for c in clips]
        assert [shown.onset for shown in run.shown] == pytest.approx(
            [4.002 + 8.004 * place for place in range(len(clips))]
        )
        assert {(shown.duration, shown.start) for shown in run.shown} == {(3.0, 0.0)}


def test_repeats_of_a_clip_never_cross_groups(folder):
    runs, _ = sort_out(of(folder).runs())
    groups = {}
    for shown in (shown for run in runs for shown in run.shown):
        groups.setdefault(shown.source.content(), set()).add(shown.group)
    assert len(groups) == 6
    assert all(len(group) == 1 for group in groups.values())
    assert {run.task: {shown.group for shown in run.shown} for run in runs} == {
        "train": {"train"},
        "test": {"test"},
    }
    # The same clip is one object, however often it is shown.
    sources = [shown.source for run in runs for shown in run.shown]
    assert len(sources) == 10
    assert len({id(source) for source in sources}) == 6


def test_number_of_volumes_whose_number_is_not_padded_is_read_too(folder):
    path = moments_file(folder, "test", 1, MNI)
    path.rename(path.with_name(path.name.replace("run-01", "run-1")))
    runs, problems = sort_out(of(folder).runs())
    assert problems == []
    assert [run.name for run in runs] == NAMES


def test_surfaces_are_resampled_left_first(folder, monkeypatch):
    monkeypatch.setitem(VOLUMES, "test", 5)
    write_moments_surface(folder, "test", 1, 5)
    events = moments_file(folder, "test", 1, "events.tsv")
    events.write_text(moments_events("test", TEST_CLIPS[1][:1]))
    runs, problems = sort_out(BoldMoments(folder, mesh="fsaverage3").runs())
    assert [run.name for run in runs] == NAMES[:1]
    (run,) = runs
    assert run.bold.header() == (5, 1.75)
    series = run.bold.load()
    assert series.space.name == "fsaverage3"
    expected = np.repeat(written(5), 642, axis=1)
    np.testing.assert_allclose(series.values, expected, rtol=1e-5, atol=1e-4)
    assert [p.where for p in problems] == NAMES[1:]
    assert "run-2_hemi-L_space-fsaverage_bold.func.gii does not exist" in problems[0].what


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("one side missing", r"hemi-R_space-fsaverage_bold\.func\.gii does not exist"),
        ("one side shorter", "different numbers of volumes: 5 in .*hemi-L.* and 4 in .*hemi-R"),
        ("no GIFTI", "hemi-L.* cannot be read as GIFTI"),
        ("truncated", "has 5 volumes; the study measured 268 in such a run"),
    ],
)
def test_damaged_surface_is_named(folder, monkeypatch, how, said):
    monkeypatch.setitem(VOLUMES, "test", 268 if how == "truncated" else 5)
    write_moments_surface(folder, "test", 1, 5)
    right = moments_file(folder, "test", 1, "hemi-R_space-fsaverage_bold.func.gii")
    if how == "one side missing":
        right.unlink()
    elif how == "one side shorter":
        keep = right.with_name("keep")
        left = moments_file(folder, "test", 1, "hemi-L_space-fsaverage_bold.func.gii")
        left.rename(keep)
        write_moments_surface(folder, "test", 1, 4)
        keep.replace(left)
    elif how == "no GIFTI":
        moments_file(folder, "test", 1, "hemi-L_space-fsaverage_bold.func.gii").write_text("no")
    problems = [p for p in BoldMoments(folder).runs() if p.where == NAMES[0]]
    (problem,) = problems
    assert problem.fatal
    assert re.search(said, problem.what)


def test_runs_that_a_session_lacks_are_named(made):
    runs, problems = sort_out(of(made).runs())
    assert [run.name for run in runs] == NAMES
    assert RUNS == {"train": 10, "test": 3}
    assert {p.where for p in problems} == {
        "sub-01_ses-02_task-test_run-3",
        *(f"sub-01_ses-02_task-train_run-{run}" for run in range(3, 11)),
    }
    assert all(p.fatal and "events.tsv does not exist" in p.what for p in problems)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("no volume", r"run-02_space-.*bold\.nii\.gz does not exist"),
        ("no events", r"run-2_events\.tsv does not exist"),
        ("no clip", r"0271\.mp4 does not exist"),
        ("truncated", "has 200 volumes; the study measured 238 in such a run"),
        ("repetition time", "states a repetition time of 2 s; the study measured every 1.75 s"),
        ("no NIfTI", "cannot be read as NIfTI"),
        ("twice", r"run-02_space\S+ and \S+run-2_space\S+ are the same run; keep one"),
        ("clip beyond the end", "stimulus ends at 903.0 s of the run"),
        ("no clips", r"events\.tsv names no clip"),
        ("empty events", r"events\.tsv"),
        ("clip of the other set", "row 2: trial_type 'train' and stim_file 'test/1075.mp4'"),
        ("unknown trial", "row 2: trial_type 'fixation' and stim_file 'train/0139.mp4'"),
        ("no onset", "row 2: onset 'n/a' is not a time in seconds"),
        ("endless onset", "row 2: onset 'inf' is not a time in seconds"),
    ],
)
def test_damaged_run_is_named_and_the_others_go_on(folder, how, said):
    volume = moments_file(folder, "train", 2, MNI)
    events = moments_file(folder, "train", 2, "events.tsv")
    row = "onset\tduration\tstim_file\ttrial_type\n{}\t3.0\t{}\t{}\n"
    if how == "no volume":
        volume.unlink()
    elif how == "no events":
        events.unlink()
    elif how == "no clip":
        (folder / "stimulus_set/stimuli/train/0271.mp4").unlink()
    elif how == "truncated":
        write_volume(volume, 200, 1.75)
    elif how == "repetition time":
        write_volume(volume, 238, 2.0)
    elif how == "no NIfTI":
        volume.write_bytes(b"no NIfTI")
    elif how == "twice":
        shutil.copy(volume, volume.with_name(volume.name.replace("run-02", "run-2")))
    elif how == "empty events":
        events.write_text("")
    else:
        events.write_text(
            {
                "clip beyond the end": row.format(900, "train/0139.mp4", "train"),
                "no clips": row.format(4, "n/a", "oddball"),
                "clip of the other set": row.format(4, "test/1075.mp4", "train"),
                "unknown trial": row.format(4, "train/0139.mp4", "fixation"),
                "no onset": row.format("n/a", "train/0139.mp4", "train"),
                "endless onset": row.format("inf", "train/0139.mp4", "train"),
            }[how]
        )
    runs, problems = sort_out(of(folder).runs())
    assert [run.name for run in runs] == NAMES[:3]
    (problem,) = problems
    assert (problem.where, problem.fatal) == (NAMES[3], True)
    assert re.search(said, problem.what)
    assert "\n" not in str(problem)


def test_clip_path_does_not_leave_its_folder(folder):
    events = moments_file(folder, "train", 2, "events.tsv")
    events.write_text(events.read_text().replace("train/0271.mp4", "../../train/0271.mp4"))
    runs, problems = sort_out(of(folder).runs())
    assert problems == []
    stimuli = (folder / "stimulus_set/stimuli").resolve()
    for shown in (shown for run in runs for shown in run.shown):
        assert shown.source.path.resolve().is_relative_to(stimuli)


def test_folder_that_is_another(tmp_path):
    (problem,) = of(tmp_path).runs()
    assert "holds no sub-*/ses-*/func of sessions 2 to 5; give the folder" in str(problem)


def test_unknown_form_is_refused():
    with pytest.raises(InputError, match="form 'cifti' is unknown; known: surface, volume"):
        BoldMoments("anywhere", "cifti")
