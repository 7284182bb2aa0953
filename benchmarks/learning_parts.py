"""Simulated studies of `learning.py`: prepared, split by film, trained on, predicted, scored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.signal import detrend

from learning_ridge import FOLDS, banded, correlation, delayed, film_sums
from tribrain.encoder.network import Encoder
from tribrain.studies.prepare import prepare
from tribrain.studies.prepared import PreparedStudy, open_prepared
from tribrain.studies.simulated import Simulated
from tribrain.studies.simulated_brains import NONLINEAR_REGIONS
from tribrain.studies.splits import split
from tribrain.training.data import Stretch, TrainingData
from tribrain.training.loop import train
from tribrain.training.ridge import Sums
from tribrain.training.run import new_encoder
from tribrain.training.series import Series, stimulus_series
from tribrain.training.settings import TrainingRecipe, read_recipe
from tribrain.training.validation import predictions

Scores = np.ndarray  # (films, people, outputs)
Rows = dict[tuple[str, str], np.ndarray]  # (film, person) to rows (time, outputs)


@dataclass(frozen=True)
class Part:
    """A study and what is done with it.

    Attributes
    ----------
    name : str
    settings : mapping
        Of `Simulated`. The repetition time is 1 s, so that rows of the store are volumes.
    validation, adapting, test : int
        The last films, in this order; no one is trained on them.
    held_out : int
        The last people, no film of whom is trained on.
    recipe : str
        Name or file.
    changes : tuple of str
        Of the recipe.
    detrend : bool
        Take the line out of each run when it is prepared, as studies are by default.
    """

    name: str
    settings: Mapping[str, Any]
    validation: int
    test: int
    adapting: int = 0
    held_out: int = 0
    recipe: str = "simulated"
    changes: tuple[str, ...] = ()
    detrend: bool = True


class Bench:
    """A part with its store in a folder, in which everything that takes long is kept."""

    def __init__(self, part: Part, keep: Path) -> None:
        self.part = part
        self.study = Simulated(**{"repetition_time": 1.0, **part.settings})
        films, people = self.study.film_names, self.study.subjects
        first = len(films) - part.test
        self.test = films[first:]
        self.adapting = films[first - part.adapting : first]
        self.validation = films[first - part.adapting - part.validation : first - part.adapting]
        self.held_out = people[len(people) - part.held_out :]
        self.trained = people[: len(people) - part.held_out]
        self.recipe = read_recipe(part.recipe, part.changes)
        self.folder = keep / f"{part.name}-{_digest([dict(part.settings)])}"

    @cached_property
    def store(self) -> PreparedStudy:
        """The prepared study; what is whole is not prepared again."""
        self.folder.mkdir(parents=True, exist_ok=True)
        prepare(self.study, self.folder / "store", detrend=self.part.detrend, dtype="float32")
        return open_prepared(self.folder / "store")

    @cached_property
    def data(self) -> TrainingData:
        """Windows of whole films: nothing that a row answers to lies outside its window."""
        sides = split(
            self.store.runs,
            {},
            validation_groups=self.validation,
            test_groups=(*self.adapting, *self.test),
            held_out_subjects=self.held_out,
        )
        return TrainingData(
            [self.store],
            sides,
            stimulus_series([self.store], _no_stimulus),
            {f"simulated/{person}": row for row, person in enumerate(self.trained)},
            frequency=self.recipe.features.frequency,
            length=self.recipe.data.length,
            step=self.recipe.data.step,
        )

    def model(self, seed: int, report: Callable[[dict[str, float]], None] | None = None) -> Encoder:
        """Train with a seed, or read what was trained before."""
        settings = replace(self.recipe.training, seed=seed)
        recipe = replace(self.recipe, training=settings)
        folder = self.folder / f"model-{_digest([_plain(recipe), self.part.test])}"
        folder.mkdir(parents=True, exist_ok=True)
        encoder = new_encoder(recipe, self.data)
        model, _ = train(encoder, self.data, settings, folder=folder, resume=True, report=report)
        return model

    def stretches(self, films: tuple[str, ...], people: tuple[str, ...]) -> list[Stretch]:
        """Of these films and people, whatever their side."""
        return [
            one
            for one in self.data.stretches
            if one.run.task in films and one.run.subject in people
        ]

    def predicted(self, model: Encoder, people: tuple[str, ...], *, unseen: bool = False) -> Rows:
        """Rows of the test films."""
        found = predictions(model, self.data, self.stretches(self.test, people), unseen=unseen)
        return {
            (stretch.run.task, stretch.run.subject): rows.astype(np.float64)
            for stretch, rows, _ in found
        }

    def measured(self, films: tuple[str, ...], people: tuple[str, ...]) -> Rows:
        """Rows of BOLD, as prepared, of the stretches of films."""
        return {
            (one.run.task, one.run.subject): self.store.window(
                one.run, one.first, one.stop - one.first, np.float64
            )
            for one in self.stretches(films, people)
        }

    def states(self, model: Encoder, films: tuple[str, ...]) -> dict[str, np.ndarray]:
        """States that the head reads (rows, R) in the rows of films, the same for everyone."""
        found = {}
        model.eval()
        for one in self.stretches(films, (self.study.subjects[-1],)):
            batch = self.data.batch(self.data.cover([one]))
            with torch.inference_mode():
                states = model.states(batch.features).flatten(0, 1)
            found[one.run.task] = states[: one.stop - one.first].numpy().astype(np.float64)
        return found

    def design(self, film: str) -> tuple[np.ndarray, np.ndarray]:
        """Delayed features of the rows of a film, and the band of each column."""
        one = self.stretches((film,), self.study.subjects[:1])[0]
        rows = np.arange(one.first, one.stop) - round(self.study.rest)
        return delayed(self.study.features(film).series, rows)

    def prepared_truth(self, values: np.ndarray) -> np.ndarray:
        """What was done to the BOLD of a run, scale aside (volumes, n) to (rows, n)."""
        one = self.stretches(self.test[:1], self.study.subjects[:1])[0]
        # Rows of the store are volumes: one a second, the film begins at a whole one.
        flat = detrend(values, axis=0) if self.part.detrend else values
        return np.asarray(flat[one.first : one.stop])

    def ceiling(self, people: str | tuple[str, ...], knows: str, linear: bool = False) -> Any:
        """Expected score (outputs,) in the test films of one who knows the truth."""
        key = _digest([people, knows, linear, self.part.test])
        file = self.folder / f"ceiling-{key}.npy"
        if not file.is_file():
            np.save(
                file,
                self.study.ceiling(
                    people, knows, linear=linear, films=self.test, prepare=self.prepared_truth
                ),
            )
        return np.load(file)

    def ceilings(self, people: tuple[str, ...], knows: str, linear: bool = False) -> np.ndarray:
        """Of each person (people, outputs)."""
        return np.stack([self.ceiling(person, knows, linear) for person in people])

    def affected(self) -> np.ndarray:
        """Outputs in the regions that nonlinear drives move."""
        names = {name for regions in NONLINEAR_REGIONS.values() for name in regions}
        found = [
            index for key, index in self.study.regions.items() if key.rpartition("_")[0] in names
        ]
        return np.unique(np.concatenate(found))

    def ridge(self, *, group: bool = False) -> tuple[dict[str, Rows], str]:
        """Test rows predicted by ridge and banded ridge, trained on what the model was trained on.

        Of each person, or of "group": the mean of the people. Films for validation are trained on
        too: ridge has no other use of them.
        """
        people = ("group",) if group else self.trained
        films = self.study.film_names
        films = films[: len(films) - self.part.test - self.part.adapting]
        parts: list[Sums] = []
        for number, film in enumerate(films):
            design, bands = self.design(film)
            bold = self.measured((film,), self.trained)
            values = [bold[film, person] for person in self.trained]
            values = [np.mean(values, axis=0)] if group else values
            sums = film_sums(design, np.concatenate(values, axis=1))
            if number < FOLDS:
                parts.append(sums)
            else:
                parts[number % FOLDS] += sums
        weights, told = banded(parts, bands)
        found: dict[str, Rows] = {name: {} for name in weights}
        for film in self.test:
            design, _ = self.design(film)
            for name, matrix in weights.items():
                rows = np.split(design @ matrix, len(people), axis=1)
                found[name] |= {(film, p): r for p, r in zip(people, rows, strict=True)}
        return found, told


def scored(predicted: Rows, measured: Rows) -> Scores:
    """Correlations (films, people, outputs) of what both have."""
    films = list(dict.fromkeys(film for film, _ in measured))
    people = list(dict.fromkeys(person for _, person in measured))
    return np.array([[correlation(predicted[f, p], measured[f, p]) for p in people] for f in films])


def _no_stimulus(stimulus: Any) -> Series:
    raise TypeError(f"{stimulus} is no feature series")


def _plain(recipe: TrainingRecipe) -> dict[str, Any]:
    table = recipe.as_table()
    return {key: table[key] for key in ("data", "encoder", "training")}


def _digest(what: Any) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]
