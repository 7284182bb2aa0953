"""BOLD Moments: ten people watch 1,102 silent clips of 3 s (Lahner et al. 2024).

The folder is OpenNeuro's ds005165: ``sub-*/ses-*/func/*_events.tsv``, fMRIPrep's output in
``derivatives/versionB/fmriprep`` and the clips in ``stimulus_set/stimuli/{train,test}``. Sessions
2 to 5 hold 10 training runs (238 volumes) and 3 test runs (268) each; a volume takes 1.75 s.
Session 1 (localizers, rest) has no clips of the set, and is not read.

Where it is from
----------------
The data set's own files: ``stim_file`` is relative to ``stimuli`` (``train/0603.mp4``); a clip
begins about every 4 s; ``oddball`` rows (a still image to be answered) have no clip. Numbers of
volumes and where which run number is zero-padded (``run-01`` in volumes' names, ``run-1`` in those
of surfaces) are of the specification; as versions of the data set differ, either is read.

Groups
------
A training clip is shown 3 times, a test clip 10 times, mixed over runs, sessions and people: a run
shares clips with many others, and those with the rest. A window of a run holds clips in a row, so
nothing finer than all training runs, and all test runs, keeps repeats together: the groups are
``train`` and ``test``. No clip is in both. To split the training runs themselves, split people.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from tribrain.brain.surface_files import gifti_header
from tribrain.errors import InputError
from tribrain.files import one_line, require_file
from tribrain.stimuli.encoding import read_any_text
from tribrain.studies.runs import BoldSource, Problem, Run, Shown, StimulusFile
from tribrain.studies.sources import SurfaceBold, VolumeBold
from tribrain.studies.usable import usable

REPETITION_TIME = 1.75
VOLUMES = {"train": 238, "test": 268}
RUNS = {"train": 10, "test": 3}
SESSIONS = (2, 3, 4, 5)
FORMS = ("surface", "volume")
ODDBALL = "oddball"
_TEMPLATE = "MNI152NLin2009cAsym"
_VOLUME = f"space-{_TEMPLATE}_desc-preproc_bold.nii.gz"
_NAME = re.compile(r"sub-(\w+?)_ses-(\w+?)_task-(train|test)_run-(\d+)_")
_LISTED = ("*_events.tsv", f"*_{_VOLUME}", "*_space-fsaverage_bold.func.gii")


@dataclass(frozen=True, order=True)
class _Name:
    """Which run it is; ``task`` is train or test."""

    subject: str
    session: str
    task: str
    number: int

    def file(self, folder: Path, ending: str, digits: int = 1) -> Path:
        """The run's file, its number zero-padded or not; `digits` is how it should be."""
        numbers = dict.fromkeys(f"{self.number:0{n}}" for n in (digits, 1, 2))
        stem = f"sub-{self.subject}_ses-{self.session}_task-{self.task}_run-"
        below = folder / f"sub-{self.subject}" / f"ses-{self.session}" / "func"
        paths = [below / f"{stem}{number}_{ending}" for number in numbers]
        there = [path for path in paths if path.is_file()]
        if len(there) > 1:
            raise InputError(f"{there[0].name} and {there[1].name} are the same run; keep one")
        return there[0] if there else paths[0]


@dataclass(frozen=True)
class BoldMoments:
    """The BOLD Moments data set, read from a folder.

    Attributes
    ----------
    folder : Path
        ds005165.
    form : {"surface", "volume"}
        Whether to read fsaverage's surfaces, or volumes in MNI152NLin2009cAsym.
    mesh : str
        To which either is taken.
    how : mapping
        Of `tribrain.brain.projection.project`, for volumes.
    """

    folder: Path
    form: str = "surface"
    mesh: str = "fsaverage5"
    how: Mapping[str, Any] = field(default_factory=dict)
    name: str = "bold-moments"
    licence: str = "CC0"
    citation: str = (
        "Lahner et al. 2024, Nature Communications 15:6241, doi:10.1038/s41467-024-50310-3; "
        "OpenNeuro ds005165"
    )
    tested_on: str = "a synthetic copy of its layout"

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise InputError(f"form {self.form!r} is unknown; known: {', '.join(FORMS)}")

    def runs(self) -> Iterator[Run | Problem]:
        """Thirteen runs for each session of a person that is there."""
        names = self._names()
        if not names:
            yield Problem(
                str(self.folder),
                "holds no sub-*/ses-*/func of sessions 2 to 5; give the folder of ds005165",
            )
        clips: dict[str, StimulusFile] = {}
        for name in names:
            where = f"sub-{name.subject}_ses-{name.session}_task-{name.task}_run-{name.number}"
            try:
                run = self._run(name, clips)
            except InputError as error:
                yield Problem(where, str(error))
                continue
            yield from usable(run, volumes=VOLUMES[name.task])

    @property
    def _fmriprep(self) -> Path:
        return Path(self.folder) / "derivatives" / "versionB" / "fmriprep"

    def _names(self) -> list[_Name]:
        """Every run that a session should have, and any more that it has."""
        names = set()
        for root in (Path(self.folder), self._fmriprep):
            for func in root.glob("sub-*/ses-*/func"):
                session, subject = func.parent.name[4:], func.parents[1].name[4:]
                if not session.isdigit() or int(session) not in SESSIONS:
                    continue
                for task, count in RUNS.items():
                    names |= {_Name(subject, session, task, n + 1) for n in range(count)}
                for path in (path for pattern in _LISTED for path in func.glob(pattern)):
                    if found := _NAME.match(path.name):
                        names.add(_Name(subject, session, found[3], int(found[4])))
        return sorted(names)

    def _run(self, name: _Name, clips: dict[str, StimulusFile]) -> Run:
        confounds = name.file(self._fmriprep, "desc-confounds_timeseries.tsv")
        events = require_file(name.file(Path(self.folder), "events.tsv"), "events")
        return Run(
            study=self.name,
            subject=name.subject,
            session=name.session,
            task=name.task,
            number=str(name.number),
            bold=self._bold(name),
            repetition_time=REPETITION_TIME,
            shown=self._shown(events, name.task, clips),
            confounds=confounds if confounds.is_file() else None,
        )

    def _bold(self, name: _Name) -> BoldSource:
        if self.form == "volume":
            path = name.file(self._fmriprep, _VOLUME, digits=2)
            return VolumeBold(path, _TEMPLATE, REPETITION_TIME, self.mesh, self.how)
        left, right = (
            require_file(
                name.file(self._fmriprep, f"hemi-{side}_space-fsaverage_bold.func.gii"), "surface"
            )
            for side in "LR"
        )
        numbers = {path.name: gifti_header(path)[0] for path in (left, right)}
        if len(set(numbers.values())) > 1:
            told = " and ".join(f"{number} in {file}" for file, number in numbers.items())
            raise InputError(f"the hemispheres have different numbers of volumes: {told}")
        return SurfaceBold(left, right, self.mesh, REPETITION_TIME)

    def _shown(self, events: Path, task: str, clips: dict[str, StimulusFile]) -> tuple[Shown, ...]:
        """The clips of a run in order of their onsets, without oddballs."""
        content, _ = read_any_text(events, "events")
        rows = csv.DictReader(
            io.StringIO(content, newline=None), delimiter="\t", quoting=csv.QUOTE_NONE
        )
        shown = []
        for number, row in enumerate(rows, start=2):  # the header is line 1
            where = f"{events.name}, row {number}"
            kind, file = row.get("trial_type"), row.get("stim_file")
            if kind == ODDBALL:
                continue
            if kind != task or not file or PurePosixPath(file).parent.name != task:
                raise InputError(
                    f"{where}: trial_type {kind!r} and stim_file {one_line(str(file))!r}; a run "
                    f"of this task has {task} with {task}/NNNN.mp4, and {ODDBALL}"
                )
            path = Path(self.folder) / "stimulus_set" / "stimuli" / task / PurePosixPath(file).name
            clip = clips.setdefault(file, StimulusFile(path, {"recogniser": "none"}))
            onset, duration = (_seconds(row.get(key), key, where) for key in ("onset", "duration"))
            shown.append(Shown(clip, onset, duration, group=task))
        if not shown:
            raise InputError(f"{events.name} names no clip")
        return tuple(sorted(shown, key=lambda one: one.onset))


def _seconds(cell: str | None, column: str, where: str) -> float:
    try:
        value = float(cell or "")
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise InputError(f"{where}: {column} {cell!r} is not a time in seconds, 0 or more")
    return value
