"""Transformers of the Alice benchmark: small encoders of the project, on the mean of the people.

They read what the ridges read, but not under a response: word rate and components of the middle
layer of MiniLM twice a second, and the study's sound power (of which nothing else is there). For
each fold an encoder is trained on the rows that ridge is fitted to, by the same recipe whatever the
fold; nothing is stopped early or chosen on rows that are tested.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from alice_rows import HIGH_PASS, Bench, Way
from song_members import states_of
from tribrain.encoder.network import SubjectRow
from tribrain.studies.alice import DISCARDED, REPETITION_TIME, ROWS, Alice, folds
from tribrain.studies.groups import Span
from tribrain.studies.prepare import prepare
from tribrain.studies.prepared import PreparedStudy, open_prepared
from tribrain.training.data import TrainingData
from tribrain.training.loop import train
from tribrain.training.mean_of_people import MeanData
from tribrain.training.run import new_encoder
from tribrain.training.run_files import recipe_text
from tribrain.training.series import Series, faded
from tribrain.training.settings import TrainingRecipe, read_recipe

LAG = 5.0  # seconds
CHANGES: tuple[str, ...] = ()
"""To the recipe `song`."""
_PAST = 20
"""Seconds before the rows tested whose features the encoder is given."""


def members(
    study: Alice,
    bench: Bench,
    components: np.ndarray,
    keep: Path,
    seeds: int,
    changes: Sequence[str] = (),
) -> list[Way]:
    """Predictions of encoders that differ in their seeds; each is trained in every fold.

    Parameters
    ----------
    study : Alice
    bench : Bench
    components : ndarray (words, layers, k)
    keep : Path
        Where the prepared study and the predictions lie.
    seeds : int
    changes : sequence of str
        Further ones to the recipe.
    """
    prepare(study, keep / "alice", detrend=False, high_pass=HIGH_PASS, dtype="float32")
    prepared = open_prepared(keep / "alice")
    recipe = read_recipe("song", [*CHANGES, *changes])
    series = faded(encoder_series(bench, components), recipe.data.fading)
    return [_member(prepared, series, recipe, seed, keep) for seed in range(seeds)]


def encoder_series(bench: Bench, components: np.ndarray) -> Series:
    """What ridge reads, once a second on the clock of the chapter, sooner by the lag.

    Returns
    -------
    Series
        ``words`` (layers, k, time) and ``nuisance`` (1, 2, time).
    """
    n = round(bench.stimulus.duration)
    seconds = np.arange(n) - DISCARDED * REPETITION_TIME + LAG  # of the run
    rows = REPETITION_TIME * np.arange(ROWS)

    def resampled(x: np.ndarray) -> np.ndarray:
        return np.stack([np.interp(seconds, rows, column) for column in x.T]).astype(np.float32)

    words = [resampled(bench.words(components[:, k])) for k in range(components.shape[1])]
    return Series({"words": np.stack(words), "nuisance": resampled(bench.nuisance)[None]}, 1.0)


def _member(
    study: PreparedStudy, series: Series, recipe: TrainingRecipe, seed: int, keep: Path
) -> Way:
    settings = dataclasses.replace(recipe.training, seed=seed)
    recipe = dataclasses.replace(recipe, training=settings)
    told = hashlib.sha256(recipe_text(recipe).encode())
    for name in sorted(series.values):
        told.update(np.ascontiguousarray(series.values[name]).data)
    file = keep / f"member-{told.hexdigest()[:12]}-seed{seed}.npz"
    if not file.is_file():
        start = time.perf_counter()
        found = [_fold(study, series, recipe, rows, test) for rows, test in folds()]
        named = {str(number): one for number, one in enumerate(found)}
        partial = file.with_suffix(".part.npz")
        np.savez(partial, seconds=time.perf_counter() - start, **named)  # type: ignore[arg-type]
        partial.replace(file)
    with np.load(file) as kept:
        group = [kept[str(number)] for number in range(len(folds()))]
        return Way(group, float(kept["seconds"]))


def _fold(
    study: PreparedStudy,
    series: Series,
    recipe: TrainingRecipe,
    rows: np.ndarray,
    test: np.ndarray,
) -> np.ndarray:
    """Train on some rows of the BOLD; the prediction at others (rows, regions)."""
    edges = [0, *(np.flatnonzero(np.diff(rows) > 1) + 1).tolist(), len(rows)]
    parts = [(int(rows[a]), int(rows[b - 1]) + 1) for a, b in pairwise(edges)]
    shown = {
        _span(study, number, *part): "train" for number in range(len(study.runs)) for part in parts
    }
    mean = MeanData(_data(study, shown, series, recipe))
    encoder, _ = train(new_encoder(recipe, mean), mean, recipe.training, validate=False)
    first, last = int(test[0]), int(test[-1]) + 1
    past = _PAST / REPETITION_TIME
    asked = _data(study, {_span(study, 0, first - past, last): "test"}, series, recipe)
    (stretch,) = asked.stretches
    states = states_of(encoder, asked, stretch)
    row = encoder.head.rows[encoder.unseen()]
    assert isinstance(row, SubjectRow)
    weight, bias = (values.detach().double().numpy() for values in (row.weight, row.bias))
    # Rows of the prepared study are a second apart.
    at = np.round(test * REPETITION_TIME - stretch.run.origin).astype(int) - stretch.first
    found: np.ndarray = states[at] @ weight + bias
    return found


def _span(study: PreparedStudy, number: int, first: float, last: float) -> Span:
    """Rows of the BOLD, as `TrainingData` has them: seconds of what is read before the lag."""
    run = study.runs[number]
    begin, end = (edge * REPETITION_TIME - LAG for edge in (first, last))
    return Span(study.name, run.name, run.subject, begin, end, "alice")


def _data(
    study: PreparedStudy, spans: dict[Span, str], series: Series, recipe: TrainingRecipe
) -> TrainingData:
    contents = {shown.source.content() for run in study.runs for shown in run.shown}
    return TrainingData(
        [study],
        spans,
        dict.fromkeys(contents, series),
        {},
        frequency=recipe.features.frequency,
        length=recipe.data.length,
        step=recipe.data.step,
        lag=LAG,
    )
