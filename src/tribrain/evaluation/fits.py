"""Baselines of a study: fitted to the features and rows that a model was trained on.

Each baseline is fitted twice: to a person's own BOLD, and to the mean BOLD of people who were shown
the same, which serves people never seen. Nothing of the rows that are tested is fitted to.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from tribrain.evaluation.controls import LEAST_SHIFT, circular_shift, draw_shift
from tribrain.evaluation.reduction import MOST_COLUMNS, Reduction
from tribrain.evaluation.rows import (
    LEAD,
    Part,
    Zscores,
    by_cell,
    by_person,
    feature_bands,
    feature_rows,
    mean_of_repeats,
    measured_rows,
)
from tribrain.evaluation.work import Work
from tribrain.training.data import Stretch, TrainingData
from tribrain.training.teaching import shown_in

OUTER_FOLDS = 5
OUTER_GAP = 15
"""Rows (seconds) on both sides of a block of time left out that are not fitted to."""


LEAST_FITTED = 20
"""Rows below which nothing is fitted: what would predict is chance."""


@dataclass(frozen=True, eq=False)
class Fold:
    """Rows that are fitted to and rows that are tested: by number of the part, (rows,) of bool."""

    train: Mapping[int, np.ndarray]
    test: Mapping[int, np.ndarray]


def one_fold(fitted: Iterable[Part], tested: Iterable[Part]) -> list[Fold]:
    """All rows of some parts fitted to, all of others tested."""
    return [Fold(_whole(fitted), _whole(tested))]


def cross_validation(parts: Sequence[Part], folds: int = OUTER_FOLDS, seed: int = 0) -> list[Fold]:
    """Folds in which every row is tested once.

    Where two or more groups of stimuli were shown, whole groups are left out, at most `folds`
    parts of them, drawn by the seed. Of one group the first part of every run is left out, then
    the second one (`in_blocks`). Rows within `OUTER_GAP` seconds of what is left out are not
    fitted to: in the run, and of the stimulus wherever it was shown.
    """
    groups = sorted({part.group for part in parts})
    if len(groups) > 1:
        order = np.random.default_rng(seed).permutation(len(groups))
        place = {groups[one]: number % folds for number, one in enumerate(order)}
        found = []
        for fold in range(min(folds, len(groups))):
            tested = [part for part in parts if place[part.group] == fold]
            found.append(Fold(_whole(p for p in parts if place[p.group] != fold), _whole(tested)))
        return found
    runs: dict[str, list[Part]] = {}
    for part in parts:
        runs.setdefault(part.run, []).append(part)
    found = []
    for fold in range(max(map(len, runs.values()))):
        left_out = [some[fold] for some in runs.values() if fold < len(some)]
        held, spans = _whole(left_out), _left_out(left_out)
        train = {part.number: _far(part, spans) for part in parts if part.number not in held}
        found.append(Fold({number: far for number, far in train.items() if far.any()}, held))
    return found


def _left_out(parts: Iterable[Part]) -> set[tuple[str, int, float, float]]:
    """Run ("" for any), stimulus (-1 for any), and the first and last second, of parts."""
    spans = set()
    for part in parts:
        spans.add((part.run, -1, float(part.first), float(part.first + part.rows - 1)))
        shown = np.zeros(part.rows, int) if part.shown is None else part.shown
        for one in np.unique(shown).tolist():
            seconds = part.seconds[shown == one]
            spans.add(("", one, float(seconds.min()), float(seconds.max())))
    return spans


def _far(part: Part, spans: Iterable[tuple[str, int, float, float]]) -> np.ndarray:
    """Rows of a part that are further than the gap from what is left out (rows,)."""
    shown = np.zeros(part.rows, int) if part.shown is None else part.shown
    far = np.ones(part.rows, bool)
    for run, one, first, last in spans:
        if run not in ("", part.run):
            continue
        clock = part.first + np.arange(part.rows) if run else part.seconds
        here = (clock >= first - OUTER_GAP) & (clock <= last + OUTER_GAP)
        far &= ~(here & ((shown == one) | (one < 0)))
    return far


def in_blocks(
    stretches: Sequence[Stretch], least: int, blocks: int = OUTER_FOLDS
) -> tuple[Stretch, ...]:
    """Stretches cut into blocks of time, of `least` rows or more where there are two or more.

    People who were shown the same are cut at the same rows.
    """
    found = []
    longest: dict[object, int] = {}
    for stretch in stretches:
        key = shown_in(stretch)
        longest[key] = max(longest.get(key, 0), stretch.stop - stretch.first)
    for stretch in stretches:
        rows = longest[shown_in(stretch)]
        count = min(blocks, rows // least)
        edges = stretch.first + np.linspace(0, rows, max(count, 1) + 1).round().astype(int)
        for first, stop in pairwise(edges.tolist()):
            if first < stretch.stop:
                last = min(stop, stretch.stop)
                found.append(dataclasses.replace(stretch, first=first, stop=last))
    return tuple(found)


def _whole(parts: Iterable[Part]) -> dict[int, np.ndarray]:
    return {part.number: np.ones(part.rows, bool) for part in parts}


class Rows:
    """Features and BOLD of parts.

    Parameters
    ----------
    data : TrainingData
    stretches : sequence of Stretch
        Of each part, by its number.
    parts : sequence of Part
    shifted : int, optional
        A seed. The features of each cell are moved in a circle, by a minute or more from both
        ends (a third of what is shorter): a control.
    """

    def __init__(
        self,
        data: TrainingData,
        stretches: Sequence[Stretch],
        parts: Sequence[Part],
        *,
        shifted: int | None = None,
    ) -> None:
        self.data, self.stretches, self.parts = data, tuple(stretches), tuple(parts)
        self.shifted = shifted
        self.bands = feature_bands(data)
        self._longest = {
            cell: max(some, key=lambda part: part.rows)
            for cell, some in by_cell(self.parts).items()
        }
        self._reductions: dict[object, Reduction] = {}
        self._reduced: tuple[Reduction | None, dict[int, np.ndarray]] = None, {}

    def bold(self, part: Part) -> np.ndarray:
        """z-scored BOLD (rows, outputs)."""
        return measured_rows(self.data, self.stretches[part.number])

    def raw(self, cell: int) -> np.ndarray:
        """Features (lead + rows, columns) of a cell, as long as its longest part."""
        found = feature_rows(self.data, self.stretches[self._longest[cell].number])
        if self.shifted is None:
            return found
        least = min(round(LEAST_SHIFT), len(found) // 3)
        by = draw_shift(len(found), least, self.shifted + cell)
        return circular_shift(found, by, least=least)

    def reduction(self, fold: Fold, train: Sequence[Part]) -> Reduction:
        """Components of the rows of parts that a fold fits to; found once for the same rows."""
        narrow = max(self.bands.values()) <= MOST_COLUMNS
        key = None if narrow else (id(fold), tuple(sorted({(p.cell, p.rows) for p in train})))
        if key not in self._reductions:
            pieces = {(p.cell, p.rows): p for p in train}.values()

            def rows() -> Iterable[np.ndarray]:
                return (
                    self.raw(p.cell)[LEAD : LEAD + p.rows][fold.train[p.number]] for p in pieces
                )

            self._reductions[key] = Reduction.of(self.bands, rows, MOST_COLUMNS)
        return self._reductions[key]

    def reduced(self, cell: int, reduction: Reduction) -> np.ndarray:
        """Features of a cell after a reduction; kept for the last one that was asked for."""
        if self._reduced[0] is not reduction:
            self._reduced = reduction, {}
        held = self._reduced[1]
        if cell not in held:
            held[cell] = reduction.apply(self.raw(cell))
        return held[cell]


@dataclass(frozen=True)
class Fitted:
    """What a baseline was fitted to and predicts.

    Attributes
    ----------
    name : str
        Of the way.
    make : callable
        From the columns of each modality to an estimator.
    apart : bool
        What each modality adds is kept (modalities, rows, outputs), without the intercept, as
        `predict_bands` of the estimator tells it.
    """

    name: str
    make: Callable[[tuple[int, ...]], Any]
    apart: bool = False


def fit_own(
    rows: Rows,
    folds: Sequence[Fold],
    baseline: Fitted,
    work: Work,
    tick: Callable[[], None] = lambda: None,
) -> list[str]:
    """Fit a baseline to each person alone, and keep what it predicts of their tested rows.

    Predictions (rows, outputs), float32, are kept in `work` under the name of the baseline and the
    number of the part; NaN for outputs that were not measured throughout the fitted rows.

    Returns
    -------
    list of str
        People without rows to fit to, or with fewer than `LEAST_FITTED`.
    """
    without = []
    for person, parts in by_person(rows.parts).items():
        tested = [p for p in parts if any(p.number in fold.test for fold in folds)]
        if all(work.has(baseline.name, p.number) for p in tested):
            continue
        found: dict[int, np.ndarray] = {}
        for fold in folds:
            train = [p for p in parts if p.number in fold.train]
            test = [p for p in tested if p.number in fold.test]
            if not test or sum(int(fold.train[p.number].sum()) for p in train) < LEAST_FITTED:
                continue
            y = [rows.bold(p) for p in train]
            predict = _fit(rows, fold, baseline, train, y)
            for part in test:
                _fill(found, part, fold, predict(part))
        if not found:
            without.append(person)
        for part in tested:
            if part.number in found:
                work.put(found[part.number], baseline.name, part.number)
        tick()
    return without


def fit_mean(
    rows: Rows,
    folds: Sequence[Fold],
    baseline: Fitted,
    work: Work,
    *,
    leave_out: bool,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Fit a baseline to the mean of people, and keep what it predicts of everybody's tested rows.

    Parameters
    ----------
    leave_out : bool
        Leave each person out of the mean that predicts the person: where tested people are among
        those fitted to, and a score of people never seen is wanted. Otherwise one fit serves all,
        and predictions are kept a cell.
    """
    tested = by_person(p for p in rows.parts if any(p.number in fold.test for fold in folds))
    everyone = [p for some in tested.values() for p in some]
    if leave_out:
        if all(work.has(baseline.name, p.number) for p in everyone):
            return
    elif all(work.has(baseline.name, f"cell{p.cell}") for p in everyone):
        return
    found: dict[int, np.ndarray] = {}
    shared: dict[int, np.ndarray] = {}
    for fold in folds:
        train = by_cell(p for p in rows.parts if p.number in fold.train)
        longest = [max(parts, key=lambda p: p.rows) for parts in train.values()]
        if sum(int(fold.train[p.number].sum()) for p in longest) < LEAST_FITTED:
            continue
        sums = {cell: _sums(rows, parts) for cell, parts in train.items()}
        if not leave_out:
            y = [sums[part.cell].mean() for part in longest]
            predict = _fit(rows, fold, baseline, longest, y)
            for cell, parts in by_cell(p for p in everyone if p.number in fold.test).items():
                part = max(parts, key=lambda p: p.rows)
                _fill(shared, part, fold, predict(part), cell)
            tick()
            continue
        for person, parts in tested.items():
            test = [p for p in parts if p.number in fold.test]
            if not test:
                continue
            y = []
            for part in longest:
                own = [p for p in train[part.cell] if p.person == person]
                without = mean_of_repeats([rows.bold(p) for p in own]) if own else None
                y.append(sums[part.cell].mean(without))
            predict = _fit(rows, fold, baseline, longest, y)
            for part in test:
                _fill(found, part, fold, predict(part))
            tick()
    for number, values in found.items():
        work.put(values, baseline.name, number)
    for cell, values in shared.items():
        work.put(values, baseline.name, f"cell{cell}")


def _sums(rows: Rows, parts: Sequence[Part]) -> Zscores:
    """Sums over people who were shown a cell."""
    first = rows.stretches[parts[0].number]
    outputs = rows.data.spaces[rows.data.space_of(first)].size
    sums = Zscores(max(part.rows for part in parts), outputs)
    for repeats in by_person(parts).values():
        sums.add(mean_of_repeats([rows.bold(part) for part in repeats]))
    return sums


def _fit(
    rows: Rows, fold: Fold, baseline: Fitted, train: Sequence[Part], y: list[np.ndarray]
) -> Callable[[Part], np.ndarray]:
    """Fit to rows of parts, and return what predicts a part: (rows, outputs), or `apart`."""
    reduction = rows.reduction(fold, train)
    x = [rows.reduced(p.cell, reduction)[: LEAD + p.rows] for p in train]
    lead = np.zeros(LEAD, bool)
    used = np.concatenate(
        [
            np.concatenate([lead, fold.train[p.number] & ~np.isnan(values).all(axis=1)])
            for p, values in zip(train, y, strict=True)
        ]
    )
    labels = np.concatenate([np.full(len(one), number) for number, one in enumerate(x)])
    groups = np.concatenate(
        [np.full(len(one), p.group, object) for one, p in zip(x, train, strict=True)]
    )
    outputs = y[0].shape[1]
    whole = np.full((len(used), outputs), np.nan, np.float32)
    begin = 0
    for one, values in zip(x, y, strict=True):
        whole[begin + LEAD : begin + len(one)] = values
        begin += len(one)
    keep = np.ones(outputs, bool)
    for first in range(0, outputs, 1024):  # a truth value for every row of all would take room
        keep[first : first + 1024] = np.isfinite(whole[used, first : first + 1024]).all(axis=0)
    size = (len(reduction.bands),) if baseline.apart else ()
    if not keep.any() or used.sum() < 2:
        return lambda part: np.full((*size, part.rows, outputs), np.nan, np.float32)
    estimator = baseline.make(reduction.bands)
    estimator.fit(
        np.concatenate(x),
        whole if keep.all() else whole[:, keep],
        runs=labels,
        groups=groups,
        used=used,
    )

    def predict(part: Part) -> np.ndarray:
        shown = rows.reduced(part.cell, reduction)[: LEAD + part.rows]
        read = estimator.predict_bands if baseline.apart else estimator.predict
        found = np.full((*size, part.rows, outputs), np.nan, np.float32)
        found[..., keep] = read(shown, runs=np.zeros(len(shown)))[..., LEAD:, :]
        return found

    return predict


def _fill(
    found: dict[int, np.ndarray], part: Part, fold: Fold, values: np.ndarray, key: int | None = None
) -> None:
    """Put the rows that a fold tests into what is predicted of a part."""
    place = part.number if key is None else key
    whole = found.setdefault(place, np.full(values.shape, np.nan, np.float32))
    rows = fold.test[part.number]
    whole[..., rows, :] = values[..., rows, :]
