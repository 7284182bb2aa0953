"""What was shown in a run, by the tables of events of a BIDS data set."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tribrain.errors import InputError
from tribrain.files import one_line, require_file
from tribrain.stimuli.media import PICTURE_SUFFIXES
from tribrain.studies.bids_layout import within
from tribrain.studies.runs import Shown, StimulusFile

TRANSCRIPTS = ("_words.tsv", ".tsv", ".textgrid", ".srt", ".vtt")
"""What follows the stem of a stimulus in the name of its transcript, whatever the case: the first
of these that lies beside it is used."""
_NOTHING = ("", "n/a")


@dataclass(frozen=True)
class Event:
    """A row of a table of events.

    Attributes
    ----------
    line : int
        Of the file, from 1.
    onset : float
        Seconds of the run.
    duration : float, optional
        Seconds; None where the table says ``n/a``.
    cells : mapping of str to str
        By column; ``n/a`` is empty.
    """

    line: int
    onset: float
    duration: float | None
    cells: Mapping[str, str]


def read_events(path: str | Path) -> list[Event]:
    """Read a table of events (``*_events.tsv``), of which every row must be whole.

    Returns
    -------
    list of Event
        By onset.

    Raises
    ------
    InputError
        No table with tabs, without ``onset`` and ``duration``, or a row that does not fit; its
        line is named.
    """
    path = require_file(path, "the table of events")
    try:
        text = path.read_text("utf-8-sig")
        # Quotation marks are text in BIDS.
        table = csv.reader(io.StringIO(text, newline=None), delimiter="\t", quoting=csv.QUOTE_NONE)
        rows = [(number, row) for number, row in enumerate(table, start=1) if "".join(row).strip()]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no table of UTF-8 text: {one_line(str(error))}") from None
    if not rows:
        raise InputError(f"{path} is empty; columns onset and duration fit")
    header = [cell.strip() for cell in rows[0][1]]
    for column in ("onset", "duration"):
        if header.count(column) != 1:
            told = ", ".join(map(one_line, header))
            raise InputError(
                f"{path}: {header.count(column)} columns {column}, parted by tabs; it has: {told}"
            )
    events = [_event(path, number, header, row) for number, row in rows[1:]]
    return sorted(events, key=lambda event: event.onset)


def _event(path: Path, line: int, header: list[str], row: list[str]) -> Event:
    if len(row) != len(header):
        raise InputError(f"{path}, line {line}: {len(row)} cells; {len(header)} fit")
    cells = {name: cell.strip() for name, cell in zip(header, row, strict=True)}
    cells = {name: "" if cell in _NOTHING else cell for name, cell in cells.items()}
    onset = _number(cells["onset"])
    if not math.isfinite(onset):
        raise InputError(
            f"{path}, line {line}: onset {one_line(row[header.index('onset')])!r}; "
            "a number of seconds fits"
        )
    duration = _number(cells["duration"]) if cells["duration"] else None
    if duration is not None and not 0 <= duration < math.inf:
        raise InputError(
            f"{path}, line {line}: duration {one_line(cells['duration'])!r}; a number of seconds "
            "of 0 or more, or n/a, fits"
        )
    return Event(line, onset, duration, cells)


def _number(cell: str) -> float:
    try:
        return math.nan if "_" in cell else float(cell)
    except ValueError:
        return math.nan


@dataclass(frozen=True)
class Showing:
    """How a data set's rows of events become what was shown.

    Attributes
    ----------
    folder : Path
        To which the names of files are relative.
    roots : tuple of Path
        Folders that files may lie in.
    group_column, group_pattern : str
        As of `tribrain.studies.bids.BidsStudy`.
    language : str, optional
        Of the words, a two-letter code.
    """

    folder: Path
    roots: tuple[Path, ...]
    group_column: str = ""
    group_pattern: str = ""
    language: str | None = None
    _known: dict[tuple[str, float | None], StimulusFile] = field(default_factory=dict)
    _lengths: dict[Path, float] = field(default_factory=dict)

    def of_events(self, path: Path) -> tuple[Shown, ...]:
        """What a table of events names in its column ``stim_file``, in order of onset.

        Rows that name no file (``n/a``), such as answers, are nothing that was shown. A film,
        sound or text whose duration is ``n/a`` was shown to its end.

        Raises
        ------
        InputError
            As `read_events`; no row that names a file; a file that is missing, or outside the data
            set; a duration that is not known.
        """
        events = read_events(path)
        named = [event for event in events if event.cells.get("stim_file")]
        if not named:
            there = ", ".join(map(one_line, events[0].cells)) if events else "no rows"
            raise InputError(
                f"{path} names no files in a column stim_file (it has {there}); say what a task "
                "showed by stimuli={TASK: (FILE, ONSET)}"
            )
        return tuple(self._shown(path, event) for event in named)

    def of_file(self, name: str, onset: float) -> tuple[Shown, ...]:
        """One file that was shown from `onset` to its end."""
        duration = self.length(self.stimulus(name, None))
        return (Shown(self.stimulus(name, None), onset, duration, self._group(name, {})),)

    def _shown(self, path: Path, event: Event) -> Shown:
        name = event.cells["stim_file"]
        try:
            picture = Path(name).suffix.lower() in PICTURE_SUFFIXES
            if event.duration == 0 or (picture and event.duration is None):
                told = "0" if event.duration == 0 else "n/a"
                raise InputError(f"{one_line(name)} is shown for a duration of {told}")
            source = self.stimulus(name, event.duration if picture else None)
            duration = self.length(source) if event.duration is None else event.duration
            group = self._group(name, event.cells)
        except InputError as error:
            raise InputError(f"{path.name}, line {event.line}: {error}") from None
        condition = event.cells.get("trial_type", "")
        return Shown(source, event.onset, duration, group, condition=condition)

    def stimulus(self, name: str, duration: float | None) -> StimulusFile:
        """The file of a name, with the transcript beside it; a picture has a duration."""
        if (name, duration) not in self._known:
            path = within(self.folder, name, self.roots)
            options: dict[str, Any] = {}
            transcript = _transcript(path)
            if transcript is not None:
                options["transcript"] = within(path.parent, transcript, self.roots)
            if duration is not None:
                options["duration"] = duration
            if self.language is not None:
                options["language"] = self.language
            self._known[name, duration] = StimulusFile(path, options)
        return self._known[name, duration]

    def length(self, source: StimulusFile) -> float:
        """Seconds that a file lasts; probed once."""
        if source.path not in self._lengths:
            self._lengths[source.path] = source.duration()
        return self._lengths[source.path]

    def _group(self, name: str, cells: Mapping[str, str]) -> str:
        if self.group_column:
            if not cells.get(self.group_column):
                raise InputError(
                    f"no value in the column {self.group_column!r} that tells the group; "
                    f"columns: {', '.join(map(one_line, cells))}"
                )
            return cells[self.group_column]
        if self.group_pattern:
            found = re.search(self.group_pattern, name)
            group = found and found[1 if found.re.groups else 0]
            if not group:
                raise InputError(f"{one_line(name)} does not match {self.group_pattern!r}")
            return group
        return Path(name).stem


def _transcript(path: Path) -> str | None:
    """Name of the transcript beside a stimulus."""
    beside = {other.name.lower(): other.name for other in path.parent.iterdir()}
    for ending in TRANSCRIPTS:
        name = beside.get((path.stem + ending).lower())
        if name is not None and name != path.name:
            return name
    return None
