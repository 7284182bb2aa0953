"""Whether people's values differ from 0: signs flipped at random.

Under the null hypothesis a person's value is as likely to be positive as negative (it lies
symmetrically around 0), and people are independent of each other. A person's values at all
outputs are flipped together, so that what outputs share stays shared.

References
----------
Nichols & Holmes 2002, Human Brain Mapping 15:1-25; Winkler et al. 2014, NeuroImage 92:381-397.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tribrain.errors import InputError
from tribrain.evaluation.statistics.correction import family_wise, p_of_counts

STATISTICS = ("t", "mean")

_VALUES = 4_000_000  # permuted values at a time


@dataclass(frozen=True, eq=False)
class SignTest:
    """Means over people, and whether they differ from 0.

    Attributes
    ----------
    mean, t : ndarray (outputs,)
        Mean over the people who have the output, and its t; NaN where fewer than two have it. A t
        is infinite where all have the same value.
    p : ndarray (outputs,)
        Of each output alone.
    p_max : ndarray (outputs,)
        Corrected for all outputs by the largest statistic.
    max_null : ndarray (n,)
        The largest statistic of each choice of signs.
    exact : bool
        True where `max_null` is of all 2^people choices of signs, the observed one among them.

    Of values (people,) the arrays are of shape ().
    """

    mean: np.ndarray
    t: np.ndarray
    p: np.ndarray
    p_max: np.ndarray
    max_null: np.ndarray
    exact: bool


def sign_flips(
    values: np.ndarray,
    n: int = 10_000,
    *,
    two_sided: bool = False,
    statistic: str = "t",
    seed: int = 0,
) -> SignTest:
    """Test of means over people by sign flips.

    Parameters
    ----------
    values : ndarray (people, outputs) or (people,)
        For a comparison the differences. NaN where a person has none.
    n : int
        Random choices of signs; all 2^people are gone through instead where they are no more.
    two_sided : bool
        Whether means below 0 count against the null hypothesis as well.
    statistic : {"t", "mean"}
        What the largest value over outputs is taken of. ``t`` gives outputs that vary little
        among people the same chance. The p values of each output alone are the same for both.
    seed : int

    Returns
    -------
    SignTest
        No p value is smaller than 1 / 2^people (2 / 2^people where two-sided).

    Raises
    ------
    InputError
        Another number of axes, fewer than two people, infinite values, or an unknown statistic.
    """
    values = np.asarray(values, float)
    if values.ndim not in (1, 2) or len(values) < 2:
        raise InputError(
            f"sign flips of an array {values.shape}; (people, outputs) or (people,) with two "
            "people at least fits"
        )
    if np.isinf(values).any():
        raise InputError("values whose signs are flipped are infinite; numbers, and NaN, fit")
    if statistic not in STATISTICS:
        raise InputError(f"statistic {statistic!r} is unknown; known: {', '.join(STATISTICS)}")
    if n < 1:
        raise InputError(f"{n} permutations; one at least fits")
    shape, people = values.shape[1:], len(values)
    values = values.reshape(people, -1)
    there = ~np.isnan(values)
    count = there.sum(axis=0)
    filled = np.where(there & (count > 1), values, 0.0)
    count = np.where(count > 1, count, 0)
    squares = (filled**2).sum(axis=0)

    def statistics_of(signs: np.ndarray, kind: str) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            means = signs @ filled / count
            if kind == "mean":
                return means
            # The sum of squares does not depend on signs: t is a monotone function of the mean.
            spread = np.maximum(squares / count - means**2, 0)
            spread[spread <= 1e-14 * squares / np.maximum(count, 1)] = 0  # rounding
            return means / np.sqrt(spread / (count - 1))

    mean, t = (statistics_of(np.ones((1, people)), kind)[0] for kind in ("mean", "t"))
    exact = people < 63 and 2**people <= n
    total = 2**people if exact else n
    slack = 1e-9 * np.sqrt(squares)  # of sums: rounding does not part equal ones
    least = _sided(mean, two_sided) * count - slack
    rng = np.random.default_rng(seed)
    reached, largest = np.zeros(values.shape[1]), np.full(total, -np.inf)
    step = max(1, _VALUES // max(1, values.shape[1]))
    for first in range(0, total, step):
        rows = np.arange(first, min(first + step, total))
        if exact:
            signs = 1.0 - 2.0 * (rows[:, None] >> np.arange(people) & 1)
        else:
            signs = 1.0 - 2.0 * rng.integers(0, 2, (len(rows), people))
        means = statistics_of(signs, "mean")
        reached += (_sided(means, two_sided) * count >= least).sum(axis=0)
        found = means if statistic == "mean" else statistics_of(signs, "t")
        largest[rows] = np.fmax.reduce(_sided(found, two_sided), axis=1, initial=-np.inf)
    observed = _sided(mean if statistic == "mean" else t, two_sided)
    # The observed signs are among all signs, and have to be added to random ones.
    p = reached / total if exact else p_of_counts(reached, total)
    scale = slack.max(initial=0) if statistic == "mean" else 1e-9
    p_max = family_wise(observed, largest, scale)
    if exact:
        p_max = (p_max * (total + 1) - 1) / total
    return SignTest(
        mean.reshape(shape),
        t.reshape(shape),
        np.where(np.isnan(mean), np.nan, p).reshape(shape),
        p_max.reshape(shape),
        largest,
        exact,
    )


def _sided(values: np.ndarray, two_sided: bool) -> np.ndarray:
    return np.abs(values) if two_sided else values
