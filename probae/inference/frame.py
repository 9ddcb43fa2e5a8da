r"""A frame for loadings whose density does not change when they rotate: one W of each orbit {W R}.

For weights A (D, K) of full rank, every W has one rotation in which A'W is symmetric and positive definite: that which
brings it closest to A (orthogonal Procrustes). These W lie in the linear space V = {W : A'W = W'A}, and

.. math:: \int f(W)\, dW = c \int_V f(V)\, \prod_{i < j} (b_i + b_j)\, dV, \quad
          b \text{ the eigenvalues of } A'V, \quad
          c = \prod_{k=1}^K \frac{2 \pi^{k/2}}{\Gamma(k / 2)} \prod_{i < j} (a_i + a_j)^{-1/2}, \quad
          a \text{ the eigenvalues of } A'A,

because a rotation by a small skew S moves V by V S, of which A'V S + S A'V is what leads out of the space; c holds the
volume of the orthogonal group. A uniform rotation puts a draw of V back on its orbit. No pivot rows are chosen, and no
coordinate is a logarithm.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Frame:
    """The space of loadings with A'W symmetric, or of all loadings where they may not rotate.

    Parameters
    ----------
    weights : Tensor (D, K)
        A.
    fixed : bool
        Whether the frame is fixed; without it there is nothing to do.

    Attributes
    ----------
    basis : Tensor (D K, P)
        Orthonormal; P = D K - K (K - 1) / 2 in a fixed frame.

    Examples
    --------
    >>> weights = torch.eye(4, 2).double()
    >>> frame = Frame(weights, fixed=True)
    >>> frame.basis.shape
    torch.Size([8, 7])
    >>> frame.log_volume(3 * weights[None]).exp() / (2 * 2 * torch.pi)          # (3 + 3) / sqrt(1 + 1)
    tensor([4.2426], dtype=torch.float64)
    """

    def __init__(self, weights: Float[Tensor, "features latents"], *, fixed: bool) -> None:
        features, latents = weights.shape
        self.weights, self.fixed = weights, fixed
        first, second = torch.triu_indices(latents, latents, 1)
        self.skew = torch.zeros(len(first), latents, latents, dtype=torch.float64)
        pairs = torch.arange(len(first))
        self.skew[pairs, first, second], self.skew[pairs, second, first] = 1.0, -1.0
        if fixed and len(first):
            ways = (weights @ self.skew).flatten(1)  # out of the space: tr S'A'W = 0 in it
            self.basis = torch.linalg.svd(ways).Vh[len(first) :].T.contiguous()
        else:
            self.basis = torch.eye(features * latents, dtype=torch.float64)
        group = sum(
            math.log(2.0) + 0.5 * k * math.log(math.pi) - math.lgamma(0.5 * k) for k in range(1, latents + 1)
        )
        self.constant = group - 0.5 * float(self._log_sums(weights.T @ weights)) if fixed else 0.0

    def loadings(self, coordinates: Float[Tensor, "draws p"]) -> Float[Tensor, "draws features latents"]:
        """Return the loadings that coordinates in the basis stand for."""
        return (coordinates @ self.basis.T).unflatten(-1, self.weights.shape)

    def coordinates(self, loadings: Float[Tensor, "draws features latents"]) -> Float[Tensor, "draws p"]:
        """Return the coordinates of loadings in the frame; of others, those of their projection."""
        return loadings.flatten(1) @ self.basis

    def log_volume(self, loadings: Float[Tensor, "draws features latents"]) -> Float[Tensor, " draws"]:
        """Return log c + sum log (b_i + b_j): the volume of the orbit of each; 0 where the frame is free."""
        if not self.fixed:
            return torch.zeros(len(loadings), dtype=torch.float64)
        return self.constant + self._log_sums(self.weights.T @ loadings)

    def _log_sums(self, square: Float[Tensor, "*draws latents latents"]) -> Float[Tensor, "*draws"]:
        """Return sum log (b_i + b_j) over i < j: the log determinant of S -> B S + S B."""
        moved = square.unsqueeze(-3) @ self.skew
        moved = moved - moved.mT  # S B = -(B S)'
        matrix = 0.5 * moved.flatten(-2) @ self.skew.flatten(1).T
        return torch.linalg.slogdet(matrix).logabsdet

    def holds(self, loadings: Float[Tensor, "draws features latents"]) -> Bool[Tensor, " draws"]:
        """Whether A'W is positive definite: another W of the same orbit stands for it elsewhere."""
        if not self.fixed:
            return torch.ones(len(loadings), dtype=torch.bool)
        return torch.linalg.eigvalsh(self.weights.T @ loadings)[:, 0] > 0
