"""The published names of weights become ours, whatever their maps' layers."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

import makers
from published_makers import HIDDEN, small_checkpoint
from tribrain.encoder.checkpoints import load_folder
from tribrain.encoder.network import Encoder
from tribrain.encoder.published import rename, rename_mlps


def head_whole(name: str) -> str:
    """Name of the published head, which holds all rows in one, for that of a row."""
    return re.sub(r"^head\.rows\.\d+\.", "head.", name)


# --- names of weights ----------------------------------------------------------------------------


@pytest.mark.golden
@pytest.mark.parametrize("folder", ["checkpoint-tiny", "end-to-end/checkpoint"])
def test_golden_weight_names_map_one_to_one_onto_ours(golden, folder):
    content = torch.load(golden / folder / "best.ckpt", weights_only=True)
    names = [name.removeprefix("model.") for name in content["state_dict"]]
    ours = [rename(name) for name in names]
    assert len(set(ours)) == len(names)
    state = load_folder(golden / folder)[1].state_dict()
    assert set(ours) == {head_whole(name) for name in state}


@pytest.mark.golden
def test_golden_weights_keep_their_values_under_our_names(golden):
    content = torch.load(golden / "checkpoint-tiny" / "best.ckpt", weights_only=True)
    encoder = load_folder(golden / "checkpoint-tiny")[1]
    state = encoder.state_dict()
    for name, value in content["state_dict"].items():
        ours = rename(name.removeprefix("model."))
        held = [one.flatten() for key, one in state.items() if head_whole(key) == ours]
        assert torch.equal(torch.cat(held), value.float().flatten()), name


@pytest.mark.parametrize(
    ("published", "ours"),
    [
        ("time_pos_embed", "position"),
        ("low_rank_head.weight", "low_rank.weight"),
        ("predictor.weights", "head.weight"),
        ("predictor.bias", "head.bias"),
        ("encoder.final_norm.g", "final_norm.gain"),
        ("encoder.rotary_pos_emb.inv_freq", "inverse_frequencies"),
        ("encoder.layers.0.0.0.g", "blocks.0.attention_norm.gain"),
        ("encoder.layers.1.0.0.g", "blocks.0.feedforward_norm.gain"),
        ("encoder.layers.14.1.to_q.weight", "blocks.7.attention.query.weight"),
        ("encoder.layers.10.1.to_out.weight", "blocks.5.attention.out.weight"),
        ("encoder.layers.11.1.ff.0.0.bias", "blocks.5.feedforward.0.bias"),
        ("encoder.layers.3.1.ff.2.weight", "blocks.1.feedforward.2.weight"),
        ("encoder.layers.2.2.residual_scale", "blocks.1.attention_residual"),
        ("encoder.layers.3.2.residual_scale", "blocks.1.feedforward_residual"),
        ("projectors.text.weight", "projectors.text.weight"),
        ("temporal_smoothing.weight", "smoothing.weight"),
    ],
)
def test_names_are_translated(published, ours):
    assert rename(published) == ours


@pytest.mark.parametrize(
    "name",
    [
        "encoder.layers.0.1.ff.0.0.weight",  # feed-forward where attention stands
        "encoder.layers.1.1.to_q.weight",
        "encoder.layers.0.1.to_q.bias_of_something.g",
        "something.else",
    ],
)
def test_names_that_have_no_place_here_stay_strangers(name):
    encoder = load_names(HIDDEN)
    assert rename(name) not in encoder


def load_names(hidden: int) -> set[str]:
    with torch.device("meta"):
        encoder = Encoder(
            feature_dims=makers.FEATURE_DIMS,
            n_outputs=2,
            n_output_samples=2,
            hidden=hidden,
            depth=2,
            heads=3,
        )
    return set(encoder.state_dict())


# --- maps of several layers, numbered as torchvision's MLP does ----------------------------------


def torchvision_mlp(sizes: list[int], *, norm: bool, bias: bool = True) -> nn.Sequential:
    """Linear (norm) GELU Dropout for each hidden width, then Linear Dropout; random weights."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes[:-1]):
        layers.append(nn.Linear(n_in, n_out, bias=bias))
        layers += [nn.LayerNorm(n_out)] if norm else []
        layers += [nn.GELU(), nn.Dropout(0.1)]
    layers += [nn.Linear(sizes[-2], sizes[-1], bias=bias), nn.Dropout(0.1)]
    made = nn.Sequential(*layers)
    for weight in made.parameters():
        nn.init.normal_(weight, std=0.5)
    return made.eval().requires_grad_(False)


def with_projectors(folder: Path, hidden_sizes: list[int] | None, *, norm: bool, bias: bool):
    """A checkpoint with torchvision-style projectors; the maps and the encoder loaded."""
    config, weights = small_checkpoint(
        brain_model_config__projector={
            "hidden_sizes": hidden_sizes,
            "norm_layer": "layer" if norm else None,
            "activation_layer": "gelu",
            "bias": bias,
        }
    )
    weights = {name: value for name, value in weights.items() if "projectors" not in name}
    maps = {}
    for name, (layers, dim) in makers.FEATURE_DIMS.items():
        sizes = [layers * dim, *(hidden_sizes or []), HIDDEN // 3]
        maps[name] = torchvision_mlp(sizes, norm=norm, bias=bias)
        for key, value in maps[name].state_dict().items():
            weights[f"projectors.{name}.{key}"] = value
    makers.make_published_checkpoint(folder, config, weights)
    return maps, load_folder(folder)[1]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("hidden_sizes", [[], [10], [10, 7], [10, 7, 9]])
def test_projectors_saved_by_torchvision_s_numbers_compute_the_same(
    tmp_path, hidden_sizes, norm, bias
):
    torch.manual_seed(0)
    maps, encoder = with_projectors(tmp_path, hidden_sizes, norm=norm, bias=bias)
    features = {
        name: torch.randn(2, layers, dim, 6) for name, (layers, dim) in makers.FEATURE_DIMS.items()
    }
    expected = [
        maps[name](series.flatten(1, 2).transpose(1, 2)) for name, series in features.items()
    ]
    fused = encoder.fuse(features)
    assert fused.std() > 0.1
    torch.testing.assert_close(fused, torch.cat(expected, dim=-1))
    assert encoder(features).shape == (2, 100, 3)


def test_projectors_of_the_published_layout_have_the_numbers_that_are_published():
    names = list(torchvision_mlp([4, 3, 2], norm=True).state_dict())
    assert names == ["0.weight", "0.bias", "1.weight", "1.bias", "4.weight", "4.bias"]
    renamed = rename_mlps([f"projectors.text.{name}" for name in names])
    assert [name.removeprefix("projectors.text.") for name in renamed.values()] == [
        "0.weight",
        "0.bias",
        "1.weight",
        "1.bias",
        "3.weight",
        "3.bias",
    ]


def test_numbers_of_dropout_layers_that_are_not_there_do_not_matter():
    plain = nn.Sequential(nn.Linear(4, 3), nn.GELU(), nn.Linear(3, 2))
    renamed = rename_mlps([f"combiner.{name}" for name in plain.state_dict()])
    assert all(name == ours for name, ours in renamed.items())


def test_renaming_maps_leaves_all_other_names_alone():
    names = ["projectors.text.weight", "predictor.bias", "encoder.layers.1.1.ff.0.0.weight"]
    assert rename_mlps(names) == {}


def with_combiner(folder: Path, hidden_sizes: list[int], *, norm: bool, projector_norm: bool):
    config, weights = small_checkpoint(
        brain_model_config__combiner={
            "hidden_sizes": hidden_sizes,
            "norm_layer": "layer" if norm else None,
            "activation_layer": "gelu",
            "bias": True,
        },
        brain_model_config__projector__norm_layer="layer" if projector_norm else None,
    )
    made = torchvision_mlp([HIDDEN, *hidden_sizes, HIDDEN], norm=norm)
    weights |= {f"combiner.{key}": value for key, value in made.state_dict().items()}
    makers.make_published_checkpoint(folder, config, weights)
    return made, load_folder(folder)[1]


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("hidden_sizes", [[], [10], [10, 7]])
def test_a_combiner_saved_by_torchvision_s_numbers_computes_the_same(tmp_path, hidden_sizes, norm):
    torch.manual_seed(0)
    made, encoder = with_combiner(tmp_path, hidden_sizes, norm=norm, projector_norm=norm)
    x = torch.randn(2, 5, HIDDEN)
    torch.testing.assert_close(encoder.combiner(x), made(x))


@pytest.mark.parametrize("norm", [True, False])
def test_the_combiner_s_norm_is_its_own_and_not_the_projector_s(tmp_path, norm):
    made, encoder = with_combiner(tmp_path, [10], norm=norm, projector_norm=not norm)
    x = torch.randn(2, 5, HIDDEN)
    torch.testing.assert_close(encoder.combiner(x), made(x))


def test_the_combiner_s_bias_is_its_own_and_not_the_projector_s(tmp_path):
    config, weights = small_checkpoint(
        brain_model_config__combiner={"hidden_sizes": [10], "norm_layer": None, "bias": False}
    )
    made = torchvision_mlp([HIDDEN, 10, HIDDEN], norm=False, bias=False)
    weights |= {f"combiner.{key}": value for key, value in made.state_dict().items()}
    makers.make_published_checkpoint(tmp_path, config, weights)
    x = torch.randn(2, 5, HIDDEN)
    torch.testing.assert_close(load_folder(tmp_path)[1].combiner(x), made(x))


def test_a_linear_combiner_has_no_number(tmp_path):
    config, weights = small_checkpoint(brain_model_config__combiner={"hidden_sizes": None})
    weights["combiner.weight"] = torch.randn(HIDDEN, HIDDEN)
    weights["combiner.bias"] = torch.randn(HIDDEN)
    makers.make_published_checkpoint(tmp_path, config, weights)
    encoder = load_folder(tmp_path)[1]
    assert torch.equal(encoder.combiner.weight, weights["combiner.weight"])
