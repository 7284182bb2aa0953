"""p values from null distributions, and their correction for many outputs.

>>> null_p([0.3, 0.0], [[0.1, 0.1], [-0.1, 0.2], [0.2, -0.1]])
array([0.25, 0.75])
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tribrain.errors import InputError

METHODS = ("bh", "by")
"""Benjamini-Hochberg and Benjamini-Yekutieli; see `fdr`."""
TIE = 1e-6
"""A permuted correlation that falls short of the observed one by less counts as equal to it."""


def p_of_counts(counts: ArrayLike, n: int) -> np.ndarray:
    """p values of `n` random permutations, of which `counts` reached the observed statistic.

    The observed order counts as one of the permutations, so that no p value is 0 and the test
    keeps its level with any number of them.

    References
    ----------
    Phipson & Smyth 2010, Statistical Applications in Genetics and Molecular Biology 9:39.
    """
    p: np.ndarray = (1 + np.asarray(counts, float)) / (n + 1)
    return p


def null_p(observed: ArrayLike, null: ArrayLike, tie: float = 0.0) -> np.ndarray:
    """One-sided p values of statistics, large ones counting against the null hypothesis.

    Parameters
    ----------
    observed : array_like (...)
    null : array_like (n, ...)
        The statistics of n permutations.
    tie : float
        What a permuted statistic may fall short of the observed one and count as equal to it, as
        what was added up in another order does by rounding.

    Returns
    -------
    ndarray (...)
        NaN where the observed statistic, or any of its permutations, is.
    """
    observed, null = np.asarray(observed, float), np.asarray(null, float)
    p = p_of_counts((null >= observed - tie).sum(axis=0), len(null))
    return np.where(np.isnan(observed) | np.isnan(null).any(axis=0), np.nan, p)


def family_wise(observed: ArrayLike, max_null: ArrayLike, tie: ArrayLike = 0.0) -> np.ndarray:
    """p values that hold for all outputs together: against the largest value of a permutation.

    Parameters
    ----------
    observed : array_like (...)
    max_null : array_like (n,)
        Of each permutation the largest statistic over all outputs.
    tie : float or array_like (...)
        As in `null_p`.

    Returns
    -------
    ndarray (...)
        The chance of so large a value at any output; NaN where `observed` is.

    References
    ----------
    Nichols & Holmes 2002, Human Brain Mapping 15:1-25.
    """
    observed, ordered = np.asarray(observed, float), np.sort(np.asarray(max_null, float))
    reached = len(ordered) - np.searchsorted(ordered, observed - np.asarray(tie), side="left")
    return np.where(np.isnan(observed), np.nan, p_of_counts(reached, len(ordered)))


def fdr(p: ArrayLike, method: str = "bh") -> np.ndarray:
    """p values adjusted for the false discovery rate: the outputs with q <= 0.05 hold 5 % of them.

    Parameters
    ----------
    p : array_like (...)
        NaN where nothing was tested: such an output does not count.
    method : {"bh", "by"}
        Benjamini-Hochberg holds for tests that are independent or positively dependent (as
        neighbouring vertices are), Benjamini-Yekutieli for any, at the price of power.

    Returns
    -------
    ndarray (...)
        NaN where `p` is.

    Raises
    ------
    InputError
        If the method is unknown or a p value lies outside 0 to 1.

    References
    ----------
    Benjamini & Hochberg 1995, JRSS B 57:289-300; Benjamini & Yekutieli 2001, Annals of Statistics
    29:1165-1188.
    """
    from scipy.stats import false_discovery_control

    if method not in METHODS:
        raise InputError(f"method {method!r} is unknown; known: {', '.join(METHODS)}")
    p = np.asarray(p, float)
    tested = ~np.isnan(p)
    if (p[tested] < 0).any() or (p[tested] > 1).any():
        raise InputError("p values lie between 0 and 1; others were found")
    q = np.full(p.shape, np.nan)
    if tested.any():
        q[tested] = false_discovery_control(p[tested], method=method)
    return q
