"""Variances of directions from an information matrix that may be singular."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["direction_variances"]

NULL = 1e-10  # eigenvalue of the information, of entries scaled to 1, that counts as none
OUTSIDE = 1e-6  # share of a direction that may lie where there is none


def direction_variances(information: Tensor, directions: Tensor) -> tuple[Tensor, Float[Tensor, " planes"]]:
    """Return J^+ c and c' J^+ c of each column c; infinite where c leaves the range of J.

    Examples
    --------
    >>> import torch
    >>> information = torch.diag(torch.tensor([2.0, 0.0], dtype=torch.float64))
    >>> direction_variances(information, torch.eye(2, dtype=torch.float64))[1]
    tensor([0.5000,    inf], dtype=torch.float64)
    """
    size = information.diagonal().clamp_min(1e-300).sqrt()
    values, vectors = torch.linalg.eigh(information / torch.outer(size, size))
    scaled = vectors.mT @ (directions / size.unsqueeze(1))
    kept = (values > NULL * values[-1]).unsqueeze(1)
    lost = (scaled.square() * ~kept).sum(0) > OUTSIDE * scaled.square().sum(0)
    part = torch.where(kept, scaled / values.clamp_min(1e-300).unsqueeze(1), 0.0)
    variance = (scaled * part).sum(0)
    return vectors @ part / size.unsqueeze(1), torch.where(lost, math.inf, variance)
