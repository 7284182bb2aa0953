"""Fewer columns for baselines: principal components of modalities that have many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

MOST_COLUMNS = 100
"""Columns of a modality up to which a baseline reads them as they are; of more it reads as many
principal components, of the rows that it is fitted to."""


@dataclass(frozen=True, eq=False)
class Reduction:
    """Principal components of the modalities that have many columns.

    Attributes
    ----------
    parts : tuple of (slice, mean, components)
        Of each modality; mean and components (columns, k) are None where columns stay.
    bands : tuple of int
        Columns of each modality after it.
    """

    parts: tuple[tuple[slice, np.ndarray | None, np.ndarray | None], ...]
    bands: tuple[int, ...]

    @classmethod
    def of(
        cls, bands: Mapping[str, int], rows: Callable[[], Iterable[np.ndarray]], most: int
    ) -> Reduction:
        """Find the components of rows (n, columns), which come in pieces."""
        edges = np.cumsum([0, *bands.values()]).tolist()
        parts: list[tuple[slice, np.ndarray | None, np.ndarray | None]] = []
        sizes = []
        for first, stop in pairwise(edges):
            band = slice(first, stop)
            if stop - first <= most:
                parts.append((band, None, None))
                sizes.append(stop - first)
                continue
            mean, vectors = _components((piece[:, band] for piece in rows()), most)
            parts.append((band, mean, vectors))
            sizes.append(vectors.shape[1])
        return cls(tuple(parts), tuple(sizes))

    def apply(self, rows: np.ndarray) -> np.ndarray:
        found = [
            rows[:, band] if vectors is None else (rows[:, band] - mean) @ vectors
            for band, mean, vectors in self.parts
        ]
        return np.concatenate(found, axis=1)


def _components(pieces: Iterable[np.ndarray], most: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and the first principal directions (columns, k), float32."""
    from scipy.linalg import eigh

    n, total, products = 0, np.zeros(1), np.zeros((1, 1))
    for piece in pieces:
        rows = piece.astype(np.float64)
        n, total, products = n + len(rows), total + rows.sum(0), products + rows.T @ rows
    mean = total / n
    covariance = products / n - np.outer(mean, mean)
    width = len(mean)
    _, vectors = eigh(covariance, subset_by_index=[width - min(most, n, width), width - 1])
    return mean.astype(np.float32), np.ascontiguousarray(vectors[:, ::-1], dtype=np.float32)
