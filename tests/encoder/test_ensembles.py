"""Ensembles: what is averaged, what is refused, the folder, and the interface of one model."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from network_makers import DIMS, small_encoder
from tribrain import cli, load_response
from tribrain.brain.response import UNIT
from tribrain.encoder.adapters import AdaptedModel, Adapter
from tribrain.encoder.checkpoints import ModelCard, load_folder, save_folder
from tribrain.encoder.ensemble_files import save_ensemble
from tribrain.encoder.ensembles import EnsembleModel
from tribrain.encoder.models import convert_model, load_model
from tribrain.encoder.predict import TrainedModel
from tribrain.encoder.textbook import TextbookModel
from tribrain.errors import InputError
from tribrain.features.extract import FeatureSeries
from tribrain.features.recipe import FeatureRecipe
from tribrain.stimuli.stimulus import Stimulus
from tribrain.stimuli.words import Word

PEOPLE = {"made/01": 0, "made/02": 1}
OUTPUTS = 6


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_member(seed: int, card: dict | None = None, **build) -> TrainedModel:
    encoder = small_encoder(seed, **build)
    settings = {"n_outputs": OUTPUTS, "n_output_samples": 5, "n_subjects": 3, "hidden": 96}
    settings |= {"feature_dims": DIMS, "depth": 2, "heads": 2, "max_samples": 16, "rank": 8}
    told = ModelCard(
        build=settings | build,
        recipe=FeatureRecipe(frequency=2.0),
        window=5.0,
        lag=5.0,
        space=None,
        subjects=PEOPLE,
        licence="CC0-1.0",
        name=f"seed-{seed}",
        revision="local",
        checksums={},
    )
    return TrainedModel(dataclasses.replace(told, **(card or {})), encoder)


MEMBERS = [make_member(seed) for seed in range(3)]


def draw_series(samples: int = 30, seed: int = 1) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        name: random.normal(size=(*dims, samples)).astype(np.float32) for name, dims in DIMS.items()
    }


def draw_numbers(n: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(2)
    weights = random.random((n, OUTPUTS))
    return weights / weights.sum(axis=0), random.uniform(0.5, 2, (n, OUTPUTS))


# --- what is averaged ----------------------------------------------------------------------------


@pytest.mark.parametrize("subject", [None, "made/02"])
def test_equal_weights_give_the_plain_mean(subject):
    series = draw_series()
    parts = [one.predict(features=series, subject=subject).data.values for one in MEMBERS]
    found = EnsembleModel(MEMBERS).predict(features=series, subject=subject)
    np.testing.assert_allclose(found.data.values, np.mean(parts, axis=0), atol=1e-6)
    assert np.abs(parts[0] - parts[1]).max() > 0.01
    assert found.data.attrs["unit"] == UNIT


def test_each_output_has_its_own_weights_and_factors():
    series = draw_series()
    weights, factors = draw_numbers()
    parts = [one.predict(features=series).data.values for one in MEMBERS]
    expected = np.zeros(parts[0].shape)
    for row in range(expected.shape[0]):
        for output in range(OUTPUTS):
            expected[row, output] = sum(
                weights[m, output] * factors[m, output] * parts[m][row, output] for m in range(3)
            )
    found = EnsembleModel(MEMBERS, weights, factors).predict(features=series).data.values
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_what_is_predicted_for_a_second_does_not_depend_on_the_length_of_the_film():
    series = draw_series(40)
    ensemble = EnsembleModel(MEMBERS, *draw_numbers())
    long = ensemble.predict(features=series).data.values
    short = ensemble.predict(features={name: part[..., :20] for name, part in series.items()})
    np.testing.assert_allclose(short.data.values, long[:10], atol=1e-6)


def test_overlap_and_modalities_reach_every_member():
    series = draw_series()
    how = {"overlap": 2.0, "modalities": ["audio", "video"]}
    parts = [one.predict(features=series, **how).data.values for one in MEMBERS]
    found = EnsembleModel(MEMBERS).predict(features=series, **how)
    np.testing.assert_allclose(found.data.values, np.mean(parts, axis=0), atol=1e-6)
    assert found.data.attrs["modalities"] == ["audio", "video"]


def test_people_are_those_whom_all_members_know():
    other = make_member(4, {"subjects": {"made/02": 0, "made/03": 1}})
    ensemble = EnsembleModel([MEMBERS[0], other])
    assert ensemble.subjects == ("made/02",)
    found = ensemble.predict(features=draw_series(), subject="made/02").data.values
    rows = [
        one.encoder({k: torch.tensor(v[None, ..., :10]) for k, v in draw_series().items()}, row)
        for one, row in ((MEMBERS[0], 1), (other, 0))
    ]
    np.testing.assert_allclose(found[:5], torch.stack(rows).mean(0)[0].numpy(), atol=1e-5)
    with pytest.raises(InputError, match="'made/03' is unknown to ensemble; known: made/02"):
        ensemble.predict(features=draw_series(), subject="made/03")


def test_a_response_names_all_members():
    told = EnsembleModel(MEMBERS, name="three").predict(features=draw_series())
    assert told.data.attrs["model"] == "three"
    assert told.data.attrs["subject"] == "unseen"
    assert "3 models" in told.data.attrs["label"]
    members = told.provenance["model"]["members"]
    assert [one["name"] for one in members] == ["seed-0", "seed-1", "seed-2"]
    assert sum(one["mean_weight"] for one in members) == pytest.approx(1)
    assert all("seed-1: CC0" in part for part in [told.data.attrs["licence"]])


# --- features ------------------------------------------------------------------------------------


def test_members_of_one_recipe_extract_once_and_others_their_own(monkeypatch):
    words = tuple(Word(f"w{n}", n + 0.2, 0.3) for n in range(9))
    stimulus = Stimulus("talk", 10.0, None, None, words, None, Path("talk.txt"))
    slow = make_member(
        5,
        {"recipe": FeatureRecipe(frequency=1.0), "build": {}},
        feature_dims={"text": (1, 4)},
    )
    extracted = []

    def extract(model, given, *, modalities=None, progress=None):
        extracted.append(model.name)
        rate = int(model.card.recipe.frequency)
        shape = model.encoder.feature_dims["text"]
        values = np.random.default_rng(rate).normal(size=(*shape, 10 * rate)).astype(np.float32)
        return FeatureSeries(given, {"text": values})

    monkeypatch.setattr(TrainedModel, "extract", extract)
    ensemble = EnsembleModel([MEMBERS[0], slow, MEMBERS[1]])
    found = ensemble.predict(stimulus)
    assert extracted == ["seed-0", "seed-5"]
    parts = [one.predict(stimulus).data.values for one in (MEMBERS[0], slow, MEMBERS[1])]
    np.testing.assert_allclose(found.data.values, np.mean(parts, axis=0), atol=1e-6)
    assert found.data["stimulus"].values.sum() == 9
    assert found.provenance["stimulus"] == slow.predict(stimulus).provenance["stimulus"]
    for call in (
        lambda: ensemble.predict(features=draw_series()),
        lambda: ensemble.extract(stimulus),
    ):
        with pytest.raises(InputError, match="seed-0 and seed-5 read different features"):
            call()
    with pytest.raises(InputError, match="member seed-5 reads none of audio; it reads text"):
        ensemble.predict(stimulus, modalities=["audio"])
    with pytest.raises(InputError, match="'smell' is unknown; known: text, audio, video"):
        ensemble.predict(stimulus, modalities=["smell"])


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("card", "build", "words"),
    [
        ({"lag": 4.0}, {}, "seed-0 and seed-9 have different lags .5.0 and 4.0 s"),
        ({}, {"n_outputs": 7}, "seed-0 and seed-9 have different spaces .* and .*7 values"),
        ({"space": "made up"}, {}, "seed-9 have different spaces"),
        ({"window": 10.0}, {}, "seed-9 gives 5 rows for 10 s; one row a second fits"),
        (
            {},
            {"n_outputs": {"a": 6, "b": 2}, "n_subjects": {"a": 2, "b": 1}},
            "seed-9 predicts a, b; members have one space each",
        ),
    ],
)
def test_members_that_cannot_be_averaged_are_refused_by_name(card, build, words):
    with pytest.raises(InputError, match=words):
        EnsembleModel([MEMBERS[0], make_member(9, card, **build)])


def test_too_few_members_and_models_that_were_not_trained_are_refused():
    with pytest.raises(InputError, match="two members or more"):
        EnsembleModel(MEMBERS[:1])
    with pytest.raises(InputError, match="textbook is no trained model"):
        EnsembleModel([MEMBERS[0], TextbookModel()])
    with pytest.raises(InputError, match="pair is no trained model"):
        EnsembleModel([MEMBERS[0], EnsembleModel(MEMBERS, name="pair")])


def test_models_adapted_to_people_are_no_members():
    # Without a name, each predicts its own person, and their mean would be told to be "unseen".
    adapted = []
    for person, member in zip(("new/1", "new/2"), MEMBERS, strict=False):
        rows = {"rows.0.weight": torch.ones(8, OUTPUTS), "rows.0.bias": torch.ones(OUTPUTS)}
        told = {"name": member.name, "revision": "local", "checksums": {}, "place": "."}
        space = member.space.name
        adapter = Adapter("new", "ridge", (person,), space, OUTPUTS, True, told, rows)
        adapted.append(AdaptedModel.of(member, adapter))
    for members in (adapted, [MEMBERS[2], adapted[1]]):
        with pytest.raises(InputError, match=r"new is adapted to new/\d and averages with no"):
            EnsembleModel(members)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (np.full((3, OUTPUTS), 0.5), "do not add up to 1"),
        (np.full((2, OUTPUTS), 0.5), "do not fit"),
        (np.full((3, OUTPUTS), np.nan), "not finite"),
        (np.array([[2.0], [-1.0], [0.0]]).repeat(OUTPUTS, 1), "negative"),
    ],
)
def test_weights_that_are_none_are_refused(weights, words):
    with pytest.raises(InputError, match=words):
        EnsembleModel(MEMBERS, weights)


# --- the folder ----------------------------------------------------------------------------------


@pytest.fixture
def places(tmp_path):
    for member in MEMBERS:
        save_folder(member.card, member.encoder, tmp_path / "runs" / member.name / "model")
    return [tmp_path / "runs" / member.name / "model" for member in MEMBERS]


@pytest.fixture
def saved(places, tmp_path):
    ensemble = EnsembleModel(
        [load_model(place, device="cpu") for place in places],
        *draw_numbers(),
        name="three",
        how={"temperature": 0.3, "weighted_by": {"rows": 7, "spans": {"made/r": [[0, 7]]}}},
        trained_on={"abc": [[0.0, 7.0]]},
    )
    save_ensemble(ensemble, tmp_path / "runs" / "ensemble", places)
    return tmp_path / "runs" / "ensemble"


@pytest.mark.parametrize("copy", [False, True])
def test_a_folder_that_is_loaded_predicts_bit_by_bit_the_same(places, saved, tmp_path, copy):
    first = load_model(saved, device="cpu")
    target = tmp_path / "elsewhere" / "copied"
    if copy:
        save_ensemble(first, target, places, copy=True)
        shutil.rmtree(tmp_path / "runs")
    else:
        (tmp_path / "runs").rename(tmp_path / "moved")  # paths are relative
        target = tmp_path / "moved" / "ensemble"
    again = load_model(target, device="cpu")
    assert isinstance(again, EnsembleModel)
    assert (again.name, again.how, again.trained_on) == ("three", first.how, {"abc": [[0.0, 7.0]]})
    expected, found = (
        one.predict(features=draw_series(), subject="made/01").data.values for one in (first, again)
    )
    np.testing.assert_array_equal(found, expected)
    own = EnsembleModel(MEMBERS, *draw_numbers())
    np.testing.assert_array_equal(
        found, own.predict(features=draw_series(), subject="made/01").data.values
    )
    assert again.describe()["weighted_by"] == {"rows": 7}


def test_an_ensemble_that_is_copied_again_replaces_its_members(places, saved, tmp_path):
    target = tmp_path / "copied"
    save_ensemble(load_model(saved, device="cpu"), target, places, copy=True)
    pair = EnsembleModel([load_model(place, device="cpu") for place in places[:2]])
    save_ensemble(pair, target, places[:2], copy=True)
    assert sorted(one.name for one in (target / "members").iterdir()) == ["0-seed-0", "1-seed-1"]
    assert len(load_model(target, device="cpu").members) == 2


def test_a_member_that_is_missing_or_another_is_refused_in_one_line(places, saved):
    def said() -> str:
        with pytest.raises(InputError) as error:
            load_model(saved, device="cpu")
        assert "\n" not in str(error.value)
        return str(error.value)

    weights = places[1] / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "its member seed-1 is another than it was" in said()
    assert "model.safetensors" in said()
    weights.write_bytes(whole)
    load_model(saved, device="cpu")
    places[1].rename(places[1].with_name("other"))
    assert "its member seed-1 is not at" in said()


def test_damaged_files_are_refused_in_one_line(saved):
    def said() -> str:
        with pytest.raises(InputError) as error:
            load_model(saved, device="cpu")
        assert "\n" not in str(error.value)
        assert str(saved) in str(error.value)
        return str(error.value)

    told = (saved / "ensemble.json").read_text()
    for damaged in (told[: len(told) // 2], "[]", told.replace("ensemble-1", "ensemble-9"), "{}"):
        (saved / "ensemble.json").write_text(damaged)
        assert "ensemble.json is damaged" in said()
    (saved / "ensemble.json").write_text(told)
    numbers = load_file(saved / "ensemble.safetensors")
    whole = (saved / "ensemble.safetensors").read_bytes()
    for damaged in (whole[: len(whole) // 2], b""):
        (saved / "ensemble.safetensors").write_bytes(damaged)
        assert "ensemble.safetensors is damaged" in said()
    save_file({"weights": numbers["weights"]}, saved / "ensemble.safetensors")
    assert "ensemble.safetensors is damaged" in said()
    save_file({**numbers, "weights": numbers["weights"] * 2}, saved / "ensemble.safetensors")
    assert "do not add up to 1" in said()
    (saved / "ensemble.safetensors").unlink()
    assert "ensemble.safetensors is damaged" in said()


def test_members_on_the_hub_are_named_and_pinned(places, tmp_path, monkeypatch):
    repository = tmp_path / "hub" / "0123abc"
    shutil.copytree(places[1], repository)
    asked = []

    def fetch(name, revision, files):
        asked.append((name, revision))
        return repository

    monkeypatch.setattr("tribrain.encoder.models.fetch", fetch)
    members = [load_model(places[0], device="cpu"), load_model("some/model", device="cpu")]
    ensemble = EnsembleModel(members)
    save_ensemble(ensemble, tmp_path / "mixed", [places[0], "some/model"], copy=True)
    told = json.loads((tmp_path / "mixed" / "ensemble.json").read_text())["members"][1]
    assert (told["hub"], told["revision"]) == ("some/model", "0123abc")
    again = load_model(tmp_path / "mixed", device="cpu")
    assert asked[-1] == ("some/model", "0123abc")
    expected, found = (one.predict(features=draw_series()).data.values for one in (ensemble, again))
    np.testing.assert_array_equal(found, expected)
    (repository / "model.json").write_text((repository / "model.json").read_text() + " ")
    with pytest.raises(InputError, match=r"some/model.* is another than it was"):
        load_model(tmp_path / "mixed", device="cpu")


@pytest.mark.parametrize("copy", [False, True])
def test_a_folder_without_weights_is_no_member(places, tmp_path, copy):
    (places[2] / "model.json").rename(places[2] / "adapter.json")
    with pytest.raises(InputError, match="holds no weights of its own"):
        save_ensemble(EnsembleModel(MEMBERS), tmp_path / "made", places, copy=copy)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("copy", [False, True])
def test_notes_beside_a_member_are_no_part_of_it(places, tmp_path, copy):
    (places[0] / "notes.json").write_text("{}")
    save_ensemble(EnsembleModel(MEMBERS), tmp_path / "made", places, copy=copy)
    (places[0] / "notes.json").write_text('{"more": 1}')
    assert len(load_model(tmp_path / "made", device="cpu").members) == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"path": "."}, "at .* is no trained model"),
        ({"path": 3}, "damaged .*not one path or repository"),
        ({"path": None}, "damaged .*not one path or repository"),
        ({"hub": "some/model"}, "damaged .*not one path or repository"),
        ({"revision": 3}, "damaged .*no revision"),
        ({"sha256": []}, "damaged .*no checksums"),
        ({"sha256": {}}, "another than it was"),
        ({"path": None, "hub": "textbook", "revision": ""}, "another than it was"),
    ],
)
def test_what_is_told_of_a_member_is_not_trusted(change, words, saved):
    file = saved / "ensemble.json"
    told = json.loads(file.read_text())
    told["members"][0] |= change
    file.write_text(json.dumps(told))
    with pytest.raises(InputError, match=words) as error:
        load_model(saved, device="cpu")
    assert "\n" not in str(error.value)


def test_an_ensemble_is_not_converted(saved, tmp_path):
    with pytest.raises(InputError, match="convert its members one by one"):
        convert_model(saved, tmp_path / "converted")


def test_the_command_line_predicts_with_an_ensemble(
    checkpoint, backbones, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    card, encoder = load_folder(checkpoint, name="first", licence="CC0-1.0")
    save_folder(card, encoder, tmp_path / "first")
    other = {name: value + 0.1 for name, value in encoder.state_dict().items() if "head" in name}
    encoder.load_state_dict(encoder.state_dict() | other)
    save_folder(dataclasses.replace(card, name="second"), encoder, tmp_path / "second")
    (tmp_path / "talk.txt").write_text("one two three four")

    def call(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["tribrain", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == 0, capsys.readouterr().err

    call("ensemble", "first", "second", "--out", "both", "--device", "cpu")
    found = []
    for model in ("first", "second", "both"):
        options = ("--backbones", str(backbones), "--device", "cpu", "--no-cache")
        call("predict", "talk.txt", "--model", model, "--out", f"of {model}", *options)
        found.append(load_response(tmp_path / f"of {model}").data)
    first, second, both = (one.values for one in found)
    np.testing.assert_allclose(both, (first + second) / 2, atol=1e-5)
    assert np.abs(first - second).max() > 0.01
    assert found[2].attrs["model"] == "both"
    told = json.loads((tmp_path / "of both" / "talk_response.json").read_text())
    members = told["model"]["members"]
    assert [one["name"] for one in members] == ["first", "second"]
