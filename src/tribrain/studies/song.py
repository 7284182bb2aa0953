"""SONG: 27 people watch two sitcom episodes and a nature film (Song et al. 2023), in 200 parcels.

The folder holds ``song_schaefer200_float16.npz`` (an array a film, people x rows x parcels, and the
people's names) and ``input/FILM_input_pc.npy`` (100 components of what is seen, heard and said, a
row each second). The films themselves are not there.

What whoever trains on it has to know:

- A row is a second, of the BOLD and of the components alike. The films last 1475.4, 1454.5 and
  1271.1 s (``events.tsv``); both have about ten rows more.
- The components follow the haemodynamic response already: row t of them goes with row t of the
  BOLD (`Song.lag`).
- They are one PCA of all three films, whitened: they have seen the rows that are tested, and all
  have the same variance. Scaling component k by k^-0.25 to k^-0.5 gives back some of the order of
  importance, from which every model gains.
- The first ten rows of a run are unsteady, and left out (`DISCARDED`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tribrain.brain.spaces import parcel_space
from tribrain.errors import InputError
from tribrain.studies.arrays import ArrayBold, array_shape, read_array
from tribrain.studies.runs import FeatureArrays, Problem, Run, Shown

FILMS = ("sitcomep1", "sitcomep2", "documentary")
RECORDINGS = "song_schaefer200_float16.npz"
MODALITY = "components"
"""Name of the one feature series."""
DISCARDED = 10
"""Rows at the start of each run that are left out."""

# Parcels of Schaefer et al. 2018 (Cerebral Cortex 28:3095-3114), 200 in 7 networks: the regions of
# each hemisphere in the order of their numbers, and how many parcels each has.
_LEFT = """
    Vis 14, SomMot 16, DorsAttn_Post 10, DorsAttn_FEF 2, DorsAttn_PrCv 1, SalVentAttn_ParOper 3,
    SalVentAttn_FrOperIns 4, SalVentAttn_PFCl 1, SalVentAttn_Med 3, Limbic_OFC 2,
    Limbic_TempPole 4, Cont_Par 3, Cont_Temp 1, Cont_OFC 1, Cont_PFCl 5, Cont_pCun 1, Cont_Cing 2,
    Default_Temp 5, Default_Par 4, Default_PFC 13, Default_pCunPCC 4, Default_PHC 1"""
_RIGHT = """
    Vis 15, SomMot 19, DorsAttn_Post 10, DorsAttn_FEF 2, DorsAttn_PrCv 1, SalVentAttn_TempOccPar 3,
    SalVentAttn_PrC 1, SalVentAttn_FrOperIns 4, SalVentAttn_Med 3, Limbic_OFC 3,
    Limbic_TempPole 3, Cont_Par 3, Cont_Temp 1, Cont_PFCv 1, Cont_PFCl 7, Cont_pCun 1, Cont_Cing 2,
    Cont_PFCmp 2, Default_Par 3, Default_Temp 5, Default_PFCv 1, Default_PFCdPFCm 7,
    Default_pCunPCC 3"""


def _parcels(hemisphere: str, regions: str) -> list[str]:
    counts = [entry.split() for entry in regions.split(",")]
    return [f"7Networks_{hemisphere}_{r}_{i + 1}" for r, n in counts for i in range(int(n))]


SPACE = parcel_space("schaefer200", _parcels("LH", _LEFT) + _parcels("RH", _RIGHT))


@dataclass(frozen=True)
class Song:
    """The SONG study, read from a folder.

    Attributes
    ----------
    folder : Path
    lag : float
        Seconds by which whoever reads the runs takes the BOLD later than the stimulus. The
        components hold that delay already, so they are placed `lag` seconds before the run's
        clock, and sample t meets the BOLD at t seconds.
    """

    folder: Path
    lag: float = 5.0
    name: str = "song"
    licence: str = "CC0 (raw data); this processed form has none: do not pass it on"
    citation: str = (
        "Song, Shim & Rosenberg 2023, eLife 12:e85487; OpenNeuro ds004592, "
        "doi:10.18112/openneuro.ds004592.v1.0.1"
    )
    tested_on: str = "real data"

    def runs(self) -> Iterator[Run | Problem]:
        """A run for each film and person; a film whose files do not fit together is a problem."""
        for film in FILMS:
            try:
                yield from self._runs_of(film)
            except InputError as error:
                yield Problem(f"task-{film}", f"{error}; nobody's run of it can be used")

    def _runs_of(self, film: str) -> list[Run]:
        recordings = Path(self.folder) / RECORDINGS
        people = [str(name) for name in read_array(recordings, f"{film}_subjects")]
        shape = array_shape(recordings, film)
        if len(shape) != 3 or (shape[0], shape[2]) != (len(people), SPACE.size):
            raise InputError(
                f"{recordings}, {film} has shape {shape}; {len(people)} people, rows of a second "
                f"and {SPACE.size} parcels fit"
            )
        components = self._components(film)
        if len(components) != shape[1]:
            raise InputError(
                f"{len(components)} rows of components and {shape[1]} of BOLD; both have a row "
                "each second from the start of the film on, so their numbers must be equal"
            )
        series = np.ascontiguousarray(components.T[None], np.float32)
        source = FeatureArrays({MODALITY: series}, 1.0, self._components_file(film))
        shown = Shown(source, onset=-self.lag, duration=source.duration(), group=film)
        return [
            Run(
                study=self.name,
                subject=person.removeprefix("sub-"),
                task=film,
                bold=ArrayBold(recordings, SPACE, 1.0, film, number, (DISCARDED, None)),
                repetition_time=1.0,
                shown=(shown,),
            )
            for number, person in enumerate(people)
        ]

    def _components_file(self, film: str) -> Path:
        return Path(self.folder) / "input" / f"{film}_input_pc.npy"

    def _components(self, film: str) -> np.ndarray:
        """Components of a film (rows, components)."""
        path = self._components_file(film)
        components = read_array(path)
        if components.ndim != 2 or components.dtype.kind != "f":
            raise InputError(
                f"{path} holds {components.dtype} of shape {components.shape}; real numbers "
                "(rows, components) fit"
            )
        bad = np.flatnonzero(~np.isfinite(components).all(1))
        if len(bad):
            raise InputError(f"{path} has {len(bad)} rows that are not finite, the first {bad[0]}")
        return components


Rows = tuple[int, int]
"""First row and the row after the last, counted from the start of the run; a row is a second."""


@dataclass(frozen=True)
class Split:
    """What is trained on and what is tested: rows of each film."""

    train: Mapping[str, Rows]
    test: Mapping[str, Rows]


_WHOLE = {"sitcomep1": (10, 1486), "sitcomep2": (10, 1465), "documentary": (10, 1281)}
_WITHIN = Split(
    train={"sitcomep1": (10, 1020), "sitcomep2": (10, 1005), "documentary": (10, 876)},
    test={"sitcomep1": (1040, 1486), "sitcomep2": (1025, 1465), "documentary": (896, 1281)},
)
SPLITS: dict[str, tuple[Split, ...]] = {
    "W3": (_WITHIN,),
    "X": tuple(
        Split({other: _WHOLE[other] for other in FILMS if other != film}, {film: _WHOLE[film]})
        for film in FILMS
    ),
}
"""The benchmark: W3 tests the last part of each film, X whole films that were not trained on.

Scores are of runs, then their mean over the three. BOLD is z-scored for each person, parcel and run
on the rows of each part.
"""

HELD_OUT = ("002", "007", "008", "012", "015", "018")
"""People of the benchmark who are never trained on."""
TRAINED = tuple(
    person for person in (f"{n:03d}" for n in (*range(1, 26), 27)) if person not in HELD_OUT
)
"""The other 20 of the 26 with all three runs (026 lacks one, and is left out)."""


def few_shot(minutes: float) -> dict[str, Rows]:
    """Rows of the first `minutes` of W3's training part: 20 rows a minute of each film.

    Raises
    ------
    InputError
        If the training part of a film is shorter than that.
    """
    rows = round(20 * minutes)
    most = min(last - first for first, last in _WITHIN.train.values())
    if not 0 < rows <= most:
        raise InputError(f"{minutes:g} minutes to adapt with; up to {most / 20:g} fit")
    return {film: (first, first + rows) for film, (first, _) in _WITHIN.train.items()}
