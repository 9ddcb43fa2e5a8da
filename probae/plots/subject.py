"""What is drawn: the loadings of a fit, and the names and planes of its factors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from probae.checks import ParameterError
from probae.inference import Fit


def fitted_loadings(fit: Fit) -> NDArray[np.float64]:
    """Return the loadings (D, K) of a fit, or say that it has none to draw."""
    model = getattr(fit, "model", None)
    loadings = getattr(model, "loadings", None)
    if not isinstance(loadings, Tensor):
        raise ParameterError(
            "fit should come from a model with loadings, such as FactorAnalysis, "
            f"got one of {type(model).__name__}."
        )
    values = loadings.detach().double().numpy(force=True)
    if not np.isfinite(values).all():
        raise ParameterError("The fitted loadings are not finite: fit the model again.")
    return values


def factor_name(index: int) -> str:
    """Return the label of a factor; it shows the index that ``plane`` and ``model.loadings[:, k]`` take.

    Examples
    --------
    >>> factor_name(0)
    'z[0]'
    """
    return f"z[{index}]"


def check_plane(plane: Any, latents: int) -> tuple[int, int]:
    """Return two different factors of ``latents``, or say what ``plane`` should be."""
    if latents < 2:
        raise ParameterError("plane needs two factors to span it, but the model has 1.")
    indices = tuple(plane) if isinstance(plane, Sequence) else (plane,)
    whole = all(isinstance(index, int | np.integer) and not isinstance(index, bool) for index in indices)
    two = len(indices) == len(set(indices)) == 2
    if not (whole and two and all(0 <= index < latents for index in indices)):
        raise ParameterError(f"plane should be two different factors of 0..{latents - 1}, got {plane}.")
    return int(indices[0]), int(indices[1])
