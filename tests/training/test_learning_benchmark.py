"""What benchmarks/learning.py compares with: ridge by modality, from scratch, delayed features."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from learning_ridge import (
    COMMON,
    DELAYS,
    FEW,
    banded,
    delayed,
    few_minutes,
    film_sums,
    score_of,
    weights_of,
)
from tribrain.training.ridge import total


def test_delayed_features_are_those_of_the_seconds_before():
    samples = np.arange(200.0).reshape(1, 1, 200)  # second k holds 2k and 2k + 1
    design, bands = delayed({"audio": samples, "video": -samples}, np.arange(40, 60))
    assert design.shape == (20, 2 * DELAYS)
    assert bands.tolist() == [0] * DELAYS + [1] * DELAYS
    seconds = 2 * np.arange(40, 60) + 0.5
    for delay in range(1, DELAYS + 1):
        expected = seconds - 2 * delay
        np.testing.assert_allclose(design[:, delay - 1], expected - expected.mean(), atol=1e-4)


def test_nothing_before_the_film_and_nothing_of_the_second_itself():
    samples = np.zeros((1, 1, 20))
    samples[..., 10:12] = 1.0  # second 5
    design, _ = delayed({"audio": samples}, np.arange(10))
    there = design - design.min(axis=0)
    assert there[:, 0].nonzero()[0].tolist() == [6]
    assert there[:, 3].nonzero()[0].tolist() == [9]
    assert not there[:, 4:].any()


def test_sums_of_films_give_the_weights_and_scores_of_their_rows():
    rng = np.random.default_rng(0)
    parts = []
    for _ in range(6):
        x = rng.standard_normal((50, 9)).astype(np.float32)
        x -= x.mean(axis=0)
        parts.append((x, 7 + x @ rng.standard_normal((9, 2)) + rng.standard_normal((50, 2))))
    sums = total(film_sums(x, y) for x, y in parts)
    x = np.concatenate([x for x, _ in parts])
    y = np.concatenate([y - y.mean(axis=0) for _, y in parts])
    alpha = 0.3 * float((x.astype(float) ** 2).sum()) / 9
    expected = Ridge(alpha=alpha, fit_intercept=False).fit(x.astype(float), y).coef_.T
    found = weights_of(sums, np.full(9, 0.3))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    score = [np.corrcoef(x @ found[:, v], y[:, v])[0, 1] for v in range(2)]
    np.testing.assert_allclose(score_of(sums, found), score, atol=1e-5)


def test_bands_that_say_nothing_are_shrunk():
    rng = np.random.default_rng(1)
    bands = np.array([0] * 5 + [1] * 60)
    parts = []
    for _ in range(8):
        x = rng.standard_normal((30, 65)).astype(np.float32)
        x -= x.mean(axis=0)
        y = np.stack([x[:, :5].sum(axis=1), x[:, 5:].sum(axis=1) / 2], axis=1)
        parts.append(film_sums(x, y + 2 * rng.standard_normal((30, 2))))
    weights, _ = banded(parts, bands)
    # Output 0 follows band 0 alone; output 1, the other one.
    silent = {name: np.abs(weights[name][5:, 0]).mean() for name in weights}
    assert silent["banded ridge"] < 0.5 * silent["ridge"]
    error = {name: np.abs(weights[name][:5, 0] - 1).mean() for name in weights}
    assert error["banded ridge"] < error["ridge"]


def test_the_common_penalty_is_the_one_that_predicts_left_out_films_best():
    rng = np.random.default_rng(3)
    true = rng.standard_normal((20, 2))
    films = []
    for _ in range(4):
        x = rng.standard_normal((40, 20))
        y = x @ true + 15 * rng.standard_normal((40, 2))
        films.append((x - x.mean(axis=0), y - y.mean(axis=0)))
    scores = np.zeros(len(COMMON))
    for number, (x_left, y_left) in enumerate(films):
        kept = [film for other, film in enumerate(films) if other != number]
        x, y = (np.concatenate(parts) for parts in zip(*kept, strict=True))
        for k, penalty in enumerate(COMMON):
            fitted = Ridge(alpha=penalty * (x**2).sum() / 20, fit_intercept=False).fit(x, y)
            predicted = fitted.predict(x_left)
            scores[k] += np.mean(
                [np.corrcoef(predicted[:, v], y_left[:, v])[0, 1] for v in range(2)]
            )
    best = int(scores.argmax())
    assert 0 < best < len(COMMON) - 1
    weights, told = banded([film_sums(x, y) for x, y in films], np.zeros(20, int))
    x, y = (np.concatenate(parts) for parts in zip(*films, strict=True))
    expected = Ridge(alpha=COMMON[best] * (x**2).sum() / 20, fit_intercept=False).fit(x, y)
    np.testing.assert_allclose(weights["ridge"], expected.coef_.T, rtol=1e-6, atol=1e-9)
    assert f"penalty {COMMON[best]:.1e} of the mean variance, r {scores[best] / 4:.4f}" in told


@pytest.mark.parametrize("rows", [60, 600])  # fewer and more than columns
def test_ridge_from_scratch_is_that_of_scikit_learn_and_its_penalty_fits_the_noise(rows):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((rows, 90))
    weights = rng.standard_normal((90, 2)) * 0.1
    y = np.concatenate([x @ weights, rng.standard_normal((rows, 2))], axis=1)
    path, chosen = few_minutes(x, y, people=2)
    assert len(path) == len(FEW)
    centred = x - x.mean(axis=0)
    alpha = FEW[4] * float((centred**2).sum()) / 90
    expected = Ridge(alpha=alpha).fit(x, y)
    np.testing.assert_allclose(path[4][0], expected.coef_.T, atol=1e-8)
    np.testing.assert_allclose(path[4][1], expected.intercept_, atol=1e-8)
    if rows == 600:
        assert FEW[chosen[0]] < FEW[chosen[1]]  # without noise, and nothing but noise
