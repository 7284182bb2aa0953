"""Two processes compute what one does, and end together."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from distributed_makers import CASES, PARALLEL, WINDOWS, data_of, encoder_of, torchrun, train_case
from tribrain.encoder.network import SubjectHead
from tribrain.errors import InputError
from tribrain.studies.prepare import prepare
from tribrain.studies.simulated import Simulated
from tribrain.training import torchrun as starting
from tribrain.training.distributed import ALONE, Processes
from tribrain.training.dropping import drop_modalities, drop_samples
from tribrain.training.loop import STATE
from tribrain.training.losses import LOSSES, masked
from tribrain.training.run import train_recipe
from tribrain.training.settings import TrainingSettings, read_recipe
from tribrain.training.state import load_state, save_state
from tribrain.training.torchrun import VARIABLES, joined

SCRIPT = str(Path(__file__).with_name("distributed_makers.py"))
pytestmark = [
    pytest.mark.filterwarnings("ignore::tribrain.errors.InputWarning"),
    pytest.mark.skipif(not dist.is_gloo_available(), reason="this torch has no gloo"),
]
in_both_ways = pytest.mark.parametrize("parallel", PARALLEL)
in_all_cases = pytest.mark.parametrize("case", CASES)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process finds, by case: folder, model, course."""
    found = {}
    for case in CASES:
        folder = tmp_path_factory.mktemp("alone")
        if case == "an earlier best":
            state_with_an_earlier_best(found["everything"][0], folder)
        found[case] = (folder, *train_case(case, folder))
    return found


def state_with_an_earlier_best(trained: Path, folder: Path) -> None:
    """As if the first of two epochs had been better than all that follow."""
    state = load_state(trained / "2.safetensors")
    state.facts["epochs"][0]["validation"] = 0.9
    best = {key: torch.full_like(value, 0.5) for key, value in state.weights["model"].items()}
    save_state(folder / STATE, dataclasses.replace(state, weights={**state.weights, "best": best}))


@pytest.fixture(scope="module")
def shared(tmp_path_factory, alone):
    """Folder of what two processes find; "everything" goes on from the first epoch of one."""
    folder = tmp_path_factory.mktemp("shared")
    for parallel in PARALLEL:
        place = folder / parallel / "everything"
        place.mkdir(parents=True)
        shutil.copy(alone["everything"][0] / "1.safetensors", place / STATE)
        place = folder / parallel / "an earlier best"
        place.mkdir()
        state_with_an_earlier_best(alone["everything"][0], place)
    done = torchrun(SCRIPT, "cases", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


@in_all_cases
@in_both_ways
def test_two_processes_find_what_one_does(alone, shared, parallel, case):
    _, model, course = alone[case]
    half = CASES[case].precision == "bf16"
    expected = model.state_dict()
    weights, epochs = torch.load(shared / parallel / case / "process0.pt")
    assert len(epochs) == len(course.epochs)
    for one, other in zip(course.epochs, epochs, strict=True):
        assert other == pytest.approx(one, abs=5e-3 if half else 1e-5)
    assert weights.keys() == expected.keys()
    for key, value in weights.items():
        assert type(value) is torch.Tensor
        torch.testing.assert_close(value, expected[key], rtol=0, atol=2e-2 if half else 5e-5)


def test_the_best_weights_of_a_state_are_given_back(alone):
    weights = alone["an earlier best"][1].state_dict()
    assert all(bool((value == 0.5).all()) for value in weights.values())


@in_all_cases
@in_both_ways
def test_all_processes_have_the_same_bit_by_bit(shared, parallel, case):
    (one, epochs), (other, others) = (
        torch.load(shared / parallel / case / f"process{rank}.pt") for rank in (0, 1)
    )
    assert epochs == others
    assert all(torch.equal(value, other[key]) for key, value in one.items())


@in_both_ways
@pytest.mark.parametrize("case", ["everything", "two spaces"])
def test_one_process_goes_on_from_two(alone, shared, tmp_path, parallel, case):
    """And two went on from one, in "everything"."""
    last = CASES[case].epochs - 1
    shutil.copy(shared / parallel / case / f"{last}.safetensors", tmp_path / STATE)
    model, course = train_case(case, tmp_path)
    assert len(course.epochs) == last + 1
    for key, value in alone[case][1].state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value, rtol=0, atol=5e-5)


@in_both_ways
def test_states_hold_moments_of_the_rows_that_were_used(alone, shared, parallel):
    """The third person's row was in no step: it has none, and is as it was."""
    expected, found = (
        load_state(folder / STATE)
        for folder in (alone["everything"][0], shared / parallel / "everything")
    )
    assert found.facts["begun"] == expected.facts["begun"]  # nothing of how the work is shared
    assert found.optimiser["param_groups"] == expected.optimiser["param_groups"]
    assert found.optimiser["state"].keys() == expected.optimiser["state"].keys()
    for number, moments in expected.optimiser["state"].items():
        for key, value in moments.items():
            torch.testing.assert_close(
                found.optimiser["state"][number][key], value, rtol=1e-3, atol=1e-6
            )
    encoder = encoder_of(data_of("everything"))
    n_weights = len(list(encoder.parameters()))
    assert len(expected.optimiser["state"]) == n_weights - 2
    begun = encoder.head.rows[2]
    assert torch.equal(found.weights["model"]["head.rows.2.weight"], begun.weight)


# --- the command line ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared") / "simulated"
    prepare(Simulated(n_subjects=2, films=8, minutes=0.5, space=12, snr=2.0), folder)
    return folder


CHANGES = ("encoder.rank=16", "data.length=20", "data.step=20", "training.batch=4")


def arguments(store: Path, out: Path, *changes: str) -> list[str]:
    told = [part for change in (*CHANGES, *changes) for part in ("--set", change)]
    return ["train", "debug", "--study", str(store), "--out", str(out), "--device", "cpu", *told]


def test_torchrun_trains_and_refits_the_model_of_one_process(store, tmp_path):
    out = tmp_path / "run"
    refit = ("training.refit=true", "training.patience=1")
    given = arguments(store, out, *refit, "training.parallel=fsdp")
    done = torchrun("-m", "tribrain", *given)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line]
    assert [line.split(":")[0] for line in lines[:2]] == ["epoch 1 of 2", "epoch 2 of 2"]
    assert len(lines) == 4  # one process speaks: and of the refit, and of where it is written
    told = [f"data.studies={[str(store)]}", *CHANGES, *refit]
    folder = train_recipe(read_recipe("debug", told), tmp_path / "alone", device="cpu").parent
    found, expected = (
        [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
        for place in (out, folder)
    )
    assert found == [pytest.approx(one, abs=1e-5) for one in expected]
    assert {path.name for path in out.iterdir()} == {path.name for path in folder.iterdir()}
    one, other = (_weights(place / "model") for place in (out, folder))
    assert one.keys() == other.keys()
    for key, value in one.items():
        torch.testing.assert_close(value, other[key], rtol=0, atol=1e-5)


def _weights(model: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(model / "model.safetensors")


@pytest.mark.parametrize(
    ("how", "rank", "told"),
    [
        ("refuses", "1", r"a file of BOLD cannot be read"),
        pytest.param("killed", "1", r"process 0 of 2 lost another one", marks=pytest.mark.slow),
        pytest.param("hangs", "0", r"process 1 of 2 lost another one", marks=pytest.mark.slow),
    ],
    ids=["refuses", "killed", "hangs"],
)
def test_when_one_process_fails_all_end_with_one_line(store, tmp_path, how, rank, told):
    begun = time.monotonic()
    done = torchrun(SCRIPT, how, rank, *arguments(store, tmp_path / "run"), timeout=200)
    assert done.returncode != 0
    assert time.monotonic() - begun < 150
    lines = re.findall(r"tribrain: .*", done.stderr)
    assert len(lines) == 1, done.stderr
    assert re.search(told, lines[0])
    assert not (tmp_path / "run" / "model").exists()


# --- what is refused -----------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch):
    """Two processes, as this one is told; a store of its own."""
    told = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    for key, value in (told | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}).items():
        monkeypatch.setenv(key, value)
    kept = dist.HashStore()
    monkeypatch.setattr(starting, "_store", lambda: kept)
    return monkeypatch


def join(device: str = "cpu", **changes):
    with joined(TrainingSettings(**changes), device) as processes:
        return processes


def test_without_torchrun_there_is_one_process(monkeypatch):
    for key in VARIABLES:
        monkeypatch.delenv(key, raising=False)
    assert join(parallel="fsdp") == Processes(device="cpu")
    assert not dist.is_initialized()


@pytest.mark.parametrize("name", VARIABLES)
def test_missing_variables_are_named(started, name):
    started.delenv(name)
    with pytest.raises(InputError, match=rf"are missing: {name}; start them with torchrun"):
        join()


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"RANK": "first"}, "whole numbers fit"),
        ({"RANK": "2"}, "RANK 2 of WORLD_SIZE 2: 0 to 1 fit"),
        ({"WORLD_SIZE": "-1"}, "whole numbers fit"),
    ],
    ids=["text", "rank", "size"],
)
def test_variables_that_make_no_sense_are_refused(started, variables, told):
    for key, value in variables.items():
        started.setenv(key, value)
    with pytest.raises(InputError, match=told):
        join()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"batch": 1}, "training.batch is 1 and 2 processes .* a batch of 2, fit"),
        ({"compile": True, "parallel": "fsdp"}, 'compile does not go with parallel = "fsdp"'),
        ({"device": "cuda:1"}, "device 'cuda:1' is unknown; known: auto"),
    ],
    ids=["batch", "compile", "device"],
)
def test_settings_that_do_not_fit_are_said_by_the_first_that_fails(started, changes, told):
    with pytest.raises(InputError, match=told):
        join(**changes)
    with pytest.raises(SystemExit) as ended:
        join(**changes)
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (InputError("/data/igloo/bold.nii.gz is damaged"), "^/data/igloo/bold.nii.gz is damaged$"),
        (RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed"), "lost another one"),
    ],
    ids=["a path", "gloo"],
)
def test_another_process_is_blamed_for_what_gloo_says_alone(started, error, told):
    started.setattr(dist, "init_process_group", lambda *_, **__: None)
    with pytest.raises(InputError, match=told), joined(TrainingSettings(), "cpu"):
        raise error


def test_more_processes_than_gpus_are_refused(started):
    started.setattr("torch.cuda.is_available", lambda: True)
    started.setattr("torch.cuda.device_count", lambda: 1)
    started.setenv("LOCAL_RANK", "1")
    with pytest.raises(InputError, match="this machine has 1; --nproc-per-node 1, or --device cpu"):
        join("cuda")


def test_apples_gpu_serves_one_process(started):
    started.setattr("torch.backends.mps.is_available", lambda: True)
    with pytest.raises(InputError, match="device mps serves one process"):
        join("mps")


@pytest.mark.parametrize("option", [["--seeds", "0,1"], ["--scale", "hours=1,2"]], ids=" ".join)
def test_several_runs_are_not_started_by_torchrun(started, option):
    from typer.testing import CliRunner

    from tribrain.cli import app

    done = CliRunner().invoke(app, ["train", "debug", *option])
    assert isinstance(done.exception, InputError)
    assert "torchrun starts one" in str(done.exception)


# --- shares --------------------------------------------------------------------------------------


def test_cases_have_the_windows_that_they_are_made_for():
    data = data_of("one window in the last batch")
    drawn = data.drawn(data.side("train"), np.random.default_rng(0))
    assert len(drawn) == WINDOWS


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_shares_hold_every_window_once_and_no_process_reads_none(size):
    data = data_of("everything")
    windows = data.cover(data.side("train"))[:5]
    found = []
    for rank in range(size):
        share = Processes(rank, size).share(windows)
        assert share.rows.tolist() == [stretch.row for stretch, _ in windows]
        assert share.windows == windows[share.where]
        batch = share.read(data)
        assert len(batch.targets) >= 1
        assert bool(batch.targets.isnan().all()) == share.idle
        found += [] if share.idle else share.windows
    assert found == windows


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_of_shares_add_up_to_that_of_the_batch(loss):
    torch.manual_seed(0)
    predicted, measured = torch.randn(2, 5, 9, 4)
    measured[:2, :, 1] = torch.nan
    measured[3, 4:] = torch.nan
    weights = torch.rand(5)
    counts = []
    masked(loss, predicted, measured, weights, lambda n: counts.append(n) or n)
    parts = [
        masked(loss, predicted[one], measured[one], weights[one], lambda _: counts[0])
        for one in (slice(0, 1), slice(1, 4), slice(4, 5))
    ]
    expected = masked(loss, predicted, measured, weights)
    torch.testing.assert_close(sum(parts), expected)


def test_what_is_dropped_of_a_window_is_the_same_whoever_reads_it():
    data = data_of("everything")
    windows = data.cover(data.side("train"))[:5]
    for rank in range(2):
        drops = []
        for processes in (ALONE, Processes(rank, 2)):
            share = processes.share(windows, torch.Generator().manual_seed(3))
            batch = share.read(data)
            kept = drop_modalities(batch.features, 0.5, batch.present, share.rand)
            features = drop_samples(batch.features, 0.5, share.rand)
            drops.append(torch.stack([*kept.values()]))
            drops.append(features["sound"].abs().amax((1, 2)) > 0)
        where = Processes(rank, 2).share(windows).where
        assert torch.equal(drops[0][:, where], drops[2])
        assert torch.equal(drops[1][where], drops[3])


def test_rows_that_are_used_for_no_window_have_a_gradient_of_zero():
    head = SubjectHead([6, 6, 6], 4)
    x = torch.randn(2, 3, 4, requires_grad=True)
    rows = torch.tensor([2, 2])
    found = head(x, rows, torch.tensor([0, 2]))
    torch.testing.assert_close(found, head(x, rows))
    found.sum().backward()
    assert not head.rows[0].weight.grad.any()
    assert head.rows[1].weight.grad is None
    assert head.rows[2].weight.grad.any()
