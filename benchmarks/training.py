"""A training step at full width against a plain one: time and memory of head, optimiser, encoder.

The work is that of the recipe `tribev2`: windows of 100 s at 2 Hz, hidden width 1152, 8 blocks,
rank 2048, 20,484 outputs, a row of the head for each person and one for people never seen, AdamW
with clipping. People of a batch are drawn as in training, a tenth of the windows are read by the
row of people never seen.

plain   weights of the head gathered once a window, mapped at 2 Hz and averaged over time after
        it, one dense gradient, all rows in every step (torch's fused AdamW)
ours    `tribrain.encoder.network`: averaged before the head, windows of a person share its row,
        rows that do not occur have no gradient and take no step (the same fused AdamW)

Both give the same loss and gradients (checked here in a small size). Each runs in a process of its
own; memory is the peak of that process in the steps after every person has occurred, less what it
held before the network was made; on a GPU, what torch had allocated at most.

Usage: python benchmarks/training.py [--device cuda] [--people 6] [--batch 8] [--steps 4]
       [--precision bf16] [--outputs 20484] [--parts head whole]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tribrain.encoder.network import Encoder, SubjectHead

FEATURES = {"text": (2, 3072), "audio": (2, 1024), "video": (2, 1408)}
HIDDEN, DEPTH, RANK, SECONDS, FREQUENCY = 1152, 8, 2048, 100, 2
HOURS = 451.6  # of BOLD in the recipe, and its epochs and batch
EPOCHS, BATCH = 15, 16
UNSEEN = 0.1


class PlainHead(nn.Module):
    """Low-rank map, gathered rows, average over time last."""

    def __init__(self, rows: int, hidden: int, rank: int, n_outputs: int, seconds: int) -> None:
        super().__init__()
        self.low_rank = nn.Linear(hidden, rank, bias=False)
        self.weight = nn.Parameter(torch.randn(rows, rank, n_outputs) * rank**-0.5)
        self.bias = nn.Parameter(torch.zeros(rows, n_outputs))
        self.seconds = seconds

    def forward(self, x: Tensor, rows: Tensor) -> Tensor:  # (B, T, H), (B,) -> (B, O, V)
        found = torch.bmm(self.low_rank(x), self.weight[rows]) + self.bias[rows][:, None]
        return functional.adaptive_avg_pool1d(found.transpose(1, 2), self.seconds).transpose(1, 2)


class OwnHead(nn.Module):
    """What `Encoder.states` and `Encoder.read` do after the transformer."""

    def __init__(self, rows: int, hidden: int, rank: int, n_outputs: int, seconds: int) -> None:
        super().__init__()
        self.low_rank = nn.Linear(hidden, rank, bias=False)
        self.head = SubjectHead([n_outputs] * rows, rank)
        self.seconds = seconds

    def forward(self, x: Tensor, rows: Tensor) -> Tensor:
        x = functional.adaptive_avg_pool1d(x.transpose(1, 2), self.seconds)
        return self.head(self.low_rank(x.transpose(1, 2)), rows)


class Whole(nn.Module):
    """Encoder and head; the plain one reads what the same encoder fused."""

    def __init__(self, kind: str, rows: int, n_outputs: int) -> None:
        super().__init__()
        self.encoder = Encoder(
            feature_dims=FEATURES,
            n_outputs=n_outputs if kind == "ours" else 1,
            n_output_samples=SECONDS,
            n_subjects=rows if kind == "ours" else 1,
            hidden=HIDDEN,
            depth=DEPTH,
            rank=RANK if kind == "ours" else None,
            max_samples=SECONDS * FREQUENCY,
        )
        self.plain = PlainHead(rows, HIDDEN, RANK, n_outputs, SECONDS) if kind == "plain" else None
        if self.plain is not None:
            self.encoder.head.requires_grad_(False)

    def forward(self, features: dict[str, Tensor], rows: Tensor) -> Tensor:
        if self.plain is None:
            return self.encoder(features, rows)
        return self.plain(self.encoder.encode(self.encoder.fuse(features)), rows)


def batches(people: int, batch: int, steps: int) -> Iterator[Tensor]:
    """Rows of the windows of each step; the first steps hold everyone."""
    random = np.random.default_rng(0)
    everyone = np.arange(people + 1)
    for first in range(0, people + 1, batch):
        rows = everyone[first : first + batch]
        yield torch.from_numpy(np.resize(rows, batch))
    for _ in range(steps):
        rows = random.integers(people, size=batch)
        rows[random.random(batch) < UNSEEN] = people
        yield torch.from_numpy(rows)


def same_numbers() -> None:
    """Both heads have one loss and one gradient."""
    torch.manual_seed(0)
    sizes = (4, 32, 16, 30, 10)
    own, plain = OwnHead(*sizes).double(), PlainHead(*sizes).double()
    plain.low_rank.load_state_dict(own.low_rank.state_dict())
    rows_of = own.head.rows
    with torch.no_grad():
        plain.weight.copy_(torch.stack([row.weight for row in rows_of]))
        plain.bias.copy_(torch.stack([row.bias for row in rows_of]))
    x, target = torch.randn(5, 20, 32).double(), torch.randn(5, 10, 30).double()
    rows = torch.tensor([0, 2, 2, 3, 0])
    for head in (own, plain):
        functional.mse_loss(head(x, rows), target).backward()
    for number, row in enumerate(rows_of):
        found = row.weight.grad if row.weight.grad is not None else torch.zeros_like(row.weight)
        torch.testing.assert_close(found, plain.weight.grad[number])
    torch.testing.assert_close(own.low_rank.weight.grad, plain.low_rank.weight.grad)


class Memory:
    """Peak memory of this process, or of its GPU, above what was there at first."""

    def __init__(self, device: str) -> None:
        self.cuda = device.startswith("cuda")
        self.peak = 0
        self.first = self._now()
        self._stopped = threading.Event()

    def _now(self) -> int:
        if self.cuda:
            return torch.cuda.memory_allocated()
        pages = Path("/proc/self/statm").read_text("utf-8").split()[1]
        return int(pages) * 4096

    @contextmanager
    def watched(self) -> Iterator[None]:
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            yield
            self.peak = torch.cuda.max_memory_allocated() - self.first
            return

        def watch() -> None:
            while not self._stopped.wait(0.005):
                self.peak = max(self.peak, self._now() - self.first)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            self._stopped.set()
            watcher.join()


def measure(kind: str, part: str, given: argparse.Namespace) -> dict[str, Any]:
    """Seconds of forward and backward, and of the optimiser with clipping; peak memory in bytes."""
    device, rows_needed = given.device, given.people + 1
    torch.manual_seed(0)
    memory = Memory(device)
    network: nn.Module
    if part == "head":
        make = {"ours": OwnHead, "plain": PlainHead}[kind]
        with torch.device(device):
            network = make(rows_needed, HIDDEN, RANK, given.outputs, SECONDS)
            shape = (given.batch, SECONDS * FREQUENCY, HIDDEN)
            inputs: Any = torch.randn(shape, requires_grad=True)
    else:
        with torch.device(device):
            network = Whole(kind, rows_needed, given.outputs)
            inputs = {
                name: torch.randn(given.batch, *dims, SECONDS * FREQUENCY)
                for name, dims in FEATURES.items()
            }
    target = torch.randn(given.batch, SECONDS, given.outputs, device=device)
    held = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(held, lr=1e-4, fused=True)

    def wait() -> float:
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter()

    spent: list[tuple[float, float]] = []

    def step(rows: Tensor) -> None:
        start = wait()
        optimiser.zero_grad(set_to_none=True)
        if part == "head":
            inputs.grad = None
        kind_of = device.partition(":")[0]
        with torch.autocast(kind_of, torch.bfloat16, given.precision == "bf16"):
            loss = functional.mse_loss(network(inputs, rows.to(device)).float(), target)
        loss.backward()
        middle = wait()
        nn.utils.clip_grad_norm_(held, 1.0)
        optimiser.step()
        spent.append((middle - start, wait() - middle))

    drawn = list(batches(given.people, given.batch, given.steps))
    for rows in drawn[: -given.steps]:
        step(rows)
    spent.clear()
    with memory.watched():
        for rows in drawn[-given.steps :]:
            step(rows)
    network_seconds, optimiser_seconds = np.median(spent, axis=0)
    return {
        "network": float(network_seconds),
        "optimiser": float(optimiser_seconds),
        "memory": memory.peak,
        "parameters": sum(p.numel() for p in held),
    }


def peak_rate(device: str, precision: str) -> float:
    """Products and sums a second of a large matrix product, measured here."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    n = 8192 if device.startswith("cuda") else 2048
    a = torch.randn(n, n, device=device, dtype=dtype)
    best = 0.0
    for _ in range(5):
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        start = time.perf_counter()
        a @ a
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        best = max(best, 2 * n**3 / (time.perf_counter() - start))
    return best


def operations(given: argparse.Namespace) -> float:
    """Products and sums of a step of ours: three times those of the forward."""
    samples = given.batch * SECONDS * FREQUENCY
    fused = sum(layers * dim for layers, dim in FEATURES.values()) * (HIDDEN // len(FEATURES))
    block = 12 * HIDDEN**2 + 2 * SECONDS * FREQUENCY * HIDDEN  # maps, and attention
    head = HIDDEN * RANK + RANK * given.outputs
    return 3 * 2 * (samples * (fused + DEPTH * block) + given.batch * SECONDS * head)


def in_own_process(kind: str, part: str) -> dict[str, Any]:
    command = [sys.executable, __file__, *sys.argv[1:], "--only", kind, part]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def show(name: str, plain: float, ours: float, spelt: Callable[[float], str]) -> None:
    """Print a row."""
    print(f"{name:34}{spelt(plain):>12}{spelt(ours):>12}{plain / ours:>9.2f}x", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--people", type=int, default=6)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--outputs", type=int, default=20484)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--parts", nargs="+", default=["head", "whole"], choices=["head", "whole"])
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        print(json.dumps(measure(*given.only, given)))
        return
    same_numbers()
    told = f"{given.people} people, batch {given.batch}, {given.outputs} outputs"
    print(f"{told}, {given.device}, {given.precision}, {torch.get_num_threads()} threads")
    print(f"{'':34}{'plain':>12}{'ours':>12}{'ratio':>10}")
    for part in given.parts:
        plain, ours = (in_own_process(kind, part) for kind in ("plain", "ours"))

        def seconds(value: float) -> str:
            return f"{value:.3f} s"

        show(f"{part}: forward and backward", plain["network"], ours["network"], seconds)
        show(f"{part}: clipping and optimiser", plain["optimiser"], ours["optimiser"], seconds)
        both = [one["network"] + one["optimiser"] for one in (plain, ours)]
        show(f"{part}: together", *both, seconds)
        show(f"{part}: peak memory", plain["memory"], ours["memory"], lambda v: f"{v / 1e9:.2f} GB")
        weights = ours["parameters"] * 4
        print(f"{part}: weights {weights / 1e9:.2f} GB")
        if part == "whole":
            rate = operations(given) / both[1]
            peak = peak_rate(given.device, given.precision)
            windows = HOURS * 3600 / SECONDS
            hours = EPOCHS * windows / given.batch * both[1] / 3600
            print(
                f"ours: {1 / both[1]:.3f} steps a second, {rate / 1e9:.0f} GFLOP/s, "
                f"{rate / peak:.0%} of a matrix product's {peak / 1e9:.0f}; "
                f"{EPOCHS} epochs of {HOURS} h: {hours:.1f} h"
            )


if __name__ == "__main__":
    main()
