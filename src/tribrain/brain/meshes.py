"""Surfaces: the meshes that vertices lie on, the medial wall, distances along the cortex.

fsaverage5 comes with nilearn, and fsaverage3 and fsaverage4 are its first 642 and 2,562 vertices
a hemisphere. fsaverage6 and fsaverage7 are read from a FreeSurfer folder or fetched by nilearn,
but for their spheres, which follow from that of fsaverage5; fsLR32k is read from a folder with
the files of TemplateFlow or of the Human Connectome Project.
"""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tribrain.brain.spaces import FSAVERAGE, HEMISPHERES, MESHES, mesh_space
from tribrain.errors import InputError
from tribrain.files import one_line

BUILT_IN = ("fsaverage3", "fsaverage4", "fsaverage5")
"""Meshes that need no file and no network."""
KINDS = ("white", "pial", "infl", "sphere", "mid")
"""Surfaces of a mesh: ``infl`` is inflated, ``sphere`` is registered to fsaverage, ``mid`` lies
midway between white and pial."""

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

_FREESURFER = {"white": "white", "pial": "pial", "infl": "inflated"}
# How TemplateFlow and the Human Connectome Project name a surface.
_FSLR = {
    "white": ("white",),
    "pial": ("pial",),
    "infl": ("inflated", "veryinflated", "very_inflated"),
    "sphere": ("sphere",),
    "mid": ("midthickness",),
}
_STRUCTURES = dict(zip(HEMISPHERES, ("CortexLeft", "CortexRight"), strict=True))


def surface(mesh: str, hemisphere: str, kind: str = "white") -> tuple[np.ndarray, np.ndarray]:
    """Mesh of a hemisphere.

    Parameters
    ----------
    mesh : str
        One of `MESHES`.
    hemisphere : {"left", "right"}
    kind : str
        One of `KINDS`.

    Returns
    -------
    coordinates : ndarray (n, 3)
        Millimetres: of fsaverage in MNI305, of fsLR in MNI152 (white, pial, mid).
    faces : ndarray (m, 3)
        Vertices of each triangle, seen from outside counter-clockwise.

    Raises
    ------
    InputError
        If the mesh or the kind is unknown, none of the places where it is looked for has it, or
        the file there is damaged, of another mesh or of the other hemisphere.
    """
    mesh_space(mesh).slice(hemisphere)
    if kind not in KINDS:
        raise InputError(f"surface {kind!r} is unknown; known: {', '.join(KINDS)}")
    if kind == "mid" and mesh != "fsLR32k":  # TemplateFlow has no other folded surface of fsLR
        white, faces = surface(mesh, hemisphere, "white")
        return (white + surface(mesh, hemisphere, "pial")[0]) / 2, faces
    if mesh in BUILT_IN:
        return _fsaverage_of_nilearn(mesh, hemisphere, kind)
    if mesh == "fsLR32k":
        return _read(_fslr_file(hemisphere, kind), MESHES[mesh], hemisphere)
    if kind == "sphere":
        return _icosahedron(mesh)
    found = _freesurfer_file(mesh, hemisphere, kind)
    return _read(found or _fetched(mesh, hemisphere, kind), MESHES[mesh], hemisphere)


@cache
def _fsaverage_of_nilearn(mesh: str, hemisphere: str, kind: str) -> tuple[np.ndarray, np.ndarray]:
    n = FSAVERAGE[mesh]
    coordinates, faces = _read(_nilearn_file(kind, hemisphere), FSAVERAGE["fsaverage5"], hemisphere)
    if mesh != "fsaverage5":
        faces = _faces_of_sphere(surface("fsaverage5", hemisphere, "sphere")[0][:n])
        faces.setflags(write=False)
    return coordinates[:n], faces


@cache
def _icosahedron(mesh: str) -> tuple[np.ndarray, np.ndarray]:
    """The sphere of fsaverage6 or fsaverage7.

    FreeSurfer's spheres are one icosahedron, finer from mesh to mesh; ``sphere.reg`` of the left
    and of the right hemisphere of fsaverage is one file.
    """
    finer = _halved(*surface(f"fsaverage{int(mesh[-1]) - 1}", "left", "sphere"))
    for array in finer:
        array.setflags(write=False)
    return finer


def _halved(points: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A sphere of radius 100 with each edge halved, and so each face in four.

    Vertices and faces come in the order of FreeSurfer's ``ic6.tri`` and ``ic7.tri``: after the
    old vertices the new ones face by face, in each the midpoints of its edges 2-0, 1-2, 0-1;
    first the new faces at the first corner of each old one, then the other three of each.
    """
    a, b, c = faces.T
    halved = np.sort(np.stack([c, a, b, c, a, b], axis=1).reshape(-1, 2), axis=1)
    edges, first, which = np.unique(halved, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    number = np.empty(len(edges), int)
    number[order] = len(points) + np.arange(len(edges))
    ca, bc, ab = number[which.ravel()].reshape(-1, 3).T
    middles = points[edges[order]].mean(axis=1)
    middles *= 100 / np.linalg.norm(middles, axis=1, keepdims=True)
    corners = np.stack([a, ab, ca], axis=1)
    rest = np.stack([ca, bc, c, ab, bc, ca, ab, b, bc], axis=1).reshape(-1, 3)
    return np.concatenate([points, middles]), np.concatenate([corners, rest])


@cache
def _read(path: str, n: int, hemisphere: str) -> tuple[np.ndarray, np.ndarray]:
    """Surface of a FreeSurfer or GIFTI file, which must have `n` vertices of that hemisphere."""
    from nilearn.surface import load_surf_mesh

    try:
        found = load_surf_mesh(path)
        coordinates, faces = np.array(found.coordinates, float), np.array(found.faces)
    except Exception as error:  # whatever a damaged file brings about in its reader
        raise InputError(f"{path} cannot be read as a surface: {_told(error)}") from None
    if coordinates.shape != (n, 3):
        raise InputError(f"{path} has {len(coordinates)} vertices; {n} are expected")
    if path.endswith(".gii"):
        _check_structure(path, hemisphere)
    for array in (coordinates, faces):
        array.setflags(write=False)  # one copy serves all
    return coordinates, faces


def _check_structure(path: str, hemisphere: str) -> None:
    """Refuse a GIFTI surface that says that it is the other hemisphere."""
    from nibabel.gifti import GiftiImage

    image = GiftiImage.from_filename(path)
    for meta in (image.meta, *(array.meta for array in image.darrays)):
        structure = meta.get("AnatomicalStructurePrimary", _STRUCTURES[hemisphere])
        if structure != _STRUCTURES[hemisphere]:
            raise InputError(
                f"{path} is looked for as the {hemisphere} hemisphere and says that it is "
                f"{one_line(structure)}; {_STRUCTURES[hemisphere]} fits"
            )


def _nilearn_file(kind: str, hemisphere: str) -> Any:
    from nilearn.datasets import fetch_surf_fsaverage

    return fetch_surf_fsaverage("fsaverage5")[f"{kind}_{hemisphere}"]


def folders() -> list[Path]:
    """Folders where surfaces and atlases are looked for: TRIBRAIN_SURFACES, SUBJECTS_DIR."""
    named = (os.environ.get(name) for name in ("TRIBRAIN_SURFACES", "SUBJECTS_DIR"))
    return [Path(folder) for folder in named if folder]


def _freesurfer_name(mesh: str, hemisphere: str, kind: str) -> str:
    subject = "fsaverage" if mesh == "fsaverage7" else mesh
    return f"{subject}/surf/{hemisphere[0]}h.{_FREESURFER[kind]}"


def _freesurfer_file(mesh: str, hemisphere: str, kind: str) -> str | None:
    """A file of a mesh in FreeSurfer's layout, if it is in one of the folders."""
    paths = (folder / _freesurfer_name(mesh, hemisphere, kind) for folder in folders())
    return next((str(path) for path in paths if path.is_file()), None)


def _fetched(mesh: str, hemisphere: str, kind: str) -> str:
    from nilearn.datasets import fetch_surf_fsaverage

    try:
        return str(fetch_surf_fsaverage(mesh)[f"{kind}_{hemisphere}"])
    except Exception as error:  # the network has many ways to fail
        raise InputError(
            f"the surfaces of {mesh} are not here and could not be fetched ({_told(error)}); set "
            "SUBJECTS_DIR or TRIBRAIN_SURFACES to a folder with "
            + _freesurfer_name(mesh, hemisphere, kind)
        ) from None


def _told(error: Exception) -> str:
    """The first line of an error."""
    return one_line((str(error).strip().splitlines() or [type(error).__name__])[0])


def _fslr_names(hemisphere: str, kind: str) -> list[str]:
    """Patterns of file names of a surface of fsLR, the best first.

    A sphere has to be the one that is registered to fsaverage; that of fsLR itself
    (``L.sphere.32k_fs_LR.surf.gii``) has the same vertices in other places.
    """
    letter = hemisphere[0].upper()
    space = "space-fsaverage_" if kind == "sphere" else ""
    names = []
    for name in _FSLR[kind]:
        for part in (f"hemi-{letter}_den-32k", f"den-32k_hemi-{letter}"):
            names.append(f"*tpl-fsLR_{space}{part}_{name}.surf.gii")
        start = "fs_LR-deformed_to-fsaverage" if kind == "sphere" else "*"
        end = "" if kind == "sphere" else "*"
        names.append(f"{start}.{letter}.{name}{end}.32k_fs_LR.surf.gii")
    return names


def _fslr_file(hemisphere: str, kind: str) -> str:
    patterns = _fslr_names(hemisphere, kind)
    folder = os.environ.get("TRIBRAIN_SURFACES")
    files = [path for path in Path(folder).rglob("*.surf.gii") if path.is_file()] if folder else []
    files = [path for path in sorted(files) if any(fnmatchcase(path.name, p) for p in patterns)]
    # TemplateFlow lays files of no bytes where it has not fetched one yet.
    fetched = [path for path in files if path.stat().st_size]
    for pattern in patterns:
        found = {path.name: str(path) for path in fetched if fnmatchcase(path.name, pattern)}
        if len(found) > 1:
            raise InputError(
                f"{folder} has several {kind} surfaces of fsLR32k: {', '.join(found)}; "
                "keep those of one template there"
            )
        if found:
            return next(iter(found.values()))
    empty = f" ({files[0]} is empty: fetch it with TemplateFlow)" if files else ""
    raise InputError(
        f"the {kind} surface of fsLR32k is not here{empty}; set TRIBRAIN_SURFACES to a folder with "
        + " or ".join(patterns[:3])
    )


def _faces_of_sphere(points: np.ndarray) -> np.ndarray:
    """Triangles between points of a sphere: those of the points' convex hull."""
    from scipy.spatial import ConvexHull

    faces = ConvexHull(points).simplices
    corners = points[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    inward = np.einsum("fc,fc->f", normal, corners.mean(axis=1)) < 0
    faces[inward] = faces[inward][:, ::-1]
    return faces[np.lexsort(faces.T[::-1])]


def to_template(mesh: str, template: str) -> np.ndarray:
    """Matrix (4, 4) from the millimetres of a mesh's surfaces to those of a volume template.

    fsaverage lies in MNI305 and fsLR in MNI152; the templates of the MNI152 family and Colin27
    count as one, as they differ by less than a voxel on average and by no matrix.
    """
    matrix: np.ndarray = np.eye(4)
    if mesh in FSAVERAGE and template != "MNI305":
        matrix[:3] = MNI305_TO_MNI152
    elif mesh not in FSAVERAGE and template == "MNI305":
        matrix[:3] = MNI305_TO_MNI152
        matrix = np.linalg.inv(matrix)
    return matrix


def moved(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points (..., 3) through an affine (4, 4)."""
    result: np.ndarray = points @ matrix[:3, :3].T + matrix[:3, 3]
    return result


def midsurface(hemisphere: str, mesh: str = "fsaverage5") -> np.ndarray:
    """Vertices (n, 3) midway between white and pial surface, mm as in `surface`."""
    return surface(mesh, hemisphere, "mid")[0]


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
def sulcal_depth(mesh: str) -> np.ndarray:
    """Depth of the folds (2 n,), larger in a sulcus; left hemisphere first.

    Of fsaverage3 to 5; other meshes show the depth at fsaverage5's nearest vertex.
    """
    return np.concatenate(
        [
            _load(_nilearn_file("sulc", side))[nearest_of_fsaverage5(mesh, side)]
            for side in HEMISPHERES
        ]
    )


def _load(path: Any) -> np.ndarray:
    from nilearn.surface import load_surf_data

    return np.asarray(load_surf_data(path))


@cache
def nearest_of_fsaverage5(mesh: str, hemisphere: str) -> np.ndarray:
    """The vertex of fsaverage5 (n,) that lies nearest to each vertex of a mesh on the sphere."""
    from scipy.spatial import KDTree

    if mesh in FSAVERAGE and FSAVERAGE[mesh] <= FSAVERAGE["fsaverage5"]:
        return np.arange(FSAVERAGE[mesh])
    points = surface(mesh, hemisphere, "sphere")[0]
    targets = surface("fsaverage5", hemisphere, "sphere")[0]
    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (targets, points)]
    return KDTree(unit[0]).query(unit[1])[1]


@cache
def medial_wall(mesh: str) -> np.ndarray:
    """Vertices that are not cortex: the largest patch thinner than cortex is, closed.

    No atlas is needed. Of the medial wall of FreeSurfer's annotations of fsaverage5 this finds
    the middle and leaves out its rim (the tests state the agreement).

    Parameters
    ----------
    mesh : str
        One of `MESHES`. Meshes finer than fsaverage5, and fsLR32k, take the wall of its nearest
        vertices on the sphere.

    Returns
    -------
    ndarray (2 n,), bool
        True in the medial wall; left hemisphere first.
    """
    from scipy.sparse.csgraph import connected_components

    masks = []
    for hemisphere in HEMISPHERES:
        thin = _load(_nilearn_file("thick", hemisphere)) < _THINNEST
        near = distances_graph(hemisphere) > 0
        wall = np.zeros(len(thin), bool)
        wall[_largest(thin, near, connected_components)] = True
        for _ in range(3):
            wall = wall | (near @ wall)
        for _ in range(3):
            wall = ~(~wall | (near @ ~wall))
        cortex = np.zeros(len(thin), bool)  # holes in the wall belong to it
        cortex[_largest(~wall, near, connected_components)] = True
        masks.append(~cortex[nearest_of_fsaverage5(mesh, hemisphere)])
    return np.concatenate(masks)


def _largest(mask: np.ndarray, near: Any, components: Any) -> np.ndarray:
    """Vertices of the largest connected patch of a mask."""
    vertices = np.flatnonzero(mask)
    labels = components(near[vertices][:, vertices])[1]
    return vertices[labels == np.bincount(labels).argmax()]
