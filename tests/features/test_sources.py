"""Stimuli found in files, folders and lists, and the names that they get."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tribrain.errors import InputError
from tribrain.features.sources import find_sources

PARTS = st.text("aAbé_.!- 2", min_size=1, max_size=4).filter(lambda part: part.strip("."))
SUFFIXES = st.sampled_from([".mp4", ".MP4", ".wav", ".txt", ".m p!"])
PATHS = st.builds(
    lambda folders, stem, suffix: Path("/", *folders, stem + suffix),
    st.lists(PARTS, max_size=3),
    PARTS,
    SUFFIXES,
)


def fill(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def names(*places):
    return [one.name for one in find_sources([Path(place) for place in places])]


def write_list(folder, content, name="list.tsv", encoding="utf-8"):
    (folder / name).write_text(content, encoding)
    return folder / name


# Folders


def test_a_folder_is_searched_with_all_that_is_in_it(tmp_path):
    fill(
        tmp_path,
        "one.mp4",
        "Two.WAV",
        "deep/er/three.png",
        "deep/story.txt",
        ".hidden.mp4",
        ".cache/four.mp4",
        "notes.docx",
        "README",
    )
    found = find_sources([tmp_path], language="fr", duration=3.0)
    assert {str(one.path.relative_to(tmp_path)) for one in found} == {
        "one.mp4",
        "Two.WAV",
        "deep/er/three.png",
        "deep/story.txt",
    }
    assert {(one.language, one.duration) for one in found} == {("fr", 3.0)}
    assert all(one.transcript is None and one.text is None for one in found)
    assert [one.path for one in found] == sorted(one.path for one in found)


def test_a_folder_that_is_itself_hidden_is_searched(tmp_path):
    fill(tmp_path / ".films", "one.mp4")
    assert names(tmp_path / ".films") == ["one"]


@pytest.mark.parametrize("text", ["film.txt", "film.TXT"])
def test_a_text_beside_a_film_is_its_text_and_alone_a_stimulus(tmp_path, text):
    fill(tmp_path, "film.mp4", text, "alone.txt", "deep/film.txt")
    found = {str(one.path.relative_to(tmp_path)): one.text for one in find_sources([tmp_path])}
    assert found == {"film.mp4": tmp_path / text, "alone.txt": None, "deep/film.txt": None}


@pytest.mark.parametrize(
    ("beside", "chosen"),
    [
        (["film_words.tsv"], "film_words.tsv"),
        (["film.tsv"], "film.tsv"),
        (["film.csv"], "film.csv"),
        (["film.csv", "film.tsv", "film_words.tsv"], "film_words.tsv"),
        (["film.csv", "film.tsv"], "film.tsv"),
        (["other.tsv", "film_words.csv"], None),
    ],
)
def test_transcripts_beside_a_film(tmp_path, beside, chosen):
    fill(tmp_path, "film.v2.mp4", *(name.replace("film", "film.v2") for name in beside))
    (found,) = find_sources([tmp_path])
    expected = None if chosen is None else tmp_path / chosen.replace("film", "film.v2")
    assert found.transcript == expected


def test_a_text_alone_may_have_word_times(tmp_path):
    fill(tmp_path, "story.txt", "story_words.tsv")
    (found,) = find_sources([tmp_path])
    assert (found.text, found.transcript) == (None, tmp_path / "story_words.tsv")


@pytest.mark.parametrize("there", [[], ["words.tsv", "picture.gif"], [".film.mp4"]])
def test_a_folder_without_stimuli_is_refused(tmp_path, there):
    fill(tmp_path, *there)
    with pytest.raises(InputError, match=r"holds no stimulus; known: \.mp4.*\.txt$"):
        find_sources([tmp_path])


# Lists


def test_a_list_names_all_that_belongs_to_a_stimulus(tmp_path):
    content = (
        "stimulus\ttranscript\ttext\tlanguage\tduration\tremark\n"
        "films/a.mp4\twords/a.tsv\ta.txt\tde\t\tfine\n"
        " b.png \t\t\t\t4.5\t\n"
        f"{tmp_path}/c.wav\n"
    )
    found = find_sources([write_list(tmp_path, content)], language="fr", duration=7.0)
    assert [one.name for one in found] == ["a", "b", "c"]
    a, b, c = found
    assert a.path == tmp_path / "films" / "a.mp4"
    assert (a.transcript, a.text) == (tmp_path / "words" / "a.tsv", tmp_path / "a.txt")
    assert (a.language, a.duration) == ("de", 7.0)
    assert (b.path, b.transcript, b.language) == (tmp_path / "b.png", None, "fr")
    assert b.duration == 4.5
    assert (c.path, c.transcript, c.text) == (tmp_path / "c.wav", None, None)


def test_a_list_with_commas_and_a_byte_order_mark(tmp_path):
    content = 'duration,stimulus\n2,"a, b.png"\n,c.png\n'
    file = write_list(tmp_path, content, "LIST.CSV", "utf-8-sig")
    found = find_sources([file])
    assert [(one.path.name, one.duration) for one in found] == [("a, b.png", 2.0), ("c.png", 20.0)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("film\ttranscript\na.mp4\t\n", "no column 'stimulus'; it has: film, transcript"),
        ("stimulus,text\na.mp4,b.txt\n", "no column 'stimulus'"),
        ("stimulus\tduration\na.mp4\t2\nb.png\tlong\n", "line 3: duration 'long' is no number"),
        ("stimulus\ttext\na.mp4\t\n\tb.txt\n", "line 3: no stimulus"),
        ("", "cannot be read"),
        ("stimulus\n", "names no stimulus"),
        ("stimulus\na.mp4\nb.mp4\tc\td\n", "cannot be read"),
        ("stimulus\ta.mp4\tb.mp4\n", "names no stimulus"),
    ],
)
def test_a_wrong_list_is_refused_in_one_line(tmp_path, content, message):
    with pytest.raises(InputError, match=message) as refusal:
        find_sources([write_list(tmp_path, content)])
    assert "list.tsv" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_cells_beyond_the_header_do_not_move_the_columns(tmp_path):
    file = write_list(tmp_path, "stimulus\ttext\na.mp4\ta.txt\tmore\n")
    with pytest.raises(InputError, match=r"list\.tsv: a line has more cells than the header$"):
        find_sources([file])


def test_a_list_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "list.tsv").write_bytes(b"stimulus\n\xff\xfe\x00.mp4\n")
    with pytest.raises(InputError, match=r"list list\.tsv cannot be read"):
        find_sources([tmp_path / "list.tsv"])
    with pytest.raises(InputError, match=r"list .*nothing\.csv does not exist"):
        find_sources([tmp_path / "nothing.csv"])


# One stimulus


def test_what_is_given_for_one_file(tmp_path):
    words, text = tmp_path / "w.tsv", tmp_path / "t.txt"
    (one,) = find_sources([tmp_path / "a.mp4"], transcript=words, text=text, duration=2)
    assert (one.transcript, one.text, one.duration, one.name) == (words, text, 2, "a")


@pytest.mark.parametrize("option", ["transcript", "text"])
def test_a_transcript_for_several_is_refused(tmp_path, option):
    fill(tmp_path / "films", "a.mp4")
    file = write_list(tmp_path, "stimulus\na.mp4\n")
    for places in ([tmp_path / "a.mp4", tmp_path / "b.mp4"], [tmp_path / "films"], [file]):
        with pytest.raises(InputError, match="fit one file; for several, name them in a list"):
            find_sources(places, **{option: tmp_path / "given"})


# Names


def test_the_same_file_given_twice_is_done_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path, "films/a.mp4", "films/b.mp4")
    assert names("films", "films/a.mp4", "films/../films/b.mp4", tmp_path / "films") == ["a", "b"]


def test_one_file_with_other_words_or_another_time_is_another_stimulus(tmp_path):
    content = (
        "stimulus\ttranscript\ttext\tlanguage\tduration\n"
        "a.png\t1.tsv\t\t\t\na.png\t2.tsv\t\t\t\na.png\t1.tsv\tt.txt\t\t\n"
        "a.png\t1.tsv\t\tfr\t\na.png\t1.tsv\t\t\t5\na.png\t./1.tsv\t\t\t20\n"
    )
    found = find_sources([write_list(tmp_path, content)])
    assert len(found) == 5
    assert len({one.name for one in found}) == 5


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["x/a.mp4", "x/b.mp4"], ["a", "b"]),
        (["x/a.mp4", "y/a.mp4", "b.mp4"], ["x_a", "y_a", "b"]),
        (["p/x/a.mp4", "q/x/a.mp4", "x/b.mp4"], ["p_x_a", "q_x_a", "b"]),
        (["x/a.mp4", "x/a.wav"], ["a_mp4", "a_wav"]),
        (["x/a.mp4", "x/a.wav", "y/a.mp4"], ["x_a_mp4", "x_a_wav", "y_a"]),
        (["x/a!.mp4", "x/a.mp4"], ["a_mp4", "a_mp4_2"]),
        (["x/a!.mp4", "x/a.mp4", "x/a_mp4_2.mp4"], ["a_mp4", "a_mp4_3", "a_mp4_2"]),
        (["x/Film.mp4", "y/film.mp4"], ["x_Film", "y_film"]),
        (["x/!.mp4"], ["stimulus"]),
    ],
)
def test_names_tell_stimuli_apart(given, expected):
    assert names(*(Path("/", path) for path in given)) == expected


@given(st.lists(PATHS, min_size=1, max_size=8))
def test_names_are_unique_and_safe_and_of_the_same_order(paths):
    found = find_sources(paths)
    distinct = list(dict.fromkeys(paths))
    assert [one.path for one in found] == distinct
    given_names = [one.name for one in found]
    # Some file systems hold Film and film for one name.
    assert len({name.casefold() for name in given_names}) == len(distinct)
    assert all(re.fullmatch(r"\w[\w-]*", name) for name in given_names)
    assert [one.name for one in find_sources(paths)] == given_names


@given(st.lists(PATHS, min_size=1, max_size=5, unique=True))
def test_a_name_that_nobody_else_wants_is_the_stem(paths):
    apart = Path("/somewhere/wholly-apart.mp4")
    assert [one.name for one in find_sources([*paths, apart])][-1] == "wholly-apart"
