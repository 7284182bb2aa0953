"""The verb that trains a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tribrain.errors import InputError


def train(
    recipe: Annotated[str, typer.Argument(help="debug, lite, song, tribev2, ..., or a .toml.")],
    study: Annotated[
        list[Path] | None,
        typer.Option("--study", help="A prepared study; several by several --study."),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="SECTION.KEY=VALUE, such as training.epochs=3")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run. (default: RECIPE_run)")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the run in the folder.")] = False,
    backbones: Annotated[
        Path | None, typer.Option(help="Folder with a Hugging Face folder a backbone.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Folder where features are kept.")
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Keep no features.")] = False,
) -> None:
    """Train a model on prepared studies; predict with the folder that it writes."""
    from tribrain.features.store import Store
    from tribrain.training.run import train_recipe
    from tribrain.training.settings import read_recipe
    from tribrain.viewing.predict_files import versions
    from tribrain.viewing.progress import progress_lines

    if cache is not None and no_cache:
        raise InputError("--cache and --no-cache contradict each other; give one")
    changes = list(settings or [])
    if study:
        changes.append("data.studies=" + str([str(folder.absolute()) for folder in study]))
    wanted = read_recipe(recipe, changes)
    folder = out or Path(f"{Path(recipe).stem}_run")
    with progress_lines() as progress:
        model = train_recipe(
            wanted,
            folder,
            resume=resume,
            device=device,
            backbones=backbones,
            store=None if no_cache else Store(cache),
            versions=versions(),
            progress=progress,
            said=typer.echo,
        )
    typer.echo(f"written to {folder}; predict with --model {model}")
