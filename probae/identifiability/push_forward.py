r"""A fitted guide carried along a rotation: its draws turn with the factors, so nothing is invented.

Under W A, A = L R L^{-1}, the factors are A^{-1} z. The image of q(z | x) has the same entropy and the same fit to x,

    ELBO(W A, image of q) - ELBO(W, q) = E_q [log p(A^{-1} z) - log p(z)]

which is exactly 0 for Gaussian factors and any guide, however bad. To turn W and leave the guide where it is compares a
good guide with a bad one, and would "identify" axes in every model: that number is given too, for contrast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import check_count, check_data
from probae.identifiability.likelihood_ratio import check_plane, sample_rows, turning_angles
from probae.identifiability.turned_models import linear_model, turned, turns
from probae.inference import Fit
from probae.inference.expected_log_prior import expected_log_prior
from probae.inference.gaussian_expectation import expectation_of
from probae.inference.refinement import Gaussians, gaussians_of
from probae.linalg import givens
from probae.models import LinearFactorModel
from probae.models.pyro_context import local_parameters
from probae.priors import CorrelatedGaussian

__all__ = ["CarriedGuide", "carried_guide"]

ROWS = 1000
DRAWS = 256  # for each row, of a guide that is not Gaussian


@dataclass(frozen=True, eq=False)
class CarriedGuide:
    """Evidence lower bound of a fitted guide along a rotation, minus its value at the fitted axes, summed over rows.

    Attributes
    ----------
    plane : (int, int)
    degrees : Tensor (A,)
    carried : Tensor (A,)
        The guide's draws turned with the loadings, in nats.
    alone : Tensor (A,)
        The loadings turned and the guide left as it is: not evidence of anything.
    error : Tensor (A,)
        Monte Carlo standard error of ``carried``; zeros for a Gaussian guide, whose expectations are exact.
    samples : int

    Examples
    --------
    >>> import torch
    >>> angles, flat = torch.tensor([0.0, 45.0]), torch.zeros(2)
    >>> print(CarriedGuide((0, 1), angles, flat, -10 * angles, flat, 300).describe())
    the guide's bound, its draws turned with the loadings, changes by 0.00 nats over 300 rows (exact); loadings turned
    alone: -450, which means nothing
    """

    plane: tuple[int, int]
    degrees: Float[Tensor, " angles"]
    carried: Float[Tensor, " angles"]
    alone: Float[Tensor, " angles"]
    error: Float[Tensor, " angles"]
    samples: int

    @property
    def range(self) -> float:
        """Largest minus smallest bound with the guide carried along, in nats."""
        return float(self.carried.max() - self.carried.min())

    def describe(self) -> str:
        """Say the two ranges in a sentence."""
        error = float(self.error.max())
        kind = f"Monte Carlo error {error:.2g}" if error else "exact"
        return (
            f"the guide's bound, its draws turned with the loadings, changes by {self.range:.2f} nats over "
            f"{self.samples} rows ({kind}); loadings turned alone: {float(self.alone.min()):.0f}, which means nothing"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, ready for JSON."""
        return {
            "plane": list(self.plane),
            "degrees": self.degrees.tolist(),
            "carried": self.carried.tolist(),
            "alone": self.alone.tolist(),
            "error": self.error.tolist(),
            "samples": self.samples,
        }


@local_parameters
@torch.no_grad()
def carried_guide(
    fit: Fit,
    x: Any,
    plane: tuple[int, int] = (0, 1),
    degrees: Any = None,
    *,
    seed: int = 0,
) -> CarriedGuide:
    """Turn the draws of a fitted guide with the loadings, and say how its bound changes.

    Parameters
    ----------
    fit : Fit
        Of a linear factor model with noise, whose posterior gives draws: an encoder's, the exact one, weighted draws.
    x : array, DataFrame or Tensor (N, D)
        Complete rows; at most 1,000 of them are used (a seeded choice).
    plane : (int, int)
        The two factors that turn.
    degrees : sequence of float or Tensor (A,), optional
        Angles; 0 to 180 in steps of 5 by default.
    seed : int

    Returns
    -------
    CarriedGuide

    Raises
    ------
    ParameterError
        No fit of a linear factor model with noise, no plane of its factors, or no angles.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> found = pa.carried_guide(pa.fit(pa.FactorAnalysis(9, 3), x), x)
    >>> found.range < 1e-6, bool(found.alone.min() < -10)
    (True, True)
    """
    model = linear_model(fit)
    check_plane(model, plane)
    data = check_data(x, features=model.features, names=model.feature_names)
    rows = sample_rows(data.values, ROWS, check_count("seed", seed, minimum=0))
    angles = turning_angles(degrees, 5.0)
    matrices = turns(model, givens(model.latents, *plane, torch.deg2rad(angles)))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        law = fit.posterior(rows)
        q = gaussians_of(law)
        if q is not None and _closed(model):
            found = _of_gaussian(model, rows, q, matrices)
        else:
            found = _of_draws(model, rows, law.sample(torch.Size((DRAWS,))).double(), matrices)
    return CarriedGuide(plane, angles, *found, len(rows))


def _closed(model: LinearFactorModel) -> bool:
    """Whether the expected log prior of a Gaussian guide has a closed form."""
    return isinstance(model.prior, CorrelatedGaussian) or model.prior.coordinates(model.latents) is not None


def _of_gaussian(
    model: LinearFactorModel, x: Tensor, q: Gaussians, matrices: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    here = expectation_of(model)(x, q.mean, q.root).value
    prior = _expected_prior(model, q.mean, q.root)
    carried, alone = [], []
    for matrix in matrices:
        inverse = torch.linalg.inv(matrix)
        carried.append((_expected_prior(model, q.mean @ inverse.mT, inverse @ q.root) - prior).sum())
        alone.append((expectation_of(turned(model, matrix))(x, q.mean, q.root).value - here).sum())
    return torch.stack(carried), torch.stack(alone), torch.zeros(len(matrices), dtype=torch.float64)


def _expected_prior(model: LinearFactorModel, mean: Tensor, root: Tensor) -> Float[Tensor, " samples"]:
    """Return E log p(z) under N(mean, root root'), up to a constant."""
    if isinstance(model.prior, CorrelatedGaussian):
        inverse = torch.linalg.inv(model.prior.factor.detach().double())
        return -0.5 * ((mean @ inverse.mT).square().sum(1) + (inverse @ root).square().sum((-2, -1)))
    sd = root.square().sum(-1).sqrt()
    return expected_log_prior(model.prior, mean, sd).value.sum(1)


def _of_draws(
    model: LinearFactorModel, x: Tensor, z: Float[Tensor, "draws samples latents"], matrices: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    prior = model.prior.joint_log_prob(z)
    here = model.log_joint(x, z)
    carried, alone, errors = [], [], []
    for matrix in matrices:
        change = model.prior.joint_log_prob(z @ torch.linalg.inv(matrix).mT) - prior
        carried.append(change.mean(0).sum())
        errors.append((change.var(0) / len(z)).sum().sqrt())
        alone.append((turned(model, matrix).log_joint(x, z) - here).mean(0).sum())
    return torch.stack(carried), torch.stack(alone), torch.stack(errors)
