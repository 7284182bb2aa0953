"""Reordered self-attention gives the numbers of `transformers`."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaModel, Wav2Vec2BertConfig, Wav2Vec2BertModel

from tribrain.features import relative_attention
from tribrain.features.relative_attention import spread_to_keys, use_reordered_attention

N_LAYERS = 3
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def small_model(implementation="sdpa", dtype=torch.float32, **changes):
    torch.manual_seed(0)
    settings = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": N_LAYERS,
        "num_attention_heads": 4,
        "vocab_size": None,
        "conv_depthwise_kernel_size": 7,
        "feature_projection_input_dim": 20,
        "initializer_range": 0.2,
        "left_max_position_embeddings": 9,
        "right_max_position_embeddings": 4,
        "attn_implementation": implementation,
    }
    return Wav2Vec2BertModel(Wav2Vec2BertConfig(**settings | changes)).eval().to(dtype)


def reordered(model):
    changed = copy.deepcopy(model)
    use_reordered_attention(changed)
    return changed


def states(model, inputs, mask=None):
    with torch.inference_mode():
        return model(inputs, attention_mask=mask, output_hidden_states=True).hidden_states


def assert_same_states(model, inputs, mask=None):
    expected, found = states(model, inputs, mask), states(reordered(model), inputs, mask)
    assert len(found) == len(expected) == N_LAYERS + 1
    tolerance = TOLERANCE[inputs.dtype]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)


def draw(batch, n, dtype=torch.float32):
    return torch.randn(batch, n, 20, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("n", [1, 3, 9, 14, 60, 200])
def test_states_are_those_of_transformers(n, implementation, dtype):
    assert_same_states(small_model(implementation, dtype), draw(1, n, dtype))


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_padding_is_masked_as_transformers_does(implementation, dtype):
    mask = torch.arange(50) < torch.tensor([50, 31, 5])[:, None]
    model = small_model(implementation, dtype)
    assert_same_states(model, draw(3, 50, dtype), mask.long())
    unmasked = states(reordered(model), draw(3, 50, dtype))[-1]
    assert not torch.allclose(
        states(reordered(model), draw(3, 50, dtype), mask.long())[-1][1], unmasked[1], atol=1e-2
    )


@pytest.mark.parametrize(("left", "right"), [(64, 8), (2, 30), (0, 5), (5, 0), (0, 0)])
@pytest.mark.parametrize("heads", [1, 2, 16])
def test_any_range_and_head_size(left, right, heads):
    model = small_model(
        left_max_position_embeddings=left,
        right_max_position_embeddings=right,
        num_attention_heads=heads,
    )
    assert_same_states(model, draw(2, 150))


def test_distances_matter():
    model = small_model()
    before = states(reordered(model), draw(1, 60))
    for layer in model.encoder.layers:
        layer.self_attn.distance_embedding.weight.data.zero_()
    after = states(reordered(model), draw(1, 60))
    assert (before[1] - after[1]).abs().max() > 1e-2


@pytest.mark.parametrize("block", [1, 7, 16, 59, 60, 1000])
def test_the_block_size_does_not_matter(monkeypatch, block):
    monkeypatch.setattr(relative_attention, "_block_size", lambda query: block)
    mask = torch.arange(60) < torch.tensor([60, 20])[:, None]
    assert_same_states(small_model(dtype=torch.float64), draw(2, 60, torch.float64), mask.long())


def test_a_block_holds_what_is_allowed():
    query = torch.empty(1, 16, 4500, 64, device="meta", dtype=torch.bfloat16)
    assert relative_attention._block_size(query) == 256 * 2**20 // (16 * 4500 * 2)
    assert relative_attention._block_size(torch.empty(1, 16, 4500, 64)) == 58
    assert relative_attention._block_size(torch.empty(64, 16, 4500, 1)) == 16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_as_close_as_that_of_transformers(dtype):
    exact = states(small_model(dtype=torch.float64), draw(2, 80, torch.float64))[1]
    model = small_model(dtype=dtype)
    theirs, ours = (states(m, draw(2, 80, dtype))[1] for m in (model, reordered(model)))
    assert ours.dtype == dtype
    assert (ours - exact).norm() < 1.2 * (theirs - exact).norm()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("n", [64, 501])
def test_a_gpu_gives_the_states_of_the_cpu(n, dtype):
    mask = (torch.arange(n) < torch.tensor([n, 20])[:, None]).long()
    expected = states(small_model(), draw(2, n), mask)[1]
    model = reordered(small_model(dtype=dtype)).cuda()
    found = states(model, draw(2, n, dtype).cuda(), mask.cuda())[1].float().cpu()
    assert (found - expected).norm() < (1e-4 if dtype == torch.float32 else 0.03) * expected.norm()


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_values_are_spread_as_a_double_loop_does(data):
    n_keys = data.draw(st.integers(1, 40))
    first = data.draw(st.integers(0, n_keys - 1))
    n_queries = data.draw(st.integers(1, n_keys - first))
    left, right = data.draw(st.integers(0, 12)), data.draw(st.integers(0, 12))
    values = torch.randn(2, n_queries, left + right + 1)
    expected = torch.empty(2, n_queries, n_keys)
    for i, j in itertools.product(range(n_queries), range(n_keys)):
        distance = min(max(j - (first + i), -left), right)
        expected[:, i, j] = values[:, i, distance + left]
    assert torch.equal(spread_to_keys(values, first, n_keys, left), expected)


@pytest.mark.parametrize("kind", ["relative", "rotary", None])
def test_other_position_embeddings_are_left_alone(kind):
    model = small_model(position_embeddings_type=kind)
    before = states(model, draw(1, 30))
    assert use_reordered_attention(model) == 0
    assert not any("forward" in vars(module) for module in model.modules())
    assert torch.equal(states(model, draw(1, 30))[-1], before[-1])


def test_other_models_are_left_alone():
    model = LlamaModel(
        LlamaConfig(
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            vocab_size=10,
        )
    )
    assert use_reordered_attention(model) == 0


def test_only_the_instance_changes():
    model, other = small_model(), small_model()
    names = list(model.state_dict())
    assert use_reordered_attention(model) == use_reordered_attention(model) == N_LAYERS
    assert list(model.state_dict()) == names
    assert not any("forward" in vars(module) for module in other.modules())
    assert "forward" in vars(model.encoder.layers[0].self_attn)


def test_the_adapter_keeps_its_attention():
    model = small_model(add_adapter=True, num_adapter_layers=1, output_hidden_size=32)
    changed, inputs = copy.deepcopy(model), draw(2, 40)
    assert use_reordered_attention(changed) == N_LAYERS
    with torch.inference_mode():
        expected, found = (m(inputs).last_hidden_state for m in (model, changed))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_attention_weights_can_still_be_had():
    model = small_model("eager")
    weights = reordered(model)(draw(1, 30), output_attentions=True).attentions
    expected = model(draw(1, 30), output_attentions=True).attentions
    assert len(weights) == N_LAYERS
    torch.testing.assert_close(weights, expected)


@pytest.mark.parametrize("training", [False, True])
def test_gradients_are_those_of_transformers(training):
    gradients = []
    stock = small_model(dtype=torch.float64, mask_time_prob=0.0)
    for model in (stock, reordered(stock)):
        torch.manual_seed(2)  # the same dropout
        model.train(training)
        # Cubed, since the last norm fixes the sum of the squares.
        model(draw(1, 40, torch.float64)).last_hidden_state.pow(3).sum().backward()
        gradients.append(model.encoder.layers[0].self_attn.distance_embedding.weight.grad)
    assert gradients[0].abs().max() > 1e-2
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-9, rtol=1e-9)
