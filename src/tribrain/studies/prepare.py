"""Preparation of a study: its runs cleaned, at 1 Hz, in a store that training reads windows of.

Each run is read (and projected) by its source, cleaned on its own (`tribrain.brain.cleaning`), and
taken to one row a second by linear interpolation (`tribrain.brain.timing`), in the order of the
published recipe. `tribrain.studies.prepared` tells what the store holds and reads it.

Cleaning (mean, line, cosines, scale, confounds) is of the whole run. Where a split puts groups of
one run on different sides, a little of the one is thus in the numbers of the other, as in the
published recipe. To keep them apart, prepare without (``detrend=False, standardize=None``, float32)
and let training z-score each span on its own (``data.standardise``); wider groups keep runs whole.

Rows lie at whole seconds of the first stimulus of a run. Stimuli that began at another fraction of
a second are off that grid: their features at 2 Hz, taken at the nearest sample, are up to half a
sample (0.25 s) early or late.

float16 rounds a value by at most 1 part in 2048 (5e-4), far below the noise of BOLD. A z-score
cannot exceed the square root of the number of rows, so that none reaches its limit of 65504.

A run that is whole is never worked out again while its files (paths, sizes, times of change), what
was shown and the settings stay the same. Preparing may be killed at any point: the store opens, and
the same command goes on. Several processes may prepare the same store.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tribrain.errors import InputError
from tribrain.studies.prepare_run import Job, Outcome, Settings, failure, prepare_run
from tribrain.studies.prepared_files import (
    FORMAT,
    MANIFEST,
    PARTIAL,
    damaged,
    digest,
    keep_source,
    kept_file,
    read_json,
    read_record,
    write_json,
)
from tribrain.studies.runs import FeatureArrays, Problem, Run, Source, Study, sort_out

if TYPE_CHECKING:
    from tribrain.features.extract import Progress

_PARTS = ("runs", "features", "spaces")
_OLD = 3600.0  # seconds after which a file that nothing points to is nobody's work in progress


@dataclass
class Report:
    """What became of the runs of a study.

    Attributes
    ----------
    store : Path
    prepared, reused : list of str
        Names of runs that were worked out now, and before.
    problems : list of Problem
        Those of the study and of its runs; fatal ones are not in the store.
    notes : dict of str to tuple of str
        What was said of each run that was worked out now; it is in the store as well.
    """

    store: Path
    prepared: list[str] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def failed(self) -> list[Problem]:
        """Problems for which a run was left out."""
        return [problem for problem in self.problems if problem.fatal]

    def __str__(self) -> str:
        return (
            f"{self.store}: {len(self.prepared) + len(self.reused)} runs "
            f"({len(self.reused)} reused), {len(self.failed)} left out"
        )


def prepare(
    study: Study,
    out: str | Path,
    *,
    space: str | None = None,
    detrend: bool = True,
    standardize: str | None = "zscore",
    high_pass: float | None = None,
    confounds: str | Iterable[str] = (),
    dtype: str = "float16",
    workers: int = 1,
    cluster: str | None = None,
    progress: Progress | None = None,
    said: Callable[[Outcome], None] | None = None,
    resume: bool = True,
) -> Report:
    """Prepare all runs of a study.

    Each run is cleaned as a whole, also where a split puts stretches of it on different sides;
    the head of this module tells what to do about that.

    Parameters
    ----------
    study : Study
    out : path
        Folder of the store; made, or gone on with.
    space, detrend, standardize, high_pass, confounds, dtype
        As of `Settings`.
    workers : int
        Processes on this machine. Each holds a run.
    cluster : str, optional
        Dask instead, as `tribrain.features.cluster` takes it: ``local:4``, ``slurm:20``, or an
        address. All workers must see the store and the study under the same paths.
    progress : callable, optional
        Called with "runs", the runs done and their number.
    said : callable, optional
        Called with the outcome of each run that was worked out.
    resume : bool
        Reuse runs that are whole and unchanged. If not, the settings may be others than before;
        what was prepared with the former ones is then replaced.

    Returns
    -------
    Report
        A run that fails is a problem in it, and the others go on.

    Raises
    ------
    InputError
        If settings are wrong, or others than those of the store, the folder is not a store of this
        study, no run can be used, the disk is full, or workers die. Where no run at all could be
        prepared, a store stays as it was.
    """
    names = (confounds,) if isinstance(confounds, str) else tuple(confounds)
    settings = Settings(space, detrend, standardize, high_pass, names, dtype)
    if workers < 1:
        raise InputError(f"{workers} workers; 1 or more fit")
    store = Path(out).absolute()
    runs, problems = sort_out(study.runs())
    if not runs:
        raise InputError(f"{study.name} has no run that can be used: {_some(problems)}")
    planned = [run.name for run in runs]
    former = _begin(store, study, settings, planned, resume=resume)
    report = Report(store)
    failed: dict[str, Problem] = {}

    def done(outcome: Outcome) -> None:
        if outcome.error is None:
            report.prepared.append(outcome.name)
            report.notes |= {outcome.name: outcome.notes} if outcome.notes else {}
        else:
            failed[outcome.name] = Problem(outcome.name, outcome.error)
        if said is not None:
            said(outcome)
        count()
        if outcome.full:
            raise InputError(
                f"{outcome.error}; {len(report.prepared)} more runs are prepared, and the same "
                "command goes on once there is room"
            )

    def count() -> None:
        if progress is not None:
            n = len(report.prepared) + len(report.reused) + len(failed)
            progress("runs", n, len(planned))

    def jobs() -> Iterator[Job]:
        for run in runs:
            try:
                mark = _fingerprint(run, settings)
                if resume and _is_whole(store, run.name, mark):
                    report.reused.append(run.name)
                    count()
                    continue
                yield _job(run, store, settings, mark)
            except Exception as error:  # whatever a study's own source raises
                done(failure(run.name, error, store))

    try:
        with closing(_work_off(jobs(), workers, cluster)) as outcomes:
            for outcome in outcomes:
                done(outcome)
    except BaseException:
        former.restore(store)
        raise
    _refuse_other_spaces(store, [name for name in planned if name not in failed], failed)
    left = [name for name in planned if name not in failed]
    report.prepared = [name for name in left if name in set(report.prepared)]
    report.reused = [name for name in left if name in set(report.reused)]
    gone = [
        Problem(
            name, "was prepared before and is no longer in the study; its files stay", fatal=False
        )
        for name in former.names
        if name not in planned
    ]
    report.problems = [*problems, *(failed[name] for name in planned if name in failed), *gone]
    if not left:
        kept = "; the store is as it was before" if former.restore(store) else ""
        raise InputError(f"no run of {study.name} could be prepared: {_some(report.failed)}{kept}")
    with _writable(store):
        _write_manifest(store, study, settings, left, problems=report.problems, complete=True)
    _tidy(store)
    return report


def _job(run: Run, store: Path, settings: Settings, mark: str) -> Job:
    """Gather what is to be known of a run, except for its values."""
    shown = [
        {
            "onset": float(one.onset),
            "duration": float(one.duration),
            "start": float(one.start),
            "group": one.group,
            "condition": one.condition,
            "content": (content := one.source.content()),
            "length": float(one.source.duration()),
            "source": keep_source(one.source, content, store),
        }
        for one in run.shown
    ]
    names = ("study", "name", "subject", "session", "task", "number")
    record = {
        "format": FORMAT,
        **{key: getattr(run, key) for key in names},
        "repetition_time": float(run.repetition_time),
        "inputs": mark,
        "settings": digest(settings.told()),
        "files": [str(path) for path in _files(run)],
        "shown": shown,
    }
    begins = run.shown[0].onset - run.shown[0].start if run.shown else None
    return Job(replace(run, shown=()), begins, settings, store, record)


def _fingerprint(run: Run, settings: Settings) -> str:
    """Checksum of all that a prepared run depends on, without reading what is large."""
    files = [*_files(run), *(path for one in run.shown for path in _source_files(one.source))]
    shown = [
        [
            one.source.content() if isinstance(one.source, FeatureArrays) else _repr(one.source),
            *(one.onset, one.duration, one.start, one.group, one.condition),
        ]
        for one in run.shown
    ]
    about = [FORMAT, settings.told(), run.study, run.name, run.repetition_time, _repr(run.bold)]
    stamps = [[str(path), *_stamp(path)] for path in dict.fromkeys(files)]
    return digest([*about, shown, stamps])


def _repr(thing: object) -> str:
    """How an object is printed, without where it lies in memory, as functions are."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(thing))


def _files(run: Run) -> list[Path]:
    return [*run.bold.files, *([run.confounds] if run.confounds is not None else [])]


def _source_files(source: Source) -> tuple[Path, ...]:
    # The content of feature series tells more than the file that they came from.
    return () if isinstance(source, FeatureArrays) else source.files


def _stamp(path: Path) -> list[int]:
    try:
        facts = path.stat()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    return [facts.st_size, facts.st_mtime_ns]


def _is_whole(store: Path, name: str, mark: str) -> bool:
    """Whether a run is in the store, worked out from the same inputs."""
    try:
        record = read_record(store, name)
        if record is None or record["inputs"] != mark:
            return False
        size = record["offset"] + record["rows"] * record["outputs"] * (
            np.dtype(record["dtype"]).itemsize
        )
        kept = [one["source"].get("series", {}).values() for one in record["shown"]]
        others = [kept_file(store, "features", file) for files in kept for file in files]
        others.append(kept_file(store, "spaces", record["space"]))
        array = kept_file(store, "runs", record["array"])
        return array.stat().st_size == size and all(one.is_file() for one in others)
    except (OSError, KeyError, TypeError, ValueError, AttributeError):  # worked out again
        return False


def _work_off(jobs: Iterable[Job], workers: int, cluster: str | None) -> Generator[Outcome]:
    """Outcomes as they come."""
    if cluster is not None:
        yield from _on_cluster(jobs, cluster)
    elif workers == 1:
        yield from map(prepare_run, jobs)
    else:
        yield from _in_processes(jobs, workers)


def _in_processes(jobs: Iterable[Job], workers: int) -> Generator[Outcome]:
    spawn = multiprocessing.get_context("spawn")  # forked threads of libraries may hang
    with ProcessPoolExecutor(workers, spawn, _as_worker) as pool:
        try:
            futures = {pool.submit(prepare_run, job): job for job in jobs}
            for future in as_completed(futures):
                job = futures[future]
                try:
                    yield future.result()
                except BrokenProcessPool:
                    raise
                except Exception as error:  # a source that cannot be sent
                    yield failure(job.run.name, error, job.store)
        except BrokenProcessPool:
            raise InputError(
                "a worker process ended by itself, for lack of memory perhaps (take fewer "
                "workers), or because a script has no line if __name__ == '__main__'; what is "
                "prepared stays"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _as_worker() -> None:
    """Leave Ctrl-C to the process that started this one, and end when it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A killed parent cannot end its workers, which would wait for work for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _on_cluster(jobs: Iterable[Job], cluster: str) -> Generator[Outcome]:
    from tribrain.features.cluster import dask_client

    with dask_client(cluster) as client:
        from distributed import as_completed as as_finished

        futures = {client.submit(prepare_run, job, pure=False): job for job in jobs}
        for future in as_finished(futures):
            job = futures[future]
            if future.status == "finished":
                yield future.result()
            else:
                error = future.exception() or OSError("lost, as the scheduler went away")
                yield failure(job.run.name, error, job.store)


@dataclass(frozen=True)
class _Former:
    """What a store held before: its manifest, and how many of its runs were there."""

    manifest: dict[str, Any] = field(default_factory=dict)
    held: int = 0

    @property
    def names(self) -> list[str]:
        return list(self.manifest.get("runs", []))

    def restore(self, store: Path) -> bool:
        """Put the manifest back if its runs are all there still; whether that was done."""
        if not self.held or _count_held(store, self.manifest) < self.held:
            return False
        with _writable(store):
            write_json(store / MANIFEST, self.manifest)
        return True


def _begin(
    store: Path, study: Study, settings: Settings, planned: list[str], *, resume: bool
) -> _Former:
    """Make the folder, or look into it; what it holds."""
    former = _Former()
    with _writable(store):
        manifest = read_json(store / MANIFEST)
        if manifest is not None:
            if manifest.get("name") != study.name:
                raise InputError(
                    f"{store} holds the study {manifest.get('name')!r}; take another folder for "
                    f"{study.name}"
                )
            if not isinstance(manifest.get("runs", []), list):
                raise damaged(store / MANIFEST, "runs are no list")
            former = _Former(manifest, _count_held(store, manifest))
            if former.held and resume:
                _refuse_other_settings(store, manifest["settings"], settings)
        elif store.exists() and any(map(_is_foreign, store.iterdir())):
            raise InputError(f"{store} holds other things; a new or an empty folder fits")
        for part in _PARTS:
            (store / part).mkdir(parents=True, exist_ok=True)
        _write_manifest(store, study, settings, planned, problems=[], complete=False)
    return former


def _count_held(store: Path, manifest: dict[str, Any]) -> int:
    """Number of the runs of a manifest that are there with its settings."""
    settings, count = digest(manifest.get("settings")), 0
    for name in manifest.get("runs", []):
        with suppress(InputError, TypeError):  # a damaged one is worked out again
            record = read_record(store, name)
            count += record is not None and record.get("settings") == settings
    return count


def _refuse_other_settings(store: Path, before: object, settings: Settings) -> None:
    """Keep a store from being replaced by an option that was forgotten or mistyped."""
    if not isinstance(before, dict):
        return
    # Of another version the numbers differ, and runs are meant to be prepared again.
    differ = [
        f"{key} {before.get(key)!r} where {value!r} is asked for"
        for key, value in settings.told().items()
        if key != "version" and before.get(key) != value
    ]
    if differ:
        raise InputError(
            f"{store} was prepared with {', '.join(differ)}; take the same, another folder, or "
            "prepare it --again (resume=False), which replaces it"
        )


def _is_foreign(path: Path) -> bool:
    """Whether a file is none that another process, or one that was killed, began a store with."""
    return path.name not in (*_PARTS, MANIFEST) and not path.name.startswith(PARTIAL)


@contextmanager
def _writable(store: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{store} cannot be written: {error.strerror or error}") from None


def _write_manifest(
    store: Path,
    study: Study,
    settings: Settings,
    names: list[str],
    *,
    problems: list[Problem],
    complete: bool,
) -> None:
    content = {
        "format": FORMAT,
        **{key: getattr(study, key) for key in ("name", "licence", "citation", "tested_on")},
        "clock": "row r is the BOLD at origin + r seconds of the run; no lag is applied",
        "settings": settings.told(),
        "complete": complete,
        "runs": names,
        "problems": [asdict(problem) for problem in problems],
    }
    write_json(store / MANIFEST, content)


def _refuse_other_spaces(store: Path, names: list[str], failed: dict[str, Problem]) -> None:
    """Leave out runs of another space than the first one's."""
    first = None
    for name in names:
        record = read_record(store, name)
        assert record is not None, "it was prepared"
        first = first or record
        if record["space"] != first["space"]:
            failed[name] = Problem(
                name,
                f"it has {_space_told(store, record)} and {first['name']} has "
                f"{_space_told(store, first)}; a store has one space",
            )


def _space_told(store: Path, record: dict[str, Any]) -> str:
    space = read_json(kept_file(store, "spaces", record["space"])) or {}
    return f"{record['outputs']} values of {space.get('name')}"


def _tidy(store: Path) -> None:
    """Remove what killed processes left, once nobody can be at it any more."""
    named = set()
    for path in (store / "runs").glob("*.json"):
        with suppress(InputError):
            named.add((read_json(path) or {}).get("array"))
    for path in (*store.glob(f"**/{PARTIAL}*"), *(store / "runs").glob("*.npy")):
        with suppress(OSError):
            if path.name not in named and time.time() - path.stat().st_mtime > _OLD:
                path.unlink()


def _some(problems: list[Problem], most: int = 3) -> str:
    told = "; ".join(map(str, problems[:most])) or "it yields none"
    return told + (f"; and {len(problems) - most} more" if len(problems) > most else "")
