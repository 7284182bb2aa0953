"""Features that say nothing of the BOLD score as chance does, and a leaking split does not.

On a simulated study, models are fitted to some films and scored on others. The score of features
that were shifted, taken from another film or given random phases lies within the 95 % of a null
made by circular shifts; that of the features themselves lies above it. So that this can fail, the
same is asked of splits that leak, which must lie outside.

The rests before and after the films, and the first 20 s, are not scored: all films begin alike.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from tribrain.evaluation import controls
from tribrain.evaluation.ridges import FIRRidge, HRFRidge
from tribrain.evaluation.statistics.nulls import Null, null_correlations
from tribrain.studies.simulated import Simulated

REPETITION_TIME = 2.0
LEAST = 30  # rows, 60 s
BEGINNING = 20.0  # seconds
TRAINED, TESTED = ("film1", "film2", "film3"), ("film4", "film5")
STUDY = Simulated(
    seed=3,
    n_subjects=3,
    films=5,
    minutes=6.0,
    space=20,
    repetition_time=REPETITION_TIME,
    snr=1.0,
    dims=6,
)
MODELS = {
    "fir": lambda: FIRRidge(delays=range(6), folds=3, per_output=False),
    "hrf": lambda: HRFRidge(repetition_time=REPETITION_TIME, folds=3, per_output=False),
}
CONTROLS = ("shifted", "other film", "phases")
SEEDS = range(10)


@cache
def data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features (rows, columns), BOLD (people, rows, 20), each row's film, and whether it counts."""
    features, bold, films, kept = [], [], [], []
    runs = {(run.subject, run.task): run for run in STUDY.runs()}
    for film in (*TRAINED, *TESTED):
        seconds = STUDY.times(film) - STUDY.rest
        series = STUDY.features(film).series
        columns = np.concatenate([one.reshape(-1, one.shape[-1]) for one in series.values()])
        at = np.arange(columns.shape[1]) / 2.0
        sampled = np.stack([np.interp(seconds, at, one, left=0, right=0) for one in columns], 1)
        features.append(sampled)
        bold.append([runs[person, film].bold.load().values for person in STUDY.subjects])
        films += [film] * len(seconds)
        kept.append((seconds >= BEGINNING) & (seconds < at[-1]))
    measured = np.concatenate(bold, axis=1)
    scored, labels = np.concatenate(kept), np.array(films)
    # Scores are of courses in time: means of runs are taken out, as a high-pass does.
    for film in set(films):
        rows = labels == film
        measured[:, rows] -= measured[:, rows & scored].mean(axis=1, keepdims=True)
    return np.concatenate(features), measured, labels, scored


def changed(kind: str, seed: int) -> np.ndarray:
    x, _, films, _ = data()
    if kind == "shifted":
        rows = controls.draw_shift(len(x), LEAST, seed, films)
        return controls.circular_shift(x, rows, films, least=LEAST)
    if kind == "other film":
        return controls.other_film(x, films, films, seed)
    return controls.phase_randomised(x, seed, films)


def null_of(x: np.ndarray, model: str, used: np.ndarray, tested: np.ndarray) -> Null:
    """The score on tested rows of a model fitted to used ones, with its null; all people."""
    _, bold, films, _ = data()
    together = np.concatenate(list(bold), axis=1)
    fitted = MODELS[model]().fit(x, together, runs=films, used=used)
    predicted = np.split(fitted.predict(x, runs=films)[tested], len(bold), axis=1)
    pairs = list(zip(predicted, bold[:, tested], strict=True))
    return null_correlations(
        pairs, kind="shift", n=300, runs=films[tested], least=LEAST, reduce="mean"
    )


def inside(null: Null) -> bool:
    low, high = null.interval_mean
    return low <= null.observed_mean <= high


def split() -> tuple[np.ndarray, np.ndarray]:
    _, _, films, scored = data()
    return scored & np.isin(films, TRAINED), scored & np.isin(films, TESTED)


@pytest.mark.parametrize("model", sorted(MODELS))
def test_the_features_themselves_lie_above_the_null(model):
    null = null_of(data()[0], model, *split())
    assert null.observed_mean > 0.2
    assert null.observed_mean > null.mean_null.max()
    assert null.p_mean < 0.01


@pytest.mark.parametrize("kind", CONTROLS)
@pytest.mark.parametrize("model", sorted(MODELS))
def test_controls_lie_inside_the_null(model, kind):
    """Of ten draws nine and a half are expected inside; seven or fewer are one in a hundred."""
    nulls = [null_of(changed(kind, seed), model, *split()) for seed in SEEDS]
    assert sum(map(inside, nulls)) >= 8
    assert abs(np.mean([null.observed_mean for null in nulls])) < 0.05


@pytest.mark.parametrize("kind", CONTROLS)
@pytest.mark.parametrize("model", sorted(MODELS))
def test_rows_of_the_test_in_training_are_found_out(model, kind):
    trained, tested = split()
    null = null_of(changed(kind, 0), model, trained | tested, tested)
    assert not inside(null)
    assert null.observed_mean > null.mean_null.max()


def test_neighbours_of_the_test_in_training_are_found_out():
    """Every other row: slow features of nothing know a row from those beside it."""
    trained, tested = split()
    half = tested & (np.arange(len(tested)) % 2 == 0)
    null = null_of(changed("phases", 0), "fir", (trained | tested) & ~half, half)
    assert null.observed_mean > null.interval_mean[1]


def test_other_people_are_a_reference_and_no_null():
    """Their BOLD of the same film is above the null: it holds what the film does."""
    _, bold, films, _ = data()
    _, tested = split()
    pairs = [
        (np.delete(bold, person, axis=0).mean(0)[tested], measured[tested])
        for person, measured in enumerate(bold)
    ]
    null = null_correlations(pairs, kind="shift", n=300, runs=films[tested], least=LEAST)
    assert null.observed_mean > null.mean_null.max()
