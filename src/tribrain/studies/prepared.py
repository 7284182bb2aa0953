"""A prepared study, as it is read in training: runs cleaned, at 1 Hz, in windows.

`tribrain.studies.prepare` writes the store, this module reads it. A store is a folder::

    manifest.json           study, licence, citation, settings, names of its runs, problems
    runs/NAME-*.json        all that is known of a run; points to its array
    runs/NAME-*.CHECK.npy   the array (rows, outputs), float16 or float32, a row after the other
    features/CONTENT-*.npy  feature series of a stimulus (layers, dim, time), float32
    spaces/*.json           where the outputs lie

so that the rows of a window lie in one piece of a file, which is all that is read. Arrays are
named by their checksums, and files are put in place in one step: what is there is whole.

Clock: row r of a run is the BOLD at ``origin + r`` seconds of the run (linear interpolation
between volumes). No lag is applied.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tribrain.brain.haemodynamics import LAG
from tribrain.brain.spaces import Space
from tribrain.errors import InputError, InputWarning
from tribrain.files import sha256
from tribrain.studies.groups import Span, spans
from tribrain.studies.prepared_files import (
    FORMAT,
    MANIFEST,
    as_count,
    as_number,
    as_text,
    as_texts,
    check_told,
    damaged,
    digest,
    is_inside,
    kept_file,
    make_source,
    read_json,
    read_record,
    read_space,
    record_path,
)
from tribrain.studies.runs import Problem, Shown

_NEAR = 1e-6
_DTYPES = ("float16", "float32")


@dataclass(frozen=True)
class PreparedSource:
    """A stimulus, or feature series, as a store knows it.

    Attributes
    ----------
    checksum : str
        Of its content.
    length : float
        Seconds.
    told : mapping
        Plain data from which `source` makes the source again.
    store : Path
    """

    checksum: str
    length: float
    told: Mapping[str, Any]
    store: Path

    @property
    def files(self) -> tuple[Path, ...]:
        if "series" in self.told:
            return tuple(
                kept_file(self.store, "features", file) for file in self.told["series"].values()
            )
        return tuple(Path(file) for file in self.told.get("files", ()))

    def content(self) -> str:
        return self.checksum

    def duration(self) -> float:
        return self.length

    def source(self) -> Any:
        """The source of the study itself: a `StimulusFile`, `FeatureArrays`, or another class.

        Feature series are mapped from the store's files, not read.

        Raises
        ------
        InputError
            If the store cannot tell, or files are missing.
        """
        return make_source(self.told, self.store)


@dataclass(frozen=True)
class PreparedRun:
    """A run of a store.

    Attributes
    ----------
    study, name, subject, session, task, number : str
        As of `tribrain.studies.runs.Run`.
    shown : tuple of Shown
        On the clock of the run; their sources are `PreparedSource`.
    rows, outputs : int
    origin : float
        Seconds of the run at row 0. Chosen so that whole seconds of the first stimulus fall on
        rows; others lie up to half a row away.
    repetition_time : float
        Of the recording, in seconds.
    dtype : str
        ``float16`` or ``float32``.
    unmeasured : int
        Rows that are NaN throughout.
    notes : tuple of str
        What was said while the run was prepared.
    files : tuple of str
        Those that it was made from.
    array : Path
    offset : int
        Bytes before the first row.
    sha256 : str
        Of the whole file.
    """

    study: str
    name: str
    subject: str
    session: str
    task: str
    number: str
    shown: tuple[Shown, ...]
    rows: int
    outputs: int
    origin: float
    repetition_time: float
    dtype: str
    unmeasured: int
    notes: tuple[str, ...]
    files: tuple[str, ...]
    array: Path
    offset: int
    sha256: str

    def row(self, shown: Shown, second: float, lag: float = LAG) -> float:
        """The row in which the BOLD that answers to a second of a stimulus lies.

        Whole numbers for whole seconds of the first stimulus and a whole lag.
        """
        return shown.onset - shown.start + second + lag - self.origin

    def read(self, first: int, n: int, dtype: Any = np.float32) -> np.ndarray:
        """Read rows (n, outputs); NaN before the first and after the last one.

        Raises
        ------
        InputError
            If the file is missing or too short.
        """
        begin, end = max(first, 0), max(min(first + n, self.rows), 0)
        if begin >= end:
            return np.full((max(n, 0), self.outputs), np.nan, dtype)
        stored = np.dtype(self.dtype).newbyteorder("<")
        count = (end - begin) * self.outputs
        offset = self.offset + begin * self.outputs * stored.itemsize
        try:
            # Not mapped into memory: a file that was cut short would end the process.
            values = np.fromfile(self.array, stored, count, offset=offset)
        except OSError as error:
            raise damaged(self.array, error) from None
        if len(values) != count:
            raise damaged(self.array, f"rows {begin} to {end - 1} are not there")
        values = values.reshape(-1, self.outputs).astype(dtype, copy=False)
        if len(values) == n:
            return values
        result = np.full((n, self.outputs), np.nan, dtype)
        result[begin - first : end - first] = values
        return result


@dataclass(frozen=True)
class PreparedStudy:
    """A store that was opened. Other processes may be sent it.

    Attributes
    ----------
    folder : Path
    name, licence, citation, tested_on : str
        Of the study.
    settings : mapping
        How it was prepared.
    space : Space
    runs : tuple of PreparedRun
        In the study's order.
    problems : tuple of Problem
        Runs that are not here, and what looked wrong.
    complete : bool
        False where the preparation was interrupted; the other runs are then missing.
    """

    folder: Path
    name: str
    licence: str
    citation: str
    tested_on: str
    settings: Mapping[str, Any]
    space: Space
    runs: tuple[PreparedRun, ...]
    problems: tuple[Problem, ...]
    complete: bool

    def run(self, name: str) -> PreparedRun:
        """The run of a name."""
        for run in self.runs:
            if run.name == name:
                return run
        known = ", ".join(run.name for run in self.runs[:10])
        raise InputError(f"run {name!r} is not in {self.folder}; there are {known}, ...")

    def window(
        self, run: PreparedRun | str, first: int, n: int, dtype: Any = np.float32
    ) -> np.ndarray:
        """Read rows `first` to ``first + n`` of a run, and nothing else.

        Parameters
        ----------
        run : PreparedRun or str
        first, n : int
        dtype : numpy dtype
            float16, as most stores hold it, halves what is moved to a GPU.

        Returns
        -------
        ndarray (n, outputs)
            NaN where nothing was measured, and outside the run.
        """
        run = self.run(run) if isinstance(run, str) else run
        return run.read(first, n, dtype)

    def verify(self, *, remove: bool = False) -> list[Problem]:
        """Read every array and compare it with its checksum.

        Parameters
        ----------
        remove : bool
            Take damaged files away, so that preparing the study again makes them anew. A file
            that lies elsewhere, where the store has a link, stays.

        Returns
        -------
        list of Problem
            One for each file that is damaged or missing.
        """
        checks: dict[Path, tuple[str, Callable[[], bool]]] = {}
        for run in self.runs:
            checks[run.array] = run.name, partial(_is_run, run)
            for shown in run.shown:
                if isinstance(shown.source, PreparedSource) and "series" in shown.source.told:
                    for path in shown.source.files:
                        checks[path] = path.name, partial(_is_source, shown.source)
        problems = []
        for path, (where, is_sound) in checks.items():
            try:
                sound = is_sound()
            except (OSError, InputError):
                sound = False
            if not sound:
                problems.append(Problem(where, f"{path} is damaged; it has to be made anew"))
                if remove and is_inside(path, self.folder):
                    path.unlink(missing_ok=True)
        return problems


def _is_run(run: PreparedRun) -> bool:
    return sha256(run.array) == run.sha256


def _is_source(source: PreparedSource) -> bool:
    return source.source().content() == source.told["check"]


@dataclass(frozen=True)
class Window:
    """Rows of a run that one group alone was shown for.

    Attributes
    ----------
    run : str
    group : str
    first, n : int
        Rows of the BOLD.
    begin : float
        Second of the run at which what was shown begins; it lasts n seconds.
    """

    run: str
    group: str
    first: int
    n: int
    begin: float


def windows(
    run: PreparedRun,
    span: Span | None = None,
    *,
    length: int = 100,
    step: int | None = None,
    lag: float = LAG,
) -> list[Window]:
    """Windows of a run that lie within one span each.

    Parameters
    ----------
    run : PreparedRun
    span : Span, optional
        One of the run, as `tribrain.studies.splits.split` gives them with the same `lag`; by
        default all that `tribrain.studies.groups.spans` finds.
    length : int
        Rows of a window.
    step : int, optional
        Rows from one window to the next; by default `length`.
    lag : float
        Seconds by which the BOLD is read late.

    Returns
    -------
    list of Window
        The last one of a span ends with it, so that every row is in a window; a span that is
        shorter than `length` is one shorter window.
    """
    step = length if step is None else step
    if length < 1 or step < 1:
        raise InputError(f"windows of {length} rows every {step}; 1 or more fit")
    if span is not None and (span.study, span.run) != (run.study, run.name):
        raise InputError(f"a span of {span.study}/{span.run} is not of {run.study}/{run.name}")
    found = []
    for one in spans(run, lag=lag) if span is None else (span,):
        shift = lag - run.origin
        first = max(math.ceil(one.begin + shift - _NEAR), 0)
        stop = min(math.floor(one.end + shift + _NEAR), run.rows)
        n = min(length, stop - first)
        if n < 1:
            continue
        starts = list(range(first, stop - n + 1, step))
        if starts[-1] != stop - n:
            starts.append(stop - n)
        found += [Window(run.name, one.group, start, n, start - shift) for start in starts]
    return found


def open_prepared(store: str | Path) -> PreparedStudy:
    """Open a store. Nothing but what is known of the runs is read.

    Raises
    ------
    InputError
        If there is no store, a damaged one, or one without any run.

    Warns
    -----
    InputWarning
        If the preparation was interrupted.
    """
    folder = Path(store)
    manifest = read_json(folder / MANIFEST)
    if manifest is None:
        raise InputError(f"{folder} is no prepared study: it has no {MANIFEST}")
    try:
        if manifest["format"] != FORMAT:
            raise InputError(
                f"{folder} was prepared by another version (format {manifest['format']!r}; "
                f"{FORMAT} fits); prepare it again"
            )
        names, complete = list(manifest["runs"]), bool(manifest["complete"])
        records = {}
        for name in names:
            record = read_record(folder, name)
            if record is not None and record["settings"] == digest(manifest["settings"]):
                records[name] = record
        if not records:
            raise InputError(f"{folder} holds no run yet; the same command goes on preparing it")
        space_file = next(iter(records.values()))["space"]
        kept = [record for record in records.values() if record["space"] == space_file]
        if complete and len(kept) < len(names):
            raise InputError(
                f"{folder} lacks {len(names) - len(kept)} of its {len(names)} runs; "
                "prepare it again"
            )
        study = PreparedStudy(
            folder=folder,
            **{key: manifest[key] for key in ("name", "licence", "citation", "tested_on")},
            settings=manifest["settings"],
            space=(space := read_space(kept_file(folder, "spaces", space_file))),
            runs=tuple(_run(record, folder, space) for record in kept),
            problems=tuple(Problem(**problem) for problem in manifest["problems"]),
            complete=complete,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise damaged(folder / MANIFEST, error) from None
    if not complete:
        warnings.warn(
            f"{folder} is prepared in part: {len(kept)} of {len(names)} runs; the same command "
            "goes on",
            InputWarning,
            stacklevel=2,
        )
    return study


def _run(record: Mapping[str, Any], folder: Path, space: Space) -> PreparedRun:
    try:
        return _checked_run(record, folder, space)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(record_path(folder, record["name"]), error) from None


def _checked_run(record: Mapping[str, Any], folder: Path, space: Space) -> PreparedRun:
    """A run of a record, which may be damaged in any way that is JSON."""
    names = ("study", "name", "subject", "session", "task", "number", "sha256")
    if record["dtype"] not in _DTYPES:
        raise ValueError(f"dtype {record['dtype']!r}; {' and '.join(_DTYPES)} fit")
    if as_count(record["outputs"], "outputs") != space.size:
        raise ValueError(f"{record['outputs']} outputs, where its space has {space.size}")
    plain: dict[str, Any] = {key: as_text(record[key], key) for key in names}
    plain |= {key: as_count(record[key], key) for key in ("rows", "unmeasured", "offset")}
    return PreparedRun(
        **plain,
        outputs=space.size,
        origin=as_number(record["origin"], "origin"),
        repetition_time=as_number(record["repetition_time"], "repetition_time", above=0.0),
        dtype=record["dtype"],
        shown=tuple(sorted((_shown(one, folder) for one in record["shown"]), key=_onset)),
        notes=as_texts(record["notes"], "notes"),
        files=as_texts(record["files"], "files"),
        array=kept_file(folder, "runs", record["array"]),
    )


def _onset(shown: Shown) -> float:
    return shown.onset


def _shown(record: Mapping[str, Any], folder: Path) -> Shown:
    source = PreparedSource(
        as_text(record["content"], "content"),
        as_number(record["length"], "length"),
        check_told(record["source"]),
        folder,
    )
    plain: dict[str, Any] = {key: as_text(record[key], key) for key in ("group", "condition")}
    plain |= {key: as_number(record[key], key) for key in ("onset", "duration", "start")}
    return Shown(source=source, **plain)
