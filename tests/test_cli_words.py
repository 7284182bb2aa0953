"""The words verb, and the options of predict that say where words and pictures come from."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from conftest import ROOT
from tribrain import cli
from tribrain.stimuli.transcripts import read_transcript

EXAMPLES = ROOT / "examples"

pytestmark = pytest.mark.filterwarnings("ignore::tribrain.errors.InputWarning")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def call(*arguments) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["tribrain", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        shown = capsys.readouterr()
        return stop.value.code, shown.out + shown.err

    return call


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_words_are_aligned_written_and_read_back(run, tmp_path):
    pytest.importorskip("pocketsphinx")
    before = everything(EXAMPLES)
    code, shown = run(
        "words", EXAMPLES / "film.mp4", "--text", EXAMPLES / "film_text.txt",
        "--aligner", "pocketsphinx",
    )  # fmt: skip
    assert code == 0, shown
    assert "aligned) written to film_words.tsv" in shown
    assert everything(tmp_path) == ["film_words.tsv"]
    assert everything(EXAMPLES) == before
    ours, _ = read_transcript("film_words.tsv")
    truth, _ = read_transcript(EXAMPLES / "film_words.tsv")
    assert [word.text for word in ours] == [word.text for word in truth]
    errors = sorted(abs(a.start - b.start) for a, b in zip(ours, truth, strict=True))
    assert errors[len(errors) // 2] < 0.06
    assert errors[int(0.95 * len(errors))] < 0.25
    assert all(word.confidence is not None for word in ours if word.source == "aligned")
    code, shown = run(
        "words", EXAMPLES / "film.mp4", "--transcript", "film_words.tsv", "--out", "b"
    )
    assert code == 0, shown
    assert Path("b").read_text() == Path("film_words.tsv").read_text()


def test_a_stimulus_without_words_says_why_and_writes_nothing(run, tmp_path, stimuli):
    path = stimuli / "big-buck-bunny-30s" / "big_buck_bunny_0_30.webm"
    pytest.importorskip("pocketsphinx")
    code, shown = run("words", path, "--recogniser", "pocketsphinx")
    assert code == 2
    assert "no speech was found" in shown
    assert everything(tmp_path) == []


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--recogniser", "ear", "pocketsphinx"),
        ("--aligner", "hand", "ctc:FOLDER"),
        ("--pace", "slow", "rsvp"),
        ("--audio-track", "7", "sound track"),
        ("--subtitles", "9", "there are: none"),
    ],
)
def test_wrong_choices_name_the_right_ones(run, option, value, said):
    text = EXAMPLES / "film_text.txt"
    stimulus = text if option == "--pace" else EXAMPLES / "film.mp4"
    also = ["--text", text] if option == "--aligner" else []
    code, shown = run("words", stimulus, option, value, *also)
    assert code == 2
    assert said in shown
    assert shown.strip().count("\n") == 0


def test_pictures_are_predicted_as_a_silent_film(run, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (64, 48), (80 * number, 20, 100)).save(folder / f"p{number}.png")
    code, shown = run("predict", "pictures", "--duration", "2", "--blank", "1", "--out", "out")
    assert code == 0, shown
    facts = json.loads((tmp_path / "out" / "pictures_response.json").read_text())
    assert facts["stimulus"]["duration_s"] == 8.0
    assert facts["stimulus"]["modalities"] == ["video"]
    assert everything(folder) == ["p0.png", "p1.png", "p2.png"]
    rows = ["file\tonset\tduration\tcondition", "p1.png\t1\t2\tface", "p2.png\t4\t1\thouse"]
    (folder / "design.tsv").write_text("\n".join(rows))
    code, shown = run("predict", "pictures/design.tsv", "--out", "out2")
    assert code == 0, shown
    events = (tmp_path / "out2" / "design_events.tsv").read_text().splitlines()
    assert events[0] == "onset\tduration\ttrial_type\tstim_file"
    assert events[-1] == "4\t1\thouse\tp2.png"


def test_the_record_says_where_words_are_from(run, tmp_path):
    code, shown = run("predict", EXAMPLES / "film_text.txt", "--pace", "rsvp:250", "--out", "out")
    assert code == 0, shown
    facts = json.loads((tmp_path / "out" / "film_text_response.json").read_text())["stimulus"]
    assert set(facts["word_sources"]) == {"rsvp"}
    assert facts["pace"] == "rsvp:250"
