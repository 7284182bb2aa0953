"""The quick start, whole, in a study of seconds."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tribrain import cli
from tribrain.errors import InputError
from tribrain.training import adapt as adapting
from tribrain.training import loop, quickstart, quickstart_scores
from tribrain.training.quickstart import QuickstartSettings, run_quickstart, summary
from tribrain.training.quickstart_scores import WAYS
from tribrain.viewing.quickstart_report import write_report

pytestmark = pytest.mark.filterwarnings("ignore::tribrain.errors.InputWarning")

TINY = QuickstartSettings(
    people=2,
    new=2,
    films=10,
    tested=2,
    validated=1,
    minutes=0.7,
    space=20,
    snr=4.0,
    adapted=(1.5, 3.0),
    changes=(
        "encoder.depth=1",
        "encoder.rank=16",
        "training.epochs=8",
        "training.batch=2",
        "training.rate=1e-2",
        "data.length=40",
        "data.step=10",
    ),
)


def seconds(stretches):
    return [(one.run.name, one.first, one.stop) for one in stretches]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The quick start: findings, what was said, and which seconds models and ridges were given."""
    folder = tmp_path_factory.mktemp("quick") / "start"
    lines, steps, adapted, fitted = [], [], [], []
    data_of, ridge_of = adapting.adaptation_data, quickstart_scores.fit_ridge

    def noted_data(*args, **kwargs):
        data = data_of(*args, **kwargs)
        adapted.append(seconds(data.side("train")))
        return data

    def noted_ridge(data, stretches):
        fitted.append(seconds(stretches))
        return ridge_of(data, stretches)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapting, "adaptation_data", noted_data)
        patch.setattr(quickstart_scores, "fit_ridge", noted_ridge)
        findings = run_quickstart(
            folder, TINY, said=lines.append, progress=lambda name, *_: steps.append(name)
        )
    return SimpleNamespace(
        findings=findings, lines=lines, steps=steps, adapted=adapted, fitted=fitted
    )


@pytest.fixture(scope="module")
def findings(told):
    return told.findings


def test_every_way_is_scored_for_everyone(told):
    findings = told.findings
    scores = findings.scores
    assert set(scores["way"]) == set(WAYS)
    for way in ("own", "ridge"):
        assert findings.rows(way)["person"].tolist() == ["01", "02"]
    for way in ("adapted", "ridge from scratch"):
        rows = findings.rows(way)
        assert sorted(zip(rows["person"], rows["minutes"], strict=True)) == [
            ("03", 1.5), ("03", 3.0), ("04", 1.5), ("04", 3.0)
        ]  # fmt: skip
    assert np.isfinite(scores[["r", "ceiling", "linear", "normalised"]]).all().all()
    assert (scores["linear"] < scores["ceiling"]).all()
    assert (scores["r"] < scores["ceiling"]).all()
    assert {"runs", "epochs", "adapting"} <= set(told.steps)
    assert [line[:6] for line in told.lines] == [f"{n} of 4" for n in (1, 2, 3, 4)]


def test_the_model_learned_and_adapting_helps_everyone(findings):
    assert findings.mean("own")[0] > 0.1
    assert findings.mean("ridge")[0] > 0.2
    unseen, adapted = (
        findings.rows(*way).set_index("person")["r"] for way in (("unseen",), ("adapted", 3.0))
    )
    assert (adapted > unseen + 0.05).all()


def test_adapted_model_and_ridge_from_scratch_are_given_the_same_seconds(told):
    assert len(told.adapted) == len(TINY.adapted) * TINY.new
    assert told.fitted[-len(told.adapted) :] == told.adapted
    for minutes, spans in zip(TINY.adapted * TINY.new, told.adapted, strict=True):
        assert sum(stop - first for _, first, stop in spans) == pytest.approx(minutes * 60)


def test_means_and_errors_are_over_people(findings):
    rows = findings.rows("own")["r"]
    mean, error = findings.mean("own")
    assert mean == pytest.approx(rows.mean())
    assert error == pytest.approx(abs(rows.iloc[0] - rows.iloc[1]) / 2)


def test_no_film_is_on_two_sides_and_new_people_are_not_trained_on(findings):
    split = pd.read_csv(findings.folder / "training" / "split.tsv", sep="\t", index_col=0)
    films = {side: set(split.loc[side, "names"].split(", ")) for side in split.index}
    assert len(films["test"]) == 2
    assert len(films["validation"]) == 1
    assert not films["train"] & (films["test"] | films["validation"])
    assert not films["test"] & films["validation"]
    assert films["held_out_seen"] == films["train"]
    card = json.loads((findings.folder / "training" / "model" / "model.json").read_text())
    assert sorted(card["subjects"]) == ["simulated/01", "simulated/02"]


def test_the_summary_is_five_lines(findings):
    lines = summary(findings)
    assert len(lines) == 5
    assert f"r {findings.mean('own')[0]:.3f}" in lines[0]
    assert f"ceiling {findings.mean('own', 'ceiling')[0]:.3f}" in lines[0]
    assert "after 3 min" in lines[4]
    assert f"not adapted {findings.mean('unseen')[0]:.3f}" in lines[4]


def test_the_report_stands_alone_and_says_that_data_are_simulated(findings):
    page = (findings.folder / "report.html").read_text() if write_report(findings) else ""
    assert "All data are simulated" in page
    assert page.count('src="data:image/png;base64,') == 3
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "<script" not in page
    for told in (f"{findings.mean('ridge')[0]:.3f}", "No film is on two sides", "ceiling"):
        assert told in page


def test_the_same_command_goes_on_and_tells_where_the_report_is(findings, monkeypatch, capsys):
    def no_step(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(loop, "_step", no_step)
    monkeypatch.setattr(
        quickstart, "QuickstartSettings", lambda seed: dataclasses.replace(TINY, seed=seed)
    )
    monkeypatch.setattr(sys, "argv", ["tribrain", "quickstart", "--out", str(findings.folder)])
    (findings.folder / "scores.tsv").unlink()
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    again = pd.read_csv(findings.folder / "scores.tsv", sep="\t", dtype={"person": str})
    pd.testing.assert_frame_equal(again, findings.scores, rtol=0, atol=1e-5)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-6:-1] == summary(findings)
    assert str(findings.folder / "report.html") in lines[-1]
    assert "simulated" in lines[-1]


def test_another_seed_in_the_folder_is_refused(findings):
    with pytest.raises(InputError, match="other settings"):
        run_quickstart(findings.folder, dataclasses.replace(TINY, seed=1))


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="something else"):
        run_quickstart(tmp_path, TINY)
    with pytest.raises(InputError, match="is a file"):
        run_quickstart(tmp_path / "mine.txt", TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_more_minutes_than_there_are_are_refused_before_anything_is_done():
    with pytest.raises(InputError, match="8 minutes of a new person"):
        dataclasses.replace(TINY, adapted=(8.0,))


def test_the_defaults_fit_together(tmp_path):
    settings = QuickstartSettings()
    recipe = settings.recipe(tmp_path)
    study = settings.study()
    assert len(set(recipe.data.test_groups) | set(recipe.data.validation_groups)) == 18
    assert recipe.data.held_out == study.subjects[-3:]
    other = dataclasses.replace(settings, seed=1).recipe(tmp_path)
    assert other.data.test_groups != recipe.data.test_groups
