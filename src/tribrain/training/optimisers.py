"""What moves the weights: optimisers, learning rates, running means."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tribrain.training.settings import TrainingSettings


def make_optimiser(encoder: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """Adam or AdamW; gains, biases and positions are not decayed."""
    groups: dict[bool, list[Tensor]] = {True: [], False: []}
    for name, value in encoder.named_parameters():
        if value.requires_grad:
            plain = value.ndim < 2 or name.endswith("bias") or name == "position"
            groups[not plain].append(value)
    kind = torch.optim.AdamW if settings.optimiser == "adamw" else torch.optim.Adam
    return kind(
        [
            {"params": params, "weight_decay": settings.decay if decayed else 0.0}
            for decayed, params in groups.items()
            if params
        ],
        lr=settings.rate,
        fused=next(encoder.parameters()).device.type in ("cpu", "cuda") or None,  # one pass
    )


def rate_at(step: int, steps: int, settings: TrainingSettings) -> float:
    """Learning rate of a step (from 0) of so many.

    ``one_cycle`` rises by a cosine from a 25th of the rate and falls by one to nearly nothing
    (Smith & Topin 2018, arXiv 1708.07120); ``cosine`` rises linearly and falls by a cosine.
    """
    if settings.schedule == "constant":
        return settings.rate
    if settings.schedule == "one_cycle":
        rise = max(settings.warm_up * steps - 1, 0)  # steps before the one with the whole rate
        if step < rise:
            return _between(settings.rate / 25, settings.rate, step / rise)
        share = (step - rise) / max(steps - 1 - rise, 1)
        return _between(settings.rate, settings.rate / 250_000, share)
    rise = settings.warm_up * steps
    if step < rise:
        return settings.rate * min((step + 1) / rise, 1)
    return _between(settings.rate, 0.0, (step - rise) / (steps - rise))


def _between(first: float, last: float, share: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * min(share, 1.0))) / 2


def follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move a running mean of weights: ``decay * average + (1 - decay) * model``."""
    with torch.no_grad():
        for mean, value in zip(average.parameters(), model.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)
