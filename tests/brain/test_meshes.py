"""Meshes and the medial wall."""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from pathlib import Path

import nibabel as nib
import nilearn.datasets
import numpy as np
import pytest
from nibabel.freesurfer import write_geometry
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import ConvexHull, KDTree

from tribrain.brain import meshes
from tribrain.brain.meshes import BUILT_IN, KINDS, medial_wall, midsurface, sulcal_depth, surface
from tribrain.brain.spaces import FSAVERAGE, HEMISPHERES, find_space
from tribrain.errors import InputError

ANNOTATED = {"left": "lh", "right": "rh"}
every_mesh = pytest.mark.parametrize("space", BUILT_IN)
every_side = pytest.mark.parametrize("side", HEMISPHERES)


def edges(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unique undirected edges and how many faces hold each."""
    pairs = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    return np.unique(pairs, axis=0, return_counts=True)


def faces_as_sets(faces: np.ndarray) -> set[tuple[int, ...]]:
    return set(map(tuple, np.sort(faces, axis=1).tolist()))


def patches(mask: np.ndarray, faces: np.ndarray) -> int:
    """Number of connected patches of a mask on a mesh."""
    pairs = edges(faces)[0]
    inside = pairs[mask[pairs].all(axis=1)]
    graph = coo_array((np.ones(len(inside)), (inside[:, 0], inside[:, 1])), (len(mask),) * 2)
    labels = connected_components(graph, directed=False)[1]
    return len(np.unique(labels[mask]))


@every_mesh
@every_side
def test_mesh_is_a_closed_sphere_that_uses_every_vertex(space, side):
    points, faces = surface(space, side)
    pairs, counts = edges(faces)
    assert len(points) == FSAVERAGE[space]
    assert len(faces) == 2 * (len(points) - 2)
    assert len(points) - len(pairs) + len(faces) == 2
    assert (counts == 2).all()
    np.testing.assert_array_equal(np.unique(faces), np.arange(len(points)))


@every_mesh
@every_side
def test_each_edge_is_walked_once_in_each_direction(space, side):
    faces = surface(space, side)[1]
    directed = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    assert len(np.unique(directed, axis=0)) == len(directed)


@every_mesh
@every_side
def test_every_face_of_the_sphere_looks_outward(space, side):
    points, faces = surface(space, side, "sphere")
    a, b, c = points[faces].transpose(1, 0, 2)
    outward = np.einsum("fc,fc->f", np.cross(b - a, c - a), (a + b + c) / 3)
    assert (outward > 0).all()


@every_mesh
@every_side
@pytest.mark.parametrize("kind", ["white", "pial", "infl"])
def test_folded_surface_encloses_a_positive_volume(space, side, kind):
    points, faces = surface(space, side, kind)
    a, b, c = points[faces].transpose(1, 0, 2)
    assert np.einsum("fc,fc->f", a, np.cross(b, c)).sum() > 0


@every_side
def test_faces_rebuilt_from_the_sphere_are_those_of_fsaverage5(side):
    points, faces = surface("fsaverage5", side, "sphere")
    assert faces_as_sets(meshes._faces_of_sphere(points)) == faces_as_sets(faces)


@every_side
@pytest.mark.parametrize("kind", ["white", "pial", "sphere"])
def test_coarse_meshes_are_the_first_vertices_of_fsaverage5(side, kind):
    whole = surface("fsaverage5", side, kind)[0]
    for space in ("fsaverage3", "fsaverage4"):
        np.testing.assert_array_equal(surface(space, side, kind)[0], whole[: FSAVERAGE[space]])


def test_left_hemisphere_lies_left_of_the_right_one():
    assert surface("fsaverage5", "left")[0][:, 0].mean() < -20
    assert surface("fsaverage5", "right")[0][:, 0].mean() > 20


@every_side
def test_medial_wall_agrees_with_the_glasser_annotation(atlases: Path, side):
    file = atlases / f"fsa5_{ANNOTATED[side]}_glasser_360.annot"
    labels, _, names = nib.freesurfer.read_annot(file)
    truth = labels == [name.decode() for name in names].index("medialwall")
    found = medial_wall("fsaverage5")[find_space(None, 20484).slice(side)]
    dice = 2 * (truth & found).sum() / (truth.sum() + found.sum())
    assert dice > 0.85
    assert (found & ~truth).sum() < 60


@every_side
def test_medial_wall_and_cortex_are_one_patch_each(side):
    wall = medial_wall("fsaverage5")[find_space(None, 20484).slice(side)]
    faces = surface("fsaverage5", side)[1]
    assert patches(wall, faces) == 1
    assert patches(~wall, faces) == 1


@pytest.mark.parametrize("space", ["fsaverage3", "fsaverage4"])
def test_medial_wall_of_coarse_meshes_is_that_of_the_same_vertices(space):
    n, fine = FSAVERAGE[space], medial_wall("fsaverage5")
    expected = np.concatenate([fine[:n], fine[10242 : 10242 + n]])
    np.testing.assert_array_equal(medial_wall(space), expected)
    assert medial_wall(space).any()


@every_side
def test_distances_are_lengths_of_the_mid_surface_edges(side):
    graph = meshes.distances_graph(side)
    middle = (surface("fsaverage5", side)[0] + surface("fsaverage5", side, "pial")[0]) / 2
    pairs = edges(surface("fsaverage5", side)[1])[0]
    assert graph.nnz == 2 * len(pairs)
    assert abs(graph - graph.T).max() == 0
    some = pairs[:: len(pairs) // 200]
    lengths = np.linalg.norm(middle[some[:, 0]] - middle[some[:, 1]], axis=1)
    np.testing.assert_allclose([graph[a, b] for a, b in some], lengths)


def test_sulci_are_deep_and_values_belong_to_both_hemispheres():
    for space in BUILT_IN:
        n = FSAVERAGE[space]
        depth = meshes.sulcal_depth(space)
        assert depth.shape == (2 * n,)
        assert depth.min() < 0 < depth.max()


# The spheres of the finer meshes


def parents(faces: np.ndarray) -> np.ndarray:
    """The faces that were halved, in their order."""
    count = len(faces) // 4
    rest = faces[count:].reshape(count, 3, 3)
    return np.stack([faces[:count, 0], rest[:, 2, 1], rest[:, 0, 2]], axis=1)


def test_halved_spheres_of_fsaverage_are_the_next_ones():
    points, fine = surface("fsaverage5", "left", "sphere")
    middle = parents(fine)
    coarse = parents(middle)
    for n, faces, m, expected in ((642, coarse, 2562, middle), (2562, middle, 10242, fine)):
        assert faces_as_sets(faces) == faces_as_sets(meshes._faces_of_sphere(points[:n]))
        found, found_faces = meshes._halved(points[:n], faces)
        np.testing.assert_array_equal(found_faces, expected)
        np.testing.assert_allclose(found, points[:m], atol=0.01)  # the file has two decimals


@pytest.mark.parametrize(
    ("mesh", "checksum"),
    [
        # Of the triangles of FreeSurfer's icosahedra as MNE-Python has them (icos.fif.gz); its
        # vertices differ by 0.011 of a radius of 100 at most.
        ("fsaverage6", "a52c5b23613b222fd6c5c5de9b77021fb7d3d510f9d0853e6fb50c2f11c10b98"),
        ("fsaverage7", "f779c2dadd780b078da91eb8bc1ca899c39d6f403ffe425f84d4bddabbe8ec61"),
    ],
)
def test_fine_spheres_are_the_icosahedra_of_freesurfer(mesh, checksum):
    points, faces = surface(mesh, "left", "sphere")
    assert len(points) == FSAVERAGE[mesh]
    ordered = np.sort(faces, axis=1).astype("<i4")
    assert hashlib.sha256(ordered.tobytes()).hexdigest() == checksum
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 100, atol=0.01)
    a, b, c = points[faces].transpose(1, 0, 2)
    assert (np.einsum("fc,fc->f", np.cross(b - a, c - a), a + b + c) > 0).all()
    right = surface(mesh, "right", "sphere")[0]
    np.testing.assert_array_equal(right, points)
    np.testing.assert_array_equal(right[:10242], surface("fsaverage5", "right", "sphere")[0])


def test_new_vertices_are_spread_as_evenly_as_before():
    points = surface("fsaverage6", "left", "sphere")[0]
    nearest = KDTree(points).query(points, 2)[0][:, 1]
    assert nearest.min() > 0.75 * nearest.max()


# Files of FreeSurfer


GRID = {
    "head": [2, 0, 20],
    "valid": "1  # volume info valid",
    "filename": "orig.mgz",
    "volume": [256, 256, 256],
    "voxelsize": [1.0, 1.0, 1.0],
    "xras": [-1.0, 0.0, 0.0],
    "yras": [0.0, 0.0, -1.0],
    "zras": [0.0, 1.0, 0.0],
    "cras": [0.0, 0.0, 0.0],
}


@cache
def brain(mesh: str, side: str, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Made surfaces that differ from side to side and from kind to kind."""
    sphere, faces = surface(mesh, side, "sphere")
    scale = {"white": 0.5, "pial": 0.6, "inflated": 0.9, "sphere": 1, "midthickness": 0.55}[kind]
    shift = -40 if side == "left" else 40
    return (sphere * [0.6, 1, 0.8] * scale + [shift, 1, 2]).astype(np.float32), faces


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that SUBJECTS_DIR names; TRIBRAIN_SURFACES is unset and nilearn may not fetch."""

    def refuse(mesh: str = "fsaverage5", data_dir: str | None = None):
        if mesh != "fsaverage5":
            raise OSError("Temporary failure in name resolution\nand more")
        return fetch(mesh, data_dir)

    fetch = nilearn.datasets.fetch_surf_fsaverage
    monkeypatch.setattr(nilearn.datasets, "fetch_surf_fsaverage", refuse)
    monkeypatch.setenv("SUBJECTS_DIR", str(tmp_path))
    monkeypatch.delenv("TRIBRAIN_SURFACES", raising=False)
    return tmp_path


def write_freesurfer(folder: Path, mesh: str, side: str, kind: str) -> Path:
    subject = "fsaverage" if mesh == "fsaverage7" else mesh
    path = folder / subject / "surf" / f"{side[0]}h.{kind}"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_geometry(path, *brain(mesh, side, kind), volume_info=GRID)
    return path


@every_side
@pytest.mark.parametrize(("kind", "file"), [("white", "white"), ("infl", "inflated")])
def test_fsaverage6_is_read_from_a_freesurfer_folder(empty, side, kind, file):
    for every in HEMISPHERES:
        write_freesurfer(empty, "fsaverage6", every, file)
    points, faces = surface("fsaverage6", side, kind)
    expected, expected_faces = brain("fsaverage6", side, file)
    np.testing.assert_allclose(points, expected, rtol=1e-6)
    np.testing.assert_array_equal(faces, expected_faces)
    assert not points.flags.writeable


def test_fsaverage7_is_the_folder_named_fsaverage(empty):
    write_freesurfer(empty, "fsaverage7", "right", "pial")
    points, faces = surface("fsaverage7", "right", "pial")
    assert points.shape == (163842, 3)
    assert faces.shape == (327680, 3)
    assert points[:, 0].mean() == pytest.approx(40, abs=0.1)


def test_midsurface_of_a_fine_mesh_is_midway(empty):
    for kind in ("white", "pial"):
        write_freesurfer(empty, "fsaverage6", "left", kind)
    expected = brain("fsaverage6", "left", "midthickness")[0]
    np.testing.assert_allclose(midsurface("left", "fsaverage6"), expected, atol=1e-4)
    np.testing.assert_array_equal(
        surface("fsaverage6", "left", "mid")[1], brain("fsaverage6", "left", "white")[1]
    )


def test_folder_of_surfaces_goes_before_the_folder_of_subjects(empty, monkeypatch):
    monkeypatch.setenv("TRIBRAIN_SURFACES", str(empty / "first"))
    write_freesurfer(empty, "fsaverage6", "left", "white")
    assert surface("fsaverage6", "left")[0][:, 0].mean() == pytest.approx(-40, abs=0.1)
    path = write_freesurfer(empty / "first", "fsaverage6", "left", "white")
    points, faces = brain("fsaverage6", "left", "white")
    write_geometry(path, points + np.float32(7), faces, volume_info=GRID)
    assert surface("fsaverage6", "left")[0][:, 0].mean() == pytest.approx(-33, abs=0.1)


def test_fetched_files_are_those_that_nilearn_names(empty, monkeypatch):
    points, faces = brain("fsaverage6", "right", "pial")
    path = empty / "pial_right.gii.gz"
    path.write_bytes(gzip.compress(gifti(points, faces, "CortexRight").to_bytes()))
    monkeypatch.setattr(
        nilearn.datasets, "fetch_surf_fsaverage", lambda mesh, data_dir=None: {"pial_right": path}
    )
    np.testing.assert_allclose(surface("fsaverage6", "right", "pial")[0], points, rtol=1e-6)


@pytest.mark.parametrize(
    ("mesh", "file"),
    [("fsaverage6", "fsaverage6/surf/rh.inflated"), ("fsaverage7", "fsaverage/surf/rh.inflated")],
)
def test_missing_surface_without_network_says_what_to_set(empty, mesh, file):
    with pytest.raises(InputError, match=f"name resolution.*SUBJECTS_DIR.*{file}$") as told:
        surface(mesh, "right", "infl")
    assert "\n" not in str(told.value)
    assert "TRIBRAIN_SURFACES" in str(told.value)


def test_unknown_surface_is_refused():
    with pytest.raises(InputError, match=f"'flat' is unknown; known: {', '.join(KINDS)}"):
        surface("fsaverage5", "left", "flat")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def blank(path: Path) -> None:
    path.write_bytes(b"")


def scramble(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(5000))


@pytest.mark.parametrize("damage", [truncate, blank, scramble])
@pytest.mark.parametrize("kind", ["white", "inflated"])
def test_damaged_surface_is_refused_in_one_line(empty, damage, kind):
    path = write_freesurfer(empty, "fsaverage6", "left", kind)
    damage(path)
    with pytest.raises(InputError, match=rf"lh\.{kind} cannot be read as a surface") as told:
        surface("fsaverage6", "left", "infl" if kind == "inflated" else kind)
    assert "\n" not in str(told.value)


def test_surface_of_another_mesh_is_refused(empty):
    path = write_freesurfer(empty, "fsaverage6", "left", "white")
    write_geometry(path, *surface("fsaverage5", "left"), volume_info=GRID)
    with pytest.raises(InputError, match=r"lh.white has 10242 vertices; 40962 are expected"):
        surface("fsaverage6", "left")


@pytest.mark.parametrize("what", ["points", "faces"])
def test_surface_with_impossible_numbers_is_refused(empty, what):
    path = write_freesurfer(empty, "fsaverage6", "left", "white")
    points, faces = (part.copy() for part in brain("fsaverage6", "left", "white"))
    if what == "points":
        points[5, 1] = np.nan
    else:
        faces[5, 1] = 40962
    write_geometry(path, points, faces, volume_info=GRID)
    with pytest.raises(InputError, match=r"lh\.white cannot be read as a surface"):
        surface("fsaverage6", "left")


@pytest.mark.parametrize("mesh", ["fsaverage6", "fsaverage7"])
def test_wall_and_depth_of_fine_meshes_need_no_file(empty, mesh):
    n = FSAVERAGE[mesh]
    wall, depth = medial_wall(mesh), sulcal_depth(mesh)
    assert wall.shape == depth.shape == (2 * n,)
    for side, start in (("left", 0), ("right", n)):
        part = find_space(None, 20484).slice(side)
        first = slice(start, start + 10242)
        np.testing.assert_array_equal(wall[first], medial_wall("fsaverage5")[part])
        np.testing.assert_array_equal(depth[first], sulcal_depth("fsaverage5")[part])
        share = wall[start : start + n].mean()
        assert share == pytest.approx(medial_wall("fsaverage5")[part].mean(), abs=0.005)
        assert patches(wall[start : start + n], surface(mesh, side, "sphere")[1]) == 1


# Files of fsLR


@cache
def fslr(side: str, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Well-spread points (Fibonacci) whose poles lie elsewhere in each hemisphere."""
    index = np.arange(32492) + 0.5
    z, angle = 1 - 2 * index / 32492, np.pi * (1 + 5**0.5) * index
    x, y = np.sqrt(1 - z**2) * np.cos(angle), np.sqrt(1 - z**2) * np.sin(angle)
    sphere = 100 * np.stack([x, y, z] if side == "left" else [z, x, y], axis=1)
    scale = {"white": 0.5, "pial": 0.6, "sphere": 1, "midthickness": 0.55}.get(kind, 0.9)
    faces = ConvexHull(sphere).simplices if kind == "sphere" else fslr(side, "sphere")[1]
    return (scale * sphere).astype(np.float32), faces.astype(np.int32)


def gifti(points: np.ndarray, faces: np.ndarray, structure: str | None) -> nib.gifti.GiftiImage:
    meta = nib.gifti.GiftiMetaData(AnatomicalStructurePrimary=structure) if structure else None
    arrays = [
        nib.gifti.GiftiDataArray(points, "NIFTI_INTENT_POINTSET", "NIFTI_TYPE_FLOAT32", meta=meta),
        nib.gifti.GiftiDataArray(faces.astype(np.int32), "NIFTI_INTENT_TRIANGLE"),
    ]
    return nib.gifti.GiftiImage(darrays=arrays)


def write_fslr(folder: Path, name: str, kind: str, structure: bool = True) -> None:
    """Write a surface of both hemispheres; ``{L}`` in the name is the hemisphere."""
    folder.mkdir(exist_ok=True)
    for side in HEMISPHERES:
        primary = f"Cortex{side.title()}" if structure else None
        nib.save(gifti(*fslr(side, kind), primary), folder / name.format(L=side[0].upper()))


@pytest.fixture
def surfaces(empty: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that TRIBRAIN_SURFACES names."""
    folder = empty / "surfaces"
    folder.mkdir()
    monkeypatch.delenv("SUBJECTS_DIR")
    monkeypatch.setenv("TRIBRAIN_SURFACES", str(folder))
    for cached in (meshes.nearest_of_fsaverage5, medial_wall, sulcal_depth):
        cached.cache_clear()
    return folder


REGISTERED = "tpl-fsLR_space-fsaverage_hemi-{L}_den-32k_sphere.surf.gii"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("sphere", REGISTERED),
        ("sphere", "tpl-fsLR_space-fsaverage_den-32k_hemi-{L}_sphere.surf.gii"),
        ("sphere", "fs_LR-deformed_to-fsaverage.{L}.sphere.32k_fs_LR.surf.gii"),
        ("mid", "tpl-fsLR_den-32k_hemi-{L}_midthickness.surf.gii"),
        ("mid", "tpl-fsLR_hemi-{L}_den-32k_midthickness.surf.gii"),
        ("mid", "S1200.{L}.midthickness_MSMAll.32k_fs_LR.surf.gii"),
        ("infl", "tpl-fsLR_den-32k_hemi-{L}_inflated.surf.gii"),
        ("infl", "tpl-fsLR_den-32k_hemi-{L}_veryinflated.surf.gii"),
        ("infl", "S1200.{L}.very_inflated_MSMAll.32k_fs_LR.surf.gii"),
        ("white", "S1200.{L}.white_MSMAll.32k_fs_LR.surf.gii"),
        ("pial", "S1200.{L}.pial_MSMAll.32k_fs_LR.surf.gii"),
    ],
)
def test_fslr_is_found_by_the_names_of_templateflow_and_hcp(surfaces, kind, name):
    file = {"mid": "midthickness", "infl": "inflated"}.get(kind, kind)
    write_fslr(surfaces / "tpl-fsLR", name, file)
    for side in HEMISPHERES:
        points, faces = surface("fsLR32k", side, kind)
        np.testing.assert_array_equal(points, fslr(side, file)[0])
        np.testing.assert_array_equal(faces, fslr(side, file)[1])


@pytest.mark.parametrize(
    "name",
    [
        "{L}.sphere.32k_fs_LR.surf.gii",
        "S1200.{L}.sphere.32k_fs_LR.surf.gii",
        "tpl-fsLR_hemi-{L}_den-32k_sphere.surf.gii",
        "tpl-fsLR_den-32k_hemi-{L}_sphere.surf.gii",
        "fs_LR-deformed_to-fsaverage.{L}.sphere.59k_fs_LR.surf.gii",
        "sub-01_space-fsaverage_hemi-{L}_den-32k_sphere.surf.gii",
    ],
)
def test_sphere_that_is_not_registered_to_fsaverage_is_not_taken(surfaces, name):
    write_fslr(surfaces, name, "sphere")
    with pytest.raises(InputError, match=r"the sphere surface of fsLR32k is not here; set TRIB"):
        surface("fsLR32k", "left", "sphere")


@pytest.mark.parametrize(
    "name",
    [
        "sub-01_hemi-{L}_space-fsLR_den-32k_midthickness.surf.gii",
        "tpl-fsLR_den-164k_hemi-{L}_midthickness.surf.gii",
        "tpl-fsaverage_den-32k_hemi-{L}_midthickness.surf.gii",
    ],
)
def test_surfaces_of_others_are_not_taken_for_fslr(surfaces, name):
    write_fslr(surfaces, name, "midthickness")
    with pytest.raises(InputError, match=r"the mid surface of fsLR32k is not here"):
        midsurface("left", "fsLR32k")


def test_missing_fslr_names_the_files_of_the_hemisphere(surfaces, monkeypatch):
    message = (
        r"set TRIBRAIN_SURFACES to a folder with \*tpl-fsLR_space-fsaverage_hemi-R_den-32k_sphere"
        r".*fs_LR-deformed_to-fsaverage\.R\.sphere\.32k_fs_LR\.surf\.gii$"
    )
    for _ in range(2):
        with pytest.raises(InputError, match=message):
            surface("fsLR32k", "right", "sphere")
        monkeypatch.delenv("TRIBRAIN_SURFACES", raising=False)


def test_empty_file_of_templateflow_is_said_to_be_empty(surfaces):
    (surfaces / REGISTERED.format(L="L")).touch()
    with pytest.raises(InputError, match=r"hemi-L_den-32k_sphere.surf.gii is empty: fetch it"):
        surface("fsLR32k", "left", "sphere")


def test_which_of_several_templates_is_not_guessed(surfaces):
    for subject in ("100307", "S1200"):
        write_fslr(surfaces, subject + ".{L}.midthickness.32k_fs_LR.surf.gii", "midthickness")
    with pytest.raises(InputError, match=r"several mid surfaces.*100307\.R\..*S1200\.R\."):
        midsurface("right", "fsLR32k")


def test_swapped_hemispheres_of_gifti_are_refused(surfaces):
    write_fslr(surfaces, REGISTERED, "sphere")
    left, right = (surfaces / REGISTERED.format(L=letter) for letter in "LR")
    left.write_bytes(right.read_bytes())
    with pytest.raises(InputError, match=r"left hemisphere.*CortexRight; CortexLeft fits"):
        surface("fsLR32k", "left", "sphere")
    assert len(surface("fsLR32k", "right", "sphere")[0]) == 32492


def test_gifti_that_names_no_structure_is_taken(surfaces):
    write_fslr(surfaces, REGISTERED, "sphere", structure=False)
    assert len(surface("fsLR32k", "left", "sphere")[0]) == 32492


@pytest.mark.parametrize("damage", [truncate, scramble])
def test_damaged_gifti_is_refused_in_one_line(surfaces, damage):
    write_fslr(surfaces, REGISTERED, "sphere")
    damage(surfaces / REGISTERED.format(L="L"))
    with pytest.raises(InputError, match=r"sphere\.surf\.gii cannot be read as") as told:
        surface("fsLR32k", "left", "sphere")
    assert "\n" not in str(told.value)


def test_gifti_of_another_mesh_is_refused(surfaces):
    points, faces = surface("fsaverage5", "left", "sphere")
    image = gifti(points.astype(np.float32), faces, "CortexLeft")
    nib.save(image, surfaces / REGISTERED.format(L="L"))
    with pytest.raises(InputError, match="has 10242 vertices; 32492 are expected"):
        surface("fsLR32k", "left", "sphere")


def test_wall_depth_and_mid_surface_of_fslr_follow_its_sphere(surfaces):
    write_fslr(surfaces, REGISTERED, "sphere")
    write_fslr(surfaces, "tpl-fsLR_den-32k_hemi-{L}_midthickness.surf.gii", "midthickness")
    wall, depth = medial_wall("fsLR32k"), sulcal_depth("fsLR32k")
    assert wall.shape == depth.shape == (64984,)
    for side, start in (("left", 0), ("right", 32492)):
        np.testing.assert_array_equal(midsurface(side, "fsLR32k"), fslr(side, "midthickness")[0])
        points = surface("fsaverage5", side, "sphere")[0]
        part = find_space(None, 20484).slice(side)
        for vertex in range(0, 32492, 997):
            offsets = points - surface("fsLR32k", side, "sphere")[0][vertex]
            nearest = np.linalg.norm(offsets, axis=1).argmin()
            assert wall[start + vertex] == medial_wall("fsaverage5")[part][nearest]
            assert depth[start + vertex] == sulcal_depth("fsaverage5")[part][nearest]
        assert 0.05 < wall[start : start + 32492].mean() < 0.12
