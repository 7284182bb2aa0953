"""What the transformer learns of simulated studies, of which the truth is known.

linear      comes the model to the score of one who knows the features, where ridge can too?
            (linear-trend: the same where no line is taken out of the runs; it depends on the whole
            film, which the model sees and ridge does not)
nonlinear   how much of what no linear model reaches does it reach?
people      people who were never seen: the group's response, and a new person with few minutes

Films for validation and test are whole films that no one was trained on; windows are whole films,
so that no row lacks what came before. Scores are Pearson correlations over a film with the BOLD as
prepared, averaged over films, people and outputs; of a ceiling: r divided by the score that is
expected of one who knows the features' true effect, output by output. The ceilings are worked out
from the truth (`Simulated.ceiling`) and not estimated. Standard errors are over people, outputs
(parcels, which are alike if they are near), films and seeds.

Usage: python benchmarks/learning.py [--parts linear people] [--seeds 2] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from learning_parts import Bench, Part, Rows, Scores, scored
from learning_people import people
from learning_table import head, line, normalised, show, told_of
from tribrain.encoder.network import Encoder

LINEAR = Part(
    "linear",
    {"n_subjects": 2, "films": 200, "minutes": 4.0, "space": 60, "snr": 1.5, "dims": 6},
    validation=8,
    test=20,
    # Filters of the length of the haemodynamic response; nothing else is to be learned.
    changes=(
        "encoder.smoothing=61",
        "encoder.projector_sizes=[]",
        "encoder.depth=1",
        "training.epochs=15",
    ),
)
PARTS = {
    part.name: part
    for part in (
        Part(
            "nonlinear",
            {"n_subjects": 2, "films": 300, "minutes": 4.0, "space": 60, "snr": 1.5, "dims": 6,
             "nonlinear": True},
            validation=8,
            test=20,
        ),
        LINEAR,
        replace(LINEAR, name="linear-trend", detrend=False),
        Part(
            "people",
            {"n_subjects": 20, "films": 60, "minutes": 4.0, "space": 60, "snr": 0.5, "dims": 6,
             "nonlinear": True},
            validation=5,
            adapting=10,
            test=15,
            held_out=8,
        ),
    )
}  # fmt: skip
"""In the order in which they are trained: the longest first."""


def averaged(parts: list[Rows]) -> Rows:
    """Mean of the predictions of several seeds."""
    return {key: np.mean([part[key] for part in parts], axis=0) for key in parts[0]}


def compared(bench: Bench, models: list[Encoder]) -> dict[str, Scores]:
    """Scores of ridge and of each seed, for the people who were trained on.

    Returns
    -------
    dict of str to ndarray (seeds, films, people, outputs)
    """
    measured = bench.measured(bench.test, bench.trained)
    start = time.perf_counter()
    linear, told = bench.ridge()
    print(f"  {told}; {time.perf_counter() - start:.0f} s")
    found = {name: scored(rows, measured)[None] for name, rows in linear.items()}
    rows = [bench.predicted(model, bench.trained) for model in models]
    found["transformer"] = np.stack([scored(one, measured) for one in rows])
    if len(rows) > 1:
        found[f"transformer, {len(rows)} seeds averaged"] = scored(averaged(rows), measured)[None]
    return found


def linear(bench: Bench, models: list[Encoder]) -> list[str]:
    """Aim 1: the ceiling of one who knows the features."""
    head(told_of(bench))
    ceiling = bench.ceilings(bench.trained, "features")
    show("ceiling: all that repeats", bench.ceilings(bench.trained, "own")[None, None])
    show("ceiling: features", ceiling[None, None], ceiling)
    found = compared(bench, models)
    for name, values in found.items():
        show(name, values, ceiling)
    short = 1 - normalised(found["transformer"], ceiling)
    rest = 1 - max(normalised(found[name], ceiling) for name in ("ridge", "banded ridge"))
    return [
        line(
            f"1 {bench.part.name}: less than 0.02 below the ceiling (of ceiling)",
            f"{short:.4f} below; best ridge {rest:.4f} below",
            short < 0.02,
        )
    ]


def nonlinear(bench: Bench, models: list[Encoder]) -> list[str]:
    """Aim 2: the gap between what linear and other models reach."""
    ceiling = bench.ceilings(bench.trained, "features")
    best_linear = bench.ceilings(bench.trained, "features", linear=True)
    own = bench.ceilings(bench.trained, "own")
    found: dict[str, Scores] = {}
    lines = []
    every = np.arange(ceiling.shape[1])
    affected = bench.affected()
    for name, outputs in (("all outputs", every), ("affected outputs", affected)):
        head(f"{told_of(bench)}; {name} ({len(outputs)})")
        show("ceiling: all that repeats", own[None, None][..., outputs])
        show("ceiling: features", ceiling[None, None][..., outputs], ceiling[:, outputs])
        show("best linear model", best_linear[None, None][..., outputs], ceiling[:, outputs])
        found = found or compared(bench, models)
        for kind, values in found.items():
            show(kind, values[..., outputs], ceiling[:, outputs])
        gap = float((ceiling - best_linear)[:, outputs].mean())
        rival = max(("ridge", "banded ridge"), key=lambda kind: found[kind][..., outputs].mean())
        more = (found["transformer"] - found[rival])[..., outputs]
        share = more.mean() / gap
        over_films = more.mean(axis=(0, 2, 3)) / gap
        seeds = more.mean(axis=(1, 2, 3)) / gap
        lines.append(
            line(
                f"2 nonlinear: 70 % of the gap, above the best ridge, {name}",
                f"{share:.3f} (+- {over_films.std(ddof=1) / np.sqrt(len(over_films)):.3f} over "
                f"films; seeds {', '.join(f'{one:.3f}' for one in seeds)}); r {rival} "
                f"{found[rival][..., outputs].mean():.4f}, transformer "
                f"{found['transformer'][..., outputs].mean():.4f}; gap {gap:.4f}",
                share >= 0.7,
            )
        )
    return lines


def job(part: Part, keep: Path, seed: int) -> float:
    """Train a part with a seed, in a process of its own; returns its seconds of CPU time."""
    torch.set_num_threads(1)
    start = time.process_time()
    Bench(part, keep).model(seed)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder for stores and models, to go on from")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--set", nargs="*", default=[], dest="changes", help="of the recipe")
    given = parser.parse_args()
    start = time.perf_counter()
    torch.set_num_threads(given.workers)
    with tempfile.TemporaryDirectory() as temporary:
        keep = given.keep or Path(temporary)
        chosen = {
            name: replace(part, changes=(*part.changes, *given.changes))
            for name, part in PARTS.items()
            if name in given.parts
        }
        benches = {name: Bench(part, keep) for name, part in chosen.items()}
        for bench in benches.values():
            assert bench.store.complete
        print(f"prepared in {time.perf_counter() - start:.0f} s", flush=True)
        work = [(part, seed) for part in chosen.values() for seed in range(given.seeds)]
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(given.workers, mp_context=context) as pool:
            jobs = [pool.submit(job, part, keep, seed) for part, seed in work]
            for (part, seed), one in zip(work, jobs, strict=True):
                print(f"{part.name}, seed {seed}: {one.result():.0f} s of CPU time", flush=True)
        lines: list[str] = []
        report = {
            "linear": linear,
            "linear-trend": linear,
            "nonlinear": nonlinear,
            "people": people,
        }
        for name, bench in benches.items():
            models = [bench.model(seed) for seed in range(given.seeds)]
            lines += report[name](bench, models)
    print("\n" + "\n".join(sorted(lines, key=lambda text: text[9:])))
    spent = os.times()
    cpu = spent.user + spent.system + spent.children_user + spent.children_system
    print(f"{(time.perf_counter() - start) / 60:.1f} minutes, {cpu / 60:.1f} of CPU time")


if __name__ == "__main__":
    main()
