"""Tables and maps of an evaluation, from the scores of its ways."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tribrain.brain.atlases import Atlas
from tribrain.brain.spaces import Space
from tribrain.errors import InputError
from tribrain.evaluation.evaluation import GROUP, MOMENTS, REGIONS, SCORES, SUMMARY
from tribrain.evaluation.rows import Part
from tribrain.evaluation.scores import by_network, by_region, mean_over, normalise
from tribrain.evaluation.scoring import PEOPLE, Scorer, Way, WayScores, mean_map, mean_score
from tribrain.evaluation.significance import BLOCK, LEVEL, chance, group_interval, interval
from tribrain.evaluation.statistics.bootstrap import Interval

if TYPE_CHECKING:
    import pandas as pd

LEAST_CEILING = 0.1
"""Outputs with a lower ceiling are left out of what is normalised."""
WINDOW = 10.0
"""Seconds of the windows of retrieval."""
KNOWN_FILMS = ("train", "held_out_seen")
"""Sides of films that others were trained on: a score there is none of people never seen alone."""
NAN = float("nan")


@dataclass(frozen=True)
class Settings:
    """Of the statistics of an evaluation.

    Attributes
    ----------
    permutations, draws, seed : int
        Of nulls; of the bootstrap and of halves; of both.
    second : float
        Seconds from row to row.
    """

    permutations: int = 1000
    draws: int = 2000
    seed: int = 0
    second: float = 1.0

    def __post_init__(self) -> None:
        if self.permutations < 1 or self.draws < 2 or self.seed < 0:
            raise InputError(
                f"{self.permutations} permutations, {self.draws} draws, seed {self.seed}; 1, 2 and "
                "0 or more fit"
            )


@dataclass(frozen=True, eq=False)
class Ceilings:
    """What could be scored.

    Attributes
    ----------
    said : str
        What they were estimated from, in a line.
    own, unseen : dict of int to ndarray (V,)
        Of each part, by its number: for what knows the person, and for what does not.
    group : ndarray (V,), optional
        Of the mean of people.
    """

    said: str
    own: Mapping[int, np.ndarray] = field(default_factory=dict)
    unseen: Mapping[int, np.ndarray] = field(default_factory=dict)
    group: np.ndarray | None = None

    def of(self, way: Way) -> Mapping[int, np.ndarray]:
        return self.unseen if way.unseen else self.own


@dataclass(eq=False)
class Tables:
    """Filled way by way; the attributes are those of `Evaluation`, before they are tables."""

    scores: list[dict[str, Any]] = field(default_factory=list)
    summary: list[dict[str, Any]] = field(default_factory=list)
    regions: list[pd.DataFrame] = field(default_factory=list)
    moments: list[pd.DataFrame] = field(default_factory=list)
    maps: dict[str, np.ndarray] = field(default_factory=dict)
    null: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def frames(self) -> dict[str, pd.DataFrame]:
        """The tables by name, as `Evaluation` takes them."""
        import pandas as pd

        def joined(parts: list[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
            whole = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
            return whole.reindex(columns=list(columns))

        return {
            "scores": pd.DataFrame(self.scores, columns=list(SCORES)),
            "summary": pd.DataFrame(self.summary, columns=list(SUMMARY)),
            "regions": joined(self.regions, REGIONS),
            "moments": joined(self.moments, MOMENTS),
        }


def tabulate(
    scorer: Scorer,
    main: Sequence[Part],
    ways: Sequence[Way],
    floors: Mapping[str, str],
    ceilings: Ceilings,
    settings: Settings,
    *,
    space: Space | None = None,
    atlas: Atlas | None = None,
    held_out: frozenset[str] = frozenset(),
    tick: Callable[[str], None] = lambda name: None,
) -> Tables:
    """Score ways and put what was found into tables.

    Parameters
    ----------
    scorer : Scorer
        Of all parts that are tested.
    main : sequence of Part
        Those of the people that the summary is about.
    ways : sequence of Way
    floors : mapping of str to str
        The way that is the nuisance floor of each way, by name, where there is one.
    ceilings : Ceilings
    settings : Settings
    space, atlas : optional
        For means over regions and networks.
    held_out : frozenset of str
        ``study/subject`` of people that no model was trained on.
    tick : callable
        Called with the name of each way that is done.
    """
    found = Tables()
    about = Scorer(scorer.work, main, scorer.mask)
    floor_scores: dict[str, WayScores] = {}
    for way in sorted(ways, key=lambda one: one.name not in floors.values()):  # floors come first
        scored = scorer.score(way, window=max(1, round(WINDOW / settings.second)))
        if not scored.parts:
            continue
        floor_scores[way.name] = scored
        floor = floor_scores.get(floors.get(way.name, ""))
        _add_scores(found, scorer, scored, floor, ceilings.of(way))
        _add_moments(found, scorer, scored)
        _add_summary(found, about, scored, floor, ceilings, settings, held_out)
        _add_unlike(found, about, scored, floor)
        _add_regions(found, way, space, atlas)
        if way.name not in floors.values():
            floor_scores.pop(way.name)
        tick(way.name)
    order = [way.name for way in ways]
    for rows in (found.scores, found.summary):
        rows.sort(key=lambda row: order.index(row["way"]))
    return found


def _add_scores(
    found: Tables,
    scorer: Scorer,
    scored: WayScores,
    floor: WayScores | None,
    ceilings: Mapping[int, np.ndarray],
) -> None:
    mask, still = scorer.mask, 0
    for part in scorer.parts:
        if part.number not in scored.parts:
            continue
        one = scored.parts[part.number]
        still = max(still, one.still)
        r = np.where(mask, one.r, np.nan)
        ceiling = ceilings.get(part.number)
        both = normalise(r, np.full(len(r), np.nan) if ceiling is None else ceiling, LEAST_CEILING)
        own_floor = floor.parts.get(part.number) if floor is not None else None
        found.scores.append(
            {
                "way": scored.way.name,
                "study": part.study,
                "subject": part.subject,
                "run": part.run,
                "group": part.group,
                "rows": int(np.isfinite(one.shares).sum()),
                "outputs": int(np.isfinite(r).sum()),
                "r": mean_over(r),
                "r2": mean_over(one.r2, mask),
                "explained_variance": mean_over(one.explained_variance, mask),
                "ceiling": both.mean_ceiling,
                "normalised": both.mean_normalised,
                "left_out": both.left_out if ceiling is not None else NAN,
                "floor": mean_over(own_floor.r, mask) if own_floor is not None else NAN,
            }
        )
    if still:
        found.notes.append(
            f"{scored.way.name}: what is predicted does not vary in up to {still} outputs, whose r "
            "counts as 0"
        )


def _add_unlike(found: Tables, about: Scorer, scored: WayScores, floor: WayScores | None) -> None:
    """Say where a way is scored on fewer rows than there are, or its floor on others."""
    own = {part.number: part for part in about.parts if part.number in scored.parts}
    people = {part.person for part in own.values()}
    lacking = sum(p.rows for p in about.parts if p.person in people and p.number not in own)
    rows = sum(part.rows for part in own.values())
    if lacking:
        found.notes.append(
            f"{scored.way.name}: {lacking:,} of {rows + lacking:,} rows of its people are not "
            "predicted (too little to fit to); its scores are of the others and are not to be "
            "compared with those of ways that predict all"
        )
    if floor is not None and own:
        without = sum(part.rows for n, part in own.items() if n not in floor.parts)
        if without:
            found.notes.append(
                f"the floor of {scored.way.name} is of {rows - without:,} of its {rows:,} rows"
            )


def _add_moments(found: Tables, scorer: Scorer, scored: WayScores) -> None:
    import pandas as pd

    for part in scorer.parts:
        if part.number in scored.parts:
            told = {"study": part.study, "subject": part.subject, "run": part.run}
            shares = scored.parts[part.number].shares
            found.moments.append(
                pd.DataFrame({"way": scored.way.name, **told, "group": part.group,
                              "second": part.seconds, "value": shares})
            )  # fmt: skip
    for cell, one in scored.group.items():
        part = max(scorer.cells[cell], key=lambda p: p.rows)
        found.moments.append(
            pd.DataFrame({"way": scored.way.name, "study": part.study, "subject": GROUP,
                          "run": part.run, "group": part.group,
                          "second": part.seconds[: len(one.shares)], "value": one.shares})
        )  # fmt: skip


def _add_summary(
    found: Tables,
    about: Scorer,
    scored: WayScores,
    floor: WayScores | None,
    ceilings: Ceilings,
    settings: Settings,
    held_out: frozenset[str],
) -> None:
    name, mask, parts = scored.way.name, about.mask, about.parts
    maps = {
        key: mean_map({n: getattr(one, key) for n, one in scored.parts.items()}, parts)
        for key in ("r", "r2", "explained_variance")
    }
    everyone = mean_score({n: one.r for n, one in scored.parts.items()}, scored.known, mask)
    people = {person for person in everyone if person in {part.person for part in parts}}
    row: dict[str, Any] = dict.fromkeys(SUMMARY, NAN) | {"way": name, "people": len(people)}
    if people:
        row["r"] = float(np.mean([everyone[person] for person in sorted(people)]))
    new = [p for p in scored.known if p.person in held_out and p.side not in KNOWN_FILMS]
    zero = mean_score({n: one.r for n, one in scored.parts.items()}, new, mask)
    if scored.way.unseen and zero:
        row["zero"] = float(np.mean(list(zero.values())))
    for key in ("r2", "explained_variance"):
        values = maps[key]
        row[key] = NAN if values is None else mean_over(values, mask)
    how = settings.draws, settings.seed, settings.second
    _put(row, "r", interval(scored.parts, parts, *how))
    _put(row, "R_group", group_interval(scored.group, *how), mean=True)
    if floor is not None:
        lowest = mean_score({n: one.r for n, one in floor.parts.items()}, parts, mask)
        same = [lowest[person] for person in sorted(people) if person in lowest]
        row["floor"] = float(np.mean(same)) if same else NAN
    windows = [scored.retrieval[person] for person in sorted(people) if person in scored.retrieval]
    for top in (1, 5):
        if windows:
            row[f"top{top}"] = float(np.mean([one.accuracy[top] for one in windows]))
    if ceilings.group is not None and scored.group:
        row["R_group_ceiling"] = mean_over(ceilings.group, mask)
    if maps["r"] is not None:
        _add_maps(found, row, about, scored, maps["r"], ceilings, settings)
    found.summary.append(row)


def _put(row: dict[str, Any], key: str, found: Interval | None, mean: bool = False) -> None:
    if found is None:
        return
    if mean:
        row[key] = found.mean
    row[f"{key}_low"], row[f"{key}_high"] = found.low, found.high


def _add_maps(
    found: Tables,
    row: dict[str, Any],
    about: Scorer,
    scored: WayScores,
    r: np.ndarray,
    ceilings: Ceilings,
    settings: Settings,
) -> None:
    """Maps of a way, and what of the summary follows from them."""
    name = scored.way.name
    r = np.where(about.mask, r, np.nan)
    found.maps[f"{name}/r"] = r.astype(np.float32)
    own = [part for part in about.parts if part.number in scored.parts]
    ceiling = mean_map(ceilings.of(scored.way), own)
    if ceiling is not None:
        both = normalise(r, ceiling, LEAST_CEILING)
        row |= {"ceiling": both.mean_ceiling, "normalised": both.mean_normalised}
        row["left_out"] = both.left_out
        found.maps[f"{name}/normalised"] = both.normalised.astype(np.float32)
        apart = scored.way.unseen and ceilings.unseen is not ceilings.own
        kept = "ceiling, unseen" if apart else "ceiling"
        found.maps.setdefault(kept, np.where(about.mask, ceiling, np.nan).astype(np.float32))
    if name == PEOPLE:  # a reference: other people's BOLD of the same film is no null
        return
    try:
        one = chance(about, scored.way, settings.permutations, settings.seed)
    except InputError as error:
        found.notes.append(f"{name}: no null ({error})")
        return
    row |= {"p": one.p, "significant": one.significant}
    found.maps[f"{name}/q"] = one.q.astype(np.float32)
    found.maps[f"{name}/null"] = np.where(about.mask, one.one, np.nan).astype(np.float32)
    found.null[name] = {
        "kind": "draws of the phases of the prediction",
        "n": one.n,
        "low": one.interval[0],
        "high": one.interval[1],
    }


def _add_regions(found: Tables, way: Way, space: Space | None, atlas: Atlas | None) -> None:
    place: Atlas | Space | None = atlas if atlas is not None else space
    if place is None or f"{way.name}/r" not in found.maps:
        return
    if isinstance(place, Space) and not place.parcels:
        return
    r = found.maps[f"{way.name}/r"]
    lacking = np.full(len(r), np.nan)
    ceiling = found.maps.get("ceiling, unseen" if way.unseen else "ceiling")
    ceiling = found.maps.get("ceiling", lacking) if ceiling is None else ceiling
    stack = np.stack([r, ceiling, found.maps.get(f"{way.name}/normalised", lacking)])
    names = ["r", "ceiling", "normalised"]
    for kind, table in (
        ("region", by_region(stack, place, names)),
        ("network", by_network(stack, place, names)),
    ):
        if len(table):
            table = table.rename(columns={kind: "region"})
            found.regions.append(table.assign(way=way.name, kind=kind).reindex(columns=REGIONS))


def settings_told(settings: Settings) -> dict[str, Any]:
    """Settings of the statistics, for the report."""
    return {
        "permutations": settings.permutations,
        "bootstrap draws": settings.draws,
        "bootstrap block (s)": BLOCK,
        "seed": settings.seed,
        "false discovery rate": LEVEL,
        "least ceiling": LEAST_CEILING,
        "window of retrieval (s)": WINDOW,
    }
