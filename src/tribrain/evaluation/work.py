"""Arrays that an evaluation makes on its way, kept in a folder so that it can go on after a stop.

What does not fit into memory together (predictions of all ways for all people) lies here, and is
read a block of outputs at a time. A folder belongs to one evaluation, told by a key.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tribrain.errors import InputError
from tribrain.files import first_line, safe_name, whole_file

_KEY = "key"


class Work:
    """Arrays in a folder, by name.

    Parameters
    ----------
    folder : Path
        Made if it is not there; emptied if it is of another key.
    key : str
        A checksum of all that the arrays depend on.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        stated = folder / _KEY
        if folder.exists() and not (stated.is_file() and stated.read_text("utf-8") == key):
            shutil.rmtree(folder)
        with whole_file(stated) as file:
            file.write(key.encode())

    def has(self, *names: object) -> bool:
        return self._file(names).is_file()

    def put(self, array: np.ndarray, *names: object) -> None:
        """Keep an array; what is there is whole."""
        with whole_file(self._file(names)) as file:
            np.save(file, array, allow_pickle=False)

    def get(self, *names: object) -> np.ndarray:
        """An array that was kept, mapped from its file and not read."""
        file = self._file(names)
        try:
            found: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(
                f"{file} is damaged ({first_line(error)}); remove {self.folder}"
            ) from None
        return found

    def kept(self, make: Callable[[], np.ndarray], *names: object) -> np.ndarray:
        """An array that was kept before, or is made now."""
        if not self.has(*names):
            self.put(make(), *names)
        return self.get(*names)

    def _file(self, names: tuple[object, ...]) -> Path:
        *folders, name = (safe_name(str(one)) for one in names)
        return self.folder.joinpath(*folders, f"{name}.npy")
