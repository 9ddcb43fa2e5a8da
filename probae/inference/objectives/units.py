"""How the value of an objective follows the units of x."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from probae.inference.objectives.lasso import LassoEnergy, PredictiveSparseDecomposition
from probae.inference.objectives.point import SquaredError


def is_energy(objective: Any) -> bool:
    """Whether the objective is in squared units of x, one unit for all columns; any other is a density.

    Examples
    --------
    >>> is_energy(SquaredError())
    True
    """
    return isinstance(objective, SquaredError | LassoEnergy | PredictiveSparseDecomposition)


def put_back(objective: Any, value: float, units: Float[Tensor, " features"]) -> float:
    """Return the value for x, given that for x / units: an energy is multiplied, a log density shifted.

    Examples
    --------
    >>> import torch
    >>> put_back(SquaredError(), -1.0, torch.tensor([10.0, 10.0]))
    -100.0
    """
    return value * float(units[0]) ** 2 if is_energy(objective) else value - float(units.log().sum())
