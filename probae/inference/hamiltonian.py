r"""Hamiltonian Monte Carlo for all rows and chains at once, on N(z; m, Sigma) r(z)^beta.

The Gaussian part is moved exactly, by a rotation of position and velocity; only r is left to kicks of the velocity v:

    v <- v + (e/2) beta Sigma grad log r(z)
    (z - m, v) <- (z - m) cos e + v sin e,  v cos e - (z - m) sin e
    v <- v + (e/2) beta Sigma grad log r(z)                       (Shahbaba et al., 2014, the partial analytic split)

With v ~ N(0, Sigma) the rotation keeps the Gaussian energy and the kick v + Sigma k changes it by k'(v + Sigma k / 2),
so that no precision matrix is needed. At beta = 0 every move is accepted; at beta = 1 the target is p(z | x). A kink of
log r costs acceptance and nothing else: each half is a shear or a rotation, and the Metropolis step makes it exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from probae.inference.reference import Reference

__all__ = ["Chains", "adapted", "start", "transition"]

LARGEST_STEP = 1.5  # just below a quarter turn, which forgets the position of a Gaussian altogether
FIRST_STEP = 0.5
TARGET = 0.7  # share of accepted moves; .65 to .8 cost about the same here


@dataclass(frozen=True, eq=False)
class Chains:
    """Where the chains of each row are.

    Attributes
    ----------
    z : Tensor (N, C, K)
    log_ratio : Tensor (N, C)
        log r(z).
    """

    z: Float[Tensor, "samples chains latents"]
    log_ratio: Float[Tensor, "samples chains"]


def start(reference: Reference, z: Float[Tensor, "samples chains latents"]) -> Chains:
    """Put chains at z."""
    return Chains(z, reference.log_ratio(z))


def transition(
    reference: Reference,
    chains: Chains,
    beta: float,
    step: Float[Tensor, " samples"],
    leapfrogs: int,
    generator: torch.Generator,
) -> tuple[Chains, Float[Tensor, " samples"]]:
    """Move every chain once and return the mean acceptance probability of each row.

    Parameters
    ----------
    reference : Reference
    chains : Chains
    beta : float
        Power of r in the target.
    step : Tensor (N,)
        Angle e of each row in radians.
    leapfrogs : int
    generator : torch.Generator
    """
    centre = reference.centre.unsqueeze(1)
    cosine, sine = step.cos().view(-1, 1, 1), step.sin().view(-1, 1, 1)
    z, offset = chains.z, chains.z - centre
    velocity = reference.spread(reference.noise(z.shape[1], generator))
    change = torch.zeros_like(chains.log_ratio)  # of the Gaussian energy
    for number in range(leapfrogs + 1):
        # the second half of a kick and the first half of the next are one
        size = beta * step if 0 < number < leapfrogs else 0.5 * beta * step
        force = reference.slope(z) * size.view(-1, 1, 1)
        kick = force @ reference.covariance
        change += ((velocity + 0.5 * kick) * force).sum(-1)
        velocity = velocity + kick
        if number < leapfrogs:
            offset, velocity = cosine * offset + sine * velocity, cosine * velocity - sine * offset
            z = centre + offset
    log_ratio = reference.log_ratio(z)
    log_accept = beta * (log_ratio - chains.log_ratio) - change
    uniform = torch.rand(change.shape, generator=generator, dtype=change.dtype)
    accept = uniform.log() < log_accept  # false where the density overflowed or vanished
    moved = Chains(
        torch.where(accept.unsqueeze(-1), z, chains.z), torch.where(accept, log_ratio, chains.log_ratio)
    )
    return moved, log_accept.nan_to_num(nan=-torch.inf).clamp(max=0.0).exp().mean(1)


def adapted(
    step: Float[Tensor, " samples"], acceptance: Float[Tensor, " samples"], gain: float
) -> Float[Tensor, " samples"]:
    """Return steps longer where more than the target was accepted, shorter where less (Robbins & Monro, 1951)."""
    return (step * (gain * (acceptance - TARGET)).exp()).clamp(max=LARGEST_STEP)
