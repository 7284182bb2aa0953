"""Corrections for many outputs: against definitions, and the level they promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest, norm

from tribrain.errors import InputError
from tribrain.evaluation.statistics.correction import (
    METHODS,
    family_wise,
    fdr,
    null_p,
    p_of_counts,
)


def adjusted(p: list[float], method: str) -> list[float]:
    """The definition in a loop: the smallest p_k m / k of all p_k that are no smaller."""
    m, order = len(p), sorted(p)
    factor = sum(1 / k for k in range(1, m + 1)) if method == "by" else 1
    return [
        min([1.0] + [order[k] * m * factor / (k + 1) for k in range(m) if order[k] >= one])
        for one in p
    ]


@pytest.mark.parametrize("method", METHODS)
def test_fdr_is_as_defined_and_leaves_out_what_was_not_tested(method):
    p = np.random.default_rng(0).uniform(size=40) ** 3
    q = fdr(p, method)
    np.testing.assert_allclose(q, adjusted(list(p), method))
    some = np.full((2, 40), np.nan)
    some[1, ::2] = p[::2]
    found = fdr(some, method)
    np.testing.assert_allclose(found[1, ::2], adjusted(list(p[::2]), method))
    assert np.isnan(found[0]).all()
    assert np.isnan(found[1, 1::2]).all()
    assert np.isnan(fdr(np.full(3, np.nan))).all()


@pytest.mark.parametrize("share", [0.0, 0.3])
@pytest.mark.parametrize("smooth", [False, True], ids=["independent", "neighbours-alike"])
def test_false_discoveries_stay_at_their_level(share, smooth):
    """Over 400 mixtures of outputs with and without an effect."""
    rng, outputs, rates = np.random.default_rng(1), 500, {method: [] for method in METHODS}
    power = []
    for _ in range(400):
        z = rng.normal(size=outputs + 9)
        z = np.convolve(z, np.full(10, 10**-0.5), "valid") if smooth else z[:outputs]
        real = np.arange(outputs) < share * outputs
        p = norm.sf(z + 3 * real)
        for method in METHODS:
            found = fdr(p, method) <= 0.05
            rates[method].append((found & ~real).sum() / max(1, found.sum()))
        power.append((fdr(p)[real] <= 0.05).mean() if real.any() else 1.0)
    mean = {method: np.mean(rates[method]) for method in METHODS}
    error = np.std(rates["bh"]) / np.sqrt(400)
    # Benjamini and Hochberg's rate is the level times the share of true null hypotheses.
    # (Where neighbours are alike, at most.)
    level = 0.05 * (1 - share)
    assert mean["bh"] < level + 3.5 * error
    assert smooth or mean["bh"] > level - 3.5 * error
    assert mean["by"] < mean["bh"]
    assert np.mean(power) > 0.6


def test_p_values_count_the_observed_order():
    null = [[0.1, 0.1], [-0.1, 0.2], [0.2, -0.1]]
    np.testing.assert_allclose(null_p([0.3, 0.1], null), [1 / 4, 3 / 4])
    np.testing.assert_allclose(null_p([0.1 + 1e-9, 0.1], null, tie=1e-6), [3 / 4, 3 / 4])
    np.testing.assert_allclose(null_p([0.1 + 1e-9, 0.1], null), [2 / 4, 3 / 4])
    assert np.isnan(null_p([np.nan, 0.1], null)[0])
    assert np.isnan(null_p([0.0], [[1.0], [np.nan]])[0])
    np.testing.assert_allclose(p_of_counts([0, 99], 99), [0.01, 1])


def test_family_wise_is_counted_against_the_largest():
    rng = np.random.default_rng(0)
    observed, null = rng.normal(size=(3, 5)), rng.normal(size=99).round(1)
    observed[0] = observed[0].round(1)  # ties
    observed[2, 2] = np.nan
    expected = [[(1 + sum(null >= one)) / 100 for one in row] for row in observed]
    found = family_wise(observed, null)
    assert np.isnan(found[2, 2])
    there = ~np.isnan(observed)
    np.testing.assert_allclose(found[there], np.array(expected)[there])
    assert family_wise(null.max() + 1e-9, null, tie=1e-6) == family_wise(null.max(), null)


def test_the_smallest_family_wise_p_is_uniform_where_nothing_is_there():
    rng = np.random.default_rng(2)
    smallest = [
        family_wise(rng.normal(size=8), rng.normal(size=(99, 8)).max(axis=1)).min()
        for _ in range(1000)
    ]
    assert kstest(smallest, "uniform").pvalue > 0.01


def test_what_is_no_p_value_is_told():
    with pytest.raises(InputError, match="known: bh, by"):
        fdr([0.1], "holm")
    for wrong in (-0.1, 1.1):
        with pytest.raises(InputError, match="between 0 and 1"):
            fdr([0.5, wrong, np.nan])
