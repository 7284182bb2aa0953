"""Sound made ready for an aligner: one channel at 16 kHz, and where it may be cut."""

from __future__ import annotations

import numpy as np

from tribrain.errors import InputError
from tribrain.stimuli.recognise_sound import RATE as SAMPLE_RATE
from tribrain.stimuli.recognise_sound import length_at_16k, sound_at_16k
from tribrain.stimuli.tracks import AudioTrack

_BLOCK = 60 * SAMPLE_RATE  # samples of a track resampled at once


def sound_16k(sound: np.ndarray | AudioTrack) -> np.ndarray:
    """Mono sound at 16 kHz.

    Parameters
    ----------
    sound : ndarray (n,) or AudioTrack
        An array is mono at 16 kHz already. A track is decoded, averaged over channels and
        resampled block by block, so that only the result is held whole (3.8 MB a minute).

    Returns
    -------
    ndarray (n,), float32

    Raises
    ------
    InputError
        An array of several dimensions, or with values that are no numbers.
    """
    if isinstance(sound, AudioTrack):
        total = length_at_16k(sound)
        spans = [(first, min(first + _BLOCK, total)) for first in range(0, total, _BLOCK)]
        parts = list(sound_at_16k(sound, spans))
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)
    sound = np.asarray(sound, dtype=np.float32)
    if sound.ndim != 1:
        raise InputError(
            f"the sound to align has the shape {sound.shape}; mono sound at 16 kHz is (samples,)"
        )
    if not np.isfinite(sound).all():
        raise InputError("the sound to align holds values that are not finite numbers")
    return sound


def quiet_cuts(sound: np.ndarray, shortest: float, longest: float) -> list[int]:
    """Where to cut a sound into pieces: at its quietest moments.

    Parameters
    ----------
    sound : ndarray (n,)
        16 kHz.
    shortest, longest : float
        Seconds of a piece; only the last may be shorter.

    Returns
    -------
    list of int
        Samples, from 0 to n.
    """
    step = SAMPLE_RATE // 100
    frames = len(sound) // step
    power = np.square(sound[: frames * step].reshape(frames, step), dtype=np.float64).mean(axis=1)
    # A pause is quiet for a fifth of a second; the closure of a single sound is not.
    smooth = np.convolve(power, np.full(20, 1 / 20), mode="same") if frames else power
    cuts = [0]
    while len(sound) - cuts[-1] > longest * SAMPLE_RATE:
        first = cuts[-1] // step + round(shortest * 100)
        last = cuts[-1] // step + round(longest * 100)
        cuts.append((first + int(np.argmin(smooth[first:last]))) * step)
    return [*cuts, len(sound)]
