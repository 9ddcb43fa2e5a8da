"""What an encoder is: a module from x to a distribution over z, usable alone and as a Pyro guide."""

from __future__ import annotations

import weakref
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.nn import PyroModule
from torch import Tensor, nn

from probae.checks import check_count
from probae.models.pyro_context import ensure_local_context, local_parameters


class Encoder(nn.Module):
    """Map x (N, D) to a distribution over z with event shape (K,) that offers ``rsample_and_log_prob()``.

    Parameters
    ----------
    features, latents : int

    Examples
    --------
    >>> import probae as pa, torch
    >>> class Half(pa.Encoder):
    ...     def forward(self, x):
    ...         return pa.encoders.laws.DiagonalCode(x[:, : self.latents] / 2, torch.ones(len(x), self.latents))
    >>> z, log_q = Half(3, 2)(torch.ones(4, 3)).rsample_and_log_prob()
    >>> z.shape, log_q.shape
    (torch.Size([4, 2]), torch.Size([4]))
    """

    linear: bool = False  # whether E[z | x] is linear in x, with its matrix in ``jacobian``
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

    def attach(self, model: Any) -> None:
        """Take from the model what the encoder shares with it; called before ``start`` on the copies to be fitted."""

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
    """The Pyro program z_n ~ q(z | x_n) on the plate ``samples``, sharing the encoder's parameters.

    Examples
    --------
    >>> import probae as pa, torch
    >>> pa.LinearGaussianEncoder(3, 2).guide()(torch.zeros(4, 3)).shape
    torch.Size([4, 2])
    """

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
