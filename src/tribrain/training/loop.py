"""The training loop.

Everything random in a step (which windows, what is dropped) follows from the seed and the number
of the epoch or step, so that a run that was stopped goes on bit by bit as if it had not been.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tribrain.encoder.network import Encoder
from tribrain.errors import InputError, InputWarning
from tribrain.training.data import Batch, Stretch, TrainingData
from tribrain.training.dropping import drop_modalities, drop_samples
from tribrain.training.losses import masked
from tribrain.training.optimisers import follow, make_optimiser, rate_at
from tribrain.training.settings import TrainingSettings
from tribrain.training.state import State, begun_with, check_same, load_state, save_state
from tribrain.training.validation import correlations

Report = Callable[[dict[str, float]], None]
STATE = "state.safetensors"
_EPOCH, _STEP = 1, 2  # keys of random numbers


@dataclass
class Course:
    """How a training went.

    Attributes
    ----------
    epochs : list of dict
        ``epoch``, ``loss`` (mean over its steps), ``rate`` (of its last step), and ``validation``
        (mean Pearson r) where there is validation.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)

    @property
    def best(self) -> int:
        """Epoch (from 1) with the best validation, the later of equals; the last one without."""
        values = [numbers.get("validation", math.nan) for numbers in self.epochs]
        ranks = [-math.inf if math.isnan(value) else value for value in values]
        return max(range(1, len(ranks) + 1), key=lambda n: (ranks[n - 1], n), default=0)


def train(
    encoder: Encoder,
    data: TrainingData,
    settings: TrainingSettings,
    *,
    folder: Path | None = None,
    resume: bool = False,
    sides: Sequence[str] = ("train",),
    validate: bool = True,
    device: str = "cpu",
    report: Report | None = None,
) -> tuple[Encoder, Course]:
    """Train an encoder. Seeds torch's own random numbers in every step.

    Parameters
    ----------
    encoder : Encoder
        Is changed. Parameters that require no gradient stay as they are.
    data : TrainingData
    settings : TrainingSettings
    folder : Path, optional
        Where ``state.safetensors`` is written after every epoch.
    resume : bool
        Go on from it, if it is there.
    sides : sequence of str
        Sides of the split that are trained on.
    validate : bool
        Correlate with the BOLD of the side "validation", if there is one, after every epoch.
    device : str
    report : callable, optional
        Called with the numbers of each epoch, after its state was written.

    Returns
    -------
    encoder : Encoder
        The one given, with the weights (their running mean, if there is one) of the best epoch.
    course : Course

    Raises
    ------
    InputError
        If there is nothing to train on, loss or weights are no longer finite, or the state cannot
        be written; the state of the last good epoch stays. If a state is damaged or was begun
        with other settings or data.

    Warns
    -----
    InputWarning
        If patience has no validation to go by.
    """
    stretches = [stretch for side in sides for stretch in data.side(side)]
    if not stretches:
        raise InputError(f"no window to train on ({', '.join(sides)})")
    if validate and "validation" in sides:
        raise ValueError("what is trained on cannot validate; validate=False fits")
    held = data.side("validation") if validate else []
    if validate and settings.patience and not held:
        text = "training.patience ends nothing, as no side of the split is for validation"
        warnings.warn(text, InputWarning, stacklevel=2)
    encoder = encoder.to(device)
    networks = {"model": encoder}
    if settings.average:
        networks["average"] = copy.deepcopy(encoder).requires_grad_(False)
    judged = networks.get("average", encoder)
    optimiser = make_optimiser(encoder, settings)
    states = torch.compile(encoder.states) if settings.compile else encoder.states
    per_step = settings.batch * settings.accumulate

    def order(epoch: int) -> list[tuple[Stretch, int]]:
        return data.drawn(stretches, _random(settings.seed, _EPOCH, epoch))

    steps = settings.epochs * math.ceil(len(order(1)) / per_step)  # each epoch has as many windows
    course, step = Course(), 0
    best: Mapping[str, Tensor] = {}  # on the CPU: a third copy seldom fits beside the moments
    begun = begun_with(encoder, data, (stretches, held), settings)
    file = folder / STATE if folder is not None else None
    if resume and file is not None and file.is_file():
        state = load_state(file)
        check_same(file, state.facts["begun"], begun)
        for part, network in networks.items():
            network.load_state_dict(state.weights[part])
        optimiser.load_state_dict(dict(state.optimiser))
        course, step = Course(state.facts["epochs"]), state.facts["step"]
        best = state.weights.get("best") or _weights(judged)

    for epoch in range(len(course.epochs) + 1, settings.epochs + 1):
        if settings.patience and len(course.epochs) - course.best >= settings.patience:
            break
        encoder.train()
        losses = []
        windows = order(epoch)
        for first in range(0, len(windows), per_step):
            rate = rate_at(step, steps, settings)
            for group in optimiser.param_groups:
                group["lr"] = rate
            torch.manual_seed(int(_random(settings.seed, _STEP, step).integers(2**63)))
            chosen = windows[first : first + per_step]
            losses.append(_step(encoder, states, optimiser, data, chosen, settings, step))
            step += 1
            if judged is not encoder:
                follow(judged, encoder, min(settings.average, step / (step + 10)))
        _check_finite(encoder, epoch)
        numbers = {"epoch": epoch, "loss": float(np.mean(losses)), "rate": rate}
        if held:
            numbers["validation"] = _mean(correlations(judged, data, held, device), epoch)
        course.epochs.append(numbers)
        if course.best == epoch:
            best = _weights(judged)
        if file is not None:
            weights: dict[str, Mapping[str, Tensor]]
            weights = {part: network.state_dict() for part, network in networks.items()}
            if course.best < epoch:
                weights["best"] = best
            facts = {"begun": begun, "epochs": course.epochs, "step": step}
            save_state(file, State(weights, optimiser.state_dict(), facts))
        if report is not None:
            report(numbers)
    encoder.load_state_dict(best)
    return encoder.eval().requires_grad_(False), course


def _step(
    encoder: Encoder,
    states: Callable[..., Tensor],
    optimiser: torch.optim.Optimizer,
    data: TrainingData,
    chosen: Sequence[tuple[Stretch, int]],
    settings: TrainingSettings,
    step: int,
) -> float:
    """One step of the optimiser over up to `accumulate` batches; returns the loss.

    Each batch counts by its windows, whatever was measured in them.
    """
    device = next(encoder.parameters()).device
    optimiser.zero_grad(set_to_none=True)
    total = 0.0
    for first in range(0, len(chosen), settings.batch):
        part = chosen[first : first + settings.batch]
        batch = data.batch(part).to(str(device))
        with torch.autocast(device.type, torch.bfloat16, settings.precision == "bf16"):
            loss = batch_loss(encoder, batch, settings, states)
        share = loss * (len(part) / len(chosen))
        share.backward()
        value = float(share.detach())
        if not math.isfinite(value):
            raise _not_finite(f"the loss is {value}", step, part, data.length)
        total += value
    norm = nn.utils.clip_grad_norm_(encoder.parameters(), settings.clip or math.inf)
    if not torch.isfinite(norm):
        raise _not_finite(f"the gradient is {float(norm)}", step, chosen, data.length)
    optimiser.step()
    return total


def batch_loss(
    encoder: Encoder,
    batch: Batch,
    settings: TrainingSettings,
    states: Callable[..., Tensor] | None = None,
) -> Tensor:
    """Loss of a batch, with modalities, samples and subjects dropped as the settings say.

    `states` is a compiled `Encoder.states`, if there is one.
    """
    kept = drop_modalities(batch.features, settings.modality_dropout, batch.present)
    features = drop_samples(batch.features, settings.time_dropout)
    found = (states or encoder.states)(features, kept)
    unseen = encoder.n_subjects - 1
    own = torch.where(batch.rows < 0, unseen, batch.rows)

    def loss(rows: Tensor) -> Tensor:
        return masked(settings.loss, encoder.read(found, rows), batch.targets)

    share = settings.subject_dropout
    if not share:
        return loss(own)
    if settings.expected_subjects:
        return (1 - share) * loss(own) + share * loss(torch.full_like(own, unseen))
    dropped = torch.rand(len(own), device=own.device) < share
    return loss(torch.where(dropped, unseen, own))


def _not_finite(
    what: str, step: int, windows: Sequence[tuple[Stretch, int]], length: int
) -> InputError:
    names = (f"{one.run.name} rows {row} to {row + length - 1}" for one, row in windows)
    return InputError(
        f"{what} in step {step + 1}, with {', '.join(names)}; look there for extreme values, or "
        "lower training.rate; the state of the last good epoch stays"
    )


def _check_finite(encoder: nn.Module, epoch: int) -> None:
    for name, value in encoder.named_parameters():
        if not torch.isfinite(value).all():
            raise InputError(
                f"weights {name} are not finite after epoch {epoch}; lower training.rate; the "
                "state of the last good epoch stays"
            )


def _mean(values: np.ndarray, epoch: int) -> float:
    """Mean of what is a number."""
    found = values[np.isfinite(values)]
    if len(found):
        return float(found.mean())
    text = f"epoch {epoch} has no validation: what is measured or predicted there does not vary"
    warnings.warn(text, InputWarning, stacklevel=3)
    return math.nan


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.to("cpu", copy=True) for key, value in network.state_dict().items()}


def _random(*keys: int) -> np.random.Generator:
    return np.random.default_rng(keys)
