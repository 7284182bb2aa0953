"""Films, sounds and pictures: their frames in order, their sound in pieces.

What is in a file is found by `tribrain.stimuli.tracks`, how a frame is shown is said by
`tribrain.stimuli.display`, pictures are read by `tribrain.stimuli.pictures`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import av
import numpy as np
from av.container import InputContainer

from tribrain.errors import InputError
from tribrain.stimuli.display import ToRgb, pixel_shape, whole_frames
from tribrain.stimuli.pictures import (
    PICTURE_SUFFIXES,
    PictureEvent,
    PictureShow,
    picture_frames,
    picture_show,
    picture_track,
)
from tribrain.stimuli.tracks import (
    SOUND_SUFFIXES,
    VIDEO_SUFFIXES,
    AudioTrack,
    VideoTrack,
    open_media,
    probe,
    tick,
)

__all__ = [
    "PICTURE_SUFFIXES",
    "SOUND_SUFFIXES",
    "VIDEO_SUFFIXES",
    "AudioTrack",
    "PictureEvent",
    "PictureShow",
    "VideoTrack",
    "iter_audio",
    "iter_frames",
    "picture_show",
    "picture_track",
    "probe",
]

_SEEK_MARGIN = 2.0  # seconds; the first frames after a keyframe may need those before it
_LONGEST_SILENCE = 10  # seconds of silence that are made at once
_LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


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
        Size (by area) of the picture as it is seen, after any turn that the file asks for. A
        picture of another shape than this is fitted in, on mid grey; a film fills it.

    Yields
    ------
    number : int
    frame : ndarray (height, width, 3), uint8
        RGB, as a viewer sees it (`tribrain.stimuli.display`). Without `size`, each has its own;
        frames that a broken file cannot give repeat the last one that it could.

    Raises
    ------
    InputError
        If no frame at all can be decoded, or a picture cannot be read.
    """
    wanted, n_frames = sorted(set(numbers)), len(track.frame_times)
    if track.stream is None:
        yield from picture_frames(track, wanted, size)
        return
    position, last = 0, None
    # Where a film ends in damage, threads lose good frames before it: those are tried once more.
    for threads in ("AUTO", "SLICE"):
        if position == len(wanted) or (last is not None and wanted[position] >= n_frames):
            break
        with open_media(track.path) as container:
            stream = container.streams[track.stream]
            assert isinstance(stream, av.VideoStream), f"stream {track.stream} is no video"
            to_rgb = ToRgb(size, pixel_shape(stream))
            for number, frame in _numbered(container, track, wanted[position], threads):
                # Numbers that a damaged packet swallowed show what was on the screen before.
                while position < len(wanted) and wanted[position] < number:
                    yield wanted[position], to_rgb(last or frame)
                    position += 1
                if position < len(wanted) and wanted[position] == number:
                    yield number, to_rgb(frame)
                    position += 1
                last = frame
                if position == len(wanted):
                    return
    for number in wanted[position:]:
        if last is None:
            raise InputError(f"no frame of {track.path} can be decoded")
        yield number, to_rgb(last)


def _numbered(
    container: InputContainer, track: VideoTrack, first: int, threads: str
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Whole frames with their numbers, in order, from one that is shown at or before `first`."""
    frames = _frames_from(container, track, first, threads)
    # What has no time stamp before the first that has one lies before the film's start.
    timed = itertools.dropwhile(lambda frame: frame.time is None, frames)
    number = -1
    for frame in whole_frames(timed):
        if frame.time is None:
            number += 1
        else:
            since = frame.time - track.origin
            number = max(0, int(np.searchsorted(track.frame_times, since + 1e-4)) - 1)
        yield number, frame


def _frames_from(
    container: InputContainer, track: VideoTrack, first: int, threads: str
) -> Iterator[av.VideoFrame]:
    """Frames in order, from one that is shown at or before frame `first`."""
    assert track.stream is not None, "a picture is not decoded"
    stream = container.streams[track.stream]
    first = min(first, len(track.frame_times) - 1)
    target = track.origin + float(track.frame_times[first]) - _SEEK_MARGIN
    if target - track.origin > _SEEK_MARGIN:
        try:
            container.seek(int(target / tick(stream)), stream=stream)
            frames = _decoded(container, stream, threads)
            one = next(frames, None)
        except av.error.FFmpegError:
            one = None
        # Where a seek went astray (a file without an index, a broken one), all is decoded.
        if one is not None and one.time is not None and one.time <= target + _SEEK_MARGIN / 2:
            yield one
            yield from frames
            return
        container.seek(int((track.origin - _SEEK_MARGIN) / tick(stream)), stream=stream)
    yield from _decoded(container, stream, threads)


def _decoded(
    container: InputContainer, stream: av.stream.Stream, threads: str = "AUTO"
) -> Iterator:
    """Frames of a stream in order; damaged packets are passed over."""
    stream.codec_context.thread_type = threads
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
    """Float samples in order, silence filled in where time stamps leave a gap of over 50 ms.

    Sound that changes its rate or its channels midway is brought to those of the track.
    """
    position = 0  # samples given so far
    with open_media(track.path) as container:
        convert = _ToFloat(track)
        for frame in _decoded(container, container.streams[track.stream]):
            if frame.pts is not None:
                time = frame.pts * float(frame.time_base)
                gap = round((time - track.origin) * track.rate) - position
                if gap > 0.05 * track.rate:
                    position += gap
                    yield from _silence(track, gap)
            for samples in convert(frame):
                yield samples
                position += samples.shape[1]
        yield from convert.rest()


def _silence(track: AudioTrack, length: int) -> Iterator[np.ndarray]:
    while length > 0:
        piece = min(length, _LONGEST_SILENCE * track.rate)
        yield np.zeros((track.channels, piece), np.float32)
        length -= piece


class _ToFloat:
    """Decoded sound to arrays (channels, samples) of float32, of the track's rate and channels."""

    def __init__(self, track: AudioTrack) -> None:
        self.rate, self.channels = track.rate, track.channels
        self.layout = _LAYOUTS.get(track.channels, f"{track.channels}c")
        self.converter: av.AudioResampler | None = None
        self.form: tuple | None = None  # of the sound that the converter takes

    def __call__(self, frame: av.AudioFrame) -> Iterator[np.ndarray]:
        form = frame.format.name, frame.layout.name, frame.sample_rate
        if self.converter is None or form != self.form:
            yield from self.rest()
            if frame.layout.nb_channels == self.channels:
                self.layout = frame.layout.name
            # Channels side by side: PyAV counts the planes of eight channels wrongly.
            self.converter = av.AudioResampler(format="flt", layout=self.layout, rate=self.rate)
            self.form = form
        yield from map(self._samples, self.converter.resample(frame))

    def rest(self) -> Iterator[np.ndarray]:
        """What a change of rate still holds back."""
        held = self.converter.resample(None) if self.converter is not None else []
        # A converter that had nothing to convert gives back the None that it was given.
        yield from (self._samples(frame) for frame in held if frame is not None)

    def _samples(self, frame: av.AudioFrame) -> np.ndarray:
        return frame.to_ndarray().reshape(-1, self.channels).T
