"""Models: how the data arise."""

from probae.models.autoencoder import Autoencoder
from probae.models.base import LatentModel
from probae.models.confirmatory import ConfirmatoryFactorAnalysis
from probae.models.factor_analysis import FactorAnalysis
from probae.models.ica import IndependentComponents
from probae.models.linear import LinearFactorModel
from probae.models.ppca import ProbabilisticPCA
from probae.models.sparse_coding import SparseCoding

__all__ = [
    "Autoencoder",
    "ConfirmatoryFactorAnalysis",
    "FactorAnalysis",
    "IndependentComponents",
    "LatentModel",
    "LinearFactorModel",
    "ProbabilisticPCA",
    "SparseCoding",
]
