"""Files of word times as other programs write them, from plain lists of words or captions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence

from hypothesis import HealthCheck, settings

from tribrain.errors import InputError
from tribrain.stimuli.words import Word

Timed = tuple[str, float, float]  # text, start, end (s)
Captions = Sequence[tuple[float, float, Sequence[str]]]  # start, end (s), lines


def examples(count: int) -> settings:
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def clock(seconds: float, mark: str) -> str:
    ms = round(seconds * 1000)
    hours, minutes = ms // 3_600_000, ms // 60_000 % 60
    return f"{hours:02d}:{minutes:02d}:{ms // 1000 % 60:02d}{mark}{ms % 1000:03d}"


def srt(captions: Captions) -> str:
    return "\n".join(
        f"{n}\n{clock(start, ',')} --> {clock(end, ',')}\n" + "\n".join(lines) + "\n"
        for n, (start, end, lines) in enumerate(captions, 1)
    )


def vtt(captions: Captions) -> str:
    return "WEBVTT\n\n" + "\n".join(
        f"{clock(start, '.')} --> {clock(end, '.')} align:start\n" + "\n".join(lines) + "\n"
        for start, end, lines in captions
    )


def stamped_vtt(words: Sequence[Timed]) -> str:
    """One caption with a time stamp before each word but the first; words follow each other."""
    (first, start, _), *others = words
    text = first + "".join(f"<{clock(begin, '.')}><c> {word}</c>" for word, begin, _ in others)
    return vtt([(start, words[-1][2], [text])])


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def textgrid_long(tiers: dict[str, Sequence[Timed]], end: float) -> str:
    out = 'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0 \n'
    out += f"xmax = {end} \ntiers? <exists> \nsize = {len(tiers)} \nitem []: \n"
    for number, (name, words) in enumerate(tiers.items(), 1):
        out += f'    item [{number}]:\n        class = "IntervalTier" \n'
        out += f"        name = {_quoted(name)} \n        xmin = 0 \n        xmax = {end} \n"
        out += f"        intervals: size = {len(words)} \n"
        for place, (text, first, last) in enumerate(words, 1):
            out += f"        intervals [{place}]:\n            xmin = {first!r} \n"
            out += f"            xmax = {last!r} \n            text = {_quoted(text)} \n"
    return out


def textgrid_short(tiers: dict[str, Sequence[Timed]], end: float) -> str:
    out = 'File type = "ooTextFile"\nObject class = "TextGrid"\n\n'
    out += f"0\n{end}\n<exists>\n{len(tiers)}\n"
    for name, words in tiers.items():
        out += f'"IntervalTier"\n{_quoted(name)}\n0\n{end}\n{len(words)}\n'
        out += "".join(f"{first!r}\n{last!r}\n{_quoted(text)}\n" for text, first, last in words)
    return out


def _json_words(words: Iterable[Timed], score: str) -> list[dict]:
    space = " " if score == "probability" else ""
    return [{"word": space + w, "start": a, "end": b, score: 0.5} for w, a, b in words]


def whisper(words: Sequence[Timed], score: str = "probability") -> dict:
    """Segments of up to three words."""
    pieces = [words[n : n + 3] for n in range(0, len(words), 3)]
    segments = [
        {
            "id": n,
            "start": piece[0][1],
            "end": piece[-1][2],
            "text": " " + " ".join(word for word, _, _ in piece),
            "words": _json_words(piece, score),
        }
        for n, piece in enumerate(pieces)
    ]
    return {"text": "", "segments": segments, "language": "en"}


def ctm(words: Sequence[Timed]) -> str:
    lines = [f"talk 1 {first!r} {last - first!r} {word} 0.5\n" for word, first, last in words]
    return ";; made by a test\n" + "".join(lines)


WORD_FORMATS: dict[str, tuple[str, Callable[[Sequence[Timed]], str]]] = {
    "tsv": (
        "w.tsv",
        lambda ws: "text\tstart\tend\n" + "".join(f"{w}\t{a!r}\t{b!r}\n" for w, a, b in ws),
    ),
    "csv": (
        "w.csv",
        lambda ws: "word,onset,offset_s\n" + "".join(f'"{w}",{a!r},{b!r}\n' for w, a, b in ws),
    ),
    "long TextGrid": (
        "w.TextGrid",
        lambda ws: textgrid_long({"phones": [("a", 0.0, 1.0)], "words": ws}, ws[-1][2]),
    ),
    "short TextGrid": ("w.TextGrid", lambda ws: textgrid_short({"Anna - words": ws}, ws[-1][2])),
    "whisper": ("w.json", lambda ws: json.dumps(whisper(ws))),
    "faster-whisper": ("w.json", lambda ws: json.dumps(whisper(ws)["segments"])),
    "list of words": ("w.json", lambda ws: json.dumps(_json_words(ws, "probability"))),
    "whisperX": ("w.json", lambda ws: json.dumps(whisper(ws, "score"))),
    "word_segments": ("w.json", lambda ws: json.dumps({"word_segments": _json_words(ws, "score")})),
    "ctm": ("w.ctm", ctm),
}
CAPTION_FORMATS: dict[str, tuple[str, Callable[[Captions], str]]] = {
    "srt": ("w.srt", srt),
    "vtt": ("w.vtt", vtt),
}


def sensible(words: Sequence[Word]) -> bool:
    """Whether words have a text and times that a stimulus can have, in order."""
    starts = [word.start for word in words]
    return (
        bool(words)
        and starts == sorted(starts)
        and all(word.text.strip() == word.text != "" for word in words)
        and all(0 <= word.start < 1e9 and 0 <= word.duration < 1e9 for word in words)
        and all(word.confidence is None or 0 <= word.confidence <= 1 for word in words)
    )


def refusal_of(error: InputError, name: str) -> str:
    """The message of an error, which must be one line that names the file."""
    message = str(error)
    assert len(message.splitlines()) == 1
    assert name in message
    return message
