"""The textbook table and its regions on the surface."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tribrain.brain import regions
from tribrain.brain.meshes import BUILT_IN, medial_wall, midsurface
from tribrain.brain.regions import (
    region_maps,
    region_vertices,
    spread,
    textbook_table,
    to_mni305,
)
from tribrain.brain.spaces import FSAVERAGE, find_space
from tribrain.encoder.textbook import FEATURES, feature_maps
from tribrain.errors import InputError

TABLE = textbook_table()
SIDES = {"L": "left", "R": "right"}
PLACES = sorted(set(zip(TABLE["region"], TABLE["hemisphere"], strict=True)))
every_place = pytest.mark.parametrize(("region", "letter"), PLACES)
every_mesh = pytest.mark.parametrize("space", BUILT_IN)


def rows_of(region: str, letter: str):
    return TABLE[(TABLE["region"] == region) & (TABLE["hemisphere"] == letter)]


def centre_vertex(region: str, letter: str) -> int:
    point = rows_of(region, letter).iloc[0][["x", "y", "z"]].to_numpy(float)
    return int(np.linalg.norm(midsurface(SIDES[letter]) - to_mni305(point[None]), axis=1).argmin())


def vertices(space: str) -> dict[str, np.ndarray]:
    return region_vertices(find_space(space, 2 * FSAVERAGE[space]))


def test_table_has_the_stated_columns_and_no_gaps():
    expected = "region hemisphere x y z width feature weight areas source".split()
    assert list(TABLE.columns) == expected
    assert not TABLE.isna().any().any()
    assert set(TABLE["hemisphere"]) == {"L", "R"}
    assert not TABLE.duplicated(["region", "hemisphere", "feature"]).any()


def test_every_row_has_a_source_with_a_year_for_place_and_function():
    for source in TABLE["source"]:
        assert source.startswith("location: ")
        assert "; function: " in source
        for part in source.split("; function: "):
            assert re.search(r"\b(19|20)\d\d\b", part), source


def test_features_are_known_weights_and_widths_in_range():
    known = {name for names in FEATURES.values() for name in names}
    assert set(TABLE["feature"]) == known  # and no feature drives nothing
    assert TABLE["weight"].between(-1, 1).all()
    assert (TABLE["weight"] != 0).all()
    assert TABLE["width"].between(3, 20).all()


@every_place
def test_rows_of_a_region_share_one_place(region, letter):
    rows = rows_of(region, letter)
    for column in ("x", "y", "z", "width", "areas"):
        assert rows[column].nunique() == 1, column


@every_place
def test_left_regions_have_negative_x(region, letter):
    assert (rows_of(region, letter)["x"] < 0).all() == (letter == "L")


@every_place
def test_centre_lies_in_the_listed_areas_of_the_atlas(atlases: Path, region, letter):
    file = atlases / f"fsa5_{letter.lower()}h_glasser_360.annot"
    labels, _, names = nib.freesurfer.read_annot(file)
    area = names[labels[centre_vertex(region, letter)]].decode()
    listed = rows_of(region, letter)["areas"].iloc[0].split(",")
    assert {name.decode() for name in names} >= set(listed)
    assert area in listed


@every_place
def test_centre_is_on_the_cortex_and_not_in_the_medial_wall(region, letter):
    side, centre = SIDES[letter], centre_vertex(region, letter)
    point = rows_of(region, letter).iloc[0][["x", "y", "z"]].to_numpy(float)
    assert np.linalg.norm(midsurface(side)[centre] - to_mni305(point[None])[0]) < 3
    assert not medial_wall("fsaverage5")[find_space(None, 20484).slice(side)][centre]
    whole = region_maps("fsaverage5")[f"{region}_{letter}"]
    assert whole[find_space(None, 20484).slice(side)][centre] == 1


@every_mesh
def test_each_region_has_vertices_in_its_own_hemisphere_alone(space):
    n, wall = FSAVERAGE[space], medial_wall(space)
    found = vertices(space)
    assert set(found) == {f"{region}_{letter}" for region, letter in PLACES}
    for name, index in found.items():
        assert 0 < len(index) < n / 5, name
        assert not wall[index].any(), name
        assert ((index < n) == name.endswith("_L")).all(), name


@every_mesh
def test_maps_are_at_most_one_and_zero_in_the_wall_and_the_other_hemisphere(space):
    n, wall = FSAVERAGE[space], medial_wall(space)
    for name, values in region_maps(space).items():
        other = values[n:] if name.endswith("_L") else values[:n]
        assert values.shape == (2 * n,)
        assert 0 <= values.min() < values.max() <= 1, name
        assert not values[wall].any(), name
        assert not other.any(), name


@every_mesh
def test_vertices_are_those_at_half_of_the_largest_value(space):
    found = vertices(space)
    for name, values in region_maps(space).items():
        half = values.max() / 2
        assert found[name].tolist() == [
            v for v, value in enumerate(values.tolist()) if value >= half
        ]


def test_coarse_maps_are_the_first_vertices_of_the_fine_one():
    fine = region_maps("fsaverage5")
    for name, values in region_maps("fsaverage3").items():
        expected = np.concatenate([fine[name][:642], fine[name][10242 : 10242 + 642]])
        np.testing.assert_array_equal(values, expected)


@every_place
def test_own_feature_dominates_in_its_region(region, letter):
    rows = rows_of(region, letter).set_index("feature")["weight"]
    index = vertices("fsaverage5")[f"{region}_{letter}"]
    drive = {name: float(values[index].mean()) for name, values in feature_maps().items()}
    strongest = max(drive, key=drive.__getitem__)
    assert strongest in rows.index[rows == rows.max()]
    foreign = max(value for name, value in drive.items() if name not in rows.index)
    assert foreign < drive[strongest] / 3


@every_place
def test_drive_at_the_centre_is_at_least_the_weight_of_the_row(region, letter):
    centre = centre_vertex(region, letter) + (10242 if letter == "R" else 0)
    for row in rows_of(region, letter).itertuples():
        assert feature_maps()[row.feature][centre] >= row.weight - 1e-6


def test_shared_features_do_not_add_up_where_regions_overlap():
    for name, values in feature_maps().items():
        largest = TABLE.loc[TABLE["feature"] == name, "weight"].abs().max()
        assert np.abs(values).max() <= largest + 1e-6, name


def test_spread_is_a_gaussian_that_ends_at_three_widths():
    point = rows_of("V1", "L").iloc[0][["x", "y", "z"]].to_numpy(float)
    narrow, wide = spread(point, "left", 5.0), spread(point, "left", 10.0)
    assert narrow.max() == wide.max() == 1
    assert narrow[narrow > 0].min() >= np.exp(-4.5) - 1e-9
    assert (wide >= narrow).all()
    # The same distance d gives exp(-d²/2w²): so wide = narrow ** (5 / 10)².
    both = narrow > 0
    np.testing.assert_allclose(wide[both], narrow[both] ** 0.25, rtol=1e-6)


def test_spread_runs_along_the_surface_and_not_through_the_gap_between_gyri():
    point = rows_of("V1", "L").iloc[0][["x", "y", "z"]].to_numpy(float)
    values = spread(point, "left", 10.0)
    centre = midsurface("left")[values.argmax()]
    straight = np.linalg.norm(midsurface("left") - centre, axis=1)
    reached = values > 0
    along = 10.0 * np.sqrt(-2 * np.log(values[reached]))
    assert (along >= straight[reached] - 1e-6).all()
    assert ((straight < 15) & ~reached).any()


def test_mni305_follows_the_matrix_of_freesurfer():
    # The example of FreeSurfer's wiki (CoordinateSystems, number 8) the other way round.
    back = to_mni305(np.array([[10.6695, -18.4055, 36.1363]]))
    np.testing.assert_allclose(back, [[10.0, -20.0, 35.0]], atol=0.05)


def test_a_medial_wall_that_reaches_into_a_region_is_cut_out_of_it(monkeypatch):
    whole = region_maps("fsaverage3")["V1_L"]
    wall = np.zeros(1284, bool)
    wall[whole.argmax()] = True
    monkeypatch.setattr(regions, "medial_wall", lambda space: wall)
    found = regions.region_maps.__wrapped__("fsaverage3")["V1_L"]
    np.testing.assert_array_equal(found, np.where(wall, 0, whole))


def test_regions_need_a_surface():
    with pytest.raises(InputError, match=r"outputs200.*fsaverage3"):
        region_vertices(find_space(None, 200))


def test_maps_cannot_be_changed_by_who_reads_them():
    values = region_maps("fsaverage3")["V1_L"]
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 5
