"""Axes of CIFTI-2 files: which vertex, voxel or region each value of a file is.

Every vertex and voxel is named by its structure, so hemispheres cannot swap. A file holds the
voxels of a structure together: they are written structure by structure, in the order in which the
structures first appear, and those of one structure in their own order. What is read has the order
of the file. So voxels that already lay in groups come back as they were, and others with the same
values at the same places in another order.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tribrain.brain.spaces import (
    HEMISPHERES,
    SUBCORTEX,
    TEMPLATES,
    Space,
    Voxels,
    join,
    mesh_of_vertices,
    mesh_space,
    voxel_space,
)
from tribrain.brain.templates import grid_template, named_template
from tribrain.brain.volume_files import check_located
from tribrain.errors import InputError, InputWarning

_CORTEX = {f"CIFTI_STRUCTURE_CORTEX_{side.upper()}": side for side in HEMISPHERES}
_OTHER = "CIFTI_STRUCTURE_OTHER"
# What FreeSurfer and Harvard-Oxford call structures that CIFTI has under another name.
_ALIASES = {
    "THALAMUS_PROPER": "THALAMUS",
    "ACCUMBENS_AREA": "ACCUMBENS",
    "VENTRALDC": "DIENCEPHALON_VENTRAL",
    "CEREBELLUM_CORTEX": "CEREBELLUM",
}


def cifti_structure(name: str) -> str:
    """CIFTI's name of an anatomical structure, ``CIFTI_STRUCTURE_OTHER`` if it has none.

    Names of Harvard-Oxford and of FreeSurfer are understood ("Left Thalamus", "Brain-Stem").
    Cortex is OTHER too: as voxels it would be taken for the surface.
    """
    from nibabel.cifti2.cifti2 import CIFTI_BRAIN_STRUCTURES

    words = re.findall(r"[A-Z]+", name.upper().removeprefix("CIFTI_STRUCTURE_"))
    side = [word for word in words if word in ("LEFT", "RIGHT")]
    rest = "_".join(word for word in words if word not in side)
    found = "_".join(["CIFTI_STRUCTURE", _ALIASES.get(rest, rest), *side])
    known = found in CIFTI_BRAIN_STRUCTURES.ciftiname
    return found if known and "_CORTEX" not in found else _OTHER


def brain_axis(space: Space, measured: np.ndarray) -> tuple[Any, np.ndarray]:
    """Axis of what stands in the file, and which value of the space each is."""
    from nibabel.cifti2 import BrainModelAxis

    check_located(space)
    cortex = np.flatnonzero(measured[space.cortex])
    structures = np.array(list(_CORTEX))[(cortex >= space.n_left).astype(int)]
    vertices = np.where(cortex < space.n_left, cortex, cortex - space.n_left)
    voxels, order, affine, shape = np.empty((0, 3), int), np.empty(0, int), None, None
    if space.voxels is not None:
        names, order = _structures(space.voxels)
        structures = np.concatenate([structures, names])
        voxels, affine, shape = space.voxels.indices[order], space.voxels.affine, space.voxels.shape
    if not len(structures):
        raise InputError("there is no number in the values; a file needs one at least")
    axis = BrainModelAxis(
        structures,
        voxel=np.concatenate([np.full((len(cortex), 3), -1), voxels]),
        vertex=np.concatenate([vertices, np.full(len(voxels), -1)]),
        affine=affine,
        volume_shape=shape,
        nvertices=dict.fromkeys(_CORTEX, space.n_left),
    )
    return axis, np.concatenate([cortex, order + space.cortex.stop])


def _structures(voxels: Voxels) -> tuple[np.ndarray, np.ndarray]:
    """Structures of voxels in the order of the file, and that order."""
    if voxels.structures is None:
        return np.full(len(voxels), _OTHER), np.arange(len(voxels))
    own, which = np.unique(np.asarray(voxels.structures, str), return_inverse=True)
    found = [cifti_structure(name) for name in own]
    pairs = zip(own, found, strict=True)
    lost = [str(name) for name, to in pairs if to == _OTHER and name != _OTHER]
    if lost:
        warnings.warn(
            f"CIFTI has no name for {', '.join(lost)}; their voxels are {_OTHER} in the file",
            InputWarning,
            stacklevel=4,
        )
    names = np.array(found)[which]
    _, first, group = np.unique(names, return_index=True, return_inverse=True)
    order = np.argsort(first[group], kind="stable")
    return names[order], order


def parcel_axis(regions: Mapping[str, np.ndarray], space: Space) -> Any:
    """Axis of regions, each by its name and the vertices and voxels of the space in it."""
    from nibabel.cifti2 import ParcelsAxis

    taken = np.zeros(space.size, bool)
    shared, voxels = 0, []
    vertices: list[dict[str, np.ndarray]] = []
    for name, members in regions.items():
        index = np.unique(np.asarray(members, int))
        if not len(index) or index[0] < 0 or index[-1] >= space.size:
            raise InputError(f"region {name!r} is empty or outside {space.name}")
        free = index[~taken[index]]
        shared += len(index) - len(free)
        taken[free] = True
        vertices.append({})
        for key, side in _CORTEX.items() if space.is_surface else ():
            span = space.slice(side)
            inside = free[(free >= span.start) & (free < span.stop)] - span.start
            if len(inside):
                vertices[-1][key] = inside
        voxels.append(free[free >= space.cortex.stop] - space.cortex.stop)
    if shared:
        warnings.warn(
            f"regions overlap in {shared} places, which a CIFTI file cannot say; it lists each "
            "with the first of its regions",
            InputWarning,
            stacklevel=3,
        )
    grid = space.voxels
    if any(map(len, voxels)):
        check_located(space)
    return ParcelsAxis(
        list(regions),
        [grid.indices[index] if grid is not None else np.empty((0, 3), int) for index in voxels],
        vertices,
        affine=None if grid is None else grid.affine,
        volume_shape=None if grid is None else grid.shape,
        nvertices=dict.fromkeys(_CORTEX, space.n_left) if space.is_surface else None,
    )


def space_of_axis(
    path: Path, image: Any, places: Any, template: str | None
) -> tuple[Space, np.ndarray]:
    """The whole space of a file, and which value of it each of the file's is."""
    cortex = np.asarray(places.surface_mask)
    order = np.empty(len(places), int)
    counts = set(places.nvertices.values())
    strange = sorted(set(places.nvertices) - set(_CORTEX))
    if strange or len(counts) > 1:
        raise InputError(
            f"{path} has the surfaces {strange or sorted(places.nvertices.items())}; "
            f"{' and '.join(_CORTEX)} of one mesh fit"
        )
    space = mesh_space(mesh_of_vertices(counts.pop(), f"the cortex of {path}")) if counts else None
    if space is not None:
        first = {key: space.slice(side).start for key, side in _CORTEX.items()}
        vertices = places.vertex[cortex]
        starts = np.array([first[name] for name in places.name[cortex]], int)
        order[cortex] = vertices + starts
        if (vertices >= space.n_left).any() or len(np.unique(order[cortex])) != cortex.sum():
            raise InputError(f"{path} is damaged: vertices beyond {space.mesh}, or there twice")
    if cortex.all() and space is not None:
        return space, order
    voxels = _voxels(path, image, places, ~cortex, template)
    order[~cortex] = np.arange(len(voxels)) + (space.size if space is not None else 0)
    own = metadata(image).get("Space", "").split("+")[-1]
    by_size = [name for name, size in SUBCORTEX.items() if size == len(voxels)]
    if not own or SUBCORTEX.get(own, len(voxels)) != len(voxels):
        own = by_size[0] if by_size else voxels.template
    below = voxel_space(voxels, own)
    return (below if space is None else join(space, below)), order


def _voxels(path: Path, image: Any, places: Any, mask: np.ndarray, template: str | None) -> Voxels:
    matrix = image.header.matrix.get_index_map(1).volume
    exponent = matrix.transformation_matrix_voxel_indices_ijk_to_xyz.meter_exponent
    if exponent != -3:
        raise InputError(f"{path} has its voxels in 10**{exponent} m; millimetres (-3) fit")
    structures = places.name[mask].astype(str)
    found = _template(path, image, places, template)
    try:
        return Voxels(
            found,
            places.volume_shape,
            places.affine,
            places.voxel[mask],
            None if (structures == _OTHER).all() else structures,
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _template(path: Path, image: Any, places: Any, given: str | None) -> str:
    if given is not None and given not in TEMPLATES:
        raise InputError(f"template {given!r} is unknown; known: {', '.join(TEMPLATES)}")
    label = re.search(r"(?:^|_)space-([A-Za-z0-9+]+)", path.name)
    stated = {
        "its name": named_template(label[1]) if label else None,
        "its header": metadata(image).get("Template"),
    }
    found = given
    for where, said in stated.items():
        if said in TEMPLATES and found not in (None, said):
            raise InputError(f"the voxels of {path} lie in {said} by {where}, not in {found}")
        found = said if said in TEMPLATES else found
    found = found or grid_template(tuple(places.volume_shape), np.array(places.affine, float))
    if found is None:
        raise InputError(
            f"{path} does not show which template its voxels lie in; say it by template=, one of "
            f"{', '.join(TEMPLATES)}"
        )
    return found


def metadata(image: Any) -> Mapping[str, str]:
    """What a file says of itself beyond the format."""
    return image.header.matrix.metadata or {}
