r"""Missing entries given the observed ones, exactly.

Given z the entries of a row are independent, so the law of the missing ones is that of

.. math:: x_m = \mu_m + W_m z + \varepsilon_m, \qquad z \sim p(z \mid x_o), \quad \varepsilon_m \sim N(0, \Psi_m),

with mean :math:`\mu_m + W_m E[z \mid x_o]` and covariance :math:`W_m \operatorname{cov}(z \mid x_o) W_m' + \Psi_m`.
Drawing z once for a row makes its missing entries agree with each other as well as with the observed ones.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from probae.models.marginal import gaussian_posterior


def expected_entries(
    x: Float[Tensor, "samples features"], loadings: Tensor, noise: Tensor, mean: Tensor
) -> Float[Tensor, "samples features"]:
    """Return x with each missing entry at its mean given the observed entries of the row."""
    location, _ = gaussian_posterior(x, loadings, noise, mean)
    return torch.where(x.isnan(), mean + location @ loadings.mT, x)


def drawn_entries(
    x: Float[Tensor, "samples features"],
    loadings: Tensor,
    noise: Tensor,
    mean: Tensor,
    draws: int,
    generator: torch.Generator,
) -> Float[Tensor, "draws samples features"]:
    """Return copies of x with the missing entries drawn jointly from their law given the observed ones."""
    incomplete = x.isnan().any(1)
    rows = x[incomplete]
    filled = x.repeat(draws, 1, 1)
    location, scale = gaussian_posterior(rows, loadings, noise, mean)
    missing, spread = rows.isnan(), noise.sqrt()
    for copy in filled:  # one copy at a time: the draws may be many and the rows long
        free = torch.randn(location.shape, generator=generator, dtype=torch.float64)
        z = location + (scale @ free.unsqueeze(-1)).squeeze(-1)
        error = torch.randn(rows.shape, generator=generator, dtype=torch.float64)
        copy[incomplete] = torch.where(missing, mean + z @ loadings.mT + spread * error, rows)
    return filled
