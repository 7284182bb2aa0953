"""Parts of the simulation against independent references: response, noise, expected scores."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import detrend
from scipy.sparse import diags_array

from tribrain.brain.haemodynamics import canonical_response
from tribrain.brain.regions import textbook_table
from tribrain.encoder.textbook import FEATURES
from tribrain.errors import InputError
from tribrain.studies.simulated_places import (
    gather,
    measured,
    smooth_fields,
    space_of,
    sphere,
    spread_of_noise,
)
from tribrain.studies.simulated_signal import (
    Noise,
    Signal,
    bold_of,
    expected_correlation,
    mean_of,
)
from tribrain.studies.simulated_stimuli import (
    DRIVES,
    LINEAR,
    NONLINEAR,
    generator,
    leaky,
    model_features,
    nonlinear_drives,
    synthetic_drives,
    synthetic_reference,
)


def test_drives_are_the_features_of_the_textbook_in_their_order():
    assert FEATURES == DRIVES
    assert set(textbook_table()["feature"]) == set(LINEAR)


@pytest.mark.parametrize(("start", "delays"), [(0.0, (0.0,)), (-3.0, (0.8,)), (2.5, (-1.1, 0.3))])
def test_bold_is_the_convolution_with_the_canonical_response(start, delays):
    drives = generator(0, 1).gamma(1.0, size=(2, 30))
    times = np.sort(generator(0, 2).uniform(-8, 60, 25))
    fine = 200  # samples a second: a plain sum instead of an integral
    response = canonical_response(fine)
    clock = np.arange(-10 * fine, 70 * fine) / fine
    sample = np.floor((clock - start) * 2 + 1e-9).astype(int)
    inside = (sample >= 0) & (sample < 30)
    activity = np.where(inside, drives[:, np.clip(sample, 0, 29)], 0.0)
    long = np.stack([np.convolve(row, response)[: len(clock)] for row in activity])
    expected = np.mean(
        [[np.interp(times - delay, clock, row) for row in long] for delay in delays], axis=0
    ).T
    np.testing.assert_allclose(bold_of(drives, 2.0, times, delays, start), expected, atol=0.01)
    assert np.abs(expected).max() > 0.5


def test_steady_activity_ends_in_its_own_level():
    assert bold_of(np.full((1, 200), 3.0), 2.0, np.array([80.0]))[0, 0] == pytest.approx(
        3, rel=1e-3
    )


def test_noise_has_the_covariance_that_is_stated():
    noise = Noise(autocorrelation=0.6, drift=0.7, spikes=6.0, spike=2.0)
    n = 20_000
    found = noise.draw(generator(3, 1), 150, 2.0, diags_array(np.ones(n, np.float32), format="csr"))
    assert found.dtype == np.float32
    expected = noise.covariance(150, 2.0)
    moved = np.diag(found @ found.T) / n - np.diag(expected)
    # Which volumes are spikes is drawn once a run; leave them out, and compare them apart.
    spikes = moved > 2.0
    assert 0 < spikes.sum() < 75
    still = np.ix_(~spikes, ~spikes)
    spike_free = expected - np.eye(150) * 0.2 * 4.0
    np.testing.assert_allclose((found @ found.T / n)[still], spike_free[still], atol=0.06)
    np.testing.assert_allclose(moved[spikes], 4.0 - 0.8, atol=0.2)
    assert expected[0, 1] - Noise(0.6, 0.7, 0, 0).covariance(150, 2.0)[0, 1] == 0


def test_autocorrelation_depends_on_seconds_and_not_on_the_repetition_time():
    slow, fast = (Noise(0.6, 0, 0, 0).covariance(9, tr) for tr in (2.0, 0.5))
    assert slow[0, 1] == pytest.approx(0.36)
    assert fast[0, 4] == pytest.approx(0.36)
    assert Noise(0.0, 0, 0, 0).covariance(3, 1.0) == pytest.approx(np.eye(3))


def test_neighbours_share_noise_and_hemispheres_do_not():
    spread = spread_of_noise("fsaverage3").toarray()
    shared = spread @ spread.T
    assert np.diag(shared) == pytest.approx(np.ones(1284), abs=1e-5)
    assert (shared[:642, 642:] == 0).all()
    points = sphere("fsaverage3", "right")
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    right = shared[642:, 642:]
    assert right[(apart > 0) & (apart < 18)].min() > 0.3
    assert (right[apart > 60] == 0).all()


def test_expected_correlation_is_the_mean_over_many_noises():
    rng = generator(4, 1)
    volumes, draws = 80, 6000
    noise = Noise(0.7, 0.5, 0, 0)
    signals = [
        Signal(rng.standard_normal((volumes, 2)).cumsum(axis=0) / 5, rng.standard_normal((2, 3)))
        for _ in range(2)
    ]
    prediction, truth = signals[0], mean_of(signals)
    one = np.eye(volumes)
    root = np.linalg.cholesky(noise.covariance(volumes, 1.5) + 1e-9 * one)
    values = truth.bold @ truth.maps
    noisy = values[:, None] + (root @ rng.standard_normal((volumes, 3 * draws))).reshape(
        volumes, draws, 3
    )
    for change in (lambda series: series, lambda series: detrend(series, axis=0)[10:]):
        drawn, known = (change(part) for part in (noisy, prediction.bold @ prediction.maps))
        drawn, known = (part - part.mean(axis=0) for part in (drawn, known))
        norms = np.sqrt((drawn**2).sum(axis=0)) * np.sqrt((known**2).sum(axis=0))
        scores = np.einsum("tdn,tn->dn", drawn, known) / norms
        covariance = change(change(noise.covariance(volumes, 1.5)).T)
        changed = [Signal(change(part.bold), part.maps) for part in (prediction, truth)]
        found = expected_correlation(*changed, covariance)
        np.testing.assert_allclose(found, scores.mean(axis=0), atol=0.01)


def test_expected_correlation_without_signal_or_measure():
    flat = Signal(np.ones((20, 1)), np.array([[0.0, 2.0, np.nan]]))
    assert expected_correlation(flat, flat, np.eye(20)) == pytest.approx(
        [0, 0, np.nan], nan_ok=True
    )
    sure = Signal(np.arange(20.0)[:, None], np.ones((1, 1)))
    assert expected_correlation(sure, sure, np.zeros((20, 20))) == pytest.approx(1)


def test_synthetic_films_are_like_films():
    drives = dict(zip(LINEAR, synthetic_drives(generator(5, 1), 7200), strict=True))
    assert all(series.min() >= 0 for series in drives.values())
    assert all(0.3 < series.mean() < 3 for series in drives.values())
    words, voice = drives["word_rate"], drives["voice"]
    assert 0.2 < (words == 0).mean() < 0.7  # pauses
    assert (words[voice == 0] == 0).all()
    assert (drives["word_rarity"][words == 0] < 1e-6).all()

    def kept(name, lag):
        series = drives[name]
        return np.corrcoef(series[:-lag], series[lag:])[0, 1]

    assert kept("colour", 1) > kept("motion_left", 1) > kept("word_rarity", 1) > 0.2
    assert abs(kept("colour", 60)) < 0.2
    assert 0.2 < np.corrcoef(drives["contrast_left"], drives["contrast_right"])[0, 1] < 0.8


def test_synthetic_films_are_the_same_on_any_machine():
    drives = synthetic_drives(generator(0, 10, 0), 1200)
    expected = [769.6, 963.0793, 1504.1746, 1575.888, 1371.3824, 823.9669]
    expected += [1435.3663, 1472.5868, 1828.5691, 2030.451, 1413.609]
    assert drives.sum(axis=1) == pytest.approx(expected, rel=1e-6)


def test_nonlinear_drives_look_only_back_and_are_silent_in_silence():
    drives = synthetic_drives(generator(6, 1), 400)
    whole = nonlinear_drives(drives)
    np.testing.assert_allclose(nonlinear_drives(drives[:, :250]), whole[:, :250])
    assert (nonlinear_drives(np.zeros((11, 50))) == 0).all()
    assert whole.shape == (len(NONLINEAR), 400)
    silent = drives.copy()
    silent[: len(DRIVES["text"]) + len(DRIVES["audio"])] = 0
    synchrony, novelty, context = nonlinear_drives(silent)
    assert not synchrony.any()
    assert not context.any()
    np.testing.assert_array_equal(novelty, whole[1])


def test_novelty_decays_with_repetition():
    drives = np.zeros((11, 60))
    drives[LINEAR.index("colour"), 10::2] = 1.0  # on and off, each time the same change
    novelty = nonlinear_drives(drives)[1]
    assert novelty[10] > 2 * novelty[40] > 0
    assert not novelty[:10].any()


def test_synchrony_and_context_turn_with_the_other_factor():
    drives = np.zeros((11, 60))
    rows = {name: drives[number] for number, name in enumerate(LINEAR)}
    rows["loudness"][:30], rows["loudness"][30:] = 0.5, 3.0
    rows["motion_left"][::2] = rows["motion_right"][::2] = 0.5
    rows["motion_left"][1::2] = rows["motion_right"][1::2] = 3.0
    rows["word_rate"][:30], rows["word_rarity"][10:30] = 2.0, 6.0
    synchrony, _, context = nonlinear_drives(drives)
    assert (synchrony[:30:2] > 0).all()
    assert (synchrony[1:30:2] < 0).all()
    assert (synchrony[31::2] > 0).all()
    assert (synchrony[30::2] < 0).all()
    assert not context[:11].any()
    assert context[11] < 0 < context[29]  # words after few, and after many
    assert context[40] < 0  # none after many


def test_leaky_average_against_a_plain_loop():
    series, kept = generator(7, 1).random(40), np.exp(-1 / (8 * 2.0))
    state, expected = 0.0, []
    for value in series:
        state = kept * state + (1 - kept) * value
        expected.append(state)
    np.testing.assert_allclose(leaky(series, 8.0), expected)
    np.testing.assert_array_equal(leaky(series, 0.0), series)


def test_drives_are_linear_in_the_features_of_a_model_and_hidden_among_others():
    drives = synthetic_drives(generator(8, 1), 2000)
    features = model_features(drives, 12, generator(8, 2), generator(8, 3))
    first = 0
    for modality, names in DRIVES.items():
        assert features[modality].shape == (2, 12, 2000)
        assert features[modality].dtype == np.float32
        own = drives[first : first + len(names)]
        first += len(names)
        for layer, target in zip(features[modality], (own, leaky(own, 1.5)), strict=True):
            weights = np.linalg.lstsq(layer[:, :1000].T, target[:, :1000].T, rcond=None)[0]
            np.testing.assert_allclose(weights.T @ layer[:, 1000:], target[:, 1000:], atol=1e-3)
            single = np.abs(np.corrcoef(np.concatenate([layer, target]))[:12, 12:])
            assert single.max() < 0.9


def test_linear_filters_of_the_reference_hold_in_a_new_film():
    reference = synthetic_reference()
    drives = synthetic_drives(generator(9, 1), 7200)
    times = np.arange(0, 3600.0, 1.5)
    nonlinear = nonlinear_drives(drives) / reference.scale[11:, None]
    guess, start = reference.linear_estimate(drives / reference.scale[:11, None])
    truth, found = bold_of(nonlinear, 2.0, times), bold_of(guess, 2.0, times, start=start)
    scores = [np.corrcoef(a, b)[0, 1] for a, b in zip(truth.T, found.T, strict=True)]
    assert 0.1 < scores[0] < 0.5
    assert 0.2 < scores[1] < 0.6
    assert 0.2 < scores[2] < 0.5
    assert truth.std(axis=0) == pytest.approx(np.ones(3), abs=0.25)


def test_smooth_fields_have_variance_1_and_the_stated_smoothness():
    points = sphere("fsaverage3", "left")
    fields = smooth_fields(generator(1, 1), points, 400, 30.0)
    assert fields.var() == pytest.approx(1, abs=0.1)
    apart = np.linalg.norm(points[:1] - points, axis=1)
    alike = fields @ fields[0] / np.linalg.norm(fields, axis=1) / np.linalg.norm(fields[0])
    near = apart < 60
    np.testing.assert_allclose(alike[near], np.exp(-0.5 * (apart[near] / 30) ** 2), atol=0.25)


@pytest.mark.parametrize("count", [2, 7, 100, 1000])
def test_parcels_cover_the_cortex_and_are_means(count):
    space = space_of(count)
    assert space.size == count == len(set(space.parcels))
    sides = [name[0] for name in space.parcels]
    assert sides == sorted(sides)  # left first
    whole = np.concatenate([np.full(2562, -1.0), np.full(2562, 2.0)])
    values = gather(count, whole[None])[0]
    assert values[: sides.count("L")] == pytest.approx(-1)
    assert values[sides.count("L") :] == pytest.approx(2)
    assert measured(count).all()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"autocorrelation": 1.0}, "autocorrelation 1; 0 to under 1"),
        ({"drift": -1}, "drift -1; 0 or more"),
        ({"spikes": float("nan")}, "spikes nan; 0 or more"),
    ],
)
def test_wrong_noise_is_refused(wrong, says):
    with pytest.raises(InputError, match=says):
        Noise(**wrong)
