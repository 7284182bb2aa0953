"""Stacked regression."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.utils.estimator_checks import parametrize_with_checks

from band_makers import BANDS, banded_data, correlations
from tribrain.errors import InputError
from tribrain.evaluation.folds import inner_folds
from tribrain.evaluation.ridges import FIRRidge
from tribrain.evaluation.stacking import StackedRegression, simplex_weights


@parametrize_with_checks([StackedRegression()])
def test_is_an_estimator_of_scikit_learn(estimator, check):
    check(estimator)


def _products(problems: int, k: int, rank: int, seed: int) -> np.ndarray:
    """Of errors that have much in common, as those of predictions of one output have."""
    random = np.random.default_rng(seed)
    errors = random.normal(size=(problems, k, rank)) + random.normal(size=(problems, 1, rank))
    errors *= random.uniform(0.5, 2, size=(problems, k, 1))
    return errors @ errors.transpose(0, 2, 1)


@pytest.mark.parametrize(("k", "rank"), [(1, 5), (2, 10), (3, 50), (6, 4), (12, 100)])
def test_weights_equal_a_general_solver(k, rank):
    products = _products(8, k, rank, seed=k)
    found = simplex_weights(products)
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)
    for one, weights in zip(products, found, strict=True):
        unit = one / np.trace(one)
        theirs = minimize(
            *(lambda w, p=unit: w @ p @ w, np.full(k, 1 / k)),
            jac=lambda w, p=unit: 2 * p @ w,
            bounds=[(0, 1)] * k,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 1000},
        )
        assert weights @ unit @ weights <= theirs.fun + 1e-8
        if rank > k:  # one solution
            np.testing.assert_allclose(weights, theirs.x, atol=1e-4)


def test_weights_are_best_by_the_conditions_of_karush_kuhn_and_tucker():
    products = _products(2000, 5, 20, seed=3)
    found = simplex_weights(products)
    unit = products / np.einsum("okk->o", products)[:, None, None]
    slope = np.einsum("okl,ol->ok", unit, found)
    level = np.einsum("ok,ok->o", found, slope)[:, None]
    assert (slope > level - 1e-8).all()  # no band would lower the error
    np.testing.assert_allclose(np.where(found > 0, slope - level, 0), 0, atol=1e-8)
    assert 0 < (found == 0).mean() < 1


def test_weights_of_odd_problems():
    alike = np.ones((1, 3, 3))
    np.testing.assert_allclose(simplex_weights(alike).sum(), 1)
    assert (simplex_weights(alike) >= 0).all()
    np.testing.assert_allclose(simplex_weights(np.zeros((2, 3, 3))).sum(axis=1), 1)
    perfect = np.diag([1.0, 0.0, 2.0])[None]
    np.testing.assert_allclose(simplex_weights(perfect), [[0, 1, 0]], atol=1e-6)
    independent = np.diag([1.0, 4.0])[None]  # inverse variances
    np.testing.assert_allclose(simplex_weights(independent), [[0.8, 0.2]], atol=1e-8)


def test_products_are_of_errors_on_rows_left_out():
    x, y = banded_data(150)
    runs = np.repeat([0, 1, 2], 50)
    used = np.ones(150, bool)
    used[:4] = False
    y[:4] = np.nan
    given = {"runs": runs, "used": used}
    ours = StackedRegression(BANDS, (0, 1), folds=3, gap=2).fit(x, y, **given)
    errors = np.full((3, *y.shape), np.nan)
    edges = np.cumsum([0, *BANDS])
    for train, test in inner_folds(150, None, runs, used, 3, 2):
        shown = np.isin(np.arange(150), train)
        for k in range(3):
            part = x[:, edges[k] : edges[k + 1]]
            ridge = FIRRidge((0, 1), folds=3, gap=2).fit(part, y, runs=runs, used=shown)
            errors[k][test] = (ridge.predict(part, runs=runs) - y)[test]
    products = np.einsum("krv,lrv->vkl", errors[:, used], errors[:, used]) / used.sum()
    np.testing.assert_allclose(ours.errors_, np.einsum("vkk->kv", products))
    np.testing.assert_allclose(ours.weights_, simplex_weights(products).T, atol=1e-8)
    assert (ours.error_ <= ours.errors_.min(axis=0) + 1e-9).all()
    mixed = np.einsum("kv,krv->rv", ours.weights_, ours.predict_bands(x, runs=runs))
    np.testing.assert_allclose(ours.predict(x, runs=runs), mixed)


def test_bands_that_say_nothing_get_little_weight():
    x, y = banded_data(600)
    ours = StackedRegression(BANDS).fit(x[:300], y[:300])
    assert ours.weights_[1].max() < 0.15
    assert ours.weights_[2, ::2].max() < 0.15
    assert ours.weights_[2, 1::2].min() > 0.2
    alone = FIRRidge().fit(x[:300, 5:25], y[:300]).predict(x[300:, 5:25])
    found = correlations(ours.predict(x[300:]), y[300:])
    assert (found > correlations(alone, y[300:]) + 0.3).all()


def test_one_band_is_a_ridge():
    x, y = banded_data(100)
    ours = StackedRegression(delays=(0, 1)).fit(x, y)
    np.testing.assert_allclose(ours.predict(x), FIRRidge((0, 1)).fit(x, y).predict(x))
    np.testing.assert_array_equal(ours.weights_, 1)
    assert ours.errors_.shape == (1, y.shape[1])
    assert np.isnan(ours.errors_).all()  # nothing was left out to learn weights on


def test_float32_stays_so_and_agrees():
    x, y = banded_data(200)
    single = StackedRegression(BANDS).fit(x.astype(np.float32), y.astype(np.float32))
    found = single.predict(x.astype(np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, StackedRegression(BANDS).fit(x, y).predict(x), atol=1e-3)


def test_bands_must_add_up():
    x, y = banded_data(50)
    with pytest.raises(InputError, match=r"bands \[5, 20\]: one or more columns each, 33 in all"):
        StackedRegression((5, 20)).fit(x, y)
