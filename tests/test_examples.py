"""The example film is what its script makes."""

from __future__ import annotations

import ctypes.util
import itertools
import subprocess
import sys
from pathlib import Path

import pytest

import tribrain
from conftest import ROOT
from tribrain.stimuli.transcripts import read_transcript


def film_in(folder: Path) -> tribrain.Stimulus:
    return tribrain.Stimulus.from_video(
        folder / "film.mp4",
        transcript=folder / "film_words.tsv",
        text=folder / "film_text.txt",
    )


def test_the_script_makes_the_film_and_its_words(tmp_path):
    if ctypes.util.find_library("espeak-ng") is None:
        pytest.skip("libespeak-ng is not installed")
    examples = ROOT / "examples"
    subprocess.run([sys.executable, examples / "make_film.py", tmp_path], check=True, timeout=120)
    made, kept = film_in(tmp_path), film_in(examples)
    assert made.duration == kept.duration == 40
    assert made.text == kept.text
    assert [word.text for word in made.words] == [word.text for word in kept.words]
    for word, other in zip(made.words, kept.words, strict=True):
        assert word.start == pytest.approx(other.start, abs=0.2)  # versions of espeak-ng differ


def test_the_words_are_those_of_the_text():
    words, notes = read_transcript(ROOT / "examples" / "film_words.tsv")
    assert not notes
    text = (ROOT / "examples" / "film_text.txt").read_text("utf-8")
    assert all(word.text in text for word in words)
    assert all(a.end <= b.start + 1e-3 for a, b in itertools.pairwise(words))
