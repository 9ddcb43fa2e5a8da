"""The numbers of a problem, as the compiled density reads them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from probae.checks import ParameterError
from probae.inference.nuts.coordinates import Coordinates
from probae.inference.nuts.kernel import Target
from probae.inference.parameter_density import check_noise
from probae.inference.parameter_draws import Problem
from probae.models.patterns import Patterns
from probae.parameter_priors import Fixed, HalfNormal, InverseGamma, NoisePrior, Normal
from probae.statistics import SufficientStatistics

__all__ = ["mean_law", "needs_mean", "noise_coefficients", "precision_of", "target_of"]

THIN = 3  # columns of a scatter that one row costs as much as: sums of products, scores and residuals


def noise_coefficients(prior: NoisePrior, features: int) -> Float[Tensor, "3 features"]:
    r"""Return a, b, c of the law of log psi, a log psi - b / psi - c psi + constant.

    Raises
    ------
    ParameterError
        The law is of another form.
    """
    a: float | Tensor
    b: float | Tensor
    c: float | Tensor
    if isinstance(prior, InverseGamma):
        a, b, c = -prior.shape, prior.scale, 0.0
    elif isinstance(prior, HalfNormal):
        a, b, c = 0.5, 0.0, 0.5 / torch.as_tensor(prior.scale, dtype=torch.float64).square()
    else:
        raise ParameterError(
            f"NUTS needs InverseGamma or HalfNormal noise, or a distribution of Pyro, got {prior!r}."
        )
    values = [torch.as_tensor(value, dtype=torch.float64).expand(features) for value in (a, b, c)]
    return torch.stack(values)


def mean_law(problem: Problem) -> tuple[Float[Tensor, " features"], Float[Tensor, " features"]]:
    """Return location and precision of the prior of the mean; a flat one has precision 0."""
    features = problem.model.features
    if not isinstance(problem.mean, Normal):
        return torch.zeros(features, dtype=torch.float64), torch.zeros(features, dtype=torch.float64)
    location = torch.as_tensor(problem.mean.loc, dtype=torch.float64).expand(features)
    return location, 1 / torch.as_tensor(problem.mean.scale, dtype=torch.float64).square().expand(features)


def needs_mean(problem: Problem) -> bool:
    """Whether the mean has to be sampled: it is random, and integrating it out couples groups of rows."""
    return not isinstance(problem.data, SufficientStatistics) and not isinstance(problem.mean, Fixed)


def precision_of(
    variance: Float[Tensor, "*#chains #features #latents"], chains: int, place: Coordinates
) -> NDArray[np.float64]:
    """Return the precisions (C, K, D) of the coordinates of the loadings, given the variances of the loadings."""
    whole = (1 / variance).expand(chains, place.features, place.latents)[..., : place.columns]
    return np.ascontiguousarray(whole.numpy()[:, list(place.order)].swapaxes(1, 2))


def target_of(problem: Problem, place: Coordinates) -> Target:
    """Return what the density reads, features in the order of the coordinates."""
    order = list(place.order)
    location, precision = mean_law(problem)
    noise = noise_coefficients(problem.noise, place.features).numpy()[:, order]
    centre = torch.stack([location, precision]).numpy()[:, order]
    check_noise(problem)
    groups = _complete(problem) if isinstance(problem.data, SufficientStatistics) else _patterns(problem)
    shifts, masks, means, rows = (
        np.ascontiguousarray(part[:, order])
        for part in (groups.shifts, groups.masks, groups.means, groups.rows)
    )
    scatter = groups.scatter
    flags = (place.gauge, place.isotropic, place.sampled_mean, len(scatter) > 0)
    return Target(
        np.array([place.features, place.columns, place.latents, *flags], dtype=np.int64),
        np.ascontiguousarray(noise),
        np.ascontiguousarray(centre),
        groups.counts,
        shifts,
        masks,
        means,
        np.concatenate([[0], np.cumsum(groups.lengths)]).astype(np.int64),
        rows,
        np.ascontiguousarray(scatter[order][:, order]) if len(scatter) else scatter,
        np.zeros((3, 0)),
    )


class Groups(NamedTuple):
    """Rows by what they observe; the names are those of `Target`."""

    counts: NDArray[np.float64]
    shifts: NDArray[np.float64]
    masks: NDArray[np.float64]
    means: NDArray[np.float64]
    lengths: list[int]
    rows: NDArray[np.float64]
    scatter: NDArray[np.float64]


def _complete(problem: Problem) -> Groups:
    """Groups of complete rows: those about the mean, and the mean itself where its prior is normal."""
    data = problem.data
    assert isinstance(data, SufficientStatistics)
    features, count = data.features, data.count
    location, precision = mean_law(problem)
    random = isinstance(problem.mean, Normal)
    fixed = isinstance(problem.mean, Fixed)
    centre = problem.fixed_mean if fixed else location
    apart = (count**0.5 * (data.mean - centre))[None]
    own = data.root is not None and THIN * count < features
    rows = data.root if own and data.root is not None else torch.zeros(0, features, dtype=torch.float64)
    scatter = torch.zeros(0, features, dtype=torch.float64) if own else data.scatter
    if fixed:  # one more row of the first group
        rows = torch.cat([rows, apart])
    lengths = [len(rows)]
    if random:
        rows, lengths = torch.cat([rows, apart]), [len(rows), 1]
    shifts = torch.zeros(1 + random, features, dtype=torch.float64)
    if random:
        shifts[1] = count / precision
    counts = np.array([count if fixed else count - 1, 1], dtype=np.float64)[: 1 + random]
    ones, zeros = np.ones(shifts.shape), np.zeros(shifts.shape)
    return Groups(counts, shifts.numpy(), ones, zeros, lengths, rows.numpy(), scatter.numpy())


def _patterns(problem: Problem) -> Groups:
    """One group for each pattern of observed entries."""
    data = problem.data
    assert not isinstance(data, SufficientStatistics)
    groups = Patterns.of(data.values.double())
    rows, owner = groups.roots, groups.owner
    if isinstance(problem.mean, Fixed):  # the distance of each group's mean is one more row of it
        apart = (groups.means - problem.fixed_mean) * groups.observed * groups.counts.sqrt()[:, None]
        owner, order = torch.cat([owner, torch.arange(len(apart))]).sort(stable=True)
        rows = torch.cat([rows, apart])[order]
    lengths = torch.bincount(owner, minlength=len(groups.counts)).tolist()
    masks = groups.observed.double()
    empty, none = np.zeros((0, groups.features)), np.zeros(masks.shape)
    counts, means = groups.counts.numpy(), groups.means.numpy()
    return Groups(counts, none, masks.numpy(), means, lengths, rows.numpy(), empty)
