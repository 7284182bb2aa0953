"""What is easily heard and seen: the floor that a score of anything more has to stand on.

Word rate, loudness and motion energy drive much of the cortex that language, sound and film models
predict, and go along with whatever those models read. A model's score says something of its own
where it is above that of these few columns on the same rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tribrain.errors import InputError
from tribrain.features.extract import Progress, extract_features
from tribrain.features.grid import n_rows
from tribrain.features.motion_energy import FILTERS
from tribrain.features.pieces import Extractors
from tribrain.features.recipe import FeatureRecipe
from tribrain.features.store import Store
from tribrain.stimuli.stimulus import Stimulus
from tribrain.studies.prepared import PreparedRun, PreparedSource
from tribrain.studies.runs import Run
from tribrain.training.series import Series

NUISANCES = {"word_rate": "text", "loudness": "audio", "motion_energy": "video"}
"""What there is of each modality."""
RATE = 2.0
"""Samples a second."""
POOLS = tuple(dict.fromkeys((one.spatial_frequency, one.temporal_frequency) for one in FILTERS))
"""Spatial (cycles a picture) and temporal frequency (Hz) of each pooled column of motion energy."""

_RECIPE = FeatureRecipe(
    simple={modality: (name,) for name, modality in NUISANCES.items()}, frequency=RATE
)


def nuisance_series(
    stimulus: Stimulus,
    *,
    places: bool = False,
    store: Store | None = None,
    progress: Progress | None = None,
) -> Series:
    """Word rate, loudness and motion energy of a stimulus, as far as it has words, sound, film.

    Parameters
    ----------
    stimulus : Stimulus
    places : bool
        Keep all 253 filters of the motion energy (`tribrain.features.motion_energy.FILTERS`). By
        default their means over places and directions are given, one for each spatial and temporal
        frequency: few columns, that a ridge with one penalty can weigh against the other two.
    store : Store, optional
        Where what was worked out is kept.
    progress : callable, optional

    Returns
    -------
    Series
        At 2 Hz, float32: ``word_rate`` (1, 1, time), 1 where speech runs at 2.5 words a second;
        ``loudness`` (1, 1, time), about 1 for ordinary speech; ``motion_energy`` (1, 12, time), in
        the order of `POOLS`, or (1, 253, time), logarithms.

    Raises
    ------
    InputError
        A stimulus with neither words nor sound nor film.
    """
    wanted = [modality for modality in NUISANCES.values() if modality in stimulus.modalities]
    if not wanted:
        raise InputError(f"stimulus {stimulus.name} has neither words nor sound nor film")
    found = extract_features(
        stimulus,
        Extractors(_RECIPE),
        wanted,
        window=float(n_rows(stimulus.duration)),
        store=store,
        progress=progress,
    )
    values = {name: found[m] for name, m in NUISANCES.items() if m in found}
    if "motion_energy" in values and not places:
        values["motion_energy"] = pooled(values["motion_energy"])
    return Series(values, RATE)


def pooled(energy: np.ndarray) -> np.ndarray:
    """Means of motion energy over places and directions.

    Parameters
    ----------
    energy : ndarray (1, 253, time)

    Returns
    -------
    ndarray (1, 12, time), float32
        In the order of `POOLS`.
    """
    which = [POOLS.index((one.spatial_frequency, one.temporal_frequency)) for one in FILTERS]
    members = np.equal.outer(np.arange(len(POOLS)), which).astype(np.float32)
    return (members / members.sum(1, keepdims=True)) @ energy.astype(np.float32)


def nuisance_of(
    runs: Iterable[Run | PreparedRun],
    *,
    places: bool = False,
    store: Store | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, Series] | None, list[str]]:
    """Nuisance series of everything that was shown in a study.

    All series have the same columns, those that any stimulus has; where another has no words,
    sound or film, nothing was heard or seen, and they are 0. A study that has feature series in
    the place of stimuli has none, unless word rate, loudness or motion energy are among them under
    these names.

    Parameters
    ----------
    runs : iterable of Run or PreparedRun
        Of a study or a prepared one (``study.runs``).
    places, store, progress
        As of `nuisance_series`.

    Returns
    -------
    series : dict of str to Series, or None
        By the content of what was shown (``shown.source.content()``), as
        `tribrain.training.series.stimulus_series` has them; None where there are none.
    notes : list of str
        Why there are none, or what stands as 0.
    """
    found: dict[str, Series] = {}
    without: list[str] = []
    for run in runs:
        for shown in run.shown:
            content = shown.source.content()
            if content in found:
                continue
            kept: Any = shown.source
            source = kept.source() if isinstance(kept, PreparedSource) else kept
            series: Mapping[str, np.ndarray] | None = getattr(source, "series", None)
            if series is None:
                found[content] = nuisance_series(
                    source.open(), places=places, store=store, progress=progress
                )
            elif named := {name: series[name] for name in NUISANCES if name in series}:
                found[content] = Series(named, source.rate)
            else:
                without.append(shown.group)
    if without:
        names = ", ".join(sorted(set(without))[:3])
        return None, [
            f"no nuisance floor: of what was shown ({names}, ...) there are feature series alone, "
            f"and none is named {', '.join(NUISANCES)}"
        ]
    if not found:
        return None, ["no nuisance floor: nothing was shown"]
    return _same_columns(found)


def _same_columns(found: Mapping[str, Series]) -> tuple[dict[str, Series], list[str]]:
    """Zeros where a stimulus lacks what another has."""
    rates = sorted({series.rate for series in found.values()})
    if len(rates) > 1:
        raise InputError(f"nuisance series of {', '.join(f'{r:g}' for r in rates)} Hz; one fits")
    shapes: dict[str, tuple[int, ...]] = {}
    for series in found.values():
        for name, array in series.values.items():
            if shapes.setdefault(name, array.shape[:2]) != array.shape[:2]:
                raise InputError(
                    f"series {name} has {array.shape[:2]} columns in one stimulus and "
                    f"{shapes[name]} in another; the same number fits"
                )
    names = [name for name in NUISANCES if name in shapes]
    lacking = dict.fromkeys(names, 0)
    result = {}
    for content, series in found.items():
        length = next(iter(series.values.values())).shape[2]
        values = {}
        for name in names:
            there = series.values.get(name)
            lacking[name] += there is None
            values[name] = (
                np.zeros((*shapes[name], length), np.float32)
                if there is None
                else np.asarray(there, np.float32)
            )
        result[content] = Series(values, series.rate)
    notes = [
        f"{name} is 0 in {count} of {len(found)} stimuli, which have no {NUISANCES[name]}"
        for name, count in lacking.items()
        if count
    ]
    return result, notes
