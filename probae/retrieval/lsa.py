"""Latent semantic analysis: documents by their leading singular vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import DataError, ParameterError, check_count
from probae.retrieval.tables import check_named


@dataclass(frozen=True, eq=False, repr=False)
class SemanticSpace:
    """Where latent semantic analysis puts documents.

    Attributes
    ----------
    weights : Tensor (D,)
        Of each word.
    directions : Tensor (D, K)

    Examples
    --------
    >>> SemanticSpace(torch.ones(2).double(), torch.eye(2).double()).codes([[3, 0], [0, 0]])
    tensor([[1., 0.],
            [0., 0.]], dtype=torch.float64)
    """

    weights: Float[Tensor, "words"]
    directions: Float[Tensor, "words latents"]

    def __repr__(self) -> str:
        words, latents = self.directions.shape
        return f"SemanticSpace({words} words, {latents} dimensions)"

    def codes(self, counts: Any) -> Float[Tensor, "samples latents"]:
        """Return the position of each document; one without words is at the origin."""
        return weighted(check_counts(counts, len(self.weights)), self.weights) @ self.directions


@dataclass(frozen=True)
class LSA:
    r"""Truncated singular value decomposition of log(1 + count), times inverse document frequency, in rows of length 1.

    .. math:: \text{idf}_d = \log \frac{1 + N}{1 + n_d} + 1, \quad n_d \text{ the documents with word } d

    Each row is divided by its length before the decomposition, so that long documents weigh no more than short ones.
    Compare documents by the cosine of their codes: :func:`cosine_distances`.

    Parameters
    ----------
    dimensions : int
        Below the number of words.
    idf : bool
        Whether words are weighted.

    References
    ----------
    .. [1] Deerwester, S., Dumais, S. T., Furnas, G. W., Landauer, T. K. & Harshman, R. (1990). Indexing by latent
       semantic analysis. Journal of the American Society for Information Science 41, 391-407.

    Examples
    --------
    >>> LSA(2).fit([[3, 0, 1], [0, 2, 0], [1, 1, 4], [2, 0, 0]])
    SemanticSpace(3 words, 2 dimensions)
    """

    dimensions: int = 50
    idf: bool = True

    def __post_init__(self) -> None:
        check_count("dimensions", self.dimensions)

    def fit(self, counts: Any, seed: int = 0) -> SemanticSpace:
        """Find the directions, by scikit-learn's randomised decomposition."""
        from sklearn.decomposition import TruncatedSVD

        x = check_counts(counts)
        if check_count("seed", seed, minimum=0) >= 2**32:
            raise ParameterError(
                f"seed should be below 2**32 for the decomposition of scikit-learn, got {seed}."
            )
        if self.dimensions >= min(x.shape):
            raise DataError(
                f"LSA of {self.dimensions} dimensions needs more documents and words than that, got {tuple(x.shape)}."
            )
        frequency = (x > 0).sum(0)
        weights = ((1 + len(x)) / (1 + frequency)).log() + 1 if self.idf else torch.ones(x.shape[1])
        weights = weights.double()
        decomposition = TruncatedSVD(self.dimensions, random_state=int(seed))
        decomposition.fit(weighted(x, weights).numpy())
        return SemanticSpace(weights, torch.from_numpy(np.ascontiguousarray(decomposition.components_.T)))


def weighted(counts: Tensor, weights: Tensor) -> Tensor:
    """Return weighted log counts, each document of length 1."""
    x = counts.log1p() * weights
    length = x.norm(dim=1, keepdim=True)
    return x / torch.where(length > 0, length, torch.ones_like(length))


def check_counts(counts: Any, words: int | None = None) -> Float[Tensor, "samples words"]:
    """Return counts as float64, or say why they are none."""
    x: Tensor = check_named("counts", counts, words)
    bad = x[(x < 0) | (x != x.round())]
    if len(bad):
        raise DataError(
            f"counts should be 0, 1, 2, ..., got {float(bad[0]):.4g}: pass the counts themselves."
        )
    return x


def cosine_distances(queries: Any, rows: Any) -> Float[Tensor, "queries rows"]:
    """Return 1 - cosine of every query and row; 1 where either is 0.

    Examples
    --------
    >>> cosine_distances([[1.0, 0.0]], [[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    tensor([[0., 1., 1.]], dtype=torch.float64)
    """
    rows = check_named("rows", rows)
    queries = check_named("queries", queries, rows.shape[1])
    left, right = (torch.nn.functional.normalize(one, dim=1) for one in (queries, rows))
    return 1 - left @ right.T
