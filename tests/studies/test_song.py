"""SONG: its layout, damage to it, its benchmark, and the numbers of the real recordings."""

from __future__ import annotations

import re

import numpy as np
import pytest

from array_makers import SONG_PEOPLE, SONG_ROWS, change_song, make_song, song_bold, song_components
from conftest import shared
from tribrain.errors import InputError
from tribrain.studies.intersubject import leave_one_out
from tribrain.studies.runs import Problem, Run, sort_out
from tribrain.studies.song import (
    DISCARDED,
    FILMS,
    HELD_OUT,
    MODALITY,
    SPACE,
    SPLITS,
    TRAINED,
    Song,
    few_shot,
)


@pytest.fixture
def folder(tmp_path):
    return make_song(tmp_path / "song")


@pytest.fixture(scope="module")
def real():
    return Song(shared("data/song"))


def test_every_person_has_a_run_of_every_film(folder):
    runs, problems = sort_out(Song(folder).runs())
    assert problems == []
    assert [run.name for run in runs] == [
        f"sub-{person}_task-{film}" for film in FILMS for person in ("001", "002", "027")
    ]
    assert all(isinstance(run, Run) and run.repetition_time == 1.0 for run in runs)
    assert {shown.group for run in runs for shown in run.shown} == set(FILMS)


@pytest.mark.parametrize("film", FILMS)
@pytest.mark.parametrize("person", [0, 2])
def test_bold_is_that_of_the_person_without_its_first_rows(folder, film, person):
    runs, _ = sort_out(Song(folder).runs())
    (run,) = [r for r in runs if (r.task, f"sub-{r.subject}") == (film, SONG_PEOPLE[person])]
    assert run.bold.header() == (SONG_ROWS[film] - DISCARDED, None)
    series = run.bold.load()
    np.testing.assert_array_equal(series.values, song_bold(film)[person, DISCARDED:].astype("f4"))
    np.testing.assert_array_equal(series.time, np.arange(DISCARDED, SONG_ROWS[film]))
    assert series.space == SPACE


@pytest.mark.parametrize("lag", [5.0, 0.0, 4.5])
def test_components_of_a_row_meet_the_bold_of_that_row(folder, lag):
    runs, _ = sort_out(Song(folder, lag=lag).runs())
    for run in runs:
        (shown,) = run.shown
        (name, series), *others = shown.source.series.items()
        assert (name, others, series.dtype, shown.source.rate) == (MODALITY, [], np.float32, 1.0)
        expected = song_components(run.task).astype("f4").T[None]
        np.testing.assert_array_equal(series, expected)
        # Sample t is for second onset + t of the run, and its BOLD is read `lag` later.
        seconds = shown.onset + np.arange(series.shape[-1]) / shown.source.rate + lag
        np.testing.assert_array_equal(seconds, np.arange(SONG_ROWS[run.task]))
        assert shown.duration == shown.source.duration() == SONG_ROWS[run.task]


def test_films_differ_in_content_and_people_see_the_same(folder):
    runs, _ = sort_out(Song(folder).runs())
    seen = {(run.task, run.shown[0].source.content()) for run in runs}
    assert len(seen) == len({content for _, content in seen}) == 3


def test_nothing_is_read_before_it_is_asked_for(tmp_path):
    study = Song(tmp_path / "nowhere")
    study.runs()
    assert (study.name, study.tested_on) == ("song", "real data")
    assert "ds004592" in study.citation


def test_parcels_are_named_as_in_the_atlas(atlases):
    import nibabel

    names = [
        name.decode()
        for side in ("lh", "rh")
        for name in nibabel.freesurfer.read_annot(atlases / f"fsa5_{side}_schaefer_200.annot")[2][
            1:
        ]
    ]
    assert list(SPACE.parcels) == names
    assert len(set(names)) == SPACE.size == 200


def damage(folder, how):
    """Damage the documentary, or all; the tasks that should still be there."""
    pc, npz = folder / "input" / "documentary_input_pc.npy", folder / "song_schaefer200_float16.npz"
    others = {"sitcomep1", "sitcomep2"}
    components = song_components("documentary")
    if how == "no components":
        pc.unlink()
    elif how == "components cut short":
        np.save(pc, components[:-1])
    elif how == "components with NaN":
        components[7, 3] = np.nan
        np.save(pc, components)
    elif how == "components of another shape":
        np.save(pc, components[:, 0])
    elif how == "components truncated":
        pc.write_bytes(pc.read_bytes()[:500])
    elif how == "components empty":
        pc.write_bytes(b"")
    elif how == "people without names":
        change_song(folder, documentary_subjects=np.array(SONG_PEOPLE[:2]))
    elif how == "other parcels":
        change_song(folder, documentary=song_bold("documentary")[:, :, :100])
    elif how == "bold truncated":
        change_song(folder, documentary=song_bold("documentary")[:, :30])
    elif how == "no recordings":
        npz.unlink()
        others = set()
    elif how == "recordings truncated":
        npz.write_bytes(npz.read_bytes()[:1000])
        others = set()
    return others


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("no components", r"documentary_input_pc\.npy does not exist"),
        ("components cut short", "39 rows of components and 40 of BOLD"),
        ("components with NaN", "1 rows that are not finite, the first 7"),
        ("components of another shape", r"shape \(40,\); real numbers \(rows, components\)"),
        ("components truncated", "documentary_input_pc.npy cannot be read, it seems damaged"),
        ("components empty", "documentary_input_pc.npy cannot be read, it seems damaged"),
        ("people without names", r"\(3, 40, 200\); 2 people"),
        ("other parcels", r"\(3, 40, 100\).* 200 parcels fit"),
        ("bold truncated", "40 rows of components and 30 of BOLD"),
        ("no recordings", r"song_schaefer200_float16\.npz does not exist"),
        ("recordings truncated", "npz cannot be read, it seems damaged"),
    ],
)
def test_damaged_film_is_named_and_the_others_go_on(folder, how, said):
    left = damage(folder, how)
    runs, problems = sort_out(Song(folder).runs())
    assert {run.task for run in runs} == left
    assert len(runs) == 3 * len(left)
    assert {problem.where for problem in problems} == {f"task-{film}" for film in set(FILMS) - left}
    for problem in problems:
        assert problem.fatal
        assert "\n" not in str(problem)
    (documentary,) = [p for p in problems if p.where == "task-documentary"]
    assert re.search(said, documentary.what)


def test_person_who_is_there_twice_is_used_once(folder):
    change_song(folder, sitcomep2_subjects=np.array(["sub-001", "sub-002", "sub-001"]))
    runs, problems = sort_out(Song(folder).runs())
    assert len(runs) == 8
    assert [str(p) for p in problems] == [
        "sub-001_task-sitcomep2: is there twice; the first one is used"
    ]
    (kept,) = [run for run in runs if run.name == "sub-001_task-sitcomep2"]
    assert kept.bold.load().values[0, 0] < 5  # 20 would be the third person's


def test_rows_that_were_not_measured_stay_so(folder):
    bold = song_bold("sitcomep1")
    bold[1, 20:23] = np.nan
    change_song(folder, sitcomep1=bold)
    runs, problems = sort_out(Song(folder).runs())
    assert problems == []
    values = {run.name: run.bold.load().values for run in runs}
    gaps = np.flatnonzero(np.isnan(values["sub-002_task-sitcomep1"]).all(1))
    np.testing.assert_array_equal(gaps, np.array([20, 21, 22]) - DISCARDED)
    assert not np.isnan(values["sub-001_task-sitcomep1"]).any()


def test_benchmark_trains_on_no_row_that_it_tests():
    assert {name: len(parts) for name, parts in SPLITS.items()} == {"W3": 1, "X": 3}
    for split in (part for parts in SPLITS.values() for part in parts):
        for film in set(split.train) & set(split.test):
            assert split.train[film][1] + 20 <= split.test[film][0]
        assert set(split.train) | set(split.test) == set(FILMS)
    tested = [film for part in SPLITS["X"] for film in part.test]
    assert tested == list(FILMS)
    assert all(not set(part.train) & set(part.test) for part in SPLITS["X"])
    minutes = sum(b - a for a, b in SPLITS["W3"][0].train.values()) / 60
    assert minutes == pytest.approx(47.9, abs=0.06)


def test_benchmark_parts_its_people():
    assert len(TRAINED) == 20
    assert len(HELD_OUT) == 6
    assert not set(TRAINED) & {*HELD_OUT, "026"}


def test_minutes_to_adapt_with_are_taken_from_each_film():
    assert few_shot(10) == {
        "sitcomep1": (10, 210),
        "sitcomep2": (10, 210),
        "documentary": (10, 210),
    }
    assert few_shot(43.3)["documentary"] == SPLITS["W3"][0].train["documentary"]
    for wrong in (0, -1, 43.4):
        with pytest.raises(InputError, match="minutes to adapt with"):
            few_shot(wrong)


def test_real_folder_holds_80_runs(real):
    runs, problems = sort_out(real.runs())
    assert problems == []
    people = {film: {run.subject for run in runs if run.task == film} for film in FILMS}
    assert [len(people[film]) for film in FILMS] == [26, 27, 27]
    assert set.intersection(*people.values()) == {*TRAINED, *HELD_OUT}
    rows = {run.task: run.bold.header()[0] + DISCARDED for run in runs}
    assert rows == {film: last for part in SPLITS["X"] for film, (_, last) in part.test.items()}
    assert all(run.shown[0].source.series[MODALITY].shape[:2] == (1, 100) for run in runs)


def test_correlation_between_people_is_that_of_the_benchmark(real):
    """Mean over people and parcels, of z-scored people; by run, then the mean of the three."""
    runs, _ = sort_out(real.runs())
    found = {}
    for film in FILMS:
        series = [r.bold.load() for r in runs if r.task == film and r.subject != "026"]
        time, values = series[0].time, np.stack([one.values for one in series])
        for name, splits in SPLITS.items():
            (rows,) = [part.test[film] for part in splits if film in part.test]
            chosen = (time >= rows[0]) & (time < rows[1])
            found[name, film] = leave_one_out(values[:, chosen]).mean(1)  # a value a person
    alone = [found["W3", film].mean() for film in FILMS]
    assert alone == pytest.approx([0.363, 0.330, 0.216], abs=5e-4)
    for name, mean, median in (("W3", 0.303, 0.306), ("X", 0.302, 0.302)):
        people = np.mean([found[name, film] for film in FILMS], axis=0)
        assert len(people) == 26
        assert people.mean() == pytest.approx(mean, abs=5e-4)
        assert np.median(people) == pytest.approx(median, abs=5e-4)


def test_components_are_aligned_with_the_bold(real):
    """The mean of all people follows the components best without a lag (ridge, W3's rows)."""
    found = {}
    for film in FILMS:
        runs = [r for r in real.runs() if not isinstance(r, Problem) and r.task == film]
        bold = np.mean([zscored(run.bold.load().values) for run in runs], axis=0)
        components = runs[0].shown[0].source.series[MODALITY][0].T
        for lag in (-5, -2, 0, 2, 5):
            found[film, lag] = explained(components, bold, lag, SPLITS["W3"][0], film)
    best = {lag: np.mean([found[film, lag] for film in FILMS]) for lag in (-5, -2, 0, 2, 5)}
    assert max(best, key=best.get) == 0
    assert best[0] > 0.15
    assert best[0] > best[5] + 0.03


def zscored(values):
    return (values - values.mean(0)) / values.std(0)


def explained(components, bold, lag, split, film):
    """Mean correlation of a ridge's prediction; BOLD at row t + lag from components at t."""
    (first, last), (from_, to) = split.train[film], split.test[film]
    scaled = components / np.arange(1, components.shape[1] + 1) ** 0.5
    train, test = np.arange(first + 5, last - 5), np.arange(from_ + 5, to - 5)
    x = scaled[train]
    weights = np.linalg.solve(
        x.T @ x + 10 * np.eye(x.shape[1]), x.T @ bold[train + lag - DISCARDED]
    )
    predicted = zscored(scaled[test] @ weights)
    return (predicted * zscored(bold[test + lag - DISCARDED])).mean()
