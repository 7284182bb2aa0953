"""A model on a prepared study: what it predicts of rows it was not trained on, against what.

Baselines read the features that the model reads and are fitted to the rows that it was trained on,
for the same people; where nobody can tell what it was trained on, or it was trained on nothing of
the study, they are fitted to other stimuli of the study than those they predict. The nuisance floor
is fitted as they are.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tribrain.brain.atlases import Atlas
from tribrain.brain.haemodynamics import LAG
from tribrain.brain.region_tables import atlas_for
from tribrain.encoder.ensembles import EnsembleModel
from tribrain.encoder.textbook import TextbookModel
from tribrain.errors import InputError
from tribrain.evaluation.ablation import modality_dropout_of
from tribrain.evaluation.baselines import baseline_names
from tribrain.evaluation.evaluation import Evaluation
from tribrain.evaluation.job import Job, splits_told
from tribrain.evaluation.modalities import find_modalities
from tribrain.evaluation.scoring import Way
from tribrain.evaluation.tables import (
    LEAST_CEILING,
    Ceilings,
    Settings,
    Tables,
    settings_told,
    tabulate,
)
from tribrain.evaluation.tested import member_splits, spans_to_test
from tribrain.evaluation.ways import (
    CEILINGS,
    TEXTBOOK,
    Model,
    check_ceiling,
    find_ceilings,
    model_key,
)
from tribrain.features.extract import Progress
from tribrain.studies.prepared import PreparedStudy
from tribrain.studies.simulated import Simulated
from tribrain.training.model_rows import check_space, members_of
from tribrain.training.run_files import checksums


def evaluate_model(
    model: Model,
    study: PreparedStudy,
    *,
    place: str | Path | None = None,
    studies: Sequence[PreparedStudy] = (),
    baselines: str | Sequence[str] = ("fir",),
    side: str | None = None,
    ceiling: str = "auto",
    controls: bool = True,
    attribution: bool = False,
    atlas: str | Path | Atlas = "textbook",
    permutations: int = 1000,
    draws: int = 2000,
    seed: int = 0,
    truth: Simulated | None = None,
    work: Path | None = None,
    versions: Mapping[str, str] | None = None,
    said: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate a model on a prepared study.

    In memory are at a time: the BOLD of one person that a baseline is fitted to, and of the mean
    of people, with what the estimators make of it; a part of a person; and 256 MB of a block of
    outputs of all people. What is predicted lies in the folder `work`: 4 bytes for each row, output
    and way, of each person where it differs between people.

    Parameters
    ----------
    model : TextbookModel, TrainedModel or EnsembleModel
    study : PreparedStudy
        In the space of the model.
    place : str or Path, optional
        Where the model is: the run folder around it tells what it was trained on.
    studies : sequence of PreparedStudy
        Others that it was trained on, where they do not lie where they were.
    baselines : str or sequence of str
        Of `tribrain.evaluation.baselines.BASELINES`, and "textbook"; "none" for none.
    side : str, optional
        One of `tribrain.evaluation.tested.ASKED`.
    ceiling : str
        One of `tribrain.evaluation.ways.CEILINGS`.
    controls : bool
        Fit the best baseline once more, to features moved by a minute or more (way "shifted").
    attribution : bool
        Part the scores over modalities (`tribrain.evaluation.modalities`): the model predicts
        again for each set of them, and a ridge is fitted to each.
    atlas : str, Path or Atlas
        By which regions are averaged; parcels are regions themselves.
    permutations, draws, seed : int
        Of nulls and of the bootstrap.
    truth : Simulated, optional
        What the study was made by, for analytic ceilings.
    work : Path, optional
        Folder in which what was done is kept; the same evaluation goes on there after a stop, and
        leaves it to the caller. By default one that is taken away.
    versions : mapping, optional
        Versions of programs, to be told.
    said, progress : callable, optional

    Returns
    -------
    Evaluation

    Raises
    ------
    InputError
        Another space; nothing to test on; unknown names; a ceiling that the study does not have.
    """
    settings = Settings(permutations, draws, seed)
    if ceiling not in CEILINGS:
        raise InputError(f"ceiling {ceiling!r} is unknown; known: {', '.join(CEILINGS)}")
    asked = _named(baselines)
    lag = LAG if isinstance(model, TextbookModel) else members_of(model)[0].card.lag
    if (study.space.name, study.space.size) != (model.space.name, model.space.size):
        check_space(model, [study])  # type: ignore[arg-type]
    splits = member_splits(model, place, [study, *studies])
    tested = spans_to_test(
        study,
        splits,
        lag=lag,
        side=side,
        trained_on=model.trained_on if isinstance(model, EnsembleModel) else None,
        weighted_by=_weighted_by(model),
        name=model.name,
    )
    opened_atlas = atlas_for(study.space, atlas)
    with tempfile.TemporaryDirectory(prefix="tribrain-") as scratch:
        job = Job(
            model,
            study,
            tested,
            Path(scratch) / "work" if work is None else work,
            asked=asked,
            controls=controls,
            lag=lag,
            seed=seed,
            progress=progress,
        )
        check_ceiling(ceiling, job.scorer, shared=job.shared, truth=truth)
        if said is not None:
            said(f"{len(job.parts)} spans of {len(job.scorer.cells)} stimuli are scored")
        ways, floors = job.predict()
        ceilings = find_ceilings(
            ceiling,
            job.scorer,
            job.shared,
            stretches={part.number: job.data.stretches[part.number] for part in job.parts},
            study=study,
            truth=truth,
            draws=100,
            seed=seed,
        )
        tables = tabulate(
            job.scorer,
            job.main,
            ways,
            floors,
            ceilings,
            settings,
            space=study.space,
            atlas=opened_atlas,
            held_out=job.held_out,
            tick=lambda name: job.tick("scoring", len(ways)),
        )
        told = told_of(job, ways, ceilings, tables, settings)
        told |= {"floors": floors, "versions": dict(versions or {})}
        maps, frames = tables.maps, tables.frames()
        if attribution:
            dropout = None if place is None else modality_dropout_of(place)
            parted = find_modalities(job, atlas=opened_atlas, modality_dropout=dropout)
            maps, frames["modalities"] = maps | parted.maps, parted.table
            told |= {"modalities": parted.told, "notes": told["notes"] + parted.notes}
        return Evaluation(told, study.space, maps=maps, **frames)


def told_of(
    job: Job, ways: Sequence[Way], ceilings: Ceilings, tables: Tables, settings: Settings
) -> dict[str, Any]:
    """What was evaluated, as plain data."""
    notes = [*job.notes, *tables.notes]
    notes.append(
        "r is a mean over outputs, rows, and people: "
        + (
            "those that the model was trained on; zero-shot scores are of the others"
            if job.held_out and len(job.main) < len(job.parts)
            else "all that were tested"
        )
    )
    if job.crossed and any(way.crossed for way in ways):
        notes.append(
            "baselines are fitted to other stimuli (of one stimulus: other blocks of time) of "
            f"{job.study.name} than those they predict, in {len(job.folds)} folds; those "
            "for people never seen to the mean of the other people"
        )
    found = {way.name for way in ways} & set(tables.frames()["summary"]["way"])
    return {
        "model": job.model.name,
        "revision": getattr(
            job.model, "revision", getattr(getattr(job.model, "card", None), "revision", "")
        ),
        "studies": [job.study.name],
        "space": job.study.space.name,
        "lag": job.lag,
        "unit": "BOLD z-scored over each span",
        "checksums": {"model": model_key(job.model), job.study.name: checksums(job.study)},
        "ways": {way.name: way.about for way in ways if way.name in found},
        "ceiling": ceilings.said,
        "least_ceiling": LEAST_CEILING,
        "notes": notes,
        "warning": job.tested.warning,
        "seeds": {"all": settings.seed},
        "settings": settings_told(settings),
        "splits": splits_told(job.everything, job.folds),
        "null": tables.null,
    }


def _named(baselines: str | Sequence[str]) -> tuple[str, ...]:
    """Baselines by name; the textbook model may be one."""
    asked = baselines.split(",") if isinstance(baselines, str) else list(baselines)
    asked = [name.strip() for name in asked]
    others = [name for name in asked if name != TEXTBOOK]
    try:
        found = baseline_names(others) if others else ()
    except InputError as error:
        raise InputError(f"{error}, {TEXTBOOK} for the built-in model") from None
    return (*found, TEXTBOOK) if TEXTBOOK in asked else found


def _weighted_by(model: Model) -> Mapping[str, Any] | None:
    if not isinstance(model, EnsembleModel):
        return None
    return (model.how.get("weighted_by") or {}).get("spans")
