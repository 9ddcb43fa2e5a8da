"""Learning by the marginal likelihood itself: EM whose expectation is a sample of the codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from probae.checks import Data, check_count, check_positive
from probae.inference.base import Loop, Method, Outcome, few_threads
from probae.inference.code_start import floor, start
from probae.inference.code_statistics import CodeParameters, CodeStatistics
from probae.inference.gibbs_posterior import GibbsPosterior, require_scale_mixture, start_chains, sweep
from probae.inference.scale_conditional import ScaleConditional
from probae.inference.shape_step import improve_shape
from probae.models import LinearFactorModel
from probae.models.pyro_context import local_parameters
from probae.priors import Prior
from probae.statistics import SufficientStatistics

FIRST_SWEEPS = 10  # before the parameters first move
LEAST_CURVATURE = (
    0.1  # of a pair of codes: less means both are nearly normal, and turning them changes little
)
LONGEST = 0.1  # change of an entry of A in one step


@dataclass(frozen=True)
class StochasticEM(Method):
    r"""Maximise the marginal likelihood of a linear model with a heavy-tailed prior by stochastic EM.

    A Gibbs chain for each row goes on from step to step (:class:`GibbsPosterior`); what it says of the codes enters the
    statistics S with a weight that falls, and the parameters are the best for S,

        S <- S + gamma_t (s(z_t) - S),   gamma_t = 1 for half of the steps, then 1/2, 1/3, ...

    so they converge to a maximum of p(x), without the bias of a variational bound or of MAP codes. The loadings, the
    noise variance, the mean, the scale of the codes (the length of the columns of the loadings) and a shape of the
    prior that may be learned are all found, for more codes than features and for fewer (noisy ICA).

    Parameters
    ----------
    steps : int
        Passes over the rows.
    draws : int
        Sweeps of the chains at each.
    batch : int
        Rows after which the parameters move.
    tol : float
        The fit counts as converged when the averaging half of the steps has moved the noise variance and the
        loadings by less than this share.

    Notes
    -----
    ``history`` is log p(x, z) per row at the sampled codes, in nats: it shows when the chains have settled, and is no
    measure of fit, for which there is the evidence.

    References
    ----------
    .. [1] Delyon, B., Lavielle, M. & Moulines, E. (1999). Convergence of a stochastic approximation version of the EM
       algorithm. Annals of Statistics 27, 94-128.
    .. [2] Liu, C., Rubin, D. B. & Wu, Y. N. (1998). Parameter expansion to accelerate EM. Biometrika 85, 755-770.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.linear_factors(200, 4, 2, noise=0.2, seed=0).x
    >>> model = pa.LinearFactorModel(4, 2, prior=pa.priors.Laplace())
    >>> run = pa.fit(model, x, pa.StochasticEM(steps=60, tol=0.5))
    >>> run.posterior(x[:3]).mean.shape
    torch.Size([3, 2])
    """

    steps: int = 300
    draws: int = 1
    batch: int = 1000
    tol: float = 0.05
    objective_name: ClassVar[str] = "log joint density at sampled codes"

    def __post_init__(self) -> None:
        check_count("steps", self.steps, minimum=2)
        check_count("draws", self.draws)
        check_count("batch", self.batch)
        check_positive("tol", self.tol)

    @local_parameters
    @torch.no_grad()
    def fit(self, model: LinearFactorModel, data: Data | SufficientStatistics, seed: int) -> Outcome:
        """Learn the parameters in place."""
        data = self.rows(data)
        require_scale_mixture(model, "StochasticEM")
        with torch.enable_grad():
            parameters = start(model, data, seed)
        centre = data.values.mean(0)
        history: list[float] = []
        before = parameters
        with Loop("sampling") as loop, few_threads(self.batch * model.latents * model.features):
            ascent = StochasticAscent(model, data.values - centre, parameters, self.batch)
            ascent.least = float(floor(model, data).max())
            for step in loop.steps(self.steps):
                past = step - self.steps // 2
                if past == 0:
                    before = ascent.parameters
                history.append(ascent.climb(1.0 if past < 0 else 1.0 / (past + 1), self.draws))
                loop.value = history[-1]
        if history:
            model.loadings, model.noise_variance = ascent.parameters.loadings, ascent.parameters.noise
            model.mean = centre + ascent.parameters.offset
        converged = bool(history) and distance(before, ascent.parameters) < self.tol
        return Outcome(GibbsPosterior(model, seed=seed), history, converged, loop.interrupted)


def distance(before: CodeParameters, after: CodeParameters) -> float:
    """Return the largest relative change of the noise variances and of the loadings."""
    noise = (after.noise / before.noise - 1).abs().max()
    loadings = (after.loadings - before.loadings).norm() / after.loadings.norm()
    return float(torch.maximum(noise, loadings))


class StochasticAscent:
    """Chains of all rows, statistics of each batch of them, and the parameters that are best for these."""

    least: float = 0.0

    def __init__(self, model: LinearFactorModel, x: Tensor, parameters: CodeParameters, batch: int) -> None:
        self.prior: Prior = model.prior
        self.isotropic = model.noise == "isotropic"
        self.x, self.parameters = x, parameters
        self.batches = [slice(first, first + batch) for first in range(0, len(x), batch)]
        laws = None if self.prior.spherical else self.prior.coordinates(model.latents)
        self.information = (
            None
            if laws is None
            else torch.tensor([law.fisher_information() for law in laws], dtype=torch.float64)
        )
        self.z = start_chains(self.prior, x, model.latents)
        self.statistics = [self.sample(rows, FIRST_SWEEPS) for rows in self.batches]
        self.total = sum(self.statistics[1:], self.statistics[0])

    def climb(self, weight: float, draws: int) -> float:
        """Make one pass in which new samples count by ``weight``; return log p(x, z) per row."""
        energy = 0.0
        for number, rows in enumerate(self.batches):
            old, new = self.statistics[number], self.sample(rows, draws)
            energy += new.log_likelihood(self.parameters) * new.count
            self.statistics[number] = old.times(1.0 - weight) + new.times(weight)
            self.total = self.total + old.times(-weight) + new.times(weight)
            self.parameters = self._best(weight / draws)
        density = float(self.prior.joint_log_prob(self.z).mean())
        self.total = sum(self.statistics[1:], self.statistics[0])  # differences would add up their rounding
        self.remix(weight)
        improve_shape(self.prior, self.z, weight)
        return energy / len(self.x) + density

    def _best(self, freshness: float) -> CodeParameters:
        """Return the best parameters for the statistics, the noise without what the draws take from it.

        A regression on sampled codes leaves 1 - (K + 1) / N of the noise, as any regression does, and one on the
        average of m draws takes 1/m of that away. EM repeats it, and where the rows say little of the noise a step of
        .2 % adds up to half of it.
        """
        best = self.total.maximize(self.isotropic, self.least)
        taken = min(0.5, freshness * len(self.total.second) / self.total.count)
        return best._replace(noise=best.noise / (1.0 - taken))

    def sample(self, rows: slice, draws: int) -> CodeStatistics:
        """Move the chains of a batch and return the statistics of where they are, averaged over the draws."""
        law = ScaleConditional(self.parameters.loadings, self.parameters.noise)
        centred, z = self.x[rows], self.z[rows]
        y = law.whiten(centred - self.parameters.offset)
        collected: CodeStatistics | None = None
        for _ in range(draws):
            for part in law.blocks(len(centred)):
                z[part] = sweep(self.prior, law, z[part], y[part]).z
            found = CodeStatistics.of(centred, z)
            collected = found if collected is None else collected + found
        assert collected is not None
        return collected.times(1.0 / draws)

    def remix(self, weight: float) -> None:
        """Turn and stretch the codes towards what the prior says of them, and the loadings the other way.

        p(x) is the same at (W, z) and (W A, A^{-1} z), so A is a parameter the model does not need, and EM in it climbs
        the likelihood of independent components on the sampled codes: E psi(z) z' = I under the prior. One quasi-Newton
        step, pair by pair, with the Hessian that independent codes have.
        """
        z, latents = self.z, self.z.shape[1]
        product = self.prior.score(z).mT @ z / len(z)
        scale = product.diagonal().clamp(1e-6, 1e6) ** (0.5 * weight)
        inverse = torch.eye(latents, dtype=z.dtype)
        if self.information is not None:
            own = torch.outer(self.information, z.square().mean(0))
            step = (own.mT * product - product.mT) / (own * own.mT - 1.0).clamp_min(LEAST_CURVATURE)
            inverse = inverse - weight * step.clamp(-LONGEST, LONGEST).fill_diagonal_(0.0)
        inverse = inverse / scale.unsqueeze(1)
        self.z.copy_(z @ inverse.mT)
        self.statistics = [part.remixed(inverse) for part in self.statistics]
        self.total = self.total.remixed(inverse)
        loadings = torch.linalg.solve(inverse, self.parameters.loadings, left=False)
        self.parameters = self.parameters._replace(loadings=loadings)
