"""Rows that are fitted to lie apart from those that are tested: in the run, and of the stimulus."""

from __future__ import annotations

import numpy as np
import pytest

from tribrain.evaluation.fits import OUTER_GAP, cross_validation
from tribrain.evaluation.rows import Part


def part(number, run, first, seconds, shown, person="1"):
    name = {"study": "s", "subject": person, "run": run, "group": "film", "side": "new"}
    return Part(number, **name, cell=number, repeat=0, seconds=np.asarray(seconds, float),
                first=first, shown=np.asarray(shown))  # fmt: skip


def closest(parts, fold, clock):
    """Least distance of a fitted row from a tested one of the same run or stimulus."""
    fitted = [clock(parts[n])[rows] for n, rows in fold.train.items()]
    tested = [clock(parts[n]) for n in fold.test]
    apart = [abs(a[:, 1:] - b[:, 1]).min() for one in fitted for two in tested
             for kind in np.intersect1d(one[:, 0], two[:, 0])
             for a, b in [(one[one[:, 0] == kind], two[two[:, 0] == kind])]]  # fmt: skip
    return min(apart, default=np.inf)


def of_stimulus(one):
    return np.stack([one.shown, one.seconds], axis=1)


def of_run(one):
    place = one.first + np.arange(one.rows)
    return np.stack([np.full(one.rows, ord(one.run)), place], axis=1)


def test_a_stimulus_that_was_shown_in_two_cuts_is_left_out_of_both():
    """Run B begins 100 s later in the film: its blocks overlap with others of run A."""
    parts = [part(k, "A", 5 + 60 * k, 60 * k + np.arange(60), np.zeros(60)) for k in range(5)]
    parts += [
        part(5 + k, "B", 5 + 60 * k, 100 + 60 * k + np.arange(60), np.zeros(60)) for k in range(5)
    ]
    folds = cross_validation(parts)
    assert sorted(n for fold in folds for n in fold.test) == list(range(10))
    for fold in folds:
        assert closest(parts, fold, of_stimulus) > OUTER_GAP
        assert closest(parts, fold, of_run) > OUTER_GAP
        assert sum(rows.sum() for rows in fold.train.values()) >= 240


def test_a_gap_does_not_end_where_another_stimulus_of_the_run_begins():
    """Two stimuli of 90 s, one after the other, in three blocks; seconds begin anew."""
    seconds, shown = np.tile(np.arange(90), 2), np.repeat([0, 1], 90)
    blocks = np.split(np.arange(180), 3)
    parts = [part(k, "A", int(b[0]), seconds[b], shown[b]) for k, b in enumerate(blocks)]
    folds = cross_validation(parts)
    assert len(folds) == 3
    for fold in folds:
        assert closest(parts, fold, of_run) == OUTER_GAP + 1
    middle = folds[1]  # holds the end of one and the beginning of the other
    assert {n: int(rows.sum()) for n, rows in middle.train.items()} == {0: 45, 2: 45}


def test_other_stimuli_at_the_same_seconds_are_fitted_to():
    parts = [part(0, "A", 0, np.arange(60), np.zeros(60)),
             part(1, "A", 60, 60 + np.arange(60), np.zeros(60)),
             part(2, "B", 0, np.arange(80), np.ones(80), "2"),
             part(3, "B", 80, 80 + np.arange(80), np.ones(80), "2")]  # fmt: skip
    first, second = cross_validation(parts)
    assert {n: int(rows.sum()) for n, rows in first.train.items()} == {1: 45, 3: 65}
    assert {n: int(rows.sum()) for n, rows in second.train.items()} == {0: 45, 2: 65}
    with pytest.raises(KeyError):
        first.train[0]
