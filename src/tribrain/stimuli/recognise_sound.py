"""A sound as speech programs want it: mono, 16 kHz, a stretch at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np

from tribrain.stimuli.media import iter_audio
from tribrain.stimuli.tracks import AudioTrack

RATE = 16_000  # samples a second

# Read on whole seconds, where every sample rate meets 16 kHz in the same phase, with a second more
# to each side, which is far beyond the reach of the filter: no stretch depends on its neighbours.
_MARGIN = 1
_LARGEST_FILTER = 1 << 24  # numbers


def length_at_16k(track: AudioTrack) -> int:
    """Number of samples that a track has at 16 kHz."""
    return max(0, round(track.duration * RATE))


def sound_at_16k(track: AudioTrack, spans: Sequence[tuple[int, int]]) -> Iterator[np.ndarray]:
    """Decode a track once and yield stretches of it, mono at 16 kHz.

    A stretch is the same whatever else is asked for, and is the only sound held, so that memory
    does not grow with the length of the track.

    Parameters
    ----------
    track : AudioTrack
    spans : sequence of (first, last)
        Samples at 16 kHz from the track's start, `last` excluded; `first` ascending. They may
        overlap.

    Yields
    ------
    ndarray (last - first,), float32
        Zeros where the track holds no sound.
    """
    total = math.ceil(track.duration)
    seconds = iter_audio(track, ((float(s), 1.0) for s in range(total)), mono=True)
    silence = np.zeros(track.rate, np.float32)
    held: dict[int, np.ndarray] = {}
    position = 0
    margin = 0 if track.rate == RATE else _MARGIN
    for first, last in spans:
        wanted = range(first // RATE - margin, -(-last // RATE) + margin)
        held = {second: sound for second, sound in held.items() if second >= wanted.start}
        while position < min(wanted.stop, total):
            sound = next(seconds)[0]
            if position >= wanted.start:
                held[position] = sound
            position += 1
        whole = np.concatenate([held.get(second, silence) for second in wanted] or [silence[:0]])
        start = first - wanted.start * RATE
        yield _to_16k(track.rate)(whole)[start : start + last - first]


@lru_cache(maxsize=4)
def _to_16k(rate: int) -> Callable[[np.ndarray], np.ndarray]:
    if rate == RATE:
        return lambda samples: samples
    shared = math.gcd(rate, RATE)
    up, down = RATE // shared, rate // shared
    if up * down > _LARGEST_FILTER:  # rates such as 44,101: julius keeps a filter for each phase
        from scipy.signal import firwin, resample_poly

        coarser = max(up, down)
        kernel = firwin(20 * coarser + 1, 1 / coarser, window=("kaiser", 5.0)).astype(np.float32)
        return lambda samples: resample_poly(samples, up, down, window=kernel)
    import julius
    import torch

    resample = julius.ResampleFrac(rate, RATE)
    return lambda samples: resample(torch.from_numpy(samples)).numpy()
