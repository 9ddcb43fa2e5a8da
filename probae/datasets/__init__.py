"""Data that ship with the package, and seeded generators that return the truth with the data."""

from probae.datasets.base import Dataset
from probae.datasets.documents import topic_documents
from probae.datasets.generators import autoregressive, likert, linear_factors
from probae.datasets.images import digits, natural_patches
from probae.datasets.tables import CovarianceTable, ability_cov, holzinger_swineford

__all__ = [
    "CovarianceTable",
    "Dataset",
    "ability_cov",
    "autoregressive",
    "digits",
    "holzinger_swineford",
    "likert",
    "linear_factors",
    "natural_patches",
    "topic_documents",
]
