"""Results kept between runs: arrays under a key that names everything they depend on.

An entry is two files: the array as safetensors, named by its own checksum, and a JSON file that
holds the key in plain words and points to it. The JSON file is put in place last and in one step,
so an entry is whole or not there, whoever else writes the same key at the same time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tribrain.errors import InputError, InputWarning
from tribrain.files import sha256

DEFAULT_LIMIT = 50 * 2**30
_FORMAT = 1
_PARTIAL = ".partial-"
_OLD = 3600.0  # seconds after which a file that no entry points to is nobody's work in progress
_SETTLED = 2.0  # seconds after a change within which a time stamp may not show the next change
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def default_folder() -> Path:
    """``$TRIBRAIN_CACHE``, or the place that the operating system has for caches."""
    import platformdirs

    named = os.environ.get("TRIBRAIN_CACHE")
    return Path(named) if named else Path(platformdirs.user_cache_dir("tribrain")) / "features"


def default_limit() -> int:
    """``$TRIBRAIN_CACHE_LIMIT`` (such as 20G), or 50 GiB."""
    named = os.environ.get("TRIBRAIN_CACHE_LIMIT")
    return parse_size(named) if named else DEFAULT_LIMIT


def parse_size(text: str) -> int:
    """Bytes of a size such as ``500M``, ``20 GB`` or ``1.5GiB`` (all powers of 1,024)."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", text, re.IGNORECASE)
    if match is None:
        raise InputError(f"size {text!r} is none; 500M, 20G or 1.5T fit")
    return round(float(match[1]) * _UNITS[match[2].upper()])


@dataclass(frozen=True)
class Entry:
    """One entry: its digest, key, size of both files in bytes and time of last use (Unix)."""

    digest: str
    key: dict[str, Any]
    size: int
    used: float
    manifest: Path
    data: Path


class Store:
    """A folder of arrays under keys.

    Parameters
    ----------
    folder : path, optional
        Made when the first array is put in; by default `default_folder`.
    limit : int, optional
        Bytes beyond which entries are removed, those unused for longest first; by default
        `default_limit`.
    """

    def __init__(self, folder: str | Path | None = None, limit: int | None = None) -> None:
        self.folder = default_folder() if folder is None else Path(folder)
        self.limit = default_limit() if limit is None else limit
        self._unchecked: int | None = None  # bytes written since the size was last looked at
        self._said: set[str] = set()

    def __contains__(self, key: Mapping[str, Any]) -> bool:
        return self._manifest(digest_of(key)).is_file()

    def get(self, key: Mapping[str, Any]) -> np.ndarray | None:
        """Return the array of a key, None where there is none.

        An entry that does not match its checksum is reported (`InputWarning`) and removed.
        """
        digest = digest_of(key)
        manifest = self._manifest(digest)
        for _ in range(2):  # a second look where another process has just replaced the entry
            try:
                text = manifest.read_bytes()
            except OSError:
                return None
            try:
                array = _read(manifest, text)
            except (OSError, ValueError, KeyError, TypeError) as error:
                reason = error
                continue
            with suppress(OSError):
                os.utime(manifest)
            return array
        warnings.warn(
            f"cache entry {digest[:12]} is damaged ({_short(reason)}); it is computed again",
            InputWarning,
            stacklevel=2,
        )
        with suppress(OSError):
            manifest.unlink()
        return None

    def put(self, key: Mapping[str, Any], array: np.ndarray) -> None:
        """Keep an array. Where the disk does not take it, that is said once and nothing is kept."""
        from safetensors.numpy import save

        digest = digest_of(key)
        manifest = self._manifest(digest)
        data = save({"values": np.asarray(array, order="C")})
        checksum = hashlib.sha256(data).hexdigest()
        name = f"{digest}-{checksum[:16]}.safetensors"
        content = {
            "format": _FORMAT,
            "key": dict(key),
            "file": name,
            "sha256": checksum,
            "bytes": len(data),
            "shape": list(array.shape),
            "dtype": str(array.dtype),
            "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        text = json.dumps(content, indent=1, sort_keys=True).encode()
        try:
            manifest.parent.mkdir(parents=True, exist_ok=True)
            _write_whole(manifest.parent / name, data)
            _write_whole(manifest, text)
        except OSError as error:
            # Without the file's name, which differs each time.
            reason = error.strerror or _short(error)
            self._say(f"nothing can be kept in the cache {self.folder} ({reason})")
            return
        self._keep_small(len(data) + len(text))

    def checksum(self, path: str | Path) -> str:
        """SHA-256 of a file, read again only if its size, time stamps or inode have changed."""
        path = Path(path).absolute()
        note = self.folder / "checksums" / f"{hashlib.sha256(str(path).encode()).hexdigest()}.json"
        before = _stamp(path)
        with suppress(OSError, ValueError, TypeError, KeyError):
            known = json.loads(note.read_bytes())
            if known["stamp"] == before:
                return str(known["sha256"])
        digest = sha256(path)
        # A file changed a moment ago may change again within one tick of its time stamp.
        if _stamp(path) == before and time.time() - max(before[1:3]) / 1e9 > _SETTLED:
            with suppress(OSError):
                note.parent.mkdir(parents=True, exist_ok=True)
                _write_whole(note, json.dumps({"stamp": before, "sha256": digest}).encode())
        return digest

    def entries(self) -> Iterator[Entry]:
        """Entries in no order; damaged ones are left out (`verify` finds them)."""
        for manifest in self._manifests():
            with suppress(OSError, ValueError, KeyError, TypeError):
                content = json.loads(manifest.read_bytes())
                data = manifest.parent / Path(content["file"]).name
                size = manifest.stat().st_size + data.stat().st_size
                used = manifest.stat().st_mtime
                yield Entry(manifest.stem, content["key"], size, used, manifest, data)

    def verify(self, *, remove: bool = False) -> tuple[int, list[str]]:
        """Read every entry and compare it with its checksum and its key.

        Parameters
        ----------
        remove : bool
            Take damaged entries away.

        Returns
        -------
        sound : int
            Number of entries that are as they were written.
        damaged : list of str
            One line for each other entry.
        """
        sound, damaged = 0, []
        for manifest in self._manifests():
            try:
                _read(manifest, manifest.read_bytes())
                sound += 1
            except FileNotFoundError:
                if not manifest.exists():
                    continue  # removed by another process just now
                damaged.append(f"{manifest.stem[:12]}: its array is missing")
            except (OSError, ValueError, KeyError, TypeError) as error:
                damaged.append(f"{manifest.stem[:12]}: {_short(error)}")
            else:
                continue
            if remove:
                with suppress(OSError):
                    manifest.unlink()
        return sound, damaged

    def prune(self, limit: int | None = None) -> tuple[int, int]:
        """Remove entries, those unused for longest first, until the rest fits; and leftovers.

        Parameters
        ----------
        limit : int, optional
            Bytes; by default the store's limit.

        Returns
        -------
        (entries removed, bytes left)
        """
        limit = self.limit if limit is None else limit
        entries = sorted(self.entries(), key=lambda entry: entry.used, reverse=True)
        left, removed = 0, 0
        kept: set[Path] = set()
        for entry in entries:
            if left + entry.size <= limit:
                left += entry.size
                kept.add(entry.data)
                continue
            limit = left  # everything older goes as well: a small old entry is no reason to stay
            removed += 1
            for path in (entry.manifest, entry.data):  # the manifest first: never half an entry
                with suppress(OSError):
                    path.unlink()
        self._sweep(kept)
        return removed, left

    def _sweep(self, kept: set[Path]) -> None:
        """Remove files that no entry points to and that nobody is writing any more."""
        files = (*self.folder.glob("entries/*/*"), *self.folder.glob("checksums/*"))
        for path in files:
            is_partial = path.name.startswith(_PARTIAL)
            if (path.suffix == ".json" and not is_partial) or path in kept:
                continue
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _OLD:
                    path.unlink()

    def _keep_small(self, written: int) -> None:
        """Prune now and then: on the first array, then after each hundredth of the limit."""
        if self._unchecked is not None and self._unchecked + written < self.limit / 100:
            self._unchecked += written
            return
        self._unchecked = 0
        if sum(entry.size for entry in self.entries()) > self.limit:
            self.prune(round(0.9 * self.limit))

    def _manifest(self, digest: str) -> Path:
        return self.folder / "entries" / digest[:2] / f"{digest}.json"

    def _manifests(self) -> Iterator[Path]:
        for path in self.folder.glob("entries/*/*.json"):
            if not path.name.startswith(_PARTIAL):
                yield path

    def _say(self, what: str) -> None:
        if what not in self._said:
            self._said.add(what)
            warnings.warn(what, InputWarning, stacklevel=3)


def digest_of(key: Mapping[str, Any]) -> str:
    """SHA-256 of a key's canonical JSON: the same for equal keys, whatever their order."""
    text = json.dumps(key, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _read(manifest: Path, text: bytes) -> np.ndarray:
    """The array of an entry; ValueError, KeyError or OSError where it is not as it was written."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    content = json.loads(text)
    if content["format"] != _FORMAT:
        raise ValueError(f"format {content['format']!r} is unknown")
    if digest_of(content["key"]) != manifest.stem:
        raise ValueError("its key is not the one it lies under")
    data = (manifest.parent / Path(content["file"]).name).read_bytes()
    if hashlib.sha256(data).hexdigest() != content["sha256"]:
        raise ValueError("its checksum differs")
    try:
        return load(data)["values"]
    except SafetensorError as error:
        raise ValueError(_short(error)) from None


def _write_whole(path: Path, data: bytes) -> None:
    """Write beside, then rename: a reader sees the old file or the new one, never a part."""
    # Not mkstemp, whose files only their owner may read: several people may share a store.
    partial = path.with_name(f"{_PARTIAL}{secrets.token_hex(8)}")
    try:
        with partial.open("xb") as file:
            file.write(data)
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


def _stamp(path: Path) -> list[int]:
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino]


def _short(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
