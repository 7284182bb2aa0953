"""Simple features of words: how many, and how rare. Nothing to download."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tribrain.errors import InputError
from tribrain.features.grid import place
from tribrain.stimuli.words import Word

LEXICAL_FEATURES = ("word_rate", "word_rarity")

_TYPICAL_RATE = 2.5  # words a second in running speech
_TYPICAL_RARITY = 2.2  # 8 less the Zipf value, of running English on average


def lexical_series(
    words: Sequence[Word], n: int, frequency: float, language: str = "en"
) -> np.ndarray:
    """Words a second, and their rarity a second, as multiples of running speech.

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

    Returns
    -------
    ndarray (2, n), float32
        In the order of `LEXICAL_FEATURES`.

    Raises
    ------
    InputError
        A language without word frequencies.
    """
    rarities = word_rarities([word.text for word in words], language)
    series = np.zeros((2, n), np.float32)
    for word, rarity in zip(words, rarities, strict=True):
        if not any(character.isalnum() for character in word.text):
            continue  # a mark that the transcript counts as a word
        placed = place(word.start, word.duration, (0.0, n / frequency), frequency)
        if placed is not None:
            first, count = placed
            share = frequency / count / _TYPICAL_RATE
            series[:, first : first + count] += [[share], [share * rarity / _TYPICAL_RARITY]]
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
