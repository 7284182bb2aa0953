"""Which window of time a measured response belongs to, by the predicted ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from tribrain.errors import InputError

_BLOCK = 4_000_000  # values of a tile
_EQUAL = 1e-9
"""Correlations that differ by less are tied."""


@dataclass(frozen=True, eq=False)
class Retrieval:
    """How often windows are found.

    Attributes
    ----------
    accuracy : dict of int to float
        Share of the windows of which the right one is among the first 1, 5, ...; where several are
        tied, the expectation of an order by lot.
    chance : dict of int to float
        The same of an order by lot of all.
    windows : int
        Windows that were looked for.
    mean_rank : float
        Of the right window, from 1; ties count half.
    mean_rank_chance : float
    outputs : int
        Outputs that counted.
    """

    accuracy: dict[int, float]
    chance: dict[int, float]
    windows: int
    mean_rank: float
    mean_rank_chance: float
    outputs: int


class Stacked:
    """Arrays one under the other, of which only the outputs that are read are joined.

    Parameters
    ----------
    parts : sequence of ndarray (rows, V)
    """

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self.parts = list(parts)
        self.shape = sum(len(part) for part in self.parts), *self.parts[0].shape[1:]

    def __len__(self) -> int:
        return self.shape[0]

    def outputs(self, columns: np.ndarray) -> np.ndarray:
        """Some outputs (rows, len(columns)) of all rows."""
        return np.concatenate([part[:, columns] for part in self.parts])


def retrieval(
    predicted: np.ndarray | Stacked,
    measured: np.ndarray | Stacked,
    length: int = 10,
    step: int | None = None,
    top: Sequence[int] = (1, 5),
    *,
    outputs: np.ndarray | None = None,
    runs: np.ndarray | None = None,
    standardise: bool = True,
    device: str = "cpu",
) -> Retrieval:
    """Look for the window of each measured response among all predicted ones.

    For each measured window, all predicted windows are ordered by their Pearson correlation with
    it over outputs and rows together (identification: Kay et al. 2008, Nature 452:352-355). Those
    that overlap the asked one, where windows overlap at all, are no distractors.

    Parameters
    ----------
    predicted, measured : ndarray (rows, V), or Stacked
    length : int
        Rows of a window.
    step : int, optional
        Rows from the start of one to that of the next; by default `length`.
    top : sequence of int
    outputs : ndarray (V,) of bool, optional
        Those that count, such as a region; by default all.
    runs : ndarray (rows,), optional
        Labels of runs, whose rows stand together; no window reaches over the edge of one.
    standardise : bool
        Bring each output to mean 0 and variance 1 over the rows first (of the prediction and of
        the measurement, each by itself), so that none counts more and no mean map is compared.
    device : str

    Returns
    -------
    Retrieval
        Rows in which nothing was measured belong to no window; an output counts if it is a number
        in all other rows of both, and varies (where they are standardised). A window that does not
        vary has correlation 0 with all.

    Raises
    ------
    InputError
        If shapes do not fit, or fewer than two windows that do not overlap are left.
    """
    step = length if step is None else step
    x, y = (
        values if isinstance(values, Stacked) else Stacked([values])
        for values in (predicted, measured)
    )
    if len(x.shape) != 2 or x.shape != y.shape:
        raise InputError(
            f"predicted {x.shape} and measured {y.shape}; (rows, outputs) of both fits"
        )
    if length < 1 or step < 1 or not top or min(top) < 1:
        raise InputError(f"length {length}, step {step}, top {tuple(top)}; 1 or more each fits")
    columns = np.arange(x.shape[1]) if outputs is None else _chosen(outputs, x)
    present, columns, scales = _usable(x, y, columns, standardise)
    starts = _starts(present, length, step, runs)
    distractor = np.abs(starts[:, None] - starts) >= length
    if len(starts) < 2 or not distractor.any(axis=1).all() or not len(columns):
        raise InputError(
            f"{len(starts)} windows of {length} rows and {len(columns)} outputs are left of "
            f"{len(x)} rows; each needs another one that it does not overlap: take "
            "shorter windows or more rows"
        )
    alike = _similarity(x, y, starts, length, columns, scales, device)
    right = alike.diagonal()[:, None]
    better = ((alike > right + _EQUAL) & distractor).sum(axis=1)
    tied = ((np.abs(alike - right) <= _EQUAL) & distractor).sum(axis=1)
    among = distractor.sum(axis=1) + 1
    return Retrieval(
        {k: float(np.clip((k - better) / (tied + 1), 0, 1).mean()) for k in top},
        {k: float(np.minimum(k / among, 1).mean()) for k in top},
        len(starts),
        float((better + tied / 2 + 1).mean()),
        float(((among + 1) / 2).mean()),
        len(columns),
    )


def _chosen(outputs: np.ndarray, values: Stacked) -> np.ndarray:
    outputs = np.asarray(outputs)
    if outputs.dtype != bool or outputs.shape != values.shape[1:]:
        raise InputError(
            f"outputs of {outputs.dtype} and shape {outputs.shape}; a truth value for each of "
            f"{values.shape[1]} fits"
        )
    return np.flatnonzero(outputs)


def _usable(
    predicted: Stacked, measured: Stacked, columns: np.ndarray, standardise: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows that were measured, outputs that count, and (4, outputs): both means and deviations."""
    wide = max(1, _BLOCK // max(1, len(predicted)))
    blocks = [columns[first : first + wide] for first in range(0, len(columns), wide)]
    present = np.zeros(len(predicted), bool)
    for block in blocks:
        missing = np.isnan(predicted.outputs(block)) | np.isnan(measured.outputs(block))
        present |= ~missing.all(axis=1)
    scales, kept = [], []
    for block in blocks if present.any() else []:
        parts = [one.outputs(block)[present].astype(float) for one in (predicted, measured)]
        if standardise:
            means, deviations = ([f(part, axis=0) for part in parts] for f in (np.mean, np.std))
        else:
            means, deviations = [np.zeros(len(block))] * 2, [np.ones(len(block))] * 2
        whole = np.all([np.isfinite(part).all(axis=0) for part in parts], axis=0)
        for mean, deviation in zip(means, deviations, strict=True):
            with np.errstate(invalid="ignore"):
                whole &= deviation > 1e-10 * np.abs(mean)  # rounding leaves a little of a constant
        kept.append(block[whole])
        scales.append(np.stack([*means, *deviations])[:, whole])
    if not kept:
        return present, np.empty(0, int), np.empty((4, 0))
    return present, np.concatenate(kept), np.concatenate(scales, axis=1)


def _starts(present: np.ndarray, length: int, step: int, runs: np.ndarray | None) -> np.ndarray:
    """First rows of the windows, of which each lies in one run and was measured throughout."""
    rows = len(present)
    if runs is not None and len(runs) != rows:
        raise InputError(f"{len(runs)} labels of runs for {rows} rows; one each fits")
    labels = np.zeros(rows) if runs is None else np.asarray(runs)
    edges = [0, *(np.flatnonzero(labels[1:] != labels[:-1]) + 1).tolist(), rows]
    starts = [
        first
        for begin, end in pairwise(edges)
        for first in range(begin, end - length + 1, step)
        if present[first : first + length].all()
    ]
    return np.array(starts, int)


def _similarity(
    predicted: Stacked,
    measured: Stacked,
    starts: np.ndarray,
    length: int,
    columns: np.ndarray,
    scales: np.ndarray,
    device: str,
) -> np.ndarray:
    """Correlation of measured windows (axis 0) with predicted ones (axis 1)."""
    kind = torch.float32 if torch.device(device).type == "mps" else torch.float64
    count = len(starts)
    rows = starts[:, None] + np.arange(length)
    wide = max(1, _BLOCK // rows.size)
    products = torch.zeros(count, count, dtype=kind, device=device)
    sums, squares = np.zeros((2, count)), np.zeros((2, count))
    for first in range(0, len(columns), wide):
        part = slice(first, first + wide)
        moved = []
        for number, values in enumerate((predicted, measured)):
            mean, deviation = scales[number, part], scales[2 + number, part]
            block = (values.outputs(columns[part]).astype(float) - mean) / deviation
            windows = block[rows].reshape(count, -1)
            sums[number] += windows.sum(axis=1)
            squares[number] += np.einsum("ij,ij->i", windows, windows)
            moved.append(torch.from_numpy(windows).to(kind).to(device))
        products += moved[1] @ moved[0].T
    n = length * len(columns)
    centred = products.cpu().numpy().astype(float) - np.outer(sums[1], sums[0]) / n
    power = np.maximum(squares - sums**2 / n, 0)
    power[power <= 1e-12 * squares] = 0
    norms = np.sqrt(np.outer(power[1], power[0]))
    return np.divide(centred, norms, out=np.zeros_like(centred), where=norms > 0)
