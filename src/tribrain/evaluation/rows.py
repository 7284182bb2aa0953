"""Rows of a prepared study that predictions are scored on, and those that baselines are fitted to.

A *part* is a span of a run (`tribrain.training.data.Stretch`) with the rows of BOLD that go with
it. Parts in which the same was shown from the first row on have one *cell*: there rows of people
can be averaged and compared. BOLD is z-scored over the rows of each part, so that no part counts
for more than its rows.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tribrain.errors import InputError
from tribrain.training.data import Stretch, TrainingData
from tribrain.training.teaching import shown_in

LEAD = 15
"""Rows (seconds) of features before the first row of a part, so that delays have a past."""
_NEAR = 1e-6


@dataclass(frozen=True, eq=False)
class Part:
    """A stretch of a run that is scored as a whole.

    Attributes
    ----------
    number : int
        Place in the sequence of parts.
    study, subject, run, group, side : str
    cell : int
        The same number where the same was shown, row by row from the first one.
    repeat : int
        How often this person was shown the cell before.
    seconds : ndarray (rows,)
        Of the stimulus that each row answers to, or of the run where there is no stimulus.
    first : int
        Row of the run's BOLD that is the first one.
    shown : ndarray (rows,) of int, optional
        Which stimulus each row answers to: the same number in all parts that show it.
    """

    number: int
    study: str
    subject: str
    run: str
    group: str
    side: str
    cell: int
    repeat: int
    seconds: np.ndarray
    first: int = 0
    shown: np.ndarray | None = None

    @property
    def person(self) -> str:
        return f"{self.study}/{self.subject}"

    @property
    def rows(self) -> int:
        return len(self.seconds)


def parts_of(data: TrainingData, stretches: Sequence[Stretch]) -> tuple[Part, ...]:
    """Parts of stretches, in their order."""
    cells: dict[object, int] = {}
    seen: dict[tuple[str, int], int] = {}
    contents: dict[str, int] = {}
    found = []
    for number, stretch in enumerate(stretches):
        span = stretch.span
        cell = cells.setdefault((stretch.study, shown_in(stretch)), len(cells))
        person = f"{span.study}/{span.subject}", cell
        seen[person] = seen.get(person, -1) + 1
        seconds, place = answered(stretch, data.lag)
        kinds = [contents.setdefault(one, len(contents)) for one in _contents(stretch)]
        found.append(
            Part(
                number, span.study, span.subject, span.run, span.group, stretch.side, cell,
                seen[person], seconds, stretch.first, np.array(kinds)[place],
            )
        )  # fmt: skip
    return tuple(found)


def answered(stretch: Stretch, lag: float) -> tuple[np.ndarray, np.ndarray]:
    """Second of the stimulus that each row of a stretch answers to, and which stimulus (rows,).

    Row r is the BOLD at ``origin + r`` seconds of the run and answers to what was shown `lag`
    seconds before; between stimuli of a group the clock of the last one goes on. Stimuli are
    numbered in the order of their onsets in the span.
    """
    run = stretch.run
    clock = run.origin + np.arange(stretch.first, stretch.stop) - lag
    shown = _shown(stretch)
    onsets = np.array([one.onset for one in shown])
    last = np.maximum(np.searchsorted(onsets, clock + _NEAR, "right") - 1, 0)
    shift = np.array([one.start - one.onset for one in shown])
    return clock + shift[last], last


def _shown(stretch: Stretch) -> list[Any]:
    span = stretch.span
    return [one for one in stretch.run.shown if one.onset < span.end and one.end > span.begin]


def _contents(stretch: Stretch) -> list[str]:
    return [one.source.content() for one in _shown(stretch)]


def measured_rows(data: TrainingData, stretch: Stretch) -> np.ndarray:
    """BOLD of a stretch (rows, outputs), float32, z-scored over its rows.

    NaN where nothing was measured, and throughout where an output does not vary.
    """
    scored = copy.copy(data)
    scored.standardise = True
    scored.length, scored.n_samples = stretch.stop - stretch.first, 1
    return scored.batch([(stretch, stretch.first)]).targets[0].numpy()


def feature_rows(data: TrainingData, stretch: Stretch, lead: int = LEAD) -> np.ndarray:
    """Features of a stretch on the clock of its BOLD.

    Parameters
    ----------
    data : TrainingData
        A whole number of samples a second.
    stretch : Stretch
    lead : int
        Rows before the first one of the stretch.

    Returns
    -------
    ndarray (lead + rows, columns), float32
        Row r holds the means over the second that begins when BOLD row ``r - lead`` is measured:
        delayed by d rows it is what was shown d to d - 1 seconds before. 0 before the span begins.
        Columns are those of `feature_bands`: modality after modality, layers before dimensions.

    Raises
    ------
    InputError
        If the samples are not a whole number a second.
    """
    rate = round(data.frequency)
    if rate < 1 or rate != data.frequency:
        raise InputError(f"{data.frequency:g} samples a second; a whole number fits")
    n, early = stretch.stop - stretch.first, math.floor(data.lag)
    wide = copy.copy(data)
    wide.length, wide.n_samples = 1, rate * (lead + early + n)
    batch = wide.batch([(stretch, stretch.first - lead)])
    seconds = [
        part[0].numpy().reshape(-1, lead + early + n, rate).mean(-1, dtype=np.float32)
        for part in batch.features.values()
    ]
    return np.ascontiguousarray(np.concatenate(seconds)[:, early:].T)


def feature_bands(data: TrainingData) -> dict[str, int]:
    """Columns of each modality in `feature_rows`, in their order."""
    return {name: layers * width for name, (layers, width) in data.dims.items()}


class Zscores:
    """Sums of z-scored BOLD over people who were shown the same: what their mean is made of.

    A person who was shown a cell several times counts once, by the mean of the repeats.

    Parameters
    ----------
    rows, outputs : int
        Of the cell; people may have fewer rows.
    """

    def __init__(self, rows: int, outputs: int) -> None:
        self.total = np.zeros((rows, outputs), np.float32)
        self.count = np.zeros((rows, outputs), np.uint16)

    def add(self, values: np.ndarray) -> None:
        """Add a person's rows (up to `rows`, outputs); NaN is left out."""
        there = ~np.isnan(values)
        self.total[: len(values)] += np.where(there, values, 0)
        self.count[: len(values)] += there

    def mean(self, without: np.ndarray | None = None) -> np.ndarray:
        """Mean (rows, outputs), of all or without the rows of one person; NaN where nobody was.

        The rows of that person must be those that were added.
        """
        total, count = self.total, self.count.astype(np.float32)
        if without is not None:
            there = ~np.isnan(without)
            n = len(without)
            total, count = total.copy(), count
            total[:n] -= np.where(there, without, 0)
            count[:n] -= there
        with np.errstate(invalid="ignore", divide="ignore"):
            found = np.where(count > 0, total / count, np.nan).astype(np.float32)
        if without is not None:  # what rounding leaves of the person alone is nothing
            found[np.abs(found) < 1e-6] = 0
        return found


def mean_of_repeats(values: Sequence[np.ndarray]) -> np.ndarray:
    """Mean (rows, outputs) of a person's z-scored rows of one cell; shorter ones count as far."""
    if len(values) == 1:
        return values[0]
    sums = Zscores(max(map(len, values)), values[0].shape[1])
    for one in values:
        sums.add(one)
    return sums.mean()


def by_person(parts: Iterable[Part]) -> dict[str, list[Part]]:
    """Parts of each person, people in the order of their first part."""
    found: dict[str, list[Part]] = {}
    for part in parts:
        found.setdefault(part.person, []).append(part)
    return found


def by_cell(parts: Iterable[Part]) -> dict[int, list[Part]]:
    """Parts of each cell, cells in the order of their first part."""
    found: dict[int, list[Part]] = {}
    for part in parts:
        found.setdefault(part.cell, []).append(part)
    return found


def chosen(parts: Sequence[Part], wanted: Iterable[Part]) -> tuple[Part, ...]:
    """Some parts, numbered anew; cells keep their numbers."""
    numbers = {part.number for part in wanted}
    kept = [part for part in parts if part.number in numbers]
    return tuple(dataclasses.replace(part, number=place) for place, part in enumerate(kept))
