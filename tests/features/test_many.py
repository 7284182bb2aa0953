"""Many stimuli at once: each model loaded once, one bad file no harm, work that goes on."""

from __future__ import annotations

import gc
import json
import shutil
import weakref

import numpy as np
import pytest

from makers import VOCABULARY, published_config, write_film, write_sound
from tribrain.encoder.published import feature_recipe
from tribrain.errors import InputError
from tribrain.features import many, pieces
from tribrain.features.extract import extract_features, find_backbones
from tribrain.features.grid import n_rows
from tribrain.features.many import Job, extract_many
from tribrain.features.pieces import Extractors
from tribrain.features.recipe import FeatureRecipe, load_recipe
from tribrain.features.sources import find_sources
from tribrain.features.store import Store
from tribrain.files import sha256
from tribrain.stimuli.stimulus import Stimulus

DEEP = feature_recipe(published_config())
PLAIN = load_recipe("debug")
# A sound given by itself, without its words, is not what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore::tribrain.errors.InputWarning")
MODALITIES = ("text", "audio", "video")


def write_words(path, seed, seconds):
    rng = np.random.default_rng(seed)
    rows = [f"{rng.choice(VOCABULARY)}\t{start}\t0.3" for start in np.arange(0, seconds, 0.5)]
    path.write_text("\n".join(["text\tstart\tduration", *rows]))


def make_film(path, seed, seconds=2.0, shape=(32, 32)):
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (int(10 * seconds), *shape, 3)).astype(np.uint8)
    sound = 0.1 * rng.normal(size=int(16_000 * seconds))
    write_words(path.with_name(f"{path.stem}_words.tsv"), seed, seconds)
    return write_film(path, frames, rate=10, sound=sound)


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """Two films, a sound and a text, all with words."""
    folder = tmp_path_factory.mktemp("media")
    make_film(folder / "a.mp4", 1)
    make_film(folder / "b.mp4", 2, seconds=3.0)
    write_sound(folder / "c.wav", 0.1 * np.random.default_rng(3).normal(size=32_000), 16_000)
    write_words(folder / "c_words.tsv", 3, 2.0)
    (folder / "d.txt").write_text("The old man pulled the boat across wet sand.")
    return folder


@pytest.fixture
def make_job(tmp_path, backbones):
    def make_job(recipe=PLAIN, **changes):
        modalities = changes.pop("modalities", recipe.modalities)
        folders = find_backbones(recipe, modalities, changes.pop("backbones", backbones))
        settings = {"cache": tmp_path / "cache", "out": tmp_path / "out"}
        return Job(recipe, folders, modalities, **settings | changes)

    return make_job


@pytest.fixture
def loads(monkeypatch):
    """Modalities of the backbones in the order they are loaded, and those still in memory."""
    load, loaded, alive = pieces.load_backbone, [], []

    def counted(folder, modality, *args, **kwargs):
        gc.collect()
        loaded.append((modality, [name for name, model in alive if model() is not None]))
        backbone = load(folder, modality, *args, **kwargs)
        alive.append((modality, weakref.ref(backbone.model)))
        return backbone

    monkeypatch.setattr(pieces, "load_backbone", counted)
    return loaded


def numbers(path):
    with np.load(path, allow_pickle=False) as content:
        return {name: content[name] for name in content.files if name != "about"}


def about(path):
    with np.load(path, allow_pickle=False) as content:
        return json.loads(str(content["about"]))


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# Models and memory


def test_each_model_is_loaded_once_and_is_alone_in_memory(media, make_job, loads):
    outcomes = extract_many(find_sources([media]), make_job(DEEP))
    assert [outcome.error for outcome in outcomes] == [None] * 4
    assert loads == [("text", []), ("audio", []), ("video", [])]
    assert {o.name: list(o.reuse) for o in outcomes} == {
        "a": list(MODALITIES),
        "b": list(MODALITIES),
        "c": ["text", "audio"],
        "d": ["text"],
    }


def test_a_second_run_computes_nothing_and_loads_nothing(media, make_job, loads, tmp_path):
    job = make_job(DEEP)
    sources = find_sources([media])
    first = extract_many(sources, job)
    assert all(r.computed > 0 == r.reused for o in first for r in o.reuse.values())
    written = {path.name: numbers(path) for path in (tmp_path / "out").iterdir()}
    loads.clear()
    again = extract_many(sources, make_job(DEEP, out=tmp_path / "again"))
    assert loads == []
    assert all(r.reused > 0 == r.computed for o in again for r in o.reuse.values())
    assert str(again[3]) == "d: text 1 pieces (1 reused)"
    for name, expected in written.items():
        assert_same(numbers(tmp_path / "again" / name), expected)


def test_only_what_is_missing_is_computed(media, make_job, loads):
    extract_many(find_sources([media / "d.txt"]), make_job(DEEP))
    loads.clear()
    outcomes = extract_many(find_sources([media / "d.txt", media / "c.wav"]), make_job(DEEP))
    assert [name for name, _ in loads] == ["audio"]  # the words of c are not asked for here
    assert [o.reuse["text"].computed for o in outcomes if "text" in o.reuse] == [0]


def test_a_store_too_small_for_anything_changes_no_number(media, make_job, tmp_path):
    sources = find_sources([media])
    extract_many(sources, make_job(DEEP))
    small = make_job(DEEP, limit=1, cache=tmp_path / "small", out=tmp_path / "other")
    outcomes = extract_many(sources, small)
    assert [outcome.error for outcome in outcomes] == [None] * 4
    for outcome in outcomes:
        assert_same(numbers(outcome.written), numbers(tmp_path / "out" / outcome.written.name))


# Bad files


@pytest.fixture
def damaged(media, tmp_path):
    """The media in a folder of their own, with files among them that cannot be read."""
    folder = tmp_path / "media"
    shutil.copytree(media, folder)
    whole = (media / "b.mp4").read_bytes()
    (folder / "a1.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "a2.mp4").write_text("This is a text, and no film at all.\n" * 40)
    (folder / "a3.wav").touch()
    (folder / "c_words.tsv").write_text("text\tstart\tduration\nsea\tsoon\t0.3\n")
    return folder


def test_a_bad_file_is_reported_and_the_others_are_complete(damaged, make_job, media, tmp_path):
    sources = find_sources([damaged, damaged / "gone.mp4"])
    said = []
    outcomes = extract_many(sources, make_job(DEEP), said=said.append)
    assert said == outcomes
    assert [outcome.name for outcome in outcomes] == ["a", "a1", "a2", "a3", "b", "c", "d", "gone"]
    errors = {outcome.name: outcome.error for outcome in outcomes if outcome.error}
    assert errors.keys() == {"a1", "a2", "a3", "c", "gone"}
    assert all("\n" not in error for error in errors.values())
    assert "a1.mp4 cannot be read as video or sound" in errors["a1"]
    assert "a2.mp4 cannot be read as video or sound" in errors["a2"]
    assert "'soon' is not a time" in errors["c"]
    assert "gone.mp4 does not exist" in errors["gone"]
    assert str(outcomes[-1]) == f"gone: failed: {errors['gone']}"
    assert files_in(tmp_path / "out") == [f"{name}_features.npz" for name in "abd"]
    alone = make_job(DEEP, out=tmp_path / "alone", cache=tmp_path / "other")
    for outcome in extract_many(find_sources([media / "a.mp4", media / "d.txt"]), alone):
        expected = numbers(outcome.written)
        written = numbers(tmp_path / "out" / outcome.written.name)
        assert_same({name: written[name] for name in expected}, expected)


@pytest.mark.parametrize("name", ["a.mp4", "c.wav"])
def test_a_file_that_breaks_while_it_is_read(media, make_job, monkeypatch, name):
    """Whatever a decoder raises in the middle of one file, the rest goes on."""
    original = pieces._simple_medium

    def broken(stimulus, *args):
        made = original(stimulus, *args)
        if stimulus.path.name != name:
            return made

        def compute(numbers, tick):
            raise ZeroDivisionError("\n  the decoder tripped\n over itself")

        return pieces.Pieces(made.keys, made.units, compute, made.spans)

    monkeypatch.setattr(pieces, "_simple_medium", broken)
    outcomes = extract_many(find_sources([media]), make_job())
    errors = {outcome.name: outcome.error for outcome in outcomes if outcome.error}
    assert errors == {name[0]: "ZeroDivisionError: the decoder tripped"}
    assert sum(outcome.written is not None for outcome in outcomes) == 3


def test_a_broken_backbone_stops_all_in_one_line(media, make_job, backbones, tmp_path):
    folder = tmp_path / "backbones"
    shutil.copytree(backbones, folder)
    (folder / "tiny-w2v-bert" / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match="tiny-w2v-bert") as refusal:
        extract_many(find_sources([media]), make_job(DEEP, backbones=folder))
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out").exists()
    # What was worked out before it is kept.
    fine = extract_many(find_sources([media]), make_job(DEEP))
    assert [outcome.reuse["text"].computed for outcome in fine] == [0] * 4


# What is written


@pytest.mark.parametrize("name", ["b.mp4", "d.txt"])
@pytest.mark.parametrize("recipe", [DEEP, PLAIN], ids=["deep", "plain"])
def test_what_is_written_is_what_extract_features_gives(media, make_job, recipe, name):
    (source,) = find_sources([media / name])
    if name == "b.mp4":
        (source,) = (one for one in find_sources([media]) if one.name == "b")
    job = make_job(recipe)
    (outcome,) = extract_many([source], job)
    stimulus = Stimulus.open(source.path, transcript=source.transcript)
    extractors = Extractors(recipe, job.folders)
    window = float(n_rows(stimulus.duration))
    expected = extract_features(stimulus, extractors, MODALITIES, window=window)
    written = numbers(outcome.written)
    np.testing.assert_array_equal(written.pop("time"), np.arange(2 * window) / 2)
    assert_same(written, dict(expected))
    for values in written.values():
        assert values.dtype == np.float32
        assert values.ndim == 3
        assert values.shape[-1] == 2 * window
    facts = about(outcome.written)
    assert facts["stimulus"]["sha256"] == sha256(source.path)
    assert facts["stimulus"]["name"] == source.name
    assert facts["frequency_hz"] == 2.0
    assert facts["depths"] == ([0.5, 0.75, 1.0] if recipe is DEEP else [])
    if recipe is DEEP:
        assert facts["backbones"]["text"]["name"] == "tiny-llama"
        assert facts["columns"] == {}
    else:
        assert facts["columns"]["text"] == ["word_rate"]
        assert [facts["columns"].keys(), facts["backbones"]] == [expected.keys(), {}]


def test_zarr_holds_the_same_and_opens_in_xarray(media, make_job, tmp_path):
    import xarray as xr

    sources = find_sources([media])
    extract_many(sources, make_job())
    outcomes = extract_many(sources, make_job(output="zarr"))
    for outcome in outcomes:
        assert outcome.written == tmp_path / "out" / f"{outcome.name}_features.zarr"
        expected = numbers(outcome.written.with_suffix(".npz"))
        with xr.open_zarr(outcome.written, consolidated=False) as content:
            assert set(content.data_vars) == expected.keys() - {"time"}
            for name, values in content.data_vars.items():
                assert values.dims == (f"{name}_layer", f"{name}_dim", "time")
                np.testing.assert_array_equal(values.values, expected[name])
            np.testing.assert_array_equal(content["time"].values, expected["time"])
            assert content["time"].attrs["units"] == "s"
            facts = json.loads(content.attrs["about"])
        assert facts == about(outcome.written.with_suffix(".npz"))


@pytest.mark.parametrize("output", ["npz", "zarr"])
def test_an_output_of_another_stimulus_is_kept(media, make_job, tmp_path, output):
    def run(**changes):
        (outcome,) = extract_many([source], make_job(output=output, **changes))
        return outcome

    own = tmp_path / "own"
    own.mkdir()
    shutil.copy(media / "d.txt", own / "story.txt")
    (source,) = find_sources([own / "story.txt"])
    first = run()
    assert run().error is None  # its own output is replaced
    (own / "story.txt").write_text("Nobody noticed the old man.")
    before = content_of(first.written)
    refused = run()
    assert refused.written is None
    assert "was made of another stimulus; --overwrite replaces it" in refused.error
    assert content_of(first.written) == before
    assert run(overwrite=True).error is None
    assert content_of(first.written) != before
    damage = next(
        path for path in [first.written, *first.written.rglob("*.json")] if path.is_file()
    )
    damage.write_bytes(b"damaged")
    assert "another stimulus" in run().error
    assert files_in(tmp_path / "out")[0] == f"story_features.{output}"


def content_of(path):
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    return [(file.name, file.read_bytes()) for file in files]


def test_without_a_folder_only_the_store_is_filled(media, make_job, tmp_path):
    outcomes = extract_many(find_sources([media]), make_job(out=None))
    assert {outcome.written for outcome in outcomes} == {None}
    assert files_in(tmp_path)[0] == "cache"
    assert not [name for name in files_in(tmp_path) if not name.startswith("cache")]


def test_a_stimulus_without_what_the_recipe_reads_is_no_failure(media, make_job, tmp_path):
    job = make_job(FeatureRecipe(simple={"video": ("contrast",)}))
    (outcome,) = extract_many(find_sources([media / "d.txt"]), job)
    assert (outcome.error, outcome.written) == (None, None)
    assert str(outcome) == "d: nothing that the recipe reads"
    assert not (tmp_path / "out").exists()


# Work that is cut short


@pytest.mark.parametrize(("modality", "kept"), [("text", 1), ("audio", 3)])
def test_work_cut_short_goes_on_from_where_it_was(media, make_job, tmp_path, modality, kept):
    """Two films with a piece of each modality; stopped when the second one's is worked out."""
    sources = [one for one in find_sources([media]) if one.name in "ab"]

    def interrupt(name, done, total):
        if name == modality and done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_many(sources, make_job(DEEP), progress=interrupt)
    assert not (tmp_path / "out").exists()
    assert Store(tmp_path / "cache").verify()[1] == []
    leftovers = [name for name in files_in(tmp_path) if ".partial" in name]
    assert leftovers == []
    outcomes = extract_many(sources, make_job(DEEP))
    done = sum(reuse.reused for outcome in outcomes for reuse in outcome.reuse.values())
    assert done == kept
    whole = make_job(DEEP, cache=tmp_path / "other", out=tmp_path / "whole")
    for one, other in zip(outcomes, extract_many(sources, whole), strict=True):
        assert_same(numbers(one.written), numbers(other.written))


def test_interrupted_while_writing_leaves_whole_files_alone(media, make_job, tmp_path, monkeypatch):
    savez, written = np.savez, []

    def interrupt(path, **arrays):
        written.append(path)
        if len(written) == 2:
            path.write_bytes(b"half")
            raise KeyboardInterrupt
        savez(path, **arrays)

    monkeypatch.setattr(many.np, "savez", interrupt)
    with pytest.raises(KeyboardInterrupt):
        extract_many(find_sources([media]), make_job())
    assert files_in(tmp_path / "out") == ["a_features.npz"]
    assert [path.name for path in tmp_path.iterdir() if ".partial" in path.name] == []
    monkeypatch.setattr(many.np, "savez", savez)
    outcomes = extract_many(find_sources([media]), make_job())
    assert all(outcome.written.is_file() for outcome in outcomes)


def test_progress_counts_all_stimuli_of_a_modality(media, make_job):
    calls = []
    job = make_job(DEEP)
    extract_many(find_sources([media]), job, progress=lambda *call: calls.append(call))
    for modality, total in {"text": 4 + 6 + 4 + 9, "audio": 3, "video": 4 + 6}.items():
        own = [(done, of) for name, done, of in calls if name == modality]
        assert {of for _, of in own} == {total}
        assert [done for done, _ in own] == sorted(done for done, _ in own)
        assert own[-1] == (total, total)
