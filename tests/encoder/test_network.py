"""The network against the published program's numbers and against a literal reference."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import makers
from network_makers import close, draw_features, small_encoder
from tribrain.encoder.checkpoints import load_folder
from tribrain.encoder.network import Block, Encoder, rotations

# --- the published program's numbers -------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(golden: Path) -> tuple[Encoder, dict[str, np.ndarray]]:
    encoder = load_folder(golden / "checkpoint-tiny")[1]
    with np.load(golden / "checkpoint-tiny" / "forward.npz") as file:
        return encoder, dict(file)


def golden_features(numbers: dict[str, np.ndarray], *names: str) -> dict[str, Tensor]:
    names = names or ("text", "audio", "video")
    return {name: torch.from_numpy(numbers[f"input_{name}"]) for name in names}


def farthest(ours: Tensor, theirs: np.ndarray) -> float:
    """Largest difference between ours (B, O, V) and the published program's (B, V, O)."""
    assert tuple(ours.transpose(1, 2).shape) == theirs.shape
    return float((ours.transpose(1, 2) - torch.from_numpy(theirs)).abs().max())


@pytest.mark.golden
def test_golden_fused_features_match(tiny):
    encoder, numbers = tiny
    fused = encoder.fuse(golden_features(numbers))
    assert farthest(fused.transpose(1, 2), numbers["fused_features"]) < 1e-4


@pytest.mark.golden
def test_golden_transformer_output_matches(tiny):
    encoder, numbers = tiny
    encoded = encoder.encode(encoder.fuse(golden_features(numbers)))
    assert farthest(encoded.transpose(1, 2), numbers["encoder_output"]) < 1e-4


@pytest.mark.golden
def test_golden_transformer_alone_matches_from_the_golden_fused_features(tiny):
    encoder, numbers = tiny
    encoded = encoder.encode(torch.from_numpy(numbers["fused_features"]))
    assert farthest(encoded.transpose(1, 2), numbers["encoder_output"]) < 1e-4


@pytest.mark.golden
def test_golden_response_of_each_subject_matches(tiny):
    encoder, numbers = tiny
    rows = torch.from_numpy(numbers["input_subject_id"])
    assert len(rows.unique()) == 2  # the golden batch mixes people
    ours = encoder(golden_features(numbers), rows)
    assert farthest(ours, numbers["output_per_subject"]) < 1e-4


@pytest.mark.golden
def test_golden_response_before_pooling_matches(tiny):
    encoder, numbers = tiny
    rows = torch.from_numpy(numbers["input_subject_id"]).flatten()
    encoded = encoder.low_rank(encoder.encode(encoder.fuse(golden_features(numbers))))
    ours = encoder.head(encoded, rows)
    assert farthest(ours, numbers["output_per_subject_unpooled"]) < 1e-4


@pytest.mark.golden
@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("output_average_subject", ("text", "audio", "video")),
        ("output_average_subject_without_audio", ("text", "video")),
        ("output_average_subject_video_only", ("video",)),
    ],
)
def test_golden_response_of_an_unseen_subject_matches(tiny, key, names):
    encoder, numbers = tiny
    ours = encoder(golden_features(numbers, *names))
    assert farthest(ours, numbers[key]) < 1e-4


@pytest.mark.golden
def test_golden_outputs_differ_by_far_more_than_the_tolerance(tiny):
    numbers = tiny[1]
    keys = [key for key in numbers if key.startswith("output") and "unpooled" not in key]
    for number, key in enumerate(keys):
        for other in keys[number + 1 :]:
            assert np.abs(numbers[key] - numbers[other]).max() > 0.01, (key, other)


# --- a literal reference, from the recipe's text, in plain loops and double precision -------------


def literal_norm(x: np.ndarray, gain: float) -> np.ndarray:
    return np.stack([v / max(math.sqrt((v * v).sum()), 1e-12) * len(v) ** 0.5 * gain for v in x])


def literal_turn(vector: np.ndarray, position: int) -> np.ndarray:
    turned = max(len(vector) // 2, 32)
    half = turned // 2
    result = vector.copy()
    for pair in range(half):
        angle = position * 10_000.0 ** (-2 * pair / turned)
        a, b = vector[pair], vector[pair + half]
        result[pair] = a * math.cos(angle) - b * math.sin(angle)
        result[pair + half] = b * math.cos(angle) + a * math.sin(angle)
    return result


def literal_attention(x: np.ndarray, weights: dict, layer: str, heads: int) -> np.ndarray:
    n, width = x.shape
    size = width // heads
    query, key, value = (x @ weights[f"{layer}.1.to_{part}.weight"].T for part in "qkv")
    joined = np.zeros_like(x)
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        queries = [literal_turn(query[t, own], t) for t in range(n)]
        keys = [literal_turn(key[t, own], t) for t in range(n)]
        for t in range(n):
            scores = np.array([queries[t] @ keys[other] / math.sqrt(size) for other in range(n)])
            shares = np.exp(scores - scores.max())
            shares /= shares.sum()
            joined[t, own] = sum(shares[other] * value[other, own] for other in range(n))
    return joined @ weights[f"{layer}.1.to_out.weight"].T


def literal_feedforward(x: np.ndarray, weights: dict, layer: str) -> np.ndarray:
    wide = x @ weights[f"{layer}.1.ff.0.0.weight"].T + weights[f"{layer}.1.ff.0.0.bias"]
    wide = 0.5 * wide * (1 + np.vectorize(math.erf)(wide / math.sqrt(2)))
    return wide @ weights[f"{layer}.1.ff.2.weight"].T + weights[f"{layer}.1.ff.2.bias"]


def literal_layer(x: np.ndarray, weights: dict, number: int, heads: int) -> np.ndarray:
    """One sub-layer, under its published number: even ones attend, odd ones feed forward."""
    layer = f"encoder.layers.{number}"
    normed = literal_norm(x, weights[f"{layer}.0.0.g"].item())
    if number % 2:
        branch = literal_feedforward(normed, weights, layer)
    else:
        branch = literal_attention(normed, weights, layer, heads)
    return branch + x * weights[f"{layer}.2.residual_scale"]


def literal_pooling(x: np.ndarray, count: int) -> np.ndarray:
    n = len(x)
    bins = [(i * n // count, -(-(i + 1) * n // count)) for i in range(count)]
    return np.stack([x[first:last].mean(0) for first, last in bins])


def literal_window(
    features: dict, weights: dict, config: dict, row: int, count: int, share: int
) -> np.ndarray:
    """One window of features (layers, dim, time) to a response: head first, then pooling."""
    n = next(iter(features.values())).shape[-1]
    parts = []
    for name in ("text", "audio", "video"):
        part = np.zeros((n, share))
        if name in features:
            layers, dim = features[name].shape[:2]
            vectors = [
                [features[name][k, d, t] for k in range(layers) for d in range(dim)]
                for t in range(n)
            ]
            part = np.array(vectors) @ weights[f"projectors.{name}.weight"].T
            part = part + weights[f"projectors.{name}.bias"]
        parts.append(part)
    x = np.concatenate(parts, axis=1) + weights["time_pos_embed"][0, :n]
    encoder = config["brain_model_config"]["encoder"]
    for number in range(2 * encoder["depth"]):
        x = literal_layer(x, weights, number, encoder["heads"])
    x = literal_norm(x, weights["encoder.final_norm.g"].item())
    if "low_rank_head.weight" in weights:
        x = x @ weights["low_rank_head.weight"].T
    x = x @ weights["predictor.weights"][row] + weights["predictor.bias"][row]
    return literal_pooling(x, count)


def published_pair(folder: Path, hidden: int, heads: int, rank: int | None, count: int):
    """Published weights (double precision), their configuration, and the encoder made of them."""
    config = makers.published_config(
        brain_model_config__hidden=hidden,
        brain_model_config__encoder__heads=heads,
        brain_model_config__low_rank_head=rank,
        brain_model_config__max_seq_len=12,
        data__duration_trs=6,
    )
    weights = makers.published_weights(config, n_outputs=6)
    makers.make_published_checkpoint(folder, config, weights, n_output_timesteps=count)
    plain = {name: value.double().numpy() for name, value in weights.items()}
    return plain, config, load_folder(folder)[1]


@pytest.mark.parametrize(
    ("hidden", "heads", "rank", "samples", "count"),
    [
        (192, 3, 16, 10, 5),  # 64 wide heads: 32 of them turned, just half
        (144, 1, 16, 10, 5),  # 144 as published: 72 turned
        (120, 3, 16, 9, 4),  # 40 wide: half is too few, 32 turned; bins of pooling overlap
        (96, 2, None, 7, 7),  # no low-rank head, no pooling
    ],
)
def test_whole_network_is_the_literal_one(tmp_path, hidden, heads, rank, samples, count):
    weights, config, encoder = published_pair(tmp_path, hidden, heads, rank, count)
    features = draw_features(2, samples, makers.FEATURE_DIMS)
    rows = [2, 0]
    ours = encoder(features, torch.tensor(rows))
    for number, row in enumerate(rows):
        window = {name: series[number].double().numpy() for name, series in features.items()}
        literal = literal_window(window, weights, config, row, count, hidden // 3)
        assert literal.std(0).min() > 0.01  # it follows the stimulus
        assert close(ours[number], literal, 1e-4)


@pytest.mark.parametrize("names", [("video",), ("text", "audio"), ("audio", "video")])
def test_missing_modalities_are_zeros_in_the_literal_network_too(tmp_path, names):
    weights, config, encoder = published_pair(tmp_path, 96, 2, 8, 4)
    every = draw_features(1, 8, makers.FEATURE_DIMS)
    features = {name: every[name] for name in names}
    window = {name: series[0].double().numpy() for name, series in features.items()}
    literal = literal_window(window, weights, config, 2, 4, 32)
    assert close(encoder(features)[0], literal, 1e-4)


def test_one_block_is_the_literal_one():
    torch.manual_seed(0)
    block = Block(80, 2, 3)
    for weight in block.parameters():
        weight.data = torch.randn_like(weight) * weight.shape[-1] ** -0.5 + 0.1
    weights = {
        "encoder.layers.0.0.0.g": block.attention_norm.gain,
        "encoder.layers.0.1.to_q.weight": block.attention.query.weight,
        "encoder.layers.0.1.to_k.weight": block.attention.key.weight,
        "encoder.layers.0.1.to_v.weight": block.attention.value.weight,
        "encoder.layers.0.1.to_out.weight": block.attention.out.weight,
        "encoder.layers.0.2.residual_scale": block.attention_residual,
        "encoder.layers.1.0.0.g": block.feedforward_norm.gain,
        "encoder.layers.1.1.ff.0.0.weight": block.feedforward[0].weight,
        "encoder.layers.1.1.ff.0.0.bias": block.feedforward[0].bias,
        "encoder.layers.1.1.ff.2.weight": block.feedforward[2].weight,
        "encoder.layers.1.1.ff.2.bias": block.feedforward[2].bias,
        "encoder.layers.1.2.residual_scale": block.feedforward_residual,
    }
    weights = {name: value.detach().double().numpy() for name, value in weights.items()}
    x = torch.randn(2, 8, 80)
    rotation = rotations(8, 10_000.0 ** -(torch.arange(0, 32, 2) / 32))
    with torch.no_grad():
        ours = block(x, rotation)
    for number in range(2):
        middle = literal_layer(x[number].double().numpy(), weights, 0, heads=2)
        assert close(ours[number], literal_layer(middle, weights, 1, heads=2), 1e-4)


def test_pooling_and_head_commute():
    encoder, features = small_encoder(), draw_features()
    unpooled = encoder.head(
        encoder.low_rank(encoder.encode(encoder.fuse(features))), torch.tensor([1, 1])
    )
    pooled = np.stack([literal_pooling(window.numpy(), 5) for window in unpooled])
    assert close(encoder(features, 1), pooled, 1e-4)


def test_the_response_of_the_small_encoder_follows_its_features():
    assert small_encoder()(draw_features()).std(1).min() > 0.01


def test_every_sample_sees_every_other():
    encoder, features = small_encoder(), draw_features(1)
    later = {name: series.clone() for name, series in features.items()}
    later["text"][..., -1] += 1
    moved = (encoder(later) - encoder(features)).abs().amax((0, 2))
    assert (moved > 1e-5).all()
