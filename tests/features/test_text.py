"""Word vectors: one pass for all words gives what a pass a word gives."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModel, AutoTokenizer

import literal_recipe
from family_makers import MODELS, make_model, make_tokenizer
from makers import VOCABULARY, word_vectors
from tribrain.features import text as text_module
from tribrain.features.backbones import BackboneFolder, load_backbone, load_tokenizer
from tribrain.features.families import FAMILIES
from tribrain.features.recipe import FeatureRecipe
from tribrain.features.text import most_tokens, piece_vectors, text_pieces
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


def test_batches_do_not_change_the_numbers(model, monkeypatch):
    running, spans = spans_of([f"word{i} sea" for i in range(30)])
    monkeypatch.setattr(text_module, "_BATCH_TOKENS", 1)
    one = word_vectors(*model, running, spans, context_words=9)
    monkeypatch.setattr(text_module, "_BATCH_TOKENS", 4096)
    many = word_vectors(*model, running, spans, context_words=9)
    np.testing.assert_allclose(one, many, atol=1e-5)


def count_passes(monkeypatch):
    passes = []
    run = text_module._run

    def counted(backbone, tokenizer, batch):
        passes.append(len(batch))
        return run(backbone, tokenizer, batch)

    monkeypatch.setattr(text_module, "_run", counted)
    return passes


# What each word sees


def seen_words(running, spans, piece):
    """Words of the text that each word of a piece sees, itself included."""
    return [
        len(running[start : spans[number][1]].split())
        for number, start in zip(piece.words, piece.starts, strict=True)
    ]


# Texts in which marks stand alone, and of whose words some are not spoken.
tokens_of_texts = st.lists(
    st.tuples(st.sampled_from(["sea", "the,", '"man', "-", "...", "(", "don't"]), st.booleans()),
    min_size=1,
    max_size=120,
).filter(lambda tokens: any(spoken for _, spoken in tokens))


def text_of(tokens, gaps=(" ",)):
    running, spans = "", []
    for number, (token, spoken) in enumerate(tokens):
        first = len(running) + (1 if token[0] == '"' else 0)
        running += token + gaps[number % len(gaps)]
        if spoken:
            spans.append((first, first + len(token.strip('",'))))
    return running, spans


@settings(max_examples=300, deadline=None)
@given(tokens=tokens_of_texts, limit=st.integers(1, 20), stride=st.integers(1, 12))
@pytest.mark.parametrize("exact", [True, False])
def test_every_word_sees_as_many_words_as_it_should(exact, tokens, limit, stride):
    running, spans = text_of(tokens, (" ", "  ", "\n"))
    pieces = text_pieces(running, spans, limit=limit, stride=stride, exact=exact)
    assert [number for piece in pieces for number in piece.words] == list(range(len(spans)))
    for piece in pieces:
        for number, seen in zip(piece.words, seen_words(running, spans, piece), strict=True):
            before = len(running[: spans[number][1]].split())
            if exact or before <= limit:
                assert seen == min(before, limit)
            else:
                assert limit <= seen <= min(before, limit + stride - 1)


def test_words_beyond_the_limit_share_passes_by_strides():
    running, spans = spans_of(["sea"] * 100)
    pieces = text_pieces(running, spans, limit=20, stride=10, exact=False)
    assert [len(piece.words) for piece in pieces] == [29, 10, 10, 10, 10, 10, 10, 10, 1]
    assert all(len(set(piece.starts)) == 1 for piece in pieces)
    assert seen_words(running, spans, pieces[1]) == list(range(20, 30))


@pytest.mark.parametrize("words", [0, 1])
def test_a_text_of_no_word_or_one(model, words):
    running, spans = spans_of(["sea"] * words)
    assert word_vectors(*model, running or "sea", spans).shape == (words, 2, 24)


# Models with tokenizers of each kind


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Loads a model of a name with `positions`, and makes it when it is first asked for."""
    folder = tmp_path_factory.mktemp("text")

    def load(name, recipe=RECIPE, **changes):
        place = folder / "-".join(map(str, changes.values()))
        if not (place / name).is_dir():
            make_model(place, name, **changes)
        found = BackboneFolder(name, place / name, "local")
        return load_backbone(found, "text", recipe), load_tokenizer(found), place / name

    return load


RECIPE = FeatureRecipe()
BIDIRECTIONAL = [
    name
    for name, (kind, _) in MODELS.items()
    if kind == "albert" or (kind in FAMILIES and FAMILIES[kind].form == "bidirectional")
]


@torch.inference_mode()
def states_of(path, ids):
    """Layers (layers, tokens, dim) of the model as `transformers` loads it."""
    model = AutoModel.from_pretrained(path).eval()
    states = model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
    groups = RECIPE.layer_groups(len(states))
    return torch.stack([torch.cat([states[n] for n in group]).mean(0) for group in groups])


def in_own_window(path, tokenizer, running, span, limit, most=None):
    """Vector of one word read in its window alone."""
    first = [match.start() for match in re.finditer(r"\S+", running[: span[1]])][-limit:][0]
    context = running[first : span[1]]
    encoded = tokenizer(context, return_offsets_mapping=True)
    own = [
        place
        for place, (begin, end) in enumerate(encoded["offset_mapping"])
        if begin < end and first + end > span[0] and first + begin < span[1]
    ]
    ids = encoded["input_ids"]
    cut = 0 if most is None else max(0, len(ids) - most)
    ids = [ids[0], *ids[1 + cut :]]  # the special token in front stays
    own = [place - cut for place in own]
    return states_of(path, ids)[:, own].mean(1).numpy()


def long_text(n, seed=0):
    rng = np.random.default_rng(seed)
    words = rng.choice(VOCABULARY, n).tolist()
    marks = rng.choice(["", "", "", ",", ".", ' "', " -"], n)
    return spans_of(words, " ".join(w + mark for w, mark in zip(words, marks, strict=True)))


@pytest.mark.parametrize("name", BIDIRECTIONAL)
def test_models_that_read_both_ways_read_each_word_in_a_window(models, name):
    backbone, tokenizer, path = models(name)
    running, spans = long_text(16)
    assert "-" in running.split()
    ours = word_vectors(backbone, tokenizer, running, spans, context_words=5)
    chosen = [0, 3, 4, 9, 15]
    expected = [in_own_window(path, tokenizer, running, spans[n], 5) for n in chosen]
    assert np.abs(np.diff(expected, axis=0)).max() > 0.1
    np.testing.assert_allclose(ours[chosen], expected, atol=1e-4)


@pytest.mark.parametrize("name", ["bert", "deberta-v2", "modernbert", "xlnet", "gpt2", "mistral"])
@pytest.mark.parametrize("exact", [True, False])
def test_what_follows_a_word_does_not_change_its_vector(models, name, exact):
    backbone, tokenizer, _ = models(name)
    running, spans = long_text(16)
    settings = {"context_words": 6, "stride": 3, "exact": exact}
    whole = word_vectors(backbone, tokenizer, running, spans, **settings)
    for n in (1, 9):
        cut = word_vectors(backbone, tokenizer, running[: spans[n][1]], spans[: n + 1], **settings)
        np.testing.assert_allclose(cut, whole[: n + 1], atol=2e-5)


@pytest.mark.parametrize(
    ("name", "positions", "most"),
    [("bert", 24, 24), ("roberta", 26, 24), ("xlm-roberta", 26, 24), ("mpnet", 26, 24)],
)
def test_windows_too_long_for_the_model_are_cut_in_front(models, name, positions, most):
    backbone, tokenizer, path = models(name, max_position_embeddings=positions)
    running, spans = long_text(40, seed=3)
    ours = word_vectors(backbone, tokenizer, running, spans)
    chosen = [0, 3, 9, 20, 38, 39]
    expected = [in_own_window(path, tokenizer, running, spans[n], 1024, most) for n in chosen]
    assert len(tokenizer(running)["input_ids"]) > 2 * most
    np.testing.assert_allclose(ours[chosen], expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["data2vec-text", "camembert", "roberta-prelayernorm"])
def test_relatives_of_roberta_have_fewer_positions_too(models, tmp_path, kind):
    """Their positions start after that of padding, and a text of more tokens would fail."""
    from transformers import AutoConfig

    settings = MODELS["roberta"][1] | {"max_position_embeddings": 26}
    config = AutoConfig.for_model(kind, **settings)
    tokenizer = make_tokenizer("roberta")
    assert most_tokens(config, tokenizer) == 24
    AutoModel.from_config(config).save_pretrained(tmp_path / kind)
    backbone = load_backbone(BackboneFolder(kind, tmp_path / kind, "local"), "text", RECIPE)
    running, spans = long_text(40)
    assert np.isfinite(word_vectors(backbone, tokenizer, running, spans)).all()


def test_a_model_without_positions_reads_any_length(models):
    for name in ("xlnet", "bloom"):
        backbone, tokenizer, _ = models(name)
        assert most_tokens(backbone.model.config, tokenizer) >= 10**9


def literal_words(path, running, spans, starts):
    contexts = [
        (running[start:last], running[first:last])
        for start, (first, last) in zip(starts, spans, strict=True)
    ]
    return literal_recipe.word_vectors(path, contexts)


@pytest.mark.parametrize("name", ["gpt2", "mistral", "gemma", "opt"])
def test_shared_passes_equal_a_literal_pass_over_the_same_context(models, name):
    backbone, tokenizer, path = models(name)
    running, spans = long_text(24, seed=1)
    settings = {"context_words": 7, "stride": 4}
    shared = word_vectors(backbone, tokenizer, running, spans, **settings, exact=False)
    exact = word_vectors(backbone, tokenizer, running, spans, **settings, exact=True)
    for vectors, flag in ((shared, False), (exact, True)):
        pieces = text_pieces(running, spans, limit=7, stride=4, exact=flag)
        starts = [start for piece in pieces for start in piece.starts]
        expected = literal_words(path, running, spans, starts)
        np.testing.assert_allclose(vectors, expected, atol=2e-4)
    before = np.array([len(running[:last].split()) for _, last in spans])
    np.testing.assert_allclose(shared[before <= 7], exact[before <= 7], atol=1e-5)
    assert np.abs(shared - exact)[before > 7].max() > 0.01


@pytest.mark.parametrize("exact", [True, False])
def test_a_text_longer_than_the_models_positions(models, monkeypatch, exact):
    backbone, tokenizer, path = models("gpt2", n_positions=64)
    running, spans = long_text(300)
    passes = record_passes(monkeypatch)
    ours = word_vectors(backbone, tokenizer, running, spans, exact=exact)
    own = {number: (one, first) for one in passes for number, first, _ in one.words}
    assert sorted(own) == list(range(300))
    assert max(len(one.tokens) for one in passes) <= 64
    assert min(first for number, (_, first) in own.items() if number >= 20) >= 12
    ids = tokenizer(running, add_special_tokens=False)["input_ids"]
    assert len(ids) > 5 * 64
    for number in (0, 30, 120, 299):  # each is read from the tokens of its pass
        one, first = own[number]
        last = next(last for n, _, last in one.words if n == number)
        assert tokenizer.decode(one.tokens[first:last]).strip() == running[slice(*spans[number])]
        expected = states_of(path, one.tokens)[:, first:last].mean(1)
        np.testing.assert_allclose(ours[number], expected, atol=1e-4)


def record_passes(monkeypatch):
    passes = []
    run = text_module._run

    def recorded(backbone, tokenizer, batch):
        passes.extend(batch)
        return run(backbone, tokenizer, batch)

    monkeypatch.setattr(text_module, "_run", recorded)
    return passes


def test_a_long_text_costs_time_in_proportion_and_no_more_memory(models, monkeypatch):
    backbone, tokenizer, _ = models("gpt2", n_positions=2048)
    tokens, largest, held = [], [], []

    def counted(backbone, tokenizer, batch):
        tokens[-1] += sum(len(one.tokens) for one in batch)
        largest[-1] = max(largest[-1], len(batch) * max(len(one.tokens) for one in batch))
        return [np.zeros((len(one.words), 2, 32), np.float32) for one in batch]

    monkeypatch.setattr(text_module, "_run", counted)
    for n in (5_000, 10_000, 20_000):
        tokens.append(0)
        largest.append(0)
        running, spans = spans_of((VOCABULARY[:12] * n)[:n])
        pieces = text_pieces(running, spans, limit=512, stride=256, exact=False)
        blocks = [piece_vectors(backbone, tokenizer, running, spans, one) for one in pieces]
        assert sum(map(len, blocks)) == n
        held.append(max(map(len, blocks)))
    assert len(set(largest)) == 1
    assert set(held) == {512 + 256 - 1}
    assert (tokens[2] - tokens[1]) / (tokens[1] - tokens[0]) == pytest.approx(2, rel=0.02)
    # Each stride is read with the words of its limit, and these words are a token or two each.
    n_tokens = len(tokenizer(running, add_special_tokens=False)["input_ids"])
    assert tokens[2] / n_tokens < (512 + 256) / 256
