"""What a trained encoder predicts without a modality, and from each modality alone.

A modality that is left out counts as missing, as it does for a stimulus that has none of it: zeros
stand for what its projector gives. Nothing is trained again. So the drop without a modality is what
this model loses, which is less than what the modality can explain where others tell the same, and
more where the model never learned to do without (`modality_dropout_of`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tribrain.encoder.ensembles import EnsembleModel
from tribrain.encoder.predict import TrainedModel
from tribrain.errors import InputError
from tribrain.evaluation.attribution import (
    MEASURES,
    Winners,
    attribution_table,
    gain,
    winners,
)
from tribrain.evaluation.rows import Part
from tribrain.evaluation.scoring import Scorer, mean_map, score_part
from tribrain.training.data import TrainingData
from tribrain.training.model_rows import ModelledRows, members_of
from tribrain.training.series import Series
from tribrain.training.settings import read_recipe
from tribrain.training.sides import MODEL, RECIPE, shown_seconds

if TYPE_CHECKING:
    import pandas as pd

    from tribrain.brain.atlases import Atlas


@dataclass(frozen=True, eq=False)
class Ablation:
    """Scores of a trained encoder by the modalities that it was given.

    Attributes
    ----------
    modalities : tuple of str
        Those that it reads and the stimuli have.
    whole : ndarray (V,), float64
        With all of them.
    without : dict of str to ndarray (V,)
        Without each; of a single modality empty.
    alone : dict of str to ndarray (V,)
        From each alone.
    measure : str
        Of the scores ("r", "r2", "explained_variance"): of each part, averaged over the parts of a
        person by their rows, then over people, as everything that predicts is scored
        (`scoring.mean_map`). NaN where it is defined for nobody, and outside the mask.
    people, parts, rows : int
        That were scored; rows of all parts together.
    notes : tuple of str
        What has to be known to read the numbers.
    """

    modalities: tuple[str, ...]
    whole: np.ndarray
    without: dict[str, np.ndarray]
    alone: dict[str, np.ndarray]
    measure: str
    people: int
    parts: int
    rows: int
    notes: tuple[str, ...] = ()

    @property
    def unique(self) -> dict[str, np.ndarray]:
        """What the score drops by without each modality (V,); negative where it rises."""
        return {name: self.whole - score for name, score in self.without.items()}

    @property
    def gain(self) -> np.ndarray:
        """What all together score above the best single one (V,) (`attribution.gain`)."""
        return gain(self.whole, self.alone)

    def winners(self) -> Winners:
        """Which modality alone predicts an output best, and its margin."""
        return winners(self.alone)

    def maps(self) -> dict[str, np.ndarray]:
        """All scores by name: ``all``, ``without text``, ``text alone``, ..., ``gain``."""
        return {
            "all": self.whole,
            **{f"without {name}": score for name, score in self.without.items()},
            **{f"{name} alone": score for name, score in self.alone.items()},
            "gain": self.gain,
        }

    def table(self, atlas: Atlas) -> pd.DataFrame:
        """Winners and gains of regions (`attribution.attribution_table`), and drops.

        The drop without a modality is column ``without NAME``, as a mean over the outputs of the
        region that it is a number in.
        """
        found = attribution_table(self.whole, self.alone, atlas)
        for name, drop in self.unique.items():
            found[f"without {name}"] = atlas.summarise(drop)
        return found


def ablate(
    model: TrainedModel | EnsembleModel,
    rows: ModelledRows,
    scorer: Scorer,
    *,
    unseen: bool = False,
    measure: str = "r",
    modality_dropout: float | None = None,
    known: str = "",
    tick: Callable[[], None] = lambda: None,
) -> Ablation:
    """Score a model with all modalities, without each, and from each alone.

    Parameters
    ----------
    model : TrainedModel or EnsembleModel
    rows : ModelledRows
        Of the members of the model.
    scorer : Scorer
        With the parts that are scored, numbered as the stretches of `rows`, and their BOLD; none
        of it should have been trained on.
    unseen : bool
        Predict everyone by the row of people never seen; those whom the model does not know always
        are.
    measure : {"r", "r2", "explained_variance"}
        r is 0 where what is predicted does not vary.
    modality_dropout : float, optional
        With which the model was trained (`modality_dropout_of`), for the notes; None where that is
        not known.
    known : str
        The way by which the scorer has what is predicted from all modalities, if it has.
    tick : callable
        Called after each set of modalities.

    Returns
    -------
    Ablation
        A part whose stimuli lack a modality is predicted from what it has; from the modality alone
        it is not scored, as there would be nothing to predict it from, and a note counts those.

    Raises
    ------
    InputError
        An unknown measure; no part; members of an ensemble of which some do not read a modality.
    """
    if measure not in MEASURES:
        raise InputError(f"measure {measure!r} is unknown; known: {', '.join(MEASURES)}")
    if not scorer.parts:
        raise InputError("no row of BOLD to score: no part is given")
    shown = {part.number: modalities_shown(rows.data, part) for part in scorer.parts}
    names = tuple(name for name in model.modalities if any(name in one for one in shown.values()))
    _check_members(model, names)
    kept: dict[tuple[str, ...], None] = {names: None}
    kept |= {tuple(other for other in names if other != name): None for name in names}
    kept |= {(name,): None for name in names}
    scores, notes = {}, [_dropout_note(modality_dropout)] if len(names) > 1 else []
    for one in (one for one in kept if one):
        parts = [part for part in scorer.parts if shown[part.number] & set(one)]
        if len(parts) < len(scorer.parts):
            notes.append(
                f"{len(scorer.parts) - len(parts)} of {len(scorer.parts)} spans have no "
                f"{' or '.join(one)} and are not scored from {' and '.join(one)} alone"
            )
        predictor = _Predictor(model, _only(rows, one), unseen)
        found = {}
        for part in parts:
            predicted = scorer.predicted(known, part) if known and one == names else None
            if predicted is None:
                predicted = predictor.rows_of(part)
            scored = score_part(predicted, scorer.bold(part), scorer.mask)
            found[part.number] = getattr(scored, measure)
        mean = mean_map(found, parts)
        assert mean is not None
        scores[one] = np.where(scorer.mask, mean, np.nan)
        tick()
    return Ablation(
        modalities=names,
        whole=scores[names],
        without={
            name: scores[tuple(other for other in names if other != name)]
            for name in names
            if len(names) > 1
        },
        alone={name: scores[(name,)] for name in names},
        measure=measure,
        people=len({part.person for part in scorer.parts}),
        parts=len(scorer.parts),
        rows=sum(part.rows for part in scorer.parts),
        notes=tuple(notes),
    )


class _Predictor:
    """What a model predicts of parts; of people never seen once for those shown the same."""

    def __init__(
        self, model: TrainedModel | EnsembleModel, rows: ModelledRows, unseen: bool
    ) -> None:
        self.model, self.rows, self.unseen = model, rows, unseen
        self._cell: tuple[int, np.ndarray] = -1, np.empty((0, 0))

    def rows_of(self, part: Part) -> np.ndarray:
        """(rows, V) of a part."""
        if self.unseen and self._cell[0] == part.cell and len(self._cell[1]) >= part.rows:
            return self._cell[1][: part.rows]
        _, found, _ = self.rows.predict(part.number, unseen=self.unseen)
        whole = self.model.combined(found) if isinstance(self.model, EnsembleModel) else found[0]
        self._cell = part.cell, whole
        return whole


def modality_dropout_of(folder: str | Path) -> float | None:
    """The share of windows that a modality was left out of in training, by the run's recipe.

    Parameters
    ----------
    folder : str or Path
        Of a run, or of the model in it.

    Returns
    -------
    float or None
        None where no recipe tells it: of a model from the hub, an ensemble, an adapter.
    """
    place = Path(folder).absolute()
    run = place.parent if place.name == MODEL else place
    if not (run / RECIPE).is_file():
        return None
    return read_recipe(run / RECIPE).training.modality_dropout


def _dropout_note(share: float | None) -> str:
    if share is None:
        return (
            "it is not known whether the model was trained with modalities left out; if it was "
            "not, inputs without one are unlike all it has seen, and drops are too large"
        )
    if share == 0:
        return (
            "the model was trained without modality dropout: inputs without a modality are unlike "
            "all it has seen, so drops are too large and single modalities too poor"
        )
    return f"the model was trained with modality dropout of {share:g}"


def _check_members(model: TrainedModel | EnsembleModel, names: Sequence[str]) -> None:
    for member in members_of(model):
        for name in names:
            if name not in member.modalities:
                raise InputError(
                    f"member {member.name} does not read {name}, which others do; modalities can "
                    "be left out of members that read the same"
                )


def _only(rows: ModelledRows, kept: Collection[str]) -> ModelledRows:
    """The same rows, of which models are given some modalities alone."""
    found = copy.copy(rows)
    found.data = [with_modalities(data, kept) for data in rows.data]
    return found


def with_modalities(data: TrainingData, kept: Collection[str]) -> TrainingData:
    """The same windows with some of their modalities alone; the others are missing."""
    found = copy.copy(data)
    found.series = {
        content: Series({k: v for k, v in one.values.items() if k in kept}, one.rate)
        for content, one in data.series.items()
    }
    found.dims = {name: dims for name, dims in data.dims.items() if name in kept}
    return found


def modalities_shown(data: Sequence[TrainingData], part: Part) -> set[str]:
    """Modalities of what was shown in a part, by the features of any of several models."""
    stretch = data[0].stretches[part.number]
    contents = {content for content, _ in shown_seconds(stretch.run, stretch.span)}
    return {name for one in data for content in contents for name in one.series[content].values}
