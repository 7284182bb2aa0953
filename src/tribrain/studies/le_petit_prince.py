"""Le Petit Prince: 112 people hear the book in their language (Li et al. 2022), ds003643.

The folder is that of the data set; LL is EN (49 people), CN (35) or FR (28)::

    derivatives/sub-EN057/func/
        sub-EN057_task-lppEN_run-15_space-MNIColin27_desc-preproc_bold.nii.gz
    annotation/LL/lppLL_word_information.csv     word, onset, offset, section, ... (a row a word)
    stimuli/task-lppEN_section-1.wav             task-lppFR_section_1.wav, task-lppCN_section_1.wav

What is from where: volumes and lengths (`VOLUMES`, `SOUND`), preprocessing and template from the
data set's README; the names of the files and the columns from public code that reads them. Onsets
count from the start of a section.

Clocks: by the README the derivatives begin with the sound. (In English the raw runs have 8 s
before it and the derivatives "retain only the 8 seconds" after it; in Chinese they last as long
as the sound; in French 2 volumes more.)

Runs are not numbered 1 to 9: a person's runs, in the order of their numbers, are the sections.
Where some are missing, the numbers of volumes tell which; where these do not, the run is a
problem.

Groups: the three languages tell the same, so section n is one group in all of them
(``le-petit-prince-n``). With ``whole_book`` the book is one group, for who holds that chapters of
one book leak into each other (its persons, its words, its style).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

from tribrain.errors import InputError
from tribrain.stimuli.words import Word
from tribrain.studies.runs import Problem, Run, Shown
from tribrain.studies.sources import VolumeBold
from tribrain.studies.spoken import Spoken, columns, timed_words
from tribrain.studies.usable import usable

REPETITION_TIME = 2.0
TEMPLATE = "MNIColin27"
LANGUAGES = {"EN": "en", "CN": "zh", "FR": "fr"}
VOLUMES = {
    "EN": (282, 298, 340, 303, 265, 343, 325, 292, 368),
    "CN": (283, 322, 322, 307, 293, 392, 364, 293, 401),
    "FR": (309, 326, 354, 315, 293, 378, 332, 294, 336),
}
"""Volumes of the nine preprocessed runs, by the README."""
SOUND = {
    "EN": (554.7, 587.8, 671.4, 598.2, 522.2, 678.1, 642.0, 575.8, 727.1),
    "CN": (564.9, 642.6, 643.7, 612.2, 584.5, 782.9, 726.6, 585.2, 801.1),
    "FR": (613.5, 647.0, 702.2, 624.5, 580.8, 750.4, 658.5, 583.2, 667.9),
}
"""Seconds of the sound of the nine sections, by the README."""

_SECTIONS = tuple("123456789")
_NAME = re.compile(r"sub-(?P<who>[A-Z]{2}\d+)_task-lpp(?P<language>[A-Z]{2})_run-(?P<run>\d+)_")


def read_section(path: Path, section: int) -> tuple[list[Word], list[str]]:
    """Words of a section in the study's table of words.

    Raises
    ------
    InputError
        A column that is missing, a cell that is no time, a section without words.
    """
    rows = []
    for number, (word, onset, offset, which) in columns(
        path, ["word", "onset", "offset", "section"]
    ):
        which = which.removesuffix(".0")
        if which not in _SECTIONS:
            raise InputError(f"{path}, row {number}: section {which!r}; 1 to 9 fit")
        if which == str(section):
            rows.append((number, word, onset, offset))
    if not rows:
        raise InputError(f"{path} has no words of section {section}")
    return timed_words(rows, str(path))


class Section(Spoken):
    """A section of the book: ``part`` is its number."""

    @cached_property
    def _timed(self) -> tuple[list[Word], list[str]]:
        assert self.words is not None
        return read_section(self.words, int(self.part))


@dataclass(frozen=True)
class LePetitPrince:
    """Le Petit Prince, read from its folder.

    Attributes
    ----------
    folder : Path
    mesh : str
        To which the volumes are projected.
    how : mapping
        Of `tribrain.brain.projection.project`.
    whole_book : bool
        Whether all sections are one group.
    """

    folder: Path
    mesh: str = "fsaverage5"
    how: Mapping[str, Any] = field(default_factory=dict)
    whole_book: bool = False
    name: str = "le-petit-prince"
    licence: str = "CC0"
    citation: str = (
        "Li et al. 2022, Scientific Data 9:530, doi:10.1038/s41597-022-01625-7; "
        "OpenNeuro ds003643, doi:10.18112/openneuro.ds003643.v2.0.5"
    )
    tested_on: str = "a synthetic copy of its layout"

    def runs(self) -> Iterator[Run | Problem]:
        """Up to nine runs a person."""
        people: dict[tuple[str, str], dict[int, Path]] = {}
        pattern = f"sub-*/func/sub-*_space-{TEMPLATE}_desc-preproc_bold.nii*"
        for path in sorted((Path(self.folder) / "derivatives").glob(pattern)):
            found = _NAME.match(path.name)
            if found is None or found["language"] not in LANGUAGES:
                yield Problem(path.name, "is no sub-LLnnn_task-lppLL_run-n with LL of EN, CN, FR")
                continue
            runs = people.setdefault((found["who"], found["language"]), {})
            if runs.setdefault(int(found["run"]), path) != path:
                yield Problem(path.name, "is that run once more; the first file is used")
        if not people:
            yield Problem(str(self.folder), f"holds no derivatives/{pattern}")
        parts: dict[tuple[str, int], Shown] = {}
        for (who, language), numbered in people.items():
            yield from self._of_person(who, language, sorted(numbered.items()), parts)

    def _of_person(
        self,
        who: str,
        language: str,
        numbered: Sequence[tuple[int, Path]],
        parts: dict[tuple[str, int], Shown],
    ) -> Iterator[Run | Problem]:
        lengths: list[int | None] = []
        for _, path in numbered:
            try:
                lengths.append(VolumeBold(path, TEMPLATE, REPETITION_TIME).header()[0])
            except InputError:  # `usable` tells it below
                lengths.append(None)
        found = sections(lengths, language)
        for (number, path), section, volumes in zip(numbered, found, lengths, strict=True):
            name = f"sub-{who}_task-lpp{language}_run-{number}"
            if section is None:
                yield Problem(
                    name,
                    f"{len(numbered)} runs of {who}, and their volumes do not tell which section "
                    f"this one of {volumes} is; nine runs of {VOLUMES[language]} fit",
                )
                continue
            try:
                if (language, section) not in parts:
                    shown = parts[language, section] = self._shown(language, section)
                    if shown.source.files == (self._words(language),):
                        yield Problem(
                            f"task-lpp{language}_section-{section}",
                            "its sound is not in stimuli; it is heard as words alone",
                            fatal=False,
                        )
            except InputError as error:
                yield Problem(name, str(error))
                continue
            run = Run(
                study=self.name,
                subject=who,
                task=f"lpp{language}",
                number=str(number),
                bold=VolumeBold(path, TEMPLATE, REPETITION_TIME, self.mesh, self.how),
                repetition_time=REPETITION_TIME,
                shown=(parts[language, section],),
            )
            right = VOLUMES[language][section - 1]
            for item in usable(run, slack=REPETITION_TIME):
                if isinstance(item, Run) and volumes != right:
                    yield Problem(
                        name,
                        f"{volumes} volumes, and section {section} has {right} by the README",
                        fatal=False,
                    )
                yield item

    def _words(self, language: str) -> Path:
        return Path(self.folder, "annotation", language, f"lpp{language}_word_information.csv")

    def _shown(self, language: str, section: int) -> Shown:
        words, stimuli = self._words(language), Path(self.folder) / "stimuli"
        names = [f"task-lpp{language}_section{mark}{section}.wav" for mark in "-_"]
        sounds = [stimuli / name for name in names if (stimuli / name).is_file()]
        # Raised here, once, so that every run of the section is told of damage to its words.
        read_section(words, section)
        length = SOUND[language][section - 1]
        source = Section(
            medium=sounds[0] if sounds else None,
            words=words,
            part=str(section),
            length=length,
            language=LANGUAGES[language],
        )
        group = "le-petit-prince" if self.whole_book else f"le-petit-prince-{section}"
        return Shown(source, 0.0, length, group, condition=language)


def sections(volumes: Sequence[int | None], language: str) -> list[int | None]:
    """Which section each run of a person is, from the order of the runs and their volumes.

    Parameters
    ----------
    volumes : sequence of int or None
        Of the person's runs, in the order of their numbers; None where it cannot be read.

    Returns
    -------
    list of int or None
        1 to 9 in growing order; None where the volumes leave several possible.
    """
    known = VOLUMES[language]
    if len(volumes) > len(known):
        return [None] * len(volumes)
    ways = list(combinations(range(len(known)), len(volumes)))
    fits = [sum(known[s] == n for s, n in zip(way, volumes, strict=True)) for way in ways]
    best = [way for way, fit in zip(ways, fits, strict=True) if fit == max(fits)]
    found: list[int | None] = []
    for possible in zip(*best, strict=True):
        found.append(possible[0] + 1 if len(set(possible)) == 1 else None)
    return found
