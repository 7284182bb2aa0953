"""The SONG benchmark: transformers, single and averaged, beside ridge and kernel ridge.

Splits are those of the study (`tribrain.studies.song`): W3 tests the last part of each film, X
whole films that were not trained on; 20 people train, 6 are held out. BOLD is z-scored by person,
parcel and run on the rows of each part. Scores are of runs, then their mean over the runs:

r        mean over parcels and the 20 people of the correlation with their own prediction
norm     r over the leave-one-out correlation between people (parcels above 0.1); no upper bound
zero     as r, for the 6 held out, predicted by the row of people never seen (ridge: the group's)
R_group  the prediction for people never seen against the mean of the 26
ratio    R_group over the median person's correlation with the mean of the others; may exceed 1

Errors of r and zero are standard errors over people, of R_group over draws of blocks of 30 s.
Differences are of paired draws of blocks, and of people; "beats" needs an interval without 0.

Few shot (W3): the 6 held out have 5 to 47.9 minutes of their own, the first rows of each run.

Usage: python benchmarks/song.py FOLDER --keep KEPT [--seeds 5] [--others 4] [--splits W3 X]
           [--parts baselines members few] [--set training.epochs=12] [--threads 1]

What was trained or fitted lies in KEPT, and is not worked out again. Seconds add up those of all
that is averaged; what only the draws take is not in them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from song_baselines import FIVE, GROUP_RBF, GROUP_TUNED, OWN_RBF, OWN_TUNED, kept_baselines
from song_few import few_shots
from song_members import Member, member, people
from song_rows import Bench, Judged, Predicted, averaged, ceilings, draws, summary
from tribrain.studies.prepare import prepare
from tribrain.studies.prepared import PreparedStudy, open_prepared
from tribrain.studies.song import FILMS, SPLITS, Song
from tribrain.training.settings import read_recipe

_LONGER = ("80 s", ("data.length=80", "training.batch=12"))
_LONGEST = ("100 s", ("data.length=100", "training.batch=10"))
OTHERS = ((*_LONGER, 0), (*_LONGER, 1), (*_LONGEST, 0), (*_LONGEST, 1))
"""Further members, with longer windows: name, changes to the recipe, seed."""
RIVALS = (GROUP_TUNED, OWN_TUNED, GROUP_RBF)
"""What means of transformers are compared with, draw by draw."""


def members(
    benches: Sequence[Bench], given: argparse.Namespace, split: str
) -> dict[str, list[Member]]:
    """Members by name, one a part of the split each."""
    found = {}
    wanted: list[tuple[str, tuple[str, ...], int]] = [("60 s", (), n) for n in range(given.seeds)]
    for name, changes, seed in (*wanted, *OTHERS[: given.others]):
        recipe = read_recipe("song", [*changes, *given.changes])
        found[f"{name}, seed {seed}"] = [
            member(bench, recipe, seed, given.keep / f"{split}-{number}")
            for number, bench in enumerate(benches)
        ]
    return found


def table(split: str, benches: Sequence[Bench], given: argparse.Namespace) -> None:
    """Print the scores of a split."""
    ways: dict[str, list[Predicted]] = {}
    isc, median = ceilings(benches)
    print(f"\n{split}: between people {isc:.3f}, median person {median:.3f}")
    if "baselines" in given.parts:
        kept = [
            kept_baselines(bench, given.keep / f"{split}-{number}-baselines")
            for number, bench in enumerate(benches)
        ]
        ways |= {name: [part[name] for part in kept] for name in kept[0]}
    if "members" in given.parts:
        ways |= _members_and_means(
            {
                name: [people(b, one) for b, one in zip(benches, parts, strict=True)]
                for name, parts in members(benches, given, split).items()
            },
            given.seeds,
            ways,
        )
    judged = {
        name: [Judged(b, one) for b, one in zip(benches, parts, strict=True)]
        for name, parts in ways.items()
    }
    drawn = dict(zip(judged, draws(list(judged.values())), strict=True))
    print(f"{'':38}{'r':>15}{'norm':>6}{'zero':>16}{'R_group':>16}{'ratio':>7}{'seconds':>9}")
    for name, parts in judged.items():
        found = summary(parts)
        r, zero, group = (found[key] for key in ("r", "zero", "R_group"))
        print(
            f"{name:38}{r[0]:>7.3f} ± {r[1]:.3f}{r[0] / isc:>6.2f}{zero[0]:>8.3f} ± {zero[1]:.3f}"
            f"{group[0]:>8.3f} ± {drawn[name]['R_group'].std():.3f}{group[0] / median:>7.2f}"
            f"{sum(part.seconds for part in ways[name]):>9.0f}",
            flush=True,
        )
    print("differences, 95 % of the draws")
    for name in (name for name in ways if name.startswith("mean")):
        for rival in (rival for rival in RIVALS if rival in ways):
            print(f"{name} less {rival}: {_differences(drawn[name], drawn[rival])}", flush=True)


def _members_and_means(
    single: Mapping[str, list[Predicted]], seeds: int, rivals: Mapping[str, list[Predicted]]
) -> dict[str, list[Predicted]]:
    """Members, their averages, and the averages with kernel ridge and ridge, where those are."""
    ways = {f"transformer, {name}": found for name, found in single.items()}
    every = list(single.values())  # those of the recipe itself come first
    for count, name in ((3, "mean of 3 seeds"), (seeds, f"mean of {seeds} seeds")):
        if 1 < count <= seeds:
            ways[name] = _mean(every[:count])
    if len(every) > seeds:
        ways[f"mean of all {len(every)}"] = _mean(every)
    if rivals:
        rbf, ridge = rivals[OWN_RBF], rivals[OWN_TUNED]
        for name in [name for name in ways if name.startswith("mean")]:
            ways[f"{name} + RBF"] = _mean([ways[name], rbf])
            ways[f"{name} + RBF + ridge"] = _mean([ways[name], rbf, ridge], [2, 2, 1])
        if "mean of 3 seeds" in ways:
            ways["mean of 3 seeds + 5 ridges + RBF"] = _mean(
                [ways["mean of 3 seeds"], rivals[FIVE], rbf]
            )
    return ways


def _mean(
    ways: Sequence[list[Predicted]], weights: Sequence[float] | None = None
) -> list[Predicted]:
    return [averaged(parts, weights) for parts in zip(*ways, strict=True)]


def _differences(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> str:
    parts = []
    for key in ("r", "zero", "R_group"):
        low, high = np.percentile(one[key] - other[key], (2.5, 97.5))
        parts.append(f"{key} {low:+.3f} to {high:+.3f}{' beats' if low > 0 else ''}")
    return "; ".join(parts)


def opened(song: Song, keep: Path) -> PreparedStudy:
    """The study, prepared in `keep` if it was not."""
    prepare(song, keep / "song", detrend=False, standardize=None, dtype="float32")
    study = open_prepared(keep / "song")
    assert {run.task for run in study.runs} == set(FILMS)
    return study


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--keep", type=Path, help="folder of what was worked out")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--others", type=int, default=len(OTHERS), help="further members")
    parser.add_argument("--splits", nargs="+", default=["W3", "X"], choices=sorted(SPLITS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    known = ("baselines", "members", "few")
    parser.add_argument("--parts", nargs="+", default=known, choices=known)
    parser.add_argument("--set", nargs="*", default=[], dest="changes")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        given.keep = given.keep or Path(folder)
        given.keep.mkdir(parents=True, exist_ok=True)
        song = Song(given.folder)
        study = opened(song, given.keep)
        for name in given.splits:
            benches = [Bench(study, split) for split in SPLITS[name]]
            if {"baselines", "members"} & set(given.parts):
                table(name, benches, given)
            if name == "W3" and "few" in given.parts:
                every = members(benches, given, name).values()
                kernel = kept_baselines(benches[0], given.keep / f"{name}-0-baselines")
                group = kernel[GROUP_RBF].group
                few_shots(benches[0], [parts[0] for parts in every], given.seeds, group)
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
