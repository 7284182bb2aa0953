"""Cleaning of one run of BOLD: drift and confounds out, then z-scores.

A least-squares fit of everything at once (Lindquist et al. 2019, Hum. Brain Mapp. 40:2358-2376,
doi:10.1002/hbm.24528: filters and confounds one after the other bring back what was removed).
`nilearn.signal.clean` gives the same numbers, with these differences: here the trend runs in time
across scrubbed volumes, not in the count of those kept; cosines are not left out where a confound
is like one of them; a series may lack rows of its own; a constant series does not become noise; and
a long run is not copied in float64.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tribrain.brain.series import BoldSeries
from tribrain.errors import InputError, InputWarning
from tribrain.files import require_file

if TYPE_CHECKING:
    import pandas as pd

STANDARDIZE = ("zscore", None)
_BLOCK = 512
"""Series fitted at a time, in float64."""
_FLAT = float(np.finfo(np.float32).eps)
"""A series that varies by less than this share of its size is constant: float32 holds no more."""
_COLLINEAR = 1e-10
"""A confound of which the others leave less than this share tells nothing new."""
_FROM_FIRST_DIFFERENCE = re.compile("deriv|displacement|dvars|rmsd", re.IGNORECASE)


def clean(
    values: np.ndarray,
    repetition_time: float,
    *,
    detrend: bool = True,
    standardize: str | None = "zscore",
    high_pass: float | None = None,
    confounds: np.ndarray | pd.DataFrame | None = None,
    scrubbed: np.ndarray | None = None,
) -> np.ndarray:
    """Clean one run. The published recipe is the default: detrended and z-scored.

    Parameters
    ----------
    values : ndarray (time, n)
        NaN where nothing was measured. A row that is NaN throughout counts as scrubbed; a series
        with some rows NaN is fitted on its own rows.
    repetition_time : float
        Seconds.
    detrend : bool
        Remove the mean and the line in time.
    standardize : {"zscore", None}
        Scale each series to mean 0 and standard deviation 1 over its rows: the population's one
        (divided by the number of rows), so that z-scores have a mean square of exactly 1.
        nilearn's "zscore_sample" is smaller by the factor sqrt((rows - 1) / rows). None leaves the
        unit, and the mean too unless it is detrended.
    high_pass : float, optional
        Cut-off in Hz: removes the discrete cosines of the run up to this frequency (1 / 128 s is
        SPM's, about 0.008 Hz).
    confounds : ndarray (time, k) or DataFrame, optional
        Regressed out. Constant and collinear ones do no harm.
    scrubbed : ndarray (time,) of bool, optional
        Volumes to leave out: no fit sees them, and they are NaN in the result.

    Returns
    -------
    ndarray (time, n), float32
        A constant series, and one that holds nothing but drift and confounds, is NaN: nothing was
        measured there. So is one with too few rows for the fit. A warning says how many.

    Raises
    ------
    InputError
        If the confounds have another number of rows than the run or are not known at a row that is
        kept, if they leave nothing of the rows, or if the repetition time is none.
    """
    values = np.asarray(values)
    if values.ndim != 2:
        raise InputError(f"the run has shape {values.shape}; (time, n) fits")
    if standardize not in STANDARDIZE:
        raise InputError(f"standardize {standardize!r} is unknown; known: 'zscore', None")
    if not 0 < repetition_time < 100:
        raise InputError(f"repetition time {repetition_time:g} s; 0 to 100 s fit")
    if np.isinf(values).any():
        raise InputError("the run holds infinite values; NaN is what was not measured")
    missing = np.isnan(values)
    left_out = missing.all(axis=1) | _scrubbed(scrubbed, len(values))
    rows = np.flatnonzero(~left_out)
    design = _drift(len(values), repetition_time, detrend, high_pass)[rows]
    if confounds is not None:
        design = np.hstack([design, _confounds(confounds, left_out)])
    spare = len(rows) - 1 - _basis(design).shape[1]
    if spare < 1:
        raise InputError(
            f"{len(rows)} rows are left of {len(values)}, and drift and confounds have "
            f"{design.shape[1]} columns; nothing would be left of the run"
        )

    result = np.full(values.shape, np.nan, np.float32)
    n_flat = n_short = 0
    for kept, columns in _patterns(missing, rows):
        basis = _basis(design[kept])
        if len(kept) - 1 - basis.shape[1] < 1:
            n_short += len(columns) if len(kept) else 0
            continue
        for start in range(0, len(columns), _BLOCK):
            where = np.ix_(rows[kept], columns[start : start + _BLOCK])
            fitted, flat = _residuals(values[where], basis, standardize)
            if not (detrend or standardize):
                fitted += values[where].mean(axis=0, dtype=float)
            fitted[:, flat] = np.nan
            n_flat += int(flat.sum())
            result[where] = fitted
    if n_flat:
        warnings.warn(
            f"{n_flat} of {values.shape[1]} series are constant, or hold nothing but drift and "
            "confounds; they are NaN",
            InputWarning,
            stacklevel=2,
        )
    if n_short:
        warnings.warn(
            f"{n_short} of {values.shape[1]} series have too few rows to be cleaned; they are NaN",
            InputWarning,
            stacklevel=2,
        )
    return result


def clean_series(
    series: BoldSeries,
    *,
    detrend: bool = True,
    standardize: str | None = "zscore",
    high_pass: float | None = None,
    confounds: np.ndarray | pd.DataFrame | None = None,
    scrubbed: np.ndarray | None = None,
) -> BoldSeries:
    """Clean one run; parameters as in `clean`."""
    values = clean(
        series.values,
        series.repetition_time,
        detrend=detrend,
        standardize=standardize,
        high_pass=high_pass,
        confounds=confounds,
        scrubbed=scrubbed,
    )
    return replace(series, values=values)


def read_confounds(path: str | Path, columns: str | Sequence[str]) -> pd.DataFrame:
    """Read columns of a table of confounds, such as ``*_desc-confounds_timeseries.tsv``.

    Parameters
    ----------
    path : str or Path
        Table with tabs and a header, as fMRIPrep writes it.
    columns : str or sequence of str
        Names, or patterns such as ``trans_*`` and ``a_comp_cor_0[0-5]``; each must be there.

    Returns
    -------
    DataFrame (time, k)
        In the order asked for. What is a difference to the row before (derivatives, framewise
        displacement, DVARS) is not known in the first row; there it is that of the second row, as
        in `nilearn.interfaces.fmriprep.load_confounds`.

    Raises
    ------
    InputError
        If a column is not there (names those that are), is not numbers, or lacks other rows.
    """
    import pandas as pd

    path = require_file(path, "table of confounds")
    try:
        table = pd.read_csv(path, sep="\t", na_values="n/a", encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no table with tabs: {error}") from error
    chosen: dict[str, None] = {}
    for pattern in [columns] if isinstance(columns, str) else columns:
        found = [name for name in table.columns if fnmatchcase(name, pattern)]
        if not found:
            there = dict.fromkeys(re.sub(r"\d+$", "*", name) for name in table.columns)
            raise InputError(f"{path} has no column {pattern!r}; it has {', '.join(there)}")
        chosen |= dict.fromkeys(found)
    table = table[list(chosen)]
    for name, column in table.items():
        if column.dtype.kind not in "fiu":
            raise InputError(f"column {name} of {path} does not hold numbers alone")
    values = table.to_numpy(float, copy=True)
    differences = [bool(_FROM_FIRST_DIFFERENCE.search(name)) for name in chosen]
    if len(values) > 1:
        values[0] = np.where(np.isnan(values[0]) & differences, values[1], values[0])
    damaged = [
        name for name, column in zip(chosen, values.T, strict=True) if not np.isfinite(column).all()
    ]
    if damaged:
        raise InputError(f"{path} lacks some rows of {', '.join(damaged)}")
    return pd.DataFrame(values, columns=list(chosen))


def _scrubbed(scrubbed: np.ndarray | None, n: int) -> np.ndarray:
    if scrubbed is None:
        return np.zeros(n, bool)
    scrubbed = np.asarray(scrubbed)
    if scrubbed.shape != (n,) or scrubbed.dtype != bool:
        raise InputError(
            f"scrubbed has shape {scrubbed.shape} and type {scrubbed.dtype}; one bool for each "
            f"of {n} rows fits"
        )
    return scrubbed


def _drift(n: int, repetition_time: float, detrend: bool, high_pass: float | None) -> np.ndarray:
    """Columns of a line and of cosines (n, k), over the whole run."""
    rows = np.arange(n, dtype=float)
    columns = [rows] if detrend else []
    if high_pass is not None:
        nyquist = 0.5 / repetition_time
        if not 0 < high_pass < nyquist:
            raise InputError(f"high-pass of {high_pass:g} Hz; 0 to {nyquist:g} Hz fit this run")
        # Cosine k has k half periods a run. The small addition keeps one that lies on the cut-off.
        count = int(2 * n * repetition_time * high_pass + 1e-9)
        if not count:
            warnings.warn(
                f"a run of {n * repetition_time:g} s is too short for a high-pass of "
                f"{high_pass:g} Hz; it is not filtered",
                InputWarning,
                stacklevel=3,
            )
        columns += [np.cos(np.pi * k * (rows + 0.5) / n) for k in range(1, count + 1)]
    return np.stack(columns, axis=1) if columns else np.empty((n, 0))


def _confounds(confounds: np.ndarray | pd.DataFrame, left_out: np.ndarray) -> np.ndarray:
    """The confounds at the rows that are kept, checked."""
    names = [str(name) for name in getattr(confounds, "columns", [])]
    try:
        table = np.asarray(confounds, float)
    except (TypeError, ValueError) as error:
        raise InputError(f"the confounds are not numbers alone: {error}") from error
    if table.ndim != 2:
        raise InputError(f"the confounds have shape {table.shape}; (time, k) fits")
    if len(table) != len(left_out):
        raise InputError(f"the confounds have {len(table)} rows and the run has {len(left_out)}")
    table = table[~left_out]
    unknown = np.flatnonzero(~np.isfinite(table).all(axis=0))
    if len(unknown):
        told = ", ".join(names[k] if names else str(k) for k in unknown)
        raise InputError(
            f"confounds {told} are not known at every row kept; read_confounds fills the first row "
            "of derivatives"
        )
    return table


def _basis(design: np.ndarray) -> np.ndarray:
    """Orthonormal columns that span a design less its means."""
    from scipy.linalg import qr

    sizes = np.abs(design).max(axis=0, initial=0)
    centred = design - design.mean(axis=0) if len(design) else design
    norms = np.linalg.norm(centred, axis=0)
    varying = norms > 1e-13 * np.sqrt(len(design)) * sizes
    if not varying.any():
        return np.empty((len(design), 0))
    q, r, _ = qr(centred[:, varying] / norms[varying], mode="economic", pivoting=True)
    return q[:, np.abs(np.diag(r)) > _COLLINEAR]


def _patterns(missing: np.ndarray, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Columns that were measured at the same of the rows: (positions in `rows`, columns)."""
    missing = missing[rows]
    packed = np.ascontiguousarray(np.packbits(missing, axis=0).T)
    _, first, which = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(which.ravel(), kind="stable")
    counts = np.bincount(which.ravel())
    for example, columns in zip(first, np.split(order, np.cumsum(counts)[:-1]), strict=True):
        yield np.flatnonzero(~missing[:, example]), columns


def _residuals(
    values: np.ndarray, basis: np.ndarray, standardize: str | None
) -> tuple[np.ndarray, np.ndarray]:
    """What a fit leaves of values (rows, columns), and which columns it leaves nothing of."""
    size = np.abs(values).max(axis=0)
    left = values - values.mean(axis=0, dtype=float)
    left -= basis @ (basis.T @ left)
    deviation = left.std(axis=0)
    flat = deviation <= _FLAT * size
    if standardize:
        left -= left.mean(axis=0)
        left /= np.where(flat, 1.0, deviation)
    return left, flat
