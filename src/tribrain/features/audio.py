"""Sound to a 2 Hz series, a piece at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tribrain.features.backbones import Backbone

SAMPLE_RATE = 16_000


def mono_16k(samples: np.ndarray, rate: int) -> torch.Tensor:
    """Mean over channels, resampled to 16 kHz, standardised (published recipe, *Audio*).

    The resampling filter is a Hann-windowed sinc of 24 zero crossings a side with its cutoff at
    0.945 of the lower Nyquist frequency; the features depend on it.

    Parameters
    ----------
    samples : ndarray (channels, n)
    rate : int
        Samples a second.

    Returns
    -------
    Tensor (m,), float32
        Mean 0, standard deviation (n - 1) 1.
    """
    import julius

    mono = torch.from_numpy(np.ascontiguousarray(samples.mean(axis=0, dtype=np.float32)))
    mono = julius.resample_frac(mono, rate, SAMPLE_RATE, zeros=24, rolloff=0.945)
    return (mono - mono.mean()) / (1e-8 + mono.std())


def sound_series(
    backbone: Backbone, extractor: Any, samples: np.ndarray, rate: int, n: int
) -> np.ndarray:
    """Hidden states of one piece of sound, taken at `n` evenly spaced moments.

    Parameters
    ----------
    backbone : Backbone
        w2v-BERT 2.0.
    extractor : transformers feature extractor
        The backbone's own.
    samples : ndarray (channels, n_samples)
    rate : int
        Samples a second.
    n : int
        Length of the series (nearest state, as ``torch.nn.functional.interpolate`` picks it).

    Returns
    -------
    ndarray (layers, dim, n), float32
    """
    if n == 0:  # a piece shorter than half a sample
        return np.zeros((len(backbone.groups), backbone.model.config.hidden_size, 0), np.float32)
    inputs = extractor(
        mono_16k(samples, rate).numpy(), sampling_rate=SAMPLE_RATE, return_tensors="pt"
    )
    inputs = {name: tensor.to(backbone.device) for name, tensor in inputs.items()}

    def to_grid(hidden: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(hidden.transpose(1, 2), n)

    with torch.inference_mode(), backbone.states(to_grid) as layers:
        backbone.model(**inputs)
    return torch.cat(layers).float().cpu().numpy()
