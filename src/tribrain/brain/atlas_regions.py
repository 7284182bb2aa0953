"""From the labels of a file to the regions of a space: which vertices, and what they are called."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, replace

import numpy as np

from tribrain.brain.atlas_files import NO_REGION, Labels
from tribrain.brain.meshes import medial_wall, moved, to_template
from tribrain.brain.spaces import FSAVERAGE, HEMISPHERES, MESHES, TEMPLATES, Space, Voxels
from tribrain.errors import InputError, InputWarning
from tribrain.files import one_line

# What atlases call the place that is no cortex, without what parts words.
_WALL = re.compile(
    r"(unknown|none|background|medialwall|freesurferdefinedmedialwall|corpuscallosum"
    r"|backgroundfreesurferdefinedmedialwall)?"
)
# A hemisphere written before the name: L_V1_ROI, L_bankssts, lh_bankssts, ctx-lh-bankssts.
_BEFORE = (
    re.compile(r"(?P<side>[LR])_(?P<area>.+?)(_ROI(-[lr]h)?)?"),
    re.compile(r"(ctx[-_])?(?P<side>[lr]h)[-_.](?P<area>.+)"),
)
# After it, as regions of a surface are called here: V1_L.
_AFTER = re.compile(r"(?P<area>.+)_(?P<side>[LR])")
# One that is part of it: 7Networks_LH_Vis_1; Left Thalamus and Left-Thalamus of volumes.
_WITHIN = re.compile(r"(?:^|_)([LR])H_")
_STRUCTURE = re.compile(r"(left|right)[ _-]", re.IGNORECASE)
_SIDES = {"l": "left", "r": "right"}


@dataclass(frozen=True, eq=False)
class Region:
    """A region of one hemisphere.

    Attributes
    ----------
    name : str
        No other region of the atlas has it: ``V1_L``, ``7Networks_LH_Vis_1``, ``Left Thalamus``.
    area : str
        What the region is called in either hemisphere, such as V1; the name, where the atlas has
        the hemisphere within the name.
    hemisphere : {"left", "right", ""}
    vertices : ndarray of int
        Where its values lie in those of the space (voxels too).
    """

    name: str
    area: str
    hemisphere: str
    vertices: np.ndarray

    def __post_init__(self) -> None:
        self.vertices.setflags(write=False)


class WrongMeshError(InputError):
    """An atlas of another mesh than the response's: one for it may lie elsewhere."""


def serving(space: Space) -> list[str]:
    """Meshes whose atlases fit a space, its own first."""
    if space.mesh not in FSAVERAGE:
        return [space.mesh]
    return [mesh for mesh, size in FSAVERAGE.items() if size >= space.n_left]


def regions_of_surface(
    hemispheres: dict[str, Labels], space: Space, what: str
) -> tuple[tuple[Region, ...], str]:
    """Regions of both hemispheres on a mesh, and what was done to make them fit."""
    if not space.is_surface:
        raise InputError(
            f"{what}: an atlas of the surface does not fit {space.name}; give a label volume"
        )
    left, right = (len(hemispheres[side].values) for side in HEMISPHERES)
    if left != right:
        raise InputError(f"{what}: the left hemisphere has {left} vertices and the right {right}")
    meshes = serving(space)
    if left not in [MESHES[mesh] for mesh in meshes]:
        mesh = next((mesh for mesh, size in MESHES.items() if size == left), "no known mesh")
        fit = ", ".join(f"{MESHES[mesh]} ({mesh})" for mesh in meshes)
        raise WrongMeshError(
            f"{what}: {left} vertices a hemisphere ({mesh}) do not fit {space.name}; "
            f"these do: {fit}"
        )
    regions: list[Region] = []
    told = []
    if left > space.n_left:
        told.append(f"the first {space.n_left} of {left} vertices of each hemisphere")
    for side in HEMISPHERES:
        labels, whole = hemispheres[side], space.slice(side)
        parts = _parts(labels, what)
        if sum(map(len, parts.values())) == left:
            wall = np.flatnonzero(medial_wall(space.mesh)[whole])
            parts = {name: np.setdiff1d(part, wall) for name, part in parts.items()}
            told.append(f"{side} medial wall by the thickness of the cortex")
        for name, part in parts.items():
            key, area = _called(name, side, what)
            vertices = part[part < space.n_left] + whole.start
            regions.append(Region(key, area, side, vertices))
    if lost := [region.name for region in regions if not len(region.vertices)]:
        warnings.warn(
            f"{what}: {len(lost)} regions have no vertex of {space.name} outside the medial wall, "
            f"so they have no mean: {', '.join(lost)}",
            InputWarning,
            stacklevel=2,
        )
    return _distinct(regions, what), "; ".join(told)


def _parts(labels: Labels, what: str) -> dict[str, np.ndarray]:
    """Vertices of each name of a label table, without those of no region and of the wall."""
    values = labels.values.ravel()
    order = np.argsort(values, kind="stable")
    numbers, starts = np.unique(values[order], return_index=True)
    parts: dict[str, np.ndarray] = {}
    nameless, twice = 0, []
    for number, vertices in zip(numbers.tolist(), np.split(order, starts[1:]), strict=True):
        name = one_line(labels.names.get(number, "").strip())
        if number not in labels.names:
            nameless += len(vertices) if number > 0 else 0
        elif name in parts:
            parts[name] = np.union1d(parts[name], vertices)
            twice.append(name)
        elif not _is_wall(name):
            parts[name] = vertices
    if nameless:
        note = f"{what}: {nameless} labels have no name in its table and count as no region"
        warnings.warn(note, InputWarning, stacklevel=3)
    if twice:
        note = f"{what}: several labels are called {', '.join(twice)}; each name is one region"
        warnings.warn(note, InputWarning, stacklevel=3)
    return parts


def _is_wall(name: str) -> bool:
    name = re.sub(r"^([LR]_|(ctx[-_])?[lr]h[-_.])", "", name)
    return _WALL.fullmatch(re.sub(r"[\W_]", "", name.lower())) is not None


def _called(name: str, side: str, what: str) -> tuple[str, str]:
    """Name and area of a region of a surface; the hemisphere in a name must be the file's."""
    area, told = name, side
    if within := _WITHIN.search(name):
        told = _SIDES[within[1].lower()]
    for form in _BEFORE:
        if before := form.fullmatch(name):
            area, told = before["area"], _SIDES[before["side"][0].lower()]
    if told != side:
        raise InputError(
            f"{what}: the {side} hemisphere holds {name}, which is of the {told} one; "
            "give the left file first, and check that names and contents agree"
        )
    return (name, name) if within else (f"{area}_{side[0].upper()}", area)


def _called_in_volume(name: str) -> Region:
    """A region of a volume, whose name is as the table has it."""
    side = ""
    if within := _WITHIN.search(name):
        side = _SIDES[within[1].lower()]
    elif structure := _STRUCTURE.match(name):
        side = structure[1].lower()
    return Region(name, name, side, np.empty(0, int))


def area_and_side(name: str) -> tuple[str, str]:
    """Area and hemisphere of a region by its name alone: of V1_L, L_V1_ROI, LH_Vis_1, ...

    The hemisphere is empty where the name does not tell it, and the area the name itself.
    """
    side = _called_in_volume(name).hemisphere
    for form in () if side else (*_BEFORE, _AFTER):
        if told := form.fullmatch(name):
            return told["area"], _SIDES[told["side"][0].lower()]
    return name, side


def _distinct(regions: list[Region], what: str) -> tuple[Region, ...]:
    if not any(len(region.vertices) for region in regions):
        raise InputError(f"{what}: no vertex or voxel of the response lies in a region")
    if len({region.name for region in regions}) != len(regions):
        raise InputError(f"{what}: two regions have the same name")
    return tuple(regions)


def need_voxels(space: Space, what: str) -> Voxels:
    """Where the voxels of a space lie; refuses one that does not know."""
    if space.voxels is None:
        raise InputError(
            f"{what}: it is not known where the values of {space.name} lie; "
            "give its mask to with_voxels first"
        )
    return space.voxels


def regions_of_volume(
    labels: Labels, affine: np.ndarray, template: str | None, space: Space, what: str
) -> tuple[tuple[Region, ...], str]:
    """Regions of the voxels of a space, and which templates met.

    Each voxel of the space takes the label of the atlas's nearest one.

    Raises
    ------
    InputError
        If the space has no voxels or it is not known where they lie, if the atlas's template is
        not known, or if no voxel lies in a region.
    """
    if space.is_surface and not space.n_voxels:
        raise InputError(
            f"{what}: a label volume does not fit {space.name}, a surface; "
            "give an atlas of the surface (.annot, .label.gii, .dlabel.nii)"
        )
    voxels = need_voxels(space, what)
    if template is None:
        raise InputError(
            f"{what}: neither its header nor its name tells its template; put tpl-TEMPLATE in the "
            f"name, TEMPLATE one of {', '.join(TEMPLATES)}"
        )
    mm = moved(voxels.indices, voxels.affine)
    mm = moved(mm, _between(voxels.template, template))
    index = np.rint(moved(mm, np.linalg.inv(affine))).astype(int)
    inside = ((index >= 0) & (index < labels.values.shape)).all(axis=1)
    looked = np.full(len(index), NO_REGION, np.int32)
    looked[inside] = labels.values[tuple(index[inside].T)]
    parts = _parts(Labels(looked, labels.names), what)
    first = space.cortex.stop
    regions = [
        replace(_called_in_volume(name), vertices=part + first) for name, part in parts.items()
    ]
    told = (
        f"labels in {template} looked up at voxels in {voxels.template}; "
        f"{len(labels.names)} names, {len(regions)} of them at these voxels"
    )
    return _distinct(regions, what), told


def _between(template: str, other: str) -> np.ndarray:
    """Matrix (4, 4) from one volume template's mm to another's; those of MNI152 count as one."""
    if (template == "MNI305") == (other == "MNI305"):
        return np.eye(4)
    matrix = to_template("fsaverage5", "MNI152NLin6Asym")  # fsaverage lies in MNI305
    return matrix if template == "MNI305" else np.linalg.inv(matrix)
