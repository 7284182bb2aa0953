"""Simple features of what is heard, from loudness to pitch. Nothing to download.

Worked out 100 times a second on 16 kHz mono, averaged to the feature clock. Nothing is scaled by
the recording itself, so an hour of silence or of music beside it changes no value, and each value
depends on 1 s of sound to each side at most. Loudness, tones, voice and envelope are scaled so
that ordinary speech lies near 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor

from tribrain.errors import InputError
from tribrain.features.modulation import (
    MEL_WINDOW,
    RATE,
    STEP,
    log_mel,
    log_mel_columns,
    modulation,
    modulation_columns,
    power_spectrum,
)
from tribrain.features.pitch import PITCH_COLUMNS, pitch
from tribrain.stimuli.media import AudioTrack, iter_audio

VERSION = 1  # of the numbers: raised whenever they change (part of the key of cached results)
SOUND_FEATURES = ("loudness", "low_tones", "high_tones", "voice")
FREQUENCIES = (1, 2, 4, 5, 10, 20, 25, 50, 100)  # of the feature clock, samples a second

# Blocks begin and end on whole seconds: there every sample rate meets 16 kHz in the same phase,
# and no sample of a feature lies across two blocks.
_BLOCK, _MARGIN = 30, 1  # seconds
_LOW, _HIGH = 800.0, 2000.0  # Hz
_BANDS = {  # Hz, from and to (excluded)
    "all": (50.0, np.inf),
    "low": (50.0, _LOW),
    "high": (_HIGH, np.inf),
    "voice": (300.0, np.nextafter(3400.0, np.inf)),
}
_SYLLABLES = (2.0, 8.0)  # Hz

# Root-mean-square amplitude of speech as it is recorded (full scale is 1), and of its parts.
_TYPICAL = {"all": 0.1, "low": 0.08, "high": 0.03, "voice": 0.04}
_LOUDNESS_EXPONENT = 0.6  # of amplitude (Stevens 1955, J Acoust Soc Am 27:815-829)
_HILBERT_REACH = RATE * 64 // 1000  # 64 ms: exact to 0.1 % from 40 Hz


@dataclass(frozen=True)
class SoundFeature:
    """What is worked out on the sound, under one name.

    Attributes
    ----------
    columns : tuple of str
        Names of the columns it gives.
    describe : function
        From samples (n,) at 16 kHz to (time, columns), 100 a second. A value sees less than 1 s
        to each side.
    """

    columns: tuple[str, ...]
    describe: Callable[[Tensor], Tensor]


def sound_pieces(
    track: AudioTrack,
    names: Sequence[str],
    pieces: Sequence[tuple[int, int]],
    frequency: float,
) -> Iterator[np.ndarray]:
    """Work out features of parts of a track; the sound is decoded once.

    Values do not depend on how the sound is cut into pieces, to the last bit: whatever is asked
    for, they are worked out on the same blocks of 30 s.

    Parameters
    ----------
    track : AudioTrack
    names : sequence of str
        Names of features in `SOUND`.
    pieces : sequence of (first sample, number of samples)
        At `frequency`, from the track's start; ascending, not overlapping.
    frequency : float
        Samples a second: one of `FREQUENCIES`.

    Yields
    ------
    ndarray (columns, samples), float32
        One for each piece: columns of the features in the order of `names`; zeros after the
        track's end (its last second counts whole).

    Raises
    ------
    InputError
        If the frequency or a name is none of those known (at the call, before anything is read).
    """
    if frequency not in FREQUENCIES:
        raise InputError(
            f"{frequency:g} sound features a second do not divide {STEP}; "
            f"these fit: {', '.join(map(str, FREQUENCIES))}"
        )
    unknown = [name for name in names if name not in SOUND]
    if unknown or not names:
        problem = f"sound feature {unknown[0]!r} is unknown" if unknown else "no sound feature"
        raise InputError(f"{problem}; known: {', '.join(SOUND)}")
    ends = [0, *(first + n for first, n in pieces)]
    assert all(n >= 0 and first >= end for (first, n), end in zip(pieces, ends, strict=False))
    return _cut(track, [SOUND[name] for name in names], pieces, int(frequency))


def _cut(
    track: AudioTrack,
    features: Sequence[SoundFeature],
    pieces: Sequence[tuple[int, int]],
    frequency: int,
) -> Iterator[np.ndarray]:
    """Assemble pieces from blocks; a block that two pieces share is worked out once."""
    size = _BLOCK * frequency
    end = int(np.ceil(track.duration)) * frequency
    shared = [range(first // size, -(-min(first + n, end) // size)) for first, n in pieces]
    blocks = _blocks(track, sorted(set().union(*shared)))
    number, values = -1, np.zeros((0, 0), np.float32)
    for (first, n), wanted in zip(pieces, shared, strict=True):
        piece = np.zeros((sum(len(feature.columns) for feature in features), n), np.float32)
        for part in wanted:
            if part != number:
                number, sound = part, next(blocks)
                values = _averaged(sound, features, frequency)
            start = part * size
            last = min(first + n, start + values.shape[1])
            inside = values[:, max(first - start, 0) : last - start]
            place = max(start - first, 0)
            piece[:, place : place + inside.shape[1]] = inside
        yield piece


def _averaged(sound: Tensor, features: Sequence[SoundFeature], frequency: int) -> np.ndarray:
    """Features of a block without its margins: (columns, time)."""
    margin = _MARGIN * STEP
    fine = torch.cat([feature.describe(sound)[margin:-margin] for feature in features], dim=1)
    per_sample = STEP // frequency
    values = fine.numpy().astype(np.float32, copy=False)
    return values.reshape(-1, per_sample, fine.shape[1]).mean(axis=1).T


def _blocks(track: AudioTrack, numbers: Sequence[int]) -> Iterator[Tensor]:
    """Mono sound at 16 kHz of the blocks asked for, each with a margin of its neighbours' sound.

    Sound is read second by second, also where nobody wants it, so that a gap is never held whole.
    """
    total = int(np.ceil(track.duration))
    seconds = iter_audio(track, ((float(second), 1.0) for second in range(total)))
    silence = np.zeros(track.rate, np.float32)
    held: dict[int, np.ndarray] = {}
    position = 0
    for number in numbers:
        first, last = number * _BLOCK, min((number + 1) * _BLOCK, total)
        span = range(first - _MARGIN, last + _MARGIN)
        held = {second: sound for second, sound in held.items() if second in span}
        while position < min(span.stop, total):
            sound = next(seconds)
            if position in span:
                held[position] = sound.mean(axis=0, dtype=np.float32)
            position += 1
        whole = np.concatenate([held.get(second, silence) for second in span])
        yield _resampler(track.rate)(torch.from_numpy(whole))


@cache
def _resampler(rate: int) -> Callable[[Tensor], Tensor]:
    import julius

    return julius.ResampleFrac(rate, RATE)


def _amplitude(samples: Tensor, band: str) -> Tensor:
    """Root-mean-square amplitude of a band: (time,)."""
    hertz = torch.fft.rfftfreq(512, 1 / RATE)
    low, high = _BANDS[band]
    return power_spectrum(samples, 512, 512)[(hertz >= low) & (hertz < high)].sum(0).sqrt()


def _loudness(samples: Tensor, band: str) -> Tensor:
    return ((_amplitude(samples, band) / _TYPICAL[band]) ** _LOUDNESS_EXPONENT)[:, None]


def _voice(samples: Tensor) -> Tensor:
    return (_syllables(_amplitude(samples, "voice")) / _TYPICAL["voice"])[:, None]


def _syllables(envelope: Tensor) -> Tensor:
    """Strength of an envelope's modulation at the rate of syllables (100 values a second).

    The filter and the smoothing are symmetric: a value sees up to 0.75 s to each side.
    """
    reach = STEP // 2
    time = torch.arange(-reach, reach + 1.0) / STEP
    taper = torch.hann_window(2 * reach + 3, periodic=False)[1:-1]
    low, high = _SYLLABLES
    kernel = 2 * high * torch.sinc(2 * high * time) - 2 * low * torch.sinc(2 * low * time)
    kernel = kernel * taper / STEP
    kernel = kernel - taper * kernel.sum() / taper.sum()  # a steady sound has none
    padded = torch.nn.functional.pad(envelope[None, None], (reach, reach))
    filtered = torch.nn.functional.conv1d(padded, kernel[None, None])[0, 0]
    # Smoothed over half a second: the strength of a modulation, not its course.
    width = STEP // 4
    smooth = torch.nn.functional.avg_pool1d(
        filtered.square()[None, None], 2 * width + 1, 1, width, count_include_pad=True
    )
    return smooth[0, 0].clamp_min(0).sqrt()


def _envelope(samples: Tensor) -> Tensor:
    """Broadband envelope: modulus of the analytic signal, as in Lalor & Foxe 2010 (Eur J Neurosci
    31:189-193), smoothed by a Hann window of 25 ms. A steady tone of RMS 0.1 gives 1.

    The Hilbert transform is a filter of 64 ms to each side, as that of a whole recording would
    let every value see all of it.
    """
    import julius

    offset = torch.arange(-_HILBERT_REACH, _HILBERT_REACH + 1)
    taper = torch.hann_window(2 * _HILBERT_REACH + 3, periodic=False)[1:-1]
    kernel = torch.where(offset % 2 == 1, 2 / (torch.pi * offset), 0.0) * taper
    turned = julius.fft_conv1d(samples[None, None], kernel[None, None], padding=_HILBERT_REACH)
    modulus = torch.hypot(samples, turned[0, 0])
    smooth = torch.hann_window(MEL_WINDOW + 1, periodic=False)
    smooth = smooth / smooth.sum() / (_TYPICAL["all"] * 2**0.5)
    return torch.nn.functional.conv1d(
        modulus[None, None], smooth[None, None], stride=RATE // STEP, padding=MEL_WINDOW // 2
    )[0].T


SOUND: dict[str, SoundFeature] = {
    "loudness": SoundFeature(("loudness",), partial(_loudness, band="all")),
    "low_tones": SoundFeature(("low_tones",), partial(_loudness, band="low")),
    "high_tones": SoundFeature(("high_tones",), partial(_loudness, band="high")),
    "voice": SoundFeature(("voice",), _voice),
    "envelope": SoundFeature(("envelope",), _envelope),
    "log_mel": SoundFeature(log_mel_columns(), log_mel),
    "modulation": SoundFeature(modulation_columns(), modulation),
    "pitch": SoundFeature(PITCH_COLUMNS, pitch),
}
