"""The encoder, whole: feature series of three modalities in, a response out.

Shapes: B windows, M modalities, L layers and D dimensions of a feature, T feature samples,
H hidden width, R rank of the head, S subject rows, V outputs, O output samples.

Source: the published recipe (TRIBE v2, arXiv 2605.04326), written from its description.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class ScaleNorm(nn.Module):
    """Unit length times sqrt(dim) times one learned gain (Nguyen & Salazar 2019)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))
        self.scale = math.sqrt(dim)

    def forward(self, x: Tensor) -> Tensor:  # (..., dim) -> (..., dim)
        return functional.normalize(x, dim=-1, eps=1e-12) * (self.scale * self.gain)


class Attention(nn.Module):
    """Self-attention over all samples; rotary positions on part of each head."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:  # (B, T, H)
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, T, H/heads)
            for layer in (self.query, self.key, self.value)
        )
        x = functional.scaled_dot_product_attention(
            rotate(query, rotation), rotate(key, rotation), value
        )
        return self.out(x.transpose(1, 2).flatten(-2))

    def extra_repr(self) -> str:  # the one setting that no weight's shape tells
        return f"heads={self.heads}"


def rotations(n: int, inverse_frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine (n, 2F) of the rotary angles of n positions at F frequencies."""
    positions = torch.arange(n, device=inverse_frequencies.device, dtype=torch.float32)
    angles = torch.outer(positions, inverse_frequencies)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate the first 2F dimensions of x (..., n, d), paired as first with second half."""
    cos, sin = rotation
    turned, rest = x[..., : cos.shape[-1]], x[..., cos.shape[-1] :]
    first, second = turned.chunk(2, dim=-1)
    turned = turned * cos + torch.cat((-second, first), dim=-1) * sin
    return torch.cat((turned, rest), dim=-1).type_as(x)


class Block(nn.Module):
    """Pre-norm attention and feed-forward, each added to a scaled residual."""

    def __init__(self, dim: int, heads: int, widening: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.attention_norm = ScaleNorm(dim)
        self.attention = Attention(dim, heads)
        self.attention_residual = nn.Parameter(torch.ones(dim))
        self.feedforward_norm = ScaleNorm(dim)
        self.feedforward = nn.Sequential(
            nn.Linear(dim, widening * dim), nn.GELU(), nn.Linear(widening * dim, dim)
        )
        self.feedforward_residual = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:  # (B, T, H)
        added = self.attention(self.attention_norm(x), rotation)
        x = self.dropout(added) + x * self.attention_residual
        added = self.feedforward(self.feedforward_norm(x))
        return self.dropout(added) + x * self.feedforward_residual


def mlp(sizes: Sequence[int], *, norm: bool, bias: bool) -> nn.Module:
    """A linear map, or linear maps with (layer norm and) GELU between them.

    Parameters
    ----------
    sizes : sequence of int
        Widths from input to output; two make one linear map.
    """
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers.append(nn.Linear(n_in, n_out, bias=bias))
        layers += [nn.LayerNorm(n_out)] if norm else []
        layers.append(nn.GELU())
    layers = layers[: -2 if norm else -1]
    return layers[0] if len(layers) == 1 else nn.Sequential(*layers)


class TemporalSmoothing(nn.Module):
    """One learned filter a channel over time, zero-padded to keep the length."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((dim, 1, width), 1.0 / width))

    def forward(self, x: Tensor) -> Tensor:  # (B, T, H) -> (B, T, H)
        smoothed = functional.conv1d(
            x.transpose(1, 2), self.weight, padding="same", groups=self.weight.shape[0]
        )
        return smoothed.transpose(1, 2)


class SubjectRow(nn.Module):
    """A linear map to the outputs, for one person or for people never seen."""

    def __init__(self, dim: int, n_outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(dim, n_outputs) * dim**-0.5)
        self.bias = nn.Parameter(torch.zeros(n_outputs))

    def forward(self, x: Tensor) -> Tensor:  # (..., R) -> (..., V)
        found = torch.addmm(self.bias, x.reshape(-1, x.shape[-1]), self.weight)
        return found.unflatten(0, x.shape[:-1])


class SubjectHead(nn.Module):
    """A row for each person, with as many outputs as their space has.

    Rows are parameters of their own: those by which no window of a batch is read have no gradient,
    and an optimiser keeps nothing for those that never occurred.
    """

    def __init__(self, sizes: Sequence[int], dim: int) -> None:
        super().__init__()
        self.rows = nn.ModuleList(SubjectRow(dim, size) for size in sizes)

    def forward(
        self, x: Tensor, rows: Tensor, present: Tensor | None = None
    ) -> Tensor:  # (B, O, R), (B,) -> (B, O, V)
        present = rows.unique() if present is None else present
        if len(present) == 1:
            return self.rows[int(present)](x)
        # Windows of one subject share its weights, which are never copied once a window.
        if len({len(self.rows[row].bias) for row in present.tolist()}) > 1:
            raise ValueError(f"rows {present.tolist()} lie in several spaces; one a call fits")
        order = rows.argsort(stable=True)
        sorted_x = x[order].split((rows == present[:, None]).sum(1).tolist())
        parts = [self.rows[row](part) for part, row in zip(sorted_x, present.tolist(), strict=True)]
        return torch.cat(parts)[order.argsort()]


class SpaceRows(NamedTuple):
    """Outputs of a space, and the rows of the head that predict it, people never seen last."""

    n_outputs: int
    rows: range


def _numbered(
    n_outputs: int | Mapping[str, int], n_subjects: int | Mapping[str, int]
) -> dict[str, SpaceRows]:
    """Number the rows of all spaces; one space that has no name is called ""."""
    sizes = n_outputs if isinstance(n_outputs, Mapping) else {"": n_outputs}
    counts = n_subjects if isinstance(n_subjects, Mapping) else dict.fromkeys(sizes, n_subjects)
    if not sizes or list(counts) != list(sizes):
        raise ValueError(f"rows are given for {list(counts)} and outputs for {list(sizes)}")
    if min(counts.values()) < 1:
        raise ValueError(f"{counts} rows; each space has that of people never seen at least")
    found, first = {}, 0
    for name, size in sizes.items():
        found[name] = SpaceRows(size, range(first, first + counts[name]))
        first += counts[name]
    return found


class Encoder(nn.Module):
    """Feature series of several modalities to the response of a brain.

    Parameters
    ----------
    feature_dims : mapping of str to (int, int) or None
        Layers and dimensions of each modality's feature, in the order in which they are joined;
        None for a modality that the model was built without.
    n_outputs : int or mapping of str to int
        Vertices, voxels or regions; of each space, by its name, where there are several.
    n_output_samples : int
        Output samples of a window.
    n_subjects : int or mapping of str to int
        Rows of the subject head (in each space), the row of people never seen included: it is the
        last one. Rows are numbered through all spaces, in the order of `n_outputs`.
    hidden, depth, heads, widening : int
        Width of the transformer, its blocks, their heads, and the feed-forward's widening.
    max_samples : int
        Rows of the position embedding: the longest window.
    rank : int or None
        Width of the low-rank head; None maps from `hidden` straight to the outputs.
    layer_aggregation : {"cat", "mean"}
        How the layers of a feature are joined before the projector.
    modality_aggregation : {"cat", "sum"}
        How the projected modalities are joined.
    projector_sizes, combiner_sizes : sequence of int or None
        Hidden widths of the projector of each modality (empty: a linear map) and of the map after
        joining (None: no such map).
    projector_norm, combiner_norm : bool
        Layer norm between the linear maps of those.
    projector_bias, combiner_bias : bool
        Bias in those maps.
    smoothing : int or None
        Width of a learned filter over time for each channel.
    position_embedding : bool
        Add a learned vector for each sample of the window.
    dropout : float
        In training, share of what each block adds, of the fused features and of the states that
        the head reads, that is set to zero.
    """

    def __init__(
        self,
        *,
        feature_dims: Mapping[str, tuple[int, int] | None],
        n_outputs: int | Mapping[str, int],
        n_output_samples: int,
        n_subjects: int | Mapping[str, int] = 1,
        hidden: int = 1152,
        depth: int = 8,
        heads: int = 8,
        widening: int = 4,
        max_samples: int = 1024,
        rank: int | None = 2048,
        layer_aggregation: str = "cat",
        modality_aggregation: str = "cat",
        projector_sizes: Sequence[int] = (),
        combiner_sizes: Sequence[int] | None = None,
        projector_norm: bool = True,
        combiner_norm: bool = True,
        projector_bias: bool = True,
        combiner_bias: bool = True,
        smoothing: int | None = None,
        position_embedding: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if layer_aggregation not in ("cat", "mean"):
            raise ValueError(f"layer_aggregation {layer_aggregation!r}: 'cat' or 'mean'")
        if modality_aggregation not in ("cat", "sum"):
            raise ValueError(f"modality_aggregation {modality_aggregation!r}: 'cat' or 'sum'")
        self.feature_dims = dict(feature_dims)
        self.n_output_samples = n_output_samples
        self.spaces = _numbered(n_outputs, n_subjects)
        self.layer_aggregation = layer_aggregation
        self.modality_aggregation = modality_aggregation
        cat = modality_aggregation == "cat"
        self.share = hidden // len(self.feature_dims) if cat else hidden  # H/M a modality
        joined = self.share * len(self.feature_dims) if cat else hidden
        head_dim = hidden // heads
        turned = max(head_dim // 2, 32)  # dimensions of a head that carry a position
        if heads < 1 or hidden % heads or turned > head_dim:
            raise ValueError(
                f"{heads} heads do not fit a hidden width of {hidden}, 32 each at least"
            )
        if combiner_sizes is None and joined != hidden:
            raise ValueError(
                f"{len(self.feature_dims)} modalities do not share a hidden width {hidden} evenly"
            )

        self.projectors = nn.ModuleDict()
        for name, dims in self.feature_dims.items():
            if dims is not None:
                n_in = dims[0] * dims[1] if layer_aggregation == "cat" else dims[1]
                self.projectors[name] = mlp(
                    [n_in, *projector_sizes, self.share], norm=projector_norm, bias=projector_bias
                )
        self.smoothing = TemporalSmoothing(joined, smoothing) if smoothing else None
        self.combiner = None
        if combiner_sizes is not None:
            sizes = [joined, *combiner_sizes, hidden]
            self.combiner = mlp(sizes, norm=combiner_norm, bias=combiner_bias)
        self.position = (
            nn.Parameter(torch.randn(max_samples, hidden) * 0.02) if position_embedding else None
        )
        frequencies = 10_000.0 ** -(torch.arange(0, turned, 2).float() / turned)
        self.inverse_frequencies: Tensor
        self.register_buffer("inverse_frequencies", frequencies)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(hidden, heads, widening, dropout) for _ in range(depth))
        self.final_norm = ScaleNorm(hidden)
        self.low_rank = nn.Linear(hidden, rank, bias=False) if rank else None
        sizes = [space.n_outputs for space in self.spaces.values() for _ in space.rows]
        self.head = SubjectHead(sizes, rank or hidden)

    @property
    def n_outputs(self) -> int:
        """Outputs in the first space."""
        return next(iter(self.spaces.values())).n_outputs

    @property
    def n_subjects(self) -> int:
        """Rows of the head, in all spaces."""
        return len(self.head.rows)

    def unseen(self, space: str | None = None) -> int:
        """Row of people never seen, in the first space or in one by name."""
        found = self.spaces[next(iter(self.spaces)) if space is None else space]
        return found.rows[-1]

    def forward(
        self,
        features: Mapping[str, Tensor],
        subject: int | Tensor | None = None,
        kept: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Predict the response to windows of features.

        Parameters
        ----------
        features : mapping of str to Tensor (B, L, D, T)
            A modality that is not there counts as missing.
        subject : int or Tensor (B,), optional
            Row of the subject head; None is that of people never seen, in the first space.
        kept : mapping of str to Tensor (B,) of bool, optional
            Windows in which a modality counts as there; by default all.

        Returns
        -------
        Tensor (B, O, V)
        """
        return self.read(self.states(features, kept), subject)

    def states(
        self, features: Mapping[str, Tensor], kept: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """What the subject head reads: (B, L, D, T) each to (B, O, R)."""
        x = self.fuse(features, kept)  # (B, T, M * share)
        x = self.encode(x)  # (B, T, H)
        # Averaging over time and the linear head commute; averaging first halves the work.
        x = functional.adaptive_avg_pool1d(x.transpose(1, 2), self.n_output_samples)
        x = x.transpose(1, 2)  # (B, O, H)
        if self.low_rank is not None:
            x = self.low_rank(x)  # (B, O, R)
        return self.dropout(x)

    def read(
        self,
        states: Tensor,
        subject: int | Tensor | None = None,
        present: Tensor | None = None,
    ) -> Tensor:
        """Read the response of a person, or of one a window: (B, O, R) to (B, O, V).

        Rows of one call lie in one space. `present` (sorted, each once) are those that are used, by
        none of the windows if need be: what several processes share is gathered by all of them.
        """
        return self.head(states, self._rows(subject, len(states), states.device), present)

    def fuse(
        self, features: Mapping[str, Tensor], kept: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Project each modality and join them: (B, L, D, T) each to (B, T, M * share)."""
        unknown = sorted(set(features) - set(self.projectors))
        if unknown or not features:
            raise ValueError(
                f"features of {', '.join(unknown) or 'no modality'} were given; "
                f"this encoder reads {', '.join(self.projectors)}"
            )
        like = next(iter(features.values()))
        parts = []
        for name in self.feature_dims:
            if name not in features:  # missing: zeros after the map, bias included
                parts.append(like.new_zeros(like.shape[0], like.shape[-1], self.share))
                continue
            dims, series = self.feature_dims[name], features[name]
            if tuple(series.shape[1:3]) != dims:
                raise ValueError(
                    f"features of {name} have (layers, dimensions) {tuple(series.shape[1:3])}; "
                    f"this encoder reads {dims}"
                )
            joined = series.mean(1) if self.layer_aggregation == "mean" else series.flatten(1, 2)
            part = self.projectors[name](joined.transpose(1, 2))
            if kept is not None and name in kept:
                part = part.where(kept[name][:, None, None], 0)
            parts.append(part)
        if self.modality_aggregation == "cat":
            return torch.cat(parts, dim=-1)
        return torch.stack(parts).sum(0)

    def encode(self, x: Tensor) -> Tensor:
        """Run the transformer: (B, T, M * share) to (B, T, H)."""
        if self.smoothing is not None:
            x = self.smoothing(x)
        if self.combiner is not None:
            x = self.combiner(x)
        if self.position is not None:
            if x.shape[1] > len(self.position):
                raise ValueError(
                    f"a window of {x.shape[1]} samples is longer than the {len(self.position)} "
                    "that this encoder has positions for"
                )
            x = x + self.position[: x.shape[1]]
        x = self.dropout(x)
        rotation = rotations(x.shape[1], self.inverse_frequencies)
        for block in self.blocks:
            x = block(x, rotation)
        return self.final_norm(x)

    def _rows(self, subject: int | Tensor | None, batch: int, device: torch.device) -> Tensor:
        if subject is None:
            subject = self.unseen()
        rows = torch.as_tensor(subject, device=device).long().reshape(-1)
        rows = rows.expand(batch) if len(rows) == 1 else rows
        if len(rows) != batch or not 0 <= int(rows.min()) <= int(rows.max()) < self.n_subjects:
            raise ValueError(
                f"subject rows {rows.tolist()}: {batch} rows from 0 to {self.n_subjects - 1} fit"
            )
        return rows
