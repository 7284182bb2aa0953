"""Splits into training, validation and test that no film, story or repeated stimulus crosses.

What must stay together is a *group* of `Shown`. Groups are one where the same seconds of the same
content are shown under both names (a repeat, a film under two names, in two studies), where they
are shown at the same time, and where they have the same name, in any study. What is left apart is
drawn by a checksum of the seed and the group's name alone, so that a new run, study or film moves
no other; new data that shows two groups to be one is the exception, as one of them must follow.

The price: a fraction is met on average, as every group is as likely as its fraction to fall on a
side, however long it is. With many groups that is near; with few it is not, and then it is said,
with a seed that comes nearer. Groups can be named instead.

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
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from tribrain.brain.haemodynamics import LAG
from tribrain.errors import InputError, InputWarning
from tribrain.studies.runs import Shown

if TYPE_CHECKING:
    import pandas as pd

SIDES = ("train", "validation", "test", "held_out_seen", "held_out_unseen")
"""The last two are of people who are held out: with stimuli that others are trained on, and with
stimuli that nobody is."""
FRACTIONS: Mapping[str, float] = MappingProxyType({"validation": 0.1})
_SAME_TIME = 1e-6
_TOGETHER = 1.0
"""Seconds: stimuli that overlap for longer, or for half of the shorter one, are shown together. A
shorter overlap, as of rounded durations, is left out of both."""
_SEEDS = 100
"""Seeds that are tried for a better one to propose."""


class Recorded(Protocol):
    """A run, before (`tribrain.studies.runs.Run`) or after preparation (`PreparedRun`)."""

    @property
    def study(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def shown(self) -> tuple[Shown, ...]: ...


@dataclass(frozen=True, order=True)
class Span:
    """A stretch of a run in which stimuli of one group alone are shown.

    Attributes
    ----------
    study, run, subject : str
        Of the run.
    begin, end : float
        Seconds of the run, of what is shown. The BOLD that goes with them, `lag` seconds later,
        is measured before anything of another group begins.
    group : str
    """

    study: str
    run: str
    subject: str
    begin: float
    end: float
    group: str

    @property
    def hours(self) -> float:
        return (self.end - self.begin) / 3600


def merged_groups(runs: Iterable[Recorded]) -> dict[str, str]:
    """Which groups are one.

    Parameters
    ----------
    runs : iterable of Run or PreparedRun

    Returns
    -------
    dict of str to str
        For every group the first name, in the order of the alphabet, of all that are one with it.
    """
    names: set[str] = set()
    same: list[tuple[str, str]] = []
    played: dict[str, set[tuple[int, int, str]]] = defaultdict(set)
    contents: dict[int, str] = {}
    sources = []  # kept, so that no other one gets the id of one that is gone
    for run in runs:
        names |= {shown.group for shown in run.shown}
        same += _at_once(run.shown)
        for shown in run.shown:
            if id(shown.source) not in contents:
                contents[id(shown.source)] = shown.source.content()
                sources.append(shown.source)
            first = math.floor(shown.start + _SAME_TIME)
            last = math.ceil(shown.start + shown.duration - _SAME_TIME)
            played[contents[id(shown.source)]].add((first, last, shown.group))
    for pieces in played.values():
        until, holder = -math.inf, ""
        for first, last, group in sorted(pieces):
            if first < until:
                same.append((holder, group))
            if last > until:
                until, holder = last, group
    return _joined(names, same)


def _at_once(shown: Sequence[Shown]) -> list[tuple[str, str]]:
    """Pairs of groups that a run shows at the same time."""
    pairs: list[tuple[str, str]] = []
    running: list[Shown] = []
    for one in shown:
        running = [other for other in running if other.end > one.onset + _SAME_TIME]
        for other in running:
            overlap = min(other.end, one.end) - one.onset
            if overlap > min(_TOGETHER, other.duration / 2, one.duration / 2):
                pairs.append((other.group, one.group))
        running.append(one)
    return pairs


def _joined(names: Iterable[str], same: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The first name of each set of names that pairs connect (union-find)."""
    parent = {name: name for name in names}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for pair in same:
        first, second = sorted(map(root, pair))
        parent[second] = first
    return {name: root(name) for name in sorted(parent)}


def spans(
    run: Recorded, groups: Mapping[str, str] | None = None, lag: float = LAG
) -> tuple[Span, ...]:
    """Cut a run between the groups that it shows.

    A span lasts from the first onset of a group to the end of the last stimulus before another
    group begins, the rest between its stimuli included; it ends earlier where the BOLD, read `lag`
    seconds late, would be measured while the next group is shown already.

    Parameters
    ----------
    run : Run or PreparedRun
    groups : mapping of str to str, optional
        Names of the groups that are one, as `merged_groups` finds them in all runs; by default
        from this run alone.
    lag : float
        Seconds by which the BOLD is read late.

    Returns
    -------
    tuple of Span
        In order; none for a run of rest, or where stimuli of other groups leave nothing.
    """
    labels = merged_groups([run]) if groups is None else groups
    stretches: list[list[Shown]] = []
    for shown in run.shown:
        if stretches and labels[stretches[-1][0].group] == labels[shown.group]:
            stretches[-1].append(shown)
        else:
            stretches.append([shown])
    ends = [max(shown.end for shown in stretch) for stretch in stretches]
    onsets = [stretch[0].onset for stretch in stretches]
    found = []
    for number, stretch in enumerate(stretches):
        label = labels[stretch[0].group]
        before = [
            end
            for end, other in zip(ends[:number], stretches, strict=False)
            if labels[other[0].group] != label
        ]
        begin = max([onsets[number], *before])
        end = min([ends[number], *(onset - lag for onset in onsets[number + 1 : number + 2])])
        if end > begin:
            found.append(Span(run.study, run.name, run.subject, begin, end, label))
    return tuple(found)


def split(
    runs: Sequence[Recorded],
    fractions: Mapping[str, float] = FRACTIONS,
    *,
    seed: int = 0,
    validation_groups: Collection[str] = (),
    test_groups: Collection[str] = (),
    held_out_subjects: Collection[str] = (),
    lag: float = LAG,
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
    lag : float
        As of `spans`.

    Returns
    -------
    dict of Span to str
        One of `SIDES` for every span, in the order of studies, runs and time. Rest is on no side.

    Raises
    ------
    InputError
        If a side would be empty, a fraction cannot be met, or a name is unknown.

    Warns
    -----
    InputWarning
        If a side holds less than half, or more than one and a half, of the share asked for.
    """
    _check_fractions(fractions)
    fractions = {side: share for side, share in fractions.items() if share}
    _check_names(runs)
    groups = merged_groups(runs)
    held_out = _people(runs, held_out_subjects)
    every = sorted(span for run in runs for span in spans(run, groups, lag))
    if not every:
        raise InputError("nothing is shown in these runs; there is nothing to split")
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
    return result


def describe(split: Mapping[Span, str]) -> pd.DataFrame:
    """What fell where.

    Returns
    -------
    DataFrame
        A row a side, in the order of `SIDES`: ``hours`` of spans, ``share`` of all hours,
        ``people``, ``runs``, and ``groups`` (a count) with their ``names``.
    """
    import pandas as pd

    rows = {}
    total = sum(span.hours for span in split)
    for side in SIDES:
        found = [span for span, where in split.items() if where == side]
        if found:
            names = sorted({span.group for span in found})
            hours = sum(span.hours for span in found)
            rows[side] = {
                "hours": hours,
                "share": hours / total,
                "people": len({(span.study, span.subject) for span in found}),
                "runs": len({(span.study, span.run) for span in found}),
                "groups": len(names),
                "names": ", ".join(names),
            }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("side")


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
