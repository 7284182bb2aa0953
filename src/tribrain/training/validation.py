"""Correlation of predicted with measured BOLD, streamed over windows."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch

from tribrain.encoder.network import Encoder
from tribrain.studies.prepared import PreparedRun
from tribrain.training.data import Stretch, TrainingData
from tribrain.training.distributed import ALONE, Processes

_ROWS = 256  # at a time, in double precision
_ROUNDING = 1e-10
"""Standard deviation, as a share of the mean, below which a series counts as constant."""


class Correlation:
    """Pearson correlation of each output over rows that come in pieces; NaN rows do not count.

    Means, and sums of products about them, of two pieces give those of both (Chan, Golub &
    LeVeque 1983, Am Stat 37:242-247), so that nothing cancels where values lie far from 0.
    """

    def __init__(self) -> None:
        self._moments: np.ndarray | None = None  # n, means of x and y, sums of xx, yy and xy

    def add(self, predicted: np.ndarray, measured: np.ndarray) -> None:
        """Add rows (time, outputs) of both."""
        if self._moments is None and not len(predicted):  # so that there is something to gather
            self._moments = np.zeros((6, predicted.shape[1]))
        for first in range(0, len(predicted), _ROWS):
            rows = slice(first, first + _ROWS)
            found = _moments(predicted[rows], measured[rows])
            self._moments = found if self._moments is None else _joined(self._moments, found)

    def gather(self, processes: Processes) -> None:
        """Add the rows of other processes, each of which has a part of a run's."""
        if processes.size > 1:
            parts = processes.gathered(torch.from_numpy(self._moments))
            self._moments = functools.reduce(_joined, (part.numpy() for part in parts))

    def result(self) -> np.ndarray:
        """Correlation (outputs,); NaN where one of the two does not vary."""
        if self._moments is None:
            return np.empty(0)
        n, x, y, xx, yy, xy = self._moments
        constant = (xx <= n * (_ROUNDING * x) ** 2) | (yy <= n * (_ROUNDING * y) ** 2)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(constant, np.nan, xy / (np.sqrt(xx) * np.sqrt(yy)))


def _moments(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    there = ~(np.isnan(x) | np.isnan(y))
    n = there.sum(axis=0).astype(float)
    x, y = (np.where(there, part, 0).astype(float) for part in (x, y))
    x_mean, y_mean = (part.sum(0) / np.maximum(n, 1) for part in (x, y))
    x, y = np.where(there, x - x_mean, 0), np.where(there, y - y_mean, 0)
    return np.stack([n, x_mean, y_mean, (x * x).sum(0), (y * y).sum(0), (x * y).sum(0)])


def _joined(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    n = one[0] + other[0]
    share = other[0] / np.maximum(n, 1)
    x, y = apart = other[1:3] - one[1:3]
    sums = one[3:] + other[3:] + one[0] * share * np.stack([x * x, y * y, x * y])
    return np.concatenate([n[None], one[1:3] + share * apart, sums])


def predictions(
    model: Encoder,
    data: TrainingData,
    stretches: Iterable[Stretch],
    device: str = "cpu",
    *,
    unseen: bool = False,
    batch: int = 16,
    processes: Processes = ALONE,
) -> Iterator[tuple[Stretch, np.ndarray, np.ndarray]]:
    """Predicted and measured rows of each stretch, window after window.

    Parameters
    ----------
    model : Encoder
        Is left in the mode for evaluation.
    data : TrainingData
    stretches : iterable of Stretch
    device : str
    unseen : bool
        Predict everyone by the row of people never seen; people without a row always are.
    batch : int
        Windows at a time.
    processes : Processes
        Where there are several, each predicts its share of the windows of every stretch.

    Yields
    ------
    stretch, predicted (time, outputs), measured (time, outputs)
        Once a stretch.
    """
    model.eval()
    for stretch in stretches:
        windows = data.cover([stretch])
        rows = [min(data.length, stretch.stop - first) for _, first in windows]
        if processes.size > 1:
            windows, rows = _share(windows, rows, processes)
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        for first in range(0, len(windows), batch):
            read = data.batch(windows[first : first + batch]).to(device)
            row = model.unseen(read.space) if unseen or stretch.row < 0 else stretch.row
            with torch.no_grad():  # what FSDP gathers in inference_mode cannot train afterwards
                found = model(read.features, row, read.present).float().cpu().numpy()
            parts += zip(found, read.targets.cpu().numpy(), strict=True)
        predicted, measured = (
            np.concatenate([part[:n] for part, n in zip(both, rows, strict=True)])
            for both in zip(*parts, strict=True)
        )
        yield stretch, predicted, measured


def _share(
    windows: list[tuple[Stretch, int]], rows: list[int], processes: Processes
) -> tuple[list[tuple[Stretch, int]], list[int]]:
    """Windows of a process, and how many rows of each count.

    All have as many windows, as all take part in what is gathered; some of them for nothing.
    """
    mine = slice(processes.rank, None, processes.size)
    lacking = -(-len(windows) // processes.size) - len(windows[mine])
    return windows[mine] + windows[:lacking], rows[mine] + [0] * lacking


def correlations(
    model: Encoder,
    data: TrainingData,
    stretches: Sequence[Stretch],
    device: str = "cpu",
    *,
    unseen: bool = False,
    processes: Processes = ALONE,
) -> np.ndarray:
    """Mean correlation over outputs of each run (runs,), in the order of their first stretch.

    The same in all processes.
    """
    held: dict[tuple[int, str], Correlation] = {}
    for stretch, predicted, measured in predictions(
        model, data, stretches, device, unseen=unseen, processes=processes
    ):
        run: PreparedRun = stretch.run
        held.setdefault((stretch.study, run.name), Correlation()).add(predicted, measured)
    for one in held.values():
        one.gather(processes)
    return np.array([mean_of_numbers(one.result()) for one in held.values()])


def mean_of_numbers(values: np.ndarray | Sequence[float]) -> float:
    """Mean of what is a number; NaN where nothing is."""
    there = np.isfinite(values)
    return float(np.asarray(values)[there].mean()) if there.any() else float("nan")
