r"""Missing entries, drawn given the observed ones of their row with the scores integrated out.

.. math:: z \mid x_o \sim N(M_o^{-1} W_o' \Psi_o^{-1} (x_o - \mu_o), M_o^{-1}), \quad
    x_m = \mu_m + W_m z + \Psi_m^{1/2} e, \quad M_o = I + W_o' \Psi_o^{-1} W_o

M_o is found once for each pattern of missing entries; complete rows count through their moments.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probae.inference.gibbs.rows import Centred, contrasts, root_of
from probae.inference.gibbs.scores import log_density, map_of, normals


class Imputation:
    """Rows of x with missing entries, completed anew for each chain in every sweep.

    Attributes
    ----------
    log_likelihood : Tensor (chains,)
        log p(observed entries) at the parameters of the last completion, in nats.
    """

    def __init__(self, values: Float[Tensor, "samples features"], chains: int) -> None:
        observed = ~values.isnan()
        self.count, self.chains = len(values), chains
        self.origin = values.nanmean(0).nan_to_num()  # a column may be missing whole
        values = (values - self.origin).nan_to_num()
        whole = observed.all(1)
        self.complete = values[whole]
        self.total, self.scatter = self.complete.sum(0), self.complete.mT @ self.complete
        self.rows, self.observed = values[~whole], observed[~whole].double()
        self.patterns, self.which = self.observed.unique(dim=0, return_inverse=True)
        self.log_likelihood = torch.zeros(chains, dtype=torch.float64)

    def start(self, generator: np.random.Generator) -> Centred:
        """Complete the rows by draws with the mean and spread of each column."""
        seen = self.observed.sum(0) + len(self.complete)
        variance = (self.scatter.diagonal() + self.rows.square().sum(0)) / seen.clamp_min(1)
        drawn = variance.sqrt() * normals(generator, (self.chains, *self.rows.shape))
        return self._centred(torch.where(self.observed > 0, self.rows, drawn))

    def draw(
        self,
        loadings: Float[Tensor, "chains features latents"],
        noise: Float[Tensor, "chains #features"],
        mean: Float[Tensor, "chains features"],
        generator: np.random.Generator,
    ) -> Centred:
        """Complete the rows given the parameters of each chain."""
        latents = loadings.shape[-1]
        noise, mean = noise.expand(loadings.shape[:-1]), mean - self.origin
        weighted = loadings / noise[..., None]
        products = (loadings[..., None] * weighted[..., None, :]).flatten(-2)  # (C, D, K^2)
        precision = (self.patterns @ products).unflatten(-1, (latents, latents))
        lower = torch.linalg.cholesky(precision + torch.eye(latents, dtype=noise.dtype))
        apart = (self.rows - mean[:, None]) * self.observed
        own = lower[:, self.which]
        inner = torch.linalg.solve_triangular(own, (apart @ weighted)[..., None], upper=False)
        self.log_likelihood = self._of_incomplete(apart, noise, lower, inner) + self._of_complete(
            loadings, noise, mean
        )
        z = torch.linalg.solve_triangular(own.mT, inner + normals(generator, inner.shape), upper=True)[..., 0]
        drawn = mean[:, None] + z @ loadings.mT + noise.sqrt()[:, None] * normals(generator, apart.shape)
        return self._centred(torch.where(self.observed > 0, self.rows, drawn))

    def _centred(self, rows: Float[Tensor, "chains incomplete features"]) -> Centred:
        """Take the moments of all rows, or their contrasts where they are no more than the features."""
        total = self.total + rows.sum(1)
        mean = total / self.count
        if self.count <= rows.shape[-1]:
            complete = self.complete.expand(len(rows), *self.complete.shape)
            root = contrasts(torch.cat([complete, rows], 1))
        else:
            centre = total[..., None] * mean[:, None]
            root = root_of(self.scatter + rows.mT @ rows - 0.5 * (centre + centre.mT))
        return Centred(root, root.square().sum(-2), self.origin + mean, self.count)

    def _of_incomplete(
        self,
        apart: Float[Tensor, "chains incomplete features"],
        noise: Float[Tensor, "chains features"],
        lower: Float[Tensor, "chains patterns latents latents"],
        inner: Float[Tensor, "chains incomplete latents 1"],
    ) -> Float[Tensor, " chains"]:
        """Return log p of the observed entries of the incomplete rows."""
        log_det = 2.0 * lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)[:, self.which].sum(-1)
        each = (apart.square() / noise[:, None]).sum((-2, -1)) - inner.square().sum((-3, -2, -1))
        constants = (noise.log() + math.log(2.0 * math.pi)) @ self.observed.sum(0)
        return -0.5 * (log_det + each + constants)

    def _of_complete(
        self,
        loadings: Float[Tensor, "chains features latents"],
        noise: Float[Tensor, "chains features"],
        mean: Float[Tensor, "chains features"],
    ) -> Float[Tensor, " chains"]:
        """Return log p of the complete rows, from their moments about the origin."""
        count = len(self.complete)
        where = map_of(loadings, noise, torch.eye(self.scatter.shape[0], dtype=noise.dtype))
        crossed = self.total[:, None] * mean[:, None]
        scatter = self.scatter - crossed - crossed.mT + count * mean[..., None] * mean[:, None]
        explained = ((where.fitted @ scatter) * where.fitted).sum((-2, -1))
        squares = (scatter.diagonal(dim1=-2, dim2=-1) / noise).sum(-1)
        return log_density(where, noise, squares - explained, count)
