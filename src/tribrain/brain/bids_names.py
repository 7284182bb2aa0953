"""Names and JSON sidecars of BIDS-derivative files.

Rules: Brain Imaging Data Structure 1.11, "Imaging data types" and "Common data types" of its
derivatives, and the appendix "Coordinate systems" (https://bids-specification.readthedocs.io).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from tribrain.brain.spaces import MESHES, Space, Voxels
from tribrain.errors import InputError
from tribrain.files import bids_label

ENTITIES = (
    *("sub", "tpl", "ses", "cohort", "sample", "task", "tracksys", "acq", "nuc", "voi", "ce"),
    *("trc", "stain", "rec", "dir", "run", "mod", "echo", "flip", "inv", "mt", "part", "proc"),
    *("hemi", "space", "split", "recording", "chunk", "atlas", "seg", "scale", "res", "den"),
    *("stat", "label", "prov", "desc"),
)
"""Entities in the order in which a name has them; ``stat`` (of ``boldmap``) is proposed, BEP 12."""
FSLR_91K = (29696, 29716, 31870)
"""Left and right vertices without the medial wall, and voxels, of fsLR's 91k grayordinates."""

# The specification has fsaverage3 to 6 as spaces of their own, the finest as fsaverage, and
# fsLR by the number of vertices.
_SPACES = {
    "fsaverage7": {"space": "fsaverage", "den": "164k"},
    "fsLR32k": {"space": "fsLR", "den": "32k"},
}
_TEMPLATEFLOW = "https://templateflow.s3.amazonaws.com/"
# The sphere that says where vertices lie; the coarser meshes are the first vertices of the finer.
_SPHERES = {
    **dict.fromkeys(
        ("fsaverage3", "fsaverage4", "fsaverage5"),
        "tpl-fsaverage/tpl-fsaverage_hemi-{}_den-10k_sphere.surf.gii",
    ),
    "fsaverage6": "tpl-fsaverage/tpl-fsaverage_hemi-{}_den-41k_sphere.surf.gii",
    "fsaverage7": "tpl-fsaverage/tpl-fsaverage_hemi-{}_den-164k_sphere.surf.gii",
    "fsLR32k": "tpl-fsLR/tpl-fsLR_den-32k_hemi-{}_sphere.surf.gii",
}
# Other templates are identified by their names alone, which is enough for the specification.
_VOLUMES = {
    "MNI152NLin6Asym": "tpl-MNI152NLin6Asym/tpl-MNI152NLin6Asym_res-02_T1w.nii.gz",
    "MNI152NLin2009cAsym": "tpl-MNI152NLin2009cAsym/tpl-MNI152NLin2009cAsym_res-01_T1w.nii.gz",
    "MNI152NLin2009aAsym": "tpl-MNI152NLin2009aAsym/tpl-MNI152NLin2009aAsym_res-1_T1w.nii.gz",
    "MNIColin27": "tpl-MNIColin27/tpl-MNIColin27_T1w.nii.gz",
    "MNI305": "tpl-MNI305/tpl-MNI305_T1w.nii.gz",
}


def bids_name(suffix: str, extension: str, **entities: str | int | None) -> str:
    """Name of a BIDS-derivative file.

    Parameters
    ----------
    suffix : str
        What the file holds, such as ``bold``.
    extension : str
        With its dot, such as ``.func.gii``.
    **entities : str or int, optional
        Any of `ENTITIES`, in any order; None leaves one out. What is neither letter, digit nor
        ``+`` is taken out of a label. ``hemi`` is ``L`` or ``R`` (left and right are read so).

    Returns
    -------
    str
        ``sub-LABEL_..._desc-LABEL_SUFFIX.EXTENSION``.

    Raises
    ------
    InputError
        Names the known entities, or the hemispheres.
    """
    unknown = sorted(set(entities) - set(ENTITIES))
    if unknown:
        raise InputError(f"BIDS entity {unknown[0]!r} is unknown; known: {', '.join(ENTITIES)}")
    given = {key: str(label) for key, label in entities.items() if label is not None}
    if "hemi" in given:
        given["hemi"] = _letter(given["hemi"])
    parts = [f"{key}-{_label(given[key])}" for key in ENTITIES if key in given]
    return "_".join([*parts, suffix]) + extension


def _label(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9+]+", text) else bids_label(text)


def _letter(hemisphere: str) -> str:
    letters = {"left": "L", "right": "R", "L": "L", "R": "R"}
    if hemisphere not in letters:
        raise InputError(f"hemisphere {hemisphere!r} is unknown; known: {', '.join(letters)}")
    return letters[hemisphere]


def space_entities(space: Space, vertices: tuple[int, int] | None = None) -> dict[str, str]:
    """Entities that tell the space of a file.

    Parameters
    ----------
    space : Space
        Of the values in the file: of a GIFTI file that holds the cortex alone, the mesh's.
    vertices : tuple of two int, optional
        Left and right vertices in the file, where it leaves out the medial wall (CIFTI).

    Returns
    -------
    dict of str to str
        ``space``, and ``den`` (of a mesh that BIDS knows in several), ``res`` (of voxels).
        Parcels have ``seg`` alone. ``den`` is ``91k`` where mesh, vertices and voxels are those
        of fsLR's standard grayordinates.

    Raises
    ------
    InputError
        If it is not known where the voxels of the space lie, or what its values are.
    """
    if space.parcels:
        return {"seg": _label(space.name)}
    if is_91k(space, vertices):
        return {"space": "fsLR", "den": "91k"}
    if not space.n_voxels:
        return dict(_SPACES.get(space.mesh, {"space": space.mesh}))
    res = {"res": _res(_located(space))}
    if space.is_surface:
        return _SPACES.get(space.mesh, {"space": space.mesh}) | res
    return {"space": _located(space).template} | res


def is_91k(space: Space, vertices: tuple[int, int] | None) -> bool:
    """Whether a file of these vertices and of the voxels of a space is in fsLR's standard 91k.

    29,696 + 29,716 vertices of fsLR 32k and 31,870 voxels of 2 mm in MNI152NLin6Asym (Glasser et
    al. 2013, NeuroImage 80:105-124).
    """
    voxels = space.voxels
    return (
        space.is_surface
        and space.mesh == "fsLR32k"
        and (*(vertices or ()), space.n_voxels) == FSLR_91K
        and voxels is not None
        and (voxels.template, voxels.shape) == ("MNI152NLin6Asym", (91, 109, 91))
        and np.allclose(_edges(voxels), 2)
    )


def _located(space: Space) -> Voxels:
    if space.voxels is None:
        raise InputError(
            f"{space.name} has no place in BIDS: where its {space.n_voxels} values lie is not "
            "known; give a mask of the voxels"
        )
    return space.voxels


def _edges(voxels: Voxels) -> np.ndarray:
    """Edges of a voxel (3,), mm."""
    return np.linalg.norm(voxels.affine[:3, :3], axis=0)


def _sizes(voxels: Voxels) -> list[str]:
    """Edges of a voxel in words: one if they are equal."""
    sizes = [f"{edge:.3g}" for edge in _edges(voxels)]
    return sizes[:1] if len(set(sizes)) == 1 else sizes


def _res(voxels: Voxels) -> str:
    # A label has no dot: 2.5 mm is 2p5.
    return "x".join(_sizes(voxels)).replace(".", "p")


def sidecar(
    space: Space,
    *,
    task: str | None = None,
    repetition_time: float | None = None,
    hemisphere: str | None = None,
    vertices: tuple[int, int] | None = None,
    description: str | None = None,
    units: str | None = None,
    sources: Sequence[str] = (),
    **more: Any,
) -> dict[str, Any]:
    """What the JSON file beside a BIDS-derivative file says.

    Parameters
    ----------
    space, vertices
        As for `space_entities`, whose ``res`` and ``den`` are explained.
    task, repetition_time : str, float (s)
        Both are required of a time series, and have no meaning for maps.
    hemisphere : {"left", "right"}, optional
        Of a file that holds one.
    description, units : str, optional
    sources : sequence of str
        URIs of the files that this one was made from.
    **more
        Further fields, such as ``Model``.

    Returns
    -------
    dict
        Plain data.
    """
    if (task is None) != (repetition_time is None):
        raise InputError("a time series has both a task and a repetition time; one is missing")
    fields: dict[str, Any] = {
        "RepetitionTime": repetition_time,
        "TaskName": task,
        "Description": description,
        "Units": units,
        "Sources": list(sources) or None,
        "SpatialReference": _spatial_reference(space, hemisphere),
    }
    entities = space_entities(space, vertices)
    if entities.get("den") == "91k":
        fields["Density"] = "91,282 grayordinates: fsLR 32k without the medial wall, 2 mm voxels"
    elif "den" in entities:
        fields["Density"] = f"{MESHES[space.mesh]} vertices per hemisphere"
    if space.voxels is not None:
        shape = " x ".join(map(str, space.voxels.shape))
        told = " x ".join(_sizes(space.voxels))
        if "res" in entities:
            fields["Resolution"] = f"{told} mm, grid of {shape} voxels"
        fields["SkullStripped"] = True  # there are values in the listed voxels alone
    fields |= more
    return {key: value for key, value in fields.items() if value is not None}


def _spatial_reference(space: Space, hemisphere: str | None) -> str | dict[str, str] | None:
    """URI of the file in whose space the values lie; several by structure."""
    volume = _VOLUMES.get(space.voxels.template) if space.voxels is not None else None
    if not space.is_surface:
        return _TEMPLATEFLOW + volume if volume else None
    sphere = _TEMPLATEFLOW + _SPHERES[space.mesh]
    if hemisphere is not None:
        return sphere.format(_letter(hemisphere))
    references = {
        f"CIFTI_STRUCTURE_CORTEX_{side.upper()}": sphere.format(_letter(side))
        for side in ("left", "right")
    }
    return references | ({"VolumeReference": _TEMPLATEFLOW + volume} if volume else {})
