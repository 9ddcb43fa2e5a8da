"""The no-U-turn sampler on the density of the parameters with the factors integrated out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from probae.checks import Data, NotExactError, ParameterError, check_choice, check_count
from probae.inference.base import Method, Outcome, few_threads
from probae.inference.nuts.diagnosis import warn_of_moves
from probae.inference.nuts.scale_laws import scale_laws
from probae.inference.parameter_draws import in_units, outcome_of, problem_of
from probae.models import LinearFactorModel
from probae.models.pyro_context import local_parameters
from probae.parameter_priors import ParameterPrior
from probae.statistics import SufficientStatistics

__all__ = ["NUTS"]

ENGINES = ("probae", "nutpie", "pyro")


@dataclass(frozen=True)
class NUTS(Method):
    r"""Posterior of loadings, noise variances and mean by the no-U-turn sampler, factors integrated out.

    .. math:: p(W, \psi \mid x) \propto p(W)\, p(\psi) \int \prod_n N(x_n;\, \mu,\, W W' + \Psi)\, p(\mu)\, d\mu

    The density and its gradient are computed from the moments of x alone, so that a move costs the same for any number
    of rows. Where the prior of W is rotation invariant, so is the posterior, and a sampler would go round in circles:
    W = L Q with L lower-trapezoidal at well-chosen rows takes the rotation out (for standard normal loadings
    L_ii ~ chi_{K-i+1} and the rest of L is normal), and a uniform Q for each draw puts it back, so that the draws are
    those of the posterior of W. All chains run together in compiled code, with one step and one metric: from the
    curvature at the mode, then from the draws of all chains.

    Laplace and Student's t factors are normal given a random variance, and are integrated out given those:

    .. math:: z_{nk} \mid \tau \sim N(0, \tau_{nk}), \qquad x_n \mid \tau \sim N(\mu,\, W T_n W' + \Psi)

    The N K scales tau are moved with the parameters, exponential ones of mean 1 for Laplace factors, inverse gamma ones
    for t. There is no rotation to remove: W is identified up to signs and order of its columns, and all chains start
    near one of those modes. A gradient then costs O(N (D K + K^3)).

    Parameters
    ----------
    draws : int
        Draws kept of each chain.
    warmup : int
        Moves of each chain before them, in which step and metric are adapted.
    chains : int
        They start at draws of the normal approximation at the mode.
    target_acceptance : float
        Mean acceptance to adapt to, between 0 and 1; a higher one takes shorter steps.
    tree_depth : int
        A trajectory has at most 2^tree_depth steps.
    engine : {"probae", "nutpie", "pyro"}
        What draws: the engine here; nutpie on the same density (the extra ``nuts``, Gaussian factors only); or Pyro,
        slowly, on a density of its own in which neither rotation nor mean is integrated out, nor factors that are not
        Gaussian: the reference of the other two.

    Raises
    ------
    ParameterError
        A count, acceptance or engine that is none; nutpie missing; hyperparameters of loadings, or factors that are not
        Gaussian, with nutpie.
    NotExactError
        No noise; sparse laws of the loadings; degrees of freedom of t factors that are to be learned.
    DataError
        Missing entries, or no rows, for factors that are not Gaussian.

    Warns
    -----
    DivergenceWarning, TreeDepthWarning, EnergyWarning, ConvergenceWarning
        Moves that lost their energy; more than 1% of trees cut off; E-BFMI below 0.3; R-hat above 1.01 or fewer than
        400 effective draws.
    ProbaeWarning
        For priors that no compiled density is for: what the run costs.

    Notes
    -----
    ``Fit.draws`` are never aligned. Priors are those of ``model.with_priors``, by default N(0, 1) loadings, IG(2, 1/2)
    noise on columns in units of their standard deviation, and a flat mean. Hyperparameters of loadings are drawn from
    their exact conditional law between moves. Distributions of Pyro, and factors of other laws, go to Pyro's own
    sampler on the model's program, chain after chain, whatever the engine: Gaussian factors are integrated out of it,
    others are moved, all N K of them; a flat mean becomes N(mean of x, (10 sd)^2). With missing entries every pattern
    of them costs as much as complete rows do together. ``lp`` is log p(x, W, psi, hyperparameters), on a program of
    Pyro that of the unconstrained coordinates it moves; ``energy`` is that of the sampler's own.

    For Laplace and t factors the coordinate of a scale is w, with tau = c g or c / g and g = log(1 + e^w) a gamma
    variable; ``lp`` is log p(x, W, psi, mean, w, hyperparameters). The metric is dense for the parameters and diagonal
    for the scales, which ``Fit.draws`` does not keep. ``run.posterior(x)`` is p(z | x) averaged over up to 200 draws
    of the parameters, signs and order matched, by Gibbs chains of each row: `Draws`, whose mean averages conditional
    means. A run holds 8 (draws + warmup) chains (N K + parameters) bytes, twice over.

    References
    ----------
    .. [1] Hoffman, M. D. & Gelman, A. (2014). The no-U-turn sampler. Journal of Machine Learning Research 15,
       1593-1623.
    .. [2] Betancourt, M. (2017). A conceptual introduction to Hamiltonian Monte Carlo. arXiv:1701.02434, appendix A.
    .. [3] Geweke, J. & Zhou, G. (1996). Measuring the pricing error of the arbitrage pricing theory. Review of
       Financial Studies 9, 557-587: triangular loadings, there with a prior that depends on which rows are the pivots.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> run = pa.fit(pa.FactorAnalysis(9, 3), x, pa.NUTS(draws=500, warmup=300))
    >>> run.draws["loadings"].shape, run.converged
    (torch.Size([4, 500, 9, 3]), True)
    """

    draws: int = 1000
    warmup: int = 400
    chains: int = 4
    target_acceptance: float = 0.8
    tree_depth: int = 10
    engine: str = "probae"
    objective_name: ClassVar[str] = "log joint density of x and the parameters"
    accepts_statistics: ClassVar[bool] = True
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_count("draws", self.draws)
        check_count("warmup", self.warmup, minimum=0)
        check_count("chains", self.chains)
        check_count("tree_depth", self.tree_depth)
        check_choice("engine", self.engine, ENGINES)
        goal = self.target_acceptance
        if not isinstance(goal, int | float) or isinstance(goal, bool) or not 0 < goal < 1:
            raise ParameterError(f"target_acceptance should be a number between 0 and 1, got {goal!r}.")

    @local_parameters
    @torch.no_grad()
    def fit(self, model: LinearFactorModel, data: Data | SufficientStatistics, seed: int) -> Outcome:
        """Sample in place."""
        if self._needs_program(model):
            return self._fit_program(model, data)
        codes = isinstance(model, LinearFactorModel) and not model.gaussian and not model.invertible
        problem = in_units(model, self.rows(data), "NUTS") if codes else problem_of(model, data, "NUTS")
        if problem.loadings.sparse:
            law = type(problem.loadings).__name__
            raise NotExactError(
                f"NUTS follows gradients, and loadings under {law} jump to exactly 0: Gibbs() draws them."
            )
        from probae.inference.nuts.run import sample  # compiled when it is first imported

        with few_threads(model.features**2 * model.latents):
            sampled = sample(problem, self, np.random.default_rng(seed))
        draws, statistics, interrupted = sampled
        return outcome_of(problem, draws, statistics, interrupted=interrupted)

    def _needs_program(self, model: LinearFactorModel) -> bool:
        """Whether a prior is a distribution of Pyro, or the factors have a law that no compiled density is for."""
        if not isinstance(model, LinearFactorModel) or model.invertible:
            return False
        if any(not isinstance(law, ParameterPrior) for law in model.parameter_priors.values()):
            return True
        return not model.gaussian and (
            self.engine == "pyro" or scale_laws(model.prior, model.latents) is None
        )

    def _fit_program(self, model: LinearFactorModel, data: Data | SufficientStatistics) -> Outcome:
        """Sample the program of the model, by Pyro."""
        from probae.inference.nuts.program import sample_program
        from probae.inference.nuts.program_outcome import program_outcome

        rows = data.count if isinstance(data, SufficientStatistics) else len(data.values)
        with few_threads(rows * model.features * model.latents):
            random, sampled = sample_program(model, data, self)
        warn_of_moves(sampled[1], self.tree_depth)
        return program_outcome(model, random, sampled, rows)
