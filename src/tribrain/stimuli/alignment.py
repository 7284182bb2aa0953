"""When the words of a known text are spoken in a sound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from tribrain.errors import InputError
from tribrain.stimuli.align_sound import SAMPLE_RATE, sound_16k
from tribrain.stimuli.media import AudioTrack
from tribrain.stimuli.words import Word, spoken_times, spread_over, syllables

_SYLLABLE = 0.2  # seconds, where nothing else bounds a word that was not matched


@dataclass(frozen=True)
class Place:
    """Where a word was found: seconds in the sound, and how sure that is (0 to 1, or None)."""

    start: float
    end: float
    confidence: float | None = None


class Aligner(Protocol):
    """Finds the words of a text in a sound.

    Attributes
    ----------
    name : str
        How it is asked for.
    """

    name: str

    def align(
        self, words: Sequence[str], sound: np.ndarray, language: str
    ) -> tuple[list[Place | None], list[str]]:
        """Place words, in their order; None for a word that was not found.

        Parameters
        ----------
        words : sequence of str
        sound : ndarray (n,), float32
            Mono, 16 kHz.
        language : str
            Two-letter code.

        Returns
        -------
        places : list of Place or None
            One a word.
        notes : list of str
        """
        ...


def align_text(
    text: str,
    sound: np.ndarray | AudioTrack,
    aligner: Aligner,
    language: str = "en",
) -> tuple[list[Word], list[str]]:
    """Find when each word of a text is spoken.

    Every word of the text is returned, as `tribrain.stimuli.words.spoken_times` cuts it into
    words. A word that the aligner did not find lies between its neighbours, by syllables; before
    the first and behind the last found word, at five syllables a second as far as there is room.

    Parameters
    ----------
    text : str
        Running text; punctuation is allowed.
    sound : ndarray (n,), float32, or AudioTrack
        An array is mono at 16 kHz.
    aligner : Aligner
        From `load_aligner`.
    language : str
        Two-letter code of the text's language.

    Returns
    -------
    words : list of Word
        In the order of the text; source "aligned" or "interpolated". Starts never decrease and
        no word begins before the one before it has ended. Times are seconds from the start of an
        array, and of the stimulus for a track (its own start is added).
    notes : list of str
        Which words were not found, and what the aligner did in another way than usual.

    Raises
    ------
    InputError
        A text without words; an empty sound; a language that the aligner does not know.
    """
    texts = [word.text for word in spoken_times(text)]
    if not texts:
        raise InputError("the text to align holds no words")
    wave = sound_16k(sound)
    if not len(wave):
        raise InputError("the sound to align is empty")
    offset = sound.start if isinstance(sound, AudioTrack) else 0.0
    places, notes = aligner.align(texts, wave, language)
    assert len(places) == len(texts), "an aligner places every word or says None"
    words = complete(texts, in_order(places, len(wave) / SAMPLE_RATE), len(wave) / SAMPLE_RATE)
    lost = [word.text for word in words if word.source == "interpolated"]
    if lost:
        few = ", ".join(repr(one) for one in lost[:5]) + (", ..." if len(lost) > 5 else "")
        notes = [
            *notes,
            f"{len(lost)} of {len(words)} words of the text were not found in the sound ({few}); "
            "their times are set between those of their neighbours",
        ]
    moved = [
        Word(w.text, w.start + offset, w.duration, w.confidence, w.source) if offset else w
        for w in words
    ]
    return moved, list(notes)


def in_order(places: Sequence[Place | None], length: float) -> list[Place | None]:
    """Places within the sound, none of which begins before the one before it has ended."""
    now = 0.0
    ordered: list[Place | None] = []
    for place in places:
        if place is not None:
            start = min(max(place.start, now), length)
            now = min(max(place.end, start), length)
            place = Place(start, now, place.confidence)
        ordered.append(place)
    return ordered


def complete(texts: Sequence[str], places: Sequence[Place | None], length: float) -> list[Word]:
    """Words with the times of their places, and times between them for those without a place.

    Parameters
    ----------
    texts : sequence of str
    places : sequence of Place or None
        In order (`in_order`).
    length : float
        Seconds of the sound.
    """
    words: list[Word] = []
    position = 0
    while position < len(texts):
        place = places[position]
        if place is not None:
            words.append(
                Word(
                    texts[position],
                    place.start,
                    place.end - place.start,
                    place.confidence,
                    "aligned",
                )
            )
            position += 1
            continue
        last = position
        while last < len(texts) and places[last] is None:
            last += 1
        lost = texts[position:last]
        after = places[last] if last < len(texts) else None
        last_time = after.start if after is not None else length
        first_time = min(words[-1].end, last_time) if words else 0.0
        room = last_time - first_time
        usual = min(room, _SYLLABLE * sum(map(syllables, lost)))
        if not words and after is not None:  # before the first word found: close to it
            first_time, room = last_time - usual, usual
        elif words and after is None:
            room = usual
        words.extend(
            Word(one.text, one.start, one.duration, None, "interpolated")
            for one in spread_over(lost, first_time, room)
        )
        position = last
    return words


def _pocketsphinx(rest: str, device: str) -> Aligner:
    from tribrain.stimuli.align_sphinx import PocketsphinxAligner

    if rest:
        raise InputError("the aligner pocketsphinx takes no folder; it brings its own model")
    return PocketsphinxAligner()


def _ctc(rest: str, device: str) -> Aligner:
    from tribrain.stimuli.align_ctc import load_ctc

    if not rest:
        raise InputError("the aligner ctc takes a model's folder: ctc:FOLDER")
    return load_ctc(Path(rest), device)


# By the part of a specification before the colon; each gets what follows it, and the device.
ALIGNERS: dict[str, Callable[[str, str], Aligner]] = {
    "pocketsphinx": _pocketsphinx,
    "ctc": _ctc,
}


def load_aligner(spec: str = "auto", device: str = "cpu", language: str = "en") -> Aligner | None:
    """Load what aligns a text to sound.

    Parameters
    ----------
    spec : str
        "pocketsphinx" (English; comes with its model), "ctc:FOLDER" (a CTC speech model such as
        wav2vec 2 in Hugging Face format), or "auto": pocketsphinx if it is installed and the
        language is English, else none.
    device : str
        For CTC models: "cpu", "cuda" or "mps".
    language : str
        Two-letter code; for "auto".

    Returns
    -------
    Aligner or None
        None only for "auto".

    Raises
    ------
    InputError
        An unknown name, a missing package or a folder that holds no such model.
    """
    from importlib.util import find_spec

    if spec == "auto":
        if find_spec("pocketsphinx") is None or language.split("-")[0].lower() != "en":
            return None
        return _pocketsphinx("", device)
    name, _, rest = spec.partition(":")
    if name not in ALIGNERS:
        raise InputError(
            f"unknown aligner {spec!r}; known: auto, pocketsphinx, ctc:FOLDER (a model's folder)"
        )
    return ALIGNERS[name](rest, device)
