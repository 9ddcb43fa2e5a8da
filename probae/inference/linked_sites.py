r"""What moves along when loadings are aligned: with W to W A go z to A^-1 z, and all that belongs to columns of W."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["move_sites"]

SCORES = ("z", "scores", "factor_mean")  # rows of factors, in the last dimension
COVARIANCES = ("factor_covariance", "factor_correlation")
OF_LOADINGS = "loadings_"  # hyperparameters; those whose last dimension is K belong to columns of loadings
PRODUCTS = "_shrinkage"  # whose cumulative products belong to the columns


def move_sites(
    draws: Mapping[str, Tensor], change: Float[Tensor, "chains draws latents latents"]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the draws of all sites after the change A of each draw, and the names of those that cannot follow.

    Hyperparameters of columns, such as the precisions of ARD, follow signed permutations; a rotation leaves no column
    they could belong to.

    Parameters
    ----------
    draws : dict
        (chain, draw, ...) by site name: ``loadings`` (D, K), ``z`` or ``scores`` (N, K), ``factor_mean`` (K,),
        ``factor_covariance`` (K, K), hyperparameters ``loadings_...`` that end in K. Other sites do not move.
    change : Tensor (chain, draw, K, K)

    Examples
    --------
    >>> draws = {"loadings": torch.ones(1, 1, 4, 2), "loadings_precision": torch.tensor([[[1.0, 9.0]]])}
    >>> swap = torch.tensor([[[[0.0, -1.0], [1.0, 0.0]]]])
    >>> moved, left_out = move_sites(draws, swap)
    >>> moved["loadings_precision"], left_out
    (tensor([[[9., 1.]]]), ())
    """
    size = change.abs()
    permutes = bool(((size == 0) | (size == 1)).all())
    order = size.argmax(-2)
    moved: dict[str, Tensor] = {}
    left_out: list[str] = []
    for name, values in draws.items():
        if name == "loadings":
            moved[name] = values @ change
        elif name in SCORES:
            moved[name] = move_scores(values, change)
        elif name in COVARIANCES:
            inverse = torch.linalg.inv(change)
            moved[name] = inverse @ values @ inverse.mT
        elif not (name.startswith(OF_LOADINGS) and values.dim() > 2 and values.shape[-1] == change.shape[-1]):
            moved[name] = values
        elif permutes:
            moved[name] = _permuted(name, values, order)
        else:
            left_out.append(name)
    return moved, tuple(left_out)


def move_scores(
    scores: Float[Tensor, "chains draws *samples latents"],
    change: Float[Tensor, "chains draws latents latents"],
) -> Float[Tensor, "chains draws *samples latents"]:
    """Return A^-1 z of each row z: W z does not change. For an orthogonal A that is z' A."""
    eye = torch.eye(change.shape[-1], dtype=change.dtype)
    orthogonal = bool(torch.allclose(change @ change.mT, eye.expand_as(change), rtol=0, atol=1e-12))
    right = change if orthogonal else torch.linalg.inv(change).mT
    return scores @ right if scores.dim() > 3 else (scores.unsqueeze(-2) @ right).squeeze(-2)


def _permuted(name: str, values: Tensor, order: Tensor) -> Tensor:
    """Give each column its place; factors of cumulative products become those of the products in their places."""
    if values.dim() == 4:
        return values.gather(-1, order.unsqueeze(-2).expand_as(values))
    if not name.endswith(PRODUCTS):
        return values.gather(-1, order)
    products = values.cumprod(-1).gather(-1, order)
    return torch.cat([products[..., :1], products[..., 1:] / products[..., :-1]], -1)
