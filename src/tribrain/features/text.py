"""A vector for every word, from as few passes over the text as its contexts allow.

The vector of a word is the mean over its own tokens at the end of its context: the running text
up to the word, limited to the last words before it. A causal model gives the same states for a
token whatever follows it, so all words whose context starts at the same place share one pass.
That holds as long as the tokens of the context are the first tokens of the longer text; where
token boundaries disagree, the word gets a pass of its own.

A model that reads both ways would see the words that follow. There, every word is read in a
window of its own that ends with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tribrain.features.backbones import Backbone
from tribrain.features.running import Batches

VERSION = 1  # of the numbers; part of the key of kept results

_CHECKED_WORDS = 8  # words before a word that are tokenised again to check its boundaries
_OWN_WINDOWS = 128  # words of a piece whose words have each a pass of their own
_BATCH_TOKENS = 8192
# Families in which the positions of padding come first.
_POSITIONS_AFTER_PADDING = (
    *("roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "xlm-roberta-xl", "xmod"),
    *("roberta-prelayernorm", "data2vec-text", "ibert", "luke", "lilt", "markuplm", "esm"),
)


@dataclass(frozen=True)
class TextPiece:
    """Neighbouring words that are worked out together.

    Attributes
    ----------
    words : tuple of int
        Their numbers.
    starts : tuple of int
        Where in the text the context of each starts, for a model that shares passes.
    windows : tuple of int
        Where the window of each starts, for a model that reads both ways.
    """

    words: tuple[int, ...]
    starts: tuple[int, ...]
    windows: tuple[int, ...]


@dataclass(frozen=True)
class _Pass:
    """Tokens to run, and the words (number, first token, last token + 1) to read from them."""

    tokens: list[int]
    words: list[tuple[int, int, int]]


def text_pieces(
    running: str, spans: Sequence[tuple[int, int]], *, limit: int, stride: int, exact: bool
) -> list[TextPiece]:
    """Cut a text into pieces, and say what each word sees.

    Words see all of the text before them up to `limit` words (parted by white space, the word
    included). Beyond, `stride` words share the start of their context, so that each sees `limit`
    words at least and under ``limit + stride``; with `exact` each sees `limit` words and costs a
    pass of its own, as published.

    Parameters
    ----------
    running : str
        The whole text, punctuation included.
    spans : sequence of (first, last), n_words
        Where each word lies in `running`, ascending.
    """
    places = [match.start() for match in re.finditer(r"\S+", running)]
    held = np.searchsorted(places, [last for _, last in spans])  # words up to and with this one
    pieces: list[TextPiece] = []
    numbers: list[int] = []
    starts: list[int] = []
    windows = [places[max(0, count - limit)] for count in held.tolist()]

    def close() -> None:
        own = tuple(windows[number] for number in numbers)
        pieces.append(TextPiece(tuple(numbers), tuple(starts), own))

    opened = 0  # words of the text before the piece's first one
    for number, count in enumerate(held.tolist()):
        beyond = count > limit
        longest = _OWN_WINDOWS if exact and beyond else stride
        # The words within the limit and the first stride beyond it share the start of the text.
        room = limit + stride - 1 if not opened and not exact else longest
        if not opened and exact and not beyond:
            room = limit
        if count - opened > room:
            if numbers:  # none where a text begins with more than that before its first word
                close()
            numbers, starts, opened = [], [], count - 1
        if exact:
            start = windows[number]
        elif not opened:
            start = places[0]
        else:
            start = places[max(0, opened + 1 - limit)]
        numbers.append(number)
        starts.append(start)
    close()
    return pieces


def piece_vectors(
    backbone: Backbone,
    tokenizer: Any,
    running: str,
    spans: Sequence[tuple[int, int]],
    piece: TextPiece,
) -> np.ndarray:
    """Vectors of a piece's words in their contexts (published recipe, section 1, *Text*).

    Parameters
    ----------
    backbone : Backbone
        A language model.
    tokenizer : transformers tokenizer
        A fast one (it gives offsets).
    running : str
        The whole text, punctuation included.
    spans : sequence of (first, last)
        Where each word lies in `running`.
    piece : TextPiece

    Returns
    -------
    ndarray (words of the piece, layers, dim), float32
    """
    most = most_tokens(backbone.model.config, tokenizer)
    passes: list[_Pass] = []
    if backbone.family.form == "causal":
        grouped: dict[int, list[int]] = {}
        for number, start in zip(piece.words, piece.starts, strict=True):
            grouped.setdefault(start, []).append(number)
        for start, members in grouped.items():
            passes.extend(_shared_passes(tokenizer, running, spans, start, members, most))
    else:
        for number, start in zip(piece.words, piece.windows, strict=True):
            passes.append(_window(tokenizer, running, spans[number], start, number, most))
    result = np.zeros((len(piece.words), len(backbone.groups), backbone.width), np.float32)
    place = {number: row for row, number in enumerate(piece.words)}
    run: Batches[_Pass, np.ndarray] = Batches(
        lambda batch: _run(backbone, tokenizer, batch), len(passes)
    )
    for batch in _batches(passes, _BATCH_TOKENS):
        for one, vectors in zip(batch, run(batch), strict=True):
            result[[place[number] for number, _, _ in one.words]] = vectors
    return result


def most_tokens(config: Any, tokenizer: Any) -> int:
    """Tokens that a model has positions for."""
    positions = getattr(config, "max_position_embeddings", None) or 10**9
    if positions < 0:  # xlnet states -1
        positions = 10**9
    if config.model_type in _POSITIONS_AFTER_PADDING:
        positions -= config.pad_token_id + 1
    return int(min(positions, tokenizer.model_max_length))


def _shared_passes(
    tokenizer: Any,
    running: str,
    spans: Sequence[tuple[int, int]],
    start: int,
    members: list[int],
    most: int,
) -> list[_Pass]:
    """One pass for the words whose boundaries agree, and one for each other word.

    A text of more tokens than the model has positions for is read with half of the context, or,
    where that is the shorter part, in halves, the second with half of the text before it.
    """
    if len(members) == 1:
        return [_own_pass(tokenizer, running, spans[members[0]], start, members[0], most)]
    end = spans[members[-1]][1]
    encoded = tokenizer(running[start:end], add_special_tokens=False, return_offsets_mapping=True)
    tokens: list[int] = encoded["input_ids"]
    if len(tokens) > most:
        first_word = spans[members[0]][0]
        if first_word - start > end - first_word:
            later = _middle(running, start, first_word)
            return _shared_passes(tokenizer, running, spans, later, members, most)
        half = len(members) // 2
        first, second = members[:half], members[half:]
        later = _middle(running, start, spans[second[0]][0])
        return [
            *_shared_passes(tokenizer, running, spans, start, first, most),
            *_shared_passes(tokenizer, running, spans, later, second, most),
        ]
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
    for number, first_token, last_token in zip(members, prefix, whole, strict=True):
        if first_token is None or last_token is None:
            passes.append(_own_pass(tokenizer, running, spans[number], start, number, most))
        else:
            shared.words.append((number, min(first_token, last_token - 1), last_token))
    return passes if shared.words else passes[1:]


def _middle(running: str, start: int, end: int) -> int:
    """Start of the word in the middle of a stretch of text."""
    places = [start + match.start() for match in re.finditer(r"\S+", running[start:end])]
    return places[len(places) // 2] if places else end


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
    tokenizer: Any, running: str, span: tuple[int, int], start: int, number: int, most: int
) -> _Pass:
    """The recipe to the letter for one word: tokens of its context, less those of the prefix."""
    context = running[start : span[1]]
    prefix = running[start : _before(running, span[0], start)]
    tokens = tokenizer(context, add_special_tokens=False)["input_ids"]
    held = len(tokenizer(prefix, add_special_tokens=False)["input_ids"]) if prefix else 0
    own = max(1, len(tokens) - held)
    kept = tokens[-most:]
    return _Pass(kept, [(number, max(0, len(kept) - own), len(kept))])


def _window(
    tokenizer: Any, running: str, span: tuple[int, int], start: int, number: int, most: int
) -> _Pass:
    """The words up to a word with the model's special tokens; what is too long is cut in front."""
    tokenizer.truncation_side = "left"
    encoded = tokenizer(
        running[start : span[1]],
        truncation=True,
        max_length=most,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
    )
    content = [n for n, special in enumerate(encoded["special_tokens_mask"]) if not special]
    ends = [encoded["offset_mapping"][n][1] for n in content]
    own = [n for n, end in zip(content, ends, strict=True) if end > span[0] - start]
    last = (content or [0])[-1] + 1
    return _Pass(encoded["input_ids"], [(number, (own or [last - 1])[0], last)])


def _batches(passes: list[_Pass], limit: int) -> list[list[_Pass]]:
    """Passes of like length together, up to `limit` tokens with their padding."""
    batches: list[list[_Pass]] = []
    for one in sorted(passes, key=lambda one: len(one.tokens)):
        if batches and (len(batches[-1]) + 1) * len(one.tokens) <= limit:
            batches[-1].append(one)
        else:
            batches.append([one])
    return batches


def _run(backbone: Backbone, tokenizer: Any, batch: Sequence[_Pass]) -> list[np.ndarray]:
    """Vectors of each pass's words: arrays (words, layers, dim).

    Shorter passes are padded on the right: a causal model does not see that, and one that reads
    both ways is told by the mask.
    """
    longest = max(len(one.tokens) for one in batch)
    ids = torch.full((len(batch), longest), tokenizer.pad_token_id or 0)
    mask = torch.zeros(len(batch), longest, dtype=torch.long)
    for row, one in enumerate(batch):
        ids[row, : len(one.tokens)] = torch.tensor(one.tokens)
        mask[row, : len(one.tokens)] = 1
    words = [(row, first, last) for row, one in enumerate(batch) for _, first, last in one.words]
    if backbone.pooling == "first":
        words = [(row, first, first + 1) for row, first, _ in words]
    elif backbone.pooling == "last":
        words = [(row, last - 1, last) for row, _, last in words]
    counts = torch.tensor([last - first for _, first, last in words], device=backbone.device)
    rows = torch.tensor([row * longest + n for row, a, b in words for n in range(a, b)])
    owner = torch.repeat_interleave(torch.arange(len(words), device=backbone.device), counts)
    rows = rows.to(backbone.device)

    def mean_of_words(hidden: Tensor) -> Tensor:
        own = hidden.flatten(0, 1)[rows].float()
        sums = torch.zeros(len(words), hidden.shape[-1], device=own.device)
        return sums.index_add_(0, owner, own) / counts[:, None]

    inputs: dict[str, Any] = {"input_ids": ids}
    if backbone.family.form == "causal":
        inputs["use_cache"] = False
    else:
        inputs["attention_mask"] = mask
    vectors = torch.stack(backbone.layers(inputs, mean_of_words), dim=1).cpu().numpy()
    ends = np.cumsum([len(one.words) for one in batch])[:-1]
    return np.split(vectors, ends)
