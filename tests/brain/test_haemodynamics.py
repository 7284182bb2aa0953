"""The haemodynamic response and convolution with it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tribrain.brain.haemodynamics import (
    DERIVATIVES,
    LAG,
    RESPONSES,
    canonical_response,
    convolve,
    fir,
    run_bounds,
)
from tribrain.errors import InputError

numbers = st.floats(-1e3, 1e3, allow_nan=False, width=32)
series = arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(1, 60)), elements=numbers)
frequencies = pytest.mark.parametrize("frequency", [1.0, 2.0, 4.0, 10.0])


@frequencies
def test_response_is_the_double_gamma_with_sum_one(frequency):
    times = np.arange(round(32 * frequency) + 1) / frequency
    expected = np.array([t**5 * math.exp(-t) / math.factorial(5) for t in times]) - np.array(
        [t**15 * math.exp(-t) / math.factorial(15) / 6 for t in times]
    )
    response = canonical_response(frequency)
    assert response.shape == (round(32 * frequency) + 1,)
    assert response.sum() == pytest.approx(1)
    np.testing.assert_allclose(response, expected / expected.sum(), atol=1e-12)


@frequencies
def test_peak_at_five_seconds_and_undershoot_after_ten(frequency):
    response = canonical_response(frequency)
    assert response.argmax() / frequency == pytest.approx(5, abs=0.5)
    assert response[0] == 0
    low = response.argmin() / frequency
    assert 12 < low < 18
    assert -0.2 * response.max() < response.min() < -0.05 * response.max()
    assert abs(response[-1]) < 0.01 * response.max()


@settings(max_examples=60, deadline=None)
@given(series, st.integers(1, 90))
def test_convolution_equals_that_of_numpy(values, n):
    response = canonical_response(2.0)
    found = convolve(values, 2.0, n)
    assert found.shape == (len(values), n)
    for row, one in zip(values, found, strict=True):
        expected = np.zeros(max(n, len(row) + len(response) - 1))
        expected[: len(row) + len(response) - 1] = np.convolve(row, response)
        np.testing.assert_allclose(one, expected[:n], atol=1e-9 * (1 + np.abs(row).max()))


@settings(max_examples=60, deadline=None)
@given(series, numbers, numbers)
def test_convolution_is_linear(values, a, b):
    other = values[:, ::-1]
    together = convolve(a * values + b * other, 2.0, 70)
    apart = a * convolve(values, 2.0, 70) + b * convolve(other, 2.0, 70)
    scale = 1 + np.abs(values).max() * (abs(a) + abs(b))
    np.testing.assert_allclose(together, apart, atol=1e-9 * scale)


@settings(max_examples=60, deadline=None)
@given(series, st.data())
def test_convolution_is_causal(values, data):
    moment = data.draw(st.integers(0, values.shape[1] - 1))
    changed = values.copy()
    changed[:, moment:] += 1.0
    before, after = convolve(values, 2.0, 60), convolve(changed, 2.0, 60)
    np.testing.assert_array_equal(before[:, : moment + 1], after[:, : moment + 1])


def test_constant_activity_reaches_its_own_level():
    found = convolve(np.full((1, 100), 0.7), 2.0, 100)
    np.testing.assert_allclose(found[0, 64:], 0.7, atol=1e-12)


def test_extra_samples_hold_the_decay_and_then_nothing():
    found = convolve(np.ones((1, 4)), 2.0, 200)
    assert abs(found[0, 10:20]).min() > 0.01
    np.testing.assert_allclose(found[0, 4 + 65 :], 0, atol=1e-12)


def test_series_may_have_any_number_of_leading_axes():
    values = np.random.default_rng(0).normal(size=(2, 3, 40))
    found = convolve(values, 2.0, 50)
    assert found.shape == (2, 3, 50)
    np.testing.assert_allclose(found[1, 2], convolve(values[1, 2], 2.0, 50))


def test_series_itself_is_left_as_it_was():
    values = np.ones((1, 5))
    convolve(values, 2.0, 9)
    assert values.tolist() == [[1.0] * 5]


def test_glover_is_what_the_paper_says():
    """t^6 exp(-t / 0.9) less 0.35 of t^12 exp(-t / 0.9), each scaled to a peak of 1."""
    times = np.arange(321) / 10
    terms = [times**n * np.exp(-times / 0.9) for n in (6, 12)]
    expected = terms[0] / (5.4**6 * math.exp(-6)) - 0.35 * terms[1] / (10.8**12 * math.exp(-12))
    found = canonical_response(10.0, response="glover")
    assert found.sum() == pytest.approx(1)
    np.testing.assert_allclose(found, expected / expected.sum(), atol=1e-12)
    assert (found.argmax() / 10, found.argmin() / 10) == (5.2, 12.3)


def of_nilearn(name, part, frequency):
    """nilearn's response (or derivative) at the times of ours; its grid starts a step late."""
    from nilearn.glm.first_level import hemodynamic_models

    fine = getattr(hemodynamic_models, f"{name}_{part}")(1.0, oversampling=1000)
    times = np.linspace(0, 32, len(fine)) - 1e-3
    return np.interp(np.arange(round(32 * frequency) + 1) / frequency, times, fine * 1000)


# nilearn's Glover response has parameters of its own, and its derivatives are one-sided steps.
SHAPES = {
    ("spm", None): ("hrf", 0.9999, 0.01),
    ("spm", "time"): ("time_derivative", 0.999, 0.01),
    ("spm", "dispersion"): ("dispersion_derivative", 0.9999, 0.01),
    ("glover", None): ("hrf", 0.995, 0.05),
    ("glover", "time"): ("time_derivative", 0.99, 0.05),
    ("glover", "dispersion"): ("dispersion_derivative", 0.97, 0.05),
}


@frequencies
@pytest.mark.parametrize(("response", "derivative"), SHAPES)
def test_shapes_are_those_of_nilearn(frequency, response, derivative):
    part, alike, tolerance = SHAPES[response, derivative]
    expected = of_nilearn(response, part, frequency)
    found = canonical_response(frequency, response=response, derivative=derivative) * frequency
    assert np.corrcoef(found, expected)[0, 1] > alike
    assert found @ expected / (expected @ expected) == pytest.approx(1, abs=tolerance)


@pytest.mark.parametrize("response", RESPONSES)
def test_some_of_a_derivative_makes_the_response_sooner_or_narrower(response):
    plain, time, dispersion = (
        canonical_response(20.0, response=response, derivative=d) for d in (None, *DERIVATIVES)
    )
    moved = np.interp(np.arange(641) / 20 + 0.1, np.arange(641) / 20, plain)
    np.testing.assert_allclose(plain + 0.1 * time, moved, atol=0.01 * plain.max())

    def width(values):
        return np.sum(values > values.max() / 2)

    assert width(plain + 0.2 * dispersion) < width(plain) < width(plain - 0.2 * dispersion)


@pytest.mark.parametrize("response", RESPONSES)
@pytest.mark.parametrize("derivative", [None, *DERIVATIVES])
def test_convolution_with_every_response(response, derivative):
    values = np.random.default_rng(0).normal(size=(2, 50))
    found = convolve(values, 2.0, 50, response, derivative)
    kernel = canonical_response(2.0, response=response, derivative=derivative)
    expected = [np.convolve(row, kernel)[:50] for row in values]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_unknown_responses_and_derivatives_are_refused():
    with pytest.raises(InputError, match="'boynton' is unknown; known: spm, glover"):
        convolve(np.ones((1, 5)), 2.0, 5, "boynton")
    with pytest.raises(InputError, match="'space' is unknown; known: time, dispersion"):
        canonical_response(2.0, derivative="space")


def test_lag_is_near_the_peak_of_every_response():
    for name in RESPONSES:
        assert canonical_response(20.0, response=name).argmax() / 20 == pytest.approx(LAG, abs=0.3)


delays_lists = st.lists(st.integers(-12, 12), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 3), delays_lists, st.data()
)
def test_fir_equals_a_plain_loop_and_never_leaves_a_run(lengths, k, delays, data):
    runs = np.repeat([f"run-{9 - i}" for i in range(len(lengths))], lengths)
    series = np.random.default_rng(0).normal(size=(len(runs), k)).astype(np.float32)
    if not data.draw(st.booleans(), label="labelled"):
        runs = None
    expected = np.zeros((len(series), k * len(delays)), np.float32)
    for t in range(len(series)):
        for d, delay in enumerate(delays):
            there = 0 <= t - delay < len(series)
            if there and (runs is None or runs[t - delay] == runs[t]):
                for j in range(k):
                    expected[t, d * k + j] = series[t - delay, j]
    found = fir(series, delays, runs)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_fir_of_a_run_does_not_depend_on_other_runs():
    one, two = np.ones((20, 2)), np.full((15, 2), np.nan)
    both = fir(np.concatenate([one, two, one]), [0, 3, -2], [0] * 20 + [1] * 15 + [2] * 20)
    np.testing.assert_array_equal(both[:20], fir(one, [0, 3, -2]))
    np.testing.assert_array_equal(both[35:], fir(one, [0, 3, -2]))


@pytest.mark.parametrize("delays", [[], [0.5], [[1]], [np.nan]])
def test_delays_that_are_no_whole_rows_are_refused(delays):
    with pytest.raises(InputError, match="whole numbers"):
        fir(np.ones((4, 1)), delays)


def test_runs_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="run 'a' do not stand together"):
        fir(np.ones((4, 1)), [1], ["a", "a", "b", "a"])
    with pytest.raises(InputError, match="one for each of 4 rows"):
        fir(np.ones((4, 1)), [1], ["a"])
    with pytest.raises(InputError, match=r"\(time, k\) fits"):
        fir(np.ones(4), [1])


def test_bounds_of_runs():
    assert run_bounds(["b", "b", "a", "c", "c"], 5) == [(0, 2), (2, 3), (3, 5)]
    assert run_bounds(None, 5) == [(0, 5)]
    assert run_bounds(None, 0) == run_bounds([], 0) == []
