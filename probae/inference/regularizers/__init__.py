"""Regularisers of training with an encoder."""

from probae.inference.regularizers.base import Regularizer, check_regularizers
from probae.inference.regularizers.contractive import (
    ContractiveEncoder,
    ContractiveReconstruction,
    HigherOrderContraction,
)
from probae.inference.regularizers.denoising import (
    Corruption,
    Denoising,
    GaussianNoise,
    Masking,
    SaltAndPepper,
)
from probae.inference.regularizers.loss import regularized
from probae.inference.regularizers.nearby import NearbyRow
from probae.inference.regularizers.weight_decay import WeightDecay

__all__ = [
    "ContractiveEncoder",
    "ContractiveReconstruction",
    "Corruption",
    "Denoising",
    "GaussianNoise",
    "HigherOrderContraction",
    "Masking",
    "NearbyRow",
    "Regularizer",
    "SaltAndPepper",
    "WeightDecay",
    "check_regularizers",
    "regularized",
]
