"""BOLD that lies in arrays: NumPy's files, HDF5, tables of text.

One array holds a run (time, values), or the runs of several people (people, time, values).
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tribrain.brain.series import BoldSeries
from tribrain.brain.spaces import Space
from tribrain.errors import InputError
from tribrain.files import one_line, require_file

Part = tuple[int | slice, ...]
_MOST_LINKS = 16  # within an HDF5 file, to one array


@dataclass(frozen=True)
class ArrayBold:
    """A run in an array: a `tribrain.studies.runs.BoldSource`.

    Attributes
    ----------
    path : Path
        ``.npy``, ``.npz``, ``.h5``, ``.hf5``, ``.hdf5``, or numbers as text: ``.txt`` (parted by
        white space), ``.csv``, ``.tsv``, without a header.
    space : Space
        Of the array's last axis.
    repetition_time : float
        Seconds; arrays do not state it.
    key : str
        Name of the array in a file that holds several.
    index : int, optional
        Number of the person in an array (people, time, values).
    rows : (first, last)
        Rows of the array that belong to the run, half-open; last None is the end. The clock of
        the run counts from row 0 of the array whatever rows are taken.
    """

    path: Path
    space: Space
    repetition_time: float
    key: str = ""
    index: int | None = None
    rows: tuple[int, int | None] = (0, None)

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    @property
    def start(self) -> float:
        """Second of the run at the first row that is read."""
        return self.rows[0] * self.repetition_time

    def header(self) -> tuple[int, float | None]:
        """Number of volumes; the repetition time is not in the file."""
        first, last = self._span()
        return last - first, None

    def load(self) -> BoldSeries:
        """Read the rows of the run, as they are in the file, as float32."""
        first, last = self._span()
        person = () if self.index is None else (self.index,)
        values = read_array(self.path, self.key, (*person, slice(first, last)))
        if values.dtype.kind not in "fiu":
            raise InputError(f"{self._where} holds {values.dtype}; real numbers fit")
        start = first * self.repetition_time
        return BoldSeries(values.astype(np.float32), self.space, self.repetition_time, start)

    @property
    def _where(self) -> str:
        return f"{self.path}, {self.key}" if self.key else str(self.path)

    def _span(self) -> tuple[int, int]:
        """First and last row, once it is known that they, the person and the values are there."""
        shape = array_shape(self.path, self.key)
        stacked = self.index is not None
        axes = "(people, time, values)" if stacked else "(time, values)"
        if len(shape) != 2 + stacked or shape[-1] != self.space.size:
            raise InputError(
                f"{self._where} has shape {shape}; {axes} with {self.space.size} values of "
                f"{self.space.name} fits"
            )
        if self.index is not None and not 0 <= self.index < shape[0]:
            raise InputError(
                f"{self._where} holds {shape[0]} people; number {self.index} is none of 0 "
                f"to {shape[0] - 1}"
            )
        first, last = self.rows[0], shape[-2] if self.rows[1] is None else self.rows[1]
        if not 0 <= first < last <= shape[-2]:
            raise InputError(f"{self._where} has {shape[-2]} rows; rows {first}:{last} do not fit")
        return first, last


def array_keys(path: str | Path) -> tuple[str, ...]:
    """Names of the arrays in a file; none where it holds one array without a name.

    Raises
    ------
    InputError
        A file that is not there, of an unknown kind, or damaged.
    """
    path, kind = _known(path)
    with _readable(path):
        return kind.keys(path)


def array_shape(path: str | Path, key: str = "") -> tuple[int, ...]:
    """Shape of an array, from its header alone (a table of text has none: it is read whole).

    Raises
    ------
    InputError
        As `read_array`.
    """
    path, kind = _known(path)
    with _readable(path, key):
        return tuple(kind.shape(path, key))


def read_array(path: str | Path, key: str = "", part: Part = ()) -> np.ndarray:
    """Read an array, or a part of it, as it is in the file.

    Of HDF5 and ``.npy`` no more than the part is read. Pickled objects are refused, and so are
    arrays of HDF5 whose values lie in another file.

    Parameters
    ----------
    path : path
    key : str
        Name of the array in a file that holds several.
    part : tuple of int and slice
        What to take along the first axes.

    Returns
    -------
    ndarray
        A copy.

    Raises
    ------
    InputError
        A file that is not there, of an unknown kind, damaged, or without such an array (its names
        are then listed).
    """
    path, kind = _known(path)
    with _readable(path, key):
        return np.array(kind.read(path, key, part))


@dataclass(frozen=True)
class _Kind:
    keys: Callable[[Path], tuple[str, ...]]
    shape: Callable[[Path, str], tuple[int, ...]]
    read: Callable[[Path, str, Part], Any]


def _known(path: str | Path) -> tuple[Path, _Kind]:
    path = require_file(path, "array")
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        raise InputError(
            f"array {path.name}: unknown kind {path.suffix or '(no suffix)'!r}; "
            f"known: {', '.join(_KINDS)}"
        )
    return path, kind


@contextmanager
def _readable(path: Path, key: str = "") -> Iterator[None]:
    """Turn what the libraries say of a damaged file, or a name that is not there, into one line."""
    try:
        yield
    except InputError:
        raise
    except KeyError:
        names = array_keys(path)
        listed = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        raise InputError(f"{path} has no array {key!r}; it has: {listed or 'none'}") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        said = one_line(str(error)) or type(error).__name__
        raise InputError(f"{path} cannot be read, it seems damaged: {said}") from None


def _without_keys(path: Path) -> tuple[str, ...]:
    return ()


def _nameless(path: Path, key: str) -> None:
    if key:
        raise InputError(f"{path} holds one array without a name; it was asked for {key!r}")


def _npy(path: Path, key: str) -> np.ndarray:
    _nameless(path, key)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _npz_keys(path: Path) -> tuple[str, ...]:
    with zipfile.ZipFile(path) as archive:
        return tuple(name.removesuffix(".npy") for name in archive.namelist())


def _npz_shape(path: Path, key: str) -> tuple[int, ...]:
    with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as file:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(file)[0]
        return np.lib.format.read_array_header_2_0(file)[0]


def _npz_read(path: Path, key: str, part: Part) -> np.ndarray:
    stat = path.stat()
    return _npz_array(path, key, stat.st_size, stat.st_mtime_ns)[part]


@lru_cache(maxsize=4)
def _npz_array(path: Path, key: str, size: int, changed: int) -> np.ndarray:
    # Kept, because many people share an array, and nothing can be skipped in a compressed file.
    with np.load(path, allow_pickle=False) as arrays:
        return arrays[key]


def _hdf5(path: Path) -> Any:
    try:
        import h5py
    except ImportError:
        raise InputError(f"{path.name} needs h5py: pip install 'tribrain[studies]'") from None
    return h5py.File(path, "r")


def _hdf5_keys(path: Path) -> tuple[str, ...]:
    names: list[str] = []

    def note(name: str, item: Any) -> None:
        if hasattr(item, "shape"):  # a group has none
            names.append(name)

    with _hdf5(path) as file:
        file.visititems(note)
    return tuple(names)


def _hdf5_array(file: Any, path: Path, key: str) -> Any:
    """An array whose values lie in the file itself.

    HDF5 can take values from any other file that it names, also when the file came from elsewhere:
    links are followed one by one, as h5py would have opened the other file before it could be told.
    """
    import h5py

    elsewhere = InputError(f"{path}, {key} lies in another file; arrays of the file itself fit")
    found, rest, followed = file, _steps(key), 0
    while rest:
        name = rest.pop(0).encode()
        if not isinstance(found, h5py.Group) or not found.id.links.exists(name):
            raise KeyError(key)
        kind = found.id.links.get_info(name).type
        if kind == h5py.h5l.TYPE_HARD:
            found = found[name]
        elif kind == h5py.h5l.TYPE_SOFT and followed < _MOST_LINKS:
            target = found.id.links.get_val(name).decode()
            found = file if target.startswith("/") else found
            rest, followed = [*_steps(target), *rest], followed + 1
        elif kind == h5py.h5l.TYPE_SOFT:  # in a circle
            raise KeyError(key)
        else:
            raise elsewhere
    if not isinstance(found, h5py.Dataset):
        raise KeyError(key)
    if found.external is not None or found.is_virtual:
        raise elsewhere
    return found


def _steps(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")]


def _hdf5_shape(path: Path, key: str) -> tuple[int, ...]:
    with _hdf5(path) as file:
        return _hdf5_array(file, path, key).shape


def _hdf5_read(path: Path, key: str, part: Part) -> np.ndarray:
    with _hdf5(path) as file:
        return _hdf5_array(file, path, key)[part]


def _table(path: Path, key: str) -> np.ndarray:
    _nameless(path, key)
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    if not any(line.strip() for line in lines):
        raise InputError(f"{path} is empty; a table of numbers fits")
    parted_by = {".csv": ",", ".tsv": "\t"}.get(path.suffix.lower())
    return np.loadtxt(lines, delimiter=parted_by, ndmin=2)


_ONE_ARRAY = _Kind(
    _without_keys, lambda p, k: _npy(p, k).shape, lambda p, k, part: _npy(p, k)[part]
)
_HDF5 = _Kind(_hdf5_keys, _hdf5_shape, _hdf5_read)
_TEXT = _Kind(_without_keys, lambda p, k: _table(p, k).shape, lambda p, k, part: _table(p, k)[part])
_KINDS = {
    ".npy": _ONE_ARRAY,
    ".npz": _Kind(_npz_keys, _npz_shape, _npz_read),
    **dict.fromkeys((".h5", ".hf5", ".hdf5"), _HDF5),
    **dict.fromkeys((".txt", ".csv", ".tsv"), _TEXT),
}
