"""The evidence by importance sampling, row by row."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.analysis.result import Estimator, Evidence, from_log_weights
from probae.analysis.rows import check_rows
from probae.checks import ParameterError, check_count
from probae.inference.importance import CHUNK, log_student, standard_draws, width
from probae.inference.nonlinear_reference import reference_of
from probae.inference.reference import Reference
from probae.inference.refinement import Gaussians

__all__ = ["ImportanceWeighted"]


@dataclass(frozen=True)
class ImportanceWeighted(Estimator):
    r"""Importance-weighted lower bound of each row, the average over draws inside the log and never over rows.

    .. math:: \log p(x_n) \ge E \log \frac1S \sum_{s=1}^S w_{ns}, \qquad
              w_{ns} = \frac{p(x_n, z_{ns})}{q(z_{ns} \mid x_n)}

    It rises to log p(x) with S (Burda et al., 2016, theorem 1); the gap is about half the squared standard error.

    Parameters
    ----------
    draws : int
        Draws S for each row.
    proposal : callable, optional
        A posterior such as ``run.posterior``: x (N, D) to a distribution over z with ``sample`` and ``log_prob``.
        By default a multivariate t around the Gaussian posterior of :mod:`probae.inference.reference`, which
        covers more latents than features too; in a nonlinear model, around the best Gaussian of each row.

    References
    ----------
    .. [1] Burda, Y., Grosse, R. & Salakhutdinov, R. (2016). Importance weighted autoencoders. ICLR.

    Examples
    --------
    >>> import probae as pa
    >>> model = pa.SparseCoding(3, 2)
    >>> result = pa.log_evidence(model, model.sample(4, seed=0), pa.ImportanceWeighted(draws=500))
    >>> result.bound, result.value.shape, bool((result.k_hat < 0.7).all())
    ('lower', torch.Size([4]), True)
    """

    draws: int = 1000
    proposal: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        check_count("draws", self.draws)
        if self.proposal is not None and not callable(self.proposal):
            raise ParameterError(
                f"proposal should be a posterior such as run.posterior, got {self.proposal!r}."
            )

    def estimate(self, model: Any, x: Any, seed: int, start: Gaussians | None = None) -> Evidence:
        """Weigh draws of the proposal."""
        data = check_rows(model, x)
        with torch.no_grad():
            if self.proposal is None:
                weights = self._around_reference(reference_of(model, data.values, start, seed), seed)
            else:
                weights = self._from_proposal(model, data.values, seed)
            return from_log_weights(weights, "lower", self).to(data.dtype)

    def _around_reference(self, reference: Reference, seed: int) -> Float[Tensor, "samples draws"]:
        generator = torch.Generator().manual_seed(seed)
        block = max(1, CHUNK // (self.draws * reference.width))
        return torch.cat([weights_of(part, self.draws, generator) for part in reference.split(block)])

    def _from_proposal(self, model: Any, x: Tensor, seed: int) -> Float[Tensor, "samples draws"]:
        """Use the caller's proposal, which draws from torch's global generator."""
        assert self.proposal is not None
        parts = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for rows in x.split(max(1, CHUNK // (self.draws * max(model.latents, model.features)))):
                law = self.proposal(rows)
                z = law.sample((self.draws,))
                parts.append((model.log_joint(rows, z) - law.log_prob(z)).mT)
        return torch.cat(parts)


def weights_of(
    reference: Reference, count: int, generator: torch.Generator
) -> Float[Tensor, "samples draws"]:
    """Log weights of a multivariate t that is somewhat wider than the reference."""
    rows, latents = reference.centre.shape
    t = standard_draws(count, rows, latents, generator).transpose(0, 1)
    wide = width(latents)
    z = reference.centre.unsqueeze(1) + wide * reference.spread(t)
    # the determinant of the root is common to the Gaussian and to the proposal
    gaussian = -0.5 * wide**2 * t.square().sum(-1) - 0.5 * latents * math.log(2 * math.pi)
    proposal = log_student(t) - latents * math.log(wide)
    return reference.log_evidence.unsqueeze(1) + reference.log_ratio(z) + gaussian - proposal
