"""The verbs about studies: list, check, prepare and verify them, look at a split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tribrain.errors import InputError

study_app = typer.Typer(help="List studies, check one, prepare one for training.")

Which = Annotated[
    str, typer.Argument(help="NAME:FOLDER (tribrain study list), simulated, or a BIDS folder.")
]
Setting = Annotated[
    list[str] | None, typer.Option("--set", help="A setting of the study, such as mesh=fsaverage4.")
]


@study_app.command("list")
def study_list() -> None:
    """List the studies that have a name, and what each loader was tested on."""
    from tribrain.studies.catalogue import STUDIES, study_class

    for name in STUDIES:
        cls = study_class(name)
        what = (cls.__doc__ or "").strip().splitlines()[0].rstrip(".")
        tested = getattr(cls, "tested_on", "") or "each data set's own files"
        typer.echo(f"{name}  {what}; tested on {tested}")


@study_app.command("check")
def study_check(
    study: Which,
    settings: Setting = None,
    deep: Annotated[bool, typer.Option(help="Read the BOLD of every run too; slow.")] = False,
) -> None:
    """Say what was found, what is missing and what looks wrong; exit code 1 if anything does."""
    from tribrain.studies.catalogue import open_study
    from tribrain.studies.check import check_lines
    from tribrain.viewing.progress import progress_lines

    opened = open_study(study, parsed_settings(settings))
    with progress_lines() as progress:
        lines, code = check_lines(opened, deep=deep, progress=progress)
    for line in lines:
        typer.echo(line)
    if code:
        raise typer.Exit(code)


@study_app.command("prepare")
def study_prepare(
    study: Which,
    out: Annotated[Path, typer.Option(help="Folder of the store; gone on with if it is there.")],
    settings: Setting = None,
    space: Annotated[
        str | None, typer.Option(help="Mesh to resample surfaces to. (default: as read)")
    ] = None,
    detrend: Annotated[bool, typer.Option(help="Take out a line of each run.")] = True,
    standardize: Annotated[
        bool, typer.Option(help="z-score each run; without, the BOLD keeps its units.")
    ] = True,
    high_pass: Annotated[
        float | None, typer.Option(help="Hz below which cosines are taken out, such as 0.0078.")
    ] = None,
    confounds: Annotated[
        str | None, typer.Option(help='Columns of fMRIPrep\'s table: "trans_*,rot_*".')
    ] = None,
    dtype: Annotated[str, typer.Option(help="float16 or float32.")] = "float16",
    workers: Annotated[int, typer.Option(help="Processes; each holds a run in memory.")] = 1,
    cluster: Annotated[
        str | None, typer.Option(help="local:WORKERS, slurm:JOBS or a Dask scheduler's address.")
    ] = None,
    again: Annotated[
        bool, typer.Option(help="Work out every run again; the settings may be others.")
    ] = False,
) -> None:
    """Project, clean and resample every run to 1 Hz; stopped, the same command goes on."""
    from tribrain.studies.catalogue import open_study
    from tribrain.studies.prepare import prepare
    from tribrain.viewing.progress import progress_lines

    opened = open_study(study, parsed_settings(settings))
    columns = _parted(confounds)
    with progress_lines() as progress:
        report = prepare(
            opened,
            out,
            space=space,
            detrend=detrend,
            standardize="zscore" if standardize else None,
            high_pass=high_pass,
            confounds=columns,
            dtype=dtype,
            workers=workers,
            cluster=cluster,
            progress=progress,
            resume=not again,
        )
    for problem in report.problems:
        typer.echo(f"{problem}{' [left out]' if problem.fatal else ''}", err=True)
    runs_of: dict[str, list[str]] = {}
    for run, notes in report.notes.items():
        for note in notes:
            runs_of.setdefault(note, []).append(run)
    for note, names in runs_of.items():
        where = names[0] if len(names) == 1 else f"{len(names)} runs"
        typer.echo(f"note ({where}): {note}", err=True)
    typer.echo(report)
    if report.failed:
        raise typer.Exit(1)


@study_app.command("split")
def study_split(
    stores: Annotated[list[Path], typer.Argument(help="Prepared studies.")],
    validation: Annotated[
        float | None,
        typer.Option(help="Share of the time. (default: 0.1, or 0 where groups are named)"),
    ] = None,
    test: Annotated[float, typer.Option(help="Share of the time.")] = 0.0,
    validation_groups: Annotated[
        str | None, typer.Option(help="Groups for validation, parted by commas.")
    ] = None,
    test_groups: Annotated[
        str | None, typer.Option(help="Groups for the test, parted by commas.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed, another split.")] = 0,
    held_out: Annotated[
        str | None, typer.Option(help="People never trained on, parted by commas.")
    ] = None,
) -> None:
    """Show which films, hours and people a split puts on which side."""
    from tribrain.studies.prepared import open_prepared
    from tribrain.studies.splits import describe, split

    runs = [run for store in stores for run in open_prepared(store).runs]
    if validation is None:
        validation = 0.0 if validation_groups or test_groups else 0.1
    found = split(
        runs,
        {"validation": validation, "test": test},
        seed=seed,
        validation_groups=_parted(validation_groups),
        test_groups=_parted(test_groups),
        held_out_subjects=[name.removeprefix("sub-") for name in _parted(held_out)],
    )
    typer.echo(describe(found, runs).to_string(float_format="{:.3f}".format, na_rep=""))


@study_app.command("verify")
def study_verify(
    store: Annotated[Path, typer.Argument(help="A prepared study.")],
    remove: Annotated[
        bool, typer.Option(help="Take damaged files away; preparing makes them anew.")
    ] = False,
) -> None:
    """Compare every array of a store with its checksum; exit code 1 if one is damaged."""
    from tribrain.studies.prepared import open_prepared

    study = open_prepared(store)
    problems = study.verify(remove=remove)
    for problem in problems:
        typer.echo(problem)
    if problems:
        files = "1 file" if len(problems) == 1 else f"{len(problems)} files"
        more = "prepare the study again" if remove else "--remove, and prepare the study again"
        typer.echo(f"{store}: {len(study.runs)} runs, {files} damaged; {more}")
        raise typer.Exit(1)
    typer.echo(f"{store}: {len(study.runs)} runs, all as they were written")


def _parted(text: str | None) -> list[str]:
    """Names that are parted by commas."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def parsed_settings(settings: list[str] | None) -> dict[str, str]:
    """``KEY=VALUE`` options as a dict."""
    found = {}
    for setting in settings or ():
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--set {setting!r}: KEY=VALUE fits")
        found[key.strip().replace("-", "_")] = value.strip()
    return found
