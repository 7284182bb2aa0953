"""The study verbs, as a user types them."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from tribrain.studies.catalogue import STUDIES, open_study, study_class
from tribrain.studies.prepared import open_prepared

SMALL = ["--set", "n_subjects=2", "--set", "films=12", "--set", "minutes=0.5"]

pytestmark = pytest.mark.filterwarnings("ignore::tribrain.errors.InputWarning")


@pytest.fixture
def run(tmp_path, monkeypatch, run_program):
    monkeypatch.chdir(tmp_path)

    return partial(run_program, "study")


def test_every_study_has_its_facts_and_a_class(run):
    code, out, _ = run("list")
    assert code == 0
    listed = [line.split()[0] for line in out.splitlines()]
    assert listed == list(STUDIES)
    for name in STUDIES:
        cls = study_class(name)
        assert cls.__doc__
        for fact in ("name", "licence", "citation", "tested_on"):
            assert hasattr(cls, fact) or fact in cls.__dataclass_fields__


def test_check_tells_what_is_there_and_ends_with_0_or_1(run, tmp_path):
    code, out, _ = run("check", "simulated", *SMALL)
    assert code == 0
    assert "24 runs of 2 people" in out
    assert "nothing looks wrong" in out
    folder = tmp_path / "alice"
    (folder / "alice_data_shared").mkdir(parents=True)
    code, out, _ = run("check", f"alice:{folder}")
    assert code == 1
    assert "task-alice" in out


def test_prepare_goes_on_and_split_shows_the_sides(run, tmp_path):
    code, out, _ = run("prepare", "simulated", *SMALL, "--out", "store")
    assert code == 0
    assert out.splitlines()[-1].endswith("24 runs (0 reused), 0 left out")
    code, out, _ = run("prepare", "simulated", *SMALL, "--out", "store")
    assert out.splitlines()[-1].endswith("24 runs (24 reused), 0 left out")
    study = open_prepared(tmp_path / "store")
    assert study.space.name == "fsaverage3"
    assert np.isfinite(study.window(study.runs[0], 0, 5)).any()
    code, out, err = run("split", "store", "--validation", "0.25", "--held-out", "sub-02")
    assert code == 0, err
    sides = [line.split()[0] for line in out.splitlines()[2:]]
    assert sides == ["train", "validation", "held_out_seen", "held_out_unseen"]


def test_split_by_names_of_groups_and_verify(run, tmp_path):
    run("prepare", "simulated", *SMALL, "--out", "store")
    names = ["--validation-groups", "film2, film3", "--test-groups=film5"]
    code, out, err = run("split", "store", *names)
    assert code == 0, err
    rows = {line.split()[0]: line for line in out.splitlines()[2:]}
    assert list(rows) == ["train", "validation", "test"]
    assert rows["validation"].endswith("film2, film3")
    assert rows["test"].endswith(" film5")
    code, _, err = run("split", "store", "--test-groups", "film99")
    assert code == 2
    assert "test group 'film99' is unknown" in err

    assert run("verify", "store")[:2] == (0, "store: 24 runs, all as they were written\n")
    array = open_prepared(tmp_path / "store").runs[3].array
    data = bytearray(array.read_bytes())
    data[-5] ^= 1
    array.write_bytes(data)
    code, out, err = run("verify", "store")
    assert code == 1
    assert array.name in out
    told = "store: 24 runs, 1 file damaged; --remove, and prepare the study again"
    assert out.splitlines()[-1] == told
    assert run("verify", "store", "--remove")[0] == 1
    run("prepare", "simulated", *SMALL, "--out", "store")
    assert run("verify", "store")[0] == 0


def test_notes_of_runs_are_told_once(run, monkeypatch):
    from pathlib import Path

    from tribrain.studies.prepare import Report

    notes = {"a": ("x is so", "y"), "b": ("x is so",)}
    report = Report(Path("store"), ["a", "b"], notes=notes)
    monkeypatch.setattr("tribrain.studies.prepare.prepare", lambda *_, **__: report)
    code, out, err = run("prepare", "simulated", *SMALL, "--out", "store")
    assert code == 0
    told = [line for line in err.splitlines() if line.startswith("note")]
    assert told == ["note (2 runs): x is so", "note (a): y"]
    assert out.splitlines()[-1] == "store: 2 runs (0 reused), 0 left out"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "sing:/data"], "known: song, alice"),
        (["check", "song"], "song:FOLDER"),
        (["check", "nowhere"], "no folder"),
        (["check", "simulated", "--set", "people"], "KEY=VALUE"),
        (["check", "simulated", "--set", "persons=3"], "n_subjects"),
        (["check", "simulated", "--set", "n_subjects=0"], "n_subjects"),
        (["check", "simulated:/data"], "needs no folder"),
        (["prepare", "simulated", *SMALL, "--dtype", "int8", "--out", "s"], "float16"),
        (["prepare", "simulated", *SMALL, "--workers", "0", "--out", "s"], "workers"),
        (["split", "nowhere"], "no prepared study"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(run, tmp_path, arguments, words):
    code, out, err = run(*arguments)
    assert code == 2, out
    assert len([line for line in err.splitlines() if line.startswith("tribrain: ")]) == 1
    assert words in err


def test_settings_are_read_as_their_fields_are(tmp_path):
    study = open_study("simulated", {"nonlinear": "true", "snr": "2", "space": "fsaverage4"})
    assert (study.nonlinear, study.snr, study.space) == (True, 2.0, "fsaverage4")
    assert open_study("simulated", {"space": "60"}).space == 60
