"""Where the values of a simulated study lie: meshes and parcels, and smooth fields on them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from tribrain.brain.meshes import medial_wall, surface
from tribrain.brain.regions import region_maps
from tribrain.brain.spaces import HEMISPHERES, Space, mesh_space, parcel_space
from tribrain.errors import InputError

MESHES = ("fsaverage3", "fsaverage4", "fsaverage5")
PARCELS = (2, 1000)
RADIUS = 100.0
"""Of the sphere, in mm."""
_PARCELS_MESH = "fsaverage4"
_WAVES = 64


def mesh_of(place: str | int) -> str:
    """The mesh that the maps of a space are made on."""
    return place if isinstance(place, str) else _PARCELS_MESH


def space_of(place: str | int) -> Space:
    """The space of a mesh's name or a number of parcels.

    Raises
    ------
    InputError
        Names what fits.
    """
    if isinstance(place, str) and place in MESHES:
        return mesh_space(place)
    whole = isinstance(place, int) and not isinstance(place, bool)
    if whole and PARCELS[0] <= int(place) <= PARCELS[1]:
        names = _parcels(int(place))[1]
        return parcel_space(f"simulated{place}", names)
    raise InputError(
        f"space {place!r} is unknown; known: {', '.join(MESHES)}, or a number of parcels "
        f"from {PARCELS[0]} to {PARCELS[1]}"
    )


def measured(place: str | int) -> np.ndarray:
    """Where something is measured (n,), bool: everywhere but in the medial wall."""
    if isinstance(place, str):
        return ~medial_wall(place)
    return np.ones(place, bool)


def regions_of(place: str | int) -> dict[str, np.ndarray]:
    """Values that belong to each region: where its map is half of its largest or more."""
    found = {}
    for name, values in region_maps(mesh_of(place)).items():
        strength = gather(place, values[None])[0]
        found[name] = np.flatnonzero(strength >= 0.5 * strength.max())
    return found


def smooth_fields(
    rng: np.random.Generator, points: np.ndarray, count: int, length: float
) -> np.ndarray:
    """Random fields (n, count) of variance 1 that are smooth over `length`, at points (n, 3).

    Sums of random waves, whose correlation falls as a Gaussian of the distance, of standard
    deviation `length` (Rahimi & Recht 2007, NIPS 20): they need no mesh, so that meshes agree.
    """
    waves = rng.standard_normal((3, _WAVES)) / length
    amplitudes = rng.standard_normal((2 * _WAVES, count)) / np.sqrt(_WAVES)
    phases = points @ waves
    return np.concatenate([np.cos(phases), np.sin(phases)], axis=1) @ amplitudes


@cache
def spread_of_noise(place: str | int) -> Any:
    """Sparse matrix (n, n) that mixes white noise with that of a vertex's neighbours by half.

    Its rows have norm 1; parcels are far apart and share no noise.
    """
    from scipy.sparse import block_diag, coo_array, diags_array

    if not isinstance(place, str):
        return diags_array(np.ones(place, np.float32), format="csr")
    blocks = []
    for hemisphere in HEMISPHERES:
        points, faces = surface(place, hemisphere, "sphere")
        pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        pairs = np.unique(np.concatenate([pairs, pairs[:, ::-1]]), axis=0)
        near = coo_array((np.full(len(pairs), 0.5), tuple(pairs.T)), (len(points),) * 2)
        mixed = near.tocsr() + diags_array(np.ones(len(points)), format="csr")
        blocks.append(diags_array(1 / np.sqrt(mixed.power(2).sum(axis=1))) @ mixed)
    return block_diag(blocks, format="csr").astype(np.float32)


@cache
def sphere(mesh: str, hemisphere: str) -> np.ndarray:
    return RADIUS * unit(surface(mesh, hemisphere, "sphere")[0])


def unit(points: np.ndarray) -> np.ndarray:
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True))


@cache
def _tree(hemisphere: str) -> Any:
    from scipy.spatial import KDTree

    return KDTree(sphere("fsaverage5", hemisphere))


def corners_of(hemisphere: str, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The three vertices of fsaverage5 (n, 3) next to points, and weights by inverse distance."""
    distance, nearest = _tree(hemisphere).query(points, k=3)
    weights = 1 / (distance + 1e-6)
    return nearest, weights / weights.sum(axis=1, keepdims=True)


def move(values: np.ndarray, shifts: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Values (maps, 20484) of fsaverage5 at displaced vertices (maps, vertices of the mesh)."""
    sides = np.split(values, 2, axis=1)
    moved = [
        sum(part[:, nearest[:, corner]] * weights[:, corner] for corner in range(3))
        for part, (nearest, weights) in zip(sides, shifts, strict=True)
    ]
    return np.concatenate([np.asarray(part) for part in moved], axis=1)


def gather(place: str | int, values: np.ndarray) -> np.ndarray:
    """Values (maps, vertices) in the space: the mean over each parcel, or as they are."""
    if isinstance(place, str):
        return values
    labels = _parcels(place)[0]
    inside = labels >= 0
    sums = np.stack([np.bincount(labels[inside], row[inside], place) for row in values])
    return np.asarray(sums / np.bincount(labels[inside], minlength=place))


@cache
def _parcels(count: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Parcel of each vertex of fsaverage4 (-1: medial wall), and names: those on the left first.

    Seeds lie as far from each other as can be; a vertex belongs to the next one.
    """
    cortex = np.split(~medial_wall(_PARCELS_MESH), 2)
    counts = (count - count // 2, count // 2)
    labels: list[np.ndarray] = []
    names: list[str] = []
    for letter, hemisphere, inside, wanted in zip("LR", HEMISPHERES, cortex, counts, strict=True):
        points = sphere(_PARCELS_MESH, hemisphere)[inside]
        label = np.zeros(len(points), int)
        nearest = np.linalg.norm(points - points[0], axis=1)
        for number in range(1, wanted):
            distance = np.linalg.norm(points - points[nearest.argmax()], axis=1)
            label[distance < nearest] = number
            nearest = np.minimum(nearest, distance)
        whole = np.full(len(inside), -1)
        whole[inside] = label + len(names)
        labels.append(whole)
        names += [f"{letter}{number + 1}" for number in range(wanted)]
    return np.concatenate(labels), tuple(names)
