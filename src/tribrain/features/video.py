"""A film to a series of vectors, each of the seconds that end at its sample."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from tribrain.features.backbones import Backbone
from tribrain.features.families import frames_per_clip, tokens_per_picture
from tribrain.features.frames import FramePreparation, PreparedFrame, prepared_frames
from tribrain.features.grid import Span, n_samples
from tribrain.features.running import Batches, read_ahead
from tribrain.stimuli.media import VideoTrack

VERSION = 1  # of the numbers; part of the key of kept results

_READ_AHEAD = 64  # frames, made ready


def clip_frames(
    track: VideoTrack, chunk: Span, n: int, *, seconds: float, frames: int
) -> np.ndarray:
    """Numbers of the frames that each clip of a chunk shows.

    Clip k of n ends at ``k/n`` of the chunk; its frames are evenly spaced over the seconds that
    end there, and times before the chunk show the chunk's first frame.

    Returns
    -------
    ndarray (n, frames) of int
    """
    start, duration = chunk
    ends = duration * np.arange(1, n + 1) / n
    back = (frames - 1 - np.arange(frames)) * seconds / frames
    return track.frame_numbers(start + np.maximum(0.0, ends[:, None] - back))


def middle_frames(track: VideoTrack, chunk: Span, n: int) -> np.ndarray:
    """Number of the frame in the middle of each sample of a chunk, for models of pictures.

    Returns
    -------
    ndarray (n, 1) of int
    """
    start, duration = chunk
    middles = start + duration * (np.arange(n) + 0.5) / max(n, 1)
    return track.frame_numbers(middles)[:, None]


def clip_vectors(
    backbone: Backbone,
    preparation: FramePreparation,
    track: VideoTrack,
    chunks: Sequence[Span],
    *,
    frequency: float,
    seconds: float,
    clips_per_batch: int | None = None,
    tick: Callable[[int], None] | None = None,
) -> Iterator[np.ndarray]:
    """Series of chunks of a film: a vector of the clip's tokens, a clip a sample.

    The film is decoded once, in order, in a background thread; only the frames of the clips that
    wait are held. Clips that show the very same pictures (a still, black, a frozen film, the
    padded start of a chunk) run once.

    Parameters
    ----------
    chunks : sequence of (start, duration)
        Seconds from the start of the track, ascending.
    frequency : float
        Samples a second.
    seconds : float
        Length of film that a clip shows.
    clips_per_batch : int, optional
        Clips that run together; by default what memory is likely to take. It is halved as often
        as memory runs out.
    tick : callable, optional
        Called with the number of clips done since it was last called.

    Yields
    ------
    ndarray (layers, dim, n), float32
    """
    per_clip = frames_per_clip(backbone.model.config)
    plans = []
    for chunk in chunks:
        n = n_samples(chunk[1], frequency)
        if backbone.family.form == "picture":
            plans.append(middle_frames(track, chunk, n))
        else:
            plans.append(clip_frames(track, chunk, n, seconds=seconds, frames=per_clip))
    needed = np.unique(np.concatenate([plan.ravel() for plan in plans]))
    decoded = read_ahead(
        prepared_frames(track, needed.tolist(), preparation, backbone.device), _READ_AHEAD
    )
    run: Batches[list[torch.Tensor], np.ndarray] = Batches(
        lambda clips: _run(backbone, preparation, clips),
        clips_per_batch or likely_batch(backbone),
    )
    held: deque[PreparedFrame] = deque()
    known: dict[tuple[int, ...], np.ndarray] = {}  # vectors of the last chunk's clips
    tick = tick or (lambda _: None)
    try:
        for plan in plans:
            keys: list[tuple[int, ...]] = []
            ticked = 0
            vectors = dict(known)
            waiting: dict[tuple[int, ...], list[torch.Tensor]] = {}
            for numbers in plan.tolist():
                while not held or held[-1].number < numbers[-1]:
                    held.append(next(decoded))
                while held[0].number < numbers[0]:
                    held.popleft()
                shown = {frame.number: frame for frame in held}
                clip = [shown[number] for number in numbers]
                key = tuple(frame.picture for frame in clip)
                keys.append(key)
                if key not in vectors and key not in waiting:
                    waiting[key] = [frame.pixels for frame in clip]
                if len(waiting) == run.size:
                    vectors.update(zip(waiting, run(list(waiting.values())), strict=True))
                    waiting = {}
                    tick(len(keys) - ticked)
                    ticked = len(keys)
            vectors.update(zip(waiting, run(list(waiting.values())), strict=True))
            if len(keys) > ticked:
                tick(len(keys) - ticked)
            known = {key: vectors[key] for key in keys}
            if keys:
                yield np.stack([vectors[key] for key in keys], axis=-1)
            else:  # a chunk shorter than half a sample
                yield np.zeros((len(backbone.groups), backbone.width, 0), np.float32)
    finally:
        decoded.close()


def likely_batch(backbone: Backbone) -> int:
    """Clips that run together well.

    On a CPU as many as make up for small ones: one clip of a large model (8,192 tokens of 1,024
    numbers). On a GPU what half of its free memory is likely to hold, at some 40 numbers a token
    and unit of width that are alive at once.
    """
    config = backbone.model.config
    numbers = tokens_per_picture(config) * backbone.width
    if backbone.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(backbone.device)
        return int(np.clip(free / 2 / (40 * numbers * backbone.dtype.itemsize), 1, 64))
    return int(np.clip(2**23 // numbers, 1, 8))


def _run(
    backbone: Backbone, preparation: FramePreparation, clips: Sequence[list[torch.Tensor]]
) -> list[np.ndarray]:
    """Vectors (layers, dim) of clips, each of frames (3, height, width) of uint8."""
    pixels = preparation.normalise(torch.stack([torch.stack(clip) for clip in clips]))
    inputs: dict[str, Any]
    if backbone.family.form == "picture":
        inputs = {"pixel_values": pixels[:, 0]}
    elif backbone.model.config.model_type == "vjepa2":
        inputs = {"pixel_values_videos": pixels, "skip_predictor": True}
    else:
        inputs = {"pixel_values": pixels}
    layers = backbone.layers(inputs, backbone.pool)
    return list(torch.stack(layers, dim=1).cpu().numpy())
