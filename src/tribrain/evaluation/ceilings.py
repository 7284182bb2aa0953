"""How well series can be predicted at all, as far as repeats and other people tell.

What each is a ceiling of
-------------------------
`split_half`, `signal_power`
    All that repeats in a person when the stimulus does: the correlation that a perfect model would
    have with one repeat, or with the mean of all. It is the square root of the reliability, as the
    perfect model has no noise of its own. A real model cannot be better than by chance; one that
    knows the stimulus alone may be held further back, by what repeats and follows from no feature.
`of_group`
    What these people share: the correlation that the mean of the population would have with the
    mean of these people. A model that knows each of them (that has a row for each) may do better,
    as it also knows what is their own; one for people never seen may not.
`between_people`
    The correlation of each person with the mean of the others. A reference and no bound: a person
    may be predicted better than by others, and the mean of few people is noisy itself.

All of them are estimates from noisy data. A reliability below 0 stays as it is, and its ceiling,
the square root, is NaN: no ceiling can be told there. Where many outputs are near 0, the mean of
those that are not NaN is too high; which outputs to leave out is for `scores.normalise` to say.
Slow drifts that are alike in all repeats (of the scanner, not of the brain) count as signal here:
take them out first.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tribrain.errors import InputError
from tribrain.evaluation.scores import predictivity

_BLOCK = 8_000_000  # values that are held in double precision at a time
_ROUNDING = 1e-10


@dataclass(frozen=True, eq=False)
class Ceiling:
    """What repeats of a run say of the best score (V,); NaN where nothing varies.

    Attributes
    ----------
    reliability : ndarray (V,)
        Correlation to be expected between the mean of all repeats and that of as many others.
        Below 0 where the repeats are less alike than by chance.
    reliability_of_one : ndarray (V,)
        The same of single repeats.
    of_mean : ndarray (V,)
        Correlation that a perfect model would have with the mean of all repeats: the square root
        of `reliability`; NaN where that is negative.
    of_one : ndarray (V,)
        Correlation that it would have with one repeat.
    repeats : int
    """

    reliability: np.ndarray
    reliability_of_one: np.ndarray
    of_mean: np.ndarray
    of_one: np.ndarray
    repeats: int


def split_half(repeats: np.ndarray, draws: int = 100, seed: int = 0) -> Ceiling:
    """Ceilings by the correlation of halves of the repeats.

    The correlation of the means of two halves, averaged over the ways to split, is the reliability
    of the mean of k // 2 repeats; Spearman (1910) and Brown (1910, Br J Psychol 3:271-322) tell
    from it that of k, and of one. Of an odd number one repeat is left out of each split.

    Parameters
    ----------
    repeats : ndarray (k, rows, V)
        The same rows of the stimulus, k times, each repeat z-scored or in one unit. A row that is
        NaN in one of them does not count for that output; a repeat in which an output was never
        measured does not count for it either, and "all repeats" of it are then the others.
    draws : int
        Ways to split: all where there are no more, else so many at random.
    seed : int

    Raises
    ------
    InputError
        Fewer than two repeats, another number of axes, or no draw.
    """
    values = _checked(repeats, "repeats")
    return _ceiling(_halves(values, draws, seed), len(values))


def signal_power(repeats: np.ndarray) -> Ceiling:
    """Ceilings by the power of the signal, the part of the variance that repeats.

    The signal power is the mean covariance of two repeats (Sahani & Linden 2003, NIPS 15, eq. 1
    and 2, in another form); divided by the variance of the mean of all, it is the square of CC_max
    (Schoppe et al. 2016, Front Comput Neurosci 10:10). Parameters and errors as of `split_half`.
    It weighs repeats by their variance, and needs no splits.
    """
    values = _checked(repeats, "repeats")
    found = np.full((2, values.shape[2]), np.nan)
    for place, kept, matrix in _covariances(values):
        k = len(kept)
        if k < 2:
            continue
        single = np.trace(matrix, axis1=1, axis2=2) / k
        both = matrix.sum(axis=(1, 2))
        signal = (both - k * single) / (k * (k - 1))
        with np.errstate(invalid="ignore", divide="ignore"):
            one = np.where(single > 0, signal / single, np.nan)
            found[:, place] = spearman_brown(one, k), one
    return _ceiling(found, len(values))


def between_people(values: np.ndarray) -> np.ndarray:
    """Correlation of each person with the mean of the others (people, V); no bound.

    Leave-one-out inter-subject correlation (Nastase et al. 2019, SCAN 14:667-685) of values
    (people, rows, V): `scores.predictivity`.
    """
    return predictivity(values)


def of_group(values: np.ndarray, draws: int = 100, seed: int = 0) -> np.ndarray:
    """Correlation that the mean of these people could be predicted with (V,).

    By one who knows what people share, from split halves of the people (`split_half`): the square
    root of the reliability of the mean of all of them. NaN where that is negative.

    Parameters
    ----------
    values : ndarray (people, rows, V)
        As they are averaged: z-scored for each person, or not. Rows and people that were not
        measured count as in `split_half`.
    draws, seed
        As of `split_half`.
    """
    values = _checked(values, "people")
    return _root(_halves(values, draws, seed)[0])


def spearman_brown(reliability: np.ndarray, times: float) -> np.ndarray:
    """Reliability of a measurement that is `times` as long as one of a known reliability.

    NaN from where no longer measurement has one: at reliabilities of -1 / (times - 1) and below.
    """
    reliability = np.asarray(reliability, float)
    below = 1 + (times - 1) * reliability
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(below > 0, times * reliability / below, np.nan)


def _ceiling(found: np.ndarray, repeats: int) -> Ceiling:
    return Ceiling(found[0], found[1], _root(found[0]), _root(found[1]), repeats)


def _root(reliability: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.sqrt(reliability)  # NaN of what is negative


def _checked(values: np.ndarray, what: str) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 3 or len(values) < 2:
        raise InputError(
            f"a ceiling of {what} in an array {values.shape}; ({what}, rows, outputs) with two "
            f"{what} at least fits"
        )
    return values


def _halves(values: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Reliability of the mean of all, and of one, by halves (2, V)."""
    if draws < 1:
        raise InputError(f"{draws} draws of halves; one at least fits")
    found = np.full((2, values.shape[2]), np.nan)
    for place, kept, matrix in _covariances(values):
        k = len(kept)
        if k < 2:
            continue
        one, other = _splits(k, draws, seed)
        sums = matrix @ one.T, matrix @ other.T  # (outputs, k, splits)
        across = np.einsum("sk,oks->os", other, sums[0])
        powers = np.einsum("sk,oks->os", one, sums[0]) * np.einsum("sk,oks->os", other, sums[1])
        with np.errstate(invalid="ignore", divide="ignore"):
            half = np.where(powers > 0, across / np.sqrt(powers), np.nan).mean(axis=1)
        size = k // 2
        found[:, place] = spearman_brown(half, k / size), spearman_brown(half, 1 / size)
    return found


def _splits(count: int, draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which repeats are in either half, 1 or 0: twice (splits, count)."""
    size = count // 2
    ways = math.comb(count, size) * math.comb(count - size, size) // 2
    if ways <= draws:
        pairs = [
            (one, other)
            for one in itertools.combinations(range(count), size)
            for other in itertools.combinations(sorted(set(range(count)) - set(one)), size)
            if one < other  # each pair of halves once
        ]
    else:
        rng = np.random.default_rng(seed)
        orders = [tuple(rng.permutation(count).tolist()) for _ in range(draws)]
        pairs = [(order[:size], order[size : 2 * size]) for order in orders]
    halves = np.zeros((2, len(pairs), count))
    for number, pair in enumerate(pairs):
        for half, members in zip(halves, pair, strict=True):
            half[number, list(members)] = 1
    return halves[0], halves[1]


def _covariances(values: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Sums of products of deviations between repeats, in blocks of outputs.

    Every split into halves, and the powers, follow from them: the rows are gone through once.

    Yields
    ------
    place : ndarray (outputs,), int
        Outputs of which the same repeats were measured.
    kept : ndarray (k,), int
        These repeats.
    matrix : ndarray (outputs, k, k), float64
        0 in the rows and columns of a repeat that does not vary.
    """
    count, rows, outputs = values.shape
    wide = max(1, _BLOCK // max(1, count * max(rows, count)))
    for first in range(0, outputs, wide):
        block = np.moveaxis(values[:, :, first : first + wide], 2, 0).astype(float)
        there = ~np.isnan(block)  # (outputs, repeats, rows)
        measured = there.any(axis=2)
        patterns, which = np.unique(measured, axis=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            place, kept = np.flatnonzero(which.ravel() == number), np.flatnonzero(pattern)
            part = block[np.ix_(place, kept)]
            both = there[np.ix_(place, kept)].all(axis=1, keepdims=True)
            part = np.where(both, part, 0.0)
            mean = part.sum(axis=2, keepdims=True) / np.maximum(both.sum(axis=2, keepdims=True), 1)
            part = np.where(both, part - mean, 0.0)
            scale = np.sqrt(both.sum(axis=2)) * np.abs(mean[..., 0]) * _ROUNDING
            part[np.linalg.norm(part, axis=2) <= scale] = 0.0  # what rounding leaves of a constant
            yield place + first, kept, part @ part.swapaxes(1, 2)
