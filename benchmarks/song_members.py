"""Transformers of the SONG benchmark: the mean of the people, then each person in closed form.

The 20 people saw and heard the same, so the encoder and the row of people never seen are trained on
the mean of their z-scored BOLD: what one model for all is to predict, with less noise and a 20th of
the windows (`tribrain.training.mean_of_people`). A person's row is ridge on the encoder's states
towards that row, as there; but windows overlap here, and are cross-faded.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from song_rows import Bench, Films, Predicted, Told, series_of
from tribrain.encoder.network import Encoder, SubjectRow
from tribrain.studies.groups import Span
from tribrain.studies.prepared import PreparedStudy
from tribrain.studies.song import HELD_OUT, TRAINED, Rows
from tribrain.training.adapt_ridge import ridge_row
from tribrain.training.data import Stretch, TrainingData
from tribrain.training.loop import train
from tribrain.training.mean_of_people import MeanData
from tribrain.training.run import new_encoder
from tribrain.training.run_files import recipe_text
from tribrain.training.series import faded
from tribrain.training.settings import TrainingRecipe

LAG = 5.0  # seconds, of the study
PENALTY = 1500.0
"""Of a person's row, in mean squares of the states: the best when the last or first 28 % of the
training rows were left out. Cross-validation on rows that the encoder has been trained on would
choose 20 times that."""
_GAP = 6  # seconds about a block that are not trained on
_FACTORS = (300.0, 1000.0, 3000.0, 1e4, 3e4, 1e5, np.inf)


@dataclass(frozen=True, eq=False)
class Member:
    """A trained encoder's states on all rows of a part, and its row of people never seen.

    Attributes
    ----------
    states : dict of (side, film) to ndarray (rows, R)
    weight, bias : ndarray (R, parcels), (parcels,)
    seconds : float
        Of training.
    """

    states: dict[tuple[str, str], np.ndarray]
    weight: np.ndarray
    bias: np.ndarray
    seconds: float

    @property
    def unit(self) -> float:
        """Mean square of the states on training rows, about their means."""
        shown = np.concatenate([self.states[key] for key in sorted(self.states) if "train" in key])
        return float(((shown - shown.mean(axis=0)) ** 2).mean())

    def group(self, films: Mapping[str, Rows]) -> Films:
        """Test rows as the row of people never seen predicts them."""
        return {film: self.states["test", film] @ self.weight + self.bias for film in films}

    def adapted(
        self, answers: Films, penalty: float | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """A person's row from BOLD of the first rows of each film's training part.

        Parameters
        ----------
        answers : dict of film to ndarray (rows, parcels)
        penalty : float, optional
            In mean squares of the states; by default chosen by leaving blocks of time out.
        """
        films = sorted(answers)
        states = np.concatenate([self.states["train", f][: len(answers[f])] for f in films])
        measured = np.concatenate([answers[film] for film in films])
        factor = self._left_out(states, measured) if penalty is None else penalty
        found = factor * self.unit
        return ridge_row(states, measured, self.weight, self.bias, found)

    def _left_out(self, states: np.ndarray, measured: np.ndarray) -> float:
        """The penalty with the least squared error when fifths of the rows are left out."""
        place = np.arange(len(states))
        errors = np.zeros(len(_FACTORS))
        for block in np.array_split(place, 5):
            kept = (place < block[0] - _GAP) | (place > block[-1] + _GAP)
            for number, factor in enumerate(_FACTORS):
                weight, bias = ridge_row(
                    states[kept], measured[kept], self.weight, self.bias, factor * self.unit
                )
                rest = measured[block] - states[block] @ weight - bias
                errors[number] += ((rest - rest.mean(axis=0)) ** 2).sum()
        return _FACTORS[int(errors.argmin())]


def people(bench: Bench, member: Member, penalty: float = PENALTY) -> Predicted:
    """Predictions of a member: for the 20 by rows of their own, and for people never seen."""
    start = time.perf_counter()
    own: Told = {}
    for person in TRAINED:
        answers = {film: bench.train[film, person] for film in bench.split.train}
        weight, bias = member.adapted(answers, penalty)
        for film in bench.split.test:
            own[film, person] = member.states["test", film] @ weight + bias
    spent = member.seconds + time.perf_counter() - start
    return Predicted(own, member.group(bench.split.test), spent)


def newcomers(
    bench: Bench, member: Member, rows: Mapping[str, Rows], penalty: float | None
) -> Told:
    """Test rows of the 6 held out, whose row is learned from some of their training rows."""
    answers = bench.cut(rows, HELD_OUT)
    found = {}
    for person in HELD_OUT:
        weight, bias = member.adapted({film: answers[film, person] for film in rows}, penalty)
        for film in bench.split.test:
            found[film, person] = member.states["test", film] @ weight + bias
    return found


def member(bench: Bench, recipe: TrainingRecipe, seed: int, keep: Path) -> Member:
    """Train an encoder, unless that was done before.

    Parameters
    ----------
    keep : Path
        Without the ending: of the file in which states and row are kept.
    """
    settings = dataclasses.replace(recipe.training, seed=seed)
    recipe = dataclasses.replace(recipe, training=settings)
    told = hashlib.sha256(recipe_text(recipe).encode()).hexdigest()[:12]
    file = keep.with_name(f"{keep.name}-{told}-seed{seed}.npz")
    if file.is_file():
        with np.load(file) as kept:
            states = {tuple(key.split("/")): kept[key] for key in kept.files if "/" in key}
            return Member(states, kept["weight"], kept["bias"], float(kept["seconds"]))
    start = time.perf_counter()
    mean = MeanData(_data(bench.study, _spans(bench, "train", TRAINED), recipe))
    encoder, _ = train(new_encoder(recipe, mean), mean, settings, validate=False)
    seconds = time.perf_counter() - start
    shown = (TRAINED[0],)  # all saw the same
    spans = _spans(bench, "train", shown) | _spans(bench, "test", shown)
    data = _data(bench.study, spans, recipe)
    states = {
        (stretch.side, stretch.run.task): states_of(encoder, data, stretch)
        for stretch in data.stretches
    }
    row = encoder.head.rows[encoder.unseen()]
    assert isinstance(row, SubjectRow)
    weight, bias = (values.detach().double().numpy() for values in (row.weight, row.bias))
    named: dict[str, Any] = {"/".join(key): values for key, values in states.items()}
    partial = file.with_suffix(".part.npz")
    np.savez(partial, weight=weight, bias=bias, seconds=seconds, **named)
    partial.replace(file)
    return Member(states, weight, bias, seconds)


def states_of(encoder: Encoder, data: TrainingData, stretch: Stretch) -> np.ndarray:
    """States (rows, R) of a stretch, from windows every quarter of their length, cross-faded.

    What reads them is linear, so that this is the cross-fade of the predictions as well.
    """
    length, n = data.length, stretch.stop - stretch.first
    hop = max(length // 4, 1)
    starts = sorted({*range(0, max(n - length, 0), hop), max(n - length, 0)})
    row = np.arange(length)
    fade = np.minimum(np.minimum(row + 1, length - row), length - hop)[:, None]
    encoder.eval()
    total, weights = np.zeros((n, 0)), np.zeros((n, 1))
    for start in starts:
        batch = data.batch([(stretch, stretch.first + start)])
        with torch.inference_mode():
            found = encoder.states(batch.features, batch.present)[0].double().numpy()
        kept = min(length, n - start)
        total = total if total.size else np.zeros((n, found.shape[1]))
        total[start : start + kept] += found[:kept] * fade[:kept]
        weights[start : start + kept] += fade[:kept]
    return total / weights


def _spans(bench: Bench, side: str, people: Sequence[str]) -> dict[Span, str]:
    """Spans of a side for `TrainingData`, which reads BOLD 5 s after the features."""
    rows = bench.split.train if side == "train" else bench.split.test
    return {
        Span(
            *(bench.study.name, run.name, run.subject),
            *(edge - LAG for edge in rows[run.task]),
            run.task,
        ): side
        for run in bench.study.runs
        if run.task in rows and run.subject in people
    }


def _data(study: PreparedStudy, spans: dict[Span, str], recipe: TrainingRecipe) -> TrainingData:
    series = series_of(study)
    return TrainingData(
        [study],
        spans,
        {content: faded(one, recipe.data.fading) for content, one in series.items()},
        {},
        frequency=recipe.features.frequency,
        length=recipe.data.length,
        step=recipe.data.step,
        lag=LAG,
    )
