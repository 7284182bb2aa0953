"""The features of many stimuli: each model loaded once, one bad file no harm to the others."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tribrain.errors import InputError, InputWarning
from tribrain.features.backbones import BackboneFolder
from tribrain.features.extract import (
    FeatureSeries,
    Progress,
    Reuse,
    compute_pieces,
    extract_features,
)
from tribrain.features.grid import n_rows
from tribrain.features.pieces import Extractors, Pieces, pieces_of
from tribrain.features.recipe import FeatureRecipe
from tribrain.features.sources import Source
from tribrain.features.store import Store
from tribrain.files import whole_folder
from tribrain.stimuli.stimulus import Stimulus

OUTPUTS = ("npz", "zarr")


@dataclass(frozen=True)
class Job:
    """What is to be done with each stimulus; plain data that a worker elsewhere can be sent.

    Attributes
    ----------
    recipe : FeatureRecipe
    folders : dict
        Folder of each modality's backbone.
    modalities : tuple of str
        Those wanted of each stimulus that has them.
    cache : Path
        Folder of the store.
    limit : int or None
        Size limit of the store in bytes.
    out : Path or None
        Folder to write to; None to fill the store alone.
    output : {"npz", "zarr"}
    overwrite : bool
        Replace what was made of another stimulus under the same name.
    """

    recipe: FeatureRecipe
    folders: dict[str, BackboneFolder]
    modalities: tuple[str, ...]
    cache: Path
    limit: int | None = None
    device: str = "cpu"
    precision: str = "auto"
    compile_blocks: bool = False
    out: Path | None = None
    output: str = "npz"
    overwrite: bool = False

    def extractors(self) -> Extractors:
        """Make the extractors, with nothing loaded yet."""
        return Extractors(
            self.recipe, self.folders, self.device, self.precision, self.compile_blocks
        )


@dataclass
class Outcome:
    """What became of a stimulus: the pieces of each modality, or why it failed; and what was said
    about it by a worker elsewhere.
    """

    name: str
    reuse: dict[str, Reuse] = field(default_factory=dict)
    written: Path | None = None
    error: str | None = None
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.error is not None:
            return f"{self.name}: failed: {self.error}"
        parts = [
            f"{modality} {one.computed + one.reused} pieces ({one.reused} reused)"
            for modality, one in self.reuse.items()
        ]
        return f"{self.name}: {', '.join(parts) or 'nothing that the recipe reads'}"


def extract_many(
    sources: Sequence[Source],
    job: Job,
    *,
    progress: Progress | None = None,
    said: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Work out the features of all stimuli on this machine.

    One modality after the other, so that one model is in memory at a time and is loaded once. A
    stimulus that cannot be read is noted and left out.

    Parameters
    ----------
    said : callable, optional
        Called with the outcome of each stimulus when it is done.

    Raises
    ------
    InputError
        What is wrong with all of it, such as a backbone that cannot be loaded.
    """
    store, extractors = Store(job.cache, job.limit), job.extractors()
    outcomes = [Outcome(source.name) for source in sources]
    opened: list[Stimulus | None] = []
    for source, outcome in zip(sources, outcomes, strict=True):
        stimulus: list[Stimulus] = []
        with _noted(outcome):
            stimulus.append(source.open(job.modalities))
            _check_target(stimulus[0], source.name, job)
        opened.append(stimulus[0] if stimulus else None)
    for modality in job.modalities:
        _one_modality(modality, opened, outcomes, extractors, store, progress)
    for source, one, outcome in zip(sources, opened, outcomes, strict=True):
        if one is not None and outcome.error is None and job.out is not None:
            with _noted(outcome):
                outcome.written = _write(one, source.name, job, extractors, store)
        if said is not None:
            said(outcome)
    return outcomes


def extract_one(source: Source, job: Job) -> Outcome:
    """Work out the features of one stimulus, as a task for a worker; models stay loaded."""
    store, extractors = Store(job.cache, job.limit), _kept_extractors(_Same(job))
    outcome = Outcome(source.name)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", InputWarning)
        _extract_one(source, job, outcome, store, extractors)
    outcome.notes = tuple(str(w.message) for w in heard if issubclass(w.category, InputWarning))
    return outcome


def _extract_one(
    source: Source, job: Job, outcome: Outcome, store: Store, extractors: Extractors
) -> None:
    with _noted(outcome):
        stimulus = source.open(job.modalities)
        _check_target(stimulus, source.name, job)
        for modality in job.modalities:
            if modality in stimulus.modalities:
                pieces = pieces_of(stimulus, modality, extractors, store.checksum)
                outcome.reuse[modality] = Reuse()
                for _ in compute_pieces(pieces, store, outcome.reuse[modality]):
                    pass
        if job.out is not None:
            outcome.written = _write(stimulus, source.name, job, extractors, store)


class _Same:
    """A job as the key of a cache: jobs that load the same models are the same."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.told = repr((job.recipe, job.folders, job.device, job.precision, job.compile_blocks))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.told == other.told

    def __hash__(self) -> int:
        return hash(self.told)


@lru_cache(maxsize=1)
def _kept_extractors(same: _Same) -> Extractors:
    return same.job.extractors()


def _one_modality(
    modality: str,
    opened: Sequence[Stimulus | None],
    outcomes: Sequence[Outcome],
    extractors: Extractors,
    store: Store,
    progress: Progress | None,
) -> None:
    """Fill the store with a modality of all stimuli."""
    plans: list[tuple[Pieces, Outcome]] = []
    for stimulus, outcome in zip(opened, outcomes, strict=True):
        if stimulus is None or outcome.error is not None or modality not in stimulus.modalities:
            continue
        with _noted(outcome):
            plans.append((pieces_of(stimulus, modality, extractors, store.checksum), outcome))
    missing = any(key not in store for pieces, _ in plans for key in pieces.keys if key is not None)
    if missing and modality in extractors.recipe.backbones:
        extractors.load(modality)  # what is wrong with the model is wrong for all
    total, before = sum(sum(pieces.units) for pieces, _ in plans), 0
    for pieces, outcome in plans:

        def step(done: int, _: int, before: int = before) -> None:
            if progress is not None:
                progress(modality, before + done, total)

        with _noted(outcome):
            outcome.reuse[modality] = Reuse()
            for _ in compute_pieces(pieces, store, outcome.reuse[modality], step):
                pass
        before += sum(pieces.units)
    extractors.release(modality)


@contextmanager
def _noted(outcome: Outcome) -> Iterator[None]:
    """Note what goes wrong with one stimulus, so that the others go on."""
    try:
        yield
    except Exception as error:  # whatever a broken file makes a decoder raise
        text = str(error).strip() or "no reason given"
        named = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        outcome.error = f"{named}{text.splitlines()[0]}"


def _check_target(stimulus: Stimulus, name: str, job: Job) -> None:
    """Refuse to replace what was made of another stimulus, before any work is done."""
    if job.out is None or job.overwrite:
        return
    target = job.out / f"{name}_features.{job.output}"
    if target.exists() and _made_of(target) != stimulus.checksum:
        raise InputError(f"{target} was made of another stimulus; --overwrite replaces it")


def _write(
    stimulus: Stimulus, name: str, job: Job, extractors: Extractors, store: Store
) -> Path | None:
    """Write a stimulus's features from 0 s to its end, for use elsewhere."""
    assert job.out is not None, "there is a folder to write to"
    wanted = [modality for modality in job.modalities if modality in stimulus.modalities]
    if not wanted:
        return None
    window = float(n_rows(stimulus.duration))
    series = extract_features(
        stimulus, extractors, wanted, window=window, store=store, keep_loaded=True
    )
    about = {
        "stimulus": {**stimulus.describe(), "name": name},
        "frequency_hz": job.recipe.frequency,
        "backbones": {
            modality: folder.describe(store.checksum)
            for modality, folder in series.backbones.items()
        },
        "columns": {m: list(job.recipe.simple[m]) for m in wanted if m in job.recipe.simple},
        "depths": list(job.recipe.depths) if series.backbones else [],
        "precision": extractors.precision,
    }
    return save_features(series, job.out, name, about, output=job.output)


def save_features(
    series: FeatureSeries,
    folder: Path,
    name: str,
    about: dict[str, Any],
    *,
    output: str = "npz",
) -> Path:
    """Write feature series with their times.

    ``NAME_features.npz`` holds an array (layers, dim, time) a modality, ``time`` in seconds, and
    ``about``, JSON text that says how they were made. ``NAME_features.zarr`` holds the same with
    named dimensions, for xarray.
    """
    target = folder / f"{name}_features.{output}"
    samples = next(iter(series.values())).shape[-1]
    time = np.arange(samples) / about["frequency_hz"]
    text = json.dumps(about, ensure_ascii=False)
    with whole_folder(folder) as partial:
        if output == "npz":
            np.savez(partial / target.name, time=time, about=np.array(text), **series)  # type: ignore[arg-type]
        else:
            import xarray as xr

            arrays = {
                modality: ((f"{modality}_layer", f"{modality}_dim", "time"), values)
                for modality, values in series.items()
            }
            dataset = xr.Dataset(arrays, coords={"time": time}, attrs={"about": text})
            dataset["time"].attrs["units"] = "s"
            dataset.to_zarr(partial / target.name, zarr_format=3, consolidated=False)
    return target


def _made_of(target: Path) -> str | None:
    """Checksum of the stimulus that a file of features was made of, None if it cannot be told."""
    try:
        if target.suffix == ".npz":
            with np.load(target, allow_pickle=False) as content:
                text = str(content["about"])
        else:
            import zarr

            text = str(zarr.open_group(target, mode="r").attrs["about"])
        return json.loads(text)["stimulus"]["sha256"]
    except Exception:  # damaged or not ours: no reason to keep it from being refused
        return None


@contextmanager
def cache_folder(cache: Path | bool) -> Iterator[Path]:
    """The folder of a store: the one given, the usual one (True), or one that goes again (False).

    Without a store, the pieces still need a place until all modalities are there.
    """
    if cache is not False:
        yield Store(None if cache is True else cache).folder
        return
    with tempfile.TemporaryDirectory(prefix="tribrain-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
