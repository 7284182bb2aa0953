"""Motion energy at many places, directions, sizes and speeds.

A filter is a travelling wave under a Gaussian window in space and in time, and its answer the
amplitude of the film in it: the root of the summed squares of a pair in quadrature (Adelson &
Bergen 1985, J Opt Soc Am A 2:284-299). Filters of several sizes tile the picture, as in Nishimoto
et al. 2011 (Curr Biol 21:1641-1646); windows, spacing and units are those of the package pymoten
(github.com/gallantlab/pymoten), so that answers compare with those of published models.

Two things differ from pymoten on purpose. `direction` is the way the pattern that drives a filter
most really moves: what pymoten calls 0 degrees answers to leftward motion. Before its start and
after its end a film is taken to stand still; pymoten has black there, which would make the first
and last frames flash.

As in pymoten, the filters are not blind to uniform light: windows are cut off by the picture's
edge and by the 2/3 s that a filter lasts. A still picture drives filters of 2 and 4 Hz about a
twentieth as much as those of 0 Hz. The windows' middle lies up to one frame before the time of
the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

SIZE = 36

_SPACING = 3.5  # between centres, in standard deviations of the window
_CYCLES = 0.6  # standard deviation of the window, in cycles of the wave
_WIDEST = 0.3  # greatest standard deviation in space, in heights of the picture
_DURATION = 2 / 3  # s that a filter lasts
_TEMPORAL_SD = 0.3  # standard deviation in time, in parts of that
_LEAST_WEIGHT = 0.001  # pixels of smaller weight do not count


@dataclass(frozen=True)
class MotionFilter:
    """What one filter answers to.

    Attributes
    ----------
    x, y : float
        Centre, from the left and from the top, in heights of the picture.
    direction : float
        Degrees, 0 to the right, 90 up. At 0 Hz it is the direction across the stripes, and
        opposite directions are the same; it means nothing at 0 cycles.
    spatial_frequency : float
        Cycles in a height of the picture; 0 answers to light whatever its pattern.
    spatial_sd : float
        Standard deviation of the Gaussian window, in heights of the picture.
    temporal_frequency : float
        Hz.
    """

    x: float
    y: float
    direction: float
    spatial_frequency: float
    spatial_sd: float
    temporal_frequency: float

    @property
    def name(self) -> str:
        """Such as ``sf8_tf2_dir90_x0.2375_y0.5``; the window's width where it has no direction."""
        which = f"dir{self.direction:g}" if self.spatial_frequency else f"sd{self.spatial_sd:g}"
        waves = f"sf{self.spatial_frequency:g}_tf{self.temporal_frequency:g}"
        return f"{waves}_{which}_x{self.x:g}_y{self.y:g}"


def pyramid_filters(
    spatial_frequencies: Sequence[float] = (0, 2, 4, 8),
    temporal_frequencies: Sequence[float] = (0, 2, 4),
    directions: Sequence[float] = (0, 45, 90, 135, 180, 225, 270, 315),
    aspect: float = 1.0,
) -> tuple[MotionFilter, ...]:
    """Filters that tile a picture.

    The higher the spatial frequency, the smaller the windows and the more of them. Where 0 is
    among the spatial frequencies, every window of the others also has a filter of 0 cycles.
    At 0 Hz only directions below 180 are made.

    Parameters
    ----------
    spatial_frequencies : sequence of float
        Cycles in a height of the picture.
    temporal_frequencies : sequence of float
        Hz.
    directions : sequence of float
        Degrees in [0, 360).
    aspect : float
        Width of the picture over its height.

    Returns
    -------
    tuple of MotionFilter
        253 by default: 11 places (1, 1 and 9 at 2, 4 and 8 cycles) of 4 orientations at 0 Hz,
        8 directions at 2 and at 4 Hz, and 3 filters of 0 cycles.
    """
    filters = []
    for frequency in spatial_frequencies:
        if frequency == 0:
            continue
        sd = min(_CYCLES / frequency, _WIDEST)
        waves = [(frequency, float(direction)) for direction in directions]
        if 0 in spatial_frequencies:
            waves.insert(0, (0, 0.0))
        for y in _centres(1.0, sd):
            for x in _centres(aspect, sd):
                for spatial, direction in waves:
                    for temporal in temporal_frequencies:
                        if temporal or direction < 180:
                            filters.append(MotionFilter(x, y, direction, spatial, sd, temporal))
    return tuple(filters)


def _centres(extent: float, sd: float) -> list[float]:
    """Centres along one side of the picture, about its middle."""
    step = _SPACING * sd
    each_way = max(0, int((extent - step) / step / 2))
    return [extent / 2 + step * k for k in range(-each_way, each_way + 1)]


def window_frames(rate: float) -> int:
    """Frames that a filter sees: ``window // 2`` before the present one, the others from it on."""
    return int(rate * _DURATION)


def motion_energy_pyramid(luma: Tensor, rate: float, filters: Sequence[MotionFilter]) -> Tensor:
    """Amplitude of a film in each filter.

    Parameters
    ----------
    luma : Tensor (time, height, width)
        Pictures in any unit of light; the answer is in that unit times pixels and frames.
    rate : float
        Frames a second.
    filters : sequence of MotionFilter

    Returns
    -------
    Tensor (time, filters), float64
        Not negative. Computed in double precision: a small amplitude is the difference of large
        sums, which would depend on how many frames are worked on together.
    """
    # Filters of opposite directions, and of one place and several speeds, share their patterns.
    patterns = list(dict.fromkeys(_pattern(f) for f in filters))
    speeds = sorted({f.temporal_frequency for f in filters})
    height, width = luma.shape[1:]
    bank = torch.stack([_spatial_gabor(pattern, height, width) for pattern in patterns])
    bank = torch.cat((bank.real, bank.imag)).flatten(1)  # (2 patterns, pixels)
    real, imaginary = (luma.double().flatten(1) @ bank.T).chunk(2, dim=1)
    windows = _windows(torch.complex(real, imaginary), window_frames(rate))
    temporal = torch.stack([_temporal_gabor(speed, rate) for speed in speeds], dim=1)
    both_ways = torch.stack((windows @ temporal, windows.conj() @ temporal)).abs()
    return both_ways[
        [int(f.direction >= 180) for f in filters],
        :,
        [patterns.index(_pattern(f)) for f in filters],
        [speeds.index(f.temporal_frequency) for f in filters],
    ].T


def _pattern(one: MotionFilter) -> tuple[float, ...]:
    return one.x, one.y, one.direction % 180, one.spatial_frequency, one.spatial_sd


def _spatial_gabor(pattern: tuple[float, ...], height: int, width: int) -> Tensor:
    """Complex Gabor (height, width); the first and last pixels lie on the picture's edges."""
    x, y, direction, frequency, sd = pattern
    down = torch.linspace(0, 1, height, dtype=torch.float64)[:, None] - y
    right = torch.linspace(0, width / height, width, dtype=torch.float64) - x
    angle = torch.deg2rad(torch.tensor(direction, dtype=torch.float64))
    phase = 2 * torch.pi * frequency * (right * angle.cos() - down * angle.sin())
    gabor = torch.polar(torch.exp(-(right**2 + down**2) / (2 * sd**2)), phase)
    return gabor * (gabor.real.abs() + gabor.imag.abs() > _LEAST_WEIGHT)


def _temporal_gabor(frequency: float, rate: float) -> Tensor:
    """Complex weights (window,) of the frames, the earliest first."""
    window = window_frames(rate)
    # An even window has no middle frame; the frame before the present one then has most weight.
    back = torch.arange(window, 0, -1, dtype=torch.float64) - 1 - window / 2
    weight = torch.exp(-((back / window) ** 2) / (2 * _TEMPORAL_SD**2))
    return torch.polar(weight, 2 * torch.pi * frequency * back / rate)


def _windows(series: Tensor, window: int) -> Tensor:
    """The frames that each answer is made of: (time, patterns, window), first and last repeated."""
    before, after = window // 2, (window - 1) // 2
    padded = torch.cat((series[:1].expand(before, -1), series, series[-1:].expand(after, -1)))
    return padded.unfold(0, window, 1)


def lightness(frames: Tensor) -> Tensor:
    """CIE 1976 L* of sRGB pictures: (time, 3, height, width) in [0, 1] to (time, h, w) in [0, 100].

    Motion energy models of films are fitted on L*, which grows with light as seeing does.
    """
    linear = torch.where(
        frames <= 0.04045, frames / 12.92, ((frames.clamp_min(0) + 0.055) / 1.055) ** 2.4
    )
    weights = torch.tensor([0.2126, 0.7152, 0.0722], dtype=frames.dtype).view(3, 1, 1)
    light = (linear * weights).sum(1)
    least = (6 / 29) ** 3
    return torch.where(
        light > least, 116 * light.clamp_min(least) ** (1 / 3) - 16, light * (29 / 3) ** 3
    )


def centre_square(frames: Tensor, size: int = SIZE) -> Tensor:
    """The centre square (time, channels, size, size) of pictures of any shape, in [0, 1]."""
    height, width = frames.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = frames[..., top : top + side, left : left + side]
    if side == size:
        return square
    resized = functional.interpolate(square, (size, size), mode="bicubic", antialias=True)
    return resized.clamp(0, 1)


FILTERS = pyramid_filters()
COLUMNS = tuple(f"motion_energy_{one.name}" for one in FILTERS)


def motion_energy(frames: Tensor, rate: float) -> Tensor:
    """Motion energy of the centre square of a film in the 253 filters of `FILTERS`.

    The square makes the number of filters the same for films of any shape. Its side of 36 pixels
    is the height of a 16:9 film 64 wide, and gives the finest wave, 8 cycles, 4.5 pixels; 16
    cycles would need finer pictures and make 1380 filters.

    Values are log(1 + amplitude), taken before any averaging over time: amplitudes span orders of
    magnitude, and encoding models are fitted on their logarithm. The published log(x + 1e-5) puts
    black at -11.5, far from all else; with 1 instead black is 0, as is the time after a film's
    end, and what can be seen hardly changes: a wave of one unit of L* has amplitudes from 100 up.

    Parameters
    ----------
    frames : Tensor (time, 3, height, width)
        sRGB in [0, 1].
    rate : float
        Frames a second.

    Returns
    -------
    Tensor (time, 253), float32
    """
    luma = lightness(centre_square(frames.double()))
    return motion_energy_pyramid(luma, rate, FILTERS).log1p().float()
