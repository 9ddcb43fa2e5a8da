r"""Unit-norm atoms: where they start, how they move, and which of them would serve better elsewhere.

With the moments C = E z z' and B = E x z' of the codes, atom j moves to the minimiser of E |x - A z|^2 given the
others,

.. math:: a_j \leftarrow \frac{u}{\|u\|}, \qquad u = a_j + (b_j - A c_j) / C_{jj}

Setting code z_j to zero costs its row z_j^2 / 2 while the others stay, and a further atom v gains
(|r'v| - penalty)_+^2 / 2 on a row with residual r; an atom is worth moving to v when v gains more.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

PASSES = 2  # over the atoms at each step
CANDIDATES = 64  # residuals that a useless atom may move to
MOST = 8  # atoms moved at a time
APART = 0.5  # largest |cosine| between two atoms placed together


def seed_atoms(
    x: Float[Tensor, "samples features"], latents: int, generator: torch.Generator
) -> Float[Tensor, "latents features"]:
    """Return normalised random rows, each once while they last, with a hundredth of noise to tell copies apart."""
    spread = x.std(0, correction=0)  # a column that does not vary stays out of the atoms
    usable = torch.nonzero(x.square().sum(1) > 0).flatten()
    order = usable[torch.randperm(len(usable), generator=generator)]
    picked = x[order.repeat(-(-latents // len(order)))[:latents]]
    noise = torch.randn(picked.shape, generator=generator, dtype=torch.float64).to(x.dtype) * spread
    atoms = normalized(picked) + 0.01 * normalized(noise)
    return normalized(atoms).contiguous()


def normalized(rows: Float[Tensor, "rows features"]) -> Float[Tensor, "rows features"]:
    """Return rows of length 1; a row of zeros stays."""
    return rows / rows.norm(dim=1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)


def update_atoms(
    atoms: Float[Tensor, "latents features"],
    second: Float[Tensor, "latents latents"],
    cross: Float[Tensor, "latents features"],
    passes: int = PASSES,
) -> float:
    """Move the atoms (float64) in place by block coordinate descent; return the largest chord of the first pass."""
    from probae.inference.atom_descent import descend  # compiled on first use

    return descend(atoms.numpy(), second.numpy(), cross.numpy(), passes)


def relocate(
    atoms: Float[Tensor, "latents features"],
    second: Float[Tensor, "latents latents"],
    cross: Float[Tensor, "latents features"],
    residual: Float[Tensor, "samples features"],
    penalty: float,
) -> list[int]:
    """Move atoms in place, with their moments, to residuals that gain more than the atoms are worth; return which.

    An atom is worth E z_j^2 / 2 times its squared sine to the nearest other atom, so a dead one and the copy of another
    are worth nothing. The gain of a residual is taken on the other rows, else each row would vouch for itself.
    """
    length = residual[:CANDIDATES].norm(dim=1)
    chosen = torch.nonzero(length > penalty).flatten()
    if len(chosen) == 0:
        return []
    candidates = normalized(residual[chosen])
    excess = _excess(residual @ candidates.T, penalty)
    excess[chosen, torch.arange(len(chosen))] = 0.0
    gain = 0.5 * excess.square().mean(0)
    worth = 0.5 * second.diagonal() * (1 - nearest(atoms).square()).clamp_min(0.0)
    moved: list[int] = []
    for _ in range(MOST):
        best, least = int(gain.argmax()), int(worth.argmin())
        if not gain[best] > worth[least]:
            break
        codes = _excess(residual @ candidates[best], penalty)
        atoms[least] = normalized((codes @ residual)[None])[0]  # one step on its own from there
        second[least], second[:, least] = 0.0, 0.0
        second[least, least] = _excess(residual @ atoms[least], penalty).square().mean()
        cross[least] = second[least, least] * atoms[least]
        worth[least] = math.inf
        gain[(candidates @ atoms[least]).abs() > APART] = 0.0
        moved.append(least)
    return moved


def nearest(atoms: Float[Tensor, "latents features"]) -> Float[Tensor, "latents"]:
    """Return the largest |cosine| of each atom to another."""
    cosines = (atoms @ atoms.T).abs()
    return cosines.fill_diagonal_(0.0).amax(1).clamp_max(1.0)


def _excess(v: Tensor, level: float) -> Tensor:
    """Return sign(v) (|v| - level)_+."""
    return v - v.clamp(-level, level)
