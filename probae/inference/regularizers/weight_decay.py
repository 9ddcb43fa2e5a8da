"""Weight decay: small weights of encoder and model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probae.checks import check_positive
from probae.inference.regularizers.base import Regularizer

OTHERS = {
    "lower",
    "threshold",
    "log_scale",
}  # triangle of a covariance, thresholds and scales of LISTA's codes


@dataclass(frozen=True)
class WeightDecay(Regularizer):
    r"""Penalty weight (|W_1|^2 + |W_2|^2 + ...) over the weights of encoder and model, in nats per row.

    Weights are the parameters with two or more dimensions; offsets, noise and the scales of codes are left alone, and
    a weight that encoder and model share counts once. For a linear autoencoder its least value over all factors of
    one map B is 2 weight |B|_*, the nuclear norm: directions of little variance are cut, not only shrunk.

    Parameters
    ----------
    weight : float

    References
    ----------
    .. [1] Kunin, D., Bloom, J., Goeva, A. & Seed, C. (2019). Loss landscapes of regularized linear autoencoders. ICML.

    Examples
    --------
    >>> import probae as pa, torch
    >>> model, encoder = pa.FactorAnalysis(5, 2), pa.LinearGaussianEncoder(5, 2)
    >>> penalty = pa.WeightDecay(0.1).penalty(model, encoder, torch.zeros(3, 5))
    >>> bool(torch.isclose(penalty, 0.1 * model.loadings.square().sum()))    # the encoder starts at zero
    True
    """

    weight: float = 0.01

    def __post_init__(self) -> None:
        check_positive("weight", self.weight)

    def penalty(self, model: Any, encoder: Any, x: Float[Tensor, "samples features"]) -> Float[Tensor, ""]:
        """Return the penalty, the same for every row."""
        weights = {id(value): value for module in (encoder, model) for value in weights_of(module)}
        return self.weight * torch.stack([value.square().sum() for value in weights.values()]).sum()


def weights_of(module: nn.Module) -> Iterator[Tensor]:
    """Yield the weights of a network or a linear model: neither offsets nor what `OTHERS` names."""
    for name, value in module.named_parameters():
        if value.ndim >= 2 and name.split(".")[-1] not in OTHERS:
            yield value
