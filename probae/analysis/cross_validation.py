"""How well rows are predicted by a fit that has not seen them: one result for every way of leaving out."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["CrossValidation"]

FEW_ROWS = 100  # below which the standard error of a sum over rows is itself poor (Sivula et al., 2020)


@dataclass(frozen=True, eq=False)
class CrossValidation:
    r"""Log predictive density of each row under a fit without it, in nats, float64.

    .. math:: \text{elpd}_n = \log p(x_n \mid x_{-n}), \qquad \text{elpd} = \sum_n \text{elpd}_n

    Attributes
    ----------
    pointwise : Tensor (N,)
        Larger is better.
    scheme : str
        What was left out: only results of one scheme can be compared.
    rows : str
        Fingerprint of x: only results on the same rows can be compared.
    in_sample : Tensor (N,) or None
        The same with the row among the data of the fit.
    k_hat : Tensor (N,) or None
        Pareto shape of the importance weights of each row, or of the densities averaged where the fit was without it.
    monte_carlo_error : Tensor (N,) or None
        Standard error of ``pointwise`` from a finite number of draws.
    limit : float
        k-hat above which a row is not to be trusted, min(1 - 1 / log10 S, .7) with S draws.
    notes : tuple of str
        What to know before the numbers are used.

    Examples
    --------
    >>> import probae as pa
    >>> found = pa.k_fold(pa.ProbabilisticPCA(9, 3), pa.datasets.holzinger_swineford().x, folds=3)
    >>> print(found)
    elpd (3 folds of rows, seed 0, 301 rows) = -3794.57, standard error 44.75
    """

    pointwise: Float[Tensor, " samples"]
    scheme: str
    rows: str
    in_sample: Float[Tensor, " samples"] | None = None
    k_hat: Float[Tensor, " samples"] | None = None
    monte_carlo_error: Float[Tensor, " samples"] | None = None
    limit: float = 0.7
    notes: tuple[str, ...] = field(default=())

    @property
    def total(self) -> float:
        """Sum over the rows, elpd."""
        return float(self.pointwise.sum())

    @property
    def standard_error(self) -> float:
        """Standard error of ``total`` as an estimate for other rows: the root of N times the variance over rows."""
        count = len(self.pointwise)
        return float(self.pointwise.std() * math.sqrt(count)) if count > 1 else math.nan

    @property
    def effective_parameters(self) -> float:
        """What the fit gains by seeing a row, summed: p_loo; NaN where that was not computed."""
        return math.nan if self.in_sample is None else float((self.in_sample - self.pointwise).sum())

    @property
    def doubtful(self) -> Bool[Tensor, " samples"]:
        """Rows whose k-hat is above the limit."""
        if self.k_hat is None:
            return torch.zeros(len(self.pointwise), dtype=torch.bool)
        return ~(self.k_hat <= self.limit)

    def __str__(self) -> str:
        count = len(self.pointwise)
        lines = [
            f"elpd ({self.scheme}, {count} rows) = {self.total:.2f}, standard error {self.standard_error:.2f}"
        ]
        if self.monte_carlo_error is not None:
            error = float(self.monte_carlo_error.square().sum().sqrt())
            lines.append(f"Monte Carlo error {error:.2g}")
        if self.in_sample is not None:
            lines.append(f"effective parameters (p_loo) {self.effective_parameters:.2f}")
        if self.k_hat is not None:
            bad = int(self.doubtful.sum())
            lines.append(
                f"Pareto k above {self.limit:.2f}: {bad} rows; largest {float(self.k_hat.max()):.2f}"
            )
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])


def fingerprint(values: Float[Tensor, "samples features"]) -> str:
    """Return a short hash of the rows: their values, their order, and which entries are missing.

    Examples
    --------
    >>> import torch
    >>> x = torch.zeros(2, 3, dtype=torch.float64)
    >>> fingerprint(x) == fingerprint(x.clone()), fingerprint(x) == fingerprint(x + 1)
    (True, False)
    """
    array = np.ascontiguousarray(values.double().numpy()) + 0.0  # no minus zero
    array[np.isnan(array)] = np.nan  # one NaN for all
    return hashlib.sha256(str(array.shape).encode() + array.tobytes()).hexdigest()[:16]


def few_rows(count: int) -> tuple[str, ...]:
    """Return a note where the standard error over so few rows says little."""
    if count >= FEW_ROWS:
        return ()
    return (f"with {count} rows, fewer than {FEW_ROWS}, the standard error tends to be too small.",)


def group_of_rows(groups: Sequence[Hashable]) -> tuple[list[int], int]:
    """Return the number of the group of each row, in order of appearance, and how many groups there are.

    Examples
    --------
    >>> group_of_rows(["b", "a", "b"])
    ([0, 1, 0], 2)
    """
    seen: dict[Hashable, int] = {}
    labels = [seen.setdefault(one, len(seen)) for one in groups]
    return labels, len(seen)
