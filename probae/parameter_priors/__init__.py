"""Priors of the parameters of a linear factor model, put on by ``model.with_priors``.

Examples
--------
>>> import probae as pa
>>> model = pa.FactorAnalysis(6, 2).with_priors(
...     loadings=pa.parameter_priors.Normal(1.0), noise_variance=pa.parameter_priors.InverseGamma(2.0, 0.5)
... )
>>> model.random_parameters
['loadings', 'noise_variance']
"""

from probae.parameter_priors.ard import ARD
from probae.parameter_priors.base import LoadingsPrior, MeanPrior, NoisePrior, ParameterPrior
from probae.parameter_priors.half_normal import HalfNormal
from probae.parameter_priors.horseshoe import Horseshoe
from probae.parameter_priors.inverse_gamma import InverseGamma
from probae.parameter_priors.mean import Fixed, Flat
from probae.parameter_priors.multiplicative_gamma import MultiplicativeGamma
from probae.parameter_priors.normal import Normal
from probae.parameter_priors.spike_slab import SpikeSlab

__all__ = [
    "ARD",
    "Fixed",
    "Flat",
    "HalfNormal",
    "Horseshoe",
    "InverseGamma",
    "LoadingsPrior",
    "MeanPrior",
    "MultiplicativeGamma",
    "NoisePrior",
    "Normal",
    "ParameterPrior",
    "SpikeSlab",
]
