"""Stacked regression: a ridge for each feature space, and the best mixture of them.

Each output's mixture has weights that are not negative and add up to 1, learned on predictions of
rows that the ridges were not fitted to (Breiman 1996, Machine Learning 24:49-64; for the brain
Lin, Naselaris, Kay & Wehbe 2024, Imaging Neuroscience: stacked regressions and structured variance
partitioning). A feature space that says nothing gets no weight; one ridge on all columns would have
to hold it back by its penalty alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from tribrain.brain.haemodynamics import fir
from tribrain.evaluation.bands import band_slices
from tribrain.evaluation.folds import FOLDS, GAP, inner_folds
from tribrain.evaluation.ridge_solvers import BATCH, PENALTIES
from tribrain.evaluation.ridges import FIRRidge, Labels, checked_rows

_ROUNDING = 1e-10


class StackedRegression(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Ridges of the feature spaces, mixed for each output.

    Each band's ridge is fitted to the rows of all inner folds but one, penalty and all, and
    predicts that one. From the products of those errors come the weights of the mixture
    (`simplex_weights`). The ridges that are mixed in the end are fitted to all used rows.

    Parameters
    ----------
    bands : sequence of int, optional
        Columns of each feature space, in order; by default all are one, and this is `FIRRidge`.
    delays : sequence of int
        In rows, as in `FIRRidge`.
    penalties, folds, gap, scoring, per_output, standardise, batch
        Of each ridge, as in `FIRRidge`. Folds and gap are also those of the mixture.

    Attributes
    ----------
    weights_ : ndarray (bands, outputs)
        Not negative; they add up to 1.
    estimators_ : list of FIRRidge
        One a band, fitted to its delayed columns.
    errors_ : ndarray (bands, outputs)
        Mean squared error of each band alone on rows left out; NaN of a single band, which has
        nothing to be mixed with.
    error_ : ndarray (outputs,)
        Of the mixture, on the same rows that its weights were learned on: at most the least of
        the bands'.
    """

    def __init__(
        self,
        bands: Sequence[int] | None = None,
        delays: Sequence[int] = (0,),
        penalties: Sequence[float] = PENALTIES,
        folds: int = FOLDS,
        gap: int = GAP,
        scoring: str = "r",
        per_output: bool = True,
        standardise: bool = True,
        batch: int = BATCH,
    ) -> None:
        self.bands = bands
        self.delays = delays
        self.penalties = penalties
        self.folds = folds
        self.gap = gap
        self.scoring = scoring
        self.per_output = per_output
        self.standardise = standardise
        self.batch = batch

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        runs: Labels = None,
        groups: Labels = None,
        used: Sequence[bool] | np.ndarray | None = None,
    ) -> Self:
        """Fit the ridges, and learn their weights on rows left out.

        Parameters
        ----------
        X : array-like (n, columns)
            All bands side by side.
        y : array-like (n,) or (n, outputs)
        runs, groups, used
            As told at the top of `ridges`.

        Raises
        ------
        InputError
            If bands do not add up to the columns, or what is given, or a setting, does not fit.
        """
        x, y, counts = checked_rows(self, X, y, used)
        self._slices = band_slices(self.bands, x.shape[1])
        wide = y.reshape(len(y), -1)
        parts = self._delayed(x, runs)
        taken: dict[str, Any] = {"runs": runs, "groups": groups}
        products = np.full((wide.shape[1], 1, 1), np.nan)
        self.weights_ = np.ones((1, wide.shape[1]))
        if len(parts) > 1:
            folds = inner_folds(len(x), groups, runs, counts, self.folds, self.gap)
            products = self._products(parts, wide, folds, taken) / counts.sum()
            self.weights_ = simplex_weights(products).T
        self.errors_ = np.einsum("okk->ko", products)
        self.error_ = np.einsum("ko,okl,lo->o", self.weights_, products, self.weights_)
        self.estimators_ = [self._ridge().fit(part, wide, used=counts, **taken) for part in parts]
        self._narrow = y.ndim == 1
        return self

    def predict(self, X: Any, *, runs: Labels = None) -> np.ndarray:
        """Responses (n, outputs), or (n,) where y was that.

        Parameters
        ----------
        X : array-like (n, columns)
        runs : sequence (n,), optional
            A label for each row, as in `fit`.
        """
        parts = self._parts(X, runs)
        found = next(parts)
        found *= self.weights_[0].astype(found.dtype)
        for part, weights in zip(parts, self.weights_[1:], strict=True):
            part *= weights.astype(part.dtype)
            found += part
        return found[:, 0] if self._narrow else found

    def predict_bands(self, X: Any, *, runs: Labels = None) -> np.ndarray:
        """What each band's ridge predicts alone (bands, n, outputs), not weighted.

        Parameters
        ----------
        X : array-like (n, columns)
        runs : sequence (n,), optional
        """
        return np.stack(list(self._parts(X, runs)))

    def _parts(self, x: Any, runs: Labels) -> Iterator[np.ndarray]:
        check_is_fitted(self)
        checked = validate_data(self, x, dtype=(np.float64, np.float32), reset=False)
        for part, ridge in zip(self._delayed(checked, runs), self.estimators_, strict=True):
            yield ridge.predict(part)

    def _delayed(self, x: np.ndarray, runs: Labels) -> list[np.ndarray]:
        """Delayed columns (n, columns of the band at all delays) of each band."""
        return [fir(x[:, band], self.delays, runs) for band in self._slices]

    def _ridge(self) -> FIRRidge:
        names = ("penalties", "folds", "gap", "scoring", "per_output", "standardise")
        return FIRRidge(batch=self.batch, **{name: getattr(self, name) for name in names})

    def _products(
        self,
        parts: Sequence[np.ndarray],
        y: np.ndarray,
        folds: Sequence[tuple[np.ndarray, np.ndarray]],
        taken: dict[str, Any],
    ) -> np.ndarray:
        """Products (outputs, bands, bands) of the bands' errors on rows left out."""
        found = np.zeros((y.shape[1], len(parts), len(parts)))
        for train, test in folds:
            shown = np.zeros(len(y), bool)
            shown[train] = True
            ridges = [self._ridge().fit(part, y, used=shown, **taken) for part in parts]
            pairs = zip(parts, ridges, strict=True)
            wrong = [ridge.predict(part[test]) - y[test] for part, ridge in pairs]
            for a, mine in enumerate(wrong):
                for b, other in enumerate(wrong[: a + 1]):
                    found[:, a, b] += np.einsum("ij,ij->j", mine, other, dtype=np.float64)
                    found[:, b, a] = found[:, a, b]
        return found


def simplex_weights(products: np.ndarray) -> np.ndarray:
    """The weights w >= 0 that add up to 1 with the least w' P w, for many P at once.

    An active set method, all problems in step (Lawson & Hanson 1974, Solving Least Squares
    Problems, chapter 23; here with the sum fixed): the band that lowers the error most enters, the
    others that would turn negative leave, until no band would lower it.

    Parameters
    ----------
    products : ndarray (problems, k, k)
        Symmetric, positive semi-definite: products of the errors of k predictions.

    Returns
    -------
    ndarray (problems, k)
        Exact up to rounding. Where predictions are alike any mixture of them is as good; one of
        those is returned.
    """
    problems, k = products.shape[:2]
    scale = np.einsum("okk->o", products)
    unit = products / np.where(scale > 0, scale, 1.0)[:, None, None]
    unit = unit + _ROUNDING * np.eye(k)  # one solution, where predictions are alike
    rows = np.arange(problems)
    first = np.einsum("okk->ok", unit).argmin(axis=1)
    inside = np.zeros((problems, k), bool)
    inside[rows, first] = True
    weights = inside.astype(np.float64)
    for _ in range(4 * k * k):
        slope = np.einsum("okl,ol->ok", unit, weights)
        level = np.einsum("ok,ok->o", weights, slope)
        gain = np.where(inside, -np.inf, level[:, None] - slope)
        enters = gain.argmax(axis=1)
        open_ = np.flatnonzero(gain[rows, enters] > _ROUNDING)
        if not len(open_):
            break
        inside[open_, enters[open_]] = True
        weights[open_], inside[open_] = _settled(unit[open_], weights[open_], inside[open_])
    return weights


def _settled(
    unit: np.ndarray, weights: np.ndarray, inside: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The best weights among bands inside; those that reach 0 on the way there leave."""
    weights, inside = weights.copy(), inside.copy()
    left = np.arange(len(weights))
    while len(left):
        wanted = _best_inside(unit[left], inside[left])
        here = weights[left]
        falls = inside[left] & (wanted <= 0)
        drop = np.where(falls, here - wanted, 1.0)
        step = np.where(falls, here / np.where(drop > 0, drop, 1.0), 1.0).min(axis=1)
        moved = here + step[:, None] * (wanted - here)
        leaves = falls & (moved <= _ROUNDING)
        moved[leaves] = 0.0
        weights[left] = moved
        inside[left] &= ~leaves
        left = left[falls.any(axis=1)]
    return weights / weights.sum(axis=1, keepdims=True), inside


def _best_inside(unit: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Weights that add up to 1 with the least error, those outside 0, of any sign inside."""
    k = unit.shape[1]
    both = inside[:, :, None] & inside[:, None]
    masked = np.where(both, unit, np.eye(k))
    found = np.linalg.solve(masked, inside.astype(np.float64)[:, :, None])[:, :, 0]
    found = np.where(inside, found, 0.0)
    return found / found.sum(axis=1, keepdims=True)
