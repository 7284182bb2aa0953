"""Every word is found in the running text."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tribrain.errors import InputError
from tribrain.stimuli.words import Word, read_text, running_text
from word_makers import CALM, bare, transcript, words_of


def at_once(*texts: str) -> list[Word]:
    return [Word(text, float(number), 0.5) for number, text in enumerate(texts)]


def found(texts: Sequence[str], text: str | None) -> list[str]:
    """What stands in the running text where each word lies."""
    running, spans = running_text(at_once(*texts), text)
    return [running[first:last] for first, last in spans]


def context(texts: Sequence[str], text: str) -> str:
    """The running text up to the last word."""
    running, spans = running_text(at_once(*texts), text)
    return running[: spans[-1][1]]


# Running text from a file


def test_white_space_in_a_text_file_becomes_one_space(tmp_path):
    path = transcript(tmp_path, "\ufeff The  sea,\r\n\r\n\tthe boat.\n", "story.txt")
    assert read_text(path) == "The sea, the boat."


@pytest.mark.parametrize("content", [b"", b" \n", b"... --- !?", b"\xe9t\xe9", b"\xff\xfea\x00"])
def test_a_text_file_without_words_or_in_another_code_is_refused(tmp_path, content):
    path = transcript(tmp_path, content, "story.txt")
    with pytest.raises(InputError, match=r"story\.txt") as error:
        read_text(path)
    assert len(str(error.value).splitlines()) == 1


# Words in the running text


@pytest.mark.golden
def test_contexts_are_those_of_the_published_program(golden):
    events = pd.read_csv(golden / "end-to-end" / "events.tsv", sep="\t")
    rows = events[events.type == "Word"]
    words = [Word(row.text, row.start, row.duration) for row in rows.itertuples()]
    assert len(words) > 40
    running, spans = running_text(words, read_text(golden / "end-to-end" / "story.txt"))
    assert [running[:last] for _, last in spans] == rows.context.tolist()
    assert [running[first:last] for first, last in spans] == rows.text.tolist()


@pytest.mark.golden
def test_the_transcript_of_the_golden_film_gives_the_same_words(golden):
    events = pd.read_csv(golden / "end-to-end" / "events.tsv", sep="\t")
    rows = events[events.type == "Word"]
    every = words_of(golden / "end-to-end" / "words.tsv")
    words = [word for word in every if word.start < 16]  # the film ends there
    assert len(every) == len(words) + 5
    assert [word.text for word in words] == rows.text.tolist()
    assert [word.start for word in words] == pytest.approx(rows.start.tolist())
    assert [word.duration for word in words] == pytest.approx(rows.duration.tolist())


def test_without_text_words_are_joined_by_one_space():
    running, spans = running_text(at_once("The", "sea,", "你好"), None)
    assert running == "The sea, 你好"
    assert spans == [(0, 3), (4, 8), (9, 11)]
    assert running_text([], None) == ("", [])


def test_punctuation_before_a_word_is_in_its_context_and_after_it_is_not():
    text = 'He stopped. "Why, then?" she asked.'
    words = ["He", "stopped", "Why", "then", "she", "asked"]
    running, spans = running_text(at_once(*words), text)
    assert [running[:last] for _, last in spans] == [
        "He",
        "He stopped",
        'He stopped. "Why',
        'He stopped. "Why, then',
        'He stopped. "Why, then?" she',
        'He stopped. "Why, then?" she asked',
    ]


def test_no_words_need_no_text():
    assert running_text([], "The sea.")[1] == []


def test_case_and_punctuation_of_the_transcript_do_not_count():
    text = "“The Sea,” she said — and LEFT."
    words = ["the", "SEA,", "She", "said.", "and", "left!"]
    assert found(words, text) == ["The", "Sea", "she", "said", "and", "LEFT"]
    assert context(words, text) == "“The Sea,” she said — and LEFT"


@pytest.mark.parametrize("in_text", ["don't", "don’t"])
@pytest.mark.parametrize("heard", ["don't", "don’t", "Don’t,"])
def test_straight_and_curly_apostrophes_are_one(in_text, heard):
    assert found(["I", heard, "know"], f"I {in_text} know.") == ["I", in_text, "know"]


@pytest.mark.parametrize(
    ("words", "text", "expected"),
    [
        (["a", "well", "known", "man"], "A well-known man.", ["A", "well", "known", "man"]),
        (["a", "well-known", "man"], "A well-known man.", ["A", "well-known", "man"]),
        (["a", "well-known", "man"], "A well known man.", ["A", "well known", "man"]),
        (["twenty-one", "men"], "Twenty-one men", ["Twenty-one", "men"]),
    ],
)
def test_hyphens_may_join_or_part_words(words, text, expected):
    assert found(words, text) == expected


@pytest.mark.parametrize(
    ("words", "text", "expected"),
    [
        (["costs", "$100"], "It costs $100 now.", ["costs", "$100"]),
        (["costs", "100"], "It costs $100 now.", ["costs", "100"]),
        (["costs", "$100"], "It costs 100 now.", ["costs", "100"]),
        (["1,000", "or", "3.5"], "1,000 or 3.5", ["1,000", "or", "3.5"]),
        (["#1", "hit"], "The #1 hit.", ["#1", "hit"]),
        (["in", "1969"], "In 1969.", ["In", "1969"]),
    ],
)
def test_numbers_and_the_signs_before_them_are_found(words, text, expected):
    assert found(words, text) == expected
    assert context(words, text).endswith(expected[-1])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["你好", "世界"], "你好，世界。"),
        (["今日", "は", "晴れ", "です"], "「今日は、晴れです。」"),
        (["สวัสดี", "ครับ"], "สวัสดีครับ"),
        (["新しい", "iPhone15", "です"], "新しいiPhone15です。"),
        (["안녕하세요", "여러분"], "안녕하세요, 여러분!"),
        (["مرحبا", "كيف", "حالك"], "مرحبا، كيف حالك؟"),
        (["שלום", "עולם"], "שלום, עולם!"),
        (["Ελλάδα", "Россия"], "Ελλάδα; Россия."),
    ],
)
def test_words_of_other_scripts_are_found_and_nothing_is_put_between(words, text):
    assert found(words, text) == words
    last = text.index(words[-1]) + len(words[-1])
    assert context(words, text) == text[:last]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["हिन्दी", "की", "भाषा"], "हिन्दी की भाषा।"),
        (["cafe\u0301", "noir"], "Un cafe\u0301 noir."),
        (["السَّلامُ", "عليكم"], "السَّلامُ عليكم"),
        (["שָׁלוֹם", "עוֹלָם"], "שָׁלוֹם, עוֹלָם!"),
    ],
)
def test_words_with_combining_marks_are_whole(words, text):
    assert found(words, text) == words


@pytest.mark.parametrize(("heard", "in_text"), [("का", "की"), ("कि", "के"), ("दिन", "दान")])
def test_words_that_differ_in_a_vowel_sign_do_not_match(heard, in_text):
    assert found(["हम", heard, "हैं"], f"हम {in_text} हैं।")[1] == heard


@pytest.mark.parametrize(
    ("heard", "in_text"), [("cafe\u0301", "café"), ("café", "cafe\u0301"), ("ﬁne", "fine")]
)
def test_two_ways_to_write_a_letter_are_one(heard, in_text):
    assert found(["a", heard, "day"], f"A {in_text} day.") == ["A", in_text, "day"]


def test_a_word_that_does_not_match_takes_the_place_of_its_text():
    words = ["the", "cat", "stood", "on", "the", "mat"]
    assert context(words, "The cat sat on the mat.") == "The cat stood on the mat"
    assert context(["the", "old", "cat"], "The cat.") == "The old cat"
    assert context(["we", "gonna", "go"], "We, going to go.") == "We, gonna go"


def test_a_last_word_that_does_not_match_keeps_the_punctuation_before_it():
    assert context(["Hello", "Earth", "now"], "Hello. World now.") == "Hello. Earth now"
    assert context(["Hello", "Earth"], "Hello. World.") == "Hello. Earth"


def test_words_none_of_which_match_are_joined_by_spaces():
    words = ["one", "two", "three"]
    assert found(words, "Nothing here is like what is heard, nothing at all.") == words
    assert context(words, "Nothing here is like what is heard, nothing at all.") == "one two three"


def test_a_long_stretch_of_text_that_nobody_spoke_stays():
    text = "The sea was calm. (They had left at dawn, in May.) The boat was red."
    assert context(["the", "sea", "the", "boat"], text) == text[: text.index(" was red")]
    heard = ["the", "sea", "mm", "the", "boat"]
    assert "They had left at dawn, in May." in context(heard, text)


def test_a_word_in_place_of_another_script_does_not_run_into_the_next():
    assert context(["hey", "hello"], "你hello.") == "hey hello"


def test_common_words_of_a_long_text_are_matched():
    text = " ".join(f"THE w{number}" for number in range(200))
    assert found(["the", "mm"] * 200, text) == ["THE", "mm"] * 200


def test_text_after_the_last_word_is_in_no_context():
    text = "The sea was calm. The end."
    assert context(["the", "sea"], text) == "The sea"


def test_repeated_words_are_taken_in_order():
    text = "The sea, the sea; the SEA! The boat."
    words = ["the", "sea"] * 3 + ["the", "boat"]
    running, spans = running_text(at_once(*words), text)
    assert running == "The sea, the sea; the SEA! The boat"
    assert [running[a:b] for a, b in spans] == "The sea the sea the SEA The boat".split()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["She", "said", "—", "yes"], "She said — yes."),
        (["costs", "$", "100"], "costs $ 100"),
        (["rock", "&", "roll"], "rock & roll"),
        (["one", "...", "two"], "one ... two"),
    ],
)
def test_a_mark_that_the_transcript_counts_as_a_word_is_not_doubled(words, text):
    assert context(words, text) == text.rstrip(".")
    assert found(words, text) == words


def test_a_long_transcript_with_errors_is_matched_in_good_time():
    import time

    numbers = [(7 * k * k + 3 * k) % 997 for k in range(6000)]
    text = " ".join(f"w{number}" for number in numbers)
    heard = [f"w{number}" if k % 10 else "mm" for k, number in enumerate(numbers)]
    before = time.process_time()
    running, spans = running_text(at_once(*heard), text)
    assert time.process_time() - before < 10
    assert [running[a:b] for a, b in spans] == heard


readable = st.characters(categories=["L", "N", "P", "S"])
chunks = st.lists(st.text(readable, min_size=1, max_size=6), max_size=10)
few_letters = st.text("aAbé'’-$.,你", min_size=1, max_size=4)


def assert_spans_hold(texts: list[str], text: str | None) -> None:
    running, spans = running_text(at_once(*texts), text)
    assert len(spans) == len(texts)
    cursor = 0
    for (first, last), word in zip(spans, texts, strict=True):
        assert cursor <= first <= last <= len(running)
        cursor = last
        assert bare(running[first:last]) == bare(word)
        if not bare(word):
            assert running[first:last] == word


@CALM
@given(texts=chunks, text=chunks.map(" ".join) | st.none())
def test_spans_are_in_order_and_hold_their_words(texts, text):
    assert_spans_hold(texts, text)


@CALM
@given(texts=st.lists(few_letters, max_size=12), text=st.lists(few_letters, max_size=12))
def test_spans_are_in_order_and_hold_their_words_where_much_matches(texts, text):
    assert_spans_hold(texts, " ".join(text))


spoken_word = st.one_of(
    st.text("abcdefgäöéß", min_size=1, max_size=7),
    st.text("абвгдежзя", min_size=1, max_size=7),
    st.text("אבגדהוזחט", min_size=1, max_size=7),
    st.text("ابتثجحخد", min_size=1, max_size=7),
    st.text("你好世界人山", min_size=1, max_size=3),
    st.sampled_from(["don't", "it’s", "42", "1999"]),
)
between = st.sampled_from([" ", ", ", ". ", "! ", "? ", " — ", " – ", "… ", "; ", ' "', '" ', " ("])


@CALM
@given(pairs=st.lists(st.tuples(spoken_word, between), min_size=1, max_size=20), data=st.data())
def test_words_joined_by_any_punctuation_are_all_found(pairs, data):
    changes = [str.upper, str.title, str]
    in_text = [data.draw(st.sampled_from(changes))(word) for word, _ in pairs]
    marks = [mark for _, mark in pairs]
    text = " ".join("".join(itertools.chain(*zip(in_text, marks, strict=True))).split())
    running, spans = running_text(at_once(*(word for word, _ in pairs)), text)
    assert [running[a:b] for a, b in spans] == in_text
    assert text.startswith(running)
    assert spans[-1][1] == len(running)


@pytest.mark.parametrize(
    ("texts", "text", "expected"),
    [
        (["Uh,", "hello", "there"], "Hello there.", "Uh, Hello there"),
        (["\U0001f642", "hi"], "Hi you.", "\U0001f642 Hi"),
        (["hello", "um,", "there"], "Hello there.", "Hello um, there"),
    ],
)
def test_a_filler_does_not_run_into_the_next_word(texts, text, expected):
    words = [Word(word, float(number), 0.5) for number, word in enumerate(texts)]
    running, spans = running_text(words, text)
    assert running == expected
    assert [running[a:b].casefold() for a, b in spans] == [word.casefold() for word in texts]
