"""Sign flips over people: against scipy's permutation test, and their level."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import kstest, permutation_test, ttest_1samp

from tribrain.errors import InputError
from tribrain.evaluation.statistics import signs
from tribrain.evaluation.statistics.signs import STATISTICS, sign_flips

both_sides = pytest.mark.parametrize("two_sided", [False, True], ids=["greater", "two-sided"])


def people(n: int = 8, outputs: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.3, size=(n, outputs))


@both_sides
def test_all_signs_are_those_of_scipy(two_sided):
    values = people()
    found = sign_flips(values, two_sided=two_sided)
    expected = permutation_test(
        (values,),
        lambda x, axis: x.mean(axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        alternative="two-sided" if two_sided else "greater",
    )
    assert found.exact
    np.testing.assert_allclose(found.p, expected.pvalue)
    np.testing.assert_allclose(found.mean, expected.statistic)
    np.testing.assert_allclose(found.t, ttest_1samp(values, 0).statistic)
    for output in range(6):
        alone = sign_flips(values[:, output], two_sided=two_sided)
        assert alone.p == found.p[output]
        assert alone.p_max == pytest.approx(found.p[output])
        assert alone.t.shape == ()


@both_sides
@pytest.mark.parametrize("statistic", STATISTICS)
def test_the_largest_statistic_is_that_of_a_loop(statistic, two_sided):
    values = people() * np.arange(1, 7)
    found = sign_flips(values, two_sided=two_sided, statistic=statistic)

    def statistics(x):
        value = x.mean(axis=0) if statistic == "mean" else ttest_1samp(x, 0).statistic
        return np.abs(value) if two_sided else value

    largest = [
        statistics(values * np.array(flips)[:, None]).max()
        for flips in itertools.product([1, -1], repeat=8)
    ]
    np.testing.assert_allclose(np.sort(found.max_null), np.sort(largest))
    observed = statistics(values)
    expected = [np.mean(np.array(largest) >= one - 1e-9) for one in observed]
    np.testing.assert_allclose(found.p_max, expected)
    assert (found.p_max >= found.p - 1e-12).all()


@both_sides
def test_drawn_signs_come_near_all_signs(two_sided, monkeypatch):
    values = people(14)
    exact = sign_flips(values, 2**14, two_sided=two_sided)
    assert exact.exact
    monkeypatch.setattr(signs, "_VALUES", 100)  # a few permutations at a time
    drawn = sign_flips(values, 8000, two_sided=two_sided, seed=3)
    assert not drawn.exact
    assert len(drawn.max_null) == 8000
    np.testing.assert_allclose(drawn.p, exact.p, atol=0.02)
    np.testing.assert_allclose(drawn.p_max, exact.p_max, atol=0.02)
    assert drawn.p.min() >= 1 / 8001
    again = sign_flips(values, 8000, two_sided=two_sided, seed=3)
    np.testing.assert_array_equal(again.p, drawn.p)


def test_p_values_are_uniform_where_nothing_is_there():
    """Of people whose outputs are correlated and whose spreads differ."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(12, 1000)) * rng.uniform(0.1, 3, (12, 1))
    assert kstest(sign_flips(values, 999).p, "uniform").pvalue > 0.01
    assert kstest(sign_flips(values, 999, two_sided=True).p, "uniform").pvalue > 0.01
    mixing = rng.normal(size=(5, 5))
    smallest = [
        sign_flips(rng.normal(size=(10, 5)) @ mixing, 299, seed=seed).p_max.min()
        for seed in range(1000)
    ]
    assert kstest(smallest, "uniform").pvalue > 0.01


@pytest.mark.parametrize("statistic", STATISTICS)
def test_people_who_lack_an_output_do_not_count(statistic):
    values = people(9, 4, seed=5)
    values[[1, 4], 1] = np.nan
    values[:, 2] = np.nan
    values[1:, 3] = np.nan
    found = sign_flips(values, statistic=statistic)
    alone = sign_flips(values[~np.isnan(values[:, 1]), 1])
    assert found.p[1] == alone.p
    assert found.t[1] == pytest.approx(alone.t)
    assert np.isnan([found.p[2:], found.p_max[2:], found.mean[2:], found.t[2:]]).all()
    assert np.isfinite(found.max_null).all()


def test_scale_and_ties_change_no_p_value():
    values = np.array([[1.0, -1.0, 2.0, 3.0], [1.0, 1.0, 1.0, 1.0]]).T  # sums that are equal
    for scale in (1e-9, 1.0, 1e9):
        for statistic in STATISTICS:
            found = sign_flips(values * scale, statistic=statistic)
            assert found.p.tolist() == [3 / 16, 1 / 16]
            assert found.p_max[1] <= 3 / 16
    assert np.isinf(sign_flips(values).t[1])


@pytest.mark.parametrize(
    ("values", "arguments", "told"),
    [
        (np.ones((1, 3)), {}, "two people at least"),
        (np.ones((2, 2, 2)), {}, "two people at least"),
        (np.ones((3, 2)), {"statistic": "median"}, "known: t, mean"),
        (np.ones((3, 2)), {"n": 0}, "one at least"),
        (np.array([[1.0, np.inf], [2.0, 1.0]]), {}, "infinite"),
    ],
    ids=["one-person", "three-axes", "statistic", "none", "infinite"],
)
def test_what_does_not_fit_is_told(values, arguments, told):
    with pytest.raises(InputError, match=told):
        sign_flips(values, **arguments)
