"""HCP 7T movies: their layout, clips and groups, versions of the films, damage to them."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

from testing_makers import (
    HCP_PEOPLE,
    HCP_RUNS,
    HCP_TIMING,
    HCP_VERTICES,
    hcp_bold,
    make_hcp,
    write_cifti,
)
from tribrain.errors import InputError
from tribrain.studies.hcp_movies import CLIPS, REPEATED, TIMING, HcpMovies, read_clips
from tribrain.studies.runs import sort_out

MOVIE2 = "tfMRI_MOVIE2_7T_PA"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_hcp(tmp_path_factory.mktemp("hcp"))


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "hcp")


def found(folder, **options):
    return sort_out(HcpMovies(folder, mesh=None, **({"saw_first": ()} | options)).runs())


def test_four_runs_a_person(made):
    runs, problems = found(made)
    assert problems == []
    assert [run.name for run in runs] == [
        f"sub-{person}_task-MOVIE{number}" for person in HCP_PEOPLE for number in (1, 2, 3, 4)
    ]
    lengths = [rows for _, rows in HCP_RUNS.values()]
    assert [run.bold.header() for run in runs] == [(rows, 1.0) for rows in 2 * lengths]
    assert {run.repetition_time for run in runs} == {1.0}


def test_clips_lie_in_the_film_as_in_the_run_with_rest_between(made):
    runs, _ = found(made)
    for run, (film, rows) in zip(runs, 2 * list(HCP_RUNS.values()), strict=True):
        assert [(shown.onset, shown.end) for shown in run.shown] == list(CLIPS[film])
        assert [shown.start for shown in run.shown] == [shown.onset for shown in run.shown]
        edges = [0, *(time for shown in run.shown for time in (shown.onset, shown.end)), rows]
        rests = np.diff(edges)[::2]
        assert (rests[:-1] == 20).all()
        assert rests[-1] in (20, 21)
        # The films are files of their own, so each clip is of its run's film.
        assert {shown.source.path.name for shown in run.shown} == {f"{film}_v2.mp4"}


def test_the_clip_that_all_runs_share_is_one_group(made):
    runs, _ = found(made)
    assert [shown.group for shown in runs[0].shown] == [
        "hcp-MOVIE1.1", "hcp-MOVIE1.2", "hcp-MOVIE1.3", "hcp-MOVIE1.4", REPEATED,
    ]  # fmt: skip
    last = [run.shown[-1] for run in runs]
    assert {shown.group for shown in last} == {REPEATED}
    assert {shown.duration for shown in last} == {83}
    assert len({shown.source.content() for shown in last}) == 4
    others = [shown.group for run in runs[:4] for shown in run.shown[:-1]]
    assert len(set(others)) == len(others) == 14


def test_versions_of_the_films_go_by_person(made):
    runs, problems = found(made, saw_first=["102311"])
    assert problems == []
    paths = {run.subject: run.shown[0].source.path for run in runs if run.task == "MOVIE4"}
    movies = made / "movies"
    assert paths["100610"] == movies / "Post_20140821_version" / "7T_MOVIE4_HO2_v2.mp4"
    assert paths["102311"] == movies / "Pre_20140821_version" / "7T_MOVIE4_HO2.mp4"
    runs, (problem,) = found(made, saw_first=None)
    assert len(runs) == 8
    assert not problem.fatal
    assert "who saw the first version of the films (saw_first) is not told" in problem.what
    with pytest.raises(InputError, match="saw_first is '100610'; a list of people fits"):
        HcpMovies(made, saw_first="100610")


def test_the_tables_own_times_are_used_where_it_is_there(folder):
    (folder / "movies" / TIMING).write_bytes(HCP_TIMING.encode())
    runs, _ = found(folder)
    assert [(s.onset, round(s.duration, 6), s.group) for s in runs[1].shown] == [
        (5.0, 15.04, "hcp-MOVIE2.1"),
        (25.04, 9.0, "hcp-MOVIE2.2"),
        (39.04, 4.0, REPEATED),
    ]


def test_values_come_to_their_vertices(folder):
    (folder / "movies" / TIMING).write_bytes(HCP_TIMING.encode())
    values = write_cifti(hcp_bold(folder, "102311", MOVIE2), 44, offset=7.0)
    runs, _ = found(folder)
    (run,) = (run for run in runs if run.name == "sub-102311_task-MOVIE2")
    series = run.bold.load()
    assert (series.space.name, series.repetition_time) == ("fsLR32k", 1.0)
    places = np.concatenate([HCP_VERTICES["left"], 32492 + HCP_VERTICES["right"]])
    np.testing.assert_array_equal(series.values[:, places], values)
    assert np.isnan(np.delete(series.values, places, axis=1)).all()


def test_the_cortex_is_taken_to_fsaverage5_by_default(made):
    runs, _ = sort_out(HcpMovies(made, saw_first=()).runs())
    assert {run.bold.mesh for run in runs} == {"fsaverage5"}


def damage(folder, how):
    """Spoil the second run of person 102311."""
    path = hcp_bold(folder, "102311", MOVIE2)
    if how == "missing":
        path.unlink()
    elif how == "finer":
        path.unlink()
        write_cifti(hcp_bold(folder, "102311", MOVIE2, "1.6mm_"), 918)
    elif how == "repetition time":
        write_cifti(path, 918, step=0.72)
    elif how == "truncated":
        write_cifti(path, 850)
    elif how == "no CIFTI":
        path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("missing", r"tfMRI_MOVIE2_7T_PA_Atlas_MSMAll_hp2000_clean\.dtseries\.nii does not exist"),
        (
            "finer",
            r"only tfMRI_MOVIE2_7T_PA_Atlas_1\.6mm_MSMAll_hp2000_clean\.dtseries\.nii is there, on "
            r"59k vertices.*; tfMRI_MOVIE2_7T_PA_Atlas_MSMAll_hp2000_clean\.dtseries\.nii \(32k\)",
        ),
        ("repetition time", r"states a repetition time of 0\.72 s; the study measured every 1 s"),
        (
            "truncated",
            r"stimulus ends at 898\.0 s .* and the 850 volumes of .* at 850\.0 s",
        ),
        ("no CIFTI", r"cannot be read as CIFTI"),
    ],
)
def test_damaged_run_is_named_and_the_others_go_on(folder, how, said):
    damage(folder, how)
    runs, problems = found(folder)
    assert len(runs) == 7
    (problem,) = problems
    assert (problem.where, problem.fatal) == ("sub-102311_task-MOVIE2", True)
    assert re.search(said, problem.what)
    assert "\n" not in str(problem)


def test_a_run_that_was_not_measured_is_no_problem(folder):
    shutil.rmtree(hcp_bold(folder, "102311", MOVIE2).parent)
    runs, problems = found(folder)
    assert (len(runs), problems) == (7, [])


def test_a_missing_film_names_every_run_of_it(folder):
    (folder / "movies" / "Post_20140821_version" / "7T_MOVIE2_HO1_v2.mp4").unlink()
    runs, problems = found(folder)
    assert len(runs) == 6
    assert [problem.where for problem in problems] == [
        f"sub-{person}_task-MOVIE2" for person in HCP_PEOPLE
    ]
    assert re.search(r"stimulus .*7T_MOVIE2_HO1_v2\.mp4 does not exist", str(problems[0]))


def test_rows_of_nan_stay_nan(folder):
    (folder / "movies" / TIMING).write_bytes(HCP_TIMING.encode())
    write_cifti(hcp_bold(folder, "102311", MOVIE2), 44, nan=slice(30, 33))
    runs, _ = found(folder)
    (run,) = (run for run in runs if run.name == "sub-102311_task-MOVIE2")
    left = run.bold.load().values[:, HCP_VERTICES["left"]]
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(left).any(1)), [30, 31, 32])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("2.2,25.04", "2.2,late", r"row 14: start 'late' is not a time in seconds"),
        ("2.2,25.04", "2.2,15.04", r"row 14: a clip from 15\.04 to 34\.04 s, out of order"),
        ("7T_MOVIE2_HO1_v2", "7T_MOVIE7_HO1", r"film '7T_MOVIE7_HO1' is unknown; known: 7T_MOVIE1"),
        ("\r4.", "\r0,", r"has no clips of 7T_MOVIE4_HO2"),
        ("\r3.1,5,20.04,15.04\r", "\r3.1,5\r", r"'3\.1,5'; block, start and end fit"),
    ],
)
def test_damaged_table_of_clips_is_one_problem(folder, old, new, said):
    table = folder / "movies" / TIMING
    assert old in HCP_TIMING
    table.write_bytes(HCP_TIMING.replace(old, new).encode())
    with pytest.raises(InputError, match=said):
        read_clips(table)
    runs, (problem,) = found(folder)
    assert runs == []
    assert problem.where == TIMING
    assert "nobody's run can be used" in problem.what


def test_an_empty_folder(tmp_path):
    runs, (problem,) = found(tmp_path)
    assert runs == []
    assert "holds no PERSON/MNINonLinear/Results" in str(problem)
