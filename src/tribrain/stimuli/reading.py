"""Word times of a text without a voice: spoken inwardly, read, or shown word by word."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace

from tribrain.errors import InputError
from tribrain.stimuli.sentences import sentence_spans
from tribrain.stimuli.words import Word, spoken_times

_HAN_OR_KANA = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_THAI_OR_LAO = re.compile("[\u0e00-\u0eff]")
_MEAN_LETTERS = 4.6  # of an English word in running text (Brysbaert 2019)


@dataclass(frozen=True)
class Mode:
    """A way to give a text its times: what its number means, and between which values it lies.

    `form` is how it is written; `milliseconds` names the further settings that it takes.
    """

    form: str
    unit: str
    rate: float
    lowest: float
    highest: float
    times: Callable[[str, Pace, str], list[Word]]
    milliseconds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pace:
    """How fast a text without a voice goes by.

    Attributes
    ----------
    mode : str
        A key of `MODES`: "speaking", "reading" or "rsvp".
    rate : float or None
        Syllables a second, words a minute or milliseconds a word, by the mode; None is the
        mode's own (5, 238 or 300).
    blank : float
        Milliseconds of blank screen after each word (rsvp).
    stop : float
        Milliseconds of blank screen more after each sentence (rsvp).

    Raises
    ------
    InputError
        An unknown mode, or a value that the mode does not take.
    """

    mode: str = "speaking"
    rate: float | None = None
    blank: float = 0.0
    stop: float = 0.0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(f"pace {self.mode!r} is not known; valid: {_FORMS}")
        mode = MODES[self.mode]
        rate = mode.rate if self.rate is None else self.rate
        if not mode.lowest <= rate <= mode.highest:
            raise InputError(
                f"pace {self.mode}: {rate:g} {mode.unit} is not between "
                f"{mode.lowest:g} and {mode.highest:g}"
            )
        object.__setattr__(self, "rate", float(rate))
        for name in ("blank", "stop"):
            value = getattr(self, name)
            if not 0 <= value <= 60_000:
                raise InputError(f"pace {self.mode}: {name} {value:g} ms is not 0 to 60000")
            if value and name not in mode.milliseconds:
                raise InputError(f"pace {self.mode} takes no {name}; valid: {_FORMS}")

    def __str__(self) -> str:
        """As `parse_pace` reads it."""
        extra = "".join(
            f",{name}={getattr(self, name):.12g}"
            for name in MODES[self.mode].milliseconds
            if getattr(self, name)
        )
        return f"{self.mode}:{self.rate:.12g}{extra}"

    @property
    def note(self) -> str:
        """What the word times are, in plain words."""
        said = {
            "speaking": f"those of reading aloud at {self.rate:g} syllables a second",
            "reading": f"those of silent reading at {self.rate:g} words a minute",
            "rsvp": f"those of a word on the screen every {self.rate_with_blank:g} ms",
        }[self.mode]
        if self.stop:
            said += f", {self.stop:g} ms more after a sentence"
        return f"word times are {said}; no sound"

    @property
    def rate_with_blank(self) -> float:
        assert self.rate is not None, "set when the pace was made"
        return self.rate + self.blank

    def times(self, text: str, language: str = "en") -> list[Word]:
        """Times of the words of a text, from 0 s.

        Parameters
        ----------
        text : str
            Running text with punctuation.
        language : str
            Two-letter code, for the ends of sentences.

        Returns
        -------
        list of Word
            In order, each word once, none overlapping; `source` is the mode. The words are the
            same at every pace: those of `tribrain.stimuli.words.spoken_times` (a character in
            scripts without spaces), a vowel or tone mark of Thai and Lao with its letter.
        """
        words = MODES[self.mode].times(text, self, language)
        return [replace(word, source=self.mode) for word in words]


def parse_pace(spec: str) -> Pace:
    """Read a pace such as ``speaking``, ``reading:238`` or ``rsvp:300,blank=100,stop=500``.

    Parameters
    ----------
    spec : str
        ``MODE[:RATE][,NAME=MILLISECONDS]...``

    Raises
    ------
    InputError
        In one line that names the valid forms.
    """
    head, *rest = spec.strip().split(",")
    mode, colon, number = head.partition(":")
    settings: dict[str, float] = {}
    if colon:
        settings["rate"] = _number(number, spec)
    for part in rest:
        name, _, value = part.partition("=")
        if name.strip() not in ("blank", "stop") or name.strip() in settings:
            raise InputError(f"pace {spec!r}: {part!r} is not understood; valid: {_FORMS}")
        settings[name.strip()] = _number(value, spec)
    return Pace(mode.strip().lower(), **settings)


def _number(text: str, spec: str) -> float:
    try:
        value = math.nan if "_" in text else float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"pace {spec!r}: {text!r} is not a number; valid: {_FORMS}")
    return value


def _speaking(text: str, pace: Pace, language: str) -> list[Word]:
    """Syllables and pauses at marks (`tribrain.stimuli.words.spoken_times`)."""
    assert pace.rate is not None, "set when the pace was made"
    words: list[Word] = []
    for word in spoken_times(text, syllable=1 / pace.rate):
        if words and _is_mark(word.text):  # a tone or vowel mark of Thai stands on its letter
            words[-1] = replace(
                words[-1], text=words[-1].text + word.text, duration=word.end - words[-1].start
            )
        else:
            words.append(word)
    return words


def _reading(text: str, pace: Pace, language: str) -> list[Word]:
    """All words together last as long as the rate says; a word's share grows with its letters.

    Half of the time is shared out evenly, half by letters, in units of a mean word (4.6 letters):
    a word of n letters weighs ``(1 + n / 4.6) / 2``. That long words take longer, and that the
    rate of a text follows from its letters, is Brysbaert (2019), J Mem Lang 109:104047; the
    halving is a choice, so that short words are not passed over. A word of a script without
    spaces counts, towards the rate, as 1 / 1.6 of a word in Chinese and Japanese (a Chinese word
    has about 1.6 characters) and 1 / 4.6 in Thai and Lao.
    """
    assert pace.rate is not None, "set when the pace was made"
    texts = [word.text for word in _speaking(text, Pace(), language)]
    weights = [(1 + _n_letters(one) / _MEAN_LETTERS) / 2 for one in texts]
    if not weights:
        return []
    unit = 60 / pace.rate * sum(map(_counts_as, texts)) / sum(weights)
    words, done = [], 0.0
    for one, weight in zip(texts, weights, strict=True):
        words.append(Word(one, done * unit, weight * unit))
        done += weight
    return words


def _rsvp(text: str, pace: Pace, language: str) -> list[Word]:
    """One word after the other for the same time, with blanks (rapid serial visual presentation).

    A word lasts as long as it is shown; the blanks come after it.
    """
    assert pace.rate is not None, "set when the pace was made"
    text = " ".join(text.split())
    ends = [last for _, last in sentence_spans(text, language)]
    words: list[Word] = []
    position = sentence = pauses = 0
    for word in _speaking(text, Pace(), language):
        position = text.index(word.text, position)
        while words and ends[sentence] <= position:
            sentence += 1
            pauses += _has_words(text, ends, sentence - 1)
        start = len(words) * pace.rate_with_blank + pauses * pace.stop
        words.append(Word(word.text, start / 1000, pace.rate / 1000))
        position += len(word.text)
    return words


def _has_words(text: str, ends: list[int], number: int) -> bool:
    first = ends[number - 1] if number else 0
    return any(c.isalnum() for c in text[first : ends[number]])


def _is_mark(text: str) -> bool:
    return all(unicodedata.category(c)[0] == "M" or c in "\u0e33\u0eb3" for c in text)


def _n_letters(word: str) -> int:
    return sum(c.isalnum() for c in word)


def _counts_as(word: str) -> float:
    """How many words a word is, towards a rate in words a minute."""
    if _HAN_OR_KANA.match(word):
        return 1 / 1.6
    return 1 / _MEAN_LETTERS if _THAI_OR_LAO.match(word) else 1.0


MODES: dict[str, Mode] = {
    "speaking": Mode("speaking[:SYLLABLES_A_SECOND]", "syllables a second", 5, 0.5, 20, _speaking),
    "reading": Mode("reading[:WORDS_A_MINUTE]", "words a minute", 238, 20, 2000, _reading),
    "rsvp": Mode(
        "rsvp[:MILLISECONDS_A_WORD][,blank=MS][,stop=MS]",
        "ms a word",
        300,
        10,
        10_000,
        _rsvp,
        ("blank", "stop"),
    ),
}
_FORMS = ", ".join(mode.form for mode in MODES.values())
