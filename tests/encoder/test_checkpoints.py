"""Checkpoints in and out: equal outputs, and a card that tells where they come from."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
import torch
from torch import Tensor

import checkpoint_makers
import makers
from checkpoint_makers import SAMPLES, change_checkpoint, everything_under, small_config
from tribrain.encoder.checkpoints import FORMAT, ModelCard, load_folder, save_folder
from tribrain.encoder.models import convert_model
from tribrain.encoder.network import Encoder
from tribrain.errors import InputError, InputWarning
from tribrain.features.recipe import FeatureRecipe
from tribrain.files import sha256

# Fixtures: pytest finds them under this module's own names.
pristine = checkpoint_makers.pristine
published = checkpoint_makers.published
own = checkpoint_makers.own


def draw_features(batch: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {
        name: torch.randn(batch, *dims, SAMPLES, generator=generator)
        for name, dims in makers.FEATURE_DIMS.items()
    }


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
