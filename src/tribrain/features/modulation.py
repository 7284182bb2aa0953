"""Spectrograms of what is heard and the movement in them: mel bands, rates, scales, directions.

Powers are mean squares (full scale has amplitude 1). Their logarithm is taken above a floor of
-80 dB, so that silence is exactly 0 and no recording is measured by its own loudest moment.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

RATE = 16_000  # samples a second of the sound that features are worked out on
STEP = 100  # values a second

FLOOR = 1e-8  # mean square below which sound counts as silence
_RATES = (2, 4, 8, 16)  # cycles a second
_SCALES = (0, 0.25, 0.5, 1, 2)  # cycles an octave; 0: all frequencies together
_DIRECTIONS = ("up", "down")
_HALVES = ("low", "high")

# Resampling fades out from 7,560 Hz: above it a file's own sample rate would show.
_MEL_BANDS, _MEL_RANGE = 32, (50.0, 7500.0)  # Hz
_PER_OCTAVE, _CHANNELS, _LOWEST = 12, 64, 180.0  # 180 to 6,850 Hz

MEL_WINDOW = 400  # 25 ms
_MODULATION_WINDOW = 512


def power_spectrum(samples: Tensor, length: int, n_fft: int) -> Tensor:
    """Power of windows around every hundredth of a second.

    Parameters
    ----------
    samples : Tensor (n,)
        Sound at 16 kHz.
    length : int
        Samples of the (Hann) window.
    n_fft : int
        Samples of the transform; where it is longer than the window, zeros fill it.

    Returns
    -------
    Tensor (n_fft // 2 + 1, time)
        Sums over frequency to the mean square of the sound in the window (Parseval).
    """
    window = torch.hann_window(length)
    spectrum = torch.stft(
        samples,
        n_fft,
        hop_length=RATE // STEP,
        win_length=length,
        window=window,
        return_complex=True,
        pad_mode="constant",
    )[:, : len(samples) * STEP // RATE]
    return 2 * spectrum.abs().square() / (n_fft * window.square().sum())


def log_mel_columns() -> tuple[str, ...]:
    """Names by the middle of each band in Hz, such as ``log_mel_440hz``."""
    return tuple(f"log_mel_{round(hertz)}hz" for hertz in _from_mel(_mel_centres()).tolist())


def log_mel(samples: Tensor) -> Tensor:
    """Log mel spectrogram, 100 a second: (time, 32).

    Windows of 25 ms, 32 triangular bands evenly spaced on the mel scale (O'Shaughnessy 1987,
    Speech Communication) between 50 and 7,500 Hz. The values are ``log10(1 + power / 1e-8)``:
    decades above -80 dB re full scale, 0 in silence.
    """
    power = power_spectrum(samples, MEL_WINDOW, 512)
    hertz = torch.fft.rfftfreq(512, 1 / RATE)
    centres = _mel_centres()
    return _log(_triangles(_to_mel(hertz), centres, centres[1] - centres[0]) @ power).T


def modulation_columns() -> tuple[str, ...]:
    """Names such as ``modulation_rate4_scale0.5_up_low``; scale 0 has no direction."""
    return tuple(
        f"modulation_rate{rate}_scale{scale:g}{direction}_{half}"
        for rate in _RATES
        for scale in _SCALES
        for direction in ([f"_{name}" for name in _DIRECTIONS] if scale else [""])
        for half in _HALVES
    )


def modulation(samples: Tensor) -> Tensor:
    """Spectro-temporal modulation, 100 a second: (time, 72).

    A log-frequency spectrogram (`log_frequency`) is filtered at each rate (cycles a second) and
    scale (cycles an octave) by a quadrature pair that answers to one direction of movement (Chi,
    Ru & Shamma 2005, J Acoust Soc Am 118:887-906; Santoro et al. 2014, PLoS Comput Biol
    10:e1003412). The filters here are sinusoids under a Hann window, 1.5 cycles to each side in
    time and 1 cycle to each side in frequency, without any answer to what is steady: symmetric in
    time, they see 0.77 s to each side at most. Scale 0, the mean over two octaves, holds what all
    frequencies do together, which no scale above 0 answers to.

    The values are the root of the energy, averaged over the channels below and above 1,110 Hz: a
    ripple that fills a half with an amplitude of one decade gives 1. Below about 400 Hz the window
    of 32 ms blurs 2 cycles an octave.
    """
    spectrogram = log_frequency(samples)
    in_time = _time_filters()
    reach = in_time.shape[-1] // 2
    moving = torch.nn.functional.conv1d(spectrogram[:, None], in_time[:, None], padding=reach)
    columns = []
    for number in range(len(_RATES)):
        cosine, sine = moving[:, 2 * number], moving[:, 2 * number + 1]
        for scale in _SCALES:
            even, odd = _frequency_filters(scale)
            up = (even @ cosine + odd @ sine).square() + (even @ sine - odd @ cosine).square()
            columns.append(up)
            if scale:
                down = (even @ cosine - odd @ sine).square() + (even @ sine + odd @ cosine).square()
                columns.append(down)
    halves = torch.stack([energy.reshape(2, _CHANNELS // 2, -1).mean(1) for energy in columns])
    return halves.flatten(0, 1).clamp_min(0).sqrt().T


def log_frequency(samples: Tensor) -> Tensor:
    """Log power of channels twelve to the octave from 180 Hz: (64, time).

    Windows of 32 ms; overlapping triangles of one channel's spacing to each side on the octave
    axis. Octaves are true octaves here, which those of mel bands would not be.
    """
    power = power_spectrum(samples, _MODULATION_WINDOW, 2048)
    hertz = torch.fft.rfftfreq(2048, 1 / RATE)
    octaves = torch.log2(hertz.clamp_min(1) / _LOWEST)
    centres = torch.arange(_CHANNELS) / _PER_OCTAVE
    return _log(_triangles(octaves, centres, torch.tensor(1 / _PER_OCTAVE)) @ power)


def _log(power: Tensor) -> Tensor:
    return torch.log1p(power / FLOOR) / math.log(10)


def _triangles(places: Tensor, centres: Tensor, spacing: Tensor) -> Tensor:
    """Weight of each place in each band: (bands, places)."""
    return (1 - (places - centres[:, None]).abs() / spacing).clamp_min(0)


def _mel_centres() -> Tensor:
    low, high = _to_mel(torch.tensor(_MEL_RANGE)).tolist()
    return torch.linspace(low, high, _MEL_BANDS + 2)[1:-1]


def _to_mel(hertz: Tensor) -> Tensor:
    return 2595 * torch.log10(1 + hertz / 700)


def _from_mel(mel: Tensor) -> Tensor:
    return 700 * (10 ** (mel / 2595) - 1)


@cache
def _time_filters() -> Tensor:
    """Cosine and sine of each rate, one after the other: (2 x rates, taps).

    Each pair gives a sinusoid of its rate its own amplitude.
    """
    longest = round(1.5 * STEP / min(_RATES))
    pairs = []
    for rate in _RATES:
        reach = round(1.5 * STEP / rate)
        pair = torch.stack(_wave(reach, rate / STEP)) * 2
        pairs.append(torch.nn.functional.pad(pair, (longest - reach, longest - reach)))
    return torch.cat(pairs)


@cache
def _frequency_filters(scale: float) -> tuple[Tensor, Tensor]:
    """Even and odd filter of a scale along the channels, as matrices (channels, channels).

    Beyond the lowest and the highest channel their own values go on.
    """
    if scale:
        kernels = _wave(round(_PER_OCTAVE / scale), scale / _PER_OCTAVE)
    else:
        flat = _taper(_PER_OCTAVE)
        kernels = (flat, torch.zeros_like(flat))
    channels = torch.arange(_CHANNELS)
    reach = len(kernels[0]) // 2
    matrices = []
    for kernel in kernels:
        matrix = torch.zeros(_CHANNELS, _CHANNELS)
        for offset, weight in zip(range(-reach, reach + 1), kernel, strict=True):
            matrix[channels, (channels + offset).clamp(0, _CHANNELS - 1)] += weight
        matrices.append(matrix)
    return matrices[0], matrices[1]


def _wave(reach: int, frequency: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine under a Hann window; the cosine sums to zero, as the sine does."""
    taper = _taper(reach)
    angle = 2 * math.pi * frequency * torch.arange(-reach, reach + 1.0)
    cosine = taper * torch.cos(angle)
    return cosine - taper * cosine.sum(), taper * torch.sin(angle)


def _taper(reach: int) -> Tensor:
    """Hann window that sums to 1: (2 x reach + 1,)."""
    taper = torch.hann_window(2 * reach + 3, periodic=False)[1:-1]
    return taper / taper.sum()
