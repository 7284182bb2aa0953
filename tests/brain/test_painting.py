"""Vertices painted into the ribbon of a grid, and read back."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import KDTree

from tribrain.brain.meshes import (
    distances_graph,
    medial_wall,
    midsurface,
    surface,
    to_template,
)
from tribrain.brain.painting import STANDARD_GRIDS, grid, ribbon
from tribrain.brain.spaces import HEMISPHERES, mesh_space
from tribrain.errors import InputError

TEMPLATE = "MNI152NLin6Asym"
COARSE = ((46, 55, 46), np.array([[-4.0, 0, 0, 90], [0, 4, 0, -126], [0, 0, 4, -72], [0, 0, 0, 1]]))


def moved(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return nib.affines.apply_affine(matrix, points)


def in_template(mesh: str, side: str, kind: str) -> np.ndarray:
    return moved(surface(mesh, side, kind)[0], to_template(mesh, TEMPLATE))


@pytest.mark.parametrize(("template", "edge"), STANDARD_GRIDS)
def test_standard_grids_cover_the_cortex_and_centre_on_the_midline(template, edge):
    shape, affine = grid(template, edge)
    assert np.linalg.norm(affine[:3, :3], axis=0).tolist() == [edge] * 3
    for side in HEMISPHERES:
        pial = moved(surface("fsaverage5", side, "pial")[0], to_template("fsaverage5", template))
        voxels = moved(pial, np.linalg.inv(affine))
        assert (voxels > 2).all()
        assert (voxels < np.array(shape) - 3).all()
    middle = moved((np.array(shape) - 1) / 2, affine)
    assert abs(middle[0]) <= 0.5


def test_fsl_grids_of_1_and_2_mm_share_their_first_voxel():
    one, two = grid(TEMPLATE, 1)[1], grid(TEMPLATE, 2)[1]
    np.testing.assert_array_equal(one[:, 3], two[:, 3])
    np.testing.assert_array_equal(two[:3, :3], np.diag([-2, 2, 2]))


@pytest.mark.parametrize(("edge", "share"), [(1, 1.0), (2, 0.995)])
def test_share_of_vertices_that_own_a_voxel_and_come_back_exactly(edge, share):
    found = ribbon("fsaverage5", TEMPLATE, *grid(TEMPLATE, edge))
    cortex = np.flatnonzero(~medial_wall("fsaverage5"))
    assert np.isin(found.owners, cortex).all()
    assert len(found.owners) / len(cortex) >= share
    values = np.random.default_rng(edge).normal(size=(2, 20484)).astype(np.float32)
    back = found.read(found.paint(values))
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back[:, found.owners], values[:, found.owners])
    np.testing.assert_array_equal(np.isnan(back), [medial_wall("fsaverage5")] * 2)


def test_painted_voxels_are_those_that_a_plain_dense_sampling_touches():
    shape, affine = COARSE
    found = ribbon("fsaverage3", TEMPLATE, shape, affine, medial_wall=True)
    painted = found.voxels.volume(np.ones(len(found.voxels), bool))
    rng, dense = np.random.default_rng(0), np.zeros(shape, bool)
    for side in HEMISPHERES:
        faces = surface("fsaverage3", side)[1]
        white, pial = (in_template("fsaverage3", side, kind)[faces] for kind in ("white", "pial"))
        weights = rng.dirichlet(np.ones(3), size=(len(faces), 3000))
        depth = rng.uniform(-0.2, 1.2, size=(len(faces), 3000, 1)).clip(0, 1)
        points = (1 - depth) * (weights @ white) + depth * (weights @ pial)
        voxels = np.rint(moved(points.reshape(-1, 3), np.linalg.inv(affine))).astype(int)
        dense[tuple(voxels.T)] = True
    assert (dense & ~painted).sum() < 0.05 * painted.sum()  # that the ribbon barely grazes
    assert (painted & ~dense).sum() < 0.005 * painted.sum()


def test_a_voxel_whose_centre_lies_in_the_ribbon_is_painted():
    shape, affine = COARSE
    found = ribbon("fsaverage3", TEMPLATE, shape, affine, medial_wall=True)
    painted = found.voxels.volume(np.ones(len(found.voxels), bool))
    checked = 0
    for side in HEMISPHERES:
        faces = surface("fsaverage3", side)[1]
        white, pial = (in_template("fsaverage3", side, kind)[faces] for kind in ("white", "pial"))
        for depth in np.linspace(0, 1, 9):  # centres on one of these triangles, to 0.01 mm
            corners = (1 - depth) * white + depth * pial
            normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
            normal /= np.linalg.norm(normal, axis=1, keepdims=True)
            for face, across in zip(corners, normal, strict=True):
                low, high = np.sort(moved(face, np.linalg.inv(affine)), axis=0)[[0, -1]]
                ranges = [np.arange(np.ceil(a), b + 1) for a, b in zip(low, high, strict=True)]
                centres = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
                offset = moved(centres, affine) - face[0]
                flat = np.abs(offset @ across) < 0.01
                inside = np.linalg.lstsq((face[1:] - face[0]).T, offset[flat].T, rcond=None)[0]
                for centre in centres[flat][(inside.min(axis=0) > 0) & (inside.sum(axis=0) < 1)]:
                    assert painted[tuple(centre.astype(int))]
                    checked += 1
    assert checked > 20


def test_each_voxel_is_near_its_vertex_and_on_its_side():
    found = ribbon("fsaverage5", TEMPLATE, *grid(TEMPLATE, 2))
    centres = moved(found.voxels.indices, found.voxels.affine)
    space = mesh_space("fsaverage5")
    for side, sign in zip(HEMISPHERES, (-1, 1), strict=True):
        span = space.slice(side)
        own = (found.vertices >= span.start) & (found.vertices < span.stop)
        vertices = found.vertices[own] - span.start
        white, pial = (
            in_template("fsaverage5", side, kind)[vertices] for kind in ("white", "pial")
        )
        along = pial - white
        share = np.einsum("vc,vc->v", centres[own] - white, along) / (along**2).sum(axis=1)
        nearest = white + np.clip(share, 0, 1)[:, None] * along
        distance = np.linalg.norm(centres[own] - nearest, axis=1)
        assert distance.max() < 8
        assert np.median(distance) < 2
        assert (sign * centres[own][:, 0] > -3).all()
        assert own.sum() > 40_000


def test_the_opposite_bank_of_a_sulcus_never_paints():
    """In the middle of the cortex lies a vertex that is near along it, not through the brain."""
    found = ribbon("fsaverage5", TEMPLATE, *grid(TEMPLATE, 1))
    middle = moved(midsurface("left"), to_template("fsaverage5", TEMPLATE))
    starts = np.arange(0, 10242, 5)
    along = dijkstra(distances_graph("left"), indices=starts, limit=15)
    through = KDTree(middle[starts]).sparse_distance_matrix(KDTree(middle), 6).toarray()
    banks = starts[((through > 0) & np.isinf(along)).any(axis=1)]
    banks = banks[~medial_wall("fsaverage5")[banks]]
    assert len(banks) > 50
    owner = found.voxels.volume(found.vertices, fill=-1)
    inverse = np.linalg.inv(found.voxels.affine)
    held = owner[tuple(np.rint(moved(middle[banks], inverse)).astype(int).T)]
    reached = dijkstra(distances_graph("left"), indices=banks, limit=15)
    assert np.isfinite(reached[np.arange(len(banks)), held]).all()


def test_left_and_right_keep_their_sides_in_a_saved_volume(tmp_path):
    found = ribbon("fsaverage4", TEMPLATE, *COARSE)
    values = np.concatenate([np.full(2562, 3), np.full(2562, 7)]).astype(np.int16)
    volume = found.voxels.volume(found.paint(values))
    assert volume.dtype == np.int16
    nib.save(nib.Nifti1Image(volume, found.voxels.affine), tmp_path / "sides.nii.gz")
    image = nib.load(tmp_path / "sides.nii.gz")
    for value, sign in ((3, -1), (7, 1)):
        x = moved(np.argwhere(image.get_fdata() == value), image.affine)[:, 0]
        assert (sign * x > -5).all()
        assert sign * x.mean() > 20
    assert set(np.unique(volume)) == {0, 3, 7}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["int8", "int32", "float32", "bool"]))
def test_painting_copies_values_and_never_mixes_them(seed, kind):
    found = ribbon("fsaverage3", TEMPLATE, *COARSE)
    values = np.random.default_rng(seed).integers(0, 100, (3, 1284)).astype(kind)
    painted = found.paint(values)
    assert painted.dtype == kind
    for voxel in range(0, len(found.voxels), 97):
        assert (painted[:, voxel] == values[:, found.vertices[voxel]]).all()
    back = found.read(painted)
    assert (back[:, found.owners] == values[:, found.owners]).all()


def test_reading_is_the_mean_of_own_voxels_or_the_nearest_of_the_hemisphere():
    found = ribbon("fsaverage5", TEMPLATE, *COARSE)
    values = np.random.default_rng(0).normal(size=len(found.voxels))
    back = found.read(values)
    centres = moved(found.voxels.indices, found.voxels.affine)
    cortex = np.flatnonzero(~medial_wall("fsaverage5"))
    assert np.isfinite(back[cortex]).all()
    without = np.setdiff1d(cortex, found.owners)
    assert len(without) > 1000  # 4 mm is too coarse for every vertex
    middle = np.concatenate(
        [
            moved(midsurface(side), to_template("fsaverage5", TEMPLATE)) + np.array([shift, 0, 0])
            for side, shift in zip(HEMISPHERES, (-1000, 1000), strict=True)  # far apart
        ]
    )
    apart = centres + np.where(found.vertices < 10242, -1000, 1000)[:, None] * [1, 0, 0]
    for vertex in cortex[::31]:
        own = found.vertices == vertex
        if own.any():
            assert back[vertex] == pytest.approx(values[own].mean())
        else:
            distance = np.linalg.norm(apart - middle[vertex], axis=1)
            assert distance[values == back[vertex]].min() == pytest.approx(distance.min())


def test_voxels_not_measured_stay_so():
    found = ribbon("fsaverage3", TEMPLATE, *COARSE)
    values = np.ones(len(found.voxels))
    values[found.vertices == found.owners[5]] = np.nan
    back = found.read(values)
    assert np.isnan(back[found.owners[5]])
    assert np.isfinite(back[found.owners[6]])


def test_a_grid_of_the_left_half_gives_no_values_to_the_right():
    shape, affine = (23, 55, 46), COARSE[1] @ np.diag([-1, 1, 1, 1])
    affine[0, 3] = -90  # to -2 mm
    found = ribbon("fsaverage4", TEMPLATE, shape, affine)
    back = found.read(np.ones(len(found.voxels)))
    assert np.isfinite(back[:2562][~medial_wall("fsaverage4")[:2562]]).mean() > 0.99
    assert np.isnan(back[2562:]).mean() > 0.95


def test_the_medial_wall_is_painted_on_demand_alone():
    without = ribbon("fsaverage4", TEMPLATE, *COARSE)
    with_wall = ribbon("fsaverage4", TEMPLATE, *COARSE, medial_wall=True)
    wall = medial_wall("fsaverage4")
    assert not wall[without.vertices].any()
    assert wall[with_wall.vertices].any()
    assert len(with_wall.voxels) > len(without.voxels)
    assert np.isfinite(with_wall.read(np.ones(len(with_wall.voxels)))).all()


def test_sheared_and_anisotropic_grids_have_no_holes():
    odd = np.array([[3.0, 0.8, 0, -125], [-0.5, 3.5, 0, -100], [0, 0.6, 5, -100], [0, 0, 0, 1]])
    found = ribbon("fsaverage4", TEMPLATE, (72, 70, 40), odd, medial_wall=True)
    painted = found.voxels.volume(np.ones(len(found.voxels), bool))
    rng = np.random.default_rng(0)
    for side in HEMISPHERES:
        faces = surface("fsaverage4", side)[1]
        white, pial = (in_template("fsaverage4", side, kind)[faces] for kind in ("white", "pial"))
        for _ in range(10):  # points anywhere in the prisms
            weights, depth = rng.dirichlet(np.ones(3), size=len(faces)), rng.uniform(0, 1)
            points = np.einsum("fk,fkc->fc", weights, (1 - depth) * white + depth * pial)
            voxels = moved(points, np.linalg.inv(odd))
            central = np.abs(voxels - np.rint(voxels)).max(axis=1) < 0.02
            assert painted[tuple(np.rint(voxels[central]).astype(int).T)].all()
            assert painted[tuple(np.rint(voxels).astype(int).T)].mean() > 0.98


def test_the_same_grid_is_worked_out_once():
    first = ribbon("fsaverage3", TEMPLATE, *COARSE)
    assert ribbon("fsaverage3", TEMPLATE, list(COARSE[0]), COARSE[1].copy()) is first
    assert (
        ribbon("fsaverage3", TEMPLATE, COARSE[0], COARSE[1] + 0.001 * np.eye(4, k=3)) is not first
    )
    with pytest.raises(ValueError, match="read-only"):
        first.vertices[0] = 1


def test_fsaverage_is_moved_to_the_template():
    there, here = (ribbon("fsaverage3", name, *COARSE) for name in (TEMPLATE, "MNI305"))
    shift = [r.voxels.indices.mean(axis=0) @ COARSE[1][:3, :3].T for r in (there, here)]
    assert 1 < np.linalg.norm(shift[0] - shift[1]) < 3


def test_wrong_input_is_refused_in_one_line():
    shape, affine = COARSE
    cases = [
        (("fsaverage9", TEMPLATE, shape, affine), "known: fsaverage3"),
        (("fsaverage3", "MNI", shape, affine), "known: MNI152NLin6Asym"),
        (("fsaverage3", TEMPLATE, (4, 4), affine), r"shape \(4, 4\); three dimensions fit"),
        (("fsaverage3", TEMPLATE, shape, np.zeros((4, 4))), "damaged"),
        (("fsaverage3", TEMPLATE, (5, 5, 5), np.eye(4)), "holds none of the cortex"),
    ]
    for arguments, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            ribbon(*arguments)
        assert "\n" not in str(caught.value)
    found = ribbon("fsaverage3", TEMPLATE, *COARSE)
    with pytest.raises(InputError, match="fsaverage4"):
        found.paint(np.ones(5124))
    with pytest.raises(InputError, match="3 values do not fit the ribbon's"):
        found.read(np.ones(3))
    with pytest.raises(InputError, match="0 values do not fit"):
        found.read(np.float32(1))
    with pytest.raises(InputError, match="MNI152NLin2009cAsym 2 mm"):
        grid("MNIColin27", 2)
