"""The same work through Dask: workers that are lost, clusters that are not there."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import types

import numpy as np
import pytest

from makers import published_config, write_film
from tribrain.encoder.published import feature_recipe
from tribrain.errors import InputError, InputWarning
from tribrain.features import cluster
from tribrain.features.cluster import extract_on_cluster
from tribrain.features.extract import find_backbones
from tribrain.features.many import Job, extract_many
from tribrain.features.recipe import load_recipe
from tribrain.features.sources import find_sources
from tribrain.features.store import Store
from tribrain.viewing.feature_files import features_to_folder

pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings(r"ignore:\nPort 8787 is already in use")
DEEP = feature_recipe(published_config())
PLAIN = load_recipe("debug")
WORDS = "text\tstart\tduration\nsea\t0.1\t0.3\nboat\t0.8\t0.3\n"


class Dask:
    """A scheduler and workers, each a process of its own, without anything that revives them."""

    def __init__(self, folder):
        self.folder, self.processes, self.workers = folder, [], []
        self.start("dask_scheduler", "--port", "0")
        self.address = self.wait_for("Scheduler at:").split()[-1]

    def start(self, program, *options):
        log = (self.folder / f"{len(self.processes)}.log").open("w")
        command = [sys.executable, "-m", f"distributed.cli.{program}", "--host", "127.0.0.1"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [*command, "--no-dashboard", *options], stdout=log, stderr=log, env=environment
        )
        self.processes.append(process)
        return process

    def wait_for(self, text):
        log = self.folder / f"{len(self.processes) - 1}.log"
        for _ in range(600):
            lines = [line for line in log.read_text().splitlines() if text in line]
            if lines:
                return lines[-1]
            time.sleep(0.05)
        raise TimeoutError(log.read_text())

    def need(self, count):
        """See to it that so many workers are there."""
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        while len(self.workers) < count:
            options = ("--nthreads", "1", "--no-nanny")
            self.workers.append(self.start("dask_worker", self.address, *options))
            self.wait_for("Registered to:")
        return self.address

    def stop(self):
        for process in reversed(self.processes):
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def dask(tmp_path_factory):
    made = Dask(tmp_path_factory.mktemp("dask"))
    yield made
    made.stop()


@pytest.fixture
def local_jobs(monkeypatch):
    """A SLURM whose jobs are threads of this process; the numbers of jobs that were asked for."""
    from distributed import LocalCluster

    asked = []

    class SLURMCluster(LocalCluster):
        def __init__(self):
            options = {"threads_per_worker": 1, "processes": False, "dashboard_address": None}
            super().__init__(n_workers=0, **options)

        def scale(self, n=None, jobs=None):
            if jobs is not None:
                asked.append(jobs)
            return super().scale(jobs if n is None else n)

    module = types.ModuleType("dask_jobqueue")
    module.SLURMCluster = SLURMCluster
    monkeypatch.setitem(sys.modules, "dask_jobqueue", module)
    return asked


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Eight films, all with sound and words."""
    folder = tmp_path_factory.mktemp("films")
    for seed in range(8):
        rng = np.random.default_rng(seed)
        frames = rng.integers(0, 256, (30, 32, 32, 3)).astype(np.uint8)
        sound = 0.1 * rng.normal(size=48_000)
        write_film(folder / f"{seed}.mp4", frames, rate=10, sound=sound)
        (folder / f"{seed}_words.tsv").write_text(WORDS)
    return folder


@pytest.fixture
def make_job(tmp_path, backbones):
    def make_job(recipe=PLAIN, name="out", **changes):
        folders = find_backbones(recipe, recipe.modalities, backbones)
        places = {"cache": tmp_path / f"{name}-cache", "out": tmp_path / name}
        return Job(recipe, folders, recipe.modalities, **places | changes)

    return make_job


def assert_same_files(one, other, count):
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    assert len(names) == count
    for name in names:
        with np.load(one / name) as left, np.load(other / name) as right:
            assert left.files == right.files
            for array in set(left.files) - {"about"}:
                np.testing.assert_allclose(left[array], right[array], rtol=1e-5, atol=1e-5)
            assert str(left["about"]) == str(right["about"])


# Work is done, whatever happens to a worker


def test_a_worker_killed_in_the_middle_loses_nothing(dask, films, make_job, tmp_path):
    from distributed import default_client

    address = dask.need(2)
    sources = find_sources([films])
    said, lost = [], []

    def kill_one_at_work(outcome):
        said.append(outcome)
        if not lost:
            client = default_client()
            processes = client.run(os.getpid)
            worker, tasks = max(client.processing().items(), key=lambda item: len(item[1]))
            os.kill(processes[worker], signal.SIGKILL)
            lost.extend(tasks)

    steps = []
    outcomes = extract_on_cluster(
        sources,
        make_job(DEEP),
        address,
        said=kill_one_at_work,
        progress=lambda *step: steps.append(step),
    )
    assert lost  # what it was at
    assert sorted(worker.poll() is None for worker in dask.workers) == [False, True]
    assert [outcome.name for outcome in outcomes] == [source.name for source in sources]
    assert [outcome.error for outcome in outcomes] == [None] * 8
    assert sorted(outcome.name for outcome in said) == [source.name for source in sources]
    assert steps == [("stimuli", number, 8) for number in range(1, 9)]
    assert Store(tmp_path / "out-cache").verify() == (16 + 1, [])  # all have the same words
    assert not [path for path in tmp_path.iterdir() if ".partial" in path.name]
    extract_many(sources, make_job(DEEP, "alone"))
    assert_same_files(tmp_path / "out", tmp_path / "alone", 8)


def test_workers_share_the_store(dask, films, make_job, tmp_path):
    address, sources = dask.need(2), find_sources([films])[:2]
    job = make_job()
    extract_many(sources, job)
    outcomes = extract_on_cluster(sources, make_job(out=None), address)
    assert [
        (r.computed, r.reused) for o in outcomes for m, r in o.reuse.items() if m != "text"
    ] == [(0, 1)] * 4
    assert {outcome.written for outcome in outcomes} == {None}


def test_bad_files_and_notes_come_back_from_workers(dask, films, make_job, tmp_path):
    (tmp_path / "bad.mp4").write_text("no film")
    places = [films / "0.mp4", tmp_path / "bad.mp4", films / "1.mp4"]
    with pytest.warns(InputWarning, match="text is left out") as heard:
        outcomes = extract_on_cluster(find_sources(places), make_job(), dask.need(1))
    notes = [str(one.message) for one in heard if one.category is InputWarning]
    assert sorted(note[:6] for note in notes) == ["0.mp4:", "1.mp4:"]
    assert [outcome.name for outcome in outcomes] == ["0", "bad", "1"]
    assert [outcome.error is None for outcome in outcomes] == [True, False, True]
    assert "bad.mp4 cannot be read as video or sound" in outcomes[1].error
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_two_at_once_on_one_scheduler_do_not_get_each_others_results(
    dask, films, make_job, tmp_path
):
    address, sources = dask.need(1), find_sources([films])[:1]
    inner = []

    def start_another(_):
        inner.extend(extract_on_cluster(sources, make_job(name="inner"), address))

    extract_on_cluster(sources, make_job(name="outer"), address, said=start_another)
    assert inner[0].written == tmp_path / "inner" / "0_features.npz"
    assert inner[0].written.is_file()


def test_a_scheduler_that_goes_away_fails_what_was_not_done(films, make_job, tmp_path):
    (tmp_path / "dask").mkdir()
    own = Dask(tmp_path / "dask")
    try:
        address = own.need(1)
        stop = own.processes[0].kill
        outcomes = extract_on_cluster(
            find_sources([films])[:4], make_job(), address, said=lambda _: stop()
        )
    finally:
        own.stop()
    errors = {outcome.error for outcome in outcomes}
    assert errors == {None, "lost, as the scheduler went away"}


# Kinds of cluster


def test_workers_on_this_machine(films, tmp_path):
    (tmp_path / "list.csv").write_text(
        "stimulus,transcript\n"
        + "".join(f"{films}/{name}.mp4,{films}/{name}_words.tsv\n" for name in "01")
    )
    outcomes = features_to_folder(
        [tmp_path / "list.csv"],
        recipe="debug",
        modalities=["audio", "video"],
        out=tmp_path / "out",
        cache=tmp_path / "cache",
        cluster="local:2",
    )
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert [outcome.reuse["video"].computed for outcome in outcomes] == [1, 1]
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.mark.parametrize(("word", "jobs"), [("slurm:2", 2), ("slurm", 1)])
def test_jobs_of_slurm(local_jobs, films, make_job, word, jobs):
    outcomes = extract_on_cluster(find_sources([films])[:3], make_job(), word)
    assert local_jobs == [jobs]
    assert [outcome.name for outcome in outcomes] == ["0", "1", "2"]
    assert all(outcome.written.is_file() for outcome in outcomes)


def test_what_goes_wrong_here_is_not_put_down_to_the_cluster(local_jobs, films, make_job):
    def full(_):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        extract_on_cluster(find_sources([films])[:1], make_job(), "slurm", said=full)


# What is refused


def refusal(make_job, word):
    began = time.monotonic()
    with pytest.raises(InputError) as refused:
        extract_on_cluster([], make_job(), word)
    assert time.monotonic() - began < 5
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("word", ["", "cloud", "127.0.0.1:8786", "http://127.0.0.1", "Local:2"])
def test_an_unknown_cluster_names_those_there_are(make_job, word):
    line = refusal(make_job, word)
    assert f"cluster {word!r} is unknown" in line
    assert "local, local:WORKERS, slurm:JOBS, or the address of a scheduler" in line


@pytest.mark.parametrize("word", ["local:0", "local:two", "local:-1", "slurm:x", "slurm:1.5"])
def test_a_wrong_number_of_workers_is_refused(make_job, local_jobs, word):
    assert "is no number of workers" in refusal(make_job, word)
    assert local_jobs == []


@pytest.mark.parametrize(
    "address",
    ["tcp", "tcp:", "tcp://", "tcp://127.0.0.1", "tcp://127.0.0.1:x", "tcp://127.0.0.1:99999"],
)
def test_an_address_that_is_none_is_refused(make_job, address):
    assert f"no Dask scheduler answers at {address} (" in refusal(make_job, address)


def test_an_address_where_nobody_answers_is_refused_at_once(make_job):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # taken, but nobody listens
        for kind in ("tcp", "tls"):
            address = f"{kind}://127.0.0.1:{taken.getsockname()[1]}"
            assert f"no Dask scheduler answers at {address}" in refusal(make_job, address)


def test_something_else_that_listens_is_no_scheduler(make_job, monkeypatch):
    monkeypatch.setattr(cluster, "_PATIENCE", 1.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for kind in ("tcp", "tls"):
            address = f"{kind}://127.0.0.1:{silent.getsockname()[1]}"
            assert f"no Dask scheduler answers at {address}" in refusal(make_job, address)


@pytest.mark.parametrize(
    ("module", "word"), [("distributed", "local:2"), ("dask_jobqueue", "slurm:2")]
)
def test_a_missing_package_says_how_to_install_it(make_job, monkeypatch, module, word):
    monkeypatch.setitem(sys.modules, module, None)
    assert "pip install 'tribrain[cluster]'" in refusal(make_job, word)


def test_slurm_without_its_settings_is_refused(make_job):
    pytest.importorskip("dask_jobqueue")
    assert "--cluster slurm:2: You must specify" in refusal(make_job, "slurm:2")
