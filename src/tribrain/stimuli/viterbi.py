"""The best way of a known sequence of symbols through a CTC model's probabilities."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

_MOST_POINTERS = 2**28  # bytes held at once; beyond it they are worked out again block by block
_STAY, _STEP, _SKIP = 0, 1, 2


class TokenSpans(NamedTuple):
    """Where tokens lie.

    Attributes
    ----------
    first, last : ndarray (tokens,), int64
        The first and the last frame (inclusive) of each token.
    probability : ndarray (tokens,), float64
        Mean probability of the token over those frames.
    """

    first: np.ndarray
    last: np.ndarray
    probability: np.ndarray


def frames_needed(tokens: np.ndarray) -> int:
    """The fewest frames that hold the tokens: one each, and a blank between two that are alike."""
    tokens = np.asarray(tokens)
    return len(tokens) + int(np.count_nonzero(tokens[1:] == tokens[:-1]))


def ctc_align(
    log_probs: np.ndarray,
    tokens: np.ndarray,
    blank: int,
    *,
    most_pointers: int = _MOST_POINTERS,
) -> TokenSpans:
    """Find the most probable path of frames that spells the tokens (Graves et al. 2006, ICML).

    A path gives each frame a symbol; it spells the tokens when they are what is left after
    merging repeats and then removing blanks. The best is found by dynamic programming (Viterbi)
    over the states blank, token 1, blank, token 2, ... blank. Where two paths are equally
    probable, a token starts as late as it can.

    Memory: a byte for each frame and state up to `most_pointers`. Beyond that the scores of every
    so many frames are kept instead, and the pointers between them are worked out a second time:
    the same path in about twice the time, in memory that grows with the root of the length.

    Parameters
    ----------
    log_probs : ndarray (time, symbols), float
        Natural logarithm of each symbol's probability; -inf is allowed.
    tokens : ndarray (tokens,), int
        Symbols to spell, none of them the blank.
    blank : int
    most_pointers : int
        Bytes.

    Returns
    -------
    TokenSpans

    Raises
    ------
    ValueError
        Wrong shapes or symbols; fewer frames than `frames_needed`; no path of any probability.
    """
    log_probs, tokens = np.asarray(log_probs), np.asarray(tokens, dtype=np.int64)
    if log_probs.ndim != 2 or tokens.ndim != 1:
        raise ValueError("log_probs are (time, symbols) and tokens (tokens,)")
    n_frames, n_symbols = log_probs.shape
    if not 0 <= blank < n_symbols:
        raise ValueError(f"the blank {blank} is not one of the {n_symbols} symbols")
    if len(tokens) and (tokens.min() < 0 or tokens.max() >= n_symbols or (tokens == blank).any()):
        raise ValueError(f"tokens are symbols from 0 to {n_symbols - 1} other than the blank")
    if not len(tokens):
        return TokenSpans(tokens, tokens, np.zeros(0))
    if n_frames < frames_needed(tokens):
        raise ValueError(f"{n_frames} frames cannot hold {len(tokens)} tokens")
    path = _best_path(log_probs, _Trellis(tokens, blank), most_pointers)
    on_token = path % 2 == 1
    owner, frames = path[on_token] // 2, np.flatnonzero(on_token)
    numbers = np.arange(len(tokens))
    first = frames[np.searchsorted(owner, numbers, side="left")]
    last = frames[np.searchsorted(owner, numbers, side="right") - 1]
    chance = np.exp(log_probs[frames, tokens[owner]].astype(np.float64))
    mean = np.bincount(owner, chance, len(tokens)) / np.bincount(owner, minlength=len(tokens))
    return TokenSpans(first, last, mean)


class _Trellis:
    """States and the steps between them; scores have two places of -inf in front."""

    def __init__(self, tokens: np.ndarray, blank: int) -> None:
        self.symbols = np.full(2 * len(tokens) + 1, blank, dtype=np.int64)
        self.symbols[1::2] = tokens
        # Only between two different tokens may the blank be left out.
        self.barrier = np.full(len(self.symbols), -np.inf)
        self.barrier[3::2][tokens[1:] != tokens[:-1]] = 0.0

    def first(self, row: np.ndarray) -> np.ndarray:
        scores = np.full(len(self.symbols) + 2, -np.inf)
        scores[2:4] = row[self.symbols[:2]]
        return scores

    def advance(
        self, scores: np.ndarray, row: np.ndarray, pointers: np.ndarray | None
    ) -> np.ndarray:
        """Scores one frame on; where each came from is written to `pointers`."""
        stay, step, skip = scores[2:], scores[1:-1], scores[:-2] + self.barrier
        best = np.maximum(stay, step)
        if pointers is not None:
            np.greater(step, stay, out=pointers, casting="unsafe")
            pointers[skip > best] = _SKIP
        after = np.full(len(scores), -np.inf)
        np.maximum(best, skip, out=after[2:])
        after[2:] += row.astype(np.float64)[self.symbols]
        return after


def _best_path(log_probs: np.ndarray, trellis: _Trellis, most_pointers: int) -> np.ndarray:
    """State of each frame on the best path, (time,)."""
    n_frames, n_states = len(log_probs), len(trellis.symbols)
    block = n_frames
    if n_frames * n_states > most_pointers:
        # A state takes `block` bytes of pointers and 8 * n_frames / block of scores: least here.
        block = max(1, math.isqrt(8 * n_frames))
    edges = list(range(0, n_frames, block))
    whole = len(edges) == 1
    kept = [trellis.first(log_probs[0])]
    scores = kept[0]
    pointers = np.zeros((min(block, n_frames), n_states), np.uint8)
    for frame in range(1, n_frames):
        scores = trellis.advance(scores, log_probs[frame], pointers[frame] if whole else None)
        if frame % block == 0:
            kept.append(scores)
    state = n_states - 1 if scores[-1] >= scores[-2] else n_states - 2
    if scores[state + 2] == -np.inf:
        raise ValueError("no path through the probabilities spells the tokens")
    path = np.empty(n_frames, np.int64)
    path[-1] = state
    for start, at_start in zip(reversed(edges), reversed(kept), strict=True):
        # The frame at an edge belongs to the block before it, as the step into it is made there.
        end = min(start + block, n_frames - 1)
        if not whole:
            pointers = np.zeros((end - start + 1, n_states), np.uint8)
            scores = at_start
            for frame in range(start + 1, end + 1):
                scores = trellis.advance(scores, log_probs[frame], pointers[frame - start])
        for frame in range(end, start, -1):
            state -= int(pointers[frame - start, state])
            path[frame - 1] = state
    return path
