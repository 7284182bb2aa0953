"""The mean of people who were shown the same, and rows in closed form, against plain numpy."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from distributed_makers import PARALLEL, encoder_of, torchrun
from distributed_makers import data_of as shared_data
from ensemble_makers import make_recipe, make_study
from loop_makers import LENGTH, Study, make_data, make_encoder
from tribrain.encoder.models import load_model
from tribrain.encoder.network import Encoder
from tribrain.errors import InputError
from tribrain.studies.prepared import PreparedRun, PreparedSource, open_prepared
from tribrain.training import mean_of_people as module
from tribrain.training import run as running
from tribrain.training.data import TrainingData
from tribrain.training.loop import train
from tribrain.training.mean_of_people import MeanData, give_rows
from tribrain.training.run import train_recipe, training_data
from tribrain.training.run_files import recipe_text
from tribrain.training.settings import TrainingSettings, read_recipe
from tribrain.training.state import begun_with
from tribrain.training.validation import correlations

MEAN = "data.mean_of_people=true"


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def data_with(changes=None, people: int = 3, films: int = 3, **options) -> TrainingData:
    """As `make_data`, with people's own units; runs and values changed by `changes`."""
    plain = make_data(people=people, films=films, **options)
    old: Study = plain.studies[0]
    random = np.random.default_rng(1)
    study = Study(old.space)
    sides = {}
    for stretch in plain.stretches:
        scale = random.uniform(0.5, 20, old.space.size)
        values = old.values[stretch.run.name] * scale + random.normal(size=old.space.size) * 50
        run, span = stretch.run, stretch.span
        if changes is not None:
            run, values = changes(run, values)
            span = dataclasses.replace(span, begin=run.shown[0].onset, end=run.shown[-1].end)
        study.runs.append(run)
        study.values[run.name] = values.astype(np.float32)
        sides[span] = stretch.side
    return TrainingData(
        [study], sides, plain.series, plain.subjects, length=LENGTH, step=LENGTH, lag=0.0
    )


def bold(data: TrainingData, film: str) -> list[np.ndarray]:
    study: Study = data.studies[0]
    return [
        study.values[one.run.name].astype(float) for one in data.stretches if one.span.group == film
    ]


def z_scored(values: np.ndarray) -> np.ndarray:
    return (values - np.nanmean(values, axis=0)) / np.nanstd(values, axis=0)


# The mean


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, of what nobody measured
@pytest.mark.parametrize("kept", [2**30, 0])
def test_targets_are_the_mean_of_z_scored_people(kept, monkeypatch):
    def holes(run: PreparedRun, values: np.ndarray) -> tuple[PreparedRun, np.ndarray]:
        number = int(run.subject)
        values[3 : 6 + 4 * number, 2] = np.nan  # rows 3 to 5 are measured in nobody
        values[:, 7] = np.nan if number else values[:, 7]
        if number == 1:
            values[:, 9] = 100.0  # constant: says nothing
        return run, values

    monkeypatch.setattr(module, "_KEPT", kept)
    data = data_with(holes)
    mean = MeanData(data)
    assert (mean._means is None) == (kept == 0)
    stretches = mean.side("train")
    assert [one.span.group for one in stretches] == ["film0", "film1"]
    assert (mean.people, mean.least, mean.most) == (3, 3, 3)
    for stretch in stretches:
        every = np.stack([z_scored(one) for one in bold(data, stretch.span.group)])
        every[1, :, 9] = np.nan
        there = np.isfinite(every)
        expected = np.where(there, every, 0).sum(0) / np.where(there.any(0), there.sum(0), np.nan)
        assert np.isnan(expected[3:6, 2]).all()
        assert np.isfinite(expected[:, 7]).all()
        for first in (0, 7, 30, 34):
            batch = mean.batch([(stretch, first)])
            n = min(LENGTH, 40 - first)
            found = batch.targets[0].numpy()
            np.testing.assert_allclose(found[:n], expected[first : first + n], atol=2e-5)
            assert np.isnan(found[n:]).all()
            assert batch.rows.tolist() == [-1]
            for one in data.stretches:
                if one.span.group == stretch.span.group:
                    own = data.batch([(one, first)]).features
                    assert all(torch.equal(own[name], batch.features[name]) for name in own)


def test_other_sides_stay_those_of_each_person():
    data = data_with()
    mean = MeanData(data)
    plain, found = data.side("validation"), mean.side("validation")
    assert [one.span for one in found] == [one.span for one in plain]
    assert len(found) == 3
    for one, other in zip(plain, found, strict=True):
        own, read = data.batch([(one, 5)]), mean.batch([(other, 5)])
        assert torch.equal(own.targets, read.targets)
        assert read.rows.tolist() == [-1]
    both = MeanData(data, ("train", "validation"))
    assert [len(both.side(side)) for side in ("train", "validation")] == [2, 1]


def shown_from(start: float, onset: float = 0.0):
    def change(run: PreparedRun, values: np.ndarray) -> tuple[PreparedRun, np.ndarray]:
        if run.subject != "1":
            return run, values
        (shown,) = run.shown
        shown = dataclasses.replace(
            shown, start=start, onset=onset, duration=shown.duration - start - onset
        )
        return dataclasses.replace(run, shown=(shown,)), values

    return change


@pytest.mark.parametrize("change", [shown_from(2.0), shown_from(0.0, 2.0)], ids=["start", "onset"])
def test_who_is_shown_other_seconds_stays_apart(change):
    data = data_with(change)
    mean = MeanData(data)
    train_stretches = mean.side("train")
    assert len(train_stretches) == 4
    assert (mean.least, mean.most) == (1, 2)
    (alone,) = [
        one for one in train_stretches if one.span.subject == "1" and one.span.group == "film0"
    ]
    one = next(s for s in data.stretches if s.span == alone.span)
    rows = bold(data, "film0")[1][one.first : one.stop]
    expected = z_scored(rows)[:LENGTH]
    found = mean.batch([(alone, alone.first)]).targets[0].numpy()
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_who_sees_another_film_stays_apart():
    def other(run: PreparedRun, values: np.ndarray) -> tuple[PreparedRun, np.ndarray]:
        (shown,) = run.shown
        if run.subject != "2" or shown.group != "film0":
            return run, values
        source = PreparedSource("film1", 40, {}, Path())
        return dataclasses.replace(run, shown=(dataclasses.replace(shown, source=source),)), values

    mean = MeanData(data_with(other))
    # The content counts, not what it is called: sub-2 saw film1 twice.
    assert sorted(len(one) for one in mean._members.values()) == [2, 4]


def test_a_recording_that_ends_early_counts_as_long_as_it_lasts():
    def shorter(run: PreparedRun, values: np.ndarray) -> tuple[PreparedRun, np.ndarray]:
        if run.subject != "0":
            return run, values
        return dataclasses.replace(run, rows=33), values[:33]

    data = data_with(shorter)
    mean = MeanData(data)
    stretch = mean.side("train")[0]
    assert (stretch.stop, len(mean.side("train"))) == (40, 2)
    first, *others = (z_scored(one) for one in bold(data, "film0"))
    expected = np.mean(others, axis=0)
    expected[:33] = np.mean([first, *(one[:33] for one in others)], axis=0)
    for begin in (0, 28, 35):
        n = min(LENGTH, 40 - begin)
        found = mean.batch([(stretch, begin)]).targets[0, :n].numpy()
        np.testing.assert_allclose(found, expected[begin : begin + n], atol=2e-5)


def test_studies_stay_apart():
    mean = MeanData(shared_data("two spaces"))
    assert [(one.study, one.span.group) for one in mean.side("train")] == [
        (study, f"film{film}") for study in (0, 1) for film in (0, 1, 2)
    ]


def test_a_study_without_a_mean_is_refused():
    with pytest.raises(InputError, match=r"^nobody in made .* data\.mean_of_people=false") as told:
        MeanData(data_with(people=1))
    assert "\n" not in str(told.value)


def test_a_state_knows_the_bold_of_everyone():
    data, settings = data_with(), TrainingSettings()
    encoder = make_encoder(data)

    def begun(data: TrainingData) -> dict:
        mean = MeanData(data)
        return begun_with(encoder, mean, (mean.side("train"), []), settings)

    def other(run: PreparedRun, values: np.ndarray) -> tuple[PreparedRun, np.ndarray]:
        known = f"{run.sha256}, changed" if run.subject == "2" else run.sha256
        return dataclasses.replace(run, sha256=known), values

    assert begun(data) == begun(data_with())
    assert begun(data) != begun(data_with(other))


# Rows in closed form


def solved(encoder: Encoder, data: TrainingData, row: int, sides, penalty: float):
    """Weight and bias by the normal equations, from windows one by one."""
    states, values = [], []
    for one in data.stretches:
        if one.row != row or one.side not in sides:
            continue
        study: Study = data.studies[one.study]
        scored = z_scored(study.values[one.run.name].astype(float)[one.first : one.stop])
        for first in range(one.first, one.stop, LENGTH):
            with torch.no_grad():
                found = encoder.states(data.batch([(one, first)]).features, None)[0]
            n = min(LENGTH, one.stop - first)
            states.append(found[:n].double().numpy())
            values.append(scored[first - one.first :][:n])
    x, y = np.concatenate(states), np.concatenate(values)
    own = next(one for one in data.stretches if one.row == row)
    space = data.space_of(own) if len(data.spaces) > 1 else None
    given = encoder.head.rows[encoder.unseen(space)]
    weight, bias = (part.detach().double().numpy() for part in (given.weight, given.bias))
    rest = y - x @ weight - bias
    centred = x - x.mean(0)
    power = penalty * (centred**2).mean() * np.eye(x.shape[1])
    change = np.linalg.solve(centred.T @ centred + power, centred.T @ (rest - rest.mean(0)))
    return weight + change, bias + rest.mean(0) - x.mean(0) @ change


@pytest.mark.parametrize("sides", [("train",), ("train", "validation")], ids=" and ".join)
@pytest.mark.parametrize("spaces", [1, 2])
def test_rows_are_ridge_towards_that_of_people_never_seen(spaces, sides):
    data = data_with() if spaces == 1 else shared_data("two spaces")
    encoder = encoder_of(data).eval()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    give_rows(encoder, data, sides, 30.0)
    for row in data.subjects.values():
        expected = solved(encoder, data, row, sides, 30.0)
        found = encoder.head.rows[row]
        for one, other in zip((found.weight, found.bias), expected, strict=True):
            np.testing.assert_allclose(one.detach(), other, atol=2e-5)
    own = tuple(f"head.rows.{row}." for row in data.subjects.values())
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, before[key]) != key.startswith(own), key


def test_rows_of_people_predict_them_better_than_the_row_of_all():
    data = make_data(people=4, films=5, noise=1.0)
    mean = MeanData(data)
    encoder = make_encoder(data, dropout=0.0)
    settings = TrainingSettings(epochs=25, batch=4, rate=5e-3, modality_dropout=0.0)
    train(encoder, mean, settings, validate=False)
    give_rows(encoder, data, ("train",), 10.0)
    held = data.side("validation")
    own, group = (correlations(encoder, data, held, unseen=one).mean() for one in (False, True))
    assert own > group + 0.02
    assert group > 0.3


# Runs


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("studies") / "simulated", n_subjects=4, snr=0.7)


def test_a_run_that_is_stopped_anywhere_gives_the_same_model(store, tmp_path, monkeypatch):
    recipe = make_recipe(store, MEAN, "training.epochs=3", "training.refit=true")
    said: list[str] = []
    whole = train_recipe(recipe, tmp_path / "whole", device="cpu", said=said.append)
    assert said[0] == "the mean of 4 people: 4 stretches of time, each of 4 recordings"
    stopped = tmp_path / "stopped"

    def stop(*_):
        raise KeyboardInterrupt

    append = running.append_metrics

    def after_two(out, numbers):
        append(out, numbers)
        if numbers["epoch"] == 2:
            stop()

    for name, instead in (("append_metrics", after_two), ("give_rows", stop)):
        with monkeypatch.context() as patch:
            patch.setattr(running, name, instead)
            with pytest.raises(KeyboardInterrupt):
                train_recipe(recipe, stopped, resume=stopped.exists(), device="cpu")
    assert not (stopped / "model").exists()
    again = train_recipe(recipe, stopped, resume=True, device="cpu")
    file = "model.safetensors"
    assert (again / file).read_bytes() == (whole / file).read_bytes()
    model = load_model(whole, device="cpu", cache=False)
    assert model.subjects == tuple(f"simulated/0{n}" for n in (1, 2, 3, 4))
    rows = model.encoder.head.rows
    assert len({rows[n].weight.detach().numpy().tobytes() for n in range(5)}) == 5


@pytest.mark.filterwarnings("ignore::tribrain.errors.InputWarning")
def test_shared_films_are_learned_better_than_from_everyone(store, tmp_path):
    scores = {}
    # Windows at closer steps, so that the mean has about as many as the three people have.
    for name, changes in (("plain", ()), ("mean", (MEAN, "data.step=5"))):
        recipe = make_recipe(store, 'data.held_out=["04"]', "training.own_penalty=30", *changes)
        folder = train_recipe(recipe, tmp_path / name, device="cpu")
        data = training_data(recipe, [open_prepared(store)])
        encoder = load_model(folder, device="cpu", cache=False).encoder
        scores[name] = (
            correlations(encoder, data, data.side("test")).mean(),
            correlations(encoder, data, data.side("held_out_unseen"), unseen=True).mean(),
        )
    for one, other in zip(scores["mean"], scores["plain"], strict=True):
        assert one > other > 0.03


@pytest.mark.slow
@pytest.mark.parametrize("parallel", PARALLEL)
def test_two_processes_find_the_rows_that_one_does(store, tmp_path, parallel):
    changes = [MEAN, "training.epochs=2", "encoder.dropout=0.0"]
    recipe = make_recipe(store, *changes)
    alone = train_recipe(recipe, tmp_path / "alone", device="cpu")
    mine = tmp_path / "recipe.toml"
    mine.write_text(recipe_text(recipe), "utf-8")
    done = torchrun(
        "-m", "tribrain", "train", str(mine), "--device", "cpu", "--no-cache",
        "--set", f"training.parallel={parallel}", "--out", str(tmp_path / "two"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the mean of 4 people") == 1
    one, two = (
        load_file(place / "model.safetensors") for place in (alone, tmp_path / "two" / "model")
    )
    assert one.keys() == two.keys()
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=0, atol=1e-5)


def test_what_does_not_go_with_it_is_refused(store, tmp_path):
    recipe = make_recipe(store, MEAN, "training.teacher=somewhere")
    with pytest.raises(InputError, match=r"^data\.mean_of_people takes no teacher.*one of them$"):
        train_recipe(recipe, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match=r"training\.own_penalty is -1"):
        read_recipe("debug", ["training.own_penalty=-1"])
