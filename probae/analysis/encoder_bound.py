"""What a posterior promises of rows: its evidence lower bound, and the best bound in its own family."""

from __future__ import annotations

from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import DataError, NotExactError, ParameterError
from probae.inference import Fit
from probae.inference.gaussian_expectation import Expectation, expectation_of
from probae.inference.nonlinear_reference import ROUGH, STEPS
from probae.inference.refinement import Gaussians, climb, gaussians_of
from probae.models import LinearFactorModel
from probae.models.marginal import gaussian_posterior

TOLERANCE = 1e-9  # nats a step, below which a row has arrived
CHUNK = 2_000_000  # numbers drawn at once


class Bounds(NamedTuple):
    """Evidence lower bounds of each row in nats, with the standard errors of what was drawn.

    Attributes
    ----------
    amortized, amortized_error : Tensor (N,)
    optimal, optimal_error : Tensor (N,) or None
    amortization, amortization_error : Tensor (N,) or None
        Optimal minus amortized, from the same draws.
    best : Gaussians or None
    family : str
    """

    amortized: Float[Tensor, "samples"]
    amortized_error: Float[Tensor, "samples"]
    optimal: Float[Tensor, "samples"] | None
    optimal_error: Float[Tensor, "samples"] | None
    amortization: Float[Tensor, "samples"] | None
    amortization_error: Float[Tensor, "samples"] | None
    best: Gaussians | None
    family: str


def posterior_law(run: Fit, x: Float[Tensor, "samples features"]) -> dist.TorchDistribution:
    """Return q(z | x) of a fit, or say why it has no evidence lower bound."""
    if getattr(run.model, "noise", None) == "none":
        raise ParameterError(
            'The model has noise="none": z is a function of x, without a density, and log_likelihood(x) is exact, so '
            "there is no gap to measure. Use a model with noise."
        )
    law = run.posterior(x)
    name = type(run.posterior).__name__
    if isinstance(law, dist.Delta):
        raise ParameterError(
            f"{name} is a point mass: its density is infinite and its evidence lower bound has no value, so no gap can "
            "be measured. Fit with SVI(encoder), or ask log_evidence(run, x) for log p(x) alone."
        )
    try:
        law.log_prob(law.mean)
    except (NotExactError, NotImplementedError):
        raise ParameterError(
            f"{name} gives draws without a density, so it has no evidence lower bound: fit with SVI(encoder), or ask "
            "log_evidence(run, x) for log p(x) alone."
        ) from None
    return law


def bounds_of(run: Fit, x: Float[Tensor, "samples features"], draws: int, seed: int) -> Bounds:
    """Evaluate the posterior of a fit on rows, and climb to the best Gaussian where it is one."""
    law = posterior_law(run, x)
    q = gaussians_of(law)
    if q is None:
        value, error = sampled_bounds(run.model, x, [law], draws, seed)
        family = f"{type(law).__name__}, whose best member is not searched for"
        return Bounds(value[0], error[0], None, None, None, None, None, family)
    expectation = expectation_of(run.model, seed=seed)
    best, optimal = _best(run.model, expectation, x, q)
    family = "Gaussian, independent codes" if q.diagonal else "Gaussian, full covariance"
    if expectation.exact:
        _, amortized = climb(expectation, x, q, 0)
        _check_finite(amortized)
        none = torch.zeros_like(amortized)
        return Bounds(amortized, none, optimal, none, optimal - amortized, none, best, family)
    value, error = sampled_bounds(run.model, x, [q.law(x.dtype), best.law(x.dtype)], draws, seed)
    _check_finite(value[0])
    return Bounds(value[0], error[0], value[1], error[1], value[2], error[2], best, family)


def _best(model: Any, expectation: Expectation, x: Tensor, q: Gaussians) -> tuple[Gaussians, Tensor]:
    """Climb from the encoder's answer, and in a linear model also from that of a Gaussian prior; keep the higher."""
    best, value = climb(expectation, x, q, STEPS, TOLERANCE if expectation.exact else ROUGH)
    if not isinstance(model, LinearFactorModel):
        return best, value
    mean, root = gaussian_posterior(x, *model._standard_parameters())
    if q.diagonal:
        variance = 1 / torch.cholesky_inverse(root).diagonal(dim1=-2, dim2=-1)
        root = torch.diag_embed(variance.sqrt())
    start = Gaussians(mean, root.expand_as(q.root), q.diagonal)
    other, second = climb(expectation, x, start, STEPS, TOLERANCE)
    higher = second > value
    mean = torch.where(higher.view(-1, 1), other.mean, best.mean)
    root = torch.where(higher.view(-1, 1, 1), other.root, best.root)
    return Gaussians(mean, root, q.diagonal), torch.maximum(value, second)


def sampled_bounds(
    model: Any, x: Tensor, laws: list[Any], draws: int, seed: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Average log p(x, z) - log q(z) over draws of each law, and the difference of two laws over the same draws.

    Where q is the posterior, every draw gives log p(x), without error.
    """
    terms = [log_ratios(model, x, law, draws, seed) for law in laws]  # the same numbers for each law
    if len(terms) == 2:
        terms.append(terms[1] - terms[0])
    return [t.mean(0) for t in terms], [t.std(0) / draws**0.5 for t in terms]


@torch.no_grad()
def log_ratios(model: Any, x: Tensor, law: Any, draws: int, seed: int) -> Float[Tensor, "draws samples"]:
    """Return log p(x, z) - log q(z) of draws z of a law."""
    count = max(1, CHUNK // (len(x) * max(x.shape[1], model.latents)))
    parts = []
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for low in range(0, draws, count):
            z = law.sample(torch.Size((min(count, draws - low),)))
            parts.append(model.log_joint(x, z) - law.log_prob(z))
    return torch.cat(parts)


def _check_finite(value: Tensor) -> None:
    bad = int((~value.isfinite()).sum())
    if bad:
        raise DataError(
            f"The evidence lower bound should be finite, but {bad} of {len(value)} rows have none: the encoder puts "
            "mass where the prior has none, or these rows are far outside those it was fitted to."
        )
