"""A person's own arrays, and labels of their volumes, from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tribrain.brain.spaces import Space, find_space, known_spaces
from tribrain.errors import InputError
from tribrain.studies.arrays import array_keys, read_array


def read_arrays(
    features: str,
    bold: str,
    tr: float,
    feature_rate: float | None,
    runs: str | None,
    groups: str | None,
    nuisance: str | None,
    space: str | None,
) -> dict[str, Any]:
    """Arrays and labels, as `tribrain.evaluation.arrays.evaluate_arrays` takes them.

    Parameters
    ----------
    features, bold, nuisance : str
        Files as `tribrain.studies.arrays` reads them; the name of one of several arrays follows
        after a colon.
    tr : float
        Repetition time of the BOLD, seconds.
    feature_rate : float, optional
        Samples a second.
    runs, groups : str, optional
        Numbers of volumes (``200,180``), and a name for each run; or files with a label a volume.
    space : str, optional

    Raises
    ------
    InputError
        Files that cannot be read, labels that do not fit the volumes.
    """
    measured = _array(bold)
    n = len(measured)
    lengths = _lengths(runs, n)
    return {
        "features": _array(features),
        "bold": measured,
        "repetition_time": tr,
        "feature_rate": feature_rate,
        "runs": _labels(runs, n, lengths, "--runs"),
        "groups": _labels(groups, n, lengths, "--groups"),
        "nuisance": None if nuisance is None else _array(nuisance),
        "space": None if space is None else _space(space, measured),
    }


def _space(name: str, bold: np.ndarray) -> Space:
    """The space of the outputs by its name; a misspelt one would be a list without a map."""
    known = known_spaces()
    if name not in known and "+" not in name:
        raise InputError(
            f"--space {name} is unknown; known: {', '.join(known)}, or one of these + voxels; "
            "leave it out where outputs are voxels of one person or parcels"
        )
    if bold.ndim == 2 and name in known and known[name].size != bold.shape[1]:
        raise InputError(
            f"--bold has {bold.shape[1]} outputs and {name} {known[name].size}; as many fit"
        )
    return find_space(name, bold.shape[-1])


def _array(place: str) -> np.ndarray:
    """An array by its file, with the name of one of several after a colon."""
    path, colon, key = place, "", ""
    if not Path(place).exists():
        path, colon, key = place.rpartition(":")
        path = path if colon else place
    keys = array_keys(path)
    if not key and len(keys) > 1:
        raise InputError(f"{path} holds {', '.join(keys[:10])}; name one: {path}:{keys[0]}")
    return read_array(path, key or (keys[0] if keys else ""))


def _lengths(told: str | None, n: int) -> list[int] | None:
    """Volumes of each run, where they are told as numbers with commas."""
    if told is None or Path(told).exists():
        return None
    parts = told.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise InputError(f"--runs {told}: volumes of each run (200,180) or a file of labels fit")
    lengths = [int(part) for part in parts]
    if sum(lengths) != n or min(lengths) < 1:
        raise InputError(f"--runs {told}: {sum(lengths)} volumes, where --bold has {n}")
    return lengths


def _labels(told: str | None, n: int, lengths: list[int] | None, option: str) -> list[str] | None:
    """A label for each volume."""
    if told is None:
        return None
    if Path(told).exists():
        found = Path(told).read_text("utf-8-sig").split()
        if len(found) != n:
            raise InputError(
                f"{option} {told}: {len(found)} labels; one for each of {n} volumes fit"
            )
        return found
    if option == "--runs":
        names = [str(number + 1) for number in range(len(lengths or ()))]
    else:
        names = [part.strip() for part in told.split(",")]
    if lengths is None or len(names) != len(lengths):
        raise InputError(
            f"{option} {told}: {len(names)} names; a file of labels, or a name for each run of "
            "--runs (volumes with commas), fits"
        )
    return [name for name, length in zip(names, lengths, strict=True) for _ in range(length)]
