"""A simulated study, of which everything is known: for tests, and for what real data cannot tell.

The BOLD of person s at vertex v and second t of a run in which film f is shown is ::

    y_s(t, v) = k [ sum_c A_sc(v) (h_s * x_fc)(t) + sum_u B_su(v) (h_s * z_sfu)(t) ] + e(t, v)

Drives ``x`` (`simulated_stimuli`)
    The 11 features of the textbook table (words, sounds, the halves of the picture), 2 a second,
    0 before and after the film; divided by their standard deviation after the haemodynamic
    response. With ``nonlinear``, three more that no linear model of the first reaches: sound and
    motion that are high or low together, changes of the picture less the more there were before
    (divisive adaptation), and words by what was said in the 20 s before (context). In the
    regions that they move, a linear model then reaches half to three quarters of the ceiling.
Features
    What a model is given: rotations of the drives of each modality together with AR(1) series
    that drive nothing and are about as large, in two layers of which the second is smoothed. The
    drives are linear in them.
Maps ``A`` (`simulated_brains`)
    ``A_sc(v) = g_s(v) M_c(v + d_s(v)) + own``. M: each region of the textbook table follows its
    features, spread over its width; cortex outside the regions has smooth random weights. d: a
    smooth displacement (5 mm; functional areas lie millimetres, some a centimetre apart in two
    brains aligned by their folds: Fischl et al. 2008, Cereb Cortex 18:1973-1980; Frost & Goebel
    2012, NeuroImage 59:1369-1381). g: a gain a region, log-normal. own: smooth random weights.
Unexplained part ``B z``
    Series of the person that repeat with the film and follow from no feature. They belong to what
    "own" knows and repeats measure, and not to what "features" knows.
Haemodynamic response ``h``
    The canonical double gamma, the same for all vertices of a person and later or earlier by a
    Gaussian delay (people differ more than regions of one person: Aguirre et al. 1998, NeuroImage
    8:360-369; Handwerker et al. 2004, NeuroImage 21:1639-1651).
Noise ``e`` (`simulated_signal.Noise`)
    AR(1) of variance 1 (Woolrich et al. 2001, NeuroImage 14:1370-1386, on its autocorrelation),
    slow cosines, and volumes in which the head moved; neighbouring vertices share some of it.
Signal-to-noise ratio
    ``k`` is such that over the vertices of the regions and over people the mean variance of the
    signal, while a film is shown, is ``snr ** 2`` of that of the AR(1) noise.

What a model can score is worked out from the realised signal and the covariance of the noise
(`Truth.ceiling`, `Truth.reachable`): nothing is estimated, and the signal need not be stationary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tribrain.brain.series import BoldSeries
from tribrain.brain.spaces import Space
from tribrain.errors import InputError
from tribrain.studies.runs import FeatureArrays, Run, Shown
from tribrain.studies.simulated_brains import People, World
from tribrain.studies.simulated_places import regions_of, space_of, spread_of_noise
from tribrain.studies.simulated_signal import Noise
from tribrain.studies.simulated_stimuli import (
    DRIVES,
    LINEAR,
    RATE,
    generator,
    model_features,
    reference,
    stack_drives,
    synthetic_drives,
    synthetic_reference,
)
from tribrain.studies.simulated_truth import Prepare, Truth

if TYPE_CHECKING:
    import pandas as pd

_FILM, _MIXING, _NUISANCE, _NOISE = 10, 11, 12, 14  # keys of random numbers


@dataclass(frozen=True, eq=False)
class SimulatedFeatures(FeatureArrays):
    """Features that were made and lie in no file."""

    @property
    def files(self) -> tuple[Path, ...]:
        return ()


@dataclass(frozen=True, eq=False)
class Simulated:
    """A simulated study; the docstring of the module says how it is made.

    A run depends on the seed, the person, the film and the repeat alone: not on the order in
    which runs are read, nor on how many people or films there are.

    Attributes
    ----------
    seed : int
    n_subjects, films : int
    minutes : float
        Length of each film.
    space : {"fsaverage3", "fsaverage4", "fsaverage5"} or int
        A mesh, or a number of parcels (2 to 1000).
    repetition_time : float
        Seconds.
    snr : float
        Standard deviation of the signal by that of the AR(1) noise, in the regions.
    nonlinear : bool
    repeats : int
        How often a person sees each film.
    rest : float
        Seconds before and after a film.
    dims : int
        Features of each modality and layer.
    stimuli : sequence of FeatureArrays
        In place of synthetic films: the textbook features of films, each modality (1, features,
        time), 2 samples a second, as `TextbookModel.extract` returns them. `films` and `minutes`
        are then not used.
    people : People
    noise : Noise

    Raises
    ------
    InputError
        Says what fits.

    Examples
    --------
    >>> study = Simulated(n_subjects=2, films=2, minutes=1.0)
    >>> [run.name for run in study.runs()]  # doctest: +NORMALIZE_WHITESPACE
    ['sub-01_task-film1_run-1', 'sub-01_task-film2_run-1',
     'sub-02_task-film1_run-1', 'sub-02_task-film2_run-1']
    """

    seed: int = 0
    n_subjects: int = 8
    films: int = 6
    minutes: float = 10.0
    space: str | int = "fsaverage3"
    repetition_time: float = 1.5
    snr: float = 0.5
    nonlinear: bool = False
    repeats: int = 1
    rest: float = 12.0
    dims: int = 12
    stimuli: Sequence[FeatureArrays] = ()
    people: People = field(default_factory=People)
    noise: Noise = field(default_factory=Noise)

    name = "simulated"
    licence = "CC0-1.0"
    citation = "Simulated by tribrain; no one was scanned."
    tested_on = "its own truth"

    def __post_init__(self) -> None:
        least = len(max(DRIVES.values(), key=len))
        whole = {
            "seed": (0, 2**63),
            "n_subjects": (1, 10_000),
            "films": (1, 10_000),
            "repeats": (1, 1000),
            "dims": (least, 1024),
        }
        for name, (low, high) in whole.items():
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or not low <= value <= high:
                raise InputError(f"{name} is {value!r}; a whole number from {low} to {high} fits")
        ranges = {"minutes": (0.2, 600), "snr": (1e-6, 1e6), "repetition_time": (0.1, 10)}
        for name, (lowest, highest) in (ranges | {"rest": (0, 600)}).items():
            value = getattr(self, name)
            if not isinstance(value, int | float | np.number) or not lowest <= value <= highest:
                raise InputError(f"{name} is {value!r}; {lowest:g} to {highest:g} fit")
        if not isinstance(self.nonlinear, bool | np.bool_):
            raise InputError(f"nonlinear is {self.nonlinear!r}; True or False fits")
        space_of(self.space)
        if isinstance(self.stimuli, str) or not isinstance(self.stimuli, Sequence):
            kind = type(self.stimuli).__name__
            raise InputError(f"stimuli is of type {kind}; a list of FeatureArrays fits")
        for stimulus in self.stimuli:
            _check_stimulus(stimulus)

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: what was worked out is worked out again in another process."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def runs(self) -> Iterator[Run]:
        """Every run: people, then films, then repeats."""
        sources = [self.features(film) for film in self.film_names]
        for subject in self.subjects:
            for film, source in zip(self.film_names, sources, strict=True):
                for repeat in range(1, self.repeats + 1):
                    yield Run(
                        study=self.name,
                        subject=subject,
                        task=film,
                        number=str(repeat),
                        bold=SimulatedBold(self, subject, film, repeat),
                        repetition_time=self.repetition_time,
                        shown=(Shown(source, self.rest, source.duration(), group=film),),
                    )

    @property
    def subjects(self) -> tuple[str, ...]:
        """``01``, ``02``, ..."""
        return tuple(f"{number:02d}" for number in range(1, self.n_subjects + 1))

    @property
    def film_names(self) -> tuple[str, ...]:
        """``film1``, ``film2``, ..."""
        count = len(self.stimuli) or self.films
        return tuple(f"film{number}" for number in range(1, count + 1))

    @cached_property
    def bold_space(self) -> Space:
        return space_of(self.space)

    @property
    def regions(self) -> dict[str, np.ndarray]:
        """Values that belong to each region of the textbook table."""
        return regions_of(self.space)

    def features(self, film: str) -> FeatureArrays:
        """What a model is given of a film: text, audio and video, each (2, dims, time), 2 Hz."""
        drives, number = self.known.film(film), self.film_names.index(film)
        mixing, made = generator(self.seed, _MIXING), generator(self.seed, _NUISANCE, number)
        scale = self.known.reference.scale[: len(LINEAR), None]
        series = model_features(drives / scale, self.dims, mixing, made)
        return SimulatedFeatures(series, RATE, Path("simulated") / film)

    def truth(self, subject: str, film: str, knows: str = "own") -> np.ndarray:
        """The signal without noise (time, n), float32; NaN in the medial wall.

        Parameters
        ----------
        subject, film : str
        knows : {"own", "features", "group"}
            All that repeats in this person, what of it follows from features, or `group_truth`.
        """
        return self.known.signal(subject, film, knows).values()

    def group_truth(self, film: str) -> np.ndarray:
        """The mean signal of the population (time, n): the best guess for a new person.

        It is the mean of 32 people who are not in the study, without what is each one's own.
        """
        return self.known.group_signal(film).values()

    def true_features(self, film: str, subject: str | None = None) -> np.ndarray:
        """Drives after the haemodynamic response (`Truth.true_features`)."""
        return self.known.true_features(film, subject)

    def times(self, film: str) -> np.ndarray:
        """Seconds of the run at which its volumes are measured (time,)."""
        return self.known.times(film)

    def ceiling(
        self,
        subjects: str | Sequence[str],
        knows: str = "own",
        *,
        linear: bool = False,
        films: Sequence[str] | None = None,
        prepare: Prepare | None = None,
        repeats: int = 1,
    ) -> np.ndarray:
        """The score that is expected of one who knows the truth (`Truth.ceiling`)."""
        return self.known.ceiling(
            subjects, knows, linear=linear, films=films, prepare=prepare, repeats=repeats
        )

    def reachable(
        self, films: Sequence[str] | None = None, prepare: Prepare | None = None
    ) -> pd.DataFrame:
        """The scores that linear and other models can reach (`Truth.reachable`)."""
        return self.known.reachable(films, prepare)

    @cached_property
    def known(self) -> Truth:
        """All that is known of the study."""
        if self.stimuli:
            drives = [stack_drives(stimulus.series) for stimulus in self.stimuli]
            found = reference(drives)
        else:
            samples = round(self.minutes * 60 * RATE)
            drives = [_synthetic(self.seed, number, samples) for number in range(self.films)]
            found = synthetic_reference()
        return Truth(
            World(self.seed, self.space, self.nonlinear, self.people),
            self.subjects,
            dict(zip(self.film_names, drives, strict=True)),
            found,
            self.noise,
            self.snr,
            self.repetition_time,
            self.rest,
        )


@dataclass(frozen=True, eq=False)
class SimulatedBold:
    """The BOLD of a run, made when it is read.

    Attributes
    ----------
    study : Simulated
    subject, film : str
    repeat : int
        From 1.
    """

    study: Simulated
    subject: str
    film: str
    repeat: int = 1

    @property
    def files(self) -> tuple[Path, ...]:
        return ()

    @property
    def space(self) -> Space:
        """Known without making the BOLD."""
        return self.study.bold_space

    def header(self) -> tuple[int, float | None]:
        """Number of volumes and repetition time."""
        return len(self.study.times(self.film)), self.study.repetition_time

    def load(self) -> BoldSeries:
        """The signal with noise; NaN in the medial wall."""
        study = self.study
        people, films = study.subjects.index(self.subject), study.film_names.index(self.film)
        rng = generator(study.seed, _NOISE, people, films, self.repeat)
        values = study.noise.draw(
            rng, self.header()[0], study.repetition_time, spread_of_noise(study.space)
        )
        values += study.truth(self.subject, self.film)
        return BoldSeries(values, study.bold_space, study.repetition_time)


@lru_cache(maxsize=64)
def _synthetic(seed: int, number: int, samples: int) -> np.ndarray:
    drives = synthetic_drives(generator(seed, _FILM, number), samples)
    drives.setflags(write=False)
    return drives


def _check_stimulus(stimulus: FeatureArrays) -> None:
    """Refuse what are not textbook features at 2 Hz."""
    if not isinstance(stimulus, FeatureArrays):
        kind = type(stimulus).__name__
        raise InputError(f"stimuli holds something of type {kind}; a list of FeatureArrays fits")
    if stimulus.rate != RATE:
        raise InputError(f"{stimulus.file}: {stimulus.rate:g} samples a second; {RATE:g} fit")
    for modality, array in stimulus.series.items():
        if modality not in DRIVES:
            raise InputError(
                f"{stimulus.file}: {modality!r} is unknown; known: {', '.join(DRIVES)}"
            )
        names = DRIVES[modality]
        if array.shape[:2] != (1, len(names)):
            raise InputError(
                f"{stimulus.file}: {modality} has shape {array.shape}; (1, {len(names)}, time) "
                f"fits: {', '.join(names)}"
            )
        if array.shape[2] < 10 * RATE:
            raise InputError(f"{stimulus.file} lasts {array.shape[2] / RATE:g} s; 10 s or more fit")
        if not np.isfinite(array).all():
            raise InputError(f"{stimulus.file}: {modality} has values that are not finite")
