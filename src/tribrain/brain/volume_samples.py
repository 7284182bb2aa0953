"""Where in a grid of voxels the samples of each vertex lie, and the matrix of their means.

What for, and by which rules, is told in `tribrain.brain.projection`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np

from tribrain.brain.meshes import midsurface, moved, surface, to_template
from tribrain.brain.spaces import FSAVERAGE, HEMISPHERES, MESHES, TEMPLATES, check_affine
from tribrain.errors import InputError

KINDS = ("ball", "line", "nearest")
INTERPOLATIONS = ("linear", "nearest")
SURFACES = ("pial", "mid", "white")
COORDINATES = ("published", "registered")

_BALL, _LINE = 20, 10  # samples of a vertex: nilearn's own numbers, and the published recipe's
_VERTICES = 10_000  # whose samples are in memory at once


class Sampling(NamedTuple):
    """What the places of the samples depend on; a key of the matrices that are kept."""

    mesh: str
    shape: tuple[int, int, int]
    affine: bytes
    template: str
    kind: str
    radius: float
    interpolation: str
    surface: str
    coordinates: str
    mask: bytes | None


def sampling(
    mesh: str,
    shape: Sequence[int],
    affine: np.ndarray,
    *,
    template: str,
    kind: str = "ball",
    radius: float = 3.0,
    interpolation: str = "linear",
    surface: str | None = None,
    coordinates: str = "published",
    mask: np.ndarray | None = None,
) -> Sampling:
    """Check the parameters of `tribrain.brain.projection.projection_matrix`.

    Raises
    ------
    InputError
        An unknown name, a damaged affine, a grid or a mask that does not fit.
    """
    for what, value, known in (
        ("mesh", mesh, tuple(MESHES)),
        ("template", template, TEMPLATES),
        ("kind", kind, KINDS),
        ("interpolation", interpolation, INTERPOLATIONS),
        ("surface", surface or "pial", SURFACES),
        ("coordinates", coordinates, COORDINATES),
    ):
        if value not in known:
            raise InputError(f"{what} {value!r} is unknown; known: {', '.join(known)}")
    if surface and kind == "line":
        raise InputError("a line goes from the pial to the white surface and takes no other")
    if not 0 < radius <= 20:
        raise InputError(f"the ball has a radius of {radius:g} mm; above 0 and up to 20 fit")
    if len(shape) != 3 or min(shape) < 2:
        raise InputError(f"the grid has shape {tuple(shape)}; three dimensions of 2 or more fit")
    x, y, z = (int(n) for n in shape)
    matrix = np.array(affine, float)
    check_affine(matrix)
    inside = None
    if mask is not None:
        given = np.asarray(mask)
        if given.shape != (x, y, z):
            raise InputError(f"the mask has shape {given.shape}; that of the volume is {(x, y, z)}")
        inside = (np.nan_to_num(given) != 0).tobytes()
    return Sampling(
        mesh,
        (x, y, z),
        matrix.tobytes(),
        template,
        kind,
        float(radius) if kind == "ball" else 0.0,
        "nearest" if kind == "nearest" else interpolation,
        surface or ("mid" if kind == "nearest" else "pial"),
        coordinates,
        inside,
    )


def matrix_of(how: Sampling) -> Any:
    """The matrix (2 n, voxels), read-only, of a volume that holds most of the cortex.

    Raises
    ------
    InputError
        If fewer than half of the vertices have a sample in the volume, or none has in the mask.
    """
    found = _kept(how._replace(mask=None))
    share = np.mean(np.diff(found.indptr) > 0)
    if share < 0.5:
        ends = np.array(np.meshgrid(*[(0, n - 1) for n in how.shape])).reshape(3, -1).T
        cortex = np.concatenate([_vertices(how, side, "pial") for side in HEMISPHERES])
        raise InputError(
            f"only {share:.0%} of the vertices of {how.mesh} lie in the volume: its affine puts "
            f"it at {_extent(moved(ends, _affine(how)))}, and the cortex of {how.template} is at "
            f"{_extent(cortex)}; a volume in that template with an affine that says so fits"
        )
    if how.mask is not None:
        found = _kept(how)
        if not found.nnz:
            raise InputError(f"no vertex of {how.mesh} has a sample in the mask")
    return found


@lru_cache(maxsize=4)
def _kept(how: Sampling) -> Any:
    found = matrix_without(how, None)
    for array in (found.data, found.indices, found.indptr):
        array.setflags(write=False)  # one copy serves all
    return found


def matrix_without(how: Sampling, missing: np.ndarray | None) -> Any:
    """The matrix without those samples that need one of the missing voxels (voxels,), bool."""
    from scipy.sparse import csr_array, vstack

    mask = None if how.mask is None else np.frombuffer(how.mask, bool)
    parts = []
    for points in _points(how):
        n, samples, _ = points.shape
        vertices, points = np.repeat(np.arange(n), samples), points.reshape(-1, 3)
        if how.interpolation == "nearest":
            points = np.rint(points)
        kept = ((points >= 0) & (points < how.shape)).all(axis=1)
        vertices, points = vertices[kept], points[kept]
        if mask is not None:  # looked up at the next lower voxel, as by nilearn
            kept = mask[np.ravel_multi_index(tuple(points.astype(int).T), how.shape)]
            vertices, points = vertices[kept], points[kept]
        voxels, weights = _interpolated(points, how)
        if missing is not None:
            kept = ~(missing[voxels] & (weights != 0)).any(axis=1)
            vertices, voxels, weights = vertices[kept], voxels[kept], weights[kept]
        weights = weights / np.bincount(vertices, minlength=n)[vertices, None]
        places = (np.repeat(vertices, voxels.shape[1]), voxels.ravel().astype(np.int32))
        rows = csr_array((weights.ravel(), places), (n, int(np.prod(how.shape))))
        rows.eliminate_zeros()
        parts.append(rows.astype(np.float32))
    return vstack(parts, format="csr")


def _interpolated(points: np.ndarray, how: Sampling) -> tuple[np.ndarray, np.ndarray]:
    """The voxels (s, k) that points (s, 3) are interpolated from, and their weights.

    What lies beyond the middle of the last voxel is extrapolated, as by nilearn.
    """
    if how.interpolation == "nearest":
        voxels = np.ravel_multi_index(tuple(points.astype(int).T), how.shape)
        return voxels[:, None], np.ones((len(points), 1))
    low = np.minimum(points.astype(int), np.array(how.shape) - 2)
    part = (points - low)[:, None]
    corners = np.indices((2, 2, 2)).reshape(3, -1).T
    voxels = np.ravel_multi_index(tuple((low[:, None] + corners).transpose(2, 0, 1)), how.shape)
    return voxels, np.where(corners == 1, part, 1 - part).prod(axis=2)


def _points(how: Sampling) -> Iterator[np.ndarray]:
    """Voxel coordinates (vertices, samples, 3), some vertices at a time, left ones first."""
    to_voxels = np.linalg.inv(_affine(how))
    for side in HEMISPHERES:
        vertices = _vertices(how, side, how.surface)
        white = _vertices(how, side, "white") if how.kind == "line" else vertices
        for first in range(0, len(vertices), _VERTICES):
            points = vertices[first : first + _VERTICES, None]
            if how.kind == "line":
                steps = np.linspace(0, 1, _LINE)[:, None]
                points = points + steps * (white[first : first + _VERTICES, None] - points)
            elif how.kind == "ball":
                points = points + how.radius * _ball()
            yield moved(points, to_voxels)


def _vertices(how: Sampling, side: str, kind: str) -> np.ndarray:
    """Vertices (n, 3) of a surface, in mm of the volume by the choice of coordinates."""
    points = midsurface(side, how.mesh) if kind == "mid" else surface(how.mesh, side, kind)[0]
    if how.mesh in FSAVERAGE and how.coordinates == "published":
        return points
    return moved(points, to_template(how.mesh, how.template))


@cache
def _ball() -> np.ndarray:
    """The points (20, 3) of a ball of radius 1 at which nilearn takes samples.

    They are a table inside nilearn, and its public function is asked for them: of a mesh whose
    vertices are those of a lattice, and a mask of one of the lattice's cells, each point of the
    ball lies in the mask at exactly one vertex, and the projection of an image of coordinates
    tells where.
    """
    import nibabel as nib
    from nilearn.surface import InMemoryMesh, vol_to_surf

    edge = 0.2  # of a cell; the points lie further apart
    affine = np.diag([edge, edge, edge, 1.0])
    coordinates = np.moveaxis(np.indices((3, 3, 3), float), 0, -1) * edge
    mask = np.zeros((3, 3, 3), np.int8)
    mask[1, 1, 1] = 1
    steps = np.arange(-7, 8) * edge
    lattice = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # most vertices have no sample in the mask
        found = vol_to_surf(
            nib.Nifti1Image(coordinates, affine),
            InMemoryMesh(lattice, np.array([[0, 1, 2]])),
            radius=1.0,
            kind="ball",
            n_samples=_BALL,
            mask_img=nib.Nifti1Image(mask, affine),
        )
    there = np.isfinite(found).all(axis=1)
    points: np.ndarray = found[there] - lattice[there]
    if len(points) != _BALL or (np.linalg.norm(points, axis=1) > 1).any():
        raise RuntimeError("this version of nilearn takes other samples in a ball than are known")
    return points


def _affine(how: Sampling) -> np.ndarray:
    return np.frombuffer(how.affine).reshape(4, 4)


def _extent(points: np.ndarray) -> str:
    spans = zip("xyz", points.min(axis=0), points.max(axis=0), strict=True)
    return ", ".join(f"{axis} {low:.0f} to {high:.0f}" for axis, low, high in spans) + " mm"
