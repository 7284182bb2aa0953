"""Any BIDS data set with fMRIPrep derivatives (Esteban et al. 2019, Nature Methods 16:111-116).

Layout: the Brain Imaging Data Structure 1.11 (https://bids-specification.readthedocs.io), and the
names that fMRIPrep gives its derivatives. Read are the BOLD of fMRIPrep, its confounds, the events
and sidecars of the raw data set, the files of the stimuli and the transcripts beside them.

Of a run in several spaces the first of these is taken, `BidsStudy.space` apart:

1. surfaces, both hemispheres: fsaverage5, fsaverage6, fsaverage, fsaverage4, fsaverage3;
2. CIFTI, ``.dtseries.nii``;
3. volumes, ``desc-preproc_bold.nii.gz``: MNI152NLin2009cAsym, then the other templates in the
   order of `tribrain.brain.spaces.TEMPLATES`.

Echoes, phases, and what is in nobody's space but the person's own (T1w, fsnative) are not read.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tribrain.brain.spaces import mesh_space
from tribrain.errors import InputError
from tribrain.files import one_line, safe_name
from tribrain.studies.bids_bold import best_files, bold_source, clock_of, confounds_of, is_bold
from tribrain.studies.bids_events import Showing
from tribrain.studies.bids_layout import RUN_ENTITIES, BidsFile, Key, Tree, in_order, read_json
from tribrain.studies.runs import Problem, Run, Shown
from tribrain.studies.usable import usable


@dataclass(frozen=True)
class BidsStudy:
    """A BIDS data set with fMRIPrep derivatives.

    A run is used whole or not at all: one whose events name a file that is missing, or that has
    one hemisphere, is a problem, and is not read without it or in another space.

    Attributes
    ----------
    folder : Path
        Of the raw data set: ``dataset_description.json``, ``sub-*``, ``stimuli``.
    derivatives : Path, optional
        Of fMRIPrep (relative to `folder`); by default ``derivatives/fmriprep`` or the one
        ``derivatives/*/fmriprep``.
    mesh : str
        One of `tribrain.brain.spaces.MESHES`, to which the BOLD is taken.
    space : str, optional
        As in the names of the files, with its resolution or density where there are several:
        ``"MNI152NLin2009cAsym"``, ``"MNI152NLin2009cAsym:res-2"``.
    subjects, tasks : tuple of str
        Labels of those to read; by default all.
    stimuli : mapping of str to (str, float)
        What a task showed, where its events do not say so: file and second of the run.
    stimulus_folder : Path, optional
        To which the files' names are relative (relative to `folder`), by default ``stimuli``.
    group_column : str
        Column of the events that tells the group of splits; by default it is the stem of the
        stimulus' file name.
    group_pattern : str
        Regular expression that finds the group in the stimulus' file name: its first group in
        brackets, or all that matches. ``r"(s\\d+)e\\d+"`` keeps a season together.
    repetition_time : float, optional
        Seconds, where the files state none, or contradict each other.
    language : str, optional
        Of the words, a two-letter code.
    projection : mapping
        Of `tribrain.brain.projection.project`, for volumes.
    label : str
        Name of the study; by default that of ``dataset_description.json``.

    Raises
    ------
    InputError
        A folder that is no BIDS data set, has no fMRIPrep derivatives or several; options that
        contradict each other.
    """

    folder: Path
    derivatives: Path | None = None
    mesh: str = "fsaverage5"
    space: str | None = None
    subjects: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    stimuli: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    stimulus_folder: Path | None = None
    group_column: str = ""
    group_pattern: str = ""
    repetition_time: float | None = None
    language: str | None = None
    projection: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    tested_on: str = "a synthetic copy of its layout"

    def __post_init__(self) -> None:
        folder = Path(self.folder)
        object.__setattr__(self, "folder", folder)
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder; that of a BIDS data set fits")
        if not any(path.is_dir() for path in folder.glob("sub-*")):
            raise InputError(
                f"{folder} is no BIDS data set: there are no folders sub-*; give the folder that "
                "holds dataset_description.json"
            )
        mesh_space(self.mesh)
        for name, entity in (("subjects", "sub-"), ("tasks", "task-")):
            labels = getattr(self, name)
            # As they are typed: one, or several with commas.
            labels = labels.split(",") if isinstance(labels, str) else labels
            labels = tuple(label.strip().removeprefix(entity) for label in labels)
            object.__setattr__(self, name, labels)
        if not isinstance(self.stimuli, Mapping) or not isinstance(self.projection, Mapping):
            raise InputError("stimuli={TASK: (FILE, ONSET)} and projection={NAME: VALUE} fit")
        if self.group_column and self.group_pattern:
            raise InputError("group_column and group_pattern contradict each other; give one")
        try:
            re.compile(self.group_pattern)
        except re.error as error:
            raise InputError(f"group_pattern {self.group_pattern!r}: {error}") from None
        _derivatives(folder, self.derivatives)

    @property
    def name(self) -> str:
        return safe_name(
            self.label or str(self._described.get("Name") or self.folder.resolve().name)
        )

    @property
    def licence(self) -> str:
        return str(self._described.get("License") or "not stated: ask before passing it on")

    @property
    def citation(self) -> str:
        described = self._described
        said = described.get("HowToAcknowledge") or described.get("ReferencesAndLinks") or []
        parts = [*(said if isinstance(said, list) else [said]), described.get("DatasetDOI")]
        return "; ".join(one_line(str(part)) for part in parts if part) or "not stated"

    @cached_property
    def _described(self) -> dict[str, Any]:
        try:
            return read_json(self.folder / "dataset_description.json")
        except InputError:
            return {}  # `runs` says so

    def runs(self) -> Iterator[Run | Problem]:
        """Every run of BOLD, in order of person, session, task and number."""
        description = self.folder / "dataset_description.json"
        try:
            read_json(description)
        except InputError as error:
            yield Problem(description.name, f"{error}; licence and citation are not known", False)
        raw, prepared = Tree(self.folder), Tree(_derivatives(self.folder, self.derivatives))
        folder = self.folder / (self.stimulus_folder or "stimuli")
        showing = Showing(
            folder, (self.folder, folder), self.group_column, self.group_pattern, self.language
        )
        recorded, wrong = self._by_run(raw)
        found, also_wrong = self._by_run(prepared)
        for path, what in wrong + also_wrong:
            yield Problem(path.name, what)
        keys = in_order(set(recorded) | set(found))
        yield from self._not_there(keys)
        for key in keys:
            name = run_name(key)
            try:
                if key not in found:
                    raise InputError(f"has no BOLD in {prepared.root}")
                run, remarks = self._run(key, found[key], raw, prepared, showing)
            except (InputError, OSError) as error:
                yield Problem(name, one_line(str(error)))
                continue
            yield from (Problem(name, remark, fatal=False) for remark in remarks)
            # Headers that were overruled contradict the run, and cannot tell if it is whole.
            yield from [run] if self.repetition_time is not None else usable(run)

    def _not_there(self, keys: list[Key]) -> Iterator[Problem]:
        asked = {"sub": self.subjects, "task": (*self.tasks, *self.stimuli)}
        for entity, labels in asked.items():
            there = {key[RUN_ENTITIES.index(entity)] for key in keys}
            for label in dict.fromkeys(labels):
                if label not in there:
                    yield Problem(f"{entity}-{label}", "has no BOLD in the data set")

    def _by_run(self, tree: Tree) -> tuple[dict[Key, list[BidsFile]], list[tuple[Path, str]]]:
        """Files of every run that has BOLD, and files that cannot be told to be of one."""
        files: dict[Key, list[BidsFile]] = defaultdict(list)
        wrong: list[tuple[Path, str]] = []
        for found, unknown in tree.functional(self.subjects):
            wrong += unknown
            for file in found:
                task = file.entities.get("task")
                if task is not None and (not self.tasks or task in self.tasks):
                    files[file.key].append(file)
        return {k: own for k, own in files.items() if any(map(is_bold, own))}, wrong

    def _run(
        self, key: Key, files: list[BidsFile], raw: Tree, prepared: Tree, showing: Showing
    ) -> tuple[Run, list[str]]:
        chosen = best_files(files, self.space)
        clock = clock_of(key, chosen, raw, prepared, self.repetition_time)
        overruled = self.repetition_time is not None
        confounds, remarks = confounds_of(files)
        run = Run(
            study=self.name,
            **_parts(key),
            bold=bold_source(chosen, self.mesh, clock, self.projection, overruled=overruled),
            repetition_time=clock[0],
            shown=self._shown(key, raw, showing),
            confounds=confounds,
        )
        return run, remarks

    def _shown(self, key: Key, raw: Tree, showing: Showing) -> tuple[Shown, ...]:
        task = key[RUN_ENTITIES.index("task")]
        if task in self.stimuli:
            return showing.of_file(*self.stimuli[task])
        events = raw.inherited(key, "events", (".tsv",))
        if events:
            return showing.of_events(events[-1].path)
        if task.startswith("rest"):
            return ()
        raise InputError(
            "has no events.tsv in the raw data set; add it, or say what the task showed by "
            "stimuli={TASK: (FILE, ONSET)}"
        )


def _parts(key: Key) -> dict[str, str]:
    own = dict(zip(RUN_ENTITIES, key, strict=True))
    others = "".join(f"{name}{own[name]}" for name in ("acq", "ce", "rec", "dir") if own[name])
    return {
        "subject": own["sub"],
        "session": own["ses"],
        "task": own["task"],
        "number": own["run"] + others,
    }


def run_name(key: Key) -> str:
    """As of `tribrain.studies.runs.Run.name`.

    What tells two recordings of a task apart beside their number goes with it: ``run-1dirAP``.
    """
    parts = zip(("sub", "ses", "task", "run"), _parts(key).values(), strict=True)
    return "_".join(f"{name}-{value}" for name, value in parts if value)


def _derivatives(folder: Path, given: Path | None) -> Path:
    """The folder of fMRIPrep's derivatives."""
    patterns: tuple[str, ...] = ("derivatives/fmriprep", "derivatives/*/fmriprep")
    if given is not None:
        patterns = (Path(given).as_posix(),)
        found = [folder / given]
    else:
        found = [folder / patterns[0]]
        if not found[0].is_dir():
            found = sorted(folder.glob(patterns[1]))
    found = [path for path in found if path.is_dir()]
    if not found:
        told = " or ".join(patterns)
        raise InputError(f"{folder} has no derivatives of fMRIPrep in {told}; give derivatives=")
    if len(found) > 1:
        told = ", ".join(path.relative_to(folder).as_posix() for path in found)
        raise InputError(f"{folder} has several derivatives of fMRIPrep: {told}; give derivatives=")
    return found[0]
