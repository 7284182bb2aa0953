"""Simple features of what is seen: contrast, motion energy, colour. Nothing to download.

Frames are looked at 12 times a second, 64 pixels wide; the series are averaged to the feature
clock. Values are scaled so that ordinary films lie near 1; nothing is scaled by the film itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tribrain.stimuli.media import VideoTrack, iter_frames

VISUAL_FEATURES = ("contrast_left", "contrast_right", "motion_left", "motion_right", "colour")
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


def visual_series(
    track: VideoTrack,
    n: int,
    frequency: float,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Contrast and motion energy in each half of the picture, and colour.

    Parameters
    ----------
    track : VideoTrack
    n : int
        Samples wanted, from the track's start; zeros after its end.
    frequency : float
        Samples a second; a divisor of 12.

    Returns
    -------
    ndarray (5, n), float32
        In the order of `VISUAL_FEATURES`.
    """
    per_sample = round(FRAME_RATE / frequency)
    times = np.arange(max(1, round(track.duration * FRAME_RATE))) / FRAME_RATE
    numbers = track.frame_numbers(times)
    parts = []
    for block, lead, count in _blocks(track, numbers):
        frames = torch.from_numpy(block).permute(0, 3, 1, 2).float() / 255  # (time, 3, h, w)
        values = torch.cat((_contrast(frames), _motion(frames), _colour(frames)), dim=1)
        parts.append(values[lead : lead + count].numpy())
        if progress is not None:
            progress(sum(map(len, parts)), len(times))
    fine = np.concatenate(parts) if parts else np.zeros((0, len(VISUAL_FEATURES)), np.float32)
    padded = np.zeros((n * per_sample, fine.shape[1]), np.float32)
    padded[: len(fine)] = fine[: len(padded)]
    return padded.reshape(n, per_sample, -1).mean(axis=1).T


def _blocks(track: VideoTrack, numbers: np.ndarray) -> Iterator[tuple[np.ndarray, int, int]]:
    """Frames (time, h, w, 3) a block at a time with their neighbours, so that blocks do not show.

    Yields
    ------
    frames, lead, count
        The block proper is ``frames[lead : lead + count]``.
    """
    unique = iter_frames(track, numbers.tolist(), _size(track))
    held: list[np.ndarray] = []
    first = 0  # number of held[0] in the sequence
    current: tuple[int, np.ndarray] = (-1, np.zeros(0))
    position = 0
    while position < len(numbers):
        end = min(position + _BLOCK, len(numbers))
        wanted = min(end + _REACH, len(numbers))
        while first + len(held) < wanted:
            number = int(numbers[first + len(held)])
            while current[0] < number:
                current = next(unique)
            held.append(current[1])
        lead = position - first
        yield np.stack(held), lead, end - position
        drop = max(0, end - _REACH - first)
        held, first, position = held[drop:], first + drop, end


def _size(track: VideoTrack) -> tuple[int, int]:
    """Width and height to scale to, the picture's shape kept."""
    frame = next(iter_frames(track, [0]))[1]
    height, width = frame.shape[:2]
    return WIDTH, int(np.clip(round(WIDTH * height / width), 16, 4 * WIDTH))


def _luma(frames: Tensor) -> Tensor:
    weights = torch.tensor([0.2126, 0.7152, 0.0722]).view(3, 1, 1)  # Rec. 709
    return (frames * weights).sum(1)


def _halves(values: Tensor) -> tuple[Tensor, Tensor]:
    half = values.shape[-1] // 2
    return values[..., :half], values[..., -half:]


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
