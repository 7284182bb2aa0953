"""Which stimuli must stay together, and the stretches of runs in which one group alone is shown.

Groups of `Shown` are one where the same seconds of the same content are shown under both names (a
repeat, a film under two names, in two studies), where they are shown at the same time, and where
they have the same name, in any study.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tribrain.brain.haemodynamics import LAG
from tribrain.errors import InputError
from tribrain.studies.runs import Shown

GAP = 5.0
"""Seconds at the start of a span that are left out where another group was shown just before. The
BOLD is read `LAG` late, when the response to what came before has not ended: it makes up half of
the variance of the first row then, and a twentieth 3 s later."""
SAME_TIME = 1e-6
_TOGETHER = 1.0
"""Seconds: stimuli that overlap for longer, or for half of the shorter one, are shown together. A
shorter overlap, as of rounded durations, is left out of both."""


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
        is measured before anything of another group begins, and no sooner than ``lag + gap``
        seconds after it ended.
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

    Raises
    ------
    InputError
        If a time of what is shown is no number.
    """
    names: set[str] = set()
    same: list[tuple[str, str]] = []
    played: dict[str, set[tuple[int, int, str]]] = defaultdict(set)
    contents: dict[int, str] = {}
    sources = []  # kept, so that no other one gets the id of one that is gone
    for run in runs:
        names |= {shown.group for shown in run.shown}
        for shown in run.shown:
            if not math.isfinite(shown.onset + shown.start + shown.duration):
                raise InputError(
                    f"{run.study}/{run.name}: {shown.group} has onset {shown.onset!r}, start "
                    f"{shown.start!r} and duration {shown.duration!r}; seconds fit"
                )
            if id(shown.source) not in contents:
                contents[id(shown.source)] = shown.source.content()
                sources.append(shown.source)
            first = math.floor(shown.start + SAME_TIME)
            last = math.ceil(shown.start + shown.duration - SAME_TIME)
            played[contents[id(shown.source)]].add((first, last, shown.group))
        same += _at_once(run.shown)
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
        running = [other for other in running if other.end > one.onset + SAME_TIME]
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
    run: Recorded, groups: Mapping[str, str] | None = None, lag: float = LAG, gap: float = GAP
) -> tuple[Span, ...]:
    """Cut a run between the groups that it shows.

    A span lasts from the first onset of a group to the end of the last stimulus before another
    group begins, the rest between its stimuli included. It ends earlier where the BOLD, read `lag`
    seconds late, would be measured while the next group is shown already, and begins later where
    another group ended less than `gap` seconds before, as the BOLD still answers to that one.

    Parameters
    ----------
    run : Run or PreparedRun
    groups : mapping of str to str, optional
        Names of the groups that are one, as `merged_groups` finds them in all runs; by default
        from this run alone.
    lag : float
        Seconds by which the BOLD is read late.
    gap : float
        Seconds after the end of another group that are left out, besides the lag; at a start
        after as long a rest nothing is.

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
            end + gap
            for end, other in zip(ends[:number], stretches, strict=False)
            if labels[other[0].group] != label
        ]
        begin = max([onsets[number], *before])
        end = min([ends[number], *(onset - lag for onset in onsets[number + 1 : number + 2])])
        if end > begin:
            found.append(Span(run.study, run.name, run.subject, begin, end, label))
    return tuple(found)


def measured(run: Recorded, lag: float) -> tuple[float, float]:
    """Seconds of a run whose BOLD is in a row; all, of a run that is not prepared."""
    rows, origin = getattr(run, "rows", None), getattr(run, "origin", None)
    if rows is None or origin is None:
        return -math.inf, math.inf
    return origin - lag, origin - lag + rows


def unused(run: Recorded, found: Iterable[Span], lag: float) -> tuple[float, float]:
    """Seconds in which a run shows something, and those of them that are in no span."""
    low, high = measured(run, lag)
    shown = _union((max(one.onset, low), min(one.end, high)) for one in run.shown)
    used = sum(
        max(min(end, span.end) - max(begin, span.begin), 0.0)
        for span in found
        for begin, end in shown
    )
    total = sum(end - begin for begin, end in shown)
    return total, max(total - used, 0.0)


def _union(intervals: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Intervals as few that do not overlap."""
    joined: list[tuple[float, float]] = []
    for begin, end in sorted(intervals):
        if end <= begin:
            continue
        if joined and begin <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((begin, end))
    return joined
