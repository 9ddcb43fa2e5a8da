"""The evidence by annealed importance sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from probae.analysis.path import Path
from probae.analysis.result import Estimator, Evidence, from_log_weights
from probae.analysis.rows import check_rows
from probae.checks import check_count
from probae.inference.nonlinear_reference import reference_of
from probae.inference.refinement import Gaussians

__all__ = ["AnnealedImportance"]


@dataclass(frozen=True)
class AnnealedImportance(Estimator):
    r"""Annealed importance sampling of each row, from a Gaussian posterior to p(z | x) by Hamiltonian moves.

    .. math:: p_\beta(z) \propto N(z; m, \Sigma)\, r(z)^\beta, \qquad
              \log p(x) \ge \log N(x; \mu, W V W' + \Psi)
              + E \log \frac1C \sum_c \prod_t r(z_{ct})^{\beta_{t+1} - \beta_t}

    with r(z) = p(z) / N(z; 0, V) for linear models (see :mod:`probae.inference.reference`): the likelihood is exact all
    along the path, only the prior is annealed. Any other model goes from the best Gaussian N(z; m, Sigma) to its joint,
    r(z) = p(x, z) / N(z; m, Sigma), without the first term. Steps and temperatures come from a pilot
    run and are then frozen, so the bound holds.

    Parameters
    ----------
    steps : int
        Temperatures between the two ends. The gap falls as 1 / steps.
    chains : int
        Chains for each row.
    leapfrogs : int
        Gradients in a move.

    References
    ----------
    .. [1] Neal, R. M. (2001). Annealed importance sampling. Statistics and Computing 11, 125-139.
    .. [2] Wu, Y., Burda, Y., Salakhutdinov, R. & Grosse, R. (2017). On the quantitative analysis of decoder-based
       generative models. ICLR.

    Examples
    --------
    >>> import probae as pa
    >>> model = pa.SparseCoding(4, 8)
    >>> result = pa.log_evidence(model, model.sample(3, seed=0), pa.AnnealedImportance(steps=50))
    >>> result.bound, bool((result.standard_error < 0.3).all())
    ('lower', True)
    """

    steps: int = 100
    chains: int = 32
    leapfrogs: int = 3

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        check_count("chains", self.chains, minimum=2)
        check_count("leapfrogs", self.leapfrogs)

    def estimate(self, model: Any, x: Any, seed: int, start: Gaussians | None = None) -> Evidence:
        """Anneal forward."""
        data = check_rows(model, x)
        reference = reference_of(model, data.values, start, seed)
        generator = torch.Generator().manual_seed(seed)
        parts = []
        with torch.no_grad():
            for block in reference.split(reference.block(self.chains)):
                path = Path.pilot(block, self.steps, self.leapfrogs, generator)
                weights = path.forward(block, self.chains, generator)
                parts.append(block.log_evidence.unsqueeze(1) + weights)
        return from_log_weights(torch.cat(parts), "lower", self).to(data.dtype)
