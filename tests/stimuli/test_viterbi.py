"""The path through a CTC trellis, against two independent ways of finding it."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tribrain.stimuli.viterbi import ctc_align, frames_needed

CALM = settings(max_examples=100, deadline=None, derandomize=True)


def log_softmax(rng: np.random.Generator, frames: int, symbols: int) -> np.ndarray:
    scores = rng.normal(0, 2, (frames, symbols))
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


def collapsed(path: tuple[int, ...], blank: int) -> list[int]:
    return [symbol for symbol, _ in itertools.groupby(path) if symbol != blank]


def best_of_all_paths(log_probs: np.ndarray, tokens: list[int], blank: int) -> tuple[int, ...]:
    """Every sequence of symbols there is; the most probable of those that spell the tokens."""
    frames, symbols = log_probs.shape
    every = itertools.product(range(symbols), repeat=frames)
    fitting = [path for path in every if collapsed(path, blank) == tokens]
    return max(fitting, key=lambda path: sum(log_probs[t, s] for t, s in enumerate(path)))


def spans_of(path: tuple[int, ...], blank: int) -> list[tuple[int, int]]:
    spans, frame = [], 0
    for symbol, run in itertools.groupby(path):
        length = len(list(run))
        if symbol != blank:
            spans.append((frame, frame + length - 1))
        frame += length
    return spans


def double_loop(log_probs: np.ndarray, tokens: list[int], blank: int) -> list[tuple[int, int]]:
    """The textbook recursion over (frame, tokens begun, on a token or behind it)."""
    frames, count = len(log_probs), len(tokens)
    best: list[dict[tuple[int, bool], tuple[float, tuple[int, bool] | None]]] = []
    for t in range(frames):
        row: dict[tuple[int, bool], tuple[float, tuple[int, bool] | None]] = {}
        for done in range(count + 1):
            for on in (False, True):
                if on and done == 0:
                    continue
                if t == 0:
                    allowed = (done, on) in ((0, False), (1, True))
                    before: list[tuple[int, bool] | None] = [None] if allowed else []
                elif on:
                    before = [(done, True), (done - 1, False)]
                    if done > 1 and tokens[done - 1] != tokens[done - 2]:
                        before.append((done - 1, True))
                else:
                    before = [(done, False), (done, True)]
                options = [
                    (0.0 if b is None else best[t - 1][b][0], b)
                    for b in before
                    if b is None or b in best[t - 1]
                ]
                if options:
                    score, origin = max(options, key=lambda option: option[0])
                    here = log_probs[t, tokens[done - 1] if on else blank]
                    row[done, on] = (score + here, origin)
        best.append(row)
    ends = [state for state in ((count, False), (count, True)) if state in best[-1]]
    state: tuple[int, bool] | None = max(ends, key=lambda one: best[-1][one][0])
    path = []
    for t in range(frames - 1, -1, -1):
        assert state is not None
        path.append(tokens[state[0] - 1] if state[1] else blank)
        state = best[t][state][1]
    return spans_of(tuple(reversed(path)), blank)


@CALM
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_small_cases_against_every_path(data: st.DataObject, seed: int) -> None:
    symbols = data.draw(st.integers(2, 4))
    blank = data.draw(st.integers(0, symbols - 1))
    others = [s for s in range(symbols) if s != blank]
    most = 7 if symbols < 4 else 6  # frames; 4**7 paths would take long
    tokens = data.draw(st.lists(st.sampled_from(others), min_size=1, max_size=most - 3))
    frames = data.draw(st.integers(frames_needed(np.array(tokens)), most))
    log_probs = log_softmax(np.random.default_rng(seed), frames, symbols)
    path = best_of_all_paths(log_probs, tokens, blank)
    found = ctc_align(log_probs, np.array(tokens), blank)
    spans = spans_of(path, blank)
    assert list(zip(found.first, found.last, strict=True)) == spans
    chances = [
        np.exp(log_probs[a : b + 1, t]).mean() for (a, b), t in zip(spans, tokens, strict=True)
    ]
    np.testing.assert_allclose(found.probability, chances, rtol=1e-12)


@CALM
@given(
    tokens=st.lists(st.integers(1, 4), min_size=1, max_size=25),
    spare=st.integers(0, 60),
    seed=st.integers(0, 2**32 - 1),
    most_pointers=st.sampled_from([1, 2**28]),
)
def test_larger_cases_against_a_double_loop(
    tokens: list[int], spare: int, seed: int, most_pointers: int
) -> None:
    frames = frames_needed(np.array(tokens)) + spare
    log_probs = log_softmax(np.random.default_rng(seed), frames, 5)
    found = ctc_align(log_probs, np.array(tokens), 0, most_pointers=most_pointers)
    assert list(zip(found.first, found.last, strict=True)) == double_loop(log_probs, tokens, 0)


def test_impossible_symbols_are_avoided() -> None:
    log_probs = np.log(np.full((4, 3), 1 / 3))
    log_probs[:2, 1] = -np.inf
    found = ctc_align(log_probs, np.array([1]), 0)
    assert found.first[0] >= 2
    log_probs[:, 1] = -np.inf
    with pytest.raises(ValueError, match="no path"):
        ctc_align(log_probs, np.array([1]), 0)


def test_what_cannot_be_is_refused() -> None:
    log_probs = np.zeros((3, 3))
    assert frames_needed(np.array([1, 1, 2])) == 4
    with pytest.raises(ValueError, match="3 frames cannot hold 3 tokens"):
        ctc_align(log_probs, np.array([1, 1, 2]), 0)
    with pytest.raises(ValueError, match="other than the blank"):
        ctc_align(log_probs, np.array([0]), 0)
    with pytest.raises(ValueError, match="blank 5"):
        ctc_align(log_probs, np.array([1]), 5)
    assert all(len(part) == 0 for part in ctc_align(log_probs, np.array([], int), 0))


def test_long_sound_takes_little_memory_and_gives_the_same() -> None:
    rng = np.random.default_rng(0)
    frames, tokens = 2500, rng.integers(1, 5, 400)
    log_probs = log_softmax(rng, frames, 5).astype(np.float32)
    whole = ctc_align(log_probs, tokens, 0)
    tracemalloc.start()
    blocks = ctc_align(log_probs, tokens, 0, most_pointers=1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.4 * frames * (2 * len(tokens) + 1)  # a byte a frame and state is 2.0 MB
    for one, other in zip(whole, blocks, strict=True):
        np.testing.assert_array_equal(one, other)
