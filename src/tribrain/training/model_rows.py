"""What trained models predict for rows of studies."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tribrain.encoder.ensembles import EnsembleModel
from tribrain.encoder.predict import TrainedModel
from tribrain.errors import InputError
from tribrain.stimuli.stimulus import Stimulus
from tribrain.studies.groups import Span
from tribrain.studies.prepared import PreparedStudy
from tribrain.training.data import Stretch, TrainingData
from tribrain.training.series import Series, stimulus_series
from tribrain.training.validation import predictions


def members_of(model: TrainedModel | EnsembleModel) -> tuple[TrainedModel, ...]:
    """The models that a model consists of: itself, or the members of an ensemble."""
    return model.members if isinstance(model, EnsembleModel) else (model,)


def check_space(model: TrainedModel | EnsembleModel, studies: Sequence[PreparedStudy]) -> None:
    """Refuse studies in another space than a model predicts."""
    space = model.space
    for study in studies:
        if (study.space.name, study.space.size) != (space.name, space.size):
            raise InputError(
                f"{study.name} is in {study.space.name} ({study.space.size} values) and "
                f"{model.name} predicts {space.name} ({space.size})"
            )


class ModelledRows:
    """Spans of studies as each of several models reads and predicts them.

    Parameters
    ----------
    models : sequence of TrainedModel
        Of one space and lag. Those that read the same features share them.
    studies : sequence of PreparedStudy
        In the space of the models.
    spans : mapping of Span to str
        What is predicted, with its side.

    Raises
    ------
    InputError
        A study in another space, or features of other shapes than a model reads.
    """

    def __init__(
        self,
        models: Sequence[TrainedModel],
        studies: Sequence[PreparedStudy],
        spans: Mapping[Span, str],
    ) -> None:
        self.models = tuple(models)
        check_space(models[0], studies)
        runs = {(span.study, span.run) for span in spans}
        studies = [  # no features are worked out of what is not predicted
            dataclasses.replace(
                study, runs=tuple(run for run in study.runs if (study.name, run.name) in runs)
            )
            for study in studies
        ]
        shared: dict[str, Mapping[str, Series]] = {}
        self.data = []
        for model in models:
            key = repr((model.card.recipe, model.modalities))
            if key not in shared:
                shared[key] = _series(model, studies)
            self.data.append(_data(model, studies, spans, shared[key]))

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """Spans that have rows of BOLD, in their order; rows of the head are the first model's."""
        return self.data[0].stretches

    def predict(
        self, number: int, *, unseen: bool = False
    ) -> tuple[Stretch, list[np.ndarray], np.ndarray]:
        """Rows of one stretch as each model predicts them, and as they were measured.

        Parameters
        ----------
        number : int
            Of the stretch.
        unseen : bool
            Predict everyone by the row of people never seen; people whom a model does not know
            always are.

        Returns
        -------
        stretch, list of predicted (time, outputs), measured (time, outputs)
        """
        parts, measured = [], np.empty(0)
        for model, data in zip(self.models, self.data, strict=True):
            one = [data.stretches[number]]
            ((_, found, measured),) = predictions(
                model.encoder, data, one, model.device, unseen=unseen
            )
            parts.append(found)
        return self.stretches[number], parts, measured

    def predicted(self) -> Iterator[tuple[Stretch, list[np.ndarray], np.ndarray]]:
        """What `predict` gives, for each stretch."""
        return (self.predict(number) for number in range(len(self.stretches)))


def _series(model: TrainedModel, studies: Sequence[PreparedStudy]) -> dict[str, Series]:
    """Features of every stimulus, of the modalities that a model reads."""

    def extract(stimulus: Stimulus) -> Series:
        return Series(model.extract(stimulus), model.card.recipe.frequency)

    return {
        content: Series(
            {name: one.values[name] for name in model.modalities if name in one.values}, one.rate
        )
        for content, one in stimulus_series(studies, extract).items()
    }


def _data(
    model: TrainedModel,
    studies: Sequence[PreparedStudy],
    spans: Mapping[Span, str],
    series: Mapping[str, Series],
) -> TrainingData:
    length = round(model.card.window)
    data = TrainingData(
        studies,
        spans,
        series,
        model.card.subjects,
        frequency=model.card.recipe.frequency,
        length=length,
        step=length,
        lag=model.card.lag,
    )
    for name, dims in data.dims.items():
        if dims != model.encoder.feature_dims[name]:
            raise InputError(
                f"features of {name} in {', '.join(study.name for study in studies)} have (layers, "
                f"dimensions) {dims}; {model.name} reads {model.encoder.feature_dims[name]}"
            )
    return data
