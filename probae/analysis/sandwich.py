"""The evidence between two bounds: annealing forward from the reference and in reverse from the posterior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.analysis.annealed import AnnealedImportance
from probae.analysis.evidence import checked_model, start_of
from probae.analysis.path import Path
from probae.analysis.result import Evidence, from_log_weights
from probae.analysis.rows import check_rows
from probae.checks import ParameterError, check_count
from probae.inference import Fit
from probae.inference.hmc import HMCPosterior
from probae.inference.nonlinear_reference import reference_of
from probae.inference.reference import Reference
from probae.models import LatentModel
from probae.models.pyro_context import local_parameters

__all__ = ["EvidenceSandwich", "evidence_sandwich"]

WARMUP = 500  # moves before the reverse chains of real rows


@dataclass(frozen=True, eq=False)
class EvidenceSandwich:
    """A lower and an upper estimate of log p(x) for each row, in nats.

    Attributes
    ----------
    x : Tensor (N, D)
        The rows, simulated or the caller's.
    lower, upper : Evidence
        ``upper.bound`` is "upper" for simulated rows, "approximately upper" for the caller's.

    Examples
    --------
    >>> import probae as pa
    >>> both = pa.evidence_sandwich(pa.ProbabilisticPCA(2, 1), size=5)          # Gaussian: nothing to anneal
    >>> abs(both.mean_gap) < 1e-12, both.upper.bound
    (True, 'upper')
    """

    x: Float[Tensor, "samples features"]
    lower: Evidence
    upper: Evidence

    @property
    def gap(self) -> Float[Tensor, " samples"]:
        """Upper less lower estimate of each row; single rows may be negative by chance."""
        return self.upper.value - self.lower.value

    @property
    def mean_gap(self) -> float:
        """Average gap, at least the average error of either bound."""
        return float(self.gap.double().mean())

    @property
    def mean_gap_standard_error(self) -> float:
        """Standard error of ``mean_gap`` over the rows; infinite for one row."""
        gap = self.gap.double()
        return float(gap.std() / len(gap) ** 0.5) if len(gap) > 1 else float("inf")

    def __str__(self) -> str:
        kind = "exact" if self.upper.bound == "upper" else "approximate"
        return (
            f"gap {self.mean_gap:.4f} +- {self.mean_gap_standard_error:.4f} nats per row over {len(self.x)} rows, "
            f"reverse chains from {kind} draws of the posterior"
        )


@local_parameters
def evidence_sandwich(
    model_or_fit: LatentModel | Fit,
    x: Any = None,
    *,
    size: int = 100,
    estimator: AnnealedImportance | None = None,
    seed: int = 0,
) -> EvidenceSandwich:
    r"""Bound log p(x) from both sides by annealing forward and in reverse (bidirectional Monte Carlo).

    .. math:: E \log \hat p_{\text{forward}}(x) \le \log p(x) \le E \log \hat p_{\text{reverse}}(x)

    The reverse bound needs a draw of p(z given x). A row simulated from the model comes with one, the z that made it:
    so without ``x``, rows are simulated and both bounds hold. For the caller's rows the reverse chains start from
    Hamiltonian Monte Carlo, and their bound is as approximate as that is.

    Parameters
    ----------
    model_or_fit : LatentModel or Fit
        With noise and fixed parameters. A model that is not linear is annealed from the best Gaussian of each row.
    x : array, DataFrame or Tensor (N, D), optional
        Rows to bound; without it, ``size`` rows are simulated.
    size : int
        Rows to simulate.
    estimator : AnnealedImportance, optional
        Settings of the chains.
    seed : int

    Returns
    -------
    EvidenceSandwich

    Raises
    ------
    ParameterError
        The model has no noise or a parameter with a prior, or an argument is of the wrong kind.
    DataError
        For rows the model cannot take.

    Notes
    -----
    All reverse chains of a simulated row start from its one z, so the standard error of one row is too small;
    ``mean_gap_standard_error`` is over rows and not affected.

    References
    ----------
    .. [1] Grosse, R. B., Ghahramani, Z. & Adams, R. P. (2015). Sandwiching the marginal likelihood using
       bidirectional Monte Carlo. arXiv:1511.02543.

    Examples
    --------
    >>> import probae as pa
    >>> result = pa.evidence_sandwich(pa.SparseCoding(4, 8), size=20)
    >>> abs(result.mean_gap) < 0.1, result.upper.bound
    (True, 'upper')
    """
    model = checked_model(model_or_fit)
    settings = AnnealedImportance() if estimator is None else estimator
    if not isinstance(settings, AnnealedImportance):
        raise ParameterError(f"estimator should be AnnealedImportance(...), got {estimator!r}.")
    check_count("seed", seed, minimum=0)
    z = None
    if x is None:
        x, z = simulate(model, check_count("size", size), seed)
    data = check_rows(model, x)
    reference = reference_of(model, data.values, start_of(model_or_fit, data.values), seed)
    if z is not None:
        start, bound = z.unsqueeze(1).expand(-1, settings.chains, -1), "upper"
    else:
        sampler = HMCPosterior(model, draws=1, warmup=WARMUP, chains=settings.chains, seed=seed)
        start, bound = sampler.around(reference).flat.transpose(0, 1), "approximately upper"
    lower, upper = _both(reference, start, settings, bound, seed)
    return EvidenceSandwich(data.values.to(data.dtype), lower.to(data.dtype), upper.to(data.dtype))


@torch.no_grad()
def _both(
    reference: Reference, start: Tensor, settings: AnnealedImportance, bound: str, seed: int
) -> tuple[Evidence, Evidence]:
    """Anneal in both directions along the same path."""
    generator = torch.Generator().manual_seed(seed)
    rows = reference.block(settings.chains)
    forward, reverse = [], []
    for block, z in zip(reference.split(rows), start.split(rows), strict=True):
        path = Path.pilot(block, settings.steps, settings.leapfrogs, generator)
        base = block.log_evidence.unsqueeze(1)
        forward.append(base + path.forward(block, settings.chains, generator))
        reverse.append(path.reverse(block, z, generator) - base)
    lower = from_log_weights(torch.cat(forward), "lower", settings)
    upper = from_log_weights(torch.cat(reverse), bound, settings)  # of 1 / p(x)
    return lower, upper.negated()


@torch.no_grad()
def simulate(
    model: Any, size: int, seed: int
) -> tuple[Float[Tensor, "size features"], Float[Tensor, "size latents"]]:
    """Draw rows of the model with their latents, a fixed answer for each seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        z = model.prior.sample(size, model.latents).double()
        return model.likelihood(z).sample(), z
