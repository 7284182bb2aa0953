"""Adapting by gradient descent: a person's row alone, low-rank factors, or all weights."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tribrain.encoder.low_rank import add_low_rank, low_rank_tensors
from tribrain.encoder.network import Encoder
from tribrain.training.adapt_data import last_share, with_sides
from tribrain.training.data import Batch, Stretch, TrainingData
from tribrain.training.loop import train
from tribrain.training.settings import TrainingSettings
from tribrain.training.validation import correlations

HELD = 0.2
"""Share of the time, the last of it, that tells for how many epochs to train."""
_PLAIN = TrainingSettings(
    batch=8,
    schedule="constant",
    modality_dropout=0.0,
    subject_dropout=0.0,
)
WAYS = {
    "head": dataclasses.replace(_PLAIN, epochs=15, rate=3e-4, patience=4),
    "lora": dataclasses.replace(_PLAIN, epochs=15, rate=1e-3, patience=4),
    "all": dataclasses.replace(_PLAIN, epochs=1, rate=1e-4),
}
"""Settings of each way; one epoch over all weights is the published one."""


@dataclass(frozen=True)
class Trained:
    """What training gave.

    Attributes
    ----------
    encoder : Encoder
        With the rows of the people, trained; the one given where no epoch was better than none.
    epochs : int
    before, after : float
        Correlation on the seconds that were held out to choose the number of epochs, before
        and after so many.
    """

    encoder: Encoder
    epochs: int
    before: float
    after: float

    def changes(self, start: Encoder) -> list[tuple[np.ndarray, np.ndarray]]:
        """What weight and bias of each person's row differ by from those of another encoder."""
        found = []
        rows: Any = self.encoder.head.rows
        others: Any = start.head.rows
        for row, other in zip(rows[:-1], others[:-1], strict=True):
            pairs = ((row.weight, other.weight), (row.bias, other.bias))
            weight, bias = ((a.detach().cpu() - b.detach().cpu()).numpy() for a, b in pairs)
            found.append((weight, bias))
        return found


def train_people(
    encoder: Encoder,
    data: TrainingData,
    method: str,
    rank: int = 8,
    *,
    left_out: Sequence[np.ndarray] = (),
    seed: int = 0,
    device: str = "cpu",
    said: Callable[[str], None] | None = None,
) -> Trained:
    """Train the rows of people, and what else a way changes.

    The last fifth of the time chooses the number of epochs, none included; then it is trained again
    for so many on all.

    Parameters
    ----------
    encoder : Encoder
        With a row for each person of the data and one for people never seen; stays as it is.
    data : TrainingData
        Side "train".
    method : {"head", "lora", "all"}
    rank : int
        Of the factors of "lora".
    left_out : sequence of ndarray (V,) of bool, optional
        Of each person, outputs that count as not measured.
    """
    settings = dataclasses.replace(WAYS[method], seed=seed)
    part = with_validation(data)
    if left_out:
        part, data = (WithoutOutputs(one, left_out) for one in (part, data))
    before = _mean(correlations(encoder, part, part.side("validation"), device))

    def report(numbers: dict[str, float]) -> None:
        if said is not None:
            said(f"{method}, epoch {numbers['epoch']:g}: r {numbers['validation']:.4f}")

    _, course = train(
        trainable(encoder, method, rank, seed), part, settings, device=device, report=report
    )
    after = course.epochs[course.best - 1].get("validation", float("nan"))
    if not after > before:
        return Trained(encoder, 0, before, before)
    again = dataclasses.replace(settings, epochs=course.best, patience=0)
    found, _ = train(
        trainable(encoder, method, rank, seed), data, again, validate=False, device=device
    )
    return Trained(found.cpu(), course.best, before, after)


def trainable(encoder: Encoder, method: str, rank: int, seed: int) -> Encoder:
    """A copy of which that requires a gradient which a way trains."""
    found = copy.deepcopy(encoder).requires_grad_(method == "all")
    for row in found.head.rows:
        row.requires_grad_(row is not found.head.rows[-1])
    if method == "lora":
        torch.manual_seed(seed)
        add_low_rank(found, rank)
    return found


def changed_tensors(before: Encoder, after: Encoder, method: str) -> dict[str, Tensor]:
    """What a way changed beside the rows, as an adapter holds it."""
    if method == "lora":
        return low_rank_tensors(after)
    if method == "head":
        return {}
    given = before.state_dict()
    return {
        f"weights.{key}": value.detach().cpu().contiguous()
        for key, value in after.state_dict().items()
        if not key.startswith("head.") and not torch.equal(value.cpu(), given[key].cpu())
    }


class WithoutOutputs(TrainingData):
    """Data of which some outputs count as not measured.

    Parameters
    ----------
    data : TrainingData
    left_out : sequence of ndarray (V,) of bool
        Of each person, in the order of their rows.
    """

    def __init__(self, data: TrainingData, left_out: Sequence[np.ndarray]) -> None:
        vars(self).update(vars(data))  # what is read and split stays as it is
        self._left_out = [torch.from_numpy(one) for one in left_out]

    def batch(self, chosen: Sequence[tuple[Stretch, int]]) -> Batch:
        """Read windows of one space."""
        read = super().batch(chosen)
        for target, (stretch, _) in zip(read.targets, chosen, strict=True):
            target[:, self._left_out[stretch.row]] = torch.nan
        return read


def with_validation(data: TrainingData, share: float = HELD) -> TrainingData:
    """The same windows, of which the last share of each person's time is for validation.

    Nobody is trained on what another is validated on, nor on what is near it
    (`tribrain.training.adapt_data.last_share`).
    """
    return with_sides(data, last_share(data, share))


def _mean(values: np.ndarray) -> float:
    found = values[np.isfinite(values)]
    return float(found.mean()) if len(found) else float("nan")
