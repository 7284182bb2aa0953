"""Reading prepared runs: windows, damage."""

from __future__ import annotations

import json
import pickle
import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prepared_makers import SPACE, N, Tiny, features, store_content
from tribrain.brain.spaces import parcel_space
from tribrain.errors import InputError, InputWarning
from tribrain.studies.arrays import ArrayBold
from tribrain.studies.groups import spans
from tribrain.studies.prepare import prepare
from tribrain.studies.prepared import open_prepared, windows
from tribrain.studies.runs import Run, Shown


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    prepare(Tiny(folder / "raw").write(), folder / "store")
    return open_prepared(folder / "store")


@pytest.fixture
def store(tmp_path):
    prepare(Tiny(tmp_path / "raw").write(), tmp_path / "store")
    return tmp_path / "store"


@given(number=st.integers(0, 5), first=st.integers(-200, 200), n=st.integers(0, 250))
def test_a_window_is_a_part_of_the_array_and_nan_outside(opened, number, first, n):
    run = opened.runs[number]
    whole = np.load(run.array).astype("f4")
    assert whole.shape == (run.rows, run.outputs)
    padded = np.full((1000, N), np.nan, "f4")
    padded[400 : 400 + run.rows] = whole
    window = opened.window(run, first, n)
    assert (window.dtype, window.shape) == (np.float32, (n, N))
    np.testing.assert_array_equal(window, padded[400 + first : 400 + first + n])


def test_no_run_is_read_whole(tmp_path):
    values = np.random.default_rng(0).normal(size=(3000, 500)).astype("f4")
    np.save(tmp_path / "a.npy", values)
    space = parcel_space("many", [str(k) for k in range(500)])
    bold = ArrayBold(tmp_path / "a.npy", space, 1.0)
    study = Tiny(tmp_path, films=(), extra=(Run("tiny", "1", "a", bold, 1.0, ()),))
    prepare(study, tmp_path / "store")
    (run,) = open_prepared(tmp_path / "store").runs
    tracemalloc.start()
    run.read(1500, 100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 100 * 500 * 4 <= peak < 2 * 100 * 500 * 4


def test_other_processes_may_be_sent_it(opened):
    sent = pickle.loads(pickle.dumps(opened))
    assert sent == opened
    np.testing.assert_array_equal(
        sent.window(sent.runs[2], 3, 4), opened.window("sub-01_task-cat", 3, 4)
    )


def test_a_run_that_is_not_there(opened):
    with pytest.raises(InputError, match=r"run 'sub-9' is not in .*; there are sub-01_task-ant"):
        opened.run("sub-9")


def film_and_rest(group="a", onset=10.25, duration=60.0):
    return Shown(features(group), onset, duration, group)


def prepared_run(tmp_path, *shown, volumes=300):
    values = np.random.default_rng(1).normal(size=(volumes, N)).astype("f4")
    np.save(tmp_path / "run.npy", values)
    bold = ArrayBold(tmp_path / "run.npy", SPACE, 1.0)
    study = Tiny(tmp_path, films=(), extra=(Run("tiny", "1", "a", bold, 1.0, shown),))
    prepare(study, tmp_path / "store")
    return open_prepared(tmp_path / "store").runs[0]


def test_windows_hold_every_second_of_a_film(tmp_path):
    run = prepared_run(tmp_path, film_and_rest(duration=130.0))
    found = windows(run, length=50)
    # Second t of the film is row 10 + t, its BOLD row 15 + t.
    assert [(one.first, one.n, one.begin) for one in found] == [
        (15, 50, 10.25),
        (65, 50, 60.25),
        (95, 50, 90.25),
    ]
    assert [one.first for one in windows(run, length=50, step=40)] == [15, 55, 95]
    assert [(one.first, one.n) for one in windows(run, length=200)] == [(15, 130)]
    assert [one.first for one in windows(run, length=50, lag=0)] == [10, 60, 90]


def test_windows_keep_to_the_rows_that_there_are(tmp_path):
    early = prepared_run(tmp_path, film_and_rest(onset=-20.0, duration=100.0), volumes=60)
    assert [(one.first, one.n, one.begin) for one in windows(early, length=40)] == [
        (0, 40, -5.0),
        (20, 40, 15.0),
    ]


def test_windows_of_clips_do_not_touch_other_clips(tmp_path):
    clips = [film_and_rest("a", 10.0, 60.0), film_and_rest("b", 90.0, 50.0)]
    run = prepared_run(tmp_path, *clips, film_and_rest("c", 140.0, 40.0))
    found = [(one.group, one.first, one.n) for one in windows(run)]
    # c follows b at once, so that the BOLD of b's last 5 s was measured while c was shown, and
    # that of c's first 5 s still answers b.
    assert found == [("a", 15, 60), ("b", 95, 45), ("c", 150, 35)]
    (span,) = [span for span in spans(run) if span.group == "b"]
    assert [(one.group, one.first, one.n) for one in windows(run, span)] == [("b", 95, 45)]


def test_wrong_windows(opened):
    with pytest.raises(InputError, match="windows of 0 rows every 5; 1 or more fit"):
        windows(opened.runs[0], length=0, step=5)
    (span,) = spans(opened.runs[1])
    with pytest.raises(
        InputError, match="a span of tiny/sub-01_task-bee is not of tiny/sub-01_task-ant"
    ):
        windows(opened.runs[0], span)


def test_verify_finds_a_changed_byte_and_damage_is_made_good(store, tmp_path):
    opened, before = open_prepared(store), store_content(store)
    assert opened.verify() == []
    run, other = opened.runs[1], opened.runs[2]
    film = opened.runs[0].shown[0].source.files[1]
    for path in (run.array, film):
        data = bytearray(path.read_bytes())
        data[-5] ^= 1
        path.write_bytes(data)
    other.array.unlink()
    found = {problem.where for problem in opened.verify()}
    assert {run.name, other.name, film.name} <= found
    # The series of a stimulus have one checksum.
    assert len(found) == 2 + len(opened.runs[0].shown[0].source.files)
    assert {problem.where for problem in opened.verify(remove=True)} == found
    prepare(Tiny(tmp_path / "raw"), store)
    assert store_content(store) == before


def test_an_array_that_was_cut_short_or_is_gone(store):
    opened = open_prepared(store)
    run, other = opened.runs[:2]
    with run.array.open("r+b") as file:
        file.truncate(128 + 50 * N * 2)
    assert np.isfinite(opened.window(run, 0, 50)).all()
    with pytest.raises(InputError, match=r"npy is damaged \(rows 45 to 54 are not there\)"):
        opened.window(run, 45, 10)
    other.array.unlink()
    with pytest.raises(InputError, match=r"npy is damaged .*; prepare the study again"):
        opened.window(other, 0, 10)


def change(path, **changes):
    content = json.loads(path.read_text("utf-8")) | changes
    path.write_text(json.dumps(content), "utf-8")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda store: (store / "manifest.json").unlink(), "is no prepared study"),
        (lambda store: (store / "manifest.json").write_text("{"), "manifest.json is damaged"),
        (lambda store: (store / "manifest.json").write_text("[]"), "no JSON object"),
        (lambda store: (store / "manifest.json").write_text('{"format": 1}'), "no 'runs'"),
        (lambda store: change(store / "manifest.json", format=0), "another version"),
        (lambda store: change(store / "manifest.json", runs=["sub-3"]), "holds no run yet"),
        (lambda store: first_record(store).write_bytes(b"\0\1"), "json is damaged"),
        (lambda store: first_record(store).unlink(), "lacks 1 of its 6 runs"),
        (lambda store: change(first_record(store), shown=[{}]), "is damaged"),
        (lambda store: change(first_record(store), name="sub-7"), "it is of run 'sub-7'"),
        (lambda store: space_file(store).unlink(), "is damaged"),
        (lambda store: space_file(store).write_text("{}"), "is damaged"),
    ],
)
def test_a_damaged_store_is_said_in_one_line(store, damage, told):
    damage(store)
    with pytest.raises(InputError, match=re.escape(told)) as raised:
        open_prepared(store)
    assert "\n" not in str(raised.value)


def first_record(store):
    return min((store / "runs").glob("*.json"))


def space_file(store):
    (path,) = (store / "spaces").iterdir()
    return path


def test_a_store_in_the_middle_of_other_settings_opens_with_what_fits(store):
    manifest = store / "manifest.json"
    content = json.loads(manifest.read_text("utf-8"))
    before = content["settings"]
    change(manifest, settings=before | {"high_pass": 0.01}, complete=False)
    with pytest.raises(InputError, match="holds no run yet; the same command goes on"):
        open_prepared(store)
    change(manifest, settings=before, complete=False, runs=[*content["runs"], "sub-03"])
    with pytest.warns(InputWarning, match="prepared in part: 6 of 7 runs"):
        assert len(open_prepared(store).runs) == 6


@pytest.mark.parametrize(
    "name", ["os:system", "tribrain.studies.prepare:sha256", "", "x", "tribrain.studies.no:A"]
)
def test_nothing_is_imported_from_outside_the_package(store, name):
    source = {"class": name, "fields": {"command": "x"}, "files": ["/a.mp4"]}
    path = first_record(store)
    content = json.loads(path.read_text("utf-8"))
    content["shown"][0]["source"] = source
    change(path, shown=content["shown"])
    with pytest.raises(InputError, match=r"cannot tell how to open /a\.mp4; ask the study itself"):
        open_prepared(store).runs[0].shown[0].source.source()
    path_field = {"function": "os:system"}
    inside = {"class": "tribrain.studies.runs:StimulusFile", "fields": {"path": path_field}}
    content["shown"][0]["source"] = inside
    change(path, shown=content["shown"])
    with pytest.raises(InputError, match="names os:system, which is no function"):
        open_prepared(store).runs[0].shown[0].source.source()


def change_source(store, **changes):
    path = first_record(store)
    content = json.loads(path.read_text("utf-8"))
    content["shown"][0]["source"] |= changes
    change(path, shown=content["shown"])


@pytest.mark.parametrize("name", ["{}", "features/../../{}", "../precious.npy"])
def test_no_file_outside_of_the_store_is_read_or_removed(store, tmp_path, name):
    precious = tmp_path / "precious.npy"
    np.save(precious, np.ones(3))
    before = precious.read_bytes()
    change_source(store, series={"audio": name.format(precious)})
    opened = open_prepared(store)
    (file,) = opened.runs[0].shown[0].source.files
    assert file == store / "features" / "precious.npy"
    assert [problem.where for problem in opened.verify(remove=True)] == ["precious.npy"]
    with pytest.raises(InputError, match=r"features/precious\.npy is damaged"):
        opened.runs[0].shown[0].source.source()
    linked = tmp_path / "linked"
    linked.mkdir()
    precious.rename(linked / "precious.npy")
    (store / "features").rename(tmp_path / "features")
    (store / "features").symlink_to(linked)
    assert len(open_prepared(store).verify(remove=True)) > 1
    assert (linked / "precious.npy").read_bytes() == before


@pytest.mark.parametrize("name", ["/etc/passwd", "..", "", 5, None, "a\0.npy", "precious.txt"])
def test_names_that_are_no_files_of_a_store(store, name):
    change_source(store, series={"audio": name})
    with pytest.raises(InputError, match=r"is damaged \(.* is no name of a \.npy file") as raised:
        open_prepared(store)
    assert "\n" not in str(raised.value)


def test_the_space_of_a_record_is_one_of_the_store(store, tmp_path):
    outside = tmp_path / space_file(store).name
    space_file(store).rename(outside)
    for path in (store / "runs").glob("*.json"):
        change(path, space=str(outside))
    with pytest.raises(InputError, match=r"spaces.* is damaged \(it is not there\)"):
        open_prepared(store)


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": "x"},
        {"rows": -1},
        {"rows": 2.5},
        {"outputs": 5},
        {"dtype": "object"},
        {"dtype": ["float16"]},
        {"origin": "x"},
        {"origin": float("nan")},
        {"repetition_time": 0},
        {"offset": None},
        {"sha256": 7},
        {"subject": ["1"]},
        {"notes": "abc"},
        {"files": [5]},
        {"shown": 5},
        {"shown": [5]},
        {"array": 5},
    ],
)
def test_records_of_wrong_values_are_damaged(store, changes):
    change(first_record(store), **changes)
    with pytest.raises(InputError, match=r"runs.*\.json is damaged \(.*\); prepare") as raised:
        open_prepared(store)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "source",
    [
        5,
        {"files": 5},
        {"files": ["a"], "class": 5},
        {"files": ["a"], "class": "tribrain.studies.runs:StimulusFile", "fields": 5},
        {"series": 5, "rate": 2.0, "file": "a", "check": ""},
        {"series": {"a": "b.npy"}, "rate": "x", "file": "a", "check": ""},
    ],
)
def test_sources_of_wrong_values_are_damaged(store, source):
    path = first_record(store)
    content = json.loads(path.read_text("utf-8"))
    content["shown"][0]["source"] = source
    change(path, shown=content["shown"])
    with pytest.raises(InputError, match=r"runs.*\.json is damaged \("):
        open_prepared(store)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"height": 5},
        {"path": {"x": 5}},
        {"path": {"path": 5, "beside": None}},
        {"path": {"path": "/no", "beside": 5}},
        {"path": {"function": 5}},
        {"path": {"mapping": 5}},
    ],
)
def test_fields_that_do_not_fit_a_source(store, fields):
    path = first_record(store)
    content = json.loads(path.read_text("utf-8"))
    told = {"files": ["a"], "class": "tribrain.studies.runs:StimulusFile", "fields": fields}
    content["shown"][0]["source"] = told
    change(path, shown=content["shown"])
    with pytest.raises(InputError, match=r"how to open a is damaged \(.*prepare the study again"):
        open_prepared(store).runs[0].shown[0].source.source()


@pytest.mark.parametrize(
    "name",
    [
        "tribrain.studies.prepared_files:read_json",
        "tribrain.studies.bids_events:read_events",
        "tribrain.studies.alice:folds",
        "tribrain.studies.alice:read_transcript",
    ],
)
def test_only_the_readers_of_studies_are_called(store, name):
    path = first_record(store)
    content = json.loads(path.read_text("utf-8"))
    fields = {"medium": None, "words": "/etc/hostname", "read": {"function": name}}
    told = {"files": ["a"], "class": "tribrain.studies.spoken:Spoken", "fields": fields}
    content["shown"][0]["source"] = told
    change(path, shown=content["shown"])
    with pytest.raises(InputError, match=f"names {name}, which is no function read_"):
        open_prepared(store).runs[0].shown[0].source.source()
