"""How the value of an objective follows the units of x, which its class says in ``energy``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from jaxtyping import Float
from torch import Tensor

from probae.inference.objectives.lasso import PredictiveSparseDecomposition


def is_energy(objective: Any) -> bool:
    """Whether the objective is in squared units of x, one unit for all columns; any other is a density.

    Examples
    --------
    >>> import probae as pa
    >>> is_energy(pa.SquaredError()), is_energy(pa.ELBO())
    (True, False)
    """
    return bool(getattr(objective, "energy", False))


def follows_units(objective: Any) -> bool:
    """Whether it is known how the objective follows the units of x; of a user's function it is not.

    Examples
    --------
    >>> import probae as pa
    >>> follows_units(pa.ELBO()), follows_units(lambda model, encoder, x: x.sum(1))
    (True, False)
    """
    return hasattr(objective, "energy")


def in_units(objective: Any, units: Float[Tensor, " features"]) -> Any:
    """Return the objective for x / units.

    Examples
    --------
    >>> import probae as pa, torch
    >>> in_units(pa.PredictiveSparseDecomposition(gamma=1.0), torch.tensor([10.0, 10.0])).gamma
    0.01
    """
    if not isinstance(objective, PredictiveSparseDecomposition):
        return objective
    return replace(objective, gamma=objective.gamma / float(units[0]) ** 2)


def put_back(objective: Any, value: float, units: Float[Tensor, " features"]) -> float:
    """Return the value for x, given that for x / units: an energy is multiplied, a log density shifted.

    Examples
    --------
    >>> import probae as pa, torch
    >>> put_back(pa.SquaredError(), -1.0, torch.tensor([10.0, 10.0]))
    -100.0
    """
    return value * float(units[0]) ** 2 if is_energy(objective) else value - float(units.log().sum())
