"""Kernel ridge: the response is a smooth function of the features, not a linear one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from tribrain.brain.haemodynamics import fir
from tribrain.errors import InputError
from tribrain.evaluation.folds import FOLDS, GAP, inner_folds
from tribrain.evaluation.ridge_solvers import BATCH, SCORINGS, checked_penalties
from tribrain.evaluation.ridges import Labels, checked_rows

WIDTHS = (0.25, 0.5, 1.0)
"""Of the kernel: its scale as a share of the mean squared distance between two rows."""
PENALTIES = tuple(float(p) for p in 10.0 ** np.arange(-0.5, 1.6, 0.5))
"""Added to the diagonal of the kernel, which is 1 there."""
_AT_ONCE = 2048
"""Rows that are predicted at once: their kernel with the rows fitted to lies in memory."""
_FLAT = 1e-10
"""Sum of squares about the mean, as a share of that about 0, up to which tested rows of an output
count as constant."""
_ROUNDING = 1e-6
"""Least penalty, as a share of the rows, that a kernel in float32 is positive definite with."""


class RBFKernelRidge(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Ridge on a Gaussian kernel, exp(-d^2 / (width * mean d^2)), of scaled and delayed columns.

    Exponent, width and penalty are the ones, the same for all outputs, with the best score when
    parts of the rows are left out. One kernel serves all outputs, penalties and folds of a width,
    and is factorised for each penalty and fold (for five penalties Cholesky factors take half the
    time of eigenvalues, and less memory).

    Parameters
    ----------
    exponents : sequence of float
        Column k (from 0) is multiplied by (k + 1)^-exponent. With components in falling order of
        variance that were whitened, this gives them weight again; 0 leaves columns as they are.
    widths : sequence of float
        The mean squared distance is that of the rows fitted to.
    penalties : sequence of float
        Added to the kernel's diagonal, which is 1.
    delays : sequence of int
        In rows; columns are those of all delays. They never cross the edge of a run.
    folds, gap : int
        Of the inner cross-validation, in `inner_folds`; the gap in rows.
    scoring : {"r", "r2"}
        Mean over outputs, then over folds.
    chosen_on : int, optional
        At most so many outputs, evenly spaced, choose the settings; None for all of them.
    batch : int
        Outputs at a time.

    Attributes
    ----------
    exponent_, width_, penalty_ : float
    scores_ : ndarray (exponents, widths, penalties)
    mean_ : ndarray (outputs,)
        Of the rows fitted to.
    dual_coef_ : ndarray (rows fitted to, outputs)
    rows_ : ndarray (rows fitted to, columns)
        Scaled and delayed.
    scale_ : float
        width * mean d^2.

    Notes
    -----
    Work is in the type of y, float32 or float64; float32 is twice as fast. Penalties that are too
    small for float32 are worked out in float64. In memory lie three arrays (rows, rows).
    """

    def __init__(
        self,
        exponents: Sequence[float] = (0.0, 0.5),
        widths: Sequence[float] = WIDTHS,
        penalties: Sequence[float] = PENALTIES,
        delays: Sequence[int] = (0,),
        folds: int = FOLDS,
        gap: int = GAP,
        scoring: str = "r",
        chosen_on: int | None = 512,
        batch: int = BATCH,
    ) -> None:
        self.exponents = exponents
        self.widths = widths
        self.penalties = penalties
        self.delays = delays
        self.folds = folds
        self.gap = gap
        self.scoring = scoring
        self.chosen_on = chosen_on
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
        """Choose exponent, width and penalty on rows left out, then fit to all used rows.

        Parameters
        ----------
        X : array-like (n, columns)
        y : array-like (n,) or (n, outputs)
        runs, groups, used
            As told at the top of `ridges`.

        Raises
        ------
        InputError
            If what is given, or a setting, does not fit.
        """
        x, y, counts = checked_rows(self, X, y, used)
        self._check()
        x = x.astype(y.dtype, copy=False)
        targets = y.reshape(len(y), -1)[counts]
        self.mean_ = targets.mean(axis=0, dtype=np.float64).astype(y.dtype)
        targets = targets - self.mean_
        folds = inner_folds(len(x), groups, runs, counts, self.folds, self.gap)
        shape = (len(self.exponents), len(self.widths), len(self.penalties))
        self.scores_ = np.full(shape, np.nan)
        best: tuple[Any, ...] = (0, 0, 0)
        if self.scores_.size > 1:
            place = np.cumsum(counts) - 1  # of a row among those used
            within = [(place[train], place[test]) for train, test in folds]
            some = targets[:, _spaced(targets.shape[1], self.chosen_on)]
            scores = [self._path(k, some, within) for k in self._kernels(x, runs, counts)]
            self.scores_ = np.reshape(scores, shape)
            best = np.unravel_index(self.scores_.argmax(), shape)
        values = zip((self.exponents, self.widths, self.penalties), best, strict=True)
        self.exponent_, self.width_, self.penalty_ = (float(one[at]) for one, at in values)
        self.rows_ = self._columns(x, runs, self.exponent_)[counts]
        self.scale_ = self.width_ * _mean_distance(self.rows_)
        factor = _factor(self._kernel(self.rows_), self.penalty_)
        self.dual_coef_ = np.empty_like(targets)
        for first in range(0, targets.shape[1], self.batch):
            part = slice(first, first + self.batch)
            self.dual_coef_[:, part] = cho_solve(factor, targets[:, part], check_finite=False)
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
        check_is_fitted(self)
        x = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        columns = self._columns(x.astype(self.rows_.dtype, copy=False), runs, self.exponent_)
        found = np.empty((len(columns), len(self.mean_)), self.dual_coef_.dtype)
        for first in range(0, len(columns), _AT_ONCE):
            part = slice(first, first + _AT_ONCE)
            found[part] = self._kernel(columns[part]) @ self.dual_coef_
        found += self.mean_
        return found[:, 0] if self._narrow else found

    def _kernel(self, columns: np.ndarray) -> np.ndarray:
        """Kernel (rows, rows fitted to)."""
        return np.exp(squared_distances(columns, self.rows_) / -self.scale_)

    def _check(self) -> None:
        if self.scoring not in SCORINGS:
            raise InputError(f"scoring {self.scoring!r} is unknown; known: {', '.join(SCORINGS)}")
        checked_penalties(self.penalties)
        if not len(self.widths) or min(self.widths) <= 0:
            raise InputError(f"widths {list(self.widths)}: one or more above 0 fit")
        if not len(self.exponents):
            raise InputError("one or more exponents fit; there are none")
        if self.batch < 1:
            raise InputError(f"{self.batch} outputs at a time; 1 or more fit")
        if self.chosen_on is not None and self.chosen_on < 1:
            raise InputError(
                f"settings chosen on {self.chosen_on} outputs; 1 or more, or None, fit"
            )

    def _columns(self, x: np.ndarray, runs: Labels, exponent: float) -> np.ndarray:
        """Columns scaled by their number and delayed."""
        scale = np.arange(1, x.shape[1] + 1) ** -float(exponent)
        return fir(x * scale.astype(x.dtype), self.delays, runs)

    def _kernels(self, x: np.ndarray, runs: Labels, used: np.ndarray) -> Iterator[np.ndarray]:
        """The kernel of the used rows for each exponent and width."""
        for exponent in self.exponents:
            columns = self._columns(x, runs, exponent)[used]
            distances = squared_distances(columns, columns)
            mean = _mean_distance(columns)
            for width in self.widths:
                yield np.exp(distances / -(width * mean))

    def _path(
        self,
        kernel: np.ndarray,
        targets: np.ndarray,
        folds: Sequence[tuple[np.ndarray, np.ndarray]],
    ) -> np.ndarray:
        """Score of each penalty: mean over outputs, then over folds."""
        found = np.zeros((len(folds), len(self.penalties)))
        for fold, (train, test) in enumerate(folds):
            shown = kernel[np.ix_(train, train)]
            asked = kernel[np.ix_(test, train)]
            mean = targets[train].mean(axis=0)
            answered, truth = targets[train] - mean, targets[test] - mean
            for place, penalty in enumerate(self.penalties):
                factor = _factor(shown, penalty)
                # The shorter side is what is solved for.
                if answered.shape[1] < len(test):
                    predicted = asked @ cho_solve(factor, answered)
                else:
                    predicted = cho_solve(factor, asked.T).T @ answered
                found[fold, place] = _mean_score(predicted, truth, self.scoring)
        return found.mean(axis=0)


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances (rows of a, rows of b); rounding never makes one negative.

    Both are taken about the mean of b, so that a large mean costs no digits.
    """
    centre = b.mean(axis=0)
    a, b = a - centre, b - centre
    found = a @ b.T
    found *= -2
    found += np.einsum("ij,ij->i", a, a)[:, None]
    found += np.einsum("ij,ij->i", b, b)
    return np.maximum(found, 0, out=found)


def _mean_distance(columns: np.ndarray) -> float:
    """Mean squared distance between two rows: twice the sum of the variances; 1 where it is 0."""
    return float(2 * columns.var(axis=0, dtype=np.float64).sum()) or 1.0


def _factor(kernel: np.ndarray, penalty: float) -> tuple[np.ndarray, bool]:
    """Cholesky factor of a kernel with the penalty on its diagonal."""
    kind = np.float64 if penalty < _ROUNDING * len(kernel) else kernel.dtype
    shifted = kernel.astype(kind)
    shifted.flat[:: len(kernel) + 1] += penalty
    # Symmetric: the transpose has the order that LAPACK works on in place.
    return cho_factor(shifted.T, overwrite_a=True, check_finite=False)


def _mean_score(predicted: np.ndarray, truth: np.ndarray, scoring: str) -> float:
    """Mean over outputs of r or R2; outputs that do not vary do not count, 0 if none does."""
    about = truth - truth.mean(axis=0)
    power = np.einsum("ij,ij->j", about, about)
    # Rounding leaves a little of a constant, by which an error must not be divided.
    counts = power > _FLAT * np.einsum("ij,ij->j", truth, truth)
    if scoring == "r2":
        error = ((truth - predicted) ** 2).sum(axis=0)
        scores = 1 - error[counts] / power[counts]
    else:
        predicted = predicted - predicted.mean(axis=0)
        scale = np.sqrt(power * np.einsum("ij,ij->j", predicted, predicted))
        shared = np.einsum("ij,ij->j", about, predicted)
        scores = (shared / np.where(scale > 0, scale, np.inf))[counts]
    return float(scores.mean()) if len(scores) else 0.0


def _spaced(outputs: int, most: int | None) -> np.ndarray:
    """At most `most` of the outputs, evenly spaced."""
    if most is None or outputs <= most:
        return np.arange(outputs)
    return np.linspace(0, outputs - 1, most).round().astype(int)
