"""A tiny study whose BOLD lies in files, for tests of preparation and splits."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tribrain.brain.series import BoldSeries
from tribrain.brain.spaces import parcel_space
from tribrain.studies.arrays import ArrayBold
from tribrain.studies.prepare import prepare
from tribrain.studies.runs import FeatureArrays, Problem, Run, Shown

N = 7
VOLUMES = 90
SPACE = parcel_space("sevens", [f"parcel{k}" for k in range(N)])


def bold(seed: int, volumes: int = VOLUMES) -> np.ndarray:
    """BOLD with a mean, a drift and slow waves that differ by column."""
    rng = np.random.default_rng(seed)
    rows = np.arange(volumes)[:, None]
    waves = np.sin(rows * (0.2 + 0.05 * np.arange(N)) + seed)
    return (500 + 3 * rows + 20 * waves + rng.normal(0, 5, (volumes, N))).astype("f4")


def features(film: str, seconds: float = 100.0) -> FeatureArrays:
    rng = np.random.default_rng(list(film.encode()))
    series = {
        name: rng.normal(size=(1, 3, round(2 * seconds))).astype("f4") for name in ("audio", "text")
    }
    return FeatureArrays(series, 2.0, Path(film))


@dataclass(frozen=True)
class SlowBold(ArrayBold):
    """Takes its time, so that it can be killed at it."""

    pause: float = 0.0

    def load(self) -> BoldSeries:
        time.sleep(self.pause)
        return super().load()


@dataclass(frozen=True)
class Tiny:
    """Two people and three films; the onset differs by film."""

    folder: Path
    repetition_time: float = 1.5
    pause: float = 0.0
    first: int = 0
    films: tuple[str, ...] = ("ant", "bee", "cat")
    extra: tuple[Run | Problem, ...] = ()

    name = "tiny"
    licence = "CC0"
    citation = "nobody"
    tested_on = "itself"

    def write(self) -> Tiny:
        self.folder.mkdir(parents=True, exist_ok=True)
        for number, (subject, film) in enumerate(self.pairs()):
            np.save(self.path(subject, film), bold(number))
        return self

    def pairs(self) -> list[tuple[str, str]]:
        return [(subject, film) for subject in ("01", "02") for film in self.films]

    def path(self, subject: str, film: str) -> Path:
        return self.folder / f"{subject}-{film}.npy"

    def runs(self) -> Iterator[Run | Problem]:
        for subject, film in self.pairs():
            onset = 4.25 + 3.5 * self.films.index(film)
            yield Run(
                self.name,
                subject,
                film,
                SlowBold(
                    self.path(subject, film),
                    SPACE,
                    self.repetition_time,
                    rows=(self.first, None),
                    pause=self.pause,
                ),
                self.repetition_time,
                (Shown(features(film), onset, 100.0, group=film),),
            )
        yield from self.extra


def store_content(store: Path) -> dict[str, bytes]:
    """Every file of a store but those that were being written."""
    files = [path for path in store.rglob("*") if path.is_file()]
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for path in files
        if not path.name.startswith(".")
    }


if __name__ == "__main__":
    folder, store, pause, workers = sys.argv[1:]
    print(prepare(Tiny(Path(folder), pause=float(pause)), store, workers=int(workers)))
