"""The verb that shows the whole of a study on simulated people."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def quickstart(
    out: Annotated[
        Path, typer.Option(help="Folder to write; gone on with if it was begun.")
    ] = Path("quickstart_tribrain"),
    seed: Annotated[int, typer.Option(help="Another seed, another study.")] = 0,
) -> None:
    """Simulate a small study, train on it, adapt to new people, and tell what was found.

    Takes minutes and downloads nothing; stopped, the same command goes on.
    """
    # One thread, unless somebody said otherwise: the network is small, and where other programs run
    # too, threads that wait for each other took nine times the work (read when numpy is imported).
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    from tribrain.training.quickstart import QuickstartSettings, run_quickstart, summary
    from tribrain.viewing.predict_files import versions
    from tribrain.viewing.progress import progress_lines
    from tribrain.viewing.quickstart_report import write_report

    with progress_lines() as progress:
        findings = run_quickstart(
            out,
            QuickstartSettings(seed=seed),
            versions=versions(),
            progress=progress,
            said=typer.echo,
        )
    report = write_report(findings)
    for line in summary(findings):
        typer.echo(line)
    typer.echo(f"data are simulated; open {report} to look")
