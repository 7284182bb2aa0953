"""A trained model: from a stimulus to a response."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tribrain.brain.response import Response
from tribrain.brain.spaces import Space, find_space
from tribrain.encoder.accuracy import Accuracy
from tribrain.encoder.checkpoints import ModelCard
from tribrain.encoder.inputs import gather_inputs, shared_modalities
from tribrain.encoder.network import Encoder
from tribrain.errors import InputError, InputWarning
from tribrain.features.backbones import pick_precision
from tribrain.features.extract import (
    FeatureSeries,
    Progress,
    extract_features,
    find_backbones,
)
from tribrain.features.grid import n_samples
from tribrain.features.pieces import Extractors
from tribrain.features.store import Store
from tribrain.stimuli.stimulus import Stimulus

WINDOWS_PER_BATCH = 8


class TrainedModel:
    """An encoder with the features it reads and the space it predicts.

    Attributes
    ----------
    card : ModelCard
    encoder : Encoder
        ``encoder(features, subject=None)``, features as (batch, layers, dim, time).
    precision : str
        Number format of the backbones; the encoder itself computes in single precision.
    store : Store or None
        Where features are kept between runs.
    accuracy : Accuracy or None
        How well each output is predicted, where that was measured.
    """

    def __init__(
        self,
        card: ModelCard,
        encoder: Encoder,
        *,
        backbones: str | Path | None = None,
        device: str = "cpu",
        precision: str = "auto",
        store: Store | None = None,
    ) -> None:
        self.card = card
        self.encoder = encoder.to(device)
        self.backbones = backbones
        self.device = device
        self.precision = pick_precision(precision, device)
        self.store = store
        self.accuracy: Accuracy | None = None

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities that the encoder reads."""
        return tuple(self.encoder.projectors)

    @property
    def subjects(self) -> tuple[str, ...]:
        """People the model was trained on, whose responses it can predict by name."""
        return tuple(self.card.subjects)

    @property
    def space(self) -> Space:
        """Space of the responses; the first where there are several."""
        return next(iter(self.spaces.values()))

    @property
    def spaces(self) -> dict[str, Space]:
        """Spaces that the model predicts, by name."""
        found = {}
        for name, held in self.encoder.spaces.items():
            space = find_space(name or self.card.space, held.n_outputs)
            found[name or space.name] = space
        return found

    def extract(
        self,
        stimulus: Stimulus,
        *,
        modalities: Iterable[str] | None = None,
        progress: Progress | None = None,
    ) -> FeatureSeries:
        """Extract the features of a stimulus.

        Parameters
        ----------
        stimulus : Stimulus
        modalities : iterable of str, optional
            Some of "text", "audio", "video"; by default all that model and stimulus share.
        progress : callable, optional
            Called with a modality, the pieces done and their total.

        Returns
        -------
        FeatureSeries
            A dict of arrays (layers, dim, time), float32, at 2 Hz (``card.recipe.frequency``) over
            whole windows, the last one padded.

        Raises
        ------
        InputError
            If the model was trained on feature series that a study brought, which nothing here
            works out of a stimulus.
        """
        wanted = shared_modalities(self.modalities, stimulus, modalities)
        self.check_extracts()
        folders = find_backbones(self.card.recipe, wanted, self.backbones)
        if "text" in wanted:
            self._say_how_much_context(len(stimulus.words))
        return extract_features(
            stimulus,
            Extractors(self.card.recipe, folders, self.device, self.precision),
            wanted,
            window=self.card.window,
            store=self.store,
            progress=progress,
        )

    def predict(
        self,
        stimulus: Stimulus | None = None,
        *,
        features: Mapping[str, np.ndarray] | None = None,
        duration: float | None = None,
        subject: str | None = None,
        modalities: Iterable[str] | None = None,
        overlap: float = 0.0,
        space: str | None = None,
        progress: Progress | None = None,
    ) -> Response:
        """Predict the response to a stimulus, or to features extracted before.

        Parameters
        ----------
        stimulus : Stimulus, optional
        features : mapping of str to ndarray (layers, dim, time), optional
            As `extract` gives them; plain arrays do as well.
        duration : float, optional
            Seconds to predict where only plain arrays are given; by default all they cover.
        subject : str, optional
            One of `subjects`; by default a person never seen.
        modalities : iterable of str, optional
            As in `extract`.
        overlap : float
            Seconds that neighbouring windows share; rows that two predict are cross-faded.
        space : str, optional
            One of `spaces`; by default that of the subject, or the first.

        Returns
        -------
        Response
        """
        space, row = self._row(subject, space)
        window = self.card.window
        if not 0 <= overlap < window:
            raise InputError(f"overlap {overlap:g} s: 0 or more and under {window:g} s fits")
        if round(overlap) != overlap:
            raise InputError(f"overlap {overlap:g} s: whole seconds fit (one row a second)")
        inputs = gather_inputs(
            stimulus,
            features,
            duration,
            modalities,
            self.card.recipe.frequency,
            {name: dims for name, dims in self.encoder.feature_dims.items() if dims is not None},
            lambda given: self.extract(given, modalities=modalities, progress=progress),
        )
        response = Response.from_rows(
            self._run_windows(inputs.features, inputs.n_rows, row, int(overlap)),
            lag=self.card.lag,
            stimulus=inputs.covered,
            space=space,
            attrs={
                "model": self.card.name,
                "revision": self.card.revision,
                "licence": self.card.licence,
                "label": f"predicted by {self.card.name}, trained on data",
                "subject": subject or "unseen",
                "modalities": [name for name in self.modalities if name in inputs.features],
            },
            provenance={
                **inputs.source,
                "model": self.describe(),
                "settings": {
                    "overlap_s": float(overlap),
                    "device": self.device,
                    "precision": self.precision,
                },
            },
        )
        return with_accuracy(response, self.accuracy)

    def check_extracts(self) -> None:
        """Refuse a model that no feature of a stimulus can be worked out for."""
        if not self.card.recipe.modalities:
            raise InputError(
                f"{self.name} was trained on feature series that its study brought "
                f"({self.card.licence}), which cannot be worked out of a film; "
                "predict(features=...) in Python takes such series"
            )

    def describe(self) -> dict[str, Any]:
        """What the model is, as plain data, with its accuracy where that is known."""
        return dataclasses.asdict(self.card) | told_accuracy(self.accuracy, self.spaces)

    def _say_how_much_context(self, n_words: int) -> None:
        """Long texts are the one place where the numbers are not those of the published way."""
        recipe = self.card.recipe
        most = recipe.context_words + recipe.context_stride - 1
        if n_words > recipe.context_words and not recipe.exact_context:
            warnings.warn(
                f"words after the first {recipe.context_words} are read with up to {most} words "
                f"of context; --exact-context gives each {recipe.context_words}, as published, "
                "and is slow",
                InputWarning,
                stacklevel=3,
            )

    def _row(self, subject: str | None, space: str | None) -> tuple[str, int]:
        """Name of the space, and row of the head, that predict a subject."""
        held = dict(zip(self.spaces, self.encoder.spaces.values(), strict=True))
        if space is not None and space not in held:
            raise InputError(f"{self.name} has no space {space!r}; it has {', '.join(held)}")
        if subject is None:
            name = next(iter(held)) if space is None else space
            return name, held[name].rows[-1]
        if subject not in self.card.subjects:
            known = ", ".join(self.subjects) or "none: it predicts people never seen alone"
            raise InputError(f"subject {subject!r} is unknown to {self.name}; known: {known}")
        row = self.card.subjects[subject]
        (own,) = (name for name, one in held.items() if row in one.rows)
        if space not in (None, own):
            raise InputError(f"subject {subject!r} is predicted in {own}, not in {space}")
        return own, row

    def _run_windows(
        self, features: Mapping[str, np.ndarray], rows: int, subject: int, overlap: int
    ) -> np.ndarray:
        """Predict window by window; (rows, outputs) float32."""
        window, frequency = self.card.window, self.card.recipe.frequency
        length = self.encoder.n_output_samples
        if length != round(window):
            raise InputError(
                f"{self.name} gives {length} rows for a window of {window:g} s; "
                "one row a second is expected"
            )
        size = n_samples(window, frequency)
        hop = length - overlap
        starts = [hop * number for number in range(1 + max(0, math.ceil((rows - length) / hop)))]
        # Each window fades in and out over the overlap; dividing by the sum of the weights makes
        # this a cross-fade where two windows meet and changes nothing where there is one.
        row = np.arange(length)
        fade = np.minimum(np.minimum(row + 1, length - row), overlap + 1)[:, None]
        sizes = {row: one.n_outputs for one in self.encoder.spaces.values() for row in one.rows}
        total = np.zeros((rows, sizes[subject]), np.float32)
        weights = np.zeros((rows, 1), np.float32)
        for first in range(0, len(starts), WINDOWS_PER_BATCH):
            batch = starts[first : first + WINDOWS_PER_BATCH]
            inputs = {
                name: torch.stack(
                    [_window(series, round(start * frequency), size) for start in batch]
                ).to(self.device)
                for name, series in features.items()
            }
            with torch.inference_mode():
                outputs = self.encoder(inputs, subject).float().cpu().numpy()
            for start, output in zip(batch, outputs, strict=True):
                kept = min(length, rows - start)
                total[start : start + kept] += output[:kept] * fade[:kept]
                weights[start : start + kept] += fade[:kept]
        return total / weights


def with_accuracy(response: Response, accuracy: Accuracy | None) -> Response:
    """A response with the accuracy of its model, where there is one in the response's space."""
    if accuracy is None or not accuracy.fits(response.space):
        return response
    return response.with_accuracy(accuracy.values, accuracy.labels())


def told_accuracy(accuracy: Accuracy | None, spaces: Mapping[str, Space]) -> dict[str, Any]:
    """What a model's description says of its accuracy; nothing where there is none."""
    return {} if accuracy is None else {"accuracy": accuracy.summary(spaces[accuracy.space])}


def _window(series: np.ndarray, first: int, size: int) -> torch.Tensor:
    """Samples `first` to ``first + size`` of a series (layers, dim, time), zeros past its end."""
    piece = series[..., first : first + size]
    missing = size - piece.shape[-1]
    return torch.from_numpy(np.pad(piece, ((0, 0), (0, 0), (0, missing)))).float()
