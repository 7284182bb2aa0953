"""What is left out of windows in training, so that a model learns to do without."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Rand = Callable[..., Tensor]
"""From a shape to random numbers (windows, *shape) between 0 and 1."""


def drop_modalities(
    features: Mapping[str, Tensor],
    probability: float,
    present: Mapping[str, Tensor] | None = None,
    rand: Rand | None = None,
) -> dict[str, Tensor] | None:
    """Draw in which windows (B,) each modality is kept; None for all in all.

    Each is dropped with the probability given; where that would drop all that a window has
    (`present`), one of them, drawn with equal chances, is kept.
    """
    if not probability or len(features) < 2:
        return dict(present) if present is not None else None
    like = next(iter(features.values()))
    there = torch.ones(len(features), len(like), dtype=torch.bool, device=like.device)
    if present is not None:
        there = torch.stack([present[name] for name in features])
    rand = rand or _rand(like)
    kept = (probability <= rand(len(features)).T) & there
    spared = (rand(len(features)).T * there).argmax(dim=0)
    kept[spared, torch.arange(len(like), device=like.device)] |= ~kept.any(dim=0)
    return dict(zip(features, kept, strict=True))


def drop_samples(
    features: dict[str, Tensor], probability: float, rand: Rand | None = None
) -> dict[str, Tensor]:
    """Set samples of windows to zero, in all modalities together."""
    if not probability:
        return features
    like = next(iter(features.values()))
    kept = (rand or _rand(like))(1, 1, like.shape[-1]) >= probability
    return {name: series * kept for name, series in features.items()}


def _rand(like: Tensor) -> Rand:
    return lambda *shape: torch.rand(len(like), *shape, device=like.device)
