"""Two evaluations, or two ways of one, side by side: the same people, the same seconds.

What is compared is `Evaluation.moments`: the share of each row in the mean correlation. Shares of
the same person and second of the same stimulus are paired, and all others are left out and
counted. The mean of a person's shares is that person's mean r (where rows were left out: to first
order); the difference of two ways is the mean difference of paired shares.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tribrain.brain.spaces import Space
from tribrain.errors import InputError
from tribrain.evaluation.evaluation import GROUP, Evaluation
from tribrain.evaluation.evaluation_files import plain, write_table
from tribrain.evaluation.statistics.bootstrap import bootstrap_blocks
from tribrain.evaluation.statistics.signs import sign_flips
from tribrain.files import whole_folder

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "tribrain-comparison-1"
DESCRIPTION, REPORT = "comparison.json", "comparison.html"
TABLE = (
    *("way", "against", "people", "rows", "r", "r_against", "difference", "low", "high", "p"),
    *("better", "p_people", "R_group", "R_group_against", "R_group_difference", "R_group_low"),
    *("R_group_high", "R_group_p"),
)
_FILES = {
    "table": "comparison.tsv",
    "people": "comparison_people.tsv",
    "regions": "comparison_regions.tsv",
}
_KEYS = ["study", "group", "subject", "second"]
BLOCK = 30.0
"""Seconds that are drawn together by default: longer than a response lasts."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Paired differences; always the first (``way``) less the other (``against``).

    Attributes
    ----------
    told : dict
        Plain data: ``one`` and ``other`` (what is compared, in words), ``block`` (rows), ``draws``,
        ``seed``, ``notes`` (list of str: what was left out, what differs).
    table : DataFrame
        Columns `TABLE`: a row a pair. ``r``, ``r_against``: means over people, of the rows that
        are paired; ``low``, ``high``: 95 % interval of the difference over people and blocks of
        time, ``p`` of it (two-sided); ``better``: people for whom the difference is positive;
        ``p_people``: sign flips over people (two-sided), NaN for fewer than two. The interval and
        p of R_group are over blocks alone: its people are averaged already.
    people : DataFrame
        Columns way, against, study, subject, rows, r, r_against, difference.
    regions : DataFrame
        Columns way, against, region, kind, r, r_against, difference: those that both have, of all
        rows of each evaluation.
    maps : dict of str to ndarray (V,)
        Differences of r by way, where both have the map in the same space.
    space : Space or None
        Of the maps.
    """

    told: dict[str, Any]
    table: pd.DataFrame
    people: pd.DataFrame
    regions: pd.DataFrame
    maps: Mapping[str, np.ndarray]
    space: Space | None = None


def compare(
    one: Evaluation,
    other: Evaluation,
    ways: Iterable[str | tuple[str, str]] | None = None,
    *,
    block: int | None = None,
    draws: int = 2000,
    seed: int = 0,
    names: tuple[str, str] | None = None,
) -> Comparison:
    """Compare two evaluations way by way.

    Parameters
    ----------
    one, other : Evaluation
    ways : iterable of str or (str, str), optional
        Ways of both, or a way of `one` and another of `other`; by default all that both have.
    block : int, optional
        Rows that are drawn together: longer than what a row shares with those before it. By
        default as many as are shown in 30 s, whatever the repetition time.
    draws : int
    seed : int
    names : (str, str), optional
        What the two are called; by default their titles.

    Raises
    ------
    InputError
        If they share no way, or no person who saw the same seconds.
    """
    pairs = [pair if isinstance(pair, tuple) else (pair, pair) for pair in ways or ()]
    if ways is None:
        pairs = [(way, way) for way in one.ways if way in other.ways]
    if not pairs:
        raise InputError(
            f"the evaluations share no way; one has {', '.join(one.ways)}, the other "
            f"{', '.join(other.ways)}"
        )
    titles = names or (one.title, other.title)
    if titles[0] == titles[1]:
        titles = (f"{titles[0]} (first)", f"{titles[1]} (second)")
    told = {"one": titles[0], "other": titles[1], "notes": _differing(one, other)}
    return _compared(one, other, pairs, told, block, draws, seed)


def differences(
    evaluation: Evaluation,
    against: str = "fir",
    ways: Sequence[str] | None = None,
    *,
    block: int | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare ways of one evaluation with one of them.

    Parameters
    ----------
    evaluation : Evaluation
    against : str
    ways : sequence of str, optional
        By default all others.
    block, draws, seed
        As for `compare`.

    Raises
    ------
    InputError
        A way that is not there, or no other one.
    """
    evaluation.row(against)
    chosen = ways if ways is not None else [way for way in evaluation.ways if way != against]
    if not chosen:
        raise InputError(f"the evaluation has no way but {against!r} to compare it with")
    told: dict[str, Any] = {"one": evaluation.title, "other": evaluation.title, "notes": []}
    pairs = [(way, against) for way in chosen]
    return _compared(evaluation, evaluation, pairs, told, block, draws, seed)


def _compared(
    one: Evaluation,
    other: Evaluation,
    pairs: Sequence[tuple[str, str]],
    told: dict[str, Any],
    block: int | None,
    draws: int,
    seed: int,
) -> Comparison:
    import pandas as pd

    rows, people, regions, maps = [], [], [], {}
    left_out: dict[str, list[str]] = {}
    for way, against in pairs:
        paired, found = _paired(one, other, way, against)
        for note in found:
            left_out.setdefault(note, []).append(_name(way, against))
        own = paired[paired["subject"] != GROUP]
        block = _rows_of_block(own) if block is None else block
        each = _by_person(own)
        row = {"way": way, "against": against, "people": len(each), "rows": len(own)}
        difference = each["difference"].to_numpy()
        interval = _interval(own, block, draws, seed)
        signs = sign_flips(difference, two_sided=True, seed=seed) if len(each) > 1 else None
        row |= {
            "r": each["r"].mean(),
            "r_against": each["r_against"].mean(),
            "difference": difference.mean(),
            **interval,
            "better": int((difference > 0).sum()),
            "p_people": np.nan if signs is None else float(signs.p),
            **_group(paired[paired["subject"] == GROUP], block, draws, seed),
        }
        rows.append(row)
        people.append(each.assign(way=way, against=against))
        regions.append(_by_region(one, other, way, against))
        a, b = one.maps.get(f"{way}/r"), other.maps.get(f"{against}/r")
        if a is not None and b is not None and _same_space(one, other) and len(a) == len(b):
            maps[_name(way, against)] = a - b
    columns = ["way", "against", "study", "subject", "rows", "r", "r_against", "difference"]
    notes = [
        *told["notes"],
        *(
            note if len(names) == len(pairs) else f"{note} ({'; '.join(names)})"
            for note, names in left_out.items()
        ),
    ]
    return Comparison(
        {**told, "block": block, "draws": draws, "seed": seed, "notes": notes},
        pd.DataFrame(rows)[list(TABLE)],
        pd.concat(people, ignore_index=True)[columns],
        pd.concat(regions, ignore_index=True),
        maps,
        one.space if maps else None,
    )


def _name(way: str, against: str) -> str:
    return way if way == against else f"{way} - {against}"


def _paired(
    one: Evaluation, other: Evaluation, way: str, against: str
) -> tuple[pd.DataFrame, list[str]]:
    """Shares of both at the same people and seconds, and what was left out, in words."""
    import pandas as pd

    one.row(way)
    other.row(against)
    parts = [_shares(one, way), _shares(other, against)]
    paired = pd.concat(parts, axis=1, join="inner", keys=("r", "r_against")).dropna().reset_index()
    own = paired["subject"] != GROUP
    if not own.any():
        raise InputError(
            f"no second that a person saw is in both evaluations ({way} against {against}); "
            "people, films and their seconds must be the same ones"
        )
    notes = []
    for part, whose in zip(parts, ("the first", "the second"), strict=True):
        there = part.dropna().reset_index()
        there = there[there["subject"] != GROUP]
        missing = len(there) - int(own.sum())
        if missing:
            alone = len(set(there["subject"]) - set(paired.loc[own, "subject"]))
            who = f", among them all of {alone} people" if alone else ""
            notes.append(
                f"{missing:,} of {len(there):,} rows are in {whose} alone and left out{who}"
            )
    paired["difference"] = paired["r"] - paired["r_against"]
    return paired, notes


def _shares(evaluation: Evaluation, way: str) -> pd.Series:
    """Shares by study, film, person and second; the mean where somebody saw a film repeatedly."""
    table = evaluation.moments[evaluation.moments["way"] == way]
    table = table.assign(
        # Seconds come from clocks that are added up: those within a millisecond are the same.
        second=table["second"].astype(float).round(3),
        value=table["value"].astype(float),
    )
    shares: pd.Series = table.groupby(_KEYS, observed=True)["value"].mean()
    return shares


def _by_person(paired: pd.DataFrame) -> pd.DataFrame:
    groups = paired.groupby(["study", "subject"], observed=True)
    columns = ["r", "r_against", "difference"]
    return groups[columns].mean().assign(rows=groups.size()).reset_index()


def _films(paired: pd.DataFrame) -> list[np.ndarray]:
    """Differences (people, rows) of each film; NaN where a person did not see it."""
    everyone = paired[["study", "subject"]].drop_duplicates()
    people = [tuple(row) for row in everyone.itertuples(index=False)]
    films = []
    for _, film in paired.groupby(["study", "group"], observed=True):
        table = film.pivot(index=["study", "subject"], columns="second", values="difference")
        films.append(table.reindex(people).to_numpy())
    return films


def _rows_of_block(paired: pd.DataFrame) -> int:
    """Rows in `BLOCK` seconds, by the median step from one row of a film to the next."""
    rows = paired.sort_values(_KEYS)
    step = rows.groupby(_KEYS[:-1], observed=True)["second"].diff().median()
    return max(1, round(BLOCK / step)) if step > 0 else 1


def _interval(paired: pd.DataFrame, block: int, draws: int, seed: int) -> dict[str, float]:
    found = bootstrap_blocks(_films(paired), block=block, draws=draws, seed=seed)
    return {"low": float(found.low), "high": float(found.high), "p": float(found.p)}


def _group(paired: pd.DataFrame, block: int, draws: int, seed: int) -> dict[str, float]:
    """Differences of R_group; NaN where one of them has none."""
    names = ("", "_against", "_difference", "_low", "_high", "_p")
    if paired.empty:
        return {f"R_group{name}": np.nan for name in names}
    means = paired[["r", "r_against", "difference"]].mean()
    found = _interval(paired, block, draws, seed)
    values = (*means, found["low"], found["high"], found["p"])
    return {f"R_group{name}": float(one) for name, one in zip(names, values, strict=True)}


def _by_region(one: Evaluation, other: Evaluation, way: str, against: str) -> pd.DataFrame:
    keys, parts = ["region", "kind"], []
    for evaluation, chosen, name in ((one, way, "r"), (other, against, "r_against")):
        table = evaluation.regions[evaluation.regions["way"] == chosen]
        parts.append(table[[*keys, "r"]].rename(columns={"r": name}))
    table = parts[0].merge(parts[1], on=keys)
    table.insert(0, "way", way)
    table.insert(1, "against", against)
    return table.assign(difference=table["r"] - table["r_against"])


def _same_space(one: Evaluation, other: Evaluation) -> bool:
    a, b = one.space, other.space
    if a is None or b is None:
        return a is b
    return (a.name, a.size, a.parcels) == (b.name, b.size, b.parcels) and a.voxels == b.voxels


def _differing(one: Evaluation, other: Evaluation) -> list[str]:
    """What makes two evaluations less comparable, in words."""
    notes = []
    if not _same_space(one, other):
        spaces = [part.space.name if part.space else "plain arrays" for part in (one, other)]
        notes.append(
            f"the outputs differ ({' and '.join(spaces)}): each mean r is over its own outputs"
        )
    sums = [part.told.get("checksums") or {} for part in (one, other)]
    data = [key for key in sums[0] if key in sums[1] and key not in ("model", "features")]
    changed = [key for key in data if sums[0][key] != sums[1][key]]
    if changed:
        notes.append(
            f"the data differ by their checksums ({', '.join(changed)}): rows are paired by "
            "person, film and second, whatever was measured there"
        )
    for key, what in (("lag", "the lag"), ("ceiling", "what the ceiling is estimated from")):
        values = [part.told.get(key) for part in (one, other)]
        if values[0] != values[1]:
            notes.append(f"{what} differs: {values[0]} and {values[1]}")
    return notes


def save_comparison(
    comparison: Comparison, folder: str | Path, *, report: str | None = None
) -> Path:
    """Write a comparison: ``comparison.tsv``, people and regions, JSON, and the report if given.

    A comparison that is there is replaced; other files in the folder stay.

    Raises
    ------
    InputError
        If the folder is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; a comparison takes a folder")
    with whole_folder(folder, {*_FILES.values(), DESCRIPTION, REPORT}) as partial:
        for name, file in _FILES.items():
            write_table(getattr(comparison, name), partial / file)
        told = plain({"format": FORMAT, **comparison.told})
        text = json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False)
        (partial / DESCRIPTION).write_text(text + "\n", "utf-8")
        if report is not None:
            (partial / REPORT).write_text(report, "utf-8")
    return folder
