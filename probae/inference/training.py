"""Minibatch training by Adam: what methods with an encoder share."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from probae.checks import ConvergenceWarning, ParameterError
from probae.inference.adam import FlatAdam, flattened
from probae.inference.base import Loop, few_threads
from probae.inference.checkpoint import Checkpoint, digest
from probae.inference.schedule import Cosine, Schedule
from probae.inference.stopping import EarlyStopping, Watch, held_out_bound
from probae.inference.training_state import Record, TrainingState

GATHERED = 2**22  # numbers of shuffled rows copied at a time: one copy per step would cost more

Loss = Callable[[Tensor], Tensor]


def train(
    loss: Loss,
    parameters: list[torch.nn.Parameter],
    x: Tensor,
    *,
    epochs: int,
    batch: int | None,
    lr: float,
    generator: torch.Generator,
    usable: Callable[[], bool],
    label: str,
    buffers: Sequence[Tensor] = (),
    schedule: Schedule | None = None,
    clip: float | None = 100.0,
    watch: Watch | None = None,
    held: Tensor | None = None,
    bound: Loss | None = None,
    checkpoint: Checkpoint | None = None,
    settings: Mapping[str, str] | None = None,
) -> tuple[list[float], bool]:
    """Minimise the mean loss of rows, in place.

    Parameters
    ----------
    loss : callable
        Rows (B, D) to the mean loss per row.
    parameters : list of Parameter
        What is trained; each once.
    x : Tensor (N, D)
    epochs, batch, lr
        Passes over the rows, rows in a step (None for all), step of Adam.
    generator : torch.Generator
        Of the order of the rows.
    usable : callable
        Whether the parameters are fit to be kept after an epoch; if not, those kept before are put back.
    label : str
        What the progress bar says.
    buffers : sequence of Tensor
        What else changes in training.
    schedule : Schedule, optional
        Factor on lr; by default it falls to a hundredth along a cosine.
    clip : float or None
        Largest norm of the gradient, per feature.
    watch : Watch, optional
        Early stopping, with the held-out bounds afterwards; parameters of the highest one are kept.
    held : Tensor (M, D), optional
        Rows held out.
    bound : callable, optional
        Rows to their mean held-out bound; minus the loss by default.
    checkpoint : Checkpoint, optional
        Where the state is written, and read from at the start.
    settings : mapping of str to str
        What else than data and seed a checkpoint belongs to.

    Returns
    -------
    history : list of float
        Minus the mean loss of each epoch.
    interrupted : bool
    """
    watch, schedule = watch or Watch(None), schedule or Cosine()
    batch = min(batch or len(x), len(x))
    evaluate = bound or (lambda rows: -loss(rows))
    with flattened(parameters) as (values, gradient):
        adam = FlatAdam(values, gradient, None if clip is None else clip * x.shape[1])
        state = TrainingState(adam, buffers, generator, watch)
        record = None
        if checkpoint is not None:
            record = Record(checkpoint, identity(x, held, generator, state, settings or {}), state)
        with Loop(label) as loop, few_threads(batch * x.shape[1]):
            for _ in loop.steps(0 if watch.done else epochs - len(state.history)):
                epoch = len(state.history)
                value = -one_epoch(loss, x, batch, adam, generator, rates(schedule, lr, epoch, epochs))
                if not (math.isfinite(value) and usable()):
                    warn_not_finite(epoch)
                    break
                if held is None or watch.add(held_out_bound(evaluate, held)):
                    state.keep()
                state.history.append(value)
                loop.value = value
                if record is not None:
                    record.note()
                if watch.done:
                    break
        if record is not None:
            record.write()
        state.put_back()
    if watch.blind:
        warn_blind()
    return state.history, loop.interrupted


def one_epoch(
    loss: Loss,
    x: Tensor,
    batch: int,
    adam: FlatAdam,
    generator: torch.Generator,
    rate: Callable[[float], float],
) -> float:
    """Take one step for each minibatch and return the mean loss, which alone waits for the arithmetic."""
    total = torch.zeros((), dtype=torch.float64, device=x.device)
    done = 0
    for rows in minibatches(x, batch, generator):
        energy = loss_or_none(loss, rows)
        if energy is None:
            return math.nan
        energy.backward()
        adam.step(rate(done / len(x)))
        total.add_(energy.detach(), alpha=len(rows) / len(x))
        done += len(rows)
    return float(total)


def loss_or_none(loss: Loss, rows: Tensor) -> Tensor | None:
    """Return the loss; None where a law refuses parameters that have overflowed."""
    try:
        return loss(rows)
    except ValueError as problem:
        if "Expected parameter" not in str(problem):
            raise
        return None


def rates(schedule: Schedule, lr: float, epoch: int, epochs: int) -> Callable[[float], float]:
    """Return the learning rate as a function of the part of an epoch that is over."""
    return lambda part: lr * schedule.factor(epoch + part, epochs)


def minibatches(x: Tensor, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield every row once, in random order but where one batch holds them all."""
    if batch >= len(x):
        yield x
        return
    order = torch.randperm(len(x), generator=generator).to(x.device)
    for part in order.split(batch * max(1, GATHERED // (batch * x.shape[1]))):
        yield from x.index_select(0, part).split(batch)


def identity(
    x: Tensor,
    held: Tensor | None,
    generator: torch.Generator,
    state: TrainingState,
    settings: Mapping[str, str],
) -> dict[str, str]:
    """Return what a checkpoint belongs to."""
    return {
        "data": digest({"x": x} if held is None else {"x": x, "held": held}),
        "seed": str(generator.initial_seed()),
        **settings,
        "first values": state.start(),
    }


def check_values(schedule: Any, stopping: Any, checkpoint: Any) -> None:
    """Refuse settings of training of another kind."""
    for name, value, kind, example in (
        ("schedule", schedule, Schedule, "Cosine(warmup=5)"),
        ("stopping", stopping, EarlyStopping | None, "EarlyStopping(patience=20), or None"),
        ("checkpoint", checkpoint, Checkpoint | None, 'Checkpoint("training.safetensors"), or None'),
    ):
        if not isinstance(value, kind):
            raise ParameterError(f"{name} should be a value such as {example}, got {value!r}.")


def settled(history: list[float]) -> bool:
    """Whether the mean of the last tenth of the objective is within noise, or a thousandth, of the tenth before."""
    width = len(history) // 10
    if width < 2:
        return False
    last, before = torch.tensor(history[-width:]), torch.tensor(history[-2 * width : -width])
    noise = float((last.var() / width + before.var() / width).sqrt())
    return abs(float(last.mean() - before.mean())) <= max(2 * noise, 1e-3 * (1 + abs(float(last.mean()))))


def warn_not_finite(epoch: int) -> None:
    """Say that training stopped."""
    warnings.warn(
        f"The objective was not finite in epoch {epoch + 1}: the parameters kept last are those of the fit; "
        "lower lr or standardise x.",
        ConvergenceWarning,
        stacklevel=4,
    )


def warn_blind() -> None:
    """Say that early stopping had nothing to go by."""
    warnings.warn(
        "The bound of the rows held out was finite after no epoch: the fit has its first values; lower lr, standardise "
        "x, or look for values in x that no other row has.",
        ConvergenceWarning,
        stacklevel=4,
    )
