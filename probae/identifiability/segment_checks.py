r"""Does the model of segments hold: one mean, one noise, and axes that all segments share?

The variances of segments single out axes only if nothing else changes with them. With y the scores, N the covariance of
their noise, v_s the variances of segment s and r the part of x that the factors do not reach, the model says

.. math:: E[y | s] = 0, \qquad r \text{ has one law}, \qquad E[y_i y_j | s] = N_{ij} \quad (i \ne j)

A mean that changes is a variance to the model, and noise that changes a variance of the factors it is nearest to: both
turn the axes to where they are not. Two segments always share axes; more need not.
"""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from probae.identifiability.data_test import DataTest
from probae.identifiability.segment_information import SegmentFit

__all__ = ["segment_checks"]

REACHED = 1e-6  # share of a feature's noise outside the factors, below which nothing of it is left to look at


def segment_checks(fit: SegmentFit) -> dict[str, DataTest]:
    r"""Test that the segments have one mean, one noise and common axes.

    - means: sum over segments and factors of (sum y)^2 / sum y^2 -> chi2((S - 1) K);
    - noise: Kruskal and Wallis' test of the size of each feature's residual (Bonferroni over features);
    - axes: in each plane, what is left of the t_s = sum (y_i y_j - N_ij) / sqrt(sum (y_i y_j - N_ij)^2) by any other
      axes close by, which move E[y_i y_j | s] along v_sj and v_si: sum of squares -> chi2(S - 2) (Bonferroni over
      planes).

    The first and the last are self-normalised, so that neither tails nor segments of few rows make them reject. All
    are asymptotic.

    Parameters
    ----------
    fit : SegmentFit
        Centred rows (N, D), their segments, and the fitted loadings, noise and variances (S, K).

    Returns
    -------
    dict of str to DataTest
        Under ``means``, ``noise`` (with noise outside the factors) and ``axes`` (from three segments on).

    Notes
    -----
    N is estimated, and its error, at most sqrt(2 / D) of that of the products where the noise is as large as the
    factors, is not allowed for.

    References
    ----------
    Kruskal & Wallis (1952), J. American Statistical Association 47:583.

    Examples
    --------
    >>> import torch
    >>> rows = torch.randn(600, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> place, eye = torch.arange(600) % 3, torch.eye(2, dtype=torch.float64)
    >>> variances = torch.tensor([[1.0, 4.0], [4.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    >>> rows = rows * variances[place].sqrt()
    >>> moved = rows + torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]], dtype=torch.float64)[place]
    >>> for x in (rows, moved):
    ...     found = segment_checks(SegmentFit(eye, None, True, variances, x - x.mean(0), place))
    ...     print({name: test.p_value < 0.01 for name, test in found.items()})
    {'means': False, 'axes': False}
    {'means': True, 'axes': False}
    """
    inverse = fit.pseudo_inverse
    scores = fit.rows @ inverse.mT
    groups = [scores[fit.place == level] for level in range(len(fit.variances))]
    found = {"means": _means(groups)}
    if fit.noise is not None and len(fit.noise) > scores.shape[1]:
        noise = (inverse * fit.noise) @ inverse.mT
        residual = _residual_test(fit)
        found |= {} if residual is None else {"noise": residual}
    else:
        noise = torch.zeros(scores.shape[1], scores.shape[1], dtype=torch.float64)
    if len(groups) > 2 and scores.shape[1] > 1:
        found["axes"] = _axes(groups, noise, fit.variances)
    return found


def _means(groups: list[Tensor]) -> DataTest:
    squares = [y.sum(0).square() / y.square().sum(0).clamp_min(1e-300) for y in groups]
    statistic, freedom = float(torch.stack(squares).sum()), (len(groups) - 1) * groups[0].shape[1]
    p = float(stats.chi2.sf(statistic, freedom))
    return DataTest("Means of the segments", statistic, freedom, p, "asymptotic")


def _residual_test(fit: SegmentFit) -> DataTest | None:
    """Compare the sizes of the residuals (I - P) Psi^{-1/2} x, P the projection on Psi^{-1/2} W, feature by feature."""
    assert fit.noise is not None
    scale = fit.noise.sqrt()
    basis = torch.linalg.qr(fit.loadings / scale.unsqueeze(1)).Q
    x = fit.rows / scale
    sizes = (x - (x @ basis) @ basis.mT).abs()
    left = (1 - basis.square().sum(1) > REACHED).nonzero().flatten().tolist()
    levels = range(len(fit.variances))
    tests = [stats.kruskal(*(sizes[fit.place == level, d].numpy() for level in levels)) for d in left]
    if not tests:
        return None
    worst = min(range(len(tests)), key=lambda place: tests[place].pvalue)
    p = min(1.0, len(tests) * float(tests[worst].pvalue))
    name = f"Noise of the segments, most apart in column {left[worst]}"
    return DataTest(name, float(tests[worst].statistic), len(levels) - 1, p, "asymptotic")


def _axes(groups: list[Tensor], noise: Tensor, variances: Float[Tensor, "segments latents"]) -> DataTest:
    planes = list(itertools.combinations(range(noise.shape[0]), 2))
    left = [_unexplained(groups, float(noise[plane]), variances, plane) for plane in planes]
    worst = max(range(len(planes)), key=left.__getitem__)
    freedom, (i, j) = len(groups) - 2, planes[worst]
    p = min(1.0, len(planes) * float(stats.chi2.sf(left[worst], freedom)))
    name = f"Correlations in the segments, largest of z[{i}] and z[{j}]"
    return DataTest(name, left[worst], freedom, p, "asymptotic")


def _unexplained(groups: list[Tensor], noise: float, variances: Tensor, plane: tuple[int, int]) -> float:
    """Return the sum of squares of the t_s that is left when the axes may move."""
    i, j = plane
    sums, sizes, moves = [], [], []
    for y, v in zip(groups, variances, strict=True):
        y = y - y.mean(0)  # means that differ are another matter
        product = y[:, i] * y[:, j] - noise * (1 - 1 / len(y))
        sums.append(product.sum())
        sizes.append(product.square().sum().sqrt().clamp_min(1e-300))
        moves.append(len(y) * torch.stack([v[j], v[i]]))
    size = torch.stack(sizes)
    target, design = torch.stack(sums) / size, torch.stack(moves) / size.unsqueeze(1)
    moved = design @ torch.linalg.lstsq(design, target.unsqueeze(1), driver="gelsd").solution
    return float((target - moved.squeeze(1)).square().sum())
