"""A proposal that covers what either the encoder or the best Gaussian covers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from probae.inference.importance import freedom, width
from probae.inference.nonlinear_reference import gaussians_near, reference_of
from probae.models import LatentModel

__all__ = ["MixedProposal"]


class Mixture(dist.TorchDistribution):
    """Each draw of each row from one of two laws, at even odds."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = dist.constraints.real_vector

    def __init__(self, first: Any, second: Any) -> None:
        self.parts = first, second
        super().__init__(second.batch_shape, second.event_shape, validate_args=False)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Float[Tensor, "*draws latents"]:
        """Draw z."""
        first, second = (part.sample(torch.Size(sample_shape)).double() for part in self.parts)
        return torch.where(torch.rand(first.shape[:-1]).unsqueeze(-1) < 0.5, first, second)

    def log_prob(self, value: Float[Tensor, "*draws latents"]) -> Float[Tensor, "*draws"]:
        """Return the log density in nats; that of a law is 0 outside of its support."""
        logs = [
            torch.where(part.support.check(value), part.log_prob(value).double(), -torch.inf)
            for part in self.parts
        ]
        return torch.logaddexp(*logs) - math.log(2)


@dataclass(frozen=True, eq=False)
class MixedProposal:
    """Draws of a posterior, a flow for example, and as many of a wide multivariate t around the best Gaussian.

    Weights are below twice those of either: the t covers the tails of a posterior that has lighter ones or is too
    narrow, and the posterior the modes that a Gaussian leaves out.

    Parameters
    ----------
    posterior : callable
        x to a law with a density.
    model : LatentModel
    seed : int
        Of the search of the best Gaussian.
    """

    posterior: Callable[[Any], Any]
    model: LatentModel
    seed: int = 0

    def __call__(self, x: Float[Tensor, "samples features"]) -> Mixture:
        """Return the mixture of each row."""
        law = self.posterior(x)
        reference = reference_of(self.model, x, gaussians_near(law), self.seed)
        latents = self.model.latents
        df = torch.tensor(float(freedom(latents)), dtype=torch.float64)
        return Mixture(law, dist.MultivariateStudentT(df, reference.centre, width(latents) * reference.root))
