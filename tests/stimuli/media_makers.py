"""Films whose frames carry their number in their pixels, and sounds that are known waves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tribrain.errors import InputError
from tribrain.stimuli.media import VideoTrack, iter_frames, probe

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
