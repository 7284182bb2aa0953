"""Ridge of many penalties against scikit-learn and himalaya, fold by fold."""

from __future__ import annotations

import numpy as np
import pytest
from himalaya.ridge import RidgeCV
from himalaya.scoring import correlation_score, r2_score
from sklearn.linear_model import Ridge as Reference

from tribrain.errors import InputError
from tribrain.evaluation.folds import inner_folds
from tribrain.evaluation.ridge_solvers import (
    best_penalties,
    mean_score,
    ridge_weights,
    validation_scores,
)

TRIED = np.logspace(-1, 4, 6)
SHAPES = {"tall": (120, 20), "between": (70, 45), "wide": (60, 80)}


def made(n: int, columns: int, dtype=np.float64, outputs: int = 7):
    """Columns of unequal variance and mean, and noisy answers."""
    random = np.random.default_rng(n)
    x = random.normal(size=(n, columns)) * random.uniform(0.3, 3, columns) + 5
    y = x @ random.normal(size=(columns, outputs)) + 10 * random.normal(size=(n, outputs)) + 3
    return x.astype(dtype), y.astype(dtype)


def prepared(x: np.ndarray, rows: np.ndarray, scale, standardise: bool) -> np.ndarray:
    x = x.astype(float) - x[rows].mean(axis=0, dtype=float)
    return x / (x[rows].std(axis=0) if standardise else 1) * scale


def unit(x: np.ndarray, rows: np.ndarray, relative: bool) -> float:
    return len(rows) * x[rows].var(axis=0).mean() if relative else 1.0


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize("scoring", ["r", "r2"])
@pytest.mark.parametrize("shape", list(SHAPES))
def test_scores_are_those_of_predictions(shape, scoring, standardise, relative, dtype):
    x, y = made(*SHAPES[shape], dtype)
    scales = np.stack([np.ones(x.shape[1]), np.arange(1, x.shape[1] + 1) ** -0.5])
    folds = inner_folds(len(x))
    how = {"standardise": standardise, "relative": relative}
    found = validation_scores(x, y, folds, TRIED, scoring=scoring, scales=scales, batch=3, **how)
    expected = np.zeros((len(scales), len(TRIED), y.shape[1]))
    for train, test in folds:
        for number, scale in enumerate(scales):
            some = prepared(x, train, scale, standardise)
            for place, penalty in enumerate(TRIED * unit(some, train, relative)):
                fitted = Reference(alpha=penalty).fit(some[train], y[train].astype(float))
                guess, truth = fitted.predict(some[test]), y[test].astype(float)
                if scoring == "r2":
                    left = ((guess - truth) ** 2).sum(0) / ((truth - truth.mean(0)) ** 2).sum(0)
                    each = 1 - left
                else:
                    each = [np.corrcoef(*two)[0, 1] for two in zip(guess.T, truth.T, strict=True)]
                expected[number, place] += np.asarray(each) / len(folds)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 if dtype == np.float64 else 3e-5)


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize("shape", list(SHAPES))
def test_weights_are_those_of_scikit_learn(shape, standardise, relative):
    x, y = made(*SHAPES[shape])
    rows, scale = np.arange(6, len(x)), np.arange(1, x.shape[1] + 1) ** -0.25
    penalties = np.random.default_rng(1).choice(TRIED, y.shape[1])
    how = {"standardise": standardise, "relative": relative}
    weights, intercept = ridge_weights(x, y, rows, penalties, scale=scale, batch=2, **how)
    some = prepared(x, rows, scale, standardise)
    alphas = penalties * unit(some, rows, relative)
    expected = Reference(alpha=alphas).fit(some[rows], y[rows]).predict(some)
    np.testing.assert_allclose(x @ weights + intercept, expected, atol=1e-9)


class Folds:
    """Folds as scikit-learn and himalaya take them."""

    def __init__(self, folds):
        self.folds = folds

    def split(self, x, y=None, groups=None):
        return iter(self.folds)

    def get_n_splits(self, x=None, y=None, groups=None):
        return len(self.folds)


@pytest.mark.parametrize("per_output", [True, False])
@pytest.mark.parametrize(("scoring", "score"), [("r2", r2_score), ("r", correlation_score)])
def test_himalaya_chooses_and_predicts_the_same(scoring, score, per_output):
    x, y = made(200, 30, outputs=25)
    folds = inner_folds(len(x))
    alphas = np.logspace(0, 5, 8)
    solver = {"score_func": score, "local_alpha": per_output}
    rival = RidgeCV(alphas, fit_intercept=True, solver_params=solver, cv=Folds(folds)).fit(x, y)
    (scores,) = validation_scores(x, y, folds, alphas, scoring=scoring, relative=False)
    places = best_penalties(scores, alphas, per_output)
    np.testing.assert_allclose(alphas[places], rival.best_alphas_)
    best = scores[places, np.arange(25)]
    np.testing.assert_allclose(best, rival.cv_scores_, atol=1e-6)
    weights, intercept = ridge_weights(x, y, np.arange(200), alphas[places], relative=False)
    np.testing.assert_allclose(x @ weights + intercept, rival.predict(x), atol=1e-5)


@pytest.mark.parametrize("shape", ["tall", "wide"])
@pytest.mark.parametrize("standardise", [True, False])
def test_columns_that_are_constant_in_the_rows_fitted_to_count_for_nothing(shape, standardise):
    x, y = made(*SHAPES[shape])
    folds = inner_folds(len(x))
    odd = np.tile([1e3, -7e5], (len(x), 1))
    odd[folds[0][1]] += np.random.default_rng(2).normal(size=(len(folds[0][1]), 2))
    with_odd = np.concatenate([x, odd], axis=1)
    plain, found = (
        validation_scores(some, y, folds[:1], TRIED, standardise=standardise)
        for some in (x, with_odd)
    )
    np.testing.assert_allclose(found, plain, atol=1e-9)
    train = folds[0][0]
    penalties = np.full(y.shape[1], 0.1)
    plain, found = (
        ridge_weights(some, y, train, penalties, standardise=standardise)[0]
        for some in (x, with_odd)
    )
    np.testing.assert_allclose(found[:-2], plain, atol=1e-9)
    assert not found[-2:].any()


@pytest.mark.parametrize("shape", ["tall", "wide"])
def test_large_means_do_not_cost_digits(shape):
    x, y = made(*SHAPES[shape])
    folds = inner_folds(len(x))
    near, far = (
        validation_scores((x + shift).astype(np.float64), (y - shift).astype(np.float32), folds)
        for shift in (0, 1000)
    )
    np.testing.assert_allclose(near, far, atol=2e-4)  # what float32 keeps of y - 1000


def test_what_does_not_vary_scores_nothing():
    x, y = made(60, 5)
    y[:, 0] = 4.25
    folds = inner_folds(60)
    assert not validation_scores(x, y, folds)[0, :, 0].any()
    assert np.isneginf(validation_scores(x, y, folds, scoring="r2")[0, :, 0]).all()
    weights, intercept = ridge_weights(x, y, np.arange(60), np.ones(7))
    np.testing.assert_allclose(weights[:, 0], 0, atol=1e-12)
    assert intercept[0] == pytest.approx(4.25)


def test_of_equal_penalties_the_largest_is_taken_and_missing_scores_do_not_count():
    scores = np.array([[0.2, 0.0, -np.inf], [0.2, 0.0, 0.1], [0.1, 0.0, 0.1]])
    np.testing.assert_array_equal(best_penalties(scores, [10.0, 1.0, 0.1], True), [0, 0, 1])
    np.testing.assert_array_equal(best_penalties(scores, [0.1, 1.0, 10.0], True), [1, 2, 2])
    np.testing.assert_allclose(mean_score(scores), [0.1, 0.1, 0.2 / 3])
    np.testing.assert_array_equal(best_penalties(scores, [0.1, 1.0, 10.0], False), [1, 1, 1])
    assert np.isneginf(mean_score(np.full((1, 2), -np.inf))).all()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"penalties": []}, "penalties"),
        ({"penalties": [1.0, 0.0]}, "positive numbers fit"),
        ({"scoring": "mse"}, "known: r, r2"),
        ({"batch": 0}, "0 outputs at a time"),
    ],
)
def test_what_does_not_fit_is_refused(changed, told):
    x, y = made(30, 3)
    with pytest.raises(InputError, match=told):
        validation_scores(x, y, inner_folds(30), **changed)
