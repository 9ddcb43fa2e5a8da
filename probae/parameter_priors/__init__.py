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

from probae.parameter_priors.base import LoadingsPrior, MeanPrior, NoisePrior, ParameterPrior
from probae.parameter_priors.inverse_gamma import InverseGamma
from probae.parameter_priors.mean import Fixed, Flat
from probae.parameter_priors.normal import Normal

__all__ = [
    "Fixed",
    "Flat",
    "InverseGamma",
    "LoadingsPrior",
    "MeanPrior",
    "NoisePrior",
    "Normal",
    "ParameterPrior",
]
