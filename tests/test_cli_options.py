"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tribrain.cli import app
from tribrain.cli_options import chosen_cache
from tribrain.errors import InputError

VERBS = {
    "predict": ["film.mp4"],
    "features": ["film.mp4"],
    "train": ["debug"],
    "adapt": ["model", "study", "--subject", "01"],
    "ensemble": ["one", "two"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_two_answers_about_the_cache_are_refused_before_anything_is_read(verb, tmp_path):
    both = ["--cache", str(tmp_path / "kept"), "--no-cache"]
    result = CliRunner().invoke(app, [verb, *VERBS[verb], *both])
    assert isinstance(result.exception, InputError)
    assert "--cache and --no-cache contradict" in str(result.exception)
    assert not list(tmp_path.iterdir())


def test_what_is_said_of_the_cache_is_what_is_used():
    assert chosen_cache(None, False) is True
    assert chosen_cache(Path("kept"), False) == Path("kept")
    assert chosen_cache(None, True) is False
