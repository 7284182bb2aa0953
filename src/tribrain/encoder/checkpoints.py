"""Checkpoints: the published format in, our own format in and out.

Our own format is a folder of two files: ``model.safetensors`` (weights) and ``model.json`` (every
build argument, the features it reads, its clock, space, subjects, licence and origin).
"""

from __future__ import annotations

import dataclasses
import json
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tribrain.brain.haemodynamics import LAG
from tribrain.encoder import published
from tribrain.encoder.network import Encoder
from tribrain.errors import InputError
from tribrain.features.recipe import FeatureRecipe, recipe_from_table
from tribrain.files import one_line, save_tensors, sha256, whole_folder

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

    def __post_init__(self) -> None:
        for name in ("licence", "name", "revision"):
            if not isinstance(getattr(self, name), str):
                raise InputError(f"{name} is {getattr(self, name)!r}; a text is expected")
        for name in ("window", "lag"):
            if not isinstance(getattr(self, name), (int, float)):
                raise InputError(f"{name} is {getattr(self, name)!r}; seconds are expected")


def load_folder(
    folder: Path,
    *,
    name: str | None = None,
    revision: str | None = None,
    licence: str | None = None,
) -> tuple[ModelCard, Encoder]:
    """Load a model from a folder in our own or in the published format.

    Parameters
    ----------
    folder : Path
    name, revision, licence : str, optional
        Recorded as the model's origin; by default what the model says itself, else the folder's
        name and "local".

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
    card = dataclasses.replace(card, name=name or card.name, revision=revision or card.revision)
    with _reading(folder):
        return card, _build(card, state)


def save_folder(card: ModelCard, encoder: Encoder, folder: Path) -> None:
    """Write a model in our own format, whole or not at all."""
    description = {"format": FORMAT, **dataclasses.asdict(card)}
    with whole_folder(folder) as partial:
        state = {key: value.detach().contiguous() for key, value in encoder.state_dict().items()}
        save_tensors(state, partial / _OWN[1], {"format": FORMAT})
        (partial / _OWN[0]).write_text(json.dumps(description, indent=2) + "\n", "utf-8")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever a damaged or hostile file brings about into one line that names it."""
    try:
        yield
    except MemoryError:
        raise
    except InputError as error:
        message = one_line(str(error))
        raise InputError(message if str(path) in message else f"{path}: {message}") from None
    except Exception as error:
        first = (str(error).strip() or "no reason given").splitlines()[0]
        if isinstance(error, pickle.UnpicklingError):  # whose text tells how to run it anyway
            first = "something that is not a tensor"
        raise InputError(
            f"{path} is damaged, or holds more than weights and settings "
            f"({type(error).__name__}: {one_line(first)})"
        ) from None


def _build(card: ModelCard, state: dict[str, Tensor]) -> Encoder:
    with torch.device("meta"):  # the weights come from the file; none are drawn here
        encoder = Encoder(**card.build)
    samples = card.recipe.frequency * card.window
    longest = card.build.get("max_samples", samples) if encoder.position is not None else samples
    if not 0 < samples <= longest:
        raise InputError(
            f"windows of {card.window:g} s at {card.recipe.frequency:g} samples a second do not "
            f"fit the encoder, which has {longest:g} positions"
        )
    expected = {key: tuple(value.shape) for key, value in encoder.state_dict().items()}
    for problem, keys in (
        ("are missing", sorted(set(expected) - set(state))),
        ("are not part of this network", sorted(set(state) - set(expected))),
    ):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise InputError(f"weights {', '.join(keys[:3])}{more} {problem}")
    for key, shape in expected.items():
        if tuple(state[key].shape) != shape:
            raise InputError(
                f"weight {key} has shape {tuple(state[key].shape)}; "
                f"the build arguments ask for {shape}"
            )
    people = {row for space in encoder.spaces.values() for row in space.rows[:-1]}
    for subject, row in card.subjects.items():
        if not isinstance(row, int) or row not in people:
            raise InputError(
                f"subject {subject} has row {row!r}; people have {len(people)} of the "
                f"{encoder.n_subjects} rows, and the last of each space is for people never seen"
            )
    encoder.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
    return encoder.eval().requires_grad_(False)


def _read_own(folder: Path) -> tuple[ModelCard, dict[str, Tensor]]:
    from safetensors.torch import load_file

    with _reading(folder / _OWN[0]):
        values = json.loads((folder / _OWN[0]).read_text("utf-8"))
        if values.pop("format", None) != FORMAT:
            raise InputError(f"the format is not {FORMAT}")
        # What came later has a default; without these the features would be others in silence.
        for key in ("backbones", "depths", "aggregation", "frequency"):
            if key not in values["recipe"]:
                raise InputError(f"its recipe has no {key}")
        values["recipe"] = recipe_from_table(values["recipe"], "of the model")
        build = values["build"]
        build["feature_dims"] = {
            key: None if dims is None else tuple(dims)
            for key, dims in build["feature_dims"].items()
        }
        card = ModelCard(**values)
    with _reading(folder / _OWN[1]):
        state = _rows_apart(load_file(folder / _OWN[1]))
    return dataclasses.replace(card, checksums=_checksums(folder, _OWN)), state


def _read_published(folder: Path, name: str, licence: str) -> tuple[ModelCard, dict[str, Tensor]]:
    config_file, weights_file = (folder / file for file in _PUBLISHED)
    config = published.read_config(config_file)
    with _reading(config_file):
        published.model_options(config)
        recipe = published.feature_recipe(config)
        window = float(published.get(config, "data.duration_trs", 100))
        lag = float(published.get(config, "data.neuro.offset", LAG))
        rows = published.get(config, "data.subject_id.predefined_mapping") or {}
        subjects = {str(subject): row for subject, row in rows.items()}
    with _reading(weights_file):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            checkpoint = torch.load(weights_file, map_location="cpu", weights_only=True)
        if not isinstance(checkpoint, dict):
            raise InputError("no state_dict with model_build_args")
        given = checkpoint["state_dict"]
        weights = {key.removeprefix("model."): value for key, value in given.items()}
        for key in given:
            if f"model.{key}" in given:
                raise InputError(f"weight {key} is there twice, with and without 'model.'")
        shapes = {key: tuple(value.shape) for key, value in weights.items()}
        build = published.build_arguments(config, checkpoint["model_build_args"], shapes)
        state = _own_names(weights)
    card = ModelCard(
        build=build,
        recipe=recipe,
        window=window,
        lag=lag,
        space=published.get(config, "data.neuro.projection.mesh"),
        # A release that holds one row knows none of the people it was trained on.
        subjects=subjects if build["n_subjects"] > len(subjects) else {},
        licence=licence,
        name=name,
        revision="local",
        checksums=_checksums(folder, _PUBLISHED),
    )
    return card, state


def _own_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Published weights under our names and in our shapes."""
    maps = published.rename_mlps(list(weights))
    state = {maps.get(name) or published.rename(name): value for name, value in weights.items()}
    if len(state) != len(weights):
        raise InputError("two weights stand for the same part of the network")
    if "position" in state:
        state["position"] = state["position"].squeeze(0)  # (1, T, H)
    return _rows_apart(state)


def _rows_apart(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A head whose rows lie in one tensor (S, ...), as a parameter for each row (views).

    So are published heads, and those of folders that were saved while a head was one parameter.
    """
    found = dict(state)
    for part in ("weight", "bias"):
        if f"head.{part}" in found:
            for row, values in enumerate(found.pop(f"head.{part}").unbind()):
                found[f"head.rows.{row}.{part}"] = values
    return found


def _checksums(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    return {name: sha256(folder / name) for name in names}
