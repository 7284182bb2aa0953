"""The pieces that a stimulus is worked out in: what each depends on, and how it is computed.

A piece is what the store keeps: a chunk of a medium, a minute of simple features, a stretch of
words. Its key names the content of the medium, the extractor with its settings and version, and
the model with its revision, so that moving or renaming a file changes nothing and editing it does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tribrain.errors import InputError
from tribrain.features import audio, sound, text, video, visual
from tribrain.features.backbones import (
    Backbone,
    BackboneFolder,
    load_backbone,
    load_feature_extractor,
    load_picture_settings,
    load_tokenizer,
    pick_device,
    pick_precision,
)
from tribrain.features.families import picture_size
from tribrain.features.frames import FramePreparation
from tribrain.features.grid import Span, chunks, n_rows, n_samples
from tribrain.features.lexical import LEXICAL, lexical_series
from tribrain.features.recipe import FeatureRecipe
from tribrain.stimuli.media import AudioTrack, VideoTrack, iter_audio
from tribrain.stimuli.stimulus import Stimulus
from tribrain.stimuli.words import running_text

_SIMPLE_SECONDS = 60  # of a piece of simple features

Checksum = Callable[[Path], str]
Tick = Callable[[int], None]
"""Called with the number of units (clips, words, chunks) done since it was last called."""


@dataclass(frozen=True)
class Pieces:
    """Pieces of one modality of a stimulus.

    Attributes
    ----------
    keys : list of dict
        What each piece depends on, as plain data; None for what is too cheap to keep.
    units : list of int
        How much work each piece is, in units of which `compute` tells when they are done.
    compute : callable
        Numbers of pieces, ascending, and a `Tick`, to an iterator over their arrays: (layers, dim,
        samples), or (words, layers, dim) of words.
    spans : list of (start, duration)
        When each piece lies, on the stimulus clock; or each word.
    of_words : bool
        Whether the pieces hold a vector a word rather than a series.
    """

    keys: list[dict[str, Any] | None]
    units: list[int]
    compute: Callable[[Sequence[int], Tick], Iterator[np.ndarray]]
    spans: list[Span]
    of_words: bool = False


@dataclass
class Extractors:
    """What turns stimuli into features: a recipe, its backbones and where they run.

    Each backbone is loaded when it is first needed and stays until it is released.

    Attributes
    ----------
    recipe : FeatureRecipe
    folders : dict
        Folder of each modality's backbone (`tribrain.features.extract.find_backbones`).
    device : str
    precision : {"auto", "fp32", "bf16", "fp16"}
    compile_blocks : bool
        Use ``torch.compile``.
    """

    recipe: FeatureRecipe
    folders: dict[str, BackboneFolder] = field(default_factory=dict)
    device: str = "cpu"
    precision: str = "auto"
    compile_blocks: bool = False
    _loaded: dict[str, tuple[Backbone, Any]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        check_simple_features(self.recipe)
        self.device = pick_device(self.device)
        self.precision = pick_precision(self.precision, self.device)

    def load(self, modality: str) -> tuple[Backbone, Any]:
        """Backbone of a modality, and what makes its inputs ready."""
        if modality not in self._loaded:
            folder = self.folders[modality]
            backbone = load_backbone(
                folder,
                modality,
                self.recipe,
                self.device,
                precision=self.precision,
                compile_blocks=self.compile_blocks,
            )
            ready: Any
            if modality == "text":
                ready = load_tokenizer(folder)
            elif modality == "audio":
                ready = audio.SoundReader(backbone, load_feature_extractor(folder))
            else:
                edge = picture_size(backbone.model.config)
                ready = FramePreparation.of(load_picture_settings(folder), edge)
            self._loaded[modality] = backbone, ready
        return self._loaded[modality]

    def release(self, modality: str) -> None:
        """Let go of a modality's backbone."""
        self._loaded.pop(modality, None)


def check_simple_features(recipe: FeatureRecipe) -> None:
    """Refuse a recipe that names a simple feature which there is not."""
    known = {"text": LEXICAL, "audio": tuple(sound.SOUND), "video": tuple(visual.VISUAL)}
    for modality, names in recipe.simple.items():
        for name in names:
            if name not in known[modality]:
                raise InputError(
                    f"feature {name!r} of {modality} is unknown; known: "
                    f"{', '.join(known[modality])}"
                )


def pieces_of(
    stimulus: Stimulus, modality: str, extractors: Extractors, checksum: Checksum
) -> Pieces:
    """Pieces of a modality that a stimulus has and the recipe describes.

    Parameters
    ----------
    checksum : callable
        Path to SHA-256 of the file (`tribrain.features.store.Store.checksum`).
    """
    if modality in extractors.recipe.simple:
        if modality == "text":
            return _simple_text(stimulus, extractors.recipe)
        return _simple_medium(stimulus, modality, extractors.recipe, checksum)
    if modality not in extractors.recipe.backbones:
        known = ", ".join(extractors.recipe.modalities)
        raise InputError(f"the recipe has no features of {modality}; it has: {known}")
    recipe = extractors.recipe
    shared = {
        "model": extractors.folders[modality].identity(checksum),
        "depths": list(recipe.depths),
        "aggregation": recipe.aggregation,
        "pooling": recipe.pooling,
        "precision": extractors.precision,
    }
    if modality == "text":
        return _text(stimulus, extractors, shared)
    return _medium(stimulus, modality, extractors, shared, checksum)


def _text(stimulus: Stimulus, extractors: Extractors, shared: dict[str, Any]) -> Pieces:
    recipe = extractors.recipe
    running, spans = running_text(stimulus.words, stimulus.text)
    parts = text.text_pieces(
        running,
        spans,
        limit=recipe.context_words,
        stride=recipe.context_stride,
        exact=recipe.exact_context,
    )

    def key(part: text.TextPiece) -> dict[str, Any]:
        first = min(part.starts)
        last = spans[part.words[-1]][1]
        places = [
            (spans[number][0] - first, spans[number][1] - first, start - first, window - first)
            for number, start, window in zip(part.words, part.starts, part.windows, strict=True)
        ]
        return {
            "extractor": "text",
            "version": text.VERSION,
            "text": _digest(running[first:last]),
            "words": _digest(repr(places)),
            "n_words": len(places),
            **shared,
        }

    def compute(numbers: Sequence[int], tick: Tick) -> Iterator[np.ndarray]:
        backbone, tokenizer = extractors.load("text")
        for number in numbers:
            vectors = text.piece_vectors(backbone, tokenizer, running, spans, parts[number])
            tick(len(parts[number].words))
            yield vectors

    times = [(word.start, word.duration) for word in stimulus.words]
    units = [len(part.words) for part in parts]
    return Pieces([key(part) for part in parts], units, compute, times, of_words=True)


def _medium(
    stimulus: Stimulus,
    modality: str,
    extractors: Extractors,
    shared: dict[str, Any],
    checksum: Checksum,
) -> Pieces:
    recipe = extractors.recipe
    track = stimulus.audio if modality == "audio" else stimulus.video
    assert track is not None, f"{stimulus.name} has no {modality}"
    cut = chunks(track.duration)
    settings: dict[str, Any] = {"frequency": recipe.frequency}
    if modality == "video":
        settings["clip_seconds"] = recipe.clip_seconds
    keys: list[dict[str, Any] | None] = [
        {
            "extractor": modality,
            "version": audio.VERSION if modality == "audio" else video.VERSION,
            **_content(track, checksum),
            "start": start,
            "duration": duration,
            **settings,
            **shared,
        }
        for start, duration in cut
    ]

    def compute(numbers: Sequence[int], tick: Tick) -> Iterator[np.ndarray]:
        wanted = [cut[number] for number in numbers]
        if isinstance(track, AudioTrack):
            for series in _sound_chunks(extractors, track, wanted):
                tick(1)
                yield series
            return
        backbone, preparation = extractors.load("video")
        yield from video.clip_vectors(
            backbone,
            preparation,
            track,
            wanted,
            frequency=recipe.frequency,
            seconds=recipe.clip_seconds,
            tick=tick,
        )

    clips = [n_samples(length, recipe.frequency) for _, length in cut]
    units = clips if modality == "video" else [1] * len(cut)
    return Pieces(keys, units, compute, [(track.start + start, length) for start, length in cut])


def _sound_chunks(
    extractors: Extractors, track: AudioTrack, wanted: Sequence[Span]
) -> Iterator[np.ndarray]:
    _, reader = extractors.load("audio")
    waiting: list[tuple[np.ndarray, int]] = []
    sounds = iter_audio(track, wanted, mono=True)
    for (_, duration), samples in zip(wanted, sounds, strict=True):
        waiting.append((samples[0], n_samples(duration, extractors.recipe.frequency)))
        if len(waiting) == reader.chunks_per_batch:
            yield from reader.series(waiting, track.rate)
            waiting = []
    yield from reader.series(waiting, track.rate)


def _simple_medium(
    stimulus: Stimulus, modality: str, recipe: FeatureRecipe, checksum: Checksum
) -> Pieces:
    track = stimulus.audio if modality == "audio" else stimulus.video
    assert track is not None, f"{stimulus.name} has no {modality}"
    names, frequency = recipe.simple[modality], recipe.frequency
    # Not past the last row of a response, where the start of the track is rounded up.
    room = round(n_rows(stimulus.duration) * frequency) - round(track.start * frequency)
    total = min(int(np.ceil(round(track.duration * frequency, 6))), room)
    step = round(_SIMPLE_SECONDS * frequency)
    cut = [(first, min(step, total - first)) for first in range(0, total, step)]
    keys: list[dict[str, Any] | None] = [
        {
            "extractor": f"simple {modality}",
            "version": sound.VERSION if modality == "audio" else visual.VERSION,
            **_content(track, checksum),
            "features": list(names),
            "first": first,
            "samples": n,
            "lasts": track.duration,
            "frequency": frequency,
        }
        for first, n in cut
    ]

    def compute(numbers: Sequence[int], tick: Tick) -> Iterator[np.ndarray]:
        wanted = [cut[number] for number in numbers]
        if isinstance(track, AudioTrack):
            made = sound.sound_pieces(track, names, wanted, frequency)
        else:
            made = visual.visual_pieces(track, names, wanted, frequency)
        for series in made:
            tick(1)
            yield series[None]

    spans = [(track.start + first / frequency, n / frequency) for first, n in cut]
    return Pieces(keys, [1] * len(cut), compute, spans)


def _simple_text(stimulus: Stimulus, recipe: FeatureRecipe) -> Pieces:
    n = int(np.ceil(round(stimulus.duration * recipe.frequency, 6)))

    def compute(numbers: Sequence[int], tick: Tick) -> Iterator[np.ndarray]:
        names = recipe.simple["text"]
        tick(1)
        yield lexical_series(stimulus.words, n, recipe.frequency, stimulus.language, names)[None]

    return Pieces([None], [1], compute, [(0.0, n / recipe.frequency)])


def _content(track: VideoTrack | AudioTrack, checksum: Checksum) -> dict[str, Any]:
    """What a track is, whatever its file is called and wherever it lies.

    Of pictures: what each is, and from when on it is shown.
    """
    if isinstance(track, VideoTrack) and track.pictures:
        shown = [None if file is None else checksum(file) for file in track.pictures]
        moments = [round(time, 6) for time in track.frame_times.tolist()]
        return {"medium": _digest(repr(list(zip(moments, shown, strict=True)))), "stream": None}
    return {"medium": checksum(track.path), "stream": track.stream}


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()
