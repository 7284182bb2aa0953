"""A decoded frame to the picture that a viewer sees: upright, whole, opaque, of square pixels.

Players do these things silently, and so does this: a film is turned and mirrored as its display
matrix asks, pixels that are not square are made so by widening or heightening the picture, frames
of two fields (interlaced) are made whole, and what is transparent is shown on white, as pictures
are. Films of high dynamic range are not tone-mapped, which `tribrain.stimuli.tracks.probe` says.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import av
import av.filter
import numpy as np
from av.video.reformatter import VideoReformatter

# Further off than this, the shape of a pixel is a wrong entry in the file and not a wish.
_MOST_STRETCHED = 4


def pixel_shape(stream: av.VideoStream) -> Fraction:
    """Width of a pixel over its height; 1 where the file does not say, or says the impossible."""
    shape = stream.sample_aspect_ratio
    if not shape or not Fraction(1, _MOST_STRETCHED) <= shape <= _MOST_STRETCHED:
        return Fraction(1)
    return Fraction(shape)


def shown_size(frame: av.VideoFrame, pixel: Fraction) -> tuple[int, int]:
    """Width and height at which a viewer sees a frame."""
    width, height = _square(frame, pixel)
    return (height, width) if _orientation(frame)[0] else (width, height)


def _square(frame: av.VideoFrame, pixel: Fraction) -> tuple[int, int]:
    """Width and height of a frame in square pixels, before it is turned; neither shrinks."""
    if pixel >= 1:
        return round(frame.width * pixel), frame.height
    return frame.width, round(frame.height / pixel)


def _orientation(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """Whether to swap rows with columns, then to mirror top to bottom, then left to right.

    The display matrix takes a place (x, y) of the frame to (a x + c y, b x + d y) on the screen;
    what is no multiple of a right angle is taken for the nearest.
    """
    side_data: Any = frame.side_data
    try:
        matrix = side_data["DISPLAYMATRIX"]
    except KeyError:
        return False, False, False
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, d < 0, a < 0
    return True, b < 0, c < 0


class ToRgb:
    """Decoded frames to arrays (height, width, 3) of uint8.

    One converter serves all frames of a film, as making it is slow.

    Parameters
    ----------
    size : (width, height) or None
        Size on the screen; None for the frame's own.
    pixel : Fraction
        Width of a pixel over its height (`pixel_shape`).
    """

    def __init__(self, size: tuple[int, int] | None, pixel: Fraction = Fraction(1)) -> None:
        self.converter, self.opaque_converter = VideoReformatter(), VideoReformatter()
        self.size, self.pixel = size, pixel

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        swap, upside_down, mirrored = _orientation(frame)
        if self.size is None:
            width, height = _square(frame, self.pixel)
        else:
            width, height = self.size[::-1] if swap else self.size
        interpolation = "AREA" if self.size else None
        if _may_be_transparent(frame):
            frame = self._on_white(frame)
        array = self.converter.reformat(
            frame, width, height, "rgb24", interpolation=interpolation
        ).to_ndarray()
        if swap:
            array = array.transpose(1, 0, 2)
        if upside_down:
            array = array[::-1]
        if mirrored:
            array = array[:, ::-1]
        return np.ascontiguousarray(array)

    def _on_white(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The frame without transparency; done before scaling, or hidden colours would bleed."""
        rgba = self.opaque_converter.reformat(frame, format="rgba").to_ndarray().astype(np.uint16)
        colour, opacity = rgba[..., :3], rgba[..., 3:]
        shown = (colour * opacity + 255 * (255 - opacity) + 127) // 255
        return av.VideoFrame.from_ndarray(shown.astype(np.uint8), format="rgb24")


def _may_be_transparent(frame: av.VideoFrame) -> bool:
    return frame.format.name == "pal8" or any(c.is_alpha for c in frame.format.components)


def whole_frames(frames: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Frames, those of two fields made whole by FFmpeg's bwdif; as many, at the same times.

    Each keeps its first field's moment. Frames that are not interlaced pass untouched.
    """
    graph: av.filter.Graph | None = None
    form: tuple | None = None
    for frame in frames:
        now = frame.width, frame.height, frame.format.name, frame.time_base
        if graph is not None and now != form:
            yield from _through(graph, None)
            graph = None
        if graph is None:
            if not frame.interlaced_frame or frame.pts is None:
                yield frame
                continue
            graph, form = _deinterlacer(frame), now
        yield from _through(graph, frame)
    if graph is not None:
        yield from _through(graph, None)


def _deinterlacer(frame: av.VideoFrame) -> av.filter.Graph:
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    bwdif = graph.add("bwdif", "mode=send_frame:deint=interlaced")
    graph.link_nodes(source, bwdif, graph.add("buffersink")).configure()
    return graph


def _through(graph: av.filter.Graph, frame: av.VideoFrame | None) -> Iterator[av.VideoFrame]:
    """What a graph gives for one more frame; None ends it and gives what it still holds."""
    graph.push(frame)
    while True:
        try:
            made = graph.pull()
        except EOFError:
            return
        except av.error.FFmpegError as error:
            if error.errno == errno.EAGAIN:
                return
            raise
        assert isinstance(made, av.VideoFrame), "a graph of pictures gives pictures"
        yield made
