"""Words in time: running text with punctuation, and times for text without a voice."""

from __future__ import annotations

import difflib
import itertools
import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tribrain.errors import InputError
from tribrain.files import require_file

LONGEST = 1e7  # seconds, four months; a longer time in a file of words is damage

# Scripts written without spaces: each character stands for itself when texts are matched.
UNSPACED = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# Signs that belong to the letter before them: vowels of Hindi and Arabic, accents set apart.
_MARKS = "".join(
    chr(c)
    for c in range(0x10000)
    if unicodedata.category(chr(c))[0] == "M" and not re.match(f"[{UNSPACED}]", chr(c))
)
_LETTER = rf"(?:[^\W_{UNSPACED}]|[{_MARKS}])"
_STOPS, _COMMAS = r"[.!?…。！？؟۔।]", r"[,;:–—，、；：،؛]"
_TOKEN = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]{_LETTER}*(?:['’]{_LETTER}+)*")


@dataclass(frozen=True)
class Word:
    """A word heard or read from `start` for `duration` (seconds of stimulus time).

    `confidence` is how sure its maker was of it, 0 to 1, or None; `source` says where its time is
    from, such as "transcript", "caption", "recognised", "aligned" or "interpolated".
    """

    text: str
    start: float
    duration: float
    confidence: float | None = None
    source: str = "transcript"

    @property
    def end(self) -> float:
        return self.start + self.duration


def read_text(path: str | Path, what: str = "text") -> str:
    """Read running text (UTF-8, with or without byte-order mark); white space becomes one space."""
    path = require_file(path, what)
    try:
        text = " ".join(path.read_text(encoding="utf-8-sig").split())
    except UnicodeDecodeError:
        raise InputError(f"{what} {path} is not UTF-8 text; save it as UTF-8") from None
    if not _TOKEN.search(text):
        raise InputError(f"{what} {path} holds no words")
    return text


def syllables(word: str) -> int:
    """Rough number of syllables: groups of vowels, or characters of a script without spaces."""
    plain = unicodedata.normalize("NFKD", word.casefold())
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    single = len(re.findall(f"[{UNSPACED}]", plain))
    groups = len(re.findall(r"[aeiouyаеёиоуыэюяαεηιουω]+", plain))
    if re.search(r"[^aeiouyl]e$", plain) and groups > 1:
        groups -= 1
    if not groups and not single:  # abjads, figures, abbreviations
        groups = math.ceil(sum(c.isalnum() for c in plain) / 2)
    return max(1, single + groups)


def spread_over(parts: Sequence[str], start: float, duration: float) -> list[Word]:
    """Spread words over a span in proportion to their syllables."""
    weights = [syllables(part) for part in parts]
    unit = duration / sum(weights)
    words, done = [], 0
    for part, weight in zip(parts, weights, strict=True):
        words.append(Word(part, start + done * unit, weight * unit))
        done += weight
    return words


def spoken_times(
    text: str, *, syllable: float = 0.2, comma: float = 0.25, stop: float = 0.6
) -> list[Word]:
    """Times that the words of a text would have if it were read aloud.

    A syllable lasts `syllable` seconds (5 a second, somewhat slower than the 6.2 of fluently read
    English in Pellegrino et al. 2011, Language 87:539-558), a comma pauses for `comma`, a full
    stop for `stop` seconds.

    Parameters
    ----------
    text : str
        Running text with punctuation.

    Returns
    -------
    list of Word
        In order, from 0 s; the text of a word without the punctuation around it.
    """
    words: list[Word] = []
    now = 0.0
    for chunk in text.split():
        tokens = list(_TOKEN.finditer(chunk))
        if not tokens:
            now += 0.0 if not words else stop if re.search(_STOPS, chunk) else comma
            continue
        if re.search(f"[{UNSPACED}]", chunk):
            parts = [(t.group(), chunk[t.end() : n.start()]) for t, n in itertools.pairwise(tokens)]
            parts.append((tokens[-1].group(), chunk[tokens[-1].end() :]))
        else:
            parts = [(chunk[tokens[0].start() : tokens[-1].end()], chunk[tokens[-1].end() :])]
        for part, after in parts:
            duration = syllable * syllables(part)
            words.append(Word(part, round(now, 6), duration))
            now += duration
            if re.search(_STOPS, after):
                now += stop
            elif re.search(_COMMAS, after):
                now += comma
    return words


def running_text(words: Sequence[Word], text: str | None) -> tuple[str, list[tuple[int, int]]]:
    """The text as it runs, punctuation included, and where each word lies in it.

    Without `text`, the words are joined by one space. With it, words are matched to it in order
    (case and punctuation do not count); a word that does not match enters as the transcript has
    it, in place of the text that it stands for.

    Parameters
    ----------
    words : sequence of Word
    text : str or None

    Returns
    -------
    running : str
    spans : list of (first, last)
        ``running[first:last]`` is the word; the context of a word is ``running[:last]``.
    """
    if text is None:
        spans, position = [], 0
        for word in words:
            spans.append((position, position + len(word.text)))
            position += len(word.text) + 1
        return " ".join(word.text for word in words), spans
    text = " ".join(text.split())
    in_text = list(_TOKEN.finditer(text))
    matched = _match(words, [_key(token.group()) for token in in_text])
    out, spans = "", []
    cursor = next_token = 0  # characters and tokens of `text` already used
    position = 0
    while position < len(words):
        if matched[position] is not None:
            first, last = matched[position]  # type: ignore[misc]
            begin, end = in_text[first].start(), in_text[last].end()
            begin = _with_leading_marks(words[position].text, text, begin, cursor)
            out = _join(out, text[cursor:begin])
            out = _join(out, text[begin:end])
            spans.append((len(out) - (end - begin), len(out)))
            cursor, next_token = end, last + 1
            position += 1
            continue
        run_end = position
        while run_end < len(words) and matched[run_end] is None:
            run_end += 1
        gap_end = matched[run_end][0] if run_end < len(words) else len(in_text)  # type: ignore[index]
        # Text that the words stand for goes; a long stretch that nobody spoke stays.
        if 0 < gap_end - next_token <= 2 * (run_end - position):
            out = _join(out, text[cursor : in_text[next_token].start()])
            cursor, next_token = in_text[gap_end - 1].end(), gap_end
        for word in words[position:run_end]:
            limit = in_text[next_token].start() if next_token < len(in_text) else len(text)
            place = text.find(word.text, cursor, limit)
            # A mark that the transcript counts as a word, and the text has here.
            if not _TOKEN.search(word.text) and place >= 0:
                out = _join(out, text[cursor : place + len(word.text)])
                cursor = place + len(word.text)
                spans.append((len(out) - len(word.text), len(out)))
                continue
            out = _join(out, " " + word.text if out and not out.endswith(" ") else word.text)
            spans.append((len(out) - len(word.text), len(out)))
        position = run_end
        if run_end < len(words) and _word_follows(text, cursor):
            out += " "
    return out, spans


def _key(token: str) -> str:
    return unicodedata.normalize("NFKC", token).casefold().replace("’", "'")


def _match(words: Sequence[Word], keys: list[str]) -> list[tuple[int, int] | None]:
    """First and last token of the text for each word, or None where they do not match."""
    tokens, owners = [], []
    for number, word in enumerate(words):
        for token in _TOKEN.findall(word.text):
            tokens.append(_key(token))
            owners.append(number)
    found: dict[int, list[int]] = {number: [] for number in range(len(words))}
    sizes = [0] * len(words)
    for owner in owners:
        sizes[owner] += 1
    matcher = difflib.SequenceMatcher(None, tokens, keys, autojunk=False)
    for block in matcher.get_matching_blocks():
        for step in range(block.size):
            found[owners[block.a + step]].append(block.b + step)
    result: list[tuple[int, int] | None] = []
    for number, size in enumerate(sizes):
        places = found[number]
        whole = size > 0 and len(places) == size and places[-1] - places[0] == size - 1
        result.append((places[0], places[-1]) if whole else None)
    return result


def _with_leading_marks(word: str, text: str, begin: int, cursor: int) -> int:
    """Move the start back over marks that the transcript counts to the word ("$100")."""
    token = _TOKEN.search(word)
    lead = word[: token.start()] if token else ""
    if lead and begin - len(lead) >= cursor and text[begin - len(lead) : begin] == lead:
        return begin - len(lead)
    return begin


def _word_follows(text: str, position: int) -> bool:
    """Whether a word of a spaced script stands right there, with no mark or space before it."""
    token = _TOKEN.match(text, position)
    return token is not None and not re.match(f"[{UNSPACED}]", token.group())


def _join(left: str, right: str) -> str:
    """Concatenate, parting two words that would run into each other."""
    if left and right and left[-1].isalnum() and right[0].isalnum():
        unspaced = f"[{UNSPACED}]"
        if not (re.match(unspaced, left[-1]) or re.match(unspaced, right[0])):
            return f"{left} {right}"
    return left + right
