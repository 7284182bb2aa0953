"""Predictions are those of each window; correlations are those of each run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from training_data_makers import (
    DIMS,
    SPACE,
    Content,
    array_run,
    coded_run,
    coded_series,
    simulated_data,
    simulated_store,
    study_of,
)
from tribrain.encoder.network import Encoder
from tribrain.studies.groups import spans
from tribrain.studies.runs import Shown
from tribrain.training.data import TrainingData
from tribrain.training.series import Series
from tribrain.training.validation import correlations, predictions


def plain(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """numpy's correlation of each column over the rows that both have."""
    found = []
    for one, other in zip(x.T, y.T, strict=True):
        there = ~(np.isnan(one) | np.isnan(other))
        one, other = one[there].astype(float), other[there].astype(float)
        varies = len(one) > 1 and np.ptp(one) > 0 and np.ptp(other) > 0
        found.append(np.corrcoef(one, other)[0, 1] if varies else np.nan)
    return np.array(found)


def encoder_for(data: TrainingData, rows: int = 3) -> Encoder:
    torch.manual_seed(0)
    return Encoder(
        feature_dims=data.dims,
        n_outputs=next(iter(data.spaces.values())).size,
        n_output_samples=data.length,
        n_subjects=rows,
        hidden=96,
        depth=1,
        heads=2,
        rank=None,
        max_samples=200,
        dropout=0.3,  # in training alone
    )


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    _, store = simulated_store(tmp_path_factory.mktemp("store"))
    data = simulated_data(store)
    return data, encoder_for(data)


def by_hand(model: Encoder, data: TrainingData, stretch, row: int | None):
    """Predicted and measured rows of a stretch, window after window."""
    predicted, measured = [], []
    for first in range(stretch.first, stretch.stop, data.length):
        batch = data.batch([(stretch, first)])
        n = min(data.length, stretch.stop - first)
        with torch.no_grad():
            predicted.append(model.eval()(batch.features, row)[0, :n].numpy())
        measured.append(stretch.run.read(first, n))
    return np.concatenate(predicted), np.concatenate(measured)


@pytest.mark.parametrize("unseen", [False, True])
@pytest.mark.parametrize("size", [1, 2, 16])
def test_predictions_are_those_of_each_window(simulated, unseen, size):
    data, model = simulated
    model.train()
    found = list(predictions(model, data, data.stretches, unseen=unseen, batch=size))
    assert [stretch for stretch, *_ in found] == list(data.stretches)
    for stretch, predicted, measured in found:
        # 01 has row 0; 02 has none and is predicted by the last row, as people never seen are.
        row = 0 if stretch.run.subject == "01" and not unseen else 2
        expected = by_hand(model, data, stretch, row)
        np.testing.assert_allclose(predicted, expected[0], atol=2e-5)
        np.testing.assert_array_equal(measured, expected[1])
        assert len(predicted) == stretch.stop - stretch.first == 48
        other = by_hand(model, data, stretch, 1)[0]
        assert np.abs(predicted - other).max() > 0.1


def test_correlations_are_by_run(simulated):
    data, model = simulated
    found = correlations(model, data, data.stretches)
    assert found.shape == (6,)
    for value, stretch in zip(found, data.stretches, strict=True):
        row = 0 if stretch.run.subject == "01" else None
        assert value == pytest.approx(plain(*by_hand(model, data, stretch, row)).mean(), abs=1e-5)
    unseen = correlations(model, data, data.stretches, unseen=True)
    np.testing.assert_array_equal(unseen[3:], found[3:])
    assert np.abs(unseen[:3] - found[:3]).min() > 1e-4
    assert correlations(model, data, []).shape == (0,)


class Echo(torch.nn.Module):
    """Predicts each output by the first dimension of the sound."""

    def unseen(self, space=None):
        return 0

    def forward(self, features, rows, kept=None):
        return features["audio"][:, 0, 0, ::2, None].expand(-1, -1, SPACE.size)


def test_stretches_of_a_run_are_correlated_together():
    """A perfect prediction of two films of one run, one of which was measured elsewhere."""
    seconds = np.arange(100, dtype="f4")
    series = Series({"audio": np.sin(0.7 * np.arange(160, dtype="f4"))[None, None]}, 2.0)
    values = np.full((100, 5), np.nan, "f4")
    values[5:45] = np.sin(1.4 * seconds[:40])[:, None]
    values[55:85] = 4 + np.sin(1.4 * seconds[40:70])[:, None]
    shown = [
        Shown(Content("A"), 0.0, 40.0, "A"),
        Shown(Content("A"), 50.0, 30.0, "B", start=40.0),
    ]
    run = array_run(values, shown)
    sides = dict.fromkeys(spans(run), "validation")
    assert len(sides) == 2
    together = TrainingData([study_of([run])], sides, {"A": series}, {}, length=16, step=16)
    measured = np.r_[values[5:45], values[55:85]]
    predicted = np.sin(1.4 * seconds[:70])[:, None].repeat(5, 1)
    expected = plain(predicted, measured).mean()
    assert expected < 0.5
    found = correlations(Echo(), together, together.stretches)
    np.testing.assert_allclose(found, [expected], atol=1e-6)
    apart = TrainingData(
        [study_of([run])], sides, {"A": series}, {}, length=16, step=16, standardise=True
    )
    np.testing.assert_allclose(correlations(Echo(), apart, apart.stretches), [1.0], atol=2e-2)


def test_outputs_without_a_correlation_do_not_count_and_a_run_without_any_is_nan():
    series = {"A": coded_series("A", 2.0, ("audio",))}
    values = np.random.default_rng(0).normal(size=(50, 5)).astype("f4")
    values[:, 3] = 2.5
    values[:, 4] = np.nan
    shown = [Shown(Content("A"), 0.0, 40.0, "A")]
    for kept, run in ((3, array_run(values, shown)), (0, array_run(values * np.nan, shown))):
        sides = dict.fromkeys(spans(run), "validation")
        data = TrainingData([study_of([run])], sides, series, {}, length=20)
        ramp = np.arange(40.0)[:, None].repeat(kept, 1)
        expected = plain(ramp, values[5:45, :kept]).mean() if kept else np.nan
        np.testing.assert_allclose(correlations(Echo(), data, data.stretches), [expected])


def test_runs_of_two_studies_with_one_name_are_apart():
    run = coded_run([Shown(Content("A"), 0.0, 60.0, "A")], rows=80)
    other = replace(run, study="other")
    sides = {span: "validation" for one in (run, other) for span in spans(one)}
    studies = [study_of([run]), study_of([other], "other")]
    data = TrainingData(studies, sides, {"A": coded_series("A", 2.0)}, {}, length=20)
    assert data.dims == DIMS
    assert correlations(encoder_for(data), data, data.stretches).shape == (2,)
