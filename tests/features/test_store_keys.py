"""What a kept piece depends on: changes that must be noticed, and those that must not cost work."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from makers import VOCABULARY, write_film
from tribrain.features import audio, sound, text, video, visual
from tribrain.features.extract import extract_features, find_backbones
from tribrain.features.pieces import Extractors, pieces_of
from tribrain.features.recipe import FeatureRecipe
from tribrain.features.store import Store
from tribrain.files import sha256
from tribrain.stimuli import media
from tribrain.stimuli.stimulus import Stimulus

NAMES = {"text": "tiny-llama", "audio": "tiny-w2v-bert", "video": "tiny-vjepa2"}
SIMPLE = {"audio": ("loudness", "voice"), "video": ("luminance", "contrast")}
ALL = {"text", "audio", "video"}
# Some of several tokens, none twice.
WORDS = [(word, 0.6 * place, 0.5) for place, word in enumerate(VOCABULARY[-13:])]
RATE = 8


def scenes(seconds, seed=0, frozen=()):
    """Frames of scenes that drift and change every few seconds; still in the `frozen` seconds."""
    rng = np.random.default_rng(seed)
    frames = []
    for number in range(seconds * RATE):
        if number % 50 == 0:
            base = rng.integers(0, 256, (9, 12, 3)).astype(np.uint8)
        if frozen and frozen[0] <= number / RATE < frozen[1]:
            frames.append(frames[-1])
        else:
            moved = np.roll(base, number // 3, axis=1)
            frames.append(np.kron(moved, np.ones((4, 4, 1), np.uint8)))
    return frames


def transcript(path, words):
    rows = [f"{word}\t{start}\t{length}" for word, start, length in words]
    path.write_text("\n".join(["text\tstart\tduration", *rows]))
    return path


def opened(film, words=WORDS):
    return Stimulus.open(film, transcript=transcript(film.with_suffix(".tsv"), words))


def extract(stimulus, backbones, store, modalities=None, precision="auto", **settings):
    recipe = FeatureRecipe(backbones=NAMES, **settings)
    modalities = modalities or stimulus.modalities
    extractors = Extractors(
        recipe, find_backbones(recipe, modalities, backbones), precision=precision
    )
    return extract_features(stimulus, extractors, modalities, window=20.0, store=store)


def extract_simple(stimulus, store, simple=SIMPLE, **settings):
    extractors = Extractors(FeatureRecipe(simple=simple, **settings))
    return extract_features(stimulus, extractors, list(simple), window=20.0, store=store)


def computed(features):
    """Modalities that were computed; none may be partly so."""
    assert all(not (one.computed and one.reused) for one in features.reuse.values())
    assert all(one.computed or one.reused for one in features.reuse.values())
    return {name for name, one in features.reuse.items() if one.computed}


def same(one, other):
    assert set(one) == set(other)
    assert all(one[name].any() for name in one)
    return all(np.array_equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """8 s of film with sound and 13 words."""
    noise = np.random.default_rng(1).normal(size=8 * 16_000) * 0.1
    path = tmp_path_factory.mktemp("original") / "film.mp4"
    return write_film(path, scenes(8), rate=RATE, sound=noise)


@pytest.fixture
def film(tmp_path, original):
    return shutil.copy(original, tmp_path / "film.mp4")


@pytest.fixture(scope="module")
def filled(tmp_path_factory, original, backbones):
    """A store that holds the features of the film, and these."""
    store = Store(tmp_path_factory.mktemp("filled") / "store", 2**30)
    features = extract(opened(original), backbones, store)
    assert computed(features) == ALL
    return store.folder, features


@pytest.fixture
def store(tmp_path, filled):
    return Store(shutil.copytree(filled[0], tmp_path / "store"), 2**30)


@pytest.fixture
def own_backbones(tmp_path, backbones):
    return shutil.copytree(backbones, tmp_path / "elsewhere" / "models")


# The stimulus


def test_a_second_run_computes_nothing(store, filled, film, backbones, monkeypatch):
    expected = filled[1]
    assert same(expected, extract(opened(film), backbones, None))
    monkeypatch.setattr(Extractors, "load", lambda *_: pytest.fail("a backbone was loaded"))
    again = extract(opened(film), backbones, store)
    assert computed(again) == set()
    assert same(again, expected)
    assert all(
        again[name].dtype == expected[name].dtype and again[name].flags.writeable for name in ALL
    )


def test_a_film_may_move_and_be_renamed(store, filled, film, backbones):
    (film.parent / "archive").mkdir()
    moved = film.rename(film.parent / "archive" / "Night – take 2.mp4")
    again = extract(opened(moved), backbones, store)
    assert computed(again) == set()
    assert same(again, filled[1])


def test_a_film_that_was_edited_is_computed_again(store, filled, film, backbones):
    noise = np.random.default_rng(2).normal(size=8 * 16_000) * 0.1
    write_film(film, scenes(8, seed=2), rate=RATE, sound=noise)
    again = extract(opened(film), backbones, store)
    assert computed(again) == {"audio", "video"}
    assert same(again, extract(opened(film), backbones, None))
    assert not np.array_equal(again["video"], filled[1]["video"])
    assert not np.array_equal(again["audio"], filled[1]["audio"])


def test_one_more_byte_is_an_edit(store, filled, film, backbones):
    with film.open("ab") as file:
        file.write(b"\0")
    again = extract(opened(film), backbones, store)
    assert computed(again) == {"audio", "video"}
    assert same(again, filled[1])


def test_a_word_may_move_in_time(store, filled, film, backbones):
    words = [(word, start + 0.03 * number, 0.2) for number, (word, start, _) in enumerate(WORDS)]
    again = extract(opened(film, words), backbones, store)
    assert computed(again) == set()
    assert same(again, extract(opened(film, words), backbones, None))
    assert not np.array_equal(again["text"], filled[1]["text"])


@pytest.mark.parametrize(
    "change",
    [
        lambda words: [*words[:5], ("smile", *words[5][1:]), *words[6:]],
        lambda words: [*words[:5], (words[5][0].upper(), *words[5][1:]), *words[6:]],
        lambda words: words[1:],
        lambda words: words[:-1],
        lambda words: [*words, ("end", 7.9, 0.1)],
        lambda words: [
            (other[0], *word[1:]) for word, other in zip(words, reversed(words), strict=True)
        ],
    ],
    ids=["another word", "capitals", "first left out", "last left out", "one more", "other order"],
)
def test_other_words_are_computed_again(store, filled, film, backbones, change):
    stimulus = opened(film, change(WORDS))
    again = extract(stimulus, backbones, store)
    assert computed(again) == {"text"}
    assert same(again, extract(stimulus, backbones, None))
    assert not np.array_equal(again["text"], filled[1]["text"])


def test_words_cut_otherwise_out_of_the_same_text_are_computed_again(store, film, backbones):
    """The same running text, one word of it not timed."""
    running = film.with_suffix(".txt")
    running.write_text(" ".join(word for word, _, _ in WORDS) + ".")
    every, fewer = (
        Stimulus.open(film, transcript=transcript(film.with_suffix(suffix), words), text=running)
        for suffix, words in ((".tsv", WORDS), (".other.tsv", [*WORDS[:4], *WORDS[5:]]))
    )
    first = extract(every, backbones, store, ["text"])
    second = extract(fewer, backbones, store, ["text"])
    assert computed(second) == {"text"}
    assert same(second, extract(fewer, backbones, None, ["text"]))
    assert not np.array_equal(first["text"], second["text"])


# The settings


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"depths": (0.25, 0.75, 1.0)}, ALL),
        ({"depths": (0.5, 1.0)}, ALL),
        ({"aggregation": "mean"}, ALL),
        ({"aggregation": "none"}, ALL),
        ({"frequency": 1.0}, {"audio", "video"}),
        ({"clip_seconds": 2.0}, {"video"}),
        ({"precision": "bf16"}, ALL),
        ({"context_words": 5, "context_stride": 3}, {"text"}),
        ({"context_words": 5, "exact_context": True}, {"text"}),
        # The words do not reach the limit: neither setting changes what any of them sees.
        ({"context_words": 13}, set()),
        ({"exact_context": True}, set()),
        ({"precision": "fp32"}, set()),
        ({"revisions": {"video": "v1"}}, set()),  # of a folder: its files count
    ],
    # Sets have no order: tests that run on several processes need the same names in each.
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value),
)
def test_other_settings_are_computed_again(store, filled, film, backbones, settings, expected):
    stimulus = opened(film)
    again = extract(stimulus, backbones, store, **settings)
    changed = {name for name, one in again.reuse.items() if one.computed}
    assert changed == expected
    assert same(again, extract(stimulus, backbones, None, **settings))
    for name in changed:
        assert not np.array_equal(again[name], filled[1][name])
    for before in ({}, settings):  # both are kept now, side by side
        assert computed(extract(stimulus, backbones, store, **before)) == set()


@pytest.mark.parametrize("pooling", ["first", "last"])
def test_another_pooling_is_computed_again(store, filled, film, backbones, pooling):
    again = extract(opened(film), backbones, store, ["text"], pooling=pooling)
    assert computed(again) == {"text"}
    assert same(again, extract(opened(film), backbones, None, ["text"], pooling=pooling))
    assert not np.array_equal(again["text"], filled[1]["text"])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"context_words": 20}, {"context_words": 21}),
        ({"context_words": 20}, {"context_words": 20, "exact_context": True}),
        ({"context_words": 20}, {"context_words": 20, "context_stride": 7}),
        ({"context_words": 20, "exact_context": True}, {"context_words": 9, "exact_context": True}),
    ],
    ids=str,
)
def test_contexts_beyond_the_limit(tmp_path, backbones, one, other):
    """Pieces that see the same may be shared; every number is as if nothing had been kept."""
    story = tmp_path / "story.txt"
    story.write_text(" ".join(np.random.default_rng(0).choice(VOCABULARY, 90)))
    stimulus, store = Stimulus.from_text(story), Store(tmp_path / "store", 2**30)
    one, other = ({"context_stride": 10} | settings for settings in (one, other))
    first = extract(stimulus, backbones, store, **one)
    second = extract(stimulus, backbones, store, **other)
    assert first.reuse["text"].computed > 0
    assert second.reuse["text"].computed > 0
    assert same(first, extract(stimulus, backbones, None, **one))
    assert same(second, extract(stimulus, backbones, None, **other))
    assert not np.array_equal(first["text"], second["text"])
    for settings in (one, other):
        assert computed(extract(stimulus, backbones, store, **settings)) == set()


# The models


@pytest.mark.parametrize("modality", sorted(ALL))
def test_other_weights_are_computed_again(store, filled, film, own_backbones, modality):
    file = own_backbones / NAMES[modality] / "model.safetensors"
    weights = load_file(file)
    name = next(name for name in sorted(weights) if "layer" in name and weights[name].ndim == 2)
    weights[name] = np.flip(weights[name]).copy()
    save_file(weights, file, {"format": "pt"})
    again = extract(opened(film), own_backbones, store)
    assert computed(again) == {modality}
    assert same(again, extract(opened(film), own_backbones, None))
    assert not np.array_equal(again[modality], filled[1][modality])


@pytest.mark.parametrize(
    ("modality", "name", "change"),
    [
        ("text", "tokenizer.json", lambda c: c["model"]["merges"].clear()),
        ("text", "config.json", lambda c: c.update(rms_norm_eps=0.1)),
        ("video", "video_preprocessor_config.json", lambda c: c.update(image_mean=[0, 0, 0])),
        ("audio", "preprocessor_config.json", lambda c: c.update(padding_value=0.5)),
    ],
)
def test_other_files_of_a_model_are_computed_again(
    store, filled, film, own_backbones, modality, name, change
):
    file = own_backbones / NAMES[modality] / name
    content = json.loads(file.read_text("utf-8"))
    change(content)
    file.write_text(json.dumps(content), "utf-8")
    again = extract(opened(film), own_backbones, store)
    assert computed(again) == {modality}
    assert same(again, extract(opened(film), own_backbones, None))
    if modality != "audio":  # nothing is padded there
        assert not np.array_equal(again[modality], filled[1][modality])


def test_models_may_move(store, filled, film, own_backbones):
    again = extract(opened(film), own_backbones, store)
    assert computed(again) == set()
    assert same(again, filled[1])


def test_models_from_the_hub_are_told_apart_by_name_and_commit(tmp_path, film, backbones):
    store, recipe = Store(tmp_path / "store", 2**30), FeatureRecipe(backbones=NAMES)
    local = find_backbones(recipe, ["text"], backbones)["text"]
    first = replace(local, name="a/llama", revision="1" * 40)
    for folder, expected in (
        (first, {"text"}),
        (replace(first, path=shutil.copytree(local.path, tmp_path / "copy")), set()),
        (replace(first, revision="2" * 40), {"text"}),
        (replace(first, name="b/llama"), {"text"}),
        (local, {"text"}),
    ):
        extractors = Extractors(recipe, {"text": folder})
        again = extract_features(opened(film), extractors, ["text"], window=20.0, store=store)
        assert computed(again) == expected


@pytest.mark.parametrize(
    ("modality", "module"), [("text", text), ("audio", audio), ("video", video)]
)
def test_a_new_version_of_an_extractor(store, film, backbones, monkeypatch, modality, module):
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    assert computed(extract(opened(film), backbones, store)) == {modality}
    assert computed(extract(opened(film), backbones, store)) == set()


# Simple features


@pytest.mark.parametrize(
    ("simple", "settings", "expected"),
    [
        (SIMPLE, {}, set()),
        ({**SIMPLE, "audio": ("loudness",)}, {}, {"audio"}),
        ({**SIMPLE, "audio": ("voice", "loudness")}, {}, {"audio"}),
        ({**SIMPLE, "video": ("luminance", "contrast", "colour")}, {}, {"video"}),
        (SIMPLE, {"frequency": 1.0}, {"audio", "video"}),
        (SIMPLE, {"depths": (1.0,), "clip_seconds": 1.0}, set()),
    ],
)
def test_simple_features(tmp_path, film, simple, settings, expected):
    store, stimulus = Store(tmp_path / "store", 2**30), opened(film)
    assert computed(extract_simple(stimulus, store)) == {"audio", "video"}
    again = extract_simple(stimulus, store, simple, **settings)
    assert computed(again) == expected
    assert same(again, extract_simple(stimulus, None, simple, **settings))


@pytest.mark.parametrize(("modality", "module"), [("audio", sound), ("video", visual)])
def test_a_new_version_of_simple_features(tmp_path, film, monkeypatch, modality, module):
    store, stimulus = Store(tmp_path / "store", 2**30), opened(film)
    extract_simple(stimulus, store)
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    assert computed(extract_simple(stimulus, store)) == {modality}


def test_simple_and_deep_features_do_not_meet(store, film, backbones):
    assert computed(extract_simple(opened(film), store)) == {"audio", "video"}
    assert computed(extract(opened(film), backbones, store)) == set()


def test_a_picture_shown_for_a_little_longer(tmp_path):
    """Both lengths have 40 samples; the last one of the shorter is in part without picture."""
    Image.fromarray(scenes(1)[0]).save(tmp_path / "picture.png")
    store = Store(tmp_path / "store", 2**30)
    for seconds in (20.0, 19.7):
        stimulus = Stimulus.from_image(tmp_path / "picture.png", duration=seconds)
        simple = {"video": SIMPLE["video"]}
        again = extract_simple(stimulus, store, simple)
        assert same(again, extract_simple(stimulus, None, simple))


# Chunks, and jumps to them


def encode(path, frames, codec="libx264", times=None, heard=None, **options):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = options
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if heard is not None:
            track = container.add_stream("aac", rate=16_000, layout="mono")
            block = av.AudioFrame.from_ndarray(heard[None], format="fltp", layout="mono")
            block.sample_rate = 16_000
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if heard is not None:
            container.mux(track.encode(block))
            container.mux(track.encode())
    return path


def uneven(n):
    steps = np.random.default_rng(3).choice([40, 80, 125, 210], n)
    return (np.cumsum(steps) * (n * 1000 / RATE / steps.sum())).astype(int).tolist()


LONG = {"x264-params": "keyint=250:min-keyint=250:scenecut=0"}
FILMS = {
    "default.mkv": {},
    "default.mp4": {},
    "long.mkv": LONG,
    "long.mp4": LONG,
    "open.mp4": {"x264-params": "keyint=48:open-gop=1:bframes=5:b-adapt=0"},
    "refresh.mkv": {"x264-params": "keyint=64:intra-refresh=1"},
    "uneven.mkv": {**LONG, "times": uneven},
    "uneven.mp4": {"times": uneven},
    "h264.avi": {},
    "mpeg4.avi": {"codec": "mpeg4", "bf": "2", "g": "100"},
    "vp9.webm": {"codec": "libvpx-vp9", "deadline": "realtime", "cpu-used": "8", "g": "128"},
    "vp8.webm": {"codec": "libvpx", "deadline": "good", "cpu-used": "5", "lag-in-frames": "16"},
}


JUMPS = ["long.mkv", "uneven.mp4", "h264.avi", "vp9.webm"]


@pytest.fixture(scope="module")
def pictures():
    return scenes(125, frozen=(55, 65))


@pytest.fixture(scope="module", params=FILMS)
def jumped(request, tmp_path_factory, pictures):
    """Films of 125 s (two chunks) in many ways of writing; a still lies across the border."""
    options = dict(FILMS[request.param])
    times = options.pop("times", lambda n: None)(len(pictures))
    path = tmp_path_factory.mktemp("jumped") / request.param
    return encode(path, pictures, times=times, **options)


def test_frames_after_a_jump_are_those_in_order(jumped):
    track = media.probe(jumped)[0]
    count = len(track.frame_times)
    in_order = dict(media.iter_frames(track, range(count)))
    assert len(in_order) == count >= 990
    assert (track.rate is None) == jumped.name.startswith("uneven")
    starts = [33, 480, 481, *np.random.default_rng(0).integers(40, count - 20, 6), count - 1]
    for start in starts:
        after_jump = dict(media.iter_frames(track, range(start, min(start + 20, count))))
        assert all(np.array_equal(frame, in_order[n]) for n, frame in after_jump.items())


def test_jumps_are_made_where_the_film_allows(tmp_path, pictures, monkeypatch):
    """The other tests would say nothing if all films were decoded from the start."""
    track = media.probe(encode(tmp_path / "film.mp4", pictures[:800], **LONG))[0]
    decoded, decode = [], media._decoded
    monkeypatch.setattr(
        media, "_decoded", lambda *args: (decoded.append(f) or f for f in decode(*args))
    )
    next(media.iter_frames(track, [700]))
    assert decoded[0].time == 500 / RATE


@pytest.mark.parametrize("jumped", JUMPS, indirect=True)
@pytest.mark.parametrize("kind", ["backbone", "simple"])
def test_vectors_after_a_jump_are_those_in_order(jumped, kind, backbones):
    recipe = FeatureRecipe(backbones=NAMES, frequency=0.5)
    folders = find_backbones(recipe, ["video"], backbones)
    if kind == "simple":
        recipe, folders = FeatureRecipe(simple={"video": ("contrast", "motion_energy")}), {}
    pieces = pieces_of(opened(jumped), "video", Extractors(recipe, folders), sha256)
    in_order = list(pieces.compute(range(len(pieces.keys)), lambda _: None))
    assert len(in_order) >= 2
    for number, expected in enumerate(in_order):
        assert expected.any()
        alone = next(pieces.compute([number], lambda _: None))
        assert np.array_equal(alone, expected)


@pytest.fixture(scope="module")
def long_film(tmp_path_factory):
    """5 min of film and sound: five chunks."""
    noise = np.random.default_rng(4).normal(size=300 * 16_000).astype(np.float32) * 0.1
    path = tmp_path_factory.mktemp("long") / "long.mkv"
    return encode(path, scenes(300), heard=noise, **LONG)


@pytest.mark.parametrize("kind", ["backbones", "simple"])
def test_a_chunk_that_is_lost_is_computed_alone(long_film, tmp_path, backbones, kind):
    stimulus, store = opened(long_film), Store(tmp_path / "store", 2**30)
    assert set(stimulus.modalities) == ALL

    def run(store):
        if kind == "simple":
            return extract_simple(stimulus, store)
        return extract(stimulus, backbones, store, ["audio", "video"], frequency=0.5)

    expected = run(store)
    assert all(one.computed >= 5 for one in expected.reuse.values())
    position = {"backbones": "start", "simple": "first"}[kind]
    kept = sorted(store.entries(), key=lambda entry: entry.key[position])
    for modality in ("audio", "video"):
        ours = [entry for entry in kept if entry.key["extractor"].endswith(modality)]
        for lost in (ours[0], ours[3], ours[-1]):
            lost.manifest.unlink()
            again = run(store)
            assert {one.computed for one in again.reuse.values()} == {0, 1}
            assert again.reuse[modality].reused == len(ours) - 1
            assert same(again, expected)
