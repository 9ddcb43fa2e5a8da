r"""One step of EM for a Gaussian linear factor model, on rows grouped by missing pattern.

With :math:`A = \Psi^{-1/2} W`, :math:`O_p` the observed entries of pattern p and :math:`t_n = \Psi^{-1/2} (x_n - \mu)`
with zeros where missing,

.. math::

    M_p = I + A' O_p A, \qquad \hat z_n = M_p^{-1} A' t_n, \qquad c_d = \sum_n t_{nd} (\hat z_n, 1), \qquad
    E_d = \sum_{n: d \text{ observed}} \begin{pmatrix} M_p^{-1} + \hat z_n \hat z_n' & \hat z_n \\ \hat z_n' & 1
    \end{pmatrix}

and row d of the new loadings with the shift of its mean is :math:`\sqrt{\psi_d} E_d^{-1} c_d` (Rubin & Thayer, 1982).
The law of z is then read off as if it were free, N(a, Phi), and put back into W and the mean, which takes larger steps
to the same end (parameter expansion: Liu, Rubin & Wu, 1998, section 4.3). All M_p together are one product of the
masks with the D outer products of rows of A, and only the groups enter, never the rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from probae.models.patterns import Patterns, each_by_its_own

LOG_TWO_PI = math.log(2 * math.pi)
SQUARES = 1e8  # signal over noise from which M_p is factored without forming it


@dataclass(frozen=True, eq=False)
class Expectation:
    """What the E step collects at one value of the parameters, in whitened units and a frame with A'A diagonal.

    Attributes
    ----------
    value : float
        Log-likelihood of all rows in nats.
    whitened : Tensor (D, K)
        A V, with V the frame.
    frame : Tensor (K, K)
    moment : Tensor (D or 1, K + 1, K + 1)
        E_d; one for all features when every row is complete.
    cross : Tensor (D, K + 1)
        c_d.
    power : Tensor (D,)
        Sum of squares of t.
    total : Tensor (K + 1, K + 1)
        The same as E_d over all rows.
    counts : Tensor (D,)
        Observed values of each feature.
    """

    value: float
    whitened: Float[Tensor, "features latents"]
    frame: Float[Tensor, "latents latents"]
    moment: Float[Tensor, "systems augmented augmented"]
    cross: Float[Tensor, "features augmented"]
    power: Float[Tensor, " features"]
    total: Float[Tensor, "augmented augmented"]
    counts: Float[Tensor, " features"]

    @property
    def start(self) -> Float[Tensor, "features augmented"]:
        """The current parameters in the units of `cross`: whitened loadings, no shift."""
        return torch.nn.functional.pad(self.whitened, (0, 1))

    def gradient(self) -> tuple[Tensor, Tensor]:
        """Return the gradient of the log-likelihood in whitened loadings with shift (D, K + 1), and in log psi (D,).

        By Fisher's identity it is that of the expected complete-data log-likelihood.
        """
        start = self.start
        fitted = (self.moment @ start.unsqueeze(-1)).squeeze(-1)
        residual = self.power - ((2 * self.cross - fitted) * start).sum(1)
        return self.cross - fitted, 0.5 * (residual - self.counts)

    def maximum(self) -> tuple[Tensor, Tensor]:
        """Return the M step: whitened loadings with shift (D, K + 1), law of z put back; counts psi_new / psi (D,)."""
        if len(self.moment) == 1:
            updated = torch.linalg.solve(self.moment[0], self.cross.T).T
        else:
            updated = torch.linalg.solve(self.moment, self.cross.unsqueeze(-1)).squeeze(-1)
        residual = self.power - (updated * self.cross).sum(1)
        return self._reduced(updated), residual

    def _reduced(self, updated: Tensor) -> Tensor:
        """Put the expanded law of z, N(a, Phi), into the loadings and the shift."""
        mean = self.total[:-1, -1] / self.total[-1, -1]
        values, vectors = torch.linalg.eigh(
            self.total[:-1, :-1] / self.total[-1, -1] - torch.outer(mean, mean)
        )
        root = (vectors * values.clamp_min(0.0).sqrt()) @ vectors.T
        loadings, shift = updated[:, :-1], updated[:, -1]
        return torch.cat([loadings @ root, (shift + loadings @ mean).unsqueeze(1)], 1)


def expect(patterns: Patterns, loadings: Tensor, noise: Tensor, mean: Tensor) -> Expectation:
    """Run the E step over all groups."""
    features, latents = loadings.shape
    scale = noise.sqrt()
    whitened = loadings / scale.unsqueeze(1)
    frame = torch.linalg.svd(torch.linalg.qr(whitened, mode="r")[1])[2].mT
    whitened = whitened @ frame
    whole = bool(patterns.observed.shape[0] == 1 and patterns.observed.all())
    outer = (whitened.unsqueeze(2) * whitened.unsqueeze(1)).flatten(1)
    sums = _Sums(features, latents, whole)
    for block in patterns.blocks(max(features, (latents + 1) ** 2)):
        _collect(sums, block, whitened, outer, scale, mean)
    log_noise = 2 * (sums.counts * scale.log()).sum()
    value = -0.5 * (LOG_TWO_PI * sums.counts.sum() + log_noise + sums.energy)
    return Expectation(
        float(value), whitened, frame, sums.moment, sums.cross, sums.power, sums.total, sums.counts
    )


class _Sums:
    """Running sums over blocks of groups."""

    def __init__(self, features: int, latents: int, whole: bool) -> None:
        size = latents + 1
        self.moment = torch.zeros(1 if whole else features, size, size, dtype=torch.float64)
        self.cross = torch.zeros(features, size, dtype=torch.float64)
        self.power = torch.zeros(features, dtype=torch.float64)
        self.total = torch.zeros(size, size, dtype=torch.float64)
        self.counts = torch.zeros(features, dtype=torch.float64)
        self.energy = torch.zeros((), dtype=torch.float64)


def _collect(
    sums: _Sums, block: Patterns, whitened: Tensor, outer: Tensor, scale: Tensor, mean: Tensor
) -> None:
    latents = whitened.shape[1]
    mask, counts = block.observed.double(), block.counts
    log_det, covariance, regression = _factor(mask, whitened, outer)
    weight = counts.sqrt()
    centred = (block.means - mean) * mask * weight.unsqueeze(1) / scale
    roots = block.roots / scale
    if regression is None:
        inner = each_by_its_own(covariance, roots @ whitened, block.owner)
        outside = (covariance @ (centred @ whitened).unsqueeze(-1)).squeeze(-1)
    else:
        inner = each_by_its_own(regression, roots, block.owner)
        outside = (regression @ centred.unsqueeze(-1)).squeeze(-1)
    z, rows = torch.cat([inner, outside]), torch.cat([roots, centred])
    owner = torch.cat([block.owner, torch.arange(len(counts))])
    residual = rows - (z @ whitened.mT) * mask[owner]
    ones = torch.cat([torch.zeros(len(roots), dtype=torch.float64), weight])
    first = torch.cat([z, ones.unsqueeze(1)], 1)
    second = torch.zeros(len(counts), latents + 1, latents + 1, dtype=torch.float64)
    second[:, :-1, :-1] = covariance * counts.view(-1, 1, 1)
    second.index_add_(0, owner, first.unsqueeze(2) * first.unsqueeze(1))
    sums.energy += counts @ log_det
    sums.energy += residual.square().sum() + z.square().sum()
    sums.moment += (mask.T[: len(sums.moment)] @ second.flatten(1)).unflatten(1, second.shape[1:])
    sums.total += second.sum(0)
    sums.cross += rows.mT @ first
    sums.power += rows.square().sum(0)
    sums.counts += mask.mT @ counts


def _factor(mask: Tensor, whitened: Tensor, outer: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return log |M_p|, M_p^{-1}, and M_p^{-1} A' O_p where it is wanted by QR: squares would lose too many digits."""
    latents = whitened.shape[1]
    identity = torch.eye(latents, dtype=torch.float64)
    if float(whitened.square().sum(0).max()) < SQUARES:
        lower = torch.linalg.cholesky((mask @ outer).unflatten(1, (latents, latents)) + identity)
        return _log_det(lower), torch.cholesky_inverse(lower), None
    identity = identity.expand(len(mask), latents, latents)
    q, upper = torch.linalg.qr(torch.cat([whitened * mask.unsqueeze(2), identity], 1))
    inverse = torch.linalg.solve_triangular(upper, identity, upper=True)
    return _log_det(upper), inverse @ inverse.mT, inverse @ q[:, :-latents].mT


def _log_det(triangle: Tensor) -> Tensor:
    return 2 * triangle.diagonal(dim1=1, dim2=2).abs().log().sum(1)
