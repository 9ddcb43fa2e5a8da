"""Learning a dictionary, the noise and the scale of the codes by a variational bound on the marginal likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from probae.checks import Data, check_count, check_positive
from probae.inference.base import Loop, Method, Outcome, few_threads
from probae.inference.code_start import floor, start
from probae.inference.code_statistics import CodeParameters, CodeStatistics
from probae.inference.gibbs_posterior import require_scale_mixture
from probae.inference.scale_conditional import ScaleConditional
from probae.inference.shape_step import improve_shape
from probae.inference.variational_posterior import VariationalPosterior, tangent_variances
from probae.models import LinearFactorModel
from probae.models.pyro_context import local_parameters
from probae.priors import Prior
from probae.statistics import SufficientStatistics

FIRST_ROUNDS = 5  # of the fixed point before the parameters first move


@dataclass(frozen=True)
class VariationalEM(Method):
    r"""Maximise a lower bound on the marginal likelihood of a linear model with a heavy-tailed prior.

    Each row has a Gaussian q(z | x) with full covariance, from tangents of the prior
    (:class:`VariationalPosterior`). The loadings, the noise variance, the mean, the scale of the codes, which is the
    length of the columns of the loadings, and a shape of the prior that may be learned (``StudentT(5, learn=True)``)
    all raise one number: the bound per row in nats, which is ``history`` and never falls.

    Parameters
    ----------
    steps : int
        Most passes over the rows.
    batch : int
        Rows after which the parameters move; the contribution of the others is kept from when they were last met.
    tol : float
        Stop when a pass raises the bound by less than this, in nats per row.

    Notes
    -----
    The maximum of the bound is not that of the likelihood, and the less the rows say of the codes the further it is:
    the noise variance comes out too small. :class:`StochasticEM` has no such bias and takes longer.

    References
    ----------
    .. [1] Girolami, M. (2001). A variational method for learning sparse and overcomplete representations. Neural
       Computation 13, 2517-2532.
    .. [2] Neal, R. M. & Hinton, G. E. (1998). A view of the EM algorithm that justifies incremental, sparse, and other
       variants. In Learning in Graphical Models, 355-368.
    .. [3] Liu, C., Rubin, D. B. & Wu, Y. N. (1998). Parameter expansion to accelerate EM. Biometrika 85, 755-770.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.linear_factors(200, 4, 6, noise=0.2, seed=0).x
    >>> run = pa.fit(pa.SparseCoding(4, 6), x, pa.VariationalEM(steps=20, tol=0.02))
    >>> bool((run.history.diff() > -1e-9).all())
    True
    """

    steps: int = 200
    batch: int = 1000
    tol: float = 1e-5
    objective_name: ClassVar[str] = "variational bound"

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        check_count("batch", self.batch)
        check_positive("tol", self.tol)

    @local_parameters
    def fit(self, model: LinearFactorModel, data: Data | SufficientStatistics, seed: int) -> Outcome:
        """Learn the parameters in place."""
        data = self.rows(data)
        require_scale_mixture(model, "VariationalEM")
        parameters = start(model, data, seed)
        centre = data.values.mean(0)
        history: list[float] = []
        converged = False
        with Loop("bound") as loop, few_threads(self.batch * model.latents * model.features):
            ascent = BoundAscent(
                model, data.values - centre, parameters, float(floor(model, data).max()), self.batch
            )
            for _ in loop.steps(self.steps):
                history.append(ascent.climb())
                loop.value = history[-1]
                converged = len(history) > 1 and history[-1] - history[-2] < self.tol
                if converged:
                    break
        if history:
            model.loadings, model.noise_variance = ascent.parameters.loadings, ascent.parameters.noise
            model.mean = centre + ascent.parameters.offset
        return Outcome(VariationalPosterior(model), history, converged, loop.interrupted)


class BoundAscent:
    """The bound as a function of parameters and of each row's xi, and steps that raise it.

    The rows are cut into batches. A batch that is met gets new xi, codes and statistics; then the parameters move to
    the best for the statistics of all batches. Both raise the same bound (Neal & Hinton, 1998).
    """

    def __init__(
        self, model: LinearFactorModel, x: Tensor, parameters: CodeParameters, least: float, batch: int
    ) -> None:
        self.prior: Prior = model.prior
        self.isotropic, self.least = model.noise == "isotropic", least
        self.x, self.parameters = x, parameters
        self.batches = [slice(first, first + batch) for first in range(0, len(x), batch)]
        self.xi = torch.ones(len(x), model.latents, dtype=torch.float64)
        self.entropy = torch.zeros(len(self.batches), dtype=torch.float64)
        self.statistics: list[CodeStatistics] = []
        for number in range(len(self.batches)):
            for _ in range(FIRST_ROUNDS):
                statistics = self.expect(number)
            self.statistics.append(statistics)
        self.total = sum(self.statistics[1:], self.statistics[0])

    @torch.no_grad()
    def climb(self) -> float:
        """Make one pass and return the bound per row."""
        for number in range(len(self.batches)):
            new = self.expect(number)
            self.total = self.total + new + self.statistics[number].times(-1.0)
            self.statistics[number] = new
            self.parameters = self.total.maximize(self.isotropic, self.least)
        self.total = sum(self.statistics[1:], self.statistics[0])  # differences would add up their rounding
        self.rescale()
        improve_shape(self.prior, self.xi)
        return self.bound()

    @torch.no_grad()
    def expect(self, number: int) -> CodeStatistics:
        """Update q and xi of a batch; return its statistics."""
        law = ScaleConditional(self.parameters.loadings, self.parameters.noise)
        rows = self.batches[number]
        centred = self.x[rows]
        y = law.whiten(centred - self.parameters.offset)
        found, entropy = [], 0.0
        covariance = torch.zeros(law.latents, law.latents, dtype=torch.float64)
        for part in law.blocks(len(centred)):
            xi = self.xi[rows][part]
            tau = tangent_variances(self.prior, xi)
            moments = law.moments(tau, y[part])
            xi.copy_((moments.mean.square() + moments.variance).sqrt())  # a view of the whole
            found.append(moments.mean)
            covariance += moments.covariance
            entropy += 0.5 * float(tau.log().sum() - moments.log_det.sum())
        self.entropy[number] = entropy
        return CodeStatistics.of(centred, torch.cat(found), covariance)

    def rescale(self) -> None:
        """Give each code the variance the prior wants, and its column of the loadings the rest.

        The scale s of z is a parameter the model does not need: the bound is the same at (W, z) and (W s, z / s).
        """
        square = (self.prior.score(self.xi.clamp_min(1e-140)) * self.xi).mean(0)
        scale = square.sqrt().clamp(1e-3, 1e3)
        self.xi /= scale
        self.entropy -= torch.tensor([len(self.xi[rows]) for rows in self.batches]) * scale.log().sum()
        self.statistics = [part.rescaled(scale) for part in self.statistics]
        self.total = self.total.rescaled(scale)
        self.parameters = self.parameters._replace(loadings=self.parameters.loadings * scale)

    def bound(self) -> float:
        """Return the bound per row at the statistics of all batches, in nats."""
        constant = 0.5 * self.xi.shape[1] * (1 + math.log(2 * math.pi))
        prior = float(self.prior.joint_log_prob(self.xi).mean()) + float(self.entropy.sum()) / len(self.x)
        return self.total.log_likelihood(self.parameters) + prior + constant
