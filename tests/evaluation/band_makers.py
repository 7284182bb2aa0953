"""Rows of feature spaces of which some drive the outputs."""

from __future__ import annotations

import numpy as np

BANDS = (5, 20, 8)


def banded_data(
    n: int = 300, outputs: int = 6, noise: float = 1.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, 33) in three bands, and outputs (n, outputs).

    Outputs of an even number follow the first band alone, the others the first and the last one.
    The second band, the largest, says nothing.
    """
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, sum(BANDS)))
    weights = np.random.default_rng(1).normal(size=(sum(BANDS), outputs))
    first, last = x[:, :5] @ weights[:5], x[:, 25:] @ weights[25:]
    signal = first / first.std(axis=0)
    signal[:, 1::2] += (last / last.std(axis=0))[:, 1::2]
    return x, signal + noise * random.normal(size=signal.shape) + 2.0


def correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.array([np.corrcoef(a[:, k], b[:, k])[0, 1] for k in range(a.shape[1])])
