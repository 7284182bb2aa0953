"""How well each way of adapting does with so many minutes of a new person, where truth is known.

A model is trained on 8 people of a simulated study (14 films of 5 minutes, 60 parcels) and adapted
to others, each by the first minutes of those films; scored are two films that neither was given.
Scores are correlations with the measured BOLD, means over parcels, films and people; "ceiling" is
what one reaches who knows all that follows from features in each person.

zero       the row of people never seen
alone      ridge on the states of the encoder from zero, as if nobody else were known
ridge, head, lora, all   `tribrain adapt --method`, each person alone
cohort     ridge, all of them together: first the row that they share

Usage: python benchmarks/adapting.py FOLDER [--kinds nonlinear linear] [--minutes 2 5 10 20 40]
       [--methods ridge cohort head lora all] [--people 6] [--trained 2]

About half an hour on two cores; studies and models are kept in FOLDER. The ways that train are
measured on the first --trained people, as they take longer (--people 2 for the others on the same).
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np

from tribrain.encoder.adapters import prior_row, with_rows
from tribrain.encoder.models import load_model
from tribrain.encoder.predict import TrainedModel
from tribrain.errors import InputWarning
from tribrain.moments import Moments
from tribrain.studies.prepare import prepare
from tribrain.studies.prepared import PreparedStudy, open_prepared
from tribrain.studies.simulated import Simulated
from tribrain.training.adapt import AdaptSettings, adapt
from tribrain.training.adapt_data import adaptation_data, read_rows
from tribrain.training.adapt_people import ridge_people
from tribrain.training.run import train_recipe
from tribrain.training.settings import read_recipe

NEW = ("09", "10", "11", "12", "13", "14")
TEST = 0.12  # the last two of 16 films
RECIPE = (
    f"data.held_out={list(NEW)}",
    "data.test_groups=['film15','film16']",
    "data.length=60",
    "data.step=30",
    "encoder.hidden=144",
    "encoder.depth=2",
    "encoder.heads=4",
    "encoder.rank=64",
    "encoder.dropout=0.1",
    "training.epochs=12",
    "training.rate=2e-3",
    "training.decay=0.05",
    "training.modality_dropout=0.1",
    "training.subject_dropout=0.2",
    "training.expected_subjects=true",
)
TRAINS = ("head", "lora", "all")


def study_and_model(folder: Path, kind: str) -> tuple[Simulated, PreparedStudy, TrainedModel]:
    """The study of a kind and the model of its first 8 people; both are kept."""
    simulated = Simulated(
        n_subjects=14,
        films=16,
        minutes=5.0,
        space=60,
        nonlinear=kind == "nonlinear",
        snr=0.7,
        seed=1,
    )
    store, run = folder / kind, folder / f"{kind}_run"
    if not store.exists():
        prepare(simulated, store)
    if not (run / "model").exists():
        recipe = read_recipe("debug", [*RECIPE, f"data.studies={[str(store)]}"])
        train_recipe(recipe, run, resume=True, said=print)
    model = load_model(run / "model", device="cpu", cache=False)
    assert isinstance(model, TrainedModel)
    return simulated, open_prepared(store), model


def alone(base: TrainedModel, study: PreparedStudy, person: str, minutes: float) -> float:
    """Score of ridge from zero."""
    space = study.space
    prior = prior_row(base.encoder, None, space.size)
    start = with_rows(base.card, base.encoder, [prior, prior])
    data = adaptation_data(
        base.card, start, study, [person], extract=_refuse, minutes=minutes, test=TEST
    )
    rows = read_rows(start, data, data.side("train"))
    (change,) = ridge_people(rows, *(part.numpy() for part in prior)).changes
    found = []
    for stretch in data.side("test"):
        held = read_rows(start, data, [stretch])
        score = Moments()
        score.add(held.states @ change[0] + change[1], held.measured)
        found.append(np.nan_to_num(score.correlation()).mean())  # constant: 0
    return float(np.mean(found))


def _refuse(stimulus: object) -> None:
    raise AssertionError(f"{stimulus} is a feature series and needs no extraction")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--kinds", nargs="+", default=["nonlinear", "linear"], choices=["nonlinear", "linear"]
    )
    parser.add_argument("--minutes", nargs="+", type=float, default=[2, 5, 10, 20, 40])
    parser.add_argument(
        "--methods",
        nargs="+",
        default=["alone", "ridge", "cohort", *TRAINS],
        choices=["alone", "ridge", "cohort", *TRAINS],
    )
    parser.add_argument("--people", type=int, default=len(NEW))
    parser.add_argument("--trained", type=int, default=2)
    given = parser.parse_args()
    warnings.simplefilter("ignore", InputWarning)
    for kind in given.kinds:
        simulated, study, base = study_and_model(given.folder, kind)
        people = NEW[: given.people]
        films = simulated.film_names[-2:]
        ceiling = np.mean([simulated.ceiling(p, "features", films=films).mean() for p in people])
        print(f"{kind}: ceiling {ceiling:.4f}")
        print(f"{'minutes':>8} {'way':8}{'people':>7}{'zero':>9}{'adapted':>9}{'error':>8}{'s':>7}")
        for minutes in given.minutes:
            for way in given.methods:
                began = time.perf_counter()
                chosen = people[: given.trained] if way in TRAINS else people
                before, after = scores(base, study, chosen, way, minutes)
                spent = time.perf_counter() - began
                gain = after - before
                error = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else np.nan
                print(
                    f"{minutes:8g} {way:8}{len(chosen):7}{before.mean():9.4f}{after.mean():9.4f}"
                    f"{error:8.4f}{spent / len(chosen):7.1f}",
                    flush=True,
                )


def scores(
    base: TrainedModel, study: PreparedStudy, people: tuple[str, ...], way: str, minutes: float
) -> tuple[np.ndarray, np.ndarray]:
    """Zero-shot and adapted score of each person."""
    method = way if way in TRAINS else "ridge"
    settings = AdaptSettings(method, minutes, TEST)
    if way == "cohort":
        found = adapt(base, study, people, settings)[1]
    elif way == "alone":
        zero, _ = scores(base, study, people, "ridge", minutes)
        return zero, np.array([alone(base, study, person, minutes) for person in people])
    else:
        found = [adapt(base, study, [person], settings)[1][0] for person in people]
    return np.array([one.zero_shot for one in found]), np.array([one.adapted for one in found])


if __name__ == "__main__":
    main()
