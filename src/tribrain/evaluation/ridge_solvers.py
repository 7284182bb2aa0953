"""Ridge of many outputs at many penalties, by one eigendecomposition for each part left out.

With fewer columns than rows, all comes from sums of products of rows (primal); otherwise from the
kernel of the rows (dual). Either way no array of rows x outputs x penalties is needed
(`ridge_paths`).

What is left out is left out of the sums, and never taken off a total: a column that is constant in
the rest would keep the rounding of what was taken off.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Self, TypeVar

import numpy as np
from scipy.linalg import qr

from tribrain.errors import InputError
from tribrain.evaluation.folds import Fold
from tribrain.evaluation.ridge_paths import (
    FLAT,
    Coordinates,
    Measured,
    Sums,
    Tried,
    column_factors,
    eigen,
    path_scores,
    penalty_unit,
    sums_of_squares,
)

PENALTIES = tuple(10.0 ** np.arange(-3, 5.25, 0.5))
"""Tried ones, in units of the number of rows times the mean variance of the columns."""
SCORINGS = ("r", "r2")
BATCH = 2048
"""Outputs at a time; fewer where their sums would take more than `_MEMORY`."""
_MEMORY = 2**28
T = TypeVar("T", np.ndarray, Sums)


def validation_scores(
    x: np.ndarray,
    y: np.ndarray,
    folds: Sequence[Fold],
    penalties: Sequence[float] | np.ndarray = PENALTIES,
    *,
    scoring: str = "r",
    scales: np.ndarray | None = None,
    standardise: bool = False,
    relative: bool = True,
    batch: int = BATCH,
) -> np.ndarray:
    """Scores of ridge on rows that it was not fitted to, for all penalties.

    Parameters
    ----------
    x : ndarray (n, columns)
    y : ndarray (n, outputs)
        Floats; what is as large as the outputs is worked out in their type.
    folds : sequence of (ndarray, ndarray) of int
        Rows to train on and to test on, as of `inner_folds`. Columns are centred on those of
        training.
    penalties : sequence of float
    scoring : {"r", "r2"}
        Pearson correlation (0 where a side does not vary), or the share of the variance about the
        mean of the tested rows (-inf where that is none).
    scales : ndarray (k, columns), optional
        Ways to multiply the columns before the ridge, each of which is tried.
    standardise : bool
        Columns are divided by their standard deviation in the rows trained on, before `scales`.
    relative : bool
        Penalties are in units of the rows times the mean variance of the columns that vary (after
        scaling), so that they mean the same with more rows, or other units; else they are added to
        the sums of products as they are.
    batch : int
        Outputs at a time.

    Returns
    -------
    ndarray (k, penalties, outputs), float64
        Means over the folds; k is 1 without `scales`.

    Raises
    ------
    InputError
        If a penalty is not positive, or the scoring unknown.
    """
    tried = checked_penalties(penalties)
    if scoring not in SCORINGS:
        raise InputError(f"scoring {scoring!r} is unknown; known: {', '.join(SCORINGS)}")
    factors = np.ones((1, x.shape[1])) if scales is None else np.asarray(scales, np.float64)
    how = Tried(tried, scoring, factors, standardise, relative)
    found = np.zeros((len(factors), len(tried), y.shape[1]))
    rows = np.unique(np.concatenate([np.concatenate(fold) for fold in folds]))
    x = x - x[rows].mean(axis=0, dtype=np.float64)  # so that sums of products keep their digits
    if x.shape[1] > max(len(train) for train, _ in folds):
        _dual_scores(x.astype(y.dtype, copy=False), y, folds, how, batch, found)
    else:
        _primal_scores(x, y, folds, how, batch, found)
    return found / len(folds)


def best_penalties(scores: np.ndarray, penalties: Sequence[float], per_output: bool) -> np.ndarray:
    """The place of the best penalty for each output; of equally good ones the largest.

    Parameters
    ----------
    scores : ndarray (penalties, outputs)
    penalties : sequence of float
    per_output : bool
        Otherwise all outputs get the one with the best mean over them.

    Returns
    -------
    ndarray (outputs,) of int
    """
    order = np.argsort(penalties, kind="stable")[::-1]
    if not per_output:
        scores = np.broadcast_to(mean_score(scores)[:, None], scores.shape)
    return order[np.argmax(scores[order], axis=0)]


def mean_score(scores: np.ndarray) -> np.ndarray:
    """Means over outputs (the last axis) with a finite score; -inf where there is none."""
    finite = np.isfinite(scores)
    total = np.where(finite, scores, 0.0).sum(axis=-1)
    count = finite.sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), -np.inf)


def ridge_weights(
    x: np.ndarray,
    y: np.ndarray,
    rows: np.ndarray,
    penalties: np.ndarray,
    *,
    scale: np.ndarray | None = None,
    standardise: bool = False,
    relative: bool = True,
    batch: int = BATCH,
) -> tuple[np.ndarray, np.ndarray]:
    """Weights of ridge, and what is added to the products.

    Parameters
    ----------
    x, y : ndarray (n, columns), (n, outputs)
    rows : ndarray of int
        Those that are fitted to.
    penalties : ndarray (outputs,)
    scale : ndarray (columns,), optional
        One row of the `scales` of `validation_scores`.
    standardise, relative, batch
        As there.

    Returns
    -------
    weights : ndarray (columns, outputs)
        For columns as they are given, in the type of `y`.
    intercept : ndarray (outputs,)
        float64.
    """
    tried = checked_penalties(penalties)
    mean = x[rows].mean(axis=0, dtype=np.float64)
    weights = np.zeros((x.shape[1], y.shape[1]), y.dtype)
    intercept = np.zeros(y.shape[1])
    x = (x[rows] - mean).astype(y.dtype, copy=False)
    xx = None if x.shape[1] > len(x) else _gram(x)
    power = mean**2 * len(x)
    variance = np.einsum("ij,ij->j", x, x, dtype=np.float64) if xx is None else np.diag(xx)
    scale = np.ones(x.shape[1]) if scale is None else scale
    factor = column_factors(variance, power, len(x), scale, standardise)
    unit = penalty_unit(variance * factor**2, relative)
    if xx is None:
        x *= factor.astype(x.dtype)
        values, vectors = eigen(x @ x.T)
    else:
        values, vectors = eigen(xx * np.outer(factor, factor))
    vectors = vectors.astype(y.dtype)
    for part in _batches(y.shape[1], batch, max(x.shape)):
        measured = y[rows, part]
        middle = measured.mean(axis=0, dtype=np.float64)
        measured = (measured - middle).astype(y.dtype, copy=False)
        divisor = (values[:, None] + tried[part] * unit).astype(y.dtype)
        if xx is None:
            weights[:, part] = x.T @ (vectors @ ((vectors.T @ measured) / divisor))
        else:
            products = factor[:, None].astype(y.dtype) * (x.T @ measured)
            weights[:, part] = vectors @ ((vectors.T @ products) / divisor)
        weights[:, part] *= factor[:, None].astype(y.dtype)
        intercept[part] = middle - mean @ weights[:, part].astype(np.float64)
    return weights, intercept


def centred_product(
    x: np.ndarray, weights: np.ndarray, centre: np.ndarray, intercept: np.ndarray
) -> np.ndarray:
    """x @ weights + intercept, of columns that may lie far from 0.

    In single precision a product of large columns leaves few digits of what varies in them: their
    centre is taken off before, and what that would have added is added in double precision.

    Parameters
    ----------
    x : ndarray (n, columns)
    weights : ndarray (columns, outputs)
    centre : ndarray (columns,)
        Near the means of the columns, in the type of the weights.
    intercept : ndarray (outputs,)
        float64.

    Returns
    -------
    ndarray (n, outputs)
        In the type of the weights.
    """
    offset = intercept + centre.astype(np.float64) @ weights.astype(np.float64)
    centred = (x - centre.astype(x.dtype)).astype(weights.dtype, copy=False)
    return np.asarray(centred @ weights + offset.astype(weights.dtype))


def checked_penalties(penalties: Sequence[float] | np.ndarray) -> np.ndarray:
    """Penalties as an array.

    Raises
    ------
    InputError
        If there are none, or one is not positive and finite.
    """
    found = np.atleast_1d(np.asarray(penalties, np.float64))
    if not found.size or found.ndim != 1 or not (np.isfinite(found) & (found > 0)).all():
        raise InputError(f"penalties {list(np.ravel(penalties))[:20]}: positive numbers fit")
    return found


def _primal_scores(
    x: np.ndarray, y: np.ndarray, folds: Sequence[Fold], how: Tried, batch: int, found: np.ndarray
) -> None:
    """Add the scores of every fold to `found`, by sums of products of segments of rows."""
    segments, trained, tested = _segments(len(x), folds)
    sums = [Sums.of(x[rows]) for rows in segments]
    parts = [
        _PrimalFold.of(_sum(sums, trained[k]), x[test], how, y.dtype)
        for k, (_, test) in enumerate(folds)
    ]
    shown = [x[rows].astype(y.dtype, copy=False) for rows in segments]
    for part in _batches(y.shape[1], batch, x.shape[1] * (len(segments) + 3)):
        answers = [y[rows, part] for rows in segments]
        middle = _sum([a.sum(axis=0, dtype=np.float64) for a in answers], range(len(answers)))
        middle /= sum(len(a) for a in answers)
        answers = [(a - middle).astype(y.dtype, copy=False) for a in answers]
        products = [a.T @ b for a, b in zip(shown, answers, strict=True)]
        totals = [a.sum(axis=0, dtype=np.float64) for a in answers]
        powers = [sums_of_squares(a) for a in answers]
        for k, one in enumerate(parts):
            y_train = _sum(totals, trained[k]) / one.train.n
            y_test = _sum(totals, tested[k]) / one.n
            power = _sum(powers, tested[k])
            spread = power - one.n * y_test**2
            spread = np.where(spread > FLAT * power, spread, 0.0)
            measured = Measured(spread, y_test - y_train, one.n)
            xy = _sum(products, trained[k]) - _outer(one.train.x, y_train, y.dtype)
            test_xy = _sum(products, tested[k]) - _outer(one.x, y_test, y.dtype)
            for number, way in enumerate(one.ways):
                q, d = way.turn.T @ xy, way.turn.T @ test_xy
                found[number, :, part] += path_scores(way, q, d, measured, how)


def _dual_scores(
    x: np.ndarray, y: np.ndarray, folds: Sequence[Fold], how: Tried, batch: int, found: np.ndarray
) -> None:
    """Add the scores of every fold to `found`, by the kernel of its training rows."""
    for train, test in folds:
        mean = x[train].mean(axis=0, dtype=np.float64)
        shown, asked = (x[rows] - mean.astype(x.dtype) for rows in (train, test))
        variance = sums_of_squares(shown)
        for number, scale in enumerate(how.scales):
            factor = column_factors(
                variance, mean**2 * len(train), len(train), scale, how.standardise
            )
            unit = penalty_unit(variance * factor**2, how.relative)
            scale = factor.astype(y.dtype)
            scaled = shown * scale
            values, vectors = eigen(scaled @ scaled.T)
            vectors = vectors.astype(y.dtype, copy=False)
            root = ((asked * scale) @ scaled.T) @ vectors
            offset = root.mean(axis=0, dtype=np.float64)
            root -= offset.astype(y.dtype)
            way = Coordinates(vectors, values, root, offset, unit)
            for part in _batches(y.shape[1], batch, 2 * len(x)):
                answers, truth = y[train, part], y[test, part]
                middle = answers.mean(axis=0, dtype=np.float64)
                shift = truth.mean(axis=0, dtype=np.float64) - middle
                power = sums_of_squares(truth)
                truth = (truth - (middle + shift)).astype(y.dtype, copy=False)
                spread = sums_of_squares(truth)
                spread = np.where(spread > FLAT * power, spread, 0.0)
                answers = (answers - middle).astype(y.dtype, copy=False)
                measured = Measured(spread, shift, len(test))
                q, d = way.turn.T @ answers, way.root.T @ truth
                found[number, :, part] += path_scores(way, q, d, measured, how)


@dataclass(frozen=True, eq=False)
class _PrimalFold:
    """Sums of a fold's two sides, and its coordinates for every way to scale the columns.

    Attributes
    ----------
    train : Sums
    n, x : int, ndarray (columns,)
        Rows tested, and their sum.
    ways : list of Coordinates
    """

    train: Sums
    n: int
    x: np.ndarray
    ways: list[Coordinates]

    @classmethod
    def of(cls, train: Sums, tested: np.ndarray, how: Tried, dtype: np.dtype) -> Self:
        """From sums of the rows trained on, and the rows tested (rows, columns)."""
        xx, n, total = train.centred(), len(tested), tested.sum(axis=0)
        shift = total / n - train.x / train.n
        root = tested - total / n
        if n > root.shape[1]:  # a smaller one has the same products
            root = qr(root, mode="r", overwrite_a=True, check_finite=False)[0][: root.shape[1]]
        ways = []
        for scale in how.scales:
            factor = column_factors(np.diag(xx), np.diag(train.xx), train.n, scale, how.standardise)
            unit = penalty_unit(np.diag(xx) * factor**2, how.relative)
            values, vectors = eigen(xx * np.outer(factor, factor))
            turn = factor[:, None] * vectors
            turned = (root @ turn).astype(dtype)
            ways.append(Coordinates(turn.astype(dtype), values, turned, shift @ turn, unit))
        return cls(train, n, total, ways)


def _segments(
    n: int, folds: Sequence[Fold]
) -> tuple[list[np.ndarray], list[list[int]], list[list[int]]]:
    """Rows that all folds treat alike, and of which segments each fold's two sides consist."""
    member = np.zeros((n, 2 * len(folds)), bool)
    for k, (train, test) in enumerate(folds):
        member[train, 2 * k] = True
        member[test, 2 * k + 1] = True
    kinds, inverse = np.unique(member, axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)
    some = [number for number, kind in enumerate(kinds) if kind.any()]
    segments = [np.flatnonzero(inverse == number) for number in some]
    sides = [[s for s, k in enumerate(some) if kinds[k, side]] for side in range(2 * len(folds))]
    return segments, sides[::2], sides[1::2]


def _gram(x: np.ndarray, rows: int = 1024) -> np.ndarray:
    """Products of the columns of x, in double, without a copy of all of it in double."""
    found = np.zeros((x.shape[1], x.shape[1]))
    for first in range(0, len(x), rows):
        part = x[first : first + rows].astype(np.float64)
        found += part.T @ part
    return found


def _sum(parts: Sequence[T], numbers: Sequence[int]) -> T:
    """Sum of some of the parts."""
    return reduce(operator.add, (parts[number] for number in numbers))


def _outer(x: np.ndarray, y: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return np.outer(x.astype(dtype), y.astype(dtype))


def _batches(outputs: int, batch: int, held: int) -> Iterator[slice]:
    """Some outputs at a time, where each holds so many numbers."""
    if batch < 1:
        raise InputError(f"{batch} outputs at a time; 1 or more fit")
    step = min(batch, max(64, _MEMORY // (4 * held)))
    for first in range(0, outputs, step):
        yield slice(first, min(first + step, outputs))
