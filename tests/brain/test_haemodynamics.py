"""The haemodynamic response and convolution with it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tribrain.brain.haemodynamics import canonical_response, convolve

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
