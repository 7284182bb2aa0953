"""The one form that every study has: runs of BOLD, paired with what was seen and heard.

A study is an object with a name, its terms, and runs; what cannot be read is a problem that is
named and does not stop the other runs. Nothing is read from a file before it is asked for.

Two clocks: that of the *run*, 0 when the first volume of the file was measured, and that of each
*stimulus*. `Shown` ties them: second ``start`` of the stimulus fell on second ``onset`` of the run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tribrain.brain.series import BoldSeries
from tribrain.errors import InputError
from tribrain.files import sha256
from tribrain.stimuli.stimulus import Stimulus


class Source(Protocol):
    """What can be shown: it knows what tells its content from any other."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Files that must be there."""
        ...

    def content(self) -> str:
        """Checksum of what is seen and heard: equal where the same was shown again."""
        ...

    def duration(self) -> float:
        """Length in seconds."""
        ...


class BoldSource(Protocol):
    """Where the BOLD of a run lies. What it needs for reading it holds itself."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Files that must be there."""
        ...

    def header(self) -> tuple[int, float | None]:
        """Number of volumes, and the repetition time that the files state (None: they do not).

        Reads no more than a header where the format has one.
        """
        ...

    def load(self) -> BoldSeries:
        """Read the run into its space, as it was measured: nothing cleaned, nothing resampled."""
        ...


@dataclass(frozen=True)
class StimulusFile:
    """A film, sound, picture or text, with what is known of its words.

    Attributes
    ----------
    path : Path
    options : mapping
        Of `Stimulus.open`: transcript, text, language, duration, ...
    """

    path: Path
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def files(self) -> tuple[Path, ...]:
        beside = (self.options.get(name) for name in ("transcript", "text"))
        return (self.path, *(Path(path) for path in beside if path is not None))

    def content(self) -> str:
        # Of the medium alone: the same film with another transcript is the same film.
        return file_checksum(self.path)

    def duration(self) -> float:
        return self.open().duration

    def open(self) -> Stimulus:
        """Probe the files; nothing is recognised that they do not hold."""
        return Stimulus.open(self.path, **{"recogniser": "none", **self.options})


@dataclass(frozen=True, eq=False)
class FeatureArrays:
    """Named feature series in place of a film: all that some studies may hand on.

    Attributes
    ----------
    series : mapping of str to ndarray (layers, dim, time)
        By modality, float32.
    rate : float
        Samples a second.
    file : Path
        Where they came from.
    """

    series: Mapping[str, np.ndarray]
    rate: float
    file: Path

    def __post_init__(self) -> None:
        lengths = {name: array.shape for name, array in self.series.items()}
        if any(array.ndim != 3 for array in self.series.values()):
            raise InputError(f"{self.file}: series of shapes {lengths}; (layers, dim, time) fit")
        if len({shape[2] for shape in lengths.values()}) != 1:
            raise InputError(f"{self.file}: series of different lengths: {lengths}")
        if self.rate <= 0:
            raise InputError(f"{self.file}: {self.rate:g} samples a second; more than 0 fit")

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.file,)

    def content(self) -> str:
        total = hashlib.sha256(repr(self.rate).encode())
        for name in sorted(self.series):
            array = np.ascontiguousarray(self.series[name], "<f4")
            total.update(f"{name} {array.shape}".encode())
            total.update(array.data)
        return total.hexdigest()

    def duration(self) -> float:
        return next(iter(self.series.values())).shape[2] / self.rate


@dataclass(frozen=True)
class Shown:
    """Something that was shown or played in a run.

    Attributes
    ----------
    source : StimulusFile or FeatureArrays
    onset : float
        Second of the run at which it began; may be under 0 where the run was started later.
    duration : float
        Seconds that it was shown.
    group : str
        What must stay on one side of a split: the film, the season, the story.
    start : float
        Second of the stimulus that was shown first.
    condition : str
        Where the study names one.
    """

    source: Source
    onset: float
    duration: float
    group: str
    start: float = 0.0
    condition: str = ""

    @property
    def end(self) -> float:
        return self.onset + self.duration


@dataclass(frozen=True)
class Run:
    """One recording of one person.

    Attributes
    ----------
    study, subject, session, task, number : str
        ``session`` and ``number`` are empty where the study has none.
    bold : BoldSource
    repetition_time : float
        Seconds, as the study's own documentation states it.
    shown : tuple of Shown
        In order of onset; empty for rest.
    confounds : Path, optional
        fMRIPrep's table of confounds of the run.
    """

    study: str
    subject: str
    task: str
    bold: BoldSource
    repetition_time: float
    shown: tuple[Shown, ...]
    session: str = ""
    number: str = ""
    confounds: Path | None = None

    def __post_init__(self) -> None:
        if not self.repetition_time > 0:
            raise InputError(f"{self.name}: repetition time {self.repetition_time:g} s")
        if list(self.shown) != sorted(self.shown, key=lambda shown: shown.onset):
            raise InputError(f"{self.name}: what was shown is not in the order of its onsets")

    @property
    def name(self) -> str:
        """``sub-A_ses-B_task-C_run-D``, unique in its study."""
        parts = {"sub": self.subject, "ses": self.session, "task": self.task, "run": self.number}
        return "_".join(f"{key}-{value}" for key, value in parts.items() if value)


@dataclass(frozen=True)
class Problem:
    """A run, or part of a study, that cannot be used, or looks wrong.

    Attributes
    ----------
    where : str
        Name of the run, or the file.
    what : str
        In one line, what is wrong and what would be right.
    fatal : bool
        Whether the run is left out.
    """

    where: str
    what: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class Study(Protocol):
    """A data set on the user's disk: a small frozen dataclass in a file of its own."""

    @property
    def name(self) -> str:
        """Short, safe in file names."""
        ...

    @property
    def licence(self) -> str: ...

    @property
    def citation(self) -> str: ...

    @property
    def tested_on(self) -> str:
        """What its loader was tested on: "real data" or "a synthetic copy of its layout"."""
        ...

    def runs(self) -> Iterator[Run | Problem]:
        """Every run there is, and what is wrong with those that cannot be used."""
        ...


def sort_out(found: Iterable[Run | Problem]) -> tuple[list[Run], list[Problem]]:
    """Part runs from problems; of two runs of one name the second is a problem."""
    runs: dict[str, Run] = {}
    problems = []
    for item in found:
        if isinstance(item, Problem):
            problems.append(item)
        elif item.name in runs:
            problems.append(Problem(item.name, "is there twice; the first one is used"))
        else:
            runs[item.name] = item
    return list(runs.values()), problems


def file_checksum(path: Path) -> str:
    """SHA-256 of a file, read again only where its size or time of change differ."""
    stat = path.stat()
    return _checksum(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=10_000)
def _checksum(path: Path, size: int, changed: int) -> str:
    return sha256(path)
