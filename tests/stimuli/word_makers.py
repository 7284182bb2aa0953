"""Transcripts to write and read, and how words are compared."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from hypothesis import HealthCheck, settings

from tribrain.stimuli.transcripts import read_transcript
from tribrain.stimuli.words import Word

CALM = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def transcript(folder: Path, content: str | bytes, name: str = "words.tsv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def words_of(path: Path) -> list[Word]:
    """The words of a transcript that is read a word a row."""
    words, notes = read_transcript(path)
    assert not notes
    return words


def bare(text: str) -> str:
    """Letters and figures alone, in one case and one form."""
    plain = "".join(c for c in text if c.isalnum())
    return unicodedata.normalize("NFKC", plain).casefold()
