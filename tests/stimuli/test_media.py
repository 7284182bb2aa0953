"""Frames carry their number in their pixels, sounds are known waves: what is read must be that."""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import makers
from tribrain.errors import InputError
from tribrain.stimuli.media import (
    AudioTrack,
    VideoTrack,
    iter_audio,
    iter_frames,
    picture_track,
    probe,
)

HEIGHT, WIDTH, BITS = 32, 64, 8
VARYING = np.cumsum(np.random.default_rng(3).integers(20, 120, 60)).tolist()  # ms
PLAIN_FILMS = {
    "mp4": "libx264",
    "mov": "libx264",
    "mkv": "libx264",
    "webm": "libvpx",
    "avi": "mpeg4",
}


def barcode(number: int) -> np.ndarray:
    """A frame that shows its number in binary as eight bars, the lowest bit at the left."""
    bits = np.array([(number >> bit) & 1 for bit in range(BITS)], np.uint8) * 255
    return np.ascontiguousarray(
        np.broadcast_to(np.repeat(bits, WIDTH // BITS)[None, :, None], (HEIGHT, WIDTH, 3))
    )


def read_barcode(frame: np.ndarray) -> int:
    height, width = frame.shape[:2]
    bar = width // BITS
    rows = frame[height // 4 : 3 * height // 4].mean(axis=(0, 2))
    middle = [rows[bit * bar + bar // 4 : (bit + 1) * bar - bar // 4].mean() for bit in range(BITS)]
    return sum(int(level > 127) << bit for bit, level in enumerate(middle))


def write_barcodes(
    path: Path,
    n: int,
    codec: str = "libx264",
    rate: int | Fraction = 25,
    times: list[int] | None = None,
    b_frames: int = 0,
    first: int = 0,
    options: dict[str, str] | None = None,
) -> Path:
    """A film of `n` barcodes, key frame every ten; `times` (ms) makes its rate vary."""
    with av.open(str(path), "w", options=options or {}) as container:
        video = container.add_stream(codec, rate=rate)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.gop_size = 10
        video.codec_context.max_b_frames = b_frames
        video.options = {"sc_threshold": "0"} if codec == "libx264" else {}
        if times is not None:
            video.codec_context.time_base = Fraction(1, 1000)
        for number in range(n):
            frame = av.VideoFrame.from_ndarray(barcode(number), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            else:
                frame.pts, frame.time_base = number + first, 1 / Fraction(rate)
            container.mux(video.encode(frame))
        container.mux(video.encode())
    return path


def numbers_in(track: VideoTrack, wanted: Iterable[int] | None = None) -> dict[int, int]:
    """Requested number -> number that the frame's pixels show."""
    wanted = range(len(track.frame_times)) if wanted is None else wanted
    return {number: read_barcode(frame) for number, frame in iter_frames(track, wanted)}


def film_track(path: Path) -> VideoTrack:
    track = probe(path)[0]
    assert track is not None
    return track


def sound_track(path: Path) -> AudioTrack:
    track = probe(path)[1]
    assert track is not None
    return track


def whole_sound(path: Path) -> tuple[np.ndarray, AudioTrack]:
    track = sound_track(path)
    return next(iter_audio(track, [(0.0, track.duration)])), track


def sines(rate: int, channels: int, seconds: float = 1.5, amplitude: float = 0.5) -> np.ndarray:
    """One sine a channel, of 50, 100, 150 ... Hz."""
    time = np.arange(round(seconds * rate)) / rate
    pitch = 50.0 * np.arange(1, channels + 1)
    return (amplitude * np.sin(2 * np.pi * pitch[:, None] * time)).astype(np.float32)


def chirp(rate: int, seconds: float = 1.0) -> np.ndarray:
    """A rising tone: no two moments of it are alike."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * (150 + 500 * time) * time)).astype(np.float32)


def mux_sound(
    container: av.container.OutputContainer,
    stream: av.AudioStream,
    samples: np.ndarray,
    start: float = 0.0,
    gap: tuple[int, int] | None = None,
) -> None:
    """Encode (channels, n) samples; after sample `gap[0]` the time stamps jump by `gap[1]`."""
    context = stream.codec_context
    rate, layout = context.sample_rate, context.layout.name
    to_format = av.AudioResampler(format=context.format, layout=layout, rate=rate)
    size = context.frame_size or 1024
    for first in range(0, samples.shape[1], size):
        block = np.ascontiguousarray(samples[:, first : first + size])
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
        pts = first + round(start * rate) + (gap[1] if gap and first >= gap[0] else 0)
        frame.sample_rate, frame.pts, frame.time_base = rate, pts, Fraction(1, rate)
        for converted in to_format.resample(frame):
            converted.pts, converted.time_base = pts, Fraction(1, rate)
            container.mux(stream.encode(converted))
    container.mux(stream.encode())


def write_coded_sound(
    path: Path,
    samples: np.ndarray,
    codec: str,
    rate: int,
    layout: str = "mono",
    start: float = 0.0,
    gap: tuple[int, int] | None = None,
    options: dict[str, str] | None = None,
    codec_options: dict[str, str] | None = None,
) -> Path:
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        stream.options = codec_options or {}
        stream.codec_context.open()
        mux_sound(container, stream, np.atleast_2d(samples), start, gap)
    return path


def write_film_with_sound(
    path: Path, video_codec: str, sound_codec: str, rate: int, sound_start: float, first: int
) -> Path:
    """Two seconds of barcodes from frame time `first`, a second of chirp from `sound_start`."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(video_codec, rate=25)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sound = container.add_stream(sound_codec, rate=rate, layout="mono")
        sound.codec_context.open()
        for number in range(50):
            frame = av.VideoFrame.from_ndarray(barcode(number), format="rgb24")
            frame.pts, frame.time_base = number + first, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        mux_sound(container, sound, chirp(rate)[None], sound_start)
    return path


def place_of(part: np.ndarray, whole: np.ndarray) -> int:
    """Sample of `whole` at which `part` fits best."""
    return int(np.argmax(np.correlate(whole, part, "valid")))


def remux(
    source: Path,
    target: Path,
    change: Callable[[int, av.Packet], av.Packet | None],
    options: dict[str, str] | None = None,
) -> Path:
    """Copy a file's one stream; ``change(number, packet)`` returns a packet, or None to drop it."""
    with av.open(str(source)) as old, av.open(str(target), "w", options=options or {}) as new:
        stream = old.streams[0]
        copy = new.add_stream_from_template(stream)
        packets = [packet for packet in old.demux(stream) if packet.dts is not None]
        for number, packet in enumerate(packets):
            changed = change(number, packet)
            if changed is not None:
                changed.stream = copy
                new.mux(changed)
    return target


def zeroed(packet: av.Packet) -> av.Packet:
    """The same packet with a payload of nothing but zeros."""
    damaged = av.Packet(bytes(packet.size))
    damaged.pts, damaged.dts, damaged.duration = packet.pts, packet.dts, packet.duration
    damaged.time_base = packet.time_base
    damaged.is_keyframe = packet.is_keyframe
    return damaged


def one_line(error: pytest.ExceptionInfo[InputError], path: Path) -> str:
    message = str(error.value)
    assert len(message.splitlines()) == 1
    assert path.name in message
    return message


def refusal_or(path: Path, read: Callable[[], Any]) -> Any:
    """What `read` returns, or None if it refuses the file in one line that names it."""
    try:
        return read()
    except InputError as refused:
        message = str(refused)
    assert len(message.splitlines()) == 1
    assert path.name in message
    return None


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for suffix, codec in PLAIN_FILMS.items():
        write_barcodes(folder / f"plain.{suffix}", 60, codec)
    write_barcodes(folder / "varying.mkv", 60, times=VARYING)
    return folder


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    samples = np.random.default_rng(0).uniform(-0.9, 0.9, (2, 20_000)).astype(np.float32)
    return makers.write_sound(tmp_path_factory.mktemp("noise") / "n.wav", samples, 8_000), samples


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
    small = dict(iter_frames(film_track(turned), [23], (32, 16)))[23]
    assert small.shape == ((32, 16, 3) if turns_left % 2 else (16, 32, 3))


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


# What is in a file


@pytest.mark.parametrize("suffix", PLAIN_FILMS)
def test_a_film_without_sound_has_no_sound_track(films, suffix):
    video, audio = probe(films / f"plain.{suffix}")
    assert audio is None
    assert video is not None
    assert video.start == 0
    np.testing.assert_allclose(video.frame_times, np.arange(60) / 25, atol=1.1e-3)


def test_a_film_and_its_sound_are_measured_apart(tmp_path):
    frames = [barcode(number) for number in range(30)]
    path = makers.write_film(tmp_path / "f.mp4", frames, rate=10, sound=chirp(16_000, 1.25))
    video, audio = probe(path)
    assert video is not None
    assert video.duration == pytest.approx(3)
    assert audio is not None
    assert audio.duration == pytest.approx(1.25, abs=0.065)
    assert (audio.rate, audio.channels) == (16_000, 1)


def test_subtitles_do_not_lengthen_a_film(films, tmp_path):
    captions = tmp_path / "late.srt"
    captions.write_text(
        "1\n00:00:00,500 --> 00:00:01,000\nhi\n\n2\n00:00:08,000 --> 00:00:09,000\n.\n"
    )
    path = tmp_path / "captioned.mkv"
    with (
        av.open(str(films / "plain.mkv")) as film,
        av.open(str(captions)) as text,
        av.open(str(path), "w") as both,
    ):
        sources = (film.streams.video[0], text.streams.subtitles[0])
        copies = [both.add_stream_from_template(source) for source in sources]
        for source, copy, container in zip(sources, copies, (film, text), strict=True):
            for packet in container.demux(source):
                if packet.dts is not None:
                    packet.stream = copy
                    both.mux(packet)
    with av.open(str(path)) as made:
        assert made.duration >= 8_000_000  # the container does count them
    video, audio = probe(path)
    assert video is not None
    assert video.duration == pytest.approx(60 / 25)
    assert audio is None


@pytest.mark.parametrize(
    ("suffix", "codec", "container"),
    [("mp3", "libmp3lame", "mp3"), ("flac", "flac", "flac"), ("m4a", "aac", "mp4")],
)
def test_a_cover_picture_is_not_video(tmp_path, suffix, codec, container):
    picture = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 10, 10)).save(picture, "JPEG")
    picture.seek(0)
    path = tmp_path / f"song.{suffix}"
    with av.open(picture, format="mjpeg") as art, av.open(str(path), "w", format=container) as song:
        cover_packet = next(art.demux(art.streams.video[0]))
        sound = song.add_stream(codec, rate=44_100, layout="mono")
        sound.codec_context.open()
        cover = song.add_stream_from_template(art.streams.video[0])
        cover.disposition = av.stream.Disposition.attached_pic
        cover_packet.stream, cover_packet.pts, cover_packet.dts = cover, 0, 0
        song.mux(cover_packet)
        mux_sound(song, sound, sines(44_100, 1, 1.0))
    with av.open(str(path)) as made:
        assert [stream.type for stream in made.streams] == ["audio", "video"]
    video, audio = probe(path)
    assert video is None
    assert audio is not None
    assert audio.duration == pytest.approx(1.0, abs=0.001)


# Damage


BAD_CONTENT = {
    "empty": b"",
    "text": b"A story, and no film at all.\n" * 40,
    "captions": b"1\n00:00:00,500 --> 00:00:01,000\nhi\n",
    "web captions": b"WEBVTT\n\n00:01.000 --> 00:02.000\nhi\n",
    "page": b"<!DOCTYPE html><html><body>404</body></html>",
    "zeros": bytes(5000),
    "noise": np.random.default_rng(0).bytes(5000),
}


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "webm", "wav", "mp3", "ogg", "flac"])
@pytest.mark.parametrize("content", BAD_CONTENT)
def test_what_is_neither_film_nor_sound_is_refused_in_one_line(tmp_path, content, suffix):
    path = tmp_path / f"not-a-film.{suffix}"
    path.write_bytes(BAD_CONTENT[content])
    with pytest.raises(InputError) as error:
        probe(path)
    one_line(error, path)


@pytest.mark.parametrize("make", ["missing", "folder"])
def test_a_missing_file_and_a_folder_are_refused_in_one_line(tmp_path, make):
    path = tmp_path / "there.mp4"
    if make == "folder":
        path.mkdir()
    for read in (probe, lambda p: picture_track(p, 1.0)):
        with pytest.raises(InputError) as error:
            read(path)
        one_line(error, path)


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("suffix", [*PLAIN_FILMS, "mp4 index first"])
def test_a_film_cut_short_gives_the_frames_it_has_or_is_refused(tmp_path, suffix, kept):
    options = {"movflags": "faststart"} if "index" in suffix else None
    suffix = suffix.split()[0]
    whole = tmp_path / f"whole.{suffix}"
    write_barcodes(whole, 100, PLAIN_FILMS[suffix], options=options)
    content = whole.read_bytes()
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(content[: int(kept * len(content))])
    outcome = refusal_or(path, lambda: (film_track(path), numbers_in(film_track(path))))
    if outcome is None:
        return
    track, found = outcome
    last = len(found) - 1
    assert track.duration == pytest.approx(len(found) / 25)
    assert [found[number] for number in range(last)] == list(range(last))
    assert found[last] in (last, last - 1)  # the cut may run through the last one


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm"])
def test_a_film_cut_short_with_its_index_in_front_is_used(tmp_path, suffix):
    whole = write_barcodes(
        tmp_path / f"whole.{suffix}",
        100,
        PLAIN_FILMS[suffix],
        options={"movflags": "faststart"} if suffix == "mp4" else None,
    )
    content = whole.read_bytes()
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(content[: int(0.7 * len(content))])
    assert 10 < len(film_track(path).frame_times) < 100


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "webm"])
def test_frames_after_damaged_packets_keep_their_numbers(films, tmp_path, suffix):
    path = remux(
        films / f"plain.{suffix}",
        tmp_path / f"damaged.{suffix}",
        lambda number, packet: zeroed(packet) if 23 <= number < 27 else packet,
    )
    track = film_track(path)
    found = numbers_in(track)
    assert list(found) == list(range(60))
    sound = [*range(23), *range(30, 60)]  # from the next key frame on
    assert [found[number] for number in sound] == sound


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "webm"])
def test_frames_that_were_left_out_do_not_shift_the_others(films, tmp_path, suffix):
    path = remux(
        films / f"plain.{suffix}",
        tmp_path / f"dropped.{suffix}",
        lambda number, packet: None if 23 <= number < 27 else packet,
    )
    track = film_track(path)
    asked = np.array([*range(23), *range(30, 60)])
    numbers = track.frame_numbers(asked / 25 + 1e-3)
    found = numbers_in(track, numbers.tolist())
    assert [found[number] for number in numbers.tolist()] == asked.tolist()


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "webm"])
def test_a_film_that_starts_between_key_frames_is_not_shifted(films, tmp_path, suffix):
    path = remux(
        films / f"plain.{suffix}",
        tmp_path / f"late.{suffix}",
        lambda number, packet: None if number < 3 else packet,
    )
    track = film_track(path)
    found = numbers_in(track)
    assert len(found) == 57
    # What is drawn as n + 3 appears n / 25 s after the first frame; 10 is the first key frame.
    assert [found[number] for number in range(7, 57)] == list(range(10, 60))


@pytest.mark.parametrize("b_frames", [0, 2])
def test_frames_that_an_edit_list_cuts_off_are_not_counted(tmp_path, b_frames):
    def earlier(_: int, packet: av.Packet) -> av.Packet:
        shift = round(Fraction(13, 25) / packet.time_base)
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        return packet

    whole = write_barcodes(tmp_path / "whole.mp4", 60, b_frames=b_frames)
    path = remux(whole, tmp_path / "edited.mp4", earlier, {"avoid_negative_ts": "disabled"})
    track = film_track(path)
    assert (track.start, track.duration) == (0.0, pytest.approx(47 / 25))
    assert numbers_in(track) == {number: number + 13 for number in range(47)}


def test_a_film_without_one_frame_that_can_be_decoded_is_refused(films, tmp_path):
    path = remux(films / "plain.mkv", tmp_path / "zeros.mkv", lambda _, packet: zeroed(packet))
    with pytest.raises(InputError) as error:
        numbers_in(film_track(path))
    one_line(error, path)


# Sound


SOUNDS = [
    ("wav", "pcm_u8", 44_100, "mono", 1 / 128),
    ("wav", "pcm_u8", 44_100, "stereo", 1 / 128),
    ("wav", "pcm_s16le", 44_100, "mono", 1e-4),
    ("wav", "pcm_s16le", 8_000, "stereo", 1e-4),
    ("wav", "pcm_s16le", 48_000, "5.1", 1e-4),
    ("wav", "pcm_s24le", 44_100, "stereo", 1e-6),
    ("wav", "pcm_f32le", 44_100, "stereo", 1e-7),
    ("flac", "flac", 44_100, "mono", 1e-4),
    ("flac", "flac", 48_000, "stereo", 1e-4),
    ("flac", "flac", 44_100, "5.1", 1e-4),
    ("ogg", "flac", 44_100, "stereo", 1e-4),
    ("ogg", "libopus", 48_000, "mono", 0.06),
    ("ogg", "libopus", 48_000, "stereo", 0.06),
    ("mp3", "libmp3lame", 44_100, "mono", 0.03),
    ("mp3", "libmp3lame", 48_000, "stereo", 0.03),
    ("m4a", "alac", 44_100, "stereo", 1e-4),
    ("m4a", "aac", 44_100, "mono", 0.05),
    ("mkv", "pcm_s16le", 44_100, "5.1", 1e-4),
    ("webm", "libopus", 48_000, "stereo", 0.06),
]


@pytest.mark.parametrize(("suffix", "codec", "rate", "layout", "tolerance"), SOUNDS)
def test_a_sine_comes_out_as_it_went_in(tmp_path, suffix, codec, rate, layout, tolerance):
    channels = {"mono": 1, "stereo": 2, "5.1": 6}[layout]
    wave = sines(rate, channels)
    found, track = whole_sound(
        write_coded_sound(tmp_path / f"s.{suffix}", wave, codec, rate, layout)
    )
    assert (track.rate, track.channels) == (rate, channels)
    assert track.start == 0
    assert track.duration == pytest.approx(1.5, abs=0.002)
    assert found.dtype == np.float32
    middle = slice(rate // 10, 14 * rate // 10)  # codecs ring at the edges
    np.testing.assert_allclose(found[:, middle], wave[:, middle], atol=tolerance)


@pytest.mark.parametrize(
    "suffix_codec", [("mp3", "libmp3lame"), ("m4a", "aac"), ("ogg", "libopus")]
)
def test_a_compressed_sound_is_not_shifted(tmp_path, suffix_codec):
    suffix, codec = suffix_codec
    wave = chirp(48_000)
    found, _ = whole_sound(write_coded_sound(tmp_path / f"s.{suffix}", wave, codec, 48_000))
    assert abs(place_of(wave[10_000:20_000], found[0]) - 10_000) <= 1


def test_a_sound_file_has_no_video(noise):
    video, audio = probe(noise[0])
    assert video is None
    assert audio is not None
    assert audio.duration == pytest.approx(2.5)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(cuts=st.lists(st.integers(1, 19_999), max_size=12, unique=True))
def test_spans_put_together_are_the_whole_sound(noise, cuts):
    path, samples = noise
    edges = [0, *sorted(cuts), 20_000]
    spans = [(a / 8_000, (b - a) / 8_000) for a, b in itertools.pairwise(edges)]
    pieces = list(iter_audio(sound_track(path), spans))
    assert [piece.shape[1] for piece in pieces] == np.diff(edges).tolist()
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), samples, atol=1e-4)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(edges=st.lists(st.integers(0, 40_000), min_size=2, max_size=12, unique=True))
def test_spans_with_gaps_and_past_the_end_are_cut_out_or_silent(noise, edges):
    path, samples = noise
    padded = np.pad(samples, ((0, 0), (0, 20_001)))
    edges = sorted(edges)[: len(edges) // 2 * 2]
    pairs = list(zip(edges[::2], edges[1::2], strict=True))
    spans = [(a / 8_000, (b - a) / 8_000) for a, b in pairs]
    for (a, b), piece in zip(pairs, iter_audio(sound_track(path), spans), strict=True):
        np.testing.assert_allclose(piece, padded[:, a:b], atol=1e-4)


@pytest.mark.parametrize(
    ("suffix", "video_codec", "sound_codec", "rate"),
    [
        ("mkv", "libx264", "pcm_s16le", 16_000),
        ("mkv", "libx264", "aac", 16_000),
        ("mp4", "libx264", "aac", 16_000),
        ("mov", "libx264", "pcm_s16le", 16_000),
        ("webm", "libvpx", "libopus", 48_000),
    ],
)
class TestStreamsThatStartApart:
    def test_a_late_sound_keeps_its_offset(self, tmp_path, suffix, video_codec, sound_codec, rate):
        path = write_film_with_sound(
            tmp_path / f"f.{suffix}", video_codec, sound_codec, rate, 1.0, 0
        )
        found, track = whole_sound(path)
        heard = track.start + place_of(chirp(rate)[: rate // 2], found[0]) / rate
        assert heard == pytest.approx(1.0, abs=0.0015)
        assert film_track(path).start == 0

    def test_a_late_film_keeps_its_offset(self, tmp_path, suffix, video_codec, sound_codec, rate):
        path = write_film_with_sound(
            tmp_path / f"f.{suffix}", video_codec, sound_codec, rate, 0.0, 20
        )
        track = film_track(path)
        assert track.start == pytest.approx(0.8, abs=0.0015)
        assert numbers_in(track, [0, 7, 49]) == {0: 0, 7: 7, 49: 49}
        assert sound_track(path).start == pytest.approx(0, abs=0.0015)


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mkv", "pcm_s16le"), ("mkv", "flac"), ("mkv", "aac"), ("mp4", "aac")]
)
def test_a_gap_in_the_sound_is_silence(tmp_path, suffix, codec):
    wave = chirp(16_000)
    path = write_coded_sound(tmp_path / f"s.{suffix}", wave, codec, 16_000, gap=(8_192, 8_192))
    found, track = whole_sound(path)
    assert track.duration == pytest.approx(1.512, abs=0.065)
    assert abs(place_of(wave[:6_000], found[0])) <= 1
    assert abs(place_of(wave[10_000:14_000], found[0]) - 18_192) <= 1
    assert np.abs(found[0, 10_500:14_500]).max() < 0.02


@pytest.mark.parametrize(("first", "last"), [(0, 3), (4, 6)])
@pytest.mark.parametrize(
    ("suffix", "codec"), [("mkv", "flac"), ("mkv", "libmp3lame"), ("mkv", "aac"), ("mp4", "aac")]
)
def test_sound_after_damaged_packets_keeps_its_place(tmp_path, suffix, codec, first, last):
    wave = chirp(16_000, 2.0)
    whole = write_coded_sound(tmp_path / f"whole.{suffix}", wave, codec, 16_000)
    path = remux(
        whole,
        tmp_path / f"damaged.{suffix}",
        lambda number, packet: zeroed(packet) if first <= number < last else packet,
    )
    found, track = whole_sound(path)
    heard = track.start + place_of(wave[20_000:25_000], found[0]) / 16_000
    assert heard == pytest.approx(20_000 / 16_000, abs=0.05)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
@pytest.mark.parametrize(
    ("suffix", "codec", "tolerance"),
    [("wav", "pcm_s16le", 1e-4), ("flac", "flac", 1e-4), ("mp3", "libmp3lame", 0.05)],
)
def test_a_sound_cut_short_gives_what_it_has(tmp_path, suffix, codec, tolerance, kept):
    wave = sines(48_000, 1, 3.0)
    whole = write_coded_sound(tmp_path / f"whole.{suffix}", wave, codec, 48_000)
    content = whole.read_bytes()
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(content[: int(kept * len(content))])
    found, track = whole_sound(path)
    assert track.duration == pytest.approx(3 * kept, abs=0.4)
    end = min(found.shape[1], 144_000) - 6_000
    np.testing.assert_allclose(found[:, 4_800:end], wave[:, 4_800:end], atol=tolerance)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_a_wav_written_to_a_pipe_is_measured_by_its_samples(noise, tmp_path, size):
    content = bytearray(noise[0].read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = size.to_bytes(4, "little")
    path = tmp_path / "piped.wav"
    path.write_bytes(content)
    found, track = whole_sound(path)
    assert track.duration == pytest.approx(2.5)
    np.testing.assert_allclose(found, noise[1], atol=1e-4)


def loud_then_silent(path: Path, **options: str) -> Path:
    """Four seconds of noise and four of silence at a varying bit rate."""
    loud = np.random.default_rng(0).uniform(-0.9, 0.9, 4 * 44_100)
    wave = np.concatenate([loud, np.zeros(4 * 44_100)]).astype(np.float32)
    quality = {"flags": "+qscale", "global_quality": str(2 * 118)}
    return write_coded_sound(
        path, wave, "libmp3lame", 44_100, options=options, codec_options=quality
    )


def test_an_mp3_of_varying_bit_rate_is_as_long_as_its_sound(tmp_path):
    assert sound_track(loud_then_silent(tmp_path / "s.mp3")).duration == pytest.approx(8, abs=0.01)


def test_an_mp3_that_does_not_state_its_length_is_as_long_as_its_sound(tmp_path):
    path = loud_then_silent(tmp_path / "s.mp3", write_xing="0")
    assert sound_track(path).duration == pytest.approx(8, abs=0.1)


def test_two_mp3_files_put_together_are_as_long_as_both(tmp_path):
    one = loud_then_silent(tmp_path / "one.mp3").read_bytes()
    path = tmp_path / "both.mp3"
    path.write_bytes(one + one)
    assert sound_track(path).duration == pytest.approx(16, abs=0.15)


# Pictures


def first_picture(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    return dict(iter_frames(picture_track(path, 2.0), [0], size))[0]


def test_a_picture_is_one_frame_at_all_times(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    track = picture_track(tmp_path / "p.png", 3.5)
    assert (track.stream, track.start, track.duration) == (None, 0.0, 3.5)
    assert track.frame_numbers(np.array([0.0, 1.7, 99.0])).tolist() == [0, 0, 0]
    np.testing.assert_array_equal(first_picture(tmp_path / "p.png"), pixels)
    assert first_picture(tmp_path / "p.png", (10, 5)).shape == (5, 10, 3)


def test_a_picture_is_yielded_for_each_number_once(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "p.png")
    frames = iter_frames(picture_track(tmp_path / "p.png", 1.0), [3, 0, 3])
    assert [number for number, _ in frames] == [0, 3]


def test_opaque_pixels_of_a_picture_with_alpha_keep_their_colour(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 4)).astype(np.uint8)
    pixels[..., 3] = 255
    Image.fromarray(pixels, "RGBA").save(tmp_path / "p.png")
    np.testing.assert_array_equal(first_picture(tmp_path / "p.png"), pixels[..., :3])


def test_black_lines_on_a_transparent_ground_stay_visible(tmp_path):
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[6:10, :, 3] = 255
    Image.fromarray(pixels, "RGBA").save(tmp_path / "drawing.png")
    found = first_picture(tmp_path / "drawing.png")
    assert found[8].max() == 0
    assert found[2].min() > 100


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "CMYK", "RGBA"])
def test_pictures_of_any_mode_become_red_green_blue(tmp_path, mode):
    path = tmp_path / ("p.jpg" if mode == "CMYK" else "p.png")
    Image.new("RGB", (6, 4), (255, 255, 255)).convert(mode).save(path)
    found = first_picture(path)
    assert found.shape == (4, 6, 3)
    assert found.min() >= 250


def test_a_grey_picture_of_16_bits_keeps_its_shades(tmp_path):
    shades = np.linspace(0, 65_535, 64).astype(np.uint16)[None].repeat(8, axis=0)
    Image.fromarray(shades).save(tmp_path / "grey.png")
    found = first_picture(tmp_path / "grey.png")[0, :, 0].astype(float)
    assert np.abs(found - shades[0] / 257).max() <= 1.5


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda p: p),
        (2, lambda p: p[:, ::-1]),
        (3, lambda p: np.rot90(p, 2)),
        (6, lambda p: np.rot90(p, -1)),
        (8, np.rot90),
    ],
)
def test_a_photo_is_turned_as_its_exif_says(tmp_path, orientation, upright):
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:16, :32] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "p.jpg", quality=95, exif=exif)
    found = first_picture(tmp_path / "p.jpg").astype(int)
    assert found.shape == upright(pixels).shape
    assert np.abs(found - upright(pixels)).max() < 40


@pytest.mark.parametrize("duration", [0, -1, float("nan"), float("inf")])
def test_a_picture_is_shown_for_a_positive_finite_time(tmp_path, duration):
    Image.new("RGB", (4, 4)).save(tmp_path / "p.png")
    with pytest.raises(InputError, match="positive"):
        picture_track(tmp_path / "p.png", duration)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_what_is_no_picture_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "p.png"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        picture_track(path, 1.0)
    one_line(error, path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_cut_short_is_refused_in_one_line(tmp_path, kind):
    whole = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(whole, kind)
    path = tmp_path / f"p.{'png' if kind == 'PNG' else 'jpg'}"
    for kept in (0.01, 0.1, 0.6, 0.9):
        path.write_bytes(whole.getvalue()[: int(kept * len(whole.getvalue()))])
        with pytest.raises(InputError) as error:
            picture_track(path, 1.0)
        one_line(error, path)


def test_a_damaged_picture_is_read_or_refused(tmp_path):
    whole = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(whole, "PNG")
    path = tmp_path / "p.png"
    rng = np.random.default_rng(0)
    for _ in range(400):
        content = bytearray(whole.getvalue())
        content[rng.integers(8, 60)] = rng.integers(256)
        path.write_bytes(content)
        refusal_or(path, lambda: picture_track(path, 1.0))


@pytest.mark.parametrize("chunk", [b"IHDR", b"IDAT"])
def test_a_png_whose_chunk_states_too_small_a_size_is_refused_in_one_line(tmp_path, chunk):
    whole = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(whole, "PNG")
    content = bytearray(whole.getvalue())
    place = content.index(chunk) - 4
    content[place : place + 4] = (8).to_bytes(4, "big")
    path = tmp_path / "p.png"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        picture_track(path, 1.0)
    one_line(error, path)


@pytest.mark.parametrize("content", ["ffconcat version 1.0\nfile '{}'\n", "#EXTM3U\n{}\n"])
def test_a_list_of_other_files_is_not_followed(tmp_path, content):
    other = makers.write_sound(tmp_path / "other.wav", np.zeros(16_000), 16_000)
    (tmp_path / "list.mp4").write_text(content.format(other.name))
    with pytest.raises(InputError, match="cannot be read"):
        probe(tmp_path / "list.mp4")
