r"""Coordinate descent unrolled, under autograd: z_k <- S(z_k + s c_k, \theta), c = V (x - \mu) - B z, atom by atom."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

KINDS = (torch.float32, torch.float64)  # that the compiled code is for


def coordinate_layers(cross: Tensor, inner: Tensor, steps: Tensor, levels: Tensor, least: Tensor) -> Tensor:
    """Return the codes of V (x - mean) (N, K): compiled on the CPU, with a gradient.

    Parameters
    ----------
    cross : Tensor (N, K)
    inner : Tensor (K, K)
        B.
    steps : Tensor (layers,)
    levels : Tensor (layers, K)
        Thresholds, at least 0.
    least : Tensor (K,)
        A layer leaves atoms that it would move by less than this at its start.

    Examples
    --------
    >>> one = torch.ones(1)
    >>> coordinate_layers(torch.tensor([[3.0, -2.0]]), torch.eye(2), one, torch.ones(1, 2), torch.zeros(2))
    tensor([[ 2., -1.]])
    """
    arguments = cross, inner.mT, steps, levels, least
    if cross.device.type == "cpu" and cross.dtype in KINDS:
        return CoordinateDescent.apply(*arguments)
    return coordinate_steps(*arguments)


def coordinate_steps(cross: Tensor, columns: Tensor, steps: Tensor, levels: Tensor, least: Tensor) -> Tensor:
    """Return the same by operations of torch, K in turn for a layer: slow, for any device and any derivative."""
    c, z = cross, list(torch.zeros_like(cross).unbind(1))
    for step, level in zip(steps, levels, strict=True):
        start = torch.stack(z, 1)
        goal = soft_threshold(start + step * c, level)
        moves = ((goal != 0) | (start != 0)) & ~((goal - start).abs() < least)
        for k, column in enumerate(columns):
            new = soft_threshold(z[k] + step * c[:, k], level[k])
            new = torch.where(moves[:, k], new, z[k])
            c = c - (new - z[k]).unsqueeze(1) * column
            z[k] = new
    return torch.stack(z, 1)


def soft_threshold(v: Tensor, level: Tensor) -> Tensor:
    """Return S(v, t) = v - clamp(v, -t, t)."""
    return v - torch.minimum(torch.maximum(v, -level), level)


class CoordinateDescent(torch.autograd.Function):
    """`coordinate_steps`, compiled; derivatives beyond the first go through the operations of torch."""

    @staticmethod
    def forward(*arguments: Tensor) -> Tensor:
        """Return the codes."""
        from probae.encoders.sweeps import run_sweeps  # compiled on first use

        cross, *rest = (a.detach().contiguous() for a in arguments)
        codes = torch.empty_like(cross)
        run_sweeps(*(a.numpy() for a in (cross.clone(), *rest, codes)))
        return codes

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Keep what the gradient is computed from."""
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *pulls: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the arguments."""
        (pull,), arguments = pulls, ctx.saved_tensors
        if torch.is_grad_enabled():  # a derivative of this one will be asked for
            return torch.func.vjp(coordinate_steps, *arguments)[1](pull)
        from probae.encoders.sweeps_back import pull_back  # compiled on first use

        cross, *rest = (a.detach().contiguous() for a in arguments)
        cross = cross.clone()
        sums = [torch.zeros_like(a) for a in rest[:3]]
        arrays = (cross, *rest, pull.clone(memory_format=torch.contiguous_format), *sums)
        pull_back(*(a.numpy() for a in arrays), ctx.needs_input_grad[1])
        return cross, *sums, None
