"""What is done where there is little to fit to, and that it is said."""

from __future__ import annotations

import numpy as np
import pytest

from tribrain.evaluation import fits
from tribrain.evaluation.fits import LEAST_FITTED, Fitted, Fold, fit_mean, fit_own
from tribrain.evaluation.rows import Part
from tribrain.evaluation.scoring import BOLD, Scorer, Way
from tribrain.evaluation.tables import Ceilings, Settings, tabulate
from tribrain.evaluation.work import Work

N, OUTPUTS = 60, 4


def parts(people=("01", "02"), spans=2):
    return [
        Part(
            number, "made", person, f"{person}-{span}", f"film{span}", "test", span, 0,
            np.arange(float(N)),
        )
        for number, (person, span) in enumerate((p, s) for p in people for s in range(spans))
    ]  # fmt: skip


def counted(fitted, made):
    """Folds that test the second film and fit to some rows of the first."""
    rows = np.zeros(N, bool)
    rows[:fitted] = True
    return [
        Fold(
            {p.number: rows for p in made if p.cell == 0},
            {p.number: np.ones(N, bool) for p in made if p.cell == 1},
        )
    ]


@pytest.mark.parametrize("enough", [True, False])
def test_nothing_is_fitted_to_fewer_rows_than_are_scored(tmp_path, monkeypatch, enough):
    made = parts()
    folds = counted(LEAST_FITTED - (not enough), made)
    calls = []

    def fake(rows, fold, baseline, train, y):
        calls.append(len(train))
        return lambda part: np.zeros((part.rows, OUTPUTS), np.float32)

    class Sums:
        def mean(self, without=None):
            return np.zeros((N, OUTPUTS), np.float32)

    class Rows:
        parts = tuple(made)

        def bold(self, part):
            return np.zeros((N, OUTPUTS), np.float32)

    monkeypatch.setattr(fits, "_fit", fake)
    monkeypatch.setattr(fits, "_sums", lambda rows, some: Sums())
    work = Work(tmp_path / "work", "key")
    without = fit_own(Rows(), folds, Fitted("own", lambda bands: None), work)
    assert without == ([] if enough else ["made/01", "made/02"])
    for leave_out in (True, False):
        name = f"mean{leave_out}"
        fit_mean(Rows(), folds, Fitted(name, lambda bands: None), work, leave_out=leave_out)
    assert bool(calls) == enough
    assert work.has("own", 1) == enough
    assert work.has("meanTrue", 1) == enough
    assert work.has("meanFalse", "cell1") == enough


def test_ways_that_lack_rows_and_floors_of_other_rows_are_told(tmp_path):
    made = parts()
    work = Work(tmp_path / "work", "key")
    rng = np.random.default_rng(0)
    for part in made:
        work.put(rng.normal(size=(N, OUTPUTS)).astype(np.float32), BOLD, part.number)
        work.put(rng.normal(size=(N, OUTPUTS)).astype(np.float32), "whole", part.number)
        if part.cell == 0:
            for name in ("some", "floor"):
                work.put(rng.normal(size=(N, OUTPUTS)).astype(np.float32), name, part.number)
    ways = [Way(name, "") for name in ("whole", "some", "floor")]
    scorer = Scorer(work, made, np.ones(OUTPUTS, bool))
    assert scorer.add_people()
    floors = {"whole": "floor", "some": "floor"}
    found = tabulate(scorer, made, ways, floors, Ceilings("none"), Settings(20, 20, 0))
    told = [note for note in found.notes if "rows" in note]
    assert len(told) == 3
    assert "the floor of whole is of 120 of its 240 rows" in told
    for name in ("some", "floor"):
        assert any(one.startswith(f"{name}: 120 of 240 rows of its people") for one in told)
