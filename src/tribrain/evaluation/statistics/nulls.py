"""What correlations chance alone brings about: predictions moved in time against the data.

Series over time are not exchangeable row by row: neighbouring rows are alike, and two slow series
correlate by chance far more than two fast ones. Each kind of permutation here keeps what is slow
about a series and breaks its link with the other.

- ``shift``: circular shifts by `least` rows or more. Keeps all of the autocorrelation but at the
  one place where the end meets the beginning. Valid for series whose statistics do not change
  over time, and long runs: a run of T rows has T - 2 `least` + 1 shifts, neighbouring ones are
  nearly the same, and what they say of the width of the null is worth as many of them as there
  are stretches of the autocorrelation's length. With too few the test is too lenient, the more so
  the smaller p, and several short runs do not help. (Two unrelated series of noise through a
  haemodynamic response, rows of 1 s, `least` 30: 6 % of p values lie below 0.05, 1.6 % below 0.01
  with 3 runs of 300 rows; 12 % and 6 % with 3 runs of 100.)
- ``blocks``: blocks of `block` rows in random order. Valid where a block is several times as long
  as the autocorrelation; slow drifts that are longer than a block make it too lenient. Levels may
  change over time, if not in step in both series. (Same series, `block` 30: 6 % and 1.3 %, 5 % and
  1.1 %; with a first-order autoregression of 0.9 up to 7 % and 1.6 %.)
- ``phase``: the phases of the prediction's Fourier components drawn anew, its spectrum kept.
  Valid for linear Gaussian stationary series; as many surrogates as wanted, so that small p values
  mean what they say. (5 % and 1.0 %, 6 % and 1.1 %.) The one to take for p values of single
  outputs that are to be corrected for many.

Every permutation moves all outputs (and all people) alike, so that what outputs share stays
shared: the largest and the mean value over outputs are those of one permutation. Runs never mix:
what differs between the means of runs stays in every permutation.

References
----------
Theiler et al. 1992, Physica D 58:77-94; Prichard & Theiler 1994, PRL 73:951-954 (same phases for
all series); Phipson & Smyth 2010, SAGMB 9:39; Nichols & Holmes 2002, Human Brain Mapping 15:1-25.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tribrain.errors import InputError
from tribrain.evaluation.statistics.correction import TIE, family_wise, null_p, p_of_counts
from tribrain.evaluation.statistics.moves import Moves, moves_in_time, run_spans

CROSSED = 2**0.5
"""What cross-validation widens a null by. Two folds of no relation that happen to be alike predict
each other alike: each pair of folds is in the score twice, and in a permutation, which moves them
apart, twice by chances of their own. To first order (what is fitted is a sum over folds) the
variance of the score is double that of its permutations."""
REDUCTIONS = (None, "mean", "max")
People = Sequence[tuple[np.ndarray, np.ndarray]]
"""Predicted and measured (rows, outputs) of each person."""

_BYTES = 256 * 2**20  # of the arrays of a batch of outputs


@dataclass(frozen=True, eq=False)
class Null:
    """Correlations, and what permutations of the prediction bring about.

    Attributes
    ----------
    kind : str
        One of `tribrain.evaluation.statistics.moves.KINDS`.
    observed : ndarray (outputs,)
        Pearson correlations (of several people their mean); NaN where there is none and outside
        the mask.
    p : ndarray (outputs,)
        Of each output alone, one-sided; NaN where `observed` is, and everywhere where the null was
        reduced.
    mean_null, max_null : ndarray (n,)
        Mean and largest value over the outputs, of each permutation. `max_null` is NaN where the
        null was reduced to the mean.
    observed_mean, p_mean : float
        Mean over the outputs, and its p.
    interval_mean : tuple of two float
        Where 95 % of `mean_null` lie.
    p_max : ndarray (outputs,)
        Of each output, corrected for all of them by the largest value.
    """

    kind: str
    observed: np.ndarray
    p: np.ndarray
    mean_null: np.ndarray
    max_null: np.ndarray
    observed_mean: float
    p_mean: float
    interval_mean: tuple[float, float]
    p_max: np.ndarray


def null_correlations(
    predicted: np.ndarray | People,
    measured: np.ndarray | None = None,
    kind: str = "shift",
    n: int = 1000,
    runs: np.ndarray | None = None,
    block: int = 30,
    least: int = 60,
    seed: int = 0,
    reduce: str | None = None,
    mask: np.ndarray | None = None,
    device: str | torch.device = "cpu",
    spread: float = 1.0,
) -> Null:
    """Null distribution of the correlation of predicted with measured series.

    Parameters
    ----------
    predicted, measured : ndarray (rows, outputs)
        NaN where nothing was measured. Or, as the first argument, a list of such pairs, one a
        person, of the same rows: the statistic is then the mean over people (at each output over
        those who have it), and a permutation moves everyone alike, as people who saw the same
        film are not independent.
    kind : {"shift", "blocks", "phase"}
        See the module.
    n : int
        Permutations. Where there are no more than this many shifts in all, each is taken once.
    runs : ndarray (rows,), optional
        Labels; rows of a run stand together. By default all rows are one run.
    block, least : int
        Rows of a block; least shift, in rows.
    seed : int
    reduce : {None, "mean", "max"}
        ``mean`` brings the null of the mean over outputs alone, at a small part of the cost;
        ``max`` leaves the p values of each output alone out.
    mask : ndarray (outputs,), bool, optional
        Outputs that count; by default all.
    device : str or torch.device
        Where products are made, in single precision.
    spread : float
        Factor by which the null deviates more from its mean than the permutations do: `CROSSED`
        for what was predicted by cross-validation.

    Returns
    -------
    Null

    Raises
    ------
    InputError
        Shapes that do not fit, an unknown kind or reduction, a run that is too short to be
        permuted, no output with a correlation.

    Notes
    -----
    Rows where one of both is NaN do not count in the observed correlation, which is Pearson's. A
    permuted one is the sum of products with the norms of the observed one: Pearson's as well
    where nothing is missing, and up to the prediction's scale in the moved rows where it is.

    Outputs are worked on in batches. Memory beyond the arguments stays at about 0.3 GB (or what one
    output takes) and, for ``phase``, 4 bytes times n times rows.
    """
    people = _people(predicted, measured)
    rows, outputs = people[0][0].shape
    if reduce not in REDUCTIONS:
        raise InputError(f"reduce {reduce!r} is unknown; known: None, mean, max")
    if n < 1:
        raise InputError(f"{n} permutations; one at least fits")
    wanted = np.ones(outputs, bool) if mask is None else np.asarray(mask)
    if wanted.dtype != bool or wanted.shape != (outputs,):
        raise InputError(f"the mask is {wanted.dtype} {wanted.shape}; bool ({outputs},) fits")
    spans = run_spans(runs, rows)
    moves = moves_in_time(kind, spans, n, block, least, np.random.default_rng(seed), device)

    observed, p = np.full(outputs, np.nan), np.full(outputs, np.nan)
    mean_null, max_null = np.zeros(moves.n), np.full(moves.n, -np.inf)
    whole_table = torch.zeros(moves.entries, 1, dtype=torch.float64, device=device)
    chosen = np.flatnonzero(wanted)
    # Both series and what standardises them in double precision, transforms, table, moved values.
    step = max(1, _BYTES // (100 * rows + 12 * moves.entries + 16 * moves.n))
    for first in range(0, len(chosen), step):
        columns = chosen[first : first + step]
        table, found = _table_of_people(people, columns, moves, device)
        observed[columns] = found
        there = ~np.isnan(found)
        if reduce == "mean":
            whole_table += table.sum(dim=1, keepdim=True, dtype=torch.float64)
            continue
        null = _widened(moves.total(table), spread)
        mean_null += null.sum(dim=1, dtype=torch.float64).cpu().numpy()
        if there.any():
            part = null[:, torch.from_numpy(there).to(device)]
            max_null = np.maximum(max_null, part.amax(dim=1).double().cpu().numpy())
        if reduce is None:
            least_value = torch.from_numpy(found - TIE).to(null)
            counts = (null >= least_value).sum(dim=0).cpu().numpy()
            p[columns] = np.where(there, p_of_counts(counts, moves.n), np.nan)
    counted = int((~np.isnan(observed)).sum())
    if not counted:
        raise InputError("no output has a correlation: nothing that varies was measured there")
    if reduce == "mean":
        max_null[:] = np.nan
        whole = _widened(moves.total(whole_table.float()), spread)
        mean_null = whole[:, 0].double().cpu().numpy()
    mean_null /= counted
    observed_mean = float(np.nanmean(observed))
    low, high = np.quantile(mean_null, [0.025, 0.975])
    no_p = np.full(outputs, np.nan)
    return Null(
        kind,
        observed,
        p,
        mean_null,
        max_null,
        observed_mean,
        float(null_p(observed_mean, mean_null, TIE)),
        (float(low), float(high)),
        no_p if reduce == "mean" else family_wise(observed, max_null, TIE),
    )


def _widened(null: Tensor, spread: float) -> Tensor:
    """Permuted values (n, v) that deviate from their means by so many times as much."""
    if spread == 1:
        return null
    mean = null.mean(dim=0)
    return mean + spread * (null - mean)


def _people(predicted: np.ndarray | People, measured: np.ndarray | None) -> list:
    """Pairs of arrays of one shape (rows, outputs)."""
    pairs = list(predicted) if measured is None else [(predicted, measured)]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise InputError("predicted and measured arrays, or a list of such pairs, fit")
    people = [(np.asarray(a), np.asarray(b)) for a, b in pairs]
    shapes = {array.shape for pair in people for array in pair}
    if len(shapes) > 1 or people[0][0].ndim != 2 or 0 in people[0][0].shape:
        told = ", ".join(map(str, sorted(shapes)))
        raise InputError(f"arrays of shape {told}; one shape (rows, outputs) of all fits")
    return people


def _table_of_people(
    people: People, columns: np.ndarray, moves: Moves, device: str | torch.device
) -> tuple[Tensor, np.ndarray]:
    """Mean over people of the table (entries, v), 0 where there is none, and of r (v,)."""
    table: Tensor | None = None
    total, count = np.zeros(len(columns)), np.zeros(len(columns))
    for a, b in people:
        x, y, r = _standardised(a[:, columns].astype(float), b[:, columns].astype(float))
        single = [torch.from_numpy(series.astype(np.float32)).to(device) for series in (x, y)]
        part = moves.table(*single)
        table = part if table is None else table.add_(part)
        total += np.nan_to_num(r)
        count += ~np.isnan(r)
    assert table is not None
    table /= torch.from_numpy(np.maximum(count, 1)).to(table)
    with np.errstate(invalid="ignore"):
        return table, total / count


def _standardised(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Series (rows, v) with means of 0 whose sum of products is Pearson's r (v,).

    Means and norms are over the rows that both have. Where there is no correlation both are 0
    and r is NaN.
    """
    together = ~(np.isnan(x) | np.isnan(y))
    count = np.maximum(together.sum(axis=0), 1)
    defined = np.ones(x.shape[1], bool)
    scaled = []
    for series in (x, y):
        inside = np.where(together, series, np.nan)
        # Compared with itself, not with 0: rounding leaves a little of a constant's deviation.
        defined &= np.fmax.reduce(inside) > np.fmin.reduce(inside)
        centred = series - np.where(together, series, 0).sum(axis=0) / count
        norm = np.sqrt(np.where(together, centred**2, 0).sum(axis=0))
        with np.errstate(invalid="ignore", divide="ignore"):
            scaled.append(centred / norm)
    r = np.where(together, scaled[0] * scaled[1], 0).sum(axis=0)
    x, y = (np.where(defined, np.nan_to_num(part), 0) for part in scaled)
    # What the prediction says of rows that were not measured is still moved onto others.
    return x, np.where(together, y, 0), np.where(defined, r, np.nan)
