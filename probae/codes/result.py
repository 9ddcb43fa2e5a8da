"""What every function of codes returns."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor


class Codes(NamedTuple):
    """Sparse codes of each row.

    Attributes
    ----------
    z : Tensor (N, K)
    gap : Tensor (N,)
        Duality gap: the objective is at most this far above its minimum.
    iterations : Tensor (N,)
        Iterations each row took.

    Examples
    --------
    >>> import torch
    >>> from probae import sparse_codes
    >>> codes = sparse_codes(torch.tensor([[3.0, 0.5]]), torch.eye(2), penalty=1.0)
    >>> codes.z, codes.gap
    (tensor([[2., 0.]]), tensor([0.]))
    """

    z: Float[Tensor, "samples latents"]
    gap: Float[Tensor, "samples"]
    iterations: Int[Tensor, "samples"]
