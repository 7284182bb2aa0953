"""Frames made ready for a backbone: resized, cut to a square, and told apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tribrain.errors import InputError
from tribrain.features.running import read_ahead
from tribrain.stimuli.media import VideoTrack, iter_frames

_RESAMPLING = {2: "bilinear", 3: "bicubic"}  # as Pillow numbers them
_TOGETHER = 8  # frames that are resized together
_DECODED_AHEAD = 4  # frames in full size


@dataclass(frozen=True)
class FramePreparation:
    """How frames are made ready.

    Attributes
    ----------
    size : int or (height, width)
        Length of the shortest edge, or both edges, in pixels.
    crop : int or None
        Edge of the square that is cut out of the centre.
    mean, std : tuple of float
        Of the three channels, of values in [0, 1].
    resampling : {"bilinear", "bicubic"}
        Antialiased.
    """

    size: int | tuple[int, int]
    crop: int | None
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    resampling: str = "bilinear"

    @classmethod
    def of(cls, settings: dict[str, Any], edge: int) -> FramePreparation:
        """Read a model's own settings; `edge` is the size of picture that the model takes.

        Without settings: the shortest edge to 256/224 of the model's size, a crop of that size,
        ImageNet's mean and standard deviation (published recipe, *Video*).
        """
        size = settings.get("size", {"shortest_edge": int(edge * 256 / 224)})
        if isinstance(size, int):  # older files; without a crop, both edges are meant
            cropped = settings.get("do_center_crop")
            size = {"shortest_edge": size} if cropped else {"height": size, "width": size}
        shortest = size.get("shortest_edge")
        crop = settings.get("crop_size", edge)
        if isinstance(crop, dict):
            crop = crop.get("height", edge)
        resampling = settings.get("resample", 2)
        if resampling not in _RESAMPLING:
            raise InputError(f"resampling {resampling!r} of pictures is not known here")
        return cls(
            int(shortest) if shortest else (int(size["height"]), int(size["width"])),
            int(crop) if settings.get("do_center_crop", shortest is not None) else None,
            tuple(settings.get("image_mean", cls.mean)),
            tuple(settings.get("image_std", cls.std)),
            _RESAMPLING[resampling],
        )

    def resize(self, frames: Sequence[np.ndarray], device: torch.device) -> Tensor:
        """Resize frames and cut out their centre.

        Parameters
        ----------
        frames : sequence of ndarray (height, width, 3), uint8
            All of one shape.

        Returns
        -------
        Tensor (n, 3, height, width), uint8
            On `device`.
        """
        height, width = frames[0].shape[:2]
        if isinstance(self.size, tuple):
            size = self.size
        elif height <= width:
            size = self.size, int(self.size * width / height)
        else:
            size = int(self.size * height / width), self.size
        on_gpu = device.type == "cuda"
        pixels = torch.from_numpy(np.stack(frames)).to(device if on_gpu else "cpu")
        pixels = pixels.permute(0, 3, 1, 2)
        if on_gpu:  # which resizes no whole numbers; rounded as the CPU does
            pixels = pixels.float()
        pixels = functional.interpolate(pixels, size, mode=self.resampling, antialias=True)
        if on_gpu:
            pixels = pixels.round().clamp(0, 255).to(torch.uint8)
        if self.crop is not None:
            top, left = (size[0] - self.crop) // 2, (size[1] - self.crop) // 2
            pixels = pixels[..., top : top + self.crop, left : left + self.crop]
        return pixels.contiguous().to(device)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Whole numbers (..., 3, height, width) to values of mean 0 and deviation 1, float32."""
        mean = torch.tensor(self.mean, device=pixels.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(3, 1, 1)
        return (pixels.float() / 255 - mean) / std


@dataclass(frozen=True, eq=False)
class PreparedFrame:
    """A frame of a film: its number, the number of the first frame of a row of frames with the
    very same picture, and that picture (3, height, width), uint8.
    """

    number: int
    picture: int
    pixels: Tensor


def prepared_frames(
    track: VideoTrack, numbers: Iterable[int], preparation: FramePreparation, device: torch.device
) -> Iterator[PreparedFrame]:
    """Decode the frames asked for, in order, and make them ready on `device`.

    A frame with the very same picture as the one before it (a still, black, a frozen film) is
    neither resized again nor told apart from it.
    """
    waiting: list[tuple[int, int]] = []  # number, picture
    fresh: dict[int, np.ndarray] = {}
    last: tuple[int, np.ndarray] | None = None
    held: dict[int, Tensor] = {}

    def ready() -> Iterator[PreparedFrame]:
        if fresh:
            pixels = preparation.resize(list(fresh.values()), device)
            held.update(zip(fresh, pixels, strict=True))
        for number, picture in waiting:
            yield PreparedFrame(number, picture, held[picture])
        # The last picture may go on; the others may not.
        for picture in [p for p in held if not waiting or p != waiting[-1][1]]:
            del held[picture]
        waiting.clear()
        fresh.clear()

    # Decoding in a thread of its own: resizing takes as long.
    with closing(read_ahead(iter_frames(track, numbers), _DECODED_AHEAD)) as decoded:
        for number, frame in decoded:
            if last is None or not _same(last[1], frame):
                if fresh and frame.shape != next(iter(fresh.values())).shape:
                    yield from ready()  # the film changes its size
                last = (number, frame)
                fresh[number] = frame
            waiting.append((number, last[0]))
            if len(waiting) == _TOGETHER:
                yield from ready()
    yield from ready()


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two pictures are the same to the last bit; a few rows tell most apart."""
    return a is b or (
        a.shape == b.shape and np.array_equal(a[::61], b[::61]) and np.array_equal(a, b)
    )
