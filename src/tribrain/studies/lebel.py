"""LeBel 2023: eight people listen to stories of The Moth, some for 5 hours, some for 17.

The folder is OpenNeuro's ds003020. Two forms can be read:

``hdf5``
    What the authors preprocessed: ``derivative/preprocessed_data/UTSNN/STORY.hf5``, dataset
    ``data``, in the voxels of each person, whose number differs from person to person. A store
    has one space: prepare one person a store (``subjects="UTS02"``).
``volume``
    The raw runs, ``sub-UTSNN/ses-N/func/*_task-STORY_bold.nii.gz``, once fMRIPrep has taken them
    to MNI152NLin2009cAsym (the data set has no such volumes: run it yourself).

Sounds are ``stimuli/STORY.wav``, words ``derivative/TextGrids/STORY.TextGrid`` (tier ``word``).

Where it is from
----------------
Names, repetition time (2.0 s), sessions, what is to be skipped, the markers among the words and
the 10 s of blank before a story are of the specification. How far the ``.hf5`` are trimmed is in
the authors' code (github.com/HuthLab/deep-fMRI-dataset, ``stimulus_utils.py`` and
``encoding_utils.py``): volume k is measured at 2 k - 10 s of the story, and row 0 of the ``.hf5``
goes with volume 10. So row 0 was measured at second 10 of the story (`Lebel.trimmed`), and the
last row some 10 s before its end.

UTS02 was scanned elsewhere; UTS04 lacks ``life``; UTS05 had sound cues in its runs. What the file
of ``wheretheressmoke``, which was heard up to ten times, holds is not stated in it.

Groups
------
The story. All runs of ``wheretheressmoke``, the authors' test story, are one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tribrain.brain.spaces import Space
from tribrain.errors import InputError
from tribrain.stimuli.transcripts import read_transcript
from tribrain.stimuli.words import Word
from tribrain.studies.arrays import ArrayBold, array_shape
from tribrain.studies.runs import Problem, Run, Shown
from tribrain.studies.sources import VolumeBold
from tribrain.studies.spoken import Spoken
from tribrain.studies.usable import usable

REPETITION_TIME = 2.0
TEST_STORY = "wheretheressmoke"
FORMS = ("hdf5", "volume")
KEY = "data"
CORRUPTED = ("UTS01", "7", "treasureisland")
"""Subject, session and story of a run that cannot be used."""
MARKERS = frozenset("sentence_start sentence_end br lg ls ns sp".split())
"""Labels of the TextGrids that are no words: breath, lip smack, noise, ..."""
_LOCALIZER = re.compile(r"(AudioMotor|Auditory|Category|Motor)Localizer\d*")
_TEMPLATE = "MNI152NLin2009cAsym"
_NAME = re.compile(
    r"sub-(?P<subject>[^_]+)_ses-(?P<session>[^_]+)_task-(?P<task>[^_]+)(?:_run-0*(?P<number>\d+))?"
)


@dataclass(frozen=True)
class Lebel:
    """The data set of LeBel et al., read from a folder.

    Attributes
    ----------
    folder : Path
        ds003020.
    form : {"hdf5", "volume"}
    fmriprep : Path, optional
        fMRIPrep's output, for volumes; by default ``derivatives/fmriprep`` in the folder.
    mesh : str
        To which volumes are projected.
    how : mapping
        Of `tribrain.brain.projection.project`.
    blank : float
        Seconds of a raw run before its story begins.
    trimmed : float
        Second of the story at which row 0 of a ``.hf5`` was measured.
    slack : float
        Seconds that a story may last beyond its run; the ``.hf5`` end some 10 s before it.
    subjects : tuple of str
        Labels of those to read, ``UTS01`` or, of several, ``UTS01,UTS02``; by default all.
    """

    folder: Path
    form: str = "hdf5"
    fmriprep: Path | None = None
    mesh: str = "fsaverage5"
    how: Mapping[str, Any] = field(default_factory=dict)
    blank: float = 10.0
    trimmed: float = 10.0
    slack: float = 30.0
    subjects: tuple[str, ...] = ()
    name: str = "lebel2023"
    licence: str = "CC0"
    citation: str = (
        "LeBel et al. 2023, Scientific Data 10:555, doi:10.1038/s41597-023-02437-z; "
        "OpenNeuro ds003020, doi:10.18112/openneuro.ds003020.v2.2.0"
    )
    tested_on: str = "a synthetic copy of its layout"

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise InputError(f"form {self.form!r} is unknown; known: {', '.join(FORMS)}")
        # As they are typed: one, or several with commas.
        typed = self.subjects.split(",") if isinstance(self.subjects, str) else self.subjects
        labels = tuple(label.strip().removeprefix("sub-") for label in typed if label.strip())
        object.__setattr__(self, "subjects", labels)

    def runs(self) -> Iterator[Run | Problem]:
        """A run for each story and person (``hdf5``), or each recording (``volume``)."""
        return self._arrays() if self.form == "hdf5" else self._volumes()

    def _arrays(self) -> Iterator[Run | Problem]:
        below = Path(self.folder) / "derivative" / "preprocessed_data"
        people: dict[str, list[Path]] = {}
        for path in sorted(below.glob("*/*.hf5")):
            people.setdefault(path.parent.name, []).append(path)
        if not people:
            yield Problem(str(below), "holds no UTSNN/STORY.hf5; give the folder of ds003020")
            return
        yield from self._not_there(people)
        people = {subject: paths for subject, paths in people.items() if self._asked(subject)}
        if len(people) > 1:
            told = (
                f"each of its {len(people)} people has other voxels, and a store has one space: "
                f"prepare one person a store (subjects={next(iter(people))})"
            )
            yield Problem(self.name, told, fatal=False)
        stories: dict[str, Spoken] = {}
        for subject, paths in people.items():
            shapes: dict[Path, tuple[int, ...]] = {}
            for path in paths:
                if (subject, path.stem) == (CORRUPTED[0], CORRUPTED[2]):
                    yield _corrupted(f"sub-{subject}_task-{path.stem}")
                    continue
                try:
                    shapes[path] = array_shape(path, KEY)
                except InputError as error:
                    yield Problem(f"sub-{subject}_task-{path.stem}", str(error))
            # Most files are right: another number of voxels is that of a wrong file.
            sizes = Counter(shape[-1] for shape in shapes.values() if len(shape) == 2)
            size = sizes.most_common(1)[0][0] if sizes else 0
            space = Space(f"lebel-{subject}", size)
            for path in shapes:
                bold = ArrayBold(path, space, REPETITION_TIME, KEY)
                yield from self._run(subject, "", path.stem, "", bold, -self.trimmed, stories)

    def _volumes(self) -> Iterator[Run | Problem]:
        raw, prepared = self._listed(Path(self.folder)), self._listed(self._fmriprep)
        if not raw and not prepared:
            yield Problem(
                str(self.folder),
                f"holds no sub-*/ses-*/func/*_bold.nii.gz, nor does {self._fmriprep}; give the "
                "folder of ds003020, and fmriprep=",
            )
            return
        names = [(stem, _NAME.fullmatch(stem)) for stem in sorted(raw | prepared, key=_by_number)]
        yield from self._not_there({found["subject"] for _, found in names if found is not None})
        stories: dict[str, Spoken] = {}
        localizers: Counter[str] = Counter()
        for stem, found in names:
            if found is None:
                yield Problem(stem, "is no name of a run; sub-UTSNN_ses-N_task-STORY fits")
            elif not self._asked(found["subject"]):
                continue
            elif _LOCALIZER.fullmatch(found["task"]):
                localizers[found["subject"]] += 1
            elif (found["subject"], found["session"], found["task"]) == CORRUPTED:
                yield _corrupted(stem)
            else:
                yield from self._prepared(stem, found, stories)
        for subject, count in localizers.items():
            what = f"{count} localizer runs are left out: they play no story"
            yield Problem(f"sub-{subject}", what, fatal=False)

    def _asked(self, subject: str) -> bool:
        return not self.subjects or subject in self.subjects

    def _not_there(self, people: Collection[str]) -> Iterator[Problem]:
        for label in dict.fromkeys(self.subjects):
            if label not in people:
                told = f"is not in the data set; there are: {', '.join(sorted(people))}"
                yield Problem(f"sub-{label}", told)

    @property
    def _fmriprep(self) -> Path:
        return Path(self.fmriprep or Path(self.folder) / "derivatives" / "fmriprep")

    @staticmethod
    def _listed(root: Path) -> set[str]:
        """Names of runs, without what their files hold."""
        paths = root.glob("sub-*/ses-*/func/*_bold.nii.gz")
        return {re.split(r"_(?:space|desc)-|_bold\.", path.name)[0] for path in paths}

    def _prepared(
        self, stem: str, found: re.Match[str], stories: dict[str, Spoken]
    ) -> Iterator[Run | Problem]:
        subject, session = found["subject"], found["session"]
        func = self._fmriprep / f"sub-{subject}" / f"ses-{session}" / "func"
        ending = rf"_space-{_TEMPLATE}(_res-\w+)?_desc-preproc_bold\.nii\.gz"
        there = [
            path
            for path in sorted(func.glob(f"{stem}_space-*_bold.nii.gz"))
            if re.fullmatch(re.escape(stem) + ending, path.name)
        ]
        if len(there) > 1:
            said = f"{there[0].name} and {there[1].name} are the same run; keep one"
            yield Problem(stem, said)
            return
        expected = func / f"{stem}_space-{_TEMPLATE}_desc-preproc_bold.nii.gz"
        path = there[0] if there else expected
        confounds = func / f"{stem}_desc-confounds_timeseries.tsv"
        bold = VolumeBold(path, _TEMPLATE, REPETITION_TIME, self.mesh, self.how)
        yield from self._run(
            subject,
            session,
            found["task"],
            found["number"] or "",
            bold,
            self.blank,
            stories,
            confounds if confounds.is_file() else None,
        )

    def _run(
        self,
        subject: str,
        session: str,
        story: str,
        number: str,
        bold: ArrayBold | VolumeBold,
        onset: float,
        stories: dict[str, Spoken],
        confounds: Path | None = None,
    ) -> Iterator[Run | Problem]:
        run = Run(
            study=self.name,
            subject=subject,
            session=session,
            task=story,
            number=number,
            bold=bold,
            repetition_time=REPETITION_TIME,
            shown=(),
            confounds=confounds,
        )
        sound = Path(self.folder) / "stimuli" / f"{story}.wav"
        words = Path(self.folder) / "derivative" / "TextGrids" / f"{story}.TextGrid"
        source = stories.setdefault(story, Spoken(sound, words, read_story))
        try:
            shown = Shown(source, onset, source.duration(), group=story)
        except InputError as error:
            yield Problem(run.name, str(error))
            return
        for item in usable(replace(run, shown=(shown,)), slack=self.slack):
            if isinstance(item, Run) and self.form == "hdf5":  # trimmed at the end as well
                heard = item.bold.header()[0] * REPETITION_TIME - onset
                item = replace(item, shown=(replace(shown, duration=min(shown.duration, heard)),))
            yield item


def _by_number(stem: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", stem)]


def _corrupted(where: str) -> Problem:
    return Problem(where, "is left out: its recording is corrupted", fatal=False)


def read_story(path: Path) -> tuple[list[Word], list[str]]:
    """Words of a story's TextGrid, without its markers (`MARKERS`, also in braces).

    Returns
    -------
    words : list of Word
    notes : list of str

    Raises
    ------
    InputError
        As `tribrain.stimuli.transcripts.read_transcript`; a story of markers alone.
    """
    words, notes = read_transcript(path)
    kept = [word for word in words if word.text.strip("{}").casefold() not in MARKERS]
    if not kept:
        raise InputError(f"transcript {path.name} holds markers and no words")
    if len(kept) < len(words):
        notes = [*notes, f"{path.name}: {len(words) - len(kept)} markers of breath, noise and ends"]
    return kept, notes
