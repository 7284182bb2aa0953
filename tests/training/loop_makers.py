"""Tiny studies whose BOLD a linear map of random features gives, and encoders that learn it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from tribrain.brain.spaces import Space, parcel_space
from tribrain.encoder.network import Encoder
from tribrain.studies.groups import Span
from tribrain.studies.prepared import PreparedRun, PreparedSource
from tribrain.studies.runs import Shown
from tribrain.training import state
from tribrain.training.data import TrainingData
from tribrain.training.loop import train
from tribrain.training.series import Series
from tribrain.training.settings import TrainingSettings

DIMS = {"sound": (1, 5), "picture": (2, 4)}
N_DIMS = sum(layers * dims for layers, dims in DIMS.values())
LENGTH = 10
EVERYTHING = TrainingSettings(
    epochs=4,
    batch=3,
    accumulate=2,
    rate=3e-3,
    decay=0.01,
    average=0.8,
    modality_dropout=0.3,
    subject_dropout=0.2,
    time_dropout=0.1,
)


@dataclass
class Study:
    """A prepared study in memory."""

    space: Space
    name: str = "made"
    runs: list[PreparedRun] = field(default_factory=list)
    values: dict[str, np.ndarray] = field(default_factory=dict)

    def window(self, run, first, n, dtype=np.float32):
        return self.values[run.name][first : first + n].astype(dtype)


def make_data(
    *,
    people: int = 2,
    films: int = 4,
    seconds: int = 40,
    outputs: int = 20,
    noise: float = 0.1,
    validation: bool = True,
    seed: int = 5,
) -> TrainingData:
    """Each person sees each film; the last film is for validation.

    The BOLD of a second is a linear map, one a person, of the features of its two samples.
    """
    random = np.random.default_rng(seed)
    study = Study(parcel_space("made", [f"region {n}" for n in range(outputs)]))
    shared = random.normal(size=(N_DIMS, outputs))
    maps = [shared + 0.5 * random.normal(size=shared.shape) for _ in range(people)]
    series, split = {}, {}
    for film in range(films):
        values = {
            name: random.normal(size=(*dims, 2 * seconds)).astype(np.float32)
            for name, dims in DIMS.items()
        }
        series[f"film{film}"] = Series(values, 2.0)
        joined = np.concatenate([one.reshape(-1, seconds, 2).mean(-1) for one in values.values()])
        for person in range(people):
            name = f"sub-{person}_task-film{film}"
            bold = joined.T @ maps[person]
            bold = bold / bold.std() + noise * random.normal(size=bold.shape)
            study.values[name] = bold.astype(np.float32)
            source = PreparedSource(f"film{film}", seconds, {}, Path())
            shown = (Shown(source, 0.0, seconds, f"film{film}"),)
            told = {"session": "", "task": "film", "number": "", "repetition_time": 1.0}
            kept = {"dtype": "float32", "unmeasured": 0, "notes": (), "files": ()}
            study.runs.append(
                PreparedRun(
                    study="made", name=name, subject=f"{person}", shown=shown, rows=seconds,
                    outputs=outputs, origin=0.0, array=Path(name), offset=0, sha256=name,
                    **told, **kept,
                )
            )  # fmt: skip
            span = Span("made", name, f"{person}", 0.0, float(seconds), f"film{film}")
            split[span] = "validation" if validation and film == films - 1 else "train"
    rows = {f"made/{person}": person for person in range(people)}
    return TrainingData([study], split, series, rows, length=LENGTH, step=LENGTH, lag=0.0)


def make_encoder(data: TrainingData, seed: int = 0, **changes) -> Encoder:
    settings = {"hidden": 64, "depth": 1, "heads": 2, "widening": 2, "rank": 24, "dropout": 0.1}
    torch.manual_seed(seed)
    return Encoder(
        feature_dims=data.dims,
        n_outputs=next(iter(data.spaces.values())).size,
        n_output_samples=LENGTH,
        n_subjects=len(data.subjects) + 1,
        max_samples=2 * LENGTH,
        **{**settings, **changes},
    )


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Whether all weights are the same, bit by bit."""
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


# Processes that are killed.


def _train_everything(folder: Path, resume: bool) -> None:
    data = make_data()
    train(make_encoder(data, seed=7), data, EVERYTHING, folder=folder, resume=resume)


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _replace_then_die(partial: Path, path: Path) -> None:
    partial.rename(path)
    _die()


def _write_half(tensors, path: Path, told) -> None:
    from safetensors.torch import save

    whole = save(tensors, told)
    path.write_bytes(whole[: len(whole) // 2])
    _die()


def _at_save(number: int, kill: Callable[[], None]) -> Callable:
    """`save_state` that calls `kill` before the save of that number."""
    plain, count = state.save_state, 0

    def save(*arguments):
        nonlocal count
        count += 1
        if count == number:
            kill()
        plain(*arguments)

    return save


def killed(how: str, number: int, folder: Path) -> int:
    """Train in a child that is killed, or not; returns its status.

    Parameters
    ----------
    how : str
        "writing", "before fsync", "before replacing", "after replacing": in save `number`;
        "ms": that many milliseconds after it began; "never".
    """
    import safetensors.torch

    child = os.fork()
    if child:
        if how == "ms":
            time.sleep(number / 1000)
            os.kill(child, signal.SIGKILL)
        return os.waitpid(child, 0)[1]
    steps = {
        "writing": lambda: setattr(safetensors.torch, "save_file", _write_half),
        "before fsync": lambda: setattr(state, "os", SimpleNamespace(fsync=_die)),
        "before replacing": lambda: setattr(Path, "replace", _die),
        "after replacing": lambda: setattr(Path, "replace", _replace_then_die),
    }
    if how in steps:
        import tribrain.training.loop as loop

        loop.save_state = _at_save(number, steps[how])
    try:
        _train_everything(folder, resume=True)
        os._exit(0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
