"""Starting and ending the processes of a training: as torchrun tells, and all together."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count

import torch
import torch.distributed as dist

from tribrain.errors import InputError, InputWarning
from tribrain.features.backbones import pick_device
from tribrain.files import first_line
from tribrain.training.distributed import Processes
from tribrain.training.settings import TrainingSettings

TIMEOUT = timedelta(minutes=30)
"""How long a process waits for the others in training."""
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_joined = count()


@contextmanager
def joined(settings: TrainingSettings, device: str = "auto") -> Iterator[Processes]:
    """Join the processes that torchrun started; without it, there is this one alone.

    The first process to fail says why; all others end without a word.

    Raises
    ------
    InputError
        If variables of torchrun are missing or no numbers; if there are more processes than
        windows in a batch, or than GPUs; if a process ended or did not answer in time.
    """
    rank, size, local_rank = _place()
    if size == 1:
        yield Processes(device=pick_device(device))
        return
    store = _store()
    try:
        device = _own_device(device, rank, local_rank)
        if size > settings.batch:
            raise InputError(
                f"training.batch is {settings.batch} and {size} processes share its windows; "
                f"{settings.batch} processes at most, or a batch of {size}, fit"
            )
        if settings.compile and settings.parallel == "fsdp":
            raise InputError('training.compile does not go with parallel = "fsdp"; "ddp" fits')
        backend = "nccl" if device == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
        with warnings.catch_warnings():
            if rank:  # the first one warns
                warnings.simplefilter("ignore", InputWarning)
            yield Processes(rank, size, device, settings.parallel == "fsdp", store)
        dist.barrier()  # what the first one writes is there for all
        dist.destroy_process_group()
    except KeyboardInterrupt:
        if rank:
            raise SystemExit(130) from None
        raise
    except Exception as error:
        if not _first_to_fail(store):
            raise SystemExit(2) from None
        of_gloo = isinstance(error, RuntimeError) and "gloo" in str(error)
        if isinstance(error, dist.DistError) or of_gloo:
            raise InputError(
                f"process {rank} of {size} lost another one, which ended or did not answer in "
                f"{TIMEOUT} ({first_line(error)}); --resume goes on from the last epoch"
            ) from None
        raise


def torchrun_started() -> bool:
    """Whether this process is one of several."""
    return _place()[1] > 1


def speaks() -> bool:
    """Whether this process is the one that speaks to the user."""
    return _place()[0] == 0


def _place() -> tuple[int, int, int]:
    """Rank, size and rank on this machine, as torchrun says."""
    if not any(name in os.environ for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")):
        return 0, 1, 0
    missing = [name for name in VARIABLES if name not in os.environ]
    if missing:
        raise InputError(
            f"variables of several processes are missing: {', '.join(missing)}; start them with "
            "torchrun --nproc-per-node N -m tribrain train ..., or unset RANK, WORLD_SIZE and "
            "LOCAL_RANK"
        )
    told = {name: os.environ[name] for name in VARIABLES[:3]}
    if not all(value.isdecimal() for value in told.values()):
        raise InputError(f"{told}: whole numbers fit, as torchrun sets them")
    rank, size, local_rank = map(int, told.values())
    if not rank < size:
        raise InputError(f"RANK {rank} of WORLD_SIZE {size}: 0 to {size - 1} fit")
    return rank, size, local_rank


def _own_device(device: str, rank: int, local_rank: int) -> str:
    """The device of a process of several; a GPU becomes the current one."""
    found = pick_device(device)
    if found == "mps" and device == "auto":
        found = "cpu"
    if found == "mps":
        raise InputError("device mps serves one process; cuda or cpu fit several")
    if found == "cuda":
        there = torch.cuda.device_count()
        if local_rank >= there:
            raise InputError(
                f"process {rank} finds no GPU: this machine has {there}; --nproc-per-node {there}, "
                "or --device cpu, fits"
            )
        torch.cuda.set_device(local_rank)
    return found


def _store() -> dist.Store:
    """What all processes of a run write to and read from, apart for each time they join."""
    try:
        store, _, _ = next(dist.rendezvous("env://", timeout=TIMEOUT))
    except (dist.DistError, RuntimeError, ValueError) as error:
        raise InputError(
            f"no process answers at MASTER_ADDR {os.environ['MASTER_ADDR']}, MASTER_PORT "
            f"{os.environ['MASTER_PORT']} ({first_line(error)}); torchrun sets them"
        ) from None
    return dist.PrefixStore(f"tribrain {next(_joined)}", store)


def _first_to_fail(store: dist.Store) -> bool:
    try:
        return store.add("failures", 1) == 1
    except (dist.DistError, RuntimeError):  # whoever held the store has ended
        return True
