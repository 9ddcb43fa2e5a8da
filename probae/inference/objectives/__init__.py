"""Objectives of training with an encoder, each one term per row in nats, or in squared units of x for an energy."""

from probae.inference.objectives.elbo import ELBO
from probae.inference.objectives.lasso import LassoEnergy, PredictiveSparseDecomposition

__all__ = ["ELBO", "LassoEnergy", "PredictiveSparseDecomposition"]
