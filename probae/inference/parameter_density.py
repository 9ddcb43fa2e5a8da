r"""The density of loadings, noise variances and mean given x, factors integrated out, for many sets of them at once.

Rows that observe the same features form a group, which its count, mean and scatter stand for. A flat mean of complete
rows is integrated out and takes one from their count; so is a normal one N(m, s^2), whose sqrt(n) (\bar x - m) is one
more row, of noise Psi + n s^2. Fixed means are subtracted. Only where entries are missing is the mean a coordinate.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import Data
from probae.inference.gibbs.mean import draw_flat_mean, draw_normal_mean
from probae.inference.gibbs.rows import Centred, Rows, centred, contrasts
from probae.inference.gibbs.scores import log_density, map_of
from probae.inference.parameter_draws import Problem
from probae.parameter_priors import Fixed, Normal
from probae.statistics import SufficientStatistics


class Group(NamedTuple):
    """Rows N(mean, W W' + Psi + diag(shift)) of some columns; about their own ``mean`` where it is a coordinate."""

    columns: Tensor
    rows: Rows
    shift: Tensor | float = 0.0
    mean: Tensor | None = None
    size: int = 0


class CollapsedDensity:
    """log p(x, W, Psi[, mean]) of a problem, in nats, differentiable and batched.

    Attributes
    ----------
    features, latents, variances : int
        The last is that of noise variances: D, or 1 if isotropic.
    samples_mean : bool
        Whether the mean is a coordinate: it is if entries are missing and it is not fixed.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.features, self.latents = problem.model.features, problem.model.latents
        self.variances = 1 if problem.isotropic else self.features
        data = problem.data
        self.samples_mean = isinstance(data, Data) and not isinstance(problem.mean, Fixed)
        self.centred: Centred | None = None
        if isinstance(data, Data):
            self.groups = self._patterns(data.values)
        else:
            self.centred = centred(data)
            self.groups = self._complete(self.centred)

    def _complete(self, rows: Centred) -> list[Group]:
        """All rows in one group, and one more for a normal mean."""
        columns = torch.arange(self.features)
        if isinstance(self.problem.mean, Fixed):
            return [Group(columns, rows.about(self.problem.fixed_mean))]
        groups = [Group(columns, rows.about_their_mean())]
        if isinstance(self.problem.mean, Normal):
            location, variance = self.problem.mean.moments
            last = rows.count**0.5 * (rows.mean - location)
            groups.append(Group(columns, Rows(last[None], last.square(), 1), rows.count * variance))
        return groups

    def _patterns(self, values: Tensor) -> list[Group]:
        """One group for each set of features that a row observes."""
        values = values.double()
        patterns, owner = torch.unique(~values.isnan(), dim=0, return_inverse=True)
        groups = []
        for number, pattern in enumerate(patterns):
            columns = torch.nonzero(pattern).flatten()
            rows, size = values[owner == number][:, columns], int((owner == number).sum())
            if len(columns):
                root = contrasts(rows)
                if len(root) > len(columns):
                    root = torch.linalg.qr(root).R
                about = Rows(root, root.square().sum(0), size)
                groups.append(Group(columns, about, mean=rows.mean(0), size=size))
        return groups

    def log_likelihood(
        self,
        loadings: Float[Tensor, "draws features latents"],
        noise: Float[Tensor, "draws variances"],
        mean: Float[Tensor, "draws features"] | None = None,
    ) -> Float[Tensor, " draws"]:
        """Return log p(x | W, Psi[, mean])."""
        noise = noise.expand(loadings.shape[:-1])
        if mean is None:
            mean = self.problem.fixed_mean.expand(loadings.shape[:-1])
        return torch.stack([_group_density(group, loadings, noise, mean) for group in self.groups]).sum(0)

    def log_prior(
        self,
        loadings: Float[Tensor, "draws features latents"],
        noise: Float[Tensor, "draws variances"],
        mean: Float[Tensor, "draws features"] | None = None,
    ) -> Float[Tensor, " draws"]:
        """Return log p(W) + log p(Psi) [+ log p(mean)], hyperparameters integrated out."""
        value = self.problem.loadings.log_marginal(loadings) + self.problem.noise.log_prob(noise).sum(-1)
        if mean is not None and isinstance(self.problem.mean, Normal):
            location, variance = self.problem.mean.moments
            law = dist.Normal(location, variance.sqrt(), validate_args=False)
            value = value + law.log_prob(mean).sum(-1)
        return value

    def draw_mean(
        self,
        loadings: Float[Tensor, "draws features latents"],
        noise: Float[Tensor, "draws variances"],
        generator: np.random.Generator,
    ) -> Float[Tensor, "draws features"]:
        """Draw a mean that was integrated out; a fixed one is repeated."""
        if self.centred is None or isinstance(self.problem.mean, Fixed):
            return self.problem.fixed_mean.expand(loadings.shape[:-1])
        given = self.centred.mean, self.centred.count, loadings, noise
        if isinstance(self.problem.mean, Normal):
            return draw_normal_mean(*given, self.problem.mean.moments, generator)
        return draw_flat_mean(*given, generator)


def check_noise(problem: Problem) -> None:
    """Refuse columns that the prior of the noise has no proper posterior for, before anything climbs there."""
    data = problem.data
    if isinstance(data, SufficientStatistics):
        squares = data.variances * data.count
    else:
        squares = _spread(data.values.double())
    squares = squares.sum()[None] if problem.isotropic else squares
    problem.noise.check_residuals(squares, problem.count)


def _spread(values: Tensor) -> Float[Tensor, " features"]:
    """Sum of squares of the observed entries of each column about their mean."""
    return (values - values.nanmean(0)).square().nansum(0)


def _group_density(group: Group, loadings: Tensor, noise: Tensor, mean: Tensor) -> Float[Tensor, " draws"]:
    """Log density of the rows of a group."""
    loadings, noise = loadings[:, group.columns], noise[:, group.columns] + group.shift
    root, squares, count = group.rows
    if group.mean is not None:
        last = group.size**0.5 * (group.mean - mean[:, group.columns])
        root = torch.cat([root.expand(len(last), *root.shape), last[:, None]], 1)
        squares = squares + last.square()
    where = map_of(loadings, noise, root)
    distance = (squares / noise).sum(-1) - where.fitted.square().sum((-2, -1))
    return log_density(where, noise, distance, count)
