"""Captions, TextGrids and the output of recognisers are read by the rules that are stated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import shared
from format_makers import refusal_of, srt, stamped_vtt, textgrid_long, textgrid_short, vtt, whisper
from tribrain.errors import InputError
from tribrain.stimuli.transcripts import TRANSCRIPT_SUFFIXES, read_transcript
from tribrain.stimuli.words import Word
from word_makers import transcript

WORDS = [("the", 0.5, 0.75), ("old", 0.75, 1.25), ("sea", 2.0, 2.5)]
FRENCH = "L'été dernier, nous étions à la mer\noù le garçon naïf chantait déjà."
RUSSIAN = "Старик тянул лодку\nпо мокрому песку."


def texts(words: list[Word]) -> list[str]:
    return [word.text for word in words]


def read(folder: Path, content: str | bytes, name: str) -> tuple[list[Word], list[str]]:
    return read_transcript(transcript(folder, content, name))


def refused(folder: Path, content: str | bytes, name: str) -> str:
    with pytest.raises(InputError) as error:
        read(folder, content, name)
    return refusal_of(error.value, name)


def said(notes: list[str], part: str) -> bool:
    return sum(part in note for note in notes) == 1


def captions_of(folder: Path, *captions: tuple, name: str = "w.srt") -> tuple[list[Word], str]:
    """Words, and the notes other than that the captions are spread, as one text."""
    words, notes = read(folder, (srt if name.endswith("srt") else vtt)(captions), name)
    return words, "\n".join(note for note in notes if "without word times" not in note)


def test_an_unknown_suffix_is_refused_with_all_that_are_known(tmp_path):
    message = refused(tmp_path, "a", "w.doc")
    assert all(suffix in message for suffix in TRANSCRIPT_SUFFIXES)
    assert {".tsv", ".csv", ".srt", ".vtt", ".textgrid", ".json", ".ctm"} == set(
        TRANSCRIPT_SUFFIXES
    )


def test_confidence_and_source_of_a_table_are_kept(tmp_path):
    content = (
        "text\tonset\tduration\tconfidence\tsource\nsea\t0\t1\t0.5\taligned\nboat\t1\t1\tn/a\t\n"
    )
    assert read(tmp_path, content, "w.tsv")[0] == [
        Word("sea", 0, 1, 0.5, "aligned"),
        Word("boat", 1, 1),
    ]
    assert "row 2: confidence '7'" in refused(tmp_path, content.replace("0.5", "7"), "w.tsv")


# Captions


def test_a_caption_is_spread_over_its_span_by_syllables(tmp_path):
    content = srt([(1, 3.5, ["the fisherman", "sang"]), (4, 5, ["sea"])])
    words, notes = read(tmp_path, content, "w.srt")
    assert texts(words) == ["the", "fisherman", "sang", "sea"]
    assert [word.start for word in words] == pytest.approx([1, 1.5, 3, 4])
    assert [word.duration for word in words] == pytest.approx([0.5, 1.5, 0.5, 1])
    assert {word.source for word in words} == {"caption"}
    assert len(notes) == 1
    assert "2 captions without word times" in notes[0]


def test_captions_without_numbers_or_blank_lines_are_read(tmp_path):
    bare = "0:01,5 --> 0:02,5\nthe sea\n00:03.000 --> 00:04.000 X1:1\nin 1984\n"
    words = read(tmp_path, bare, "w.srt")[0]
    assert texts(words) == ["the", "sea", "in", "1984"]
    assert (words[0].start, words[2].start) == (1.5, 3.0)
    numbered = "1\n00:01,0 --> 00:02,0\nsea\n2\n00:03,0 --> 00:04,0\nboat\n"
    assert texts(read(tmp_path, numbered, "w.srt")[0]) == ["sea", "boat"]


def test_a_line_of_figures_is_a_word_and_not_the_number_of_the_next(tmp_path):
    words, _ = captions_of(tmp_path, (1, 2, ["in", "1984"]), (3, 4, ["1985"]), (5, 6, ["7"]))
    assert texts(words) == ["in", "1984", "1985", "7"]


def test_captions_out_of_order_are_sorted_and_overlapping_ones_kept(tmp_path):
    words, notes = captions_of(
        tmp_path, (5, 6, ["last"]), (1, 3, ["one two"]), (2, 4, ["three four"])
    )
    assert texts(words) == ["one", "two", "three", "four", "last"]
    assert [word.start for word in words] == pytest.approx([1, 2, 2, 3, 5])
    assert "1 caption out of order, sorted" in notes
    assert "1 caption overlapping" in notes


def test_empty_and_doubled_captions_are_counted(tmp_path):
    words, notes = captions_of(
        tmp_path, (1, 2, ["sea"]), (1, 2, ["sea"]), (3, 4, [""]), (5, 6, ["<i></i>"])
    )
    assert texts(words) == ["sea"]
    assert "1 caption given twice" in notes
    assert "2 captions without text" in notes


def test_a_caption_without_an_end_lasts_as_long_as_it_takes_to_say(tmp_path):
    content = (
        "1\n00:00:01,000 -->\nsea boat\n\n2\n00:00:05,000 --> 00:00:04,000\na fisherman\n\n"
        "3\n00:00:05,500 --> 00:00:05,500\nsea\n"
    )
    words, notes = read(tmp_path, content, "w.srt")
    assert [word.start for word in words] == pytest.approx([1, 1.2, 5, 5.125, 5.5])
    assert [word.end for word in words] == pytest.approx([1.2, 1.4, 5.125, 5.5, 5.7])
    assert said(notes, "3 captions without an end after the start")


def test_rolling_captions_lose_their_repeats(tmp_path):
    words, notes = captions_of(
        tmp_path,
        (0, 1, ["the old man"]),
        (1, 2, ["the old man", "pulled the boat"]),
        (2, 3, ["pulled the boat", "out of the sea"]),
        (3, 4, ["out of the sea"]),
    )
    assert " ".join(texts(words)) == "the old man pulled the boat out of the sea"
    assert [w.start for w in words if w.text in ("pulled", "out")] == [1, 2]
    assert "3 captions beginning with a repeat" in notes


@pytest.mark.parametrize(
    "captions",
    [
        [(0, 1, ["No."]), (1, 2, ["No."])],
        [(0, 1, ["the sea", "again"]), (5, 6, ["again", "the boat"])],
        [(0, 1, ["a", "b"]), (1, 2, ["b", "c"]), *((n, n + 1, [f"x{n}"]) for n in range(2, 7))],
    ],
)
def test_what_people_say_twice_stays(tmp_path, captions):
    words, notes = captions_of(tmp_path, *captions)
    assert len(words) == sum(len(line.split()) for c in captions for line in c[2])
    assert "repeat" not in notes


@pytest.mark.parametrize(
    ("line", "kept", "note"),
    [
        ("[music] the sea", "the sea", "1 sound description"),
        ("(applause)", "", "1 sound description"),
        ("(sighs) the sea", "the sea", "1 sound description"),
        ("the sea (LAUGHS) again", "the sea again", "1 sound description"),
        ("the sea (so they say) again", "the sea (so they say) again", ""),
        ("（拍手）", "", "1 sound description"),
        ("♪ the sea ♪", "the sea", "1 caption with music signs"),
        ("♪", "", "1 caption with music signs"),
        ("JOHN: the sea", "the sea", "1 speaker label left out (JOHN)"),
        ("- MRS. O'HARA: the sea", "the sea", "(MRS. O'HARA)"),
        ("Speaker 2: the sea", "the sea", "(Speaker 2)"),
        ("[SPEAKER_00]: the sea", "the sea", "1 speaker label left out (SPEAKER_00)"),
        ("Remember: the sea", "Remember: the sea", ""),
        ("AT 10:30 the sea", "AT 10:30 the sea", ""),
        (">> the sea", "the sea", ""),
        ("- the sea - again", "the sea again", ""),
        ("-Hello", "Hello", ""),
        ("-5 degrees", "-5 degrees", ""),
        ("uh, the… sea", "uh, the… sea", ""),
        ("salt & sea ...", "salt & sea", ""),
        ("{\\an8}the <font color='red'>sea</font>", "the sea", ""),
        ("a &amp; b &lt;3", "a & b <3", ""),
        ("\u202bthe\u200f \u2067sea\u2069", "the sea", ""),
        ("so\u00adft", "soft", ""),
    ],
)
def test_what_is_not_spoken_is_left_out_and_counted(tmp_path, line, kept, note):
    words, notes = captions_of(tmp_path, (0, 4, [line]), (5, 6, ["end"]))
    assert " ".join(texts(words)) == f"{kept} end".strip()
    assert note in notes if note else not notes


def test_captions_of_sounds_alone_hold_no_words(tmp_path):
    assert "no words" in refused(tmp_path, srt([(0, 1, ["[music]"])]), "w.srt")


@pytest.mark.parametrize("name", ["w.srt", "w.vtt"])
@pytest.mark.parametrize(
    "line", ["00:00:0x,000 --> 00:00:02,000", "00:75:00,000 --> 00:76:00,000", "a --> b"]
)
def test_a_time_line_that_is_none_is_refused_with_its_number(tmp_path, name, line):
    content = f"WEBVTT\n\n00:00:01.000 --> 00:00:02.000\nsea\n\n{line}\nboat\n"
    assert "line 6: " in refused(tmp_path, content, name)


@pytest.mark.parametrize("name", ["w.srt", "w.vtt"])
def test_a_file_without_captions_is_refused(tmp_path, name):
    assert "00:00:01,000 --> " in refused(tmp_path, "WEBVTT\n\nsea\n", name)


def test_blocks_names_and_settings_of_webvtt_are_no_words(tmp_path):
    content = (
        "WEBVTT - a title\nKind: captions\n\nSTYLE\n::cue(b) { color: red }\n\n"
        "NOTE\ntwo lines\nof it\n\nintro\n00:01.000 --> 00:02.000 align:start position:0%\n"
        "<v.loud Anna>the <c.yellow>sea</c>\n\nNOTE one line\n\nREGION\nid:a\n\n"
        "00:00:03.000 --> 00:00:04.000\n<ruby>boat<rt>bote</rt></ruby>\n"
    )
    words, notes = read(tmp_path, content, "w.vtt")
    assert texts(words) == ["the", "sea", "boat"]
    assert len(notes) == 1
    assert texts(read(tmp_path, content, "w.srt")[0]) == ["the", "sea", "boat"]


def test_word_stamps_of_webvtt_are_the_times_of_the_words(tmp_path):
    words, notes = read(tmp_path, stamped_vtt([*WORDS, ("end", 2.5, 3.0)]), "w.vtt")
    assert [(w.text, w.start) for w in words] == [
        ("the", 0.5),
        ("old", 0.75),
        ("sea", 2.0),
        ("end", 2.5),
    ]
    assert {word.source for word in words} == {"transcript"}
    assert not notes


def test_a_stamp_before_several_words_is_the_start_of_their_span(tmp_path):
    line = "one<00:00:02.000> two three <00:00:09.000>four<00:00:01.500> five"
    words, notes = captions_of(tmp_path, (1, 4, [line]), name="w.vtt")
    assert [word.start for word in words] == pytest.approx([1, 2, 2.5, 3, 3.5])
    assert [word.source for word in words] == ["transcript"] + 4 * ["caption"]
    assert "2 word time stamps outside" in notes


@pytest.mark.parametrize("name", ["w.srt", "w.vtt"])
def test_captions_that_highlight_each_word_give_it_once(tmp_path, name):
    captions = [
        (0.0, 0.5, ["<u>the</u> old sea"]),
        (0.5, 0.75, ["the <u>old</u> sea"]),
        (0.75, 1.0, ["the old sea"]),
        (1.0, 1.5, ["the old <u>sea</u>"]),
        (3661.25, 3662, ["<u>rose</u> up"]),
        (3662, 3663, ["rose <u>up</u>"]),
    ]
    words, notes = captions_of(tmp_path, *captions, name=name)
    assert [(w.text, w.start, w.end) for w in words] == [
        ("the", 0.0, 0.5),
        ("old", 0.5, 0.75),
        ("sea", 1.0, 1.5),
        ("rose", 3661.25, 3662.0),
        ("up", 3662.0, 3663.0),
    ]
    assert {word.source for word in words} == {"transcript"}
    assert "5 captions that show a text again to highlight a word" in notes


def test_underlined_words_alone_are_no_highlighting(tmp_path):
    words, notes = captions_of(tmp_path, (0, 1, ["the <u>old</u> sea"]), (1, 2, ["<u>boat</u>"]))
    assert texts(words) == ["the", "old", "sea", "boat"]
    assert not notes


YOUTUBE = """WEBVTT
Kind: captions
Language: en

00:00:00.160 --> 00:00:02.470 align:start position:0%
\x20
hello<00:00:00.480><c> everyone</c><00:00:00.800><c> and</c>

00:00:02.470 --> 00:00:02.480 align:start position:0%
hello everyone and
\x20

00:00:02.480 --> 00:00:04.150 align:start position:0%
hello everyone and
welcome<00:00:02.800><c> back</c>
"""


def test_the_automatic_captions_of_video_sites_give_each_word_once(tmp_path):
    words, notes = read(tmp_path, YOUTUBE, "w.vtt")
    assert [(w.text, w.start) for w in words] == [
        ("hello", 0.16),
        ("everyone", 0.48),
        ("and", 0.8),
        ("welcome", 2.48),
        ("back", 2.8),
    ]
    assert {word.source for word in words} == {"transcript"}
    assert said(notes, "2 captions beginning with a repeat")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("שָׁלוֹם לְךָ, יָם!", ["שָׁלוֹם", "לְךָ,", "יָם!"]),
        ("سحب الرجل القارب.", ["سحب", "الرجل", "القارب."]),
        ("大海在哪里？", ["大", "海", "在", "哪", "里？"]),
        ("彼は「海」と言う。", ["彼", "は", "「海」", "と", "言", "う。"]),
        ("DVDを2枚", ["DVD", "を", "2", "枚"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("naïve don’t", ["naïve", "don’t"]),
    ],
)
def test_captions_of_other_scripts(tmp_path, line, words):
    found, notes = captions_of(tmp_path, (0, 3, [line]))
    assert texts(found) == words
    assert found[-1].end == pytest.approx(3)
    assert not notes


# Encodings


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"]
)
def test_unicode_is_read_as_it_says(tmp_path, encoding, ends):
    content = srt([(0, 4, FRENCH.split("\n"))]).replace("\n", ends).encode(encoding)
    words, notes = read(tmp_path, content, "w.srt")
    assert texts(words) == FRENCH.split()
    assert said(notes, "is not UTF-8") == (encoding in ("utf-16-le", "utf-16-be"))


@pytest.mark.parametrize(
    ("text", "encoding", "named"),
    [
        (FRENCH, "latin-1", "cp1252 (its words then read été, étions, à)"),
        ("Die Möwen schreien\nüber dem Hafen", "cp1252", "cp1252"),
        ("Stary człowiek ciągnął łódź\npo mokrym piasku", "cp1250", "cp1250"),
        (RUSSIAN, "cp1251", "cp1251"),
        (RUSSIAN, "koi8_r", "koi8_r"),
        ("Привет, мир", "cp1251", "cp1251 (its words then read Привет, мир)"),
        ("האיש הזקן משך את הסירה", "cp1255", "cp1255"),
        ("سحب الرجل العجوز القارب", "cp1256", "cp1256"),
        ("老人把船拉过湿漉漉的沙滩，大海在哪里结束？", "gb18030", "gb18030"),
        ("老人は濡れた砂の上で船を引いていた。", "cp932", "cp932"),
    ],
)
def test_other_encodings_are_told_by_their_words_and_noted(tmp_path, text, encoding, named):
    captions = srt([(0, 4, text.split("\n"))])
    words, notes = read(tmp_path, captions.encode(encoding), "w.srt")
    assert texts(words) == texts(read(tmp_path, captions, "u.srt")[0])
    assert said(notes, f"is not UTF-8; by its letters it was read as {named}")


# TextGrids


@pytest.mark.parametrize("write", [textgrid_long, textgrid_short])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be"])
def test_a_textgrid_is_read_in_both_forms(tmp_path, write, encoding):
    rows = [("", 0.0, 0.5), *WORDS[:2], ("sil", 1.25, 2.0), ('s"é"a', 2.0, 2.5), ("sp", 2.5, 3.0)]
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    content = (mark + write({"words": rows}, 3.0)).encode(encoding)
    words, notes = read(tmp_path, content, "w.TextGrid")
    assert words == [Word("the", 0.5, 0.25), Word("old", 0.75, 0.5), Word('s"é"a', 2.0, 0.5)]
    assert not notes


SOUNDS = [("AH0", 0.0, 1.0)]


@pytest.mark.parametrize(
    ("tiers", "chosen"),
    [
        ({"phones": SOUNDS, "words": WORDS}, True),
        ({"Word": WORDS, "other": SOUNDS}, True),
        ({"Anna - phones": SOUNDS, "Anna - words": WORDS}, True),
        ({"anything": WORDS}, True),
        ({"one": WORDS, "two": SOUNDS}, False),
    ],
)
def test_the_tier_of_words_is_found_or_the_tiers_are_named(tmp_path, tiers, chosen):
    content = textgrid_long(tiers, 3.0)
    if chosen:
        assert texts(read(tmp_path, content, "w.TextGrid")[0]) == ["the", "old", "sea"]
    else:
        assert "'one', 'two'" in refused(tmp_path, content, "w.TextGrid")


def test_the_words_of_several_speakers_are_read_together(tmp_path):
    tiers = {"Anna - words": WORDS, "Ben - words": [("boat", 1.0, 1.5)]}
    words, notes = read(tmp_path, textgrid_short(tiers, 3.0), "w.TextGrid")
    assert texts(words) == ["the", "old", "boat", "sea"]
    assert said(notes, "'Anna - words', 'Ben - words'")


def test_labels_of_noise_and_of_several_words_are_told(tmp_path):
    labels = ["<p:>", "spn", "<unk>", "[laugh]", "a boat", "<SIL>", "sea"]
    rows = [(label, float(n), n + 1.0) for n, label in enumerate(labels)]
    words, notes = read(tmp_path, textgrid_long({"words": rows}, 7.0), "w.TextGrid")
    assert [(w.text, w.start) for w in words] == [("a", 4.0), ("boat", 4.5), ("sea", 6.0)]
    assert [w.source for w in words] == ["caption", "caption", "transcript"]
    assert said(notes, "3 intervals of noise")
    assert said(notes, "1 interval holds several words")


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("ooTextFile", "plain", "is no TextGrid"),
        ('"TextGrid"', '"Pitch 1"', "is no TextGrid"),
        ("size = 3", "size = 4", "ends early: the start of interval 4 of tier 1"),
        ("size = 3", "size = 2.5", "no count"),
        ("xmax = 1.25", "xmax = 0.25", "interval 2 of tier 1 lasts from 0.75 to 0.25 s"),
        ("xmin = 0.5", "xmin = -0.5", "interval 1 of tier 1 lasts from -0.5"),
        ('"old"', "old", "is damaged"),
        ('"IntervalTier"', '"Tier"', "known: IntervalTier, TextTier"),
    ],
)
def test_a_damaged_textgrid_is_refused(tmp_path, old, new, what):
    content = textgrid_long({"words": WORDS}, 3.0)
    assert old in content
    assert what in refused(tmp_path, content.replace(old, new), "w.TextGrid")


def test_the_textgrid_of_an_audiobook():
    folder = shared("data/alice/alice_stim_shared")
    words, notes = read_transcript(next(folder.glob("*.TextGrid")))
    assert len(words) == 2127
    assert texts(words)[:5] == "Alice was beginning to get".split()
    assert words[0].start == pytest.approx(20.0589, abs=1e-4)
    assert not notes


# Recognisers


def test_words_keep_their_confidence(tmp_path):
    for data in (whisper(WORDS), whisper(WORDS, "score"), whisper(WORDS)["segments"]):
        words, notes = read(tmp_path, json.dumps(data), "w.json")
        assert words[0] == Word("the", 0.5, 0.25, 0.5, "recognised")
        assert texts(words) == ["the", "old", "sea"]
        assert not notes


def test_segments_without_words_are_spread(tmp_path):
    segments = [
        {"start": 1.0, "end": 3.0, "text": " a boat"},
        {"start": 3.0, "end": 4.0, "text": " [MUSIC]", "words": []},
        {"start": 5.0, "end": 6.0, "words": [{"word": "sea", "start": 5.5, "end": 6.0}]},
    ]
    words, notes = read(tmp_path, json.dumps({"segments": segments}), "w.json")
    assert [(w.text, w.start, w.source) for w in words] == [
        ("a", 1.0, "caption"),
        ("boat", 2.0, "caption"),
        ("sea", 5.5, "recognised"),
    ]
    assert said(notes, "1 segment without word times")
    assert said(notes, "1 entry for sounds")


@pytest.mark.parametrize("key", ["segments", "word_segments"])
def test_words_without_times_lie_between_their_neighbours(tmp_path, key):
    entries = [
        {"word": "in", "start": 1.0, "end": 1.5, "score": 0.9},
        {"word": "1984"},
        {"word": "the", "start": 3.0, "end": 2.0},
        {"word": "sea", "start": 2.5, "end": 3.0},
        {"word": "rose", "start": None, "end": None},
    ]
    segment = {"start": 1.0, "end": 4.0, "text": "in 1984 the sea rose", "words": entries}
    data = {"segments": [segment]} if key == "segments" else {"word_segments": entries}
    words, notes = read(tmp_path, json.dumps(data), "w.json")
    assert texts(words) == ["in", "1984", "the", "sea", "rose"]
    assert [w.source == "interpolated" for w in words] == [False, True, True, False, True]
    assert [w.start for w in words] == pytest.approx([1.0, 1.5, 1.5 + 2 / 3, 2.5, 3.0])
    assert words[-1].end == pytest.approx(4.0 if key == "segments" else 3.2)
    assert said(notes, "3 words without times")


@pytest.mark.parametrize(
    "data",
    [
        {"words": [{"word": "sea", "start": 1, "end": 2}], "segments": [{"text": "sea"}]},
        {"chunks": [{"text": " sea", "timestamp": [1.0, 2.0]}]},
        {"transcription": [{"text": " sea", "offsets": {"from": 1000, "to": 2000}}]},
        {"segments": [{"words": [{"text": "sea", "start": "1.0", "end": "2.0"}]}]},
        [{"word": "sea", "start": 1.0, "end": 2.0, "probability": 7}],
    ],
)
def test_programs_alike_are_read_too(tmp_path, data):
    (word,), _ = read(tmp_path, json.dumps(data), "w.json")
    assert (word.text, word.start, word.end, word.confidence) == ("sea", 1.0, 2.0, None)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("7", "needs a list 'segments' or 'words'"),
        ('{"segments": [1]}', "needs a list 'segments' or 'words'"),
        ('{"segments": {"a": 1}}', "needs a list 'segments' or 'words'"),
        ("{}", "no list 'segments' or 'words'"),
        ('{"segments": [{"words": [1]}]}', "not a list of objects"),
        ('{"segments": [{"text": 3}]}', "its text is int"),
        ('[{"word": "sea"}]', "no word has a 'start'"),
        ('{"segments": [{"text": "sea"}]}', "no segment has a 'start'"),
        ('[{"word": "sea", "start": NaN, "end": 1e999}]', "no word has a 'start'"),
        ('{"segments": [{"text": "[MUSIC]", "start": 0, "end": 1}]}', "no words"),
    ],
)
def test_json_of_another_form_is_refused(tmp_path, content, what):
    assert what in refused(tmp_path, content, "w.json")


CTM = ";; a comment\ntalk A 0.5 0.25 the 0.9\ntalk A 0.75 0.5 old\n\ntalk A 1.5 0.1 <unk> 1\n"


def test_a_ctm_is_read(tmp_path):
    words, notes = read(tmp_path, CTM + "talk A 2 0.5 sea NA lex\n", "w.ctm")
    assert words == [Word("the", 0.5, 0.25, 0.9), Word("old", 0.75, 0.5), Word("sea", 2.0, 0.5)]
    assert said(notes, "1 entry for sounds")


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("talk A 2 0.5", "line 6: 4 fields"),
        ("talk A -2 0.5 sea", "line 6: start '-2'"),
        ("talk A 2 nan sea", "line 6: start '2' and duration 'nan'"),
        ("talk A * * <ALT_BEGIN>", "line 6: start '*'"),
        ("talk B 2 0.5 sea", "2 files or channels ('talk A', 'talk B')"),
        ("show A 2 0.5 sea", "2 files or channels ('talk A', 'show A')"),
    ],
)
def test_a_ctm_that_is_wrong_is_refused(tmp_path, line, what):
    assert what in refused(tmp_path, CTM + line + "\n", "w.ctm")


# Files that other programs write


@pytest.mark.parametrize("name", ["w.srt", "w.vtt"])
def test_captions_that_pysubs2_writes(tmp_path, name):
    pysubs2 = pytest.importorskip("pysubs2")
    lines = ["the old man", "{\\i1}pulled{\\i0} his boat\\Nacross wet sand", "大海"]
    events = [
        pysubs2.SSAEvent(start=n * 4000, end=n * 4000 + 3500, text=line)
        for n, line in enumerate(lines)
    ]
    subs = pysubs2.SSAFile()
    subs.events = events
    subs.save(str(tmp_path / name))
    words, _ = read_transcript(tmp_path / name)
    assert " ".join(texts(words)) == "the old man pulled his boat across wet sand 大 海"
    assert [w.start for w in words if w.text in ("the", "pulled", "大")] == [0, 4, 8]
    assert words[-1].end == pytest.approx(11.5)


@pytest.mark.parametrize("form", ["short_textgrid", "long_textgrid"])
def test_textgrids_that_praatio_writes(tmp_path, form):
    praatio = pytest.importorskip("praatio.textgrid")
    grid = praatio.Textgrid()
    rows = [(start, end, text) for text, start, end in [*WORDS, ('"quoted"', 3.0, 3.5)]]
    grid.addTier(praatio.IntervalTier("words", rows, 0, 4))
    grid.addTier(praatio.IntervalTier("phones", [(0, 1, "AH0")], 0, 4))
    grid.addTier(praatio.PointTier("beats", [(1.0, "x")], 0, 4))
    grid.save(str(tmp_path / "w.TextGrid"), form, includeBlankSpaces=True)
    words, notes = read_transcript(tmp_path / "w.TextGrid")
    assert [(w.text, w.start) for w in words] == [(text, start) for start, _, text in rows]
    assert [w.end for w in words] == pytest.approx([end for _, end, _ in rows])
    assert not notes
