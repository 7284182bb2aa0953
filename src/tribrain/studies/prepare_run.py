"""Preparation of one run, as a task for this process or another one."""

from __future__ import annotations

import errno
import math
import secrets
import warnings
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tribrain.brain.cleaning import STANDARDIZE, clean_series, read_confounds
from tribrain.brain.series import BoldSeries
from tribrain.brain.spaces import mesh_space
from tribrain.brain.spheres import resample
from tribrain.brain.timing import to_rate
from tribrain.errors import InputError, InputWarning
from tribrain.files import one_line, sha256
from tribrain.studies.prepared_files import (
    PARTIAL,
    digest,
    file_stem,
    kept_file,
    read_json,
    record_path,
    rename,
    space_content,
    write_json,
)
from tribrain.studies.runs import Run

DTYPES = ("float16", "float32")
VERSION = 1
"""Raised when the numbers change; runs are then prepared again."""
_NEAR = 1e-6
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


@dataclass(frozen=True)
class Settings:
    """How runs are prepared. The published recipe is the default.

    Attributes
    ----------
    space : str, optional
        A mesh to take surfaces to, such as ``fsaverage3``; by default that of the source.
    detrend, standardize, high_pass
        As of `tribrain.brain.cleaning.clean`.
    confounds : tuple of str
        Columns, or patterns, of fMRIPrep's table that are regressed out.
    dtype : {"float16", "float32"}
        Of the stored values.
    """

    space: str | None = None
    detrend: bool = True
    standardize: str | None = "zscore"
    high_pass: float | None = None
    confounds: tuple[str, ...] = ()
    dtype: str = "float16"

    def __post_init__(self) -> None:
        given = self.confounds
        object.__setattr__(self, "confounds", (given,) if isinstance(given, str) else tuple(given))
        if self.space is not None:
            mesh_space(self.space)
        if self.standardize not in STANDARDIZE:
            raise InputError(f"standardize {self.standardize!r} is unknown; known: 'zscore', None")
        if self.high_pass is not None and not 0 < self.high_pass < math.inf:
            raise InputError(f"high-pass of {self.high_pass!r} Hz; a positive number fits")
        if self.dtype not in DTYPES:
            raise InputError(f"dtype {self.dtype!r} is unknown; known: {', '.join(DTYPES)}")
        if self.dtype == "float16" and self.standardize is None:
            raise InputError("float16 holds z-scores alone; take dtype float32 or standardize")

    def told(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "confounds": list(self.confounds), "version": VERSION}


@dataclass(frozen=True)
class Job:
    """One run to prepare; plain data and a source, which another process can be sent.

    Attributes
    ----------
    run : Run
        Without what was shown: feature series may be large.
    begins : float or None
        Second of the run at which second 0 of the first stimulus fell.
    settings : Settings
    store : Path
    record : dict
        What is known of the run before it is read.
    """

    run: Run
    begins: float | None
    settings: Settings
    store: Path
    record: dict[str, Any]


@dataclass
class Outcome:
    """What became of a run: why it failed, whether for want of room, and what was said."""

    name: str
    error: str | None = None
    full: bool = False
    notes: tuple[str, ...] = ()


def prepare_run(job: Job) -> Outcome:
    """Prepare one run and put it into the store; also as a task for a worker elsewhere."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", InputWarning)
        try:
            record = job.record | _write_values(_values(job), job)
            notes = tuple(dict.fromkeys(one_line(str(warning.message)) for warning in heard))
            record["notes"] = list(notes)
            path = record_path(job.store, job.run.name)
            try:
                replaced = read_json(path)
            except InputError:  # a damaged one
                replaced = None
            write_json(path, record)
            if replaced is not None and replaced.get("array") not in (None, record["array"]):
                # Refused on Windows, while somebody reads it; or the record was damaged.
                with suppress(OSError, ValueError):
                    kept_file(job.store, "runs", replaced["array"]).unlink()
        except Exception as error:  # whatever a damaged file makes a library raise
            return failure(job.run.name, error, job.store)
    return Outcome(job.run.name, notes=notes)


def _values(job: Job) -> BoldSeries:
    """The run, cleaned, a row each second."""
    run, settings = job.run, job.settings
    series = run.bold.load()
    if not math.isclose(series.repetition_time, run.repetition_time, rel_tol=1e-3):
        raise InputError(
            f"its files have a volume every {series.repetition_time:g} s and the study says "
            f"{run.repetition_time:g} s; one of them is wrong"
        )
    if settings.space is not None and settings.space != series.space.name:
        if series.space.n_voxels:
            raise InputError(f"{series.space.name} has voxels and cannot be taken to a mesh")
        values = resample(series.values, series.space.mesh, settings.space)
        series = replace(series, values=values, space=mesh_space(settings.space))
    table = None
    if settings.confounds:
        if run.confounds is None:
            raise InputError("confounds are asked for and the run has no table of them")
        table = read_confounds(run.confounds, settings.confounds)
    cleaned = clean_series(
        series,
        detrend=settings.detrend,
        standardize=settings.standardize,
        high_pass=settings.high_pass,
        confounds=table,
    )
    cleaned = to_rate(cleaned, 1.0, start=_origin(series.start, job.begins))
    if np.isnan(cleaned.values).all():
        raise InputError("nothing is left of it: every value is NaN")
    return cleaned


def _origin(start: float, begins: float | None) -> float:
    """The first second from `start` on that lies whole seconds from `begins`."""
    if begins is None:
        return start
    fraction = round(begins % 1.0, 6) % 1.0
    return fraction + math.ceil(start - fraction - _NEAR)


def _write_values(series: BoldSeries, job: Job) -> dict[str, Any]:
    """Write the array and its space; what is to be told of them."""
    folder = job.store / "runs"
    stored = np.dtype(job.settings.dtype).newbyteorder("<")
    partial = folder / f"{PARTIAL}{secrets.token_hex(8)}.npy"
    try:
        with partial.open("xb") as file:
            np.save(file, np.ascontiguousarray(series.values, stored), allow_pickle=False)
        check, size = sha256(partial), partial.stat().st_size
        path = folder / f"{file_stem(job.run.name)}.{check[:12]}.npy"
        rename(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    content = space_content(series.space)
    # One file for all runs, as voxels may be many.
    space = f"spaces/{digest(content)[:12]}.json"
    if not (job.store / space).exists():
        write_json(job.store / space, content)
    return {
        "array": path.name,
        "sha256": check,
        "offset": size - series.values.size * stored.itemsize,
        "dtype": job.settings.dtype,
        "rows": len(series.values),
        "outputs": series.space.size,
        "origin": float(series.start),
        "space": space,
        "unmeasured": int(np.isnan(series.values).all(axis=1).sum()),
    }


def failure(name: str, error: BaseException, store: Path) -> Outcome:
    """Why a run failed, in one line."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return Outcome(name, f"no room is left for {store}", full=True)
    told = (str(error).strip() or "no reason given").splitlines()[0]
    kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
    return Outcome(name, f"{kind}{one_line(told)}")
