"""Simulated films: what drives the brain in them, and the features that a model is given.

The drives of a film are the features of the textbook table (`brain/textbook.tsv`), 2 a second, 0
where nothing is seen or heard. The nonlinear ones are made of them. A model is given neither: its
features are mixtures of the drives with series that drive nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from tribrain.studies.simulated_signal import bold_of

RATE = 2.0
"""Samples of drives and features a second."""
DRIVES = {
    "text": ("word_rate", "word_rarity"),
    "audio": ("loudness", "low_tones", "high_tones", "voice"),
    "video": ("contrast_left", "contrast_right", "motion_left", "motion_right", "colour"),
}
"""Drives of each modality, in the order of the columns of the textbook model's features."""
LINEAR = tuple(name for names in DRIVES.values() for name in names)
NONLINEAR = ("synchrony", "novelty", "context")

# Standard deviation of what drives nothing, in a model's features: about that of the drives, which
# are divided by what is left of it after the haemodynamic response.
_NUISANCE = 2.0
_SMOOTHING = (0.0, 1.5)  # seconds, of each layer of a model's features
_LAGS = np.arange(-6, 22, 2)  # seconds, of a linear model: longer ones add nothing
_REFERENCE = 4, 3  # films, hours each


def generator(seed: int, *key: int) -> np.random.Generator:
    """Random numbers that depend on a seed and a key alone, on any machine."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def synthetic_drives(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Drives of a synthetic film.

    Shots last 4 s on average and set contrast, motion and colour, which change within them more
    (motion) or less (contrast, colour). Speech comes in turns of about 10 s with pauses of about
    5 s, at 2.5 words a second; scenes of about 40 s differ in how rare its words are. Sounds last
    about 20 s and waver.

    Parameters
    ----------
    rng : numpy Generator
    samples : int
        2 a second.

    Returns
    -------
    ndarray (11, samples)
        In the order of `LINEAR`; at least 0, about 1 on average.
    """
    shot, sound, scene = (_pieces(rng, samples, mean) for mean in (4.0, 20.0, 40.0))

    def level(piece: np.ndarray, spread: float, changing: float, seconds: float) -> np.ndarray:
        """Log-normal: one value a piece, and changes within it."""
        steady = rng.standard_normal(piece[-1] + 1)[piece]
        wavering = autoregressive(rng, 1, samples, seconds)[0]
        return np.exp(spread * steady + changing * wavering)

    both = level(shot, 0.4, 0.1, 2.0)
    moving = level(shot, 0.5, 0.4, 2.0)
    contrast = [both * level(shot, 0.4, 0.1, 2.0) for _ in range(2)]
    motion = [moving * level(shot, 0.4, 0.4, 1.0) for _ in range(2)]
    colour = level(shot, 0.5, 0.05, 2.0)

    talking = _turns(rng, samples, 10.0, 5.0)
    words = np.minimum(rng.poisson(2.5 / RATE, samples), 3) * talking  # in a sample
    rare = rng.gamma(2 * words + 1e-9) / 2 * level(scene, 0.5, 0.0, 1.0)
    voice = talking * level(scene, 0.2, 0.4, 0.7)
    low, high = (level(sound, 0.6, 0.4, 1.5) for _ in range(2))
    loudness = 0.5 * voice + 0.2 * (low + high) + 0.3 * level(shot, 0.3, 0.6, 0.7)
    usual = 2.5 / RATE
    return np.stack(
        [words / usual, rare / usual, loudness, low, high, voice, *contrast, *motion, colour]
    )


def nonlinear_drives(linear: np.ndarray) -> np.ndarray:
    """What no linear model makes of the drives; each looks only back.

    With ``q(x, typical) = (x - typical) / (x + typical)``, from -1 to 1:

    - synchrony ``q(a, 1.2) q(m, 1.3)`` where there is both sound and motion: loudness a and
      motion m are high or low together;
    - novelty ``d / (0.3 + M10 d)``, ``d = |c - M1.5 c|``: a change of contrast and colour c, less
      so the more there were before (divisive adaptation);
    - context ``q(M1.5 w, 0.6) q(B M20 r, 0.6)`` once something was said: what words, or their
      absence, bring about depends on how many and how rare words the last 20 s held.

    ``M20`` is a leaky average over 20 s and ``B`` a step back by a sample; w is the rate of words
    and r their rarity.

    Parameters
    ----------
    linear : ndarray (11, samples)

    Returns
    -------
    ndarray (3, samples)
        In the order of `NONLINEAR`; 0 where nothing is seen or heard.
    """
    series = dict(zip(LINEAR, np.maximum(linear, 0), strict=True))
    sound, moving = series["loudness"], (series["motion_left"] + series["motion_right"]) / 2
    synchrony = _against(sound, 1.2) * _against(moving, 1.3) * ((sound > 0) & (moving > 0))
    seen = (series["contrast_left"] + series["contrast_right"]) / 2 + series["colour"]
    change = np.abs(seen - leaky(seen, 1.5))
    novelty = change / (0.3 + leaky(change, 10.0))
    words = leaky(series["word_rate"], 1.5)
    before = np.concatenate([[0.0], leaky(series["word_rarity"], 20.0)[:-1]])
    context = _against(words, 0.6) * _against(before, 0.6) * (before > 0.02)
    return np.stack([synchrony, novelty, context])


def _against(series: np.ndarray, typical: float) -> np.ndarray:
    return np.asarray((series - typical) / (series + typical))


def model_features(
    linear: np.ndarray, dims: int, mixing: np.random.Generator, film: np.random.Generator
) -> dict[str, np.ndarray]:
    """Features as a model gets them: mixtures of the drives and of series that drive nothing.

    Parameters
    ----------
    linear : ndarray (11, samples)
    dims : int
        Of each modality and layer, at least as many as it has drives; the others are nuisance.
    mixing, film : numpy Generator
        Of the rotations (one a modality and layer, the same in every film), and of the nuisance.

    Returns
    -------
    dict of str to ndarray (2, dims, samples), float32
        The second layer is smoothed over 1.5 s. Linear maps of a layer give the drives exactly.
    """
    features, first = {}, 0
    for modality, names in DRIVES.items():
        drives = linear[first : first + len(names)]
        first += len(names)
        nuisance = autoregressive(film, dims - len(names), linear.shape[1], 2.0) * _NUISANCE
        both = np.concatenate([drives, nuisance * drives.any(axis=0)])
        layers = [_rotation(mixing, dims) @ leaky(both, seconds) for seconds in _SMOOTHING]
        features[modality] = np.stack(layers).astype(np.float32)
    return features


def autoregressive(
    rng: np.random.Generator, count: int, samples: int, seconds: float
) -> np.ndarray:
    """Stationary AR(1) series (count, samples) of variance 1 that forget within `seconds`."""
    white = rng.standard_normal((count, samples))
    kept = np.exp(-1 / (seconds * RATE))
    white[:, 1:] *= np.sqrt(1 - kept**2)
    return _recursive(white, kept)


def leaky(series: np.ndarray, seconds: float) -> np.ndarray:
    """Average (..., time) with weights that fall exponentially into the past."""
    kept = np.exp(-1 / (seconds * RATE)) if seconds else 0.0
    return _recursive((1 - kept) * series, kept)


def _recursive(series: np.ndarray, kept: float) -> np.ndarray:
    from scipy.signal import lfilter

    found: np.ndarray = lfilter([1.0], [1.0, -kept], series, axis=-1)
    return found


def _pieces(rng: np.random.Generator, samples: int, mean: float) -> np.ndarray:
    """Number of the shot or scene of each sample; lengths are gamma, of shape 2."""
    lengths = np.maximum(1, np.rint(rng.gamma(2.0, mean * RATE / 2, samples))).astype(int)
    return np.repeat(np.arange(samples), lengths)[:samples]


def _turns(rng: np.random.Generator, samples: int, on: float, off: float) -> np.ndarray:
    """Whether someone speaks at each sample (1 or 0)."""
    lengths = rng.exponential(np.tile([on, off], samples) * RATE)
    states = np.tile([1, 0], samples)
    return np.repeat(states, np.maximum(1, np.rint(lengths)).astype(int))[:samples]


def _rotation(rng: np.random.Generator, dims: int) -> np.ndarray:
    matrix, triangle = np.linalg.qr(rng.standard_normal((dims, dims)))
    # The signs of a decomposition are a matter of the library; these are not.
    return np.asarray(matrix * np.sign(np.diag(triangle)))


@dataclass(frozen=True, eq=False)
class Reference:
    """What the drives are like over a long time.

    Attributes
    ----------
    scale : ndarray (drives,)
        Standard deviation of each after the haemodynamic response, linear ones first.
    covariance : ndarray (drives, drives)
        Of the BOLD of drives divided by their scale.
    filters : ndarray (nonlinear, lags, linear)
        The best linear prediction of each nonlinear drive, after the haemodynamic response, from
        the linear ones at lags of -6 to 20 s; both divided by their scale.
    """

    scale: np.ndarray
    covariance: np.ndarray
    filters: np.ndarray

    def linear_estimate(self, linear: np.ndarray) -> tuple[np.ndarray, float]:
        """Nonlinear drives (nonlinear, samples) as a linear model sees them, and their start.

        They start before the film (seconds, negative) and last longer, as the lags do.
        """
        steps = (_LAGS * RATE).astype(int)
        samples = linear.shape[1]
        found = np.zeros((len(self.filters), samples + steps[-1] - steps[0]))
        for number, step in enumerate(steps - steps[0]):
            found[:, step : step + samples] += self.filters[:, number] @ linear
        return found, steps[0] / RATE


@cache
def synthetic_reference() -> Reference:
    """Of twelve hours of synthetic film: by then filters of more hours predict no better."""
    count, hours = _REFERENCE
    rng = generator(0, 99)
    return reference([synthetic_drives(rng, round(3600 * hours * RATE)) for _ in range(count)])


def reference(films: Sequence[np.ndarray]) -> Reference:
    """Scales, covariance and the best linear filters by least squares over films.

    Parameters
    ----------
    films : sequence of ndarray (11, samples)
        Linear drives. Filters of little more than an hour fit chance too: what they predict in the
        same films is then an upper bound of what a linear model reaches.

    Returns
    -------
    Reference
    """
    early, late = -int(_LAGS[0]), int(_LAGS[-1])
    parts = []
    for linear in films:
        drives = np.concatenate([linear, nonlinear_drives(linear)])
        times = np.arange(-late, linear.shape[1] / RATE + early)  # a second apart
        parts.append(bold_of(drives, RATE, times).T)
    scale = np.std(np.concatenate([part[:, late:-early] for part in parts], axis=1), axis=1)
    scale = np.where(scale > 0, scale, 1.0)
    bold, lagged = [], []
    for part in parts:
        scaled = part / scale[:, None]
        shown = np.arange(late, scaled.shape[1] - early)
        bold.append(scaled[:, shown])
        lagged.append(np.concatenate([scaled[: len(LINEAR), shown - lag] for lag in _LAGS]))
    outcome, design = (np.concatenate(part, axis=1) for part in (bold, lagged))
    covariance = np.cov(outcome)
    design = design - design.mean(axis=1, keepdims=True)
    gram = design @ design.T / design.shape[1]
    cross = design @ outcome[len(LINEAR) :].T / design.shape[1]
    weights = np.linalg.solve(gram + 1e-4 * np.eye(len(gram)), cross)  # delays are collinear
    filters = weights.T.reshape(len(NONLINEAR), len(_LAGS), len(LINEAR))
    return Reference(scale, covariance, filters)


def stack_drives(series: Mapping[str, np.ndarray]) -> np.ndarray:
    """Drives (11, samples) of a film from textbook features by modality, each (1, drives, time).

    A modality that is missing drives nothing.
    """
    samples = next(iter(series.values())).shape[-1]
    parts = [
        np.asarray(series[modality][0], float)
        if modality in series
        else np.zeros((len(names), samples))
        for modality, names in DRIVES.items()
    ]
    return np.concatenate(parts)
