"""Gaussian noise: squared error."""

from __future__ import annotations

import pyro.distributions as dist
from jaxtyping import Float
from torch import Tensor

from probae.likelihoods.base import Noise


class Gaussian(Noise):
    r"""x = output + noise: minus the log-density is the squared error over 2 sigma^2, plus a constant.

    .. math:: p(x \mid z) = N(\text{output}, \Psi)

    Parameters
    ----------
    noise : {"isotropic", "diagonal"}
        One learned variance for all features, or one for each.

    Examples
    --------
    >>> import torch, probae as pa
    >>> pa.likelihoods.Gaussian()(torch.zeros(2, 3)).event_shape
    torch.Size([3])
    """

    def forward(self, output: Float[Tensor, "*batch features"]) -> dist.TorchDistribution:
        """Return N(output, Psi)."""
        return dist.Normal(output, self.noise_variance.sqrt()).to_event(1)
