r"""What the variances of segments say of the axes: Fisher information on the angle of each plane.

Without noise the pair (E_ij, E_ji) of a relative change W (I + E) has, per row, the information

.. math:: \begin{pmatrix} \omega_{ij} & 1 \\ 1 & \omega_{ji} \end{pmatrix}, \quad
          \omega_{ij} = \sum_s w_s \frac{v_{sj}}{v_{si}}, \qquad
          I(\theta_{ij}) = \frac{4 (\omega_{ij} \omega_{ji} - 1)}{\omega_{ij} + \omega_{ji} + 2}

for the angle, the symmetric change taken as unknown too. It is zero exactly when the two variances are proportional.
With noise the information of all loadings, noise variances and segment variances is inverted.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from probae.identifiability.inverse_information import direction_variances
from probae.identifiability.precision import AngleError
from probae.inference.joint_diagonalization import ratios

LARGEST = 3000  # parameters whose information is inverted


def segment_information(
    variances: Float[Tensor, "segments latents"], shares: Float[Tensor, " segments"]
) -> Float[Tensor, "latents latents"]:
    """Return the information per row on the angle of every plane, without noise; the diagonal is zero.

    Examples
    --------
    >>> import torch
    >>> shares = torch.tensor([0.5, 0.5], dtype=torch.float64)
    >>> profiles = torch.tensor([[0.5, 1.5, 0.5], [1.5, 0.5, 1.5]], dtype=torch.float64)
    >>> segment_information(profiles, shares)                   # factors 0 and 2 rise alike
    tensor([[0.0000, 1.3333, 0.0000],
            [1.3333, 0.0000, 1.3333],
            [0.0000, 1.3333, 0.0000]], dtype=torch.float64)
    """
    one = ratios(variances, shares)
    return 4 * (one * one.mT - 1).clamp_min(0.0) / (one + one.mT + 2)


@dataclass(frozen=True, eq=False)
class SegmentFit:
    """Parameters of a fit with segments, and its rows: noise is None where there is none.

    Attributes
    ----------
    loadings : Tensor (D, K)
    noise : Tensor (D,), or None
    isotropic : bool
    variances : Tensor (S, K)
    rows : Tensor (N, D)
        Centred at the fitted mean.
    place : Tensor (N,)
        Segment of each row.
    """

    loadings: Float[Tensor, "features latents"]
    noise: Float[Tensor, " features"] | None
    isotropic: bool
    variances: Float[Tensor, "segments latents"]
    rows: Float[Tensor, "samples features"]
    place: Int[Tensor, " samples"]

    @property
    def shares(self) -> Float[Tensor, " segments"]:
        """Share of the rows in each segment."""
        return torch.bincount(self.place, minlength=len(self.variances)).double() / len(self.place)

    @property
    def parameters(self) -> int:
        """Loadings, noise variances and segment variances."""
        noises = 0 if self.noise is None else 1 if self.isotropic else len(self.noise)
        return self.loadings.numel() + noises + self.variances.numel()

    @property
    def pseudo_inverse(self) -> Float[Tensor, "latents features"]:
        """The map from x to the scores y = z + noise."""
        if self.noise is None:
            return torch.linalg.inv(self.loadings)
        scale = self.noise.sqrt()
        return torch.linalg.pinv(self.loadings / scale.unsqueeze(1)) / scale

    @property
    def frame(self) -> Float[Tensor, "features features"]:
        """T = [W, Psi^{1/2} Q] with Q the complement of Psi^{-1/2} W: a change of W is T (E, F).

        The information on entries of W themselves grows without bound as the noise falls, that on E does not.
        """
        if self.noise is None:
            return self.loadings
        scale = self.noise.sqrt().unsqueeze(1)
        left = torch.linalg.svd(self.loadings / scale)[0]
        return torch.cat([self.loadings, scale * left[:, self.loadings.shape[1] :]], 1)

    def precisions(self) -> Float[Tensor, "segments features features"]:
        """Inverse covariance of x in each segment."""
        covariance = self.loadings * self.variances.unsqueeze(1) @ self.loadings.mT
        if self.noise is not None:
            covariance = covariance + torch.diag(self.noise)
        return torch.cholesky_inverse(torch.linalg.cholesky(covariance))


def segment_angle_errors(fit: SegmentFit) -> list[AngleError]:
    """Return the standard error of every plane, from the expected information and from the rows (sandwich)."""
    latents, count = fit.loadings.shape[1], len(fit.rows)
    planes = list(itertools.combinations(range(latents), 2))
    precisions = fit.precisions()
    directions = torch.stack([_angle(latents, plane, fit.parameters) for plane in planes], 1)
    answer, variances = direction_variances(_information(fit, precisions), directions)
    robust = _row_scores(fit, precisions, answer).square().mean(0)
    return [
        AngleError(
            plane,
            _degrees(float(one), count),
            _degrees(float(two) if one < math.inf else math.inf, count),
            count,
        )
        for plane, one, two in zip(planes, variances, robust, strict=True)
    ]


def _degrees(variance: float, count: int) -> float:
    return math.degrees(math.sqrt(variance / count)) if variance < math.inf else math.inf


def _angle(latents: int, plane: tuple[int, int], parameters: int) -> Float[Tensor, " parameters"]:
    """Return the gradient of (E_ij - E_ji) / 2 in the parameters, the first K rows of which are E."""
    i, j = plane
    gradient = torch.zeros(parameters, dtype=torch.float64)
    gradient[i * latents + j], gradient[j * latents + i] = 0.5, -0.5
    return gradient


def _information(fit: SegmentFit, precisions: Tensor) -> Float[Tensor, "parameters parameters"]:
    """Return tr(C^-1 dC C^-1 dC) / 2, summed over segments by their shares."""
    loadings, frame, (features, latents) = fit.loadings, fit.frame, fit.loadings.shape
    pairs, size = features * latents, fit.parameters
    first = size - fit.variances.numel()
    total = torch.zeros(size, size, dtype=torch.float64)
    for level, (share, v, q) in enumerate(zip(fit.shares, fit.variances, precisions, strict=True)):
        turned = frame.mT @ q
        gain, reach = turned @ loadings, loadings.mT @ q @ loadings
        both = torch.einsum("fk,dl->dkfl", gain, gain) + torch.einsum("df,kl->dkfl", turned @ frame, reach)
        both = both * v.view(1, -1, 1, 1) * v
        total[:pairs, :pairs] += share * both.reshape(pairs, pairs)
        own = slice(first + level * latents, first + (level + 1) * latents)
        cross = torch.einsum("dl,kl,k->dkl", gain, reach, v).reshape(pairs, latents)
        total[:pairs, own] += share * cross
        total[own, own] += share * 0.5 * reach.square()
        if fit.noise is None:
            continue
        plain = q @ loadings
        along = torch.einsum("df,fk,k->dkf", turned, plain, v).reshape(pairs, features)
        blocks = [along, 0.5 * q.square(), 0.5 * plain.square()]
        if fit.isotropic:
            blocks = [
                blocks[0].sum(1, keepdim=True),
                blocks[1].sum().view(1, 1),
                blocks[2].sum(0, keepdim=True),
            ]
        total[:pairs, pairs:first] += share * blocks[0]
        total[pairs:first, pairs:first] += share * blocks[1]
        total[pairs:first, own] += share * blocks[2]
    return total.triu() + total.triu(1).mT


def _row_scores(fit: SegmentFit, precisions: Tensor, answer: Tensor) -> Float[Tensor, "samples planes"]:
    """Return the influence of each row on each angle: its score times J^+ c, centred within its segment."""
    features, latents = fit.loadings.shape
    pairs, first = features * latents, fit.parameters - fit.variances.numel()
    found, frame = torch.empty(len(fit.rows), answer.shape[1], dtype=torch.float64), fit.frame
    for level, (v, q) in enumerate(zip(fit.variances, precisions, strict=True)):
        here = (fit.place == level).nonzero().squeeze(1)
        a = fit.rows[here] @ q
        reach = a @ fit.loadings
        for plane, h in enumerate(answer.mT):
            value = (reach * v * (a @ (frame @ h[:pairs].view(features, latents)))).sum(1)
            if fit.noise is not None:
                value = value + 0.5 * a.square() @ h[pairs:first].expand(features)
            value = value + 0.5 * reach.square() @ h[first + level * latents : first + (level + 1) * latents]
            found[here, plane] = value - value.mean()
    return found
