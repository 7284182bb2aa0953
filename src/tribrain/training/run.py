"""A training run from a recipe to a folder with a model in it.

The folder holds ``recipe.toml`` (everything, as it was used), ``run.json`` (versions, seed, git
state, what was trained on), ``split.tsv``, ``metrics.jsonl`` and ``metrics.csv`` (a row an epoch),
``state.safetensors`` (to go on from) and ``model/`` (to predict with, once it is done).
"""

from __future__ import annotations

import copy
import csv
import dataclasses
import json
import math
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tribrain.encoder.checkpoints import ModelCard, save_folder
from tribrain.encoder.network import Encoder
from tribrain.errors import InputError
from tribrain.features.backbones import pick_device
from tribrain.features.extract import Progress, extract_features, find_backbones
from tribrain.features.pieces import Extractors
from tribrain.features.store import Store
from tribrain.files import sha256, whole_file
from tribrain.stimuli.stimulus import Stimulus
from tribrain.studies.prepared import PreparedStudy, open_prepared
from tribrain.studies.prepared_files import MANIFEST
from tribrain.studies.splits import describe, split
from tribrain.training.data import Series, TrainingData, faded, stimulus_series
from tribrain.training.loop import train
from tribrain.training.settings import TrainingRecipe, read_recipe

HEAD = 0.1
"""Factor of the random weights that heads start from: predictions as large as the BOLD itself would
have to be unlearned first (measured on SONG: half of the epochs for a better score)."""
STATE, MODEL, RECIPE = "state.safetensors", "model", "recipe.toml"


def train_recipe(
    recipe: TrainingRecipe,
    out: Path,
    *,
    name: str | None = None,
    resume: bool = False,
    device: str = "auto",
    backbones: Path | None = None,
    store: Store | None = None,
    versions: dict[str, str] | None = None,
    progress: Progress | None = None,
    said: Callable[[str], None] | None = None,
) -> Path:
    """Train a model by a recipe.

    Parameters
    ----------
    recipe : TrainingRecipe
    out : Path
        Folder of the run.
    name : str, optional
        Of the model; by default that of the folder.
    resume : bool
        Go on from where the run in `out` was stopped.
    device : str
    backbones : Path, optional
        Folder with pretrained models, for stimuli whose features are worked out.
    store : Store, optional
        Where features are kept.
    versions : dict of str to str, optional
        Recorded in the folder.
    progress : callable, optional
        Called with "epochs" (or a modality, while features are worked out), done, total.
    said : callable, optional
        Called with a line for each epoch.

    Returns
    -------
    Path
        The folder of the model.

    Raises
    ------
    InputError
        If there is no study, a folder that holds another run, or what `train` raises.
    """
    _check_target(recipe, out, resume)
    studies = open_studies(recipe)
    data = training_data(recipe, studies, device, backbones, store, progress)
    encoder = new_encoder(recipe, data)
    device = pick_device(device)
    out.mkdir(parents=True, exist_ok=True)
    (out / RECIPE).write_text(recipe_text(recipe), "utf-8")
    _describe_run(out, recipe, studies, data, versions or {})
    settings = recipe.training

    def report(numbers: dict[str, float]) -> None:
        _append_metrics(out, numbers)
        if said is not None:
            said(epoch_line(numbers, settings.epochs))
        if progress is not None:
            progress("epochs", int(numbers["epoch"]), settings.epochs)

    best, course = train(
        copy.deepcopy(encoder),
        data,
        settings,
        folder=out,
        resume=resume,
        device=device,
        report=report,
    )
    _write_metrics(out, course.epochs)  # a kill may have come between an epoch and its line
    if settings.refit and data.side("validation"):
        again = dataclasses.replace(settings, epochs=course.best, patience=0, refit=False)
        if said is not None:
            said(f"again on training and validation together, {course.best} epochs")
        folder = out / "refit"
        folder.mkdir(exist_ok=True)
        best, _ = train(
            encoder,
            data,
            again,
            folder=folder,
            resume=resume,
            sides=("train", "validation"),
            validate=False,
            device=device,
        )
        shutil.rmtree(folder)
    assert isinstance(best, Encoder)
    card = model_card(recipe, data, studies, name or out.name)
    save_folder(card, fold_fading(best.cpu(), recipe.data.fading), out / MODEL)
    return out / MODEL


def open_studies(recipe: TrainingRecipe) -> list[PreparedStudy]:
    """Open the prepared studies of a recipe."""
    if not recipe.data.studies:
        raise InputError(
            "the recipe names no study: data.studies is a list of prepared studies "
            "(tribrain study prepare), or --study STORE on the command line"
        )
    return [open_prepared(folder) for folder in recipe.data.studies]


def training_data(
    recipe: TrainingRecipe,
    studies: list[PreparedStudy],
    device: str = "auto",
    backbones: Path | None = None,
    store: Store | None = None,
    progress: Progress | None = None,
) -> TrainingData:
    """Split studies, work out the features of their stimuli, and lay out windows."""
    settings = recipe.data
    sides = split(
        [run for study in studies for run in study.runs],
        {"validation": settings.validation, "test": settings.test},
        seed=settings.seed,
        validation_groups=settings.validation_groups,
        test_groups=settings.test_groups,
        held_out_subjects=settings.held_out,
        lag=settings.lag,
    )
    people = sorted(
        {f"{span.study}/{span.subject}" for span, side in sides.items() if side == "train"}
    )
    wanted = recipe.features.modalities
    extractors: list[Extractors] = []

    def extract(stimulus: Stimulus) -> Series:
        if not wanted:
            raise InputError(
                f"{stimulus.name} is no feature series, and the recipe names no features to work "
                "out: [features.simple] or [features.backbones]"
            )
        if not extractors:
            folders = find_backbones(recipe.features, wanted, backbones)
            extractors.append(Extractors(recipe.features, folders, pick_device(device), "auto"))
        found = extract_features(
            stimulus,
            extractors[0],
            wanted,
            window=settings.length,
            store=store,
            keep_loaded=True,
            progress=progress,
        )
        return Series(found, recipe.features.frequency)

    series = stimulus_series(studies, extract)
    return TrainingData(
        studies,
        sides,
        {content: faded(one, settings.fading) for content, one in series.items()},
        {person: row for row, person in enumerate(people)},
        frequency=recipe.features.frequency,
        length=settings.length,
        step=settings.step,
        lag=settings.lag,
        standardise=settings.standardise,
    )


def new_encoder(recipe: TrainingRecipe, data: TrainingData) -> Encoder:
    """An encoder with random weights, drawn by the seed of the recipe."""
    torch.manual_seed(recipe.training.seed)
    build = _build(recipe, data)
    try:
        encoder = Encoder(**build)
    except ValueError as error:
        raise InputError(f"[encoder] of the recipe: {error}") from None
    with torch.no_grad():
        encoder.head.weight.mul_(HEAD)
    return encoder


def _build(recipe: TrainingRecipe, data: TrainingData) -> dict[str, Any]:
    return {
        "max_samples": data.n_samples,
        **recipe.encoder,
        "feature_dims": data.dims,
        "n_outputs": data.space.size,
        "n_output_samples": data.length,
        "n_subjects": len(data.subjects) + 1,
    }


def model_card(
    recipe: TrainingRecipe, data: TrainingData, studies: Iterable[PreparedStudy], name: str
) -> ModelCard:
    """What the trained model is."""
    licences = dict.fromkeys(f"{study.name}: {study.licence}" for study in studies)
    return ModelCard(
        build=_build(recipe, data),
        recipe=recipe.features,
        window=float(data.length),
        lag=data.lag,
        space=data.space.name,
        subjects=data.subjects,
        licence="trained on " + "; ".join(licences),
        name=name,
        revision="local",
        checksums={},
    )


def fold_fading(encoder: Encoder, fading: float) -> Encoder:
    """The encoder that reads features as they are and does what it did with faded ones.

    The first linear map of each projector takes over the factors, so that who predicts with the
    model need not know of them.
    """
    if not fading:
        return encoder
    folded = copy.deepcopy(encoder)
    for name, dims in encoder.feature_dims.items():
        if dims is None:
            continue
        layers, dim = dims
        factors = torch.arange(1, dim + 1, dtype=torch.float64) ** -fading
        if encoder.layer_aggregation == "cat":
            factors = factors.repeat(layers)
        first = next(m for m in folded.projectors[name].modules() if isinstance(m, torch.nn.Linear))
        with torch.no_grad():
            first.weight.mul_(factors.to(first.weight))
    return folded


def recipe_text(recipe: TrainingRecipe) -> str:
    """A recipe as a TOML file."""
    lines = []
    for section, values in recipe.as_table().items():
        tables = {key: value for key, value in values.items() if isinstance(value, dict)}
        lines.append(f"[{section}]")
        lines += [
            f"{key} = {_toml(value)}"
            for key, value in values.items()
            if key not in tables and value is not None
        ]
        for key, table in tables.items():
            if table:
                lines.append(f"\n[{section}.{key}]")
                lines += [f"{name} = {_toml(value)}" for name, value in table.items()]
        lines.append("")
    return "\n".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    # Numbers, truth values and texts are written alike in JSON and TOML.
    return json.dumps(value)


def epoch_line(numbers: dict[str, float], epochs: int) -> str:
    """An epoch in words."""
    validation = numbers.get("validation")
    more = f", validation r {validation:.4f}" if validation is not None else ""
    return f"epoch {int(numbers['epoch'])} of {epochs}: loss {numbers['loss']:.4f}{more}"


def _check_target(recipe: TrainingRecipe, out: Path, resume: bool) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; --out takes a folder")
    begun = out / RECIPE
    if not begun.is_file():
        if out.is_dir() and any(out.iterdir()):
            raise InputError(f"{out} holds something else; choose another --out")
        return
    if not resume:
        raise InputError(f"{out} holds a run already; --resume goes on with it")
    if read_recipe(begun).as_table() != recipe.as_table():
        raise InputError(
            f"{out} was begun with another recipe (see {begun}); choose another --out, or the same "
            "recipe"
        )


def _describe_run(
    out: Path,
    recipe: TrainingRecipe,
    studies: list[PreparedStudy],
    data: TrainingData,
    versions: dict[str, str],
) -> None:
    sides = {stretch.span: stretch.side for stretch in data.stretches}
    runs = [run for study in studies for run in study.runs]
    describe(sides, runs).to_csv(out / "split.tsv", sep="\t", float_format="%.4f")
    told = {
        "seed": recipe.training.seed,
        "versions": versions,
        "git": git_state(),
        "studies": [
            {
                "name": study.name,
                "folder": str(study.folder),
                "manifest_sha256": sha256(study.folder / MANIFEST),
                "runs": {run.name: run.sha256 for run in study.runs},
                "licence": study.licence,
                "citation": study.citation,
            }
            for study in studies
        ],
        "features": {content: sorted(one.values) for content, one in data.series.items()},
    }
    (out / "run.json").write_text(json.dumps(told, indent=2) + "\n", "utf-8")


def git_state() -> dict[str, Any] | None:
    """Commit of the working directory, and whether it holds changes; None outside git."""
    git = shutil.which("git")
    if git is None:
        return None
    try:
        commit, changes = (
            subprocess.run(  # noqa: S603
                [git, *arguments], capture_output=True, text=True, check=True, timeout=10
            ).stdout.strip()
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "changed": bool(changes)}


def _append_metrics(out: Path, numbers: dict[str, float]) -> None:
    """Add an epoch to the metrics, in place of what a stopped run had said of it and after it."""
    file = out / "metrics.jsonl"
    before = []
    if file.is_file():
        before = [json.loads(line) for line in file.read_text("utf-8").splitlines() if line]
    _write_metrics(out, [row for row in before if row["epoch"] < numbers["epoch"]] + [numbers])


def _write_metrics(out: Path, epochs: Sequence[Mapping[str, float | None]]) -> None:
    """Write the numbers of all epochs; what is no number is null."""
    rows = [
        {
            key: value if value is not None and math.isfinite(value) else None
            for key, value in row.items()
        }
        for row in epochs
    ]
    with whole_file(out / "metrics.jsonl") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows).encode())
    with (out / "metrics.csv").open("w", newline="", encoding="utf-8") as table:
        writer = csv.DictWriter(table, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
