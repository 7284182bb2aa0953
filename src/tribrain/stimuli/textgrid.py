"""Words from a TextGrid, the annotation format of Praat."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tribrain.errors import InputError
from tribrain.stimuli.words import LONGEST, Word, spread_over

# Praat reads strings, numbers and <flags> that stand free; all else explains them to people.
_TOKEN = re.compile(r'(?<!\S)"((?:[^"]|"")*)"|(?<!\S)(![^\r\n]*)|(\S+)')
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?")
_SILENCE = {"", "sp", "sil", "#", "_", "<p:>", "<p>", "<sil>", "<sp>", "<eps>", "<s>", "</s>"}


@dataclass(frozen=True)
class _Tier:
    name: str
    intervals: list[tuple[float, float, str]] | None  # None: a tier of points


def read_textgrid(content: str, name: str) -> tuple[list[Word], list[str]]:
    """Words of a TextGrid in Praat's long or short text format.

    The tier is the one named "words" or "word" (in any case) or, as by the Montreal Forced
    Aligner, "SPEAKER - words"; else the only tier of intervals. Several tiers named so, as of
    several speakers, are all read, with a note. Labels that are empty or "sp", "sil", "spn", "#",
    "_", "<p:>", "<sil>", "<eps>" are silence; "spn" and other labels in angle or square brackets,
    such as "<unk>", stand for sounds that are not known words: they are left out and counted. A
    label of several words is spread over its interval by syllables, with a note.

    Parameters
    ----------
    content : str
    name : str
        Name of the file, for messages.

    Returns
    -------
    words : list of Word
    notes : list of str

    Raises
    ------
    InputError
        Not a TextGrid, a damaged one, or no way to tell which tier holds the words; the tiers are
        then named.
    """
    tiers = list(_tiers(content, name))
    intervals = [tier for tier in tiers if tier.intervals is not None]
    chosen = [t for t in intervals if t.name.strip().casefold() in ("words", "word")] or [
        t for t in intervals if re.search(r"\S\s*-\s*words?\s*$", t.name.casefold())
    ]
    notes = []
    if not chosen and len(intervals) == 1:
        chosen = intervals
    if not chosen:
        said = ", ".join(repr(t.name) for t in intervals) or "no tier of intervals"
        raise InputError(
            f"transcript {name}: it cannot be told which tier holds the words; name it 'words' "
            f"(it has: {said})"
        )
    if len(chosen) > 1:
        named = ", ".join(repr(tier.name) for tier in chosen)
        notes.append(f"{name}: the words of {len(chosen)} tiers are read together ({named})")
    words: list[Word] = []
    unknown = spread = 0
    for tier in chosen:
        for start, end, label in tier.intervals or ():
            label = label.strip()
            if label.casefold() in _SILENCE:
                continue
            if label.casefold() == "spn" or re.fullmatch(r"<[^<>]*>|\[[^\[\]]*\]", label):
                unknown += 1
                continue
            parts = label.split()
            if len(parts) == 1:
                words.append(Word(label, start, end - start))
            else:
                spread += 1
                shared = spread_over(parts, start, end - start)
                words.extend(replace(word, source="caption") for word in shared)
    if unknown:
        said = "1 interval" if unknown == 1 else f"{unknown} intervals"
        notes.append(f"{name}: {said} of noise or unknown words (spn, <...>, [...]) left out")
    if spread:
        said = "1 interval holds" if spread == 1 else f"{spread} intervals hold"
        notes.append(f"{name}: {said} several words, which are spread over it by syllables")
    return words, notes


class _Tokens:
    """The free-standing strings and numbers of a file, in order."""

    def __init__(self, content: str, name: str) -> None:
        self.name = name
        self.found = self._found(content)

    @staticmethod
    def _found(content: str) -> Iterator[str | float]:
        for match in _TOKEN.finditer(content):
            text, comment, other = match.groups()
            if text is not None:
                yield text.replace('""', '"')
            elif comment is None and _NUMBER.fullmatch(other):
                yield float(other)

    def _next(self, what: str) -> str | float:
        for token in self.found:
            return token
        raise InputError(f"transcript {self.name} ends early: {what} is missing")

    def text(self, what: str) -> str:
        token = self._next(what)
        if not isinstance(token, str):
            raise InputError(
                f"transcript {self.name} is damaged: {what} is {token:g} and not a text in quotes"
            )
        return token

    def number(self, what: str) -> float:
        token = self._next(what)
        if isinstance(token, str) or not math.isfinite(token):
            raise InputError(f"transcript {self.name} is damaged: {what} is {token!r}, no number")
        return token

    def count(self, what: str) -> int:
        number = self.number(what)
        if number < 0 or not number.is_integer():
            raise InputError(f"transcript {self.name} is damaged: {what} is {number:g}, no count")
        return int(number)


def _tiers(content: str, name: str) -> Iterator[_Tier]:
    tokens = _Tokens(content, name)
    kind = tokens.text("the file type")
    if "chronological" in kind:
        raise InputError(f"transcript {name} is a chronological TextGrid; save it as text in Praat")
    what = tokens.text("the object class")
    if not kind.startswith("ooTextFile") or what.split() != ["TextGrid"]:
        raise InputError(
            f"transcript {name} is no TextGrid: its file type is {kind[:40]!r} and its object "
            f"class {what[:40]!r}"
        )
    tokens.number("its start")
    tokens.number("its end")
    for number in range(1, tokens.count("the number of tiers") + 1):
        class_name = tokens.text(f"the class of tier {number}")
        tier_name = tokens.text(f"the name of tier {number}")
        if class_name not in ("IntervalTier", "TextTier"):
            raise InputError(
                f"transcript {name}: tier {number} is of class {class_name[:40]!r}; "
                "known: IntervalTier, TextTier"
            )
        tokens.number(f"the start of tier {number}")
        tokens.number(f"the end of tier {number}")
        size = tokens.count(f"the size of tier {number}")
        if class_name == "TextTier":
            for point in range(1, size + 1):
                tokens.number(f"the time of point {point} of tier {number}")
                tokens.text(f"the mark of point {point} of tier {number}")
            yield _Tier(tier_name, None)
        else:
            yield _Tier(tier_name, [_interval(tokens, i, number) for i in range(1, size + 1)])


def _interval(tokens: _Tokens, number: int, tier: int) -> tuple[float, float, str]:
    what = f"interval {number} of tier {tier}"
    start, end = tokens.number(f"the start of {what}"), tokens.number(f"the end of {what}")
    label = tokens.text(f"the label of {what}")
    # An empty interval may begin before 0 s where a TextGrid was cut or shifted; a word may not.
    if not start <= end < LONGEST or (start < 0 and label.strip().casefold() not in _SILENCE):
        raise InputError(
            f"transcript {tokens.name}: {what} lasts from {start:g} to {end:g} s; "
            f"times are 0 s or more, less than {LONGEST:g} s, and the end is not before the start"
        )
    return start, end, label
