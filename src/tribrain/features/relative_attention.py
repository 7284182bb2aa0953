"""Self-attention of w2v-BERT 2.0 without its table of distances.

A "relative_key" layer adds to the score of query i and key j the product of the query with an
embedding of the distance j - i, clamped to [-left, right] (64 and 8 in the published model).
`transformers` looks the embedding up for every pair before it multiplies: a table of
(queries, keys, head size), over 5 GB for 90 s of sound, in each layer. There are only
left + right + 1 different embeddings, so here each query is multiplied with those and the
products are spread to the keys, a block of queries at a time. The numbers are the same but for
rounding.

Shaw, Uszkoreit & Vaswani 2018, *Self-attention with relative position representations*;
Barrault et al. 2023, *Seamless* (w2v-BERT 2.0).
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

# Bytes of a block's bias. A CPU is fastest while the block stays in its cache (and the C library
# hands blocks under 32 MiB out again without clearing them); elsewhere a step has a fixed cost.
BLOCK_BYTES = {"cpu": 16 * 2**20}
OTHER_BLOCK_BYTES = 256 * 2**20


def use_reordered_attention(model: nn.Module) -> int:
    """Replace the forward pass of each "relative_key" self-attention of a loaded model.

    Only these instances change: neither their class nor their weights do. A layer in training
    (dropout), one asked for its attention weights, and one whose mask is not one value a pair
    (flex or flash attention) go the way of `transformers`.

    Parameters
    ----------
    model : Module
        Any model; changed in place.

    Returns
    -------
    int
        Number of layers with the replaced forward pass; 0 for another kind of model.
    """
    from transformers.models.wav2vec2_bert.modeling_wav2vec2_bert import Wav2Vec2BertSelfAttention

    layers = [
        module
        for module in model.modules()
        if isinstance(module, Wav2Vec2BertSelfAttention)
        and module.position_embeddings_type == "relative_key"
    ]
    for layer in layers:
        layer.forward = MethodType(_forward, layer)  # type: ignore[method-assign]
    return len(layers)


def relative_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    distances: Tensor,
    left: int,
    mask: Tensor | None = None,
    block: int | None = None,
) -> Tensor:
    """Attention whose score of query i and key j is ``query_i . (key_j + distance_(j - i))``.

    Scores are divided by the square root of the head size.

    Parameters
    ----------
    query, key, value : Tensor (batch, heads, n, head size)
    distances : Tensor (left + right + 1, head size)
        Embedding of each distance, from -left to right; farther ones have that of the end.
    left : int
        Largest distance to a key before the query.
    mask : Tensor (batch or 1, heads or 1, n or 1, n), optional
        Boolean, true where a query sees a key, or of numbers that are added to the scores.
    block : int, optional
        Queries a step; by default as many as `BLOCK_BYTES` allow.

    Returns
    -------
    Tensor (batch, heads, n, head size)
    """
    n = query.shape[-2]
    scale = query.shape[-1] ** -0.5
    block = block or _block_size(query)
    table = distances.to(query.dtype).T
    steps = []
    for first in range(0, n, block):
        part = query[..., first : first + block, :]
        bias = spread_to_keys((part @ table) * scale, first, n, left)
        if mask is not None:
            rows = mask if mask.shape[-2] == 1 else mask[..., first : first + block, :]
            bias = _masked(bias, rows)
        steps.append(
            nn.functional.scaled_dot_product_attention(
                part, key, value, attn_mask=bias, scale=scale
            )
        )
    return torch.cat(steps, dim=-2)


def spread_to_keys(values: Tensor, first: int, n_keys: int, left: int) -> Tensor:
    """Give each pair of query and key the query's value for their clamped distance.

    Keys beyond the range of every query of the block share a value in each row and are filled
    at once; only a band as wide as the block and the range together is looked up pair by pair.

    Parameters
    ----------
    values : Tensor (..., queries, left + right + 1)
        For queries in a row, a value for each distance from -left to right.
    first : int
        Position of the first of these queries, counted as the keys are.
    n_keys : int
    left : int

    Returns
    -------
    Tensor (..., queries, n_keys)
        ``values[..., i, clamp(j - first - i, -left, right) + left]`` at [..., i, j].
    """
    n_queries, n_positions = values.shape[-2:]
    start = min(max(first - left, 0), n_keys)
    stop = min(max(first + n_queries + n_positions - left - 2, start), n_keys)
    keys = torch.arange(start, stop, device=values.device)
    queries = torch.arange(first, first + n_queries, device=values.device)
    position = (keys - queries[:, None] + left).clamp(0, n_positions - 1)
    return torch.cat(
        [
            values[..., :1].expand(*values.shape[:-1], start),
            values.gather(-1, position.expand(*values.shape[:-1], -1)),
            values[..., -1:].expand(*values.shape[:-1], n_keys - stop),
        ],
        dim=-1,
    )


def _block_size(query: Tensor) -> int:
    """Queries a step; never fewer than 16, below which the steps themselves take longer."""
    batch, heads, n, _ = query.shape
    allowed = BLOCK_BYTES.get(query.device.type, OTHER_BLOCK_BYTES)
    return max(16, allowed // max(1, batch * heads * n * query.element_size()))


def _masked(bias: Tensor, mask: Tensor) -> Tensor:
    # The lowest number rather than -inf, as `transformers` does it: a row that sees nothing
    # stays finite.
    if mask.dtype == torch.bool:
        return bias.masked_fill(~mask, torch.finfo(bias.dtype).min)
    return bias + mask


def _forward(
    module: Any,
    hidden_states: Tensor,
    attention_mask: Tensor | None = None,
    *args: Any,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Forward pass of a ``Wav2Vec2BertSelfAttention`` of type "relative_key"."""
    one_value_a_pair = attention_mask is None or (
        isinstance(attention_mask, Tensor) and attention_mask.ndim == 4
    )
    weights = kwargs.get("output_attentions") or getattr(module.config, "output_attentions", False)
    if module.training or weights or not one_value_a_pair:
        return type(module).forward(module, hidden_states, attention_mask, *args, **kwargs)
    query, key, value = (
        linear(hidden_states).unflatten(-1, (module.num_heads, module.head_size)).transpose(1, 2)
        for linear in (module.linear_q, module.linear_k, module.linear_v)
    )
    attended = relative_attention(
        query,
        key,
        value,
        module.distance_embedding.weight,
        module.left_max_position_embeddings,
        attention_mask,
    )
    return module.linear_out(attended.transpose(1, 2).flatten(2)), None
