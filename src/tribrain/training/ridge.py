"""Ridge regression on delayed features: what a trained model has to beat.

The response to a feature is a finite impulse response: one weight for each second of delay (Dale
1999, Hum Brain Mapp 8:109-114; for films Nishimoto et al. 2011, Curr Biol 21:1641-1646). Columns
are z-scored; the penalty is chosen by cross-validation that leaves whole groups of stimuli out.

All is worked out from sums of products, one for each part that is left out, so that rows are read
once and none is kept.
"""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from tribrain.errors import InputError
from tribrain.training.data import Stretch, TrainingData

DELAYS = 15
"""Seconds before a row of BOLD whose features predict it."""
FOLDS = 5
GAP = 6
"""Rows at both ends of a part of a stimulus that are trained on but not tested, as the BOLD of
neighbours is alike."""
PENALTIES = tuple(10.0 ** np.arange(-3, 4.25, 0.5))
"""Tried ones, as multiples of the number of rows (columns have variance 1)."""
_FLAT = 1e-10
"""Variance, as a share of the mean square, up to which a column counts as constant."""


@dataclass(frozen=True, eq=False)
class Ridge:
    """A fitted ridge.

    Attributes
    ----------
    weights : ndarray (columns, outputs)
    bias : ndarray (outputs,)
    penalty : float
        The one with the best mean over outputs. Chosen for each output alone, it was no better
        with hours of a person and worse with minutes (simulated studies).
    """

    weights: np.ndarray
    bias: np.ndarray
    penalty: float

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Rows (n, outputs) from delayed features (n, columns)."""
        return features @ self.weights + self.bias


@dataclass(frozen=True)
class Sums:
    """Sums of products of rows: all that ridge and its cross-validation need. They add up.

    Attributes
    ----------
    n : int
        Rows.
    x, y : ndarray (columns,), (outputs,)
    xx, xy, yy : ndarray (columns, columns), (columns, outputs), (outputs,)
    """

    n: int
    x: np.ndarray
    y: np.ndarray
    xx: np.ndarray
    xy: np.ndarray
    yy: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray) -> Sums:
        """Of rows (n, columns) and (n, outputs); in double, multiplied in the type that they have.

        For rows in float32 take out the mean before.
        """
        found = x.sum(0), y.sum(0), x.T @ x, x.T @ y, (y * y).sum(0)
        return cls(len(x), *(part.astype(np.float64, copy=False) for part in found))

    def __add__(self, other: Sums) -> Sums:
        both = zip(vars(self).values(), vars(other).values(), strict=True)
        return Sums(*(mine + theirs for mine, theirs in both))

    def centred(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Products about the means: of x, of x with y, of y."""
        n = max(self.n, 1)
        return (
            self.xx - np.outer(self.x, self.x) / n,
            self.xy - np.outer(self.x, self.y) / n,
            self.yy - self.y**2 / n,
        )


def total(sums: Iterable[Sums]) -> Sums:
    """Sums of all rows, of one or more parts.

    What is left out is left out of the parts, and never taken off a total: a column that is
    constant in the rest would keep the rounding of what was taken off.
    """
    return reduce(operator.add, sums)


class _Path:
    """Ridge of all penalties, from sums."""

    def __init__(self, sums: Sums) -> None:
        xx, xy, _ = sums.centred()
        variance, power = np.diag(xx) / sums.n, np.diag(sums.xx) / sums.n
        varies = variance > _FLAT * power
        self.scale = np.where(varies, 1 / np.sqrt(np.where(varies, variance, 1.0)), 0.0)
        self.values, self.vectors = np.linalg.eigh(xx * np.outer(self.scale, self.scale))
        self.projected = self.vectors.T @ (xy * self.scale[:, None])
        self.n = sums.n

    def weights(self, penalty: float) -> np.ndarray:
        """Weights (columns, outputs) of columns as they are."""
        shrunk = self.projected / (np.maximum(self.values, 0)[:, None] + penalty * self.n)
        return self.scale[:, None] * (self.vectors @ shrunk)


def delayed_rows(
    data: TrainingData, stretch: Stretch, delays: int = DELAYS
) -> tuple[np.ndarray, np.ndarray]:
    """Features and BOLD of every row of a stretch.

    Parameters
    ----------
    data : TrainingData
        A whole number of samples a second.
    stretch : Stretch
    delays : int
        Seconds.

    Returns
    -------
    features : ndarray (n, delays * columns), float32
        Means over each second before the row, the last second first; 0 before the stimulus.
    measured : ndarray (n, outputs), float32
    """
    rate = round(data.frequency)
    if rate < 1 or rate != data.frequency:
        raise InputError(f"{data.frequency:g} samples a second; a whole number fits")
    n, lag = stretch.stop - stretch.first, math.floor(data.lag)
    wide = copy.copy(data)
    wide.length = delays + n + lag
    wide.n_samples = rate * wide.length
    batch = wide.batch([(stretch, stretch.first - delays)])
    seconds = np.concatenate(
        [
            part[0].flatten(0, 1).unflatten(1, (-1, rate)).mean(-1).numpy()
            for part in batch.features.values()
        ]
    ).T  # (seconds, columns); second k begins delays + lag - k before row 0
    before = [seconds[delays + lag - d : delays + lag - d + n] for d in range(1, delays + 1)]
    return np.concatenate(before, axis=1), batch.targets[0, delays : delays + n].numpy()


def fit_ridge(data: TrainingData, stretches: Sequence[Stretch], *, delays: int = DELAYS) -> Ridge:
    """Fit a ridge to stretches; outputs that were not measured in any of them (NaN) get weight 0.

    Groups of stimuli are left out in `FOLDS` parts; where there are fewer groups, parts of time.

    Raises
    ------
    InputError
        If there is nothing to fit to, or an output was measured in some of the rows only.
    """
    whole: dict[int, Sums] = {}
    tested: dict[int, Sums] = {}
    lacking: np.ndarray | None = None
    for stretch, parts in zip(stretches, _parts(stretches), strict=True):
        x, y = (part.astype(np.float64) for part in delayed_rows(data, stretch, delays))
        missing = np.isnan(y)
        lacking = missing[0] if lacking is None else lacking
        if (missing != lacking).any():
            output = int((missing != lacking).any(axis=0).argmax())
            raise InputError(
                f"output {output} was measured in some rows and not in others, up to run "
                f"{stretch.run.name}; outputs that were measured throughout, or never, fit"
            )
        y = np.where(missing, 0.0, y)
        for first, stop, fold in parts:
            _add(whole, fold, Sums.of(x[first:stop], y[first:stop]))
            low = first + (GAP if first else 0)
            high = stop - (GAP if stop < len(x) else 0)
            _add(tested, fold, Sums.of(x[low:high], y[low:high]))
    if len(whole) < 2:
        raise InputError("nothing to fit a ridge to")
    every = total(whole.values())
    scores = np.zeros(len(PENALTIES))
    for fold in whole:
        path = _Path(total(part for number, part in whole.items() if number != fold))
        xx, xy, yy = tested[fold].centred()
        for number, penalty in enumerate(PENALTIES):
            weights = path.weights(penalty)
            power = (weights * (xx @ weights)).sum(0) * yy
            some = power > 0
            scores[number] += ((weights * xy).sum(0)[some] / np.sqrt(power[some])).sum()
    penalty = float(PENALTIES[int(scores.argmax())])
    weights = _Path(every).weights(penalty)
    bias = every.y / every.n - (every.x / every.n) @ weights
    return Ridge(weights.astype(np.float32), bias.astype(np.float32), penalty)


def _parts(stretches: Sequence[Stretch]) -> list[list[tuple[int, int, int]]]:
    """First and last row of parts of each stretch, and the number of what is left out together."""
    groups = sorted({stretch.span.group for stretch in stretches})
    rows = [stretch.stop - stretch.first for stretch in stretches]
    if len(groups) >= FOLDS:
        folds = [groups.index(stretch.span.group) % FOLDS for stretch in stretches]
        return [[(0, n, fold)] for n, fold in zip(rows, folds, strict=True)]
    edges = [np.linspace(0, n, FOLDS + 1).round().astype(int) for n in rows]
    return [[(int(some[k]), int(some[k + 1]), k) for k in range(FOLDS)] for some in edges]


def _add(held: dict[int, Sums], key: int, more: Sums) -> None:
    held[key] = held[key] + more if key in held else more
