"""Alice: people hear a chapter of Alice in Wonderland (Brennan et al. 2016), in six regions.

The folder holds the two that the authors share: ``alice_data_shared`` (``10mm/sNN-timecourses.txt``
and ``6mm/...``: 362 rows of 2 s, six regions; motion, word rate, sound power, linguistic
predictors) and ``alice_stim_shared`` (the TextGrid with the times of 2,127 words; the audiobook
itself is not there). One of the 28 people, s33, has zeros alone.

Clock: the sound begins with 20 s of silence, and the ten volumes measured in them were discarded
from the regions' series, so row i of the BOLD was measured at 20 + 2 i seconds of the TextGrid.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tribrain.brain.spaces import parcel_space
from tribrain.errors import InputError
from tribrain.files import require_file
from tribrain.stimuli.transcripts import read_transcript
from tribrain.stimuli.words import Word
from tribrain.studies.arrays import ArrayBold, read_array
from tribrain.studies.runs import Problem, Run, Shown
from tribrain.studies.spoken import Spoken

if TYPE_CHECKING:
    import pandas as pd

RADII = ("10mm", "6mm")
REGIONS = ("LATL", "RATL", "LPTL", "LIPL", "LPreM", "LIFG")
"""Anterior temporal left and right; left posterior temporal, inferior parietal, premotor, inferior
frontal: the columns of the regions' files, by the data set's README."""
REPETITION_TIME = 2.0
ROWS = 362
DISCARDED = 10
"""Volumes that the regions' series lack at the start, and the other series of 372 rows have."""

WORDS = Path("alice_stim_shared", "DownTheRabbitHoleFinal_exp120_pad_1.TextGrid")
PREDICTORS = "sept18-generic-predictors-under-hrf-with-logfrqhal.txt"
PREDICTOR_NAMES = (
    "rate_conv frq_conv_orth break_conv_orth tdp_conv_orth tdx_conv_orth bup_conv_orth "
    "bux_conv_orth cfgsurp_conv_orth bigramlex_conv_orth trigramlex_conv_orth "
    "bigrampos_conv_orth trigrampos_conv_orth"
).split()
MOTION_NAMES = "trans_x trans_y trans_z rot_x rot_y rot_z".split()
"""Of SPM's realignment: millimetres, radians."""


def read_words(path: Path) -> tuple[list[Word], list[str]]:
    """Words of the TextGrid; a function of this module, so that a store can name it."""
    return read_transcript(path)


@dataclass(frozen=True)
class Alice:
    """The Alice study, read from a folder.

    Attributes
    ----------
    folder : Path
    radius : {"10mm", "6mm"}
        Of the spheres over which the regions are averaged.
    """

    folder: Path
    radius: str = "10mm"
    name: str = "alice"
    licence: str = "CC BY 4.0"
    citation: str = "Brennan et al. 2016, Brain and Language 157-158:81-94"
    tested_on: str = "real data"

    def __post_init__(self) -> None:
        if self.radius not in RADII:
            raise InputError(f"radius {self.radius!r} is unknown; known: {', '.join(RADII)}")

    def runs(self) -> Iterator[Run | Problem]:
        """One run a person, all with the same words."""
        source = Spoken(None, Path(self.folder) / WORDS, read_words)
        try:
            duration = source.duration()
            people = self._people()
        except InputError as error:
            yield Problem("task-alice", f"{error}; nobody's run can be used")
            return
        # The sound was started before the first volume that was kept.
        onset = -DISCARDED * REPETITION_TIME
        shown = (Shown(source, onset=onset, duration=duration, group="alice"),)
        space = parcel_space(f"brennan2016-{self.radius}", REGIONS)
        for person in people:
            path = self._data / self.radius / f"{person}-timecourses.txt"
            bold = ArrayBold(path, space, REPETITION_TIME)
            run = Run(self.name, person, "alice", bold, REPETITION_TIME, shown)
            try:
                unmeasured = _check(bold)
            except InputError as error:
                yield Problem(run.name, str(error))
                continue
            if unmeasured:
                yield Problem(run.name, f"{unmeasured} of {ROWS} rows hold NaN", fatal=False)
            yield run

    def nuisance(self, subject: str) -> pd.DataFrame:
        """What may explain a person's BOLD without any language model, at the times of its rows.

        Parameters
        ----------
        subject : str
            As in the runs: "s18".

        Returns
        -------
        DataFrame (362, 20)
            Index ``time``: seconds of the run, 2 s apart. Columns: ``word_rate`` and
            ``sound_power``, under a haemodynamic response; six of motion (`MOTION_NAMES`), mm and
            radians; the twelve linguistic predictors (`PREDICTOR_NAMES`), under a response, all
            but the first orthogonal to it. Units are those of the files.

        Raises
        ------
        InputError
            A person who is not there; a file that is missing, damaged or of other rows.
        """
        import pandas as pd

        people = self._people()
        if subject not in people:
            raise InputError(f"subject {subject!r} is not in {self._data}: {', '.join(people)}")
        motion = sorted(self._data.glob(f"{subject}-rp_*.txt"))
        if len(motion) != 1:
            raise InputError(f"{len(motion)} files {self._data / subject}-rp_*.txt; one fits")
        tables = [
            _series(self._data / f"{subject}-rate.txt", ["word_rate"]),
            _series(self._data / f"{subject}-sndpwr.txt", ["sound_power"]),
            _series(motion[0], MOTION_NAMES, DISCARDED),
            _series(self._data / PREDICTORS, PREDICTOR_NAMES, DISCARDED),
        ]
        whole = pd.concat([pd.DataFrame(table) for table in tables], axis=1)
        return whole.set_index(pd.Index(REPETITION_TIME * np.arange(ROWS), name="time"))

    @property
    def _data(self) -> Path:
        return Path(self.folder) / "alice_data_shared"

    def _people(self) -> list[str]:
        """Everyone of whom any file is there."""
        files = [*self._data.glob("s*-*.txt"), *(self._data / self.radius).glob("s*-*.txt")]
        found = {m[1] for file in files if (m := re.match(r"(s\d+)-", file.name))}
        if not found:
            raise InputError(f"{self._data} holds no files sNN-*.txt; give the folder above it")
        return sorted(found)


def _check(bold: ArrayBold) -> int:
    """Refuse a table that is not a whole run, and count its rows with NaN."""
    rows, _ = bold.header()
    if rows != ROWS:
        raise InputError(f"{bold.path} has {rows} rows; the chapter has {ROWS}")
    values = bold.load().values
    if not np.nan_to_num(values).any():
        raise InputError(f"{bold.path} holds nothing but 0 or NaN: nothing was measured")
    return int(np.isnan(values).any(1).sum())


def _series(path: Path, names: list[str], discarded: int = 0) -> dict[str, np.ndarray]:
    """Columns of a file, without the rows that the regions' series do not have."""
    table = read_array(require_file(path, "series"))
    if table.shape != (ROWS + discarded, len(names)):
        raise InputError(f"{path} has shape {table.shape}; {(ROWS + discarded, len(names))} fits")
    return dict(zip(names, table[discarded:].T, strict=True))


FOLD_EDGES = (8, 78, 149, 220, 291, 362)
GAP = 8


def folds() -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows (train, test) of the benchmark's five contiguous folds.

    Rows under 8 are in none. Eight rows (16 s) on either side of the test rows are not trained on,
    as their BOLD still follows the words of the test rows, or the other way round.

    Returns
    -------
    list of (ndarray, ndarray), int
        As scikit-learn's cross-validators split.
    """
    rows = np.arange(FOLD_EDGES[0], FOLD_EDGES[-1])
    parts = []
    for first, last in pairwise(FOLD_EDGES):
        far = (rows < first - GAP) | (rows >= last + GAP)
        parts.append((rows[far], np.arange(first, last)))
    return parts
