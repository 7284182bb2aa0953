"""Speech to words: the programs that recognise it, and how a sound of any length is given to them.

Speech is found first, so that music and silence cost nothing and words heard in them do not count.
Long speech is cut at its pauses into pieces of at most 30 s.
"""

from __future__ import annotations

import importlib.util
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from tribrain.errors import InputError
from tribrain.stimuli.recognise_sound import RATE, length_at_16k, sound_at_16k
from tribrain.stimuli.speech import (
    LONGEST_PIECE,
    WINDOW,
    Gate,
    Piece,
    best_gate,
    join_words,
    plan_pieces,
    speech_spans,
    spoken_words,
)
from tribrain.stimuli.tracks import AudioTrack
from tribrain.stimuli.words import Word

Progress = Callable[[str, int, int], None]  # what is done, how much, of how much (seconds)

_BLOCK = 1000 * WINDOW  # samples that are searched for speech at once, 32 s
_SAMPLE = 60 * RATE  # samples of speech that a recogniser gets used to
_TELLING = 5.0  # seconds of speech from which on a language can be told


@dataclass(frozen=True)
class Recognised:
    """What a recogniser heard.

    Attributes
    ----------
    words : tuple of Word
        In order, in seconds from the start of the sound.
    language : str or None
        Two-letter code of the language heard; None where the recogniser cannot tell.
    notes : tuple of str
        What one should know of the words, in plain words.
    """

    words: tuple[Word, ...]
    language: str | None
    notes: tuple[str, ...] = ()


class Recogniser(Protocol):
    """A program that hears words.

    One that has a method ``adapt(sound)`` is first given a minute of a track's speech, to get used
    to voice and recording, so that what it hears then does not depend on how speech is cut.
    """

    name: str

    def recognise(self, sound: np.ndarray, language: str | None) -> Recognised:
        """Hear the words of a sound.

        Parameters
        ----------
        sound : ndarray (n,), float32
            Mono, 16 kHz.
        language : str or None
            Two-letter code; None to tell it by ear.

        Raises
        ------
        InputError
            A language that the recogniser does not know.
        """


@dataclass(frozen=True)
class Kind:
    """A kind of recogniser.

    Attributes
    ----------
    load : function (where, device) -> Recogniser
        `where` is what follows the colon of a spec, `device` one of cpu, cuda, mps.
    takes : str
        What follows the colon, or "".
    """

    load: Callable[[str, str], Recogniser]
    takes: str


def _load_faster_whisper(where: str, device: str) -> Recogniser:
    from tribrain.stimuli.recognise_faster_whisper import FasterWhisper

    return FasterWhisper(where, device)


def _load_transformers(where: str, device: str) -> Recogniser:
    from tribrain.stimuli.recognise_transformers import load_transformers

    return load_transformers(Path(where), device)


def _load_pocketsphinx(where: str, device: str) -> Recogniser:
    from tribrain.stimuli.recognise_pocketsphinx import PocketSphinx

    return PocketSphinx()


RECOGNISERS: dict[str, Kind] = {
    "faster-whisper": Kind(_load_faster_whisper, "FOLDER_OR_NAME"),
    "transformers": Kind(_load_transformers, "FOLDER"),
    "pocketsphinx": Kind(_load_pocketsphinx, ""),
}


def load_recogniser(
    spec: str, device: str = "auto", language: str | None = None
) -> Recogniser | None:
    """Load a recogniser by name.

    Parameters
    ----------
    spec : str
        ``faster-whisper:FOLDER_OR_NAME`` (a folder in CTranslate2 format, or a model of the hub),
        ``transformers:FOLDER``, ``pocketsphinx``, ``none``, or ``auto``: the first that is
        installed and needs no network of faster-whisper, if one of its models is in the local
        cache, and pocketsphinx, for English.
    device : {"auto", "cpu", "cuda", "mps"}
        "auto" is a CUDA GPU if there is one, else the CPU.
    language : str or None
        Language of the speech, if known; only "auto" looks at it.

    Returns
    -------
    Recogniser or None
        None for ``none``, and for ``auto`` where none is installed.

    Raises
    ------
    InputError
        An unknown name, a package or model that is not there.
    """
    if spec == "none":
        return None
    if device == "auto":
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
    if spec == "auto":
        return _first_installed(device, language)
    name, colon, where = spec.partition(":")
    kind = RECOGNISERS.get(name)
    if kind is None or bool(kind.takes) != bool(where) or (colon and not where):
        raise InputError(f"recogniser {spec!r} is unknown; known: {', '.join(known_recognisers())}")
    return kind.load(where, device)


def known_recognisers() -> list[str]:
    """The specs that `load_recogniser` takes."""
    named = [f"{name}:{kind.takes}" if kind.takes else name for name, kind in RECOGNISERS.items()]
    return ["auto", "none", *named]


def _first_installed(device: str, language: str | None) -> Recogniser | None:
    if importlib.util.find_spec("faster_whisper"):
        from tribrain.stimuli.recognise_faster_whisper import cached_model

        folder = cached_model(language)
        if folder is not None:
            return _load_faster_whisper(str(folder), device)
    english = language is None or main_language(language) == "en"
    if english and importlib.util.find_spec("pocketsphinx"):
        return _load_pocketsphinx("", device)
    return None


def main_language(code: str) -> str:
    """The language of a code such as ``en-GB`` or ``pt_BR``."""
    return code.replace("_", "-").partition("-")[0].lower()


def recognise_track(
    track: AudioTrack,
    recogniser: Recogniser,
    language: str | None = None,
    progress: Progress | None = None,
    *,
    gate: Gate | None = None,
    longest: float = LONGEST_PIECE,
) -> Recognised:
    """Recognise the speech of a whole track, of any length, in bounded memory.

    The track is decoded twice: once to find speech, once, if there is any, to hear it.

    Parameters
    ----------
    track : AudioTrack
    recogniser : Recogniser
    language : str or None
        Two-letter code; None to tell it by ear, piece by piece. Pieces with under 5 s of speech
        are taken to be in the language of the last longer one.
    progress : function (what, done, total), optional
        Called with seconds of sound.
    gate : Gate, optional
        What tells speech; by default silero-vad where it is installed, else loudness.
    longest : float
        Seconds of the longest piece, 5 or more.

    Returns
    -------
    Recognised
        Words in seconds of stimulus time (the track's start included), in order; the language
        that most of the speech is in.

    Raises
    ------
    InputError
        A language that the recogniser does not know.
    """
    notes: list[str] = []
    if gate is None:
        gate, notes = best_gate()
    language = main_language(language) if language else None
    n_samples = length_at_16k(track)
    probabilities = _speech_probabilities(track, gate, n_samples, progress)
    spans = speech_spans(probabilities)
    if not spans:
        notes.append(f"no words: no speech was found in the sound (by {gate.name})")
        return Recognised((), language, tuple(notes))
    pieces = plan_pieces(spans, probabilities, n_samples, longest)
    adapt = getattr(recogniser, "adapt", None)
    if adapt is not None:
        adapt(_sample(track, plan_pieces(spans, probabilities, n_samples, math.inf)))
    words, languages, said = _recognise_pieces(track, pieces, recogniser, language, progress)
    words, dropped = spoken_words(
        words, [(first * WINDOW / RATE, last * WINDOW / RATE) for first, last in spans]
    )
    notes += said
    if dropped:
        some = "1 word was" if dropped == 1 else f"{dropped} words were"
        notes.append(f"{some} recognised where there is no speech, and left out")
    if not words:
        seconds = sum(last - first for first, last in spans) * WINDOW / RATE
        notes.append(f"no words: none was recognised in the {seconds:.1f} s of speech")
    if len(languages) > 1:
        shares = ", ".join(f"{code} ({n / RATE:.0f} s)" for code, n in languages.most_common())
        notes.append(f"speech was heard in several languages: {shares}")
    found = languages.most_common(1)[0][0] if languages else language
    placed = (replace(word, start=word.start + track.start) for word in words)
    return Recognised(tuple(placed), found, tuple(notes))


def _speech_probabilities(
    track: AudioTrack, gate: Gate, n_samples: int, progress: Progress | None
) -> np.ndarray:
    """Probability of speech in each window of a track; the last one is filled up with silence."""
    edges = range(0, n_samples, _BLOCK)
    blocks = [(first, min(first + _BLOCK, -(-n_samples // WINDOW) * WINDOW)) for first in edges]
    found = [np.zeros(0, np.float32)]
    sounds = sound_at_16k(track, blocks)
    for (_, last), sound in zip(blocks, sounds, strict=True):
        found.append(gate(sound))
        if progress:
            progress("speech", min(last, n_samples) // RATE, n_samples // RATE)
    return np.concatenate(found)


def _sample(track: AudioTrack, runs: list[Piece]) -> np.ndarray:
    """The first minute of a track's speech, its short pauses included."""
    spans, left = [], _SAMPLE
    for run in runs:
        if left > 0:
            spans.append((run.first, min(run.last, run.first + left)))
            left -= run.last - run.first
    return np.concatenate(list(sound_at_16k(track, spans)))


def _recognise_pieces(
    track: AudioTrack,
    pieces: list[Piece],
    recogniser: Recogniser,
    language: str | None,
    progress: Progress | None,
) -> tuple[list[Word], Counter[str], list[str]]:
    """Words on the track's clock, samples of speech in each language, and what was said."""
    words: list[Word] = []
    languages: Counter[str] = Counter()
    notes: dict[str, None] = {}
    done, total = 0, sum(piece.speech for piece in pieces)
    last_told: str | None = None
    sounds = sound_at_16k(track, [(piece.first, piece.last) for piece in pieces])
    for piece, sound in zip(pieces, sounds, strict=True):
        short = piece.speech < _TELLING * RATE
        heard = recogniser.recognise(sound, language or (last_told if short else None))
        placed = _on_track(heard.words, piece)
        words = (
            [*words, *placed] if piece.cut is None else join_words(words, placed, piece.cut / RATE)
        )
        if heard.language is not None:
            languages[heard.language] += piece.speech
            last_told = last_told if short else heard.language
        notes.update(dict.fromkeys(heard.notes))
        done += piece.speech
        if progress:
            progress("words", done // RATE, total // RATE)
    return words, languages, list(notes)


def _on_track(words: tuple[Word, ...], piece: Piece) -> list[Word]:
    """Words of a piece on the track's clock, within what the piece heard, in order."""
    first, last = piece.first / RATE, piece.last / RATE
    placed = []
    for word in words:
        start = min(max(word.start + first, first), last)
        end = min(max(word.end + first, start), last)
        placed.append(replace(word, start=start, duration=end - start))
    return sorted(placed, key=lambda word: word.start)
