"""Batches that shrink when memory runs out, and reading ahead in a thread."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

import makers
import tribrain
from tribrain.errors import InputError
from tribrain.features import video
from tribrain.features.extract import extract_features, find_backbones
from tribrain.features.pieces import Extractors
from tribrain.features.recipe import FeatureRecipe
from tribrain.features.running import Batches, read_ahead

THREAD = "tribrain-read-ahead"


def real_allocator_error() -> RuntimeError:
    """What PyTorch raises when the machine has not got the memory."""
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60, dtype=torch.uint8)
    assert type(error.value) is RuntimeError
    return error.value


ERRORS = {
    "cuda": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    "cpu": real_allocator_error,
    "mps": lambda: RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    "windows": lambda: RuntimeError("DefaultCPUAllocator: not enough memory: you tried to"),
    "python": lambda: MemoryError(),
}


def limited(most: int, error, seen: list[int]):
    """A run that takes at most `most` items and doubles them."""

    def run(items):
        seen.append(len(items))
        if len(items) > most:
            raise error()
        return [2 * item for item in items]

    return run


@pytest.mark.parametrize("name", ERRORS)
def test_a_batch_is_halved_until_it_fits_and_stays_so(name):
    seen: list[int] = []
    batches = Batches(limited(3, ERRORS[name], seen), 16)
    assert batches(list(range(20))) == [2 * item for item in range(20)]
    assert seen == [16, 8, 4, *[2] * 10]
    assert batches.size == 2
    assert batches([5, 6, 7]) == [10, 12, 14]
    assert seen[-2:] == [2, 1]


def test_a_batch_that_fits_keeps_its_size():
    seen: list[int] = []
    batches = Batches(limited(8, ERRORS["cuda"], seen), 8)
    assert batches(list(range(19))) == [2 * item for item in range(19)]
    assert seen == [8, 8, 3]
    assert batches([]) == []
    assert batches.size == 8


@pytest.mark.parametrize("name", ERRORS)
def test_one_item_that_does_not_fit_is_one_line(name):
    seen: list[int] = []
    with pytest.raises(InputError, match="memory does not do for one piece") as error:
        Batches(limited(0, ERRORS[name], seen), 4)([1, 2, 3, 4])
    assert seen == [4, 2, 1]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ValueError("no"), KeyError])
def test_other_errors_pass_through(error):
    def run(items):
        raise error

    with pytest.raises(error if isinstance(error, type) else type(error)) as caught:
        Batches(run, 4)([1, 2])
    assert not isinstance(caught.value, InputError)


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD]


def test_items_come_in_order():
    assert list(read_ahead(iter(range(50)), 3)) == list(range(50))
    assert list(read_ahead([], 3)) == []
    assert not reading_threads()


def test_no_more_than_so_many_items_are_read_ahead():
    made = []

    def items():
        for item in range(30):
            made.append(item)
            yield item

    reader = read_ahead(items(), 4)
    for taken in range(1, 21):
        assert next(reader) == taken - 1
        time.sleep(0.01)
        # Those that wait, and one in the thread's hand.
        assert len(made) <= taken + 4 + 1
    deadline = time.monotonic() + 5
    while len(made) < 20 + 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(made) >= 20 + 4  # that many are read without being asked for
    reader.close()


def test_an_error_is_raised_where_the_items_are_taken():
    def items():
        yield 1
        yield 2
        raise InputError("the film is broken here")

    reader = read_ahead(items(), 8)
    assert [next(reader), next(reader)] == [1, 2]
    with pytest.raises(InputError, match="broken here"):
        next(reader)
    assert not reading_threads()


@pytest.mark.parametrize("how", ["close", "forget", "error"])
def test_who_stops_early_stops_the_thread(how):
    closed = []

    def items():
        try:
            yield from range(1000)
        finally:
            closed.append(threading.current_thread().name)

    reader = read_ahead(items(), 2)
    assert next(reader) == 0
    assert len(reading_threads()) == 1
    if how == "close":
        reader.close()
    elif how == "forget":
        del reader
    else:
        with pytest.raises(ValueError, match="elsewhere"):
            reader.throw(ValueError("elsewhere"))
    assert not reading_threads()
    assert closed == [THREAD]


def extract(film, backbones, names=("tiny-vjepa2",)):
    recipe = FeatureRecipe(backbones={"video": names[0]})
    extractors = Extractors(recipe, find_backbones(recipe, ["video"], backbones))
    stimulus = tribrain.Stimulus.from_video(film)
    return extract_features(stimulus, extractors, ["video"], window=20.0)["video"]


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (48, 36, 48, 3)).astype(np.uint8)
    return makers.write_film(tmp_path_factory.mktemp("film") / "film.mp4", frames, rate=6)


def test_film_that_fills_the_memory_gives_the_same_numbers(film, backbones, monkeypatch):
    monkeypatch.setattr(video, "likely_batch", lambda backbone: 8)
    expected = extract(film, backbones)
    sizes, run = [], video._run

    def scarce(backbone, preparation, clips):
        forward = backbone.model.forward

        def limited_forward(*args, **kwargs):
            n_clips = len(kwargs["pixel_values_videos"])
            sizes.append(n_clips)
            if n_clips > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return forward(*args, **kwargs)

        backbone.model.forward = limited_forward
        try:
            return run(backbone, preparation, clips)
        finally:
            backbone.model.forward = forward

    monkeypatch.setattr(video, "_run", scarce)
    np.testing.assert_allclose(extract(film, backbones), expected, atol=1e-5)
    assert sizes == [8, 4, *[2] * 8]
    assert np.abs(np.diff(expected[..., :16], axis=-1)).max() > 0.01


def test_film_whose_clips_never_fit_is_one_line_and_leaves_no_thread(film, backbones, monkeypatch):
    def none_fits(*args):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(video, "_run", none_fits)
    with pytest.raises(InputError, match="a lower --precision"):
        extract(film, backbones)
    assert not reading_threads()
