"""Correlation of predicted with measured BOLD, streamed over windows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch

from tribrain.encoder.network import Encoder
from tribrain.moments import Moments
from tribrain.studies.prepared import PreparedRun
from tribrain.training.data import Stretch, TrainingData
from tribrain.training.distributed import ALONE, Processes


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
    held: dict[tuple[int, str], Moments] = {}
    for stretch, predicted, measured in predictions(
        model, data, stretches, device, unseen=unseen, processes=processes
    ):
        run: PreparedRun = stretch.run
        held.setdefault((stretch.study, run.name), Moments()).add(predicted, measured)
    # Each process has a part of the rows of every run.
    whole = [Moments.of_states(processes.gathered(one.state())) for one in held.values()]
    return np.array([mean_of_numbers(one.correlation()) for one in whole])


def mean_of_numbers(values: np.ndarray | Sequence[float]) -> float:
    """Mean of what is a number; NaN where nothing is."""
    there = np.isfinite(values)
    return float(np.asarray(values)[there].mean()) if there.any() else float("nan")
