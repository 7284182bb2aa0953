"""Courtois NeuroMod: four people watch Friends and four films, in parcels or in volumes.

`Algonauts` reads what the competitors of Algonauts 2025 were given, 1,000 parcels a person in
HDF5, with films and transcripts. `CourtoisNeuroMod` reads the same recordings as volumes of
fMRIPrep (``friends.fmriprep``, ``movie10.fmriprep``), with the films and transcripts of Algonauts.

Where it is from
----------------
The README of ``algonauts_2025.competitors``: names of files and keys; 1.49 s a row; that onsets in
a transcript count from the start of the film; that *Life* and *Hidden Figures* were shown twice;
that sub-02 lacks s05e20a, and sub-05 s04e01a, s04e01b and s04e13b. The specification adds s06e03a,
and has all five left out for everybody (`LEFT_OUT`). That a film begins with the first volume, and
that runs of the same film differ by some volumes at their ends, CNeuroMod's maintainers say of
both (github.com/courtois-neuromod/cneuromod, issue 23).

Groups
------
CNeuroMod's documentation (docs.cneuromod.ca, Friends) says that the parts of an episode overlap a
little, so that viewers find their way back. An episode (parts a to d) is therefore one group.
Chunks of the films are groups of their own, and both showings of a chunk are in the same. Whether
these chunks overlap too is not known here: ``split_by="film"`` makes a whole film, or a season,
one group, and is safe in any case.

Parcels are numbered as in the atlases beside the recordings (1 to 1,000, Schaefer et al. 2018, 7
networks): their names are not in the files.
"""

from __future__ import annotations

import ast
import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tribrain.brain.spaces import parcel_space
from tribrain.errors import InputError
from tribrain.files import one_line
from tribrain.stimuli.encoding import read_any_text
from tribrain.stimuli.stimulus import Stimulus
from tribrain.stimuli.words import LONGEST, Word
from tribrain.studies.arrays import ArrayBold, array_keys
from tribrain.studies.runs import BoldSource, Problem, Run, Shown
from tribrain.studies.sources import VolumeBold
from tribrain.studies.spoken import Spoken
from tribrain.studies.usable import SLACK, usable

REPETITION_TIME = 1.49
SPACE = parcel_space("schaefer1000", [f"7Networks_{number}" for number in range(1, 1001)])
LEFT_OUT = ("s04e01a", "s04e01b", "s04e13b", "s05e20a", "s06e03a")
"""Parts of Friends that some people did not see, or whose recordings are bad."""
SPLITS = ("chunk", "film")
PARCELS = "sub-{}_task-{}_space-MNI152NLin2009cAsym_atlas-Schaefer18_parcel-1000Par7Net{}_bold.h5"
_TASKS = {"friends": "_desc-s123456", "movie10": ""}
_TEMPLATE = "MNI152NLin2009cAsym"

_PART = r"s(?P<season>\d\d)e(?P<episode>\d\d)[a-d]|(?P<film>[a-z]+)\d\d"
_KEY = re.compile(rf"ses-(?P<session>\w+?)_task-(?P<task>{_PART})(?:_run-0*(?P<number>\d+))?")
_CITATION = "Gifford et al. 2025, arXiv:2501.00504, doi:10.48550/arXiv.2501.00504"
COLUMNS = ("words_per_tr", "onsets_per_tr", "durations_per_tr")
_LONGEST_CELL = 20_000  # characters; a cell holds the words of 1.49 s


@dataclass(frozen=True)
class Algonauts:
    """The recordings of Algonauts 2025, read from a folder.

    Attributes
    ----------
    folder : Path
        ``algonauts_2025.competitors``, which holds ``fmri`` and ``stimuli``.
    split_by : {"chunk", "film"}
        What is a group: see the head of this module.
    slack : float
        Seconds that a film may last beyond its run.
    """

    folder: Path
    split_by: str = "chunk"
    slack: float = SLACK
    name: str = "algonauts2025"
    licence: str = (
        "terms of the Algonauts Project 2025: non-commercial research and education; cite; pass "
        "on under the same terms"
    )
    citation: str = _CITATION
    tested_on: str = "a synthetic copy of its layout"

    def __post_init__(self) -> None:
        _check_split(self.split_by)

    def runs(self) -> Iterator[Run | Problem]:
        """A run for each dataset in the files of each person; season 7 has no recordings."""
        fmri = Path(self.folder) / "fmri"
        people = [path.name.removeprefix("sub-") for path in sorted(fmri.glob("sub-*"))]
        if not people:
            yield Problem(str(fmri), "holds no folders sub-*; give the folder that holds fmri")
        stimuli = _Stimuli(Path(self.folder) / "stimuli", self.split_by)
        for person in people:
            yield from _once(self._found(fmri, person, stimuli), self.slack)
            yield from _left_out(person)

    def _found(self, fmri: Path, person: str, stimuli: _Stimuli) -> Iterator[Run | Problem]:
        for task, marks in _TASKS.items():
            path = fmri / f"sub-{person}" / "func" / PARCELS.format(person, task, marks)
            try:
                keys = array_keys(path)
            except InputError as error:
                yield Problem(f"sub-{person}_task-{task}", f"{error}; its runs cannot be used")
                continue
            for key in sorted(keys):
                bold = ArrayBold(path, SPACE, REPETITION_TIME, key)
                yield from _run_of(self.name, person, key, bold, stimuli)


@dataclass(frozen=True)
class CourtoisNeuroMod:
    """Friends and the films as volumes of fMRIPrep, projected to a mesh.

    Attributes
    ----------
    folder : Path
        Holds ``friends.fmriprep``, ``movie10.fmriprep`` or both.
    stimuli : Path, optional
        The folder ``stimuli`` of Algonauts 2025, with ``movies`` and ``transcripts``; by default
        that in `folder`.
    mesh : str
    how : mapping
        Of `tribrain.brain.projection.project`.
    split_by, slack
        As of `Algonauts`.
    """

    folder: Path
    stimuli: Path | None = None
    mesh: str = "fsaverage5"
    how: Mapping[str, Any] = field(default_factory=dict)
    split_by: str = "chunk"
    slack: float = SLACK
    name: str = "cneuromod"
    licence: str = "terms of the Courtois NeuroMod data bank: https://www.cneuromod.ca"
    citation: str = (
        "Boyle et al. 2023, Cognitive Computational Neuroscience, doi:10.32470/CCN.2023.1602-0; "
        + _CITATION
    )
    tested_on: str = "a synthetic copy of its layout"

    def __post_init__(self) -> None:
        _check_split(self.split_by)

    def runs(self) -> Iterator[Run | Problem]:
        """A run for each volume in ``MNI152NLin2009cAsym``; those in T1w have no template."""
        ending = f"_space-{_TEMPLATE}_desc-preproc_bold.nii.gz"
        pattern = f"*.fmriprep/sub-*/ses-*/func/sub-*{ending}"
        people: dict[str, list[Path]] = {}
        for path in sorted(Path(self.folder).glob(pattern)):
            if path.parents[3].name in ("friends.fmriprep", "movie10.fmriprep"):
                people.setdefault(path.parents[2].name.removeprefix("sub-"), []).append(path)
        if not people:
            yield Problem(str(self.folder), f"holds no volumes {pattern}; give the folder above")
        folder = Path(self.stimuli or Path(self.folder) / "stimuli")
        stimuli = _Stimuli(folder, self.split_by)
        for person, paths in people.items():
            yield from _once(self._found(person, paths, ending, stimuli), self.slack)
            yield from _left_out(person)

    def _found(
        self, person: str, paths: Iterable[Path], ending: str, stimuli: _Stimuli
    ) -> Iterator[Run | Problem]:
        for path in paths:
            stem = path.name.removesuffix(ending)
            bold = VolumeBold(path, _TEMPLATE, REPETITION_TIME, self.mesh, self.how)
            beside = path.with_name(f"{stem}_desc-confounds_timeseries.tsv")
            confounds = beside if beside.is_file() else None
            key = stem.removeprefix(f"sub-{person}_")
            yield from _run_of(self.name, person, key, bold, stimuli, confounds)


class Dialogue(Spoken):
    """A film with its words, and the running text of its transcript."""

    def open(self) -> Stimulus:
        """The film with words and, where the transcript has it, running text."""
        assert self.words is not None
        return replace(super().open(), text=read_text_of_rows(self.words))


def _check_split(split_by: str) -> None:
    if split_by not in SPLITS:
        raise InputError(f"split_by {split_by!r} is unknown; known: {', '.join(SPLITS)}")


@dataclass(frozen=True)
class _Stimuli:
    """Films and transcripts of Algonauts, and the groups that they make."""

    folder: Path
    split_by: str
    films: dict[Path, Dialogue] = field(default_factory=dict)

    def shown(self, found: re.Match[str]) -> Shown:
        """What the task of a key is; its film is probed for its length, once for all people."""
        task, film = found["task"], found["film"]
        if film is None:
            below, name = Path("friends", f"s{int(found['season'])}"), f"friends_{task}"
            words, whole = f"{name}.tsv", f"friends-s{found['season']}"
            group = whole if self.split_by == "film" else f"{whole}e{found['episode']}"
        else:
            below, name, words = Path("movie10", film), task, f"movie10_{task}.tsv"
            group = film if self.split_by == "film" else task
        path = self.folder / "movies" / below / f"{name}.mkv"
        transcript = self.folder / "transcripts" / below / words
        source = self.films.setdefault(path, Dialogue(path, transcript, read_rows))
        return Shown(source, onset=0.0, duration=source.duration(), group=group)


def _run_of(
    study: str,
    person: str,
    key: str,
    bold: BoldSource,
    stimuli: _Stimuli,
    confounds: Path | None = None,
) -> Iterator[Run | Problem]:
    """The run of a key ``ses-001_task-life01_run-1``; nothing for what is left out."""
    found = _KEY.fullmatch(key)
    where = f"sub-{person}_{one_line(key)}"
    if found is None:
        yield Problem(where, "is no name of a run; ses-001_task-s01e02a or the like fits")
        return
    if found["task"] in LEFT_OUT:
        return
    try:
        shown = (stimuli.shown(found),)
    except InputError as error:
        yield Problem(where, str(error))
        return
    yield Run(
        study=study,
        subject=person,
        session=found["session"],
        task=found["task"],
        number=found["number"] or "",
        bold=bold,
        repetition_time=REPETITION_TIME,
        shown=shown,
        confounds=confounds,
    )


def _once(found: Iterable[Run | Problem], slack: float) -> Iterator[Run | Problem]:
    """The runs of a person that can be used, each showing once: the first that is whole."""
    sessions: dict[tuple[str, str], str] = {}
    for item in found:
        checked = [item] if isinstance(item, Problem) else usable(item, slack=slack)
        for one in checked:
            if isinstance(one, Run):
                first = sessions.setdefault((one.task, one.number), one.session)
                if first != one.session:
                    said = f"was recorded in session {first} already, which is used"
                    one = Problem(one.name, said)
            yield one


def _left_out(person: str) -> Iterator[Problem]:
    for task in LEFT_OUT:
        what = "is left out: missing in some people, or bad"
        yield Problem(f"sub-{person}_task-{task}", what, fatal=False)


def read_rows(path: Path) -> tuple[list[Word], list[str]]:
    """Words of a transcript of Algonauts: a row each 1.49 s, with lists in Python's notation.

    Parameters
    ----------
    path : Path
        Columns ``words_per_tr``, ``onsets_per_tr``, ``durations_per_tr`` (s of the film). Nothing
        in it is executed.

    Returns
    -------
    words : list of Word
        By their start; none in a film without speech.
    notes : list of str

    Raises
    ------
    InputError
        A damaged file; the row is named.
    """
    rows, notes = _rows(path)
    words: list[Word] = []
    for number, row in enumerate(rows, start=2):  # the header is row 1
        where = f"transcript {path.name}, row {number}"
        texts, onsets, durations = (_list(row[name], where, name) for name in COLUMNS)
        if not len(texts) == len(onsets) == len(durations):
            raise InputError(
                f"{where}: {len(texts)} words, {len(onsets)} onsets and {len(durations)} durations"
            )
        for text, onset, duration in zip(texts, onsets, durations, strict=True):
            if not isinstance(text, str):
                raise InputError(f"{where}: the word {text!r} is no text")
            if text.strip():
                words.append(Word(text.strip(), _time(onset, where), _time(duration, where)))
    return sorted(words, key=lambda word: word.start), notes


def read_text_of_rows(path: Path) -> str | None:
    """Running text of a transcript of Algonauts (``text_per_tr``), if it has any."""
    rows, _ = _rows(path)
    return " ".join(" ".join(row.get("text_per_tr") or "" for row in rows).split()) or None


def _rows(path: Path) -> tuple[list[dict[str, str | None]], list[str]]:
    content, notes = read_any_text(path, "transcript")
    try:
        rows = list(csv.DictReader(io.StringIO(content, newline=""), delimiter="\t"))
    except csv.Error as error:
        raise InputError(f"transcript {path.name} is not a table: {error}") from None
    missing = [column for column in COLUMNS if not rows or column not in rows[0]]
    if missing:
        raise InputError(
            f"transcript {path.name} has no column {missing[0]!r}, or no rows; "
            f"{', '.join(COLUMNS)} are needed"
        )
    return rows, notes


def _list(cell: str | None, where: str, column: str) -> list[Any]:
    """A list of texts or numbers in Python's notation; an empty cell is an empty list."""
    cell = (cell or "").strip()
    if not cell:
        return []
    try:
        # A longer cell is damage, and could fill the memory while it is parsed.
        found = ast.literal_eval(cell) if len(cell) <= _LONGEST_CELL else None
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        found = None
    if not isinstance(found, list):
        raise InputError(f"{where}: {column} is {one_line(cell[:40])!r}, which is no list")
    return found


def _time(value: Any, where: str) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not 0 <= value < LONGEST:
        raise InputError(f"{where}: {value!r} is not a time in seconds, 0 or more")
    return float(value)
