"""What each feature space explains: of models fitted on subsets, or of a sum of predictions.

Two ways that answer two questions. `variance_partition` asks what is lost without a space, and
needs a model for every subset of them. `product_measure` parts the score of one model that is a
sum over spaces. Neither is clipped: a space that harms on new rows has a negative share.

Sources: inclusion and exclusion of R2, Lescroart, Stansbury & Gallant 2015 (Front Comput Neurosci
9:135) and de Heer et al. 2017 (J Neurosci 37:6539-6557); product measure, Hoffman 1960 (Psychol
Bull 57:116-131) and Pratt 1987, for banded ridge Dupre la Tour et al. 2022 (NeuroImage 264:119728).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tribrain.brain.summaries import cortex_mask
from tribrain.errors import InputError
from tribrain.evaluation.shares import correlation_shares, r2_shares, split
from tribrain.moments import Moments

if TYPE_CHECKING:
    import pandas as pd

    from tribrain.brain.atlases import Atlas

AND = " & "
MEASURES: dict[str, Callable[[Moments], np.ndarray]] = {
    "r": Moments.correlation,
    "r2": Moments.r2,
    "explained_variance": Moments.explained_variance,
}


def subsets(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Every subset of names but the empty one: single names first, then pairs, ..."""
    kept = tuple(names)
    return [one for k in range(1, len(kept) + 1) for one in itertools.combinations(kept, k)]


def variance_partition(
    scores: Mapping[Collection[str], np.ndarray],
) -> dict[str, np.ndarray]:
    """What each feature space explains alone, and each set of them in common.

    With f(A) the score of the model fitted on the spaces A and f() = 0, the share that is common
    to the spaces of A and to no others is the sum over B in A of (-1)^(|A| - |B|) g(B), where
    g(B) = f(all) - f(all without B).

    Parameters
    ----------
    scores : mapping of a collection of str (or a str, of a single space) to ndarray (V,)
        Score of the model of every subset of the spaces (`fit_subsets`): R2 or explained variance,
        which add up. Squared correlations do not add up.

    Returns
    -------
    dict of str to ndarray (V,), float64
        ``"text"`` (unique), ``"text & audio"`` (shared by these two alone), ..., in the order of
        `subsets`. Their sum is the score of the model of all spaces. Never clipped: what is shared
        is negative where spaces together explain more than the sum of each (suppression), or
        where fits on new rows are worse for more columns. NaN where any score is.

    Raises
    ------
    InputError
        A subset that is missing, which is named; shapes that differ.
    """
    given = {
        frozenset([key] if isinstance(key, str) else key): np.asarray(value, float)
        for key, value in scores.items()
    }
    # Sets have no order of their own: that in which single spaces are given is kept.
    names = [next(iter(key)) for key in given if len(key) == 1]
    known = {name for key in given for name in key}
    for one in subsets([*names, *sorted(known - set(names))]):
        if frozenset(one) not in given:
            raise InputError(
                f"no score of the model of {AND.join(one)}; each subset of "
                f"{', '.join(sorted(known))} has one"
            )
    if not names:
        raise InputError("no score of any model is given")
    shapes = sorted({value.shape for value in given.values()})
    if len(shapes) != 1:
        raise InputError(f"scores have shapes {shapes[0]} and {shapes[-1]}; one shape fits")
    whole = frozenset(names)
    nothing = np.zeros(shapes[0])

    def lost(without: tuple[str, ...]) -> np.ndarray:
        return given[whole] - given.get(whole.difference(without), nothing)

    return {
        AND.join(spaces): np.sum(
            [
                (-1) ** (len(spaces) - len(inner)) * lost(inner)
                for size in range(1, len(spaces) + 1)
                for inner in itertools.combinations(spaces, size)
            ],
            axis=0,
        )
        for spaces in subsets(names)
    }


def product_measure(parts: Mapping[str, np.ndarray], measured: np.ndarray) -> dict[str, np.ndarray]:
    """The R2 of a sum of predictions as a sum over its parts.

    The share of part i is (2 y.p_i - p.p_i) / y.y, with y and the sum p of all parts p_i about
    the mean of y. What the mean of p is off by counts for each part by its own mean, the mean of y
    shared out evenly; with series of mean 0 that is `himalaya.scoring.r2_score_split`.

    Parameters
    ----------
    parts : mapping of str to ndarray (rows, V)
        What each feature space adds to the prediction. An intercept is nobody's: take it off
        `measured`, which leaves the R2 as it is.
    measured : ndarray (rows, V)
        Rows that are NaN in it or in any part do not count.

    Returns
    -------
    dict of str to ndarray (V,), float64
        Their sum is the R2 of the sum of the parts. Negative where a part makes it worse. NaN
        where the measured series does not vary.
    """
    return split(parts, measured, r2_shares)


def correlation_split(
    parts: Mapping[str, np.ndarray], measured: np.ndarray
) -> dict[str, np.ndarray]:
    """The correlation of a sum of predictions as a sum over its parts.

    The share of part i is cov(y, p_i) / (sd(y) sd(p)), p the sum of all parts: what
    `himalaya.scoring.correlation_score_split` gives.

    Parameters and result are those of `product_measure`; NaN also where the sum does not vary.
    """
    return split(parts, measured, correlation_shares)


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows to fit to, or to score on, as the estimators of `tribrain.evaluation` take them.

    Attributes
    ----------
    features : ndarray (n, columns)
        The columns of one feature space after those of the other.
    measured : ndarray (n, V)
    runs, groups : ndarray (n,), optional
        Labels: delays stay within runs, inner cross-validation leaves out whole groups.
    used : ndarray (n,) of bool, optional
        Rows that are fitted to or scored; by default all.
    """

    features: np.ndarray
    measured: np.ndarray
    runs: np.ndarray | None = None
    groups: np.ndarray | None = None
    used: np.ndarray | None = None


def fit_subsets(
    make: Callable[[tuple[int, ...]], Any],
    bands: Mapping[str, int],
    fitted: Rows,
    scored: Rows,
    *,
    measure: str = "r2",
) -> dict[tuple[str, ...], np.ndarray]:
    """Fit a model on every subset of feature spaces, and score each on other rows.

    Parameters
    ----------
    make : callable
        From the numbers of columns of the spaces of a subset to an estimator, which chooses its
        penalties by itself: ``lambda bands: BandedRidge(bands)``, ``lambda bands: FIRRidge()``.
    bands : mapping of str to int
        Columns of each feature space, in their order. n spaces are 2^n - 1 fits.
    fitted, scored : Rows
        The rows that are scored must be none of those that are fitted to.
    measure : {"r2", "explained_variance", "r"}
        R2 and explained variance can be partitioned (`variance_partition`).

    Returns
    -------
    dict of tuple of str to ndarray (V,), float64
        In the order of `subsets`.

    Raises
    ------
    InputError
        Bands that do not add up to the columns; an unknown measure.
    """
    if measure not in MEASURES:
        raise InputError(f"measure {measure!r} is unknown; known: {', '.join(MEASURES)}")
    edges = np.cumsum([0, *bands.values()])
    for rows in (fitted, scored):
        if rows.features.shape[1] != edges[-1]:
            told = " + ".join(f"{size} of {name}" for name, size in bands.items())
            raise InputError(f"{rows.features.shape[1]} columns; the bands have {told}")
    places = dict(zip(bands, itertools.pairwise(edges.tolist()), strict=True))
    found = {}
    for names in subsets(bands):
        columns = np.concatenate([np.arange(*places[name]) for name in names])
        model = make(tuple(bands[name] for name in names))
        labels = _given(runs=fitted.runs, groups=fitted.groups, used=fitted.used)
        model.fit(fitted.features[:, columns], fitted.measured, **labels)
        predicted = model.predict(scored.features[:, columns], **_given(runs=scored.runs))
        moments = Moments()
        for block in _blocks(scored.used, len(predicted)):
            moments.add(predicted[block], scored.measured[block])
        found[names] = MEASURES[measure](moments)
    return found


def _given(**options: np.ndarray | None) -> dict[str, np.ndarray]:
    """Those of the options that are given: other estimators do without the rest."""
    return {key: value for key, value in options.items() if value is not None}


def _blocks(used: np.ndarray | None, n: int) -> Iterator[np.ndarray]:
    rows = np.arange(n) if used is None else np.flatnonzero(used)
    for first in range(0, len(rows), 4096):
        yield rows[first : first + 4096]


@dataclass(frozen=True, eq=False)
class Winners:
    """Which of several scores is the largest in each output.

    Attributes
    ----------
    names : tuple of str
    best : ndarray (V,), int
        Number of the name; -1 where no score is a number.
    score : ndarray (V,)
        The largest.
    margin : ndarray (V,)
        How much it is above the next; NaN where there is no other, 0 for a tie (the first wins).
    """

    names: tuple[str, ...]
    best: np.ndarray
    score: np.ndarray
    margin: np.ndarray

    def labels(self) -> np.ndarray:
        """Name of the winner of each output (V,); empty where there is none."""
        return np.array([*self.names, ""])[self.best]

    def counts(self, mask: np.ndarray | None = None) -> dict[str, int]:
        """Outputs (of a mask) that each wins."""
        chosen = self.best if mask is None else self.best[mask]
        return {name: int((chosen == number).sum()) for number, name in enumerate(self.names)}


def winners(scores: Mapping[str, np.ndarray]) -> Winners:
    """Which score is the largest in each output, and by how much."""
    if not scores:
        raise InputError("no score to compare")
    values = _stacked(scores)
    ranked = np.where(np.isnan(values), -np.inf, values)
    best = ranked.argmax(axis=0)
    order = np.sort(ranked, axis=0)
    score = np.where(np.isfinite(order[-1]), order[-1], np.nan)
    second = order[-2] if len(order) > 1 else np.full(len(score), -np.inf)
    margin = score - np.where(np.isfinite(second), second, np.nan)
    return Winners(tuple(scores), np.where(np.isnan(score), -1, best), score, margin)


def gain(whole: np.ndarray, alone: Mapping[str, np.ndarray]) -> np.ndarray:
    """What all spaces together score above the best single one (V,), never clipped.

    The best one is chosen by the rows that are scored, so that chance is on its side: the gain is
    too small rather than too large.
    """
    both = _stacked({"all": whole, "the best": winners(alone).score})
    return np.asarray(both[0] - both[1])


def _stacked(scores: Mapping[str, np.ndarray]) -> np.ndarray:
    """Scores (k, V) of one shape."""
    if len({np.shape(one) for one in scores.values()}) > 1:
        told = ", ".join(f"{name} {np.shape(one)}" for name, one in scores.items())
        raise InputError(f"scores of shapes {told}; one shape fits")
    return np.stack([np.asarray(one, float) for one in scores.values()])


def attribution_table(
    whole: np.ndarray, alone: Mapping[str, np.ndarray], atlas: Atlas
) -> pd.DataFrame:
    """Which space predicts a region best, and what all of them gain on it.

    Means are over the same outputs of a region for all columns: those outside the medial wall
    where every score is a number.

    Parameters
    ----------
    whole : ndarray (V,)
        Score of all spaces together.
    alone : mapping of str to ndarray (V,)
        Score of each.
    atlas : Atlas
        On the space of the scores.

    Returns
    -------
    DataFrame
        ``region``, ``outputs``, ``all``, a column for each space, ``best`` (its name; empty where
        nothing is a number), ``margin`` (how much it is above the next) and ``gain`` (of all above
        the best), by means of the region.
    """
    import pandas as pd

    values = _stacked({"all": whole, **alone})
    atlas.space.check(values, "the scores")
    counted = np.isfinite(values).all(axis=0) & cortex_mask(atlas.space)
    means = atlas.summarise(np.where(counted, values, np.nan))
    columns = dict(zip(alone, means[1:], strict=True))
    won = winners(columns)
    return pd.DataFrame(
        {
            "region": list(atlas.names),
            "outputs": [int(counted[region.vertices].sum()) for region in atlas.regions],
            "all": means[0],
            **columns,
            "best": won.labels(),
            "margin": won.margin,
            "gain": means[0] - won.score,
        }
    )
