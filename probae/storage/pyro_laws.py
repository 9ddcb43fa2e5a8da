"""Distributions of Pyro that are priors of parameters, as JSON and tensors, and back: those of a fixed table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyro.distributions as dist
from torch import Tensor

from probae.checks import FileError
from probae.strict import is_count

# each with the arguments of its constructor, which are attributes too
LAWS: dict[str, tuple[type[dist.TorchDistribution], tuple[str, ...]]] = {
    "Cauchy": (dist.Cauchy, ("loc", "scale")),
    "Exponential": (dist.Exponential, ("rate",)),
    "Gamma": (dist.Gamma, ("concentration", "rate")),
    "HalfCauchy": (dist.HalfCauchy, ("scale",)),
    "HalfNormal": (dist.HalfNormal, ("scale",)),
    "InverseGamma": (dist.InverseGamma, ("concentration", "rate")),
    "Laplace": (dist.Laplace, ("loc", "scale")),
    "LogNormal": (dist.LogNormal, ("loc", "scale")),
    "Normal": (dist.Normal, ("loc", "scale")),
    "StudentT": (dist.StudentT, ("df", "loc", "scale")),
}
KEYS = {"pyro", "event_dims"}


def pack_law(law: Any, way: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Describe a distribution: its name, how many dimensions one event has, and its arguments by the way to it.

    Raises
    ------
    FileError
        If it is not in the table.

    Examples
    --------
    >>> pack_law(dist.HalfNormal(2.0), "prior")
    ({'pyro': 'HalfNormal', 'event_dims': 0}, {'prior.scale': tensor(2.)})
    """
    base, events = law, 0
    while isinstance(base, dist.Independent):
        base, events = base.base_dist, events + base.reinterpreted_batch_ndims
    name = type(base).__name__
    kind, arguments = LAWS.get(name, (None, ()))
    if type(base) is not kind:
        raise FileError(
            f"{way.rpartition('.')[2]} has the prior {name}, and a file can hold laws of probae.parameter_priors and "
            f"of Pyro {', '.join(LAWS)}."
        )
    return {"pyro": name, "event_dims": events}, {f"{way}.{arg}": getattr(base, arg) for arg in arguments}


def unpack_law(spec: Mapping[str, Any], way: str, tensors: Mapping[str, Tensor]) -> dist.TorchDistribution:
    """Build the distribution again.

    Raises
    ------
    FileError
        For anything `pack_law` does not write.

    Examples
    --------
    >>> import torch
    >>> unpack_law({"pyro": "HalfNormal", "event_dims": 0}, "prior", {"prior.scale": torch.tensor(2.0)}).scale
    tensor(2.)
    """
    if set(spec) != KEYS or not is_count(spec["event_dims"]) or spec["pyro"] not in tuple(LAWS):
        raise FileError("the prior of a parameter is malformed.")
    kind, arguments = LAWS[spec["pyro"]]
    try:
        found = {name: tensors[f"{way}.{name}"] for name in arguments}
        return kind(**found, validate_args=True).to_event(spec["event_dims"])
    except Exception as error:  # whatever torch makes of hostile numbers
        raise FileError(f"{spec['pyro']} refuses its arguments: {str(error)[:200]}") from error
