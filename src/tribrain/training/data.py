"""Windows of prepared studies, as the encoder reads them.

A window is `length` seconds of a run in which one group of stimuli was shown: feature series over
it, and the BOLD `lag` seconds later. Nothing of another group is in it: what lies outside its span
is zero in the features and NaN in the BOLD.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tribrain.brain.haemodynamics import LAG
from tribrain.brain.spaces import Space
from tribrain.errors import InputError, InputWarning
from tribrain.studies.groups import Span
from tribrain.studies.prepared import PreparedRun, PreparedStudy, windows
from tribrain.training.series import Series

_NEAR = 1e-6
_SLACK = 10.0
"""Seconds that a stimulus may be shown beyond its features."""


@dataclass(frozen=True)
class Batch:
    """Windows that go through the encoder together.

    Attributes
    ----------
    features : dict of str to Tensor (B, L, D, T)
    targets : Tensor (B, O, V)
        NaN where nothing was measured, or outside the span.
    rows : Tensor (B,), int
        Of the subject head; -1 for people without one, who are read by that of people never seen.
    weights : Tensor (B,)
        Of the loss, as the study of each window has it.
    space : str, optional
        Of the targets; None where all studies have one.
    present : dict of str to Tensor (B,), bool, optional
        Which windows have a modality at all: what they lack counts as missing, as it does when a
        model predicts, and not as features that are 0. None where all have all.
    """

    features: dict[str, Tensor]
    targets: Tensor
    rows: Tensor
    weights: Tensor
    space: str | None = None
    present: dict[str, Tensor] | None = None

    def to(self, device: str) -> Batch:
        features = {name: series.to(device) for name, series in self.features.items()}
        targets, rows, weights = (
            part.to(device) for part in (self.targets, self.rows, self.weights)
        )
        present = self.present and {name: one.to(device) for name, one in self.present.items()}
        return Batch(features, targets, rows, weights, self.space, present)


@dataclass(frozen=True)
class Stretch:
    """A span of a run, with the rows of BOLD that go with it."""

    study: int
    run: PreparedRun
    span: Span
    side: str
    row: int
    first: int
    stop: int


class TrainingData:
    """Windows of studies, each in its space.

    Parameters
    ----------
    studies : sequence of PreparedStudy
    split : mapping of Span to str
        Side of each span (`tribrain.studies.splits.split`).
    series : mapping of str to Series
        Features of each stimulus, by the checksum of its content.
    subjects : mapping of str to int
        Row of the head for each ``study/subject`` that is trained on (`number_rows`); others have
        none and read the row of people never seen.
    frequency : float
        Samples a second that the encoder reads.
    length : int
        Seconds of a window.
    step : int
        Seconds from one window of an epoch to the next.
    lag : float
        Seconds by which the BOLD is read late.
    standardise : bool
        z-score the BOLD over the rows of each span instead of taking it as prepared. Outputs that
        do not vary there are NaN.
    weights : mapping of str to float, optional
        Of studies in the loss, by name; 1 for all others.

    Attributes
    ----------
    stretches : tuple of Stretch
        Every span of the split that has rows of BOLD, in its order.
    dims : dict of str to (int, int)
        Layers and dimensions of each modality that any stimulus has.
    spaces : dict of str to Space
        By name, in the order of the studies.
    n_samples : int
        Feature samples of a window.

    Raises
    ------
    InputError
        If there is no study, two spaces have one name, or a weight is of no study; if a stimulus
        has no features, fewer seconds of them than were shown, or another shape of them than other
        stimuli.

    Warns
    -----
    InputWarning
        If spans have no row of BOLD, or features end up to 10 s before what was shown does.
    """

    def __init__(
        self,
        studies: Sequence[PreparedStudy],
        split: Mapping[Span, str],
        series: Mapping[str, Series],
        subjects: Mapping[str, int],
        *,
        frequency: float = 2.0,
        length: int = 100,
        step: int = 100,
        lag: float = LAG,
        standardise: bool = False,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        if length < 1 or step < 1 or not 0 < frequency < math.inf or not 0 <= lag < math.inf:
            raise InputError(
                f"windows of {length} s every {step} s, {frequency:g} samples a second, read "
                f"{lag:g} s late; 1 s or more, and a positive frequency, fit"
            )
        self.studies = tuple(studies)
        self.series = series
        self.subjects = dict(subjects)
        self.frequency = frequency
        self.length = length
        self.step = step
        self.lag = lag
        self.standardise = standardise
        self.spaces = spaces_of(studies)
        self.weights = dict(weights or {})
        _check_weights(self.weights, studies)
        self.dims = _dims(series)
        self.n_samples = round(frequency * length)
        self._scales: dict[tuple[int, str, int, int], tuple[np.ndarray, np.ndarray]] = {}
        runs = {(s.name, r.name): (n, r) for n, s in enumerate(studies) for r in s.runs}
        found, empty = [], []
        for span, side in split.items():
            if (span.study, span.run) not in runs:
                raise InputError(f"the split names run {span.study}/{span.run}, which is not here")
            stretch = self._stretch(span, side, *runs[span.study, span.run])
            if stretch is None:
                empty.append(f"{span.run} ({span.group})")
            else:
                found.append(stretch)
        self.stretches = tuple(found)
        _say_what_is_left_out(empty)
        _check_lengths(self.stretches, series)

    def _stretch(self, span: Span, side: str, study: int, run: PreparedRun) -> Stretch | None:
        whole = windows(run, span, length=max(run.rows, 1), lag=self.lag)
        if not whole:
            return None
        row = self.subjects.get(f"{span.study}/{span.subject}", -1)
        return Stretch(study, run, span, side, row, whole[0].first, whole[0].first + whole[0].n)

    def side(self, name: str) -> list[Stretch]:
        """Stretches of a side of the split."""
        return [stretch for stretch in self.stretches if stretch.side == name]

    def cover(self, stretches: Iterable[Stretch]) -> list[tuple[Stretch, int]]:
        """Windows that hold every row of stretches once, the last of each stretch cut short."""
        return [
            (stretch, first)
            for stretch in stretches
            for first in range(stretch.first, stretch.stop, self.length)
        ]

    def drawn(
        self, stretches: Iterable[Stretch], random: np.random.Generator
    ) -> list[tuple[Stretch, int]]:
        """Windows of an epoch, in drawn order.

        The rows of a stretch at which a window can start are shared out evenly into parts of
        `step` at most, and each window starts anywhere in its part. So there are as many windows
        in every epoch, as learning rates are planned by the number of steps.
        """
        found = []
        for stretch in stretches:
            starts = max(1, stretch.stop - stretch.first - self.length + 1)
            count = math.ceil(starts / self.step)
            edges = stretch.first + np.arange(count + 1) * starts // count
            found += [(stretch, int(first)) for first in random.integers(edges[:-1], edges[1:])]
        return [found[index] for index in random.permutation(len(found))]

    def batch(self, chosen: Sequence[tuple[Stretch, int]]) -> Batch:
        """Read windows of one space."""
        (space,) = {self.space_of(stretch) for stretch, _ in chosen}
        features = {
            name: torch.zeros(len(chosen), *dims, self.n_samples)
            for name, dims in self.dims.items()
        }
        targets = torch.empty(len(chosen), self.length, self.spaces[space].size)
        for number, (stretch, first) in enumerate(chosen):
            self._fill_features(
                {name: part[number].numpy() for name, part in features.items()}, stretch, first
            )
            self._fill_targets(targets[number].numpy(), stretch, first)
        rows = torch.tensor([stretch.row for stretch, _ in chosen])
        names = [self.studies[stretch.study].name for stretch, _ in chosen]
        weights = torch.tensor([self.weights.get(name, 1.0) for name in names])
        told = space if len(self.spaces) > 1 else None
        return Batch(features, targets, rows, weights, told, self._present(chosen))

    def space_of(self, stretch: Stretch) -> str:
        """Name of the space of a stretch."""
        return self.studies[stretch.study].space.name

    def by_space(self, chosen: Iterable[tuple[Stretch, int]]) -> list[list[tuple[Stretch, int]]]:
        """Windows of each space apart, in their order."""
        found: dict[str, list[tuple[Stretch, int]]] = {}
        for stretch, first in chosen:
            found.setdefault(self.space_of(stretch), []).append((stretch, first))
        return list(found.values())

    def _present(self, chosen: Sequence[tuple[Stretch, int]]) -> dict[str, Tensor] | None:
        has = [self._modalities(stretch) for stretch, _ in chosen]
        if all(len(names) == len(self.dims) for names in has):
            return None
        return {name: torch.tensor([name in names for names in has]) for name in self.dims}

    def _modalities(self, stretch: Stretch) -> frozenset[str]:
        """Modalities of what was shown in a stretch."""
        span = stretch.span
        return frozenset(
            name
            for shown in stretch.run.shown
            if shown.onset < span.end and shown.end > span.begin
            for name in self.series[shown.source.content()].values
        )

    def _fill_targets(self, targets: np.ndarray, stretch: Stretch, first: int) -> None:
        n = min(self.length, stretch.stop - first)
        run = stretch.run
        targets[:n] = self.studies[stretch.study].window(run, first, n, run.dtype)
        targets[n:] = np.nan
        if self.standardise:
            mean, scale = self._scale(stretch)
            targets[:n] -= mean
            targets[:n] /= scale

    def _scale(self, stretch: Stretch) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each output over the rows of a stretch."""
        key = (stretch.study, stretch.run.name, stretch.first, stretch.stop)
        if key not in self._scales:
            n = stretch.stop - stretch.first
            values = self.studies[stretch.study].window(stretch.run, stretch.first, n, np.float64)
            count = np.maximum((~np.isnan(values)).sum(axis=0), 1)
            mean = np.nansum(values, axis=0) / count
            scale = np.sqrt(np.nansum((values - mean) ** 2, axis=0) / count)
            scale[scale <= 1e-9 * np.abs(mean)] = np.nan  # a constant series says nothing
            self._scales[key] = (mean.astype(np.float32), scale.astype(np.float32))
        return self._scales[key]

    def _fill_features(self, result: dict[str, np.ndarray], stretch: Stretch, first: int) -> None:
        """Series (L, D, T) of a window, zero before, from what its run showed within the span.

        Sample k is what was shown k / frequency seconds after the window's first one: that of the
        stimulus's own samples that began last.
        """
        run, span = stretch.run, stretch.span
        begin = run.origin + first - self.lag  # second of the run
        seconds = begin + np.arange(self.n_samples) / self.frequency
        for shown in run.shown:
            start, stop = max(shown.onset, span.begin), min(shown.end, span.end)
            inside = (seconds >= start - _NEAR) & (seconds < stop - _NEAR)
            if not inside.any():
                continue
            series = self.series[shown.source.content()]
            at = np.floor((seconds - shown.onset + shown.start) * series.rate + _NEAR).astype(int)
            for name, values in series.values.items():
                samples = np.flatnonzero(inside & (at >= 0) & (at < values.shape[-1]))
                if not len(samples):
                    continue
                taken = at[samples]
                piece = values[..., taken[0] : taken[-1] + 1]  # a view, which is fast to copy
                if piece.shape[-1] != len(taken):  # another rate
                    piece = piece[..., taken - taken[0]]
                result[name][..., samples[0] : samples[-1] + 1] = piece


def spaces_of(studies: Sequence[PreparedStudy]) -> dict[str, Space]:
    """The spaces of studies by name, in the order of the studies.

    Raises
    ------
    InputError
        If two that differ have one name, or two studies have.
    """
    if not studies:
        raise InputError("no study to train on")
    found: dict[str, Space] = {}
    names = [study.name for study in studies]
    for study in studies:
        if names.count(study.name) > 1:
            raise InputError(f"two studies are called {study.name}; give each a name of its own")
        other = found.setdefault(study.space.name, study.space)
        if other != study.space:
            raise InputError(
                f"two spaces are called {study.space.name} ({other.size} and {study.space.size} "
                f"values, the latter of {study.name}); prepare the studies in one, or name them "
                "apart"
            )
    return found


def number_rows(
    studies: Sequence[PreparedStudy], people: Iterable[str]
) -> tuple[dict[str, int], dict[str, int]]:
    """Number the rows of the head for people (``study/subject``), space after space.

    Returns
    -------
    rows : dict of str to int
        Of each person. After those of a space comes its row of people never seen.
    counts : dict of str to int
        Rows of each space, that one included.
    """
    spaces = {study.name: study.space.name for study in studies}
    by_space: dict[str, list[str]] = {name: [] for name in spaces_of(studies)}
    for person in sorted(people):
        by_space[spaces[person.partition("/")[0]]].append(person)
    rows: dict[str, int] = {}
    first = 0
    for names in by_space.values():
        rows |= {person: first + number for number, person in enumerate(names)}
        first += len(names) + 1
    return rows, {space: len(names) + 1 for space, names in by_space.items()}


def _check_weights(weights: Mapping[str, float], studies: Sequence[PreparedStudy]) -> None:
    known = [study.name for study in studies]
    for name, weight in weights.items():
        if name not in known:
            raise InputError(f"data.weights names study {name!r}; known: {', '.join(known)}")
        if not 0 < weight < math.inf:
            raise InputError(f"data.weights.{name} is {weight!r}; more than 0 fits")


def _dims(series: Mapping[str, Series]) -> dict[str, tuple[int, int]]:
    """Layers and dimensions of each modality that any stimulus has."""
    dims: dict[str, tuple[int, int]] = {}
    for one in series.values():
        for name, values in one.values.items():
            found = (int(values.shape[0]), int(values.shape[1]))
            if dims.setdefault(name, found) != found:
                raise InputError(
                    f"features of {name} have (layers, dimensions) {dims[name]} and {found}; "
                    "one recipe of features gives the same to all stimuli"
                )
    if not dims:
        raise InputError("no stimulus has features")
    return dims


def _check_lengths(stretches: Iterable[Stretch], series: Mapping[str, Series]) -> None:
    """Refuse stimuli without features, or with fewer seconds of them than were shown."""
    short: dict[str, None] = {}  # in order, each once
    for stretch in stretches:
        for shown in stretch.run.shown:
            if min(shown.end, stretch.span.end) <= max(shown.onset, stretch.span.begin):
                continue
            one = series.get(shown.source.content())
            where = f"{stretch.run.name} ({shown.group})"
            if one is None or not one.values:
                raise InputError(f"{where}: what was shown has no features")
            until = shown.start + shown.duration
            there = min(values.shape[-1] for values in one.values.values()) / one.rate
            told = f"{where}: shown up to second {until:g}, and the features last {there:g} s"
            if until - there > _SLACK:
                raise InputError(f"{told}; they are of something else, or cut short")
            if until - there > 1:
                short[told] = None
    if short:
        more = f" and {len(short) - 3} more" if len(short) > 3 else ""
        warnings.warn(
            f"{'; '.join(list(short)[:3])}{more}: zeros stand for the rest",
            InputWarning,
            stacklevel=3,
        )


def _say_what_is_left_out(empty: Sequence[str]) -> None:
    if empty:
        more = ", ..." if len(empty) > 3 else ""
        warnings.warn(
            f"no BOLD was measured for {len(empty)} of the spans, which are left out: "
            f"{', '.join(empty[:3])}{more}",
            InputWarning,
            stacklevel=3,
        )
