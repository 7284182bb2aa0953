"""Losses between predicted and measured BOLD, over what was measured."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


def mean_squared(predicted: Tensor, measured: Tensor, there: Tensor) -> Tensor:
    """Mean squared error."""
    return _mean((predicted - measured) ** 2, there)


def smooth_l1(predicted: Tensor, measured: Tensor, there: Tensor) -> Tensor:
    """Squared up to a difference of 1, linear beyond."""
    return _mean(functional.smooth_l1_loss(predicted, measured, reduction="none"), there)


def huber(predicted: Tensor, measured: Tensor, there: Tensor) -> Tensor:
    """Squared up to a difference of 0.5, linear beyond."""
    return _mean(functional.huber_loss(predicted, measured, reduction="none", delta=0.5), there)


def pearson(predicted: Tensor, measured: Tensor, there: Tensor) -> Tensor:
    """One less the correlation over time, averaged over windows and outputs.

    Outputs with fewer than three measured rows in a window, or that do not vary, do not count.
    Where a prediction does not vary, its correlation is 0.
    """
    count = there.sum(1)
    x, y = (
        (part - (part * there).sum(1, keepdim=True) / count.clamp(min=1).unsqueeze(1)) * there
        for part in (predicted, measured)
    )
    power = (y * y).sum(1)
    # What rounding leaves of a constant series is about 1e-7 of it.
    usable = (count >= 3) & (power > 1e-12 * (measured * measured * there).sum(1))
    y = y / torch.where(usable, power, 1).sqrt().unsqueeze(1)
    # The root of 0 has no gradient; a prediction this small is as good as constant.
    correlation = (x * y).sum(1) / ((x * x).sum(1) + 1e-12).sqrt()
    return _mean(1 - correlation, usable)


def _mean(values: Tensor, there: Tensor) -> Tensor:
    return (values * there).sum() / there.sum().clamp(min=1)


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "mse": mean_squared,
    "pearson": pearson,
    "smooth_l1": smooth_l1,
    "huber": huber,
}


def masked(loss: str, predicted: Tensor, measured: Tensor) -> Tensor:
    """A loss of `LOSSES` over what was measured (not NaN).

    Parameters
    ----------
    loss : str
    predicted, measured : Tensor (B, O, V)

    Returns
    -------
    Tensor
        A number; 0 where nothing was measured.
    """
    there = ~torch.isnan(measured)
    return LOSSES[loss](predicted.float(), torch.nan_to_num(measured).float(), there)
