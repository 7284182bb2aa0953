"""Pretrained models: where they lie, how they are loaded, how their states are read.

A model is looked up by its full name, or by the last part of it, in the folder given with
``--backbones``; only then on the Hugging Face hub. Nothing in a model's folder is executed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tribrain.errors import InputError
from tribrain.features.families import FAMILIES, Family, family_of
from tribrain.features.hidden import grouped_states, means_of_groups
from tribrain.features.recipe import FeatureRecipe
from tribrain.features.relative_attention import use_reordered_attention
from tribrain.files import sha256
from tribrain.hub import fetch

# Same weights under a name that needs no agreement.
UNGATED = {"meta-llama/Llama-3.2-3B": "unsloth/Llama-3.2-3B"}

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

DEVICES = ("auto", "cpu", "cuda", "mps")

_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")


def pick_device(device: str) -> str:
    """The device to compute on: "auto" is a CUDA GPU, else an Apple GPU, else the CPU."""
    if device not in DEVICES:
        raise InputError(f"device {device!r} is unknown; known: {', '.join(DEVICES)}")
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device == "auto":
        return next(name for name, present in there.items() if present)
    if not there[device]:
        usable = ", ".join(name for name, present in there.items() if present)
        raise InputError(f"device {device} is not there; usable here: {usable}")
    return device


def pick_precision(precision: str, device: str) -> str:
    """Name of the number format to compute in; "auto" is the fastest that a device is good at.

    Single precision on the CPU; bfloat16 on a CUDA GPU that computes in it (compute capability 8
    and later), half precision on older ones and on Apple's.

    Raises
    ------
    InputError
        A name that is unknown.
    """
    if precision != "auto":
        if precision not in PRECISIONS:
            known = ", ".join(("auto", *PRECISIONS))
            raise InputError(f"precision {precision!r} is unknown; known: {known}")
        return precision
    if device == "cpu":
        return "fp32"
    if device.startswith("cuda") and torch.cuda.get_device_capability(device)[0] >= 8:
        return "bf16"
    return "fp16"


@dataclass(frozen=True)
class BackboneFolder:
    """A Hugging Face folder on this machine; `revision` is its commit, or "local"."""

    name: str
    path: Path
    revision: str

    def describe(self, checksum: Callable[[Path], str] = sha256) -> dict[str, Any]:
        """Which model it is, as plain data; without a commit, by the checksums of its files."""
        if self.revision != "local":
            return {"name": self.name, "revision": self.revision}
        files = sorted({file for pattern in _FILES for file in self.path.glob(pattern)})
        return {
            "name": self.name,
            "folder": self.path.name,
            "revision": self.revision,
            "checksums": {file.name: checksum(file) for file in files},
        }

    def identity(self, checksum: Callable[[Path], str]) -> dict[str, Any]:
        """What tells this model from every other: name and commit, or the content of its files."""
        facts = self.describe(checksum)
        return {k: v for k, v in facts.items() if k != "folder"}


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
        path = fetch(name, revision, _FILES)
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
        The whole model, or the part of it that is used.
    family : Family
    blocks : ModuleList or None
        Its transformer blocks, without those that no feature needs; None where the states are
        asked of the model itself.
    norm : Module or None
        Norm whose output is the last hidden state, if that state is in use.
    groups : list of list of int
        Hidden states whose means are the layers of the feature.
    pooling : {"mean", "first", "last"}
    folder : BackboneFolder
    """

    model: Any
    family: Family
    blocks: nn.ModuleList | None
    norm: nn.Module | None
    groups: list[list[int]]
    pooling: str
    folder: BackboneFolder

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype

    @property
    def width(self) -> int:
        return int(self.model.config.hidden_size)

    def layers(self, inputs: Mapping[str, Any], reduce: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """Run the model once and give the layers of the feature.

        Parameters
        ----------
        inputs : mapping
            Arguments of the model; tensors are moved to its device, and numbers with a point to
            its precision.
        reduce : callable
            Hidden states (batch, tokens, dim) to any tensor in single precision; it is applied to
            each state as soon as it exists, so that the states themselves are not kept.

        Returns
        -------
        list of Tensor
            One a group, the mean over its reduced states, float32.

        Raises
        ------
        InputError
            If half precision overflowed.
        """
        moved = {name: self._move(value) for name, value in inputs.items()}
        with torch.inference_mode():
            if self.blocks is None:
                states = self.model(**moved, output_hidden_states=True).hidden_states
                layers = means_of_groups(states, self.groups, reduce)
            else:
                recording = grouped_states(list(self.blocks), self.groups, reduce, self.norm)
                with recording as layers:
                    self.model(**moved)
        if self.dtype == torch.float16 and not all(bool(x.isfinite().all()) for x in layers):
            raise InputError(
                f"backbone {self.folder.name} leaves the range of half precision; "
                "--precision bf16 or fp32 fits"
            )
        return layers

    def pool(self, hidden: Tensor) -> Tensor:
        """One vector of a clip's or picture's tokens: (batch, tokens, dim) to (batch, dim)."""
        if self.pooling == "first":
            return hidden[:, 0].float()
        return hidden.mean(dim=1, dtype=torch.float32)

    def _move(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        value = value.to(self.device)
        return value.to(self.dtype) if value.is_floating_point() else value


def load_backbone(
    folder: BackboneFolder,
    modality: str,
    recipe: FeatureRecipe,
    device: str = "cpu",
    *,
    precision: str = "auto",
    compile_blocks: bool = False,
) -> Backbone:
    """Load a backbone's weights, ready for inference on `device`.

    Blocks after the last hidden state that the recipe uses are left out.

    Parameters
    ----------
    precision : {"auto", "fp32", "bf16", "fp16"}
    compile_blocks : bool
        Compile each block with ``torch.compile``: slower to start, faster in the long run.

    Raises
    ------
    InputError
        If the folder's model is not of a type that reads `modality`, or cannot be loaded.
    """
    from transformers import AutoConfig, AutoModel

    dtype = PRECISIONS[pick_precision(precision, device)]
    with loading(folder):
        config = AutoConfig.from_pretrained(folder.path, trust_remote_code=False)
    family = family_of(config)
    if family is None or family.modality != modality:
        known = ", ".join(name for name, one in FAMILIES.items() if one.modality == modality)
        raise InputError(
            f"backbone {folder.name} is of type {config.model_type!r}; {modality} takes: {known}"
        )
    _check_pooling(recipe.pooling, family, folder)
    with loading(folder):
        model, info = AutoModel.from_pretrained(
            folder.path,
            dtype=dtype,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    part = f"{family.part}." if family.part else ""
    missing = sorted(key for key in info["missing_keys"] if _is_used(key, part))
    if missing:
        raise InputError(
            f"backbone {folder.name}: {len(missing)} weights are missing, {missing[0]} the first"
        )
    if family.part:
        model = model.get_submodule(family.part)
    model.eval().requires_grad_(False)
    use_reordered_attention(model)
    if family.blocks is None:
        groups = recipe.layer_groups(config.num_hidden_layers + 1)
        return Backbone(model.to(device), family, None, None, groups, recipe.pooling, folder)
    every = model.get_submodule(family.blocks)
    groups = recipe.layer_groups(len(every) + 1)
    used = max(1, max(map(max, groups)))
    parent, _, attribute = family.blocks.rpartition(".")
    setattr(model.get_submodule(parent), attribute, every[:used])
    blocks = model.get_submodule(family.blocks)
    norm = None
    if family.norm and used == len(every):
        norm = attrgetter(family.norm)(model)  # some models of a family have none (opt-350m)
    model.to(device)
    if compile_blocks:
        for block in blocks:
            block.forward = torch.compile(block.forward)
    return Backbone(model, family, blocks, norm, groups, recipe.pooling, folder)


def _check_pooling(pooling: str, family: Family, folder: BackboneFolder) -> None:
    fits = ["mean"]
    if family.class_token:
        fits.append("first")
    if family.modality == "text":
        fits += ["first", "last"]
    if pooling not in fits and family.modality != "audio":
        raise InputError(
            f"token pooling {pooling!r} does not fit backbone {folder.name}; "
            f"what fits: {', '.join(fits)}"
        )


# Parts that transformers makes for other tasks, and that checkpoints need not hold.
_UNUSED = ("predictor", "pooler", "masked_spec_embed", "encoder.masked_spec_embed", "mask_token")


def _is_used(key: str, part: str) -> bool:
    if not key.startswith(part):
        return False
    key = key.removeprefix(part)
    return not key.startswith(_UNUSED) and not key.endswith("mask_token")


def load_tokenizer(folder: BackboneFolder) -> Any:
    """Load a language model's tokenizer; it must be a fast one, which gives offsets."""
    from transformers import AutoTokenizer

    with loading(folder):
        tokenizer = AutoTokenizer.from_pretrained(folder.path, trust_remote_code=False)
    if not tokenizer.is_fast:
        raise InputError(
            f"backbone {folder.name} has no fast tokenizer (tokenizer.json) in {folder.path}"
        )
    return tokenizer


def load_feature_extractor(folder: BackboneFolder) -> Any:
    """Load a speech model's own feature extractor."""
    from transformers import AutoFeatureExtractor

    with loading(folder):
        return AutoFeatureExtractor.from_pretrained(folder.path, trust_remote_code=False)


def load_picture_settings(folder: BackboneFolder) -> dict[str, Any]:
    """How a model's pictures are made ready, from the file it keeps that in; {} without one."""
    names = ("video_preprocessor_config.json", "preprocessor_config.json", "processor_config.json")
    with loading(folder):
        for name in names:
            file = folder.path / name
            if file.is_file():
                content = json.loads(file.read_text("utf-8"))
                return content.get("image_processor", content)
    return {}


class loading:  # noqa: N801 - read as a statement: with loading(folder)
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
