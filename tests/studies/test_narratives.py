"""Narratives: its layout, its clocks and groups, its words, damage to it."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

from testing_makers import (
    NARRATIVES,
    NARRATIVES_VOLUMES,
    make_narratives,
    narratives_bold,
    write_ramp,
    write_surfaces,
)
from tribrain.errors import InputError
from tribrain.studies.narratives import Narratives, read_gentle
from tribrain.studies.runs import sort_out

HERE = {"space": "fsaverage5"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_narratives(tmp_path_factory.mktemp("narratives"))


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "ds002345")


def found(folder, **options):
    return sort_out(Narratives(folder, **(HERE | options)).runs())


def told(problems):
    return [str(problem) for problem in problems if problem.fatal]


def func(folder, stem):
    return folder / "derivatives" / "afni-nosmooth" / stem.split("_")[0] / "func"


def test_every_recording_is_a_run_with_its_sounds(made):
    runs, problems = found(made)
    assert told(problems) == []
    assert [run.name for run in runs] == sorted(NARRATIVES)
    assert {run.repetition_time for run in runs} == {1.5}
    shown = {run.name: [(s.condition, s.onset, s.duration) for s in run.shown] for run in runs}
    assert shown == {
        "sub-001_task-pieman_run-1": [("pieman", 0.0, 37.0)],
        "sub-001_task-pieman_run-2": [("pieman", 0.0, 37.0)],
        "sub-001_task-tunnel": [("tunnel", 3.0, 30.0)],
        "sub-023_task-milkyway": [("milkywayvodka", 0.0, 30.0)],
        "sub-023_task-notthefalllongscram": [("notthefalllongscram", 4.5, 27.5)],
        "sub-049_task-schema_run-1": [("friends", 12.93, 9.0), ("bigbang", 25.0, 8.0)],
    }


def test_versions_of_a_story_share_a_group(made):
    runs, _ = found(made)
    groups = {shown.condition: shown.group for run in runs for shown in run.shown}
    assert groups["milkywayvodka"] == "milkyway"
    assert groups["notthefalllongscram"] == "notthefall"
    assert (groups["friends"], groups["tunnel"]) == ("friends", "tunnel")
    twice = [run.shown[0].source.content() for run in runs if run.task == "pieman"]
    assert len(twice) == 2
    assert len(set(twice)) == 1


@pytest.mark.parametrize("stem", ["sub-001_task-tunnel", "sub-049_task-schema_run-1"])
def test_bold_is_what_was_written(made, stem):
    runs, _ = found(made)
    (run,) = (run for run in runs if run.name == stem)
    assert run.bold.header() == (NARRATIVES_VOLUMES, 1.5)
    series = run.bold.load()
    assert (series.space.name, series.repetition_time) == ("fsaverage5", 1.5)
    np.testing.assert_allclose(series.values, narratives_bold(stem), rtol=1e-6)


def test_fsaverage6_is_the_default_and_is_taken_to_fsaverage5(tmp_path):
    folder = make_narratives(tmp_path / "six")
    stem = "sub-001_task-tunnel"
    values = np.empty((24, 2 * 40962), np.float32)
    values[:, :40962], values[:, 40962:] = np.arange(24)[:, None], -np.arange(24)[:, None]
    write_surfaces(func(folder, stem), stem, values, "fsaverage6", None)
    runs, problems = sort_out(Narratives(folder).runs())
    assert [run.name for run in runs] == [stem]
    assert (
        sum("space-fsaverage6_hemi-L_desc-clean.func.gii" in line for line in told(problems)) == 5
    )
    series = runs[0].bold.load()
    assert series.values.shape == (24, 20484)
    np.testing.assert_allclose(series.values[:, 77], np.arange(24), atol=1e-4)
    np.testing.assert_allclose(series.values[:, 20000], -np.arange(24), atol=1e-4)


def test_volumes_and_confounds_of_fmriprep(folder):
    preproc = folder / "derivatives" / "fmriprep" / "sub-001" / "func"
    name = "sub-001_task-tunnel_space-MNI152NLin2009cAsym_res-native_desc-preproc_bold.nii.gz"
    write_ramp(preproc / name, 24, 1.5)
    confounds = preproc / "sub-001_task-tunnel_desc-confounds_regressors.tsv"
    confounds.write_text("global_signal\n1\n")
    runs, _ = found(folder, space="MNI152NLin2009cAsym", pipeline="fmriprep")
    (run,) = runs
    assert run.confounds == confounds
    assert (run.bold.template, run.bold.header()) == ("MNI152NLin2009cAsym", (24, 1.5))


def test_words_lie_at_their_seconds_and_unaligned_ones_between(made):
    runs, _ = found(made)
    (shown,) = runs[0].shown
    stimulus = shown.source.open()
    assert [word.text for word in stimulus.words] == ("I began my illustrious career Bronx".split())
    assert stimulus.modalities == ("text", "audio")
    assert stimulus.duration == pytest.approx(40.0)
    # Two words of 1 and 3 counted syllables share the 2 s between 16.1 and 18.1 s.
    between = stimulus.words[2:4]
    assert [word.start for word in between] == pytest.approx([16.1, 16.6])
    assert [word.source for word in stimulus.words] == (
        ["transcript"] * 2 + ["interpolated"] * 2 + ["transcript"] * 2
    )
    assert any("2 of 6 words; each lies between" in note for note in stimulus.notes)
    assert not any(note.startswith("no words") for note in stimulus.notes)


def test_a_sound_without_words_is_told_once_and_stays(made):
    runs, problems = found(made)
    (problem,) = problems
    assert (problem.where, problem.fatal) == ("notthefalllongscram_audio.wav", False)
    (run,) = (run for run in runs if run.task == "notthefalllongscram")
    stimulus = run.shown[0].source.open()
    assert stimulus.words == ()
    assert "no words" in stimulus.notes


def test_runs_that_the_study_excludes_are_left_out(folder):
    (folder / "code" / "scan_exclude.json").write_text(
        '{"pieman": {"sub-001": ["sub-001_task-pieman_run-2"]},'
        ' "tunnel": {"sub-001": ["sub-001_task-tunnel"]}}'
    )
    runs, problems = found(folder)
    assert len(runs) == 4
    assert told(problems) == [
        "sub-001_task-pieman_run-2: is left out: the study lists it in code/scan_exclude.json",
        "sub-001_task-tunnel: is left out: the study lists it in code/scan_exclude.json",
    ]
    assert len(found(folder, keep_excluded=True)[0]) == 6
    (folder / "code" / "scan_exclude.json").write_text('{"pieman": ["sub')
    runs, problems = found(folder)
    assert len(runs) == 6
    assert any("scan_exclude.json cannot be read" in str(problem) for problem in problems)


def damage(folder, how):
    """Spoil the run of the tunnel."""
    stem = "sub-001_task-tunnel"
    left = func(folder, stem) / f"{stem}_space-fsaverage5_hemi-L_desc-clean.func.gii"
    events = folder / "sub-001" / "func" / f"{stem}_events.tsv"
    if how == "one hemisphere":
        left.with_name(left.name.replace("hemi-L", "hemi-R")).unlink()
    elif how == "no BOLD":
        left.unlink()
    elif how == "no events":
        events.unlink()
    elif how == "no sound":
        (folder / "stimuli" / "tunnel_audio.wav").unlink()
    elif how == "repetition time":
        write_surfaces(left.parent, stem, narratives_bold(stem), "fsaverage5", 2.0)
    elif how == "truncated":
        write_surfaces(left.parent, stem, narratives_bold(stem)[:20], "fsaverage5", 1.5)
    elif how == "stimulus longer":
        events.write_text(events.read_text().replace("30.0", "300.0"))
    elif how == "no GIFTI":
        left.write_bytes(left.read_bytes()[:80])
    elif how == "no column":
        events.write_text(events.read_text().replace("stim_file", "file"))
    elif how == "short row":
        events.write_text(events.read_text() + "50.0\t1.0\n")
    elif how == "no time":
        events.write_text(events.read_text().replace("3.0\t", "three\t"))
    elif how == "words":
        (folder / "stimuli" / "gentle" / "tunnel" / "align.csv").write_text("I,i,1.5,late\n")
    elif how == "no stimulus":
        events.write_text(events.read_text().replace("tunnel_audio.wav", "n/a"))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("one hemisphere", r"hemi-R_desc-clean\.func\.gii does not exist"),
        ("no BOLD", r"no \*_space-fsaverage5_hemi-L_desc-clean\.func\.gii in derivatives/afni-nos"),
        ("no events", r"sub-001_task-tunnel_events\.tsv is not there"),
        ("no sound", r"stimulus .*tunnel_audio\.wav does not exist"),
        ("repetition time", r"states a repetition time of 2 s; the study measured every 1\.5 s"),
        ("truncated", r"stimulus ends at 33\.0 s of the run, and the 20 volumes of .* at 30\.0 s"),
        ("stimulus longer", r"ends at 303\.0 s of the run, and the 26 volumes of .* at 39\.0 s"),
        ("no GIFTI", r"cannot be read as GIFTI"),
        ("no column", r"has no column stim_file; it has: onset, duration, trial_type, file"),
        ("short row", r"events\.tsv, row 3: 2 cells; the header has 4"),
        ("no time", r"row 2: onset 'three' is not a time in seconds"),
        ("words", r"align\.csv, row 1: offset 'late' is not a time in seconds"),
        ("no stimulus", r"events\.tsv names no sound"),
    ],
)
def test_damaged_run_is_named_and_the_others_go_on(folder, how, said):
    damage(folder, how)
    runs, problems = found(folder)
    assert len(runs) == 5
    (problem,) = (problem for problem in problems if problem.fatal)
    assert problem.where == "sub-001_task-tunnel"
    assert re.search(said, problem.what)
    assert "\n" not in str(problem)


def test_one_run_in_two_files_is_used_once(folder):
    preproc = folder / "derivatives" / "fmriprep" / "sub-001" / "func"
    for resolution in ("", "_res-native"):
        name = f"sub-001_task-tunnel_space-MNI152NLin2009cAsym{resolution}_desc-preproc_bold.nii.gz"
        write_ramp(preproc / name, 24, 1.5)
    runs, problems = found(folder, space="MNI152NLin2009cAsym", pipeline="fmriprep")
    assert [run.name for run in runs] == ["sub-001_task-tunnel"]
    assert "sub-001_task-tunnel: is there twice; the first one is used" in told(problems)


def test_nan_rows_stay_nan(folder):
    stem = "sub-001_task-tunnel"
    values = narratives_bold(stem)
    values[4] = np.nan
    write_surfaces(func(folder, stem), stem, values, "fsaverage5", 1.5)
    runs, _ = found(folder)
    (run,) = (run for run in runs if run.name == stem)
    np.testing.assert_array_equal(np.isnan(run.bold.load().values), np.isnan(values))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,a,1,2\nb,b,3\n", r"row 2: 3 cells; word, word as aligned, onset and offset fit"),
        ("a,a,1,2\nb,b,x,4\n", r"row 2: onset 'x' is not a time in seconds"),
        ("a,a,1,2\nb,b,5,4\n", r"row 2: the offset 4 s lies before the onset 5 s"),
        ("a,a,1,2\nb,b,5,\n", r"row 2: offset '' is not a time in seconds"),
        ("a,a,-1,2\n", r"row 1: onset '-1' is not a time"),
        ("a,a,,\nb,b,,\n", r"times no word"),
        ("", r"is empty"),
    ],
)
def test_damaged_alignment_is_refused(tmp_path, content, said):
    path = tmp_path / "align.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=said):
        read_gentle(path)


def test_words_before_the_first_time_and_after_the_last(tmp_path):
    path = tmp_path / "align.csv"
    path.write_text("oh,oh,,\nwell,well,0.3,0.5\nthe,the,,\nend,end,,\n")
    words, notes = read_gentle(path)
    assert [word.text for word in words] == ["oh", "well", "the", "end"]
    assert [word.start for word in words] == pytest.approx([0.1, 0.3, 0.5, 0.7])
    assert words[-1].end == pytest.approx(0.9)
    assert notes == [f"without a time in {path}: 3 of 4 words; each lies between its neighbours"]


def test_unknown_choices_and_an_empty_folder(tmp_path):
    with pytest.raises(InputError, match="space 'T1w' is unknown; known: fsaverage6, fsaverage5"):
        Narratives(tmp_path, space="T1w")
    with pytest.raises(InputError, match="pipeline 'raw' is unknown; known: afni-nosmooth"):
        Narratives(tmp_path, pipeline="raw")
    runs, (problem,) = found(tmp_path)
    assert runs == []
    assert "give the folder of ds002345" in str(problem)
