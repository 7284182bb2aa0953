"""What looks wrong in the values of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise

import numpy as np

from tribrain.brain.meshes import medial_wall
from tribrain.brain.series import BoldSeries
from tribrain.brain.spaces import Space
from tribrain.errors import InputError

SPIKE = 20.0
"""Robust standard deviations from the median of a series, beyond which a value is none of BOLD."""
UNMEASURED = 0.05
"""Share of the cortex that may be NaN throughout: a field of view cuts some of it off, and walls
differ (`tribrain.brain.meshes.medial_wall` leaves out the rim)."""
LOST = 0.05
"""Share of what a hemisphere (or the voxels) has values of at all, beyond which NaN in a row are
told: series that few rows lack are usual."""
_COLUMNS = 512
"""Series that are looked at together."""
_ROBUST = 1.4826  # of a Gaussian: standard deviation over median absolute deviation


def odd_values(series: BoldSeries) -> Iterator[str]:
    """Say what looks wrong: rows, then series that do not vary, then single values.

    Series of the medial wall do not count.

    Parameters
    ----------
    series : BoldSeries

    Yields
    ------
    str
    """
    values = series.values
    inside = _inside(series)
    yield from _odd_rows(values)
    yield from _lost_rows(values, series.space, inside)
    infinite = int(np.isinf(values).sum())
    if infinite:
        yield f"{infinite} values are infinite"
    what = "parcels" if series.space.parcels else "vertices and voxels"
    n_missing = n_flat = 0
    spikes = np.zeros(len(values), int)
    for first in range(0, len(inside), _COLUMNS):
        block = values[:, inside[first : first + _COLUMNS]].astype(np.float64)
        block[np.isinf(block)] = np.nan
        missing = np.isnan(block).all(axis=0)
        measured = block[:, ~missing]
        varying = np.nanmax(measured, axis=0, initial=-np.inf) > np.nanmin(
            measured, axis=0, initial=np.inf
        )
        n_missing += int(missing.sum())
        n_flat += int((~varying).sum())
        spikes += _spikes(measured[:, varying])
    share = n_missing / max(1, len(inside))
    if share > UNMEASURED or (n_missing and series.space.parcels):
        yield f"{n_missing} of {len(inside)} {what} are NaN throughout ({share:.0%})"
    if n_flat:
        yield f"{n_flat} of {len(inside)} {what} never change"
    if spikes.any():
        yield (
            f"values more than {SPIKE:g} robust standard deviations from the median of their "
            f"series: {spikes.sum()}, in {_rows(spikes > 0)}"
        )


def parts(series: BoldSeries) -> dict[str, str]:
    """Checksums of the values of the left and the right hemisphere and of what else there is.

    Parts in which nothing varies are left out: they are equal without having been copied.
    """
    found = {}
    for name, cut in _cuts(series.space).items():
        values = np.ascontiguousarray(series.values[:, cut], np.float32)
        measured = values[np.isfinite(values)]
        if len(measured) and measured.min() < measured.max():
            found[name] = hashlib.sha256(repr(values.shape).encode() + values.tobytes()).hexdigest()
    return found


def _cuts(space: Space) -> dict[str, slice]:
    """The parts of a space that are read from files of their own."""
    if not space.is_surface:
        return {"all values": slice(0, space.size)}
    cuts = {"left hemisphere": space.slice("left"), "right hemisphere": space.slice("right")}
    if space.n_voxels:
        cuts["voxels"] = slice(space.cortex.stop, space.size)
    return cuts


def _odd_rows(values: np.ndarray) -> Iterator[str]:
    missing = np.isnan(values)
    empty = missing.all(axis=1)
    if empty.any():
        yield f"{_rows(empty)} are NaN throughout"
    if len(values) > 1:
        same = np.array([np.array_equal(*rows, equal_nan=True) for rows in pairwise(values)])
        repeated = np.concatenate([[False], same & ~empty[1:]])
        if repeated.any():
            yield f"{_rows(repeated)} are exact copies of the row before"


def _lost_rows(values: np.ndarray, space: Space, inside: np.ndarray) -> Iterator[str]:
    """Rows that lack much of a part: one file of a run may be damaged, and the others whole."""
    missing = np.isnan(values)
    told = missing.all(axis=1)
    for name, cut in _cuts(space).items():
        own = missing[:, inside[(inside >= cut.start) & (inside < cut.stop)]]
        own = own[:, ~own.all(axis=0)]  # what no row has was not in the field of view
        if not own.size:
            continue
        share = own.mean(axis=1)
        for lost, what in (
            (share == 1, f"are NaN throughout in the {name}"),
            ((share > LOST) & (share < 1), f"have NaN where others have values ({name})"),
        ):
            lost = lost & ~told
            if lost.any():
                yield f"{_rows(lost)} {what}"


def _rows(which: np.ndarray) -> str:
    numbers = np.flatnonzero(which)
    return f"{len(numbers)} of {len(which)} rows (the first: {numbers[0]})"


def _inside(series: BoldSeries) -> np.ndarray:
    """Positions of the values outside the medial wall."""
    space = series.space
    inside = np.ones(space.size, bool)
    if space.is_surface:
        with suppress(InputError):  # a mesh whose sphere is not here: everything counts
            inside[space.cortex] = ~medial_wall(space.mesh)
    return np.flatnonzero(inside)


def _spikes(values: np.ndarray) -> np.ndarray:
    """How many values of each row (n,) are far from the median of their series."""
    distance = np.abs(values - np.nanmedian(values, axis=0))
    typical = _ROBUST * np.nanmedian(distance, axis=0)
    far = (distance > SPIKE * typical) & (typical > 0)
    return far.sum(axis=1)
