"""Scores, permutations and ridge of many outputs: this package against plain numpy and himalaya.

scores        r, R2 and explained variance of each output, against a few lines of numpy in the
              precision of the data (float32); the difference is to numpy in float64.
permutations  correlations of circularly shifted predictions: one Fourier transform serves all
              shifts, against np.roll and a product for each of them. numpy does a few; its time is
              scaled up.
FIR ridge     6 delays of 100 features, 10 penalties chosen for each output by R2 on 5 folds,
              against himalaya's RidgeCV on the same delayed features, folds and penalties. himalaya
              does two portions of the outputs; its time for all is on the line through them (unless
              --whole). Difference: of weights, over the largest; and outputs with another penalty.

Each runs in a process of its own, so that its peak of memory is its own: what it takes beyond the
data that it is given. Time is that of the work alone.

Usage: python benchmarks/evaluation.py [--small] [--whole] [--rows 10000] [--outputs 20484]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tribrain.brain.haemodynamics import fir
from tribrain.evaluation.folds import inner_folds

FEATURES, DELAYS = 100, (1, 2, 3, 4, 5, 6)
PENALTIES = np.logspace(1, 7, 10)
PLAIN_SHIFTS = 4
_AT_ONCE = 1000


@dataclass(frozen=True)
class Size:
    """Rows, outputs, outputs of the portions that himalaya does, and permutations (about)."""

    rows: int
    outputs: int
    portions: tuple[int, int]
    permutations: int

    @property
    def least(self) -> int:
        """Rows of the least shift, so that all shifts together are as many as wanted."""
        return (self.rows - self.permutations) // 2


def predictions(size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and measured (rows, outputs), float32, correlated at 0.3 or so."""
    random = np.random.default_rng(0)
    shape = (size.rows, size.outputs)
    predicted, measured = (random.standard_normal(shape, np.float32) for _ in range(2))
    for first in range(0, size.rows, _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        measured[part] += 0.3 * predicted[part] + 5
    return predicted, measured


def recordings(size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Features (rows, 100), slow as those of films are, and what follows some of them."""
    random = np.random.default_rng(1)
    x = random.standard_normal((size.rows, FEATURES), np.float32)
    for row in range(1, size.rows):
        x[row] = 0.8 * x[row - 1] + 0.6 * x[row]
    weights = 0.05 * random.standard_normal((FEATURES, size.outputs), np.float32)
    y = random.standard_normal((size.rows, size.outputs), np.float32)
    for first in range(DELAYS[3], size.rows, _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        earlier = x[first - DELAYS[3] : first - DELAYS[3] + _AT_ONCE]
        y[part] += earlier[: len(y[part])] @ weights
    return x, y


def our_scores(size: Size, predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    from tribrain.evaluation.scores import score

    found = score(predicted, measured)
    return np.stack([found.r, found.r2, found.explained_variance])


def numpy_scores(size: Size, predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    x, y = predicted - predicted.mean(axis=0), measured - measured.mean(axis=0)
    power = (y * y).sum(axis=0)
    r = (x * y).sum(axis=0) / np.sqrt((x * x).sum(axis=0) * power)
    r2 = 1 - ((measured - predicted) ** 2).sum(axis=0) / power
    return np.stack([r, r2, 1 - (measured - predicted).var(axis=0) / measured.var(axis=0)])


def exact_scores(size: Size, predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    found = []
    for first in range(0, size.outputs, _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        found.append(numpy_scores(size, *(a[:, part].astype(float) for a in (predicted, measured))))
    return np.concatenate(found, axis=1)


def our_shifts(size: Size, predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Mean and largest value over outputs (2, permutations); every shift in turn, as there are
    no more than are asked for."""
    from tribrain.evaluation.statistics.nulls import null_correlations

    wanted = size.rows - 2 * size.least + 1
    found = null_correlations(predicted, measured, kind="shift", n=wanted, least=size.least)
    return np.stack([found.mean_null, found.max_null])


def numpy_shifts(size: Size, predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """The first few of them."""
    x, y = (values - values.mean(axis=0) for values in (predicted, measured))
    x /= np.sqrt((x * x).sum(axis=0))
    y /= np.sqrt((y * y).sum(axis=0))
    found = []
    for shift in range(size.least, size.least + PLAIN_SHIFTS):
        r = (np.roll(x, shift, axis=0) * y).sum(axis=0)
        found.append((r.mean(), r.max()))
    return np.array(found).T


def our_ridge(size: Size, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Weights and, as the last row, penalties (columns + 1, outputs)."""
    from tribrain.evaluation.ridges import FIRRidge

    as_theirs = {"scoring": "r2", "standardise": False, "relative": False}
    fitted = FIRRidge(DELAYS, PENALTIES, **as_theirs).fit(x, y)
    return np.concatenate([fitted.coef_, fitted.penalty_[None]])


def himalaya_ridge(size: Size, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    from himalaya.ridge import RidgeCV
    from himalaya.scoring import r2_score

    settings = {"score_func": r2_score, "n_targets_batch": 2048}
    folds = inner_folds(len(x))
    model = RidgeCV(
        alphas=PENALTIES.astype(np.float32), fit_intercept=True, cv=folds, solver_params=settings
    )
    model.fit(fir(x, DELAYS), y)
    return np.concatenate([model.coef_, model.best_alphas_[None]])


Way = Callable[[Size, np.ndarray, np.ndarray], np.ndarray]
WAYS: dict[str, tuple[Callable[[Size], tuple[np.ndarray, np.ndarray]], Way]] = {
    "scores": (predictions, our_scores),
    "scores, numpy": (predictions, numpy_scores),
    "scores, exact": (predictions, exact_scores),
    "shifts": (predictions, our_shifts),
    "shifts, numpy": (predictions, numpy_shifts),
    "ridge": (recordings, our_ridge),
    "ridge, himalaya": (recordings, himalaya_ridge),
}


@dataclass(frozen=True, eq=False)
class Measured:
    """Seconds, seconds of processor, peak of memory beyond the data (GB), and what came out."""

    seconds: float
    processor: float
    peak: float
    result: np.ndarray


def measured(way: str, size: Size, folder: Path) -> Measured:
    """One way in a new process."""
    kept = folder / "result.npy"
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(_measured_here, (way, size, kept))
    result = np.load(kept)
    kept.unlink()
    return Measured(*found, result)


def _measured_here(way: str, size: Size, kept: Path) -> tuple[float, ...]:
    warnings.simplefilter("ignore")
    make, work = WAYS[way]
    tiny = Size(100, 3, (1, 2), 20)
    work(tiny, *make(tiny))  # imports
    data = make(size)
    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, worked = time.perf_counter(), time.process_time()
    result = work(size, *data)
    seconds, worked = time.perf_counter() - start, time.process_time() - worked
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit / 1e9
    np.save(kept, result)
    return seconds, worked, peak


def line(what: str, theirs: Measured, ours: Measured, note: str, scale: float = 1.0) -> None:
    """Print a comparison; `scale` is how many times what they did all would be."""
    print(
        f"{what:<31}{theirs.seconds * scale:>10.2f}{ours.seconds:>9.2f}"
        f"{theirs.seconds * scale / ours.seconds:>8.1f}x"
        f"{theirs.processor * scale / ours.processor:>8.1f}x"
        f"{theirs.peak:>9.2f}{ours.peak:>7.2f}  {note}",
        flush=True,
    )


def compare_scores(size: Size, folder: Path) -> None:
    ours, theirs = (measured(way, size, folder) for way in ("scores", "scores, numpy"))
    exact = measured("scores, exact", size, folder).result
    off = [np.abs(one.result - exact).max() for one in (ours, theirs)]
    line("scores", theirs, ours, f"difference {off[0]:.0e}, numpy's own {off[1]:.0e}")


def compare_shifts(size: Size, folder: Path) -> None:
    ours, theirs = (measured(way, size, folder) for way in ("shifts", "shifts, numpy"))
    off = np.abs(ours.result[:, :PLAIN_SHIFTS] - theirs.result).max()
    n = ours.result.shape[1]
    note = f"difference {off:.0e}; numpy did {PLAIN_SHIFTS}, scaled up"
    line(f"{n} permutations", theirs, ours, note, n / PLAIN_SHIFTS)


def compare_ridge(size: Size, folder: Path, whole: bool) -> None:
    ours = measured("ridge", size, folder)
    what = f"FIR ridge, {size.outputs} outputs"
    if whole:
        theirs = measured("ridge, himalaya", size, folder)
        line(what, theirs, ours, _agreement(ours.result, theirs.result))
        return
    few, more = (replace(size, outputs=outputs) for outputs in size.portions)
    some, theirs = (measured("ridge, himalaya", one, folder) for one in (few, more))
    same = measured("ridge", more, folder)
    note = _agreement(same.result, theirs.result)
    line(f"FIR ridge, {more.outputs} outputs", theirs, same, note)
    share = (size.outputs - few.outputs) / (more.outputs - few.outputs)
    seconds = some.seconds + share * (theirs.seconds - some.seconds)
    processor = some.processor + share * (theirs.processor - some.processor)
    note = f"himalaya: on the line through {few.outputs} and {more.outputs} outputs"
    line(what, Measured(seconds, processor, np.nan, theirs.result), ours, note)


def _agreement(ours: np.ndarray, theirs: np.ndarray) -> str:
    same = np.isclose(ours[-1], theirs[-1], rtol=1e-3)
    off = np.abs(ours[:-1, same] - theirs[:-1, same]).max() / np.abs(theirs[:-1]).max()
    return f"difference {off:.0e}; {(~same).sum()} of {len(same)} with another penalty"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a quick run: 1,200 x 900")
    parser.add_argument("--whole", action="store_true", help="himalaya does all outputs")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--outputs", type=int, default=20_484)
    given = parser.parse_args()
    size = Size(given.rows, given.outputs, (1024, 3072), 1000)
    if given.small:
        size = Size(1200, 900, (200, 600), 200)
    versions = (f"{name} {__import__(name).__version__}" for name in ("numpy", "himalaya", "torch"))
    print(f"{', '.join(versions)}; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{size.rows} rows x {size.outputs} outputs, float32; memory: beyond the data")
    heads = ("theirs, s", "ours, s", "ratio", "by CPU", "GB", "ours")
    widths = (10, 9, 9, 9, 9, 7)
    print(" " * 31 + "".join(f"{h:>{w}}" for h, w in zip(heads, widths, strict=True)), flush=True)
    with tempfile.TemporaryDirectory() as name:
        compare_scores(size, Path(name))
        compare_shifts(size, Path(name))
        compare_ridge(size, Path(name), given.whole)


if __name__ == "__main__":
    main()
