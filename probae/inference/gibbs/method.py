"""Gibbs sampling of the parameters of factor analysis and probabilistic PCA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from probae.checks import Data, check_count
from probae.inference.base import Loop, Method, Outcome, few_threads
from probae.inference.gibbs.chains import Chains
from probae.inference.gibbs.record import finish
from probae.inference.parameter_draws import outcome_of, problem_of
from probae.models import LinearFactorModel
from probae.models.pyro_context import local_parameters
from probae.statistics import SufficientStatistics

BLOCK = 50  # sweeps between two looks at the keyboard


@dataclass(frozen=True)
class Gibbs(Method):
    r"""Sample the posterior of loadings, noise variances and mean of a factor model, exactly, whatever n.

    A sweep draws Z'Z and Z'X given (W, Psi) from the scatter of x alone, so that it costs the same for a thousand rows
    and for a million; then the rows of W and the noise variances from their conditionals; then A on the orbit
    z -> A z, W -> W A^{-1}, along which the likelihood is constant, and a random orthogonal frame. With normal
    loadings and inverse-gamma noise each noise variance is drawn once more with the scores integrated out, where draws
    are nearly independent, and sweeps are compiled. Missing entries are drawn given the observed ones of their row.

    Parameters
    ----------
    draws : int
        Sweeps of each chain that are kept.
    warmup : int
        Sweeps before, which are not.
    chains : int
        Chains, moved together; they start apart.
    rotate : bool
        Whether each draw comes in an orthogonal frame of its own, where the prior of the loadings is the same in all:
        it is the exact law of W. Without it chains keep the frame they fell into, of use only to see what that does.

    Raises
    ------
    NotExactError
        A model that is not linear with Gaussian factors and noise: `StochasticEM` and `NUTS` take others.
    ParameterError
        A wrong count; a prior that is not of :mod:`probae.parameter_priors`.

    Notes
    -----
    Priors are those of ``model.with_priors``; without them W_dk ~ N(0, s_d^2), psi_d ~ IG(2, s_d^2 / 2), with s_d the
    standard deviation of column d, and a flat mean. ``run.draws`` holds ``loadings`` (chain, draw, D, K),
    ``noise_variance`` (chain, draw, D), or (chain, draw) if isotropic, ``mean`` (chain, draw, D) and the
    hyperparameters; ``run.sample_stats`` the log joint density ``lp`` in nats, scores integrated out, and the
    ``acceptance_rate`` of the move along the orbit. The columns of loadings in different draws need not be the same
    factors: align them before looking at one.

    References
    ----------
    .. [1] Liu, J. S. & Sabatti, C. (2000). Generalised Gibbs sampler and multigrid Monte Carlo for Bayesian
       computation. Biometrika 87, 353-369, theorem 1.
    .. [2] van Dyk, D. A. & Park, T. (2008). Partially collapsed Gibbs samplers: theory and methods. Journal of the
       American Statistical Association 103, 790-796.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.linear_factors(500, 6, 1, noise=0.6, seed=0).x
    >>> run = pa.fit(pa.FactorAnalysis(6, 1), x, pa.Gibbs())
    >>> run.draws["loadings"].shape, run.converged
    (torch.Size([4, 2000, 6, 1]), True)
    """

    draws: int = 2000
    warmup: int = 500
    chains: int = 4
    rotate: bool = True
    objective_name: ClassVar[str] = "log joint density of x and the parameters"
    accepts_statistics: ClassVar[bool] = True
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_count("draws", self.draws)
        check_count("warmup", self.warmup, minimum=0)
        check_count("chains", self.chains)

    @local_parameters
    @torch.no_grad()
    def fit(self, model: LinearFactorModel, data: Data | SufficientStatistics, seed: int) -> Outcome:
        """Draw from the posterior; the model gets the mean of the draws, aligned."""
        problem = problem_of(model, data, "Gibbs")
        generator = np.random.Generator(np.random.SFC64(seed))
        blocks: list[dict[str, Tensor]] = []
        with few_threads(self.chains * model.features * model.latents * model.features):
            chains = Chains(problem, self.chains, generator, turn=self.rotate)
            engine = engine_of(chains)
            with Loop("sampling") as loop:
                for first in loop.steps(-(-self.warmup // BLOCK)):
                    engine.sweeps(min(BLOCK, self.warmup - first * BLOCK))
                    engine.adapt()
                last = self.draws + 1  # the sweep after the last draw finds its likelihood
                for first in loop.steps(-(-last // BLOCK)):
                    blocks.append(engine.sweeps(min(BLOCK, last - first * BLOCK)))
            if not blocks:  # interrupted before: the next state is the one draw
                blocks.append(engine.sweeps(2))
            draws, stats = finish(blocks, chains, generator)
        return outcome_of(problem, draws, stats, interrupted=loop.interrupted)


def engine_of(chains: Chains) -> Any:
    """Return the compiled engine where it serves; numba is imported only then."""
    if not chains.compilable:
        return chains
    from probae.inference.gibbs.compiled_chains import CompiledChains

    return CompiledChains(chains)
