"""The state of a training run in one file, so that it goes on as if it had never stopped.

Weights, their running mean, those of the best epoch and the optimiser's moments are tensors of a
safetensors file; the rest (the step, the course) is plain data in its head. Random numbers need no
state: those of a step follow from the seed and the step. All lies in one file, which is replaced in
one step: it is whole, and of one epoch, whenever a process ends.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tribrain.errors import InputError
from tribrain.files import first_line, require_file, save_tensors
from tribrain.training.data import Stretch, TrainingData
from tribrain.training.distributed import Processes
from tribrain.training.settings import TrainingSettings

FORMAT = "tribrain-training-2"


@dataclass(frozen=True)
class State:
    """What a run goes on from.

    Attributes
    ----------
    weights : mapping of str to mapping of str to Tensor
        State dicts of networks, by their part in the run.
    optimiser : mapping
        As `torch.optim.Optimizer.state_dict` gives it.
    facts : mapping
        Plain data.
    """

    weights: Mapping[str, Mapping[str, Tensor]]
    optimiser: Mapping[str, Any]
    facts: Mapping[str, Any]


def save_state(path: Path, state: State) -> None:
    """Write a state, whole or not at all.

    Raises
    ------
    InputError
        If it cannot be written; what was there before stays.
    """
    tensors = {
        f"{part}/{key}": value
        for part, held in state.weights.items()
        for key, value in held.items()
    }
    numbers: dict[str, Any] = {}
    for index, values in state.optimiser["state"].items():
        for key, value in values.items():
            where = tensors if isinstance(value, Tensor) else numbers
            where[f"optimiser/{index}/{key}"] = value
    tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    told = {
        "format": FORMAT,
        "parts": json.dumps(list(state.weights)),
        "facts": json.dumps(state.facts),
        "groups": json.dumps(state.optimiser["param_groups"]),
        "numbers": json.dumps(numbers),
    }
    told["checksum"] = _checksum(tensors, told)
    partial = path.with_name(f".{path.name}.partial")  # a process that is killed leaves one at most
    try:
        save_tensors(tensors, partial, told)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except Exception as error:  # safetensors has errors of its own for a full disk
        raise InputError(
            f"{path} cannot be written ({first_line(error)}); {_kept(path)}a state needs room for "
            "two of its size"
        ) from None
    finally:
        partial.unlink(missing_ok=True)


def _kept(path: Path) -> str:
    if not path.is_file():
        return ""
    return "what was saved before is whole, and once there is room training can be resumed; "


def load_state(path: Path) -> State:
    """Read a state.

    Raises
    ------
    InputError
        A file that is missing, damaged or of another format.
    """
    from safetensors import safe_open

    require_file(path, "state")
    try:
        with safe_open(path, "pt") as file:
            told = dict(file.metadata() or {})
            if told.get("format") != FORMAT:
                raise ValueError(f"its format is {told.get('format')!r}, not {FORMAT}")
            # Copies, as what is mapped from a file keeps it from being replaced on Windows.
            tensors = {key: file.get_tensor(key).clone() for key in sorted(file.keys())}
        if told.pop("checksum") != _checksum(tensors, told):
            raise ValueError("its checksum is another")
        weights: dict[str, dict[str, Tensor]] = {part: {} for part in json.loads(told["parts"])}
        moments: dict[int, dict[str, Any]] = {}
        for key, value in (tensors | json.loads(told["numbers"])).items():
            part, _, rest = key.partition("/")
            if part == "optimiser":
                index, _, name = rest.partition("/")
                moments.setdefault(int(index), {})[name] = value
            else:
                weights[part][rest] = value
        optimiser = {"state": moments, "param_groups": json.loads(told["groups"])}
        return State(weights, optimiser, json.loads(told["facts"]))
    except MemoryError:
        raise
    except Exception as error:  # whatever a damaged file brings about
        raise InputError(
            f"{path} is damaged or of another version ({first_line(error)}); delete it to begin "
            "anew, or put a copy of it in its place"
        ) from None


def begun_with(
    encoder: nn.Module,
    data: TrainingData,
    stretches: Sequence[Sequence[Stretch]],
    settings: TrainingSettings,
) -> dict[str, Any]:
    """What may not change while a run lasts, as plain data; what is long as a digest.

    `stretches` are those that are trained on and those that validate.

    The schedule depends on the number of epochs, and the windows on the split: nothing is free to
    change. BOLD is known by its checksum; of features the shapes alone are compared.
    """
    weights = [(key, value.shape, value.requires_grad) for key, value in encoder.named_parameters()]
    windows = [[(one.span, one.row, one.run.sha256) for one in part] for part in stretches]
    clock = (data.length, data.step, data.lag, data.frequency, data.standardise, data.dims)
    told = {key: value for key, value in dataclasses.asdict(settings).items() if key != "parallel"}
    return {
        **{f"training.{key}": value for key, value in told.items()},
        "the encoder": _digest(repr(encoder), weights),
        "the data": _digest(windows, clock, data.weights),
    }


def restore(
    path: Path,
    begun: Mapping[str, Any],
    networks: Mapping[str, nn.Module],
    optimiser: torch.optim.Optimizer,
    processes: Processes,
) -> State:
    """Take over a state that was begun with the same; the first process reads it for all.

    Returns
    -------
    State
        Weights and moments are there in the first process alone.
    """
    state = State({}, {}, {})
    if processes.first:
        state = load_state(path)
        check_same(path, state.facts["begun"], begun)
    for part, network in networks.items():
        processes.load(network, state.weights.get(part, {}))
    processes.load_optimiser(optimiser, state.optimiser)
    return dataclasses.replace(state, facts=processes.same(state.facts))


def check_same(path: Path, begun: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with other settings than a run was begun with."""
    changed = [key for key in now if key not in begun or begun[key] != now[key]]
    if changed:
        told = ", ".join(
            f"{key} differs"
            if key.startswith("the ")
            else f"{key} {begun.get(key)}, now {now[key]}"
            for key in changed
        )
        raise InputError(
            f"{path} was begun with other settings ({told}); go on with those, or begin anew"
        )


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _checksum(tensors: Mapping[str, Tensor], told: Mapping[str, str]) -> str:
    """Of all that a file holds: safetensors itself does not notice a changed value."""
    found = zlib.crc32(json.dumps(told, sort_keys=True).encode())
    for key in sorted(tensors):
        about = f"{key} {tensors[key].dtype} {tuple(tensors[key].shape)}"
        found = zlib.crc32(about.encode(), found)
        found = zlib.crc32(tensors[key].reshape(-1).view(torch.uint8).numpy().data, found)
    return f"{found:08x}"
