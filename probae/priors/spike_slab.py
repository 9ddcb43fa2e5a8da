"""The spike-and-slab law."""

import torch
from jaxtyping import Float
from pyro import distributions as dist
from torch import Tensor

from probae.priors.base import Prior, as_float64
from probae.priors.normal import log_normal
from probae.priors.shape import check_shape

__all__ = ["SpikeSlab"]


class SpikeSlab(Prior):
    r"""A coordinate that is active with some probability and almost 0 otherwise, of variance 1.

    .. math:: p(z) = q\,N(z; 0, s_1^2) + (1 - q)\,N(z; 0, s_0^2), \qquad q s_1^2 + (1 - q) s_0^2 = 1

    Parameters
    ----------
    probability : float
        q, of the slab, between 0 and 1.
    spike : float
        s_0, the standard deviation of the spike, between 0 and 1; the slab's follows from the variance.

    Raises
    ------
    ParameterError
        An argument is not between 0 and 1.

    Examples
    --------
    >>> prior = SpikeSlab(probability=0.2, spike=0.1)
    >>> prior.variances
    tensor([0.0100, 4.9600], dtype=torch.float64)
    >>> (prior.weights * prior.variances).sum()
    tensor(1., dtype=torch.float64)
    """

    has_scale_mixture = True
    probability: Tensor
    spike: Tensor

    def __init__(self, probability: float = 0.2, spike: float = 0.1) -> None:
        super().__init__()
        q = check_shape("probability", probability, 0, 1)
        sd = check_shape("spike", spike, 0, 1, reason="it is a standard deviation below the law's own 1")
        self.register_buffer("probability", torch.tensor(q, dtype=torch.float64))
        self.register_buffer("spike", torch.tensor(sd, dtype=torch.float64))

    @property
    def variances(self) -> Float[Tensor, "2"]:
        """Variances of the spike and of the slab."""
        spike = self.spike.square()
        return torch.stack([spike, (1 - (1 - self.probability) * spike) / self.probability])

    @property
    def weights(self) -> Float[Tensor, "2"]:
        """Probabilities of the spike and of the slab."""
        return torch.stack([1 - self.probability, self.probability])

    def log_prob(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Log of the mixture of two Gaussians."""
        return self._log_parts(z, 0.0).logsumexp(-1)

    def score(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The score z E[1 / tau | z], tau the variance of the part that z came from."""
        return z * (self._log_parts(z, 0.0).softmax(-1) / self.variances.to(z)).sum(-1)

    def noisy_log_prob(
        self, y: Float[Tensor, "..."], variance: float | Float[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        """Log of the mixture with the noise added to both variances."""
        y64, v = as_float64(y, variance)
        return self._log_parts(y64, v).logsumexp(-1).to(y.dtype)

    def distribution(self, latents: int, like: Tensor | None = None) -> dist.TorchDistribution:
        """`latents` independent mixtures of two Gaussians."""
        zero = self._zero(like)
        which = dist.Categorical(probs=self.weights.to(zero), validate_args=False)
        parts = dist.Normal(zero, self.variances.sqrt().to(zero), validate_args=False)
        return dist.MixtureSameFamily(which, parts, validate_args=False).expand([latents]).to_event(1)

    def sample_scales(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The variance of the spike or of the slab, by their probabilities given z."""
        variances = self.variances.to(z)
        slab = torch.rand_like(z) < self._log_parts(z, 0.0).softmax(-1)[..., 1]
        return torch.where(slab, variances[1], variances[0])

    def _log_parts(self, z: Tensor, noise: float | Tensor) -> Float[Tensor, "... 2"]:
        """Log of weight times density, for the spike and the slab."""
        noise = torch.as_tensor(noise).to(z)
        variances = torch.stack([part + noise for part in self.variances.to(z)], -1)
        return self.weights.log().to(z) + log_normal(z[..., None], variances)

    def extra_repr(self) -> str:
        """Arguments of the constructor."""
        return f"probability={float(self.probability):.6g}, spike={float(self.spike):.6g}"
