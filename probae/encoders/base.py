"""What an encoder is: a module from x to a distribution over z, usable alone and as a Pyro guide."""

from __future__ import annotations

import math
import weakref
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.nn import PyroModule
from torch import Tensor, nn

from probae.checks import check_count
from probae.models.base import ensure_local_context, local_parameters


class GaussianCode(dist.MultivariateNormal):
    """Gaussian over z that draws z and log q(z) together, from the same standard normal numbers."""

    def __init__(
        self, loc: Float[Tensor, "*batch latents"], scale_tril: Float[Tensor, "*rows latents latents"]
    ) -> None:
        super().__init__(loc, scale_tril=scale_tril, validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> GaussianCode:
        """Return the law with another batch shape."""
        shape = torch.Size(batch_shape) + self.event_shape
        return GaussianCode(self.loc.expand(shape), self._unbroadcasted_scale_tril)

    def rsample_and_log_prob(self, sample_shape: torch.Size = torch.Size()) -> tuple[Tensor, Tensor]:
        r"""Return z = m + L e and log q(z) = -|e|^2/2 - log det L - (K/2) log 2 pi, in nats."""
        noise = torch.randn(*sample_shape, *self.loc.shape, dtype=self.loc.dtype, device=self.loc.device)
        z = self.loc + (self._unbroadcasted_scale_tril @ noise.unsqueeze(-1)).squeeze(-1)
        log_det = self._unbroadcasted_scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = 0.5 * self.loc.shape[-1] * math.log(2 * math.pi)
        return z, -0.5 * noise.square().sum(-1) - log_det - constant


class DiagonalCode(dist.Independent):
    """Gaussian over z with independent coordinates, drawing z and log q(z) together."""

    def __init__(self, loc: Float[Tensor, "*batch latents"], scale: Float[Tensor, "*batch latents"]) -> None:
        super().__init__(dist.Normal(loc, scale, validate_args=False), 1, validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> DiagonalCode:
        """Return the law with another batch shape."""
        shape = torch.Size(batch_shape) + self.event_shape
        return DiagonalCode(self.base_dist.loc.expand(shape), self.base_dist.scale.expand(shape))

    def rsample_and_log_prob(self, sample_shape: torch.Size = torch.Size()) -> tuple[Tensor, Tensor]:
        """Return z = m + s e and its log density in nats."""
        loc, scale = self.base_dist.loc, self.base_dist.scale
        noise = torch.randn(*sample_shape, *loc.shape, dtype=loc.dtype, device=loc.device)
        constant = 0.5 * loc.shape[-1] * math.log(2 * math.pi)
        return loc + scale * noise, -0.5 * noise.square().sum(-1) - scale.log().sum(-1) - constant


class Encoder(nn.Module):
    """Map x (N, D) to a distribution over z with event shape (K,) that offers ``rsample_and_log_prob()``.

    Parameters
    ----------
    features, latents : int
    """

    warning: str | None = None  # what the family of the encoder does to the answer, if anything

    def __init__(self, features: int, latents: int) -> None:
        super().__init__()
        self.features = check_count("features", features)
        self.latents = check_count("latents", latents)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.features}, {self.latents})"

    def forward(self, x: Float[Tensor, "samples features"]) -> dist.TorchDistribution:
        """Return q(z | x)."""
        raise NotImplementedError

    def start(self, x: Float[Tensor, "samples features"], generator: torch.Generator) -> None:
        """Set the first parameter values for data x: its units, and a seeded draw."""
        raise NotImplementedError

    def rescale(self, units: Float[Tensor, " features"]) -> None:
        """Put an encoder of x / units into the units of x; one without this is trained on x as it is."""
        raise NotImplementedError

    def guide(self) -> Guide:
        """Return the encoder as a Pyro guide for a model with the plate ``samples`` and the site ``z``."""
        return Guide(self)


class Guide(PyroModule):
    """The Pyro program z_n ~ q(z | x_n) on the plate ``samples``, sharing the encoder's parameters."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    @local_parameters
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run with parameters kept in the module."""
        for parameter in self.encoder.parameters():
            if not hasattr(parameter, "unconstrained"):  # stock SVI asks every parameter for this
                parameter.unconstrained = weakref.ref(parameter)  # type: ignore[attr-defined]
        ensure_local_context(self)
        return super().__call__(*args, **kwargs)

    def forward(
        self,
        x: Float[Tensor, "samples features"],
        context: Float[Tensor, "samples latents"] | None = None,
        *,
        size: int | None = None,
    ) -> Tensor:
        """Sample z for the same rows as the model sees; arguments as in ``LatentModel.forward``."""
        law = self.encoder(x)
        with pyro.plate("samples", size or len(x), subsample=torch.arange(len(x))):
            return pyro.sample("z", law)
