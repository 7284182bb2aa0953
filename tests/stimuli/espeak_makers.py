"""Speech made by espeak-ng, with the times that it says its own words begin at."""

from __future__ import annotations

import ctypes
import ctypes.util
from functools import cache
from typing import Any

import numpy as np
import pytest

from tribrain.stimuli.words import spoken_times

_WORD, _SYNCHRONOUS, _RATE_PARAMETER = 1, 2, 1
_UTF8, _BY_CHARACTER = 1, 1


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@cache
def _library() -> tuple[Any, int]:
    """The library and its sample rate; skips the test where it is not installed."""
    name = ctypes.util.find_library("espeak-ng")
    if name is None:
        pytest.skip("espeak-ng is not installed (libespeak-ng1)")
    library = ctypes.CDLL(name)
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, None, 0)
    if rate <= 0:
        pytest.skip("espeak-ng has no voices (espeak-ng-data)")
    return library, rate


def speak(
    text: str, words_a_minute: int = 160, voice: str = "en-us"
) -> tuple[np.ndarray, list[tuple[int, float]]]:
    """Say a text.

    Returns
    -------
    sound : ndarray (n,), float32
        Mono, 16 kHz.
    truth : list of (number, seconds)
        Number of a word of `spoken_times` and when it begins, for the words that have an event of
        their own (of a pair that is said as one, the first).
    """
    import julius
    import torch

    library, rate = _library()
    pieces: list[np.ndarray] = []
    events: list[tuple[int, float]] = []

    def take(wave: Any, count: int, event: Any) -> int:
        if wave and count:
            pieces.append(np.ctypeslib.as_array(wave, (count,)).copy())
        position = 0
        while event[position].type:
            if event[position].type == _WORD:
                here = event[position]
                events.append((here.text_position - 1, here.audio_position / 1000))
            position += 1
        return 0

    callback = _Callback(take)
    library.espeak_SetVoiceByName(voice.encode())
    library.espeak_SetParameter(_RATE_PARAMETER, words_a_minute, 0)
    library.espeak_SetSynthCallback(callback)
    said = text.encode() + b"\0"
    library.espeak_Synth(said, len(said), 0, _BY_CHARACTER, 0, _UTF8, None, None)
    wave = torch.from_numpy(np.concatenate(pieces).astype(np.float32) / 32768)
    sound = julius.resample_frac(wave, rate, 16_000).numpy()
    return sound, _own_events(text, events)


def _own_events(text: str, events: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Numbers of the words at which an event lies, by their place in the text."""
    number_at: dict[int, int] = {}
    cursor = 0
    for number, word in enumerate(spoken_times(text)):
        cursor = text.index(word.text, cursor)
        number_at[cursor] = number
        cursor += len(word.text)
    truth: dict[int, float] = {}
    for place, seconds in events:
        if place in number_at:
            truth.setdefault(number_at[place], seconds)
    return sorted(truth.items())


def sentences(count: int, seed: int = 0) -> str:
    """Running English text of `count` sentences, all different, without names or figures."""
    rng = np.random.default_rng(seed)
    subjects = (
        "the old fisherman;my youngest sister;a quiet teacher;every second traveller;the baker;"
        "some careful children;our neighbour;the first officer;nobody in the village;the doctor;"
        "a tall stranger;the woman with the lantern;his patient brother;the farmer's daughter"
    ).split(";")
    verbs = (
        "carried;remembered;left behind;painted;wanted to see;opened;looked after;never found;"
        "talked about;washed;had forgotten;brought home;sold;listened to;could not repair"
    ).split(";")
    objects = (
        "the broken window;a basket of apples;the long wooden table;seven letters;the garden gate;"
        "an empty bottle;the road across the mountain;their grandmother's piano;fresh bread;"
        "the blue umbrella;the story of the river;a very small island;warm clothes;two horses"
    ).split(";")
    endings = (
        "before the winter;in the early morning;, because it was late;when the music stopped;"
        "after a long silence;, and then went to sleep;without a single word;near the harbour;"
        "on the way to the station;, although nobody asked;during the summer holidays;at night"
    ).split(";")
    lines = []
    for _ in range(count):
        parts = [str(rng.choice(one)) for one in (subjects, verbs, objects, endings)]
        line = " ".join(parts).replace(" ,", ",")
        lines.append(line[0].upper() + line[1:] + ".")
    return " ".join(lines)
