"""What a prediction starts from: modalities, features, length."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tribrain.errors import InputError
from tribrain.features.extract import FeatureSeries, event_spans
from tribrain.features.grid import covered_rows, n_rows
from tribrain.stimuli.stimulus import Stimulus


@dataclass(frozen=True, eq=False)
class Inputs:
    """Features by modality, the number of rows to predict, which rows an event touches, and where
    they come from (plain data; empty where features alone were given).
    """

    features: Mapping[str, np.ndarray]
    n_rows: int
    covered: np.ndarray
    source: dict[str, Any]


def gather_inputs(
    stimulus: Stimulus | None,
    features: Mapping[str, np.ndarray] | None,
    duration: float | None,
    modalities: Iterable[str] | None,
    frequency: float,
    dims: Mapping[str, tuple[int, int]],
    extract: Callable[[Stimulus], FeatureSeries],
) -> Inputs:
    """Features given or extracted, and the length of what they describe.

    A duration beyond the features' end asks for what follows them: rows without a stimulus.

    Raises
    ------
    InputError
        Neither stimulus nor features; features of other modalities or dimensions (`dims`) than
        the model reads, or of different lengths; a duration that is none.
    """
    if features is None:
        if stimulus is None:
            raise InputError("predict needs a stimulus or features")
        features = extract(stimulus)
    elif isinstance(features, FeatureSeries) and stimulus is None and duration is None:
        stimulus = features.stimulus
    folders = features.backbones if isinstance(features, FeatureSeries) else {}
    if modalities is not None:
        wanted = tuple(modalities)
        absent = [name for name in wanted if name not in features]
        if absent:
            raise InputError(
                f"features of {absent[0]!r} are wanted and not there; "
                f"there are: {', '.join(features) or 'none'}"
            )
        features = {name: features[name] for name in wanted}
    if not features:
        raise InputError("features of no modality were given")
    for name, series in features.items():
        if name not in dims:
            known = ", ".join(dims)
            raise InputError(f"features of {name} were given; the model reads {known}")
        if series.ndim != 3 or series.shape[:2] != dims[name]:
            raise InputError(
                f"features of {name} have shape {series.shape}; the model reads "
                f"(layers, dimensions, time) with the first two {dims[name]}"
            )
    lengths = sorted({series.shape[-1] for series in features.values()})
    if len(lengths) != 1:
        raise InputError(f"features must share one length in samples; theirs are {lengths}")
    if stimulus is not None:
        duration = stimulus.duration
    elif duration is None:
        duration = lengths[0] / frequency
    if not (math.isfinite(duration) and duration > 0):
        raise InputError(f"a duration of {duration:g} s: a positive number of seconds fits")
    rows = n_rows(duration)
    covered, source = _rows_with_values(features, rows, frequency), {}
    if stimulus is not None:
        events = [span for name in features for span in event_spans(stimulus, name)]
        covered = covered_rows(events, rows)
        unused = [name for name in stimulus.modalities if name not in features]
        source = {"stimulus": stimulus.describe()}
        source["stimulus"]["notes"] += [f"{name} was not used" for name in unused]
    if folders:
        source["backbones"] = {
            n: folder.describe() for n, folder in folders.items() if n in features
        }
    return Inputs(features, rows, covered, source)


def shared_modalities(
    readable: Iterable[str], stimulus: Stimulus, wanted: Iterable[str] | None
) -> tuple[str, ...]:
    """Modalities to use: those wanted, else all that the model reads and the stimulus has.

    Raises
    ------
    InputError
        A name that is unknown, or a modality that is wanted and not there.
    """
    readable = tuple(readable)
    present = tuple(name for name in readable if name in stimulus.modalities)
    if wanted is not None:
        wanted = tuple(wanted)
        for name in wanted:
            if name not in readable:
                raise InputError(f"modality {name!r} is unknown; known: {', '.join(readable)}")
            if name not in present:
                raise InputError(
                    f"{stimulus.path.name} has no {name}; it has: {', '.join(present) or 'none'}"
                )
        present = tuple(name for name in readable if name in wanted)
    if not present:
        raise InputError(
            f"{stimulus.path.name} has nothing that the model reads ({', '.join(readable)}); "
            + "; ".join(stimulus.notes)
        )
    return present


def _rows_with_values(
    features: Mapping[str, np.ndarray], rows: int, frequency: float
) -> np.ndarray:
    """Which one-second rows hold any feature that is not zero; the only sign of an event there."""
    covered = np.zeros(rows, bool)
    for series in features.values():
        samples = np.flatnonzero(series.any(axis=(0, 1)))
        held = (samples / frequency).astype(int)
        covered[held[held < rows]] = True
    return covered
