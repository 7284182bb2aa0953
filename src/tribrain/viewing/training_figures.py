"""Pictures of trainings: scores against what was trained on, and of the quick start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tribrain.training.quickstart import Findings
    from tribrain.training.scaling import Scaling

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#555555")
"""Colours that differ for the colour-blind too (Okabe & Ito 2008), and a grey."""
_WHAT = {"hours": "hours that were trained on", "subjects": "people who were trained on"}
_SIDES = {
    "test": "the test",
    "validation": "the validation",
    "held_out_unseen": "people never seen, in films never seen",
    "held_out_seen": "people never seen, in films that others were trained on",
}


def scaling_figure(scaling: Scaling) -> Figure:
    """Scores of all runs, the law, its 95 % interval as a band, and what doubling would bring."""
    from matplotlib.figure import Figure

    law, table = scaling.law, scaling.table
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    largest = float(law.amounts.max())
    reach = np.geomspace(float(law.amounts.min()), 2 * largest, 200)
    value, low, high = law.at(reach)
    inside = reach <= largest
    label = "95 % interval" if np.isfinite(low).all() else None
    axes.fill_between(reach, low, high, color=COLOURS[0], alpha=0.18, lw=0, label=label)
    axes.plot(reach[inside], value[inside], color=COLOURS[0], lw=1.8, label=_law_label(scaling))
    axes.plot(reach[~inside], value[~inside], color=COLOURS[0], lw=1.8, ls=(0, (3, 2)))
    axes.plot(
        2 * largest, law.at(2 * largest)[0], marker="o", ls="", markerfacecolor="white",
        markeredgecolor=COLOURS[0], label="expected at twice as much",
    )  # fmt: skip
    if table["seed"].nunique() > 1:
        column = "hours" if scaling.what == "hours" else "people"
        axes.plot(
            table[column], table["score"], ls="", marker="o", ms=3, color=COLOURS[4], alpha=0.7,
            label="a seed each",
        )  # fmt: skip
    axes.plot(law.amounts, law.scores, ls="", marker="o", ms=7, color=COLOURS[1], label="measured")
    axes.set_xscale("log", base=2)
    _plain_ticks(axes, [*law.amounts, 2 * largest])
    axes.set_xlabel(_WHAT[scaling.what])
    axes.set_ylabel(f"Pearson r on {_SIDES[scaling.side]}")
    axes.legend(frameon=False, fontsize=8)
    tidy(axes)
    return figure


def learning_figure(course: pd.DataFrame) -> Figure:
    """Loss and validation of each epoch; the epoch that was kept is marked."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 3), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    losses.plot(course["epoch"], course["loss"], color=COLOURS[4], marker="o", ms=3)
    losses.set_ylabel("mean squared error in training\n(z-scored BOLD)")
    scores.plot(course["epoch"], course["validation"], color=COLOURS[0], marker="o", ms=3)
    best = course.iloc[int(np.nanargmax(course["validation"]))]
    scores.plot(best["epoch"], best["validation"], marker="o", ms=8, ls="", color=COLOURS[1],
                label=f"kept: epoch {best['epoch']:.0f}")  # fmt: skip
    scores.set_ylabel("Pearson r on validation films")
    scores.legend(frameon=False, fontsize=8, loc="lower right")
    for axes in (losses, scores):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        tidy(axes)
    return figure


def ways_figure(findings: Findings, minutes: float) -> Figure:
    """Scores of the model and of ridge, a dot a person, beside what can be reached."""
    from matplotlib.figure import Figure

    pairs = (
        ("people it was\ntrained on", "own", "ridge", None),
        ("people\nnever seen", "unseen", "ridge of all", None),
        (f"new people after\n{minutes:g} minutes", "adapted", "ridge from scratch", minutes),
    )
    figure = Figure(figsize=(7.2, 4), layout="constrained")
    axes = figure.subplots()
    for place, (_, model, ridge, taken) in enumerate(pairs):
        told = place == 0
        for column, style, label in (
            ("ceiling", "-", "ceiling: all that follows from the films"),
            ("linear", (0, (2, 1.5)), "the best linear model"),
        ):
            axes.hlines(
                findings.mean(model, column, taken)[0], place - 0.36, place + 0.36,
                color=COLOURS[4], linestyle=style, label=label if told else "",
            )  # fmt: skip
        for way, at, colour, label in (
            (ridge, place - 0.14, COLOURS[1], "ridge"),
            (model, place + 0.14, COLOURS[0], "trained model"),
        ):
            rows = findings.rows(way, taken)
            mean, error = findings.mean(way, "r", taken)
            spread = np.linspace(-0.05, 0.05, len(rows)) if len(rows) > 1 else np.zeros(len(rows))
            axes.plot(at + spread, rows["r"], ls="", marker="o", ms=3.5, color=colour, alpha=0.45)
            axes.errorbar(
                at, mean, error if np.isfinite(error) else None, marker="_", ms=26, mew=2,
                capsize=4, color=colour, ls="", label=label if told else "",
            )  # fmt: skip
            axes.annotate(f"{mean:.3f}", (at, mean), (0, 9), textcoords="offset points",
                          ha="center", fontsize=8, color=colour)  # fmt: skip
    axes.set_xticks(range(len(pairs)), [pair[0] for pair in pairs])
    axes.set_xlim(-0.5, len(pairs) - 0.5)
    axes.set_ylim(0, 1.15 * findings.scores["ceiling"].max())
    axes.set_ylabel("Pearson r in films never seen")
    figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=2)
    tidy(axes)
    return figure


def minutes_figure(findings: Findings) -> Figure:
    """Scores of new people by the minutes of them that there are."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for way, colour, marker, label in (
        ("adapted", COLOURS[0], "o", "trained model, adapted to the person"),
        ("ridge from scratch", COLOURS[1], "s", "ridge from scratch"),
    ):
        minutes = sorted(findings.rows(way)["minutes"].unique())
        found = np.array([findings.mean(way, "r", one) for one in minutes])
        axes.errorbar(
            minutes, found[:, 0], np.nan_to_num(found[:, 1]), color=colour, marker=marker,
            capsize=3, label=label,
        )  # fmt: skip
    unseen, error = findings.mean("unseen")
    axes.axhline(unseen, color=COLOURS[2], lw=1.5, label="trained model, not adapted")
    axes.axhspan(
        unseen - np.nan_to_num(error), unseen + np.nan_to_num(error), color=COLOURS[2], alpha=0.15,
        lw=0,
    )  # fmt: skip
    ceiling, _ = findings.mean("adapted", "ceiling")
    axes.axhline(ceiling, color=COLOURS[4], label="ceiling")
    axes.set_xscale("log", base=2)
    _plain_ticks(axes, minutes)
    axes.set_ylim(0, 1.08 * ceiling)
    axes.set_xlabel("minutes of the new person")
    axes.set_ylabel("Pearson r in films never seen")
    figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=2)
    tidy(axes)
    return figure


def tidy(axes: Axes) -> None:
    """No box around a picture, and faint lines to read values by."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)


def _law_label(scaling: Scaling) -> str:
    law = scaling.law
    sign = "-" if law.slope < 0 else "+"
    return f"r = {law.intercept:.3f} {sign} {abs(law.slope):.3f} log2({scaling.what})"


def _plain_ticks(axes: Axes, amounts: Sequence[float]) -> None:
    """Amounts themselves below a logarithmic axis."""
    from matplotlib.ticker import NullLocator

    axes.set_xticks(amounts, [f"{amount:.3g}" for amount in amounts])
    axes.xaxis.set_minor_locator(NullLocator())
