"""A page about an evaluation: scores, beside what they are to be read against; how it was made.

The page is one file, as that of a prediction (`tribrain.viewing.report`).
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tribrain.evaluation.evaluation import Evaluation, role
from tribrain.evaluation.evaluation_files import save
from tribrain.viewing.evaluation_figures import (
    MOST_BARS,
    map_limit,
    outputs_figure,
    person_means,
    regions_figure,
    sorted_figure,
    ways_figure,
    weighted_means,
)
from tribrain.viewing.evaluation_words import ceiling_words, made, words
from tribrain.viewing.figures import colour_scale, surface_figure
from tribrain.viewing.modality_report import modality_section
from tribrain.viewing.report import html_page, image_tag
from tribrain.viewing.report_tables import (
    FEW,
    MOST_ROWS,
    STYLE,
    html_table,
    number,
    probability,
    with_interval,
)

if TYPE_CHECKING:
    import pandas as pd


def write_evaluation(
    evaluation: Evaluation, folder: str | Path, *, overwrite: bool = False
) -> Path:
    """Save an evaluation with its report; see `tribrain.evaluation.evaluation_files.save`."""
    return save(evaluation, folder, report=evaluation_page(evaluation), overwrite=overwrite)


def evaluation_page(evaluation: Evaluation) -> str:
    """The report of an evaluation, as HTML that loads nothing."""
    told = evaluation.told
    title = f"Evaluation: {evaluation.title}"
    parts = [STYLE, f"<h1>{escape(title)}</h1>"]
    if told.get("warning"):
        parts.append(f'<p class="warning">{escape(str(told["warning"]))}</p>')
    parts += [
        _facts(evaluation),
        "<h2>Scores</h2>",
        _scores(evaluation),
        image_tag(ways_figure(evaluation), "mean r of each way, beside floor, null and ceiling"),
        "<p><small>Bars: means over people with 95 % intervals. Ticks: nuisance floor, and "
        "ceiling as estimated. What each number is stands "
        '<a href="#numbers">below</a>.</small></p>',
        _ways(evaluation),
        "<h2>Mean of all people, significance, retrieval</h2>",
        _groups(evaluation),
    ]
    parts += _places(evaluation)
    parts += _regions(evaluation)
    parts += modality_section(evaluation)
    parts += _people(evaluation)
    parts += ['<h2 id="numbers">What the numbers are</h2>', words(evaluation)]
    parts += made(evaluation)
    return html_page(title, parts)


def headline_ways(evaluation: Evaluation) -> list[str]:
    """The way that a page is about, the best other one, and the floor, as far as there are.

    The first is the model, or else the best baseline.
    """
    table = evaluation.summary
    baselines = table[table["way"].map(role) == "baseline"]
    best = list(baselines.sort_values("r", ascending=False, kind="stable")["way"])
    models = [way for way in evaluation.ways if role(way) == "model"]
    chosen = [*models[:1], *best[: 1 if models else 2]] or list(evaluation.ways[:1])
    found = evaluation.floor(chosen[0]) if chosen else None
    floor = [] if found is None else [str(found["way"])]
    return list(dict.fromkeys([*chosen, *floor]))


def _facts(evaluation: Evaluation) -> str:
    told, scores = evaluation.told, evaluation.scores
    studies = told.get("studies", ())
    runs = scores.drop_duplicates(["study", "subject", "run", "group"])
    # A run has a line for each of its spans; a way may lack some, and none has rows of its own.
    measured = scores.groupby("way", sort=False)["rows"].sum()
    space = evaluation.space.name if evaluation.space else "plain arrays"
    rows = {
        "Model": told.get("model"),
        "Revision": told.get("revision"),
        "Study": studies if isinstance(studies, str) else ", ".join(map(str, studies)),
        "Scored on": f"{_many(runs['subject'].nunique(), 'person', 'people')}, "
        f"{_many(runs['group'].nunique(), 'stimulus', 'stimuli')}, "
        f"{int(measured.max() if len(measured) else 0):,} rows of BOLD",
        "Outputs": f"{_size(evaluation):,}, {space}",
        "Time": f"a stimulus shows in the BOLD signal {told['lag']:g} s later"
        if isinstance(told.get("lag"), int | float)
        else None,
        "Unit": told.get("unit"),
        "Ceiling": ceiling_words(told),
        "Left out, changed": "\n".join(map(str, told.get("notes") or ())) or "nothing",
    }
    cells = "".join(
        f"<tr><th>{key}</th><td>{escape(str(value)).replace(chr(10), '<br>')}</td></tr>"
        for key, value in rows.items()
        if value
    )
    return f"<table>{cells}</table>"


def _many(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"


def _size(evaluation: Evaluation) -> int:
    if evaluation.space is not None:
        return evaluation.space.size
    return len(next(iter(evaluation.maps.values()), ()))


def _scores(evaluation: Evaluation) -> str:
    header = (
        *("way", "people", "r [95 % interval]", "nuisance floor", "ceiling", "r / ceiling"),
        *("outputs left out of it", "r of people never trained on", "R²", "explained variance"),
    )
    rows = [
        (
            row["way"],
            number(row["people"], 0),
            with_interval(row["r"], row["r_low"], row["r_high"]),
            *(number(row[key]) for key in ("floor", "ceiling", "normalised")),
            _left_out(row["left_out"], _size(evaluation)),
            *(number(row[key]) for key in ("zero", "r2", "explained_variance")),
        )
        for row in evaluation.summary.to_dict("records")
    ]
    return html_table(header, rows)


def _left_out(count: float, size: int) -> str:
    return f"{number(count, 0)} of {size:,}" if np.isfinite(count) else "–"


def _groups(evaluation: Evaluation) -> str:
    table = evaluation.summary
    floors = {way: evaluation.floor(way) for way in evaluation.ways}

    def floor(way: str, key: str) -> float:
        row = floors[way]
        return float("nan") if row is None else float(row[key])

    header = (
        *("way", "R_group [95 % interval]", "nuisance floor", "ceiling", "p of the mean r"),
        *("significant outputs", "nuisance floor", "retrieval, first", "nuisance floor"),
        *("among five", "nuisance floor"),
    )
    rows = [
        (
            row["way"],
            with_interval(row["R_group"], row["R_group_low"], row["R_group_high"]),
            number(floor(row["way"], "R_group")),
            number(row["R_group_ceiling"]),
            probability(row["p"]),
            number(row["significant"], 0),
            number(floor(row["way"], "significant"), 0),
            number(row["top1"]),
            number(floor(row["way"], "top1")),
            number(row["top5"]),
            number(floor(row["way"], "top5")),
        )
        for row in table.to_dict("records")
    ]
    return html_table(header, rows)


def _ways(evaluation: Evaluation) -> str:
    """What each way is."""
    told = evaluation.told.get("ways") or {}
    rows = [(way, str(told[way])) for way in evaluation.ways if way in told]
    cells = "".join(f"<tr><th>{escape(a)}</th><td>{escape(b)}</td></tr>" for a, b in rows)
    return f"<table>{cells}</table>" if rows else ""


def _places(evaluation: Evaluation) -> list[str]:
    """Where it predicts: maps on the cortex, or outputs in order; and their histogram."""
    shown = [way for way in headline_ways(evaluation) if f"{way}/r" in evaluation.maps]
    if not shown:
        return []
    way, parts = shown[0], ["<h2>Where</h2>"]
    if evaluation.space is not None and evaluation.space.is_surface:
        maps, space = evaluation.maps, evaluation.space
        limit = map_limit([maps[name] for name in (f"{way}/r", "ceiling") if name in maps], space)
        for name, told, ends in (
            (f"{way}/r", f"r of {way}", limit),
            ("ceiling", "the ceiling, as estimated", limit),
            (f"{way}/normalised", f"r / ceiling of {way}", 1.0),
        ):
            if name in evaluation.maps:
                figure = surface_figure(
                    np.nan_to_num(evaluation.maps[name].astype(float)), evaluation.space, ends
                )
                parts.append(f"<p><b>{escape(told)}</b></p>{image_tag(figure, told, 'brain')}")
                if name != f"{way}/r" or "ceiling" not in evaluation.maps:
                    unit = "r / ceiling" if name.endswith("normalised") else "Pearson r"
                    parts.append(image_tag(colour_scale(ends, unit), "colour scale"))
        parts.append(
            "<p><small>Means over people. r and ceiling have one scale. Left hemisphere from the "
            "side and the middle, right hemisphere from the middle and the side. Values under a "
            "tenth of the scale's end, and outputs without a number, show the folding of the "
            "cortex alone.</small></p>"
        )
    else:
        parts.append(image_tag(sorted_figure(evaluation, shown), "r of all outputs in order"))
    parts.append(image_tag(outputs_figure(evaluation, way), "histogram of r over outputs"))
    parts.append(
        f"<p><small>{escape(_significance(evaluation, way))} The null has the same rows and "
        "people.</small></p>"
    )
    return parts


def _significance(evaluation: Evaluation, way: str) -> str:
    count = evaluation.row(way)["significant"]
    if not np.isfinite(count):
        return "No null was drawn for single outputs."
    return f"{int(count):,} outputs are significant at a false discovery rate of 0.05."


def _regions(evaluation: Evaluation) -> list[str]:
    parts = []
    table = evaluation.regions
    for kind, title in (("network", "Networks"), ("region", "Regions")):
        there = table[table["kind"] == kind]
        ways = [way for way in headline_ways(evaluation) if (there["way"] == way).any()]
        if not ways:
            continue
        parts.append(f"<h2>{title}</h2>")
        parts.append(image_tag(regions_figure(evaluation, ways, kind), f"r of {kind}s"))
        first = there[there["way"] == ways[0]].sort_values("r", ascending=False, kind="stable")
        if len(first) > MOST_BARS:
            parts.append(
                f"<p><small>The {MOST_BARS} with the largest r of {len(first)}.</small></p>"
            )
        chosen = list(first["region"])
        if len(chosen) > 2 * FEW:
            parts.append(
                f"<p>The {FEW} with the largest and the {FEW} with the smallest r of "
                f"{escape(ways[0])}; all are in regions.tsv.</p>"
            )
            chosen = chosen[:FEW] + chosen[-FEW:]
        parts.append(_region_table(there, ways, chosen, kind))
    return parts


def _region_table(
    table: pd.DataFrame, ways: Sequence[str], regions: Sequence[str], kind: str
) -> str:
    columns = {way: table[table["way"] == way].set_index("region") for way in ways}
    first = columns[ways[0]]
    header = (kind, "outputs", *(f"r, {way}" for way in ways), "ceiling", f"r / ceiling, {ways[0]}")
    rows = [
        (
            name,
            number(first["outputs"][name], 0),
            *(number(columns[way]["r"].get(name)) for way in ways),
            number(first["ceiling"][name]),
            number(first["normalised"][name]),
        )
        for name in regions
    ]
    return html_table(header, rows)


def _people(evaluation: Evaluation) -> list[str]:
    """Tables of people and of films, with all ways that a page is about."""
    # The floor has a column of its own.
    shown = headline_ways(evaluation)
    ways = [way for way in shown if role(way) != "floor"] or shown
    films = weighted_means(evaluation.scores, ["way", "study", "group"])
    parts = []
    for title, table, key, what in (
        ("Each person", person_means(evaluation), "subject", "person"),
        ("Each stimulus", films, "group", "stimulus"),
    ):
        columns = {
            way: table[table["way"] == way].set_index(["study", key])
            for way in ways
            if (table["way"] == way).any()
        }
        if not columns:
            continue
        first = next(iter(columns.values()))
        header = ("study", what, "rows", *(f"r, {way}" for way in columns), "nuisance floor")
        header = (*header, "ceiling", f"r / ceiling, {next(iter(columns))}")
        rows = [
            (
                str(study),
                str(name),
                number(first["rows"][study, name], 0),
                *(number(column["r"].get((study, name))) for column in columns.values()),
                *(number(first[k][study, name]) for k in ("floor", "ceiling", "normalised")),
            )
            for study, name in first.index[:MOST_ROWS]
        ]
        parts += [f"<h2>{title}</h2>", html_table(header, rows, words=2)]
        if len(first) > MOST_ROWS:
            parts.append(
                f"<p><small>{MOST_ROWS} of {len(first)}; all are in scores.tsv.</small></p>"
            )
    return parts
