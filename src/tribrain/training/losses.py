"""Losses between predicted and measured BOLD, over what was measured."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

# A loss gives a value for each (window, row, output) or (window, output), and which of them count.
Values = tuple[Tensor, Tensor]


def mean_squared(predicted: Tensor, measured: Tensor, there: Tensor) -> Values:
    """Squared error."""
    return (predicted - measured) ** 2, there


def smooth_l1(predicted: Tensor, measured: Tensor, there: Tensor) -> Values:
    """Squared up to a difference of 1, linear beyond."""
    return functional.smooth_l1_loss(predicted, measured, reduction="none"), there


def huber(predicted: Tensor, measured: Tensor, there: Tensor) -> Values:
    """Squared up to a difference of 0.5, linear beyond."""
    return functional.huber_loss(predicted, measured, reduction="none", delta=0.5), there


def pearson(predicted: Tensor, measured: Tensor, there: Tensor) -> Values:
    """One less the correlation over time, of each window and output.

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
    return 1 - correlation, usable


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Values]] = {
    "mse": mean_squared,
    "pearson": pearson,
    "smooth_l1": smooth_l1,
    "huber": huber,
}


def masked(
    loss: str,
    predicted: Tensor,
    measured: Tensor,
    weights: Tensor | None = None,
    total: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """A loss of `LOSSES` over what was measured (not NaN).

    Parameters
    ----------
    loss : str
    predicted, measured : Tensor (B, O, V)
    weights : Tensor (B,), optional
        How much each window counts; 1 by default.
    total : callable, optional
        From how much was measured in these windows to that in the whole batch, if it has more: then
        the result is what these windows add to the loss of the batch.

    Returns
    -------
    Tensor
        A number; 0 where nothing was measured.
    """
    there = ~torch.isnan(measured)
    values, counted = LOSSES[loss](predicted.float(), torch.nan_to_num(measured).float(), there)
    if weights is not None:
        values = values * weights.view(-1, *[1] * (values.ndim - 1))
    measured_in_all = counted.sum() if total is None else total(counted.sum())
    return (values * counted).sum() / measured_in_all.clamp(min=1)
