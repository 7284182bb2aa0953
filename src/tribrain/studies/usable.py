"""Whether a run can be used, told from the heads of its files: nothing is read whole.

What this cannot tell is found when the run is loaded: volumes that are missing inside a packed
file, or values that are not finite in formats that cannot be read in part.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tribrain.errors import InputError
from tribrain.files import require_file
from tribrain.studies.arrays import ArrayBold, read_array
from tribrain.studies.runs import Problem, Run

SLACK = 10.0
"""Seconds that a stimulus may last beyond its run before the run counts as cut short."""
_PROBES = 16


def usable(
    run: Run, *, volumes: int | None = None, slack: float = SLACK, trust_header: bool = True
) -> Iterator[Run | Problem]:
    """A run if it can be used, after what looks wrong in it; or else why it cannot.

    Parameters
    ----------
    run : Run
    volumes : int, optional
        How many the study measured in such a run.
    slack : float
        Seconds (`SLACK`).
    trust_header : bool
        False where the study itself says that its headers state a wrong repetition time.

    Yields
    ------
    Run or Problem
        Fatal are: a file that is missing, or cannot be read; another number of volumes than
        `volumes`; another repetition time; a stimulus that lasts longer than the run.
    """
    try:
        notes = _check(run, volumes, slack, trust_header)
    except InputError as error:
        yield Problem(run.name, str(error))
        return
    yield from (Problem(run.name, note, fatal=False) for note in notes)
    yield run


def _check(run: Run, volumes: int | None, slack: float, trust_header: bool) -> list[str]:
    for path in run.bold.files:
        require_file(path, "recording")
    for path in dict.fromkeys(path for shown in run.shown for path in shown.source.files):
        require_file(path, "stimulus")
    file = run.bold.files[0].name
    rows, stated = run.bold.header()
    expected = run.repetition_time
    if trust_header and stated is not None and abs(stated - expected) > 1e-3 * expected:
        raise InputError(
            f"{file} states a repetition time of {stated:g} s; the study measured every "
            f"{expected:g} s"
        )
    if volumes is not None and rows != volumes:
        raise InputError(f"{file} has {rows} volumes; the study measured {volumes} in such a run")
    end = max((shown.end for shown in run.shown), default=0.0)
    measured = float(getattr(run.bold, "start", 0.0)) + rows * expected
    if end - measured > slack:
        raise InputError(
            f"the stimulus ends at {end:.1f} s of the run, and the {rows} volumes of {file} at "
            f"{measured:.1f} s: cut short, or of another run"
        )
    if isinstance(run.bold, ArrayBold):
        unmeasured = rows_of_nan(run.bold)
        if unmeasured == rows:
            raise InputError(f"{file} holds nothing but NaN: nothing was measured")
        if unmeasured:
            return [f"{unmeasured} of {rows} rows hold NaN: they count as not measured"]
    return []


def rows_of_nan(bold: ArrayBold) -> int:
    """How many rows of an array are NaN throughout, as far as some of its columns tell."""
    step = max(1, bold.space.size // _PROBES)
    some = read_array(bold.path, bold.key, (slice(*bold.rows), slice(None, None, step)))
    return int(np.isnan(some).all(1).sum()) if some.dtype.kind == "f" else 0
