"""Word times from the files that people have: tables, captions, TextGrids, recognisers' output."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from tribrain.errors import InputError
from tribrain.files import one_line, require_file
from tribrain.stimuli.captions import read_captions
from tribrain.stimuli.encoding import read_any_text
from tribrain.stimuli.recogniser_output import read_ctm, read_json
from tribrain.stimuli.textgrid import read_textgrid
from tribrain.stimuli.words import LONGEST, Word, spread_over

Read = tuple[list[Word], list[str]]

_TEXT_COLUMNS = ("text", "word")
_START_COLUMNS = ("start", "onset", "onset_s")
_DURATION_COLUMNS = ("duration",)
_END_COLUMNS = ("end", "offset_s")
_EMPTY = ("", "n/a")  # cells without a value, as BIDS writes them


def read_transcript(path: str | Path) -> tuple[list[Word], list[str]]:
    """Read word times from a file, told by its suffix.

    ======================  ========================================================================
    .tsv .csv               Columns ``text`` or ``word``; ``start``, ``onset`` or ``onset_s``;
                            ``duration``, or ``end`` or ``offset_s``; seconds. ``confidence`` (0 to
                            1) and ``source`` are kept. A row of several words is spread over its
                            span. Rows without text are passed over.
    .srt .vtt               Captions, by the rules of `tribrain.stimuli.captions.read_captions`.
    .TextGrid               Praat's text files, long or short, by the rules of
                            `tribrain.stimuli.textgrid.read_textgrid`.
    .json                   Output of whisper, faster-whisper, whisperX and programs alike, by the
                            rules of `tribrain.stimuli.recogniser_output.read_json`.
    .ctm                    NIST's time-marked words, by the rules of
                            `tribrain.stimuli.recogniser_output.read_ctm`.
    ======================  ========================================================================

    Several words that share one span, as in a caption, are spread over it in proportion to their
    syllables; their `source` is then "caption". The encoding is UTF-8, what a byte-order mark
    says, or guessed, which is then noted (`tribrain.stimuli.encoding.read_any_text`).

    Parameters
    ----------
    path : path

    Returns
    -------
    words : list of Word
        By start.
    notes : list of str
        What was changed, guessed or left out.

    Raises
    ------
    InputError
        Unknown suffix, damaged file, impossible times; the row or line is named.
    """
    path = require_file(path, "transcript")
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise InputError(
            f"transcript {path.name}: unknown kind {suffix or '(no suffix)'!r}; "
            f"known: {', '.join(TRANSCRIPT_SUFFIXES)}"
        )
    content, notes = read_any_text(path, "transcript")
    name = one_line(path.name)
    if not content.strip("\ufeff \t\r\n"):
        raise InputError(f"transcript {name} is empty")
    words, said = _READERS[suffix](content, name)
    if not words:
        raise InputError(f"transcript {name} holds no words")
    return sorted(words, key=lambda word: word.start), notes + said


def _read_tsv(content: str, name: str) -> Read:
    # BIDS: tabs part the cells, quotation marks are text.
    rows = csv.reader(io.StringIO(content, newline=None), delimiter="\t", quoting=csv.QUOTE_NONE)
    return _read_table(rows, name, unquote)


def _read_csv(content: str, name: str) -> Read:
    return _read_table(csv.reader(io.StringIO(content, newline=None)), name, str.strip)


def _read_table(rows: Iterable[list[str]], name: str, plain: Callable[[str], str]) -> Read:
    try:
        table = [
            (number, row)
            for number, row in enumerate(rows, start=1)
            if any(cell.strip() for cell in row)
        ]
    except csv.Error as error:
        raise InputError(f"transcript {name} is not a table: {error}") from None
    if not table:
        raise InputError(f"transcript {name} is empty")
    header = [cell.strip().lower() for cell in table[0][1]]
    text_column = _column(header, _TEXT_COLUMNS, name)
    start_column = _column(header, _START_COLUMNS, name)
    length_column = _column(header, _DURATION_COLUMNS + _END_COLUMNS, name)
    words: list[Word] = []
    spread = 0
    for number, row in table[1:]:
        row = row + [""] * (len(header) - len(row))
        parts = plain(row[text_column]).split()
        if not parts:
            continue
        start = _seconds(row[start_column], "start", number, name)
        length = _seconds(row[length_column], header[length_column], number, name)
        if header[length_column] in _END_COLUMNS:
            if length < start:
                raise InputError(
                    f"transcript {name}, row {number}: the end {length:g} s "
                    f"lies before the start {start:g} s"
                )
            length -= start
        if len(parts) > 1:
            spread += 1
            words.extend(replace(w, source="caption") for w in spread_over(parts, start, length))
            continue
        confidence = source = ""
        if "confidence" in header:
            confidence = row[header.index("confidence")].strip()
        if "source" in header:
            source = plain(row[header.index("source")])
        words.append(
            Word(
                parts[0],
                start,
                length,
                None if confidence in _EMPTY else _confidence(confidence, number, name),
                "transcript" if source in _EMPTY else source,
            )
        )
    notes = []
    if spread:
        said = "1 row holds" if spread == 1 else f"{spread} rows hold"
        notes.append(
            f"{name}: {said} several words, which are spread over the row's span by syllables"
        )
    return words, notes


def unquote(cell: str) -> str:
    """Text of a .tsv cell, without the quotation marks that some programs put around all cells."""
    cell = cell.strip()
    if len(cell) >= 2 and cell[0] == cell[-1] == '"':
        cell = cell[1:-1].replace('""', '"').strip()
    return cell


def _column(header: Sequence[str], names: Sequence[str], file: str) -> int:
    for name in names:
        if name in header:
            return header.index(name)
    raise InputError(
        f"transcript {file} has no column {' or '.join(names)}; "
        f"it has: {', '.join(map(repr, header))}"
    )


def _number(cell: str) -> float:
    """The number in a cell, NaN where it is none; 1_000 is a number to Python alone."""
    try:
        return math.nan if "_" in cell else float(cell)
    except ValueError:
        return math.nan


def _seconds(cell: str, column: str, number: int, name: str) -> float:
    value = _number(cell)
    if not 0 <= value < LONGEST:
        raise InputError(
            f"transcript {name}, row {number}: {column} {cell.strip()!r} "
            f"is not a time in seconds, 0 or more and less than {LONGEST:g}"
        )
    return value


def _confidence(cell: str, number: int, name: str) -> float:
    value = _number(cell)
    if not 0 <= value <= 1:
        raise InputError(
            f"transcript {name}, row {number}: confidence {cell!r} is not a number from 0 to 1, "
            "empty or n/a"
        )
    return value


def _read_srt(content: str, name: str) -> Read:
    return read_captions(content, name, "srt")


def _read_vtt(content: str, name: str) -> Read:
    return read_captions(content, name, "vtt")


_READERS: dict[str, Callable[[str, str], Read]] = {
    ".tsv": _read_tsv,
    ".csv": _read_csv,
    ".srt": _read_srt,
    ".vtt": _read_vtt,
    ".textgrid": read_textgrid,
    ".json": read_json,
    ".ctm": read_ctm,
}
TRANSCRIPT_SUFFIXES = tuple(_READERS)
