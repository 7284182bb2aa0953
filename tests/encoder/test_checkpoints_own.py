"""Our own format: one line for what is damaged, nothing half-written."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import checkpoint_makers
import makers
from checkpoint_makers import everything_under, refusal, small_config
from tribrain.encoder.checkpoints import FORMAT, load_folder, save_folder

# Fixtures: pytest finds them under this module's own names.
pristine = checkpoint_makers.pristine
own = checkpoint_makers.own


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


def test_a_head_saved_as_one_parameter_loads_the_same(own):
    """Folders were saved so while all rows of the head were one parameter (S, R, V)."""
    _, expected = load_folder(own)
    state = load_file(own / "model.safetensors")
    for part in ("weight", "bias"):
        names = [f"head.rows.{row}.{part}" for row in range(expected.n_subjects)]
        state[f"head.{part}"] = torch.stack([state.pop(name) for name in names])
    save_file(state, own / "model.safetensors")
    found = load_folder(own)[1].state_dict()
    assert found.keys() == expected.state_dict().keys()
    for name, value in expected.state_dict().items():
        assert torch.equal(found[name], value), name


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
