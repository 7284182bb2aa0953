"""What the network is given: missing modalities, batches, subjects, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from network_makers import DIMS, close, draw_features, small_encoder
from tribrain.encoder.network import SubjectHead

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
    head = SubjectHead([2, 2, 2], 4).requires_grad_(False)
    for row in head.rows:
        row.bias.copy_(torch.randn(2))
    x, rows = torch.randn(4, 3, 4), torch.tensor([1, 2, 1, 0])
    expected = torch.stack(
        [x[n] @ head.rows[r].weight + head.rows[r].bias for n, r in enumerate(rows)]
    )
    assert close(head(x, rows), expected)


def test_gradients_reach_every_weight_that_takes_part():
    encoder = small_encoder().requires_grad_(True)
    encoder(draw_features(), torch.tensor([0, 2])).square().sum().backward()
    assert all(weight.grad is None for weight in encoder.head.rows[1].parameters())
    others = [
        weight
        for name, weight in encoder.named_parameters()
        if name != "position" and not name.startswith("head.rows.1.")
    ]
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


# --- several spaces ------------------------------------------------------------------------------


def test_rows_are_numbered_through_all_spaces_people_never_seen_last_in_each():
    encoder = small_encoder(n_outputs={"a": 6, "b": 3}, n_subjects={"a": 3, "b": 2})
    assert encoder.spaces == {"a": (6, range(3)), "b": (3, range(3, 5))}
    assert (encoder.n_outputs, encoder.n_subjects) == (6, 5)
    assert (encoder.unseen(), encoder.unseen("a"), encoder.unseen("b")) == (2, 2, 4)
    features = draw_features()
    assert encoder(features, 1).shape[-1] == 6
    assert encoder(features, torch.tensor([4, 3])).shape[-1] == 3
    assert torch.equal(encoder(features), encoder(features, 2))
    with pytest.raises(ValueError, match=r"rows \[1, 3\] lie in several spaces"):
        encoder(features, torch.tensor([1, 3]))


@pytest.mark.parametrize(
    ("outputs", "rows", "message"),
    [
        ({"a": 6}, {"b": 3}, "rows are given for"),
        ({"a": 6}, {"a": 0}, "that of people never seen at least"),
        ({}, {}, "rows are given for"),
        (6, 0, "that of people never seen at least"),
    ],
)
def test_spaces_without_rows_are_refused(outputs, rows, message):
    with pytest.raises(ValueError, match=message):
        small_encoder(n_outputs=outputs, n_subjects=rows)
