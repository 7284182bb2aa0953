"""From a stimulus to the feature series that an encoder reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tribrain.features.audio import sound_series
from tribrain.features.backbones import (
    BackboneFolder,
    find_backbone,
    load_backbone,
    load_feature_extractor,
    load_tokenizer,
    load_video_settings,
)
from tribrain.features.grid import Span, chunks, n_samples, series_on_grid, vectors_on_grid
from tribrain.features.recipe import FeatureRecipe
from tribrain.features.text import word_vectors
from tribrain.features.video import FramePreparation, clip_vectors
from tribrain.stimuli.media import AudioTrack, VideoTrack, iter_audio
from tribrain.stimuli.stimulus import Stimulus
from tribrain.stimuli.words import running_text

Progress = Callable[[str, int, int], None]
"""Called with a modality, the number of pieces done and their total."""


class FeatureSeries(dict[str, np.ndarray]):
    """Feature series by modality, (layers, dim, time), that know the stimulus they describe and
    the backbones they were made with (none for simple features).
    """

    def __init__(
        self,
        stimulus: Stimulus,
        series: Mapping[str, np.ndarray],
        backbones: Mapping[str, BackboneFolder] | None = None,
    ) -> None:
        super().__init__(series)
        self.stimulus = stimulus
        self.backbones = dict(backbones or {})


def event_spans(stimulus: Stimulus, modality: str) -> list[Span]:
    """When the events of a modality start and how long they last: words, or chunks of a medium."""
    if modality == "text":
        return [(word.start, word.duration) for word in stimulus.words]
    track: VideoTrack | AudioTrack | None = getattr(stimulus, modality)
    if track is None:
        return []
    return [(track.start + start, duration) for start, duration in chunks(track.duration)]


def extract_features(
    stimulus: Stimulus,
    recipe: FeatureRecipe,
    modalities: Iterable[str],
    *,
    window: float,
    folders: dict[str, BackboneFolder],
    device: str = "cpu",
    progress: Progress | None = None,
) -> FeatureSeries:
    """Extract the features of the modalities that a stimulus has.

    Parameters
    ----------
    stimulus : Stimulus
    recipe : FeatureRecipe
    modalities : iterable of {"text", "audio", "video"}
        Those wanted; any that the stimulus lacks is passed over.
    window : float
        Seconds of the encoder's window; the last one is padded with zeros.
    folders : dict
        Folder of each modality's backbone (`find_backbones`).
    device : str
        Where the backbones run.
    progress : callable, optional

    Returns
    -------
    FeatureSeries
        Arrays (layers, dim, time), float32, at ``recipe.frequency`` samples a second over the whole
        grid of windows.
    """
    on_grid = {"duration": stimulus.duration, "window": window, "frequency": recipe.frequency}
    result = {}
    for modality in modalities:
        if modality not in stimulus.modalities:
            continue
        step = None if progress is None else _named(progress, modality)
        spans = event_spans(stimulus, modality)
        if modality == "text":
            vectors = _text(stimulus, recipe, folders["text"], device, step)
            result["text"] = vectors_on_grid(spans, vectors, **on_grid)
        else:
            extract = _audio if modality == "audio" else _video
            series = extract(stimulus, recipe, folders[modality], device, step)
            result[modality] = series_on_grid(zip(spans, series, strict=True), **on_grid)
    return FeatureSeries(stimulus, result, folders)


def find_backbones(
    recipe: FeatureRecipe, modalities: Iterable[str], folder: str | Path | None
) -> dict[str, BackboneFolder]:
    """Find the backbones of the modalities, all of them before any work starts."""
    return {
        name: find_backbone(recipe.backbones[name], folder, recipe.revisions.get(name))
        for name in modalities
    }


def _named(progress: Progress, modality: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(modality, done, total)


def _text(
    stimulus: Stimulus, recipe: FeatureRecipe, folder: BackboneFolder, device: str, step: Any
) -> np.ndarray:
    backbone = load_backbone(folder, "text", recipe, device)
    tokenizer = load_tokenizer(folder)
    running, spans = running_text(stimulus.words, stimulus.text)
    return word_vectors(
        backbone, tokenizer, running, spans, context_words=recipe.context_words, progress=step
    )


def _audio(
    stimulus: Stimulus, recipe: FeatureRecipe, folder: BackboneFolder, device: str, step: Any
) -> Iterator[np.ndarray]:
    assert stimulus.audio is not None
    backbone = load_backbone(folder, "audio", recipe, device)
    extractor = load_feature_extractor(folder)
    pieces = chunks(stimulus.audio.duration)
    for number, samples in enumerate(iter_audio(stimulus.audio, pieces)):
        n = n_samples(pieces[number][1], recipe.frequency)
        yield sound_series(backbone, extractor, samples, stimulus.audio.rate, n)
        if step is not None:
            step(number + 1, len(pieces))


def _video(
    stimulus: Stimulus, recipe: FeatureRecipe, folder: BackboneFolder, device: str, step: Any
) -> Iterator[np.ndarray]:
    assert stimulus.video is not None
    backbone = load_backbone(folder, "video", recipe, device)
    return clip_vectors(
        backbone,
        FramePreparation.of(load_video_settings(folder), backbone.model.config.crop_size),
        stimulus.video,
        chunks(stimulus.video.duration),
        frequency=recipe.frequency,
        seconds=recipe.clip_seconds,
        progress=step,
    )
