"""Which modality predicts what: of a trained encoder, and of a ridge on the same features.

Two answers to two questions. What the encoder loses without a modality, or scores from one alone,
is about this model (`ablation`): Pearson r, on the rows and by the averages of its other scores.
What a ridge fitted to every set of modalities explains, alone and in common, is about the features
(`attribution.variance_partition`): explained variance, which adds up. The ridge is banded, its
penalties chosen by R2, fitted to the rows that all baselines are fitted to. Where several people
were shown the same, it is fitted to their mean and predicts their mean, which has the least noise;
else each person is fitted apart.

Winners are chosen by the rows that are scored: chance is on the side of the best one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tribrain.brain.atlases import Atlas
from tribrain.brain.spaces import Space
from tribrain.encoder.textbook import TextbookModel
from tribrain.errors import InputError
from tribrain.evaluation.ablation import Ablation, ablate, modalities_shown, with_modalities
from tribrain.evaluation.attribution import (
    AND,
    gain,
    product_measure,
    subsets,
    variance_partition,
    winners,
)
from tribrain.evaluation.baselines import Setting, make_baselines
from tribrain.evaluation.evaluation import (
    GROUP,
    MODALITIES,
    MODEL,
    UNSEEN,
    Evaluation,
    no_modalities,
)
from tribrain.evaluation.fits import Fitted, Rows, fit_mean, fit_own
from tribrain.evaluation.job import Job
from tribrain.evaluation.rows import Part
from tribrain.evaluation.scores import by_network, by_region, mean_over
from tribrain.evaluation.scoring import BOLD, Scorer, mean_map, score_part

if TYPE_CHECKING:
    import pandas as pd

RIDGE = "banded"
"""The baseline whose explained variance is parted; the way in the table."""
MOST = 5
"""Modalities whose every set a ridge is fitted to: 31 fits."""
ALL = "all"
"""Stands for all modalities together, and for all outputs."""
PREFIXES = {MODEL: "modality", UNSEEN: "modality", RIDGE: "partition"}
"""Of the names of maps, by the way in the table."""
_BLOCK = 1024  # outputs in double precision at a time
Kept = tuple[str, object]
"""Name of an array in the work folder of an evaluation."""
Found = dict[tuple[str, str], np.ndarray]
"""Maps (V,) by modality (or several, joined by ``&``, or `ALL`) and measure."""


@dataclass(frozen=True, eq=False)
class Modalities:
    """What was found.

    Attributes
    ----------
    table : DataFrame
        `Evaluation.modalities`.
    maps : dict of str to ndarray (V,), float32
        ``modality/text/alone``, ``modality/text/unique``, ``modality/winner`` (number of the
        modality), ``modality/margin``, ``modality/gain`` of the encoder; ``partition/...`` of the
        ridge, with ``partition/text & audio/shared`` and ``partition/text/product``.
    told : dict
        ``names`` of the modalities, in the order of their numbers; ``ways``: {way: what it is}.
    notes : list of str
    """

    table: pd.DataFrame
    maps: dict[str, np.ndarray] = field(default_factory=dict)
    told: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def find_modalities(
    job: Job, *, atlas: Atlas | None = None, modality_dropout: float | None = None
) -> Modalities:
    """Part what a model, and a ridge on its features, predict of the tested rows.

    Parameters
    ----------
    job : Job
        After `Job.predict`.
    atlas : Atlas, optional
        For means over regions and networks.
    modality_dropout : float, optional
        With which the model was trained, where that is known.
    """
    found: dict[str, Found] = {}
    ways: dict[str, str] = {}
    notes = []
    shown = {name for part in job.main for name in modalities_shown([job.data], part)}
    names = tuple(name for name in job.data.dims if name in shown)
    if len(names) < 2:
        notes.append(f"only {', '.join(names)} was shown: there are no modalities to part")
        return Modalities(no_modalities(), notes=notes)
    if isinstance(job.model, TextbookModel):
        notes.append("modalities are left out of trained encoders, and the textbook model is none")
    else:
        try:
            way, ablation = _ablated(job, modality_dropout)
        except InputError as error:  # members that read different modalities
            notes.append(f"modalities: the model is not parted ({error})")
        else:
            whose = "the row of each person" if way == MODEL else "the row of people never seen"
            ways[way] = f"Pearson r of {job.model.name}, {whose}, given some of the modalities"
            found[way] = of_encoder(ablation)
            notes += [f"modalities: {note}" for note in ablation.notes]
    if len(names) > MOST:
        notes.append(
            f"explained variance is not parted: {len(names)} modalities have "
            f"{2 ** len(names) - 1} sets, a fit each; up to {MOST} are parted"
        )
    else:
        parted, about = _parted(job, names)
        notes.append(f"explained variance is parted of {about}" if parted else about)
        if parted:
            ways[RIDGE] = f"Explained variance of {about}"
            found[RIDGE] = parted
    mask = job.scorer.mask
    found = {
        way: {key: np.where(mask, values, np.nan) for key, values in maps.items()}
        for way, maps in found.items()
    }
    place: Atlas | Space | None = atlas
    if place is None and job.study.space.parcels:
        place = job.study.space
    table, maps = tabulate_modalities(found, names, place)
    return Modalities(table, maps, {"names": list(names), "ways": ways}, notes)


def tabulate_modalities(
    found: Mapping[str, Found], names: Sequence[str], place: Atlas | Space | None
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """The table and the maps of an evaluation.

    Parameters
    ----------
    found : mapping of str to Found
        By the way: of `of_encoder` and `of_ridge`.
    names : sequence of str
        Of the modalities, in the order of their numbers.
    place : Atlas, Space with parcels, or None
        For means over regions and networks.
    """
    import pandas as pd

    tables = [_table(way, one, place) for way, one in found.items()]
    maps: dict[str, np.ndarray] = {}
    for way, one in found.items():
        maps |= _named(PREFIXES[way], names, one)
    return pd.concat(tables, ignore_index=True) if tables else no_modalities(), maps


def _ablated(job: Job, modality_dropout: float | None) -> tuple[str, Ablation]:
    """The encoder by what it is given: of people that it has rows for, or else of everybody."""
    assert job.rows is not None
    assert not isinstance(job.model, TextbookModel)
    own = [
        part
        for part in job.main
        if all(data.stretches[part.number].row >= 0 for data in job.rows.data)
    ]
    way = MODEL if own else UNSEEN
    return way, ablate(
        job.model,
        job.rows,
        Scorer(job.work, own or job.main, job.scorer.mask),
        unseen=not own,
        modality_dropout=modality_dropout,
        known=way,
        tick=job.ticker("without modalities", 2 * len(job.data.dims) + 1),
    )


def of_encoder(ablation: Ablation) -> Found:
    """Maps of an encoder's r: of all modalities, of each alone, what is lost without each, ..."""
    found: Found = {(ALL, ablation.measure): ablation.whole}
    found |= {(name, "alone"): score for name, score in ablation.alone.items()}
    found |= {(name, "unique"): score for name, score in ablation.unique.items()}
    return found | _compared(ablation.whole, ablation.alone)


def of_ridge(
    scores: Mapping[tuple[str, ...], np.ndarray], products: Mapping[str, np.ndarray]
) -> Found:
    """Maps of explained variance, by the scores of every set of modalities.

    Parameters
    ----------
    scores : mapping of tuple of str to ndarray (V,)
        In the order of `attribution.subsets`.
    products : mapping of str to ndarray (V,)
        Shares of each in the model of all of them.
    """
    whole = scores[max(scores, key=len)]
    alone = {key[0]: score for key, score in scores.items() if len(key) == 1}
    found: Found = {(ALL, "explained variance"): whole}
    found |= {(name, "alone"): score for name, score in alone.items()}
    for key, share in variance_partition(dict[Collection[str], np.ndarray](scores.items())).items():
        found[key, "shared" if AND in key else "unique"] = share
    found |= {(name, "product"): share for name, share in products.items()}
    return found | _compared(whole, alone)


def _compared(whole: np.ndarray, alone: Mapping[str, np.ndarray]) -> Found:
    """Which wins (nothing does where the best is not above 0), by how much, what all gain on it."""
    best = winners(alone)
    wins = np.where(best.score > 0, best.best, -1)
    there = np.isfinite(best.score)
    found: Found = {
        (name, "won"): np.where(there, (wins == number).astype(float), np.nan)
        for number, name in enumerate(alone)
    }
    found[ALL, "margin"] = np.where(wins >= 0, best.margin, np.nan)
    found[ALL, "gain"] = gain(whole, alone)
    return found


def _parted(job: Job, names: tuple[str, ...]) -> tuple[Found, str]:
    """Explained variance of a ridge fitted to every set of modalities, and what was done."""
    mean = job.shared and job.several()
    every = subsets(names)
    tick = job.ticker("modalities of a ridge", len(every))

    def make(bands: tuple[int, ...]) -> Any:
        setting = Setting(1.0, bands, job.study.space.size, lag=job.lag, seed=job.seed)
        # Chosen for r, predictions may have any size, which explained variance does not forgive.
        return make_baselines([RIDGE], setting)[RIDGE].set_params(scoring="r2")

    scores: dict[tuple[str, ...], np.ndarray] = {}
    products: dict[str, np.ndarray] = {}
    for kept in every:
        rows = Rows(with_modalities(job.data, kept), job.data.stretches, job.known())
        fitted = Fitted(f"part-{'-'.join(kept)}", make, apart=True)
        if mean:
            fit_mean(rows, job.folds, fitted, job.work, leave_out=False)
        else:
            fit_own(rows, job.folds, fitted, job.work)
        scored = _scored(job, fitted.name, mean)
        if not scored:
            return {}, "explained variance is not parted: nobody has rows to fit a ridge to"
        parts, explained, shares = [], {}, {}
        for part, ours, theirs in scored:
            predicted = job.work.get(*ours)
            measured = job.work.get(*theirs)[: predicted.shape[1]]
            parts.append(part)
            one = score_part(predicted.sum(axis=0), measured, job.scorer.mask)
            explained[part.number] = one.explained_variance
            if kept == names:
                shares[part.number] = products_of(predicted, measured)
        scores[kept] = _mean(explained, parts)
        for number, name in enumerate(rows.bands if kept == names else ()):
            each = {key: values[number] for key, values in shares.items()}
            products[name] = _mean(each, parts)
        tick()
    people = len({part.person for part, *_ in scored})
    about = (
        "the mean BOLD of people who were shown the same, by banded ridge fitted to such means "
        "of rows that are not tested"
        if mean
        else f"{people} {'person' if people == 1 else 'people'}, by banded ridge fitted to each"
    )
    return of_ridge(scores, products), about


def _scored(job: Job, name: str, mean: bool) -> list[tuple[Part, Kept, Kept]]:
    """Parts, or cells as parts of `GROUP`; where their predicted and measured rows are kept."""
    work = job.work
    if not mean:
        return [
            (part, (name, part.number), (BOLD, part.number))
            for part in job.main
            if work.has(name, part.number)
        ]
    found: list[tuple[Part, Kept, Kept]] = []
    for cell, parts in job.scorer.cells.items():
        key = f"cell{cell}"
        if job.scorer.people_of(cell) > 1 and work.has(name, key):
            longest = dataclasses.replace(max(parts, key=lambda p: p.rows), subject=GROUP)
            found.append((longest, (name, key), ("group", key)))
    return found


def products_of(apart: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Product measure of the explained variance: about the means of the rows that were measured.

    Parameters
    ----------
    apart : ndarray (bands, rows, V)
        What each band adds.
    measured : ndarray (rows, V)

    Returns
    -------
    ndarray (bands, V), float64
        Their sum is the explained variance of the sum.
    """
    found = np.empty((len(apart), measured.shape[1]))
    for first in range(0, measured.shape[1], _BLOCK):
        block = slice(first, first + _BLOCK)
        x, y = apart[..., block].astype(float), measured[:, block].astype(float)
        there = ~np.isnan(y) & ~np.isnan(x.sum(axis=0))
        count = np.maximum(there.sum(axis=0), 1)
        y -= np.where(there, y, 0).sum(axis=0) / count
        x -= np.where(there, x, 0).sum(axis=1, keepdims=True) / count
        shares = product_measure({str(number): one for number, one in enumerate(x)}, y)
        found[:, block] = np.stack(list(shares.values()))
    return found


def _mean(scores: Mapping[int, np.ndarray], parts: list[Part]) -> np.ndarray:
    found = mean_map(scores, parts)
    assert found is not None
    return found


def _named(prefix: str, names: Sequence[str], maps: Found) -> dict[str, np.ndarray]:
    """Maps by the names that they have in an evaluation."""
    kept = ("alone", "unique", "shared", "product")
    found = {
        f"{prefix}/{modality}/{measure}": values
        for (modality, measure), values in maps.items()
        if measure in kept
    }
    won = np.stack([maps[name, "won"] for name in names])
    some = np.nan_to_num(won).any(axis=0)
    found[f"{prefix}/winner"] = np.where(some, won.argmax(axis=0), np.nan)
    found[f"{prefix}/margin"] = maps[ALL, "margin"]
    found[f"{prefix}/gain"] = maps[ALL, "gain"]
    return {name: values.astype(np.float32) for name, values in found.items()}


def _table(way: str, maps: Found, place: Atlas | Space | None) -> pd.DataFrame:
    """Means of maps over all outputs, and over those of networks and regions."""
    import pandas as pd

    keys = [key for key in maps if key[1] != "margin"]
    stack = np.stack([maps[key] for key in keys])
    counts = np.isfinite(stack).sum(axis=1).tolist()
    found = [
        (way, ALL, ALL, *key, mean_over(values), count)
        for key, values, count in zip(keys, stack, counts, strict=True)
    ]
    labels = [str(number) for number in range(len(keys))]
    for kind, means in (("network", by_network), ("region", by_region)):
        table = pd.DataFrame() if place is None else means(stack, place, labels)
        for row in table.to_dict("records"):
            for number, key in enumerate(keys):
                count = row["outputs" if number == 0 else f"{number} outputs"]
                found.append((way, row[kind], kind, *key, row[str(number)], count))
    return pd.DataFrame(found, columns=list(MODALITIES))


def modality_lines(evaluation: Evaluation) -> list[str]:
    """What was found over all outputs, in a line a way."""
    table = evaluation.modalities
    table = table[table["kind"] == ALL]
    lines = []
    for way in dict.fromkeys(table["way"]):
        values = {
            (row["modality"], row["measure"]): row["value"]
            for row in table[table["way"] == way].to_dict("records")
        }

        def told(measure: str, form: str, values: Mapping[Any, float] = values) -> str:
            each = [(name, one) for (name, what), one in values.items() if what == measure]
            return ", ".join(f"{name} {one:{form}}" for name, one in each)

        whole = next(iter(values.values()))
        lost = "r without each less by" if way != RIDGE else "explained variance that is unique"
        shared = f"; shared {told('shared', '.3f')}" if told("shared", ".3f") else ""
        lines.append(
            f"modalities, {way} ({whole:.3f}): {lost} {told('unique', '.3f')}{shared}; best alone "
            f"in {told('won', '.0%')} of outputs; all on the best one "
            f"{values[ALL, 'gain']:+.3f}"
        )
    return lines
