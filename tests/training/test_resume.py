"""A run that was stopped, killed or interrupted goes on bit by bit as if it had not been."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from loop_makers import EVERYTHING, make_data, make_encoder, same_weights
from tribrain.errors import InputError
from tribrain.training.loop import STATE, train
from tribrain.training.state import load_state


class Stopped(Exception):  # noqa: N818
    pass


def stop_after(epoch: int, error: type[BaseException] = Stopped):
    def report(numbers):
        if numbers["epoch"] == epoch:
            raise error

    return report


def stop(folder: Path, epoch: int, settings=EVERYTHING, error=Stopped, **changes) -> None:
    """Train up to an epoch; its state stays in the folder."""
    data = make_data()
    with pytest.raises(error):
        train(
            make_encoder(data), data, settings, folder=folder, report=stop_after(epoch, error),
            **changes,
        )  # fmt: skip


def go_on(folder: Path, settings=EVERYTHING, data=None, **changes):
    data = data or make_data()
    return train(make_encoder(data, seed=99), data, settings, folder=folder, resume=True, **changes)


def assert_same_states(one: Path, other: Path) -> None:
    """Weights, their running mean, the best ones, moments and course, bit by bit."""
    left, right = load_state(one / STATE), load_state(other / STATE)
    assert left.facts == right.facts
    assert left.weights.keys() == right.weights.keys()
    for part, weights in left.weights.items():
        for key, value in weights.items():
            assert torch.equal(value, right.weights[part][key]), (part, key)
    assert left.optimiser["param_groups"] == right.optimiser["param_groups"]
    assert left.optimiser["state"].keys() == right.optimiser["state"].keys()
    for index, moments in left.optimiser["state"].items():
        for key, value in moments.items():
            assert torch.equal(value, right.optimiser["state"][index][key]), (index, key)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that was never stopped: its folder, model and course."""
    folder = tmp_path_factory.mktemp("whole")
    data = make_data()
    model, course = train(make_encoder(data), data, EVERYTHING, folder=folder)
    assert len(course.epochs) == EVERYTHING.epochs
    return folder, model, course


@pytest.mark.parametrize("epoch", range(1, EVERYTHING.epochs + 1))
def test_a_run_that_was_stopped_after_any_epoch_goes_on_bit_by_bit(whole, tmp_path, epoch):
    stop(tmp_path, epoch)
    torch.rand(epoch)  # random numbers that others draw in between do not matter
    model, course = go_on(tmp_path)
    assert same_weights(model, whole[1])
    assert course == whole[2]
    assert_same_states(tmp_path, whole[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"optimiser": "adam", "schedule": "cosine", "loss": "pearson", "average": 0.0},
        {"expected_subjects": True, "accumulate": 1, "clip": 0.0, "precision": "bf16"},
    ],
    ids=["adam", "expected"],
)
def test_other_settings_go_on_bit_by_bit(tmp_path, changes):
    settings = dataclasses.replace(EVERYTHING, epochs=3, **changes)
    data = make_data()
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    model, _ = train(make_encoder(data), data, settings, folder=tmp_path / "whole")
    stop(tmp_path / "cut", 2, settings)
    assert same_weights(go_on(tmp_path / "cut", settings)[0], model)
    assert_same_states(tmp_path / "cut", tmp_path / "whole")


def validations(monkeypatch, *values: float) -> None:
    """Let epochs have these validations, as long as they last."""
    left = list(values)
    monkeypatch.setattr(
        "tribrain.training.loop.correlations", lambda *_, **__: np.array([left.pop(0)], float)
    )


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_the_best_weights_survive_a_stop(monkeypatch, tmp_path, epoch):
    values = [0.1, 0.5, 0.3, 0.4]
    validations(monkeypatch, *values)
    data = make_data()
    model, course = train(make_encoder(data), data, EVERYTHING)
    assert course.best == 2
    validations(monkeypatch, *values)
    stop(tmp_path, epoch)
    again, course = go_on(tmp_path)
    assert course.best == 2
    assert same_weights(again, model)


def test_a_finished_run_is_given_back_without_training(whole, tmp_path):
    (tmp_path / STATE).write_bytes((whole[0] / STATE).read_bytes())
    model, course = go_on(tmp_path, report=stop_after(1))
    assert same_weights(model, whole[1])
    assert course == whole[2]


def test_patience_that_was_over_stays_over(monkeypatch, tmp_path):
    settings = dataclasses.replace(EVERYTHING, epochs=9, patience=2)
    validations(monkeypatch, 0.1, 0.5, 0.3, 0.4)
    data = make_data()
    model, course = train(make_encoder(data), data, settings, folder=tmp_path)
    assert len(course.epochs) == 4
    again, course = go_on(tmp_path, settings)  # a fifth would find no validation left
    assert len(course.epochs) == 4
    assert same_weights(again, model)


def test_resume_without_a_state_begins(whole, tmp_path):
    data = make_data()
    model, _ = train(make_encoder(data), data, EVERYTHING, folder=tmp_path, resume=True)
    assert same_weights(model, whole[1])


def test_ctrl_c_leaves_the_last_epoch_whole(whole, tmp_path):
    stop(tmp_path, 2, error=KeyboardInterrupt)
    assert [path.name for path in tmp_path.iterdir()] == [STATE]
    assert same_weights(go_on(tmp_path)[0], whole[1])


@pytest.mark.parametrize("place", ["save_file", "fsync"])
def test_ctrl_c_while_saving_leaves_the_epoch_before(monkeypatch, whole, tmp_path, place):
    stop(tmp_path, 1)

    def interrupt(*_):
        raise KeyboardInterrupt

    where = {"save_file": "safetensors.torch.save_file", "fsync": "os.fsync"}[place]
    with monkeypatch.context() as patch:
        patch.setattr(where, interrupt)
        with pytest.raises(KeyboardInterrupt):
            go_on(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [STATE]
    assert len(load_state(tmp_path / STATE).facts["epochs"]) == 1
    assert same_weights(go_on(tmp_path)[0], whole[1])


# --- other settings, other data ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rate": 0.01}, "training.rate 0.003, now 0.01"),
        ({"epochs": 5}, "training.epochs 4, now 5"),
        ({"seed": 1, "batch": 2}, "training.batch 3, now 2, training.seed 0, now 1"),
    ],
)
def test_other_settings_are_refused(whole, changes, told):
    before = (whole[0] / STATE).read_bytes()
    with pytest.raises(InputError, match="was begun with other settings") as error:
        go_on(whole[0], dataclasses.replace(EVERYTHING, **changes))
    assert told in str(error.value)
    assert "\n" not in str(error.value)
    assert (whole[0] / STATE).read_bytes() == before


@pytest.mark.parametrize(
    "changes",
    [{"people": 3}, {"films": 5}, {"seconds": 41}, {"outputs": 21}, {"validation": False}],
)
def test_other_data_are_refused(whole, changes):
    with pytest.raises(InputError, match=r"other settings \(.*differs"):
        go_on(whole[0], data=make_data(**changes))


def test_no_validation_and_other_sides_are_refused(whole):
    with pytest.raises(InputError, match="the data differs"):
        go_on(whole[0], validate=False)
    with pytest.raises(InputError, match="the data differs"):
        go_on(whole[0], validate=False, sides=("train", "validation"))


@pytest.mark.parametrize("changes", [{"hidden": 128}, {"heads": 1}, {"depth": 2}, {"dropout": 0.2}])
def test_another_encoder_is_refused(whole, changes):
    data = make_data()
    with pytest.raises(InputError, match=r"other settings \(the encoder differs\)"):
        train(make_encoder(data, **changes), data, EVERYTHING, folder=whole[0], resume=True)


def test_a_damaged_state_says_what_to_do(whole, tmp_path):
    (tmp_path / STATE).write_bytes((whole[0] / STATE).read_bytes()[:-1])
    with pytest.raises(InputError, match=r"is damaged .* delete it to begin anew"):
        go_on(tmp_path)


# --- killed --------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_run_that_is_killed_again_and_again_ends_bit_by_bit_as_one_that_was_not(tmp_path):
    """In each step of saving in the first or second save that follows, and at random moments."""
    draw = np.random.default_rng()  # other moments each time
    moments = [
        ["writing", 1], ["writing", 2], ["before fsync", 1], ["before replacing", 2],
        ["after replacing", 1], *(["ms", int(ms)] for ms in draw.integers(0, 400, 6)),
    ]  # fmt: skip
    script = f"""
import json, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import torch
torch.set_num_threads(1)
from pathlib import Path
from loop_makers import EVERYTHING, killed, make_data, make_encoder
from tribrain.training.optimisers import make_optimiser
make_optimiser(make_encoder(make_data()), EVERYTHING)  # imports what children need
cut, whole = Path({str(tmp_path / "cut")!r}), Path({str(tmp_path / "whole")!r})
cut.mkdir()
whole.mkdir()
found = [killed(how, number, cut) for how, number in {moments!r}]
print(json.dumps([found, killed("never", 0, cut), killed("never", 0, whole)]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    found, last, plain = json.loads(done.stdout)
    assert found[:5] == [signal.SIGKILL] * 5, done.stderr
    assert set(found[5:]) <= {0, signal.SIGKILL}, done.stderr
    assert (last, plain) == (0, 0), done.stderr
    assert_same_states(tmp_path / "cut", tmp_path / "whole")
    assert [path.name for path in (tmp_path / "cut").iterdir()] == [STATE]
