"""The feature clock: pieces of a medium, and their place on a grid of samples.

The grid is cut into windows from 0 s on; an event is placed in each window that it touches by
one rule (published recipe, section 1), in which halves round to the even number, as in Python.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

Span = tuple[float, float]  # start, duration in seconds


def chunks(duration: float, longest: float = 60.0, shortest: float = 30.0) -> list[Span]:
    """Cut a medium every `longest` seconds, except where a piece under `shortest` would be left.

    Parameters
    ----------
    duration : float
        Length of the medium in seconds.

    Returns
    -------
    list of (start, duration)
        Seconds from the start of the medium.

    Examples
    --------
    >>> chunks(145.0)
    [(0.0, 60.0), (60.0, 85.0)]
    """
    starts = [0.0]
    while duration - (starts[-1] + longest) >= shortest:
        starts.append(starts[-1] + longest)
    ends = [*starts[1:], duration]
    return [(start, end - start) for start, end in zip(starts, ends, strict=True)]


def n_samples(duration: float, frequency: float) -> int:
    """Number of samples of a series of `duration` seconds at `frequency` per second."""
    return round(duration * frequency)


def n_windows(duration: float, window: float) -> int:
    """Number of windows of `window` seconds that cover `duration` seconds (at least one)."""
    return max(1, math.ceil(round(duration / window, 9)))


def n_rows(duration: float) -> int:
    """Number of one-second rows of a response: the length rounded up."""
    return max(1, math.ceil(round(duration, 6)))


def place(start: float, duration: float, window: Span, frequency: float) -> tuple[int, int] | None:
    """Samples of a window that an event fills.

    Parameters
    ----------
    start, duration : float
        The event, in seconds.
    window : (start, duration)
        The window, in seconds.
    frequency : float
        Samples a second.

    Returns
    -------
    (first, count) or None
        None where the event does not touch the window.
    """
    total = n_samples(window[1], frequency)
    begin = max(start, window[0])
    end = min(start + duration, window[0] + window[1])
    if end < begin or (end == begin and duration > 0):
        return None
    count = min(max(1, round(frequency * (end - begin))), total)
    first = round(frequency * (begin - window[0]))
    return min(first, total - count), count


def _windows(duration: float, window: float) -> list[Span]:
    return [(number * window, window) for number in range(n_windows(duration, window))]


def vectors_on_grid(
    events: Sequence[Span],
    vectors: Iterable[np.ndarray],
    *,
    duration: float,
    window: float,
    frequency: float,
) -> np.ndarray:
    """Add one vector an event to every sample that the event fills.

    Parameters
    ----------
    events : sequence of (start, duration), n_events
    vectors : iterable of ndarray (layers, dim), n_events
        At least one.
    duration, window : float
        Length of the stimulus and of a window in seconds.
    frequency : float

    Returns
    -------
    ndarray (layers, dim, n_windows * samples of a window), float32
    """
    per_window = n_samples(window, frequency)
    spans = _windows(duration, window)
    grid: np.ndarray | None = None
    for (start, length), vector in zip(events, vectors, strict=True):
        if grid is None:
            grid = np.zeros((len(spans) * per_window, *vector.shape), np.float32)
        for number in _touched(start, length, window, len(spans)):
            placed = place(start, length, spans[number], frequency)
            if placed is not None:
                first = number * per_window + placed[0]
                grid[first : first + placed[1]] += vector
    if grid is None:
        raise ValueError("vectors on the grid need at least one event")
    return np.ascontiguousarray(np.moveaxis(grid, 0, -1))


def series_on_grid(
    pieces: Iterable[tuple[Span, np.ndarray]],
    *,
    duration: float,
    window: float,
    frequency: float,
) -> np.ndarray:
    """Put the series of a medium's pieces on the grid.

    Parameters
    ----------
    pieces : iterable of ((start, duration), ndarray (layers, dim, n))
        At least one; ``n`` samples at `frequency` from `start` on.

    Returns
    -------
    ndarray (layers, dim, n_windows * samples of a window), float32
    """
    per_window = n_samples(window, frequency)
    spans = _windows(duration, window)
    grid: np.ndarray | None = None
    for (start, length), series in pieces:
        if grid is None:
            grid = np.zeros((*series.shape[:-1], len(spans) * per_window), np.float32)
        for number in _touched(start, length, window, len(spans)):
            placed = place(start, length, spans[number], frequency)
            # The piece's own samples lie on a grid that starts with the piece.
            taken = place(*spans[number], (start, length), frequency)
            if placed is None or taken is None or not series.shape[-1]:
                continue
            count = min(placed[1], taken[1])
            first = number * per_window + placed[0]
            grid[..., first : first + count] += series[..., taken[0] : taken[0] + count]
    if grid is None:
        raise ValueError("a series on the grid needs at least one piece")
    return grid


def _touched(start: float, length: float, window: float, count: int) -> range:
    """Numbers of the windows that an event may touch; `place` decides."""
    first = max(0, int(start // window) - 1)
    last = min(count - 1, int((start + length) // window) + 1)
    return range(first, last + 1)


def covered_rows(events: Iterable[Span], n_rows: int) -> np.ndarray:
    """Which one-second rows any event touches.

    Parameters
    ----------
    events : iterable of (start, duration)
    n_rows : int

    Returns
    -------
    ndarray (n_rows,), bool
    """
    covered = np.zeros(n_rows, bool)
    for start, duration in events:
        first = int(start)
        last = max(first + 1, math.ceil(round(start + duration, 6)))
        covered[first:last] = True
    return covered
