"""A person's own arrays: baselines on features and BOLD at their own repetition time.

The BOLD is scored as it was measured, one row a volume: it is never resampled. Features have a row
a volume, or are averaged over volumes (`per_volume`).
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tribrain.brain.atlases import Atlas
from tribrain.brain.region_tables import atlas_for
from tribrain.brain.spaces import Space
from tribrain.brain.summaries import cortex_mask
from tribrain.errors import InputError
from tribrain.evaluation.array_parts import (
    NAME,
    Volumes,
    lacking,
    place_volumes,
    splits_told,
    tested_parts,
)
from tribrain.evaluation.baselines import TOLD, Setting, baseline_names, make_baselines
from tribrain.evaluation.baselines import nuisance_floor as floor_estimator
from tribrain.evaluation.controls import LEAST_SHIFT, circular_shift, draw_shift
from tribrain.evaluation.evaluation import NUISANCE, SHIFTED, Evaluation
from tribrain.evaluation.fits import OUTER_FOLDS, OUTER_GAP
from tribrain.evaluation.folds import Fold, inner_folds
from tribrain.evaluation.rows import Part
from tribrain.evaluation.scoring import BOLD, Scorer, Way, mean_score
from tribrain.evaluation.tables import LEAST_CEILING, Settings, settings_told, tabulate
from tribrain.evaluation.volumes import Labels, as_table
from tribrain.evaluation.ways import find_ceilings
from tribrain.evaluation.work import Work
from tribrain.features.extract import Progress

ARRAY_CEILINGS = ("auto", "repeats", "none")


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
    measured = _checked_bold(bold, ceiling, repetition_time, space)
    volumes = place_volumes(
        *(features, measured, nuisance, repetition_time, feature_rate, runs, groups, subject)
    )
    gap = int(np.ceil(OUTER_GAP / repetition_time))
    parted = inner_folds(len(measured), volumes.groups, volumes.labels, volumes.used, folds, gap)
    parts = tested_parts(volumes, parted)
    if ceiling == "repeats" and not any(part.repeat for part, _ in parts):
        raise InputError(
            "no two runs of one group (--groups) have the same features; --ceiling none fits"
        )
    notes = lacking(volumes, parted, parts)
    mask = np.ones(measured.shape[1], bool) if space is None else cortex_mask(space)
    with tempfile.TemporaryDirectory(prefix="tribrain-") as scratch:
        work = Work(Path(scratch) / "work", "arrays")
        setting = Setting(
            repetition_time, None if bands is None else tuple(bands), measured.shape[1], seed=seed
        )
        fits = _Fits(volumes, parted, parts, work, mask, setting, progress)
        ways, floors = fits.predict(names, controls)
        ceilings = find_ceilings(ceiling, fits.scorer, shared=False, seed=seed)
        tables = tabulate(
            fits.scorer,
            fits.scorer.parts,
            ways,
            floors,
            ceilings,
            settings,
            space=space,
            atlas=None if space is None else atlas_for(space, atlas),
        )
    if nuisance is None:
        notes.append("no nuisance floor: no nuisance features were given")
    if ceilings.said == "none":
        notes.append("no ceiling: nothing was shown twice, and there is one person")
    about: dict[str, Any] = {
        "model": "",
        "title": f"{', '.join(names)} on arrays",
        "studies": [NAME],
        "space": "" if space is None else space.name,
        "unit": "BOLD z-scored over each run",
        "checksums": {"features": _checksum(features), "bold": _checksum(measured)},
        "ways": {way.name: way.about for way in ways},
        "ceiling": ceilings.said,
        "least_ceiling": LEAST_CEILING,
        "notes": notes + tables.notes,
        "seeds": {"all": seed},
        "settings": settings_told(settings)
        | {"repetition time (s)": repetition_time, "folds": len(parted), "gap (volumes)": gap},
        "splits": splits_told(volumes, parted),
        "null": tables.null,
        "floors": floors,
        "versions": dict(versions or {}),
    }
    return Evaluation(about, space, maps=tables.maps, **tables.frames())


def _checked_bold(
    bold: np.ndarray, ceiling: str, repetition_time: float, space: Space | None
) -> np.ndarray:
    """BOLD (volumes, outputs), which what is said about it fits."""
    table = as_table(bold, "BOLD")
    if np.isinf(table).any():
        raise InputError(
            "the BOLD holds infinite values; finite ones, and NaN where nothing was measured, fit"
        )
    if ceiling not in ARRAY_CEILINGS:
        known = ", ".join(ARRAY_CEILINGS)
        raise InputError(f"ceiling {ceiling!r} is not there for arrays of one person: {known} fit")
    if not 0 < repetition_time < 100:
        raise InputError(f"repetition time {repetition_time:g} s; 0 to 100 s fit")
    if space is not None and space.size != table.shape[1]:
        raise InputError(
            f"the BOLD has {table.shape[1]} outputs and {space.name} {space.size}; as many fit"
        )
    return table


class _Fits:
    """Baselines fitted fold by fold, and what they predict.

    Parameters
    ----------
    volumes : Volumes
    folds : sequence of (ndarray, ndarray)
        Rows fitted to, and predicted.
    parts : sequence of (Part, slice)
        What is scored, and its rows.
    work : Work
        Keeps BOLD and predictions of the parts.
    mask : ndarray (outputs,) of bool
        Outputs that count.
    setting : Setting
        Of the baselines.
    progress : callable, optional
    """

    def __init__(
        self,
        volumes: Volumes,
        folds: Sequence[Fold],
        parts: Sequence[tuple[Part, slice]],
        work: Work,
        mask: np.ndarray,
        setting: Setting,
        progress: Progress | None,
    ) -> None:
        self.volumes, self.folds, self.parts, self.work = volumes, folds, parts, work
        self.setting, self.progress = setting, progress
        self.scorer = Scorer(work, [part for part, _ in parts], mask)
        self._keep(volumes.bold, BOLD)

    def predict(self, names: Sequence[str], controls: bool) -> tuple[list[Way], dict[str, str]]:
        """Keep what baselines, the floor and the control predict; the floor of each way."""
        simple = self.volumes.nuisance
        if simple is not None:
            self._fit(NUISANCE, simple, NUISANCE)
        for name in names:
            self._fit(name, self.volumes.features, name)
        ways = [Way(name, TOLD[name], crossed=True) for name in names]
        if controls:
            ways.append(self._shifted(_best(self.scorer, names)))
        if simple is None:
            return ways, {}
        floors = {way.name: NUISANCE for way in ways}
        about = "ridge on simple features convolved with a response"
        return [*ways, Way(NUISANCE, about, crossed=True)], floors

    def _shifted(self, best: str) -> Way:
        """Fit a baseline to features that were moved, as a control."""
        volumes, second = self.volumes, self.volumes.repetition_time
        shortest = min(stop - first for first, stop in volumes.bounds)
        least = min(round(LEAST_SHIFT / second), shortest // 3)
        by = draw_shift(len(volumes.bold), least, self.setting.seed, volumes.labels)
        moved = circular_shift(volumes.features, by, volumes.labels, least)
        self._fit(SHIFTED, moved, best)
        seconds = min(by, shortest - by % shortest) * second
        about = f"{best} fitted and tested on features moved by {seconds:.0f} s or more: a control"
        return Way(SHIFTED, about, crossed=True)

    def _fit(self, name: str, x: np.ndarray, kind: str) -> None:
        """Keep what is predicted of each row by what was fitted to others."""
        bold, labels, groups = self.volumes.bold, self.volumes.labels, self.volumes.groups
        used = self.volumes.used
        found = np.full(bold.shape, np.nan, np.float32)
        for number, (train, test) in enumerate(self.folds):
            rows = np.zeros(len(x), bool)
            rows[train] = True
            keep = np.isfinite(bold[rows]).all(axis=0)
            if keep.any():
                y = bold if keep.all() else bold[:, keep]
                fitted = self._make(kind).fit(x, y, runs=labels, groups=groups, used=rows & used)
                predicted = np.asarray(fitted.predict(x, runs=labels)).reshape(len(x), -1)
                found[np.ix_(test, np.flatnonzero(keep))] = predicted[test]
            if self.progress is not None:
                self.progress(name, number + 1, len(self.folds))
        self._keep(found, name)

    def _make(self, kind: str) -> Any:
        if kind == NUISANCE:
            return floor_estimator(replace(self.setting, bands=None))
        return make_baselines([kind], self.setting)[kind]

    def _keep(self, values: np.ndarray, name: str) -> None:
        for part, rows in self.parts:
            self.work.put(values[rows], name, part.number)


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


def _checksum(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
