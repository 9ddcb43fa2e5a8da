"""The units of x: what a fit divides by, and a warning where it cannot and should."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import ConvergenceWarning
from probae.encoders import Encoder
from probae.encoders.network import NetworkEncoder
from probae.inference.objectives.units import follows_units
from probae.inference.regularizers import Regularizer
from probae.models import LatentModel, LinearFactorModel

ALIKE = 1e3  # units between 1 over this and this are near enough to 1


def spread_of(values: Float[Tensor, "samples features"]) -> Float[Tensor, " features"]:
    """Return the standard deviation of each column, missing entries left out, for numbers of any size.

    Examples
    --------
    >>> spread_of(torch.tensor([[1e200, 1.0], [3e200, 1.0]], dtype=torch.float64))
    tensor([1.0000e+200,  0.0000e+00], dtype=torch.float64)
    """
    largest = values.nan_to_num().abs().amax(0)
    largest = torch.where(largest > 0, largest, torch.ones_like(largest))
    shrunk = values / largest  # squares of very large or small numbers would leave the range of float64
    return largest * (shrunk - shrunk.nanmean(0)).square().nanmean(0).sqrt()


def can_rescale(encoder: Encoder, objective: Any, regularizers: tuple[Regularizer, ...]) -> bool:
    """Whether a fit may run on x / units: encoder and objective can be put back, and no regulariser has units."""
    return follows_units(objective) and not regularizers and type(encoder).rescale is not Encoder.rescale


def warn_units(model: LatentModel, encoder: Encoder, values: Float[Tensor, "samples features"]) -> None:
    """Warn of columns far from unit size, where steps of ``lr`` are taken in weights that have their units.

    With a noise variance common to all columns the largest of them is what counts.
    """
    if model.units is None:
        return
    standardizes = isinstance(encoder, NetworkEncoder) and not isinstance(model, LinearFactorModel)
    spread = spread_of(values)
    varying = spread[spread > 0] if model.units == "each" else spread.amax(0, keepdim=True)
    if standardizes or len(varying) == 0 or bool((varying.amin() > 1 / ALIKE) & (varying.amax() < ALIKE)):
        return
    warnings.warn(
        f"Columns of x have standard deviations up to {float(spread.amax()):.3g}, down to {float(varying.amin()):.3g}, "
        "and a fit with regularizers, or an encoder that cannot be rescaled, takes steps of lr in their units: "
        "standardise x, or the answer will be of no use.",
        ConvergenceWarning,
        stacklevel=2,
    )
