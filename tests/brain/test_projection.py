"""Volumes to vertices: nilearn's numbers, by one matrix."""

from __future__ import annotations

import tracemalloc
import warnings
from importlib.resources import files

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel import openers
from nilearn.surface import InMemoryMesh, vol_to_surf
from scipy.ndimage import map_coordinates

from tribrain.brain import projection, volume_samples
from tribrain.brain.meshes import midsurface, surface, to_template
from tribrain.brain.projection import project, projection_matrix
from tribrain.brain.spaces import FSAVERAGE, HEMISPHERES
from tribrain.errors import InputError, InputWarning

TEMPLATE = "MNI152NLin6Asym"
SHAPE = (46, 55, 46)
AFFINE = np.array([[-4.0, 0, 0, 90], [0, 4, 0, -126], [0, 0, 4, -72], [0, 0, 0, 1]])
OBLIQUE = np.array([[3.9, 0.5, 0, -105], [-0.4, 4.2, 0.3, -110], [0, -0.3, 4.5, -75], [0, 0, 0, 1]])
CUT = AFFINE + np.array([[0, 0, 0, -30], [0, 0, 0, 11.3], [0, 0, 0, 20.7], [0, 0, 0, 0]])
GRIDS = pytest.mark.parametrize("affine", [AFFINE, OBLIQUE, CUT], ids=["plain", "oblique", "cut"])


def volumes(n: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(*SHAPE, n)).astype(np.float32)


def by_nilearn(data, affine, mesh="fsaverage5", kind="ball", surf="pial", mask=None, **options):
    """The same by nilearn's vol_to_surf, (time, left then right vertices)."""
    if mask is not None:
        options["mask_img"] = nib.Nifti1Image(mask.astype(np.int8), affine)
    parts = []
    for side in HEMISPHERES:
        points = midsurface(side, mesh) if surf == "mid" else surface(mesh, side, surf)[0]
        faces = surface(mesh, side)[1]
        if kind == "depth":
            options["inner_mesh"] = InMemoryMesh(surface(mesh, side, "white")[0], faces)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of vertices without samples
            image, outer = nib.Nifti1Image(data, affine), InMemoryMesh(points, faces)
            parts.append(vol_to_surf(image, outer, kind=kind, **options))
    return np.concatenate(parts).T


def projected(data, affine, mesh="fsaverage5", **options):
    return project(nib.Nifti1Image(data, affine), mesh, template=TEMPLATE, **options)


@GRIDS
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", ["ball", "line"])
def test_equal_to_nilearn_at_edges_and_masks(affine, masked, kind):
    data, mask = volumes(), None
    if masked:
        mask = np.random.default_rng(1).uniform(size=SHAPE) > 0.4
        mask[:20] = False
    theirs = "depth" if kind == "line" else kind
    expected = by_nilearn(data, affine, "fsaverage4", kind=theirs, mask=mask)
    got = projected(data, affine, "fsaverage4", kind=kind, mask=mask)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert np.isnan(got).any() == (masked or affine is CUT)
    assert np.isfinite(got).sum() > 2_000


@pytest.mark.parametrize("radius", [1.0, 6.5])
@pytest.mark.parametrize("surf", ["white", "mid"])
def test_equal_to_nilearn_around_other_surfaces_and_radii(surf, radius):
    expected = by_nilearn(volumes(1), OBLIQUE, "fsaverage4", surf=surf, radius=radius)
    got = projected(volumes(1), OBLIQUE, "fsaverage4", surface=surf, radius=radius)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_default_is_equal_to_nilearn_on_its_own_meshes():
    from nilearn.datasets import fetch_surf_fsaverage

    meshes, image = fetch_surf_fsaverage("fsaverage5"), nib.Nifti1Image(volumes(), AFFINE)
    parts = [vol_to_surf(image, meshes[f"pial_{side}"], kind="ball") for side in HEMISPHERES]
    np.testing.assert_allclose(projected(volumes(), AFFINE), np.concatenate(parts).T, atol=1e-5)


def test_points_of_the_ball_are_those_of_nilearns_table():
    text = (files("nilearn.surface") / "data" / "ball_cloud_20_samples.csv").read_text("utf-8")
    table = np.array([line.split() for line in text.splitlines()], float)
    points = volume_samples._ball()
    order = [np.lexsort(of.T) for of in (table, points)]
    np.testing.assert_allclose(points[order[1]], table[order[0]], atol=1e-12)


def test_a_ball_that_is_not_understood_is_an_error(monkeypatch):
    monkeypatch.setattr("nilearn.surface.vol_to_surf", lambda *_, **__: np.full((15**3, 3), np.nan))
    with pytest.raises(RuntimeError, match="this version of nilearn"):
        volume_samples._ball.__wrapped__()


@GRIDS
@pytest.mark.parametrize("kind", ["ball", "line", "nearest"])
def test_nearest_interpolation_is_the_mean_over_the_voxels_that_hold_the_samples(affine, kind):
    data = volumes(1)
    expected = []
    for side in HEMISPHERES:
        pial, white = (surface("fsaverage3", side, name)[0] for name in ("pial", "white"))
        if kind == "ball":
            samples = pial[:, None] + 3 * volume_samples._ball()
        elif kind == "line":
            samples = pial[:, None] + np.linspace(0, 1, 10)[:, None] * (white - pial)[:, None]
        else:
            samples = midsurface(side, "fsaverage3")[:, None]
        places = np.rint(nib.affines.apply_affine(np.linalg.inv(affine), samples))
        inside = ((places >= 0) & (places < SHAPE)).all(axis=-1)
        values = map_coordinates(data[..., 0], places.reshape(-1, 3).T, order=0)
        values = np.where(inside, values.reshape(inside.shape), np.nan)
        expected += [
            np.mean(row[np.isfinite(row)]) if any(np.isfinite(row)) else np.nan for row in values
        ]
    got = projected(data, affine, "fsaverage3", kind=kind, interpolation="nearest")
    np.testing.assert_allclose(got[0], expected, atol=1e-5)


def test_nearest_kind_equals_nilearns_single_nearest_sample():
    options = {"interpolation": "nearest_most_frequent", "depth": [0.0]}
    try:
        expected = by_nilearn(volumes(1), AFFINE, "fsaverage4", "line", "mid", **options)
    except ValueError:
        pytest.skip("this version of nilearn has no nearest_most_frequent")
    np.testing.assert_array_equal(
        projected(volumes(1), AFFINE, "fsaverage4", kind="nearest"), expected
    )


@pytest.mark.parametrize("kind", ["ball", "line"])
def test_voxels_that_are_nan_are_left_out_volume_by_volume_as_by_nilearn(kind):
    data = volumes(5)
    rng = np.random.default_rng(2)
    data[rng.uniform(size=SHAPE) < 0.02, 0:2] = np.nan
    data[:15, :, :, 2] = np.nan
    data[..., 4] = np.nan
    expected = by_nilearn(data, AFFINE, "fsaverage4", kind="depth" if kind == "line" else kind)
    got = projected(data, AFFINE, "fsaverage4", kind=kind)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    np.testing.assert_allclose(got, expected, atol=1e-5)
    share = np.isnan(got).mean(axis=1)
    assert share[4] == 1
    assert share[3] == 0
    assert 0 < share[2] < 1


@pytest.mark.parametrize("kind", ["ball", "nearest"])
def test_infinite_voxels_are_left_out_too(kind):
    wrong, missing = volumes(2), volumes(2)
    holes = np.random.default_rng(3).uniform(size=SHAPE) < 0.05
    wrong[holes, 1] = np.where(np.arange(holes.sum()) % 2, np.inf, -np.inf)
    missing[holes, 1] = np.nan
    got = projected(wrong, AFFINE, "fsaverage4", kind=kind)
    np.testing.assert_array_equal(got, projected(missing, AFFINE, "fsaverage4", kind=kind))
    assert not np.isinf(got).any()


@settings(max_examples=15, deadline=None)
@given(st.floats(2.5, 6), st.floats(-0.4, 0.4), st.floats(-5, 5), st.sampled_from(["ball", "line"]))
def test_ramps_come_back_as_the_places_of_the_samples(edge, turn, shift, kind):
    """Left and right, front and back, up and down: whichever way the grid lies."""
    rotation = np.array(
        [[-np.cos(turn), np.sin(turn), 0], [0, 0, 1], [np.sin(turn), np.cos(turn), 0]]
    )
    shape = (int(240 / edge),) * 3
    affine = np.eye(4)
    affine[:3, :3] = edge * rotation
    affine[:3, 3] = shift - affine[:3, :3] @ (np.array(shape) - 1) / 2
    ramp = nib.affines.apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
    got = projected(ramp.astype(np.float32), affine, "fsaverage3", kind=kind)
    for side, span in zip(HEMISPHERES, (slice(0, 642), slice(642, None)), strict=True):
        pial, white = (surface("fsaverage3", side, name)[0] for name in ("pial", "white"))
        ball = pial + 3 * volume_samples._ball().mean(axis=0)
        np.testing.assert_allclose(
            got[:, span].T, ball if kind == "ball" else (pial + white) / 2, atol=2e-3
        )


def test_registered_coordinates_are_moved_to_the_template():
    ramp = nib.affines.apply_affine(AFFINE, np.moveaxis(np.indices(SHAPE), 0, -1)).astype(
        np.float32
    )
    published = projected(ramp, AFFINE, "fsaverage3").T
    registered = projected(ramp, AFFINE, "fsaverage3", coordinates="registered").T
    offset = 3 * volume_samples._ball().mean(axis=0)
    expected = nib.affines.apply_affine(to_template("fsaverage3", TEMPLATE), published - offset)
    np.testing.assert_allclose(registered - offset, expected, atol=1e-3)
    assert 1 < np.linalg.norm(registered - published, axis=1).mean() < 3
    image = nib.Nifti1Image(ramp, AFFINE)
    same = project(image, "fsaverage3", template="MNI305", coordinates="registered")
    np.testing.assert_allclose(same.T, published, atol=1e-5)


def test_fslr_is_read_where_it_lies_in_each_template(monkeypatch):
    """It lies in MNI152, so that its places in MNI305 are moved the other way."""
    monkeypatch.setattr(
        volume_samples, "surface", lambda _, side, kind: surface("fsaverage3", side, kind)
    )
    taken = volume_samples.sampling("fsLR32k", SHAPE, AFFINE, template=TEMPLATE)
    here = volume_samples._vertices(taken, "left", "pial")
    np.testing.assert_array_equal(here, surface("fsaverage3", "left", "pial")[0])
    there = volume_samples._vertices(taken._replace(template="MNI305"), "left", "pial")
    np.testing.assert_allclose(
        nib.affines.apply_affine(to_template("fsaverage3", TEMPLATE), there), here, atol=1e-9
    )


def test_coarse_meshes_take_the_first_vertices_of_fsaverage5():
    mesh, n, fine = "fsaverage3", FSAVERAGE["fsaverage3"], projected(volumes(1), AFFINE)
    expected = np.concatenate([fine[:, :n], fine[:, 10242 : 10242 + n]], axis=1)
    np.testing.assert_allclose(projected(volumes(1), AFFINE, mesh), expected, atol=1e-6)


def test_matrix_times_a_volume_in_c_order_is_the_projection():
    data = volumes(1)
    matrix = projection_matrix("fsaverage4", SHAPE, CUT, template=TEMPLATE)
    assert matrix.shape == (5124, data.size)
    sums = matrix.sum(axis=1)
    empty = np.diff(matrix.indptr) == 0
    assert empty.any()
    np.testing.assert_allclose(sums[~empty], 1, atol=1e-6)
    expected = np.where(empty, np.nan, matrix @ data.ravel())
    np.testing.assert_allclose(projected(data, CUT, "fsaverage4")[0], expected, atol=1e-6)


def test_a_matrix_is_worked_out_once_for_each_setting():
    first = projection_matrix("fsaverage3", SHAPE, AFFINE, template=TEMPLATE)
    assert projection_matrix("fsaverage3", list(SHAPE), AFFINE.copy(), template=TEMPLATE) is first
    mask = np.ones(SHAPE)
    whole = projection_matrix("fsaverage3", SHAPE, AFFINE, template=TEMPLATE, mask=mask)
    mask[:23] = 0  # the same array with other values
    half = projection_matrix("fsaverage3", SHAPE, AFFINE, template=TEMPLATE, mask=mask)
    assert half.nnz < whole.nnz == first.nnz
    with pytest.raises(ValueError, match="read-only"):
        first.data[0] = 1


WRITERS = {
    "float32.nii": (nib.Nifti1Image, np.float32),
    "big.nii": (nib.Nifti1Image, ">f4"),
    "double.nii.gz": (nib.Nifti1Image, np.float64),
    "bytes.nii": (nib.Nifti1Image, np.uint8),
    "scaled.nii": (nib.Nifti1Image, np.int16),
    "scaled.nii.gz": (nib.Nifti2Image, np.int16),
    "pair.img": (nib.Nifti1Pair, ">i2"),
    "freesurfer.mgz": (nib.MGHImage, np.float32),
}


@pytest.mark.parametrize("name", WRITERS)
def test_files_of_every_kind_are_read_as_nibabel_reads_them(tmp_path, monkeypatch, name):
    kind, dtype = WRITERS[name]
    data = (100 * volumes(7) + 150).clip(0, 255)
    image = kind(data.astype(dtype), AFFINE)
    image.set_data_dtype(dtype)
    if "scaled" in name:
        image.header.set_slope_inter(0.037, -12.5)
    path = tmp_path / name
    nib.save(image, path)
    monkeypatch.setattr(projection, "_BLOCK", 3 * 8 * data[..., 0].size)  # not whole blocks
    whole = nib.load(path).get_fdata()
    assert whole.std() > 1
    expected = projected(whole, AFFINE, "fsaverage3")
    for given_ in (path, str(path), nib.load(path)):
        got = project(given_, "fsaverage3", template=TEMPLATE)
        np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_images_in_memory_are_read_in_either_order_of_their_axes(monkeypatch):
    monkeypatch.setattr(projection, "_BLOCK", 1)
    data = volumes(3)
    expected = projected(data, AFFINE, "fsaverage3")
    np.testing.assert_array_equal(
        projected(np.asfortranarray(data), AFFINE, "fsaverage3"), expected
    )
    image = nib.as_closest_canonical(nib.Nifti1Image(data, AFFINE))
    assert image.affine[0, 0] > 0
    got = project(image, "fsaverage3", template=TEMPLATE)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_packed_file_is_unpacked_once_and_in_order(tmp_path, monkeypatch):
    path = tmp_path / "run.nii.gz"
    nib.save(nib.Nifti1Image(volumes(9), AFFINE), path)
    expected = project(path, "fsaverage3", template=TEMPLATE)
    monkeypatch.setattr(projection, "_BLOCK", 1)
    opened, read = [], []

    class Counting(openers.ImageOpener):
        def __init__(self, name):
            super().__init__(name)
            opened.append(name)

        def readinto(self, buffer):
            read.append(self.tell())
            return super().readinto(buffer)

    monkeypatch.setattr(openers, "ImageOpener", Counting)
    np.testing.assert_allclose(project(path, "fsaverage3", template=TEMPLATE), expected, atol=1e-6)
    assert len(opened) == 1
    assert len(read) >= 9
    assert read == sorted(read)


def test_memory_stays_far_below_the_run(tmp_path, monkeypatch):
    path = tmp_path / "run.nii"
    image = nib.Nifti1Image(np.zeros((*SHAPE, 150), np.float32), AFFINE)
    nib.save(image, path)
    size = image.dataobj.nbytes
    del image
    projection_matrix("fsaverage3", SHAPE, AFFINE, template=TEMPLATE)
    monkeypatch.setattr(projection, "_BLOCK", 2_000_000)
    tracemalloc.start()
    try:
        project(path, "fsaverage3", template=TEMPLATE)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.15 * size


def test_progress_counts_volumes(monkeypatch):
    monkeypatch.setattr(projection, "_BLOCK", 2 * 4 * int(np.prod(SHAPE)))
    seen = []
    projected(volumes(5), AFFINE, "fsaverage3", progress=lambda *told: seen.append(told))
    assert seen == [("projection", n, 5) for n in (2, 4, 5)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mesh": "fsaverage9"}, "known: fsaverage3"),
        ({"template": "MNI"}, "known: MNI152NLin6Asym"),
        ({"kind": "depth"}, "known: ball, line, nearest"),
        ({"interpolation": "cubic"}, "known: linear, nearest"),
        ({"surface": "infl"}, "known: pial, mid, white"),
        ({"surface": "mid", "kind": "line"}, "from the pial to the white"),
        ({"coordinates": "mni"}, "known: published, registered"),
        ({"radius": 0}, "0 mm; above 0"),
        ({"radius": np.nan}, "nan mm; above 0"),
        (
            {"mask": np.ones((3, 3, 3))},
            r"mask has shape \(3, 3, 3\); that of the volume is \(46, 55",
        ),
        ({"mask": nib.Nifti1Image(np.ones(SHAPE), AFFINE)}, r"mask has shape \(\); that of"),
        ({"mask": np.zeros(SHAPE)}, "no vertex of fsaverage3 has a sample in the mask"),
        ({"shape": (46, 55)}, r"shape \(46, 55\); three dimensions"),
        ({"shape": (46, 55, 1)}, "three dimensions of 2 or more"),
        ({"affine": np.zeros((4, 4))}, "damaged"),
        ({"affine": np.diag([4.0, 4, 0.001, 1])}, "edges of 0.1 to 20 mm fit"),
        (
            {"affine": np.eye(4)},
            "only 8% of the vertices of fsaverage3 lie in the volume: its affine",
        ),
        ({"affine": AFFINE @ np.diag([1, -1, 1, 1])}, "puts it at x -90 to 90, y -342 to -126, z"),
    ],
)
def test_wrong_parameters_are_refused_in_one_line(change, message):
    given_ = {"mesh": "fsaverage3", "shape": SHAPE, "affine": AFFINE, "template": TEMPLATE} | change
    with pytest.raises(InputError, match=message) as caught:
        projection_matrix(**given_)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros(SHAPE), r"has shape \(46, 55, 46\); four dimensions"),
        (np.zeros((*SHAPE, 1, 2), np.float32), "four dimensions"),
        (np.zeros((*SHAPE, 0), np.float32), "four dimensions"),
        (np.zeros((*SHAPE, 2), np.complex64), "holds complex64; real numbers fit"),
    ],
)
def test_images_that_are_no_run_are_refused(data, message):
    with pytest.raises(InputError, match=message):
        projected(data, AFFINE, "fsaverage3")


def test_an_image_with_the_affine_of_another_place_is_named(tmp_path):
    path = tmp_path / "run.nii"
    nib.save(nib.Nifti1Image(volumes(2), np.diag([4.0, 4, 4, 1])), path)
    with pytest.raises(InputError, match=r"run\.nii lies away from the brain"):
        project(path, "fsaverage5", template=TEMPLATE)


@pytest.mark.parametrize("saved", [False, True])
def test_a_header_without_an_affine_is_refused(tmp_path, saved):
    # nibabel would make one up with x to the left: the two halves would change places.
    image = nib.Nifti1Image(volumes(2), np.diag([4.0, 4, 4, 1]))
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    if saved:
        nib.save(image, tmp_path / "run.nii.gz")
    with pytest.raises(InputError, match=r"has no affine: sform and qform codes are 0") as caught:
        project(tmp_path / "run.nii.gz" if saved else image, "fsaverage3", template=TEMPLATE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("space", ["T1w", "MNI305", "MNI152NLin2009cAsym"])
def test_a_file_that_says_another_template_is_refused(tmp_path, space):
    path = tmp_path / f"z_space-{space}_bold.nii.gz"
    nib.save(nib.Nifti1Image(volumes(2), AFFINE), path)
    with pytest.raises(InputError, match=rf"'{space}' by its name, not in {TEMPLATE}.*template="):
        project(path, "fsaverage3", template=TEMPLATE)


@pytest.mark.parametrize(("code", "told"), [(1, "scanner"), (3, "Talairach")])
def test_a_header_that_says_another_space_is_told(tmp_path, code, told):
    image = nib.Nifti1Image(volumes(2), OBLIQUE)
    image.set_sform(OBLIQUE, code)
    nib.save(image, tmp_path / "run.nii")
    with pytest.warns(InputWarning, match=rf"read as {TEMPLATE}, as template= says; .* {told}"):
        got = project(tmp_path / "run.nii", "fsaverage3", template=TEMPLATE)
    np.testing.assert_allclose(got, projected(volumes(2), OBLIQUE, "fsaverage3"), atol=1e-5)


@pytest.mark.parametrize("code", [1, 2, 4])
def test_an_image_in_memory_lies_where_the_caller_says(code):
    image = nib.Nifti1Image(volumes(2), OBLIQUE)
    image.set_sform(OBLIQUE, code)
    got = project(image, "fsaverage3", template=TEMPLATE)
    np.testing.assert_allclose(got, projected(volumes(2), OBLIQUE, "fsaverage3"), atol=1e-5)


def test_other_objects_and_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="the image is a ndarray; a NIfTI image"):
        project(volumes(), "fsaverage3", template=TEMPLATE)
    with pytest.raises(InputError, match="does not exist"):
        project(tmp_path / "none.nii", "fsaverage3", template=TEMPLATE)
    with pytest.raises(InputError, match="is a folder"):
        project(tmp_path, "fsaverage3", template=TEMPLATE)
    gifti = tmp_path / "map.func.gii"
    nib.save(nib.gifti.GiftiImage(), gifti)
    with pytest.raises(InputError, match="is a GiftiImage"):
        project(gifti, "fsaverage3", template=TEMPLATE)


@pytest.mark.parametrize("name", ["run.nii", "run.nii.gz"])
@pytest.mark.parametrize("kept", [10, 300, 0.5, 0.99])
def test_files_that_end_early_are_refused_in_one_line(tmp_path, name, kept):
    path = tmp_path / name
    nib.save(nib.Nifti1Image(volumes(3), AFFINE), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if kept > 1 else int(kept * len(whole))])
    with pytest.raises(InputError, match=r"run\.nii.* cannot be read") as caught:
        project(path, "fsaverage3", template=TEMPLATE)
    assert "\n" not in str(caught.value)


def test_a_packed_file_with_damage_within_is_refused(tmp_path):
    path = tmp_path / "run.nii.gz"
    nib.save(nib.Nifti1Image(volumes(3), AFFINE), path)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2 : len(damaged) // 2 + 2000] = bytes(2000)
    path.write_bytes(damaged)
    with pytest.raises(InputError, match="cannot be read to its end"):
        project(path, "fsaverage3", template=TEMPLATE)
