"""A prior as a Pyro distribution, for laws that torch has no distribution of."""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

if TYPE_CHECKING:
    from probae.priors.base import Prior

__all__ = ["PriorDistribution"]


class PriorDistribution(TorchDistribution):
    """`latents` coordinates of a prior that offers `draw(shape, like)`, as one event.

    Parameters
    ----------
    prior : Prior
        Evaluates `joint_log_prob` and draws.
    latents : int
        Size of the event.
    like : Tensor, optional
        Gives dtype and device of the draws; without it those of the prior.
    variance : Tensor, optional
        Variance of each coordinate, 1 without it.
    batch_shape : torch.Size
        Shape of independent copies.
    has_rsample : bool
        Whether the draws are differentiable in the shape of the law.

    Examples
    --------
    >>> from probae.priors import GeneralizedNormal
    >>> law = GeneralizedNormal(shape=4).distribution(3).expand([10])
    >>> law.batch_shape, law.event_shape, law.sample().shape
    (torch.Size([10]), torch.Size([3]), torch.Size([10, 3]))
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    support = constraints.independent(constraints.real, 1)

    def __init__(
        self,
        prior: "Prior",
        latents: int,
        like: Tensor | None = None,
        variance: Float[Tensor, " latents"] | None = None,
        batch_shape: torch.Size = torch.Size(),
        has_rsample: bool = True,
    ) -> None:
        self.prior = prior
        self.like = prior.anchor if like is None else like.new_empty(())
        self.unit = self.like.new_ones(latents) if variance is None else variance
        self.has_rsample = has_rsample
        super().__init__(batch_shape, torch.Size([latents]), validate_args=False)

    @property
    def mean(self) -> Float[Tensor, "*batch latents"]:
        """Zeros."""
        return torch.zeros_like(self.variance)

    @property
    def variance(self) -> Float[Tensor, "*batch latents"]:
        """Variance of each coordinate."""
        return self.unit.expand(self.batch_shape + self.event_shape)

    def log_prob(self, value: Float[Tensor, "*shape latents"]) -> Float[Tensor, "..."]:
        """Log density of each event, in nats."""
        value = value.expand(torch.broadcast_shapes(value.shape, self.batch_shape + self.event_shape))
        return self.prior.joint_log_prob(value)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Float[Tensor, "*shape latents"]:
        """Draws, differentiable in the shape of the law where `has_rsample` is True."""
        return self.prior.draw(self._extended_shape(sample_shape), self.like)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Float[Tensor, "*shape latents"]:
        """Draws without gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> "PriorDistribution":
        """The same law with another batch shape."""
        latents = self.event_shape[0]
        return PriorDistribution(
            self.prior, latents, self.like, self.unit, torch.Size(batch_shape), self.has_rsample
        )
