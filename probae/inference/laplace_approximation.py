"""The Laplace approximation to the posterior of loadings and noise variances."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import ConvergenceWarning, Data, check_count, warn
from probae.inference.base import Method, Outcome, few_threads
from probae.inference.parameter_coordinates import Coordinates
from probae.inference.parameter_density import CollapsedDensity
from probae.inference.parameter_draws import Problem, outcome_of, problem_of
from probae.inference.parameter_mode import Mode, find_mode, root_of_inverse
from probae.models import LinearFactorModel
from probae.models.pyro_context import local_parameters
from probae.statistics import SufficientStatistics

__all__ = ["LaplaceApproximation", "outcome_of_normal"]


@dataclass(frozen=True)
class LaplaceApproximation(Method):
    r"""Approximate the posterior of the parameters by a normal law around its mode, the factors integrated out.

    .. math:: q(\theta) = N(\hat\theta, H^{-1}), \quad \hat\theta = \arg\max \log p(x, \theta), \quad
              H = -\nabla^2 \log p(x, \hat\theta)

    theta holds the loadings and the logarithms of the noise variances. Where the prior leaves the rotation of the
    loadings free, H would have K (K - 1) / 2 directions without curvature: theta holds loadings in one frame (those
    with A'W symmetric, A = Psi^{-1} W at the mode), the density there carries the volume of the orbits, and every draw
    is turned at random; neither step approximates. Under other priors the draws get the signs, and the order of the
    factors, that the prior leaves free; the other modes that it may have are not looked for.

    A flat or normal mean and the precisions of ARD are integrated out, and drawn from their exact conditional laws.
    From moments alone: the cost does not depend on the number of rows, but where entries are missing.

    Parameters
    ----------
    draws : int
        Independent draws from q. ``Fit.sample_stats["log_weight"]`` holds log p(x, theta) - log q(theta), for
        `compare_posteriors`.

    Raises
    ------
    NotExactError
        In a fit: non-Gaussian factors, or loadings whose hyperparameters have no closed form integral.

    References
    ----------
    .. [1] Tierney, L. & Kadane, J. B. (1986). Accurate approximations for posterior moments and marginal densities.
       JASA 81, 82-86.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> run = pa.fit(pa.FactorAnalysis(9, 3), x, pa.LaplaceApproximation(draws=500))
    >>> run.draws["loadings"].shape
    torch.Size([1, 500, 9, 3])
    """

    draws: int = 4000
    objective_name: ClassVar[str] = "log joint density of x and the parameters"
    accepts_statistics: ClassVar[bool] = True
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_count("draws", self.draws)

    @local_parameters
    @torch.no_grad()
    def fit(self, model: LinearFactorModel, data: Data | SufficientStatistics, seed: int) -> Outcome:
        """Find the mode and draw from the normal law around it."""
        problem = problem_of(model, data, "LaplaceApproximation")
        with few_threads(model.features * model.features * model.latents):
            mode = find_mode(CollapsedDensity(problem), "LaplaceApproximation")
            if not mode.converged:
                warn_no_maximum(mode)
            factor = root_of_inverse(mode.precision)
            return outcome_of_normal(
                problem,
                mode.coordinates,
                (mode.theta, factor),
                self.draws,
                seed,
                history=mode.history,
                converged=mode.converged,
                interrupted=mode.interrupted,
            )


def warn_no_maximum(mode: Mode) -> None:
    """Say why the normal law is not one around a maximum."""
    if not mode.interrupted:
        flat = int((torch.linalg.eigvalsh(mode.precision) <= 0).sum())
        reason = f"{flat} directions do not curve down" if flat else "the density still rises"
        warn(f"The Laplace approximation is not around a maximum: {reason}.", ConvergenceWarning)


def outcome_of_normal(
    problem: Problem,
    coordinates: Coordinates,
    law: tuple[Float[Tensor, " p"], Float[Tensor, "p q"]],
    draws: int,
    seed: int,
    *,
    history: list[float],
    converged: bool,
    interrupted: bool,
) -> Outcome:
    """Draw from N(m, F F') in the coordinates, complete the draws and weigh them.

    Parameters
    ----------
    law : m, F
    history : list of float
        Of the density of x / units, in nats.
    """
    centre, factor = law
    generator = np.random.Generator(np.random.SFC64(seed))
    normals = torch.from_numpy(generator.standard_normal((draws, factor.shape[1])))
    theta = centre + normals @ factor.T
    parameters = coordinates.parameters(theta)
    weights = coordinates.log_prob(theta) - normal_log_prob(theta, centre, factor)
    weights = torch.where(coordinates.frame.holds(parameters.loadings), weights, -torch.inf)
    loadings = coordinates.turned(parameters.loadings, generator)
    density, noise, mean = coordinates.density, parameters.noise, parameters.mean
    found = {
        "loadings": loadings,
        "noise_variance": noise[:, 0] if problem.isotropic else noise,
        "mean": density.draw_mean(loadings, noise, generator) if mean is None else mean,
        **problem.loadings.update({}, loadings),
    }
    stats = {"lp": coordinates.log_joint(parameters), "log_weight": weights}
    outcome = outcome_of(
        problem,
        {name: value[None] for name, value in found.items()},
        {name: value[None] for name, value in stats.items()},
        interrupted=interrupted,
        independent=True,
    )
    outcome.history = [value / problem.count - float(problem.units.log().sum()) for value in history]
    outcome.converged = converged
    return outcome


def normal_log_prob(
    theta: Float[Tensor, "draws p"], centre: Float[Tensor, " p"], factor: Float[Tensor, "p q"]
) -> Float[Tensor, " draws"]:
    """Return log N(theta; m, F F')."""
    lower = torch.linalg.cholesky(factor @ factor.T)
    standard = torch.linalg.solve_triangular(lower, (theta - centre).T, upper=False)
    log_det = lower.diagonal().log().sum()
    return -0.5 * standard.square().sum(0) - log_det - 0.5 * len(centre) * math.log(2 * math.pi)
