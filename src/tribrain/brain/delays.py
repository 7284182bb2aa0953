"""By how much a measured response follows a predicted one, estimated from data.

The delay is where the cross-correlation is highest: taken at whole rows within runs, then refined
by the parabola through the highest value and its two neighbours. Delays of the response differ by
a second or more between regions and people (Handwerker et al. 2004, NeuroImage 21:1639-1651).

Simulated haemodynamic series at 1 Hz in autoregressive noise (0.5), 10 minutes long, have a
root-mean-square error of 0.09 s at a signal-to-noise ratio (of variances) of 4, of 0.16 s at 1 and
of 0.33 s at 1/4; it falls as the root of the length. The parabola itself adds 0.005 s. Differences
below a second are therefore a matter of means over regions, not of single vertices.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from tribrain.brain.haemodynamics import run_bounds
from tribrain.errors import InputError, InputWarning

if TYPE_CHECKING:
    import pandas as pd

Runs = Sequence[object] | np.ndarray | None

_COLUMNS = 256
"""Series worked on at a time."""
_MEMORY = 30.0
"""Seconds over which a BOLD series is taken to be correlated with itself."""
_FLAT = float(np.finfo(np.float32).eps)
"""A series that varies by less than this share of its size is flat: float32 holds no more."""
_FEWEST_PAIRS = 10


def estimate_delays(
    predicted: np.ndarray,
    measured: np.ndarray,
    rate: float,
    *,
    longest: float = 10.0,
    runs: Runs = None,
    chance: float = 0.01,
) -> tuple[np.ndarray, np.ndarray]:
    """The delay by which each measured series follows its predicted one.

    Parameters
    ----------
    predicted, measured : ndarray (time, n)
        NaN where nothing was measured; a pair of rows counts where both are known. The mean of
        each series over a run is removed.
    rate : float
        Rows a second.
    longest : float
        Delays from -longest to longest are searched, in seconds.
    runs : sequence (time,), optional
        A label for each row; no pair of rows comes from two runs.
    chance : float
        A correlation that two unrelated series reach with a greater probability, anywhere in the
        range, tells no delay. The variance of their correlation follows from their
        autocorrelations (Bartlett 1946, J. R. Stat. Soc. Suppl. 8:27-41), over 30 s.

    Returns
    -------
    delays : ndarray (n,)
        Seconds, positive where the measured series is late. NaN, with a warning that says how many
        and why, where a series is flat, where the correlation is highest at an end of the range,
        and where it is no higher than chance.
    correlation : ndarray (n,)
        The top of the parabola, also where it tells no delay; NaN for a flat series.

    Raises
    ------
    InputError
        If the arrays do not fit each other, or no run is longer than twice the range.
    """
    predicted, measured, bounds, lags = _checked(predicted, measured, rate, longest, runs)
    n = predicted.shape[1]
    delays, correlation = np.full(n, np.nan), np.full(n, np.nan)
    n_flat = n_edge = n_chance = 0
    for start in range(0, n, _COLUMNS):
        columns = slice(start, start + _COLUMNS)
        a, b = (_centred(series[:, columns], bounds) for series in (predicted, measured))
        sums = sum(_pair_sums(a, b, lags, run, run) for run in bounds)
        position, top = _peak(_correlations(np.asarray(sums)))
        flat = np.isnan(top)
        edge = np.isnan(position) & ~flat
        weak = ~flat & ~edge & (top < _threshold(a, b, rate, bounds, len(lags), chance))
        position[weak] = np.nan
        delays[columns] = (lags[0] + position) / rate
        correlation[columns] = top
        n_flat, n_edge, n_chance = n_flat + flat.sum(), n_edge + edge.sum(), n_chance + weak.sum()
    reasons = {
        "flat or too short": n_flat,
        f"most alike at an end of +-{longest:g} s": n_edge,
        "no more alike than chance": n_chance,
    }
    told = ", ".join(f"{count} {reason}" for reason, count in reasons.items() if count)
    if told:
        warnings.warn(f"no delay for some of {n} series: {told}", InputWarning, stacklevel=2)
    return delays, correlation


def delay_errors(
    predicted: np.ndarray,
    measured: np.ndarray,
    rate: float,
    *,
    longest: float = 10.0,
    runs: Runs = None,
    block: float = 30.0,
    draws: int = 200,
    seed: int = 0,
) -> np.ndarray:
    """Standard errors of delays, by a bootstrap of blocks of time.

    Parameters
    ----------
    predicted, measured, rate, longest, runs
        As in `estimate_delays`.
    block : float
        Seconds: pieces of this length are drawn with replacement, each with its measured rows and
        the predicted rows before them (Kuensch 1989, Ann. Stat. 17:1217-1241, with blocks that do
        not overlap).
    draws : int
    seed : int

    Returns
    -------
    ndarray (n,)
        Seconds: the standard deviation of the delays of the draws. NaN where more than a tenth of
        the draws have their peak at an end of the range, and where there are fewer than five
        blocks.

    Raises
    ------
    InputError
        As `estimate_delays`.
    """
    predicted, measured, bounds, lags = _checked(predicted, measured, rate, longest, runs)
    pieces = []
    for first, last in bounds:
        count = max(1, round((last - first) / (block * rate)))
        edges = np.linspace(first, last, count + 1).round().astype(int)
        pieces += [((first, last), (u, v)) for u, v in pairwise(edges)]
    result = np.full(predicted.shape[1], np.nan)
    if len(pieces) < 5:
        return result
    weights = np.random.default_rng(seed).multinomial(
        len(pieces), np.full(len(pieces), 1 / len(pieces)), size=draws
    )
    for start in range(0, len(result), _COLUMNS):
        columns = slice(start, start + _COLUMNS)
        a, b = (_centred(series[:, columns], bounds) for series in (predicted, measured))
        sums = np.stack([_pair_sums(a, b, lags, run, piece) for run, piece in pieces])
        positions = np.stack(
            [_peak(_correlations(np.tensordot(weight, sums, axes=1)))[0] for weight in weights]
        )
        steady = np.isnan(positions).mean(axis=0) <= 0.1
        result[columns][steady] = np.nanstd(positions[:, steady], axis=0, ddof=1) / rate
    return result


def region_delays(
    predicted: np.ndarray,
    measured: np.ndarray,
    labels: Sequence[object] | np.ndarray,
    rate: float,
    *,
    longest: float = 10.0,
    runs: Runs = None,
    chance: float = 0.01,
) -> pd.DataFrame:
    """The delay of each region: that of the mean of its vertices, which holds less noise.

    Parameters
    ----------
    predicted, measured, rate, longest, runs, chance
        As in `estimate_delays`; z-scored, so that each vertex counts as much.
    labels : sequence (n,) of str, or of int
        Region of each vertex; "" or a number below 0 where it is in none.

    Returns
    -------
    DataFrame (region)
        Columns: delay (s), error (s, of `delay_errors`; NaN without a delay), correlation,
        vertices (how many were averaged: those known at some row of both). A row of a mean is over
        the vertices known at it.

    Raises
    ------
    InputError
        As `estimate_delays`, and if there is not one label a vertex.
    """
    import pandas as pd

    predicted, measured, _, _ = _checked(predicted, measured, rate, longest, runs)
    names = np.asarray(labels)
    if names.shape != measured.shape[1:]:
        raise InputError(f"labels have shape {names.shape}; one for each column fits")
    known = ~np.isnan(predicted).all(axis=0) & ~np.isnan(measured).all(axis=0)
    inside = names >= 0 if names.dtype.kind in "iu" else names != ""
    regions = np.unique(names[inside])
    if not len(regions):
        raise InputError("no vertex is in a region: every label is empty or below 0")
    members = [np.flatnonzero((names == region) & known) for region in regions]
    left, right = (
        np.stack([_mean(series[:, where]) for where in members], axis=1)
        for series in (predicted, measured)
    )
    delays, correlation = estimate_delays(
        left, right, rate, longest=longest, runs=runs, chance=chance
    )
    errors = delay_errors(left, right, rate, longest=longest, runs=runs)
    errors[np.isnan(delays)] = np.nan
    return pd.DataFrame(
        {
            "delay": delays,
            "error": errors,
            "correlation": correlation,
            "vertices": [len(where) for where in members],
        },
        index=pd.Index(regions, name="region"),
    )


def _mean(series: np.ndarray) -> np.ndarray:
    """Mean over the columns known at each row (time,); NaN where none is."""
    known = ~np.isnan(series)
    total = np.where(known, series, 0.0).sum(axis=1, dtype=float)
    count = known.sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _checked(
    predicted: np.ndarray, measured: np.ndarray, rate: float, longest: float, runs: Runs
) -> tuple[np.ndarray, np.ndarray, list[tuple[int, int]], np.ndarray]:
    """Both arrays, the bounds of the runs and the delays to try, in rows."""
    predicted, measured = np.asarray(predicted), np.asarray(measured)
    if predicted.ndim != 2 or predicted.shape != measured.shape:
        raise InputError(
            f"predicted has shape {predicted.shape} and measured {measured.shape}; the same "
            "(time, n) fits"
        )
    if not 0 < rate < np.inf:
        raise InputError(f"rate {rate:g} Hz; rates above 0 fit")
    bounds = run_bounds(runs, len(predicted))
    reach = int(longest * rate + 1e-9)
    rows = max((last - first for first, last in bounds), default=0)
    if reach < 1 or rows <= 2 * reach:
        raise InputError(
            f"delays of up to {longest:g} s; {1 / rate:g} s (a row) to below {rows / 2 / rate:g} s "
            "(half of the longest run) fit"
        )
    return predicted, measured, bounds, np.arange(-reach, reach + 1)


def _centred(series: np.ndarray, bounds: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """A series less its mean over each run, 0 where it is not known, and where it is (0 or 1).

    A run in which it is flat is not known: there is nothing to compare.
    """
    series = series.astype(float)
    known = ~np.isnan(series)
    filled = np.where(known, series, 0.0)
    for first, last in bounds:
        run, there = filled[first:last], known[first:last]
        size = np.abs(run).max(axis=0)
        run -= run.sum(axis=0) / np.maximum(there.sum(axis=0), 1)
        run *= there
        flat = np.abs(run).max(axis=0) <= _FLAT * size
        run[:, flat], there[:, flat] = 0.0, False
    return filled, known.astype(float)


def _pair_sums(
    predicted: tuple[np.ndarray, np.ndarray],
    measured: tuple[np.ndarray, np.ndarray],
    lags: np.ndarray,
    run: tuple[int, int],
    piece: tuple[int, int],
) -> np.ndarray:
    """Sums over the pairs of a run whose measured row lies in a piece of it: (6, lags, n).

    They are the number of pairs, the sums of both series, of their squares, of their product.
    """
    result = np.zeros((6, len(lags), predicted[0].shape[1]))
    for k, lag in enumerate(lags):
        first = max(piece[0], run[0] + lag)
        last = max(first, min(piece[1], run[1] + lag))
        a, in_a = (part[first - lag : last - lag] for part in predicted)
        b, in_b = (part[first:last] for part in measured)
        pairs = ((in_a, in_b), (a, in_b), (in_a, b), (a * a, in_b), (in_a, b * b), (a, b))
        for total, (left, right) in zip(result[:, k], pairs, strict=True):
            np.einsum("tn,tn->n", left, right, out=total)
    return result


def _correlations(sums: np.ndarray) -> np.ndarray:
    """Correlation at each delay (lags, n); NaN where too few pairs or none that vary."""
    count, a, b, aa, bb, ab = sums
    pairs = np.maximum(count, 1)
    left, right = aa - a * a / pairs, bb - b * b / pairs
    enough = (count >= _FEWEST_PAIRS) & (count >= count.max(axis=0) / 2)
    enough &= (left > 1e-10 * aa) & (right > 1e-10 * bb)
    scale = np.sqrt(np.where(enough, left * right, 1.0))
    return np.where(enough, (ab - a * b / pairs) / scale, np.nan)


def _peak(correlations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where correlations (lags, n) are highest, in fractions of a lag from the first, and how high.

    The place is NaN at an end, or where a neighbour is not known.
    """
    heights = np.where(np.isnan(correlations), -np.inf, correlations)
    best = heights.argmax(axis=0)
    columns = np.arange(heights.shape[1])
    inner = np.clip(best, 1, len(heights) - 2)
    before, top, after = (correlations[inner + k, columns] for k in (-1, 0, 1))
    curvature = before - 2 * top + after
    ok = (inner == best) & ~np.isnan(curvature)
    bent = ok & (curvature < 0)
    offset = np.where(bent, (before - after) / np.where(bent, 2 * curvature, 1.0), 0.0)
    highest = heights[best, columns] - np.where(bent, (before - after) * offset / 4, 0.0)
    place = np.where(ok, best + offset, np.nan)
    return place, np.where(np.isinf(highest), np.nan, highest)


def _threshold(
    predicted: tuple[np.ndarray, np.ndarray],
    measured: tuple[np.ndarray, np.ndarray],
    rate: float,
    bounds: list[tuple[int, int]],
    n_lags: int,
    chance: float,
) -> np.ndarray:
    """The correlation (n,) that unrelated series exceed at one of the lags by chance."""
    from scipy.stats import norm

    longest = max(last - first for first, last in bounds)
    reach = min(round(_MEMORY * rate), longest // 2)
    product = _autocorrelation(predicted, bounds, reach) * _autocorrelation(measured, bounds, reach)
    spread = np.maximum(1 + 2 * product[1:].sum(axis=0), 1.0)
    pairs = np.maximum(np.einsum("tn,tn->n", predicted[1], measured[1]), 1)
    return norm.isf(chance / n_lags) * np.sqrt(spread / pairs)


def _autocorrelation(
    series: tuple[np.ndarray, np.ndarray], bounds: list[tuple[int, int]], reach: int
) -> np.ndarray:
    """Autocorrelation within runs (reach + 1, n), over the pairs of rows that are known."""
    from scipy.fft import irfft, next_fast_len, rfft

    products = np.zeros((2, reach + 1, series[0].shape[1]))
    pairs = np.zeros(reach + 1)
    for first, last in bounds:
        length = next_fast_len(last - first + reach, real=True)
        rows = min(reach + 1, last - first)
        pairs[:rows] += last - first - np.arange(rows)
        for total, part in zip(products, series, strict=True):
            power = np.abs(rfft(part[first:last], length, axis=0)) ** 2
            total[:rows] += irfft(power, length, axis=0)[:rows]
    # As if no row were missing; a long delay, of which there are few pairs, counts for less.
    covariance = products[0] / np.maximum(products[1], 1) * pairs[:, None]
    return covariance / np.where(covariance[0] > 0, covariance[0], 1.0)
