r"""What a model at point codes leaves open: the scale of the codes beside a prior, the noise beside a squared error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probae.checks import Data, NotExactError, ParameterError
from probae.decoders import LinearDecoder
from probae.encoders import Encoder, TiedEncoder
from probae.inference.objectives import (
    JointDensity,
    LassoEnergy,
    PredictiveSparseDecomposition,
    ReweightedWakeSleep,
)
from probae.models import Autoencoder, LatentModel, LinearFactorModel
from probae.priors import Laplace


def prior_at_code(objective: Any) -> bool:
    """Whether the objective has the prior in it, at one code a row: small codes and large atoms make it cheap.

    Examples
    --------
    >>> import probae as pa
    >>> prior_at_code(pa.LassoEnergy()), prior_at_code(pa.SquaredError()), prior_at_code(pa.ELBO())
    (True, False, False)
    """
    return isinstance(objective, JointDensity | LassoEnergy | PredictiveSparseDecomposition)


def check_lasso(objective: Any, model: Any) -> None:
    """Refuse the energy of Laplace codes with isotropic noise for another model.

    Raises
    ------
    NotExactError
    """
    if isinstance(objective, LassoEnergy | PredictiveSparseDecomposition) and not (
        isinstance(model, LinearFactorModel)
        and isinstance(model.prior, Laplace)
        and model.noise == "isotropic"
    ):
        raise NotExactError(
            f"{type(objective).__name__} is the energy of Laplace codes with isotropic noise, got {model!r}: "
            "use SparseCoding(features, latents), or another objective."
        )


def check_bound(objective: Any, encoder: Encoder) -> None:
    """Refuse an objective that SVI would train without a maximum, or with gradients of other than it says.

    Raises
    ------
    ParameterError
    """
    if prior_at_code(objective):
        raise ParameterError(
            f"SVI maximises a bound, and {type(objective).__name__} has the prior at one code a row, which leaves the "
            "spread of q open: use MAP(encoder=..., objective=...)."
        )
    if isinstance(objective, ReweightedWakeSleep) and isinstance(encoder, TiedEncoder):
        raise ParameterError(
            "ReweightedWakeSleep has other gradients for the encoder than for the model, and a TiedEncoder shares "
            "its weights with it: use another encoder, or IWAE()."
        )


@contextmanager
def held_atoms(model: LatentModel, x: Float[Tensor, "samples features"]) -> Iterator[Callable[[], None]]:
    r"""Hold the columns of W at one norm c in training: yields what puts them back there, in place, after a step.

    Codes of unit variance then make half the variance of x, :math:`c^2 K = \tfrac12 \operatorname{tr} S`, as the first
    values do. Were the other half to follow the noise, codes and atoms would die out together: more noise, smaller
    atoms, smaller codes, more noise. Columns of a pre-trained decoder keep their own norms. Gradients lose what would
    change a norm: Adam divides entries by their sizes, and would stop elsewhere than at a stationary point.
    """
    weight, unit = atoms_of(model) or (None, None)
    if weight is None:
        yield lambda: None
        return
    rows = torch.ones_like(weight[:, :1]) if unit is None else unit.unsqueeze(1)

    def norms() -> Tensor:
        return (rows * weight.detach()).norm(dim=0).clamp_min(torch.finfo(x.dtype).tiny)

    spread = x.std(0) if unit is None else unit
    pretrained = getattr(model, "started", False)
    wanted = norms() if pretrained else (0.5 / model.latents) ** 0.5 * spread.norm()

    @torch.no_grad()
    def hold() -> None:
        weight.mul_(wanted / norms())

    def along(gradient: Tensor) -> Tensor:
        normal = rows.square() * weight.detach()
        return gradient - normal * ((normal * gradient).sum(0) / normal.square().sum(0))

    hold()
    hook = weight.register_hook(along)
    try:
        yield hold
    finally:
        hook.remove()
        hold()


def atoms_of(model: LatentModel) -> tuple[Tensor, Tensor | None] | None:
    """Return the weight (D, K) of a linear model or decoder, and the unit of each row if it has one."""
    decoder = model.decoder if isinstance(model, Autoencoder) else None
    if isinstance(decoder, LinearDecoder):
        return decoder.head.weight, decoder.spread
    weight = getattr(model, "loadings", None)
    return (weight, None) if isinstance(weight, nn.Parameter) else None


@torch.no_grad()
def settle_noise(model: LatentModel, encoder: Encoder, data: Data) -> None:
    """Set the noise of a linear model to the mean squared residual: its most likely value given the codes."""
    if not isinstance(model, LinearFactorModel):
        return
    squares = (data.values - model.likelihood(encoder(data.values).mean).mean).square().mean(0)
    noise = squares if model.noise == "diagonal" else squares.mean()
    model.noise_variance = noise.clamp_min(torch.finfo(torch.float64).tiny)
