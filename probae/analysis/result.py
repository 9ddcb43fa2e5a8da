"""The evidence of rows with its error, and the part every estimator of it shares."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from arviz_stats.base import array_stats
from jaxtyping import Bool, Float
from torch import Tensor

from probae.inference.refinement import Gaussians

__all__ = ["Evidence", "Estimator", "from_log_weights"]

DOUBTFUL_SHAPE = 0.7  # Pareto k-hat above which importance sampling fails (Vehtari et al., 2024)
DOUBTFUL_ERROR = 0.3  # standard error above which the bias, half its square, is not small
TENSORS = ("value", "standard_error", "k_hat", "effective_sample_size")
LOWEST = -690.0  # log of a weight that counts as 0 beside the largest: exp of less underflows
FEWEST = 100  # weights a tail is fitted to


class Estimator:
    """How log p(x) is found; subclasses are small frozen dataclasses with an ``estimate``."""

    def estimate(self, model: Any, x: Any, seed: int, start: Gaussians | None = None) -> Evidence:
        """Return the evidence of each row of x; in a nonlinear model, draws are looked for from a start."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Evidence:
    """Estimate of log p(x) for each row, in nats.

    Attributes
    ----------
    value : Tensor (N,)
    standard_error : Tensor (N,)
        Of ``value``: statistical where draws were used, the change under refinement for `Quadrature`, 0 if exact.
    bound : {"exact", "numerical", "lower", "upper", "approximately upper"}
        On which side of log p(x) the value is on average over the draws.
    estimator : Estimator
        What was run, with its settings.
    k_hat : Tensor (N,) or None
        Pareto shape of the largest importance weights.
    effective_sample_size : Tensor (N,) or None
        Of the weights, (sum w)^2 / sum w^2.

    Examples
    --------
    >>> import probae as pa
    >>> model = pa.ProbabilisticPCA(2, 1)
    >>> print(pa.log_evidence(model, [[0.0, 0.0], [1.0, 2.0]]))
    log p(x) = -7.286 +- 0.000 nats over 2 rows (exact, by Exact())
    """

    value: Float[Tensor, " samples"]
    standard_error: Float[Tensor, " samples"]
    bound: str
    estimator: Estimator
    k_hat: Float[Tensor, " samples"] | None = None
    effective_sample_size: Float[Tensor, " samples"] | None = None

    def negated(self) -> Evidence:
        """Return the estimate of log p from that of log 1/p."""
        return dataclasses.replace(self, value=-self.value)

    def to(self, dtype: torch.dtype) -> Evidence:
        """Return the numbers in another dtype."""
        parts = {name: getattr(self, name) for name in TENSORS}
        cast: dict[str, Any] = {name: None if t is None else t.to(dtype) for name, t in parts.items()}
        return dataclasses.replace(self, **cast)

    @property
    def total(self) -> float:
        """Sum over the rows, in nats."""
        return float(self.value.double().sum())

    @property
    def total_standard_error(self) -> float:
        """Standard error of ``total``: the draws of different rows are independent."""
        return float(self.standard_error.double().square().sum().sqrt())

    @property
    def doubtful(self) -> Bool[Tensor, " samples"]:
        """Rows not to be trusted: k-hat above 0.7, or a standard error above 0.3 nats."""
        wide = ~(self.standard_error <= DOUBTFUL_ERROR)
        return wide if self.k_hat is None else wide | ~(self.k_hat <= DOUBTFUL_SHAPE)

    def __str__(self) -> str:
        text = (
            f"log p(x) = {self.total:.3f} +- {self.total_standard_error:.3f} nats over {len(self.value)} rows "
            f"({self.bound}, by {self.estimator!r})"
        )
        count = int(self.doubtful.sum())
        return f"{text}; {count} rows are doubtful" if count else text


def from_log_weights(
    log_weights: Float[Tensor, "samples draws"], bound: str, estimator: Estimator
) -> Evidence:
    """Average weights of each row, with the standard error of the log by the delta method.

    The mean of weights is never formed: rows differ by hundreds of nats.
    """
    count = log_weights.shape[1]
    value = log_weights.logsumexp(1)
    share = (log_weights - value.unsqueeze(1)).exp()  # sums to 1
    error = (share.var(1) * count).sqrt() if count > 1 else torch.full_like(value, torch.inf)
    return Evidence(
        value - float(np.log(count)),
        error,
        bound,
        estimator,
        tail_shape(log_weights) if count >= FEWEST else None,
        1.0 / share.square().sum(1),
    )


def tail_shape(log_weights: Float[Tensor, "samples draws"]) -> Float[Tensor, " samples"]:
    """Pareto k-hat of each row's largest weights, by arviz-stats.

    It is 0 where they are all equal, and infinite where too few of them are above 0 to fit a tail.
    """
    values = (log_weights - log_weights.amax(1, keepdim=True)).clamp_min(LOWEST)
    draws = values.shape[1]
    tail = values.topk(math.ceil(min(draws / 5, 3 * draws**0.5)) + 1, 1).values[
        :, -1
    ]  # as arviz-stats cuts it
    shape = torch.where(tail > -1e-9, 0.0, torch.inf).double()
    fit = (tail <= -1e-9) & (tail > LOWEST)
    if fit.any():
        # its argument is minus a log weight, as in leave-one-out cross-validation
        shape[fit] = torch.from_numpy(np.asarray(array_stats.psislw(-values[fit].double().numpy())[1]))
    return shape
