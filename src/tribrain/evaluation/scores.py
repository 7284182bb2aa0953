"""How alike predicted and measured series are, by output, region and network.

Time is axis 0 of (rows, outputs). NaN is "not measured" in data and "not defined" in scores.
Nothing is clipped: a score may be negative, and above its ceiling.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from tribrain.brain.atlas_regions import area_and_side
from tribrain.brain.atlases import Atlas, group_vertices, groups
from tribrain.brain.spaces import Space
from tribrain.errors import InputError
from tribrain.moments import Moments
from tribrain.studies.intersubject import leave_one_out
from tribrain.training.validation import mean_of_numbers

if TYPE_CHECKING:
    import pandas as pd

_BLOCK = 8_000_000  # values that are held in double precision at a time
# 7Networks_LH_Vis_1, 17Networks_RH_DefaultA_PFCm_2, LH_SomMot_3 of Schaefer et al. 2018, Cereb
# Cortex 28:3095-3114: after the hemisphere comes the network.
_NETWORK = re.compile(r"(?:\d+Networks_)?[LR]H_([A-Za-z]+)_(?:.+_)?\d+")


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of each output (outputs,), float64; NaN where they are not defined.

    Attributes
    ----------
    r : ndarray
        Pearson's correlation.
    r2 : ndarray
        Coefficient of determination, against the mean of the measured rows.
    explained_variance : ndarray
        R2 that forgives another mean.
    n : ndarray
        Rows that counted: those that are NaN in neither.
    """

    r: np.ndarray
    r2: np.ndarray
    explained_variance: np.ndarray
    n: np.ndarray


def score(
    predicted: np.ndarray | Tensor, measured: np.ndarray | Tensor, device: str = "cpu"
) -> Scores:
    """Scores of each output over rows that are held in memory, or mapped from files.

    For rows that come in pieces there is `tribrain.moments.Moments`, which this is one call of.

    Parameters
    ----------
    predicted, measured : ndarray or Tensor (rows, outputs)
        A row that is NaN in either does not count for that output.
    device : str
        Where sums are taken ("mps" has single precision alone; see `Moments`).

    Raises
    ------
    InputError
        If the two differ in shape or have not two axes.
    """
    moments = Moments(device)
    moments.add(predicted, measured)
    return scores_of(moments)


def scores_of(moments: Moments) -> Scores:
    """Scores of rows that were added to moments."""
    return Scores(moments.correlation(), moments.r2(), moments.explained_variance(), moments.n)


def predictivity(values: np.ndarray) -> np.ndarray:
    """How well the mean of the other people predicts each person: (people, V), float64.

    A reference for a model of people in general (`studies.intersubject.leave_one_out`, in blocks
    of outputs); no bound, as a model may know a person better than the others do.

    Parameters
    ----------
    values : ndarray (people, rows, V)

    Raises
    ------
    InputError
        Another number of axes, or fewer than two people.
    """
    if np.ndim(values) != 3 or not values.size:
        return leave_one_out(values)
    people, rows, outputs = values.shape
    wide = max(1, _BLOCK // (people * rows))
    blocks = [leave_one_out(values[:, :, i : i + wide]) for i in range(0, outputs, wide)]
    return np.concatenate(blocks, axis=1)


def mean_over(values: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Mean of what is a number, in double precision; NaN where nothing is.

    Parameters
    ----------
    values : ndarray (V,)
    mask : ndarray (V,) of bool, optional
        Outputs that may count, such as `brain.summaries.cortex_mask`; all by default.
    """
    values = np.asarray(values, float)
    if mask is not None:
        if np.shape(mask) != values.shape:
            raise InputError(f"a mask of {np.shape(mask)} for values {values.shape}; one each fits")
        values = values[mask]
    return mean_of_numbers(values)


# --- ceilings ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Normalised:
    """Scores beside what could be scored.

    Attributes
    ----------
    raw, ceiling : ndarray (V,)
        As given.
    normalised : ndarray (V,)
        Their quotient; NaN where the ceiling is below `least` or not known. May be above 1.
    mean_raw : float
        Over all outputs that have a score, also those whose ceiling is too low.
    mean_ceiling, mean_normalised : float
        Over the outputs that count.
    counted, left_out : int
        Outputs with a score whose ceiling is high enough, and whose is not (or not known).
    least : float
    """

    raw: np.ndarray
    ceiling: np.ndarray
    normalised: np.ndarray
    mean_raw: float
    mean_ceiling: float
    mean_normalised: float
    counted: int
    left_out: int
    least: float


def normalise(raw: np.ndarray, ceiling: np.ndarray, least: float = 0.1) -> Normalised:
    """Divide scores by their ceilings, where these are not too low to divide by.

    Parameters
    ----------
    raw, ceiling : ndarray (V,)
        Of one kind: correlations, or squares of correlations.
    least : float
        Ceiling (above 0) below which an output is left out of what is normalised: there the
        quotient is mostly noise.

    Raises
    ------
    InputError
        If shapes differ, or `least` is not above 0.
    """
    raw, ceiling = np.asarray(raw, float), np.asarray(ceiling, float)
    if raw.shape != ceiling.shape:
        raise InputError(f"scores {raw.shape} and ceilings {ceiling.shape}; one shape fits")
    if not least > 0:
        raise InputError(f"the least ceiling is {least:g}; a number above 0 fits")
    scored = np.isfinite(raw)
    with np.errstate(invalid="ignore"):
        high = np.isfinite(ceiling) & (ceiling >= least)
    normalised = np.divide(raw, ceiling, out=np.full(raw.shape, np.nan), where=high)
    counted = scored & high
    return Normalised(
        raw,
        ceiling,
        normalised,
        mean_over(raw),
        mean_over(ceiling, counted),
        mean_over(normalised, counted),
        int(counted.sum()),
        int((scored & ~high).sum()),
        least,
    )


# --- regions and networks ------------------------------------------------------------------------


def by_region(
    values: np.ndarray, atlas: Atlas | Space, names: Sequence[str] | None = None
) -> pd.DataFrame:
    """Means over the outputs of each region that have a number.

    Parameters
    ----------
    values : ndarray (V,) or (k, V)
        One map, or several, such as r, ceiling and normalised.
    atlas : Atlas or Space
        Its regions leave the medial wall out. Of a space of parcels each is a region.
    names : sequence of str, optional
        Of the maps; by default "value", or "value 1" and so on where there are several.

    Returns
    -------
    DataFrame
        A row a region, in the order of the atlas: ``region``, ``hemisphere`` (left, right or
        empty), ``outputs`` (those with a number in the first map), a column a map, and for each
        map after the first ``NAME outputs``. A mean of nothing is NaN.

    Raises
    ------
    InputError
        If values do not fit the atlas, or names the values; if the space has no parcels.
    """
    if isinstance(atlas, Space):
        if not atlas.parcels:
            raise InputError(f"{atlas.name} has no parcels; an atlas of it fits")
        parts = {name: np.array([number]) for number, name in enumerate(atlas.parcels)}
        sides = [area_and_side(name)[1] for name in atlas.parcels]
        space = atlas
    else:
        parts = {region.name: region.vertices for region in atlas.regions}
        sides = [region.hemisphere for region in atlas.regions]
        space = atlas.space
    table = _table(values, space, parts, names, "region")
    table.insert(1, "hemisphere", sides)
    return table


def by_network(
    values: np.ndarray, atlas: Atlas | Space, names: Sequence[str] | None = None
) -> pd.DataFrame:
    """Means over the outputs of each network, both hemispheres together.

    Parameters are those of `by_region`, and so is what is returned, without ``hemisphere`` and
    with ``network`` for ``region``; there is no row where no network is known (`networks`).
    """
    space = atlas if isinstance(atlas, Space) else atlas.space
    return _table(values, space, networks(atlas), names, "network")


def networks(atlas: Atlas | Space) -> dict[str, np.ndarray]:
    """Outputs of each network, in the order of the atlas.

    They are told by the names of parcels ("Vis" of ``7Networks_LH_Vis_1``); else they are the
    groups of regions that `brain/groups.tsv` has for the atlas ("motion", "language"), which may
    overlap; else there are none.
    """
    if isinstance(atlas, Space):
        regions = [(name, np.array([number])) for number, name in enumerate(atlas.parcels)]
    else:
        regions = [(region.name, region.vertices) for region in atlas.regions]
    found: dict[str, list[np.ndarray]] = {}
    for name, vertices in regions:
        if told := _NETWORK.fullmatch(name):
            found.setdefault(told[1], []).append(vertices)
    if not found and isinstance(atlas, Atlas):
        found = {name: list(group_vertices(atlas, name).values()) for name in groups(atlas)}
    return {name: np.unique(np.concatenate(parts)) for name, parts in found.items()}


def _table(
    values: np.ndarray,
    space: Space,
    parts: Mapping[str, np.ndarray],
    names: Sequence[str] | None,
    what: str,
) -> pd.DataFrame:
    import pandas as pd

    space.check(values, "the map")
    maps = np.atleast_2d(np.asarray(values, float))
    if maps.ndim != 2:
        raise InputError(f"maps of shape {maps.shape}; (V,) or (maps, V) fits")
    if names is None:
        names = ["value"] if len(maps) == 1 else [f"value {n + 1}" for n in range(len(maps))]
    if len(names) != len(maps):
        raise InputError(f"{len(names)} names of {len(maps)} maps; one each fits")
    columns: dict[str, list] = {what: list(parts)}
    for number, (name, each) in enumerate(zip(names, maps, strict=True)):
        counts = [int(np.isfinite(each[part]).sum()) for part in parts.values()]
        columns["outputs" if number == 0 else f"{name} outputs"] = counts
        columns[name] = [mean_over(each[part]) for part in parts.values()]
    return pd.DataFrame(columns)
