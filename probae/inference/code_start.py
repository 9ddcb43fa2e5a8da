"""Where learning by marginal likelihood starts: a MAP dictionary, or factor analysis turned to its best frame."""

from __future__ import annotations

import warnings

import torch

from probae.checks import Data, DataError, NotExactError
from probae.inference.code_statistics import LEAST_NOISE, CodeParameters
from probae.inference.map import MAP
from probae.inference.noisy import _start_from_gaussian, _turn_to_best_frame
from probae.models import ConfirmatoryFactorAnalysis, LinearFactorModel, SparseCoding

STEPS = 100  # of MAP
SHARE = 0.3  # of the variance of the rows that a MAP dictionary leaves to the noise at the start


def start(model: LinearFactorModel, data: Data, seed: int) -> CodeParameters:
    """Put first values into the model, and return them for rows less their mean.

    With fewer factors than features, a Gaussian model finds the subspace and the noise; more need a dictionary.
    """
    if isinstance(model, ConfirmatoryFactorAnalysis):
        raise NotExactError(
            f"Loadings that are fixed to zeros would be freed here, got {model!r}: use MaximumLikelihood() or EM()."
        )
    if data.missing is not None:
        raise DataError("Codes need complete rows, but x has missing values: fill them in first.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is a start only
        if model.latents < model.features:
            _start_from_gaussian(model, data, seed)
            _turn_to_best_frame(model, data, seed)
        else:
            start_from_dictionary(model, data, seed)
    model.mean = data.values.mean(0)
    least = floor(model, data)
    model.noise_variance = torch.maximum(model.noise_variance.detach().double(), least)
    return CodeParameters(
        model.loadings.detach().double().clone(),
        model.noise_variance.detach(),
        torch.zeros_like(model.mean.detach()),
    )


def start_from_dictionary(model: LinearFactorModel, data: Data, seed: int) -> None:
    """Learn atoms by MAP, and share the variance of the rows between them and the noise."""
    dictionary = SparseCoding(model.features, model.latents)
    MAP(steps=STEPS).fit(dictionary, data, seed)
    atoms = dictionary.loadings.detach().double()
    power = data.values.var(0, correction=0).sum()
    model.loadings = atoms * ((1 - SHARE) * power / atoms.square().sum()).sqrt()
    noise = SHARE * power / model.features
    model.noise_variance = noise.expand(model.noise_variance.shape).clone()


def floor(model: LinearFactorModel, data: Data) -> torch.Tensor:
    """Return the least noise variance: a small part of the variance of the rows."""
    least = LEAST_NOISE * data.values.var(0, correction=0).mean()
    return least.expand(model.noise_variance.shape)
