"""Simple features of what is heard: loudness, low and high tones, voice. Nothing to download.

Worked out 100 times a second on 16 kHz mono, averaged to the feature clock. Values are scaled so
that ordinary speech lies near 1; nothing is scaled by the recording itself, so an hour of silence
or of music beside it changes no value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from tribrain.stimuli.media import AudioTrack, iter_audio

SOUND_FEATURES = ("loudness", "low_tones", "high_tones", "voice")

_RATE = 16_000
_STEP = 100  # values a second before averaging
_BLOCK, _MARGIN = 30, 1  # seconds
_LOW, _HIGH = 800.0, 2000.0  # Hz
_VOICE_BAND = (300.0, 3400.0)  # Hz
_SYLLABLES = (2.0, 8.0)  # Hz

# Root-mean-square amplitude of speech as it is recorded (full scale is 1), and of its parts.
_TYPICAL = {"all": 0.1, "low": 0.08, "high": 0.03, "voice": 0.04}
_LOUDNESS_EXPONENT = 0.6  # of amplitude (Stevens 1955, J Acoust Soc Am 27:815-829)


def sound_features(
    track: AudioTrack,
    n: int,
    frequency: float,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Loudness, energy of low and of high tones, and modulation of the voice band.

    Parameters
    ----------
    track : AudioTrack
    n : int
        Samples wanted, from the track's start; zeros after its end.
    frequency : float
        Samples a second; a divisor of 100.

    Returns
    -------
    ndarray (4, n), float32
        In the order of `SOUND_FEATURES`.
    """
    per_sample = round(_STEP / frequency)
    total = int(np.ceil(track.duration))
    parts = []
    for block in _blocks(track, total):
        values = _describe(block)
        margin = _MARGIN * _STEP
        parts.append(values[margin:-margin])
        if progress is not None:
            progress(min(total, len(parts) * _BLOCK), total)
    fine = torch.cat(parts).numpy()
    padded = np.zeros((n * per_sample, len(SOUND_FEATURES)), np.float32)
    padded[: len(fine)] = fine[: len(padded)]
    return padded.reshape(n, per_sample, -1).mean(axis=1).T


def _blocks(track: AudioTrack, total: int) -> Iterator[Tensor]:
    """Mono sound at 16 kHz in blocks, each with a margin of its neighbours' sound."""
    import julius

    starts = range(0, total, _BLOCK)
    spans = [(float(start), float(min(_BLOCK, total - start))) for start in starts]
    margin = _MARGIN * track.rate
    before = np.zeros(margin, np.float32)
    pieces = (piece.mean(axis=0, dtype=np.float32) for piece in iter_audio(track, spans))
    current = next(pieces)
    while current is not None:
        after = next(pieces, None)
        head = np.zeros(0, np.float32) if after is None else after[:margin]
        head = np.pad(head, (0, margin - len(head)))
        whole = torch.from_numpy(np.concatenate([before, current, head]))
        yield julius.resample_frac(whole, track.rate, _RATE) if track.rate != _RATE else whole
        before = np.concatenate([before, current])[-margin:]
        current = after


def _describe(samples: Tensor) -> Tensor:
    """Features of a block (n,), 100 a second: (time, 4)."""
    window = torch.hann_window(512)
    spectrum = torch.stft(
        samples,
        512,
        hop_length=_RATE // _STEP,
        window=window,
        return_complex=True,
        pad_mode="constant",
    )[:, : len(samples) * _STEP // _RATE]
    # Twice the mean power of each band (Parseval), so that the root is its amplitude.
    power = 2 * spectrum.abs().square() / (512 * window.square().sum())
    hertz = torch.fft.rfftfreq(512, 1 / _RATE)
    voice_band = (hertz >= _VOICE_BAND[0]) & (hertz <= _VOICE_BAND[1])
    bands = {
        "all": hertz >= 50,
        "low": (hertz >= 50) & (hertz < _LOW),
        "high": hertz >= _HIGH,
        "voice": voice_band,
    }
    amplitude = {name: power[band].sum(0).sqrt() for name, band in bands.items()}
    loudness = [
        (amplitude[name] / _TYPICAL[name]) ** _LOUDNESS_EXPONENT for name in ("all", "low", "high")
    ]
    return torch.stack([*loudness, _modulation(amplitude["voice"]) / _TYPICAL["voice"]], dim=1)


def _modulation(envelope: Tensor) -> Tensor:
    """Strength of an envelope's modulation at the rate of syllables (100 values a second).

    The filter and the smoothing are symmetric: a value sees up to 0.75 s to each side.
    """
    reach = _STEP // 2
    time = torch.arange(-reach, reach + 1.0) / _STEP
    taper = torch.hann_window(2 * reach + 3, periodic=False)[1:-1]
    low, high = _SYLLABLES
    kernel = 2 * high * torch.sinc(2 * high * time) - 2 * low * torch.sinc(2 * low * time)
    kernel = kernel * taper / _STEP
    kernel = kernel - taper * kernel.sum() / taper.sum()  # a steady sound has none
    padded = torch.nn.functional.pad(envelope[None, None], (reach, reach))
    filtered = torch.nn.functional.conv1d(padded, kernel[None, None])[0, 0]
    # Smoothed over half a second: the strength of a modulation, not its course.
    width = _STEP // 4
    smooth = torch.nn.functional.avg_pool1d(
        filtered.square()[None, None], 2 * width + 1, 1, width, count_include_pad=True
    )
    return smooth[0, 0].clamp_min(0).sqrt()
