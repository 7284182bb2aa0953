"""One evaluation of a model on its way: what is read, fitted and predicted, in which order."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tribrain
from tribrain.brain.haemodynamics import LAG
from tribrain.brain.summaries import cortex_mask
from tribrain.encoder.ensembles import EnsembleModel
from tribrain.encoder.textbook import FEATURES, FREQUENCY, TextbookModel
from tribrain.errors import InputError, InputWarning
from tribrain.evaluation.baselines import TOLD, Setting, make_baselines
from tribrain.evaluation.baselines import nuisance_floor as floor_estimator
from tribrain.evaluation.controls import LEAST_SHIFT
from tribrain.evaluation.evaluation import NUISANCE, SHIFTED, UNSEEN
from tribrain.evaluation.fits import (
    Fitted,
    Fold,
    Rows,
    cross_validation,
    fit_mean,
    fit_own,
    in_blocks,
    one_fold,
)
from tribrain.evaluation.nuisance import nuisance_of
from tribrain.evaluation.reduction import MOST_COLUMNS
from tribrain.evaluation.rows import Part, by_cell, measured_rows, parts_of
from tribrain.evaluation.scoring import BOLD, PEOPLE, Scorer, Way, mean_score
from tribrain.evaluation.tested import UNKNOWN, Tested
from tribrain.evaluation.ways import (
    TEXTBOOK,
    Model,
    model_key,
    predict_with_model,
    predict_with_textbook,
)
from tribrain.evaluation.work import Work
from tribrain.features.extract import Progress
from tribrain.studies.groups import Span
from tribrain.studies.prepared import PreparedStudy
from tribrain.training.data import TrainingData
from tribrain.training.model_rows import ModelledRows, members_of
from tribrain.training.run_files import checksums
from tribrain.training.series import Series, stimulus_series

LEAST_ROWS = 20
"""Rows of a part below which it is not scored: a correlation of fewer says little."""
OF_MEAN = ", unseen"
"""After the name of a baseline that was fitted to the mean of people."""


class Job:
    """One evaluation of a model.

    Parameters
    ----------
    model : TextbookModel, TrainedModel or EnsembleModel
    study : PreparedStudy
    tested : Tested
    folder : Path
        Of what is kept on the way.
    asked : sequence of str
        Baselines by name.
    controls : bool
    lag : float
        Seconds by which the BOLD is read late.
    seed : int
    progress : callable, optional

    Attributes
    ----------
    data : TrainingData
        Of the features that baselines read.
    parts : list of Part
        Those that are tested, numbered as the stretches of `data`.
    main : list of Part
        Of these, those of people that the model was trained on; all where there are none.
    held_out : frozenset of str
        People that it was not trained on, where that is known.
    folds : list of Fold
    crossed : bool
        Whether baselines are fitted to other parts of what is tested.
    scorer : Scorer
    shared : bool
        Whether any two people were shown the same.
    notes : list of str

    Raises
    ------
    InputError
        If there is too little to score, or the model does not read what was shown.
    """

    def __init__(
        self,
        model: Model,
        study: PreparedStudy,
        tested: Tested,
        folder: Path,
        *,
        asked: Sequence[str],
        controls: bool,
        lag: float,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> None:
        self.model, self.study, self.tested = model, study, tested
        self.asked, self.controls, self.lag, self.seed = tuple(asked), controls, lag, seed
        self.progress = progress
        self.notes = list(tested.notes)
        self._done: dict[str, int] = {}
        self._read()
        self._choose()
        self.work = Work(folder, self._key())
        self.scorer = Scorer(self.work, self.parts, cortex_mask(study.space))
        for part in self.parts:
            if not self.work.has(BOLD, part.number):
                stretch = self.data.stretches[part.number]
                self.work.put(measured_rows(self.data, stretch), BOLD, part.number)
            self.tick("reading", len(self.parts))
        self.shared = self.scorer.add_people()

    def _read(self) -> None:
        """Features of what was shown, and the parts that they go with."""
        spans = {**self.tested.fitted, **self.tested.tested}
        self.rows: ModelledRows | None = None
        if isinstance(self.model, TextbookModel):
            self.data = self._textbook_data(self.model, spans)
        else:
            self.rows = ModelledRows(members_of(self.model), [self.study], spans)
            self.data = self.rows.data[0]
        if not self.tested.fitted and len({span.group for span in spans}) == 1:
            for data in [self.data] if self.rows is None else self.rows.data:
                data.stretches = in_blocks(data.stretches, LEAST_ROWS)
        self.everything = parts_of(self.data, self.data.stretches)

    def _choose(self) -> None:
        """Parts that are tested and fitted to."""
        scored = [part for part in self.everything if self._span(part) in self.tested.tested]
        fitted = [part for part in self.everything if self._span(part) in self.tested.fitted]
        self.parts = [part for part in scored if part.rows >= LEAST_ROWS]
        if not self.parts:
            raise InputError(
                f"no span of {self.study.name} that is tested has {LEAST_ROWS} rows of BOLD"
            )
        if len(self.parts) < len(scored):
            self.notes.append(
                f"{len(scored) - len(self.parts)} spans of fewer than {LEAST_ROWS} rows are not "
                "scored"
            )
        self.crossed = not fitted
        self.folds = (
            cross_validation(self.parts, seed=self.seed)
            if self.crossed
            else one_fold(fitted, self.parts)
        )
        trained = self.tested.people | set(self.model.subjects)
        people = {part.person for part in self.parts}
        self.main = [part for part in self.parts if part.person in trained] or self.parts
        unknown = UNKNOWN in self.tested.tested.values()
        self.held_out = frozenset() if unknown else frozenset(people - trained)

    def _span(self, part: Part) -> Span:
        return self.data.stretches[part.number].span

    def predict(self) -> tuple[list[Way], dict[str, str]]:
        """Everything that predicts, and by the name of each way that of its nuisance floor."""
        ways: list[Way] = []
        if isinstance(self.model, TextbookModel):
            ways.append(predict_with_textbook(self.model, self.data, self.parts, self.work, UNSEEN))
        else:
            assert self.rows is not None
            total = len(self.parts) + len(self.scorer.cells)
            ways += predict_with_model(
                self.model, self.rows, self.parts, self.work, self.ticker("model", total)
            )
        nuisance = self._nuisance_data()
        floor: list[Way] = []
        if nuisance is not None:
            floor = self._fit(NUISANCE, "word rate, loudness, motion energy: the floor", nuisance)
        fitted = [name for name in self.asked if name != TEXTBOOK]
        for name in fitted:
            ways += self._fit(name, TOLD[name], self.data)
        if TEXTBOOK in self.asked and not isinstance(self.model, TextbookModel):
            ways += self._textbook_way()
        best = self._best(fitted)
        if self.controls and best is not None:
            about = f"{best} fitted and tested on features moved by a minute or more: a control"
            ways += self._fit(SHIFTED, about, self.data, kind=best)
            if min(part.rows for part in self.parts) < 2 * LEAST_SHIFT:
                self.notes.append(
                    "shifted: features of spans shorter than two minutes are moved by a third of "
                    "their length or more, as nothing else fits"
                )
        by_kind = {one.unseen: one.name for one in floor}
        floors = {way.name: by_kind[way.unseen] for way in ways if way.unseen in by_kind}
        ways += floor
        if self.shared:
            ways.append(Way(PEOPLE, "the mean of the other people: a reference, not a bound"))
        return ways, floors

    def _fit(self, name: str, about: str, data: TrainingData, kind: str | None = None) -> list[Way]:
        """Fit a baseline to people and to their mean.

        Parameters
        ----------
        name, about : str
            Of the way.
        data : TrainingData
            With the features that it reads.
        kind : str, optional
            The baseline that is fitted to features that were moved in time.
        """
        rows = Rows(data, data.stretches, self.known(), shifted=None if kind is None else self.seed)
        wide = [one for one, size in rows.bands.items() if size > MOST_COLUMNS]
        note = (
            f"baselines read {MOST_COLUMNS} principal components (of the rows fitted to) of "
            f"{', '.join(wide)}"
        )
        if wide and note not in self.notes:
            self.notes.append(note)

        def make(bands: tuple[int, ...]) -> Any:
            setting = Setting(1.0, bands, self.study.space.size, lag=self.lag, seed=self.seed)
            if name == NUISANCE:
                return floor_estimator(setting)
            return make_baselines([kind or name], setting)[kind or name]

        people = len({part.person for part in self.parts})
        several = self.several()
        fits = len(self.folds) * (people if self.crossed else 1) if several else 0
        tick = self.ticker(name, people + fits)
        without = fit_own(rows, self.folds, Fitted(name, make), self.work, tick)
        ways = []
        if len(without) < people:
            ways.append(Way(name, f"{about}; fitted to each person", crossed=self.crossed))
        if several:
            other = Fitted(f"{name}{OF_MEAN}", make)
            fit_mean(rows, self.folds, other, self.work, leave_out=self.crossed, tick=tick)
            mean = "the mean of the others" if self.crossed else "the mean of people"
            ways.append(Way(other.name, f"{about}; fitted to {mean}", True, self.crossed))
        if without and kind is None:
            self.notes.append(
                f"{name}: {len(without)} of {people} people have too few rows of their own to fit "
                "to, or none"
            )
        return ways

    def known(self) -> list[Part]:
        """Parts that are fitted to or tested."""
        numbers = {n for fold in self.folds for n in (*fold.train, *fold.test)}
        return [part for part in self.everything if part.number in numbers]

    def several(self) -> bool:
        """Whether several people were shown the same of what is fitted to."""
        fitted = {n for fold in self.folds for n in fold.train}
        cells = by_cell(part for part in self.everything if part.number in fitted)
        return any(len({part.person for part in parts}) > 1 for parts in cells.values())

    def _best(self, names: Sequence[str]) -> str | None:
        """The baseline with the highest mean r."""
        means = {}
        for name in names:
            scores = {
                part.number: self.scorer.correlation(name, part)
                for part in self.main
                if self.scorer.predicted(name, part) is not None
            }
            if scores and len(names) > 1:
                people = mean_score(scores, self.main, self.scorer.mask)
                means[name] = float(np.mean(list(people.values())))
            elif scores:
                means[name] = 0.0
        return max(means, key=lambda name: means[name]) if means else None

    def _nuisance_data(self) -> TrainingData | None:
        store = getattr(self.model, "store", None)
        if isinstance(self.model, EnsembleModel):
            store = self.model.members[0].store
        runs = {stretch.run.name for stretch in self.data.stretches}
        shown = [run for run in self.study.runs if run.name in runs]
        series, notes = nuisance_of(shown, store=store, progress=self.progress)
        self.notes += notes
        return None if series is None else self._data_of(series)

    def _textbook_data(self, model: TextbookModel, spans: Mapping[Span, str]) -> TrainingData:
        names = {span.run for span in spans}
        runs = tuple(run for run in self.study.runs if run.name in names)
        study = dataclasses.replace(self.study, runs=runs)
        series = stimulus_series(
            [study], lambda stimulus: Series(model.extract(stimulus), FREQUENCY)
        )
        for one in series.values():
            for name, values in one.values.items():
                if name not in FEATURES or values.shape[1] != len(FEATURES[name]):
                    raise InputError(
                        f"{self.study.name} has feature series ({name}) in the place of stimuli, "
                        "which the textbook model does not read"
                    )
        return TrainingData(
            [study], spans, series, {}, frequency=FREQUENCY, length=1, step=1, lag=self.lag
        )

    def _textbook_way(self) -> list[Way]:
        store = getattr(self.model, "store", None)
        model = TextbookModel(store)
        reason = ""
        if self.study.space.name != model.space.name:
            reason = f"it predicts {model.space.name}"
        elif self.lag != LAG:
            reason = f"its rows are {LAG:g} s late, those of {self.model.name} {self.lag:g} s"
        if not reason:
            spans = {stretch.span: stretch.side for stretch in self.data.stretches}
            try:
                data = self._textbook_data(model, spans)
            except InputError as error:
                reason = str(error)
            else:
                data.stretches = self.data.stretches
                return [predict_with_textbook(model, data, self.parts, self.work)]
        self.notes.append(f"the textbook model is left out: {reason}")
        return []

    def _data_of(self, series: Mapping[str, Series]) -> TrainingData:
        """The same stretches with other series."""
        spans = {stretch.span: stretch.side for stretch in self.data.stretches}
        rate = next(iter(series.values())).rate
        with warnings.catch_warnings():  # what is said of the model's series was said
            warnings.simplefilter("ignore", InputWarning)
            data = TrainingData(
                self.data.studies,
                spans,
                series,
                {},
                frequency=rate,
                length=1,
                step=1,
                lag=self.lag,
            )
        data.stretches = self.data.stretches
        return data

    def tick(self, name: str, total: int) -> None:
        self._done[name] = self._done.get(name, 0) + 1
        if self.progress is not None:
            self.progress(name, min(self._done[name], total), total)

    def ticker(self, name: str, total: int) -> Callable[[], None]:
        return lambda: self.tick(name, total)

    def _key(self) -> str:
        """Of all that what is kept depends on."""
        told = {
            "version": tribrain.__version__,
            "model": model_key(self.model),
            "study": checksums(self.study),
            "splits": splits_told(self.everything, self.folds),
            "lag": self.lag,
            "seed": self.seed,
            "asked": [self.asked, self.controls],
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def splits_told(parts: Sequence[Part], folds: Sequence[Fold]) -> list[dict[str, Any]]:
    """Rows that were fitted to and tested: stretches of seconds of each stimulus, by fold."""
    found = []
    for number, fold in enumerate(folds):
        for part in parts:
            for side, rows in (("train", fold.train), ("test", fold.test)):
                if part.number not in rows:
                    continue
                edges = np.flatnonzero(np.diff(np.r_[0, rows[part.number].astype(int), 0]))
                for first, stop in edges.reshape(-1, 2).tolist():
                    found.append(
                        {
                            "study": part.study,
                            "run": part.run,
                            "subject": part.subject,
                            "begin": round(float(part.seconds[first]), 3),
                            "end": round(float(part.seconds[stop - 1]) + 1, 3),
                            "group": part.group,
                            "side": side if side == "train" or len(folds) > 1 else part.side,
                            "fold": number,
                            "rows": stop - first,
                        }
                    )
    return found
