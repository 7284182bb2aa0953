"""Ridge beside the transformer in `learning.py`: delayed features, a penalty for each modality.

A row of BOLD is predicted from the features of each second up to 24 s before it: an own finite
impulse response for every feature and output. Banded ridge gives each modality its own penalty
(Nunez-Elizalde, Huth & Gallant 2019, NeuroImage 197:482-492; Dupre la Tour et al. 2022, NeuroImage
264:119728). Penalties are chosen by leaving films out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from tribrain.studies.simulated_stimuli import RATE
from tribrain.training.ridge import Sums, total

DELAYS = 25
"""Seconds of a filter: nothing of the haemodynamic response lies beyond."""
COMMON = 10.0 ** np.arange(-5.0, 2.0)  # of the mean variance of the columns, times the rows
BANDS = (0.1, 1.0, 10.0)  # factors of the best common penalty
FOLDS = 4
FEW = 10.0 ** np.arange(-1.0, 5.25, 0.5)
"""Penalties for few minutes, of the mean of the squared singular values."""


def delayed(series: Mapping[str, np.ndarray], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features of the seconds before each row.

    Parameters
    ----------
    series : mapping of str to ndarray (layers, dimensions, samples)
        Of a film, 2 samples a second.
    rows : ndarray (n,) of int
        Seconds of the film at which BOLD was measured.

    Returns
    -------
    design : ndarray (n, columns), float32
        Each column with mean 0.
    bands : ndarray (columns,) of int
        Modality of each.
    """
    columns, bands = [], []
    for band, values in enumerate(series.values()):
        flat = values.reshape(-1, values.shape[-1])
        seconds = flat.reshape(len(flat), -1, round(RATE)).mean(axis=2).T  # (seconds, features)
        for delay in range(1, DELAYS + 1):
            at = rows - delay
            there = (at >= 0) & (at < len(seconds))
            part = np.zeros((len(rows), len(flat)), np.float32)
            part[there] = seconds[at[there]]
            columns.append(part)
            bands += [band] * len(flat)
    design = np.concatenate(columns, axis=1)
    return design - design.mean(axis=0), np.array(bands)


def film_sums(design: np.ndarray, values: np.ndarray) -> Sums:
    """Sums of a film, its mean taken out: columns (n, columns) and measured values (n, outputs)."""
    y = values - values.mean(axis=0, dtype=np.float64)
    return Sums.of(design - design.mean(axis=0), y.astype(design.dtype))


def weights_of(sums: Sums, penalty: np.ndarray) -> np.ndarray:
    """Weights (columns, outputs) of a penalty for each column, per row and mean variance."""
    xx, xy, _ = sums.centred()
    scale = np.trace(xx) / len(xx)
    factor = cho_factor(xx + np.diag(penalty * scale), lower=True, overwrite_a=True)
    return np.asarray(cho_solve(factor, xy))


def score_of(sums: Sums, weights: np.ndarray) -> np.ndarray:
    """Correlation of each output over the films of the sums."""
    xx, xy, yy = sums.centred()
    predicted = np.einsum("co,co->o", weights, xx @ weights)
    shared = np.einsum("co,co->o", weights, xy)
    return np.asarray(shared / np.sqrt(np.maximum(predicted * yy, 1e-30)))


def banded(films: Sequence[Sums], bands: np.ndarray) -> tuple[dict[str, np.ndarray], str]:
    """Ridge and banded ridge, penalties chosen by leaving a part of the films out.

    Parameters
    ----------
    films : sequence of Sums
        One a part of the films; they are left out in turn.
    bands : ndarray (columns,) of int

    Returns
    -------
    weights : dict of str to ndarray (columns, outputs)
        ``"ridge"`` with the one penalty that is best on average; ``"banded ridge"`` with the best
        of the combinations for each output.
    told : str
        What was chosen.
    """
    rest = [total(o for o in films if o is not left) for left in films]
    every = total(films)

    def tried(penalty: np.ndarray) -> np.ndarray:
        parts = zip(films, rest, strict=True)
        return np.mean([score_of(left, weights_of(o, penalty)) for left, o in parts], axis=0)

    def columns(penalties: Sequence[float]) -> np.ndarray:
        return np.asarray(penalties)[bands]

    count = int(bands.max()) + 1
    means = [tried(columns([penalty] * count)).mean() for penalty in COMMON]
    common = float(COMMON[int(np.argmax(means))])
    choices = [tuple(common * np.array(factors)) for factors in product(BANDS, repeat=count)]
    scores = np.stack([tried(columns(choice)) for choice in choices])
    best = scores.argmax(axis=0)
    weights = np.empty_like(every.xy)
    for number in np.unique(best):
        outputs = best == number
        weights[:, outputs] = weights_of(every, columns(choices[number]))[:, outputs]
    told = (
        f"ridge: penalty {common:.1e} of the mean variance, r {max(means):.4f} where films are "
        f"left out; banded: {len(np.unique(best))} combinations, r {scores.max(axis=0).mean():.4f}"
    )
    return {"ridge": weights_of(every, columns([common] * count)), "banded ridge": weights}, told


def few_minutes(
    x: np.ndarray, y: np.ndarray, people: int
) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Ridge from scratch on few rows, with every penalty, and the one chosen for each person.

    Blocks of contiguous rows are left out in turn, 6 s around them with them.

    Parameters
    ----------
    x : ndarray (n, columns)
    y : ndarray (n, people * outputs)
    people : int

    Returns
    -------
    rows : list of (ndarray (columns, people * outputs), ndarray (people * outputs,))
        Weight and bias of each penalty.
    chosen : ndarray (people,) of int
        Number of the penalty with the best mean correlation in the rows left out.
    """
    scores = np.zeros((len(FEW), y.shape[1]))
    for block in np.array_split(np.arange(len(x)), 5):
        kept = np.ones(len(x), bool)
        kept[max(block[0] - 6, 0) : block[-1] + 7] = False
        for number, (weight, bias) in enumerate(_path(x[kept], y[kept])):
            scores[number] += correlation(x[block] @ weight + bias, y[block])
    means = scores.reshape(len(FEW), people, -1).mean(axis=2)
    return list(_path(x, y)), means.argmax(axis=0)


def _path(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Weight and bias of each penalty of `FEW`, by one singular value decomposition."""
    mean, offset = x.mean(axis=0), y.mean(axis=0)
    u, s, vt = np.linalg.svd(x - mean, full_matrices=False)
    projected = u.T @ (y - offset)
    for factor in FEW:
        penalty = factor * (s**2).sum() / x.shape[1]
        weight = vt.T @ ((s / (s**2 + penalty))[:, None] * projected)
        yield weight, offset - mean @ weight


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlation of each column of two arrays (rows, columns)."""
    a, b = (part - part.mean(axis=0) for part in (a, b))
    scale = np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))
    return np.asarray((a * b).sum(axis=0) / np.where(scale > 0, scale, np.inf))
