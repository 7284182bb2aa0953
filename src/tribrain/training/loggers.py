"""Metrics of a training to TensorBoard and Weights & Biases, besides the files of its folder.

Both are extras, imported when they are asked for; nothing leaves this machine but what ``wandb``
sends, which is nothing with ``WANDB_MODE=offline``.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from tribrain.errors import InputError

Log = Callable[[Mapping[str, float]], None]
"""Takes the numbers of an epoch, ``epoch`` among them."""
PROJECT = "tribrain"


@contextmanager
def _tensorboard(folder: Path, settings: Mapping[str, Any]) -> Iterator[Log]:
    """Write event files to ``tensorboard/``; epochs done again replace what was written of them."""
    from torch.utils.tensorboard import SummaryWriter

    writers: list[Any] = []

    def log(numbers: Mapping[str, float]) -> None:
        epoch = int(numbers["epoch"])
        if not writers:  # opened late, as the first epoch says which later ones no longer count
            writer = SummaryWriter(str(folder / "tensorboard"), purge_step=epoch)
            writer.add_text("recipe", "".join(f"    {line}\n" for line in _flat(settings)), epoch)
            writers.append(writer)
        for name, value in _values(numbers).items():
            writers[0].add_scalar(name, value, epoch)
        writers[0].flush()  # so that a kill loses nothing

    try:
        yield log
    finally:
        for writer in writers:
            writer.close()


@contextmanager
def _wandb(folder: Path, settings: Mapping[str, Any]) -> Iterator[Log]:
    """Log to a run of W&B; a training that is resumed goes on with the same one."""
    import wandb

    kept = folder / "wandb_id"
    if not kept.is_file():
        kept.write_text(secrets.token_hex(8), "utf-8")
    run = wandb.init(
        project=PROJECT,
        name=folder.name,
        id=kept.read_text("utf-8").strip(),
        dir=str(folder),
        config=dict(settings),
        resume="allow",
    )
    code = 1
    try:
        yield lambda numbers: run.log(_values(numbers), step=int(numbers["epoch"]))
        code = 0
    finally:
        run.finish(exit_code=code)


LOGGERS = {"tensorboard": _tensorboard, "wandb": _wandb}


def check_loggers(names: Sequence[str]) -> None:
    """Refuse a logger that is not known, or not installed.

    Raises
    ------
    InputError
    """
    for name in names:
        if name not in LOGGERS:
            raise InputError(f"logger {name!r} is unknown; known: {', '.join(LOGGERS)}")
        try:
            import_module(name)
        except ImportError:
            raise InputError(f"--log {name} needs {name}: pip install 'tribrain[{name}]'") from None


@contextmanager
def opened_loggers(
    names: Sequence[str], folder: Path, settings: Mapping[str, Any]
) -> Iterator[Log]:
    """Open loggers for a training.

    Parameters
    ----------
    names : sequence of str
        Of `LOGGERS`.
    folder : Path
        Of the run; is there.
    settings : mapping
        The recipe, as plain data.

    Yields
    ------
    callable
        Hands the numbers of an epoch to all of them.

    Raises
    ------
    InputError
        An unknown name, or a package that is not installed, which says what brings it.
    """
    check_loggers(names)
    with ExitStack() as stack:
        logs = [stack.enter_context(LOGGERS[name](folder, settings)) for name in names]

        def log(numbers: Mapping[str, float]) -> None:
            for one in logs:
                one(numbers)

        yield log


def _values(numbers: Mapping[str, float]) -> dict[str, float]:
    """What there is to draw: all but the epoch, and what is no number."""
    return {
        name: float(value)
        for name, value in numbers.items()
        if name != "epoch" and math.isfinite(value)
    }


def _flat(table: Mapping[str, Any], place: str = "") -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{place}{key}.")
        else:
            yield f"{place}{key} = {value}"
