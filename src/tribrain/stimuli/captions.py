"""Captions (SubRip, WebVTT, and those of subtitle tracks) as words in time."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from tribrain.errors import InputError
from tribrain.stimuli.caption_text import CLOCK, Caption, Cue, clock_seconds, parse_caption, told
from tribrain.stimuli.words import Word, spread_over, syllables

_SYLLABLE = 0.2  # seconds, as in `spoken_times`
_TOUCHING = 0.5  # seconds between captions that may roll on
_OVERLAP = 1e-3  # seconds; less is rounding

_UNDERLINE = re.compile(r"<u>(.*?)</u>", re.DOTALL)
_TIMING = re.compile(rf"\s*{CLOCK}\s*-{{1,2}}>(?:\s*{CLOCK})?(?:\s.*)?")


def read_captions(content: str, name: str, kind: str) -> tuple[list[Word], list[str]]:
    """Words of captions in SubRip (.srt) or WebVTT (.vtt) text.

    A file that begins with ``WEBVTT`` is read as such whatever its suffix. The text of a caption
    is all that stands between its time line and the next, less the number or name of the next;
    blocks ``NOTE``, ``STYLE`` and ``REGION`` and the settings of cues say nothing and go. The
    rules for times and words are those of `caption_words`.

    Parameters
    ----------
    content : str
    name : str
        Name of the file, for messages.
    kind : "srt" or "vtt"

    Returns
    -------
    words : list of Word
        By start.
    notes : list of str

    Raises
    ------
    InputError
        No captions, no words in them, or a line with an arrow that is no time line (it is named).
    """
    web = kind == "vtt" or content.lstrip("\ufeff \t\r\n").startswith("WEBVTT")
    lines = re.split(r"\r\n|\r|\n", content.lstrip("\ufeff"))
    notes = []
    if web:
        lines, mapped = _without_blocks(lines)
        if mapped:
            notes.append(f"{name}: its X-TIMESTAMP-MAP is not used; times are those of the cues")
    words, said = caption_words(_cues(lines, name, web), name)
    return words, notes + said


def _without_blocks(lines: list[str]) -> tuple[list[str], bool]:
    """Blank out the header and the blocks of a WebVTT file that are not captions."""
    kept, skipping, mapped, before = [], False, False, ""
    for number, line in enumerate(lines):
        first = not before  # of a block; a line of white space does not end one
        if first and re.match(r"(?:NOTE|STYLE|REGION)(?:\s|$)", line):
            # A cue may be named so: then its time line follows.
            skipping = "-->" in line or "-->" not in "".join(lines[number + 1 : number + 2])
        elif number == 0 and line.startswith("WEBVTT"):
            skipping = True
        elif not line or "-->" in line:
            skipping = False
        mapped |= skipping and line.startswith("X-TIMESTAMP-MAP")
        kept.append("" if skipping else line)
        before = line
    return kept, mapped


def _cues(lines: list[str], name: str, web: bool) -> list[Cue]:
    times = []
    for number, line in enumerate(lines):
        if "-->" not in line and not (re.search(r"\d\s*->\s*\d", line) and _TIMING.fullmatch(line)):
            continue
        match = _TIMING.fullmatch(line)
        if match is None:
            raise InputError(
                f"transcript {name}, line {number + 1}: {line.strip()[:60]!r} is not a time line "
                "such as 00:00:01,000 --> 00:00:02,500"
            )
        groups = match.groups()
        end = None if groups[5] is None else clock_seconds(groups[4:])
        times.append((number, clock_seconds(groups[:4]), end))
    if not times:
        raise InputError(
            f"transcript {name} holds no captions; each needs a time line such as "
            "00:00:01,000 --> 00:00:02,500"
        )
    cues = []
    title = ""  # number or name of the caption
    for place, (number, start, end) in enumerate(times):
        if place == 0:
            title = lines[number - 1].strip() if number else ""
        until = times[place + 1][0] if place + 1 < len(times) else len(lines)
        text = lines[number + 1 : until]
        next_title = ""
        if place + 1 < len(times) and text and _is_title(text, title, web):
            next_title = text.pop().strip()
        cues.append(Cue(start, end, "\n".join(text).strip("\n")))
        title = next_title
    return cues


def _is_title(text: list[str], title: str, web: bool) -> bool:
    """Whether the last line before a time line is the number or name of the next caption."""
    last = text[-1].strip()
    number = last.isdecimal() and last.isascii()
    if not last or not (number or web):
        return False
    if len(text) == 1 or not text[-2].strip():
        # Right below the time line, WebVTT has text, and SubRip the next number.
        return len(text) > 1 or number
    # Files without blank lines: the number counts on.
    return number and title.isdecimal() and int(last[:18]) == int(title[:18]) + 1


def caption_words(cues: Sequence[Cue], name: str) -> tuple[list[Word], list[str]]:
    """Words of captions, in the time that the captions are shown.

    Each of the following is counted in a note where it happens.

    Times:

    - Captions are sorted by start. Those that overlap, as of two speakers, are all kept and their
      words sorted by start. One that is there twice (same text and times) is read once.
    - A caption without an end, or with one that is not after its start, lasts 0.2 s a syllable,
      or until the next one starts if that is sooner.
    - The words of a caption are spread over it by syllables (source "caption"). Where it has time
      stamps between words, each stretch of words has its own span, and a word alone in one has its
      own time (source "transcript"); stamps outside of the caption or going back are passed over.
    - Rolling captions show the line before again above (or before) the new one. A file is rolling
      if a third of its captions, or more, begin with the last lines of the one before, follow it
      within 0.5 s, and go on with other words. In such a file the repeat is dropped; where all of
      a caption is a repeat, all of it. In other files nothing is.
    - Where half of the captions, or more, repeat a neighbour and underline one part of it, as
      whisper writes them to highlight each word, the parts underlined are the words.

    Words:

    - Formatting tags, the names in voice tags and readings above characters (``<rt>``) go.
    - Sound descriptions are left out: all in square or curly brackets, and what is in round ones if
      it is in capitals, begins the caption or fills a line; other round brackets are text.
    - Speaker labels are left out: capitals and a colon at the start of a line ("JOHN:"), "Speaker
      2:", and a square bracket with a colon. Other words with a colon stay ("Remember: ...").
      Dashes and ``>>`` where the speaker changes go too.
    - Music signs go and the words between them stay: they are sung.
    - Hesitations written as words ("uh", "um") are words. What has no letter or figure (a dash, a
      row of dots) is none, save ``& @ % + =``.
    - In scripts without spaces each character is a word, with the marks that follow it.
    - Captions without text are passed over.

    Parameters
    ----------
    cues : sequence of Cue
    name : str
        Name of the file, for messages.

    Returns
    -------
    words : list of Word
        By start.
    notes : list of str

    Raises
    ------
    InputError
        If no words are left.
    """
    counts: Counter[str] = Counter()
    labels: list[str] = []
    in_order = sorted(cues, key=lambda cue: cue.start)
    counts["order"] = sum(b.start < a.start for a, b in itertools.pairwise(cues))
    in_order = _highlighted(in_order, counts)
    once = list(dict.fromkeys(in_order))
    captions = []
    for cue in once:
        caption = parse_caption(cue, counts, labels)
        if caption.parts:
            captions.append(caption)
    counts["twice"] = sum(bool(cue.text.strip()) for cue in in_order) - sum(
        bool(cue.text.strip()) for cue in once
    )
    _drop_repeats(captions, counts)
    _set_ends(captions, counts)
    shown = [caption for caption in captions if caption.parts]
    latest = 0.0
    for caption in shown:
        counts["overlap"] += caption.start < latest - _OVERLAP
        latest = max(latest, caption.end or 0.0)
    words = [word for caption in shown for word in _timed_words(caption, counts)]
    if not words:
        raise InputError(f"transcript {name} holds no words")
    return sorted(words, key=lambda word: word.start), _notes(counts, labels, name)


def _notes(counts: Counter[str], labels: list[str], name: str) -> list[str]:
    named = ", ".join(list(dict.fromkeys(labels))[:3])
    meaning = {
        "spread": ("caption", "without word times, spread over the caption's span by syllables"),
        "order": ("caption", "out of order, sorted by start"),
        "overlap": ("caption", "overlapping an earlier one; the words of all are kept, by start"),
        "twice": ("caption", "given twice, read once"),
        "repeat": ("caption", "beginning with a repeat of the one before, which is dropped"),
        "highlight": ("caption", "that show a text again to highlight a word, read as that word"),
        "end": ("caption", "without an end after the start, taken to last 0.2 s a syllable"),
        "stamp": ("word time stamp", "outside of the caption or going back, passed over"),
        "empty": ("caption", "without text, passed over"),
        "sound": ("sound description", "in brackets left out"),
        "label": ("speaker label", f"left out ({named})"),
        "song": ("caption", "with music signs, read as words that are sung"),
    }
    return [
        f"{name}: {told(counts[key], thing)} {what}"
        for key, (thing, what) in meaning.items()
        if counts[key]
    ]


def _highlighted(cues: list[Cue], counts: Counter[str]) -> list[Cue]:
    """Captions that highlight one word each as captions of that word, timed by a stamp."""
    plain = [_UNDERLINE.sub(r"\1", cue.text).split() for cue in cues]
    parts = [_UNDERLINE.findall(cue.text) for cue in cues]
    repeats = [one == other for one, other in itertools.pairwise(plain)]
    marked = [
        len(part) == 1 and (before or after)
        for part, before, after in zip(parts, [False, *repeats], [*repeats, False], strict=True)
    ]
    if not any(marked) or 2 * sum(marked) < len(cues):
        return cues
    kept = []
    for place, cue in enumerate(cues):
        if marked[place]:
            minutes, seconds = divmod(cue.start, 60)
            stamp = f"<{int(minutes) // 60}:{int(minutes) % 60:02d}:{seconds:012.9f}>"
            kept.append(replace(cue, text=stamp + parts[place][0]))
        elif not any(
            marked[other] and plain[other] == plain[place]
            for other in (place - 1, place + 1)
            if 0 <= other < len(cues)
        ):
            kept.append(cue)
    counts["highlight"] = sum(marked)
    return kept


def _drop_repeats(captions: list[Caption], counts: Counter[str]) -> None:
    """Drop what rolling captions repeat, if these are rolling."""
    if not captions:
        return
    repeats = [0]
    for before, caption in itertools.pairwise(captions):
        end = before.end if before.end is not None else before.start
        near = caption.start <= max(end, before.start) + _TOUCHING
        repeats.append(_repeated(before, caption) if near else 0)
    # Whole repeats tell nothing: people do say "No." twice.
    sizes = [len(caption.parts) for caption in captions]
    going_on = sum(0 < n < size for n, size in zip(repeats, sizes, strict=True))
    new = sum(n < size for n, size in zip(repeats[1:], sizes[1:], strict=True))
    if not going_on or 3 * going_on < new:
        return
    for number, caption in zip(repeats, captions, strict=True):
        if number:
            counts["repeat"] += 1
            # The new words start at the last stamp before them.
            early = [time for place, time in caption.stamps if place <= number]
            later = [(place - number, time) for place, time in caption.stamps if place > number]
            caption.stamps = [(0, time) for time in early[-1:]] + later
            caption.parts = caption.parts[number:]


def _repeated(before: Caption, caption: Caption) -> int:
    """How many words at the start repeat the last lines of the caption before."""
    for line in before.lines:
        tail = before.parts[line:]
        if tail and caption.parts[: len(tail)] == tail:
            return len(tail)
    return 0


def _set_ends(captions: list[Caption], counts: Counter[str]) -> None:
    next_start: float | None = None  # of the first caption that starts later
    for place in reversed(range(len(captions))):
        caption = captions[place]
        if place + 1 < len(captions) and captions[place + 1].start > caption.start:
            next_start = captions[place + 1].start
        if caption.end is None or caption.end <= caption.start:
            counts["end"] += bool(caption.parts)
            caption.end = caption.start + _SYLLABLE * sum(map(syllables, caption.parts))
            if next_start is not None:
                caption.end = min(caption.end, next_start)


def _timed_words(caption: Caption, counts: Counter[str]) -> list[Word]:
    assert caption.end is not None, "every caption has been given an end"
    edges = [(0, caption.start)]
    for place, time in caption.stamps:
        if edges[-1][1] <= time <= caption.end:
            edges.append((place, time))
        else:
            counts["stamp"] += 1
    edges.append((len(caption.parts), caption.end))
    words: list[Word] = []
    for (first, begin), (last, until) in itertools.pairwise(edges):
        if first == last:
            continue
        own = len(edges) > 2 and last - first == 1
        counts["spread"] += not own and len(edges) == 2
        shared = spread_over(caption.parts[first:last], begin, until - begin)
        words += [replace(word, source="transcript" if own else "caption") for word in shared]
    return words
