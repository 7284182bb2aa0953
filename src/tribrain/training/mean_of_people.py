"""Training on the mean of people who were shown the same, then a row for each in closed form.

What people who were shown the same have in common is what one model for all is to predict. Their
mean holds it with less noise than any of them and in as many windows as one of them has, so the
encoder and the row of people never seen are trained on it. A person's row is ridge on the encoder's
states towards that row (`tribrain.training.adapt_ridge`).
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from tribrain.encoder.network import Encoder
from tribrain.errors import InputError
from tribrain.studies.groups import Span
from tribrain.training.adapt_data import read_rows
from tribrain.training.adapt_ridge import ridge_row
from tribrain.training.data import Stretch, TrainingData
from tribrain.training.teaching import shown_in

_NOT_SEEN = -1  # row of windows of people without a row of their own
_KEPT = 2**30
"""Bytes of means that are kept in memory; where all are more, those of each window are worked out
when it is read."""


class MeanData(TrainingData):
    """Training data whose people are one where they were shown the same.

    Spans of some sides that show the same seconds of the same stimuli, at the same rows, are one
    stretch. Its BOLD is the mean over these people, z-scored over their rows of it, and over those
    who were measured: NaN where nobody was. What one person alone was shown is a stretch of that
    person. Studies stay apart. All is read by the row of people never seen, other sides as well,
    whose BOLD stays that of each person.

    Parameters
    ----------
    data : TrainingData
    sides : sequence of str
        On which people are averaged.

    Attributes
    ----------
    people : int
        Of these sides.
    least, most : int
        Spans that one stretch of these sides is the mean of.

    Raises
    ------
    InputError
        A study in which nobody was shown what another person was.
    """

    def __init__(self, data: TrainingData, sides: Sequence[str] = ("train",)) -> None:
        vars(self).update(vars(data))  # what is read, split and scaled stays as it is
        groups: dict[object, list[Stretch]] = {}
        for stretch in data.stretches:
            same = shown_in(stretch) if stretch.side in sides else stretch.span
            groups.setdefault((stretch.study, same), []).append(stretch)
        self._members: dict[Span, tuple[Stretch, ...]] = {}
        found = []
        for members in groups.values():
            one = max(members, key=lambda member: member.stop - member.first)
            if one.side in sides:
                self._members[one.span] = tuple(members)
                one = dataclasses.replace(one, run=_run_of(one, members))
            found.append(dataclasses.replace(one, row=_NOT_SEEN))
        self.stretches = tuple(found)
        _check_shared(data, self._members)
        counts = [len(members) for members in self._members.values()]
        self.least, self.most = min(counts, default=0), max(counts, default=0)
        self.people = len({s.row for members in self._members.values() for s in members})
        rows = sum(
            (one.stop - one.first) * self.spaces[self.space_of(one)].size
            for one in self.stretches
            if one.span in self._members
        )
        self._means: dict[Span, np.ndarray] | None = {} if 4 * rows <= _KEPT else None

    def _fill_targets(self, targets: np.ndarray, stretch: Stretch, first: int) -> None:
        if stretch.span not in self._members:
            super()._fill_targets(targets, stretch, first)
            return
        n = min(self.length, stretch.stop - first)
        begin = first - stretch.first
        if self._means is None:
            targets[:n] = self._mean(stretch.span, begin, n)
        else:
            if stretch.span not in self._means:
                whole = self._mean(stretch.span, 0, stretch.stop - stretch.first)
                self._means[stretch.span] = whole
            targets[:n] = self._means[stretch.span][begin : begin + n]
        targets[n:] = np.nan

    def _mean(self, span: Span, begin: int, n: int) -> np.ndarray:
        """Mean (n, outputs) over people, from row `begin` of the stretch on."""
        members = self._members[span]
        size = self.spaces[self.space_of(members[0])].size
        total, count = np.zeros((n, size), np.float32), np.zeros((n, size), np.float32)
        for member in members:
            first = member.first + begin
            there = min(n, member.stop - first)  # a recording may end before those of others
            if there <= 0:
                continue
            mean, scale = self._scale(member)
            bold = self.studies[member.study].window(member.run, first, there, member.run.dtype)
            values = (bold - mean) / scale
            measured = ~np.isnan(values)
            total[:there] += np.where(measured, values, 0)
            count[:there] += measured
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def give_rows(
    encoder: Encoder,
    data: TrainingData,
    sides: Sequence[str],
    penalty: float,
    device: str = "cpu",
) -> None:
    """Find the row of every person, by ridge towards that of people never seen.

    One person's BOLD, and states of the encoder, are in memory at a time.

    Parameters
    ----------
    encoder : Encoder
        As trained on `MeanData`; on `device`. Its rows of people are replaced.
    data : TrainingData
        Of people, not of their mean. Its BOLD is z-scored over each span, as in the mean.
    sides : sequence of str
        On which the encoder was trained.
    penalty : float
        In mean squares of the states about their means. What a person adds to the states would
        have to be told from rows that the encoder was not trained on: on its own rows the states
        fit too well, and cross-validation chooses 10 to 20 times too much (measured on SONG).
    device : str
    """
    scored = copy.copy(data)
    scored.standardise = True
    by_row: dict[int, list[Stretch]] = {}
    for stretch in data.stretches:
        if stretch.side in sides and stretch.row != _NOT_SEEN:
            by_row.setdefault(stretch.row, []).append(stretch)
    rows: Any = encoder.head.rows
    for row, stretches in sorted(by_row.items()):
        space = data.space_of(stretches[0]) if len(data.spaces) > 1 else None
        given = rows[encoder.unseen(space)]
        start = [part.detach().cpu().double().numpy() for part in (given.weight, given.bias)]
        read = read_rows(encoder, scored, stretches, device)
        unit = float(np.var(read.states, axis=0, dtype=np.float64).mean())
        found = ridge_row(read.states, read.measured, start[0], start[1], penalty * unit)
        with torch.no_grad():
            for part, values in zip((rows[row].weight, rows[row].bias), found, strict=True):
                part.copy_(torch.from_numpy(values))


def _run_of(one: Stretch, members: Sequence[Stretch]) -> Any:
    """The run of a stretch with the checksum of the BOLD of all, by which a state is known."""
    told = [(member.run.sha256, member.first, member.stop) for member in members]
    return dataclasses.replace(one.run, sha256=hashlib.sha256(repr(told).encode()).hexdigest())


def _check_shared(data: TrainingData, members: dict[Span, tuple[Stretch, ...]]) -> None:
    shared = {
        group[0].study for group in members.values() if len({s.span.subject for s in group}) > 1
    }
    for number in sorted({group[0].study for group in members.values()} - shared):
        raise InputError(
            f"nobody in {data.studies[number].name} was shown what another person was, at the same "
            "seconds, so there is no mean to train on; data.mean_of_people=false trains on each"
        )
