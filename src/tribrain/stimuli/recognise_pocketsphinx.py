"""Recognition with pocketsphinx: English alone, modest accuracy, nothing to download."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from tribrain.errors import InputError
from tribrain.stimuli.recognise_sound import RATE
from tribrain.stimuli.recognition import Recognised, main_language
from tribrain.stimuli.words import Word

_FRAMES = 100  # a second
_FILLER = re.compile(r"[<\[+]")  # <sil>, [NOISE], ++SMACK++
_NOTE = (
    "words were recognised by pocketsphinx, which mishears about one in four even of clear speech; "
    "a Whisper model hears better (--recogniser faster-whisper:NAME)"
)


class PocketSphinx:
    """pocketsphinx with the English model that comes in its package.

    Raises
    ------
    InputError
        If the package is not installed.
    """

    name = "pocketsphinx"

    def __init__(self) -> None:
        try:
            from pocketsphinx import Decoder
        except ImportError:
            raise InputError(
                "pocketsphinx is not installed; pip install 'tribrain[offline]'"
            ) from None
        self._decoder = Decoder(samprate=RATE, loglevel="FATAL")
        # Looks for one phrase alone, which is quick: it serves to measure a sound, not to hear it.
        self._meter = Decoder(samprate=RATE, loglevel="FATAL", lm=None, keyphrase="forward")

    def adapt(self, sound: np.ndarray) -> None:
        """Get used to voice and recording, for all sounds until it is called again.

        The mean cepstrum of the sound is taken off what is heard from then on. Without this, each
        sound is heard against its own mean, and the words of a long one depend on how it is cut.
        """
        _hear(self._meter, sound)
        self._decoder.config["cmn"] = "live"
        self._decoder.config["cmninit"] = self._meter.get_cmn(False)

    def recognise(self, sound: np.ndarray, language: str | None) -> Recognised:
        """Hear the words of a sound; see `tribrain.stimuli.recognition.Recogniser`.

        A word's confidence is its posterior probability in the lattice of words.
        """
        if language is not None and main_language(language) != "en":
            raise InputError(
                f"pocketsphinx knows English alone, not {language!r}; faster-whisper:NAME and "
                "transformers:FOLDER know other languages"
            )
        decoder = self._decoder
        _hear(decoder, sound)
        words = []
        for part in decoder.seg() or ():
            if _FILLER.match(part.word):
                continue
            text = re.sub(r"\(\d+\)$", "", part.word)  # read(2), the second way to say it
            start = part.start_frame / _FRAMES
            duration = (part.end_frame + 1 - part.start_frame) / _FRAMES
            confidence = float(min(max(part.prob, 0.0), 1.0))
            words.append(Word(text, start, duration, confidence, "recognised"))
        return Recognised(tuple(words), "en", (_NOTE,))


def _hear(decoder: Any, sound: np.ndarray) -> None:
    samples = (np.clip(sound, -1, 1) * 32767).astype(np.int16)
    # Else the noise of one sound would be taken off the next, and its words would depend on it.
    decoder.reinit_feat()
    decoder.start_utt()
    decoder.process_raw(samples.tobytes(), False, True)
    decoder.end_utt()
