r"""Are ranks uniform on 0, ..., L? A chi-square test, which looks at all ranks alike, and the band of the ECDF.

At level .01 and with L = 99, of 1,000 ranks both find a posterior 20 % too narrow for sure, and chi-square one 10 %
too narrow every second time; the ECDF finds one shifted by .2 sd for sure and one by .1 sd every second time, of which
chi-square finds one of five. docs/calibration.md has the simulation.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import stats
from torch import Tensor

LEVEL = 0.01  # of false alarm, shared by the quantities
BINS = 20  # of the chi-square test
NULL = 20_000  # sets of ranks simulated for the band of the ECDF


def random_ranks(below: Int[Tensor, "*any"], equal: Int[Tensor, "*any"]) -> Int[Tensor, "*any"]:
    """Return how many draws are below the truth, its place among the equal ones at random.

    Examples
    --------
    >>> import torch
    >>> random_ranks(torch.tensor([3, 5]), torch.tensor([0, 0]))
    tensor([3, 5])
    """
    return below + (torch.rand(equal.shape, dtype=torch.float64) * (equal + 1)).long()


def chi_square(ranks: Int[Tensor, "samples quantities"], draws: int) -> Float[Tensor, " quantities"]:
    """p-values of uniform ranks in 20 bins; bins of unequal width have unequal expectations.

    From the chi-square law, the limit of many ranks: of 100 ranks, values below 1e-4 come about twice as often as that.

    Examples
    --------
    >>> import torch
    >>> ranks = torch.column_stack([torch.arange(100), torch.arange(100) // 2])
    >>> chi_square(ranks, 99).round(decimals=3)
    tensor([1., 0.], dtype=torch.float64)
    """
    edges = [math.floor(b * (draws + 1) / BINS) for b in range(BINS + 1)]
    expected = np.diff(edges) * len(ranks) / (draws + 1)
    values = [
        stats.chisquare(np.histogram(column, bins=np.asarray(edges) - 0.5)[0], expected).pvalue
        for column in ranks.T.numpy()
    ]
    return torch.tensor(values, dtype=torch.float64)


def ecdf(ranks: Int[Tensor, "samples quantities"], draws: int) -> Float[Tensor, " quantities"]:
    """p-values of the largest standardised distance between the ECDF of the ranks and the uniform one.

    Examples
    --------
    >>> import torch
    >>> ranks = torch.column_stack([torch.arange(100), torch.arange(100) // 2])
    >>> ecdf(ranks, 99).round(decimals=3)
    tensor([1., 0.], dtype=torch.float64)
    """
    null = _null_distances(len(ranks), draws, _sets(ranks.shape[1]))
    distances = np.array([_distance(np.bincount(c, minlength=draws + 1)) for c in ranks.T.numpy()])
    larger = len(null) - np.searchsorted(null, distances * (1 - 1e-12))
    return torch.from_numpy((larger + 1.0) / (len(null) + 1.0))


def ecdf_band(count: int, draws: int, quantities: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return parts u of the range and half the width of the band around u that holds the whole ECDF.

    With chance 1 - .01 / quantities, for all ranks together: the band of the test of `ecdf`.

    Examples
    --------
    >>> place, half = ecdf_band(1000, 99)
    >>> round(float(place[49]), 3), round(float(half[49]), 2)          # about 3.6 x sqrt(.25 / 1000)
    (0.5, 0.06)
    """
    null = _null_distances(count, draws, _sets(quantities))
    place = np.arange(1, draws + 1) / (draws + 1)
    critical = np.quantile(null, 1 - LEVEL / quantities)
    return place, critical * np.sqrt(place * (1 - place))


def _sets(quantities: int) -> int:
    """Sets of ranks to simulate: so many that a level shared by the quantities can be reached."""
    return max(NULL, math.ceil(2 / LEVEL) * quantities)


def _distance(counts: np.ndarray) -> Any:
    """Return the largest |ECDF - uniform| / its standard deviation, over all ranks but the last."""
    size, total = counts.shape[-1], counts.sum(-1, keepdims=True)
    uniform = np.arange(1, size) / size
    deviation = counts.cumsum(-1)[..., :-1] / total - uniform
    return np.abs(deviation / np.sqrt(uniform * (1 - uniform))).max(-1)


@functools.lru_cache(maxsize=8)
def _null_distances(count: int, draws: int, sets: int) -> np.ndarray:
    """Sorted distances of uniform ranks; always the same."""
    generator = np.random.default_rng(0)
    chances = np.full(draws + 1, 1 / (draws + 1))
    blocks = [
        _distance(generator.multinomial(count, chances, size=1000)) for _ in range(math.ceil(sets / 1000))
    ]
    return np.sort(np.concatenate(blocks))
