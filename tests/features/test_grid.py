"""The clock: pieces of a medium and their place on the grid."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import literal_recipe
from tribrain.features.grid import (
    chunks,
    covered_rows,
    n_rows,
    n_windows,
    place,
    series_on_grid,
    vectors_on_grid,
)

seconds = st.floats(0, 400, allow_nan=False).map(lambda x: round(x, 3))
durations = st.floats(0, 130, allow_nan=False).map(lambda x: round(x, 3))


@given(
    start=seconds, duration=durations, window=st.integers(0, 4), length=st.sampled_from([20, 100])
)
def test_place_is_the_recipes_rule(start, duration, window, length):
    expected = literal_recipe.place(start, duration, window * length, 2 * length)
    placed = place(start, duration, (window * length, length), 2.0)
    assert placed == expected
    if placed:
        assert 0 <= placed[0] <= placed[0] + placed[1] <= 2 * length


def test_place_rounds_halves_to_even():
    assert place(0.25, 0.25, (0, 10), 2.0) == (0, 1)
    assert place(0.75, 0.75, (0, 10), 2.0) == (2, 2)
    assert place(1.25, 1.25, (0, 10), 2.0) == (2, 2)


def test_an_event_of_no_length_fills_one_sample_and_one_that_ends_at_the_start_none():
    assert place(5.0, 0.0, (0, 10), 2.0) == (10, 1)
    assert place(0.0, 10.0, (10, 10), 2.0) is None
    assert place(10.0, 0.0, (10, 10), 2.0) == (0, 1)


def test_an_event_at_the_end_moves_back():
    assert place(9.9, 5.0, (0, 10), 2.0) == (19, 1)


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        (10, [10]),
        (60, [60]),
        (89.9, [89.9]),
        (90, [60, 30]),
        (120, [60, 60]),
        (145, [60, 85]),
        (190, [60, 60, 70]),
    ],
)
def test_chunks_leave_no_short_piece(duration, expected):
    assert [length for _, length in chunks(duration)] == pytest.approx(expected)


@given(st.floats(0.1, 20_000))
def test_chunks_cover_the_medium_without_gaps(duration):
    pieces = chunks(duration)
    assert pieces[0][0] == 0
    for (start, length), (following, _) in itertools.pairwise(pieces):
        assert start + length == following
        assert length == 60
    assert sum(pieces[-1]) == pytest.approx(duration)
    assert len(pieces) == 1 or 30 <= pieces[-1][1] < 90
    np.testing.assert_allclose(pieces, literal_recipe.chunks(duration))


@given(
    words=st.lists(st.tuples(st.floats(0, 239), st.floats(0, 3)), min_size=1, max_size=30),
    window=st.sampled_from([20, 60, 100]),
)
def test_vectors_equal_the_literal_grid(words, window):
    vectors = np.random.default_rng(0).normal(size=(len(words), 2, 3)).astype(np.float32)
    ours = vectors_on_grid(words, vectors, duration=240.0, window=float(window), frequency=2.0)
    expected = literal_recipe.text_series(
        [("", *word) for word in words], vectors, n_windows(240, window), window
    )
    np.testing.assert_allclose(ours, expected, atol=1e-5)


@given(duration=st.floats(1, 500), window=st.sampled_from([20, 100]))
def test_series_equal_the_literal_grid(duration, window):
    rng = np.random.default_rng(0)
    pieces = chunks(duration)
    series = [rng.normal(size=(1, 2, round(2 * length))).astype(np.float32) for _, length in pieces]
    ours = series_on_grid(
        zip(pieces, series, strict=True), duration=duration, window=float(window), frequency=2.0
    )
    expected = literal_recipe.on_grid(pieces, series, n_windows(duration, window), window)
    np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("duration", "rows"), [(13.013, 14), (16.0, 16), (0.2, 1), (30.000000001, 30), (40.04, 41)]
)
def test_rows_are_the_length_rounded_up(duration, rows):
    assert n_rows(duration) == rows


def test_rows_without_any_event_are_marked():
    covered = covered_rows([(0.5, 0.2), (2.0, 1.0), (4.9, 0.2)], 8)
    assert covered.tolist() == [True, False, True, False, True, True, False, False]
