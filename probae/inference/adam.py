"""Adam on one flat vector: a step costs the same few operations however many parameters there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

DECAYS = 0.9, 0.999
SMALL = 1e-8
ROUNDING = 1e-12  # a gradient below it is rounding, which division by its own size would make a step
LINE = 16  # numbers in a cache line: products with matrices that begin elsewhere are slower


class FlatAdam:
    r"""Adam [1]_ with clipping of the gradient to a largest norm, in place; gradients below 1e-12 count as zero.

    .. math:: m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \quad
              \theta \leftarrow \theta - \eta \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + 10^{-8}}

    Parameters
    ----------
    values, gradient : Tensor (P,)
        What is trained, and where its gradient is.
    largest : float or None
        Norm above which a gradient is shortened to it.

    References
    ----------
    .. [1] Kingma, D. P. & Ba, J. (2015). Adam: a method for stochastic optimization. ICLR, algorithm 1.

    Examples
    --------
    >>> adam = FlatAdam(torch.zeros(2), torch.tensor([3.0, -4.0]), largest=None)
    >>> adam.step(0.1)                              # the first step has the length of lr, whatever the gradient
    >>> adam.values
    tensor([-0.1000,  0.1000])
    """

    def __init__(
        self, values: Float[Tensor, " p"], gradient: Float[Tensor, " p"], largest: float | None = None
    ) -> None:
        self.values, self.gradient, self.largest = values, gradient, largest
        self.mean, self.square = torch.zeros_like(values), torch.zeros_like(values)
        self.steps = 0

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Take one step of this length and set the gradient to zero."""
        if self.largest is not None:
            norm = torch.linalg.vector_norm(self.gradient)
            self.gradient.mul_((self.largest / norm).clamp(max=1.0))  # 0 / 0 never: inf is clamped to 1
        gradient = torch.hardshrink(self.gradient, ROUNDING)
        self.steps += 1
        first, second = 1 - DECAYS[0] ** self.steps, 1 - DECAYS[1] ** self.steps
        self.mean.lerp_(gradient, 1 - DECAYS[0])
        self.square.mul_(DECAYS[1]).addcmul_(gradient, gradient, value=1 - DECAYS[1])
        self.values.addcdiv_(self.mean, self.square.sqrt().div_(second**0.5).add_(SMALL), value=-lr / first)
        self.gradient.zero_()


@contextmanager
def flattened(parameters: Sequence[nn.Parameter]) -> Iterator[tuple[Tensor, Tensor]]:
    """Give parameters and their gradients as two flat vectors that share their memory, until the block ends."""
    trained = [one for one in parameters if one.requires_grad]
    widths = [-(-one.numel() // LINE) * LINE for one in trained]
    values = torch.zeros(sum(widths), dtype=trained[0].dtype, device=trained[0].device)
    gradient = torch.zeros_like(values)
    for one, value, slope in zip(trained, values.split(widths), gradient.split(widths), strict=True):
        value[: one.numel()] = one.detach().reshape(-1)
        one.data, one.grad = (part[: one.numel()].view(one.shape) for part in (value, slope))
    try:
        yield values, gradient
    finally:
        for one in trained:
            one.data, one.grad = one.data.clone(), None
