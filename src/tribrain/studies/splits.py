"""Splits into training, validation and test that no film, story or repeated stimulus crosses.

What must stay together is a group (`tribrain.studies.groups`). What is left apart is drawn by a
checksum of the seed and the group's name alone, so that a new run, study or film moves no other;
new data that shows two groups to be one is the exception, as one of them must follow.

The price: a fraction is met on average, as every group is as likely as its fraction to fall on a
side, however long it is. With many groups that is near; with few it is not, and then it is said,
with a seed that comes nearer. Groups can be named instead.

Where groups follow each other in a run, the BOLD answers to both for a while; the seconds around
such a change are on no side (`spans`).

Seconds count, not what a feature remembers: where two halves of one film are groups of their own,
the words before a window, for instance, may come from the other half. Such halves belong in one
group.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING

from tribrain.brain.haemodynamics import LAG
from tribrain.errors import InputError, InputWarning
from tribrain.studies.groups import (
    GAP,
    SAME_TIME,
    Recorded,
    Span,
    measured,
    merged_groups,
    spans,
    unused,
)

if TYPE_CHECKING:
    import pandas as pd

SIDES = ("train", "validation", "test", "held_out_seen", "held_out_unseen")
"""The last two are of people who are held out: with stimuli that others are trained on, and with
stimuli that nobody is."""
ON_NO_SIDE = "on_no_side"
"""Name of the row in which `describe` puts what was shown and is in no span."""
FRACTIONS: Mapping[str, float] = MappingProxyType({"validation": 0.1})
_LOST = 0.05
"""Share of the time shown from which on it is said that it is on no side."""
_SEEDS = 100
"""Seeds that are tried for a better one to propose."""


def split(
    runs: Sequence[Recorded],
    fractions: Mapping[str, float] = FRACTIONS,
    *,
    seed: int = 0,
    validation_groups: Collection[str] = (),
    test_groups: Collection[str] = (),
    held_out_subjects: Collection[str] = (),
    lag: float = LAG,
    gap: float = GAP,
) -> dict[Span, str]:
    """Part runs into training, validation and test.

    Parameters
    ----------
    runs : sequence of Run or PreparedRun
        Of any number of studies.
    fractions : mapping of {"validation", "test"} to float
        Share of the time that is drawn for a side; the rest is trained on.
    seed : int
    validation_groups, test_groups : collection of str
        Groups that are put on a side by name, with all that is one with them. Fractions are of
        the others.
    held_out_subjects : collection of str
        People who are never trained on: ``subject``, or ``study/subject`` where several studies
        have one of that name. What they saw is "held_out_seen" where others are trained on it (a
        new person, a known film), else "held_out_unseen" (both are new).
    lag, gap : float
        As of `spans`.

    Returns
    -------
    dict of Span to str
        One of `SIDES` for every span, in the order of studies, runs and time. Rest is on no side,
        nor is what `spans` leaves out between groups.

    Raises
    ------
    InputError
        If a side would be empty, a fraction cannot be met, a name is unknown, or nothing is left.

    Warns
    -----
    InputWarning
        If a side holds less than half, or more than one and a half, of the share asked for; if
        more than a twentieth of the time shown is on no side; if stretches of one run, which was
        cleaned as a whole, are on two sides.
    """
    _check_fractions(fractions)
    fractions = {side: share for side, share in fractions.items() if share}
    _check_names(runs)
    groups = merged_groups(runs)
    held_out = _people(runs, held_out_subjects)
    found = [spans(run, groups, lag, gap) for run in runs]
    every = sorted(span for some in found for span in some)
    if not any(run.shown for run in runs):
        raise InputError("nothing is shown in these runs; there is nothing to split")
    lost = _told_of_lost(runs, found, lag, gap)
    if not every:
        raise InputError(f"nothing is left to split: {lost or 'what is shown has no length'}")
    named = _named(groups, {"validation": validation_groups, "test": test_groups})
    own = [span for span in every if (span.study, span.subject) not in held_out]
    drawn: dict[str, float] = defaultdict(float)  # hours of each group that no one named
    for span in own:
        if span.group not in named:
            drawn[span.group] += span.hours
    if fractions and len(drawn) < 1 + len(fractions):
        raise InputError(
            f"{', '.join(['train', *fractions])} need a group each, and there is "
            f"{_listed(drawn) or 'none'} to draw from (groups that share seconds of a stimulus or "
            "are shown together are one)"
        )
    sides = named | {group: _drawn_side(group, fractions, seed) for group in drawn}
    wanted = {"train", *fractions, *named.values()}
    missing = sorted(wanted - {sides[span.group] for span in own})
    if missing:
        raise InputError(
            f"{' and '.join(missing)} would be empty with seed {seed} and {len(drawn)} groups"
            f"{_better(drawn, fractions)}; or name groups: {_listed(groups.values())}"
        )
    _warn_if_far(drawn, fractions, seed)
    trained = {span.group for span in own if sides[span.group] == "train"}
    result = {}
    for span in every:
        if (span.study, span.subject) in held_out:
            result[span] = "held_out_seen" if span.group in trained else "held_out_unseen"
        else:
            result[span] = sides[span.group]
    if lost:
        warnings.warn(lost, InputWarning, stacklevel=2)
    _warn_if_runs_are_parted(result)
    return result


def describe(
    split: Mapping[Span, str], runs: Iterable[Recorded] = (), lag: float = LAG
) -> pd.DataFrame:
    """What fell where.

    Parameters
    ----------
    split : mapping of Span to str
        As `split` gives it.
    runs : iterable of Run or PreparedRun, optional
        Those that were split. Of prepared ones the hours are those for which there is a row of
        BOLD; otherwise they are those of the spans, whether it was measured or not.
    lag : float
        Seconds by which the BOLD is read late.

    Returns
    -------
    DataFrame
        A row a side, in the order of `SIDES`: ``hours``, ``share`` of the hours of all sides,
        ``people``, ``runs``, and ``groups`` (a count) with their ``names``. With `runs`, the
        last row, `ON_NO_SIDE`, holds what was shown and is in no span, if there is any.
    """
    import pandas as pd

    known = {(run.study, run.name): run for run in runs}
    in_rows = {key: measured(run, lag) for key, run in known.items()}

    def hours_of(span: Span) -> float:
        begin, end = in_rows.get((span.study, span.run), (-math.inf, math.inf))
        return max(min(span.end, end) - max(span.begin, begin), 0.0) / 3600

    rows: dict[str, dict[str, object]] = {}
    total = sum(map(hours_of, split)) or math.nan
    for side in SIDES:
        found = [span for span, where in split.items() if where == side]
        if found:
            names = sorted({span.group for span in found})
            hours = sum(map(hours_of, found))
            rows[side] = {
                "hours": hours,
                "share": hours / total,
                "people": len({(span.study, span.subject) for span in found}),
                "runs": len({(span.study, span.run) for span in found}),
                "groups": len(names),
                "names": ", ".join(names),
            }
    spans_of: dict[tuple[str, str], list[Span]] = defaultdict(list)
    for span in split:
        spans_of[span.study, span.run].append(span)
    lost = {key: unused(run, spans_of[key], lag)[1] / 3600 for key, run in known.items()}
    losing = [run for key, run in known.items() if lost[key] * 3600 > SAME_TIME]
    if losing:
        rows[ON_NO_SIDE] = {
            "hours": sum(lost.values()),
            "share": math.nan,
            "people": len({(run.study, run.subject) for run in losing}),
            "runs": len(losing),
            "groups": 0,
            "names": "",
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("side")


def _told_of_lost(
    runs: Sequence[Recorded], found: Sequence[Sequence[Span]], lag: float, gap: float
) -> str:
    """What is said of the time that is on no side; nothing where that is little."""
    parts = [unused(run, some, lag) for run, some in zip(runs, found, strict=True)]
    total, lost = (sum(column) for column in zip(*parts, strict=True))
    if lost <= _LOST * total:
        return ""
    return (
        f"{100 * lost / total:.3g} % of the time shown ({lost / 3600:.3g} of {total / 3600:.3g} h) "
        f"is on no side: where one group follows another in a run, the last {lag:g} s of the one "
        f"and the first {gap:g} s of the other have BOLD of both; wider groups keep more (BIDS: "
        "--set group_column or group_pattern)"
    )


def _warn_if_runs_are_parted(parts: Mapping[Span, str]) -> None:
    """Say that what was cleaned as a whole is on two sides, one of them that of training."""
    sides: dict[tuple[str, str], set[str]] = defaultdict(set)
    for span, side in parts.items():
        sides[span.study, span.run].add(side)
    parted = ["/".join(run) for run, found in sides.items() if {"train"} < found]
    if parted:
        warnings.warn(
            f"{len(parted)} of {len(sides)} runs have stretches in training and on another side, "
            f"as {parted[0]}: each was cleaned as a whole (mean, scale, trend), so that a little "
            "of one is in the other; data.standardise = true z-scores each stretch on its own, "
            "and wider groups keep a run whole",
            InputWarning,
            stacklevel=3,
        )


def _drawn_side(group: str, fractions: Mapping[str, float], seed: int) -> str:
    """The side of a group: of nothing else but its name and the seed."""
    digest = hashlib.sha256(f"{seed}\0{group}".encode()).digest()
    place = int.from_bytes(digest[:8]) / 2**64
    for side in ("validation", "test"):
        place -= fractions.get(side, 0.0)
        if place < 0:
            return side
    return "train"


def _shares(
    hours: Mapping[str, float], fractions: Mapping[str, float], seed: int
) -> dict[str, float]:
    """Share of the time that a seed gives to each side."""
    shares = dict.fromkeys(("train", *fractions), 0.0)
    for group, length in hours.items():
        shares[_drawn_side(group, fractions, seed)] += length / sum(hours.values())
    return shares


def _better(hours: Mapping[str, float], fractions: Mapping[str, float]) -> str:
    """Propose the seed that comes nearest to the fractions, if one fills every side."""
    best, least = "", math.inf
    for seed in range(_SEEDS):
        shares = _shares(hours, fractions, seed)
        off = sum(abs(shares[side] - fractions[side]) for side in fractions)
        if off < least and all(shares[side] for side in ("train", *fractions)):
            told = ", ".join(f"{100 * shares[side]:.2g} % {side}" for side in fractions)
            best, least = f"; seed {seed} gives {told}", off
    return best


def _warn_if_far(hours: Mapping[str, float], fractions: Mapping[str, float], seed: int) -> None:
    shares = _shares(hours, fractions, seed)
    far = [side for side, share in fractions.items() if abs(shares[side] - share) > share / 2]
    if far:
        told = ", ".join(
            f"{100 * shares[side]:.2g} % is {side} where {100 * fractions[side]:.2g} % was asked"
            for side in far
        )
        warnings.warn(
            f"{told}, as {len(hours)} groups fall as they do{_better(hours, fractions)}",
            InputWarning,
            stacklevel=3,
        )


def _check_fractions(fractions: Mapping[str, float]) -> None:
    for side, share in fractions.items():
        if side not in ("validation", "test"):
            raise InputError(f"fraction of {side!r}: validation and test fit")
        if not 0 <= share < 1:
            raise InputError(f"fraction {share!r} of {side}: from 0 to below 1 fits")
    if sum(fractions.values()) >= 1:
        raise InputError("the fractions leave nothing to train on; less than 1 in all fits")


def _check_names(runs: Sequence[Recorded]) -> None:
    names = sorted((run.study, run.name) for run in runs)
    for one, other in pairwise(names):
        if one == other:
            raise InputError(f"run {'/'.join(one)} is there twice")


def _named(groups: Mapping[str, str], asked: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Sides of the groups that are put there by name, by the name of all that is one with them."""
    sides: dict[str, str] = {}
    for side, names in asked.items():
        for name in names:
            if name not in groups:
                raise InputError(f"{side} group {name!r} is unknown; known: {_listed(groups)}")
            if sides.setdefault(groups[name], side) != side:
                one = [other for other in groups if groups[other] == groups[name]]
                raise InputError(
                    f"{side} group {name!r} is also in {sides[groups[name]]}; one: {_listed(one)}"
                )
    return sides


def _people(runs: Sequence[Recorded], names: Collection[str]) -> set[tuple[str, str]]:
    """(study, subject) of the people that are named."""
    if isinstance(names, str):
        raise InputError(f"held-out subjects {names!r}: a list of names fits")
    known = sorted({(run.study, run.subject) for run in runs})
    found = set()
    for name in names:
        fitting = [one for one in known if name in (one[1], "/".join(one))]
        told = _listed("/".join(one) for one in fitting or known)
        if not fitting:
            raise InputError(f"held-out subject {name!r} is unknown; known: {told}")
        if len(fitting) > 1:
            raise InputError(f"held-out subject {name!r} is in several studies; say which: {told}")
        found.add(fitting[0])
    return found


def _listed(names: Iterable[str], most: int = 10) -> str:
    names = sorted(set(names))
    return ", ".join(names[:most]) + (f", ... ({len(names)} in all)" if len(names) > most else "")
