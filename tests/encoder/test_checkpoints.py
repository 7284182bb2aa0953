"""Checkpoints in and out: equal outputs, one line for what is damaged, nothing half-written."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

import makers
from tribrain.encoder.checkpoints import FORMAT, ModelCard, load_folder, save_folder
from tribrain.encoder.models import convert_model, load_model
from tribrain.encoder.network import Encoder
from tribrain.errors import InputError, InputWarning
from tribrain.features.recipe import FeatureRecipe
from tribrain.files import sha256

SAMPLES = 8


def small_config(**changes: Any) -> dict[str, Any]:
    return makers.published_config(
        **{
            "brain_model_config__hidden": 96,
            "brain_model_config__max_seq_len": SAMPLES,
            "data__duration_trs": SAMPLES // 2,
            **changes,
        }
    )


def draw_features(batch: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {
        name: torch.randn(batch, *dims, SAMPLES, generator=generator)
        for name, dims in makers.FEATURE_DIMS.items()
    }


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `published` and `own` with one small model in both formats."""
    folder = tmp_path_factory.mktemp("pristine")
    config = small_config()
    weights = makers.published_weights(config, n_outputs=4)
    makers.make_published_checkpoint(folder / "published", config, weights, n_output_timesteps=4)
    card, encoder = load_folder(folder / "published")
    save_folder(card, encoder, folder / "own")
    return folder


@pytest.fixture
def published(pristine: Path, tmp_path: Path) -> Path:
    """A copy of a published checkpoint, to damage."""
    return shutil.copytree(pristine / "published", tmp_path / "published")


@pytest.fixture
def own(pristine: Path, tmp_path: Path) -> Path:
    """A copy of a checkpoint in our own format, to damage."""
    return shutil.copytree(pristine / "own", tmp_path / "own")


def everything_under(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def refusal(folder: Path) -> str:
    """The one line with which a folder is refused; it leaves nothing on disk."""
    before = everything_under(folder.parent)
    with pytest.raises(InputError) as caught:
        load_folder(folder)
    assert everything_under(folder.parent) == before
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def change_checkpoint(folder: Path, change) -> Path:
    content = torch.load(folder / "best.ckpt", weights_only=True)
    content = change(content) or content
    torch.save(content, folder / "best.ckpt")
    return folder


def change_json(folder: Path, key: str, value: Any) -> Path:
    """Set the value at a dotted key of model.json; ... deletes it."""
    description = json.loads((folder / "model.json").read_text())
    *parents, last = key.split(".")
    place = description
    for parent in parents:
        place = place[parent]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    (folder / "model.json").write_text(json.dumps(description))
    return folder


# --- from one format to the other ----------------------------------------------------------------


def same_response(left: Encoder, right: Encoder) -> bool:
    features = draw_features()
    subjects = (None, 0, torch.tensor([0, 2, 1]))
    return all(torch.equal(left(features, who), right(features, who)) for who in subjects)


def origin_apart(card: ModelCard) -> dict[str, Any]:
    """A card without the checksums of the files it was read from."""
    return {key: value for key, value in vars(card).items() if key != "checksums"}


VARIANTS: dict[str, dict[str, Any]] = {
    "as published": {},
    "one state a modality": {"data__layers_to_use": 2 / 3, "data__layer_aggregation": None},
    "no low-rank head": {"brain_model_config__low_rank_head": None},
    "another clock": {"data__duration_trs": 4, "data__neuro__offset": 3.5},
    "no named space": {"data__neuro__projection": None},
    "no subjects": {"data__subject_id": None},
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_our_format_gives_back_the_same_model(tmp_path, changes):
    config = small_config(**changes)
    weights = makers.published_weights(config, n_outputs=4)
    makers.make_published_checkpoint(tmp_path / "published", config, weights, 4)
    card, encoder = load_folder(tmp_path / "published")
    save_folder(card, encoder, tmp_path / "own")
    again, read = load_folder(tmp_path / "own")
    assert origin_apart(again) == origin_apart(card)
    assert same_response(read, encoder)


@pytest.mark.golden
def test_golden_checkpoint_survives_our_format_bit_by_bit(golden, tmp_path):
    card, encoder = load_folder(golden / "checkpoint-tiny")
    save_folder(card, encoder, tmp_path / "own")
    again, read = load_folder(tmp_path / "own")
    assert origin_apart(again) == origin_apart(card)
    state = encoder.state_dict()
    assert list(read.state_dict()) == list(state)
    assert all(torch.equal(value, state[name]) for name, value in read.state_dict().items())


def test_a_modality_built_without_and_maps_of_several_layers_survive(tmp_path, pristine):
    card, _ = load_folder(pristine / "published")
    build = {
        **card.build,
        "feature_dims": {"text": (2, 24), "audio": None, "video": (1, 12)},
        "projector_sizes": [5],
        "combiner_sizes": [6],
        "projector_norm": False,
        "smoothing": 3,
        "rank": None,
        "position_embedding": False,
    }
    encoder = Encoder(**build).eval().requires_grad_(False)
    card = ModelCard(**{**vars(card), "build": build})
    save_folder(card, encoder, tmp_path / "own")
    again, read = load_folder(tmp_path / "own")
    assert again.build == build
    features = {
        "text": torch.randn(2, 2, 24, 6),
        "video": torch.randn(2, 1, 12, 6),
    }
    assert torch.equal(read(features), encoder(features))


def test_saving_twice_writes_the_same_bytes(own, tmp_path):
    card, encoder = load_folder(own)
    save_folder(card, encoder, tmp_path / "first")
    save_folder(card, encoder, tmp_path / "second")
    for file in ("model.json", "model.safetensors"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


def test_our_format_is_two_files_that_say_what_they_are(own):
    assert sorted(path.name for path in own.iterdir()) == ["model.json", "model.safetensors"]
    description = json.loads((own / "model.json").read_text())
    assert description["format"] == FORMAT
    assert description["recipe"]["backbones"]["text"] == "tiny-llama"
    assert description["build"]["n_outputs"] == 4


def test_convert_writes_a_model_that_loads_and_computes_the_same(published, tmp_path):
    with pytest.warns(InputWarning, match="licence"):
        convert_model(published, tmp_path / "converted")
    card, encoder = load_folder(published)
    again, read = load_folder(tmp_path / "converted")
    assert origin_apart(again) == origin_apart(card)
    assert same_response(read, encoder)


def test_converting_a_model_again_changes_nothing(own, tmp_path):
    with pytest.warns(InputWarning, match="licence"):
        convert_model(own, tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (
        own / "model.safetensors"
    ).read_bytes()


def test_convert_leaves_a_folder_that_is_there_alone(published, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="there already"):
        convert_model(published, tmp_path / "there")
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["notes.txt"]


def test_there_is_nothing_to_convert_in_the_textbook(tmp_path):
    with pytest.raises(InputError, match="nothing to convert"):
        convert_model("textbook", tmp_path / "converted")
    assert not (tmp_path / "converted").exists()


def test_converting_what_is_damaged_leaves_no_folder(published, tmp_path):
    (published / "best.ckpt").write_bytes(b"nothing")
    before = everything_under(tmp_path)
    with pytest.raises(InputError, match=r"best\.ckpt"):
        convert_model(published, tmp_path / "converted")
    assert everything_under(tmp_path) == before


# --- the card ------------------------------------------------------------------------------------


def test_the_card_of_a_published_folder_tells_what_its_configuration_does(published):
    card, encoder = load_folder(published)
    assert (card.window, card.lag, card.space) == (SAMPLES // 2, 5.0, "fsaverage3")
    assert card.subjects == {"Study/sub-01": 0, "Study/sub-02": 1}
    assert card.recipe == FeatureRecipe(
        {"text": "tiny-llama", "audio": "tiny-w2v-bert", "video": "tiny-vjepa2"}
    )
    assert (card.name, card.revision) == ("published", "local")
    assert "CC BY-NC" in card.licence
    assert not encoder.training
    assert not any(weight.requires_grad for weight in encoder.parameters())


def test_checksums_are_those_of_the_files_that_were_read(published, own):
    for folder in (published, own):
        card, _ = load_folder(folder)
        assert card.checksums == {path.name: sha256(path) for path in folder.iterdir()}


def test_name_revision_and_licence_can_be_given(published):
    card, _ = load_folder(published, name="you/model", revision="abc", licence="CC0")
    assert (card.name, card.revision, card.licence) == ("you/model", "abc", "CC0")


def test_a_head_of_one_row_knows_nobody(tmp_path):
    config = small_config()
    weights = makers.published_weights(config, rows=1, n_outputs=4)
    card, encoder = load_folder(makers.make_published_checkpoint(tmp_path, config, weights))
    assert card.subjects == {}
    assert encoder.n_subjects == 1


def test_our_format_counts_where_both_are_there(published, own):
    for path in own.iterdir():
        shutil.copy(path, published)
    card, _ = load_folder(published)
    assert set(card.checksums) == {"model.json", "model.safetensors"}


def test_half_precision_weights_are_read_as_single(published):
    def halve(content):
        state = content["state_dict"]
        content["state_dict"] = {name: value.half() for name, value in state.items()}

    _, encoder = load_folder(change_checkpoint(published, halve))
    assert {value.dtype for value in encoder.state_dict().values()} == {torch.float32}


def test_a_converted_model_remembers_its_revision(published, tmp_path):
    card, encoder = load_folder(published, name="facebook/tribev2", revision="0123abc")
    save_folder(card, encoder, tmp_path / "own")
    assert load_folder(tmp_path / "own")[0].revision == "0123abc"


# --- damaged published checkpoints ---------------------------------------------------------------


@pytest.mark.parametrize("file", ["config.yaml", "best.ckpt"])
def test_a_folder_without_one_of_its_files_is_no_model(published, file):
    (published / file).unlink()
    message = refusal(published)
    assert "is no model" in message
    assert "config.yaml and best.ckpt" in message


def test_missing_weights_are_named(published):
    def drop(content):
        del content["state_dict"]["model.encoder.final_norm.g"]
        del content["state_dict"]["model.encoder.layers.2.1.to_q.weight"]

    message = refusal(change_checkpoint(published, drop))
    assert "final_norm.gain" in message
    assert "blocks.1.attention.query.weight" in message
    assert "missing" in message


def test_many_missing_weights_are_counted(published):
    def drop(content):
        content["state_dict"] = {
            name: value for name, value in content["state_dict"].items() if ".layers." not in name
        }

    message = refusal(change_checkpoint(published, drop))
    assert "and 21 more are missing" in message
    assert len(message) < 400


def test_superfluous_weights_are_named(published):
    def add(content):
        content["state_dict"]["model.subject_embed.weight"] = torch.zeros(2)

    message = refusal(change_checkpoint(published, add))
    assert "subject_embed.weight" in message
    assert "not part of this network" in message


@pytest.mark.parametrize(
    ("name", "ours", "shape"),
    [
        ("model.projectors.audio.weight", "projectors.audio.weight", (32, 33)),
        ("model.time_pos_embed", "position", (1, 9, 96)),
        ("model.time_pos_embed", "position", (2, 8, 96)),
        ("model.encoder.layers.0.1.to_q.weight", "attention.query.weight", (96, 48)),
        ("model.encoder.rotary_pos_emb.inv_freq", "inverse_frequencies", (8,)),
        ("model.predictor.weights", "head.weight", (3, 16, 5)),
        ("model.predictor.bias", "head.bias", (2, 4)),
        ("model.encoder.final_norm.g", "final_norm.gain", ()),
    ],
)
def test_weights_of_a_wrong_shape_are_named_with_both_shapes(published, name, ours, shape):
    def reshape(content):
        content["state_dict"][name] = torch.zeros(shape)

    message = refusal(change_checkpoint(published, reshape))
    assert ours in message
    assert "has shape" in message
    assert "ask for" in message


@pytest.mark.parametrize("kept", [0, 1, 10, 100, 1000, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(published, kept):
    path = published / "best.ckpt"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    assert "best.ckpt is damaged" in refusal(published)


@pytest.mark.parametrize(
    "content", [b"hello", b"{}", b"\x00" * 100, b"<!DOCTYPE html>", b"\x80\x02]."]
)
def test_a_file_that_is_no_checkpoint_is_refused(published, content):
    (published / "best.ckpt").write_bytes(content)
    assert "best.ckpt" in refusal(published)


def test_a_git_lfs_pointer_in_place_of_the_weights_is_refused(published):
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 709000000\n"
    (published / "best.ckpt").write_text(text)
    assert "best.ckpt is damaged" in refusal(published)


def test_random_bytes_are_refused(published):
    generator = random.Random(0)
    for _ in range(300):
        (published / "best.ckpt").write_bytes(generator.randbytes(generator.choice([1, 5, 50])))
        assert "best.ckpt" in refusal(published)


@pytest.mark.parametrize("content", [b".", b"\x80\x02.", b"j", b"q\xcbq\xe8b"])
def test_bytes_that_trip_the_unpickler_are_refused(published, content):
    (published / "best.ckpt").write_bytes(content)
    assert "best.ckpt" in refusal(published)


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_the_trap_of_these_tests_works(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "trap")))
    assert (tmp_path / "trap").exists()


@pytest.mark.parametrize("way", ["zip", "legacy", "pickle", "in the weights", "beside the weights"])
def test_a_checkpoint_that_would_run_code_is_refused_and_runs_nothing(published, tmp_path, way):
    trap, path = Trap(tmp_path / "trap"), published / "best.ckpt"
    content = torch.load(path, weights_only=True)
    if way == "in the weights":
        content["state_dict"]["model.encoder.final_norm.g"] = trap
    else:
        content["callbacks"] = trap
    if way == "pickle":
        path.write_bytes(pickle.dumps(trap, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=way != "legacy")
    assert "best.ckpt is damaged, or holds more than weights" in refusal(published)
    assert not (tmp_path / "trap").exists()


def test_loading_a_checkpoint_that_would_run_code_by_name_runs_nothing_either(published, tmp_path):
    torch.save({"state_dict": Trap(tmp_path / "trap")}, published / "best.ckpt")
    with pytest.raises(InputError, match=r"best\.ckpt"):
        load_model(published, device="cpu")
    assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize("key", ["model_build_args", "state_dict"])
def test_a_checkpoint_without_its_parts_is_refused(published, key):
    def drop(content):
        del content[key]

    message = refusal(change_checkpoint(published, drop))
    assert "best.ckpt" in message
    assert key in message


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        5,
        "weights",
        {"model_build_args": {}, "state_dict": []},
        {"model_build_args": {}, "state_dict": {"model.a": 5}},
        {"model_build_args": {}, "state_dict": {1: torch.zeros(1)}},
    ],
)
def test_a_checkpoint_of_something_else_is_refused(published, content):
    torch.save(content, published / "best.ckpt")
    assert "best.ckpt" in refusal(published)


def test_a_lone_tensor_is_refused(published):
    torch.save(torch.zeros(3), published / "best.ckpt")
    assert "best.ckpt" in refusal(published)


def change_build(key: str, value: Any):
    def change(content):
        content["model_build_args"][key] = value

    return change


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_outputs", 5),
        ("n_outputs", -1),
        ("feature_dims", {}),
        ("feature_dims", {"text": (2, 24)}),
        ("feature_dims", {**makers.FEATURE_DIMS, "smell": (1, 2)}),
        ("feature_dims", {**makers.FEATURE_DIMS, "audio": (2, 17)}),
        ("feature_dims", {**makers.FEATURE_DIMS, "audio": None}),
        ("feature_dims", {**makers.FEATURE_DIMS, "audio": (-2, 16)}),
    ],
)
def test_build_arguments_that_do_not_fit_the_weights_are_refused(published, key, value):
    refusal(change_checkpoint(published, change_build(key, value)))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("feature_dims", {"a.b": (1, 2)}),
        ("feature_dims", {"keys": (1, 2)}),
        ("n_outputs", 10**30),
    ],
)
def test_build_arguments_that_torch_stumbles_over_are_refused(published, key, value):
    refusal(change_checkpoint(published, change_build(key, value)))


def test_a_head_without_dimensions_is_refused(published):
    def flatten(content):
        content["state_dict"]["model.predictor.weights"] = torch.tensor(1.0)

    refusal(change_checkpoint(published, flatten))


@pytest.mark.parametrize(
    "changes",
    [
        {"brain_model_config__encoder__use_scalenorm": False},
        {"brain_model_config": None},
        {"data__layer_aggregation": "median"},
        {"data__audio_feature": {}},
    ],
)
def test_a_configuration_that_is_refused_is_named(published, changes):
    (published / "config.yaml").write_text(yaml.safe_dump(small_config_changed(changes)))
    refusal(published)


@pytest.mark.parametrize("arguments", [5, None, {}])
def test_damaged_build_arguments_are_refused_with_the_file_s_name(published, arguments):
    def replace(content):
        content["model_build_args"] = arguments

    assert "best.ckpt" in refusal(change_checkpoint(published, replace))


def small_config_changed(changes: dict[str, Any]) -> dict[str, Any]:
    """`small_config`, where a change may replace the whole model's part too."""
    whole = {key: value for key, value in changes.items() if "__" not in key}
    return small_config(**{key: changes[key] for key in changes if key not in whole}) | whole


@pytest.mark.parametrize("row", [2, 7, -1, "first"])
def test_a_subject_whose_row_is_not_there_is_refused(published, row):
    config = small_config(data__subject_id__predefined_mapping={"Study/sub-01": row})
    (published / "config.yaml").write_text(yaml.safe_dump(config))
    refusal(published)


@pytest.mark.parametrize("heads", [5, 6, -3])
def test_heads_that_do_not_divide_the_width_are_refused(published, heads):
    config = small_config(brain_model_config__encoder__heads=heads)
    (published / "config.yaml").write_text(yaml.safe_dump(config))
    refusal(published)


@pytest.mark.parametrize("kind", ["weight", "modality", "subject"])
def test_names_with_control_characters_are_shown_without_them(published, kind):
    name = "a\n\x1b[31mb"

    def add(content):
        if kind == "weight":
            content["state_dict"][f"model.{name}"] = torch.zeros(1)
        if kind == "modality":
            content["model_build_args"]["feature_dims"][name] = (1, 2)

    if kind == "subject":
        write_config(published, data__subject_id__predefined_mapping={name: 9})
    assert refusal(change_checkpoint(published, add)).isprintable()


@pytest.mark.parametrize(
    "changes",
    [
        {"data__frequency": 0},
        {"data__frequency": float("nan")},
        {"data__duration_trs": -1},
        {"data__duration_trs": 100},  # 200 samples, where the encoder has 8 positions
    ],
)
def test_a_clock_that_the_encoder_cannot_follow_is_refused(published, changes):
    write_config(published, **{"data__duration_trs": 4, **changes})
    refusal(published)


def test_subjects_that_yaml_reads_as_numbers_are_texts(published):
    write_config(published, data__subject_id__predefined_mapping={1: 0, 2: 1})
    assert load_folder(published)[0].subjects == {"1": 0, "2": 1}


def test_a_weight_that_is_there_twice_is_refused(published):
    def double(content):
        content["state_dict"]["encoder.final_norm.g"] = torch.zeros(1)

    assert "final_norm" in refusal(change_checkpoint(published, double))


def write_config(folder: Path, **changes: Any) -> None:
    (folder / "config.yaml").write_text(yaml.safe_dump(small_config(**changes)))


# --- damaged checkpoints of our own format -------------------------------------------------------


@pytest.mark.parametrize("file", ["model.json", "model.safetensors"])
def test_a_folder_of_ours_without_one_of_its_files_is_no_model(own, file):
    (own / file).unlink()
    assert "model.json and model.safetensors" in refusal(own)


@pytest.mark.parametrize("value", ["tribrain-encoder-2", "", None, 1, ...])
def test_another_format_is_refused_by_name(own, value):
    message = refusal(change_json(own, "format", value))
    assert "model.json" in message
    assert FORMAT in message


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"5", b"null", b'"text"', b"\xff\xfe", b"PK\x03\x04", b"{}"]
)
def test_a_damaged_description_is_refused(own, content):
    (own / "model.json").write_bytes(content)
    refusal(own)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("recipe", ...),
        ("recipe", 5),
        ("recipe.depths", ...),
        ("recipe.depths", ["half"]),
        ("recipe.surprise", 1),
        ("build", 5),
        ("build.feature_dims", ...),
        ("build.feature_dims", [1]),
        ("build.hidden", "wide"),
        ("build.hidden", -96),
        ("build.heads", 0),
        ("build.depth", 3),
        ("build.depth", 1),
        ("build.surprise", 1),
        ("build.n_outputs", ...),
        ("build.n_subjects", 2),
        ("window", ...),
        ("surprise", 1),
    ],
)
def test_a_description_that_does_not_fit_is_refused(own, key, value):
    refusal(change_json(own, key, value))


@pytest.mark.parametrize("feature_dims", [{"a.b": [1, 2]}, {"text": [1]}, {"text": []}])
def test_feature_dims_that_python_stumbles_over_are_refused(own, feature_dims):
    refusal(change_json(own, "build.feature_dims", feature_dims))


def test_a_description_nested_without_end_is_refused(own):
    (own / "model.json").write_bytes(b"[" * 100_000)
    refusal(own)


@pytest.mark.parametrize(
    ("key", "value"), [("recipe.aggregation", "median"), ("recipe.depths", [0.5, 2])]
)
def test_a_recipe_that_is_refused_is_named(own, key, value):
    refusal(change_json(own, key, value))


@pytest.mark.parametrize(
    ("key", "value"),
    [("window", "long"), ("lag", None), ("licence", None), ("subjects", 5), ("name", 5)],
)
def test_a_card_with_values_of_the_wrong_kind_is_refused(own, key, value):
    refusal(change_json(own, key, value))


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 100, -1])
def test_truncated_weights_of_ours_are_refused(own, kept):
    path = own / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    refusal(own)


@pytest.mark.parametrize("content", [b"{}", b"\x00" * 64, b"\xff" * 64, b"PK\x03\x04" * 9])
def test_weights_of_ours_that_are_no_weights_are_refused(own, content):
    (own / "model.safetensors").write_bytes(content)
    refusal(own)


def test_random_bytes_for_weights_of_ours_are_refused(own):
    generator = random.Random(0)
    for _ in range(100):
        size = generator.choice([1, 9, 50, 500])
        (own / "model.safetensors").write_bytes(generator.randbytes(size))
        refusal(own)


@pytest.mark.parametrize("file", ["model.json", "model.safetensors"])
def test_which_file_of_ours_is_damaged_is_told(own, file):
    (own / file).write_bytes(b"\x00" * 64)
    assert file in refusal(own)


def test_weights_of_another_model_of_ours_are_refused(own, tmp_path):
    config = small_config(brain_model_config__encoder__depth=1)
    weights = makers.published_weights(config, n_outputs=4)
    other = load_folder(makers.make_published_checkpoint(tmp_path / "other", config, weights))
    save_folder(*other, tmp_path / "saved")
    shutil.copy(tmp_path / "saved" / "model.safetensors", own)
    assert "missing" in refusal(own)


# --- whole or not at all -------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_save_that_fails_leaves_nothing(pristine, tmp_path, monkeypatch, error):
    card, encoder = load_folder(pristine / "own")

    def fail(state, path, metadata=None):
        Path(path).write_bytes(b"half of it")
        raise error

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(type(error)):
        save_folder(card, encoder, tmp_path / "deep" / "saved")
    assert not (tmp_path / "deep" / "saved").exists()
    assert [path for path in everything_under(tmp_path) if path.is_file()] == []


def test_a_save_that_fails_at_its_end_leaves_nothing(pristine, tmp_path, monkeypatch):
    card, encoder = load_folder(pristine / "own")

    def fail(*args, **kwargs):
        raise TypeError("cannot be written")

    monkeypatch.setattr("tribrain.encoder.checkpoints.json.dumps", fail)
    with pytest.raises(TypeError):
        save_folder(card, encoder, tmp_path / "saved")
    assert everything_under(tmp_path) == set()


def test_a_save_that_fails_keeps_what_was_there(own, monkeypatch):
    card, encoder = load_folder(own)
    before = {path.name: path.read_bytes() for path in own.iterdir()}

    def fail(state, path, metadata=None):
        raise OSError("disk full")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save_folder(card, encoder, own)
    assert {path.name: path.read_bytes() for path in own.iterdir()} == before
    assert len(list(own.parent.iterdir())) == 1
