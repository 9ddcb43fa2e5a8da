"""Draws of loadings from whatever holds them: a fit of a sampler, several fits, or the tensors themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probae.checks import DataError, ParameterError
from probae.inference import Fit
from probae.inference.identified_group import IdentifiedGroup, group_of_run
from probae.models import LinearFactorModel

NEEDS = "a fit of a sampler such as Gibbs(), several fits, or draws of the loadings (chain, draw, features, latents)"


@dataclass(frozen=True, eq=False)
class Source:
    """Draws by site name, (chain, draw, ...), float64, with what is known of where they are from."""

    draws: dict[str, Tensor]
    fits: tuple[Fit, ...] = ()

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names of the features."""
        return self.fits[0].names if self.fits else None

    @property
    def group(self) -> IdentifiedGroup | None:
        """The group that leaves the posterior unchanged, where there is a model to tell."""
        if not self.fits:
            return None
        return group_of_run(self.fits[0])


def read_source(source: Any, what: str) -> Source:
    """Collect the draws: those of several runs as further chains, a point fit as a chain of one draw.

    Raises
    ------
    ParameterError, DataError
        If there are no loadings, they are not finite, or runs differ in shape.
    """
    if isinstance(source, Fit):
        return Source(_of_fit(source, what), (source,))
    if isinstance(source, Tensor):
        source = {"loadings": source}
    if isinstance(source, Mapping):
        return Source(_checked(dict(source), what))
    if isinstance(source, Sequence) and len(source) and all(isinstance(one, Fit) for one in source):
        return _of_fits(tuple(source), what)
    raise ParameterError(f"{what} needs {NEEDS}, got {type(source).__name__}.")


def _of_fit(run: Fit, what: str, alone: bool = True) -> dict[str, Tensor]:
    """Return the draws of a fit; a point fit among others counts as one draw."""
    if not isinstance(run.model, LinearFactorModel):
        raise ParameterError(f"{what} needs a linear factor model, got {type(run.model).__name__}.")
    if run.draws is not None and "loadings" in run.draws:
        return _checked(dict(run.draws), what)
    if alone:
        raise ParameterError(
            f"{what} needs draws of the loadings, but {type(run.method).__name__} gives one value: fit with "
            "Gibbs() or NUTS(), or pass several fits."
        )
    point = {"loadings": run.model.loadings, "mean": run.model.mean}
    if run.model.noise != "none":
        point["noise_variance"] = run.model.noise_variance
    return _checked({name: value.detach()[None, None] for name, value in point.items()}, what)


def _of_fits(fits: tuple[Fit, ...], what: str) -> Source:
    """Join the chains of several fits, with the sites that all of them have."""
    parts = [_of_fit(run, what, alone=False) for run in fits]
    shapes = [tuple(part["loadings"].shape[1:]) for part in parts]
    if len(set(shapes)) > 1:
        raise DataError(
            f"{what} needs runs with as many draws, features and factors each, got (draws, features, factors) "
            f"{', '.join(map(str, dict.fromkeys(shapes)))}."
        )
    groups = dict.fromkeys(Source(part, (run,)).group.name for part, run in zip(parts, fits, strict=True))  # type: ignore[union-attr]
    if len(groups) > 1:
        raise ParameterError(f"{what} needs runs of one model, got models that identify {', '.join(groups)}.")
    shared = [name for name in parts[0] if all(name in part for part in parts)]
    return Source({name: torch.cat([part[name] for part in parts]) for name in shared}, fits)


def _checked(draws: dict[str, Any], what: str) -> dict[str, Tensor]:
    """Return float64 draws, the loadings finite and of four dimensions."""
    found = {str(name): torch.as_tensor(value).detach().double() for name, value in draws.items()}
    loadings = found.get("loadings")
    if loadings is None or loadings.dim() != 4 or 0 in loadings.shape:
        shape = "no site of that name" if loadings is None else f"shape {tuple(loadings.shape)}"
        raise DataError(
            f"{what} needs loadings of shape (chain, draw, features, latents), got {shape}: use unsqueeze(0) for "
            "a single chain."
        )
    if not bool(loadings.isfinite().all()):
        raise DataError(
            f"{what} needs finite loadings, got {int((~loadings.isfinite()).sum())} that are not."
        )
    for name, value in found.items():
        if value.shape[:2] != loadings.shape[:2]:
            raise DataError(
                f"{what} needs {name} of shape {tuple(loadings.shape[:2])} + ..., as the loadings have, got "
                f"{tuple(value.shape)}."
            )
    return found
