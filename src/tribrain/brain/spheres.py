"""Values from one mesh to another, by the sphere on which both are registered.

fsaverage3 to fsaverage7 share one sphere, and fsLR32k has one that is registered to it. Only the
spheres are needed, and those of fsaverage need no file. Hemispheres never mix.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from tribrain.brain.meshes import surface
from tribrain.brain.spaces import HEMISPHERES, MESHES, mesh_space
from tribrain.errors import InputError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

METHODS = ("nearest", "barycentric", "average")
"""How a value on another mesh is made; see `resampling_matrix`."""
MEASURED = 0.5
"""Least share of a vertex's weights that has to lie on measured values (not NaN)."""

_DUST = 1e-6  # smaller weights are rounding errors: the point lies on an edge or a vertex
_ROWS = 64  # rows resampled at once: bounds the memory of long runs on fine meshes


def default_method(source: str, target: str) -> str:
    """``average`` from a finer mesh to a coarser one, else ``barycentric``.

    Barycentric values at the few vertices of a coarser mesh would leave most of the finer mesh
    unused, and its noise in.
    """
    return "average" if _vertices(source) > _vertices(target) else "barycentric"


@cache
def resampling_matrix(source: str, target: str, method: str) -> csr_array:
    """Weights of a source mesh's vertices in each target vertex.

    Parameters
    ----------
    source, target : str
        Two of `MESHES`.
    method : {"nearest", "barycentric", "average"}

        - nearest: the value of the nearest vertex on the sphere, as labels need it.
        - barycentric: linear on the triangle of the source's sphere that holds the target vertex.
        - average: the mean of the source vertices around a target vertex, weighted with their
          areas on the sphere. Each source vertex gives to the corners of the target's triangle
          that holds it, as much as it is near to each. A target vertex that would not get from
          all the source vertices that its barycentric value uses (where the source is not
          finer) has the barycentric value.

    Returns
    -------
    csr_array (2 n_target, 2 n_source)
        Rows sum to 1; blocks of the left and the right hemisphere. One copy serves all callers.

    Raises
    ------
    InputError
        If a mesh or the method is unknown, or a sphere has to be read and is not here.

    Notes
    -----
    ``average`` is the adaptive barycentric area of the Human Connectome Project (Glasser et al.
    2013, NeuroImage 80:105-124; ``wb_command -metric-resample``, ADAP_BARY_AREA) with the areas
    on the registered sphere, so that no folded surface is needed. Down from finer to coarser
    fsaverage, the integral over the sphere is kept where each target vertex stands for the area
    that is given to it. FreeSurfer's ``mri_surf2surf`` (nnfr) gives each source vertex to its
    nearest target vertex alone instead; on fsaverage that is a tie for three vertices in four,
    which lie midway between two target vertices.
    """
    from scipy.sparse import block_diag, diags_array

    if method not in METHODS:
        raise InputError(f"method {method!r} is unknown; known: {', '.join(METHODS)}")
    if _vertices(source) == _vertices(target):
        return diags_array(np.ones(2 * _vertices(target)), format="csr")
    make = {"nearest": _nearest, "barycentric": _barycentric, "average": _average}[method]
    blocks = [
        make(_sphere(source, hemisphere), _sphere(target, hemisphere)) for hemisphere in HEMISPHERES
    ]
    return block_diag(blocks, format="csr")


def resample(values: np.ndarray, source: str, target: str, method: str | None = None) -> np.ndarray:
    """Values on another mesh.

    Parameters
    ----------
    values : ndarray (..., 2 n_source)
        Left hemisphere first; NaN where nothing was measured.
    source, target, method
        As in `resampling_matrix`; the method is by default that of `default_method`.

    Returns
    -------
    ndarray (..., 2 n_target), float
        Of the precision of `values` (float32 or float64). Weights are shared out over what was
        measured; NaN where less than half of them (`MEASURED`) lies on measured values.

    Raises
    ------
    InputError
        If the values do not fit the source mesh, or as in `resampling_matrix`.
    """
    values = np.asarray(values)
    mesh_space(source).check(values, "the array")
    matrix = resampling_matrix(source, target, method or default_method(source, target))
    matrix = matrix.astype(_precision(values))
    rows = values.reshape(-1, values.shape[-1])
    resampled = np.empty((len(rows), matrix.shape[0]), matrix.dtype)
    for start in range(0, len(rows), _ROWS):
        block = slice(start, start + _ROWS)
        resampled[block] = _weighted(matrix, rows[block].astype(matrix.dtype))
    return resampled.reshape(*values.shape[:-1], matrix.shape[0])


def resample_labels(labels: np.ndarray, source: str, target: str) -> np.ndarray:
    """Labels (..., 2 n_source), whole numbers, of the nearest vertices on another mesh.

    Returns
    -------
    ndarray (..., 2 n_target)
        Of the same type; no label that was not there before.

    Raises
    ------
    InputError
        If the labels are no whole numbers or do not fit the source mesh.
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iub":
        raise InputError(f"labels are {labels.dtype}; whole numbers fit (`resample` takes values)")
    mesh_space(source).check(labels, "the array of labels")
    return labels[..., resampling_matrix(source, target, "nearest").indices]


def _vertices(mesh: str) -> int:
    mesh_space(mesh)  # says which meshes there are
    return MESHES[mesh]


def _precision(values: np.ndarray) -> np.dtype:
    if values.dtype.kind not in "iubf":
        raise InputError(f"values are {values.dtype}; real numbers fit")
    return np.result_type(values.dtype, np.float32)


def _weighted(matrix: csr_array, rows: np.ndarray) -> np.ndarray:
    missing = np.isnan(rows)
    if not missing.any():
        return (matrix @ rows.T).T
    share = matrix @ (~missing).astype(matrix.dtype).T
    total = matrix @ np.where(missing, 0, rows).T
    # Half of the weights is enough although their sum was rounded.
    enough = share > MEASURED - 1e-5
    return np.divide(total, share, out=np.full_like(total, np.nan), where=enough).T


Sphere = tuple[np.ndarray, np.ndarray]
"""Points (n, 3) of unit length and faces (m, 3)."""


def _sphere(mesh: str, hemisphere: str) -> Sphere:
    points, faces = surface(mesh, hemisphere, "sphere")
    return points / np.linalg.norm(points, axis=1, keepdims=True), faces


def _nearest(source: Sphere, target: Sphere) -> csr_array:
    from scipy.sparse import csr_array
    from scipy.spatial import KDTree

    n = len(target[0])
    nearest = KDTree(source[0]).query(target[0])[1]
    return csr_array((np.ones(n), nearest, np.arange(n + 1)), (n, len(source[0])))


def _barycentric(source: Sphere, target: Sphere) -> csr_array:
    from scipy.sparse import csr_array

    corners, weights = triangles_that_hold(source, target[0])
    weights = np.where(weights < _DUST, 0, weights)
    weights /= weights.sum(axis=1, keepdims=True)
    n = len(corners)
    shape = (n, len(source[0]))
    matrix = csr_array((weights.ravel(), corners.ravel(), np.arange(0, 3 * n + 1, 3)), shape)
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix


def _average(source: Sphere, target: Sphere) -> csr_array:
    from scipy.sparse import diags_array

    forward = _barycentric(source, target)
    given = (_barycentric(target, source).T @ diags_array(_areas(*source))).tocsr()
    sums = given.sum(axis=1)
    gathered = diags_array(np.divide(1, sums, out=np.zeros_like(sums), where=sums > 0)) @ given
    shared = (forward > 0).multiply(gathered > 0).sum(axis=1)
    complete = (shared == (forward > 0).sum(axis=1)).astype(float)
    return (diags_array(complete) @ gathered + diags_array(1 - complete) @ forward).tocsr()


def _areas(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area of each vertex (n,): a third of that of its faces."""
    a, b, c = points[faces].transpose(1, 0, 2)
    thirds = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6
    return np.bincount(faces.ravel(), np.repeat(thirds, 3), len(points))


def triangles_that_hold(sphere: Sphere, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The triangle of a sphere through which the ray from the centre to each point goes.

    Parameters
    ----------
    sphere : (ndarray (n, 3), ndarray (m, 3))
        Points of unit length and faces of a closed sphere.
    points : ndarray (k, 3)
        Of unit length.

    Returns
    -------
    corners : ndarray (k, 3)
        Vertices of the triangle.
    weights : ndarray (k, 3)
        Not negative, with sum 1: the weighted sum of the corners lies on the ray.

    Raises
    ------
    InputError
        If no triangle holds a point: the sphere is not closed.

    Notes
    -----
    The faces whose centres are nearest are tried first, and more of them only for points that
    none of those holds.
    """
    from scipy.spatial import KDTree

    vertices, faces = sphere
    a, b, c = vertices[faces].transpose(1, 0, 2)
    # The point's weights are its coordinates along the corners: the inverse of their matrix.
    inverse = np.stack([np.cross(b, c), np.cross(c, a), np.cross(a, b)], axis=1)
    volumes = np.einsum("fc,fc->f", a, inverse[:, 0])
    inverse /= np.where(np.abs(volumes) > 1e-15, volumes, np.nan)[:, None, None]
    tree = KDTree((a + b + c) / 3)

    face = np.zeros(len(points), int)
    weights = np.empty((len(points), 3))
    left, tried = np.arange(len(points)), 4
    while len(left):
        tried = min(tried, len(faces))
        # At most about a million candidates at once.
        for some in np.array_split(left, 1 + len(left) * tried // 1_000_000):
            near = tree.query(points[some], tried)[1].reshape(len(some), tried)
            each = np.einsum("kfic,kc->kfi", inverse[near], points[some])
            best = np.nan_to_num(each.min(axis=2), nan=-np.inf).argmax(axis=1)
            rows = np.arange(len(some))
            face[some], weights[some] = near[rows, best], each[rows, best]
        left = left[~(weights[left].min(axis=1) > -1e-9)]
        if len(left) and tried == len(faces):
            raise InputError(f"{len(left)} points lie in no triangle of the sphere: it has holes")
        tried *= 8
    weights = np.clip(weights, 0, None)
    return faces[face], weights / weights.sum(axis=1, keepdims=True)
