"""Small random encoders and features for them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tribrain.encoder.network import Encoder

DIMS = {"text": (2, 7), "audio": (1, 5), "video": (3, 4)}


def small_encoder(seed: int = 0, **changes) -> Encoder:
    """An encoder whose every weight is random and whose response follows its features."""
    settings = {
        "feature_dims": DIMS,
        "n_outputs": 6,
        "n_output_samples": 5,
        "n_subjects": 3,
        "hidden": 96,
        "depth": 2,
        "heads": 2,
        "max_samples": 16,
        "rank": 8,
    }
    encoder = Encoder(**{**settings, **changes})
    generator = torch.Generator().manual_seed(seed)
    for weight in encoder.parameters():
        drawn = torch.randn(weight.shape, generator=generator)
        weight.data = drawn * weight.shape[-1] ** -0.5 if weight.ndim > 1 else 0.5 + 0.2 * drawn
    return encoder.eval().requires_grad_(False)


def draw_features(batch: int = 2, samples: int = 10, dims=DIMS, seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(batch, *shape, samples, generator=generator)
        for name, shape in dims.items()
    }


def close(left: Tensor, right: Tensor | np.ndarray, tolerance: float = 1e-5) -> bool:
    right = torch.as_tensor(right).to(left.dtype)
    return left.shape == right.shape and torch.allclose(left, right, rtol=1e-4, atol=tolerance)
