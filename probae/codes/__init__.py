"""Sparse codes of given atoms, with a certificate of how far they are from the optimum."""

from probae.codes.greedy import k_sparse_codes, orthogonal_matching_pursuit
from probae.codes.proximal import certificate, soft_threshold
from probae.codes.result import Codes
from probae.codes.solve import lasso
from probae.codes.sparse import sparse_codes

__all__ = [
    "Codes",
    "certificate",
    "k_sparse_codes",
    "lasso",
    "orthogonal_matching_pursuit",
    "soft_threshold",
    "sparse_codes",
]
