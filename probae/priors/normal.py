"""The standard normal distribution function in logs, right in both tails with its derivatives."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["log_ndtr", "log_normal"]


def log_normal(error: Float[Tensor, "..."], variance: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Log density of N(0, variance) at `error`.

    Examples
    --------
    >>> log_normal(torch.zeros(()), torch.ones(()))
    tensor(-0.9189)
    """
    return -0.5 * (error.square() / variance + variance.log() + math.log(2 * math.pi))


def log_ndtr(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Log of the standard normal distribution function Phi(x), elementwise.

    The value is `torch.special.log_ndtr`. Its gradient there subtracts x^2 / 2 from log Phi(x) and so loses
    x^2 digits in the left tail (1e-9 relative at x = -3000, 1e-4 at -1e6); here it is the hazard
    phi(x) / Phi(x) through the scaled complementary error function, to full precision everywhere.

    Examples
    --------
    >>> x = torch.tensor(-1e6, dtype=torch.float64, requires_grad=True)
    >>> log_ndtr(x).backward()
    >>> x.grad
    tensor(1000000.0000, dtype=torch.float64)
    """
    return _LogNdtr.apply(x)


class _LogNdtr(torch.autograd.Function):
    """log Phi(x), whose derivative is the hazard."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.special.log_ndtr(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * _Hazard.apply(x)


class _Hazard(torch.autograd.Function):
    """h(x) = phi(x) / Phi(x), whose derivative is -h (x + h)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        # erfcx overflows to infinity far to the right, where the hazard is 0 as it should be
        return math.sqrt(2 / math.pi) / torch.special.erfcx(-x / math.sqrt(2))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        hazard = _Hazard.apply(x)
        return -grad * hazard * (x + hazard)
