"""The outcome of a run on a program: draws stay as they are, the point model takes their aligned mean."""

from __future__ import annotations

from typing import Any

from probae.checks import NotExactError
from probae.inference.aligned import Aligner, SignedPermutations
from probae.inference.base import Outcome
from probae.inference.code_draws_posterior import CodeDrawsPosterior
from probae.inference.draws_posterior import DrawsPosterior
from probae.inference.hmc import HMCPosterior
from probae.inference.identified_group import identified_group
from probae.inference.nuts.settings import Sampled
from probae.inference.parameter_draws import check_mixing, summarize
from probae.models import LinearFactorModel

__all__ = ["program_outcome"]


def program_outcome(
    model: LinearFactorModel, random: LinearFactorModel, sampled: Sampled, rows: int
) -> Outcome:
    """Write the aligned mean into the model, and say how the chains have mixed."""
    draws, statistics, interrupted = sampled
    prior = random.parameter_priors["loadings"]
    posterior: DrawsPosterior | CodeDrawsPosterior | HMCPosterior
    if model.gaussian:
        posterior = summarize(model, draws, prior)[1]
    else:
        loadings = draws["loadings"]
        model.loadings = (loadings @ _aligner(model, prior).rotations(loadings)).mean((0, 1))
        model.noise_variance, model.mean = (draws[name].mean((0, 1)) for name in ("noise_variance", "mean"))
        posterior = HMCPosterior(model)
    return Outcome(
        posterior=posterior,
        history=(statistics["lp"].mean(0) / rows).tolist(),
        converged=check_mixing(draws),
        interrupted=interrupted,
        draws=draws,
        sample_stats=statistics,
        program=random,
    )


def _aligner(model: LinearFactorModel, prior: Any) -> Aligner:
    """Return the group that model and prior leave free; signs and order where it is not known in closed form."""
    try:
        return identified_group(model, prior)
    except NotExactError:
        return SignedPermutations()
