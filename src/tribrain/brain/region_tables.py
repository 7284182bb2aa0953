"""Regions of a response in tables: their means over time, and what each of them does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tribrain.brain.atlas_regions import Region, area_and_side
from tribrain.brain.atlases import Atlas, group_vertices, load_atlas
from tribrain.brain.spaces import HEMISPHERES, Space
from tribrain.brain.summaries import cortex_mask, variances
from tribrain.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

SORTS = ("mean", "peak", "share", "atlas")


def over_time(data: xr.DataArray, space: Space, atlas: str | Path | Atlas) -> pd.DataFrame:
    """Mean of each region in each row (time, region).

    Parcels are regions already: they come as they are, whatever the atlas.
    """
    import pandas as pd

    time = pd.Index(data["time"].values, name="time")
    if space.parcels:
        return pd.DataFrame(data.values, index=time, columns=list(space.parcels))
    found = opened(atlas, space)
    return pd.DataFrame(found.summarise(data.values), index=time, columns=list(found.names))


def atlas_for(space: Space, atlas: str | Path | Atlas) -> Atlas | None:
    """The atlas on a space; None where there is nothing that the textbook regions could part."""
    if space.parcels or (atlas == "textbook" and not space.is_surface):
        return None
    return opened(atlas, space)


def opened(atlas: str | Path | Atlas, space: Space) -> Atlas:
    """An atlas given by name, path or itself, on a space."""
    if not isinstance(atlas, Atlas):
        if atlas == "textbook" and not space.is_surface:
            raise InputError(
                f"{space.name} has no surface, on which the textbook regions lie; for voxels name "
                "an atlas of them, such as atlas='harvard-oxford'"
            )
        return load_atlas(atlas, space)
    if (atlas.space.name, atlas.space.size) != (space.name, space.size):
        raise InputError(f"the atlas is on {atlas.space.name}, the response in {space.name}")
    return atlas


def region_table(
    data: xr.DataArray,
    space: Space,
    atlas: str | Path | Atlas = "textbook",
    *,
    match: str | None = None,
    hemisphere: str | None = None,
    group: str | None = None,
    sort: str = "mean",
) -> pd.DataFrame:
    """What each region does over the whole response, the strongest first.

    Parameters
    ----------
    data : DataArray (time, vertex)
        Of a `Response`.
    space : Space
    atlas : str, path or Atlas
    match : str, optional
        Only regions of these names or areas (`Atlas.match`: ``"V*"``, ``"A5,STSdp"``).
    hemisphere : {"left", "right"}, optional
    group : str, optional
        Only regions of a group, such as ``"motion"`` (`atlases.group_vertices`).
    sort : {"mean", "peak", "share", "atlas"}

    Returns
    -------
    DataFrame
        ``region``, ``hemisphere``, ``vertices``, ``mean`` (over vertices and time), ``peak``
        (largest mean over the region's vertices of any row), ``peak_time_s`` (second of the
        stimulus), ``peak_bold_time_s`` (when the scanner would see it) and ``share`` (of the
        variance over time, summed over all vertices outside the medial wall, that lies in the
        region; regions that overlap count twice).

        Of a response of parcels, each counts as one vertex, however large it is in the brain:
        ``share`` is that of the summed variance of the parcels' means, which is not the share of
        the vertices that they came from. ``hemisphere`` is what a parcel's name tells.

    Raises
    ------
    InputError
        If nothing is chosen, the response has no row, or the hemisphere is asked for and no
        parcel's name tells it.
    """
    import pandas as pd

    if sort not in SORTS:
        raise InputError(f"sort {sort!r} is unknown; known: {', '.join(SORTS)}")
    if not data.sizes["time"]:
        raise InputError("the response has no row; one at least fits")
    found = _whole(space) if space.parcels else opened(atlas, space)
    if hemisphere in HEMISPHERES and not any(r.hemisphere == hemisphere for r in found.regions):
        raise InputError(
            f"no region of {found.name} is known to be in the {hemisphere} hemisphere: the names "
            "(such as V1_L, LH_Vis_1, Left Thalamus) would tell; choose by match= instead"
        )
    kept = [region.name for region in found.match("*" if match is None else match, hemisphere)]
    if group is not None:
        within = set(group_vertices(found, group, hemisphere))
        kept = [name for name in kept if name in within]
        if not kept:
            raise InputError(f"no region of {match!r} belongs to the group {group!r}")
    means = found.summarise(data.values)
    spread = np.where(cortex_mask(space), variances(data.values), np.nan)
    total = float(np.nansum(spread)) or np.nan
    rows = []
    for number, region in enumerate(found.regions):
        if region.name not in kept:
            continue
        series = means[:, number]
        seen = bool(np.isfinite(series).any())
        best = int(np.nanargmax(series)) if seen else 0
        rows.append(
            {
                "region": region.name,
                "hemisphere": region.hemisphere or "n/a",
                "vertices": len(region.vertices),
                "mean": float(np.nanmean(series, dtype=float)) if seen else np.nan,
                "peak": float(series[best]),
                "peak_time_s": float(data["time"][best]) if seen else np.nan,
                "peak_bold_time_s": float(data["bold_time"][best]) if seen else np.nan,
                "share": float(np.nansum(spread[region.vertices])) / total,
            }
        )
    table = pd.DataFrame(rows)
    if sort != "atlas":
        table = table.sort_values(sort, ascending=False, kind="stable", na_position="last")
    return table.reset_index(drop=True)


def _whole(space: Space) -> Atlas:
    """The parcels of a space as an atlas of regions of one value each."""
    regions = tuple(
        Region(name, *area_and_side(name), np.array([number]))
        for number, name in enumerate(space.parcels)
    )
    return Atlas(space.name, space, regions, "the parcels of the response itself")
