"""Denoising: the encoder is shown corrupted rows, the model is asked for the clean ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import ParameterError, check_positive
from probae.inference.regularizers.base import Regularizer


class Corruption(Protocol):
    """Random change of rows; a small frozen dataclass.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class Flip:
    ...     def __call__(self, x):
    ...         return -x
    >>> Denoising(Flip()).corrupt(torch.ones(1, 2))
    tensor([[-1., -1.]])
    """

    def __call__(self, x: Float[Tensor, "samples features"]) -> Float[Tensor, "samples features"]:
        """Return corrupted rows, drawn with torch's global generator."""


@runtime_checkable
class IndependentNoise(Corruption, Protocol):
    """Corruption of each entry by itself, given x, with known moments."""

    def moments(self, x: Float[Tensor, "samples features"]) -> tuple[Tensor, Tensor]:
        """Return mean and variance of every corrupted entry, shaped as x."""


@dataclass(frozen=True)
class GaussianNoise:
    """Corruption x + e with e ~ N(0, sd^2), sd in the units of x.

    Examples
    --------
    >>> import probae as pa, torch
    >>> pa.GaussianNoise(0.5)(torch.zeros(3, 2)).shape
    torch.Size([3, 2])
    """

    sd: float = 0.1

    def __post_init__(self) -> None:
        check_positive("sd", self.sd)

    def __call__(self, x: Float[Tensor, "samples features"]) -> Float[Tensor, "samples features"]:
        """Return corrupted rows."""
        return x + self.sd * torch.randn_like(x)

    def moments(self, x: Float[Tensor, "samples features"]) -> tuple[Tensor, Tensor]:
        """Return mean and variance of every corrupted entry."""
        return x, torch.full_like(x, self.sd**2)


@dataclass(frozen=True)
class Masking:
    """Corruption that sets each entry to ``value`` with probability ``fraction``.

    Examples
    --------
    >>> import probae as pa, torch
    >>> pa.Masking(0.25)(torch.ones(3, 2)).unique().tolist() in ([0.0, 1.0], [1.0], [0.0])
    True
    """

    fraction: float = 0.3
    value: float = 0.0

    def __post_init__(self) -> None:
        check_fraction(self.fraction)

    def __call__(self, x: Float[Tensor, "samples features"]) -> Float[Tensor, "samples features"]:
        """Return corrupted rows."""
        return torch.where(torch.rand_like(x) < self.fraction, torch.full_like(x, self.value), x)

    def moments(self, x: Float[Tensor, "samples features"]) -> tuple[Tensor, Tensor]:
        """Return mean and variance of every corrupted entry."""
        distance = self.value - x
        return x + self.fraction * distance, self.fraction * (1 - self.fraction) * distance.square()


@dataclass(frozen=True)
class SaltAndPepper:
    """Corruption that sets each entry, with probability ``fraction``, to ``low`` or ``high`` by a fair coin.

    Examples
    --------
    >>> import probae as pa, torch
    >>> bool(pa.SaltAndPepper(0.5)(torch.full((3, 2), 0.5)).sub(0.5).abs().unique().le(0.5).all())
    True
    """

    fraction: float = 0.3
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        check_fraction(self.fraction)

    def __call__(self, x: Float[Tensor, "samples features"]) -> Float[Tensor, "samples features"]:
        """Return corrupted rows."""
        draw = torch.rand_like(x)  # one draw for both: below fraction / 2 pepper, from there to fraction salt
        x = torch.where(draw < self.fraction, torch.full_like(x, self.high), x)
        return torch.where(draw < self.fraction / 2, torch.full_like(x, self.low), x)

    def moments(self, x: Float[Tensor, "samples features"]) -> tuple[Tensor, Tensor]:
        """Return mean and variance of every corrupted entry."""
        low, high, half = self.low - x, self.high - x, self.fraction / 2
        shift = half * (low + high)
        return x + shift, half * (low.square() + high.square()) - shift.square()


@dataclass(frozen=True)
class Denoising(Regularizer):
    r"""Show the encoder corrupted rows at every step, and compare with the clean ones.

    For squared error and Gaussian noise of variance s^2 the best reconstruction is E[x | seen], and

    .. math:: E[x \mid \tilde x] - \tilde x = s^2 \, \nabla \log p_s(\tilde x),

    with p_s the density of the corrupted rows: see :func:`probae.denoising_score`. For a linear reconstruction B x the
    loss is |x - B x|^2 + s^2 |B|^2, ridge on the whole map, which weight decay is not.

    Noise is drawn at every step. Where `SquaredError` and a linear map (a linear model, with a linear encoder) give the
    mean over the noise as a formula, that is trained on in place of draws: for the three noises here, alone.

    Parameters
    ----------
    noise : Corruption
        ``GaussianNoise(sd)``, ``Masking(fraction)``, ``SaltAndPepper(fraction)``, or a function of rows.

    Raises
    ------
    ParameterError
        If noise is not a function of rows.

    References
    ----------
    .. [1] Vincent, P. (2011). A connection between score matching and denoising autoencoders. Neural Computation 23.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> masked = pa.Denoising(pa.Masking(0.2))
    >>> method = pa.MAP(encoder=pa.LinearGaussianEncoder(9, 3), regularizers=(masked,), epochs=200)
    >>> pa.fit(pa.FactorAnalysis(9, 3), x, method).posterior(x).mean.shape
    torch.Size([301, 3])
    """

    noise: Corruption = field(default_factory=GaussianNoise)

    def __post_init__(self) -> None:
        if not callable(self.noise):
            raise ParameterError(f"noise should be a value such as GaussianNoise(0.1), got {self.noise!r}.")

    def corrupt(self, x: Float[Tensor, "samples features"]) -> Float[Tensor, "samples features"]:
        """Return corrupted rows."""
        return self.noise(x)


def check_fraction(value: float) -> None:
    """Refuse what is not a share of the entries."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise ParameterError(f"fraction should be between 0 and 1, got {value!r}.")
