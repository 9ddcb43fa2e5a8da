"""Normal variational posteriors of loadings and noise variances, the factors integrated out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from probae.checks import (
    ConvergenceWarning,
    Data,
    FitError,
    check_choice,
    check_count,
    check_positive,
    warn,
)
from probae.inference.adam import FlatAdam, flattened
from probae.inference.base import Loop, Method, Outcome, few_threads
from probae.inference.laplace_approximation import normal_log_prob, outcome_of_normal
from probae.inference.normal_family import EntriesFamily, FullFamily
from probae.inference.parameter_coordinates import Coordinates
from probae.inference.parameter_density import CollapsedDensity
from probae.inference.parameter_draws import problem_of
from probae.inference.parameter_mode import Mode, find_mode
from probae.inference.schedule import Cosine
from probae.models import LinearFactorModel
from probae.models.pyro_context import local_parameters
from probae.statistics import SufficientStatistics

__all__ = ["VariationalBayes"]

Covariance = Literal["full", "low_rank", "mean_field"]
RISE = 0.1  # nats that the last quarter of the steps may bring
CHECKS = 1000  # draws that the bound is compared by


@dataclass(frozen=True)
class VariationalBayes(Method):
    r"""Approximate the posterior of the parameters by the normal law of highest evidence lower bound.

    .. math:: \max_{m, F} E_q[\log p(x, \theta) - \log q(\theta)], \quad q = N(m, F F'), \quad
              \theta = m + F \varepsilon

    theta is that of `LaplaceApproximation`, in the frame of the same mode, from which q starts; the factors are
    integrated out exactly, so that the only error is that the posterior is not normal. The gradient is that of the path
    alone (Roeder et al., 2017): it has no variance where q is exact.

    Parameters
    ----------
    covariance : {"full", "low_rank", "mean_field"}
        F any matrix; independent entries and ``rank`` directions besides; independent entries.
    rank : int
        Of ``"low_rank"``.
    draws : int
        Independent draws from q that are returned.
    steps, samples, lr
        Steps of Adam, draws in each (in pairs of opposite sign), and its first step, which falls along a cosine.

    Raises
    ------
    ParameterError
        Another covariance, or numbers that are not positive.
    NotExactError
        In a fit: non-Gaussian factors, or loadings whose hyperparameters have no closed form integral.

    References
    ----------
    .. [1] Kucukelbir, A., Tran, D., Ranganath, R., Gelman, A. & Blei, D. M. (2017). Automatic differentiation
       variational inference. JMLR 18(14).
    .. [2] Roeder, G., Wu, Y. & Duvenaud, D. (2017). Sticking the landing: simple, lower-variance gradient estimators
       for variational inference. NeurIPS.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> run = pa.fit(pa.FactorAnalysis(9, 1), x, pa.VariationalBayes("mean_field", draws=500, steps=200))
    >>> run.draws["noise_variance"].shape
    torch.Size([1, 500, 9])
    """

    covariance: Covariance = "full"
    rank: int = 5
    draws: int = 4000
    steps: int = 500
    samples: int = 32
    lr: float = 0.03
    objective_name: ClassVar[str] = "evidence lower bound of the parameters"
    accepts_statistics: ClassVar[bool] = True
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_choice("covariance", self.covariance, get_args(Covariance))
        for name in ("rank", "draws", "steps"):
            check_count(name, getattr(self, name))
        check_count("samples", self.samples, minimum=2)
        check_positive("lr", self.lr)

    @local_parameters
    def fit(self, model: LinearFactorModel, data: Data | SufficientStatistics, seed: int) -> Outcome:
        """Climb the bound from the mode, and draw."""
        problem = problem_of(model, data, "VariationalBayes")
        generator = torch.Generator().manual_seed(seed)
        with few_threads(self.samples * model.features * model.features):
            with torch.no_grad():
                mode = find_mode(CollapsedDensity(problem), "VariationalBayes")
                ranks = {"low_rank": self.rank, "mean_field": 0}
                full = self.covariance == "full"
                family = FullFamily(mode) if full else EntriesFamily(mode, ranks[self.covariance])
            try:
                history, rise, interrupted = self._climb(mode, family, generator)
            except torch.linalg.LinAlgError:
                raise FitError(
                    f"The variational law overflowed with lr={self.lr:g}: take smaller steps."
                ) from None
            if not rise < RISE and not interrupted:
                warn(
                    f"The bound still moved by {rise:.2g} nats in the last quarter of the steps: allow more of them.",
                    ConvergenceWarning,
                )
            with torch.no_grad():
                return outcome_of_normal(
                    problem,
                    mode.coordinates,
                    family.law(),
                    self.draws,
                    seed,
                    history=history,
                    converged=rise < RISE,
                    interrupted=interrupted,
                )

    def _climb(
        self, mode: Mode, family: FullFamily | EntriesFamily, generator: torch.Generator
    ) -> tuple[list[float], float, bool]:
        """Return the bound of each step, its rise over the last quarter, and whether there was an interrupt."""
        history: list[float] = []
        coordinates, steps = mode.coordinates, 0 if mode.interrupted else self.steps
        schedule, width = Cosine(), family.law()[1].shape[1]
        check = torch.randn(CHECKS, width, generator=generator, dtype=torch.float64)
        before = math.nan
        with flattened(family.learnt) as (values, gradient):
            adam = FlatAdam(values, gradient)
            with Loop("variational bound") as loop:
                for step in loop.steps(steps):
                    if step == (3 * self.steps) // 4:
                        before = bound(coordinates, family, check)
                    half = torch.randn(self.samples // 2, width, generator=generator, dtype=torch.float64)
                    value = path_bound(coordinates, family, torch.cat([half, -half]))
                    (-value).backward()
                    adam.step(self.lr * schedule.factor(step, self.steps))
                    history.append(float(value.detach()))
                    loop.value = history[-1]
        interrupted = loop.interrupted or mode.interrupted
        return history, abs(bound(coordinates, family, check) - before), interrupted


def path_bound(coordinates: Coordinates, family: FullFamily | EntriesFamily, normals: Tensor) -> Tensor:
    """Return the bound by these draws, with the gradient of the path alone."""
    centre, factor = family.law()
    theta = centre + normals @ factor.T
    log_q = normal_log_prob(theta, centre.detach(), factor.detach())
    return (coordinates.log_prob(theta) - log_q).mean()


@torch.no_grad()
def bound(coordinates: Coordinates, family: FullFamily | EntriesFamily, normals: Tensor) -> float:
    """Return the bound by these draws."""
    return float(path_bound(coordinates, family, normals))
