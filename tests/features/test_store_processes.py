"""The store with several processes at once, and with processes that are killed while they write."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from makers import write_sound
from tribrain.features.extract import extract_features
from tribrain.features.pieces import Extractors
from tribrain.features.recipe import FeatureRecipe
from tribrain.features.store import Store
from tribrain.stimuli.media import probe
from tribrain.stimuli.stimulus import Stimulus

SIMPLE = {"audio": ("loudness", "voice")}
PIECES = 6


def script(path: Path, *parts: str) -> Path:
    path.write_text("\n".join(parts))
    return path


def start(path: Path, *arguments) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(path), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen, code: int = 0) -> str:
    out, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    return out


# Several at once

TRAFFIC = """
import random, sys, time, warnings
import numpy as np
from tribrain.features.store import Store

warnings.simplefilter("error")
folder, writer, limit, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
store, rng = Store(folder, limit), random.Random(writer)
# What an array holds follows from its first three numbers; none can be part of two.
def made(writer, key, turn):
    seed = np.array([writer, key, turn], np.float64)
    rest = np.random.default_rng([writer, key, turn]).random(50 + 37 * (turn % 40))
    return np.concatenate([seed, rest])

print("READY", flush=True)
sys.stdin.readline()
end, got, others = time.monotonic() + seconds, 0, 0
turn = 0
while time.monotonic() < end:
    key = rng.randrange(20)
    turn += 1
    if rng.random() < 0.4:
        store.put({"number": key}, made(writer, key, turn))
    found = store.get({"number": key})
    if found is None:
        continue
    assert found[1] == key, "of another key"
    assert np.array_equal(found, made(*map(int, found[:3]))), "not whole"
    got += 1
    others += found[0] != writer
print(turn, got, others)
"""


def traffic(tmp_path, limit, seconds):
    """Turns, arrays got, and those of them that another process wrote; of each of four."""
    path = script(tmp_path / "traffic.py", TRAFFIC)
    processes = [start(path, tmp_path / "store", n, limit, seconds) for n in range(4)]
    for process in processes:
        assert process.stdout.readline() == "READY\n", process.stderr.read()
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    return [tuple(map(int, finish(process).split())) for process in processes]


def test_four_processes_share_their_keys(tmp_path):
    for turns, got, others in traffic(tmp_path, 2**30, 2.0):
        assert turns > 50
        assert got > turns / 2
        assert others > got / 10
    store = Store(tmp_path / "store", 2**30)
    assert store.verify() == (20, [])
    assert not list(store.folder.glob("entries/*/.partial-*"))


def test_four_processes_share_a_store_that_is_too_small(tmp_path):
    """What one of them removes, another may be about to read."""
    counts = traffic(tmp_path, 40_000, 2.0)
    assert all(got > 20 for _, got, _ in counts)
    store = Store(tmp_path / "store", 2**30)
    sound, damaged = store.verify()
    assert damaged == []
    assert 0 < sound < 20
    assert sum(entry.size for entry in store.entries()) <= 40_000 + 4 * 14_000


# Killed at each step of writing

STEPS = """
import os, signal, sys
from pathlib import Path
import numpy as np
from tribrain.features.store import Store

folder, left = sys.argv[1], int(sys.argv[2])

def step(what):
    global left
    left -= 1
    if left == 0:
        print(what, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

class Halves:
    def __init__(self, file):
        self.file = file
    def __enter__(self):
        return self
    def __exit__(self, *_):
        self.file.close()
    def write(self, data):
        step("opened")
        self.file.write(data[: len(data) // 2])
        self.file.flush()
        step("half written")
        self.file.write(data[len(data) // 2 :])
        self.file.flush()
        step("written")

plain, replace = Path.open, Path.replace
def replaced(path, target):
    step("closed")
    replace(path, target)
    step("renamed")
def opened(path, mode="r", *arguments):
    file = plain(path, mode, *arguments)
    return Halves(file) if mode == "xb" else file
Path.open = opened
Path.replace = replaced
Store(folder, 2**30).put({"number": 1}, np.full(1000, 2.0))
"""


@pytest.mark.parametrize("there", [False, True], ids=["new", "replaced"])
def test_killed_at_any_step_of_a_put(tmp_path, there):
    path = script(tmp_path / "steps.py", STEPS)
    stores = {n: Store(tmp_path / f"store{n}", 2**30) for n in range(1, 12)}
    if there:
        for store in stores.values():
            store.put({"number": 1}, np.full(1000, 1.0))
    processes = {n: start(path, store.folder, n) for n, store in stores.items()}
    reached = []
    for number, store in stores.items():
        ended = number == 11  # of ten steps: five for each of the two files
        reached.append(finish(processes[number], 0 if ended else -signal.SIGKILL).strip())
        found = store.get({"number": 1})  # a warning would fail here
        if number >= 10:
            assert np.array_equal(found, np.full(1000, 2.0))
        elif there:
            assert np.array_equal(found, np.full(1000, 1.0))
        else:
            assert found is None
        assert store.verify() == (int(there or number >= 10), [])
        partial = list(store.folder.glob("entries/*/.partial-*"))
        assert len(partial) == (number not in (5, 10, 11))
    each = ["opened", "half written", "written", "closed", "renamed"]
    assert reached == [*each, *each, ""]


# Killed while features are extracted

EXTRACT = """
import os, signal, sys, time, warnings
from pathlib import Path
sys.path[:0] = [{here!r}, {tests!r}]
from tribrain.features import sound
from tribrain.features.store import Store
from test_store_processes import extract, opened

film = Path(sys.argv[1])
made, put, plain, replace = sound.sound_pieces, Store.put, Path.open, Path.replace
puts = 0

def slowly(track, names, pieces, frequency):
    for (first, _), series in zip(pieces, made(track, names, pieces, frequency), strict=True):
        print("computed", first, flush=True)
        time.sleep(0.05)
        yield series

class Halves:
    def __init__(self, file):
        self.file = file
    def __enter__(self):
        return self
    def __exit__(self, *_):
        self.file.close()
    def write(self, data):
        self.file.write(data[: len(data) // 2])
        self.file.flush()
        time.sleep(0.02)
        self.file.write(data[len(data) // 2 :])

def replaced(path, target):
    time.sleep(0.02)
    replace(path, target)

sound.sound_pieces = slowly
def in_halves(path, mode="r", *arguments):
    file = plain(path, mode, *arguments)
    return Halves(file) if mode == "xb" else file
Path.open = in_halves
Path.replace = replaced
warnings.simplefilter("error")
stimulus = opened(film)
list(made(stimulus.audio, ["loudness", "voice"], [(0, 1)], 2))  # imports what it needs
print("READY", flush=True)
folder, deadly = sys.stdin.readline().strip().rsplit(" ", 1)

def counted(self, key, array):
    global puts
    put(self, key, array)
    puts += 1
    if puts == int(deadly):
        os.kill(os.getpid(), signal.SIGKILL)

Store.put = counted
extract(stimulus, Store(folder, 2**30))
print("done", flush=True)
"""


def opened(path):
    track = probe(path)[1]
    return Stimulus("noise", track.duration, None, track, (), None, path)


def extract(stimulus, store):
    extractors = Extractors(FeatureRecipe(simple=SIMPLE))
    return extract_features(stimulus, extractors, ["audio"], window=120.0, store=store)


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """A sound of six pieces, and its features made without a store."""
    rng = np.random.default_rng(0)
    samples = rng.normal(size=PIECES * 60 * 4000) * 0.1
    path = write_sound(tmp_path_factory.mktemp("noise") / "noise.wav", samples, 4000)
    return path, extract(opened(path), None)["audio"]


@pytest.fixture
def extracting(tmp_path):
    here = Path(__file__).parent
    return script(
        tmp_path / "extracting.py", EXTRACT.format(here=str(here), tests=str(here.parent))
    )


class Run:
    """A process that extracts features; what it says goes to a file."""

    def __init__(self, extracting, film):
        self.out = extracting.with_name(f"{time.monotonic_ns()}.txt")
        with self.out.open("w") as out:
            command = [sys.executable, str(extracting), str(film)]
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT, text=True
            )

    def wait_for(self, word):
        end = time.monotonic() + 120
        while word not in self.out.read_text():
            assert time.monotonic() < end, f"no {word} after two minutes"
            assert self.process.poll() is None, self.out.read_text()
            time.sleep(0.01)

    def begin(self, folder, deadly=0):
        self.wait_for("READY")
        self.process.stdin.write(f"{folder} {deadly}\n")
        self.process.stdin.flush()

    def kill(self):
        self.process.kill()
        return self.ended()

    def ended(self):
        """Exit status, and where the pieces that were computed begin."""
        self.process.communicate(timeout=60)
        lines = self.out.read_text().splitlines()
        computed = [int(line.split()[1]) for line in lines if line.startswith("computed")]
        return self.process.returncode, computed


def firsts(store):
    """Where the pieces that a store holds begin, in samples."""
    return {entry.key["first"] for entry in store.entries()}


def test_killed_after_four_of_six_pieces(tmp_path, noise, extracting):
    run = Run(extracting, noise[0])
    run.begin(tmp_path / "store", deadly=4)
    assert run.ended() == (-signal.SIGKILL, [0, 120, 240, 360])
    store = Store(tmp_path / "store", 2**30)
    assert store.verify() == (4, [])
    again = extract(opened(noise[0]), store)
    assert (again.reuse["audio"].reused, again.reuse["audio"].computed) == (4, 2)
    assert np.array_equal(again["audio"], noise[1])


def test_killed_at_twenty_moments(tmp_path, noise, extracting):
    """Work goes on from where it was, whenever it ended; nothing is damaged or done twice."""
    rng = random.Random(0)
    folders = iter(tmp_path / f"store{number}" for number in range(21))
    store = Store(next(folders), 2**30)
    used, held, kills, leftovers, kept = [store], set(), 0, 0, 0
    # While one works, the next ones start up.
    waiting = [Run(extracting, noise[0]) for _ in range(3)]
    try:
        while kills < 20:
            run = waiting.pop(0)
            run.begin(store.folder)
            run.wait_for("computed")
            time.sleep(rng.uniform(0.0, 0.45))
            status, computed = run.kill()
            assert status in (0, -signal.SIGKILL), run.out.read_text()
            kills += status != 0
            if kills + len(waiting) < 20:
                waiting.append(Run(extracting, noise[0]))
            assert not set(computed) & held, "computed although it was kept"
            now = firsts(store)
            assert now >= held, "lost"
            # All but the one at work are kept.
            assert now - held >= set(computed[:-1])
            assert store.verify() == (len(now), [])
            leftovers += len(list(store.folder.glob("entries/*/.partial-*")))
            kept += len(now - held)
            held = now
            if len(held) == PIECES:
                store = Store(next(folders), 2**30)
                used.append(store)
                held = set()
    finally:
        for run in waiting:
            run.kill()
    assert leftovers > 0, "no kill met a file that was being written"
    assert kept > 0
    for store in used:
        before = firsts(store)
        clean = extract(opened(noise[0]), store)
        assert clean.reuse["audio"].reused == len(before)
        assert clean.reuse["audio"].computed == PIECES - len(before)
        assert np.array_equal(clean["audio"], noise[1])
        assert store.verify() == (PIECES, [])
        for path in store.folder.glob("**/.partial-*"):
            os.utime(path, (0, 0))
        store.prune()
        assert not list(store.folder.glob("**/.partial-*"))
        assert store.verify() == (PIECES, [])
