"""Rows of the SONG benchmark: recordings of a split, scores, ceilings and bootstraps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tribrain.studies.prepared import PreparedStudy
from tribrain.studies.song import HELD_OUT, TRAINED, Rows, Split
from tribrain.training.series import Series, stimulus_series

Told = dict[tuple[str, str], np.ndarray]  # (film, person) to (rows, parcels)
Films = dict[str, np.ndarray]  # film to (rows, parcels)
PEOPLE = (*TRAINED, *HELD_OUT)
BLOCK = 30
"""Seconds of a block of the bootstrap."""
_DRAWS, _AT_ONCE = 1000, 50


class Bench:
    """Recordings and components of one part of a split.

    Attributes
    ----------
    train, test : dict of (film, person) to ndarray (rows, parcels)
        z-scored over the rows of the part.
    components : dict of film to ndarray (time, components)
    """

    def __init__(self, study: PreparedStudy, split: Split) -> None:
        self.study, self.split = study, split
        self.train = self.cut(split.train)
        self.test = self.cut(split.test)
        series = series_of(study)
        self.components = {
            run.task: series[run.shown[0].source.content()].values["components"][0].T
            for run in study.runs
        }

    def cut(self, rows: Mapping[str, Rows], people: Sequence[str] = PEOPLE) -> Told:
        """Rows of some films and people, z-scored over those rows."""
        found = {}
        for run in self.study.runs:
            if run.task in rows and run.subject in people:
                first, last = rows[run.task]
                values = self.study.window(run, first - round(run.origin), last - first, np.float64)
                found[run.task, run.subject] = zscored(values)
        return found

    def mean(self, told: Told, people: Sequence[str]) -> Films:
        """Mean over people of each film."""
        films = sorted({film for film, _ in told})
        return {film: np.mean([told[film, one] for one in people], axis=0) for film in films}


def series_of(study: PreparedStudy) -> dict[str, Series]:
    """The series of all that was shown; there are no films to work them out from."""

    def extract(stimulus: object) -> Series:
        raise ValueError(f"{stimulus} is no feature series")

    return stimulus_series([study], extract)


def zscored(values: np.ndarray) -> np.ndarray:
    """Each column with mean 0 and standard deviation 1; columns that do not vary stay 0."""
    scale = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(scale > 0, scale, np.inf)


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlation of each column of two arrays (rows, columns)."""
    return (zscored(a) * zscored(b)).mean(axis=0)


@dataclass(frozen=True, eq=False)
class Predicted:
    """What one way of predicting says of a part's test rows.

    Attributes
    ----------
    own : dict of (film, person) to ndarray (rows, parcels)
        For the 20 who are trained on.
    group : dict of film to ndarray (rows, parcels)
        For people never seen.
    seconds : float
        That it took.
    """

    own: Told
    group: Films
    seconds: float


def averaged(parts: Sequence[Predicted], weights: Sequence[float] | None = None) -> Predicted:
    """Mean of z-scored predictions."""
    weights = weights or [1.0] * len(parts)

    def mean(values: list[np.ndarray]) -> np.ndarray:
        return np.average([zscored(one) for one in values], axis=0, weights=weights)

    first = parts[0]
    own = {key: mean([part.own[key] for part in parts]) for key in first.own}
    group = {key: mean([part.group[key] for part in parts]) for key in first.group}
    return Predicted(own, group, sum(part.seconds for part in parts))


class Judged:
    """Sums of products, over blocks of time, of predictions with what was measured.

    From them come the scores of any draw of blocks and people. A draw takes the same blocks in all
    people, and in all predictions that are compared.
    """

    def __init__(self, bench: Bench, predicted: Predicted) -> None:
        self.films = sorted({film for film, _ in bench.test})
        means = bench.mean(bench.test, PEOPLE)
        self.group = [_sums(predicted.group[f], means[f][:, None]) for f in self.films]
        self.zero = [
            _sums(predicted.group[f], np.stack([bench.test[f, p] for p in HELD_OUT], 1))
            for f in self.films
        ]
        self.own = [
            _sums(
                np.stack([predicted.own[f, p] for p in TRAINED], 1),
                np.stack([bench.test[f, p] for p in TRAINED], 1),
            )
            for f in self.films
        ]

    def scores(self, counts: Sequence[np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """r (draws, 20), zero (draws, 6), R_group (draws, 1): mean over parcels, then films.

        Parameters
        ----------
        counts : sequence of ndarray (draws, blocks), optional
            How often each block of each film was drawn; by default a draw of each once.
        """
        found = {}
        for name, parts in (("r", self.own), ("zero", self.zero), ("R_group", self.group)):
            drawn = counts or [np.ones((1, len(sums))) for sums in parts]
            films = [
                _correlations(np.tensordot(count, sums, 1)).mean(-1)
                for count, sums in zip(drawn, parts, strict=True)
            ]
            found[name] = np.mean(films, axis=0)
        return found


def _sums(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sums (blocks, 6, people, parcels) of 1, x, y, xx, yy, xy; x and y (rows, [people,] V)."""
    x = x[:, None] if x.ndim == 2 else x
    x, y = np.broadcast_arrays(x, y)
    starts = np.arange(0, len(x), BLOCK)
    products = (np.ones_like(x), x, y, x * x, y * y, x * y)
    return np.stack([np.add.reduceat(one, starts, axis=0) for one in products], axis=1)


def _correlations(sums: np.ndarray) -> np.ndarray:
    n, x, y, xx, yy, xy = np.moveaxis(sums, 1, 0)
    power = (xx - x * x / n) * (yy - y * y / n)
    return np.where(power > 0, (xy - x * y / n) / np.sqrt(np.where(power > 0, power, 1)), 0)


def draws(judged: Sequence[Sequence[Judged]], seed: int = 0) -> list[dict[str, np.ndarray]]:
    """Scores of drawn blocks of 30 s (and, for r and zero, of drawn people).

    Parameters
    ----------
    judged : sequence (ways of predicting) of sequences (parts of the split) of Judged

    Returns
    -------
    list (ways of predicting) of dict of str to ndarray (draws,)
        All of the same draws, so that differences are paired.
    """
    random = np.random.default_rng(seed)
    found: list[dict[str, list[np.ndarray]]] = [{} for _ in judged]
    for _ in range(_DRAWS // _AT_ONCE):
        people = {
            "r": random.integers(20, size=(_AT_ONCE, 20)),
            "zero": random.integers(6, size=(_AT_ONCE, 6)),
            "R_group": np.zeros((_AT_ONCE, 1), int),
        }
        counts = [
            [
                random.multinomial(n, np.full(n, 1 / n), size=_AT_ONCE).astype(float)
                for n in (len(sums) for sums in part.group)
            ]
            for part in judged[0]
        ]
        for way, parts in enumerate(judged):
            tables = [part.scores(count) for part, count in zip(parts, counts, strict=True)]
            for name, drawn in people.items():
                values = np.mean([table[name] for table in tables], axis=0)
                means = np.take_along_axis(values, drawn, axis=1).mean(axis=1)
                found[way].setdefault(name, []).append(means)
    return [{name: np.concatenate(parts) for name, parts in one.items()} for one in found]


def summary(parts: Sequence[Judged]) -> dict[str, tuple[float, float]]:
    """Mean, and standard error over people, of r and zero; R_group (its error is of `draws`)."""
    tables = [part.scores() for part in parts]
    found = {}
    for name in ("r", "zero", "R_group"):
        values = np.mean([table[name][0] for table in tables], axis=0)
        error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
        found[name] = (float(values.mean()), float(error))
    return found


def ceilings(benches: Sequence[Bench]) -> tuple[float, float]:
    """Leave-one-out correlation between people, over parcels where it exceeds 0.1; median person.

    Returns
    -------
    isc : float
        Mean over films, people and such parcels.
    median : float
        Of the 26 people's correlations with the mean of the others, over all parcels.
    """
    each = []
    for bench in benches:
        for film in sorted({film for film, _ in bench.test}):
            told = np.stack([bench.test[film, p] for p in PEOPLE])
            total = told.sum(axis=0)
            each.append([correlation(one, total - one) for one in told])
    found = np.mean(each, axis=0)  # (people, parcels)
    parcels = found.mean(axis=0)
    return float(parcels[parcels > 0.1].mean()), float(np.median(found.mean(axis=1)))


def over_people(bench: Bench, people: Sequence[str], predicted: Told) -> tuple[float, float]:
    """Mean over films, parcels and people of the correlation on test rows; its standard error."""
    films = sorted({film for film, _ in bench.test})
    values = np.array(
        [
            np.mean([correlation(predicted[f, p], bench.test[f, p]).mean() for f in films])
            for p in people
        ]
    )
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
