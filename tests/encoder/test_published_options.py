"""The published configuration's recipe and options, and the networks it can ask for."""

from __future__ import annotations

import pytest
import torch

import makers
from published_makers import HIDDEN, small_checkpoint
from tribrain.encoder.checkpoints import load_folder
from tribrain.encoder.published import build_arguments, feature_recipe, get
from tribrain.errors import InputError

BUILD = {"feature_dims": {"text": (2, 24)}, "n_outputs": 7, "n_output_timesteps": 100}


# --- recipe and options --------------------------------------------------------------------------


def test_get_follows_dots_and_gives_the_default_where_a_part_is_missing():
    config = {"a": {"b": {"c": 0}, "n": None}}
    assert get(config, "a.b.c") == 0
    assert get(config, "a.b") == {"c": 0}
    for key in ("x", "a.x", "a.b.c.d", "a.n.c"):
        assert get(config, key, "none") == "none"
    assert get(config, "a.n", "none") is None


def test_the_mini_recipe_is_one_state_a_modality():
    config = makers.published_config(
        data__layers_to_use=2 / 3, data__text_feature__model_name="Qwen/Qwen3-0.6B"
    )
    recipe = feature_recipe(config)
    assert recipe.depths == (2 / 3,)
    assert recipe.backbones["text"] == "Qwen/Qwen3-0.6B"
    assert recipe.layer_groups(29) == [[18]]


def test_one_depth_in_a_list_is_one_state_too():
    recipe = feature_recipe(makers.published_config(data__layers_to_use=[0.5]))
    assert recipe.layer_groups(5) == [[2]]


@pytest.mark.parametrize(
    ("aggregation", "groups"),
    [
        ("group_mean", [[4, 5], [6, 7, 8]]),
        ("mean", [[4, 6, 8]]),
        ("none", [[4], [6], [8]]),
        (None, [[4], [6], [8]]),
    ],
)
def test_layer_aggregation_is_read(aggregation, groups):
    recipe = feature_recipe(makers.published_config(data__layer_aggregation=aggregation))
    assert recipe.layer_groups(9) == groups


def test_clock_clip_and_modalities_are_read():
    config = makers.published_config(
        data__frequency=4, data__video_feature__clip_duration=2.5, data__features_to_use=["video"]
    )
    recipe = feature_recipe(config)
    assert (recipe.frequency, recipe.clip_seconds) == (4.0, 2.5)
    assert recipe.backbones == {"video": "tiny-vjepa2"}


@pytest.mark.parametrize("modality", ["text", "audio", "video"])
def test_a_modality_without_a_backbone_is_told(modality):
    config = makers.published_config(**{f"data__{modality}_feature": {}})
    with pytest.raises(InputError, match=f"{modality}_feature"):
        feature_recipe(config)


@pytest.mark.parametrize(("depths", "told"), [([0.5, 1.5], "1.5"), ([], "depth"), ([1, 0], "asc")])
def test_depths_that_make_no_sense_are_told(depths, told):
    with pytest.raises(InputError, match=told):
        feature_recipe(makers.published_config(data__layers_to_use=depths))


def test_an_unknown_layer_aggregation_is_told():
    with pytest.raises(InputError, match=r"'median'.*group_mean"):
        feature_recipe(makers.published_config(data__layer_aggregation="median"))


def test_without_layers_to_use_the_features_own_layers_count():
    config = makers.published_config(
        data__layers_to_use=None, data__text_feature={"model_name": "tiny-llama", "layers": 0.5}
    )
    config["data"]["audio_feature"]["layers"] = 0.5
    config["data"]["video_feature"]["image"]["layers"] = 0.5
    assert feature_recipe(config).depths == (0.5,)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("linear_baseline", True),
        ("subject_embedding", True),
        ("encoder.cross_attend", True),
        ("encoder.causal", True),
        ("encoder.use_scalenorm", False),
        ("encoder.use_rmsnorm", True),
        ("encoder.rel_pos_bias", True),
        ("encoder.alibi_pos_bias", True),
        ("encoder.rotary_pos_emb", False),
        ("encoder.rotary_xpos", True),
        ("encoder.residual_attn", True),
        ("encoder.scale_residual", False),
        ("projector.activation_layer", "relu"),
        ("projector.norm_layer", "batch"),
        ("combiner.activation_layer", "relu"),
        ("combiner.norm_layer", "batch"),
    ],
)
def test_an_option_that_the_network_lacks_is_refused_by_name(option, value):
    config = makers.published_config()
    model = config["brain_model_config"]
    model["combiner"] = {"hidden_sizes": [4], "norm_layer": "layer", "activation_layer": "gelu"}
    build_arguments(config, BUILD, {})
    *parents, last = option.split(".")
    place = model
    for parent in parents:
        place = place[parent]
    place[last] = value
    with pytest.raises(InputError, match=rf"brain_model_config\.{option} to {value!r}") as caught:
        build_arguments(config, BUILD, {})
    assert "\n" not in str(caught.value)


def test_options_that_are_left_out_have_the_published_values():
    arguments = build_arguments({"brain_model_config": {}}, BUILD, {})
    assert (arguments["hidden"], arguments["depth"], arguments["heads"]) == (1152, 8, 8)
    assert (arguments["widening"], arguments["max_samples"]) == (4, 1024)
    assert arguments["position_embedding"] is True
    assert arguments["combiner_sizes"] is None


@pytest.mark.parametrize("config", [{}, {"brain_model_config": None}, {"brain_model_config": [1]}])
def test_a_configuration_without_a_model_is_told(config):
    with pytest.raises(InputError, match="brain_model_config"):
        build_arguments(config, BUILD, {})


@pytest.mark.parametrize(
    "given",
    [
        {},
        {**BUILD, "n_outputs": None},
        {**BUILD, "n_output_timesteps": "many"},
        {**BUILD, "feature_dims": None},
        {**BUILD, "feature_dims": {"text": 5}},
        {**BUILD, "feature_dims": {"text": ("two", 3)}},
        None,
        [],
    ],
)
def test_damaged_build_arguments_are_told(given):
    with pytest.raises(InputError, match="model_build_args are damaged") as caught:
        build_arguments(makers.published_config(), given, {})
    assert "\n" not in str(caught.value)


def test_feature_dims_of_one_state_are_one_layer():
    given = {**BUILD, "feature_dims": {"text": (24,), "audio": (3, 8), "video": None}}
    arguments = build_arguments(makers.published_config(), given, {})
    assert arguments["feature_dims"] == {"text": (1, 24), "audio": (3, 8), "video": None}
    assert list(arguments["feature_dims"]) == ["text", "audio", "video"]


BROKEN = {
    "data": None,
    "data__layers_to_use": "half",
    "data__features_to_use": 5,
    "data__frequency": None,
    "data__duration_trs": "long",
    "data__neuro__offset": None,
    "data__subject_id__predefined_mapping": [1],
    "data__video_feature__clip_duration": "short",
    "brain_model_config__hidden": None,
    "brain_model_config__encoder__depth": "deep",
    "brain_model_config__low_rank_head": "low",
    "brain_model_config__projector__hidden_sizes": 5,
}


@pytest.mark.parametrize("key", BROKEN)
def test_a_value_of_the_wrong_kind_is_refused_in_one_line(tmp_path, key):
    weights = small_checkpoint()[1]
    changed = makers.published_config(**{key: BROKEN[key]})
    if key != "brain_model_config__hidden":
        changed["brain_model_config"]["hidden"] = HIDDEN
    folder = makers.make_published_checkpoint(tmp_path, changed, weights)
    with pytest.raises(InputError) as caught:
        load_folder(folder)
    assert "\n" not in str(caught.value)


def test_smoothing_without_its_weights_is_refused(tmp_path):
    config, weights = small_checkpoint(
        brain_model_config__temporal_smoothing={"kernel_size": 9, "sigma": 1.0}
    )
    folder = makers.make_published_checkpoint(tmp_path, config, weights)
    with pytest.raises(InputError, match="temporal_smoothing"):
        load_folder(folder)


# --- variants of the network that a checkpoint can ask for ---------------------------------------


def test_a_smoothing_filter_with_weights_is_read(tmp_path):
    config, weights = small_checkpoint(brain_model_config__temporal_smoothing={"kernel_size": 5})
    weights["temporal_smoothing.weight"] = torch.randn(HIDDEN, 1, 5)
    makers.make_published_checkpoint(tmp_path, config, weights)
    encoder = load_folder(tmp_path)[1]
    assert torch.equal(encoder.smoothing.weight, weights["temporal_smoothing.weight"])


def test_the_widening_of_the_feed_forward_is_read(tmp_path):
    config, weights = small_checkpoint(brain_model_config__encoder__ff_mult=2)
    for layer in ("encoder.layers.1.1.ff", "encoder.layers.3.1.ff"):
        weights[f"{layer}.0.0.weight"] = torch.randn(2 * HIDDEN, HIDDEN)
        weights[f"{layer}.0.0.bias"] = torch.randn(2 * HIDDEN)
        weights[f"{layer}.2.weight"] = torch.randn(HIDDEN, 2 * HIDDEN)
    makers.make_published_checkpoint(tmp_path, config, weights)
    encoder = load_folder(tmp_path)[1]
    assert torch.equal(encoder.blocks[1].feedforward[0].bias, weights[f"{layer}.0.0.bias"])


def test_a_checkpoint_without_low_rank_head_is_read(tmp_path):
    config, weights = small_checkpoint(brain_model_config__low_rank_head=None)
    makers.make_published_checkpoint(tmp_path, config, weights)
    encoder = load_folder(tmp_path)[1]
    assert encoder.low_rank is None
    assert [tuple(row.weight.shape) for row in encoder.head.rows] == [(HIDDEN, 3)] * 3


def test_a_checkpoint_without_position_embedding_is_read(tmp_path):
    config, weights = small_checkpoint(brain_model_config__time_pos_embedding=False)
    del weights["time_pos_embed"]
    makers.make_published_checkpoint(tmp_path, config, weights)
    assert load_folder(tmp_path)[1].position is None


def test_layer_mean_and_modality_sum_are_read(tmp_path):
    config, weights = small_checkpoint(
        brain_model_config__layer_aggregation="mean",
        brain_model_config__extractor_aggregation="sum",
    )
    for name, (_, dim) in makers.FEATURE_DIMS.items():
        weights[f"projectors.{name}.weight"] = torch.randn(HIDDEN, dim)
        weights[f"projectors.{name}.bias"] = torch.randn(HIDDEN)
    makers.make_published_checkpoint(tmp_path, config, weights)
    features = {
        name: torch.randn(1, layers, dim, 6) for name, (layers, dim) in makers.FEATURE_DIMS.items()
    }
    expected = sum(
        series.mean(1).transpose(1, 2) @ weights[f"projectors.{name}.weight"].T
        + weights[f"projectors.{name}.bias"]
        for name, series in features.items()
    )
    torch.testing.assert_close(load_folder(tmp_path)[1].fuse(features), expected)
