"""Training on what another model predicts: an ensemble taught to one model.

The targets of training rows are ``share * prediction + (1 - share) * BOLD``, the prediction being
that for the person of the window. Both stand for the same response, and the prediction is without
the noise (Hinton, Vinyals & Dean 2015, arXiv 1503.02531, for the way). Windows that are read by the
row of people never seen have the teacher's prediction for those.

The teacher predicts every row of the training side once, before the first epoch. Rows of other
sides are never predicted, and keep the BOLD.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tribrain.encoder.ensembles import EnsembleModel
from tribrain.encoder.models import load_model, model_folder
from tribrain.encoder.predict import TrainedModel
from tribrain.encoder.textbook import TextbookModel
from tribrain.errors import InputError, InputWarning
from tribrain.features.extract import Progress
from tribrain.features.store import Store
from tribrain.files import whole_file
from tribrain.studies.groups import Span
from tribrain.training.data import Batch, Stretch, TrainingData
from tribrain.training.model_rows import ModelledRows, check_space, members_of
from tribrain.training.settings import TrainingSettings
from tribrain.training.sides import all_trained, is_trained, member_split

_NOT_SEEN = -1  # row of windows of people without a row of their own
_TOLD = "teacher.json"

Edges = tuple[float, float]
Lessons = Mapping[tuple[Span, bool], Path]
"""Where the teacher's rows of a span are: for its person, and for people never seen."""


class TaughtData(TrainingData):
    """Training data whose training rows a teacher has a part in.

    Parameters
    ----------
    data : TrainingData
    lessons : mapping
        As `write_lessons` gives them.
    share : float
        Of the teacher in the targets, 0 to 1.
    unseen : float
        Probability that a window of an epoch is given to the row of people never seen.
    """

    def __init__(self, data: TrainingData, lessons: Lessons, share: float, unseen: float) -> None:
        vars(self).update(vars(data))  # what is read, split and scaled stays as it is
        self._lessons = dict(lessons)
        self._share = share
        self._unseen = unseen

    def drawn(
        self, stretches: Iterable[Stretch], random: np.random.Generator
    ) -> list[tuple[Stretch, int]]:
        """Windows of an epoch, some of them as those of a person never seen."""
        found = super().drawn(stretches, random)
        given = random.random(len(found)) < self._unseen
        return [
            (dataclasses.replace(stretch, row=_NOT_SEEN) if other else stretch, first)
            for (stretch, first), other in zip(found, given, strict=True)
        ]

    def batch(self, chosen: Sequence[tuple[Stretch, int]]) -> Batch:
        """Read windows of one space."""
        read = super().batch(chosen)
        for target, (stretch, first) in zip(read.targets, chosen, strict=True):
            path = self._lessons.get((stretch.span, stretch.row == _NOT_SEEN))
            if path is None:
                continue
            begin = first - stretch.first
            taught = np.load(path, mmap_mode="r")[begin : begin + self.length].astype(np.float32)
            part = target[: len(taught)]  # what was not measured (NaN) stays so
            part.mul_(1 - self._share).add_(torch.from_numpy(taught), alpha=self._share)
        return read


def open_teacher(
    place: str | Path, data: TrainingData, *, store: Store | None = None, **loading: Any
) -> TrainedModel | EnsembleModel:
    """Load a model that is to teach on data.

    Parameters
    ----------
    place : str or Path
        A model as `load_model` takes it, or a run folder.
    data : TrainingData
        Of the student.
    store : Store, optional
        Where features are kept.
    **loading
        For `load_model`.

    Raises
    ------
    InputError
        If it is none, predicts another space or with another lag, or was trained on what is to
        judge its student.

    Warns
    -----
    InputWarning
        If nothing tells what it was trained on.
    """
    folder = model_folder(place)
    teacher = load_model(folder, cache=False if store is None else store.folder, **loading)
    if isinstance(teacher, TextbookModel):
        raise InputError("the textbook model teaches nothing; a teacher is a trained model")
    lag = members_of(teacher)[0].card.lag
    if lag != data.lag:
        raise InputError(
            f"{teacher.name} predicts the BOLD {lag:g} s late, and the recipe reads it "
            f"{data.lag:g} s late; one lag fits"
        )
    check_space(teacher, data.studies)
    _check_knows_nothing_else(teacher, Path(folder), data)
    return teacher


def taught(
    teacher: TrainedModel | EnsembleModel,
    data: TrainingData,
    settings: TrainingSettings,
    folder: Path,
    progress: Progress | None = None,
) -> tuple[TaughtData, TrainingSettings]:
    """Data that a teacher has a part in, and settings for the loop.

    Which windows are read by the row of people never seen is drawn with the windows, as their
    targets differ, and no longer in the loop.

    Parameters
    ----------
    teacher : TrainedModel or EnsembleModel
    data : TrainingData
    settings : TrainingSettings
    folder : Path
        Where the teacher's predictions are kept (`write_lessons`).
    progress : callable, optional
    """
    lessons = write_lessons(teacher, data, ("train",), folder, progress)
    found = TaughtData(data, lessons, settings.teacher_share, settings.subject_dropout)
    return found, dataclasses.replace(settings, subject_dropout=0.0)


def _check_knows_nothing_else(
    teacher: TrainedModel | EnsembleModel, place: Path, data: TrainingData
) -> None:
    """Refuse a teacher who was trained on what is to judge its student."""
    people = {name for one in members_of(teacher) for name in one.subjects}
    if isinstance(teacher, EnsembleModel):
        trained = teacher.trained_on
    else:
        told = member_split(teacher.name, place, data.studies)
        trained = all_trained([told])
        people |= told.people if told is not None else set()  # an adapter names its own alone
    if trained is None:
        warnings.warn(
            f"nothing tells what {teacher.name} was trained on; if validation or test rows are "
            "among it, they are no judges of its student",
            InputWarning,
            stacklevel=3,
        )
        return
    for stretch in data.stretches:
        span, side = stretch.span, stretch.side
        if side == "train":
            continue
        # A film that others were trained on is what "held_out_seen" is there for.
        known = side != "held_out_seen" and is_trained(trained, span, stretch.run)
        if known or (side.startswith("held_out") and f"{span.study}/{span.subject}" in people):
            raise InputError(
                f"{teacher.name} was trained on {span.run} ({span.group}), which is on the side "
                f"{side} here and would judge its student; use the split of its own recipe"
            )


def write_lessons(
    teacher: TrainedModel | EnsembleModel,
    data: TrainingData,
    sides: Sequence[str],
    folder: Path,
    progress: Progress | None = None,
) -> dict[tuple[Span, bool], Path]:
    """Predict the rows of stretches by a teacher and keep them in a folder.

    Parameters
    ----------
    teacher : TrainedModel or EnsembleModel
        As `open_teacher` gives it.
    data : TrainingData
        Of the student.
    sides : sequence of str
        Sides of the split that are predicted.
    folder : Path
        Gets a float16 array (rows, outputs) a span; of people never seen one for all who were
        shown the same. What is there already from the same teacher is kept.
    progress : callable, optional
        Called with "teacher", the spans done, their total.

    Raises
    ------
    InputError
        If the teacher reads other features, or the folder is of another teacher.
    """
    wanted = {one.span: one.side for one in data.stretches if one.side in sides}
    _check_folder(folder, teacher)
    rows = ModelledRows(members_of(teacher), data.studies, wanted)
    found: dict[tuple[Span, bool], Path] = {}
    for unseen in (False, True):
        paths = [folder / f"{_key(one, unseen)}.npy" for one in rows.stretches]
        for stretch, path in zip(rows.stretches, paths, strict=True):
            found[stretch.span, unseen] = path
        missing = {path: number for number, path in enumerate(paths) if not path.is_file()}
        for done, (path, number) in enumerate(missing.items(), start=1):
            _, parts, _ = rows.predict(number, unseen=unseen)
            mixed = teacher.combined(parts) if isinstance(teacher, EnsembleModel) else parts[0]
            with whole_file(path) as file:
                np.save(file, mixed.astype(np.float16))
            if progress is not None:
                progress("teacher", done, len(missing))
    return found


def _key(stretch: Stretch, unseen: bool) -> str:
    """Name of the rows of a stretch; for people never seen, of what was shown and when."""
    if not unseen:
        return _digest(dataclasses.astuple(stretch.span))
    return _digest((*shown_in(stretch), stretch.stop - stretch.first))


def shown_in(stretch: Stretch) -> tuple[tuple[tuple[str, float, float, float], ...], Edges]:
    """What was shown in a stretch, and when, from its first row on.

    Returns
    -------
    shown : tuple of (str, float, float, float)
        Content, onset, and the seconds of the stimulus that were shown: the first, and how many.
    edges : (float, float)
        Begin and end of the span.
    """
    span = stretch.span
    clock = stretch.run.origin + stretch.first
    shown = tuple(
        (one.source.content(), round(one.onset - clock, 3), one.start, one.duration)
        for one in stretch.run.shown
        if one.onset < span.end and one.end > span.begin
    )
    return shown, (round(span.begin - clock, 3), round(span.end - clock, 3))


def _check_folder(folder: Path, teacher: TrainedModel | EnsembleModel) -> None:
    """Keep the rows of one teacher alone in a folder."""
    weights = getattr(teacher, "weights", np.empty(0)).tobytes()
    factors = getattr(teacher, "factors", np.empty(0)).tobytes()
    told: dict[str, Any] = {
        "name": teacher.name,
        "members": [one.card.checksums for one in members_of(teacher)],
        "weights": hashlib.sha256(weights + factors).hexdigest(),
    }
    file = folder / _TOLD
    if file.is_file():
        if json.loads(file.read_text("utf-8")) != told:
            raise InputError(
                f"{folder} holds what another teacher than {teacher.name} predicted; give that "
                "one, or choose another --out"
            )
        return
    with whole_file(file) as opened:
        opened.write((json.dumps(told, indent=2) + "\n").encode())


def _digest(what: object) -> str:
    return hashlib.sha256(repr(what).encode()).hexdigest()[:24]
