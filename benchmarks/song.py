"""The SONG benchmark: the recipe `song`, several seeds and their average, beside tuned ridge.

Splits are those of the study (`tribrain.studies.song`): W3 tests the last part of each film, X
whole films that were not trained on; 20 people train, 6 are held out. BOLD is z-scored by person,
parcel and run on the rows of each part. Scores are of runs, then their mean over the runs:

r        mean over parcels and the 20 people of the correlation with their own prediction
zero     the same for the 6 held out, predicted by the row of people never seen (ridge: the group's)
R_group  the prediction for people never seen against the mean of the 26

Errors are standard errors over people. Ridge is trained on each person's own rows ("own") or on
the mean of the 20 ("group"); penalty, fading of the components and a lag of -1 to 1 s are chosen
by leaving out a film of the training rows.

Usage: python benchmarks/song.py FOLDER [--seeds 3] [--splits W3 X] [--set training.epochs=12]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from tribrain.studies.groups import Span
from tribrain.studies.prepare import prepare
from tribrain.studies.prepared import PreparedStudy, open_prepared
from tribrain.studies.song import FILMS, HELD_OUT, SPLITS, TRAINED, Song, Split
from tribrain.training.data import TrainingData, faded, stimulus_series
from tribrain.training.loop import train
from tribrain.training.run import new_encoder
from tribrain.training.settings import TrainingRecipe, read_recipe
from tribrain.training.validation import predictions

PENALTIES = np.logspace(0, 6, 13)
FADINGS = (0.0, 0.25, 0.5)
LAGS = (-1, 0, 1)

Rows = dict[tuple[str, str], np.ndarray]  # (film, person) to z-scored (rows, parcels)


class Bench:
    """Recordings and components of one split, cut and z-scored."""

    def __init__(self, study: PreparedStudy, split: Split) -> None:
        self.study, self.split = study, split
        self.people = (*TRAINED, *HELD_OUT)
        self.train = self._cut(split.train)
        self.test = self._cut(split.test)
        series = stimulus_series([study], lambda stimulus: None)
        self.components = {
            run.task: series[run.shown[0].source.content()].values["components"][0].T
            for run in study.runs
        }

    def _cut(self, rows: Mapping[str, tuple[int, int]]) -> Rows:
        found = {}
        for run in self.study.runs:
            if run.task in rows and run.subject in self.people:
                first, last = rows[run.task]
                values = self.study.window(run, first - round(run.origin), last - first, np.float64)
                found[run.task, run.subject] = zscored(values)
        return found

    def spans(self) -> dict[Span, str]:
        """Sides of the spans for `TrainingData`, which reads BOLD 5 s after the features."""
        found = {}
        for side, rows in (("train", self.split.train), ("test", self.split.test)):
            for run in self.study.runs:
                if run.task not in rows or run.subject not in self.people:
                    continue
                first, last = rows[run.task]
                held = "" if run.subject in TRAINED else "held "
                span = Span("song", run.name, run.subject, first - 5.0, last - 5.0, run.task)
                found[span] = held + side
        return found


def zscored(values: np.ndarray) -> np.ndarray:
    """Each column with mean 0 and standard deviation 1; columns that do not vary stay 0."""
    scale = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(scale > 0, scale, np.inf)


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlation of each column of two arrays (rows, columns)."""
    return (zscored(a) * zscored(b)).mean(axis=0)


def scores(bench: Bench, own: Rows, group: dict[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    """Mean and standard error over people of r and zero; R_group.

    Parameters
    ----------
    own : dict of (film, person) to ndarray (rows, parcels)
        Predictions for those who are trained on.
    group : dict of film to ndarray (rows, parcels)
        Predictions for people never seen.
    """
    films = sorted({film for film, _ in bench.test})

    def over_people(people: tuple[str, ...], predicted: Callable[[str, str], np.ndarray]) -> tuple:
        values = np.array(
            [
                np.mean([correlation(predicted(f, p), bench.test[f, p]).mean() for f in films])
                for p in people
            ]
        )
        return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))

    means = {f: np.mean([bench.test[f, p] for p in bench.people], axis=0) for f in films}
    together = [correlation(group[f], means[f]).mean() for f in films]
    return {
        "r": over_people(TRAINED, lambda f, p: own[f, p]),
        "zero": over_people(HELD_OUT, lambda f, p: group[f]),
        "R_group": (float(np.mean(together)), float("nan")),
    }


def design(bench: Bench, film: str, rows: tuple[int, int], fading: float, lag: int) -> np.ndarray:
    """Faded components (rows, 100) of some rows, `lag` seconds earlier than the BOLD."""
    components = bench.components[film]
    at = np.clip(np.arange(*rows) - lag, 0, len(components) - 1)
    return zscored(components[at]) * np.arange(1, components.shape[1] + 1) ** -fading


def ridge_weights(x: np.ndarray, y: np.ndarray, penalties: np.ndarray) -> np.ndarray:
    """Weights (penalties, features, targets) by one singular value decomposition."""
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    uy = u.T @ y
    return np.stack([vt.T @ ((s / (s * s + penalty))[:, None] * uy) for penalty in penalties])


def ridge(bench: Bench, targets: Callable[[str], np.ndarray]) -> dict[str, np.ndarray]:
    """Predicted test rows of each film, by ridge whose settings are chosen on training rows."""
    films = sorted(bench.split.train)
    y = {film: targets(film) for film in films}
    best = (-np.inf, 0.0, 0, 0)
    for fading in FADINGS:
        for lag in LAGS:
            x = {f: design(bench, f, bench.split.train[f], fading, lag) for f in films}
            found = np.zeros(len(PENALTIES))
            for left in films:
                rest = [film for film in films if film != left]
                weights = ridge_weights(
                    np.concatenate([x[f] for f in rest]),
                    np.concatenate([y[f] for f in rest]),
                    PENALTIES,
                )
                found += [correlation(x[left] @ w, y[left]).mean() for w in weights]
            place = int(found.argmax())
            best = max(best, (float(found[place]), fading, lag, place))
    _, fading, lag, place = best
    x = np.concatenate([design(bench, f, bench.split.train[f], fading, lag) for f in films])
    (weights,) = ridge_weights(
        x, np.concatenate([y[f] for f in films]), PENALTIES[place : place + 1]
    )
    return {
        film: design(bench, film, rows, fading, lag) @ weights
        for film, rows in bench.split.test.items()
    }


def ridge_scores(bench: Bench) -> dict[str, dict[str, tuple[float, float]]]:
    """Scores of ridge on each person's own rows, and on the group's mean."""
    group = ridge(bench, lambda film: np.mean([bench.train[film, p] for p in TRAINED], axis=0))
    own: Rows = {}
    for person in TRAINED:
        found = ridge(bench, lambda film, person=person: bench.train[film, person])
        own |= {(film, person): rows for film, rows in found.items()}
    of_group = {(film, person): rows for film, rows in group.items() for person in TRAINED}
    return {
        "ridge, own, tuned": scores(bench, own, group),
        "ridge, group, tuned": scores(bench, of_group, group),
    }


def trained(bench: Bench, recipe: TrainingRecipe, seed: int) -> tuple[Rows, dict[str, np.ndarray]]:
    """Predictions of one seed: for those trained on, and for people never seen."""
    torch.manual_seed(seed)
    series = stimulus_series([bench.study], lambda stimulus: None)
    data = TrainingData(
        [bench.study],
        bench.spans(),
        {content: faded(one, recipe.data.fading) for content, one in series.items()},
        {f"song/{person}": row for row, person in enumerate(TRAINED)},
        frequency=recipe.features.frequency,
        length=recipe.data.length,
        step=recipe.data.step,
        standardise=True,
    )
    settings = type(recipe.training)(**{**vars(recipe.training), "seed": seed})
    encoder = new_encoder(
        type(recipe)(recipe.data, recipe.features, recipe.encoder, settings), data
    )
    model, _ = train(encoder, data, settings, validate=False)
    own = {
        (stretch.run.task, stretch.run.subject): predicted.astype(np.float64)
        for stretch, predicted, _ in predictions(model, data, data.side("test"))
    }
    one = [s for s in data.side("test") if s.run.subject == TRAINED[0]]
    group = {
        stretch.run.task: predicted.astype(np.float64)
        for stretch, predicted, _ in predictions(model, data, one, unseen=True)
    }
    return own, group


def averaged(parts: list[tuple[Rows, dict[str, np.ndarray]]]) -> tuple[Rows, dict]:
    """Mean of z-scored predictions."""
    own = {key: np.mean([zscored(o[key]) for o, _ in parts], axis=0) for key in parts[0][0]}
    group = {key: np.mean([zscored(g[key]) for _, g in parts], axis=0) for key in parts[0][1]}
    return own, group


def merged(found: list[dict[str, tuple[float, float]]]) -> dict[str, tuple[float, float]]:
    """Mean over the parts of a split (X has three), errors as of independent parts."""
    return {
        key: (
            float(np.mean([one[key][0] for one in found])),
            float(np.sqrt(np.mean([one[key][1] ** 2 for one in found]))),
        )
        for key in found[0]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--splits", nargs="+", default=["W3", "X"], choices=sorted(SPLITS))
    parser.add_argument("--set", nargs="*", default=[], dest="changes")
    parser.add_argument("--no-ridge", action="store_true")
    given = parser.parse_args()
    recipe = read_recipe("song", given.changes)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "song"
        prepare(Song(given.folder), store, detrend=False, standardize=None, dtype="float32")
        study = open_prepared(store)
        assert {run.task for run in study.runs} == set(FILMS)
        print(f"{'':28}{'r':>16}{'zero':>16}{'R_group':>9}{'seconds':>9}")
        for name in given.splits:
            print(name)
            benches = [Bench(study, split) for split in SPLITS[name]]
            if not given.no_ridge:
                start = time.perf_counter()
                tables = [ridge_scores(bench) for bench in benches]
                spent = time.perf_counter() - start
                for kind in tables[0]:
                    show(kind, merged([table[kind] for table in tables]), spent)
            results: list[list] = [[] for _ in benches]
            for seed in range(given.seeds):
                start = time.perf_counter()
                for bench, found in zip(benches, results, strict=True):
                    found.append(trained(bench, recipe, seed))
                spent = time.perf_counter() - start
                show(
                    f"transformer, seed {seed}",
                    merged([scores(b, *f[-1]) for b, f in zip(benches, results, strict=True)]),
                    spent,
                )
            if given.seeds > 1:
                show(
                    f"transformer, {given.seeds} seeds averaged",
                    merged(
                        [scores(b, *averaged(f)) for b, f in zip(benches, results, strict=True)]
                    ),
                    float("nan"),
                )


def show(name: str, found: dict[str, tuple[float, float]], seconds: float) -> None:
    """Print a row."""
    pairs = "".join(f"{found[k][0]:>8.3f} ± {found[k][1]:.3f}" for k in ("r", "zero"))
    print(f"{name:28}{pairs}{found['R_group'][0]:>9.3f}{seconds:>9.0f}", flush=True)


if __name__ == "__main__":
    main()
