"""Ridges of the SONG benchmark: the library's estimators, settings chosen on training rows."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone

from song_rows import Bench, Films, Predicted, Told, averaged
from tribrain.evaluation.kernels import RBFKernelRidge
from tribrain.evaluation.ridges import FIRRidge, ScaledRidge
from tribrain.studies.song import TRAINED, Rows

HALVES: dict[str, Any] = {"folds": 6, "gap": 0}
"""Half a film of the training rows is left out at a time."""
ONE: dict[str, Any] = {**HALVES, "per_output": False}
TUNED = ScaledRidge((0.0, 0.25, 0.5), (-1, 0, 1), **ONE)
PLAIN = FIRRidge(standardise=False, **ONE)
FIR = FIRRidge(tuple(range(9)), standardise=False, **ONE)
RBF = RBFKernelRidge((0.25, 0.5), **HALVES)
REST = ScaledRidge(
    (0.25, 0.5), penalties=np.logspace(2.5, 5, 6), relative=False, scoring="r2", **ONE
)
"""On what people have beside the mean of the 20; the same penalty with few minutes as with many."""
GROUP_TUNED = "ridge, group, tuned"
GROUP_RBF = "RBF kernel ridge, group"
OWN_RBF = "RBF + ridge on each person's rest"
OWN_TUNED = "ridge, own, tuned"
FIVE = "5 ridges averaged, group"
_REACH = 8  # seconds before and after the rows whose components are given to the estimators


@dataclass(frozen=True, eq=False)
class Design:
    """Components of some rows, and of those about them, as the estimators take them.

    Attributes
    ----------
    x : ndarray (n, components), float32
        z-scored over the part of the film, training or test, in which the rows lie.
    runs, groups : ndarray (n,) of str
        The film; the half of it.
    used : ndarray (n,) of bool
        The rows themselves.
    """

    x: np.ndarray
    runs: np.ndarray
    groups: np.ndarray
    used: np.ndarray

    @classmethod
    def of(cls, bench: Bench, rows: Mapping[str, Rows]) -> Design:
        parts = []
        for film in sorted(rows):
            first, last = rows[film]
            components = bench.components[film]
            sides = [side[film] for side in (bench.split.train, bench.split.test) if film in side]
            low, high = next(s for s in sides if s[0] <= first and last <= s[1])
            at = np.arange(max(first - _REACH, 0), min(last + _REACH, len(components)))
            shown = components[low:high]
            half = np.where(at < (first + last) // 2, f"{film} 1", f"{film} 2")
            x = (components[at] - shown.mean(axis=0)) / shown.std(axis=0)
            x = x.astype(np.float32)
            parts.append((x, np.full(len(at), film), half, (at >= first) & (at < last)))
        return cls(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def fitted(self, estimator: Any, y: Films) -> Any:
        """A fitted copy of an estimator; y (rows, outputs) of each film."""
        answers = np.full((len(self.x), next(iter(y.values())).shape[1]), np.nan, np.float32)
        answers[self.used] = np.concatenate([y[film] for film in sorted(y)])
        taken = {"runs": self.runs, "groups": self.groups, "used": self.used}
        return clone(estimator).fit(self.x, answers, **taken)

    def predicted(self, estimator: Any) -> Films:
        """Rows (rows, outputs) of each film."""
        found = estimator.predict(self.x, runs=self.runs)
        films = np.unique(self.runs)
        return {film: found[self.used & (self.runs == film)] for film in films}


def settled(estimator: ScaledRidge) -> ScaledRidge:
    """An estimator that tries only the exponent and the lag which another one chose."""
    return clone(estimator).set_params(exponents=(estimator.exponent_,), lags=(estimator.lag_,))


def of_group(bench: Bench, estimator: Any) -> tuple[Any, Films]:
    """An estimator fitted to the mean of the 20, and the test rows that it predicts."""
    rows = Design.of(bench, bench.split.train)
    fitted = rows.fitted(estimator, bench.mean(bench.train, TRAINED))
    return fitted, Design.of(bench, bench.split.test).predicted(fitted)


def of_people(
    bench: Bench, estimator: Any, rows: Mapping[str, Rows], told: Told, people: Sequence[str]
) -> Told:
    """Test rows of each of some people, by an estimator fitted to their own training rows."""
    shown, asked = Design.of(bench, rows), Design.of(bench, bench.split.test)
    found: Told = {}
    for person in people:
        fitted = shown.fitted(estimator, {film: told[film, person] for film in rows})
        found |= {(film, person): values for film, values in asked.predicted(fitted).items()}
    return found


def of_people_together(bench: Bench, estimator: Any) -> Told:
    """As `of_people` for the 20, fitted at once: with one penalty for them together."""
    rows = bench.split.train
    fitted = Design.of(bench, rows).fitted(estimator, _beside(bench.train, rows, TRAINED))
    return _by_person(Design.of(bench, bench.split.test).predicted(fitted), TRAINED)


def five_ridges(bench: Bench, tuned: ScaledRidge, seconds: float) -> Predicted:
    """Mean of ridges on the mean of the 20, each with its penalty.

    Their pairs of exponent and lag are the five that were best on training rows left out, which
    took so many seconds to find.
    """
    start = time.perf_counter()
    pairs = [(exponent, lag) for lag in tuned.lags for exponent in tuned.exponents]
    parts = []
    for place in np.argsort(-tuned.means_.ravel(), kind="stable")[:5]:
        exponent, lag = pairs[place]
        one = clone(tuned).set_params(exponents=(exponent,), lags=(lag,))
        parts.append(for_everyone(of_group(bench, one)[1], 0.0))
    found = averaged(parts)
    return Predicted(found.own, found.group, seconds + time.perf_counter() - start)


def for_everyone(group: Films, seconds: float) -> Predicted:
    """The same rows for the 20 as for people never seen."""
    return Predicted({(film, p): v for film, v in group.items() for p in TRAINED}, group, seconds)


def baselines(bench: Bench) -> dict[str, Predicted]:
    """All ridges of a part, by name.

    For people never seen, the estimator is fitted to the mean of the 20. Exponent and lag, which
    the components have and not the people, are those of the mean.
    """
    rows, told = bench.split.train, bench.train
    start = time.perf_counter()
    own = of_people(bench, PLAIN, rows, told, TRAINED)
    plain = Predicted(own, of_group(bench, PLAIN)[1], time.perf_counter() - start)
    start = time.perf_counter()
    own = of_people_together(bench, FIR)
    delayed = Predicted(own, of_group(bench, FIR)[1], time.perf_counter() - start)
    start = time.perf_counter()
    tuned, group = of_group(bench, TUNED)
    of_tuned = for_everyone(group, time.perf_counter() - start)
    own = of_people(bench, settled(tuned), rows, told, TRAINED)
    own_tuned = Predicted(own, group, time.perf_counter() - start)
    five = five_ridges(bench, tuned, of_tuned.seconds)
    start = time.perf_counter()
    kernel = for_everyone(of_group(bench, RBF)[1], 0.0)
    kernel = dataclasses.replace(kernel, seconds=time.perf_counter() - start)
    own = with_rest(bench, kernel.group, rest_ridge(bench), rows, told, TRAINED)
    return {
        "ridge, own, plain": plain,
        "ridge, own, FIR 0-8 s": delayed,
        GROUP_TUNED: of_tuned,
        OWN_TUNED: own_tuned,
        FIVE: five,
        GROUP_RBF: kernel,
        OWN_RBF: Predicted(own, kernel.group, time.perf_counter() - start),
    }


def rest_ridge(bench: Bench) -> ScaledRidge:
    """Not fitted: the exponent and the penalty that are best for what each of the 20 has alone."""
    rows = bench.split.train
    found = Design.of(bench, rows).fitted(REST, _rest(bench, rows, bench.train, TRAINED))
    return settled(found).set_params(penalties=(float(found.penalty_[0]),))


def with_rest(
    bench: Bench,
    group: Films,
    ridge: ScaledRidge,
    rows: Mapping[str, Rows],
    told: Told,
    people: Sequence[str],
) -> Told:
    """Test rows of people: the group's, and ridge on what they have beside the mean of the 20.

    Parameters
    ----------
    bench : Bench
    group : dict of film to ndarray (rows, parcels)
        Predicted for everyone.
    ridge : ScaledRidge
        As of `rest_ridge`.
    rows : mapping of str to (int, int)
        Of each film, training rows that the people have.
    told : dict of (film, person) to ndarray (rows, parcels)
        Their BOLD there.
    people : sequence of str
    """
    fitted = Design.of(bench, rows).fitted(ridge, _rest(bench, rows, told, people))
    parts = _by_person(Design.of(bench, bench.split.test).predicted(fitted), people)
    return {(film, person): group[film] + part for (film, person), part in parts.items()}


def _beside(told: Told, rows: Mapping[str, Rows], people: Sequence[str]) -> Films:
    """People beside one another (rows, people x parcels), by film."""
    return {film: np.concatenate([told[film, p] for p in people], axis=1) for film in rows}


def _rest(bench: Bench, rows: Mapping[str, Rows], told: Told, people: Sequence[str]) -> Films:
    """What people have beside the mean of the 20 (rows, people x parcels), by film."""
    means = bench.mean(bench.cut(rows, TRAINED), TRAINED)
    beside = _beside(told, rows, people)
    return {film: beside[film] - np.tile(means[film], len(people)) for film in rows}


def _by_person(films: Films, people: Sequence[str]) -> Told:
    """People apart who were beside one another."""
    return {
        (film, person): part
        for film, values in films.items()
        for person, part in zip(people, np.split(values, len(people), axis=1), strict=True)
    }


def kept_baselines(bench: Bench, keep: Path) -> dict[str, Predicted]:
    """`baselines`, unless they were worked out before with the same settings.

    Parameters
    ----------
    bench : Bench
    keep : Path
        Without the ending: of the file in which they are kept.
    """
    told = hashlib.sha256(repr([TUNED, PLAIN, FIR, RBF, REST]).encode()).hexdigest()[:12]
    file = keep.with_name(f"{keep.name}-{told}.npz")
    if not file.is_file():
        arrays: dict[str, Any] = {}
        for name, one in baselines(bench).items():
            arrays[f"{name}/seconds"] = np.array(one.seconds)
            arrays |= {f"{name}/group/{film}": values for film, values in one.group.items()}
            arrays |= {f"{name}/own/{f}/{p}": values for (f, p), values in one.own.items()}
        partial = file.with_suffix(".part.npz")
        np.savez(partial, **arrays)
        partial.replace(file)
    with np.load(file) as kept:
        values = {key: kept[key] for key in kept.files}
    names = dict.fromkeys(key.split("/")[0] for key in values)
    found = {}
    for name in names:
        own: Told = {}
        group: Films = {}
        for key, rows in values.items():
            what, *rest = key.split("/")[1:]
            if key.startswith(f"{name}/") and what == "own":
                own[rest[0], rest[1]] = rows
            elif key.startswith(f"{name}/") and what == "group":
                group[rest[0]] = rows
        found[name] = Predicted(own, group, float(values[f"{name}/seconds"]))
    return found
