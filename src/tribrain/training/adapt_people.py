"""Rows of new people in closed form, with what several of them share.

Several people first get one row, by ridge on the rows of all (towards that of people never seen),
of which what matters most is kept: the largest `SHARED_RANK` singular values of what it adds. Each
person's row is then found by ridge towards that one. Whether that start is better than the row of
people never seen, and how strong each penalty is, is told by cross-validation over blocks of time:
a block is left out of everything, the shared row included. Blocks are contiguous in the order in
which each person was shown what is in them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tribrain.encoder.low_rank import compressed, shift_of
from tribrain.training.adapt_data import Rows
from tribrain.training.adapt_ridge import (
    MOST_FOLDS,
    Choice,
    best_penalty,
    held_out_sums,
    left_out,
    penalties_for,
    ridge_row,
    time_blocks,
)

SHARED_RANK = 128
Row = tuple[np.ndarray, np.ndarray]  # weight (R, V) and bias (V,)


class Changes(Sequence[Row]):
    """What is added to weight and bias (R, V), (V,) of a row that people start from.

    Each is worked out when it is read, as those of many people are larger than their BOLD.

    Parameters
    ----------
    people : sequence of Rows
    start, given : Row
        What ridge goes towards, and what the change is told from.
    penalties : sequence of float
    """

    def __init__(
        self, people: Sequence[Rows], start: Row, given: Row, penalties: Sequence[float]
    ) -> None:
        self._people, self._start, self._given, self._penalties = people, start, given, penalties

    def __len__(self) -> int:
        return len(self._people)

    def __iter__(self) -> Iterator[Row]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: Any) -> Any:
        one = self._people[number]
        weight, bias = ridge_row(one.states, one.measured, *self._start, self._penalties[number])
        weight -= self._given[0]
        bias -= self._given[1]
        return weight, bias


@dataclass(frozen=True, eq=False)
class Fits:
    """Rows of people.

    Attributes
    ----------
    changes : sequence of (ndarray (R, V), ndarray (V,))
        What is added to weight and bias of the row of people never seen.
    penalties : list of float
        Of each person.
    shared : float or None
        Penalty of the shared row, if it is used.
    before, after : list of float
        Cross-validated correlation of each person, by the row of people never seen and by their
        own; the mean over outputs. The blocks of time that `after` is of also chose the penalty and
        whether a shared row is used.
    """

    changes: Sequence[Row]
    penalties: list[float]
    shared: float | None
    before: list[float]
    after: list[float]


def ridge_people(
    rows: Rows,
    weight: np.ndarray,
    bias: np.ndarray,
    said: Callable[[str], None] | None = None,
) -> Fits:
    """Find the rows of people.

    Parameters
    ----------
    rows : Rows
        Of people 0, 1, ...
    weight, bias : ndarray (R, V), (V,)
        The row that they start from.
    said : callable, optional
        Called with a line on what several people share.
    """
    people = [rows.of(number) for number in range(int(rows.people.max()) + 1)]
    given = weight, bias
    alone = _sums(rows, people, lambda _: given)
    best = [_best(one, sums) for one, sums in zip(people, alone, strict=True)]
    before = [best_penalty(sums[:, -1:], [math.inf]).correlation for sums in alone]
    shared, start = None, given
    if len(people) > 1:
        one = dataclasses.replace(rows, people=np.zeros_like(rows.people))
        penalty = _best(one, *_sums(one, [one], lambda _: given)).penalty
        joint = _sums(rows, people, lambda train: _shared_row(rows, given, penalty, train))
        together = [_best(one, sums) for one, sums in zip(people, joint, strict=True)]
        apart, joined = (
            float(np.nanmean([one.explained for one in choices])) for choices in (best, together)
        )
        if said is not None:
            used = "used" if joined > apart else "not used"
            told = f"{apart:.4f} each alone, {joined:.4f} from a shared row"
            said(f"variance explained: {told} ({used})")
        if joined > apart:
            best, shared, start = together, penalty, _shared_row(rows, given, penalty)
    penalties = [one.penalty for one in best]
    changes = Changes(people, start, given, penalties)
    return Fits(changes, penalties, shared, before, [one.correlation for one in best])


def _sums(
    rows: Rows, people: Sequence[Rows], start: Callable[[np.ndarray], Row]
) -> list[np.ndarray]:
    """`held_out_sums` of each person, each of their blocks of time left out in turn.

    `start` gives the row that is started from, found on some of all rows. People who were shown the
    same in one order leave out the same and have one; it is not kept.
    """
    penalties = [penalties_for(one.states) for one in people]
    sums = [np.zeros((3, len(each), rows.measured.shape[1])) for each in penalties]
    blocks = [time_blocks(one.positions, one.clock) for one in people]
    for number in range(MOST_FOLDS):
        same: dict[bytes, list[int]] = {}
        for person, parts in enumerate(blocks):
            if number < len(parts):
                train, _ = left_out(rows.positions, rows.clock, parts[number])
                same.setdefault(train.tobytes(), []).append(person)
        for key, members in same.items():
            train = np.frombuffer(key, bool)
            row = start(train)
            for person in members:
                one, own = people[person], rows.people == person
                test = np.isin(one.positions, blocks[person][number])
                sums[person] += held_out_sums(
                    one.states, one.measured, *row, train[own], test, penalties[person]
                )
    return sums


def _best(rows: Rows, sums: np.ndarray) -> Choice:
    return best_penalty(sums, penalties_for(rows.states))


def _shared_row(rows: Rows, given: Row, penalty: float, used: np.ndarray | None = None) -> Row:
    """A row for all people, of which the largest singular values of what is added are kept."""
    weight, bias = ridge_row(rows.states, rows.measured, *given, penalty, used)
    change = weight - given[0]
    if min(change.shape) > SHARED_RANK:
        parts, _ = compressed(change, rows.states, rank=SHARED_RANK)
        if "left" in parts:
            bias = bias + shift_of(change, parts, rows.states)
            change = (parts["left"] @ parts["right"]).numpy().astype(np.float64)
    return given[0] + change, bias
