"""Linear factor models whose factors are turned: what a profile along rotations compares."""

from __future__ import annotations

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import ParameterError
from probae.identifiability.hadamard import factor_root
from probae.inference import Fit
from probae.models import LinearFactorModel

__all__ = ["linear_model", "turned", "turns"]


def linear_model(model_or_fit: Any) -> LinearFactorModel:
    """Return the linear model with noise that was given, or whose fit was."""
    model = model_or_fit.model if isinstance(model_or_fit, Fit) else model_or_fit
    if not isinstance(model, LinearFactorModel):
        raise ParameterError(f"This needs a linear factor model or a fit of one, got {type(model).__name__}.")
    model._require_noise()
    return model


def turns(
    model: LinearFactorModel, rotations: Float[Tensor, "angles latents latents"]
) -> Float[Tensor, "angles latents latents"]:
    """Return A = L R L^{-1}, which turns the factors and leaves their covariance L L' as it is."""
    root = factor_root(model)
    return root @ rotations @ torch.linalg.inv(root)


def turned(model: LinearFactorModel, turn: Float[Tensor, "latents latents"]) -> LinearFactorModel:
    """Return a copy of a model with the loadings W A."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.loadings = model.loadings.detach().double() @ turn
    return other
