"""A response with the accuracy of its model: in its files and out of them, and not in the way."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import xarray as xr
import zarr

from bids_rules import assert_bids
from tribrain.brain.export import load_response
from tribrain.brain.response import Response
from tribrain.errors import InputError

LABELS = {"measure": "r", "study": "film study", "rows": 900, "long_name": "accuracy: r on it"}


def made(outputs: int = 1284, rows: int = 4) -> Response:
    rng = np.random.default_rng(0)
    return Response.from_rows(
        rng.normal(size=(rows, outputs)),
        lag=5.0,
        stimulus=np.arange(rows) < 3,
        space=None,
        attrs={
            "model": "made",
            "revision": "7",
            "licence": "CC0",
            "label": "made for a test",
            "subject": "unseen",
            "modalities": ["audio", "video"],
        },
        provenance={"stimulus": {"sha256": "aa", "file": "film.mp4", "notes": []}},
    )


def scored(outputs: int = 1284) -> Response:
    values = np.linspace(-0.2, 0.6, outputs)
    values[[3, outputs - 2]] = np.nan
    return made(outputs).with_accuracy(values, LABELS)


def test_accuracy_is_a_coordinate_and_none_where_it_is_not_known():
    assert made().accuracy is None
    response = scored()
    assert response.accuracy.dims == ("vertex",)
    assert response.accuracy.dtype == np.float32
    assert response.accuracy.attrs == LABELS
    assert np.isnan(response.accuracy.values[3])
    xr.testing.assert_identical(response.data.drop_vars("accuracy"), made().data)


@pytest.mark.parametrize("size", [1283, 1, 20484])
def test_accuracy_of_another_size_is_refused(size):
    with pytest.raises(InputError, match=f"the accuracy has {size} values"):
        made().with_accuracy(np.zeros(size), LABELS)


@pytest.mark.parametrize("outputs", [1284, 8802, 1000])
def test_a_saved_response_loads_with_its_accuracy(tmp_path, outputs):
    response = scored(outputs)
    response.save(tmp_path / "one", "film")
    loaded = load_response(tmp_path / "one")
    xr.testing.assert_identical(loaded.data, response.data)
    assert loaded.provenance == response.provenance
    loaded.save(tmp_path / "two", "film")
    xr.testing.assert_identical(load_response(tmp_path / "two").data, response.data)
    told = json.loads((tmp_path / "one" / "film_response.json").read_text())["accuracy"]
    assert {key: told[key] for key in LABELS} == LABELS


@pytest.mark.parametrize("outputs", [1284, 1000])
def test_npz_holds_the_accuracy(tmp_path, outputs):
    scored(outputs).save(tmp_path, "film", formats=["npz"])
    loaded = load_response(tmp_path / "film_response.npz")
    xr.testing.assert_identical(loaded.accuracy, scored(outputs).accuracy)
    made(outputs).save(tmp_path / "without", "film", formats=["npz"])
    assert load_response(tmp_path / "without" / "film_response.npz").accuracy is None


def test_gifti_has_a_map_a_hemisphere_beside_the_series(tmp_path):
    response = scored()
    response.save(tmp_path / "out", "film")
    made().save(tmp_path / "without", "film")
    stem = "sub-unseen_task-film_hemi-{}_space-fsaverage3_desc-accuracy_boldmap"
    files = {stem.format(side) + end for side in "LR" for end in (".func.gii", ".json")}
    there, without = (
        {path.name for path in (tmp_path / one).iterdir()} for one in ("out", "without")
    )
    assert there - without == files
    for side, part in (("L", slice(0, 642)), ("R", slice(642, None))):
        name = stem.format(side)
        assert_bids(tmp_path / "out" / f"{name}.func.gii")
        image = nib.load(tmp_path / "out" / f"{name}.func.gii")
        (array,) = image.darrays
        np.testing.assert_array_equal(array.data, response.accuracy.values[part])
        assert array.meta["Name"] == "accuracy: r on it"
        assert "TimeStep" not in array.meta
        sidecar = json.loads((tmp_path / "out" / f"{name}.json").read_text())
        assert sidecar["Description"].startswith("accuracy: r on it")
        assert "RepetitionTime" not in sidecar
        with pytest.raises(InputError, match="is no response"):
            load_response(tmp_path / "out" / f"{name}.func.gii")
    series = next((tmp_path / "out").glob("*hemi-L*_bold.func.gii"))
    np.testing.assert_array_equal(load_response(series).data.values, response.data.values)
    made().save(tmp_path / "out", "film")  # the maps go with the response that they belong to
    assert {path.name for path in (tmp_path / "out").iterdir()} == without


@pytest.mark.parametrize("how", ["value", "gone", "untold"])
def test_a_damaged_accuracy_is_refused(tmp_path, how):
    scored().save(tmp_path / "out", "film")
    store = tmp_path / "out" / "film_response.zarr"
    if how == "value":
        zarr.open_group(store)["accuracy"][5] = 0.9
    elif how == "gone":
        shutil.rmtree(store / "accuracy")
    else:
        description = store.with_suffix(".json")
        told = json.loads(description.read_text("utf-8"))
        del told["accuracy"]
        description.write_text(json.dumps(told), "utf-8")
    with pytest.raises(InputError, match="cannot be read as a response") as caught:
        load_response(store)
    assert "\n" not in str(caught.value)


def test_accuracy_is_not_in_the_way_of_what_a_response_does():
    response, plain = scored(), made()
    other = made().with_accuracy(np.ones(1284), LABELS)
    over = response.similarity(other, over="space")
    xr.testing.assert_identical(over, plain.similarity(made(), over="space"))
    assert over.sizes == {"time": 4}
    spans = [(0, 2)], [(2, 4)]
    np.testing.assert_array_equal(response.contrast(*spans), plain.contrast(*spans))
    assert response.peak() == plain.peak()
    assert response.telling_rows(2) == plain.telling_rows(2)
    assert response.region_table().equals(plain.region_table())
