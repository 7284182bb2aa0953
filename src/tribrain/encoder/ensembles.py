"""Several models that predict as one.

The prediction is ``sum over members of weight * factor * prediction``, each output by itself. The
weights of an output add up to 1. The factors are 1 where members are averaged as they are. Where a
study weights them, a member's factor is its correlation with the BOLD by the standard deviation of
its predictions: each is standardised, and then as large as it is good. They are measured once and
kept, so that what is predicted for a second does not depend on how long the film is. Means are left
alone. The unit is z-scored BOLD either way.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tribrain.brain.response import Response
from tribrain.brain.spaces import Space
from tribrain.encoder.accuracy import Accuracy
from tribrain.encoder.adapters import AdaptedModel
from tribrain.encoder.predict import TrainedModel, told_accuracy, with_accuracy
from tribrain.errors import InputError
from tribrain.features.extract import FeatureSeries, Progress
from tribrain.stimuli.stimulus import Stimulus


class EnsembleModel:
    """The weighted mean of several trained models; predicts as one of them does.

    Parameters
    ----------
    members : sequence of TrainedModel
        Two or more, of one space and one lag.
    weights : ndarray (members, outputs), optional
        Of each member, adding up to 1 in each output; by default all are equal.
    factors : ndarray (members, outputs), optional
        That predictions are multiplied by before they are averaged; 1 by default.
    name : str
    how : mapping, optional
        How the weights were found, as plain data.
    trained_on : mapping of str to list of (float, float), optional
        Seconds of stimuli, by the checksum of their content, that any member was trained on; None
        where that is not known of all.

    Attributes
    ----------
    accuracy : Accuracy or None
        How well each output is predicted, where that was measured of the ensemble itself.

    Raises
    ------
    InputError
        Members that do not fit together, by name; weights that are none.
    """

    def __init__(
        self,
        members: Sequence[TrainedModel],
        weights: np.ndarray | None = None,
        factors: np.ndarray | None = None,
        *,
        name: str = "ensemble",
        how: Mapping[str, Any] | None = None,
        trained_on: Mapping[str, Sequence[Sequence[float]]] | None = None,
    ) -> None:
        check_members(members)
        self.members = tuple(members)
        shape = (len(self.members), self.space.size)
        self.weights = np.full(shape, 1 / shape[0]) if weights is None else np.asarray(weights)
        self.factors = np.ones(shape) if factors is None else np.asarray(factors)
        _check_numbers(self.weights, self.factors, shape)
        self.name = name
        self.how = dict(how or {})
        self.trained_on = trained_on
        self.accuracy: Accuracy | None = None

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities that any member reads."""
        return tuple(dict.fromkeys(name for one in self.members for name in one.modalities))

    @property
    def subjects(self) -> tuple[str, ...]:
        """People that every member was trained on."""
        first, *others = self.members
        return tuple(name for name in first.subjects if all(name in one.subjects for one in others))

    @property
    def space(self) -> Space:
        """Space of the responses."""
        return self.members[0].space

    def extract(
        self,
        stimulus: Stimulus,
        *,
        modalities: Iterable[str] | None = None,
        progress: Progress | None = None,
    ) -> FeatureSeries:
        """Extract the features of a stimulus, as `TrainedModel.extract` does.

        Raises
        ------
        InputError
            If the members read several recipes of features.
        """
        self._check_one_recipe()
        return self.members[0].extract(stimulus, modalities=modalities, progress=progress)

    def predict(
        self,
        stimulus: Stimulus | None = None,
        *,
        features: Mapping[str, np.ndarray] | None = None,
        duration: float | None = None,
        subject: str | None = None,
        space: str | None = None,
        modalities: Iterable[str] | None = None,
        overlap: float = 0.0,
        progress: Progress | None = None,
    ) -> Response:
        """Predict the response to a stimulus, or to features extracted before.

        Members that read the same recipe of features share them, others extract each theirs.

        Parameters
        ----------
        stimulus, features, duration, subject, space, modalities, overlap, progress
            As `TrainedModel.predict` takes them.

        Returns
        -------
        Response

        Raises
        ------
        InputError
            Features, where the members read several recipes; a person whom not all members know;
            and what `TrainedModel.predict` raises.
        """
        if features is not None:
            self._check_one_recipe()
        if subject is not None and subject not in self.subjects:
            known = ", ".join(self.subjects) or "none: people never seen alone"
            raise InputError(f"subject {subject!r} is unknown to {self.name}; known: {known}")
        wanted = None if modalities is None else tuple(modalities)
        each = [self._read_by(member, wanted) for member in self.members]
        extracted: dict[str, FeatureSeries] = {}
        parts = []
        for member, own in zip(self.members, each, strict=True):
            read = features
            if features is None and stimulus is not None:
                key = _reads(member)
                if key not in extracted:
                    extracted[key] = member.extract(stimulus, modalities=own, progress=progress)
                read = extracted[key]
            parts.append(
                member.predict(
                    stimulus,
                    features=read,
                    duration=duration,
                    subject=subject,
                    space=space,
                    modalities=own,
                    overlap=overlap,
                )
            )
        first = parts[0]
        licences = dict.fromkeys(f"{one.name}: {one.card.licence}" for one in self.members)
        response = Response.from_rows(
            self.combined([part.data.values for part in parts]),
            lag=self.members[0].card.lag,
            stimulus=np.any([part.data["stimulus"].values for part in parts], axis=0),
            space=self.space,
            attrs={
                "model": self.name,
                "revision": "local",
                "licence": "; ".join(licences),
                "label": f"predicted by {self.name}, the mean of {len(parts)} models trained on "
                "data",
                "subject": subject or "unseen",
                "modalities": [
                    name
                    for name in self.modalities
                    if any(name in part.data.attrs["modalities"] for part in parts)
                ],
            },
            provenance={
                **_sources(parts),
                "model": self.describe(),
                "settings": first.provenance["settings"],
            },
        )
        return with_accuracy(response, self.accuracy)

    def combined(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """The weighted mean of the members' predictions, in their order.

        Parameters
        ----------
        parts : sequence of ndarray (rows, outputs)

        Returns
        -------
        ndarray (rows, outputs), float32
        """
        gains = self.weights * self.factors
        total = np.zeros(parts[0].shape)
        for gain, part in zip(gains, parts, strict=True):
            total += gain * part
        return total.astype(np.float32)

    def describe(self) -> dict[str, Any]:
        """What the ensemble is, as plain data: all its members, and how they were weighted."""
        rows = self.how.get("weighted_by") or {}
        told = {key: value for key, value in rows.items() if key != "spans"}  # can be thousands
        return {
            "name": self.name,
            "members": [
                {**member.describe(), "mean_weight": float(weights.mean())}
                for member, weights in zip(self.members, self.weights, strict=True)
            ],
            "space": self.space.name,
            "subjects": list(self.subjects),
            **self.how,
            "weighted_by": told or None,
            **told_accuracy(self.accuracy, {self.space.name: self.space}),
        }

    def _read_by(self, member: TrainedModel, wanted: tuple[str, ...] | None) -> list[str] | None:
        if wanted is None:
            return None
        for name in wanted:
            if name not in self.modalities:
                known = ", ".join(self.modalities)
                raise InputError(f"modality {name!r} is unknown; known: {known}")
        own = [name for name in wanted if name in member.modalities]
        if not own:
            raise InputError(
                f"member {member.name} reads none of {', '.join(wanted)}; it reads "
                f"{', '.join(member.modalities)}"
            )
        return own

    def check_extracts(self) -> None:
        """Refuse members that no feature of a stimulus can be worked out for."""
        for member in self.members:
            member.check_extracts()

    def _check_one_recipe(self) -> None:
        first = self.members[0]
        for other in self.members[1:]:
            if _reads(other) != _reads(first):
                raise InputError(
                    f"members {first.name} and {other.name} read different features, which no one "
                    "set of features serves; predict from the stimulus"
                )


def check_members(members: Sequence[Any]) -> None:
    """Refuse members that cannot be averaged, by name.

    Raises
    ------
    InputError
        Fewer than two, one that is no trained model or is adapted to people, or one of another
        space, other outputs, another lag or row clock than the first.
    """
    for one in members:
        if not isinstance(one, TrainedModel):
            raise InputError(f"{one.name} is no trained model; an ensemble is made of those")
        if isinstance(one, AdaptedModel):
            # It predicts its person where nobody is named, and others as people never seen.
            raise InputError(
                f"{one.name} is adapted to {', '.join(one.subjects)} and averages with no other "
                "model; write it as a model of its own (tribrain models convert) and take that"
            )
        if len(one.spaces) > 1:
            raise InputError(
                f"{one.name} predicts {', '.join(one.spaces)}; members have one space each"
            )
        seconds = one.encoder.n_output_samples
        if seconds != round(one.card.window):
            raise InputError(
                f"{one.name} gives {seconds} rows for {one.card.window:g} s; one row a second fits"
            )
    if len(members) < 2:
        raise InputError("an ensemble has two members or more")
    first = members[0]
    for other in members[1:]:
        spaces = first.space, other.space
        told = " and ".join(f"{space.name} ({space.size} values)" for space in spaces)
        if spaces[0] != spaces[1] and spaces[0].name == spaces[1].name:
            told += ", of other parcels or voxels"
        for what, differ, both in (
            ("spaces", spaces[0] != spaces[1], told),
            ("lags", first.card.lag != other.card.lag, f"{first.card.lag} and {other.card.lag} s"),
        ):
            if differ:
                raise InputError(
                    f"{first.name} and {other.name} have different {what} ({both}) and cannot be "
                    "averaged"
                )


def _check_numbers(weights: np.ndarray, factors: np.ndarray, shape: tuple[int, int]) -> None:
    for name, values in (("weights", weights), ("factors", factors)):
        if values.shape != shape:
            raise InputError(
                f"{name} of shape {values.shape} do not fit (members, outputs) {shape}"
            )
        if not np.isfinite(values).all() or values.min() < 0:
            raise InputError(f"{name} are not finite, or negative")
    if not np.allclose(weights.sum(axis=0), 1):
        raise InputError("the weights of an output do not add up to 1")


def _reads(member: TrainedModel) -> str:
    """What a member reads, as a text that is the same for those that can share features."""
    card = member.card
    return json.dumps([repr(card.recipe), sorted(map(repr, member.encoder.feature_dims.items()))])


def _sources(parts: Sequence[Response]) -> dict[str, Any]:
    """Stimulus and pretrained models of all members' predictions."""
    found: dict[str, Any] = {}
    stimuli = [p.provenance["stimulus"] for p in parts if "stimulus" in p.provenance]
    if stimuli:
        shared = [
            note for note in stimuli[0]["notes"] if all(note in one["notes"] for one in stimuli)
        ]
        found["stimulus"] = {**stimuli[0], "notes": shared}
    folders = {part.data.attrs["model"]: part.provenance.get("backbones", {}) for part in parts}
    if any(folders.values()):
        first, *others = folders.values()
        found["backbones"] = first if all(one == first for one in others) else folders
    return found
