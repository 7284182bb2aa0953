"""Word vectors: one pass for all words gives what a pass a word gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

import literal_recipe
from tribrain.features import text as text_module
from tribrain.features.backbones import BackboneFolder, load_backbone
from tribrain.features.recipe import FeatureRecipe
from tribrain.features.text import word_vectors
from tribrain.stimuli.words import Word, running_text


@pytest.fixture(scope="module")
def model(backbones):
    folder = BackboneFolder("tiny-llama", backbones / "tiny-llama", "local")
    backbone = load_backbone(folder, "text", FeatureRecipe(), "cpu")
    return backbone, AutoTokenizer.from_pretrained(folder.path)


def spans_of(words, text=None):
    return running_text([Word(word, float(i), 0.5) for i, word in enumerate(words)], text)


def literal(backbones, running, spans, limit=1024):
    contexts = []
    for first, last in spans:
        starts = [i for i in range(last) if running[i] != " " and (i == 0 or running[i - 1] == " ")]
        contexts.append((running[starts[-limit:][0] : last], running[first:last]))
    return literal_recipe.word_vectors(backbones / "tiny-llama", contexts)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    words=st.lists(
        st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1, max_size=9),
        min_size=1,
        max_size=25,
    ),
    limit=st.integers(1, 30),
)
def test_any_words_equal_a_pass_a_word(model, backbones, words, limit):
    running, spans = spans_of(words)
    ours = word_vectors(*model, running, spans, context_words=limit)
    np.testing.assert_allclose(ours, literal(backbones, running, spans, limit), atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_punctuation_equals_a_pass_a_word(model, backbones, data):
    words = data.draw(
        st.lists(st.sampled_from(["the", "sea", "don't", "x", "3", "naïve"]), min_size=2)
    )
    marks = st.sampled_from(["", " ", ", ", '. "', "...", "-", "'", " (", ") ", "  ", "\u2026 "])
    text = "".join(word + " " + data.draw(marks) for word in words)
    running, spans = spans_of(words, text)
    ours = word_vectors(*model, running, spans)
    np.testing.assert_allclose(ours, literal(backbones, running, spans), atol=1e-4)


def test_words_that_agree_share_one_pass(model, monkeypatch):
    passes = count_passes(monkeypatch)
    running, spans = spans_of(
        ["the", "old", "man", "pulled", "the", "boat", "across", "the", "sand"]
    )
    word_vectors(*model, running, spans)
    assert passes == [1]


def test_words_inside_longer_tokens_get_their_own_pass(model, backbones, monkeypatch):
    passes = count_passes(monkeypatch)
    # "morning" is one token of this vocabulary: the context that ends in "mor" is cut otherwise.
    running, spans = "in the morning", [(0, 2), (3, 6), (7, 10)]
    ours = word_vectors(*model, running + " sand", [*spans, (15, 19)])
    assert sum(passes) == 2
    expected = literal(backbones, running + " sand", [*spans, (15, 19)])
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_a_word_alone_and_an_empty_prefix(model, backbones):
    running, spans = spans_of(["sea"])
    expected = literal(backbones, running, spans)
    np.testing.assert_allclose(word_vectors(*model, running, spans), expected, atol=1e-5)


def test_batches_do_not_change_the_numbers(model):
    running, spans = spans_of([f"word{i} sea" for i in range(30)])
    one = word_vectors(*model, running, spans, context_words=9, batch_tokens=1)
    many = word_vectors(*model, running, spans, context_words=9, batch_tokens=4096)
    np.testing.assert_allclose(one, many, atol=1e-5)


def test_progress_counts_every_word(model):
    running, spans = spans_of(["the", "sea"] * 10)
    seen = []
    word_vectors(*model, running, spans, context_words=5, progress=lambda *a: seen.append(a))
    assert seen[-1] == (20, 20)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def count_passes(monkeypatch):
    passes = []
    run = text_module._run

    def counted(backbone, batch):
        passes.append(len(batch))
        return run(backbone, batch)

    monkeypatch.setattr(text_module, "_run", counted)
    return passes
