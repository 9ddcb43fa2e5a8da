"""First values of a model and an encoder that are trained together."""

from __future__ import annotations

import torch
from torch import Tensor

from probae.encoders import Encoder
from probae.models import ConfirmatoryFactorAnalysis, LatentModel, LinearFactorModel


def begin(model: LatentModel, encoder: Encoder, x: Tensor, generator: torch.Generator) -> None:
    """Set first values of model and encoder for data x; the encoder may share or read those of the model."""
    start = getattr(model, "start", None)
    if start is not None:
        start(x, generator)
    initialize(model, x, generator)
    encoder.attach(model)
    encoder.start(x, generator)


def initialize(model: LatentModel, x: Tensor, generator: torch.Generator) -> None:
    """Start a linear model at the data's means, half their variance as noise, and seeded random loadings.

    A constant column has no loadings; nothing in it moves them.
    """
    if not isinstance(model, LinearFactorModel):
        return
    own = spread = x.std(0)
    spread = torch.where(spread > 0, spread, spread.mean().clamp_min(torch.finfo(x.dtype).tiny))
    draw = torch.randn(model.features, model.latents, generator=generator, dtype=torch.float64).to(x.dtype)
    model.mean = x.mean(0)
    if isinstance(model, ConfirmatoryFactorAnalysis):  # every factor with a positive direction, zeros kept
        draw = draw.abs() * model.pattern
    model.loadings = draw * own.unsqueeze(1) / (2 * model.latents) ** 0.5
    variance = 0.5 * spread.square()
    model.noise_variance = variance if model.noise == "diagonal" else variance.mean()
