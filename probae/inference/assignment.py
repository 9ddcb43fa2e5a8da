r"""The best order and signs of the columns of many matrices at once.

.. math:: \max_{\pi, s} \sum_k s_k\, c_{k \pi(k)}

over permutations :math:`\pi` and signs s, of which the best for a pair is that of c: an assignment problem with the
values \|c\|, whose optimum is that of the search over all :math:`2^K K!` signed permutations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

__all__ = ["Columns", "assign_columns", "signed_permutation"]


@dataclass(frozen=True)
class Columns:
    """Which columns may change places, and which may change sign.

    Attributes
    ----------
    classes : tuple of int
        A label for each column; columns of one label may change places.
    flips : tuple of bool
        Whether a column may change sign.

    Examples
    --------
    >>> Columns.alike(3)
    Columns(classes=(0, 0, 0), flips=(True, True, True))
    """

    classes: tuple[int, ...]
    flips: tuple[bool, ...]

    @classmethod
    def alike(cls, latents: int) -> Columns:
        """Return columns that may all change places and signs."""
        return cls((0,) * latents, (True,) * latents)

    def at(self, index: Sequence[int]) -> Columns:
        """Return some of the columns."""
        return Columns(tuple(self.classes[k] for k in index), tuple(self.flips[k] for k in index))


def assign_columns(
    similarity: Float[Tensor, "draws latents latents"], columns: Columns
) -> tuple[Int[Tensor, "draws latents"], Float[Tensor, "draws latents"]]:
    """Return the partner (second index) of each first index, and its sign, for each matrix of similarities.

    Where the best partners of all columns differ from each other they are the answer; only the other matrices need
    an assignment problem solved.

    Examples
    --------
    >>> order, signs = assign_columns(torch.tensor([[[0.1, -2.0], [1.0, 3.0]]]), Columns.alike(2))
    >>> order, signs                                                # 0.1 + 3 is more than 2 + 1
    (tensor([[0, 1]]), tensor([[1., 1.]]))
    """
    classes, flips = torch.tensor(columns.classes), torch.tensor(columns.flips)
    value = torch.where(flips.unsqueeze(-1), similarity.abs(), similarity)
    span = 2 * value.shape[-1] * value.abs().amax((-2, -1), keepdim=True) + 1
    allowed = classes.unsqueeze(-1) == classes
    value = torch.where(allowed, value, value - span)  # worse than all that is allowed
    order = value.argmax(-1)
    clash = (order.sort(-1).values != torch.arange(value.shape[-1])).any(-1)
    for draw in torch.nonzero(clash).flatten().tolist():
        order[draw] = torch.from_numpy(linear_sum_assignment(value[draw].numpy(), maximize=True)[1])
    chosen = similarity.gather(-1, order.unsqueeze(-1)).squeeze(-1)
    return order, torch.where(flips & (chosen < 0), -1.0, 1.0).to(similarity.dtype)


def signed_permutation(
    order: Int[Tensor, "*draws latents"], signs: Float[Tensor, "*draws latents"]
) -> Float[Tensor, "*draws latents latents"]:
    """Return R with W R = W[:, order] * signs.

    Examples
    --------
    >>> signed_permutation(torch.tensor([1, 0]), torch.tensor([1.0, -1.0]))
    tensor([[ 0., -1.],
            [ 1.,  0.]])
    """
    rotation = torch.zeros(*order.shape, order.shape[-1], dtype=signs.dtype)
    return rotation.scatter(-2, order.unsqueeze(-2), signs.unsqueeze(-2))
