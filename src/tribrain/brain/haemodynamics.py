"""From neural activity to the BOLD signal: haemodynamic responses, and delays as columns."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import exp, factorial
from typing import NamedTuple

import numpy as np

from tribrain.errors import InputError

LAG = 5.0
"""Seconds from the stimulus to the BOLD that a row of a response holds: row t is the BOLD at
t + 5 s, about the peak of the haemodynamic response (the published recipe)."""


class DoubleGamma(NamedTuple):
    """A gamma density less a share of a later one, in the parameters of SPM's ``spm_hrf``.

    Each density has the shape delay / dispersion and the scale dispersion (s), so that its mean is
    its delay (s); the second one is divided by `ratio`.
    """

    delay: float
    undershoot: float
    dispersion: float
    undershoot_dispersion: float
    ratio: float


def _glover() -> DoubleGamma:
    """Glover's two terms t^n exp(-t / s), each scaled to a peak of 1, as densities."""
    n, n_under, s, share = 6, 12, 0.9, 0.35
    peak, peak_under = (n**n * exp(-n) / factorial(n) for n in (n, n_under))
    return DoubleGamma((n + 1) * s, (n_under + 1) * s, s, s, peak_under / (share * peak))


RESPONSES = {"spm": DoubleGamma(6.0, 16.0, 1.0, 1.0, 6.0), "glover": _glover()}
"""Haemodynamic responses.

- ``spm``: peak at 5 s, undershoot at 15 s (Friston et al. 1998, NeuroImage 7:30-40; the defaults
  of SPM).
- ``glover``: t^6 exp(-t / 0.9) less 0.35 of t^12 exp(-t / 0.9), each scaled to a peak of 1: what
  Glover fitted to auditory cortex (Glover 1999, NeuroImage 9:416-429). Peak at 5.2 s, undershoot at
  12.3 s. nilearn's ``glover_hrf`` has parameters of its own and peaks 0.2 s sooner; the two
  correlate at 0.997.
"""
DERIVATIVES = ("time", "dispersion")


def canonical_response(
    frequency: float,
    length: float = 32.0,
    response: str = "spm",
    derivative: str | None = None,
) -> np.ndarray:
    """A double-gamma haemodynamic response, sampled and scaled to sum 1, or a derivative of it.

    Parameters
    ----------
    frequency : float
        Samples a second.
    length : float
        Seconds.
    response : str
        One of `RESPONSES`.
    derivative : {None, "time", "dispersion"}
        The derivative (per second, of the response scaled to sum 1) instead of the response. Its
        sign is that of SPM: some of "time" added makes the response sooner, some of "dispersion"
        makes its peak narrower (Friston et al. 1998, as above).

    Returns
    -------
    ndarray (length * frequency + 1,)
        From 0 s on.

    Raises
    ------
    InputError
        If the response or the derivative is unknown.
    """
    if response not in RESPONSES:
        raise InputError(f"response {response!r} is unknown; known: {', '.join(RESPONSES)}")
    if derivative is not None and derivative not in DERIVATIVES:
        known = ", ".join(DERIVATIVES)
        raise InputError(f"derivative {derivative!r} is unknown; known: {known}")
    shape = RESPONSES[response]
    times = np.arange(round(length * frequency) + 1) / frequency
    values = _double_gamma(times, shape)
    total, step = values.sum(), 1e-3
    if derivative == "time":
        later, sooner = (_double_gamma(times + sign * step, shape) for sign in (1, -1))
        values = (later - sooner) / (2 * step)
    elif derivative == "dispersion":
        wide, narrow = (
            _double_gamma(times, shape._replace(dispersion=shape.dispersion + sign * step))
            for sign in (1, -1)
        )
        values = (narrow - wide) / (2 * step)
    return values / total


def _double_gamma(times: np.ndarray, shape: DoubleGamma) -> np.ndarray:
    from scipy.stats import gamma

    peak = gamma.pdf(times, shape.delay / shape.dispersion, scale=shape.dispersion)
    undershoot = gamma.pdf(
        times, shape.undershoot / shape.undershoot_dispersion, scale=shape.undershoot_dispersion
    )
    return peak - undershoot / shape.ratio


def convolve(
    series: np.ndarray,
    frequency: float,
    n: int,
    response: str = "spm",
    derivative: str | None = None,
) -> np.ndarray:
    """Convolve series with a haemodynamic response.

    Parameters
    ----------
    series : ndarray (..., time)
        Activity at `frequency` samples a second; none before and after.
    frequency : float
    n : int
        Samples wanted from the start on (more than there is activity for gives the decay).
    response, derivative
        As in `canonical_response`.

    Returns
    -------
    ndarray (..., n)
    """
    from scipy.signal import lfilter

    kernel = canonical_response(frequency, response=response, derivative=derivative)
    missing = max(0, n - series.shape[-1])
    padded = np.pad(series[..., :n], [(0, 0)] * (series.ndim - 1) + [(0, missing)])
    return lfilter(kernel, 1.0, padded, axis=-1)


def fir(
    series: np.ndarray, delays: Sequence[int], runs: Sequence[object] | np.ndarray | None = None
) -> np.ndarray:
    """Delayed copies of series: the design of a finite impulse response (FIR) model.

    Parameters
    ----------
    series : ndarray (time, k)
    delays : sequence of int
        In samples; row t of a copy holds row t - delay of the series. Negative ones look ahead.
    runs : sequence (time,), optional
        A label for each row; the rows of a run stand together. Without it there is one run.

    Returns
    -------
    ndarray (time, k * len(delays))
        All k columns at the first delay, then all at the second one, as in the field's tutorials
        (Huth et al. 2016, Nature 532:453-458). Zero where the delayed row lies outside the run:
        before a run starts there is no stimulus.

    Raises
    ------
    InputError
        If a delay is no whole number, or the rows of a run do not stand together.
    """
    series, steps = np.asarray(series), np.asarray(delays)
    if series.ndim != 2:
        raise InputError(f"the series has shape {series.shape}; (time, k) fits")
    if steps.ndim != 1 or not steps.size or not np.array_equal(steps, np.round(steps)):
        raise InputError(f"delays {list(delays)}: one or more whole numbers of samples fit")
    n, k = series.shape
    result = np.zeros((n, k * len(steps)), series.dtype)
    for start, stop in run_bounds(runs, n):
        for column, step in zip(range(0, result.shape[1], k), steps.astype(int), strict=True):
            first, last = max(start, start + step), min(stop, stop + step)
            if first < last:
                result[first:last, column : column + k] = series[first - step : last - step]
    return result


def run_bounds(runs: Sequence[object] | np.ndarray | None, n: int) -> list[tuple[int, int]]:
    """First row and the row after the last one of each run.

    Parameters
    ----------
    runs : sequence (n,), optional
        A label for each row. Without it there is one run.
    n : int
        Rows.

    Raises
    ------
    InputError
        If there is not one label a row, or the rows of a run do not stand together.
    """
    labels = np.zeros(n) if runs is None else np.asarray(runs)
    if labels.shape != (n,):
        raise InputError(f"run labels have shape {labels.shape}; one for each of {n} rows fits")
    if not n:
        return []
    edges = [0, *(np.flatnonzero(labels[1:] != labels[:-1]) + 1).tolist(), n]
    seen = labels[edges[:-1]].tolist()
    for label in seen:
        if seen.count(label) > 1:
            raise InputError(f"the rows of run {label!r} do not stand together; sort them by run")
    return list(pairwise(edges))
