"""What is known of a simulated study: its signals without noise, and the scores they allow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from tribrain.errors import InputError
from tribrain.studies.simulated_brains import (
    UNEXPLAINED,
    Brain,
    Population,
    World,
    brain_of,
    population,
)
from tribrain.studies.simulated_places import measured, regions_of
from tribrain.studies.simulated_signal import (
    Noise,
    Signal,
    bold_of,
    expected_correlation,
    mean_of,
)
from tribrain.studies.simulated_stimuli import (
    LINEAR,
    RATE,
    Reference,
    autoregressive,
    generator,
    nonlinear_drives,
)

if TYPE_CHECKING:
    import pandas as pd

Prepare = Callable[[np.ndarray], np.ndarray]
"""A linear preparation of a run: (volumes, n) to (rows, n), such as detrending or resampling."""
KNOWS = ("own", "features", "group")

_UNEXPLAINED_KEY = 13  # of random numbers
_UNEXPLAINED_SECONDS = 4.0
_SCORES = {
    "own": ("own", False),
    "ceiling": ("features", False),
    "best_linear": ("features", True),
    "group": ("group", False),
    "group_linear": ("group", True),
}


def preparation(seconds: np.ndarray, repetition_time: float, *, detrend: bool = True) -> Prepare:
    """What `studies.prepare` does to a run by default, but for its scale.

    Parameters
    ----------
    seconds : ndarray (rows,)
        Seconds of the run that are scored, such as ``run.origin + np.arange(first, stop)`` of a
        `PreparedRun`. Between volumes the BOLD is interpolated.
    repetition_time : float
        Seconds; volumes are measured at its multiples.
    detrend : bool
        Take a straight line out of the whole run first.

    Returns
    -------
    callable
        From (volumes, n) to (rows, n); linear. A series with a NaN becomes NaN.
    """
    places = np.asarray(seconds, float) / repetition_time

    def prepare(values: np.ndarray) -> np.ndarray:
        if detrend:
            line = np.arange(len(values)) - (len(values) - 1) / 2
            slope = np.tensordot(line, values, axes=1) / (line @ line)
            values = values - values.mean(axis=0) - np.multiply.outer(line, slope)
        before = np.clip(places.astype(int), 0, len(values) - 2)
        part = (places - before)[:, None]
        return np.asarray(values[before] * (1 - part) + values[before + 1] * part)

    return prepare


@dataclass(frozen=True, eq=False)
class Truth:
    """The signals of people in films.

    Attributes
    ----------
    world : World
    subjects : tuple of str
    drives : mapping of str to ndarray (11, samples)
        By film, 2 Hz.
    reference : Reference
    noise : Noise
    snr, repetition_time, rest : float
        As in `Simulated`.
    """

    world: World
    subjects: tuple[str, ...]
    drives: Mapping[str, np.ndarray]
    reference: Reference
    noise: Noise
    snr: float
    repetition_time: float
    rest: float

    def times(self, film: str) -> np.ndarray:
        """Seconds of the run at which its volumes are measured (time,)."""
        length = 2 * self.rest + self.film(film).shape[1] / RATE
        return self.repetition_time * np.arange(int(length / self.repetition_time + 1e-9))

    def true_features(
        self, film: str, subject: str | None = None, *, linear: bool = False
    ) -> np.ndarray:
        """Drives after the haemodynamic response (time, drives), at the times of the run.

        Parameters
        ----------
        film : str
        subject : str, optional
            Whose response; by default the mean of people.
        linear : bool
            Nonlinear drives as the best linear model predicts them.
        """
        delays = self._population.delays if subject is None else (self._brain(subject).delay,)
        times = self.times(film) - self.rest
        drives = self.film(film)
        scale, count = self.reference.scale, len(LINEAR)
        bold = [bold_of(drives / scale[:count, None], RATE, times, delays)]
        if self.world.nonlinear and linear:
            found, start = self.reference.linear_estimate(drives / scale[:count, None])
            bold.append(bold_of(found, RATE, times, delays, start))
        elif self.world.nonlinear:
            bold.append(
                bold_of(nonlinear_drives(drives) / scale[count:, None], RATE, times, delays)
            )
        return np.concatenate(bold, axis=1)

    def signal(
        self, subject: str, film: str, knows: str = "own", *, linear: bool = False
    ) -> Signal:
        """What is known of a person in a film; parameters as in `ceiling`."""
        if knows not in KNOWS:
            raise InputError(f"knows={knows!r} is unknown; known: {', '.join(KNOWS)}")
        if knows == "group":
            return self.group_signal(film, linear=linear)
        brain = self._brain(subject)
        bold, maps = [self.true_features(film, subject, linear=linear)], [brain.maps]
        if knows == "own":
            numbers = self._number(subject), list(self.drives).index(film)
            rng = generator(self.world.seed, _UNEXPLAINED_KEY, *numbers)
            drives = self.film(film)
            series = autoregressive(rng, UNEXPLAINED, drives.shape[1], _UNEXPLAINED_SECONDS)
            series *= drives.any(axis=0) / _unexplained_scale()
            bold.append(bold_of(series, RATE, self.times(film) - self.rest, (brain.delay,)))
            maps.append(brain.unexplained)
        return self._masked(np.concatenate(bold, axis=1), np.concatenate(maps))

    def group_signal(self, film: str, *, linear: bool = False) -> Signal:
        """The mean of the population in a film."""
        return self._masked(self.true_features(film, linear=linear), self._population.maps)

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
        """The score that is expected of one who knows the truth.

        The score is the Pearson correlation over the rows of a run, averaged over films by their
        rows. (Where runs are z-scored, joining them gives the same.) The expectation is that over
        the noise (`simulated_signal.expected_correlation`, which simulation meets within 0.001);
        the signal is the one that these films bring about.

        Parameters
        ----------
        subjects : str or sequence of str
            A person, or people whose mean BOLD, as measured, is predicted (R_group).
        knows : {"own", "features", "group"}
            "own": all that repeats in these people (what repeats of a film measure); "features":
            what of it follows from features (what a model of these people reaches); "group": the
            mean of the population (zero-shot: what a model reaches for people it never saw).
        linear : bool
            Of what follows from the drives, what the best linear model of them reaches.
        films : sequence of str, optional
            All by default.
        prepare : callable, optional
            What is done to a run, and the prediction, before they are compared: any linear
            function of (volumes, n) to (rows, n). By default nothing.
        repeats : int
            How many repeats of each film the BOLD is the mean of.

        Returns
        -------
        ndarray (n,)
            NaN in the medial wall, 0 where what is known does not vary.
        """
        people = [subjects] if isinstance(subjects, str) else list(subjects)
        if not people:
            raise InputError(f"a ceiling of no one; subjects: {', '.join(self.subjects)}")
        if repeats < 1:
            raise InputError(f"a ceiling of {repeats} repeats; one or more fit")
        total, rows = np.zeros(len(measured(self.world.place))), 0
        for film in films or self.drives:
            truth = mean_of([self.signal(one, film) for one in people])
            if knows == "group":
                known = self.group_signal(film, linear=linear)
            else:
                known = mean_of([self.signal(one, film, knows, linear=linear) for one in people])
            noise = self.noise.covariance(len(self.times(film)), self.repetition_time)
            if prepare is not None:
                truth, known = (Signal(prepare(part.bold), part.maps) for part in (truth, known))
                noise = prepare(prepare(noise).T)
            score = expected_correlation(known, truth, noise / len(people) / repeats)
            total += len(truth.bold) * score
            rows += len(truth.bold)
        return total / rows

    def reachable(
        self, films: Sequence[str] | None = None, prepare: Prepare | None = None
    ) -> pd.DataFrame:
        """The scores that models can reach, a row a region and one for "all" that is measured.

        Returns
        -------
        DataFrame
            Means over values and people of the ceilings: own; features (``ceiling``); the best
            linear model's (``best_linear``), their difference (``gap``) and quotient (``share``);
            and, for people never seen, ``group`` and ``group_linear``.
        """
        import pandas as pd

        scores = {}
        for column, (knows, linear) in _SCORES.items():
            found = [
                self.ceiling(one, knows, linear=linear, films=films, prepare=prepare)
                for one in self.subjects
            ]
            scores[column] = np.mean(found, axis=0)
        places = regions_of(self.world.place) | {"all": np.flatnonzero(measured(self.world.place))}
        table = pd.DataFrame(
            {name: {column: values[index].mean() for column, values in scores.items()}
             for name, index in places.items()}
        ).T  # fmt: skip
        table.insert(3, "gap", table["ceiling"] - table["best_linear"])
        table.insert(4, "share", table["best_linear"] / table["ceiling"])
        return table.rename_axis("region")

    def film(self, film: str) -> np.ndarray:
        """Drives of a film (11, samples)."""
        if film not in self.drives:
            raise InputError(f"film {film!r} is unknown; known: {', '.join(self.drives)}")
        return self.drives[film]

    def _masked(self, bold: np.ndarray, maps: np.ndarray) -> Signal:
        there = measured(self.world.place)
        return Signal(bold, np.where(there, self._amplitude * maps, np.nan))

    @property
    def _population(self) -> Population:
        return population(self.world)

    def _brain(self, subject: str) -> Brain:
        return brain_of(self.world, self._number(subject))

    def _number(self, subject: str) -> int:
        if subject not in self.subjects:
            raise InputError(f"subject {subject!r} is unknown; known: {', '.join(self.subjects)}")
        return self.subjects.index(subject)

    @cached_property
    def _amplitude(self) -> float:
        """The factor k of the signal."""
        found = self._population
        parts = found.core.shape[1]
        covariance = self.reference.covariance[:parts, :parts]
        shared = np.einsum("pcn,cd,pdn->n", found.core, covariance, found.core, optimize=True)
        power = float(np.mean(shared / len(found.core) + found.own))
        return self.snr / np.sqrt(power) if power > 0 else 1.0


@lru_cache(maxsize=1)
def _unexplained_scale() -> float:
    """Standard deviation that an unexplained series has after the haemodynamic response."""
    lags = np.arange(round(40 * RATE)) / RATE
    response = bold_of(np.ones((1, 1)), RATE, lags)[:, 0]
    kept = np.exp(-np.abs(np.subtract.outer(lags, lags)) / _UNEXPLAINED_SECONDS)
    return float(np.sqrt(response @ kept @ response))
