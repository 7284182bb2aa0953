"""Windows are found again as by hand, and at chance where nothing tells them."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from tribrain.errors import InputError
from tribrain.evaluation.retrieval import Stacked, retrieval


def series(rows: int, outputs: int, seed: int = 0, noise: float = 1.0):
    """A prediction, and what was measured."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, outputs)).astype("f4")
    return x, (x + noise * rng.normal(size=x.shape)).astype("f4")


def by_hand(x, y, starts, length, k):
    """Share of measured windows of which the right predicted one is among the best k."""
    x, y = ((part - part.mean(axis=0)) / part.std(axis=0) for part in (x, y))
    hits = []
    for start in starts:
        asked = y[start : start + length].ravel()
        others = [s for s in starts if s == start or abs(s - start) >= length]
        r = {s: np.corrcoef(x[s : s + length].ravel(), asked)[0, 1] for s in others}
        hits.append(sum(value > r[start] for value in r.values()) < k)
    return np.mean(hits)


@pytest.mark.parametrize(("length", "step"), [(7, None), (10, 3), (5, 12)])
def test_windows_are_found_as_by_hand(length, step, monkeypatch):
    x, y = series(203, 9, noise=3.0)
    monkeypatch.setattr("tribrain.evaluation.retrieval._BLOCK", 203 * 2)
    found = retrieval(x, y, length, step, top=(1, 2, 5))
    starts = range(0, 203 - length + 1, step or length)
    assert found.windows == len(starts)
    for k in (1, 2, 5):
        assert found.accuracy[k] == pytest.approx(by_hand(x, y, starts, length, k))
    assert found.chance[1] < found.accuracy[1] < found.accuracy[5] < 1
    if step is None:
        assert found.chance[5] == pytest.approx(5 / len(starts))
        assert found.mean_rank_chance == pytest.approx((len(starts) + 1) / 2)


def test_the_right_windows_are_found_and_others_only_by_chance():
    x, y = series(400, 12, noise=0.3)
    assert retrieval(x, y).accuracy == {1: 1.0, 5: 1.0}
    assert retrieval(x, y).mean_rank == 1
    shares = [retrieval(x, series(400, 12, seed)[1]).accuracy for seed in range(1, 60)]
    chance = retrieval(x, y).chance
    for k in (1, 5):
        spread = np.sqrt(chance[k] * (1 - chance[k]) / (40 * 59))
        assert abs(np.mean([one[k] for one in shares]) - chance[k]) < 4 * spread


def test_a_prediction_that_tells_nothing_is_at_chance_exactly():
    _, y = series(120, 4)
    flat = np.tile(np.sin(np.arange(10))[:, None], (12, 4))  # all windows alike
    found = retrieval(flat, y)
    assert found.accuracy == pytest.approx(found.chance)
    assert found.mean_rank == pytest.approx(found.mean_rank_chance) == 6.5


def test_windows_lie_within_runs_and_where_something_was_measured():
    x, y = series(100, 5, noise=0.1)
    runs = np.repeat(["one", "two"], [47, 53])
    assert retrieval(x, y, runs=runs).windows == 4 + 5
    y[23] = np.nan
    assert retrieval(x, y, runs=runs).windows == 3 + 5
    y[:, 2] = np.nan
    y[60, 3] = np.nan
    x[:, 4] = 1.5
    found = retrieval(x, y, runs=runs)
    assert (found.windows, found.outputs, found.accuracy[1]) == (8, 2, 1.0)


def test_one_region_alone_counts_where_it_is_asked_for():
    x, y = series(200, 8, noise=0.2)
    x[:, 4:] = np.random.default_rng(5).normal(size=(200, 4))
    mask = np.arange(8) < 4
    assert retrieval(x, y, outputs=mask).accuracy[1] == 1
    assert retrieval(x, y, outputs=mask).outputs == 4
    assert retrieval(x, y, outputs=~mask).accuracy[1] < 0.4


def test_standardising_keeps_large_outputs_and_mean_maps_out():
    x, y = series(300, 6, noise=0.5)
    loud = np.array([1e4, 1, 1, 1, 1, 1])
    shift = np.linspace(-500, 500, 6)
    noise = np.random.default_rng(1).normal(size=300)
    x[:, 0] = noise
    changed = retrieval(x * loud + shift, y * loud - shift)
    assert changed.accuracy == pytest.approx(retrieval(x, y).accuracy)
    assert changed.accuracy[1] > 0.9
    assert retrieval(x * loud, y * loud, standardise=False).accuracy[1] < 0.3


def test_too_little_to_look_for():
    x, y = series(30, 3)
    with pytest.raises(InputError, match="1 windows of 20 rows"):
        retrieval(x, y, 20)
    with pytest.raises(InputError, match="0 outputs"):
        retrieval(x, y * np.nan)
    with pytest.raises(InputError, match="does not overlap"):
        retrieval(x, y, 20, 2)
    with pytest.raises(InputError, match="1 or more each"):
        retrieval(x, y, 0)
    with pytest.raises(InputError, match="of both"):
        retrieval(x, y[:20])
    with pytest.raises(InputError, match="a truth value for each of 3"):
        retrieval(x, y, outputs=np.array([0, 1]))
    with pytest.raises(InputError, match="2 labels"):
        retrieval(x, y, runs=np.array([0, 1]))


def test_parts_are_searched_as_if_they_were_joined_and_never_are(monkeypatch):
    x, y = series(300, 4000, noise=120.0)
    y[70:75] = np.nan
    edges, runs = [0, 90, 131, 300], np.repeat([0, 1, 2], [90, 41, 169])
    stacked = [Stacked(np.split(one, edges[1:-1])) for one in (x, y)]
    joined = retrieval(x, y, runs=runs)
    assert joined.accuracy[1] < 1
    monkeypatch.setattr("tribrain.evaluation.retrieval._BLOCK", 300 * 40)
    tracemalloc.start()
    found = retrieval(*stacked, runs=runs)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.accuracy == joined.accuracy
    assert found.chance == joined.chance
    assert (found.windows, found.outputs) == (joined.windows, joined.outputs)
    assert found.mean_rank == joined.mean_rank
    assert peak < x.nbytes / 4
