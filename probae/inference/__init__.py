"""Inference: one verb, methods as values, one result."""

from probae.inference.amortize import Amortization
from probae.inference.base import Fit, Method
from probae.inference.checkpoint import Checkpoint
from probae.inference.draws import Draws
from probae.inference.em import EM
from probae.inference.gaussian_posterior import GaussianPosterior
from probae.inference.gibbs import Gibbs
from probae.inference.gibbs_posterior import GibbsPosterior
from probae.inference.hmc import HMCPosterior
from probae.inference.importance import ImportancePosterior, WeightedDraws
from probae.inference.laplace_approximation import LaplaceApproximation
from probae.inference.layers import GreedyLayers, PrincipalLayers
from probae.inference.map import MAP
from probae.inference.maximum_likelihood import MaximumLikelihood
from probae.inference.minres import MinimumResiduals
from probae.inference.nuts import NUTS
from probae.inference.objectives import (
    ELBO,
    IWAE,
    JointDensity,
    LassoEnergy,
    PredictiveSparseDecomposition,
    Reconstruction,
    Renyi,
    ReweightedWakeSleep,
    SampledReconstruction,
    SquaredError,
)
from probae.inference.point_encoder import PointEncoderPosterior
from probae.inference.pretraining import pretrain
from probae.inference.principal_axis import PrincipalAxis
from probae.inference.refinement import RefinedPosterior
from probae.inference.regularizers import (
    ContractiveEncoder,
    ContractiveReconstruction,
    Denoising,
    GaussianNoise,
    HigherOrderContraction,
    Masking,
    NearbyRow,
    Regularizer,
    SaltAndPepper,
    WeightDecay,
)
from probae.inference.schedule import Constant, Cosine, Schedule
from probae.inference.segmented import SegmentedLikelihood
from probae.inference.stochastic_em import StochasticEM
from probae.inference.stopping import EarlyStopping
from probae.inference.svi import SVI
from probae.inference.variational_bayes import VariationalBayes
from probae.inference.variational_em import VariationalEM
from probae.inference.variational_posterior import VariationalPosterior

__all__ = [
    "pretrain",
    "ELBO",
    "EM",
    "IWAE",
    "MAP",
    "SVI",
    "Checkpoint",
    "Constant",
    "Cosine",
    "ContractiveEncoder",
    "ContractiveReconstruction",
    "Denoising",
    "Amortization",
    "Draws",
    "EarlyStopping",
    "Fit",
    "GaussianNoise",
    "GaussianPosterior",
    "GreedyLayers",
    "PrincipalLayers",
    "Gibbs",
    "GibbsPosterior",
    "HMCPosterior",
    "HigherOrderContraction",
    "ImportancePosterior",
    "JointDensity",
    "Masking",
    "MaximumLikelihood",
    "NUTS",
    "Method",
    "MinimumResiduals",
    "NearbyRow",
    "PointEncoderPosterior",
    "LaplaceApproximation",
    "LassoEnergy",
    "PredictiveSparseDecomposition",
    "PrincipalAxis",
    "Schedule",
    "Reconstruction",
    "Regularizer",
    "Renyi",
    "ReweightedWakeSleep",
    "SaltAndPepper",
    "SampledReconstruction",
    "RefinedPosterior",
    "SegmentedLikelihood",
    "SquaredError",
    "StochasticEM",
    "VariationalBayes",
    "VariationalEM",
    "VariationalPosterior",
    "WeightDecay",
    "WeightedDraws",
]
