"""Every frame comes under its number, upright and in its colours."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import makers
import media_makers
from media_makers import (
    HEIGHT,
    PLAIN_FILMS,
    VARYING,
    WIDTH,
    film_track,
    numbers_in,
    read_barcode,
    write_barcodes,
)
from tribrain.stimuli.media import VideoTrack, iter_frames

# Fixtures: pytest finds them under this module's own names.
films = media_makers.films


# Frames


@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("rate", [25, Fraction(30_000, 1001), Fraction(24_000, 1001)])
@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        ("mp4", "libx264"),
        ("mov", "libx264"),
        ("mkv", "libx264"),
        ("mkv", "mpeg4"),
        ("avi", "libx264"),
        ("avi", "mpeg4"),
        ("webm", "libvpx"),
    ],
)
def test_every_frame_of_a_constant_rate_comes_under_its_number(
    tmp_path, suffix, codec, rate, b_frames
):
    track = film_track(write_barcodes(tmp_path / f"f.{suffix}", 60, codec, rate, b_frames=b_frames))
    assert track.rate == pytest.approx(float(rate))
    assert track.duration == pytest.approx(60 / float(rate))
    assert numbers_in(track) == {number: number for number in range(60)}


@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize(
    ("suffix", "codec"),
    [("mp4", "libx264"), ("mkv", "libx264"), ("webm", "libvpx"), ("mkv", "mpeg4")],
)
def test_every_frame_of_a_varying_rate_comes_under_its_number(tmp_path, suffix, codec, b_frames):
    path = write_barcodes(tmp_path / f"f.{suffix}", 60, codec, times=VARYING, b_frames=b_frames)
    track = film_track(path)
    assert track.rate is None
    expected = (np.array(VARYING) - VARYING[0]) / 1000
    np.testing.assert_allclose(track.frame_times, expected, atol=1.1e-3)
    assert numbers_in(track) == {number: number for number in range(60)}


@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_varying_film_ends_after_its_last_frame_appears(tmp_path, suffix, b_frames):
    track = film_track(
        write_barcodes(tmp_path / f"f.{suffix}", 60, times=VARYING, b_frames=b_frames)
    )
    assert track.frame_times[-1] < track.duration < track.frame_times[-1] + 0.2


def test_the_frame_shown_at_a_time_is_the_one_drawn_for_it(films):
    track = film_track(films / "varying.mkv")
    moments = np.array(VARYING) - VARYING[0]
    asked = np.random.default_rng(1).integers(0, moments[-1] + 500, 200)
    shown = [max(n for n, moment in enumerate(moments) if moment <= time) for time in asked]
    numbers = track.frame_numbers((asked + 0.5) / 1000)
    pictures = numbers_in(track, numbers.tolist())
    assert [pictures[number] for number in numbers.tolist()] == shown


@pytest.mark.parametrize("name", [f"plain.{suffix}" for suffix in PLAIN_FILMS] + ["varying.mkv"])
def test_a_few_frames_in_any_order_come_once_and_ascending(films, name):
    found = numbers_in(film_track(films / name), [41, 3, 3, 59, 40, 0, 41])
    assert list(found.items()) == [(number, number) for number in (0, 3, 40, 41, 59)]


@settings(max_examples=20, deadline=None, derandomize=True)
@given(wanted=st.lists(st.integers(0, 59), max_size=12))
def test_any_list_of_numbers_gives_each_once_and_ascending(films, wanted):
    found = numbers_in(film_track(films / "plain.mkv"), wanted)
    assert list(found.items()) == [(number, number) for number in sorted(set(wanted))]


def test_a_number_past_the_end_repeats_the_last_frame(films):
    assert numbers_in(film_track(films / "plain.mp4"), [59, 60, 100]) == {59: 59, 60: 59, 100: 59}


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("suffix", PLAIN_FILMS)
def test_a_film_of_a_few_frames_is_whole(tmp_path, suffix, length):
    path = write_barcodes(tmp_path / f"f.{suffix}", length, PLAIN_FILMS[suffix])
    track = film_track(path)
    assert track.duration == pytest.approx(length / 25)
    assert numbers_in(track) == {number: number for number in range(length)}


def test_frames_are_scaled_to_width_and_height(films):
    track = film_track(films / "plain.mp4")
    frames = dict(iter_frames(track, [5, 21], (96, 24)))
    assert [frame.shape for frame in frames.values()] == [(24, 96, 3)] * 2
    assert {number: read_barcode(frame) for number, frame in frames.items()} == {5: 5, 21: 21}
    assert all(frame.dtype == np.uint8 and frame.flags.c_contiguous for frame in frames.values())


def test_scaling_down_averages_areas(films):
    frame = dict(iter_frames(film_track(films / "plain.mp4"), [0b10101010], (8, 4)))[0b10101010]
    # Number 170 is past the end: the last, 59 = 0b00111011, stands in; bars as wide as pixels.
    expected = [255, 255, 0, 255, 255, 255, 0, 0]
    assert np.abs(frame.mean(axis=(0, 2)) - expected).max() < 16


def test_colours_come_in_the_order_red_green_blue(tmp_path):
    images = [np.full((32, 64, 3), colour, np.uint8) for colour in ([220, 40, 40], [40, 40, 220])]
    track = film_track(makers.write_film(tmp_path / "f.mp4", images))
    frames = [frame for _, frame in iter_frames(track, [0, 1])]
    for frame, image in zip(frames, images, strict=True):
        assert np.abs(frame.astype(int) - image).max() <= 12


_ONE, _UNIT = 1 << 16, 1 << 30


@pytest.mark.parametrize(
    ("matrix", "turns_left"),
    [
        ((0, _ONE, 0, -_ONE, 0, 0, HEIGHT << 16, 0, _UNIT), 3),
        ((-_ONE, 0, 0, 0, -_ONE, 0, WIDTH << 16, HEIGHT << 16, _UNIT), 2),
        ((0, -_ONE, 0, _ONE, 0, 0, 0, WIDTH << 16, _UNIT), 1),
    ],
)
def test_a_film_that_asks_to_be_turned_is_turned(films, tmp_path, matrix, turns_left):
    content = bytearray((films / "plain.mp4").read_bytes())
    place = content.index(b"tkhd") + 4 + 4 + 20 + 8 + 8  # flags, times and length, layer
    assert struct.unpack(">9i", content[place : place + 36])[0] == _ONE
    content[place : place + 36] = struct.pack(">9i", *matrix)
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(content)
    plain = dict(iter_frames(film_track(films / "plain.mp4"), [23]))[23]
    frame = dict(iter_frames(film_track(turned), [23]))[23]
    np.testing.assert_array_equal(frame, np.rot90(plain, turns_left))
    # The size asked for is that of the picture as it is seen, whichever way it lies in the file.
    width, height = (16, 32) if turns_left % 2 else (32, 16)
    small = dict(iter_frames(film_track(turned), [23], (width, height)))[23]
    unturned = dict(iter_frames(film_track(films / "plain.mp4"), [23], (32, 16)))[23]
    np.testing.assert_array_equal(small, np.rot90(unturned, turns_left))


# The rule for frame numbers


def literal_numbers(track: VideoTrack, times: list[float]) -> list[int]:
    numbers = []
    for time in times:
        if track.rate is not None:
            number = int(track.rate * time + 1e-5)
        else:
            number = 0
            for candidate, appears in enumerate(track.frame_times.tolist()):
                if appears <= time + 1e-9:
                    number = candidate
        numbers.append(min(number, len(track.frame_times) - 1))
    return numbers


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    rate=st.sampled_from([1.0, 10.0, 23.976, 24.0, 24000 / 1001, 25.0, 30000 / 1001, 60.0]),
    length=st.integers(1, 500),
    times=st.lists(st.floats(0, 30) | st.integers(0, 3000).map(lambda k: k / 25), min_size=1),
)
def test_numbers_at_a_constant_rate_follow_the_literal_rule(rate, length, times):
    track = VideoTrack(Path("f"), 0, 0.0, length / rate, np.arange(length) / rate, rate)
    numbers = track.frame_numbers(np.array(times))
    assert numbers.dtype == np.int64
    assert numbers.tolist() == literal_numbers(track, times)


def test_a_frame_counts_from_a_hundred_thousandth_of_its_length_before_it_appears():
    track = VideoTrack(Path("f"), 0, 0.0, 4.0, np.arange(100) / 25, 25.0)
    before = np.array([[2e-5, 5e-3, 0.5], [5e-6, 1e-7, 0.0]])
    assert track.frame_numbers((40 - before) / 25).tolist() == [[39, 39, 39], [40, 40, 40]]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    gaps=st.lists(st.integers(1, 400), max_size=40),
    times=st.lists(st.integers(0, 10_000), min_size=1),
)
def test_numbers_at_a_varying_rate_are_of_the_last_frame_not_after(gaps, times):
    frame_times = np.cumsum([0, *gaps]) / 1000
    track = VideoTrack(Path("f"), 0, 0.0, float(frame_times[-1]) + 0.04, frame_times, None)
    asked = [time / 1000 for time in times]
    assert track.frame_numbers(np.array(asked)).tolist() == literal_numbers(track, asked)


@pytest.mark.parametrize("rate", [25.0, None])
def test_past_the_end_the_last_frame_stays(rate):
    track = VideoTrack(Path("f"), 0, 0.0, 0.4, np.arange(10) / 25, rate)
    assert track.frame_numbers(np.array([[0.36, 0.4], [1.0, 1e6]])).tolist() == [[9, 9], [9, 9]]
