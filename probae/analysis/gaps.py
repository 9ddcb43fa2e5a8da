r"""How far an encoder's bound is from log p(x), and what each part of the distance is due to."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.analysis.encoder_bound import Bounds, bounds_of
from probae.analysis.evidence import check_estimator, log_evidence, nonlinear_evidence
from probae.analysis.result import Estimator, Evidence
from probae.analysis.rows import check_rows
from probae.checks import ParameterError, ProbaeError, check_count
from probae.inference import Fit, MaximumLikelihood
from probae.inference.fit import fit
from probae.models import LinearFactorModel
from probae.models.pyro_context import local_parameters

__all__ = ["Gap", "Gaps", "gaps"]

DRAWS = 1000  # for each row, of what has no closed form


@dataclass(frozen=True, eq=False)
class Gap:
    """A difference of two log-probabilities of each row, in nats.

    Attributes
    ----------
    rows : Tensor (N,)
    error : Tensor (N,)
        Standard error of each row from the draws; 0 in closed form.

    Examples
    --------
    >>> import torch
    >>> print(Gap(torch.tensor([0.1, 0.3]), torch.zeros(2)))
    0.2000 +- 0.1000
    """

    rows: Float[Tensor, "samples"]
    error: Float[Tensor, "samples"]

    @property
    def mean(self) -> float:
        """Average over the rows, in nats per row."""
        return float(self.rows.double().mean())

    @property
    def standard_error(self) -> float:
        """Standard error of ``mean`` as that of a sample of rows: their spread, which the draws are part of."""
        if len(self.rows) == 1:
            return float(self.error)
        return float(self.rows.double().std() / len(self.rows) ** 0.5)

    def __str__(self) -> str:
        return f"{round(self.mean, 4) + 0.0:.4f} +- {self.standard_error:.4f}"  # never -0.0000


@dataclass(frozen=True, eq=False)
class Gaps:
    r"""The distance from an encoder's bound to log p(x), taken apart; nats, one number for each row.

    Attributes
    ----------
    evidence : Evidence
        log p(x) under the run's parameters, with the side of its bound.
    optimal : Tensor (N,) or None
        The highest bound that the encoder's family of laws reaches, each row by itself.
    amortized : Tensor (N,)
        The bound of the encoder.
    approximation : Gap or None
        log p(x) - optimal: the price of the family.
    amortization : Gap or None
        optimal - amortized: the price of one map for all rows.
    total : Gap
        log p(x) - amortized, their sum, which is KL(q(z | x) || p(z | x)).
    parameter : Gap or None
        log p(x) at the maximum-likelihood parameters of these rows, less that of the run's: single rows may be
        below 0, their mean is not.
    family : str
        The laws that ``optimal`` is the best of.
    notes : tuple of str
        Why a part is missing or one-sided.
    """

    evidence: Evidence
    optimal: Float[Tensor, "samples"] | None
    amortized: Float[Tensor, "samples"]
    approximation: Gap | None
    amortization: Gap | None
    total: Gap
    parameter: Gap | None
    family: str
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = {
            "approximation": (self.approximation, "the family of laws"),
            "amortization": (self.amortization, "one map for all rows"),
            "total": (self.total, "log p(x) less the encoder's bound"),
            "parameter": (self.parameter, "maximum likelihood less the run's log p(x)"),
        }
        lines = [f"Gaps of {len(self.amortized)} rows, nats per row ({self.family})"]
        for name, (gap, meaning) in parts.items():
            lines.append(f"  {name:<14}{gap or 'not available'!s:<20} {meaning}")
        average = float(self.evidence.value.double().mean())
        lines.append(f"  log p(x) {average:.4f} ({self.evidence.bound})")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


@local_parameters
def gaps(run: Fit, x: Any, estimator: Estimator | None = None, *, draws: int = DRAWS, seed: int = 0) -> Gaps:
    r"""Take the distance from an encoder's bound to log p(x) apart, row by row.

    .. math:: \log p(x) - L(q_\phi) = \underbrace{\log p(x) - \max_{q \in Q} L(q)}_{\text{approximation}}
              + \underbrace{\max_{q \in Q} L(q) - L(q_\phi)}_{\text{amortization}}

    L is the evidence lower bound and Q the encoder's own family: Gaussians with a full covariance (a covariance of low
    rank lies within it) or with independent codes. All three terms are exact for linear Gaussian models. The bounds
    are exact, the evidence estimated, for sparse coding and other linear models with independent factors. Any other
    model takes draws; the best law is then found on other draws than those it is judged by.

    Parameters
    ----------
    run : Fit
        By a method with an encoder, or any whose posterior has a density.
    x : array, DataFrame or Tensor (N, D)
        Complete rows, seen in the fit or not.
    estimator : Estimator, optional
        Of log p(x), as in `log_evidence`. By default what that takes for a linear model; for others importance
        sampling by a multivariate t around the best Gaussian of full covariance, whatever the encoder's family.
    draws : int
        Draws for each row, where a term has no closed form.
    seed : int
        Of the draws.

    Raises
    ------
    ParameterError
        The posterior is a point mass, or draws without a density.
    DataError
        For rows the model cannot take.

    References
    ----------
    .. [1] Cremer, C., Li, X. & Duvenaud, D. (2018). Inference suboptimality in variational autoencoders. ICML.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> found = pa.gaps(pa.fit(pa.FactorAnalysis(9, 3), x), x)
    >>> abs(found.total.mean) < 1e-9, abs(found.parameter.mean) < 1e-9   # the exact posterior, at the maximum
    (True, True)
    """
    if not isinstance(run, Fit):
        raise ParameterError(f"gaps needs the result of fit, got {type(run).__name__}.")
    check_estimator(estimator)
    check_count("draws", draws, minimum=2)
    check_count("seed", seed, minimum=0)
    data = check_rows(run.model, x)
    bounds = bounds_of(run, data.values, draws, seed)
    evidence = _evidence(run, data.values, bounds, estimator, draws, seed)
    exact = evidence.value, evidence.standard_error
    approximation = _difference(*exact, bounds.optimal, bounds.optimal_error)
    total = _difference(*exact, bounds.amortized, bounds.amortized_error)
    assert total is not None
    amortization = None
    if bounds.amortization is not None and bounds.amortization_error is not None:
        amortization = Gap(bounds.amortization, bounds.amortization_error)
    parameter, notes = _parameter_gap(run, data.values)
    if bounds.optimal is None:
        notes.append(f"approximation and amortization: the encoder's law is {bounds.family}.")
    if evidence.bound == "lower":
        notes.append("log p(x) is a lower bound on average, so the approximation and total gaps are too.")
    doubtful = int(evidence.doubtful.sum())
    if doubtful:
        notes.append(
            f"log p(x) of {doubtful} of {len(data.values)} rows is not to be trusted: k-hat above 0.7, or a standard "
            "error above 0.3 nats."
        )
    return Gaps(
        evidence=evidence,
        optimal=bounds.optimal,
        amortized=bounds.amortized,
        approximation=approximation,
        amortization=amortization,
        total=total,
        parameter=parameter,
        family=bounds.family,
        notes=tuple(notes),
    )


def _difference(value: Tensor, error: Tensor, bound: Tensor | None, bound_error: Tensor | None) -> Gap | None:
    if bound is None or bound_error is None:
        return None
    return Gap(value - bound, (error.square() + bound_error.square()).sqrt())


def _evidence(
    run: Fit, x: Tensor, bounds: Bounds, estimator: Estimator | None, draws: int, seed: int
) -> Evidence:
    if isinstance(run.model, LinearFactorModel):
        return log_evidence(run.model, x, estimator, seed=seed)
    other = seed + 1  # than the seed of the bounds: their errors are then independent
    return nonlinear_evidence(run, x, estimator, other, draws, bounds.best)


def _parameter_gap(run: Fit, x: Tensor) -> tuple[Gap | None, list[str]]:
    """Compare with the maximum of the likelihood of these rows, where that is exact; also say what is wrong with it."""
    model = run.model
    if not (isinstance(model, LinearFactorModel) and model.gaussian and not model.invertible):
        return None, [f"parameter: the maximum likelihood of {type(model).__name__} has no closed form."]
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            best = fit(model, x, MaximumLikelihood())
    except ProbaeError as error:
        return None, [f"parameter: there is no maximum-likelihood fit of these rows. {error}"]
    rows = best.model.log_likelihood(x) - model.log_likelihood(x)
    said = dict.fromkeys(str(warning.message) for warning in caught)
    return Gap(rows, torch.zeros_like(rows)), [f"parameter: {text}" for text in said]
