"""A person's own arrays: baselines on features and BOLD at their own repetition time.

The BOLD is scored as it was measured, one row a volume: it is never resampled. Features have a row
a volume, or are averaged over volumes (`per_volume`).
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tribrain.brain.atlases import Atlas
from tribrain.brain.haemodynamics import run_bounds
from tribrain.brain.region_tables import atlas_for
from tribrain.brain.spaces import Space
from tribrain.brain.summaries import cortex_mask
from tribrain.errors import InputError
from tribrain.evaluation.baselines import TOLD, Setting, baseline_names, make_baselines
from tribrain.evaluation.baselines import nuisance_floor as floor_estimator
from tribrain.evaluation.controls import LEAST_SHIFT, circular_shift, draw_shift
from tribrain.evaluation.evaluation import NUISANCE, SHIFTED, Evaluation
from tribrain.evaluation.fits import OUTER_FOLDS, OUTER_GAP
from tribrain.evaluation.folds import Fold, inner_folds
from tribrain.evaluation.rows import Part
from tribrain.evaluation.scoring import BOLD, Scorer, Way, mean_score
from tribrain.evaluation.tables import LEAST_CEILING, Settings, settings_told, tabulate
from tribrain.evaluation.volumes import Labels, as_table, groups_apart, per_volume
from tribrain.evaluation.ways import find_ceilings
from tribrain.evaluation.work import Work
from tribrain.features.extract import Progress

NAME = "arrays"
"""Stands for the study."""
ARRAY_CEILINGS = ("auto", "repeats", "none")
LEAST_ROWS = 20
"""Volumes of a stretch below which it is not scored: a correlation of fewer says little."""


def evaluate_arrays(
    features: np.ndarray,
    bold: np.ndarray,
    *,
    repetition_time: float,
    feature_rate: float | None = None,
    runs: Labels | None = None,
    groups: Labels | None = None,
    bands: Sequence[int] | None = None,
    nuisance: np.ndarray | None = None,
    space: Space | None = None,
    atlas: str | Path | Atlas = "textbook",
    baselines: str | Sequence[str] = ("fir",),
    folds: int = OUTER_FOLDS,
    ceiling: str = "auto",
    controls: bool = True,
    permutations: int = 1000,
    draws: int = 2000,
    seed: int = 0,
    subject: str = "person",
    versions: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate baselines on arrays by cross-validation: every row is predicted once.

    Whole runs (or groups of runs) are left out; of a single run blocks of time are, with 15 s on
    both sides that are not fitted to. Penalties are chosen within what is fitted to. Scores are of
    the rows of one run that one fold predicts, and means of these by their rows.

    Parameters
    ----------
    features : ndarray (samples, columns)
        What was seen, heard or read when; not delayed.
    bold : ndarray (volumes, outputs)
        NaN where nothing was measured.
    repetition_time : float
        Seconds from a volume to the next.
    feature_rate : float, optional
        Samples of the features a second; by default one a volume (`per_volume`).
    runs : sequence (volumes,), optional
        A label for each volume; volumes of a run stand together.
    groups : sequence (volumes,), optional
        A label for each volume of what was shown: volumes of one group are left out together. Runs
        of one group with the same features are repeats, which a ceiling is estimated from. By
        default runs are of one group where their features are the same.
    bands : sequence of int, optional
        Columns of each feature space, in order.
    nuisance : ndarray (samples, columns), optional
        Simple features for the floor, at the same rate.
    space, atlas : optional
        Of the outputs.
    baselines : str or sequence of str
        Of `tribrain.evaluation.baselines.BASELINES`.
    folds : int
    ceiling : {"auto", "repeats", "none"}
    controls : bool
        Fit the best baseline once more, to features moved by a minute or more.
    permutations, draws, seed : int
    subject : str
        What the person is called in the tables.
    versions, progress : optional

    Raises
    ------
    InputError
        Arrays that do not fit each other; unknown names.

    Warns
    -----
    InputWarning
        Runs with the same features whose groups were not told, or are not the same.
    """
    settings = Settings(permutations, draws, seed, repetition_time)
    names = baseline_names(baselines)
    if not names:
        raise InputError("no baseline is asked for; arrays have nothing else that predicts")
    bold = as_table(bold, "BOLD")
    n = len(bold)
    if np.isinf(bold).any():
        raise InputError(
            "the BOLD holds infinite values; finite ones, and NaN where nothing was measured, fit"
        )
    if ceiling not in ARRAY_CEILINGS:
        known = ", ".join(ARRAY_CEILINGS)
        raise InputError(f"ceiling {ceiling!r} is not there for arrays of one person: {known} fit")
    if not 0 < repetition_time < 100:
        raise InputError(f"repetition time {repetition_time:g} s; 0 to 100 s fit")
    if space is not None and space.size != bold.shape[1]:
        raise InputError(
            f"the BOLD has {bold.shape[1]} outputs and {space.name} {space.size}; as many fit"
        )
    bounds = run_bounds(runs, n)
    columns = per_volume(features, n, repetition_time, feature_rate, runs, "features")
    sets = dict.fromkeys(names, columns)
    if nuisance is not None:
        simple = per_volume(nuisance, n, repetition_time, feature_rate, runs, "nuisance features")
        sets = {NUISANCE: simple, **sets}
    labels = np.concatenate([np.full(b - a, number) for number, (a, b) in enumerate(bounds)])
    named = [str(one) for one in (labels + 1 if runs is None else np.asarray(runs))]
    shown = np.asarray(named if groups is None else [str(one) for one in np.asarray(groups)])
    if shown.shape != (n,):
        raise InputError(f"{len(shown)} group labels; one for each of {n} volumes fits")
    shown = groups_apart(shown, columns, bounds, named, told=groups is not None)
    scaled = np.concatenate([_zscored(bold[first:stop]) for first, stop in bounds])
    used = ~np.isnan(scaled).all(axis=1)
    if not used.any():
        raise InputError("no output of the BOLD varies in any run")
    gap = int(np.ceil(OUTER_GAP / repetition_time))
    parted = inner_folds(n, shown, labels, used, folds, gap)
    setting = Setting(
        repetition_time, None if bands is None else tuple(bands), bold.shape[1], seed=seed
    )

    def make(name: str) -> Any:
        if name == NUISANCE:
            return floor_estimator(Setting(repetition_time, None, bold.shape[1], seed=seed))
        return make_baselines([name], setting)[name]

    parts = _parts(parted, bounds, named, shown, columns, repetition_time, subject)
    if not parts:
        raise InputError(
            f"no run, or part of one that is left out, has {LEAST_ROWS} volumes: too few to score "
            f"({n} volumes, {len(bounds)} runs, {len(parted)} folds)"
        )
    if ceiling == "repeats" and not any(part.repeat for part, _ in parts):
        raise InputError(
            "no two runs of one group (--groups) have the same features; --ceiling none fits"
        )
    covered = np.zeros(n, bool)
    for _, rows in parts:
        covered[rows] = True
    notes = _lacking(scaled, used, parted, int((used & ~covered).sum()))
    with tempfile.TemporaryDirectory(prefix="tribrain-") as scratch:
        work = Work(Path(scratch) / "work", "arrays")
        mask = np.ones(bold.shape[1], bool) if space is None else cortex_mask(space)
        scorer = Scorer(work, [part for part, _ in parts], mask)
        for part, rows in parts:
            work.put(scaled[rows], BOLD, part.number)

        def fit(name: str, x: np.ndarray, kind: str) -> None:
            maker = partial(make, kind)
            predicted = _out_of_fold(x, scaled, parted, labels, shown, used, maker, name, progress)
            for part, rows in parts:
                work.put(predicted[rows], name, part.number)

        for name, x in sets.items():
            fit(name, x, name)
        ways = [Way(name, TOLD[name], crossed=True) for name in names]
        best = _best(scorer, names)
        if controls:
            shortest = min(b - a for a, b in bounds)
            least = min(round(LEAST_SHIFT / repetition_time), shortest // 3)
            by = draw_shift(n, least, seed, labels)
            fit(SHIFTED, circular_shift(columns, by, labels, least), best)
            moved = f"moved by {min(by, shortest - by % shortest) * repetition_time:.0f} s or more"
            ways.append(
                Way(
                    SHIFTED,
                    f"{best} fitted and tested on features {moved}: a control",
                    crossed=True,
                )
            )
        floors = {}
        if nuisance is not None:
            floors = {way.name: NUISANCE for way in ways}
            about_floor = "ridge on simple features convolved with a response"
            ways.append(Way(NUISANCE, about_floor, crossed=True))
        else:
            notes.append("no nuisance floor: no nuisance features were given")
        ceilings = find_ceilings(ceiling, scorer, shared=False, seed=seed)
        tables = tabulate(
            scorer,
            scorer.parts,
            ways,
            floors,
            ceilings,
            settings,
            space=space,
            atlas=None if space is None else atlas_for(space, atlas),
        )
    if len(ways) and ceilings.said == "none":
        notes.append("no ceiling: nothing was shown twice, and there is one person")
    about: dict[str, Any] = {
        "model": "",
        "title": f"{', '.join(names)} on arrays",
        "studies": [NAME],
        "space": "" if space is None else space.name,
        "unit": "BOLD z-scored over each run",
        "checksums": {"features": _checksum(features), "bold": _checksum(bold)},
        "ways": {way.name: way.about for way in ways},
        "ceiling": ceilings.said,
        "least_ceiling": LEAST_CEILING,
        "notes": notes + tables.notes,
        "seeds": {"all": seed},
        "settings": settings_told(settings)
        | {"repetition time (s)": repetition_time, "folds": len(parted), "gap (volumes)": gap},
        "splits": _splits(parted, labels, named, shown, repetition_time, subject),
        "null": tables.null,
        "floors": floors,
        "versions": dict(versions or {}),
    }
    return Evaluation(about, space, maps=tables.maps, **tables.frames())


def _zscored(values: np.ndarray) -> np.ndarray:
    """Mean 0 and standard deviation 1 over the rows; NaN where nothing varies."""
    count = (~np.isnan(values)).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        centred = values - np.nansum(values, axis=0, dtype=float) / count
        scale = np.sqrt(np.nansum(centred**2, axis=0) / count)
        size = np.abs(np.nan_to_num(values)).max(axis=0)
        return np.where(scale > 1e-9 * size, centred / scale, np.nan).astype(np.float32)


def _out_of_fold(
    x: np.ndarray,
    bold: np.ndarray,
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    runs: np.ndarray,
    groups: np.ndarray,
    used: np.ndarray,
    make: Callable[[], Any],
    name: str,
    progress: Progress | None,
) -> np.ndarray:
    """What is predicted of each row by what was fitted to others: (volumes, outputs), float32."""
    found = np.full(bold.shape, np.nan, np.float32)
    for number, (train, test) in enumerate(folds):
        rows = np.zeros(len(x), bool)
        rows[train] = True
        keep = np.isfinite(bold[rows]).all(axis=0)
        if keep.any():
            y = bold if keep.all() else bold[:, keep]
            fitted = make().fit(x, y, runs=runs, groups=groups, used=rows & used)
            predicted = np.asarray(fitted.predict(x, runs=runs)).reshape(len(x), -1)
            found[np.ix_(test, np.flatnonzero(keep))] = predicted[test]
        if progress is not None:
            progress(name, number + 1, len(folds))
    return found


def _parts(
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    bounds: Sequence[tuple[int, int]],
    runs: Sequence[str],
    groups: np.ndarray,
    features: np.ndarray,
    repetition_time: float,
    subject: str,
) -> list[tuple[Part, slice]]:
    """Rows of one run that one fold predicts, with their place."""
    fold_of = np.full(len(groups), -1)
    for number, (_, test) in enumerate(folds):
        fold_of[test] = number
    cells: dict[object, int] = {}
    seen: dict[int, int] = {}
    found: list[tuple[Part, slice]] = []
    for first, stop in bounds:
        known = np.flatnonzero(fold_of[first:stop] >= 0)
        if not known.size:
            continue
        # Volumes that were not measured are in no fold: they go with those before them.
        last = np.maximum(np.searchsorted(known, np.arange(stop - first), "right") - 1, 0)
        fold_of[first:stop] = fold_of[first + known[last]]
        edges = np.flatnonzero(np.diff(fold_of[first:stop])) + 1
        for a, b in zip([0, *edges], [*edges, stop - first], strict=True):
            rows = slice(first + int(a), first + int(b))
            if rows.stop - rows.start < LEAST_ROWS:
                continue
            key = str(groups[rows.start]), int(a), features[rows].tobytes()
            cell = cells.setdefault(key, len(cells))
            seen[cell] = seen.get(cell, -1) + 1
            seconds = np.arange(int(a), int(b)) * repetition_time
            part = Part(
                len(found), NAME, subject, runs[rows.start], str(groups[rows.start]), "test", cell,
                seen[cell], seconds,
            )  # fmt: skip
            found.append((part, rows))
    return found


def _lacking(scaled: np.ndarray, used: np.ndarray, folds: Sequence[Fold], short: int) -> list[str]:
    """Notes of outputs and volumes that lack in the scores.

    Parameters
    ----------
    scaled : ndarray (volumes, outputs)
        BOLD, NaN where nothing was measured or nothing varies in a run.
    used : ndarray (volumes,) of bool
        Volumes in which anything was measured.
    folds : sequence of (ndarray, ndarray)
    short : int
        Volumes of stretches that are too short.
    """
    there = ~np.isnan(scaled)
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


def _best(scorer: Scorer, names: Sequence[str]) -> str:
    """The baseline with the highest mean r."""
    if len(names) == 1:
        return names[0]
    means = {}
    for name in names:
        scores = {part.number: scorer.correlation(name, part) for part in scorer.parts}
        found = mean_score(scores, scorer.parts, scorer.mask)
        means[name] = float(np.mean(list(found.values()))) if found else -np.inf
    return max(means, key=lambda name: means[name])


def _splits(
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    labels: np.ndarray,
    runs: Sequence[str],
    groups: np.ndarray,
    repetition_time: float,
    subject: str,
) -> list[dict[str, Any]]:
    """Rows of each fold: stretches of volumes within runs, in seconds of the run."""
    starts = {label: int(np.argmax(labels == label)) for label in np.unique(labels).tolist()}
    found: list[dict[str, Any]] = []
    for number, fold in enumerate(folds):
        for side, rows in zip(("train", "test"), fold, strict=True):
            apart = (np.diff(rows) > 1) | (np.diff(labels[rows]) != 0)
            for some in np.split(rows, np.flatnonzero(apart) + 1):
                first, last = int(some[0]), int(some[-1])
                start = starts[int(labels[first])]
                found.append(
                    {
                        "study": NAME,
                        "run": runs[first],
                        "subject": subject,
                        "begin": round((first - start) * repetition_time, 3),
                        "end": round((last + 1 - start) * repetition_time, 3),
                        "group": str(groups[first]),
                        "side": side,
                        "fold": number,
                        "rows": len(some),
                    }
                )
    return found


def _checksum(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
