"""BOLD on another clock: one row a second, the rows of a stimulus, shifts.

All of it is linear interpolation between measured rows, as in the published recipe. Nothing is
extrapolated, and what lies beside a row that was not measured (NaN) is NaN. There is no low-pass
filter: BOLD holds next to nothing above 0.3 Hz, so that going from 0.72 s a volume to 1 Hz aliases
little; a rate far below 1 Hz would.
"""

from __future__ import annotations

import numpy as np

from tribrain.brain.haemodynamics import LAG
from tribrain.brain.series import BoldSeries
from tribrain.errors import InputError

_NEAR = 1e-6
"""Of a row: a target this close to a measured row is that row. Clocks are rounded more finely."""
_BLOCK = 256
"""Rows interpolated at a time, so that a long run is not copied several times over."""


def interpolate(values: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Values between rows, by linear interpolation.

    Parameters
    ----------
    values : ndarray (time, ...)
    positions : ndarray (m,)
        In rows: 2.5 lies half way between rows 2 and 3.

    Returns
    -------
    ndarray (m, ...)
        A row itself where a position hits one; NaN beside a NaN and outside the rows.
    """
    values, positions = np.asarray(values), np.asarray(positions, float)
    dtype = values.dtype if values.dtype.kind == "f" else np.dtype(float)
    result = np.full((len(positions), *values.shape[1:]), np.nan, dtype)
    nearest = np.round(positions)
    positions = np.where(np.abs(positions - nearest) <= _NEAR, nearest, positions)
    inside = np.flatnonzero((positions >= 0) & (positions <= len(values) - 1))
    for start in range(0, len(inside), _BLOCK):
        rows = inside[start : start + _BLOCK]
        before = np.floor(positions[rows]).astype(int)
        share = (positions[rows] - before).astype(dtype).reshape(-1, *[1] * (values.ndim - 1))
        after = np.ceil(positions[rows]).astype(int)
        result[rows] = values[before] + share * (values[after] - values[before])
    return result


def to_rate(
    series: BoldSeries, rate: float = 1.0, *, start: float | None = None, n: int | None = None
) -> BoldSeries:
    """Resample BOLD in time by linear interpolation.

    Parameters
    ----------
    series : BoldSeries
    rate : float
        Rows a second.
    start : float, optional
        Time of the first row, in seconds of the run; by default that of the first volume.
    n : int, optional
        Rows; by default as many as were measured, and none after the last volume.

    Returns
    -------
    BoldSeries
        Row k is the BOLD at start + k / rate. NaN beside a row that is NaN, and where nothing was
        measured (a `start` before the first volume, an `n` beyond the last one).

    Raises
    ------
    InputError
        If the rate is not above 0, the start is not finite, or it lies after the last volume and
        `n` is not given.
    """
    if not 0 < rate < np.inf:
        raise InputError(f"rate {rate:g} Hz; rates above 0 fit")
    start = series.start if start is None else float(start)
    if not np.isfinite(start):
        raise InputError(f"start {start:g} s; a finite number of seconds fits")
    first = (start - series.start) / series.repetition_time
    step = 1 / (rate * series.repetition_time)
    if n is None:
        n = int(np.floor((len(series.values) - 1 - first + _NEAR) / step)) + 1
        if n < 1:
            raise InputError(
                f"the resampling starts at {start:g} s, after the last of {len(series.values)} "
                f"volumes that lie {series.repetition_time:g} s apart from {series.start:g} s on"
            )
    values = interpolate(series.values, first + step * np.arange(n))
    return BoldSeries(values, series.space, 1 / rate, start)


def stimulus_rows(series: BoldSeries, onset: float, n: int, lag: float = LAG) -> np.ndarray:
    """The BOLD that answers to each second of a stimulus.

    Parameters
    ----------
    series : BoldSeries
    onset : float
        Time at which the stimulus starts, in seconds of the run.
    n : int
        Rows, one a second of the stimulus.
    lag : float
        Seconds by which the BOLD is read late; 5 s in the published recipe.

    Returns
    -------
    ndarray (n, values)
        Row t is the BOLD at the time onset + t + lag of the run; NaN where nothing was measured.
    """
    return to_rate(series, 1.0, start=onset + lag, n=n).values


def shift(values: np.ndarray, seconds: float, rate: float) -> np.ndarray:
    """Move series later in time (sooner where `seconds` is below 0), by linear interpolation.

    Parameters
    ----------
    values : ndarray (time, ...)
    seconds : float
        Any, not only whole rows.
    rate : float
        Rows a second.

    Returns
    -------
    ndarray (time, ...)
        Row t is what stood `seconds` before it; NaN where that lies outside the series.
    """
    return interpolate(values, np.arange(len(values)) - seconds * rate)
