"""Hidden states of a transformer, reduced while the forward pass runs.

Keeping every state of a large video backbone takes gigabytes a clip. Here each block's output is
reduced (to the mean over its tokens, say) and added to its group as soon as it exists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

Reduce = Callable[[Tensor], Tensor]


@contextmanager
def grouped_states(
    blocks: Sequence[nn.Module],
    groups: Sequence[Sequence[int]],
    reduce: Reduce,
    last: nn.Module | None = None,
) -> Iterator[list[Tensor]]:
    """Record the mean of reduced hidden states, a group at a time, over one forward pass.

    State 0 is what enters the first block, state i what leaves block i; where `last` is given
    (a final norm), the state after the last block is the output of `last` instead.

    Parameters
    ----------
    blocks : sequence of Module
        The transformer's blocks, in order.
    groups : sequence of sequence of int
        Numbers of states; each group gives one layer.
    reduce : callable
        Tensor (batch, tokens, dim) to any tensor.
    last : Module, optional

    Yields
    ------
    list of Tensor
        Filled when the block ends: one tensor a group, the mean over its states.
    """
    sums: list[Tensor | None] = [None] * len(groups)
    result: list[Tensor] = []

    def add(state: int, hidden: Any) -> None:
        if isinstance(hidden, tuple):
            hidden = hidden[0]
        members = [number for number, group in enumerate(groups) if state in group]
        if not members:
            return
        reduced = reduce(hidden)
        for number in members:
            held = sums[number]
            sums[number] = reduced if held is None else held + reduced

    def before(module: nn.Module, args: tuple, kwargs: dict) -> None:
        add(0, args[0] if args else kwargs["hidden_states"])

    def after(state: int) -> Callable:
        return lambda module, args, output: add(state, output)

    handles = [blocks[0].register_forward_pre_hook(before, with_kwargs=True)]
    n_outputs = len(blocks) if last is None else len(blocks) - 1
    for state in range(1, n_outputs + 1):
        handles.append(blocks[state - 1].register_forward_hook(after(state)))
    if last is not None:
        handles.append(last.register_forward_hook(after(len(blocks))))
    try:
        yield result
    finally:
        for handle in handles:
            handle.remove()
    for group, held in zip(groups, sums, strict=True):
        assert held is not None, f"states {group} did not occur"
        result.append(held / len(group))


def means_of_groups(
    states: Sequence[Tensor], groups: Sequence[Sequence[int]], reduce: Reduce
) -> list[Tensor]:
    """Mean of reduced hidden states, a group at a time, where all states are there already."""
    used = {state: reduce(states[state]) for group in groups for state in group}
    return [sum(used[state] for state in group) / len(group) for group in groups]  # type: ignore[misc]
