"""Resampling in time, rows of a stimulus, shifts: against `numpy.interp`, and with gaps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tribrain.brain.haemodynamics import LAG
from tribrain.brain.series import BoldSeries
from tribrain.brain.spaces import find_space
from tribrain.brain.timing import interpolate, shift, stimulus_rows, to_rate
from tribrain.errors import InputError

N = 5
repetition_times = st.sampled_from([0.72, 1.0, 1.49, 1.5, 2.0, 2.0045, 3.0])


def a_series(rows, repetition_time=2.0, start=0.0, missing=(), seed=0):
    values = np.random.default_rng(seed).normal(size=(rows, N)).astype(np.float32)
    values[list(missing)] = np.nan
    return BoldSeries(values, find_space(None, N), repetition_time, start)


def plain(series, times):
    """One target and one column at a time: numpy's interpolation, NaN where it may not be used."""
    result = np.full((len(times), N), np.nan)
    for k, time in enumerate(times):
        distance = np.abs(series.time - time)
        hit = int(distance.argmin())
        if distance[hit] < 1e-6 * series.repetition_time:
            result[k] = series.values[hit]
        elif series.time[0] < time < series.time[-1]:
            result[k] = [np.interp(time, series.time, column) for column in series.values.T]
    return result


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 60),
    repetition_times,
    st.sampled_from([0.0, 0.745, -3.0, 12.1]),
    st.sampled_from([0.5, 1.0, 2.0, 1 / 1.49]),
    st.lists(st.integers(0, 59), max_size=8),
    st.one_of(st.none(), st.floats(-20, 20)),
    st.one_of(st.none(), st.integers(1, 80)),
)
def test_equals_a_plain_loop(rows, repetition_time, start, rate, missing, target, n):
    series = a_series(rows, repetition_time, start, [k for k in missing if k < rows])
    first = start if target is None else target
    if n is None and first > series.time[-1]:
        with pytest.raises(InputError, match="after the last"):
            to_rate(series, rate, start=target)
        return
    found = to_rate(series, rate, start=target, n=n)
    assert (found.repetition_time, found.start, found.space) == (1 / rate, first, series.space)
    assert found.values.dtype == np.float32
    times = first + np.arange(len(found.values)) / rate
    np.testing.assert_allclose(found.values, plain(series, times), atol=1e-5)
    if n is None:
        assert times[-1] <= series.time[-1] + 1e-4 < times[-1] + 1 / rate + 1e-4
    else:
        assert len(found.values) == n


@pytest.mark.parametrize("repetition_time", [0.1, 0.72, 1.49, 2.0, 2.0045, 1.1, 0.3])
@pytest.mark.parametrize("start", [0.0, 0.1, 1.49 / 2])
def test_same_rate_keeps_every_row_as_it_is(repetition_time, start):
    series = a_series(701, repetition_time, start)
    found = to_rate(series, 1 / repetition_time)
    np.testing.assert_array_equal(found.values, series.values)


@pytest.mark.parametrize(("repetition_time", "rows", "n"), [(0.72, 101, 73), (0.1, 31, 4)])
def test_last_row_is_not_lost_to_rounding(repetition_time, rows, n):
    # 100 x 0.72 s is 72 s, and 30 x 0.1 s is 3.0000000000000004 s.
    series = a_series(rows, repetition_time)
    found = to_rate(series)
    assert len(found.values) == n
    np.testing.assert_array_equal(found.values[-1], series.values[-1])


def test_nothing_is_made_after_the_last_volume():
    series = a_series(4, 1.49)  # volumes at 0, 1.49, 2.98, 4.47 s
    assert len(to_rate(series).values) == 5
    found = to_rate(series, n=7).values
    np.testing.assert_array_equal(np.isnan(found).all(axis=1), [False] * 5 + [True] * 2)
    found = to_rate(series, start=-2.0).values
    np.testing.assert_array_equal(np.isnan(found).all(axis=1), [True] * 2 + [False] * 5)


def test_beside_a_missing_row_there_is_nothing_and_on_a_measured_one_there_is():
    series = a_series(5, 2.0, missing=[2])  # 4 s
    found = to_rate(series).values
    np.testing.assert_array_equal(
        np.isnan(found).all(axis=1), [False, False, False, True, True, True, False, False, False]
    )
    np.testing.assert_array_equal(found[2], series.values[1])
    np.testing.assert_array_equal(found[6], series.values[3])


def test_a_missing_vertex_stays_missing_alone():
    series = a_series(6, 1.5)
    series.values[:, 3] = np.nan
    series.values[2, 1] = np.nan
    found = to_rate(series).values
    assert np.isnan(found[:, 3]).all()
    np.testing.assert_array_equal(np.isnan(found[:, 1]), [0, 0, 1, 1, 1, 0, 0, 0])
    assert not np.isnan(found[:, [0, 2, 4]]).any()


def test_line_in_time_stays_a_line():
    series = a_series(400, 1.49, 0.3)
    series.values[:] = series.time[:, None] * np.arange(1, N + 1)
    found = to_rate(series, start=1.0)
    np.testing.assert_allclose(found.values, found.time[:, None] * np.arange(1, N + 1), rtol=1e-5)


def test_constant_stays_exactly_itself():
    series = a_series(300, 1.49)
    series.values[:] = np.float32(0.1)
    np.testing.assert_array_equal(to_rate(series).values, np.float32(0.1))


def test_fast_scans_alias_little():
    """What BOLD holds (0.05 Hz) passes 0.72 s -> 1 s; the error is below one part in 200."""
    series = a_series(800, 0.72)
    series.values[:] = np.sin(2 * np.pi * 0.05 * series.time)[:, None]
    found = to_rate(series)
    expected = np.sin(2 * np.pi * 0.05 * found.time)
    assert 1e-5 < np.abs(found.values[:, 0] - expected).max() < 0.01


@pytest.mark.parametrize("rate", [0.0, -1.0, np.nan, np.inf])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(InputError, match="rates above 0 fit"):
        to_rate(a_series(5), rate)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 40),
    repetition_times,
    st.floats(-10, 30),
    st.integers(1, 50),
    st.sampled_from([LAG, 0.0, 4.2]),
)
def test_stimulus_rows_are_the_bold_a_lag_later(rows, repetition_time, onset, n, lag):
    series = a_series(rows, repetition_time, start=1.0)
    found = stimulus_rows(series, onset, n, lag)
    assert found.shape == (n, N)
    np.testing.assert_allclose(found, plain(series, onset + lag + np.arange(n)), atol=1e-4)


@pytest.mark.parametrize("start", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n", [None, 3])
def test_a_start_that_is_none_is_refused(start, n):
    with pytest.raises(InputError, match=r"start .* s; a finite number of seconds fits"):
        to_rate(a_series(5), 1.0, start=start, n=n)


def test_stimulus_rows_are_read_five_seconds_late():
    series = a_series(30, 1.0)
    np.testing.assert_array_equal(stimulus_rows(series, 3.0, 10), series.values[8:18])
    np.testing.assert_array_equal(stimulus_rows(series, 3.0, 10, lag=0), series.values[3:13])
    late = stimulus_rows(series, 20.0, 10)
    np.testing.assert_array_equal(late[:5], series.values[25:])
    assert np.isnan(late[5:]).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.floats(-30, 30), st.sampled_from([0.5, 1.0, 2.0]))
def test_shift_equals_interpolation_at_earlier_times(rows, seconds, rate):
    series = a_series(rows, 1 / rate)
    found = shift(series.values, seconds, rate)
    np.testing.assert_allclose(found, plain(series, series.time - seconds), atol=1e-4)


def test_shift_is_later_where_positive_and_never_wraps():
    values = np.arange(24.0).reshape(4, 3, 2) + 1
    np.testing.assert_array_equal(shift(values, 1.0, 2.0)[2:], values[:2])
    assert np.isnan(shift(values, 1.0, 2.0)[:2]).all()
    np.testing.assert_array_equal(shift(values, -0.5, 2.0)[:3], values[1:])
    np.testing.assert_array_equal(shift(values, 0.25, 2.0)[1:], (values[1:] + values[:-1]) / 2)
    np.testing.assert_array_equal(shift(values, 0.0, 2.0), values)
    assert np.isnan(shift(values, 100.0, 2.0)).all()


def test_interpolation_takes_whole_numbers_and_one_dimension():
    np.testing.assert_array_equal(
        interpolate(np.array([0, 10, 20]), np.array([0.5, 2.0, -0.1])), [5.0, 20.0, np.nan]
    )
