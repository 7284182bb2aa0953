"""A page about two evaluations, or two ways of one, side by side."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tribrain.evaluation.compare import Comparison, save_comparison
from tribrain.viewing.evaluation_figures import differences_figure, map_limit
from tribrain.viewing.figures import colour_scale, surface_figure
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


def write_comparison(comparison: Comparison, folder: str | Path) -> Path:
    """Save a comparison with its page; see `tribrain.evaluation.compare.save_comparison`."""
    return save_comparison(comparison, folder, report=comparison_page(comparison))


def comparison_page(comparison: Comparison) -> str:
    """A comparison, as HTML that loads nothing."""
    told, table = comparison.told, comparison.table
    within = told["one"] == told["other"]
    title = f"Ways compared: {told['one']}" if within else f"{told['one']} against {told['other']}"
    notes = "".join(f"<li>{escape(str(note))}</li>" for note in told.get("notes") or ())
    parts = [
        STYLE,
        f"<h1>{escape(title)}</h1>",
        f"<p>{_compared_words(comparison)}</p>",
        f"<ul>{notes}</ul>" if notes else "",
        "<h2>Differences</h2>",
        _difference_table(table),
        image_tag(differences_figure(comparison), "paired differences with their intervals"),
        "<p><small>Lines: 95 % intervals.</small></p>",
    ]
    if np.isfinite(table["R_group_difference"]).any():
        parts += ["<h2>Mean of all people</h2>", _group_table(table)]
    first = table.iloc[0]
    both = (str(first["way"]), str(first["against"]))
    name = _pair(*both)
    parts += _map(comparison, name)
    regions = comparison.regions
    regions = regions[(regions["way"] == both[0]) & (regions["against"] == both[1])]
    regions = regions.sort_values("difference", ascending=False, kind="stable")
    if len(regions):
        parts.append(f"<h2>Regions: {escape(name)}</h2>")
        if len(regions) > 2 * FEW:
            parts.append(
                f"<p>The {FEW} with the largest and the smallest difference of {len(regions)}; "
                "all are in comparison_regions.tsv.</p>"
            )
            regions = regions.iloc[[*range(FEW), *range(len(regions) - FEW, len(regions))]]
        rows = [
            (str(row["region"]), str(row["kind"]), number(row["r"]), number(row["r_against"]),
             number(row["difference"], sign=True))
            for row in regions.to_dict("records")
        ]  # fmt: skip
        parts.append(html_table(("region", "kind", "r", "r against", "difference"), rows, words=2))
    people = comparison.people
    people = people[(people["way"] == both[0]) & (people["against"] == both[1])]
    each = [
        (str(row["study"]), str(row["subject"]), number(row["rows"], 0), number(row["r"]),
         number(row["r_against"]), number(row["difference"], sign=True))
        for row in people.to_dict("records")[:MOST_ROWS]
    ]  # fmt: skip
    header = ("study", "person", "rows", "r", "r against", "difference")
    parts += [f"<h2>Each person: {escape(name)}</h2>", html_table(header, each, words=2)]
    return html_page(title, parts)


def _map(comparison: Comparison, name: str) -> list[str]:
    """Where the first pair differs, on the cortex."""
    space, values = comparison.space, comparison.maps.get(name)
    if values is None or space is None or not space.is_surface:
        return []
    limit = map_limit([values], space)
    figure = surface_figure(np.nan_to_num(values.astype(float)), space, limit)
    told = f"Where: {name}"
    return [
        f"<h2>{escape(told)}</h2>",
        image_tag(figure, told, "brain"),
        image_tag(colour_scale(limit, "difference of r"), "colour scale"),
        "<p><small>Of all rows of each. Values under a tenth of the scale's end, and outputs "
        "without a number, show the folding of the cortex alone.</small></p>",
    ]


def _pair(way: str, against: str) -> str:
    return way if way == against else f"{way} - {against}"


def _compared_words(comparison: Comparison) -> str:
    told = comparison.told
    first = (
        "A positive difference: the first of two ways is better. "
        if told["one"] == told["other"]
        else f"First {told['one']}, then {told['other']}; a positive difference: the first is "
        "better. "
    )
    return escape(
        f"{first}Only rows that both have are compared, of the same people and the same seconds "
        f"of the same stimuli. Interval and p: people and blocks of {told['block']} rows are drawn "
        f"{told['draws']:,} times (seed {told['seed']}), the same for both. p over people: signs "
        "of the people's differences flipped at random. Every p is two-sided and stands for "
        "itself: it is not corrected for the number of rows of the table."
    )


def _difference_table(table: pd.DataFrame) -> str:
    header = (
        *("way", "people", "rows", "r", "r against", "difference [95 % interval]", "p"),
        *("people with a gain", "p over people"),
    )
    rows = [
        (
            _pair(row["way"], row["against"]),
            *(number(row[key], 0) for key in ("people", "rows")),
            *(number(row[key]) for key in ("r", "r_against")),
            with_interval(row["difference"], row["low"], row["high"], sign=True),
            probability(row["p"]),
            f"{row['better']} of {row['people']}",
            probability(row["p_people"]),
        )
        for row in table.to_dict("records")
    ]
    return html_table(header, rows)


def _group_table(table: pd.DataFrame) -> str:
    rows = [
        (
            _pair(row["way"], row["against"]),
            *(number(row[key]) for key in ("R_group", "R_group_against")),
            with_interval(
                row["R_group_difference"], row["R_group_low"], row["R_group_high"], sign=True
            ),
            probability(row["R_group_p"]),
        )
        for row in table[table["R_group_difference"].notna()].to_dict("records")
    ]
    told = (
        "<p><small>Interval and p over blocks of time alone: people are averaged already.</small>"
        "</p>"
    )
    return html_table(("way", "R_group", "against", "difference [95 %]", "p"), rows) + told
