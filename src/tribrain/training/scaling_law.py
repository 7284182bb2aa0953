"""How a score grows with what was trained on: a line over the logarithm, with its uncertainty.

The law is ``r = intercept + slope * log2(amount)``: the slope is what doubling brings. Log-linear
growth without a plateau is what encoding models showed so far (Antonello, Vaidya & Huth 2023,
NeurIPS 36, arXiv 2305.11863; TRIBE v2, arXiv 2605.04326); it cannot hold beyond the ceiling.

Where the line could lie otherwise comes from several sources, whose half intervals add in squares:

- other stimuli: bootstrap over the groups that are scored;
- other people, where the law is to hold for people never seen: bootstrap over those scored;
- other trainings: bootstrap over seeds, where there are several;
- with one seed, the scatter of the points about the line (Student's t), in which other trainings
  show. It holds some of the first source as well, so that the interval is rather too wide.

A bootstrap of n things is too narrow by ``sqrt(n / (n - 1))`` and by Student's t over the normal
quantile (Hesterberg 2015, Am Stat 69:371-386); distances from the estimate are widened by both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from tribrain.errors import InputError

LEVEL = 0.95
_FEW_GROUPS = 3
_FEW_SIZES = 4
_POOR = 0.9
"""Share of the variance of the points below which a fit is called poor."""


@dataclass(frozen=True, eq=False)
class Law:
    """A fitted law.

    Attributes
    ----------
    amounts, scores : ndarray (sizes,)
        The points: mean over seeds and scored runs.
    intercept, slope : float
        Expected score at an amount of 1, and what doubling it adds.
    explained : float
        Share of the variance of the points that the line explains; NaN for two points.
    units : str
        What the bootstrap draws: ``5 groups, 3 seeds``; ``5 groups, 4 people, 3 seeds`` where the
        law is to hold for other people. "one person": the interval is for that person alone.
    notes : tuple of str
        What to mind.
    """

    amounts: np.ndarray
    scores: np.ndarray
    intercept: float
    slope: float
    explained: float
    units: str
    notes: tuple[str, ...]
    _draws: tuple[np.ndarray, ...]
    _covariance: np.ndarray
    _quantile: float

    def at(self, amount: ArrayLike) -> np.ndarray:
        """Expected score with its 95 % interval (3, ...) at amounts: value, low, high."""
        x = np.log2(np.asarray(amount, float))
        return np.stack(self._of(np.stack([np.ones_like(x), x], axis=-1)))

    @property
    def slope_interval(self) -> tuple[float, float]:
        """95 % interval of the slope; NaN where nothing tells it."""
        _, low, high = self._of(np.array([0.0, 1.0]))
        return float(low), float(high)

    def _of(self, which: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A linear function (..., 2) of intercept and slope, and its interval."""
        value = which @ np.array([self.intercept, self.slope])
        edges = [np.percentile(which @ draws.T, _PERCENTS, axis=-1) for draws in self._draws]
        if math.isfinite(self._quantile):
            error = np.sqrt(np.einsum("...i,ij,...j->...", which, self._covariance, which))
            edges.append(self._quantile * np.stack([-error, error]))
        if not edges:
            nothing = np.full_like(value, np.nan)
            return value, nothing, nothing
        low, high = np.sqrt(np.sum(np.square(edges), axis=0))
        return value, value - low, value + high

    def as_table(self) -> dict[str, Any]:
        """As plain data; what is not known is None."""
        double = 2 * float(self.amounts.max())
        value, low, high = (float(part) for part in self.at(double))
        found = {
            "law": "r = intercept + slope * log2(amount)",
            "level": LEVEL,
            "amounts": self.amounts.tolist(),
            "scores": self.scores.tolist(),
            "intercept": self.intercept,
            "slope": self.slope,
            "slope_interval": list(self.slope_interval),
            "expected_at": double,
            "expected": value,
            "expected_interval": [low, high],
            "explained_variance": self.explained,
            "bootstrap_over": self.units,
            "notes": list(self.notes),
        }
        return {key: _known(part) for key, part in found.items()}


_PERCENTS = (50 * (1 - LEVEL), 50 * (1 + LEVEL))


def fit_law(
    amounts: ArrayLike,
    scores: ArrayLike,
    groups: Sequence[str],
    people: Sequence[str] | None = None,
    *,
    draws: int = 2000,
    seed: int = 0,
) -> Law:
    """Fit the law to scores, by least squares over the means of the sizes.

    Parameters
    ----------
    amounts : array (sizes,)
        Hours, or people; more than 0.
    scores : array (sizes, seeds, runs)
        Correlation of each scored run. NaN: it has none (its rows do not vary); such a run is
        left out of all sizes.
    groups : sequence of str (runs,)
        Which of the scored runs belong together.
    people : sequence of str (runs,), optional
        Whose runs they are, where the law is to hold for other people. Without it, or of one
        person alone, the interval is for these people.
    draws : int
    seed : int
        Of the draws.

    Raises
    ------
    InputError
        If there are less than two amounts, or no run has scores.
    """
    x, values = np.asarray(amounts, float), np.asarray(scores, float)
    if values.ndim != 3 or values.shape[::2] != (len(x), len(groups)):
        raise ValueError(f"scores {values.shape} of {len(x)} sizes and {len(groups)} runs")
    if len(np.unique(x)) < 2 or not (x > 0).all():
        raise InputError("a law needs two or more different amounts")
    whole = np.isfinite(values).all(axis=(0, 1))
    if not whole.any():
        raise InputError("no run could be scored: what is predicted or measured does not vary")
    values, labels = values[:, :, whole], np.asarray(groups)[whole]
    notes = [f"{(~whole).sum()} runs without a score are left out"] if not whole.all() else []
    what = "groups"
    if len(np.unique(labels)) < _FEW_GROUPS:
        what, labels = "runs", np.arange(len(labels)).astype(str)
        notes.append(
            f"fewer than {_FEW_GROUPS} groups are scored: the interval is over runs, and tells "
            "nothing of other stimuli"
        )
    design = np.stack([np.ones_like(x), np.log2(x)], axis=1)
    solve = np.linalg.pinv(design)  # (2, sizes)
    points = values.mean(axis=(1, 2))
    intercept, slope = solve @ points

    n_sizes, n_seeds = values.shape[:2]
    members = labels[None] == np.unique(labels)[:, None]  # (groups, runs)
    of_groups = np.einsum("gr,ksr->gk", members, values) / n_seeds
    weights = members.sum(axis=1)
    of_seeds = values.mean(axis=2).T  # (seeds, sizes)
    persons, told = np.ones((1, len(labels)), bool), ""  # (people, runs)
    if people is not None:
        names = np.asarray(people)[whole]
        persons = names[None] == np.unique(names)[:, None]
        told = f"{len(persons)} people, "
        if len(persons) == 1:
            told = "one person, "
            notes.append(
                "one person is scored: the interval is for that person, and tells nothing of others"
            )
    of_people = np.einsum("pr,ksr->pk", persons, values) / n_seeds
    random = np.random.default_rng(seed)
    sources = [
        _deviations(of_groups, weights, solve, draws, random),
        _deviations(of_seeds, np.ones(n_seeds), solve, draws, random),
        _deviations(of_people, persons.sum(axis=1), solve, draws, random),
    ]
    residuals = points - design @ (intercept, slope)
    freedom = n_sizes - 2
    quantile, covariance = math.nan, np.zeros((2, 2))
    if n_seeds == 1 and freedom > 0:
        quantile = float(stats.t.ppf((1 + LEVEL) / 2, freedom))
        covariance = (residuals @ residuals / freedom) * (solve @ solve.T)
    spread = float(((points - points.mean()) ** 2).sum())
    explained = 1 - float(residuals @ residuals) / spread if freedom > 0 and spread else math.nan
    law = Law(
        amounts=x,
        scores=points,
        intercept=float(intercept),
        slope=float(slope),
        explained=explained,
        units=f"{len(members)} {what}, {told}{n_seeds} {'seed' if n_seeds == 1 else 'seeds'}",
        notes=(),
        _draws=tuple(found for found in sources if found is not None),
        _covariance=covariance,
        _quantile=quantile,
    )
    notes += _warnings(law, n_sizes, n_seeds, float(np.abs(residuals).max()))
    return replace(law, notes=tuple(notes))


def _deviations(
    values: np.ndarray,
    weights: np.ndarray,
    solve: np.ndarray,
    draws: int,
    random: np.random.Generator,
) -> np.ndarray | None:
    """Deviations (draws, 2) of intercept and slope where units are drawn with replacement.

    `values` (units, sizes) are sums over `weights` runs each. None for a single unit.
    """
    n = len(values)
    if n < 2:
        return None
    counts = random.multinomial(n, np.full(n, 1 / n), size=draws)
    points = counts @ values / (counts @ weights)[:, None]
    laws = (points - values.sum(axis=0) / weights.sum()) @ solve.T
    tail = (1 + LEVEL) / 2
    wider = stats.t.ppf(tail, n - 1) / stats.norm.ppf(tail) * math.sqrt(n / (n - 1))
    return laws * wider


def _warnings(law: Law, n_sizes: int, n_seeds: int, largest: float) -> list[str]:
    found = []
    if n_sizes == 2:
        found.append("two sizes make a line whatever the law: give three or more to test it")
    elif n_sizes < _FEW_SIZES:
        found.append(f"{n_sizes} sizes say little about the form of the law: give four or more")
    if law.explained < _POOR:
        found.append(
            f"the fit is poor: the line explains {100 * max(law.explained, 0):.0f} % of the "
            f"variance of the points, one of which is {largest:.3f} off"
        )
    low, high = law.slope_interval
    if low <= 0 <= high:
        found.append("the interval of the slope holds 0: these data do not show that more helps")
    if n_seeds == 1 and n_sizes == 2:
        found.append("with one seed and two sizes, the interval tells nothing of other trainings")
    return found


def law_line(law: Law, what: str) -> str:
    """A law in one line; `what` is of which there is more: ``hours``, ``subjects``."""
    low, high = law.slope_interval
    sign = "-" if law.slope < 0 else "+"
    told = f"r = {law.intercept:.4f} {sign} {abs(law.slope):.4f} log2({what})"
    table = law.as_table()
    expected = f"{table['expected']:.4f} expected at {table['expected_at']:.4g} {what}"
    if math.isnan(low):
        return f"{told} (one run is scored, and one seed: no interval); {expected}"
    low_there, high_there = table["expected_interval"]
    return (
        f"{told}, slope {low:.4f} to {high:.4f} (95 %, {law.units}); "
        f"{expected} ({low_there:.4f} to {high_there:.4f})"
    )


def _known(value: Any) -> Any:
    if isinstance(value, list):
        return [_known(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
