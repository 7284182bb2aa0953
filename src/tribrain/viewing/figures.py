"""Pictures of a response on the surface of the brain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tribrain.brain.meshes import medial_wall, sulcal_depth, surface
from tribrain.brain.response import Response
from tribrain.brain.spaces import Space

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tribrain.brain.atlases import Atlas

VIEWS = (("left", "lateral"), ("left", "medial"), ("right", "medial"), ("right", "lateral"))
MOST_REGIONS = 60
_COLOURS = "RdBu_r"


def colour_limit(response: Response) -> float:
    """Value at the ends of the colour scale, one for all pictures of a response.

    The 99.5th percentile of the absolute values outside the medial wall.
    """
    space = response.space
    values = response.data.values[:, space.cortex][:, ~medial_wall(space.mesh)]
    np.abs(values, out=values)
    largest = float(np.nanmax(values, initial=0))
    limit = float(np.nanpercentile(values, 99.5, overwrite_input=True)) if values.size else 0.0
    return limit or largest or 1.0


def surface_figure(values: np.ndarray, space: Space, limit: float) -> Figure:
    """Draw values on both hemispheres, from the side and from the middle.

    The medial wall and values under a tenth of the limit show the folding alone.

    Parameters
    ----------
    values : ndarray (vertices,)
        Left hemisphere first.
    space : Space
        A surface.
    limit : float
        Value at the ends of the colour scale, which is symmetric about 0.

    Returns
    -------
    matplotlib Figure
    """
    from matplotlib.figure import Figure
    from nilearn.plotting import plot_surf_stat_map

    shown = np.where(medial_wall(space.mesh), 0.0, values[space.cortex])
    figure = Figure(figsize=(10, 2.1), layout=None)
    for place, (side, view) in enumerate(VIEWS):
        axes = figure.add_axes((place * 0.245, -0.1, 0.245, 1.2), projection="3d")
        plot_surf_stat_map(
            tuple(part.copy() for part in surface(space.mesh, side, "infl")),
            shown[space.slice(side)],
            hemi=side,
            view=view,
            bg_map=sulcal_depth(space.mesh)[space.slice(side)],
            threshold=limit / 10,
            vmin=-limit,
            vmax=limit,
            cmap=_COLOURS,
            colorbar=False,
            axes=axes,
            figure=figure,
            engine="matplotlib",
        )
        axes.set_title("")
    return figure


def colour_scale(limit: float, unit: str) -> Figure:
    """The colour scale of the surface pictures."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 0.7))
    axes = figure.add_axes((0.05, 0.6, 0.9, 0.3))
    figure.colorbar(
        ScalarMappable(Normalize(-limit, limit), _COLOURS), cax=axes, orientation="horizontal"
    ).set_label(unit, fontsize=8)
    axes.tick_params(labelsize=8)
    return figure


def regions_figure(
    response: Response,
    moments: Sequence[int] = (),
    atlas: str | Atlas = "textbook",
    most: int = MOST_REGIONS,
) -> Figure:
    """Mean response of each region over time, as a map of regions by seconds of BOLD.

    Parameters
    ----------
    response : Response
    moments : sequence of int
        Rows to mark.
    atlas : str or Atlas
    most : int
        Regions to draw: where there are more, those whose mean varies most, in their order.
    """
    from matplotlib.figure import Figure

    table = response.regions(atlas)
    if table.shape[1] > most:
        varying = table.var().to_numpy().argsort()[::-1][:most]
        table = table.iloc[:, np.sort(varying)]
    bold_time = response.data["bold_time"].values
    limit = max(float(np.nanmax(np.abs(table.values))), 1e-12)
    figure = Figure(figsize=(10, 0.17 * table.shape[1] + 1), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(
        table.values.T,
        aspect="auto",
        interpolation="nearest",
        cmap=_COLOURS,
        vmin=-limit,
        vmax=limit,
        extent=(bold_time[0], bold_time[-1] + 1, table.shape[1] - 0.5, -0.5),
    )
    axes.set_yticks(range(table.shape[1]), table.columns, fontsize=7)
    axes.set_xlabel("time of the BOLD signal (s from the start of the stimulus)")
    for row in moments:
        axes.axvline(bold_time[row] + 0.5, color="black", lw=0.6, ls=":")
    figure.colorbar(image, ax=axes, label="response", shrink=0.6)
    return figure
