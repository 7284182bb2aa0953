"""Cleaning of a run: against plain least squares and nilearn, scrubbed rows, confounds."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tribrain.brain.cleaning import clean, clean_series, read_confounds
from tribrain.brain.series import BoldSeries
from tribrain.brain.spaces import find_space
from tribrain.errors import InputError, InputWarning


def a_run(rows=120, n=7, seed=0):
    """BOLD with a mean, drifts and confounds in it, of which each column holds its own shares."""
    rng = np.random.default_rng(seed)
    confounds = rng.normal(size=(rows, 3)).cumsum(axis=0)
    drift = np.linspace(-1, 1, rows)[:, None] * rng.normal(size=n)
    values = rng.normal(size=(rows, n)) + 300 + 5 * drift + confounds @ rng.normal(size=(3, n))
    return values.astype(np.float32), confounds


def least_squares(values, columns, kept, *, mean=False, zscore=True):
    """Residuals of `numpy.linalg.lstsq`, column by column, in float64; NaN at other rows."""
    result = np.full(values.shape, np.nan)
    for k, series in enumerate(values.T.astype(float)):
        rows = kept & ~np.isnan(series)
        design = np.column_stack([np.ones(len(values)), *columns])[rows]
        design[:, 1:] -= design[:, 1:].mean(axis=0)
        weights = np.linalg.lstsq(design, series[rows], rcond=None)[0]
        left = series[rows] - design @ weights
        left = left / np.sqrt(np.mean(left**2)) if zscore else left
        result[rows, k] = left + (weights[0] if mean else 0)
    return result


def cosines(rows, repetition_time, high_pass):
    """Columns k with k half periods a run, up to the cut-off."""
    time = (np.arange(rows) + 0.5) * repetition_time
    length = rows * repetition_time
    count = sum(k / (2 * length) <= high_pass for k in range(1, rows))
    return [np.cos(2 * np.pi * k / (2 * length) * time) for k in range(1, count + 1)]


scrubs = st.lists(st.integers(0, 119), max_size=40)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 99),
    st.booleans(),
    st.sampled_from(["zscore", None]),
    st.sampled_from([None, 0.0079, 0.021]),
    st.booleans(),
    scrubs,
)
def test_equals_least_squares_on_the_rows_kept(
    seed, detrend, standardize, high_pass, confounded, left_out
):
    values, confounds = a_run(seed=seed)
    scrubbed = np.isin(np.arange(120), left_out)
    columns = [np.arange(120.0)] if detrend else []
    columns += cosines(120, 1.49, high_pass) if high_pass else []
    columns += list(confounds.T) if confounded else []
    expected = least_squares(
        values,
        columns,
        ~scrubbed,
        mean=not detrend and standardize is None,
        zscore=standardize is not None,
    )
    found = clean(
        values,
        1.49,
        detrend=detrend,
        standardize=standardize,
        high_pass=high_pass,
        confounds=confounds if confounded else None,
        scrubbed=scrubbed,
    )
    assert found.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(found).all(axis=1), scrubbed)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 99), st.sampled_from([None, 0.0083]), scrubs)
def test_equals_nilearn_on_the_rows_kept(seed, high_pass, left_out):
    from nilearn import signal

    values, _ = a_run(seed=seed)
    # nilearn leaves its cosines out where a confound is like one, as a slow one would be.
    confounds = np.random.default_rng(seed + 1000).normal(size=(120, 3))
    scrubbed = np.isin(np.arange(120), left_out)
    kept = np.flatnonzero(~scrubbed)
    # nilearn's own trend counts the rows kept and not time, so that it is given one here.
    trend = np.column_stack([np.arange(120.0), confounds])
    expected = signal.clean(
        values.astype(float),
        confounds=trend,
        sample_mask=kept,
        detrend=False,
        filter="cosine" if high_pass else False,
        high_pass=high_pass,
        t_r=2.0,
        standardize="zscore_sample",
    )
    found = clean(values, 2.0, high_pass=high_pass, confounds=confounds, scrubbed=scrubbed)
    sample = np.sqrt(len(kept) / (len(kept) - 1))
    np.testing.assert_allclose(found[kept], expected * sample, atol=2e-4)


def test_published_recipe_equals_nilearns_detrending():
    from nilearn import signal

    values, _ = a_run()
    expected = signal.clean(
        values.astype(float), detrend=True, standardize="zscore_sample", filter=False
    )
    found = clean(values, 1.49)
    np.testing.assert_allclose(found, expected * np.sqrt(120 / 119), atol=1e-4)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(np.mean(found.astype(float) ** 2, axis=0), 1, atol=1e-6)


def test_trend_runs_in_time_across_scrubbed_volumes():
    noise = np.random.default_rng(0).normal(size=(100, 2))
    scrubbed = (np.arange(100) >= 20) & (np.arange(100) < 60)
    drifting = noise + 30 * np.arange(100.0)[:, None]
    found, expected = (clean(v, 2.0, scrubbed=scrubbed) for v in (drifting, noise))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.sampled_from([None, 0.01]), scrubs, st.floats(0.01, 100), st.data())
def test_projection_is_orthogonal_idempotent_and_knows_no_scale(
    seed, high_pass, left_out, scale, data
):
    values, confounds = a_run(seed=seed)
    scrubbed = np.isin(np.arange(120), left_out)
    options = {"high_pass": high_pass, "confounds": confounds, "scrubbed": scrubbed}
    found = clean(values, 2.0, **options)
    again = clean(found, 2.0, **options)
    np.testing.assert_allclose(again, found, atol=1e-5)
    offset = data.draw(st.floats(-1e3, 1e3))
    moved = clean(values.astype(float) * scale + offset, 2.0, **options)
    np.testing.assert_allclose(moved, found, atol=1e-4)
    removed = np.column_stack([np.arange(120.0), confounds, *cosines(120, 2.0, high_pass or 0)])
    removed = removed[~scrubbed] - removed[~scrubbed].mean(axis=0)
    products = removed.T @ found[~scrubbed] / np.linalg.norm(removed, axis=0)[:, None]
    np.testing.assert_allclose(products, 0, atol=1e-4)


@given(scrubs, st.floats(-1e6, 1e6))
@settings(max_examples=30, deadline=None)
def test_what_scrubbed_volumes_hold_changes_nothing(left_out, value):
    values, confounds = a_run()
    scrubbed = np.isin(np.arange(120), left_out)
    expected = clean(values, 2.0, high_pass=0.01, confounds=confounds, scrubbed=scrubbed)
    confounds[scrubbed] = np.nan
    for there in (np.nan, value):
        values[scrubbed] = there
        found = clean(values, 2.0, high_pass=0.01, confounds=confounds, scrubbed=scrubbed)
        np.testing.assert_array_equal(found, expected)


def test_rows_that_are_nan_throughout_count_as_scrubbed():
    values, confounds = a_run()
    scrubbed = np.isin(np.arange(120), [0, 50, 51])
    expected = clean(values, 2.0, confounds=confounds, scrubbed=scrubbed)
    values[scrubbed], confounds[scrubbed] = np.nan, np.nan
    np.testing.assert_array_equal(clean(values, 2.0, confounds=confounds), expected)


def test_series_is_fitted_on_its_own_rows():
    values, confounds = a_run()
    values[:, 2] = np.nan
    values[5:9, 4] = np.nan
    values[[0, 100], 6] = np.nan
    found = clean(values, 2.0, high_pass=0.01, confounds=confounds)
    columns = [np.arange(120.0), *cosines(120, 2.0, 0.01), *confounds.T]
    measured = [0, 1, 3, 4, 5, 6]
    expected = least_squares(values[:, measured], columns, np.ones(120, bool))
    np.testing.assert_allclose(found[:, measured], expected, atol=1e-4)
    assert np.isnan(found[:, 2]).all()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(values))


def test_series_never_influence_each_other():
    values, confounds = a_run(n=7)
    values[5:9, 4] = np.nan
    together = clean(values, 2.0, confounds=confounds)
    for k in (0, 6):
        alone = clean(values[:, [k]], 2.0, confounds=confounds)
        np.testing.assert_allclose(together[:, [k]], alone, atol=1e-6)


def test_blocks_of_series_join_without_a_seam():
    values = np.random.default_rng(0).normal(size=(20, 4100)).astype(np.float32)
    expected = least_squares(values[:, 2040:2060], [np.arange(20.0)], np.ones(20, bool))
    np.testing.assert_allclose(clean(values, 2.0)[:, 2040:2060], expected, atol=1e-5)


@pytest.mark.parametrize("standardize", ["zscore", None])
@pytest.mark.parametrize("level", [0, 1000.1, -3e-5])
def test_constant_series_becomes_nan_and_is_counted(standardize, level):
    values, confounds = a_run()
    values[:, [1, 5]] = level
    with pytest.warns(InputWarning, match="2 of 7 series are constant"):
        found = clean(values, 2.0, standardize=standardize, confounds=confounds)
    np.testing.assert_array_equal(np.isnan(found).any(axis=0), np.isin(np.arange(7), [1, 5]))


@pytest.mark.parametrize("kind", ["line", "confound"])
def test_series_that_holds_nothing_else_is_no_noise(kind):
    values, confounds = a_run()
    values[:, 3] = 1000 + (np.arange(120) * 0.7 if kind == "line" else confounds[:, 1])
    with pytest.warns(InputWarning, match="1 of 7"):
        assert np.isnan(clean(values, 2.0, confounds=confounds)[:, 3]).all()


def test_a_faint_signal_on_a_high_mean_is_kept():
    rng = np.random.default_rng(0)
    values = (1e4 + rng.normal(size=(200, 3))).astype(np.float32)
    found = clean(values, 2.0)
    assert np.corrcoef(found[:, 0], values[:, 0])[0, 1] > 0.98


def test_constant_and_collinear_confounds_do_no_harm():
    values, confounds = a_run()
    more = np.column_stack(
        [
            confounds,
            np.full(120, 0.1),
            np.zeros(120),
            confounds[:, 0] * 7 - 2,
            confounds.sum(axis=1),
            np.arange(120.0),
        ]
    )
    expected = clean(values, 2.0, confounds=confounds)
    np.testing.assert_allclose(clean(values, 2.0, confounds=more), expected, atol=1e-5)
    as_table = pd.DataFrame(more, columns=list("abcdefgh"))
    np.testing.assert_allclose(clean(values, 2.0, confounds=as_table), expected, atol=1e-5)


def test_confounds_of_any_unit_are_removed():
    values, confounds = a_run()
    scaled = confounds * [1e-9, 1.0, 1e9] + [0, 1e4, 0]
    expected = clean(values, 2.0, confounds=confounds)
    np.testing.assert_allclose(clean(values, 2.0, confounds=scaled), expected, atol=1e-5)


def test_two_runs_cleaned_apart_are_each_standardised():
    one, two = a_run(seed=1)[0], a_run(seed=2)[0] * 9 + 1000
    for run in (one, two):
        found = clean(run, 2.0).astype(float)
        np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(found.std(axis=0), 1, atol=1e-6)


def test_series_with_too_few_rows_is_nan_and_counted():
    values, confounds = a_run()
    values[5:, 3] = np.nan
    with pytest.warns(InputWarning, match="1 of 7 series have too few rows"):
        found = clean(values, 2.0, confounds=confounds)
    np.testing.assert_array_equal(np.isnan(found).all(axis=0), np.arange(7) == 3)


def test_what_is_given_stays_as_it_was():
    values, confounds = a_run()
    before = values.copy(), confounds.copy()
    clean(values, 2.0, high_pass=0.01, confounds=confounds)
    np.testing.assert_array_equal(values, before[0])
    np.testing.assert_array_equal(confounds, before[1])


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("high_pass", [None, 0.01])
def test_a_repetition_time_that_is_none_is_refused(seconds, high_pass):
    with pytest.raises(InputError, match=r"repetition time .* s; 0 to 100 s fit"):
        clean(a_run()[0], seconds, high_pass=high_pass)


def test_damage_is_refused():
    values, confounds = a_run()
    with pytest.raises(InputError, match="119 rows and the run has 120"):
        clean(values, 2.0, confounds=confounds[1:])
    with pytest.raises(InputError, match=r"\(time, k\)"):
        clean(values, 2.0, confounds=confounds[:, 0])
    table = pd.DataFrame(confounds, columns=["x", "x_derivative1", "z"])
    table.loc[0, "x_derivative1"] = np.nan
    with pytest.raises(InputError, match="confounds x_derivative1 are not known"):
        clean(values, 2.0, confounds=table)
    with pytest.raises(InputError, match="not numbers alone"):
        clean(values, 2.0, confounds=pd.DataFrame({"word": ["a"] * 120}))
    with pytest.raises(InputError, match="'psc' is unknown; known: 'zscore', None"):
        clean(values, 2.0, standardize="psc")
    for high_pass in (0.25, 0.0, -1.0, np.nan):
        with pytest.raises(InputError, match=r"0 to 0\.25 Hz fit"):
            clean(values, 2.0, high_pass=high_pass)
    with pytest.raises(InputError, match="infinite"):
        clean(np.where(values > values.mean(), np.inf, values), 2.0)
    with pytest.raises(InputError, match=r"\(time, n\)"):
        clean(values[:, 0], 2.0)
    for scrubbed in (np.zeros(119, bool), np.array([3, 4]), np.zeros(120, int)):
        with pytest.raises(InputError, match="one bool for each of 120 rows"):
            clean(values, 2.0, scrubbed=scrubbed)


@pytest.mark.parametrize("left", [0, 1, 5])
def test_a_run_of_which_nothing_would_be_left_is_refused(left):
    values, confounds = a_run()
    scrubbed = np.arange(120) >= left
    with pytest.raises(InputError, match=f"{left} rows are left of 120"):
        clean(values, 2.0, confounds=confounds, scrubbed=scrubbed)


def test_run_too_short_for_the_high_pass_is_not_filtered_and_says_so():
    values, _ = a_run(rows=20)
    with pytest.warns(InputWarning, match="40 s is too short"):
        found = clean(values, 2.0, high_pass=1 / 128)
    np.testing.assert_array_equal(found, clean(values, 2.0))


def test_slow_waves_go_and_fast_ones_stay():
    time = np.arange(300) * 2.0
    slow, fast = (np.cos(2 * np.pi * f * (time + 1)) for f in (1 / 300, 1 / 20))
    noise = np.random.default_rng(0).normal(size=300) * 1e-3
    values = np.stack([slow + noise, fast + slow + noise], axis=1)
    found = clean(values, 2.0, high_pass=1 / 128, standardize=None)
    assert np.abs(found[:, 0]).max() < 0.01
    np.testing.assert_allclose(found[:, 1], fast, atol=0.05)


def test_series_keeps_its_clock_and_its_space():
    values, confounds = a_run(n=200)
    series = BoldSeries(values, find_space(None, 200), 1.49, 3.0)
    found = clean_series(series, high_pass=0.01, confounds=confounds)
    assert (found.space, found.repetition_time, found.start) == (series.space, 1.49, 3.0)
    expected = clean(values, 1.49, high_pass=0.01, confounds=confounds)
    np.testing.assert_array_equal(found.values, expected)


def test_memory_of_a_long_run_is_at_most_three_times_the_run():
    values = np.random.default_rng(0).normal(size=(2000, 8000)).astype(np.float32)
    values[:, ::50] = np.nan
    confounds = np.random.default_rng(1).normal(size=(2000, 12))
    tracemalloc.start()
    try:
        clean(values, 1.0, confounds=confounds, scrubbed=np.arange(2000) < 5)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert values.nbytes < peak + values.nbytes < 3.3 * values.nbytes


TABLE = pd.DataFrame(
    {
        "trans_x": [0.1, 0.2, 0.4],
        "trans_x_derivative1": [None, 0.1, 0.2],
        "trans_x_derivative1_power2": [None, 0.01, 0.04],
        "trans_y": [1.0, 2.0, 4.0],
        "framewise_displacement": [None, 0.5, 0.7],
        **{f"a_comp_cor_{k:02}": [k, k + 1.0, k] for k in range(12)},
        "cosine00": [1, 0, -1],
        "word": ["a", "b", "c"],
        "late": [1.0, None, 2.0],
        "early": [None, 1.0, 2.0],
    }
)


@pytest.fixture
def confounds_file(tmp_path):
    path = tmp_path / "sub-01_desc-confounds_timeseries.tsv"
    TABLE.to_csv(path, sep="\t", na_rep="n/a", index=False)
    return path


def test_confounds_are_read_by_pattern_in_the_order_asked_for(confounds_file):
    found = read_confounds(confounds_file, ["cosine00", "trans_?", "a_comp_cor_0[0-5]", "trans_y"])
    assert list(found.columns) == [
        "cosine00",
        "trans_x",
        "trans_y",
        *(f"a_comp_cor_0{k}" for k in range(6)),
    ]
    assert found["trans_y"].tolist() == [1.0, 2.0, 4.0]
    assert found.to_numpy().dtype == float
    one = read_confounds(confounds_file, "a_comp_cor_1*")
    assert one.to_numpy().tolist() == [[10.0, 11.0], [11.0, 12.0], [10.0, 11.0]]


def test_first_row_of_a_derivative_is_that_of_the_second(confounds_file):
    found = read_confounds(confounds_file, ["trans_x_*", "framewise_displacement"])
    assert found.to_numpy().tolist() == [[0.1, 0.01, 0.5], [0.1, 0.01, 0.5], [0.2, 0.04, 0.7]]


def test_unknown_and_damaged_columns_are_named(confounds_file):
    with pytest.raises(InputError, match=r"no column 'rot_\*'; it has trans_x,.*a_comp_cor_\*, "):
        read_confounds(confounds_file, ["trans_x", "rot_*"])
    with pytest.raises(InputError, match=r"column word .* numbers"):
        read_confounds(confounds_file, "word")
    for name in ("late", "early"):
        with pytest.raises(InputError, match=f"lacks some rows of {name}$"):
            read_confounds(confounds_file, ["trans_x", name])


def test_what_is_no_table_is_refused(tmp_path):
    path = tmp_path / "confounds.tsv"
    with pytest.raises(InputError, match="does not exist"):
        read_confounds(path, "trans_x")
    for content in (b"", b"\xff\xfe\x00\x9f", b"a\tb\n1\t2\t3\n4\t5\t6\t7\n"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"confounds\.tsv"):
            read_confounds(path, "trans_x")
    path.write_text("trans_x,trans_y\n1,2\n")
    with pytest.raises(InputError, match="no column 'trans_x'"):
        read_confounds(path, "trans_x")


def test_confounds_read_clean_a_run(tmp_path):
    values, confounds = a_run()
    path = tmp_path / "confounds.tsv"
    table = pd.DataFrame(confounds, columns=["trans_x", "trans_y", "trans_z"])
    table.to_csv(path, sep="\t", index=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = clean(values, 2.0, confounds=read_confounds(path, "trans_*"))
    np.testing.assert_allclose(found, clean(values, 2.0, confounds=confounds), atol=1e-5)
