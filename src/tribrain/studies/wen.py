"""Wen 2017: three people watch 23 silent film segments of 8 minutes (Wen et al. 2018).

The folder is ``video_fmri_dataset``, or the one that holds it: ``subjectN/fmri/segK/mni``
(18 training segments, twice), ``subjectN/fmri/testK/mni`` (5 test segments, ten times) and
``stimuli/segK.mp4``, ``testK.mp4``. Volumes lie in MNI152NLin6Asym.

What whoever reads them has to know:

- A volume takes 2.0 s. Headers state another repetition time: the study's own is used, and what
  the headers say is told once a person.
- By the data set's README a segment was shown with its first frame still for 12 s before and its
  last frame for 12 s after. In training segments and in test1 the recording began when 2 s of the
  film were over (245 volumes, `onset` -2 s); in test2 to test5 it began with the film (246
  volumes). That these two numbers of volumes are those of the files, and that they mean just this,
  is what users of the data found (their code is public); another number is refused.
- By the same README, test2_9 of subject3 was recorded "around 10 s" off the film. How much exactly
  is not known, so it is left out.
- Some test files are named ``testK_R.mni.nii.gz``.

Other facts are of the specification. The group is the segment: all showings of it stay together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tribrain.errors import InputError
from tribrain.studies.runs import Problem, Run, Shown
from tribrain.studies.sources import VolumeBold
from tribrain.studies.spoken import Spoken
from tribrain.studies.usable import usable

REPETITION_TIME = 2.0
SHOWINGS = {f"seg{k}": 2 for k in range(1, 19)} | {f"test{k}": 10 for k in range(1, 6)}
"""How often each segment was shown."""
WITH_THE_FILM = ("test2", "test3", "test4", "test5")
"""Segments whose recording began with the film; that of others began 2 s later."""
LATE = 2.0
VOLUMES = {True: 246, False: 245}
"""Of a recording that began with the film, or later."""
UNALIGNED = ("subject3", "test2", 9)
"""Subject, segment and showing that was recorded beside the film's clock."""


@dataclass(frozen=True)
class Wen:
    """The video-fMRI data set of Wen et al., read from a folder.

    Attributes
    ----------
    folder : Path
    mesh : str
        To which volumes are projected.
    how : mapping
        Of `tribrain.brain.projection.project`.
    """

    folder: Path
    mesh: str = "fsaverage5"
    how: Mapping[str, Any] = field(default_factory=dict)
    name: str = "wen2017"
    licence: str = "CC0 1.0"
    citation: str = (
        "Wen et al. 2018, Cerebral Cortex 28:4136-4160, doi:10.1093/cercor/bhx268; "
        "data: doi:10.4231/R7SF2TCW"
    )
    tested_on: str = "a synthetic copy of its layout"

    def runs(self) -> Iterator[Run | Problem]:
        """Every showing that the study had, for each person who is there."""
        people = sorted(path.name for path in self._root.glob("subject*") if path.is_dir())
        if not people:
            yield Problem(
                str(self._root), "holds no folders subjectN; give the folder video_fmri_dataset"
            )
        stimuli = self._root / "stimuli"
        films = {segment: Spoken(stimuli / f"{segment}.mp4") for segment in SHOWINGS}
        for person in people:
            stated: Counter[float] = Counter()
            for segment, count in SHOWINGS.items():
                for showing in range(1, count + 1):
                    film = films[segment]
                    yield from self._run(person, segment, showing, film, stated)
            if stated:
                told = ", ".join(f"{seconds:g} s ({n} runs)" for seconds, n in stated.items())
                yield Problem(
                    f"sub-{person.removeprefix('subject')}",
                    f"headers state a repetition time of {told}; the study's own, "
                    f"{REPETITION_TIME:g} s, is used",
                    fatal=False,
                )

    @property
    def _root(self) -> Path:
        below = Path(self.folder) / "video_fmri_dataset"
        return below if below.is_dir() else Path(self.folder)

    def _run(
        self,
        person: str,
        segment: str,
        showing: int,
        film: Spoken,
        stated: Counter[float],
    ) -> Iterator[Run | Problem]:
        """A showing; the repetition time of its header is counted where it is another."""
        subject = person.removeprefix("subject")
        where = f"sub-{subject}_task-{segment}_run-{showing}"
        if (person, segment, showing) == UNALIGNED:
            yield Problem(where, "is left out: recorded about 10 s beside the film", fatal=False)
            return
        try:
            path, length = self._volume(person, segment, showing), film.duration()
        except InputError as error:
            yield Problem(where, str(error))
            return
        with_the_film = segment in WITH_THE_FILM
        run = Run(
            study=self.name,
            subject=subject,
            task=segment,
            number=str(showing),
            bold=VolumeBold(path, "MNI152NLin6Asym", REPETITION_TIME, self.mesh, self.how),
            repetition_time=REPETITION_TIME,
            shown=(Shown(film, 0.0 if with_the_film else -LATE, length, group=segment),),
        )
        for item in usable(run, volumes=VOLUMES[with_the_film], trust_header=False):
            if isinstance(item, Run):
                header = item.bold.header()[1]
                if header is not None and header != REPETITION_TIME:
                    stated[header] += 1
            yield item

    def _volume(self, person: str, segment: str, showing: int) -> Path:
        folder = self._root / person / "fmri" / segment / "mni"
        paths = [folder / f"{segment}_{showing}{end}.nii.gz" for end in ("_mni", ".mni")]
        there = [path for path in paths if path.is_file()]
        if len(there) > 1:
            raise InputError(f"{there[0].name} and {there[1].name} are the same run; keep one")
        return there[0] if there else paths[0]
