"""A person's own arrays: the clock of features, folds, and scores worked out another way."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from evaluate_makers import pearson
from tribrain.brain.spaces import parcel_space
from tribrain.errors import InputError, InputWarning
from tribrain.evaluation.arrays import evaluate_arrays
from tribrain.evaluation.baselines import DELAYS, delays_in_rows
from tribrain.evaluation.statistics.nulls import CROSSED, null_correlations
from tribrain.evaluation.volumes import per_volume

QUICK = {"permutations": 99, "draws": 100, "controls": False}
TR = 1.5


def made(n=400, columns=4, outputs=6, noise=1.0, delay=3, seed=0):
    """Features, and BOLD that follows them by some volumes."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, columns))
    late = np.concatenate([np.zeros((delay, columns)), x[:-delay]])
    return x, late @ rng.normal(size=(columns, outputs)) + noise * rng.normal(size=(n, outputs))


@pytest.mark.parametrize(("rate", "tr"), [(2.0, 1.5), (10.0, 0.72), (0.5, 1.5), (1.0, 2.0)])
def test_features_are_averaged_over_the_time_of_each_volume(rate, tr):
    rng = np.random.default_rng(1)
    volumes = 40
    samples = rng.normal(size=(round(volumes * tr * rate), 3))
    found = per_volume(samples, volumes, tr, rate)
    fine = 2000  # moments a volume
    moments = (np.arange(volumes * fine) + 0.5) * tr / fine
    at = np.minimum((moments * rate).astype(int), len(samples) - 1)
    expected = samples[at].reshape(volumes, fine, 3).mean(1)
    np.testing.assert_allclose(found, expected, atol=5e-3)


def test_runs_begin_with_samples_of_their_own():
    samples = np.arange(30.0)[:, None]
    found = per_volume(samples, 10, 1.5, 2.0, runs=["a"] * 4 + ["b"] * 6)
    one, two = per_volume(samples[:12], 4, 1.5, 2.0), per_volume(samples[12:], 6, 1.5, 2.0)
    np.testing.assert_allclose(found, np.concatenate([one, two]))


def test_lengths_may_differ_by_a_volume_and_no_more():
    samples = np.ones((60, 2))
    assert np.allclose(per_volume(samples, 20, 1.5, 2.0), 1)
    assert np.allclose(per_volume(samples[:57], 20, 1.5, 2.0), 1)
    assert per_volume(np.ones((63, 2)), 20, 1.5, 2.0).shape == (20, 2)
    for wrong in (56, 64):
        with pytest.raises(InputError, match="to within a volume"):
            per_volume(np.ones((wrong, 2)), 20, 1.5, 2.0)
    with pytest.raises(InputError, match="60 rows fit 2 runs"):
        per_volume(np.ones((57, 2)), 20, 1.5, 2.0, runs=[1] * 10 + [2] * 10)
    with pytest.raises(InputError, match="--feature-rate"):
        per_volume(samples, 20, 1.5)


def test_scores_are_those_of_a_cross_validation_by_hand():
    """With one penalty that is far too small to matter, ridge is least squares."""
    x, y = made(noise=0.3)
    runs = np.repeat(["b", "a", "c", "d"], 100)
    found = evaluate_arrays(x, y, repetition_time=2.0, runs=runs, baselines="fir", **QUICK)
    delays = delays_in_rows(DELAYS, 2.0)
    design = np.zeros((400, len(delays), 4))
    for number, delay in enumerate(delays):
        for run in range(4):
            rows = np.arange(100 * run + delay, 100 * (run + 1))
            design[rows, number] = x[rows - delay]
    scaled = np.concatenate([(p - p.mean(0)) / p.std(0) for p in y.reshape(4, 100, -1)])
    for run, name in enumerate("bacd"):
        here = np.arange(400) // 100 == run
        ridge = Ridge(1.0).fit(design.reshape(400, -1)[~here], scaled[~here])
        r = pearson(ridge.predict(design.reshape(400, -1)[here]), scaled[here])
        (row,) = found.scores[found.scores["run"] == name].itertuples()
        assert row.r == pytest.approx(r.mean(), abs=0.01)
        assert row.rows == 100
    assert found.row("fir")["r"] == pytest.approx(found.scores["r"].mean(), abs=1e-6)
    assert found.row("fir")["significant"] == 6
    assert found.row("fir")["p"] == pytest.approx(0.01)


def test_noise_lies_within_its_null_and_shifted_features_too():
    """95 % of the time, that is: of 18 scores that are worth nothing about one is outside."""
    outside = 0
    for seed in range(6):
        x, y = made(seed=seed)
        other = np.random.default_rng(100 + seed).normal(size=y.shape)
        how = {"repetition_time": TR, "runs": np.repeat([1, 2], 200), **QUICK, "controls": True}
        how |= {"baselines": "fir", "seed": seed}
        real, noise = (evaluate_arrays(x, one, **how) for one in (y, other))
        for found, way in ((noise, "fir"), (noise, "shifted"), (real, "shifted")):
            null = found.told["null"][way]
            outside += not null["low"] < found.row(way)["r"] < null["high"]
        assert real.row("fir")["r"] > 5 * real.told["null"]["fir"]["high"]
        assert real.row("fir")["significant"] == 6
    assert outside <= 3


def test_one_run_is_left_out_in_blocks_with_gaps():
    x, y = made()
    found = evaluate_arrays(x, y, repetition_time=TR, baselines="plain", **QUICK)
    splits = found.told["splits"]
    tested = [s for s in splits if s["side"] == "test"]
    assert sum(s["rows"] for s in tested) == 400
    for one in tested:
        for other in (s for s in splits if s["side"] == "train" and s["fold"] == one["fold"]):
            assert max(one["begin"] - other["end"], other["begin"] - one["end"]) >= 15.0
    assert len(found.scores) == 5


def test_the_floor_stands_beside_every_score():
    x, y = made(columns=5)
    found = evaluate_arrays(
        x, y, repetition_time=TR, runs=np.repeat([1, 2], 200), nuisance=x[:, :2],
        baselines="fir,plain", **QUICK,
    )  # fmt: skip
    floor = found.scores[found.scores["way"] == "nuisance"].set_index("run")["r"]
    for way in ("fir", "plain"):
        table = found.scores[found.scores["way"] == way].set_index("run")
        np.testing.assert_allclose(table["floor"], floor)
    assert found.told["floors"] == {"fir": "nuisance", "plain": "nuisance"}
    assert 0 < found.row("fir")["floor"] < found.row("fir")["r"]


def test_repeats_of_a_stimulus_are_left_out_together_and_are_a_ceiling():
    x, y = made(n=300, noise=0.0)
    noise = np.random.default_rng(5).normal(size=(600, 6)) * y.std(0)  # half of the variance
    found = evaluate_arrays(
        np.concatenate([x, x]),
        np.concatenate([y, y]) + noise,
        repetition_time=TR,
        runs=np.repeat(["1", "2", "3", "4"], 150),
        groups=np.repeat(["one", "two", "one", "two"], 150),
        baselines="fir",
        **QUICK,
    )
    for fold in (0, 1):
        groups = {
            side: {
                s["group"] for s in found.told["splits"] if (s["fold"], s["side"]) == (fold, side)
            }
            for side in ("train", "test")
        }
        assert not groups["train"] & groups["test"]
    assert found.row("fir")["ceiling"] == pytest.approx(np.sqrt(0.5), abs=0.05)
    assert found.row("fir")["normalised"] == pytest.approx(1, abs=0.1)


def test_a_film_that_was_shown_twice_is_not_tested_where_it_was_fitted_to():
    """Features that have nothing to do with the BOLD tell which film it is: r would be 0.7."""
    rng = np.random.default_rng(8)

    def slow(columns):
        found = [np.convolve(rng.normal(size=161), np.hanning(12), "valid") for _ in range(columns)]
        return np.stack(found, axis=1)

    x, y = [slow(30) for _ in range(2)], [slow(6) for _ in range(2)]
    features, bold = (np.concatenate([*one, *one]) for one in (x, y))
    bold = bold + 0.5 * bold.std() * rng.normal(size=bold.shape)
    how = {"repetition_time": TR, "runs": np.repeat(list("1234"), 150), **QUICK}
    with pytest.warns(InputWarning, match="runs . and . have the same features: they count as one"):
        found = evaluate_arrays(features, bold, **how)
    groups = [{s["group"] for s in found.told["splits"] if (s["fold"], s["side"]) == (0, side)}
              for side in ("train", "test")]  # fmt: skip
    assert not groups[0] & groups[1]
    assert abs(found.row("fir")["r"]) < 0.2
    with pytest.warns(InputWarning, match="where one is tested, the other was fitted to"):
        known = evaluate_arrays(features, bold, groups=how["runs"], **how)
    assert known.row("fir")["r"] > 0.5


def test_outputs_and_rows_that_were_not_measured():
    x, y = made()
    y[:, 2] = np.nan
    y[:, 3] = 7.0
    y[50:60] = np.nan
    space = parcel_space("six", [f"7Networks_LH_Vis_{k}" for k in range(6)])
    found = evaluate_arrays(
        x, y, repetition_time=TR, runs=np.repeat([1, 2], 200), space=space, baselines="fir", **QUICK
    )
    r = found.maps["fir/r"]
    assert np.isnan(r[[2, 3]]).all()
    assert np.isfinite(r[[0, 1, 4, 5]]).all()
    assert found.scores["outputs"].tolist() == [4, 4]
    assert found.scores["rows"].tolist() == [190, 200]
    networks = found.regions[found.regions["kind"] == "network"]
    assert networks["outputs"].tolist() == [4]
    assert networks["r"].item() == pytest.approx(np.nanmean(r), abs=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bold": np.zeros((0, 3))}, "BOLD: an array"),
        ({"features": np.full((400, 2), np.nan)}, "not finite"),
        ({"repetition_time": 0.0}, "repetition time 0 s"),
        ({"baselines": "none"}, "no baseline"),
        ({"baselines": "deep"}, "'deep' is unknown"),
        ({"groups": ["a"] * 3}, "3 group labels"),
        ({"space": parcel_space("two", ["a", "b"])}, "6 outputs and two 2"),
        ({"ceiling": "people"}, "auto, repeats, none fit"),
        ({"ceiling": "repeats"}, "no two runs of one group"),
        ({"bold": np.full((400, 6), np.inf)}, "infinite values"),
        ({"bold": np.ones((400, 6))}, "no output of the BOLD varies"),
        ({"folds": 400}, "has 20 volumes: too few to score"),
        ({"folds": 1}, "1 folds"),
        ({"features": np.zeros((399, 2))}, "399 rows of features and 400 of BOLD"),
    ],
)
def test_what_does_not_fit_is_said_in_a_line(change, said):
    x, y = made()
    how = {"features": x, "bold": y, "repetition_time": TR, **QUICK, **change}
    with pytest.raises(InputError, match=said) as error:
        evaluate_arrays(**how)
    assert "\n" not in str(error.value)


def test_what_is_asked_wrongly_is_said_before_anything_is_fitted():
    x, y = made()
    done = []
    for wrong in ({"ceiling": "people"}, {"ceiling": "repeats"}, {"folds": 100}):
        with pytest.raises(InputError):
            evaluate_arrays(
                x, y, repetition_time=TR, **QUICK, **wrong, progress=lambda *a: done.append(a)
            )
    assert not done


def test_runs_too_short_to_be_scored_are_left_out_and_said():
    x, y = made()
    runs = np.repeat(["a", "b", "c"], [190, 195, 15])
    found = evaluate_arrays(x, y, repetition_time=TR, runs=runs, baselines="plain", **QUICK)
    assert set(found.scores["run"]) == {"a", "b"}
    (note,) = [one for one in found.told["notes"] if "fewer than 20" in one]
    assert note.startswith("15 volumes")


def test_outputs_and_volumes_that_lack_are_counted():
    x, y = made()
    y[:7] = np.nan
    y[:, 2] = 4.0
    y[:, 3] = np.nan
    y[250, 0] = np.nan
    found = evaluate_arrays(
        x, y, repetition_time=TR, runs=np.repeat([1, 2], 200), baselines="plain", **QUICK
    )
    notes = found.told["notes"]
    assert "7 volumes hold no BOLD and are left out" in notes
    assert "2 of 6 outputs hold no BOLD that varies: no score" in notes
    assert sum("1 of 6 outputs lack single volumes" in note for note in notes) == 1
    assert found.scores["outputs"].tolist() == [3, 4]
    whole = evaluate_arrays(*made(), repetition_time=TR, baselines="plain", **QUICK)
    assert not [note for note in whole.told["notes"] if "outputs" in note or "volumes" in note]


def test_p_of_cross_validated_noise_is_uniform_and_was_not_without_care():
    """Folds of noise that are alike predict each other alike: the null has to know it."""
    from scipy.stats import kstest

    rng = np.random.default_rng(2)
    runs, found = np.repeat([0, 1], 100), {1.0: [], CROSSED: []}
    for number in range(250):
        x, y = rng.normal(size=(200, 30)), rng.normal(size=(200, 8))
        first, second = slice(0, 100), slice(100, 200)
        predicted = np.concatenate(
            [x[a] @ (x[b].T @ y[b]) for a, b in ((first, second), (second, first))]
        )
        for spread, p in found.items():
            null = null_correlations(
                predicted, y, n=199, runs=runs, least=10, seed=number, reduce="mean", spread=spread
            )
            p.append(null.p_mean)
    assert kstest(found[CROSSED], "uniform").pvalue > 0.05
    assert kstest(found[1.0], "uniform").pvalue < 0.01
