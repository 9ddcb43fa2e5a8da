"""The frame of a set of draws: where a reference starts, and the convention it ends in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from probae.inference.assignment import Columns, signed_permutation

MOST = 500  # draws, about, that make a reference
TIED = 1e-6  # relative difference of two sizes, or two entries, that decides nothing


@dataclass(frozen=True, eq=False)
class Sample:
    """Draws of all chains in units of their rows, (draws, D, K), and the part of them that makes the reference.

    That part is every second draw of each chain, and fewer, about five hundred, where there are more than 1,500 in all.
    """

    rows: Float[Tensor, "draws features latents"]
    half: Float[Tensor, "halfdraws features latents"]

    @classmethod
    def of(cls, loadings: Float[Tensor, "chains draws features latents"], units: bool = True) -> Sample:
        """Divide each row by its root mean square over draws and columns; rows of zeros stay."""
        if units:
            largest = loadings.abs().amax((0, 1, 3))
            largest = torch.where(largest > 0, largest, 1.0).unsqueeze(-1)
            loadings = loadings / largest  # squares of tiny numbers would be 0
            size = loadings.square().mean((0, 1, 3)).sqrt()
            loadings = loadings / torch.where(size > 0, size, 1.0).unsqueeze(-1)
        step = max(2, loadings.shape[0] * loadings.shape[1] // MOST)
        return cls(loadings.flatten(0, 1), loadings[:, ::step].flatten(0, 1))


def root_of_mean(rows: Float[Tensor, "draws features latents"]) -> Float[Tensor, "features latents"]:
    """Return T with T T' nearest the mean of W W', by its K largest eigenvalues: the same in whatever frames W is."""
    draws, features, latents = rows.shape
    side = rows.transpose(0, 1).reshape(features, -1)
    if side.shape[1] < features:
        left, singular, _ = torch.linalg.svd(side, full_matrices=False)
        return left[:, :latents] * (singular[:latents] / draws**0.5)
    values, vectors = torch.linalg.eigh(side @ side.mT / draws)
    root = torch.zeros(features, latents, dtype=rows.dtype)
    rank = min(features, latents)
    root[:, :rank] = vectors[:, -rank:] * values[-rank:].clamp_min(0.0).sqrt()
    return root


def principal_turn(
    target: Float[Tensor, "features latents"],
    weights: Float[Tensor, " features"],
    given: Float[Tensor, "features latents"],
) -> Float[Tensor, "latents latents"]:
    """Return Q with (T Q)' Omega (T Q) diagonal and decreasing, the largest entry of each column positive.

    Axes of equal size have no principal directions: among them those nearest the ``given`` loadings are kept, so that
    draws that are aligned stay where they are.
    """
    values, vectors = torch.linalg.eigh(target.mT @ (weights.unsqueeze(-1) * target))
    values, turn = values.flip(0), vectors.flip(1)
    ends = torch.nonzero(values[:-1] - values[1:] > TIED * values[0]).flatten().add(1).tolist()
    for start, end in zip([0, *ends], [*ends, len(values)], strict=True):
        if end - start > 1:
            axes = turn[:, start:end]
            left, _, right = torch.linalg.svd(
                (target @ axes).mT @ (weights.unsqueeze(-1) * given[:, start:end])
            )
            turn[:, start:end] = axes @ (left @ right)
        else:
            turn[:, start] = turn[:, start] * positive(target @ turn[:, start : start + 1])
    return turn


def order_and_signs(
    target: Float[Tensor, "features latents"], weights: Float[Tensor, " features"], columns: Columns
) -> Float[Tensor, "latents latents"]:
    """Return the signed permutation that orders the columns of a class by size, the largest entry positive.

    Of columns of equal size that comes first whose largest entry does.
    """
    size = (weights.unsqueeze(-1) * target.square()).sum(0)
    level = TIED * size.max() if float(size.max()) > 0 else 1.0
    size = (size / level).round() - largest_entry(target) / len(target)
    order = torch.arange(target.shape[1])
    for label in set(columns.classes):
        places = torch.tensor([k for k, own in enumerate(columns.classes) if own == label])
        order[places] = places[size[places].argsort(descending=True, stable=True)]
    signs = torch.where(torch.tensor(columns.flips), positive(target), 1.0)
    return signed_permutation(order, signs[order])


def largest_entry(target: Float[Tensor, "features latents"]) -> Int[Tensor, " latents"]:
    """Return the row of the largest entry of each column, the first of several that are as large."""
    size = target.abs()
    return (size >= (1 - TIED) * size.amax(0)).double().argmax(0)


def positive(target: Float[Tensor, "features latents"]) -> Float[Tensor, " latents"]:
    """Return the sign of the largest entry of each column."""
    return torch.where(target.gather(0, largest_entry(target).unsqueeze(0))[0] < 0, -1.0, 1.0).to(
        target.dtype
    )
