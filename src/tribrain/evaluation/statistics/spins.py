"""Whether two maps of the cortex are alike beyond their smoothness: maps turned on the sphere.

Neighbouring vertices are alike, so that two smooth maps correlate by chance. Turning one of them
on the sphere on which the surface is registered keeps its smoothness and breaks the
correspondence. Both hemispheres turn alike, the right one as the mirror image of the left, so
that a map that is symmetric stays symmetric.

References
----------
Alexander-Bloch et al. 2018, NeuroImage 178:540-551; Markello & Misic 2021, NeuroImage 236:118052
(how well such nulls keep their level: better than tests without space, and not perfectly).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tribrain.brain.meshes import medial_wall, surface
from tribrain.brain.spaces import HEMISPHERES, mesh_space
from tribrain.errors import InputError
from tribrain.evaluation.statistics.correction import TIE, p_of_counts

if TYPE_CHECKING:
    from tribrain.brain.atlases import Atlas

_MIRROR = np.array([-1.0, 1.0, 1.0])  # left and right
_BATCH = 64  # rotations at a time


@dataclass(frozen=True, eq=False)
class Spin:
    """Correlation of two maps, and that of turned ones.

    Attributes
    ----------
    r : ndarray (maps,)
        Pearson's over what both maps have; NaN where one does not vary.
    p : ndarray (maps,)
        Two-sided unless asked otherwise; one-sided p values count large correlations.
    null : ndarray (n, maps)

    Of single maps `r` and `p` are of shape () and `null` (n,).
    """

    r: np.ndarray
    p: np.ndarray
    null: np.ndarray


def rotations(n: int, seed: int = 0) -> np.ndarray:
    """Rotations (n, 3, 3) of space, each as likely as any other."""
    from scipy.spatial.transform import Rotation

    matrices: np.ndarray = Rotation.random(n, rng=np.random.default_rng(seed)).as_matrix()
    return matrices


def spin_test(
    map_a: np.ndarray,
    map_b: np.ndarray,
    mesh: str = "fsaverage5",
    n: int = 1000,
    seed: int = 0,
    *,
    two_sided: bool = True,
) -> Spin:
    """Correlation over vertices of two maps of a mesh, against turned maps.

    Parameters
    ----------
    map_a, map_b : ndarray (2 n_vertices,) or (maps, 2 n_vertices)
        Left hemisphere first; NaN where there is no value. The medial wall is left out. `map_a`
        is turned. Where one is a single map and the other are several, it goes with each.
    mesh : str
        One of `tribrain.brain.spaces.MESHES`; both fall on its registered sphere.
    n : int
        Rotations, the same for all pairs of maps.
    seed : int
    two_sided : bool

    Returns
    -------
    Spin

    Raises
    ------
    InputError
        If the maps do not fit the mesh or each other.

    Notes
    -----
    A vertex of the turned map has the value of the vertex that is nearest to where it came from.
    Each correlation is over the vertices where both, the turned map and the other, have a value.
    """
    a, b, single = _pairs(map_a, map_b)
    space = mesh_space(mesh)
    for values in (a, b):
        space.check(values, "the map")
    wall = medial_wall(mesh)
    spheres = [_unit(surface(mesh, side, "sphere")[0]) for side in HEMISPHERES]
    places = _places(spheres, spheres, n, seed)
    return _spun(np.where(wall, np.nan, a), np.where(wall, np.nan, b), places, two_sided, single)


def spin_parcels(
    values_a: np.ndarray,
    values_b: np.ndarray,
    atlas: Atlas,
    n: int = 1000,
    seed: int = 0,
    *,
    two_sided: bool = True,
) -> Spin:
    """Correlation over the regions of an atlas of a surface, against turned regions.

    Parameters
    ----------
    values_a, values_b : ndarray (regions,) or (maps, regions)
        In the order of the atlas; NaN where there is no value. The centres of regions are turned,
        and each turned region takes the value of `values_a` at the nearest centre of its
        hemisphere (which may serve several regions).
    atlas : Atlas
        Of a surface.
    n, seed, two_sided
        As in `spin_test`.

    Returns
    -------
    Spin

    Raises
    ------
    InputError
        If the atlas is not of a surface, has a region in no hemisphere, or the values do not fit.
    """
    a, b, single = _pairs(values_a, values_b)
    if a.shape[1] != len(atlas.regions):
        raise InputError(
            f"{a.shape[1]} values; {atlas.name} has {len(atlas.regions)} regions, and one value of "
            "each fits"
        )
    if not atlas.space.is_surface or atlas.space.n_voxels:
        raise InputError(f"{atlas.name} is not of a surface alone; only regions of one are turned")
    centres, order = [], []
    for side in HEMISPHERES:
        points = _unit(surface(atlas.space.mesh, side, "sphere")[0])
        start = atlas.space.slice(side).start
        regions = [at for at, region in enumerate(atlas.regions) if region.hemisphere == side]
        order += regions
        means = [points[atlas.regions[at].vertices - start].mean(axis=0) for at in regions]
        centres.append(_unit(np.reshape(means, (-1, 3))))
    if len(order) < len(atlas.regions):
        name = next(r.name for r in atlas.regions if r.hemisphere not in HEMISPHERES)
        raise InputError(f"region {name} of {atlas.name} lies in no hemisphere of the surface")
    places = _places(centres, centres, n, seed)
    return _spun(a[:, order], b[:, order], places, two_sided, single)


def _pairs(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """Maps (maps, size) of both, and whether they were single ones."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    single = a.ndim == b.ndim == 1
    fit = a.ndim in (1, 2) and b.ndim in (1, 2) and a.shape[-1:] == b.shape[-1:]
    if not fit or (a.ndim == b.ndim == 2 and len(a) != len(b) and 1 not in (len(a), len(b))):
        raise InputError(f"maps {a.shape} and {b.shape} do not fit each other")
    a, b = np.atleast_2d(a), np.atleast_2d(b)
    maps = max(len(a), len(b))
    return np.broadcast_to(a, (maps, a.shape[1])), np.broadcast_to(b, (maps, b.shape[1])), single


def _unit(points: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = points / np.linalg.norm(points, axis=1, keepdims=True)
    return scaled


def _places(
    targets: list[np.ndarray], sources: list[np.ndarray], n: int, seed: int
) -> Iterator[np.ndarray]:
    """Where the values of turned maps come from, a batch of rotations (batch, points) at a time.

    Both hemispheres' points in one row, the left ones first, the right ones turned as a mirror
    image.
    """
    from scipy.spatial import KDTree

    trees = [KDTree(points) if len(points) else None for points in sources]
    turns = rotations(n, seed)
    for first in range(0, n, _BATCH):
        left = turns[first : first + _BATCH]
        both = (left, left * _MIRROR[:, None] * _MIRROR)
        found, before = [], 0
        for tree, points, turn in zip(trees, targets, both, strict=True):
            if tree is None:
                continue
            turned = np.einsum("pc,rdc->rpd", points, turn)
            found.append(before + tree.query(turned, workers=-1)[1].astype(np.int32))
            before += tree.n
        yield np.concatenate(found, axis=1)


def _spun(
    a: np.ndarray, b: np.ndarray, places: Iterator[np.ndarray], two_sided: bool, single: bool
) -> Spin:
    """Correlations (maps,) of maps and of turned maps."""
    # Centred first: the moments of a map far from 0 would lose digits.
    a = a - _mean(a)
    b = b - _mean(b)
    r = np.array([_correlations(one[None], other)[0] for one, other in zip(a, b, strict=True)])
    batches = []
    for batch in places:  # map by map: a batch of turns of one map is as much as is held
        found = [_correlations(one[batch], other) for one, other in zip(a, b, strict=True)]
        batches.append(np.stack(found, axis=1))
    null = np.concatenate(batches)
    with np.errstate(invalid="ignore"):
        reached = (np.abs(null) >= np.abs(r) - TIE) if two_sided else (null >= r - TIE)
    # A turned map that has nothing to be compared with counts against the finding.
    reached |= np.isnan(null)
    p = np.where(np.isnan(r), np.nan, p_of_counts(reached.sum(axis=0), len(null)))
    if single:
        return Spin(r[0], p[0], null[:, 0])
    return Spin(r, p, null)


def _mean(maps: np.ndarray) -> np.ndarray:
    there = ~np.isnan(maps)
    count = np.maximum(there.sum(axis=1, keepdims=True), 1)
    mean: np.ndarray = np.where(there, maps, 0).sum(axis=1, keepdims=True) / count
    return mean


def _correlations(turned: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Pearson's r (turns,) of the turns of a map (turns, points) with another map (points,)."""
    there, also = ~np.isnan(turned), ~np.isnan(other)
    x, y = np.where(there, turned, 0), np.where(also, other, 0)
    both, mask = there.astype(float), also.astype(float)
    count = np.maximum(both @ mask, 1)
    x_mean, y_mean, x_square, y_square = (
        total / count for total in (x @ mask, both @ y, x**2 @ mask, both @ y**2)
    )
    x_variance, y_variance = x_square - x_mean**2, y_square - y_mean**2
    # What rounding leaves of the variance of a constant is no variance.
    varies = (x_variance > 1e-12 * x_square) & (y_variance > 1e-12 * y_square)
    norms = np.sqrt(np.where(varies, x_variance * y_variance, 1))
    return np.where(varies, (x @ y / count - x_mean * y_mean) / norms, np.nan)
