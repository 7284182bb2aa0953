"""Ensembles: weights of the members from rows that none of them was trained on, and seeds.

The weights of an output are a softmax of the members' correlations with the BOLD there, divided
by a temperature. 0.3 is published (arXiv 2605.04326); correlations of members that learned the
same are so near each other that it gives almost equal weights.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tribrain.encoder.ensemble_files import is_ensemble, save_ensemble
from tribrain.encoder.ensembles import EnsembleModel, check_members
from tribrain.encoder.models import load_model, model_folder
from tribrain.encoder.predict import TrainedModel
from tribrain.errors import InputError, InputWarning
from tribrain.moments import Moments
from tribrain.studies.prepared import PreparedStudy
from tribrain.training.model_rows import ModelledRows
from tribrain.training.run import train_recipe
from tribrain.training.settings import TrainingRecipe
from tribrain.training.sides import (
    RECIPE,
    MemberSplit,
    all_trained,
    free_spans,
    member_split,
    told_rows,
)
from tribrain.training.validation import mean_of_numbers

TEMPERATURE = 0.3
LEAST = 0.01
"""Correlation that a member is taken to have at least, as few rows measure none that is lower."""
SMALL = 500e6
"""Bytes up to which members are copied into the folder of their ensemble."""


@dataclass(frozen=True, eq=False)
class Judgement:
    """How members do on rows of studies.

    Attributes
    ----------
    correlations : ndarray (members, outputs)
        With the BOLD of each run, mean over the runs; NaN where nothing varies.
    deviations : ndarray (members, outputs)
        Standard deviation of the predictions over all rows.
    rows : int
    """

    correlations: np.ndarray
    deviations: np.ndarray
    rows: int


def judge(
    rows: ModelledRows, combine: Callable[[list[np.ndarray]], list[np.ndarray]] | None = None
) -> Judgement:
    """Compare predictions with the BOLD.

    Parameters
    ----------
    rows : ModelledRows
    combine : callable, optional
        From the predictions of all members for some rows to those that are judged in their place,
        such as their averages.
    """
    held: dict[tuple[int, str], list[Moments]] = {}
    sums: list[np.ndarray] = []  # of each member: rows, values, squares
    total = 0
    for stretch, given, measured in rows.predicted():
        parts = given if combine is None else combine(given)
        key = (stretch.study, stretch.run.name)
        known = held.setdefault(key, [Moments() for _ in parts])
        sums = sums or [np.zeros((2, part.shape[1])) for part in parts]
        for moments, both, part in zip(known, sums, parts, strict=True):
            moments.add(part, measured)
            both += [part.sum(axis=0, dtype=float), np.square(part, dtype=float).sum(axis=0)]
        total += len(measured)
    if not total:
        raise InputError("no row of BOLD was measured in what the members are judged by")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # outputs without any correlation stay NaN
        correlations = np.nanmean(
            [[one.correlation() for one in known] for known in held.values()], axis=0
        )
    mean, square = np.moveaxis(np.array(sums) / total, 1, 0)
    deviations = np.sqrt(np.maximum(square - mean**2, 0))
    return Judgement(correlations, deviations, total)


def softmax_weights(correlations: np.ndarray, temperature: float) -> np.ndarray:
    """Weights (members, outputs) that add up to 1 in each output.

    Parameters
    ----------
    correlations : ndarray (members, outputs)
        NaN where a member has none: its weight is 0 where others have one. Where none has, all
        are equal.
    temperature : float
        0 gives all weight to the best member (ties share it), infinity equal weights.

    Raises
    ------
    InputError
        If the temperature is negative or no number.
    """
    if not temperature >= 0:
        raise InputError(f"temperature {temperature:g}: 0 or more fits")
    there = np.isfinite(correlations)
    there |= ~there.any(axis=0)
    ranks = np.where(there, np.nan_to_num(correlations), -np.inf)
    below = ranks - ranks.max(axis=0)  # 0 for the best, -inf for those without a correlation
    if temperature == 0:
        weights = (below == 0).astype(float)
    elif temperature == math.inf:
        weights = there.astype(float)
    else:
        weights = np.exp(below / temperature)
    return weights / weights.sum(axis=0)


def scale_factors(deviations: np.ndarray, correlations: np.ndarray) -> np.ndarray:
    """Factors (members, outputs) that make predictions as large as they are good.

    A prediction with standard deviation 1 predicts the z-scored BOLD best when it is multiplied by
    its correlation with it. So members count alike whatever unit or loss they were trained with,
    and one that predicts little does not drown one that predicts well. Correlations under `LEAST`
    count as that. A member that does not vary has factor 0.
    """
    expected = np.maximum(np.nan_to_num(correlations), LEAST)
    return np.divide(expected, deviations, out=np.zeros_like(expected), where=deviations > 0)


def make_ensemble(
    places: Sequence[str | Path],
    out: Path,
    *,
    studies: Sequence[PreparedStudy] = (),
    temperature: float = TEMPERATURE,
    name: str | None = None,
    copy: bool | None = None,
    said: Callable[[str], None] | None = None,
    **loading: Any,
) -> EnsembleModel:
    """Make an ensemble of trained models and write it.

    Parameters
    ----------
    places : sequence of str or Path
        Models as `load_model` takes them, or run folders.
    out : Path
        Folder of the ensemble; one that holds an ensemble is written anew.
    studies : sequence of PreparedStudy
        Whose rows that are validation or new to every member weight them; without, all weights
        are equal and predictions are averaged as they are.
    temperature : float
    name : str, optional
        By default that of the folder.
    copy : bool, optional
        Copy the members into the folder; by default if they are small (`SMALL`).
    said : callable, optional
        Called with a line for each member, and for the ensemble.
    **loading
        For `load_model`.

    Raises
    ------
    InputError
        Members that are given twice or do not fit together, rows that are none, a folder that
        holds something else.
    """
    check_place(out)
    if not temperature >= 0:
        raise InputError(f"temperature {temperature:g}: 0 or more fits")
    found = [model_folder(place) for place in places]
    known = [Path(place).resolve() for place in found]
    for number, folder in enumerate(known):
        if folder in known[:number]:
            raise InputError(f"{found[number]} is given twice; each member once fits")
    members = [load_model(place, **loading) for place in found]
    check_members(members)
    trained = [one for one in members if isinstance(one, TrainedModel)]
    name = name or out.absolute().name
    splits: dict[str, MemberSplit | None] = {}
    for one, place in zip(trained, found, strict=True):
        try:
            splits[str(place)] = member_split(one.name, Path(place), studies)
        except InputError as error:
            if studies:
                raise
            text = f"{error}; the ensemble will not tell what it was trained on"
            warnings.warn(text, InputWarning, stacklevel=2)
            splits[str(place)] = None
    ensemble = EnsembleModel(
        trained,
        name=name,
        how={"temperature": None, "weighted_by": None},
        trained_on=all_trained(splits.values()),
    )
    if studies:
        spans = free_spans(splits, studies, trained[0].card.lag)
        ensemble = _weighted(ensemble, ModelledRows(trained, studies, spans), temperature, said)
    elif said is not None:
        said(f"{len(trained)} members, equal weights")
    folders = [Path(place) for place in found if Path(place).is_dir()]
    if copy is None:
        copy = sum(map(_size, folders)) <= SMALL
    save_ensemble(ensemble, out, found, copy=copy)
    return ensemble


def _weighted(
    plain: EnsembleModel,
    rows: ModelledRows,
    temperature: float,
    said: Callable[[str], None] | None,
) -> EnsembleModel:
    """The ensemble with weights and factors from rows, and how good it is there."""
    told = judge(rows)
    ensemble = EnsembleModel(
        plain.members,
        softmax_weights(told.correlations, temperature),
        scale_factors(told.deviations, told.correlations),
        name=plain.name,
        trained_on=plain.trained_on,
    )
    both = judge(rows, lambda parts: [ensemble.combined(parts), plain.combined(parts)])
    own = [_known(mean_of_numbers(one)) for one in told.correlations]
    weighted, mean = (_known(mean_of_numbers(one)) for one in both.correlations)
    ensemble.how |= {
        "temperature": temperature if math.isfinite(temperature) else "inf",
        "weighted_by": told_rows(
            [stretch.span for stretch in rows.stretches], rows.data[0].studies, told.rows
        ),
        "correlations": {"members": own, "ensemble": weighted, "plain_mean": mean},
    }
    if said is not None:
        for one, r, weight in zip(plain.members, own, ensemble.weights, strict=True):
            said(f"{one.name}: r {_told(r)}, mean weight {weight.mean():.3f}")
        said(
            f"ensemble: r {_told(weighted)} (plain mean {_told(mean)}) on the {told.rows} rows "
            "that the weights are from"
        )
    return ensemble


def train_seeds(
    recipe: TrainingRecipe, seeds: Sequence[int], out: Path, *, resume: bool = False, **how: Any
) -> Path:
    """Train a recipe once a seed, and average the models with equal weights.

    Parameters
    ----------
    recipe : TrainingRecipe
        Its seed of training is replaced; all seeds share the split.
    seeds : sequence of int
    out : Path
        Gets a run folder a seed, ``seed-SEED``, and ``ensemble``.
    resume : bool
        Go on from where it was stopped; seeds that were not begun begin.
    **how
        For `train_recipe`.

    Returns
    -------
    Path
        The folder of the ensemble.
    """
    if len(seeds) < 2 or len(set(seeds)) < len(seeds) or min(seeds, default=0) < 0:
        told = ", ".join(map(str, seeds))
        raise InputError(f"seeds {told}: two or more fit, whole numbers from 0, each once")
    if (out / RECIPE).is_file():
        raise InputError(f"{out} holds a run already; choose another --out")
    check_place(out / "ensemble")
    places = []
    for seed in seeds:
        if how.get("said") is not None:
            how["said"](f"seed {seed}:")
        settings = dataclasses.replace(recipe.training, seed=seed)
        places.append(
            train_recipe(
                dataclasses.replace(recipe, training=settings),
                out / f"seed-{seed}",
                name=f"{out.absolute().name}-seed-{seed}",
                resume=resume,
                **how,
            )
        )
    folder = out / "ensemble"
    make_ensemble(places, folder, name=out.absolute().name, copy=False, device="cpu")
    return folder


def check_place(out: Path) -> None:
    """Refuse to write an ensemble where something else is."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; --out takes a folder")
    if out.is_dir() and any(out.iterdir()) and not is_ensemble(out):
        raise InputError(f"{out} holds something else; choose another --out")


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())


def _known(value: float) -> float | None:
    """As JSON has it."""
    return None if math.isnan(value) else value


def _told(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"
