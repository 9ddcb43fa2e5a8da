"""How many of the nearest rows are of the query's class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import DataError, check_count, check_data


@dataclass(frozen=True, eq=False)
class PrecisionCurve:
    """Precision at each count of retrieved rows, a mean over queries.

    Attributes
    ----------
    counts : tuple of int
    precision : Tensor (len(counts),)
    standard_error : Tensor (len(counts),)
        Over queries, taken as independent; NaN for one.

    Examples
    --------
    >>> PrecisionCurve((1, 10), torch.tensor([1.0, 0.9]), torch.tensor([0.0, 0.1]))
    PrecisionCurve(1: 1.000, 10: 0.900)
    """

    counts: tuple[int, ...]
    precision: Float[Tensor, "counts"]
    standard_error: Float[Tensor, "counts"]

    def __repr__(self) -> str:
        values = ", ".join(f"{k}: {p:.3f}" for k, p in zip(self.counts, self.precision.tolist(), strict=True))
        return f"PrecisionCurve({values})"


def precision_at(
    counts: int | Sequence[int], distances: Any, labels: Any, query_labels: Any = None
) -> PrecisionCurve:
    r"""Return the mean share of the k nearest rows that have the query's label.

    Of rows at the same distance as the k-th, which binary codes have many of, every choice counts alike:

    .. math:: \text{precision} = \frac1k \left(g_< + (k - n_<) \frac{g_=}{n_=}\right)

    with n rows, g of them of the query's label, nearer than the k-th and as near.

    Parameters
    ----------
    counts : int or sequence of int
        The k.
    distances : table (Q, N)
        Of each query from each row.
    labels : sequence of N labels
    query_labels : sequence of Q labels, optional
        None if the queries are the rows themselves: then each is left out of its own list.

    Raises
    ------
    DataError
        If sizes do not fit.

    Examples
    --------
    >>> precision_at([1, 2], [[0.0, 1.0, 1.0]], labels=[0, 0, 1], query_labels=[0])
    PrecisionCurve(1: 1.000, 2: 0.750)
    """
    d = check_data(distances).values
    classes = torch.as_tensor(labels)
    asked = classes if query_labels is None else torch.as_tensor(query_labels)
    if d.shape != (len(asked), len(classes)):
        raise DataError(
            f"distances should have shape ({len(asked)}, {len(classes)}), one row per query and one column per label, "
            f"got {tuple(d.shape)}."
        )
    if query_labels is None:
        d.fill_diagonal_(math.inf)
    sizes = (counts,) if isinstance(counts, int) else tuple(counts)
    most = len(classes) - (query_labels is None)
    for k in sizes:
        if check_count("counts", k) > most:
            raise DataError(f"counts should be at most {most}, the rows there are to retrieve, got {k}.")
    same = (asked[:, None] == classes[None]).double()
    each = torch.stack([_precision(d, same, k) for k in sizes])
    queries = each.shape[1]
    spread = each.std(1) if queries > 1 else torch.full_like(each[:, 0], math.nan)
    return PrecisionCurve(sizes, each.mean(1), spread / math.sqrt(queries))


def _precision(d: Tensor, same: Tensor, k: int) -> Tensor:
    last = d.kthvalue(k, dim=1).values[:, None]
    nearer, equal = d < last, d == last
    missing = k - nearer.sum(1)
    return ((nearer * same).sum(1) + missing * (equal * same).sum(1) / equal.sum(1)) / k
