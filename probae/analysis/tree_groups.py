"""The groups of a posterior tree as arrays, names of their axes and attributes; nothing here knows ArviZ."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor

from probae.analysis.lazy import lazily
from probae.analysis.recipes import LatentDraws, Scores, SiteDraws, parameter_draws
from probae.analysis.weighted_draws import draws_of
from probae.inference import Fit
from probae.inference.draws import Draws
from probae.models import LinearFactorModel
from probae.parameter_priors import Fixed, Flat, ParameterPrior

__all__ = [
    "Group",
    "Source",
    "constants",
    "observed",
    "posterior",
    "predictive",
    "prior",
    "prior_predictive",
    "stats",
]

PRIOR, REPLICATES, LATENTS = range(3)  # each draws numbers of its own
WEIGHTED = (
    "none: draws are those of an approximation q, so ArviZ describes q; log_weight of sample_stats is log p - log q, "
    "and loo, k_fold and the predictive checks of probae use it"
)
PREDICTED = "latents and noise drawn anew for each row, also where entries of x are missing"


@dataclass
class Group:
    """Variables of one group with the names of their axes, chain and draw left out."""

    values: dict[str, Any] = field(default_factory=dict)
    dims: dict[str, list[str]] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    draws: np.ndarray | None = None  # numbers of the draws, where only some were kept

    def put(self, name: str, values: Any, dims: list[str]) -> None:
        """Add a variable."""
        self.values[name], self.dims[name] = values, dims


@dataclass(frozen=True, eq=False)
class Source:
    """A fit and rows, and how many draws of what is drawn here.

    Attributes
    ----------
    run : Fit
    x : Tensor (N, D), or None
        float64, NaN where missing.
    dtype : torch.dtype
        Of the rows as they came.
    count : int
    latents : bool
        Whether draws of parameters bring draws of z with them.
    seed : int
    """

    run: Fit
    x: Tensor | None
    dtype: torch.dtype
    count: int
    latents: bool
    seed: int

    @property
    def rows(self) -> int:
        """Rows N, 0 without x."""
        return 0 if self.x is None else len(self.x)

    @cached_property
    def parameters(self) -> dict[str, Tensor]:
        """Draws (chain, draw, ...) of the parameters of the model; none for a point fit."""
        return draws_of(self.run)

    @cached_property
    def law(self) -> Any:
        """The law of z given each row, for a point fit."""
        assert self.x is not None
        with torch.no_grad():
            return self.run.posterior(self.x.to(self.dtype))

    @property
    def shape(self) -> tuple[int, int]:
        """Chains and draws of the posterior: of a point fit, of z."""
        if self.parameters:
            chains, draws = next(iter(self.parameters.values())).shape[:2]
        elif self.x is not None and isinstance(self.law, Draws):
            chains, draws = self.law.draws.shape[:2]
        else:
            chains, draws = 1, 1 if self.x is not None and isinstance(self.law, dist.Delta) else self.count
        return chains, draws

    def axes(self, name: str, shape: tuple[int, ...]) -> list[str]:
        """Name the axes of a site by their lengths; none where they are neither features nor factors."""
        features, latents = self.run.model.features, self.run.model.latents
        if name == "z":
            return ["obs", "factor"] if shape == (self.rows, latents) else []
        if shape == (features, latents):
            return ["feature", "factor"]
        factors = shape == (latents,) and (latents != features or name.startswith("loadings_"))
        if factors:
            return ["factor"]
        return ["feature"] if shape == (features,) else []


def posterior(source: Source) -> Group:
    """Draws of the parameters as they were drawn, or of a point fit draws of z given each row."""
    group = Group()
    for name, value in (source.run.draws or {}).items():
        group.put(name, value.numpy(), source.axes(name, tuple(value.shape[2:])))
    if source.parameters:
        group.attributes["alignment"] = (
            "none: draws are as they were drawn, and where the prior lets factors rotate, loadings may have rotated "
            "between them"
        )
    if "log_weight" in (source.run.sample_stats or {}):
        group.attributes["weights"] = WEIGHTED
    if source.x is None or "z" in group.values:
        return group
    if source.parameters:
        if source.latents:
            model, shape = source.run.model, (*source.shape, source.rows, source.run.model.latents)
            recipe = Scores(model, source.parameters, source.x, (source.seed, LATENTS))
            group.put("z", lazily(shape, recipe), ["obs", "factor"])
        return group
    group.put("z", _latents(source), ["obs", "factor"])
    law = "a point mass: one draw" if isinstance(source.law, dist.Delta) else type(source.law).__name__
    group.attributes["z"] = (
        f"given each row by {type(source.run.posterior).__name__} ({law}), parameters fixed"
    )
    return group


def _latents(source: Source) -> Any:
    law = source.law
    if isinstance(law, Draws):
        return law.draws.numpy()
    if isinstance(law, dist.Delta):
        return law.mean.detach().numpy()[None, None]
    shape = (*source.shape, source.rows, source.run.model.latents)
    return lazily(shape, LatentDraws(law, (source.seed, LATENTS)), source.dtype)


def predictive(source: Source) -> Group:
    """Replicates of the rows under some draws of the parameters, evenly spaced in each chain."""
    chains, draws = source.shape
    kept: dict[str, Tensor] = {}
    if source.parameters:
        each = min(draws, -(-source.count // chains))
        places = torch.linspace(0, draws - 1, each, dtype=torch.float64).round().long()
        kept = {name: value[:, places] for name, value in source.parameters.items()}
        numbers = places.numpy()
    else:
        chains, numbers = 1, np.arange(source.count)
    shape = (chains, len(numbers), source.rows, source.run.model.features)
    recipe = SiteDraws(source.run.model, "x", source.rows, (source.seed, REPLICATES), kept)
    group = Group(attributes={"replicates": PREDICTED}, draws=numbers)
    group.put("x", lazily(shape, recipe, source.dtype), ["obs", "feature"])
    return group


def prior(source: Source) -> Group:
    """Draws of the parameters from their priors, and of z where the posterior has them."""
    group, program = Group(draws=np.arange(source.count)), source.run.program
    if program.random_parameters:
        for name, value in parameter_draws(program, source.count, (source.seed, PRIOR)).items():
            group.put(name, value.numpy(), source.axes(name, tuple(value.shape[2:])))
        group.attributes |= _laws(source)
    if source.rows and (source.latents or not source.parameters):
        shape = (1, source.count, source.rows, source.run.model.latents)
        recipe = SiteDraws(program, "z", source.rows, (source.seed, PRIOR))
        group.put("z", lazily(shape, recipe, source.dtype), ["obs", "factor"])
    return group


def prior_predictive(source: Source) -> Group:
    """Rows under the draws of the group `prior`; none for a point fit, whose parameters have no prior."""
    program = source.run.program
    group = Group(attributes={"replicates": PREDICTED} | _laws(source), draws=np.arange(source.count))
    if program.random_parameters:
        shape = (1, source.count, source.rows, source.run.model.features)
        recipe = SiteDraws(program, "x", source.rows, (source.seed, PRIOR))
        group.put("x", lazily(shape, recipe, source.dtype), ["obs", "feature"])
    return group


def _laws(source: Source) -> dict[str, str]:
    """Name the prior of each parameter, and say what has none."""
    program = source.run.program
    found = {}
    for name in program.parameter_names:
        law = program.parameter_priors.get(name)
        if isinstance(law, Flat):
            found[name] = "flat and improper: it has no draws, and is held at its posterior mean"
        elif law is None or isinstance(law, Fixed):
            found[name] = "a distribution of Pyro" if name in program.random_parameters else "fixed"
        else:
            found[name] = type(law).__name__
    return found


def observed(source: Source) -> Group:
    """The rows in their own dtype; a missing entry is NaN."""
    assert source.x is not None
    group = Group()
    group.put("x", source.x.to(source.dtype).numpy(), ["obs", "feature"])
    return group


def stats(source: Source) -> Group:
    """What the sampler says of each draw."""
    group = Group()
    for name, value in (source.run.sample_stats or {}).items():
        group.put(name, value.numpy(), [])
    return group


def constants(source: Source) -> Group:
    """What is held fixed: parameters of a point fit, numbers of the priors, the penalty of a method that has one."""
    group, run = Group(), source.run
    if not source.parameters:
        for name in getattr(run.model, "parameter_names", ()):
            value = getattr(run.model, name).detach()
            group.put(name, value.numpy(), source.axes(name, tuple(value.shape)))
    for name, law in run.program.parameter_priors.items():
        for key, value in _numbers(law).items():
            group.put(f"{name}_prior_{key}", value.numpy(), source.axes("prior", tuple(value.shape)))
    penalty = getattr(run.method, "penalty", None)
    if isinstance(penalty, int | float):
        group.put("penalty", np.asarray(float(penalty)), [])
    pattern = getattr(run.model, "pattern", None)
    if isinstance(run.model, LinearFactorModel) and isinstance(pattern, Tensor):
        group.put("pattern", pattern.numpy(), ["feature", "factor"])
    return group


def _numbers(law: Any) -> Mapping[str, Tensor]:
    """Return the settings of a parameter prior that are numbers."""
    if not isinstance(law, ParameterPrior):
        return {}
    values = {one.name: getattr(law, one.name) for one in dataclasses.fields(law)}
    return {
        name: torch.as_tensor(value, dtype=torch.float64)
        for name, value in values.items()
        if isinstance(value, int | float | Tensor) and not isinstance(value, bool)
    }
