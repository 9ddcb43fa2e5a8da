"""Sparse codes of given atoms, with a certificate of how far they are from the optimum."""

from probae.codes.proximal import certificate, soft_threshold
from probae.codes.result import Codes
from probae.codes.solve import lasso
from probae.codes.sparse import sparse_codes

__all__ = ["Codes", "certificate", "lasso", "soft_threshold", "sparse_codes"]
