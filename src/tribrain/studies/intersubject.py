"""How alike the responses of people are: the correlation of each with the mean of the others."""

from __future__ import annotations

import numpy as np

from tribrain.errors import InputError


def leave_one_out(values: np.ndarray) -> np.ndarray:
    """Inter-subject correlation: each person's series with the mean of the others' (Hasson 2004).

    The series of each person are z-scored over the rows given before they are averaged, so that
    nobody counts for more than another. The correlation is Pearson's, and is not clipped.

    Parameters
    ----------
    values : ndarray (subjects, time, n)
        NaN where nothing was measured: such a row of a person is left out of the person's own
        correlation, and of the mean of the others. A series that does not vary counts as not
        measured.

    Returns
    -------
    ndarray (subjects, n), float64
        NaN where a person, or all others, were not measured.

    Raises
    ------
    InputError
        Another number of axes, or fewer than two people.

    References
    ----------
    Hasson et al. 2004, Science 303:1634-1640; Nastase et al. 2019, SCAN 14:667-685.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 3 or len(values) < 2:
        raise InputError(
            f"inter-subject correlation of an array {values.shape}; "
            "(subjects, time, values) with two subjects at least fits"
        )
    scores = _zscored(values)
    measured = ~np.isnan(scores)
    filled = np.where(measured, scores, 0.0)
    total, count = filled.sum(0), measured.sum(0)
    found = np.empty((len(values), values.shape[2]))
    for person, own in enumerate(scores):
        with np.errstate(invalid="ignore"):  # 0 / 0 where nobody else was measured
            others = (total - filled[person]) / (count - measured[person])
        others = others.round(12)  # z-scores: what rounding leaves of a constant mean is constant
        found[person] = _correlation(own, others)
    return found


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson correlation of series (time, n), over the rows that both have: (n,)."""
    together = ~(np.isnan(a) | np.isnan(b))
    a, b = (_zscored(np.where(together, series, np.nan)) for series in (a, b))
    with np.errstate(invalid="ignore"):
        return np.where(together, a * b, 0.0).sum(0) / together.sum(0)


def _zscored(values: np.ndarray) -> np.ndarray:
    """Mean 0 and standard deviation 1 over time (..., time, n); NaN where a series is constant."""
    constant = np.fmax.reduce(values, axis=-2) == np.fmin.reduce(values, axis=-2)
    measured = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        count = measured.sum(-2, keepdims=True)
        centred = values - np.where(measured, values, 0.0).sum(-2, keepdims=True) / count
        deviation = np.sqrt(np.where(measured, centred**2, 0.0).sum(-2, keepdims=True) / count)
        return np.where(constant[..., None, :], np.nan, centred / deviation)
