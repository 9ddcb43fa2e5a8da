r"""The prior of the loadings along the rotations that the likelihood does not see.

On a flat orbit the posterior of the rotation is the prior restricted to it, p(R) ~ p(W R), at every number of rows. So

    change(R) = log p(W R) - log p(W)

is what the prior says of the axes, and the standard deviation of an angle under exp(change) is what is left when the
rows are without limit.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import check_data
from probae.identifiability.hadamard import MATTERS
from probae.identifiability.likelihood_ratio import gaussian_change, paired_change, sample_rows
from probae.identifiability.prior_change import has_closed_form, prior_change
from probae.inference import Fit
from probae.inference.identified_group import leaves_rotation
from probae.linalg import givens
from probae.models import LinearFactorModel
from probae.parameter_priors.base import LoadingsPrior

__all__ = ["PriorOrbit", "PriorPlane", "prior_orbit"]

STEP = 2.5  # degrees
ROWS = 1000  # rows that the likelihood is compared on
DRAWN = 4  # factors whose planes are walked through when that takes draws


@dataclass(frozen=True, eq=False)
class PriorPlane:
    """Prior and likelihood along the rotation in the plane of two factors.

    Attributes
    ----------
    plane : (int, int)
    change : Tensor (A,)
        Log prior minus its value at the fitted axes, in nats, at the angles of the orbit.
    error : Tensor (A,)
        Monte Carlo standard error; zeros when exact.
    range : float
        Largest minus smallest, in nats; infinite for a law that prefers exact zeros.
    degrees : float
        From the fitted axes to the prior's best ones, signs and order aside: between -45 and 45.
    sd : float
        Standard deviation in degrees of the angle about there, within 45 degrees, when the prior alone decides.
    likelihood : float or None
        Range of the log-likelihood over the same angles, in nats over all rows.
    """

    plane: tuple[int, int]
    change: Float[Tensor, " angles"]
    error: Float[Tensor, " angles"]
    range: float
    degrees: float
    sd: float
    likelihood: float | None

    @property
    def decides(self) -> bool:
        """Whether the prior says something of the angle (2 nats), and more than the likelihood."""
        return self.range >= MATTERS and self.range > (self.likelihood or 0.0)

    @property
    def explains(self) -> bool:
        """Whether the fitted angle is one that the prior alone would give: two of its deviations, or 5 degrees."""
        return self.decides and abs(self.degrees) <= max(2 * self.sd, 5.0)


@dataclass(frozen=True, eq=False)
class PriorOrbit:
    """What the prior of the loadings says of the axes.

    Attributes
    ----------
    prior : str
    invariant : bool
        p(W R) = p(W) for every R: exactly nothing.
    angles : Tensor (A,)
        Degrees, from -90.
    planes : tuple of PriorPlane

    Examples
    --------
    >>> import torch
    >>> found = PriorOrbit("Normal", True, torch.zeros(1), ())
    >>> found.range, found.explains
    (0.0, False)
    """

    prior: str
    invariant: bool
    angles: Float[Tensor, " angles"]
    planes: tuple[PriorPlane, ...]

    @property
    def range(self) -> float:
        """Largest range of the log prior over the rotations of a plane, in nats."""
        return max((plane.range for plane in self.planes), default=0.0)

    @property
    def explains(self) -> bool:
        """Whether the prior decides in some plane, and the fitted axes are where it would put them in each of these."""
        decided = [plane for plane in self.planes if plane.decides]
        return bool(decided) and all(plane.explains for plane in decided)

    def describe(self) -> str:
        """Say in a sentence what the prior prefers."""
        if self.invariant:
            return f"the prior {self.prior} of the loadings is the same for every rotation (exact)"
        widest = max(self.planes, key=lambda plane: plane.range)
        error = float(widest.error.max())
        kind = f"Monte Carlo error {error:.2g}" if error else "exact"
        i, j = widest.plane
        text = (
            f"the prior {self.prior} of the loadings ranges over {widest.range:.2f} nats ({kind}) along the rotation "
            f"of z[{i}] and z[{j}]"
        )
        if widest.likelihood is not None:
            text += f", the likelihood over {widest.likelihood:.2f}"
        return f"{text}; its best angle is {abs(widest.degrees):.1f} degrees away, known to {widest.sd:.1f} by it alone"

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, ready for JSON (infinity as None)."""
        return {
            "prior": self.prior,
            "invariant": self.invariant,
            "planes": [
                {
                    "plane": list(p.plane),
                    "range_nats": p.range if math.isfinite(p.range) else None,
                    "error_nats": float(p.error.max()),
                    "degrees": p.degrees,
                    "sd_degrees": p.sd,
                    "likelihood_range_nats": p.likelihood,
                    "explains": p.explains,
                }
                for p in self.planes
            ],
        }


def prior_orbit(fit: Fit, x: Any = None, *, seed: int = 0) -> PriorOrbit | None:
    """Say what the prior of the loadings of a fit prefers among rotations; None where they had none.

    Hyperparameters that have to be drawn (`MultiplicativeGamma`) are for the planes of the four largest factors only.

    Parameters
    ----------
    fit : Fit
        Of a linear factor model by a method with a posterior of the parameters, such as `Gibbs`.
    x : array, DataFrame or Tensor (N, D), optional
        The rows it was fitted to: for the likelihood on the same rotations.
    seed : int

    Returns
    -------
    PriorOrbit or None
        None also for one factor, unless its prior is invariant.

    Examples
    --------
    >>> import dataclasses, probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> run = pa.fit(pa.FactorAnalysis(9, 3), x)
    >>> program = run.model.with_priors(loadings=pa.parameter_priors.Normal(1.0))
    >>> print(prior_orbit(dataclasses.replace(run, program=program)).describe())
    the prior Normal of the loadings is the same for every rotation (exact)
    """
    model, prior = fit.model, getattr(fit.program, "parameter_priors", {}).get("loadings")
    if prior is None or not isinstance(model, LinearFactorModel):
        return None
    angles = torch.arange(-90.0, 90.0, STEP, dtype=torch.float64)
    name = type(prior).__name__
    if leaves_rotation(prior):
        return PriorOrbit(name, True, angles, ())
    if model.latents < 2:
        return None
    W = model.loadings.detach().double()
    if isinstance(prior, LoadingsPrior) and prior.sparse and fit.draws is not None:
        W = fit.draws["loadings"][0, -1].double()  # a mean of draws has no zeros
    rows = None
    if x is not None:
        rows = check_data(x, features=model.features, missing="allow").values
    planes = []
    for plane in _planes(prior, W):
        rotations = givens(model.latents, *plane, torch.deg2rad(angles))
        change, error = prior_change(prior, W, rotations, seed=seed)
        likelihood = None if rows is None else _likelihood_range(model, rows, rotations[::2], seed)
        planes.append(_summary(plane, angles, change, error, likelihood))
    return PriorOrbit(name, False, angles, tuple(planes))


def _planes(prior: Any, loadings: Tensor) -> list[tuple[int, int]]:
    """Return the planes to walk through: all, or where that takes draws those of the 4 factors that explain most."""
    factors = list(range(loadings.shape[1]))
    if not has_closed_form(prior):
        factors = sorted(loadings.square().sum(0).argsort(descending=True)[:DRAWN].tolist())
    return list(itertools.combinations(factors, 2))


def _likelihood_range(model: LinearFactorModel, x: Tensor, rotations: Tensor, seed: int) -> float | None:
    """Return the range of the log-likelihood over rotations, in nats over all rows; None without scores."""
    if model.gaussian and model.noise != "none":
        rows = sample_rows(x, ROWS, seed)
        change = gaussian_change(model, rows, rotations)
    elif model.latents <= model.features:
        rows = sample_rows(x[~x.isnan().any(1)], ROWS, seed)
        change = paired_change(model, rows, rotations, seed)[0]
    else:
        return None
    return len(x) / max(1, len(rows)) * float(change.max() - change.min())


def _summary(
    plane: tuple[int, int], angles: Tensor, change: Tensor, error: Tensor, likelihood: float | None
) -> PriorPlane:
    best = change >= change.max() - max(1e-9, 2 * float(error.max()))
    near = angles[best][angles[best].abs().argmin()]
    away = (angles - near + 90.0) % 180.0 - 90.0
    within = away.abs() <= 45.0
    weight = change[within].softmax(0)
    sd = float((weight * away[within].square()).sum().sqrt())
    whole = float(change.max() - change.min())
    degrees = float(near) - 90.0 * round(float(near) / 90.0)
    return PriorPlane(plane, change, error, whole, degrees, sd, likelihood)
