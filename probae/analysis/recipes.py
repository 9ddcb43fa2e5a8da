"""What a posterior implies for rows of data, draw by draw: each draw has a seed of its own, so any can be had alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyro
import torch
from pyro import poutine
from torch import Tensor

from probae.analysis.draws_likelihood import flat_parameters, of_checked_rows
from probae.models import LatentModel, LinearFactorModel
from probae.models.marginal import gaussian_posterior
from probae.priors import CorrelatedGaussian

__all__ = ["LatentDraws", "RowLikelihood", "Scores", "SiteDraws", "parameter_draws"]


@contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Draw from torch's global generator as these numbers say, and leave its state as it was."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@dataclass(frozen=True, eq=False)
class RowLikelihood:
    """log p(x_n) under each draw of the parameters, latents integrated out."""

    model: LinearFactorModel
    draws: Mapping[str, Tensor]  # (chain, draw, *event)
    x: Tensor

    def __call__(self, places: Tensor, rows: Tensor) -> Tensor:
        """Compute it for some draws and rows."""
        chosen = {name: value.flatten(0, 1)[None, places] for name, value in self.draws.items()}
        return of_checked_rows(self.model, chosen, self.x[rows])[0]


@dataclass(frozen=True, eq=False)
class SiteDraws:
    """A site of a Pyro program, run once for each draw of the parameters, or of their priors where there are none."""

    program: LatentModel
    site: str
    size: int
    numbers: tuple[int, ...]
    draws: Mapping[str, Tensor] = field(default_factory=dict)  # (chain, draw, *event)

    def __call__(self, places: Tensor, rows: Tensor) -> Tensor:
        """Run the program; all rows are drawn, so that the answer does not depend on which are asked for."""
        program = copy.deepcopy(self.program) if self.draws else self.program
        values = []
        for place in places.tolist():
            for name, value in self.draws.items():
                setattr(program, name, value.flatten(0, 1)[place])
            with seeded(*self.numbers, place):
                trace = poutine.trace(program).get_trace(size=self.size)
            values.append(trace.nodes[self.site]["value"][rows])
        return torch.stack(values)


@dataclass(frozen=True, eq=False)
class LatentDraws:
    """Draws of z from its law given each row."""

    law: Any
    numbers: tuple[int, ...]

    def __call__(self, places: Tensor, rows: Tensor) -> Tensor:
        """Draw z of all rows, and keep some."""
        values = []
        for place in places.tolist():
            with seeded(*self.numbers, place):
                values.append(self.law.sample()[rows])
        return torch.stack(values)


@dataclass(frozen=True, eq=False)
class Scores:
    r"""Draws of z given each row and each draw of the parameters, in the frame of that draw.

    .. math:: z_{sn} \sim N\big(M_s^{-1} W_s' \Psi_s^{-1} (x_n - \mu_s),\ M_s^{-1}\big), \quad
              M_s = \Phi^{-1} + W_s' \Psi_s^{-1} W_s
    """

    model: LinearFactorModel
    draws: Mapping[str, Tensor]  # (chain, draw, *event)
    x: Tensor
    numbers: tuple[int, ...]

    def __call__(self, places: Tensor, rows: Tensor) -> Tensor:
        """Draw z of all rows, and keep some: of correlated factors z = L z_0, where Phi = L L'."""
        _, loadings, noise, mean = flat_parameters(self.model, self.draws)  # loadings W L, of z_0
        values = []
        for place in places.tolist():
            location, scale = gaussian_posterior(self.x[rows], loadings[place], noise[place], mean[place])
            with seeded(*self.numbers, place):
                standard = torch.randn(len(self.x), self.model.latents, dtype=torch.float64)[rows]
            values.append(location + (scale @ standard.unsqueeze(-1)).squeeze(-1))
        found = torch.stack(values)
        prior = self.model.prior
        return found @ prior.factor.detach().double().mT if isinstance(prior, CorrelatedGaussian) else found


def parameter_draws(program: LatentModel, count: int, numbers: tuple[int, ...]) -> dict[str, Tensor]:
    """Draw the random parameters of a program from their priors: those `SiteDraws` with the same numbers uses.

    Returns
    -------
    dict of str to Tensor (1, count, *event)
        Hyperparameters too, by the names of their sites.
    """
    found: dict[str, list[Tensor]] = {}
    for place in range(count):
        with seeded(*numbers, place):
            trace = poutine.trace(program).get_trace(size=1)
        for name, node in trace.nodes.items():
            if (
                node["type"] == "sample"
                and name not in ("z", "x")
                and not pyro.poutine.util.site_is_subsample(node)
            ):
                found.setdefault(name, []).append(node["value"])
    return {name: torch.stack(values)[None] for name, values in found.items()}
