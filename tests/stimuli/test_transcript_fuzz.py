"""Every reader of word times: what is right comes back, what is damaged is refused in one line."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from format_makers import (
    CAPTION_FORMATS,
    WORD_FORMATS,
    Captions,
    Timed,
    examples,
    refusal_of,
    sensible,
    stamped_vtt,
)
from tribrain.errors import InputError
from tribrain.stimuli.transcripts import read_transcript
from tribrain.stimuli.words import UNSPACED
from word_makers import transcript

COUNTS = [500, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
ENCODINGS = ["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32"]
LINE_ENDS = ["\n", "\n", "\r\n", "\r"]
NO_WORDS = {"sp", "sil", "spn"}

letters = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8).filter(
    lambda text: not re.search(f"[{UNSPACED}]", text) and text.casefold() not in NO_WORDS
)
word = st.builds(str.__add__, letters, st.sampled_from(["", "", ",", ".", "?", "…", "’s"]))
milliseconds = st.integers(0, 2_000_000)


timing = st.tuples(st.sampled_from([0, 0, 30, 500]), st.integers(1, 3000))


@st.composite
def timed_words(draw: Callable[..., Any]) -> list[Timed]:
    """Words one after the other, with pauses or without, to the millisecond."""
    words, now = [], draw(milliseconds)
    for text, (pause, length) in draw(st.lists(st.tuples(word, timing), min_size=1, max_size=4)):
        now += pause + length
        words.append((text, (now - length) / 1000, now / 1000))
    return words


@st.composite
def some_captions(draw: Callable[..., Any]) -> Captions:
    """Captions in any order that may overlap; each word is there once."""
    number = itertools.count()
    line = st.lists(word, min_size=1, max_size=3)
    lines = st.lists(line, min_size=1, max_size=2)
    caption = st.tuples(milliseconds, st.integers(1, 6000), lines)
    return [
        (
            start / 1000,
            (start + length) / 1000,
            [" ".join(f"x{next(number)}{text}" for text in line) for line in lines],
        )
        for start, length, lines in draw(st.lists(caption, min_size=1, max_size=3))
    ]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("suffix", ["tsv", "csv", "TextGrid", "json", "ctm"])
def test_words_come_back_with_their_times(tmp_path, suffix, count):
    kinds = [kind for kind in WORD_FORMATS.values() if kind[0].endswith(suffix)]

    @examples(count)
    @given(
        timed_words(),
        st.sampled_from(kinds),
        st.sampled_from(ENCODINGS),
        st.sampled_from(LINE_ENDS),
    )
    def check(words, kind, encoding, line_end):
        name, write = kind
        content = write(words).replace("\n", line_end).encode(encoding)
        read, notes = read_transcript(transcript(tmp_path, content, name))
        assert [(w.text, w.start) for w in read] == [(text, start) for text, start, _ in words]
        assert [w.end for w in read] == pytest.approx([end for _, _, end in words], abs=1e-6)
        assert notes == []

    check()


@pytest.mark.parametrize("count", COUNTS)
def test_stamped_words_come_back_with_their_times(tmp_path, count):
    @examples(count)
    @given(timed_words(), st.sampled_from(ENCODINGS), st.sampled_from(LINE_ENDS))
    def check(words, encoding, line_end):
        content = stamped_vtt(words).replace("\n", line_end).encode(encoding)
        read, _ = read_transcript(transcript(tmp_path, content, "w.vtt"))
        assert [(w.text, w.start) for w in read] == [(text, start) for text, start, _ in words]
        ends = [start for _, start, _ in words[1:]] + [words[-1][2]]
        assert [w.end for w in read] == pytest.approx(ends, abs=1e-6)
        assert len(read) == 1 or {w.source for w in read} == {"transcript"}

    check()


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", CAPTION_FORMATS)
def test_captions_come_back_word_for_word_within_their_spans(tmp_path, kind, count):
    name, write = CAPTION_FORMATS[kind]

    @examples(count)
    @given(some_captions(), st.sampled_from(ENCODINGS), st.sampled_from(LINE_ENDS))
    def check(captions, encoding, line_end):
        content = write(captions).replace("\n", line_end).encode(encoding)
        read, notes = read_transcript(transcript(tmp_path, content, name))
        assert sensible(read)
        by_text = {w.text: w for w in read}
        texts = []
        for start, end, lines in captions:
            shown = [by_text[text] for line in lines for text in line.split()]
            texts += [w.text for w in shown]
            assert shown[0].start == start
            assert shown[-1].end == pytest.approx(end, abs=1e-6)
            for one, other in itertools.pairwise(shown):
                assert one.end == pytest.approx(other.start, abs=1e-6)
        assert sorted(texts) == sorted(w.text for w in read)
        assert sum("spread over the caption's span" in note for note in notes) == 1

    check()


def only_refused(path: Path) -> None:
    try:
        words, notes = read_transcript(path)
    except InputError as error:
        refusal_of(error, path.name)
    else:
        assert sensible(words)
        assert all(len(note.splitlines()) == 1 for note in notes)


FRAGMENTS = (
    '--> -> 00:00:01,000 <00:00:01.000> 99:99:99,999 <c> </c> <v <rt> [ ] ( ) { } {\\an8} " "" , '
    ": ♪ >> - JOHN: WEBVTT NOTE STYLE &amp; &#0; null NaN -1 1e999 1e308 0 [] {} true "
    '"words": "segments": "word": <exists> "IntervalTier" "TextTier" ;; * \ufdd0 \0 \r \n \n\n \t'
).split(" ")


def damaged(data: bytes, draw: Callable[..., Any]) -> bytes:
    for _ in range(draw(st.integers(1, 4))):
        first = draw(st.integers(0, len(data)))
        last = first + draw(st.sampled_from([0, 1, 2, 10, 40]))
        put = draw(
            st.binary(max_size=3)
            | st.sampled_from(FRAGMENTS).map(str.encode)
            | st.just(data[first : first + 30] * 2)
        )
        data = data[:first] + put + data[last:]
    return data


KINDS = {**WORD_FORMATS, **CAPTION_FORMATS, "stamps": ("w.vtt", stamped_vtt)}


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("suffix", ["tsv", "csv", "srt", "vtt", "TextGrid", "json", "ctm"])
def test_random_and_damaged_files_are_refused_and_never_break(tmp_path, suffix, count):
    kinds = [kind for kind in KINDS if KINDS[kind][0].endswith(suffix)]
    anything = st.binary(max_size=300) | st.text(max_size=200).map(str.encode)

    @examples(count)
    @given(st.data(), st.sampled_from(["random", *kinds * 3]))
    def check(data, kind):
        name = f"w.{suffix}"
        if kind == "random":
            content = data.draw(anything)
        else:
            what = some_captions() if kind in CAPTION_FORMATS else timed_words()
            content = damaged(KINDS[kind][1](data.draw(what)).encode(), data.draw)
        only_refused(transcript(tmp_path, content, name))

    check()
