"""The parts of the network, each on its own, and the options that choose them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from network_makers import DIMS, close, draw_features, small_encoder
from tribrain.encoder.network import Encoder, ScaleNorm, TemporalSmoothing, mlp, rotate, rotations

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
    assert [tuple(row.weight.shape) for row in encoder.head.rows] == [(96, 6)] * 3
    encoded = encoder.encode(encoder.fuse(features)).unflatten(1, (5, 2)).mean(2)
    row = encoder.head.rows[1]
    assert close(encoder(features, 1), encoded @ row.weight + row.bias)


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
