r"""The Gaussian near p(z | x) of any model, and what is left of the joint density.

    p(x, z) = N(z; m, Sigma)  r(z),        m, Sigma = argmax of the evidence lower bound, each row by itself

Sigma is full whatever the law that the search starts from: one with independent codes is far too narrow along the
directions in which they are correlated, and its weights have no variance there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from probae.inference.gaussian_expectation import expectation_of
from probae.inference.reference import BLOCK, Reference, gaussian_reference
from probae.inference.refinement import Gaussians, climb, gaussians_of
from probae.models import LinearFactorModel

STEPS = 300  # of the ascent to the best law
ROUGH = 1e-5  # nats a step, below which a row has arrived: averages over draws are off by more
NARROW = 0.1  # sd about a point mass, in those of the prior


@dataclass(frozen=True, eq=False)
class JointReference(Reference):
    """The best Gaussian of each row, and the model that r is made of.

    Attributes
    ----------
    model : LatentModel
    x : Tensor (N, D)
    centre : Tensor (N, K)
        m.
    root : Tensor (N, K, K)
        Lower triangular, Sigma = root root'.
    log_evidence : Tensor (N,)
        0: all of log p(x) is in r.
    """

    model: Any
    x: Float[Tensor, "samples features"]
    centre: Float[Tensor, "samples latents"]
    root: Float[Tensor, "samples latents latents"]
    log_evidence: Float[Tensor, " samples"]

    def split(self, rows: int) -> Iterator[JointReference]:
        """Cut into blocks of at most so many rows."""
        parts = zip(
            *(t.split(rows) for t in (self.x, self.centre, self.root, self.log_evidence)), strict=True
        )
        return (JointReference(self.model, *part) for part in parts)

    @property
    def width(self) -> int:
        """Numbers that one draw of one row takes."""
        return max(self.x.shape[1], self.centre.shape[1])

    def block(self, draws: int) -> int:
        """Rows worked on at once with so many draws of each: few calls of the decoder, in tensors of megabytes."""
        return max(1, 10 * BLOCK // (draws * self.width))

    def log_ratio(self, z: Float[Tensor, "samples draws latents"]) -> Float[Tensor, "samples draws"]:
        """Return log r(z) in nats."""
        offset = (z - self.centre.unsqueeze(1)).mT
        energy = torch.linalg.solve_triangular(self.root, offset, upper=False).square().sum(1)
        log_det = self.root.diagonal(dim1=-2, dim2=-1).log().sum(1, keepdim=True)
        constant = 0.5 * z.shape[2] * math.log(2 * math.pi)
        joint: Tensor = self.model.log_joint(self.x, z.transpose(0, 1))
        return joint.mT + 0.5 * energy + log_det + constant

    def slope(self, z: Float[Tensor, "samples draws latents"]) -> Float[Tensor, "samples draws latents"]:
        """Return d log r / dz."""
        with torch.enable_grad():
            place = z.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(self.log_ratio(place).sum(), place)
        return slope


def gaussians_near(law: dist.TorchDistribution) -> Gaussians:
    """Return the Gaussians with the mean and the (co)variance of any law; one of sd 0.1 about a point mass.

    Examples
    --------
    >>> law = torch.distributions.Independent(torch.distributions.Laplace(torch.zeros(4, 2), 1.0), 1)
    >>> gaussians_near(law).root[0].diagonal().square()
    tensor([2.0000, 2.0000], dtype=torch.float64)
    """
    found = gaussians_of(law)
    if found is not None:
        return found
    sd = law.variance.double().sqrt()
    return Gaussians(law.mean.double(), torch.diag_embed(torch.where(sd > 0, sd, NARROW)), False)


@torch.no_grad()
def reference_of(
    model: Any, x: Float[Tensor, "samples features"], start: Gaussians | None = None, seed: int = 0
) -> Reference:
    """Return that of a linear model, whose likelihood is used up, or the best Gaussian of any other.

    Parameters
    ----------
    model : LatentModel
    x : Tensor (N, D)
    start : Gaussians, optional
        Where the search for the best begins, such as an encoder's answer; by default at the prior.
    seed : int
        Of the quasi-random draws of the search.

    Raises
    ------
    ParameterError
        The model has no noise: z is then a function of x.

    Examples
    --------
    >>> import probae as pa
    >>> model = pa.Autoencoder(3, 2)
    >>> reference = reference_of(model, model.sample(4, seed=0))
    >>> reference.centre.shape, reference.root.shape
    (torch.Size([4, 2]), torch.Size([4, 2, 2]))
    """
    if isinstance(model, LinearFactorModel):
        return gaussian_reference(model, x)
    rows = x.double()
    if start is None:
        prior = model.prior.distribution(model.latents, like=rows.new_zeros(()))
        sd = prior.variance.detach().expand(len(rows), -1).sqrt()
        start = Gaussians(prior.mean.detach().expand_as(sd), torch.diag_embed(sd), False)
    begin = Gaussians(start.mean, start.root, False)
    best, value = climb(expectation_of(model, seed=seed), rows, begin, STEPS, ROUGH)
    found = value.isfinite()  # a prior of bounded support gives every Gaussian a bound of minus infinity
    mean = torch.where(found.view(-1, 1), best.mean, begin.mean)
    root = torch.where(found.view(-1, 1, 1), best.root, begin.root)
    return JointReference(model, rows, mean, root, torch.zeros_like(value))
