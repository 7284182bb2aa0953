"""Small checkpoints in both formats, to damage, and the one line that refuses them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import makers
from tribrain.encoder.checkpoints import load_folder, save_folder
from tribrain.errors import InputError

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
