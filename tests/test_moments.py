"""Scores of pieces are those of whole series, as scipy, scikit-learn and himalaya find them."""

from __future__ import annotations

import tracemalloc
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tribrain.errors import InputError
from tribrain.moments import Moments


def plain(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """numpy's correlation of each column over the rows that both have."""
    found = []
    for one, other in zip(x.T, y.T, strict=True):
        there = ~(np.isnan(one) | np.isnan(other))
        one, other = one[there].astype(float), other[there].astype(float)
        varies = len(one) > 1 and np.ptp(one) > 0 and np.ptp(other) > 0
        found.append(np.corrcoef(one, other)[0, 1] if varies else np.nan)
    return np.array(found)


def moments_of(x, y, cuts=(), device: str = "cpu") -> Moments:
    streamed = Moments(device)
    for first, last in pairwise([0, *sorted(cuts), len(x)]):
        streamed.add(x[first:last], y[first:last])
    return streamed


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 1000),
    rows=st.integers(2, 700),
    missing=st.sampled_from([0.0, 0.2, 0.9]),
    offset=st.sampled_from([0.0, 1e3, -1e6]),
    scale=st.sampled_from([1.0, 1e-6, 1e4]),
    data=st.data(),
)
def test_pieces_give_what_numpy_gives_for_the_whole(seed, rows, missing, offset, scale, data):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 6)) + offset
    y = scale * (0.4 * (x - offset) + rng.normal(size=x.shape) + offset)
    y[rng.random(y.shape) < missing] = np.nan
    y[: rows // 2, 0] = np.nan  # nothing was measured at first
    x[:, 1] = 0.1 + offset  # does not vary
    y[:, 2] = np.nan
    cuts = data.draw(st.lists(st.integers(0, rows), max_size=6))
    found = moments_of(x, y, cuts).correlation()
    np.testing.assert_allclose(found, plain(x, y), atol=1e-9 if offset else 1e-11)


@pytest.mark.parametrize("kind", ["f4", "f8"])
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_the_scores_of_scipy_scikit_learn_and_himalaya(kind, missing):
    from himalaya import scoring
    from scipy.stats import pearsonr
    from sklearn.metrics import explained_variance_score, r2_score

    rng = np.random.default_rng(1)
    x = (rng.normal(size=(613, 5)) * [1, 2, 0.1, 5, 1] + [0, 0, 3, 0, -40]).astype(kind)
    y = (0.6 * x + rng.normal(size=x.shape)).astype(kind)
    where = rng.random(y.shape) < missing
    y[where] = np.nan
    found = moments_of(x, y, [1, 100, 101, 400])
    np.testing.assert_array_equal(found.n, (~where).sum(axis=0))
    for output in range(5):
        there = ~where[:, output]
        one, other = x[there, output].astype(float), y[there, output].astype(float)
        expected = {
            "correlation": [
                pearsonr(one, other).statistic,
                scoring.correlation_score(other[:, None], one[:, None])[0],
            ],
            "r2": [r2_score(other, one), scoring.r2_score(other[:, None], one[:, None])[0]],
            "explained_variance": [explained_variance_score(other, one)],
        }
        for name, values in expected.items():
            np.testing.assert_allclose(getattr(found, name)()[output], values, atol=1e-11)


def test_single_precision_far_from_0_is_exact():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(900, 4)) * 20 + 1e4).astype("f4")
    y = (x + rng.normal(0, 30, x.shape)).astype("f4")
    y[:300] = np.nan
    found = moments_of(x, y, [1, 5, 290, 610])
    np.testing.assert_allclose(found.correlation(), plain(x, y), atol=1e-10)
    x, y = x[300:].astype(float), y[300:].astype(float)
    errors = np.square(y - x).sum(axis=0) / np.square(y - y.mean(axis=0)).sum(axis=0)
    np.testing.assert_allclose(found.r2(), 1 - errors, atol=1e-10)
    np.testing.assert_allclose(
        found.explained_variance(), 1 - (y - x).var(axis=0) / y.var(axis=0), atol=1e-10
    )


def test_a_mean_that_drifts_from_piece_to_piece_does_no_harm():
    rng = np.random.default_rng(0)
    drift = np.repeat([0.0, 1e7, -1e7], 100)[:, None]
    x, y = rng.normal(size=(300, 3)) + drift, rng.normal(size=(300, 3)) - drift
    found = moments_of(x, y, [100, 200]).correlation()
    np.testing.assert_allclose(found, plain(x, y), atol=1e-10)


def test_a_first_row_far_from_the_others_does_no_harm():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3))
    y = x + rng.normal(size=x.shape)
    x[[0, 128]] = [1e9, -1e3, 1e5]
    np.testing.assert_allclose(moments_of(x, y).correlation(), plain(x, y), atol=1e-11)


@pytest.mark.parametrize("value", [0.0, 0.1, 12345.678, -1e-9])
@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_what_does_not_vary_has_no_score(value, kind):
    varies = np.random.default_rng(0).normal(size=(700, 1)).astype(kind)
    constant = np.full((700, 1), value, kind)
    flat = moments_of(varies, constant, [33, 300])
    for scores in (flat.correlation(), flat.r2(), flat.explained_variance()):
        assert np.isnan(scores).all()
    guess = moments_of(constant, varies, [33, 300])
    assert np.isnan(guess.correlation()).all()
    np.testing.assert_allclose(guess.explained_variance(), 0, atol=1e-12)
    off = (value - varies.mean(dtype=float)) ** 2 / varies.astype(float).var()
    np.testing.assert_allclose(guess.r2(), -off, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(moments_of(varies, 2 * varies, [33, 300]).correlation(), 1)


def test_nothing_added_and_too_little():
    empty = Moments()
    for scores in (empty.n, empty.correlation(), empty.r2(), empty.explained_variance()):
        assert scores.shape == (0,)
    streamed = Moments()
    streamed.add(np.empty((0, 3)), np.empty((0, 3)))
    assert streamed.correlation().shape == (3,)
    streamed.add(np.ones((1, 3)), np.ones((1, 3)))
    assert np.isnan(streamed.correlation()).all()
    assert np.isnan(streamed.r2()).all()


def test_what_is_infinite_has_no_score_and_harms_no_other_output():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 300, 4))
    expected = plain(x, y)
    x[140, 0], y[3, 1] = np.inf, -np.inf
    found = moments_of(x, y)
    assert np.isnan(found.correlation()[:2]).all()
    assert not np.isfinite(found.r2()[:2]).any()
    np.testing.assert_allclose(found.correlation()[2:], expected[2:], atol=1e-12)


def test_moments_of_parts_are_joined_in_any_order_and_through_their_states():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 500, 7)) + 50
    y[:, 1], y[40:420, 2] = np.nan, np.nan
    parts = [moments_of(x[a:b], y[a:b]) for a, b in pairwise([0, 30, 31, 400, 500])]
    whole = moments_of(x, y)
    joined = Moments()
    for part in reversed(parts):
        joined.join(part)
    joined.join(Moments())
    sent = Moments.of_states([Moments().state(), *(part.state() for part in parts)])
    assert Moments.of_states([Moments().state()]).correlation().shape == (0,)
    for found in (joined, sent):
        np.testing.assert_array_equal(found.n, whole.n)
        for name in ("correlation", "r2", "explained_variance"):
            expected = getattr(whole, name)()
            np.testing.assert_allclose(getattr(found, name)(), expected, atol=1e-12)
    before = parts[-1].correlation()
    joined.add(x, y)  # what was joined is not shared
    np.testing.assert_array_equal(parts[-1].correlation(), before)


@pytest.mark.parametrize(
    "form", ["tensor", "read-only", "backwards", "big-endian", "half", "whole"]
)
def test_arrays_of_any_form(form):
    rng = np.random.default_rng(0)
    x, y = rng.integers(-9, 9, size=(2, 300, 5)).astype("f4")
    expected = plain(x, y)
    if form == "tensor":
        given_x, given_y = torch.from_numpy(x).requires_grad_(), torch.from_numpy(y)
    elif form == "read-only":
        given_x, given_y = x.copy(), y.copy()
        given_x.setflags(write=False)
    elif form == "backwards":
        given_x, given_y = x[::-1, ::-1].copy()[::-1, ::-1], np.asfortranarray(y)
    elif form == "big-endian":
        given_x, given_y = x.astype(">f4"), y.astype(">f8")
    elif form == "half":
        given_x, given_y = x.astype("f2"), torch.from_numpy(y).to(torch.bfloat16)
    else:
        given_x, given_y = x.astype("i2"), y.astype("i8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = moments_of(given_x, given_y)
    np.testing.assert_allclose(found.correlation(), expected, atol=1e-11)


def test_more_outputs_than_are_summed_at_a_time():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 140, 5000)).astype("f4")
    y[::3, ::7] = np.nan
    np.testing.assert_allclose(moments_of(x, y).correlation(), plain(x, y), atol=1e-11)


def test_shapes_that_do_not_fit_are_refused():
    moments = Moments()
    with pytest.raises(InputError, match=r"\(4, 3\) and measured \(4, 2\)"):
        moments.add(np.ones((4, 3)), np.ones((4, 2)))
    with pytest.raises(InputError, match="two axes"):
        moments.add(np.ones(4), np.ones(4))
    moments.add(np.ones((4, 3)), np.ones((4, 3)))
    with pytest.raises(InputError, match="rows of 2 outputs after rows of 3"):
        moments.add(np.ones((4, 2)), np.ones((4, 2)))
    with pytest.raises(InputError, match="3 outputs and of 2"):
        moments.join(moments_of(np.ones((4, 2)), np.ones((4, 2))))


def test_memory_does_not_grow_with_the_rows(monkeypatch):
    tiles = []
    sums = Moments._sums
    monkeypatch.setattr(
        Moments, "_sums", lambda self, x, y: tiles.append(x.numel()) or sums(self, x, y)
    )

    def peak(rows: int) -> int:
        x, y = np.random.default_rng(0).random((2, rows, 2000), dtype="f4")
        tracemalloc.start()
        moments_of(x, y)
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return held

    few, many = peak(500), peak(4000)  # what torch holds, tiles, is not among them
    assert many < 1.2 * few + 10_000
    assert max(tiles) < 2**15


def single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles as a device without double precision sums them."""
    moved = Moments._moved
    monkeypatch.setattr(Moments, "_moved", lambda self, part: moved(self, part).float())


def test_single_precision_sums_are_exact_to_1e_5_far_from_0(monkeypatch):
    single_precision(monkeypatch)
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(900, 4)) + 100).astype("f4")
    y = (x + rng.normal(size=x.shape)).astype("f4")
    np.testing.assert_allclose(moments_of(x, y).correlation(), plain(x, y), atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_finds_what_the_processor_finds():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 5000, 9000)).astype("f4") + 30
    y[::3, ::7] = np.nan
    expected = moments_of(x, y).correlation()
    np.testing.assert_allclose(moments_of(x, y, device="cuda").correlation(), expected, atol=1e-12)
