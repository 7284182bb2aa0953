"""Parts of the training side, each contained in every larger one: fewer hours, or fewer people.

What was left out of training is on no side; validation and test stay as they are.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from tribrain.brain.haemodynamics import LAG
from tribrain.errors import InputError
from tribrain.studies.groups import Span
from tribrain.studies.prepared import PreparedRun, windows


@dataclass(frozen=True)
class _Piece:
    """Rows of a span: those of a window, or what is left of the span."""

    span: Span
    rows: int
    end: float
    """Second of the run to which the span lasts if this is the last piece of it."""


def fewer_hours(
    sides: Mapping[Span, str],
    runs: Iterable[PreparedRun],
    hours: float,
    *,
    length: int = 100,
    lag: float = LAG,
    seed: int = 0,
) -> dict[Span, str]:
    """Train on some of the hours.

    Groups come one after another in an order that is drawn by the seed, the same for everyone who
    has them, and are taken whole; people take turns, the next window being that of the person
    with the least so far. The last group of a person may be cut after a whole window.

    Parameters
    ----------
    sides : mapping of Span to str
        As `tribrain.studies.splits.split` gives it.
    runs : iterable of PreparedRun
    hours : float
        Of measured BOLD, over all people. Met within half a window.
    length : int
        Seconds of a window.
    lag : float
        Seconds by which the BOLD is read late.
    seed : int

    Returns
    -------
    dict of Span to str
        The sides, with less in "train".

    Raises
    ------
    InputError
        If there are fewer hours, or it is less than a window for each person.
    """
    known = {(run.study, run.name): run for run in runs}
    queues: dict[str, list[_Piece]] = defaultdict(list)
    trained = [span for span, side in sides.items() if side == "train"]
    for span in sorted(trained, key=lambda span: (_place(seed, span.group), span)):
        queues[f"{span.study}/{span.subject}"] += _pieces(
            known[span.study, span.run], span, length, lag
        )
    queues = {person: pieces for person, pieces in queues.items() if pieces}
    total = sum(piece.rows for pieces in queues.values() for piece in pieces) / 3600
    if hours * 3600 > total * 3600 + length / 2:
        raise InputError(f"{hours:g} hours to train on, and the training side has {total:.4g}")
    until: dict[Span, float] = {}
    taken, people = 0, set()
    for person, piece in _in_turns(queues, seed):
        if taken + piece.rows / 2 > hours * 3600:
            break
        until[piece.span] = piece.end
        taken += piece.rows
        people.add(person)
    if len(people) < len(queues):
        raise InputError(
            f"{hours:g} hours are less than a window for each of {len(queues)} people; "
            f"{len(queues) * length / 3600:.2g} or more fit"
        )
    return {
        replace(span, end=until[span]) if side == "train" else span: side
        for span, side in sides.items()
        if side != "train" or span in until
    }


def fewer_people(sides: Mapping[Span, str], count: int, *, seed: int = 0) -> dict[Span, str]:
    """Train on some of the people, drawn by the seed.

    Raises
    ------
    InputError
        If there are not as many.
    """
    people = {(span.study, span.subject) for span, side in sides.items() if side == "train"}
    if count > len(people):
        raise InputError(f"{count} people to train on, and the training side has {len(people)}")
    drawn = sorted(people, key=lambda one: (_place(seed, "/".join(one)), one))[:count]
    return {
        span: side
        for span, side in sides.items()
        if side != "train" or (span.study, span.subject) in drawn
    }


def _pieces(run: PreparedRun, span: Span, length: int, lag: float) -> list[_Piece]:
    whole = windows(run, span, length=max(run.rows, 1), lag=lag)
    if not whole:
        return []
    n = whole[0].n
    ends = [*range(length, n, length), n]
    begin = run.origin + whole[0].first - lag
    seconds = [begin + end for end in ends[:-1]] + [span.end]
    return [
        _Piece(span, end - start, second)
        for start, end, second in zip([0, *ends], ends, seconds, strict=False)
    ]


def _in_turns(queues: Mapping[str, list[_Piece]], seed: int) -> Iterable[tuple[str, _Piece]]:
    """Pieces of all people, the next one being that of the person with the least so far."""
    waiting = [(0, _place(seed, person), person, 0) for person in queues]
    heapq.heapify(waiting)
    while waiting:
        rows, place, person, number = heapq.heappop(waiting)
        piece = queues[person][number]
        yield person, piece
        if number + 1 < len(queues[person]):
            heapq.heappush(waiting, (rows + piece.rows, place, person, number + 1))


def _place(seed: int, name: str) -> bytes:
    """Where a name comes in the order of a seed, whatever other names there are."""
    return hashlib.sha256(f"{seed}\0{name}".encode()).digest()
