"""The evidence in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from probae.analysis.result import Estimator, Evidence
from probae.inference.refinement import Gaussians

__all__ = ["Exact"]


@dataclass(frozen=True)
class Exact(Estimator):
    r"""Closed form of log p(x): Gaussian latents, no noise, or a product of one-dimensional laws.

    The last holds whenever W' Psi^{-1} W is diagonal, as for one latent and for an orthonormal dictionary with
    isotropic noise. For a Laplace code of scale b and noise s in one dimension

    .. math:: \log p(x) = \frac{s^2}{2 b^2} - \log 2b + \operatorname{logaddexp}\Big(
              -\frac xb + \log\Phi\big(\frac xs - \frac sb\big),\;
              \frac xb + \log\Phi\big(-\frac xs - \frac sb\big)\Big)

    Raises
    ------
    NotExactError
        The model has no closed form.

    Examples
    --------
    >>> import probae as pa, torch
    >>> model = pa.SparseCoding(1, 1)
    >>> model.loadings = torch.tensor([[2.0**0.5]], dtype=torch.float64)        # b = 1
    >>> model.noise_variance = torch.tensor(0.25, dtype=torch.float64)
    >>> print(round(pa.log_evidence(model, torch.tensor([[1.3]], dtype=torch.float64), pa.Exact()).total, 9))
    -1.87299578
    """

    def estimate(self, model: Any, x: Any, seed: int, start: Gaussians | None = None) -> Evidence:
        """Ask the model."""
        value = model.log_likelihood(x)
        return Evidence(value, torch.zeros_like(value), "exact", self)
