"""Models by name: what each name loads, and what is said where it cannot be."""

from __future__ import annotations

import fnmatch
import shutil
from pathlib import Path

import pytest
import torch

import makers
import tribrain
from tribrain.encoder.checkpoints import load_folder, save_folder
from tribrain.encoder.models import (
    NON_COMMERCIAL,
    PUBLISHED,
    convert_model,
    load_model,
)
from tribrain.encoder.predict import TrainedModel
from tribrain.encoder.textbook import TextbookModel
from tribrain.errors import InputError, InputWarning
from tribrain.features.backbones import DEVICES, pick_device

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = makers.published_config(
        brain_model_config__hidden=96, brain_model_config__max_seq_len=8, data__duration_trs=4
    )
    weights = makers.published_weights(config, n_outputs=4)
    folder = tmp_path_factory.mktemp("models") / "published"
    return makers.make_published_checkpoint(folder, config, weights)


@pytest.fixture
def free(published: Path, tmp_path: Path) -> Path:
    """A model of our own format with a licence that needs no word."""
    card, encoder = load_folder(published, name="free", licence="CC0-1.0")
    save_folder(card, encoder, tmp_path / "free")
    return tmp_path / "free"


@pytest.fixture
def hub(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """A hub that answers every name with the published folder, and keeps what it was asked."""
    folder = shutil.copytree(published, tmp_path / "hub" / "snapshots" / COMMIT)
    asked: list[dict] = []

    def fetch(repository, **options):
        asked.append({"repository": repository, **options})
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    return asked


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that must not be asked."""

    def fetch(*args, **options):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)


def load_from_hub(name: str, **options) -> TrainedModel:
    with pytest.warns(InputWarning, match="CC BY-NC"):
        return load_model(name, device="cpu", **options)


def refusal(name, **options) -> str:
    """The one line with which a model is refused."""
    with pytest.raises(InputError) as caught:
        load_model(name, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- the textbook --------------------------------------------------------------------------------


def test_the_textbook_is_the_default_and_needs_no_hub(no_hub):
    assert isinstance(load_model(), TextbookModel)
    assert isinstance(load_model("textbook", device="cpu"), TextbookModel)
    assert isinstance(tribrain.load_model(), TextbookModel)
    assert load_model().modalities == ("text", "audio", "video")


def test_the_textbook_has_no_revisions(no_hub):
    assert "no revisions" in refusal("textbook", revision="main")


def test_the_textbook_has_no_revisions_behind_an_at_sign_either(no_hub):
    assert "no revisions" in refusal("textbook@main")


# --- folders -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder_loads_by_its_path(free, no_hub, kind):
    model = load_model(kind(free), device="cpu")
    assert isinstance(model, TrainedModel)
    assert (model.name, model.card.revision) == ("free", "local")
    assert model.modalities == ("text", "audio", "video")
    assert model.subjects == ("Study/sub-01", "Study/sub-02")


def test_a_published_folder_says_its_licence_once_where_it_is_loaded(published, no_hub):
    with pytest.warns(InputWarning) as said:
        model = load_model(published, device="cpu")
    assert len(said) == 1
    assert "CC BY-NC 4.0" in str(said[0].message)
    assert "\n" not in str(said[0].message)
    assert said[0].filename == __file__
    assert model.name == "published"


def test_a_model_with_a_free_licence_says_nothing(free, recwarn):
    load_model(free, device="cpu")
    assert not [warning for warning in recwarn if issubclass(warning.category, InputWarning)]


def test_a_folder_with_a_revision_is_refused(free, no_hub):
    message = refusal(free, revision="main")
    assert "revision" in message
    assert str(free) in message


def test_a_folder_whose_name_holds_an_at_sign_loads(free, no_hub):
    folder = free.rename(free.parent / "free@2024")
    assert load_model(folder, device="cpu").name == "free"


def test_a_folder_that_holds_no_model_says_what_one_holds(tmp_path, no_hub):
    message = refusal(tmp_path)
    for file in ("model.json", "model.safetensors", "config.yaml", "best.ckpt"):
        assert file in message


def test_a_folder_loads_relative_to_where_one_stands(free, no_hub, monkeypatch):
    monkeypatch.chdir(free.parent)
    assert load_model("free", device="cpu").name == "free"
    assert load_model("./free", device="cpu").name == "free"


def test_the_encoder_alone_can_be_called(free):
    model = load_model(free, device="cpu")
    features = {name: torch.zeros(2, *dims, 8) for name, dims in makers.FEATURE_DIMS.items()}
    assert model.encoder(features).shape == (2, 100, 4)
    assert model.encoder(features, subject=0).shape == (2, 100, 4)


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "textbok",
        "tribev2",
        "no/such/folder",
        "./no-such-folder",
        "../no-such-folder",
        "/no/such",
        "~/no-such-folder",
        "best.ckpt",
        "lite",
    ],
)
def test_an_unknown_name_lists_the_known_ones(name, no_hub):
    message = refusal(name)
    assert repr(name) in message
    for known in ("textbook", *PUBLISHED):
        assert known in message


def test_a_file_in_place_of_a_folder_is_refused(published, no_hub):
    assert "give a folder" in refusal(published / "best.ckpt")


def test_the_published_names_are_the_known_three():
    assert set(PUBLISHED) == {
        "facebook/tribev2",
        "facebook/tribev2-mini",
        "facebook/tribev2-subcortical",
    }


# --- the hub -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_name_is_fetched_and_keeps_its_name_and_commit(hub, name):
    model = load_from_hub(name)
    assert hub[0]["repository"] == name
    assert hub[0]["revision"] is None
    assert (model.name, model.card.revision) == (name, COMMIT)
    assert model.card.licence == NON_COMMERCIAL


@pytest.mark.parametrize(
    ("name", "options", "revision"),
    [
        ("facebook/tribev2@abc123", {}, "abc123"),
        ("facebook/tribev2", {"revision": "v1.0"}, "v1.0"),
        ("facebook/tribev2@refs/pr/1", {}, "refs/pr/1"),
        ("facebook/tribev2@", {}, None),
    ],
)
def test_a_revision_is_asked_for_and_the_commit_recorded(hub, name, options, revision):
    model = load_from_hub(name, **options)
    assert hub[0]["repository"] == "facebook/tribev2"
    assert hub[0]["revision"] == revision
    assert model.name == "facebook/tribev2"
    assert model.card.revision == COMMIT


def test_two_revisions_that_differ_are_refused(hub):
    assert "revision" in refusal("facebook/tribev2@one", revision="two")


def test_the_licence_of_a_published_model_is_said_once(hub):
    with pytest.warns(InputWarning) as said:
        load_model("facebook/tribev2", device="cpu")
    assert [str(warning.message) for warning in said] == [
        f"licence of facebook/tribev2: {NON_COMMERCIAL}"
    ]


def test_a_model_of_somebody_else_is_not_said_to_be_published(hub):
    model = load_from_hub("someone/model")
    assert model.card.licence.startswith("unknown")


def test_only_the_files_of_a_checkpoint_are_fetched(hub):
    load_from_hub("facebook/tribev2")
    patterns = hub[0]["allow_patterns"]

    def fetched(file: str) -> bool:
        return any(fnmatch.fnmatch(file, pattern) for pattern in patterns)

    wanted = ("config.yaml", "best.ckpt", "model.json", "model.safetensors")
    unwanted = ("modeling.py", "sub/config.yaml", "other.ckpt", "last.pkl", "README.md", "a.pt")
    assert all(fetched(file) for file in wanted)
    assert not any(fetched(file) for file in unwanted)


def test_a_model_of_the_hub_converts_and_keeps_name_and_licence(hub, tmp_path):
    with pytest.warns(InputWarning, match="licence of facebook/tribev2"):
        convert_model("facebook/tribev2", tmp_path / "converted")
    card, _ = load_folder(tmp_path / "converted")
    assert (card.name, card.licence) == ("facebook/tribev2", NON_COMMERCIAL)


def test_a_converted_model_still_tells_the_commit_it_came_from(hub, tmp_path):
    with pytest.warns(InputWarning, match="licence of facebook/tribev2"):
        convert_model("facebook/tribev2", tmp_path / "converted")
    with pytest.warns(InputWarning, match="licence of facebook/tribev2"):
        model = load_model(tmp_path / "converted", device="cpu")
    assert model.card.revision == COMMIT


def raise_from_hub(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fetch(*args, **options):
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)


def hub_error(name: str) -> Exception:
    """An error of the hub's client, made without the HTTP answer that its maker asks for."""
    import huggingface_hub.errors

    kind = getattr(huggingface_hub.errors, name)
    return kind.__new__(kind)


@pytest.mark.parametrize(
    "error",
    [ConnectionError("Failed to resolve\n'huggingface.co'"), TimeoutError(), OSError("disk full")],
)
def test_a_hub_that_cannot_be_reached_is_one_line_with_the_known_names(monkeypatch, error):
    raise_from_hub(monkeypatch, error)
    message = refusal("facebook/tribev2", device="cpu")
    assert "cannot be reached" in message
    assert type(error).__name__ in message
    assert "textbook" in message


@pytest.mark.parametrize(
    "name", ["LocalEntryNotFoundError", "OfflineModeIsEnabled", "HfHubHTTPError"]
)
def test_errors_of_the_hub_s_client_are_one_line(monkeypatch, name):
    raise_from_hub(monkeypatch, hub_error(name))
    assert "facebook/tribev2" in refusal("facebook/tribev2", device="cpu")


def test_a_repository_that_is_not_there_is_told_with_the_known_ones(monkeypatch):
    raise_from_hub(monkeypatch, hub_error("RepositoryNotFoundError"))
    message = refusal("facebook/tribev3", device="cpu")
    assert "model facebook/tribev3: the hub has no" in message
    assert "facebook/tribev2" in message


def test_a_revision_that_is_not_there_is_told(monkeypatch):
    raise_from_hub(monkeypatch, hub_error("RevisionNotFoundError"))
    message = refusal("facebook/tribev2@nowhere", device="cpu")
    assert "no revision 'nowhere'" in message


def test_a_model_that_asks_for_consent_is_not_told_as_missing(monkeypatch):
    raise_from_hub(monkeypatch, hub_error("GatedRepoError"))
    assert "has no model" not in refusal("meta/gated", device="cpu")


def test_a_name_that_the_hub_cannot_have_is_not_told_as_a_broken_network(monkeypatch):
    raise_from_hub(monkeypatch, hub_error("HFValidationError"))
    assert "reached" not in refusal("me/a b", device="cpu")


def test_ctrl_c_while_fetching_is_not_swallowed(monkeypatch):
    raise_from_hub(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        load_model("facebook/tribev2", device="cpu")


def test_a_damaged_download_names_the_file(hub, tmp_path):
    (tmp_path / "hub" / "snapshots" / COMMIT / "best.ckpt").write_bytes(b"nothing")
    assert "best.ckpt" in refusal("facebook/tribev2", device="cpu")


# --- devices -------------------------------------------------------------------------------------


def with_devices(monkeypatch: pytest.MonkeyPatch, *, cuda: bool, mps: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "picked"),
    [
        (True, True, "cuda"),
        (True, False, "cuda"),
        (False, True, "mps"),
        (False, False, "cpu"),
    ],
)
def test_auto_is_the_fastest_device_that_is_there(monkeypatch, cuda, mps, picked):
    with_devices(monkeypatch, cuda=cuda, mps=mps)
    assert pick_device("auto") == picked
    assert pick_device("cpu") == "cpu"
    assert pick_device(picked) == picked


@pytest.mark.parametrize("device", ["tpu", "CPU", "cuda:0", ""])
def test_an_unknown_device_lists_the_known_ones(free, device):
    message = refusal(free, device=device)
    assert repr(device) in message
    assert all(known in message for known in DEVICES)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there_lists_the_usable_ones(free, monkeypatch, device):
    with_devices(monkeypatch, cuda=False, mps=False)
    message = refusal(free, device=device)
    assert f"{device} is not there" in message
    assert message.endswith("usable here: cpu")


def test_a_device_is_checked_before_anything_is_fetched(no_hub):
    assert "tpu" in refusal("facebook/tribev2", device="tpu")


def test_an_unknown_device_is_refused_for_the_textbook_too():
    assert "tpu" in refusal("textbook", device="tpu")
