"""Sounds are known waves: what is read must be those, in their place."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import makers
from media_makers import (
    HEIGHT,
    WIDTH,
    barcode,
    chirp,
    film_track,
    mux_sound,
    numbers_in,
    remux,
    sines,
    zeroed,
)
from tribrain.stimuli.media import AudioTrack, iter_audio, probe


def sound_track(path: Path) -> AudioTrack:
    track = probe(path)[1]
    assert track is not None
    return track


def whole_sound(path: Path) -> tuple[np.ndarray, AudioTrack]:
    track = sound_track(path)
    return next(iter_audio(track, [(0.0, track.duration)])), track


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


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    samples = np.random.default_rng(0).uniform(-0.9, 0.9, (2, 20_000)).astype(np.float32)
    return makers.write_sound(tmp_path_factory.mktemp("noise") / "n.wav", samples, 8_000), samples


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
