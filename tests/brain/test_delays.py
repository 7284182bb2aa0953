"""Delays estimated from data: known truths, chance, gaps and runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tribrain.brain.delays import delay_errors, estimate_delays, region_delays
from tribrain.brain.haemodynamics import convolve
from tribrain.errors import InputError, InputWarning

FINE = 20  # Hz: true delays are whole samples of it


def bold(delays, rows, rate=1.0, seed=0):
    """Haemodynamic series without noise at (0 s, each delay): two arrays (rows, n)."""
    rng = np.random.default_rng(seed)
    length = round(rows / rate + 40)
    activity = np.repeat(rng.normal(size=(len(delays), length * 4)), FINE // 4, axis=1)
    fine = convolve(activity, FINE, length * FINE)
    fine /= fine[:, 20 * FINE :].std(axis=1, keepdims=True)
    now = np.round((np.arange(rows) / rate + 20) * FINE).astype(int)
    late = now[:, None] - np.round(np.asarray(delays) * FINE).astype(int)
    return fine[:, now].T, np.take_along_axis(fine, late.T, axis=1).T


def noise(rows, n, memory=0.5, seed=1):
    """Autoregressive noise of the first order and variance 1."""
    from scipy.signal import lfilter

    white = np.random.default_rng(seed).normal(size=(rows + 100, n))
    return lfilter([np.sqrt(1 - memory**2)], [1, -memory], white, axis=0)[100:]


def plain_correlations(predicted, measured, reach, bounds):
    """`numpy.corrcoef` over the pairs of each delay, one series."""
    result = []
    for lag in range(-reach, reach + 1):
        pairs = [
            (
                predicted[t - lag] - np.nanmean(predicted[u:v]),
                measured[t] - np.nanmean(measured[u:v]),
            )
            for u, v in bounds
            for t in range(u, v)
            if u <= t - lag < v
        ]
        known = np.array([pair for pair in pairs if not np.isnan(pair).any()])
        result.append(np.corrcoef(known.T)[0, 1])
    return np.array(result)


def plain_peak(correlations, reach, rate):
    """Delay and height of the parabola through the highest correlation and its neighbours."""
    best = int(np.argmax(correlations))
    assert 0 < best < len(correlations) - 1
    a, b, c = np.polyfit([-1, 0, 1], correlations[best - 1 : best + 2], 2)
    return (best - reach - b / (2 * a)) / rate, c - b**2 / (4 * a)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 50), st.floats(-3, 3), st.integers(0, 40), st.booleans())
def test_equals_a_plain_loop_over_pairs_of_rows(seed, delay, n_missing, two_runs):
    predicted, measured = bold([delay], 150, seed=seed)
    measured = measured + noise(150, 1, seed=seed) / 2
    rng = np.random.default_rng(seed)
    predicted[rng.choice(150, n_missing, replace=False)] = np.nan
    measured[rng.choice(150, n_missing, replace=False)] = np.nan
    bounds = [(0, 60), (60, 150)] if two_runs else [(0, 150)]
    runs = ["b"] * 60 + ["a"] * 90 if two_runs else None
    expected = plain_peak(plain_correlations(predicted[:, 0], measured[:, 0], 8, bounds), 8, 1.0)
    found = estimate_delays(predicted, measured, 1.0, longest=8.0, runs=runs, chance=0.999)
    np.testing.assert_allclose(np.ravel(found), expected, atol=1e-6)


@pytest.mark.parametrize(("rate", "error"), [(0.5, 0.12), (1.0, 0.02), (2.0, 0.01)])
def test_true_delays_without_noise(rate, error):
    delays = np.linspace(-4.2, 4.35, 20)
    found, correlation = estimate_delays(*bold(delays, round(400 * rate), rate), rate)
    np.testing.assert_allclose(found, np.round(delays * FINE) / FINE, atol=error)
    assert (correlation > 0.97).all()


def test_true_delays_in_as_much_noise_as_signal():
    """Half an hour at a signal-to-noise ratio (of variances) of 1: a typical error of 0.1 s."""
    delays = np.round(np.linspace(-3, 3, 40) * FINE) / FINE
    predicted, measured = bold(delays, 1800)
    found, correlation = estimate_delays(predicted, measured + noise(1800, 40), 1.0)
    error = found - delays
    assert np.sqrt(np.mean(error**2)) < 0.15
    assert np.median(np.abs(error)) < 0.1
    assert abs(error.mean()) < 0.05
    np.testing.assert_allclose(correlation, np.sqrt(0.5), atol=0.08)


def test_ten_minutes_with_a_quarter_of_the_noise_are_right_to_a_fifth_of_a_second():
    delays = np.round(np.linspace(-3, 3, 200) * FINE) / FINE
    predicted, measured = bold(delays, 600)
    found, _ = estimate_delays(predicted, measured + noise(600, 200) / 2, 1.0)
    assert np.mean(np.abs(found - delays) < 0.2) > 0.95


def test_sign_scale_and_offset():
    predicted, measured = bold([2.0, -1.5], 400)
    found, correlation = estimate_delays(predicted, measured * 7 + 1000, 1.0)
    np.testing.assert_allclose(found, [2.0, -1.5], atol=0.03)
    back, same = estimate_delays(measured * 0.01, predicted, 1.0)
    np.testing.assert_allclose(back, -found, atol=0.01)
    np.testing.assert_allclose(same, correlation, atol=0.01)


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_unrelated_series_tell_no_delay(memory):
    predicted, _ = bold(np.zeros(250), 200)
    with pytest.warns(InputWarning, match=r"of 250 series: .* no more alike than chance"):
        found, correlation = estimate_delays(predicted, noise(200, 250, memory), 1.0)
    assert np.mean(~np.isnan(found)) <= 0.02  # 0.01 is asked for
    assert np.isfinite(correlation).all()


def test_unrelated_haemodynamic_series_tell_no_delay():
    predicted, _ = bold(np.zeros(250), 200, seed=2)
    measured, _ = bold(np.zeros(250), 200, seed=3)
    measured[np.random.default_rng(0).random(200) < 0.2] = np.nan
    with pytest.warns(InputWarning, match="chance"):
        found, _ = estimate_delays(predicted, measured, 1.0)
    assert np.mean(~np.isnan(found)) <= 0.02


def test_a_delay_beyond_the_range_is_no_edge_of_it():
    predicted, measured = bold([2.0, 7.0, -9.0], 400)
    with pytest.warns(InputWarning, match=r"some of 3 series: 2 most alike at an end of \+-4 s"):
        found, _ = estimate_delays(predicted, measured, 1.0, longest=4.0)
    np.testing.assert_array_equal(np.isnan(found), [False, True, True])


def test_flat_and_missing_series_have_neither_delay_nor_correlation():
    predicted, measured = bold([1.0] * 5, 300)
    measured[:, 1], predicted[:, 2], measured[:, 3] = 1000.1, 0.0, np.nan
    with pytest.warns(InputWarning, match="some of 5 series: 3 flat or too short$"):
        delays, correlation = estimate_delays(predicted, measured, 1.0)
    for found in (delays, correlation):
        np.testing.assert_array_equal(np.isnan(found), [False, True, True, True, False])


def test_the_opposite_of_a_prediction_does_not_follow_it():
    predicted, measured = bold([1.0], 400)
    with pytest.warns(InputWarning):
        found, _ = estimate_delays(predicted, -measured, 1.0, longest=3.0)
    assert np.isnan(found).all()


def test_runs_do_not_leak_into_each_other():
    """The end of one run beside the start of the next, which is another part of the film."""
    parts = [bold([delay, delay], 60, seed=seed) for seed, delay in enumerate([1.5] * 8)]
    predicted, measured = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    measured += np.repeat(np.arange(8), 60)[:, None] * 50  # each run has a mean of its own
    runs = np.repeat(np.arange(8), 60)
    found, correlation = estimate_delays(predicted, measured, 1.0, runs=runs)
    np.testing.assert_allclose(found, 1.5, atol=0.05)
    assert (correlation > 0.97).all()
    order = [3, 0, 7, 1, 2, 6, 5, 4]
    shuffled = np.concatenate([np.flatnonzero(runs == run) for run in order])
    again = estimate_delays(predicted[shuffled], measured[shuffled], 1.0, runs=runs[shuffled])
    np.testing.assert_allclose(again, (found, correlation), atol=1e-9)


def test_series_are_worked_on_in_blocks_without_a_seam():
    predicted, measured = bold(np.linspace(-2, 2, 300), 200)
    found, correlation = estimate_delays(predicted, measured, 1.0, longest=5.0)
    for k in (0, 255, 256, 299):
        alone = estimate_delays(predicted[:, [k]], measured[:, [k]], 1.0, longest=5.0)
        np.testing.assert_allclose(np.ravel(alone), [found[k], correlation[k]], atol=1e-9)


def test_standard_errors_are_as_large_as_the_errors():
    delays = np.round(np.linspace(-3, 3, 60) * FINE) / FINE
    predicted, measured = bold(delays, 600)
    measured = measured + noise(600, 60)
    found, _ = estimate_delays(predicted, measured, 1.0)
    errors = delay_errors(predicted, measured, 1.0)
    assert 0.7 < np.sqrt(np.mean(errors**2)) / np.sqrt(np.mean((found - delays) ** 2)) < 1.4
    assert np.mean(np.abs(found - delays) < 2 * errors) > 0.85
    np.testing.assert_array_equal(delay_errors(predicted, measured, 1.0), errors)


def test_standard_errors_are_not_told_without_a_peak_or_with_too_few_blocks():
    predicted, measured = bold([0.5, 8.0], 600)
    errors = delay_errors(predicted, measured, 1.0, longest=5.0)
    np.testing.assert_array_equal(np.isnan(errors), [False, True])
    assert np.isnan(delay_errors(predicted, measured, 1.0, block=150.0)).all()


def regions_world():
    """Three regions of 30 vertices at delays of -1, 0.4 and 2 s, in four times as much noise."""
    delays, labels = np.repeat([-1.0, 0.4, 2.0], 30), np.repeat(["V1", "A5", "FFC"], 30)
    order = np.random.default_rng(5).permutation(90)
    wave, moved = (series[:, [0, 30, 60]].repeat(30, axis=1) for series in bold(delays, 600))
    return wave[:, order], moved[:, order] + 2 * noise(600, 90), labels[order]


def test_regions_tell_more_than_their_vertices():
    predicted, measured, labels = regions_world()
    measured[:, labels == "A5"] += 100 * np.arange(30)
    measured[40:60] = np.nan
    measured[:, np.flatnonzero(labels == "V1")[:3]] = np.nan
    labels[np.flatnonzero(labels == "FFC")[:4]] = ""
    found = region_delays(predicted, measured, labels, 1.0)
    assert list(found.index) == ["A5", "FFC", "V1"]
    np.testing.assert_allclose(found["delay"], [0.4, 2.0, -1.0], atol=0.2)
    assert found["vertices"].tolist() == [30, 26, 27]
    assert ((found["error"] > 0.01) & (found["error"] < 0.2)).all()
    assert (found["correlation"] > 0.9).all()


def test_a_region_is_the_mean_of_its_vertices():
    predicted, measured, labels = regions_world()
    found = region_delays(predicted, measured, labels, 1.0, longest=6.0)
    for name in ("V1", "A5", "FFC"):
        inside = labels == name
        means = [series[:, inside].mean(axis=1)[:, None] for series in (predicted, measured)]
        expected = np.ravel(estimate_delays(*means, 1.0, longest=6.0))
        np.testing.assert_allclose(found.loc[name, ["delay", "correlation"]], expected)


def test_regions_of_whole_numbers_leave_those_below_zero_out():
    predicted, measured, names = regions_world()
    labels = np.select([names == "V1", names == "A5"], [0, 7], -1)
    found = region_delays(predicted, measured, labels, 1.0)
    assert list(found.index) == [0, 7]
    np.testing.assert_allclose(found["delay"], [-1.0, 0.4], atol=0.2)


def test_region_that_was_not_measured_has_no_delay():
    predicted, measured, labels = regions_world()
    measured[:, labels == "A5"] = np.nan
    with pytest.warns(InputWarning, match="some of 3 series: 1 flat"):
        found = region_delays(predicted, measured, labels, 1.0)
    assert found["vertices"].tolist() == [0, 30, 30]
    np.testing.assert_array_equal(found["delay"].isna(), [True, False, False])
    np.testing.assert_array_equal(found["error"].isna(), [True, False, False])


def test_damage_is_refused():
    predicted, measured = bold([1.0, 2.0], 60)
    with pytest.raises(InputError, match=r"predicted has shape \(60, 1\)"):
        estimate_delays(predicted[:, :1], measured, 1.0)
    with pytest.raises(InputError, match=r"rates above 0"):
        estimate_delays(predicted, measured, 0.0)
    for longest in (0.5, 30.0, -1.0):
        with pytest.raises(InputError, match=r"1 s \(a row\) to below 30 s"):
            estimate_delays(predicted, measured, 1.0, longest=longest)
    with pytest.raises(InputError, match="to below 15 s"):
        estimate_delays(predicted, measured, 1.0, longest=20.0, runs=np.repeat([0, 1], 30))
    with pytest.raises(InputError, match="do not stand together"):
        delay_errors(predicted, measured, 1.0, runs=np.tile([0, 1], 30))
    with pytest.raises(InputError, match="one for each column"):
        region_delays(predicted, measured, ["V1"], 1.0)
    with pytest.raises(InputError, match="no vertex is in a region"):
        region_delays(predicted, measured, ["", ""], 1.0)
