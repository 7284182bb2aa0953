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
from tribrain.training.distributed import Processes, Share, local
from tribrain.training.dropping import drop_modalities, drop_samples
from tribrain.training.losses import masked
from tribrain.training.optimisers import follow, make_optimiser, rate_at
from tribrain.training.settings import TrainingSettings
from tribrain.training.state import State, begun_with, restore, save_state
from tribrain.training.validation import correlations, mean_of_numbers

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
    processes: Processes | None = None,
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
    processes : Processes, optional
        As `tribrain.training.torchrun.joined` gives them, with their device.
    report : callable, optional
        Called with the numbers of each epoch, after its state was written; in the first process.

    Returns
    -------
    encoder : Encoder
        With the weights (or their running mean) of the best epoch: the one given, or a copy of it
        where processes have parts.
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
    processes = processes or Processes(device=device)
    begun = begun_with(encoder, data, (stretches, held), settings)
    trained = processes.plain(encoder)
    networks = {"model": encoder}
    if settings.average:
        networks["average"] = copy.deepcopy(encoder).requires_grad_(False)
    for network in networks.values():
        processes.spread(network, settings.precision)
    judged = networks.get("average", encoder)
    optimiser = make_optimiser(encoder, settings)
    states = torch.compile(encoder.states) if settings.compile else encoder.states
    per_step = settings.batch * settings.accumulate

    def order(epoch: int) -> list[tuple[Stretch, int]]:
        return data.drawn(stretches, _random(settings.seed, _EPOCH, epoch))

    steps = settings.epochs * math.ceil(len(order(1)) / per_step)  # each epoch has as many windows
    course, step = Course(), 0
    best: Mapping[str, Tensor] = {}  # on the CPU: a third copy seldom fits beside the moments
    file = folder / STATE if folder is not None else None
    if resume and file is not None and processes.same(file.is_file()):
        state = restore(file, begun, networks, optimiser, processes)
        course, step = Course(state.facts["epochs"]), state.facts["step"]
        earlier = course.best < len(course.epochs)  # of which all know, and one has the weights
        now = {} if earlier else processes.full(judged.state_dict(), apart=True)
        best = state.weights.get("best", now)

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
            chosen = windows[first : first + per_step]
            losses += [_step(encoder, states, optimiser, data, chosen, settings, step, processes)]
            step += 1
            if judged is not encoder:
                follow(judged, encoder, min(settings.average, step / (step + 10)))
        _check_finite(encoder, epoch)
        numbers = {"epoch": epoch, "loss": float(np.mean(losses)), "rate": rate}
        if held:
            numbers["validation"] = _validation(judged, data, held, settings, epoch, processes)
        course.epochs.append(processes.same(numbers))
        if course.best == epoch:
            best = processes.full(judged.state_dict(), apart=True)
        if file is not None:
            weights = {part: processes.full(one.state_dict()) for part, one in networks.items()}
            if course.best < epoch:
                weights["best"] = best
            facts = {"begun": begun, "epochs": course.epochs, "step": step}
            moments = processes.full(optimiser.state_dict())
            if processes.first:
                save_state(file, State(weights, moments, facts))
        if report is not None and processes.first:
            report(numbers)
    processes.load(trained, best)
    return trained.eval().requires_grad_(False), course


def _step(
    encoder: Encoder,
    states: Callable[..., Tensor],
    optimiser: torch.optim.Optimizer,
    data: TrainingData,
    chosen: Sequence[tuple[Stretch, int]],
    settings: TrainingSettings,
    step: int,
    processes: Processes,
) -> float:
    """One step of the optimiser over up to `accumulate` batches; returns the loss.

    A batch has one space. Each counts by its windows, whatever was measured in them.
    """
    device = next(encoder.parameters()).device
    own, common = map(int, _random(settings.seed, _STEP, step).integers(2**63, size=2))
    torch.manual_seed(own + processes.rank)  # dropout in the network: of its own windows
    drops = torch.Generator(device).manual_seed(common)  # of windows: drawn alike by all
    optimiser.zero_grad(set_to_none=True)
    total = 0.0
    parts = [
        windows[first : first + settings.batch]
        for windows in data.by_space(chosen)
        for first in range(0, len(windows), settings.batch)
    ]
    for part in parts:
        share = processes.share(part, drops)
        batch = share.read(data)
        with torch.autocast(device.type, torch.bfloat16, settings.precision == "bf16"):
            loss = batch_loss(encoder, batch, settings, states, share)
        loss = loss * (len(part) / len(chosen))
        loss.backward()
        value = float(processes.total(loss.detach()))
        if not math.isfinite(value):
            raise _not_finite(f"the loss is {value}", step, part, data.length)
        total += value
    processes.sum_gradients(encoder)
    norm = processes.clip_gradients(encoder, settings.clip or math.inf)
    if not torch.isfinite(norm):
        raise _not_finite(f"the gradient is {float(norm)}", step, chosen, data.length)
    optimiser.step()
    return total


def batch_loss(
    encoder: Encoder,
    batch: Batch,
    settings: TrainingSettings,
    states: Callable[..., Tensor] | None = None,
    share: Share | None = None,
) -> Tensor:
    """Loss of a batch, with modalities, samples and subjects dropped as the settings say.

    `states` is a compiled `Encoder.states`, if there is one. Where the batch is a share of a larger
    one, the result is what it adds to the loss of that.
    """
    share = share or Share(batch.rows)
    kept = drop_modalities(batch.features, settings.modality_dropout, batch.present, share.rand)
    features = drop_samples(batch.features, settings.time_dropout, share.rand)
    found = (states or encoder.states)(features, kept)
    unseen = encoder.unseen(batch.space)
    own = torch.where(share.rows < 0, unseen, share.rows)

    def loss(rows: Tensor) -> Tensor:
        predicted = encoder.read(found, rows[share.where], rows.unique())
        total = share.processes.total
        return masked(settings.loss, predicted, batch.targets, batch.weights, total)

    dropout = settings.subject_dropout
    if not dropout:
        return loss(own)
    if settings.expected_subjects:
        return (1 - dropout) * loss(own) + dropout * loss(torch.full_like(own, unseen))
    return loss(torch.where(share.draw() < dropout, unseen, own))


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
        if not torch.isfinite(local(value)).all():
            told = f"weights {name} are not finite after epoch {epoch}"
            raise InputError(f"{told}; lower training.rate; the state of the last good epoch stays")


def _validation(
    encoder: Encoder,
    data: TrainingData,
    held: Sequence[Stretch],
    settings: TrainingSettings,
    epoch: int,
    processes: Processes,
) -> float:
    """Mean correlation over runs, of those that have one."""
    device, in_half = processes.device, processes.sharded and settings.precision == "bf16"
    with torch.autocast(torch.device(device).type, torch.bfloat16, in_half):  # as gathered
        values = correlations(encoder, data, held, device, processes=processes)
    processes.at_rest(encoder)
    found = mean_of_numbers(values)
    if math.isnan(found):
        text = f"epoch {epoch} has no validation: what is measured or predicted there does not vary"
        warnings.warn(text, InputWarning, stacklevel=3)
    return found


def _random(*keys: int) -> np.random.Generator:
    return np.random.default_rng(keys)
