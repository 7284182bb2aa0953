"""Writing that is whole or not at all, names that are safe, checksums."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tribrain.errors import InputError


def require_file(path: str | Path, what: str) -> Path:
    """Return `path` as a `Path` to an existing file, or say in one line that it is not there."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{what} {path} is a folder; a file is expected")
    if not path.is_file():
        raise InputError(f"{what} {path} does not exist")
    return path


def one_line(text: str) -> str:
    """Return `text` with what a terminal would obey (line breaks, escapes) written out."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def safe_name(name: str) -> str:
    """Return `name` with everything but letters, digits, ``_`` and ``-`` removed (never empty)."""
    return re.sub(r"[^A-Za-z0-9_-]", "", name).lstrip("-") or "stimulus"


def bids_label(name: str) -> str:
    """Return `name` as a BIDS label: letters and digits alone (never empty)."""
    return re.sub(r"[^A-Za-z0-9]", "", name) or "unnamed"


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal text."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole_folder(destination: Path) -> Iterator[Path]:
    """Collect files in a hidden folder beside `destination`; move them in when all are written.

    Entries of the same name are replaced, others in `destination` stay. If the block raises (a
    full disk, Ctrl-C), nothing in `destination` has changed and the hidden folder is gone.

    Parameters
    ----------
    destination : Path
        Folder to fill; made if it is not there.

    Yields
    ------
    Path
        The folder to write into.
    """
    destination = destination.absolute()
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{destination.name}.partial-", dir=destination.parent))
    try:
        yield partial
        destination.mkdir(exist_ok=True)
        for entry in sorted(partial.iterdir()):
            target = destination / entry.name
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            elif entry.is_dir():
                target.unlink(missing_ok=True)
            entry.replace(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
