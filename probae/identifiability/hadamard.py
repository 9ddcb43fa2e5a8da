r"""What independent codes cost: Hadamard's gap of a mean-field guide, in closed form, at every rotation of the factors.

Gaussian factors given x have the precision P = Phi^{-1} + W' Psi^{-1} W, the same for every row. The best guide with
independent codes has the variances 1 / P_kk, and the evidence lower bound it reaches is short of log p(x) by

    gap = 1/2 (sum_k log P_kk - log det P) >= 0                                            (Hadamard's inequality)

nats per row, nothing where P is diagonal. W R has the same likelihood, and R' P R for P: its determinant stays, its
diagonal does not. From the best to the worst angle in the plane (i, j), and over all rotations, the gap changes by

    log((P_ii + P_jj) / 2) - 1/2 log(P_ii P_jj - P_ij^2),    1/2 (K log(tr P / K) - log det P)

(the largest gap has all P_kk equal, which some rotation attains: Schur and Horn). That is all a mean-field fit of
Gaussian factors knows of axes. For other laws of unit variance it is what their Gaussian twin would show.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import ParameterError, check_count
from probae.linalg import LowRankCovariance
from probae.models import LinearFactorModel
from probae.priors import CorrelatedGaussian
from probae.priors.information import spread_of

__all__ = ["GuideGap", "PlaneGap", "factor_root", "guide_gap", "hadamard_gap"]

MATTERS = 2.0  # nats over all rows: a preference below is none


@dataclass(frozen=True)
class PlaneGap:
    """What a mean-field guide prefers in the plane of two factors.

    Attributes
    ----------
    plane : (int, int)
    here : float
        Nats per row that the best angle gains over the fitted one.
    range : float
        Nats per row between the best and the worst angle.
    degrees : float
        From the fitted axes to the best angle, between -45 and 45.
    """

    plane: tuple[int, int]
    here: float
    range: float
    degrees: float

    def bound(self, degrees: Float[Tensor, " angles"]) -> Float[Tensor, " angles"]:
        r"""Return the change of the best mean-field bound when the two factors turn, nats per row.

        With r^2 = 1 - exp(-2 range) and the best angle d it is

        .. math:: \tfrac12 \log\big(1 - r^2 \cos^2 2d\big) - \tfrac12 \log\big(1 - r^2 \cos^2 2(\theta - d)\big)

        Examples
        --------
        >>> import torch
        >>> found = PlaneGap((0, 1), 0.1, 0.2, 30.0).bound(torch.tensor([0.0, 30.0, 75.0]))
        >>> round(float(found[1] - found[2]), 6)                                     # the best angle and the worst
        0.2
        """
        share = -math.expm1(-2 * self.range)
        turned = torch.deg2rad(2 * (degrees.double() - self.degrees)).cos().square()
        start = math.cos(math.radians(2 * self.degrees)) ** 2
        return 0.5 * (math.log1p(-share * start) - torch.log1p(-share * turned))


@dataclass(frozen=True)
class GuideGap:
    """How strongly a guide with independent codes prefers axes that the model may not have.

    Attributes
    ----------
    here : float
        Gap at the fitted axes, nats per row.
    range : float
        Largest gap of any rotation (the smallest is 0), nats per row.
    planes : tuple of PlaneGap
    samples : int
    exact : bool
        Closed form for Gaussian factors; for others it is that of Gaussian factors with the same loadings.

    Examples
    --------
    >>> found = GuideGap(0.1, 0.2, (PlaneGap((0, 1), 0.1, 0.2, 30.0),), samples=300, exact=True)
    >>> found.artefact, found.turn
    (60.0, 30.0)
    """

    here: float
    range: float
    planes: tuple[PlaneGap, ...]
    samples: int
    exact: bool

    @property
    def artefact(self) -> float:
        """Nats over all rows by which a mean-field bound distinguishes rotations of one likelihood."""
        return self.samples * self.range

    @property
    def turn(self) -> float:
        """Largest angle in degrees from the fitted axes to the guide's, over planes where that matters (2 nats)."""
        enough = min(MATTERS, self.samples * max((plane.range for plane in self.planes), default=0.0))
        return max((abs(p.degrees) for p in self.planes if self.samples * p.range >= enough), default=0.0)

    def describe(self) -> str:
        """Say in a sentence how much a mean-field guide would prefer which axes."""
        kind = "exact" if self.exact else "of Gaussian factors with these loadings: first order"
        text = (
            f"a mean-field guide tells rotations apart by up to {self.artefact:.2f} nats over {self.samples} rows "
            f"({kind})"
        )
        if self.artefact < MATTERS:
            return text
        return f"{text}; its own axes are {self.turn:.1f} degrees away, in the plane that is furthest"

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, ready for JSON."""
        return {
            "here_nats_per_row": self.here,
            "range_nats_per_row": self.range,
            "artefact_nats": self.artefact,
            "samples": self.samples,
            "exact": self.exact,
            "planes": [
                {"plane": list(p.plane), "range_nats_per_row": p.range, "degrees": p.degrees}
                for p in self.planes
            ],
        }


def hadamard_gap(precision: Float[Tensor, "*batch latents latents"]) -> Float[Tensor, "*batch"]:
    r"""Return what the best guide with independent codes misses of a Gaussian law, in nats.

    .. math:: \tfrac12 \Big( \sum_k \log P_{kk} - \log \det P \Big)

    Parameters
    ----------
    precision : Tensor (*batch, K, K), symmetric positive definite

    Raises
    ------
    ParameterError
        A matrix that is not positive definite.

    Examples
    --------
    >>> import torch
    >>> P = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    >>> round(hadamard_gap(P).item(), 9), round(0.5 * math.log(4 / 3), 9)
    (0.143841036, 0.143841036)
    """
    scale = precision.diagonal(dim1=-2, dim2=-1).clamp_min(torch.finfo(precision.dtype).tiny).rsqrt()
    correlation = (
        scale.unsqueeze(-1) * precision * scale.unsqueeze(-2)
    )  # log det of it is the gap, nothing cancels
    root, failed = torch.linalg.cholesky_ex(correlation)
    if bool((failed > 0).any()):
        raise ParameterError("precision should be symmetric and positive definite.")
    return -root.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def guide_gap(model: LinearFactorModel, samples: int) -> GuideGap:
    """Return how a guide with independent codes would prefer rotations of the factors of a fitted model.

    Parameters
    ----------
    model : LinearFactorModel
        With noise. Of correlated factors z = L z_0, those meant are the uncorrelated z_0.
    samples : int
        Rows that the preference is added up over.

    Raises
    ------
    ParameterError
        A model without noise: x then determines z, and there is no guide.

    References
    ----------
    .. [1] Lucas, J., Tucker, G., Grosse, R. & Norouzi, M. (2019). Don't blame the ELBO! A linear VAE perspective on
       posterior collapse. NeurIPS.

    Examples
    --------
    >>> import probae as pa, torch
    >>> model = pa.FactorAnalysis(2, 2)
    >>> model.loadings, model.noise_variance = torch.tensor([[3.0, 1.0], [1.0, 2.0]]), torch.ones(2)
    >>> found = guide_gap(model, samples=100)
    >>> round(found.planes[0].degrees, 1), round(0.5 * math.degrees(math.atan(2.0)), 1)   # W'W = [[10, 5], [5, 5]]
    (31.7, 31.7)
    """
    model._require_noise()
    count = check_count("samples", samples)
    precision = standard_precision(model)
    latents = len(precision)
    here = float(hadamard_gap(precision))
    level = precision.diagonal().log().mean() - precision.diagonal().mean().log()
    planes = tuple(_plane_gap(precision, i, j) for i, j in itertools.combinations(range(latents), 2))
    whole = planes[0].range if latents == 2 else max(0.0, here - 0.5 * latents * float(level))
    return GuideGap(here, whole, planes, count, model.gaussian)


def standard_precision(model: LinearFactorModel) -> Float[Tensor, "latents latents"]:
    """Return I + L' W' Psi^{-1} W L, the precision given x of Gaussian factors z_0 with z = L z_0."""
    loadings, noise, _ = model._gaussian_parameters()
    root = LowRankCovariance.factor(loadings @ factor_root(model), noise).capacitance_cholesky
    return root @ root.mT


def factor_root(model: LinearFactorModel) -> Float[Tensor, "latents latents"]:
    """Return L with L L' the covariance of the factors: R turns them by L R L^{-1}, which leaves that covariance."""
    if isinstance(model.prior, CorrelatedGaussian):
        return model.prior.factor.detach().double()
    laws = model.prior.coordinates(model.latents)
    spreads = [1.0] * model.latents if laws is None else [spread_of(law) for law in laws]
    return torch.diag(torch.tensor(spreads, dtype=torch.float64))


def _plane_gap(precision: Tensor, i: int, j: int) -> PlaneGap:
    a, b, c = (float(precision[k]) for k in ((i, i), (j, j), (i, j)))
    here = -0.5 * math.log1p(-c * c / (a * b))
    spread = 0.25 * (a - b) ** 2 + c * c  # (half the difference of the eigenvalues) squared
    whole = -0.5 * math.log1p(-spread / (0.5 * (a + b)) ** 2)
    angle = 0.5 * math.degrees(math.atan2(2 * c, a - b))
    return PlaneGap((i, j), here, whole, angle - 90.0 * round(angle / 90.0))
