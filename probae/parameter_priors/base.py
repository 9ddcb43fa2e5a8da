"""What a prior of a parameter is: its sites in the Pyro program, its units, and its exact conditional draws."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Self, TypeAlias

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import NotExactError, ParameterError, check_positive

Law: TypeAlias = (
    dist.TorchDistribution | Callable[[Any], dist.TorchDistribution]
)  # given, or made from the model's other sites
State = dict[str, Tensor]  # hyperparameters of all chains by site name


@dataclass(frozen=True, eq=False)
class ParameterPrior:
    """Prior of a parameter of a linear factor model; leaves are small frozen dataclasses.

    Their fields are numbers above 0, but ``scale``, which carries the units of x and may be a tensor.

    Examples
    --------
    >>> import probae as pa
    >>> list(pa.parameter_priors.InverseGamma(2.0, 0.5).sites("noise_variance", torch.Size([4])))
    ['noise_variance']
    """

    def __post_init__(self) -> None:
        for field in fields(self):
            value, several = getattr(self, field.name), field.name == "scale"
            checked = (
                check_numbers("scale", value, positive=True) if several else check_positive(field.name, value)
            )
            object.__setattr__(self, field.name, checked)

    def sites(self, name: str, shape: torch.Size) -> dict[str, Law]:
        """Return the law of each site of the Pyro program, hyperparameters first; none for an improper prior.

        Parameters
        ----------
        name : str
            Of the parameter, such as ``"loadings"``.
        shape : torch.Size
            Of the parameter.
        """
        raise NotImplementedError

    def in_units(self, units: Float[Tensor, " features"]) -> Self:
        """Return the prior of the parameter of x / units, given that of x."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class LoadingsPrior(ParameterPrior):
    r"""Prior of the loadings that is normal given its hyperparameters.

    .. math:: W_{dk} \mid h \sim N(0, v_{dk}(h))

    Every leaf has a field ``scale``, to whose square v is proportional. All states are float64 with the chains in
    front, drawn from torch's global generator.

    Examples
    --------
    >>> import probae as pa
    >>> pa.parameter_priors.Normal(2.0).variance({})
    tensor([[4.]], dtype=torch.float64)
    """

    @property
    def scale(self) -> float | Tensor:
        """In units of x: a number, one for each feature (D,), or one for each entry (D, K)."""
        raise NotImplementedError

    @property
    def entries(self) -> Tensor:
        """The scale in a shape that broadcasts to (D, K)."""
        scale = torch.as_tensor(self.scale, dtype=torch.float64)
        return scale.reshape(-1, 1) if scale.dim() < 2 else scale

    @property
    def scales_factors_alike(self) -> bool:
        """Whether the scale is the same for all factors."""
        return bool((self.entries == self.entries[:, :1]).all())

    def entries_of(self, shape: torch.Size) -> Tensor:
        """Return the scale of each entry of loadings of this shape.

        Raises
        ------
        ParameterError
            It is one for other features or factors.
        """
        check_shape(self.entries.shape, shape)
        return self.entries.expand(shape)

    def in_units(self, units: Float[Tensor, " features"]) -> Self:
        """Divide the scale by the unit of each feature."""
        return replace(self, scale=per_feature(self.scale, units))  # type: ignore[call-arg]  # a field of leaves

    @property
    def rotation_invariant(self) -> bool:
        """Whether p(W R) = p(W) for every orthogonal R."""
        return False

    def start(self, chains: int, features: int, latents: int) -> State:
        """Draw hyperparameters from their prior, one set for each chain."""
        return {}

    def variance(self, state: State) -> Tensor:
        """Return v given the hyperparameters, in a shape that broadcasts to (chains, D, K)."""
        raise NotImplementedError

    def update(self, state: State, loadings: Float[Tensor, "chains features latents"]) -> State:
        """Draw the hyperparameters given the loadings."""
        return state

    def log_prob(
        self, state: State, loadings: Float[Tensor, "chains features latents"]
    ) -> Float[Tensor, " chains"]:
        """Return log p(W | h) + log p(h) of each chain, in nats."""
        raise NotImplementedError

    def log_marginal(self, loadings: Float[Tensor, "chains features latents"]) -> Float[Tensor, " chains"]:
        """Return log p(W), the hyperparameters integrated out, where that has a closed form.

        Raises
        ------
        NotExactError
            It has none.
        """
        raise NotExactError(
            f"{type(self).__name__} loadings have no closed density without their hyperparameters: Gibbs() draws both."
        )

    @property
    def sparse(self) -> bool:
        """Whether loadings are exactly 0 with positive probability; `draw_loadings` then draws them."""
        return False

    def draw_loadings(
        self,
        state: State,
        loadings: Float[Tensor, "chains features latents"],
        square: Float[Tensor, "chains latents latents"],
        cross: Float[Tensor, "chains latents features"],
        noise: Float[Tensor, "chains #features"],
    ) -> tuple[State, Float[Tensor, "chains features latents"]]:
        """Move hyperparameters and loadings given Z'Z, Z'X and the noise variances: for sparse laws only.

        Others are normal given their hyperparameters, and drawn from a normal law by who calls.
        """
        raise NotImplementedError

    def turned(
        self, loadings: Float[Tensor, "chains features latents"]
    ) -> Float[Tensor, "chains features latents"]:
        """Rotate factors at random where a sparse law leaves that free."""
        return loadings


@dataclass(frozen=True, eq=False)
class NoisePrior(ParameterPrior):
    """Prior of noise variances, independent over features.

    Examples
    --------
    >>> import probae as pa
    >>> prior = pa.parameter_priors.InverseGamma(1.0, 1.0)              # p(1) = exp(-1)
    >>> prior.log_prob(torch.ones(2, dtype=torch.float64))
    tensor([-1., -1.], dtype=torch.float64)
    """

    def draw(self, squares: Float[Tensor, "*chains"], count: int | Tensor) -> Float[Tensor, "*chains"]:
        """Draw each variance given the sum of squares of ``count`` residuals N(0, variance)."""
        raise NotImplementedError

    def check_residuals(self, squares: Float[Tensor, "*chains"], count: int | Tensor) -> None:
        """Refuse sums of squares of ``count`` residuals that leave no proper posterior; most laws take any.

        Raises
        ------
        ParameterError
            Residuals that are all 0, under a law whose density does not fall to 0 there.
        """

    def log_prob(self, variance: Float[Tensor, "*chains"]) -> Float[Tensor, "*chains"]:
        """Return the log density of each variance, in nats."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class MeanPrior(ParameterPrior):
    """Prior of the mean of x.

    Examples
    --------
    >>> import probae as pa
    >>> isinstance(pa.parameter_priors.Flat(), pa.parameter_priors.MeanPrior)
    True
    """


def expanded(law: dist.TorchDistribution, shape: torch.Size) -> dist.TorchDistribution:
    """Give a law of numbers, or of events that fill the last dimensions, the shape of a parameter.

    Raises
    ------
    ParameterError
        Its numbers have another shape.
    """
    batch = shape[: len(shape) - len(law.event_shape)]
    check_shape(law.batch_shape, batch)
    return law.expand(batch).to_event(len(batch))


def check_shape(given: torch.Size, shape: torch.Size) -> None:
    """Refuse numbers that do not broadcast to a parameter.

    Raises
    ------
    ParameterError
        With both shapes.
    """
    sizes = zip(reversed(given), reversed(shape), strict=False)
    if len(given) > len(shape) or any(own not in (1, other) for own, other in sizes):
        raise ParameterError(
            f"The law of a parameter of shape {tuple(shape)} should have one number for all of it, or numbers that "
            f"broadcast to that shape, got shape {tuple(given)}."
        )


def check_numbers(name: str, value: Any, *, positive: bool = False) -> float | Tensor:
    """Return finite numbers as a float, or as a float64 tensor of their shape.

    Raises
    ------
    ParameterError
        They are no numbers, not finite, or not above 0 where they should be.
    """
    message = f"{name} should be finite numbers{' above 0' if positive else ''}, got {value!r}."
    try:
        numbers = torch.as_tensor(value, dtype=torch.float64).detach().clone()
    except (TypeError, ValueError, RuntimeError):
        raise ParameterError(message) from None
    if not bool(numbers.isfinite().all()) or (positive and not bool((numbers > 0).all())):
        raise ParameterError(message)
    return numbers if numbers.dim() else float(numbers)


def per_feature(values: float | Tensor, units: Tensor, power: int = 1) -> Tensor:
    """Divide a scale by (a power of) the unit of each feature, the first dimension of both."""
    values = torch.as_tensor(values, dtype=torch.float64)
    return values / units.pow(power).reshape(-1, *[1] * (values.dim() - 1))


def variance_in_units(scale: float | Tensor, units: Tensor, power: int) -> float | Tensor:
    """Divide a scale of noise by a power of the unit of each feature, or of the one that is common to all."""
    common = not torch.as_tensor(scale).dim() and bool((units == units[0]).all())
    scale = per_feature(scale, units[:1] if common else units, power)
    return scale if len(scale) > 1 else float(scale)


def log_normal(
    loadings: Float[Tensor, "chains features latents"], variance: Tensor
) -> Float[Tensor, " chains"]:
    """Return the sum of log N(W_dk; 0, v_dk) of each chain."""
    variance = variance.expand(loadings.shape)
    terms = loadings.square() / variance + variance.log() + math.log(2 * math.pi)
    return -0.5 * terms.sum((-2, -1))


def draw_inverse_gamma(shape: float | Tensor, scale: Tensor) -> Tensor:
    """Draw from IG(shape, scale), from torch's global generator."""
    shape = torch.as_tensor(shape, dtype=torch.float64).expand_as(scale)
    return scale / torch._standard_gamma(shape.contiguous())
