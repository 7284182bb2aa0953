"""The command line as a user meets it: files in, folder out, one line for what is wrong."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import makers
import tribrain
from conftest import ROOT
from tribrain import cli

FILM = ROOT / "examples" / "film.mp4"
WORDS = ROOT / "examples" / "film_words.tsv"
TEXT = ROOT / "examples" / "film_text.txt"


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the command line in a folder of its own, without a network."""

    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["tribrain", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture
def refused(run, tmp_path):
    """Run a command that must end with exit code 2 and one line, and leave nothing."""

    def refused(*arguments: object) -> str:
        before = sorted(tmp_path.rglob("*"))
        done = run(*arguments)
        assert done.returncode == 2, done.stderr
        lines = [line for line in done.stderr.splitlines() if not line.startswith("note: ")]
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("tribrain: ")
        assert done.stdout == ""
        assert sorted(tmp_path.rglob("*")) == before
        return lines[0]

    return refused


@pytest.fixture(scope="module")
def short_film(tmp_path_factory):
    folder = tmp_path_factory.mktemp("short")
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (60, 48, 64, 3)).astype(np.uint8)
    sound = 0.1 * rng.normal(size=3 * 16_000)
    return makers.write_film(folder / "short film.mp4", frames, rate=20, sound=sound)


def test_a_film_gives_the_files_of_the_contract(run, tmp_path):
    done = run("predict", FILM, "--transcript", WORDS, "--text", TEXT)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "film_tribrain"
    report = Path("film_tribrain", "film_report.html")
    assert done.stdout == f"written to film_tribrain; open {report} to look\n"
    bids = "sub-unseen_task-film_hemi-{}_space-fsaverage5_desc-predicted_bold"
    names = {f"{bids.format(side)}.{end}" for side in "LR" for end in ("func.gii", "json")}
    names |= {
        f"film_{end}"
        for end in ("response.zarr", "response.json", "words.tsv", "regions.tsv", "report.html")
    }
    assert {path.name for path in folder.iterdir()} == names
    assert not [path for path in tmp_path.iterdir() if path != folder]
    response = tribrain.load_response(folder)
    assert response.data.shape == (40, 20484)
    facts = json.loads((folder / "film_response.json").read_text())
    assert facts["response"]["label"] == "textbook model, not trained on data"
    assert facts["stimulus"]["words"] == 44
    assert facts["versions"]["tribrain"] == tribrain.__version__
    assert "not trained on data" in (folder / "film_report.html").read_text()
    # The words come back as a transcript, and the same command again replaces its own output.
    again = run("predict", FILM, "--transcript", folder / "film_words.tsv", "--text", TEXT)
    assert again.returncode == 0, again.stderr
    same = tribrain.load_response(folder)
    np.testing.assert_allclose(same.data.values, response.data.values, atol=1e-6)


def test_the_command_line_gives_what_python_gives(run, tmp_path, short_film, checkpoint, backbones):
    done = run(
        "predict",
        short_film,
        "--model",
        checkpoint,
        "--backbones",
        backbones,
        "--out",
        "here",
        "--format",
        "gifti,npz",
        "--device",
        "cpu",
    )
    assert done.returncode == 0, done.stderr
    assert "note: licence of" in done.stderr
    assert "text is left out" in done.stderr
    written = tribrain.load_response(tmp_path / "here")
    with pytest.warns(tribrain.InputWarning, match="licence"):
        model = tribrain.load_model(checkpoint, backbones=backbones, device="cpu")
    with pytest.warns(tribrain.InputWarning, match="text is left out"):
        stimulus = tribrain.Stimulus.from_video(short_film)
    expected = model.predict(stimulus)
    np.testing.assert_allclose(written.data.values, expected.data.values, atol=1e-5)
    assert (tmp_path / "here" / "shortfilm_response.npz").is_file()
    facts = json.loads((tmp_path / "here" / "shortfilm_response.json").read_text())
    assert facts["response"]["modalities"] == ["audio", "video"]
    assert any("no words" in note for note in facts["stimulus"]["notes"])
    assert facts["model"]["checksums"].keys() == {"config.yaml", "best.ckpt"}


@pytest.mark.golden
def test_golden_predictions_through_the_command_line(run, tmp_path, golden):
    folder = golden / "end-to-end"
    done = run(
        "predict",
        folder / "clip.mp4",
        "--model",
        folder / "checkpoint",
        "--backbones",
        folder / "backbones",
        "--transcript",
        folder / "words.tsv",
        "--text",
        folder / "story.txt",
        "--out",
        "out",
    )
    assert done.returncode == 0, done.stderr
    assert "5 words start after the stimulus ends" in done.stderr
    predicted = tribrain.load_response(tmp_path / "out").data.values
    reference = np.load(folder / "reference.npz")["predictions"]
    assert np.corrcoef(predicted.ravel(), reference.ravel())[0, 1] > 0.9999
    assert np.linalg.norm(predicted - reference) / np.linalg.norm(reference) < 1e-2


@pytest.mark.parametrize(
    ("file", "rows", "modalities"),
    [
        ("big-buck-bunny-30s/big_buck_bunny_0_30.webm", 31, ["audio", "video"]),
        ("jfk-speech/jfk.wav", 11, ["audio"]),
        ("images/chelsea.png", 20, ["video"]),
        ("nasa-webb-13s/nasa_13013.mp4", 14, ["text", "audio", "video"]),
    ],
)
def test_real_input_of_every_kind(run, tmp_path, stimuli, file, rows, modalities):
    extra = []
    if "text" in modalities:
        extra = ["--transcript", stimuli / "nasa-webb-13s" / "transcript.tsv"]
    done = run("predict", stimuli / file, "--out", "out", *extra)
    assert done.returncode == 0, done.stderr
    response = tribrain.load_response(tmp_path / "out")
    assert response.data.sizes["time"] == rows
    assert response.data.attrs["modalities"] == modalities
    assert np.isfinite(response.data.values).all()
    assert np.abs(response.data.values).max() > 0.1


def test_a_text_is_a_stimulus(run, tmp_path):
    (tmp_path / "story.txt").write_text("The sea was calm. Nobody, it seemed, had noticed.")
    done = run("predict", "story.txt")
    assert done.returncode == 0, done.stderr
    response = tribrain.load_response(tmp_path / "story_tribrain")
    assert response.data.attrs["modalities"] == ["text"]
    regions = response.regions()
    assert regions["pSTS_L"].max() > 2 * regions["V1_L"].abs().max()


def test_a_film_without_sound_runs_and_says_so(run, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (25, 32, 32, 3)).astype(np.uint8)
    makers.write_film(tmp_path / "mute.mp4", frames)
    done = run("predict", "mute.mp4")
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "mute_tribrain" / "mute_response.json").read_text())
    assert "no sound" in facts["stimulus"]["notes"]


def test_models_are_listed_described_and_converted(
    run, tmp_path, checkpoint, short_film, backbones
):
    listed = run("models")
    assert listed.returncode == 0
    assert "textbook" in listed.stdout
    assert "facebook/tribev2-mini" in listed.stdout
    assert "CC BY-NC" in listed.stdout
    described = run("models", "info", checkpoint)
    assert json.loads(described.stdout)["build"]["n_outputs"] == makers.N_OUTPUTS
    converted = run("models", "convert", checkpoint, "own")
    assert converted.returncode == 0, converted.stderr
    assert {p.name for p in (tmp_path / "own").iterdir()} == {"model.json", "model.safetensors"}
    options = ["--modalities", "video", "--backbones", backbones]
    for number, model in enumerate((checkpoint, "own")):
        done = run("predict", short_film, "--model", model, *options, "--out", f"out{number}")
        assert done.returncode == 0, done.stderr
    one, other = (tribrain.load_response(tmp_path / f"out{i}").data.values for i in (0, 1))
    assert np.array_equal(one, other)


BAD_TRANSCRIPTS = {
    "negative": ("text\tstart\tduration\nsea\t-1\t0.3\n", "row 2: start '-1' is not a time"),
    "words for numbers": ("text\tstart\tduration\nsea\tsoon\t0.3\n", "'soon' is not a time"),
    "not a number": ("text\tstart\tduration\nsea\tnan\t0.3\n", "'nan' is not a time"),
    "too late": ("text\tstart\tduration\nsea\t500\t0.3\n", "no word starts before the stimulus"),
    "no columns": ("a\tb\n1\t2\n", "has no column text or word"),
    "empty": ("", "is empty"),
}


@pytest.mark.parametrize("kind", BAD_TRANSCRIPTS)
def test_a_bad_transcript_is_refused(refused, tmp_path, short_film, kind):
    content, message = BAD_TRANSCRIPTS[kind]
    (tmp_path / "words.tsv").write_text(content)
    assert message in refused("predict", short_film, "--transcript", "words.tsv")


def test_files_that_are_no_stimulus_are_refused(refused, tmp_path, short_film):
    assert "does not exist" in refused("predict", "nothing.mp4")
    (tmp_path / "fake.mp4").write_text("This is a text, and no film at all.\n" * 40)
    assert "cannot be read as video or sound" in refused("predict", "fake.mp4")
    (tmp_path / "empty.mp4").touch()
    assert "cannot be read as video or sound" in refused("predict", "empty.mp4")
    (tmp_path / "empty.txt").write_text(" \n ... \n")
    assert "holds no words" in refused("predict", "empty.txt")
    (tmp_path / "fake.png").write_text("no picture")
    assert "cannot be read as a picture" in refused("predict", "fake.png")
    (tmp_path / "notes.docx").write_text("x")
    assert "known: .mp4" in refused("predict", "notes.docx")
    (tmp_path / "nothing").mkdir()
    assert "picture" in refused("predict", "nothing")


def test_wrong_options_are_refused(refused, tmp_path, short_film, checkpoint, backbones):
    def predict(*options: object) -> str:
        return refused("predict", short_film, *options)

    assert "known: text, audio, video" in predict("--modalities", "smell")
    assert "has no text" in predict("--modalities", "text")
    assert "known: gifti, cifti, nifti, mgh, npz" in predict("--format", "dicom")
    assert "known: auto, cpu, cuda, mps" in predict("--device", "abacus")
    assert "knows no people" in predict("--subject", "sub-01")
    assert "textbook, facebook/tribev2" in predict("--model", "nothing")
    trained = ("--model", checkpoint, "--backbones", backbones)
    assert "known: Study/sub-01, Study/sub-02" in predict("--subject", "sub-9", *trained)
    assert "under 100 s" in predict("--overlap", "100", *trained)
    (tmp_path / "file").touch()
    assert "is a file" in predict("--out", "file")


def test_an_unknown_option_is_one_refusal(run, tmp_path):
    done = run("predict", FILM, "--colour", "blue")
    assert done.returncode == 2
    assert "--colour" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_hostile_checkpoint_runs_nothing(refused, tmp_path, short_film, checkpoint):
    model = tmp_path / "model"
    shutil.copytree(checkpoint, model)
    config = model / "config.yaml"
    marker = tmp_path / "executed"
    hostile = f"\nextra: !!python/object/apply:os.system ['touch {marker}']\n"
    config.write_text(config.read_text() + hostile)
    line = refused("predict", short_film, "--model", model)
    assert "!!python/object/apply:os.system" in line
    assert not marker.exists()


def test_a_damaged_checkpoint_is_refused(refused, tmp_path, short_film):
    import torch

    config = makers.published_config()
    weights = makers.published_weights(config)
    missing = {k: v for k, v in weights.items() if k != "low_rank_head.weight"}
    makers.make_published_checkpoint(tmp_path / "missing", config, missing)
    line = refused("predict", short_film, "--model", "missing")
    assert "low_rank.weight" in line
    wrong = {**weights, "low_rank_head.weight": torch.zeros(3, 3)}
    makers.make_published_checkpoint(tmp_path / "wrong", config, wrong)
    line = refused("predict", short_film, "--model", "wrong")
    assert "shape (3, 3)" in line


def test_a_backbone_that_is_nowhere_is_refused_before_any_work(
    refused, tmp_path, short_film, checkpoint
):
    (tmp_path / "backbones").mkdir()
    line = refused("predict", short_film, "--model", checkpoint, "--backbones", "backbones")
    assert "backbone tiny-w2v-bert: not in backbones" in line


def test_another_stimulus_in_the_folder_is_kept(run, refused, tmp_path, short_film):
    (tmp_path / "one.txt").write_text("The sea was calm.")
    assert run("predict", "one.txt", "--out", "out").returncode == 0
    before = (tmp_path / "out" / "one_response.json").read_text()
    line = refused("predict", short_film, "--out", "out")
    assert "--overwrite" in line
    (tmp_path / "one.txt").write_text("The sea was rough.")
    assert "another stimulus" in refused("predict", "one.txt", "--out", "out")
    assert (tmp_path / "out" / "one_response.json").read_text() == before
    done = run("predict", "one.txt", "--out", "out", "--overwrite")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "one_response.json").read_text() != before


def test_the_program_runs_as_a_program(tmp_path):
    """As installed, with exit codes that a shell sees."""
    program = [sys.executable, "-m", "tribrain"]
    done = subprocess.run([*program, "--help"], capture_output=True, text=True, check=True)
    assert "predict" in done.stdout
    wrong = subprocess.run(
        [*program, "predict", "nothing.mp4"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert wrong.returncode == 2
    assert wrong.stderr == "tribrain: stimulus nothing.mp4 does not exist\n"


def test_ctrl_c_ends_with_130_and_leaves_nothing(run, tmp_path, monkeypatch):
    from tribrain.viewing import predict_files

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    (tmp_path / "one.txt").write_text("The sea was calm.")
    monkeypatch.setattr(predict_files, "report_page", interrupt)
    done = run("predict", "one.txt")
    assert done.returncode == 130
    assert [path.name for path in tmp_path.iterdir()] == ["one.txt"]


def test_an_unforeseen_error_ends_with_1_and_leaves_nothing(run, tmp_path, monkeypatch):
    from tribrain.brain import export

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    (tmp_path / "one.txt").write_text("The sea was calm.")
    monkeypatch.setattr(export, "_write_zarr", full_disk)
    done = run("predict", "one.txt")
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["one.txt"]


def test_names_with_a_colon_and_other_letters_are_read(run, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (25, 32, 32, 3)).astype(np.uint8)
    makers.write_film(tmp_path / "film.mp4", frames)
    (tmp_path / "film.mp4").rename(tmp_path / "Кино: 映画.mp4")
    done = run("predict", "Кино: 映画.mp4")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "Кино映画_tribrain" / "Кино映画_response.json").is_file()


def test_a_folder_called_textbook_is_not_the_model(run, tmp_path):
    (tmp_path / "textbook").mkdir()
    (tmp_path / "one.txt").write_text("The sea was calm.")
    assert run("predict", "one.txt").returncode == 0
    assert run("predict", "one.txt", "--model", "./textbook").returncode == 2


def test_the_record_tells_which_backbones_were_used(
    run, tmp_path, short_film, checkpoint, backbones
):
    shutil.copytree(backbones, tmp_path / "others")
    weights = tmp_path / "others" / "tiny-w2v-bert" / "model.safetensors"
    from safetensors.torch import load_file, save_file

    changed = {name: 1.3 * value for name, value in load_file(weights).items()}
    save_file(changed, weights, metadata={"format": "pt"})
    used = []
    for number, folder in enumerate((backbones, "others")):
        done = run(
            "predict",
            short_film,
            "--model",
            checkpoint,
            "--backbones",
            folder,
            "--modalities",
            "audio",
            "--out",
            f"out{number}",
        )
        assert done.returncode == 0, done.stderr
        facts = json.loads((tmp_path / f"out{number}" / "shortfilm_response.json").read_text())
        used.append(facts["backbones"]["audio"])
    assert used[0]["revision"] == "local"
    files = {"config.json", "model.safetensors", "preprocessor_config.json"}
    assert used[0]["checksums"].keys() == files
    assert used[0]["checksums"] != used[1]["checksums"]
