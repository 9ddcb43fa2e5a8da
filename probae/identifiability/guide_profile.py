r"""Likelihood and evidence lower bounds along the rotation of two factors: what the model says, what the guide adds.

At every angle the loadings are W A, A = L R L^{-1} (L L' the covariance of the factors), and for each row the guide is
optimised afresh, from the same start: over Gaussians with independent codes (mean-field), and with a full covariance.

    clean(R) = mean-field bound(R) + n gap(R),      gap(R) = 1/2 (sum_k log P_kk - log det P)   at P of W A

is the likelihood if the factors are Gaussian (`hadamard`), and free of the guide to first order if they are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.analysis.evidence import log_evidence
from probae.analysis.result import Estimator
from probae.checks import check_count, check_data
from probae.identifiability.hadamard import factor_root, hadamard_gap, standard_precision
from probae.identifiability.likelihood_ratio import (
    check_plane,
    gaussian_change,
    paired_change,
    sample_rows,
    turning_angles,
)
from probae.identifiability.turned_models import linear_model, turned, turns
from probae.inference import Fit
from probae.inference.gaussian_expectation import expectation_of
from probae.inference.refinement import Gaussians, climb
from probae.linalg import givens
from probae.models import LinearFactorModel
from probae.models.marginal import gaussian_posterior
from probae.models.pyro_context import local_parameters

__all__ = ["GuideProfile", "best_bound", "guide_profile"]

ROWS = 1000  # rows that are used: each is optimised at every angle
STEPS = 200
TOLERANCE = 1e-9  # nats a row, below which its guide has arrived


@dataclass(frozen=True, eq=False)
class GuideProfile:
    """Log-likelihood and two bounds along the rotation of two factors, in nats summed over ``samples`` rows.

    Attributes
    ----------
    plane : (int, int)
    degrees : Tensor (A,)
    likelihood : Tensor (A,)
        Minus its value at the fitted axes.
    error : Tensor (A,)
        Of the likelihood: Monte Carlo or numerical; zeros when exact.
    mean_field, full : Tensor (A,)
        Best bound of Gaussian guides with independent codes and with a full covariance, each minus its value at the
        fitted axes.
    gap : Tensor (A,)
        Hadamard's gap n gap(R), not relative to anything.
    samples : int
    exact : bool
        Whether the gap is exactly that between likelihood and mean-field bound: for Gaussian factors.

    Examples
    --------
    >>> import torch
    >>> angles, flat = torch.tensor([0.0, 45.0]), torch.zeros(2)
    >>> found = GuideProfile((0, 1), angles, flat, flat, 19 * angles / 45, flat, 19 - 19 * angles / 45, 300, True)
    >>> found.ranges["mean-field"], found.ranges["clean"], found.best["mean-field"]
    (19.0, 0.0, 45.0)
    """

    plane: tuple[int, int]
    degrees: Float[Tensor, " angles"]
    likelihood: Float[Tensor, " angles"]
    error: Float[Tensor, " angles"]
    mean_field: Float[Tensor, " angles"]
    full: Float[Tensor, " angles"]
    gap: Float[Tensor, " angles"]
    samples: int
    exact: bool

    @property
    def clean(self) -> Float[Tensor, " angles"]:
        """Mean-field bound with Hadamard's gap added, up to a constant."""
        return self.mean_field + self.gap

    @property
    def ranges(self) -> dict[str, float]:
        """Largest minus smallest value of each curve over the angles, in nats."""
        return {name: float(curve.max() - curve.min()) for name, curve in self._curves().items()}

    @property
    def best(self) -> dict[str, float]:
        """Angle of the largest value of each curve, in degrees; the angle nearest 0 where a curve is flat."""
        nearest = self.degrees.abs().argsort(stable=True)
        return {
            name: float(self.degrees[nearest][_first_best(curve[nearest])])
            for name, curve in self._curves().items()
        }

    def describe(self) -> str:
        """Say the ranges in a sentence."""
        i, j = self.plane
        ranges, error = self.ranges, float(self.error.max())
        kind = f"error {error:.2g}" if error else "exact"
        return (
            f"along the rotation of z[{i}] and z[{j}] over {self.samples} rows the likelihood ranges over "
            f"{ranges['likelihood']:.2f} nats ({kind}), a mean-field bound over {ranges['mean-field']:.2f} "
            f"({ranges['clean']:.2f} without Hadamard's gap), a full Gaussian one over {ranges['full']:.2f}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the curves as plain numbers, ready for JSON."""
        curves = {name: curve.tolist() for name, curve in self._curves().items()}
        return {
            "plane": list(self.plane),
            "degrees": self.degrees.tolist(),
            **curves,
            "error": self.error.tolist(),
            "samples": self.samples,
            "gap_is_exact": self.exact,
        }

    def _curves(self) -> dict[str, Tensor]:
        return {
            "likelihood": self.likelihood,
            "mean-field": self.mean_field,
            "full": self.full,
            "clean": self.clean,
        }


@local_parameters
@torch.no_grad()
def guide_profile(
    model_or_fit: LinearFactorModel | Fit,
    x: Any,
    plane: tuple[int, int] = (0, 1),
    degrees: Any = None,
    estimator: Estimator | None = None,
    *,
    seed: int = 0,
) -> GuideProfile:
    """Compute likelihood, mean-field bound and full-covariance bound along the rotation of two factors.

    Parameters
    ----------
    model_or_fit : LinearFactorModel or Fit
        With noise, and independent or Gaussian factors.
    x : array, DataFrame or Tensor (N, D)
        Complete rows; at most 1,000 of them are used (a seeded choice).
    plane : (int, int)
        The two factors that turn.
    degrees : sequence of float or Tensor (A,), optional
        Angles; 0 to 180 in steps of 7.5 by default.
    estimator : Estimator, optional
        Of log p(x) for non-Gaussian factors, such as ``Quadrature()``; by default importance sampling with the same
        draws at every angle.
    seed : int

    Returns
    -------
    GuideProfile

    Raises
    ------
    ParameterError
        No linear factor model with noise, no plane of its factors, or no angles.
    NotExactError
        Dependent factors that are not Gaussian: their bounds have no closed form.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> found = pa.guide_profile(pa.fit(pa.FactorAnalysis(9, 3), x), x)
    >>> {name: round(nats, 6) < 1e-6 for name, nats in found.ranges.items()}
    {'likelihood': True, 'mean-field': False, 'full': True, 'clean': True}
    """
    model = linear_model(model_or_fit)
    check_plane(model, plane)
    check_count("seed", seed, minimum=0)
    data = check_data(x, features=model.features, names=model.feature_names)
    rows = sample_rows(data.values, ROWS, seed)
    angles = turning_angles(degrees, 7.5)
    rotations = givens(model.latents, *plane, torch.deg2rad(angles))
    models = [model, *(turned(model, turn) for turn in turns(model, rotations))]
    likelihood, error = _likelihood(models, rows, rotations, estimator, seed)
    mean_field, full = (_bound_change(models, rows, diagonal) for diagonal in (True, False))
    precision = standard_precision(model)
    gap = len(rows) * hadamard_gap(rotations.mT @ precision @ rotations)
    return GuideProfile(
        plane, angles, likelihood, error, mean_field, full, gap, len(rows), exact=model.gaussian
    )


def best_bound(
    model: LinearFactorModel, x: Float[Tensor, "samples features"], diagonal: bool
) -> Float[Tensor, " samples"]:
    """Return the largest evidence lower bound that a Gaussian guide reaches for each row, in nats."""
    location, root = gaussian_posterior(x, *model._standard_parameters())
    factor = factor_root(model)
    mean, covariance = location @ factor.mT, factor @ root @ root.mT @ factor.mT
    variance = 1 / torch.linalg.inv(covariance).diagonal()
    own = torch.diag(variance.sqrt()) if diagonal else torch.linalg.cholesky(covariance)
    start = Gaussians(mean, own.expand(len(x), *own.shape), diagonal)
    return climb(expectation_of(model), x, start, STEPS, TOLERANCE)[1]


def _bound_change(models: list[LinearFactorModel], x: Tensor, diagonal: bool) -> Tensor:
    """Return the best bound of each turned model minus that of the first, row by row and then summed."""
    here = best_bound(models[0], x, diagonal)
    return torch.stack([(best_bound(one, x, diagonal) - here).sum() for one in models[1:]])


def _first_best(curve: Tensor) -> int:
    """Return the first place within rounding of the largest value."""
    return int((curve >= curve.max() - 1e-9 * (1 + curve.abs().max())).nonzero()[0])


def _likelihood(
    models: list[LinearFactorModel], x: Tensor, rotations: Tensor, estimator: Estimator | None, seed: int
) -> tuple[Tensor, Tensor]:
    """Return log p(x; W A) - log p(x; W) at every rotation, with its error."""
    model = models[0]
    if model.gaussian:
        change = gaussian_change(model, x, rotations)
        return change, torch.zeros_like(change)
    if estimator is None:
        inverse = turns(
            model, rotations.mT
        )  # z_0 turns by R', z by L R' L^{-1}; rows of draws by its transpose
        return paired_change(model, x, inverse.mT, seed)
    found = [log_evidence(one, x, estimator, seed=seed) for one in models]
    change = torch.stack([(one.value - found[0].value).sum() for one in found[1:]])
    errors = [one.standard_error.square().sum() + found[0].standard_error.square().sum() for one in found[1:]]
    return change.double(), torch.stack(errors).double().sqrt()
