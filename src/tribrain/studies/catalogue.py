"""Every study that has a name, and how one is opened from a line of text."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

from tribrain.errors import InputError
from tribrain.studies.runs import Study

STUDIES: dict[str, tuple[str, str]] = {
    "song": ("song", "Song"),
    "alice": ("alice", "Alice"),
    "algonauts2025": ("algonauts", "Algonauts"),
    "cneuromod": ("algonauts", "CourtoisNeuroMod"),
    "bold-moments": ("bold_moments", "BoldMoments"),
    "lebel2023": ("lebel", "Lebel"),
    "wen2017": ("wen", "Wen"),
    "narratives": ("narratives", "Narratives"),
    "le-petit-prince": ("le_petit_prince", "LePetitPrince"),
    "nndb": ("nndb", "Nndb"),
    "hcp-movies": ("hcp_movies", "HcpMovies"),
    "bids": ("bids", "BidsStudy"),
    "simulated": ("simulated", "Simulated"),
}
"""Module and class of each study."""


def study_class(name: str) -> type:
    """The class of a study.

    Raises
    ------
    InputError
        Names the known studies.
    """
    if name not in STUDIES:
        raise InputError(f"study {name!r} is unknown; known: {', '.join(STUDIES)}")
    module, attribute = STUDIES[name]
    found: type = getattr(import_module(f"tribrain.studies.{module}"), attribute)
    return found


def open_study(text: str | Path, settings: Mapping[str, str] | None = None) -> Study:
    """Open a study from a line of text.

    Parameters
    ----------
    text : str or path
        ``NAME:FOLDER`` (``song:/data/song``), ``simulated``, or a folder, which is read as BIDS.
    settings : mapping of str to str
        Fields of the study's class, as text: ``{"mesh": "fsaverage4", "n_subjects": "4"}``.

    Raises
    ------
    InputError
        An unknown study, a folder that is not there, a setting that the study does not have or
        that does not fit.
    """
    text = str(text)
    name, colon, rest = text.partition(":")
    if not colon or name not in STUDIES:
        if text in STUDIES:
            name, rest = text, ""
        elif re.fullmatch(r"[\w-]+:.+", text) and len(name) > 1 and not Path(text).exists():
            raise InputError(f"study {name!r} is unknown; known: {', '.join(STUDIES)}")
        else:
            name, rest = "bids", text
    cls = study_class(name)
    fields = {item.name: item for item in dataclasses.fields(cls) if item.init}
    values: dict[str, Any] = {}
    if "folder" in fields:
        if not rest:
            raise InputError(f"study {name}: its folder is missing; write {name}:FOLDER")
        folder = Path(rest).expanduser()
        if not folder.is_dir():
            raise InputError(f"study {name}: {folder} is no folder")
        values["folder"] = folder
    elif rest:
        raise InputError(f"study {name} needs no folder; leave out {rest!r}")
    hints = get_type_hints(cls)
    for key, value in (settings or {}).items():
        known = [field for field in fields if field not in ("folder", *_FACTS)]
        if key not in known:
            raise InputError(f"study {name} has no setting {key!r}; known: {', '.join(known)}")
        values[key] = _converted(value, hints[key], f"{name}: {key}")
    study: Study = cls(**values)
    return study


# Fields that say what the study is; nobody sets them.
_FACTS = ("name", "licence", "citation", "tested_on")


def _converted(text: str, hint: Any, what: str) -> Any:
    """A setting given as text, as a field of that type takes it."""
    kinds = set(getattr(hint, "__args__", ())) or {hint}
    if bool in kinds:
        if text.lower() not in ("true", "false"):
            raise InputError(f"{what} is {text!r}; true or false fits")
        return text.lower() == "true"
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(text)
            except ValueError:
                continue
    if type(None) in kinds and text.lower() == "none":
        return None
    if hint == tuple[str, ...]:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if Path in kinds:
        return Path(text)
    if str in kinds:
        return text
    if kinds & {int, float}:
        fits = "a number" if float in kinds else "a whole number"
        or_none = " or none" if type(None) in kinds else ""
        raise InputError(f"{what} is {text!r}; {fits}{or_none} fits")
    raise InputError(f"{what} cannot be set from the command line; use Python")
