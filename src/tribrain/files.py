"""Writing that is whole or not at all, names that are safe, checksums."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import tempfile
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tribrain.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


def require_file(path: str | Path, what: str) -> Path:
    """Return `path` as a `Path` to an existing file, or say in one line that it is not there."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{what} {path} is a folder; a file is expected")
    try:
        there = path.is_file()
    except PermissionError:
        there = True
    if not there:
        raise InputError(f"{what} {path} does not exist")
    if not os.access(path, os.R_OK):
        raise InputError(f"{what} {path} may not be read; its permissions forbid it")
    return path


def one_line(text: str) -> str:
    """Return `text` with what a terminal would obey (line breaks, escapes) written out."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def first_line(error: BaseException) -> str:
    """What an error says, in one line; its kind where it says nothing."""
    return one_line((str(error).strip() or type(error).__name__).splitlines()[0])


def safe_name(name: str) -> str:
    """Return `name` with everything but letters, digits, ``_`` and ``-`` removed (never empty)."""
    kept = re.sub(r"[^\w-]", "", unicodedata.normalize("NFC", name))
    return kept.lstrip("-") or "stimulus"


def bids_label(name: str) -> str:
    """Return `name` as a BIDS label: plain letters and digits alone.

    A name without any gets a label of its own, from its checksum.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    label = re.sub(r"[^A-Za-z0-9]", "", plain)
    return label or "x" + hashlib.sha256(name.encode()).hexdigest()[:8]


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal text."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Write a file beside its place and move it there when it is whole; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial-{secrets.token_hex(8)}")
    try:
        with partial.open("xb") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(destination: Path, replaced: Collection[str] = ()) -> Iterator[Path]:
    """Collect files in a hidden folder beside `destination`; move them in when all are written.

    Entries of the same name are replaced, others in `destination` stay. If the block raises or the
    moving is interrupted (a full disk, Ctrl-C), `destination` is as it was and the hidden folder
    is gone.

    Parameters
    ----------
    destination : Path
        Folder to fill; made if it is not there.
    replaced : collection of str
        Names of entries to take away as well, such as files of an earlier result.

    Yields
    ------
    Path
        The folder to write into.
    """
    destination = destination.absolute()
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{destination.name}.partial-", dir=destination.parent))
    try:
        written, aside = partial / "written", partial / "aside"
        written.mkdir()
        aside.mkdir()
        yield written
        _exchange(written, aside, destination, replaced)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _exchange(written: Path, aside: Path, destination: Path, replaced: Collection[str]) -> None:
    """Move what was written in and what it replaces aside; undo that if anything interferes."""
    made = not destination.is_dir()
    destination.mkdir(exist_ok=True)
    moves: list[tuple[Path, Path]] = []
    try:
        for name in sorted({entry.name for entry in written.iterdir()} | set(replaced)):
            target = destination / name
            if target.exists() or target.is_symlink():
                moves.append((target, aside / name))
                target.rename(aside / name)
            if (written / name).exists():
                moves.append((written / name, target))
                (written / name).rename(target)
    except BaseException:
        for source, target in reversed(moves):
            if target.exists() or target.is_symlink():
                target.rename(source)
        if made:
            destination.rmdir()
        raise


def save_tensors(
    tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file with the permissions that new files have.

    The library itself writes files that nobody but their owner may read.
    """
    from safetensors.torch import save_file

    save_file(dict(tensors), path, dict(metadata or {}))
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)
