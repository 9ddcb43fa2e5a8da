r"""Score information of the right actions W -> W (I + t B), B in gl(K): its null space is what a model leaves free.

The score of B is E[psi(z)' B z | x] - tr B = <B, S>, with S(x) = E[psi(z) z' | x] - I, and

    J = E[vec S vec S'],   brought to correlations

has a zero for every B whose group e^{tB} leaves the law of x unchanged, whatever conjugate of O(m) that group is.
Without the condition on x it is the noise-free limit, which depends on the law of z alone; with it, it is what rows
with this noise can tell, never more. For independent coordinates of variance s_i^2 and kappa_i = s_i^2 E psi_i^2 its
eigenvalues are 1 -+ (kappa_i kappa_j)^{-1/2} for each plane and K ones: zero if and only if both are Gaussian
(Maxwell).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import NotExactError, ParameterError, check_count, check_data
from probae.identifiability.group_information import GroupInformation
from probae.identifiability.likelihood_ratio import sample_rows
from probae.inference.importance import standard_draws, weighted_draws
from probae.models import LinearFactorModel
from probae.models.marginal import Scores, gaussian_posterior, solve_sources
from probae.priors import CorrelatedGaussian, Prior
from probae.priors.information import SMOOTHING, information_of, spread_of

__all__ = ["gl_information"]

NULL = (
    1e-6  # normalised information of two independent factors below this is zero: kappa is known to about 1e-9
)
POINTWISE = 1e-9  # the same where the score of a null direction is zero draw by draw
DRAWS = 200_000  # from the law of the factors
CHUNK = 4_000_000  # numbers held at a time
ROWS = 4000
PART_DRAWS = 64  # draws of the posterior of a row, in each of two independent sets


def gl_information(model: LinearFactorModel, x: Any = None, *, seed: int = 0) -> GroupInformation:
    """Return the score information of every right action on the loadings, and its null space.

    Parameters
    ----------
    model : LinearFactorModel
    x : array, DataFrame or Tensor (N, D), optional
        Without rows the noise-free limit, which the law of the factors decides alone. With rows what they tell through
        their noise, at the model's parameters (at most 4,000 complete rows, a seeded choice).
    seed : int

    Returns
    -------
    GroupInformation

    Raises
    ------
    NotExactError
        A joint law of the factors has a density that is zero somewhere, so that its score does not say all.
    ParameterError
        ``model`` is no linear factor model, or has no scores that x determines.

    Examples
    --------
    >>> import probae as pa
    >>> laws = [pa.priors.Laplace(), pa.priors.Gaussian(), pa.priors.Gaussian()]
    >>> found = gl_information(pa.LinearFactorModel(9, 3, pa.priors.Independent(laws)))
    >>> found.blocks, round(found.smallest_other, 3)             # 1 - 1 / sqrt(2)
    (((0,), (1, 2)), 0.293)
    >>> found.algebra.tolist()
    [[[0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]]
    """
    if not isinstance(model, LinearFactorModel):
        raise ParameterError(f"gl_information needs a linear factor model, got {type(model).__name__}.")
    seed = check_count("seed", seed, minimum=0)
    if x is None:
        return prior_information(model.prior, model.latents, seed)
    rows = check_data(x, features=model.features, missing="allow").values
    return noisy_information(model, sample_rows(rows[~rows.isnan().any(1)], ROWS, seed), seed)


def prior_information(prior: Prior, latents: int, seed: int = 0, draws: int = DRAWS) -> GroupInformation:
    """Return the information of the noise-free limit: exact for independent or normal factors, else Monte Carlo.

    A law that leaves a right action free has score zero there draw by draw, so null directions are exact either way.
    """
    laws = prior.coordinates(latents)
    if laws is not None:
        return _independent(laws)
    if isinstance(prior, CorrelatedGaussian):
        return _correlated(prior.factor.detach().double())
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        z = prior.sample(max(min(draws, CHUNK // latents**2), 1000), latents).double()
    with torch.no_grad():
        scores = _outer(prior.score(z), z)
    error = scores.std(0) / math.sqrt(len(scores))
    if not bool((scores.mean(0).abs() <= 6 * error + 1e-9).all()):  # also where it is not finite
        raise NotExactError(
            f"The score of {prior!r} does not integrate to zero, as where a density jumps or is zero: its information "
            "is not in the score. Use a law that is positive everywhere."
        )
    flat = scores.flatten(1)
    size = flat.square().mean(0).sqrt()
    values, vectors = torch.linalg.eigh(flat.mT @ flat / len(flat) / torch.outer(size, size))
    algebra = (vectors[:, values < POINTWISE] / size.unsqueeze(1)).mT.reshape(-1, latents, latents)
    return _estimated(flat, flat, _scaled(algebra), noisy=False, draws=len(flat))


def noisy_information(
    model: LinearFactorModel, rows: Float[Tensor, "samples features"], seed: int = 0
) -> GroupInformation:
    """Return the information that complete rows have on the right actions, at the parameters of the model.

    E[psi(z) z' | x] - I is E[G (y - z) z' | x] by parts, with scores y = z + N(0, G^-1): no score of the law is asked
    for, so laws whose density is zero somewhere are taken too. Products of two independent sets of draws keep Monte
    Carlo noise out of the diagonal.
    """
    algebra = prior_information(model.prior, model.latents, seed).algebra  # no noise undoes it
    if model.invertible:
        exact, smoothed = _source_scores(model, rows, seed), _smoothed(model.prior.coordinates(model.latents))
        return replace(_estimated(exact, exact, algebra, noisy=True, draws=len(rows)), smoothed=smoothed)
    if model.gaussian:
        exact = _gaussian_scores(model, rows)
        return _estimated(exact, exact, algebra, noisy=True, draws=len(rows))
    first, second = _posterior_scores(model, model.sufficient_scores(rows), seed)
    return _estimated(first, second, algebra, noisy=True, draws=2 * PART_DRAWS * len(first))


def _gaussian_scores(model: LinearFactorModel, rows: Tensor) -> Float[Tensor, "samples squares"]:
    """Return vec(L^-T (E[z_0 z_0' | x] - I) L') for normal factors z = L z_0."""
    location, root = gaussian_posterior(rows, *model._standard_parameters())
    identity = torch.eye(model.latents, dtype=torch.float64)
    moment = location.unsqueeze(2) * location.unsqueeze(1) + root @ root.mT - identity
    if isinstance(model.prior, CorrelatedGaussian):
        factor = model.prior.factor.detach().double()
        moment = torch.linalg.solve(factor.mT, moment) @ factor.mT
    return moment.flatten(1)


def _source_scores(model: LinearFactorModel, rows: Tensor, seed: int) -> Float[Tensor, "samples squares"]:
    """Return vec(psi(z) z' - I) where z is a function of x; of smoothed z_k for laws of infinite information."""
    z = solve_sources(rows, model.loadings.detach().double(), model.mean.detach().double())
    laws = model.prior.coordinates(model.latents)
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    with torch.no_grad():
        psi = model.prior.score(z)
        for k, law in enumerate(laws or ()):
            if not math.isfinite(law.fisher_information()):
                variance = SMOOTHING * spread_of(law) ** 2
                z[:, k] += math.sqrt(variance) * noise[:, k]
                psi[:, k] = law.noisy_score(z[:, k], variance)
    return _outer(psi, z).flatten(1)


def _posterior_scores(model: LinearFactorModel, scores: Scores, seed: int) -> list[Tensor]:
    """Return two independent estimates of vec E[G (y - z) z' | x] of every row, by importance sampling."""
    precision = torch.linalg.inv(scores.covariance)
    generator = torch.Generator().manual_seed(seed)
    size = max(CHUNK // (PART_DRAWS * model.latents**2), 1)
    sets: list[list[Tensor]] = [[], []]
    with torch.no_grad():
        for rows in torch.arange(len(scores.values)).split(size):
            part = Scores(scores.values[rows], scores.covariance, scores.remainder[rows])
            for found in sets:
                draws = standard_draws(PART_DRAWS, len(rows), model.latents, generator)
                z, weights = weighted_draws(model.prior, part, draws)
                pull = (part.values - z) @ precision
                found.append(torch.einsum("sn,sni,snj->nij", weights.softmax(0), pull, z).flatten(1))
    first, second = (torch.cat(found) for found in sets)
    seen = (first.isfinite() & second.isfinite()).all(
        1
    )  # a row without a draw where the law is positive says nothing
    return [first[seen], second[seen]]


def _outer(psi: Tensor, z: Tensor) -> Float[Tensor, "draws latents latents"]:
    return psi.unsqueeze(2) * z.unsqueeze(1) - torch.eye(z.shape[1], dtype=z.dtype)


def _estimated(
    first: Float[Tensor, "rows squares"],
    second: Float[Tensor, "rows squares"],
    algebra: Float[Tensor, "dimension latents latents"],
    *,
    noisy: bool,
    draws: int,
) -> GroupInformation:
    """Return zeros for the algebra and the eigenvalues of the mean product of two sets of scores on its complement."""
    cross = first.mT @ second / len(first)
    size = cross.diagonal().clamp_min(1e-12 * float(cross.diagonal().abs().max()) + 1e-300).sqrt()
    correlation = 0.5 * (cross + cross.mT) / torch.outer(size, size)
    basis = torch.eye(len(size), dtype=torch.float64)
    if len(algebra):
        basis = torch.linalg.qr((algebra.flatten(1) * size).mT, mode="complete").Q[:, len(algebra) :]
    values, vectors = torch.linalg.eigh(basis.mT @ correlation @ basis)
    error = 0.0
    if len(values):
        weakest = (basis @ vectors[:, 0]) / size
        error = float(((first @ weakest) * (second @ weakest)).std() / math.sqrt(len(first)))
    values = torch.cat([torch.zeros(len(algebra), dtype=torch.float64), values])
    return GroupInformation(values, algebra, draws, error, noisy)


def _scaled(algebra: Tensor) -> Tensor:
    """Bring each direction to a largest entry of size 1."""
    return algebra / algebra.abs().amax((1, 2), keepdim=True) if len(algebra) else algebra


def _independent(laws: list[Prior]) -> GroupInformation:
    """Return the spectrum of independent coordinates in closed form."""
    latents = len(laws)
    spread = [spread_of(law) for law in laws]
    found = {repr(law): information_of(law) for law in laws}
    kappa = [found[repr(law)] * s**2 for law, s in zip(laws, spread, strict=True)]
    null, others = [], [1.0] * latents
    for i, j in itertools.combinations(range(latents), 2):
        correlation = 1 / math.sqrt(kappa[i] * kappa[j])
        others.append(1 + correlation)
        if 1 - correlation < NULL:
            direction = torch.zeros(latents, latents, dtype=torch.float64)
            direction[i, j], direction[j, i] = spread[i] / spread[j], -spread[j] / spread[i]
            null.append(direction)
        else:
            others.append(1 - correlation)
    algebra = torch.stack(null) if null else torch.zeros(0, latents, latents, dtype=torch.float64)
    values = torch.tensor([0.0] * len(null) + sorted(others), dtype=torch.float64)
    return GroupInformation(values, _scaled(algebra), smoothed=_smoothed(laws))


def _smoothed(laws: list[Prior] | None) -> float:
    """Return the share of its variance by which a law of infinite information is smoothed, 0 where none is."""
    infinite = any(not math.isfinite(law.fisher_information()) for law in laws or ())
    return SMOOTHING if infinite else 0.0


def _correlated(factor: Float[Tensor, "latents latents"]) -> GroupInformation:
    """Return the spectrum of z = L z_0: the score of B is <sym L^-1 B L, z_0 z_0' - I>, of variance 2 |sym|^2."""
    latents = len(factor)
    units = torch.eye(latents**2, dtype=torch.float64).reshape(-1, latents, latents)
    inner = torch.linalg.solve_triangular(factor, units, upper=False) @ factor
    flat = (0.5 * (inner + inner.mT)).flatten(1) * math.sqrt(2)
    size = flat.norm(dim=1)
    values, vectors = torch.linalg.eigh(flat @ flat.mT / torch.outer(size, size))
    null = values < POINTWISE
    algebra = (vectors[:, null] / size.unsqueeze(1)).mT.reshape(-1, latents, latents)
    return GroupInformation(torch.where(null, 0.0, values), _scaled(algebra))
