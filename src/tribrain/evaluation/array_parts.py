"""The volumes of a person's own arrays: which run and group each is of, and where it is tested."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tribrain.brain.haemodynamics import run_bounds
from tribrain.errors import InputError
from tribrain.evaluation.folds import Fold
from tribrain.evaluation.rows import Part
from tribrain.evaluation.volumes import Labels, groups_apart, per_volume

NAME = "arrays"
"""Stands for the study."""
LEAST_ROWS = 20
"""Volumes of a stretch below which it is not scored: a correlation of fewer says little."""


@dataclass(frozen=True, eq=False)
class Volumes:
    """BOLD and features of a person, a row a volume.

    Attributes
    ----------
    bold : ndarray (volumes, outputs), float32
        z-scored over each run; NaN where nothing was measured, or nothing varies in the run.
    features : ndarray (volumes, columns)
    nuisance : ndarray (volumes, columns) or None
        Simple features.
    bounds : list of (int, int)
        First volume of each run, and the one behind its last.
    labels : ndarray (volumes,) of int
        Place of the run.
    runs, groups : ndarray (volumes,) of str
        Names of the run, and of what is left out together.
    repetition_time : float
        Seconds.
    subject : str
    """

    bold: np.ndarray
    features: np.ndarray
    nuisance: np.ndarray | None
    bounds: list[tuple[int, int]]
    labels: np.ndarray
    runs: np.ndarray
    groups: np.ndarray
    repetition_time: float
    subject: str

    @property
    def used(self) -> np.ndarray:
        """Volumes (volumes,) in which anything was measured."""
        return ~np.isnan(self.bold).all(axis=1)


def place_volumes(
    features: np.ndarray,
    bold: np.ndarray,
    nuisance: np.ndarray | None,
    repetition_time: float,
    feature_rate: float | None,
    runs: Labels | None,
    groups: Labels | None,
    subject: str,
) -> Volumes:
    """Put BOLD, features and labels on one clock.

    Parameters
    ----------
    features, nuisance : ndarray (samples, columns)
    bold : ndarray (volumes, outputs)
        Checked (`volumes.as_table`).
    repetition_time, feature_rate, runs, groups, subject
        As in `tribrain.evaluation.arrays.evaluate_arrays`, with its errors and warnings.
    """
    n = len(bold)
    bounds = run_bounds(runs, n)
    columns = per_volume(features, n, repetition_time, feature_rate, runs, "features")
    simple = None
    if nuisance is not None:
        simple = per_volume(nuisance, n, repetition_time, feature_rate, runs, "nuisance features")
    labels = np.concatenate([np.full(b - a, number) for number, (a, b) in enumerate(bounds)])
    named = [str(one) for one in (labels + 1 if runs is None else np.asarray(runs))]
    shown = np.asarray(named if groups is None else [str(one) for one in np.asarray(groups)])
    if shown.shape != (n,):
        raise InputError(f"{len(shown)} group labels; one for each of {n} volumes fits")
    shown = groups_apart(shown, columns, bounds, named, told=groups is not None)
    scaled = np.concatenate([_zscored(bold[first:stop]) for first, stop in bounds])
    placed = Volumes(
        scaled, columns, simple, bounds, labels, np.asarray(named), shown, repetition_time, subject
    )
    if not placed.used.any():
        raise InputError("no output of the BOLD varies in any run")
    return placed


def _zscored(values: np.ndarray) -> np.ndarray:
    """Mean 0 and standard deviation 1 over the rows; NaN where nothing varies."""
    count = (~np.isnan(values)).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        centred = values - np.nansum(values, axis=0, dtype=float) / count
        scale = np.sqrt(np.nansum(centred**2, axis=0) / count)
        size = np.abs(np.nan_to_num(values)).max(axis=0)
        return np.where(scale > 1e-9 * size, centred / scale, np.nan).astype(np.float32)


def tested_parts(volumes: Volumes, folds: Sequence[Fold]) -> list[tuple[Part, slice]]:
    """Rows of one run that one fold predicts, with their place.

    Raises
    ------
    InputError
        Where all are too short.
    """
    cells: dict[object, int] = {}
    seen: dict[int, int] = {}
    found: list[tuple[Part, slice]] = []
    for first, begin, end in _stretches(volumes, folds):
        rows = slice(first + begin, first + end)
        if end - begin < LEAST_ROWS:
            continue
        run, group = str(volumes.runs[rows.start]), str(volumes.groups[rows.start])
        key = group, begin, volumes.features[rows].tobytes()
        cell = cells.setdefault(key, len(cells))
        seen[cell] = seen.get(cell, -1) + 1
        seconds = np.arange(begin, end) * volumes.repetition_time
        part = Part(
            *(len(found), NAME, volumes.subject, run, group, "test", cell, seen[cell], seconds)
        )
        found.append((part, rows))
    if not found:
        raise InputError(
            f"no run, or part of one that is left out, has {LEAST_ROWS} volumes: too few to score "
            f"({len(volumes.bold)} volumes, {len(volumes.bounds)} runs, {len(folds)} folds)"
        )
    return found


def _stretches(volumes: Volumes, folds: Sequence[Fold]) -> Iterator[tuple[int, int, int]]:
    """First volume of a run, and where in the run one fold's rows begin and end."""
    fold_of = np.full(len(volumes.bold), -1)
    for number, (_, test) in enumerate(folds):
        fold_of[test] = number
    for first, stop in volumes.bounds:
        known = np.flatnonzero(fold_of[first:stop] >= 0)
        if not known.size:
            continue
        # Volumes that were not measured are in no fold: they go with those before them.
        last = np.maximum(np.searchsorted(known, np.arange(stop - first), "right") - 1, 0)
        edges = np.flatnonzero(np.diff(fold_of[first + known[last]])) + 1
        for begin, end in zip([0, *edges], [*edges, stop - first], strict=True):
            yield first, int(begin), int(end)


def lacking(
    volumes: Volumes, folds: Sequence[Fold], parts: Sequence[tuple[Part, slice]]
) -> list[str]:
    """Notes of outputs and volumes that lack in the scores."""
    covered = np.zeros(len(volumes.bold), bool)
    for _, rows in parts:
        covered[rows] = True
    used = volumes.used
    short = int((used & ~covered).sum())
    there = ~np.isnan(volumes.bold)
    none = ~there.any(axis=0)
    fitted = [there[train].all(axis=0) for train, _ in folds]
    some = ~none & ~np.all(fitted, axis=0)
    size = len(none)
    found = []
    if short:
        found.append(f"{short} volumes in parts of fewer than {LEAST_ROWS} volumes are not scored")
    if not used.all():
        found.append(f"{int((~used).sum())} volumes hold no BOLD and are left out")
    if none.any():
        found.append(f"{int(none.sum())} of {size} outputs hold no BOLD that varies: no score")
    if some.any():
        found.append(
            f"{int(some.sum())} of {size} outputs lack single volumes, or do not vary in a run: "
            "they are predicted, and scored, in those folds alone that are fitted to none of these"
        )
    return found


def splits_told(volumes: Volumes, folds: Sequence[Fold]) -> list[dict[str, Any]]:
    """Rows of each fold: stretches of volumes within runs, in seconds of the run."""
    labels, second = volumes.labels, volumes.repetition_time
    found: list[dict[str, Any]] = []
    for number, fold in enumerate(folds):
        for side, rows in zip(("train", "test"), fold, strict=True):
            apart = (np.diff(rows) > 1) | (np.diff(labels[rows]) != 0)
            for some in np.split(rows, np.flatnonzero(apart) + 1):
                first, last = int(some[0]), int(some[-1])
                start = volumes.bounds[int(labels[first])][0]
                found.append(
                    {
                        "study": NAME,
                        "run": str(volumes.runs[first]),
                        "subject": volumes.subject,
                        "begin": round((first - start) * second, 3),
                        "end": round((last + 1 - start) * second, 3),
                        "group": str(volumes.groups[first]),
                        "side": side,
                        "fold": number,
                        "rows": len(some),
                    }
                )
    return found
