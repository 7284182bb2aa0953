"""Sounds with word times in a study's own table: words without times, what is one stimulus."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testing_makers import write_sound
from tribrain.errors import InputError
from tribrain.studies.nndb import read_words
from tribrain.studies.spoken import Spoken, columns, read_table, seconds, timed_words

TIMES = st.one_of(st.none(), st.tuples(st.floats(0, 5), st.floats(0, 2)))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(TIMES, st.sampled_from(["a", "little", "prince"])), min_size=1))
def test_every_word_is_there_and_untimed_ones_lie_between_their_neighbours(given_words):
    rows, now = [], 0.0
    expected: list[float | None] = []
    for number, (time, text) in enumerate(given_words, start=1):
        if time is None:
            rows.append((number, f"{text}{number}", "", "NaN"))
            expected.append(None)
        else:
            start = now + time[0]
            now = start + time[1]
            rows.append((number, f"{text}{number}", repr(start), repr(now)))
            expected.append(start)
    if all(start is None for start in expected):
        with pytest.raises(InputError, match="times no word"):
            timed_words(rows, "words")
        return
    words, notes = timed_words(rows, "words")
    assert sorted(word.text for word in words) == sorted(row[1] for row in rows)
    assert [word.start for word in words] == sorted(word.start for word in words)
    assert len(notes) == (None in expected)
    found = {word.text: word for word in words}
    before = 0.0
    for place, (row, start) in enumerate(zip(rows, expected, strict=True)):
        word = found[row[1]]
        assert word.source == ("interpolated" if start is None else "transcript")
        if start is not None:
            assert word.start == start
            before = word.end
            continue
        assert word.duration >= 0
        after = next((time for time in expected[place:] if time is not None), None)
        assert word.start >= min(before, after if after is not None else before) - 1e-9
        if after is not None:
            assert word.end <= after + 1e-9


def test_rows_without_a_word_are_counted():
    words, notes = timed_words([(1, "a", "0", "1"), (2, "", "1", "2"), (3, "", "", "")], "table")
    assert [word.text for word in words] == ["a"]
    assert notes == ["rows of table without a word: 2"]


def test_the_medium_tells_what_is_the_same_else_words_and_part(tmp_path):
    one, same, other = (
        write_sound(tmp_path / f"{name}.wav", 2, mark)
        for name, mark in (("one", 1), ("same", 1), ("other", 2))
    )
    words = tmp_path / "words.1D"
    words.write_text("a 0 1\n")
    assert Spoken(one).content() == Spoken(same, words, read_words).content()
    assert Spoken(one).content() != Spoken(other).content()
    alone = Spoken(None, words, read_words, part="1")
    assert alone.content() == pickle.loads(pickle.dumps(alone)).content()
    assert alone.content() != Spoken(None, words, read_words, part="2").content()
    assert alone.files == (words,)
    assert Spoken(one, words, read_words).files == (one, words)


def test_length_is_that_of_the_medium_the_study_or_the_last_word(tmp_path):
    sound = write_sound(tmp_path / "sound.wav", 2)
    words = tmp_path / "words.1D"
    words.write_text("a 0 1\nb 1 4.5\nc 3 3.5\n")
    assert Spoken(sound, words, read_words, length=9).duration() == pytest.approx(2)
    assert Spoken(None, words, read_words, length=9).duration() == 9
    assert Spoken(None, words, read_words).duration() == 4.5


def test_words_after_the_end_are_left_out_and_counted(tmp_path):
    sound = write_sound(tmp_path / "sound.wav", 2)
    words = tmp_path / "words.1D"
    words.write_text("a 0 1\nb 1.5 2.5\nc 3 3.5\n")
    stimulus = Spoken(sound, words, read_words, language="fr").open()
    assert [word.text for word in stimulus.words] == ["a", "b"]
    assert "left out, as they start after the end: 1 of 3 words" in stimulus.notes
    assert (stimulus.language, stimulus.name) == ("fr", "sound")


def test_nothing_to_hear_or_read_is_refused(tmp_path):
    with pytest.raises(InputError, match="neither a sound or film nor its words are given"):
        Spoken(None)
    with pytest.raises(InputError, match=r"file of words .*gone\.1D does not exist"):
        Spoken(None, tmp_path / "gone.1D", read_words).open()


def test_tables(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes('a,b, c\n\n1,"x, y",3\n'.encode("utf-8-sig"))
    assert read_table(path) == [(1, ["a", "b", "c"]), (3, ["1", "x, y", "3"])]
    assert columns(path, ["c", "b"]) == [(3, ["3", "x, y"])]
    with pytest.raises(InputError, match="has no column d; it has: a, b, c"):
        columns(path, ["a", "d"])


@pytest.mark.parametrize("cell", ["", "x", "-1", "nan", "inf", "1_0", "1e9"])
def test_a_cell_that_is_no_time_is_named(cell):
    with pytest.raises(InputError, match=r"table, row 7: onset .* is not a time in seconds"):
        seconds(cell, "onset", "table, row 7")
