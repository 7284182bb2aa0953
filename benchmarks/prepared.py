"""Speed of reading training windows: a prepared study against reading runs whole, in one run.

Random runs of 20,484 vertices are prepared into a store, and written to HDF5 and .npy as well.
Windows of 105 rows at random places are then read, each from its file: by `open_prepared(...)
.window`, by h5py and NumPy reading the run whole and cutting the window out, and by h5py reading
the rows of the window alone (contiguous, and in compressed chunks as h5py writes them by default).
All files were read once before, so that they lie in the memory of the operating system ("warm").
The speed is of the float16 bytes of the windows; all ways end in float32 but "as stored".

Usage: python benchmarks/prepared.py [--runs 8] [--rows 900] [--windows 100] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from tribrain.brain.spaces import Space, mesh_space
from tribrain.studies.arrays import ArrayBold
from tribrain.studies.prepare import prepare
from tribrain.studies.prepared import open_prepared
from tribrain.studies.runs import Run

LENGTH = 105
SPACE: Space = mesh_space("fsaverage5")
Read = Callable[[int, int], np.ndarray]


@dataclass(frozen=True)
class Noise:
    """Runs of random BOLD, a row a second."""

    folder: Path
    count: int
    rows: int

    name = "noise"
    licence = "CC0"
    citation = "nobody"
    tested_on = "nothing"

    def runs(self) -> Iterator[Run]:
        rng = np.random.default_rng(0)
        for number in range(self.count):
            path = self.folder / f"{number}.npy"
            if not path.exists():
                np.save(path, rng.standard_normal((self.rows, SPACE.size), np.float32))
            yield Run(self.name, f"{number}", "noise", ArrayBold(path, SPACE, 1.0), 1.0, ())


def ways(folder: Path, count: int) -> dict[str, Read]:
    """Ways to read rows `first` to ``first + LENGTH`` of a run."""
    opened = open_prepared(folder / "store")
    for number, run in enumerate(opened.runs):
        values = np.load(run.array)
        with h5py.File(folder / f"{number}.h5", "w") as file:
            file["plain"] = values
            file.create_dataset("packed", data=values, compression="gzip", compression_opts=1)

    def whole_h5(number: int, first: int) -> np.ndarray:
        with h5py.File(folder / f"{number}.h5") as file:
            return file["plain"][:][first : first + LENGTH].astype(np.float32)

    def part_h5(number: int, first: int, name: str = "plain") -> np.ndarray:
        with h5py.File(folder / f"{number}.h5") as file:
            return file[name][first : first + LENGTH].astype(np.float32)

    def whole_npy(number: int, first: int) -> np.ndarray:
        return np.load(opened.runs[number].array)[first : first + LENGTH].astype(np.float32)

    return {
        "h5py, run read whole": whole_h5,
        "NumPy, run read whole": whole_npy,
        "h5py, rows alone": part_h5,
        "h5py, rows alone, gzip": lambda number, first: part_h5(number, first, "packed"),
        "window": lambda number, first: opened.window(opened.runs[number], first, LENGTH),
        "window, as stored": lambda number, first: opened.window(
            opened.runs[number], first, LENGTH, np.float16
        ),
    }


def speed(read: Read, places: list[tuple[int, int]]) -> float:
    """MB of float16 a second."""
    start = time.perf_counter()
    for number, first in places:
        read(number, first)
    return len(places) * LENGTH * SPACE.size * 2 / 1e6 / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--rows", type=int, default=900)
    parser.add_argument("--windows", type=int, default=100)
    parser.add_argument("--folder", type=Path, help="where files are written, and removed again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        start = time.perf_counter()
        prepare(Noise(folder, options.runs, options.rows), folder / "store")
        seconds = time.perf_counter() - start
        print(f"numpy {np.__version__}, h5py {h5py.__version__}, ", end="")
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        print(f"{options.runs} runs of {options.rows} rows x {SPACE.size}: prepared in ", end="")
        print(f"{seconds / options.runs:.2f} s a run")
        rng = np.random.default_rng(1)
        places = [
            (int(rng.integers(options.runs)), int(rng.integers(options.rows - LENGTH)))
            for _ in range(options.windows)
        ]
        found = ways(folder, options.runs)
        expected = {place: found["NumPy, run read whole"](*place) for place in places[:5]}
        best: dict[str, float] = {}
        for _ in range(3):  # in turn, as other work comes and goes
            for way, read in found.items():
                for place, values in expected.items():
                    np.testing.assert_array_equal(read(*place), values)
                some = places if "rows" in way or "window" in way else places[:20]
                best[way] = max(best.get(way, 0.0), speed(read, some))
        for way, value in best.items():
            ratio = value / best["h5py, run read whole"]
            print(f"{way:<26}{value:>9.0f} MB/s{ratio:>8.1f}x")


if __name__ == "__main__":
    main()
