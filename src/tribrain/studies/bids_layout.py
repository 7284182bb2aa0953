"""Files of a BIDS data set, found by their names; sidecars by inheritance.

Rules: Brain Imaging Data Structure 1.11 (https://bids-specification.readthedocs.io), "Common
principles": file names and the inheritance principle. A name that does not keep to them is not
guessed at. Run numbers padded with zeros or not are the same run: some programs pad them in some
names of a data set, and not in others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tribrain.errors import InputError
from tribrain.files import one_line

RUN_ENTITIES = ("sub", "ses", "task", "acq", "ce", "rec", "dir", "run")
"""Entities that tell one recording from another; echoes and parts belong to one recording."""

Key = tuple[str, ...]
"""Values of `RUN_ENTITIES`, empty where a name has none."""


@dataclass(frozen=True)
class BidsFile:
    """A file whose name keeps to BIDS.

    Attributes
    ----------
    path : Path
    entities : mapping of str to str
        In the order of the name; ``run`` without zeros in front.
    suffix : str
        Such as ``bold``.
    extension : str
        From the first dot of the name on.
    """

    path: Path
    entities: Mapping[str, str]
    suffix: str
    extension: str

    @property
    def key(self) -> Key:
        return tuple(self.entities.get(entity, "") for entity in RUN_ENTITIES)


def parse_name(path: Path) -> BidsFile | None:
    """The parts of a file's name; None where it is no name of BIDS."""
    stem, dot, extension = path.name.partition(".")
    *pairs, suffix = stem.split("_")
    entities: dict[str, str] = {}
    for pair in pairs:
        found = re.fullmatch(r"([a-z]+)-([A-Za-z0-9+]+)", pair)
        if found is None or found[1] in entities:
            return None
        entities[found[1]] = found[2]
    if not pairs or not dot or not re.fullmatch(r"[A-Za-z0-9]+", suffix):
        return None
    if entities.get("run", "").isdecimal():
        entities["run"] = str(int(entities["run"]))
    return BidsFile(path, entities, suffix, dot + extension)


def in_order(keys: Iterable[Key]) -> list[Key]:
    """Sorted by name, with run 2 before run 10."""

    def natural(key: Key) -> list[tuple[int, str]]:
        return [(int(value) if value.isdecimal() else -1, value) for value in key]

    return sorted(keys, key=natural)


_Listing = tuple[list[BidsFile], list[tuple[Path, str]]]


@dataclass(frozen=True)
class Tree:
    """A data set or its derivatives: what lies in its ``func`` folders, each folder read once.

    Attributes
    ----------
    root : Path
    """

    root: Path
    _listed: dict[Path, _Listing] = field(default_factory=dict)
    _read: dict[Path, dict[str, Any]] = field(default_factory=dict)

    def functional(self, subjects: Iterable[str] = ()) -> Iterator[_Listing]:
        """Files of every ``func`` folder, and what is wrong with others in it.

        Parameters
        ----------
        subjects : iterable of str
            Labels; by default everyone.
        """
        wanted = {f"sub-{label}" for label in subjects}
        for person in sorted(self.root.glob("sub-*")):
            if not wanted or person.name in wanted:
                for folder in (person, *sorted(person.glob("ses-*"))):
                    yield self._functional(folder)

    def _functional(self, folder: Path) -> _Listing:
        files, wrong = self.listed(folder / "func")
        above = [*folder.relative_to(self.root).parts, "ses-None"][:2]
        of_folder = []
        for file in files:
            if [f"{name}-{file.entities.get(name)}" for name in ("sub", "ses")] == above:
                of_folder.append(file)
            elif file.suffix == "bold":
                wrong = [*wrong, (file.path, f"names another person or session than {folder}")]
        return of_folder, wrong

    def listed(self, folder: Path) -> _Listing:
        """Files of a folder, and those with ``_bold`` in names that are none of BIDS."""
        if folder not in self._listed:
            files, wrong = [], []
            for path in sorted(folder.iterdir()) if folder.is_dir() else []:
                file = parse_name(path)
                if file is not None:
                    files.append(file)
                elif "_bold" in path.name and not path.name.startswith("."):
                    wrong.append((path, f"{path} has a name that is none of BIDS; it is not read"))
            self._listed[folder] = files, wrong
        return self._listed[folder]

    def inherited(self, key: Key, suffix: str, extensions: tuple[str, ...]) -> list[BidsFile]:
        """Files that apply to a recording, from the root down: the last one is the nearest.

        Raises
        ------
        InputError
            If two files of one folder apply with equally many entities.
        """
        own = {entity: value for entity, value in zip(RUN_ENTITIES, key, strict=True) if value}
        person = self.root / f"sub-{own['sub']}"
        session = person / f"ses-{own['ses']}" if "ses" in own else person
        found: list[BidsFile] = []
        for folder in dict.fromkeys((self.root, person, session, session / "func")):
            fitting = [
                file
                for file in self.listed(folder)[0]
                if (file.suffix, file.extension in extensions) == (suffix, True)
                and file.entities.items() <= own.items()
            ]
            fitting.sort(key=lambda file: len(file.entities))
            if len(fitting) > 1 and len(fitting[-1].entities) == len(fitting[-2].entities):
                names = f"{fitting[-2].path.name} and {fitting[-1].path.name}"
                raise InputError(f"{names} in {folder} are both of this run; one fits")
            found += fitting
        return found

    def fields(self, path: Path) -> dict[str, Any]:
        """What a JSON file says; read once."""
        if path not in self._read:
            self._read[path] = read_json(path)
        return self._read[path]


def read_json(path: Path) -> dict[str, Any]:
    """The object of a JSON file.

    Raises
    ------
    InputError
        A file that is damaged, or holds something else.
    """
    try:
        fields = json.loads(path.read_text("utf-8-sig"))
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON: {one_line(str(error))}") from None
    if not isinstance(fields, dict):
        raise InputError(f"{path} holds a {type(fields).__name__}; a JSON object fits")
    return fields


def seconds(fields: Mapping[str, Any], name: str, path: Path) -> float | None:
    """A number of seconds in a sidecar; None where it states none.

    Raises
    ------
    InputError
        Where it is no number of 0 to 100 s.
    """
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 100:
        raise InputError(f"{name} in {path} is {value!r}; a number of seconds under 100 fits")
    return float(value)


def within(folder: Path, name: str, roots: Iterable[Path]) -> Path:
    """The file that a table names relative to a folder, as long as it lies in one of `roots`.

    What a downloaded table says must not make anyone read other files of the disk.

    Raises
    ------
    InputError
        A name that leads out of the roots, by ``..``, a link or an absolute path; a file that is
        not there.
    """
    shown = one_line(name)
    try:
        path = folder / name
        resolved = path.resolve()
        inside = any(resolved.is_relative_to(root.resolve()) for root in roots)
        there, link = path.is_file(), path.is_symlink()
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"'{shown}' is no file's name: {one_line(str(error))}") from None
    if not inside:
        raise InputError(f"'{shown}' leads out of the data set; files within it are read alone")
    if not there:
        why = " (a link to nothing: not downloaded yet?)" if link else ""
        raise InputError(f"stimulus {path} does not exist{why}")
    return path
