"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tribrain.features.extract import Progress

_SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def progress_lines() -> Iterator[Progress]:
    """Show progress on standard error.

    Yields
    ------
    callable (name, done, total)
    """
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
            tasks: dict[str, int] = {}

            def show(name: str, done: int, total: int) -> None:
                if name not in tasks:
                    tasks[name] = bar.add_task(name, total=total)
                bar.update(tasks[name], completed=done, total=total)  # type: ignore[arg-type]

            yield show
        return
    last: dict[str, float] = {}
    first: dict[str, tuple[float, int]] = {}

    def say(name: str, done: int, total: int) -> None:
        now = time.monotonic()
        began, before = first.setdefault(name, (now, done))
        if done >= total or now - last.get(name, -1e9) >= _SECONDS_BETWEEN_LINES:
            last[name] = now
            left = ""
            if before < done < total:
                seconds = (now - began) * (total - done) / (done - before)
                left = f", about {_readable_time(seconds)} left"
            print(f"{name}: {done} of {total}{left}", file=sys.stderr, flush=True)

    yield say


def _readable_time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
