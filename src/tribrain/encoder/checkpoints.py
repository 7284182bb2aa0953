"""Checkpoints: the published format in, our own format in and out.

Our own format is a folder of two files: ``model.safetensors`` (weights) and ``model.json`` (every
build argument, the features it reads, its clock, space, subjects, licence and origin).
"""

from __future__ import annotations

import dataclasses
import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tribrain.encoder import published
from tribrain.encoder.network import Encoder
from tribrain.errors import InputError
from tribrain.features.recipe import FeatureRecipe
from tribrain.files import sha256, whole_folder

FORMAT = "tribrain-encoder-1"
_OWN = ("model.json", "model.safetensors")
_PUBLISHED = ("config.yaml", "best.ckpt")
PUBLISHED_LICENCE = "unknown; the published TRIBE v2 checkpoints are CC BY-NC 4.0"


@dataclass(frozen=True)
class ModelCard:
    """What a model is, beside its weights.

    Attributes
    ----------
    build : dict
        Arguments of `network.Encoder`.
    recipe : FeatureRecipe
        The features it reads.
    window : float
        Seconds of stimulus that it sees at once.
    lag : float
        Row t holds the BOLD signal at t + lag seconds.
    space : str or None
        Name of the output space, where the checkpoint tells it.
    subjects : dict of str to int
        Row of the head for each subject it was trained on.
    licence : str
    name, revision : str
        Where it came from.
    checksums : dict of str to str
        SHA-256 of the files it was read from.
    """

    build: dict[str, Any]
    recipe: FeatureRecipe
    window: float
    lag: float
    space: str | None
    subjects: dict[str, int]
    licence: str
    name: str
    revision: str
    checksums: dict[str, str]


def load_folder(
    folder: Path, *, name: str | None = None, revision: str = "local", licence: str | None = None
) -> tuple[ModelCard, Encoder]:
    """Load a model from a folder in our own or in the published format.

    Parameters
    ----------
    folder : Path
    name, revision, licence : str, optional
        Recorded as the model's origin; by default the folder's name and what it says itself.

    Raises
    ------
    InputError
        Files that are missing or damaged; weights that are missing, superfluous or of a wrong
        shape, by name.
    """
    if all((folder / file).is_file() for file in _OWN):
        card, state = _read_own(folder)
    elif all((folder / file).is_file() for file in _PUBLISHED):
        card, state = _read_published(folder, name or folder.name, licence or PUBLISHED_LICENCE)
    else:
        raise InputError(
            f"{folder} is no model: it holds neither {' and '.join(_OWN)} "
            f"nor {' and '.join(_PUBLISHED)}"
        )
    card = dataclasses.replace(card, name=name or card.name, revision=revision)
    return card, _build(card, state, folder)


def save_folder(card: ModelCard, encoder: Encoder, folder: Path) -> None:
    """Write a model in our own format, whole or not at all."""
    from safetensors.torch import save_file

    description = {"format": FORMAT, **dataclasses.asdict(card)}
    with whole_folder(folder) as partial:
        state = {key: value.detach().contiguous() for key, value in encoder.state_dict().items()}
        save_file(state, partial / _OWN[1], metadata={"format": FORMAT})
        (partial / _OWN[0]).write_text(json.dumps(description, indent=2) + "\n", "utf-8")


def _build(card: ModelCard, state: dict[str, Tensor], folder: Path) -> Encoder:
    try:
        with torch.device("meta"):  # the weights come from the file; none are drawn here
            encoder = Encoder(**card.build)
    except (TypeError, ValueError, ZeroDivisionError, RuntimeError) as error:
        raise InputError(f"{folder}: the build arguments do not fit: {error}") from None
    expected = {key: tuple(value.shape) for key, value in encoder.state_dict().items()}
    for problem, keys in (
        ("are missing", sorted(set(expected) - set(state))),
        ("are not part of this network", sorted(set(state) - set(expected))),
    ):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise InputError(f"{folder}: weights {', '.join(keys[:3])}{more} {problem}")
    for key, shape in expected.items():
        if tuple(state[key].shape) != shape:
            raise InputError(
                f"{folder}: weight {key} has shape {tuple(state[key].shape)}; "
                f"the build arguments ask for {shape}"
            )
    encoder.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
    return encoder.eval().requires_grad_(False)


def _read_own(folder: Path) -> tuple[ModelCard, dict[str, Tensor]]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        values = json.loads((folder / _OWN[0]).read_text("utf-8"))
        if values.pop("format", None) != FORMAT:
            raise InputError(f"{folder / _OWN[0]} is not of format {FORMAT}")
        recipe = values["recipe"]
        values["recipe"] = FeatureRecipe(**{**recipe, "depths": tuple(recipe["depths"])})
        build = values["build"]
        build["feature_dims"] = {
            key: None if dims is None else tuple(dims)
            for key, dims in build["feature_dims"].items()
        }
        card = ModelCard(**values)
        state = load_file(folder / _OWN[1])
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError, OSError) as error:
        raise InputError(f"{folder} holds a damaged model: {error}") from None
    return dataclasses.replace(card, checksums=_checksums(folder, _OWN)), state


def _read_published(folder: Path, name: str, licence: str) -> tuple[ModelCard, dict[str, Tensor]]:
    config = published.read_config(folder / _PUBLISHED[0])
    try:
        checkpoint = torch.load(folder / _PUBLISHED[1], map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{folder / _PUBLISHED[1]} is damaged, or holds more than weights: {first}"
        ) from None
    try:
        arguments = checkpoint["model_build_args"]
        weights = {
            key.removeprefix("model."): value for key, value in checkpoint["state_dict"].items()
        }
        shapes = {key: tuple(value.shape) for key, value in weights.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{folder / _PUBLISHED[1]} holds no state_dict of tensors with model_build_args "
            f"({error!r})"
        ) from None
    build = published.build_arguments(config, arguments, shapes)
    recipe = published.feature_recipe(config)
    data = config.get("data", {})
    subjects = published.get(data, "subject_id.predefined_mapping") or {}
    card = ModelCard(
        build=build,
        recipe=recipe,
        window=float(data.get("duration_trs", 100)),
        lag=float(published.get(data, "neuro.offset", 5.0)),
        space=published.get(data, "neuro.projection.mesh"),
        # A release that holds one row knows none of the people it was trained on.
        subjects=dict(subjects) if build["n_subjects"] > len(subjects) else {},
        licence=licence,
        name=name,
        revision="local",
        checksums=_checksums(folder, _PUBLISHED),
    )
    return card, _own_names(weights)


def _own_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Published weights under our names and in our shapes."""
    maps = published.rename_mlps(list(weights))
    state = {maps.get(name) or published.rename(name): value for name, value in weights.items()}
    if "position" in state:
        state["position"] = state["position"].squeeze(0)  # (1, T, H)
    return state


def _checksums(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    return {name: sha256(folder / name) for name in names}
