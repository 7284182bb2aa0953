"""Ridge towards a given row: against its closed form, and what must hold of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tribrain.training import adapt_ridge
from tribrain.training.adapt_ridge import (
    GAP,
    best_penalty,
    correlation_of,
    held_out_sums,
    left_out,
    patterns,
    penalties_for,
    ridge_row,
    time_blocks,
)


def draw(n: int = 50, width: int = 8, outputs: int = 5, seed: int = 0):
    random = np.random.default_rng(seed)
    states = (random.normal(size=(n, width)) + 2).astype(np.float32)
    measured = random.normal(size=(n, outputs)).astype(np.float32)
    return states, measured, random.normal(size=(width, outputs)), random.normal(size=outputs)


def closed_form(states, measured, weight, bias, penalty):
    """Ridge on the residual by the normal equations of all unknowns, the bias not penalised."""
    x = np.column_stack([states.astype(float), np.ones(len(states))])
    residual = measured - (states.astype(float) @ weight + bias)
    penalties = np.diag([*np.full(states.shape[1], penalty), 0.0])
    found = np.linalg.solve(x.T @ x + penalties, x.T @ residual)
    return weight + found[:-1], bias + found[-1]


@pytest.mark.parametrize("n", [6, 8, 9, 50])  # fewer, as many and more rows than states
@pytest.mark.parametrize("penalty", [1e-2, 3.0, 1e4])
def test_it_is_the_closed_form_on_the_residual(n, penalty):
    sample = draw(n)
    for found, expected in zip(
        ridge_row(*sample, penalty), closed_form(*sample, penalty), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)


def test_it_is_what_scikit_learn_gives():
    from sklearn.linear_model import Ridge

    states, measured, weight, bias = draw()
    found = ridge_row(states, measured, weight, bias, 7.0)
    residual = measured - (states.astype(float) @ weight + bias)
    fitted = Ridge(7.0).fit(states.astype(float), residual)
    np.testing.assert_allclose(found[0] - weight, fitted.coef_.T, atol=1e-10)
    np.testing.assert_allclose(found[1] - bias, fitted.intercept_, atol=1e-10)


def test_an_infinite_penalty_keeps_the_row_and_each_output_has_its_own():
    sample = draw()
    kept = ridge_row(*sample, math.inf)
    assert np.array_equal(kept[0], sample[2])
    assert np.array_equal(kept[1], sample[3])
    penalties = np.array([1.0, math.inf, 5.0, 1.0, 100.0])
    found = ridge_row(*sample, penalties)
    for output, penalty in enumerate(penalties):
        weight, bias = ridge_row(*sample, penalty)
        np.testing.assert_allclose(found[0][:, output], weight[:, output], atol=1e-12)
        np.testing.assert_allclose(found[1][output], bias[output], atol=1e-12)
    near = ridge_row(*sample, 1e12)[0]
    np.testing.assert_allclose(near, sample[2], atol=1e-8)


def test_each_output_counts_the_rows_in_which_it_was_measured():
    states, measured, weight, bias = draw(40, outputs=7)
    random = np.random.default_rng(1)
    measured[:10, 1] = measured[:10, 4] = np.nan  # of one pattern
    measured[random.random(40) < 0.3, 2] = np.nan
    measured[:, 3] = np.nan
    measured[1:, 5] = np.nan
    assert sorted(tuple(outputs) for _, outputs in patterns(measured)) == [
        (0, 6),
        (1, 4),
        (2,),
        (3,),
        (5,),
    ]
    found = ridge_row(states, measured, weight, bias, 2.0)
    for output in (0, 1, 2, 4, 6):
        there = ~np.isnan(measured[:, output])
        one = slice(output, output + 1)
        expected = closed_form(states[there], measured[there, one], weight[:, one], bias[one], 2.0)
        np.testing.assert_allclose(found[0][:, one], expected[0], atol=1e-9)
        np.testing.assert_allclose(found[1][one], expected[1], atol=1e-9)
    for output in (3, 5):  # nothing, and a single row
        assert np.array_equal(found[0][:, output], weight[:, output])
        assert found[1][output] == bias[output]


@pytest.mark.parametrize("n", [7, 50])
def test_blocks_of_rows_give_what_one_piece_gives(n, monkeypatch):
    sample = draw(n)
    whole = ridge_row(*sample, 2.0)
    train, test = np.arange(n) < n // 2 + 1, np.arange(n) > n // 2
    penalties = [0.1, 10.0, math.inf]
    sums = held_out_sums(*sample, train, test, penalties)
    monkeypatch.setattr(adapt_ridge, "_ROWS", 3)
    monkeypatch.setattr(adapt_ridge, "_COLUMNS", 2)
    for found, expected in zip(ridge_row(*sample, 2.0), whole, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-10)
    np.testing.assert_allclose(held_out_sums(*sample, train, test, penalties), sums, atol=1e-9)


def test_scores_of_blocks_are_those_of_fits_without_them():
    states, measured, weight, bias = draw(120)
    measured[100:, 2] = np.nan
    measured[:, 4] = np.nan
    penalties = [1.0, 50.0, math.inf]
    positions = np.arange(120)
    blocks = time_blocks(positions, positions)
    parts = [left_out(positions, positions, block) for block in blocks]
    assert len(parts) == 5
    found = correlation_of(
        sum(held_out_sums(states, measured, weight, bias, *part, penalties) for part in parts)
    )
    for number, penalty in enumerate(penalties):
        pairs = []
        for train, test in parts:
            row = ridge_row(states[train], measured[train], weight, bias, penalty)
            predicted = states[test].astype(float) @ row[0] + row[1]
            y = measured[test].astype(float)
            gone = np.isnan(y)
            predicted, y = np.ma.array(predicted, mask=gone), np.ma.array(y, mask=gone)
            pairs.append((predicted - predicted.mean(0), y - y.mean(0)))
        x, y = (np.ma.concatenate(part) for part in zip(*pairs, strict=True))
        for output in (0, 1, 2, 3):
            if output == 2:  # its last block has none, or too few
                there = ~np.ma.getmaskarray(y)[:, output]
                expected = np.corrcoef(x[there, output], y[there, output])[0, 1]
            else:
                expected = np.corrcoef(x[:, output], y[:, output])[0, 1]
            assert found[number, output] == pytest.approx(expected, abs=1e-8)
    assert np.isnan(found[:, 4]).all()


def test_the_penalty_that_explains_most_wins_and_the_larger_of_equals():
    penalties = [1.0, 10.0, math.inf]
    power = np.full((3, 2), 8.0)

    def choose(squares, products):
        return best_penalty(
            np.stack([np.array(squares, float), np.array(products, float), power]), penalties
        )

    # By hand: (2 xy - xx) / yy, and xy / sqrt(xx yy).
    found = choose([[8, 2], [2, 2], [2, 2]], [[4, 2], [2, 2], [2, 2]])
    assert found.penalty == math.inf
    assert found.explained == pytest.approx(0.25)
    assert found.correlation == pytest.approx(0.5)
    # A larger correlation of too large a prediction does not win.
    found = choose([[32, 32], [2, 2], [0, 0]], [[12, 12], [2, 2], [0, 0]])
    assert found.penalty == 10.0
    # A row of zeros predicts a constant.
    found = choose([[8, 8], [8, 8], [0, 0]], [[1, 1], [2, 2], [0, 0]])
    assert (found.penalty, found.explained, found.correlation) == (math.inf, 0, 0)
    nothing = best_penalty(np.zeros((3, 3, 2)), penalties)
    assert nothing.penalty == math.inf
    assert math.isnan(nothing.correlation)


def test_one_output_of_another_scale_does_not_choose_for_all():
    random = np.random.default_rng(0)
    n, width, outputs = 180, 16, 40
    states = random.normal(size=(n, width)).astype(np.float32)
    truth = random.normal(size=(width, outputs))
    measured = (states @ truth + random.normal(size=(n, outputs))).astype(np.float32)
    measured[:, 0] *= 0.01
    train, penalties = np.arange(n) < 120, penalties_for(states)
    sums = held_out_sums(states, measured, truth, np.zeros(outputs), train, ~train, penalties)
    others = best_penalty(sums[:, :, 1:], penalties)
    assert others.penalty > 1e3
    assert best_penalty(sums, penalties).penalty == others.penalty


def test_some_rows_are_used_as_if_they_were_all():
    states, measured, weight, bias = draw(40)
    measured[:9, 2] = np.nan
    used = np.random.default_rng(0).random(40) < 0.6
    found = ridge_row(states, measured, weight, bias, 2.0, used)
    expected = ridge_row(states[used], measured[used], weight, bias, 2.0)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


@pytest.mark.parametrize("gaps", [False, True])
def test_memory_does_not_grow_with_all_outputs(gaps):
    # Double precision of all outputs would be twice the BOLD, and a copy of it once.
    import tracemalloc

    random = np.random.default_rng(0)
    states = random.normal(size=(1200, 4)).astype(np.float32)
    measured = random.normal(size=(1200, 9000)).astype(np.float32)
    if gaps:
        measured[:100, ::2] = np.nan
    given = np.zeros((4, 9000)), np.zeros(9000)
    train = np.arange(1200) < 1000

    def both():
        ridge_row(states, measured, *given, 1.0, train)
        held_out_sums(states, measured, *given, train, ~train, [1.0])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapt_ridge, "_COLUMNS", 512)
        tracemalloc.start()
        try:
            both()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < measured.nbytes


def test_penalties_scale_with_the_states():
    states = draw(60)[0]
    found = penalties_for(states)
    assert found == sorted(found)
    assert found[-1] == math.inf
    np.testing.assert_allclose(penalties_for(3 * states)[:-1], 9 * np.array(found[:-1]), rtol=1e-4)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(60, 400), films=st.integers(1, 4))
def test_blocks_are_contiguous_apart_and_hold_every_second_once(seed, n, films):
    random = np.random.default_rng(seed)
    lengths = random.multinomial(n, np.full(films, 1 / films))
    positions = np.concatenate([1000 * film + np.arange(k) for film, k in enumerate(lengths)])
    positions = np.concatenate([positions, positions[: n // 3]])  # repeats
    clock = np.arange(len(positions)) + 1000 * (np.arange(len(positions)) >= n)  # in another run
    order = random.permutation(len(positions))
    positions, clock = positions[order], clock[order]
    blocks = time_blocks(positions, clock)
    assert 2 <= len(blocks) <= 5
    tested = np.zeros(len(positions), int)
    for block in blocks:
        assert (np.diff(np.sort(clock[np.isin(positions, block) & (clock < n)])) == 1).all()
        train, test = left_out(positions, clock, block)
        tested += test
        assert not (train & test).any()
        assert test.any()
        near = np.zeros(len(positions), bool)
        for times in (positions, clock):
            near |= np.abs(times[:, None] - times[test][None]).min(axis=1) <= GAP
        assert np.array_equal(train, ~near)
    assert (tested == 1).all()
