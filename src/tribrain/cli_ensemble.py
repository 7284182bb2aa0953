"""The verb that makes one model of several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tribrain.cli_options import Backbones, CacheFolder, Device, NoCache, chosen_cache
from tribrain.errors import InputError


def ensemble(
    models: Annotated[
        list[str], typer.Argument(help="Models or run folders, two or more.", metavar="MODEL...")
    ],
    study: Annotated[
        list[Path] | None,
        typer.Option(
            "--study", help="A prepared study whose validation rows weight the members; several."
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(help="Of the weights: 0 takes the best, inf the mean. (default: 0.3)"),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("ensemble"),
    name: Annotated[str | None, typer.Option(help="Of the ensemble. (default: the folder's)")] = (
        None
    ),
    copy: Annotated[
        bool | None,
        typer.Option(
            "--copy/--no-copy",
            help="Copy the members into the folder, or keep their paths. (default: copy up to "
            "500 MB)",
        ),
    ] = None,
    backbones: Backbones = None,
    device: Device = "auto",
    cache: CacheFolder = None,
    no_cache: NoCache = False,
) -> None:
    """Average models: seeds, or recipes with other features; predict with the folder."""
    from tribrain.studies.prepared import open_prepared
    from tribrain.training.ensemble import TEMPERATURE, make_ensemble

    kept = chosen_cache(cache, no_cache)
    if temperature is not None and not study:
        raise InputError("--temperature weights by a study; give one by --study")
    make_ensemble(
        models,
        out,
        studies=[open_prepared(folder) for folder in study or []],
        temperature=TEMPERATURE if temperature is None else temperature,
        name=name,
        copy=copy,
        said=typer.echo,
        backbones=backbones,
        device=device,
        cache=kept,
    )
    typer.echo(f"written to {out}; predict with --model {out}")
