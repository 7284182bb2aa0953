"""Paces of a text without a voice."""

from __future__ import annotations

import itertools
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tribrain.errors import InputError
from tribrain.stimuli.reading import MODES, Pace, parse_pace
from tribrain.stimuli.words import running_text, spoken_times
from word_makers import CALM, bare

KNOWN = {
    "en": ("The sea, it sang. Don't stop!", "The sea it sang Don't stop"),
    "de": ("Größe zählt, sagt er.", "Größe zählt sagt er"),
    "zh": ("你好，世界。", "你 好 世 界"),
    "ja": ("雨が降る。", "雨 が 降 る"),
    "ar": ("مُحَمَّدٌ هنا؟", "مُحَمَّدٌ هنا"),
    "he": ("שָׁלוֹם, עוֹלָם.", "שָׁלוֹם עוֹלָם"),
    "hi": ("यह हिन्दी भाषा है।", "यह हिन्दी भाषा है"),
    "th": ("น้ำดี", "น้ำ ดี"),
    "ru": ("Море пело. Да!", "Море пело Да"),
}
PACES = ["speaking", "reading", "rsvp", "rsvp:200,blank=100,stop=500"]


def texts(spec: str, text: str) -> list[str]:
    return [word.text for word in parse_pace(spec).times(text)]


def starts(spec: str, text: str, language: str = "en") -> list[float]:
    return [word.start for word in parse_pace(spec).times(text, language)]


# What the command line says


@pytest.mark.parametrize(
    ("spec", "pace"),
    [
        ("speaking", Pace("speaking", 5)),
        ("speaking:4", Pace("speaking", 4)),
        ("reading", Pace("reading", 238)),
        (" Reading:300 ", Pace("reading", 300)),
        ("rsvp", Pace("rsvp", 300)),
        ("rsvp:350,stop=400", Pace("rsvp", 350, 0, 400)),
        ("rsvp:350, blank=100 ,stop=400", Pace("rsvp", 350, 100, 400)),
    ],
)
def test_a_pace_is_read_from_the_command_line(spec, pace):
    assert parse_pace(spec) == pace


@pytest.mark.parametrize(
    "spec",
    [
        *"fast,,rsvp:,rsvp:x,rsvp:nan,rsvp:inf,rsvp:1_0,reading:0,reading:1e9".split(","),
        *"reading:-5,speaking:0,rsvp:300;pause=1,rsvp:300:5".split(","),
        *"rsvp:300,pause=1 rsvp:300,blank rsvp:300,blank=-1 reading:238,blank=5".split(),
        *"rsvp:300,blank=1,blank=2 rsvp,300".split(),
    ],
)
def test_a_pace_that_is_not_one_is_refused_in_a_line_that_says_what_is_valid(spec):
    with pytest.raises(InputError) as error:
        parse_pace(spec)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    assert "between" in message or "0 to 60000" in message or all(m in message for m in MODES)


@CALM
@given(
    mode=st.sampled_from(sorted(MODES)),
    rate=st.integers(20, 2000),
    blank=st.integers(0, 900),
    stop=st.floats(0, 900).map(lambda value: round(value, 3)),
)
def test_a_pace_is_read_as_it_is_written(mode, rate, blank, stop):
    if mode == "rsvp":
        pace = Pace(mode, rate, blank, stop)
    else:
        pace = Pace(mode, rate if mode == "reading" else max(0.5, rate / 100))
    assert parse_pace(str(pace)) == pace


def test_a_pace_does_not_change():
    with pytest.raises(FrozenInstanceError):
        Pace().rate = 3.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("speaking", "those of reading aloud at 5 syllables a second; no sound"),
        ("reading:200", "200 words a minute; no sound"),
        ("rsvp:300,blank=100,stop=50", "every 400 ms, 50 ms more after a sentence; no sound"),
    ],
)
def test_a_pace_says_what_its_times_are(spec, said):
    assert parse_pace(spec).note.endswith(said)


# Words


@pytest.mark.parametrize("spec", PACES)
@pytest.mark.parametrize("language", sorted(KNOWN))
def test_words_of_known_texts_are_the_same_at_every_pace(spec, language):
    text, words = KNOWN[language]
    assert texts(spec, text) == words.split()


@pytest.mark.parametrize("spec", PACES)
@pytest.mark.parametrize("text", ["", " ", "... — !", "“”"])
def test_a_text_without_words_gives_none(spec, text):
    assert parse_pace(spec).times(text) == []


def test_the_default_is_reading_aloud_as_before():
    text = "The sea, it sang. Then 你好。"
    ours = [(word.text, word.start, word.duration) for word in Pace().times(text)]
    assert ours == [(word.text, word.start, word.duration) for word in spoken_times(text)]
    assert {word.source for word in Pace().times(text)} == {"speaking"}


def test_a_tone_mark_is_spoken_with_its_letter_and_takes_no_time_of_others():
    text = "น้ำดี ครับ"
    whole, apart = Pace().times(text), spoken_times(text)
    assert len(whole) < len(apart)
    assert whole[-1].end == pytest.approx(apart[-1].end)


@pytest.mark.parametrize("rate", [120, 238, 400])
def test_silent_reading_keeps_its_words_a_minute(rate):
    words = Pace("reading", rate).times("The sea sang to a fisherman. " * 50)
    assert words[-1].end == pytest.approx(300 * 60 / rate)


def test_long_words_are_read_longer_than_short_ones_by_the_stated_rule():
    a, sea, remarkable = Pace("reading").times("a sea remarkable")
    assert a.duration < sea.duration < remarkable.duration
    assert remarkable.duration / a.duration == pytest.approx((1 + 10 / 4.6) / (1 + 1 / 4.6))
    assert remarkable.start == pytest.approx(sea.end)


def test_marks_on_letters_do_not_make_a_word_longer_to_read():
    plain, marked = Pace("reading").times("محمد مُحَمَّدٌ")
    assert plain.duration == pytest.approx(marked.duration)


def test_a_character_without_spaces_counts_as_part_of_a_word():
    chinese, thai = Pace("reading", 60).times("你" * 16), Pace("reading", 60).times("ก" * 46)
    assert chinese[-1].end == pytest.approx(10)
    assert thai[-1].end == pytest.approx(10)


def test_words_on_a_screen_follow_each_other_at_one_rate():
    assert starts("rsvp:300", "The sea, it sang. Then") == pytest.approx([0, 0.3, 0.6, 0.9, 1.2])
    words = parse_pace("rsvp:300,blank=100").times("The remarkable sea")
    assert [word.start for word in words] == pytest.approx([0, 0.4, 0.8])
    assert [word.duration for word in words] == pytest.approx([0.3] * 3)


def test_the_screen_stays_blank_longer_after_a_sentence():
    text = "“Mr. Li sang.” — Then? 3.5 was it"
    assert starts("rsvp:100,stop=1000", text) == pytest.approx([0, 0.1, 0.2, 1.3, 2.4, 2.5, 2.6])
    text = "你好。再见"
    assert starts("rsvp:100,stop=1000", text, "zh") == pytest.approx([0, 0.1, 1.2, 1.3])
    assert starts("rsvp:100,stop=1000", "... !? The sea. — ! Then") == pytest.approx([0, 0.1, 1.2])


@CALM
@given(
    text=st.text(st.characters(categories=["L", "N", "P", "S", "Z", "M"]), max_size=60),
    spec=st.sampled_from(PACES),
)
def test_every_word_comes_once_in_order_without_overlap(text, spec):
    words = parse_pace(spec).times(text)
    assert words == parse_pace(spec).times(text)
    assert [word.text for word in words] == texts("speaking", text)
    assert bare("".join(word.text for word in words)) == bare(text)
    if words:
        assert words[0].start == 0
    for one, other in itertools.pairwise(words):
        assert other.start >= one.end - 1e-5
    assert all(word.duration > 0 for word in words)
    assert {word.source for word in words} <= {parse_pace(spec).mode}
    joined = " ".join(text.split())
    running, spans = running_text(words, joined)
    assert [running[first:last] for first, last in spans] == [word.text for word in words]


@CALM
@given(
    count=st.integers(1, 60),
    rate=st.integers(50, 900),
    blank=st.integers(0, 300),
    stop=st.integers(0, 900),
)
def test_the_length_follows_the_pace(count, rate, blank, stop):
    text = "The sea sang. " * count
    read = Pace("reading", rate).times(text)
    assert read[-1].end == pytest.approx(3 * count * 60 / rate)
    shown = Pace("rsvp", rate, blank, stop).times(text)
    expected = 3 * count * rate + (3 * count - 1) * blank + (count - 1) * stop
    assert shown[-1].end == pytest.approx(expected / 1000)
