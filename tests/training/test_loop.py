"""The loop on known truths: what is learned, drawn, averaged, clipped, stopped and refused."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from loop_makers import DIMS, EVERYTHING, LENGTH, make_data, make_encoder, same_weights
from tribrain.errors import InputError, InputWarning
from tribrain.training.data import Batch
from tribrain.training.dropping import drop_modalities, drop_samples
from tribrain.training.loop import STATE, Course, batch_loss, train
from tribrain.training.losses import masked
from tribrain.training.optimisers import make_optimiser, rate_at
from tribrain.training.settings import TrainingSettings
from tribrain.training.state import load_state

PLAIN = TrainingSettings(
    epochs=1, batch=24, rate=1e-3, clip=0.0, modality_dropout=0.0, subject_dropout=0.0
)  # 24 windows are all that the 6 runs of 40 s have


def settings(**changes) -> TrainingSettings:
    return dataclasses.replace(PLAIN, **changes)


def gradients(encoder: torch.nn.Module) -> torch.Tensor:
    """Of what has one: rows that no window is read by have none."""
    return torch.cat([p.grad.flatten() for p in encoder.parameters() if p.grad is not None])


def flat(encoder: torch.nn.Module) -> torch.Tensor:
    return torch.cat([value.detach().flatten() for value in encoder.parameters()]).clone()


def one_batch(data, n: int = 6) -> Batch:
    """The first windows of runs of both people."""
    return data.batch([(stretch, stretch.first) for stretch in data.stretches[:n]])


# --- seeds ---------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_weights_and_another_others():
    data = make_data()
    found = {}
    for key, seed in (("one", 0), ("again", 0), ("other", 1)):
        chosen = dataclasses.replace(EVERYTHING, epochs=2, seed=seed)
        torch.manual_seed(len(found))  # what was drawn before does not matter
        encoder = make_encoder(data)
        torch.rand(len(found))
        found[key] = train(encoder, data, chosen)
    assert same_weights(found["one"][0], found["again"][0])
    assert found["one"][1] == found["again"][1]
    assert not same_weights(found["one"][0], found["other"][0])


@pytest.mark.parametrize(
    "changes",
    [{"modality_dropout": 0.3}, {"subject_dropout": 0.3}, {"time_dropout": 0.3}],
    ids=lambda changes: next(iter(changes)),
)
def test_what_is_dropped_differs_from_step_to_step(changes):
    data, chosen = make_data(), settings(**changes)
    encoder, batch = make_encoder(data), one_batch(data)
    with torch.no_grad():
        losses = {float(batch_loss(encoder.eval(), batch, chosen)) for _ in range(8)}
    assert len(losses) > 4


# --- a linear teacher ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes", [{}, {"optimiser": "adam", "loss": "pearson", "schedule": "cosine", "average": 0.9}]
)
def test_a_linear_teacher_is_learned(changes):
    data = make_data(seconds=60)
    chosen = settings(epochs=30, batch=4, rate=6e-3, clip=1.0, **changes)
    model, course = train(make_encoder(data, dropout=0.0), data, chosen)
    assert course.epochs[-1]["loss"] < 0.3 * course.epochs[0]["loss"]
    assert course.epochs[course.best - 1]["validation"] > 0.9
    assert not model.training
    assert not any(value.requires_grad for value in model.parameters())


def test_nothing_is_learned_where_nothing_is_there():
    data = make_data(seconds=60)
    random = np.random.default_rng(0)
    for values in data.studies[0].values.values():
        values[:] = random.normal(size=values.shape)
    course = train(make_encoder(data), data, settings(epochs=8, batch=4, rate=6e-3))[1]
    assert abs(course.epochs[-1]["validation"]) < 0.15


# --- accumulation --------------------------------------------------------------------------------


def gradient_of_a_step(data, chosen: TrainingSettings, **changes) -> torch.Tensor:
    encoder = make_encoder(data, dropout=0.0, **changes)
    model, _ = train(encoder, data, chosen, validate=False)
    return gradients(model)


def test_accumulation_gives_the_gradient_of_the_whole_batch():
    data = make_data()
    whole = gradient_of_a_step(data, settings())
    assert float(whole.abs().max()) > 1e-3
    for batch, accumulate in ((6, 4), (5, 5), (1, 24)):  # 5 fives are more than there are windows
        found = gradient_of_a_step(data, settings(batch=batch, accumulate=accumulate))
        torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-6)


def test_batches_count_by_their_windows_whatever_was_measured():
    data = make_data()
    random = np.random.default_rng(1)
    for values in data.studies[0].values.values():
        values[random.random(len(values)) < 0.4] = np.nan
    found = gradient_of_a_step(data, settings(batch=7, accumulate=4))
    order = data.drawn(data.side("train"), np.random.default_rng((0, 1, 1)))
    encoder = make_encoder(data, dropout=0.0)
    for first in range(0, 24, 7):
        part = order[first : first + 7]
        batch = data.batch(part)
        predicted = encoder(batch.features, batch.rows)
        squares = (predicted - batch.targets)[~batch.targets.isnan()] ** 2
        (squares.mean() * len(part) / 24).backward()
    torch.testing.assert_close(found, gradients(encoder), rtol=1e-4, atol=1e-6)


# --- running mean, clipping, decay, precision ----------------------------------------------------


@pytest.mark.parametrize("decay", [0.05, 0.3, 0.99])
def test_the_running_mean_is_a_plain_recursion(tmp_path, decay):
    data, encoder = make_data(validation=False), make_encoder(make_data())
    expected, kept = flat(encoder).double(), []

    def report(_):
        kept.append(flat(encoder).double())

    chosen = settings(epochs=6, batch=32, average=decay, rate=0.01, schedule="constant")
    # An epoch is a step.
    model, _ = train(encoder, data, chosen, folder=tmp_path, report=report)
    for step, weights in enumerate(kept, start=1):
        now = min(decay, step / (step + 10))
        expected = now * expected + (1 - now) * weights
    assert load_state(tmp_path / STATE).facts["step"] == 6
    torch.testing.assert_close(flat(model).double(), expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(expected, kept[-1], atol=1e-4)


def test_the_gradient_is_clipped_to_its_norm_and_keeps_its_direction():
    data = make_data()
    whole = gradient_of_a_step(data, settings())
    assert float(whole.norm()) > 0.2
    clipped = gradient_of_a_step(data, settings(clip=0.1))
    torch.testing.assert_close(clipped.norm(), torch.tensor(0.1), rtol=1e-3, atol=0)
    torch.testing.assert_close(clipped / 0.1, whole / whole.norm(), rtol=1e-3, atol=1e-5)
    assert torch.equal(gradient_of_a_step(data, settings(clip=1e3)), whole)


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_gains_biases_and_positions_are_not_decayed(kind):
    encoder = make_encoder(make_data(), smoothing=3, combiner_sizes=(16,))
    optimiser = make_optimiser(encoder, settings(decay=0.3, optimiser=kind))
    assert type(optimiser).__name__.lower() == kind
    decay = {id(p): group["weight_decay"] for group in optimiser.param_groups
             for p in group["params"]}  # fmt: skip
    found = {name: decay[id(value)] for name, value in encoder.named_parameters()}
    decayed = {name for name, value in found.items() if value}
    assert {found[name] for name in decayed} == {0.3}
    rows = {name for name in found if name.startswith("head.")}
    assert rows - decayed == {f"head.rows.{row}.bias" for row in range(encoder.n_subjects)}
    for name in found:
        plain = (
            name.endswith(("bias", "gain", "residual", "position")) or name == "combiner.1.weight"
        )
        assert (name in decayed) != plain, name


def test_what_requires_no_gradient_stays():
    data, encoder = make_data(), make_encoder(make_data())
    encoder.requires_grad_(False).head.requires_grad_(True)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    model, _ = train(encoder, data, settings(decay=0.1, rate=0.1))
    for key, value in model.state_dict().items():
        # Nobody is predicted by the last row, as no subject is dropped.
        trained = key.startswith("head.") and not key.startswith("head.rows.2.")
        assert torch.equal(value, before[key]) != trained, key


def test_bfloat16_on_the_cpu_is_near_and_keeps_weights_in_float32():
    data = make_data()
    found = {}
    for precision in ("fp32", "bf16"):
        chosen = settings(epochs=3, batch=6, precision=precision)
        found[precision] = train(make_encoder(data, dropout=0.0), data, chosen)
    (plain, expected), (half, course) = found["fp32"], found["bf16"]
    assert {value.dtype for value in half.parameters()} == {torch.float32}
    assert not same_weights(plain, half)
    for one, other in zip(course.epochs, expected.epochs, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=0.02)
        assert one["loss"] != other["loss"]


# --- the learning rate ---------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "warm_up"), [(20, 0.1), (137, 0.1), (50, 0.33), (1000, 0.05)])
def test_one_cycle_is_that_of_torch(steps, warm_up):
    chosen = settings(schedule="one_cycle", warm_up=warm_up, rate=3e-4)
    optimiser = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=3e-4, total_steps=steps, pct_start=warm_up, anneal_strategy="cos"
    )
    for step in range(steps):
        assert abs(rate_at(step, steps, chosen) - schedule.get_last_lr()[0]) < 1e-6 * 3e-4
        optimiser.step()
        if step < steps - 1:
            schedule.step()


@pytest.mark.parametrize(("steps", "warm_up"), [(40, 0.1), (41, 0.25), (10, 0.0)])
def test_cosine_rises_linearly_and_falls_by_a_cosine(steps, warm_up):
    chosen = settings(schedule="cosine", warm_up=warm_up, rate=0.5)
    found = [rate_at(step, steps, chosen) for step in range(steps)]
    rise = warm_up * steps
    falling = [step for step in range(steps) if step >= rise]
    assert found[: math.ceil(rise)] == pytest.approx(
        [min(0.5, 0.5 * (step + 1) / rise) for step in range(math.ceil(rise))]
    )
    assert [found[step] for step in falling] == pytest.approx(
        [0.25 * (1 + math.cos(math.pi * (step - rise) / (steps - rise))) for step in falling]
    )
    assert min(found) > 0


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "constant"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_few_steps_are_not_all_at_no_rate(schedule, steps):
    for warm_up in (0.0, 0.1, 0.5):
        chosen = settings(schedule=schedule, warm_up=warm_up, rate=1.0)
        found = [rate_at(step, steps, chosen) for step in range(steps)]
        assert max(found) > 0.4
        assert all(0 < rate <= 1 for rate in found)


def test_the_loop_follows_the_schedule_to_its_end(monkeypatch):
    data, found = make_data(), []

    def noted(step, steps, chosen):
        found.append((step, steps))
        return rate_at(step, steps, chosen)

    monkeypatch.setattr("tribrain.training.loop.rate_at", noted)
    course = train(make_encoder(data), data, settings(epochs=3, batch=5, accumulate=2))[1]
    assert found == [(step, 9) for step in range(9)]  # 24 windows, ten a step, thrice
    assert course.epochs[1]["rate"] == rate_at(5, 9, settings())


# --- dropping ------------------------------------------------------------------------------------


@pytest.mark.parametrize("probability", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("names", ["ab", "abc"])
def test_modalities_are_dropped_as_often_as_said_and_never_all(probability, names):
    torch.manual_seed(0)
    n = 40_000
    features = {name: torch.zeros(n, 1, 1, 1) for name in names}
    kept = drop_modalities(features, probability)
    assert list(kept) == list(names)
    there = torch.stack(list(kept.values()))
    assert bool(there.any(dim=0).all())
    # All would be dropped with probability p^M; one of them, which is drawn, is then kept.
    expected = probability - probability ** len(names) / len(names)
    for row in there:
        assert float((~row).float().mean()) == pytest.approx(expected, abs=0.012)
    # But for that, one is dropped whether another is or not.
    if len(names) == 3:
        both = float((~there[0] & ~there[1]).float().mean())
        assert both == pytest.approx(probability**2 - probability**3 * 2 / 3, abs=0.012)


def test_one_modality_or_no_probability_drops_nothing():
    one = {"a": torch.zeros(3, 1, 1, 1)}
    assert drop_modalities(one, 0.9) is None
    assert drop_modalities(one | {"b": torch.zeros(3, 1, 1, 1)}, 0.0) is None


@pytest.mark.parametrize("aggregation", ["cat", "sum"])
def test_a_dropped_modality_is_seen_as_one_that_is_missing(aggregation):
    data = make_data()
    encoder = make_encoder(data, modality_aggregation=aggregation).eval()
    features = one_batch(data).features
    for projector in encoder.projectors.values():
        torch.nn.init.normal_(projector.bias)
    n = len(features["sound"])
    for name in DIMS:
        none = {name: torch.zeros(n, dtype=torch.bool)}
        left = {other: series for other, series in features.items() if other != name}
        assert torch.equal(encoder(features, 0, none), encoder(left, 0))
        zeros = features | {name: torch.zeros_like(features[name])}
        assert not torch.allclose(encoder(features, 0, none), encoder(zeros, 0))
    # In some windows alone, it is missing there alone.
    kept = torch.tensor([True, False] * (n // 2))
    some = encoder(features, 0, {"sound": kept})
    torch.testing.assert_close(some[kept], encoder(features, 0)[kept])
    torch.testing.assert_close(some[~kept], encoder({"picture": features["picture"]}, 0)[~kept])


def test_no_gradient_reaches_the_projector_of_what_was_dropped():
    data = make_data()
    encoder, batch = make_encoder(data), one_batch(data)
    kept = {"sound": torch.zeros(len(batch.rows), dtype=torch.bool)}
    masked("mse", encoder(batch.features, batch.rows, kept), batch.targets).backward()
    assert not encoder.projectors["sound"].weight.grad.any()
    assert encoder.projectors["picture"].weight.grad.any()


def test_samples_are_dropped_in_all_modalities_together():
    torch.manual_seed(0)
    features = {"a": torch.ones(200, 2, 3, 50), "b": torch.ones(200, 1, 1, 50)}
    found = drop_samples(features, 0.3)
    one, other = found["a"].amax((1, 2)), found["b"].amax((1, 2))
    assert torch.equal(one, other)
    assert torch.equal(found["a"].amin((1, 2)), one)
    assert float((one == 0).float().mean()) == pytest.approx(0.3, abs=0.02)
    assert drop_samples(features, 0.0) is features


@pytest.mark.parametrize("loss", ["mse", "pearson"])
def test_expected_subjects_is_the_mean_over_drawn_ones(loss):
    data = make_data()
    encoder, batch = make_encoder(data, dropout=0.0), one_batch(data)
    batch.targets[0, :4] = math.nan
    batch.rows[2] = -1  # someone without a row
    expected = batch_loss(
        encoder, batch, settings(loss=loss, subject_dropout=0.3, expected_subjects=True)
    )
    drawn_settings = settings(loss=loss, subject_dropout=0.3)
    torch.manual_seed(0)
    with torch.no_grad():
        drawn = torch.stack([batch_loss(encoder, batch, drawn_settings) for _ in range(300)])
    error = float(drawn.std()) / math.sqrt(len(drawn))
    assert error > 0
    assert abs(float(drawn.mean()) - float(expected.detach())) < 4 * error
    own = masked(loss, encoder(batch.features, batch.rows % 3), batch.targets)
    unseen = masked(loss, encoder(batch.features), batch.targets)
    assert abs(float((own - unseen).detach())) > 6 * error  # the mean could tell
    torch.testing.assert_close(expected, 0.7 * own + 0.3 * unseen)


def test_expected_subjects_runs_the_encoder_once():
    data = make_data()
    encoder, calls = make_encoder(data), []
    encoder.final_norm.register_forward_hook(lambda *_: calls.append("encoder"))
    encoder.head.register_forward_hook(lambda *_: calls.append("head"))
    batch_loss(encoder, one_batch(data), settings(subject_dropout=0.3, expected_subjects=True))
    assert calls == ["encoder", "head", "head"]


def test_people_without_a_row_are_predicted_by_the_row_of_people_never_seen():
    data = make_data()
    data.subjects.clear()
    encoder = make_encoder(make_data(), dropout=0.0)
    batch = one_batch(data)
    batch.rows[:] = -1
    batch_loss(encoder, batch, PLAIN).backward()
    found = [row.weight.grad for row in encoder.head.rows]
    assert found[:2] == [None, None]
    assert found[2].abs().sum() > 0


# --- validation and when it ends -----------------------------------------------------------------


def validations(monkeypatch, *values: float) -> None:
    left = list(values)
    monkeypatch.setattr(
        "tribrain.training.loop.correlations", lambda *_, **__: np.array([left.pop(0)], float)
    )


@pytest.mark.parametrize(
    ("values", "patience", "n", "best"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5], 1, 5, 5),
        ([0.1, 0.3, 0.2, 0.25, 0.9], 2, 4, 2),
        ([0.1, 0.3, 0.2, 0.4, 0.1], 2, 5, 4),
        ([0.3, 0.2, 0.1, 0.0, -0.1], 0, 5, 1),
        ([0.3, 0.3, 0.2, 0.1, 0.5], 2, 4, 2),
        ([-0.5, -0.4, -0.6, -0.7, 0.0], 2, 4, 2),
    ],
)
def test_it_ends_when_patience_is_over_and_the_best_epoch_is_given(
    monkeypatch, values, patience, n, best
):
    validations(monkeypatch, *values)
    data, kept = make_data(), []
    encoder = make_encoder(data)
    model, course = train(
        encoder, data, settings(epochs=5, patience=patience),
        report=lambda numbers: kept.append(flat(encoder)),
    )  # fmt: skip
    assert [one["validation"] for one in course.epochs] == values[:n]
    assert course.best == best
    assert torch.equal(flat(model), kept[best - 1])
    assert not torch.equal(kept[0], kept[-1])


def test_a_validation_that_is_no_number_is_said_and_is_never_the_best(monkeypatch):
    validations(monkeypatch, 0.2, math.nan, 0.1)
    data = make_data()
    with pytest.warns(InputWarning, match="epoch 2 has no validation"):
        course = train(make_encoder(data), data, settings(epochs=3))[1]
    assert course.best == 1


def test_runs_without_a_correlation_do_not_count(monkeypatch):
    monkeypatch.setattr(
        "tribrain.training.loop.correlations", lambda *_, **__: np.array([0.2, math.nan, 0.4])
    )
    data = make_data()
    course = train(make_encoder(data), data, PLAIN)[1]
    assert course.epochs[0]["validation"] == pytest.approx(0.3)


def test_the_best_of_no_epochs_and_of_epochs_without_a_number():
    assert Course().best == 0
    assert Course([{}, {}]).best == 2
    assert Course([{"validation": math.nan}] * 3).best == 3


@pytest.mark.parametrize("changes", [{"validate": False}, {"data": make_data(validation=False)}])
def test_without_validation_the_last_epoch_is_given(changes):
    data = changes.pop("data", None) or make_data()
    encoder, kept = make_encoder(data), []
    model, course = train(
        encoder, data, settings(epochs=3), report=lambda _: kept.append(flat(encoder)), **changes
    )
    assert course.best == 3
    assert all("validation" not in numbers for numbers in course.epochs)
    assert torch.equal(flat(model), kept[-1])


def test_patience_without_validation_is_said():
    data = make_data(validation=False)
    with pytest.warns(InputWarning, match="patience ends nothing"):
        train(make_encoder(data), data, settings(patience=2))
    train(make_encoder(data), data, settings(patience=2), validate=False)  # asked for: not said


def test_validation_follows_the_running_mean(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "tribrain.training.loop.correlations",
        lambda model, *_, **__: seen.append(model) or np.array([0.5]),
    )
    data = make_data()
    encoder = make_encoder(data)
    train(encoder, data, settings(average=0.9))
    assert seen[0] is not encoder


def test_sides_are_those_asked_for():
    data = make_data()
    with pytest.raises(InputError, match=r"no window to train on \(test\)"):
        train(make_encoder(data), data, PLAIN, sides=("test",))
    with pytest.raises(ValueError, match="cannot validate"):
        train(make_encoder(data), data, PLAIN, sides=("train", "validation"))
    both = settings(batch=100)
    one, _ = train(make_encoder(data), data, both, validate=False)
    two, _ = train(make_encoder(data), data, both, validate=False, sides=("train", "validation"))
    assert not torch.equal(gradients(one), gradients(two))


# --- numbers that are none -----------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.inf, 1e30])
def test_a_loss_that_is_no_number_names_the_batch_and_keeps_the_last_good_epoch(tmp_path, value):
    plain = make_data()
    expected, _ = train(make_encoder(plain), plain, settings(epochs=4, batch=2))
    data = make_data()
    bold = data.studies[0].values["sub-1_task-film2"]
    before = bold[15].copy()

    def spoil(numbers):
        if numbers["epoch"] == 2:
            bold[15] = value

    chosen = settings(epochs=4, batch=2)
    with pytest.raises(InputError, match="the loss is inf in step") as error:
        train(make_encoder(data), data, chosen, folder=tmp_path, report=spoil)
    message = str(error.value)
    assert message.isprintable()
    assert "sub-1_task-film2 rows " in message
    named = [part.split(",")[0].split(";")[0] for part in message.split("_task-film2 rows ")[1:]]
    spans = [[int(row) for row in part.split(" to ")] for part in named]
    assert any(first <= 15 <= last and last - first == LENGTH - 1 for first, last in spans)
    assert message.count(" rows ") == 2  # the windows of the batch and no others
    assert len(load_state(tmp_path / STATE).facts["epochs"]) == 2
    bold[15] = before
    model, _ = train(make_encoder(data, seed=5), data, chosen, folder=tmp_path, resume=True)
    assert same_weights(model, expected)


def test_a_gradient_that_is_no_number_is_noticed_before_it_moves_weights(tmp_path):
    data = make_data()
    encoder = make_encoder(data)
    encoder.position.register_hook(lambda gradient: gradient * math.nan)
    before = flat(encoder)
    with pytest.raises(InputError, match="the gradient is nan in step 1, with sub-"):
        train(encoder, data, PLAIN, folder=tmp_path)
    assert torch.equal(flat(encoder), before)
    assert not list(tmp_path.iterdir())


def test_weights_that_are_no_numbers_are_noticed_though_the_loss_was_one(tmp_path):
    data = make_data()
    encoder = make_encoder(data)
    with torch.no_grad():
        encoder.head.rows[-1].weight[0, 0] = math.inf  # of the row that no window is predicted by
    with pytest.raises(
        InputError, match=r"weights head\.rows\.2\.weight are not finite after epoch 1"
    ):
        train(encoder, data, PLAIN, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_window_in_which_nothing_was_measured_teaches_nothing():
    data = make_data()
    for values in data.studies[0].values.values():
        values[:] = np.nan
    encoder = make_encoder(data)
    before = flat(encoder)
    model, course = train(encoder, data, settings(), validate=False)
    assert course.epochs[0]["loss"] == 0
    assert torch.equal(flat(model), before)


def test_what_a_window_lacks_is_missing_and_never_the_one_that_is_spared():
    features = {"a": torch.zeros(4000, 1, 1, 2), "b": torch.zeros(4000, 1, 1, 2)}
    has_a = torch.arange(4000) % 2 == 0
    present = {"a": has_a, "b": torch.ones(4000, dtype=torch.bool)}
    assert drop_modalities(features, 0.0, present) == present
    torch.manual_seed(0)
    kept = drop_modalities(features, 0.5, present)
    assert not kept["a"][~has_a].any()
    assert kept["b"][~has_a].all()
    assert (kept["a"] | kept["b"]).all()
    # of two, both dropped with 1/4, of which each half is spared
    assert abs(kept["a"][has_a].float().mean() - 0.625) < 0.04
