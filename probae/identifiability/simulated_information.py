r"""The moments over y behind `effective_information`, by importance sampling of p(z | y) in two halves.

Products of the two halves carry no squared Monte Carlo error. Where the laws are independent, the same draws with
independent score noise of the same variances have known moments, and what they miss is added (control variates).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from probae.identifiability.independent_moments import independent_moments
from probae.inference.importance import standard_draws, weighted_draws
from probae.models import LinearFactorModel
from probae.models.marginal import Scores
from probae.priors import Prior

__all__ = ["BATCHES", "information_with_noise", "information_without_noise"]

BATCHES = 10
DRAWS = 128  # posterior draws of a row, twice
NUMBERS = 4_000_000  # drawn at once
NULL = 1e-10


@dataclass(frozen=True, eq=False)
class _Part:
    """Posterior moments of a batch of rows from one half of the draws."""

    change: Float[Tensor, "rows pairs"]
    shift: Float[Tensor, "rows latents"]
    mean: Float[Tensor, "rows latents"]
    spread: Float[Tensor, "rows features"]  # diag U V U'


def information_without_noise(prior: Prior, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return J of a joint law that x determines, and J with one batch left out at a time."""
    score = torch.einsum("ni,nj->nij", prior.score(z), z) - torch.eye(z.shape[1], dtype=torch.float64)
    parts = score.flatten(1).tensor_split(BATCHES)
    sums = torch.stack([part.mT @ part for part in parts])
    counts = torch.tensor([len(part) for part in parts], dtype=torch.float64).view(-1, 1, 1)
    return sums.sum(0) / counts.sum(), (sums.sum(0) - sums) / (counts.sum() - counts)


def information_with_noise(
    model: LinearFactorModel, covariance: Tensor, z: Tensor, error: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return J_eff, and J_eff with one batch left out at a time."""
    loadings, noise, _ = model._gaussian_parameters()
    whitened = loadings / noise.sqrt().unsqueeze(1)
    y = z + error @ torch.linalg.cholesky(covariance).mT
    width = max(NUMBERS // (DRAWS * model.latents**2), 1)
    pairs = [
        [_part(model.prior, rows, covariance, whitened, generator) for _ in range(2)]
        for rows in y.split(width)
    ]
    first, second = (_joined([pair[half] for pair in pairs]) for half in range(2))
    residual = torch.eye(len(loadings), dtype=torch.float64) - whitened @ covariance @ whitened.mT
    isotropic = model.noise == "isotropic"
    inverse = torch.linalg.pinv(
        _nuisance(first, second, y, whitened, residual, isotropic), rtol=NULL, hermitian=True
    )
    own, cross = _by_batch(first, second, isotropic)
    own = own + _controls(model.prior, z, error, covariance.diagonal())
    counts = torch.tensor([len(part) for part in y.tensor_split(BATCHES)], dtype=torch.float64)

    def effective(own: Tensor, cross: Tensor) -> Tensor:
        return own - cross @ inverse @ cross.mT

    whole = effective(own.sum(0) / len(y), cross.sum(0) / len(y))
    left = [
        effective((own.sum(0) - a) / (len(y) - c), (cross.sum(0) - b) / (len(y) - c))
        for a, b, c in zip(own, cross, counts, strict=True)
    ]
    return whole, torch.stack(left)


def _part(prior: Prior, y: Tensor, covariance: Tensor, whitened: Tensor, generator: torch.Generator) -> _Part:
    """Average over draws from p(z | y)."""
    draws = standard_draws(DRAWS, len(y), y.shape[1], generator)
    z, log_weights = weighted_draws(prior, Scores(y, covariance, torch.zeros(len(y))), draws)
    weights, psi = log_weights.softmax(0), prior.score(z)
    change = torch.einsum("sn,sni,snj->nij", weights, psi, z) - torch.eye(y.shape[1], dtype=torch.float64)
    gap = y - z
    spread = torch.einsum("sn,sni,snj->nij", weights, gap, gap)
    return _Part(
        change.flatten(1),
        torch.einsum("sn,sni->ni", weights, psi),
        torch.einsum("sn,sni->ni", weights, z),
        ((whitened @ spread) * whitened).sum(2),
    )


def _joined(parts: list[_Part]) -> _Part:
    return _Part(*(torch.cat([getattr(part, name) for part in parts]) for name in _Part.__dataclass_fields__))


def _beside(part: _Part, isotropic: bool) -> Float[Tensor, "rows nuisances"]:
    """Return the parts of S_a and S_l that are functions of y and centred."""
    spread = 0.5 * (part.spread - part.spread.mean(0))
    return torch.cat([part.shift, spread.sum(1, keepdim=True) if isotropic else spread], 1)


def _by_batch(first: _Part, second: _Part, isotropic: bool) -> tuple[Tensor, Tensor]:
    """Return the sums over each batch of S_E S_E' and of S_E S_eta'."""
    beside = [_beside(part, isotropic) for part in (first, second)]
    own, cross = [], []
    for rows in torch.arange(len(first.mean)).tensor_split(BATCHES):
        a, b = first.change[rows], second.change[rows]
        own.append(0.5 * (a.mT @ b + b.mT @ a))
        cross.append(0.5 * (a.mT @ beside[1][rows] + b.mT @ beside[0][rows]))
    return torch.stack(own), torch.stack(cross)


def _controls(
    prior: Prior, z: Tensor, error: Tensor, variances: Tensor
) -> Float[Tensor, "batches pairs pairs"]:
    """Return what the same draws miss of S_E S_E' where the score noise is independent: known, and nearly alike."""
    latents = z.shape[1]
    laws = prior.coordinates(latents)
    if laws is None:
        return torch.zeros(BATCHES, latents**2, latents**2, dtype=torch.float64)
    y = z + error * variances.sqrt()
    shift = torch.stack(
        [law.noisy_score(column, float(v)) for law, column, v in zip(laws, y.mT, variances, strict=True)], 1
    )
    mean = y - variances * shift
    one = independent_moments(laws, variances.tolist())
    own, cross = torch.outer(one.score, one.mean), torch.outer(one.both, one.both)
    pair = torch.arange(latents**2).view(latents, latents)
    apart = ~torch.eye(latents, dtype=torch.bool)
    total = torch.zeros(BATCHES, latents**2, latents**2, dtype=torch.float64)
    for batch, rows in enumerate(torch.arange(len(z)).tensor_split(BATCHES)):
        s, m = shift[rows], mean[rows]
        total[batch, pair[apart], pair[apart]] = (len(s) * own - s.square().mT @ m.square())[apart]
        both = (s * m).mT @ (s * m)
        total[batch, pair[apart], pair.mT[apart]] = (len(s) * cross - both)[apart]
    return total


def _nuisance(
    first: _Part, second: _Part, y: Tensor, whitened: Tensor, residual: Tensor, isotropic: bool
) -> Float[Tensor, "nuisances nuisances"]:
    """Return the information on mean and noise variances, the change F of W out of its span projected out."""
    latents, count = y.shape[1], len(y)

    def product(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
        return 0.5 * (a.mT @ b + c.mT @ d) / count

    one, two = (_beside(part, isotropic) for part in (first, second))
    total = product(one, two, two, one)
    m, n = first.mean, second.mean
    mean_square, gap_square = product(m, n, n, m), product(y - m, y - n, y - n, y - m)
    both = product(m, y - n, n, y - m) @ whitened.mT
    inside = whitened @ gap_square @ whitened.mT - both.mT @ torch.linalg.solve(mean_square, both)
    noise = 0.5 * residual.square() + residual * inside
    total[latents:, latents:] += noise.sum().view(1, 1) if isotropic else noise
    return 0.5 * (total + total.mT)
