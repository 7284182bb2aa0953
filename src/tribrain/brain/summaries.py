"""What a response says: its peak, contrasts, likeness to another, its most telling rows.

The functions take values and a space; `Response` offers them as methods. The medial wall is left
out everywhere. A response of hours is gone through in blocks: nothing here copies it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tribrain.brain.meshes import medial_wall, midsurface, moved, to_template
from tribrain.brain.spaces import HEMISPHERES, Space
from tribrain.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

Moments = Sequence[tuple[float, float]] | Sequence[bool] | np.ndarray
"""Spans of seconds of the stimulus (start, end), or a truth value a row."""

_BLOCK = 4_000_000  # values


@dataclass(frozen=True)
class Peak:
    """The largest value of a response.

    Attributes
    ----------
    value : float
    time, bold_time : float
        Seconds of the stimulus, and when the scanner would see it.
    index : int
        Which of the space's values it is.
    hemisphere : str
        ``left``, ``right``, or empty for a voxel or parcel.
    vertex : int or None
        Vertex of its hemisphere.
    mni152 : tuple of three float, or None
        Millimetres, where it is known where the value lies.
    parcel : str
        Name of the parcel, empty for vertices and voxels.
    """

    value: float
    time: float
    bold_time: float
    index: int
    hemisphere: str
    vertex: int | None
    mni152: tuple[float, float, float] | None
    parcel: str


def cortex_mask(space: Space) -> np.ndarray:
    """Values that count: all but those in the medial wall (size,), bool."""
    mask = np.ones(space.size, bool)
    if space.is_surface:
        mask[space.cortex] = ~medial_wall(space.mesh)
    return mask


def row_blocks(values: np.ndarray) -> Iterator[slice]:
    """Slices of rows that hold a few million values each."""
    step = max(1, _BLOCK // max(1, values.shape[1]))
    for first in range(0, len(values), step):
        yield slice(first, min(first + step, len(values)))


def find_peak(data: xr.DataArray, space: Space, *, absolute: bool = False) -> Peak:
    """The largest value, or the one furthest from 0 (`absolute`), of a response (time, vertex).

    The first of equal ones. Values that are NaN do not count.

    Raises
    ------
    InputError
        If there is no value at all.
    """
    values, mask = data.values, cortex_mask(space)
    best, row, index = -np.inf, -1, -1
    for rows in row_blocks(values):
        block = np.abs(values[rows]) if absolute else values[rows]
        block = np.where(mask & ~np.isnan(block), block, -np.inf)
        place = int(block.argmax())
        if block.flat[place] > best:
            best = float(block.flat[place])
            row, index = rows.start + place // block.shape[1], place % block.shape[1]
    if row < 0:
        raise InputError("the response holds no value outside the medial wall")
    hemisphere, vertex, mni152 = _where(space, index)
    return Peak(
        float(values[row, index]),
        float(data["time"][row]),
        float(data["bold_time"][row]),
        index,
        hemisphere,
        vertex,
        mni152,
        space.parcels[index] if space.parcels else "",
    )


def _where(space: Space, index: int) -> tuple[str, int | None, tuple[float, float, float] | None]:
    for side in HEMISPHERES if space.is_surface else ():
        part = space.slice(side)
        if part.start <= index < part.stop:
            vertex = index - part.start
            point = midsurface(side, space.mesh)[vertex]
            matrix = to_template(space.mesh, "MNI152NLin6Asym")
            return side, vertex, _millimetres(matrix, point)
    if space.voxels is None:
        return "", None, None
    voxel = space.voxels.indices[index - space.cortex.stop]
    return "", None, _millimetres(space.voxels.affine, voxel)


def _millimetres(matrix: np.ndarray, point: np.ndarray) -> tuple[float, float, float]:
    x, y, z = moved(point, matrix).tolist()
    return x, y, z


def chosen_rows(moments: Moments, time: np.ndarray, name: str) -> np.ndarray:
    """Rows that moments choose (rows,), bool.

    A span chooses the rows whose second of the stimulus starts in it (start included, end not).

    Raises
    ------
    InputError
        If the moments are neither spans nor a truth value a row, or choose nothing.
    """
    try:
        given = np.asarray(moments)
        if given.dtype != bool:
            given = given.astype(float)
    except (TypeError, ValueError):  # ragged, or no numbers
        raise InputError(f"{name}: spans [(start, end), ...] in numbers of seconds fit") from None
    if given.dtype == bool and given.shape == time.shape:
        rows = given
    elif given.dtype != bool and given.ndim == 2 and given.shape[1] == 2:
        rows = np.zeros(len(time), bool)
        for start, end in given:
            rows |= (time >= start) & (time < end)
    else:
        raise InputError(
            f"{name}: spans [(start, end), ...] in seconds of the stimulus, or {len(time)} truth "
            f"values, one a row, fit; found {given.dtype} of shape {given.shape}"
        )
    if not rows.any():
        raise InputError(
            f"{name} chooses no row; the response runs from {time[0]:g} to {time[-1] + 1:g} s"
        )
    return rows


def mean_of_rows(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Mean of the chosen rows at each vertex, over those that are not NaN, as float64."""
    total, count = np.zeros(values.shape[1]), np.zeros(values.shape[1])
    for block in row_blocks(values):
        part = values[block][rows[block]]
        there = ~np.isnan(part)
        total += np.where(there, part, 0).sum(axis=0, dtype=float)
        count += there.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return total / count


def variances(values: np.ndarray) -> np.ndarray:
    """Variance over time at each vertex, over the rows that are not NaN, as float64."""
    mean = mean_of_rows(values, np.ones(len(values), bool))
    total, count = np.zeros(values.shape[1]), np.zeros(values.shape[1])
    for block in row_blocks(values):
        deviation = values[block] - mean
        there = ~np.isnan(deviation)
        total += np.square(np.where(there, deviation, 0)).sum(axis=0)
        count += there.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return total / count


def correlation_over_time(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson correlation of each column of `a` with that of `b` (rows, n), as float64.

    Over the rows where both are there; NaN where one of them does not vary.
    """
    columns = max(1, _BLOCK // max(1, len(a)))
    parts = []
    for first in range(0, a.shape[1], columns):
        block = slice(first, first + columns)
        parts.append(_correlation(a[:, block].T, b[:, block].T))
    return np.concatenate(parts) if parts else np.empty(0)


def correlation_over_space(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Pearson correlation of each row of `a` with that of `b` over the masked values."""
    parts = [_correlation(a[rows][:, mask], b[rows][:, mask]) for rows in row_blocks(a)]
    return np.concatenate(parts) if parts else np.empty(0)


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlation along the last axis, in double precision; NaN where one does not vary."""
    there = ~(np.isnan(a) | np.isnan(b))
    count = np.maximum(there.sum(axis=-1, keepdims=True), 1)
    deviations, varies = [], np.ones(a.shape[:-1], bool)
    for part in (a, b):
        # Compared with itself, not with 0: rounding leaves a little of a constant's deviation.
        varies &= np.where(there, part, -np.inf).max(-1, initial=-np.inf) > np.where(
            there, part, np.inf
        ).min(-1, initial=np.inf)
        part = np.where(there, part, 0).astype(float)
        deviations.append(np.where(there, part - part.sum(axis=-1, keepdims=True) / count, 0))
    x, y = deviations
    norms = np.sqrt((x * x).sum(axis=-1) * (y * y).sum(axis=-1))
    return np.divide((x * y).sum(axis=-1), norms, out=np.full_like(norms, np.nan), where=varies)


def telling_rows(values: np.ndarray, space: Space, count: int) -> list[int]:
    """Rows whose patterns are strong and unlike each other, in order of time.

    The strongest row first, then each time the row with the most that the rows before it do
    not explain (a Gram-Schmidt process with pivots), as long as that is a tenth of the strongest
    one or more. The medial wall and values that are NaN do not count.
    """
    mask = cortex_mask(space)

    def block(rows: slice | int) -> np.ndarray:
        part = values[rows].astype(float)
        return np.where(mask & ~np.isnan(part), part, 0.0)

    left = np.concatenate([(block(rows) ** 2).sum(axis=1) for rows in row_blocks(values)] or [[]])
    directions: list[np.ndarray] = []
    chosen: list[int] = []
    strongest = 0.0
    for _ in range(min(count, len(values))):
        left[chosen] = -np.inf
        row = int(left.argmax())
        if chosen and left[row] < strongest / 100:  # squares
            break
        strongest = float(left[row]) if not chosen else strongest
        chosen.append(row)
        direction = block(row)
        for earlier in directions:
            direction = direction - (direction @ earlier) * earlier
        direction = direction / max(float(np.linalg.norm(direction)), 1e-12)
        directions.append(direction)
        for rows in row_blocks(values):
            left[rows] -= (block(rows) @ direction) ** 2
    return sorted(chosen)
