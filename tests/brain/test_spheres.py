"""Values from mesh to mesh: triangles, weights, what is kept, what is not measured."""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull

from tribrain.brain import meshes
from tribrain.brain.meshes import surface
from tribrain.brain.spaces import FSAVERAGE, HEMISPHERES, MESHES
from tribrain.brain.spheres import (
    METHODS,
    default_method,
    resample,
    resample_labels,
    resampling_matrix,
    triangles_that_hold,
)
from tribrain.errors import InputError

COARSE = ("fsaverage3", "fsaverage4", "fsaverage5")
PAIRS = list(itertools.permutations(COARSE, 2))
every_pair = pytest.mark.parametrize(("source", "target"), PAIRS)
every_method = pytest.mark.parametrize("method", METHODS)


def directions(count: int, seed: int) -> np.ndarray:
    points = np.random.default_rng(seed).normal(size=(count, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def unit_sphere(mesh: str, side: str = "left") -> tuple[np.ndarray, np.ndarray]:
    points, faces = surface(mesh, side, "sphere")
    return points / np.linalg.norm(points, axis=1, keepdims=True), faces


def both(function, mesh: str) -> np.ndarray:
    """A function of the sphere's points on the left, and its negative + 5 on the right."""
    left, right = (unit_sphere(mesh, side)[0] for side in HEMISPHERES)
    return np.concatenate([function(*left.T), 5 - function(*right.T)])


def harmonic(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """A spherical harmonic of degree 3, one of degree 2 and a constant."""
    return 5 * z**3 - 3 * z + x * y + 0.3


def holding_face(points: np.ndarray, faces: np.ndarray, point: np.ndarray) -> tuple:
    """Every face in turn: the one through which the point's ray goes, and its weights."""
    best = (-np.inf, None, None)
    for face in faces:
        weights = np.linalg.solve(points[face].T, point)
        if weights.sum() > 0 and weights.min() / weights.sum() > best[0]:
            best = (weights.min() / weights.sum(), face, weights / weights.sum())
    return best[1:]


@cache
def irregular_sphere() -> tuple[np.ndarray, np.ndarray]:
    """Triangles of all shapes and sizes: many points at one pole, few elsewhere."""
    crowded = directions(150, 3) * [0.05, 0.05, 0.02] + [0, 0, 1]
    crowded /= np.linalg.norm(crowded, axis=1, keepdims=True)
    points = np.concatenate([directions(30, 4), crowded])
    return points, ConvexHull(points).simplices


def spheres_to_search():
    return {"fsaverage3": unit_sphere("fsaverage3"), "irregular": irregular_sphere()}


@pytest.mark.parametrize("which", ["fsaverage3", "irregular"])
def test_triangles_are_those_of_a_search_through_all_faces(which):
    points, faces = spheres_to_search()[which]
    wanted = directions(40, 0)
    if which == "irregular":
        wanted[:10] = directions(10, 1) * 0.02 + [0, 0, 1]
        wanted[:10] /= np.linalg.norm(wanted[:10], axis=1, keepdims=True)
    corners, weights = triangles_that_hold((points, faces), wanted)
    for found, found_weights, point in zip(corners, weights, wanted, strict=True):
        face, face_weights = holding_face(points, faces, point)
        assert sorted(found) == sorted(face)
        expected = dict(zip(face, face_weights, strict=True))
        np.testing.assert_allclose(found_weights, [expected[v] for v in found], atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(0, 10_000), st.sampled_from(["fsaverage3", "irregular"]))
def test_weights_are_shares_and_lead_to_the_point(count, seed, which):
    sphere, wanted = spheres_to_search()[which], directions(count, seed)
    corners, weights = triangles_that_hold(sphere, wanted)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    flat = np.einsum("kc,kcx->kx", weights, sphere[0][corners])
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    np.testing.assert_allclose(flat, wanted, atol=1e-8)


def test_vertices_are_held_by_a_triangle_of_theirs_alone():
    sphere = unit_sphere("fsaverage4")
    corners, weights = triangles_that_hold(sphere, sphere[0])
    np.testing.assert_allclose(weights.max(axis=1), 1)
    np.testing.assert_array_equal(corners[weights > 0.5], np.arange(2562))


def test_sphere_with_a_hole_is_refused():
    points, faces = unit_sphere("fsaverage3")
    opened = faces[~(faces == 0).any(axis=1)]
    with pytest.raises(InputError, match="1 points lie in no triangle"):
        triangles_that_hold((points, opened), points[[7, 0]])


@every_pair
@every_method
def test_rows_are_shares_and_hemispheres_do_not_mix(source, target, method):
    matrix = resampling_matrix(source, target, method)
    n, m = MESHES[target], MESHES[source]
    assert matrix.shape == (2 * n, 2 * m)
    assert matrix.data.min() > 0
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    assert matrix[:n, m:].nnz == matrix[n:, :m].nnz == 0
    assert resampling_matrix(source, target, method) is matrix


@every_pair
@every_method
def test_constants_stay_and_left_stays_left(source, target, method):
    n, m = MESHES[target], MESHES[source]
    values = np.repeat([3.0, -7.0], m)
    np.testing.assert_allclose(resample(values, source, target, method), np.repeat([3.0, -7], n))


@pytest.mark.parametrize("target", ["fsaverage3", "fsaverage4"])
@pytest.mark.parametrize("method", ["nearest", "barycentric"])
def test_coarser_fsaverage_is_the_first_vertices(target, method):
    values = np.random.default_rng(0).normal(size=(2, 20484))
    n = FSAVERAGE[target]
    expected = np.concatenate([values[:, :n], values[:, 10242 : 10242 + n]], axis=1)
    np.testing.assert_array_equal(resample(values, "fsaverage5", target, method), expected)


@pytest.mark.parametrize("target", ["fsaverage4", "fsaverage5"])
def test_finer_fsaverage_keeps_its_first_vertices(target):
    values = np.random.default_rng(0).normal(size=1284)
    finer, n = resample(values, "fsaverage3", target), FSAVERAGE[target]
    np.testing.assert_array_equal(finer[:642], values[:642])
    np.testing.assert_array_equal(finer[n : n + 642], values[642:])


def test_fsaverage6_has_the_mean_of_both_ends_midway_on_an_edge():
    values = np.random.default_rng(0).normal(size=20484)
    finer = resample(values, "fsaverage5", "fsaverage6", "barycentric")
    points, middles = unit_sphere("fsaverage5")[0], unit_sphere("fsaverage6")[0]
    for vertex in range(10242, 40962, 311):
        ends = np.argsort(points @ middles[vertex])[-2:]
        assert finer[vertex] == pytest.approx(values[ends].mean(), abs=1e-3)
        assert finer[40962 + vertex] == pytest.approx(values[10242 + ends].mean(), abs=1e-3)


@pytest.mark.parametrize(
    ("source", "target", "error"),
    [
        ("fsaverage5", "fsaverage4", 0.02),
        ("fsaverage5", "fsaverage3", 0.07),
        ("fsaverage4", "fsaverage5", 0.015),
        ("fsaverage3", "fsaverage5", 0.06),
        ("fsaverage6", "fsaverage5", 0.01),
    ],
)
def test_smooth_function_is_the_same_function_on_another_mesh(source, target, error):
    # Errors grow with the square of the coarser mesh's edges: a quarter from mesh to mesh.
    moved = resample(both(harmonic, source), source, target)
    truth = both(harmonic, target)
    assert np.abs(moved - truth).max() < error
    assert np.abs(moved - truth).max() > error / 5


@pytest.mark.parametrize(("coarse", "error"), [("fsaverage3", 0.08), ("fsaverage4", 0.02)])
def test_smooth_function_comes_back_from_up_and_down(coarse, error):
    values = both(harmonic, coarse)
    back = resample(resample(values, coarse, "fsaverage5"), "fsaverage5", coarse)
    assert np.abs(back - values).max() < error
    exact = resample(resample(values, coarse, "fsaverage5"), "fsaverage5", coarse, "nearest")
    np.testing.assert_array_equal(exact, values)


def vertex_areas(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    areas = np.zeros(len(points))
    for face in faces:
        a, b, c = points[face]
        areas[face] += np.linalg.norm(np.cross(b - a, c - a)) / 6
    return areas


def test_average_is_a_plain_loop_over_the_finer_vertices():
    fine, coarse = unit_sphere("fsaverage4"), unit_sphere("fsaverage3")
    values = np.random.default_rng(0).normal(size=2 * 2562)
    areas = vertex_areas(*fine)
    total, weight = np.zeros(642), np.zeros(642)
    for vertex, point in enumerate(fine[0]):
        near = coarse[1][np.argsort(-coarse[0][coarse[1]].mean(axis=1) @ point)[:12]]
        face, shares = holding_face(*(coarse[0], near), point)
        total[face] += shares * areas[vertex] * values[vertex]
        weight[face] += shares * areas[vertex]
    found = resample(values, "fsaverage4", "fsaverage3")
    np.testing.assert_allclose(found[:642], total / weight, atol=1e-5)


@pytest.mark.parametrize("target", ["fsaverage3", "fsaverage4"])
def test_average_keeps_the_integral_over_the_sphere(target):
    values = np.random.default_rng(0).normal(size=2 * 10242) + 1
    areas = vertex_areas(*unit_sphere("fsaverage5"))
    given = resampling_matrix(target, "fsaverage5", "barycentric").T @ np.tile(areas, 2)
    found = resample(values, "fsaverage5", target, "average") * given
    n = FSAVERAGE[target]
    for before, after in ((slice(0, 10242), slice(0, n)), (slice(10242, None), slice(n, None))):
        np.testing.assert_allclose(found[after].sum(), areas @ values[before], rtol=1e-9)
    np.testing.assert_allclose(given[:n].sum(), areas.sum())


def test_average_uses_every_value_and_lowers_noise():
    matrix = resampling_matrix("fsaverage5", "fsaverage4", "average")
    assert (matrix.sum(axis=0) > 0).all()
    noise = np.random.default_rng(0).normal(size=20484)
    assert resample(noise, "fsaverage5", "fsaverage4").std() < 0.6
    assert resample(noise, "fsaverage5", "fsaverage4", "barycentric").std() > 0.9


def test_average_onto_a_finer_mesh_is_barycentric_where_no_neighbour_gives():
    up = resampling_matrix("fsaverage3", "fsaverage5", "average")
    assert abs(up - resampling_matrix("fsaverage3", "fsaverage5", "barycentric")).max() < 1e-12


def test_default_follows_the_direction():
    assert default_method("fsaverage5", "fsaverage3") == "average"
    assert default_method("fsaverage3", "fsaverage5") == "barycentric"
    assert default_method("fsaverage6", "fsLR32k") == "average"
    assert default_method("fsLR32k", "fsaverage6") == "barycentric"


@every_pair
@every_method
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_missing_values_share_their_weight_as_in_a_plain_loop(source, target, method, share):
    generator = np.random.default_rng(5)
    values = generator.normal(size=2 * MESHES[source])
    values[generator.random(values.size) < share] = np.nan
    found = resample(values, source, target, method)
    matrix = resampling_matrix(source, target, method)
    for row in range(0, matrix.shape[0], 97):
        part = slice(matrix.indptr[row], matrix.indptr[row + 1])
        weights, kept = matrix.data[part], values[matrix.indices[part]]
        there = ~np.isnan(kept)
        if weights[there].sum() < 0.5 - 1e-4:
            assert np.isnan(found[row])
        elif weights[there].sum() > 0.5:
            expected = (weights[there] * kept[there]).sum() / weights[there].sum()
            assert found[row] == pytest.approx(expected, abs=1e-9)


def test_constant_stays_constant_up_to_the_rim_of_what_was_measured():
    values = np.full((3, 20484), 4.0, np.float32)
    wall = meshes.medial_wall("fsaverage5")
    values[1:, wall] = np.nan
    values[2] = np.nan  # a scrubbed volume
    found = resample(values, "fsaverage5", "fsaverage4")
    np.testing.assert_allclose(found[0], 4, rtol=1e-6)
    measured = ~np.isnan(found[1])
    np.testing.assert_allclose(found[1, measured], 4, rtol=1e-6)
    agreement = (measured == ~meshes.medial_wall("fsaverage4")).mean()
    assert agreement > 0.99
    assert np.isnan(found[2]).all()


def test_half_of_the_weight_is_enough():
    values = np.full(20484, np.nan)
    values[0] = 2.0
    matrix = resampling_matrix("fsaverage5", "fsaverage6", "barycentric")
    column = matrix[:, [0]].toarray()[:, 0]
    found = resample(values.astype(np.float32), "fsaverage5", "fsaverage6", "barycentric")
    np.testing.assert_array_equal(~np.isnan(found), column > 0.4999)
    assert (~np.isnan(found)).sum() > 1


@every_pair
def test_labels_are_those_of_the_nearest_vertex(source, target):
    generator = np.random.default_rng(0)
    labels = generator.integers(-1, 400, size=(2, 2 * MESHES[source])).astype(np.int16)
    found = resample_labels(labels, source, target)
    assert found.dtype == np.int16
    n, m = MESHES[target], MESHES[source]
    for side, name in enumerate(HEMISPHERES):
        points, targets = unit_sphere(source, name)[0], unit_sphere(target, name)[0]
        for vertex in range(0, n, 101):
            distances = np.linalg.norm(points - targets[vertex], axis=1)
            nearest = np.flatnonzero(distances < distances.min() + 1e-9) + side * m
            assert found[0, side * n + vertex] in labels[0, nearest]


def test_labels_keep_their_side_and_their_type():
    labels = np.repeat([True, False], 642)
    found = resample_labels(labels, "fsaverage3", "fsaverage5")
    assert found.dtype == bool
    np.testing.assert_array_equal(found, np.repeat([True, False], 10242))


@pytest.mark.parametrize("shape", [(), (0,), (1,), (70,), (2, 3)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_any_number_of_rows_and_either_precision(shape, dtype):
    values = np.random.default_rng(0).normal(size=(*shape, 1284)).astype(dtype)
    values.setflags(write=False)
    found = resample(values, "fsaverage3", "fsaverage4")
    assert found.dtype == dtype
    assert found.shape == (*shape, 5124)
    for index in np.ndindex(shape):
        np.testing.assert_allclose(
            found[index], resample(values[index], "fsaverage3", "fsaverage4"), rtol=1e-5, atol=1e-6
        )


def test_whole_numbers_become_real_ones():
    found = resample(np.arange(1284), "fsaverage3", "fsaverage4")
    assert found.dtype == np.float64
    assert not np.array_equal(found, found.round())


@every_method
@pytest.mark.parametrize("mesh", ["fsaverage3", "fsLR32k", "fsaverage7"])
def test_same_mesh_needs_no_sphere_and_changes_nothing(mesh, method):
    values = np.arange(2.0 * MESHES[mesh])
    values[3] = np.nan
    found = resample(values, mesh, mesh, method)
    np.testing.assert_array_equal(found, values)
    assert found is not values


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda: resample(np.zeros(1285), "fsaverage3", "fsaverage4"), "1285 values.*has 1284"),
        (
            lambda: resample(np.zeros(5124), "fsaverage3", "fsaverage4"),
            "5124 values fit fsaverage4",
        ),
        (lambda: resample(np.zeros(1284), "fsaverage3", "fsaverage8"), "'fsaverage8' is unknown"),
        (lambda: resample(np.zeros(1284), "oasis", "fsaverage3"), "'oasis'.*fsaverage3.*fsLR32k"),
        (
            lambda: resample(np.zeros(1284), "fsaverage3", "fsaverage4", "cubic"),
            "'cubic' is unknown; known: nearest, barycentric, average",
        ),
        (lambda: resample(np.zeros(1284, complex), "fsaverage3", "fsaverage4"), "real numbers"),
        (lambda: resample_labels(np.zeros(1284), "fsaverage3", "fsaverage4"), "float64; whole"),
        (lambda: resample_labels(np.zeros(9, int), "fsaverage3", "fsaverage4"), "labels has 9"),
    ],
)
def test_what_does_not_fit_is_refused(action, message):
    with pytest.raises(InputError, match=message):
        action()


def fibonacci(count: int, turn: float) -> np.ndarray:
    """Well-spread points of a sphere of radius 100, turned about x so that no two meshes agree."""
    index = np.arange(count) + 0.5
    z, angle = 1 - 2 * index / count, np.pi * (1 + 5**0.5) * index
    x, y = np.sqrt(1 - z**2) * np.cos(angle), np.sqrt(1 - z**2) * np.sin(angle)
    c, s = np.cos(turn), np.sin(turn)
    return 100 * np.stack([x, c * y - s * z, s * y + c * z], axis=1)


@pytest.fixture(scope="module")
def fslr(tmp_path_factory: pytest.TempPathFactory):
    """A folder with made spheres of fsLR32k, another one a hemisphere."""
    folder = tmp_path_factory.mktemp("fslr")
    for letter, turn in (("L", 0.3), ("R", -1.1)):
        points = fibonacci(32492, turn).astype(np.float32)
        faces = ConvexHull(points).simplices.astype(np.int32)
        arrays = [
            nib.gifti.GiftiDataArray(points, "NIFTI_INTENT_POINTSET"),
            nib.gifti.GiftiDataArray(faces, "NIFTI_INTENT_TRIANGLE"),
        ]
        name = f"tpl-fsLR_space-fsaverage_hemi-{letter}_den-32k_sphere.surf.gii"
        nib.save(nib.gifti.GiftiImage(darrays=arrays), folder / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIBRAIN_SURFACES", str(folder))
        resampling_matrix.cache_clear()
        yield folder
    resampling_matrix.cache_clear()


@pytest.mark.parametrize(
    ("source", "target", "error"),
    [
        # Averages are not centred where meshes are no parts of each other: 0.03 here is 0.2 mm.
        ("fsLR32k", "fsaverage5", 0.03),
        ("fsaverage6", "fsLR32k", 0.04),
        ("fsaverage5", "fsLR32k", 0.005),
        ("fsLR32k", "fsaverage6", 0.005),
    ],
)
def test_smooth_function_goes_to_and_from_fslr(fslr: Path, source, target, error):
    values = both(harmonic, source)
    found, truth = resample(values, source, target), both(harmonic, target)
    assert np.abs(found - truth).max() < error
    wrong_side = np.concatenate(np.split(truth, 2)[::-1])
    assert np.abs(found - wrong_side).max() > 1


@pytest.mark.parametrize(
    ("source", "target"), [("fsaverage6", "fsLR32k"), ("fsLR32k", "fsaverage6")]
)
def test_average_between_alike_meshes_uses_what_barycentric_uses_and_more(fslr, source, target):
    average = resampling_matrix(source, target, "average")
    barycentric = resampling_matrix(source, target, "barycentric")
    np.testing.assert_allclose(average.sum(axis=1), 1)
    shared = (average > 0).multiply(barycentric > 0)
    assert shared.nnz == barycentric.nnz
    assert average.nnz > barycentric.nnz


def test_average_between_alike_meshes_lowers_noise(fslr: Path):
    noise = np.random.default_rng(0).normal(size=(2, 81924)).astype(np.float32)
    assert resample(noise, "fsaverage6", "fsLR32k").std() < 0.7
