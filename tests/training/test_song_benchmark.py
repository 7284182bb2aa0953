"""The SONG benchmark's own arithmetic: scores, draws, what is left out, rows in closed form."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import song_baselines as baselines
import song_members as members
import song_rows as rows
from tribrain.evaluation.folds import inner_folds
from tribrain.studies.song import HELD_OUT, TRAINED, Split

FILMS = {"sitcomep1": (10, 105), "documentary": (10, 81)}
PARCELS = 4


def bench_of(told: rows.Told) -> rows.Bench:
    bench = object.__new__(rows.Bench)
    bench.split, bench.train, bench.test = Split(FILMS, FILMS), told, told
    return bench


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.fixture
def signal():
    return {film: noise(b - a, PARCELS, seed=a + b) for film, (a, b) in FILMS.items()}


@pytest.fixture
def bench(signal):
    return bench_of(
        {
            (film, person): rows.zscored(signal[film] + 2 * noise(*signal[film].shape, seed=number))
            for film in FILMS
            for number, person in enumerate(rows.PEOPLE)
        }
    )


def guessed(bench: rows.Bench, signal: rows.Films, error: float) -> rows.Predicted:
    group = {f: signal[f] + error * noise(*signal[f].shape, seed=99) for f in FILMS}
    own = {(f, p): group[f] + 0.1 * bench.test[f, p] for f in FILMS for p in TRAINED}
    return rows.Predicted(own, group, 1.0)


def test_scores_are_mean_correlations(bench, signal):
    predicted = guessed(bench, signal, 1.0)
    scores = rows.Judged(bench, predicted).scores()

    def plain(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.mean([np.corrcoef(x[:, k], y[:, k])[0, 1] for k in range(PARCELS)]))

    for number, person in enumerate(TRAINED):
        found = np.mean([plain(predicted.own[f, person], bench.test[f, person]) for f in FILMS])
        assert scores["r"][0, number] == pytest.approx(found)
    for number, person in enumerate(HELD_OUT):
        found = np.mean([plain(predicted.group[f], bench.test[f, person]) for f in FILMS])
        assert scores["zero"][0, number] == pytest.approx(found)
    means = {f: np.mean([bench.test[f, p] for p in rows.PEOPLE], axis=0) for f in FILMS}
    found = np.mean([plain(predicted.group[f], means[f]) for f in FILMS])
    assert scores["R_group"][0, 0] == pytest.approx(found)


def test_a_block_drawn_twice_counts_as_rows_given_twice(bench, signal):
    predicted = guessed(bench, signal, 1.0)
    judged = rows.Judged(bench, predicted)
    blocks = [len(part) for part in judged.group]
    counts = [np.ones((1, n)) for n in blocks]
    for count in counts:
        count[0, 0], count[0, -1] = 2, 0
    means = {f: np.mean([bench.test[f, p] for p in rows.PEOPLE], axis=0) for f in FILMS}
    found = []
    for film, n in zip(judged.films, blocks, strict=True):
        taken = np.concatenate([np.arange(rows.BLOCK), np.arange(rows.BLOCK * (n - 1))])
        found.append(rows.correlation(predicted.group[film][taken], means[film][taken]).mean())
    assert judged.scores(counts)["R_group"][0, 0] == pytest.approx(np.mean(found))


def test_draws_are_paired(bench, signal):
    good, bad = guessed(bench, signal, 0.1), guessed(bench, signal, 5.0)
    ways = [[rows.Judged(bench, one)] for one in (good, good, bad)]
    first, again, worse = rows.draws(ways)
    for key in ("r", "zero", "R_group"):
        np.testing.assert_array_equal(first[key], again[key])
        assert first[key].std() > 0
        assert np.percentile(first[key] - worse[key], 2.5) > 0


@pytest.fixture
def shown(bench):
    """Components that the people answer to, each of them a little otherwise."""
    bench.components = {film: noise(last + 20, 12, seed=last) for film, (_, last) in FILMS.items()}
    common = noise(12, PARCELS, seed=1)
    for (film, person), values in bench.train.items():
        first, last = FILMS[film]
        weights = common + 0.7 * noise(12, PARCELS, seed=100 + rows.PEOPLE.index(person))
        answer = rows.zscored(bench.components[film][first:last] @ weights)
        bench.train[film, person] = rows.zscored(answer + values)
    bench.cut = lambda some, people: {
        key: rows.zscored(values[: some[key[0]][1] - some[key[0]][0]])
        for key, values in bench.train.items()
        if key[0] in some and key[1] in people
    }
    return bench


def test_half_a_film_is_left_out_at_a_time(shown):
    design = baselines.Design.of(shown, FILMS)
    taken = (design.groups, design.runs, design.used)
    folds = inner_folds(len(design.x), *taken, **baselines.HALVES)
    assert len(folds) == 4
    for train, test in folds:
        film = design.runs[test[0]]
        assert set(design.runs[test]) == {film}
        inside = np.flatnonzero(design.used & (design.runs == film))
        half = len(inside) // 2
        assert list(test) in (list(inside[:half]), list(inside[half:]))
        np.testing.assert_array_equal(
            np.sort(np.concatenate([train, test])), np.flatnonzero(design.used)
        )


def test_few_rows_are_scaled_as_the_part_of_the_film_in_which_they_lie(shown):
    design = baselines.Design.of(shown, {"documentary": (15, 40)})
    whole = rows.zscored(shown.components["documentary"][10:81])
    np.testing.assert_allclose(design.x[design.used], whole[5:30], atol=1e-6)
    np.testing.assert_allclose(design.x[~design.used][-8:], whole[30:38], atol=1e-6)
    assert len(design.x) == 8 + 25 + 8


def test_ridges_find_what_people_share_and_what_each_has_alone(shown, tmp_path):
    found = baselines.kept_baselines(shown, tmp_path / "W3-0")
    scores = {name: rows.Judged(shown, one).scores() for name, one in found.items()}
    means = {name: one["r"].mean() for name, one in scores.items()}
    assert means["ridge, own, tuned"] > means["ridge, group, tuned"] + 0.05
    assert means[baselines.OWN_RBF] > means[baselines.GROUP_RBF] + 0.02
    assert scores["ridge, group, tuned"]["R_group"].mean() > 0.8
    assert min(means.values()) > 0.2
    truth = {f: rows.zscored(v) for f, v in shown.mean(shown.train, TRAINED).items()}
    for name in (baselines.FIVE, baselines.GROUP_RBF):
        for film in FILMS:
            assert rows.correlation(found[name].group[film], truth[film]).min() > 0.6
    shown.components = None  # the second time they are read
    again = baselines.kept_baselines(shown, tmp_path / "W3-0")
    assert list(again) == list(found)
    for name, one in found.items():
        assert again[name].seconds == one.seconds
        for key, values in one.own.items():
            np.testing.assert_array_equal(again[name].own[key], values)


def test_what_people_have_beside_the_mean_is_added_to_what_is_given(shown):
    ridge = baselines.rest_ridge(shown)
    people = TRAINED[:2]
    nothing = {film: np.zeros((b - a, PARCELS)) for film, (a, b) in FILMS.items()}
    parts = baselines.with_rest(shown, nothing, ridge, FILMS, shown.train, people)
    one = {film: values + 5 for film, values in nothing.items()}
    more = baselines.with_rest(shown, one, ridge, FILMS, shown.train, people)
    means = shown.mean(shown.train, TRAINED)
    for film in FILMS:
        for person in people:
            np.testing.assert_allclose(more[film, person], parts[film, person] + 5)
            rest = shown.train[film, person] - means[film]
            assert rows.correlation(parts[film, person], rest).mean() > 0.3


def member_of(signal: rows.Films) -> members.Member:
    states = {("train", film): noise(len(v), 6, seed=len(v)) for film, v in signal.items()}
    states |= {("test", film): values for (_, film), values in states.items()}
    return members.Member(states, noise(6, PARCELS, seed=7), noise(PARCELS, seed=8), 1.0)


def test_a_persons_row_is_found_and_an_infinite_penalty_keeps_that_of_the_group(signal):
    member = member_of(signal)
    weight, bias = noise(6, PARCELS, seed=20), noise(PARCELS, seed=21)
    answers = {film: member.states["train", film] @ weight + bias for film in FILMS}
    found, offset = member.adapted(answers, 1e-9)
    np.testing.assert_allclose(found, weight, atol=1e-6)
    np.testing.assert_allclose(offset, bias, atol=1e-6)
    kept_weight, kept_bias = member.adapted(answers, np.inf)
    np.testing.assert_allclose(kept_weight, member.weight)
    np.testing.assert_allclose(kept_bias, member.bias)


def test_a_penalty_is_chosen_that_brings_a_new_person_nearer(signal):
    member = member_of(signal)
    weight, bias = noise(6, PARCELS, seed=20), noise(PARCELS, seed=21)
    answers = {film: member.states["train", film] @ weight + bias for film in FILMS}
    found, _ = member.adapted(answers)
    assert np.abs(found - weight).mean() < 0.9 * np.abs(member.weight - weight).mean()


@pytest.mark.parametrize("n", [20, 21, 47, 60])
def test_windows_are_cross_faded_to_the_rows_they_cover(n):
    series = torch.from_numpy(noise(200, 3)).float()

    class Windows:
        length = 20

        def batch(self, chosen):
            ((_, first),) = chosen
            assert 50 <= first <= 50 + n - self.length
            return SimpleNamespace(features=series[first : first + 20][None], present=None)

    class Copies(torch.nn.Module):
        def states(self, features, present):
            return features

    stretch = SimpleNamespace(first=50, stop=50 + n)
    found = members.states_of(Copies(), Windows(), stretch)
    np.testing.assert_allclose(found, series[50 : 50 + n], atol=1e-6)
