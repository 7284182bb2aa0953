"""Training by several processes, each on a GPU of its own or on the CPU.

All processes draw the same windows and the same random numbers, and each reads its share of every
batch. Losses are sums over windows divided by what was measured in the whole batch, and gradients
are summed, so that a step is that of one process. Of the head, the rows that any process needs are
used by all, by some for no window: so all agree on which weights have a gradient, and none is sent
for rows that nobody needs.

With "ddp" each process has all weights, and gradients are summed after the last batch of a step.
With "fsdp" each process has a part of all weights, moments and gradients (FSDP2, Zhao et al. 2023,
arXiv 2304.11277): blocks and rows of the head are gathered when they are used.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tribrain.encoder.network import Encoder
from tribrain.errors import InputError
from tribrain.training.data import Batch, Stretch, TrainingData

_PREPARING = timedelta(days=30)  # there may be many features to work out
_SMALL = 2**16  # values of a gradient, below which it is sent together with others
T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """The processes of a run, as one of them sees them; by default there is no other.

    Attributes
    ----------
    rank, size : int
        Number of this one (from 0), and of all.
    device : str
        Of this one.
    sharded : bool
        Each has a part of the weights ("fsdp").
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"
    sharded: bool = False
    store: dist.Store | None = field(default=None, repr=False, compare=False)

    @property
    def first(self) -> bool:
        """Whether this is the one that speaks and writes."""
        return self.rank == 0

    def total(self, value: Tensor) -> Tensor:
        """Sum over all processes, without a gradient."""
        if self.size > 1:
            value = value.detach().clone()
            dist.all_reduce(value)
        return value

    def same(self, value: T) -> T:
        """What the first process has: plain data."""
        if self.size == 1:
            return value
        held = [value if self.first else None]
        dist.broadcast_object_list(held, 0)
        return held[0]  # type: ignore[return-value]

    def gathered(self, value: Tensor) -> list[Tensor]:
        """A tensor of one shape, as each process has it."""
        if self.size == 1:
            return [value]
        value = value.to(self.device)
        found = [torch.empty_like(value) for _ in range(self.size)]
        dist.all_gather(found, value)
        return [one.cpu() for one in found]

    def after_first(self, what: str, work: Callable[[], T]) -> T:
        """Do what the first process keeps for the others: first in that one, then in them.

        `what` is a name that nothing else of the run has.
        """
        if self.store is None:
            return work()
        if not self.first:
            self.store.wait([what], _PREPARING)
        found = work()
        if self.first:
            self.store.set(what, "done")
        return found

    # --- windows ---------------------------------------------------------------------------------

    def share(
        self, windows: Sequence[tuple[Stretch, int]], generator: torch.Generator | None = None
    ) -> Share:
        """The windows of a batch that this process reads."""
        where = slice(*(n * len(windows) // self.size for n in (self.rank, self.rank + 1)))
        idle = where.start == where.stop
        if idle:  # reads one for nothing, as all take part in what is gathered
            where = slice(0, 1)
        rows = torch.tensor([stretch.row for stretch, _ in windows], device=self.device)
        return Share(rows, where, windows[where], idle, generator, self)

    # --- weights ---------------------------------------------------------------------------------

    def spread(self, network: Encoder, precision: str = "fp32") -> Encoder:
        """Put a network on the device, with the weights of the first process, in parts if so set.

        Is changed, and given back.
        """
        if self.size == 1:
            return network.to(self.device)
        if not self.sharded:
            network = network.to(self.device)
        self.load(network, network.state_dict())
        if self.sharded:
            self._shard(network, precision)
        return network

    def _shard(self, network: Encoder, precision: str) -> None:
        try:
            from torch.distributed import fsdp
            from torch.distributed.device_mesh import init_device_mesh

            cast = torch.bfloat16 if precision == "bf16" else None
            # Inputs stay as they are: what autocast keeps in fp32 is kept so here.
            policy = fsdp.MixedPrecisionPolicy(cast, torch.float32, cast_forward_inputs=False)
            register = fsdp.register_fsdp_forward_method
            assert hasattr(fsdp.FSDPModule, "set_force_sum_reduction_for_comms")
        except (ImportError, AttributeError, AssertionError):
            raise InputError(
                f'training.parallel "fsdp" needs torch 2.8 or later, and here is '
                f'{torch.__version__}; "ddp" fits'
            ) from None
        # A row's output is reshaped and then only read; what is warned of does not happen here.
        warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)
        mesh = init_device_mesh(self.device, (self.size,))
        for unit in (*network.blocks, *network.head.rows, network):
            sharded = fsdp.fully_shard(unit, mesh=mesh, mp_policy=policy)
            sharded.set_gradient_divide_factor(1.0)  # losses are shares: gradients are summed
            sharded.set_force_sum_reduction_for_comms(True)
        register(network, "states")

    def plain(self, network: Encoder) -> Encoder:
        """What the trained weights go to: the network, or one for whole weights if it has parts."""
        return copy.deepcopy(network).to("meta") if self.sharded else network

    def at_rest(self, network: nn.Module) -> None:
        """Let go of what was gathered for predicting without a gradient."""
        if self.sharded:
            network.reshard()  # type: ignore[operator]

    def full(self, values: Any, *, apart: bool = False) -> Any:
        """Nested state dicts with whole tensors on the CPU; None for each but in the first process.

        Tensors that are in parts are gathered one after the other. `apart`: copies, even where they
        are on the CPU already.
        """
        if isinstance(values, Mapping):
            return {key: self.full(value, apart=apart) for key, value in values.items()}
        if not isinstance(values, Tensor):
            return values
        whole = values.full_tensor() if hasattr(values, "full_tensor") else values
        return whole.detach().to("cpu", copy=apart) if self.first else None

    def load(self, network: nn.Module, weights: Mapping[str, Tensor]) -> None:
        """Take over whole weights; those of the first process count."""
        if self.size == 1:
            network.load_state_dict(weights)
            return
        if any(value.is_meta for value in network.parameters()):
            network.to_empty(device="cpu")
        with torch.no_grad():
            for key, value in network.state_dict().items():
                local(value).copy_(local(self._placed(weights.get(key), value)))

    def load_optimiser(self, optimiser: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
        """Take over an optimiser's whole state; that of the first process counts."""
        if self.size == 1:
            optimiser.load_state_dict(dict(saved))
            return
        state = {
            number: {
                key: None if isinstance(value, Tensor) and value.ndim else value
                for key, value in moments.items()
            }
            for number, moments in saved.get("state", {}).items()
        }
        state, groups = self.same((state, saved.get("param_groups")))
        weights = [value for group in optimiser.param_groups for value in group["params"]]
        for number, moments in state.items():
            for key, value in moments.items():
                if value is None:
                    mine = saved["state"][number][key] if self.first else None
                    moments[key] = self._placed(mine, weights[number])
        optimiser.load_state_dict({"state": state, "param_groups": groups})

    def _placed(self, value: Tensor | None, like: Tensor) -> Tensor:
        """A whole tensor of the first process, laid out over the processes as another one is."""
        if self.first:
            assert value is not None
            whole = value.detach().to(self.device, copy=True)
        else:
            whole = torch.empty(like.shape, dtype=like.dtype, device=self.device)
        dist.broadcast(whole, 0)
        if not hasattr(like, "placements"):
            return whole
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)  # type: ignore[attr-defined]

    # --- gradients -------------------------------------------------------------------------------

    def sum_gradients(self, network: nn.Module) -> None:
        """Sum gradients over the processes, where they are not summed already.

        All have gradients of the same weights: see the head of this module.
        """
        if self.size == 1 or self.sharded:
            return
        found = [value.grad for value in network.parameters() if value.grad is not None]
        small = [one for one in found if one.numel() < _SMALL]
        joined = torch.cat([one.flatten() for one in small])
        sent = [joined, *(one for one in found if one.numel() >= _SMALL)]
        for work in [dist.all_reduce(one, async_op=True) for one in sent]:
            work.wait()
        for one, part in zip(small, joined.split([one.numel() for one in small]), strict=True):
            one.copy_(part.view_as(one))

    def clip_gradients(self, network: nn.Module, limit: float) -> Tensor:
        """Scale gradients to a norm of `limit` at most; returns the norm before, over all parts."""
        if not self.sharded:
            return nn.utils.clip_grad_norm_(network.parameters(), limit)
        found = [local(value.grad) for value in network.parameters() if value.grad is not None]
        power = torch.stack([torch.linalg.vector_norm(one) for one in found]).square().sum()
        norm = self.total(power).sqrt()
        torch._foreach_mul_(found, (limit / (norm + 1e-6)).clamp(max=1.0))
        return norm


ALONE = Processes()


@dataclass(frozen=True)
class Share:
    """The windows of a batch that a process reads, and what it knows of the others.

    Attributes
    ----------
    rows : Tensor (N,), int
        Of the subject head, for all windows of the batch; -1 for people without one.
    where : slice
        Place of its windows in the batch.
    windows : sequence
        Its windows.
    idle : bool
        It has none, and reads one as if nothing had been measured in it.
    generator : torch.Generator, optional
        Of random numbers that all processes share; torch's own by default.
    """

    rows: Tensor
    where: slice = field(default_factory=lambda: slice(None))
    windows: Sequence[tuple[Stretch, int]] = ()
    idle: bool = False
    generator: torch.Generator | None = None
    processes: Processes = ALONE

    def read(self, data: TrainingData) -> Batch:
        """Read its windows."""
        batch = data.batch(self.windows)
        if self.idle:
            batch.targets.fill_(torch.nan)
        return batch.to(self.processes.device)

    def draw(self, *shape: int) -> Tensor:
        """Random numbers (N, *shape) for all windows of the batch."""
        rows = self.rows
        return torch.rand(len(rows), *shape, generator=self.generator, device=rows.device)

    def rand(self, *shape: int) -> Tensor:
        """Random numbers (windows, *shape) for its own, out of those for all."""
        return self.draw(*shape)[self.where]


def local(value: Tensor) -> Tensor:
    """The part of a tensor that this process has."""
    return value.to_local() if hasattr(value, "to_local") else value
