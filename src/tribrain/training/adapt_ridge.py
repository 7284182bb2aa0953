"""The row of a new person in closed form: ridge on the encoder's states, towards a given row.

With states X (n, R), measured BOLD Y (n, V) and a given row (W0, b0), the row found is
``W0 + D, b0 + d`` with the D and d that minimise ``|Y - X (W0 + D) - b0 - d|^2 + penalty |D|^2``:
ridge (Hoerl & Kennard 1970, Technometrics 12:55-67) on what the given row leaves unexplained. With
an infinite penalty it is the given row itself, so that few data cannot make it worse than that.

Products are summed in double precision over blocks of rows. One eigendecomposition of those of the
states serves all penalties and all outputs that were measured in the same rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

_ROWS = 512  # of a block in double precision
_COLUMNS = 4096  # outputs that are worked on together, and how many numbers of theirs
_NUMBERS = 2**24
_ROUNDING = 1e-12
BLOCK = 24
"""Least seconds of a block of time that is left out for cross-validation."""
MOST_FOLDS = 5
GAP = 6
"""Seconds around such a block that are not trained on, as BOLD answers for so long. They count in
what was shown and in the recording."""


@dataclass(frozen=True, eq=False)
class Basis:
    """Directions of the states of some rows.

    Attributes
    ----------
    mean : ndarray (R,)
    vectors : ndarray (R, K)
        Eigenvectors of the products of the centred states, those of eigenvalue 0 left out.
    eigenvalues : ndarray (K,)
    """

    mean: np.ndarray
    vectors: np.ndarray
    eigenvalues: np.ndarray

    def coordinates(self, states: np.ndarray) -> np.ndarray:
        """States (n, R) in these directions (n, K)."""
        return (states - self.mean) @ self.vectors


def basis_of(states: np.ndarray) -> Basis:
    """Decompose the states (n, R) of the rows that are trained on.

    Where there are fewer rows than R, their products with each other give the same and are smaller.
    """
    n, width = states.shape
    mean = states.mean(axis=0, dtype=np.float64)
    if n > width:
        parts = (states[rows] - mean for rows in _blocks(n, _ROWS))
        products = _summed(part.T @ part for part in parts)
    else:
        parts = (states[:, columns] - mean[columns] for columns in _blocks(width, _ROWS))
        products = _summed(part @ part.T for part in parts)
    values, vectors = np.linalg.eigh(products)
    kept = values > max(values[-1], 0) * width * _ROUNDING
    kept[: max(0, len(values) - (n - 1))] = False  # centred rows have one direction less
    values, vectors = values[kept], vectors[:, kept]
    if n <= width:
        vectors = (states - mean).T @ (vectors / np.sqrt(values))
    return Basis(mean, vectors, values)


@dataclass(frozen=True, eq=False)
class Solution:
    """Ridge for every penalty.

    Attributes
    ----------
    basis : Basis
    mean : ndarray (V,)
        Of the values.
    projected : ndarray (K, V)
        Products of states and values in the basis.
    """

    basis: Basis
    mean: np.ndarray
    projected: np.ndarray

    def shrunk(self, penalty: float | np.ndarray) -> np.ndarray:
        """Weights in the basis (K, V)."""
        return self.projected / (self.basis.eigenvalues[:, None] + penalty)

    def row(self, penalty: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights (R, V) and bias (V,) of a penalty, or of one an output."""
        weight = self.basis.vectors @ self.shrunk(penalty)
        return weight, self.mean - self.basis.mean @ weight


def solve(basis: Basis, states: np.ndarray, values: np.ndarray) -> Solution:
    """Project values (n, V) on the states of the same rows, summed over blocks of them."""
    mean = values.mean(axis=0, dtype=np.float64)
    projected = np.zeros((len(basis.eigenvalues), values.shape[1]))
    for part in _blocks(len(states), _ROWS):
        projected += basis.coordinates(states[part]).T @ (values[part] - mean)
    return Solution(basis, mean, projected)


def ridge_row(
    states: np.ndarray,
    measured: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    penalty: float | np.ndarray,
    used: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Ridge on the encoder's states, towards a given row.

    Parameters
    ----------
    states : ndarray (n, R)
    measured : ndarray (n, V)
        NaN where nothing was measured.
    weight, bias : ndarray (R, V), (V,)
        The given row: that of people never seen, or zeros.
    penalty : float or ndarray (V,)
        Infinity keeps the given row. The bias is not penalised.
    used : ndarray (n,) of bool, optional
        Rows that are read; by default all.

    Returns
    -------
    weight, bias : ndarray (R, V), (V,)
        In double precision. Outputs with fewer than two measured rows keep the given row.
    """
    penalties = np.broadcast_to(np.asarray(penalty, np.float64), (measured.shape[1],))
    found, offset = weight.astype(np.float64), bias.astype(np.float64)
    for rows, every in patterns(measured, used):
        every = every[np.isfinite(penalties[every])]
        if rows.sum() < 2 or not len(every):
            continue
        x = states[rows]
        basis = basis_of(x)
        for columns in _columns(len(every), len(x)):
            outputs = every[columns]
            values = _residual(x, measured[np.ix_(rows, outputs)], weight, bias, outputs)
            change, shift = solve(basis, x, values).row(penalties[outputs])
            found[:, outputs] += change
            offset[outputs] += shift
    return found, offset


def held_out_sums(
    states: np.ndarray,
    measured: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    penalties: Sequence[float],
) -> np.ndarray:
    """How rows that were left out are predicted under each penalty.

    Parameters
    ----------
    states, measured, weight, bias
        As of `ridge_row`.
    train, test : ndarray (n,) of bool
    penalties : sequence of float

    Returns
    -------
    ndarray (3, penalties, V)
        Sums over the tested rows, about their means, of squares of the prediction, of its products
        with the BOLD, and of squares of the BOLD; 0 where too little was measured. Those of
        several blocks add up (`correlation_of`).
    """
    sums = np.zeros((3, len(penalties), measured.shape[1]))
    for there, every in patterns(measured, train | test):
        known, asked = there & train, there & test
        if min(known.sum(), asked.sum()) < 2:
            continue
        x, z = states[known], states[asked]
        basis = basis_of(x)
        coordinates = basis.coordinates(z)
        for columns in _columns(len(every), len(x)):
            outputs = every[columns]
            values = _residual(x, measured[np.ix_(known, outputs)], weight, bias, outputs)
            path = solve(basis, x, values)
            y = measured[np.ix_(asked, outputs)].astype(np.float64)
            given = y - _residual(z, y, weight, bias, outputs)
            y -= y.mean(0)
            for number, penalty in enumerate(penalties):
                predicted = given
                if math.isfinite(penalty):
                    predicted = given + coordinates @ path.shrunk(penalty)
                predicted = predicted - predicted.mean(0)
                for place, product in enumerate((predicted * predicted, predicted * y, y * y)):
                    sums[place, number, outputs] = product.sum(0)
    return sums


def correlation_of(sums: np.ndarray) -> np.ndarray:
    """Correlation (penalties, V) of sums of `held_out_sums`; NaN where either does not vary."""
    power = sums[0] * sums[2]
    return np.where(power > 0, sums[1], np.nan) / np.sqrt(np.where(power > 0, power, 1))


def penalties_for(states: np.ndarray) -> list[float]:
    """Penalties to choose among: from a hundredth of the mean eigenvalue to infinity."""
    middle = states.mean(axis=0, dtype=np.float64)
    parts = _blocks(len(states), _ROWS)
    mean = sum(float(((states[part] - middle) ** 2).sum()) for part in parts) / states.shape[1]
    return [*(float(mean * factor) for factor in 10.0 ** np.arange(-2, 4.25, 0.5)), math.inf]


@dataclass(frozen=True)
class Choice:
    """A penalty, and how what was left out is predicted under it.

    Attributes
    ----------
    penalty : float
    explained : float
        Share of the variance that is explained, the mean over outputs; below 0 where the error is
        larger than the variance, and -1 where it is twice that or more.
    correlation : float
        The mean over outputs; a prediction that does not vary counts as 0.
    """

    penalty: float
    explained: float
    correlation: float


def best_penalty(sums: np.ndarray, penalties: Sequence[float]) -> Choice:
    """The penalty that explains most variance in the mean over outputs, the larger of equals.

    The variance decides, and not the correlation: where the model was trained on the same films
    with other people, its states fit those films better than new ones, and the correlation of what
    was left out then asks for so weak a penalty that new films are predicted worse than without any
    adaptation (measured on SONG, docs/adapting.md). No output counts less than -1, so that a few
    whose scale the given row does not know do not decide for all others.

    Parameters
    ----------
    sums : ndarray (3, penalties, V)
        Of `held_out_sums`.
    """
    there = (sums[2] > 0).all(axis=0)
    if not there.any():
        return Choice(penalties[-1], math.nan, math.nan)
    squares, products, power = sums[:, :, there]
    explained = np.maximum((2 * products - squares) / power, -1).mean(axis=1)
    best = max(range(len(explained)), key=lambda number: (explained[number], number))
    correlation = np.nan_to_num(correlation_of(sums[:, best : best + 1, there]))
    return Choice(penalties[best], float(explained[best]), float(correlation.mean()))


def time_blocks(positions: np.ndarray, clock: np.ndarray) -> list[np.ndarray]:
    """Blocks of time, contiguous in the order in which seconds were first shown.

    Parameters
    ----------
    positions : ndarray (n,) of int
        Second of what was shown: rows of the same second (of repeats) are left out together.
    clock : ndarray (n,)
        Second of the recording, all runs one after the other, far apart.

    Returns
    -------
    list of ndarray of int
        Positions of each, to be left out in turn.
    """
    shown = positions[np.argsort(clock, kind="stable")]
    seconds = shown[np.sort(np.unique(shown, return_index=True)[1])]
    count = max(2, min(MOST_FOLDS, len(seconds) // BLOCK))
    return [np.sort(part) for part in np.array_split(seconds, count)]


def left_out(
    positions: np.ndarray, clock: np.ndarray, block: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows that are trained on, and rows that are tested, when a block is left out.

    None that is trained on is within `GAP` of one that is tested, neither in what was shown nor in
    the recording, where the noise of one second is much like that of the next whatever is shown.

    Parameters
    ----------
    positions, clock : ndarray (n,)
        As of `time_blocks`, of one person or of several.
    block : ndarray of int
        Positions.
    """
    test = np.isin(positions, block)
    near = _distance(positions, positions[test]) <= GAP
    near |= _distance(clock, clock[test]) <= GAP
    return ~near, test


def patterns(
    measured: np.ndarray, used: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Outputs that were measured in the same rows.

    Parameters
    ----------
    measured : ndarray (n, V)
    used : ndarray (n,) of bool, optional
        Rows that are told apart; by default all.

    Yields
    ------
    rows : ndarray (n,) of bool
        Of those used.
    outputs : ndarray of int
    """
    used = np.ones(len(measured), bool) if used is None else used
    parts = [
        np.packbits(np.isnan(measured[:, columns]) & used[:, None], axis=0)
        for columns in _columns(measured.shape[1], len(measured))
    ]
    gone = np.concatenate(parts, axis=1)
    if not gone.any():
        yield used, np.arange(measured.shape[1])
        return
    _, first, group = np.unique(gone, axis=1, return_index=True, return_inverse=True)
    for number, column in enumerate(first):
        there = used & ~np.isnan(measured[:, column])
        yield there, np.flatnonzero(group.reshape(-1) == number)


def _residual(
    states: np.ndarray,
    measured: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    outputs: np.ndarray,
) -> np.ndarray:
    """What the given row leaves unexplained of some outputs (n, outputs)."""
    weight, bias = weight[:, outputs].astype(np.float64), bias[outputs].astype(np.float64)
    found = np.empty((len(states), len(outputs)))
    for part in _blocks(len(states), _ROWS):
        found[part] = measured[part] - (states[part].astype(np.float64) @ weight + bias)
    return found


def _distance(values: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """From each value to the nearest mark."""
    marks = np.concatenate([[-np.inf], np.unique(marks), [np.inf]])
    after = np.searchsorted(marks, values)
    return np.minimum(values - marks[np.maximum(after, 1) - 1], marks[after] - values)


def _columns(count: int, rows: int) -> list[slice]:
    """Outputs that are worked on together."""
    return _blocks(count, max(1, min(_COLUMNS, _NUMBERS // max(rows, 1))))


def _blocks(count: int, size: int) -> list[slice]:
    return [slice(first, first + size) for first in range(0, count, size)]


def _summed(parts: Iterator[np.ndarray]) -> np.ndarray:
    total = next(parts)
    for part in parts:
        total += part
    return total
