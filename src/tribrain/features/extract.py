"""From a stimulus to the feature series that an encoder reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tribrain.errors import InputError
from tribrain.features.backbones import BackboneFolder, find_backbone
from tribrain.features.grid import Span, chunks, series_on_grid, vectors_on_grid
from tribrain.features.pieces import Extractors, Pieces, pieces_of
from tribrain.features.recipe import FeatureRecipe
from tribrain.features.store import Store
from tribrain.files import sha256
from tribrain.stimuli.media import AudioTrack, VideoTrack
from tribrain.stimuli.stimulus import Stimulus

Progress = Callable[[str, int, int], None]
"""Called with a modality, the number of pieces done and their total."""


@dataclass
class Reuse:
    """How many pieces of a modality came from the store, and how many were computed."""

    reused: int = 0
    computed: int = 0


class FeatureSeries(dict[str, np.ndarray]):
    """Feature series by modality, (layers, dim, time), that know the stimulus they describe, the
    backbones they were made with (none for simple features), and what of them was reused.
    """

    def __init__(
        self,
        stimulus: Stimulus,
        series: Mapping[str, np.ndarray],
        backbones: Mapping[str, BackboneFolder] | None = None,
        reuse: Mapping[str, Reuse] | None = None,
    ) -> None:
        super().__init__(series)
        self.stimulus = stimulus
        self.backbones = dict(backbones or {})
        self.reuse = dict(reuse or {})


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
    extractors: Extractors,
    modalities: Iterable[str],
    *,
    window: float,
    store: Store | None = None,
    keep_loaded: bool = False,
    progress: Progress | None = None,
) -> FeatureSeries:
    """Extract the features of the modalities that a stimulus has.

    Parameters
    ----------
    stimulus : Stimulus
    extractors : Extractors
    modalities : iterable of {"text", "audio", "video"}
        Those wanted; any that the stimulus lacks is passed over.
    window : float
        Seconds of the encoder's window; the last one is padded with zeros.
    store : Store, optional
        Where pieces are looked up and kept.
    keep_loaded : bool
        Keep each modality's backbone in memory for the next stimulus.
    progress : callable, optional

    Returns
    -------
    FeatureSeries
        Arrays (layers, dim, time), float32, at ``recipe.frequency`` samples a second over the whole
        grid of windows.
    """
    recipe = extractors.recipe
    on_grid = {"duration": stimulus.duration, "window": window, "frequency": recipe.frequency}
    result, reuse = {}, {}
    for modality in modalities:
        if modality not in stimulus.modalities:
            continue
        pieces = pieces_of(stimulus, modality, extractors, store.checksum if store else sha256)
        reuse[modality] = Reuse()
        arrays = compute_pieces(pieces, store, reuse[modality], _named(progress, modality))
        if pieces.of_words:
            vectors = (vector for block in arrays for vector in block)
            result[modality] = vectors_on_grid(pieces.spans, vectors, **on_grid)
        else:
            series = zip(pieces.spans, arrays, strict=True)
            result[modality] = series_on_grid(series, **on_grid)
        if not keep_loaded:
            extractors.release(modality)
    folders = {name: extractors.folders[name] for name in result if name in extractors.folders}
    return FeatureSeries(stimulus, result, folders, reuse)


def compute_pieces(
    pieces: Pieces,
    store: Store | None,
    reuse: Reuse | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[np.ndarray]:
    """Arrays of all pieces, in order: those that the store holds, and the others computed.

    What is computed is kept as soon as it is there, so that work which is cut short goes on from
    where it was.
    """
    reuse = Reuse() if reuse is None else reuse
    keys, total, done = pieces.keys, sum(pieces.units), 0

    def tick(units: int) -> None:
        nonlocal done
        done += units
        if progress is not None:
            progress(done, total)

    known = [store is not None and key is not None and key in store for key in keys]
    missing = [number for number, there in enumerate(known) if not there]
    computed = pieces.compute(missing, tick) if missing else iter(())
    for number, key in enumerate(keys):
        array = None
        if known[number]:
            assert store is not None
            assert key is not None
            array = store.get(key)  # None if it turns out to be damaged
        if array is not None:
            reuse.reused += 1
            tick(pieces.units[number])
        else:
            array = next(pieces.compute([number], tick) if known[number] else computed)
            reuse.computed += 1
            if store is not None and key is not None:
                store.put(key, array)
        yield array


def find_backbones(
    recipe: FeatureRecipe, modalities: Iterable[str], folder: str | Path | None
) -> dict[str, BackboneFolder]:
    """Find the backbones of the modalities, all of them before any work starts."""
    if folder is not None and not Path(folder).is_dir():
        raise InputError(f"--backbones {folder} is not a folder")
    return {
        name: find_backbone(recipe.backbones[name], folder, recipe.revisions.get(name))
        for name in modalities
        if name in recipe.backbones
    }


def _named(progress: Progress | None, modality: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(modality, done, total)
