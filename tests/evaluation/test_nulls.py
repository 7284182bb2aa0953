"""Nulls in time: against moving the prediction by hand, and their level where nothing is there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import lfilter
from scipy.stats import binom, gamma, kstest, pearsonr

from tribrain.errors import InputError
from tribrain.evaluation.statistics import nulls
from tribrain.evaluation.statistics.moves import KINDS, moves_in_time, run_spans
from tribrain.evaluation.statistics.nulls import null_correlations

every_kind = pytest.mark.parametrize("kind", KINDS)
RUNS = np.repeat(["b", "a", "c"], [40, 23, 30])


def noise(rows: int, outputs: int, seed: int, memory: float = 0.7) -> np.ndarray:
    """First-order autoregression (rows, outputs)."""
    drawn = np.random.default_rng(seed).normal(size=(rows + 50, outputs))
    return lfilter([1], [1, -memory], drawn, axis=0)[50:]


def moved(kind: str, weights: np.ndarray, x: np.ndarray, runs: np.ndarray, block: int):
    """The prediction (rows, outputs), moved by hand as one row of a permutation's weights says."""
    result = np.full_like(x, np.nan)
    spans = run_spans(runs, len(x))
    at, frequencies = 0, sum((end - start) // 2 + 1 for start, end in spans)
    for start, end in spans:
        run = x[start:end]
        if kind == "shift":
            (shift,) = np.flatnonzero(weights[start:end])
            result[start:end] = np.roll(run, shift, axis=0)
        elif kind == "blocks":
            count = len(run) // block
            length = len(run) // count
            order = weights[at : at + count**2].reshape(count, count)
            assert weights[at + count**2] == 1
            assert (order.sum(axis=0) == 1).all()
            assert (order.sum(axis=1) == 1).all()
            at += count**2 + 1
            result[start:end] = run
            for to, source in zip(*np.nonzero(order), strict=True):
                result[start + to * length : start + (to + 1) * length] = run[
                    source * length : (source + 1) * length
                ]
        else:
            count = len(run) // 2 + 1
            turn = weights[at : at + count] + 1j * weights[frequencies + at :][:count]
            at += count
            np.testing.assert_allclose(np.abs(turn), 1, atol=1e-6)
            spectrum = np.fft.rfft(run, axis=0) * turn[:, None]
            result[start:end] = np.fft.irfft(spectrum, len(run), axis=0)
    assert np.isfinite(result).all()
    return result


def correlations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.array([pearsonr(a, b).statistic for a, b in zip(x.T, y.T, strict=True)])


@every_kind
@pytest.mark.parametrize("runs", [None, RUNS], ids=["one-run", "runs"])
def test_permutations_are_correlations_of_the_moved_prediction(kind, runs):
    rows, n, block = 93, 25, 7
    labels = np.zeros(rows) if runs is None else runs
    x, y = noise(rows, 4, 1) + 3, noise(rows, 4, 2) + noise(rows, 4, 1)
    found = null_correlations(x, y, kind, n, runs, block=block, least=5, seed=4)
    spans = run_spans(labels, rows)
    moves = moves_in_time(kind, spans, n, block, 5, np.random.default_rng(4), "cpu")
    weights = moves.total(torch.eye(moves.entries)).numpy()
    null = np.array([correlations(moved(kind, w, x, labels, block), y) for w in weights])
    observed = correlations(x, y)

    np.testing.assert_allclose(found.observed, observed, atol=1e-12)
    np.testing.assert_allclose(found.mean_null, null.mean(axis=1), atol=2e-6)
    np.testing.assert_allclose(found.max_null, null.max(axis=1), atol=2e-6)
    np.testing.assert_allclose(found.p, (1 + (null >= observed).sum(axis=0)) / (n + 1))
    largest = null.max(axis=1)[:, None]
    np.testing.assert_allclose(found.p_max, (1 + (largest >= observed).sum(axis=0)) / (n + 1))
    assert found.observed_mean == pytest.approx(observed.mean())
    reached = (null.mean(axis=1) >= observed.mean()).sum()
    assert found.p_mean == pytest.approx((1 + reached) / (n + 1))
    np.testing.assert_allclose(
        found.interval_mean, np.percentile(null.mean(axis=1), [2.5, 97.5]), atol=2e-6
    )


def test_permutations_differ_and_keep_to_their_rules():
    x, spans = noise(93, 1, 0), run_spans(RUNS, 93)
    for kind in KINDS:
        moves = moves_in_time(kind, spans, 200, 7, 5, np.random.default_rng(0), "cpu")
        weights = moves.total(torch.eye(moves.entries)).numpy()
        assert len(np.unique(weights, axis=0)) > 190
        for one in weights[:20]:
            after = moved(kind, one, x, RUNS, 7)
            for start, end in spans:
                before, now = x[start:end], after[start:end]
                assert now.mean() == pytest.approx(before.mean(), abs=1e-6)
                assert now.var() == pytest.approx(before.var(), abs=1e-5)
                if kind != "phase":
                    np.testing.assert_array_equal(np.sort(now, axis=0), np.sort(before, axis=0))
        if kind == "shift":
            for start, end in spans:
                shifts = np.flatnonzero(weights[:, start:end].any(axis=0))
                assert shifts.min() == 5
                assert shifts.max() == end - start - 5


def test_all_shifts_are_taken_once_where_they_are_few():
    x, y = noise(30, 3, 1), noise(30, 3, 2)
    found = null_correlations(x, y, "shift", 1000, least=6)
    null = np.array([correlations(np.roll(x, s, axis=0), y) for s in range(6, 25)])
    np.testing.assert_allclose(np.sort(found.max_null), np.sort(null.max(axis=1)), atol=1e-6)
    reached = (null >= correlations(x, y)).sum(axis=0)
    np.testing.assert_allclose(found.p, (1 + reached) / 20)

    runs = np.repeat([0, 1], 15)
    found = null_correlations(x, y, "shift", 1000, runs, least=6)
    null = [
        correlations(np.concatenate([np.roll(x[:15], a, 0), np.roll(x[15:], b, 0)]), y).mean()
        for a in range(6, 10)
        for b in range(6, 10)
    ]
    np.testing.assert_allclose(np.sort(found.mean_null), np.sort(null), atol=1e-6)


@every_kind
def test_p_values_are_uniform_where_nothing_is_there(kind):
    x, y = noise(900, 1000, 10), noise(900, 1000, 11)
    found = null_correlations(x, y, kind, 499, np.repeat([1, 2, 3], 300), least=30)
    assert kstest(found.p, "uniform").pvalue > 0.01
    assert binom.cdf((found.p <= 0.05).sum(), 1000, 0.05) < 0.999


@every_kind
def test_p_values_of_means_and_of_largest_values_are_uniform(kind):
    """Of 300 data sets whose outputs are correlated with each other, and have one null each."""
    mixing = np.random.default_rng(0).normal(size=(6, 6))
    means, largest = [], []
    for seed in range(300):
        x, y = noise(300, 6, 2 * seed, 0.5) @ mixing, noise(300, 6, 2 * seed + 1, 0.5) @ mixing
        found = null_correlations(x, y, kind, 199, seed=seed, block=20, least=20)
        means.append(found.p_mean)
        largest.append(np.nanmin(found.p_max))
    assert kstest(means, "uniform").pvalue > 0.01
    assert kstest(largest, "uniform").pvalue > 0.01


def test_rows_by_themselves_would_be_far_too_lenient():
    """What blocks are for: the same data, moved row by row, keep no level."""
    x, y = noise(200, 1000, 10, 0.9), noise(200, 1000, 11, 0.9)
    lenient = null_correlations(x, y, "blocks", 199, block=1)
    assert (lenient.p <= 0.05).mean() > 0.2
    assert (null_correlations(x, y, "blocks", 199, block=40).p <= 0.05).mean() < 0.09


@pytest.mark.slow
@every_kind
def test_level_of_series_as_slow_as_responses(kind):
    """Noise through a haemodynamic response, the p values that are of use included."""
    response = gamma.pdf(np.arange(25), 6)
    rng = np.random.default_rng(3)
    x, y = (lfilter(response, [1], rng.normal(size=(1000, 10_000)), axis=0)[100:] for _ in "xy")
    found = null_correlations(x, y, kind, 999, np.repeat([1, 2, 3], 300), least=30)
    assert kstest(found.p, "uniform").statistic < 0.03
    rates = [(found.p <= level).mean() for level in (0.05, 0.01, 0.001)]
    most = (0.065, 0.02, 0.004) if kind == "shift" else (0.062, 0.014, 0.002)
    assert (np.array(rates) < most).all()


@every_kind
def test_what_is_there_is_found(kind):
    signal = noise(600, 20, 1)
    measured = noise(600, 20, 2)
    measured[:, :10] += 0.5 * signal[:, :10]
    found = null_correlations(signal, measured, kind, 499, block=30, least=30)
    assert (found.p[:10] == 1 / 500).all()
    assert (found.p_max[:10] < 0.01).all()
    assert (found.p_max[10:] > 0.05).all()
    assert found.p_mean == 1 / 500


@every_kind
def test_of_people_the_mean_moved_alike(kind):
    people = [(noise(200, 5, seed), noise(200, 5, seed + 50)) for seed in range(3)]
    together = null_correlations(people, None, kind, 99, seed=1, block=20, least=20)
    single = [null_correlations(*pair, kind, 99, seed=1, block=20, least=20) for pair in people]
    np.testing.assert_allclose(together.observed, np.mean([one.observed for one in single], 0))
    np.testing.assert_allclose(
        together.mean_null, np.mean([one.mean_null for one in single], axis=0), atol=1e-6
    )


def test_people_who_share_the_film_are_not_independent():
    """The same prediction and data of 20 people say as much as those of one."""
    pair = noise(300, 50, 1), noise(300, 50, 2)
    one = null_correlations(*pair, n=99, least=20)
    many = null_correlations([pair] * 20, None, n=99, least=20)
    np.testing.assert_allclose(many.p, one.p)


def test_outputs_that_a_person_lacks_are_those_of_the_others():
    people = [(noise(120, 3, seed), noise(120, 3, seed + 50)) for seed in range(2)]
    people[0][1][:, 1] = np.nan
    found = null_correlations(people, None, n=99, least=20)
    alone = null_correlations(*people[1], n=99, least=20)
    assert found.observed[1] == pytest.approx(alone.observed[1])
    assert found.p[1] == alone.p[1]


@every_kind
def test_missing_rows_do_not_count(kind):
    x, y = noise(150, 3, 1), noise(150, 3, 2)
    y[20:35] = np.nan
    x[100:104, 1] = np.nan
    y[:, 2] = 4.0
    found = null_correlations(x, y, kind, 60, block=15, least=15, seed=2)
    moves = moves_in_time(kind, [(0, 150)], 60, 15, 15, np.random.default_rng(2), "cpu")
    weights = moves.total(torch.eye(moves.entries)).numpy()
    null = np.zeros((60, 2))
    for output in range(2):
        there = ~np.isnan(x[:, output]) & ~np.isnan(y[:, output])
        assert found.observed[output] == pytest.approx(
            pearsonr(x[there, output], y[there, output]).statistic
        )
        scaled = []
        for series in (x[:, output], y[:, output]):
            centred = series - series[there].mean()
            scaled.append(np.nan_to_num(centred / np.linalg.norm(centred[there])))
        a, b = scaled[0][:, None], np.where(there, scaled[1], 0)
        labels = np.zeros(150)
        null[:, output] = [(moved(kind, w, a, labels, 15)[:, 0] * b).sum() for w in weights]
    np.testing.assert_allclose(found.max_null, null.max(axis=1), atol=2e-6)
    np.testing.assert_allclose(found.mean_null, null.mean(axis=1), atol=2e-6)
    assert np.isnan([found.observed[2], found.p[2], found.p_max[2]]).all()


@every_kind
def test_batches_masks_and_reductions_change_nothing(kind, monkeypatch):
    x, y = noise(200, 9, 1), noise(200, 9, 2)
    runs, settings = np.repeat([3, 1], 100), {"block": 15, "least": 20, "seed": 5}
    mask = np.arange(9) % 3 != 1
    whole = null_correlations(x[:, mask], y[:, mask], kind, 99, runs, **settings)
    monkeypatch.setattr(nulls, "_BYTES", 1)  # one output at a time
    found = null_correlations(x, y, kind, 99, runs, mask=mask, **settings)
    for name in ("observed", "p", "p_max"):
        np.testing.assert_allclose(getattr(found, name)[mask], getattr(whole, name), atol=1e-12)
        assert np.isnan(getattr(found, name)[~mask]).all()
    np.testing.assert_allclose(found.max_null, whole.max_null, atol=1e-6)
    np.testing.assert_allclose(found.mean_null, whole.mean_null, atol=1e-6)

    mean = null_correlations(x, y, kind, 99, runs, mask=mask, reduce="mean", **settings)
    np.testing.assert_allclose(mean.mean_null, whole.mean_null, atol=1e-6)
    np.testing.assert_allclose(mean.interval_mean, whole.interval_mean, atol=1e-6)
    assert mean.p_mean == whole.p_mean
    assert np.isnan(mean.p).all()
    assert np.isnan(mean.p_max).all()
    assert np.isnan(mean.max_null).all()
    largest = null_correlations(x, y, kind, 99, runs, mask=mask, reduce="max", **settings)
    np.testing.assert_array_equal(largest.max_null, found.max_null)
    np.testing.assert_array_equal(largest.p_max, found.p_max)
    assert np.isnan(largest.p).all()


@pytest.mark.gpu
@every_kind
def test_the_device_changes_nothing(kind):
    x, y = noise(200, 40, 1), noise(200, 40, 2)
    here = null_correlations(x, y, kind, 99, block=15, least=20)
    there = null_correlations(x, y, kind, 99, block=15, least=20, device="cuda")
    np.testing.assert_allclose(there.max_null, here.max_null, atol=1e-5)
    np.testing.assert_allclose(there.mean_null, here.mean_null, atol=1e-5)


GOOD = np.random.default_rng(0).normal(size=(50, 2))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"kind": "shuffle"}, "known: shift, blocks, phase"),
        ({"reduce": "sum"}, "known: None, mean, max"),
        ({"n": 0}, "one at least"),
        ({"least": 26}, "least=25 or smaller"),
        ({"least": 0}, "1 at least"),
        ({"kind": "blocks", "block": 26}, "block=25 or smaller"),
        ({"kind": "blocks", "block": 0}, "1 at least"),
        ({"kind": "phase", "runs": np.repeat([0, 1], [48, 2])}, "4 rows at least"),
        ({"runs": np.repeat([0, 1, 0], [20, 20, 10]), "least": 5}, "run 0 stand apart"),
        ({"runs": np.zeros(49)}, "one label for each of 50 rows"),
        ({"mask": np.ones(3, bool)}, r"bool \(2,\) fits"),
        ({"mask": np.zeros(2, bool), "least": 5}, "no output has a correlation"),
        ({"measured": GOOD[:, :1]}, "one shape"),
        ({"measured": np.ones((50, 2)), "least": 5}, "no output has a correlation"),
        ({"predicted": [GOOD], "measured": None}, "list of such pairs"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(value),
)
def test_what_does_not_fit_is_told(arguments, told):
    given = {"predicted": GOOD, "measured": GOOD, "n": 9} | arguments
    with pytest.raises(InputError, match=told):
        null_correlations(**given)
