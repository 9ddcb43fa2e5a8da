"""Objectives of training with an encoder, each one term per row in nats, or in squared units of x for an energy."""

from probae.inference.objectives.elbo import ELBO
from probae.inference.objectives.importance_weighted import IWAE, Renyi
from probae.inference.objectives.lasso import LassoEnergy, PredictiveSparseDecomposition
from probae.inference.objectives.point import JointDensity, Reconstruction, SquaredError
from probae.inference.objectives.sampled import SampledReconstruction
from probae.inference.objectives.wake_sleep import ReweightedWakeSleep

__all__ = [
    "ELBO",
    "IWAE",
    "JointDensity",
    "LassoEnergy",
    "PredictiveSparseDecomposition",
    "Reconstruction",
    "Renyi",
    "ReweightedWakeSleep",
    "SampledReconstruction",
    "SquaredError",
]
