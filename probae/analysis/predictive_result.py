"""What a predictive check found: observed statistics among those of simulated data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor

from probae.analysis.row_statistics import RowStatistic
from probae.checks import ParameterError

__all__ = ["PredictiveCheck", "StatisticCheck"]

LEVEL = 0.01  # of the joint p-value, from which a statistic is marked


@dataclass(frozen=True, eq=False)
class StatisticCheck:
    """One statistic with all its entries, observed and simulated.

    Attributes
    ----------
    name : str
    labels : tuple of str
        Of the entries.
    observed : Tensor (M,)
        Of x; the mean over draws where the statistic depends on the parameters.
    replicated : Tensor (R, M)
        Of the simulated sets.
    p_value : Tensor (M,)
        Share of sets with a larger value, ties half (mid-p); NaN where x has no value.
    joint_p_value : float
        How often the entry of a set that is farthest out, in standard deviations, is as far out as that of x: it counts
        all entries at once, and is at least 1 / (R + 1).
    one_sided : bool
        Whether only large values speak against the model.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> check = pa.posterior_predictive_check(pa.fit(pa.FactorAnalysis(9, 3), x), x, sets=20)["correlation"]
    >>> check.labels[:2], check.observed[:2].round(decimals=3)
    (('0, 1', '0, 2'), tensor([0.2970, 0.4410], dtype=torch.float64))
    """

    name: str
    labels: tuple[str, ...]
    observed: Float[Tensor, " entries"]
    replicated: Float[Tensor, "sets entries"]
    p_value: Float[Tensor, " entries"]
    joint_p_value: float
    one_sided: bool

    @classmethod
    def of(
        cls, statistic: RowStatistic, observed: Tensor, replicated: Tensor, features: Sequence[str]
    ) -> Self:
        """Compare observed (R, M), which depend on the draw or do not, and replicated values (R, M)."""
        labels = statistic.labels(features)
        if labels is None:
            count = observed.shape[1]
            labels = (
                ("",)
                if count == 1
                else tuple(features)
                if count == len(features)
                else tuple(map(str, range(count)))
            )
        known = ~(observed.isnan() | replicated.isnan())
        larger = (replicated > observed).double() + 0.5 * (replicated == observed).double()
        p_value = (larger * known).sum(0) / known.sum(0)
        if statistic.needs_covariance:
            joint = float((1 + (replicated >= observed)[known].sum()) / (1 + known.sum()))
        else:
            joint = joint_p_value(observed[0], replicated, statistic.one_sided)
        return cls(statistic.name, labels, observed.mean(0), replicated, p_value, joint, statistic.one_sided)

    @property
    def extreme_p_value(self) -> Float[Tensor, " entries"]:
        """Upper tail for a one-sided statistic, else twice the smaller tail."""
        return self.p_value if self.one_sided else 2 * torch.minimum(self.p_value, 1 - self.p_value)

    @property
    def worst(self) -> int | None:
        """The entry that is farthest from its mean over the sets, in standard deviations; None where all are NaN."""
        distance = _distances(self.observed, self.replicated, self.one_sided)
        return None if bool(distance.isnan().all()) else int(distance.nan_to_num(-math.inf).argmax())

    @property
    def table(self) -> list[dict[str, Any]]:
        """One row for each entry, ready for a DataFrame."""
        columns = (self.observed, *quantiles(self.replicated), self.p_value)
        names = ("observed", "low", "median", "high", "p")
        rows = zip(self.labels, *(column.tolist() for column in columns), strict=True)
        return [
            {"statistic": self.name, "entry": label} | dict(zip(names, row, strict=True))
            for label, *row in rows
        ]


@dataclass(frozen=True, eq=False)
class PredictiveCheck:
    """Statistics of x among those of data simulated from a model; printed as a table.

    Attributes
    ----------
    checks : tuple of StatisticCheck
        Asked for by name: ``check["SRMR"]``.
    kind : {"Posterior", "Prior"}
    rows, sets : int
        Rows of each data set, and how many were simulated.
    notes : tuple of str
        What to know before a p-value is read.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> check = pa.posterior_predictive_check(pa.fit(pa.FactorAnalysis(9, 3), x), x, sets=20)
    >>> print(str(check).splitlines()[0])
    Posterior predictive check: 20 simulated sets of 301 rows
    >>> check.flagged                                                     # no p-value of 20 sets is below .01
    ()
    """

    checks: tuple[StatisticCheck, ...]
    kind: str
    rows: int
    sets: int
    notes: tuple[str, ...]

    def __getitem__(self, name: str) -> StatisticCheck:
        """Return the check of one statistic.

        Raises
        ------
        ParameterError
            It was not asked for.
        """
        for one in self.checks:
            if one.name == name:
                return one
        raise ParameterError(
            f"name should be one of {', '.join(one.name for one in self.checks)}, got {name!r}."
        )

    @property
    def flagged(self) -> tuple[str, ...]:
        """Statistics whose joint p-value is below .01."""
        return tuple(one.name for one in self.checks if one.joint_p_value < LEVEL)

    @property
    def table(self) -> list[dict[str, Any]]:
        """One row for each entry of each statistic, ready for a DataFrame."""
        return [row for one in self.checks for row in one.table]

    def __str__(self) -> str:
        head = ("", "entries", "joint p", "farthest", "observed", "simulated (95 %)", "p")
        rows = [head, *(_line(one) for one in self.checks)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = [f"{self.kind} predictive check: {self.sets} simulated sets of {self.rows} rows"]
        for row in rows:
            cells = (
                cell.ljust(width) if i in (0, 3) else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            lines.append("  ".join(cells).rstrip())
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])


def _line(one: StatisticCheck) -> tuple[str, ...]:
    """Write one statistic with its entry that is farthest out."""
    worst = one.worst
    if worst is None:
        return (one.name, str(len(one.labels)), "-", "", "-", "-", "-")
    low, _, high = (float(value) for value in quantiles(one.replicated[:, worst : worst + 1]))
    return (
        one.name + " *" * (one.joint_p_value < LEVEL),
        str(len(one.labels)),
        f"{one.joint_p_value:.3f}",
        one.labels[worst],
        f"{float(one.observed[worst]):.3g}",
        f"{low:.3g} to {high:.3g}",
        f"{float(one.p_value[worst]):.3f}",
    )


def quantiles(replicated: Float[Tensor, "sets entries"]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the 2.5 % quantile, the median and the 97.5 % quantile of each entry."""
    levels = torch.tensor([0.025, 0.5, 0.975], dtype=replicated.dtype)
    low, median, high = replicated.nanquantile(levels, dim=0)
    return low, median, high


def joint_p_value(
    observed: Float[Tensor, " entries"], replicated: Float[Tensor, "sets entries"], one_sided: bool = False
) -> float:
    """Return how often the entry of a data set that is farthest out is as far out as that of the observed one.

    Mean and standard deviation are those of all sets, the observed one among them: all are then treated alike, so the
    p-value is uniform on 1 / (R + 1), ..., 1 when the observed set is one more simulated one.

    Examples
    --------
    >>> joint_p_value(torch.tensor([9.0]), torch.arange(4.0).unsqueeze(1))
    0.2
    """
    kept = ~observed.isnan()
    if not bool(kept.any()):
        return math.nan
    pool = torch.cat([observed.unsqueeze(0), replicated])[:, kept]
    farthest = _distances(pool, pool, one_sided).nan_to_num(0.0).amax(1)
    return float((farthest >= farthest[0]).double().mean())


def _distances(values: Tensor, replicated: Tensor, one_sided: bool) -> Tensor:
    """Return how many standard deviations values are from the mean over the sets; 0 where the sets do not vary."""
    mean = replicated.nanmean(0)
    sd = (replicated - mean).square().nanmean(0).sqrt()
    distance = (values - mean) / torch.where(sd > 0, sd, torch.ones_like(sd))
    return distance if one_sided else distance.abs()
