"""Sound made ready for an aligner: one channel at 16 kHz, and where it may be cut."""

from __future__ import annotations

import numpy as np

from tribrain.errors import InputError
from tribrain.stimuli.media import AudioTrack, iter_audio

SAMPLE_RATE = 16_000
_BLOCK = 60  # seconds of a track resampled at once
_MARGIN = 1  # seconds before and after a block that its resampling sees


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
        return _resampled(sound)
    sound = np.asarray(sound, dtype=np.float32)
    if sound.ndim != 1:
        raise InputError(
            f"the sound to align has the shape {sound.shape}; mono sound at 16 kHz is (samples,)"
        )
    if not np.isfinite(sound).all():
        raise InputError("the sound to align holds values that are not finite numbers")
    return sound


def _resampled(track: AudioTrack) -> np.ndarray:
    import julius
    import torch

    rate = track.rate
    total = round(track.duration * rate)
    edges = list(range(0, total, _BLOCK * rate))
    spans = [(a / rate, (min(a + _BLOCK * rate, total) - a) / rate) for a in edges]
    pieces = (piece[0] for piece in iter_audio(track, spans, mono=True))
    nothing = np.zeros(0, np.float32)
    parts, before, block = [nothing], nothing, next(pieces, nothing)
    while len(block):
        # The last samples of a block need those behind them.
        following = next(pieces, nothing)
        wave = np.concatenate([before, block, following[: _MARGIN * rate]])
        made = julius.resample_frac(torch.from_numpy(wave), rate, SAMPLE_RATE).numpy()
        first = len(before) // rate * SAMPLE_RATE
        parts.append(made[first : first + round(len(block) * SAMPLE_RATE / rate)])
        before, block = block[-_MARGIN * rate :], following
    return np.concatenate(parts)


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
