r"""Information on the angle of each plane that is left after everything else is estimated too, for any W and Psi.

With U = Psi^{-1/2} W, Q its complement and y = z + N(0, N) the scores, N = (U'U)^{-1}, the scores of one row under
W -> [W, Psi^{1/2} Q] (I + E, F), mean -> mean + W a + ..., log psi -> log psi + l are

.. math:: S_E = E[\psi(z) z' \mid y] - I, \quad S_F = c\, m', \quad S_a = E[\psi(z) \mid y], \quad
          S_l = \tfrac12 \big((Qc)^2 + 2 (Qc) \circ U(y - m) + \mathrm{diag}\, U V U' - 1\big)

with m = E[z | y], V = E[(y - z)(y - z)' | y], and c ~ N(0, I) independent of y. So c is integrated in closed form, and
only moments over y are simulated:

.. math:: J_{eff} = J_{EE} - J_{E\eta} J_{\eta\eta}^{+} J_{\eta E}, \qquad
          I(\theta_{ij}) = \big(g' J_{eff}^{+} g\big)^{-1}, \qquad g = (e_{ij} - e_{ji}) / 2

For Gaussian factors psi(z) z' is symmetric draw by draw, so that the information on a rotation is zero to rounding.
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
from probae.identifiability.independent_moments import independent_moments
from probae.identifiability.inverse_information import direction_variances
from probae.identifiability.simulated_information import (
    BATCHES,
    information_with_noise,
    information_without_noise,
)
from probae.models import LinearFactorModel
from probae.models.marginal import Scores
from probae.priors import Prior
from probae.priors.information import spread_of

__all__ = ["EffectiveInformation", "PlaneInformation", "effective_information"]

ROWS = 4000  # simulated
ALL_PLANES = 12  # factors up to which the planes are estimated together; beyond, one at a time
NULL = 1e-10


@dataclass(frozen=True)
class PlaneInformation:
    """Information per row on the angle in one plane (radians), and its Monte Carlo standard error (0: exact)."""

    plane: tuple[int, int]
    value: float
    error: float

    def degrees(self, samples: int) -> float:
        """Cramer-Rao standard error of the angle for so many rows, in degrees."""
        return math.degrees((samples * self.value) ** -0.5) if self.value > 0 else math.inf

    def samples_for(self, degrees: float) -> float:
        """Rows needed for a standard error of so many degrees."""
        return math.degrees(1.0) ** 2 / (self.value * degrees**2) if self.value > 0 else math.inf


@dataclass(frozen=True, eq=False)
class EffectiveInformation:
    """Information on every plane, with all other parameters of the model estimated too.

    Attributes
    ----------
    planes : tuple of PlaneInformation
    matrix : Tensor (K K, K K), or None
        J_eff of the relative changes E of W (row by row), where it was simulated.
    draws : int
        Rows that were simulated.
    exact : bool
        Closed form for this model. Without draws and not exact: a law without finite information, whose score noise was
        taken as independent, and which was smoothed where there is no noise.
    """

    planes: tuple[PlaneInformation, ...]
    matrix: Float[Tensor, "pairs pairs"] | None
    draws: int
    exact: bool

    @property
    def weakest(self) -> PlaneInformation:
        """The plane that is known least."""
        return min(self.planes, key=lambda plane: plane.value)

    def describe(self) -> str:
        """Say the result in a sentence."""
        i, j = self.weakest.plane
        simulated = f"Monte Carlo, +- {self.weakest.error:.1g}" if self.draws else "approximate"
        kind = "exact" if self.exact else simulated
        return (
            f"Information on the angle of z[{i}] and z[{j}], the weakest plane, all else estimated: "
            f"{self.weakest.value:.3g} per row ({kind})."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "draws": self.draws,
            "exact": self.exact,
            "planes": [
                {"plane": list(one.plane), "information": one.value, "error": one.error}
                for one in self.planes
            ],
        }


def effective_information(
    model: LinearFactorModel, *, seed: int = 0, rows: int = ROWS
) -> EffectiveInformation:
    """Return the information on the angle of every plane per row, at the parameters of a model.

    Loadings, mean and noise variances are all unknown; the law of the factors is known.

    Parameters
    ----------
    model : LinearFactorModel
        With loadings of full column rank.
    seed : int
    rows : int
        Simulated rows, where there is noise.

    Returns
    -------
    EffectiveInformation

    Raises
    ------
    ParameterError
        The loadings do not have full column rank, or there is one factor only.

    Examples
    --------
    >>> import probae as pa
    >>> round(effective_information(pa.IndependentComponents(2, 2)).planes[0].value, 9)     # 2 kappa - 2
    2.0
    >>> effective_information(pa.FactorAnalysis(6, 2), rows=200).planes[0].value     # Gaussian factors turn freely
    0.0
    """
    check_count("rows", rows, minimum=BATCHES)
    check_count("seed", seed, minimum=0)
    if not isinstance(model, LinearFactorModel):
        raise ParameterError(
            f"effective_information needs a linear factor model, got {type(model).__name__}."
        )
    if model.latents < 2:
        raise ParameterError(
            "One factor alone has no rotation: effective_information needs at least 2 latents."
        )
    laws = model.prior.coordinates(model.latents)
    loadings, noise, _ = model._gaussian_parameters()
    if model.invertible:
        covariance = torch.zeros(model.latents, model.latents, dtype=torch.float64)
        independent = True
    else:
        scores = Scores.of(torch.zeros_like(loadings[:, :1]).mT, loadings, noise, torch.zeros_like(noise))
        covariance, independent = scores.covariance, scores.uncorrelated
    finite = laws is None or all(math.isfinite(law.fisher_information()) for law in laws)
    if laws is not None and (independent or not finite):
        return _independent(laws, covariance.diagonal().tolist(), exact=independent and finite)
    return _simulated(model, covariance, seed, rows)


def _independent(laws: list[Prior], variances: list[float], exact: bool) -> EffectiveInformation:
    """Return the exact information of independent scores: the pair (E_ij, E_ji) alone, since all laws are symmetric."""
    one = independent_moments(laws, variances)
    own, cross = torch.outer(one.score, one.mean), torch.outer(one.both, one.both)
    size = torch.tensor([spread_of(law) for law in laws], dtype=torch.float64)
    own = own * torch.outer(size, 1 / size).square()
    planes = []
    for i, j in itertools.combinations(range(len(laws)), 2):
        a, b, c = float(own[i, j]), float(own[j, i]), float(cross[i, j])
        excess = a * b - c * c
        planes.append(PlaneInformation((i, j), 4 * excess / (a + b + 2 * c) if excess > NULL else 0.0, 0.0))
    return EffectiveInformation(tuple(planes), None, 0, exact)


def _simulated(model: LinearFactorModel, covariance: Tensor, seed: int, rows: int) -> EffectiveInformation:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        z = model.prior.sample(rows, model.latents).double()
        error = torch.randn(z.shape, dtype=torch.float64)
    size = model.prior.distribution(model.latents).variance.double().sqrt().expand(model.latents)
    with torch.no_grad():
        if model.invertible:
            effective, left_out = information_without_noise(model.prior, z)
        else:
            effective, left_out = information_with_noise(
                model, covariance, z, error, torch.Generator().manual_seed(seed + 1)
            )
    scale = torch.outer(size, 1 / size).flatten()  # to factors of unit variance
    effective, left_out = (value * scale * scale.unsqueeze(-1) for value in (effective, left_out))
    planes = [
        _plane(effective, left_out, plane, model.latents)
        for plane in itertools.combinations(range(model.latents), 2)
    ]
    return EffectiveInformation(tuple(planes), effective, rows, exact=False)


def _plane(effective: Tensor, left_out: Tensor, plane: tuple[int, int], latents: int) -> PlaneInformation:
    """Invert J for one angle, with all other changes of W unknown, or only those of this plane."""
    i, j = plane
    index = torch.tensor([i * latents + j, j * latents + i, i * latents + i, j * latents + j])
    if latents <= ALL_PLANES:
        others = torch.ones(latents**2, dtype=torch.bool)
        others[index] = False
        index = torch.cat([index, others.nonzero().squeeze(1)])
    gradient = torch.zeros(len(index), 1, dtype=torch.float64)
    gradient[0], gradient[1] = 0.5, -0.5

    def information(matrix: Tensor) -> float:
        variance = float(direction_variances(matrix[index][:, index], gradient)[1])
        return 1 / variance if 0 < variance < math.inf else 0.0

    values = torch.tensor([information(matrix) for matrix in left_out], dtype=torch.float64)
    spread = (values - values.mean()).square().sum() * (BATCHES - 1) / BATCHES
    return PlaneInformation(plane, information(effective), float(spread.sqrt()))
