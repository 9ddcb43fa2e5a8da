"""Draws of parameters in a file: their shapes are those of the model."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from probae.checks import FileError
from probae.inference.code_draws_posterior import CodeDrawsPosterior
from probae.inference.draws_posterior import DrawsPosterior
from probae.models import LatentModel


def check_draws(model: LatentModel, tensors: Mapping[str, Tensor]) -> None:
    """See that all draws have the same chains and length, and parameters the shapes of the model.

    Raises
    ------
    FileError
        If they do not.

    Examples
    --------
    >>> import probae as pa, torch
    >>> check_draws(pa.FactorAnalysis(3, 1), {"draws.mean": torch.zeros(4, 100, 2)})
    Traceback (most recent call last):
    ...
    probae.errors.FileError: the draws of mean are not those of the model.
    """
    for part in ("draws.", "sample_stats."):
        found = [tensor for name, tensor in tensors.items() if name.startswith(part)]
        leads = {tuple(tensor.shape[:2]) for tensor in found}
        if len(leads) > 1 or any(len(lead) < 2 or 0 in lead for lead in leads):
            raise FileError(f"the {part.removesuffix('.')} differ in chains or length.")
    for name in model.parameter_names:
        tensor = tensors.get(f"draws.{name}")
        if tensor is not None and tensor.shape[2:] != getattr(model, name).shape:
            raise FileError(f"the draws of {name} are not those of the model.")


def check_posterior_draws(posterior: DrawsPosterior | CodeDrawsPosterior, model: LatentModel) -> None:
    """See that the posterior of the factors has as many draws of each parameter, of the shapes of the model.

    Raises
    ------
    FileError
        If it does not.
    """
    count = posterior.loadings.shape[:1]
    wanted = {
        "loadings": (*count, model.features, model.latents),
        "noise": (*count, model.features),
        "mean": (*count, model.features),
    }
    for name, shape in wanted.items():
        found = getattr(posterior, name)
        if not count or tuple(found.shape) != shape or not found.is_floating_point():
            raise FileError(f"the posterior has an impossible {name}.")
