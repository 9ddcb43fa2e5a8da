r"""How the likelihood changes along a rotation W -> W R, with the latents held to the same posterior draws.

.. math:: \log \frac{p(x; W R)}{p(x; W)} = \log E_{z \mid x, W} \frac{p(R' z)}{p(z)}

Identically zero for Gaussian factors. One set of draws serves every R, so the difference is paired and its error small.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import ParameterError, check_data
from probae.inference import Fit
from probae.inference.importance import proposed_draws, standard_draws
from probae.linalg import givens, haar_rotation
from probae.models import LinearFactorModel
from probae.models.marginal import Scores, gaussian_log_density, solve_sources
from probae.priors import Prior
from probae.priors.information import is_positive

DRAWS = 64
ROWS = 4000


@dataclass(frozen=True, eq=False)
class RotationProfile:
    """Log-likelihood of x along a rotation in one plane, minus its value at the fitted frame.

    Attributes
    ----------
    plane : (int, int)
    degrees : Tensor (A,)
    change : Tensor (A,)
        Nats, summed over ``samples`` rows.
    error : Tensor (A,)
        Monte Carlo standard error; zeros when exact, as of Gaussian and of spherical factors.
    samples : int
    exact : bool
    """

    plane: tuple[int, int]
    degrees: Float[Tensor, "angles"]
    change: Float[Tensor, "angles"]
    error: Float[Tensor, "angles"]
    samples: int
    exact: bool

    @property
    def range(self) -> float:
        """Largest minus smallest log-likelihood over the angles, in nats."""
        return float(self.change.max() - self.change.min())


def rotation_profile(
    fit: Fit, x: Any, plane: tuple[int, int] = (0, 1), degrees: Any = None, seed: int = 0
) -> RotationProfile:
    """Compute the log-likelihood along the rotation of two factors.

    Parameters
    ----------
    fit : Fit
        Of a linear factor model.
    x : array (N, D)
        At most 4,000 rows are used (a seeded choice) when factors are not Gaussian.
    plane : (int, int)
        The two factors that turn.
    degrees : sequence of float or Tensor (A,), optional
        Angles; 0 to 180 in steps of 5 by default.

    Returns
    -------
    RotationProfile

    Raises
    ------
    ParameterError
        No fit of a linear factor model, no plane of its factors, or no angles.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> profile = rotation_profile(pa.fit(pa.FactorAnalysis(9, 3), x), x)
    >>> profile.range < 1e-9
    True
    """
    model = fit.model
    check_plane(model, plane)
    degrees = turning_angles(degrees, 5.0)
    rotations = givens(model.latents, *plane, torch.deg2rad(degrees))
    rows = check_data(x, features=model.features, missing="allow").values
    if model.gaussian and model.noise != "none":
        change = gaussian_change(model, rows, rotations)
        return RotationProfile(plane, degrees, change, torch.zeros_like(change), len(rows), exact=True)
    rows = sample_rows(rows[~rows.isnan().any(1)], ROWS, seed)
    change, error = paired_change(model, rows, rotations, seed)
    exact = model.invertible or model.prior.spherical  # p(R' z) = p(z): every draw gives the same ratio, 1
    return RotationProfile(
        plane, degrees, change, torch.zeros_like(error) if exact else error, len(rows), exact
    )


def gaussian_change(model: LinearFactorModel, x: Tensor, rotations: Tensor) -> Float[Tensor, "rotations"]:
    """Return log p(x; W L R) - log p(x; W L) for Gaussian factors with correlations L L', summed over rows."""
    loadings, noise, mean = model._standard_parameters()
    reference = gaussian_log_density(x, loadings, noise, mean)
    turned = [gaussian_log_density(x, loadings @ rotation, noise, mean) - reference for rotation in rotations]
    return torch.stack([difference.sum() for difference in turned])


def haar_spread(model: LinearFactorModel, x: Tensor, count: int = 100) -> float:
    """Return the largest change per row over Haar rotations of a Gaussian model, relative to the log-likelihood."""
    generator = torch.Generator().manual_seed(0)
    rows = sample_rows(x, 500, 0)
    change = gaussian_change(model, rows, haar_rotation(model.latents, generator, count=count))
    level = gaussian_log_density(rows, *model._standard_parameters()).abs().sum()
    return float(change.abs().max() / level)


def paired_change(
    model: LinearFactorModel, x: Tensor, rotations: Tensor, seed: int
) -> tuple[Float[Tensor, "rotations"], Float[Tensor, "rotations"]]:
    """Return the paired log-likelihood ratio of each rotation, summed over rows, and its Monte Carlo error."""
    prior = model.prior
    if model.invertible:
        z = solve_sources(x, model.loadings.detach(), model.mean.detach())
        change = torch.stack(
            [(prior.joint_log_prob(z @ r) - prior.joint_log_prob(z)).sum() for r in rotations]
        )
        return change, torch.zeros_like(change)
    log_prob, scores = positive_law(prior, model.sufficient_scores(x))
    noise = standard_draws(DRAWS, len(x), model.latents, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        z, ratio = proposed_draws(scores, noise)
        weights = ratio + log_prob(z)
        reference = weights.softmax(0)
        changes, errors = [], []
        for rotation in rotations:
            turned = ratio + log_prob(z @ rotation)
            changes.append((turned.logsumexp(0) - weights.logsumexp(0)).sum())
            errors.append((turned.softmax(0) - reference).square().sum().sqrt())
    return torch.stack(changes), torch.stack(errors)


def row_changes(
    model: LinearFactorModel, x: Tensor, rotation: Float[Tensor, "latents latents"], seed: int
) -> Float[Tensor, " samples"]:
    """Return log p(x; W R) - log p(x; W) of each row for one rotation: exact, or paired by the same draws."""
    prior = model.prior
    if model.gaussian or prior.spherical:
        return torch.zeros(len(x), dtype=torch.float64)
    if model.invertible:
        z = solve_sources(x, model.loadings.detach(), model.mean.detach())
        return (prior.joint_log_prob(z @ rotation) - prior.joint_log_prob(z)).detach()
    changes = []
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for rows in x.split(ROWS):
            draws = standard_draws(DRAWS, len(rows), model.latents, generator)
            log_prob, scores = positive_law(prior, model.sufficient_scores(rows))
            z, ratio = proposed_draws(scores, draws)
            own, turned = (ratio + log_prob(at) for at in (z, z @ rotation))
            changes.append(turned.logsumexp(0) - own.logsumexp(0))
    return torch.cat(changes)


def positive_law(prior: Prior, scores: Scores) -> tuple[Callable[[Tensor], Tensor], Scores]:
    """Return log p(z) and the scores; where p is zero somewhere, move part of their noise to z, whose law it smooths.

    With y = z + N(0, V) and v half the smallest eigenvalue of V, z + N(0, v I) has a positive density, y is that plus
    N(0, V - v I), and turning z turns both: the likelihood ratio of a rotation is the same.
    """
    laws = prior.coordinates(scores.values.shape[1])
    if laws is None or all(is_positive(law) for law in laws):
        return prior.joint_log_prob, scores
    variance = 0.5 * float(torch.linalg.eigvalsh(scores.covariance)[0])
    rest = scores.covariance - variance * torch.eye(len(laws), dtype=torch.float64)

    def log_prob(z: Tensor) -> Tensor:
        return prior.noisy_log_prob(z, variance).sum(-1)

    return log_prob, Scores(scores.values, rest, scores.remainder)


def sample_rows(x: Tensor, count: int, seed: int) -> Tensor:
    """Return at most ``count`` rows, chosen by a seed."""
    if len(x) <= count:
        return x
    return x[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:count]]


def turning_angles(degrees: Any, step: float) -> Float[Tensor, " angles"]:
    """Return angles in degrees in float64: those given, or 0 to 180 in steps.

    Raises
    ------
    ParameterError
        No angle at all, or what is no list of finite numbers.

    Examples
    --------
    >>> turning_angles([0, 45], 5.0), len(turning_angles(None, 5.0))
    (tensor([ 0., 45.], dtype=torch.float64), 37)
    """
    if degrees is None:
        return torch.arange(0.0, 181.0, step, dtype=torch.float64)
    try:
        angles = torch.as_tensor(degrees, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        angles = torch.zeros(0)
    if angles.ndim != 1 or not len(angles) or not bool(angles.isfinite().all()):
        raise ParameterError(f"degrees should be a list of finite angles, got {degrees!r}.")
    return angles


def check_plane(model: Any, plane: tuple[int, int]) -> None:
    """Refuse what is no linear factor model, or no plane of two of its factors."""
    if not isinstance(model, LinearFactorModel):
        raise ParameterError(f"A rotation profile needs a linear factor model, got {type(model).__name__}.")
    i, j = plane
    if i == j or not (0 <= min(i, j) and max(i, j) < model.latents):
        raise ParameterError(f"plane should be two different factors of 0..{model.latents - 1}, got {plane}.")
    if not math.isfinite(float(model.loadings.detach().abs().max())):
        raise ParameterError("The fitted loadings are not finite: fit the model again.")
