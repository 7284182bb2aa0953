"""Recorded hidden states equal those that the models return themselves."""

from __future__ import annotations

import contextlib
import json

import pytest
import torch
from transformers import AutoModel

from tribrain.errors import InputError
from tribrain.features.backbones import BackboneFolder, find_backbone, load_backbone
from tribrain.features.recipe import FeatureRecipe

INPUTS = {
    "tiny-llama": ("text", {"input_ids": torch.arange(40)[None] % 90}),
    "tiny-w2v-bert": ("audio", {"input_features": torch.randn(1, 50, 160)}),
    "tiny-vjepa2": (
        "video",
        {"pixel_values_videos": torch.randn(1, 64, 3, 32, 32), "skip_predictor": True},
    ),
}
RECIPES = [
    FeatureRecipe(),
    FeatureRecipe(depths=(2 / 3,)),
    FeatureRecipe(depths=(0.0, 0.5, 1.0), aggregation="none"),
    FeatureRecipe(depths=(0.25, 1.0), aggregation="mean"),
    FeatureRecipe(depths=(0.0, 0.25, 0.5)),
    FeatureRecipe(depths=(0.0,)),
]


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: f"{r.aggregation}{len(r.depths)}")
def test_states_are_those_the_model_returns(backbones, name, recipe):
    modality, inputs = INPUTS[name]
    backbone = load_backbone(
        BackboneFolder(name, backbones / name, "local"), modality, recipe, "cpu"
    )
    layers = backbone.layers(inputs, lambda hidden: hidden.mean(dim=1))
    with torch.inference_mode():
        whole = AutoModel.from_pretrained(backbones / name).eval()
        states = whole(**inputs, output_hidden_states=True).hidden_states
    groups = recipe.layer_groups(len(states))
    assert len(layers) == len(groups)
    for layer, group in zip(layers, groups, strict=True):
        expected = torch.stack([states[i].mean(dim=1) for i in group]).mean(0)
        torch.testing.assert_close(layer, expected, atol=1e-5, rtol=1e-5)


def test_blocks_that_no_layer_needs_are_left_out(backbones):
    folder = BackboneFolder("tiny-llama", backbones / "tiny-llama", "local")
    backbone = load_backbone(folder, "text", FeatureRecipe(depths=(0.5,)), "cpu")
    assert len(backbone.model.layers) == 2


def test_group_means_are_those_of_the_recipe():
    assert FeatureRecipe().layer_groups(29) == [list(range(14, 21)), list(range(21, 29))]
    assert FeatureRecipe(depths=(2 / 3,)).layer_groups(25) == [[16]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"aggregation": "median"}, "known: group_mean, mean, none"),
        ({"depths": (0.5, 1.5)}, "must lie in"),
        ({"depths": (1.0, 0.5)}, "ascending"),
        ({"depths": ()}, "one at least"),
    ],
)
def test_a_wrong_recipe_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        FeatureRecipe(**settings)


def test_a_backbone_is_found_by_its_full_name_or_the_last_part(backbones, tmp_path):
    assert find_backbone("someone/tiny-llama", backbones).path == backbones / "tiny-llama"
    nested = tmp_path / "someone" / "model"
    nested.mkdir(parents=True)
    (nested / "config.json").write_text("{}")
    assert find_backbone("someone/model", tmp_path).path == nested


def test_a_backbone_that_is_nowhere_is_one_line(backbones, monkeypatch):
    import huggingface_hub

    def unreachable(*args, **kwargs):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(InputError, match=r"not in .* cannot be reached.*unsloth") as error:
        find_backbone("meta-llama/Llama-3.2-3B", backbones)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="no folder was given"):
        find_backbone("facebook/w2v-bert-2.0", None)
    with pytest.raises(InputError, match="is not a folder"):
        find_backbone("facebook/w2v-bert-2.0", backbones / "nothing")


def test_a_backbone_of_another_modality_is_refused(backbones):
    folder = BackboneFolder("tiny-llama", backbones / "tiny-llama", "local")
    with pytest.raises(InputError, match="'llama'; audio takes: wav2vec2-bert"):
        load_backbone(folder, "audio", FeatureRecipe(), "cpu")


@pytest.mark.parametrize("damage", ["weights", "truncated", "config"])
def test_a_damaged_backbone_is_one_line(backbones, tmp_path, damage):
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(backbones / "tiny-llama", tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    if damage == "weights":
        state = load_file(weights)
        del state["layers.1.mlp.up_proj.weight"]
        save_file(state, weights, metadata={"format": "pt"})
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:1000])
    else:
        (tmp_path / "model" / "config.json").write_text(json.dumps({"model_type": "unheard-of"}))
    with pytest.raises(InputError, match="backbone some/model") as error:
        load_backbone(
            BackboneFolder("some/model", tmp_path / "model", "local"),
            "text",
            FeatureRecipe(),
            "cpu",
        )
    assert "\n" not in str(error.value)


def test_nothing_in_a_models_folder_is_executed(backbones, tmp_path):
    import shutil

    shutil.copytree(backbones / "tiny-llama", tmp_path / "model")
    marker = tmp_path / "executed"
    (tmp_path / "model" / "hostile.py").write_text(f"open({str(marker)!r}, 'w')\n")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "hostile.Hostile", "AutoConfig": "hostile.Hostile"}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    folder = BackboneFolder("model", tmp_path / "model", "local")
    with contextlib.suppress(InputError):
        load_backbone(folder, "text", FeatureRecipe(), "cpu")
    assert not marker.exists()
