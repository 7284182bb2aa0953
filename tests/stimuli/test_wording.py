"""Where words come from: the order of sources, what is said, what is left out."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from makers import write_film, write_sound
from tribrain.errors import InputError, InputWarning
from tribrain.stimuli import alignment, recognition
from tribrain.stimuli.alignment import Place
from tribrain.stimuli.recognition import Recognised
from tribrain.stimuli.speaking import Spoken
from tribrain.stimuli.stimulus import Stimulus
from tribrain.stimuli.words import Word

SRT = "1\n00:00:01,000 --> 00:00:02,000\nHello there\n"


@dataclass
class Listener:
    """Hears the same words in any sound, and aligns a word to each second."""

    name: str = "listener"
    language: str | None = "de"

    def recognise(self, sound, language):
        words = (Word("guten", 0.5, 0.2, 0.9, "recognised"), Word("Tag", 0.8, 0.2, 0.8))
        return Recognised(words, self.language, ("it guesses",))

    def align(self, words, sound, language):
        return [Place(n, n + 0.5, 1.0) if n % 2 == 0 else None for n in range(len(words))], []


@pytest.fixture
def listener(monkeypatch):
    one = Listener()

    def load(spec, *_):
        return None if spec == "none" else one

    monkeypatch.setattr(recognition, "load_recogniser", load)
    monkeypatch.setattr(alignment, "load_aligner", load)
    monkeypatch.setattr(
        recognition, "recognise_track", lambda track, who, language, _: who.recognise(None, None)
    )
    return one


@pytest.fixture
def film(tmp_path) -> Path:
    frames = np.zeros((50, 16, 32, 3), np.uint8)
    sound = np.random.default_rng(0).normal(size=80_000) * 0.1
    (tmp_path / "said.srt").write_text(SRT)
    (tmp_path / "said.txt").write_text("One two. Three!")
    return write_film(tmp_path / "film.mkv", frames, rate=10, sound=sound)


def texts(stimulus: Stimulus) -> list[str]:
    return [word.text for word in stimulus.words]


@pytest.mark.filterwarnings("ignore::tribrain.errors.InputWarning")
def test_a_transcript_goes_before_all_else(film, listener):
    transcript, text = film.with_name("said.srt"), film.with_name("said.txt")
    stimulus = Stimulus.open(film, transcript=transcript, text=text, recogniser="x", aligner="x")
    assert texts(stimulus) == ["Hello", "there"]
    assert {word.source for word in stimulus.words} == {"caption"}
    assert stimulus.describe()["word_sources"] == {"caption": 2}


def test_a_text_is_aligned_and_says_which_words_it_did_not_find(film, listener):
    with pytest.warns(InputWarning, match="1 of 3 words of the text were not found"):
        stimulus = Stimulus.open(film, text=film.with_name("said.txt"), aligner="x")
    assert texts(stimulus) == ["One", "two", "Three"]
    assert [word.source for word in stimulus.words] == ["aligned", "interpolated", "aligned"]
    assert stimulus.text == "One two. Three!"
    assert any("aligned to the sound by listener" in note for note in stimulus.notes)


def test_without_an_aligner_the_speech_is_recognised_and_the_text_kept(film, listener):
    text = film.with_name("said.txt")
    with pytest.warns(InputWarning, match="it guesses"):
        stimulus = Stimulus.open(film, text=text, aligner="none", recogniser="x")
    assert texts(stimulus) == ["guten", "Tag"]
    assert stimulus.text == "One two. Three!"


def test_the_language_heard_is_the_stimulus_language(film, listener):
    with pytest.warns(InputWarning, match="it guesses"):
        assert Stimulus.open(film, recogniser="x").language == "de"
    listener.language = None
    with pytest.warns(InputWarning, match="it guesses"):
        assert Stimulus.open(film, recogniser="x").language == "en"


def test_auto_follows_the_environment(film, listener, monkeypatch):
    with pytest.warns(InputWarning, match="no speech recogniser is installed"):
        assert not Stimulus.open(film).words
    monkeypatch.setenv("TRIBRAIN_RECOGNISER", "x")
    with pytest.warns(InputWarning, match="it guesses"):
        assert texts(Stimulus.open(film)) == ["guten", "Tag"]
    monkeypatch.setenv("TRIBRAIN_ALIGNER", "x")
    with pytest.warns(InputWarning, match="not found"):
        assert len(Stimulus.open(film, text=film.with_name("said.txt")).words) == 3


def test_sentences_are_told_by_pauses_only_if_asked_for(film, listener):
    with pytest.warns(InputWarning, match="it guesses"):
        assert Stimulus.open(film, recogniser="x").text is None
    with pytest.warns(InputWarning, match="it guesses"):
        assert Stimulus.open(film, recogniser="x", sentences=True).text == "guten Tag."


def test_words_after_the_end_are_left_out_whoever_heard_them(film, listener, monkeypatch):
    late = Recognised((Word("now", 1.0, 0.2), Word("late", 99.0, 0.2)), "en")
    monkeypatch.setattr(recognition, "recognise_track", lambda *_: late)
    assert texts(Stimulus.open(film, recogniser="x")) == ["now"]


@pytest.mark.filterwarnings("ignore::tribrain.errors.InputWarning")
def test_subtitles_of_a_real_film_are_read_where_asked_for_and_offered_else(stimuli):
    path = stimuli / "nasa-webb-13s" / "nasa_13013.mp4"
    stimulus = Stimulus.open(path, subtitles="auto")
    assert texts(stimulus)[:5] == ["This", "is", "the", "optical", "and"]
    assert texts(Stimulus.open(path, subtitles="2")) == texts(stimulus)
    assert texts(Stimulus.open(path, subtitles="eng")) == texts(stimulus)
    silent = Stimulus.open(path)
    assert not silent.words
    assert any("--subtitles NUMBER" in note for note in silent.notes)
    with pytest.raises(InputError, match=r"no subtitle track 'fra' to read; there are: 2 \("):
        Stimulus.open(path, subtitles="fra")


def test_a_film_without_subtitles_says_that_there_are_none(film):
    with pytest.raises(InputError, match="there are: none"):
        Stimulus.open(film, subtitles="auto")


def test_a_spoken_text_has_sound_and_its_words(tmp_path, monkeypatch):
    from tribrain.stimuli import speaking

    (tmp_path / "t.txt").write_text("one two")
    own = (Word("one", 0.1, 0.2), Word("two", 0.5, 0.2))

    def speak(text, voice, language, *, folder):
        path = write_sound(folder / "speech.wav", np.ones(16_000) * 0.1, 16_000)
        return Spoken(path, own if voice == "timed" else None, ("said by a voice",))

    monkeypatch.setattr(speaking, "speak", speak)
    made = tmp_path / "made"
    made.mkdir()
    stimulus = Stimulus.open(tmp_path / "t.txt", speak="timed", folder=made)
    assert stimulus.modalities == ("text", "audio")
    assert stimulus.words == own
    assert stimulus.duration == 1.0
    spread = Stimulus.open(tmp_path / "t.txt", speak="other", folder=made, aligner="none")
    assert [word.start for word in spread.words] == [0.0, 0.5]
    assert any("spread over the sound" in note for note in spread.notes)
    with pytest.raises(InputError, match="needs a folder"):
        Stimulus.open(tmp_path / "t.txt", speak="timed")
    for other in ({"pace": "rsvp:300"}, {"transcript": tmp_path / "t.tsv"}):
        with pytest.raises(InputError, match="contradict each other"):
            Stimulus.open(tmp_path / "t.txt", speak="timed", folder=made, **other)


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_espeak_says_a_text(tmp_path):
    (tmp_path / "t.txt").write_text("The boat went across the water. Then it was evening.")
    stimulus = Stimulus.open(tmp_path / "t.txt", speak="espeak-ng", folder=tmp_path / "made")
    assert stimulus.modalities == ("text", "audio")
    assert len(stimulus.words) == 10
    assert 2 < stimulus.duration < 6
    assert stimulus.words[-1].end <= stimulus.duration
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "t.txt"]


def test_a_folder_of_pictures_is_another_stimulus_when_a_picture_changes(tmp_path):
    folder = tmp_path / "faces"
    folder.mkdir()
    for number in (1, 2):
        Image.new("RGB", (20, 16), (50 * number, 0, 0)).save(folder / f"{number}.png")
    first = Stimulus.open(folder, duration=2.0, blank=1.0)
    assert first.name == "faces"
    assert first.duration == 5.0
    assert first.modalities == ("video",)
    assert [event.onset for event in first.events] == [0.0, 3.0]
    assert Stimulus.open(folder, duration=2.0, blank=1.0).checksum == first.checksum
    assert Stimulus.open(folder, duration=2.5, blank=1.0).checksum != first.checksum
    Image.new("RGB", (20, 16), (0, 200, 0)).save(folder / "2.png")
    assert Stimulus.open(folder, duration=2.0, blank=1.0).checksum != first.checksum


def test_speech_is_not_listened_to_where_text_is_not_wanted(film, listener, monkeypatch):
    """Recognition takes minutes; nobody should wait for words that nothing reads."""
    from tribrain.features.sources import Source

    monkeypatch.setenv("TRIBRAIN_RECOGNISER", "x")
    with pytest.warns(InputWarning, match="it guesses"):
        assert Source(film, "film").open(("text", "video")).words
    silent = Source(film, "film").open(("audio", "video"))  # without a warning
    assert not silent.words
    assert any("not listened to" in note for note in silent.notes)
