"""Word times are read as they stand, or the transcript is refused in one line."""

from __future__ import annotations

import csv
import io
import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tribrain.errors import InputError
from tribrain.stimuli.transcripts import read_transcript
from tribrain.stimuli.words import Word, spread_over
from word_makers import CALM, transcript, words_of


def table(*rows: str, sep: str = "\t") -> str:
    """Rows written with spaces between cells and ``~`` for a space within one."""
    return "".join(sep.join(row.split(" ")).replace("~", " ") + "\n" for row in rows)


def refusal(path: Path) -> str:
    """The message with which a transcript is refused: one line that names the file."""
    with pytest.raises(InputError) as error:
        read_transcript(path)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    assert path.name in message
    return message


# Transcripts that are right


@pytest.mark.parametrize("length", ["duration", "end", "offset_s"])
@pytest.mark.parametrize("start", ["start", "onset", "onset_s"])
@pytest.mark.parametrize("text", ["text", "word"])
@pytest.mark.parametrize(("suffix", "sep"), [("tsv", "\t"), ("csv", ",")])
def test_every_name_of_a_column_is_understood(tmp_path, suffix, sep, text, start, length):
    second = "0.25" if length == "duration" else "1.75"
    content = table(f"{text} {start} {length}", f"sea 1.5 {second}", sep=sep)
    words = words_of(transcript(tmp_path, content, f"w.{suffix}"))
    assert words == [Word("sea", 1.5, 0.25)]
    assert words[0].end == 1.75


def test_other_columns_any_order_and_capitals_do_not_matter(tmp_path):
    content = table("Speaker Duration WORD n Onset", "anna 0.5 sea 1 2.0", "ben 0.25 boat 2 3.0")
    words = words_of(transcript(tmp_path, content, "W.TSV"))
    assert words == [Word("sea", 2.0, 0.5), Word("boat", 3.0, 0.25)]


def test_words_come_by_their_start(tmp_path):
    content = table("text start duration", "c 3 1", "a 1 1", "b 2 1")
    assert [word.text for word in words_of(transcript(tmp_path, content))] == list("abc")


def test_a_byte_order_mark_blank_lines_and_other_line_ends_are_passed_over(tmp_path):
    content = "\ufeff" + table("text start duration", "", "sea 0 1", "", "boat 1 1", "")
    for ends in ("\n", "\r\n", "\r"):
        path = transcript(tmp_path, content.replace("\n", ends))
        assert [word.text for word in words_of(path)] == ["sea", "boat"]


def test_a_row_without_text_is_passed_over(tmp_path):
    content = 'text\tstart\tduration\nsea\t0\t1\n\t1\t1\n""\t2\t1\nboat\t3\t1\n'
    words = words_of(transcript(tmp_path, content))
    assert [word.text for word in words] == ["sea", "boat"]


def test_cells_that_a_row_leaves_out_at_its_end_are_empty(tmp_path):
    content = "start\tduration\ttext\n0\t1\tsea\n1\t1\n"
    assert [word.text for word in words_of(transcript(tmp_path, content))] == ["sea"]


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ('"sea"', "sea"),
        ('"sea', '"sea'),
        ('sea"', 'sea"'),
        ('"sea,"', "sea,"),
        ('""sea""', '"sea"'),
        ("it's", "it's"),
        ('"', '"'),
    ],
)
def test_quotation_marks_in_a_tsv_are_text_unless_they_hold_the_cell(tmp_path, cell, text):
    content = f"text\tstart\tduration\n{cell}\t0\t1\nboat\t1\t1\n"
    words = words_of(transcript(tmp_path, content))
    assert [word.text for word in words] == [text, "boat"]


def test_quotation_marks_in_a_csv_hold_a_cell(tmp_path):
    content = 'text,start,duration\n"sea,",0,1\n"""boat""","1","1"\n'
    words = words_of(transcript(tmp_path, content, "w.csv"))
    assert words == [Word("sea,", 0.0, 1.0), Word('"boat"', 1.0, 1.0)]


def test_words_of_other_scripts_come_back_as_they_are(tmp_path):
    texts = ["naïve", "שָׁלוֹם", "مرحبا", "हिन्दी", "你好", "👋", "don’t"]
    rows = [f"{text} {number} 0.5" for number, text in enumerate(texts)]
    words = words_of(transcript(tmp_path, table("text start duration", *rows)))
    assert [word.text for word in words] == texts


plain_cell = st.text(
    st.characters(categories=["L", "N", "P", "S"], exclude_characters='"\t'), min_size=1, max_size=8
)
quoted_cell = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=8)
moment = st.floats(0, 1e5).map(lambda value: round(value, 4))


@CALM
@given(data=st.data(), suffix=st.sampled_from(["tsv", "csv"]))
def test_a_transcript_comes_back_word_for_word(tmp_path, data, suffix):
    cell = plain_cell if suffix == "tsv" else quoted_cell
    rows = data.draw(st.lists(st.tuples(cell, moment, moment), min_size=1, max_size=8))
    by_end = data.draw(st.booleans())
    names = {
        "text": data.draw(st.sampled_from(["text", "word"])),
        "start": data.draw(st.sampled_from(["start", "onset", "onset_s"])),
        "length": data.draw(st.sampled_from(["end", "offset_s"] if by_end else ["duration"])),
        "note": "note",
    }
    order = data.draw(st.permutations(list(names)))
    lines = [[names[key] for key in order]]
    for text, start, length in rows:
        stop = start + length if by_end else length
        cells = {"text": text, "start": repr(start), "length": repr(stop), "note": "x"}
        lines.append([cells[key] for key in order])
    out = io.StringIO()
    if suffix == "tsv":
        out.write("".join("\t".join(line) + "\n" for line in lines))
    else:
        csv.writer(out).writerows(lines)
    words = words_of(transcript(tmp_path, out.getvalue(), f"w.{suffix}"))
    expected = sorted(rows, key=lambda row: row[1])
    assert [(word.text, word.start) for word in words] == [row[:2] for row in expected]
    for word, row in zip(words, expected, strict=True):
        assert word.duration == pytest.approx(row[2], abs=1e-9)


# Rows of several words


def test_a_row_of_several_words_is_spread_over_its_span_and_said_so(tmp_path):
    content = table("text start duration", "the~fisherman~sang 2 1.5", "sea 4 1")
    words, notes = read_transcript(transcript(tmp_path, content))
    assert len(notes) == 1
    assert "words.tsv: 1 row holds several words" in notes[0]
    assert [word.text for word in words] == ["the", "fisherman", "sang", "sea"]
    assert [word.start for word in words] == pytest.approx([2, 2.3, 3.2, 4])
    assert [word.duration for word in words] == pytest.approx([0.3, 0.9, 0.3, 1])


def test_rows_of_several_words_are_counted_in_one_warning(tmp_path):
    rows = [f"on~the~sea {number} 1" for number in range(7)]
    words, notes = read_transcript(transcript(tmp_path, table("text start duration", *rows)))
    assert len(notes) == 1
    assert "7 rows" in notes[0]
    assert len(words) == 21


@CALM
@given(
    parts=st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=12),
    start=st.floats(0, 1e4),
    duration=st.floats(0, 1e3),
)
def test_a_spread_fills_the_span_in_order(parts, start, duration):
    words = spread_over(parts, start, duration)
    assert [word.text for word in words] == parts
    assert words[0].start == start
    assert words[-1].end == pytest.approx(start + duration, abs=1e-6)
    assert sum(word.duration for word in words) == pytest.approx(duration, abs=1e-6)
    for one, other in itertools.pairwise(words):
        assert one.end == pytest.approx(other.start, abs=1e-6)
        assert one.start <= other.start


# Transcripts that are wrong


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("sea -1 0.5", "start '-1'"),
        ("sea nan 0.5", "start 'nan'"),
        ("sea inf 0.5", "start 'inf'"),
        ("sea 1e999 0.5", "start '1e999'"),
        ("sea 1e8 0.5", "start '1e8'"),
        ("sea 1 1e308", "duration '1e308'"),
        ("sea soon 0.5", "start 'soon'"),
        ("sea 0:01 0.5", "start '0:01'"),
        ("sea 1,5 0.5", "start '1,5'"),
        ("sea 1~5 0.5", "start '1 5'"),
        ("sea  0.5", "start ''"),
        ("sea 1 -0.5", "duration '-0.5'"),
        ("sea 1 nan", "duration 'nan'"),
        ("sea 1 long", "duration 'long'"),
        ("sea 1", "duration ''"),
    ],
)
def test_a_time_that_is_none_is_refused_with_its_row(tmp_path, row, what):
    content = table("text start duration", "boat 0 1", row)
    message = refusal(transcript(tmp_path, content))
    assert "row 3" in message
    assert what in message


def test_figures_with_an_underscore_are_not_a_time(tmp_path):
    path = transcript(tmp_path, "text\tstart\tduration\nboat\t0\t1\nsea\t1_5\t1\n")
    assert "row 3" in refusal(path)


@pytest.mark.parametrize("column", ["end", "offset_s"])
def test_an_end_before_the_start_is_refused_with_its_row(tmp_path, column):
    content = table(f"text start {column}", "boat 0 1", "sea 3 2.5")
    message = refusal(transcript(tmp_path, content))
    assert "row 3" in message
    assert "2.5" in message


def test_the_row_named_is_that_of_the_file_also_after_blank_lines(tmp_path):
    content = table("text start duration", "boat 0 1", "", "", "sea -1 1")
    assert "row 5" in refusal(transcript(tmp_path, content))


@pytest.mark.parametrize(
    ("header", "missing"),
    [
        ("start duration", "text or word"),
        ("text duration", "start or onset"),
        ("text start", "duration or end"),
        ("sea 0 1", "text or word"),
    ],
)
def test_a_missing_column_is_named_with_those_that_are_there(tmp_path, header, missing):
    message = refusal(transcript(tmp_path, table(header, "a b c")))
    assert missing in message
    assert header.split()[0] in message


def test_a_header_cell_of_two_lines_does_not_break_the_message(tmp_path):
    refusal(transcript(tmp_path, 'te\nxt,start,duration\n"te\nxt",start,duration\n', "a.csv"))
    refusal(transcript(tmp_path, '"te\nxt",start,duration\nsea,0,1\n', "b.csv"))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "empty"),
        ("\n \n\t\n", "empty"),
        ("\ufeff", "empty"),
        ("text\tstart\tduration\n", "no words"),
        ("text\tstart\tduration\n \t0\t1\n", "no words"),
        (b"text\tstart\tduration\nse\0a\t0\t1\n", "not text"),
        (b"\xff\xfe\x00\xd8\x00\xd8", "UTF-16"),
    ],
)
def test_a_transcript_without_words_or_of_no_text_is_refused(tmp_path, content, what):
    assert what in refusal(transcript(tmp_path, content))


@pytest.mark.parametrize("name", ["words.doc", "words", "words.xlsx"])
def test_a_transcript_of_another_kind_is_refused_with_those_known(tmp_path, name):
    message = refusal(transcript(tmp_path, "text\tstart\tduration\nsea\t0\t1\n", name))
    assert ".tsv, .csv" in message


@pytest.mark.parametrize("make", ["missing", "folder"])
def test_a_transcript_that_is_not_there_or_a_folder_is_refused(tmp_path, make):
    path = tmp_path / "words.tsv"
    if make == "folder":
        path.mkdir()
    refusal(path)


def only_refused(path: Path) -> None:
    """Reading gives words with sensible times, or a refusal in one line."""
    try:
        words, _ = read_transcript(path)
    except InputError as refused:
        message = str(refused)
    else:
        assert words
        assert all(word.start >= 0 and word.duration >= 0 for word in words)
        return
    assert len(message.splitlines()) == 1


@CALM
@given(content=st.binary(max_size=200), suffix=st.sampled_from(["tsv", "csv"]))
def test_bytes_of_any_kind_are_refused_and_never_break(tmp_path, content, suffix):
    only_refused(transcript(tmp_path, content, f"w.{suffix}"))


@CALM
@given(
    cells=st.lists(
        st.lists(st.text(max_size=6) | st.sampled_from(["0", "1.5", '"', "sea"]), max_size=5),
        max_size=6,
    ),
    suffix=st.sampled_from(["tsv", "csv"]),
)
def test_a_table_of_anything_is_refused_and_never_breaks(tmp_path, cells, suffix):
    sep = "\t" if suffix == "tsv" else ","
    rows = [["text", "start", "duration"], *cells]
    content = "\n".join(sep.join(row) for row in rows).encode("utf-8", "surrogatepass")
    only_refused(transcript(tmp_path, content, f"w.{suffix}"))
