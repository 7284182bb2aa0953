"""The verb that says how good a model is, against what, and whether that is real."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tribrain.cli_options import Backbones, CacheFolder, Device, NoCache, chosen_cache
from tribrain.errors import InputError

if TYPE_CHECKING:
    from tribrain.evaluation.evaluation import Evaluation

_WORK = ".work"  # within --out
_COLUMNS = {
    "r": "r", "r_low": "low", "r_high": "high", "floor": "floor", "ceiling": "ceiling",
    "normalised": "normalised", "left_out": "left out", "zero": "zero-shot",
    "R_group": "R_group", "R_group_ceiling": "its ceiling", "p": "p",
}  # fmt: skip


def evaluate(
    model: Annotated[
        str | None, typer.Argument(help="textbook, a folder, or a hub name (NAME@REVISION).")
    ] = None,
    study: Annotated[Path | None, typer.Argument(help="A prepared study.")] = None,
    baselines: Annotated[
        str,
        typer.Option(
            help="Some of plain,fir,hrf,scaled,banded,group-kernel,rbf,stacked,textbook; or none."
        ),
    ] = "fir",
    side: Annotated[
        str | None,
        typer.Option(
            help="test, validation, held_out_unseen, all or train. (default: test, and people and "
            "studies that are new to the model)"
        ),
    ] = None,
    ceiling: Annotated[str, typer.Option(help="auto, shared, people, repeats or none.")] = "auto",
    atlas: Annotated[
        str, typer.Option(help="An atlas by name, file or folder (names: regions --atlas list).")
    ] = "textbook",
    controls: Annotated[
        bool, typer.Option(help="Fit the best baseline also to features moved in time.")
    ] = True,
    attribution: Annotated[
        bool,
        typer.Option("--attribution", help="Which modality predicts what: score each set of them."),
    ] = False,
    permutations: Annotated[int, typer.Option(help="Of the null of each score.")] = 1000,
    draws: Annotated[int, typer.Option(help="Of the bootstrap.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 0,
    attach: Annotated[
        bool, typer.Option("--attach", help="Put the accuracy map into the model's folder.")
    ] = False,
    other_study: Annotated[
        list[Path] | None,
        typer.Option("--study", help="A study that the model was trained on, where it is now."),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(help="Your own features (rows, columns): .npy .npz:NAME .h5:NAME .tsv .csv"),
    ] = None,
    bold: Annotated[
        str | None, typer.Option(help="Your own BOLD (volumes, outputs), in such a file.")
    ] = None,
    tr: Annotated[float | None, typer.Option(help="Repetition time of --bold, in seconds.")] = None,
    feature_rate: Annotated[
        float | None, typer.Option(help="Rows of --features a second. (default: one a volume)")
    ] = None,
    runs: Annotated[
        str | None, typer.Option(help="Volumes of each run (200,180), or a file of labels.")
    ] = None,
    groups: Annotated[
        str | None, typer.Option(help="What each run showed, left out together; as --runs.")
    ] = None,
    nuisance: Annotated[
        str | None, typer.Option(help="Simple features for the floor, as --features.")
    ] = None,
    space: Annotated[
        str | None, typer.Option(help="Space of the outputs of --bold, such as fsaverage5.")
    ] = None,
    folds: Annotated[int, typer.Option(help="Parts that are left out of --bold in turn.")] = 5,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="Two folders of evaluations: put them side by side."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write. (default: MODEL_STUDY_evaluation)")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an evaluation that is there.")] = False,
    backbones: Backbones = None,
    device: Device = "auto",
    cache: CacheFolder = None,
    no_cache: NoCache = False,
) -> None:
    """Evaluate a model on a study, baselines on your own arrays, or compare two evaluations."""
    asked = [model is not None, features is not None or bold is not None, compare is not None]
    if sum(asked) != 1:
        raise InputError(
            "give MODEL and STUDY, or --features, --bold and --tr, or --compare with two folders"
        )
    if compare is not None:
        _compare(*compare, draws, seed, out)
        return
    from tribrain.evaluation.evaluation_files import check_target
    from tribrain.viewing.evaluation_report import write_evaluation
    from tribrain.viewing.predict_files import versions

    drawn: dict[str, Any] = {
        "permutations": permutations, "draws": draws, "seed": seed, "controls": controls,
        "baselines": baselines, "ceiling": ceiling, "atlas": atlas, "versions": versions(),
    }  # fmt: skip
    if model is None:
        if features is None or bold is None or tr is None:
            raise InputError("arrays need --features, --bold and --tr together")
        if study is not None or attach or attribution or side is not None:
            raise InputError(
                "a study, --attach, --attribution and --side are of a model, not of arrays"
            )
        folder = out or Path(f"{_stem(bold)}_evaluation")
        check_target(folder, overwrite=overwrite)
        files = (features, bold, tr, feature_rate, runs, groups, nuisance, space)
        found = _evaluate_arrays(files, folds=folds, **drawn)
    else:
        if study is None:
            raise InputError("a model is evaluated on a STUDY: a folder that was prepared")
        if attach:
            _check_attach(model, side)
        kept = chosen_cache(cache, no_cache)
        folder = out or Path(f"{_stem(model)}_{_stem(str(study))}_evaluation")
        check_target(folder, overwrite=overwrite)
        reading = {"backbones": backbones, "device": device, "cache": kept}
        drawn |= {"side": side, "attribution": attribution, "work": folder / _WORK}
        found = _evaluate_model(model, study, other_study or (), reading, drawn)
    write_evaluation(found, folder, overwrite=overwrite)
    shutil.rmtree(folder / _WORK, ignore_errors=True)
    _print(found)
    if attach and model is not None:
        from tribrain.encoder.accuracy import attach_accuracy

        typer.echo(f"accuracy map written to {attach_accuracy(model, _accuracy(found))}")
    typer.echo(f"written to {folder}; open {folder / 'report.html'} to look")


def _evaluate_arrays(files: tuple[Any, ...], **how: Any) -> Evaluation:
    from tribrain.evaluation.array_files import read_arrays
    from tribrain.evaluation.arrays import evaluate_arrays
    from tribrain.viewing.progress import progress_lines

    given = read_arrays(*files)
    with progress_lines() as progress:
        return evaluate_arrays(**given, **how, progress=progress)


def _evaluate_model(
    place: str, study: Path, others: Sequence[Path], reading: dict[str, Any], how: dict[str, Any]
) -> Evaluation:
    """Evaluate the model at a place, which `reading` says how to load."""
    from tribrain.encoder.models import load_model
    from tribrain.evaluation.evaluate import evaluate_model
    from tribrain.studies.prepared import open_prepared
    from tribrain.viewing.progress import progress_lines

    opened = open_prepared(study)
    loaded = load_model(place, **reading)
    with progress_lines() as progress:
        return evaluate_model(
            loaded,
            opened,
            place=place,
            studies=[open_prepared(one) for one in others],
            said=typer.echo,
            progress=progress,
            **how,
        )


def _check_attach(model: str, side: str | None) -> None:
    """Say before hours of work that an accuracy map could not be put there, or would flatter."""
    if side == "train":
        raise InputError(
            "--attach takes no scores of --side train: a map of rows that the model was trained on "
            "would say of no vertex how far to trust it"
        )
    if not Path(model).is_dir():
        raise InputError(f"--attach: {model} is no folder; an accuracy map lies in that of a model")


def _compare(one: Path, other: Path, draws: int, seed: int, out: Path | None) -> None:
    from tribrain.evaluation.compare import compare
    from tribrain.evaluation.evaluation_files import is_evaluation, load
    from tribrain.viewing.comparison_report import write_comparison

    if out is not None and is_evaluation(out):
        raise InputError(f"{out} holds an evaluation; choose another folder for the comparison")
    found = compare(load(one), load(other), draws=draws, seed=seed)
    folder = out or Path(f"{one.name}_{other.name}_comparison")
    written = write_comparison(found, folder)
    columns = {
        "way": "way", "people": "people", "r": "r", "r_against": "against",
        "difference": "difference", "low": "low", "high": "high", "p": "p",
    }  # fmt: skip
    _table(found.table, columns)
    for note in found.told.get("notes") or ():
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"written to {written}")


def _print(found: Evaluation) -> None:
    if found.told.get("warning"):
        typer.secho(f"warning: {found.told['warning']}", err=True, fg="red")
    for note in found.told.get("notes") or ():
        typer.echo(f"note: {note}", err=True)
    _table(found.summary, {"way": "way", "people": "people", **_COLUMNS})
    typer.echo(f"ceiling: {found.told.get('ceiling')}")
    if len(found.modalities):
        from tribrain.evaluation.modalities import modality_lines

        for line in modality_lines(found):
            typer.echo(line)


def _table(table: Any, columns: dict[str, str]) -> None:
    """A table for people: with lines on a terminal, plain elsewhere."""
    rows = [[_number(value) for value in row] for row in table[list(columns)].to_numpy().tolist()]
    heads = list(columns.values())
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        shown = Table(*heads)
        for row in rows:
            shown.add_row(*row)
        Console().print(shown)
        return
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in [heads, *rows]:
        cells = [
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        typer.echo("  ".join(cells).rstrip())


def _number(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    if value != value:
        return "n/a"
    return f"{value:.0f}" if value == int(value) and abs(value) >= 1 else f"{value:.3f}"


def _accuracy(found: Evaluation) -> Any:
    """r of each output, that of the row of each person where the model has them."""
    from tribrain.encoder.accuracy import Accuracy
    from tribrain.evaluation.evaluation import MODEL, UNSEEN

    way = MODEL if f"{MODEL}/r" in found.maps else UNSEEN
    scores = found.scores[found.scores["way"] == way]
    told = {
        "measure": "r",
        "way": way,
        "study": ", ".join(found.told["studies"]),
        "people": int(found.row(way)["people"]),
        "runs": len(scores),
        "rows": int(scores["rows"].sum()),
        "side": sorted({one["side"] for one in found.told["splits"] if one["side"] != "train"}),
        "versions": found.told["versions"],
    }
    assert found.space is not None
    return Accuracy(found.maps[f"{way}/r"], told, found.space.name)


def _stem(place: str) -> str:
    from tribrain.files import safe_name

    path = Path(place)
    return safe_name(path.stem if path.suffix and not path.is_dir() else path.resolve().name)
