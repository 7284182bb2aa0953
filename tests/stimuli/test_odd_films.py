"""Films as they are: each is measured rightly, shows its frames and is predicted end to end."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import av.filter
import numpy as np
import pytest

import makers
from media_makers import (
    VARYING,
    barcode,
    film_track,
    mux_sound,
    numbers_in,
    read_barcode,
    remux,
    sines,
    write_barcodes,
    zeroed,
)
from tribrain.encoder.models import load_model
from tribrain.errors import InputError, InputWarning
from tribrain.features.visual import _size, visual_pieces
from tribrain.stimuli.media import AudioTrack, iter_audio, iter_frames, probe
from tribrain.stimuli.stimulus import Stimulus

N = 30  # frames, of 25 a second


@dataclass(frozen=True)
class Film:
    """A way to make a film of N barcodes, and what it must then be found to be."""

    make: Callable[[Path], Any]
    suffix: str = "mkv"
    numbers: range | list[int] = range(N)  # what its frames show
    duration: float = N / 25
    rate: float | None = 25.0
    size: tuple[int, int] = (64, 32)
    damaged: tuple[int, ...] = ()  # frames that need not be right
    note: str | None = None


def wide(number: int, width: int, height: int) -> np.ndarray:
    """A barcode of any size; what eight bars leave over is black."""
    bars = np.repeat(barcode(number)[:1, ::8], width // 8, axis=1)
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, : bars.shape[1]] = bars
    return picture


def write(
    path: Path,
    codec: str = "libx264",
    fmt: str = "yuv420p",
    picture: Callable[[int], np.ndarray] = barcode,
    n: int = N,
    first: int = 0,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    flags: int = 0,
    field_order: str = "",
    shape: Fraction | None = None,
) -> Path:
    """A film of pictures of any kind; `shape` is the width of a pixel over its height."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        video = container.add_stream(codec, rate=25)
        video.height, video.width = picture(0).shape[:2]
        video.pix_fmt, video.options = fmt, options or {}
        video.codec_context.flags |= flags
        if shape is not None:
            video.codec_context.sample_aspect_ratio = shape
        for number in range(n):
            image = picture(number)
            frame = av.VideoFrame.from_ndarray(image, {3: "rgb24", 4: "rgba"}[image.shape[2]])
            frame = frame.reformat(format=fmt)
            frame.pts, frame.time_base = number + first, Fraction(1, 25)
            container.mux(video.encode(as_fields(frame, field_order) if field_order else frame))
        container.mux(video.encode())
    return path


def as_fields(frame: av.VideoFrame, order: str) -> av.VideoFrame:
    """Mark a frame as two fields, "tff" or "bff": encoders write what the frame says."""
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    graph.link_nodes(source, graph.add("setfield", order), graph.add("buffersink")).configure()
    graph.push(frame)
    return graph.pull()


_ONE, _UNIT = 1 << 16, 1 << 30
# How a player shows the picture S of the file, as the first two rows of the display matrix.
DISPLAYS: dict[str, tuple[tuple[int, int, int, int], Callable[[np.ndarray], np.ndarray]]] = {
    "right": ((0, 1, -1, 0), lambda s: np.rot90(s, -1)),
    "upside down": ((-1, 0, 0, -1), lambda s: np.rot90(s, 2)),
    "left": ((0, -1, 1, 0), np.rot90),
    "mirrored": ((-1, 0, 0, 1), lambda s: s[:, ::-1]),
    "top to bottom": ((1, 0, 0, -1), lambda s: s[::-1]),
    "transposed": ((0, 1, 1, 0), lambda s: s.transpose(1, 0, 2)),
    "transposed across": ((0, -1, -1, 0), lambda s: np.rot90(s, 2).transpose(1, 0, 2)),
}


def display(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Write a display matrix into the head of an mp4 of one track."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4 + 4 + 20 + 8 + 8  # flags, times and length, layer
    assert struct.unpack(">9i", content[place : place + 36])[0] == _ONE
    matrix = (a * _ONE, b * _ONE, 0, c * _ONE, d * _ONE, 0, 0, 0, _UNIT)
    content[place : place + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(content)
    return path


def turned(how: str) -> Callable[[Path], Path]:
    """A film whose frames lie in the file so that they stand upright once turned."""
    matrix, shown = DISPLAYS[how]

    def make(path: Path) -> Path:
        back = [lie for _, lie in DISPLAYS.values() if np.array_equal(shown(lie(_MARK)), _MARK)]
        return display(write(path, picture=lambda n: back[0](barcode(n))), *matrix)

    return make


_MARK = np.arange(24).reshape(2, 4, 3)


def grey_levels(number: int) -> np.ndarray:
    return np.full((2, 2, 3), 8 * number, np.uint8)


def with_sound(path: Path, frames: int, seconds: float, codec: str = "aac") -> Path:
    """A film with a sound that is not as long; of 0 s, the sound track holds nothing."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 32, "yuv420p"
        audio = container.add_stream(codec, rate=16_000, layout="mono")
        audio.codec_context.open()
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(barcode(number), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if seconds:
            mux_sound(container, audio, sines(16_000, 1, seconds))
    return path


def cut_short(path: Path) -> None:
    """Of the last four frames there is nothing, of the fifth last a part."""
    write(path, container_options={"movflags": "faststart"})
    with av.open(str(path)) as film:
        sizes = [packet.size for packet in film.demux(video=0) if packet.size]
    path.write_bytes(path.read_bytes()[: -sum(sizes[-4:]) - sizes[-5] // 2])


def last_packet_broken(path: Path) -> None:
    whole = write_barcodes(path.with_stem("whole"), N)
    remux(whole, path, lambda k, packet: zeroed(packet) if k == N - 1 else packet)


def without_time_stamps(path: Path) -> None:
    """The first frames lie before the zero of a Matroska file, which cannot say so of H.264."""
    write(path, first=-5, container_options={"avoid_negative_ts": "disabled"})


INTERLACED = {"flags": "+ildct+ilme"}
HDR = {"x264-params": "colorprim=bt2020:transfer={}:colormatrix=bt2020nc"}
FILMS = {
    "varying rate": Film(
        lambda path: write_barcodes(path, N, times=VARYING[:N]),
        rate=None,
        duration=(VARYING[N - 1] - VARYING[0]) / 1000 + 0.04,
    ),
    **{f"turned: {how}": Film(turned(how), "mp4") for how in DISPLAYS},
    "interlaced": Film(
        lambda p: write(p, options=INTERLACED, field_order="tff"), "mp4", note="interlaced"
    ),
    "interlaced, MPEG-2": Film(
        lambda p: write(p, "mpeg2video", flags=0x20000000 | 0x40000), note="interlaced"
    ),
    "interlaced, in AVI": Film(
        lambda p: write(p, options=INTERLACED, field_order="bff"), "avi", note="interlaced"
    ),
    "odd size": Film(
        lambda p: write(p, "ffv1", picture=lambda n: wide(n, 321, 241)), size=(321, 241)
    ),
    "odd size, PNG": Film(
        lambda p: write(p, "png", "rgb24", picture=lambda n: wide(n, 83, 17)), "mov", size=(83, 17)
    ),
    "wide pixels": Film(lambda p: write(p, "mpeg4", shape=Fraction(4, 3)), size=(85, 32)),
    "tall pixels": Film(
        lambda p: write(p, options={"x264-params": "sar=1/2"}), "mp4", size=(64, 64)
    ),
    "impossible pixels": Film(lambda p: write(p, "mpeg4", shape=Fraction(1, 20))),
    "10 bits": Film(lambda p: write(p, fmt="yuv420p10le"), "mp4"),
    "10 bits, HEVC": Film(
        lambda p: write(p, "libx265", "yuv420p10le", options={"x265-params": "log-level=none"})
    ),
    "PQ": Film(
        lambda p: write(
            p, fmt="yuv420p10le", options={k: v.format("smpte2084") for k, v in HDR.items()}
        ),
        note="dynamic range",
    ),
    "HLG": Film(
        lambda p: write(
            p, fmt="yuv420p10le", options={k: v.format("arib-std-b67") for k, v in HDR.items()}
        ),
        note="dynamic range",
    ),
    "grey": Film(lambda p: write(p, "ffv1", "gray")),
    "grey, H.264": Film(lambda p: write(p, fmt="gray"), "mp4"),
    "grey, 10 bits": Film(lambda p: write(p, "ffv1", "gray10le")),
    "alpha, PNG": Film(lambda p: write(p, "png", "rgba"), "mov"),
    "alpha, ProRes": Film(lambda p: write(p, "prores_ks", "yuva444p10le"), "mov"),
    "alpha, QuickTime": Film(lambda p: write(p, "qtrle", "argb"), "mov"),
    "starts at 10 s": Film(lambda p: write(p, first=250)),
    "starts at 10 s, mp4": Film(lambda p: write(p, first=250), "mp4"),
    "starts before 0": Film(
        lambda p: write(p, "ffv1", first=-5, container_options={"avoid_negative_ts": "disabled"}),
    ),
    "starts before 0, mp4": Film(
        lambda p: write(
            p,
            first=-5,
            container_options={"avoid_negative_ts": "disabled", "use_editlist": "0"},
        ),
        "mp4",
    ),
    "cut at 0 by an edit list": Film(
        lambda p: write(p, first=-5, container_options={"avoid_negative_ts": "disabled"}),
        "mp4",
        numbers=range(5, N),
        duration=(N - 5) / 25,
    ),
    "no time stamps at first": Film(
        without_time_stamps, numbers=range(5, N), duration=(N - 5) / 25
    ),
    "last packet broken": Film(last_packet_broken, damaged=(N - 1,)),
    "cut short": Film(cut_short, "mp4", numbers=range(N - 4), duration=1.04, damaged=(N - 5,)),
    "sound shorter": Film(lambda p: with_sound(p, N, 0.3), "mp4"),
    "sound longer": Film(lambda p: with_sound(p, N, 2.5), "mp4"),
    "sound of no length": Film(lambda p: with_sound(p, N, 0.0), "mp4"),
    "sound of no length, mkv": Film(lambda p: with_sound(p, N, 0.0)),
    "one frame": Film(lambda p: write(p, n=1), numbers=range(1), duration=0.04),
    "one frame, mp4": Film(lambda p: write(p, n=1), "mp4", numbers=range(1), duration=0.04),
    "one frame, interlaced": Film(
        lambda p: write(p, n=1, options=INTERLACED),
        numbers=range(1),
        duration=0.04,
        note="interlaced",
    ),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("odd")

    @cache
    def make(name: str) -> Path:
        film = FILMS[name]
        path = folder / f"{name.replace(' ', '-').replace(':', '')}.{film.suffix}"
        film.make(path)
        return path

    return make


@pytest.fixture(scope="module")
def textbook() -> Any:
    return load_model("textbook")


def predicted(model: Any, path: Path) -> tuple[Stimulus, np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)  # sounds without words
        stimulus = Stimulus.open(path)
    return stimulus, model.predict(stimulus).data.values


@pytest.mark.parametrize("name", FILMS)
def test_an_odd_film_is_measured_rightly(made, name):
    film, track = FILMS[name], film_track(made(name))
    assert len(track.frame_times) == len(film.numbers)
    assert track.start == pytest.approx(0, abs=0.002)
    assert track.duration == pytest.approx(film.duration, abs=0.05 if film.rate is None else 0.002)
    assert track.rate == film.rate
    assert track.size == film.size
    said = " ".join(track.notes)
    assert (film.note in said) if film.note else not said


@pytest.mark.parametrize("name", FILMS)
def test_an_odd_film_shows_its_frames(made, name):
    film, track = FILMS[name], film_track(made(name))
    found = numbers_in(track)
    expected = dict(enumerate(film.numbers))
    sound = [number for number in expected if number not in film.damaged]
    assert list(found) == list(expected)
    assert [found[number] for number in sound] == [expected[number] for number in sound]
    for _, frame in iter_frames(track, [0]):
        assert frame.shape == (film.size[1], film.size[0], 3)


@pytest.mark.parametrize("name", FILMS)
def test_an_odd_film_is_predicted_end_to_end(made, name, textbook):
    film = FILMS[name]
    stimulus, rows = predicted(textbook, made(name))
    assert "video" in stimulus.modalities
    assert stimulus.duration >= film.duration - 0.05
    assert rows.shape == (np.ceil(round(stimulus.duration, 6)), 20484)
    assert np.isfinite(rows).all()


# What a viewer sees


@pytest.mark.parametrize("how", DISPLAYS)
def test_a_film_is_shown_as_its_display_matrix_asks(tmp_path, how):
    """All four corners differ, so that no turn and no mirror is taken for another."""
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[:16, :32], picture[:16, 32:], picture[16:, :32] = 230, 160, 90
    matrix, shown = DISPLAYS[how]
    path = display(write(tmp_path / "f.mp4", picture=lambda _: picture, n=3), *matrix)
    track = film_track(path)
    expected = shown(picture)
    frame = dict(iter_frames(track, [1]))[1]
    assert track.size == (expected.shape[1], expected.shape[0])
    assert np.abs(frame.astype(int) - expected).max() < 12
    small = dict(iter_frames(track, [1], (track.size[0] // 2, track.size[1] // 2)))[1]
    assert np.abs(small.astype(int) - shown(picture)[::2, ::2]).max() < 12


def test_simple_features_look_at_a_turned_film_in_its_own_shape(tmp_path):
    """A film that lies on its side in the file has the features of the same film upright."""
    pictures = np.random.default_rng(0).integers(0, 256, (8, 8, 12, 3)).astype(np.uint8)
    pictures = pictures.repeat(8, axis=1).repeat(8, axis=2)

    def look(k: int) -> np.ndarray:
        return pictures[k % 8]

    upright = film_track(write(tmp_path / "upright.mkv", "ffv1", "yuv444p", look))
    lying = write(tmp_path / "lying.mp4", "png", "rgb24", lambda k: np.rot90(look(k)).copy())
    matrix, _ = DISPLAYS["right"]
    turned_track = film_track(display(lying, *matrix))
    assert _size(turned_track) == _size(upright) == (64, 43)
    names = ["luminance", "contrast", "motion", "colour"]
    values = [next(visual_pieces(t, names, [(0, 2)], 2.0)) for t in (upright, turned_track)]
    np.testing.assert_allclose(values[0], values[1], rtol=0.02, atol=0.01)


def comb(picture: np.ndarray) -> float:
    """How much neighbouring lines differ."""
    return float(np.abs(np.diff(picture[4:-4].astype(int), axis=0)).mean())


@pytest.mark.parametrize("top_first", [True, False])
def test_frames_of_two_fields_are_made_whole(tmp_path, top_first):
    """A bar that moves between the two fields of a frame has straight edges, at the moment of the
    first field.
    """

    def at(moment: int) -> np.ndarray:
        picture = np.full((64, 128, 3), 30, np.uint8)
        picture[:, 3 * moment : 3 * moment + 16] = 220
        return picture

    def woven(k: int) -> np.ndarray:
        picture = at(2 * k)
        picture[1 if top_first else 0 :: 2] = at(2 * k + 1)[::2]
        return picture

    path = tmp_path / "f.mp4"
    order, options = "tff" if top_first else "bff", {"flags": "+ildct+ilme", "crf": "5"}
    write(path, picture=woven, n=12, options=options, field_order=order)
    track = film_track(path)
    frames = [frame for _, frame in iter_frames(track, range(12))]
    assert len(frames) == 12
    for number, frame in enumerate(frames):
        assert comb(frame) < 0.25 * comb(woven(number))
        centre = np.flatnonzero(frame[32, :, 0] > 125).mean()
        assert centre == pytest.approx(6 * number + 7.5, abs=1.5)


def test_frames_made_whole_after_a_jump_are_those_in_order(tmp_path):
    path = write(tmp_path / "f.mkv", n=200, options={**INTERLACED, "x264-params": "keyint=10"})
    track = film_track(path)
    in_order = dict(iter_frames(track, range(200)))
    for start in (120, 187, 199):
        after = dict(iter_frames(track, range(start, 200)))
        assert all(np.array_equal(frame, in_order[number]) for number, frame in after.items())


def test_what_is_transparent_is_white_and_hidden_colours_do_not_show(tmp_path):
    picture = np.zeros((32, 64, 4), np.uint8)
    picture[..., 0] = 255  # red everywhere, seen in the left half alone
    picture[:, :32, 3] = 255
    track = film_track(write(tmp_path / "f.mov", "png", "rgba", lambda _: picture, n=2))
    for size in (None, (32, 16)):
        frame = dict(iter_frames(track, [1], size))[1]
        middle = frame.shape[1] // 2
        assert frame[:, : middle - 1].tolist() == [[[255, 0, 0]] * (middle - 1)] * len(frame)
        assert frame[:, middle + 1 :].min() == 255


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 2), (1, 9), (7, 1)])
def test_a_film_of_hardly_a_pixel_is_shown_and_predicted(tmp_path, textbook, width, height):
    def look(k: int) -> np.ndarray:
        return np.full((height, width, 3), 8 * k, np.uint8)

    path = write(tmp_path / "tiny.mov", "png", "rgb24", look)
    frames = dict(iter_frames(film_track(path), range(N)))
    assert [int(frame.mean()) for frame in frames.values()] == [8 * k for k in range(N)]
    assert frames[0].shape == (height, width, 3)
    assert np.isfinite(predicted(textbook, path)[1]).all()


def test_colours_of_ten_bits_are_those_that_were_drawn(tmp_path):
    colours = [(200, 60, 60), (60, 200, 60), (60, 60, 200)]

    def look(k: int) -> np.ndarray:
        return np.full((32, 64, 3), colours[k], np.uint8)

    for name, fmt in (("f.mp4", "yuv420p10le"), ("g.mp4", "yuv444p10le")):
        track = film_track(write(tmp_path / name, fmt=fmt, picture=look, n=3))
        for number, frame in iter_frames(track, range(3)):
            assert np.abs(frame.astype(int) - colours[number]).max() < 10


# Sound


def packed(container: Any, stream: Any, samples: np.ndarray, layout: str, rate: int) -> None:
    """Encode (channels, n) samples; PyAV cannot take eight channels in planes."""
    size = stream.codec_context.frame_size or 4096
    resampler = av.AudioResampler(format=stream.codec_context.format, layout=layout, rate=rate)
    for first in range(0, samples.shape[1], size):
        block = np.ascontiguousarray(samples[:, first : first + size].T.reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(block, format="flt", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, first, Fraction(1, rate)
        for converted in resampler.resample(frame):
            container.mux(stream.encode(converted))
    container.mux(stream.encode())


def write_sound(
    path: Path, codec: str, rate: int, layout: str, samples: np.ndarray, kind: str | None = None
) -> Path:
    with av.open(str(path), "w", format=kind) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        stream.codec_context.open()
        packed(container, stream, samples, layout, rate)
    return path


def sound_of(path: Path, **options: Any) -> tuple[AudioTrack, np.ndarray]:
    track = probe(path, **options)[1]
    assert track is not None
    return track, next(iter_audio(track, [(0.0, track.duration)]))


def pitch(samples: np.ndarray, rate: int) -> float:
    """The strongest frequency (Hz)."""
    spectrum = np.abs(np.fft.rfft(samples))
    return float(np.argmax(spectrum) * rate / len(samples))


CHANNELS = {"mono": 1, "stereo": 2, "5.1": 6, "7.1": 8}


@pytest.mark.parametrize(
    ("name", "codec", "rate", "layout"),
    [
        *((f"{rate}.wav", "pcm_s16le", rate, "mono") for rate in (8_000, 11_025, 96_000, 192_000)),
        ("slow.mp3", "libmp3lame", 8_000, "mono"),
        ("slow.m4a", "aac", 8_000, "stereo"),
        ("fast.flac", "flac", 192_000, "stereo"),
        ("fast.mkv", "pcm_s24le", 192_000, "5.1"),
        *((f"{layout}.mkv", "pcm_s16le", 48_000, layout) for layout in CHANNELS),
        ("8.wav", "pcm_s16le", 44_100, "7.1"),
        ("8.flac", "flac", 44_100, "7.1"),
        ("8.m4a", "aac", 48_000, "7.1"),
        ("8.mkv", "libopus", 48_000, "7.1"),
    ],
)
def test_a_sound_of_any_rate_and_channels_is_heard(tmp_path, textbook, name, codec, rate, layout):
    channels = CHANNELS[layout]
    wave = sines(rate, channels, 1.5, 0.3)  # 50 Hz in the first channel, 100 Hz in the second ...
    path = write_sound(tmp_path / name, codec, rate, layout, wave)
    track, found = sound_of(path)
    assert (track.rate, track.channels, track.notes) == (rate, channels, ())
    assert track.duration == pytest.approx(1.5, abs=0.05)
    full = [k for k in range(channels) if not (channels > 2 and k == 3)]  # the fourth is for bass
    heard = [pitch(found[k], rate) for k in full]
    assert heard == pytest.approx([50 * (k + 1) for k in full], abs=1.5)
    stimulus, rows = predicted(textbook, path)
    assert rows.shape == (np.ceil(round(stimulus.duration, 6)), 20484)
    assert np.isfinite(rows).all()


@pytest.mark.parametrize("first", ["wide", "narrow"])
@pytest.mark.parametrize(
    ("name", "codec", "kind"), [("s.mp3", "libmp3lame", None), ("s.m4a", "aac", "adts")]
)
def test_a_sound_that_changes_midway_is_heard_and_said(
    tmp_path, textbook, name, codec, kind, first
):
    parts = {"wide": (44_100, "stereo", 300.0), "narrow": (22_050, "mono", 700.0)}
    order = ["wide", "narrow"] if first == "wide" else ["narrow", "wide"]
    content = b""
    for part in order:
        rate, layout, tone = parts[part]
        time = np.arange(12 * rate) / rate
        wave = np.tile(0.4 * np.sin(2 * np.pi * tone * time), (CHANNELS[layout], 1))
        made = write_sound(
            tmp_path / f"{part}.{kind or 'mp3'}", codec, rate, layout, wave.astype(np.float32), kind
        )
        content += made.read_bytes()
    path = tmp_path / name
    path.write_bytes(content)
    track, found = sound_of(path)
    rate, layout, tone = parts[order[0]]
    assert (track.rate, track.channels) == (rate, CHANNELS[layout])
    (note,) = track.notes
    assert "changes midway" in note
    assert f"heard as {rate} Hz" in note
    assert pitch(found[0, rate : 5 * rate], rate) == pytest.approx(tone, abs=1)
    later = found[0, 13 * rate : 16 * rate]
    assert pitch(later, rate) == pytest.approx(parts[order[1]][2], abs=1)
    assert np.isfinite(predicted(textbook, path)[1]).all()


def test_a_sound_without_a_sample_is_refused_in_one_line(tmp_path):
    path = makers.write_sound(tmp_path / "empty.wav", np.zeros(0), 8_000)
    with pytest.raises(InputError, match=r"empty\.wav") as error:
        probe(path)
    assert len(str(error.value).splitlines()) == 1


def test_a_film_whose_sound_track_holds_nothing_has_no_sound(made, textbook):
    for name in ("sound of no length", "sound of no length, mkv"):
        assert probe(made(name))[1] is None
        assert "no sound" in predicted(textbook, made(name))[0].notes


def test_each_stream_of_a_film_has_its_own_length(made):
    for name, seconds in (("sound shorter", 0.3), ("sound longer", 2.5)):
        video, audio = probe(made(name))
        assert video is not None
        assert audio is not None
        assert (video.duration, audio.duration) == pytest.approx((N / 25, seconds), abs=0.07)


# Several sound tracks


TRACKS = [
    ("eng", "Original", "stereo", 300),
    ("deu", "Kommentar", "mono", 500),
    ("", "", "5.1", 700),
]


@pytest.fixture(scope="module")
def many_sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sounds") / "many.mkv"
    rate = 16_000
    time = np.arange(rate) / rate
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 32, "yuv420p"
        streams = []
        for language, title, layout, _ in TRACKS:
            stream = container.add_stream("pcm_s16le", rate=rate, layout=layout)
            if language:
                stream.metadata["language"] = language
            if title:
                stream.metadata["title"] = title
            stream.codec_context.open()
            streams.append(stream)
        for number in range(25):
            frame = av.VideoFrame.from_ndarray(barcode(number), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        for stream, (_, _, layout, tone) in zip(streams, TRACKS, strict=True):
            wave = np.tile(0.4 * np.sin(2 * np.pi * tone * time), (CHANNELS[layout], 1))
            packed(container, stream, wave.astype(np.float32), layout, rate)
    return path


@pytest.mark.parametrize(
    ("wanted", "number"),
    [(0, 0), (1, 1), (2, 2), ("1", 1), (" 2 ", 2), ("eng", 0), ("en", 0), ("DEU", 1), ("de", 1)],
)
def test_a_sound_track_is_chosen_by_number_or_language(many_sounds, wanted, number):
    track, found = sound_of(many_sounds, audio_track=wanted)
    assert track.channels == CHANNELS[TRACKS[number][2]]
    assert pitch(found[0], track.rate) == pytest.approx(TRACKS[number][3], abs=2)
    assert track.notes == ()


def test_without_a_wish_ffmpeg_s_best_sound_is_heard_and_said(many_sounds):
    track, _ = sound_of(many_sounds)
    with av.open(str(many_sounds)) as container:
        best = container.streams.best("audio")
        assert best is not None
        assert track.stream == best.index
    (note,) = track.notes
    assert note.startswith("of 3 sound tracks (0: eng")
    assert note.endswith(f"number {track.stream - 1} is used")


@pytest.mark.parametrize("wanted", [3, -1, "7", "fra", "fr", "", "nonsense\n"])
def test_a_sound_track_that_is_not_there_is_refused_and_the_others_are_listed(many_sounds, wanted):
    with pytest.raises(InputError) as error:
        probe(many_sounds, audio_track=wanted)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    assert '0: eng, "Original", 2 channels; 1: deu, "Kommentar", 1 channel; 2: ' in message
    assert message.endswith("language not given, 6 channels")


def test_a_film_without_sound_has_no_sound_track_to_choose(made):
    with pytest.raises(InputError, match="it has no sound"):
        probe(made("grey"), audio_track=0)


def test_read_barcode_tells_frames_apart():
    """The tests above would say nothing if all frames looked alike."""
    assert [read_barcode(wide(number, 321, 241)) for number in range(N)] == list(range(N))
