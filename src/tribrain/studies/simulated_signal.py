"""From drives to BOLD at any moment, the noise of a scanner, and the score that is expected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np

from tribrain.brain.haemodynamics import RESPONSES
from tribrain.errors import InputError

_LENGTH = 32.0  # seconds of the haemodynamic response
_LATEST = 4.0  # seconds that it may come too early or too late


def bold_of(
    drives: np.ndarray,
    rate: float,
    times: np.ndarray,
    delays: Sequence[float] = (0.0,),
    start: float = 0.0,
) -> np.ndarray:
    """The BOLD signal of drives that are constant within each sample, at any moments.

    The response is that of `brain.haemodynamics.canonical_response`, integrated over each sample
    instead of sampled, so that moments and delays need not lie on a grid.

    Parameters
    ----------
    drives : ndarray (n, samples)
        Sample k lasts from ``start + k / rate`` to ``start + (k + 1) / rate``.
    rate : float
        Samples a second.
    times : ndarray (time,)
        Seconds.
    delays : sequence of float
        Seconds, at most 4 either way; of several the mean response is taken.
    start : float

    Returns
    -------
    ndarray (time, n)
    """
    samples = drives.shape[1]
    latest = np.floor((times - start + _LATEST) * rate).astype(int)
    total = np.zeros((len(times), len(drives)))
    for back in range(round((_LENGTH + 2 * _LATEST) * rate) + 2):
        number = latest - back
        since = (times - start) - number / rate
        weight = _step(since, tuple(delays)) - _step(since - 1 / rate, tuple(delays))
        weight[(number < 0) | (number >= samples)] = 0
        total += weight[:, None] * drives[:, np.clip(number, 0, samples - 1)].T
    return total


def _step(seconds: np.ndarray, delays: tuple[float, ...]) -> np.ndarray:
    """Mean response to activity that goes on from 0 s on."""
    return np.interp(seconds, *_table(delays))


@lru_cache(maxsize=256)
def _table(delays: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The integral of the double gamma, every 5 ms: between them it is straight to 1e-6."""
    from scipy.special import gammainc

    shape = RESPONSES["spm"]
    peak, late = shape.delay / shape.dispersion, shape.undershoot / shape.undershoot_dispersion
    seconds = np.arange(-_LATEST, _LENGTH + _LATEST, 0.005)
    found = np.zeros(len(seconds))
    for delay in delays:
        since = np.clip(seconds - delay, 0, _LENGTH)
        undershoot = gammainc(late, since / shape.undershoot_dispersion) / shape.ratio
        found += gammainc(peak, since / shape.dispersion) - undershoot
    return seconds, found / len(delays) / (1 - 1 / shape.ratio)


@dataclass(frozen=True)
class Noise:
    """The noise of a vertex: autoregressive, drifting, with spikes of motion.

    Attributes
    ----------
    autocorrelation : float
        Of the noise one second apart (0 to 1, 1 excluded); the coefficient of the AR(1) process
        is this to the power of the repetition time, so that noise does not depend on it.
    drift : float
        Standard deviation of slow cosines (periods above 128 s; power falls with the square of
        the frequency), in units of that of the autoregressive noise.
    spikes : float
        Volumes a minute, on average, in which the head moves.
    spike : float
        Standard deviation of what a movement adds to a vertex, in the same units.
    """

    autocorrelation: float = 0.5
    drift: float = 0.5
    spikes: float = 0.5
    spike: float = 2.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            most = 1.0 if field.name == "autocorrelation" else np.inf
            if not 0 <= value < most:
                fits = "0 or more" if most == np.inf else "0 to under 1"
                raise InputError(f"noise: {field.name} {value:g}; {fits} fits")

    def draw(
        self, rng: np.random.Generator, volumes: int, repetition_time: float, spread: Any
    ) -> np.ndarray:
        """Noise (volumes, n), float32.

        Parameters
        ----------
        rng : numpy Generator
        volumes : int
        repetition_time : float
        spread : sparse array (n, n)
            How white noise spreads to neighbours; its rows have norm 1.
        """
        n = spread.shape[0]

        def white(count: int) -> np.ndarray:
            values = rng.standard_normal((count, n), dtype=np.float32)
            for block in range(0, count, 256):  # the product has another order in memory
                values[block : block + 256] = (spread @ values[block : block + 256].T).T
            return values

        kept = np.float32(self.autocorrelation**repetition_time)
        noise = white(volumes)
        fresh = np.sqrt(1 - kept**2)
        for volume in range(1, volumes):
            noise[volume] = kept * noise[volume - 1] + fresh * noise[volume]
        cosines = self._cosines(volumes, repetition_time).astype(np.float32)
        noise += cosines @ white(cosines.shape[1])
        moved = rng.random(volumes) < self._chance(repetition_time)
        noise[moved] += np.float32(self.spike) * white(int(moved.sum()))
        return noise

    def covariance(self, volumes: int, repetition_time: float) -> np.ndarray:
        """Of the noise of a vertex between the volumes of a run (volumes, volumes), exact.

        It is that of vertices whose autoregressive noise has variance 1, which is true of all.
        """
        from scipy.linalg import toeplitz

        found = toeplitz(self.autocorrelation ** (repetition_time * np.arange(volumes)))
        cosines = self._cosines(volumes, repetition_time)
        found += cosines @ cosines.T
        found[np.diag_indices(volumes)] += self._chance(repetition_time) * self.spike**2
        return np.asarray(found)

    def _cosines(self, volumes: int, repetition_time: float) -> np.ndarray:
        """Slow cosines (volumes, count), scaled so that their variances add to that of drift."""
        count = int(2 * volumes * repetition_time / 128.0)
        order = np.arange(1, count + 1)
        moments = (np.arange(volumes) + 0.5) / volumes
        waves = np.sqrt(2) * np.cos(np.pi * np.outer(moments, order)) / order
        total = np.sqrt((1 / order.astype(float) ** 2).sum()) if count else 1.0
        return np.asarray(self.drift * waves / total)

    def _chance(self, repetition_time: float) -> float:
        return min(1.0, self.spikes * repetition_time / 60.0)


@dataclass(frozen=True, eq=False)
class Signal:
    """Series of every vertex as a product: ``bold @ maps``.

    Attributes
    ----------
    bold : ndarray (time, parts)
    maps : ndarray (parts, n)
    """

    bold: np.ndarray
    maps: np.ndarray

    def values(self) -> np.ndarray:
        """The series (time, n), float32."""
        return self.bold.astype(np.float32) @ self.maps.astype(np.float32)


def mean_of(signals: Sequence[Signal]) -> Signal:
    """The mean of the signals of several people, as one product."""
    bold = np.concatenate([signal.bold for signal in signals], axis=1) / len(signals)
    return Signal(bold, np.concatenate([signal.maps for signal in signals]))


def expected_correlation(
    prediction: Signal, truth: Signal, noise: np.ndarray, wide: int = 4096
) -> np.ndarray:
    """Expected Pearson correlation over time of a prediction with the truth and noise.

    With p, s the prediction and the truth less their means and K the covariance of the noise less
    its mean, ``p.s / sqrt(p.p (s.s + tr K))``, corrected to the second order in the noise (the
    correlation is no linear function of it; at 100 volumes the correction is about 0.005)::

        c = p.s / |p|,  D = s.s + tr K
        E r = c D^-1/2 - (p'Ks / |p|) D^-3/2 + 3/8 c D^-5/2 (4 s'Ks + 2 tr K^2)

    Parameters
    ----------
    prediction, truth : Signal
    noise : ndarray (time, time)
        Covariance, the same for all vertices.

    Returns
    -------
    ndarray (n,)
        0 where the prediction is constant.
    """
    centred = noise - noise.mean(axis=0)
    centred -= centred.mean(axis=1, keepdims=True)
    known, true = (part.bold - part.bold.mean(axis=0) for part in (prediction, truth))
    total = np.trace(centred)
    spread = 2 * np.einsum("ij,ij->", centred, centred)
    products = {
        "pp": known.T @ known,
        "ps": known.T @ true,
        "ss": true.T @ true,
        "pks": known.T @ centred @ true,
        "sks": true.T @ centred @ true,
    }
    found = []
    for first in range(0, truth.maps.shape[1], wide):
        p, s = (part.maps[:, first : first + wide] for part in (prediction, truth))
        left = {"pp": p, "ps": p, "ss": s, "pks": p, "sks": s}
        right = {"pp": p, "ps": s, "ss": s, "pks": s, "sks": s}
        v = {
            name: np.einsum("cn,cn->n", left[name], product @ right[name])
            for name, product in products.items()
        }
        norm = np.sqrt(np.maximum(v["pp"], 0))
        varies = norm > 1e-9 * np.sqrt(len(noise))
        norm = np.where(varies, norm, 1.0)
        shared, both = v["ps"] / norm, v["ss"] + total
        score = shared / np.sqrt(both) - v["pks"] / norm / both**1.5
        score += 3 / 8 * shared * both**-2.5 * (4 * v["sks"] + spread)
        found.append(np.where(varies | np.isnan(score), score, 0.0))
    return np.concatenate(found)
