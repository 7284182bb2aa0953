"""Pretrained models: where they lie, how they are loaded.

A model is looked up by its full name, or by the last part of it, in the folder given with
``--backbones``; only then on the Hugging Face hub. Nothing in a model's folder is executed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tribrain.errors import InputError
from tribrain.features.hidden import grouped_states
from tribrain.features.recipe import FeatureRecipe
from tribrain.files import sha256
from tribrain.hub import fetch

# Same weights under a name that needs no agreement.
UNGATED = {"meta-llama/Llama-3.2-3B": "unsloth/Llama-3.2-3B"}

# For each type of model: the modality it reads, its blocks, and the norm after the last block
# where the model counts that norm's output as its last hidden state.
MODEL_TYPES: dict[str, tuple[str, str, str | None]] = {
    "llama": ("text", "layers", "norm"),
    "qwen2": ("text", "layers", "norm"),
    "qwen3": ("text", "layers", "norm"),
    "mistral": ("text", "layers", "norm"),
    "gpt2": ("text", "h", "ln_f"),
    "wav2vec2-bert": ("audio", "encoder.layers", None),
    "vjepa2": ("video", "encoder.layer", None),
}


@dataclass(frozen=True)
class BackboneFolder:
    """A Hugging Face folder on this machine; `revision` is its commit, or "local"."""

    name: str
    path: Path
    revision: str

    def describe(self) -> dict[str, Any]:
        """Which model it is, as plain data; without a commit, by the checksums of its files."""
        files = [] if self.revision != "local" else sorted(self.path.glob("*.safetensors"))
        config = [self.path / "config.json"] if files else []
        return {
            "name": self.name,
            "folder": self.path.name,
            "revision": self.revision,
            "checksums": {file.name: sha256(file) for file in [*config, *files]},
        }


def find_backbone(
    name: str, folder: str | Path | None, revision: str | None = None
) -> BackboneFolder:
    """Find a pretrained model in `folder`, or fetch it from the hub.

    Parameters
    ----------
    name : str
        Full name, such as ``facebook/w2v-bert-2.0``.
    folder : path or None
        Folder with one Hugging Face folder a model.
    revision : str, optional
        Branch, tag or commit on the hub.

    Raises
    ------
    InputError
        If the model is in neither place, or the hub cannot be reached.
    """
    looked = []
    if folder is not None:
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(f"--backbones {folder} is not a folder")
        for part in (name, name.rsplit("/", 1)[-1], UNGATED.get(name, name)):
            candidate = folder / part
            if (candidate / "config.json").is_file():
                return BackboneFolder(name, candidate, "local")
            looked.append(str(candidate))
        where = f"not in {folder} (looked for {' and '.join(dict.fromkeys(looked))})"
    else:
        where = "no folder was given (--backbones DIR)"
    try:
        path = fetch(name, revision, ["*.json", "*.safetensors", "*.txt", "*.model"])
    except InputError as error:
        hint = f"; {UNGATED[name]} holds the same weights ungated" if name in UNGATED else ""
        raise InputError(f"backbone {name}: {where}, and {error}{hint}") from None
    return BackboneFolder(name, path, path.name)


@dataclass(frozen=True, eq=False)
class Backbone:
    """A frozen pretrained transformer.

    Attributes
    ----------
    model : transformers.PreTrainedModel
    blocks : ModuleList
        Its transformer blocks, without those that no feature needs.
    last : Module or None
        Final norm whose output is the last hidden state, if it is in use.
    groups : list of list of int
        Hidden states whose means are the layers of the feature.
    folder : BackboneFolder
    """

    model: Any
    blocks: nn.ModuleList
    last: nn.Module | None
    groups: list[list[int]]
    folder: BackboneFolder

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def states(self, reduce: Callable[[Tensor], Tensor]) -> AbstractContextManager[list[Tensor]]:
        """Record the feature's layers over one forward pass (`hidden.grouped_states`)."""
        return grouped_states(list(self.blocks), self.groups, reduce, self.last)


def load_backbone(
    folder: BackboneFolder, modality: str, recipe: FeatureRecipe, device: str
) -> Backbone:
    """Load a backbone's weights in single precision, ready for inference on `device`.

    Blocks after the last hidden state that the recipe uses are left out.

    Raises
    ------
    InputError
        If the folder's model is not of a type that reads `modality`, or cannot be loaded.
    """
    from transformers import AutoConfig, AutoModel

    with _Loading(folder):
        config = AutoConfig.from_pretrained(folder.path, trust_remote_code=False)
    reads, blocks_at, norm_at = MODEL_TYPES.get(config.model_type, (None, "", None))
    if reads != modality:
        known = ", ".join(name for name, entry in MODEL_TYPES.items() if entry[0] == modality)
        raise InputError(
            f"backbone {folder.name} is of type {config.model_type!r}; {modality} takes: {known}"
        )
    with _Loading(folder):
        model, info = AutoModel.from_pretrained(
            folder.path,
            dtype="float32",
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    missing = sorted(key for key in info["missing_keys"] if not key.startswith("predictor"))
    if missing:
        raise InputError(
            f"backbone {folder.name}: {len(missing)} weights are missing, {missing[0]} the first"
        )
    all_blocks = model.get_submodule(blocks_at)
    groups = recipe.layer_groups(len(all_blocks) + 1)
    used = max(1, max(map(max, groups)))
    parent, _, attribute = blocks_at.rpartition(".")
    setattr(model.get_submodule(parent), attribute, all_blocks[:used])
    last = model.get_submodule(norm_at) if norm_at and used == len(all_blocks) else None
    model.eval().to(device)
    return Backbone(model, model.get_submodule(blocks_at), last, groups, folder)


def load_tokenizer(folder: BackboneFolder) -> Any:
    """Load a language model's tokenizer; it must be a fast one, which gives offsets."""
    from transformers import AutoTokenizer

    with _Loading(folder):
        tokenizer = AutoTokenizer.from_pretrained(folder.path, trust_remote_code=False)
    if not tokenizer.is_fast:
        raise InputError(
            f"backbone {folder.name} has no fast tokenizer (tokenizer.json) in {folder.path}"
        )
    return tokenizer


def load_feature_extractor(folder: BackboneFolder) -> Any:
    """Load a speech model's own feature extractor."""
    from transformers import AutoFeatureExtractor

    with _Loading(folder):
        return AutoFeatureExtractor.from_pretrained(folder.path, trust_remote_code=False)


def load_video_settings(folder: BackboneFolder) -> dict[str, Any]:
    """A video model's ``video_preprocessor_config.json``; empty where there is none."""
    file = folder.path / "video_preprocessor_config.json"
    with _Loading(folder):
        return json.loads(file.read_text("utf-8")) if file.is_file() else {}


class _Loading:
    """Turn whatever `transformers` raises on a broken folder into one line."""

    def __init__(self, folder: BackboneFolder) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception):
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(
                f"backbone {self.folder.name} in {self.folder.path} cannot be loaded: {first}"
            ) from error
