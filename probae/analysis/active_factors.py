r"""How many factors are at work? The posterior of a number that no rotation and no unit changes.

The factors of a draw of the parameters, free of rotation and of the units of x, are the canonical ones: in the frame
where W' Psi^-1 W is diagonal, factor k adds its eigenvalue lambda_k to a noise of variance 1. The covariance of N rows
of noise alone in D features has eigenvalues up to l = (1 + sqrt(D / N))^2. Factors that are not there are fitted to
those, and the posterior of an eigenvalue l has a standard deviation of l sqrt(2 / N). So their draws reach

.. math:: \lambda = (1 + \sqrt{D / N})^2 (1 + 2 \sqrt{2 / N}) - 1

with two standard deviations, and that is the edge counted from. A factor of eigenvalue below sqrt(D / N) leaves no
trace in the covariance at all. Columns of W would not do: under a rotation-invariant prior they are a mixture of all
factors, and their share of the variance depends on the frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from probae.analysis.draws_likelihood import flat_parameters
from probae.analysis.predictive_density import check_fit, rows_of
from probae.checks import NotExactError, ParameterError, check_positive
from probae.inference import Fit
from probae.models import LinearFactorModel
from probae.models.pyro_context import local_parameters
from probae.statistics import SufficientStatistics

__all__ = ["ActiveFactors", "active_factors"]

NEAR = 2.0  # times the edge: factors within, on either side, make the count depend on it


@dataclass(frozen=True, eq=False)
class ActiveFactors:
    r"""Posterior of the number of factors above the edge of noise.

    Attributes
    ----------
    probability : Tensor (K + 1,)
        Of 0, 1, ..., K factors.
    chains : Tensor (C, K + 1)
        The same of each chain: where they differ, the chains have not mixed over the number.
    eigenvalues : Tensor (C, S, K)
        Of W' Psi^-1 W, largest first: variance of each canonical factor in units of the noise.
    edge : float
        Eigenvalue from which a factor counts.

    Examples
    --------
    >>> import torch
    >>> found = ActiveFactors.of(torch.tensor([[[9.0, 4.0, 0.01], [9.0, 0.02, 0.01]]]), edge=0.2)
    >>> found.probability, found.mean
    (tensor([0.0000, 0.5000, 0.5000, 0.0000]), 1.5)
    """

    probability: Float[Tensor, " counts"]
    chains: Float[Tensor, "chains counts"]
    eigenvalues: Float[Tensor, "chains draws latents"]
    edge: float

    @classmethod
    def of(cls, eigenvalues: Float[Tensor, "chains draws latents"], edge: float) -> ActiveFactors:
        """Count the eigenvalues above an edge."""
        counts = (eigenvalues > edge).sum(-1)
        sizes = torch.arange(eigenvalues.shape[-1] + 1)
        chains = (counts.unsqueeze(-1) == sizes).to(eigenvalues.dtype).mean(1)
        return cls(chains.mean(0), chains, eigenvalues, edge)

    @property
    def counts(self) -> Int[Tensor, "chains draws"]:
        """The number of factors in each draw."""
        return (self.eigenvalues > self.edge).sum(-1)

    @property
    def mode(self) -> int:
        """The most probable number."""
        return int(self.probability.argmax())

    @property
    def mean(self) -> float:
        """The posterior mean of the number."""
        return float(self.probability @ torch.arange(len(self.probability)).to(self.probability))

    def __str__(self) -> str:
        lines = [f"Number of factors whose variance is above {self.edge:.3g} of the noise:"]
        spread = self.chains.amax(0) - self.chains.amin(0)
        for count, probability in enumerate(self.probability.tolist()):
            if probability > 0:
                own = ", ".join(f"{p:.2f}" for p in self.chains[:, count].tolist())
                lines.append(f"  {count:>3}  {probability:.3f}  (chains {own})")
        if float(spread.max()) > 0.5:
            lines.append(
                "Note: the chains disagree, so they have not mixed over the number: run more, or longer."
            )
        return "\n".join([*lines, *_sensitivity(self)])


def _sensitivity(found: ActiveFactors) -> list[str]:
    """Say how the most probable number changes with the edge."""
    modes = [ActiveFactors.of(found.eigenvalues, found.edge * by).mode for by in (1 / NEAR, NEAR)]
    if modes == [found.mode, found.mode]:
        return []
    return [
        f"Note: the most probable number is {modes[0]} above half the edge and {modes[1]} above twice it: it depends "
        "on where weak factors begin to count."
    ]


@local_parameters
def active_factors(run: Fit, x: Any = None, *, edge: float | None = None) -> ActiveFactors:
    r"""Return the posterior of the number of factors that stand out of the noise.

    Draw by draw it counts the eigenvalues of :math:`W' \Psi^{-1} W` above what draws of a factor fitted to N rows of
    noise in D features reach, :math:`(1 + \sqrt{D / N})^2 (1 + 2 \sqrt{2 / N}) - 1`: the largest eigenvalue of noise
    [1]_ and two posterior standard deviations [2]_.

    Parameters
    ----------
    run : Fit
        With draws of the parameters, under a prior that can switch factors off: ``ARD``, ``MultiplicativeGamma``,
        ``Horseshoe`` or ``SpikeSlab`` of :mod:`probae.parameter_priors`. Under one normal law for all loadings every
        factor is used, and the count says little about their number.
    x : array, DataFrame or Tensor (N, D), or SufficientStatistics, optional
        The rows of the fit, for their number.
    edge : float, optional
        Another eigenvalue to count from, in place of ``x``.

    Returns
    -------
    ActiveFactors

    Raises
    ------
    ParameterError
        The fit has no draws of the loadings, or neither x nor an edge is given.
    NotExactError
        The model has no noise to measure factors by.
    DataError
        For rows the model cannot take.

    References
    ----------
    .. [1] Marchenko, V. A. & Pastur, L. A. (1967). Distribution of eigenvalues for some sets of random matrices.
       Mathematics of the USSR - Sbornik 1, 457-483.
    .. [2] Anderson, T. W. (1963). Asymptotic theory for principal component analysis. Annals of Mathematical Statistics
       34, 122-148.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> run = pa.fit(pa.FactorAnalysis(9, 3), x, pa.Gibbs())
    >>> pa.active_factors(run, x).mode
    3
    """
    check_fit(run, "active_factors")
    if not run.draws or "loadings" not in run.draws:
        raise ParameterError(
            f"active_factors needs draws of the loadings, and {type(run.method).__name__} gave none: fit with Gibbs() "
            "or NUTS(), or ask number_of_factors(x)."
        )
    if not isinstance(run.model, LinearFactorModel) or run.model.invertible:
        raise NotExactError(
            f"active_factors measures factors by the noise, and {run.model!r} has none beside them."
        )
    if edge is None:
        edge = noise_edge(_count(run, x), run.model.features)
    return ActiveFactors.of(signal_to_noise(run), check_positive("edge", edge))


def noise_edge(samples: int, features: int) -> float:
    r"""Return :math:`(1 + \sqrt{D / N})^2 (1 + 2 \sqrt{2 / N}) - 1`.

    Examples
    --------
    >>> round(noise_edge(200, 50), 3)                                        # 1.5^2 * 1.2 - 1
    1.7
    """
    largest = (1 + math.sqrt(features / samples)) ** 2
    return largest * (1 + 2 * math.sqrt(2 / samples)) - 1


def signal_to_noise(run: Fit) -> Float[Tensor, "chains draws latents"]:
    """Return the eigenvalues of W' Psi^-1 W of each draw, largest first; 0 for those beyond the features."""
    lead, loadings, noise, _ = flat_parameters(run.model, run.draws or {})
    values = torch.linalg.svdvals(loadings / noise.sqrt().unsqueeze(-1)).square()
    missing = loadings.shape[2] - values.shape[1]
    return torch.nn.functional.pad(values, (0, missing)).reshape(*lead, -1)


def _count(run: Fit, x: Any) -> int:
    """Return the number of rows."""
    if x is None:
        raise ParameterError("active_factors needs x, for the number of its rows, or an edge to count from.")
    return x.count if isinstance(x, SufficientStatistics) else len(rows_of(run.model, x).values)
