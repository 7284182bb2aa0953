"""What models predict of the parts that are tested, and what can be scored there."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tribrain.encoder.ensembles import EnsembleModel
from tribrain.encoder.predict import TrainedModel
from tribrain.encoder.textbook import FREQUENCY, LABEL, TextbookModel
from tribrain.errors import InputError
from tribrain.evaluation.evaluation import MODEL, UNSEEN
from tribrain.evaluation.rows import Part, by_cell
from tribrain.evaluation.scoring import Scorer, Way
from tribrain.evaluation.tables import Ceilings
from tribrain.evaluation.work import Work
from tribrain.studies.prepared import PreparedStudy
from tribrain.studies.simulated import Simulated
from tribrain.studies.simulated_truth import preparation
from tribrain.training.data import Stretch, TrainingData
from tribrain.training.model_rows import ModelledRows, members_of

TEXTBOOK = "textbook"
CEILINGS = ("auto", "shared", "people", "repeats", "analytic", "none")
Model = TextbookModel | TrainedModel | EnsembleModel
Tick = Callable[[], None]


def predict_with_model(
    model: TrainedModel | EnsembleModel,
    rows: ModelledRows,
    parts: Sequence[Part],
    work: Work,
    tick: Tick = lambda: None,
) -> list[Way]:
    """Keep what a model predicts: by the person's own row, where there is one, and by the unseen.

    Parts are numbered as the stretches of `rows`. People never seen are predicted alike where they
    were shown the same, so that is kept once a cell.
    """

    def predicted(number: int, unseen: bool) -> np.ndarray:
        _, found, _ = rows.predict(number, unseen=unseen)
        return model.combined(found) if isinstance(model, EnsembleModel) else found[0]

    some = False
    for part in parts:
        if all(data.stretches[part.number].row >= 0 for data in rows.data):
            some = True
            if not work.has(MODEL, part.number):
                work.put(predicted(part.number, False), MODEL, part.number)
        tick()
    for cell, shown in by_cell(parts).items():
        if not work.has(UNSEEN, f"cell{cell}"):
            longest = max(shown, key=lambda part: part.rows)
            work.put(predicted(longest.number, True), UNSEEN, f"cell{cell}")
        tick()
    own = [Way(MODEL, f"{model.name}, the row of each person")] if some else []
    return [*own, Way(UNSEEN, f"{model.name}, the row of people never seen", unseen=True)]


def predict_with_textbook(
    model: TextbookModel,
    data: TrainingData,
    parts: Sequence[Part],
    work: Work,
    name: str = TEXTBOOK,
    tick: Tick = lambda: None,
) -> Way:
    """Keep what the textbook model predicts of every cell.

    Parameters
    ----------
    model : TextbookModel
    data : TrainingData
        With its features and its lag.
    parts : sequence of Part
        Numbered as the stretches of `data`.
    work : Work
    name : str
        Of the way.
    """
    for cell, shown in by_cell(parts).items():
        if not work.has(name, f"cell{cell}"):
            longest = max(shown, key=lambda part: part.rows)
            stretch = data.stretches[longest.number]
            work.put(_textbook_rows(model, data, stretch), name, f"cell{cell}")
        tick()
    return Way(name, LABEL, unseen=True)


def _textbook_rows(model: TextbookModel, data: TrainingData, stretch: Stretch) -> np.ndarray:
    n = stretch.stop - stretch.first
    wide = copy.copy(data)
    wide.length, wide.n_samples = 1, round(FREQUENCY) * n
    read = wide.batch([(stretch, stretch.first)])
    features = {
        modality: values[0].numpy()
        for modality, values in read.features.items()
        if read.present is None or read.present[modality][0]
    }
    response = model.predict(features=features, duration=float(n))
    return np.asarray(response.data.values[:n], np.float32)


def check_ceiling(
    kind: str, scorer: Scorer, *, shared: bool = False, truth: Simulated | None = None
) -> None:
    """Refuse a ceiling that these data do not have, which takes no prediction to know.

    Parameters
    ----------
    kind, scorer, shared, truth
        As in `find_ceilings`.

    Raises
    ------
    InputError
    """
    if kind not in CEILINGS:
        raise InputError(f"ceiling {kind!r} is unknown; known: {', '.join(CEILINGS)}")
    if kind == "analytic" and truth is None:
        raise InputError(
            "an analytic ceiling needs the truth of a simulated study, which a prepared study does "
            "not hold; evaluate_model(truth=...) in Python takes it"
        )
    if kind == "repeats" and not scorer.has_repeats():
        raise InputError("nobody was shown the same twice; --ceiling shared or none fits")
    if kind in ("shared", "people") and not shared:
        raise InputError("nobody was shown what another person was; --ceiling none fits")


def find_ceilings(
    kind: str,
    scorer: Scorer,
    shared: bool,
    *,
    stretches: Mapping[int, Stretch] | None = None,
    study: PreparedStudy | None = None,
    truth: Simulated | None = None,
    draws: int = 100,
    seed: int = 0,
) -> Ceilings:
    """Ceilings of all parts, of one kind.

    Parameters
    ----------
    kind : str
        One of `CEILINGS`. "auto": the truth where it is given, else repeats where anybody was shown
        the same twice, else what people share, else none. "people" is the correlation with the
        others as it is, which their noise makes too low for a ceiling.
    scorer : Scorer
    shared : bool
        Whether people were shown the same, and `Scorer.add_people` was called.
    stretches, study, truth : optional
        Of a simulated study: by number of the part, and what it was made by.
    draws, seed : int
        Of halves.

    Raises
    ------
    InputError
        An unknown kind, or one that these data do not have.
    """
    check_ceiling(kind, scorer, shared=shared, truth=truth)
    both = scorer.shared_ceilings(draws, seed) if shared and kind != "none" else None
    group, of_one = (None, None) if both is None else both
    if kind in ("auto", "analytic") and truth is not None:
        assert study is not None
        assert stretches is not None
        return _analytic(scorer, stretches, study, truth)
    if kind in ("auto", "repeats"):
        found = scorer.repeats(draws, seed)
        if found:
            said = (
                "split halves of what each person was shown several times (Spearman-Brown), for "
                "one showing: all that repeats in the person"
            )
            return Ceilings(said, found, found, group)
    if kind in ("auto", "shared") and of_one is not None:
        found = {p.number: of_one for p in scorer.parts if scorer.people_of(p.cell) > 1}
        said = (
            "what one who knows all that people share would score in one of them: split halves of "
            "the people (Spearman-Brown), one map for all; a model that knows the person may pass "
            "it"
        )
        return Ceilings(said, found, found, group)
    if kind == "people":
        found = {
            part.number: scorer.correlation("people", part)
            for part in scorer.parts
            if scorer.people_of(part.cell) > 1
        }
        said = (
            "correlation of each person with the mean of the others who were shown the same: a "
            "reference and no bound, as the others are noisy themselves"
        )
        return Ceilings(said, found, found, group)
    if kind == "shared":
        raise InputError(
            "nothing varies in what several people were shown; --ceiling people or none fits"
        )
    return Ceilings("none")


def _analytic(
    scorer: Scorer, stretches: Mapping[int, Stretch], study: PreparedStudy, truth: Simulated
) -> Ceilings:
    """What one who knows the simulation would score, after the same preparation."""

    def expected(people: str | list[str], knows: str, part: Part) -> np.ndarray:
        stretch = stretches[part.number]
        seconds = stretch.run.origin + np.arange(stretch.first, stretch.stop)
        prepare = preparation(
            seconds, truth.repetition_time, detrend=bool(study.settings.get("detrend", True))
        )
        return truth.ceiling(people, knows, films=[stretch.run.task], prepare=prepare)

    own = {part.number: expected(part.subject, "features", part) for part in scorer.parts}
    unseen = {part.number: expected(part.subject, "group", part) for part in scorer.parts}
    total, rows = np.zeros(len(scorer.mask)), 0
    for parts in scorer.cells.values():
        people = sorted({part.subject for part in parts})
        if len(people) > 1:
            longest = max(parts, key=lambda part: part.rows)
            total = total + longest.rows * expected(people, "features", longest)
            rows += longest.rows
    said = (
        "the truth of the simulated study: what one who knows it expects to score; for people "
        "never seen, one who knows the mean of the population"
    )
    return Ceilings(said, own, unseen, total / rows if rows else None)


def model_key(model: Model) -> str:
    """A checksum of a model: of what it reads, and of its weights."""
    if isinstance(model, TextbookModel):
        return _digest(model.describe())
    weights = hashlib.sha256()
    for member in members_of(model):
        weights.update(repr(member.card).encode())
        for name, tensor in sorted(member.encoder.state_dict().items()):
            weights.update(name.encode())
            weights.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    if isinstance(model, EnsembleModel):
        weights.update(model.weights.tobytes() + model.factors.tobytes())
    return weights.hexdigest()


def _digest(told: Any) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()
