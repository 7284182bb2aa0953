"""The recipe's features against the published program's numbers and a slow, literal reference."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

import literal_recipe
import makers
import tribrain
from tribrain.features.extract import extract_features, find_backbones
from tribrain.features.pieces import Extractors
from tribrain.features.recipe import FeatureRecipe

BASE = (0.5, 0.75, 1.0)
MINI = (2 / 3,)
NAMES = {"text": "tiny-llama", "audio": "tiny-w2v-bert", "video": "tiny-vjepa2"}
VOCABULARY = makers.VOCABULARY


def extract(stimulus, backbones, depths=BASE, window=100.0, modalities=None, **settings):
    recipe = FeatureRecipe(backbones=NAMES, depths=depths, **settings)
    modalities = modalities or stimulus.modalities
    folders = find_backbones(recipe, modalities, backbones)
    return extract_features(stimulus, Extractors(recipe, folders), modalities, window=window)


def relative_error(ours, reference):
    return np.linalg.norm(ours - reference) / np.linalg.norm(reference)


def correlation(ours, reference):
    return np.corrcoef(ours.ravel(), reference.ravel())[0, 1]


@pytest.mark.golden
def test_golden_features_and_predictions(golden):
    folder = golden / "end-to-end"
    reference = np.load(folder / "reference.npz")
    with pytest.warns(tribrain.InputWarning, match="licence"):
        model = tribrain.load_model(
            folder / "checkpoint", backbones=folder / "backbones", device="cpu"
        )
    with pytest.warns(tribrain.InputWarning, match="5 words start after"):
        stimulus = tribrain.Stimulus.from_video(
            folder / "clip.mp4", transcript=folder / "words.tsv", text=folder / "story.txt"
        )
    features = model.extract(stimulus)
    text = features["text"] - reference["features_text"][0]
    assert np.abs(text).max() < 1e-4
    video, expected = features["video"], reference["features_video"][0]
    assert correlation(video, expected) > 0.99999
    assert relative_error(video, expected) < 5e-3
    audio, expected = features["audio"], reference["features_audio"][0]
    assert correlation(audio, expected) > 0.9999
    assert relative_error(audio, expected) < 1e-2
    response = model.predict(features=features, stimulus=stimulus)
    assert response.data.shape == (16, 1284)
    assert response.data["time"].values.tolist() == reference["prediction_start"].tolist()
    assert correlation(response.data.values, reference["predictions"]) > 0.9999
    assert relative_error(response.data.values, reference["predictions"]) < 1e-2


@pytest.mark.golden
def test_golden_predictions_on_the_reference_features_are_nearly_exact(golden):
    folder = golden / "end-to-end"
    reference = np.load(folder / "reference.npz")
    with pytest.warns(tribrain.InputWarning, match="licence"):
        model = tribrain.load_model(folder / "checkpoint", device="cpu")
    features = {name: reference[f"features_{name}"][0] for name in NAMES}
    response = model.predict(features=features, duration=16.0)
    assert np.abs(response.data.values - reference["predictions"]).max() < 1e-4


@pytest.fixture(scope="module")
def long_film(tmp_path_factory):
    """190 s: three chunks (60, 60, 70 s), two windows, 12.5 frames a second, words all along."""
    folder = tmp_path_factory.mktemp("film")
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (9, 12, 3)).astype(np.uint8)
    frames = []
    for number in range(190 * 8):  # a scene that drifts and changes every few seconds
        if number % 50 == 0:
            base = rng.integers(0, 256, base.shape).astype(np.uint8)
        frames.append(np.kron(np.roll(base, number // 3, axis=1), np.ones((4, 4, 1), np.uint8)))
    sound = (
        rng.normal(size=190 * 11_025)
        * np.repeat(rng.uniform(0, 0.3, 1900), 11_025 // 10 + 1)[: 190 * 11_025]
    )
    film = makers.write_film(folder / "long.mkv", frames, rate=8)
    sound_file = makers.write_sound(folder / "long.wav", sound, 11_025)
    starts = np.sort(rng.uniform(0, 194, 320)).round(3)
    starts[100] = 99.9  # across the border of the windows
    starts = np.sort(starts)
    durations = rng.uniform(0.0, 0.9, len(starts)).round(3)
    words = [(str(rng.choice(VOCABULARY)), *pair) for pair in zip(starts, durations, strict=True)]
    transcript = folder / "words.tsv"
    rows = [f"{text}\t{start}\t{duration}" for text, start, duration in words]
    transcript.write_text("\n".join(["text\tstart\tduration", *rows]))
    text = folder / "text.txt"
    marks = rng.choice(["", "", "", ",", ".", ' "', "?"], len(words))
    text.write_text(" ".join(w[0] + mark for w, mark in zip(words, marks, strict=True)))
    return film, sound_file, words, transcript, text


@pytest.mark.parametrize("depths", [BASE, pytest.param(MINI, marks=pytest.mark.slow)])
def test_long_film_equals_the_literal_recipe(long_film, backbones, depths):
    film, _, words, transcript, text = long_film
    with pytest.warns(tribrain.InputWarning, match="words start after"):
        stimulus = tribrain.Stimulus.from_video(film, transcript=transcript, text=text)
    assert stimulus.duration == 190
    ours = extract(stimulus, backbones, depths)
    folders = {name: backbones / NAMES[name] for name in ("text", "video")}
    expected = literal_recipe.features(
        film,
        words,
        text.read_text(),
        folders,
        layers=depths if len(depths) > 1 else depths[0],
        video_duration=190.0,
    )
    assert set(ours) == {"text", "video"}
    for name, reference in expected.items():
        assert (
            ours[name].shape
            == reference.shape
            == (
                max(1, len(depths) - 1),
                makers.FEATURE_DIMS[name][1],
                400,
            )
        )
        assert np.abs(reference).max() > 0.1
        np.testing.assert_allclose(ours[name], reference, atol=1e-4)
        assert not ours[name][..., 390:].any()


def test_long_sound_equals_the_literal_recipe(long_film, backbones):
    _, sound, *_ = long_film
    with pytest.warns(tribrain.InputWarning, match="text is left out"):
        stimulus = tribrain.Stimulus.from_audio(sound)
    ours = extract(stimulus, backbones)["audio"]
    folders = {"audio": backbones / NAMES["audio"]}
    expected = literal_recipe.features(sound, [], None, folders, audio_duration=190.0)["audio"]
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_text_beyond_the_context_limit_equals_the_literal_recipe(tmp_path, backbones):
    """1,150 words: one pass up to the limit, then a window that slides by word."""
    rng = np.random.default_rng(1)
    words = rng.choice(VOCABULARY[:-6] * 5 + VOCABULARY[-6:], 1150).tolist()
    marks = rng.choice(["", "", "", ",", ".", ' "', "?", ")", "..."], len(words))
    text = " ".join(word + mark for word, mark in zip(words, marks, strict=True))
    (tmp_path / "text.txt").write_text(text)
    rows = [f"{word}\t{0.4 * number:.2f}\t0.3" for number, word in enumerate(words)]
    (tmp_path / "words.tsv").write_text("\n".join(["text\tstart\tduration", *rows]))
    stimulus = tribrain.Stimulus.from_text(tmp_path / "text.txt", transcript=tmp_path / "words.tsv")
    recipe = FeatureRecipe(backbones=NAMES)
    vectors = word_vectors_of(stimulus, recipe, backbones)
    contexts = literal_recipe.contexts_from_words(words, text)
    assert len(contexts[-1][0].split()) == 1024
    chosen = [0, 1, 2, *range(5, 1000, 61), 1021, *range(1022, 1030), *range(1040, 1150, 27), 1149]
    expected = literal_recipe.word_vectors(backbones / "tiny-llama", contexts, word_indices=chosen)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(vectors[chosen], expected, atol=1e-4)


def word_vectors_of(stimulus, recipe, backbones):
    from transformers import AutoTokenizer

    from tribrain.features.backbones import load_backbone
    from tribrain.stimuli.words import running_text

    folder = find_backbones(recipe, ["text"], backbones)["text"]
    backbone = load_backbone(folder, "text", recipe, "cpu")
    tokenizer = AutoTokenizer.from_pretrained(folder.path)
    running, spans = running_text(stimulus.words, stimulus.text)
    return makers.word_vectors(backbone, tokenizer, running, spans)


def test_picture_is_one_clip_repeated(tmp_path, backbones, monkeypatch):
    from PIL import Image

    from tribrain.features import video

    rng = np.random.default_rng(0)
    image = np.kron(rng.integers(0, 256, (5, 7, 1)), np.ones((10, 10, 3))).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "picture.png")
    runs = []
    run = video._run
    monkeypatch.setattr(video, "_run", lambda *args: runs.append(1) or run(*args))
    stimulus = tribrain.Stimulus.from_image(tmp_path / "picture.png", duration=12)
    series = extract(stimulus, backbones)["video"]
    assert len(runs) == 1
    assert np.abs(series[..., :24] - series[..., :1]).max() == 0
    assert not series[..., 24:].any()
    film = makers.write_film(tmp_path / "film.mp4", [image] * 40, rate=10)
    moving = extract(tribrain.Stimulus.from_video(film), backbones)["video"]
    assert relative_error(moving[..., 7], series[..., 7]) < 0.1  # the film is compressed


def test_frames_are_held_only_as_long_as_clips_show_them(tmp_path, backbones, monkeypatch):
    from tribrain.features import video

    frames = np.random.default_rng(0).integers(0, 256, (500, 36, 48, 3)).astype(np.uint8)
    film = makers.write_film(tmp_path / "film.mp4", frames, rate=25)
    alive, most = weakref.WeakSet(), [0]
    prepared = video.prepared_frames

    def watched(*args):
        for frame in prepared(*args):
            alive.add(frame)
            yield frame

    def run(*args):
        most[0] = max(most[0], len(alive))
        return clip(*args)

    clip = video._run
    monkeypatch.setattr(video, "prepared_frames", watched)
    monkeypatch.setattr(video, "_run", run)
    monkeypatch.setattr(video, "likely_batch", lambda backbone: 1)
    monkeypatch.setattr(video, "_READ_AHEAD", 10)
    extract(tribrain.Stimulus.from_video(film), backbones)
    # A clip's frames, those between two clips, and those read ahead.
    assert 64 <= most[0] <= 64 + 14 + 10 + 2


def test_a_film_and_a_sound_shorter_than_a_sample_have_no_series(tmp_path, backbones):
    frames = np.random.default_rng(0).integers(0, 256, (4, 36, 48, 3)).astype(np.uint8)
    film = makers.write_film(tmp_path / "blink.mp4", frames, rate=25)
    assert not extract(tribrain.Stimulus.from_video(film), backbones)["video"].any()
    sound = makers.write_sound(tmp_path / "click.wav", np.ones(1600), 16_000)
    with pytest.warns(tribrain.InputWarning, match="text is left out"):
        stimulus = tribrain.Stimulus.from_audio(sound)
    series = extract(stimulus, backbones)["audio"]
    assert series.shape == (2, 16, 200)
    assert not series.any()
