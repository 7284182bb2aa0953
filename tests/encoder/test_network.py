"""The network against the published program's numbers and against a literal reference."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import makers
from tribrain.encoder.checkpoints import load_folder
from tribrain.encoder.network import (
    Block,
    Encoder,
    ScaleNorm,
    SubjectHead,
    TemporalSmoothing,
    mlp,
    rotate,
    rotations,
)

DIMS = {"text": (2, 7), "audio": (1, 5), "video": (3, 4)}


def small_encoder(seed: int = 0, **changes) -> Encoder:
    """An encoder whose every weight is random and whose response follows its features."""
    settings = {
        "feature_dims": DIMS,
        "n_outputs": 6,
        "n_output_samples": 5,
        "n_subjects": 3,
        "hidden": 96,
        "depth": 2,
        "heads": 2,
        "max_samples": 16,
        "rank": 8,
    }
    encoder = Encoder(**{**settings, **changes})
    generator = torch.Generator().manual_seed(seed)
    for weight in encoder.parameters():
        drawn = torch.randn(weight.shape, generator=generator)
        weight.data = drawn * weight.shape[-1] ** -0.5 if weight.ndim > 1 else 0.5 + 0.2 * drawn
    return encoder.eval().requires_grad_(False)


def draw_features(batch: int = 2, samples: int = 10, dims=DIMS, seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(batch, *shape, samples, generator=generator)
        for name, shape in dims.items()
    }


def close(left: Tensor, right: Tensor | np.ndarray, tolerance: float = 1e-5) -> bool:
    right = torch.as_tensor(right).to(left.dtype)
    return left.shape == right.shape and torch.allclose(left, right, rtol=1e-4, atol=tolerance)


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


# --- rotary positions ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hidden", "heads", "turned"), [(1152, 8, 72), (192, 3, 32), (96, 2, 32), (120, 3, 32)]
)
def test_half_of_a_head_but_at_least_32_dimensions_are_turned(hidden, heads, turned):
    with torch.device("meta"):
        shape = small_encoder_shape(hidden, heads)
    assert shape == (turned // 2,)
    size = hidden // heads
    x = torch.ones(5, size)
    angles = rotations(5, 10_000.0 ** -(torch.arange(0, turned, 2) / turned))
    result = rotate(x, angles)
    assert torch.equal(result[:, turned:], x[:, turned:])
    assert (result[1:, :turned] != x[1:, :turned]).all()


def small_encoder_shape(hidden: int, heads: int) -> tuple[int, ...]:
    encoder = Encoder(
        feature_dims=DIMS, n_outputs=1, n_output_samples=1, hidden=hidden, heads=heads, depth=1
    )
    return tuple(encoder.inverse_frequencies.shape)


def test_inverse_frequencies_fall_from_1_by_powers_of_10000():
    expected = [10_000 ** (-2 * number / 72) for number in range(36)]
    encoder = Encoder(
        feature_dims=DIMS, n_outputs=1, n_output_samples=1, hidden=144, heads=1, depth=1
    )
    assert close(encoder.inverse_frequencies, np.array(expected), 1e-7)


def test_the_first_position_is_not_turned_and_no_length_changes():
    x = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    result = rotate(x, rotations(6, 10_000.0 ** -(torch.arange(0, 32, 2) / 32)))
    assert torch.equal(result[0], x[0])
    assert close(result.norm(dim=-1), x.norm(dim=-1))


def test_scores_depend_on_the_distance_alone():
    query, key = torch.randn(2, 40, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    angles = rotations(12, 10_000.0 ** -(torch.arange(0, 32, 2) / 32))
    scores = rotate(query.expand(12, 40), angles) @ rotate(key.expand(12, 40), angles).T
    for distance in range(-11, 12):
        along = torch.diagonal(scores, distance)
        assert close(along, along[:1].expand(len(along)), 1e-4), distance
    assert torch.diagonal(scores, 1)[0] != pytest.approx(float(torch.diagonal(scores, -1)[0]), 1e-3)


def test_rotation_pairs_the_first_half_with_the_second():
    x = torch.zeros(2, 40)
    x[:, 3] = 1.0
    result = rotate(x, rotations(2, torch.ones(16)))[1]
    assert result.nonzero().flatten().tolist() == [3, 19]
    assert close(result[[3, 19]], np.array([math.cos(1), math.sin(1)]))


# --- the parts -----------------------------------------------------------------------------------


def test_scale_norm_gives_every_vector_one_length_and_keeps_its_direction():
    norm = ScaleNorm(9)
    norm.gain.data.fill_(1.5)
    x = torch.randn(4, 9) * torch.tensor([[1e-4], [1.0], [1e3], [7.0]])
    result = norm(x).detach()
    assert close(result.norm(dim=-1), torch.full((4,), 3 * 1.5), 1e-4)
    assert close(functional.cosine_similarity(result, x), torch.ones(4))


def test_scale_norm_of_zeros_is_zeros():
    assert torch.equal(ScaleNorm(5)(torch.zeros(2, 5)), torch.zeros(2, 5))


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", [[6, 4], [6, 5, 4], [6, 5, 3, 4]])
def test_mlp_is_linear_maps_with_norm_and_gelu_between(sizes, norm, bias):
    torch.manual_seed(0)
    layers = mlp(sizes, norm=norm, bias=bias)
    x = torch.randn(3, 6)
    parameters = list(layers.parameters())
    expected = x
    for number in range(len(sizes) - 1):
        weight = parameters.pop(0)
        expected = functional.linear(expected, weight, parameters.pop(0) if bias else None)
        if number < len(sizes) - 2:
            if norm:
                gain, offset = parameters.pop(0), parameters.pop(0)
                expected = functional.layer_norm(expected, (len(gain),), gain, offset)
            expected = functional.gelu(expected)
    assert not parameters
    assert close(layers(x).detach(), expected.detach())


def test_smoothing_filters_each_channel_on_its_own_with_zeros_at_the_ends():
    smoothing = TemporalSmoothing(2, 3)
    smoothing.weight.data = torch.tensor([[[1.0, 2.0, 3.0]], [[0.0, 0.0, 1.0]]])
    x = torch.tensor([[[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]]])
    expected = torch.tensor([[[2 + 6.0, 20.0], [1 + 4 + 12.0, 40.0], [2 + 8.0, 0.0]]])
    assert close(smoothing(x).detach(), expected)


def test_untrained_smoothing_is_a_running_mean():
    x = torch.randn(1, 9, 4, generator=torch.Generator().manual_seed(0))
    result = TemporalSmoothing(4, 3)(x).detach()
    assert close(result[0, 1:-1], x[0].unfold(0, 3, 1).mean(-1))


def test_smoothing_and_combiner_come_before_the_position_embedding():
    encoder = small_encoder(depth=0, smoothing=3, combiner_sizes=[10])
    x = torch.randn(2, 6, 96, generator=torch.Generator().manual_seed(0))
    expected = encoder.combiner(encoder.smoothing(x)) + encoder.position[:6]
    assert close(encoder.encode(x), encoder.final_norm(expected))


def test_a_combiner_without_hidden_widths_is_one_linear_map_to_the_hidden_width():
    encoder = small_encoder(combiner_sizes=[], hidden=100, heads=2)
    assert tuple(encoder.combiner.weight.shape) == (100, 99)  # 3 modalities of 33 are joined
    assert encoder(draw_features()).shape == (2, 5, 6)


@pytest.mark.parametrize("norm", [True, False])
def test_projectors_of_several_layers_map_each_modality_to_its_share(norm):
    encoder = small_encoder(projector_sizes=[11], projector_norm=norm)
    features = draw_features()
    expected = []
    for name, series in features.items():
        inputs = series.permute(0, 3, 1, 2).flatten(2)  # (layer dim) order
        layers = list(encoder.projectors[name])
        assert len(layers) == (4 if norm else 3)
        for layer in layers:
            inputs = layer(inputs)
        expected.append(inputs)
    assert close(encoder.fuse(features), torch.cat(expected, -1))


def test_layers_are_averaged_where_the_recipe_says_mean():
    encoder, features = small_encoder(layer_aggregation="mean"), draw_features()
    averaged = {name: series.mean(1, keepdim=True) for name, series in features.items()}
    single = small_encoder(feature_dims={name: (1, dim) for name, (_, dim) in DIMS.items()})
    single.load_state_dict(encoder.state_dict())
    assert close(encoder(features), single(averaged))
    assert encoder.projectors["text"].in_features == 7


def test_layers_are_joined_layer_by_layer_where_the_recipe_says_cat():
    encoder, features = small_encoder(), draw_features()
    weight, bias = encoder.projectors["video"].weight, encoder.projectors["video"].bias
    by_layer = weight.unflatten(1, (3, 4))
    expected = torch.einsum("hld,bldt->bth", by_layer, features["video"]) + bias
    assert close(encoder.fuse(features)[..., 64:], expected)


def test_modalities_are_added_where_the_recipe_says_sum():
    encoder, features = small_encoder(modality_aggregation="sum"), draw_features()
    fused = encoder.fuse(features)
    alone = [encoder.fuse({name: series}) for name, series in features.items()]
    assert fused.shape == (2, 10, 96)
    assert close(fused, alone[0] + alone[1] + alone[2])


def test_modalities_stand_side_by_side_where_the_recipe_says_cat():
    encoder, features = small_encoder(), draw_features()
    fused = encoder.fuse(dict(reversed(features.items())))  # the order given does not matter
    for number, (name, series) in enumerate(features.items()):
        expected = encoder.projectors[name](series.flatten(1, 2).transpose(1, 2))
        assert close(fused[..., 32 * number : 32 * (number + 1)], expected)


def test_without_a_low_rank_head_subjects_read_the_hidden_width():
    encoder, features = small_encoder(rank=None), draw_features()
    assert encoder.low_rank is None
    assert tuple(encoder.head.weight.shape) == (3, 96, 6)
    encoded = encoder.encode(encoder.fuse(features)).unflatten(1, (5, 2)).mean(2)
    assert close(encoder(features, 1), encoded @ encoder.head.weight[1] + encoder.head.bias[1])


def test_without_a_position_embedding_any_length_fits():
    encoder = small_encoder(position_embedding=False)
    assert "position" not in encoder.state_dict()
    assert encoder(draw_features(samples=40)).shape == (2, 5, 6)


def test_only_the_first_positions_are_added():
    encoder, features = small_encoder(), draw_features()
    before = encoder(features)
    encoder.position[10:] = 1e6
    assert torch.equal(encoder(features), before)
    encoder.position[9] += 1
    assert not close(encoder(features), before)


def test_a_modality_without_dimensions_keeps_its_place_and_is_zeros():
    encoder = small_encoder(feature_dims={**DIMS, "audio": None})
    features = draw_features()
    del features["audio"]
    assert list(encoder.projectors) == ["text", "video"]
    fused = encoder.fuse(features)
    assert fused.shape == (2, 10, 96)
    assert torch.equal(fused[..., 32:64], torch.zeros(2, 10, 32))
    assert encoder(features).shape == (2, 5, 6)


# --- missing modalities, batches, subjects -------------------------------------------------------


@pytest.mark.parametrize("missing", DIMS)
def test_a_missing_modality_contributes_zeros_and_not_its_bias(missing):
    encoder, features = small_encoder(), draw_features()
    place = list(DIMS).index(missing)
    own = slice(32 * place, 32 * (place + 1))
    whole = encoder.fuse(features)
    left = encoder.fuse({name: series for name, series in features.items() if name != missing})
    silent = encoder.fuse({**features, missing: torch.zeros_like(features[missing])})
    assert torch.equal(left[..., own], torch.zeros(2, 10, 32))
    assert close(silent[0, 0, own], encoder.projectors[missing].bias)
    rest = [number for number in range(96) if not own.start <= number < own.stop]
    assert torch.equal(left[..., rest], whole[..., rest])


def test_a_missing_modality_is_not_a_silent_one_in_the_response():
    encoder, features = small_encoder(), draw_features()
    silent = {**features, "audio": torch.zeros_like(features["audio"])}
    del features["audio"]
    assert not close(encoder(features), encoder(silent), 1e-2)


def test_a_batch_of_mixed_subjects_is_each_window_alone():
    encoder, features = small_encoder(), draw_features(6)
    rows = torch.tensor([2, 0, 1, 0, 2, 2])
    together = encoder(features, rows)
    for number, row in enumerate(rows.tolist()):
        alone = {name: series[number : number + 1] for name, series in features.items()}
        assert close(together[number : number + 1], encoder(alone, row))


def test_a_window_does_not_depend_on_its_neighbours_in_the_batch():
    encoder, features = small_encoder(), draw_features(4)
    other = {name: series.clone() for name, series in features.items()}
    for series in other.values():
        series[1:] = 100.0
    assert close(encoder(features)[0], encoder(other)[0])


def test_one_subject_for_all_windows_or_one_a_window_are_the_same():
    encoder, features = small_encoder(), draw_features(3)
    for subject in (1, torch.tensor(1), torch.tensor([1]), torch.tensor([1, 1, 1])):
        assert torch.equal(encoder(features, subject), encoder(features, 1))


def test_nobody_in_particular_is_the_last_row():
    encoder, features = small_encoder(), draw_features()
    assert torch.equal(encoder(features), encoder(features, 2))
    assert not close(encoder(features), encoder(features, 1), 1e-2)


def test_a_head_of_one_row_is_that_of_the_unseen_subject():
    encoder, features = small_encoder(n_subjects=1), draw_features()
    assert torch.equal(encoder(features), encoder(features, 0))
    with pytest.raises(ValueError, match="subject rows"):
        encoder(features, 1)


def test_subject_head_reads_the_weights_of_each_window_s_row():
    torch.manual_seed(0)
    head = SubjectHead(3, 4, 2).requires_grad_(False)
    head.bias.data = torch.randn(3, 2)
    x, rows = torch.randn(4, 3, 4), torch.tensor([1, 2, 1, 0])
    expected = torch.stack([x[n] @ head.weight[r] + head.bias[r] for n, r in enumerate(rows)])
    assert close(head(x, rows), expected)


def test_gradients_reach_every_weight_that_takes_part():
    encoder = small_encoder().requires_grad_(True)
    encoder(draw_features(), torch.tensor([0, 2])).square().sum().backward()
    head = encoder.head.weight.grad.abs().amax((1, 2))
    assert (head > 0).tolist() == [True, False, True]
    others = [weight for name, weight in encoder.named_parameters() if name != "position"]
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in others)


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "told"),
    [
        ({"smell": torch.zeros(1, 2, 7, 4)}, "smell"),
        ({**draw_features(), "smell": torch.zeros(2, 2, 7, 10)}, "smell"),
        ({}, "no modality"),
    ],
)
def test_an_unknown_modality_is_named_beside_the_known_ones(features, told):
    with pytest.raises(ValueError, match=f"{told}.*text, audio, video"):
        small_encoder()(features)


def test_features_of_a_modality_built_without_are_refused():
    encoder = small_encoder(feature_dims={**DIMS, "audio": None})
    with pytest.raises(ValueError, match=r"audio.*reads text, video"):
        encoder(draw_features())


@pytest.mark.parametrize("shape", [(7, 2), (2, 8), (1, 7), (14, 1)])
def test_features_of_wrong_dimensions_are_told_both(shape):
    features = {**draw_features(), "text": torch.zeros(2, *shape, 10)}
    told = rf"text.*\({shape[0]}, {shape[1]}\).*\(2, 7\)"
    with pytest.raises(ValueError, match=told):
        small_encoder()(features)


def test_a_window_longer_than_the_positions_is_refused():
    encoder = small_encoder()
    assert encoder(draw_features(samples=16)).shape == (2, 5, 6)
    with pytest.raises(ValueError, match=r"17 samples.*16"):
        encoder(draw_features(samples=17))


@pytest.mark.parametrize(
    "rows", [3, -1, torch.tensor([0, 3]), torch.tensor([-1, 0]), torch.tensor([0, 1, 2])]
)
def test_subject_rows_that_do_not_fit_are_refused(rows):
    with pytest.raises(ValueError, match="2 rows from 0 to 2 fit"):
        small_encoder()(draw_features(), rows)


@pytest.mark.parametrize("option", ["layer_aggregation", "modality_aggregation"])
def test_an_unknown_way_of_joining_is_refused(option):
    with pytest.raises(ValueError, match=f"{option} 'stack'"):
        small_encoder(**{option: "stack"})


@pytest.mark.parametrize(("hidden", "heads"), [(96, 5), (96, 6), (100, 2)])
def test_widths_that_do_not_divide_are_refused_when_built(hidden, heads):
    with pytest.raises(ValueError, match=r"hidden|heads"):
        small_encoder(hidden=hidden, heads=heads)
