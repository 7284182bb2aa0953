"""Scores of everything that predicts, part by part, person by person, and for the mean of people.

Arrays lie in a `Work` folder: ``bold/PART`` the z-scored BOLD of a part, ``WAY/PART`` what a way
predicts of it or, where all who were shown a cell are predicted alike, ``WAY/cellCELL``. One part
of one person is in memory at a time, and a block of outputs of all people.

A score of several parts is their mean weighted by rows. As each part is z-scored, that is the
correlation over all of them together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tribrain.errors import InputError
from tribrain.evaluation.ceilings import split_half
from tribrain.evaluation.retrieval import Retrieval, Stacked, retrieval
from tribrain.evaluation.rows import Part, Zscores, by_cell, by_person, mean_of_repeats
from tribrain.evaluation.scores import mean_over, score
from tribrain.evaluation.work import Work

BOLD, PEOPLE = "bold", "people"
_COLUMNS = 1024  # outputs in double precision at a time
_BYTES = 256e6  # of a block of outputs of all people


@dataclass(frozen=True)
class Way:
    """Something that predicts.

    Attributes
    ----------
    name, about : str
        ``about`` says in a line what it is.
    unseen : bool
        It knows nothing of the person who is scored.
    crossed : bool
        It was fitted to other folds of what is scored (cross-validation).
    """

    name: str
    about: str
    unseen: bool = False
    crossed: bool = False


@dataclass(frozen=True, eq=False)
class PartScore:
    """How a way predicts a part.

    Attributes
    ----------
    r, r2, explained_variance : ndarray (V,), float32
        r is 0 where the prediction does not vary and the measured series does.
    shares : ndarray (rows,)
        Of each row in the mean r: zx zy - r (zx^2 + zy^2) / 2 + r, averaged over the outputs that
        count. Their mean is the mean r; NaN in rows that were not measured.
    still : int
        Outputs whose prediction does not vary.
    """

    r: np.ndarray
    r2: np.ndarray
    explained_variance: np.ndarray
    shares: np.ndarray
    still: int


def score_part(predicted: np.ndarray, measured: np.ndarray, mask: np.ndarray) -> PartScore:
    """Score rows (rows, V) of a prediction; outputs outside the mask (V,) count for no mean."""
    found = score(predicted, measured)
    still = np.isnan(found.r) & np.isfinite(found.r2)
    r = np.where(still, 0.0, found.r)
    counted = np.flatnonzero(mask & np.isfinite(r))
    total, rows = np.zeros(len(measured)), np.zeros(len(measured))
    for first in range(0, len(counted), _COLUMNS):
        columns = counted[first : first + _COLUMNS]
        x, y = (part[:, columns].astype(float) for part in (predicted, measured))
        there = ~(np.isnan(x) | np.isnan(y))
        zx, zy = _zscored(x, there), _zscored(y, there)
        here = r[columns]
        share = zx * zy - here * (zx**2 + zy**2) / 2 + here
        # Where no prediction varies, zx is 0 and r is 0: so is the share.
        total += np.where(there, share, 0).sum(axis=1)
        rows += there.sum(axis=1)
    with np.errstate(invalid="ignore"):
        shares = total / rows
    r2, explained = found.r2.astype(np.float32), found.explained_variance.astype(np.float32)
    return PartScore(r.astype(np.float32), r2, explained, shares, int((still & mask).sum()))


def _zscored(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    """z-scores over the rows that are there; 0 elsewhere, and where nothing varies."""
    count = np.maximum(there.sum(axis=0), 1)
    centred = np.where(there, values - np.where(there, values, 0).sum(axis=0) / count, 0)
    scale = np.sqrt((centred**2).sum(axis=0) / count)
    size = np.abs(np.where(there, values, 0)).max(axis=0, initial=0)
    return np.divide(centred, scale, out=np.zeros_like(centred), where=scale > 1e-10 * size)


@dataclass(eq=False)
class WayScores:
    """Scores of one way.

    Attributes
    ----------
    way : Way
    known : sequence of Part
        All that are tested, those that the way does not predict as well.
    parts : dict of int to PartScore
        By number of the part.
    group : dict of int to PartScore
        By cell: of the mean BOLD of people, where two or more were shown the cell.
    retrieval : dict of str to Retrieval
        Of each person with enough windows.
    """

    way: Way
    known: Sequence[Part] = ()
    parts: dict[int, PartScore] = field(default_factory=dict)
    group: dict[int, PartScore] = field(default_factory=dict)
    retrieval: dict[str, Retrieval] = field(default_factory=dict)


class Scorer:
    """Scores ways on parts.

    Parameters
    ----------
    work : Work
        With the BOLD of every part.
    parts : sequence of Part
        Those that are tested.
    mask : ndarray (V,) of bool
        Outputs that count for means (not those in the medial wall).
    """

    def __init__(self, work: Work, parts: Sequence[Part], mask: np.ndarray) -> None:
        self.work, self.parts, self.mask = work, tuple(parts), mask
        self.cells = by_cell(self.parts)

    def bold(self, part: Part) -> np.ndarray:
        """z-scored BOLD (rows, V), mapped."""
        return self.work.get(BOLD, part.number)

    def predicted(self, way: str, part: Part) -> np.ndarray | None:
        """What a way predicts of a part (rows, V), mapped; None where it predicts nothing."""
        if self.work.has(way, part.number):
            return self.work.get(way, part.number)
        if self.work.has(way, f"cell{part.cell}"):
            return self.work.get(way, f"cell{part.cell}")[: part.rows]
        return None

    def people_of(self, cell: int) -> int:
        """How many people were shown a cell."""
        return len({part.person for part in self.cells[cell]})

    def has_group(self, cell: int) -> bool:
        """Whether the mean of people is scored: not that of people held out alone, in films that
        others were trained on."""
        seen = all(part.side == "held_out_seen" for part in self.cells[cell])
        return self.people_of(cell) > 1 and not seen

    def add_people(self) -> bool:
        """Keep, as the way `PEOPLE`, the mean of the others of each part; False where none has.

        And ``group/cellCELL``, the mean of all people.
        """
        some = False
        for cell, parts in self.cells.items():
            if self.people_of(cell) < 2:
                continue
            some = True
            if all(self.work.has(PEOPLE, p.number) for p in parts):
                continue
            sums = Zscores(max(p.rows for p in parts), len(self.mask))
            people = by_person(parts)
            for own in people.values():
                sums.add(mean_of_repeats([self.bold(p) for p in own]))
            self.work.put(sums.mean(), "group", f"cell{cell}")
            for own in people.values():
                others = sums.mean(mean_of_repeats([self.bold(p) for p in own]))
                for part in own:
                    self.work.put(others[: part.rows], PEOPLE, part.number)
        return some

    def score(self, way: Way, *, window: int = 10) -> WayScores:
        """Score a way on all parts that it predicts."""
        found = WayScores(way, self.parts)
        for person, own in by_person(self.parts).items():
            pairs = []
            for part in own:
                predicted = self.predicted(way.name, part)
                if predicted is None:
                    continue
                found.parts[part.number] = score_part(predicted, self.bold(part), self.mask)
                pairs.append((predicted, self.bold(part)))
            windows = _retrieved(pairs, self.mask, window) if pairs else None
            if windows is not None:
                found.retrieval[person] = windows
        if way.name == PEOPLE:
            return found
        for cell, parts in self.cells.items():
            predicted = self._mean_predicted(way.name, parts)
            if predicted is not None and self.has_group(cell):
                group = self.work.get("group", f"cell{cell}")[: len(predicted)]
                found.group[cell] = score_part(predicted, group, self.mask)
        return found

    def correlation(self, way: str, part: Part) -> np.ndarray:
        """r (V,), float32, of a way and a part that it predicts."""
        predicted = self.predicted(way, part)
        assert predicted is not None
        return score_part(predicted, self.bold(part), self.mask).r

    def _mean_predicted(self, way: str, parts: Sequence[Part]) -> np.ndarray | None:
        """Mean over people of what a way predicts of a cell."""
        if self.work.has(way, f"cell{parts[0].cell}"):
            return self.work.get(way, f"cell{parts[0].cell}")
        sums, some = Zscores(max(p.rows for p in parts), len(self.mask)), False
        for own in by_person(parts).values():
            given = [self.predicted(way, part) for part in own]
            there = [one for one in given if one is not None]
            if there:
                some = True
                sums.add(mean_of_repeats(there))
        return sums.mean() if some else None

    def has_repeats(self) -> bool:
        """Whether anybody was shown a cell several times."""
        return any(
            len(own) > 1 for parts in self.cells.values() for own in by_person(parts).values()
        )

    def repeats(self, draws: int, seed: int) -> dict[int, np.ndarray]:
        """Ceiling (V,) of each part of a cell that a person was shown several times."""
        found: dict[int, np.ndarray] = {}
        for parts in self.cells.values():
            for own in by_person(parts).values():
                if len(own) < 2:
                    continue
                rows = min(part.rows for part in own)
                arrays = [self.bold(part)[:rows] for part in own]
                ceiling = np.concatenate(
                    [
                        split_half(np.stack([one[:, block] for one in arrays]), draws, seed).of_one
                        for block in self.blocks(len(own) * rows)
                    ]
                ).astype(np.float32)
                found |= {part.number: ceiling for part in own}
        return found

    def shared_ceilings(self, draws: int, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
        """What those who know all that people share could score, over cells by their rows.

        The square root of the mean reliability of cells (`split_half` of people), which may be
        negative in some; 0 where it is in their mean, so that no output that is scored is missing
        here. NaN where nothing varies.

        Returns
        -------
        of_mean, of_one : ndarray (V,)
            In the mean of these people, and in one of them. None where nobody shares a cell.
        """
        total, weight = np.zeros((2, len(self.mask))), np.zeros((2, len(self.mask)))
        for cell, parts in self.cells.items():
            if self.people_of(cell) < 2:
                continue
            people = list(by_person(parts).values())
            rows = max(part.rows for part in parts)
            for block in self.blocks(len(people) * rows):
                values = np.full((len(people), rows, block.stop - block.start), np.nan, np.float32)
                for number, own in enumerate(people):
                    mean = mean_of_repeats([self.bold(part)[:, block] for part in own])
                    values[number, : len(mean)] = mean
                halves = split_half(values, draws, seed)
                found = np.stack([halves.reliability, halves.reliability_of_one])
                there = np.isfinite(found)
                total[:, block] += rows * np.where(there, found, 0)
                weight[:, block] += rows * there
        if not weight.any():
            return None
        mean = np.divide(total, weight, out=np.full(total.shape, np.nan), where=weight > 0)
        of_mean, of_one = np.sqrt(np.maximum(mean, 0))
        return of_mean, of_one

    def blocks(self, rows: int) -> list[slice]:
        """Blocks of outputs of which so many rows fit into memory."""
        size = len(self.mask)
        step = max(1, int(_BYTES / (8 * max(rows, 1))))
        return [slice(first, min(first + step, size)) for first in range(0, size, step)]

    def timeline(self, way: str, block: slice) -> list[tuple[np.ndarray, np.ndarray]]:
        """Predicted and measured rows of everybody on one clock: all cells one after the other.

        Both are z-scored over each part, so that what a person was not shown can be 0: it adds
        nothing to sums of products, at any shift within a cell. A person who was shown cells
        several times stands there as often.

        Returns
        -------
        list of (predicted, measured), each (rows, outputs of the block), float32
        """
        edges = dict(zip(self.cells, self.edges(), strict=True))
        pairs: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = {}
        shape = max(stop for _, stop in edges.values()), block.stop - block.start
        for part in self.parts:
            predicted = self.predicted(way, part)
            if predicted is None:
                continue
            empty = np.zeros((2, *shape), np.float32)
            pair = pairs.setdefault((part.person, part.repeat), (empty[0], empty[1]))
            first = edges[part.cell][0]
            x, y = predicted[:, block].astype(float), self.bold(part)[:, block].astype(float)
            there = ~(np.isnan(x) | np.isnan(y))
            pair[0][first : first + part.rows] = _zscored(x, there)
            pair[1][first : first + part.rows] = _zscored(y, there)
        return list(pairs.values())

    def edges(self) -> list[tuple[int, int]]:
        """First row of each cell in the timeline, and the one behind its last."""
        found, begin = [], 0
        for parts in self.cells.values():
            rows = max(part.rows for part in parts)
            found.append((begin, begin + rows))
            begin += rows
        return found


def _retrieved(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], mask: np.ndarray, window: int
) -> Retrieval | None:
    """Windows of a person found among all of theirs; None where there are too few."""
    runs = np.concatenate([np.full(len(x), number) for number, (x, _) in enumerate(pairs)])
    predicted, measured = zip(*pairs, strict=True)
    whole = np.all([np.isfinite(part).all(axis=0) for part in predicted], axis=0)
    some = np.any([np.isfinite(part).any(axis=0) for part in measured], axis=0)
    rows = Stacked(predicted), Stacked(measured)
    try:
        return retrieval(*rows, window, outputs=mask & whole & some, runs=runs)
    except InputError:
        return None


def mean_map(scores: Mapping[int, np.ndarray], parts: Sequence[Part]) -> np.ndarray | None:
    """Mean over people of each person's mean over parts, weighted by their rows: (V,)."""
    people = []
    for own in by_person(part for part in parts if part.number in scores).values():
        values = np.stack([scores[part.number] for part in own]).astype(float)
        weights = np.array([part.rows for part in own], float)[:, None] * np.isfinite(values)
        total = np.where(np.isfinite(values), values, 0) * weights
        with np.errstate(invalid="ignore"):
            people.append(total.sum(axis=0) / weights.sum(axis=0))
    if not people:
        return None
    stacked = np.stack(people)
    there = np.isfinite(stacked)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(there, stacked, 0).sum(axis=0) / there.sum(axis=0))


def mean_score(
    scores: Mapping[int, np.ndarray], parts: Sequence[Part], mask: np.ndarray
) -> dict[str, float]:
    """Each person's mean over outputs and parts, these weighted by rows."""
    found = {}
    for person, own in by_person(part for part in parts if part.number in scores).items():
        values = np.array([mean_over(scores[part.number], mask) for part in own])
        weights = np.array([part.rows for part in own]) * np.isfinite(values)
        if weights.any():
            found[person] = float(np.nansum(values * weights) / weights.sum())
    return found
