"""Whether what was scored is more than chance, and how certain it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tribrain.errors import InputError
from tribrain.evaluation.controls import phase_randomised
from tribrain.evaluation.rows import Part, by_cell, by_person
from tribrain.evaluation.scoring import PartScore, Scorer, Way
from tribrain.evaluation.statistics.bootstrap import Interval, bootstrap_blocks
from tribrain.evaluation.statistics.correction import fdr, null_p
from tribrain.evaluation.statistics.nulls import CROSSED, null_correlations

BLOCK = 30.0
"""Seconds that are drawn together: longer than a response lasts."""
LEVEL = 0.05


@dataclass(frozen=True, eq=False)
class Chance:
    """What predictions bring about that know nothing of the moment.

    Attributes
    ----------
    p : float
        Of the mean r over outputs and people.
    interval : (float, float)
        Where 95 % of the means of the null lie.
    q : ndarray (V,)
        Of each output, false discovery rate.
    significant : int
        Outputs with q of 0.05 at most.
    one : ndarray (V,)
        r of each output in one draw.
    n : int
        Draws.
    """

    p: float
    interval: tuple[float, float]
    q: np.ndarray
    significant: int
    one: np.ndarray
    n: int


def chance(scorer: Scorer, way: Way, permutations: int, seed: int) -> Chance:
    """Null of the mean r of a way, and of each output, by random phases of what it predicts.

    The phases of each cell are drawn by themselves, the same for everybody and all outputs. Shifts
    in time, which assume less, are too few in spans of minutes: with four spans of 130 s, 22 % of
    p values lie below 0.05 where nothing is predicted, and outputs are "significant" nearly always
    (phases: 5 %, and never).

    Parameters
    ----------
    scorer : Scorer
    way : Way
        That of a cross-validation has a wider null (`tribrain.evaluation.statistics.nulls`).
    permutations, seed : int
    """
    edges = scorer.edges()
    total = edges[-1][1]
    runs = np.concatenate([np.full(stop - first, k) for k, (first, stop) in enumerate(edges)])
    size = len(scorer.mask)
    p, one = np.full(size, np.nan), np.full(size, np.nan)
    null, observed, counted = np.zeros(permutations), 0.0, 0
    people = len(scorer.parts) or 1
    for block in scorer.blocks(3 * people * total):
        pairs = scorer.timeline(way.name, block)
        there = np.any([y.any(axis=0) & x.any(axis=0) for x, y in pairs], axis=0)
        there &= scorer.mask[block]
        if not there.any():
            continue
        found = null_correlations(
            pairs,
            kind="phase",
            n=permutations,
            runs=runs,
            seed=seed,
            mask=there,
            spread=CROSSED if way.crossed else 1.0,
        )
        n = int(np.isfinite(found.observed).sum())
        null += n * found.mean_null
        observed, counted = observed + n * found.observed_mean, counted + n
        p[block] = found.p
        one[block] = _one_draw(pairs, runs, seed)
    if not counted:
        raise InputError(f"nothing that {way.name} predicts varies, so that there is no null of it")
    null, observed = null / counted, observed / counted
    low, high = np.quantile(null, [0.025, 0.975])
    q = fdr(p)
    return Chance(
        float(null_p(observed, null)),
        (float(low), float(high)),
        q,
        int((q <= LEVEL).sum()),
        one,
        permutations,
    )


def _one_draw(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], runs: np.ndarray, seed: int
) -> np.ndarray:
    """Mean over people of r (outputs,) after one draw of the phases."""
    found = []
    for x, y in pairs:
        moved = phase_randomised(x, seed, runs)
        norm = np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
        r = np.full(x.shape[1], np.nan)
        found.append(np.divide((moved * y).sum(axis=0), norm, out=r, where=norm > 0))
    stacked = np.stack(found)
    there = np.isfinite(stacked)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(there, stacked, 0).sum(axis=0) / there.sum(axis=0))


def interval(
    scores: Mapping[int, PartScore],
    parts: Sequence[Part],
    draws: int,
    seed: int,
    second: float = 1.0,
) -> Interval | None:
    """95 % interval of the mean r over people and blocks of time, from the rows' shares."""
    scored = [part for part in parts if part.number in scores]
    if not scored:
        return None
    people = list(by_person(scored))
    films = []
    for own in by_cell(scored).values():
        for repeat in sorted({part.repeat for part in own}):
            some = [part for part in own if part.repeat == repeat]
            film = np.full((len(people), max(part.rows for part in some)), np.nan)
            for part in some:
                film[people.index(part.person), : part.rows] = scores[part.number].shares
            films.append(film)
    return _drawn(films, draws, seed, second)


def group_interval(
    scores: Mapping[int, PartScore], draws: int, seed: int, second: float = 1.0
) -> Interval | None:
    """95 % interval of R_group over blocks of time; its people are averaged already."""
    return _drawn([one.shares[None] for one in scores.values()], draws, seed, second)


def _drawn(films: Sequence[np.ndarray], draws: int, seed: int, second: float) -> Interval | None:
    if not any(np.isfinite(film).any() for film in films):
        return None
    return bootstrap_blocks(films, max(1, round(BLOCK / second)), draws, seed)
