"""Ridge of every penalty on one part left out: the coordinates in which it is a division.

With eigenvalues s of the training rows' products, and products with what was measured q (training)
and d (tested) in the coordinates of the eigenvectors, weights are b = q / (s + penalty); their
product with the tested answers is b'd, and their power there is |F b|^2, where F'F are the products
of the tested rows (Hoerl & Kennard 1970, Technometrics 12:55-67; Hastie et al. 2009, The Elements
of Statistical Learning, 3.4.1 and 18.3.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.linalg import eigh

FLAT = 1e-10
"""Variance, as a share of the mean square, up to which a column counts as constant."""


@dataclass(frozen=True, eq=False)
class Tried:
    """What is tried, and how it is scored: as in `validation_scores`."""

    penalties: np.ndarray
    scoring: str
    scales: np.ndarray
    standardise: bool
    relative: bool


@dataclass(frozen=True, eq=False)
class Measured:
    """Of a batch of outputs, in one fold: what its score needs beside the products.

    Attributes
    ----------
    power : ndarray (outputs,)
        Sum of squares of the tested rows about their mean.
    shift : ndarray (outputs,)
        Mean of the tested rows less that of those trained on.
    n : int
        Rows tested.
    """

    power: np.ndarray
    shift: np.ndarray
    n: int


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Coordinates of a fold's training rows, for one way to scale the columns.

    Attributes
    ----------
    turn : ndarray (columns, r), or (training rows, r) where those are fewer
        To coordinates: from products of columns, or from rows.
    values : ndarray (r,)
        Eigenvalues of the training rows' products.
    root : ndarray (any, r)
        Its columns' products are those of the tested rows about their mean.
    offset : ndarray (r,)
        Mean of the tested rows less that of those trained on.
    unit : float
        What a penalty of 1 adds to `values`.
    """

    turn: np.ndarray
    values: np.ndarray
    root: np.ndarray
    offset: np.ndarray
    unit: float


def path_scores(
    way: Coordinates, q: np.ndarray, d: np.ndarray, measured: Measured, how: Tried
) -> np.ndarray:
    """Scores (penalties, outputs) of a fold.

    Parameters
    ----------
    way : Coordinates
    q, d : ndarray (r, outputs)
        Products with what was measured, in the way's coordinates: of the rows trained on, and of
        those tested, each about their means.
    """
    found = np.zeros((len(how.penalties), q.shape[1]))
    varies = measured.power > 0
    safe = np.where(varies, measured.power, 1.0)
    for number, penalty in enumerate(how.penalties):
        b = q / (way.values + penalty * way.unit).astype(q.dtype)[:, None]
        predicted = way.root @ b
        product = np.einsum("ij,ij->j", b, d).astype(np.float64)
        power = np.einsum("ij,ij->j", predicted, predicted).astype(np.float64)
        if how.scoring == "r":
            some = varies & (power > 0)
            found[number, some] = product[some] / np.sqrt(power[some] * safe[some])
        else:
            left = measured.power - 2 * product + power
            left += measured.n * (measured.shift - way.offset.astype(q.dtype) @ b) ** 2
            found[number] = np.where(varies, 1 - left / safe, -np.inf)
    return found


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over rows: how many, of x, and of its products. They add up."""

    n: int
    x: np.ndarray
    xx: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray) -> Self:
        return cls(len(x), x.sum(axis=0), x.T @ x)

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.n + other.n, self.x + other.x, self.xx + other.xx)

    def centred(self) -> np.ndarray:
        """Products about the means."""
        return self.xx - np.outer(self.x, self.x) / self.n


def column_factors(
    variance: np.ndarray, power: np.ndarray, n: int, scale: np.ndarray, standardise: bool
) -> np.ndarray:
    """What each column is multiplied by; columns that are constant get 0.

    Parameters
    ----------
    variance, power : ndarray (columns,)
        Sums of squares over n rows, about their mean and about 0.
    """
    varies = variance > FLAT * power
    if standardise:
        scale = scale / np.sqrt(np.where(varies, variance, 1.0) / n)
    return np.where(varies, scale, 0.0)


def penalty_unit(variance: np.ndarray, relative: bool) -> float:
    """What a penalty of 1 adds to the sums of squares of columns."""
    some = variance[variance > 0]
    return float(some.mean()) if relative and some.size else 1.0


def eigen(products: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = eigh(products, overwrite_a=True, check_finite=False, driver="evd")
    return np.maximum(values, 0.0).astype(np.float64), vectors


def sums_of_squares(values: np.ndarray, rows: int = 256) -> np.ndarray:
    """Sums of squares of each column, in double, without a copy of all in double."""
    found = np.zeros(values.shape[1])
    for first in range(0, len(values), rows):
        part = values[first : first + rows]
        found += np.einsum("ij,ij->j", part, part)
    return found
