"""Where a text and what was heard of it agree, and how to cut both into passages there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

_GAP = 0.5  # cost of a word of one side alone, in sounds of speech matched
_SURE_RUN = 10  # sounds of speech in a row that agree; shorter runs occur by chance
_PER_SOUND = 0.08  # seconds that a sound of speech usually lasts (12 a second)
_LEAST_PER_SOUND = 0.035  # seconds; nobody speaks faster
_PASSAGE = (6.0, 20.0)  # seconds, where there are places to cut


@dataclass(frozen=True)
class Heard:
    """A word that was recognised: its number among the different words, and seconds."""

    entry: int
    start: float
    end: float


@dataclass(frozen=True)
class Passage:
    """Words ``first`` to ``last`` (exclusive) of the text lie between `start` and `end` (s).

    `sure` is False where the sound is much longer than the words need: they may not be in it.
    """

    first: int
    last: int
    start: float
    end: float
    sure: bool = True


def match(text: np.ndarray, heard: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Best common subsequence of two series of words, in order.

    Parameters
    ----------
    text : ndarray (n,), int
        Number of each word of the text among the different words.
    heard : ndarray (m,), int
    weights : ndarray (n,), float
        What a match of the word of the text counts.

    Returns
    -------
    ndarray (n,), int64
        Position in `heard`, -1 for none. A byte of memory for each pair is used.
    """
    along = _GAP * np.arange(len(heard) + 1)
    scores = -along
    origin = np.zeros((len(text), len(heard) + 1), np.uint8)  # 0 match, 1 text alone, 2 heard alone
    for i, word in enumerate(text):
        alone = scores - _GAP
        both = np.full(len(scores), -np.inf)
        both[1:] = np.where(heard == word, scores[:-1] + weights[i], -np.inf)
        best = np.maximum(alone, both)
        origin[i] = both < alone
        # A run of words heard alone costs in proportion, so a running maximum finds its start.
        scores = np.maximum.accumulate(best + along) - along
        origin[i][scores > best + 1e-9] = 2
    pairs = np.full(len(text), -1, np.int64)
    i, j = len(text) - 1, len(heard)
    while i >= 0:
        step = origin[i, j]
        if step == 2:
            j -= 1
            continue
        if step == 0:
            j -= 1
            pairs[i] = j
        i -= 1
    return pairs


def anchors(
    entries: Sequence[int], heard: Sequence[Heard], sounds: Sequence[int]
) -> dict[int, Heard]:
    """Words of a text that were surely heard.

    A word counts if it lies in a run of words that follow each other in the text and in what was
    heard, of ten or more sounds of speech together, said no faster than anyone speaks.

    Parameters
    ----------
    entries : sequence of int
        Number of each word of the text among the different words.
    heard : sequence of Heard
    sounds : sequence of int
        Sounds of speech in each word of the text.
    """
    if not heard or not entries:
        return {}
    pairs = match(
        np.asarray(entries), np.array([one.entry for one in heard]), np.asarray(sounds, float)
    )
    sure: dict[int, Heard] = {}
    first = 0
    while first < len(pairs):
        last = first + 1
        while last < len(pairs) and pairs[first] >= 0 and pairs[last] == pairs[last - 1] + 1:
            last += 1
        length = sum(sounds[first:last])
        if pairs[first] >= 0 and length >= _SURE_RUN:
            lasted = heard[pairs[last - 1]].end - heard[pairs[first]].start
            if lasted >= _LEAST_PER_SOUND * length:
                sure.update({i: heard[pairs[i]] for i in range(first, last)})
        first = last
    return sure


def passages(
    found: dict[int, Heard], sounds: Sequence[int], length: float
) -> tuple[list[Passage], int]:
    """Cut a text and its sound into passages that belong together.

    Cuts lie between two anchors that follow each other in the text, at the longest pause that
    makes a passage of 6 to 20 s, or where no such pause is, at the first after that. Sound that is
    much longer than the words between two anchors need is set apart with those words, and words
    for which there is too little time are left out.

    Parameters
    ----------
    found : dict from number of a word to Heard
    sounds : sequence of int
        Sounds of speech in each word of the text.
    length : float
        Seconds of the sound.

    Returns
    -------
    passages : list of Passage
        In order; words of the text that are in none have no time.
    crowded : int
        Words that were left out for lack of time.
    """
    made: list[Passage] = []
    crowded = 0
    sections: list[tuple[int, int, float, float, bool]] = []
    begin, start = 0, 0.0  # of the section at hand: first word, time
    numbers = sorted(found)
    for before, after in zip([-1, *numbers], [*numbers, len(sounds)], strict=True):
        t0 = found[before].end if before >= 0 else 0.0
        t1 = found[after].start if after < len(sounds) else length
        between = sum(sounds[before + 1 : after])
        room = t1 - t0
        inner = before >= 0 and after < len(sounds)
        # The edges of an anchor beside misheard words may be off, so its own time counts too.
        around, needed = room, between
        for neighbour in (before, after):
            if neighbour in found:
                around += found[neighbour].end - found[neighbour].start
                needed += sounds[neighbour]
        if after > before + 1 and around < _LEAST_PER_SOUND * needed:
            crowded += after - before - 1
            if begin <= before:
                sections.append((begin, before + 1, start, t0 + room / 2, True))
            begin, start = after, t0 + room / 2
        elif room > 3 * _PER_SOUND * between + 4 and (found or inner):
            edge = min(0.3, room / 4)
            near = _ample(between)
            if before < 0:  # the words before the first anchor are close to it
                start = t1 - (near if between else edge)
            elif after == len(sounds):
                sections.append((begin, after, start, t0 + (near if between else edge), True))
                begin, start = after, length
            else:
                sections.append((begin, before + 1, start, t0 + edge, True))
                if between:
                    sections.append((before + 1, after, t0 + edge, t1 - edge, False))
                begin, start = after, t1 - edge
    if begin < len(sounds):
        sections.append((begin, len(sounds), start, length, bool(found)))
    for first, last, opening, closing, sure in sections:
        made += _cut(found, Passage(first, last, opening, closing, sure))
    return made, crowded


def alternatives(passage: Passage, sounds: Sequence[int]) -> list[Passage]:
    """Where the words of a passage may lie: in all of it, or, if it is much longer than they
    need, right at its beginning or its end.
    """
    if passage.sure:
        return [passage]
    near = _ample(sum(sounds[passage.first : passage.last]))
    if near >= passage.end - passage.start:
        return [passage]
    return [
        replace(passage, end=passage.start + near),
        replace(passage, start=passage.end - near),
        passage,
    ]


def _ample(sounds: int) -> float:
    """Seconds in which so many sounds of speech can be said slowly."""
    return 2 * _PER_SOUND * sounds + 2


def _cut(found: dict[int, Heard], section: Passage) -> list[Passage]:
    """Cut one section at pauses between anchors."""
    shortest, longest = _PASSAGE
    cuts = []
    for i in range(section.first + 1, section.last):
        # Two anchors on either side: the last of a run may be a word like it, heard elsewhere.
        if all(near in found for near in range(i - 2, i + 2)):
            pause = found[i].start - found[i - 1].end
            cuts.append((i, (found[i].start + found[i - 1].end) / 2, pause))
    made, first, start = [], section.first, section.start
    while True:
        limits = start + shortest, section.end - shortest
        ahead = [cut for cut in cuts if cut[0] > first and limits[0] <= cut[1] <= limits[1]]
        if not ahead or section.end - start <= longest:
            break
        fitting = [cut for cut in ahead if cut[1] <= start + longest] or ahead[:1]
        number, time, _ = max(fitting, key=lambda cut: (cut[2], cut[1]))
        made.append(Passage(first, number, start, time, section.sure))
        first, start = number, time
    return [*made, Passage(first, section.last, start, section.end, section.sure)]
