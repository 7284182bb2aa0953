"""A whole study in minutes: simulated, trained on, adapted to new people, scored, compared.

Every number is of films that nobody was trained on. What can be reached is known, as the study is
simulated (`tribrain.studies.simulated_truth`).
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tribrain.encoder.models import load_model
from tribrain.encoder.predict import TrainedModel
from tribrain.errors import InputError
from tribrain.features.extract import Progress
from tribrain.files import whole_file
from tribrain.studies.prepare import prepare
from tribrain.studies.simulated import Simulated
from tribrain.studies.splits import describe
from tribrain.training.data import TrainingData
from tribrain.training.quickstart_scores import Scored
from tribrain.training.run import open_studies, train_recipe, training_data
from tribrain.training.settings import TrainingRecipe, read_recipe
from tribrain.training.sides import MODEL

if TYPE_CHECKING:
    import pandas as pd

SETTINGS, STUDY, TRAINING = "quickstart.json", "study", "training"
NEW_MINUTES = 10.0
"""Minutes of a new person of which the summary tells."""


@dataclass(frozen=True)
class QuickstartSettings:
    """How large the study is.

    Attributes
    ----------
    seed : int
        Of the study, of which films are tested, and of the training.
    people, new : int
        Who is trained on, and who comes later.
    films, tested, validated : int
        All, and those that are kept for the test and for validation.
    minutes : float
        Of a film.
    space : int
        Parcels.
    snr : float
        As of `Simulated`.
    adapted : tuple of float
        Minutes of a new person that are adapted to.
    changes : tuple of str
        Of the recipe, as ``--set`` takes them.
    """

    seed: int = 0
    people: int = 4
    new: int = 3
    films: int = 60
    tested: int = 12
    validated: int = 6
    minutes: float = 5.0
    space: int = 60
    snr: float = 1.5
    adapted: tuple[float, ...] = (2.0, 5.0, NEW_MINUTES, 20.0, 40.0)
    changes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        there = (self.films - self.tested - self.validated) * self.minutes
        if max(self.adapted) > there:
            raise InputError(
                f"{max(self.adapted):g} minutes of a new person, and {there:g} are in films to "
                "train on; fewer fit"
            )

    def study(self) -> Simulated:
        """The study, with what a linear model cannot reach."""
        return Simulated(
            seed=self.seed,
            n_subjects=self.people + self.new,
            films=self.films,
            minutes=self.minutes,
            space=self.space,
            snr=self.snr,
            nonlinear=True,
            dims=6,
        )

    def recipe(self, store: Path) -> TrainingRecipe:
        """The recipe ``quickstart`` on the study, with films drawn for the test and validation."""
        study = self.study()
        drawn = np.random.default_rng(self.seed).permutation(study.film_names).tolist()
        kept = self.tested + self.validated
        values = {
            "data.studies": [str(store.absolute())],
            "data.held_out": list(study.subjects[self.people :]),
            "data.test_groups": drawn[: self.tested],
            "data.validation_groups": drawn[self.tested : kept],
            "data.validation": 0.0,
            "training.seed": self.seed,
        }
        changes = [f"{key}={json.dumps(value)}" for key, value in values.items()]
        return read_recipe("quickstart", [*changes, *self.changes])


@dataclass(frozen=True, eq=False)
class Findings:
    """What came of it.

    Attributes
    ----------
    settings : QuickstartSettings
    folder : Path
    scores : DataFrame
        A row a person and way of predicting: ``people`` ("trained", "new"), ``person``, ``way``
        (`tribrain.training.quickstart_scores.WAYS`), ``minutes`` (of the person that were trained
        on or adapted to), ``r`` (mean over outputs and test films), ``ceiling`` and ``linear``
        (the same of one who knows the truth, and of the best linear model), ``normalised``
        (r / ceiling).
    course : DataFrame
        A row an epoch, as in ``metrics.csv``.
    split : DataFrame
        As `tribrain.studies.splits.describe` gives it.
    """

    settings: QuickstartSettings
    folder: Path
    scores: pd.DataFrame
    course: pd.DataFrame
    split: pd.DataFrame

    def rows(self, way: str, minutes: float | None = None) -> pd.DataFrame:
        """Scores of a way of predicting."""
        rows = self.scores[self.scores["way"] == way]
        return rows if minutes is None else rows[np.isclose(rows["minutes"], minutes)]

    def mean(
        self, way: str, column: str = "r", minutes: float | None = None
    ) -> tuple[float, float]:
        """Mean over people and its standard error (NaN for one person)."""
        rows = self.rows(way, minutes)
        people = rows.groupby("person")[column].mean()
        error = people.std(ddof=1) / math.sqrt(len(people)) if len(people) > 1 else math.nan
        return float(people.mean()), float(error)

    @property
    def told_minutes(self) -> float:
        """Those of a new person of which the summary tells: the nearest to `NEW_MINUTES`."""
        return min(self.settings.adapted, key=lambda minutes: abs(minutes - NEW_MINUTES))


def run_quickstart(
    out: Path,
    settings: QuickstartSettings | None = None,
    *,
    device: str = "auto",
    versions: dict[str, str] | None = None,
    progress: Progress | None = None,
    said: Callable[[str], None] | None = None,
) -> Findings:
    """Simulate, train, adapt and score; in a folder that was begun, go on.

    Parameters
    ----------
    out : Path
        Gets ``study/`` (a prepared study), ``training/`` (a run folder), ``scores.tsv``.
    settings : QuickstartSettings, optional
    device : str
    versions : dict of str to str, optional
        Recorded in the run folder.
    progress : callable, optional
        Called with what is done, how much of it, and of how much.
    said : callable, optional
        Called with a line for each step.

    Raises
    ------
    InputError
        If the folder holds something else, or was begun with other settings.
    """
    settings = settings or QuickstartSettings()
    say = said or (lambda line: None)
    _begin(out, settings)
    study, recipe = settings.study(), settings.recipe(out / STUDY)
    say(
        f"1 of 4: simulating {study.n_subjects} people who watch {study.films} films of "
        f"{study.minutes:g} min"
    )
    prepare(study, out / STUDY, progress=progress)
    say(f"2 of 4: training on {settings.people} of them")
    train_recipe(
        recipe,
        out / TRAINING,
        name="quickstart",
        resume=(out / TRAINING).exists(),
        device=device,
        versions=versions,
        progress=progress,
    )
    (prepared,) = studies = open_studies(recipe)
    data = training_data(recipe, studies, device)
    model = load_model(out / TRAINING / MODEL, device=device, cache=False)
    assert isinstance(model, TrainedModel)
    say("3 of 4: scoring films that nobody was trained on, beside ridge and what can be reached")
    scored = Scored(study, data, model)
    rows = scored.trained()
    say(f"4 of 4: adapting to {settings.new} new people")
    rows += scored.new(prepared, settings.adapted, progress)
    findings = _found(settings, out, rows, data)
    with whole_file(out / "scores.tsv") as file:
        findings.scores.to_csv(file, sep="\t", index=False, float_format="%.5f")
    return findings


def summary(findings: Findings) -> list[str]:
    """What was found, in five lines."""
    wanted = findings.told_minutes

    def told(way: str, minutes: float | None = None) -> str:
        (r, error), (ceiling, _), (share, _) = (
            findings.mean(way, column, minutes) for column in ("r", "ceiling", "normalised")
        )
        spread = f" +- {error:.3f}" if math.isfinite(error) else ""
        return f"r {r:.3f}{spread}, ceiling {ceiling:.3f}, normalised {share:.2f}"

    scratch, _ = findings.mean("ridge from scratch", minutes=wanted)
    unseen, _ = findings.mean("unseen")
    return [
        f"people trained on, films never seen:  {told('own')}",
        f"  ridge of the same data:             {told('ridge')}",
        f"people and films never seen:          {told('unseen')} "
        "(ceiling of the population's mean)",
        f"  ridge of everyone trained on:       {told('ridge of all')}",
        f"new people after {wanted:g} min, adapted:    {told('adapted', wanted)} "
        f"(not adapted {unseen:.3f}, ridge of these {wanted:g} min {scratch:.3f})",
    ]


def _begin(out: Path, settings: QuickstartSettings) -> None:
    """Note the settings in a new folder; refuse one that holds something else."""
    told = json.dumps(dataclasses.asdict(settings), indent=1) + "\n"
    file = out / SETTINGS
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; --out takes a folder")
    if file.is_file():
        if file.read_text("utf-8") != told:
            raise InputError(
                f"{out} was begun with other settings (see {file}); choose another --out"
            )
        return
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out} holds something else; choose another --out")
    with whole_file(file) as writing:
        writing.write(told.encode())


def _found(
    settings: QuickstartSettings, out: Path, rows: list[dict[str, Any]], data: TrainingData
) -> Findings:
    import pandas as pd

    scores = pd.DataFrame(rows)
    scores["normalised"] = scores["r"] / scores["ceiling"]
    sides = {stretch.span: stretch.side for stretch in data.stretches}
    split = describe(sides, [run for study in data.studies for run in study.runs], data.lag)
    return Findings(settings, out, scores, pd.read_csv(out / TRAINING / "metrics.csv"), split)
