"""The published checkpoint format: YAML that runs nothing, options, names of weights."""

from __future__ import annotations

import contextlib
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import makers
from tribrain.encoder.checkpoints import load_folder
from tribrain.encoder.network import Encoder
from tribrain.encoder.published import (
    build_arguments,
    feature_recipe,
    get,
    read_config,
    rename,
    rename_mlps,
)
from tribrain.errors import InputError
from tribrain.features.recipe import FeatureRecipe

APPLY = "!!python/object/apply"
BUILD = {"feature_dims": {"text": (2, 24)}, "n_outputs": 7, "n_output_timesteps": 100}
HIDDEN = 96


@pytest.fixture
def written(tmp_path: Path):
    """Write a config.yaml, of text or bytes."""

    def write(content: str | bytes) -> Path:
        path = tmp_path / "config.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def refusal(path: Path) -> str:
    """The one line with which a configuration is refused."""
    with pytest.raises(InputError) as caught:
        read_config(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


# --- YAML ----------------------------------------------------------------------------------------


@pytest.mark.golden
def test_golden_config_gives_the_published_recipe(golden):
    config = read_config(golden / "checkpoint-tiny" / "config.yaml")
    assert feature_recipe(config) == FeatureRecipe(
        backbones={
            "text": "meta-llama/Llama-3.2-3B",
            "audio": "facebook/w2v-bert-2.0",
            "video": "facebook/vjepa2-vitg-fpc64-256",
        },
        depths=(0.5, 0.75, 1.0),
        aggregation="group_mean",
        frequency=2.0,
        clip_seconds=4.0,
    )


@pytest.mark.golden
def test_golden_config_s_python_tags_become_a_dict_and_a_path(golden):
    config = read_config(golden / "checkpoint-tiny" / "config.yaml")
    transforms = get(config, "data.study.transforms")
    assert type(transforms) is dict
    assert list(transforms)[:3] == ["extractaudio", "extractwords", "addtext"]
    assert transforms["extractaudio"]["name"] == "ExtractAudioFromVideo"
    assert get(config, "data.study.transforms.chunkvideos.infra.folder") == (
        "/checkpoint/refout/cache/tribe_release"
    )


@pytest.mark.golden
def test_golden_config_of_the_end_to_end_checkpoint_parses(golden):
    config = read_config(golden / "end-to-end" / "checkpoint" / "config.yaml")
    assert get(config, "data.neuro.projection.mesh") == "fsaverage3"
    assert set(feature_recipe(config).backbones) == {"text", "audio", "video"}


@pytest.mark.golden
def test_golden_checkpoint_gives_the_build_arguments_of_its_weights(golden):
    card, encoder = load_folder(golden / "checkpoint-tiny")
    assert (card.window, card.lag, card.space) == (20.0, 5.0, "fsaverage5")
    assert card.subjects == {"Study/sub-01": 0, "Study/sub-02": 1, "Study/sub-03": 2}
    assert (encoder.n_subjects, encoder.n_outputs, encoder.n_output_samples) == (4, 1284, 20)
    assert len(encoder.blocks) == 2
    assert encoder.combiner is None
    assert encoder.smoothing is None


def test_an_ordered_dict_keeps_its_order_and_values(written):
    text = f"a: {APPLY}:collections.OrderedDict\n- - [z, 1]\n  - [b, {{x: [2]}}]\n"
    config = read_config(written(text))
    assert config == {"a": {"z": 1, "b": {"x": [2]}}}
    assert list(config["a"]) == ["z", "b"]


def test_an_empty_ordered_dict_is_a_dict(written):
    assert read_config(written(f"a: {APPLY}:collections.OrderedDict []")) == {"a": {}}


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        ("[/, data, cache]", "/data/cache"),
        ("[data, cache]", "data/cache"),
        ("[/]", "/"),
        ("[/, '2024', 1]", "/2024/1"),
    ],
)
def test_a_path_becomes_its_text(written, parts, path):
    config = read_config(written(f"a: {APPLY}:pathlib.PosixPath {parts}"))
    assert config == {"a": path}
    assert type(config["a"]) is str


HOSTILE = [
    (f"{APPLY}:os.system ['touch {{trap}}']", "python/object/apply:os.system"),
    (f"{APPLY}:subprocess.check_output [[touch, {{trap}}]]", "apply:subprocess.check_output"),
    (f'{APPLY}:builtins.eval [\'open("{{trap}}", "w")\']', "apply:builtins.eval"),
    (f"{APPLY}:pathlib.Path [{{trap}}]", "apply:pathlib.Path"),
    (f"{APPLY}:collections.OrderedDictionary []", "apply:collections.OrderedDictionary"),
    ("!!python/object/new:os.system ['touch {trap}']", "python/object/new:os.system"),
    ("!!python/object/new:collections.OrderedDict []", "python/object/new:collections.OrderedDict"),
    ("!!python/object:collections.OrderedDict {{}}", "python/object:collections.OrderedDict"),
    ("!!python/name:os.system ''", "python/name:os.system"),
    ("!!python/module:os ''", "python/module:os"),
    ("!!python/tuple [1, 2]", "python/tuple"),
    ("!!python/str a", "python/str"),
    ("!!python/none ''", "python/none"),
    ("!foo a", "!foo"),
    ("!<tag:example.org,2000:bar> a", "tag:example.org,2000:bar"),
]
PLACES = {
    "value": "a: {node}",
    "whole file": "{node}",
    "nested in lists": "a:\n- 1\n- [2, [3, {node}]]",
    "nested in a mapping": "a: {{b: {{c: {node}}}}}",
    "key": "? {node}\n: 1",
    "nested key": "a:\n  b:\n    ? {node}\n    : 1",
    "in an ordered dict": "a: " + APPLY + ":collections.OrderedDict [[[k, {node}]]]",
    "key of an ordered dict": "a: " + APPLY + ":collections.OrderedDict [[[{node}, 1]]]",
    "in a path": "a: " + APPLY + ":pathlib.PosixPath [/, {node}]",
    "behind an alias": "a: &x [{node}]\nb: *x",
    "in a set": "a: !!set {{? {node}}}",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("node", "tag"), HOSTILE, ids=[tag for _, tag in HOSTILE])
def test_a_hostile_tag_is_refused_by_name_and_nothing_runs(written, tmp_path, node, tag, place):
    trap = tmp_path / "trap"
    node = node.format(trap=trap)
    message = refusal(written(PLACES[place].format(node=node)))
    assert tag in message
    assert not trap.exists()


UNSEEN = {
    "merged": "a: {{<<: {node}}}",
    "in an ordered map": "a: !!omap [{node}]",
    "in pairs": "a: !!pairs [{node}]",
}


@pytest.mark.parametrize("place", UNSEEN.values(), ids=UNSEEN)
@pytest.mark.parametrize(("node", "tag"), HOSTILE, ids=[tag for _, tag in HOSTILE])
def test_nothing_runs_where_yaml_reads_a_node_without_its_tag(written, tmp_path, node, tag, place):
    trap = tmp_path / "trap"
    with contextlib.suppress(InputError):
        read_config(written(place.format(node=node.format(trap=trap))))
    assert not trap.exists()


@pytest.mark.parametrize("place", UNSEEN.values(), ids=UNSEEN)
def test_a_tag_that_yaml_does_not_look_at_is_refused_by_name_too(written, place):
    assert "!foo" in refusal(written(place.format(node="!foo {b: 1}")))


def test_a_prefix_that_hides_the_tag_is_seen_through(written, tmp_path):
    trap = tmp_path / "trap"
    text = f"%TAG !p! tag:yaml.org,2002:python/object/apply:os.\n---\na: !p!system ['touch {trap}']"
    assert "apply:os.system" in refusal(written(text))
    assert not trap.exists()


def test_a_config_that_would_run_code_stops_the_whole_checkpoint(tmp_path):
    makers.make_published_checkpoint(tmp_path / "model", *small_checkpoint())
    trap = tmp_path / "trap"
    path = tmp_path / "model" / "config.yaml"
    path.write_text(path.read_text() + f"\nextra: {APPLY}:os.system ['touch {trap}']\n")
    with pytest.raises(InputError, match=r"config\.yaml.*os\.system"):
        load_folder(tmp_path / "model")
    assert not trap.exists()


def test_yaml_elsewhere_in_the_program_learns_no_tags(written):
    import yaml

    read_config(written("a: 1"))
    with pytest.raises(yaml.YAMLError):
        yaml.safe_load(f"a: {APPLY}:pathlib.PosixPath [/]")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b"just a line",
        b"- a\n- b",
        b"5",
        b"null",
        b"a: [1, 2",
        b"a: {b: 1",
        b"a: 'b",
        b"a: b: c",
        b"\ta: 1",
        b"a: *nowhere",
        b"a: &x 1\na: &x [*y]",
        b"? [1]\n: 2",
        b"<<: 1",
        b"a: 2001-99-99",
        b"a: !!binary x",
        b"a: 1\n---\nb: 2",
        b"\x00\x01\x02",
        b"\xff\xfe\xfa\x00",
        b"a: \x07",
        b"PK\x03\x04\x00\x00\x08\x08\x00\x00\x00\x00",
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
        f"a: {APPLY}:collections.OrderedDict 5".encode(),
        f"a: {APPLY}:collections.OrderedDict [5]".encode(),
        f"a: {APPLY}:collections.OrderedDict [[[1]]]".encode(),
        f"a: {APPLY}:collections.OrderedDict {{args: []}}".encode(),
        f"a: {APPLY}:pathlib.PosixPath nothing".encode(),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_in_one_line(written, content):
    assert "is not a checkpoint's configuration" in refusal(written(content))


@pytest.mark.parametrize(
    "content",
    [
        b"a: !!timestamp noon",  # AttributeError
        b"a: !!bool perhaps",  # KeyError
        b'a: !!int ""',  # IndexError
        b'a: !!float ""',  # IndexError
        b"[" * 5000,  # RecursionError
    ],
)
def test_a_value_that_yaml_itself_stumbles_over_is_refused_in_one_line(written, content):
    assert "is not a checkpoint's configuration" in refusal(written(content))


@pytest.mark.parametrize("tag", ["!%0Aall-is-well", "!%0D", "!%1B%5B31m"])
def test_a_tag_with_control_characters_is_shown_without_them(written, tag):
    assert refusal(written(f"a: {tag} x")).isprintable()


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


# --- names of weights ----------------------------------------------------------------------------


def small_checkpoint(**changes) -> tuple[dict, dict[str, Tensor]]:
    """A published configuration and weights, small."""
    config = makers.published_config(
        **{
            "brain_model_config__hidden": HIDDEN,
            "brain_model_config__max_seq_len": 8,
            "data__duration_trs": 4,
            **changes,
        }
    )
    return config, makers.published_weights(config, n_outputs=3)


@pytest.mark.golden
@pytest.mark.parametrize("folder", ["checkpoint-tiny", "end-to-end/checkpoint"])
def test_golden_weight_names_map_one_to_one_onto_ours(golden, folder):
    content = torch.load(golden / folder / "best.ckpt", weights_only=True)
    names = [name.removeprefix("model.") for name in content["state_dict"]]
    ours = [rename(name) for name in names]
    assert len(set(ours)) == len(names)
    assert set(ours) == set(load_folder(golden / folder)[1].state_dict())


@pytest.mark.golden
def test_golden_weights_keep_their_values_under_our_names(golden):
    content = torch.load(golden / "checkpoint-tiny" / "best.ckpt", weights_only=True)
    encoder = load_folder(golden / "checkpoint-tiny")[1]
    state = encoder.state_dict()
    for name, value in content["state_dict"].items():
        held = state[rename(name.removeprefix("model."))]
        assert torch.equal(held.flatten(), value.float().flatten()), name


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
    assert tuple(encoder.head.weight.shape) == (3, HIDDEN, 3)


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
