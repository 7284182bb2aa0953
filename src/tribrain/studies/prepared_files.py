"""Files of a prepared study: their names, and plain data for what JSON cannot hold.

The layout of a store is told in `tribrain.studies.prepared`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import math
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tribrain.brain.spaces import Space, Voxels
from tribrain.errors import InputError
from tribrain.files import one_line, safe_name
from tribrain.studies.catalogue import STUDIES
from tribrain.studies.runs import FeatureArrays, Source

FORMAT = 1
MANIFEST = "manifest.json"
PARTIAL = ".partial-"
"""How the name of a file begins that is being written."""
_PACKAGE = "tribrain.studies."


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON beside, then rename: a reader sees the old file or the new one."""
    partial = path.with_name(f"{PARTIAL}{secrets.token_hex(8)}")
    try:
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
        rename(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def rename(partial: Path, path: Path) -> None:
    """Rename; on Windows that is refused for the moment in which somebody reads the old file."""
    for _ in range(100):
        try:
            partial.replace(path)
            return
        except PermissionError:
            time.sleep(0.02)
    partial.replace(path)


def record_path(folder: Path, name: str) -> Path:
    """Where what is known of a run lies."""
    return folder / "runs" / f"{file_stem(name)}.json"


def file_stem(name: str) -> str:
    """A file's name for a run, safe and different for each, also where case does not tell."""
    return f"{safe_name(name)}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def kept_file(store: Path, part: str, name: object) -> Path:
    """Where a file of a store lies that a record names; of the name no folder is taken.

    Raises
    ------
    ValueError
        If it is no name of an array (``spaces``: of JSON).
    """
    suffix = ".json" if part == "spaces" else ".npy"
    plain = Path(name).name if isinstance(name, str) else ""
    if not plain.endswith(suffix) or "\0" in plain:
        raise ValueError(f"{name!r} is no name of a {suffix} file of its {part}")
    return store / part / plain


def is_inside(path: Path, store: Path) -> bool:
    """Whether a file lies in the store, also where links are followed."""
    return path.parent.resolve().is_relative_to(store.resolve())


def read_record(folder: Path, name: str) -> dict[str, Any] | None:
    """What is known of a run; None where it is not prepared."""
    path = record_path(folder, name)
    record = read_json(path)
    if record is not None and record.get("name") != name:
        raise damaged(path, f"it is of run {record.get('name')!r}")
    return record


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object; None where there is no file."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise damaged(path, error) from None
    if not isinstance(content, dict):
        raise damaged(path, "no JSON object")
    return content


def digest(content: Any) -> str:
    """Checksum of plain data."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _class_and_fields(source: Any, store: Path) -> dict[str, Any]:
    """Plain data from which `make_source` makes a source again.

    That is the class and its fields, for a class of this package whose fields are plain data,
    paths and functions ``read_...`` of the module of a study. Of any other one, the names of its
    files.
    """
    kind = type(source)
    told: dict[str, Any] = {"files": [str(path) for path in source.files]}
    if dataclasses.is_dataclass(source) and kind.__module__.startswith(_PACKAGE):
        try:
            fields = {
                field.name: _encoded(getattr(source, field.name), store)
                for field in dataclasses.fields(source)
                if field.init
            }
        except TypeError:
            return told
        told |= {"class": f"{kind.__module__}:{kind.__qualname__}", "fields": fields}
    return told


def make_source(told: Mapping[str, Any], store: Path) -> Any:
    """The source that `keep_source` told of."""
    if "series" in told:
        series = {}
        for name, file in told["series"].items():
            path = kept_file(store, "features", file)
            try:
                series[name] = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError) as error:
                raise damaged(path, error) from None
        return FeatureArrays(series, told["rate"], Path(told["file"]))
    kind = _named(told.get("class", ""))
    files = ", ".join(told.get("files", [])) or "no file"
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind) and hasattr(kind, "content")):
        raise InputError(f"the store cannot tell how to open {files}; ask the study itself")
    try:
        fields = {key: _decoded(value, store) for key, value in told["fields"].items()}
        return kind(**fields)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"what {store} tells of how to open {files} is damaged ({one_line(str(error))}); "
            "prepare the study again"
        ) from None


def check_told(told: Any) -> Mapping[str, Any]:
    """What a record tells of a source, once it is sure to be of that form.

    Raises
    ------
    ValueError
        If it is not; names what is wrong.
    """
    if not isinstance(told, dict):
        raise ValueError(f"source {told!r} is no object")
    if "series" in told:
        if not isinstance(told["series"], dict) or not told["series"]:
            raise ValueError(f"series {told['series']!r} are not named files")
        for file in told["series"].values():
            kept_file(Path(), "features", file)
        as_text(told["file"], "file")
        as_text(told["check"], "check")
        as_number(told["rate"], "rate", above=0.0)
        return told
    as_texts(told.get("files", []), "files")
    as_text(told.get("class", ""), "class")
    if not isinstance(told.get("fields", {}), dict):
        raise ValueError(f"fields {told['fields']!r} are no object")
    return told


def as_text(value: Any, what: str) -> str:
    """A value of a record that is text; ValueError if it is not."""
    if not isinstance(value, str):
        raise ValueError(f"{what} {value!r} is no text")
    return value


def as_texts(value: Any, what: str) -> tuple[str, ...]:
    """A value of a record that is a list of texts; ValueError if it is not."""
    if not isinstance(value, list):
        raise ValueError(f"{what} {value!r} is no list")
    return tuple(as_text(one, what) for one in value)


def as_number(value: Any, what: str, above: float = -math.inf) -> float:
    """A value of a record that is a number; ValueError if it is not."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{what} {value!r} is no number")
    if not (math.isfinite(value) and value > above):
        raise ValueError(f"{what} {value!r} is out of range")
    return value


def as_count(value: Any, what: str) -> int:
    """A value of a record that is a whole number, 0 or more; ValueError if it is not."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{what} {value!r} is no count")
    return value


def _named(name: str) -> Any:
    """What MODULE:NAME defines; None unless it is of the studies of this package."""
    module, _, attribute = name.partition(":")
    if not module.startswith(_PACKAGE):
        return None
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        return None
    return found if getattr(found, "__module__", None) == module else None


def _reader(name: str) -> Any:
    """What MODULE:read_NAME defines, in the module of a study; None for any other name.

    A store may come from elsewhere: of all functions, only those that read a study's own table
    may be named by it.
    """
    modules = {_PACKAGE + module for module, _ in STUDIES.values()}
    module, _, attribute = name.partition(":")
    found = _named(name) if module in modules and attribute.startswith("read_") else None
    return found if callable(found) and not isinstance(found, type) else None


def _encoded(value: Any, store: Path) -> Any:
    """Plain data for a value of a field; a path is kept as it is and as seen from the store."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        path = value.absolute()
        try:
            beside = Path(os.path.relpath(path, store.absolute())).as_posix()
        except ValueError:  # on another drive
            beside = None
        return {"path": str(path), "beside": beside}
    if isinstance(value, Mapping):
        return {"mapping": {str(key): _encoded(one, store) for key, one in value.items()}}
    if isinstance(value, tuple | list):
        return {"sequence": [_encoded(one, store) for one in value]}
    name = f"{getattr(value, '__module__', '')}:{getattr(value, '__qualname__', '<>')}"
    if callable(value) and _reader(name) is value:
        return {"function": name}
    raise TypeError(name)


def _decoded(value: Any, store: Path) -> Any:
    if not isinstance(value, dict):
        return value
    if "mapping" in value:
        return {key: _decoded(one, store) for key, one in value["mapping"].items()}
    if "sequence" in value:
        return tuple(_decoded(one, store) for one in value["sequence"])
    if "function" in value:
        function = _reader(value["function"])
        if function is None:
            raise InputError(
                f"{store} names {value['function']}, which is no function read_... of a study"
            )
        return function
    path = Path(value["path"])
    if not path.exists() and value["beside"] is not None:
        moved = Path(os.path.normpath(store.absolute() / value["beside"]))
        return moved if moved.exists() else path
    return path


def space_content(space: Space) -> dict[str, Any]:
    """Plain data of a space."""
    content = {key: getattr(space, key) for key in ("name", "size", "n_left", "n_right")}
    content |= {"parcels": list(space.parcels), "voxels": None}
    if space.voxels is not None:
        voxels = space.voxels
        content["voxels"] = {
            "template": voxels.template,
            "shape": list(voxels.shape),
            "affine": voxels.affine.tolist(),
            "indices": voxels.indices.tolist(),
            "structures": None if voxels.structures is None else voxels.structures.tolist(),
        }
    return content


def read_space(path: Path) -> Space:
    """The space that `space_content` told of."""
    content = read_json(path)
    if content is None:
        raise damaged(path, "it is not there")
    voxels = content.pop("voxels")
    if voxels is not None:
        for key, kind in (("affine", float), ("indices", int)):
            voxels[key] = np.array(voxels[key], kind)
        voxels = Voxels(**voxels | {"shape": tuple(voxels["shape"])})
    return Space(**content | {"parcels": tuple(content["parcels"]), "voxels": voxels})


def keep_source(source: Source, content: str, store: Path) -> dict[str, Any]:
    """Plain data from which `make_source` makes a source again; series are put into the store."""
    if not isinstance(source, FeatureArrays):
        return _class_and_fields(source, store)
    arrays = {name: np.asarray(array, "<f4") for name, array in source.series.items()}
    series = {}
    for number, name in enumerate(sorted(arrays)):
        series[name] = f"features/{content[:16]}-{number}.npy"
        path = store / series[name]
        if not path.exists():
            partial = path.with_name(f"{PARTIAL}{secrets.token_hex(8)}.npy")
            try:
                np.save(partial, arrays[name], allow_pickle=False)
                rename(partial, path)
            finally:
                partial.unlink(missing_ok=True)
    kept = FeatureArrays(arrays, float(source.rate), source.file)
    return {
        "series": series,
        "rate": kept.rate,
        "file": str(kept.file),
        "check": kept.content(),
    }


def damaged(path: Path, reason: object) -> InputError:
    """What is said of a file that cannot be read."""
    if isinstance(reason, KeyError):
        reason = f"no {reason}"
    told = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return InputError(f"{path} is damaged ({one_line(str(told))}); prepare the study again")
