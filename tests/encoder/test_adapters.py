"""Adapters: what they add, their files, and what is said where they do not fit."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
from pathlib import Path, PureWindowsPath

import numpy as np
import pytest
import torch

import tribrain
from network_makers import DIMS, draw_features, small_encoder
from tribrain.encoder.adapters import (
    AdaptedModel,
    Adapter,
    adapted_encoder,
    base_of,
    prior_row,
    read_adapter,
    save_adapter,
    with_rows,
)
from tribrain.encoder.checkpoints import ModelCard, save_folder
from tribrain.encoder.low_rank import (
    LowRankMap,
    add_low_rank,
    compressed,
    low_rank_tensors,
    shift_of,
)
from tribrain.encoder.models import convert_model, load_model
from tribrain.encoder.predict import TrainedModel
from tribrain.errors import InputError
from tribrain.features.recipe import FeatureRecipe
from tribrain.files import sha256

OUTPUTS, RANK = 6, 8
CARD = ModelCard(
    build={
        "feature_dims": DIMS,
        "n_outputs": OUTPUTS,
        "n_output_samples": 5,
        "n_subjects": 3,
        "hidden": 96,
        "depth": 2,
        "heads": 2,
        "max_samples": 16,
        "rank": RANK,
    },
    recipe=FeatureRecipe(frequency=2.0),
    window=5.0,
    lag=5.0,
    space="six",
    subjects={"first/1": 0, "first/2": 1},
    licence="CC0-1.0",
    name="base",
    revision="local",
    checksums={},
)
SERIES = {name: part[0].numpy() for name, part in draw_features(1, 24).items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_folder(CARD, small_encoder(), tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def base(folder: Path) -> TrainedModel:
    model = load_model(folder, device="cpu")
    assert type(model) is TrainedModel
    return model


class PureWindowsPathOf(PureWindowsPath):
    """A path of Windows, which resolves to itself."""

    def resolve(self) -> PureWindowsPathOf:
        return self


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make_adapter(base: TrainedModel, out: Path, people: int = 1, **more) -> Adapter:
    tensors = {}
    for person in range(people):
        tensors[f"rows.{person}.bias"] = drawn(OUTPUTS, seed=person)
        tensors[f"rows.{person}.left"] = drawn(RANK, 2, seed=person + 10)
        tensors[f"rows.{person}.right"] = drawn(2, OUTPUTS, seed=person + 20)
    return Adapter(
        name=out.name,
        method="ridge",
        people=tuple(f"second/{number}" for number in range(people)),
        space="six",
        n_outputs=OUTPUTS,
        prior=True,
        base=base_of(base, out.parent / "base", out),
        tensors=tensors | more,
    )


def predicted(model: TrainedModel, **options) -> np.ndarray:
    return model.predict(features=SERIES, **options).data.values


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_model(folder, device="cpu")
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_row_is_that_of_people_never_seen_and_what_is_added(base, tmp_path):
    adapter = make_adapter(base, tmp_path / "new", 2)
    model = AdaptedModel.of(base, adapter)
    features = draw_features()
    states = base.encoder.states(features)
    unseen = base.encoder.head.rows[-1]
    for person in range(2):
        parts = {key: adapter.tensors[f"rows.{person}.{key}"] for key in ("left", "right", "bias")}
        weight = unseen.weight + parts["left"] @ parts["right"]
        expected = states @ weight + unseen.bias + parts["bias"]
        torch.testing.assert_close(model.encoder(features, person), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(model.encoder(features), base.encoder(features))


def test_a_folder_predicts_bit_by_bit_what_was_kept(base, folder, tmp_path):
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    weights = {key: value.clone() for key, value in base.encoder.state_dict().items()}
    place = "blocks.1.attention.key"
    more = {
        f"lora.{place}.down": drawn(3, 96, seed=1),
        f"lora.{place}.up": drawn(96, 3, seed=2),
        "weights.final_norm.gain": torch.tensor([1.3]),
    }
    adapter = make_adapter(base, tmp_path / "new", **more)
    model = AdaptedModel.of(base, adapter)
    save_adapter(adapter, tmp_path / "new")
    loaded = tribrain.load_model(str(tmp_path / "new"), device="cpu")
    assert isinstance(loaded, AdaptedModel)
    assert np.array_equal(predicted(loaded), predicted(model))
    assert loaded.subjects == ("second/0",)
    assert loaded.adapter.method == "ridge"
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == [
        "adapter.json",
        "adapter.safetensors",
    ]
    # Each part counts, and the model itself is as it was.
    for kind in ("lora", "weights", "rows"):
        fewer = {
            key: 0 * value if key.startswith("rows") and kind == "rows" else value
            for key, value in adapter.tensors.items()
            if kind == "rows" or not key.startswith(kind)
        }
        other = AdaptedModel.of(base, dataclasses.replace(adapter, tensors=fewer))
        assert np.abs(predicted(other) - predicted(model)).max() > 1e-4
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert all(torch.equal(weights[key], v) for key, v in base.encoder.state_dict().items())


def test_who_is_predicted(base, tmp_path):
    one = AdaptedModel.of(base, make_adapter(base, tmp_path / "one"))
    assert one.predict(features=SERIES).data.attrs["subject"] == "second/0"
    assert np.array_equal(predicted(one), predicted(one, subject="0"))
    two = AdaptedModel.of(base, make_adapter(base, tmp_path / "two", 2))
    assert np.abs(predicted(two, subject="0") - predicted(two, subject="second/1")).max() > 1e-3
    for model, subject, words in (
        (two, None, "several people; name one of second/0, second/1"),
        (two, "first/1", "known: second/0, second/1"),
        (one, "1", "unknown to one; known: second/0"),
    ):
        with pytest.raises(InputError, match=words):
            predicted(model, subject=subject)


def test_a_space_that_the_model_does_not_have(base, tmp_path):
    adapter = dataclasses.replace(
        make_adapter(base, tmp_path / "new"),
        space="three",
        n_outputs=3,
        prior=False,
        tensors={"rows.0.weight": drawn(RANK, 3), "rows.0.bias": drawn(3)},
    )
    model = AdaptedModel.of(base, adapter)
    assert model.space.name == "three"
    features = draw_features()
    expected = base.encoder.states(features) @ drawn(RANK, 3) + drawn(3)
    torch.testing.assert_close(model.encoder(features, 0), expected, atol=1e-5, rtol=1e-5)


def test_folders_that_are_moved_together_find_each_other(base, folder, tmp_path):
    save_adapter(make_adapter(base, tmp_path / "new"), tmp_path / "new")
    expected = predicted(load_model(tmp_path / "new", device="cpu"))
    (tmp_path / "elsewhere").mkdir()
    for name in ("base", "new"):
        shutil.move(tmp_path / name, tmp_path / "elsewhere" / name)
    assert np.array_equal(
        predicted(load_model(tmp_path / "elsewhere" / "new", device="cpu")), expected
    )
    shutil.move(tmp_path / "elsewhere" / "base", tmp_path / "third")
    told = refusal(tmp_path / "elsewhere" / "new")
    assert "the model base, which is not at" in told
    assert '"place"' in told
    file = tmp_path / "elsewhere" / "new" / "adapter.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base": {
        **json.loads(file.read_text())["base"], "place": str(tmp_path / "third")
    }}))  # fmt: skip
    assert np.array_equal(predicted(load_model(file.parent, device="cpu")), expected)


def test_a_model_on_the_hub_is_asked_for_by_its_revision(folder, tmp_path, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    there = shutil.copytree(folder, tmp_path / "snapshots" / commit)
    asked = []

    def fetch(repository, **options):
        asked.append((repository, options["revision"]))
        return str(there)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    base = load_model("someone/model", device="cpu")
    told = base_of(base, "someone/model", tmp_path / "new")
    assert told["place"] == f"hub:someone/model@{commit}"
    adapter = dataclasses.replace(make_adapter(base, tmp_path / "new"), base=told)
    save_adapter(adapter, tmp_path / "new")
    loaded = load_model(tmp_path / "new", device="cpu")
    assert asked == [("someone/model", None), ("someone/model", commit)]
    assert np.array_equal(predicted(loaded), predicted(AdaptedModel.of(base, adapter)))
    # A copy that was written to a folder is found there.
    convert_model("someone/model", tmp_path / "copy")
    copied = load_model(tmp_path / "copy", device="cpu")
    assert base_of(copied, tmp_path / "copy", tmp_path / "new")["place"] == "../copy"


def test_another_model_is_refused(base, folder, tmp_path):
    save_adapter(make_adapter(base, tmp_path / "new"), tmp_path / "new")
    shutil.rmtree(folder)
    save_folder(CARD, small_encoder(seed=1), folder)
    told = refusal(tmp_path / "new")
    assert "another model than the one that new belongs to" in told
    shutil.rmtree(folder)
    save_adapter(make_adapter(base, folder), folder)  # an adapter in the place of its model
    assert "the model base, which is not at" in refusal(tmp_path / "new")


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder, told: (folder / "adapter.safetensors").write_bytes(b"x" * 99),
        lambda folder, told: (folder / "adapter.safetensors").unlink(),
        lambda folder, told: told.pop("base"),
        lambda folder, told: told.update(format="tribrain-adapter-9"),
        lambda folder, told: told.update(people="x"),
        lambda folder, told: told.update(n_outputs=7, prior=False),
        lambda folder, told: told.update(more=1),
        lambda folder, told: told["base"].pop("checksums"),
        lambda folder, told: told["base"].update(place=3),
        lambda folder, told: told.update(trained_on={"film": [[1]]}),
    ],
)
def test_damage_is_told_in_a_line(damage, base, tmp_path):
    save_adapter(make_adapter(base, tmp_path / "new", 2), tmp_path / "new")
    file = tmp_path / "new" / "adapter.json"
    told = json.loads(file.read_text())
    damage(tmp_path / "new", told)
    file.write_text(json.dumps(told))
    assert "damaged" in refusal(tmp_path / "new")


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("lora.blocks.9.attention.key.up", (96, 2)),
        ("lora.blocks.0.attention.key.up", (96, 2)),
        ("weights.head.rows.0.weight", (RANK, OUTPUTS)),
        ("weights.final_norm.gain", (2,)),
        ("rows.7.bias", (OUTPUTS,)),
        ("other", (1,)),
    ],
)
def test_tensors_that_fit_nowhere(key, shape, base, tmp_path):
    adapter = make_adapter(base, tmp_path / "new", **{key: drawn(*shape)})
    with pytest.raises(InputError, match="damaged"):
        AdaptedModel.of(base, adapter)


def test_low_rank_maps_add_nothing_at_first_and_merge(base):
    encoder = copy.deepcopy(base.encoder)
    features = draw_features()
    expected = base.encoder(features)
    add_low_rank(encoder, 3)
    assert sum(isinstance(one, LowRankMap) for one in encoder.modules()) == 2 * 6
    torch.testing.assert_close(encoder(features), expected, atol=0, rtol=0)
    for seed, one in enumerate(m for m in encoder.modules() if isinstance(m, LowRankMap)):
        one.up.data = drawn(*one.up.shape, seed=seed)
    unmerged = encoder(features)
    assert (unmerged - expected).abs().max() > 1e-3
    tensors = low_rank_tensors(encoder)
    row = {"rows.0.weight": torch.zeros(RANK, OUTPUTS), "rows.0.bias": torch.zeros(OUTPUTS)}
    adapter = Adapter("a", "lora", ("s/1",), "six", OUTPUTS, True, {}, tensors | row)
    merged = adapted_encoder(base.card, base.encoder, adapter)
    assert not any(isinstance(one, LowRankMap) for one in merged.modules())
    torch.testing.assert_close(merged(features, 0), unmerged, atol=1e-5, rtol=1e-4)


def test_factors_are_exact_where_the_rank_is_low_and_tell_their_error():
    random = np.random.default_rng(0)
    low = random.normal(size=(300, 5)) @ random.normal(size=(5, 400))
    parts, error = compressed(low)
    assert parts["left"].shape == (300, 5)
    assert error < 1e-6
    np.testing.assert_allclose(parts["left"] @ parts["right"], low, atol=1e-4)
    # What counts is what is added to predictions of states, which lie in few directions.
    states = random.normal(size=(900, 4)) @ random.normal(size=(4, 300))
    full = random.normal(size=(300, 400))
    parts, error = compressed(full, states, error=0.01)
    assert parts["left"].shape == (300, 4)
    for rank in (1, 2, 3):
        parts, error = compressed(full, states, rank=rank)
        centred = states - states.mean(0)
        lost = centred @ (full - (parts["left"] @ parts["right"]).numpy())
        assert error == pytest.approx(np.linalg.norm(lost) / np.linalg.norm(centred @ full), 1e-3)
        assert error > 0.1
    assert "weight" in compressed(full)[0]  # factors of a full rank are larger
    assert compressed(full[:9, :9])[1] == 0


@pytest.mark.parametrize("mean", [0.0, 5.0])
def test_factors_and_their_shift_keep_what_is_added_on_average(mean):
    random = np.random.default_rng(1)
    states = random.normal(size=(500, 40)) * np.geomspace(1, 1e-3, 40) + mean
    change = random.normal(size=(40, 90))
    parts, error = compressed(change, states, rank=6)
    kept = states @ (parts["left"] @ parts["right"]).numpy() + shift_of(change, parts, states)
    added = states @ change
    lost = np.sqrt(np.mean((kept - added) ** 2) / np.mean((added - added.mean(0)) ** 2))
    assert lost == pytest.approx(error, rel=1e-3)
    assert 0.01 < error < 0.9
    whole, _ = compressed(change)
    assert not shift_of(change, whole, states).any()


def test_two_adapters_of_one_model_are_told_apart(base, tmp_path):
    adapter = make_adapter(base, tmp_path / "new")
    save_adapter(adapter, tmp_path / "new")
    kept = load_model(tmp_path / "new", device="cpu").card.checksums
    file = "adapter.safetensors"
    assert kept == {**base.card.checksums, file: sha256(tmp_path / "new" / file)}
    assert AdaptedModel.of(base, adapter).card.checksums == kept
    other = dataclasses.replace(
        adapter, tensors={key: 2 * value for key, value in adapter.tensors.items()}
    )
    assert AdaptedModel.of(base, other).card.checksums != kept


def test_a_folder_can_be_written_over_while_its_model_is_in_use(base, tmp_path):
    save_adapter(make_adapter(base, tmp_path / "new"), tmp_path / "new")
    found = read_adapter(tmp_path / "new")
    expected = {key: value.clone() for key, value in found.tensors.items()}
    path = tmp_path / "new" / "adapter.safetensors"
    with path.open("r+b") as file:  # in place, as a mapped file would show
        file.write(b"\xff" * path.stat().st_size)
    assert all(torch.equal(expected[key], value) for key, value in found.tensors.items())


def test_places_are_written_alike_on_every_system(base, tmp_path, monkeypatch):
    monkeypatch.setattr("os.path.relpath", lambda *_: "..\\base")
    monkeypatch.setattr("tribrain.encoder.adapters.Path", PureWindowsPathOf)
    assert base_of(base, tmp_path / "base", tmp_path / "new")["place"] == "../base"


def test_an_adapted_model_can_be_written_as_one_model(base, tmp_path):
    save_adapter(make_adapter(base, tmp_path / "new"), tmp_path / "new")
    convert_model(tmp_path / "new", tmp_path / "whole")
    shutil.rmtree(tmp_path / "base")
    whole = load_model(tmp_path / "whole", device="cpu")
    shutil.rmtree(tmp_path / "new")
    adapted = AdaptedModel.of(base, make_adapter(base, tmp_path / "new"))
    assert np.array_equal(predicted(whole, subject="second/0"), predicted(adapted))


def test_rows_of_another_encoder_are_of_their_own(base):
    row = prior_row(base.encoder, "", OUTPUTS)
    found = with_rows(base.card, base.encoder, [row, row])
    assert found.n_subjects == 2
    features = draw_features()
    assert torch.equal(found(features, 0), base.encoder(features))
    assert all(torch.equal(a, b) for a, b in zip(row, prior_row(found, "", 0), strict=True))
    zero = prior_row(base.encoder, None, 4)
    assert zero[0].shape == (RANK, 4)
    assert not zero[0].any()


def test_reading_gives_what_was_saved(base, tmp_path):
    adapter = dataclasses.replace(
        make_adapter(base, tmp_path / "new"), found={"penalties": [float("inf"), float("nan"), 2.0]}
    )
    save_adapter(adapter, tmp_path / "new")
    found = read_adapter(tmp_path / "new")
    assert found.found == {"penalties": ["infinite", None, 2.0]}
    assert found.base == adapter.base
    assert found.trained_on is None
    assert all(torch.equal(adapter.tensors[key], value) for key, value in found.tensors.items())
