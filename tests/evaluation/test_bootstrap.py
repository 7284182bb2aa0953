"""Bootstrap over people and blocks: against loops and scipy, and how often it holds the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import bootstrap, kstest, ttest_1samp

from tribrain.errors import InputError
from tribrain.evaluation.statistics import bootstrap as module
from tribrain.evaluation.statistics.bootstrap import (
    bootstrap_blocks,
    bootstrap_difference,
    bootstrap_mean,
)


def noise(people: int, rows: int, rng: np.random.Generator, memory: float = 0.6) -> np.ndarray:
    """First-order autoregression (people, rows) of variance 1."""
    drawn = rng.normal(size=(people, rows + 50)) * np.sqrt(1 - memory**2)
    return lfilter([1], [1, -memory], drawn, axis=1)[:, 50:]


def shares(people: int, rows: int, rng: np.random.Generator, truth: float = 0.2) -> np.ndarray:
    """What is common to all people in a film, what is each person's own, and both of a row."""
    own = 0.1 * rng.normal(size=(people, 1))
    return truth + own + 0.5 * noise(1, rows, rng) + 0.7 * noise(people, rows, rng)


def test_percentiles_and_bca_are_those_of_scipy():
    values = np.random.default_rng(0).exponential(size=15)
    for method, name in (("percentile", "percentile"), ("bca", "BCa")):
        found = bootstrap_mean(values, 40_000, seed=1, method=method)
        other = bootstrap((values,), np.mean, n_resamples=40_000, method=name, rng=2)
        expected = other.confidence_interval
        np.testing.assert_allclose([found.low, found.high], expected, atol=0.02)
        assert found.mean == pytest.approx(values.mean())
        assert found.method == method
    stretched = bootstrap_mean(values, 40_000, seed=1)
    percentile = bootstrap_mean(values, 40_000, seed=1, method="percentile")
    assert stretched.low < percentile.low < percentile.high < stretched.high
    assert stretched.se == pytest.approx(values.std(ddof=1) / np.sqrt(15), rel=0.02)
    np.testing.assert_array_equal(stretched.draws, percentile.draws)


@pytest.mark.parametrize("people", [6, 12, 30])
def test_intervals_of_means_hold_the_truth(people):
    """Normal values; percentiles themselves are too narrow."""
    rng, inside, plain, n = np.random.default_rng(people), 0, 0, 600
    for seed in range(n):
        values = rng.normal(1, size=people)
        found = bootstrap_mean(values, 499, seed)
        inside += found.low <= 1 <= found.high
        percentile = bootstrap_mean(values, 499, seed, method="percentile")
        plain += percentile.low <= 1 <= percentile.high
    assert inside / n == pytest.approx(0.95, abs=0.02)
    assert plain < inside


def test_p_of_a_mean_is_that_of_students_t():
    rng = np.random.default_rng(0)
    values = [rng.normal(shift, size=15) for shift in np.linspace(0, 0.5, 20)]
    found = [bootstrap_mean(one).p for one in values]
    np.testing.assert_allclose(found, [ttest_1samp(one, 0).pvalue for one in values], rtol=1e-9)
    null = [bootstrap_mean(rng.normal(size=12), 499, seed).p for seed in range(1000)]
    assert kstest(null, "uniform").pvalue > 0.01


def drawn_by_hand(films: list, block: int, draws: int, equal: bool, people: bool) -> np.ndarray:
    """A loop over draws, blocks and people."""
    rng, means = np.random.default_rng(99), []
    every = np.concatenate(films, axis=1)
    film_of = np.repeat(np.arange(len(films)), [film.shape[1] for film in films])
    rows = every.shape[1]
    for _ in range(draws):
        starts = rng.integers(0, rows, round(rows / block))
        chosen = np.concatenate([np.arange(start, start + block) % rows for start in starts])
        who = rng.integers(0, len(every), len(every)) if people else range(len(every))
        scores = []
        for person in who:
            values = every[person, chosen]
            sizes = np.array([(~np.isnan(film[person])).sum() for film in films])
            weights = 1 / np.maximum(sizes, 1)[film_of[chosen]] if equal else np.ones(len(chosen))
            there = ~np.isnan(values)
            scores.append(np.average(values[there], weights=weights[there]))
        means.append(np.mean(scores))
    return np.array(means)


@pytest.mark.parametrize("equal", [False, True], ids=["rows", "films"])
@pytest.mark.parametrize("people", [False, True], ids=["these-people", "people-drawn"])
def test_draws_are_those_of_a_loop(people, equal):
    rng = np.random.default_rng(0)
    films = [shares(4, 40, rng), shares(4, 15, rng, 1.0), shares(4, 25, rng)]
    films[2][1] = np.nan
    films[0][2, 5:20] = np.nan
    found = bootstrap_blocks(films, 8, 4000, people=people, equal_films=equal)
    expected = drawn_by_hand(films, 8, 1000, equal, people)
    assert found.draws.mean() == pytest.approx(expected.mean(), abs=0.1 * expected.std())
    assert found.draws.std() == pytest.approx(expected.std(), rel=0.08)
    quantiles = [0.05, 0.25, 0.75, 0.95]
    np.testing.assert_allclose(
        np.quantile(found.draws, quantiles),
        np.quantile(expected, quantiles),
        atol=0.15 * expected.std(),
    )
    each = [np.nanmean(np.concatenate([film[p] for film in films])) for p in range(4)]
    if equal:
        each = [
            np.mean([np.nanmean(film[p]) for film in films if not np.isnan(film[p]).all()])
            for p in range(4)
        ]
    assert found.mean == pytest.approx(np.mean(each))


def test_batches_of_draws_change_nothing(monkeypatch):
    films = [shares(3, 50, np.random.default_rng(0))]
    whole = bootstrap_blocks(films, 10, 100, seed=2)
    monkeypatch.setattr(module, "_VALUES", 1)  # one draw at a time
    np.testing.assert_allclose(bootstrap_blocks(films, 10, 100, seed=2).draws, whole.draws)


@pytest.mark.parametrize("people", [5, 12])
def test_intervals_over_people_and_blocks_hold_the_truth(people):
    """The mean of people and films like these, where both bring uncertainty."""
    rng, found = np.random.default_rng(people), []
    for seed in range(250):
        films = [shares(people, rows, rng) for rows in (300, 200, 40)]
        found.append(bootstrap_blocks(films, 20, 300, seed))
    inside = np.mean([one.low <= 0.2 <= one.high for one in found])
    assert 0.93 <= inside <= 0.99
    spread = np.std([one.mean for one in found])
    assert np.mean([one.se for one in found]) == pytest.approx(spread, rel=0.15)


def test_intervals_of_these_people_hold_their_truth():
    """One series, as that of a group: only the film is drawn; blocks have to be long enough."""
    rng, inside, short = np.random.default_rng(0), [], []
    for seed in range(300):
        film = [noise(1, 600, rng)]
        for block, into in ((30, inside), (1, short)):
            found = bootstrap_blocks(film, block, 200, seed)
            into.append(found.low <= 0 <= found.high)
    assert np.mean(inside) == pytest.approx(0.95, abs=0.03)
    assert np.mean(short) < 0.8


def test_a_difference_is_that_of_the_same_draws():
    rng = np.random.default_rng(0)
    a = [shares(6, rows, rng) for rows in (100, 60)]
    b = [film + 0.05 + 0.1 * noise(6, film.shape[1], rng) for film in a]
    settings = {"block": 10, "draws": 500, "seed": 3}
    difference = bootstrap_difference(b, a, **settings)
    one, other = (bootstrap_blocks(films, **settings) for films in (b, a))
    np.testing.assert_allclose(difference.draws, one.draws - other.draws, atol=1e-12)
    assert difference.mean == pytest.approx(one.mean - other.mean)
    assert difference.se < one.se / 3
    assert 0 < difference.low < difference.high
    assert difference.p < 0.01
    back = bootstrap_difference(a, b, **settings)
    assert back.p == difference.p
    assert back.high == pytest.approx(-difference.low)


def test_p_of_differences_keeps_its_level_where_there_is_none():
    rng, p = np.random.default_rng(1), []
    for seed in range(300):
        a, b = ([0.7 * noise(8, 200, rng) + 0.1 * rng.normal(size=(8, 1))] for _ in "ab")
        p.append(bootstrap_difference(a, b, 20, 200, seed).p)
    assert 0.01 < np.mean(np.array(p) <= 0.05) < 0.08
    assert np.mean(np.array(p) <= 0.5) == pytest.approx(0.5, abs=0.08)


def test_p_and_interval_agree():
    rng = np.random.default_rng(5)
    for seed in range(40):
        films = [shares(6, 120, rng, truth=0.25)]
        found = bootstrap_blocks(films, 10, 499, seed)
        if abs(found.p - 0.05) > 0.02:
            assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


def test_people_and_rows_that_are_missing():
    rng = np.random.default_rng(0)
    films = [shares(3, 60, rng), shares(3, 30, rng)]
    gone = [np.concatenate([film, np.full((1, film.shape[1]), np.nan)]) for film in films]
    np.testing.assert_array_equal(bootstrap_blocks(gone).draws, bootstrap_blocks(films).draws)
    values = np.array([0.1, np.nan, 0.3, 0.2])
    np.testing.assert_array_equal(
        bootstrap_mean(values).draws, bootstrap_mean(values[[0, 2, 3]]).draws
    )
    # A person who saw one short film alone is not in the draws without it.
    films[0][0] = np.nan
    films[1][0, 5:] = np.nan
    found = bootstrap_blocks(films, 5)
    assert 1900 < len(found.draws) < 2000
    assert np.isfinite([found.low, found.high]).all()


def test_what_does_not_vary_is_certain_and_what_is_single_is_not_known():
    same = bootstrap_blocks([np.full((4, 100), 0.3)], 10)
    np.testing.assert_allclose([same.mean, same.low, same.high], 0.3)
    assert same.se == pytest.approx(0, abs=1e-12)
    for value in (0.1, 0.2, 1 / 3):  # means of which are rounded
        same = bootstrap_blocks([np.full((3, 100), value)], 10)
        np.testing.assert_allclose([same.low, same.high], value)
        assert same.p == 0
    nothing = bootstrap_blocks([np.zeros((3, 100))], 10)
    assert (nothing.low, nothing.high, nothing.p) == (0, 0, 1)
    single = bootstrap_mean(np.array([0.3]))
    assert single.mean == 0.3
    assert np.isnan([single.low, single.high, single.se, single.p]).all()
    short = bootstrap_blocks([np.random.default_rng(0).normal(size=(1, 20))], 30)
    assert np.isnan([short.low, short.high]).all()


def test_rows_that_nobody_has_make_nothing_certain():
    random = np.random.default_rng(0)
    seen = random.normal(0.2, 1, (3, 60))
    gaps = np.concatenate([np.full((3, 200), np.nan), seen, np.full((3, 50), np.nan)], axis=1)
    one, other = (bootstrap_blocks([film], 10) for film in (seen, gaps))
    np.testing.assert_array_equal(one.draws, other.draws)
    assert (one.low, one.p) == (other.low, other.p)
    lonely = np.full((1, 1000), np.nan)
    lonely[0, 500] = 1.0
    assert np.isnan(bootstrap_blocks([lonely], 1, draws=2).p)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: bootstrap_mean(np.ones((2, 2))), "values .people,., not all NaN"),
        (lambda: bootstrap_mean(np.full(3, np.nan)), "not all NaN"),
        (lambda: bootstrap_mean(np.ones(3), method="t"), "known: stretched, percentile, bca"),
        (lambda: bootstrap_mean(np.ones(3), level=95), "such as 0.95"),
        (lambda: bootstrap_mean(np.ones(3), draws=1), "2 at least"),
        (lambda: bootstrap_mean(np.array([1.0, np.inf])), "infinite"),
        (lambda: bootstrap_blocks([np.full((2, 5), np.inf)]), "infinite"),
        (lambda: bootstrap_blocks([]), "same people"),
        (lambda: bootstrap_blocks([np.ones((2, 5)), np.ones((3, 5))]), "same people"),
        (lambda: bootstrap_blocks([np.full((2, 5), np.nan)]), "no row of anyone"),
        (lambda: bootstrap_blocks([np.ones((2, 5))], 0), "1 at least"),
        (lambda: bootstrap_blocks([np.ones((2, 5))], method="bca"), "known: stretched, percentile"),
        (
            lambda: bootstrap_difference([np.ones((2, 5))], [np.ones((2, 6))]),
            "same people and rows",
        ),
    ],
    ids=range(13),
)
def test_what_does_not_fit_is_told(call, told):
    with pytest.raises(InputError, match=told):
        call()
