"""The benchmark of evaluation: all ways come to the same result on data of one size."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import evaluation as benchmark

SIZE = benchmark.Size(rows=300, outputs=40, portions=(10, 20), permutations=50)


def test_scores():
    data = benchmark.predictions(SIZE)
    exact = benchmark.exact_scores(SIZE, *data)
    np.testing.assert_allclose(benchmark.our_scores(SIZE, *data), exact, atol=1e-10)
    np.testing.assert_allclose(benchmark.numpy_scores(SIZE, *data), exact, atol=1e-3)
    assert 0.2 < exact[0].mean() < 0.4


def test_shifts():
    data = benchmark.predictions(SIZE)
    ours = benchmark.our_shifts(SIZE, *data)
    assert ours.shape == (2, 51)  # every one of the shifts by 125 to 175 rows
    first = benchmark.numpy_shifts(SIZE, *data)
    np.testing.assert_allclose(ours[:, : benchmark.PLAIN_SHIFTS], first, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Solving ridge is slower")
def test_ridge():
    data = benchmark.recordings(SIZE)
    ours, theirs = (way(SIZE, *data) for way in (benchmark.our_ridge, benchmark.himalaya_ridge))
    assert ours.shape == (601, 40)
    np.testing.assert_allclose(ours[-1], theirs[-1], rtol=1e-3)
    np.testing.assert_allclose(ours[:-1], theirs[:-1], atol=1e-4 * np.abs(theirs[:-1]).max())
    assert len(np.unique(ours[-1])) > 1
