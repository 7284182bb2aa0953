"""What the numbers of an evaluation are, in words, and what makes them again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from tribrain.evaluation.evaluation import NUISANCE, SPLITS, Evaluation
from tribrain.evaluation.evaluation_files import plain
from tribrain.viewing.report_tables import MOST_ROWS, html_table, number


def words(evaluation: Evaluation) -> str:
    """A list of what each number is."""
    told = evaluation.told
    least = told.get("least_ceiling", 0.1)
    null: Mapping[str, Any] = next(iter((told.get("null") or {}).values()), {})
    kind = null.get("kind", "draws of the phases of the prediction")
    floor = (told.get("ways") or {}).get(NUISANCE, "word rate, loudness, motion on the screen")
    draws = f"{null['n']:,} {kind}" if isinstance(null.get("n"), int) else kind
    items = [
        ("r", "Pearson correlation of predicted and measured BOLD over time, for each output of "
         "each run; the mean over outputs, then over people. Nothing is clipped, and no output is "
         "left out because it is predicted badly."),
        ("Interval", "95 %, over people and blocks of time."),
        ("Nuisance floor", f"what is predicted without any model ({floor}), on the same rows. What "
         "a way scores beyond it is what it adds. A dash: there was nothing to work it out from."),
        ("Ceiling", f"{ceiling_words(told)}. A ceiling is an estimate, and one of what people "
         "share is none for what is fitted to the person. The mean of the other people (way "
         "“people”) is a reference and no bound."),
        ("r / ceiling", f"mean over the outputs whose ceiling is {least:g} or more. How many were "
         "left out stands beside it; in those r itself still counts."),
        ("R_group", "r of the mean over people of what a way predicts with the mean of all "
         "people's BOLD at the same seconds, those that it was fitted to among them. "
         "Noise of single people averages out: it is higher than r, with a ceiling of its own."),
        ("People never trained on", "the mean r of people of whom nothing was trained on, if any."),
        ("p of the mean r", f"how often a prediction that knows nothing of the moment does as well "
         f"({draws}); one-sided, the smallest possible one where there is none."),
        ("Significant outputs", "by the same null for each output, false discovery rate 0.05."),
        ("Retrieval", "how often a window of time is told from all others by its measured "
         "response: as the best match, or among the best five."),
        ("R², explained variance", "1 less the share of variance that is left, about the mean, "
         "and without regard to the mean. Predictions of the wrong size score below 0."),
    ]  # fmt: skip
    return "<dl>" + "".join(
        f"<dt><b>{escape(name)}</b></dt><dd>{escape(text)}</dd>" for name, text in items
    ) + "</dl>"  # fmt: skip


def ceiling_words(told: Mapping[str, Any]) -> str:
    """What the ceiling was estimated from."""
    said = str(told.get("ceiling") or "")
    return "none was estimated" if said in ("", "none") else said


def made(evaluation: Evaluation) -> list[str]:
    """Splits, seeds, settings, versions, notes: what makes it again."""
    told = evaluation.told
    parts = ["<h2>How it was made</h2>"]
    notes = [f"<li>{escape(str(note))}</li>" for note in told.get("notes") or ()]
    parts.append(f"<ul>{''.join(notes)}</ul>" if notes else "<p>Nothing was left out.</p>")
    splits = list(told.get("splits") or ())
    if splits:
        parts.append(_splits(splits))
    for key, title in (
        ("seeds", "Seeds"),
        ("settings", "Settings"),
        ("versions", "Versions"),
        ("checksums", "Checksums of the data"),
    ):
        if told.get(key):
            text = json.dumps(plain(told[key]), indent=1, ensure_ascii=False)
            parts.append(
                f"<details{' open' if key == 'seeds' else ''}><summary>{title}</summary>"
                f"<pre>{escape(text)}</pre></details>"
            )
    return parts


def _splits(splits: Sequence[Mapping[str, Any]]) -> str:
    """Sides with their amounts, a span counted once whatever the folds, and the spans."""
    sides: dict[str, list[Mapping[str, Any]]] = {}
    seen: set[tuple[Any, ...]] = set()
    for span in splits:
        key = tuple(span.get(name) for name in SPLITS)
        if key not in seen:
            sides.setdefault(str(span.get("side", "")), []).append(span)
        seen.add(key)
    folds = len({span.get("fold") for span in splits})
    amounts = [
        (
            side,
            number(len(spans), 0),
            number(len({span.get("subject") for span in spans}), 0),
            number(len({span.get("group") for span in spans}), 0),
            number(sum(float(span["end"]) - float(span["begin"]) for span in spans) / 60, 1),
        )
        for side, spans in sides.items()
    ]
    told = html_table(("side", "spans", "people", "stimuli", "minutes of BOLD"), amounts)
    parted = (
        f"<p><small>In {folds} folds: each part is tested once, and trained on in the others."
        "</small></p>"
        if folds > 1
        else ""
    )
    header = ("side", "study", "person", "run", "stimulus", "from (s)", "to (s)")
    rows = [
        (
            *(str(span.get(key, "")) for key in ("side", "study", "subject", "run", "group")),
            f"{float(span['begin']):g}",
            f"{float(span['end']):g}",
        )
        for span in splits[:MOST_ROWS]
    ]
    more = (
        f"<p><small>{MOST_ROWS} of {len(splits)}; all are in splits.tsv.</small></p>"
        if len(splits) > MOST_ROWS
        else ""
    )
    return (
        f"<h3>Split</h3>{told}{parted}<details><summary>Spans</summary>"
        f"{html_table(header, rows, words=5)}{more}</details>"
    )
