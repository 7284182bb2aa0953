"""Features that say nothing of the response: what a score must beat to be one of the stimulus.

A control keeps what features are like (how much they vary, how fast, how their columns belong
together) and breaks when what happens. It is fitted and tested as the features themselves are. A
score that it reaches comes from elsewhere: slow drifts, rows of the test that were trained on, a
mean that differs between runs. The response is never touched.

A film's time course has a memory of seconds to a minute, and so has its shift: shifts under a
minute are none (`circular_shift`, `least`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tribrain.brain.haemodynamics import run_bounds
from tribrain.errors import InputError

LEAST_SHIFT = 60.0
"""Seconds that features are shifted by at least, in both directions."""

Labels = Sequence[object] | np.ndarray


def circular_shift(
    x: np.ndarray, rows: int, runs: Labels | None = None, least: int = 1
) -> np.ndarray:
    """Roll every run by the same number of rows: what leaves its end enters at its start.

    Parameters
    ----------
    x : ndarray (n, columns)
    rows : int
        Later by so many; negative ones are sooner.
    runs : sequence (n,), optional
        A label for each row; the rows of a run stand together. Without it there is one run.
    least : int
        Rows that every row must be moved by at least, either way round.

    Returns
    -------
    ndarray (n, columns)

    Raises
    ------
    InputError
        A shift that comes within `least` rows of where a run stood.

    Examples
    --------
    >>> circular_shift(np.arange(5.0)[:, None], 2)[:, 0]
    array([3., 4., 0., 1., 2.])
    """
    x = _table(x)
    result = np.empty_like(x)
    for first, stop in run_bounds(runs, len(x)):
        length = stop - first
        moved = min(rows % length, -rows % length)
        if moved < least:
            raise InputError(
                f"a shift by {rows} rows moves a run of {length} rows by {moved}; {least} to "
                f"{length - least} fit"
            )
        result[first:stop] = np.roll(x[first:stop], rows, axis=0)
    return result


def draw_shift(n: int, least: int, seed: int, runs: Labels | None = None) -> int:
    """A number of rows that `circular_shift` may move every run by.

    Raises
    ------
    InputError
        If a run is too short for any, or no number fits all runs.
    """
    lengths = {stop - first for first, stop in run_bounds(runs, n)}
    shortest, longest = min(lengths, default=0), max(lengths, default=0)
    if shortest < 2 * least:
        raise InputError(
            f"a run of {shortest} rows cannot be shifted by {least} rows or more from both its "
            f"ends; {2 * least} rows or more fit"
        )
    every = np.arange(least, longest - least + 1)
    fits = [np.minimum(every % length, -every % length) >= least for length in sorted(lengths)]
    allowed = every[np.all(fits, axis=0)]
    return int(np.random.default_rng(seed).choice(allowed))


def phase_randomised(x: np.ndarray, seed: int, runs: Labels | None = None) -> np.ndarray:
    """Series with the same spectra, of which every phase was turned at random.

    All columns of a run are turned by the same angles, so that their spectra *and* what they share
    stay as they were (Theiler et al. 1992, Physica D 58:77-94; for several series Prichard &
    Theiler 1994, Phys Rev Lett 73:951-954). Means stay. What is not Gaussian, such as words that
    are there or not, becomes so.

    Parameters
    ----------
    x : ndarray (n, columns)
    seed : int
    runs : sequence (n,), optional
        As in `circular_shift`; each run has angles of its own.

    Returns
    -------
    ndarray (n, columns)
    """
    x = _table(x)
    random = np.random.default_rng(seed)
    result = np.empty_like(x)
    for first, stop in run_bounds(runs, len(x)):
        length = stop - first
        spectrum = np.fft.rfft(x[first:stop].astype(np.float64), axis=0)
        angles = random.uniform(0, 2 * np.pi, len(spectrum))
        turns = np.exp(1j * angles)
        turns[0] = 1.0
        if length % 2 == 0:  # the last one has no phase, but a sign
            turns[-1] = 1.0 if angles[-1] < np.pi else -1.0
        result[first:stop] = np.fft.irfft(spectrum * turns[:, None], length, axis=0)
    return result


def other_film(x: np.ndarray, runs: Labels, groups: Labels, seed: int = 0) -> np.ndarray:
    """The features of another film in the place of each run's own.

    Films change places such that none keeps its own. The first run of a film gets the first run of
    the other, the second one the second, and so on from the start where the other has fewer; it is
    cut, or begins anew, to fill the rows.

    All films begin alike, and end so: where rests are among the rows, the features of any film tell
    when this one begins. Score rows from 20 s after the beginning to the end alone.

    Parameters
    ----------
    x : ndarray (n, columns)
    runs : sequence (n,)
        A label for each row; the rows of a run stand together.
    groups : sequence (n,)
        The film of each row, or whatever belongs together: the same for all rows of a run.
    seed : int

    Returns
    -------
    ndarray (n, columns)

    Raises
    ------
    InputError
        Fewer than two films, or a run of several.
    """
    x, labels = _table(x), np.asarray(groups)
    bounds = run_bounds(runs, len(x))
    if labels.shape != (len(x),):
        raise InputError(f"groups have shape {labels.shape}; one for each of {len(x)} rows fits")
    films: dict[object, list[tuple[int, int]]] = {}
    for first, stop in bounds:
        here = labels[first:stop]
        if (here != here[0]).any():
            raise InputError(f"the run from row {first} belongs to several groups; one fits")
        films.setdefault(here[0].item(), []).append((first, stop))
    if len(films) < 2:
        raise InputError("features of another film need two films or more; this is one")
    names = list(films)
    # One cycle through all films: nobody keeps a place.
    order = np.random.default_rng(seed).permutation(len(names))
    follower = dict(zip(order.tolist(), np.roll(order, -1).tolist(), strict=True))
    result = np.empty_like(x)
    for number, name in enumerate(names):
        others = films[names[follower[number]]]
        for place, (first, stop) in enumerate(films[name]):
            begin, end = others[place % len(others)]
            result[first:stop] = x[begin + np.arange(stop - first) % (end - begin)]
    return result


def shuffled_blocks(x: np.ndarray, block: int, seed: int, runs: Labels | None = None) -> np.ndarray:
    """Blocks of neighbouring rows in a random order within their run.

    Parameters
    ----------
    x : ndarray (n, columns)
    block : int
        Rows of a block; the last one of a run may be shorter. 1: single rows, or words where the
        rows are vectors of words.
    seed : int
    runs : sequence (n,), optional
        As in `circular_shift`.

    Returns
    -------
    ndarray (n, columns)

    Raises
    ------
    InputError
        Where a run holds one block alone.
    """
    x = _table(x)
    if block < 1:
        raise InputError(f"blocks of {block} rows; 1 or more fit")
    random = np.random.default_rng(seed)
    places = np.arange(len(x))
    result = np.empty_like(x)
    for first, stop in run_bounds(runs, len(x)):
        parts = np.split(places[first:stop], np.arange(block, stop - first, block))
        if len(parts) < 2:
            raise InputError(
                f"a run of {stop - first} rows holds one block of {block}; two or more fit"
            )
        order = random.permutation(len(parts))
        result[first:stop] = x[np.concatenate([parts[number] for number in order])]
    return result


def shuffled_rows(x: np.ndarray, seed: int, runs: Labels | None = None) -> np.ndarray:
    """Rows in a random order within their run: of the time course nothing stays."""
    return shuffled_blocks(x, 1, seed, runs)


def _table(x: np.ndarray) -> np.ndarray:
    """Floating-point rows (n, columns), in the type that they have."""
    x = np.asarray(x)
    if x.ndim != 2:
        raise InputError(f"features have shape {x.shape}; (rows, columns) fits")
    return x if x.dtype.kind == "f" else x.astype(np.float64)
