"""What is left out together, and what is not trained on beside it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tribrain.errors import InputError
from tribrain.evaluation.folds import inner_folds


@st.composite
def recordings(draw: st.DrawFn) -> dict:
    runs = np.repeat(np.arange(9), draw(st.lists(st.integers(0, 40), min_size=9, max_size=9)))
    n = len(runs)
    some = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    used = np.array(some, bool) if draw(st.booleans()) else np.ones(n, bool)
    return {"n": n, "runs": runs, "used": used}


@settings(max_examples=60, deadline=None)
@given(recordings(), st.integers(2, 6), st.integers(0, 8))
def test_every_used_row_is_tested_once_and_none_of_its_neighbours_is_trained_on(given, folds, gap):
    if given["used"].sum() < 2:
        with pytest.raises(InputError, match="rows to choose a setting on"):
            inner_folds(**given, folds=folds, gap=gap)
        return
    found = inner_folds(**given, folds=folds, gap=gap)
    assert 2 <= len(found) <= folds
    tested = np.concatenate([test for _, test in found])
    np.testing.assert_array_equal(np.sort(tested), np.flatnonzero(given["used"]))
    for train, test in found:
        assert train.size
        assert given["used"][train].all()
        for run in np.unique(given["runs"]):
            inside = given["runs"] == run
            reach = min(gap, int((inside & given["used"]).sum()) // (2 * folds))
            far = np.subtract.outer(train[inside[train]], test[inside[test]])
            assert not far.size or abs(far).min() > reach


def test_blocks_of_time_are_those_of_every_run():
    found = inner_folds(70, runs=np.repeat(["a", "b"], [40, 30]), folds=5, gap=0)
    for k, (train, test) in enumerate(found):
        expected = [*range(8 * k, 8 * k + 8), *range(40 + 6 * k, 46 + 6 * k)]
        np.testing.assert_array_equal(test, expected)
        np.testing.assert_array_equal(train, np.setdiff1d(np.arange(70), expected))


def test_a_gap_does_not_cross_a_runs_edge():
    runs = np.repeat(["a", "b"], [60, 60])
    groups = np.repeat(["x", "y", "z"], [30, 30, 60])
    found = {groups[test][0]: set(train) for train, test in inner_folds(120, groups, runs, gap=6)}
    assert found["x"] == set(range(36, 120))
    assert found["y"] == {*range(24), *range(60, 120)}
    assert found["z"] == set(range(60))


def test_whole_groups_are_left_out_in_parts_of_about_as_many_rows():
    sizes = [40, 35, 20, 15, 10, 10, 5, 5]
    groups = np.repeat([f"film {k}" for k in range(8)], sizes)
    random = np.random.default_rng(0).permutation(len(groups))
    found = inner_folds(len(groups), groups[random], folds=4, gap=0)
    assert len(found) == 4
    for train, test in found:
        assert not set(groups[random][train]) & set(groups[random][test])
        assert len(train) + len(test) == len(groups)
        assert abs(len(test) - 35) <= 5


def test_one_group_among_the_used_rows_is_cut_into_blocks():
    groups = np.repeat(["a", "b"], [50, 10])
    used = np.arange(60) < 50
    with_groups = inner_folds(60, groups, used=used)
    for one, other in zip(with_groups, inner_folds(60, used=used), strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
    assert len(with_groups) == 5


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"folds": 1}, "1 folds"),
        ({"gap": -1}, "gap of -1"),
        ({"groups": ["a"]}, "group labels have shape"),
        ({"runs": [0, 1] * 10}, "do not stand together"),
        ({"used": np.ones(20, int)}, "true or false"),
        ({"used": np.arange(20) < 1}, "1 rows"),
        ({"groups": [0, 1] * 10}, "leaves nothing to train on"),
        ({"groups": [0.0, np.nan] * 10}, "is NaN"),
    ],
)
def test_what_does_not_fit_is_refused(changed, told):
    with pytest.raises(InputError, match=told):
        inner_folds(**{"n": 20, **changed})
