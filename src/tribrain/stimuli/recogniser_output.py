"""Words from the output of speech recognisers: JSON of whisper programs, and .ctm."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tribrain.errors import InputError
from tribrain.stimuli.caption_text import caption_parts, told
from tribrain.stimuli.words import LONGEST, Word, spread_over, syllables

_SYLLABLE = 0.2  # seconds, as in `spoken_times`
_TEXT_KEYS = ("word", "text", "punctuated_word")
_CONFIDENCE_KEYS = ("probability", "score", "confidence")
# What recognisers and aligners write where there is no word that they know.
_NO_WORD = re.compile(r"<[^<>]*>|\[[^\[\]]*\]|\{[^{}]*\}|%\w+|!?sil|spn|sp", re.IGNORECASE)


@dataclass
class _Entry:
    """A word or segment as the file has it; None for a time or confidence that it lacks."""

    text: str
    start: float | None
    end: float | None
    confidence: float | None = None


def read_json(content: str, name: str) -> tuple[list[Word], list[str]]:
    """Words of the JSON of whisper, faster-whisper, whisperX and programs alike.

    Read are ``segments`` (also a bare list of them, ``chunks`` of transformers and
    ``transcription`` of whisper.cpp) with their ``words``, or a list of words: ``words``,
    ``word_segments`` or bare. A word has ``word`` or ``text``, ``start`` and ``end`` (or
    ``timestamp``, or ``offsets`` in milliseconds), and may have ``probability``, ``score`` or
    ``confidence``, which is kept where it lies within 0 to 1. Rules:

    - A segment without words is spread over its span by syllables (source "caption", as of a
      caption, with its sound descriptions left out), unless the file lists the words elsewhere.
    - A word without a start and end of 0 s or more, in order, is placed in the time between its
      neighbours by syllables (source "interpolated"), and counted in a note; a segment without
      them is placed in the same way.
    - Entries that stand for a sound and not a word, such as "[MUSIC]", are left out and counted.

    Parameters
    ----------
    content : str
    name : str
        Name of the file, for messages.

    Returns
    -------
    words : list of Word
        `source` is "recognised", "interpolated" or "caption".
    notes : list of str

    Raises
    ------
    InputError
        Not JSON, or not of such a form; no time at all.
    """
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        why = f": {error}" if isinstance(error, json.JSONDecodeError) else ""
        raise InputError(f"transcript {name} is not JSON{why}") from None
    segments, listed = _lists(data, name)
    counts = dict.fromkeys(("sounds", "placed", "spread"), 0)
    timed = [_timed(segment, f"{name}, segment {n}") for n, segment in enumerate(segments, 1)]
    inner = [_word_list(segment, name) for segment in segments]
    if listed and not any(inner):
        words = _placed_words(_entries(listed, name, counts), None, None, counts, name)
    else:
        words = []
        for number, (segment, entries) in enumerate(zip(timed, inner, strict=True)):
            parts = _entries(entries, f"{name}, segment {number + 1}", counts)
            if entries:
                before = words[-1].end if words else None
                first = segment.start if segment.start is not None else before
                last = segment.end
                if last is None:
                    last = _next_start(timed[number + 1 :])
                words += _placed_words(parts, first, last, counts, name)
            elif segment.text.strip():
                words += _spread(segment, words, timed[number + 1 :], counts, name)
    return words, _json_notes(counts, name)


def _json_notes(counts: Mapping[str, int], name: str) -> list[str]:
    notes = []
    if counts["sounds"]:
        notes.append(f"{name}: {told(counts['sounds'], 'entry')} for sounds that are not words "
                     "left out")  # fmt: skip
    if counts["placed"]:
        notes.append(
            f"{name}: {told(counts['placed'], 'word')} without times of their own placed between "
            "their neighbours"
        )
    if counts["spread"]:
        notes.append(
            f"{name}: {told(counts['spread'], 'segment')} without word times, spread over the span "
            "by syllables"
        )
    return notes


def _lists(data: Any, name: str) -> tuple[list[Mapping[str, Any]], list[Any]]:
    """Segments, and words listed apart from them."""
    if isinstance(data, Mapping):
        keys = [key for key in ("segments", "chunks", "transcription") if data.get(key)]
        segments = data[keys[0]] if keys else []
        listed = data.get("word_segments") or data.get("words") or []
    else:
        segments, listed = data, []
    for entries in (segments, listed):
        if not isinstance(entries, list) or not all(isinstance(e, Mapping) for e in entries):
            raise InputError(
                f"transcript {name} is not the JSON of a whisper program: it needs a list "
                "'segments' or 'words' of objects with 'start', 'end' and 'text' or 'word'"
            )
    if segments and all("word" in entry and "words" not in entry for entry in segments):
        return [], segments  # a bare list of words
    if not segments and not listed:
        raise InputError(f"transcript {name} holds no list 'segments' or 'words' with entries")
    return segments, listed


def _word_list(segment: Mapping[str, Any], name: str) -> list[Any]:
    words = segment.get("words") or []
    if not isinstance(words, list) or not all(isinstance(word, Mapping) for word in words):
        raise InputError(f"transcript {name}: 'words' of a segment is not a list of objects")
    return words


def _entries(words: Sequence[Any], where: str, counts: dict[str, int]) -> list[_Entry]:
    entries = [_timed(word, f"{where}, word {n}") for n, word in enumerate(words, 1)]
    kept = [e for e in entries if e.text and not _NO_WORD.fullmatch(e.text)]
    counts["sounds"] += sum(bool(e.text) for e in entries) - len(kept)
    return kept


def _timed(entry: Mapping[str, Any], where: str) -> _Entry:
    text = next((entry[key] for key in _TEXT_KEYS if entry.get(key) is not None), "")
    if not isinstance(text, str):
        raise InputError(f"transcript {where}: its text is {type(text).__name__} and not a text")
    start, end = entry.get("start"), entry.get("end")
    unit = 1.0
    if isinstance(entry.get("timestamp"), list) and len(entry["timestamp"]) == 2:
        start, end = entry["timestamp"]
    elif isinstance(entry.get("offsets"), Mapping):
        start, end, unit = entry["offsets"].get("from"), entry["offsets"].get("to"), 1e-3
    first, last = _number(start), _number(end)
    first, last = (None if v is None or not 0 <= v * unit < LONGEST else v * unit
                   for v in (first, last))  # fmt: skip
    if first is not None and last is not None and last < first:
        first = last = None
    confidence = next((_number(entry[key]) for key in _CONFIDENCE_KEYS if key in entry), None)
    if confidence is not None and not 0 <= confidence <= 1:
        confidence = None
    return _Entry(" ".join(text.split()), first, last, confidence)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _next_start(entries: Sequence[_Entry]) -> float | None:
    return next((entry.start for entry in entries if entry.start is not None), None)


def _placed_words(
    entries: Sequence[_Entry],
    first: float | None,
    last: float | None,
    counts: dict[str, int],
    name: str,
) -> list[Word]:
    """Words of entries; those without times fill the gap between their neighbours.

    `first` and `last` bound the gaps at both ends; where neither a neighbour nor they say how long
    a gap is, its words last as long as they take to say.
    """
    if first is None and last is None and all(e.start is None or e.end is None for e in entries):
        if not entries:
            return []
        raise InputError(f"transcript {name}: no word has a 'start' and an 'end' in seconds")
    words: list[Word] = []
    waiting: list[_Entry] = []

    def place(until: float | None) -> None:
        if not waiting:
            return
        texts = [entry.text for entry in waiting]
        said = _SYLLABLE * sum(map(syllables, texts))
        begin = words[-1].end if words else first
        if begin is None:
            begin = max(0.0, (until or 0.0) - said)
        span = said if until is None else max(0.0, until - begin)
        counts["placed"] += len(texts)
        for word, entry in zip(spread_over(texts, begin, span), waiting, strict=True):
            words.append(replace(word, confidence=entry.confidence, source="interpolated"))
        waiting.clear()

    for entry in entries:
        if entry.start is None or entry.end is None:
            waiting.append(entry)
            continue
        place(entry.start)
        length = entry.end - entry.start
        words.append(Word(entry.text, entry.start, length, entry.confidence, "recognised"))
    place(last)
    return words


def _spread(
    segment: _Entry,
    before: Sequence[Word],
    after: Sequence[_Entry],
    counts: dict[str, int],
    name: str,
) -> list[Word]:
    """Words of a segment without word times, over its span or the gap that it lies in."""
    parts, sounds = caption_parts(segment.text)
    counts["sounds"] += sounds
    if not parts:
        return []
    start, end = segment.start, segment.end
    if start is None:
        start = before[-1].end if before else None
        if start is None and end is None and _next_start(after) is None:
            raise InputError(f"transcript {name}: no segment has a 'start' and an 'end' in seconds")
    if end is None:
        end = _next_start(after)
    said = _SYLLABLE * sum(map(syllables, parts))
    if start is None:
        start = max(0.0, (end or 0.0) - said)
    if end is None:
        end = start + said
    timed = segment.start is not None and segment.end is not None
    counts["spread" if timed else "placed"] += 1 if timed else len(parts)
    words = spread_over(parts, start, max(0.0, end - start))
    return [replace(word, source="caption" if timed else "interpolated") for word in words]


def read_ctm(content: str, name: str) -> tuple[list[Word], list[str]]:
    """Words of a .ctm file: ``file channel start duration word [confidence]`` a line.

    Lines that begin with ``;;`` are comments. Entries that stand for a sound and not a word, such
    as "<unk>", "[noise]", "%hesitation", "sil" or "spn", are left out and counted. A confidence
    that is not within 0 to 1 is not kept.

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
        A line of another form, a time that is none (the line is named), or words of several
        files or channels.
    """
    words: list[Word] = []
    sources: dict[str, None] = {}
    sounds = 0
    for number, line in enumerate(re.split(r"\r\n|\r|\n", content), start=1):
        fields = line.split()
        if not fields or fields[0].startswith(";;"):
            continue
        if len(fields) < 5:
            raise InputError(
                f"transcript {name}, line {number}: {len(fields)} fields; 'file channel "
                "start duration word' is expected"
            )
        start, length = (_number(field.replace("_", "x")) for field in fields[2:4])
        if start is None or length is None or not (0 <= start < LONGEST and 0 <= length < LONGEST):
            raise InputError(
                f"transcript {name}, line {number}: start {fields[2]!r} and duration {fields[3]!r} "
                "are not both times in seconds, 0 or more"
            )
        sources[f"{fields[0]} {fields[1]}"] = None
        if _NO_WORD.fullmatch(fields[4]):
            sounds += 1
            continue
        confidence = _number(fields[5]) if len(fields) > 5 else None
        if confidence is not None and not 0 <= confidence <= 1:
            confidence = None
        words.append(Word(fields[4], start, length, confidence))
    if len(sources) > 1:
        shown = ", ".join(repr(source) for source in list(sources)[:5])
        raise InputError(
            f"transcript {name} holds words of {len(sources)} files or channels ({shown}); keep "
            "the lines of one"
        )
    if not sounds:
        return words, []
    return words, [f"{name}: {told(sounds, 'entry')} for sounds that are not words left out"]
