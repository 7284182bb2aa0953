"""Sentences of texts, and running text restored from words."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tribrain.stimuli.sentences import restore_text, sentence_spans
from tribrain.stimuli.words import Word, running_text, spoken_times
from word_makers import CALM, bare


def sentences(text: str, language: str = "en") -> list[str]:
    return [text[first:last] for first, last in sentence_spans(text, language)]


# Sentences of a text


@pytest.mark.parametrize(
    ("language", "parts"),
    [
        ("en", ["The sea sang.", "Was it far?", "Yes!", "So it was"]),
        ("de", ["Das Meer sang.", "War es weit?", "„Ja!“", "So war es."]),
        ("es", ["¿Qué pasa?", "¡Nada!", "Claro."]),
        ("ru", ["Море пело.", "Далеко ли?", "«Да!»", "Так и было."]),
        ("ar", ["مرحبا.", "كيف حالك؟", "أنا بخير."]),
        ("he", ["שלום.", "מה שלומך?", "טוב."]),
        ("hi", ["यह घर है।", "वह कहाँ है?", "डॉ. शर्मा आए।"]),
        ("ur", ["میں ٹھیک ہوں۔", "آپ کیسے ہیں؟", "شکریہ۔"]),
        ("am", ["ሰላም።", "እንዴት ነህ፧", "ደህና።"]),
        ("el", ["Τι κάνεις;", "Καλά."]),
        ("th", ["สวัสดีครับ วันนี้อากาศดี"]),
        ("km", ["សួស្តី។", "អរគុណ។"]),
    ],
)
def test_sentences_of_many_languages(language, parts):
    assert sentences("  ".join(parts) + " ", language) == parts


@pytest.mark.parametrize(
    ("language", "parts"),
    [
        ("zh", ["你好。", "你来吗？", "我说：“来！”", "他走了……不知道。"]),
        ("ja", ["「行く。」と彼は言った。", "雨が降る！", "（傘はない。）", "帰ろう。"]),
    ],
)
def test_sentences_without_spaces_between_them(language, parts):
    assert sentences("".join(parts), language) == parts


@pytest.mark.parametrize(
    "sentence",
    [
        "Mr. Smith met Dr. Jones, Prof. Li and St. Peter.",
        "He saw J. R. R. Tolkien and A. Einstein in the U.S. Army.",
        "It cost $3.50 or 1.000,5 at example.org, v2.1.",
        "Fruits, e.g. Apples, i.e. Food, cf. Fig. 3 and No. 7, etc., went.",
        "“Why?” she asked (no!) and left... or so it seemed.",
        "The firm Smith Inc. Berlin at 5 p.m. Monday.",
        "Yahoo! is a firm.",
        "1. Wash your hands.",
    ],
)
def test_a_stop_within_an_english_sentence_does_not_end_it(sentence):
    assert sentences(f"{sentence} Then it ended.") == [sentence, "Then it ended."]


@pytest.mark.parametrize(
    "parts",
    [
        ["He left the U.S.", "The sea sang."],
        ["Tea, milk, etc.", "He drank."],
        ["She said “go.”", "“No,” he said."],
        ["(It was late.)", "[It rained.]", "Peter slept."],
        ["Wait…", "Peter came?!", "Never."],
        ["We met in 1990.", "3 men came."],
        ["I had plan B.", "It failed."],
        ["“Go.” — he said.", "— Never!", "— Then stay."],
        ["He sat.", "Peter went on.", "Anna stood."],
        ["hello.", "how are you?", "i am well."],
    ],
)
def test_a_stop_between_english_sentences_ends_the_first(parts):
    assert sentences(" ".join(parts)) == parts


def test_german_ordinals_and_short_forms_do_not_end_a_sentence():
    first = "Am 3. Mai kam z. B. Herr Müller, d. h. der Chef, mit Fr. Klein."
    assert sentences(f"{first} Er blieb usw. Dann ging er.", "de") == [
        first,
        "Er blieb usw.",
        "Dann ging er.",
    ]
    assert sentences("He came in 3. Peter won.", "en") == ["He came in 3.", "Peter won."]


def test_russian_short_forms_and_initials_do_not_end_a_sentence():
    text = "А. С. Пушкин, т. е. поэт, и г-н Иванов и т. д. жили на ул. Мира. Потом ушли."
    assert sentences(text, "ru") == [text[:-12], "Потом ушли."]


def test_an_empty_line_ends_a_sentence_and_a_single_break_does_not():
    assert sentences("A heading\n \nThe sea\nsang") == ["A heading", "The sea\nsang"]


def test_a_text_without_words_or_stops():
    assert sentences("") == sentences(" \n ") == []
    assert sentences("the sea") == ["the sea"]


MIXED = st.lists(
    st.one_of(
        st.sampled_from(
            "Mr . ! ? … ... 。 ！ ؟ । ። \n\n U.S. e.g. z. B. d. h. 3. 3.14 The the sea You I "
            "“ ” \" ' ( ) 「 」 と 你好 世界 สวัสดี هنا שלום भाषा café ; , J. etc.".split(" ")
        ),
        st.text(max_size=4),
        st.sampled_from([" ", " ", "  "]),
    ),
    max_size=24,
).map("".join)


@CALM
@given(text=MIXED, language=st.sampled_from(["en", "de", "zh", "ja", "ru", "el", "xx"]))
def test_sentences_cover_the_text_in_order_and_are_one_sentence_again(text, language):
    spans = sentence_spans(text, language)
    edges = [0, *itertools.chain.from_iterable(spans), len(text)]
    assert edges == sorted(edges)
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        assert not text[first:last].strip()
    for first, last in spans:
        sentence = text[first:last]
        assert sentence == sentence.strip() != ""
        assert sentence_spans(sentence, language) == [(0, len(sentence))]


# Running text from words


def timed(*texts: str, gaps: dict[int, float] | None = None) -> list[Word]:
    """Words of 0.3 s; a silence of ``gaps[n]`` seconds after word n."""
    words, now = [], 0.0
    for number, text in enumerate(texts):
        words.append(Word(text, now, 0.3))
        now += 0.3 + (gaps or {}).get(number, 0.0)
    return words


def test_marks_that_the_words_carry_are_kept_and_none_is_added():
    words = timed("Hello,", "world.", "We", "met", "Mr.", "Li", gaps={2: 3.0, 4: 2.0})
    assert restore_text(words) == "Hello, world. We met Mr. Li"


def test_a_silence_ends_a_sentence_where_the_words_carry_no_marks():
    words = timed("and", "so", "ask", "not", "Peter", gaps={0: 0.59, 1: 0.61, 3: 2})
    assert restore_text(words) == "and so. ask not. Peter."
    assert restore_text(words, pause=0.5) == "and. so. ask not. Peter."
    assert restore_text(words, pause=9) == "and so ask not Peter."


def test_a_mark_in_a_long_transcript_without_marks_does_not_count():
    texts = ["word"] * 130
    texts[3] = "St."
    assert restore_text(timed(*texts, gaps={99: 1.0})).count("word. word") == 1


@pytest.mark.parametrize(
    ("language", "texts", "expected"),
    [
        ("zh", ["你好", "世界", "再见"], "你好世界。再见。"),
        ("ja", ["こんにちは", "世界", "さようなら"], "こんにちは世界。さようなら。"),
        ("th", ["สวัสดี", "ครับ", "ลาก่อน"], "สวัสดีครับ ลาก่อน"),
        ("lo", ["ສະບາຍດີ", "ໂລກ", "ລາກ່ອນ"], "ສະບາຍດີໂລກ ລາກ່ອນ"),
        ("km", ["សួស្តី", "ពិភពលោក", "លា"], "សួស្តីពិភពលោក។លា។"),
        ("hi", ["नमस्ते", "दुनिया", "अलविदा"], "नमस्ते दुनिया। अलविदा।"),
        ("ur", ["سلام", "دنیا", "خدا"], "سلام دنیا۔ خدا۔"),
        ("ar", ["مرحبا", "عالم", "وداعا"], "مرحبا عالم. وداعا."),
        ("he", ["שלום", "עולם", "להתראות"], "שלום עולם. להתראות."),
        ("am", ["ሰላም", "ዓለም", "ቻው"], "ሰላም ዓለም። ቻው።"),
        ("de", ["hallo", "Welt", "Tschüss"], "hallo Welt. Tschüss."),
        ("ru", ["привет", "мир", "Пока"], "привет мир. Пока."),
    ],
)
def test_words_are_joined_and_ended_as_their_script_does(language, texts, expected):
    assert restore_text(timed(*texts, gaps={1: 0.8}), language) == expected


def test_chinese_words_with_their_own_marks_and_names():
    words = timed("你好，", "世界", "NASA", "「是」", "！", gaps={1: 2.0})
    assert restore_text(words, "zh") == "你好，世界 NASA「是」！"


def test_no_words_give_no_text():
    assert restore_text([]) == "" == restore_text(timed(" ", ""))


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "the sea sang. it was far. so be it."),
        ("hi", "यह घर है। वह कहाँ है। शुक्रिया।"),
        ("ar", "مرحبا يا عالم. أنا بخير."),
        ("zh", "今天天气很好。我们走吧。"),
        ("ja", "雨が降る。帰ろう。"),
    ],
)
def test_a_text_read_aloud_is_restored_from_its_words_and_pauses(language, text):
    assert restore_text(spoken_times(text), language) == text


TEXTS = st.one_of(
    st.sampled_from(
        "Hello, world. sea Mr. U.S. well-known don't “Why?” $100 3.14 — 你好 世界。 です สวัสดี "
        "ครับ สวัสดีครับ مرحبا، שלום мир हिन्दी है। 7 ... ♪ I i".split()
    ),
    st.text(st.characters(categories=["L", "Nd", "P"]), min_size=1, max_size=6),
)


@CALM
@given(
    parts=st.lists(st.tuples(TEXTS, st.sampled_from([0.0, 0.2, 0.7])), max_size=14),
    language=st.sampled_from(["en", "zh", "th", "hi", "ur"]),
)
def test_every_word_is_found_in_order_in_the_restored_text(parts, language):
    gaps = {number: gap for number, (_, gap) in enumerate(parts)}
    words = timed(*[text for text, _ in parts], gaps=gaps)
    restored = restore_text(words, language)
    position = 0
    for word in words:
        position = restored.index(word.text, position) + len(word.text)
    running, spans = running_text(words, restored)
    assert len(spans) == len(words)
    before = 0
    for word, (first, last) in zip(words, spans, strict=True):
        assert before <= first < last
        assert bare(running[first:last]) == bare(word.text)
        before = last


KNOWN = "the sea sang Peter’s well-known U.S. Mr. don't café $100 3.14 мир مرحبا שלום हिन्दी"


@CALM
@given(
    parts=st.lists(
        st.tuples(
            st.sampled_from([*KNOWN.split(), "你好", "世界，", "です", "สวัสดี", "ครับ"]),
            st.sampled_from([0.0, 0.2, 0.7]),
        ),
        min_size=1,
        max_size=14,
    )
)
def test_the_running_text_of_known_words_is_the_restored_text(parts):
    words = timed(*[t for t, _ in parts], gaps={n: gap for n, (_, gap) in enumerate(parts)})
    restored = restore_text(words)
    running, spans = running_text(words, restored)
    assert restored.startswith(running[: spans[-1][1]])
