"""The features verb: from files, folders and lists to features that are kept and written."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tribrain.errors import InputError
from tribrain.features.backbones import pick_device
from tribrain.features.cluster import extract_on_cluster
from tribrain.features.extract import Progress, find_backbones
from tribrain.features.many import OUTPUTS, Job, Outcome, cache_folder, extract_many
from tribrain.features.pieces import check_simple_features
from tribrain.features.recipe import load_recipe
from tribrain.features.sources import find_sources
from tribrain.features.store import Entry


def features_to_folder(
    places: Sequence[Path],
    *,
    recipe: str = "lite",
    out: Path | None = None,
    output: str = "npz",
    transcript: Path | None = None,
    text: Path | None = None,
    modalities: Sequence[str] | None = None,
    backbones: Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    exact_context: bool = False,
    compile_blocks: bool = False,
    cluster: str | None = None,
    cache: Path | bool = True,
    duration: float = 20.0,
    language: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[Outcome]:
    """Work out the features of stimuli, keep them, and write them where that is asked for.

    The arguments are those of ``tribrain features``.

    Returns
    -------
    list of Outcome
        One a stimulus; what could not be read says why.
    """
    if output not in OUTPUTS:
        raise InputError(f"format {output!r} is unknown; known: {', '.join(OUTPUTS)}")
    if cluster is not None and cache is False:
        raise InputError("--cluster needs the cache, in a folder that all workers see")
    if cluster is None:
        device = pick_device(device)  # on a cluster each worker looks at its own machine
    loaded = load_recipe(recipe)
    if exact_context:
        loaded = dataclasses.replace(loaded, exact_context=True)
    wanted = loaded.modalities if modalities is None else tuple(modalities)
    for name in wanted:
        if name not in loaded.modalities:
            raise InputError(
                f"modality {name!r} is not in recipe {recipe}; "
                f"there are: {', '.join(loaded.modalities)}"
            )
    if not wanted:
        raise InputError(f"no modality is wanted; there are: {', '.join(loaded.modalities)}")
    check_simple_features(loaded)
    sources = find_sources(
        places, transcript=transcript, text=text, language=language, duration=duration
    )
    with cache_folder(cache) as folder:
        job = Job(
            recipe=loaded,
            folders=find_backbones(loaded, wanted, backbones),
            modalities=wanted,
            cache=folder.absolute(),
            device=device,
            precision=precision,
            compile_blocks=compile_blocks,
            out=out.absolute() if out is not None else None,
            output=output,
            overwrite=overwrite,
        )
        if cluster is not None:
            return extract_on_cluster(sources, job, cluster, progress=progress)
        return extract_many(sources, job, progress=progress)


def entry_line(entry: Entry) -> str:
    """One line about an entry of the store."""
    used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
    size = readable_size(entry.size)
    try:
        what = _content(entry.key)
    except (AttributeError, TypeError, ValueError):  # a damaged key is no reason to list no other
        what = "(damaged: tribrain cache verify)"
    return f"{entry.digest[:12]}  {size:>9}  {used}  {what}"


def _content(key: dict[str, Any]) -> str:
    model = key.get("model", {}).get("name") or " ".join(key.get("features", ()))
    start = key.get("start", key.get("first"))
    where = f"{key.get('n_words')} words" if start is None else f"from {start:g}"
    content = str(key.get("medium", key.get("text", "")))[:8]
    return f"{content}  {where}  {key.get('extractor', '?')}: {model}"


def readable_size(size: float) -> str:
    """Bytes in the unit that fits: ``12.3 MB`` (powers of 1,024)."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TB"
