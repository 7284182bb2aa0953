"""What an evaluation found: tables, maps, and what they were made of.

Filled by `tribrain.evaluation.evaluate` and `tribrain.evaluation.arrays`, written and read by
`tribrain.evaluation.evaluation_files`, compared by `tribrain.evaluation.compare`.

A *way* is one thing that predicts and is scored: ``model`` (the row of the head that is a person's
own), ``model, unseen`` (the row for people never seen, for everyone), a baseline by its name
(``fir``, ...), ``nuisance``, ``textbook``, ``shifted`` (a control), ``people`` (the mean of the
other people, a reference and no bound).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tribrain.brain.spaces import Space
from tribrain.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

MODEL, UNSEEN, NUISANCE, SHIFTED, PEOPLE = (
    *("model", "model, unseen", "nuisance", "shifted", "people"),
)
"""Ways that reports know by name; baselines have their own (`tribrain.evaluation.baselines`)."""
GROUP = "group"
"""Stands for the subject in `Evaluation.moments` where the shares are those of R_group."""

SCORES = (
    *("way", "study", "subject", "run", "group", "rows", "outputs", "r", "r2"),
    *("explained_variance", "ceiling", "normalised", "left_out", "floor"),
)
SUMMARY = (
    *("way", "people", "r", "r_low", "r_high", "r2", "explained_variance", "ceiling"),
    *("normalised", "left_out", "zero", "R_group", "R_group_low", "R_group_high"),
    *("R_group_ceiling", "floor", "p", "significant", "top1", "top5"),
)
REGIONS = ("way", "region", "kind", "outputs", "r", "ceiling", "normalised")
MODALITIES = ("way", "region", "kind", "modality", "measure", "value", "outputs")
MOMENTS = ("way", "study", "subject", "run", "group", "second", "value")
SPLITS = ("study", "run", "subject", "begin", "end", "group", "side")
TEXTS = (
    *("way", "study", "subject", "run", "group", "region", "kind", "side"),
    *("modality", "measure"),
)
"""Columns of text; all others hold numbers, NaN where a number is not defined."""
TABLES = {
    **{"scores": SCORES, "summary": SUMMARY, "regions": REGIONS, "moments": MOMENTS},
    "modalities": MODALITIES,
}


def no_modalities() -> pd.DataFrame:
    """The table of an evaluation that was not asked for modalities."""
    import pandas as pd

    return pd.DataFrame(columns=list(MODALITIES))


def role(way: str) -> str:
    """What a way is in an evaluation, by its name: all that is not known is a baseline.

    Returns
    -------
    {"model", "floor", "control", "reference", "baseline"}
        What follows a comma (``model, unseen``) tells a variant of the way.
    """
    known = {MODEL: "model", NUISANCE: "floor", SHIFTED: "control", PEOPLE: "reference"}
    return known.get(way.partition(",")[0], "baseline")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """An evaluation.

    Attributes
    ----------
    told : dict
        Plain JSON data. Reports know these keys, each of which may be missing: ``title``,
        ``model``, ``revision``, ``studies`` (str, or list of str), ``space``, ``lag`` (s),
        ``unit``, ``checksums``, ``ways`` ({way: one line that says what it is}), ``ceiling`` (one
        line: what the ceiling was estimated from), ``notes`` (list of str: what was left out and
        why), ``warning`` (one line, shown in red), ``seeds``, ``settings``, ``versions`` (dicts),
        ``floors`` ({way: the way that is its nuisance floor}; `NUISANCE` for all where missing),
        ``least_ceiling`` (float, 0.1 where missing), ``splits`` (list of dicts with the keys
        `SPLITS`, others may follow; ``begin`` and ``end`` in s of the stimulus), ``null``
        ({way: {``kind``, ``n``, ``low``, ``high``: of the mean r, 95 % interval}}),
        ``modalities`` ({``names``: list of str, ``ways``: {way: what it is}}).
    space : Space or None
        Of the outputs; None for plain arrays.
    scores : DataFrame
        Columns `SCORES`: a row a way, study, subject, run and group ("film"). ``rows`` that were
        scored, ``outputs`` with a number; ``r``, ``r2``, ``explained_variance`` are means over
        outputs; ``ceiling`` and ``normalised`` over those whose ceiling is high enough,
        ``left_out`` counts the others; ``floor`` is the r of the nuisance floor on the same rows.
    summary : DataFrame
        Columns `SUMMARY`: a row a way. Means over people; ``r_low``, ``r_high``: 95 % bootstrap
        over people and blocks of time; ``zero``: people that nothing was trained on; ``p`` of the
        mean r under circular shifts; ``significant``: outputs, false discovery rate 0.05;
        ``top1``, ``top5``: retrieval of windows.
    regions : DataFrame
        Columns `REGIONS`: ``kind`` is ``region`` or ``network``.
    maps : dict of str to ndarray (V,)
        Means over people, float32: ``WAY/r``, ``WAY/normalised``, ``WAY/q``, ``ceiling``; and
        ``WAY/null``, r of each output in one draw of its null. NaN: not measured or not defined.
    moments : DataFrame
        Columns `MOMENTS`: ``second`` of the stimulus; ``value`` is the row's share of the mean
        correlation over outputs, zx zy - r (zx^2 + zy^2) / 2 + r with z-scores over the rows of
        the run, averaged over outputs. The mean of a run's shares is its mean r. Subject `GROUP`:
        shares of R_group.
    modalities : DataFrame
        Columns `MODALITIES` (`tribrain.evaluation.modalities`); empty where it was not asked for.
        ``kind`` is ``all``, ``network`` or ``region``; ``modality`` one, several joined by ``&``,
        or ``all``; ``measure``: ``r`` or ``explained variance`` of all, ``alone`` of each,
        ``unique`` (lost without it), ``shared`` (by these and no others), ``product`` (share in a
        sum), ``won`` (share of outputs that it predicts best), ``gain`` (of all on the best one).
        Maps: ``modality/text/unique``, ``modality/winner`` (its number in
        ``told["modalities"]["names"]``) and others of the model; ``partition/...`` of a ridge.

    Raises
    ------
    InputError
        A table without one of its columns, or a map that does not fit the space or the others.
    """

    told: dict[str, Any]
    space: Space | None
    scores: pd.DataFrame
    summary: pd.DataFrame
    regions: pd.DataFrame
    maps: Mapping[str, np.ndarray]
    moments: pd.DataFrame
    modalities: pd.DataFrame = field(default_factory=no_modalities)

    def __post_init__(self) -> None:
        for name, columns in TABLES.items():
            missing = [key for key in columns if key not in getattr(self, name).columns]
            if missing:
                raise InputError(
                    f"the table {name} of an evaluation lacks {missing[0]!r}; its columns: "
                    f"{', '.join(columns)}"
                )
        size = None if self.space is None else self.space.size
        for name, values in self.maps.items():
            size = len(values) if size is None else size
            if np.ndim(values) != 1 or len(values) != size:
                raise InputError(
                    f"the map {name} of an evaluation has shape {np.shape(values)}; ({size},) fits"
                )

    @property
    def ways(self) -> tuple[str, ...]:
        """Ways in the order of the summary."""
        return tuple(self.summary["way"])

    def floor(self, way: str) -> pd.Series | None:
        """The row in the summary of a way's nuisance floor; None where there is none."""
        floors = self.told.get("floors")
        name = NUISANCE if floors is None else floors.get(way)
        return self.row(name) if name in self.ways else None

    @property
    def title(self) -> str:
        """What was evaluated, in a few words."""
        studies = self.told.get("studies", ())
        on = studies if isinstance(studies, str) else ", ".join(map(str, studies))
        model = str(self.told.get("model") or "arrays")
        return str(self.told.get("title") or (f"{model} on {on}" if on else model))

    def row(self, way: str) -> pd.Series:
        """The row of a way in the summary.

        Raises
        ------
        InputError
            Names the ways.
        """
        if way not in self.ways:
            raise InputError(
                f"way {way!r} is not in the evaluation; there are: {', '.join(self.ways)}"
            )
        found: pd.Series = self.summary.iloc[self.ways.index(way)]
        return found
