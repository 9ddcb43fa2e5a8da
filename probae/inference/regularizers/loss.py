"""The loss that methods with an encoder minimise: minus an objective, with what regularisers make of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from probae.inference.regularizers.base import Regularizer
from probae.inference.regularizers.marginalized import added_error, marginal_noise


def regularized(
    objective: Callable[..., Tensor], regularizers: Sequence[Regularizer], model: Any, encoder: Any
) -> Callable[[Tensor], Tensor]:
    """Return the mean loss of rows: minus the objective, plus the penalties; over noise the mean, where known.

    Examples
    --------
    >>> import probae as pa, torch
    >>> pair = pa.FactorAnalysis(3, 2), pa.LinearGaussianEncoder(3, 2).double()
    >>> regularized(pa.ELBO(), (pa.WeightDecay(0.1),), *pair)(torch.zeros(4, 3, dtype=torch.float64)).shape
    torch.Size([])
    """
    noise = marginal_noise(objective, regularizers, model, encoder)

    def corrupted(x: Tensor) -> Tensor:
        if noise is not None:
            mean, variance = noise.moments(x)
            return added_error(model, encoder, x, variance) - objective(model, encoder, x, mean)
        seen = x
        for one in regularizers:
            seen = one.corrupt(seen)
        return -objective(model, encoder, x, None if seen is x else seen)

    def loss(x: Tensor) -> Tensor:
        value = corrupted(x)
        for one in regularizers:
            value = value + one.penalty(model, encoder, x)
        return value.mean()

    return loss
