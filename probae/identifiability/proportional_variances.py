r"""Are the variances of factors proportional over known segments? Permutations of the segments' labels.

Scores y = z + N(0, N) have C_s = v_s T T' + N in segment s when they are, and no axes then. Rows standardised under
that hypothesis, u = C_s^{-1/2} y, say with g = (u_i u_j, (u_i^2 - u_j^2) / 2) in which direction a segment is longer
than the others. With W = Cov(g), m_s = W^{-1/2} mean of g in segment s, and w_s = n_s q / (mean |W^{-1/2} g|^2 there),
q the length of g,

.. math:: M = \sum_s w_s (m_s - \bar m)(m_s - \bar m)', \qquad \bar m = \sum_s w_s m_s / \sum_s w_s

is tested in a plane by its largest eigenvalue, since segments that share axes are longer or shorter in one direction,
and over all scores by its trace. Rows of one law are exchangeable, Gaussian or not: the labels are permuted, which is
exact then but for the estimated C_s. Segments of laws of their own are allowed for by w_s (Chung & Romano, 2013).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import scipy.optimize
import torch
from jaxtyping import Float, Int
from scipy import stats
from torch import Tensor

from probae.identifiability.segment_information import SegmentFit

PERMUTATIONS, FEWEST = 999, 299
ROWS = 20_000_000  # of all permutations together, beyond which there are fewer
SINGULAR = 1e-9  # share of the largest eigenvalue of Cov(g) below which a direction is left out


@dataclass(frozen=True)
class ProportionTest:
    """The test that some factors have proportional variances: p-value from permuted labels of the segments.

    Attributes
    ----------
    factors : tuple of int
    statistic : float
    p_value : float
        (1 + larger ones) / (1 + permutations); where none is as large, the tail of the gamma law with the mean and the
        variance of the permuted statistics, if smaller.
    permutations : int
    """

    factors: tuple[int, ...]
    statistic: float
    p_value: float
    permutations: int

    @property
    def plane(self) -> tuple[int, int]:
        """The first two factors."""
        i, j = self.factors[:2]
        return i, j


def plane_tests(fit: SegmentFit, seed: int = 0) -> list[ProportionTest]:
    """Test every plane of two factors for proportional variances."""
    planes = itertools.combinations(range(fit.loadings.shape[1]), 2)
    return [proportion_test(fit, plane, seed) for plane in planes]


def proportion_test(fit: SegmentFit, factors: tuple[int, ...], seed: int = 0) -> ProportionTest:
    """Test whether the variances of some factors are proportional over the segments.

    Examples
    --------
    >>> import torch
    >>> rows = torch.randn(400, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> place, spread = torch.arange(400) % 2, torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=torch.float64)
    >>> alike, apart = rows * spread[place, :1], rows * spread[place]
    >>> eye = torch.eye(2, dtype=torch.float64)
    >>> fits = [SegmentFit(eye, None, True, spread.square(), x, place) for x in (alike, apart)]
    >>> [proportion_test(one, (0, 1)).p_value < 0.01 for one in fits]
    [False, True]
    """
    index = list(factors)
    inverse = fit.pseudo_inverse[index]
    rows = fit.rows @ inverse.mT
    noise = torch.zeros(len(index), len(index), dtype=torch.float64)
    if fit.noise is not None:
        noise = (inverse * fit.noise) @ inverse.mT
    moments = torch.stack([_second(rows[fit.place == level]) for level in range(len(fit.variances))])
    covariances = proportional_fit(moments, noise, fit.shares, fit.variances[:, index].log().mean(1))
    roots = torch.linalg.cholesky(covariances)
    standardised = torch.empty_like(rows)
    for level, root in enumerate(roots):
        here = fit.place == level
        standardised[here] = torch.linalg.solve_triangular(root, rows[here].mT, upper=False).mT
    contrasts = _whitened(_contrasts(standardised))
    found = _permuted(contrasts, fit.place, len(roots), seed, largest=len(index) == 2)
    return ProportionTest(tuple(factors), float(found[0]), _p_value(found), len(found) - 1)


def _second(y: Tensor) -> Tensor:
    return y.mT @ y / len(y)


def _contrasts(u: Float[Tensor, "samples k"]) -> Float[Tensor, "samples contrasts"]:
    """Return the products u_i u_j, and what the squares say but for their sum: no length of u enters on average."""
    k = u.shape[1]
    first, second = torch.triu_indices(k, k, 1)
    own, basis = u.square(), torch.zeros(k, k - 1, dtype=torch.float64)
    for j in range(1, k):  # Helmert
        basis[:j, j - 1], basis[j, j - 1] = 1.0, -float(j)
    basis = basis / (2 * basis.square().sum(0)).sqrt()
    return torch.cat([u[:, first] * u[:, second], own @ basis], 1)


def _whitened(g: Tensor) -> Tensor:
    g = g - g.mean(0)
    values, vectors = torch.linalg.eigh(g.mT @ g / len(g))
    kept = values > SINGULAR * values[-1]
    return g @ (vectors[:, kept] / values[kept].sqrt())


def _permuted(
    g: Float[Tensor, "samples contrasts"],
    place: Int[Tensor, " samples"],
    segments: int,
    seed: int,
    largest: bool,
) -> Float[Tensor, " statistics"]:
    """Return the statistic of the labels as they are, and of permuted ones."""
    counts = torch.bincount(place, minlength=segments).double()
    table = torch.cat([g, g.square().sum(1, keepdim=True)], 1)
    generator = torch.Generator().manual_seed(seed)
    permutations = min(PERMUTATIONS, max(FEWEST, ROWS // len(g)))
    sums = torch.zeros(permutations + 1, segments, table.shape[1], dtype=torch.float64)
    for number, total in enumerate(sums):
        labels = place[torch.randperm(len(g), generator=generator)] if number else place
        total.index_add_(0, labels, table)
    means, spread = sums[..., :-1] / counts[:, None], sums[..., -1] / (counts * g.shape[1])
    weights = (counts / spread.clamp_min(1e-300)).unsqueeze(-1)
    apart = means - (weights * means).sum(1, keepdim=True) / weights.sum(1, keepdim=True)
    if not largest:
        return (weights * apart.square()).sum((1, 2))
    return torch.linalg.eigvalsh(apart.mT @ (weights * apart))[:, -1]


def _p_value(statistics: Tensor) -> float:
    own, others = statistics[0], statistics[1:]
    larger = int((others >= own * (1 - 1e-12)).sum())
    p = (1 + larger) / len(statistics)
    if larger:
        return p
    mean, variance = float(others.mean()), float(others.var())
    return min(p, float(stats.gamma.sf(float(own), mean**2 / variance, scale=variance / mean)))


def proportional_fit(
    moments: Float[Tensor, "segments k k"],
    noise: Float[Tensor, "k k"],
    shares: Float[Tensor, " segments"],
    log_variances: Float[Tensor, " segments"],
) -> Float[Tensor, "segments k k"]:
    """Return the C_s = v_s T T' + N of highest Gaussian likelihood for the second moments of the segments."""
    k = len(noise)
    jitter = 1e-12 * torch.eye(k, dtype=torch.float64)  # T may become singular on the way, never at the end

    def covariances(point: Tensor) -> Tensor:
        mixing = point[: k * k].view(k, k)
        return point[k * k :].exp().view(-1, 1, 1) * (mixing @ mixing.mT) + noise + jitter

    def negative(vector: np.ndarray) -> tuple[float, np.ndarray]:
        point = torch.from_numpy(vector).requires_grad_()
        root = torch.linalg.cholesky(covariances(point))
        trace = (torch.cholesky_inverse(root) * moments).sum((1, 2))
        value = shares @ (root.diagonal(dim1=1, dim2=2).log().sum(1) + 0.5 * trace)
        (gradient,) = torch.autograd.grad(value, point)
        return value.item(), gradient.numpy()

    start = torch.cat([torch.eye(k, dtype=torch.float64).flatten(), log_variances])
    bounds = [(None, None)] * k * k + [(np.log(1e-8), None)] * len(log_variances)
    options = {"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-9}
    answer = scipy.optimize.minimize(
        negative, start.numpy(), jac=True, method="L-BFGS-B", bounds=bounds, options=options
    )
    return covariances(torch.from_numpy(answer.x)).detach()
