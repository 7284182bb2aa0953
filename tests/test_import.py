"""Importing is silent and quick; what the package offers is there."""

from __future__ import annotations

import subprocess
import sys

import pytest

import tribrain

WATCHED = """
import builtins, io, os, socket, sys, time
opened = []
for module, name in ((builtins, "open"), (io, "open"), (os, "open")):
    def watched(path, mode="r", *args, _plain=getattr(module, name), **kwargs):
        if isinstance(mode, int):
            writes = mode & (os.O_WRONLY | os.O_RDWR)
        else:
            writes = set(mode) & set("wax+")
        if writes:
            opened.append(path)
        return _plain(path, mode, *args, **kwargs)
    setattr(module, name, watched)
def refuse(*args, **kwargs):
    opened.append("network")
    raise OSError("no network")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
sys.dont_write_bytecode = True
start = time.perf_counter()
import tribrain
elapsed = time.perf_counter() - start
heavy = [name for name in ("torch", "transformers", "nilearn", "pandas", "matplotlib", "xarray")
         if name in sys.modules]
print(opened, heavy, elapsed)
"""


def test_import_writes_nothing_reaches_for_no_network_and_is_light():
    done = subprocess.run(
        [sys.executable, "-c", WATCHED], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == ""
    assert done.stdout.startswith("[] [] ")
    assert float(done.stdout.split()[-1]) < 0.5


def test_everything_named_is_there():
    for name in tribrain.__all__:
        assert getattr(tribrain, name) is not None
    assert set(tribrain.__all__) <= set(dir(tribrain))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        tribrain.nothing_of_that_name  # noqa: B018
