"""Regions that need no atlas: those of the textbook table, spread over the surface.

The table (``textbook.tsv``, beside this file) gives each region a centre in MNI152 millimetres,
a width, what drives it, and the source of each. The medial wall belongs to no region.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from tribrain.brain.meshes import (
    MNI305_TO_MNI152,
    distances_graph,
    medial_wall,
    midsurface,
    nearest_of_fsaverage5,
)
from tribrain.brain.spaces import HEMISPHERES, MESHES, Space

if TYPE_CHECKING:
    import pandas as pd

_SIDES = dict(zip("LR", HEMISPHERES, strict=True))


def textbook_table() -> pd.DataFrame:
    """The textbook table, a row a region, hemisphere and feature.

    Returns
    -------
    DataFrame
        Columns region, hemisphere (L, R), x, y, z (mm, MNI152), width (mm, standard deviation
        along the surface), feature, weight, areas (of HCP-MMP1), source.
    """
    import pandas as pd

    with (files("tribrain.brain") / "textbook.tsv").open(encoding="utf-8") as file:
        return pd.read_csv(file, sep="\t")


def to_mni305(points: np.ndarray) -> np.ndarray:
    """MNI152 to MNI305 coordinates, (n, 3) mm; the surfaces of fsaverage lie in the latter."""
    matrix, shift = MNI305_TO_MNI152[:, :3], MNI305_TO_MNI152[:, 3]
    return np.linalg.solve(matrix, (np.asarray(points, float) - shift).T).T


def spread(point: np.ndarray, hemisphere: str, width: float) -> np.ndarray:
    """A Gaussian of the distance along fsaverage5's surface from the vertex nearest to a point.

    Parameters
    ----------
    point : ndarray (3,)
        MNI152, mm.
    hemisphere : {"left", "right"}
    width : float
        Standard deviation in mm; zero beyond three of them.

    Returns
    -------
    ndarray (10242,)
        1 at the centre.
    """
    from scipy.sparse.csgraph import dijkstra

    offsets = midsurface(hemisphere) - to_mni305(point[None])
    centre = int(np.argmin(np.einsum("vc,vc->v", offsets, offsets)))
    distance = dijkstra(distances_graph(hemisphere), indices=centre, limit=3 * width)
    return np.where(np.isfinite(distance), np.exp(-0.5 * (distance / width) ** 2), 0.0)


@cache
def region_maps(mesh: str) -> Mapping[str, np.ndarray]:
    """How strongly each vertex belongs to each textbook region.

    Parameters
    ----------
    mesh : str
        One of `MESHES`; those finer than fsaverage5 take the value of its nearest vertex.

    Returns
    -------
    mapping of "REGION_L" or "REGION_R" to ndarray (vertices,)
        At most 1; zero in the medial wall and in the other hemisphere.
    """
    n = MESHES[mesh]
    wall = medial_wall(mesh)
    maps = {}
    table = textbook_table().drop_duplicates(["region", "hemisphere"])
    centres = table[["x", "y", "z"]].to_numpy(float)
    columns = (table["region"], table["hemisphere"], table["width"].astype(float))
    for centre, region, letter, width in zip(centres, *columns, strict=True):
        side = _SIDES[letter]
        whole = np.zeros(2 * n)
        part = spread(centre, side, width)[nearest_of_fsaverage5(mesh, side)]
        whole[slice(0, n) if side == "left" else slice(n, 2 * n)] = part
        whole[wall] = 0
        whole.setflags(write=False)
        maps[f"{region}_{letter}"] = whole
    return MappingProxyType(maps)


def region_vertices(space: Space) -> dict[str, np.ndarray]:
    """Vertices of each textbook region: where its map is at least half of its largest value.

    Raises
    ------
    InputError
        If the space is no surface.
    """
    return {
        name: np.flatnonzero(values >= 0.5 * values.max())
        for name, values in region_maps(space.mesh).items()
    }
