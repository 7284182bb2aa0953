"""Narratives: 345 people hear 27 spoken stories (Nastase et al. 2021), OpenNeuro ds002345.

The folder is that of the data set (its OpenNeuro or DataLad copy)::

    sub-001/func/sub-001_task-pieman_run-1_events.tsv   onset, duration, trial_type, stim_file
    stimuli/pieman_audio.wav
    stimuli/gentle/pieman/align.csv                     word, word as aligned, onset, offset
    derivatives/afni-nosmooth/sub-001/func/
        sub-001_task-pieman_run-1_space-fsaverage6_hemi-L_desc-clean.func.gii
    code/scan_exclude.json                              runs that the study itself leaves out

What is from where: ``events.tsv`` of stories and of the task ``schema``, the names of the sounds
and the list of excluded scans from the data set itself; the names of the derivatives, and the
repetition time, from the code that made them (github.com/snastase/narratives: run_regression.py,
run_smoothing.py, run_isc.py); that ``align.csv`` has no header, and its four columns, from public
code that reads it. fMRIPrep's own surfaces are ``_space-fsaverage6_hemi-L.func.gii``.

A sound file begins with the first event that names it (music, where there is some), so that is
its second 0; it counts as shown until the last such event ends. The films of the task ``schema``
(``stim_file`` n/a) are not in the data set: their seconds hold no stimulus.

Stories that share content share a group (`GROUPS`): the three versions of one text in
``milkyway``, the scrambled ones of ``notthefall`` (the same words in another order), two
performances of Pie Man, two tellings of one animation (``shapes``). ``slumlordreach`` is one
recording of two stories.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tribrain.errors import InputError
from tribrain.files import one_line
from tribrain.stimuli.words import Word
from tribrain.studies.runs import BoldSource, Problem, Run, Shown
from tribrain.studies.sources import SurfaceBold, VolumeBold
from tribrain.studies.spoken import Spoken, columns, read_table, seconds, timed_words
from tribrain.studies.usable import usable

REPETITION_TIME = 1.5
PIPELINES = ("afni-nosmooth", "afni-smooth", "fmriprep")
"""The first two have the confounds taken out ("clean"), the second smoothed to 6 mm before."""
SPACES = ("fsaverage6", "fsaverage5", "MNI152NLin2009cAsym")
GROUPS = {
    "milkywayoriginal": "milkyway",
    "milkywayvodka": "milkyway",
    "milkywaysynonyms": "milkyway",
    "notthefallintact": "notthefall",
    "notthefalllongscram": "notthefall",
    "notthefallshortscram": "notthefall",
    "piemanpni": "pieman",
    "shapesphysical": "shapes",
    "shapessocial": "shapes",
}
"""Group of a sound where it is not the sound's own name."""

_NAME = re.compile(r"sub-([^_]+)_task-([^_]+)(?:_run-([^_]+))?(?=_)")
_SOUND = "_audio.wav"


def read_gentle(path: Path) -> tuple[list[Word], list[str]]:
    """Words of Gentle's ``align.csv``: word, word as aligned, onset, offset; no header.

    The second column is empty or ``<unk>`` for a word that Gentle does not know; onset and offset
    are empty where it did not find a word (`tribrain.studies.spoken.timed_words`).

    Raises
    ------
    InputError
        Another number of columns; a cell that is no time.
    """
    rows = []
    for number, row in read_table(path):
        if len(row) != 4:
            raise InputError(
                f"{path}, row {number}: {len(row)} cells; word, word as aligned, onset and offset "
                "fit"
            )
        rows.append((number, row[0], row[2], row[3]))
    return timed_words(rows, str(path))


@dataclass(frozen=True)
class Narratives:
    """The Narratives collection, read from its folder.

    Attributes
    ----------
    folder : Path
    space : str
        One of `SPACES`: which derivative is read.
    pipeline : str
        One of `PIPELINES`.
    mesh : str
        To which it is taken.
    how : mapping
        Of `tribrain.brain.projection.project`, for volumes.
    keep_excluded : bool
        Whether runs of the study's own list of bad scans are used all the same.
    """

    folder: Path
    space: str = "fsaverage6"
    pipeline: str = "afni-nosmooth"
    mesh: str = "fsaverage5"
    how: Mapping[str, Any] = field(default_factory=dict)
    keep_excluded: bool = False
    name: str = "narratives"
    licence: str = "recordings CC0 (PDDL); the sounds under fair use, for research alone"
    citation: str = (
        "Nastase et al. 2021, Scientific Data 8:250, doi:10.1038/s41597-021-01033-3; "
        "OpenNeuro ds002345"
    )
    tested_on: str = "a synthetic copy of its layout"

    def __post_init__(self) -> None:
        for what, given, known in (
            ("space", self.space, SPACES),
            ("pipeline", self.pipeline, PIPELINES),
        ):
            if given not in known:
                raise InputError(f"{what} {given!r} is unknown; known: {', '.join(known)}")

    def runs(self) -> Iterator[Run | Problem]:
        """A run for each recording that has events or BOLD."""
        folder = Path(self.folder)
        events = {_stem(path): path for path in folder.glob("sub-*/func/sub-*_events.tsv")}
        bold: dict[str, list[Path]] = {}
        for path in sorted((folder / "derivatives" / self.pipeline).glob("sub-*/func/sub-*")):
            if re.search(self._ending, path.name):
                bold.setdefault(_stem(path), []).append(path)
        if not bold and not events:
            yield Problem(str(folder), "holds no sub-*/func; give the folder of ds002345")
        excluded: frozenset[str] = frozenset()
        if not self.keep_excluded:
            try:
                excluded = _excluded(folder)
            except InputError as error:
                yield Problem("scan_exclude.json", str(error), fatal=False)
        sources: dict[str, Spoken] = {}
        for stem in sorted(events.keys() | bold.keys()):
            if stem in excluded or re.sub("_run-[^_]+$", "", stem) in excluded:
                yield Problem(stem, "is left out: the study lists it in code/scan_exclude.json")
                continue
            known = set(sources)
            try:
                if stem not in bold:
                    place = f"derivatives/{self.pipeline}"
                    raise InputError(f"no {self._ending_in_words} in {place} goes with its events")
                if stem not in events:
                    raise InputError(f"{stem}_events.tsv is not there")
                shown = self._shown(events[stem], sources)
            except InputError as error:
                yield Problem(stem, str(error))
                continue
            for sound in sorted(set(sources) - known):
                if sources[sound].words is None:
                    yield Problem(
                        sound + _SOUND,
                        f"stimuli/gentle/{sound}/align.csv is not there; it is heard without words",
                        fatal=False,
                    )
            for path in bold[stem]:
                yield from usable(self._run(stem, path, shown), slack=REPETITION_TIME)

    @property
    def _ending(self) -> str:
        """Pattern of the ends of the names of BOLD; of a surface, of the left hemisphere."""
        clean = self.pipeline != "fmriprep"
        if self.space.startswith("fsaverage"):
            return rf"_space-{self.space}_hemi-L{'_desc-clean' if clean else ''}\.func\.gii$"
        kind = "clean" if clean else "preproc"
        return rf"_space-{self.space}(_res-[^_]+)?_desc-{kind}_bold\.nii(\.gz)?$"

    @property
    def _ending_in_words(self) -> str:
        plain = self._ending.replace("(_res-[^_]+)?", "").replace(r"(\.gz)?$", ".gz")
        return "*" + plain.replace("\\", "").removesuffix("$")

    def _run(self, stem: str, path: Path, shown: tuple[Shown, ...]) -> Run:
        subject, task, number = _parts(stem)
        bold: BoldSource
        confounds = None
        if self.space.startswith("fsaverage"):
            right = path.with_name(path.name.replace("_hemi-L", "_hemi-R"))
            bold = SurfaceBold(path, right, self.mesh, REPETITION_TIME)
        else:
            bold = VolumeBold(path, self.space, REPETITION_TIME, self.mesh, self.how)
        if self.pipeline == "fmriprep":
            beside = sorted(path.parent.glob(f"{stem}_desc-confounds_*.tsv"))
            confounds = beside[0] if beside else None
        return Run(
            study=self.name,
            subject=subject,
            task=task,
            bold=bold,
            repetition_time=REPETITION_TIME,
            shown=shown,
            number=number,
            confounds=confounds,
        )

    def _shown(self, events: Path, sources: dict[str, Spoken]) -> tuple[Shown, ...]:
        """The sounds of a run, each from its first event to the end of its last."""
        spans: dict[str, tuple[float, float]] = {}
        for number, cells in columns(events, ["onset", "duration", "stim_file"], "\t"):
            onset, length = (
                seconds(cell, what, f"{events}, row {number}")
                for cell, what in zip(cells[:2], ("onset", "duration"), strict=True)
            )
            if cells[2] in ("n/a", ""):  # a film that the data set does not hold
                continue
            begin, end = spans.get(cells[2], (onset, onset))
            spans[cells[2]] = (min(begin, onset), max(end, onset + length))
        if not spans:
            raise InputError(f"{events} names no sound")
        shown = []
        for name, (begin, end) in sorted(spans.items(), key=lambda item: item[1]):
            sound = name.removesuffix(_SOUND)
            if sound not in sources:
                sources[sound] = _source(Path(self.folder) / "stimuli", sound)
            group = GROUPS.get(sound, sound)
            shown.append(Shown(sources[sound], begin, end - begin, group, condition=sound))
        return tuple(shown)


def _source(stimuli: Path, sound: str) -> Spoken:
    """A sound with its words; damage to them is told here, to every run that holds the sound."""
    words = stimuli / "gentle" / sound / "align.csv"
    if not words.is_file():
        return Spoken(stimuli / (sound + _SOUND))
    read_gentle(words)
    return Spoken(stimuli / (sound + _SOUND), words, read_gentle)


def _stem(path: Path) -> str:
    found = _NAME.match(path.name)
    return found[0] if found else path.name


def _parts(stem: str) -> tuple[str, str, str]:
    found = _NAME.match(stem + "_")
    assert found is not None
    return found[1], found[2], found[3] or ""


def _excluded(folder: Path) -> frozenset[str]:
    """Names of the runs in the study's list: by task, by person, a list of names."""
    path = folder / "code" / "scan_exclude.json"
    if not path.is_file():
        return frozenset()
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        return frozenset(
            str(name) for people in listed.values() for names in people.values() for name in names
        )
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(
            f"{path.name} cannot be read ({one_line(str(error))}); no run is left out by it"
        ) from None
