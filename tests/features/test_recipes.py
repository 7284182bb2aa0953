"""Recipes as files: those that come with the package, and what is wrong with others."""

from __future__ import annotations

import numpy as np
import pytest

from makers import published_config, write_film
from tribrain.encoder.published import feature_recipe
from tribrain.errors import InputError
from tribrain.features.extract import extract_features
from tribrain.features.pieces import Extractors
from tribrain.features.recipe import FeatureRecipe, load_recipe, recipe_names
from tribrain.stimuli.stimulus import Stimulus

# What the released configurations hold (published recipe, section 1).
NAMES = {
    "data__text_feature__model_name": "meta-llama/Llama-3.2-3B",
    "data__audio_feature__model_name": "facebook/w2v-bert-2.0",
    "data__video_feature__image__model_name": "facebook/vjepa2-vitg-fpc64-256",
}
MINI = {
    **NAMES,
    "data__text_feature__model_name": "Qwen/Qwen3-0.6B",
    "data__video_feature__image__model_name": "facebook/vjepa2-vitl-fpc64-256",
    "data__layers_to_use": [2 / 3],
    "data__layer_aggregation": None,
}
LITE = {"text": (1, 3, 6), "audio": (1, 107, 6), "video": (1, 258, 6)}
SHAPES = {"16:9": (36, 64), "4:3": (48, 64), "portrait": (64, 36)}


def write(folder, text):
    (folder / "own.toml").write_text(text)
    return folder / "own.toml"


def refusal(folder, text):
    with pytest.raises(InputError) as refused:
        load_recipe(write(folder, text))
    line = str(refused.value)
    assert "\n" not in line
    assert "own.toml" in line
    return line


# Those of the package


def test_every_recipe_of_the_package_loads():
    assert set(recipe_names()) == {"debug", "lite", "tribev2", "tribev2-mini"}
    for name in recipe_names():
        recipe = load_recipe(name)
        assert recipe.modalities == ("text", "audio", "video")
        assert recipe.frequency == 2.0


@pytest.mark.parametrize(("name", "changes"), [("tribev2", NAMES), ("tribev2-mini", MINI)])
def test_a_named_recipe_is_that_of_its_published_checkpoint(name, changes):
    assert load_recipe(name) == feature_recipe(published_config(**changes))


def test_the_two_published_recipes_pick_the_published_states():
    # Llama-3.2-3B has 29 hidden states, Qwen3-0.6B too; two layers and one.
    assert load_recipe("tribev2").layer_groups(29) == [list(range(14, 21)), list(range(21, 29))]
    assert load_recipe("tribev2-mini").layer_groups(29) == [[18]]


# Simple features, whatever the film


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_lite_has_the_same_dimensions_whatever_the_film(tmp_path, shape):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (25, *shape, 3)).astype(np.uint8)
    film = write_film(tmp_path / "film.mp4", frames, rate=10, sound=0.1 * rng.normal(size=40_000))
    words = "text\tstart\tduration\nthe\t0.1\t0.2\nsea\t0.4\t0.5\nqwzx\t1.2\t0.4\n"
    (tmp_path / "words.tsv").write_text(words)
    stimulus = Stimulus.open(film, transcript=tmp_path / "words.tsv")
    recipe = load_recipe("lite")
    series = extract_features(stimulus, Extractors(recipe), recipe.modalities, window=3.0)
    assert {name: values.shape for name, values in series.items()} == LITE
    for values in series.values():
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
        assert np.abs(values).max() < 1000
        assert (values[0, :, :5].std(axis=1) > 0).mean() > 0.5  # they follow the film


# Files


def test_a_file_may_say_all_there_is(tmp_path):
    text = """
        [features]
        depths = [0, 0.5, 1]
        aggregation = "none"
        pooling = "last"
        frequency = 4
        clip_seconds = 2.0
        context_words = 64
        context_stride = 8
        exact_context = true
        [features.backbones]
        text = "someone/model"
        [features.simple]
        audio = ["loudness", "pitch"]
        [features.revisions]
        text = "v2"
        [training]
        epochs = 3
    """
    expected = FeatureRecipe(
        backbones={"text": "someone/model"},
        simple={"audio": ("loudness", "pitch")},
        depths=(0, 0.5, 1),
        aggregation="none",
        pooling="last",
        frequency=4,
        clip_seconds=2.0,
        context_words=64,
        context_stride=8,
        exact_context=True,
        revisions={"text": "v2"},
    )
    assert load_recipe(write(tmp_path, text)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("depth = [1]", "key 'depth' is unknown; known: backbones, simple, depths, aggregation"),
        ('aggregation = "sum"', "'sum' is unknown; known: group_mean, mean, none"),
        ('pooling = "max"', "'max' is unknown; known: mean, first, last"),
        ('simple = {smell = ["rose"]}', "'smell' is unknown; known: text, audio, video"),
        ('backbones = {touch = "x/y"}', "'touch' is unknown; known: text, audio, video"),
        ('revisions = {taste = "main"}', "'taste' is unknown; known: text, audio, video"),
        ('backbones = {text = "x/y"}\nsimple = {text = ["word_rate"]}', "give one of them"),
        ("depths = []", "ascending, one at least"),
        ("depths = [1.0, 0.5]", "ascending"),
        ("depths = [0.5, 1.5]", r"must lie in [0, 1]"),
        ("frequency = 0", "a positive number fits"),
        ("frequency = nan", "a positive number fits"),
        ("context_words = -1", "a positive number fits"),
    ],
)
def test_a_wrong_value_is_refused_and_the_right_ones_named(tmp_path, text, message):
    assert message in refusal(tmp_path, f"[features]\n{text}\n")


@pytest.mark.parametrize(
    "text",
    [
        'depths = "a"',
        "depths = 0.5",
        'depths = [0.5, "a"]',
        'frequency = "2"',
        "frequency = [2]",
        'clip_seconds = "four"',
        "clip_seconds = true\nfrequency = {}",
        "simple = 3",
        "simple = {text = 3}",
        'simple = ["word_rate"]',
        "backbones = 3",
        "aggregation = 3",
        "pooling = [1]",
        "revisions = 3",
    ],
)
def test_a_value_of_the_wrong_kind_is_one_line(tmp_path, text):
    refusal(tmp_path, f"[features]\n{text}\n")


def test_what_is_no_recipe_is_refused(tmp_path):
    assert "no table [features]" in refusal(tmp_path, "")
    assert "no table [features]" in refusal(tmp_path, "features = 3")
    assert "line 2" in refusal(tmp_path, "[features]\ndepths = 1 2")
    with pytest.raises(InputError, match=r"'heavy' is unknown; .* debug, lite, tribev2"):
        load_recipe("heavy")
    with pytest.raises(InputError, match="does not exist"):
        load_recipe(tmp_path / "nothing.toml")


@pytest.mark.parametrize("modality", ["text", "audio", "video"])
def test_an_unknown_simple_feature_names_those_there_are(tmp_path, modality):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (10, 32, 32, 3)).astype(np.uint8)
    film = write_film(tmp_path / "f.mp4", frames, rate=10, sound=0.1 * rng.normal(size=16_000))
    (tmp_path / "words.tsv").write_text("text\tstart\tduration\nsea\t0.1\t0.2\n")
    stimulus = Stimulus.open(film, transcript=tmp_path / "words.tsv")
    recipe = FeatureRecipe(simple={modality: ("scent",)})
    known = {"text": "word_rarity", "audio": "log_mel", "video": "motion_energy"}[modality]
    with pytest.raises(InputError, match=rf"'scent'.*; known: .*{known}"):
        extract_features(stimulus, Extractors(recipe), [modality], window=1.0)
