"""What is known of new people: which of their minutes are adapted to, and which are held out."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tribrain.encoder.checkpoints import ModelCard
from tribrain.encoder.network import Encoder
from tribrain.errors import InputError, InputWarning
from tribrain.studies.groups import Span
from tribrain.studies.prepared import PreparedStudy
from tribrain.studies.splits import split
from tribrain.training.adapt_ridge import left_out
from tribrain.training.data import Stretch, TrainingData
from tribrain.training.series import Series, stimulus_series

LEAST = 60
"""Rows (seconds) of a person that can be adapted to."""
_BATCH = 16
_APART = 100_000
"""Seconds from stimulus to stimulus, and from run to run, so that no gap reaches over."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Seconds of people, as the head reads them.

    Attributes
    ----------
    states : ndarray (n, R), float32
    measured : ndarray (n, V), float32
        NaN where nothing was measured.
    positions : ndarray (n,) of int
        Second of what was shown, all stimuli of the data one after the other.
    clock : ndarray (n,)
        Second of the recording, all runs of all people one after the other.
    people : ndarray (n,) of int
        Row of the head.
    """

    states: np.ndarray
    measured: np.ndarray
    positions: np.ndarray
    clock: np.ndarray
    people: np.ndarray

    def of(self, person: int) -> Rows:
        """Those of a person."""
        return self.where(self.people == person)

    def where(self, chosen: np.ndarray) -> Rows:
        """Some of them: a view where they are one after the other."""
        found = np.flatnonzero(chosen)
        part: Any = found
        if len(found) and found[-1] - found[0] == len(found) - 1:
            part = slice(found[0], found[-1] + 1)
        return Rows(*(getattr(self, field.name)[part] for field in dataclasses.fields(self)))


def find_people(study: PreparedStudy, names: Sequence[str]) -> list[str]:
    """People of a study by name: ``subject``, ``sub-subject`` or ``study/subject``."""
    there = list(dict.fromkeys(run.subject for run in study.runs))
    found = []
    for name in names:
        plain = name.removeprefix(f"{study.name}/").removeprefix("sub-")
        if plain not in there:
            known = ", ".join(there)
            raise InputError(f"subject {name!r} is not in {study.name}; there are {known}")
        found.append(plain)
    if not found:
        raise InputError("no subject is named; one or more fit")
    return list(dict.fromkeys(found))


def adaptation_data(
    card: ModelCard,
    encoder: Encoder,
    study: PreparedStudy,
    people: Sequence[str],
    *,
    extract: Callable[[Any], Series],
    minutes: float | None = None,
    test: float = 0.0,
    step: int | None = None,
    standardise: bool = False,
) -> TrainingData:
    """Windows of new people: sides "train" and, if a share is held out, "test".

    Parameters
    ----------
    card, encoder : ModelCard, Encoder
        The model that is adapted.
    study : PreparedStudy
    people : sequence of str
        As `find_people` gives them.
    extract : callable
        From a stimulus to its features.
    minutes : float, optional
        Of each person that are adapted to, the first in the order of the runs; by default all.
    test : float
        Share of the time that is held out: the last groups of stimuli, of all people alike.
    step : int, optional
        Seconds from one window to the next in training; by default the length of a window.
    standardise : bool
        z-score the BOLD over the rows of each span that are used.

    Raises
    ------
    InputError
        Features of another shape than the model reads; too few minutes; nothing to hold out.
    """
    kept = dataclasses.replace(study, runs=tuple(r for r in study.runs if r.subject in people))
    order = {run.name: number for number, run in enumerate(kept.runs)}
    found = split(kept.runs, {}, lag=card.lag)
    sides = {span: found[span] for span in sorted(found, key=lambda s: (order[s.run], s.begin))}
    if test:
        held = _last_groups(list(sides), test)
        sides = {span: "test" if span.group in held else side for span, side in sides.items()}
    if minutes is not None:
        if not 0 < minutes < math.inf:
            raise InputError(f"minutes is {minutes:g}; more than 0 fit")
        sides = _first_seconds(sides, minutes * 60)
    data = TrainingData(
        [kept],
        sides,
        _readable(stimulus_series([kept], extract), encoder),
        {f"{study.name}/{person}": row for row, person in enumerate(people)},
        frequency=card.recipe.frequency,
        length=encoder.n_output_samples,
        step=step or encoder.n_output_samples,
        lag=card.lag,
        standardise=standardise,
    )
    for row, person in enumerate(people):
        rows = sum(one.stop - one.first for one in data.side("train") if one.row == row)
        if rows < LEAST:
            raise InputError(
                f"{person} has {rows} s of BOLD to adapt to; {LEAST} s or more fit (it is read "
                f"{card.lag:g} s late)"
            )
    return data


def with_sides(data: TrainingData, sides: Mapping[Span, str]) -> TrainingData:
    """The same data, otherwise split."""
    return TrainingData(
        data.studies,
        sides,
        data.series,
        data.subjects,
        frequency=data.frequency,
        length=data.length,
        step=data.step,
        lag=data.lag,
        standardise=data.standardise,
    )


def _last_groups(spans: Sequence[Span], share: float) -> set[str]:
    """The groups shown last, up to a share of the time."""
    if not 0 < share < 1:
        raise InputError(f"a test of {share:g}; a share over 0 and under 1 fits")
    hours: dict[str, float] = {}
    for span in spans:
        hours[span.group] = hours.get(span.group, 0.0) + span.hours
    if len(hours) < 2:
        raise InputError(
            f"all that was shown is one group ({next(iter(hours))}), of which no part can be held "
            "out; adapt without a test (the score is then cross-validated over blocks of time)"
        )
    wanted, found = share * sum(hours.values()), 0.0
    held: set[str] = set()
    for group in reversed(hours):
        # The group that comes nearest is the last that is taken; one stays to adapt to.
        if len(held) == len(hours) - 1 or (held and found + hours[group] / 2 > wanted):
            break
        held.add(group)
        found += hours[group]
    return held


def _first_seconds(sides: dict[Span, str], seconds: float) -> dict[Span, str]:
    """Spans of training that hold the first seconds of each person; others as they are."""
    left: dict[str, float] = {}
    found = {}
    for span, side in sides.items():
        if side == "train":
            there = left.setdefault(span.subject, seconds)
            length = min(span.end - span.begin, there)
            left[span.subject] = there - length
            if length <= 0:
                continue
            span = dataclasses.replace(span, end=span.begin + length)
        found[span] = side
    return found


def _readable(series: dict[str, Series], encoder: Encoder) -> dict[str, Series]:
    """Features that the encoder reads; others are left out, and said."""
    unread: set[str] = set()
    found = {}
    for content, one in series.items():
        for name, values in one.values.items():
            dims = encoder.feature_dims.get(name)
            if dims is None:
                unread.add(name)
            elif tuple(values.shape[:2]) != tuple(dims):
                raise InputError(
                    f"features of {name} have (layers, dimensions) {values.shape[:2]}; the model "
                    f"reads {tuple(dims)}"
                )
        read = {name: values for name, values in one.values.items() if name not in unread}
        if not read:
            raise InputError(
                f"the study has features of {', '.join(one.values)}; the model reads "
                f"{', '.join(encoder.projectors)}"
            )
        found[content] = Series(read, one.rate)
    if unread:
        warnings.warn(
            f"the model does not read {', '.join(sorted(unread))}", InputWarning, stacklevel=3
        )
    return found


def read_rows(
    encoder: Encoder, data: TrainingData, stretches: Sequence[Stretch], device: str = "cpu"
) -> Rows:
    """States of the encoder and BOLD of every row of stretches, window after window."""
    encoder.eval()
    chosen = data.cover(stretches)
    count = sum(min(data.length, stretch.stop - row) for stretch, row in chosen)
    timeline = _Timeline(data)
    states = measured = np.empty((0, 0), np.float32)
    positions, people = np.empty(count, int), np.empty(count, int)
    clock, begin = np.empty(count), 0
    for first in range(0, len(chosen), _BATCH):
        part = chosen[first : first + _BATCH]
        batch = data.batch(part).to(device)
        with torch.inference_mode():
            read = encoder.states(batch.features, batch.present).float().cpu().numpy()
        targets = batch.targets.cpu().numpy()
        if not begin:
            states, measured = (
                np.empty((count, one.shape[-1]), np.float32) for one in (read, targets)
            )
        for (stretch, row), one, values in zip(part, read, targets, strict=True):
            n = min(data.length, stretch.stop - row)
            here = slice(begin, begin + n)
            states[here], measured[here], people[here] = one[:n], values[:n], stretch.row
            positions[here], clock[here] = timeline.of(stretch, row, n)
            begin += n
    return Rows(states, measured, positions, clock, people)


class _Timeline:
    """Numbers the seconds of what was shown, and those of the recordings."""

    def __init__(self, data: TrainingData) -> None:
        self._lag = data.lag
        self._contents: dict[str, int] = {}
        self._runs: dict[tuple[int, str], int] = {}

    def of(self, stretch: Stretch, first: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Second of the content that each row answers to, and of the recording."""
        run, span = stretch.run, stretch.span
        clock = run.origin + first + np.arange(n)
        shown = [one for one in run.shown if one.onset < span.end and one.end > span.begin]
        onsets = np.array([one.onset for one in shown])
        found = np.empty(n, int)
        for row, second in enumerate(clock - self._lag):
            one = shown[max(int(np.searchsorted(onsets, second + 1e-6, "right")) - 1, 0)]
            place = self._contents.setdefault(one.source.content(), len(self._contents))
            found[row] = _APART * place + math.floor(one.start + second - one.onset + 1e-6)
        number = self._runs.setdefault((stretch.study, run.name), len(self._runs))
        return found, _APART * number + clock


def last_share(data: TrainingData, share: float) -> dict[Span, str]:
    """Part the side "train": the last share of each person's time is for validation.

    Seconds of a stimulus that one person is validated on are validation for all: where all were
    shown the same, those that the first person was shown last. What is within `GAP` seconds of them
    (`tribrain.training.adapt_ridge.left_out`) is on neither side.
    """
    stretches = data.side("train")
    timeline = _Timeline(data)
    moments = [timeline.of(one, one.first, one.stop - one.first) for one in stretches]
    held = np.empty(0, int)
    for person in dict.fromkeys(one.span.subject for one in stretches):
        seen = [
            moment[0]
            for one, moment in zip(stretches, moments, strict=True)
            if one.span.subject == person
        ]
        shown = np.concatenate(seen)
        open_ = shown[~np.isin(shown, held)]
        wanted = share * len(shown) - (len(shown) - len(open_))
        seconds, first, count = np.unique(open_, return_index=True, return_counts=True)
        last = np.argsort(-first)
        taken = np.cumsum(count[last]) - count[last] / 2 <= wanted
        held = np.concatenate([held, seconds[last][taken]])
    positions, clock = (np.concatenate(parts) for parts in zip(*moments, strict=True))
    train, test = left_out(positions, clock, held)
    sides: dict[Span, str] = {}
    begin = 0
    for one, (_, own) in zip(stretches, moments, strict=True):
        here = slice(begin, begin + len(own))
        begin += len(own)
        for side, rows in (("train", train[here]), ("validation", test[here])):
            sides |= dict.fromkeys(_spans_of(one, rows, data.lag), side)
    return sides


def _spans_of(stretch: Stretch, rows: np.ndarray, lag: float) -> list[Span]:
    """The parts of a stretch that hold some of its rows."""
    span, found = stretch.span, []
    zero = stretch.run.origin + stretch.first - lag  # second of the run that is shown at row 0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], rows, [False]]).astype(int)))
    for begin, end in edges.reshape(-1, 2):
        found.append(
            dataclasses.replace(
                span,
                begin=zero + float(begin) if begin else span.begin,
                end=zero + float(end) if end < len(rows) else span.end,
            )
        )
    return found
