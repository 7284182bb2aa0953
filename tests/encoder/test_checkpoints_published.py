"""A damaged checkpoint in the published format is refused in one line and runs nothing."""

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import checkpoint_makers
import makers
from checkpoint_makers import change_checkpoint, refusal, small_config
from tribrain.encoder.checkpoints import load_folder
from tribrain.encoder.models import load_model
from tribrain.errors import InputError

# Fixtures: pytest finds them under this module's own names.
pristine = checkpoint_makers.pristine
published = checkpoint_makers.published


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
        ("model.predictor.weights", "head.rows.0.weight", (3, 16, 5)),
        ("model.predictor.bias", "head.rows.0.bias", (3, 5)),
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
