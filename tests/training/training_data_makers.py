"""Studies whose every value tells where it belongs, for tests of windows and of validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tribrain.brain.spaces import Space, parcel_space
from tribrain.studies.prepare import prepare
from tribrain.studies.prepared import PreparedRun, PreparedStudy, open_prepared
from tribrain.studies.runs import Shown
from tribrain.studies.simulated import Simulated
from tribrain.studies.splits import split
from tribrain.training.data import TrainingData
from tribrain.training.series import Series, stimulus_series

SPACE = parcel_space("fives", [f"parcel{k}" for k in range(5)])
DIMS = {"audio": (1, 2), "text": (2, 3)}
TOTAL = 500  # seconds of every content


@dataclass(frozen=True)
class Content:
    """A stimulus that is nothing but its content."""

    name: str
    files: tuple[Path, ...] = ()

    def content(self) -> str:
        return self.name

    def duration(self) -> float:
        return float(TOTAL)


def code(content: str, modality: str, layer: int, dim: int, sample: int) -> float:
    """The value of a feature, which no other one has; never 0, and exact in float32."""
    place = (ord(content) - ord("A")) * 2 + sorted(DIMS).index(modality)
    return float(1 + sample + 2048 * (dim + 3 * (layer + 2 * place)))


def coded_series(
    content: str, rate: float, modalities: Sequence[str] = ("audio", "text"), seconds: int = TOTAL
) -> Series:
    return Series(
        {
            name: np.array(
                [
                    [
                        [code(content, name, layer, dim, k) for k in range(round(seconds * rate))]
                        for dim in range(DIMS[name][1])
                    ]
                    for layer in range(DIMS[name][0])
                ],
                np.float32,
            )
            for name in modalities
        },
        rate,
    )


def bold_at(second: float, subject: str) -> np.ndarray:
    """BOLD (outputs,) of a person at a second of the run; no two outputs are alike."""
    return second * (1 + 0.25 * np.arange(SPACE.size)) + 1000 * int(subject)


class CodedRun(PreparedRun):
    """A prepared run without a file."""

    def read(self, first: int, n: int, dtype: Any = np.float32) -> np.ndarray:
        rows = [
            bold_at(self.origin + row, self.subject)
            if 0 <= row < self.rows
            else np.full(self.outputs, np.nan)
            for row in range(first, first + n)
        ]
        return np.array(rows, dtype).reshape(n, self.outputs)


def coded_run(
    shown: Sequence[Shown], *, rows: int = 100, subject: str = "1", name: str = "r"
) -> CodedRun:
    """As `prepare` puts a run into a store: rows at whole seconds of the first stimulus."""
    origin = float(round((shown[0].onset - shown[0].start) % 1.0, 6) % 1.0) if shown else 0.0
    return CodedRun(
        "coded", name, subject, "", "t", "", tuple(shown), rows, SPACE.size, origin, 1.0,
        "float32", 0, (), (), Path("none.npy"), 0, "",
    )  # fmt: skip


class ArrayRun(PreparedRun):
    """A prepared run whose rows are given."""

    values: np.ndarray

    def read(self, first: int, n: int, dtype: Any = np.float32) -> np.ndarray:
        assert first >= 0
        assert first + n <= len(self.values)
        return self.values[first : first + n].astype(dtype)


def array_run(values: np.ndarray, shown: Sequence[Shown]) -> ArrayRun:
    run = ArrayRun(
        "coded", "r", "1", "", "t", "", tuple(shown), *values.shape, 0.0, 1.0,
        "float32", 0, (), (), Path("none.npy"), 0, "",
    )  # fmt: skip
    object.__setattr__(run, "values", values)
    return run


def study_of(
    runs: Sequence[PreparedRun], name: str = "coded", space: Space = SPACE
) -> PreparedStudy:
    settings: Mapping[str, Any] = {}
    return PreparedStudy(
        Path(name), name, "CC0", "nobody", "itself", settings, space, tuple(runs), (), True
    )


def simulated_store(folder: Path, **options: Any) -> tuple[Simulated, PreparedStudy]:
    """Two people, three films of 48 s, 7 parcels; in float32, as measured."""
    study = Simulated(
        **{"n_subjects": 2, "films": 3, "minutes": 0.8, "space": 7, "dims": 5, "seed": 3} | options
    )
    prepare(study, folder, detrend=False, standardize=None, dtype="float32")
    return study, open_prepared(folder)


def simulated_data(store: PreparedStudy, **options: Any) -> TrainingData:
    """Windows of 20 s; film2 is validated, film3 tested, and sub-02 has no row."""
    sides = split(store.runs, {}, validation_groups=["film2"], test_groups=["film3"])
    series = stimulus_series([store], extract=_refuse)
    options = {"length": 20, "step": 10} | options
    return TrainingData([store], sides, series, {"simulated/01": 0}, **options)


def _refuse(stimulus: object) -> Series:
    raise AssertionError(f"{stimulus} is a feature series and needs no extraction")
