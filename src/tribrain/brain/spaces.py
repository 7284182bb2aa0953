"""Output spaces: how many values a response has, and where on the cortex they lie.

Cortical spaces are FreeSurfer's fsaverage meshes, left hemisphere first. fsaverage5 comes with
nilearn; fsaverage3 and fsaverage4 are its first 642 and 2,562 vertices a hemisphere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from tribrain.errors import InputError

HEMISPHERES = ("left", "right")
FSAVERAGE = {"fsaverage3": 642, "fsaverage4": 2562, "fsaverage5": 10242}
"""Vertices a hemisphere."""
SUBCORTEX = {"subcortex8802": 8802}
"""Voxels of the Harvard-Oxford subcortical structures of the published subcortical model."""

# FreeSurfer's matrix from fsaverage's MNI305 to MNI152 (https://surfer.nmr.mgh.harvard.edu,
# CoordinateSystems, number 8).
MNI305_TO_MNI152 = np.array(
    [
        [0.9975, -0.0073, 0.0176, -0.0429],
        [0.0146, 1.0009, -0.0024, 1.5496],
        [-0.0130, -0.0093, 0.9971, 1.1840],
    ]
)

# Cortex is nowhere this thin (Fischl & Dale 2000, PNAS 97:11050-11055: 1 to 4.5 mm, on average
# 2.5 mm); the flat surface that closes a hemisphere towards the middle is.
_THINNEST = 1.8


@dataclass(frozen=True)
class Space:
    """A named space; `n_left` and `n_right` are 0 where there is no surface."""

    name: str
    size: int
    n_left: int = 0
    n_right: int = 0

    @property
    def is_surface(self) -> bool:
        return self.n_left > 0

    def slice(self, hemisphere: str) -> slice:
        """Where a hemisphere lies in the values."""
        if hemisphere not in HEMISPHERES or not self.is_surface:
            known = ", ".join(HEMISPHERES) if self.is_surface else f"none in {self.name}"
            raise InputError(f"hemisphere {hemisphere!r} is unknown; known: {known}")
        return slice(0, self.n_left) if hemisphere == "left" else slice(self.n_left, self.size)


def known_spaces() -> dict[str, Space]:
    """Every named space."""
    spaces = {name: Space(name, 2 * n, n, n) for name, n in FSAVERAGE.items()}
    return spaces | {name: Space(name, n) for name, n in SUBCORTEX.items()}


def find_space(name: str | None, size: int) -> Space:
    """The space of `size` values, checked against its name where one is given.

    The size decides: checkpoints name the mesh that their data were projected to, and some hold
    fewer outputs. A size that no known space has is a list of unnamed outputs (such as parcels):
    it can be saved and analysed, and not be drawn.

    Raises
    ------
    InputError
        If a known space is named and no known space has the size.
    """
    spaces = known_spaces()
    fitting = [space for space in spaces.values() if space.size == size]
    if fitting:
        return fitting[0]
    if name in spaces:
        sizes = ", ".join(f"{space.name} {space.size}" for space in spaces.values())
        raise InputError(f"{size} values do not fit {name}; sizes: {sizes}")
    return Space(f"outputs{size}", size)


def _nilearn_surface(kind: str, hemisphere: str) -> Any:
    from nilearn.datasets import fetch_surf_fsaverage

    return fetch_surf_fsaverage("fsaverage5")[f"{kind}_{hemisphere}"]


@cache
def surface(space: str, hemisphere: str, kind: str = "white") -> tuple[np.ndarray, np.ndarray]:
    """Mesh of a hemisphere.

    Parameters
    ----------
    space : str
        One of `FSAVERAGE`.
    hemisphere : {"left", "right"}
    kind : {"white", "pial", "infl", "sphere"}

    Returns
    -------
    coordinates : ndarray (n, 3)
        Millimetres in MNI305 (white, pial).
    faces : ndarray (m, 3)
        Vertices of each triangle, seen from outside counter-clockwise.
    """
    from nilearn.surface import load_surf_mesh

    n = FSAVERAGE[space]
    mesh = load_surf_mesh(_nilearn_surface(kind, hemisphere))
    coordinates, faces = np.array(mesh.coordinates[:n], float), np.array(mesh.faces)
    if space != "fsaverage5":
        faces = _faces_of_sphere(surface("fsaverage5", hemisphere, "sphere")[0][:n])
    for array in (coordinates, faces):
        array.setflags(write=False)  # one copy serves all
    return coordinates, faces


def _faces_of_sphere(points: np.ndarray) -> np.ndarray:
    """Triangles between points of a sphere: those of the points' convex hull."""
    from scipy.spatial import ConvexHull

    faces = ConvexHull(points).simplices
    corners = points[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    inward = np.einsum("fc,fc->f", normal, corners.mean(axis=1)) < 0
    faces[inward] = faces[inward][:, ::-1]
    return faces[np.lexsort(faces.T[::-1])]


@cache
def distances_graph(hemisphere: str) -> Any:
    """Edges of fsaverage5's mid-surface with their lengths in mm, as a sparse matrix."""
    from scipy.sparse import coo_array

    faces = surface("fsaverage5", hemisphere)[1]
    middle = midsurface(hemisphere)
    pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    lengths = np.linalg.norm(middle[pairs[:, 0]] - middle[pairs[:, 1]], axis=1)
    n = len(middle)
    half = coo_array((lengths, (pairs[:, 0], pairs[:, 1])), (n, n)).tocsr()
    return (half + half.T).tocsr()


@cache
def midsurface(hemisphere: str) -> np.ndarray:
    """Vertices (10242, 3) midway between white and pial surface of fsaverage5, mm in MNI305."""
    return (
        surface("fsaverage5", hemisphere, "white")[0] + surface("fsaverage5", hemisphere, "pial")[0]
    ) / 2


@cache
def sulcal_depth(space: str) -> np.ndarray:
    """Depth of the folds (2 n,), larger in a sulcus; left hemisphere first."""
    from nilearn.surface import load_surf_data

    n = FSAVERAGE[space]
    return np.concatenate([load_surf_data(_nilearn_surface("sulc", h))[:n] for h in HEMISPHERES])


@cache
def medial_wall(space: str) -> np.ndarray:
    """Vertices that are not cortex: the largest patch thinner than cortex is, closed.

    No atlas is needed. Of the medial wall of FreeSurfer's annotations of fsaverage5 this finds
    the middle and leaves out its rim (the tests state the agreement).

    Parameters
    ----------
    space : str
        One of `FSAVERAGE`.

    Returns
    -------
    ndarray (2 n,), bool
        True in the medial wall; left hemisphere first.
    """
    from nilearn.surface import load_surf_data
    from scipy.sparse.csgraph import connected_components

    masks = []
    for hemisphere in HEMISPHERES:
        thin = load_surf_data(_nilearn_surface("thick", hemisphere)) < _THINNEST
        near = distances_graph(hemisphere) > 0
        wall = np.zeros(len(thin), bool)
        wall[_largest(thin, near, connected_components)] = True
        for _ in range(3):
            wall = wall | (near @ wall)
        for _ in range(3):
            wall = ~(~wall | (near @ ~wall))
        cortex = np.zeros(len(thin), bool)  # holes in the wall belong to it
        cortex[_largest(~wall, near, connected_components)] = True
        masks.append(~cortex[: FSAVERAGE[space]])
    return np.concatenate(masks)


def _largest(mask: np.ndarray, near: Any, components: Any) -> np.ndarray:
    """Vertices of the largest connected patch of a mask."""
    vertices = np.flatnonzero(mask)
    labels = components(near[vertices][:, vertices])[1]
    return vertices[labels == np.bincount(labels).argmax()]
