"""Training runs on more and more of the same data, and the law of their scores.

The folder holds a run for each size (``hours-4``, or ``hours-4_seed-1``), ``scaling.tsv`` (a row a
run) and ``scaling.json`` (the scores of every scored run, and the law).
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tribrain.encoder.checkpoints import load_folder
from tribrain.encoder.network import Encoder
from tribrain.errors import InputError, InputWarning
from tribrain.features.backbones import pick_device
from tribrain.files import sha256, whole_file
from tribrain.moments import Moments
from tribrain.studies.groups import Span
from tribrain.studies.prepared import PreparedStudy
from tribrain.studies.splits import describe
from tribrain.training.data import Stretch, TrainingData
from tribrain.training.run import open_studies, train_recipe, training_data
from tribrain.training.run_files import check_same_data, checksums
from tribrain.training.scaling_law import Law, fit_law, law_line
from tribrain.training.settings import TrainingRecipe, check_together, read_recipe
from tribrain.training.sides import MODEL, RECIPE, recipe_sides
from tribrain.training.torchrun import torchrun_started
from tribrain.training.validation import mean_of_numbers, predictions

if TYPE_CHECKING:
    import pandas as pd

SCALES = {"hours": float, "subjects": int}
"""What can be scaled: settings of ``[data]``."""
_SIDES = {"hours": ("test", "validation"), "subjects": ("held_out_unseen", "held_out_seen")}
"""Sides that are scored, the first that there is."""
_WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Score:
    """Correlation of a scored run.

    Attributes
    ----------
    study, subject, run, group : str
    r : float
        Mean over outputs; NaN where nothing varies.
    """

    study: str
    subject: str
    run: str
    group: str
    r: float


@dataclass(frozen=True, eq=False)
class Scaling:
    """What came of it.

    Attributes
    ----------
    what : str
        ``hours`` or ``subjects``.
    side : str
        Side of the split that was scored.
    table : DataFrame
        A row a run: ``asked``, ``hours`` (true), ``people``, ``groups``, ``seed``, ``score``.
    law : Law
    """

    what: str
    side: str
    table: pd.DataFrame
    law: Law

    def lines(self) -> list[str]:
        """The law in one line, and what to mind."""
        return [law_line(self.law, self.what), *(f"note: {note}" for note in self.law.notes)]


def parse_scale(text: str) -> tuple[str, tuple[float, ...]]:
    """Read ``hours=1,2,4`` or ``subjects=1,2,4``.

    Raises
    ------
    InputError
        Says what fits.
    """
    what, _, listed = (part.strip() for part in text.partition("="))
    fits = "hours=1,2,4 or subjects=1,2,4 fits"
    if what not in SCALES:
        raise InputError(f"--scale {text!r}: {fits}")
    try:
        amounts = sorted({SCALES[what](part) for part in listed.split(",") if part.strip()})
    except ValueError:
        raise InputError(f"--scale {text!r}: {fits}") from None
    if len(amounts) < 2 or not all(0 < amount < np.inf for amount in amounts):
        raise InputError(f"--scale {text!r}: two or more sizes above 0, as {fits}")
    return what, tuple(amounts)


def train_scaling(
    recipe: TrainingRecipe,
    out: Path,
    what: str,
    amounts: Sequence[float],
    *,
    seeds: Sequence[int] = (),
    resume: bool = False,
    said: Callable[[str], None] | None = None,
    **how: Any,
) -> Scaling:
    """Train on each size, score all on the same rows, and fit the law.

    Parameters
    ----------
    recipe : TrainingRecipe
        The same for all sizes, number of epochs included: with ``patience`` or a validation
        side, each run keeps its best epoch.
    out : Path
    what : {"hours", "subjects"}
    amounts : sequence of float
        In rising order. Of one seed, each size is contained in the next.
    seeds : sequence of int
        Each trains every size, with parts of its own; by default that of the recipe.
    resume : bool
        Go on in a folder that is there: runs that are done stay, and sizes may be added.
    said : callable, optional
        Called with lines to read.
    **how
        As `train_recipe` takes it.

    Returns
    -------
    Scaling

    Raises
    ------
    InputError
        Before anything is trained: sizes that are larger than what there is, no side to score,
        runs that are there of other data; else what `train_recipe` raises.
    """
    if torchrun_started():
        raise InputError("scaling runs in one process; start it without torchrun")
    check_together(recipe)
    if out.is_dir() and any(out.iterdir()) and not resume:
        raise InputError(f"{out} is not empty; --resume goes on with scaling runs that are there")
    say = said or (lambda line: None)
    studies = open_studies(recipe)
    seeds = tuple(dict.fromkeys(seeds)) or (recipe.training.seed,)
    plans = {
        (amount, seed): _part(recipe, what, amount, seed)
        for amount, seed in product(amounts, seeds)
    }
    with warnings.catch_warnings():  # each training says what there is to say of the split
        warnings.simplefilter("ignore", InputWarning)
        parted = {key: recipe_sides(plan, studies) for key, plan in plans.items()}
    side = _scored_side(what, parted[amounts[0], seeds[0]])
    folders = {
        (amount, seed): out / (f"{what}-{amount:g}" + (f"_seed-{seed}" if len(seeds) > 1 else ""))
        for amount, seed in plans
    }
    for folder in folders.values():
        check_same_data(folder, studies)
    rows, scores = [], {}
    for (amount, seed), plan in plans.items():
        folder = folders[amount, seed]
        name = folder.name
        there = _facts(parted[amount, seed], studies)
        say(f"{name}: {there['hours']:.4g} hours of {there['people']} people")
        if not is_trained(folder, plan):
            train_recipe(plan, folder, resume=folder.exists(), said=said, **how)
        found = scores[amount, seed] = _scores(folder, plan, studies, side, how)
        mean = mean_of_numbers([one.r for one in found])
        say(f"{name}: r {mean:.4f} on {side}")
        rows.append({"asked": amount, **there, "seed": seed, "score": mean})
    scaling = _fitted(what, side, rows, scores, amounts, seeds)
    _write(out, scaling, scores)
    return scaling


def score_stretches(
    encoder: Encoder,
    data: TrainingData,
    stretches: Sequence[Stretch],
    *,
    device: str = "cpu",
    unseen: bool = False,
) -> list[Score]:
    """Correlation of each run and group (mean over outputs), as `Moments` finds it."""
    held: dict[tuple[str, str, str, str], Moments] = {}
    for stretch, predicted, measured in predictions(
        encoder, data, stretches, device, unseen=unseen
    ):
        span = stretch.span
        key = (span.study, span.subject, span.run, span.group)
        held.setdefault(key, Moments()).add(predicted, measured)
    return [Score(*key, mean_of_numbers(one.correlation())) for key, one in held.items()]


def _part(recipe: TrainingRecipe, what: str, amount: float, seed: int) -> TrainingRecipe:
    if what == "hours":
        data = replace(recipe.data, hours=float(amount))
    else:
        data = replace(recipe.data, subjects=int(amount))
    return replace(recipe, data=data, training=replace(recipe.training, seed=seed))


def _scored_side(what: str, sides: Mapping[Span, str]) -> str:
    there = set(sides.values())
    for side in _SIDES[what]:
        if side in there:
            return side
    if what == "subjects":
        raise InputError(
            "scaling over people is scored on people never seen, and there are none: name some, as "
            '--set data.held_out=["01","02"]'
        )
    raise InputError(
        "nothing to score: the split has neither test nor validation; --set data.test=0.2"
    )


def _facts(sides: Mapping[Span, str], studies: Sequence[PreparedStudy]) -> dict[str, Any]:
    trained = {span: side for span, side in sides.items() if side == "train"}
    row = describe(trained, [run for study in studies for run in study.runs]).loc["train"]
    return {key: row[key] for key in ("hours", "people", "groups")}


def is_trained(folder: Path, recipe: TrainingRecipe) -> bool:
    """Whether a run of this recipe has its model; train_recipe tells what is wrong otherwise."""
    begun = folder / RECIPE
    return (
        (folder / MODEL / _WEIGHTS).is_file()
        and begun.is_file()
        and read_recipe(begun).as_table() == recipe.as_table()
    )


def _scores(
    folder: Path,
    recipe: TrainingRecipe,
    studies: list[PreparedStudy],
    side: str,
    how: Mapping[str, Any],
) -> list[Score]:
    """Score the model of a run, or read what was found before on the same data."""
    known_as = json.dumps([(study.name, checksums(study)) for study in studies])
    scored = {
        "model": sha256(folder / MODEL / _WEIGHTS),
        "side": side,
        "data": hashlib.sha256(known_as.encode()).hexdigest(),
    }
    kept = folder / "scores.json"
    if kept.is_file():
        told = json.loads(kept.read_text("utf-8"))
        if {key: told.get(key) for key in scored} == scored:
            return [Score(**{**one, "r": _number(one["r"])}) for one in told["scores"]]
    _, encoder = load_folder(folder / MODEL)
    plain = replace(recipe, data=replace(recipe.data, fading=0.0))  # a saved model fades itself
    known = {key: how[key] for key in ("device", "backbones", "store", "progress") if key in how}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        data = training_data(plain, studies, **known)
    device = pick_device(how.get("device", "auto"))
    found = score_stretches(encoder.to(device), data, data.side(side), device=device)
    told = {**scored, "scores": [_plain(one) for one in found]}
    with whole_file(kept) as file:
        file.write((json.dumps(told, indent=1) + "\n").encode())
    return found


def _fitted(
    what: str,
    side: str,
    rows: list[dict[str, Any]],
    scores: Mapping[tuple[float, int], list[Score]],
    amounts: Sequence[float],
    seeds: Sequence[int],
) -> Scaling:
    import pandas as pd

    table = pd.DataFrame(rows)
    column = "hours" if what == "hours" else "people"
    true = [table.loc[table["asked"] == amount, column].mean() for amount in amounts]
    values = [[[one.r for one in scores[amount, seed]] for seed in seeds] for amount in amounts]
    scored = scores[amounts[0], seeds[0]]
    # More hours are more of the same people; what more people bring is asked for people to come.
    people = [f"{one.study}/{one.subject}" for one in scored] if what == "subjects" else None
    law = fit_law(true, values, [one.group for one in scored], people)
    if what == "hours" and side == "validation":
        law = replace(
            law,
            notes=(*law.notes, "scored on validation, which also chose the epoch; data.test=0.2"),
        )
    return Scaling(what, side, table, law)


def _write(
    out: Path, scaling: Scaling, scores: Mapping[tuple[float, int], Sequence[Score]]
) -> None:
    with whole_file(out / "scaling.tsv") as file:
        scaling.table.to_csv(file, sep="\t", index=False, float_format="%.6g")
    told = {
        "what": scaling.what,
        "side": scaling.side,
        **scaling.law.as_table(),
        "runs": [
            {"asked": amount, "seed": seed, "scores": [_plain(one) for one in found]}
            for (amount, seed), found in scores.items()
        ],
    }
    with whole_file(out / "scaling.json") as file:
        file.write((json.dumps(told, indent=1) + "\n").encode())


def _plain(score: Score) -> dict[str, Any]:
    return {**score.__dict__, "r": score.r if np.isfinite(score.r) else None}


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
