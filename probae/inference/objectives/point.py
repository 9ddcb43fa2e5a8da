"""Objectives at one code per row, z = encoder(x).mean: what classical autoencoders maximise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class JointDensity:
    r"""Joint density log p(x, z) = log p(x | z) + log p(z) of each row at its code z = E q(z | x).

    With a Laplace prior this is the sparse autoencoder: the penalty on codes is the prior, not a regulariser. Small
    codes beside a large decoder would make it cheap, so :class:`probae.MAP` holds the atoms of a linear decoder at one
    norm; for another decoder add `WeightDecay`. Noise is learned with the rest, which has no optimum where codes can
    copy x: with as many latents as features use `LassoEnergy`, which holds it.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> pa.JointDensity()(pa.FactorAnalysis(9, 3), pa.LinearGaussianEncoder(9, 3).double(), x).shape
    torch.Size([301])
    """

    name: ClassVar[str] = "log joint density"
    energy: ClassVar[bool] = False

    def __call__(
        self,
        model: Any,
        encoder: Any,
        x: Float[Tensor, "samples features"],
        seen: Float[Tensor, "samples features"] | None = None,
    ) -> Float[Tensor, "samples"]:
        """Return log p(x, z) of each row, in nats; the encoder is shown ``seen`` in place of x."""
        return model.log_joint(x, encoder(x if seen is None else seen).mean)


@dataclass(frozen=True)
class Reconstruction:
    r"""Density log p(x | z) of each row at its code z = E q(z | x): a classical autoencoder, without a prior.

    Squared error, cross-entropy and the others are this for a Gaussian, Bernoulli, ... likelihood. The noise of a
    Gaussian is learned with the rest, which has no optimum where codes can copy x: then use `SquaredError`.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> pa.Reconstruction()(pa.FactorAnalysis(9, 3), pa.LinearGaussianEncoder(9, 3).double(), x).shape
    torch.Size([301])
    """

    name: ClassVar[str] = "log reconstruction density"
    energy: ClassVar[bool] = False

    def __call__(
        self,
        model: Any,
        encoder: Any,
        x: Float[Tensor, "samples features"],
        seen: Float[Tensor, "samples features"] | None = None,
    ) -> Float[Tensor, "samples"]:
        """Return log p(x | z) of each row, in nats; the encoder is shown ``seen`` in place of x."""
        return model.likelihood(encoder(x if seen is None else seen).mean).log_prob(x)


@dataclass(frozen=True)
class SquaredError:
    r"""Minus half the squared error, -|x - E[x | z]|^2 / 2, at the code z = E q(z | x).

    It is log p(x | z) for Gaussian noise of variance 1, without its constant, so a penalty has the strength it is
    given whatever the noise. The noise of a linear model is set after training, to the mean squared residual.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> pa.SquaredError()(pa.FactorAnalysis(9, 3), pa.LinearGaussianEncoder(9, 3).double(), x).shape
    torch.Size([301])
    """

    name: ClassVar[str] = "minus half the squared error"
    energy: ClassVar[bool] = True

    def __call__(
        self,
        model: Any,
        encoder: Any,
        x: Float[Tensor, "samples features"],
        seen: Float[Tensor, "samples features"] | None = None,
    ) -> Float[Tensor, "samples"]:
        """Return the value of each row, in squared units of x; the encoder is shown ``seen`` in place of x."""
        code = encoder(x if seen is None else seen).mean
        return -0.5 * (x - model.likelihood(code).mean).square().sum(-1)
