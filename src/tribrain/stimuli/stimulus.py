"""A stimulus: video, sound and words on one clock."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tribrain.errors import InputError, InputWarning
from tribrain.files import require_file, safe_name, sha256
from tribrain.stimuli.media import (
    PICTURE_SUFFIXES,
    SOUND_SUFFIXES,
    VIDEO_SUFFIXES,
    AudioTrack,
    VideoTrack,
    picture_track,
    probe,
)
from tribrain.stimuli.words import Word, read_text, read_transcript, spoken_times

TEXT_SUFFIXES = (".txt",)
MODALITIES = ("text", "audio", "video")


@dataclass(frozen=True, eq=False)
class Stimulus:
    """What is shown and heard, with times in seconds from the start.

    Make one with `open`, `from_video`, `from_audio`, `from_image` or `from_text`.

    Attributes
    ----------
    name : str
        Name of the file, safe for use in file names.
    duration : float
        Length in seconds: that of the longer of video and sound; of a text, the end of its last
        word.
    video, audio : track or None
    words : tuple of Word
        In order of start; all start before the end.
    text : str or None
        Running text with punctuation, where it was given.
    path : Path
        The file it was made from.
    notes : tuple of str
        What is missing or was changed, in plain words.
    language : str
        Two-letter code of the words' language.
    """

    name: str
    duration: float
    video: VideoTrack | None
    audio: AudioTrack | None
    words: tuple[Word, ...]
    text: str | None
    path: Path
    notes: tuple[str, ...] = ()
    language: str = "en"

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those of text, audio and video that the stimulus has."""
        present = {"text": bool(self.words), "audio": self.audio, "video": self.video}
        return tuple(name for name in MODALITIES if present[name])

    @cached_property
    def checksum(self) -> str | None:
        """SHA-256 of the file it was made from, None if that has gone; read once."""
        return sha256(self.path) if self.path.is_file() else None

    def describe(self) -> dict[str, Any]:
        """What the stimulus is, as plain data."""
        return {
            "name": self.name,
            "file": self.path.name,
            "sha256": self.checksum,
            "duration_s": self.duration,
            "modalities": list(self.modalities),
            "words": len(self.words),
            "language": self.language,
            "notes": list(self.notes),
        }

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        transcript: str | Path | None = None,
        text: str | Path | None = None,
        duration: float = 20.0,
        language: str = "en",
    ) -> Stimulus:
        """Make a stimulus from a file of any known kind, told by its suffix.

        Parameters
        ----------
        path : path
            Video, sound, picture or text.
        transcript : path, optional
            Word times (`tribrain.stimuli.words.read_transcript`).
        text : path, optional
            Running text with punctuation.
        duration : float
            Seconds that a picture is shown.
        language : str
            Two-letter code of the words' language.

        Raises
        ------
        InputError
            A file that is missing, damaged or of an unknown kind; wrong word times.
        """
        path = require_file(path, "stimulus")
        suffix = path.suffix.lower()
        if suffix in VIDEO_SUFFIXES + SOUND_SUFFIXES:
            return cls._from_media(path, transcript, text, language)
        if suffix in PICTURE_SUFFIXES:
            return cls.from_image(
                path, duration=duration, transcript=transcript, text=text, language=language
            )
        if suffix in TEXT_SUFFIXES:
            if text is not None:
                raise InputError(f"{path.name} is the text itself; leave --text out")
            return cls.from_text(path, transcript=transcript, language=language)
        known = VIDEO_SUFFIXES + SOUND_SUFFIXES + PICTURE_SUFFIXES + TEXT_SUFFIXES
        raise InputError(
            f"{path.name}: unknown kind of stimulus {suffix or '(no suffix)'!r}; "
            f"known: {', '.join(known)}"
        )

    @classmethod
    def from_video(
        cls,
        path: str | Path,
        *,
        transcript: str | Path | None = None,
        text: str | Path | None = None,
        language: str = "en",
    ) -> Stimulus:
        """A film with its sound, if it has any."""
        return cls._from_media(require_file(path, "film"), transcript, text, language)

    @classmethod
    def from_audio(
        cls,
        path: str | Path,
        *,
        transcript: str | Path | None = None,
        text: str | Path | None = None,
        language: str = "en",
    ) -> Stimulus:
        """A sound file."""
        return cls._from_media(require_file(path, "sound"), transcript, text, language)

    @classmethod
    def from_image(
        cls,
        path: str | Path,
        *,
        duration: float = 20.0,
        transcript: str | Path | None = None,
        text: str | Path | None = None,
        language: str = "en",
    ) -> Stimulus:
        """A picture shown for `duration` seconds, in silence."""
        track = picture_track(path, duration)
        return cls._with_words(Path(path), track, None, transcript, text, language)

    @classmethod
    def from_text(
        cls, path: str | Path, *, transcript: str | Path | None = None, language: str = "en"
    ) -> Stimulus:
        """A text alone: no sound; word times from `transcript`, else those of reading aloud."""
        path = Path(path)
        text = read_text(path)
        if transcript is not None:
            words, notes = read_transcript(transcript)
            _warn(path, notes)
            notes = [f"word times of {Path(transcript).name}; no sound, no video", *notes]
        else:
            words = spoken_times(text)
            notes = ["word times are those of reading aloud at 5 syllables a second; no sound"]
        if not words:
            raise InputError(f"text {path} holds no words")
        duration = max(word.end for word in words)
        if not duration > 0:
            raise InputError(f"transcript {transcript}: the words last no time")
        name = safe_name(path.stem)
        return cls(name, duration, None, None, tuple(words), text, path, tuple(notes), language)

    @classmethod
    def _from_media(
        cls, path: Path, transcript: str | Path | None, text: str | Path | None, language: str
    ) -> Stimulus:
        video, audio = probe(path)
        return cls._with_words(path, video, audio, transcript, text, language)

    @classmethod
    def _with_words(
        cls,
        path: Path,
        video: VideoTrack | None,
        audio: AudioTrack | None,
        transcript: str | Path | None,
        text: str | Path | None,
        language: str,
    ) -> Stimulus:
        duration = max(t.start + t.duration for t in (video, audio) if t is not None)
        if not duration > 0:
            raise InputError(f"{path} lasts no time")
        notes = []
        if video is None:
            notes.append("no video")
        if audio is None:
            notes.append("no sound")
        running = read_text(text) if text is not None else None
        words: tuple[Word, ...] = ()
        if transcript is not None:
            every, said = read_transcript(transcript)
            words = tuple(word for word in every if word.start < duration)
            late = len(every) - len(words)
            if not words:
                raise InputError(
                    f"transcript {Path(transcript).name}: no word starts before the stimulus "
                    f"ends at {duration:.3f} s (the first starts at {every[0].start:.3f} s)"
                )
            if late:
                words_start, were = ("word starts", "was") if late == 1 else ("words start", "were")
                said.append(f"{late} {words_start} after the stimulus ends and {were} left out")
            _warn(path, said)
            notes += said
        else:
            why = "no word times were given (--transcript) and no speech recogniser is installed"
            if audio is None:
                why = "no word times were given (--transcript) and there is no sound to hear"
            notes.append(f"no words: {why}")
            if running is not None or audio is not None:
                _warn(path, [f"text is left out: {why}"])
        name = safe_name(path.stem)
        return cls(name, duration, video, audio, words, running, path, tuple(notes), language)


def _warn(path: Path, notes: Iterable[str]) -> None:
    for note in notes:
        warnings.warn(f"{path.name}: {note}", InputWarning, stacklevel=5)
