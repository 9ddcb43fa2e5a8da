"""The posterior that MAP codes stand for: a point mass."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist

from probae.checks import check_data
from probae.codes import lasso
from probae.models import LinearFactorModel


@dataclass(frozen=True, eq=False)
class CodesPosterior:
    r"""A point mass at the MAP codes of each row: the minimiser of 1/2 ||x - mean - W z||^2 + sqrt(2) sigma^2 ||z||_1.

    Parameters
    ----------
    model : LinearFactorModel
        Laplace latents and isotropic noise.
    tolerance : float
        Relative duality gap of the codes.

    Examples
    --------
    >>> import probae as pa, torch
    >>> model = pa.SparseCoding(2, 2)
    >>> model.loadings, model.noise_variance = torch.eye(2).double(), torch.tensor(0.5).double()
    >>> CodesPosterior(model)(torch.tensor([[3.0, 0.5]])).mean  # shrunk by sqrt(2) / 2
    tensor([[2.2929, 0.0000]])
    """

    model: LinearFactorModel
    tolerance: float = 1e-6

    def __call__(self, x: Any) -> dist.Delta:
        """Return the point mass at the codes of each row."""
        model = self.model
        data = check_data(x, features=model.features, names=model.feature_names)
        loadings, noise, mean = model._gaussian_parameters()
        penalty = math.sqrt(2) * float(noise[0])  # of z itself, in units where atoms are the loadings
        codes = lasso(data.values - mean, loadings, penalty, self.tolerance, 10_000)
        return dist.Delta(codes.z.to(data.dtype), event_dim=1)
