"""From neural activity to the BOLD signal."""

from __future__ import annotations

import numpy as np


def canonical_response(frequency: float, length: float = 32.0) -> np.ndarray:
    """The double-gamma haemodynamic response, sampled and scaled to sum 1.

    A gamma density of shape 6 less a sixth of one of shape 16, both of scale 1 s: a peak at 5 s
    and an undershoot at 15 s (Friston et al. 1998, NeuroImage 7:30-40; the defaults of SPM).

    Parameters
    ----------
    frequency : float
        Samples a second.
    length : float
        Seconds.

    Returns
    -------
    ndarray (length * frequency + 1,)
        From 0 s on.
    """
    from scipy.stats import gamma

    times = np.arange(round(length * frequency) + 1) / frequency
    response = gamma.pdf(times, 6) - gamma.pdf(times, 16) / 6
    return response / response.sum()


def convolve(series: np.ndarray, frequency: float, n: int) -> np.ndarray:
    """Convolve series with the canonical response.

    Parameters
    ----------
    series : ndarray (..., time)
        Activity at `frequency` samples a second; none before and after.
    frequency : float
    n : int
        Samples wanted from the start on (more than there is activity for gives the decay).

    Returns
    -------
    ndarray (..., n)
    """
    from scipy.signal import lfilter

    missing = max(0, n - series.shape[-1])
    padded = np.pad(series[..., :n], [(0, 0)] * (series.ndim - 1) + [(0, missing)])
    return lfilter(canonical_response(frequency), 1.0, padded, axis=-1)
