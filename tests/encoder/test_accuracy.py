"""The map of accuracy in a model's folder: read, checked, handed on to responses."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import makers
from network_makers import DIMS, small_encoder
from tribrain import cli
from tribrain.encoder.accuracy import FILE, Accuracy, attach_accuracy, read_accuracy, write_accuracy
from tribrain.encoder.adapters import Adapter, base_of, save_adapter
from tribrain.encoder.checkpoints import ModelCard, save_folder
from tribrain.encoder.ensemble_files import save_ensemble
from tribrain.encoder.ensembles import EnsembleModel
from tribrain.encoder.models import convert_model, load_model
from tribrain.errors import InputError, InputWarning
from tribrain.features.recipe import FeatureRecipe

WINDOW, OUTPUTS = 5, 1284
VALUES = np.linspace(-0.1, 0.5, OUTPUTS, dtype="f4")
VALUES[7] = np.nan
TOLD = {"measure": "r", "study": "simulated", "people": 2, "rows": 1200, "versions": {"x": "1"}}
LOADING = {"device": "cpu", "cache": False}


def accuracy(values=VALUES, space: str = "fsaverage3", **told) -> Accuracy:
    return Accuracy(values, {**TOLD, **told}, space)


def write_model(folder: Path, seed: int = 0, n_outputs=OUTPUTS, space="fsaverage3", **build):
    build = {
        "feature_dims": DIMS,
        "n_outputs": n_outputs,
        "n_output_samples": WINDOW,
        "n_subjects": 3,
        "hidden": 96,
        "depth": 1,
        "heads": 2,
        "max_samples": 16,
        "rank": 8,
        **build,
    }
    encoder = small_encoder(seed, **build)
    card = ModelCard(
        build, FeatureRecipe(), float(WINDOW), 5.0, space, {"s/01": 0, "s/02": 1}, "CC0",
        folder.name, "local", {},
    )  # fmt: skip
    save_folder(card, encoder, folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path / "made")


def features(seconds: int = 12) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(*dims, 2 * seconds)).astype("f4") for name, dims in DIMS.items()}


# --- the file -------------------------------------------------------------------------------------


def test_a_map_is_read_as_it_was_written(tmp_path):
    assert read_accuracy(tmp_path) is None
    write_accuracy(accuracy(), tmp_path)
    found = read_accuracy(tmp_path)
    assert found is not None
    np.testing.assert_array_equal(found.values, VALUES)
    assert (dict(found.told), found.space) == (TOLD, "fsaverage3")
    assert found.line == "r on simulated (2 people, 1,200 rows)"
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    write_accuracy(accuracy(VALUES[:3]), tmp_path)
    assert len(read_accuracy(tmp_path).values) == 3


@pytest.mark.parametrize(
    ("values", "told", "said"),
    [
        (VALUES[None], {}, r"shape \(1, 1284\)"),
        (np.empty(0), {}, "shape"),
        (np.array([0.1, np.inf]), {}, "infinite"),
        (VALUES, {"measure": None}, "measure"),
        (VALUES, {"study": 3}, "study"),
        (VALUES, {"mean": float("nan")}, "plain data"),
        (VALUES, {"rows": np.arange(3)}, "plain data"),
    ],
)
def test_what_is_no_map_is_refused(values, told, said):
    with pytest.raises(InputError, match=said):
        accuracy(values, **told)


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "cut":
        path.write_bytes(content[:-5])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        header = {"format": "tribrain-accuracy-1", "space": "fsaverage3", "told": json.dumps(TOLD)}
        values = load_file(path)["values"]
        changed = {
            "format": ({"values": values}, header | {"format": "other"}),
            "no header": ({"values": values}, None),
            "told": ({"values": values}, header | {"told": "{"}),
            "list": ({"values": values}, header | {"told": "[]"}),
            "name": ({"value": values}, header),
            "double": ({"values": values.astype(float)}, header),
        }
        save_file(changed[how][0], path, changed[how][1])


@pytest.mark.parametrize(
    "how", ["cut", "empty", "format", "no header", "told", "list", "name", "double"]
)
def test_a_damaged_map_is_refused_in_one_line(folder, how):
    attach_accuracy(folder, accuracy())
    damage(folder / FILE, how)
    with pytest.raises(InputError, match="is damaged") as caught:
        load_model(folder, **LOADING)
    assert str(folder / FILE) in str(caught.value)
    assert "\n" not in str(caught.value)
    attach_accuracy(folder, accuracy())  # evaluating it again mends it
    assert load_model(folder, **LOADING).accuracy is not None


# --- models ---------------------------------------------------------------------------------------


def test_a_model_without_a_map_says_nothing_of_its_accuracy(folder):
    model = load_model(folder, **LOADING)
    assert model.accuracy is None
    assert "accuracy" not in model.describe()
    response = model.predict(features=features())
    assert response.accuracy is None
    assert "accuracy" not in response.data.coords
    assert load_model("textbook").accuracy is None


def test_a_map_travels_with_its_model_into_the_response_and_its_files(folder, tmp_path):
    assert attach_accuracy(folder, accuracy()) == folder / FILE
    model = load_model(folder, **LOADING)
    np.testing.assert_array_equal(model.accuracy.values, VALUES)
    assert set(model.accuracy.told["sha256"]) == {"model.json", "model.safetensors"}
    told = model.describe()["accuracy"]
    assert told["line"] == "r on simulated (2 people, 1,200 rows)"
    assert -0.1 < told["median"] < 0.5
    response = model.predict(features=features(), subject="s/01")
    np.testing.assert_array_equal(response.accuracy.values, VALUES)
    assert response.accuracy.attrs["study"] == "simulated"
    assert response.provenance["model"]["accuracy"] == told
    loaded = tmp_path / "out"
    response.save(loaded, "film")
    from tribrain.brain.export import load_response

    np.testing.assert_array_equal(load_response(loaded).accuracy.values, VALUES)
    assert json.loads((loaded / "film_response.json").read_text())["accuracy"]["rows"] == 1200


def test_a_map_does_not_change_what_is_predicted(folder):
    before = load_model(folder, **LOADING).predict(features=features())
    attach_accuracy(folder, accuracy())
    after = load_model(folder, **LOADING).predict(features=features())
    np.testing.assert_array_equal(before.data.values, after.data.values)
    assert before.data.attrs == after.data.attrs


@pytest.mark.parametrize(
    ("values", "space"), [(VALUES[:-1], "fsaverage3"), (VALUES, "fsaverage4"), (VALUES, "")]
)
def test_a_map_of_another_size_or_space_is_not_attached_nor_read(folder, values, space):
    with pytest.raises(InputError, match=r"the model predicts fsaverage3 \(1284\)"):
        attach_accuracy(folder, accuracy(values, space))
    assert not (folder / FILE).exists()
    attach_accuracy(folder, accuracy())
    checksums = read_accuracy(folder).told["sha256"]
    write_accuracy(accuracy(values, space, sha256=checksums), folder)
    with pytest.raises(InputError, match=r"the model predicts fsaverage3 \(1284\)"):
        load_model(folder, **LOADING)


def test_a_map_of_other_weights_is_left_out_and_that_is_said(folder):
    attach_accuracy(folder, accuracy())
    write_model(folder, seed=1)  # trained anew in the same place
    with pytest.warns(InputWarning, match="accuracy of another model") as said:
        model = load_model(folder, **LOADING)
    assert model.accuracy is None
    assert len(said) == 1


def test_a_map_lies_in_folders_alone():
    with pytest.raises(InputError, match="is no folder"):
        attach_accuracy("textbook", accuracy())


def test_a_run_folder_stands_for_its_model(tmp_path):
    write_model(tmp_path / "run" / "model")
    assert attach_accuracy(tmp_path / "run", accuracy()) == tmp_path / "run" / "model" / FILE
    assert load_model(tmp_path / "run", **LOADING).accuracy is not None


def test_spaces_have_the_map_of_one_of_them(tmp_path):
    sizes = {"fsaverage3": OUTPUTS, "tens": 10}
    folder = write_model(
        tmp_path / "two", n_outputs=sizes, space=None, n_subjects={"fsaverage3": 1, "tens": 2}
    )
    card = json.loads((folder / "model.json").read_text())
    card["subjects"] = {"s/01": 1}
    (folder / "model.json").write_text(json.dumps(card))
    attach_accuracy(folder, accuracy(VALUES[10:20], "tens"))
    model = load_model(folder, **LOADING)
    assert model.predict(features=features()).accuracy is None
    assert model.predict(features=features(), space="fsaverage3").accuracy is None
    found = model.predict(features=features(), subject="s/01").accuracy
    np.testing.assert_array_equal(found.values, VALUES[10:20])
    assert model.describe()["accuracy"]["space"] == "tens"


def test_published_checkpoints_keep_their_map_when_converted(tmp_path):
    config = makers.published_config(
        brain_model_config__hidden=96, brain_model_config__max_seq_len=8, data__duration_trs=4
    )
    weights = makers.published_weights(config, n_outputs=OUTPUTS)
    folder = makers.make_published_checkpoint(tmp_path / "published", config, weights)
    attach_accuracy(folder, accuracy())
    with pytest.warns(InputWarning, match="CC BY-NC"):
        convert_model(folder, tmp_path / "own")
    with pytest.warns(InputWarning, match="CC BY-NC"):
        model = load_model(tmp_path / "own", **LOADING)
    np.testing.assert_array_equal(model.accuracy.values, VALUES)
    assert "model.safetensors" in model.accuracy.told["sha256"]


def test_an_ensemble_has_its_own_map_and_not_that_of_members(tmp_path):
    places = [write_model(tmp_path / f"m{seed}", seed) for seed in (0, 1)]
    for place in places:
        attach_accuracy(place, accuracy())
    ensemble = EnsembleModel([load_model(place, **LOADING) for place in places])
    save_ensemble(ensemble, tmp_path / "both", places, copy=True)
    assert load_model(tmp_path / "both", **LOADING).accuracy is None
    (member, _) = sorted((tmp_path / "both" / "members").iterdir())
    assert load_model(member, **LOADING).accuracy is not None  # a copy is the whole model
    attach_accuracy(tmp_path / "both", accuracy(VALUES + 1, study="other"))
    model = load_model(tmp_path / "both", **LOADING)
    np.testing.assert_array_equal(model.accuracy.values, VALUES + 1)
    assert model.describe()["accuracy"]["study"] == "other"
    response = model.predict(features=features())
    np.testing.assert_array_equal(response.accuracy.values, VALUES + 1)
    # Other weights of the members: another ensemble, though of the same models.
    ensemble.weights[:] = [[0.25], [0.75]]
    save_ensemble(ensemble, tmp_path / "both", places, copy=True)
    with pytest.warns(InputWarning, match="accuracy of another model"):
        assert load_model(tmp_path / "both", **LOADING).accuracy is None


def write_adapter(base: Path, folder: Path, n_outputs: int = OUTPUTS, prior: bool = True) -> Path:
    model = load_model(base, **LOADING)
    tensors = {"rows.0.weight": torch.zeros(8, n_outputs), "rows.0.bias": torch.ones(n_outputs)}
    space = model.space.name if prior else "tens"
    adapter = Adapter(
        "new", "ridge", ("t/9",), space, n_outputs, prior, base_of(model, base, folder), tensors
    )
    save_adapter(adapter, folder)
    return folder


def test_an_adapter_has_the_map_of_its_model_until_it_has_its_own(folder, tmp_path):
    attach_accuracy(folder, accuracy())
    adapted = write_adapter(folder, tmp_path / "adapter")
    model = load_model(adapted, **LOADING)
    np.testing.assert_array_equal(model.accuracy.values, VALUES)
    assert model.accuracy.told["adapted_from"] == "made"
    assert model.predict(features=features()).accuracy.attrs["adapted_from"] == "made"
    attach_accuracy(adapted, accuracy(VALUES / 2, study="t"))
    model = load_model(adapted, **LOADING)
    np.testing.assert_array_equal(model.accuracy.values, VALUES / 2)
    assert "adapted_from" not in model.accuracy.told
    assert set(model.accuracy.told["sha256"]) == {"adapter.json", "adapter.safetensors"}


def test_an_adapter_to_another_space_has_no_map_of_its_model(folder, tmp_path):
    attach_accuracy(folder, accuracy())
    adapted = write_adapter(folder, tmp_path / "adapter", n_outputs=10, prior=False)
    model = load_model(adapted, **LOADING)
    assert model.accuracy is None
    assert model.predict(features=features()).accuracy is None


def test_models_info_tells_the_accuracy(folder, capsys, monkeypatch):
    attach_accuracy(folder, accuracy())
    monkeypatch.setattr(sys, "argv", ["tribrain", "models", "info", str(folder)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    told = json.loads(capsys.readouterr().out)["accuracy"]
    assert (told["study"], told["measure"], told["rows"]) == ("simulated", "r", 1200)


def test_a_copied_folder_keeps_its_map(folder, tmp_path):
    attach_accuracy(folder, accuracy())
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert load_model(tmp_path / "elsewhere", **LOADING).accuracy is not None
