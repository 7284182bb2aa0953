"""Ridge on the mean of people who saw the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, clone
from sklearn.utils.validation import check_is_fitted, validate_data

from tribrain.errors import InputError
from tribrain.evaluation.checked import Labels, checked_rows
from tribrain.evaluation.ridge_solvers import BATCH
from tribrain.evaluation.ridges import FIRRidge


class GroupMeanRidge(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """A ridge, or another estimator of rows in time, on the mean of people who saw the same.

    Rows of all people are given one below the other. Each person's outputs are z-scored run by
    run, on used rows; rows of the same moment are averaged over the people who have them; and the
    base is fitted to the means. What is predicted is the mean of z-scored people: a person never
    seen, too.

    Parameters
    ----------
    base : estimator, optional
        One whose `fit` takes `runs`, `groups` and `used`, such as those of this package; by default
        `FIRRidge()`.

    Attributes
    ----------
    base_ : estimator
        The fitted one.
    moments_ : int
        Rows that it was fitted to.
    """

    def __init__(self, base: Any = None) -> None:
        self.base = base

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        people: Labels = None,
        shown: Labels = None,
        runs: Labels = None,
        groups: Labels = None,
        used: Sequence[bool] | np.ndarray | None = None,
    ) -> Self:
        """Average the people, and fit the base to what they have in common.

        Parameters
        ----------
        X : array-like (n, columns)
            Rows of the same moment are averaged as y is.
        y : array-like (n,) or (n, outputs)
        people : sequence (n,), optional
            Who each row is of; without it all are of one person.
        shown : sequence (n,), optional
            What each row shows, such as a film and its second: rows of one label are one moment.
            Without it the people have equally many rows, and the first ones show the same, and so
            on.
        runs : sequence (n,), optional
            A label for each row; the rows of a person's run stand together. Moments stand as in
            the first person who has them; what only later people have begins a run of its own,
            which has no past. So give people who saw a run whole first.
        groups, used
            As told at the top of `ridges`; a moment has the group of its first row.

        Raises
        ------
        InputError
            If labels are not one a row, or people without `shown` have unequal numbers of rows.
        """
        x, y, counts = checked_rows(self, X, y, used)
        n = len(x)
        who = np.zeros(n, int) if people is None else _numbers(people, n, "people")
        moments = _counted(who) if shown is None else _numbers(shown, n, "shown")
        wide = _zscored(y.reshape(n, -1), who, runs, counts)
        size = int(moments.max()) + 1
        first = np.full(size, n)
        np.minimum.at(first, moments, np.arange(n))
        x_mean = _means(x, moments, np.ones(n, bool), size)
        y_mean = _means(wide, moments, counts, size)
        breaks = np.diff(first) != 1
        if runs is not None:
            labels = _numbers(runs, n, "runs")[first]
            breaks |= labels[1:] != labels[:-1]
        taken: dict[str, Any] = {
            "runs": np.concatenate([[0], np.cumsum(breaks)]),
            "used": np.bincount(moments[counts], minlength=size) > 0,
        }
        if groups is not None:
            taken["groups"] = _numbers(groups, n, "groups")[first]
        self.base_ = clone(self.base) if self.base is not None else FIRRidge()
        self.base_.fit(x_mean, y_mean[:, 0] if y.ndim == 1 else y_mean, **taken)
        self.moments_ = int(taken["used"].sum())
        return self

    def predict(self, X: Any, *, runs: Labels = None) -> np.ndarray:
        """The group's responses (n, outputs), in standard deviations of a person."""
        check_is_fitted(self)
        x = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        return self.base_.predict(x, runs=runs)


def _numbers(labels: Labels, n: int, name: str) -> np.ndarray:
    """Labels as numbers (n,), in the order of their first rows."""
    values = np.asarray(labels)
    if values.shape != (n,):
        raise InputError(f"{name} has shape {values.shape}; a label for each of {n} rows fits")
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in values.tolist()])


def _counted(who: np.ndarray) -> np.ndarray:
    """The number of each row among those of its person."""
    sizes = np.bincount(who)
    if (sizes != sizes[0]).any():
        raise InputError(
            f"people have {', '.join(map(str, sizes[:10]))} rows: without `shown`, which tells "
            "rows of the same moment, equal numbers fit"
        )
    found = np.empty(len(who), int)
    for person in range(len(sizes)):
        found[who == person] = np.arange(sizes[person])
    return found


def _zscored(y: np.ndarray, who: np.ndarray, runs: Labels, used: np.ndarray) -> np.ndarray:
    """Outputs with mean 0 and standard deviation 1 in each person's run; constant ones 0."""
    labels = np.zeros(len(y), int) if runs is None else _numbers(runs, len(y), "runs")
    found = np.zeros_like(y)
    for one in np.unique(np.stack([who, labels]), axis=1).T:
        rows = np.flatnonzero((who == one[0]) & (labels == one[1]) & used)
        if rows.size:
            values = y[rows] - y[rows].mean(axis=0, dtype=np.float64)
            scale = np.sqrt((values * values).mean(axis=0))
            found[rows] = values / np.where(scale > 0, scale, np.inf)
    return found


def _means(values: np.ndarray, moments: np.ndarray, rows: np.ndarray, size: int) -> np.ndarray:
    """Mean (size, columns) over those rows that are of each moment; 0 where there are none."""
    chosen = np.flatnonzero(rows)
    chosen = chosen[np.argsort(moments[chosen], kind="stable")]
    of = moments[chosen]
    starts = np.flatnonzero(np.diff(of, prepend=-1))
    place = np.arange(len(of)) - np.repeat(starts, np.diff(starts, append=len(of)))
    count = np.maximum(np.bincount(of, minlength=size), 1)[:, None]
    found = np.empty((size, values.shape[1]), values.dtype)
    for first in range(0, values.shape[1], BATCH):
        part = slice(first, first + BATCH)
        total = np.zeros((size, found[:, part].shape[1]))
        for turn in range(int(place.max(initial=-1)) + 1):  # the first rows of all moments, ...
            some = place == turn
            total[of[some]] += values[chosen[some], part]
        found[:, part] = total / count
    return found
