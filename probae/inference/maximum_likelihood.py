"""Maximum likelihood: closed forms where they exist, the profile likelihood for FA, importance sampling beyond."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from probae.checks import Data, ParameterError, check_count
from probae.inference.base import ExactPosterior, Method, Outcome
from probae.inference.confirmatory import fit_confirmatory, standard_factors
from probae.inference.elliptical import fit_elliptical
from probae.inference.gaussian import fit_diagonal, fit_isotropic, fit_noiseless, summarize
from probae.inference.independent import fit_noise_free
from probae.inference.noisy import fit_noisy
from probae.models import ConfirmatoryFactorAnalysis, IndependentComponents, LinearFactorModel
from probae.priors import MultivariateStudentT
from probae.statistics import SufficientStatistics

STEPS, TOLERANCE = 5000, 1e-10  # of EM for factors with a multivariate t law


@dataclass(frozen=True)
class MaximumLikelihood(Method):
    r"""Maximise the marginal likelihood p(x), z integrated out.

    - Gaussian factors, isotropic noise: closed form, W = U_K (L_K - sigma^2 I)^{1/2}, sigma^2 the mean of the other
      eigenvalues (Tipping & Bishop, 1999, eqs. 7 and 8).
    - Gaussian factors, diagonal noise: projected Newton on the profile likelihood of the uniquenesses (Joreskog,
      1967), on the standardised moments, so the answer follows the units of x exactly. Uniquenesses stop at a
      millionth of the variable's variance with a :class:`HeywoodWarning`; further starts are tried only then.
    - Confirmatory factor analysis: Newton's method on the free loadings, correlations and log-uniquenesses, from the
      moments of each group of rows with the same observed entries, so missing entries are integrated out.
    - Gaussian factors, no noise: the principal square root of the covariance.
    - Factors with a multivariate t law: as by :class:`EM`.
    - Other factors, no noise: quasi-Newton on the unmixing matrix, preconditioned by its 2 x 2 blocks, from several
      frames; a shape that may be learnt (``StudentT(5, learn=True)``) is learnt with it, an
      exponent of the generalised normal law from both sides of the Gaussian's 2. With noise in the complement alone,
      in the principal subspace.
    - Other factors with noise: FA for the subspace and the noise, the rotation from the exact one-dimensional laws
      of the sufficient scores, learnt shapes in turn with it, then L-BFGS on the importance-sampled likelihood of all
      parameters.

    Loadings of Gaussian models come in the canonical frame (W' Psi^{-1} W diagonal, largest first, the entry of
    largest size in each column positive): a convention, since any rotation fits as well.

    Parameters
    ----------
    draws : int, optional
        Importance draws per row, for non-Gaussian factors with noise; chosen from N and K when absent.
    starts : int, optional
        Most starts of a Gaussian factor analysis, by default as many as may find another maximum; or frames from which
        independent components start, the first the whitened axes. What each reached stands in ``Fit.restarts``.

    Examples
    --------
    >>> import probae as pa
    >>> run = pa.fit(pa.FactorAnalysis(9, 3), pa.datasets.holzinger_swineford().x, pa.MaximumLikelihood())
    >>> run.converged
    True
    """

    draws: int | None = None
    starts: int | None = None
    objective_name: ClassVar[str] = "log-likelihood"
    accepts_statistics: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.draws is not None:
            check_count("draws", self.draws)
        if self.starts is not None:
            check_count("starts", self.starts)

    def fit(self, model: LinearFactorModel, data: Data | SufficientStatistics, seed: int) -> Outcome:
        """Fit a linear factor model in place."""
        if not isinstance(model, LinearFactorModel):
            raise ParameterError(
                f"MaximumLikelihood has no exact likelihood for {type(model).__name__}: use SVI with an encoder."
            )
        if isinstance(model.prior, MultivariateStudentT) and not isinstance(model, IndependentComponents):
            return fit_elliptical(model, self.rows(data), seed, STEPS, TOLERANCE)
        if not model.gaussian:
            rows = self.rows(data)
            return (
                fit_noise_free(model, rows, seed, self.starts)
                if model.invertible
                else fit_noisy(model, rows, seed, self.draws)
            )
        if isinstance(model, ConfirmatoryFactorAnalysis):
            history, converged = fit_confirmatory(model, data, seed)
            return Outcome(ExactPosterior(model), history, converged)
        statistics = summarize(data)
        restarts: list[dict[str, Any]] = []
        with standard_factors(model):
            if model.noise == "diagonal":
                history, converged = fit_diagonal(model, statistics, seed, self.starts, restarts)
            else:
                solve = fit_isotropic if model.noise == "isotropic" else fit_noiseless
                history, converged = solve(model, statistics, seed)
        return Outcome(ExactPosterior(model), history, converged, restarts=restarts)
