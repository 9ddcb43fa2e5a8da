"""Two classical tables of mental tests, typed in or shipped as a small file."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib import resources

import torch
from jaxtyping import Float
from torch import Tensor

from probae.datasets.base import Dataset

TESTS = {
    "x1": "visual",
    "x2": "cubes",
    "x3": "lozenges",
    "x4": "paragraph",
    "x5": "sentence",
    "x6": "wordmeaning",
    "x7": "addition",
    "x8": "counting",
    "x9": "straightcurved",
}


@dataclass(frozen=True, eq=False)
class CovarianceTable:
    """A published covariance matrix (D, D), the number of rows behind it, its D names, and its source."""

    covariance: Float[Tensor, "features features"]
    count: int
    names: tuple[str, ...]
    source: str


def holzinger_swineford() -> Dataset:
    """Load nine mental tests of 301 seventh- and eighth-grade pupils, a standard of factor analysis.

    x1 visual, x2 cubes, x3 lozenges; x4 paragraph, x5 sentence, x6 wordmeaning; x7 addition, x8 counting,
    x9 straightcurved: three tests each of spatial, verbal and speed ability, on the scales used since [2]_.

    Returns
    -------
    Dataset
        x has shape (301, 9). `extra` holds `tests` (the nine descriptive names), `school` (a tuple of
        "Pasteur", 156 rows, and "Grant-White", 145 rows), `sex` (codes 1 and 2) and `grade` (7 or 8, NaN
        for one pupil).

    References
    ----------
    .. [1] Holzinger, K. J. & Swineford, F. (1939). A study in factor analysis: The stability of a bi-factor
       solution. Supplementary Educational Monographs 48, University of Chicago.
    .. [2] Joreskog, K. G. (1969). A general approach to confirmatory maximum likelihood factor analysis.
       Psychometrika 34, 183-202.

    Examples
    --------
    >>> data = holzinger_swineford()
    >>> data.x.shape, data.feature_names[:3], data.extra["tests"][:3]
    (torch.Size([301, 9]), ('x1', 'x2', 'x3'), ('visual', 'cubes', 'lozenges'))
    """
    file = resources.files("probae.datasets") / "data" / "holzinger_swineford.csv"
    with file.open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    return Dataset(
        x=torch.tensor([[float(row[name]) for name in TESTS] for row in rows], dtype=torch.float64),
        feature_names=tuple(TESTS),
        source="Holzinger, K. J. & Swineford, F. (1939). A study in factor analysis: The stability of a "
        "bi-factor solution. Supplementary Educational Monographs 48, University of Chicago.",
        extra={
            "tests": tuple(TESTS.values()),
            "school": tuple(row["school"] for row in rows),
            "sex": torch.tensor([int(row["sex"]) for row in rows]),
            "grade": torch.tensor([float(row["grade"] or "nan") for row in rows], dtype=torch.float64),
        },
    )


def ability_cov() -> CovarianceTable:
    """Return the covariance of six tests of ability and intelligence taken by 112 people.

    Six scores: a non-verbal measure of general intelligence, picture completion, block design, mazes,
    reading comprehension, vocabulary. R ships the same matrix as
    `ability.cov`. Whether 112 or 111 divided the sums is not recorded; factor analysis of the correlations
    does not depend on it.

    Returns
    -------
    CovarianceTable
        Ready for `SufficientStatistics.from_covariance(table.covariance, count=table.count)`.

    References
    ----------
    Smith, G. A. & Stanley, G. (1983). Clocking g: relating intelligence and measures of timed performance.
    Intelligence 7, 353-368.

    Examples
    --------
    >>> table = ability_cov()
    >>> table.count, table.names[0], table.covariance[0, 0].item()
    (112, 'general', 24.641)
    """
    lower = [
        [24.641],
        [5.991, 6.700],
        [33.520, 18.137, 149.831],
        [6.023, 1.782, 19.424, 12.711],
        [20.755, 4.936, 31.430, 4.757, 52.604],
        [29.701, 7.204, 50.753, 9.075, 66.762, 135.292],
    ]
    covariance = torch.tensor([row + [0.0] * (6 - len(row)) for row in lower], dtype=torch.float64)
    return CovarianceTable(
        covariance=covariance + covariance.tril(-1).T,
        count=112,
        names=("general", "picture", "blocks", "maze", "reading", "vocab"),
        source="Smith, G. A. & Stanley, G. (1983). Clocking g: relating intelligence and measures of timed "
        "performance. Intelligence 7, 353-368.",
    )
