"""Text without a voice is read aloud a syllable at a time."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tribrain.stimuli.words import spoken_times, syllables
from word_makers import CALM, bare

# Times for text without a voice


def test_reading_aloud_takes_a_syllable_at_a_time_and_pauses_at_marks():
    words = spoken_times("The sea, it sang. Then", syllable=0.2, comma=0.25, stop=0.6)
    assert [word.text for word in words] == ["The", "sea", "it", "sang", "Then"]
    assert [word.start for word in words] == pytest.approx([0, 0.2, 0.65, 0.85, 1.65])
    assert [word.duration for word in words] == pytest.approx([0.2] * 5)


def pause_after_first(text: str) -> float:
    first, second = spoken_times(text)[:2]
    return second.start - first.end


@pytest.mark.parametrize("mark", [*".!?…。！？؟۔।", "...", "?!", ".”", '!"', ".)"])
def test_a_full_stop_pauses_longest(mark):
    assert pause_after_first(f"sea{mark} boat") == pytest.approx(0.6)


@pytest.mark.parametrize("mark", [*",;:–—，、；：،؛", ",”", " —", " –"])
def test_a_comma_pauses_for_less(mark):
    assert pause_after_first(f"sea{mark} boat") == pytest.approx(0.25)


@pytest.mark.parametrize("mark", ["", "”", ")", "'", '"'])
def test_other_marks_do_not_pause(mark):
    assert pause_after_first(f"sea{mark} boat") == pytest.approx(0)


@pytest.mark.parametrize("text", ["... sea", "— sea", "“ sea ”", "。 你好", "1. sea"])
def test_reading_starts_at_zero(text):
    assert spoken_times(text)[0].start == 0


def test_words_of_a_text_come_without_the_marks_around_them():
    words = spoken_times("“Don’t,” he said (well-known, twenty-one): O'Neill!")
    assert [word.text for word in words] == [
        "Don’t",
        "he",
        "said",
        "well-known",
        "twenty-one",
        "O'Neill",
    ]


def test_scripts_without_spaces_are_read_by_character():
    words = spoken_times("你好，世界。再见 ABC")
    assert [word.text for word in words] == [*"你好世界再见", "ABC"]
    starts = [word.start for word in words[:6]]
    assert starts == pytest.approx([0, 0.2, 0.65, 0.85, 1.65, 1.85])


@pytest.mark.parametrize(
    "texts", [["हिन्दी", "भाषा"], ["cafe\u0301", "noir"], ["مُحَمَّدٌ", "هنا"], ["שָׁלוֹם", "עוֹלָם"]]
)
def test_words_with_combining_marks_are_read_whole(texts):
    assert [word.text for word in spoken_times(" ".join(texts) + ".")] == texts


def test_a_text_without_words_gives_none():
    assert spoken_times("... — !") == []
    assert spoken_times("") == []


@CALM
@given(text=st.text(st.characters(categories=["L", "N", "P", "S", "Z"]), max_size=60))
def test_reading_aloud_never_overlaps_loses_nothing_and_is_the_same_again(text):
    words = spoken_times(text)
    assert words == spoken_times(text)
    for one, other in itertools.pairwise(words):
        assert other.start >= one.end - 1e-6
    assert all(word.duration > 0 for word in words)
    assert bare("".join(word.text for word in words)) == bare("".join(text.split()))


# Syllables


SYLLABLES = {
    1: "the sea boat strength cheese eye queue fire walked smiled rhythm’s I my though 7",
    2: "table water people wanted music little houses being lion coffee naïve café lovely asking",
    3: "fisherman beautiful area every radio chocolate banana hospital tomorrow idea museum",
    4: "material category february information television community",
    5: "university imagination opportunity refrigerator communication",
}


@pytest.mark.parametrize(
    ("word", "count"), [(word, n) for n, words in SYLLABLES.items() for word in words.split()]
)
def test_syllables_of_english_words_are_right_within_one(word, count):
    assert abs(syllables(word) - count) <= 1


def test_most_syllables_of_english_words_are_exactly_right():
    pairs = [(word, n) for n, words in SYLLABLES.items() for word in words.split()]
    assert sum(syllables(word) == n for word, n in pairs) >= 0.7 * len(pairs)


@pytest.mark.parametrize(
    ("word", "count"), [("make", 1), ("cheese", 1), ("table", 2), ("me", 1), ("coffee", 2)]
)
def test_a_silent_e_at_the_end_is_no_syllable(word, count):
    assert syllables(word) == count


def test_each_character_of_a_script_without_spaces_is_a_syllable():
    assert [syllables(word) for word in ("你", "你好", "ひらがな")] == [1, 2, 4]


@CALM
@given(word=st.text(max_size=20))
def test_anything_has_at_least_one_syllable_in_any_case(word):
    assert syllables(word) >= 1
    if word.isascii():
        assert syllables(word) == syllables(word.upper())
