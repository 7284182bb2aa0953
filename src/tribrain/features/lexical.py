"""Simple features of words: how many, how long, and how rare. Nothing to download."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tribrain.errors import InputError
from tribrain.features.grid import place
from tribrain.stimuli.words import Word

LEXICAL = ("word_rate", "word_length", "word_rarity")
"""Names of all features of words."""

LEXICAL_FEATURES = ("word_rate", "word_rarity")
"""Those that the textbook model reads."""

_TYPICAL_RATE = 2.5  # words a second in running speech
_TYPICAL_LENGTH = 4.2  # letters of a word of running English on average
_TYPICAL_RARITY = 2.2  # 8 less the Zipf value, of running English on average


def lexical_series(
    words: Sequence[Word],
    n: int,
    frequency: float,
    language: str = "en",
    names: Sequence[str] = LEXICAL_FEATURES,
) -> np.ndarray:
    """Words a second, and their letters and their rarity a second, as multiples of running speech.

    A word counts once, spread evenly over the samples it fills. Rarity is 8 less the word's Zipf
    frequency (van Heuven et al. 2014, Q J Exp Psychol 67:1176-1190), from `wordfreq`; a word that
    it does not know counts as used once in a hundred million.

    Parameters
    ----------
    words : sequence of Word
    n : int
        Samples wanted, from 0 s on.
    frequency : float
    language : str
        Two-letter code.
    names : sequence of str
        Some of `LEXICAL`.

    Returns
    -------
    ndarray (names, n), float32

    Raises
    ------
    InputError
        A name that is unknown, or a language without word frequencies.
    """
    for name in names:
        if name not in LEXICAL:
            raise InputError(f"feature {name!r} of text is unknown; known: {', '.join(LEXICAL)}")
    # A mark that the transcript counts as a word is none.
    words = [word for word in words if any(character.isalnum() for character in word.text)]
    values = np.ones((len(names), len(words)), np.float32)
    for row, name in enumerate(names):
        if name == "word_length":
            letters = [sum(c.isalnum() for c in word.text) for word in words]
            values[row] = np.array(letters) / _TYPICAL_LENGTH
        elif name == "word_rarity":
            rarities = word_rarities([word.text for word in words], language)
            values[row] = np.array(rarities) / _TYPICAL_RARITY
    series = np.zeros((len(names), n), np.float32)
    for word, value in zip(words, values.T, strict=True):
        placed = place(word.start, word.duration, (0.0, n / frequency), frequency)
        if placed is not None:
            first, count = placed
            series[:, first : first + count] += (value * frequency / count / _TYPICAL_RATE)[:, None]
    return series


def word_rarities(words: Sequence[str], language: str) -> list[float]:
    """8 less the Zipf frequency of each word (0 to 7)."""
    from wordfreq import available_languages, zipf_frequency

    known = sorted(available_languages())
    if language not in known:
        raise InputError(
            f"no word frequencies for language {language!r}; known: {', '.join(known)}"
        )
    try:
        return [8.0 - float(np.clip(zipf_frequency(w, language), 1.0, 8.0)) for w in words]
    except ModuleNotFoundError as error:
        raise InputError(
            f"word frequencies for language {language!r} need the package {error.name}: "
            f"pip install wordfreq[cjk]"
        ) from None
