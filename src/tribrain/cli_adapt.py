"""The verb that adapts a model to new people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tribrain.cli_options import Backbones, CacheFolder, Device, NoCache, chosen_cache
from tribrain.errors import InputError


def adapt(
    model: Annotated[str, typer.Argument(help="A trained model: a folder, or NAME@REVISION.")],
    study: Annotated[Path, typer.Argument(help="A prepared study with the new people.")],
    subject: Annotated[
        list[str], typer.Option("--subject", help="Someone in it; several by several --subject.")
    ],
    method: Annotated[str, typer.Option(help="auto, ridge, head, lora or all.")] = "auto",
    minutes: Annotated[
        float | None, typer.Option(help="Use the first so many of each person. (default: all)")
    ] = None,
    test: Annotated[
        float, typer.Option(help="Share of the time, the last stimuli, held out for a score.")
    ] = 0.0,
    rank: Annotated[int, typer.Option(help="Of the factors of lora.")] = 8,
    standardise: Annotated[
        bool, typer.Option(help="z-score BOLD that was prepared without.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of head, lora and all.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write. (default: SUBJECT_adapter)")
    ] = None,
    backbones: Backbones = None,
    device: Device = "auto",
    cache: CacheFolder = None,
    no_cache: NoCache = False,
) -> None:
    """Adapt a trained model to new people with minutes of data; the model itself stays."""
    from tribrain.encoder.models import load_model
    from tribrain.files import safe_name
    from tribrain.studies.prepared import open_prepared
    from tribrain.training.adapt import AdaptSettings, adapt
    from tribrain.viewing.feature_files import readable_size

    kept = chosen_cache(cache, no_cache)
    settings = AdaptSettings(method, minutes, test, rank, standardise, seed)
    folder = out or Path("_".join(safe_name(name) for name in subject) + "_adapter")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already; choose another --out")
    opened = open_prepared(study)
    base = load_model(model, backbones=backbones, device=device, cache=kept)
    adapted, scores = adapt(
        base, opened, subject, settings, place=model, out=folder, said=typer.echo
    )
    for score in scores:
        typer.echo(str(score))
    name = scores[0].person if len(scores) > 1 else None
    more = f" --subject {name}" if name else ""
    typer.echo(
        f"written to {folder} ({adapted.adapter.method}, {readable_size(adapted.adapter.size)}); "
        f"predict with --model {folder}{more}"
    )
