"""Algonauts 2025 and Courtois NeuroMod: their layouts, and damage to them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from training_makers import (
    ALGONAUTS_FILM,
    ALGONAUTS_PEOPLE,
    ALGONAUTS_ROWS,
    FRIENDS,
    MNI,
    MOVIE10,
    SENTENCES,
    SKIPPED,
    algonauts_bold,
    change_hdf5,
    make_algonauts,
    make_cneuromod,
    make_film,
    make_stimuli,
    parcels_file,
    sides,
    write_transcript,
    write_volume,
    written,
)
from tribrain.errors import InputError
from tribrain.studies.algonauts import (
    LEFT_OUT,
    Algonauts,
    CourtoisNeuroMod,
    read_rows,
    read_text_of_rows,
)
from tribrain.studies.runs import sort_out

GROUPS = {
    "s01e02a": ("friends-s01e02", "friends-s01"),
    "s01e02b": ("friends-s01e02", "friends-s01"),
    "s06e24d": ("friends-s06e24", "friends-s06"),
    "bourne01": ("bourne01", "bourne"),
    "life01": ("life01", "life"),
}


@pytest.fixture
def folder(tmp_path):
    return make_algonauts(tmp_path / "algonauts_2025.competitors")


def not_known(problems):
    """Problems but those of parts that are left out for everybody."""
    return [p for p in problems if p.where.split("task-")[-1] not in LEFT_OUT]


def test_every_dataset_is_a_run(folder):
    runs, problems = sort_out(Algonauts(folder).runs())
    assert not_known(problems) == []
    expected = [f"sub-{p}_{key}" for p in ALGONAUTS_PEOPLE for key in FRIENDS + MOVIE10]
    assert [run.name for run in runs] == expected
    for run in runs:
        key = run.name.split("_", 1)[1]
        assert run.bold.header() == (ALGONAUTS_ROWS, None)
        series = run.bold.load()
        np.testing.assert_array_equal(series.values, algonauts_bold(run.subject, key))
        assert (series.repetition_time, run.repetition_time) == (1.49, 1.49)
        assert (series.space.name, series.space.size) == ("schaefer1000", 1000)
        assert len(set(series.space.parcels)) == 1000
        (shown,) = run.shown
        assert (shown.onset, shown.start, shown.duration) == (0.0, 0.0, ALGONAUTS_FILM)


def test_parts_that_are_left_out_are_named_for_everybody(folder):
    runs, problems = sort_out(Algonauts(folder).runs())
    assert SKIPPED.endswith("s05e20a")
    assert not {run.task for run in runs} & set(LEFT_OUT)
    left = [p for p in problems if "left out" in p.what]
    assert {p.where for p in left} == {
        f"sub-{person}_task-{task}" for person in ALGONAUTS_PEOPLE for task in LEFT_OUT
    }
    assert not any(p.fatal for p in left)


@pytest.mark.parametrize(("split_by", "which"), [("chunk", 0), ("film", 1)])
def test_groups_hold_what_shares_seconds(folder, split_by, which):
    runs, _ = sort_out(Algonauts(folder, split_by).runs())
    assert {run.task: run.shown[0].group for run in runs} == {
        task: groups[which] for task, groups in GROUPS.items()
    }
    life = [run for run in runs if run.task == "life01" and run.subject == "01"]
    assert [(run.session, run.number) for run in life] == [("006", "1"), ("009", "2")]
    assert len({run.shown[0].source.content() for run in life}) == 1
    assert len({run.shown[0].source.content() for run in runs}) == 5


def test_unknown_split_is_refused():
    for study in (lambda: Algonauts("f", "scene"), lambda: CourtoisNeuroMod("f", "s", split_by="")):
        with pytest.raises(InputError, match=r"split_by .* is unknown; known: chunk, film"):
            study()


def test_words_are_those_of_the_rows_on_the_clock_of_the_film(folder):
    runs, _ = sort_out(Algonauts(folder).runs())
    stimulus = runs[0].shown[0].source.open()
    assert [(w.text, w.start, w.duration) for w in stimulus.words] == list(SENTENCES)
    assert stimulus.text == "So this isn't it"
    assert stimulus.modalities == ("text", "video")
    assert "word times of friends_s01e02a.tsv" in stimulus.notes
    assert not any(note.startswith("no words") for note in stimulus.notes)


def test_words_after_the_end_are_left_out_and_counted(folder):
    late = [*SENTENCES, ("end", ALGONAUTS_FILM + 1.0, 0.2)]
    write_transcript(folder / "stimuli/transcripts/movie10/bourne/movie10_bourne01.tsv", late)
    runs, _ = sort_out(Algonauts(folder).runs())
    (run,) = [r for r in runs if r.name == "sub-01_ses-001_task-bourne01"]
    stimulus = run.shown[0].source.open()
    assert len(stimulus.words) == 4
    assert any("start after the end: 1 of 5" in note for note in stimulus.notes)


HEADER = "text_per_tr\twords_per_tr\tonsets_per_tr\tdurations_per_tr\n"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("a\t['a']\t[1.0]\t[]", "row 3: 1 words, 1 onsets and 0 durations"),
        ("a\t['a'\t[1.0]\t[0.1]", r"row 3: words_per_tr is \"\['a'\", which is no list"),
        ("a\t__import__('os')\t[1.0]\t[0.1]", "which is no list"),
        ("a\t{'a': 1}\t[1.0]\t[0.1]", "which is no list"),
        ("a\t" + "[" * 5000 + "\t[1.0]\t[0.1]", "which is no list"),
        ("a\t['" + "a" * 30_000 + "']\t[1.0]\t[0.1]", "which is no list"),
        ("a\t[7]\t[1.0]\t[0.1]", "row 3: the word 7 is no text"),
        ("a\t['a']\t['1.0']\t[0.1]", "row 3: '1.0' is not a time"),
        ("a\t['a']\t[-1.0]\t[0.1]", "row 3: -1.0 is not a time"),
        ("a\t['a']\t[1e999]\t[0.1]", "row 3: inf is not a time"),
        ("a\t['a']\t[True]\t[0.1]", "row 3: True is not a time"),
        ("a\t['a']\t[nan]\t[0.1]", "onsets_per_tr is '\\[nan\\]', which is no list"),
    ],
)
def test_damaged_row_of_a_transcript_is_named(tmp_path, row, said):
    path = tmp_path / "t.tsv"
    path.write_text(HEADER + "\t[]\t[]\t[]\n" + row + "\n")
    with pytest.raises(InputError, match=said) as caught:
        read_rows(path)
    assert "\n" not in str(caught.value)


def test_transcript_without_columns_or_words(tmp_path):
    path = tmp_path / "t.tsv"
    for content in ("word\tonset\na\t1\n", HEADER):
        path.write_text(content)
        with pytest.raises(InputError, match=r"t.tsv has no column 'words_per_tr', or no rows"):
            read_rows(path)
    path.write_text(HEADER + "\t[]\t[]\t[]\n\t\t\t\n")
    assert read_rows(path) == ([], [])
    assert read_text_of_rows(path) is None


def test_words_come_in_order_with_quotation_marks(tmp_path):
    words = [('"Hey"', 2.0, 0.1), ("won't", 1.6, 0.1), ("naïve", 9.0, 0.5)]
    found, _ = read_rows(write_transcript(tmp_path / "t.tsv", words))
    assert [(w.text, w.start) for w in found] == [("won't", 1.6), ('"Hey"', 2.0), ("naïve", 9.0)]


def damage(folder, how):
    """Damage bourne01 of sub-01, or what is needed for it; the names of the runs that are lost."""
    file = parcels_file(folder, "01", "movie10")
    film = folder / "stimuli/movies/movie10/bourne/bourne01.mkv"
    key, lost = "ses-001_task-bourne01", {"sub-01_ses-001_task-bourne01"}
    values = algonauts_bold("01", key)
    both = {f"sub-{person}_{key}" for person in ALGONAUTS_PEOPLE}
    if how == "no film":
        film.unlink()
        return both
    if how == "film truncated":
        film.write_bytes(film.read_bytes()[:200])
        return both
    if how == "no transcript":
        (folder / "stimuli/transcripts/movie10/bourne/movie10_bourne01.tsv").unlink()
        return both
    if how == "film longer":
        make_film(film, 40, 9)
        return both
    if how == "run truncated":
        change_hdf5(file, key, values[:3])
    elif how == "nothing but nan":
        change_hdf5(file, key, np.full_like(values, np.nan))
    elif how == "other parcels":
        change_hdf5(file, key, values[:, :400])
    elif how == "a row of values":
        change_hdf5(file, key, values[0])
    elif how == "no file":
        file.unlink()
    elif how == "file truncated":
        file.write_bytes(file.read_bytes()[:700])
    if how in ("no file", "file truncated"):
        return {f"sub-01_{key}" for key in MOVIE10}
    return lost


@pytest.mark.parametrize(
    ("how", "where", "said"),
    [
        ("no film", "_ses-001_task-bourne01", r"bourne01\.mkv does not exist"),
        ("film truncated", "_ses-001_task-bourne01", r"bourne01\.mkv"),
        ("no transcript", "_ses-001_task-bourne01", r"movie10_bourne01\.tsv does not exist"),
        ("film longer", "_ses-001_task-bourne01", "ends at 40.0 s of the run, and the 12 volumes"),
        ("run truncated", "_ses-001_task-bourne01", "the 3 volumes of .* at 4.5 s: cut short"),
        ("nothing but nan", "_ses-001_task-bourne01", "holds nothing but NaN"),
        ("other parcels", "_ses-001_task-bourne01", r"shape \(12, 400\).* 1000 values"),
        ("a row of values", "_ses-001_task-bourne01", r"shape \(1000,\)"),
        ("no file", "_task-movie10", r"bold\.h5 does not exist; its runs cannot be used"),
        ("file truncated", "_task-movie10", r"bold\.h5 cannot be read, it seems damaged"),
    ],
)
def test_damaged_run_is_named_and_the_others_go_on(folder, how, where, said):
    every = {run.name for run in sort_out(Algonauts(folder).runs())[0]}
    lost = damage(folder, how)
    runs, problems = sort_out(Algonauts(folder).runs())
    assert {run.name for run in runs} == every - lost
    found = not_known(problems)
    assert {p.where for p in found} == {f"sub-{name[4:6]}{where}" for name in lost}
    for problem in found:
        assert problem.fatal
        assert re.search(said, problem.what)
        assert "\n" not in str(problem)


def test_rows_of_nan_are_told_and_stay(folder):
    values = algonauts_bold("05", FRIENDS[0])
    values[4:6] = np.nan
    change_hdf5(parcels_file(folder, "05", "friends"), FRIENDS[0], values)
    runs, problems = sort_out(Algonauts(folder).runs())
    (problem,) = not_known(problems)
    assert str(problem).startswith("sub-05_ses-001_task-s01e02a: 2 of 12 rows hold NaN")
    assert not problem.fatal
    (run,) = [r for r in runs if r.name == problem.where]
    gaps = np.flatnonzero(np.isnan(run.bold.load().values).all(1))
    np.testing.assert_array_equal(gaps, [4, 5])


@pytest.mark.parametrize("first_is_whole", [True, False])
def test_second_recording_of_a_part_is_used_only_without_a_first(folder, first_is_whole):
    file = parcels_file(folder, "01", "friends")
    values = algonauts_bold("01", FRIENDS[0])
    change_hdf5(file, "ses-008_task-s01e02a", values + 1)
    if not first_is_whole:
        change_hdf5(file, FRIENDS[0], values[:2])
    runs, problems = sort_out(Algonauts(folder).runs())
    used = [run.session for run in runs if (run.subject, run.task) == ("01", "s01e02a")]
    assert used == (["001"] if first_is_whole else ["008"])
    (problem,) = not_known(problems)
    assert problem.fatal
    if first_is_whole:
        assert str(problem) == (
            "sub-01_ses-008_task-s01e02a: was recorded in session 001 already, which is used"
        )


def test_key_that_is_no_run_is_told(folder):
    change_hdf5(parcels_file(folder, "01", "friends"), "summary", np.zeros((2, 1000)))
    runs, problems = sort_out(Algonauts(folder).runs())
    assert len(runs) == 12
    (problem,) = not_known(problems)
    assert str(problem).startswith("sub-01_summary: is no name of a run")


def test_folder_that_is_another(tmp_path):
    runs, problems = sort_out(Algonauts(tmp_path).runs())
    assert runs == []
    assert "holds no folders sub-*; give the folder that holds fmri" in str(problems[0])


@pytest.fixture
def volumes(tmp_path):
    stimuli = make_stimuli(tmp_path / "stimuli")
    folder = make_cneuromod(tmp_path / "cneuromod")
    return CourtoisNeuroMod(folder, stimuli, mesh="fsaverage3")


def test_volumes_of_fmriprep_are_projected(volumes):
    runs, problems = sort_out(volumes.runs())
    assert not_known(problems) == []
    assert [run.name for run in runs] == [f"sub-03_{key}" for key in (*FRIENDS[:2], *MOVIE10[1:])]
    for number, run in enumerate(runs):
        assert run.bold.header() == (ALGONAUTS_ROWS, 1.49)
        series = run.bold.load()
        np.testing.assert_allclose(sides(series.values), written(12, 10 * number), rtol=1e-5)
        assert (series.space.name, series.repetition_time) == ("fsaverage3", 1.49)
        assert run.confounds.name.endswith(f"{run.name}_desc-confounds_timeseries.tsv")
        assert run.shown[0].group == GROUPS[run.task][0]
        assert len(run.shown[0].source.open().words) == 4


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("repetition time", "states a repetition time of 2 s; the study measured every 1.49 s"),
        ("truncated", "cut short, or of another run"),
        ("no NIfTI", "cannot be read as NIfTI"),
    ],
)
def test_damaged_volume_is_named_and_the_others_go_on(volumes, how, said):
    path = volumes.folder / "friends.fmriprep/sub-03/ses-001/func" / f"sub-03_{FRIENDS[1]}_{MNI}"
    if how == "repetition time":
        write_volume(path, 12, 2.0)
    elif how == "truncated":
        write_volume(path, 3, 1.49)
    else:
        path.write_bytes(b"no NIfTI")
    runs, problems = sort_out(volumes.runs())
    assert len(runs) == 3
    (problem,) = not_known(problems)
    assert (problem.where, problem.fatal) == (f"sub-03_{FRIENDS[1]}", True)
    assert re.search(said, problem.what)


def test_films_lie_beside_the_volumes_unless_told(volumes):
    runs, _ = sort_out(volumes.runs())
    volumes.stimuli.rename(volumes.folder / "stimuli")
    beside, _ = sort_out(CourtoisNeuroMod(volumes.folder).runs())
    assert [run.name for run in beside] == [run.name for run in runs]


def test_folder_without_volumes(tmp_path):
    (problem,) = CourtoisNeuroMod(tmp_path, tmp_path).runs()
    assert "holds no volumes *.fmriprep/" in str(problem)
