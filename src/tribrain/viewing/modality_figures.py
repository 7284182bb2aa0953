"""Pictures of what each modality predicts: shares of regions, and winners on the cortex."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tribrain.brain.meshes import medial_wall, sulcal_depth, surface
from tribrain.evaluation.attribution import AND
from tribrain.evaluation.evaluation import Evaluation
from tribrain.evaluation.modalities import ALL, PREFIXES, RIDGE
from tribrain.viewing.evaluation_figures import MOST_BARS
from tribrain.viewing.figures import VIEWS
from tribrain.viewing.training_figures import tidy

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9")
"""Of modalities, by their number; they differ for the colour-blind too (Okabe & Ito 2008)."""
_SHARED = ("#bbbbbb", "#888888", "#555555", "#222222")  # by two, three, ... modalities
_EACH = 3  # modalities up to which every set of them is drawn apart


def modality_colours(evaluation: Evaluation) -> dict[str, str]:
    """A colour for each modality, in the order of their numbers."""
    names = (evaluation.told.get("modalities") or {}).get("names") or ()
    return {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}


def places_of(evaluation: Evaluation, way: str, kind: str) -> list[str]:
    """Networks or regions in the order of what all modalities score there; the highest first."""
    table = evaluation.modalities
    there = (table["way"] == way) & (table["kind"] == kind) & (table["modality"] == ALL)
    whole = table[there & table["measure"].isin(("r", "explained variance"))]
    whole = whole[np.isfinite(whole["value"])]
    return list(whole.sort_values("value", ascending=False, kind="stable")["region"])


def values_of(
    evaluation: Evaluation, way: str, kind: str, measure: str, places: Sequence[str]
) -> dict[str, np.ndarray]:
    """Values (places,) of each modality that a measure has."""
    table = evaluation.modalities
    there = (table["way"] == way) & (table["kind"] == kind) & (table["measure"] == measure)
    found: dict[str, np.ndarray] = {}
    for name, rows in table[there].groupby("modality", sort=False):
        each: pd.Series = rows.set_index("region")["value"].reindex(list(places))
        found[str(name)] = each.to_numpy(float)
    return found


def shares_figure(evaluation: Evaluation, kind: str) -> Figure:
    """Explained variance of a ridge, stacked by what is unique and what is shared.

    What is negative is stacked downwards; the dot is their sum, what all modalities explain. Of
    more than three modalities, what is shared is summed by how many share it.
    """
    from matplotlib.figure import Figure

    places = places_of(evaluation, RIDGE, kind)[:MOST_BARS]
    colours = modality_colours(evaluation)
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    axes = figure.subplots()
    up, down = np.zeros(len(places)), np.zeros(len(places))
    unique = values_of(evaluation, RIDGE, kind, "unique", places)
    shared = values_of(evaluation, RIDGE, kind, "shared", places)
    drawn = [(values, _alone(name, colours)) for name, values in unique.items()]
    drawn += _shared_bars(shared, colours)
    for values, style in drawn:
        values = np.nan_to_num(values)
        bottom = np.where(values > 0, up, down)
        axes.bar(range(len(places)), values, 0.8, bottom=bottom, **style)
        up, down = up + np.maximum(values, 0), down + np.minimum(values, 0)
    whole = values_of(evaluation, RIDGE, kind, "explained variance", places)[ALL]
    axes.plot(
        range(len(places)), whole, "o", ms=5, color="black", mec="white", label="all together"
    )
    axes.set_ylabel("explained variance")
    _finish(figure, axes, places, 4)
    return figure


def _alone(name: str, colours: Mapping[str, str]) -> dict[str, Any]:
    return {"color": colours[name], "label": f"unique: {name}"}


def _shared_bars(
    shared: Mapping[str, np.ndarray], colours: Mapping[str, str]
) -> list[tuple[np.ndarray, dict[str, Any]]]:
    if len(colours) <= _EACH:
        return [(values, _hatched(name, colours)) for name, values in shared.items()]
    sums: dict[int, np.ndarray] = {}
    for name, values in shared.items():
        count = name.count(AND) + 1
        sums[count] = sums.get(count, np.zeros(len(values))) + values
    return [
        (values, {"color": _SHARED[count - 2], "label": f"shared by {count}"})
        for count, values in sums.items()
    ]


def _hatched(name: str, colours: Mapping[str, str]) -> dict[str, Any]:
    """Stripes of the colours of two modalities, or grey for what all three share."""
    first, *others = (colours[one] for one in name.split(AND))
    label = f"shared: {name}"
    if len(others) > 1:
        return {"color": _SHARED[0], "label": label}
    return {"facecolor": first, "edgecolor": others[0], "hatch": "////", "lw": 0, "label": label}


def alone_figure(evaluation: Evaluation, way: str, kind: str) -> Figure:
    """What each modality alone scores, what all of them do, and the gain on the best one."""
    from matplotlib.figure import Figure

    places = places_of(evaluation, way, kind)[:MOST_BARS]
    colours = modality_colours(evaluation)
    measure = "explained variance" if way == RIDGE else "r"
    figure = Figure(figsize=(9.6, 5.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    alone = values_of(evaluation, way, kind, "alone", places)
    width = 0.8 / len(alone)
    for number, (name, values) in enumerate(alone.items()):
        where = np.arange(len(places)) + (number - (len(alone) - 1) / 2) * width
        upper.bar(where, values, width, color=colours[name], label=f"from {name} alone")
    whole = values_of(evaluation, way, kind, measure, places)[ALL]
    at = np.arange(len(places))
    upper.hlines(whole, at - 0.44, at + 0.44, color="black", lw=1.8, label="all together")
    upper.set_ylabel("Pearson r" if measure == "r" else measure)
    gained = values_of(evaluation, way, kind, "gain", places)[ALL]
    lower.bar(at, gained, 0.6, color=np.where(gained < 0, "#999999", "#333333"))
    lower.set_ylabel("gain of all on the\nbest one of an output")
    upper.axhline(0, color="black", lw=0.6)
    tidy(upper)
    upper.tick_params(labelbottom=False)
    _finish(figure, lower, places, len(alone) + 1)
    return figure


def winner_figure(evaluation: Evaluation, way: str) -> Figure:
    """The modality that predicts each vertex best, on both hemispheres, in its colour.

    The folding alone is shown in the medial wall and where none predicts above 0.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from nilearn.plotting import plot_surf_roi

    space = evaluation.space
    assert space is not None
    colours = modality_colours(evaluation)
    winner = evaluation.maps[f"{PREFIXES[way]}/winner"][space.cortex]
    shown = np.where(medial_wall(space.mesh), np.nan, winner)
    figure = Figure(figsize=(10, 2.5), layout=None)
    for place, (side, view) in enumerate(VIEWS):
        axes = figure.add_axes((place * 0.245, 0.0, 0.245, 1.0), projection="3d")
        plot_surf_roi(
            tuple(part.copy() for part in surface(space.mesh, side, "infl")),
            shown[space.slice(side)] + 1,  # 0 would be the background
            hemi=side,
            view=view,
            bg_map=sulcal_depth(space.mesh)[space.slice(side)],
            cmap=ListedColormap(list(colours.values())),
            vmin=1,
            vmax=max(len(colours), 2),
            colorbar=False,
            axes=axes,
            figure=figure,
            engine="matplotlib",
        )
        axes.set_title("")
    handles = [Patch(color=colour, label=name) for name, colour in colours.items()]
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), frameon=False)
    return figure


def _finish(figure: Figure, axes: Axes, places: Sequence[str], columns: int) -> None:
    """Names of places, the line of 0, and a legend above."""
    turned = len(places) > 8 or max(map(len, places), default=0) > 12
    turn: dict[str, Any] = (
        {"rotation": 60, "ha": "right", "rotation_mode": "anchor"} if turned else {}
    )
    axes.set_xticks(range(len(places)), places, fontsize=8, **turn)
    axes.axhline(0, color="black", lw=0.6)
    tidy(axes)
    figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=columns)
