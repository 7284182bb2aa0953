"""Pictures of evaluations: ways beside each other, outputs, regions, differences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tribrain.brain.spaces import Space
from tribrain.brain.summaries import cortex_mask
from tribrain.evaluation.evaluation import PEOPLE, SHIFTED, Evaluation, role
from tribrain.viewing.report_tables import number
from tribrain.viewing.training_figures import COLOURS, tidy

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tribrain.evaluation.compare import Comparison

_MODEL, _BASELINE, _REFERENCE, _FLOOR, _CONTROL = COLOURS
_DASHES = (0, (3, 2))
MOST_BARS = 24
"""Regions that are drawn at most."""


def way_colour(way: str) -> str:
    """Blue for the model, orange for baselines; others for the reference, floor and controls."""
    colours = {"model": _MODEL, "floor": _FLOOR, "control": _CONTROL, "reference": _REFERENCE}
    return colours.get(role(way), _BASELINE)


def ways_figure(evaluation: Evaluation) -> Figure:
    """Mean r of each way with its interval and a dot a person, and R_group, if there is one.

    Ticks: the nuisance floor and the ceiling of each way. Dashed: the mean of the other people.
    Boxes: where the null's mean r lies in 95 % of draws.
    """
    from matplotlib.figure import Figure

    table = evaluation.summary
    grouped = bool(np.isfinite(table["R_group"]).any())
    figure = Figure(figsize=(9.6, 0.42 * len(table) + 1.7), layout="constrained")
    panels = figure.subplots(1, 2 if grouped else 1, sharey=True, squeeze=False)[0]
    _person_panel(panels[0], evaluation)
    if grouped:
        _group_panel(panels[1], evaluation)
    panels[0].set_yticks(range(len(table)), table["way"])
    for label, way in zip(panels[0].get_yticklabels(), table["way"], strict=True):
        label.set_color(way_colour(way))
    panels[0].set_ylim(len(table) - 0.4, -0.6)
    handles, labels = panels[0].get_legend_handles_labels()
    known = dict(zip(labels, handles, strict=True))
    if known:
        figure.legend(
            known.values(), known.keys(), frameon=False, fontsize=8, loc="outside upper center",
            ncols=3,
        )  # fmt: skip
    return figure


def _person_panel(axes: Axes, evaluation: Evaluation) -> None:
    table = evaluation.summary
    people = person_means(evaluation)
    null = evaluation.told.get("null") or {}
    for place, (way, r, low, high) in enumerate(
        zip(table["way"], table["r"], table["r_low"], table["r_high"], strict=True)
    ):
        if way in null and null[way].get("low") is not None:
            start, stop = float(null[way]["low"]), float(null[way]["high"])
            axes.barh(
                place, stop - start, left=start, height=0.8, color="#cccccc", lw=0, zorder=0,
                label="null of the way: 95 % of draws",
            )  # fmt: skip
        own = people.loc[people["way"] == way, "r"].to_numpy()
        colour = way_colour(way)
        _dots(axes, own, place, colour)
        _interval(axes, place, r, low, high, colour)
    found = table.loc[table["way"] == PEOPLE, "r"]
    if found.notna().any():
        axes.axvline(float(found.iloc[0]), color=_REFERENCE, lw=1.2, ls=_DASHES,
                     label="mean of the other people (a reference, no bound)")  # fmt: skip
    _ticks(axes, table["floor"], _FLOOR, "nuisance floor")
    _ticks(axes, table["ceiling"], "black", "ceiling, as estimated")
    axes.axvline(0, color="black", lw=0.6)
    axes.set_xlabel("Pearson r, mean over outputs (dots: people)")
    _tidy_across(axes)


def _group_panel(axes: Axes, evaluation: Evaluation) -> None:
    table = evaluation.summary
    columns = ("way", "R_group", "R_group_low", "R_group_high")
    for place, (way, r, low, high) in enumerate(
        zip(*(table[name] for name in columns), strict=True)
    ):
        _interval(axes, place, r, low, high, way_colour(way))
    rows = [evaluation.floor(way) for way in table["way"]]
    floors = [np.nan if row is None else float(row["R_group"]) for row in rows]
    there = table["R_group"].notna()
    _ticks(axes, np.where(there, floors, np.nan), _FLOOR, "nuisance floor")
    _ticks(axes, table["R_group_ceiling"].where(there), "black", "ceiling, as estimated")
    axes.axvline(0, color="black", lw=0.6)
    axes.set_xlabel("R_group: r with the mean of all people")
    axes.tick_params(left=False)
    _tidy_across(axes)


def _ticks(axes: Axes, values: np.ndarray | pd.Series, colour: str, label: str) -> None:
    """A tick in the line of each way that has the value."""
    numbers = np.asarray(values, float)
    places = np.arange(len(numbers))[np.isfinite(numbers)]
    if len(places):
        axes.vlines(numbers[np.isfinite(numbers)], places - 0.4, places + 0.4, color=colour, lw=1.8,
                    label=label)  # fmt: skip


def _dots(axes: Axes, values: np.ndarray, place: float, colour: str) -> None:
    """People, below the line of their mean."""
    below = place + np.linspace(0.12, 0.36, len(values)) if len(values) > 1 else place + 0.2
    axes.plot(values, np.broadcast_to(below, values.shape), ls="", marker="o", ms=3, color=colour,
              alpha=0.5)  # fmt: skip


def _interval(axes: Axes, place: float, r: float, low: float, high: float, colour: str) -> None:
    """A mean with its interval, and its number above."""
    if not np.isfinite(r):
        return
    if np.isfinite(low) and np.isfinite(high):
        axes.plot([low, high], [place, place], color=colour, lw=2)
    axes.plot(r, place, marker="|", ms=13, mew=2.5, color=colour)
    box = {"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.7}
    axes.annotate(number(r), (r, place), (0, 7), textcoords="offset points", ha="center",
                  fontsize=8, color=colour, bbox=box)  # fmt: skip


def person_means(evaluation: Evaluation) -> pd.DataFrame:
    """Columns way, study, subject, rows, r, floor, ceiling, normalised: means over runs by rows."""
    return weighted_means(evaluation.scores, ["way", "study", "subject"])


def weighted_means(scores: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Scores by some of their columns: means by rows, over what is a number; rows are summed."""
    names = ["r", "floor", "ceiling", "normalised"]
    weights = scores[names].notna().mul(scores["rows"], axis=0)
    sums = scores[names].mul(scores["rows"], axis=0)
    by = [scores[key] for key in keys]
    found = sums.groupby(by, sort=False).sum() / weights.groupby(by, sort=False).sum().replace(
        0, np.nan
    )
    found.insert(0, "rows", scores["rows"].groupby(by, sort=False).sum())
    return found.reset_index()


def outputs_figure(evaluation: Evaluation, way: str) -> Figure:
    """Histogram of r over outputs, beside that of one draw of its null; the medial wall apart."""
    from matplotlib.figure import Figure

    space = evaluation.space
    mask = cortex_mask(space) if space is not None else slice(None)
    own = _numbers(evaluation.maps[f"{way}/r"][mask])
    null, label = evaluation.maps.get(f"{way}/null"), f"one draw of the null of {way}"
    if null is None and f"{SHIFTED}/r" in evaluation.maps:
        null, label = evaluation.maps[f"{SHIFTED}/r"], f"control: {SHIFTED}"
    drawn = [(own, way_colour(way), way)]
    if null is not None:
        drawn.append((_numbers(null[mask]), _CONTROL, label))
    figure = Figure(figsize=(6.4, 3.1), layout="constrained")
    axes = figure.subplots()
    both = np.concatenate([values for values, _, _ in drawn])
    # 60 bins would leave most of them empty where there are few outputs.
    count = int(np.clip(2 * len(own) ** 0.5, 8, 60))
    low, high = (float(both.min()), float(both.max())) if len(both) else (0.0, 1.0)
    edges = np.linspace(low, high + 1e-9, count + 1).tolist()
    for values, colour, told in drawn:
        axes.hist(values, edges, color=colour, alpha=0.25, lw=0)
        axes.hist(values, edges, color=colour, histtype="step", lw=1.5, label=told)
    if len(own):
        axes.axvline(own.mean(), color=way_colour(way), ls=_DASHES, label=f"mean {own.mean():.3f}")
    axes.axvline(0, color="black", lw=0.6)
    axes.set_xlabel("Pearson r of an output, mean over people")
    axes.set_ylabel("outputs")
    axes.legend(frameon=False, fontsize=8)
    tidy(axes)
    return figure


def _numbers(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)].astype(float)


def map_limit(maps: Sequence[np.ndarray], space: Space) -> float:
    """End of one colour scale of maps (V,) on a surface, which begins at its negative.

    The largest 99.5th percentile of the absolute values outside the medial wall.
    """
    mask = cortex_mask(space)
    limits = [np.percentile(np.abs(own), 99.5) for one in maps if len(own := _numbers(one[mask]))]
    return float(max(limits, default=0.0)) or 1.0


def regions_figure(evaluation: Evaluation, ways: Sequence[str], kind: str) -> Figure:
    """r of regions or networks for some ways, with the ceiling as a line above each.

    Where there are more than `MOST_BARS`: those with the largest r of the first way.
    """
    from matplotlib.figure import Figure

    table = evaluation.regions[evaluation.regions["kind"] == kind]
    first = table[table["way"] == ways[0]].sort_values("r", ascending=False, kind="stable")
    names = list(first["region"][:MOST_BARS])
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(ways)
    for place, way in enumerate(ways):
        values = table[table["way"] == way].set_index("region")["r"].reindex(names)
        places = np.arange(len(names)) + (place - (len(ways) - 1) / 2) * width
        axes.bar(places, values, width, color=_shade(ways, place), label=way)
    ceiling = first.set_index("region")["ceiling"].reindex(names)
    if ceiling.notna().any():
        axes.hlines(
            ceiling, np.arange(len(names)) - 0.42, np.arange(len(names)) + 0.42, color="black",
            lw=1.5, label="ceiling, as estimated",
        )  # fmt: skip
    turned = len(names) > 8 or max(map(len, names), default=0) > 12
    turn: dict[str, Any] = (
        {"rotation": 60, "ha": "right", "rotation_mode": "anchor"} if turned else {}
    )
    axes.set_xticks(range(len(names)), names, fontsize=8, **turn)
    axes.axhline(0, color="black", lw=0.6)
    axes.set_ylabel("Pearson r, mean over outputs")
    figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=len(ways) + 1)
    tidy(axes)
    return figure


def _shade(ways: Sequence[str], place: int) -> str:
    """A way's colour, or one of the others where a way before it has the same."""
    taken: list[str] = []
    for way in ways[: place + 1]:
        own = way_colour(way)
        spare = [colour for colour in ("#E69F00", "#56B4E9", "#F0E442") if colour not in taken]
        taken.append(spare[0] if own in taken and spare else own)
    return taken[-1]


def sorted_figure(evaluation: Evaluation, ways: Sequence[str]) -> Figure:
    """r of every output, in the order of the first way, with its ceiling."""
    from matplotlib.figure import Figure

    first = evaluation.maps[f"{ways[0]}/r"]
    order = np.argsort(-np.nan_to_num(first, nan=-np.inf), kind="stable")
    order = order[np.isfinite(first[order])]
    figure = Figure(figsize=(9.6, 3.2), layout="constrained")
    axes = figure.subplots()
    if "ceiling" in evaluation.maps:
        axes.plot(evaluation.maps["ceiling"][order], color="black", lw=0.9, marker=".", ms=3,
                  ls="", label="ceiling, as estimated")  # fmt: skip
    for place, way in reversed(list(enumerate(ways))):
        axes.plot(evaluation.maps[f"{way}/r"][order], color=_shade(ways, place), lw=1.5, label=way)
    axes.axhline(0, color="black", lw=0.6)
    axes.set_xlabel(f"outputs, in the order of {ways[0]}")
    axes.set_ylabel("Pearson r")
    figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=len(ways) + 1)
    tidy(axes)
    return figure


def differences_figure(comparison: Comparison) -> Figure:
    """Paired differences of mean r with their intervals, a dot a person, and of R_group."""
    from matplotlib.figure import Figure

    table, people = comparison.table, comparison.people
    grouped = bool(np.isfinite(table["R_group_difference"]).any())
    figure = Figure(figsize=(9.6, 0.5 * len(table) + 1.3), layout="constrained")
    panels = figure.subplots(1, 2 if grouped else 1, sharey=True, squeeze=False)[0]
    for place, row in enumerate(table.to_dict("records")):
        there = (people["way"] == row["way"]) & (people["against"] == row["against"])
        own = people.loc[there, "difference"].to_numpy()
        colour = way_colour(row["way"])
        _dots(panels[0], own, place, colour)
        _signed(panels[0], place, row["difference"], row["low"], row["high"], colour)
        if grouped:
            mean, low, high = (row[f"R_group_{key}"] for key in ("difference", "low", "high"))
            _signed(panels[1], place, mean, low, high, colour)
    names = [
        one if one == other else f"{one} - {other}"
        for one, other in zip(table["way"], table["against"], strict=True)
    ]
    panels[0].set_yticks(range(len(table)), names)
    panels[0].set_ylim(len(table) - 0.4, -0.6)
    panels[0].set_xlabel("difference of mean r (dots: people)")
    if grouped:
        panels[1].set_xlabel("difference of R_group")
    for axes in panels:
        axes.axvline(0, color="black", lw=1)
        axes.locator_params(axis="x", nbins=6)
        _tidy_across(axes)
    return figure


def _signed(axes: Axes, place: float, mean: float, low: float, high: float, colour: str) -> None:
    if not np.isfinite(mean):
        return
    if np.isfinite(low) and np.isfinite(high):
        axes.plot([low, high], [place, place], color=colour, lw=2)
    axes.plot(mean, place, marker="|", ms=13, mew=2.5, color=colour)
    axes.annotate(number(mean, sign=True), (mean, place), (0, 7), fontsize=8,
                  textcoords="offset points", ha="center", color=colour)  # fmt: skip


def _tidy_across(axes: Axes) -> None:
    """No box, and faint lines down, to read values along the horizontal axis by."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
