"""Which rows a model may be tested on, and which ones baselines may be fitted to.

A model is tested on what it was not trained on. What that is follows from the run folder around it
(`tribrain.training.sides`); where nothing tells, every row is tested, and that is said.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tribrain.encoder.ensemble_files import is_ensemble
from tribrain.encoder.ensembles import EnsembleModel
from tribrain.encoder.models import model_folder
from tribrain.errors import InputError
from tribrain.studies.groups import Span, merged_groups
from tribrain.studies.prepared import PreparedStudy
from tribrain.studies.splits import split
from tribrain.training.sides import MemberSplit, is_trained, member_split

ASKED = ("validation", "test", "held_out_unseen", "all", "train")
"""What can be asked for. "all": every side but that of training."""
FREE = "new"
"""Side of a span that shows nothing a model was trained on, in a study that it does not know."""
UNKNOWN = "unknown"
"""Side of every span where nobody can tell what a model was trained on."""
_TRAIN = "train"


@dataclass(frozen=True, eq=False)
class Tested:
    """Spans by what they serve for.

    Attributes
    ----------
    tested : dict of Span to str
        With the side that each is on for the model.
    fitted : dict of Span to str
        What baselines are fitted to, all of side "train"; empty where nothing was trained on, and
        baselines are fitted to parts of the tested spans.
    people : frozenset of str
        ``study/subject`` of those that the model was trained on.
    notes : tuple of str
    warning : str
        Of rows that the model was trained on; empty where there are none.
    """

    tested: Mapping[Span, str]
    fitted: Mapping[Span, str]
    people: frozenset[str]
    notes: tuple[str, ...] = ()
    warning: str = ""


def member_splits(
    model: Any, place: str | Path | None, studies: Sequence[PreparedStudy]
) -> list[MemberSplit | None]:
    """What is known of each model that a model consists of (one, or the members of an ensemble).

    Parameters
    ----------
    model : TextbookModel, TrainedModel or EnsembleModel
    place : str or Path, optional
        Where the model is; nothing is known without.
    studies : sequence of PreparedStudy
        In which the studies that it was trained on may be found.
    """
    if place is None or not Path(model_folder(place)).is_dir():
        return [None]
    folder = Path(model_folder(place))
    if isinstance(model, EnsembleModel) and is_ensemble(folder):
        told = json.loads((folder / "ensemble.json").read_text("utf-8"))["members"]
        return [
            member_split(member.name, folder / one["path"], studies) if "path" in one else None
            for member, one in zip(model.members, told, strict=True)
        ]
    return [member_split(model.name, folder, studies)]


def spans_to_test(
    study: PreparedStudy,
    splits: Sequence[MemberSplit | None],
    *,
    lag: float,
    side: str | None = None,
    trained_on: Mapping[str, Sequence[Sequence[float]]] | None = None,
    weighted_by: Mapping[str, Sequence[Sequence[float]]] | None = None,
    name: str = "the model",
) -> Tested:
    """Choose the spans of a study that a model is tested on.

    Parameters
    ----------
    study : PreparedStudy
    splits : sequence of (MemberSplit or None)
        As `member_splits` gives them.
    lag : float
        Seconds by which the BOLD is read late.
    side : str, optional
        One of `ASKED`; by default what is of side "test", people held out in films that nobody
        was trained on, and all of a study that the model does not know; without films by which
        anything was chosen.
    trained_on : mapping, optional
        Seconds of stimuli that any member of an ensemble was trained on, where it tells.
    weighted_by : mapping, optional
        Spans, by ``study/run``, that its members were weighted by: they count as validation.
    name : str
        Of the model, in messages.

    Raises
    ------
    InputError
        If nothing is there to test on; says which sides hold something.
    """
    if side is not None and side not in ASKED:
        raise InputError(f"side {side!r} is unknown; known: {', '.join(ASKED)}")
    runs = {run.name: run for run in study.runs}
    spans = split(study.runs, {}, lag=lag)
    known = [one for one in splits if one is not None]
    silent = len(known) < len(splits)
    if silent and trained_on is None and not known:
        if side not in (None, "all"):
            raise InputError(
                f"nothing tells which rows {name} was trained on (no run folder around it), so "
                f"there is no side {side}; without --side every row is tested"
            )
        note = (
            f"nothing tells what {name} was trained on: every row of {study.name} is tested, and "
            "nobody can say whether it has seen some of them"
        )
        return Tested(dict.fromkeys(spans, UNKNOWN), {}, frozenset(), (note,))
    notes = []
    if silent:
        stated = "" if trained_on is None else ", beyond the stimuli that the ensemble states"
        notes.append(f"nothing tells what some members of {name} were trained on{stated}")
    sides: dict[Span, str] = {}
    for span in _all_spans(study, known, spans):
        found = {one.side(span, runs[span.run]) for one in known}
        if trained_on is not None and is_trained(trained_on, span, runs[span.run]):
            found.add(_TRAIN)
        for begin, end in (weighted_by or {}).get(f"{span.study}/{span.run}", ()):
            if begin < span.end and end > span.begin:
                found.add("validation")
        sides[span] = _joined(found)
    fitted = {span: _TRAIN for span, one in sides.items() if one == _TRAIN}
    people = frozenset(person for one in known for person in one.people)
    chosen = _chosen(sides, side)
    if not chosen:
        there = ", ".join(sorted({one for one in sides.values() if one in (*ASKED, FREE)}))
        raise InputError(
            f"no row of {study.name} is of side {side or 'test'} for {name}; sides that hold rows: "
            f"{there or 'none'}"
        )
    warning = ""
    if _TRAIN in chosen.values():
        warning = (
            f"{name} was trained on rows that it is scored on here: these scores say nothing of "
            "how well it predicts"
        )
        fitted = {}
    elif side is None:
        free = ("held_out_unseen", FREE)
        left = sum(one in free for one in sides.values())
        left -= sum(one in free for one in chosen.values())
        if left:
            notes.append(
                f"films by which the epoch or the weights of {name} were chosen are not tested for "
                f"people who are new to it either (spans: {left})"
            )
    return Tested(chosen, fitted, people, tuple(notes), warning)


def _all_spans(
    study: PreparedStudy, known: Sequence[MemberSplit], spans: Mapping[Span, str]
) -> list[Span]:
    """Spans as studies are cut now, and those that a member was trained on a part of."""
    groups = merged_groups(study.runs)
    runs = {run.name: run for run in study.runs}
    found = {(span.run, round(span.begin, 3), round(span.end, 3)): span for span in spans}
    for one in known:
        for (name, run, begin, end), side in one.sides.items():
            if name != study.name or run not in runs or side != _TRAIN:
                continue
            if one.runs.get((name, run)) != runs[run].sha256 or (run, begin, end) in found:
                continue
            shown = [s for s in runs[run].shown if s.onset < end and s.end > begin]
            if shown:
                group = groups[shown[0].group]
                span = Span(name, run, runs[run].subject, begin, end, group)
                found[run, begin, end] = span
    return sorted(found.values())


def _joined(found: set[str]) -> str:
    """The side of a span for a model whose members may differ: the one that allows least."""
    order = (_TRAIN, "on no side", "validation", "held_out_seen", "held_out_unseen", "test", FREE)
    return next((one for one in order if one in found), FREE)


def _chosen(sides: Mapping[Span, str], asked: str | None) -> dict[Span, str]:
    if asked == "all":
        kinds: tuple[str, ...] = ("validation", "test", "held_out_unseen", "held_out_seen", FREE)
    else:
        kinds = ("test", "held_out_unseen", FREE) if asked is None else (asked,)
    found = {span: side for span, side in sides.items() if side in kinds}
    if asked is not None:
        return found
    # What chose the epoch, or weighted members, was of other people; the films were the same.
    chose = {span.group for span, side in sides.items() if side == "validation"}
    return {span: side for span, side in found.items() if side == "test" or span.group not in chose}
