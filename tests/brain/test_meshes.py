"""Meshes and the medial wall."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tribrain.brain import meshes
from tribrain.brain.meshes import BUILT_IN, medial_wall, surface
from tribrain.brain.spaces import FSAVERAGE, HEMISPHERES, find_space

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
