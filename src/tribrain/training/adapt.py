"""Adapting a trained model to new people with minutes of data."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tribrain.encoder.adapters import (
    AdaptedModel,
    Adapter,
    base_of,
    prior_row,
    save_adapter,
    space_of,
    with_rows,
)
from tribrain.encoder.ensembles import EnsembleModel
from tribrain.encoder.low_rank import compressed, shift_of
from tribrain.encoder.network import Encoder
from tribrain.encoder.predict import TrainedModel
from tribrain.encoder.textbook import TextbookModel
from tribrain.errors import InputError, InputWarning
from tribrain.studies.prepared import PreparedStudy
from tribrain.training.adapt_data import Rows, adaptation_data, find_people, read_rows
from tribrain.training.adapt_people import ridge_people
from tribrain.training.adapt_train import changed_tensors, train_people
from tribrain.training.data import TrainingData
from tribrain.training.series import Series
from tribrain.training.sides import shown_seconds
from tribrain.training.validation import correlations, mean_of_numbers

METHODS = ("auto", "head", "ridge", "lora", "all")
BEST = "ridge"
"""What "auto" is: nothing did better, with however many minutes (docs/adapting.md)."""
_ROUNDING = 1e-6
"""Standard deviation, as a share of the mean, below which an output counts as constant."""


@dataclass(frozen=True)
class AdaptSettings:
    """How a model is adapted.

    Attributes
    ----------
    method : {"auto", "head", "ridge", "lora", "all"}
        "auto" is `BEST`.
    minutes : float, optional
        Of each person that are used, the first in the order of the runs; by default all.
    test : float
        Share of the time, the last groups of stimuli, that is held out for a score.
    rank : int
        Of the factors of "lora".
    standardise : bool
        z-score the BOLD over the rows of each span that are used.
    seed : int
    """

    method: str = "auto"
    minutes: float | None = None
    test: float = 0.0
    rank: int = 8
    standardise: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"method {self.method!r} is unknown; known: {', '.join(METHODS)}")
        if self.rank < 1:
            raise InputError(f"rank is {self.rank}; 1 or more fit")


@dataclass(frozen=True)
class Score:
    """Mean correlation over outputs, before and after.

    Attributes
    ----------
    person : str
    seconds : int
        Rows that were adapted to.
    zero_shot, adapted : float
        In `where`; the first is NaN in a space that the model does not have.
    where : str
    """

    person: str
    seconds: int
    zero_shot: float
    adapted: float
    where: str

    def __str__(self) -> str:
        before = f"{self.zero_shot:.4f} as someone never seen, "
        if math.isnan(self.zero_shot):
            before = ""
        return (
            f"{self.person}: adapted to {self.seconds / 60:.1f} min; r {before}"
            f"{self.adapted:.4f} adapted ({self.where})"
        )


def adapt(
    base: TrainedModel | EnsembleModel | TextbookModel,
    study: PreparedStudy,
    people: Sequence[str],
    settings: AdaptSettings | None = None,
    *,
    place: str | Path | None = None,
    out: Path | None = None,
    said: Callable[[str], None] | None = None,
) -> tuple[AdaptedModel, list[Score]]:
    """Adapt a model to people of a prepared study.

    Parameters
    ----------
    base : TrainedModel
        As `load_model` gives it; any other kind is refused. Stays as it is.
    study : PreparedStudy
    people : sequence of str
        ``subject`` or ``study/subject``; several share what is common to them.
    settings : AdaptSettings, optional
    place : str or path, optional
        Folder of the model, or its name on the hub; needed with `out`.
    out : Path, optional
        Folder that the adapter is written to.
    said : callable, optional
        Called with lines that tell how it goes.

    Returns
    -------
    model : AdaptedModel
        Bit by bit what `tribrain.load_model` gives of `out`.
    scores : list of Score
        Of each person: on what was held out with ``settings.test``, otherwise from
        cross-validation over blocks of time, or from the seconds that chose the number of epochs.

    Raises
    ------
    InputError
        People who are not in the study; too few minutes; features or a space that do not fit.

    Warns
    -----
    InputWarning
        People that the model was trained on; outputs that were not measured or are constant; a
        space that the model does not have.
    """
    settings = settings or AdaptSettings()
    if type(base) is not TrainedModel:
        raise InputError(f"{base.name} is no trained model by itself; adapt one that is")
    if out is not None and place is None:
        raise ValueError("an adapter that is written tells where its model is; place is needed")
    names = find_people(study, people)
    _say_who_is_known(base, study, names)
    prior = _prior(base, study, settings.method)
    n = len(names)
    start = with_rows(base.card, base.encoder, [prior] * (n + 1))
    data = adaptation_data(
        base.card,
        start,
        study,
        names,
        extract=lambda stimulus: Series(dict(base.extract(stimulus)), base.card.recipe.frequency),
        minutes=settings.minutes,
        test=settings.test,
        step=max(1, start.n_output_samples // 4),
        standardise=settings.standardise,
    )
    rows = varying(read_rows(start, data, data.side("train"), base.device), names)
    seconds = [int((rows.people == number).sum()) for number in range(n)]
    _say_who_has_less(names, seconds, settings.minutes)
    method = BEST if settings.method == "auto" else settings.method
    if method == "ridge":
        weight, bias = (part.cpu().numpy() for part in prior)
        fits = ridge_people(rows, weight, bias, said)
        tensors: dict[str, Tensor] = {}
        told: dict[str, Any] = {"shared": fits.shared, "penalties": fits.penalties}
        changes, before, after = fits.changes, fits.before, fits.after
        where = "cross-validated over blocks of time, which also chose the penalty"
    else:
        trained = train_people(
            start,
            data,
            method,
            settings.rank,
            left_out=[constant_outputs(rows, number) for number in range(n)],
            seed=settings.seed,
            device=base.device,
            said=said,
        )
        if method != "head" and trained.epochs:  # other weights give other states
            rows = dataclasses.replace(
                rows,
                states=read_rows(
                    trained.encoder.to(base.device), data, data.side("train"), base.device
                ).states,
            )
        tensors, changes = changed_tensors(start, trained.encoder, method), trained.changes(start)
        told = {"epochs": trained.epochs}
        before, after = [trained.before] * n, [trained.after] * n
        where = "on the last fifth of the time, which chose the number of epochs"
        where += f", mean of {n} people" * (n > 1)
    told["errors_of_factors"] = []
    for number, (weight, bias) in enumerate(changes):
        here = rows.of(number)
        constant = constant_outputs(rows, number)
        weight[:, constant], bias[constant] = 0, 0
        parts, error = compressed(weight, here.states)
        bias = bias + shift_of(weight, parts, here.states)
        parts["bias"] = torch.from_numpy(bias.astype(np.float32))
        tensors |= {f"rows.{number}.{key}": value for key, value in parts.items()}
        told["errors_of_factors"].append(error)
    people = tuple(f"{study.name}/{name}" for name in names)
    adapter = Adapter(
        name=out.name if out is not None else f"{base.name}-adapted",
        method=method,
        people=people,
        space=study.space.name,
        n_outputs=study.space.size,
        prior=study.space.name in base.spaces,
        base=base_of(base, place or base.name, out or Path()),
        tensors=tensors,
        licence=f"adapted to {study.name}: {study.licence}",
        found=told | {"settings": dataclasses.asdict(settings), "seconds": seconds},
        trained_on=_trained_on(data),
    )
    model = AdaptedModel.of(base, adapter)
    if data.side("test"):
        where = "on what was held out"
        before, after = (tested(one, data, n, base.device) for one in (start, model.encoder))
    if study.space.name not in base.spaces:  # zeros predict nobody
        before = [math.nan] * n
    scores = [Score(*one, where) for one in zip(people, seconds, before, after, strict=True)]
    model.adapter = adapter = dataclasses.replace(
        adapter,
        found={**adapter.found, "scores": [dataclasses.asdict(score) for score in scores]},
    )
    if out is not None:
        save_adapter(adapter, out)
    return model, scores


def varying(rows: Rows, names: Sequence[str]) -> Rows:
    """Rows whose constant outputs are NaN, person by person; what is left out is said."""
    measured = rows.measured.copy()
    left_out = []
    for number, name in enumerate(names):
        here = rows.people == number
        values = measured[here]
        there = ~np.isnan(values)
        count = np.maximum(there.sum(0), 1)
        mean = np.where(there, values, 0).sum(0, dtype=np.float64) / count
        power = np.where(there, values - mean, 0) ** 2
        scale = np.sqrt(power.sum(0, dtype=np.float64) / count)
        flat = scale <= _ROUNDING * np.abs(mean)
        measured[np.ix_(here, flat)] = np.nan
        if flat.all():
            raise InputError(f"no output of {name} was measured and varies; nothing to adapt to")
        if flat.any():
            left_out.append(f"{int(flat.sum())} of {name}")
    if left_out:
        warnings.warn(
            f"outputs that were not measured or are constant ({', '.join(left_out)}) are not "
            "adapted to, and predicted by the row of people never seen",
            InputWarning,
            stacklevel=3,
        )
    return dataclasses.replace(rows, measured=measured)


def constant_outputs(rows: Rows, person: int) -> np.ndarray:
    """Which outputs (V,) of a person are left out, as `varying` marks them."""
    return np.asarray(np.isnan(rows.of(person).measured).all(axis=0))


def tested(encoder: Encoder, data: TrainingData, people: int, device: str) -> list[float]:
    """Mean correlation over outputs and runs of each person on the side "test"."""
    found = []
    for row in range(people):
        stretches = [one for one in data.side("test") if one.row == row]
        found.append(mean_of_numbers(correlations(encoder.to(device), data, stretches, device)))
    return found


def _trained_on(data: TrainingData) -> dict[str, list[tuple[float, float]]]:
    """Seconds of each stimulus that people were adapted to."""
    found: dict[str, list[tuple[float, float]]] = {}
    for stretch in data.side("train"):
        for content, seconds in shown_seconds(stretch.run, stretch.span):
            if seconds not in found.setdefault(content, []):
                found[content].append(seconds)
    return found


def _prior(base: TrainedModel, study: PreparedStudy, method: str) -> tuple[Tensor, Tensor]:
    """The row that new people start from."""
    space, spaces = study.space, base.spaces
    if space.name in spaces and spaces[space.name].size == space.size:
        return prior_row(base.encoder, space_of(base.encoder, space.name), space.size)
    known = ", ".join(f"{name} ({one.size} values)" for name, one in spaces.items())
    told = f"{study.name} is prepared in {space.name} ({space.size} values); the model has {known}"
    if method not in ("auto", "ridge") or space.name in spaces:
        raise InputError(f"{told}; prepare the study so, or --method ridge for a space of its own")
    warnings.warn(
        f"{told}: the rows start from nothing, and know no other people", InputWarning, stacklevel=3
    )
    return prior_row(base.encoder, None, space.size)


def _say_who_has_less(names: Sequence[str], seconds: Sequence[int], minutes: float | None) -> None:
    short = [
        f"{name} has {there / 60:.1f}"
        for name, there in zip(names, seconds, strict=True)
        if minutes is not None and there < minutes * 60 - 1
    ]
    if short:
        warnings.warn(
            f"of {minutes:g} minutes asked for, {', '.join(short)}; all of them are used",
            InputWarning,
            stacklevel=3,
        )


def _say_who_is_known(base: TrainedModel, study: PreparedStudy, names: Sequence[str]) -> None:
    known = [name for name in names if f"{study.name}/{name}" in base.subjects]
    if known:
        warnings.warn(
            f"{base.name} was trained on {', '.join(known)} of {study.name}, and predicts them by "
            "name without being adapted; scores are of what it has seen",
            InputWarning,
            stacklevel=3,
        )
