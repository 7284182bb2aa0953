"""Trainings for tests with several processes; as a script, what each of them does.

``torchrun --nproc-per-node 2 distributed_makers.py cases FOLDER`` trains every case with both ways
of sharing the work; ``... distributed_makers.py HOW ARGUMENTS`` is the command line with a fault.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch

from loop_makers import EVERYTHING, LENGTH, Study, make_data, make_encoder
from tribrain.brain.spaces import parcel_space
from tribrain.encoder.network import Encoder
from tribrain.errors import InputError
from tribrain.training import torchrun as starting
from tribrain.training.data import TrainingData, number_rows
from tribrain.training.distributed import ALONE, Processes
from tribrain.training.loop import STATE, Course, train
from tribrain.training.settings import TrainingSettings
from tribrain.training.torchrun import VARIABLES, joined

PARALLEL = ("ddp", "fsdp")
WINDOWS = 24  # of an epoch, in one space
SHARED = dataclasses.replace(EVERYTHING, epochs=3, batch=7, clip=0.05)
"""The last step of an epoch has 10 windows: a batch of 7 and one of 3. Every step clips."""
CASES: dict[str, TrainingSettings] = {
    "everything": SHARED,
    "an earlier best": SHARED,
    "two spaces": dataclasses.replace(
        SHARED, loss="huber", expected_subjects=True, batch=4, accumulate=3, average=0.0, epochs=2
    ),
    "one window in the last batch": dataclasses.replace(
        SHARED, optimiser="adam", clip=0.0, batch=WINDOWS - 1, accumulate=1, patience=1, epochs=2
    ),
    "in half": dataclasses.replace(SHARED, loss="pearson", precision="bf16", epochs=1),
}


def data_of(case: str) -> TrainingData:
    """Three people; windows of the third are for validation alone: no step uses their row."""
    if case == "two spaces":
        return _two_spaces()
    whole = make_data(people=3, seconds=45)  # 5 windows of a run to validate: an odd number
    split = {
        one.span: "validation" if one.span.subject == "2" else one.side for one in whole.stretches
    }
    for number, values in enumerate(whole.studies[0].values.values()):
        values[: 3 * number, ::2] = np.nan  # windows differ in how much was measured
    return _again(whole.studies, split, whole, whole.subjects)


def _two_spaces() -> TrainingData:
    one, other = make_data(), make_data(outputs=7, seed=6)
    second = Study(parcel_space("second", [f"area {n}" for n in range(7)]), name="second")
    split = {stretch.span: stretch.side for stretch in one.stretches}
    for stretch in other.stretches:
        run = dataclasses.replace(stretch.run, study="second")
        second.runs.append(run)
        second.values[run.name] = other.studies[0].values[run.name]
        split[dataclasses.replace(stretch.span, study="second")] = stretch.side
    rows, _ = number_rows([*one.studies, second], {f"{s.study}/{s.subject}" for s in split})
    return _again([*one.studies, second], split, one, rows, weights={"second": 0.5})


def _again(studies, split, like: TrainingData, rows, **changes) -> TrainingData:
    return TrainingData(
        studies, split, like.series, rows, length=LENGTH, step=LENGTH, lag=0.0, **changes
    )


def encoder_of(data: TrainingData) -> Encoder:
    """Without dropout, which is drawn by each process for itself."""
    if len(data.spaces) == 1:
        return make_encoder(data, dropout=0.0)
    torch.manual_seed(0)
    _, counts = number_rows(data.studies, data.subjects)
    return Encoder(
        feature_dims=data.dims,
        n_outputs={name: space.size for name, space in data.spaces.items()},
        n_subjects=counts,
        n_output_samples=LENGTH,
        max_samples=2 * LENGTH,
        hidden=64,
        depth=2,
        heads=2,
        widening=2,
        rank=24,
    )


def train_case(
    case: str, folder: Path, processes: Processes = ALONE, parallel: str = "ddp"
) -> tuple[Encoder, Course]:
    """Train a case in a folder, from the state that is there; a copy of each epoch's stays."""
    data = data_of(case)
    settings = dataclasses.replace(CASES[case], parallel=parallel)

    def report(numbers: dict[str, float]) -> None:
        shutil.copy(folder / STATE, folder / f"{numbers['epoch']}.safetensors")

    return train(
        encoder_of(data), data, settings, folder=folder, resume=True, processes=processes,
        report=report,
    )  # fmt: skip


def torchrun(*arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run two processes to their end; whatever they start ends with them."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    kept = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    with subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=kept | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    ) as started:  # fmt: skip
        try:
            out, err = started.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            started.terminate()  # torchrun ends its processes, which are in sessions of their own
            started.communicate(timeout=60)
            raise
    return subprocess.CompletedProcess(command, started.returncode, out, err)


def _train_cases(folder: Path) -> None:
    for parallel in PARALLEL:
        settings = TrainingSettings(batch=2, parallel=parallel)
        with joined(settings, "cpu") as processes:
            for case in CASES:
                place = folder / parallel / case
                if processes.first:
                    place.mkdir(parents=True, exist_ok=True)
                model, course = train_case(case, place, processes, parallel)
                found = (model.state_dict(), course.epochs)
                torch.save(found, place / f"process{processes.rank}.pt")


def _fault(how: str, rank: str) -> None:
    """Let the process of a rank fail while it reads its third batch."""
    starting.TIMEOUT = timedelta(seconds=6)
    if os.environ["RANK"] != rank:
        return
    plain, calls = TrainingData.batch, []

    def batch(self, chosen):
        calls.append(chosen)
        if len(calls) == 3:
            if how == "refuses":
                raise InputError("a file of BOLD cannot be read")
            if how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(600)
        return plain(self, chosen)

    TrainingData.batch = batch


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "cases":
        _train_cases(Path(sys.argv[2]))
    else:
        from tribrain.cli import main

        _fault(*sys.argv[1:3])
        sys.argv[1:] = sys.argv[3:]
        main()
