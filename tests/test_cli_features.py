"""The verbs features and cache as a user meets them, and the lines of long work."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from dataclasses import dataclass

import numpy as np
import pytest

import makers
from tribrain import cli
from tribrain.features.store import Store
from tribrain.viewing import feature_files, progress

WORDS = "text\tstart\tduration\nsea\t0.1\t0.3\nboat\t0.8\t0.3\n"


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[str]:
        """What was said on standard error, without notes and progress."""
        return [line for line in self.stderr.splitlines() if line.startswith("tribrain: ")]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the command line in a folder of its own, with its own cache and without a network."""

    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("TRIBRAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TRIBRAIN_CACHE_LIMIT", raising=False)
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
        assert done.stderr.count("\n") == 1, done.stderr
        assert done.lines, done.stderr
        assert done.stdout == ""
        assert sorted(tmp_path.rglob("*")) == before
        return done.lines[0]

    return refused


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """A film with sound and words, one without sound, and a text."""
    folder = tmp_path_factory.mktemp("media")
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (20, 36, 64, 3)).astype(np.uint8)
    makers.write_film(folder / "one.mp4", frames, rate=10, sound=0.1 * rng.normal(size=32_000))
    (folder / "one_words.tsv").write_text(WORDS)
    makers.write_film(folder / "two.mp4", frames[:10, :, :36], rate=10)
    (folder / "three.txt").write_text("The old man pulled the boat.")
    return folder


@pytest.fixture
def films(media, tmp_path):
    return shutil.copytree(media, tmp_path / "films")


def written(folder):
    return sorted(path.name for path in folder.iterdir())


# features


def test_features_of_a_folder(run, tmp_path, films):
    done = run("features", films, "--out", "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "one: text 1 pieces (0 reused), audio 1 pieces (0 reused), video 1 pieces (0 reused)",
        "three: text 1 pieces (0 reused)",
        "two: video 1 pieces (0 reused)",
        "written to out",
    ]
    assert written(tmp_path / "out") == [f"{name}_features.npz" for name in ("one", "three", "two")]
    assert "audio: 1 of 1" in done.stderr.splitlines()
    assert "video: 2 of 2" in done.stderr.splitlines()
    with np.load(tmp_path / "out" / "one_features.npz", allow_pickle=False) as content:
        assert {"text", "audio", "video", "time", "about"} == set(content.files)
        assert json.loads(str(content["about"]))["columns"]["audio"][0] == "envelope"
    again = run("features", films)
    assert "audio 1 pieces (1 reused)" in again.stdout
    assert "written" not in again.stdout


def test_one_bad_file_of_many_is_named_and_the_others_are_written(run, tmp_path, films):
    (films / "bad.mp4").write_text("no film")
    done = run("features", films, "missing.wav", "--recipe", "debug", "--out", "out")
    assert done.returncode == 1
    assert [line.partition(": failed: ")[0] for line in done.lines] == [
        "tribrain: bad",
        "tribrain: missing",
    ]
    assert "cannot be read as video or sound" in done.lines[0]
    assert "does not exist" in done.lines[1]
    assert "failed" not in done.stdout
    assert written(tmp_path / "out") == [f"{name}_features.npz" for name in ("one", "three", "two")]


def test_all_of_many_failed(run, tmp_path):
    done = run("features", "a.mp4", "b.mp4", "--out", "out")
    assert done.returncode == 1
    assert len(done.lines) == 2
    assert done.stdout == ""
    assert not (tmp_path / "out").exists()


def test_a_single_bad_file_is_refused_in_one_line(refused, tmp_path):
    (tmp_path / "bad.mp4").write_text("no film")
    assert "bad.mp4 cannot be read as video or sound" in refused("features", "bad.mp4")
    assert "stimulus gone.mp4 does not exist" in refused("features", "gone.mp4", "--out", "out")
    (tmp_path / "empty").mkdir()
    assert "holds no stimulus" in refused("features", "empty")


def test_wrong_options_are_refused_with_those_that_fit(refused, tmp_path, media):
    def features(*options: object) -> str:
        return refused("features", media / "two.mp4", *options)

    assert "debug, lite, tribev2, tribev2-mini" in features("--recipe", "heavy")
    assert "known: npz, zarr" in features("--format", "mat")
    smell = features("--modalities", "video,smell")
    assert "'smell'" in smell
    assert "there are: text, audio, video" in smell
    assert "known: auto, cpu, cuda, mps" in features("--device", "abacus")
    assert "auto, fp32, bf16, fp16" in features("--precision", "fp8")
    assert "contradict" in features("--cache", "kept", "--no-cache")
    assert "--cluster needs the cache" in features("--cluster", "local:1", "--no-cache")
    assert "backbone meta-llama/Llama-3.2-3B: no folder" in features("--recipe", "tribev2")
    assert "none is not a folder" in features("--recipe", "tribev2", "--backbones", "none")
    several = refused("features", media, "--transcript", media / "one_words.tsv")
    assert "fit one file" in several


def test_a_transcript_for_one_file(run, tmp_path, media):
    options = ("--recipe", "debug", "--modalities", "text", "--out", "out")
    done = run("features", media / "one.mp4", "--transcript", media / "one_words.tsv", *options)
    assert done.stdout.startswith("one: text 1 pieces"), done.stderr
    with np.load(tmp_path / "out" / "one_features.npz") as content:
        assert content["text"].any()


def test_a_recipe_of_ones_own(run, refused, tmp_path, media):
    own = tmp_path / "own.toml"
    own.write_text('[features]\nfrequency = 4.0\nsimple = {video = ["contrast", "luminance"]}\n')
    done = run("features", media / "two.mp4", "--recipe", own, "--out", "out")
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "out" / "two_features.npz") as content:
        assert content["video"].shape[-1] == 4
    own.write_text("[features]\nfrequenzy = 4.0\n")
    line = refused("features", media / "two.mp4", "--recipe", own)
    assert "key 'frequenzy' is unknown; known: backbones, simple, depths" in line
    own.write_text('[features]\ndepths = "a"\n')
    assert "wrong kind" in refused("features", media / "two.mp4", "--recipe", own)


def test_a_recipe_may_ask_for_the_exact_context(tmp_path, media, backbones, monkeypatch):
    """The option adds to what the recipe says, and does not take it back."""
    jobs = []
    monkeypatch.setattr(feature_files, "extract_many", lambda _, job, **__: jobs.append(job) or [])
    backbone = '[features.backbones]\ntext = "tiny-llama"\n'
    for number, content in enumerate(("", "exact_context = true\n")):
        own = tmp_path / f"{number}.toml"
        own.write_text(f"[features]\n{content}{backbone}")
        for option in (False, True):
            feature_files.features_to_folder(
                [media / "three.txt"], recipe=str(own), backbones=backbones, exact_context=option
            )
    assert [job.recipe.exact_context for job in jobs] == [False, True, True, True]


def test_where_features_are_kept(run, tmp_path, media, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    done = run("features", media / "one.mp4", "--recipe", "debug", "--no-cache", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "cache").exists()
    assert written(temporary) == []
    assert written(tmp_path / "out") == ["one_features.npz"]
    done = run("features", media / "one.mp4", "--recipe", "debug", "--cache", "kept")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "cache").exists()
    assert len(list(Store(tmp_path / "kept").entries())) == 2
    assert run("features", media / "one.mp4", "--recipe", "debug").returncode == 0
    assert len(list(Store(tmp_path / "cache").entries())) == 2


def test_another_stimulus_of_the_same_name_is_kept(run, tmp_path):
    (tmp_path / "story.txt").write_text("The sea was calm.")
    assert run("features", "story.txt", "--out", "out").returncode == 0
    before = (tmp_path / "out" / "story_features.npz").read_bytes()
    (tmp_path / "story.txt").write_text("The sea was rough.")
    done = run("features", "story.txt", "--out", "out")
    assert done.returncode == 2
    assert "--overwrite replaces it" in done.lines[0]
    assert (tmp_path / "out" / "story_features.npz").read_bytes() == before
    assert run("features", "story.txt", "--out", "out", "--overwrite").returncode == 0
    assert (tmp_path / "out" / "story_features.npz").read_bytes() != before


def test_ctrl_c_between_two_stimuli(run, tmp_path, films, monkeypatch):
    from tribrain.features import many

    write = many._write

    def interrupt(stimulus, name, *args):
        if name == "three":
            raise KeyboardInterrupt
        return write(stimulus, name, *args)

    monkeypatch.setattr(many, "_write", interrupt)
    done = run("features", films, "--recipe", "debug", "--out", "out")
    assert (done.returncode, done.lines) == (130, ["tribrain: stopped"])
    assert written(tmp_path / "out") == ["one_features.npz"]
    assert written(tmp_path) == ["cache", "films", "out"]
    monkeypatch.setattr(many, "_write", write)
    done = run("features", films, "--recipe", "debug", "--out", "out")
    assert done.returncode == 0
    assert "two: video 1 pieces (1 reused)" in done.stdout


# cache


@pytest.fixture
def kept(run, media, tmp_path):
    """A store with the features of one film and of a text."""
    assert run("features", media / "one.mp4", "--recipe", "debug").returncode == 0
    return Store(tmp_path / "cache")


def damage(store):
    """Flip a byte of one entry; its short name."""
    entry = min(store.entries(), key=lambda one: one.digest)
    content = bytearray(entry.data.read_bytes())
    content[-1] ^= 1
    entry.data.write_bytes(content)
    return entry.digest[:12]


def test_what_is_kept_is_listed(run, tmp_path, kept):
    done = run("cache", "list")
    assert done.returncode == 0
    *lines, last = done.stdout.splitlines()
    assert last == f"2 entries, {size(kept)} of 50.0 GB, in {tmp_path / 'cache'}"
    assert sorted(line.partition("from 0  ")[2] for line in lines) == [
        "simple audio: loudness",
        "simple video: contrast",
    ]
    assert {line[:12] for line in lines} == {entry.digest[:12] for entry in kept.entries()}
    empty = run("cache", "list", "--cache", "nothing")
    assert empty.stdout == "0 entries, 0 B of 50.0 GB, in nothing\n"
    assert not (tmp_path / "nothing").exists()


def size(store):
    return feature_files.readable_size(sum(entry.size for entry in store.entries()))


def test_words_and_chunks_of_backbones_are_listed(run, tmp_path, media, backbones):
    own = tmp_path / "own.toml"
    own.write_text('[features.backbones]\ntext = "tiny-llama"\naudio = "tiny-w2v-bert"\n')
    options = ("--recipe", own, "--backbones", backbones, "--transcript", media / "one_words.tsv")
    done = run("features", media / "one.mp4", *options)
    assert done.returncode == 0, done.stderr
    listed = run("cache", "list").stdout
    assert "2 words  text: tiny-llama" in listed
    assert "from 0  audio: tiny-w2v-bert" in listed


@pytest.mark.parametrize("key", ["x", 3, None, [1], {}, {"model": "x"}, {"start": "x"}])
def test_an_entry_that_makes_no_sense_does_not_stop_the_list(run, kept, key):
    entry = next(kept.entries())
    content = json.loads(entry.manifest.read_text())
    entry.manifest.write_text(json.dumps(content | {"key": key}))
    done = run("cache", "list")
    assert done.returncode == 0, done.stderr
    assert "2 entries" in done.stdout
    assert run("cache", "verify").returncode == 1


def test_damage_is_found_and_taken_away(run, kept):
    done = run("cache", "verify")
    assert (done.returncode, done.stdout) == (
        0,
        "2 entries are as they were written, 0 are damaged\n",
    )
    digest = damage(kept)
    for _ in range(2):  # looking changes nothing
        done = run("cache", "verify")
        assert done.returncode == 1
        assert done.stdout.splitlines() == [
            f"damaged: {digest}: its checksum differs",
            "1 entries are as they were written, 1 are damaged",
        ]
        assert done.stderr == ""
    done = run("cache", "verify", "--remove")
    assert done.returncode == 1
    assert f"damaged: {digest}: its checksum differs (removed)" in done.stdout
    assert run("cache", "verify").stdout.startswith("1 entries are as they were written, 0")
    assert run("cache", "verify").returncode == 0


def test_damage_is_mended_by_the_next_run(run, media, kept):
    digest = damage(kept)
    done = run("features", media / "one.mp4", "--recipe", "debug")
    assert done.returncode == 0
    assert f"note: cache entry {digest} is damaged" in done.stderr
    assert run("cache", "verify").returncode == 0


def test_room_is_made(run, refused, kept):
    everything = sum(entry.size for entry in kept.entries())
    assert run("cache", "prune").stdout.startswith("0 entries removed")
    done = run("cache", "prune", "--limit", everything - 1)
    assert done.stdout.startswith("1 entries removed")
    done = run("cache", "prune", "--limit", "0")
    assert (done.returncode, done.stdout) == (0, "1 entries removed, 0 B left\n")
    assert list(kept.entries()) == []
    for wrong in ("-1", "many", "20X", ""):
        assert "500M, 20G or 1.5T fit" in refused("cache", "prune", f"--limit={wrong}")


def test_a_wrong_limit_in_the_environment_is_refused(refused, media, monkeypatch):
    monkeypatch.setenv("TRIBRAIN_CACHE_LIMIT", "plenty")
    for command in (("features", media / "two.mp4"), ("cache", "list"), ("cache", "prune")):
        assert "size 'plenty'" in refused(*command)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KB"),
        (2.5 * 2**20, "2.5 MB"),
        (50 * 2**30, "50.0 GB"),
        (3 * 2**50, "3072.0 TB"),
    ],
)
def test_sizes_are_readable(size, text):
    assert feature_files.readable_size(size) == text


# Progress


@pytest.fixture
def said(monkeypatch, capsys):
    """What progress says of calls (seconds, name, done, total)."""

    def said(*calls):
        now = [0.0]
        monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
        with progress.progress_lines() as show:
            for seconds, *call in calls:
                now[0] = seconds
                show(*call)
        return capsys.readouterr().err.splitlines()

    return said


def test_lines_come_every_ten_seconds_and_say_how_long_it_takes_still(said):
    calls = [(seconds, "video", seconds, 100) for seconds in (5, 6, 14, 15, 20, 26, 99, 100)]
    assert said(*calls) == [
        "video: 5 of 100",
        "video: 15 of 100, about 85 s left",
        "video: 26 of 100, about 74 s left",
        "video: 99 of 100, about 1 s left",
        "video: 100 of 100",
    ]


def test_each_name_has_a_clock_of_its_own(said):
    assert said((0, "text", 1, 9), (1, "audio", 1, 2), (2, "text", 9, 9), (3, "audio", 2, 2)) == [
        "text: 1 of 9",
        "audio: 1 of 2",
        "text: 9 of 9",
        "audio: 2 of 2",
    ]


@pytest.mark.parametrize(
    ("total", "left"), [(100, "89 s"), (102, "2 min"), (3611, "60 min"), (36_011, "10.0 h")]
)
def test_the_time_left_is_in_a_fitting_unit(said, total, left):
    lines = said((0, "video", 1, total), (10, "video", 11, total))
    assert lines[-1] == f"video: 11 of {total}, about {left} left"


def test_nothing_done_since_the_first_line_promises_nothing(said):
    assert said((0, "video", 4, 9), (30, "video", 4, 9)) == ["video: 4 of 9", "video: 4 of 9"]


def test_a_terminal_has_a_bar_instead(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress.progress_lines() as show:
        show("video", 1, 2)
        show("video", 2, 2)
    assert "2/2" in capsys.readouterr().err
