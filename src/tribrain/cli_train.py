"""The verb that trains a model."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from tribrain.cli_options import Backbones, CacheFolder, Device, NoCache, chosen_cache
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
    seeds: Annotated[
        str | None,
        typer.Option(help="Train once a seed, such as 0,1,2, and average the models."),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(help="A model, such as an ensemble, whose predictions are learned as well."),
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(
            help="Train on parts of the data, hours=1,2,4 or subjects=1,2,4, and fit the law."
        ),
    ] = None,
    log: Annotated[
        str | None, typer.Option(help="Metrics also to tensorboard, wandb or both.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run. (default: RECIPE_run)")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the run in the folder.")] = False,
    backbones: Backbones = None,
    device: Device = "auto",
    cache: CacheFolder = None,
    no_cache: NoCache = False,
) -> None:
    """Train a model on prepared studies; predict with the folder that it writes."""
    from tribrain.features.store import Store
    from tribrain.files import whole_file
    from tribrain.training.ensemble import train_seeds
    from tribrain.training.run import train_recipe
    from tribrain.training.scaling import parse_scale, train_scaling
    from tribrain.training.settings import read_recipe
    from tribrain.training.torchrun import speaks, torchrun_started
    from tribrain.viewing.predict_files import versions
    from tribrain.viewing.progress import progress_lines
    from tribrain.viewing.training_figures import scaling_figure

    kept = chosen_cache(cache, no_cache)
    if torchrun_started() and (scale is not None or seeds is not None):
        raise InputError("--seeds and --scale start one run after the other; torchrun starts one")
    changes = list(settings or [])
    if study:
        changes.append("data.studies=" + str([str(folder.resolve()) for folder in study]))
    if teacher is not None:
        changes.append(f"training.teacher={json.dumps(str(teacher.resolve()))}")
    wanted = read_recipe(recipe, changes)
    folder = out or Path(f"{Path(recipe).stem}_run")
    how: dict[str, Any] = {
        "resume": resume,
        "device": device,
        "backbones": backbones,
        "store": Store(cache) if kept else None,
        "versions": versions(),
        "logs": [part.strip() for part in (log or "").split(",") if part.strip()],
        "said": typer.echo,
    }
    if scale is not None:
        what, amounts = parse_scale(scale)
        with progress_lines() as progress:
            scaling = train_scaling(
                wanted,
                folder,
                what,
                amounts,
                seeds=_whole(seeds) if seeds is not None else (),
                progress=progress,
                **how,
            )
        with whole_file(folder / "scaling.png") as file:
            scaling_figure(scaling).savefig(file, format="png", dpi=150)
        for line in scaling.lines():
            typer.echo(line)
        typer.echo(f"written to {folder}: scaling.tsv, scaling.json, scaling.png")
        return
    start = train_recipe if seeds is None else partial(train_seeds, seeds=_whole(seeds))
    with progress_lines() as progress:
        model = start(wanted, out=folder, progress=progress, **how)
    if speaks():
        typer.echo(f"written to {folder}; predict with --model {model}")


def _whole(listed: str) -> list[int]:
    try:
        return [int(part) for part in listed.split(",")]
    except ValueError:
        raise InputError(f"--seeds {listed!r}: whole numbers fit, such as 0,1,2") from None
