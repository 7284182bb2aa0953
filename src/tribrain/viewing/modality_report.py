"""The part of a page about an evaluation that says which modality predicts what."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np

from tribrain.evaluation.evaluation import Evaluation
from tribrain.evaluation.modalities import ALL, PREFIXES, RIDGE
from tribrain.viewing.modality_figures import (
    MOST_BARS,
    alone_figure,
    places_of,
    shares_figure,
    values_of,
    winner_figure,
)
from tribrain.viewing.report import image_tag
from tribrain.viewing.report_tables import FEW, html_table, number

_WORDS = {
    "model": (
        "What is lost without a modality is less than what it could tell where others tell the "
        "same. The model was not trained again; whether it was trained with modalities left out "
        "stands among the notes above."
    ),
    RIDGE: (
        "A ridge was fitted to every set of modalities, and tested on the rows that everything is "
        "tested on. Unique is what is lost without a modality. Shared is what several tell alike; "
        "it is less than 0 where they explain more together than apart, or where a fit to more "
        "columns is worse on new rows. Unique and shared add up to what all explain. The product "
        "measure parts the one ridge on all modalities instead. Nothing is clipped."
    ),
}


def modality_section(evaluation: Evaluation) -> list[str]:
    """HTML of what each modality predicts; nothing where it was not asked for."""
    if not len(evaluation.modalities):
        return []
    told: Mapping[str, str] = (evaluation.told.get("modalities") or {}).get("ways") or {}
    parts = ["<h2>Modalities</h2>"]
    for way in dict.fromkeys(evaluation.modalities["way"]):
        parts.append(f"<h3>{escape(way)}</h3>")
        said = f"{escape(told[way])}. " if way in told else ""
        parts.append(f"<p>{said}{_WORDS[RIDGE if way == RIDGE else 'model']}</p>")
        parts.append(_whole_table(evaluation, way))
        surface = evaluation.space is not None and evaluation.space.is_surface
        if surface and np.isfinite(evaluation.maps[f"{PREFIXES[way]}/winner"]).any():
            picture = image_tag(winner_figure(evaluation, way), f"winners of {way}", "brain")
            parts.append(f"<p><b>The modality that predicts best alone</b></p>{picture}")
        parts += _places(evaluation, way)
    return parts


def _whole_table(evaluation: Evaluation, way: str) -> str:
    """All outputs: each modality, then what several share, then all together."""
    measures = ["alone", "unique", *(["product"] if way == RIDGE else []), "won"]
    values = {one: values_of(evaluation, way, ALL, one, [ALL]) for one in (*measures, "shared")}
    score = "explained variance" if way == RIDGE else "r"
    whole, gained = (values_of(evaluation, way, ALL, one, [ALL])[ALL][0] for one in (score, "gain"))
    header = ("", f"{score}, alone", "lost without it (unique)" if way != RIDGE else "unique")
    header = (*header, *(("product measure",) if way == RIDGE else ()), "outputs it predicts best")
    rows = []
    for name in values["alone"]:
        cells = [number(values[one][name][0]) for one in measures[:-1]]
        rows.append((name, *cells, f"{100 * values['won'][name][0]:.0f} %"))
    blank = [""] * (len(measures) - 2)
    rows += [
        (f"shared: {name}", "", number(one[0]), *blank) for name, one in values["shared"].items()
    ]
    rows.append(("all together", number(whole), "", *blank))
    rows.append(("gain on the best one of each output", number(gained, sign=True), "", *blank))
    return html_table(header, rows)


def _places(evaluation: Evaluation, way: str) -> list[str]:
    parts = []
    for kind in ("network", "region"):
        places = places_of(evaluation, way, kind)
        if not places:
            continue
        if way == RIDGE:
            parts.append(image_tag(shares_figure(evaluation, kind), f"shares of {kind}s"))
        parts.append(image_tag(alone_figure(evaluation, way, kind), f"modalities of {kind}s"))
        if len(places) > MOST_BARS:
            parts.append(
                f"<p><small>The {MOST_BARS} of {len(places)} that all modalities together predict "
                "best.</small></p>"
            )
        parts.append(_place_table(evaluation, way, kind, places))
    return parts


def _place_table(evaluation: Evaluation, way: str, kind: str, places: list[str]) -> str:
    """The places that are predicted best; the file has all."""
    shown = places[: 2 * FEW]
    score = "explained variance" if way == RIDGE else "r"
    whole = values_of(evaluation, way, kind, score, shown)[ALL]
    alone = values_of(evaluation, way, kind, "alone", shown)
    unique = values_of(evaluation, way, kind, "unique", shown)
    gained = values_of(evaluation, way, kind, "gain", shown)[ALL]
    header = (kind, f"{score}, all", *(f"{name} alone" for name in alone))
    header = (*header, *(f"unique: {name}" for name in unique), "gain of all")
    rows = [
        (
            place,
            number(whole[row]),
            *(number(values[row]) for values in alone.values()),
            *(number(values[row]) for values in unique.values()),
            number(gained[row], sign=True),
        )
        for row, place in enumerate(shown)
    ]
    rest = (
        f"<p><small>{len(shown)} of {len(places)}; all are in modalities.tsv.</small></p>"
        if len(places) > len(shown)
        else ""
    )
    return html_table(header, rows) + rest
