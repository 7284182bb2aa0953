"""Vertices painted into the cortical ribbon of a voxel grid, and read back.

A surface response becomes a volume by one rule, in which no two values ever mix, so that it
serves labels too:

- The ribbon is the space between white and pial surface: between each triangle of the one and
  the same triangle of the other. It is sampled on a lattice whose points, those on both surfaces
  included, lie less than half a voxel apart, along the cortex and across it.
- A voxel is painted if a sample lies in it. No point of the ribbon is as far as half a voxel from
  a sample: every voxel whose centre lies in the ribbon is painted, so there are no holes, and none
  whose centre is further from the ribbon than half a voxel along any axis.
- A voxel takes the value of the sample nearest to its centre, and a sample that of the corner of
  its own triangle with the largest barycentric weight. So a value never jumps across a sulcus or
  from one hemisphere to the other, as it would to the vertex that is nearest through the brain;
  where both banks lie in one voxel, the one that comes closer to its centre paints it.
- Samples of the medial wall's vertices are left out, unless they are asked for.

Outside the medial wall every vertex of fsaverage5 owns a voxel at 1 mm, 99.5 % of them at 2 mm
and 88 % at 3 mm; what was painted is read back from those unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from tribrain.brain.meshes import medial_wall, midsurface, moved, surface, to_template
from tribrain.brain.spaces import HEMISPHERES, MESHES, TEMPLATES, Voxels, check_affine, mesh_space
from tribrain.errors import InputError

# TemplateFlow's template_description.json of both. FSL stores MNI152NLin6Asym with x from right
# to left, and so do the programs that follow it; the centres of the voxels are the same.
STANDARD_GRIDS: dict[tuple[str, int], tuple[tuple[int, int, int], tuple[float, float, float]]] = {
    ("MNI152NLin6Asym", 1): ((182, 218, 182), (90.0, -126.0, -72.0)),
    ("MNI152NLin6Asym", 2): ((91, 109, 91), (90.0, -126.0, -72.0)),
    ("MNI152NLin2009cAsym", 1): ((193, 229, 193), (-96.0, -132.0, -78.0)),
    ("MNI152NLin2009cAsym", 2): ((97, 115, 97), (-96.5, -132.5, -78.5)),
}
"""Shape and centre of the first voxel (mm) of a template's own grids, by edge in mm."""


def grid(template: str, resolution: int = 2) -> tuple[tuple[int, int, int], np.ndarray]:
    """Shape and affine (4, 4) of a template's own grid.

    Parameters
    ----------
    template : str
    resolution : int
        Edge of a voxel in mm.

    Raises
    ------
    InputError
        Names the grids that are known.
    """
    if (template, resolution) not in STANDARD_GRIDS:
        known = ", ".join(f"{name} {edge} mm" for name, edge in STANDARD_GRIDS)
        raise InputError(f"no grid of {template} at {resolution} mm is known; known: {known}")
    shape, origin = STANDARD_GRIDS[template, resolution]
    affine = np.diag([-1.0 if origin[0] > 0 else 1.0, 1.0, 1.0, 1.0])
    affine[:3, :3] *= resolution
    affine[:3, 3] = origin
    return shape, affine


@dataclass(frozen=True, eq=False)
class Ribbon:
    """The voxels of a grid that vertices are painted into, by the rule of this module.

    Attributes
    ----------
    mesh : str
        One of `tribrain.brain.spaces.MESHES`.
    voxels : Voxels
        Those of the ribbon, in the order of `numpy.nonzero`.
    vertices : ndarray (n_voxels,), int
        Whose value each voxel takes: left vertices are counted first, then right ones.
    medial_wall : bool
        Whether the medial wall is painted.
    """

    mesh: str
    voxels: Voxels
    vertices: np.ndarray
    medial_wall: bool = False

    @cached_property
    def owners(self) -> np.ndarray:
        """Vertices that own at least one voxel, in order."""
        return np.unique(self.vertices)

    def paint(self, values: np.ndarray) -> np.ndarray:
        """Values of vertices (..., n_vertices) as values of voxels (..., n_voxels).

        ``ribbon.voxels.volume(ribbon.paint(values))`` is the whole volume. The type stays.

        Raises
        ------
        InputError
            If the number of vertices is not that of the mesh.
        """
        values = np.asarray(values)
        mesh_space(self.mesh).check(values, "the values to paint")
        return values[..., self.vertices]

    def read(self, values: np.ndarray) -> np.ndarray:
        """Values of voxels (..., n_voxels) as values of vertices (..., n_vertices).

        A vertex takes the mean over the voxels that it owns. One that owns none, as its neighbours
        paint every voxel that it touches, takes the value of the painted voxel of its hemisphere
        that is nearest to the middle of the cortex there. NaN in the medial wall (unless it was
        painted) and where the middle of the cortex lies outside the grid.

        Painted numbers of single precision, and labels, come back unchanged in every vertex that
        owns a voxel.

        Raises
        ------
        InputError
            If the number of voxels is not that of the ribbon.
        """
        values = np.asarray(values)
        if values.ndim == 0 or values.shape[-1] != len(self.voxels):
            found = values.shape[-1] if values.ndim else 0
            raise InputError(f"{found} values do not fit the ribbon's {len(self.voxels)} voxels")
        kind = np.result_type(values, np.float32)
        whole = np.full((*values.shape[:-1], 2 * MESHES[self.mesh]), np.nan, kind)
        order, starts, counts = self._runs
        flat, into = values.reshape(-1, values.shape[-1]), whole.reshape(-1, whole.shape[-1])
        for row, target in zip(flat, into, strict=True):  # a row at a time: little memory
            # The sum of a few equal numbers of single precision is exact in double.
            target[self.owners] = np.add.reduceat(row[order], starts, dtype=float) / counts
            vertices, nearest = self._without
            target[vertices] = row[nearest]
        return whole

    @cached_property
    def _runs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Voxels in the order of their vertices, where each vertex's begin, and how many it has."""
        order = np.argsort(self.vertices, kind="stable")
        _, starts, counts = np.unique(self.vertices[order], return_index=True, return_counts=True)
        return order, starts, counts

    @cached_property
    def _without(self) -> tuple[np.ndarray, np.ndarray]:
        """Vertices inside the grid that own no voxel, and the voxel that each is read from."""
        from scipy.spatial import KDTree

        grid_ = self.voxels
        centres = moved(grid_.indices, grid_.affine)
        owns = np.zeros(2 * MESHES[self.mesh], bool)
        owns[self.owners] = True
        if not self.medial_wall:
            owns |= medial_wall(self.mesh)
        parts = []
        for side in HEMISPHERES:
            span = mesh_space(self.mesh).slice(side)
            middle = moved(midsurface(side, self.mesh), to_template(self.mesh, grid_.template))
            voxel = np.rint(moved(middle, np.linalg.inv(grid_.affine)))
            inside = ((voxel >= 0) & (voxel < grid_.shape)).all(axis=1)
            wanted = np.flatnonzero(inside & ~owns[span])
            own = np.flatnonzero((self.vertices >= span.start) & (self.vertices < span.stop))
            if len(own):
                nearest = own[KDTree(centres[own]).query(middle[wanted])[1]]
                parts.append(np.stack([wanted + span.start, nearest]))
        vertices, nearest = np.concatenate(parts, axis=1)
        return vertices, nearest


def ribbon(
    mesh: str,
    template: str,
    shape: Sequence[int],
    affine: np.ndarray,
    *,
    medial_wall: bool = False,
) -> Ribbon:
    """Which vertex paints which voxel of a grid; see the rule at the head of this module.

    The last few are kept, so that asking again costs nothing.

    Parameters
    ----------
    mesh : str
        One of `tribrain.brain.spaces.MESHES`. fsaverage is moved from MNI305 to the template
        (`tribrain.brain.meshes.to_template`).
    template : str
        One of `tribrain.brain.spaces.TEMPLATES`, in whose millimetres the affine is.
    shape : three int
    affine : ndarray (4, 4)
        From voxel indices to mm; `grid` gives those of the common grids.
    medial_wall : bool
        Paint the medial wall too.

    Raises
    ------
    InputError
        An unknown mesh or template, a damaged affine, or a grid that holds none of the cortex.

    Examples
    --------
    >>> found = ribbon("fsaverage5", "MNI152NLin6Asym", *grid("MNI152NLin6Asym", 2))
    >>> found.voxels.volume(found.paint(np.arange(20484))).shape
    (91, 109, 91)
    """
    mesh_space(mesh)
    if template not in TEMPLATES:
        raise InputError(f"template {template!r} is unknown; known: {', '.join(TEMPLATES)}")
    matrix = np.array(affine, float)
    check_affine(matrix)
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(f"the grid has shape {tuple(shape)}; three dimensions fit")
    x, y, z = (int(n) for n in shape)
    return _ribbon(mesh, template, (x, y, z), matrix.tobytes(), bool(medial_wall))


@lru_cache(maxsize=4)
def _ribbon(
    mesh: str, template: str, shape: tuple[int, int, int], affine_bytes: bytes, with_wall: bool
) -> Ribbon:
    affine = np.frombuffer(affine_bytes).reshape(4, 4)
    painted = np.ones(2 * MESHES[mesh], bool) if with_wall else ~medial_wall(mesh)
    nearest = np.full(np.prod(shape), np.inf, np.float32)  # squared, in mm
    owner = np.full(np.prod(shape), -1)
    for points, vertices in _samples(mesh, template, affine):
        index = np.rint(points).astype(int)
        kept = painted[vertices] & ((index >= 0) & (index < shape)).all(axis=1)
        points, index, vertices = points[kept], index[kept], vertices[kept]
        offsets = (points - index) @ affine[:3, :3].T
        distance = np.einsum("sc,sc->s", offsets, offsets).astype(np.float32)
        voxel = np.ravel_multi_index(tuple(index.T), shape)
        closer = np.flatnonzero(distance < nearest[voxel])
        # Of samples in one voxel the last one is kept: the nearest.
        order = closer[np.argsort(-distance[closer], kind="stable")]
        nearest[voxel[order]], owner[voxel[order]] = distance[order], vertices[order]
    filled = np.flatnonzero(owner >= 0)
    if not len(filled):
        raise InputError(
            f"a grid of {shape} voxels from {_told(affine, (0, 0, 0))} to "
            f"{_told(affine, tuple(n - 1 for n in shape))} mm holds none of the cortex of {mesh}, "
            f"which lies within 90 mm of the middle of {template}; a grid around 0, 0, 0 mm fits"
        )
    indices = np.stack(np.unravel_index(filled, shape), axis=1)
    vertices = owner[filled]
    vertices.setflags(write=False)  # one copy serves all
    return Ribbon(mesh, Voxels(template, shape, affine, indices), vertices, with_wall)


# Of a voxel, between samples. A point of a triangle whose edges are e long is at most e / sqrt(3)
# from a corner, and at most half a step from a depth: 0.45 (1 / sqrt(3) + 1 / 2) < 0.5.
_STEP = 0.45
_BLOCK = 1_000_000  # samples held at once


def _samples(
    mesh: str, template: str, affine: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Samples of the ribbon in blocks: their voxel coordinates (s, 3) and vertices (s,)."""
    to_voxels = np.linalg.inv(affine)
    step = _STEP / np.linalg.norm(to_voxels[:3, :3], axis=1).max()  # mm
    for side in HEMISPHERES:
        matrix = to_template(mesh, template)
        white, pial = (moved(surface(mesh, side, kind)[0], matrix) for kind in ("white", "pial"))
        faces = surface(mesh, side)[1]
        edges = [
            np.linalg.norm(points[faces] - points[np.roll(faces, 1, axis=1)], axis=-1)
            for points in (white, pial)
        ]
        along = _parts(np.max(edges, axis=(0, 2)), step)
        across = _parts(np.linalg.norm(pial - white, axis=1)[faces].max(axis=1), step)
        white, pial = moved(white, to_voxels), moved(pial, to_voxels)
        first = mesh_space(mesh).slice(side).start
        for n, m in np.unique(np.stack([along, across], axis=1), axis=0):
            weights, depths = _lattice(n), np.linspace(0, 1, m + 1)[:, None, None, None]
            corner = weights.argmax(axis=1)
            alike = faces[(along == n) & (across == m)]
            size = max(1, _BLOCK // (len(weights) * (m + 1)))
            for some in (alike[i : i + size] for i in range(0, len(alike), size)):
                inner, outer = weights @ white[some], weights @ pial[some]  # face, weight, axis
                points = (inner + depths * (outer - inner)).reshape(-1, 3)
                yield points, np.tile((some[:, corner] + first).ravel(), m + 1)


def _parts(lengths: np.ndarray, step: float) -> np.ndarray:
    """Into how many parts of at most `step` each length is cut."""
    return np.maximum(1, np.ceil(lengths / step)).astype(int)


def _lattice(n: int) -> np.ndarray:
    """Barycentric weights (k, 3) of a triangle whose edges are cut into n parts."""
    i, j = np.mgrid[: n + 1, : n + 1].reshape(2, -1)
    i, j = i[i + j <= n], j[i + j <= n]
    return np.stack([n - i - j, i, j], axis=1) / n


def _told(affine: np.ndarray, index: tuple[int, ...]) -> str:
    return ", ".join(f"{mm:g}" for mm in moved(np.array(index), affine))
