"""Every baseline by its name: made for a setting, fitted, better than chance; wrong names."""

from __future__ import annotations

import numpy as np
import pytest

from tribrain.brain.haemodynamics import convolve
from tribrain.errors import InputError
from tribrain.evaluation.baselines import (
    BASELINES,
    TOLD,
    Setting,
    baseline_names,
    delays_in_rows,
    make_baselines,
    nuisance_floor,
)
from tribrain.evaluation.scores import score

BANDS = (3, 2)
RUNS = np.repeat(["a", "b", "c"], 120)


def data(repetition_time: float) -> tuple[np.ndarray, np.ndarray]:
    """Features of three runs, and what a haemodynamic response makes of them, with noise."""
    random = np.random.default_rng(0)
    x = random.standard_normal((len(RUNS), sum(BANDS))).astype(np.float32)
    for t in range(1, len(x)):  # as slow as films are
        x[t] = 0.8 * x[t - 1] + 0.6 * x[t]
    parts = [convolve(x[run == RUNS].T, 1 / repetition_time, 120).T for run in "abc"]
    y = np.concatenate(parts) @ random.standard_normal((sum(BANDS), 4))
    y = y / y.std(0) + 0.5 * random.standard_normal(y.shape)
    return x, y.astype(np.float32)


@pytest.mark.parametrize("repetition_time", [1.0, 2.0])
@pytest.mark.parametrize("name", list(BASELINES))
def test_every_baseline_predicts_what_a_response_makes(name, repetition_time):
    x, y = data(repetition_time)
    setting = Setting(repetition_time, bands=BANDS, n_outputs=4)
    estimator = make_baselines(name, setting)[name]
    used = RUNS != "c"
    y[~used] = np.nan  # no one may look
    held = data(repetition_time)[1][~used]
    estimator.fit(x, y, runs=RUNS, groups=RUNS, used=used)
    predicted = estimator.predict(x, runs=RUNS)[~used]
    least = 0.4 if name in ("plain", "scaled", "stacked") else 0.6
    assert score(predicted, held).r.mean() > least


def test_names_and_what_is_told_of_them():
    assert list(BASELINES) == [
        "plain", "fir", "hrf", "scaled", "banded", "group-kernel", "rbf", "stacked"
    ]  # fmt: skip
    assert list(TOLD) == list(BASELINES)
    assert all("\n" not in told for told in TOLD.values())


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("fir", ("fir",)),
        (" hrf,fir,hrf ", ("hrf", "fir")),
        (["banded", "rbf"], ("banded", "rbf")),
        ("none", ()),
        ([], ()),
    ],
)
def test_names_come_with_commas_or_in_a_list(given, found):
    assert baseline_names(given) == found
    assert tuple(make_baselines(given, Setting())) == found


@pytest.mark.parametrize("given", ["ridge", "fir,", "fir,none", ""])
def test_a_name_that_there_is_none_of_is_refused_with_those_that_there_are(given):
    with pytest.raises(InputError) as error:
        make_baselines(given, Setting())
    assert "\n" not in str(error.value)
    assert "plain, fir, hrf, scaled, banded, group-kernel, rbf, stacked" in str(error.value)


@pytest.mark.parametrize(
    ("repetition_time", "rows"),
    [(1.0, tuple(range(2, 9))), (2.0, (1, 2, 3, 4)), (0.5, tuple(range(4, 17, 2)))],
)
def test_delays_are_the_nearest_rows(repetition_time, rows):
    setting = Setting(repetition_time)
    assert setting.delay_rows == rows
    assert make_baselines("fir", setting)["fir"].delays == rows
    assert delays_in_rows((5.0, 4.9, 0.0), 5.0) == (0, 1)


def test_lag_and_gap_are_seconds():
    setting = Setting(2.0, lag=4.0)
    made = make_baselines("plain,scaled,fir", setting)
    assert made["plain"].delays == (2,)
    assert made["scaled"].lags == (1, 2, 3)
    assert {one.gap for one in made.values()} == {3}
    assert make_baselines("scaled", Setting(1.0, lag=0.0))["scaled"].lags == (-1, 0, 1)


def test_settings_reach_the_estimators():
    setting = Setting(1.5, bands=BANDS, folds=3, seed=7)
    made = make_baselines(list(BASELINES), setting)
    assert {one.folds for one in made.values()} == {3}
    for name in ("banded", "group-kernel", "stacked"):
        assert made[name].bands == BANDS
    assert made["group-kernel"].seed == 7
    assert made["hrf"].repetition_time == nuisance_floor(setting).repetition_time == 1.5


@pytest.mark.parametrize(
    "wrong", [{"repetition_time": 0.0}, {"delays": ()}, {"bands": (3, 0)}, {"bands": ()}]
)
def test_settings_that_fit_nothing_are_refused(wrong):
    with pytest.raises(InputError):
        Setting(**wrong)
