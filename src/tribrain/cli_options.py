"""Options that several verbs have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tribrain.errors import InputError

Backbones = Annotated[
    Path | None, typer.Option(help="Folder with a Hugging Face folder a backbone.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
CacheFolder = Annotated[
    Path | None, typer.Option("--cache", help="Folder where features are kept.")
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Keep no features.")]


def chosen_cache(folder: Path | None, no_cache: bool) -> Path | bool:
    """What ``--cache`` and ``--no-cache`` say together: a folder, the usual one (True), or none.

    Raises
    ------
    InputError
        If both are given.
    """
    if folder is not None and no_cache:
        raise InputError("--cache and --no-cache contradict each other; give one")
    return False if no_cache else folder or True
