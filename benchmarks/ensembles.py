"""Single models, their mean, weighted means and one model that is taught, on simulated studies.

Every row is a mean over studies (simulated with other seeds) of the correlation with the BOLD of
films that were neither trained on nor used for weights, over runs and regions: of people who were
trained on, and of one who was not. Behind the sign the standard error over studies of the
difference from the single models.

Members are averaged with factors as `tribrain ensemble` finds them, "as they are", or standardised.
"seeds" are one recipe with other random numbers; "unlike" are one that reads everything, one that
stopped after a fifth of the epochs, and two that read sound or pictures alone. The taught model has
a seed of its own, and is compared with that seed untaught.

Usage: python benchmarks/ensembles.py [--studies 3] [--members 4] [--epochs 6]
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tribrain.encoder.ensembles import EnsembleModel
from tribrain.encoder.predict import TrainedModel
from tribrain.errors import InputWarning
from tribrain.studies.prepare import prepare
from tribrain.studies.prepared import PreparedStudy, open_prepared
from tribrain.studies.simulated import Simulated
from tribrain.training.data import TrainingData
from tribrain.training.ensemble import judge, scale_factors, softmax_weights
from tribrain.training.loop import train
from tribrain.training.model_rows import ModelledRows
from tribrain.training.run import model_card, new_encoder, training_data
from tribrain.training.series import Series
from tribrain.training.settings import TrainingRecipe, read_recipe
from tribrain.training.teaching import TaughtData, write_lessons

TEMPERATURES = (np.inf, 0.3, 0.1, 0.03, 0.0)
SHARES = (0.5, 0.75, 1.0)
Scores = dict[str, list[tuple[float, float]]]


def make_study(folder: Path, seed: int, snr: float) -> PreparedStudy:
    study = Simulated(
        seed=seed, n_subjects=5, films=12, minutes=4.0, space=60, snr=snr, nonlinear=True
    )
    prepare(study, folder)
    return open_prepared(folder)


def recipe_of(study: PreparedStudy, seed: int, epochs: int) -> TrainingRecipe:
    return read_recipe(
        "debug",
        [
            f"data.studies={[str(study.folder)]}",
            "data.length=60",
            "data.step=30",
            'data.held_out=["05"]',
            'data.validation_groups=["film11", "film12"]',
            'data.test_groups=["film8", "film9", "film10"]',
            "data.validation=0.0",
            "encoder.dropout=0.2",
            "training.rate=2e-3",
            "training.decay=0.1",
            f"training.epochs={epochs}",
            f"training.seed={seed}",
        ],
    )


def reading(data: TrainingData, modalities: Sequence[str]) -> TrainingData:
    """The data with some of their modalities."""
    series = {
        content: Series({name: one.values[name] for name in modalities}, one.rate)
        for content, one in data.series.items()
    }
    sides = {stretch.span: stretch.side for stretch in data.stretches}
    return TrainingData(
        data.studies,
        sides,
        series,
        data.subjects,
        frequency=data.frequency,
        length=data.length,
        step=data.step,
        lag=data.lag,
    )


def fitted(recipe: TrainingRecipe, data: TrainingData, name: str) -> TrainedModel:
    encoder, _ = train(new_encoder(recipe, data), data, recipe.training, validate=False)
    card = model_card(recipe, data, data.studies, name)
    return TrainedModel(card, encoder)


def film_scores(
    models: Sequence[TrainedModel],
    data: TrainingData,
    combine: Callable[[list[np.ndarray]], list[np.ndarray]] | None = None,
) -> list[tuple[float, float]]:
    """Correlation with test films of people who were trained on, and of the one who was not."""
    found = []
    for side in ("test", "held_out_unseen"):
        spans = {one.span: side for one in data.side(side)}
        told = judge(ModelledRows(models, data.studies, spans), combine)
        found.append(np.nanmean(told.correlations, axis=1))
    return [(float(own), float(new)) for own, new in zip(*found, strict=True)]


def compare(
    scores: Scores, label: str, members: list[TrainedModel], data: TrainingData
) -> EnsembleModel:
    """Score members and their averages; returns the plain mean."""
    spans = {one.span: one.side for one in data.side("validation")}
    told = judge(ModelledRows(members, data.studies, spans))
    ensembles = {"mean": EnsembleModel(members)}
    factors = scale_factors(told.deviations, told.correlations)
    for temperature in TEMPERATURES:
        weights = softmax_weights(told.correlations, temperature)
        label_of = f"softmax {temperature:g}"
        ensembles[label_of] = EnsembleModel(members, weights, factors)
        ensembles[f"{label_of}, as they are"] = EnsembleModel(members, weights)
        alike = 1 / np.maximum(told.deviations, 1e-6)
        ensembles[f"{label_of}, standardised"] = EnsembleModel(members, weights, alike)
    singles = film_scores(members, data)
    scores.setdefault(f"{label}: one model", []).append(tuple(np.mean(singles, axis=0)))
    if label == "unlike":
        for member, score in zip(members, singles, strict=True):
            scores.setdefault(f"{label}: {member.name}", []).append(score)
    found = film_scores(
        members, data, lambda parts: [one.combined(parts) for one in ensembles.values()]
    )
    for name, score in zip(ensembles, found, strict=True):
        scores.setdefault(f"{label}: {name}", []).append(score)
    return ensembles["mean"]


def teach(
    scores: Scores, teacher: EnsembleModel, study: PreparedStudy, epochs: int, seed: int
) -> None:
    """Score a model that is taught, for each share; 0 is the same seed without a teacher."""
    for share in (0.0, *SHARES):
        recipe = recipe_of(study, seed, epochs)
        data = training_data(recipe, [study])
        with tempfile.TemporaryDirectory() as folder:
            settings = recipe.training
            if share:
                lessons = write_lessons(teacher, data, ("train",), Path(folder))
                taught = TaughtData(data, lessons, share, settings.subject_dropout)
                settings = dataclasses.replace(settings, subject_dropout=0.0)
            else:
                taught = data
            student = fitted(dataclasses.replace(recipe, training=settings), taught, "student")
        name = f"taught, share {share:g}" if share else "the same seed untaught"
        scores.setdefault(name, []).extend(film_scores([student], data))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=3)
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--snr", type=float, default=0.5)
    parser.add_argument("--parts", nargs="+", default=["seeds", "taught", "unlike"])
    options = parser.parse_args()
    warnings.simplefilter("ignore", InputWarning)
    scores: Scores = {}
    begun = time.perf_counter()
    for number in range(options.studies):
        with tempfile.TemporaryDirectory() as folder:
            study = make_study(Path(folder) / "study", number, options.snr)
            data = training_data(recipe_of(study, 0, options.epochs), [study])
            seeds = [
                fitted(recipe_of(study, seed, options.epochs), data, f"seed {seed}")
                for seed in range(options.members)
            ]
            teacher = compare(scores, "seeds", seeds, data)
            if "taught" in options.parts:
                teach(scores, teacher, study, options.epochs, seed=100)
            if "unlike" in options.parts:
                few = recipe_of(study, 11, max(1, options.epochs // 5))
                unlike = [seeds[0], fitted(few, data, "fewer epochs")]
                for seed, one in enumerate(("audio", "video"), start=12):
                    part = reading(data, [one])
                    unlike.append(fitted(recipe_of(study, seed, options.epochs), part, f"{one}"))
                compare(scores, "unlike", unlike, data)
        print(f"study {number}: {time.perf_counter() - begun:.0f} s", flush=True)
        show(scores)


def show(scores: Scores) -> None:
    print(f"{'':36}{'own':>8}{'':10}{'new person':>12}")
    for name, values in scores.items():
        group = name.partition(":")[0]
        base = scores[f"{group}: one model" if ":" in name else "the same seed untaught"]
        rows = np.array(values)
        gains = rows - np.array(base)
        error = gains.std(axis=0, ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else [np.nan] * 2
        told = "".join(
            f"{mean:8.4f} {gain:+.4f}±{one:.4f}"
            for mean, gain, one in zip(rows.mean(axis=0), gains.mean(axis=0), error, strict=True)
        )
        print(f"{name:36}{told}")


if __name__ == "__main__":
    main()
