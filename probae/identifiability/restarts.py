r"""Do fits from other starts agree, and up to what: the ladder identity < signed permutation < orthogonal < linear.

Of restarts within 2 nats of the best, every pair is compared after the best change of each class,

    r_C = min over A in C of ||V_1 - V_2 A|| / ||V_1||,      V = Psi^{-1/2} W,      as an angle 2 arcsin(r_C / 2).

The smallest class whose largest angle is within a tolerance explains the spread. That two fits agree is necessary for
axes to mean something, never sufficient: a mean-field guide, or a convention such as principal axes, makes all fits of
Gaussian factors agree.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import DataError, NotExactError, ParameterError, check_count, check_data, check_positive
from probae.identifiability.frames import axes_angle
from probae.identifiability.hadamard import factor_root
from probae.identifiability.likelihood_ratio import sample_rows
from probae.identifiability.simple_structure import row_units
from probae.inference import Fit, ImportancePosterior
from probae.inference.fit import fit as fit_model
from probae.linalg import haar_rotation
from probae.matching import match_columns, principal_angles, procrustes
from probae.models import LinearFactorModel

__all__ = ["CLASSES", "RestartLadder", "refits", "restart_ladder"]

CLASSES = ("identity", "signed permutation", "orthogonal", "linear")
WITHIN = 2.0  # nats from the best
ROWS = 4000  # rows that an estimated likelihood is compared on
HAAR = 200  # rotations that the chance level is the mean of


@dataclass(frozen=True, eq=False)
class RestartLadder:
    """Fits of one model from several starts, and the smallest class of changes that makes the good ones agree.

    Attributes
    ----------
    shortfall : Tensor (F,)
        Log-likelihood of each fit below the best, in nats over all rows.
    error : Tensor (F,)
        Monte Carlo error of the shortfall; zeros where the likelihood is exact.
    kept : tuple of int
        Fits within 2 nats (and twice the error) of the best.
    spread : dict of str to float
        Largest residual over pairs of kept fits after the best change of each class, as an angle in degrees.
    subspace : float
        Largest principal angle between the column spaces of whitened loadings, in degrees.
    turn : float
        Largest angle between the axes of two kept fits up to signs and order, in degrees.
    chance : float
        Mean of that angle for random axes (Monte Carlo over 200 rotations).
    tolerance : float
        Degrees that count as agreement.

    Examples
    --------
    >>> import torch
    >>> spread = {"identity": 40.0, "signed permutation": 25.0, "orthogonal": 0.1, "linear": 0.1}
    >>> zeros = torch.zeros(2, dtype=torch.float64)
    >>> print(RestartLadder(zeros, zeros, (0, 1), spread, 0.1, 25.0, 22.5, 1.0).describe())
    2 of 2 fits within 2 nats of the best agree up to an orthogonal change (within 1.0 degrees); axes up to signs and
    order differ by 25.0 degrees, at random 22 (agreement is necessary, not sufficient)
    """

    shortfall: Float[Tensor, " fits"]
    error: Float[Tensor, " fits"]
    kept: tuple[int, ...]
    spread: dict[str, float]
    subspace: float
    turn: float
    chance: float
    tolerance: float

    @property
    def explained_by(self) -> str | None:
        """Smallest class that brings all kept fits together; None if not even linear changes do."""
        return next((name for name in CLASSES if self.spread[name] <= self.tolerance), None)

    def describe(self) -> str:
        """Say the result in a sentence."""
        head = f"{len(self.kept)} of {len(self.shortfall)} fits within {WITHIN:g} nats of the best"
        if len(self.kept) < 2:
            return f"{head}: nothing to compare"
        found = self.explained_by
        if found is None:
            return (
                f"{head}; no linear change makes them agree ({self.subspace:.1f} degrees between subspaces)"
            )
        up_to = _IN_WORDS[found]
        return (
            f"{head} agree {up_to} (within {self.tolerance:.1f} degrees); axes up to signs and order differ by "
            f"{self.turn:.1f} degrees, at random {self.chance:.0f} (agreement is necessary, not sufficient)"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, ready for JSON."""
        return {
            "shortfall_nats": self.shortfall.tolist(),
            "error_nats": self.error.tolist(),
            "kept": list(self.kept),
            "explained_by": self.explained_by,
            "spread_degrees": self.spread,
            "subspace_degrees": self.subspace,
            "axes_degrees": self.turn,
            "axes_degrees_by_chance": self.chance,
            "tolerance_degrees": self.tolerance,
        }


_IN_WORDS = {
    "identity": "without any change",
    "signed permutation": "up to signs and order",
    "orthogonal": "up to an orthogonal change",
    "linear": "up to a linear change",
}


def restart_ladder(fits: Sequence[Fit], x: Any, *, tolerance: float = 1.0, seed: int = 0) -> RestartLadder:
    """Compare fits of one model to the same rows.

    Parameters
    ----------
    fits : sequence of Fit
        At least two, of linear factor models of one size, such as those of `refits`.
    x : array, DataFrame or Tensor (N, D)
        The rows they were fitted to.
    tolerance : float
        Degrees that count as agreement; two standard errors of the worst plane, if more than 1, allow for fits that
        stopped anywhere within 2 nats.
    seed : int
        Of draws for likelihoods without closed form: the same for all fits, so that their differences are paired.

    Returns
    -------
    RestartLadder

    Raises
    ------
    ParameterError
        Fewer than two fits, or fits of models that cannot be compared.

    Examples
    --------
    >>> import probae as pa
    >>> x, model = pa.datasets.holzinger_swineford().x, pa.FactorAnalysis(9, 3)
    >>> found = pa.restart_ladder([pa.fit(model, x, seed=seed) for seed in range(3)], x)
    >>> found.explained_by, found.kept                     # maximum likelihood puts its answer on principal axes
    ('identity', (0, 1, 2))
    """
    models = _models(fits)
    check_positive("tolerance", tolerance)
    data = check_data(x, features=models[0].features, missing="allow")
    shortfall, error = _shortfall(models, data.values, check_count("seed", seed, minimum=0))
    kept = tuple(int(i) for i in torch.nonzero(shortfall - 2 * error <= WITHIN).flatten())
    best = models[int(shortfall.argmin())]
    units = row_units(best)
    whitened = [models[i].loadings.detach().double() @ factor_root(models[i]) / units for i in kept]
    spread, subspace, turn = dict.fromkeys(CLASSES, 0.0), 0.0, 0.0
    for first, second in itertools.combinations(whitened, 2):
        for name, angle in _residuals(first, second).items():
            spread[name] = max(spread[name], angle)
        subspace = max(subspace, float(principal_angles(first, second)[0]))
        turn = max(turn, axes_angle(procrustes(first, second).rotation))
    haar = haar_rotation(best.latents, torch.Generator().manual_seed(0), count=HAAR)
    chance = sum(axes_angle(rotation) for rotation in haar) / HAAR
    return RestartLadder(shortfall, error, kept, spread, subspace, turn, chance, float(tolerance))


def refits(fit: Fit, x: Any, count: int = 8, *, seed: int = 1) -> list[Fit]:
    """Fit the same model by the same method from other seeds; the given fit stands first.

    Parameters
    ----------
    fit : Fit
    x : array, DataFrame or Tensor (N, D)
        The rows it was fitted to.
    count : int
        Further fits.
    seed : int
        Of the first; each further one adds 1, and that of the given fit is left out.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> [run.seed for run in refits(pa.fit(pa.FactorAnalysis(9, 3), x), x, count=2)]
    [0, 1, 2]
    """
    program = fit.model if fit.program is None else fit.program
    seeds = [s for s in range(seed, seed + check_count("count", count) + 1) if s != fit.seed][:count]
    return [fit, *(fit_model(program, x, fit.method, seed=other) for other in seeds)]


def _models(fits: Sequence[Fit]) -> list[LinearFactorModel]:
    models = [getattr(one, "model", None) for one in fits]
    if len(models) < 2:
        raise ParameterError(f"restart_ladder needs at least two fits, got {len(models)}.")
    sizes = {
        (model.features, model.latents, model.noise) if isinstance(model, LinearFactorModel) else None
        for model in models
    }
    if None in sizes or len(sizes) > 1:
        raise ParameterError("restart_ladder compares fits of one linear factor model, got different models.")
    return models  # type: ignore[return-value]


def _residuals(first: Tensor, second: Tensor) -> dict[str, float]:
    """Return the residual of each class, as an angle; never more than that of a smaller class."""
    linear = first - second @ torch.linalg.lstsq(second, first).solution
    found = [
        float((first - second).norm() / first.norm()),
        match_columns(first, second).distance,
        procrustes(first, second).distance,
        float(linear.norm() / first.norm()),
    ]
    angles = (math.degrees(2 * math.asin(min(1.0, r / 2))) for r in itertools.accumulate(found, min))
    return dict(zip(CLASSES, angles, strict=True))


def _shortfall(models: list[LinearFactorModel], x: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Return how far each log-likelihood is below the best, in nats over all rows, and the error of that."""
    try:
        rows = [model.log_likelihood(x) for model in models]
        best = max(rows, key=lambda values: float(values.sum()))
        shortfall = torch.stack([(best - values).sum() for values in rows]).double()
        return shortfall, torch.zeros_like(shortfall)
    except (NotExactError, DataError):
        complete = sample_rows(x[~x.isnan().any(1)], ROWS, seed)
    halves = []
    for number in (2 * seed, 2 * seed + 1):
        total = torch.stack(
            [ImportancePosterior(m, seed=number).log_likelihood(complete).double() for m in models]
        )
        halves.append(total)
    weight = len(x) / len(complete)
    mean = 0.5 * weight * (halves[0] + halves[1])
    top = int(mean.sum(1).argmax())
    error = 0.5 * weight * ((halves[0] - halves[1]) - (halves[0] - halves[1])[top]).sum(1).abs()
    return (mean[top] - mean).sum(1), error
