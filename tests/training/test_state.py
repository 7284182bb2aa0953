"""The state file: all comes back, damage is seen, and what cannot be written changes nothing."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from tribrain.errors import InputError
from tribrain.training.state import State, check_same, load_state, save_state

FACTS = {"epochs": [{"epoch": 1, "loss": 0.1 + 0.2, "validation": math.nan}], "step": 3}


def make_state(seed: int = 0) -> State:
    """One whose optimiser has moments, a step, and a parameter that has neither."""
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    optimiser = torch.optim.AdamW(
        [{"params": model[0].parameters(), "weight_decay": 0.5}, {"params": model[1].parameters()}]
    )
    model[0](torch.randn(5, 3)).square().sum().backward()  # the second map gets no gradient
    optimiser.step()
    average = {key: value + 1 for key, value in model.state_dict().items()}
    weights = {"model": model.state_dict(), "average": average}
    return State(weights, optimiser.state_dict(), FACTS)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("state") / "state.safetensors"
    save_state(path, make_state())
    return path


def test_a_state_comes_back_bit_by_bit(written):
    before, after = make_state(), load_state(written)
    assert after.weights.keys() == {"model", "average"}
    for part, weights in before.weights.items():
        assert after.weights[part].keys() == weights.keys()
        for key, value in weights.items():
            assert torch.equal(after.weights[part][key], value)
    assert after.optimiser["param_groups"] == [
        {**group, "betas": list(group["betas"])} for group in before.optimiser["param_groups"]
    ]
    assert after.optimiser["state"].keys() == before.optimiser["state"].keys() == {0, 1}
    for index, moments in before.optimiser["state"].items():
        assert after.optimiser["state"][index].keys() == moments.keys()
        for key, value in moments.items():
            assert torch.equal(after.optimiser["state"][index][key], value)
    assert after.facts["step"] == 3
    assert after.facts["epochs"][0]["loss"] == 0.1 + 0.2
    assert math.isnan(after.facts["epochs"][0]["validation"])


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor(3.5),
        torch.tensor([math.nan, math.inf, -0.0]),
        torch.zeros(0, 4),
        torch.arange(6, dtype=torch.bfloat16).reshape(2, 3).T,
        torch.tensor([True, False]),
    ],
    ids=["scalar", "not finite", "empty", "bfloat16, turned", "bool"],
)
def test_any_tensor_comes_back(tmp_path, value):
    path = tmp_path / "state.safetensors"
    save_state(path, State({"model": {"a.b/c": value}}, {"state": {}, "param_groups": []}, {}))
    found = load_state(path).weights["model"]["a.b/c"]
    assert found.dtype == value.dtype
    assert found.shape == value.shape
    assert torch.equal(found.nan_to_num(7) if found.is_floating_point() else found,
                       value.nan_to_num(7) if value.is_floating_point() else value)  # fmt: skip


def test_numbers_of_an_optimiser_come_back(tmp_path):
    path = tmp_path / "state.safetensors"
    optimiser = {"state": {4: {"step": 7, "mean": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}
    save_state(path, State({"model": {}}, optimiser, {}))
    found = load_state(path)
    assert found.weights == {"model": {}}
    assert found.optimiser["state"][4]["step"] == 7
    assert torch.equal(found.optimiser["state"][4]["mean"], torch.ones(2))


def refused(path: Path) -> str:
    """The message of the error, which is one line that says what to do."""
    with pytest.raises(InputError) as error:
        load_state(path)
    message = str(error.value)
    assert str(path) in message
    assert "delete it to begin anew" in message
    assert message.isprintable()
    return message


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_changed_byte_is_seen(tmp_path_factory, written, data):
    content = bytearray(written.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / "changed.safetensors"
    path.write_bytes(content)
    assert "is damaged" in refused(path)


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 1, exclude_max=True))
def test_any_cut_is_seen(tmp_path_factory, written, share):
    content = written.read_bytes()
    path = tmp_path_factory.getbasetemp() / "cut.safetensors"
    path.write_bytes(content[: int(share * len(content))])
    assert "is damaged" in refused(path)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "state.safetensors"
    save_file({"a": torch.ones(2)}, path)
    assert "its format is None" in refused(path)
    save_file({"a": torch.ones(2)}, path, {"format": "tribrain-training-1"})
    message = refused(path)  # the head was one parameter then
    assert "another version (its format is 'tribrain-training-1'" in message
    path.write_text("a text\nof two lines")
    refused(path)
    path.unlink()
    with pytest.raises(InputError, match="does not exist"):
        load_state(path)


def test_what_a_killed_process_left_is_written_over(tmp_path):
    path = tmp_path / "state.safetensors"
    (tmp_path / ".state.safetensors.partial").write_bytes(b"half of a state")
    save_state(path, make_state())
    assert load_state(path).facts["step"] == 3
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_line_and_keeps_the_state_before(tmp_path):
    resource = pytest.importorskip("resource")  # not on Windows
    path = tmp_path / "state.safetensors"
    save_state(path, make_state())
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(InputError, match="cannot be written") as error:
            save_state(path, make_state(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(error.value).isprintable()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_gone_is_one_line(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        save_state(tmp_path / "gone" / "state.safetensors", make_state())


def test_what_changed_is_named():
    begun = {"training.rate": 0.1, "training.old": 1, "the data": "a"}
    check_same(Path("s"), begun, {"training.rate": 0.1, "the data": "a"})
    with pytest.raises(InputError) as error:
        check_same(Path("s"), begun, {"training.rate": 0.2, "training.new": 2, "the data": "b"})
    assert str(error.value) == (
        "s was begun with other settings (training.rate 0.1, now 0.2, training.new None, now 2, "
        "the data differs); go on with those, or begin anew"
    )


def test_tensors_do_not_hold_on_to_the_file(written, tmp_path):
    """What was read stays when the file is written over in place."""
    path = tmp_path / "state.safetensors"
    path.write_bytes(written.read_bytes())
    found = load_state(path).weights["model"]["0.weight"]
    before = found.numpy().copy()
    with path.open("rb+") as file:
        file.write(bytes(path.stat().st_size))
    np.testing.assert_array_equal(found.numpy(), before)
