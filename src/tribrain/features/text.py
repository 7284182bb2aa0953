"""A vector for every word, from one causal pass over the text.

The vector of a word is the mean over its own tokens at the end of its context: the running text
up to the word, limited to the last words before it. A causal model gives the same states for a
token whatever follows it, so all words whose context starts at the same place share one pass.
That holds as long as the tokens of the context are the first tokens of the longer text; where
token boundaries disagree, the word gets a pass of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tribrain.features.backbones import Backbone

_CHECKED_WORDS = 8  # words before a word that are tokenised again to check its boundaries


@dataclass(frozen=True)
class _Pass:
    """Tokens to run, and the words (number, first token, last token + 1) to read from them."""

    tokens: list[int]
    words: list[tuple[int, int, int]]


def word_vectors(
    backbone: Backbone,
    tokenizer: Any,
    running: str,
    spans: Sequence[tuple[int, int]],
    *,
    context_words: int = 1024,
    batch_tokens: int = 8192,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Vector of each word in its context (published recipe, section 1, *Text*).

    Parameters
    ----------
    backbone : Backbone
        A causal language model.
    tokenizer : transformers tokenizer
        A fast one (it gives offsets).
    running : str
        The whole text, punctuation included.
    spans : sequence of (first, last), n_words
        Where each word lies in `running`.
    context_words : int
        Words (parted by white space) that a context holds at most, the word included. Each word
        beyond the limit costs a pass of its own, as its context starts at a place of its own.
    batch_tokens : int
        Tokens of short passes that run together.
    progress : callable, optional
        Called with the number of words done and their total.

    Returns
    -------
    ndarray (n_words, layers, dim), float32
    """
    passes: list[_Pass] = []
    for start, members in _shared_starts(running, spans, context_words):
        passes.extend(_plan(tokenizer, running, spans, start, members))
    result: np.ndarray | None = None
    done = 0
    for batch in _batches(passes, batch_tokens):
        for one, states in zip(batch, _run(backbone, batch), strict=True):
            for number, first, last in one.words:
                vector = states[:, first:last].mean(dim=1)
                if result is None:
                    result = np.zeros((len(spans), *vector.shape), np.float32)
                result[number] = vector.numpy()
            done += len(one.words)
            if progress is not None:
                progress(done, len(spans))
    assert result is not None, "a text needs at least one word"
    return result


def _shared_starts(
    running: str, spans: Sequence[tuple[int, int]], limit: int
) -> list[tuple[int, list[int]]]:
    """Where contexts start in the text, and the words whose context starts there."""
    starts = [match.start() for match in re.finditer(r"\S+", running)]
    grouped: dict[int, list[int]] = {}
    for number, (_, last) in enumerate(spans):
        held = int(np.searchsorted(starts, last))  # words of the text up to this one
        grouped.setdefault(starts[max(0, held - limit)], []).append(number)
    return list(grouped.items())


def _plan(
    tokenizer: Any,
    running: str,
    spans: Sequence[tuple[int, int]],
    start: int,
    members: list[int],
) -> list[_Pass]:
    """One pass for the words whose boundaries agree, and one for each other word."""
    if len(members) == 1:
        return [_own_pass(tokenizer, running, spans[members[0]], start, members[0])]
    end = spans[members[-1]][1]
    encoded = tokenizer(running[start:end], add_special_tokens=False, return_offsets_mapping=True)
    tokens: list[int] = encoded["input_ids"]
    ends = start + np.array([last for _, last in encoded["offset_mapping"]])
    before = [_before(running, spans[number][0], start) for number in members]
    anchors = [
        _before(running, spans[members[max(0, place - _CHECKED_WORDS)]][0], start)
        for place in range(len(members))
    ]
    lasts = [spans[number][1] for number in members]
    whole = _prefix_counts(tokenizer, running, tokens, ends, start, anchors, lasts)
    prefix = _prefix_counts(tokenizer, running, tokens, ends, start, anchors, before)
    shared = _Pass(tokens, [])
    passes = [shared]
    for number, first, last in zip(members, prefix, whole, strict=True):
        if first is None or last is None:
            passes.append(_own_pass(tokenizer, running, spans[number], start, number))
        else:
            shared.words.append((number, min(first, last - 1), last))
    return passes if shared.words else passes[1:]


def _before(running: str, first: int, start: int) -> int:
    """End of the text before a word, the one space before it not counted."""
    return first - 1 if first > start and running[first - 1] == " " else first


def _prefix_counts(
    tokenizer: Any,
    running: str,
    tokens: list[int],
    ends: np.ndarray,
    start: int,
    anchors: list[int],
    lasts: list[int],
) -> list[int | None]:
    """Tokens that the text up to each place has, None where they are not the text's first ones.

    The place must be the end of a token, and the words before it, tokenised as if the text ended
    there, must give the same tokens. How a word is cut depends on its neighbours only (byte-pair,
    word-piece and unigram models all part text at spaces first), so a few words tell.
    """
    pieces = [running[anchor:last] for anchor, last in zip(anchors, lasts, strict=True)]
    alone = tokenizer([piece or " " for piece in pieces], add_special_tokens=False)["input_ids"]
    counts: list[int | None] = []
    for piece, anchor, last, local in zip(pieces, anchors, lasts, alone, strict=True):
        count = int(np.searchsorted(ends, last, side="right"))
        if last == start:
            counts.append(0)
            continue
        same = count > 0 and ends[count - 1] == last
        if same and piece:
            # The first tokens of a piece that starts in the middle may be cut otherwise.
            unsure = 0 if anchor == start else min(2, len(local) - 1)
            tail = local[unsure:]
            same = tokens[max(0, count - len(tail)) : count] == tail
        counts.append(count if same else None)
    return counts


def _own_pass(
    tokenizer: Any, running: str, span: tuple[int, int], start: int, number: int
) -> _Pass:
    """The recipe to the letter for one word: tokens of its context, less those of the prefix."""
    context = running[start : span[1]]
    prefix = running[start : _before(running, span[0], start)]
    tokens = tokenizer(context, add_special_tokens=False)["input_ids"]
    held = len(tokenizer(prefix, add_special_tokens=False)["input_ids"]) if prefix else 0
    return _Pass(tokens, [(number, min(held, len(tokens) - 1), len(tokens))])


def _batches(passes: list[_Pass], limit: int) -> list[list[_Pass]]:
    """Passes of like length together, up to `limit` tokens with their padding."""
    batches: list[list[_Pass]] = []
    for one in sorted(passes, key=lambda one: len(one.tokens)):
        if batches and (len(batches[-1]) + 1) * len(one.tokens) <= limit:
            batches[-1].append(one)
        else:
            batches.append([one])
    return batches


def _run(backbone: Backbone, batch: list[_Pass]) -> list[torch.Tensor]:
    """Layers of each pass: tensors (layers, tokens, dim) on the CPU.

    Shorter passes are padded on the right, which a causal model does not see.
    """
    longest = max(len(one.tokens) for one in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    for row, one in enumerate(batch):
        ids[row, : len(one.tokens)] = torch.tensor(one.tokens)
    with torch.inference_mode(), backbone.states(lambda hidden: hidden) as layers:
        backbone.model(input_ids=ids.to(backbone.device), use_cache=False)
    stacked = torch.stack(layers, dim=1).float().cpu()
    return [stacked[row, :, : len(one.tokens)] for row, one in enumerate(batch)]
