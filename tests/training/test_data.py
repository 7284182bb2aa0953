"""Windows are what a plain loop over seconds finds, and hold nothing of another group."""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from training_data_makers import (
    DIMS,
    SPACE,
    TOTAL,
    Content,
    array_run,
    bold_at,
    code,
    coded_run,
    coded_series,
    simulated_data,
    simulated_store,
    study_of,
)
from tribrain.brain.spaces import mesh_space, parcel_space
from tribrain.errors import InputError, InputWarning
from tribrain.studies.groups import spans
from tribrain.studies.prepared import PreparedRun, PreparedStudy
from tribrain.studies.runs import Shown
from tribrain.studies.splits import split
from tribrain.training.data import Batch, TrainingData
from tribrain.training.series import Series, faded, stimulus_series

SERIES = {
    "A": coded_series("A", 2.0),
    "B": coded_series("B", 1.0),
    "C": coded_series("C", 4.0, ("text",)),
    "D": coded_series("D", 0.5, ("audio",)),
}
hundredths = st.integers(0, 4000).map(lambda n: Fraction(n, 100))


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    return simulated_store(tmp_path_factory.mktemp("store"))


def data_of(*runs: PreparedRun, side: str = "train", series=SERIES, lag=5.0, **options):
    sides = {span: side for run in runs for span in spans(run, lag=lag)}
    options = {"length": 20, "step": 20} | options
    return TrainingData([study_of(runs)], sides, series, {"coded/1": 0}, lag=lag, **options)


def one_window(data: TrainingData, stretch, first: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    batch = data.batch([(stretch, first)])
    return {name: part[0].numpy() for name, part in batch.features.items()}, batch.targets[
        0
    ].numpy()


@st.composite
def exact_runs(draw):
    """A run, and what it shows as (content, onset, end, start) in exact seconds."""
    events, now = [], Fraction(draw(st.sampled_from([-1000, 0, 730, 1225])), 100)
    for _ in range(draw(st.integers(1, 5))):
        duration = draw(st.sampled_from([Fraction(2, 5), Fraction(3), Fraction(1301, 100), 25]))
        start = draw(st.just(Fraction(0)) | hundredths)
        events.append((draw(st.sampled_from("ABCD")), now, now + duration, start))
        now += duration + draw(st.sampled_from([Fraction(0), Fraction(37, 100), Fraction(6)]))
    groups = draw(st.sampled_from(["same", "own"]))
    shown = [
        Shown(Content(c), float(on), float(end - on), c if groups == "own" else "g", float(start))
        for c, on, end, start in events
    ]
    return coded_run(shown, rows=draw(st.sampled_from([15, 60, 200]))), events


@settings(max_examples=120, deadline=None)
@given(
    made=exact_runs(),
    frequency=st.sampled_from([1, 2, 4]),
    lag=st.sampled_from([Fraction(0), Fraction(5), Fraction(9, 2)]),
    length=st.sampled_from([7, 20]),
    drawn=st.randoms(use_true_random=False),
)
@pytest.mark.filterwarnings("ignore::tribrain.errors.InputWarning")
def test_a_window_is_what_a_plain_loop_finds(made, frequency, lag, length, drawn):
    run, events = made
    data = data_of(run, frequency=float(frequency), lag=float(lag), length=length)
    assume(data.stretches)
    stretch = drawn.choice(data.stretches)
    first = drawn.randrange(stretch.first, stretch.stop)
    features, targets = one_window(data, stretch, first)
    origin = Fraction(round(run.origin * 100), 100)
    begin, end = (Fraction(round(x * 100), 100) for x in (stretch.span.begin, stretch.span.end))

    for row in range(length):
        expected = np.full(SPACE.size, np.nan)
        second = origin + first + row
        if first + row < run.rows and begin <= second - lag <= end - 1:  # a row is a second
            expected = bold_at(float(second), "1")
        np.testing.assert_allclose(targets[row], expected, rtol=1e-6, err_msg=f"row {row}")

    assert {name: part.shape for name, part in features.items()} == {
        name: (*dims, frequency * length) for name, dims in DIMS.items()
    }
    for k in range(frequency * length):
        second = origin + first - lag + Fraction(k, frequency)
        expected = {name: np.zeros(dims) for name, dims in DIMS.items()}
        for content, onset, until, start in events:
            if max(onset, begin) <= second < min(until, end):
                sample = math.floor((second - onset + start) * Fraction(SERIES[content].rate))
                for name in SERIES[content].values:
                    for layer, dim in np.ndindex(*DIMS[name]):
                        expected[name][layer, dim] = code(content, name, layer, dim, sample)
        for name in DIMS:
            np.testing.assert_array_equal(features[name][..., k], expected[name], f"sample {k}")


@st.composite
def coded_runs(draw):
    """Runs of several people, whose films are cut, trimmed and repeated under several names."""
    runs = []
    for number in range(draw(st.integers(2, 5))):
        shown, now = [], draw(st.sampled_from([0.0, 7.3, 12.0]))
        for _ in range(draw(st.integers(0, 4))):
            content = draw(st.sampled_from("ABCD"))
            duration = draw(st.sampled_from([0.4, 3.0, 20.0, 13.01, 60.0]))
            start = draw(st.sampled_from([0.0, 0.0, 30.0]) | hundredths.map(float))
            group = draw(st.sampled_from([content, content, content + "2", "x"]))
            shown.append(Shown(Content(content), now, duration, group, start))
            now += duration + draw(st.sampled_from([0.0, 0.0, 2.0, 20.0, -0.3]))
        shown.sort(key=lambda one: one.onset)
        person = draw(st.sampled_from("12"))
        runs.append(coded_run(shown, rows=150, subject=person, name=f"r{number}"))
    for content in "EFG":
        shown = (Shown(Content(content), 3.0, 40.0, content),)
        runs.append(coded_run(shown, rows=60, name=content))
    return runs


ALL = SERIES | {name: coded_series(name, 2.0, ("audio",)) for name in "EFG"}


@settings(max_examples=80, deadline=None)
@given(runs=coded_runs(), seed=st.integers(0, 50), random=st.integers(0, 9))
@pytest.mark.filterwarnings("ignore::tribrain.errors.InputWarning")
def test_no_window_touches_what_another_side_is_shown(runs, seed, random):
    """Neither a second of stimulus nor a row of BOLD is in windows of two sides."""
    try:
        sides = split(runs, {"validation": 0.3, "test": 0.3}, seed=seed)
    except InputError:
        assume(False)
    data = TrainingData([study_of(runs)], sides, ALL, {"coded/1": 0}, length=25, step=10)
    codes: dict[str, set] = {}
    rows: dict[str, set] = {}
    for side in set(sides.values()):
        chosen = data.side(side)
        windows = data.drawn(chosen, np.random.default_rng(random)) + data.cover(chosen)
        for stretch, first in windows:
            features, targets = one_window(data, stretch, first)
            seen = np.unique(np.concatenate([part.ravel() for part in features.values()]))
            codes.setdefault(side, set()).update(seen[seen > 0].tolist())
            for row in np.flatnonzero(~np.isnan(targets[:, 0])):
                rows.setdefault(side, set()).add((stretch.run.name, first + int(row)))
    assume("train" in codes)  # in spans that are long enough
    for side in ("validation", "test"):
        assert not codes["train"] & codes.get(side, set()), side
        assert not rows["train"] & rows.get(side, set()), side
    assert not codes.get("validation", set()) & codes.get("test", set())


def test_what_is_outside_the_span_is_zero_and_nan():
    first, second = (Shown(Content(c), on, 20.0, c) for c, on in (("A", 10.0), ("B", 30.0)))
    data = data_of(coded_run([first, second]), length=40)
    a, b = data.stretches
    # The BOLD of A, read 5 s late, ends where B begins: rows 15 to 29, and so do its features.
    assert (a.first, a.stop, b.first, b.stop) == (15, 30, 40, 55)
    features, targets = one_window(data, a, a.first)
    assert features["audio"][0, 0, :30].tolist() == [code("A", "audio", 0, 0, k) for k in range(30)]
    assert not features["audio"][..., 30:].any()
    assert not np.isnan(targets[:15]).any()
    assert np.isnan(targets[15:]).all()


def test_a_store_gives_the_studys_own_features_and_rows(simulated):
    study, store = simulated
    data = simulated_data(store)
    sides = [("film1", "train"), ("film2", "validation"), ("film3", "test")]
    assert [(s.run.subject, s.row, s.span.group, s.side) for s in data.stretches] == [
        (person, row, *side) for person, row in (("01", 0), ("02", -1)) for side in sides
    ]
    assert data.dims == dict.fromkeys(("audio", "text", "video"), (2, 5))
    chosen = [(data.stretches[1], 17 + 3), (data.stretches[3], 17 + 40)]
    batch = data.batch(chosen)
    assert batch.rows.tolist() == [0, -1]
    assert batch.weights.tolist() == [1, 1]
    # Films begin at 12 s and are answered 5 s later: row 20 is second 3 of the film.
    for name, found in batch.features.items():
        film2, film1 = study.features("film2").series[name], study.features("film1").series[name]
        np.testing.assert_array_equal(found[0], film2[..., 6:46])
        np.testing.assert_array_equal(found[1, ..., :16], film1[..., 80:])
        assert not found[1, ..., 16:].any()
    assert batch.targets.dtype == torch.float32
    expected = store.runs[1].read(20, 20)
    assert np.isfinite(expected).all()
    np.testing.assert_array_equal(batch.targets[0], expected)
    np.testing.assert_array_equal(batch.targets[1, :8], store.runs[3].read(57, 8))
    assert torch.isnan(batch.targets[1, 8:]).all()


def test_float16_stores_give_float32(tmp_path):
    from tribrain.studies.prepare import prepare
    from tribrain.studies.prepared import open_prepared
    from tribrain.studies.simulated import Simulated

    study = Simulated(n_subjects=2, films=3, minutes=0.8, space=7, dims=5)
    prepare(study, tmp_path)
    data = simulated_data(open_prepared(tmp_path))
    batch = data.batch([(data.stretches[0], 20)])
    assert batch.targets.dtype == torch.float32
    assert batch.features["text"].dtype == torch.float32


def test_batches_go_to_a_device(simulated):
    data = simulated_data(simulated[1])
    batch = data.batch([(data.stretches[0], 20)]).to("meta")
    assert isinstance(batch, Batch)
    parts = [*batch.features.values(), batch.targets, batch.rows, batch.weights]
    assert {part.device.type for part in parts} == {"meta"}


# Which windows


def long_data(n: int, length: int = 20, step: int = 20) -> TrainingData:
    """One stretch of n rows that begins at row 5."""
    return data_of(
        coded_run([Shown(Content("A"), 0.0, float(n), "A")], rows=600), length=length, step=step
    )


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 130), length=st.integers(1, 40), step=st.integers(1, 60))
def test_every_row_is_covered_once(n, length, step):
    data = long_data(n, length, step)
    (stretch,) = data.stretches
    assert (stretch.first, stretch.stop) == (5, 5 + n)
    rows = Counter()
    for _, first in data.cover(data.stretches):
        _, targets = one_window(data, stretch, first)
        rows.update(first + np.flatnonzero(~np.isnan(targets[:, 0])))
    assert rows == Counter(range(5, 5 + n))


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 130), length=st.integers(1, 40), step=st.integers(1, 60))
def test_windows_are_drawn_within_the_stretch(n, length, step):
    data = long_data(n, length, step)
    (stretch,) = data.stretches
    numbers = set()
    for seed in range(3):
        drawn = data.drawn(data.stretches, np.random.default_rng(seed))
        assert drawn == data.drawn(data.stretches, np.random.default_rng(seed))
        assert all(one is stretch and isinstance(first, int) for one, first in drawn)
        starts = [first for _, first in drawn]
        assert len(set(starts)) == len(starts)
        assert min(starts) >= stretch.first
        assert max(starts) + length <= max(stretch.stop, stretch.first + length)
        numbers.add(len(starts))
    # As many in every epoch, so that steps can be counted beforehand.
    assert numbers == {math.ceil(max(1, n - length + 1) / step)}


@pytest.mark.parametrize(("n", "step"), [(50, 20), (50, 7), (41, 20), (60, 50)])
def test_every_start_and_every_row_has_its_chance(n, step):
    data = long_data(n, 20, step)
    random = np.random.default_rng(0)
    starts = Counter(first for _ in range(3000) for _, first in data.drawn(data.stretches, random))
    assert set(starts) == set(range(5, 5 + n - 19))
    assert min(starts.values()) > 0.4 * max(starts.values())
    assert {first + row for first in starts for row in range(20)} == set(range(5, 5 + n))


def test_stretches_are_drawn_in_any_order():
    runs = [coded_run([Shown(Content("A"), 0.0, 60.0, "A")], rows=70, name=f"r{k}") for k in "ab"]
    data = data_of(*runs)
    orders = {
        tuple(
            stretch.run.name for stretch, _ in data.drawn(data.stretches, np.random.default_rng(k))
        )
        for k in range(30)
    }
    assert len(orders) > 5
    assert {Counter(order)["ra"] for order in orders} == {3}


# Standardised BOLD


def test_each_span_is_standardised_by_its_own_rows():
    values = np.random.default_rng(0).normal(size=(90, 5)).astype("f4") * [1, 2, 30, 400, 5]
    values[:40] += 1000  # film A lies elsewhere than film B
    values[:, 3] = 7.3  # never varies
    values[:, 4] = np.nan  # was never measured
    values[20, 0] = np.nan
    shown = [Shown(Content("A"), 0.0, 40.0, "A"), Shown(Content("B"), 45.0, 40.0, "B")]
    data = data_of(array_run(values, shown), length=25, standardise=True)
    for stretch in data.stretches:
        parts = [one_window(data, *one)[1] for one in data.cover([stretch])]
        rows = np.concatenate(parts)[: stretch.stop - stretch.first]
        own = values[stretch.first : stretch.stop, :3]
        expected = (own - np.nanmean(own, axis=0)) / np.nanstd(own, axis=0)
        np.testing.assert_allclose(rows[:, :3], expected, atol=2e-3)
        np.testing.assert_allclose(np.nanmean(rows[:, :3], axis=0), 0, atol=1e-3)
        np.testing.assert_allclose(np.nanstd(rows[:, :3], axis=0), 1, atol=1e-4)
        assert np.isnan(rows[:, 3:]).all()
    assert np.isnan(one_window(data, data.stretches[0], 20)[1][0, 0])


def test_equal_stretches_are_standardised_alike():
    values = np.random.default_rng(0).normal(50, 3, size=(90, 5))
    data = data_of(
        array_run(values, [Shown(Content("A"), 0.0, 80.0, "A")]), length=25, standardise=True
    )
    (stretch,) = data.stretches
    shorter = replace(stretch, stop=stretch.first + 25)
    whole = one_window(data, stretch, stretch.first)[1]
    own = one_window(data, shorter, stretch.first)[1]
    np.testing.assert_allclose(own.mean(0), 0, atol=1e-5)
    assert np.abs(whole.mean(0)).max() > 1e-3
    np.testing.assert_array_equal(one_window(data, replace(stretch), stretch.first)[1], whole)


# Series of stimuli


class Film(Content):
    """Is opened, and so has to be worked out."""

    def open(self) -> str:
        return f"opened {self.name}"


def test_each_stimulus_is_worked_out_once():
    shown = [Shown(Film(c), 10.0 * k, 10.0, c) for k, c in enumerate("ABA")]
    studies = [study_of([coded_run(shown)]), study_of([coded_run(shown[:1])], "other")]
    asked = []

    def extract(stimulus):
        asked.append(stimulus)
        return SERIES[stimulus[-1]]

    assert stimulus_series(studies, extract) == {"A": SERIES["A"], "B": SERIES["B"]}
    assert asked == ["opened A", "opened B"]


def test_series_of_a_store_are_those_of_the_study(simulated):
    study, store = simulated
    found = stimulus_series([store], extract=None)
    assert len(found) == 3
    for run in store.runs:
        series = found[run.shown[0].source.content()]
        assert series.rate == 2.0
        for name, values in study.features(run.task).series.items():
            np.testing.assert_array_equal(series.values[name], values)


def test_fading_goes_by_dimension():
    series = faded(SERIES["A"], 0.5)
    assert series.rate == 2.0
    for name, values in SERIES["A"].values.items():
        for dim in range(values.shape[1]):
            expected = values[:, dim] / math.sqrt(dim + 1)
            np.testing.assert_allclose(series.values[name][:, dim], expected, rtol=1e-6)
        assert series.values[name].dtype == np.float32
    assert faded(SERIES["A"], 0) is SERIES["A"]


# What cannot be


def film(content="A", seconds=60.0, **options):
    return Shown(Content(content), 0.0, seconds, content, **options)


def test_features_that_are_too_short_are_refused_or_said():
    run = coded_run([film(seconds=60.0, start=10.0)], rows=80)

    def with_features(seconds):
        return data_of(run, series={"A": coded_series("A", 2.0, seconds=seconds)})

    with pytest.raises(InputError, match=r"r \(A\): shown up to second 70, .* last 50 s; they are"):
        with_features(50)
    with pytest.warns(InputWarning, match="features last 65 s: zeros stand for the rest"):
        data = with_features(65)
    features, targets = one_window(data, data.stretches[0], 5 + 50)
    assert features["text"][..., :10].all()
    assert not features["text"][..., 10:].any()
    assert not np.isnan(targets[:10]).any()
    with_features(69)
    with_features(200)


def test_bold_that_is_shorter_than_the_stimulus_ends_the_stretch():
    data = data_of(coded_run([film()], rows=40))
    (stretch,) = data.stretches
    assert (stretch.first, stretch.stop) == (5, 40)
    with pytest.warns(InputWarning, match=r"no BOLD was measured for 1 of the spans, .*: r \(A\)"):
        data = data_of(coded_run([film()], rows=5))
    assert data.stretches == ()


def test_a_window_longer_than_a_run():
    data = data_of(coded_run([film(seconds=12.0)], rows=30), length=100, step=100)
    (stretch,) = data.stretches
    ((_, first),) = data.drawn(data.stretches, np.random.default_rng(0))
    assert first == stretch.first == 5
    assert data.cover(data.stretches) == [(stretch, 5)]
    features, targets = one_window(data, stretch, first)
    assert features["audio"].shape == (1, 2, 200)
    assert targets.shape == (100, 5)
    assert (~np.isnan(targets)).all(1).sum() == 12
    assert features["audio"].any((0, 1)).sum() == 24


def test_a_study_with_one_person():
    data = data_of(coded_run([film()], rows=80))
    batch = data.batch(data.cover(data.stretches))
    assert batch.rows.tolist() == [0, 0, 0]


def test_rows_that_were_not_measured_stay_so():
    values = np.random.default_rng(0).normal(size=(50, 5))
    values[10:13] = np.nan
    data = data_of(array_run(values, [film(seconds=40.0)]))
    _, targets = one_window(data, data.stretches[0], 5)
    assert np.flatnonzero(np.isnan(targets).all(1)).tolist() == [5, 6, 7]
    assert np.isnan(targets).sum() == 3 * 5


def test_what_does_not_fit_is_said_in_a_line():
    run = coded_run([film()], rows=80)
    sides = dict.fromkeys(spans(run), "train")

    def make(studies=None, series=SERIES, parts=sides, **options):
        studies = [study_of([run])] if studies is None else studies
        return TrainingData(studies, parts, series, {"coded/1": 0}, **options)

    def refused(message, **options):
        with pytest.raises(InputError, match=message) as caught:
            make(**options)
        assert "\n" not in str(caught.value)

    refused("no study", studies=[])
    other = study_of([], "other", parcel_space("fives", ["a", "b", "c"]))
    refused(r"two spaces are called fives \(5 and 3 values", studies=[study_of([run]), other])
    same_name = study_of([], "coded", mesh_space("fsaverage3"))
    refused("two studies are called coded", studies=[study_of([run]), same_name])
    refused("data.weights names study 'x'; known: coded", weights={"x": 1.0})
    for weight in (0.0, -1.0, math.inf, math.nan):
        refused(r"data.weights.coded is .*; more than 0", weights={"coded": weight})
    refused("run coded/r, which is not here", studies=[study_of([])])
    refused("has no features", series={"B": SERIES["B"]})
    refused("has no features", series={"A": Series({}, 2.0), "B": SERIES["B"]})
    refused("no stimulus has features", series={}, parts={})
    shape = Series({"audio": np.zeros((1, 9, 200), "f4")}, 2.0)
    refused(r"audio have .* \(1, 2\) and \(1, 9\)", series=SERIES | {"E": shape})
    for options in ({"length": 0}, {"step": 0}, {"frequency": 0.0}, {"frequency": math.nan}):
        refused("fit", **options)
    refused("fit", lag=-1.0)
    assert make().n_samples == 200


def test_a_batch_takes_little_more_than_reading_it(tmp_path):
    """Eight windows of fsaverage5, three modalities as wide as the published ones."""
    rng = np.random.default_rng(0)
    rows, outputs, seconds = 420, 20484, 400
    np.save(tmp_path / "a.npy", rng.normal(size=(rows, outputs)).astype("<f2"))
    series = Series(
        {
            name: rng.normal(size=(2, dim, 2 * seconds)).astype("f4")
            for name, dim in (("text", 3072), ("audio", 1024), ("video", 1408))
        },
        2.0,
    )
    run = PreparedRun(
        "coded", "r", "1", "", "t", "", (Shown(Content("A"), 0.0, 400.0, "A"),), rows, outputs,
        0.0, 1.0, "float16", 0, (), (), Path(tmp_path / "a.npy"), 128, "",
    )  # fmt: skip
    study = PreparedStudy(
        tmp_path, "coded", "", "", "", {}, mesh_space("fsaverage5"), (run,), (), True
    )
    sides = dict.fromkeys(spans(run), "train")
    data = TrainingData([study], sides, {"A": series}, {"coded/1": 0})
    windows = [data.drawn(data.stretches, np.random.default_rng(k))[0] for k in range(8)]

    def read():
        for _, first in windows:
            run.read(first, 100)
            begin = 2 * (first - 5)
            for values in series.values.values():
                np.ascontiguousarray(values[..., begin : begin + 200])

    def seconds_of(call):
        times = []
        for _ in range(3):
            begin = time.process_time()
            call()
            times.append(time.process_time() - begin)
        return min(times)

    plain, batch = seconds_of(read), seconds_of(lambda: data.batch(windows))
    print(f"reading {plain * 1000:.0f} ms, batch {batch * 1000:.0f} ms")
    assert batch < 5 * plain


assert TOTAL * 4 < 2048  # codes of two series never meet


def test_a_batch_says_which_windows_have_which_modality():
    sound = coded_run([Shown(Content("D"), 0.0, 40.0, "d")], name="sound")
    whole = coded_run([Shown(Content("A"), 0.0, 40.0, "a")], name="whole")
    data = data_of(sound, whole)
    chosen = [(stretch, stretch.first) for stretch in data.stretches]
    batch = data.batch(chosen)
    names = [stretch.run.name for stretch, _ in chosen]
    assert batch.present["audio"].tolist() == [True, True]
    assert batch.present["text"].tolist() == [name == "whole" for name in names]
    assert batch.to("cpu").present["text"].equal(batch.present["text"])
    only = [pair for pair in chosen if pair[0].run.name == "whole"]
    assert data.batch(only).present is None
