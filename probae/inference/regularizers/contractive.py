"""Contraction: codes, or reconstructions, that change little with x at the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import check_count, check_positive
from probae.inference.regularizers.base import Regularizer
from probae.inference.regularizers.jacobian import (
    code_jacobian,
    hutchinson_norm,
    probe_signs,
    pulled_back,
    reconstruction,
    reconstruction_jacobian,
)


@dataclass(frozen=True)
class ContractiveEncoder(Regularizer):
    r"""Penalty weight |J|^2 with J = d E[z | x] / dx, the squared Frobenius norm, in nats per row.

    For a layer of sigmoid units it is sum_j [h_j (1 - h_j)]^2 |W_j|^2: weight decay, weighed by the squared slope of
    each unit at the data. A saturated unit contracts at any weight. Alone, beside a linear decoder of its own, it has
    no minimiser: the codes shrink and the decoder grows. Tie them, or add `WeightDecay`.

    Parameters
    ----------
    weight : float
    probes : int, optional
        Random directions of Hutchinson's estimate; by default the norm is exact, for one backward pass a latent.

    References
    ----------
    .. [1] Rifai, S., Vincent, P., Muller, X., Glorot, X. & Bengio, Y. (2011). Contractive auto-encoders: explicit
       invariance during feature extraction. ICML.

    Examples
    --------
    >>> import probae as pa, torch
    >>> encoder = pa.MLPEncoder(5, 2, hidden=(8,))
    >>> pa.ContractiveEncoder(0.1).penalty(None, encoder, torch.zeros(3, 5)).shape
    torch.Size([3])
    """

    weight: float = 0.1
    probes: int | None = None

    def __post_init__(self) -> None:
        check_contraction(self.weight, self.probes)

    def penalty(
        self, model: Any, encoder: Any, x: Float[Tensor, "samples features"]
    ) -> Float[Tensor, "samples"]:
        """Return the penalty of each row."""
        if hasattr(encoder, "jacobian_norm"):
            return self.weight * encoder.jacobian_norm(x)
        if self.probes is None or hasattr(encoder, "jacobian"):
            return self.weight * squared_norm(code_jacobian(encoder, x)).expand(len(x))
        return self.weight * hutchinson_norm(lambda rows: encoder(rows).mean, x, self.probes)


@dataclass(frozen=True)
class ContractiveReconstruction(Regularizer):
    r"""Penalty weight |J|^2 with J = d r(x) / dx of the reconstruction r(x) = E[x | z(x)], in nats per row.

    To first order this is what `Denoising` with Gaussian noise does: weight s^2 / 2 beside half the squared error,
    exactly so for a linear reconstruction.

    Parameters
    ----------
    weight : float
    probes : int, optional
        Random directions of Hutchinson's estimate; by default the norm is exact, for one backward pass a feature.

    References
    ----------
    .. [1] Alain, G. & Bengio, Y. (2014). What regularized auto-encoders learn from the data-generating distribution.
       Journal of Machine Learning Research 15, 3743-3773.

    Examples
    --------
    >>> import probae as pa, torch
    >>> encoder = pa.MLPEncoder(5, 2, hidden=(8,)).double()
    >>> rows = torch.zeros(3, 5, dtype=torch.float64)
    >>> pa.ContractiveReconstruction(0.1).penalty(pa.FactorAnalysis(5, 2), encoder, rows).shape
    torch.Size([3])
    """

    weight: float = 0.1
    probes: int | None = None

    def __post_init__(self) -> None:
        check_contraction(self.weight, self.probes)

    def penalty(
        self, model: Any, encoder: Any, x: Float[Tensor, "samples features"]
    ) -> Float[Tensor, "samples"]:
        """Return the penalty of each row."""
        if self.probes is None:
            return self.weight * squared_norm(reconstruction_jacobian(model, encoder, x)).expand(len(x))
        return self.weight * hutchinson_norm(reconstruction(model, encoder), x, self.probes)


@dataclass(frozen=True)
class HigherOrderContraction(Regularizer):
    r"""Penalty weight E |J(x) - J(x + e)|^2 with J = d E[z | x] / dx and e ~ N(0, sd^2), one e a row and step.

    For small sd it is sd^2 times the squared norm of the second derivatives: codes are made flat, not constant.

    Parameters
    ----------
    weight : float
    sd : float
        In the units of x.
    probes : int, optional
        Random directions of Hutchinson's estimate; by default the norm is exact.

    References
    ----------
    .. [1] Rifai, S., Mesnil, G., Vincent, P., Muller, X., Bengio, Y., Dauphin, Y. & Glorot, X. (2011). Higher order
       contractive auto-encoder. ECML.

    Examples
    --------
    >>> import probae as pa, torch
    >>> encoder = pa.MLPEncoder(5, 2, hidden=(8,))
    >>> pa.HigherOrderContraction(0.1).penalty(None, encoder, torch.zeros(3, 5)).shape
    torch.Size([3])
    """

    weight: float = 0.1
    sd: float = 0.1
    probes: int | None = None

    def __post_init__(self) -> None:
        check_contraction(self.weight, self.probes)
        check_positive("sd", self.sd)

    def penalty(
        self, model: Any, encoder: Any, x: Float[Tensor, "samples features"]
    ) -> Float[Tensor, "samples"]:
        """Return the penalty of each row."""
        moved = x + self.sd * torch.randn_like(x)
        if self.probes is None:
            change = code_jacobian(encoder, x) - code_jacobian(encoder, moved)
            return self.weight * squared_norm(change).expand(len(x))

        def codes(rows: Tensor) -> Tensor:
            return encoder(rows).mean

        signs = probe_signs(codes, x, self.probes)
        change = pulled_back(codes, x, signs) - pulled_back(codes, moved, signs)
        return self.weight * change.square().sum(-1).mean(0)


def squared_norm(jacobian: Float[Tensor, "rows outputs features"]) -> Float[Tensor, "rows"]:
    """Return the squared Frobenius norm of each Jacobian."""
    return jacobian.square().sum((-2, -1))


def check_contraction(weight: float, probes: int | None) -> None:
    """Check the settings that the penalties share."""
    check_positive("weight", weight)
    if probes is not None:
        check_count("probes", probes)
