"""Word counts: one softmax over the features."""

from __future__ import annotations

from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.distributions import constraints
from torch import Tensor

from probae.checks import DataError
from probae.likelihoods.base import Likelihood


class CountsGivenTotal(dist.TorchDistribution):
    r"""Multinomial law of counts given their total, whatever the total of each row.

    .. math:: \log p(x) = \log n! - \sum_d \log x_d! + \sum_d x_d \log \pi_d, \quad n = \sum_d x_d

    Parameters
    ----------
    logits : Tensor (..., D)
    total : int
        Count of the rows that are drawn; ``mean`` is for as many.

    Examples
    --------
    >>> import torch
    >>> CountsGivenTotal(torch.zeros(2), total=1).log_prob(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    tensor([-0.6931, -0.6931])
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"logits": constraints.real_vector}
    support = constraints.independent(constraints.nonnegative, 1)

    def __init__(self, logits: Tensor, total: int = 1, validate_args: bool | None = None) -> None:
        self.logits = logits
        self.total = total
        super().__init__(logits.shape[:-1], logits.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> CountsGivenTotal:
        """Return the law with another batch shape."""
        return CountsGivenTotal(self.logits.expand(*batch_shape, *self.event_shape), self.total)

    @property
    def mean(self) -> Tensor:
        """Expected counts among ``total``."""
        return self.total * self.logits.softmax(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability of counts given their total."""
        total = torch.lgamma(value.sum(-1) + 1) - torch.lgamma(value + 1).sum(-1)
        return total + (value * self.logits.log_softmax(-1)).sum(-1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw rows with ``total`` counts."""
        with torch.no_grad():
            drawn: Tensor = dist.Multinomial(self.total, logits=self.logits).sample(torch.Size(sample_shape))
        return drawn


class Multinomial(Likelihood):
    r"""Counts of words with the output as logits of one softmax.

    The law is that of x given its total n, so long documents weigh more. Draws and means are for ``total`` counts:
    that of the mean row of the data, 1 before there are any.

    Examples
    --------
    >>> import torch, probae as pa
    >>> pa.likelihoods.Multinomial()(torch.zeros(4, 3)).log_prob(torch.ones(4, 3)).shape
    torch.Size([4])
    """

    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.ones(()))

    def forward(self, output: Float[Tensor, "*batch features"]) -> dist.TorchDistribution:
        """Return the law of counts given their total."""
        return CountsGivenTotal(output, int(self.total))

    def mean(self, output: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch features"]:
        """Return the expected counts among ``total``."""
        return self.total * output.softmax(-1)

    @torch.no_grad()
    def start(
        self, x: Float[Tensor, "samples features"]
    ) -> tuple[Float[Tensor, "features"], Float[Tensor, "features"]]:
        """Return the logarithms of the shares of the words, half a count added to each, and a spread of one."""
        self.total.copy_(x.sum(1).mean().round().clamp_min(1))
        counts = x.sum(0) + 0.5
        return (counts / counts.sum()).log(), torch.ones_like(counts)

    def check(self, x: Float[Tensor, "samples features"]) -> None:
        """Refuse what are not counts."""
        bad = (x < 0) | (x != x.round())
        if bool(bad.any()):
            raise DataError(
                f"Multinomial data should be counts 0, 1, 2, ..., got {float(x[bad][0]):.4g}: pass the counts "
                "themselves, not shares or weights."
            )
