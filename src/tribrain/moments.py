"""How predicted and measured series go together, from rows that come in pieces.

Pearson correlation, R2 and explained variance all follow from six numbers an output: how many rows
counted, the means of what was predicted and measured, and three sums of products about them. They
are gathered piece by piece, so that memory does not grow with the rows.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tribrain.errors import InputError

_ROUNDING = 1e-10
"""Standard deviation, as a share of the mean, below which a series counts as constant."""
_CPU_TILE = 64, 500
"""Rows and outputs at a time: they stay in the cache, and are under the 2**15 values from which
torch calls its threads, whose waiting for each other costs more than the sums on busy cores."""
_OTHER_TILE = 2048, 8192


class Moments:
    """Moments of predicted and measured series; rows that are NaN in either do not count.

    The rows of a tile are taken less the first of them, in double precision, and summed. As that
    row is one of them, its squared distance from their mean is no more than the sum of squares
    about the mean, and what cancels costs at most a factor of the number of rows (64): the sums
    are exact to about 1e-14 however far from 0 the values lie. Moments of two pieces give those of
    both (Chan, Golub & LeVeque 1983, Am Stat 37:242-247).

    Parameters
    ----------
    device : str
        Where tiles are summed. "mps" has no double precision: differences from the first row and
        their sums are of single precision there, so that scores are exact to about 1e-5.

    Examples
    --------
    >>> import numpy as np
    >>> measured = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> moments = Moments()
    >>> moments.add(2 * measured[:3], measured[:3])
    >>> moments.add(2 * measured[3:], measured[3:])
    >>> [score.round(6).item() for score in (moments.correlation(), moments.r2())]
    [1.0, -1.8]
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self._held: np.ndarray | None = None  # n, means of x and y, sums of xx, yy and xy

    def add(self, predicted: np.ndarray | Tensor, measured: np.ndarray | Tensor) -> None:
        """Add rows (rows, outputs) of both; any number of times, also none at all (0, outputs).

        Raises
        ------
        InputError
            If the two differ in shape, have not two axes, or other outputs than before.
        """
        self._check(tuple(predicted.shape), tuple(measured.shape))
        rows, outputs = predicted.shape
        if self._held is None:
            self._held = np.zeros((6, outputs))
        at_once, wide = _CPU_TILE if self.device.type == "cpu" else _OTHER_TILE
        for first in range(0, rows, at_once):
            x, y = (_tensor(part[first : first + at_once]) for part in (predicted, measured))
            sums = np.empty((7, outputs))
            for left in range(0, outputs, wide):
                place = slice(left, left + wide)
                sums[:, place] = self._sums(x[:, place], y[:, place])
            found = _about_means(len(x), sums)
            # What is missing shows in the sums: rows are looked at one by one there alone.
            damaged = np.flatnonzero(~np.isfinite(found).all(axis=0))
            if len(damaged):
                found[:, damaged] = _with_missing(_plain(x, damaged), _plain(y, damaged))
            self._held = _joined(self._held, found)

    def join(self, other: Moments) -> None:
        """Add the rows of another, of the same outputs."""
        if other._held is None:
            return
        if self._held is None:
            self._held = other._held.copy()
            return
        if self._held.shape != other._held.shape:
            raise InputError(
                f"moments of {self._held.shape[1]} outputs and of {other._held.shape[1]} cannot "
                "be joined; the same outputs fit"
            )
        self._held = _joined(self._held, other._held)

    def state(self) -> Tensor:
        """All that is held (6, outputs), float64: to send to another process, or to keep."""
        return torch.from_numpy(np.zeros((6, 0)) if self._held is None else self._held.copy())

    @classmethod
    def of_states(cls, states: Iterable[Tensor], device: str = "cpu") -> Moments:
        """The rows of several `state`s together; also of some that hold none."""
        moments = cls(device)
        parts = [state.cpu().numpy().astype(float) for state in states if state.shape[1]]
        moments._held = functools.reduce(_joined, parts) if parts else None
        return moments

    @property
    def n(self) -> np.ndarray:
        """Rows that counted (outputs,), float64."""
        return self._rows()[0].copy()

    def correlation(self) -> np.ndarray:
        """Pearson correlation (outputs,), float64; NaN where one of the two does not vary."""
        n, x, y, xx, yy, xy = self._rows()
        constant = _constant(n, x, xx) | _constant(n, y, yy)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(constant, np.nan, xy / (np.sqrt(xx) * np.sqrt(yy)))

    def r2(self) -> np.ndarray:
        """1 - (sum of squared errors) / (sum of squares about the mean of the measured rows).

        (outputs,), float64; negative where the mean would have been the better prediction, NaN
        where the measured series does not vary.
        """
        n, x, y, xx, yy, xy = self._rows()
        return self._explained(xx + yy - 2 * xy + n * (y - x) ** 2)

    def explained_variance(self) -> np.ndarray:
        """1 - var(measured - predicted) / var(measured): R2 that forgives another mean.

        (outputs,), float64; NaN where the measured series does not vary.
        """
        _, _, _, xx, yy, xy = self._rows()
        return self._explained(xx + yy - 2 * xy)

    def _explained(self, error: np.ndarray) -> np.ndarray:
        n, _, y, _, yy, _ = self._rows()
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(_constant(n, y, yy), np.nan, 1 - error / yy)

    def _rows(self) -> np.ndarray:
        return np.empty((6, 0)) if self._held is None else self._held

    def _check(self, predicted: tuple[int, ...], measured: tuple[int, ...]) -> None:
        if len(predicted) != 2 or predicted != measured:
            raise InputError(
                f"predicted {predicted} and measured {measured} differ in shape or have not two "
                "axes; (rows, outputs) of both fits"
            )
        if self._held is not None and self._held.shape[1] != predicted[1]:
            raise InputError(
                f"rows of {predicted[1]} outputs after rows of {self._held.shape[1]}; the same "
                "outputs fit"
            )

    def _sums(self, x: Tensor, y: Tensor) -> np.ndarray:
        """First rows of x and y, and sums of x, y, xx, yy and xy less these (7, outputs)."""
        x, y = self._moved(x), self._moved(y)
        first = x[0].clone(), y[0].clone()
        x, y = x.sub_(first[0]), y.sub_(first[1])
        both = (x * y).sum(0)
        sums = x.sum(0), y.sum(0), x.square_().sum(0), y.square_().sum(0), both
        return torch.stack([*first, *sums]).cpu().numpy()

    def _moved(self, part: Tensor) -> Tensor:
        """A copy on the device, in its precision."""
        kind = torch.float32 if self.device.type == "mps" else torch.float64
        if part.element_size() > 4:
            return part.to(kind, copy=True).to(self.device)
        return part.to(self.device).to(kind, copy=True)  # half as much to send


def _tensor(part: Any) -> Tensor:
    """A tensor over an array's memory, or over a copy where torch would not have it."""
    if isinstance(part, Tensor):
        return part.detach()
    part = np.asarray(part)
    native = part.dtype.newbyteorder("=")
    if not part.flags.writeable or part.dtype != native or min(part.strides, default=0) < 0:
        part = np.array(part, native)
    return torch.from_numpy(part)


def _plain(part: Tensor, columns: np.ndarray) -> np.ndarray:
    chosen = part[:, torch.from_numpy(columns).to(part.device)]
    return chosen.to("cpu").to(torch.float64).numpy()


def _about_means(rows: int, sums: np.ndarray) -> np.ndarray:
    """Moments (6, outputs) from sums of differences from the first row."""
    found = np.empty((6, sums.shape[1]))
    found[0] = rows
    with np.errstate(invalid="ignore"):
        apart = sums[2:4] / rows
        found[1:3] = sums[:2] + apart
        found[3:5] = np.maximum(sums[4:6] - rows * apart**2, 0)
        found[5] = sums[6] - rows * apart[0] * apart[1]
    return found


def _with_missing(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    there = ~(np.isnan(x) | np.isnan(y))
    n = there.sum(axis=0).astype(float)
    x, y = (np.where(there, part, 0) for part in (x, y))
    with np.errstate(invalid="ignore"):  # what is infinite has no correlation
        x_mean, y_mean = (part.sum(0) / np.maximum(n, 1) for part in (x, y))
        x, y = np.where(there, x - x_mean, 0), np.where(there, y - y_mean, 0)
        return np.stack([n, x_mean, y_mean, (x * x).sum(0), (y * y).sum(0), (x * y).sum(0)])


def _joined(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    n = one[0] + other[0]
    share = other[0] / np.maximum(n, 1)
    with np.errstate(invalid="ignore"):
        x, y = apart = other[1:3] - one[1:3]
        sums = one[3:] + other[3:] + one[0] * share * np.stack([x * x, y * y, x * y])
        return np.concatenate([n[None], one[1:3] + share * apart, sums])


def _constant(n: np.ndarray, mean: np.ndarray, squares: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.asarray(squares <= n * (_ROUNDING * mean) ** 2)
