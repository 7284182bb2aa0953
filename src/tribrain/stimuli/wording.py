"""Where the words of a film or a sound come from: a transcript, captions, its text, or its speech.

In this order: a transcript; a subtitle track, if it is asked for; the text, aligned to the sound;
the sound, recognised. What is found, left out or only guessed is said in plain words.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tribrain.errors import InputError
from tribrain.stimuli.media import AudioTrack
from tribrain.stimuli.sentences import restore_text
from tribrain.stimuli.subtitles import SubtitleTrack, read_subtitles, subtitle_tracks
from tribrain.stimuli.transcripts import read_transcript
from tribrain.stimuli.words import Word, read_text

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class WordSources:
    """What is known of the words, and what may find them.

    Attributes
    ----------
    transcript : path or None
        File with word times (`tribrain.stimuli.transcripts.read_transcript`).
    text : path or None
        File with the running text.
    subtitles : str or None
        Subtitle track of the film to read: its number, its language, or "auto" for the first one
        of the language that is text.
    recogniser : str
        As `tribrain.stimuli.recognition.load_recogniser` takes it; "auto" follows
        ``$TRIBRAIN_RECOGNISER`` where that is set.
    aligner : str
        "none", or as `tribrain.stimuli.alignment.load_aligner` takes it; "auto" follows
        ``$TRIBRAIN_ALIGNER`` where that is set.
    sentences : bool
        Without a text, give the words punctuation from their pauses; else they are joined by one
        space, as published.
    language : str or None
        Two-letter code; None to tell it by ear, English where nobody listens.
    device : str
        Where recognition runs.
    """

    transcript: str | Path | None = None
    text: str | Path | None = None
    subtitles: str | None = None
    recogniser: str = "auto"
    aligner: str = "auto"
    sentences: bool = False
    language: str | None = None
    device: str = "auto"


@dataclass
class Found:
    """Words with what is to be said of them: `notes` are recorded, `said` is told at once too."""

    words: list[Word] = field(default_factory=list)
    text: str | None = None
    language: str = "en"
    notes: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def add(self, words: Iterable[Word], notes: Iterable[str]) -> Found:
        self.words = list(words)
        self.said += notes
        return self


def find_words(
    path: Path,
    audio: AudioTrack | None,
    duration: float,
    sources: WordSources,
    progress: Progress | None = None,
) -> Found:
    """Find the words of a film or sound; those that start after its end are left out.

    Parameters
    ----------
    path : Path
        The film or sound.
    audio : AudioTrack or None
    duration : float
        Seconds of the stimulus.
    progress : callable, optional
        Called with what is done, seconds of sound done and their total.

    Raises
    ------
    InputError
        A file that cannot be read; a track, recogniser or aligner that is not there; a transcript
        of which no word starts before the end.
    """
    found = Found(language=sources.language or "en")
    if sources.text is not None:
        found.text = read_text(sources.text)
    if sources.transcript is not None:
        found.add(*read_transcript(sources.transcript))
        _within(found, duration, f"transcript {Path(sources.transcript).name}")
    elif sources.subtitles is not None:
        track = _subtitle_track(path, sources)
        zero = None if audio is None else audio.origin - audio.start
        words, notes = read_subtitles(path, track, zero=zero)
        found.add(words, [note.removeprefix(f"{path.name}, ") for note in notes])
        found.notes.append(f"words of subtitle track {track}")
        _within(found, duration, f"subtitle track {track.index}")
    elif audio is None:
        why = "no word times were given (--transcript) and there is no sound to hear"
        found.notes.append(f"no words: {why}")
        if found.text is not None:
            found.said.append(f"text is left out: {why}")
    else:
        _heard(found, audio, sources, progress)
        found.words = [word for word in found.words if word.start < duration]
        if not found.words:
            _offer_subtitles(found, path)
    if sources.sentences and found.text is None and found.words:
        found.text = restore_text(found.words, found.language)
        found.notes.append("sentences are told by the pauses between words")
    return found


def _heard(
    found: Found, audio: AudioTrack, sources: WordSources, progress: Progress | None
) -> None:
    """Words by alignment of the text, or by recognition."""
    if found.text is not None:
        aligner = _aligner(sources, found.language)
        if aligner is not None:
            from tribrain.stimuli.alignment import align_text

            found.add(*align_text(found.text, audio, aligner, found.language))
            found.notes.append(f"words of the text, aligned to the sound by {aligner.name}")
            return
    if sources.recogniser == "none":
        why = "no word times were given (--transcript) and speech is not listened to"
        found.notes.append(f"no words: {why}")
        if found.text is not None:
            found.said.append(f"text is left out: {why}")
        return
    recogniser = _recogniser(sources)
    if recogniser is None:
        why = "no word times were given (--transcript) and no speech recogniser is installed"
        found.notes.append(f"no words: {why}")
        found.said.append(f"text is left out: {why} (pip install 'tribrain[asr]')")
        return
    from tribrain.stimuli.recognition import recognise_track

    heard = recognise_track(audio, recogniser, sources.language, progress)
    found.language = heard.language or found.language
    if heard.words:
        found.notes.append(f"words recognised by {recogniser.name}")
    found.add(heard.words, heard.notes)


def _recogniser(sources: WordSources):  # type: ignore[no-untyped-def]
    from tribrain.stimuli.recognition import load_recogniser

    spec = sources.recogniser
    if spec == "auto":
        spec = os.environ.get("TRIBRAIN_RECOGNISER", "auto")
    return load_recogniser(spec, sources.device, sources.language)


def _aligner(sources: WordSources, language: str):  # type: ignore[no-untyped-def]
    from tribrain.stimuli.alignment import load_aligner

    spec = sources.aligner
    if spec == "auto":
        spec = os.environ.get("TRIBRAIN_ALIGNER", "auto")
    if spec == "none":
        return None
    return load_aligner(spec, "cpu" if sources.device == "auto" else sources.device, language)


def _subtitle_track(path: Path, sources: WordSources) -> SubtitleTrack:
    tracks = subtitle_tracks(path)
    wanted = str(sources.subtitles)
    readable = [track for track in tracks if track.readable]
    there = "; ".join(map(str, tracks)) or "none"
    if wanted.isdecimal():
        fits = [track for track in tracks if track.index == int(wanted)]
    elif wanted == "auto":
        own = (sources.language or "en")[:2]
        # Files name languages by three letters; the first two mostly tell.
        fits = [track for track in readable if (track.language or "").startswith(own)] or readable
    else:
        fits = [track for track in readable if track.language == wanted]
    if not fits:
        raise InputError(
            f"{path.name} has no subtitle track {wanted!r} to read; there are: {there}"
        )
    return fits[0]


def _offer_subtitles(found: Found, path: Path) -> None:
    """Say that a film which gave no words holds captions."""
    readable = [track for track in subtitle_tracks(path) if track.readable]
    if readable:
        listed = "; ".join(map(str, readable))
        found.said.append(
            f"it holds subtitle tracks that can be read: {listed}; --subtitles NUMBER reads one"
        )


def _within(found: Found, duration: float, source: str) -> None:
    """Leave out words that start after the end; without any left, nothing fits together."""
    every = found.words
    found.words = [word for word in every if word.start < duration]
    if not found.words:
        raise InputError(
            f"{source}: no word starts before the stimulus "
            f"ends at {duration:.3f} s (the first starts at {every[0].start:.3f} s)"
        )
    late = len(every) - len(found.words)
    if late:
        words_start, were = ("word starts", "was") if late == 1 else ("words start", "were")
        found.said.append(f"{late} {words_start} after the stimulus ends and {were} left out")
