"""Inference: one verb, methods as values, one result."""

from probae.inference.amortize import Amortization
from probae.inference.base import Fit, Method
from probae.inference.draws import Draws
from probae.inference.em import EM
from probae.inference.gaussian_posterior import GaussianPosterior
from probae.inference.gibbs_posterior import GibbsPosterior
from probae.inference.hmc import HMCPosterior
from probae.inference.importance import ImportancePosterior, WeightedDraws
from probae.inference.map import MAP
from probae.inference.maximum_likelihood import MaximumLikelihood
from probae.inference.minres import MinimumResiduals
from probae.inference.objectives import ELBO, LassoEnergy, PredictiveSparseDecomposition
from probae.inference.principal_axis import PrincipalAxis
from probae.inference.segmented import SegmentedLikelihood
from probae.inference.stochastic_em import StochasticEM
from probae.inference.svi import SVI
from probae.inference.variational_em import VariationalEM
from probae.inference.variational_posterior import VariationalPosterior

__all__ = [
    "ELBO",
    "EM",
    "MAP",
    "SVI",
    "Amortization",
    "Draws",
    "Fit",
    "GaussianPosterior",
    "GibbsPosterior",
    "HMCPosterior",
    "ImportancePosterior",
    "LassoEnergy",
    "MaximumLikelihood",
    "Method",
    "MinimumResiduals",
    "PredictiveSparseDecomposition",
    "PrincipalAxis",
    "SegmentedLikelihood",
    "StochasticEM",
    "VariationalEM",
    "VariationalPosterior",
    "WeightedDraws",
]
