"""Minibatch training by Adam: what methods with an encoder share."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from probae.checks import ConvergenceWarning
from probae.inference.base import Loop, few_threads


def train(
    loss: Callable[[Tensor], Tensor],
    parameters: list[torch.nn.Parameter],
    x: Tensor,
    *,
    epochs: int,
    batch: int | None,
    lr: float,
    generator: torch.Generator,
    usable: Callable[[], bool],
    label: str,
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
        Passes over the rows, rows in a step (None for all), first step of Adam (it falls to a hundredth of it).
    generator : torch.Generator
        Of the order of the rows.
    usable : callable
        Whether the parameters are fit to be kept after an epoch; if not, those of the epoch before are put back.
    label : str
        What the progress bar says.

    Returns
    -------
    history : list of float
        Minus the mean loss of each epoch.
    interrupted : bool
    """
    batch = min(batch or len(x), len(x))
    optimizer = torch.optim.Adam(parameters, lr=lr)
    total = epochs * math.ceil(len(x) / batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(step / total, 1.0)))
    )
    history: list[float] = []
    kept = [parameter.detach().clone() for parameter in parameters]
    with Loop(label) as loop, few_threads(batch * x.shape[1]):
        for _ in loop.steps(epochs):
            order = torch.randperm(len(x), generator=generator) if batch < len(x) else None
            value = 0.0
            for rows in x.split(batch) if order is None else (x[index] for index in order.split(batch)):
                optimizer.zero_grad(set_to_none=True)
                energy = loss(rows)
                energy.backward()
                torch.nn.utils.clip_grad_norm_(parameters, 100.0 * x.shape[1])
                optimizer.step()
                schedule.step()
                value -= energy.item() * len(rows) / len(x)
            if not (math.isfinite(value) and usable()):
                warn_not_finite(len(history))
                break
            history.append(value)
            loop.value = value
            copy_values(parameters, kept)
    copy_values(kept, parameters)
    return history, loop.interrupted


@torch.no_grad()
def copy_values(source: Sequence[Tensor], target: Sequence[Tensor]) -> None:
    """Copy tensors in place, so the last finite parameters can be put back."""
    for old, new in zip(target, source, strict=True):
        old.copy_(new)


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
        f"The objective was not finite in epoch {epoch + 1}: the parameters of the epoch before were kept; "
        "lower lr or standardise x.",
        ConvergenceWarning,
        stacklevel=4,
    )
