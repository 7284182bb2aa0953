"""Banded ridge: each feature space has a penalty of its own, chosen for each output.

`fit` takes beside X (n, columns) and y (n, outputs) what the estimators of `ridges` take: `runs`,
`groups` and `used`, as told there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from tribrain.errors import InputError
from tribrain.evaluation.banded_solvers import (
    Search,
    dirichlet,
    grid,
    search_himalaya,
    search_sums,
)
from tribrain.evaluation.bands import band_slices, delayed_bands
from tribrain.evaluation.folds import FOLDS, GAP, inner_folds
from tribrain.evaluation.ridge_paths import FLAT
from tribrain.evaluation.ridge_solvers import BATCH, SCORINGS, centred_product, checked_penalties
from tribrain.evaluation.ridges import Labels, checked_rows

PENALTIES = tuple(float(p) for p in 10.0 ** np.arange(-3, 4, 0.75))
"""Multiples of the number of rows: columns have a mean variance of 1."""
SOLVERS = ("sums", "himalaya")
BACKENDS = ("numpy", "torch", "torch_cuda")


class _Banded(MultiOutputMixin, RegressorMixin, BaseEstimator, ABC):
    """What the two estimators share: all but the weights that are tried."""

    bands: Sequence[int] | None
    penalties: Sequence[float]
    delays: Sequence[int]
    folds: int
    gap: int
    scoring: str
    solver: str
    backend: str
    batch: int

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        runs: Labels = None,
        groups: Labels = None,
        used: Sequence[bool] | np.ndarray | None = None,
    ) -> Self:
        """Choose weights and penalty of each output on rows left out, then fit to all used rows.

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
        if self.scoring not in SCORINGS:
            raise InputError(f"scoring {self.scoring!r} is unknown; known: {', '.join(SCORINGS)}")
        if self.solver not in SOLVERS:
            raise InputError(f"solver {self.solver!r} is unknown; known: {', '.join(SOLVERS)}")
        if self.backend not in BACKENDS:
            raise InputError(f"backend {self.backend!r} is unknown; known: {', '.join(BACKENDS)}")
        slices = band_slices(self.bands, x.shape[1])
        delayed, columns = delayed_bands(x, slices, self.delays, runs)
        scale = _band_scale(delayed, np.flatnonzero(counts), columns)
        # Scaling rounds: of columns far from 0 it would leave less of what varies.
        centre = delayed[counts].mean(axis=0, dtype=np.float64).astype(delayed.dtype)
        delayed -= centre
        delayed *= scale
        wide = y.reshape(len(y), -1)
        folds = inner_folds(len(x), groups, runs, counts, self.folds, self.gap)
        found = self._search(delayed, wide, columns, counts, folds)
        self.coef_ = found.coef * scale[:, None].astype(found.coef.dtype)
        self._centre = centre.astype(self.coef_.dtype)
        self.intercept_ = found.intercept - centre.astype(float) @ self.coef_.astype(float)
        self.band_weights_ = found.weights
        self.penalty_ = found.penalties / counts.sum()
        with np.errstate(divide="ignore"):
            self.deltas_ = np.log(found.weights / found.penalties)
        self.cv_scores_ = found.scores
        self._slices, self._narrow = slices, y.ndim == 1
        return self

    def predict(self, X: Any, *, runs: Labels = None) -> np.ndarray:
        """Responses (n, outputs), or (n,) where y was that.

        Parameters
        ----------
        X : array-like (n, columns)
        runs : sequence (n,), optional
            A label for each row, as in `fit`.
        """
        delayed, _ = self._delayed(X, runs)
        found = centred_product(delayed, self.coef_, self._centre, self.intercept_)
        return found[:, 0] if self._narrow else found

    def predict_bands(self, X: Any, *, runs: Labels = None) -> np.ndarray:
        """The share of each band (bands, n, outputs); with `intercept_` they add up to `predict`.

        Parameters
        ----------
        X : array-like (n, columns)
        runs : sequence (n,), optional
        """
        delayed, columns = self._delayed(X, runs)
        delayed = delayed.astype(self.coef_.dtype, copy=False)
        return np.stack([delayed[:, band] @ self.coef_[band] for band in columns])

    def _delayed(self, x: Any, runs: Labels) -> tuple[np.ndarray, list[slice]]:
        check_is_fitted(self)
        checked = validate_data(self, x, dtype=(np.float64, np.float32), reset=False)
        return delayed_bands(checked, self._slices, self.delays, runs)

    @abstractmethod
    def _candidates(self, bands: int) -> np.ndarray:
        """Weights (candidates, bands) to try; each adds up to 1."""

    def _search(
        self,
        x: np.ndarray,
        y: np.ndarray,
        columns: Sequence[slice],
        used: np.ndarray,
        folds: Sequence[tuple[np.ndarray, np.ndarray]],
    ) -> Search:
        rows = np.flatnonzero(used)
        candidates = self._candidates(len(columns))
        penalties = checked_penalties(self.penalties) * len(rows)
        if self.solver == "himalaya":
            place = np.cumsum(used) - 1  # of a row among those used
            within = [(place[train], place[test]) for train, test in folds]
            x, y = x[rows], y[rows]
            return search_himalaya(
                *(x.astype(y.dtype, copy=False), y, columns, candidates, penalties, within),
                *(self.scoring, self.batch, self.backend),
            )
        return search_sums(
            x, y, rows, columns, candidates, penalties, folds, self.scoring, self.batch
        )


class BandedRidge(_Banded):
    """Ridge with a penalty for each band, from a grid, chosen for each output.

    Bands have weights that add up to 1, and a penalty in common: the penalty of a band alone is
    penalty / weight. The grid has every combination of some levels whose largest is 1: all alike,
    one band alone, and steps between (`banded_solvers.grid`).

    Parameters
    ----------
    bands : sequence of int, optional
        Columns of each feature space, in order; by default all are one.
    penalties : sequence of float
        Multiples of the number of used rows. Before, bands are scaled so that each has the same
        variance in all, and columns a mean variance of 1.
    delays : sequence of int
        In rows; delayed columns stay in their band and never cross a run's edge.
    most : int
        Combinations tried. Where the grid has more, all alike and one band alone come first, and
        the others are drawn.
    seed : int
        Of that draw.
    folds, gap : int
        Of the inner cross-validation, in `inner_folds`; the gap in rows.
    scoring : {"r", "r2"}
        What is chosen is best at, in the mean over the folds.
    solver : {"sums", "himalaya"}
        Sums of products (or, with fewer rows than columns, a kernel), or himalaya's multiple-kernel
        ridge. The result is the same; with many rows the sums are many times faster.
    backend : str
        That himalaya works with: "numpy", "torch", "torch_cuda".
    batch : int
        Outputs at a time.

    Attributes
    ----------
    band_weights_ : ndarray (bands, outputs)
        They add up to 1.
    penalty_ : ndarray (outputs,)
    deltas_ : ndarray (bands, outputs)
        Log of weight / (penalty * rows), as himalaya has it; -inf for a band that is left out.
    cv_scores_ : ndarray (candidates, outputs)
        Chosen for being high, so no honest scores.
    coef_ : ndarray (len(delays) * columns, outputs)
        Of a band all columns at the first delay, then all at the second one, then the next band.
    intercept_ : ndarray (outputs,)
    """

    def __init__(
        self,
        bands: Sequence[int] | None = None,
        penalties: Sequence[float] = PENALTIES,
        delays: Sequence[int] = (0,),
        most: int = 32,
        seed: int = 0,
        folds: int = FOLDS,
        gap: int = GAP,
        scoring: str = "r",
        solver: str = "sums",
        backend: str = "numpy",
        batch: int = BATCH,
    ) -> None:
        self.bands = bands
        self.penalties = penalties
        self.delays = delays
        self.most = most
        self.seed = seed
        self.folds = folds
        self.gap = gap
        self.scoring = scoring
        self.solver = solver
        self.backend = backend
        self.batch = batch

    def _candidates(self, bands: int) -> np.ndarray:
        return grid(bands, self.most, self.seed)


class GroupKernelRidge(_Banded):
    """Ridge with a linear kernel for each band, whose weights are drawn at random.

    The weights are drawn as himalaya's random search draws them, and each output has those that
    predict it best (Dupré la Tour et al. 2022, NeuroImage 264:119728). Otherwise as `BandedRidge`,
    of which this is the form for many bands.

    Parameters
    ----------
    bands : sequence of int, optional
        Columns of each feature space, in order; by default all are one.
    n_iter : int
        Weights drawn; the first ones are equal.
    seed : int
    penalties, delays, folds, gap, scoring, solver, backend, batch
        As in `BandedRidge`.

    Attributes
    ----------
    band_weights_, penalty_, deltas_, cv_scores_, coef_, intercept_
        As in `BandedRidge`.
    """

    def __init__(
        self,
        bands: Sequence[int] | None = None,
        n_iter: int = 20,
        seed: int = 0,
        penalties: Sequence[float] = PENALTIES,
        delays: Sequence[int] = (0,),
        folds: int = FOLDS,
        gap: int = GAP,
        scoring: str = "r",
        solver: str = "sums",
        backend: str = "numpy",
        batch: int = BATCH,
    ) -> None:
        self.bands = bands
        self.n_iter = n_iter
        self.seed = seed
        self.penalties = penalties
        self.delays = delays
        self.folds = folds
        self.gap = gap
        self.scoring = scoring
        self.solver = solver
        self.backend = backend
        self.batch = batch

    def _candidates(self, bands: int) -> np.ndarray:
        if self.n_iter < 1:
            raise InputError(f"{self.n_iter} draws of weights; 1 or more fit")
        return np.ones((1, 1)) if bands == 1 else dirichlet(bands, self.n_iter, self.seed)


def _band_scale(x: np.ndarray, rows: np.ndarray, bands: Sequence[slice]) -> np.ndarray:
    """What columns are multiplied by, so that bands have equal variance over some rows.

    The columns' mean variance is then 1, for any weights that add up to 1. A band that does not
    vary stays as it is.
    """
    shown = x[rows]
    variance = shown.var(axis=0, dtype=np.float64)
    # Rounding leaves a little of a constant: no variance to scale by.
    variance[variance <= FLAT * shown.mean(axis=0, dtype=np.float64) ** 2] = 0.0
    scale = np.ones(x.shape[1], x.dtype)
    for band in bands:
        total = variance[band].sum()
        if total > 0:
            scale[band] = np.sqrt(x.shape[1] / total)
    return scale
