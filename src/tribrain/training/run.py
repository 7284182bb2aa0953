"""A training run from a recipe to a folder with a model in it.

The folder holds ``recipe.toml`` (everything, as it was used), ``run.json`` (versions, seed, git
state, what was trained on), ``split.tsv``, ``metrics.jsonl`` and ``metrics.csv`` (a row an epoch),
``state.safetensors`` (to go on from) and ``model/`` (to predict with, once it is done).
"""

from __future__ import annotations

import copy
import dataclasses
import shutil
from collections.abc import Callable, Iterable, Sequence
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
from tribrain.stimuli.stimulus import Stimulus
from tribrain.studies.prepared import PreparedStudy, open_prepared
from tribrain.training.data import TrainingData, number_rows
from tribrain.training.distributed import ALONE, Processes
from tribrain.training.loggers import check_loggers, opened_loggers
from tribrain.training.loop import train
from tribrain.training.mean_of_people import MeanData, give_rows
from tribrain.training.run_files import (
    append_metrics,
    check_same_data,
    check_target,
    describe_run,
    epoch_line,
    mean_line,
    write_metrics,
)
from tribrain.training.series import Series, extracts, faded, stimulus_series
from tribrain.training.settings import TrainingRecipe, check_together
from tribrain.training.sides import MODEL, recipe_sides
from tribrain.training.teaching import open_teacher, taught
from tribrain.training.torchrun import joined

HEAD = 0.1
"""Factor of the random weights that heads start from: predictions as large as the BOLD itself would
have to be unlearned first (measured on SONG: half of the epochs for a better score)."""
STATE, TEACHER = "state.safetensors", "teacher"


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
    logs: Sequence[str] = (),
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
    logs : sequence of str
        Where the metrics go besides the folder (`tribrain.training.loggers.LOGGERS`).
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
    with joined(recipe.training, device) as processes:
        if not processes.first:
            logs, progress, said = (), None, None
        return _train(
            recipe, out, processes, name, resume, backbones, store, versions, logs, progress, said
        )


def _train(
    recipe: TrainingRecipe,
    out: Path,
    processes: Processes,
    name: str | None,
    resume: bool,
    backbones: Path | None,
    store: Store | None,
    versions: dict[str, str] | None,
    logs: Sequence[str],
    progress: Progress | None,
    said: Callable[[str], None] | None,
) -> Path:
    """What `train_recipe` does, in one of its processes."""
    check_together(recipe)
    if processes.first:
        check_target(recipe, out, resume)
    check_loggers(logs)
    studies = open_studies(recipe)
    if processes.first:
        check_same_data(out, studies)
    device = processes.device
    in_turn = processes if store is not None else ALONE  # without a store each works out all
    data = in_turn.after_first(
        "features", lambda: training_data(recipe, studies, device, backbones, store, progress)
    )
    encoder = new_encoder(recipe, data)
    teacher = None
    if recipe.training.teacher:
        teacher = open_teacher(
            recipe.training.teacher, data, store=store, backbones=backbones, device=device
        )
    if processes.first:
        describe_run(out, recipe, studies, data, versions or {})
    settings, people = recipe.training, data
    sides: tuple[str, ...] = ("train",)
    if recipe.data.mean_of_people:
        data = MeanData(people, sides)
        if said is not None:
            said(mean_line(data))
    if teacher is not None:
        data, settings = processes.after_first(
            "teacher", lambda: taught(teacher, data, settings, out / TEACHER, progress)
        )

    def report(numbers: dict[str, float]) -> None:
        append_metrics(out, numbers)
        log(numbers)
        if said is not None:
            said(epoch_line(numbers, settings.epochs))
        if progress is not None:
            progress("epochs", int(numbers["epoch"]), settings.epochs)

    with opened_loggers(logs, out, recipe.as_table()) as log:
        best, course = train(
            copy.deepcopy(encoder),
            data,
            settings,
            folder=out,
            resume=resume,
            processes=processes,
            report=report,
        )
    if processes.first:
        write_metrics(out, course.epochs)  # a kill may have come between an epoch and its line
    if settings.refit and data.side("validation"):
        again = dataclasses.replace(settings, epochs=course.best, patience=0, refit=False)
        if said is not None:
            said(f"again on training and validation together, {course.best} epochs")
        folder, sides = out / "refit", ("train", "validation")
        if processes.first:
            folder.mkdir(exist_ok=True)
        best, _ = train(
            encoder,
            MeanData(people, sides) if recipe.data.mean_of_people else data,
            again,
            folder=folder,
            resume=resume,
            sides=sides,
            validate=False,
            processes=processes,
        )
        if processes.first:
            shutil.rmtree(folder)

    def finish() -> None:
        if not processes.first:
            return
        if recipe.data.mean_of_people:
            give_rows(best.to(device), people, sides, settings.own_penalty, device)
        card = model_card(recipe, data, studies, name or out.name)
        save_folder(card, fold_fading(best.cpu(), recipe.data.fading), out / MODEL)
        for lesson in (out / TEACHER).glob("*.npy"):
            lesson.unlink()

    processes.after_first("model", finish)  # rows of many people take longer than a barrier waits
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
    sides = recipe_sides(recipe, studies)
    people = {f"{span.study}/{span.subject}" for span, side in sides.items() if side == "train"}
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
        number_rows(studies, people)[0],
        frequency=recipe.features.frequency,
        length=settings.length,
        step=settings.step,
        lag=settings.lag,
        standardise=settings.standardise,
        weights=settings.weights,
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
        for name, value in encoder.head.named_parameters():
            if name.endswith("weight"):
                value.mul_(HEAD)
    return encoder


def _build(recipe: TrainingRecipe, data: TrainingData) -> dict[str, Any]:
    sizes = {name: space.size for name, space in data.spaces.items()}
    _, counts = number_rows(data.studies, data.subjects)
    one = len(sizes) == 1
    return {
        "max_samples": data.n_samples,
        **recipe.encoder,
        "feature_dims": data.dims,
        "n_outputs": next(iter(sizes.values())) if one else sizes,
        "n_output_samples": data.length,
        "n_subjects": next(iter(counts.values())) if one else counts,
    }


def model_card(
    recipe: TrainingRecipe, data: TrainingData, studies: Iterable[PreparedStudy], name: str
) -> ModelCard:
    """What the trained model is."""
    licences = dict.fromkeys(f"{study.name}: {study.licence}" for study in studies)
    features = recipe.features
    if not any(map(extracts, studies)):  # what the recipe names was never worked out
        features = dataclasses.replace(features, backbones={}, simple={})
    return ModelCard(
        build=_build(recipe, data),
        recipe=features,
        window=float(data.length),
        lag=data.lag,
        space=next(iter(data.spaces)),
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
