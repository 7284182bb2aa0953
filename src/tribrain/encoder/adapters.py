"""What makes a trained model one of new people: kept beside it, applied when it is loaded.

A folder holds ``adapter.json`` (people, method, the model it belongs to with checksums, how it was
found, and on what) and ``adapter.safetensors``:

``rows.K.bias``, ``rows.K.weight`` or ``rows.K.left`` and ``rows.K.right``
    Of each person what their row of the head differs by from that of people never seen (R, V), or
    two factors (R, k) and (k, V) of it.
``lora.PLACE.down``, ``lora.PLACE.up``
    Factors (r, inputs) and (outputs, r) whose product is added to the weight of a linear map (Hu
    et al. 2021, arXiv 2106.09685).
``weights.NAME``
    Other weights, whole.

All is added to the weights once, so that predicting costs what it costs without.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tribrain.brain.response import Response
from tribrain.encoder.checkpoints import ModelCard
from tribrain.encoder.network import Encoder
from tribrain.encoder.predict import TrainedModel
from tribrain.errors import InputError
from tribrain.files import first_line, sha256, whole_folder
from tribrain.stimuli.stimulus import Stimulus

FORMAT = "tribrain-adapter-1"
_TOLD, _TENSORS = "adapter.json", "adapter.safetensors"
_HUB = "hub:"
_MODELS = ("model.json", "config.yaml")


@dataclass(frozen=True, eq=False)
class Adapter:
    """What is added to a model.

    Attributes
    ----------
    name : str
    method : str
    people : tuple of str
        ``study/subject``, in the order of their rows.
    space : str
        Name of the space of the rows.
    n_outputs : int
    prior : bool
        The rows are differences to that of people never seen; otherwise (a space that the model
        does not have) they are whole.
    base : mapping
        ``name``, ``revision`` and ``checksums`` of the model; ``place``: its folder, seen from that
        of the adapter, or ``hub:NAME@REVISION``.
    tensors : mapping of str to Tensor
    licence : str
        Of the adapter.
    found : mapping
        How it was found, as plain data.
    trained_on : mapping of str to list of (float, float), optional
        Seconds of stimuli, by the checksum of their content, that it was adapted to; None where
        that is not known. What the model itself was trained on is not among it.
    """

    name: str
    method: str
    people: tuple[str, ...]
    space: str
    n_outputs: int
    prior: bool
    base: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    licence: str = ""
    found: Mapping[str, Any] = field(default_factory=dict)
    trained_on: Mapping[str, Sequence[Sequence[float]]] | None = None

    @property
    def size(self) -> int:
        """Bytes of the tensors."""
        return sum(value.numel() * value.element_size() for value in self.tensors.values())

    @property
    def content(self) -> bytes:
        """``adapter.safetensors``."""
        from safetensors.torch import save

        tensors = {key: value.contiguous() for key, value in self.tensors.items()}
        return save(tensors, metadata={"format": FORMAT})


class AdaptedModel(TrainedModel):
    """A trained model with the rows of new people, and of no one else.

    Where it has no accuracy of its own, it has that of the model it was adapted from, with that
    model's name as ``adapted_from``.

    Attributes
    ----------
    adapter : Adapter
    """

    adapter: Adapter

    @classmethod
    def of(cls, base: TrainedModel, adapter: Adapter) -> AdaptedModel:
        """Apply an adapter to its model, which stays as it is.

        Raises
        ------
        InputError
            If the adapter belongs to another model, or is damaged.
        """
        check_base(adapter, base)
        on_cpu = copy.deepcopy(base.encoder).cpu() if base.device != "cpu" else base.encoder
        try:
            encoder = adapted_encoder(base.card, on_cpu, adapter)
        except Exception as error:  # whatever a damaged file brings about
            raise InputError(f"adapter {adapter.name} is damaged ({first_line(error)})") from None
        licence = "; ".join(part for part in (base.card.licence, adapter.licence) if part)
        card = dataclasses.replace(
            base.card,
            build={
                **base.card.build,
                "n_outputs": adapter.n_outputs,
                "n_subjects": len(adapter.people) + 1,
            },
            space=adapter.space,
            subjects={person: row for row, person in enumerate(adapter.people)},
            licence=licence,
            name=adapter.name,
            revision="local",
            checksums={
                **base.card.checksums,
                _TENSORS: hashlib.sha256(adapter.content).hexdigest(),
            },
        )
        model = cls(
            card,
            encoder,
            backbones=base.backbones,
            device=base.device,
            precision=base.precision,
            store=base.store,
        )
        model.adapter = adapter
        if base.accuracy is not None and base.accuracy.fits(model.space):
            told = {**base.accuracy.told, "adapted_from": base.name}
            model.accuracy = dataclasses.replace(base.accuracy, told=told)
        return model

    def predict(
        self, stimulus: Stimulus | None = None, *, subject: str | None = None, **options: Any
    ) -> Response:
        """Predict as `TrainedModel.predict` does, for a person that it was adapted to.

        Parameters
        ----------
        subject : str, optional
            ``study/subject`` or ``subject``; needed where there are several people.
        """
        return super().predict(stimulus, subject=self.person(subject), **options)

    def person(self, subject: str | None) -> str:
        """The whole name of a person."""
        known = ", ".join(self.subjects)
        if subject is None:
            if len(self.subjects) > 1:
                raise InputError(f"{self.name} is adapted to several people; name one of {known}")
            return self.subjects[0]
        fitting = [name for name in self.subjects if subject in (name, name.partition("/")[2])]
        if len(fitting) != 1:
            raise InputError(f"subject {subject!r} is unknown to {self.name}; known: {known}")
        return fitting[0]

    def describe(self) -> dict[str, Any]:
        """What the model is, as plain data."""
        left_out = ("people", "trained_on")  # told as subjects; can be thousands
        told = {key: value for key, value in _plain(self.adapter).items() if key not in left_out}
        return {**super().describe(), "adapter": told}


def prior_row(encoder: Encoder, space: str | None, n_outputs: int) -> tuple[Tensor, Tensor]:
    """Weight (R, V) and bias (V,) that new people start from.

    Parameters
    ----------
    encoder : Encoder
    space : str or None
        Of the encoder: the row of people never seen; None for a new one: zeros.
    n_outputs : int
        Of a new space.
    """
    if space is not None:
        row: Any = encoder.head.rows[encoder.unseen(space)]
        return row.weight.detach(), row.bias.detach()
    any_row: Any = encoder.head.rows[0]
    return torch.zeros(len(any_row.weight), n_outputs), torch.zeros(n_outputs)


def with_rows(
    card: ModelCard,
    encoder: Encoder,
    rows: Sequence[tuple[Tensor, Tensor]],
    changed: Mapping[str, Tensor] | None = None,
) -> Encoder:
    """An encoder with other rows of the head, of one space; the last is for people never seen.

    Weights are shared with the encoder given, which stays as it is.

    Parameters
    ----------
    card : ModelCard
        Of that encoder.
    encoder : Encoder
    rows : sequence of (Tensor (R, V), Tensor (V,))
        Weight and bias.
    changed : mapping of str to Tensor, optional
        Other weights of the network, by name.
    """
    state = encoder.state_dict()
    state = {key: value for key, value in state.items() if not key.startswith("head.")}
    for key, value in (changed or {}).items():
        if key not in state or value.shape != state[key].shape:
            raise ValueError(f"the network has no weight {key} of shape {tuple(value.shape)}")
        state[key] = value
    for number, (weight, bias) in enumerate(rows):
        # Tensors, as parameters would be taken over themselves, and frozen and trained with others.
        state[f"head.rows.{number}.weight"] = weight.detach()
        state[f"head.rows.{number}.bias"] = bias.detach()
    build = card.build | {"n_outputs": len(rows[0][1]), "n_subjects": len(rows)}
    with torch.device("meta"):
        found = Encoder(**build)
    found.load_state_dict(state, assign=True)
    return found.eval().requires_grad_(False)


def adapted_encoder(card: ModelCard, encoder: Encoder, adapter: Adapter) -> Encoder:
    """The encoder of new people; the one given stays as it is, and weights are shared with it.

    Raises
    ------
    ValueError, KeyError
        If tensors do not fit.
    """
    tensors = dict(adapter.tensors)
    space = space_of(encoder, adapter.space) if adapter.prior else None
    weight, bias = prior_row(encoder, space, adapter.n_outputs)
    rows = []
    for number in range(len(adapter.people)):
        start = f"rows.{number}."
        if f"{start}weight" in tensors:
            change = tensors.pop(f"{start}weight")
        else:
            change = tensors.pop(f"{start}left") @ tensors.pop(f"{start}right")
        rows.append((weight + change, bias + tensors.pop(f"{start}bias")))
    state = encoder.state_dict()
    changed: dict[str, Tensor] = {}
    while tensors:
        key = min(tensors)
        kind, _, place = key.partition(".")
        if kind == "weights":
            changed[place] = tensors.pop(key)
        elif kind == "lora":
            place = place.rpartition(".")[0]
            up, down = (tensors.pop(f"lora.{place}.{part}") for part in ("up", "down"))
            changed[f"{place}.weight"] = state[f"{place}.weight"] + up @ down
        else:
            raise ValueError(f"{key} is no part of an adapter")
    return with_rows(card, encoder, [*rows, (weight, bias)], changed)


def space_of(encoder: Encoder, name: str) -> str:
    """Name by which an encoder knows a space."""
    return name if name in encoder.spaces else next(iter(encoder.spaces))


def check_base(adapter: Adapter, base: TrainedModel) -> None:
    """Refuse a model that an adapter does not belong to."""
    if dict(base.card.checksums) != dict(adapter.base["checksums"]):
        told = adapter.base
        raise InputError(
            f"{base.name} is another model than the one that {adapter.name} belongs to "
            f"({told['name']}, revision {told['revision']}): its checksums differ; give that one"
        )


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter."""
    return (folder / _TOLD).is_file()


def save_adapter(adapter: Adapter, folder: Path) -> None:
    """Write an adapter, whole or not at all."""
    with whole_folder(folder) as partial:
        (partial / _TENSORS).write_bytes(adapter.content)
        told = {"format": FORMAT, **_plain(adapter), "sha256": sha256(partial / _TENSORS)}
        (partial / _TOLD).write_text(json.dumps(told, indent=2) + "\n", "utf-8")


def read_adapter(folder: Path) -> Adapter:
    """Read an adapter.

    Raises
    ------
    InputError
        Files that are missing or damaged.
    """
    from safetensors.torch import load_file

    try:
        told = json.loads((folder / _TOLD).read_text("utf-8"))
        if told.pop("format", None) != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        if told.pop("sha256") != sha256(folder / _TENSORS):
            raise ValueError(f"the checksum of {_TENSORS} is another")
        base = told["base"]
        known = all(isinstance(base[key], str) for key in ("name", "revision", "place"))
        if not known or not isinstance(base["checksums"], dict):
            raise ValueError("it does not tell its model")
        told["people"] = tuple(map(str, told["people"]))
        if told.get("trained_on") is not None:
            told["trained_on"] = {
                content: [(float(begin), float(end)) for begin, end in seconds]
                for content, seconds in told["trained_on"].items()
            }
        # Copies, as the file would stay mapped, and could not be replaced on Windows.
        tensors = {key: one.clone() for key, one in load_file(folder / _TENSORS).items()}
        return Adapter(tensors=tensors, **told)
    except Exception as error:  # whatever a damaged file brings about
        raise InputError(f"adapter {folder} is damaged ({first_line(error)})") from None


def base_folder(adapter: Adapter, folder: Path) -> Path | None:
    """Where the model of an adapter in a folder should be; None if it is on the hub."""
    place = adapter.base["place"]
    return None if place.startswith(_HUB) else folder / place


def load_adapter(folder: Path, load: Callable[[str], object]) -> AdaptedModel:
    """The model of an adapter's folder.

    Parameters
    ----------
    folder : Path
    load : callable
        From a folder or the name of a model on the hub to the model.

    Raises
    ------
    InputError
        A damaged adapter; a model that is missing, or another one.
    """
    adapter = read_adapter(folder)
    place = adapter.base["place"]
    there = base_folder(adapter, folder)
    found = place.removeprefix(_HUB) if there is None else str(there)
    # An adapter or an ensemble in that place could belong to this adapter in turn.
    if there is not None and not any((there / name).is_file() for name in _MODELS):
        raise InputError(
            f"{folder} belongs to the model {adapter.base['name']}, which is not at {found}; put "
            f'it there, or write its folder as "place" in {folder / _TOLD}'
        )
    base = load(found)
    assert isinstance(base, TrainedModel)
    try:
        return AdaptedModel.of(base, adapter)
    except InputError as error:
        raise InputError(f'{folder} ("place" in {_TOLD} is {place}): {error}') from None


def base_of(model: TrainedModel, place: str | Path, folder: Path) -> dict[str, Any]:
    """What an adapter in `folder` tells of the model that it belongs to.

    Parameters
    ----------
    model : TrainedModel
    place : str or path
        Folder of the model, or its name on the hub.
    folder : Path
    """
    told = model.card
    if told.revision != "local" and str(place).partition("@")[0] == told.name:
        where = f"{_HUB}{told.name}@{told.revision}"
    else:
        try:
            where = Path(os.path.relpath(Path(place).resolve(), folder.resolve())).as_posix()
        except ValueError:  # on another drive
            where = Path(place).resolve().as_posix()
    return {
        "name": told.name,
        "revision": told.revision,
        "checksums": dict(told.checksums),
        "place": where,
    }


def _plain(adapter: Adapter) -> dict[str, Any]:
    parts = {item.name: getattr(adapter, item.name) for item in dataclasses.fields(adapter)}
    return {key: _as_json(value) for key, value in parts.items() if key != "tensors"}


def _as_json(value: Any) -> Any:
    """Plain data without numbers that JSON does not have."""
    if isinstance(value, Mapping):
        return {key: _as_json(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "infinite"
    return value
