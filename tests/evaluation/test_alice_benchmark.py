"""The Alice benchmark's own arithmetic: words under a response, scores, clocks, the model."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
sys.path.append(str(Path(__file__).parents[1] / "studies"))

import alice as benchmark
import alice_members as members
import alice_rows as rows
from array_makers import make_alice
from conftest import shared
from tribrain.brain.haemodynamics import canonical_response
from tribrain.errors import InputError
from tribrain.evaluation.ridges import FIRRidge
from tribrain.stimuli.words import Word
from tribrain.studies.alice import FOLD_EDGES, ROWS, Alice, folds

TESTED = slice(FOLD_EDGES[0], FOLD_EDGES[-1])


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def bench_of(people: int = 5, error: float = 2.0) -> rows.Bench:
    """A bench whose people share a signal that its nuisances hold."""
    bench = object.__new__(rows.Bench)
    nuisance = noise(ROWS, 2, seed=1)
    signal = nuisance @ noise(2, 6, seed=2)
    values = signal + error * np.stack([noise(ROWS, 6, seed=10 + n) for n in range(people)])
    inside = values[:, TESTED]
    bench.people = (values - inside.mean(1, keepdims=True)) / inside.std(1, keepdims=True)
    bench.mean, bench.nuisance = bench.people.mean(0), nuisance
    return bench


@pytest.fixture(scope="module")
def bench() -> rows.Bench:
    return bench_of()


# --- words


def test_a_word_brings_a_response_that_peaks_five_seconds_later():
    word = SimpleNamespace(words=(Word("Alice", 100.0, 0.1),))
    found = rows.heard(word, np.array([[2.0, -1.0]]))
    assert found.shape == (ROWS, 2)
    expected = canonical_response(10.0)
    for row in range(ROWS):
        late = round(10 * (20 + 2 * row - 100))  # row i lies at second 20 + 2 i
        there = 2 * expected[late] if 0 <= late < len(expected) else 0.0
        assert found[row, 0] == pytest.approx(there, abs=1e-12)
    assert found[:, 0].argmax() in (42, 43)  # seconds 104 and 106
    np.testing.assert_allclose(found[:, 1], -found[:, 0] / 2)


def test_long_words_count_as_much_as_short_ones():
    short, long = (
        rows.heard(SimpleNamespace(words=(Word("a", 200.0, length),)), np.ones((1, 1)))
        for length in (0.1, 4.0)
    )
    assert short.sum() == pytest.approx(long.sum(), rel=0.01)
    assert long.argmax() == short.argmax() + 1  # two seconds: half of the four


def test_components_are_principal_ones_with_variance_one():
    from sklearn.decomposition import PCA

    vectors = noise(300, 30) * np.arange(30, 0, -1)
    found = rows.components(vectors, 5)
    expected = PCA(5, whiten=True, svd_solver="full").fit_transform(vectors)
    same = np.abs((found * expected).mean(0))
    np.testing.assert_allclose(same, np.sqrt((len(vectors) - 1) / len(vectors)), rtol=1e-6)
    np.testing.assert_allclose(found.std(0), 1)


# --- scores


def test_scores_are_mean_correlations_within_folds(bench):
    way = rows.fitted(bench, benchmark.ridge(), bench.nuisance, own=True)
    assert way.own is not None

    def plain(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(x.T, y.T, strict=True)]))

    tested = [test for _, test in folds()]
    group = np.mean([plain(w, bench.mean[t]) for w, t in zip(way.group, tested, strict=True)])
    each = [
        np.mean([plain(w, one[t]) for w, t in zip(way.group, tested, strict=True)])
        for one in bench.people
    ]
    own = [
        np.mean([plain(w[n], one[t]) for w, t in zip(way.own, tested, strict=True)])
        for n, one in enumerate(bench.people)
    ]
    assert rows.group_score(bench, way) == pytest.approx(group)
    np.testing.assert_allclose(rows.people_scores(bench, way), each)
    np.testing.assert_allclose(rows.own_scores(bench, way), own)
    assert rows.group_interval(bench, way).mean == pytest.approx(group)
    told = benchmark.line("floor", bench, way)
    assert f"{group:.3f} ±" in told
    assert f"{np.mean(own):.3f} ±" in told


def test_predictions_are_of_rows_that_were_not_fitted_to(bench):
    """They do not change when the BOLD of the rows tested, and of those about them, does."""
    train, test = folds()[2]
    changed = bench_of()
    others = np.setdiff1d(np.arange(ROWS), train)
    changed.mean = bench.mean.copy()
    changed.mean[others] = 100 * noise(len(others), 6, seed=5)
    for estimator in (benchmark.ridge(), benchmark.ridge((-1, 0, 1)), FIRRidge()):
        one, other = (rows.fitted(b, estimator, b.nuisance).group[2] for b in (bench, changed))
        assert one.shape == (len(test), 6)
        np.testing.assert_array_equal(one, other)


def test_what_is_better_beats_and_equals_do_not(bench):
    ways = {
        "good": rows.fitted(bench, benchmark.ridge(), bench.nuisance),
        "bad": rows.fitted(bench, benchmark.ridge(), noise(ROWS, 2, seed=8)),
    }
    assert benchmark.above(bench, ways, "good", "bad").endswith(" beats")
    assert "beats" not in benchmark.above(bench, ways, "bad", "good")
    assert "+0.000 (+0.000 to +0.000)" in benchmark.above(bench, ways, "good", "good")


def test_an_average_is_that_of_z_scores(bench):
    ways = [rows.fitted(bench, benchmark.ridge(), noise(ROWS, 2, seed=n)) for n in (1, 8)]
    mean = rows.averaged(ways)
    for found, one, other in zip(mean.group, ways[0].group, ways[1].group, strict=True):
        z = [(part - part.mean(0)) / part.std(0) for part in (one, other)]
        np.testing.assert_allclose(found, (z[0] + z[1]) / 2)


def test_people_and_ceilings_are_near_what_was_simulated():
    bench = bench_of(people=20, error=2.0)
    between, ceiling = rows.references(bench)
    signal = bench.nuisance @ noise(2, 6, seed=2)
    variance = signal.var(0)
    group = np.sqrt(variance / (variance + 4 / 20))
    np.testing.assert_allclose(ceiling, group, atol=0.1)
    reliable = variance / (variance + 4)
    others = np.sqrt(variance / (variance + 4 / 19))
    assert between == pytest.approx(float((np.sqrt(reliable) * others).mean()), abs=0.05)


def test_shuffled_and_shifted_words_are_those_of_the_middle_layer(bench, monkeypatch):
    seen = []

    def words(vectors: np.ndarray) -> np.ndarray:
        seen.append(vectors)
        return np.resize(vectors, (ROWS, vectors.shape[1]))

    monkeypatch.setattr(bench, "words", words, raising=False)
    states = noise(50, rows.STATES, 3)
    found = benchmark.shuffles(bench, states, 2)
    assert [len(ways) for ways in found.values()] == [2, 2]
    whole, first, second = seen
    np.testing.assert_array_equal(whole, states[:, rows.MIDDLE])
    for shuffled in (first, second):
        assert not np.array_equal(shuffled, whole)
        np.testing.assert_array_equal(np.sort(shuffled, axis=0), np.sort(whole, axis=0))


# --- transformers


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Alice:
    return Alice(make_alice(tmp_path_factory.mktemp("alice") / "data"))


def test_an_encoder_reads_and_predicts_the_rows_that_ridge_does(study, tmp_path, monkeypatch):
    """What is read and what is predicted at the rows tested are those rows of the bench."""
    bench = rows.Bench(study)
    encoder = SimpleNamespace(head=SimpleNamespace(rows={0: None}), unseen=lambda: 0)
    row = object.__new__(members.SubjectRow)
    torch.nn.Module.__init__(row)
    row.weight, row.bias = torch.eye(8), torch.zeros(8)
    encoder.head.rows[0] = row
    trained = []

    def states_of(encoder: object, data: members.TrainingData, stretch: Any) -> np.ndarray:
        batch = data.batch([(stretch, row) for row in range(stretch.first, stretch.stop)])
        read = [batch.features[name][:, 0, 0] for name in ("words", "nuisance")]
        return torch.cat([*read, batch.targets[:, 0]], dim=1).numpy()

    monkeypatch.setattr(members, "new_encoder", lambda recipe, data: trained.append(data))
    monkeypatch.setattr(members, "train", lambda *given, **options: (encoder, None))
    monkeypatch.setattr(members, "states_of", states_of)
    vectors = noise(len(bench.stimulus.words), 1, 1)
    (found,) = members.members(
        study, bench, vectors, tmp_path, 1, ["data.length=1", "data.fading=0"]
    )
    heard = bench.words(vectors[:, 0])[:, 0]
    bold = rows.filtered(bench.runs[0].bold.load().values)
    for predicted, (_, test) in zip(found.group, folds(), strict=True):
        np.testing.assert_allclose(predicted[:, 0], heard[test], atol=1e-5)
        np.testing.assert_allclose(predicted[:, 1], bench.nuisance[test, 0], atol=1e-5)
        np.testing.assert_allclose(predicted[:, 2:8], bold[test], atol=1e-4)
    for data, (train, _) in zip(trained, folds(), strict=True):
        seconds = {second for one in data.stretches for second in range(one.first, one.stop)}
        assert {2 * int(row) for row in train} <= seconds
        assert not {2 * int(row) for row in np.setdiff1d(np.arange(ROWS), train)} & seconds


def test_an_encoder_is_trained_once_and_seeds_differ(study, tmp_path, monkeypatch):
    monkeypatch.setattr(members, "folds", lambda: folds()[:1])
    bench = rows.Bench(study)
    vectors = noise(len(bench.stimulus.words), 1, 4)
    small = ["training.epochs=1", "data.length=30", "data.step=60", "encoder.hidden=64",
             "encoder.depth=1", "encoder.heads=2", "encoder.rank=4"]  # fmt: skip
    one, other = members.members(study, bench, vectors, tmp_path, 2, small)
    again, _ = members.members(study, bench, vectors, tmp_path, 2, small)
    assert again.seconds == one.seconds  # read, not trained
    (a,), (b,), (c,) = one.group, other.group, again.group
    assert a.shape == (len(folds()[0][1]), 6)
    assert np.isfinite(a).all()
    assert not np.allclose(a, b)
    np.testing.assert_array_equal(a, c)


# --- the model's folder


def test_other_weights_and_a_missing_package_are_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"no model\.safetensors"):
        rows.minilm(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"others")
    with pytest.raises(InputError, match="not the weights of all-MiniLM-L6-v2"):
        rows.minilm(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="offline"):
        rows.minilm()


@pytest.fixture(scope="module")
def model():
    if importlib.util.find_spec(rows.PACKAGE) is None:
        pytest.skip("MiniLM is not here: it comes with the extra 'offline'")
    return rows.minilm()


def test_states_are_those_of_the_words_before(model, tmp_path):
    """Every state at a word is the model's own on the last words; nothing of it was imported."""
    from transformers import AutoModel, AutoTokenizer

    assert rows.PACKAGE not in sys.modules
    texts = "Alice was beginning to get very tired of sitting".split()
    words = tuple(Word(text, float(n), 0.5) for n, text in enumerate(texts))
    stimulus = SimpleNamespace(words=words, text=None, modalities=("text",), name="some")
    found = rows.word_vectors(stimulus, model, tmp_path, 4)
    assert found.shape == (9, rows.STATES, 384)
    tokenizer = AutoTokenizer.from_pretrained(model.path)
    network = AutoModel.from_pretrained(model.path).eval()
    for number in (0, 2, 8):
        encoded = tokenizer(" ".join(texts[max(0, number - 3) : number + 1]), return_tensors="pt")
        with torch.inference_mode():
            states = network(**encoded, output_hidden_states=True).hidden_states
        own = [n for n, word in enumerate(encoded.word_ids()) if word == min(number, 3)]
        expected = torch.stack([state[0, own].mean(0) for state in states]).numpy()
        np.testing.assert_allclose(found[number], expected, atol=2e-5)


def test_the_floor_of_the_real_study_is_the_published_one():
    """README of the data: 0.317 through a canonical response, people 0.106; 0.344 through FIR."""
    bench = rows.Bench(Alice(shared("data/alice")))
    found = benchmark.floors(bench)
    floor, moved = found[benchmark.FLOOR], found[benchmark.FLOOR_FIR]
    assert rows.group_score(bench, floor) == pytest.approx(0.317, abs=0.01)
    assert rows.people_scores(bench, floor).mean() == pytest.approx(0.106, abs=0.005)
    assert rows.group_score(bench, moved) == pytest.approx(0.344, abs=0.01)
    between, ceiling = rows.references(bench)
    assert between == pytest.approx(0.223, abs=0.005)
    assert 0.74 < ceiling.min() < ceiling.max() < 0.91
