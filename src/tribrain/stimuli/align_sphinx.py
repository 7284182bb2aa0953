"""Alignment of English with pocketsphinx, whose model comes with its package."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from tribrain.errors import InputError
from tribrain.stimuli.align_anchors import Heard, Passage, alternatives, anchors, passages
from tribrain.stimuli.align_sound import SAMPLE_RATE, quiet_cuts
from tribrain.stimuli.align_spelling import pronunciations
from tribrain.stimuli.alignment import Place

# -beam, -wbeam and -pbeam, tried in this order until the end of the passage is reached; the first
# are pocketsphinx's own, which lose the path where a passage holds more than a few sentences.
BEAMS = (
    (1e-48, 7e-29, 1e-48),
    (1e-80, 1e-60, 1e-80),
    (1e-200, 1e-150, 1e-200),
    (1e-300, 1e-300, 1e-300),
)
_FRAMES = 100  # a second
_LONGEST_PASSAGE = 150.0  # seconds; scores of much longer ones overflow
_PIECE = (10.0, 20.0)  # seconds recognised at once
_SCORE_UNIT = 1024  # scores are kept in units of this many; natural logarithms otherwise
# Logarithms a frame by which a word may fall behind free recognition for a confidence of 1/e. Of
# words of espeak-ng that were placed right, 1 in 100 falls behind by 8 or more.
_SCORE_SCALE = 4.0
# Least mean logarithm of the confidences of a passage: passages that were said reach 0.83 (as a
# mean confidence), texts forced on sound of other sentences 0.63.
_LEAST_TRUST = math.log(0.65)


@dataclass(frozen=True)
class _Segment:
    """A word or a filler (`entry` is -1) from frame `first` to `last`, and its score a frame."""

    entry: int
    first: int
    last: int
    score: float


class PocketsphinxAligner:
    """Aligns English in three steps (after Moreno et al. 1998, ICSLP).

    1. The sound is recognised, in pieces cut at quiet moments, with a language model made of the
       text alone.
    2. Where the words heard agree with the text for long enough they are anchors; text and sound
       are cut between them into passages of some 6 to 20 s.
    3. Each passage is aligned by itself, with beams widened in the steps of `BEAMS` until the
       aligner reaches its end. Where it never does, or the words fit the sound badly, the anchors'
       own times are used, and the other words of the passage have none.

    Words that the pronouncing dictionary does not hold are said as `align_spelling` has it.
    The confidence of a word is the likelihood of its sounds relative to that of what was
    recognised freely in the same frames: the mean of its logarithm, over 4, as a power of e.
    """

    name = "pocketsphinx"

    def align(
        self, words: Sequence[str], sound: np.ndarray, language: str
    ) -> tuple[list[Place | None], list[str]]:
        """See `tribrain.stimuli.alignment.Aligner`."""
        if language.replace("_", "-").split("-")[0].lower() != "en":
            raise InputError(
                f"pocketsphinx aligns English (en) alone, not {language!r}; for other languages "
                "take a CTC speech model: ctc:FOLDER"
            )
        pocketsphinx = _package()
        vocabulary = _Vocabulary(words)
        notes = vocabulary.notes()
        places: list[Place | None] = [None] * len(words)
        if not vocabulary.kept:
            return places, notes
        sound = np.clip(sound, -1, 1)
        with tempfile.TemporaryDirectory(prefix="tribrain-align-") as folder:
            decoders = _Decoders(pocketsphinx, Path(folder), vocabulary)
            heard, free = decoders.recognise(sound)
            found = anchors(vocabulary.entries, heard, vocabulary.sounds)
            length = len(sound) / SAMPLE_RATE
            cut, crowded = passages(found, vocabulary.sounds, length)
            placed = decoders.place_all(sound, cut, free)
        failed = 0
        for passage, fitting in placed:
            failed += fitting is None
            for number, place in enumerate(fitting or _anchored(passage, found), passage.first):
                places[vocabulary.kept[number]] = place
        if crowded:
            notes.append(
                f"{crowded} words of the text have no time: the words around them follow each "
                "other too closely in the sound"
            )
        if failed:
            notes.append(
                f"{failed} of {len(placed)} passages of the text do not fit the sound where they "
                "should be; only words that were recognised there have times of their own"
            )
        return places, notes


def _package() -> Any:
    try:
        import pocketsphinx
    except ImportError:
        raise InputError(
            "the aligner pocketsphinx is not installed; pip install 'tribrain[offline]'"
        ) from None
    return pocketsphinx


@cache
def _dictionary(path: str) -> dict[str, list[str]]:
    """Pronunciations by word; "read(2)" is a second one of "read"."""
    ways: dict[str, list[str]] = {}
    for line in Path(path).read_text("utf-8").splitlines():
        word, _, sounds = line.partition(" ")
        ways.setdefault(word.split("(")[0], []).append(sounds.strip())
    return ways


class _Vocabulary:
    """The different words of a text under names of our own, and how each is said.

    Attributes
    ----------
    kept : list of int
        Numbers of the words of the text that can be said; the rest of the lists is about those.
    entries, sounds : list of int
        Entry of each, and its sounds of speech.
    ways : list of list of str
        Pronunciations of each entry.
    """

    def __init__(self, words: Sequence[str]) -> None:
        package = _package()
        dictionary = _dictionary(package.get_model_path("en-us/cmudict-en-us.dict"))
        numbers: dict[str, int] = {}
        self.kept: list[int] = []
        self.entries: list[int] = []
        self.ways: list[list[str]] = []
        self.guessed: list[str] = []
        self.unsaid: list[str] = []
        for position, word in enumerate(words):
            key = word if word.isupper() and len(word) > 1 else word.lower()
            if key not in numbers:
                ways, known = pronunciations(word, dictionary)
                numbers[key] = len(self.ways) if ways else -1
                if ways:
                    self.ways.append(ways)
                (self.guessed if ways else self.unsaid).extend([] if ways and known else [word])
            if numbers[key] >= 0:
                self.kept.append(position)
                self.entries.append(numbers[key])
        self.sounds = [len(self.ways[entry][0].split()) for entry in self.entries]

    def notes(self) -> list[str]:
        made = []
        for words, what in (
            (self.guessed, "not in the pronouncing dictionary; said by rules of spelling"),
            (self.unsaid, "without an English pronunciation"),
        ):
            if words:
                few = ", ".join(map(repr, words[:5])) + (", ..." if len(words) > 5 else "")
                count = "1 word is" if len(words) == 1 else f"{len(words)} words are"
                made.append(f"{count} {what} ({few})")
        return made

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write the dictionary and the language model that pocketsphinx reads."""
        lines = [
            f"w{entry}{f'({n})' if n > 1 else ''} {way}"
            for entry, ways in enumerate(self.ways)
            for n, way in enumerate(ways, start=1)
        ]
        dictionary, model = folder / "words.dict", folder / "text.arpa"
        dictionary.write_text("\n".join(lines) + "\n", encoding="utf-8")
        model.write_text(arpa([f"w{entry}" for entry in self.entries]), encoding="utf-8")
        return dictionary, model


def arpa(words: Sequence[str]) -> str:
    """Language model of one text: three words in a row, backing off to two and to one.

    Seen continuations share 0.9 of the probability, the rest goes to the shorter context.
    """
    series = ["<s>", *words, "</s>"]
    counts = [Counter(zip(*(series[k:] for k in range(n)), strict=False)) for n in (1, 2, 3)]
    total = sum(counts[0].values())
    text = ["\\data\\", *(f"ngram {n}={len(c)}" for n, c in enumerate(counts, 1)), ""]
    for n, count in enumerate(counts, start=1):
        text.append(f"\\{n}-grams:")
        for gram, seen in count.items():
            share = seen / total if n == 1 else 0.9 * seen / counts[n - 2][gram[:-1]]
            backing = f" {math.log10(0.1):.4f}" if n < 3 else ""
            text.append(f"{math.log10(share):.4f} {' '.join(gram)}{backing}")
        text.append("")
    return "\n".join([*text, "\\end\\", ""])


class _Decoders:
    """Pocketsphinx decoders over one vocabulary, made when first needed."""

    def __init__(self, package: Any, folder: Path, vocabulary: _Vocabulary) -> None:
        self.package, self.vocabulary = package, vocabulary
        self.dictionary, self.model = vocabulary.write(folder)
        self.forced: dict[int, Any] = {}

    def _decoder(self, beams: tuple[float, float, float] | None, **settings: Any) -> Any:
        if beams is not None:
            settings |= dict(zip(("beam", "wbeam", "pbeam"), beams, strict=True))
        return self.package.Decoder(
            hmm=self.package.get_model_path("en-us/en-us"),
            dict=str(self.dictionary),
            bestpath=False,
            loglevel="FATAL",
            **settings,
        )

    def recognise(self, sound: np.ndarray) -> tuple[list[Heard], np.ndarray]:
        """Words heard, and the score of each frame, as cumulative sum (frames + 1,)."""
        decoder = self._decoder(None, lm=str(self.model), fwdflat=False)
        heard: list[Heard] = []
        scores = np.zeros(len(sound) // (SAMPLE_RATE // _FRAMES) + 1)
        cuts = quiet_cuts(sound, *_PIECE)
        for first, last in pairwise(cuts):
            origin = first // (SAMPLE_RATE // _FRAMES)
            for one in _decode(decoder, sound[first:last]) or []:
                scores[origin + one.first + 1 : origin + one.last + 2] = one.score
                if one.entry >= 0:
                    start = first / SAMPLE_RATE + one.first / _FRAMES
                    end = first / SAMPLE_RATE + (one.last + 1) / _FRAMES
                    heard.append(Heard(one.entry, start, end))
        return heard, np.cumsum(scores)

    def place_all(
        self, sound: np.ndarray, cut: Sequence[Passage], free: np.ndarray
    ) -> list[tuple[Passage, list[Place] | None]]:
        """Place the words of every passage; None for one whose words do not fit its sound.

        A passage that fails is tried once more with a neighbour, as the cut between them may lie
        within a word, or between words that were taken for others.
        """
        made: list[tuple[Passage, list[Place] | None]] = []
        waiting = list(reversed(cut))
        while waiting:
            passage = waiting.pop()
            places = self._best(sound, passage, free)
            if places is None and waiting and (joined := _joined(passage, waiting[-1])):
                places = self._best(sound, joined, free)
                if places is not None:
                    waiting.pop()
                    passage = joined
            if places is None and made and (joined := _joined(made[-1][0], passage)):
                places = self._best(sound, joined, free)
                if places is not None:
                    made.pop()
                    passage = joined
            made.append((passage, places))
        return made

    def _best(self, sound: np.ndarray, passage: Passage, free: np.ndarray) -> list[Place] | None:
        """Places of a passage's words where they fit best; None where they fit badly."""
        best, least = None, _LEAST_TRUST
        for option in alternatives(passage, self.vocabulary.sounds):
            if best is not None and option == passage:
                break  # long, and the words were found close to their neighbours
            segments = self.force(sound, option)
            if segments:
                places = _places(segments, free)
                trust = float(np.mean([math.log(p.confidence or 1e-12) for p in places]))
                if trust >= least:
                    best, least = places, trust
        return best

    def force(self, sound: np.ndarray, passage: Passage) -> list[_Segment] | None:
        """Segments of a passage's words, frames counted in the whole sound; None on failure."""
        first = round(passage.start * _FRAMES)
        step = SAMPLE_RATE // _FRAMES
        piece = sound[first * step : round(passage.end * _FRAMES) * step]
        if not len(piece) or passage.end - passage.start > _LONGEST_PASSAGE:
            return None
        entries = self.vocabulary.entries[passage.first : passage.last]
        said = " ".join(f"w{entry}" for entry in entries)
        for number, beams in enumerate(BEAMS):
            if number not in self.forced:
                self.forced[number] = self._decoder(beams, lm=None)
            decoder = self.forced[number]
            decoder.set_align_text(said)
            segments = [one for one in _decode(decoder, piece) or [] if one.entry >= 0]
            if [one.entry for one in segments] == entries:
                return [
                    _Segment(s.entry, s.first + first, s.last + first, s.score) for s in segments
                ]
        return None


def _joined(one: Passage, following: Passage) -> Passage | None:
    """Two passages as one, if no word and no sound lies between them."""
    if one.last != following.first or abs(one.end - following.start) > 1e-6:
        return None
    sure = one.sure and following.sure
    return Passage(one.first, following.last, one.start, following.end, sure)


def _decode(decoder: Any, sound: np.ndarray) -> list[_Segment] | None:
    """Segments that a decoder finds in a sound; None if it finds no way through."""
    samples = (sound * 32767).astype("<i2").tobytes()
    try:
        decoder.start_utt()
        decoder.process_raw(samples, full_utt=True)
        decoder.end_utt()
        found = list(decoder.seg() or [])
    except RuntimeError:
        return None
    segments = []
    for one in found:
        name = one.word.split("(")[0]
        frames = one.end_frame - one.start_frame + 1
        if frames <= 0:
            continue
        entry = int(name[1:]) if name.startswith("w") else -1
        score = _SCORE_UNIT * math.log(max(one.ascore, 1e-300)) / frames
        segments.append(_Segment(entry, one.start_frame, one.end_frame, score))
    return segments


def _places(segments: Sequence[_Segment], free: np.ndarray) -> list[Place]:
    """Places of a passage's words, from their segments and the cumulative free scores."""
    made = []
    for one in segments:
        first, last = min(one.first, len(free) - 2), min(one.last + 1, len(free) - 1)
        unforced = (free[last] - free[first]) / (last - first)
        confidence = min(1.0, math.exp((one.score - unforced) / _SCORE_SCALE))
        made.append(Place(one.first / _FRAMES, (one.last + 1) / _FRAMES, confidence))
    return made


def _anchored(passage: Passage, found: dict[int, Heard]) -> list[Place | None]:
    """Times of a passage's anchors, if a third of its words are; else it is another text."""
    numbers = range(passage.first, passage.last)
    if 3 * sum(number in found for number in numbers) < len(numbers):
        return [None] * len(numbers)
    return [Place(found[n].start, found[n].end) if n in found else None for n in numbers]
