"""Ridge of delayed, convolved or scaled features, as scikit-learn estimators.

All take arrays of rows in time: X (n, columns), y (n, outputs). Beside them `fit` takes

runs : sequence (n,), optional
    A label for each row; the rows of a run stand together. Delays and convolutions never cross a
    run's edge. Without it there is one run.
groups : sequence (n,), optional
    A label for each row: settings are chosen by leaving whole groups out (`inner_folds`).
used : sequence of bool (n,), optional
    Rows that are fitted to. The others only give delayed features their past; there y may be NaN.

Columns are centred on the rows fitted to. Fitted weights are kept as himalaya has them: `coef_`
(columns of the design, outputs).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from tribrain.brain.haemodynamics import convolve, fir, run_bounds
from tribrain.errors import InputError
from tribrain.evaluation.checked import Labels, checked_rows
from tribrain.evaluation.folds import FOLDS, GAP, inner_folds
from tribrain.evaluation.ridge_solvers import (
    BATCH,
    PENALTIES,
    best_penalties,
    centred_product,
    checked_penalties,
    mean_score,
    ridge_weights,
    validation_scores,
)

EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)


class _Ridge(MultiOutputMixin, RegressorMixin, BaseEstimator, ABC):
    """What the ridges here share: a design of X, and a penalty chosen by inner folds."""

    penalties: Sequence[float]
    folds: int
    gap: int
    scoring: str
    per_output: bool
    standardise: bool
    relative: bool
    batch: int

    @abstractmethod
    def _design(self, x: np.ndarray, runs: Labels) -> np.ndarray:
        """Columns of the ridge, float32 or float64."""

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        runs: Labels = None,
        groups: Labels = None,
        used: Sequence[bool] | np.ndarray | None = None,
    ) -> Self:
        """Choose the penalty on rows left out, then fit to all used rows.

        Parameters
        ----------
        X : array-like (n, columns)
        y : array-like (n,) or (n, outputs)
        runs, groups, used
            As told at the top of this module.

        Raises
        ------
        InputError
            If what is given, or a setting, does not fit.
        """
        x, y, counts = checked_rows(self, X, y, used)
        design = self._design(x, runs)
        wide = y.reshape(len(y), -1)
        scores = np.full((1, wide.shape[1]), np.nan)
        if len(checked_penalties(self.penalties)) > 1:
            folds = inner_folds(len(x), groups, runs, counts, self.folds, self.gap)
            (scores,) = validation_scores(
                design, wide, folds, self.penalties, scoring=self.scoring, **self._how()
            )
        self._settle(design, wide, counts, scores)
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
        found = centred_product(self._design(x, runs), self.coef_, self._centre, self.intercept_)
        return found[:, 0] if self._narrow else found

    def _how(self) -> dict[str, Any]:
        return {"standardise": self.standardise, "relative": self.relative, "batch": self.batch}

    def _settle(
        self,
        design: np.ndarray,
        y: np.ndarray,
        used: np.ndarray,
        scores: np.ndarray,
        scale: np.ndarray | None = None,
    ) -> None:
        """Fit with the best penalties, where scores (penalties, outputs) are known."""
        tried = np.asarray(self.penalties, np.float64)
        places = best_penalties(scores, self.penalties, self.per_output)
        self.penalty_ = tried[places]
        self.scores_ = scores[places, np.arange(scores.shape[1])]
        ends = (tried.min(), tried.max())
        self.at_edge_ = np.isin(self.penalty_, ends) & (len(tried) > 1)
        self.coef_, self.intercept_ = ridge_weights(
            design, y, np.flatnonzero(used), self.penalty_, scale=scale, **self._how()
        )
        self._centre = design[used].mean(axis=0, dtype=np.float64).astype(self.coef_.dtype)


class FIRRidge(_Ridge):
    """Ridge on delayed copies of the features: a finite impulse response for each of them.

    Dale 1999, Hum Brain Mapp 8:109-114; with ridge and films Nishimoto et al. 2011, Curr Biol
    21:1641-1646.

    Parameters
    ----------
    delays : sequence of int
        In rows: row t has the features of row t - delay. (0,) is plain ridge.
    penalties : sequence of float
        Tried ones.
    folds, gap : int
        Of the inner cross-validation, in `inner_folds`; the gap in rows.
    scoring : {"r", "r2"}
        What the chosen penalty is best at, in the mean over the folds.
    per_output : bool
        A penalty for each output; else one for all, which is the better of the two with minutes of
        a person, and where all outputs have the same features.
    standardise : bool
        Columns get variance 1 in the rows fitted to, so that features in other units, of another
        modality for example, are held back alike. Leave it out where variances tell importance,
        as those of principal components do.
    relative : bool
        Penalties are in units of the number of rows times the mean variance of the columns, so
        that they mean the same for other units and recordings; else as in scikit-learn.
    batch : int
        Outputs at a time.

    Attributes
    ----------
    coef_ : ndarray (len(delays) * columns, outputs)
        All columns at the first delay, then all at the second one.
    intercept_ : ndarray (outputs,)
    penalty_ : ndarray (outputs,)
    scores_ : ndarray (outputs,)
        Mean over the folds at that penalty: chosen for being high, so no honest score. NaN where
        there was nothing to choose.
    at_edge_ : ndarray (outputs,) of bool
        The penalty is the smallest or the largest tried one.
    """

    def __init__(
        self,
        delays: Sequence[int] = (0,),
        penalties: Sequence[float] = PENALTIES,
        folds: int = FOLDS,
        gap: int = GAP,
        scoring: str = "r",
        per_output: bool = True,
        standardise: bool = True,
        relative: bool = True,
        batch: int = BATCH,
    ) -> None:
        self.delays = delays
        self.penalties = penalties
        self.folds = folds
        self.gap = gap
        self.scoring = scoring
        self.per_output = per_output
        self.standardise = standardise
        self.relative = relative
        self.batch = batch

    def _design(self, x: np.ndarray, runs: Labels) -> np.ndarray:
        return fir(x, self.delays, runs)


class HRFRidge(_Ridge):
    """Ridge on features convolved with a canonical haemodynamic response, run by run.

    Before a run starts there is no activity: features whose value without stimulus is not 0 fit
    better after their mean was taken off.

    Parameters
    ----------
    repetition_time : float
        Seconds a row.
    response : str
        One of `brain.haemodynamics.RESPONSES`.
    penalties, folds, gap, scoring, per_output, standardise, relative, batch
        As in `FIRRidge`.

    Attributes
    ----------
    coef_ : ndarray (columns, outputs)
    intercept_, penalty_, scores_, at_edge_
        As in `FIRRidge`.
    """

    def __init__(
        self,
        repetition_time: float = 1.0,
        response: str = "spm",
        penalties: Sequence[float] = PENALTIES,
        folds: int = FOLDS,
        gap: int = GAP,
        scoring: str = "r",
        per_output: bool = True,
        standardise: bool = True,
        relative: bool = True,
        batch: int = BATCH,
    ) -> None:
        self.repetition_time = repetition_time
        self.response = response
        self.penalties = penalties
        self.folds = folds
        self.gap = gap
        self.scoring = scoring
        self.per_output = per_output
        self.standardise = standardise
        self.relative = relative
        self.batch = batch

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True  # of rows that are independent of those before
        return tags

    def _design(self, x: np.ndarray, runs: Labels) -> np.ndarray:
        if not self.repetition_time > 0:
            raise InputError(f"a repetition time of {self.repetition_time} s; more than 0 fits")
        parts = [
            convolve(x[start:stop].T, 1 / self.repetition_time, stop - start, self.response).T
            for start, stop in run_bounds(runs, len(x))
        ]
        # In double precision as they are: rounded before their mean is off, they lose digits.
        return np.concatenate(parts)


class ScaledRidge(_Ridge):
    """Ridge on components that are scaled by their rank, and one lag; all chosen inside.

    Whitened components have lost how much each of them mattered. Column k, counted from 1, times
    k^-exponent is ridge with a penalty that grows with k: a prior that the first ones matter more.

    Parameters
    ----------
    exponents : sequence of float
        Tried ones.
    lags : sequence of int
        Tried ones, in rows: row t has the features of row t - lag.
    penalties, folds, gap, scoring, relative, batch
        As in `FIRRidge`.
    per_output : bool
        A penalty for each output. Exponent and lag are those of all outputs either way.
    standardise : bool
        Before the scaling. Not by default: columns that differ in variance have told their
        importance.

    Attributes
    ----------
    exponent_, lag_ : float, int
        Those with the best mean over outputs.
    means_ : ndarray (lags, exponents)
        Scores on rows left out, as means over outputs at the best penalty.
    coef_ : ndarray (columns, outputs)
        Of lagged columns before the scaling.
    intercept_, penalty_, scores_, at_edge_
        As in `FIRRidge`; penalties are those of scaled columns.
    """

    def __init__(
        self,
        exponents: Sequence[float] = EXPONENTS,
        lags: Sequence[int] = (0,),
        penalties: Sequence[float] = PENALTIES,
        folds: int = FOLDS,
        gap: int = GAP,
        scoring: str = "r",
        per_output: bool = False,
        standardise: bool = False,
        relative: bool = True,
        batch: int = BATCH,
    ) -> None:
        self.exponents = exponents
        self.lags = lags
        self.penalties = penalties
        self.folds = folds
        self.gap = gap
        self.scoring = scoring
        self.per_output = per_output
        self.standardise = standardise
        self.relative = relative
        self.batch = batch

    def _design(self, x: np.ndarray, runs: Labels) -> np.ndarray:
        return fir(x, (self.lag_,), runs)

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        runs: Labels = None,
        groups: Labels = None,
        used: Sequence[bool] | np.ndarray | None = None,
    ) -> Self:
        """Choose exponent, lag and penalty on rows left out, then fit to all used rows.

        Parameters and errors are those of `FIRRidge.fit`.
        """
        x, y, counts = checked_rows(self, X, y, used)
        wide = y.reshape(len(y), -1)
        exponents = np.asarray(self.exponents, np.float64)
        if not exponents.size or not len(self.lags):
            raise InputError("one or more exponents and lags fit; there are none")
        scales = np.arange(1, x.shape[1] + 1) ** -exponents[:, None]
        self.means_ = np.full((len(self.lags), len(exponents)), np.nan)
        kept = np.full((1, wide.shape[1]), np.nan)
        lag, number = 0, 0
        if self.means_.size * len(checked_penalties(self.penalties)) > 1:
            folds = inner_folds(len(x), groups, runs, counts, self.folds, self.gap)
            for place, delay in enumerate(self.lags):
                scores = validation_scores(
                    *(fir(x, (delay,), runs), wide, folds, self.penalties),
                    **{"scoring": self.scoring, "scales": scales, **self._how()},
                )
                best = scores.max(axis=1)[:, None] if self.per_output else scores
                self.means_[place] = mean_score(best).max(axis=1)
                if not place or self.means_[place].max() > self.means_[:place].max():
                    lag, number = place, int(self.means_[place].argmax())
                    kept = scores[number]
        self.exponent_, self.lag_ = float(exponents[number]), int(self.lags[lag])
        self._settle(self._design(x, runs), wide, counts, kept, scales[number])
        self._narrow = y.ndim == 1
        return self
