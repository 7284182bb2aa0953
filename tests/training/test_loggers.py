"""Metrics to TensorBoard and W&B, with stand-ins for their packages."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import pytest

from tribrain.errors import InputError
from tribrain.training.loggers import opened_loggers

EPOCHS = [
    {"epoch": 1, "loss": 0.5, "rate": 1e-3, "validation": float("nan")},
    {"epoch": 2, "loss": 0.25, "rate": 1e-4, "validation": 0.125},
]
SETTINGS = {"training": {"epochs": 2}, "data": {"studies": ("a",)}}


class FakeRun:
    def __init__(self):
        self.rows, self.code = [], None

    def log(self, values, step):
        self.rows.append((step, dict(values)))

    def finish(self, exit_code):
        self.code = exit_code


@pytest.fixture
def wandb(monkeypatch):
    """A module that keeps what it is told, as the real one does without a network."""
    module = ModuleType("wandb")
    module.calls, module.runs = [], []

    def init(**how):
        module.calls.append(how)
        module.runs.append(FakeRun())
        return module.runs[-1]

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setenv("WANDB_MODE", "offline")
    return module


@pytest.fixture
def writers(monkeypatch):
    made = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            self.folder, self.purge_step = folder, purge_step
            self.scalars, self.texts, self.flushed, self.closed = [], [], 0, False
            made.append(self)

        def add_scalar(self, name, value, step):
            self.scalars.append((name, value, step))

        def add_text(self, name, text, step):
            self.texts.append((name, text))

        def flush(self):
            self.flushed += 1

        def close(self):
            self.closed = True

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setitem(sys.modules, "tensorboard", ModuleType("tensorboard"))
    return made


def test_wandb_gets_every_epoch_and_goes_on_with_the_same_run(wandb, tmp_path):
    for epochs in (EPOCHS[:1], EPOCHS[1:]):
        with opened_loggers(["wandb"], tmp_path, SETTINGS) as log:
            for numbers in epochs:
                log(numbers)
    assert wandb.runs[0].rows == [(1, {"loss": 0.5, "rate": 1e-3})]
    assert wandb.runs[1].rows == [(2, {"loss": 0.25, "rate": 1e-4, "validation": 0.125})]
    first, second = wandb.calls
    assert first["id"] == second["id"]
    assert first["resume"] == "allow"
    assert first["dir"] == str(tmp_path)
    assert first["config"] == SETTINGS
    assert [run.code for run in wandb.runs] == [0, 0]


def test_a_training_that_fails_is_told_as_failed(wandb, tmp_path):
    def train():
        with opened_loggers(["wandb"], tmp_path, SETTINGS) as log:
            log(EPOCHS[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    assert wandb.runs[0].code == 1
    assert len(wandb.runs[0].rows) == 1


def test_tensorboard_replaces_epochs_that_are_done_again(writers, tmp_path):
    with opened_loggers(["tensorboard"], tmp_path, SETTINGS) as log:
        for numbers in EPOCHS:
            log(numbers)
    with opened_loggers(["tensorboard"], tmp_path, SETTINGS) as log:
        log(EPOCHS[1])
    first, second = writers
    assert first.folder == str(tmp_path / "tensorboard")
    assert (first.purge_step, second.purge_step) == (1, 2)
    assert ("validation", 0.125, 2) in first.scalars
    assert not [one for one in first.scalars if one[0] == "epoch" or one[1] != one[1]]
    assert "training.epochs = 2" in first.texts[0][1]
    assert first.flushed == 2
    assert first.closed
    assert second.closed


def test_both_at_once(wandb, writers, tmp_path):
    with opened_loggers(["tensorboard", "wandb"], tmp_path, SETTINGS) as log:
        log(EPOCHS[1])
    assert len(wandb.runs[0].rows) == 1
    assert len(writers[0].scalars) == 3


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_package_that_is_not_there_is_named_with_what_brings_it(name, tmp_path, monkeypatch):
    missing = {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb"}[name]
    monkeypatch.setitem(sys.modules, missing, None)
    with (
        pytest.raises(InputError, match=rf"pip install 'tribrain\[{name}\]'"),
        opened_loggers([name], tmp_path, SETTINGS),
    ):
        pass


def test_unknown_loggers_are_refused_and_none_is_fine(tmp_path):
    with (
        pytest.raises(InputError, match="'mlflow' is unknown; known: tensorboard, wandb"),
        opened_loggers(["mlflow"], tmp_path, SETTINGS),
    ):
        pass
    with opened_loggers([], tmp_path, SETTINGS) as log:
        log(EPOCHS[0])
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed"
)
def test_real_event_files_hold_the_metrics(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with opened_loggers(["tensorboard"], tmp_path, SETTINGS) as log:
        for numbers in EPOCHS:
            log(numbers)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(one.step, one.value) for one in events.Scalars("loss")] == [(1, 0.5), (2, 0.25)]


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
def test_real_offline_run_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with opened_loggers(["wandb"], tmp_path, SETTINGS) as log:
        for numbers in EPOCHS:
            log(numbers)
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
