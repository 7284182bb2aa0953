"""What is in a film or sound: its tracks, chosen and measured.

Times are seconds from the start of the file (the earliest of its chosen streams).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer

from tribrain.errors import InputError
from tribrain.files import one_line, require_file
from tribrain.stimuli.display import pixel_shape, shown_size

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm")
SOUND_SUFFIXES = (".wav", ".mp3", ".flac", ".ogg", ".m4a")

# A file that is a list of other files (a playlist, a concat script) must not make us read those.
_ONLY_THIS_FILE = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,wav,mp3,flac,ogg,aac",
}
_LONGEST_FILLING = 0.15  # seconds of padding at the end of a sound
_FIRST_LOOK = 300  # packets of video decoded at most to see one frame
_BETWEEN_LISTENS = 2.0  # seconds between the packets of sound that are decoded to see their form

_HIGH_RANGE = {16: "PQ", 18: "HLG"}  # transfer functions, numbered as in ITU-T H.273

# The codes of files have three letters, in two versions; people write two.
_LANGUAGES = {
    "ar": ("ara",),
    "cs": ("ces", "cze"),
    "da": ("dan",),
    "de": ("deu", "ger"),
    "el": ("ell", "gre"),
    "en": ("eng",),
    "es": ("spa",),
    "fi": ("fin",),
    "fr": ("fra", "fre"),
    "he": ("heb",),
    "hi": ("hin",),
    "hu": ("hun",),
    "it": ("ita",),
    "ja": ("jpn",),
    "ko": ("kor",),
    "nl": ("nld", "dut"),
    "no": ("nor", "nob", "nno"),
    "pl": ("pol",),
    "pt": ("por",),
    "ro": ("ron", "rum"),
    "ru": ("rus",),
    "sv": ("swe",),
    "tr": ("tur",),
    "uk": ("ukr",),
    "zh": ("zho", "chi"),
}


@dataclass(frozen=True, eq=False)
class VideoTrack:
    """One video stream, or pictures shown for a while (`stream` is then None).

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
    size : (width, height) or None
        Of the first frame as a viewer sees it, in square pixels; None where it was not looked at.
    pictures : tuple of Path or None
        Where `stream` is None: what is on the screen from each of `frame_times` on; None is blank.
    notes : tuple of str
        What is shown otherwise than the file holds it, in plain words.
    """

    path: Path
    stream: int | None
    start: float
    duration: float
    frame_times: np.ndarray
    rate: float | None
    origin: float = 0.0
    size: tuple[int, int] | None = None
    pictures: tuple[Path | None, ...] = ()
    notes: tuple[str, ...] = ()

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
    sample) in seconds, `rate` in samples a second; `notes` says in plain words what is heard
    otherwise than the file holds it.
    """

    path: Path
    stream: int
    start: float
    duration: float
    rate: int
    channels: int
    origin: float = 0.0
    notes: tuple[str, ...] = ()


def open_media(path: Path) -> InputContainer:
    """Open a film or sound, and no file but that."""
    try:
        # Without "file:", a colon in a name would be read as a protocol.
        return av.open(f"file:{path.absolute()}", "r", options=_ONLY_THIS_FILE)
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(
            f"{path} cannot be read as video or sound ({type(error).__name__}); "
            f"known formats: {', '.join(VIDEO_SUFFIXES + SOUND_SUFFIXES)}"
        ) from None


def tick(stream: av.stream.Stream) -> float:
    """Seconds of one unit of a stream's clock."""
    assert stream.time_base is not None, "a demuxed stream has a clock"
    return float(stream.time_base)


def probe(
    path: str | Path, audio_track: int | str | None = None
) -> tuple[VideoTrack | None, AudioTrack | None]:
    """Find FFmpeg's best video and best sound stream, and measure them.

    The packets of both are read once, so that lengths, frame times and a variable frame rate are
    those of the data and not of a header that may be wrong. One frame, and a packet of sound
    every two seconds, are decoded to see what they are. Cover pictures in sound files are not
    video.

    Parameters
    ----------
    path : path
    audio_track : int or str, optional
        Another sound than FFmpeg's best: its number among the file's sound tracks, from 0, or the
        code of its language ("eng", "en"), the first of that language.

    Returns
    -------
    (VideoTrack or None, AudioTrack or None)

    Raises
    ------
    InputError
        If the file cannot be read, or holds neither video nor sound, or not that sound track: the
        message lists those that there are.
    """
    path = require_file(path, "stimulus")
    with open_media(path) as container:
        video = container.streams.best("video")
        audio = _choose_sound(container, path, audio_track)
        is_cover = video is not None and video.disposition & av.stream.Disposition.attached_pic
        if not isinstance(video, av.VideoStream) or is_cover:
            video = None
        chosen: list[av.VideoStream | av.AudioStream] = [s for s in (video, audio) if s]
        if not chosen:
            raise InputError(f"{path} holds neither video nor sound")
        # Decoding may change what a stream says of itself.
        form = (audio.sample_rate, audio.channels) if audio is not None else (0, 0)
        packets, frame, forms, whole = _read_packets(container, video, audio)
        tail = () if whole else ("the file cannot be read to its end; what comes before is used",)
        spans = {s.index: _span(packets[s.index], s) for s in chosen if packets[s.index]}
        if not spans:
            raise InputError(f"{path} holds no readable packet of video or sound")
        zero = min(start for start, _ in spans.values())
        video_track = audio_track_found = None
        if video is not None and video.index in spans:
            start, end = spans[video.index]
            ticks = np.sort([pts for pts, _ in packets[video.index]])
            times = (ticks - ticks[0]) * tick(video)
            rate = _constant_rate(times, video.average_rate, tick(video))
            video_track = VideoTrack(
                path,
                video.index,
                start - zero,
                len(times) / rate if rate else end - start,
                times,
                rate,
                start,
                shown_size(frame, pixel_shape(video)) if frame is not None else None,
                notes=(*_video_notes(video, frame), *tail),
            )
        if audio is not None and audio.index in spans:
            start, end = spans[audio.index]
            notes = _sound_notes(container, audio, audio_track, form, forms)
            audio_track_found = AudioTrack(
                path, audio.index, start - zero, end - start, *form, start, (*notes, *tail)
            )
    return video_track, audio_track_found


Packets = dict[int, list[tuple[int, int]]]


def _read_packets(
    container: InputContainer, video: av.VideoStream | None, audio: av.AudioStream | None
) -> tuple[Packets, av.VideoFrame | None, list[tuple[int, int]], bool]:
    """Time stamps and lengths of the packets of each stream; the first frame that can be decoded;
    the rates and numbers of channels that the sound was found to have; whether the end was reached.
    """
    chosen = [stream for stream in (video, audio) if stream is not None]
    packets: Packets = {stream.index: [] for stream in chosen}
    frame: av.VideoFrame | None = None
    forms: dict[tuple[int, int], None] = {}  # in the order in which they were met
    next_listen, looked, whole = -np.inf, 0, True
    try:
        for packet in container.demux(chosen):
            if packet.stream.type == "video" and frame is None and looked < _FIRST_LOOK:
                looked += 1
                frame = next(iter(_decoded(packet)), None)
            if packet.pts is None or packet.is_discard:
                continue
            packets[packet.stream.index].append((packet.pts, packet.duration or 0))
            time = packet.pts * tick(packet.stream)
            if packet.stream.type == "audio" and time >= next_listen:
                next_listen = time + _BETWEEN_LISTENS
                forms |= {(s.sample_rate, s.layout.nb_channels): None for s in _decoded(packet)}
    except av.error.FFmpegError:
        whole = False  # a broken tail: what came before it is used
    if frame is None and video is not None and packets[video.index]:
        # A film of fewer frames than the decoder holds back.
        frame = next(iter(_decoded(av.Packet(), video)), None)
    return packets, frame, list(forms), whole


def _decoded(packet: av.Packet, stream: av.VideoStream | None = None) -> list:
    try:
        return stream.codec_context.decode(None) if stream is not None else packet.decode()
    except (av.error.FFmpegError, ValueError):
        return []


def _video_notes(video: av.VideoStream, frame: av.VideoFrame | None) -> tuple[str, ...]:
    notes = []
    if frame is not None and frame.interlaced_frame:
        notes.append("the film is interlaced; its frames are made whole (FFmpeg's bwdif)")
    kind = _HIGH_RANGE.get(int(video.codec_context.color_trc))
    if kind:
        notes.append(
            f"the film is of high dynamic range ({kind}); it is looked at without tone mapping, "
            "which makes it paler than on a screen"
        )
    return tuple(notes)


def _sound_notes(
    container: InputContainer,
    audio: av.AudioStream,
    asked: int | str | None,
    form: tuple[int, int],
    forms: Sequence[tuple[int, int]],
) -> tuple[str, ...]:
    notes = []
    tracks = container.streams.audio
    if len(tracks) > 1 and asked is None:
        number = [track.index for track in tracks].index(audio.index)
        notes.append(f"of {len(tracks)} sound tracks ({_listed(tracks)}) number {number} is used")
    others = [other for other in forms if other != form]
    if others:
        notes.append(
            f"the sound changes midway, from {_form(*form)} to {_form(*others[-1])}; all of it is "
            f"heard as {_form(*form)}, and its times after the change are uncertain"
        )
    return tuple(notes)


def _form(rate: int, channels: int) -> str:
    return f"{rate} Hz and {_counted(channels)}"


def _counted(channels: int) -> str:
    return "1 channel" if channels == 1 else f"{channels} channels"


def _choose_sound(
    container: InputContainer, path: Path, wanted: int | str | None
) -> av.AudioStream | None:
    """FFmpeg's best sound stream, or the one wanted (see `probe`)."""
    if wanted is None:
        best = container.streams.best("audio")
        return best if isinstance(best, av.AudioStream) else None
    tracks = container.streams.audio
    if isinstance(wanted, str) and not wanted.strip().isdecimal():
        code = wanted.strip().casefold()
        codes = {code, *_LANGUAGES.get(code, ())}
        for track in tracks:
            language = track.metadata.get("language", "").casefold()
            if language and (language in codes or language.partition("-")[0] in codes):
                return track
    elif 0 <= int(wanted) < len(tracks):
        return tracks[int(wanted)]
    holds = f"its sound tracks are {_listed(tracks)}" if tracks else "it has no sound"
    raise InputError(f"{path.name} has no sound track {one_line(str(wanted))!r}; {holds}")


def _listed(tracks: Sequence[av.AudioStream]) -> str:
    """Sound tracks by number, language, title and channels."""
    said = []
    for number, track in enumerate(tracks):
        title = one_line(track.metadata.get("title", ""))
        parts = [
            one_line(track.metadata.get("language", "")) or "language not given",
            *([f'"{title}"'] if title else []),
            _counted(track.channels),
        ]
        said.append(f"{number}: {', '.join(parts)}")
    return "; ".join(said)


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
    if stream.type == "audio" and 0 < (last - stated) * tick(stream) < _LONGEST_FILLING:
        last = stated
    return first * tick(stream), last * tick(stream)


def _constant_rate(times: np.ndarray, rate: Fraction | None, unit: float) -> float | None:
    """The stream's rate if every frame lies where that rate puts it (to the clock's rounding)."""
    if rate is None or not rate:
        return None
    expected = np.arange(len(times)) / float(rate)
    return float(rate) if np.all(np.abs(times - expected) <= 1.01 * unit + 1e-6) else None
