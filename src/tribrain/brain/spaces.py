"""Output spaces: how many values a response has, and where in the brain each lies.

The values of a space are, in this order, the vertices of the left hemisphere, those of the right
hemisphere, and voxels; or else one value a parcel; or outputs that nobody named. Where the
vertices lie is in `tribrain.brain.meshes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tribrain.errors import InputError

HEMISPHERES = ("left", "right")
FSAVERAGE = {
    "fsaverage3": 642,
    "fsaverage4": 2562,
    "fsaverage5": 10242,
    "fsaverage6": 40962,
    "fsaverage7": 163842,
}
"""Vertices a hemisphere of FreeSurfer's average brain; each is the first part of the next."""
MESHES = FSAVERAGE | {"fsLR32k": 32492}
"""Vertices a hemisphere of every mesh; fsLR32k is that of the Human Connectome Project."""
SUBCORTEX = {"subcortex8802": 8802}
"""Voxels of the Harvard-Oxford subcortical structures of the published subcortical model."""
TEMPLATES = (
    "MNI152NLin6Asym",
    "MNI152NLin6Sym",
    "MNI152NLin2009cAsym",
    "MNI152NLin2009cSym",
    "MNI152NLin2009aAsym",
    "MNI152NLin2009aSym",
    "MNIColin27",
    "MNI305",
)
"""Volume templates, by their names in BIDS."""


@dataclass(frozen=True, eq=False)
class Voxels:
    """Some voxels of a grid in a template, in the order of their values.

    Attributes
    ----------
    template : str
        One of `TEMPLATES`.
    shape : tuple of three int
        Of the whole grid.
    affine : ndarray (4, 4)
        From voxel indices to mm in the template (x to the right, y to the front, z up).
    indices : ndarray (n, 3), int
    structures : ndarray (n,) of str, optional
        Anatomical structure of each voxel.
    """

    template: str
    shape: tuple[int, int, int]
    affine: np.ndarray
    indices: np.ndarray
    structures: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.template not in TEMPLATES:
            known = ", ".join(TEMPLATES)
            raise InputError(f"template {self.template!r} is unknown; known: {known}")
        affine, indices = np.array(self.affine, float), np.array(self.indices, int)
        check_affine(affine)
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise InputError(f"the grid has shape {tuple(self.shape)}; three sizes fit")
        if indices.ndim != 2 or indices.shape[1] != 3:
            raise InputError(f"voxel indices have shape {indices.shape}; (n, 3) fits")
        if not np.array_equal(indices, self.indices):
            raise InputError("some voxel indices are no whole numbers")
        if len(indices) and not ((indices >= 0).all() and (indices < self.shape).all()):
            raise InputError(f"some voxel indices lie outside the grid of {self.shape}")
        if len(np.unique(indices, axis=0)) != len(indices):
            raise InputError("some voxels are there twice")
        if self.structures is not None and len(self.structures) != len(indices):
            raise InputError(f"{len(self.structures)} structures for {len(indices)} voxels")
        arrays = {"affine": affine, "indices": indices}
        if self.structures is not None:
            arrays["structures"] = np.array(self.structures, str)
        for name, array in arrays.items():
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))

    def __len__(self) -> int:
        return len(self.indices)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Voxels):
            return NotImplemented
        return (
            (self.template, self.shape) == (other.template, other.shape)
            and np.array_equal(self.affine, other.affine)
            and np.array_equal(self.indices, other.indices)
            and np.array_equal(_or_empty(self.structures), _or_empty(other.structures))
        )

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def from_mask(cls, mask: np.ndarray, affine: np.ndarray, template: str) -> Voxels:
        """The voxels where a mask (x, y, z) is neither 0 nor NaN, in the order of `numpy.nonzero`.

        nilearn's maskers order voxels in the same way.

        Raises
        ------
        InputError
            If the mask is no volume or empty, the template unknown or the affine damaged.
        """
        mask = np.asarray(mask)
        if mask.ndim != 3:
            raise InputError(f"the mask has shape {mask.shape}; three dimensions fit")
        indices = np.argwhere((mask != 0) & (mask == mask))  # NaN equals nothing
        if not len(indices):
            raise InputError("the mask is empty: no voxel differs from 0")
        return cls(template, mask.shape, affine, indices)

    def volume(self, values: np.ndarray, fill: float = 0.0) -> np.ndarray:
        """Put values (..., n) back on the grid: (..., x, y, z), with `fill` in other voxels.

        Whole numbers become real ones where `fill` is none, such as NaN.
        """
        values = np.asarray(values)
        size = values.shape[-1] if values.ndim else 0
        if size != len(self):
            raise InputError(f"{size} values do not fit {len(self)} voxels")
        kind = values.dtype if float(fill).is_integer() else np.result_type(values, np.float32)
        whole = np.full((*values.shape[:-1], *self.shape), fill, kind)
        whole[(..., *self.indices.T)] = values
        return whole


def _or_empty(structures: np.ndarray | None) -> np.ndarray:
    return np.empty(0, str) if structures is None else structures


@dataclass(frozen=True)
class Space:
    """A named space.

    Attributes
    ----------
    name : str
        A mesh (`MESHES`), a set of voxels, both joined by ``+``, or an atlas.
    size : int
        Number of values.
    n_left, n_right : int
        Vertices of each hemisphere, which come first; 0 where there is no surface.
    voxels : Voxels, optional
        Where the values after the vertices lie. A space of voxels whose mask is not known (the
        published subcortical one) has none until `with_voxels` gives it.
    parcels : tuple of str
        Names of the values, where each is that of a region.
    """

    name: str
    size: int
    n_left: int = 0
    n_right: int = 0
    voxels: Voxels | None = None
    parcels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.voxels is not None and len(self.voxels) != self.n_voxels:
            raise InputError(
                f"a mask of {len(self.voxels)} voxels does not fit {self.name}, "
                f"which has {self.n_voxels}"
            )
        if self.parcels and len(self.parcels) != self.size:
            raise InputError(f"{len(self.parcels)} names do not fit {self.size} parcels")
        if len(set(self.parcels)) != len(self.parcels):
            twice = next(name for name in self.parcels if self.parcels.count(name) > 1)
            raise InputError(f"several parcels of {self.name} are called {twice!r}; one each fits")

    @property
    def is_surface(self) -> bool:
        """Whether there are vertices (there may be voxels after them)."""
        return self.n_left > 0

    @property
    def mesh(self) -> str:
        """Name of the mesh.

        Raises
        ------
        InputError
            If there is no surface.
        """
        if not self.is_surface:
            raise InputError(f"{self.name} has no surface; meshes: {', '.join(MESHES)}")
        return self.name.split("+")[0]

    @property
    def cortex(self) -> slice:
        """Where the vertices of both hemispheres lie in the values."""
        return slice(0, self.n_left + self.n_right)

    @property
    def n_voxels(self) -> int:
        return 0 if self.parcels else self.size - self.n_left - self.n_right

    def slice(self, hemisphere: str) -> slice:
        """Where a hemisphere lies in the values."""
        if hemisphere not in HEMISPHERES or not self.is_surface:
            known = ", ".join(HEMISPHERES) if self.is_surface else f"none in {self.name}"
            raise InputError(f"hemisphere {hemisphere!r} is unknown; known: {known}")
        if hemisphere == "left":
            return slice(0, self.n_left)
        return slice(self.n_left, self.n_left + self.n_right)

    def with_voxels(self, voxels: Voxels) -> Space:
        """The same space, now that it is known where its voxels lie."""
        return replace(self, voxels=voxels)

    def check(self, values: Any, what: str = "the array") -> None:
        """Refuse an array (..., size) of another size.

        Raises
        ------
        InputError
            Names the spaces that the array would fit.
        """
        size = np.shape(values)[-1] if np.ndim(values) else 0
        if size != self.size:
            raise InputError(
                f"{what} has {size} values and {self.name} has {self.size}; {sizes_that_fit(size)}"
            )


def check_affine(affine: np.ndarray) -> None:
    """Refuse a matrix that is not one from voxel indices to mm."""
    if affine.shape != (4, 4):
        raise InputError(f"the affine has shape {affine.shape}; (4, 4) fits")
    if not np.isfinite(affine).all() or not np.array_equal(affine[3], [0, 0, 0, 1]):
        raise InputError("the affine is damaged: finite numbers and a last row of 0 0 0 1 fit")
    sides = np.linalg.norm(affine[:3, :3], axis=0)
    volume = abs(np.linalg.det(affine[:3, :3]))
    if not (sides > 0.1).all() or not (sides < 20).all() or volume < 0.1 * sides.prod():
        told = " x ".join(f"{side:.3g}" for side in sides)
        raise InputError(f"the affine has voxels of {told} mm; edges of 0.1 to 20 mm fit")


def mesh_space(mesh: str) -> Space:
    """The space of all vertices of a mesh.

    Raises
    ------
    InputError
        Names the known meshes.
    """
    if mesh not in MESHES:
        raise InputError(f"mesh {mesh!r} is unknown; known: {', '.join(MESHES)}")
    return Space(mesh, 2 * MESHES[mesh], MESHES[mesh], MESHES[mesh])


def mesh_of_vertices(count: int, what: str = "a hemisphere") -> str:
    """The mesh whose hemispheres have `count` vertices.

    Raises
    ------
    InputError
        Names the numbers of vertices of the known meshes.
    """
    for mesh, size in MESHES.items():
        if size == count:
            return mesh
    known = ", ".join(f"{mesh} {size}" for mesh, size in MESHES.items())
    raise InputError(f"{what} has {count} vertices, which no known mesh has; known: {known}")


def parcel_space(atlas: str, regions: Sequence[str]) -> Space:
    """A space of one value a region of an atlas."""
    return Space(atlas, len(regions), parcels=tuple(regions))


def voxel_space(voxels: Voxels, name: str | None = None) -> Space:
    """A space of voxels, by default named after their template."""
    return Space(name or voxels.template, len(voxels), voxels=voxels)


def join(cortex: Space, subcortex: Space) -> Space:
    """Cortex and subcortex in one space ("grayordinates"): vertices first, then voxels."""
    if not cortex.is_surface or cortex.n_voxels:
        raise InputError(f"{cortex.name} is not a surface alone; meshes: {', '.join(MESHES)}")
    if subcortex.is_surface or subcortex.parcels:
        raise InputError(f"{subcortex.name} is no set of voxels")
    return Space(
        f"{cortex.name}+{subcortex.name}",
        cortex.size + subcortex.size,
        cortex.n_left,
        cortex.n_right,
        subcortex.voxels,
    )


def known_spaces() -> dict[str, Space]:
    """Every named space."""
    spaces = {mesh: mesh_space(mesh) for mesh in MESHES}
    return spaces | {name: Space(name, n) for name, n in SUBCORTEX.items()}


def sizes_that_fit(size: int) -> str:
    """Say in words which known spaces have a size, or what sizes there are."""
    spaces = known_spaces().values()
    fitting = [space.name for space in spaces if space.size == size]
    if fitting:
        return f"{size} values fit {', '.join(fitting)}"
    return "sizes: " + ", ".join(f"{space.name} {space.size}" for space in spaces)


def find_space(name: str | None, size: int) -> Space:
    """The space of `size` values, checked against its name where one is given.

    The size decides among the known spaces: checkpoints name the mesh that their data were
    projected to, and some hold fewer outputs. ``MESH+VOXELS`` is a mesh with voxels after it. Any
    other name, or a size that no known space has, is a list of outputs (such as parcels): it can
    be saved and analysed, and not be drawn.

    Raises
    ------
    InputError
        If a known space is named and no known space has the size.
    """
    spaces = known_spaces()
    mesh, _, rest = (name or "").partition("+")
    if rest:
        n_voxels = size - mesh_space(mesh).size
        if n_voxels <= 0 or n_voxels != SUBCORTEX.get(rest, n_voxels):
            raise InputError(f"{size} values do not fit {name}; {sizes_that_fit(size)}")
        return join(mesh_space(mesh), Space(rest, n_voxels))
    if not name or name in spaces or name.startswith("fsaverage"):
        fitting = [space for space in spaces.values() if space.size == size]
        if fitting:
            return fitting[0]
    if name in spaces:
        raise InputError(f"{size} values do not fit {name}; {sizes_that_fit(size)}")
    return Space(name or f"outputs{size}", size)
