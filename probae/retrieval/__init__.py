"""Search by codes: binary codes and their index, baselines, and how well a search does."""

from probae.retrieval.hamming import HammingIndex, Neighbours
from probae.retrieval.hyperplanes import ITQ, Hyperplanes, RandomHyperplanes
from probae.retrieval.lsa import LSA, SemanticSpace, cosine_distances
from probae.retrieval.packed import PackedCodes, pack
from probae.retrieval.precision import PrecisionCurve, precision_at
from probae.retrieval.report import bit_report
from probae.retrieval.two_stage import TwoStageIndex

__all__ = [
    "ITQ",
    "LSA",
    "HammingIndex",
    "Hyperplanes",
    "Neighbours",
    "PackedCodes",
    "PrecisionCurve",
    "RandomHyperplanes",
    "SemanticSpace",
    "TwoStageIndex",
    "bit_report",
    "cosine_distances",
    "pack",
    "precision_at",
]
