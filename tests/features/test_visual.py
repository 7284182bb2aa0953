"""Visual features in pieces: known truths, cuts that do not show, films of any kind."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from makers import textbook_visual, write_film
from tribrain.errors import InputError
from tribrain.features import visual
from tribrain.features.motion_energy import FILTERS
from tribrain.features.visual import (
    FRAME_RATE,
    VISUAL,
    VISUAL_FEATURES,
    visual_pieces,
)
from tribrain.stimuli.media import VideoTrack, iter_frames, picture_track, probe

ALL = list(VISUAL)
COLUMNS = [column for name in ALL for column in VISUAL[name].columns]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small products on many threads wait for each other where the machine is shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def video(path: Path) -> VideoTrack:
    track = probe(path)[0]
    assert track is not None
    return track


def noise(n: int, height: int = 36, width: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, height, width, 3), np.uint8)


def whole(track: VideoTrack, names: list[str], n: int, frequency: float = 2.0) -> np.ndarray:
    return next(visual_pieces(track, names, [(0, n)], frequency))


@pytest.fixture(scope="module")
def busy(tmp_path_factory) -> tuple[VideoTrack, np.ndarray]:
    """A film of 6.5 s with cuts, a still part and moving noise, and all its values at 4 Hz."""
    frames = noise(78)
    frames[20:35] = frames[20]
    frames[35:60] = np.stack([np.roll(frames[35], 2 * k, axis=1) for k in range(25)])
    path = write_film(tmp_path_factory.mktemp("busy") / "busy.mp4", frames, rate=FRAME_RATE)
    track = video(path)
    return track, whole(track, ALL, 30, 4.0)


@settings(max_examples=12, deadline=None)
@given(
    edges=st.sets(st.integers(0, 30), min_size=2, max_size=8),
    left_out=st.sets(st.integers(0, 8), max_size=4),
    block=st.sampled_from([5, 17, 480]),
)
def test_cuts_between_pieces_do_not_show(busy, edges, left_out, block):
    track, values = busy
    cuts = sorted(edges)
    pieces = [(a, b - a) for a, b in pairwise(cuts)]
    pieces = [piece for k, piece in enumerate(pieces) if k not in left_out]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(visual, "_BLOCK", block)
        found = list(visual_pieces(track, ALL, pieces, 4.0))
    assert len(found) == len(pieces)
    for part, (first, n) in zip(found, pieces, strict=True):
        assert part.dtype == np.float32
        np.testing.assert_allclose(part, values[:, first : first + n], rtol=0, atol=1e-6)


def test_pieces_of_a_minute_are_those_of_the_whole_film(tmp_path):
    scene = np.random.default_rng(1).integers(0, 256, (45, 16, 64, 3), np.uint8)
    frames = [np.roll(scene[k // 48], k, axis=1) for k in range(45 * 48)]
    track = video(write_film(tmp_path / "long.mp4", frames, rate=FRAME_RATE))
    assert track.duration == pytest.approx(180)
    parts = list(visual_pieces(track, ALL, [(0, 120), (120, 120), (240, 120)], 2.0))
    values = whole(track, ALL, 360)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), values, rtol=0, atol=1e-6)
    assert values.std(axis=1).min() > 0


def test_columns_come_in_the_order_of_the_names(busy):
    track, values = busy
    names = ["colour", "motion_energy", "luminance"]
    found = whole(track, names, 30, 4.0)
    rows = [COLUMNS.index(column) for name in names for column in VISUAL[name].columns]
    np.testing.assert_allclose(found, values[rows], rtol=0, atol=1e-6)
    assert len(COLUMNS) == len(set(COLUMNS))


def test_series_of_the_textbook_model_are_the_named_columns(busy):
    track, values = busy
    found = textbook_visual(track, 30, 4.0)
    expected = values[[COLUMNS.index(name) for name in VISUAL_FEATURES]]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_slow_samples_are_means_of_fast_ones(busy):
    track, _ = busy
    fast, slow = whole(track, ALL, 72, 12.0), whole(track, ALL, 3, 0.5)
    expected = fast.reshape(len(fast), 3, 24).mean(axis=2)
    np.testing.assert_allclose(slow, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(fast[:, ::6] - fast[:, 1::6]).max() > 0.1


@pytest.mark.parametrize("name", ALL)
def test_value_sees_as_far_as_its_reach(name):
    feature = VISUAL[name]
    frames = torch.from_numpy(noise(13)).permute(0, 3, 1, 2).float() / 255
    value = feature.describe(frames)[6]
    seen = []
    for distance in range(-6, 7):
        other = frames.clone()
        other[6 + distance] = 0
        if not torch.allclose(feature.describe(other)[6], value, rtol=1e-5):
            seen.append(distance)
    assert max(map(abs, seen)) == feature.reach


def test_values_after_the_end_of_the_film_are_zero(busy):
    track, values = busy
    assert values[:, :26].any(axis=0).all()  # 6.5 s at 4 Hz
    assert not values[:, 26:].any()
    inside, across, beyond = visual_pieces(track, ALL, [(0, 2), (24, 6), (1000, 3)], 4.0)
    np.testing.assert_allclose(inside, values[:, :2], rtol=0, atol=1e-6)
    np.testing.assert_allclose(across, values[:, 24:30], rtol=0, atol=1e-6)
    assert beyond.shape == (len(COLUMNS), 3)
    assert not beyond.any()


def test_luminance_is_the_mean_luma_of_each_half(tmp_path):
    image = np.zeros((36, 64, 3), np.uint8)
    image[:, :32] = (255, 0, 0)
    image[:18, 32:] = (0, 255, 0)
    Image.fromarray(image).save(tmp_path / "p.png")
    found = whole(picture_track(tmp_path / "p.png", 2.0), ["luminance"], 4)
    np.testing.assert_allclose(found, [[0.2126] * 4, [0.7152 / 2] * 4], rtol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(64, 36), (16, 256), (48, 64), (18, 32), (90, 30)])
def test_columns_are_the_same_for_films_of_any_shape(tmp_path, height, width):
    path = write_film(tmp_path / "f.mp4", noise(12, height, width), rate=FRAME_RATE)
    found = whole(video(path), ALL, 2)
    assert found.shape == (2 * 3 + 1 + len(FILTERS), 2)
    assert np.isfinite(found).all()
    assert (found > 0).all()


@pytest.mark.parametrize(("step", "direction"), [(1, 0), (-1, 180)])
def test_film_that_drifts_drives_the_columns_of_its_direction(tmp_path, step, direction):
    x = np.arange(64)
    # 2 cycles in the centre square of 36 pixels, twice a second.
    waves = [np.sin(2 * np.pi * (2 * x / 35 - step * 2 * k / FRAME_RATE)) for k in range(48)]
    frames = np.broadcast_to((128 + 100 * np.array(waves))[:, None, :, None], (48, 36, 64, 3))
    track = video(write_film(tmp_path / "f.mp4", frames.astype(np.uint8), rate=FRAME_RATE))
    answers = whole(track, ["motion_energy"], 8)[:, 4]
    values = dict(zip(VISUAL["motion_energy"].columns, answers, strict=True))
    found = {d: values[f"motion_energy_sf2_tf2_dir{d}_x0.5_y0.5"] for d in range(0, 360, 45)}
    assert max(found, key=found.__getitem__) == direction
    assert found[direction] - found[180 - direction] > np.log(5)


def test_variable_frame_rate_is_looked_at_by_the_clock(tmp_path):
    levels = [40, 200, 90, 150, 20]
    times = [0, 250, 1000, 1125, 2500]  # ms
    frames = [np.full((36, 64, 3), level, np.uint8) for level in levels]
    track = video(write_film(tmp_path / "f.mkv", frames, times=times))
    assert track.rate is None
    found = whole(track, ["luminance"], 30, 12.0)[0]
    shown = np.searchsorted(times, np.arange(30) * 1000 / 12 + 1e-6, side="right") - 1
    np.testing.assert_allclose(found, np.array(levels)[shown] / 255, atol=0.02)
    parts = list(visual_pieces(track, ["luminance"], [(1, 4), (11, 19)], 12.0))
    np.testing.assert_allclose(
        np.concatenate(parts, axis=1)[0], found[[*range(1, 5), *range(11, 30)]]
    )


@pytest.mark.parametrize("frequency", [5.0, 24.0, 0.0, -2.0, float("nan"), 2.1])
def test_frequency_that_does_not_divide_12_is_refused(busy, frequency):
    with pytest.raises(InputError, match=r"12, 6, 4, 3, 2, 1, 0\.5"):
        visual_pieces(busy[0], ["colour"], [(0, 4)], frequency)


@pytest.mark.parametrize("names", [["colour", "sharpness"], []])
def test_unknown_feature_is_refused_and_known_ones_named(busy, names):
    with pytest.raises(InputError, match="luminance, contrast, motion, colour, motion_energy"):
        visual_pieces(busy[0], names, [(0, 4)], 2.0)


@pytest.mark.parametrize("pieces", [[(4, 2), (0, 2)], [(0, 3), (2, 2)], [(-1, 2)]])
def test_pieces_out_of_order_are_refused(busy, pieces):
    with pytest.raises(AssertionError):
        visual_pieces(busy[0], ["colour"], pieces, 2.0)


def test_film_is_decoded_once_and_only_the_frames_needed(busy, monkeypatch):
    calls: list[list[int]] = []

    def counted(track, numbers, size=None):
        calls.append([])
        for number, frame in iter_frames(track, numbers, size):
            calls[-1].append(number)
            yield number, frame

    monkeypatch.setattr(visual, "iter_frames", counted)
    list(visual_pieces(busy[0], ["motion"], [(2, 1), (3, 1), (16, 2)], 4.0))
    sizing, frames = calls
    assert sizing == [0]
    assert frames == [*range(6 - 4, 12 + 4), *range(48 - 4, 54 + 4)]


def test_memory_does_not_grow_with_the_film(tmp_path, monkeypatch):
    monkeypatch.setattr(visual, "_BLOCK", 24)

    def peak(n: int) -> int:
        track = video(write_film(tmp_path / f"{n}.mp4", noise(n, 48, 64), rate=FRAME_RATE))
        pieces = [(first, 8) for first in range(0, n // 6, 8)]
        tracemalloc.start()
        for _ in visual_pieces(track, ["luminance"], pieces, 2.0):
            pass
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    assert peak(480) < 1.3 * peak(144)


def test_picture_and_shortest_film_have_values(tmp_path):
    Image.fromarray(noise(1)[0]).save(tmp_path / "p.png")
    found = whole(picture_track(tmp_path / "p.png", 0.04), ALL, 2)
    assert (found[[COLUMNS.index("luminance_left"), COLUMNS.index("contrast_left")], 0] > 0).all()
    assert not found[:, 1].any()
