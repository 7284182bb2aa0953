"""Films, sounds and pictures: what is in a file, its frames in order, its sound in pieces.

Times are seconds from the start of the file (the earliest of its chosen streams).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import VideoReformatter

from tribrain.errors import InputError
from tribrain.files import require_file

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm")
SOUND_SUFFIXES = (".wav", ".mp3", ".flac", ".ogg", ".m4a")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")

# A file that is a list of other files (a playlist, a concat script) must not make us read those.
_ONLY_THIS_FILE = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,wav,mp3,flac,ogg,aac",
}
_SEEK_MARGIN = 2.0  # seconds; the first frames after a keyframe may need those before it
_LONGEST_FILLING = 0.15  # seconds of padding at the end of a sound


@dataclass(frozen=True, eq=False)
class VideoTrack:
    """One video stream, or a picture shown for a while (`stream` is then None).

    Attributes
    ----------
    path : Path
    stream : int or None
        Index of the stream in the file.
    start, duration : float
        Seconds.
    frame_times : ndarray (n_frames,)
        Seconds from the first frame, in order of display.
    rate : float or None
        Frames a second where the rate is constant; None where it varies.
    origin : float
        The file's own time stamp of the first frame, in seconds.
    """

    path: Path
    stream: int | None
    start: float
    duration: float
    frame_times: np.ndarray
    rate: float | None
    origin: float = 0.0

    def frame_numbers(self, times: np.ndarray) -> np.ndarray:
        """Number of the frame shown at each time; past the end, the last one.

        Constant rate: ``int(rate * time + 1e-5)``, the published rule. Variable rate: the last
        frame whose time is not after `time`.

        Parameters
        ----------
        times : ndarray, any shape
            Seconds from the first frame, not negative.

        Returns
        -------
        ndarray of int64, same shape
        """
        if self.rate is not None:
            numbers = (self.rate * times + 1e-5).astype(np.int64)
        else:
            numbers = np.searchsorted(self.frame_times, times + 1e-9, side="right") - 1
        return np.clip(numbers, 0, len(self.frame_times) - 1)


@dataclass(frozen=True, eq=False)
class AudioTrack:
    """One sound stream: `start`, `duration` and `origin` (the file's own time stamp of the first
    sample) in seconds, `rate` in samples a second.
    """

    path: Path
    stream: int
    start: float
    duration: float
    rate: int
    channels: int
    origin: float = 0.0


def _open(path: Path) -> InputContainer:
    try:
        # Without "file:", a colon in a name would be read as a protocol.
        return av.open(f"file:{path.absolute()}", "r", options=_ONLY_THIS_FILE)
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(
            f"{path} cannot be read as video or sound ({type(error).__name__}); "
            f"known formats: {', '.join(VIDEO_SUFFIXES + SOUND_SUFFIXES)}"
        ) from None


def probe(path: str | Path) -> tuple[VideoTrack | None, AudioTrack | None]:
    """Find FFmpeg's best video and best sound stream, and measure them.

    The packets of both are read once (not decoded), so that lengths, frame times and a variable
    frame rate are those of the data and not of a header that may be wrong. Cover pictures in
    sound files are not video.

    Returns
    -------
    (VideoTrack or None, AudioTrack or None)

    Raises
    ------
    InputError
        If the file cannot be read, or holds neither video nor sound.
    """
    path = require_file(path, "stimulus")
    with _open(path) as container:
        video, audio = container.streams.best("video"), container.streams.best("audio")
        is_cover = video is not None and video.disposition & av.stream.Disposition.attached_pic
        if not isinstance(video, av.VideoStream) or is_cover:
            video = None
        if not isinstance(audio, av.AudioStream):
            audio = None
        chosen: list[av.VideoStream | av.AudioStream] = [s for s in (video, audio) if s]
        if not chosen:
            raise InputError(f"{path} holds neither video nor sound")
        packets: dict[int, list[tuple[int, int]]] = {stream.index: [] for stream in chosen}
        try:
            for packet in container.demux(chosen):
                if packet.pts is not None and not packet.is_discard:
                    packets[packet.stream.index].append((packet.pts, packet.duration or 0))
        except av.error.FFmpegError:
            pass  # a broken tail: what came before it is used
        spans = {s.index: _span(packets[s.index], s) for s in chosen if packets[s.index]}
        if not spans:
            raise InputError(f"{path} holds no readable packet of video or sound")
        zero = min(start for start, _ in spans.values())
        video_track = audio_track = None
        if video is not None and video.index in spans:
            start, end = spans[video.index]
            ticks = np.sort([pts for pts, _ in packets[video.index]])
            times = (ticks - ticks[0]) * _tick(video)
            rate = _constant_rate(times, video.average_rate, _tick(video))
            duration = len(times) / rate if rate else end - start
            video_track = VideoTrack(path, video.index, start - zero, duration, times, rate, start)
        if audio is not None and audio.index in spans:
            start, end = spans[audio.index]
            audio_track = AudioTrack(
                path,
                audio.index,
                start - zero,
                end - start,
                audio.sample_rate,
                audio.channels,
                start,
            )
    return video_track, audio_track


def _span(packets: list[tuple[int, int]], stream: av.stream.Stream) -> tuple[float, float]:
    """First and last moment (s) of a stream, from its packets.

    The last packet of a sound may be filled up by the encoder; the stated duration tells by how
    much. Where it is further off it is an estimate, and does not count.
    """
    first = min(pts for pts, _ in packets)
    last = max(pts + duration for pts, duration in packets)
    if stream.start_time is not None:
        first = max(first, stream.start_time)  # samples before it are the encoder's padding
    stated = first + (stream.duration or 0)
    if stream.type == "audio" and 0 < (last - stated) * _tick(stream) < _LONGEST_FILLING:
        last = stated
    return first * _tick(stream), last * _tick(stream)


def _tick(stream: av.stream.Stream) -> float:
    """Seconds of one unit of a stream's clock."""
    assert stream.time_base is not None, "a demuxed stream has a clock"
    return float(stream.time_base)


def _constant_rate(times: np.ndarray, rate: Fraction | None, tick: float) -> float | None:
    """The stream's rate if every frame lies where that rate puts it (to the clock's rounding)."""
    if rate is None or not rate:
        return None
    expected = np.arange(len(times)) / float(rate)
    return float(rate) if np.all(np.abs(times - expected) <= 1.01 * tick + 1e-6) else None


def picture_track(path: str | Path, duration: float) -> VideoTrack:
    """A picture shown for `duration` seconds, as a track of one frame."""
    path = require_file(path, "picture")
    if not 0 < duration < float("inf"):
        raise InputError(f"a picture is shown for a positive time; {duration:g} s is not")
    _read_picture(path)
    return VideoTrack(path, None, 0.0, float(duration), np.zeros(1), None)


def _read_picture(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I;16"):
                upright = Image.fromarray((np.asarray(upright) / 257).round().astype(np.uint8))
            if upright.has_transparency_data:  # shown on white, as a page of paper
                upright = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
            upright = upright.convert("RGB")
            return np.array(upright.resize(size, Image.Resampling.BOX) if size else upright)
    except (
        UnidentifiedImageError,
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
    ) as error:
        raise InputError(
            f"{path} cannot be read as a picture ({type(error).__name__}); "
            f"known formats: {', '.join(PICTURE_SUFFIXES)}"
        ) from None


def iter_frames(
    track: VideoTrack, numbers: Iterable[int], size: tuple[int, int] | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Decode a track once, in order, and yield the frames asked for.

    Decoding starts at the beginning, or, if the first frame asked for lies well behind it, at a
    keyframe before that one.

    Parameters
    ----------
    track : VideoTrack
    numbers : iterable of int
        Frame numbers in order of display; each is yielded once, ascending.
    size : (width, height), optional
        Scale frames to this size (by area) before a rotation that the file asks for.

    Yields
    ------
    number : int
    frame : ndarray (height, width, 3), uint8
        RGB. Frames that a broken file cannot give repeat the last one that it could.

    Raises
    ------
    InputError
        If no frame at all can be decoded.
    """
    wanted = sorted(set(numbers))
    if track.stream is None:
        picture = _read_picture(track.path, size)
        yield from ((number, picture) for number in wanted)
        return
    to_rgb = _ToRgb(size)
    position, number, last = 0, -1, None
    with _open(track.path) as container:
        for frame in _frames_from(container, track, wanted[0] if wanted else 0):
            if position == len(wanted):
                return
            if frame.time is None:
                number += 1
            else:
                since = frame.time - track.origin
                number = max(0, int(np.searchsorted(track.frame_times, since + 1e-4)) - 1)
            # Numbers that a damaged packet swallowed show what was on the screen before.
            while position < len(wanted) and wanted[position] < number:
                yield wanted[position], to_rgb(last or frame)
                position += 1
            if position < len(wanted) and wanted[position] == number:
                yield number, to_rgb(frame)
                position += 1
            last = frame
    if last is None:
        raise InputError(f"no frame of {track.path} can be decoded")
    for number in wanted[position:]:
        yield number, to_rgb(last)


def _frames_from(
    container: InputContainer, track: VideoTrack, first: int
) -> Iterator[av.VideoFrame]:
    """Frames in order, from one that is shown at or before frame `first`."""
    assert track.stream is not None, "a picture is not decoded"
    stream = container.streams[track.stream]
    target = track.origin + float(track.frame_times[first]) - _SEEK_MARGIN
    if target - track.origin > _SEEK_MARGIN:
        try:
            container.seek(int(target / _tick(stream)), stream=stream)
            frames = _decoded(container, stream)
            one = next(frames, None)
        except av.error.FFmpegError:
            one = None
        # Where a seek went astray (a file without an index, a broken one), all is decoded.
        if one is not None and one.time is not None and one.time <= target + _SEEK_MARGIN / 2:
            yield one
            yield from frames
            return
        container.seek(int((track.origin - _SEEK_MARGIN) / _tick(stream)), stream=stream)
    yield from _decoded(container, stream)


def _decoded(container: InputContainer, stream: av.stream.Stream) -> Iterator:
    """Frames of a stream in order; damaged packets are passed over."""
    stream.codec_context.thread_type = "AUTO"
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            yield from packet.decode()
        except av.error.EOFError:
            return
        except av.error.FFmpegError:
            continue


class _ToRgb:
    """Decoded frames to arrays; one converter serves all, as making it is slow."""

    def __init__(self, size: tuple[int, int] | None) -> None:
        self.converter = VideoReformatter()
        self.width: int | None = size[0] if size else None
        self.height: int | None = size[1] if size else None
        self.interpolation = "AREA" if size else None

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        array = self.converter.reformat(
            frame, self.width, self.height, "rgb24", interpolation=self.interpolation
        ).to_ndarray()
        turns = round(frame.rotation / 90) % 4
        return np.ascontiguousarray(np.rot90(array, turns)) if turns else array


def iter_audio(
    track: AudioTrack, spans: Iterable[tuple[float, float]], *, mono: bool = False
) -> Iterator[np.ndarray]:
    """Decode a track once, in order, and yield the sound of each span.

    Parameters
    ----------
    track : AudioTrack
    spans : iterable of (start, duration)
        Seconds from the start of the track; ascending, not overlapping.
    mono : bool
        Give the mean over channels, as one channel; a long span then takes as little memory.

    Yields
    ------
    ndarray (channels, samples), float32
        ``round(duration * rate)`` samples in [-1, 1]; zeros where the file holds none.
    """
    edges = [
        (round(start * track.rate), round((start + duration) * track.rate))
        for start, duration in spans
    ]
    pieces = _audio_pieces(track)
    if mono:
        pieces = (piece.mean(axis=0, keepdims=True, dtype=np.float32) for piece in pieces)
    held = np.zeros((1 if mono else track.channels, 0), np.float32)
    origin, ended = 0, False  # sample number of held[:, 0]
    for first, last in edges:
        while not ended and origin + held.shape[1] < last:
            block = [held]
            size = origin + held.shape[1]
            while size < last:
                piece = next(pieces, None)
                if piece is None:
                    ended = True
                    break
                size += piece.shape[1]
                if size <= first:  # before the span: not needed by any that follows
                    block, origin = [held[:, :0]], size
                else:
                    block.append(piece)
            held = np.concatenate(block, axis=1)
        piece = held[:, max(0, first - origin) : max(0, last - origin)]
        missing = (last - first) - piece.shape[1]
        yield np.pad(piece, ((0, 0), (0, missing))) if missing else piece
        held, origin = held[:, max(0, last - origin) :], max(origin, last)


def _audio_pieces(track: AudioTrack) -> Iterator[np.ndarray]:
    """Float samples in order, silence filled in where time stamps leave a gap of over 50 ms."""
    with _open(track.path) as container:
        # Channels side by side: PyAV counts the planes of eight channels wrongly.
        to_float = av.AudioResampler(format="flt")
        position = 0
        for frame in _decoded(container, container.streams[track.stream]):
            if frame.pts is not None:
                time = frame.pts * float(frame.time_base)
                gap = round((time - track.origin) * track.rate) - position
                if gap > 0.05 * track.rate:
                    yield np.zeros((track.channels, gap), np.float32)
                    position += gap
            for converted in to_float.resample(frame):
                samples = converted.to_ndarray().reshape(-1, track.channels).T
                yield samples
                position += samples.shape[1]
