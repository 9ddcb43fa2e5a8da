"""Binary data: cross-entropy."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import DataError
from probae.likelihoods.base import Likelihood


class Bernoulli(Likelihood):
    r"""x in {0, 1} with the output as logits: minus the log-probability is the cross-entropy.

    .. math:: \log p(x \mid z) = \sum_d x_d \log \pi_d + (1 - x_d) \log(1 - \pi_d)

    Values between 0 and 1 are taken as well, as targets of the cross-entropy. That is not the log-density of a law of
    such values: bounds and likelihoods then compare fits to the same x only.

    Examples
    --------
    >>> import torch, probae as pa
    >>> pa.likelihoods.Bernoulli()(torch.zeros(1, 2)).log_prob(torch.ones(1, 2))
    tensor([-1.3863])
    """

    def forward(self, output: Float[Tensor, "*batch features"]) -> dist.TorchDistribution:
        """Return the Bernoulli law with these logits."""
        return dist.Bernoulli(logits=output, validate_args=False).to_event(1)

    def mean(self, output: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch features"]:
        """Return the probabilities."""
        return output.sigmoid()

    def start(
        self, x: Float[Tensor, "samples features"]
    ) -> tuple[Float[Tensor, "features"], Float[Tensor, "features"]]:
        """Return the logits of the means, half a row of each value added, and a spread of one logit."""
        share = (x.sum(0) + 0.5) / (len(x) + 1)
        return share.logit(), torch.ones_like(share)

    def check(self, x: Float[Tensor, "samples features"]) -> None:
        """Refuse values outside of 0 to 1."""
        if bool(((x < 0) | (x > 1)).any()):
            raise DataError(
                f"Bernoulli data should lie between 0 and 1, got values from {float(x.min()):.4g} to "
                f"{float(x.max()):.4g}: rescale x, or use probae.likelihoods.Gaussian()."
            )
