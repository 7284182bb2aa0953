"""Losses over what was measured, against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from tribrain.training.losses import LOSSES, masked


def pair(seed: int, shape=(3, 12, 5), missing: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    predicted = rng.normal(size=shape)
    measured = predicted + rng.normal(0, 1.5, shape)
    measured[rng.random(shape) < missing] = np.nan
    return torch.tensor(predicted).float(), torch.tensor(measured).float()


def squared(difference: float) -> float:
    return difference**2


def huber_of(delta: float):
    def one(difference: float) -> float:
        size = abs(difference)
        if size <= delta:
            return 0.5 * size**2
        return delta * (size - delta / 2)

    return one


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    missing=st.sampled_from([0.0, 0.3, 0.9]),
    case=st.sampled_from(
        [("mse", squared), ("smooth_l1", huber_of(1.0)), ("huber", huber_of(0.5))]
    ),
)
def test_losses_by_entry_are_a_plain_loop(seed, missing, case):
    name, one = case
    predicted, measured = pair(seed, missing=missing)
    found = [
        one(float(predicted[place] - measured[place]))
        for place in np.ndindex(*measured.shape)
        if not math.isnan(measured[place])
    ]
    expected = sum(found) / len(found) if found else 0.0
    assert float(masked(name, predicted, measured)) == pytest.approx(expected, rel=1e-5)


def plain_pearson(predicted: torch.Tensor, measured: torch.Tensor) -> float:
    found = []
    for window in range(len(measured)):
        for output in range(measured.shape[2]):
            x, y = (part[window, :, output].double().numpy() for part in (predicted, measured))
            there = ~np.isnan(y)
            if there.sum() >= 3 and y[there].std() > 0:
                found.append(1 - np.corrcoef(x[there], y[there])[0, 1])
    return float(np.mean(found)) if found else 0.0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), missing=st.sampled_from([0.0, 0.3, 0.8, 0.95]))
def test_pearson_is_that_of_numpy_for_each_window_and_output(seed, missing):
    predicted, measured = pair(seed, missing=missing)
    measured[0, :, 0] = 3.3  # does not vary
    expected = plain_pearson(predicted, measured)
    assert float(masked("pearson", predicted, measured)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("scale", "offset"), [(1e-3, 0.0), (1e3, -5e3), (0.1, 40.0)])
def test_pearson_asks_for_neither_scale_nor_mean(scale, offset):
    predicted, measured = pair(1)
    whole = masked("pearson", predicted, measured)
    for changed in (
        masked("pearson", scale * predicted + offset, measured),
        masked("pearson", predicted, scale * measured + offset),
    ):
        assert float(changed) == pytest.approx(float(whole), abs=2e-4)
    assert float(masked("pearson", -predicted, measured)) == pytest.approx(2 - float(whole))


@pytest.mark.parametrize("value", [0.0, 0.1, 500.0, -1e6])
def test_outputs_that_do_not_vary_do_not_count_for_pearson(value):
    predicted, measured = pair(2)
    expected = masked("pearson", predicted[..., 1:], measured[..., 1:])
    measured[..., 0] = torch.where(measured[..., 0].isnan(), torch.nan, value)
    assert float(masked("pearson", predicted, measured)) == pytest.approx(float(expected))


@pytest.mark.parametrize("value", [0.0, 0.1, -300.0])
def test_a_constant_prediction_correlates_0(value):
    predicted, measured = torch.full((2, 9, 3), value), pair(3, (2, 9, 3))[1]
    predicted.requires_grad_()
    loss = masked("pearson", predicted, measured)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(1.0, abs=1e-2)
    assert torch.isfinite(predicted.grad).all()


@pytest.mark.parametrize("name", list(LOSSES))
def test_gradients_are_finite_and_those_of_what_was_not_measured_0(name):
    predicted, measured = pair(4, missing=0.6)
    measured[1] = torch.nan
    predicted.requires_grad_()
    masked(name, predicted, measured).backward()
    assert torch.isfinite(predicted.grad).all()
    assert not predicted.grad[measured.isnan()].any()
    assert predicted.grad[0].any()


@pytest.mark.parametrize("name", list(LOSSES))
def test_nothing_measured_is_a_loss_of_0(name):
    predicted = torch.randn(2, 8, 3, requires_grad=True)
    loss = masked(name, predicted, torch.full((2, 8, 3), torch.nan))
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.equal(predicted.grad, torch.zeros(2, 8, 3))


@pytest.mark.parametrize("name", list(LOSSES))
def test_what_is_predicted_where_nothing_was_measured_changes_nothing(name):
    predicted, measured = pair(5)
    other = torch.where(measured.isnan(), predicted + 7, predicted)
    assert float(masked(name, other, measured)) == float(masked(name, predicted, measured))


@pytest.mark.parametrize("name", list(LOSSES))
def test_gradients_are_those_of_differences(name):
    predicted, measured = (part.double() for part in pair(6, (2, 6, 3)))
    there = ~measured.isnan()
    predicted.requires_grad_()
    assert gradcheck(lambda x: LOSSES[name](x, measured.nan_to_num(), there)[0], (predicted,))


@pytest.mark.parametrize("name", list(LOSSES))
def test_windows_count_by_their_weights(name):
    """As many values are measured in each window, so that a mean of means is the mean."""
    predicted, measured = torch.randn(2, 3, 20, 4)
    apart = [float(masked(name, predicted[[n]], measured[[n]])) for n in range(3)]
    found = masked(name, predicted, measured, torch.tensor([1.0, 0.5, 4.0]))
    assert float(found) == pytest.approx(np.dot(apart, [1, 0.5, 4]) / 3, rel=1e-5)
    assert float(masked(name, predicted, measured, torch.ones(3))) == pytest.approx(np.mean(apart))


@pytest.mark.parametrize("name", list(LOSSES))
def test_half_precision_is_added_up_in_single(name):
    predicted, measured = pair(7, (2, 60, 40))
    half = masked(name, predicted.bfloat16(), measured)
    assert half.dtype == torch.float32
    expected = masked(name, predicted.bfloat16().float(), measured)
    assert float(half) == float(expected)


def test_pearson_needs_three_rows():
    predicted, measured = pair(8, (1, 12, 4), missing=0)
    measured[0, 2:, 0] = torch.nan
    measured[0, 3:, 1] = torch.nan
    x, y = predicted.double().numpy()[0], measured.double().numpy()[0]
    kept = [(slice(0, 3), 1), (slice(None), 2), (slice(None), 3)]
    expected = np.mean([1 - np.corrcoef(x[rows, o], y[rows, o])[0, 1] for rows, o in kept])
    assert float(masked("pearson", predicted, measured)) == pytest.approx(expected, abs=1e-5)
