"""How certain a score is: drawing people, and blocks of time, again and again.

A score of several people who saw the same film is uncertain twice: by the people and by the film.
Both are drawn, with everyone having the same blocks of the film, as what is hard to predict in a
film is hard for everyone.

Intervals are ``stretched`` percentiles unless asked otherwise: the percentiles of the draws, moved
away from the mean (or towards it) as Student's t and the standard error ask for. The draws
themselves do not have that spread: n of something drawn with replacement vary too little by
(n - 1) / n, and what is neither the person's nor the film's counts three times where both are
drawn. ``percentile`` is the plain one, ``bca`` (`bootstrap_mean` alone) is corrected for bias and
skewness. p values are of Student's t, with the standard error of the bootstrap.

References
----------
Politis & Romano 1992 (circular blocks); Owen 2007, Annals of Applied Statistics 1:386-411 (drawing
rows and columns); Hesterberg 2015, The American Statistician 69:371-386 (percentiles are too
narrow); Satterthwaite 1946, Biometrics Bulletin 2:110-114; Efron 1987, JASA 82:171-185 (BCa).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tribrain.errors import InputError

METHODS = ("stretched", "percentile", "bca")

_VALUES = 8_000_000  # numbers of an array of draws
_ROUNDING = 1e-12
"""Standard error, as a share of the mean, below which nothing varies."""


@dataclass(frozen=True, eq=False)
class Interval:
    """A mean and how certain it is.

    Attributes
    ----------
    mean : float
    low, high : float
        Between these it lies with `level`.
    se : float
        Standard error; see the module.
    p : float
        Two-sided, of a mean of 0.
    draws : ndarray (n,)
        Means of the draws, less those in which nobody has a row.
    level : float
    method : str
        One of `METHODS`.

    Where there is a single person, or a single block, nothing says how certain the mean is: `low`,
    `high`, `se` and `p` are NaN. Where nothing varies, the interval is the mean.
    """

    mean: float
    low: float
    high: float
    se: float
    p: float
    draws: np.ndarray
    level: float
    method: str


def bootstrap_mean(
    values: np.ndarray,
    draws: int = 2000,
    seed: int = 0,
    *,
    level: float = 0.95,
    method: str = "stretched",
) -> Interval:
    """Mean over people, drawn with replacement.

    Parameters
    ----------
    values : ndarray (people,)
        NaN where a person has none: left out.
    draws : int
    seed : int
    level : float
    method : {"stretched", "percentile", "bca"}

    Returns
    -------
    Interval

    Raises
    ------
    InputError
        Another number of axes, nobody with a value, a level outside 0 to 1, an unknown method.
    """
    values = np.asarray(values, float)
    _check(level, draws, method, METHODS)
    _check_finite(values)
    if values.ndim != 1 or np.isnan(values).all():
        raise InputError(
            f"bootstrap of an array {values.shape}; values (people,), not all NaN, fit"
        )
    values = values[~np.isnan(values)]
    n = len(values)
    rng = np.random.default_rng(seed)
    means = _people_drawn(rng, draws, n) @ values / n
    mean = float(values.mean())
    if n == 1:
        return _unknown(mean, means, level, method)
    found = _interval(mean, means, float(values.var(ddof=1)) / n, n - 1, level, method)
    if method == "bca":
        low, high = _bca(values, means, level)
        return replace(found, low=low, high=high)
    return found


def bootstrap_blocks(
    moments: Sequence[np.ndarray],
    block: int = 30,
    draws: int = 2000,
    seed: int = 0,
    *,
    people: bool = True,
    equal_films: bool = False,
    level: float = 0.95,
    method: str = "stretched",
) -> Interval:
    """Mean over people of scores that are means over rows; people and blocks of rows are drawn.

    Parameters
    ----------
    moments : sequence of ndarray (people, rows)
        One of each film (or run): the share of each row in a person's score, such that the mean
        of the shares is the score. The people are the same, in the same order, in each; NaN where
        a person did not see a row.
    block : int
        Rows drawn together. Blocks are drawn from all films laid one after another, in a circle,
        so that films shorter than a block need no rule of their own; as many as make up all rows
        that anyone has.
    draws, seed
    people : bool
        Whether people are drawn too, so that the interval is about people like these. If not it is
        about these people.
    equal_films : bool
        Whether a person's score is the mean of those of films (or runs), whatever their length,
        and not the mean over all rows.
    level : float
    method : {"stretched", "percentile"}

    Returns
    -------
    Interval
        `mean` is that over people of the mean over the rows that the person has. A person who has
        none of a draw's rows is not in that draw.

    Raises
    ------
    InputError
        Arrays that do not fit each other, nothing measured, an unknown method, or `block` below 1.
    """
    _check(level, draws, method, METHODS[:2])
    if block < 1:
        raise InputError(f"blocks of {block} rows; 1 at least fits")
    shares, weights = _shares(moments, equal_films)
    n_people, rows = shares.shape
    block = min(block, rows)
    count = max(1, round(rows / block))
    rng = np.random.default_rng(seed)

    # Sums of each block (rows, 2 people): every row starts one, in a circle.
    both = np.concatenate([shares * weights, weights]).T
    sums = np.cumsum(np.concatenate([both, both[: block - 1]]), axis=0)
    sums = np.concatenate([sums[block - 1 : block], sums[block:] - sums[:-block]])
    scores = np.empty((draws, n_people))
    step = max(1, _VALUES // rows)
    for first in range(0, draws, step):
        some = min(step, draws - first)
        starts = rng.integers(0, rows, (some, count)) + rows * np.arange(some)[:, None]
        often = np.bincount(starts.ravel(), minlength=some * rows).reshape(some, rows)
        total = often.astype(float) @ sums
        # What was never drawn is 0 exactly but for the rounding of running sums.
        seen = total[:, n_people:] > 1e-9 * weights.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            means = total[:, :n_people] / total[:, n_people:]
        scores[first : first + some] = np.where(seen, means, np.nan)

    each = (shares * weights).sum(axis=1) / weights.sum(axis=1)
    times: np.ndarray = np.ones((draws, n_people))
    fixed = _weighted(scores, times)
    people = people and n_people > 1
    if people:
        times = _people_drawn(rng, draws, n_people)
    found = _weighted(scores, times)
    found, mean = found[~np.isnan(found)], float(each.mean())
    if count == 1:
        return _unknown(mean, found, level, method)
    # Variances of the mean that each kind of drawing brings about, and their degrees of freedom.
    parts = [(float(np.nanvar(fixed)) * count / (count - 1), count - 1)]
    total = parts[0][0]
    if people:
        parts.append((float(each.var(ddof=1)) / n_people, n_people - 1))
        own = float(np.nanvar(scores, axis=0).mean()) / n_people * count / (count - 1)
        # What the film does to each person by himself; both of the variances above hold it.
        twice = max(0.0, own - parts[0][0] / n_people) * n_people / (n_people - 1)
        parts.append((twice, (count - 1) * (n_people - 1)))
        total = max(parts[0][0], parts[1][0], parts[0][0] + parts[1][0] - twice)
    squares = sum(variance**2 / freedom for variance, freedom in parts)
    freedom = total**2 / squares if squares else np.inf
    return _interval(mean, found, total, freedom, level, method)


def bootstrap_difference(
    moments_a: Sequence[np.ndarray],
    moments_b: Sequence[np.ndarray],
    block: int = 30,
    draws: int = 2000,
    seed: int = 0,
    *,
    people: bool = True,
    equal_films: bool = False,
    level: float = 0.95,
    method: str = "stretched",
) -> Interval:
    """Difference a - b of two scores of the same people and rows, in the same draws.

    Parameters are as in `bootstrap_blocks`; rows count where both scores have them.

    Raises
    ------
    InputError
        If the two do not have the same films, people and rows, and as in `bootstrap_blocks`.
    """
    a, b = ([np.asarray(film, float) for film in films] for films in (moments_a, moments_b))
    shapes_a, shapes_b = ([film.shape for film in films] for films in (a, b))
    if shapes_a != shapes_b:
        raise InputError(
            f"films {shapes_a} and {shapes_b} are compared; the same people and rows fit"
        )
    return bootstrap_blocks(
        [one - other for one, other in zip(a, b, strict=True)],
        block,
        draws,
        seed,
        people=people,
        equal_films=equal_films,
        level=level,
        method=method,
    )


def _check(level: float, draws: int, method: str, methods: Sequence[str]) -> None:
    if method not in methods:
        raise InputError(f"method {method!r} is unknown; known: {', '.join(methods)}")
    if not 0 < level < 1:
        raise InputError(f"level {level}; a share between 0 and 1, such as 0.95, fits")
    if draws < 2:
        raise InputError(f"{draws} draws; 2 at least fit")


def _check_finite(values: np.ndarray) -> None:
    if np.isinf(values).any():
        raise InputError("values to be drawn are infinite; numbers, and NaN for none, fit")


def _shares(moments: Sequence[np.ndarray], equal_films: bool) -> tuple[np.ndarray, np.ndarray]:
    """Shares and their weights (people, rows) of those who have any; 0 where there is none."""
    films = [np.asarray(film, float) for film in moments]
    shapes = [film.shape for film in films]
    if not films or any(len(shape) != 2 or shape[0] != shapes[0][0] for shape in shapes):
        raise InputError(f"films of shape {shapes}; (people, rows) with the same people fit")
    for film in films:
        _check_finite(film)
    there = [~np.isnan(film) for film in films]
    weights = np.concatenate(
        [
            mask / np.maximum(mask.sum(axis=1, keepdims=True), 1) if equal_films else mask * 1.0
            for mask in there
        ],
        axis=1,
    )
    # Rows that nobody has would count as blocks, and make the mean look more certain than it is.
    some, seen = weights.any(axis=1), weights.any(axis=0)
    if not some.any():
        raise InputError("no row of anyone has a value to be drawn")
    values = np.nan_to_num(np.concatenate(films, axis=1))
    return values[some][:, seen], weights[some][:, seen]


def _people_drawn(rng: np.random.Generator, draws: int, n: int) -> np.ndarray:
    """How often each of n people is in each draw (draws, n)."""
    drawn = rng.integers(0, n, (draws, n)) + n * np.arange(draws)[:, None]
    return np.bincount(drawn.ravel(), minlength=draws * n).reshape(draws, n).astype(float)


def _weighted(scores: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Mean of the scores (draws, people) that are there; NaN in a draw where none is."""
    there = ~np.isnan(scores)
    with np.errstate(invalid="ignore"):
        mean: np.ndarray = (times * np.nan_to_num(scores)).sum(1) / (times * there).sum(1)
    return mean


def _unknown(mean: float, draws: np.ndarray, level: float, method: str) -> Interval:
    nothing = float("nan")
    return Interval(mean, nothing, nothing, nothing, nothing, draws, level, method)


def _interval(
    mean: float, draws: np.ndarray, variance: float, freedom: float, level: float, method: str
) -> Interval:
    """Interval from the draws of a mean, its variance, and the latter's degrees of freedom."""
    from scipy.stats import norm, t

    se, tail = float(np.sqrt(variance)), (1 - level) / 2
    if se <= _ROUNDING * abs(mean):
        return Interval(mean, mean, mean, 0.0, float(mean == 0), draws, level, method)
    low, high = np.quantile(draws, [tail, 1 - tail])
    if method == "stretched":
        spread = draws.std()
        stretch = se / spread * t.isf(tail, freedom) / norm.isf(tail) if spread > 0 else 1.0
        low, high = (mean + stretch * (end - draws.mean()) for end in (low, high))
    p = 2 * t.sf(abs(mean) / se, freedom)
    return Interval(mean, float(low), float(high), se, float(p), draws, level, method)


def _bca(values: np.ndarray, draws: np.ndarray, level: float) -> tuple[float, float]:
    """Percentiles corrected for bias and for skewness, the latter by leaving each value out."""
    from scipy.stats import norm

    mean = values.mean()
    # Draws that equal the mean stand half on either side.
    below = ((draws < mean).mean() + (draws <= mean).mean()) / 2
    bias = norm.ppf(np.clip(below, 1 / (len(draws) + 1), len(draws) / (len(draws) + 1)))
    without = (values.sum() - values) / (len(values) - 1)
    away = without.mean() - without
    spread = (away**2).sum()
    skew = (away**3).sum() / (6 * spread**1.5) if spread > 0 else 0.0
    z = bias + norm.ppf([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(draws, norm.cdf(bias + z / (1 - skew * z)))
    return float(low), float(high)
