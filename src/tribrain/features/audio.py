"""Sound to a series of vectors, a chunk at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tribrain.features.backbones import Backbone
from tribrain.features.running import Batches

VERSION = 1  # of the numbers; part of the key of kept results

SAMPLE_RATE = 16_000


def standardised_16k(samples: np.ndarray, rate: int) -> Tensor:
    """Resampled to 16 kHz and standardised (published recipe, *Audio*).

    The resampling filter is a Hann-windowed sinc of 24 zero crossings a side with its cutoff at
    0.945 of the lower Nyquist frequency; the features depend on it.

    Parameters
    ----------
    samples : ndarray (n,), float32
        The mean over channels.
    rate : int
        Samples a second.

    Returns
    -------
    Tensor (m,), float32
        Mean 0, standard deviation (n - 1) 1.
    """
    import julius

    sound = torch.from_numpy(np.ascontiguousarray(samples))
    sound = julius.resample_frac(sound, rate, SAMPLE_RATE, zeros=24, rolloff=0.945)
    return (sound - sound.mean()) / (1e-8 + sound.std())


class SoundReader:
    """Series of chunks of sound; chunks of one length run together.

    Parameters
    ----------
    backbone : Backbone
    extractor : transformers feature extractor
        The backbone's own.
    """

    def __init__(self, backbone: Backbone, extractor: Any) -> None:
        self.backbone = backbone
        self.extractor = extractor
        # A chunk fills the CPU's cores; a GPU takes several at once.
        self.chunks_per_batch = 1 if backbone.device.type == "cpu" else 8
        self._batches: Batches[tuple[Tensor, int], np.ndarray] = Batches(
            self._run, self.chunks_per_batch
        )

    def series(self, chunks: Sequence[tuple[np.ndarray, int]], rate: int) -> list[np.ndarray]:
        """Hidden states of each chunk, taken at evenly spaced moments.

        Parameters
        ----------
        chunks : sequence of (samples (n,), length)
            Mono sound, and the number of samples of its series (nearest state, as
            ``torch.nn.functional.interpolate`` picks it).
        rate : int
            Samples of sound a second.

        Returns
        -------
        list of ndarray (layers, dim, length), float32
        """
        sounds = [(standardised_16k(samples, rate), n) if n else None for samples, n in chunks]
        made = iter(self._batches([sound for sound in sounds if sound is not None]))
        # A chunk shorter than half a sample has no series.
        empty = np.zeros((len(self.backbone.groups), self.backbone.width, 0), np.float32)
        return [empty if sound is None else next(made) for sound in sounds]

    def _run(self, batch: Sequence[tuple[Tensor, int]]) -> list[np.ndarray]:
        lengths = {(len(sound), n) for sound, n in batch}
        if len(lengths) > 1:  # padding would change what a model makes of the shorter ones
            return [self._run([one])[0] for one in batch]
        n = batch[0][1]
        waves = [sound.numpy() for sound, _ in batch]
        if self.backbone.family.form == "spectrum_30s":
            return [self._in_pieces(wave, n) for wave in waves]
        inputs = self.extractor(waves, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        layers = self.backbone.layers(inputs, lambda hidden: _nearest(hidden, n))
        return list(torch.stack(layers, dim=1).cpu().numpy())

    def _in_pieces(self, wave: np.ndarray, n: int) -> np.ndarray:
        """A chunk in pieces of 30 s, the last one padded, as Whisper hears sound."""
        size = self.extractor.n_samples
        pieces = [wave[first : first + size] for first in range(0, len(wave), size)]
        inputs = self.extractor(pieces, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        inputs = {"input_features": inputs["input_features"]}
        share = len(wave) / (size * len(pieces))

        def to_grid(hidden: Tensor) -> Tensor:
            joined = hidden.flatten(0, 1)  # (pieces * states, dim)
            held = max(1, round(share * len(joined)))
            return _nearest(joined[None, :held], n)

        return torch.stack(self.backbone.layers(inputs, to_grid), dim=1)[0].cpu().numpy()


def _nearest(hidden: Tensor, n: int) -> Tensor:
    """States (batch, time, dim) at `n` evenly spaced moments: (batch, dim, n)."""
    return torch.nn.functional.interpolate(hidden.transpose(1, 2), n).float()
