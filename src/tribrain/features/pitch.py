"""Pitch of what is heard: fundamental frequency and how periodic the sound is."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from tribrain.features.modulation import FLOOR, RATE, STEP

PITCH_COLUMNS = ("pitch", "pitch_strength")

_LOWEST, _HIGHEST = 75.0, 600.0  # Hz
_REFERENCE = 100.0  # Hz
_WINDOW = 640  # three periods of the lowest pitch, as Boersma asks for
_N_FFT = 1024  # holds the window and the longest lag without wrapping round
_FINE = 4  # lags a sample: the peaks of a sharp pulse are narrower than a sample
# Boersma's 0.01 leans on a smoothed path; without one, noise 5 dB below a vowel made a fifth of the
# moments fall by an octave.
_OCTAVE_COST = 0.05
_VOICED = 0.45


def pitch(samples: Tensor) -> Tensor:
    """Pitch in octaves re 100 Hz and strength of periodicity, 100 a second: (time, 2).

    The autocorrelation of a window of 40 ms is divided by that of the window itself; its highest
    maximum between 1/600 s and 1/75 s, less a little for each octave of lag, is the period
    (Boersma 1993, IFA Proceedings 17:97-110; the voicing threshold is his). Each moment stands for
    itself: the path through the candidates is not smoothed, as that would need the whole
    recording. A tone above 600 Hz is heard an octave or more too low, at a multiple of its period.

    Strength is the correlation at the period, 0 to 1; sound near -80 dB re full scale and below
    counts as aperiodic. Pitch is 0 where strength is below 0.45; a mean over time is therefore one
    over unvoiced moments too.

    Parameters
    ----------
    samples : Tensor (n,)
        Sound at 16 kHz.
    """
    hop = RATE // STEP
    padded = torch.nn.functional.pad(samples, (_WINDOW // 2, _WINDOW // 2))
    frames = padded.unfold(0, _WINDOW, hop)[: len(samples) // hop]
    window = torch.hann_window(_WINDOW)
    correlation = _correlation((frames - frames.mean(1, keepdim=True)) * window)
    of_window = _correlation(window[None])
    silence = FLOOR * window.square().sum()
    lagged = correlation[:, 1:] / (correlation[:, :1] + silence)
    lagged = lagged * (of_window[:, :1] / of_window[:, 1:])
    period, strength = _best_peak(lagged)
    octaves = torch.log2(RATE / period / _REFERENCE)
    return torch.stack([torch.where(strength >= _VOICED, octaves, 0.0), strength], dim=1)


@cache
def _lags() -> Tensor:
    """Lags in samples, from just before the shortest period to just after the longest."""
    first = math.floor(_FINE * RATE / _HIGHEST) - 1
    last = math.ceil(_FINE * RATE / _LOWEST) + 1
    return torch.arange(first, last + 1) / _FINE


@cache
def _cosines() -> Tensor:
    """From a power spectrum to the autocorrelation at lag 0 and at `_lags` (bins, 1 + lags)."""
    bins = torch.arange(_N_FFT // 2 + 1, dtype=torch.float64)
    lags = torch.cat([torch.zeros(1), _lags()]).double()
    basis = 2 * torch.cos(2 * math.pi / _N_FFT * bins[:, None] * lags)
    basis[[0, -1]] /= 2
    return (basis / _N_FFT).float()


def _correlation(frames: Tensor) -> Tensor:
    """Autocorrelation of frames (time, samples), lag 0 first: (time, 1 + lags)."""
    return torch.fft.rfft(frames, _N_FFT).abs().square() @ _cosines()


def _best_peak(correlation: Tensor) -> tuple[Tensor, Tensor]:
    """Period in samples and strength of the best maximum of each row (time, lags).

    Where there is no maximum, the longest period and strength 0.
    """
    left, middle, right = correlation[:, :-2], correlation[:, 1:-1], correlation[:, 2:]
    lags = _lags()[1:-1]
    cost = _OCTAVE_COST * torch.log2(lags * _LOWEST / RATE)
    is_peak = (middle > left) & (middle >= right) & (middle > 0)
    best = torch.where(is_peak, middle.clamp_max(1) - cost, -torch.inf).argmax(1, keepdim=True)
    before, at, after = (part.gather(1, best)[:, 0] for part in (left, middle, right))
    # A parabola through the maximum and its neighbours.
    found = is_peak.gather(1, best)[:, 0]
    bend = torch.where(found, before - 2 * at + after, -1.0)
    shift = torch.where(found, 0.5 * (before - after) / bend, 0.0).clamp(-0.5, 0.5)
    strength = torch.where(found, at - 0.25 * (before - after) * shift, 0.0).clamp(0, 1)
    period = torch.where(found, lags[best[:, 0]] + shift / _FINE, RATE / _LOWEST)
    return period, strength
