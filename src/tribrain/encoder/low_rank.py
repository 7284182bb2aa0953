"""Changes of weights as products of two small matrices."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from tribrain.encoder.network import Encoder
from tribrain.errors import InputError

SMALL = 2**16
"""Numbers of a change that are not worth factors."""


class LowRankMap(nn.Module):
    """A linear map to which the product of two small ones is added; at the start it adds nothing.

    Parameters
    ----------
    linear : nn.Linear
        Stays as it is.
    rank : int
    """

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__()
        self.linear = linear.requires_grad_(False)
        like = linear.weight
        self.down = nn.Parameter(like.new_empty(rank, linear.in_features))
        self.up = nn.Parameter(like.new_zeros(linear.out_features, rank))
        nn.init.normal_(self.down, std=linear.in_features**-0.5)

    def forward(self, x: Tensor) -> Tensor:  # (..., inputs) -> (..., outputs)
        return self.linear(x) + x @ self.down.T @ self.up.T


def add_low_rank(encoder: Encoder, rank: int) -> None:
    """Put a `LowRankMap` in the place of every linear map of attention and feed-forward."""
    places = [name for name, one in encoder.blocks.named_modules() if isinstance(one, nn.Linear)]
    if not places:
        raise InputError("the model has no transformer block that low-rank factors could change")
    for place in places:
        parent, _, name = place.rpartition(".")
        holder = encoder.blocks.get_submodule(parent)
        setattr(holder, name, LowRankMap(holder.get_submodule(name), rank))  # type: ignore[arg-type]


def low_rank_tensors(encoder: Encoder) -> dict[str, Tensor]:
    """Factors of an encoder with `add_low_rank`, as an adapter holds them."""
    return {
        f"lora.{place}.{part}": getattr(one, part).detach().cpu().contiguous().clone()
        for place, one in encoder.named_modules()
        if isinstance(one, LowRankMap)
        for part in ("down", "up")
    }


def compressed(
    change: np.ndarray,
    spread: np.ndarray | None = None,
    error: float = 1e-3,
    rank: int | None = None,
) -> tuple[dict[str, Tensor], float]:
    """A change of a row's weight as two factors, where they are smaller than the change.

    Parameters
    ----------
    change : ndarray (R, V)
    spread : ndarray (n, R), optional
        States whose predictions are to stay the same; by default all directions count alike.
    error : float
        Standard deviation of what is lost of what the change adds to predictions, as a share of
        that of what it adds. Its mean is lost too, unless `shift_of` is added to the bias.
    rank : int, optional
        Of the factors, whatever the error.

    Returns
    -------
    tensors : dict of str to Tensor
        ``weight``, or ``left`` and ``right``.
    error : float
        The error made.
    """
    whole = {"weight": torch.from_numpy(change.astype(np.float32))}
    if not change.any() or (rank is None and change.size <= SMALL):
        return whole, 0.0
    seen = change.astype(np.float64)
    if spread is not None:
        centred = spread.astype(np.float64) - spread.mean(axis=0, dtype=np.float64)
        if len(centred) > centred.shape[1]:
            centred = np.linalg.qr(centred, mode="r")
        seen = centred @ seen
    power, vectors = np.linalg.eigh(seen @ seen.T)
    power, vectors = np.clip(power[::-1], 0, None), vectors[:, ::-1]
    left_out = np.append(np.cumsum(power[::-1])[::-1][1:], 0.0) / max(power.sum(), 1e-300)
    if rank is None:
        rank = 1 + int(np.argmax(left_out <= error**2))
        if rank * sum(change.shape) >= change.size:
            return whole, 0.0
    rank = min(rank, int((power > power[0] * 1e-14).sum()))
    right = (vectors[:, :rank].T @ seen) / np.sqrt(power[:rank, None])
    left = change @ right.T
    tensors = {"left": left, "right": right}
    found = {key: torch.from_numpy(value.astype(np.float32)) for key, value in tensors.items()}
    return found, float(np.sqrt(left_out[rank - 1]))


def shift_of(change: np.ndarray, tensors: Mapping[str, Tensor], states: np.ndarray) -> np.ndarray:
    """What is to be added to the bias where factors stand for a change.

    Factors keep how predictions vary with the states, and not what the change adds on average.

    Parameters
    ----------
    change : ndarray (R, V)
    tensors : mapping of str to Tensor
        As `compressed` gives them.
    states : ndarray (n, R)

    Returns
    -------
    ndarray (V,), float64
    """
    if "weight" in tensors:
        return np.zeros(change.shape[1])
    mean = states.mean(axis=0, dtype=np.float64)
    left, right = (tensors[name].numpy().astype(np.float64) for name in ("left", "right"))
    return np.asarray(mean @ change - mean @ left @ right)
