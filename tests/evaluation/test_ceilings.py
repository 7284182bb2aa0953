"""Ceilings that are estimated are those that the truth of simulated studies gives."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest

from tribrain.errors import InputError
from tribrain.evaluation import ceilings as module
from tribrain.evaluation.analytic import analytic
from tribrain.evaluation.ceilings import (
    between_people,
    of_group,
    signal_power,
    spearman_brown,
    split_half,
)
from tribrain.evaluation.scores import mean_over, score
from tribrain.studies.simulated import Simulated
from tribrain.studies.simulated_truth import preparation

METHODS = {"halves": split_half, "power": signal_power}
PREPARE = preparation(12 + np.arange(600.0), 1.5)


def zscored(values: np.ndarray) -> np.ndarray:
    return (values - values.mean(axis=0)) / values.std(axis=0)


def measured(study: Simulated) -> np.ndarray:
    """BOLD of all films as it is prepared: (people, repeats, rows, V)."""
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    for run in study.runs():
        values = zscored(PREPARE(run.bold.load().values.astype(float)))
        found.setdefault((run.subject, run.number), []).append(values)
    whole = np.stack([np.concatenate(parts) for parts in found.values()])
    return whole.reshape(study.n_subjects, study.repeats, *whole.shape[1:]).astype("f4")


@cache
def one_person(snr: float, repeats: int) -> tuple[Simulated, np.ndarray]:
    study = Simulated(n_subjects=1, films=6, space=60, snr=snr, repeats=repeats, seed=1)
    return study, measured(study)[0]


@cache
def many_people() -> tuple[Simulated, np.ndarray]:
    study = Simulated(n_subjects=12, films=3, space=60, snr=0.4, seed=2)
    return study, measured(study)[:, 0]


def noisy(power: float, repeats: int, rows: int = 4000, outputs: int = 40, seed: int = 0):
    """Repeats of a white signal of some power, with noise of variance 1."""
    rng = np.random.default_rng(seed)
    signal = np.sqrt(power) * rng.normal(size=(rows, outputs))
    return signal, signal + rng.normal(size=(repeats, rows, outputs))


# --- known truth


@pytest.mark.parametrize(("snr", "repeats"), [(0.5, 2), (0.5, 4), (0.25, 4)])
def test_repeats_tell_the_analytic_ceiling(snr, repeats):
    study, values = one_person(snr, repeats)
    one = analytic(study, "01", prepare=PREPARE).own
    mean = analytic(study, "01", prepare=PREPARE, repeats=repeats).own
    assert mean_over(mean) > mean_over(one) + 0.1
    for method in METHODS.values():
        found = method(values)
        assert mean_over(found.of_one) == pytest.approx(mean_over(one), abs=0.02)
        assert mean_over(found.of_mean) == pytest.approx(mean_over(mean), abs=0.02)
        assert np.sqrt(np.mean((found.of_mean - mean) ** 2)) < 0.07
        assert found.repeats == repeats


def test_the_truth_scores_what_the_repeats_say():
    study, values = one_person(0.5, 4)
    truth = np.concatenate(
        [zscored(PREPARE(study.truth("01", film).astype(float))) for film in study.film_names]
    )
    found = split_half(values)
    assert mean_over(score(truth, values[0]).r) == pytest.approx(mean_over(found.of_one), abs=0.02)
    mean = score(truth, values.mean(axis=0)).r
    assert mean_over(mean) == pytest.approx(mean_over(found.of_mean), abs=0.02)


def test_people_tell_the_analytic_ceiling_of_their_mean():
    study, values = many_people()
    expected = mean_over(study.ceiling(study.subjects, "group", prepare=PREPARE))
    assert mean_over(of_group(values)) == pytest.approx(expected, abs=0.02)
    # Other people are a reference: one who knows what is a person's own does much better.
    others = between_people(values)
    for number in (0, 1):
        own = study.ceiling(study.subjects[number], prepare=PREPARE)
        assert mean_over(own) > mean_over(others[number]) + 0.05


def test_analytic_ceilings_are_ordered():
    study = Simulated(n_subjects=3, films=2, minutes=2.0, space=30, nonlinear=True)
    one = analytic(study, "01")
    own, features, linear, group, group_linear = (
        getattr(one, name).mean() for name in ("own", "features", "linear", "group", "group_linear")
    )
    assert own > features > linear > group_linear > 0
    assert features > group > group_linear
    np.testing.assert_array_equal(one.own, study.ceiling("01"))
    assert (analytic(study, "01", repeats=5).own > one.own).all()
    first = analytic(study, "01", films=["film1"]).own
    np.testing.assert_array_equal(first, study.ceiling("01", films=["film1"]))
    with pytest.raises(InputError, match="0 repeats"):
        analytic(study, "01", repeats=0)
    with pytest.raises(InputError, match="04"):
        analytic(study, "04")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("power", [0.1, 1.0, 20.0])
@pytest.mark.parametrize("repeats", [2, 3, 6])
def test_white_signals_of_known_power(method, power, repeats):
    signal, values = noisy(power, repeats)
    found = METHODS[method](values)
    assert found.reliability_of_one.mean() == pytest.approx(power / (1 + power), abs=0.01)
    expected = power / (power + 1 / repeats)
    assert found.reliability.mean() == pytest.approx(expected, abs=0.015)
    np.testing.assert_allclose(found.of_mean**2, found.reliability)
    assert score(signal, values.mean(axis=0)).r.mean() == pytest.approx(
        found.of_mean.mean(), abs=0.01
    )


# --- how it is done


def test_halves_are_those_of_every_split():
    values = np.random.default_rng(0).normal(size=(5, 80, 3)) + 0.7 * np.sin(np.arange(80))[:, None]
    found = split_half(values, draws=100)  # 15 ways
    total, ways = np.zeros(3), 0
    for one in itertools.combinations(range(5), 2):
        for other in itertools.combinations(sorted(set(range(5)) - set(one)), 2):
            a, b = values[list(one)].mean(axis=0), values[list(other)].mean(axis=0)
            total += [np.corrcoef(a[:, v], b[:, v])[0, 1] for v in range(3)]
            ways += 1
    half = total / ways
    assert ways == 30
    np.testing.assert_allclose(found.reliability, 2.5 * half / (1 + 1.5 * half))
    np.testing.assert_allclose(found.reliability_of_one, 0.5 * half / (1 - 0.5 * half))


def test_signal_power_is_as_the_paper_has_it():
    """Sahani & Linden 2003, from the powers of single repeats and of their mean."""
    _, values = noisy(0.5, 4, rows=300)
    power = values.var(axis=1)
    mean = values.mean(axis=0).var(axis=0)
    signal = (4 * mean - power.mean(axis=0)) / 3
    found = signal_power(values)
    np.testing.assert_allclose(found.reliability_of_one, signal / power.mean(axis=0))
    np.testing.assert_allclose(found.of_mean, np.sqrt(signal / mean))


def test_draws_at_random_depend_on_the_seed_alone_and_are_near_all_of_them(monkeypatch):
    _, values = noisy(0.3, 9, rows=500)
    first, again, other = (split_half(values, 60, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.reliability, again.reliability)
    assert 0 < np.abs(first.reliability - other.reliability).max() < 0.03
    np.testing.assert_allclose(first.reliability, split_half(values, 400).reliability, atol=0.02)
    monkeypatch.setattr(module, "_BLOCK", 9 * 500 * 7)
    np.testing.assert_allclose(split_half(values, 60).reliability, first.reliability)


@pytest.mark.parametrize("method", METHODS)
def test_reliability_below_0_stays_and_has_no_ceiling(method):
    values = np.random.default_rng(0).normal(size=(2, 60, 50))
    values[1, :, :5] = -values[0, :, :5]
    found = METHODS[method](values)
    np.testing.assert_allclose(found.reliability_of_one[:5], -1)
    assert np.isnan(found.reliability[:5]).all()  # no longer measurement has one
    negative = found.reliability_of_one < 0
    assert 15 < negative.sum() < 45
    np.testing.assert_array_equal(np.isnan(found.of_one), negative)
    np.testing.assert_array_equal(np.isnan(found.of_mean), negative)
    assert (found.reliability[5:][negative[5:]] < 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_what_is_missing_or_does_not_vary(method):
    _, values = noisy(1.0, 4, rows=200, outputs=8)
    whole = METHODS[method](values)
    damaged = values.copy()
    damaged[1, 30:60, 0] = np.nan  # rows of one repeat
    damaged[2, :, 1] = np.nan  # a whole repeat
    damaged[:, :, 2] = np.nan
    damaged[:, :, 3] = 0.1
    damaged[1:, :, 4] = np.nan
    found = METHODS[method](damaged)
    rest = np.delete(values[:, :, :1], slice(30, 60), axis=1)
    assert found.reliability[0] == pytest.approx(METHODS[method](rest).reliability[0])
    three = METHODS[method](values[[0, 1, 3], :, 1:2])
    assert found.reliability[1] == pytest.approx(three.reliability[0])
    assert found.of_one[1] == pytest.approx(three.of_one[0])
    for field in (found.reliability, found.reliability_of_one, found.of_mean, found.of_one):
        assert np.isnan(field[[2, 3, 4]]).all()
        assert np.isfinite(field[5:]).all()
    np.testing.assert_allclose(found.reliability[5:], whole.reliability[5:])


@pytest.mark.parametrize("method", METHODS)
def test_a_mean_far_from_0_does_no_harm(method):
    _, values = noisy(1.0, 3, rows=200, outputs=4)
    expected = METHODS[method](values).reliability
    offset = np.array([1e6, -1e7, 0, 1e3])
    np.testing.assert_allclose(METHODS[method](values + offset).reliability, expected, atol=1e-7)


def test_spearman_brown_goes_forth_and_back():
    r = np.array([-0.1, 0.0, 0.3, 0.9, 1.0])
    np.testing.assert_allclose(spearman_brown(spearman_brown(r, 4), 1 / 4), r, atol=1e-12)
    np.testing.assert_allclose(spearman_brown(0.5, 2), 2 / 3)
    assert np.isnan(spearman_brown(np.array(-1.0), 2))


def test_what_does_not_fit_is_refused():
    _, values = noisy(1.0, 2, rows=20, outputs=2)
    for find in (split_half, signal_power, of_group):
        with pytest.raises(InputError, match="two"):
            find(values[:1])
        with pytest.raises(InputError, match=r"\(20, 2\)"):
            find(values[0])
    with pytest.raises(InputError, match="one at least"):
        split_half(values, draws=0)
