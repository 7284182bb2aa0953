"""Film to a 2 Hz series: every sample sees the seconds of film that end at it.

The film is decoded once, in order. Each frame that any clip needs is resized and cropped once
and kept until the last clip that shows it is done, so memory does not grow with the film.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tribrain.features.backbones import Backbone
from tribrain.features.grid import Span, n_samples
from tribrain.stimuli.media import VideoTrack, iter_frames


@dataclass(frozen=True)
class FramePreparation:
    """How frames are made ready: shortest edge, square crop (pixels), mean and std of channels."""

    shortest_edge: int
    crop: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, settings: dict[str, Any], crop: int) -> FramePreparation:
        """Read a model folder's ``video_preprocessor_config.json``; `crop` is the model's size."""
        return cls(
            int(settings.get("size", {}).get("shortest_edge", int(crop * 256 / 224))),
            int(settings.get("crop_size", {}).get("height", crop)),
            tuple(settings.get("image_mean", (0.485, 0.456, 0.406))),
            tuple(settings.get("image_std", (0.229, 0.224, 0.225))),
        )


def resize_and_crop(frame: np.ndarray, preparation: FramePreparation) -> Tensor:
    """Resize a frame's shortest edge (bilinear, antialiased) and cut out its centre.

    Parameters
    ----------
    frame : ndarray (height, width, 3), uint8

    Returns
    -------
    Tensor (3, crop, crop), uint8
    """
    height, width = frame.shape[:2]
    edge, crop = preparation.shortest_edge, preparation.crop
    if height <= width:
        size = edge, int(edge * width / height)
    else:
        size = int(edge * height / width), edge
    image = torch.from_numpy(frame).permute(2, 0, 1)[None]
    image = functional.interpolate(image, size, mode="bilinear", antialias=True)[0]
    top, left = (size[0] - crop) // 2, (size[1] - crop) // 2
    return image[:, top : top + crop, left : left + crop].contiguous()


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


def clip_vectors(
    backbone: Backbone,
    preparation: FramePreparation,
    track: VideoTrack,
    chunks: Sequence[Span],
    *,
    frequency: float,
    seconds: float,
    clips_per_batch: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[np.ndarray]:
    """Series of each chunk of a film: the mean over a clip's tokens, a clip a sample.

    Clips that show the very same frames (a picture, the padded start of a chunk) run once.

    Parameters
    ----------
    chunks : sequence of (start, duration)
        Seconds from the start of the track, ascending.
    frequency : float
        Samples a second.
    seconds : float
        Length of film that a clip shows.
    clips_per_batch : int, optional
        Clips that run together; by default as many as make a batch of small ones worthwhile.

    Yields
    ------
    ndarray (layers, dim, n), float32
    """
    frames = int(backbone.model.config.frames_per_clip)
    plans = [
        clip_frames(track, chunk, n_samples(chunk[1], frequency), seconds=seconds, frames=frames)
        for chunk in chunks
    ]
    clips = [tuple(clip) for plan in plans for clip in plan.tolist()]
    batches = _batches(clips, clips_per_batch or _clips_per_batch(backbone))
    vectors: dict[tuple[int, ...], np.ndarray] = {}
    finished, last_use = 0, {clip: number for number, clip in enumerate(clips)}
    store = _prepared_frames(track, preparation, batches)
    for plan in plans:
        series = []
        for clip in map(tuple, plan.tolist()):
            while clip not in vectors:
                batch, pixels = next(store)
                vectors.update(zip(batch, _run(backbone, preparation, pixels), strict=True))
            series.append(vectors[clip])
            if last_use[clip] == finished:
                del vectors[clip]
            finished += 1
            if progress is not None:
                progress(finished, len(clips))
        if series:
            yield np.stack(series, axis=-1)
        else:  # a chunk shorter than half a sample
            yield np.zeros((len(backbone.groups), backbone.model.config.hidden_size, 0), np.float32)


def _clips_per_batch(backbone: Backbone) -> int:
    """One clip of a large model (8,192 tokens of 1,024 numbers), up to eight of a small one."""
    config = backbone.model.config
    tokens = (config.frames_per_clip // config.tubelet_size) * (
        config.crop_size // config.patch_size
    ) ** 2
    return int(np.clip(2**23 // (tokens * config.hidden_size), 1, 8))


def _batches(clips: list[tuple[int, ...]], size: int) -> list[list[tuple[int, ...]]]:
    distinct = list(dict.fromkeys(clips))
    return [distinct[first : first + size] for first in range(0, len(distinct), size)]


def _prepared_frames(
    track: VideoTrack,
    preparation: FramePreparation,
    batches: list[list[tuple[int, ...]]],
) -> Iterator[tuple[list[tuple[int, ...]], Tensor]]:
    """Decode in order; give each batch as soon as its frames are there, drop them after use.

    Yields
    ------
    batch : list of clips (tuples of frame numbers)
    pixels : Tensor (clips, frames, 3, crop, crop), uint8
    """
    needed = {number for batch in batches for clip in batch for number in clip}
    # Frames before this one are not shown again by any later batch.
    keep_from = [0] * len(batches)
    lowest = max(needed) + 1
    for place in range(len(batches) - 1, -1, -1):
        keep_from[place] = lowest
        lowest = min(lowest, min(min(clip) for clip in batches[place]))
    held: dict[int, Tensor] = {}
    decoded = iter_frames(track, needed)
    for batch, keep in zip(batches, keep_from, strict=True):
        latest = max(max(clip) for clip in batch)
        while latest not in held:
            number, frame = next(decoded)
            held[number] = resize_and_crop(frame, preparation)
        yield batch, torch.stack([torch.stack([held[n] for n in clip]) for clip in batch])
        held = {number: frame for number, frame in held.items() if number >= keep}


def _run(backbone: Backbone, preparation: FramePreparation, pixels: Tensor) -> np.ndarray:
    """Vectors (clips, layers, dim) of clips (clips, frames, 3, crop, crop) of uint8."""
    mean = torch.tensor(preparation.mean, device=backbone.device).view(3, 1, 1)
    std = torch.tensor(preparation.std, device=backbone.device).view(3, 1, 1)
    values = (pixels.to(backbone.device).float() / 255 - mean) / std
    with torch.inference_mode(), backbone.states(lambda hidden: hidden.mean(dim=1)) as layers:
        backbone.model(pixel_values_videos=values, skip_predictor=True)
    return torch.stack(layers, dim=1).float().cpu().numpy()
