"""A page about one prediction: what it shows, what made it, what was left out.

The page is one file. Pictures are inside it; it loads nothing and runs nothing.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from tribrain.brain.response import Response
from tribrain.brain.summaries import cortex_mask
from tribrain.stimuli.media import iter_frames
from tribrain.stimuli.stimulus import Stimulus
from tribrain.viewing.figures import (
    MOST_REGIONS,
    colour_limit,
    colour_scale,
    regions_figure,
    surface_figure,
)

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from tribrain.brain.atlases import Atlas

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem;
  color: #1a1a1a; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.label { background: #fff3cd; border-left: 4px solid #e0a800; padding: .5rem .8rem; }
table { border-collapse: collapse; } th, td { text-align: left; padding: .15rem 1rem .15rem 0;
  vertical-align: top; } th { font-weight: 600; }
.moment { display: flex; gap: 1rem; align-items: center; border-top: 1px solid #ddd; }
.moment .what { flex: 0 0 13rem; } .moment img.brain { width: 100%; min-width: 0; }
.what img { width: 100%; } .words { font-style: italic; } img { max-width: 100%; }
small { color: #555; }
"""


def report_page(
    response: Response,
    stimulus: Stimulus | None,
    *,
    n_moments: int = 4,
    title: str = "stimulus",
    atlas: Atlas | None = None,
) -> str:
    """Write the report of a prediction.

    Parameters
    ----------
    response : Response
    stimulus : Stimulus, optional
        For frames and words beside the brain.
    n_moments : int
        Moments to picture (`Response.telling_rows`).
    title : str
    atlas : Atlas, optional
        Whose regions are drawn over time; those of the textbook table by default.

    Returns
    -------
    str
        HTML.
    """
    attrs = response.data.attrs
    parts = [
        f"<h1>Predicted brain response: {escape(title)}</h1>",
        f'<p class="label">{escape(attrs["label"])}</p>',
        _facts(response, stimulus),
    ]
    if response.space.is_surface:
        moments = response.telling_rows(n_moments)
        parts += _moments(response, stimulus, moments)
        parts += [
            "<h2>Regions over time</h2>",
            image_tag(
                regions_figure(response, moments, atlas or "textbook"),
                "mean response of each region over time",
            ),
            f"<p><small>{_which_regions(atlas)} Dotted: the moments above.</small></p>",
        ]
        parts += _accuracy_map(response)
    else:
        parts.append(
            f"<p>The response lies in {escape(response.space.name)}, which has no surface "
            "to draw.</p>"
        )
    return html_page(title, parts)


def html_page(title: str, parts: Sequence[str]) -> str:
    """A page of parts that are HTML already."""
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)} - tribrain</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def _which_regions(atlas: Atlas | None) -> str:
    if atlas is None or atlas.name == "textbook":
        return (
            "Regions of the textbook table (vertices at half of a region's width or more, medial "
            "wall left out)."
        )
    shown = (
        f"The {MOST_REGIONS} regions that vary most"
        if len(atlas.regions) > MOST_REGIONS
        else "Regions"
    )
    return f"{shown} of {escape(atlas.name)} ({escape(atlas.source)}), medial wall left out."


def _facts(response: Response, stimulus: Stimulus | None) -> str:
    data, attrs = response.data, response.data.attrs
    provenance: Mapping[str, Any] = response.provenance
    source = provenance.get("stimulus", {})
    notes = source.get("notes", stimulus.notes if stimulus is not None else ())
    rows = {
        "Model": f"{attrs['model']} (revision {attrs['revision']})",
        "Licence": attrs["licence"],
        "Person": attrs["subject"],
        "Modalities": ", ".join(attrs["modalities"]),
        "Left out, changed": "; ".join(notes) or "nothing",
        "Stimulus": f"{source['file']}, {source['duration_s']:.3f} s" if source else "not recorded",
        "Response": f"{data.sizes['time']} rows of 1 s, {data.sizes['vertex']:,} values, "
        f"{attrs['space']}",
        "Time": f"row t holds the BOLD signal at t + {attrs['lag']:g} s",
        "Unit": attrs["unit"],
        "Accuracy": _accuracy(response),
        "Medial wall": "left out of pictures and regions",
        "Made with": "tribrain " + provenance.get("versions", {}).get("tribrain", ""),
    }
    cells = "".join(f"<tr><th>{k}</th><td>{escape(str(v))}</td></tr>" for k, v in rows.items())
    return f"<table>{cells}</table>"


def _accuracy(response: Response) -> str:
    """How well the model predicts, in one line."""
    accuracy = response.accuracy
    if accuracy is None:
        return "this model carries no map of its own accuracy"
    values = _scored(response)
    if not len(values):
        return f"{_accuracy_told(accuracy)}: defined nowhere"
    where, below = ("over cortex ", ", map below") if response.space.is_surface else ("", "")
    low, median, high = np.percentile(values, [10, 50, 90])
    return (
        f"{_accuracy_told(accuracy)}: median {where}{median:.3f}, {low:.3f} to {high:.3f} in the "
        f"middle 80 % of {len(values):,} values{below}"
    )


def _accuracy_told(accuracy: xr.DataArray) -> str:
    """What the accuracy is, and whose, where it is that of the model adapted from."""
    told = str(accuracy.attrs.get("long_name", "accuracy")).removeprefix("accuracy: ")
    base = accuracy.attrs.get("adapted_from")
    return f"{told}, of {base} before it was adapted" if base else told


def _scored(response: Response) -> np.ndarray:
    """Accuracies that are defined; on a surface, of the cortex."""
    assert response.accuracy is not None
    values, mask = response.accuracy.values, cortex_mask(response.space)
    if response.space.is_surface:
        mask[response.space.cortex.stop :] = False
    return values[mask & np.isfinite(values)]


def _accuracy_map(response: Response) -> list[str]:
    """The accuracy on the surface; nothing where it is not known."""
    accuracy = response.accuracy
    values = _scored(response) if accuracy is not None else np.empty(0)
    if accuracy is None or not len(values):
        return []
    limit = float(np.percentile(np.abs(values), 99.5)) or 1.0
    shown = np.nan_to_num(accuracy.values)
    unit = str(accuracy.attrs.get("measure", "accuracy"))
    return [
        "<h2>Accuracy of the model</h2>",
        image_tag(
            surface_figure(shown, response.space, limit), "accuracy on the cortex", "accuracy"
        ),
        image_tag(colour_scale(limit, unit), "colour scale of the accuracy"),
        f"<p><small>{escape(_accuracy_told(accuracy))}. Where it is low, the predicted response "
        "says little, however strong it is. Where it is not defined, and under a tenth of the "
        "scale's end, the folding of the cortex alone is shown.</small></p>",
    ]


def _moments(response: Response, stimulus: Stimulus | None, moments: Sequence[int]) -> list[str]:
    limit = colour_limit(response)
    frames = _frames(stimulus, moments)
    parts = ["<h2>Moments</h2>"]
    for row in moments:
        time = float(response.data["time"][row])
        bold = float(response.data["bold_time"][row])
        what = f"<b>{time:g} s</b> of the stimulus<br><small>BOLD at {bold:g} s</small>"
        if row in frames:
            what += f'<br><img src="{frames[row]}" alt="film at {time:g} s">'
        spoken = " ".join(
            word.text
            for word in (stimulus.words if stimulus else ())
            if time - 1 < word.start <= time + 1
        )
        if spoken:
            what += f'<br><span class="words">{escape(spoken)}</span>'
        figure = surface_figure(response.data.values[row], response.space, limit)
        parts.append(
            f'<div class="moment"><div class="what">{what}</div>'
            f"{image_tag(figure, f'cortex at {time:g} s', 'brain')}</div>"
        )
    parts.append(image_tag(colour_scale(limit, "response (z-scored BOLD)"), "colour scale"))
    parts.append(
        "<p><small>The strongest moment, and those with the most that it does not show. "
        "Left hemisphere from the side and the middle, right hemisphere from the middle "
        "and the side. One colour scale for all pictures; values under a tenth of its end show "
        "the folding of the cortex alone.</small></p>"
    )
    return parts


def _frames(stimulus: Stimulus | None, rows: Sequence[int]) -> dict[int, str]:
    """Film at the start of each row, as data URLs of small JPEG pictures."""
    if stimulus is None or stimulus.video is None:
        return {}
    from PIL import Image

    track = stimulus.video
    rows = [row for row in rows if row >= track.start]
    times = np.array(rows, float) - track.start
    numbers = track.frame_numbers(times)
    shown = dict(iter_frames(track, numbers.tolist()))
    urls = {}
    for row, number in zip(rows, numbers.tolist(), strict=True):
        picture = Image.fromarray(shown[number])
        picture.thumbnail((320, 240))
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=80)
        urls[row] = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    return urls


def image_tag(figure: Figure, alt: str, kind: str = "") -> str:
    """A picture that is in the page itself."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    content = base64.b64encode(buffer.getvalue()).decode()
    return f'<img class="{kind}" alt="{escape(alt)}" src="data:image/png;base64,{content}">'
