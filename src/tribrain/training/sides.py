"""Sides of the split: as a recipe parts studies, and as the run folder of a model tells.

Members of an ensemble are weighted by rows that none of them was trained on, and a teacher may know
nothing of what its student is judged by.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tribrain.encoder.adapters import base_folder, is_adapter, read_adapter
from tribrain.errors import InputError, InputWarning
from tribrain.files import first_line, sha256
from tribrain.studies.groups import Span
from tribrain.studies.prepared import PreparedRun, PreparedStudy, open_prepared
from tribrain.studies.prepared_files import MANIFEST
from tribrain.studies.splits import split
from tribrain.training.settings import TrainingRecipe, read_recipe
from tribrain.training.subsets import fewer_hours, fewer_people

MODEL, RECIPE, TOLD = "model", "recipe.toml", "run.json"
"""In the folder of a run."""
_NEAR = 1e-3  # seconds

Place = tuple[str, str, float, float]  # study, run, begin, end
Seconds = dict[str, list[tuple[float, float]]]  # of stimuli, by the checksum of their content


def recipe_sides(recipe: TrainingRecipe, studies: Iterable[PreparedStudy]) -> dict[Span, str]:
    """The side of each span of studies, as a recipe parts them."""
    settings, seed = recipe.data, recipe.training.seed
    runs = [run for study in studies for run in study.runs]
    sides = split(
        runs,
        {"validation": settings.validation, "test": settings.test},
        seed=settings.seed,
        validation_groups=settings.validation_groups,
        test_groups=settings.test_groups,
        held_out_subjects=settings.held_out,
        lag=settings.lag,
    )
    if settings.subjects:
        sides = fewer_people(sides, settings.subjects, seed=seed)
    if settings.hours:
        length, lag = settings.length, settings.lag
        sides = fewer_hours(sides, runs, settings.hours, length=length, lag=lag, seed=seed)
    return sides


@dataclass(frozen=True, eq=False)
class MemberSplit:
    """What a member's run folder tells.

    Attributes
    ----------
    sides : dict of Place to str
        Of each span of its studies; "train" for all that its weights were fitted to.
    runs : dict of (str, str) to str
        Checksum of each run of its studies, by study and name.
    trained : dict of str to list of (float, float)
        Seconds of stimuli that it was trained on.
    people : frozenset of str
        ``study/subject`` of those whom its weights were fitted to.
    adapted : dict of str to list of (float, float)
        Those of `trained` that it was adapted to afterwards, whatever their side.
    """

    sides: Mapping[Place, str]
    runs: Mapping[tuple[str, str], str]
    trained: Seconds
    people: frozenset[str]
    adapted: Seconds = field(default_factory=dict)

    def side(self, span: Span, run: PreparedRun) -> str:
        """Side of a span; "new" for one of another study, none of whose stimuli were trained on."""
        if is_trained(self.adapted, span, run):
            return "train"
        if self.runs.get((span.study, span.run)) == run.sha256:
            return self.sides.get(_place(span), "on no side")
        return "train" if is_trained(self.trained, span, run) else "new"


def is_trained(
    trained: Mapping[str, Sequence[Sequence[float]]], span: Span, run: PreparedRun
) -> bool:
    """Whether any of the seconds of stimuli that a span shows was trained on."""
    return any(
        begin < last - _NEAR and end > first + _NEAR
        for content, (begin, end) in shown_seconds(run, span)
        for first, last in trained.get(content, ())
    )


def free_spans(
    members: Mapping[str, MemberSplit | None], studies: Sequence[PreparedStudy], lag: float
) -> dict[Span, str]:
    """Spans on which members may be compared: those that are validation or new to each.

    Spans of test or of people held out by any member stay out. A span of a study that a member does
    not know is new to it, if it was trained on none of its stimuli; a span may be new to all.

    Parameters
    ----------
    members : mapping of str to (MemberSplit or None)
        What the run folder of each tells (`member_split`), by its name.
    studies : sequence of PreparedStudy
    lag : float
        Of the members.

    Returns
    -------
    dict of Span to str
        All of side "validation".

    Raises
    ------
    InputError
        If no span is free.

    Warns
    -----
    InputWarning
        If no run folder tells what a member was trained on; if a member was trained on what
        others have for validation, which is left out.
    """
    told = {name: one for name, one in members.items() if one is not None}
    silent = [name for name in members if name not in told]
    if silent:
        warnings.warn(
            f"nothing tells what {', '.join(silent)} was trained on (no run folder around it)",
            InputWarning,
            stacklevel=2,
        )
    runs = {(study.name, run.name): run for study in studies for run in study.runs}
    free: dict[Span, str] = {}
    trained: dict[str, int] = {}
    spans = split([run for study in studies for run in study.runs], {}, lag=lag)
    for span in spans:
        sides = {name: one.side(span, runs[span.study, span.run]) for name, one in told.items()}
        if set(sides.values()) <= {"validation", "new"}:
            free[span] = "validation"
        for name, side in sides.items():
            if side == "train":
                trained[name] = trained.get(name, 0) + 1
            elif side == "validation" and "train" in sides.values():
                trained.setdefault("", 0)  # members disagree
    if not free:
        told_of = ", ".join(f"{name} was trained on {n}" for name, n in trained.items() if name)
        raise InputError(
            f"none of the {len(spans)} spans of {', '.join(study.name for study in studies)} is "
            f"free to weight the members by: {told_of or 'all are on other sides of the splits'}; "
            "give a study with validation rows"
        )
    if "" in trained:
        warnings.warn(
            "the members were split in different ways; they are weighted by what none was "
            f"trained on: {len(free)} of {len(spans)} spans",
            InputWarning,
            stacklevel=2,
        )
    return free


def member_split(
    name: str, folder: Path, studies: Sequence[PreparedStudy] = ()
) -> MemberSplit | None:
    """What the run folder around a model tells; None where there is none.

    Studies that lie elsewhere now are looked for among `studies`. Of an adapter, what the run
    folder of its model tells, and what it was adapted to; None where either is not known.

    Raises
    ------
    InputError
        If its files are damaged, or a study that the model was trained on is not there any more.
    """
    folder = Path(folder).resolve()
    if is_adapter(folder):
        return _adapted_split(name, folder, studies)
    run_folder = folder.parent
    if folder.name != MODEL:  # something else that was put into a run folder
        return None
    if not ((run_folder / RECIPE).is_file() and (run_folder / TOLD).is_file()):
        return None
    recipe = read_recipe(run_folder / RECIPE)
    try:
        told = json.loads((run_folder / TOLD).read_text("utf-8"))["studies"]
        known = [(one["name"], Path(one["folder"]), one["manifest_sha256"]) for one in told]
        runs = {(one["name"], run): check for one in told for run, check in one["runs"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{run_folder / TOLD} is damaged ({first_line(error)})") from None
    found = [_study(name, *one, studies) for one in known]
    with warnings.catch_warnings():  # told when it was trained
        warnings.simplefilter("ignore", InputWarning)
        sides = recipe_sides(recipe, found)
    fitted = {"train", "validation"} if recipe.training.refit else {"train"}
    by_name = {(study.name, run.name): run for study in found for run in study.runs}
    seconds: Seconds = {}
    people: set[str] = set()
    for span, side in sides.items():
        if side in fitted:
            people.add(f"{span.study}/{span.subject}")
            for content, span_seconds in shown_seconds(by_name[span.study, span.run], span):
                if span_seconds not in seconds.setdefault(content, []):
                    seconds[content].append(span_seconds)
    places = {_place(span): "train" if side in fitted else side for span, side in sides.items()}
    return MemberSplit(places, runs, seconds, frozenset(people))


def _adapted_split(name: str, folder: Path, studies: Sequence[PreparedStudy]) -> MemberSplit | None:
    """What is known of the model of an adapter, and the seconds that it was adapted to."""
    adapter = read_adapter(folder)
    place = base_folder(adapter, folder)
    base = None if place is None else member_split(name, place, studies)
    if base is None or adapter.trained_on is None:
        return None
    seconds = {
        content: [(begin, end) for begin, end in parts]
        for content, parts in adapter.trained_on.items()
    }
    both = {
        content: base.trained.get(content, []) + seconds.get(content, [])
        for content in {**base.trained, **seconds}
    }
    people = base.people | set(adapter.people)
    return dataclasses.replace(base, trained=both, people=people, adapted=seconds)


def all_trained(splits: Iterable[MemberSplit | None]) -> Seconds | None:
    """Seconds of stimuli that any of several models was trained on; None if one does not tell."""
    found: Seconds = {}
    for one in splits:
        if one is None:
            return None
        for content, seconds in one.trained.items():
            known = found.setdefault(content, [])
            known += [pair for pair in seconds if pair not in known]
    return found


def _study(
    member: str, name: str, folder: Path, manifest: str, given: Iterable[PreparedStudy]
) -> PreparedStudy:
    """The study that a member was trained on, where it was or where it is now."""
    for study in given:
        if study.name == name and sha256(study.folder / MANIFEST) == manifest:
            return study
    if (folder / MANIFEST).is_file() and sha256(folder / MANIFEST) == manifest:
        return open_prepared(folder)
    raise InputError(
        f"{member} was trained on {name} in {folder}, which is not there as it was, so nobody can "
        "tell which rows it has seen; put it back, or give it with --study"
    )


def _place(span: Span) -> Place:
    return span.study, span.run, round(span.begin, 3), round(span.end, 3)


def shown_seconds(run: PreparedRun, span: Span) -> list[tuple[str, tuple[float, float]]]:
    """Seconds of each stimulus, by the checksum of its content, that are shown in a span."""
    found = []
    for shown in run.shown:
        begin, end = max(shown.onset, span.begin), min(shown.end, span.end)
        if begin < end:
            shift = shown.start - shown.onset
            found.append((shown.source.content(), (begin + shift, end + shift)))
    return found


def told_rows(
    spans: Iterable[Span], studies: Sequence[PreparedStudy], seconds: int
) -> dict[str, Any]:
    """Rows as plain data, to be kept with what was measured on them."""
    listed = list(spans)
    runs: dict[str, list[list[float]]] = {}
    for span in listed:
        runs.setdefault(f"{span.study}/{span.run}", []).append([span.begin, span.end])
    return {
        "studies": {study.name: sha256(study.folder / MANIFEST) for study in studies},
        "groups": sorted({span.group for span in listed}),
        "people": sorted({f"{span.study}/{span.subject}" for span in listed}),
        "rows": seconds,
        "spans": runs,
    }
