"""Shares of feature spaces: known truths, the library's own numbers, and what is refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from himalaya.scoring import correlation_score_split, r2_score_split
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from tribrain.brain.atlas_regions import Region
from tribrain.brain.atlases import Atlas
from tribrain.brain.spaces import parcel_space
from tribrain.errors import InputError
from tribrain.evaluation import shares
from tribrain.evaluation.attribution import (
    Rows,
    attribution_table,
    correlation_split,
    fit_subsets,
    gain,
    product_measure,
    subsets,
    variance_partition,
    winners,
)
from tribrain.evaluation.banded import BandedRidge
from tribrain.evaluation.ridges import FIRRidge

NAMES = ("text", "audio", "video", "pitch", "pupil")


def scores_of(shares: dict[tuple[str, ...], np.ndarray]) -> dict[frozenset[str], np.ndarray]:
    """What models score if the variance falls into these parts: all that touch their spaces."""
    names = [key[0] for key in shares if len(key) == 1]
    return {
        frozenset(one): sum(part for held, part in shares.items() if set(held) & set(one))
        for one in subsets(names)
    }


# --- variance partitioning ------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_partition_finds_the_parts_that_scores_were_made_of(count):
    rng = np.random.default_rng(count)
    truth = {one: rng.normal(size=7) for one in subsets(NAMES[:count])}
    scores = scores_of(truth)
    found = variance_partition(scores)
    assert list(found) == [" & ".join(one) for one in truth]
    for one, part in truth.items():
        np.testing.assert_allclose(found[" & ".join(one)], part, atol=1e-12)
    np.testing.assert_allclose(
        sum(found.values()), scores[frozenset(NAMES[:count])], rtol=0, atol=1e-12
    )


def test_partition_of_two_is_that_of_the_textbook_and_is_not_clipped():
    alone = {
        ("a",): np.array([0.3, 0.1]),
        ("b",): np.array([0.2, 0.1]),
        ("a", "b"): np.r_[0.4, 0.5],
    }
    found = variance_partition(alone)
    np.testing.assert_allclose(found["a"], [0.2, 0.4])
    np.testing.assert_allclose(found["b"], [0.1, 0.4])
    np.testing.assert_allclose(found["a & b"], [0.1, -0.3])  # together more than each: suppression


def test_partition_is_the_same_whatever_the_order_of_keys_and_nan_stays():
    rng = np.random.default_rng(0)
    given = {one: rng.normal(size=4) for one in subsets(NAMES[:3])}
    given["text", "audio"][2] = np.nan
    found = variance_partition(given)
    turned = variance_partition({tuple(reversed(key)): given[key] for key in reversed(given)})
    assert list(turned)[:3] == ["video", "audio", "text"]
    for name, part in found.items():
        other = turned[" & ".join(reversed(name.split(" & ")))]
        np.testing.assert_allclose(other, part, atol=1e-12)
    assert np.isnan(found["video"][2])  # all less text & audio
    assert np.isfinite(found["text"][[0, 1, 3]]).all()


def test_a_name_stands_for_a_space_and_not_for_its_letters():
    given = {"text": np.full(2, 0.3), "audio": np.full(2, 0.2), ("text", "audio"): np.full(2, 0.4)}
    found = variance_partition(given)
    assert list(found) == ["text", "audio", "text & audio"]
    np.testing.assert_allclose([part[0] for part in found.values()], [0.2, 0.1, 0.1])


def test_partition_names_the_model_that_is_missing():
    given = {one: np.zeros(2) for one in subsets(NAMES[:3]) if one != ("audio", "video")}
    with pytest.raises(InputError, match="audio & video"):
        variance_partition(given)
    with pytest.raises(InputError, match="model of text;"):
        variance_partition({("audio",): np.zeros(2), ("audio", "text"): np.zeros(2)})
    with pytest.raises(InputError, match="no score"):
        variance_partition({})
    with pytest.raises(InputError, match="one shape"):
        variance_partition({("a",): np.zeros(2), ("b",): np.zeros(3), ("a", "b"): np.zeros(2)})


# --- the product measure --------------------------------------------------------------------------


def drawn(seed: int = 0, rows: int = 60, outputs: int = 9, mean: float = 0.0):
    """Parts that correlate, and a series that follows their sum."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(rows, outputs))
    parts = {name: shared + rng.normal(size=(rows, outputs)) for name in NAMES[:3]}
    measured = sum(parts.values()) + 2 * rng.normal(size=(rows, outputs))
    measured -= measured.mean(axis=0)
    parts["audio"] = -0.3 * parts["audio"]
    if mean:
        parts = {name: part + k * mean for k, (name, part) in enumerate(parts.items())}
        measured = measured + 3 * mean
    return parts, measured


def test_product_measure_is_that_of_himalaya():
    parts, measured = drawn()
    expected = r2_score_split(measured, np.stack(list(parts.values())))
    found = product_measure(parts, measured)
    assert list(found) == list(parts)
    np.testing.assert_allclose(np.stack(list(found.values())), expected, rtol=0, atol=1e-10)
    assert (found["audio"] < 0).all()


@pytest.mark.parametrize("mean", [0.0, 1.5, -40.0])
def test_product_measure_adds_up_to_r2(mean):
    parts, measured = drawn(mean=mean)
    expected = r2_score(measured, sum(parts.values()), multioutput="raw_values")
    found = product_measure(parts, measured)
    np.testing.assert_allclose(sum(found.values()), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("mean", [0.0, 7.0])
def test_correlation_split_is_that_of_himalaya_and_adds_up(mean):
    parts, measured = drawn(mean=mean)
    expected = correlation_score_split(measured, np.stack(list(parts.values())))
    found = correlation_split(parts, measured)
    np.testing.assert_allclose(np.stack(list(found.values())), expected, rtol=0, atol=1e-10)
    whole = sum(parts.values())
    r = [np.corrcoef(whole[:, k], measured[:, k])[0, 1] for k in range(measured.shape[1])]
    np.testing.assert_allclose(sum(found.values()), r, atol=1e-10)


@pytest.mark.parametrize("split", [product_measure, correlation_split])
def test_rows_that_were_not_measured_do_not_count(split, monkeypatch):
    parts, measured = drawn(mean=2.0)
    rng = np.random.default_rng(4)
    measured[rng.random(measured.shape) < 0.2] = np.nan
    parts["text"][3, :2] = np.nan
    found = split(parts, measured)
    for output in range(measured.shape[1]):
        kept = np.isfinite(measured[:, output]) & np.isfinite(parts["text"][:, output])
        one = {name: part[kept, output : output + 1] for name, part in parts.items()}
        expected = split(one, measured[kept, output : output + 1])
        for name, value in expected.items():
            np.testing.assert_allclose(found[name][output], value[0], atol=1e-12)
    monkeypatch.setattr(shares, "_BLOCK", 1)  # output by output
    for name, value in split(parts, measured).items():
        np.testing.assert_allclose(value, found[name], rtol=0, atol=1e-13)


@pytest.mark.parametrize("split", [product_measure, correlation_split])
def test_what_does_not_vary_has_no_share(split):
    parts, measured = drawn()
    measured[:, 2] = 0.1
    measured[:, 4] = np.nan
    found = split(parts, measured)
    for value in found.values():
        assert np.isnan(value[[2, 4]]).all()
        assert np.isfinite(np.delete(value, [2, 4])).all()
    flat = {name: np.zeros_like(measured) + 0.7 for name in parts}
    assert np.isnan(correlation_split(flat, measured)["text"]).all()


def test_parts_of_another_shape_are_refused():
    parts, measured = drawn()
    with pytest.raises(InputError, match="from text has shape"):
        product_measure({"text": parts["text"][:-1]}, measured)
    with pytest.raises(InputError, match="no part"):
        product_measure({}, measured)


# --- models of subsets ----------------------------------------------------------------------------

BANDS = {"text": 2, "audio": 1, "video": 3}


class Told(LinearRegression):
    """Least squares that keeps what it was told, and takes runs as the estimators here do."""

    def __init__(self, bands: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.bands = bands

    def fit(self, features, measured, *, runs=None, groups=None, used=None):
        self.told = runs, groups, used
        kept = slice(None) if used is None else used
        return super().fit(features[kept], measured[kept])

    def predict(self, features, *, runs=None):
        self.predicted_runs = runs
        return super().predict(features)


def orthogonal(rows: int = 240, seed: int = 1) -> np.ndarray:
    """Columns of mean 0 and unit variance that do not correlate at all."""
    raw = np.random.default_rng(seed).normal(size=(rows, sum(BANDS.values()) + 1))
    basis, _ = np.linalg.qr(raw - raw.mean(axis=0))
    return basis * np.sqrt(rows)


def test_shares_of_orthogonal_spaces_are_those_of_the_truth():
    columns = orthogonal()
    features, noise = columns[:, :6], columns[:, 6:]
    weights = np.array([[1, 0], [0, 1], [2, 0], [0, 0], [0, 0], [0, 2]], float)
    measured = features @ weights + 2 * noise
    rows = Rows(features, measured)
    scores = fit_subsets(Told, BANDS, rows, rows)
    assert list(scores) == subsets(BANDS)
    found = variance_partition(scores)
    total = (weights**2).sum(axis=0) + 4
    np.testing.assert_allclose(found["text"], np.array([1, 1]) / total, atol=1e-9)
    np.testing.assert_allclose(found["audio"], np.array([4, 0]) / total, atol=1e-9)
    np.testing.assert_allclose(found["video"], np.array([0, 4]) / total, atol=1e-9)
    for one in subsets(BANDS)[3:]:
        np.testing.assert_allclose(found[" & ".join(one)], 0, atol=1e-9)


@pytest.mark.parametrize("measure", ["r2", "r", "explained_variance"])
def test_each_subset_is_fitted_to_its_columns_and_scored_on_the_rows_asked_for(measure):
    rng = np.random.default_rng(3)
    features, measured = rng.normal(size=(80, 6)), rng.normal(size=(80, 4))
    measured += features @ rng.normal(size=(6, 4))
    runs, groups = np.repeat([0, 1], 40), np.repeat([0, 1, 2, 3], 20)
    used = rng.random(80) < 0.7
    measured[~used] = np.nan
    scored = Rows(features[:50] * 2, rng.normal(size=(50, 4)) + features[:50, :4], used=used[:50])
    made = []

    def make(bands):
        made.append(Told(bands))
        return made[-1]

    found = fit_subsets(
        make, BANDS, Rows(features, measured, runs, groups, used), scored, measure=measure
    )
    places = {"text": [0, 1], "audio": [2], "video": [3, 4, 5]}
    kept = used[:50]
    for model, (names, score) in zip(made, found.items(), strict=True):
        assert model.bands == tuple(BANDS[name] for name in names)
        assert model.told[0] is runs
        assert model.told[1] is groups
        assert model.told[2] is used
        assert model.predicted_runs is None
        columns = list(itertools.chain(*(places[name] for name in names)))
        by_hand = LinearRegression().fit(features[used][:, columns], measured[used])
        x, y = by_hand.predict(scored.features[kept][:, columns]), scored.measured[kept]
        expected = {
            "r2": r2_score(y, x, multioutput="raw_values"),
            "r": [np.corrcoef(x[:, k], y[:, k])[0, 1] for k in range(4)],
            "explained_variance": 1 - (y - x).var(axis=0) / y.var(axis=0),
        }[measure]
        np.testing.assert_allclose(score, expected, atol=1e-9)


def test_estimators_of_other_libraries_do_without_labels():
    rng = np.random.default_rng(0)
    rows = Rows(rng.normal(size=(30, 6)), rng.normal(size=(30, 2)))
    found = fit_subsets(lambda bands: LinearRegression(), BANDS, rows, rows)
    assert (found["text", "audio", "video"] >= found["text",] - 1e-12).all()


def test_bands_that_are_not_the_columns_are_refused():
    rows = Rows(np.zeros((4, 5)), np.zeros((4, 1)))
    with pytest.raises(InputError, match="5 columns; the bands have 2 of text"):
        fit_subsets(Told, BANDS, rows, rows)
    with pytest.raises(InputError, match="measure 'mse' is unknown"):
        fit_subsets(Told, BANDS, rows, rows, measure="mse")


# --- winners --------------------------------------------------------------------------------------

SCORES = {
    "text": np.array([0.3, 0.1, np.nan, np.nan, 0.2, -0.2]),
    "audio": np.array([0.1, 0.4, 0.1, np.nan, 0.2, -0.1]),
    "video": np.array([0.2, 0.2, np.nan, np.nan, 0.0, -0.5]),
}


def test_the_winner_is_the_largest_and_its_margin_that_to_the_next():
    won = winners(SCORES)
    assert won.labels().tolist() == ["text", "audio", "audio", "", "text", "audio"]
    assert won.best.tolist() == [0, 1, 1, -1, 0, 1]
    np.testing.assert_allclose(won.score, [0.3, 0.4, 0.1, np.nan, 0.2, -0.1])
    np.testing.assert_allclose(won.margin, [0.1, 0.2, np.nan, np.nan, 0, 0.1], atol=1e-12)
    assert won.counts() == {"text": 2, "audio": 3, "video": 0}
    assert won.counts(np.arange(6) < 2) == {"text": 1, "audio": 1, "video": 0}
    with pytest.raises(InputError, match="no score"):
        winners({})
    with pytest.raises(InputError, match="one shape fits"):
        winners({"text": np.zeros(3), "audio": np.zeros(4)})
    with pytest.raises(InputError, match="one shape fits"):
        gain(np.zeros(3), {"text": np.zeros(4)})


def test_gain_is_that_above_the_best_alone_and_can_be_negative():
    whole = np.array([0.5, 0.3, 0.1, 0.3, np.nan, 0.0])
    np.testing.assert_allclose(gain(whole, SCORES), [0.2, -0.1, 0, np.nan, np.nan, 0.1], atol=1e-12)


def test_a_region_is_compared_on_the_outputs_that_all_have():
    space = parcel_space("eights", [f"p{k}" for k in range(6)])
    regions = (
        Region("front", "front", "left", np.array([0, 1, 2])),
        Region("back", "back", "right", np.array([4, 5])),
        Region("none", "none", "", np.array([3])),
    )
    whole = np.array([0.5, 0.3, 9.0, 0.3, 0.4, 0.0])
    table = attribution_table(whole, SCORES, Atlas("made", space, regions, "made"))
    assert table.columns.tolist() == [
        *("region", "outputs", "all", "text", "audio", "video", "best", "margin", "gain")
    ]
    assert table["outputs"].tolist() == [2, 2, 0]
    assert table["best"].tolist() == ["audio", "audio", ""]
    np.testing.assert_allclose(table["all"], [0.4, 0.2, np.nan])
    np.testing.assert_allclose(table["audio"], [0.25, 0.05, np.nan])
    np.testing.assert_allclose(table["margin"], [0.05, 0.05, np.nan])
    np.testing.assert_allclose(table["gain"], [0.15, 0.15, np.nan])


@pytest.mark.parametrize("kind", ["fir", "banded"])
def test_the_estimators_here_find_what_is_unique_and_what_is_shared(kind):
    """Space c repeats three columns of a, two rows later in the response, in runs of 100 rows."""
    rng = np.random.default_rng(0)
    a, b, c = (rng.normal(size=(600, 5)) for _ in range(3))
    c[:, :3] = a[:, :3] + 0.05 * rng.normal(size=(600, 3))
    driven = np.stack([a[:, 3:].sum(1), b.sum(1), a[:, :3].sum(1)], axis=1)
    measured = np.roll(driven, 2, axis=0) + rng.normal(size=driven.shape)
    features = np.concatenate([a, b, c], axis=1).astype("f4")
    runs = np.repeat(np.arange(6), 100)
    used = np.arange(600) % 100 >= 2  # what is rolled in from another run is left out
    parts = [
        Rows(features[kept], measured[kept].astype("f4"), runs[kept], runs[kept], used[kept])
        for kept in (runs < 4, runs >= 4)
    ]
    bands = {"a": 5, "b": 5, "c": 5}
    delays = (1, 2, 3)

    def make(columns):
        return FIRRidge(delays=delays) if kind == "fir" else BandedRidge(columns, delays=delays)

    found = variance_partition(fit_subsets(make, bands, *parts))
    most = {"a": 0, "b": 1, "a & c": 2}
    explained = [2 / 3, 5 / 6, 3 / 4]  # of the variance that there is
    for name, share in found.items():
        for output in range(3):
            expected = explained[output] if most.get(name) == output else 0
            assert abs(share[output] - expected) < 0.12, (name, output)
