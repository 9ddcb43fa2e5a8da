r"""The evidence by quadrature over one to three latents, however many features.

The last latent is integrated in closed form, the others on Gauss-Legendre panels:

    log p(x) = c + log int p_1(z_1) ... int p_k(z_k) exp(-|P r|^2 / 2) (p_K * N(0, 1 / |a_K|^2))(y_K),
    r = Psi^{-1/2} (x - mu) - sum_{j<K} a_j z_j,    y_K = a_K' r / |a_K|^2,    P r = r - a_K y_K

with a_j the columns of Psi^{-1/2} W. In z_1 the integrand has a kink where p_1 has one, a Gaussian bump at the
least-squares value of z_1, a feature where some other latent is at a kink of its own, and most of its mass where the
Gaussian reference has it. Panels double in width away from each of these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probae.analysis.result import Estimator, Evidence
from probae.checks import NotExactError, ParameterError, check_count, check_data
from probae.inference.reference import gaussian_reference
from probae.inference.refinement import Gaussians
from probae.models import LinearFactorModel
from probae.priors import Prior

__all__ = ["MOST", "Quadrature"]

MOST = 3  # latents
CUSP = 2.0**-8  # width of the first panel beside a kink of the law itself
CHUNK = 400_000  # numbers worked on at once
NEGLIGIBLE = -50.0  # log density beyond which a law of one coordinate is left out
FARTHEST = 2.0**12

Normal = tuple[
    Float[Tensor, "samples latents"], Float[Tensor, "samples latents latents"]
]  # mean and covariance


@dataclass(frozen=True)
class Quadrature(Estimator):
    r"""Deterministic integral of p(x given z) p(z) for up to three independent latents, any number of features.

    Panels are split at the kinks of the law of each latent. ``standard_error`` is the change when only half as many
    nodes are used, which overstates the error of the value itself.

    Parameters
    ----------
    points : int
        Gauss-Legendre nodes of a panel, at least 4. Two latents cost about a millisecond for each row, three a second.

    Raises
    ------
    NotExactError
        More than three latents, or latents that are not independent.
    ParameterError
        The model has no noise.

    Examples
    --------
    >>> import probae as pa, torch
    >>> model = pa.SparseCoding(1, 2)                                      # more latents than features
    >>> result = pa.log_evidence(model, torch.tensor([[0.5]]), pa.Quadrature())
    >>> result.bound, bool(result.standard_error < 1e-6)
    ('numerical', True)
    """

    points: int = 12

    def __post_init__(self) -> None:
        check_count("points", self.points, minimum=4)

    def estimate(self, model: Any, x: Any, seed: int, start: Gaussians | None = None) -> Evidence:
        """Integrate twice, the second time with half as many nodes."""
        laws = independent_laws(model)
        data = check_data(x, features=model.features, names=model.feature_names)
        reference = gaussian_reference(model, data.values)
        loadings, noise, mean = model._gaussian_parameters()
        columns = loadings / noise.sqrt().unsqueeze(1)
        used = columns.norm(dim=0) > 0  # a column of zeros reaches no feature and integrates to 1
        order = sorted(torch.nonzero(used).flatten().tolist(), key=lambda k: _closed(laws[k]))
        rows = (data.values - mean) / noise.sqrt()
        constant = -0.5 * (noise.log() + math.log(2 * math.pi)).sum()
        normal = reference.centre[:, order], reference.covariance[:, order][:, :, order]
        chosen = columns[:, order], [laws[k] for k in order]
        with torch.no_grad():
            fine, coarse = (
                constant + integrate(*chosen, rows, normal, points)
                for points in (self.points, self.points // 2)
            )
        return Evidence(fine, (fine - coarse).abs(), "numerical", self).to(data.dtype)


def independent_laws(model: Any) -> list[Prior]:
    """Return the law of each latent, or say why quadrature cannot serve."""
    if not isinstance(model, LinearFactorModel):
        raise ParameterError(f"Quadrature needs a linear factor model, got {model!r}.")
    if model.noise == "none":
        raise ParameterError('Quadrature needs noise, and the model has noise="none": use Exact().')
    laws = model.prior.coordinates(model.latents)
    if laws is None or model.latents > MOST:
        raise NotExactError(
            f"Quadrature takes up to {MOST} independent latents, got {model.latents} with the law {model.prior!r}: "
            "use AnnealedImportance()."
        )
    return laws


def integrate(
    columns: Float[Tensor, "features latents"], laws: list[Prior], rows: Tensor, normal: Normal, points: int
) -> Float[Tensor, " samples"]:
    """Log integral of prod_k p_k(z_k) exp(-|r - A z|^2 / 2) over z, for each row r, whose z is roughly `normal`."""
    if not laws:
        return -0.5 * rows.square().sum(1)
    if len(laws) == 1:
        size = columns.square().sum()
        score = rows @ columns[:, 0] / size
        rest = (rows - score.unsqueeze(1) * columns[:, 0]).square().sum(1)
        constant = 0.5 * (math.log(2 * math.pi) - size.log())
        return laws[0].noisy_log_prob(score, 1 / size) - 0.5 * rest + constant
    edges = panel_edges(columns, laws, rows, normal)
    block = max(1, CHUNK // (edges.shape[1] * points * len(columns)))
    blocks = zip(*(part.split(block) for part in (rows, edges, *normal)), strict=True)
    return torch.cat(
        [_outer(columns, laws, r, panels, (mean, cov), points) for r, panels, mean, cov in blocks]
    )


def _outer(
    columns: Tensor,
    laws: list[Prior],
    rows: Tensor,
    edges: Tensor,
    normal: Normal,
    points: int,
) -> Float[Tensor, " samples"]:
    """Integrate over the first latent on the panels of each row."""
    node, weight = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(points))
    width = edges.diff(dim=1).unsqueeze(2)
    z = (edges[:, :-1].unsqueeze(2) + 0.5 * width * (node + 1)).flatten(1)
    log_weight = (0.5 * width * weight).flatten(1).log()
    inner = rows.unsqueeze(1) - z.unsqueeze(2) * columns[:, 0]
    mean, covariance = normal
    slope = covariance[:, 1:, 0] / covariance[:, :1, 0]
    given = mean[:, None, 1:] + (z - mean[:, :1]).unsqueeze(2) * slope.unsqueeze(1)
    left = covariance[:, 1:, 1:] - slope.unsqueeze(2) * covariance[:, :1, 1:]
    rest = given.flatten(0, 1), left.repeat_interleave(z.shape[1], 0)
    value = integrate(columns[:, 1:], laws[1:], inner.flatten(0, 1), rest, points).view_as(z)
    return (log_weight + laws[0].log_prob(z) + value).logsumexp(1)


def panel_edges(
    columns: Tensor, laws: list[Prior], rows: Tensor, normal: Normal
) -> Float[Tensor, "samples edges"]:
    """Edges of the panels in the first latent, sorted; some are equal, and their panels empty."""
    first, others = columns[:, 0], columns[:, 1:]
    size, zero = first.norm(), torch.zeros(len(rows), dtype=torch.float64)
    features = [(zero + kink, zero + CUSP) for kink in sorted({*laws[0].kinks, 0.0})]
    features.append((normal[0][:, 0], normal[1][:, 0, 0].sqrt()))
    basis = torch.linalg.qr(others).Q
    own = first - basis @ (basis.T @ first)
    if own.norm() > 1e-9 * size:
        features.append((rows @ own / own.square().sum(), zero + 1 / own.norm()))
    for column, law in zip(others.T, laws[1:], strict=True):
        overlap = column @ first
        if overlap.abs() > 1e-9 * size * column.norm():
            for kink in law.kinks or (0.0,):
                centre = (rows @ column - kink * column.square().sum()) / overlap
                features.append((centre, zero + column.norm() / overlap.abs()))
    middle, width = (torch.stack(part, 1) for part in zip(*features, strict=True))
    far = max(_reach(laws[0]), 2 * float(middle.abs().max()))
    doublings = math.ceil(math.log2(far / (0.5 * float(width.min())))) + 1
    steps = 0.5 * width.unsqueeze(2) * 2.0 ** torch.arange(doublings, dtype=torch.float64)
    offsets = torch.cat([-steps, torch.zeros_like(steps[..., :1]), steps], 2)
    return (middle.unsqueeze(2) + offsets).flatten(1).clamp(-far, far).sort(1).values


def _reach(law: Prior) -> float:
    """Return how far from 0 the law has any mass to speak of, a power of 2."""
    z = 2.0 ** torch.arange(2, 13, dtype=torch.float64)
    gone = torch.nonzero(law.log_prob(z) < NEGLIGIBLE).flatten()
    return float(z[gone[0]]) if len(gone) else FARTHEST


def _closed(law: Prior) -> bool:
    """Whether the law has its own convolution with a Gaussian, so that it should be integrated last."""
    return type(law).noisy_log_prob is not Prior.noisy_log_prob
