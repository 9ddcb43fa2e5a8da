r"""Jacobians of codes and of reconstructions, and their squared Frobenius norms, row by row.

In closed form for encoders that have one (a method ``jacobian``), by ``torch.func`` otherwise, and for many latents or
features by Hutchinson's estimate |J|^2 = E |J' v|^2 with signs v. Rows are not to be mixed by a network: batch
normalisation in training is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.models import LinearFactorModel


def code_jacobian(
    encoder: Any, x: Float[Tensor, "samples features"]
) -> Float[Tensor, "rows latents features"]:
    """Return d E[z | x] / dx of each row; one for all rows where it is constant.

    Examples
    --------
    >>> import probae as pa, torch
    >>> code_jacobian(pa.MLPEncoder(4, 2, hidden=(3,)), torch.zeros(5, 4)).shape
    torch.Size([5, 2, 4])
    """
    if hasattr(encoder, "jacobian"):
        return encoder.jacobian(x)
    return rowwise_jacobian(lambda rows: encoder(rows).mean, x)


def reconstruction_jacobian(
    model: Any, encoder: Any, x: Float[Tensor, "samples features"]
) -> Float[Tensor, "rows features features"]:
    """Return d E[x | z(x)] / dx of each row; one for all rows where it is constant."""
    if isinstance(model, LinearFactorModel):
        return model.loadings.to(x.dtype) @ code_jacobian(encoder, x)
    return rowwise_jacobian(reconstruction(model, encoder), x)


def reconstruction(model: Any, encoder: Any) -> Callable[[Tensor], Tensor]:
    """Return the map from x to E[x | z] at the code z = E q(z | x)."""
    return lambda rows: model.likelihood(encoder(rows).mean).mean


def rowwise_jacobian(
    function: Callable[[Tensor], Tensor], x: Tensor
) -> Float[Tensor, "samples outputs features"]:
    """Return the Jacobian of each row of a function that takes rows one by one: that of the sum holds all."""
    return torch.func.jacrev(lambda rows: function(rows).sum(0))(x).movedim(0, 1)


def hutchinson_norm(
    function: Callable[[Tensor], Tensor], x: Tensor, probes: int, signs: Tensor | None = None
) -> Float[Tensor, "samples"]:
    """Return an unbiased estimate of the squared norm of each row's Jacobian, from a backward pass a probe."""
    pulled = pulled_back(function, x, probe_signs(function, x, probes) if signs is None else signs)
    return pulled.square().sum(-1).mean(0)


def probe_signs(
    function: Callable[[Tensor], Tensor], x: Tensor, probes: int
) -> Float[Tensor, "probes samples outputs"]:
    """Return random signs in the shape of the function's values."""
    with torch.no_grad():
        like = function(x[:1])
    shape = (probes, len(x), like.shape[-1])
    return torch.randint(0, 2, shape, device=x.device).to(x.dtype) * 2 - 1


def pulled_back(
    function: Callable[[Tensor], Tensor], x: Tensor, signs: Tensor
) -> Float[Tensor, "probes samples features"]:
    """Return J' v of each probe and row."""
    with torch.enable_grad():
        rows = x.detach().requires_grad_()
        value = function(rows)
        found = [torch.autograd.grad((value * v).sum(), rows, create_graph=True)[0] for v in signs]
    return torch.stack(found)
