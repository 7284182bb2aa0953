"""The folder of an ensemble.

It holds ``ensemble.json`` (members by relative path, or by name on the hub, with checksums;
how they were weighted) and ``ensemble.safetensors`` (``weights`` and ``factors``, (members,
outputs)); beside them, if they were copied, the members.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tribrain.encoder.accuracy import FILE as ACCURACY
from tribrain.encoder.ensembles import EnsembleModel
from tribrain.encoder.predict import TrainedModel
from tribrain.errors import InputError
from tribrain.files import first_line, safe_name, save_tensors, sha256, whole_folder

FORMAT = "tribrain-ensemble-1"
_TOLD, _NUMBERS, _COPIES = "ensemble.json", "ensemble.safetensors", "members"
_FORMATS = (("model.json", "model.safetensors"), ("config.yaml", "best.ckpt"))


def is_ensemble(folder: Path) -> bool:
    """Whether a folder holds an ensemble."""
    return (folder / _TOLD).is_file()


def save_ensemble(
    ensemble: EnsembleModel, folder: Path, places: Sequence[str | Path], *, copy: bool = False
) -> None:
    """Write an ensemble, whole or not at all.

    Parameters
    ----------
    ensemble : EnsembleModel
    folder : Path
    places : sequence of str or Path
        Where each member is: a folder, or a repository on the hub.
    copy : bool
        Copy the members that are folders into the ensemble's own; otherwise their paths from
        there are kept.

    Raises
    ------
    InputError
        If the folder of a member holds no weights of its own.
    """
    folder = Path(folder).absolute()
    with whole_folder(folder, replaced=(_COPIES,)) as partial:
        told = []
        for number, (member, place) in enumerate(zip(ensemble.members, places, strict=True)):
            one: dict[str, Any] = {"name": member.name, "revision": member.card.revision}
            if not Path(place).is_dir():
                one |= {"hub": str(place).partition("@")[0], "sha256": member.card.checksums}
            else:
                one["sha256"] = _sums(Path(place))
                one["path"] = Path(os.path.relpath(Path(place).resolve(), folder)).as_posix()
                if copy:
                    one["path"] = f"{_COPIES}/{number}-{safe_name(member.name)}"
                    _copy(Path(place), partial / one["path"])
            told.append(one)
        description = {
            "format": FORMAT,
            "name": ensemble.name,
            "members": told,
            "how": ensemble.how,
            "trained_on": ensemble.trained_on,
        }
        (partial / _TOLD).write_text(json.dumps(description, indent=2) + "\n", "utf-8")
        numbers = {"weights": ensemble.weights, "factors": ensemble.factors}
        tensors = {
            name: torch.from_numpy(part.astype(np.float64)) for name, part in numbers.items()
        }
        save_tensors(tensors, partial / _NUMBERS, {"format": FORMAT})


def load_ensemble(folder: Path, load: Callable[..., Any]) -> EnsembleModel:
    """Load an ensemble and its members.

    Parameters
    ----------
    folder : Path
    load : callable
        From a folder to a `TrainedModel`, or from a repository with ``revision`` by keyword.

    Raises
    ------
    InputError
        Files that are damaged; a member that is missing, or another than it was.
    """
    from safetensors.numpy import load_file

    try:
        told = json.loads((folder / _TOLD).read_text("utf-8"))
        if told["format"] != FORMAT:
            raise ValueError(f"its format is {told['format']!r}, not {FORMAT}")
        places = [_told_place(one) for one in told["members"]]
        name, how, trained_on = str(told["name"]), dict(told["how"]), told["trained_on"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder / _TOLD} is damaged ({first_line(error)})") from None
    try:
        numbers = load_file(folder / _NUMBERS)
        weights, factors = numbers["weights"], numbers["factors"]
    except Exception as error:  # whatever a damaged file brings about
        raise InputError(f"{folder / _NUMBERS} is damaged ({first_line(error)})") from None
    members = []
    for label, path, hub, revision, checksums in places:
        if path is None:
            member = load(hub, revision=revision)
            if not isinstance(member, TrainedModel) or member.card.checksums != checksums:
                raise InputError(f"{folder}: its member {label} ({hub}) is another than it was")
            members.append(member)
        else:
            where = folder / path
            if not where.is_dir():
                raise InputError(
                    f"{folder}: its member {label} is not at {where}; put it there, or make the "
                    "ensemble again"
                )
            # An ensemble could hold itself.
            if is_ensemble(where) or not _files(where):
                raise InputError(
                    f"{folder}: its member {label} at {where} is no trained model; put it back, or "
                    "make the ensemble again"
                )
            _check_same(folder, label, where, checksums)
            members.append(load(where))
    try:
        return EnsembleModel(members, weights, factors, name=name, how=how, trained_on=trained_on)
    except InputError as error:
        raise InputError(f"{folder}: {error}") from None


def _told_place(member: Mapping[str, Any]) -> tuple[str, str | None, str | None, str, dict]:
    """Name, path or repository, revision and checksums of a member, as ``ensemble.json`` tells."""
    name, path, hub = str(member["name"]), member.get("path"), member.get("hub")
    checksums = member["sha256"]
    texts = [one for one in (path, hub) if one is not None]
    if len(texts) != 1 or not isinstance(texts[0], str) or not texts[0]:
        raise ValueError(f"member {name} has not one path or repository, as text")
    if not isinstance(member["revision"], str):
        raise ValueError(f"member {name} has no revision")
    if not isinstance(checksums, dict):
        raise ValueError(f"member {name} has no checksums")
    return name, path, hub, member["revision"], checksums


def _sums(place: Path) -> dict[str, str]:
    """Checksums of what a member consists of; notes beside it are none of it."""
    files = _files(place)
    if not files:
        raise InputError(f"{place} holds no weights of its own and cannot be a member")
    return {file.name: sha256(file) for file in files}


def _check_same(folder: Path, label: str, where: Path, checksums: Mapping[str, str]) -> None:
    for file in {one.name: None for one in _files(where)} | dict.fromkeys(checksums):
        if not (where / file).is_file() or sha256(where / file) != checksums.get(file):
            raise InputError(
                f"{folder}: its member {label} is another than it was ({where / file} is missing "
                "or was changed); put it back, or make the ensemble again"
            )


def _copy(place: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for file in [*_files(place), place / ACCURACY]:
        if file.is_file():
            shutil.copyfile(file, target / file.name)


def _files(place: Path) -> list[Path]:
    """Files of a model, in the order in which they are looked for; none of anything else."""
    for names in _FORMATS:
        found = [place / name for name in names]
        if all(file.is_file() for file in found):
            return found
    return []
