r"""One simulation of a calibration of parameters, and what is kept of many."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import pyro
import torch
from arviz_stats.base import array_stats
from jaxtyping import Float, Int
from torch import Tensor

from probae.analysis.invariant_quantities import invariant_quantities
from probae.analysis.uniform_ranks import random_ranks
from probae.checks import NotExactError, ParameterError
from probae.inference import Fit, Method
from probae.inference.fit import fit
from probae.models import LinearFactorModel

DOUBLINGS = 6  # of the draws of a fit whose draws are worth too few


@dataclass(frozen=True, eq=False)
class Replicate:
    """Ranks and deviations of one simulation, unless its fit gave no draws, and what went wrong."""

    names: tuple[str, ...] = ()
    ranks: Int[Tensor, " quantities"] | None = None
    deviations: Float[Tensor, " quantities"] | None = None
    failure: str | None = None


@dataclass(frozen=True, eq=False)
class Simulator:
    """Draws parameters and data from the model, fits, and ranks."""

    model: LinearFactorModel
    method: Method
    rows: int
    draws: int
    missing: float
    seed: int

    def __call__(self, number: int) -> Replicate:
        """Run simulation ``number``, a function of the seed and itself alone."""
        first, second = np.random.SeedSequence([self.seed, number]).generate_state(2).tolist()
        torch.default_generator.manual_seed(first)
        truth, x = self.simulate()
        try:
            return self.ranked(truth, x, second)
        except (ParameterError, NotExactError):
            raise  # the caller's, and the same in every simulation
        except Exception as error:  # noqa: BLE001 - whatever else a fit raises is what is looked for here
            return Replicate(failure=f"{type(error).__name__}: {error}")

    def simulate(self) -> tuple[dict[str, Tensor], Float[Tensor, "rows features"]]:
        """Run the Pyro program; return its parameters (1, ...), as so many draws, and x with some entries hidden."""
        trace = pyro.poutine.trace(self.model).get_trace(size=self.rows)
        sites = {name: node["value"] for name, node in trace.iter_stochastic_nodes()}
        x = sites.pop("x").double()
        del sites["z"]
        if "mean" not in sites:
            sites["mean"] = self.model.mean.detach()
        hidden = torch.rand(x.shape) < self.missing
        return {name: value.double()[None] for name, value in sites.items()}, x.masked_fill(hidden, torch.nan)

    def ranked(self, truth: dict[str, Tensor], x: Tensor, seed: int) -> Replicate:
        """Fit until the draws are worth enough, and rank the truth among evenly spaced ones."""
        for method in _longer(self.method):
            run = fit(self.model, x, method, seed=seed)
            if run.interrupted:
                raise KeyboardInterrupt
            names, values = self.quantities(run, x)
            if not values.isfinite().all():
                return Replicate(failure="draws that are not finite")
            worth = torch.as_tensor(array_stats.ess(values.numpy(), chain_axis=0, draw_axis=1))
            least = float(worth.min())
            if least >= self.draws:
                break
        failure = None
        if not least >= self.draws:
            failure = f"{values[..., 0].numel()} draws worth {least:.0f}, below {self.draws}"
        diverging = int((run.sample_stats or {}).get("diverging", torch.zeros(1)).sum())
        if diverging:
            failure = f"{diverging} divergences"
        wanted = torch.cat(list(invariant_quantities(self.model, x, truth).values()))
        return self.rank(names, wanted, values.flatten(0, 1), worth, failure)

    def quantities(
        self, run: Fit, x: Tensor
    ) -> tuple[tuple[str, ...], Float[Tensor, "chains draws quantities"]]:
        """Return the names of what is ranked, and its draws."""
        assert run.draws is not None
        lead = run.draws["mean"].shape[:2]
        flat = {name: values.flatten(0, 1) for name, values in run.draws.items()}
        found = invariant_quantities(self.model, x, flat)
        return tuple(found), torch.stack(list(found.values()), -1).unflatten(0, lead)

    def rank(
        self, names: tuple[str, ...], truth: Tensor, values: Tensor, worth: Tensor, failure: str | None
    ) -> Replicate:
        """Rank; deviations allow for the error of mean and variance, 1 / S and 2 / S where S draws are normal."""
        spaced = values[((torch.arange(self.draws) + 0.5) * len(values) / self.draws).long()]
        ranks = random_ranks((spaced < truth).sum(0), (spaced == truth).sum(0))
        spread = values.std(0) * (1 + 3 / worth).sqrt()
        return Replicate(names, ranks, (truth - values.mean(0)) / spread, failure)


def _longer(method: Method) -> list[Method]:
    """The method, and with twice, four times ... its draws."""
    draws = getattr(method, "draws", None)
    if "draws" not in {one.name for one in fields(method)} or not isinstance(draws, int):
        return [method]
    sampler: Any = method
    return [replace(sampler, draws=draws * 2**power) for power in range(DOUBLINGS + 1)]


@dataclass
class Replicates:
    """What the simulations have given so far."""

    names: tuple[str, ...] = ()
    ranks: list[Tensor] = field(default_factory=list)
    deviations: list[Tensor] = field(default_factory=list)
    failures: list[tuple[int, str]] = field(default_factory=list)
    done: int = 0

    def add(self, one: Replicate) -> None:
        """Keep the next simulation."""
        if one.ranks is not None and one.deviations is not None:
            self.names = one.names
            self.ranks.append(one.ranks)
            self.deviations.append(one.deviations)
        if one.failure is not None:
            self.failures.append((self.done, one.failure))
        self.done += 1

    def tensors(self) -> dict[str, Tensor]:
        """Return everything as vectors, for a checkpoint.

        Examples
        --------
        >>> kept = Replicates(("a", "b"), [torch.tensor([3, 5])], [torch.zeros(2).double()], [(0, "why")], 1)
        >>> again = Replicates.of(kept.tensors())
        >>> again.names, again.ranks, again.failures, again.done
        (('a', 'b'), [tensor([3, 5])], [(0, 'why')], 1)
        """
        text = json.dumps([self.names, self.failures, self.done])
        return {
            "ranks": torch.cat([torch.zeros(0, dtype=torch.long), *self.ranks]),
            "deviations": torch.cat([torch.zeros(0, dtype=torch.float64), *self.deviations]),
            "text": torch.tensor(list(text.encode()), dtype=torch.uint8),
        }

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Replicates:
        """Return what `tensors` made vectors of."""
        names, failures, done = json.loads(bytes(tensors["text"].tolist()))
        width = max(len(names), 1)
        ranks, deviations = (list(tensors[name].reshape(-1, width)) for name in ("ranks", "deviations"))
        return cls(tuple(names), ranks, deviations, [(i, why) for i, why in failures], done)
