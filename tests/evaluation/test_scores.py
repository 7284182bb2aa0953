"""Scores of arrays are those of scipy and scikit-learn; means, ceilings, regions, networks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import explained_variance_score, r2_score

from tribrain.brain.atlas_regions import Region
from tribrain.brain.atlases import Atlas, groups, load_atlas
from tribrain.brain.meshes import medial_wall
from tribrain.brain.spaces import mesh_space, parcel_space
from tribrain.errors import InputError
from tribrain.evaluation import scores as module
from tribrain.evaluation.scores import (
    by_network,
    by_region,
    mean_over,
    networks,
    normalise,
    predictivity,
    score,
)
from tribrain.studies.intersubject import leave_one_out
from tribrain.studies.song import SPACE as SCHAEFER


def series(rows: int, outputs: int, seed: int = 0, noise: float = 1.0):
    """A prediction, and what was measured."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, outputs)).astype("f4")
    return x, (x + noise * rng.normal(size=x.shape)).astype("f4")


def test_scores_are_those_of_scipy_and_scikit_learn():
    x, y = series(400, 6)
    y[:, 1] = 3.0
    y[5:, 2] = np.nan
    y[::4, 3] = np.nan
    x[:, 4] = np.nan
    found = score(x, y)
    for output in (0, 2, 3, 5):
        there = ~np.isnan(y[:, output])
        one, other = x[there, output].astype(float), y[there, output].astype(float)
        assert found.n[output] == there.sum()
        assert found.r[output] == pytest.approx(pearsonr(one, other).statistic, abs=1e-12)
        assert found.r2[output] == pytest.approx(r2_score(other, one), abs=1e-12)
        explained = explained_variance_score(other, one)
        assert found.explained_variance[output] == pytest.approx(explained, abs=1e-12)
    for values in (found.r, found.r2, found.explained_variance):
        assert np.isnan(values[[1, 4]]).all()
        assert values.dtype == np.float64


def test_nothing_is_clipped():
    x, _ = series(200, 1)
    worse = score(-3 * x + 1, x)
    assert worse.r[0] == pytest.approx(-1)
    assert worse.explained_variance[0] == pytest.approx(1 - 16)
    assert worse.r2[0] < 1 - 16


def test_predictivity_is_that_of_all_outputs_at_once(monkeypatch):
    values = np.random.default_rng(0).normal(size=(4, 50, 23))
    values[1, :, 3] = np.nan
    monkeypatch.setattr(module, "_BLOCK", 4 * 50 * 5)
    np.testing.assert_array_equal(predictivity(values), leave_one_out(values))
    with pytest.raises(InputError, match="two subjects"):
        predictivity(values[:1])
    with pytest.raises(InputError, match="fits"):
        predictivity(values[0])


def test_means_of_numbers():
    values = np.array([1.0, np.nan, 3.0, np.inf, 8.0])
    assert mean_over(values) == 4
    assert mean_over(values, np.array([True, True, True, True, False])) == 2
    assert np.isnan(mean_over(values, values > 100))
    assert np.isnan(mean_over(np.empty(0)))
    with pytest.raises(InputError, match="one each fits"):
        mean_over(values, np.ones(4, bool))


# --- ceilings


def test_normalised_scores_leave_out_what_has_no_ceiling():
    raw = np.array([0.3, 0.5, -0.2, 0.9, np.nan, 0.1])
    ceiling = np.array([0.6, 0.4, 0.5, 0.05, 0.7, np.nan])
    found = normalise(raw, ceiling)
    np.testing.assert_allclose(found.normalised, [0.5, 1.25, -0.4, np.nan, np.nan, np.nan])
    assert (found.counted, found.left_out) == (3, 2)
    assert found.mean_raw == pytest.approx((0.3 + 0.5 - 0.2 + 0.9 + 0.1) / 5)
    assert found.mean_ceiling == pytest.approx(0.5)
    assert found.mean_normalised == pytest.approx((0.5 + 1.25 - 0.4) / 3)
    assert normalise(raw, ceiling, least=0.55).counted == 1
    nothing = normalise(raw, np.full(6, -0.3))
    assert (nothing.counted, nothing.left_out) == (0, 5)
    assert np.isnan(nothing.mean_normalised)
    with pytest.raises(InputError, match="above 0"):
        normalise(raw, ceiling, least=0.0)
    with pytest.raises(InputError, match="one shape"):
        normalise(raw, ceiling[:3])


# --- regions and networks


def test_regions_of_an_atlas_are_means_of_what_has_a_number():
    space = mesh_space("fsaverage3")
    parts = {"V1_L": np.arange(10), "A5_L": np.arange(10, 13), "V1_R": np.array([700, 701])}
    sides = ("left", "left", "right")
    regions = tuple(
        Region(name, name[:-2], side, vertices)
        for (name, vertices), side in zip(parts.items(), sides, strict=True)
    )
    atlas = Atlas("two", space, regions, "a test", "glasser")
    values = np.arange(float(space.size))
    values[[2, 11]] = np.nan
    values[[700, 701]] = np.nan
    table = by_region(np.stack([values, values**2]), atlas, ["r", "square"])
    assert list(table.columns) == [
        "region",
        "hemisphere",
        "outputs",
        "r",
        "square outputs",
        "square",
    ]
    assert table["region"].tolist() == list(parts)
    assert table["hemisphere"].tolist() == list(sides)
    assert table["outputs"].tolist() == [9, 2, 0]
    np.testing.assert_allclose(table["r"], [43 / 9, 11, np.nan])
    assert table["square"][1] == (100 + 144) / 2
    assert by_region(values, atlas)["value"][1] == 11
    with pytest.raises(InputError, match="has 3 values"):
        by_region(values[:3], atlas)
    with pytest.raises(InputError, match="1 names of 2 maps"):
        by_region(np.stack([values, values]), atlas, ["r"])
    with pytest.raises(InputError, match="no parcels"):
        by_region(values, space)


def test_textbook_regions_leave_out_the_medial_wall():
    space = mesh_space("fsaverage3")
    atlas = load_atlas("textbook", space)
    values = np.where(medial_wall("fsaverage3"), 1e9, 1.0)
    table = by_region(values, atlas)
    np.testing.assert_allclose(table["value"], 1.0)
    found = by_network(values, atlas)
    assert tuple(found["network"]) == groups(atlas)
    np.testing.assert_allclose(found["value"], 1.0)


def test_networks_are_told_by_the_names_of_parcels():
    found = networks(SCHAEFER)
    assert {name: len(part) for name, part in found.items()} == {
        "Vis": 29, "SomMot": 35, "DorsAttn": 26, "SalVentAttn": 22, "Limbic": 12, "Cont": 30,
        "Default": 46,
    }  # fmt: skip
    assert sorted(np.concatenate(list(found.values()))) == list(range(200))
    values = np.zeros(200)
    values[found["Limbic"]] = np.arange(12.0)
    values[found["Limbic"][0]] = np.nan
    table = by_network(values, SCHAEFER).set_index("network")
    assert table.loc["Limbic", "value"] == 6
    assert table.loc["Limbic", "outputs"] == 11
    assert table.loc["Vis", "value"] == 0
    names = by_region(values, SCHAEFER)
    assert names["region"].tolist() == list(SCHAEFER.parcels)
    assert names["hemisphere"].value_counts().to_dict() == {"left": 100, "right": 100}


@pytest.mark.parametrize(
    ("parcels", "expected"),
    [
        (["17Networks_LH_DefaultA_PFCm_2", "17Networks_RH_DefaultA_IPL_1", "17Networks_LH_Aud_3"],
         {"DefaultA": [0, 1], "Aud": [2]}),
        (["LH_Vis_1", "RH_SomMot_12"], {"Vis": [0], "SomMot": [1]}),
        (["7Networks_1", "7Networks_2"], {}),
        (["V1_L", "Left Thalamus"], {}),
    ],
)  # fmt: skip
def test_networks_of_other_names(parcels, expected):
    space = parcel_space("some", parcels)
    assert {name: part.tolist() for name, part in networks(space).items()} == expected
    table = by_network(np.zeros(len(parcels)), space)
    assert table["network"].tolist() == list(expected)
    assert list(table.columns) == ["network", "outputs", "value"]
