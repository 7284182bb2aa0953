"""Permutations in time, each as a sum over one table of products of the two series.

The correlation of a moved prediction with the data is a sum of products of their pieces: of whole
runs at a shift, of blocks, of Fourier components. The products of all pieces are made once, for
all outputs, and each permutation adds up those that it brings together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from tribrain.errors import InputError

KINDS = ("shift", "blocks", "phase")


@dataclass(frozen=True)
class Moves:
    """Permutations as sums over a table of products of pieces of the two series.

    ``table`` makes of predicted and measured (rows, v) the table (entries, v), ``entries`` tells
    its length; ``total`` makes of a table the sum of products (n, v) of each permutation.
    """

    table: Callable[[Tensor, Tensor], Tensor]
    total: Callable[[Tensor], Tensor]
    entries: int
    n: int


def run_spans(runs: np.ndarray | None, rows: int) -> list[tuple[int, int]]:
    """First row of each run and the one behind its last.

    Raises
    ------
    InputError
        If there is not one label a row, or rows of a run stand apart.
    """
    if runs is None:
        return [(0, rows)]
    runs = np.asarray(runs)
    if runs.shape != (rows,):
        raise InputError(f"runs has shape {runs.shape}; one label for each of {rows} rows fits")
    starts = [0, *(np.flatnonzero(runs[1:] != runs[:-1]) + 1).tolist(), rows]
    labels = [runs[start] for start in starts[:-1]]
    if len(set(labels)) < len(labels):
        again = next(label for at, label in enumerate(labels) if label in labels[:at])
        raise InputError(f"rows of run {again} stand apart; rows of a run stand together")
    return list(pairwise(starts))


def moves_in_time(
    kind: str,
    spans: list[tuple[int, int]],
    n: int,
    block: int,
    least: int,
    rng: np.random.Generator,
    device: str | torch.device,
) -> Moves:
    """`n` permutations of one of `KINDS`.

    Parameters
    ----------
    kind : str
        ``shift`` by `least` rows at least, ``blocks`` of `block` rows, or ``phase``.
    spans : list of (first row, row behind the last)
        Of each run.

    Raises
    ------
    InputError
        An unknown kind, or a run that is too short.
    """
    if kind not in KINDS:
        raise InputError(f"kind {kind!r} is unknown; known: {', '.join(KINDS)}")
    if kind == "phase":
        return _phases(spans, n, rng, device)
    return (
        _shifts(spans, n, least, rng, device)
        if kind == "shift"
        else _blocks(spans, n, block, rng, device)
    )


def _sum_of_entries(entries: np.ndarray, device: str | torch.device) -> Callable[[Tensor], Tensor]:
    """Sums over the entries (n, parts) of a table that each permutation is made of."""
    chosen = torch.from_numpy(np.ascontiguousarray(entries)).to(device)

    def total(table: Tensor) -> Tensor:
        return torch.nn.functional.embedding_bag(chosen, table, mode="sum")

    return total


def _shifts(
    spans: list[tuple[int, int]],
    n: int,
    least: int,
    rng: np.random.Generator,
    device: str | torch.device,
) -> Moves:
    """The table holds the circular cross-correlation of each run, at all shifts at once."""
    if least < 1:
        raise InputError(f"shifts by {least} rows and more; 1 at least fits")
    shortest = min(end - start for start, end in spans)
    if shortest < max(2, 2 * least):
        raise InputError(
            f"a run of {shortest} rows cannot be shifted by {least} rows both ways; "
            f"least={shortest // 2} or smaller, or runs of {2 * least} rows, fit"
        )
    choices = [end - start - 2 * least + 1 for start, end in spans]
    if np.prod(np.array(choices, float)) <= n:
        drawn = np.unravel_index(np.arange(int(np.prod(choices))), choices)
    else:
        drawn = tuple(rng.integers(0, number, n) for number in choices)
    shifts = np.stack([start + least + part for (start, _), part in zip(spans, drawn, strict=True)])

    def table(x: Tensor, y: Tensor) -> Tensor:
        parts = []
        for start, end in spans:
            product = torch.fft.rfft(x[start:end], dim=0).conj()
            product *= torch.fft.rfft(y[start:end], dim=0)
            parts.append(torch.fft.irfft(product, n=end - start, dim=0))
        return torch.cat(parts)

    return Moves(table, _sum_of_entries(shifts.T, device), spans[-1][1], shifts.shape[1])


def _blocks(
    spans: list[tuple[int, int]],
    n: int,
    block: int,
    rng: np.random.Generator,
    device: str | torch.device,
) -> Moves:
    """The table holds the product of each block of the data with each one of the prediction.

    The blocks of a run are of one length, `block` rows or a few more; the rows that are left over
    (fewer than blocks) stay where they are: one more entry a run.
    """
    if block < 1:
        raise InputError(f"blocks of {block} rows; 1 at least fits")
    shortest = min(end - start for start, end in spans)
    if shortest < 2 * block:
        raise InputError(
            f"a run of {shortest} rows has no two blocks of {block} rows; "
            f"block={max(1, shortest // 2)} or smaller fits"
        )
    pieces, chosen, entries = [], [], 0
    for start, end in spans:
        count = (end - start) // block
        pieces.append((start, end, count, (end - start) // count))
        orders = rng.permuted(np.tile(np.arange(count), (n, 1)), axis=1)
        chosen.append(entries + count * np.arange(count) + orders)
        entries += count**2 + 1
        chosen.append(np.full((n, 1), entries - 1))

    def table(x: Tensor, y: Tensor) -> Tensor:
        parts = []
        for start, end, count, length in pieces:
            middle = start + count * length
            a, b = (
                part[start:middle].reshape(count, length, -1).permute(2, 0, 1) for part in (x, y)
            )
            products = torch.bmm(b, a.transpose(1, 2))  # (v, block of the data, of the prediction)
            parts.append(products.reshape(-1, count**2).T)
            parts.append((x[middle:end] * y[middle:end]).sum(dim=0, keepdim=True))
        return torch.cat(parts)

    return Moves(table, _sum_of_entries(np.concatenate(chosen, axis=1), device), entries, n)


def _phases(
    spans: list[tuple[int, int]], n: int, rng: np.random.Generator, device: str | torch.device
) -> Moves:
    """The table holds the cross-spectrum: with turned phases, the sum of products is linear in it.

    By Parseval the sum over rows of x y is that over frequencies of Re(X Y*), and a phase f added
    to X makes it cos f Re(X Y*) - sin f Im(X Y*). Mean and spectrum of each run stay.
    """
    shortest = min(end - start for start, end in spans)
    if shortest < 4:
        raise InputError(f"a run of {shortest} rows has no phases to draw; 4 rows at least fit")
    cosines, sines = [], []
    for start, end in spans:
        length = end - start
        angles = rng.uniform(0, 2 * np.pi, (n, length // 2 + 1)).astype(np.float32)
        angles[:, 0] = 0  # the mean
        if length % 2 == 0:  # real: it stays or turns over
            angles[:, -1] = np.pi * (angles[:, -1] > np.pi)
        cosines.append(np.cos(angles))
        sines.append(np.sin(angles))
    weights = torch.from_numpy(np.concatenate([*cosines, *sines], axis=1)).to(device)

    def table(x: Tensor, y: Tensor) -> Tensor:
        real, imaginary = [], []
        for start, end in spans:
            product = torch.fft.rfft(y[start:end], dim=0).conj()
            product *= torch.fft.rfft(x[start:end], dim=0)
            # All but the mean (and the highest frequency of an even length) stand for two.
            product *= 2 / (end - start)
            product[0] /= 2
            if (end - start) % 2 == 0:
                product[-1] /= 2
            real.append(product.real)
            imaginary.append(-product.imag)
        return torch.cat([*real, *imaginary])

    def total(table: Tensor) -> Tensor:
        return weights @ table

    return Moves(table, total, weights.shape[1], n)
