"""Kernel ridge."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge
from sklearn.utils.estimator_checks import parametrize_with_checks

from tribrain.brain.haemodynamics import fir
from tribrain.errors import InputError
from tribrain.evaluation.folds import inner_folds
from tribrain.evaluation.kernels import RBFKernelRidge, squared_distances


def _data(n: int = 120, columns: int = 6, outputs: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Outputs that are no linear function of the columns."""
    random = np.random.default_rng(1)
    x = random.normal(size=(n, columns))
    y = np.sin(x[:, :outputs]) * x[:, 1 : outputs + 1] + 3
    return x, y + 0.1 * random.normal(size=y.shape)


def _theirs(x: np.ndarray, y: np.ndarray, width: float, penalty: float) -> KernelRidge:
    return KernelRidge(
        alpha=penalty, kernel="rbf", gamma=1 / (width * 2 * x.var(axis=0).sum())
    ).fit(x, y - y.mean(axis=0))


@parametrize_with_checks([RBFKernelRidge()])
def test_is_an_estimator_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize(("kind", "tolerance"), [(np.float64, 1e-9), (np.float32, 1e-4)])
@pytest.mark.parametrize("width", [0.2, 1.0])
@pytest.mark.parametrize("penalty", [1e-2, 1.0])
def test_equals_scikit_learn(kind, tolerance, width, penalty):
    x, y = _data()
    ours = RBFKernelRidge((0.0,), (width,), (penalty,)).fit(x.astype(kind), y.astype(kind))
    theirs = _theirs(x, y, width, penalty)
    asked = np.random.default_rng(2).normal(size=(50, 6))
    found = ours.predict(asked.astype(kind))
    assert found.dtype == kind
    np.testing.assert_allclose(found, theirs.predict(asked) + y.mean(axis=0), atol=tolerance)


def test_columns_are_scaled_and_delayed_within_runs():
    x, y = _data()
    runs = np.repeat(["a", "b"], 60)
    ours = RBFKernelRidge((0.5,), (0.5,), (1.0,), delays=(0, 2)).fit(x, y, runs=runs)
    made = fir(x * np.arange(1, 7) ** -0.5, (0, 2), runs)
    theirs = _theirs(made, y, 0.5, 1.0)
    np.testing.assert_allclose(ours.predict(x, runs=runs), theirs.predict(made) + y.mean(axis=0))


@pytest.mark.parametrize("scoring", ["r", "r2"])
def test_settings_are_those_with_the_best_score_on_rows_left_out(scoring):
    x, y = _data()
    x[:, 3:] *= 0.1
    runs, groups = np.repeat([0, 1, 2], 40), np.repeat(["a", "b", "a"], 40)
    used = np.ones(120, bool)
    used[:5] = False
    y[:5] = np.nan
    exponents, widths, penalties = (0.0, 1.0), (0.3, 1.0), (0.01, 1.0, 100.0)
    given = {"runs": runs, "groups": groups, "used": used}
    ours = RBFKernelRidge(exponents, widths, penalties, scoring=scoring, gap=2).fit(x, y, **given)
    assert ours.scores_.shape == (2, 2, 3)
    scale = 2 * (x[used] * np.arange(1, 7) ** -1.0).var(axis=0).sum()
    expected = []
    for train, test in inner_folds(120, groups, runs, used, 5, 2):
        made = x * np.arange(1, 7) ** -1.0
        mean = y[train].mean(axis=0)
        theirs = KernelRidge(alpha=0.01, kernel="rbf", gamma=1 / (0.3 * scale))
        found = theirs.fit(made[train], y[train] - mean).predict(made[test]) + mean
        if scoring == "r":
            each = [np.corrcoef(found[:, k], y[test, k])[0, 1] for k in range(4)]
        else:
            each = 1 - ((found - y[test]) ** 2).mean(axis=0) / y[test].var(axis=0)
        expected.append(np.mean(each))
    np.testing.assert_allclose(ours.scores_[1, 0, 0], np.mean(expected), atol=1e-8)
    a, b, c = np.unravel_index(ours.scores_.argmax(), (2, 2, 3))
    assert (ours.exponent_, ours.width_) == (exponents[a], widths[b])
    assert ours.penalty_ == penalties[c]


def test_is_better_than_a_line_where_the_truth_is_none():
    x, y = _data(400)
    ours = RBFKernelRidge().fit(x[:300], y[:300])
    line = np.linalg.lstsq(np.c_[x[:300], np.ones(300)], y[:300], rcond=None)[0]
    flat = np.c_[x[300:], np.ones(100)] @ line
    error = ((ours.predict(x[300:]) - y[300:]) ** 2).mean()
    assert error < 0.6 * ((flat - y[300:]) ** 2).mean()


def test_outputs_that_choose_and_batches_change_nothing_else():
    x, y = _data()
    few = RBFKernelRidge(chosen_on=2, batch=3).fit(x, y)
    every = RBFKernelRidge((few.exponent_,), (few.width_,), (few.penalty_,), chosen_on=None).fit(
        x, y
    )
    np.testing.assert_allclose(few.predict(x), every.predict(x), atol=1e-12)
    assert np.isnan(every.scores_).all()  # there was nothing to choose


def test_constant_outputs_and_columns_are_predicted_by_their_mean():
    x, y = _data()
    y[:, 0] = 7.0
    found = RBFKernelRidge().fit(x, y).predict(x)
    np.testing.assert_allclose(found[:, 0], 7.0)
    same = RBFKernelRidge().fit(np.ones_like(x), y).predict(np.ones_like(x))
    np.testing.assert_allclose(same, np.tile(y.mean(axis=0), (len(x), 1)), atol=1e-9)


def test_distances_of_rows_far_from_zero():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(20, 5)), random.normal(size=(30, 5))
    exact = ((a[:, None] - b) ** 2).sum(-1)
    far = squared_distances((a + 1000).astype(np.float32), (b + 1000).astype(np.float32))
    np.testing.assert_allclose(far, exact, atol=2e-3)
    assert (squared_distances(a, a) >= 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scoring": "R"}, "scoring 'R' is unknown; known: r, r2"),
        ({"widths": ()}, "widths"),
        ({"widths": (1.0, -1.0)}, "widths"),
        ({"penalties": (0.0,)}, "penalties"),
        ({"exponents": ()}, "exponents"),
        ({"batch": 0}, "0 outputs at a time"),
        ({"chosen_on": 0}, "chosen on 0 outputs"),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    x, y = _data()
    with pytest.raises(InputError, match=message):
        RBFKernelRidge(**settings).fit(x, y)


@pytest.mark.parametrize("scoring", ["r", "r2"])
def test_an_output_that_is_constant_in_tested_rows_has_no_say(scoring):
    x, y = _data()
    dead = y.copy()
    dead[:24, 0] = 0.3  # in the first fold, as a signal that drops out in a run
    found = RBFKernelRidge(gap=0, scoring=scoring).fit(x, dead)
    assert np.abs(found.scores_).max() < 2
    fixed = np.column_stack([y, np.full(len(y), 0.1)])
    with_constant = RBFKernelRidge(gap=0, scoring=scoring).fit(x, fixed)
    without = RBFKernelRidge(gap=0, scoring=scoring).fit(x, y)
    np.testing.assert_allclose(with_constant.scores_, without.scores_, atol=1e-9)


def test_an_output_that_is_not_measured_is_named():
    x, y = _data()
    y[7, 2] = np.nan
    with pytest.raises(InputError, match="output 2 "):
        RBFKernelRidge().fit(x, y)
    used = np.arange(120) != 7
    assert np.isfinite(RBFKernelRidge().fit(x, y, used=used).predict(x)).all()
