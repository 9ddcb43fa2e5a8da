"""How many of the nearest rows are of the query's class."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from probae.checks import DataError, ParameterError, check_count
from probae.retrieval.tables import check_named


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
        Numbers, strings, booleans: anything of one kind that can be sorted.
    query_labels : sequence of Q labels, optional
        None if the queries are the rows themselves: then each is left out of its own list.

    Raises
    ------
    DataError
        If sizes do not fit, or labels are not one for each row, complete and of one kind.
    ParameterError
        If counts are no whole numbers, or none.

    Examples
    --------
    >>> precision_at([1, 2], [[0.0, 1.0, 1.0]], labels=[0, 0, 1], query_labels=[0])
    PrecisionCurve(1: 1.000, 2: 0.750)
    >>> precision_at(1, [[0.0, 1.0, 1.0]], labels=["ant", "bee", "bee"], query_labels=["bee"])
    PrecisionCurve(1: 0.000)
    """
    d = check_named("distances", distances)
    classes, asked = numbered(labels, query_labels)
    if d.shape != (len(asked), len(classes)):
        raise DataError(
            f"distances should have shape ({len(asked)}, {len(classes)}), one row per query and one column per label, "
            f"got {tuple(d.shape)}."
        )
    if query_labels is None:
        d.fill_diagonal_(math.inf)
    several = isinstance(counts, Iterable) and getattr(counts, "ndim", 1) > 0
    sizes = tuple(check_count("counts", k) for k in (counts if several else (counts,)))  # type: ignore[union-attr]
    if not sizes:
        raise ParameterError("counts should hold at least one number of rows to retrieve, got none.")
    most = len(classes) - (query_labels is None)
    if max(sizes) > most:
        raise DataError(f"counts should be at most {most}, the rows there are to retrieve, got {max(sizes)}.")
    same = (asked[:, None] == classes[None]).double()
    each = torch.stack([_precision(d, same, k) for k in sizes])
    queries = each.shape[1]
    spread = each.std(1) if queries > 1 else torch.full_like(each[:, 0], math.nan)
    return PrecisionCurve(sizes, each.mean(1), spread / math.sqrt(queries))


def numbered(labels: Any, query_labels: Any) -> tuple[Int[Tensor, "rows"], Int[Tensor, "queries"]]:
    """Return a number for each label, the same for equal ones; queries without labels have those of the rows."""
    rows = check_labels("labels", labels)
    queries = rows[:0] if query_labels is None else check_labels("query_labels", query_labels)
    text = [each.dtype.kind in "USTO" for each in (rows, queries)]
    if text[0] != text[1]:
        raise DataError(
            f"query_labels should be of the kind of labels, got {queries.dtype} and {rows.dtype}."
        )
    both = np.unique(np.concatenate([rows, queries]), return_inverse=True)[1]
    known = torch.from_numpy(both[: len(rows)])
    return known, known if query_labels is None else torch.from_numpy(both[len(rows) :])


def check_labels(name: str, labels: Any) -> NDArray[Any]:
    """Return labels as an array, or say why they are none."""
    try:
        found = np.asarray(labels)
    except ValueError:
        raise DataError(
            f"{name} should be a sequence of one label a row, got lists of several lengths."
        ) from None
    if found.ndim != 1:
        raise DataError(f"{name} should be a sequence of one label a row, got shape {found.shape}.")
    try:
        complete = bool((found == found).all()) and len(np.unique(found)) > 0
    except TypeError:  # such as None among strings
        complete = False
    if not complete:
        raise DataError(
            f"{name} should be complete and of one kind, got {found.dtype} with {found[:5].tolist()}."
        )
    return found


def _precision(d: Tensor, same: Tensor, k: int) -> Tensor:
    last = d.kthvalue(k, dim=1).values[:, None]
    nearer, equal = d < last, d == last
    missing = k - nearer.sum(1)
    return ((nearer * same).sum(1) + missing * (equal * same).sum(1) / equal.sum(1)) / k
