"""The files of a run beside its state and its model, which tell what it is and how it went.

``recipe.toml``, ``split.tsv`` and ``run.json`` are written once, when a run begins: it goes on with
the same recipe and the same data, or not at all; of ``run.json``, other versions and another git
state are added then, as ``resumed``. Each file is written whole.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tribrain.errors import InputError
from tribrain.files import first_line, sha256, whole_file
from tribrain.studies.prepared import PreparedStudy
from tribrain.studies.prepared_files import MANIFEST
from tribrain.studies.splits import describe
from tribrain.training.data import TrainingData
from tribrain.training.mean_of_people import MeanData
from tribrain.training.settings import TrainingRecipe, read_recipe
from tribrain.training.sides import RECIPE, TOLD


def recipe_text(recipe: TrainingRecipe) -> str:
    """A recipe as a TOML file, which `read_recipe` reads back as the same."""
    lines = []
    for section, values in recipe.as_table().items():
        tables = {key: value for key, value in values.items() if isinstance(value, dict)}
        lines.append(f"[{section}]")
        lines += [
            f"{key} = {_toml(value)}"
            for key, value in values.items()
            if key not in tables and value is not None
        ]
        for key, table in tables.items():
            if table:
                lines.append(f"\n[{section}.{key}]")
                lines += [f"{_key(name)} = {_toml(value)}" for name, value in table.items()]
        lines.append("")
    return "\n".join(lines)


def _key(name: str) -> str:
    return name if re.fullmatch("[A-Za-z0-9_-]+", name) else _toml(name)


def _toml(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    # Numbers, truth values and texts are else written alike in JSON and TOML, which has no
    # surrogate pairs and no plain DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def epoch_line(numbers: dict[str, float], epochs: int) -> str:
    """An epoch in words."""
    validation = numbers.get("validation")
    more = f", validation r {validation:.4f}" if validation is not None else ""
    return f"epoch {int(numbers['epoch'])} of {epochs}: loss {numbers['loss']:.4f}{more}"


def mean_line(data: MeanData) -> str:
    """What is averaged, in words."""
    each = f"{data.least}" if data.least == data.most else f"{data.least} to {data.most}"
    count = len(data.side("train"))
    return f"the mean of {data.people} people: {count} stretches of time, each of {each} recordings"


def check_target(recipe: TrainingRecipe, out: Path, resume: bool) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; --out takes a folder")
    begun = out / RECIPE
    if not begun.is_file():
        if out.is_dir() and any(out.iterdir()):
            raise InputError(f"{out} holds something else; choose another --out")
        return
    if not resume:
        raise InputError(f"{out} holds a run already; --resume goes on with it")
    if _result_of(read_recipe(begun)) != _result_of(recipe):
        raise InputError(
            f"{out} was begun with another recipe (see {begun}); choose another --out, or the same "
            "recipe"
        )


def _result_of(recipe: TrainingRecipe) -> dict[str, Any]:
    """A recipe, but for how its work is shared out."""
    table = recipe.as_table()
    table["training"].pop("parallel")
    return table


def describe_run(
    out: Path,
    recipe: TrainingRecipe,
    studies: list[PreparedStudy],
    data: TrainingData,
    versions: dict[str, str],
) -> None:
    """Write what a run is, once; where it goes on with other versions, these are added."""
    now = {"versions": versions, "git": git_state()}
    if (out / TOLD).is_file():
        told = _told(out)
        if {key: [told, *told.get("resumed", [])][-1].get(key) for key in now} != now:
            _write_json(out / TOLD, {**told, "resumed": [*told.get("resumed", []), now]})
        return
    sides = {stretch.span: stretch.side for stretch in data.stretches}
    runs = [run for study in studies for run in study.runs]
    with whole_file(out / RECIPE) as file:
        file.write(recipe_text(recipe).encode())
    with whole_file(out / "split.tsv") as file:
        describe(sides, runs).to_csv(file, sep="\t", float_format="%.4f")
    told = {
        "seed": recipe.training.seed,
        **now,
        "studies": [
            {
                "name": study.name,
                "folder": str(study.folder),
                **checksums(study),
                "licence": study.licence,
                "citation": study.citation,
            }
            for study in studies
        ],
        "features": {content: sorted(one.values) for content, one in data.series.items()},
    }
    _write_json(out / TOLD, told)


def checksums(study: PreparedStudy) -> dict[str, Any]:
    """What a prepared study is known by: the checksum of its manifest, and those of its runs."""
    return {
        "manifest_sha256": sha256(study.folder / MANIFEST),
        "runs": {run.name: run.sha256 for run in study.runs},
    }


def check_same_data(out: Path, studies: Iterable[PreparedStudy]) -> None:
    """Refuse to go on in a run folder that was begun with other data.

    Raises
    ------
    InputError
        Names a study that was prepared anew since, whatever the recipe says.
    """
    if not (out / TOLD).is_file():
        return
    told = {one.get("name"): one for one in _told(out)["studies"]}
    for study in studies:
        now = checksums(study)
        if {key: told.get(study.name, {}).get(key) for key in now} != now:
            raise InputError(
                f"{out} was begun with other data of {study.name} than {study.folder} holds now; "
                "choose another --out, or prepare the study as it was"
            )


def _told(out: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads((out / TOLD).read_text("utf-8"))
        if not all(isinstance(one, dict) for one in told["studies"]):
            raise ValueError("its studies are no tables")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{out / TOLD} is damaged ({first_line(error)})") from None
    return told


def _write_json(path: Path, told: Mapping[str, Any]) -> None:
    with whole_file(path) as file:
        file.write((json.dumps(told, indent=2) + "\n").encode())


def git_state() -> dict[str, Any] | None:
    """Commit of the working directory, and whether it holds changes; None outside git."""
    git = shutil.which("git")
    if git is None:
        return None
    try:
        commit, changes = (
            subprocess.run(  # noqa: S603
                [git, *arguments], capture_output=True, text=True, check=True, timeout=10
            ).stdout.strip()
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "changed": bool(changes)}


def append_metrics(out: Path, numbers: dict[str, float]) -> None:
    """Add an epoch to the metrics, in place of what a stopped run had said of it and after it."""
    file = out / "metrics.jsonl"
    before = []
    if file.is_file():
        before = [json.loads(line) for line in file.read_text("utf-8").splitlines() if line]
    write_metrics(out, [row for row in before if row["epoch"] < numbers["epoch"]] + [numbers])


def write_metrics(out: Path, epochs: Sequence[Mapping[str, float | None]]) -> None:
    """Write the numbers of all epochs; what is no number is null."""
    rows = [
        {
            key: value if value is not None and math.isfinite(value) else None
            for key, value in row.items()
        }
        for row in epochs
    ]
    with whole_file(out / "metrics.jsonl") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows).encode())
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, list(dict.fromkeys(key for row in rows for key in row)))
    writer.writeheader()
    writer.writerows(rows)
    with whole_file(out / "metrics.csv") as file:
        file.write(table.getvalue().encode())
