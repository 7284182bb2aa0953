"""Which rows are left out together when a setting is chosen: whole groups, or blocks of time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tribrain.brain.haemodynamics import run_bounds
from tribrain.errors import InputError

FOLDS = 5
GAP = 6
"""Rows on both sides of those left out that are not trained on: BOLD of neighbours is alike."""

Fold = tuple[np.ndarray, np.ndarray]


def inner_folds(
    n: int,
    groups: Sequence[object] | np.ndarray | None = None,
    runs: Sequence[object] | np.ndarray | None = None,
    used: Sequence[bool] | np.ndarray | None = None,
    folds: int = FOLDS,
    gap: int = GAP,
) -> list[Fold]:
    """Rows to train on and rows to test on, so that every used row is tested once.

    Where used rows have two or more groups, whole groups are left out: in at most `folds` parts of
    about as many rows. Otherwise each run is cut into `folds` blocks of time, and the first blocks
    of all runs are left out together, then the second ones, and so on.

    Parameters
    ----------
    n : int
        Rows.
    groups : sequence (n,), optional
        A label for each row.
    runs : sequence (n,), optional
        A label for each row; the rows of a run stand together. Without it there is one run.
    used : sequence of bool (n,), optional
        Rows that count; by default all. The others are in no fold, but they take time.
    folds : int
    gap : int
        Rows of the same run on both sides of a row left out that are not trained on; no more than
        half of a `folds`-th of the run's used rows, so that short runs keep something to train on.

    Returns
    -------
    list of (ndarray, ndarray) of int
        Rows to train on and to test on, ascending; at most `folds`.

    Raises
    ------
    InputError
        If there are too few rows or folds, labels are not one a row, or nothing is left to train
        on (groups that take turns within a run: a gap of 0 fits).
    """
    if folds < 2 or gap < 0:
        raise InputError(f"{folds} folds with a gap of {gap} rows; 2 or more, and 0 or more fit")
    counts = np.ones(n, bool) if used is None else np.asarray(used)
    if counts.shape != (n,) or counts.dtype != bool:
        raise InputError(f"used has shape {counts.shape}, {counts.dtype}; {n} of true or false fit")
    rows = np.flatnonzero(counts)
    if len(rows) < 2:
        raise InputError(f"{len(rows)} rows to choose a setting on; 2 or more fit")
    bounds = run_bounds(runs, n)
    parts = _parts_of_groups(groups, rows, n, folds)
    if parts is None:
        parts = _parts_of_time(bounds, counts, folds)
    found = []
    for part in np.unique(parts[rows]):
        tested = parts == part
        near = tested.copy()
        for start, stop in bounds:
            reach = min(gap, int(counts[start:stop].sum()) // (2 * folds))
            near[start:stop] = _widened(tested[start:stop], reach)
        train = np.flatnonzero(counts & ~near)
        if not train.size:
            raise InputError(
                f"a gap of {gap} rows about the groups left out leaves nothing to train on; "
                "a smaller gap fits"
            )
        found.append((train, np.flatnonzero(tested)))
    return found


def _parts_of_groups(
    groups: Sequence[object] | np.ndarray | None, rows: np.ndarray, n: int, folds: int
) -> np.ndarray | None:
    """The part (n,) of each row, -1 where it is not used; None with fewer than two groups."""
    if groups is None:
        return None
    labels = np.asarray(groups)
    if labels.shape != (n,):
        raise InputError(f"group labels have shape {labels.shape}; one for each of {n} rows fits")
    if any(label != label for label in labels[rows].tolist()):
        raise InputError("a group label of a used row is NaN; a label that equals itself fits")
    numbers: dict[object, int] = {}
    found = np.array([numbers.setdefault(label, len(numbers)) for label in labels[rows].tolist()])
    if len(numbers) < 2:
        return None
    sizes = np.bincount(found)
    load = np.zeros(min(folds, len(sizes)), int)
    part_of = np.zeros(len(sizes), int)
    for group in np.argsort(-sizes, kind="stable"):  # the largest first, where there is least
        part_of[group] = load.argmin()
        load[part_of[group]] += sizes[group]
    parts = np.full(n, -1)
    parts[rows] = part_of[found]
    return parts


def _parts_of_time(bounds: Sequence[tuple[int, int]], used: np.ndarray, folds: int) -> np.ndarray:
    """The part (n,) of each row, -1 where it is not used."""
    parts = np.full(len(used), -1)
    for start, stop in bounds:
        rows = start + np.flatnonzero(used[start:stop])
        parts[rows] = np.arange(len(rows)) * folds // max(len(rows), 1)
    if len(np.unique(parts[used])) < 2:  # runs of one row each
        parts[used] = np.arange(int(used.sum())) % folds
    return parts


def _widened(mask: np.ndarray, reach: int) -> np.ndarray:
    """True also up to `reach` rows beside what is true."""
    if not reach or not mask.any():
        return mask
    return np.convolve(mask, np.ones(2 * reach + 1), mode="same")[: len(mask)] > 0.5
