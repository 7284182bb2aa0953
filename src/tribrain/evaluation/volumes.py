"""Features on the clock of the volumes of a scanner."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from tribrain.brain.haemodynamics import run_bounds
from tribrain.errors import InputError, InputWarning

Labels = Sequence[object] | np.ndarray
_NEAR = 1e-9


def per_volume(
    features: np.ndarray,
    volumes: int,
    repetition_time: float,
    rate: float | None = None,
    runs: Labels | None = None,
    what: str = "features",
) -> np.ndarray:
    """Features of each volume: means over the time from its start to that of the next one.

    Sample k is what was there from k / rate to (k + 1) / rate seconds after its run began, and
    volume v lasts from v to v + 1 repetition times: a sample counts by the time that it shares with
    the volume. Every run begins with a sample of its own.

    Parameters
    ----------
    features : ndarray (samples, columns)
    volumes : int
    repetition_time : float
        Seconds.
    rate : float, optional
        Samples a second; by default there is one a volume.
    runs : sequence (volumes,), optional
        Labels of runs.
    what : str
        What to call them in messages.

    Returns
    -------
    ndarray (volumes, columns), float32

    Raises
    ------
    InputError
        Numbers of rows that do not agree. Of one run, features and BOLD may differ by a volume in
        length: what lacks is the last sample, what is over is left out. Of several, each run must
        have as many samples as its volumes last, to the nearest.
    """
    features = as_table(features, what)
    if not np.isfinite(features).all():
        raise InputError(f"{what} hold values that are not finite; finite numbers fit")
    if rate is None:
        if len(features) != volumes:
            raise InputError(
                f"{len(features)} rows of {what} and {volumes} of BOLD; as many fit, or say how "
                "many rows of features there are a second (--feature-rate)"
            )
        return features.astype(np.float32, copy=False)
    if not 0 < rate < 1e6:
        raise InputError(f"{rate:g} samples of features a second; a positive number fits")
    lengths = [stop - first for first, stop in run_bounds(runs, volumes)]
    samples = [max(1, round(length * repetition_time * rate)) for length in lengths]
    if len(lengths) == 1 and abs(len(features) - samples[0]) <= repetition_time * rate + _NEAR:
        samples = [len(features)]
    if sum(samples) != len(features):
        seconds = volumes * repetition_time
        raise InputError(
            f"{len(features)} rows of {what} at {rate:g} a second last {len(features) / rate:g} s, "
            f"and {volumes} volumes of {repetition_time:g} s last {seconds:g} s; "
            + (
                "both to within a volume fit"
                if len(lengths) == 1
                else f"{sum(samples)} rows fit {len(lengths)} runs"
            )
        )
    found, begin = [], 0
    for length, count in zip(lengths, samples, strict=True):
        part = features[begin : begin + count].astype(np.float64)
        found.append(_means(part, rate, length, repetition_time))
        begin += count
    return np.concatenate(found).astype(np.float32)


def _means(part: np.ndarray, rate: float, volumes: int, repetition_time: float) -> np.ndarray:
    """Means of samples over volumes, by the integral of the steps that they are."""
    total = np.concatenate([np.zeros((1, part.shape[1])), np.cumsum(part, axis=0)])
    # The last sample stands for what lacks at the end.
    edges = np.arange(volumes + 1) * repetition_time * rate
    places = np.minimum(edges, len(part))
    before = np.minimum(np.floor(places + _NEAR).astype(int), len(part) - 1)
    integral = total[before] + (places - before)[:, None] * part[before]
    integral += np.maximum(edges - len(part), 0)[:, None] * part[-1]
    return np.asarray(np.diff(integral, axis=0) / (repetition_time * rate))


def as_table(values: np.ndarray, what: str) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or not values.size or values.dtype.kind not in "fiu":
        raise InputError(
            f"{what}: an array {values.shape} of {values.dtype}; numbers (rows, columns) fit"
        )
    return values if values.dtype == np.float32 else values.astype(np.float32)


def groups_apart(
    shown: np.ndarray,
    features: np.ndarray,
    bounds: Sequence[tuple[int, int]],
    names: Sequence[str],
    told: bool,
) -> np.ndarray:
    """Group labels (volumes,) such that what is tested was not fitted to in another showing.

    Runs with the same features become one group, unless their groups were told: then it is said.

    Parameters
    ----------
    shown : ndarray (volumes,)
        Labels of groups.
    features : ndarray (volumes, columns)
    bounds : sequence of (first volume, the one behind the last), of each run
    names : sequence (volumes,) of str
        Of the run of each volume.
    told : bool
        Whether the labels were given.

    Warns
    -----
    InputWarning
        Runs with the same features and other labels.
    """
    result = shown.astype(object)
    for (first, stop), other in zip(bounds, shown_alike(features, bounds), strict=True):
        begin = bounds[other][0]
        if result[first] == result[begin]:
            continue
        both = f"runs {names[begin]} and {names[first]} have the same features"
        if told:
            warnings.warn(
                f"{both} and groups of their own: where one is tested, the other was fitted to",
                InputWarning,
                stacklevel=3,
            )
        else:
            warnings.warn(
                f"{both}: they count as one group and are left out together (--groups tells which "
                "do)",
                InputWarning,
                stacklevel=3,
            )
            result[first:stop] = result[begin]
    return np.asarray([str(one) for one in result])


def shown_alike(features: np.ndarray, bounds: Sequence[tuple[int, int]]) -> list[int]:
    """For each run the first one with the same features: its own number where there is none.

    Runs are the same as far as the shorter one of them goes; features that do not vary tell
    nothing.

    Parameters
    ----------
    features : ndarray (volumes, columns)
    bounds : sequence of (first volume, the one behind the last), of each run
    """
    found: list[int] = []
    for number, (first, stop) in enumerate(bounds):
        same = number
        for other in sorted(set(found)):
            begin, end = bounds[other]
            rows = min(stop - first, end - begin)
            one, two = features[first : first + rows], features[begin : begin + rows]
            if np.array_equal(one, two) and (one != one[0]).any():
                same = other
                break
        found.append(same)
    return found
