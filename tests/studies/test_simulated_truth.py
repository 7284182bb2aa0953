"""Scores against the known truth: ceilings, the reach of linear models, the gap between them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import detrend
from sklearn.linear_model import Ridge

from tribrain.studies.prepare import prepare as prepare_study
from tribrain.studies.prepared import open_prepared
from tribrain.studies.simulated import Simulated
from tribrain.studies.simulated_brains import People
from tribrain.studies.simulated_truth import KNOWS, preparation


def small(**settings) -> Simulated:
    return Simulated(**{"n_subjects": 2, "films": 2, "minutes": 2.0, "space": 30} | settings)


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = (part - part.mean(axis=0) for part in (a, b))
    return (a * b).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))


# --- ceilings


def prepare(values: np.ndarray) -> np.ndarray:
    """Detrended, at 1 Hz by linear interpolation, the rest at both ends cut off."""
    moments = np.arange(12.0, 132.0) / 1.5
    first = np.minimum(moments.astype(int), len(values) - 2)
    part = (moments - first)[:, None]
    flat = detrend(values, axis=0)
    return flat[first] * (1 - part) + flat[first + 1] * part


def test_preparation_is_what_is_done_to_a_run_that_is_prepared(tmp_path):
    values = np.random.default_rng(0).normal(size=(104, 4)).cumsum(axis=0)
    found = preparation(np.arange(12.0, 132.0), 1.5)
    np.testing.assert_allclose(found(values), prepare(values), atol=1e-10)
    values[50, 1] = np.nan
    np.testing.assert_array_equal(np.isnan(found(values)).any(axis=0), [False, True, False, False])
    assert np.isnan(found(values)[:, 1]).all()
    study = small(n_subjects=1, films=1)
    prepare_study(study, tmp_path)
    run = open_prepared(tmp_path).runs[0]
    rows = preparation(run.origin + np.arange(run.rows), 1.5)
    bold = rows(next(iter(study.runs())).bold.load().values.astype(float))
    stored = run.read(0, run.rows)
    np.testing.assert_allclose(bold / bold.std(axis=0), stored / stored.std(axis=0), atol=5e-3)
    plain = preparation(np.arange(12.0, 132.0), 1.5, detrend=False)
    line = plain(np.arange(104.0)[:, None])
    np.testing.assert_allclose(line[:, 0], np.arange(12.0, 132.0) / 1.5)


def test_the_truth_scores_what_the_ceiling_says():
    study = small(repeats=80, films=1, nonlinear=True, snr=0.7)
    truths = {knows: study.truth("01", "film1", knows) for knows in ("own", "features", "group")}
    truths["linear"] = study.known.signal("01", "film1", "features", linear=True).values()
    runs = list(study.runs())
    bold = [
        [run.bold.load().values for run in pair] for pair in zip(runs[:80], runs[80:], strict=True)
    ]
    for change in (None, prepare):
        expected = {knows: study.ceiling("01", knows, prepare=change) for knows in KNOWS}
        expected["linear"] = study.ceiling("01", "features", linear=True, prepare=change)
        do = change or (lambda values: values)
        means = {
            name: np.mean([correlation(do(truth), do(mine)) for mine, _ in bold], axis=0)
            for name, truth in truths.items()
        }
        means["both"] = np.mean(
            [correlation(do(truths["group"]), do((one + two) / 2)) for one, two in bold], axis=0
        )
        expected["both"] = study.ceiling(study.subjects, "group", prepare=change)
        for name, found in means.items():
            assert np.mean(found) == pytest.approx(np.mean(expected[name]), abs=0.01), name
            assert np.sqrt(np.mean((found - expected[name]) ** 2)) < 0.025, name
        assert expected["own"].mean() > expected["features"].mean() > expected["linear"].mean()


def test_ceilings_are_ordered_and_grow_with_snr_and_people():
    weak, strong = (small(snr=snr, n_subjects=6) for snr in (0.3, 1.0))
    assert (weak.ceiling("01") < strong.ceiling("01")).all()
    one = np.mean([weak.ceiling(subject, "group") for subject in weak.subjects], axis=0)
    assert weak.ceiling(weak.subjects, "group").mean() > 1.3 * one.mean()
    assert one.mean() < np.mean([weak.ceiling(subject) for subject in weak.subjects])
    films = [weak.ceiling("01", films=[name]) for name in weak.film_names]
    np.testing.assert_allclose(weak.ceiling("01"), np.mean(films, axis=0))


def test_ridge_on_the_true_features_reaches_the_ceiling():
    study = Simulated(n_subjects=2, films=20, space=40, snr=0.6)
    train, test = study.film_names[:14], study.film_names[14:]
    runs = {(run.subject, run.task): run.bold for run in study.runs()}
    for subject in study.subjects:
        drives = {name: study.true_features(name, subject) for name in study.film_names}
        bold = {name: runs[subject, name].load().values for name in study.film_names}
        model = Ridge(alpha=1.0).fit(
            np.concatenate([drives[name] for name in train]),
            np.concatenate([bold[name] - bold[name].mean(axis=0) for name in train]),
        )
        scores = [correlation(model.predict(drives[name]), bold[name]) for name in test]
        ceiling = study.ceiling(subject, "features", films=test)
        assert np.mean(scores) == pytest.approx(ceiling.mean(), abs=0.01)
        assert ceiling.mean() > 0.3


# --- what no linear model reaches


def delayed(study: Simulated, name: str) -> np.ndarray:
    """Features given to a model, second by second, at delays of 0 to 30 s (rows, columns)."""
    series = study.features(name).series.values()
    joined = np.concatenate([array[0] for array in series])
    seconds = joined.reshape(len(joined), -1, 2).mean(axis=2).T
    padded = np.pad(seconds, [(30, 0), (0, 0)])
    return np.concatenate([padded[30 - lag : len(padded) - lag] for lag in range(0, 31, 2)], axis=1)


@pytest.mark.parametrize("nonlinear", [False, True])
def test_linear_models_of_the_given_features_reach_what_is_stated(nonlinear):
    study = Simulated(
        n_subjects=1, films=20, space=30, nonlinear=nonlinear, repetition_time=1.0, rest=12.0,
        people=replace(People(), unexplained=0),
    )  # fmt: skip
    train, test = study.film_names[:16], study.film_names[16:]

    def signal(name: str, linear: bool = False) -> np.ndarray:
        return study.known.signal("01", name, "features", linear=linear).values()[12:612]

    def centred(values: np.ndarray) -> np.ndarray:
        return values - values.mean(axis=0)

    model = Ridge(alpha=30.0).fit(
        np.concatenate([centred(delayed(study, name)) for name in train]),
        np.concatenate([centred(signal(name)) for name in train]),
    )
    found = np.mean([correlation(model.predict(delayed(study, f)), signal(f)) for f in test])
    stated = np.mean([correlation(signal(f, linear=True), signal(f)) for f in test])
    if nonlinear:
        assert 0.5 < stated < 0.8
        assert stated - 0.06 < found < stated + 0.03
    else:
        assert stated == pytest.approx(1)
        assert found > 0.96


def test_the_gap_of_linear_models_is_large_where_it_should_be_and_absent_in_linear_studies():
    table = small(nonlinear=True, space="fsaverage3", minutes=10.0).reachable()
    assert list(table.columns) == [
        "own", "ceiling", "best_linear", "gap", "share", "group", "group_linear"
    ]  # fmt: skip
    assert 0.65 < table.loc["all", "share"] < 0.8
    assert table.loc["all", "gap"] > 0.07
    for region in ("pSTS_L", "TVA_R", "IFG_L", "hMT+_R", "V1_L"):
        assert table.loc[region, "share"] < 0.75
    for region in ("A1_L", "HG-low_L"):
        assert table.loc[region, "share"] > 0.9
    assert (table["own"] >= table["ceiling"]).all()
    linear = small(space="fsaverage3").reachable()
    np.testing.assert_allclose(linear["ceiling"], linear["best_linear"])
    np.testing.assert_allclose(linear["group"], linear["group_linear"])
