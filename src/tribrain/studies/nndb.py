"""NNDb: 86 people each watch one of ten whole films (Aliko et al. 2020), OpenNeuro ds002837.

The folder is that of the data set::

    derivatives/sub-1/func/sub-1_task-500daysofsummer_bold_no_blur_no_censor_ica.nii.gz
    stimuli/task-500daysofsummer_word-annotation.1D     word, onset, offset, parted by spaces

The films are not distributed: who has one puts it into a folder of films, named as its task
(``500daysofsummer.mkv``); without it the stimulus is its words.

What is from where: the derivatives' names, the template ("all files are aligned to N27 MNI
template"), the steps (pauses between runs corrected for, runs joined) and the three columns of
the words from the data set's READMEs and its list of files; the length of each film, which is
the number of volumes too, from the authors' code (github.com/lab-lab/nndb,
nndb_network_labelling_main.sh: ``movie_length``, with 1 s a volume). The name of the file of
words follows that of the faces, ``task-500daysofsummer_face-annotation.1D``; any
``task-FILM_word*.1D`` is taken.

Clock: the joined series begins with the film, and second t of the film is volume t. Each film is
one group.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tribrain.errors import InputError
from tribrain.stimuli.encoding import read_any_text
from tribrain.stimuli.media import VIDEO_SUFFIXES
from tribrain.stimuli.words import Word
from tribrain.studies.runs import Problem, Run, Shown
from tribrain.studies.sources import VolumeBold
from tribrain.studies.spoken import Spoken, timed_words
from tribrain.studies.usable import usable

REPETITION_TIME = 1.0
TEMPLATE = "MNIColin27"
FILMS = {
    "12yearsaslave": 7715,
    "500daysofsummer": 5470,
    "backtothefuture": 6674,
    "citizenfour": 6804,
    "littlemisssunshine": 5900,
    "pulpfiction": 8882,
    "split": 6739,
    "theprestige": 7515,
    "theshawshankredemption": 8181,
    "theusualsuspects": 6102,
}
"""Seconds of each film as it was shown, by task."""
KINDS = ("no_blur_no_censor_ica", "blur_no_censor_ica", "no_blur_no_censor", "blur_no_censor")
"""Smoothed to 6 mm or not, artefacts taken out by ICA or not. The censored series are not read:
which volumes they lack is not in them."""

_NAME = re.compile(r"sub-(?P<who>[^_]+)_task-(?P<film>[^_]+)_bold_")
_OFF_BY = 2.0  # s that a user's film may differ from the one that was shown


def read_words(path: Path) -> tuple[list[Word], list[str]]:
    """Words of an annotation of NNDb: word, onset, offset, parted by spaces.

    Raises
    ------
    InputError
        Another number of cells in a row; a cell that is no time.
    """
    content, _ = read_any_text(path, "word annotation")
    rows = []
    for number, line in enumerate(content.splitlines(), start=1):
        cells = line.split()
        if not cells:
            continue
        if len(cells) != 3:
            raise InputError(f"{path}, row {number}: {line.strip()!r}; word, onset and offset fit")
        rows.append((number, cells[0], cells[1], cells[2]))
    return timed_words(rows, str(path))


@dataclass(frozen=True)
class Nndb:
    """The Naturalistic Neuroimaging Database, read from its folder.

    Attributes
    ----------
    folder : Path
    films : Path, optional
        Folder of the user's own copies of the films.
    kind : str
        One of `KINDS`: which derivative is read.
    mesh : str
        To which the volumes are projected.
    how : mapping
        Of `tribrain.brain.projection.project`.
    """

    folder: Path
    films: Path | None = None
    kind: str = "no_blur_no_censor_ica"
    mesh: str = "fsaverage5"
    how: Mapping[str, Any] = field(default_factory=dict)
    name: str = "nndb"
    licence: str = "CC0; the films are not distributed"
    citation: str = (
        "Aliko et al. 2020, Scientific Data 7:347, doi:10.1038/s41597-020-00680-2; "
        "OpenNeuro ds002837"
    )
    tested_on: str = "a synthetic copy of its layout"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"kind {self.kind!r} is unknown; known: {', '.join(KINDS)}")

    def runs(self) -> Iterator[Run | Problem]:
        """One run a person: the whole film."""
        pattern = f"sub-*/func/sub-*_bold_{self.kind}.nii*"
        paths = sorted((Path(self.folder) / "derivatives").glob(pattern))
        if not paths:
            yield Problem(str(self.folder), f"holds no derivatives/{pattern}")
        shown: dict[str, Shown] = {}
        for path in paths:
            found = _NAME.match(path.name)
            if found is None or found["film"] not in FILMS:
                yield Problem(path.name, f"is of no known film; known: {', '.join(FILMS)}")
                continue
            film = found["film"]
            name = f"sub-{found['who']}_task-{film}"
            try:
                if film not in shown:
                    shown[film] = self._shown(film)
                    yield from self._odd(film, shown[film])
            except InputError as error:
                yield Problem(name, str(error))
                continue
            run = Run(
                study=self.name,
                subject=found["who"],
                task=film,
                bold=VolumeBold(path, TEMPLATE, REPETITION_TIME, self.mesh, self.how),
                repetition_time=REPETITION_TIME,
                shown=(shown[film],),
            )
            yield from usable(run, slack=REPETITION_TIME)

    def _shown(self, film: str) -> Shown:
        words = sorted((Path(self.folder) / "stimuli").glob(f"task-{film}_word*.1D"))
        own = sorted(Path(self.films).glob(f"{film}.*")) if self.films is not None else []
        own = [path for path in own if path.suffix.lower() in VIDEO_SUFFIXES]
        if not words and not own:
            raise InputError(
                f"neither stimuli/task-{film}_word-annotation.1D nor a film {film}.* is there"
            )
        if len(own) > 1:
            raise InputError(f"{len(own)} films: {', '.join(p.name for p in own)}; one fits")
        if words:
            read_words(words[0])  # so that damage is told here, of every run of the film
        source = Spoken(
            medium=own[0] if own else None,
            words=words[0] if words else None,
            read=read_words if words else None,
            length=FILMS[film],
        )
        return Shown(source, 0.0, FILMS[film], group=film)

    def _odd(self, film: str, shown: Shown) -> Iterator[Problem]:
        source = shown.source
        assert isinstance(source, Spoken)
        if source.words is None:
            yield Problem(f"task-{film}", "its words are not in stimuli", fatal=False)
        if source.medium is None:
            return
        length = source.duration()
        if abs(length - FILMS[film]) > _OFF_BY:
            yield Problem(
                f"task-{film}",
                f"{source.medium.name} lasts {length:g} s, and what was shown {FILMS[film]} s; "
                "another cut or speed (PAL is 4 % faster) has other seconds",
                fatal=False,
            )
