r"""Do the data know the rotation of the factors (T1)?

The scores y = (W' Psi^-1 W)^-1 W' Psi^-1 (x - mu) = z + N(0, G^-1), G = W' Psi^-1 W, carry all that x says of z. If z
is spherical, every plane of equally noisy scores is elliptical and T_3, T_4 of `spherical` are chi2(2) there; a plane
that rejects has axes. T_l does not change when the plane is turned within itself.

Rates of rejection at level .01, by simulation (runs in brackets):

    T1 size       one plane, Gaussian / multivariate t5 / t3    n=200  .008 / .007 / .010  (4,000)
                                                                n=500  .010 / .010 / .009  (10,000)
                                                                n=2000 .010 / .006 / .014  (3,000)
                  multivariate t5 with G^-1 = diag(.05, 2)      n=2000 .003 (1,000; not equalised .076)
                                                                n=20,000 .005 (200; not equalised .96)
    T1 power      all 3 planes of 3 Laplace factors (400)       noise .3: n=1000 .74, n=2000 .998
                                                                noise .4, .5: n=2000 .97, .89
                  the same with h = 1 (500)                     noise .3, .5: n=2000 .28, .03
                  after factor analysis, communality .5 (300)   n=2000: 12 features .97, 10 features .91
                  one equalised Laplace plane (300)             n=2000: noise (.2, .6) .98, (.05, 1) .86
"""

from __future__ import annotations

import itertools
import math

import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from probae.identifiability.data_test import DataTest, checked_rows
from probae.identifiability.planes import PlaneTest, RotationInformation
from probae.identifiability.spherical import harmonic_statistic, plane_harmonics
from probae.identifiability.tyler import spherize

MINIMUM_ROWS = 30
SPREAD = 0.2  # spread of the noise variances of a plane, in units of the factors' variance, that is equalised
SPREAD_ROWS = 9.0  # and, because the effect grows as n spread^2, the same spread times sqrt(2000)
COPIES, COPIED_ROWS = (
    8,
    200_000,
)  # noise copies that are averaged; fewer when they would exceed this many rows
LARGEST_DEGREE_4 = 12  # latents up to which degree 4 is tested over all of them: its cost is N K^4


def rotation_information(
    scores: Float[Tensor, "samples latents"],
    noise_covariance: Float[Tensor, "latents latents"] | None = None,
    *,
    seed: int = 0,
) -> RotationInformation:
    r"""Test each plane of scores, and all of them together, for axes (T1).

    In a plane, after its own centring and whitening,

        T_l = 2 |sum_n h(r_n) exp(i l phi_n)|^2 / sum_n h(r_n)^2  ->  chi2(2),   l = 3, 4

    under every elliptical law. Spherical factors with unequally noisy scores are not elliptical: where the eigenvalues
    of the plane's block of G^-1 spread by more than min(.2, 9 / sqrt(n)), the test is repeated on scores made equally
    noisy by added noise N(0, g_max I - block), and the smaller statistic is kept. The added noise is averaged out: f_n
    is the mean of h exp(i l phi) over 8 copies of row n (fewer beyond 25,000 rows), and T_l = s' C^-1 s with
    s = sum f_n, C = sum f_n f_n' in real coordinates.

    Parameters
    ----------
    scores : Tensor (N, K)
        Sufficient scores y = z + noise of factors of unit variance; planes are those of the columns as they come.
    noise_covariance : Tensor (K, K), optional
        G^-1 = (W' Psi^-1 W)^-1. Without it no noise is equalised.
    seed : int
        Seed of the added noise.

    Returns
    -------
    RotationInformation

    Raises
    ------
    DataError
        Fewer than 30 rows, values that are not finite, or columns that follow from the others.
    FitError
        A plane whose rows have no shape: see `tyler_shape`.

    Notes
    -----
    Assumes Gaussian noise (`noise_check`) and independent rows (`row_dependence`). All K (K - 1) / 2 planes are tested
    one after the other, each in some 15 passes over the rows. The degrees are combined by Bonferroni: for symmetric
    factors, which speak in degree 4 only, that finds more than the sum of both (every plane of Laplace factors at noise
    .5: .90 against .86), for exponential ones a little less (n = 500: .84 against .92).

    Examples
    --------
    >>> import torch
    >>> from probae import priors
    >>> _ = torch.manual_seed(0)
    >>> found = rotation_information(priors.Laplace().sample(500, 3).double())
    >>> found.every_plane(), found.group()
    (True, 'SP(3)')
    >>> found = rotation_information(priors.MultivariateStudentT(5.0).sample(500, 3).double())
    >>> found.some_plane(), found.group()
    (False, 'O(3)')
    """
    y = checked_rows(scores, MINIMUM_ROWS)
    samples, latents = y.shape
    block = None if noise_covariance is None else noise_covariance.detach().to(torch.float64)
    generator = torch.Generator().manual_seed(seed)
    planes = []
    for i, j in itertools.combinations(range(latents), 2):
        noise = None if block is None else block[[i, j]][:, [i, j]]
        planes.append(_plane((i, j), y[:, [i, j]], noise, generator))
    overall = _overall(y, block, generator) if latents > 1 and samples >= 10 * latents else ()
    largest = 0.0 if block is None else float(torch.linalg.eigvalsh(block)[-1])
    return RotationInformation(tuple(planes), overall, latents, samples, max(largest, 0.0))


def _plane(
    plane: tuple[int, int], pair: Tensor, noise: Tensor | None, generator: torch.Generator
) -> PlaneTest:
    statistics = [_statistic(f) for f in _harmonics(pair)]
    added = None if noise is None else _equaliser(noise, len(pair))
    if added is not None:
        copies = max(1, min(COPIES, COPIED_ROWS // len(pair)))
        noisy = pair + _normal(generator, copies, *pair.shape) @ added
        means = (f.reshape(copies, -1, 2).mean(0) for f in _harmonics(noisy.reshape(-1, 2)))
        statistics = [min(t, _studentised(f)) for t, f in zip(statistics, means, strict=True)]
    return PlaneTest(plane, (statistics[0], statistics[1]), len(pair), equalised=added is not None)


def _harmonics(pair: Tensor) -> tuple[Tensor, Tensor]:
    sphere = spherize(pair)
    return plane_harmonics(sphere, 3), plane_harmonics(sphere, 4)


def _statistic(f: Tensor) -> float:
    return float(2 * f.sum(0).square().sum() / f.square().sum())


def _studentised(f: Tensor) -> float:
    """Allow for what averaging over copies leaves: a covariance that need not be a multiple of I."""
    total = f.sum(0)
    return float(total @ torch.linalg.solve(f.T @ f, total))


def _equaliser(noise: Tensor, samples: int) -> Tensor | None:
    """Return the symmetric root of g_max I - noise, or None when its largest eigenvalue is too small to matter."""
    values, vectors = torch.linalg.eigh(noise)
    lacking = values[-1] - values
    if float(lacking[0]) <= min(SPREAD, SPREAD_ROWS / math.sqrt(samples)):
        return None
    return (vectors * lacking.clamp_min(0).sqrt()) @ vectors.T


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _overall(y: Tensor, noise: Tensor | None, generator: torch.Generator) -> tuple[DataTest, ...]:
    clouds = [y]
    added = None if noise is None else _equaliser(noise, len(y))
    if added is not None:
        clouds.append(y + _normal(generator, *y.shape) @ added)
    spheres = [spherize(cloud) for cloud in clouds]
    degrees = (3, 4) if y.shape[1] <= LARGEST_DEGREE_4 else (3,)
    tests = []
    for degree in degrees:
        statistic, freedom = min(harmonic_statistic(sphere, degree) for sphere in spheres)
        name = f"All {y.shape[1]} latents, degree {degree}"
        p = float(stats.chi2.sf(statistic, freedom))
        tests.append(DataTest(name, statistic, freedom, p, "asymptotic"))
    return tuple(tests)
