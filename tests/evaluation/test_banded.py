"""Banded ridge, and ridge with weights of the bands drawn at random."""

from __future__ import annotations

import numpy as np
import pytest
from himalaya.backend import get_backend, set_backend
from himalaya.kernel_ridge import MultipleKernelRidgeCV
from himalaya.ridge import GroupRidgeCV
from himalaya.scoring import correlation_score, r2_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from band_makers import BANDS, banded_data, correlations
from tribrain.errors import InputError
from tribrain.evaluation.banded import BandedRidge, GroupKernelRidge
from tribrain.evaluation.banded_solvers import dirichlet, grid, himalaya_backend
from tribrain.evaluation.bands import band_slices, delayed_bands
from tribrain.evaluation.folds import inner_folds
from tribrain.evaluation.ridges import FIRRidge

FEW = (0.001, 0.1, 10.0)


@parametrize_with_checks([BandedRidge(), GroupKernelRidge()])
def test_is_an_estimator_of_scikit_learn(estimator, check):
    check(estimator)


def _alike(x: np.ndarray) -> list[np.ndarray]:
    """Bands of equal variance, columns of mean variance 1."""
    scale = np.ones(x.shape[1])
    for band in band_slices(BANDS, x.shape[1]):
        scale[band] = np.sqrt(x.shape[1] / x[:, band].var(axis=0).sum())
    return [(x * scale)[:, band] for band in band_slices(BANDS, x.shape[1])]


def _plain_himalaya(model, x, y, n_iter, scoring, folds):
    """himalaya as its own examples call it, on bands that are scaled alike."""
    parts = _alike(x)
    settings = {
        "n_iter": n_iter,
        "alphas": np.array(FEW) * len(x),
        "score_func": {"r": correlation_score, "r2": r2_score}[scoring],
        "progress_bar": False,
    }
    if model is GroupRidgeCV:
        settings["warn"] = False
    given = {"solver_params": settings, "fit_intercept": True, "cv": folds, "random_state": 5}
    if model is GroupRidgeCV:
        fitted = GroupRidgeCV(groups="input", **given).fit(parts, y)
        return fitted, fitted.predict(parts)
    centred = [part - part.mean(axis=0) for part in parts]
    kernels = np.stack([part @ part.T for part in centred])
    fitted = MultipleKernelRidgeCV(kernels="precomputed", **given).fit(kernels, y)
    return fitted, fitted.predict(kernels)


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("solver", ["sums", "himalaya"])
@pytest.mark.parametrize("scoring", ["r", "r2"])
@pytest.mark.parametrize(("n", "model"), [(120, GroupRidgeCV), (28, MultipleKernelRidgeCV)])
def test_random_search_equals_himalaya(n, model, scoring, solver):
    x, y = banded_data(n)
    folds = inner_folds(n, folds=4, gap=0)
    theirs, predicted = _plain_himalaya(model, x, y, 12, scoring, folds)
    ours = GroupKernelRidge(
        BANDS, 12, 5, FEW, folds=4, gap=0, scoring=scoring, solver=solver, batch=4
    ).fit(x, y)
    np.testing.assert_allclose(ours.cv_scores_, theirs.cv_scores_, atol=1e-6)
    np.testing.assert_allclose(ours.deltas_, theirs.deltas_, atol=1e-6)
    np.testing.assert_allclose(ours.predict(x), predicted, atol=1e-6)


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("solver", ["sums", "himalaya"])
def test_grid_equals_himalaya(solver):
    x, y = banded_data(100)
    folds = inner_folds(100, folds=3, gap=2)
    theirs, predicted = _plain_himalaya(MultipleKernelRidgeCV, x, y, grid(3), "r", folds)
    ours = BandedRidge(BANDS, FEW, folds=3, gap=2, solver=solver).fit(x, y)
    np.testing.assert_allclose(ours.deltas_, theirs.deltas_, atol=1e-6)
    np.testing.assert_allclose(ours.predict(x), predicted, atol=1e-6)
    np.testing.assert_allclose(ours.band_weights_.sum(axis=0), 1)
    alone = ours.penalty_ * 100 / ours.band_weights_
    np.testing.assert_allclose(ours.deltas_, -np.log(alone), atol=1e-9)


@pytest.mark.parametrize("made", [BandedRidge, GroupKernelRidge])
def test_bands_that_say_nothing_are_held_back_and_the_score_is_better(made):
    x, y = banded_data(480)
    x[:, 5:25] *= 10  # variance alone tells nothing
    shown, asked = slice(None, 80), slice(80, None)
    ours = made(BANDS, folds=4).fit(x[shown], y[shown])
    assert ours.band_weights_[1].mean() < 0.15
    assert np.median(ours.band_weights_[0]) > 0.4
    assert np.median(ours.band_weights_[2, 1::2]) > 0.2
    found = correlations(ours.predict(x[asked]), y[asked])
    for standardise in (True, False):
        ridge = FIRRidge(folds=4, standardise=standardise).fit(x[shown], y[shown])
        assert found.mean() > correlations(ridge.predict(x[asked]), y[asked]).mean() + 0.03


def test_shares_of_the_bands_add_up():
    x, y = banded_data(120)
    runs = np.repeat([0, 1], 60)
    ours = BandedRidge(BANDS, delays=(0, 1, 3)).fit(x, y, runs=runs)
    shares = ours.predict_bands(x, runs=runs)
    assert shares.shape == (3, *y.shape)
    np.testing.assert_allclose(shares.sum(axis=0) + ours.intercept_, ours.predict(x, runs=runs))


def test_delays_stay_in_their_band_and_run():
    x = np.arange(12.0).reshape(6, 2) + 1
    delayed, bands = delayed_bands(x, band_slices((1, 1), 2), (0, 1), ["a"] * 3 + ["b"] * 3)
    assert bands == [slice(0, 2), slice(2, 4)]
    np.testing.assert_array_equal(delayed[:, 0], x[:, 0])
    np.testing.assert_array_equal(delayed[:, 1], [0, 1, 3, 0, 7, 9])
    np.testing.assert_array_equal(delayed[:, 3], [0, 2, 4, 0, 8, 10])


def test_rows_that_are_not_used_only_give_the_past():
    x, y = banded_data(120)
    used = np.ones(120, bool)
    used[40:50] = False
    odd = y.copy()
    odd[~used] = np.nan
    ours = [BandedRidge(BANDS, FEW, (0, 1)).fit(x, one, used=used) for one in (y, odd)]
    np.testing.assert_array_equal(ours[0].coef_, ours[1].coef_)
    changed = x.copy()
    changed[49] += 1  # the past of row 50
    assert not np.allclose(
        BandedRidge(BANDS, FEW, (0, 1)).fit(changed, y, used=used).coef_, ours[0].coef_
    )
    changed = x.copy()
    changed[45] += 1
    np.testing.assert_array_equal(
        BandedRidge(BANDS, FEW, (0, 1)).fit(changed, y, used=used).coef_, ours[0].coef_
    )


def test_one_band_is_a_ridge():
    x, y = banded_data(100)
    ours = BandedRidge(penalties=(0.01,)).fit(x, y)
    theirs = FIRRidge(penalties=(0.01,), standardise=False).fit(x, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-10)
    assert np.isnan(ours.cv_scores_).all()


def test_a_band_that_does_not_vary_is_no_harm():
    x, y = banded_data(100)
    x[:, 5:25] = 3.0
    found = BandedRidge(BANDS, FEW).fit(x, y)
    assert np.isfinite(found.predict(x)).all()
    np.testing.assert_array_equal(found.coef_[5:25], 0)


def test_float32_agrees():
    x, y = banded_data(200)
    kind = np.float32
    single = BandedRidge(BANDS).fit(x.astype(kind), y.astype(kind))
    assert single.predict(x.astype(kind)).dtype == kind
    double = BandedRidge(BANDS).fit(x, y)
    np.testing.assert_allclose(single.predict(x.astype(kind)), double.predict(x), atol=1e-3)


@pytest.mark.parametrize("solver", ["sums", "himalaya"])
def test_a_band_that_does_not_vary_gets_no_weights(solver):
    x, y = banded_data(60)
    x[:, 25:] = 0.1  # of which rounding leaves a variance of 1e-34
    found = BandedRidge(BANDS, FEW, solver=solver).fit(x, y)
    moved = x.copy()
    moved[:, 25:] = 0.2
    np.testing.assert_allclose(found.predict(moved), found.predict(x), atol=1e-9)


@pytest.mark.parametrize("solver", ["sums", "himalaya"])
def test_float32_far_from_0_keeps_its_digits(solver):
    x, y = banded_data(600)
    far = (x + 1e4).astype(np.float32)
    double = far.astype(np.float64)
    truth = BandedRidge(None, (0.01,), solver=solver).fit(double, y).predict(double)
    found = BandedRidge(None, (0.01,), solver=solver).fit(far, y.astype(np.float32))
    np.testing.assert_allclose(double @ found.coef_ + found.intercept_, truth, atol=0.005)


def test_the_backend_is_put_back():
    before = get_backend()
    try:
        set_backend("torch")
        x, y = banded_data(40)
        found = BandedRidge(BANDS, FEW, solver="himalaya", backend="torch").fit(x, y)
        assert get_backend().name == "torch"
        set_backend("numpy")
        other = BandedRidge(BANDS, FEW, solver="himalaya").fit(x, y)
        np.testing.assert_allclose(found.coef_, other.coef_, atol=1e-8)
        with pytest.raises(ZeroDivisionError), himalaya_backend("torch"):
            1 / 0  # noqa: B018
        assert get_backend().name == "numpy"
    finally:
        set_backend(before)


def test_grids():
    np.testing.assert_array_equal(grid(1), [[1.0]])
    two = grid(2)
    assert len(two) == 11
    np.testing.assert_allclose(two[:3], [[0.5, 0.5], [1, 0], [0, 1]])
    assert len(grid(3)) == 19
    for bands in (4, 8, 12):
        found = grid(bands, most=32)
        assert found.shape == (32, bands)
        assert len(np.unique(found, axis=0)) == 32
        np.testing.assert_allclose(found[1 : bands + 1], np.eye(bands))
        np.testing.assert_array_equal(found, grid(bands, most=32))
        assert not np.array_equal(found, grid(bands, most=32, seed=1))
    assert len(grid(12, most=3)) == 13  # all alike and each alone are always there
    for found in (two, grid(3), grid(12), dirichlet(3, 9)):
        np.testing.assert_allclose(found.sum(axis=1), 1)
        assert (found >= 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bands": (5, 5)}, r"bands \[5, 5\]: one or more columns each, 33 in all, fit"),
        ({"bands": (33, 0)}, r"bands \[33, 0\]"),
        ({"bands": ()}, r"bands \[\]"),
        ({"scoring": "l2"}, "known: r, r2"),
        ({"solver": "gpu"}, "known: sums, himalaya"),
        ({"backend": "jax"}, "known: numpy, torch, torch_cuda"),
        ({"penalties": (-1.0,)}, "penalties"),
        ({"n_iter": 0}, "0 draws"),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    x, y = banded_data(40)
    with pytest.raises(InputError, match=message):
        GroupKernelRidge(**settings).fit(x, y)


@pytest.mark.parametrize(("solver", "error"), [("sums", 1e-5), ("himalaya", 5e-4)])
@pytest.mark.parametrize("kind", [BandedRidge, GroupKernelRidge])
def test_single_precision_keeps_its_digits_far_from_0(kind, solver, error):
    random = np.random.default_rng(0)
    x = (random.normal(size=(90, 6)) + 1e4).astype(np.float32)
    y = x[:, :3] - 1e4 + random.normal(size=(90, 3))
    exact = kind((3, 3), penalties=FEW).fit(x.astype(float), y).predict(x.astype(float))
    fitted = kind((3, 3), penalties=FEW, solver=solver).fit(x, y.astype(np.float32))
    assert fitted.coef_.dtype == np.float32
    np.testing.assert_allclose(fitted.predict(x), exact, rtol=0, atol=error)
