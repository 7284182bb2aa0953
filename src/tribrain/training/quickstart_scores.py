"""Scores of a trained model on a simulated study, beside ridge and what can be reached."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tribrain.encoder.network import Encoder
from tribrain.encoder.predict import TrainedModel
from tribrain.features.extract import Progress
from tribrain.moments import Moments
from tribrain.studies.prepared import PreparedStudy
from tribrain.studies.simulated import Simulated
from tribrain.studies.simulated_truth import preparation
from tribrain.training.adapt import AdaptSettings, adapt
from tribrain.training.data import Stretch, TrainingData
from tribrain.training.ridge import Ridge, delayed_rows, fit_ridge
from tribrain.training.validation import predictions

WAYS = {
    "own": "trained model, own row",
    "ridge": "ridge of the person",
    "unseen": "trained model, row of people never seen",
    "ridge of all": "ridge of everyone who was trained on",
    "adapted": "trained model, adapted",
    "ridge from scratch": "ridge of the new person's minutes alone",
}
"""Ways of predicting: the first two of people who are trained on, the others of new people."""


class Scored:
    """Scores of all ways of predicting the test films.

    Parameters
    ----------
    study : Simulated
    data : TrainingData
        Of the study, with people held out.
    model : TrainedModel
        Trained on its training side.
    """

    def __init__(self, study: Simulated, data: TrainingData, model: TrainedModel) -> None:
        self.study, self.data, self.model = study, data, model
        tested = data.side("test")
        self.films = sorted({stretch.span.group for stretch in tested})
        self.ridge_of_all = fit_ridge(data, data.side("train"))
        self.new_people = sorted({one.span.subject for one in data.side("held_out_unseen")})

    def trained(self) -> list[dict[str, Any]]:
        """Scores of those who were trained on, a row a person and way."""
        rows = []
        for person in sorted({one.span.subject for one in self.data.side("train")}):
            trained, tested = (self._of(person, side) for side in ("train", "test"))
            minutes = sum(one.stop - one.first for one in trained) / 60
            ridge = fit_ridge(self.data, trained)
            reach = self._reach(person, "features", tested[0])
            for way, r in (
                ("own", self._model(self.model.encoder, self.data, tested)),
                ("ridge", self._ridge(ridge, tested)),
            ):
                rows.append({"people": "trained", "person": person, "way": way,
                             "minutes": minutes, "r": r, **reach})  # fmt: skip
        return rows

    def new(
        self, prepared: PreparedStudy, minutes: Sequence[float], progress: Progress | None
    ) -> list[dict[str, Any]]:
        """Scores of those who come later: without a second of them, and after some minutes."""
        rows, done = [], 0
        for person in self.new_people:
            tested = [
                one for one in self._of(person, "held_out_unseen") if one.span.group in self.films
            ]
            group, own = (self._reach(person, knows, tested[0]) for knows in ("group", "features"))
            rows += [
                {"people": "new", "person": person, "way": way, "minutes": 0.0, "r": r, **group}
                for way, r in (
                    ("unseen", self._model(self.model.encoder, self.data, tested)),
                    ("ridge of all", self._ridge(self.ridge_of_all, tested)),
                )
            ]
            order = {run.name: number for number, run in enumerate(prepared.runs)}
            # First are, here as where a model is adapted, those of the first runs.
            known = sorted(
                self._of(person, "held_out_seen"),
                key=lambda one: (order[one.run.name], one.span.begin),
            )
            names = {one.run.name for one in known}
            kept = dataclasses.replace(
                prepared, runs=tuple(run for run in prepared.runs if run.name in names)
            )
            for wanted in minutes:
                adapted, _ = adapt(self.model, kept, [person], AdaptSettings(minutes=wanted))
                own_row = self._with_row(person, tested)
                first = _first_minutes(known, wanted)
                for way, r in (
                    ("adapted", self._model(adapted.encoder, own_row, own_row.side("test"))),
                    ("ridge from scratch", self._ridge(fit_ridge(self.data, first), tested)),
                ):
                    rows.append({"people": "new", "person": person, "way": way,
                                 "minutes": wanted, "r": r, **own})  # fmt: skip
                done += 1
                if progress is not None:
                    progress("adapting", done, len(minutes) * len(self.new_people))
        return rows

    def _of(self, person: str, side: str) -> list[Stretch]:
        return [one for one in self.data.side(side) if one.span.subject == person]

    def _with_row(self, person: str, stretches: Sequence[Stretch]) -> TrainingData:
        """Stretches of a person who has the first row of the head."""
        data = self.data
        return TrainingData(
            data.studies,
            {one.span: "test" for one in stretches},
            data.series,
            {f"{self.study.name}/{person}": 0},
            frequency=data.frequency,
            length=data.length,
            step=data.step,
            lag=data.lag,
        )

    def _model(self, encoder: Encoder, data: TrainingData, stretches: Sequence[Stretch]) -> float:
        return _mean_r(predictions(encoder, data, stretches, self.model.device))

    def _ridge(self, ridge: Ridge, stretches: Sequence[Stretch]) -> float:
        rows = ((one, *delayed_rows(self.data, one)) for one in stretches)
        return _mean_r((one, ridge.predict(x), y) for one, x, y in rows)

    def _reach(self, person: str, knows: str, stretch: Stretch) -> dict[str, float]:
        """Score of one who knows the truth, and of the best linear model, in the test films."""

        seconds = stretch.run.origin + np.arange(stretch.first, stretch.stop)
        prepared = preparation(seconds, self.study.repetition_time)
        ceiling, linear = (
            float(
                np.nanmean(
                    self.study.ceiling(
                        person, knows, linear=linear, films=self.films, prepare=prepared
                    )
                )
            )
            for linear in (False, True)
        )
        return {"ceiling": ceiling, "linear": linear}


def _mean_r(rows: Iterable[tuple[Stretch, np.ndarray, np.ndarray]]) -> float:
    """Mean over outputs and stretches of the correlation of predicted with measured rows."""
    found = []
    for _, predicted, measured in rows:
        one = Moments()
        one.add(predicted, measured)
        found.append(np.nanmean(one.correlation()))
    return float(np.mean(found))


def _first_minutes(stretches: Sequence[Stretch], minutes: float) -> list[Stretch]:
    """The first minutes of stretches, in their order."""
    left, found = round(minutes * 60), []
    for one in stretches:
        n = min(one.stop - one.first, left)
        if n > 0:
            found.append(dataclasses.replace(one, stop=one.first + n))
        left -= n
    return found
