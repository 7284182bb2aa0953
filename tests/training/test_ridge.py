"""Ridge on delayed features against scikit-learn, and against responses that are known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.linear_model import Ridge as Reference

from training_data_makers import SPACE, Content, array_run
from tribrain.errors import InputError
from tribrain.studies.groups import Span
from tribrain.studies.runs import Shown
from tribrain.training.data import TrainingData
from tribrain.training.ridge import FOLDS, PENALTIES, delayed_rows, fit_ridge
from tribrain.training.series import Series

ONSET, SECONDS = 20.0, 120
DIMS = {"audio": (1, 2), "video": (2, 2)}
LAG = 5.0


@dataclasses.dataclass
class FakeStudy:
    runs: list
    name: str = "coded"
    space = SPACE

    def window(self, run, first, n, dtype=np.float32):
        rows = np.full((n, SPACE.size), np.nan, dtype)
        low, high = max(first, 0), min(first + n, run.rows)
        rows[low - first : high - first] = run.values[low:high]
        return rows


def response(seconds_before: int) -> np.ndarray:
    """What each second before a row adds: a bump 4 to 7 s after."""
    return np.exp(-((np.arange(1, seconds_before + 1) - 5.5) ** 2) / 3)


def make_data(*, films=8, noise=0.0, frequency=2.0, seed=0):
    """BOLD that is, row by row, a known mixture of the features of the seconds before."""
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(sum(a * b for a, b in DIMS.values()), SPACE.size))
    runs, series, sides = [], {}, {}
    for film in range(films):
        values = {
            name: random.normal(size=(*dims, round(SECONDS * frequency))).astype(np.float32)
            for name, dims in DIMS.items()
        }
        name = "ABCDEFGHIJ"[film]
        series[name] = Series(values, frequency)
        each = np.concatenate(
            [v.reshape(-1, SECONDS, round(frequency)).mean(-1) for v in values.values()]
        ).T
        padded = np.zeros((200, each.shape[1]))
        padded[int(ONSET) : int(ONSET) + SECONDS] = each
        bold = np.zeros((200, SPACE.size))
        for delay, weight in enumerate(response(15), start=1):
            bold[delay:] += weight * (padded[:-delay] @ mixing)
        bold += noise * random.normal(size=bold.shape)
        shown = [Shown(Content(name), ONSET, SECONDS, group=f"film{name}")]
        run = array_run(bold.astype(np.float32), shown)
        object.__setattr__(run, "name", f"run{name}")
        runs.append(run)
        span = Span("coded", run.name, run.subject, ONSET, ONSET + SECONDS, f"film{name}")
        sides[span] = "test" if film == 0 else "train"
    return TrainingData([FakeStudy(runs)], sides, series, {}, frequency=frequency, lag=LAG)


def correlation(a, b):
    return np.array([np.corrcoef(x, y)[0, 1] for x, y in zip(a.T, b.T, strict=True)])


@pytest.mark.parametrize("frequency", [1.0, 2.0, 4.0])
def test_noiseless_responses_are_found_in_films_never_seen(frequency):
    data = make_data(frequency=frequency)
    (test,) = data.side("test")
    features, measured = delayed_rows(data, test)
    ridge = fit_ridge(data, data.side("train"))
    assert features.shape == (SECONDS, 15 * 6)
    assert correlation(ridge.predict(features), measured).min() > 0.999
    assert ridge.penalty == pytest.approx(PENALTIES[0])


def test_noise_asks_for_a_larger_penalty_and_nothing_is_found_in_noise():
    noisy = make_data(noise=20.0, films=6)
    found = fit_ridge(noisy, noisy.side("train"))
    assert found.penalty > 50 * PENALTIES[0]
    (test,) = noisy.side("test")
    features, _ = delayed_rows(noisy, test)
    random = np.random.default_rng(1).normal(size=(SECONDS, SPACE.size))
    assert abs(correlation(found.predict(features), random)).max() < 0.35


def test_weights_are_those_of_scikit_learn():
    data = make_data(noise=3.0)
    ridge = fit_ridge(data, data.side("train"))
    rows = [delayed_rows(data, one) for one in data.side("train")]
    x, y = (np.concatenate(parts).astype(float) for parts in zip(*rows, strict=True))
    scale = x.std(axis=0)
    reference = Reference(alpha=ridge.penalty * len(x)).fit((x - x.mean(0)) / scale, y)
    np.testing.assert_allclose(
        ridge.predict(x), reference.predict((x - x.mean(0)) / scale), atol=1e-3
    )


def test_the_penalty_is_the_one_that_predicts_left_out_groups_best():
    data = make_data(noise=4.0)
    stretches = data.side("train")
    ridge = fit_ridge(data, stretches)
    groups = sorted({one.span.group for one in stretches})
    rows = {one.span.group: delayed_rows(data, one) for one in stretches}
    scores = np.zeros(len(PENALTIES))
    for fold in range(FOLDS):
        left = [rows[g] for n, g in enumerate(groups) if n % FOLDS == fold]
        kept = [rows[g] for n, g in enumerate(groups) if n % FOLDS != fold]
        (x, y), (x_left, y_left) = (
            [np.concatenate(parts).astype(float) for parts in zip(*some, strict=True)]
            for some in (kept, left)
        )
        mean, scale = x.mean(0), x.std(0)
        for number, penalty in enumerate(PENALTIES):
            fitted = Reference(alpha=penalty * len(x)).fit((x - mean) / scale, y)
            predicted = fitted.predict((x_left - mean) / scale)
            scores[number] += correlation(predicted, y_left).mean()
    assert ridge.penalty == pytest.approx(PENALTIES[int(scores.argmax())])


def test_features_before_a_stimulus_are_zero_and_rows_are_in_time():
    data = make_data()
    (test,) = data.side("test")
    features, _ = delayed_rows(data, test, delays=15)
    by_delay = features.reshape(SECONDS, 15, 6)
    # Row r is second ONSET + LAG + r of the run: LAG + r seconds of the film have passed.
    assert (by_delay[0, :5] != 0).any(axis=1).all()
    assert (by_delay[0, 5:] == 0).all()
    np.testing.assert_array_equal(by_delay[1:, 1:], by_delay[:-1, :-1])
    values = np.concatenate(
        [part.reshape(-1, SECONDS, 2).mean(-1) for part in data.series["A"].values.values()]
    )
    np.testing.assert_allclose(by_delay[:, 4], values.T, rtol=1e-5)  # five seconds before


def test_minutes_of_one_film_are_cross_validated_over_time():
    data = make_data(noise=1.0)
    one = data.side("train")[0]
    short = dataclasses.replace(one, stop=one.first + 60)
    ridge = fit_ridge(data, [short])
    (test,) = data.side("test")
    features, measured = delayed_rows(data, test)
    assert np.isfinite(ridge.predict(features)).all()
    assert correlation(ridge.predict(features), measured).mean() > 0.2


def test_outputs_that_were_not_measured_do_not_disturb_others():
    data = make_data(noise=1.0)
    whole = fit_ridge(data, data.side("train"))
    for run in data.studies[0].runs:
        run.values[:, 2] = np.nan
    found = fit_ridge(data, data.side("train"))
    assert found.penalty == whole.penalty
    others = [0, 1, 3, 4]
    np.testing.assert_allclose(found.weights[:, others], whole.weights[:, others], rtol=1e-5)
    assert not found.weights[:, 2].any()


@pytest.mark.parametrize("rows", [slice(50, 51), slice(None)])  # a second; a whole run
def test_outputs_that_were_measured_in_some_rows_only_are_refused(rows):
    data = make_data(films=3)
    data.studies[0].runs[2].values[rows, 3] = np.nan
    with pytest.raises(InputError, match=r"output 3 .* runC"):
        fit_ridge(data, data.side("train"))


@pytest.mark.parametrize("unit", [1e-7, 1e6])
def test_the_units_of_the_features_do_not_matter(unit):
    data = make_data(noise=1.0)
    (test,) = data.side("test")
    whole = fit_ridge(data, data.side("train"))
    expected = whole.predict(delayed_rows(data, test)[0])
    for series in data.series.values():
        series.values["audio"][:] *= unit
    found = fit_ridge(data, data.side("train"))
    assert found.penalty == whole.penalty
    np.testing.assert_allclose(
        found.predict(delayed_rows(data, test)[0]), expected, rtol=1e-3, atol=1e-4
    )


def test_a_feature_that_is_never_there_and_one_of_a_single_film_change_little():
    data = make_data(noise=1.0)
    for name, series in data.series.items():
        more = np.zeros((1, 2, series.values["audio"].shape[-1]), np.float32)
        more[0, 1] = 1e4 * (name == "C")  # constant in the film, 0 in the others
        series.values["more"] = more
    data.dims["more"] = (1, 2)
    found = fit_ridge(data, data.side("train")).weights.reshape(15, 8, SPACE.size)
    assert np.isfinite(found).all()
    assert not found[:, 6].any()
    assert np.abs(found[:, 7] * 1e4).max() < np.abs(found[:, :6]).max()


def test_nothing_and_odd_rates_are_refused():
    data = make_data()
    with pytest.raises(InputError, match="nothing"):
        fit_ridge(data, [])
    data.frequency = 1.5
    with pytest.raises(InputError, match="a whole number"):
        delayed_rows(data, data.side("test")[0])
