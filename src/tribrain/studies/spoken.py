"""What was said in a sound or film, where a study times its words in a table of its own form."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from tribrain.errors import InputError
from tribrain.files import one_line, require_file, safe_name
from tribrain.stimuli.encoding import read_any_text
from tribrain.stimuli.stimulus import Stimulus
from tribrain.stimuli.words import LONGEST, Word, spread_over, syllables
from tribrain.studies.runs import file_checksum

Read = Callable[[Path], tuple[list[Word], list[str]]]
"""Reads a study's file of words: the words in order of start, and notes."""
Row = tuple[int, str, str, str]
"""Number of a row in its file, word, onset and offset, as they are written there."""

_NO_TIME = ("", "nan", "na", "n/a")
_SYLLABLE = 0.2  # s, as of tribrain.stimuli.words.spoken_times


@dataclass(frozen=True)
class Spoken:
    """A sound or film with its words, or words alone where it may not be handed on.

    Attributes
    ----------
    medium : Path or None
    words : Path or None
        The study's file of words.
    read : callable or None
        Its reader; a function of a module, so that a run can be sent to another process and kept
        in a store.
    part : str
        Which part of the file of words it is, where the file holds several.
    length : float, optional
        Seconds, where neither medium nor words tell.
    language : str
    """

    medium: Path | None
    words: Path | None = None
    read: Read | None = None
    part: str = ""
    length: float | None = None
    language: str = "en"

    def __post_init__(self) -> None:
        if self.medium is None and self.words is None:
            raise InputError("neither a sound or film nor its words are given; one of them fits")

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(path for path in (self.medium, self.words) if path is not None)

    def content(self) -> str:
        """Checksum of the medium, else of the words and which part of them it is."""
        if self.medium is not None:
            return file_checksum(self.medium)
        assert self.words is not None
        return hashlib.sha256(f"{file_checksum(self.words)} {self.part}".encode()).hexdigest()

    def duration(self) -> float:
        """Seconds of the medium, else as the study tells, else until the last word ends."""
        if self.medium is not None:
            return self._opened.duration
        return self.length or max(word.end for word in self._timed[0])

    def open(self) -> Stimulus:
        """The stimulus with its words; those that start after its end are left out and counted."""
        duration, (words, notes) = self.duration(), self._timed
        kept = tuple(word for word in words if word.start < duration)
        notes = list(notes)
        if len(kept) < len(words):
            late = len(words) - len(kept)
            notes.append(f"left out, as they start after the end: {late} of {len(words)} words")
        if self.words is not None:
            notes.insert(0, f"word times of {self.words.name}")
        if self.medium is not None:
            whole = self._opened
            said = [note for note in whole.notes if not note.startswith("no words")]
            said += ["no words"] * (self.words is None)
            return replace(whole, words=kept, notes=(*said, *notes), language=self.language)
        assert self.words is not None
        return Stimulus(
            name=safe_name("_".join(filter(None, (self.words.stem, self.part)))),
            duration=duration,
            video=None,
            audio=None,
            words=kept,
            text=None,
            path=self.words,
            notes=("no video", "no sound", *notes),
            language=self.language,
        )

    @cached_property
    def _opened(self) -> Stimulus:
        assert self.medium is not None
        return Stimulus.open(self.medium, recogniser="none", language=self.language)

    @cached_property
    def _timed(self) -> tuple[list[Word], list[str]]:
        if self.words is None or self.read is None:
            return [], []
        return self.read(require_file(self.words, "file of words"))


def read_table(path: Path, delimiter: str = ",") -> list[tuple[int, list[str]]]:
    """Rows of a table of text, with their numbers from 1; empty ones are passed over.

    Raises
    ------
    InputError
        A file that is not there, empty, or not a table.
    """
    content, _ = read_any_text(require_file(path, "table"), "table")
    try:
        rows = list(csv.reader(io.StringIO(content, newline=None), delimiter=delimiter))
    except csv.Error as error:
        raise InputError(f"table {path} cannot be read: {one_line(str(error))}") from None
    full = [(number, [cell.strip() for cell in row]) for number, row in enumerate(rows, 1) if row]
    if not full:
        raise InputError(f"table {path} is empty")
    return full


def columns(path: Path, names: Sequence[str], delimiter: str = ",") -> list[tuple[int, list[str]]]:
    """Cells of the named columns of a table with a header, with the numbers of their rows.

    Raises
    ------
    InputError
        As `read_table`; a column that is missing, a row that is too short.
    """
    (_, header), *rows = read_table(path, delimiter)
    missing = [name for name in names if name not in header]
    if missing:
        raise InputError(
            f"table {path} has no column {', '.join(missing)}; it has: {', '.join(header)}"
        )
    places = [header.index(name) for name in names]
    for number, row in rows:
        if len(row) < len(header):
            raise InputError(
                f"table {path}, row {number}: {len(row)} cells; the header has {len(header)}"
            )
    return [(number, [row[place] for place in places]) for number, row in rows]


def seconds(cell: str, what: str, where: str) -> float:
    """A time in a cell.

    Raises
    ------
    InputError
        If it is none, less than 0, or as long as months.
    """
    try:
        value = math.nan if "_" in cell else float(cell)
    except ValueError:
        value = math.nan
    if not 0 <= value < LONGEST:
        raise InputError(f"{where}: {what} {cell!r} is not a time in seconds, 0 or more")
    return value


def timed_words(rows: Iterable[Row], name: str) -> tuple[list[Word], list[str]]:
    """Words of rows of text, onset and offset.

    Rows without text are passed over and counted. A word without times lies between its
    neighbours, in proportion to its syllables, and its source is "interpolated"; before the first
    timed word and after the last, a syllable lasts 0.2 s.

    Parameters
    ----------
    rows : iterable of (number, text, onset, offset)
    name : str
        Of the file, for messages.

    Raises
    ------
    InputError
        A cell that is no time, an offset before its onset, an onset without an offset, no word
        with a time.
    """
    words: list[Word | str] = []
    without_text = 0
    for number, text, onset, offset in rows:
        where = f"{name}, row {number}"
        if not text:
            without_text += 1
        elif onset.lower() in _NO_TIME and offset.lower() in _NO_TIME:
            words.append(text)
        else:
            start, end = seconds(onset, "onset", where), seconds(offset, "offset", where)
            if end < start:
                raise InputError(f"{where}: the offset {end:g} s lies before the onset {start:g} s")
            words.append(Word(text, start, end - start))
    if not any(isinstance(word, Word) for word in words):
        raise InputError(f"{name} times no word")
    notes = []
    untimed = sum(isinstance(word, str) for word in words)
    if untimed:
        notes.append(
            f"without a time in {name}: {untimed} of {len(words)} words; each lies between its "
            "neighbours"
        )
    if without_text:
        notes.append(f"rows of {name} without a word: {without_text}")
    return sorted(_filled(words), key=lambda word: word.start), notes


def _filled(words: Sequence[Word | str]) -> list[Word]:
    """The words, those without times (str) between their neighbours."""
    filled: list[Word] = []
    waiting: list[str] = []
    for word in words:
        if isinstance(word, str):
            waiting.append(word)
            continue
        if waiting:
            begin = filled[-1].end if filled else word.start - _spoken(waiting)
            filled += _between(waiting, max(0.0, min(begin, word.start)), word.start)
            waiting = []
        filled.append(word)
    if waiting:
        begin = filled[-1].end
        filled += _between(waiting, begin, begin + _spoken(waiting))
    return filled


def _spoken(texts: Sequence[str]) -> float:
    return _SYLLABLE * sum(map(syllables, texts))


def _between(texts: Sequence[str], start: float, end: float) -> list[Word]:
    spread = spread_over(texts, start, end - start)
    return [replace(word, source="interpolated") for word in spread]
