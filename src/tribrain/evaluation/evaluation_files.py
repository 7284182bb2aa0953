"""An evaluation as a folder: tables, maps that other tools open, and what they were made of.

==================== =============================================================================
``evaluation.json``  ``format``, checksums of the other files, and `Evaluation.told`
``scores.tsv``       `Evaluation.scores`; so ``summary.tsv`` and ``regions.tsv``
``modalities.tsv``   `Evaluation.modalities`, where it holds anything
``splits.tsv``       rows of the study by side (``told["splits"]``)
``moments.tsv.gz``   `Evaluation.moments`, from which evaluations are compared
``maps.safetensors`` `Evaluation.maps`, float32
``space.json``       the space of the maps, where there is one
``maps/``            the maps in files named as BIDS derivatives: GIFTI of vertices, NIfTI of voxels
``maps.tsv``         instead of these, the maps of parcels and of plain arrays
``report.html``      where a report is given (`tribrain.viewing.evaluation_report`)
==================== =============================================================================

In tables ``n/a`` stands for a number that is not defined, as in BIDS. Reading runs nothing, and
reads what the checksums say that it is.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tribrain.brain.bids_names import bids_name, sidecar, space_entities
from tribrain.brain.spaces import HEMISPHERES, Space, mesh_space, voxel_space
from tribrain.brain.surface_files import write_gifti
from tribrain.brain.volume_files import write_volume
from tribrain.errors import InputError
from tribrain.evaluation.evaluation import SPLITS, TABLES, TEXTS, Evaluation
from tribrain.files import bids_label, first_line, save_tensors, sha256, whole_folder
from tribrain.studies.prepared_files import read_space, space_content

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "tribrain-evaluation-1"
DESCRIPTION, REPORT, SPLIT_TABLE = "evaluation.json", "report.html", "splits.tsv"
MAPS, MAP_TABLE, MAP_FOLDER, SPACE = "maps.safetensors", "maps.tsv", "maps", "space.json"
_FILES = {name: f"{name}.tsv" for name in TABLES} | {"moments": "moments.tsv.gz"}
_NAMES = {*_FILES.values(), DESCRIPTION, REPORT, SPLIT_TABLE, MAPS, MAP_TABLE, MAP_FOLDER, SPACE}
_MAY_LACK = "modalities"  # of the tables
_MISSING = "n/a"
_NULL = "null"  # of maps WAY/null, which are there for a histogram


def save(
    evaluation: Evaluation,
    folder: str | Path,
    *,
    report: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write an evaluation, all of it or nothing.

    Numbers of tables keep 9 digits, maps are float32. Numbers in ``told`` that are not finite
    become null, which JSON has for them.

    Parameters
    ----------
    evaluation : Evaluation
    folder : path
        Made if it is not there. Hidden entries in it stay.
    report : str, optional
        HTML.
    overwrite : bool
        Replace an evaluation that the folder holds.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        A folder that holds something else, or an evaluation without `overwrite`.
    """
    folder = Path(folder)
    check_target(folder, overwrite=overwrite)
    import pandas as pd

    told = dict(evaluation.told)
    tables = {
        _FILES[name]: getattr(evaluation, name)
        for name in TABLES
        if name != _MAY_LACK or len(evaluation.modalities)
    }
    if "splits" in told:
        splits = told.pop("splits")
        tables[SPLIT_TABLE] = pd.DataFrame(splits, columns=None if splits else list(SPLITS))
    with whole_folder(folder, _NAMES) as partial:
        kinds = {}
        for file, table in tables.items():
            kinds[file] = write_table(table, partial / file)
        _write_maps(evaluation, partial)
        if evaluation.space is not None:
            _write_json(partial / SPACE, space_content(evaluation.space))
        if report is not None:
            (partial / REPORT).write_text(report, "utf-8")
        files = sorted(path for path in partial.rglob("*") if path.is_file())
        checksums = {path.relative_to(partial).as_posix(): sha256(path) for path in files}
        _write_json(
            partial / DESCRIPTION,
            {"format": FORMAT, "files": checksums, "columns": kinds, "told": told},
        )
    return folder


def load(folder: str | Path) -> Evaluation:
    """Read an evaluation that `save` wrote.

    Raises
    ------
    InputError
        If there is none, or one of another format; if a file is missing or damaged.
    """
    folder = Path(folder)
    description = read_description(folder)
    files, kinds = description["files"], description["columns"]
    stored = {name: file for name, file in _FILES.items() if name != _MAY_LACK or file in files}
    for name in (*stored.values(), SPLIT_TABLE, MAPS, SPACE):
        if name in files or name in stored.values() or name == MAPS:
            _check(folder / name, files.get(name))
    try:
        tables = {name: read_table(folder / file, kinds[file]) for name, file in stored.items()}
        told = dict(description["told"])
        if SPLIT_TABLE in files:
            splits = read_table(folder / SPLIT_TABLE, kinds[SPLIT_TABLE])
            told["splits"] = splits.to_dict("records")
        space = read_space(folder / SPACE) if SPACE in files else None
        return Evaluation(told, space, maps=_read_maps(folder / MAPS), **tables)
    except Exception as error:  # whatever content that is not ours brings about in a reader
        raise _damaged(folder, first_line(error)) from None


def check_target(folder: str | Path, *, overwrite: bool = False) -> None:
    """Refuse a folder that an evaluation should not be written to.

    Raises
    ------
    InputError
        If it is a file, cannot be written to, or holds something else than an evaluation, or an
        evaluation without `overwrite`.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; an evaluation takes a folder")
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"{folder} cannot be made or written to; choose another folder")
    seen = sorted(path.name for path in folder.glob("*") if not path.name.startswith("."))
    if not seen:
        return
    if not is_evaluation(folder):
        raise InputError(f"{folder} holds something else ({seen[0]}); choose another folder")
    if not overwrite:
        raise InputError(
            f"{folder} holds an evaluation already; choose another folder or overwrite it"
        )


def is_evaluation(folder: str | Path) -> bool:
    """Whether a folder holds an evaluation of this format."""
    try:
        read_description(Path(folder))
    except InputError:
        return False
    return True


def read_description(folder: Path) -> dict[str, Any]:
    """What ``evaluation.json`` says, checked to be of this format.

    Raises
    ------
    InputError
        If it is not there, damaged, or of another format.
    """
    file = folder / DESCRIPTION
    if not file.is_file():
        raise InputError(f"{folder} holds no evaluation: {DESCRIPTION} is not there")
    try:
        description = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(folder, f"{DESCRIPTION}: {first_line(error)}") from None
    found = description.get("format") if isinstance(description, dict) else None
    if found != FORMAT:
        raise InputError(f"{file} has the format {found!r}; {FORMAT} is read")
    for key in ("files", "columns", "told"):
        if not isinstance(description.get(key), dict):
            raise _damaged(folder, f"{DESCRIPTION} has no table {key!r}")
    return dict(description)


def write_table(table: pd.DataFrame, file: Path) -> dict[str, str]:
    """Write a table, and tell of each column whether it holds ``text`` or a kind of ``number``."""
    written = table.reset_index(drop=True).copy()
    kinds = {}
    for name in written.columns:
        kinds[str(name)] = kind = _kind(str(name), written[name])
        if kind == "text":
            values = [str(value) if _is_there(value) else "" for value in written[name]]
            written[name] = np.array(values, object)
        elif kind == "number":
            written[name] = written[name].astype(float)
    packed: Any = (
        {"method": "gzip", "mtime": 0, "compresslevel": 5} if file.suffix == ".gz" else None
    )
    written.to_csv(
        file, sep="\t", index=False, na_rep=_MISSING, float_format="%.9g", compression=packed
    )
    return kinds


def read_table(file: Path, kinds: Mapping[str, str]) -> pd.DataFrame:
    """Read a table that `write_table` wrote, with the kinds that it told."""
    import pandas as pd

    types = {"text": str, "whole": np.int64, "flag": bool, "number": np.float64}
    return pd.read_csv(
        file,
        sep="\t",
        dtype={name: types[kind] for name, kind in kinds.items()},
        keep_default_na=False,
        na_values={name: [_MISSING] for name, kind in kinds.items() if kind == "number"},
    )[list(kinds)]


def _kind(name: str, column: pd.Series) -> str:
    import pandas as pd

    if name in TEXTS:
        return "text"
    if pd.api.types.is_bool_dtype(column):
        return "flag"
    if pd.api.types.is_integer_dtype(column) and not column.hasnans:
        return "whole"
    if pd.api.types.is_numeric_dtype(column) or any(name in known for known in TABLES.values()):
        return "number"
    return "text"


def _is_there(value: Any) -> bool:
    return value is not None and value == value


def _write_maps(evaluation: Evaluation, folder: Path) -> None:
    import pandas as pd
    import torch

    space = evaluation.space
    names = (evaluation.told.get("modalities") or {}).get("names") or ()
    arrays = {
        name: np.ascontiguousarray(values, np.float32) for name, values in evaluation.maps.items()
    }
    save_tensors({name: torch.from_numpy(one) for name, one in arrays.items()}, folder / MAPS)
    shown = {name: one for name, one in arrays.items() if name.rpartition("/")[2] != _NULL}
    voxels = space.voxels if space is not None else None
    if space is None or not (space.is_surface or voxels is not None):
        named = space.parcels if space is not None else ()
        size = len(next(iter(arrays.values()), ()))
        index = pd.Series(named or range(size), name="parcel" if named else "output")
        pd.concat([index, pd.DataFrame(shown)], axis=1).to_csv(
            folder / MAP_TABLE, sep="\t", index=False, na_rep=_MISSING, float_format="%.6g"
        )
        return
    folder = folder / MAP_FOLDER
    folder.mkdir()
    taken: set[str] = set()
    for name, values in shown.items():
        way, _, stat = name.rpartition("/")
        what = {"stat": stat, "desc": _label(way, stat, taken)}
        about = f"{stat} of {way}" if way else stat
        if stat == "winner":  # numbers that stand for names
            about += f" ({', '.join(f'{n}: {one}' for n, one in enumerate(names))})"
        if space.is_surface:
            _write_surface(folder, values, space, what, about)
        if voxels is not None:
            apart = voxel_space(voxels)
            file = folder / bids_name("boldmap", ".nii.gz", **what, **space_entities(apart))
            write_volume(file, values[space.cortex.stop :], apart)
            _write_json(
                file.with_name(file.name.removesuffix(".nii.gz") + ".json"),
                sidecar(apart, description=about),
            )


def _write_surface(
    folder: Path, values: np.ndarray, space: Space, what: Mapping[str, str | None], about: str
) -> None:
    """A map in a file for each hemisphere."""
    cortex = mesh_space(space.mesh)
    for side in HEMISPHERES:
        entities = {**what, **space_entities(cortex), "hemi": side}
        file = folder / bids_name("boldmap", ".func.gii", **entities)
        write_gifti(file, values[None, space.slice(side)], side, None, names=[about])
        _write_json(
            file.with_name(file.name.removesuffix(".func.gii") + ".json"),
            sidecar(cortex, hemisphere=side, description=about),
        )


def _label(way: str, stat: str, taken: set[str]) -> str | None:
    """A label of letters and digits for a way, other than those of other maps of the kind."""
    if not way:
        return None
    apart = "".join(c if c.isalnum() else " " for c in way).split()
    words = bids_label(
        "".join(word[:1].upper() + word[1:] if k else word for k, word in enumerate(apart))
    )
    label, number = words, 2
    while f"{label.lower()}/{stat}" in taken:
        label, number = f"{words}{number}", number + 1
    taken.add(f"{label.lower()}/{stat}")
    return label


def _read_maps(file: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return {name: np.array(values) for name, values in load_file(file).items()}


def _check(file: Path, stated: Any) -> None:
    if not file.is_file():
        raise _damaged(file.parent, f"{file.name} is not there")
    if sha256(file) != stated:
        raise _damaged(file.parent, f"{file.name} is not what its checksum says")


def _damaged(folder: Path, reason: str) -> InputError:
    return InputError(f"the evaluation in {folder} is damaged ({reason}); evaluate again")


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(plain(content), indent=2, ensure_ascii=False, allow_nan=False)
    file.write_text(text + "\n", "utf-8")


def plain(value: Any) -> Any:
    """The same as plain JSON data: arrays as lists, what is not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        kept = sorted(value) if isinstance(value, set | frozenset) else value
        return [plain(one) for one in kept]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
