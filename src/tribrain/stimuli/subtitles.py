"""Subtitle tracks in films: which there are, and their words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import av

from tribrain.errors import InputError
from tribrain.files import one_line, require_file
from tribrain.stimuli.caption_text import Cue, told
from tribrain.stimuli.captions import caption_words
from tribrain.stimuli.encoding import text_encoding
from tribrain.stimuli.tracks import open_media, probe, tick
from tribrain.stimuli.words import Word

TEXT_CODECS = ("subrip", "ass", "mov_text", "webvtt")
_PICTURE_CODECS = ("dvd_subtitle", "dvb_subtitle", "hdmv_pgs_subtitle", "xsub")
_OTHER_NAMES = {"srt": "subrip", "ssa": "ass", "text": "subrip"}


@dataclass(frozen=True)
class SubtitleTrack:
    """A subtitle track: `index` is its number among all streams of the file; `language` its
    three-letter code and `title` its name, each None where the file does not say.
    """

    index: int
    language: str | None
    title: str | None
    codec: str

    @property
    def readable(self) -> bool:
        """Whether it holds text; some hold pictures of text, or broadcast codes."""
        return self.codec in TEXT_CODECS

    def __str__(self) -> str:
        said = ", ".join(one_line(part) for part in (self.language, self.title) if part)
        kind = self.codec
        if not self.readable:
            why = "pictures of text" if kind in _PICTURE_CODECS else "an unknown kind"
            kind += f": {why}, not readable"
        return f"{self.index} ({said + ', ' if said else ''}{kind})"


def subtitle_tracks(path: str | Path) -> list[SubtitleTrack]:
    """Subtitle tracks of a film, also those that are pictures (`readable` is then False).

    Raises
    ------
    InputError
        If the file is missing or cannot be read as film or sound.
    """
    path = require_file(path, "stimulus")
    with open_media(path) as container:
        return [_described(s) for s in container.streams if s.type == "subtitle"]


def _described(stream: av.stream.Stream) -> SubtitleTrack:
    context = stream.codec_context  # None where FFmpeg has no decoder
    codec = "unknown"
    if context is not None:
        codec = getattr(context.codec, "canonical_name", None) or context.name
    said = stream.metadata
    language = said.get("language")
    return SubtitleTrack(
        stream.index,
        None if language in (None, "", "und") else language,
        said.get("title") or None,
        _OTHER_NAMES.get(codec, codec),
    )


def read_subtitles(
    path: str | Path, track: SubtitleTrack | int, *, zero: float | None = None
) -> tuple[list[Word], list[str]]:
    """Words of a subtitle track, by the rules of `tribrain.stimuli.captions.caption_words`.

    Times are seconds from the start of the file. A caption that starts before it is cut there;
    one that is over by then is left out, with a note. The track may be longer than the film.

    Parameters
    ----------
    path : path
    track : SubtitleTrack or int
        One of `subtitle_tracks`, or its index.
    zero : float, optional
        The file's own time stamp (s) of its start; by default that of the earlier of the video and
        sound that `tribrain.stimuli.tracks.probe` chooses.

    Returns
    -------
    words : list of Word
        By start.
    notes : list of str

    Raises
    ------
    InputError
        No such track, one that is not text, one without words: the tracks are named.
    """
    path = require_file(path, "stimulus")
    tracks = subtitle_tracks(path)
    index = track.index if isinstance(track, SubtitleTrack) else track
    found = next((one for one in tracks if one.index == index), None)
    if found is None or not found.readable:
        what = "has no subtitle track" if found is None else "cannot give the words of track"
        known = ", ".join(map(str, tracks)) or "no subtitles"
        raise InputError(f"{path.name} {what} {index}; it has: {known}")
    if zero is None:
        zero = _start_of(path)
    name = f"{one_line(path.name)}, subtitles {index}"
    cues, early, notes = _cues(path, found, zero)
    if not cues:
        raise InputError(f"{name}: the track holds no captions")
    words, said = caption_words(cues, name)
    notes += said
    if early:
        notes.append(f"{name}: {told(early, 'caption')} before the start of the film left out")
    return words, notes


def _start_of(path: Path) -> float:
    return next(track.origin - track.start for track in probe(path) if track is not None)


def _cues(path: Path, track: SubtitleTrack, zero: float) -> tuple[list[Cue], int, list[str]]:
    """Captions of a track, how many were over before the start, and how they were read."""
    texts: list[bytes] = []
    spans: list[tuple[float, float | None]] = []
    early = 0
    with open_media(path) as container:
        stream = container.streams[track.index]
        try:
            for packet in container.demux(stream):
                text = _content(bytes(packet), track.codec)
                if packet.pts is None or not text.strip():
                    continue  # the end of the file, or a gap, which .mp4 writes as a caption
                start = packet.pts * tick(stream) - zero
                end = start + packet.duration * tick(stream) if packet.duration else None
                if start < 0 and (start if end is None else end) <= 0:
                    early += 1
                    continue
                texts.append(text)
                spans.append((max(0.0, round(start, 6)), None if end is None else round(end, 6)))
        except av.error.FFmpegError:
            pass  # a broken tail: what came before it is used
    where = f"{one_line(path.name)}, subtitles {track.index}"
    encoding, notes = text_encoding(b"\n".join(texts), where, "film")
    cues = [
        Cue(start, end, _plain(text.decode(encoding), track.codec))
        for (start, end), text in zip(spans, texts, strict=True)
    ]
    return cues, early, notes


def _content(data: bytes, codec: str) -> bytes:
    """Text of a packet; the decoders of FFmpeg would lose the time stamps of words."""
    if codec != "mov_text":
        return data
    data = data[2 : 2 + int.from_bytes(data[:2], "big")]  # length, text, boxes that format it
    for mark, encoding in ((b"\xfe\xff", "utf-16-be"), (b"\xff\xfe", "utf-16-le")):
        if data.startswith(mark):
            return data[2:].decode(encoding, "replace").encode()
    return data


def _plain(text: str, codec: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if codec == "ass":  # order, layer, style, name, three margins, effect, text
        text = text.split(",", 8)[-1] if text.count(",") >= 8 else ""
        text = re.sub(r"\\[Nn]", "\n", text).replace(r"\h", " ")
    return text
