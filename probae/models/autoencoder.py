"""The nonlinear model that an autoencoder is: a prior, a decoder, a likelihood."""

from __future__ import annotations

import copy
from typing import Any, Literal

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import DataError, ParameterError
from probae.decoders import Decoder, MLPDecoder
from probae.likelihoods import Gaussian, Likelihood
from probae.likelihoods.base import Noise
from probae.models.base import LatentModel
from probae.models.pyro_context import Unconstrained, local_parameters
from probae.priors import Gaussian as StandardNormal
from probae.priors import Prior


class Autoencoder(LatentModel):
    r"""Nonlinear latent-variable model; with an encoder, a (variational) autoencoder.

    .. math:: z \sim p(z), \qquad x \mid z \sim \text{likelihood}(\text{decoder}(z))

    Parameters
    ----------
    features : int
        Columns D of x.
    latents : int
        Columns K of z.
    decoder : Decoder, optional
        ``MLPDecoder(latents, features)`` by default; copied.
    likelihood : Likelihood, optional
        ``probae.likelihoods.Gaussian()`` by default; copied.
    prior : Prior, optional
        Law of z; ``probae.priors.Gaussian()`` by default.

    Attributes
    ----------
    decoder : Decoder
    noise_model : Likelihood
        The constructor's ``likelihood``; the method of that name gives p(x | z).

    Raises
    ------
    ParameterError
        If the decoder has other sizes than the model, or an argument is of another kind.

    References
    ----------
    .. [1] Kingma, D. P. & Welling, M. (2014). Auto-encoding variational Bayes. ICLR.

    Examples
    --------
    >>> import probae as pa
    >>> model = pa.Autoencoder(6, 2, likelihood=pa.likelihoods.Bernoulli())
    >>> z = model.prior.distribution(2).sample((3,))
    >>> model.reconstruct(z).shape, model.sample(4, seed=0).shape
    (torch.Size([3, 6]), torch.Size([4, 6]))
    """

    started: bool = False  # whether the weights are pre-trained, so that `start` leaves them alone

    @local_parameters
    def __init__(
        self,
        features: int,
        latents: int,
        decoder: Decoder | None = None,
        likelihood: Likelihood | None = None,
        prior: Prior | None = None,
    ) -> None:
        super().__init__(features, latents, StandardNormal() if prior is None else prior)
        decoder = MLPDecoder(latents, features) if decoder is None else decoder
        likelihood = Gaussian() if likelihood is None else likelihood
        if not isinstance(decoder, Decoder):
            raise ParameterError(
                f"decoder should be one from probae.decoders, such as MLPDecoder({latents}, {features}), "
                f"got {type(decoder).__name__}."
            )
        if not isinstance(likelihood, Likelihood):
            raise ParameterError(
                f"likelihood should be one from probae.likelihoods, such as Gaussian(), "
                f"got {type(likelihood).__name__}."
            )
        if (decoder.latents, decoder.outputs) != (features, latents)[::-1]:
            raise ParameterError(
                f"The decoder maps {decoder.latents} latents to {decoder.outputs} outputs, the model has {latents} "
                f"latents and {features} features: build both with the same sizes."
            )
        self.decoder = copy.deepcopy(decoder).double()
        self.noise_model = likelihood.sized(features).double()

    @local_parameters
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the Pyro program with parameters kept in the module."""
        for parameter in (*self.decoder.parameters(), *self.noise_model.parameters()):
            parameter.unconstrained = Unconstrained(parameter)  # type: ignore[attr-defined]
        return super().__call__(*args, **kwargs)

    def __repr__(self) -> str:
        return (
            f"Autoencoder({self.features}, {self.latents}, decoder={self.decoder!r}, "
            f"likelihood={self.noise_model!r}, prior={self.prior!r})"
        )

    @local_parameters
    def decode(self, z: Float[Tensor, "*batch latents"]) -> Float[Tensor, "*batch features"]:
        """Return the decoder's output: means, logits or log-shares, as the likelihood reads it."""
        output: Tensor = self.decoder(z)
        return output

    @local_parameters
    def likelihood(self, z: Float[Tensor, "*batch latents"]) -> dist.TorchDistribution:
        """Return p(x | z) with event shape (D,)."""
        return self.noise_model(self.decode(z))

    @local_parameters
    def reconstruct(self, z: Float[Tensor, "*batch latents"]) -> Float[Tensor, "*batch features"]:
        """Return E[x | z], in the units of x."""
        return self.noise_model.mean(self.decode(z))

    def check(self, x: Float[Tensor, "samples features"]) -> None:
        """Refuse rows that the likelihood has no density for, such as shares for counts."""
        self.noise_model.check(x)

    def start(self, x: Float[Tensor, "samples features"], generator: torch.Generator) -> None:
        """Set first values for data x: its units, half its variance as noise, weights drawn by the generator.

        Raises
        ------
        DataError
            If the likelihood has no density for x.
        """
        self.check(x)
        if self.started:
            return
        centre, spread = self.noise_model.start(x)
        self.decoder.start(centre, spread, generator)

    @property
    def units(self) -> Literal["each", "common"] | None:
        """Whether ``rescale`` takes a unit for each column, or one common to all; None for data without units."""
        if self.started:  # its weights are in the units of x already
            return None
        if not isinstance(self.noise_model, Noise) or type(self.decoder).forward is not Decoder.forward:
            return None
        return "each" if self.noise_model.noise == "diagonal" else "common"

    @torch.no_grad()
    def rescale(self, units: Float[Tensor, " features"]) -> None:
        """Put a model of x / units into the units of x."""
        self.decoder.rescale(units)
        self.noise_model.rescale(units)  # type: ignore[operator]

    def read_parameters(self) -> Tensor:
        """Read the decoder and the likelihood once, outside the plate; return a tensor like the parameters."""
        _ = self.noise_model  # read here, so that what it samples is outside the plate
        return self.decoder.centre

    def program(self, x: Tensor | None, context: Tensor | None) -> Tensor:
        """Sample z, then x given z, for the rows of the plate."""
        if x is not None:
            if bool(x.isnan().any()):
                raise DataError("An Autoencoder needs complete rows, but x has missing values: fill them in.")
            self.check(x)
        return super().program(x, context)
