"""A stimulus has the streams, words and notes that its files give it, and no others."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import makers
from tribrain.errors import InputError, InputWarning
from tribrain.stimuli.stimulus import Stimulus
from tribrain.stimuli.words import Word

RATE = 16_000
ROWS = [("the", 0.2, 0.2), ("sea", 0.5, 0.3), ("was", 1.0, 0.2), ("calm", 1.4, 0.4)]


def write_rows(path: Path, rows: list[tuple[str, float, float]]) -> Path:
    lines = ["text\tstart\tduration"] + [f"{text}\t{a}\t{b}" for text, a, b in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def hum(seconds: float) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * 200 * np.arange(round(seconds * RATE)) / RATE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two-second films with and without sound, a sound, a picture, a text, and word times."""
    folder = tmp_path_factory.mktemp("stimuli")
    grey = [np.full((32, 64, 3), 4 * level, np.uint8) for level in range(20)]
    makers.write_film(folder / "silent.mp4", grey, rate=10)
    makers.write_film(folder / "film.mp4", grey, rate=10, sound=hum(2.0), sound_rate=RATE)
    makers.write_film(folder / "loud.mkv", grey, rate=10, sound=hum(3.5), sound_rate=RATE)
    makers.write_sound(folder / "sound.wav", hum(2.5), RATE)
    Image.new("RGB", (8, 6), (10, 20, 30)).save(folder / "picture.png")
    (folder / "text.txt").write_text("The sea was calm. A boat lay still.\n", encoding="utf-8")
    write_rows(folder / "words.tsv", ROWS)
    return folder


def refusal(call, *names: str) -> str:
    """The message of the refusal: one line that names every one of `names`."""
    with pytest.raises(InputError) as error:
        call()
    message = str(error.value)
    assert len(message.splitlines()) == 1
    for name in names:
        assert name in message
    return message


# Each kind of file


def test_a_film_with_sound_and_words_has_all_three(folder):
    made = Stimulus.open(folder / "film.mp4", transcript=folder / "words.tsv")
    assert made.modalities == ("text", "audio", "video")
    assert made.duration == pytest.approx(2.0, abs=0.065)
    assert made.words == tuple(Word(*row) for row in ROWS)
    assert (made.name, made.path, made.text, made.notes) == (
        "film",
        folder / "film.mp4",
        None,
        (),
    )


def test_a_silent_film_notes_that_there_is_no_sound_and_does_not_warn(folder):
    made = Stimulus.open(folder / "silent.mp4")
    assert made.modalities == ("video",)
    assert made.duration == pytest.approx(2.0)
    assert "no sound" in made.notes
    assert any(note.startswith("no words") for note in made.notes)


def test_a_sound_notes_that_there_is_no_video(folder):
    made = Stimulus.open(folder / "sound.wav", transcript=folder / "words.tsv")
    assert made.modalities == ("text", "audio")
    assert made.duration == pytest.approx(2.5)
    assert made.notes == ("no video",)


def test_a_picture_is_shown_in_silence_for_the_time_asked(folder):
    made = Stimulus.open(folder / "picture.png")
    assert made.modalities == ("video",)
    assert made.duration == 20
    assert "no sound" in made.notes
    assert Stimulus.open(folder / "picture.png", duration=7.5).duration == 7.5


def test_a_picture_may_have_words(folder):
    made = Stimulus.open(folder / "picture.png", transcript=folder / "words.tsv", duration=3)
    assert made.modalities == ("text", "video")
    assert len(made.words) == 4


def test_a_text_lasts_until_its_last_word_ends(folder):
    made = Stimulus.open(folder / "text.txt")
    assert made.modalities == ("text",)
    assert made.text == "The sea was calm. A boat lay still."
    assert [word.text for word in made.words] == "The sea was calm A boat lay still".split()
    assert made.duration == made.words[-1].end == pytest.approx(8 * 0.2 + 0.6)
    assert made.words[0].start == 0
    assert "reading aloud" in made.notes[0]


def test_a_text_with_word_times_lasts_until_the_last_of_them_ends(folder):
    made = Stimulus.open(folder / "text.txt", transcript=folder / "words.tsv")
    assert made.words == tuple(Word(*row) for row in ROWS)
    assert made.duration == pytest.approx(1.8)
    assert "words.tsv" in made.notes[0]


def test_the_longest_word_and_not_the_last_ends_a_text(folder, tmp_path):
    times = write_rows(tmp_path / "w.tsv", [("the", 0, 9), ("sea", 1, 0.5)])
    assert Stimulus.open(folder / "text.txt", transcript=times).duration == 9


def test_word_times_that_last_no_time_are_refused_for_a_text(folder, tmp_path):
    times = write_rows(tmp_path / "w.tsv", [("the", 0, 0)])
    refusal(lambda: Stimulus.open(folder / "text.txt", transcript=times), "w.tsv")


def test_the_named_makers_give_what_open_gives(folder):
    words = folder / "words.tsv"
    pairs = [
        (Stimulus.from_video(folder / "film.mp4", transcript=words), "film.mp4"),
        (Stimulus.from_audio(folder / "sound.wav", transcript=words), "sound.wav"),
        (Stimulus.from_image(folder / "picture.png", transcript=words), "picture.png"),
        (Stimulus.from_text(folder / "text.txt", transcript=words), "text.txt"),
    ]
    for made, name in pairs:
        opened = Stimulus.open(folder / name, transcript=words)
        assert (made.modalities, made.duration, made.words, made.notes, made.name) == (
            opened.modalities,
            opened.duration,
            opened.words,
            opened.notes,
            opened.name,
        )


def test_the_length_is_that_of_the_longer_stream(folder):
    with pytest.warns(InputWarning):
        made = Stimulus.open(folder / "loud.mkv")
    assert made.video is not None
    assert made.video.duration == pytest.approx(2.0)
    assert made.duration == pytest.approx(3.5, abs=0.13)  # whole blocks of sound


@pytest.mark.parametrize(
    ("name", "new"),
    [("silent.mp4", "S.MP4"), ("picture.png", "P.PNG"), ("text.txt", "T.TXT")],
)
def test_capitals_in_the_suffix_do_not_matter(folder, tmp_path, name, new):
    (tmp_path / new).write_bytes((folder / name).read_bytes())
    assert Stimulus.open(tmp_path / new).modalities == Stimulus.open(folder / name).modalities


def test_a_path_may_be_text(folder):
    made = Stimulus.open(str(folder / "film.mp4"), transcript=str(folder / "words.tsv"))
    assert made.path == folder / "film.mp4"


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("my film (2)", "myfilm2"),
        ("a.b", "ab"),
        ("映画", "映画"),
        ("?!", "stimulus"),
        ("-x_y-", "x_y-"),
    ],
)
def test_the_name_is_safe_for_file_names(folder, tmp_path, stem, name):
    (tmp_path / f"{stem}.mp4").write_bytes((folder / "silent.mp4").read_bytes())
    assert Stimulus.open(tmp_path / f"{stem}.mp4").name == name


def test_the_language_is_kept_and_english_unless_said(folder):
    assert Stimulus.open(folder / "text.txt").language == "en"
    assert Stimulus.open(folder / "text.txt", language="fr").language == "fr"
    assert Stimulus.open(folder / "picture.png", language="de").language == "de"


@pytest.mark.golden
def test_the_golden_film_has_its_words_up_to_its_end(golden):
    parts = golden / "end-to-end"
    with pytest.warns(InputWarning, match="5 words start after"):
        made = Stimulus.open(
            parts / "clip.mp4", transcript=parts / "words.tsv", text=parts / "story.txt"
        )
    assert made.duration == pytest.approx(16, abs=0.01)
    assert made.words[-1].text == "tell"
    assert made.modalities == ("text", "audio", "video")
    assert (made.video.rate, made.audio.rate, made.audio.channels) == (25, 44_100, 2)


# Words and text


def test_words_after_the_end_are_dropped_and_counted_in_one_warning(folder, tmp_path):
    late = [("boat", 2.1, 0.2), ("lay", 3.0, 0.2), ("still", 99.0, 0.2)]
    times = write_rows(tmp_path / "w.tsv", late + ROWS)
    with pytest.warns(InputWarning, match=r"silent\.mp4: 3 words start after") as caught:
        made = Stimulus.open(folder / "silent.mp4", transcript=times)
    assert len(caught) == 1
    assert [word.text for word in made.words] == ["the", "sea", "was", "calm"]
    assert sum(note.startswith("3 words") for note in made.notes) == 1
    assert made.duration == pytest.approx(2.0)


def test_a_word_that_starts_before_the_end_stays_whole(folder, tmp_path):
    times = write_rows(tmp_path / "w.tsv", [("the", 1.9, 5.0), ("sea", 2.0, 0.1)])
    with pytest.warns(InputWarning, match="1 words? start"):
        made = Stimulus.open(folder / "silent.mp4", transcript=times)
    assert made.words == (Word("the", 1.9, 5.0),)
    assert made.duration == pytest.approx(2.0)


@pytest.mark.parametrize("name", ["silent.mp4", "film.mp4", "sound.wav", "picture.png"])
def test_a_transcript_of_which_nothing_is_left_is_refused(folder, tmp_path, name):
    times = write_rows(tmp_path / "w.tsv", [("late", 50.0, 0.2), ("later", 60.0, 0.2)])
    refusal(lambda: Stimulus.open(folder / name, transcript=times), "w.tsv", "50.000")


@pytest.mark.parametrize("name", ["film.mp4", "sound.wav"])
def test_sound_without_word_times_warns_once_that_text_is_left_out(folder, name):
    with pytest.warns(InputWarning, match="text is left out") as caught:
        made = Stimulus.open(folder / name)
    assert len(caught) == 1
    assert "--transcript" in str(caught[0].message)
    assert made.words == ()
    assert any(note.startswith("no words") for note in made.notes)


@pytest.mark.parametrize("name", ["film.mp4", "silent.mp4", "sound.wav", "picture.png"])
def test_a_running_text_without_word_times_warns(folder, name):
    with pytest.warns(InputWarning, match="text is left out") as caught:
        made = Stimulus.open(folder / name, text=folder / "text.txt")
    assert len(caught) == 1
    assert "text" not in made.modalities


def test_the_running_text_is_kept_beside_the_words(folder):
    made = Stimulus.open(
        folder / "film.mp4", transcript=folder / "words.tsv", text=folder / "text.txt"
    )
    assert made.text == "The sea was calm. A boat lay still."
    assert len(made.words) == 4


def test_a_text_file_needs_no_second_text(folder):
    refusal(lambda: Stimulus.open(folder / "text.txt", text=folder / "text.txt"), "--text")


# What is wrong


@pytest.mark.parametrize("name", ["film.doc", "film", "film.mp4.part", "words.srt", "a.gif"])
def test_an_unknown_suffix_is_refused_with_all_that_are_known(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    message = refusal(lambda: Stimulus.open(tmp_path / name), name)
    for known in ".mp4 .mkv .mov .avi .webm .wav .mp3 .flac .ogg .m4a .png .jpg .txt".split():
        assert known in message


@pytest.mark.parametrize("name", ["no.mp4", "no.wav", "no.png", "no.txt", "no.xyz"])
def test_a_missing_stimulus_and_a_folder_are_refused(tmp_path, name):
    refusal(lambda: Stimulus.open(tmp_path / name), name)
    (tmp_path / name).mkdir()
    refusal(lambda: Stimulus.open(tmp_path / name), name, "folder")


@pytest.mark.parametrize(
    "make", [Stimulus.from_video, Stimulus.from_audio, Stimulus.from_image, Stimulus.from_text]
)
def test_the_named_makers_refuse_a_missing_file(tmp_path, make):
    refusal(lambda: make(tmp_path / "no.file"), "no.file")


@pytest.mark.parametrize("suffix", ["mp4", "webm", "wav", "m4a", "png", "jpg", "txt"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x01" * 200, b"\n\n \n"])
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path, suffix, content):
    path = tmp_path / f"wrong.{suffix}"
    path.write_bytes(content)
    refusal(lambda: Stimulus.open(path), path.name)


@pytest.mark.parametrize("what", ["transcript", "text"])
@pytest.mark.parametrize("name", ["film.mp4", "sound.wav", "picture.png"])
def test_missing_words_or_text_are_refused(folder, name, what):
    missing = folder / "missing.tsv"
    refusal(lambda: Stimulus.open(folder / name, **{what: missing}), "missing.tsv")


@pytest.mark.parametrize("duration", [0, -2, float("nan"), float("inf")])
def test_a_picture_is_not_shown_for_no_time_or_for_ever(folder, duration):
    refusal(lambda: Stimulus.open(folder / "picture.png", duration=duration))


# What stays as it was


@pytest.mark.parametrize("name", ["film.mp4", "sound.wav", "picture.png", "text.txt"])
def test_nothing_is_written_beside_the_files(folder, name):
    def state() -> dict[str, tuple[int, int]]:
        files = sorted(folder.rglob("*"))
        return {str(f): (f.stat().st_size, f.stat().st_mtime_ns) for f in files}

    before = state()
    Stimulus.open(folder / name, transcript=folder / "words.tsv")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        Stimulus.open(folder / name)
    assert state() == before


def test_a_read_only_folder_is_enough(folder, tmp_path):
    inner = tmp_path / "closed"
    inner.mkdir()
    (inner / "silent.mp4").write_bytes((folder / "silent.mp4").read_bytes())
    inner.chmod(0o555)
    try:
        assert Stimulus.open(inner / "silent.mp4").modalities == ("video",)
    finally:
        inner.chmod(0o755)


def test_a_stimulus_cannot_be_changed(folder):
    made = Stimulus.open(folder / "silent.mp4")
    with pytest.raises(AttributeError):
        made.duration = 3.0
