"""Files of a response that other tools open, and responses read back from them.

Every file has a BIDS-derivative name and a JSON sidecar that says what its rows are. The Zarr
store beside them (`tribrain.brain.export`) holds everything; a file of another program's format
holds the values, and what its format and its sidecar can say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from warnings import warn

import numpy as np

from tribrain.brain.atlases import Atlas
from tribrain.brain.bids_names import bids_name, sidecar, space_entities
from tribrain.brain.cifti_files import read_cifti, write_dtseries, write_ptseries
from tribrain.brain.painting import grid, ribbon
from tribrain.brain.response import Response, space_in
from tribrain.brain.series import BoldSeries
from tribrain.brain.spaces import HEMISPHERES, MESHES, Space, mesh_space, voxel_space
from tribrain.brain.surface_files import read_gifti, read_mgh, write_gifti, write_mgh
from tribrain.brain.volume_files import check_located, read_volume, write_volume
from tribrain.errors import InputError, InputWarning
from tribrain.files import first_line, one_line, require_file

_TEMPLATE = "MNI152NLin6Asym"
# What a sidecar says of a response beyond BIDS, and what `Response.data.attrs` calls it.
_FIELDS = {
    "Lag": "lag",
    "Model": "model",
    "ModelRevision": "revision",
    "Subject": "subject",
    "Modalities": "modalities",
    "License": "licence",
    "Label": "label",
}


def write_files(
    response: Response, folder: Path, name: str, formats: Sequence[str], atlas: Atlas | None
) -> None:
    """Write a response in some of `FORMATS`.

    The accuracy of its model, where it is known, is in npz, and in maps of their own beside GIFTI.
    GIFTI without a surface and CIFTI of parcels are left out with a warning; GIFTI alone without
    one, as it is what is asked for by default.

    Raises
    ------
    InputError
        Another format that cannot hold the response's space.
    """
    space = response.space
    for kind in formats:
        lacks = {"gifti": not space.is_surface, "cifti": bool(space.parcels)}
        if lacks.get(kind, False):
            if list(formats) != ["gifti"]:
                fits = "a surface" if kind == "gifti" else "vertices or voxels"
                warn(
                    f"{kind} is left out: {space.name} is none of the spaces that it holds, "
                    f"which have {fits}; npz fits",
                    InputWarning,
                    stacklevel=2,
                )
            continue
        FORMATS[kind](response, folder, name, atlas)


def _stem(response: Response, name: str, extension: str, space: Space, **more: str) -> str:
    entities = space_entities(space) | more
    return bids_name(
        "timeseries" if "seg" in more else "bold",
        extension,
        sub=response.data.attrs["subject"],
        task=name,
        desc="predicted",
        **entities,
    )


def _sidecar(
    response: Response, name: str, file: Path, space: Space, hemisphere: str | None = None
) -> None:
    """Write what the rows of a file are beside it."""
    attrs, data = response.data.attrs, response.data
    fields = sidecar(
        space,
        task=name,
        repetition_time=1.0,
        hemisphere=hemisphere,
        description=(
            f"Predicted BOLD response ({attrs['label']}). Row t holds the signal at "
            f"{attrs['lag']:g} s after second t of the stimulus."
        ),
        units=attrs["unit"],
        Space=response.space.name,
        RowsWithoutStimulus=np.flatnonzero(~data["stimulus"].values).tolist(),
        **{field: attrs[key] for field, key in _FIELDS.items()},
    )
    stem = re.sub(r"\.(func\.gii|[dp]tseries\.nii|nii\.gz|mgh)$", "", file.name)
    file.with_name(f"{stem}.json").write_text(json.dumps(fields, indent=2) + "\n", "utf-8")


def _write_surfaces(
    response: Response,
    folder: Path,
    name: str,
    extension: str,
    write: Callable[[Path, np.ndarray, str], None],
) -> None:
    space = response.space
    cortex = mesh_space(space.mesh)
    for side in HEMISPHERES:
        file = folder / _stem(response, name, extension, cortex, hemi=side)
        write(file, response.data.values[:, space.slice(side)], side)
        _sidecar(response, name, file, cortex, side)


def _write_gifti(response: Response, folder: Path, name: str, atlas: Atlas | None) -> None:
    """One time series a hemisphere."""
    _write_surfaces(
        response,
        folder,
        name,
        ".func.gii",
        lambda path, rows, side: write_gifti(path, rows, side, 1.0),
    )
    _write_accuracy(response, folder, name)


def _write_accuracy(response: Response, folder: Path, name: str) -> None:
    """How well the model predicts each vertex, as a map a hemisphere; nothing where unknown."""
    accuracy, space = response.accuracy, response.space
    if accuracy is None:
        return
    cortex = mesh_space(space.mesh)
    for side in HEMISPHERES:
        entities = {"task": name, "hemi": side, "desc": "accuracy"} | space_entities(cortex)
        stem = bids_name("boldmap", "", sub=response.data.attrs["subject"], **entities)
        values, label = accuracy.values[space.slice(side)], str(accuracy.attrs["long_name"])
        write_gifti(folder / f"{stem}.func.gii", values[None], side, None, names=[label])
        fields = sidecar(
            cortex,
            hemisphere=side,
            description=f"{label}; NaN where it is not defined. A map, no time series.",
            units=str(accuracy.attrs.get("measure", "")) or None,
            Space=cortex.name,
            Model=response.data.attrs["model"],
            ModelRevision=response.data.attrs["revision"],
        )
        (folder / f"{stem}.json").write_text(json.dumps(fields, indent=2) + "\n", "utf-8")


def _write_mgh(response: Response, folder: Path, name: str, atlas: Atlas | None) -> None:
    _write_surfaces(
        response, folder, name, ".mgh", lambda path, rows, side: write_mgh(path, rows, 1.0)
    )


def _write_nifti(response: Response, folder: Path, name: str, atlas: Atlas | None) -> None:
    """A volume in the grid of the voxels, or else of MNI152NLin6Asym at 2 mm; vertices painted."""
    space = response.space
    check_located(space)
    voxels = space.voxels
    if voxels is None:
        voxels = ribbon(space.mesh, _TEMPLATE, *grid(_TEMPLATE, 2)).voxels
    written = voxel_space(voxels)
    file = folder / _stem(response, name, ".nii.gz", written)
    write_volume(file, response.data.values, space, repetition_time=1.0)
    _sidecar(response, name, file, written)


def _write_cifti(response: Response, folder: Path, name: str, atlas: Atlas | None) -> None:
    """A dense series, and one of the means of an atlas's regions where there is an atlas."""
    space = response.space
    file = folder / _stem(response, name, ".dtseries.nii", space)
    write_dtseries(file, response.data.values, space, repetition_time=1.0)
    _sidecar(response, name, file, space)
    if atlas is None:
        return
    file = folder / _stem(response, name, ".ptseries.nii", space, seg=atlas.name)
    means = atlas.summarise(response.data.values)
    write_ptseries(file, means, atlas.vertices(), space, repetition_time=1.0, atlas=atlas.name)
    _sidecar(response, name, file, space)


def _write_npz(response: Response, folder: Path, name: str, atlas: Atlas | None) -> None:
    data = response.data
    more: dict[str, Any] = {
        key: data[key].values for key in (*"ijk", "structure") if key in data.coords
    }
    if response.accuracy is not None:
        more["accuracy"] = response.accuracy.values
        more["accuracy_attributes"] = np.array(json.dumps(response.accuracy.attrs))
    np.savez_compressed(
        folder / f"{name}_response.npz",
        response=data.values,
        time=data["time"].values,
        bold_time=data["bold_time"].values,
        stimulus=data["stimulus"].values,
        attributes=np.array(json.dumps(data.attrs)),
        **more,
    )


FORMATS: dict[str, Callable[[Response, Path, str, Atlas | None], None]] = {
    "gifti": _write_gifti,
    "cifti": _write_cifti,
    "nifti": _write_nifti,
    "mgh": _write_mgh,
    "npz": _write_npz,
}


def read_response(path: str | Path) -> Response:
    """Read a response from a file that `write_files` wrote.

    The partner of a hemisphere's file is read with it. A volume is read where its response lies
    on a surface alone; the Zarr store has the others.

    Raises
    ------
    InputError
        A file of another kind, a damaged one, or one whose sidecar does not say what its rows
        are (measured BOLD is no response).
    """
    path = require_file(path, "the response")
    if path.suffix == ".npz":
        return _read_npz(path)
    for ending, read in _READERS.items():
        if path.name.endswith(ending):
            fields = _fields(path, ending)
            return _from_series(read(path, fields), fields, path)
    known = ", ".join((*_READERS, ".npz"))
    raise InputError(f"{path} is no file of a response; a folder, its .zarr, or {known} fits")


def _read_painted(path: Path, fields: dict[str, Any]) -> BoldSeries:
    if fields["Space"] not in MESHES:
        raise InputError(f"{path} holds voxels of {fields['Space']}; read the .zarr beside it")
    return read_volume(path, mesh_space(fields["Space"]))


_READERS: dict[str, Callable[[Path, dict[str, Any]], BoldSeries]] = {
    ".func.gii": lambda path, fields: read_gifti(path),
    ".mgh": lambda path, fields: read_mgh(path),
    ".dtseries.nii": lambda path, fields: read_cifti(path),
    ".ptseries.nii": lambda path, fields: read_cifti(path),
    ".nii.gz": _read_painted,
}


def _fields(path: Path, ending: str) -> dict[str, Any]:
    """The sidecar of a file."""
    beside = path.with_name(path.name.removesuffix(ending) + ".json")
    try:
        fields = json.loads(beside.read_text("utf-8"))
        missing = [field for field in (*_FIELDS, "Space") if field not in fields]
    except FileNotFoundError:
        raise InputError(
            f"{path} has no {beside.name} beside it, which says what its rows are"
        ) from None
    except (ValueError, TypeError, OSError) as error:
        raise InputError(f"{beside} cannot be read: {one_line(str(error))}") from None
    if missing:
        raise InputError(
            f"{beside.name} does not state {', '.join(missing)}: {path.name} is no response of "
            "tribrain (measured BOLD is no response)"
        )
    if not isinstance(fields["Space"], str):
        raise InputError(f"Space in {beside} is {_told(fields['Space'])}; the name of one fits")
    return dict(fields)


def checked_lag(lag: Any, what: str) -> float:
    """A lag that a file states, in seconds; refuses what is no number."""
    if isinstance(lag, bool) or not isinstance(lag, (int, float)) or not abs(lag) < 1e6:
        raise InputError(f"{what} is {_told(lag)}; a number of seconds fits")
    return float(lag)


def _told(value: Any) -> str:
    return one_line(repr(value))[:60]


def _from_series(series: BoldSeries, fields: dict[str, Any], path: Path) -> Response:
    if series.repetition_time != 1.0:
        raise InputError(
            f"{path} has a repetition time of {series.repetition_time:g} s; a response has 1 s"
        )
    n, silent = len(series.values), fields.get("RowsWithoutStimulus", [])
    if not isinstance(silent, list) or not all(type(k) is int and 0 <= k < n for k in silent):
        raise InputError(
            f"RowsWithoutStimulus beside {path} is {_told(silent)}; a list of rows from 0 to "
            f"{n - 1} fits"
        )
    stimulus = np.ones(n, bool)
    stimulus[silent] = False
    return Response.from_rows(
        series.values,
        lag=checked_lag(fields["Lag"], f"Lag beside {path}"),
        stimulus=stimulus,
        space=series.space,
        attrs={key: fields[field] for field, key in _FIELDS.items() if key != "lag"},
        provenance={},
    )


def _read_npz(path: Path) -> Response:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        attrs = json.loads(str(arrays["attributes"]))
        rows, stimulus = arrays["response"], arrays["stimulus"]
        space = space_in(attrs, rows.shape[1], arrays)
        lag = checked_lag(attrs.pop("lag", None), "lag")
        response = Response.from_rows(
            rows, lag=lag, stimulus=stimulus, space=space, attrs=attrs, provenance={}
        )
        if "accuracy" in arrays:
            labels = json.loads(str(arrays["accuracy_attributes"]))
            response = response.with_accuracy(arrays["accuracy"], labels)
        return response
    except Exception as error:  # whatever a damaged file brings about in its reader
        raise InputError(f"{path} cannot be read as a response: {first_line(error)}") from None
