r"""A Gaussian near p(z | x), one for each row, and what is left of the joint density.

Give row n factors of variance V_n in place of the prior. Everything is then Gaussian, and

    p(x, z) = N(x; mu, W V W' + Psi)  N(z; m, Sigma)  r(z),     r(z) = p(z) / N(z; 0, V),
    Sigma = (V^{-1} + W' Psi^{-1} W)^{-1},                      m = Sigma W' Psi^{-1} (x - mu).

The likelihood is used up: only the prior is left in r, whatever the noise. V is the fixed point of

    1 / V_k = psi(xi_k) / xi_k,     xi_k^2 = m_k^2 + Sigma_kk,

the variational bound of a heavy-tailed law by Gaussians (Palmer et al., 2006), times two; other laws keep their own
variance. Samplers and estimators are right for any V, it only decides how fast they are. Twice, because the variational
posterior is too narrow: the weights of annealing then vary half as much, and their spread says how far off they are.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import ParameterError
from probae.linalg import LowRankCovariance
from probae.models import LinearFactorModel
from probae.models.pyro_context import point_query
from probae.priors import Prior

__all__ = ["GaussianReference", "Reference", "gaussian_reference"]

WIDENING = 2.0
STEPS = 40  # of the fixed point; each is one batched factorisation
BLOCK = 25_000  # numbers a tensor may hold in an inner loop: twice as fast as tensors that leave the cache
AGREEMENT = 1e-3  # relative change of V at which it is close enough


class Reference:
    """A Gaussian near p(z | x) of each row, and the rest of the joint: p(x, z) = exp(log_evidence) N(z; m, Sigma) r(z).

    Attributes
    ----------
    centre : Tensor (N, K)
        m.
    root : Tensor (N, K, K)
        Lower triangular, Sigma = root root'.
    log_evidence : Tensor (N,)
        In nats.
    """

    centre: Float[Tensor, "samples latents"]
    root: Float[Tensor, "samples latents latents"]
    log_evidence: Float[Tensor, " samples"]

    def split(self, rows: int) -> Iterator[Self]:
        """Cut into blocks of at most so many rows."""
        raise NotImplementedError

    def log_ratio(self, z: Float[Tensor, "samples draws latents"]) -> Float[Tensor, "samples draws"]:
        """Return log r(z) in nats."""
        raise NotImplementedError

    def slope(self, z: Float[Tensor, "samples draws latents"]) -> Float[Tensor, "samples draws latents"]:
        """Return d log r / dz."""
        raise NotImplementedError

    @property
    def width(self) -> int:
        """Numbers that one draw of one row takes."""
        return self.centre.shape[1]

    def block(self, draws: int) -> int:
        """Rows worked on at once with so many draws of each: their tensors then stay in the cache."""
        return max(1, BLOCK // (draws * self.width))

    @functools.cached_property
    def covariance(self) -> Float[Tensor, "samples latents latents"]:
        """Sigma of each row."""
        return self.root @ self.root.mT

    def draw(self, count: int, generator: torch.Generator) -> Float[Tensor, "samples draws latents"]:
        """Draws of N(m, Sigma), ``count`` for each row."""
        return self.centre.unsqueeze(1) + self.spread(self.noise(count, generator))

    def noise(self, count: int, generator: torch.Generator) -> Float[Tensor, "samples draws latents"]:
        """Standard normal numbers, ``count`` for each row and latent."""
        rows, latents = self.centre.shape
        return torch.randn(rows, count, latents, generator=generator, dtype=torch.float64)

    def spread(self, noise: Float[Tensor, "samples draws latents"]) -> Float[Tensor, "samples draws latents"]:
        """Turn standard normal numbers into draws of N(0, Sigma)."""
        return noise @ self.root.mT


@dataclass(frozen=True, eq=False)
class GaussianReference(Reference):
    """The Gaussian posterior of each row, and the prior that r is made of.

    Attributes
    ----------
    prior : Prior
    variance : Tensor (N, K)
        V.
    centre : Tensor (N, K)
        m.
    root : Tensor (N, K, K)
        Lower triangular, Sigma = root root'.
    log_evidence : Tensor (N,)
        log N(x; mu, W V W' + Psi) in nats.
    """

    prior: Prior
    variance: Float[Tensor, "samples latents"]
    centre: Float[Tensor, "samples latents"]
    root: Float[Tensor, "samples latents latents"]
    log_evidence: Float[Tensor, " samples"]

    def split(self, rows: int) -> Iterator[GaussianReference]:
        """Cut into blocks of at most so many rows."""
        parts = zip(*(t.split(rows) for t in self._tensors), strict=True)
        return (GaussianReference(self.prior, *part) for part in parts)

    @property
    def _tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.variance, self.centre, self.root, self.log_evidence

    def log_ratio(self, z: Float[Tensor, "samples draws latents"]) -> Float[Tensor, "samples draws"]:
        """Return log r(z) in nats."""
        v = self.variance.unsqueeze(1)
        gaussian = (z.square() / v).sum(-1) + (v.log() + math.log(2 * math.pi)).sum(-1)
        return self.prior.joint_log_prob(z) + 0.5 * gaussian

    def slope(self, z: Float[Tensor, "samples draws latents"]) -> Float[Tensor, "samples draws latents"]:
        """Return d log r / dz = z / V - psi(z)."""
        return z / self.variance.unsqueeze(1) - self.prior.score(z)


@point_query
def gaussian_reference(model: LinearFactorModel, x: Float[Tensor, "samples features"]) -> GaussianReference:
    """Find V for each row and factor its Gaussian posterior.

    Raises
    ------
    ParameterError
        The model has no noise: z is then a function of x.

    Examples
    --------
    >>> import torch
    >>> from probae.models import SparseCoding
    >>> reference = gaussian_reference(SparseCoding(2, 3), torch.tensor([[0.1, 0.2], [5.0, 9.0]]))
    >>> reference.centre.shape, reference.root.shape
    (torch.Size([2, 3]), torch.Size([2, 3, 3]))
    """
    if not isinstance(model, LinearFactorModel):
        raise ParameterError(f"This needs a linear factor model, got {model!r}.")
    if model.noise == "none":
        raise ParameterError(
            'This needs noise, and the model has noise="none": z is posterior(x).mean, log_likelihood is exact.'
        )
    loadings, noise, mean = model._gaussian_parameters()
    rows = x.double() - mean
    with torch.no_grad():
        variance = _fit_variance(model.prior, loadings / noise.sqrt().unsqueeze(1), rows / noise.sqrt())
        scale = variance.sqrt()
        covariance = LowRankCovariance.factor(
            loadings * scale.unsqueeze(1), noise.expand(len(rows), len(noise))
        )
        row = rows.unsqueeze(1)
        energy = covariance.quadratic_form(row).squeeze(1) + covariance.log_det
        centre = scale * covariance.posterior_mean(row).squeeze(1)
        root = scale.unsqueeze(2) * covariance.posterior_scale_tril
    constant = model.features * math.log(2 * math.pi)
    return GaussianReference(model.prior, variance, centre, root, -0.5 * (energy + constant))


def _fit_variance(prior: Prior, whitened: Tensor, rows: Tensor) -> Float[Tensor, "samples latents"]:
    """Iterate the fixed point from the prior's own variances."""
    latents = whitened.shape[1]
    own = prior.distribution(latents, whitened.new_zeros(())).variance.detach().expand(latents)
    heavy = _heavy(prior, own)
    variance = own.expand(len(rows), latents)
    if not heavy.any():
        return variance
    if latents < whitened.shape[0]:  # only the projection of x on the loadings tells anything of z
        q, whitened = torch.linalg.qr(whitened)
        rows = rows @ q
    for _ in range(STEPS):
        scaled = whitened * variance.unsqueeze(1)
        capacitance = scaled @ whitened.T + torch.eye(len(whitened), dtype=torch.float64)
        factor = torch.linalg.cholesky(capacitance)
        half = torch.linalg.solve_triangular(factor, scaled, upper=False)
        weighted = torch.linalg.solve_triangular(factor, rows.unsqueeze(2), upper=False)
        mean = (half * weighted).sum(1)
        size = (mean.square() + (variance - half.square().sum(1)).clamp_min(1e-300)).sqrt()
        updated = torch.where(heavy, size / prior.score(size), own)
        change = (updated / variance).log().abs().max()
        variance = updated
        if change < AGREEMENT:
            break
    return torch.where(heavy, WIDENING * variance, own)


def _heavy(prior: Prior, variance: Tensor) -> Tensor:
    """Whether psi(z) / z falls with z in each coordinate, as it does for a scale mixture of Gaussians."""
    scale = variance.sqrt()
    near, far = (prior.score(t * scale) / (t * scale) for t in (0.3, 3.0))
    return (far > 0) & (far < near)
