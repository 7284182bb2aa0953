"""Preparation: the numbers, what is reused, and what may go wrong."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import scipy.signal

import prepared_makers
from prepared_makers import SPACE, Tiny, bold, features, store_content
from tribrain.brain.spaces import Space, Voxels, mesh_space, parcel_space
from tribrain.errors import InputError, InputWarning
from tribrain.studies import prepare_run
from tribrain.studies.alice import read_words
from tribrain.studies.arrays import ArrayBold
from tribrain.studies.prepare import prepare
from tribrain.studies.prepared import open_prepared
from tribrain.studies.prepared_files import FORMAT, _decoded, _encoded
from tribrain.studies.runs import Problem, Run, Shown, StimulusFile, file_checksum
from tribrain.studies.spoken import Spoken


@pytest.fixture
def study(tmp_path):
    return Tiny(tmp_path / "raw").write()


def cleaned(values: np.ndarray) -> np.ndarray:
    """Detrended z-scores, by SciPy."""
    left = scipy.signal.detrend(values.astype(float), axis=0)
    return left / left.std(axis=0)


def one_run(folder: Path, values: np.ndarray, name: str = "a", **changes) -> Run:
    """A run of a film in a file of its own."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.npy"
    np.save(path, values)
    settings = {"repetition_time": 2.0, "shown": (Shown(features("dog"), 3.0, 40.0, "dog"),)}
    settings |= changes
    space = settings.pop("space", SPACE)
    source = ArrayBold(path, space, settings["repetition_time"])
    return Run("tiny", "09", name, source, **settings)


def only(*runs: Run, folder: Path) -> Tiny:
    return Tiny(folder, films=(), extra=runs)


@pytest.mark.parametrize("repetition_time", [1.0, 1.49, 2.0, 0.72])
@pytest.mark.parametrize("first", [0, 7])
def test_row_t_is_the_cleaned_run_at_origin_plus_t(tmp_path, repetition_time, first):
    study = Tiny(tmp_path / "raw", repetition_time, first=first).write()
    report = prepare(study, tmp_path / "store", dtype="float32")
    assert (len(report.prepared), report.reused, report.problems) == (6, [], [])
    opened = open_prepared(tmp_path / "store")
    assert [run.name for run in opened.runs] == [run.name for run in study.runs()]
    assert opened.space == SPACE
    for number, run in enumerate(opened.runs):
        values = cleaned(bold(number)[first:])
        measured = repetition_time * np.arange(first, first + len(values))
        assert measured[0] <= run.origin < measured[0] + 1
        at = run.origin + np.arange(run.rows)
        assert at[-1] <= measured[-1] + 1e-6 < at[-1] + 1 + 1e-6
        expected = np.stack([np.interp(at, measured, column) for column in values.T], axis=1)
        np.testing.assert_allclose(opened.window(run, 0, run.rows), expected, atol=2e-5)


@pytest.mark.parametrize(("onset", "start"), [(4.25, 0.0), (-20.0, 0.0), (10.4, 3.7), (-0.3, 0.5)])
def test_whole_seconds_of_the_first_stimulus_are_rows(tmp_path, onset, start):
    shown = Shown(features("dog"), onset, 60.0, "dog", start=start)
    later = Shown(features("eel"), onset + 60.4, 20.0, "eel")
    run = one_run(tmp_path, bold(0), shown=(shown, later))
    prepare(only(run, folder=tmp_path), tmp_path / "store")
    (run,) = open_prepared(tmp_path / "store").runs
    rows = [run.row(run.shown[0], second, lag=5.0) for second in range(10)]
    np.testing.assert_allclose(rows, np.round(rows), atol=1e-6)
    # The time of that row is that of the second in the scanner, and the lag.
    assert run.origin + rows[3] == pytest.approx(onset - start + 3 + 5)
    assert 0 <= run.origin < 1


def test_float16_is_rounded_by_no_more_than_is_said(study, tmp_path):
    prepare(study, tmp_path / "half")
    prepare(study, tmp_path / "single", dtype="float32")
    half, single = (open_prepared(tmp_path / name) for name in ("half", "single"))
    for one, other in zip(half.runs, single.runs, strict=True):
        exact = other.read(0, other.rows)
        np.testing.assert_allclose(one.read(0, one.rows), exact, rtol=5e-4, atol=1e-7)
        assert one.read(0, 3, np.float16).dtype == np.float16
        assert one.array.stat().st_size < other.array.stat().st_size


def test_rows_without_data_stay_nan_and_constant_values_are_noted(tmp_path):
    values = bold(3)
    values[20] = np.nan
    values[:, 2] = 17.0
    prepare(only(one_run(tmp_path, values), folder=tmp_path), tmp_path / "store")
    (run,) = open_prepared(tmp_path / "store").runs
    stored = run.read(0, run.rows)
    missing = np.isnan(stored).all(axis=1)
    assert run.unmeasured == missing.sum()
    np.testing.assert_array_equal(np.flatnonzero(missing), [39, 40, 41])  # around second 40
    assert np.isnan(stored[:, 2]).all()
    assert not np.isnan(np.delete(stored, 2, axis=1)[~missing]).any()
    (note,) = run.notes
    assert note.startswith("1 of 7 series are constant")


def test_confounds_and_high_pass_are_taken_out(tmp_path):
    rng = np.random.default_rng(5)
    motion = rng.normal(size=prepared_makers.VOLUMES)
    table = tmp_path / "confounds.tsv"
    np.savetxt(table, motion, header="trans_x", comments="")
    slow = np.cos(np.pi * 2 * (np.arange(len(motion)) + 0.5) / len(motion))[:, None]
    values = bold(4) + 400 * motion[:, None] + 300 * slow
    run = one_run(tmp_path, values.astype("f4"), repetition_time=1.0, confounds=table)
    options = {"confounds": "trans_*", "high_pass": 1 / 60, "dtype": "float32"}
    prepare(only(run, folder=tmp_path), tmp_path / "store", **options)
    (run,) = open_prepared(tmp_path / "store").runs
    stored = run.read(0, run.rows)
    for nuisance in (motion, slow[:, 0], np.arange(len(motion))):
        assert abs(np.corrcoef(nuisance, stored.T)[0, 1:]).max() < 1e-4
    np.testing.assert_allclose(stored.std(axis=0), 1, rtol=1e-4)


def test_confounds_of_a_run_without_a_table(study, tmp_path):
    with pytest.raises(InputError, match=r"no run of tiny .* the run has no table"):
        prepare(study, tmp_path / "store", confounds=["trans_x"])


def test_surfaces_are_taken_to_a_coarser_mesh(tmp_path):
    space = mesh_space("fsaverage4")
    values = np.random.default_rng(1).normal(size=(60, space.size)).astype("f4")
    run = one_run(tmp_path, values, space=space, repetition_time=1.0)
    study = only(run, folder=tmp_path)
    prepare(study, tmp_path / "store", space="fsaverage3", dtype="float32")
    opened = open_prepared(tmp_path / "store")
    assert opened.space == mesh_space("fsaverage3")
    assert opened.runs[0].outputs == opened.space.size == opened.window(run.name, 0, 1).size
    flat = one_run(tmp_path, bold(0), "flat")
    report = prepare(replace(study, extra=(run, flat)), tmp_path / "both", space="fsaverage3")
    assert [problem.where for problem in report.failed] == [flat.name]


def test_unchanged_runs_are_reused(study, tmp_path):
    store = tmp_path / "store"
    prepare(study, store)
    before = store_content(store)
    names = [run.name for run in study.runs()]
    again = prepare(study, store)
    assert (again.prepared, again.reused) == ([], names)
    assert store_content(store) == before

    np.save(study.path("01", "bee"), bold(77))
    changed = prepare(study, store)
    assert changed.prepared == ["sub-01_task-bee"]
    assert len(store_content(store)) == len(before), "the array of before is gone"
    opened = open_prepared(store)
    assert opened.verify() == []
    at = np.arange(10) + opened.run("sub-01_task-bee").origin
    expected = np.interp(at, 1.5 * np.arange(90), cleaned(bold(77))[:, 5])
    np.testing.assert_allclose(opened.window("sub-01_task-bee", 0, 10)[:, 5], expected, rtol=1e-3)

    assert prepare(study, store, high_pass=0.01, resume=False).prepared == names
    assert prepare(study, store, high_pass=0.01).reused == names
    assert prepare(study, store, high_pass=0.01, resume=False).prepared == names
    assert prepare(replace(study, repetition_time=2.0), store, high_pass=0.01).prepared == names


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"dtype": "float32"}, "dtype 'float16' where 'float32' is asked for; take the same"),
        ({"space": "fsaverage4"}, "space None where 'fsaverage4' is"),
        (
            {"high_pass": 0.01, "confounds": ["a"]},
            r"high_pass None where 0.01 is asked for, confounds \[\] where \['a'\] is",
        ),
    ],
)
def test_other_settings_do_not_replace_a_store(study, tmp_path, options, told):
    store = tmp_path / "store"
    prepare(study, store)
    before = store_content(store)
    with pytest.raises(InputError, match=f"store was prepared with {told}.* --again"):
        prepare(study, store, **options)
    assert store_content(store) == before


def test_settings_that_prepared_nothing_may_be_changed(study, tmp_path):
    with pytest.raises(InputError, match="no run of tiny could be prepared"):
        prepare(study, tmp_path / "store", confounds=["a"])
    assert len(prepare(study, tmp_path / "store").prepared) == 6


@pytest.mark.parametrize("options", [{"confounds": ["a"], "resume": False}, {}])
def test_a_store_stays_where_nothing_could_be_prepared(study, tmp_path, options):
    """Wrong options, or the files of the study out of reach."""
    store = tmp_path / "store"
    prepare(study, store)
    before = store_content(store)
    if not options:
        study.folder.rename(tmp_path / "away")
    with pytest.raises(InputError, match=r"no run of tiny could .*; the store is as it was before"):
        prepare(study, store, **options)
    assert store_content(store) == before
    assert len(open_prepared(store).runs) == 6


def test_a_store_stays_where_it_is_stopped_before_the_first_run(study, tmp_path, monkeypatch):
    store = tmp_path / "store"
    prepare(study, store)
    before = store_content(store)

    def stop(job):
        raise KeyboardInterrupt

    monkeypatch.setattr("tribrain.studies.prepare.prepare_run", stop)
    with pytest.raises(KeyboardInterrupt):
        prepare(study, store, dtype="float32", resume=False)
    assert store_content(store) == before


def test_a_damaged_or_missing_part_is_worked_out_again(study, tmp_path):
    store = tmp_path / "store"
    prepare(study, store)
    before = store_content(store)
    first, second, third, *_ = open_prepared(store).runs
    first.array.unlink()
    os.truncate(second.array, 1000)
    (store / "runs" / f"{third.array.name.split('.')[0]}.json").write_text("{")
    report = prepare(study, store)
    assert report.prepared == [first.name, second.name, third.name]
    assert store_content(store) == before


def test_what_cannot_be_prepared_is_a_problem_and_the_others_go_on(study, tmp_path):
    cut = study.path("01", "ant")
    cut.write_bytes(cut.read_bytes()[:300])
    study.path("02", "cat").unlink()
    extra = (
        Problem("sub-03", "was never there"),
        one_run(tmp_path, bold(1)[:, :5], "other", space=parcel_space("five", list("abcde"))),
        one_run(tmp_path, np.full((50, 7), np.nan, "f4"), "empty"),
        replace(one_run(tmp_path, bold(1), "rate"), repetition_time=1.0),
        one_run(
            tmp_path, bold(1), "film", shown=(Shown(StimulusFile(tmp_path / "x.mp4"), 0, 9, "x"),)
        ),
    )
    heard = []
    report = prepare(
        replace(study, extra=extra),
        tmp_path / "store",
        said=heard.append,
        progress=lambda *step: heard.append(step),
    )
    told = {problem.where: problem.what for problem in report.failed}
    expected = {
        "sub-03": "never there",
        "sub-01_task-ant": "damaged",
        "sub-02_task-cat": "does not exist",
        "sub-09_task-other": "5 values of five .* 7 values of sevens",
        "sub-09_task-empty": "0 rows are left",
        "sub-09_task-rate": "every 2 s and the study says 1 s",
        "sub-09_task-film": "x.mp4 does not exist",
    }
    assert set(told) == set(expected)
    for where, what in expected.items():
        assert re.search(what, told[where]), (where, told[where])
        assert "\n" not in told[where]
    assert str(report).endswith("4 runs (0 reused), 7 left out")
    opened = open_prepared(tmp_path / "store")
    assert [run.name for run in opened.runs] == report.prepared
    assert len(opened.runs) == 4
    assert set(opened.problems) == set(report.problems)
    assert heard[-1] == ("runs", 10, 10)


def test_a_run_that_left_the_study_is_not_opened(study, tmp_path):
    prepare(study, tmp_path / "store")
    before = store_content(tmp_path / "store")
    for path in (tmp_path / "store" / "runs").iterdir():
        os.utime(path, (1e9, 1e9))
    report = prepare(replace(study, films=("ant",)), tmp_path / "store")
    assert len(report.problems) == 4
    assert not report.failed
    assert len(open_prepared(tmp_path / "store").runs) == 2
    assert len(prepare(study, tmp_path / "store").reused) == 6
    assert store_content(tmp_path / "store") == before


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"dtype": "float64"}, "float16, float32"),
        ({"standardize": None}, "float16 holds z-scores"),
        ({"standardize": "psc"}, "known: 'zscore', None"),
        ({"space": "fsaverage9"}, "mesh 'fsaverage9' is unknown"),
        ({"high_pass": -1.0}, "positive number"),
        ({"workers": 0}, "0 workers"),
        ({"cluster": "moon"}, "cluster 'moon' is unknown"),
    ],
)
def test_wrong_settings(study, tmp_path, options, told):
    with pytest.raises(InputError, match=told):
        prepare(study, tmp_path / "store", **options)


def test_folders_that_are_no_store_of_the_study(study, tmp_path):
    with pytest.raises(InputError, match="holds other things"):
        prepare(study, study.folder)
    prepare(study, tmp_path / "store")

    @dataclass(frozen=True)
    class Other(Tiny):
        name = "other"

    with pytest.raises(InputError, match="holds the study 'tiny'; take another folder for other"):
        prepare(Other(study.folder), tmp_path / "store")
    with pytest.raises(InputError, match="cannot be written"):
        prepare(study, study.path("01", "ant"))
    with pytest.raises(InputError, match="has no run that can be used: sub-1: gone"):
        prepare(Tiny(study.folder, films=(), extra=(Problem("sub-1", "gone"),)), tmp_path / "none")


def test_killed_and_gone_on_with_is_the_same_store(study, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    prepare(replace(study, pause=0.15), whole)
    process = start(study.folder, killed, 0.15)
    wait_for(lambda: len(list(killed.glob("runs/*.json"))) >= 2, process)
    process.kill()
    process.wait()
    with pytest.warns(InputWarning, match="prepared in part: [2-5] of 6 runs; the same command"):
        opened = open_prepared(killed)
    assert opened.verify() == []
    assert not opened.complete
    report = prepare(replace(study, pause=0.15), killed)
    assert len(report.reused) >= 2
    assert len(report.reused) + len(report.prepared) == 6
    assert store_content(killed) == store_content(whole)
    assert open_prepared(killed).complete


def test_two_processes_prepare_the_same_store(study, tmp_path):
    processes = [start(study.folder, tmp_path / "store", 0.05) for _ in range(2)]
    told = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    assert all("0 left out" in text for text in told)
    prepare(replace(study, pause=0.05), tmp_path / "alone")
    assert store_content(tmp_path / "store") == store_content(tmp_path / "alone")


def test_workers_end_when_they_are_left_alone(study, tmp_path):
    psutil = pytest.importorskip("psutil")
    process = start(study.folder, tmp_path / "store", 0.3, workers=2)
    wait_for(lambda: list((tmp_path / "store").glob("runs/*.json")), process)
    children = psutil.Process(process.pid).children()
    process.kill()
    assert len(children) >= 2
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []
    process.communicate()


def start(folder: Path, store: Path, pause: float, workers: int = 1) -> subprocess.Popen:
    command = [sys.executable, prepared_makers.__file__, folder, store, pause, workers]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        text=True,
    )


def wait_for(there, process):
    for _ in range(2000):
        if there():
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    raise TimeoutError


def test_worker_processes_write_the_same(study, tmp_path):
    report = prepare(study, tmp_path / "two", workers=2)
    assert report.prepared == [run.name for run in study.runs()]
    prepare(study, tmp_path / "one")
    assert store_content(tmp_path / "two") == store_content(tmp_path / "one")


class Dies(ArrayBold):
    def load(self):
        os._exit(9)


def test_a_worker_that_dies(study, tmp_path):
    run = one_run(tmp_path, bold(0))
    dying = replace(run, bold=Dies(run.bold.path, SPACE, 2.0))
    with pytest.raises(InputError, match="a worker process ended by itself, for lack of memory"):
        prepare(only(dying, folder=tmp_path), tmp_path / "store", workers=2)


def test_dask_workers_write_the_same(study, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    from tribrain.features import cluster

    @contextmanager
    def client(name):
        assert name == "local:1"
        with distributed.Client(
            processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None
        ) as made:
            yield made

    monkeypatch.setattr(cluster, "dask_client", client)
    study.path("01", "bee").write_bytes(b"no array")
    report = prepare(study, tmp_path / "dask", cluster="local:1")
    assert [problem.where for problem in report.failed] == ["sub-01_task-bee"]
    prepare(study, tmp_path / "one")
    assert store_content(tmp_path / "dask") == store_content(tmp_path / "one")


def test_a_full_disk_stops_with_a_clear_word(study, tmp_path, monkeypatch):
    count = 0

    def save(*arguments, **options):
        nonlocal count
        count += 1
        if count == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        np.lib.format.write_array(arguments[0], arguments[1], allow_pickle=False)

    monkeypatch.setattr(prepare_run.np, "save", save)
    monkeypatch.setattr("tribrain.studies.prepare.keep_source", lambda *_: {"files": []})
    told = "no room is left for .*store; 2 more runs are prepared, and the same command goes on"
    with pytest.raises(InputError, match=told):
        prepare(study, tmp_path / "store")
    monkeypatch.undo()
    assert not list((tmp_path / "store").rglob(".partial*"))
    prepare(study, tmp_path / "store")
    assert len(open_prepared(tmp_path / "store").runs) == 6


def test_leftovers_go_when_they_are_old(study, tmp_path):
    store = tmp_path / "store"
    prepare(study, store)
    before = store_content(store)
    old, young = store / "runs" / ".partial-abc.npy", store / "runs" / ".partial-def.npy"
    orphan = store / "runs" / "sub-99-abcdef.0123456789ab.npy"
    for path in (old, young, orphan):
        path.write_bytes(b"x")
    for path in (old, orphan):
        os.utime(path, (1e9, 1e9))
    prepare(study, store)
    assert (old.exists(), young.exists(), orphan.exists()) == (False, True, False)
    assert store_content(store) == before


def test_stimuli_can_be_opened_from_the_store_also_where_all_was_moved(tmp_path):
    folder = tmp_path / "here"
    (folder / "stimuli").mkdir(parents=True)
    text, words = folder / "stimuli" / "a.txt", folder / "stimuli" / "b.tsv"
    text.write_text("The sea is calm tonight. The tide is full.", encoding="utf-8")
    words.write_text("text\tstart\tduration\nsea\t0.5\t0.3\ncalm\t1.5\t0.5\n", encoding="utf-8")
    sources = (
        StimulusFile(text, {"language": "en", "pace": "reading:200"}),
        Spoken(None, words, read_words),
    )
    shown = tuple(
        Shown(source, 10.0 * k, 5.0, "abc"[k], condition="x") for k, source in enumerate(sources)
    )
    run = one_run(folder, bold(0), shown=shown)
    prepare(only(run, folder=folder), folder / "store")
    shutil.move(folder, tmp_path / "there")
    (run,) = open_prepared(tmp_path / "there" / "store").runs
    for before, after in zip(shown, run.shown, strict=True):
        made = after.source.source()
        assert type(made) is type(before.source)
        assert made.files == tuple(
            tmp_path / "there" / "stimuli" / path.name for path in before.source.files
        )
        assert made.content() == after.source.content()
        assert made.duration() == after.source.duration()
        assert (after.onset, after.group, after.condition) == (before.onset, before.group, "x")
    assert run.shown[0].source.source().options == sources[0].options


def test_fields_of_a_source_are_plain_data_in_between(tmp_path):
    """As of a source with a reader of its own."""
    fields = {
        "read": read_words,
        "part": "x",
        "length": None,
        "at": (1.5, True),
        "path": tmp_path,
    }
    plain = json.loads(json.dumps(_encoded(fields, tmp_path / "store")))
    assert _decoded(plain, tmp_path / "store") == fields
    for function in (lambda path: path, file_checksum):  # no reader of a study
        with pytest.raises(TypeError):
            _encoded({"read": function}, tmp_path)


def test_feature_series_are_in_the_store_once(study, tmp_path):
    prepare(study, tmp_path / "store")
    opened = open_prepared(tmp_path / "store")
    assert len(list((tmp_path / "store" / "features").iterdir())) == 3 * 2
    for run in opened.runs:
        made = run.shown[0].source.source()
        expected = features(run.task)
        assert (made.rate, made.duration()) == (2.0, 100.0)
        assert list(made.series) == sorted(expected.series)
        for name, series in expected.series.items():
            np.testing.assert_array_equal(made.series[name], series)
        assert run.shown[0].source.content() == expected.content()


def test_a_space_of_voxels_is_kept(tmp_path):
    affine = np.diag([2.0, 2, 2, 1])
    where = np.array([[1, 2, 3], [4, 5, 6], [0, 0, 1]])
    voxels = Voxels("MNIColin27", (9, 9, 9), affine, where, np.array(["left", "right", "left"]))
    space = Space("some", 7, 2, 2, voxels)
    prepare(only(one_run(tmp_path, bold(0), space=space), folder=tmp_path), tmp_path / "store")
    assert open_prepared(tmp_path / "store").space == space


def test_rest_is_prepared_on_the_clock_of_its_volumes(tmp_path):
    run = one_run(tmp_path, bold(0), shown=())
    prepare(only(run, folder=tmp_path), tmp_path / "store")
    (run,) = open_prepared(tmp_path / "store").runs
    assert (run.shown, run.origin, run.rows) == ((), 0.0, math.floor(89 * 2) + 1)


def test_the_manifest_says_what_it_is(study, tmp_path):
    prepare(study, tmp_path / "store")
    manifest = json.loads((tmp_path / "store" / "manifest.json").read_text("utf-8"))
    assert manifest["format"] == FORMAT
    assert (manifest["name"], manifest["licence"], manifest["citation"]) == (
        "tiny",
        "CC0",
        "nobody",
    )
    assert manifest["settings"]["detrend"] is True
    assert "no lag" in manifest["clock"]
