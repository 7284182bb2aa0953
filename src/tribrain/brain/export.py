"""Responses to and from files that other tools open."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tribrain.brain.atlases import Atlas
from tribrain.brain.region_tables import atlas_for, over_time
from tribrain.brain.response import Response, place, space_of
from tribrain.brain.response_files import FORMATS, checked_lag, read_response, write_files
from tribrain.errors import InputError
from tribrain.files import bids_label, first_line, safe_name, whole_folder

if TYPE_CHECKING:
    import xarray as xr


def save_response(
    response: Response,
    directory: Path,
    name: str,
    *,
    formats: Sequence[str] = ("gifti",),
    atlas: str | Path | Atlas = "textbook",
    overwrite: bool = False,
    also: Mapping[str, str | bytes] | None = None,
) -> Path:
    """Write a response: Zarr, region means, what made it, and the formats asked for.

    Everything is written to a hidden folder first and moved in at once.

    Parameters
    ----------
    response : Response
    directory : Path
        Made if it is not there.
    name : str
        First part of the files' names; anything but letters, digits, ``_`` and ``-`` is removed.
    formats : sequence of str
        Any of `FORMATS`. A response that lies on no surface has no GIFTI file: that is not said
        where GIFTI alone is named, as it is by default.
    atlas : str, path or Atlas
        Whose regions go into the table, and into a parcellated CIFTI file. The textbook regions,
        which overlap, go into the table alone.
    overwrite : bool
        Replace the response to another stimulus. What is replaced, by this or by the same
        stimulus, goes with all its files; files that are not a response's stay.
    also : mapping of str to str or bytes, optional
        More text files by name (the report, the words).

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        An unknown format, or a folder that holds another stimulus.

    Warns
    -----
    InputWarning
        Where a format that was asked for is left out, as it cannot hold the response.
    """
    name = safe_name(name)
    check_target(directory, name, _source_checksum(response), overwrite=overwrite)
    check_formats(formats)
    found = atlas_for(response.space, atlas)
    with whole_folder(directory, _files_of_former(directory)) as partial:
        _write_zarr(response, partial / f"{name}_response.zarr")
        apart = found if found is not None and found.name != "textbook" else None
        write_files(response, partial, name, formats, apart)
        if found is not None or response.space.parcels:
            regions = over_time(response.data, response.space, found or "textbook")
            regions.to_csv(
                partial / f"{name}_regions.tsv", sep="\t", float_format="%.6g", na_rep="n/a"
            )
        for file, content in (also or {}).items():
            data = content.encode() if isinstance(content, str) else content
            (partial / file).write_bytes(data)
        description = _description(response)
        if found is not None:
            description["regions"] = {"atlas": found.name, "source": found.source}
        description["files"] = sorted(path.name for path in partial.iterdir())
        (partial / f"{name}_response.json").write_text(
            json.dumps(description, indent=2, ensure_ascii=False) + "\n", "utf-8"
        )
    return directory


def _files_of_former(directory: Path) -> set[str]:
    """Files in a folder that belong to responses in it, by what their descriptions list.

    Only names that a response of that name can have: a damaged or foreign list removes nothing.
    """
    names = set()
    for description in directory.glob("*_response.json"):
        name = description.name.removesuffix("_response.json")
        own = re.compile(rf"(?:{re.escape(name)}|sub-[\w+]+_task-{bids_label(name)})_[\w.-]+")
        try:
            listed = json.loads(description.read_text("utf-8"))["files"]
            names |= {file for file in listed if isinstance(file, str) and own.fullmatch(file)}
        except (ValueError, KeyError, TypeError):
            pass
        names.add(description.name)
    return names


def check_formats(formats: Sequence[str]) -> None:
    """Refuse a format that is not in `FORMATS`."""
    if isinstance(formats, str):
        raise InputError(f"formats is the text {formats!r}; a list of {', '.join(FORMATS)} fits")
    for kind in formats:
        if kind not in FORMATS:
            raise InputError(f"format {kind!r} is unknown; known: {', '.join(FORMATS)}")


def check_target(directory: Path, name: str, checksum: str | None, *, overwrite: bool) -> None:
    """Refuse a target that is a file, or a folder with the response to another stimulus."""
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory} is a file; --out takes a folder")
    place = directory.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"{directory} cannot be made or written to; choose another --out")
    if overwrite or not directory.is_dir():
        return
    for file in sorted(directory.glob("*_response.json")):
        try:
            held = json.loads(file.read_text("utf-8"))["stimulus"]["sha256"]
        except (ValueError, KeyError, TypeError):
            held = None
        if file.name != f"{name}_response.json" or held is None or held != checksum:
            raise InputError(
                f"{directory} holds the response to another stimulus ({file.name}); "
                "choose another --out or add --overwrite"
            )


def load_response(directory: str | Path) -> Response:
    """Load a response that `Response.save` wrote.

    Parameters
    ----------
    directory : path
        The folder, the ``NAME_response.zarr`` in it, or one of its files
        (`tribrain.brain.response_files.read_response`), which hold less of what made it.

    Raises
    ------
    InputError
        If there is no response, more than one, or a damaged one.
    """
    import xarray as xr

    directory = Path(directory)
    if directory.is_file():
        return read_response(directory)
    if directory.suffix == ".zarr":
        stores = [directory] if directory.is_dir() else []
    else:
        stores = sorted(directory.glob("*_response.zarr"))
    if len(stores) != 1:
        found = ", ".join(store.name for store in stores) or "none"
        raise InputError(f"{directory}: one *_response.zarr is expected; found: {found}")
    description = stores[0].with_suffix(".json")
    try:
        with xr.open_zarr(stores[0], chunks=None, consolidated=False) as dataset:
            data = _checked(dataset["response"].load())
        provenance = dict(json.loads(description.read_text("utf-8")))
        stated = provenance["response"]["sha256"]
        scored = provenance.pop("accuracy", {}).get("sha256")
    except Exception as error:  # whatever a damaged store brings about in its reader
        raise InputError(f"{stores[0]} cannot be read as a response: {first_line(error)}") from None
    if _checksum(data.values) != stated:
        raise InputError(f"{stores[0]} cannot be read as a response: its values are damaged")
    held = _checksum(data["accuracy"].values) if "accuracy" in data.coords else None
    if held != scored:
        raise InputError(f"{stores[0]} cannot be read as a response: its accuracy is damaged")
    for key in ("response", "written", "files", "regions"):
        provenance.pop(key, None)
    return Response(data, provenance)


def _checked(data: xr.DataArray) -> xr.DataArray:
    """The values of a store with their words, checked to be what `Response.from_rows` makes."""
    data.encoding = {}
    if data.dims != ("time", "vertex"):
        raise InputError(f"its values are by {', '.join(map(str, data.dims))}, not time, vertex")
    for key in ("time", "bold_time", "stimulus"):
        if key not in data.coords or data[key].dims != ("time",):
            raise InputError(f"it has no {key} for its rows")
    lag = checked_lag(data.attrs.get("lag"), "its lag")
    time, bold_time = data["time"].values, data["bold_time"].values
    if not (np.isfinite(time).all() and (np.diff(time) > 0).all()):
        raise InputError("its time does not increase from row to row")
    if not np.allclose(bold_time, time + lag):
        raise InputError(f"its bold_time is not its time and a lag of {lag:g} s")
    if data["stimulus"].dtype != bool:
        raise InputError("its stimulus is no truth value a row")
    if "accuracy" in data.coords:
        accuracy = data["accuracy"]
        accuracy.encoding = {}
        if accuracy.dims != ("vertex",) or accuracy.dtype != np.float32:
            raise InputError("its accuracy is no number a value")
        data = data.assign_coords(accuracy=accuracy)
    for name, coordinate in data.coords.items():
        if "names" in coordinate.attrs:
            words = np.array(coordinate.attrs["names"])[coordinate.values]
            data = data.assign_coords({name: ("vertex", words)})
    data.attrs["modalities"] = list(data.attrs.get("modalities", []))
    if not isinstance(data.attrs.get("space"), str):
        raise InputError("it does not state its space")
    space = space_of(data)
    if space.name != data.attrs["space"]:
        raise InputError(
            f"it states the space {data.attrs['space']}; its {space.size} values fit {space.name}"
        )
    keys = ("hemisphere", *"ijk", "structure")
    placed = place(data.drop_vars(keys, errors="ignore"), space)
    for key in keys:
        there = key in data.coords
        if there != (key in placed.coords) or (there and not data[key].equals(placed[key])):
            raise InputError(f"its {key} is missing or not that of {space.name}")
    return data


def _source_checksum(response: Response) -> str | None:
    return response.provenance.get("stimulus", {}).get("sha256")


def _description(response: Response) -> dict[str, Any]:
    data, accuracy = response.data, response.accuracy
    told: dict[str, Any] = {}
    if accuracy is not None:
        told["accuracy"] = {**accuracy.attrs, "sha256": _checksum(accuracy.values)}
    return {
        "response": {
            "rows": data.sizes["time"],
            "outputs": data.sizes["vertex"],
            "first_time_s": float(data["time"][0]),
            "first_bold_time_s": float(data["bold_time"][0]),
            "sha256": _checksum(data.values),
            "rows_without_stimulus": int((~data["stimulus"]).sum()),
            **data.attrs,
        },
        **response.provenance,
        **told,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _checksum(values: np.ndarray) -> str:
    """SHA-256 of the values as little-endian float32, row by row."""
    return hashlib.sha256(np.ascontiguousarray(values, "<f4").data).hexdigest()


def _write_zarr(response: Response, path: Path) -> None:
    # About 4 MB a piece: a row at a time and a vertex over time are both quick to read.
    rows, outputs = response.data.shape
    per_chunk = max(1, min(rows, math.ceil(1_000_000 / outputs)))
    encoding = {"response": {"chunks": (per_chunk, outputs)}}
    data = response.data.copy(deep=False)
    for key in (
        "hemisphere",
        "structure",
    ):  # Zarr has no settled form for text yet: numbers instead
        if key in data.coords:
            words, numbers = np.unique(data[key].values, return_inverse=True)
            kind = np.uint8 if len(words) < 256 else np.uint16
            coordinate = ("vertex", numbers.astype(kind), {"names": words.tolist()})
            data = data.assign_coords({key: coordinate})
    dataset = data.to_dataset(name="response")
    dataset.to_zarr(path, mode="w", encoding=encoding, consolidated=False, zarr_format=3)
