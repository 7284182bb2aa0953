"""Spaces, meshes and the medial wall."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tribrain.brain import spaces
from tribrain.brain.spaces import FSAVERAGE, HEMISPHERES, find_space, medial_wall, surface
from tribrain.errors import InputError

ANNOTATED = {"left": "lh", "right": "rh"}
every_mesh = pytest.mark.parametrize("space", list(FSAVERAGE))
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
    assert faces_as_sets(spaces._faces_of_sphere(points)) == faces_as_sets(faces)


@every_side
@pytest.mark.parametrize("kind", ["white", "pial", "sphere"])
def test_coarse_meshes_are_the_first_vertices_of_fsaverage5(side, kind):
    whole = surface("fsaverage5", side, kind)[0]
    for space in ("fsaverage3", "fsaverage4"):
        np.testing.assert_array_equal(surface(space, side, kind)[0], whole[: FSAVERAGE[space]])


def test_left_hemisphere_lies_left_of_the_right_one():
    assert surface("fsaverage5", "left")[0][:, 0].mean() < -20
    assert surface("fsaverage5", "right")[0][:, 0].mean() > 20


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("fsaverage3", 1284),
        ("fsaverage4", 5124),
        ("fsaverage5", 20484),
        ("subcortex8802", 8802),
    ],
)
def test_known_sizes_have_known_spaces(name, size):
    found = find_space(None, size)
    assert (found.name, found.size) == (name, size)
    assert found.is_surface == name.startswith("fsaverage")
    assert find_space(name, size) == found


def test_slices_part_the_values_into_left_and_right():
    space = find_space(None, 1284)
    values = np.arange(1284)
    np.testing.assert_array_equal(values[space.slice("left")], np.arange(642))
    np.testing.assert_array_equal(values[space.slice("right")], np.arange(642, 1284))


def test_unknown_size_is_a_list_of_outputs_without_a_surface():
    space = find_space(None, 200)
    assert (space.name, space.size, space.is_surface) == ("outputs200", 200, False)


@pytest.mark.parametrize("name", ["fsaverage3", "fsaverage5", "subcortex8802"])
def test_named_space_of_an_unknown_size_is_refused(name):
    with pytest.raises(InputError, match=f"1000 values do not fit {name}.*20484"):
        find_space(name, 1000)


@pytest.mark.parametrize(("name", "size"), [("fsaverage5", 1284), ("fsaverage5", 8802)])
def test_size_wins_over_the_mesh_that_a_published_configuration_names(name, size):
    # Reduced and subcortical checkpoints carry the mesh of the model they were made from.
    assert find_space(name, size) == find_space(None, size)


@pytest.mark.parametrize("side", ["top", "", "L"])
def test_unknown_hemisphere_is_refused(side):
    with pytest.raises(InputError, match="left, right"):
        find_space(None, 1284).slice(side)


def test_space_without_surface_has_no_hemispheres():
    with pytest.raises(InputError, match="none in outputs200"):
        find_space(None, 200).slice("left")


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
    graph = spaces.distances_graph(side)
    middle = (surface("fsaverage5", side)[0] + surface("fsaverage5", side, "pial")[0]) / 2
    pairs = edges(surface("fsaverage5", side)[1])[0]
    assert graph.nnz == 2 * len(pairs)
    assert abs(graph - graph.T).max() == 0
    some = pairs[:: len(pairs) // 200]
    lengths = np.linalg.norm(middle[some[:, 0]] - middle[some[:, 1]], axis=1)
    np.testing.assert_allclose([graph[a, b] for a, b in some], lengths)


def test_sulci_are_deep_and_values_belong_to_both_hemispheres():
    for space, n in FSAVERAGE.items():
        depth = spaces.sulcal_depth(space)
        assert depth.shape == (2 * n,)
        assert depth.min() < 0 < depth.max()
