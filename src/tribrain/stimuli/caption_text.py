"""The text of captions as words: without markup, sound descriptions and names of speakers."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tribrain.stimuli.words import UNSPACED

CLOCK = r"(?:(\d{1,4}):)?([0-5]?\d):([0-5]?\d)(?:[.,](\d{1,9}))?"
_STAMP = re.compile(rf"<{CLOCK}>")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_KNOWN_TAG = re.compile(
    r"</?(?:i|b|u|s|c|v|q|lang|ruby|rt|font|span|em|strong|br|p|div)\b[^<>]*>", re.IGNORECASE
)
_RUBY = re.compile(r"<rt\b[^<>]*>[^<]*(?:</rt>)?", re.IGNORECASE)
_DRAWING = re.compile(r"\{[^{}]*\\p[1-9][^{}]*\}[^{]*")
_OVERRIDE = re.compile(r"\{\\[^{}]*\}")
_ENTITY = re.compile(r"&(?:amp|lt|gt|nbsp|quot|apos|lrm|rlm|#\d{1,7}|#x[0-9a-fA-F]{1,6});")
# Signs without a sound or width: direction of writing, byte-order mark, soft hyphen.
_UNSEEN = re.compile("[\u00ad\u061c\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
_AT = "\ufdd0"  # stands in a text where a word's time stamp stood; no character of any script

_SQUARE = re.compile(r"\[[^\[\]]*\]|【[^【】]*】|\{[^{}]*\}|［[^［］]*］")
_ROUND = re.compile(r"\(([^()]*)\)|（([^（）]*)）")
_SONG = re.compile("[♩♪♫♬]")
_DASH = re.compile(rf"([\s{_AT}]*)(?:>>+|[-‐–—]+(?![\s{_AT}]*\d))")
_LABEL = re.compile(
    rf"([\s{_AT}]*)([^\W\d_{UNSPACED}][^:：\n!?…{UNSPACED}]{{0,39}}?)\s*[:：](?=[\s{_AT}]|$)"
)
_OPENING = "\"'“‘«‹(\\[{¡¿「『（【〈《"
_PIECE = re.compile(
    rf"[^\w]*(?:[{UNSPACED}]|[^\W{UNSPACED}]+(?:[^\w]+[^\W{UNSPACED}]+)*)[^\w{_OPENING}]*"
)


@dataclass(frozen=True)
class Cue:
    """A caption: seconds, and its text with whatever markup the file has; `end` may be unknown."""

    start: float
    end: float | None
    text: str


@dataclass
class Caption:
    """A caption whose markup is read: its words, and what is known of their times."""

    start: float
    end: float | None
    parts: list[str]
    lines: list[int] = field(default_factory=list)  # where in `parts` each line begins
    stamps: list[tuple[int, float]] = field(default_factory=list)  # (next word, seconds)


def told(count: int, thing: str) -> str:
    """A number and what is counted: "1 entry", "3 entries"."""
    many = thing[:-1] + "ies" if thing.endswith("y") else thing + "s"
    return f"{count} {thing if count == 1 else many}"


def clock_seconds(groups: Sequence[str | None]) -> float:
    hours, minutes, seconds, fraction = (group or "" for group in groups)
    whole = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)
    return float(f"{whole}.{fraction or 0}")


def caption_parts(text: str) -> tuple[list[str], int]:
    """Words of a text that is spoken like a caption, and how many sound descriptions went."""
    counts: Counter[str] = Counter()
    caption = parse_caption(Cue(0.0, None, text), counts, [])
    return caption.parts, counts["sound"]


def parse_caption(cue: Cue, counts: Counter[str], labels: list[str]) -> Caption:
    """Read the markup of a caption."""
    caption = Caption(cue.start, cue.end, [])
    text = cue.text.replace(_AT, " ").replace("\0", "")
    times = [clock_seconds(match.groups()) for match in _STAMP.finditer(text)]
    text = _STAMP.sub(_AT, text)
    text = _RUBY.sub(_kept_stamps, text)
    text = _DRAWING.sub(_kept_stamps, text)
    text = _KNOWN_TAG.sub(_kept_stamps, _OVERRIDE.sub(_kept_stamps, text))
    text, unknown_tags = _TAG.subn(_kept_stamps, text)
    text = _ENTITY.sub(lambda match: html.unescape(match.group()), text)
    text = _UNSEEN.sub("", text.replace("\u200b", " "))
    if not text.replace(_AT, "").strip():
        counts["empty"] += 1
        return caption
    counts["sound"] += unknown_tags
    counts["song"] += bool(_SONG.search(text))
    text = _without_sounds(_SONG.sub(" ", text), counts, labels)
    stamp = iter(times)
    for line in text.split("\n"):
        caption.lines.append(len(caption.parts))
        for chunk in _without_label(line, counts, labels).split():
            if re.search(f"[{UNSPACED}]", chunk):
                for piece in re.split(f"({_AT})", chunk):
                    if piece == _AT:
                        caption.stamps.append((len(caption.parts), next(stamp)))
                    elif caption.parts and not any(map(str.isalnum, piece)):
                        caption.parts[-1] += piece  # marks of the character before
                    else:
                        caption.parts += _pieces(piece)
                continue
            # A stamp within a word cannot be of a word: the next word has it.
            leading = len(chunk) - len(chunk.lstrip(_AT))
            caption.stamps += [(len(caption.parts), next(stamp)) for _ in range(leading)]
            caption.parts += _pieces(chunk.replace(_AT, ""))
            trailing = chunk.count(_AT) - leading
            caption.stamps += [(len(caption.parts), next(stamp)) for _ in range(trailing)]
    return caption


def _kept_stamps(match: re.Match[str]) -> str:
    return _AT * match.group().count(_AT)


def _without_sounds(text: str, counts: Counter[str], labels: list[str]) -> str:
    def square(match: re.Match[str]) -> str:
        after = text[match.end() :].lstrip(_AT + " ")
        if after[:1] in (":", "："):
            labels.append(match.group()[1:-1].replace(_AT, "").strip())
            counts["label"] += 1
            return _kept_stamps(match) + "\0"  # the colon goes with it
        counts["sound"] += bool(match.group()[1:-1].strip(_AT + " \n"))
        return _kept_stamps(match) + " "

    text = re.sub(rf"\0([ {_AT}]*)[:：]", r"\1 ", _SQUARE.sub(square, text))

    def rounded(match: re.Match[str]) -> str:
        inner = match.group()[1:-1].replace(_AT, "")
        line_start = text.rfind("\n", 0, match.start()) + 1
        line_end = text.find("\n", match.end())
        before = text[line_start : match.start()].strip(_AT + " -–—>")
        if _LABEL.fullmatch(before):
            before = ""
        after = text[match.end() : line_end if line_end >= 0 else None].strip(_AT + " .,!?")
        fills = not before and (not after or not text[:line_start].strip(_AT + " \n"))
        capitals = inner.upper() == inner and inner.lower() != inner
        if not (fills or capitals):
            return match.group()
        counts["sound"] += bool(inner.strip())
        return _kept_stamps(match) + " "

    return _ROUND.sub(rounded, text)


def _without_label(line: str, counts: Counter[str], labels: list[str]) -> str:
    line = _DASH.sub(r"\1 ", line, count=1) if _DASH.match(line) else line
    match = _LABEL.match(line)
    if match is None:
        return line
    label = match.group(2).replace(_AT, "").strip()
    capitals = label.upper() == label and label.lower() != label and len(label.split()) <= 3
    if not (capitals or re.fullmatch(r"speaker[ _]?\d+", label, re.IGNORECASE)):
        return line
    labels.append(label)
    counts["label"] += 1
    return _kept_stamps(match) + " " + line[match.end() :]


def _pieces(chunk: str) -> list[str]:
    """A chunk without spaces as words: itself, or its characters in scripts without spaces."""
    if not any(c.isalnum() or c in "&@%+=" for c in chunk):
        return []
    if not re.search(f"[{UNSPACED}]", chunk):
        return [chunk]
    pieces = _PIECE.findall(chunk)
    rest = chunk[sum(map(len, pieces)) :]  # opening marks at the end
    return [*pieces[:-1], pieces[-1] + rest] if pieces else [chunk]
