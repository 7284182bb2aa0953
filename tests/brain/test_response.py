"""The response: its clock, its coordinates, its surface, its regions, its telling rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tribrain.brain.meshes import BUILT_IN, medial_wall, surface
from tribrain.brain.regions import region_vertices
from tribrain.brain.response import UNIT, Response
from tribrain.brain.spaces import FSAVERAGE, HEMISPHERES, parcel_space
from tribrain.errors import InputError

ATTRS = {
    "model": "made",
    "revision": "1",
    "licence": "CC0",
    "label": "made for a test",
    "subject": "unseen",
    "modalities": ["audio"],
}


def made(values: np.ndarray, lag: float = 5.0, space: str | None = None) -> Response:
    return Response.from_rows(
        values,
        lag=lag,
        stimulus=np.arange(len(values)) % 3 > 0,
        space=space,
        attrs=dict(ATTRS),
        provenance={"model": {"name": "made"}},
    )


def noise(rows: int, outputs: int = 1284, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, outputs))


def lopsided(space: str, rows: int = 3) -> np.ndarray:
    """Left: 1, 2, 3, ... by vertex, right: their negatives times ten; each row a tenth more."""
    n = FSAVERAGE[space]
    left = np.arange(1.0, n + 1)
    return np.concatenate([left, -10 * left]) * (1 + 0.1 * np.arange(rows)[:, None])


def test_data_is_one_float_row_a_second_from_zero():
    response = made(noise(7))
    assert response.data.dims == ("time", "vertex")
    assert response.data.dtype == np.float32
    assert response.data.name == "response"
    np.testing.assert_array_equal(response.data["time"], np.arange(7.0))
    np.testing.assert_array_equal(response.data.values, noise(7).astype(np.float32))


@pytest.mark.parametrize("lag", [0.0, 5.0, 4.5])
def test_bold_time_is_time_plus_lag(lag):
    data = made(noise(4), lag).data
    np.testing.assert_array_equal(data["bold_time"], np.arange(4) + lag)
    assert data.attrs["lag"] == lag


def test_attributes_name_space_unit_and_what_was_given():
    data = made(noise(2)).data
    assert data.attrs == {"space": "fsaverage3", "unit": UNIT, "lag": 5.0, **ATTRS}
    assert "no absolute amplitude" in data.attrs["unit"]


def test_stimulus_coordinate_is_boolean_and_as_given():
    data = made(noise(6)).data
    assert data["stimulus"].dtype == bool
    assert data["stimulus"].values.tolist() == [False, True, True, False, True, True]


@pytest.mark.parametrize("space", BUILT_IN)
def test_hemisphere_coordinate_is_left_first(space):
    n = FSAVERAGE[space]
    data = made(np.zeros((1, 2 * n))).data
    assert data["hemisphere"].values.tolist() == ["left"] * n + ["right"] * n


def test_response_off_the_surface_has_no_hemispheres():
    response = made(noise(2, 1000))
    assert "hemisphere" not in response.data.coords
    assert response.space.name == "outputs1000"


@pytest.mark.parametrize("action", ["to_surface_image", "regions"])
def test_response_off_the_surface_says_so(action):
    with pytest.raises(InputError, match="outputs200 has no surface"):
        getattr(made(noise(2, 200)), action)()


def test_size_that_does_not_fit_the_named_space_is_refused():
    with pytest.raises(InputError, match="999 values do not fit fsaverage5"):
        made(noise(2, 999), space="fsaverage5")


def test_unknown_atlas_is_refused():
    with pytest.raises(InputError, match=r"'schaefer' is unknown; known: textbook"):
        made(noise(2)).regions("schaefer")


def test_voxels_are_told_which_atlas_fits():
    for action in ("regions", "region_table"):
        with pytest.raises(InputError, match=r"has no surface.*atlas='harvard-oxford'"):
            getattr(made(noise(2, 8802)), action)()


def parcels(*names: str) -> Response:
    return made(noise(4, len(names)), space=parcel_space("p", names))


def test_names_of_parcels_tell_their_hemisphere():
    sides = {
        "7Networks_LH_Vis_1": "left",
        "7Networks_RH_Vis_L": "right",
        "V1_R": "right",
        "L_V1_ROI": "left",
        "ctx-rh-bankssts": "right",
        "Left Thalamus": "left",
        "Brain-Stem": "n/a",
    }
    table = parcels(*sides).region_table(sort="atlas")
    assert dict(zip(table["region"], table["hemisphere"], strict=True)) == sides
    right = parcels(*sides).region_table(hemisphere="right", sort="atlas")
    assert list(right["region"]) == [name for name, side in sides.items() if side == "right"]
    assert list(parcels(*sides).region_table(match="V1", sort="atlas")["region"]) == [
        "V1_R",
        "L_V1_ROI",
    ]


def test_parcels_of_no_known_hemisphere_say_so():
    with pytest.raises(InputError, match="no region of p is known to be in the left hemisphere"):
        parcels("front", "back").region_table(hemisphere="left")


def test_a_table_of_no_row_is_refused():
    response = parcels("front", "back")
    with pytest.raises(InputError, match="has no row"):
        Response(response.data[:0]).region_table()


@pytest.mark.parametrize("space", BUILT_IN)
def test_surface_image_keeps_left_left_and_right_right(space):
    values = lopsided(space)
    image = made(values).to_surface_image()
    n = FSAVERAGE[space]
    assert image.shape == (2 * n, 3)
    left, right = (image.data.parts[side] for side in HEMISPHERES)
    np.testing.assert_allclose(left, values[:, :n].T, rtol=1e-6)
    np.testing.assert_allclose(right, values[:, n:].T, rtol=1e-6)
    assert left.min() > 0 > right.max()
    back = np.concatenate([left, right]).T
    np.testing.assert_array_equal(back, made(values).data.values)


def test_surface_image_lies_on_the_pial_mesh_of_each_side():
    image = made(noise(1)).to_surface_image()
    for side in HEMISPHERES:
        points, faces = surface("fsaverage3", side, "pial")
        np.testing.assert_array_equal(image.mesh.parts[side].coordinates, points)
        np.testing.assert_array_equal(image.mesh.parts[side].faces, faces)
    assert image.mesh.parts["left"].coordinates[:, 0].mean() < 0
    assert image.mesh.parts["right"].coordinates[:, 0].mean() > 0


@pytest.mark.parametrize("space", BUILT_IN)
def test_regions_equal_a_plain_loop(space):
    response = made(noise(5, 2 * FSAVERAGE[space]))
    table, wall = response.regions(), medial_wall(space)
    assert table.index.name == "time"
    assert table.index.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    for name, index in region_vertices(response.space).items():
        for row in range(5):
            kept = [float(response.data.values[row, v]) for v in index if not wall[v]]
            assert table.loc[row, name] == pytest.approx(sum(kept) / len(kept), abs=1e-5)


def test_regions_tell_left_from_right():
    table = made(lopsided("fsaverage4")).regions()
    left = [name for name in table if name.endswith("_L")]
    assert (table[left] > 0).all().all()
    assert (table.drop(columns=left) < 0).all().all()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(0, 15), st.integers(0, 10_000))
def test_telling_rows_are_distinct_ascending_and_in_range(rows, count, seed):
    response = made(noise(rows, 30, seed))
    chosen = response.telling_rows(count)
    assert len(chosen) == min(rows, count)
    assert chosen == sorted(set(chosen))
    assert all(isinstance(row, int) and 0 <= row < rows for row in chosen)
    assert chosen == response.telling_rows(count)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(0, 10_000))
def test_telling_rows_include_the_strongest(rows, seed):
    values = noise(rows, 30, seed)
    strongest = int(np.linalg.norm(values.astype(np.float32), axis=1).argmax())
    assert made(values).telling_rows(1) == [strongest]
    assert strongest in made(values).telling_rows(3)


def test_telling_rows_prefer_a_weak_new_pattern_to_a_strong_repeated_one():
    values = np.zeros((4, 30))
    values[0, :10], values[1, :10], values[3, 20:] = 5.0, 4.0, 1.0
    assert made(values).telling_rows(2) == [0, 3]


def test_telling_rows_of_a_silent_response_are_still_distinct():
    assert made(np.zeros((4, 30))).telling_rows(3) == [0, 1, 2]


def test_medial_wall_does_not_choose_telling_rows():
    values = np.zeros((3, 1284))
    values[1, medial_wall("fsaverage3")] = 100.0
    values[2, ~medial_wall("fsaverage3")] = 0.1
    assert made(values).telling_rows(1) == [2]


def test_telling_rows_leave_the_response_as_it_was():
    response = made(noise(4))
    before = response.data.values.copy()
    response.telling_rows(3)
    np.testing.assert_array_equal(response.data.values, before)


def test_a_pattern_that_only_grows_and_fades_is_told_once():
    pattern = np.random.default_rng(0).normal(size=30)
    values = np.outer([0.2, 0.9, 1.0, 0.5], pattern)
    assert made(values).telling_rows(4) == [2]
