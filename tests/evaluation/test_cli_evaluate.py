"""`tribrain evaluate`, as a user types it."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pandas as pd
import pytest

from evaluate_makers import train_model, write_study
from tribrain.encoder.models import load_model
from tribrain.evaluation.evaluation_files import load

pytestmark = pytest.mark.filterwarnings("ignore::tribrain.errors.InputWarning")
QUICK = ["--permutations", "30", "--draws", "50"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("typed")
    write_study(folder / "study")
    train_model(folder / "study", folder / "run", "training.epochs=1")
    return folder


@pytest.fixture
def run(place, monkeypatch, run_program):
    monkeypatch.chdir(place)
    return partial(run_program, "evaluate")


@pytest.fixture
def arrays(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3))
    y = np.concatenate([np.zeros((2, 3)), x[:-2]]) @ rng.normal(size=(3, 5))
    y += rng.normal(size=y.shape)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "all.npz", y=y, fast=np.repeat(x, 4, axis=0), z=y[:10])
    np.savetxt(tmp_path / "x.tsv", x, delimiter="\t")
    return tmp_path


def test_a_model_on_a_study(run, place):
    code, out, err = run("run", "study", "--device", "cpu", "--attach", *QUICK)
    assert code == 0, err
    lines = out.splitlines()
    (head,) = [line.split() for line in lines if line.startswith("way ")]
    assert {"floor", "ceiling", "zero-shot", "R_group"} <= set(head)
    for way in ("model", "model, unseen", "fir", "fir, unseen", "shifted", "people"):
        assert any(line.startswith(f"{way}  ") for line in lines), way
    folder = place / "run_study_evaluation"
    assert lines[-1] == (
        "written to run_study_evaluation; open run_study_evaluation/report.html to look"
    )
    assert "note: no nuisance floor" in err
    found = load(folder)
    assert found.told["versions"]["tribrain"]
    assert found.told["model"] == "run"
    assert not (folder / ".work").exists()
    page = (folder / "report.html").read_text("utf-8")
    assert "model, unseen" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    kept = load_model(place / "run", device="cpu", cache=False).accuracy
    np.testing.assert_allclose(kept.values, found.maps["model/r"])
    code, _, err = run("run", "study", "--device", "cpu", *QUICK)
    assert code == 2
    assert "already" in err


def test_your_own_arrays(run, arrays):
    code, out, err = run(
        "--features", str(arrays / "x.tsv"), "--bold", f"{arrays / 'all.npz'}:y", "--tr", "2",
        "--runs", "150,150", "--baselines", "plain,fir", "--out", str(arrays / "out"), *QUICK,
    )  # fmt: skip
    assert code == 0, err
    assert out.splitlines()[-1].startswith("written to")
    found = load(arrays / "out")
    assert found.row("fir")["r"] > 0.4
    assert set(found.scores["run"].astype(str)) == {"1", "2"}
    splits = pd.read_csv(arrays / "out" / "splits.tsv", sep="\t")
    assert set(splits["side"]) == {"train", "test"}
    fast = ["--features", f"{arrays / 'all.npz'}:fast", "--feature-rate", "2"]
    code, _, err = run(
        *fast, "--bold", f"{arrays / 'all.npz'}:y", "--tr", "2", "--runs", "150,150",
        "--baselines", "plain,fir", "--out", str(arrays / "again"), *QUICK,
    )  # fmt: skip
    assert code == 0, err
    np.testing.assert_allclose(load(arrays / "again").summary["r"], found.summary["r"], atol=1e-6)


def test_two_evaluations_side_by_side(run, arrays):
    for name, delay in (("one", "fir"), ("two", "plain,fir")):
        code, _, err = run(
            "--features", str(arrays / "x.npy"), "--bold", f"{arrays / 'all.npz'}:y", "--tr", "2",
            "--baselines", delay, "--out", str(arrays / name), *QUICK,
        )  # fmt: skip
        assert code == 0, err
    code, out, err = run(
        "--compare", str(arrays / "one"), str(arrays / "two"), "--out", str(arrays / "both")
    )
    assert code == 0, err
    table = pd.read_csv(arrays / "both" / "comparison.tsv", sep="\t").set_index("way")
    assert table.loc["fir", "difference"] == pytest.approx(0, abs=1e-9)
    assert "fir" in out
    before = (arrays / "one" / "report.html").read_bytes()
    typed = ["--compare", str(arrays / "one"), str(arrays / "two"), "--out", str(arrays / "one")]
    code, _, err = run(*typed)
    assert code == 2
    assert "one holds an evaluation; choose another folder" in err
    assert (arrays / "one" / "report.html").read_bytes() == before
    assert json.loads((arrays / "both" / "comparison.json").read_text("utf-8"))["notes"] is not None


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ([], "give MODEL and STUDY"),
        (["textbook"], "on a STUDY"),
        (["run", "study", "--side", "exam", "--out", "new"], "side 'exam' is unknown"),
        (["run", "study", "--baselines", "svm", "--out", "new"], "'svm' is unknown"),
        (["run", "study", "--baselines", "svm", "--out", "new"], "textbook for the built-in"),
        (["run", "study", "--attach", "--side", "train", "--out", "new"], "no scores of --side tr"),
        (["textbook", "study", "--attach", "--out", "new"], "textbook is no folder"),
        (["run", "elsewhere"], "elsewhere is no prepared study"),
        (["textbook", "study"], "textbook predicts fsaverage5"),
        (["run", "study", "--compare", "a", "b"], "give MODEL and STUDY"),
        (["--features", "x.npy"], "--features, --bold and --tr together"),
        (["--features", "x.npy", "--bold", "all.npz", "--tr", "2"], "holds y, fast, z; name one"),
        (["--features", "x.npy", "--bold", "all.npz:q", "--tr", "2"], "has no array 'q'"),
        (
            ["--features", "x.npy", "--bold", "all.npz:z", "--tr", "2"],
            "300 rows of features and 10",
        ),
        (
            ["--features", "x.npy", "--bold", "all.npz:y", "--tr", "2", "--runs", "10,20"],
            "30 volumes, where --bold has 300",
        ),
        (
            ["--features", "x.npy", "--bold", "all.npz:y", "--tr", "2", "--groups", "a,b"],
            "2 names",
        ),
        (
            ["--features", "x.npy", "--bold", "all.npz:y", "--tr", "2", "--space", "fsaverge5"],
            "--space fsaverge5 is unknown; known: fsaverage3",
        ),
        (
            ["--features", "x.npy", "--bold", "all.npz:y", "--tr", "2", "--space", "fsaverage4"],
            "--bold has 5 outputs and fsaverage4 5124",
        ),
        (["--features", "x.npy", "--bold", "none.npy", "--tr", "2"], "none.npy does not exist"),
        (["--compare", "a", "b"], "a"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(run, arrays, place, monkeypatch, typed, said):
    if "--features" in typed:
        monkeypatch.chdir(arrays)
    code, out, err = run(*typed)
    assert code == 2
    (line,) = [line for line in err.splitlines() if line.startswith("tribrain: ")]
    assert said in line
    assert "written" not in out
    assert not (place / "new").exists()


def test_a_folder_that_holds_something_else_is_left_alone(run, arrays):
    (arrays / "out").mkdir()
    (arrays / "out" / "thesis.txt").write_text("all of it")
    code, _, err = run(
        "--features", str(arrays / "x.npy"), "--bold", f"{arrays / 'all.npz'}:y", "--tr", "2",
        "--out", str(arrays / "out"), *QUICK,
    )  # fmt: skip
    assert code == 2
    assert "holds something else (thesis.txt)" in err
    assert [path.name for path in (arrays / "out").iterdir()] == ["thesis.txt"]
