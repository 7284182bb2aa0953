"""How well a model predicts each output: a map that lies in the model's folder.

``accuracy.safetensors`` holds ``values`` (V,), float32, NaN where the score is not defined, and in
its header what they are: the measure, the study, the model that was scored by the checksums of its
files. A map of other weights is not used, so a folder that is trained anew shows no old numbers.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tribrain.brain.spaces import Space
from tribrain.brain.summaries import cortex_mask
from tribrain.errors import InputError, InputWarning
from tribrain.files import first_line, one_line, sha256, whole_folder

if TYPE_CHECKING:
    from tribrain.encoder.ensembles import EnsembleModel
    from tribrain.encoder.predict import TrainedModel
    from tribrain.encoder.textbook import TextbookModel

FORMAT = "tribrain-accuracy-1"
FILE = "accuracy.safetensors"
_PARTS = ("ensemble.json", "ensemble.safetensors", "adapter.json", "adapter.safetensors")


@dataclass(frozen=True, eq=False)
class Accuracy:
    """A score of each output of a model.

    Attributes
    ----------
    values : ndarray (V,), float32
        NaN where the score is not defined (an output that was not measured, a ceiling too low).
    told : mapping
        What they are, as plain JSON data: ``measure`` ("r", "normalised") and ``study`` always;
        ``way`` (whose row predicted), ``people``, ``runs``, ``rows``, ``side``, ``versions`` where
        they are known; ``sha256`` of the files of the model, by name, once it is attached;
        ``adapted_from`` where it is that of the model that this one was adapted from, before that.
    space : str
        Name of the space of the values.

    Raises
    ------
    InputError
        Values of another shape than (V,), infinite ones, or a description that lacks ``measure``
        or ``study`` or is no plain data.
    """

    values: np.ndarray
    told: Mapping[str, Any]
    space: str

    def __post_init__(self) -> None:
        values = np.array(self.values, np.float32)
        if values.ndim != 1 or not len(values):
            raise InputError(f"an accuracy map has shape {values.shape}; (outputs,) fits")
        if np.isinf(values).any():
            raise InputError("an accuracy map holds infinite values; numbers and NaN fit")
        for key in ("measure", "study"):
            if not isinstance(self.told.get(key), str):
                raise InputError(f"an accuracy map does not tell its {key}, as text")
        try:
            json.dumps(dict(self.told), allow_nan=False)
        except (TypeError, ValueError) as error:
            message = f"what an accuracy map tells is no plain data ({first_line(error)})"
            raise InputError(message) from None
        values.setflags(write=False)
        object.__setattr__(self, "values", values)

    @property
    def line(self) -> str:
        """What the values are, such as ``r on simulated (2 people, 1,200 rows)``."""
        numbers = [
            f"{self.told[key]:,} {key}"
            for key in ("people", "runs", "rows")
            if isinstance(self.told.get(key), int)
        ]
        more = f" ({', '.join(numbers)})" if numbers else ""
        return one_line(f"{self.told['measure']} on {self.told['study']}{more}")

    def labels(self) -> dict[str, Any]:
        """What the values are without anything nested: attributes of a coordinate."""
        flat = {k: v for k, v in self.told.items() if isinstance(v, (str, int, float))}
        return {**flat, "long_name": f"accuracy: {self.line}"}

    def summary(self, space: Space) -> dict[str, Any]:
        """What the values are, and their median outside the medial wall, as plain data."""
        median = median_of_cortex(self.values, space)
        return {
            "line": self.line,
            "median": round(median, 6) if math.isfinite(median) else None,
            "space": self.space,
            **self.told,
        }

    def fits(self, space: Space) -> bool:
        """Whether the values are those of a space."""
        return (self.space, len(self.values)) == (space.name, space.size)


def median_of_cortex(values: np.ndarray, space: Space) -> float:
    """Median of the values outside the medial wall that are a number; NaN where none is."""
    kept = values[cortex_mask(space)]
    kept = kept[np.isfinite(kept)]
    return float(np.median(kept)) if len(kept) else math.nan


def write_accuracy(accuracy: Accuracy, folder: Path) -> None:
    """Write a map into a folder, whole or not at all; one that is there is replaced."""
    import torch

    from tribrain.files import save_tensors

    header = {"format": FORMAT, "space": accuracy.space, "told": json.dumps(dict(accuracy.told))}
    with whole_folder(folder) as partial:
        save_tensors({"values": torch.from_numpy(accuracy.values.copy())}, partial / FILE, header)


def read_accuracy(folder: Path) -> Accuracy | None:
    """The map in a folder; None where there is none.

    Raises
    ------
    InputError
        A damaged file.
    """
    from safetensors import safe_open

    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, "numpy") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise ValueError(f"its format is not {FORMAT}")
            told = json.loads(header["told"])
            if not isinstance(told, dict):
                raise ValueError("it does not tell what it is")
            values = file.get_tensor("values")
            if values.dtype != np.float32:
                raise ValueError(f"its values are {values.dtype}, not float32")
            return Accuracy(values, told, header["space"])
    except Exception as error:  # whatever a damaged file brings about
        raise InputError(f"{path} is damaged ({first_line(error)})") from None


def accuracy_of(
    model: TextbookModel | TrainedModel | EnsembleModel, folder: Path
) -> Accuracy | None:
    """The map in a model's folder, checked against the model.

    Parameters
    ----------
    model : TrainedModel or EnsembleModel
        As it was loaded from the folder.
    folder : Path

    Raises
    ------
    InputError
        A damaged map, or one of another size or space than the model predicts.

    Warns
    -----
    InputWarning
        Where it is that of another model, and left out.
    """
    found = read_accuracy(folder)
    if found is None:
        return None
    if found.told.get("sha256") != checksums_of(model, folder):
        warnings.warn(
            f"{folder / FILE} is the accuracy of another model (its checksums differ) and is left "
            "out; evaluate this one",
            InputWarning,
            stacklevel=3,
        )
        return None
    _check_space(found, spaces_of(model), str(folder / FILE))
    return found


def checksums_of(
    model: TextbookModel | TrainedModel | EnsembleModel, folder: Path
) -> dict[str, str]:
    """SHA-256 of the files that a model in a folder is, by name.

    Of an ensemble or an adapter, its own files, which hold the checksums of the models they need.
    """
    own = {name: sha256(folder / name) for name in _PARTS if (folder / name).is_file()}
    card = getattr(model, "card", None)
    return own or dict(card.checksums if card is not None else {})


def attach_accuracy(folder: str | Path, accuracy: Accuracy) -> Path:
    """Put a map into the folder of the model that it is of; one that is there is replaced.

    Parameters
    ----------
    folder : str or Path
        Of a model, an ensemble or an adapter, or a run folder that holds one.
    accuracy : Accuracy
        Its ``sha256`` is set to that of the model.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        A place that is no folder of a model; values of another size or space than it predicts.
    """
    from tribrain.encoder.models import open_model  # which reads maps in turn

    if not Path(folder).is_dir():
        raise InputError(f"{folder} is no folder; an accuracy map lies in that of its model")
    with warnings.catch_warnings():  # the licence was told when it was evaluated
        warnings.simplefilter("ignore", InputWarning)
        # A whole path is never taken for the name of a model on the hub.
        model, place = open_model(Path(folder).absolute(), device="cpu", cache=False)
    assert place is not None
    _check_space(accuracy, spaces_of(model), "the accuracy map")
    told = {**accuracy.told, "sha256": checksums_of(model, place)}
    write_accuracy(replace(accuracy, told=told), place)
    return place / FILE


def spaces_of(model: Any) -> dict[str, Space]:
    """The spaces that a model predicts, by name."""
    return dict(getattr(model, "spaces", None) or {model.space.name: model.space})


def _check_space(accuracy: Accuracy, spaces: Mapping[str, Space], what: str) -> None:
    if not any(accuracy.fits(space) for space in spaces.values()):
        known = " and ".join(f"{space.name} ({space.size})" for space in spaces.values())
        raise InputError(
            f"{what} has {len(accuracy.values)} values in {accuracy.space or 'no space'}; the "
            f"model predicts {known}"
        )
