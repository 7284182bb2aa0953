"""Simple features of what is seen: light, contrast, motion, colour. Nothing to download.

Frames are looked at 12 times a second, 64 pixels wide; the series are averaged to the feature
clock. Contrast, motion and colour are scaled so that ordinary films lie near 1; nothing is scaled
by the film itself, so a value depends only on the frames around it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tribrain.errors import InputError
from tribrain.features import motion_energy
from tribrain.stimuli.media import VideoTrack, iter_frames

VERSION = 1  # of the numbers: raised whenever they change, as cached results are kept under it
FRAME_RATE = 12
WIDTH = 64

# What ordinary films reach: root-mean-square contrast of half a picture, root of the motion energy
# (same unit), and colourfulness.
_TYPICAL_CONTRAST = 0.2
_TYPICAL_MOTION = 0.003
_TYPICAL_COLOUR = 0.15

# hMT+ answers to little contrast nearly as to much (Tootell et al. 1995, J Neurosci 15:3215-3230).
_MOTION_EXPONENT = 0.5

_BLOCK = 480  # frames worked on at once
_REACH = 4  # frames that the motion filters see to each side
_TEMPORAL_FREQUENCY = 3.0  # Hz
_WAVELENGTHS = (8.0, 16.0)  # pixels: 8 and 4 cycles in the picture
_ORIENTATIONS = 4


@dataclass(frozen=True)
class VisualFeature:
    """One feature of what is seen.

    Attributes
    ----------
    columns : tuple of str
        Names of the columns that it gives.
    reach : int
        Frames that a value sees to each side.
    describe : callable
        Frames (time, 3, height, width) in [0, 1], 12 a second, to values (time, columns), float32.
        Beyond the frames it is given, the first and the last are taken to stand still.
    """

    columns: tuple[str, ...]
    reach: int
    describe: Callable[[Tensor], Tensor]


def _luma(frames: Tensor) -> Tensor:
    weights = torch.tensor([0.2126, 0.7152, 0.0722]).view(3, 1, 1)  # Rec. 709
    return (frames * weights).sum(1)


def _halves(values: Tensor) -> tuple[Tensor, Tensor]:
    half = values.shape[-1] // 2
    return values[..., :half], values[..., -half:]


def _luminance(frames: Tensor) -> Tensor:
    """Mean luma (0 to 1) of each half."""
    return torch.stack([half.flatten(1).mean(1) for half in _halves(_luma(frames))], dim=1)


def _contrast(frames: Tensor) -> Tensor:
    """Root-mean-square contrast (Peli 1990, J Opt Soc Am A 7:2032-2040) of each half."""
    halves = [half.flatten(1).std(dim=1, unbiased=False) for half in _halves(_luma(frames))]
    return torch.stack(halves, dim=1) / _TYPICAL_CONTRAST


def _colour(frames: Tensor) -> Tensor:
    """Colourfulness (Hasler & Suesstrunk 2003, Proc SPIE 5007:87-95)."""
    red, green, blue = frames.flatten(2).unbind(1)
    red_green, yellow_blue = red - green, (red + green) / 2 - blue
    spread = torch.hypot(
        red_green.std(dim=1, unbiased=False), yellow_blue.std(dim=1, unbiased=False)
    )
    value = spread + 0.3 * torch.hypot(red_green.mean(1), yellow_blue.mean(1))
    return value[:, None] / _TYPICAL_COLOUR


def _spatial_filters() -> list[Tensor]:
    """Gabor pairs in quadrature, one tensor (2 * orientations, 1, size, size) a wavelength."""
    banks = []
    for wavelength in _WAVELENGTHS:
        sigma = wavelength / 2
        reach = round(2 * sigma)
        y, x = torch.meshgrid(
            torch.arange(-reach, reach + 1.0), torch.arange(-reach, reach + 1.0), indexing="ij"
        )
        envelope = torch.exp(-(x**2 + y**2) / (2 * sigma**2))
        envelope = envelope / envelope.sum()
        bank = []
        for step in range(_ORIENTATIONS):
            angle = torch.pi * step / _ORIENTATIONS
            phase = 2 * torch.pi / wavelength * (x * np.cos(angle) + y * np.sin(angle))
            for carrier in (torch.cos(phase), torch.sin(phase)):
                bank.append(envelope * (carrier - (envelope * carrier).sum()))
        banks.append(torch.stack(bank)[:, None])
    return banks


def _temporal_filters() -> Tensor:
    """A pair in quadrature (2, 1, 9) at the temporal frequency; a still picture gives zero."""
    time = torch.arange(-_REACH, _REACH + 1.0) / FRAME_RATE
    envelope = torch.exp(-(time**2) / (2 * 0.15**2))
    envelope = envelope / envelope.sum()
    phase = 2 * torch.pi * _TEMPORAL_FREQUENCY * time
    pair = [envelope * (c - (envelope * c).sum()) for c in (torch.cos(phase), torch.sin(phase))]
    return torch.stack(pair)[:, None]


def _motion(frames: Tensor) -> Tensor:
    """Motion energy (Adelson & Bergen 1985, J Opt Soc Am A 2:284-299) in each half.

    The square root of the mean energy over positions, directions and two spatial scales grows
    with contrast as contrast does; it is then compressed.
    """
    # Each half is filtered on its own, or what moves beside the midline would count on both sides.
    means = [_motion_energy(half).clamp_min(0).sqrt() for half in _halves(_luma(frames))]
    return (torch.stack(means, dim=1) / _TYPICAL_MOTION) ** _MOTION_EXPONENT


def _motion_energy(luma: Tensor) -> Tensor:
    """Motion energy (time,) of pictures (time, h, w): mean over places, directions, scales."""
    temporal = _temporal_filters()
    energies = []
    for bank in _spatial_filters():
        reach = bank.shape[-1] // 2
        padded = functional.pad(luma[:, None], (reach,) * 4, mode="replicate")
        responses = functional.conv2d(padded, bank, stride=2)  # (time, 2 orientations, h', w')
        series = responses.reshape(len(luma), -1).T[:, None]  # (pixels, 1, time)
        series = functional.pad(series, (_REACH, _REACH), mode="replicate")
        filtered = functional.conv1d(series, temporal)  # (pixels, 2, time)
        filtered = filtered.permute(1, 2, 0).reshape(2, *responses.shape)
        even, odd = filtered.unflatten(2, (-1, 2)).unbind(3)  # in space; first axis: in time
        for sign in (1, -1):  # the two directions across each orientation
            energy = (even[0] + sign * odd[1]) ** 2 + (even[1] - sign * odd[0]) ** 2
            energies.append(energy.flatten(1).mean(1))
    return torch.stack(energies).mean(0)


def _motion_pyramid(frames: Tensor) -> Tensor:
    return motion_energy.motion_energy(frames, FRAME_RATE)


VISUAL: dict[str, VisualFeature] = {
    "luminance": VisualFeature(("luminance_left", "luminance_right"), 0, _luminance),
    "contrast": VisualFeature(("contrast_left", "contrast_right"), 0, _contrast),
    "motion": VisualFeature(("motion_left", "motion_right"), _REACH, _motion),
    "colour": VisualFeature(("colour",), 0, _colour),
    "motion_energy": VisualFeature(
        motion_energy.COLUMNS,
        motion_energy.window_frames(FRAME_RATE) // 2,
        _motion_pyramid,
    ),
}
_TEXTBOOK = ("contrast", "motion", "colour")
VISUAL_FEATURES = tuple(column for name in _TEXTBOOK for column in VISUAL[name].columns)


def visual_pieces(
    track: VideoTrack,
    names: Sequence[str],
    pieces: Sequence[tuple[int, int]],
    frequency: float,
) -> Iterator[np.ndarray]:
    """Values of features in pieces of a film, which is decoded once.

    However the film is cut into pieces, values are the same to 1e-6. No more than a piece of
    values and some hundred frames are held at once.

    Parameters
    ----------
    track : VideoTrack
    names : sequence of str
        Features, of those in `VISUAL`.
    pieces : sequence of (first sample, number of samples)
        Counted at `frequency` from the track's start; ascending, not overlapping.
    frequency : float
        Samples a second; 12 divided by a whole number.

    Yields
    ------
    ndarray (columns, number of samples), float32
        For each piece, the columns of the features in the order of `names`; zeros after the
        track's end.

    Raises
    ------
    InputError
        At the call, if a feature is not known or the frequency does not fit.
    """
    unknown = [name for name in names if name not in VISUAL]
    if unknown or not names:
        wrong = f"unknown visual feature {unknown[0]!r}" if unknown else "no visual feature named"
        raise InputError(f"{wrong}; known: {', '.join(VISUAL)}")
    ends = [0, *(first + n for first, n in pieces)]
    assert all(first >= end for (first, _), end in zip(pieces, ends, strict=False)), pieces
    features = [VISUAL[name] for name in names]
    return _values(track, features, pieces, _frames_per_sample(frequency))


def _frames_per_sample(frequency: float) -> int:
    per_sample = round(FRAME_RATE / frequency) if 0 < frequency <= FRAME_RATE else 0
    if not per_sample or abs(per_sample * frequency - FRAME_RATE) > 1e-6:
        raise InputError(
            f"visual features at {frequency:g} Hz: frames are looked at {FRAME_RATE} times a "
            f"second, so 12 divided by a whole number fits (12, 6, 4, 3, 2, 1, 0.5, ...)"
        )
    return per_sample


def _values(
    track: VideoTrack,
    features: Sequence[VisualFeature],
    pieces: Sequence[tuple[int, int]],
    per_sample: int,
) -> Iterator[np.ndarray]:
    """The work of `visual_pieces`."""
    times = np.arange(max(1, round(track.duration * FRAME_RATE))) / FRAME_RATE
    numbers = track.frame_numbers(times)
    spans = [
        (min(first * per_sample, len(numbers)), min((first + n) * per_sample, len(numbers)))
        for first, n in pieces
    ]
    blocks = _blocks(track, numbers, spans, max(feature.reach for feature in features))
    width = sum(len(feature.columns) for feature in features)
    for (_, n), (start, end) in zip(pieces, spans, strict=True):
        fine = np.zeros((n * per_sample, width), np.float32)
        position = start
        while position < end:
            block, lead, count = next(blocks)
            frames = torch.from_numpy(block).permute(0, 3, 1, 2).float() / 255  # (time, 3, h, w)
            values = torch.cat([feature.describe(frames) for feature in features], dim=1)
            fine[position - start :][:count] = values[lead : lead + count].numpy()
            position += count
        yield fine.reshape(n, per_sample, width).mean(axis=1).T


def _blocks(
    track: VideoTrack, numbers: np.ndarray, spans: Sequence[tuple[int, int]], reach: int
) -> Iterator[tuple[np.ndarray, int, int]]:
    """Frames (time, h, w, 3) a block at a time with their neighbours, so that blocks do not show.

    Parameters
    ----------
    track : VideoTrack
    numbers : ndarray (looks,)
        Number of the frame that is seen at each look, 12 a second.
    spans : sequence of (first, end)
        Looks wanted, ascending; each span is cut into blocks.
    reach : int
        Neighbours to each side, as far as the film goes.

    Yields
    ------
    frames, lead, count
        The block proper is ``frames[lead : lead + count]``.
    """
    blocks = [
        (first, min(first + _BLOCK, end))
        for start, end in spans
        for first in range(start, end, _BLOCK)
    ]
    if not blocks:
        return
    looks = [range(max(0, a - reach), min(b + reach, len(numbers))) for a, b in blocks]
    wanted = sorted({int(numbers[look]) for seen in looks for look in seen})
    decoded = iter_frames(track, wanted, _size(track))
    held: dict[int, np.ndarray] = {}  # by number
    for (first, end), seen in zip(blocks, looks, strict=True):
        needed = [int(numbers[look]) for look in seen]
        held = {number: frame for number, frame in held.items() if number >= needed[0]}
        while needed[-1] not in held:
            number, frame = next(decoded)
            held[number] = frame
        yield np.stack([held[number] for number in needed]), first - seen.start, end - first


def _size(track: VideoTrack) -> tuple[int, int]:
    """Width and height to scale to, the shape of the film or of the first picture kept.

    One size serves a whole track: pictures of another shape are fitted into it, on grey.
    """
    frame = next(iter_frames(track, [0]))[1]
    height, width = frame.shape[:2]
    return WIDTH, int(np.clip(round(WIDTH * height / width), 16, 4 * WIDTH))
