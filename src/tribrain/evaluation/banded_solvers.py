"""Ridge with a weight for each band of columns: candidates, and the search among them.

Of each output one finds the candidate of weights and the penalty that predict rows left out best,
and fits to all rows with them (Nunez-Elizalde, Huth & Gallant 2019, NeuroImage 197:482-492;
Dupré la Tour, Eickenberg, Nunez-Elizalde & Gallant 2022, NeuroImage 264:119728).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from tribrain.evaluation.folds import Fold
from tribrain.evaluation.ridge_solvers import best_penalties, ridge_weights, validation_scores

LEVELS = {1: (1.0,), 2: (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)}
"""Weights of a band beside the largest one that a grid tries, by the number of bands."""
_LEVELS = (0.0, 0.1, 1.0)
_LISTED = 8  # bands, up to which every combination is listed
_COORDINATES = 2**29
"""Bytes that the coordinates of all folds may take in one call of the solver."""


@dataclass(frozen=True, eq=False)
class Search:
    """What was found for each output.

    Attributes
    ----------
    weights : ndarray (bands, outputs)
        Of the bands; they add up to 1. A band is multiplied by the root of its weight.
    penalties : ndarray (outputs,)
        Added to the sums of products.
    coef : ndarray (columns, outputs)
    intercept : ndarray (outputs,)
    scores : ndarray (candidates, outputs)
        Mean over the folds at the best penalty of each candidate; NaN where nothing was chosen.
    """

    weights: np.ndarray
    penalties: np.ndarray
    coef: np.ndarray
    intercept: np.ndarray
    scores: np.ndarray


def search_sums(
    x: np.ndarray,
    y: np.ndarray,
    rows: np.ndarray,
    bands: Sequence[slice],
    candidates: np.ndarray,
    penalties: np.ndarray,
    folds: Sequence[Fold],
    scoring: str = "r",
    batch: int = 2048,
) -> Search:
    """Search by the sums of products of `ridge_solvers`.

    Parameters
    ----------
    x : ndarray (n, columns)
    y : ndarray (n, outputs)
    rows : ndarray of int
        Those that are fitted to.
    bands : sequence of slice
    candidates : ndarray (candidates, bands)
        Weights to try.
    penalties : ndarray (penalties,)
    folds : sequence of (rows to train on, rows to test on)
        None of them are needed where there is nothing to choose.
    scoring : {"r", "r2"}
    batch : int
        Outputs scored at once.
    """
    outputs, columns = y.shape[1], x.shape[1]
    scales = np.sqrt(np.repeat(candidates, [band.stop - band.start for band in bands], axis=1))
    scores = np.full((len(candidates), outputs), np.nan)
    chosen, places = np.zeros(outputs, int), np.zeros(outputs, int)
    best = np.full(outputs, -np.inf)
    tolerance = float(np.finfo(y.dtype).eps)
    step = max(1, _COORDINATES // (8 * max(len(folds), 1) * columns**2))
    for first in range(0, len(candidates), step):
        if len(candidates) * len(penalties) == 1:
            break
        found = validation_scores(
            *(x, y, folds, penalties),
            **{"scoring": scoring, "scales": scales[first : first + step]},
            relative=False,
            batch=batch,
        )
        for number, some in enumerate(found, start=first):
            place = best_penalties(some, penalties.tolist(), per_output=True)
            scores[number] = some[place, np.arange(outputs)]
            better = scores[number] > best + tolerance
            best[better] = scores[number][better]
            chosen[better], places[better] = number, place[better]
    coef, intercept = np.empty((columns, outputs), y.dtype), np.empty(outputs)
    for number in np.unique(chosen):
        mine = np.flatnonzero(chosen == number)
        coef[:, mine], intercept[mine] = ridge_weights(
            *(x, y[:, mine], rows, penalties[places[mine]]),
            scale=scales[number],
            relative=False,
            batch=batch,
        )
    return Search(candidates[chosen].T, penalties[places], coef, intercept, scores)


def search_himalaya(
    x: np.ndarray,
    y: np.ndarray,
    bands: Sequence[slice],
    candidates: np.ndarray,
    penalties: np.ndarray,
    folds: Sequence[Fold],
    scoring: str = "r",
    batch: int = 2048,
    backend: str = "numpy",
) -> Search:
    """Search by himalaya's multiple-kernel ridge, with a linear kernel for each band.

    Parameters
    ----------
    x, y, bands, candidates, penalties, folds, scoring, batch
        As of `search_sums`; all rows are fitted to.
    backend : str
        What himalaya works with: "numpy", "torch", "torch_cuda".
    """
    from himalaya.kernel_ridge import (
        primal_weights_weighted_kernel_ridge,
        solve_multiple_kernel_ridge_random_search,
    )
    from himalaya.scoring import correlation_score, r2_score

    mean = x.mean(axis=0, dtype=np.float64)
    x = (x - mean).astype(x.dtype, copy=False)
    with himalaya_backend(backend) as made, np.errstate(divide="ignore", invalid="ignore"):
        parts = [made.asarray(x[:, band]) for band in bands]
        deltas, dual, scores = solve_multiple_kernel_ridge_random_search(
            made.stack([part @ part.T for part in parts]),
            made.asarray(y),
            n_iter=made.asarray(candidates.astype(x.dtype)),
            alphas=made.asarray(penalties.astype(x.dtype)),
            score_func={"r": correlation_score, "r2": r2_score}[scoring],
            cv=list(folds),
            fit_intercept=True,
            return_weights="dual",
            n_targets_batch=batch,
            n_targets_batch_refit=max(1, batch // len(penalties)),
            progress_bar=False,
        )[:3]
        found = np.exp(made.to_numpy(deltas).astype(np.float64))
        coef = np.concatenate(
            [
                made.to_numpy(part)
                for part in primal_weights_weighted_kernel_ridge(dual, deltas, parts)
            ]
        )
        scores = made.to_numpy(scores)
    intercept = y.mean(axis=0, dtype=np.float64) - mean @ coef
    return Search(found / found.sum(axis=0), 1 / found.sum(axis=0), coef, intercept, scores)


@contextmanager
def himalaya_backend(name: str) -> Iterator[Any]:
    """himalaya with an array library of a name; the one before is put back at the end.

    It is global to the process: threads that use himalaya with another one must not run beside.
    """
    from himalaya.backend import get_backend, set_backend

    before = get_backend()
    try:
        yield set_backend(name)
    finally:
        set_backend(before)


def grid(bands: int, most: int = 32, seed: int = 0) -> np.ndarray:
    """Every combination of levels whose largest is 1.

    Parameters
    ----------
    bands : int
    most : int
        Where there are more, all alike and each band alone, and others drawn.
    seed : int

    Returns
    -------
    ndarray (candidates, bands)
        Rows add up to 1; all alike comes first, then each band alone.
    """
    random = np.random.default_rng(seed)
    fixed = np.concatenate([np.ones((1, bands)), np.eye(bands)])
    if bands > _LISTED:
        others = random.choice(_LEVELS, (4 * most, bands))
    else:
        others = np.array(list(product(LEVELS.get(bands, _LEVELS), repeat=bands)))
    every = np.concatenate([fixed, others[others.max(axis=1) == 1]])
    _, first = np.unique(every, axis=0, return_index=True)
    every = every[np.sort(first)]
    kept = min(len(fixed), len(every))
    if len(every) > max(most, kept):
        drawn = kept + random.choice(len(every) - kept, max(most - kept, 0), replace=False)
        every = every[[*range(kept), *sorted(drawn)]]
    return every / every.sum(axis=1, keepdims=True)


def dirichlet(bands: int, n: int, seed: int = 0) -> np.ndarray:
    """Weights (n, bands) as himalaya draws them; the first ones are equal.

    Concentrations are 0.1, near one band alone, and 1, even over all mixtures, in turn.
    """
    from himalaya.kernel_ridge import generate_dirichlet_samples

    with himalaya_backend("numpy"):
        found = np.array(
            generate_dirichlet_samples(n, bands, concentration=[0.1, 1.0], random_state=seed)
        )
    found[0] = 1 / bands
    return found
