"""The ridges as estimators: scikit-learn's contract, runs, groups, rows not used, known truths."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.linear_model import Ridge as Reference
from sklearn.linear_model import RidgeCV as ReferenceCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from tribrain.brain.haemodynamics import convolve
from tribrain.errors import InputError
from tribrain.evaluation.folds import inner_folds
from tribrain.evaluation.group_mean import GroupMeanRidge
from tribrain.evaluation.ridges import FIRRidge, HRFRidge, ScaledRidge

OF_ROWS = [FIRRidge(), FIRRidge(scoring="r2", per_output=False), ScaledRidge(), GroupMeanRidge()]
ORDER_COUNTS = dict.fromkeys(
    ["check_methods_sample_order_invariance", "check_methods_subset_invariance"],
    "a row depends on the rows before it",
)


@parametrize_with_checks(
    [*OF_ROWS, HRFRidge()],
    expected_failed_checks=lambda one: ORDER_COUNTS if isinstance(one, HRFRidge) else {},
)
def test_scikit_learn_takes_it_for_an_estimator(estimator, check):
    check(estimator)


def recording(n=240, columns=4, outputs=5, noise=1.0, seed=0):
    """Two runs of features, and responses 1 and 2 rows later that never cross the edge."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, columns))
    runs = np.repeat(["a", "b"], [n // 3, n - n // 3])
    weights = random.normal(size=(2, columns, outputs))
    y = noise * random.normal(size=(n, outputs))
    for run in ("a", "b"):
        rows = np.flatnonzero(runs == run)
        for delay in (1, 2):
            y[rows[delay:]] += x[rows[:-delay]] @ weights[delay - 1]
    return x, y, runs, weights


def test_responses_are_found_at_their_delays_and_not_across_runs():
    x, y, runs, weights = recording(noise=0.0)
    fitted = FIRRidge((1, 2, 3), [1e-9], standardise=False).fit(x, y, runs=runs)
    found = fitted.coef_.reshape(3, *weights.shape[1:])
    np.testing.assert_allclose(found[:2], weights, atol=1e-5)
    np.testing.assert_allclose(found[2], 0, atol=1e-5)
    np.testing.assert_allclose(fitted.predict(x, runs=runs), y, atol=1e-5)
    edge = int((runs == "a").sum())
    across = fitted.predict(x)
    assert abs(across[edge] - y[edge]).max() > 0.1
    np.testing.assert_allclose(np.delete(across, [edge, edge + 1], 0),
                               np.delete(y, [edge, edge + 1], 0), atol=1e-5)  # fmt: skip


def test_plain_ridge_is_that_of_scikit_learn():
    x, y, *_ = recording(columns=20)
    alphas = np.logspace(-1, 4, 9)
    splits = inner_folds(len(x))
    rival = ReferenceCV(alphas, cv=splits, scoring="r2").fit(x, y[:, 0])
    own = FIRRidge(penalties=alphas, scoring="r2", standardise=False, relative=False)
    own.fit(x, y[:, 0])
    assert own.penalty_[0] == pytest.approx(rival.alpha_)
    assert own.scores_[0] == pytest.approx(rival.best_score_, abs=1e-9)
    np.testing.assert_allclose(own.predict(x), rival.predict(x), atol=5e-6)


def test_units_of_columns_change_nothing_and_those_of_penalties_follow():
    x, y, runs, _ = recording()
    units = np.array([1e-3, 1.0, 50.0, 1e4])
    for delays, shift in (((1, 2), 0.0), ((0,), 7.0)):  # before a run there is 0, not a mean
        plain = FIRRidge(delays).fit(x, y, runs=runs)
        scaled = FIRRidge(delays).fit(x * units + shift, y, runs=runs)
        np.testing.assert_array_equal(plain.penalty_, scaled.penalty_)
        one, other = plain.predict(x, runs=runs), scaled.predict(x * units + shift, runs=runs)
        np.testing.assert_allclose(one, other, atol=1e-8)
    kept = FIRRidge(standardise=False).fit(x, y)
    times = FIRRidge(standardise=False).fit(1000 * x, y)
    np.testing.assert_array_equal(kept.penalty_, times.penalty_)
    np.testing.assert_allclose(kept.predict(x), times.predict(1000 * x), atol=5e-6)


def test_rows_that_are_not_used_give_the_past_and_nothing_else():
    x, y, runs, _ = recording()
    used = np.ones(len(x), bool)
    used[[0, 1, 80, 81, 120, 121, 122]] = False
    hidden = np.where(used[:, None], y, np.nan)
    one = FIRRidge((1, 2)).fit(x, hidden, runs=runs, used=used)
    other = FIRRidge((1, 2)).fit(x, np.where(used[:, None], y, 1e6), runs=runs, used=used)
    np.testing.assert_array_equal(one.coef_, other.coef_)
    design = np.zeros((len(x), 8))
    for run in "ab":
        rows = np.flatnonzero(runs == run)
        for delay in (1, 2):
            design[rows[delay:], 4 * delay - 4 : 4 * delay] = x[rows[:-delay]]
    mean, scale = design[used].mean(0), design[used].std(0)
    z = (design - mean) / scale
    expected = Reference(alpha=one.penalty_ * used.sum()).fit(z[used], y[used]).predict(z)
    np.testing.assert_allclose(one.predict(x, runs=runs), expected, atol=5e-6)


def test_a_missing_number_in_a_used_row_is_named():
    x, y, *_ = recording(outputs=5)
    y[17, 3] = np.nan
    with pytest.raises(InputError, match="output 3 of y is nan in row 17"):
        FIRRidge().fit(x, y)
    with pytest.raises(InputError, match="used has shape"):
        FIRRidge().fit(x, y, used=[True])


def test_groups_that_repeat_are_left_out_whole():
    """Each group repeats its rows, so that rows of the same group give the noise away."""
    random = np.random.default_rng(3)
    groups = np.repeat(np.arange(12), 10)
    x = random.normal(size=(12, 30))[groups] + 0.01 * random.normal(size=(120, 30))
    y = random.normal(size=(12, 8))[groups]
    order = random.permutation(120)  # so that blocks of time hold rows of every group
    x, y, groups = x[order], y[order], groups[order]
    leaking = FIRRidge(gap=0).fit(x, y)
    honest = FIRRidge(gap=0).fit(x, y, groups=groups)
    assert leaking.scores_.mean() > 0.9
    assert honest.scores_.mean() < 0.4


def test_noise_asks_for_a_large_penalty_and_signal_for_a_small_one():
    x, y, runs, _ = recording(n=600, noise=0.1, outputs=33)
    y[:, 2:] = np.random.default_rng(5).normal(size=(600, 31))
    fitted = FIRRidge((1, 2), scoring="r2").fit(x, y, runs=runs)
    assert fitted.penalty_[:2].max() < 1e-4 * np.median(fitted.penalty_[2:])
    assert fitted.scores_[:2].min() > 0.95
    assert fitted.scores_[2:].mean() < 0.01
    shared = clone(fitted).set_params(per_output=False).fit(x, y, runs=runs)
    assert len(set(shared.penalty_)) == 1
    narrow = FIRRidge((1, 2), penalties=(1e-3, 1e-2)).fit(x, y, runs=runs)
    assert narrow.at_edge_.all()


def test_what_is_known_of_the_response_is_convolved_run_by_run():
    random = np.random.default_rng(7)
    runs = np.repeat([3, 1], [90, 60])
    x = random.normal(size=(150, 2))
    true = np.concatenate([convolve(x[runs == r].T, 0.5, int((runs == r).sum())).T for r in (3, 1)])
    y = true @ [[1.0, 2.0, 0.0], [0.5, -1.0, 1.0]]
    fitted = HRFRidge(2.0, penalties=[1e-9], standardise=False).fit(x, y, runs=runs)
    np.testing.assert_allclose(fitted.coef_, [[1, 2, 0], [0.5, -1, 1]], atol=1e-5)
    np.testing.assert_allclose(fitted.predict(x, runs=runs), y, atol=1e-5)
    # Whole runs may come in any order, and alone.
    turned = np.concatenate([np.arange(90, 150), np.arange(90)])
    again = fitted.predict(x[turned], runs=runs[turned])
    np.testing.assert_allclose(again, fitted.predict(x, runs=runs)[turned], atol=1e-12)
    np.testing.assert_allclose(fitted.predict(x[90:]), fitted.predict(x, runs=runs)[90:])
    for changed, told in (({"repetition_time": 0.0}, "more than 0"), ({"response": "x"}, "known")):
        with pytest.raises(InputError, match=told):
            HRFRidge(**changed).fit(x, y)


@pytest.mark.parametrize("lag", [-1, 0, 2])
def test_the_lag_and_the_scaling_of_whitened_components_are_found(lag):
    random = np.random.default_rng(11)
    n, columns = 400, 120
    x = random.normal(size=(n, columns))
    weights = random.normal(size=(columns, 20)) / np.arange(1, columns + 1)[:, None]
    y = np.roll(x, lag, axis=0) @ weights + 1.5 * random.normal(size=(n, 20))
    train, test = slice(0, 280), slice(300, n)
    fitted = ScaledRidge(lags=(-1, 0, 1, 2)).fit(x[train], y[train])
    assert fitted.lag_ == lag
    assert fitted.exponent_ >= 0.5
    assert len(set(fitted.penalty_)) == 1

    def score(guess):
        return np.mean([np.corrcoef(*two)[0, 1] for two in zip(guess.T, y[test].T, strict=True)])

    plain = ScaledRidge(exponents=(0.0,), lags=(lag,)).fit(x[train], y[train])
    assert score(fitted.predict(x[test])) > score(plain.predict(x[test])) + 0.05


def test_what_was_tried_can_be_read_and_with_one_choice_nothing_is_left_out():
    x, y, runs, _ = recording()
    ways = {"exponents": (0.0, 0.5), "lags": (1, 2, 3)}
    fitted = ScaledRidge(**ways, gap=0).fit(x, y, runs=runs)
    assert fitted.means_.shape == (3, 2)
    place = np.unravel_index(fitted.means_.argmax(), (3, 2))
    assert (fitted.lag_, fitted.exponent_) == (ways["lags"][place[0]], ways["exponents"][place[1]])
    assert fitted.means_.max() == pytest.approx(fitted.scores_.mean())
    for number, lag in enumerate(ways["lags"]):
        alone = ScaledRidge((0.5,), (lag,), gap=0, per_output=False).fit(x, y, runs=runs)
        assert fitted.means_[number, 1] == pytest.approx(alone.means_[0, 0])
    fixed = ScaledRidge((0.5,), (1,), (0.1,)).fit(x[:2], y[:2])
    assert np.isnan(fixed.scores_).all()
    assert not fixed.at_edge_.any()
    np.testing.assert_array_equal(FIRRidge(penalties=(0.1,)).fit(x[:2], y[:2]).penalty_, 0.1)


def test_a_scaled_ridge_with_one_way_is_a_plain_one():
    x, y, runs, _ = recording()
    plain = FIRRidge((2,), standardise=False).fit(x, y, runs=runs)
    scaled = ScaledRidge((0.0,), (2,), per_output=True).fit(x, y, runs=runs)
    np.testing.assert_allclose(plain.coef_, scaled.coef_, atol=1e-12)
    np.testing.assert_array_equal(plain.penalty_, scaled.penalty_)
    with pytest.raises(InputError, match="there are none"):
        ScaledRidge(exponents=()).fit(x, y)


def crowd(shift=0.0):
    """Three people of one film; the third one missed its last 20 rows and saw 15 others."""
    random = np.random.default_rng(13)
    film, other = random.normal(size=(100, 6)), random.normal(size=(15, 6))
    weights = random.normal(size=(6, 4))
    x, y, people, shown, runs = [], [], [], [], []
    for person in range(3):
        for name, rows in (("film", film[: 80 if person == 2 else 100]), ("other", other)):
            if name == "other" and person < 2:
                continue
            x.append(rows)
            noise = random.normal(size=(len(rows), 4))
            y.append((rows @ weights + 2 * noise) * (person + 1) + shift * person)
            people += [f"p{person}"] * len(rows)
            shown += [f"{name} {second}" for second in range(len(rows))]
            runs += [name] * len(rows)
    return (*map(np.concatenate, (x, y)), np.array(people), np.array(shown), np.array(runs))


def test_the_mean_of_people_is_what_the_base_is_fitted_to():
    x, y, people, shown, runs = crowd(shift=50.0)
    runs_of = np.char.add(people, runs)
    found = GroupMeanRidge(FIRRidge((0, 1))).fit(x, y, people=people, shown=shown, runs=runs_of)
    assert found.moments_ == 115
    names = list(dict.fromkeys(shown.tolist()))
    z = np.empty_like(y)
    for one in np.unique(runs_of):
        z[runs_of == one] = (y - y[runs_of == one].mean(0))[runs_of == one] / y[runs_of == one].std(
            0
        )
    mean = np.stack([z[shown == name].mean(axis=0) for name in names])
    moments = np.stack([x[shown == name][0] for name in names])
    run = np.array([name.split()[0] for name in names])
    expected = FIRRidge((0, 1)).fit(moments, mean, runs=run)
    np.testing.assert_allclose(found.base_.coef_, expected.coef_, atol=1e-10)
    np.testing.assert_allclose(
        found.predict(moments, runs=run), expected.predict(moments, runs=run), atol=1e-10
    )


def test_moments_of_later_people_alone_have_no_wrong_past():
    """The first person saw rows 10 to 39 of 60, the second one all of them."""
    random = np.random.default_rng(23)
    film = random.normal(size=(60, 3))
    rows = np.concatenate([np.arange(10, 40), np.arange(60)])
    people = np.repeat(["a", "b"], [30, 60])
    y = random.normal(size=(90, 2))
    base = FIRRidge((1,), penalties=(0.1,))
    found = GroupMeanRidge(base).fit(film[rows], y, people=people, shown=rows, runs=people)
    order = np.concatenate([np.arange(10, 40), np.arange(10), np.arange(40, 60)])
    z = y.copy()
    for one in "ab":
        z[people == one] -= y[people == one].mean(axis=0)
        z[people == one] /= y[people == one].std(axis=0)
    mean = np.stack([z[rows == k].mean(axis=0) for k in order])
    expected = clone(base).fit(film[order], mean, runs=np.repeat([0, 1, 2], [30, 10, 20]))
    np.testing.assert_allclose(found.base_.coef_, expected.coef_, atol=1e-10)


def test_people_with_equal_rows_need_no_labels_and_their_mean_predicts_better_than_one():
    random = np.random.default_rng(17)
    film, weights = random.normal(size=(160, 10)), random.normal(size=(10, 6))
    n, many = 120, 8
    y = np.stack([film @ weights + 12 * random.normal(size=(160, 6)) for _ in range(many)])
    people = np.repeat(np.arange(many), n)
    x = np.tile(film[:n], (many, 1))
    group = GroupMeanRidge().fit(x, y[:, :n].reshape(-1, 6), people=people)
    alone = FIRRidge().fit(film[:n], y[0, :n])
    truth = film[n:] @ weights

    def score(guess):
        return np.mean([np.corrcoef(*two)[0, 1] for two in zip(guess.T, truth.T, strict=True)])

    assert group.moments_ == n
    assert score(group.predict(film[n:])) > score(alone.predict(film[n:])) + 0.1
    with pytest.raises(InputError, match="equal numbers fit"):
        GroupMeanRidge().fit(x[:-1], y[:, :n].reshape(-1, 6)[:-1], people=people[:-1])
    with pytest.raises(InputError, match="shown has shape"):
        GroupMeanRidge().fit(x, y[:, :n].reshape(-1, 6), people=people, shown=["a"])


def test_a_person_without_a_row_counts_not_there():
    x, y, people, shown, runs = crowd()
    used = ~((people == "p1") & (runs == "film") & np.isin(shown, ["film 3", "film 4"]))
    hidden = np.where(used[:, None], y, np.nan)
    taken = {"people": people, "shown": shown, "runs": np.char.add(people, runs)}
    one = GroupMeanRidge().fit(x, hidden, used=used, **taken)
    assert one.moments_ == 115
    keep = {key: values[used] for key, values in taken.items()}
    other = GroupMeanRidge().fit(x[used], y[used], **keep)
    np.testing.assert_allclose(one.predict(x), other.predict(x), atol=1e-10)


def test_a_pipeline_hands_runs_and_groups_on():
    x, y, runs, _ = recording()
    with sklearn.config_context(enable_metadata_routing=True):
        ridge = FIRRidge((1, 2)).set_fit_request(runs=True, groups=True)
        ridge.set_predict_request(runs=True)
        line = make_pipeline(StandardScaler(), ridge).fit(x, y, runs=runs, groups=runs)
        found = line.predict(x, runs=runs)
    z = StandardScaler().fit_transform(x)
    expected = FIRRidge((1, 2)).fit(z, y, runs=runs, groups=runs).predict(z, runs=runs)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("estimator", [FIRRidge((0, 1)), HRFRidge(), ScaledRidge()])
def test_single_precision_stays_and_agrees_with_double(estimator):
    x, y, runs, _ = recording()
    double = clone(estimator).fit(x, y, runs=runs)
    single = clone(estimator).fit(x.astype(np.float32), y.astype(np.float32), runs=runs)
    guess = single.predict(x.astype(np.float32), runs=runs)
    assert guess.dtype == np.float32
    np.testing.assert_array_equal(single.penalty_, double.penalty_)
    np.testing.assert_allclose(guess, double.predict(x, runs=runs), atol=1e-4)


@pytest.mark.parametrize(
    "estimator", [FIRRidge(), HRFRidge(), ScaledRidge([0.5])], ids=["fir", "hrf", "scaled"]
)
def test_single_precision_keeps_its_digits_far_from_0(estimator):
    x, y, runs, _ = recording(n=200)
    far = (x + 1e4).astype(np.float32)
    used = np.ones(len(x), bool)
    for edge in np.flatnonzero(runs[1:] != runs[:-1]) + 1:
        used[edge : edge + 32] = False  # there a convolved response still rises to 1e4
    used[:32] = False
    how = {"runs": runs, "used": used}
    one = clone(estimator).set_params(penalties=[1e-3])
    exact = clone(one).fit(far.astype(float), y, **how).predict(far.astype(float), runs=runs)
    fitted = one.fit(far, y.astype(np.float32), **how)
    assert fitted.coef_.dtype == np.float32
    found = fitted.predict(far, runs=runs)
    np.testing.assert_allclose(found[used], exact[used], rtol=0, atol=5e-6)
