"""Rotation of factor loadings: criteria, normalisations, and `rotate`, which minimises one from many starts."""

from probae.rotation.base import Criterion
from probae.rotation.bentler import Bentler
from probae.rotation.bifactor import Bifactor
from probae.rotation.crawford_ferguson import CrawfordFerguson, Equamax, Parsimax
from probae.rotation.geomin import Geomin
from probae.rotation.information import Infomax, McCammon, MinimumEntropy
from probae.rotation.minima import Minimum
from probae.rotation.normalization import CuretonMulaik, Kaiser
from probae.rotation.oblimin import Biquartimin, Covarimin, Oblimax, Oblimin, Quartimin
from probae.rotation.orthomax import Orthomax, Quartimax, Varimax
from probae.rotation.promax import Promax
from probae.rotation.result import Rotation
from probae.rotation.search import rotate
from probae.rotation.simplimax import Simplimax
from probae.rotation.tandem import TandemI, TandemII
from probae.rotation.target import Target

__all__ = [
    "Bentler",
    "Bifactor",
    "Biquartimin",
    "Covarimin",
    "CrawfordFerguson",
    "Criterion",
    "CuretonMulaik",
    "Equamax",
    "Geomin",
    "Infomax",
    "Kaiser",
    "McCammon",
    "MinimumEntropy",
    "Minimum",
    "Oblimax",
    "Oblimin",
    "Orthomax",
    "Parsimax",
    "Promax",
    "Quartimax",
    "Quartimin",
    "Rotation",
    "Simplimax",
    "TandemI",
    "TandemII",
    "Target",
    "Varimax",
    "rotate",
]
