"""A small checkpoint in the published format."""

from __future__ import annotations

from torch import Tensor

import makers

HIDDEN = 96


def small_checkpoint(**changes) -> tuple[dict, dict[str, Tensor]]:
    """A published configuration and weights, small."""
    config = makers.published_config(
        **{
            "brain_model_config__hidden": HIDDEN,
            "brain_model_config__max_seq_len": 8,
            "data__duration_trs": 4,
            **changes,
        }
    )
    return config, makers.published_weights(config, n_outputs=3)
