"""Bands: feature spaces side by side in the columns of one array."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from tribrain.brain.haemodynamics import fir
from tribrain.errors import InputError


def band_slices(bands: Sequence[int] | None, columns: int) -> list[slice]:
    """Columns of each feature space.

    Parameters
    ----------
    bands : sequence of int, optional
        How many columns each one has, in order; one band of all columns by default.
    columns : int

    Raises
    ------
    InputError
        If a band is empty, or they do not add up to the columns.
    """
    sizes = [columns] if bands is None else [int(size) for size in bands]
    if min(sizes, default=0) < 1 or sum(sizes) != columns:
        raise InputError(f"bands {sizes}: one or more columns each, {columns} in all, fit")
    return [slice(a, b) for a, b in pairwise(np.cumsum([0, *sizes]).tolist())]


def delayed_bands(
    x: np.ndarray,
    bands: Sequence[slice],
    delays: Sequence[int],
    runs: Sequence[object] | np.ndarray | None = None,
) -> tuple[np.ndarray, list[slice]]:
    """Delayed copies of the columns, band by band.

    Parameters
    ----------
    x : ndarray (n, columns)
    bands : sequence of slice
    delays : sequence of int
        In rows; rows from before their run are 0.
    runs : sequence (n,), optional
        A label for each row; the rows of a run stand together.

    Returns
    -------
    delayed : ndarray (n, columns * len(delays))
        Of a band all columns at the first delay, then all at the second one, then the next band.
    bands : list of slice
        Its columns there.
    """
    parts = [fir(x[:, band], delays, runs) for band in bands]
    delayed = np.concatenate(parts, axis=1)
    return delayed, band_slices([part.shape[1] for part in parts], delayed.shape[1])
