"""The Alice benchmark: what a small language model adds to word rate and sound power.

27 people heard a chapter of Alice in Wonderland (Brennan et al. 2016); the BOLD of six regions is
predicted in five blocks of time (`tribrain.studies.alice.folds`), 16 s about each left out, by
ridge fitted to the mean of the people. Word vectors of all-MiniLM-L6-v2, their first 20 components,
and the nuisances stand under a canonical haemodynamic response; slow drifts (under 1/128 Hz) are
taken out. The penalty is chosen by four inner folds.

R_group  the prediction against the mean of the 27
r        the same prediction against each person; ± standard error over people
own      as r, fitted to each person alone

All are means over folds and regions of correlations within a fold. The error of R_group, and the
intervals of differences, are of drawn blocks of 30 s.

The components of the word vectors are those of all words, as in the field: no response is in them.
A word's vector is made in the 50 words that end with it; the mean of all layers is one over
several contexts, so that neither is chosen. Transformers read the middle layer (`alice_members`);
their recipe is that of SONG as it is.

Usage: python benchmarks/alice.py FOLDER [--model MINILM] [--keep KEPT] [--shuffles 10] [--seeds 4]
           [--contexts 50 20 10] [--threads 1]

Vectors and members lie in KEPT and are not worked out again.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alice_members import members
from alice_rows import (
    COMPONENTS,
    CONTEXTS,
    EMBEDDING,
    INNER_FOLDS,
    MIDDLE,
    STATES,
    Bench,
    Way,
    averaged,
    components,
    fitted,
    group_interval,
    group_score,
    minilm,
    own_scores,
    people_scores,
    references,
    region_scores,
    word_vectors,
)
from tribrain.evaluation.banded import BandedRidge, GroupKernelRidge
from tribrain.evaluation.controls import LEAST_SHIFT, circular_shift, draw_shift, shuffled_rows
from tribrain.evaluation.kernels import RBFKernelRidge
from tribrain.evaluation.ridges import FIRRidge
from tribrain.evaluation.scores import normalise
from tribrain.evaluation.stacking import StackedRegression
from tribrain.studies.alice import GAP, REGIONS, REPETITION_TIME, ROWS, Alice

FLOOR, FLOOR_FIR = "floor: word rate, sound power", "floor, 6 s sooner to 6 s later"
MIDDLE_NAME = "floor + middle layer"
LAYERS_NAME = "floor + a layer, mean of all"
ENSEMBLE_NAME = "transformers + mean of all layers"
_DELAYS = tuple(range(-3, 4))
"""Rows, of nuisances that are under a response already."""
_INNER: dict[str, Any] = {"folds": INNER_FOLDS, "gap": GAP}


def ridge(delays: tuple[int, ...] = (0,)) -> FIRRidge:
    """Ridge with one penalty for the six regions."""
    return FIRRidge(delays=delays, per_output=False, **_INNER)


def floors(bench: Bench) -> dict[str, Way]:
    """Word rate and sound power, as the study has them under a response, and moved in time."""
    return {
        FLOOR: fitted(bench, ridge(), bench.nuisance, own=True),
        FLOOR_FIR: fitted(bench, ridge(_DELAYS), bench.nuisance, own=True),
    }


def word_components(vectors: np.ndarray) -> np.ndarray:
    """Components (words, 7, 20) of each layer's vectors (words, 7, 384)."""
    return np.stack([components(vectors[:, layer]) for layer in range(STATES)], axis=1)


def language(bench: Bench, contexts: Sequence[np.ndarray]) -> dict[str, Way]:
    """The floor with word vectors: components (words, 7, 20) for each length of context."""
    x, *more = [
        [with_floor(bench, states[:, layer]) for layer in range(STATES)] for states in contexts
    ]
    found = {
        "middle layer alone": fitted(bench, ridge(), x[MIDDLE][:, 2:], own=True),
        MIDDLE_NAME: fitted(bench, ridge(), x[MIDDLE], own=True),
        "floor + embedding layer": fitted(bench, ridge(), x[EMBEDDING], own=True),
    }
    bands = (bench.nuisance.shape[1], COMPONENTS)
    others: dict[str, Any] = {
        "banded ridge": BandedRidge(bands=bands, **_INNER),
        "group kernel ridge": GroupKernelRidge(bands=bands, **_INNER),
        "stacked": StackedRegression(bands=bands, **_INNER),
        "RBF kernel ridge": RBFKernelRidge(**_INNER),
    }
    for name, estimator in others.items():
        found[f"{MIDDLE_NAME}, {name}"] = fitted(bench, estimator, x[MIDDLE])
    found[LAYERS_NAME] = averaged([fitted(bench, ridge(), one) for one in chain(x, *more)])
    return found


def shuffles(bench: Bench, states: np.ndarray, count: int) -> dict[str, list[Way]]:
    """The floor with vectors of the middle layer that are not those of the words heard."""
    vectors = states[:, MIDDLE]
    heard = bench.words(vectors)
    least = int(np.ceil(LEAST_SHIFT / REPETITION_TIME))
    found: dict[str, list[Way]] = {"words shuffled": [], "vectors shifted by 60 s or more": []}
    for seed in range(count):
        shuffled = bench.words(shuffled_rows(vectors, seed))
        moved = circular_shift(heard, draw_shift(ROWS, least, seed), least=least)
        for ways, x in zip(found.values(), (shuffled, moved), strict=True):
            ways.append(fitted(bench, ridge(), np.hstack([bench.nuisance, x])))
    return found


def with_floor(bench: Bench, vectors: np.ndarray) -> np.ndarray:
    """Columns of the nuisances, then those of the words: (362, 2 + k)."""
    return np.hstack([bench.nuisance, bench.words(vectors)])


def line(name: str, bench: Bench, way: Way) -> str:
    """A row of the table."""
    found = group_interval(bench, way)
    told = f"{name:42}{found.mean:>8.3f} ± {found.se:.3f}{_told(people_scores(bench, way))}"
    own = own_scores(bench, way)
    return f"{told}{'' if own is None else _told(own):16}{way.seconds:>7.1f}"


def _told(scores: np.ndarray) -> str:
    return f"{scores.mean():>8.3f} ± {scores.std(ddof=1) / np.sqrt(len(scores)):.3f}"


def above(bench: Bench, ways: Mapping[str, Way], one: str, other: str) -> str:
    """By how much R_group of one way is above that of another."""
    found = group_interval(bench, ways[one], ways[other])
    beats = " beats" if found.low > 0 else ""
    return f"{one} less {other}: {found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f}){beats}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--keep", type=Path, help="folder of what was worked out")
    parser.add_argument("--shuffles", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=4, help="transformers; 0 for none")
    parser.add_argument(
        "--contexts",
        nargs="+",
        type=int,
        default=CONTEXTS,
        help="words that a vector sees; the first is that of single layers",
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run(given, given.keep or Path(folder))
    print(f"\n{time.perf_counter() - start:.0f} s")


def run(given: argparse.Namespace, keep: Path) -> None:
    """Print the table."""
    study = Alice(given.folder)
    bench = Bench(study)
    model = minilm(given.model)
    every = [
        word_components(word_vectors(bench.stimulus, model, keep / "store", context))
        for context in given.contexts
    ]
    states = every[0]
    between, ceiling = references(bench)
    print(f"between people {between:.3f}; ceiling of R_group {ceiling.mean():.3f}")
    print(f"{'':42}{'R_group':>15}{'r':>16}{'own':>16}{'s':>7}")
    ways = floors(bench) | language(bench, every)
    for name, way in ways.items():
        print(line(name, bench, way), flush=True)
    for name, some in shuffles(bench, states, given.shuffles).items():
        scores = [group_score(bench, way) for way in some]
        print(f"floor + {name}, {len(some)} draws: mean {np.mean(scores):.3f}, "
              f"greatest {max(scores):.3f}", flush=True)  # fmt: skip
    if given.seeds:
        ways |= _with_members(study, bench, states, keep, given.seeds, ways)
    print("R_group by region, and its share of the ceiling")
    print(f"{'':42}" + "".join(f"{name:>13}" for name in REGIONS))
    print(f"{'ceiling':42}" + "".join(f"{value:>13.2f}" for value in ceiling))
    for name in (FLOOR, MIDDLE_NAME, *([ENSEMBLE_NAME] if given.seeds else [])):
        found = normalise(region_scores(bench, ways[name]), ceiling)
        parts = zip(found.raw, found.normalised, strict=True)
        print(f"{name:42}" + "".join(f"{raw:>7.2f} ({share:.2f})" for raw, share in parts))
    print("differences of R_group, 95 % of the draws")
    for rival in (FLOOR, FLOOR_FIR, "floor + embedding layer"):
        print(above(bench, ways, MIDDLE_NAME, rival))
    for rival in (FLOOR_FIR, MIDDLE_NAME, LAYERS_NAME) if given.seeds else ():
        print(above(bench, ways, ENSEMBLE_NAME, rival))


def _with_members(
    study: Alice, bench: Bench, states: np.ndarray, keep: Path, seeds: int, ways: Mapping[str, Way]
) -> dict[str, Way]:
    """Train or read transformers; print them, and the means that they are part of."""
    trained = members(study, bench, states[:, [MIDDLE]], keep, seeds)
    for number, way in enumerate(trained):
        print(line(f"transformer, seed {number}", bench, way), flush=True)
    mean = averaged(trained)
    found = {
        f"transformers, mean of {seeds}": mean,
        ENSEMBLE_NAME: averaged([mean, ways[LAYERS_NAME]]),
    }
    for name, way in found.items():
        print(line(name, bench, way), flush=True)
    return found


if __name__ == "__main__":
    main()
