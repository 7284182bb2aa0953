"""A page about the quick start: what was simulated and found, and what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tribrain.files import whole_file
from tribrain.training.quickstart import TRAINING, Findings, summary
from tribrain.training.quickstart_scores import WAYS
from tribrain.viewing.report import html_page, image_tag
from tribrain.viewing.training_figures import learning_figure, minutes_figure, ways_figure

REPORT = "report.html"
_SIDES = {
    "train": "trained on",
    "validation": "chose the epoch",
    "test": "tested",
    "held_out_seen": "new people, films that others were trained on: adapted to",
    "held_out_unseen": "new people, films that nobody was trained on: tested (those of the test)",
}


def write_report(findings: Findings) -> str:
    """Write ``report.html`` and return its path."""
    file = findings.folder / REPORT
    with whole_file(file) as page:
        page.write(quickstart_page(findings).encode())
    return str(file)


def quickstart_page(findings: Findings) -> str:
    """The report, as HTML that loads nothing."""
    minutes = findings.told_minutes
    parts = [
        "<h1>Quick start: a study, a model, new people</h1>",
        '<p class="label">All data are simulated; nobody was scanned. The numbers show that '
        "training works and what it can reach here, and nothing about brains.</p>",
        f"<pre>{escape(chr(10).join(summary(findings)))}</pre>",
        "<h2>What was simulated</h2>",
        _study(findings),
        "<h2>How it was split</h2>",
        "<p>No film is on two sides, and new people are never trained on. Every score on this "
        "page is of the tested films.</p>",
        _split(findings),
        "<h2>Training</h2>",
        image_tag(learning_figure(findings.course), "loss and validation of each epoch"),
        "<p><small>The model of the best validation epoch was kept. Validation films are others "
        "than those of the test.</small></p>",
        "<h2>What it predicts, beside ridge and what can be reached</h2>",
        image_tag(ways_figure(findings, minutes), "scores of model and ridge, a dot a person"),
        "<p><small>Small: people. Large: mean and standard error over people. Solid line: what "
        "one who knows the simulation scores, for people never seen one who knows the mean of the "
        "population. Dashed: the best that is linear in the drives. Ridge has a weight for each "
        "feature and each of the 15 seconds before; its penalty was chosen by leaving films (of "
        "few minutes: blocks of time) of its own training data out. Both read the same "
        "features.</small></p>",
        _table(findings),
        "<h2>A new person, minute by minute</h2>",
        image_tag(minutes_figure(findings), "scores of new people by minutes"),
        "<p><small>Adapted: the last layer of the person, by ridge on what the model makes of the "
        "film, drawn towards that of people never seen. From scratch: ridge on the same "
        "minutes. Bars and band: standard error over people.</small></p>",
        "<h2>What comes next</h2>",
        _next(findings),
    ]
    return html_page("Quick start", parts)


def _study(findings: Findings) -> str:
    settings = findings.settings
    return (
        f"<p>{settings.people + settings.new} people, each of whom watches the same "
        f"{settings.films} films of {settings.minutes:g} minutes; "
        f"{settings.space} parcels of cortex follow what is seen, heard and said, with a "
        "haemodynamic response, noise that is correlated in time and space, and maps that differ "
        "between people. Part of the response is nonlinear: sound and motion together, adaptation "
        "to what went before, words in their context. Of every person's signal some follows from "
        "no feature at all. What a model is given are mixtures of the drives and of series that "
        "drive nothing. Seed "
        f"{settings.seed}; another one, another study: <code>tribrain quickstart --seed 1</code>."
        "</p>"
    )


def _split(findings: Findings) -> str:
    rows = [
        (_SIDES[side], f"{row.hours:.2f}", str(row.people), str(row.groups))
        for side, row in zip(
            findings.split.index, findings.split.itertuples(index=False), strict=True
        )
        if side in _SIDES
    ]
    return _html_table(("side", "hours of BOLD", "people", "films"), rows)


def _table(findings: Findings) -> str:
    rows = []
    for way, told in WAYS.items():
        for minutes in sorted(findings.rows(way)["minutes"].unique()):
            given = minutes if way in ("adapted", "ridge from scratch") else None
            (r, error), (ceiling, _), (share, _) = (
                findings.mean(way, column, given) for column in ("r", "ceiling", "normalised")
            )
            spread = f" ± {error:.3f}" if error == error else ""
            whose = "the population's mean" if way in ("unseen", "ridge of all") else "the person"
            numbers = (f"{r:.3f}{spread}", f"{ceiling:.3f}", whose, f"{share:.2f}")
            rows.append((told, f"{minutes:g}", *numbers))
            if given is None:
                break
    header = (
        *("predicted by", "minutes of the person", "r", "ceiling", "of who knows"),
        "normalised (r / ceiling)",
    )
    return _html_table(header, rows)


def _next(findings: Findings) -> str:
    folder = findings.folder
    steps = (
        (f"tribrain train {folder / TRAINING / 'recipe.toml'} --set training.epochs=30 --out "
         "longer", "the same, trained for longer; copy the recipe and change it"),
        (f"tribrain train {folder / TRAINING / 'recipe.toml'} --scale hours=2,4,8 --out scaling",
         "how the score grows with hours"),
        ("tribrain study list", "real studies; prepare one with tribrain study prepare"),
        ("tribrain train lite --study STORE --out RUN",
         "train on films, sounds and words that a study really showed"),
        ("tribrain adapt RUN/model STORE --subject S --minutes 10 --out PERSON",
         "adapt it to someone new"),
        ("tribrain predict film.mp4 --model PERSON", "predict the response to any film"),
    )  # fmt: skip
    rows = [(f"<code>{escape(command)}</code>", escape(what)) for command, what in steps]
    return _html_table(("", ""), rows, escaped=True)


def _html_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, escaped: bool = False
) -> str:
    def line(kind: str, cells: Sequence[str]) -> str:
        inner = "".join(f"<{kind}>{cell if escaped else escape(cell)}</{kind}>" for cell in cells)
        return f"<tr>{inner}</tr>"

    head = line("th", header) if any(header) else ""
    return f"<table>{head}{''.join(line('td', row) for row in rows)}</table>"
