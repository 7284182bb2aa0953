"""A stimulus: video, sound and words on one clock."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
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
    PictureEvent,
    VideoTrack,
    picture_show,
    picture_track,
    probe,
)
from tribrain.stimuli.reading import parse_pace
from tribrain.stimuli.transcripts import read_transcript
from tribrain.stimuli.wording import Progress, WordSources, find_words
from tribrain.stimuli.words import Word, read_text, spread_over

TEXT_SUFFIXES = (".txt",)
DESIGN_SUFFIXES = (".tsv",)
MODALITIES = ("text", "audio", "video")


@dataclass(frozen=True, eq=False)
class Stimulus:
    """What is shown and heard, with times in seconds from the start.

    Make one with `open`, `from_video`, `from_audio`, `from_image`, `from_pictures` or `from_text`.

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
    events : tuple of PictureEvent
        Of a folder or design of pictures: which is shown when, and its condition.
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
    events: tuple[PictureEvent, ...] = ()

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those of text, audio and video that the stimulus has."""
        present = {"text": bool(self.words), "audio": self.audio, "video": self.video}
        return tuple(name for name in MODALITIES if present[name])

    @cached_property
    def checksum(self) -> str | None:
        """SHA-256 of the file it was made from, of its pictures and their times where there are
        several; None if it has gone. Read once.
        """
        if self.events:
            shown = [
                (e.onset, e.duration, e.condition, None if e.file is None else sha256(e.file))
                for e in self.events
            ]
            return hashlib.sha256(repr(shown).encode()).hexdigest()
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
            "word_sources": dict(Counter(word.source for word in self.words)),
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
        blank: float = 0.0,
        language: str | None = None,
        audio_track: int | str | None = None,
        subtitles: str | None = None,
        recogniser: str = "auto",
        aligner: str = "auto",
        sentences: bool = False,
        pace: str = "speaking",
        speak: str | None = None,
        folder: Path | None = None,
        device: str = "auto",
        progress: Progress | None = None,
    ) -> Stimulus:
        """Make a stimulus from a file of any known kind, told by its suffix.

        Parameters
        ----------
        path : path
            Video, sound, picture or text; a folder of pictures, or their design (.tsv).
        transcript : path, optional
            Word times (`tribrain.stimuli.transcripts.read_transcript`).
        text : path, optional
            Running text with punctuation. Without a transcript it is aligned to the sound.
        duration : float
            Seconds that a picture is shown.
        blank : float
            Seconds of blank screen between the pictures of a folder.
        language : str, optional
            Two-letter code of the words' language; told by ear where speech is recognised, else
            English.
        audio_track : int or str, optional
            Number (from 0) or language of the sound track; by default FFmpeg's best.
        subtitles, recogniser, aligner, sentences, device
            `tribrain.stimuli.wording.WordSources`.
        pace : str
            Of a text without a voice (`tribrain.stimuli.reading.parse_pace`).
        speak : str, optional
            Voice that says a text (`tribrain.stimuli.speaking.speak`), into `folder`.
        progress : callable, optional
            Called with what is done, how much of it, and of how much.

        Raises
        ------
        InputError
            A file that is missing, damaged or of an unknown kind; wrong word times.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if path.is_dir() or suffix in DESIGN_SUFFIXES:
            return cls.from_pictures(path, duration=duration, blank=blank)
        path = require_file(path, "stimulus")
        sources = WordSources(
            transcript, text, subtitles, recogniser, aligner, sentences, language, device
        )
        if suffix in VIDEO_SUFFIXES + SOUND_SUFFIXES:
            return cls._from_media(path, sources, audio_track, progress)
        if suffix in PICTURE_SUFFIXES:
            return cls._with_words(path, picture_track(path, duration), None, sources, progress)
        if suffix in TEXT_SUFFIXES:
            if text is not None:
                raise InputError(f"{path.name} is the text itself; leave --text out")
            return cls.from_text(
                path,
                transcript=transcript,
                language=language or "en",
                pace=pace,
                speak=speak,
                folder=folder,
                aligner=aligner,
            )
        known = VIDEO_SUFFIXES + SOUND_SUFFIXES + PICTURE_SUFFIXES + TEXT_SUFFIXES
        raise InputError(
            f"{path.name}: unknown kind of stimulus {suffix or '(no suffix)'!r}; "
            f"known: {', '.join(known)}, a folder of pictures, a design (.tsv)"
        )

    @classmethod
    def from_video(
        cls,
        path: str | Path,
        *,
        transcript: str | Path | None = None,
        text: str | Path | None = None,
        language: str | None = None,
        audio_track: int | str | None = None,
        subtitles: str | None = None,
        recogniser: str = "auto",
        aligner: str = "auto",
    ) -> Stimulus:
        """A film, with or without sound; parameters as in `open`."""
        sources = WordSources(transcript, text, subtitles, recogniser, aligner, language=language)
        return cls._from_media(require_file(path, "video"), sources, audio_track)

    @classmethod
    def from_audio(
        cls,
        path: str | Path,
        *,
        transcript: str | Path | None = None,
        text: str | Path | None = None,
        language: str | None = None,
        audio_track: int | str | None = None,
        recogniser: str = "auto",
        aligner: str = "auto",
    ) -> Stimulus:
        """A sound file; parameters as in `open`."""
        sources = WordSources(transcript, text, None, recogniser, aligner, language=language)
        return cls._from_media(require_file(path, "sound"), sources, audio_track)

    @classmethod
    def from_image(
        cls,
        path: str | Path,
        *,
        duration: float = 20.0,
        transcript: str | Path | None = None,
        text: str | Path | None = None,
        language: str | None = None,
    ) -> Stimulus:
        """A picture shown for `duration` seconds, in silence."""
        sources = WordSources(transcript, text, language=language)
        return cls._with_words(Path(path), picture_track(path, duration), None, sources)

    @classmethod
    def from_pictures(
        cls, path: str | Path, *, duration: float = 20.0, blank: float = 0.0
    ) -> Stimulus:
        """Pictures one after the other, in silence: a folder, or a design (.tsv) of file, onset,
        duration and condition (`tribrain.stimuli.pictures.picture_show`).
        """
        path = Path(path)
        show = picture_show(path, duration=duration, blank=blank)
        _warn(path, show.notes)
        length = show.track.start + show.track.duration
        notes = ("no sound", "no words: pictures alone", *show.notes)
        name = safe_name(path.stem if path.is_file() else path.resolve().name)
        return cls(name, length, show.track, None, (), None, path, notes, events=show.events)

    @classmethod
    def from_text(
        cls,
        path: str | Path,
        *,
        transcript: str | Path | None = None,
        language: str = "en",
        pace: str = "speaking",
        speak: str | None = None,
        folder: Path | None = None,
        aligner: str = "auto",
    ) -> Stimulus:
        """A text alone: word times from `transcript`, else those of `pace`, without a sound; or a
        voice says it (`speak`), into `folder`. Parameters as in `open`.
        """
        path = Path(path)
        text = read_text(path)
        for option, given in (("--transcript", transcript), ("--pace", pace != "speaking")):
            if speak is not None and given:
                raise InputError(f"--speak and {option} contradict each other; give one")
        audio = None
        if transcript is not None:
            words, notes = read_transcript(transcript)
            _warn(path, notes)
            notes = [f"word times of {Path(transcript).name}; no sound, no video", *notes]
        elif speak is not None:
            audio, words, notes = _spoken(text, speak, language, folder, aligner)
        else:
            timing = parse_pace(pace)
            words, notes = timing.times(text, language), [timing.note]
        if not words:
            raise InputError(f"text {path} holds no words")
        duration = max(word.end for word in words)
        if audio is not None:
            duration = max(duration, audio.start + audio.duration)
        if not duration > 0:
            raise InputError(f"transcript {transcript}: the words last no time")
        name = safe_name(path.stem)
        return cls(name, duration, None, audio, tuple(words), text, path, tuple(notes), language)

    @classmethod
    def _from_media(
        cls,
        path: Path,
        sources: WordSources,
        audio_track: int | str | None = None,
        progress: Progress | None = None,
    ) -> Stimulus:
        video, audio = probe(path, audio_track)
        return cls._with_words(path, video, audio, sources, progress)

    @classmethod
    def _with_words(
        cls,
        path: Path,
        video: VideoTrack | None,
        audio: AudioTrack | None,
        sources: WordSources,
        progress: Progress | None = None,
    ) -> Stimulus:
        tracks = [track for track in (video, audio) if track is not None]
        duration = max(track.start + track.duration for track in tracks)
        if not duration > 0:
            raise InputError(f"{path} lasts no time")
        found = find_words(path, audio, duration, sources, progress)
        missing = ["no video"] * (video is None) + ["no sound"] * (audio is None)
        odd = [note for track in tracks for note in track.notes]
        _warn(path, [*odd, *found.said])
        return cls(
            safe_name(path.stem),
            duration,
            video,
            audio,
            tuple(found.words),
            found.text,
            path,
            (*missing, *odd, *found.notes, *found.said),
            found.language,
        )


def _spoken(
    text: str, voice: str, language: str, folder: Path | None, aligner: str
) -> tuple[AudioTrack, list[Word], list[str]]:
    """A text said aloud: its sound, and its words as the voice, else an aligner, times them."""
    from tribrain.stimuli.alignment import align_text, load_aligner
    from tribrain.stimuli.speaking import speak

    if folder is None:
        raise InputError("a text that is spoken needs a folder for its sound")
    spoken = speak(text, voice, language, folder=folder)
    audio = probe(spoken.path)[1]
    assert audio is not None, "a voice makes sound"
    notes = list(spoken.notes)
    if spoken.words is not None:
        return audio, list(spoken.words), notes
    found = None if aligner == "none" else load_aligner(aligner, "cpu", language)
    if found is not None:
        words, said = align_text(text, audio, found, language)
        return audio, words, [*notes, *said]
    notes.append("word times are spread over the sound by syllables")
    return audio, spread_over(text.split(), audio.start, audio.duration), notes


def _warn(path: Path, notes: Iterable[str]) -> None:
    for note in notes:
        warnings.warn(f"{path.name}: {note}", InputWarning, stacklevel=5)
