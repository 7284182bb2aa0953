"""Scores of a sum of predictions as sums over its parts, in blocks of outputs.

The measures that use them are `tribrain.evaluation.attribution.product_measure` and
`tribrain.evaluation.attribution.correlation_split`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tribrain.errors import InputError

_BLOCK = 1_000_000  # values in double precision at a time
_ROUNDING = 1e-10
"""Standard deviation, as a share of the mean, below which a series counts as constant."""


@dataclass(frozen=True, eq=False)
class Centred:
    """Series about their means, 0 where a row does not count, and those means.

    parts (k, rows, V) and part_means (k, V), measured (rows, V) and mean (V,), n (V,) rows.
    """

    parts: np.ndarray
    part_means: np.ndarray
    measured: np.ndarray
    mean: np.ndarray
    n: np.ndarray


def split(
    parts: Mapping[str, np.ndarray],
    measured: np.ndarray,
    shares: Callable[[Centred], np.ndarray],
) -> dict[str, np.ndarray]:
    """Shares (V,) of each part, by `r2_shares` or `correlation_shares`.

    Parameters
    ----------
    parts : mapping of str to ndarray (rows, V)
    measured : ndarray (rows, V)
        Rows that are NaN in it or in any part do not count.
    shares : callable

    Raises
    ------
    InputError
        No part, or shapes that differ.
    """
    if not parts:
        raise InputError("no part of a prediction is given")
    for name, part in parts.items():
        if part.ndim != 2 or part.shape != measured.shape:
            raise InputError(
                f"the prediction from {name} has shape {part.shape} and what was measured "
                f"{measured.shape}; (rows, outputs) of both fits"
            )
    found = np.empty((len(parts), measured.shape[1]))
    step = max(1, _BLOCK // max(1, len(measured) * len(parts)))
    for first in range(0, measured.shape[1], step):
        block = slice(first, first + step)
        stacked = np.stack([part[:, block] for part in parts.values()]).astype(float, copy=False)
        with np.errstate(invalid="ignore", divide="ignore"):
            found[:, block] = shares(_centred(stacked, measured[:, block].astype(float)))
    return dict(zip(parts, found, strict=True))


def _centred(parts: np.ndarray, measured: np.ndarray) -> Centred:
    """Centre series, which are changed in place."""
    missing = np.isnan(measured) | np.isnan(parts.sum(axis=0))
    n = len(measured) - missing.sum(axis=0)
    if missing.any():
        parts[:, missing] = 0
        measured[missing] = 0
    part_means, mean = (one.sum(axis=-2) / np.maximum(n, 1) for one in (parts, measured))
    parts -= part_means[:, None]
    measured -= mean
    if missing.any():
        parts[:, missing] = 0
        measured[missing] = 0
    return Centred(parts, part_means, measured, mean, n)


def _squares(series: np.ndarray, mean: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Sum of squares (V,) of centred series; NaN where they vary by no more than rounding."""
    total = np.einsum("rv,rv->v", series, series)
    return np.where(total <= n * (_ROUNDING * mean) ** 2, np.nan, total)


def r2_shares(given: Centred) -> np.ndarray:
    """Of R2 (k, V)."""
    whole, mean = given.parts.sum(axis=0), given.part_means.sum(axis=0)
    inner = np.einsum("krv,rv->kv", given.parts, 2 * given.measured - whole)
    off = (given.part_means - given.mean / len(given.parts)) * (mean - given.mean)
    return np.asarray((inner - given.n * off) / _squares(given.measured, given.mean, given.n))


def correlation_shares(given: Centred) -> np.ndarray:
    """Of the correlation (k, V)."""
    whole, mean = given.parts.sum(axis=0), given.part_means.sum(axis=0)
    squares = _squares(given.measured, given.mean, given.n) * _squares(whole, mean, given.n)
    return np.asarray(np.einsum("krv,rv->kv", given.parts, given.measured) / np.sqrt(squares))
