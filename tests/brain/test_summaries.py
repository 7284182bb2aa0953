"""Peak, contrast, likeness: what a response says, without the medial wall."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from test_response import lopsided, made, noise
from tribrain.brain import summaries
from tribrain.brain.meshes import medial_wall, surface
from tribrain.brain.spaces import Voxels, find_space, join, parcel_space, voxel_space
from tribrain.brain.summaries import variances
from tribrain.errors import InputError

WALL = medial_wall("fsaverage3")
CORTEX = np.flatnonzero(~WALL)


@pytest.fixture(autouse=True, params=[40, 4_000_000], ids=["blocks", "whole"])
def _block(request, monkeypatch):
    """Every summary is the same in one piece and in blocks smaller than a row."""
    monkeypatch.setattr(summaries, "_BLOCK", request.param)


def grayordinates() -> tuple[np.ndarray, object]:
    mask = np.zeros((3, 4, 5))
    mask[1, 2, 3] = mask[2, 0, 0] = 1
    affine = np.array([[-2.0, 0, 0, 10], [0, 2, 0, -20], [0, 0, 2, -30], [0, 0, 0, 1]])
    voxels = voxel_space(Voxels.from_mask(mask, affine, "MNI152NLin6Asym"), "thalami")
    return noise(3, 1286), join(find_space("fsaverage3", 1284), voxels)


def test_peak_is_the_largest_value_of_the_cortex():
    values = noise(5)
    values[2, WALL] = 100.0
    values[3, CORTEX[7]] = 50.0
    values[1, CORTEX[9]] = -60.0
    peak = made(values).peak()
    assert (peak.value, peak.time, peak.bold_time, peak.index) == (50.0, 3.0, 8.0, CORTEX[7])
    assert made(values).peak(absolute=True).value == -60.0


@pytest.mark.parametrize(("index", "side", "vertex"), [(630, "left", 630), (1200, "right", 558)])
def test_peak_tells_its_hemisphere_and_lies_on_its_side(index, side, vertex):
    assert not WALL[index]
    values = np.zeros((2, 1284))
    values[1, index] = 1.0
    peak = made(values).peak()
    assert (peak.hemisphere, peak.vertex, peak.parcel) == (side, vertex, "")
    assert (peak.mni152[0] < 0) == (side == "left")
    white, pial = (surface("fsaverage3", side, kind)[0][vertex] for kind in ("white", "pial"))
    np.testing.assert_allclose(peak.mni152, (white + pial) / 2, atol=4)  # MNI305 is that near


def test_peak_of_a_voxel_and_of_a_parcel():
    values, space = grayordinates()
    values[0, 1285] = 99.0
    peak = made(values, space=space).peak()
    assert (peak.hemisphere, peak.vertex, peak.mni152) == ("", None, (6.0, -20.0, -30.0))
    peak = made(np.eye(3), space=parcel_space("lobes", ["front", "top", "back"])).peak()
    assert (peak.parcel, peak.mni152, peak.time) == ("front", None, 0.0)


def test_peak_passes_over_nan_and_needs_a_value():
    values = np.full((2, 1284), np.nan)
    with pytest.raises(InputError, match="no value"):
        made(values).peak()
    values[1, CORTEX[0]] = -3.0
    assert made(values).peak().value == -3.0


def test_contrast_is_the_difference_of_means_and_keeps_sides_apart():
    values = lopsided("fsaverage3", 6)
    response = made(values)
    found = response.contrast([(4, 6)], [(0, 1), (2, 3)])
    expected = values[4:6].mean(0) - values[[0, 2]].mean(0)
    np.testing.assert_allclose(found.values[CORTEX], expected[CORTEX], rtol=1e-5)
    assert np.isnan(found.values[WALL]).all()
    assert (found.attrs["rows_a"], found.attrs["rows_b"]) == (2, 2)
    assert found.dims == ("vertex",)
    left = found.values[:642]
    assert (left[~WALL[:642]] > 0).all()
    assert (found.values[642:][~WALL[642:]] < 0).all()


def test_contrast_by_truth_values_equals_that_by_spans():
    response = made(noise(6))
    rows = np.array([True, True, False, False, False, False])
    np.testing.assert_array_equal(
        response.contrast(rows, ~rows), response.contrast([(0, 2)], [(1.5, 9)])
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000))
def test_contrast_changes_its_sign_with_its_order(seed):
    response = made(noise(5, 1284, seed))
    a, b = [(0, 2)], [(2, 5)]
    np.testing.assert_allclose(response.contrast(a, b), -response.contrast(b, a), rtol=1e-6)


@pytest.mark.parametrize(
    ("a", "words"),
    [
        ([(9, 12)], "a chooses no row.*0 to 5 s"),
        ([True, False], "a: spans.*5 truth values"),
        ([1, 2, 3], "a: spans"),
        ([("a", "b")], "a: spans .* in numbers of seconds"),
        ([(0, 1), (2,)], "a: spans .* in numbers of seconds"),
        ([(None, 1)], "a chooses no row|a: spans"),
        ([(0, 5)], "same rows"),
    ],
)
def test_moments_that_make_no_contrast_are_refused(a, words):
    with pytest.raises(InputError, match=words):
        made(noise(5)).contrast(a, [(0, 5)])


def test_similarity_over_time_equals_numpy():
    one, two = noise(8, seed=1), noise(8, seed=2)
    found = made(one).similarity(made(two))
    expected = [np.corrcoef(one[:, v], two[:, v])[0, 1] for v in CORTEX]
    np.testing.assert_allclose(found.values[CORTEX], expected, atol=1e-5)
    assert np.isnan(found.values[WALL]).all()


def test_similarity_over_space_equals_numpy_on_the_cortex():
    one, two = noise(4, seed=1), noise(4, seed=2)
    one[:, WALL] = two[:, WALL] = 50.0
    found = made(one).similarity(made(two), over="space")
    expected = [np.corrcoef(a[CORTEX], b[CORTEX])[0, 1] for a, b in zip(one, two, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.dims == ("time",)


def test_similarity_compares_the_same_seconds():
    values = noise(9)
    late = made(values)
    late = type(late)(late.data[{"time": slice(3, None)}], late.provenance)
    found = made(values).similarity(late)
    np.testing.assert_allclose(found.values[CORTEX], 1.0, atol=1e-6)
    np.testing.assert_array_equal(late.similarity(made(values), "space")["time"], range(3, 9))


def test_similarity_leaves_out_nan_and_says_nan_of_what_does_not_vary():
    one, two = noise(8, seed=1), noise(8, seed=2)
    two[:, CORTEX[0]] = 0.1
    two[3, CORTEX[1]] = np.nan
    found = made(one).similarity(made(two)).values
    assert np.isnan(found[CORTEX[0]])
    kept = np.arange(8) != 3
    expected = np.corrcoef(one[kept, CORTEX[1]], two[kept, CORTEX[1]])[0, 1]
    np.testing.assert_allclose(found[CORTEX[1]], expected, atol=1e-5)


def test_similarity_compares_the_same_places_alone():
    parcels = [parcel_space("p", names) for names in (["a", "b"], ["b", "a"], ["a", "c"])]
    affine = np.diag([2.0, 2, 2, 1])
    shape, indices = (9, 9, 9), np.array([[1, 1, 1], [2, 2, 2]])
    voxels = [
        voxel_space(Voxels("MNI152NLin6Asym", shape, *where), "v")
        for where in (
            (affine, indices),
            (affine, indices[::-1]),
            (affine + np.eye(4, k=3), indices),
            (affine, indices, ["here", "there"]),
        )
    ]
    for what, spaces in (("parcels", parcels), ("voxels", voxels)):
        first, *others = [made(noise(5, 2), space=space) for space in spaces]
        np.testing.assert_allclose(first.similarity(first), 1, atol=1e-6)
        for other in others:
            with pytest.raises(InputError, match=f"different {what}, or of the same in another"):
                first.similarity(other)


def test_similarity_of_other_spaces_or_times_or_kinds_is_refused():
    response = made(noise(4))
    with pytest.raises(InputError, match=r"fsaverage4.*5124.*fsaverage3"):
        response.similarity(made(noise(4, 5124)))
    other = made(noise(4))
    later = other.data.assign_coords(time=("time", np.arange(4.0) + 10))
    with pytest.raises(InputError, match="no second in common"):
        response.similarity(type(other)(later))
    with pytest.raises(InputError, match="time, space"):
        response.similarity(response, over="voxels")


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 9), st.integers(0, 1000), st.floats(0.01, 100), st.floats(-50, 50))
def test_similarity_does_not_see_scale_and_offset(rows, seed, scale, offset):
    values = noise(rows, 30, seed)
    found = made(values).similarity(made(values * scale + offset))
    np.testing.assert_allclose(found, 1.0, atol=1e-3)


def test_variances_equal_numpy_and_leave_out_nan():
    values = noise(7, 50).astype(np.float32) * 3 + 40
    values[2, 5] = np.nan
    np.testing.assert_allclose(variances(values), np.nanvar(values.astype(float), 0), rtol=1e-5)


def test_maps_of_grayordinates_keep_where_they_lie():
    values, space = grayordinates()
    found = made(values, space=space).contrast([(0, 1)], [(1, 3)])
    assert found.sizes["vertex"] == 1286
    np.testing.assert_allclose(found.values[1284:], (values[0] - values[1:].mean(0))[1284:], 1e-5)
    assert found["k"].values[1284:].tolist() == [3, 0]
