"""Pages about evaluations and comparisons: every number with its floor and ceiling."""

from __future__ import annotations

import base64
import dataclasses
import io
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / "evaluation"))

from evaluation_makers import NETWORKS, WAYS, make_evaluation
from tribrain.brain.meshes import medial_wall
from tribrain.errors import InputError
from tribrain.evaluation.compare import compare, differences
from tribrain.evaluation.evaluation import Evaluation
from tribrain.evaluation.evaluation_files import load
from tribrain.viewing.comparison_report import comparison_page, write_comparison
from tribrain.viewing.evaluation_figures import (
    differences_figure,
    map_limit,
    outputs_figure,
    person_means,
    regions_figure,
    sorted_figure,
    way_colour,
    ways_figure,
    weighted_means,
)
from tribrain.viewing.evaluation_report import evaluation_page, headline_ways, write_evaluation
from tribrain.viewing.report_tables import html_table, number, probability, with_interval

NASTY = "<script>alert('x')</script> & \"co\" <b>"


class Page(HTMLParser):
    """Tags with their attributes, the text, and tables as lists of rows of cells."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.text, self._cell = "", False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._cell = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data):
        self.text += data
        if self._cell:
            self.tables[-1][-1][-1] += data

    def table(self, *header: str) -> list[dict[str, str]]:
        """Rows of the table whose header begins so."""
        (found,) = (one for one in self.tables if one and tuple(one[0][: len(header)]) == header)
        return [dict(zip(found[0], row, strict=True)) for row in found[1:]]

    def pictures(self) -> list[Image.Image]:
        held = [attrs["src"] for tag, attrs in self.tags if tag == "img"]
        assert all(source.startswith("data:image/png;base64,") for source in held)
        return [Image.open(io.BytesIO(base64.b64decode(one.split(",")[1]))) for one in held]


def loads_nothing(page: Page) -> None:
    """No script, no style or picture from elsewhere: an address would be one."""
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    for _, attrs in page.tags:
        for name in ("src", "href"):
            assert (attrs.get(name) or "#").startswith(("data:", "#"))
        assert not any(key.startswith("on") for key in attrs)


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return make_evaluation(people=3, rows=40)


@pytest.fixture(scope="module")
def page(evaluation: Evaluation) -> Page:
    return Page(evaluation_page(evaluation))


def test_the_page_is_one_file(page: Page) -> None:
    loads_nothing(page)
    pictures = page.pictures()
    assert len(pictures) == 4
    assert all(min(picture.size) > 200 for picture in pictures)
    assert page.text.lstrip().startswith("Evaluation: quick-small on Made - tribrain")


def test_every_score_has_its_floor_and_ceiling(evaluation: Evaluation, page: Page) -> None:
    found = page.table("way", "people", "r [95 % interval]")
    assert [row["way"] for row in found] == list(WAYS)
    for cells, row in zip(found, evaluation.summary.to_dict("records"), strict=True):
        assert (
            cells["r [95 % interval]"]
            == f"{row['r']:.3f} [{row['r_low']:.3f}, {row['r_high']:.3f}]"
        )
        for key, column in (
            ("nuisance floor", "floor"), ("ceiling", "ceiling"), ("r / ceiling", "normalised"),
            ("R²", "r2"), ("explained variance", "explained_variance"),
        ):  # fmt: skip
            assert float(cells[key]) == pytest.approx(row[column], abs=5.01e-4)
        assert cells["outputs left out of it"] == f"{row['left_out']} of 42"
    assert [row["r of people never trained on"] for row in found].count("–") == len(WAYS) - 1


def test_group_and_significance_stand_beside_their_floor(
    evaluation: Evaluation, page: Page
) -> None:
    (table,) = (one for one in page.tables if "R_group [95 % interval]" in one[0])
    assert table[0].count("nuisance floor") == 4
    floor = evaluation.row("nuisance")
    for cells, row in zip(table[1:], evaluation.summary.to_dict("records"), strict=True):
        expected = [
            row["way"], with_interval(row["R_group"], row["R_group_low"], row["R_group_high"]),
            number(floor["R_group"]), "0.840", probability(row["p"]), f"{row['significant']}",
            f"{floor['significant']}", f"{row['top1']:.3f}", f"{floor['top1']:.3f}",
            f"{row['top5']:.3f}", f"{floor['top5']:.3f}",
        ]  # fmt: skip
        assert cells == expected


def test_a_way_may_have_a_floor_of_its_own(evaluation: Evaluation) -> None:
    told = evaluation.told | {"floors": {"model": "textbook"}}
    found = Page(evaluation_page(dataclasses.replace(evaluation, told=told)))
    (table,) = (one for one in found.tables if "R_group [95 % interval]" in one[0])
    floors = {row[0]: row[2] for row in table[1:]}
    assert floors["model"] == f"{evaluation.row('textbook')['R_group']:.3f}"
    assert floors["fir"] == "–"


def test_tables_of_people_stimuli_and_networks(evaluation: Evaluation, page: Page) -> None:
    scores = evaluation.scores
    for header, key in ((("study", "person"), "subject"), (("study", "stimulus"), "group")):
        for row in page.table(*header):
            there = scores[(scores[key] == row[header[1]]) & (scores["way"] == "model")]
            assert row["r, model"] == f"{np.average(there['r'], weights=there['rows']):.3f}"
            assert (
                row["nuisance floor"] == f"{np.average(there['floor'], weights=there['rows']):.3f}"
            )
            assert row["rows"] == str(there["rows"].sum())
    networks = page.table("network", "outputs")
    assert {row["network"] for row in networks} == set(NETWORKS)
    values = [float(row["r, model"]) for row in networks]
    assert values == sorted(values, reverse=True)
    assert {"r, nuisance", "ceiling", "r / ceiling, model"} <= set(networks[0])


def test_what_made_it_is_told(evaluation: Evaluation) -> None:
    warning = "scored on rows it was trained on"
    told = evaluation.told | {"warning": warning, "notes": ["person 9 left out", "second note"]}
    found = Page(evaluation_page(dataclasses.replace(evaluation, told=told)))
    assert ("p", {"class": "warning"}) in found.tags
    for text in (
        warning, "person 9 left out", "second note", "1,000 circular shifts", '"draws": 2000',
        np.__version__, "0" * 64, "a reference and no bound", "false discovery rate",
        *(about for _, about in WAYS.values()),
    ):  # fmt: skip
        assert text in found.text
    (side,) = found.table("side", "spans")
    assert (side["spans"], side["people"], side["stimuli"]) == ("9", "3", "3")
    assert side["minutes of BOLD"] == "6.0"
    assert len(found.table("side", "study")) == 9


def test_folds_count_a_span_once(evaluation: Evaluation) -> None:
    spans = [span | {"fold": fold} for fold in range(3) for span in evaluation.told["splits"]]
    told = evaluation.told | {"splits": spans}
    found = Page(evaluation_page(dataclasses.replace(evaluation, told=told)))
    (side,) = found.table("side", "spans")
    assert (side["spans"], side["minutes of BOLD"]) == ("9", "6.0")
    assert "In 3 folds" in found.text


def test_every_row_of_bold_is_counted_once(evaluation: Evaluation) -> None:
    """Blocks of one run have a line each; a way may lack some; rows of no other way are added."""
    table = evaluation.scores.assign(group="film", run="run-1")
    fewer = table[(table["way"] != evaluation.ways[0]) | (table["subject"] != "01")]
    found = Page(evaluation_page(dataclasses.replace(evaluation, scores=fewer)))
    assert "3 people, 1 stimulus, 360 rows of BOLD" in found.text


def test_names_cannot_break_the_page(evaluation: Evaluation) -> None:
    replaced = {"way": {"fir": NASTY}, "subject": {"01": NASTY}, "group": {"sitcom 1": NASTY},
                "region": {"Vis": NASTY}}  # fmt: skip
    tables = {
        name: getattr(evaluation, name).replace(
            {k: v for k, v in replaced.items() if k in getattr(evaluation, name)}
        )
        for name in ("scores", "summary", "regions", "moments")
    }
    told = evaluation.told | {
        "title": NASTY, "notes": [NASTY], "warning": NASTY, "ways": {NASTY: NASTY, "model": NASTY},
        "versions": {NASTY: NASTY}, "ceiling": NASTY,
        "splits": [span | {"run": NASTY} for span in evaluation.told["splits"]],
    }  # fmt: skip
    found = Page(evaluation_page(dataclasses.replace(evaluation, told=told, **tables)))
    loads_nothing(found)
    assert found.text.count(NASTY) > 10
    other = dataclasses.replace(evaluation, told=told, **tables)
    compared = Page(comparison_page(compare(other, evaluation, [(NASTY, "fir")], draws=20)))
    loads_nothing(compared)
    assert compared.text.count(NASTY) > 3


def test_what_is_not_there_is_a_dash(evaluation: Evaluation) -> None:
    """No floor, null, ceiling, people of others, regions, maps: the page still tells r."""
    bare = make_evaluation(None, people=1, films={"a": 30}, ways=("fir",))
    summary = bare.summary.assign(
        **dict.fromkeys(bare.summary.columns.drop(["way", "people", "r"]), np.nan)
    )
    scores = bare.scores.assign(ceiling=np.nan, normalised=np.nan, left_out=np.nan, floor=np.nan)
    told = {"title": "arrays"}
    bare = dataclasses.replace(bare, told=told, summary=summary, scores=scores, maps={})
    found = Page(evaluation_page(bare))
    (row,) = found.table("way", "people", "r [95 % interval]")
    assert row["r [95 % interval]"] == f"{summary['r'][0]:.3f}"
    assert set(list(row.values())[3:]) == {"–"}
    assert "nan" not in found.text.lower().replace("nuisance", "")
    assert "none was estimated" in found.text
    assert len(found.pictures()) == 1


def test_plain_arrays_without_a_model() -> None:
    made = make_evaluation(None, people=1, ways=("banded", "fir"), rows=30)
    found = Page(evaluation_page(made))
    loads_nothing(found)
    assert "50, plain arrays" in found.text
    assert "1 person, 3 stimuli, 90 rows of BOLD" in found.text
    assert "r, banded" in found.table("study", "person")[0]


def test_a_surface_is_pictured() -> None:
    made = make_evaluation("fsaverage3", people=2, rows=20, films=("a",), ways=("model", "fir"))
    found = Page(evaluation_page(made))
    shown = [attrs["alt"] for tag, attrs in found.tags if tag == "img"]
    for name in ("r of model", "the ceiling, as estimated", "r / ceiling of model"):
        assert name in shown
    assert shown.count("colour scale") == 2
    compared = compare(made, make_evaluation("fsaverage3", people=2, rows=20, films=("a",),
                       ways=("model", "fir"), gains={"model": 0.05}), draws=20)  # fmt: skip
    shown = [
        attrs.get("alt") for tag, attrs in Page(comparison_page(compared)).tags if tag == "img"
    ]
    assert "Where: model" in shown


def test_long_lists_are_cut_and_said_to_be() -> None:
    made = make_evaluation(people=65, rows=4, films=("a",), ways=("model",))
    regions = pd.concat([made.regions.iloc[:1]] * 60, ignore_index=True).assign(
        kind="region", region=[f"region {n}" for n in range(60)], r=np.repeat([0.0, 0.1, 0.2], 20)
    )
    found = Page(evaluation_page(dataclasses.replace(made, regions=regions)))
    assert len(found.table("study", "person")) == 60
    assert "60 of 65; all are in scores.tsv" in found.text
    assert "60 of 65; all are in splits.tsv" in found.text
    values = [float(row["r, model"]) for row in found.table("region", "outputs")]
    assert values == [0.2] * 10 + [0.0] * 10
    assert "all are in regions.tsv" in found.text
    assert "The 24 with the largest r of 60." in found.text


def test_the_page_is_about_the_model_or_the_best_baseline(evaluation: Evaluation) -> None:
    assert headline_ways(evaluation) == ["model", "banded", "nuisance"]
    for ways, shown in (
        (("fir", "banded", "nuisance", "people"), ["banded", "fir", "nuisance"]),
        (("model, unseen", "fir"), ["model, unseen", "fir"]),
        (("people", "nuisance"), ["people", "nuisance"]),
        (("shifted",), ["shifted"]),
    ):
        assert headline_ways(make_evaluation(people=2, rows=10, ways=ways)) == shown


def test_the_figure_of_ways_shows_what_was_measured(evaluation: Evaluation) -> None:
    people, group = ways_figure(evaluation).axes
    table, each = evaluation.summary, person_means(evaluation)
    lines = [(np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float))
             for line in people.lines]  # fmt: skip
    for place, row in enumerate(table.to_dict("records")):
        own = each.loc[each["way"] == row["way"], "r"].to_numpy()
        dots = [
            x for x, y in lines if len(x) == len(own) and np.all((y > place) & (y < place + 0.4))
        ]
        assert any(np.allclose(x, own) for x in dots)
        spans = [x for x, y in lines if len(x) == 2 and np.all(y == place)]
        assert any(np.allclose(x, [row["r_low"], row["r_high"]]) for x in spans)
    boxes = {round(p.get_x(), 6) for p in people.patches}
    assert boxes == {-0.009}
    assert len(people.patches) == len(WAYS) - 1  # none for "people"
    told = [text.get_text() for text in people.get_yticklabels()]
    assert told == list(WAYS)
    assert len(group.texts) == len(WAYS) - 1  # "people" has no R_group


def test_without_a_group_there_is_one_panel(evaluation: Evaluation) -> None:
    nothing = dict.fromkeys(["R_group", "R_group_low", "R_group_high"], np.nan)
    summary = evaluation.summary.assign(**nothing)
    assert len(ways_figure(dataclasses.replace(evaluation, summary=summary)).axes) == 1


def test_the_histogram_leaves_the_medial_wall_out() -> None:
    made = make_evaluation("fsaverage3", people=1, rows=10, films=("a",), ways=("model", "shifted"))
    maps = dict(made.maps)
    wall = medial_wall("fsaverage3")
    maps["model/r"] = np.where(wall, 9.0, np.nan_to_num(maps["model/r"])).astype(np.float32)
    del maps["model/null"]
    axes = outputs_figure(dataclasses.replace(made, maps=maps), "model").axes[0]
    assert axes.get_xlim()[1] < 2
    counts = sum(patch.get_height() for patch in axes.containers[0].patches)
    assert counts == (~wall).sum()
    assert [text.get_text() for text in axes.get_legend().get_texts()][1] == "control: shifted"


def test_weighted_means_are_those_of_loops(evaluation: Evaluation) -> None:
    scores = evaluation.scores.copy()
    scores["rows"] = np.arange(len(scores)) + 1
    scores.loc[::3, "floor"] = np.nan
    found = weighted_means(scores, ["way", "group"])
    assert len(found) == len(WAYS) * 3
    for row in found.to_dict("records"):
        own = scores[(scores["way"] == row["way"]) & (scores["group"] == row["group"])]
        total = sum(own["rows"])
        assert row["rows"] == total
        assert row["r"] == pytest.approx(sum(own["r"] * own["rows"]) / total)
        there = own[own["floor"].notna()]
        if len(there):
            direct = sum(there["floor"] * there["rows"]) / sum(there["rows"])
            assert row["floor"] == pytest.approx(direct)
        else:
            assert np.isnan(row["floor"])


def test_ways_of_one_kind_are_told_apart_in_bars(evaluation: Evaluation) -> None:
    axes = regions_figure(evaluation, ["banded", "fir", "textbook"], "network").axes[0]
    colours = {bars.patches[0].get_facecolor() for bars in axes.containers if len(bars)}
    assert len(colours) == 3
    assert way_colour("fir") == way_colour("fir, unseen") == way_colour("banded")
    assert len({way_colour(way) for way in ("model", "fir", "people", "nuisance", "shifted")}) == 5


def test_outputs_stand_in_the_order_of_the_first_way(evaluation: Evaluation) -> None:
    axes = sorted_figure(evaluation, ["model", "fir"]).axes[0]
    named = {line.get_label(): np.asarray(line.get_ydata()) for line in axes.lines}
    assert (np.diff(named["model"]) <= 0).all()
    order = np.argsort(-evaluation.maps["model/r"], kind="stable")
    np.testing.assert_array_equal(named["fir"], evaluation.maps["fir/r"][order])


def test_one_scale_fits_all_maps() -> None:
    made = make_evaluation("fsaverage3", people=1, rows=10, films=("a",), ways=("model",))
    wall = medial_wall("fsaverage3")
    low = np.where(wall, 100.0, np.linspace(-0.2, 0.1, len(wall)))
    high = np.where(wall, np.nan, np.linspace(0, 0.4, len(wall)))
    expected = max(np.percentile(abs(one[~wall]), 99.5) for one in (low, high))
    assert map_limit([low, high], made.space) == pytest.approx(expected)
    assert map_limit([np.full(len(wall), np.nan)], made.space) == 1


def test_numbers_in_words() -> None:
    assert number(0.12345) == "0.123"
    assert number(-0.0001) == "0.000"
    assert number(0.02, sign=True) == "+0.020"
    assert number(-0.0001, sign=True) == "0.000"
    assert number(20484, 0) == "20,484"
    assert number(float("nan")) == number(None) == "–"
    assert (probability(0.0009), probability(0.001), probability(1.0)) == (
        "< 0.001",
        "0.001",
        "1.000",
    )
    assert probability(float("nan")) == "–"
    assert with_interval(0.1, 0.05, float("nan")) == "0.100"
    assert with_interval(0.1, -0.05, 0.2, sign=True) == "+0.100 [-0.050, +0.200]"
    assert "<td>a &lt; b</td><td class=n>1</td>" in html_table(("x", "y"), [("a < b", "1")])


def test_a_comparison_tells_what_was_paired() -> None:
    one = make_evaluation(people=3, rows=40, gains={"model": 0.02})
    other = make_evaluation(people=4, rows=40, variant=1, title="lite on Made")
    compared = compare(one, other, draws=100)
    found = Page(comparison_page(compared))
    loads_nothing(found)
    rows = found.table("way", "people", "rows")
    for cells, row in zip(rows, compared.table.to_dict("records"), strict=True):
        assert cells["way"] == row["way"]
        assert cells["difference [95 % interval]"] == with_interval(
            row["difference"], row["low"], row["high"], sign=True
        )
        assert cells["p"] == probability(row["p"])
        assert cells["people with a gain"] == f"{row['better']} of 3"
    assert "120 of 480 rows are in the second alone" in found.text
    assert "quick-small on Made against lite on Made" in found.text
    assert len(found.table("region", "kind")) == 7
    assert len(found.table("study", "person")) == 3
    axes = differences_figure(compared).axes
    assert axes[0].texts[0].get_text() == number(compared.table["difference"][0], sign=True)


def test_ways_of_one_evaluation_are_named_as_differences(evaluation: Evaluation) -> None:
    found = Page(comparison_page(differences(evaluation, "fir", draws=50)))
    assert "Ways compared: quick-small on Made" in found.text
    assert [row["way"] for row in found.table("way", "people", "rows")] == [
        f"{way} - fir" for way in WAYS if way != "fir"
    ]
    alone = dataclasses.replace(
        evaluation, moments=evaluation.moments[evaluation.moments["subject"] != "group"]
    )
    found = Page(comparison_page(differences(alone, "fir", ["model"], draws=50)))
    assert "Mean of all people" not in found.text


def test_pages_are_saved_with_what_they_are_about(evaluation: Evaluation, tmp_path: Path) -> None:
    folder = write_evaluation(evaluation, tmp_path / "e")
    assert Page((folder / "report.html").read_text()).table("way", "people")
    assert load(folder).ways == evaluation.ways
    with pytest.raises(InputError, match="holds an evaluation already"):
        write_evaluation(evaluation, folder)
    out = write_comparison(differences(load(folder), "fir", ["model"], draws=50), tmp_path / "c")
    assert {path.name for path in out.iterdir()} >= {"comparison.html", "comparison.tsv"}
