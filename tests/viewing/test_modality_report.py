"""Pictures and tables of which modality predicts what, of evaluations that nobody measured."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.append(str(Path(__file__).parents[1] / "evaluation"))

from evaluation_makers import make_evaluation
from tribrain.brain.atlases import load_atlas
from tribrain.evaluation.attribution import subsets
from tribrain.evaluation.evaluation import MODALITIES, Evaluation
from tribrain.evaluation.modalities import of_ridge, tabulate_modalities
from tribrain.viewing.evaluation_report import evaluation_page
from tribrain.viewing.modality_figures import (
    COLOURS,
    alone_figure,
    modality_colours,
    places_of,
    shares_figure,
    values_of,
    winner_figure,
)
from tribrain.viewing.modality_report import modality_section

NAMES = ("text", "audio", "video", "smell")


def parted(space: str | None = "fsaverage3", names=NAMES[:3], seed: int = 0) -> Evaluation:
    """An evaluation with a ridge whose first modality wins in the left hemisphere."""
    made = make_evaluation(space, people=2, films=("a",), rows=10, ways=("model", "nuisance"))
    size = len(made.maps["ceiling"])
    rng = np.random.default_rng(seed)
    apart = {name: rng.uniform(0.0, 0.1, size) for name in names}
    apart[names[0]][: size // 2] += 0.2
    apart[names[1]][size // 2 :] += 0.2
    scores = {
        kept: sum(apart[name] for name in kept) + 0.01 * (len(kept) - 1) + 0 * made.maps["ceiling"]
        for kept in subsets(names)
    }
    found = of_ridge(scores, apart)
    surface = made.space is not None and made.space.is_surface
    atlas = load_atlas("textbook", made.space) if surface else None
    place = atlas if surface else (made.space if made.space is not None else None)
    table, maps = tabulate_modalities({"banded": found}, names, place)
    told = {"names": list(names), "ways": {"banded": "explained variance <of> a ridge"}}
    return dataclasses.replace(
        made,
        maps={**made.maps, **maps},
        told={**made.told, "modalities": told},
        modalities=table,
    )


@pytest.fixture(scope="module")
def found() -> Evaluation:
    return parted()


def test_values_are_those_of_the_table_and_places_begin_with_the_best(found):
    places = places_of(found, "banded", "region")
    whole = values_of(found, "banded", "region", "explained variance", places)["all"]
    assert len(places) > 20
    assert (np.diff(whole) <= 0).all()
    alone = values_of(found, "banded", "region", "alone", places[:3])
    table = found.modalities
    for name, values in alone.items():
        rows = table[(table["modality"] == name) & (table["measure"] == "alone")]
        rows = rows[rows["kind"] == "region"].set_index("region")["value"]
        np.testing.assert_array_equal(values, rows[places[:3]])


def test_stacked_shares_end_where_the_whole_is(found):
    """Bars up less bars down are what all modalities explain: the dot."""
    figure = shares_figure(found, "network")
    (axes,) = figure.axes
    places = places_of(found, "banded", "network")
    ends = np.zeros(len(places))
    for bars in axes.containers:
        ends += [bar.get_height() for bar in bars]
    dots = axes.lines[0].get_ydata()
    np.testing.assert_allclose(ends, dots, atol=1e-6)
    assert [label.get_text() for label in axes.get_xticklabels()] == places
    legend = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {"unique: text", "unique: video", "shared: text & audio", "all together"} <= legend
    assert min(bar.get_height() for bars in axes.containers for bar in bars) < 0


def test_more_than_three_modalities_are_summed_by_how_many_share():
    figure = shares_figure(parted(names=NAMES), "network")
    legend = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {"unique: smell", "shared by 2", "shared by 3", "shared by 4"} <= legend
    assert not any(one.startswith("shared:") for one in legend)
    (axes,) = figure.axes
    ends = np.sum([[bar.get_height() for bar in bars] for bars in axes.containers], axis=0)
    np.testing.assert_allclose(ends, axes.lines[0].get_ydata(), atol=1e-6)


def test_bars_of_each_modality_have_its_colour_and_value(found):
    from matplotlib.colors import to_rgb

    upper, lower = alone_figure(found, "banded", "network").axes
    places = places_of(found, "banded", "network")
    alone = values_of(found, "banded", "network", "alone", places)
    for bars, (name, values) in zip(upper.containers, alone.items(), strict=True):
        np.testing.assert_allclose([bar.get_height() for bar in bars], values)
        assert bars[0].get_facecolor()[:3] == to_rgb(modality_colours(found)[name])
    gains = values_of(found, "banded", "network", "gain", places)["all"]
    np.testing.assert_allclose([bar.get_height() for bar in lower.containers[0]], gains)


def test_winners_are_painted_in_their_colours(found):
    """Text wins on the left, audio on the right; the colours' areas say so."""
    figure = winner_figure(found, "banded")
    figure.set_dpi(60)
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    shown = np.asarray(canvas.buffer_rgba())[:, :, :3].astype(int)
    shown = shown[: int(shown.shape[0] * 0.8)]  # above the legend
    middle = shown.shape[1] // 2

    def share(half: np.ndarray, name: str) -> float:
        """Of what is coloured: hue, as surfaces are shaded."""
        from matplotlib.colors import rgb_to_hsv, to_rgb

        seen = rgb_to_hsv(half.reshape(-1, 3) / 255)
        hue = rgb_to_hsv(to_rgb(modality_colours(found)[name]))[0]
        coloured = seen[:, 1] > 0.4
        return float((abs(seen[coloured, 0] - hue) < 0.03).mean())

    assert share(shown[:, :middle], "text") > 0.95
    assert share(shown[:, middle : int(middle * 1.96)], "audio") > 0.95
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(NAMES[:3])


def test_colours_differ():
    assert len(set(COLOURS)) == 5


def test_the_page_has_a_part_about_modalities():
    made = parted(None)
    page = evaluation_page(made)
    assert "<h2>Modalities</h2>" in page
    assert "explained variance &lt;of&gt; a ridge" in page


@pytest.mark.parametrize("space", ["fsaverage3", "parcels", None])
def test_the_part_about_modalities_has_the_numbers(space, found):
    made = found if space == "fsaverage3" else parted(space)
    section = "".join(modality_section(made))
    whole = made.modalities
    whole = whole[(whole["kind"] == "all") & (whole["measure"] == "explained variance")]
    assert f"<td class=n>{whole['value'].item():.3f}</td>" in section
    assert "gain on the best one of each output" in section
    assert ("winners of banded" in section) == (space == "fsaverage3")
    assert ("modalities.tsv" in section) == (space is not None)
    none = dataclasses.replace(made, modalities=pd.DataFrame(columns=list(MODALITIES)))
    assert modality_section(none) == []
