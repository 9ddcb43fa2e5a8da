r"""Importance-weighted bounds of each row: IWAE, and the Renyi bounds that hold it and the ELBO.

With z_s ~ q(z | x), w_s = p(x, z_s) / q(z_s | x) and v = softmax((1 - alpha) log w) over the S draws of a row,

    L_alpha = 1 / (1 - alpha) log (1/S) sum_s w_s^(1 - alpha)

Gradients: of the model, sum_s v_s d log p(x, z_s); of the encoder, the path of z alone,

    sum_s (alpha v_s + (1 - alpha) v_s^2) (d log w_s / d z_s) (d z_s / d phi)

The score of q has been reparametrised a second time, so no term is left that is zero only on average.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import ParameterError, check_count


@dataclass(frozen=True)
class IWAE:
    r"""Importance-weighted bound of each row, with doubly reparametrised gradients of the encoder.

    .. math:: \log p(x) \ge E \log \tfrac1S \sum_s p(x, z_s) / q(z_s | x), \quad z_s \sim q(z | x)

    It grows with the draws and has log p(x) as its limit. Each row has its own average: no weight is shared.

    Parameters
    ----------
    draws : int
        Draws S of z per row.

    References
    ----------
    .. [1] Burda, Y., Grosse, R. & Salakhutdinov, R. (2016). Importance weighted autoencoders. ICLR.
    .. [2] Tucker, G., Lawson, D., Gu, S. & Maddison, C. J. (2019). Doubly reparameterized gradient estimators for
       Monte Carlo objectives. ICLR.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> pa.IWAE(draws=5)(pa.FactorAnalysis(9, 3), pa.LinearGaussianEncoder(9, 3).double(), x).shape
    torch.Size([301])
    """

    draws: int = 10
    name: ClassVar[str] = "IWAE bound"
    energy: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_count("draws", self.draws)

    def __call__(
        self,
        model: Any,
        encoder: Any,
        x: Float[Tensor, "samples features"],
        seen: Float[Tensor, "samples features"] | None = None,
    ) -> Float[Tensor, "samples"]:
        """Return the bound of each row; the encoder is shown ``seen``, such as corrupted rows, in place of x."""
        return weighted_bound(model, encoder(x if seen is None else seen), x, 0.0, self.draws)


@dataclass(frozen=True)
class Renyi:
    r"""Renyi bound of each row, with doubly reparametrised gradients of the encoder.

    .. math:: \tfrac1{1 - \alpha} \log \tfrac1S \sum_s [p(x, z_s) / q(z_s | x)]^{1 - \alpha}, \quad z_s \sim q(z | x)

    It falls as alpha rises: alpha = 0 is IWAE, alpha = 1 the ELBO. Below 0 it may exceed log p(x).

    Parameters
    ----------
    alpha : float
    draws : int
        Draws S of z per row.

    Raises
    ------
    ParameterError
        If alpha is not a finite number.

    References
    ----------
    .. [1] Li, Y. & Turner, R. E. (2016). Renyi divergence variational inference. NeurIPS.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> pa.Renyi(0.5, draws=5)(pa.FactorAnalysis(9, 3), pa.LinearGaussianEncoder(9, 3).double(), x).shape
    torch.Size([301])
    """

    alpha: float = 0.5
    draws: int = 10
    name: ClassVar[str] = "Renyi bound"
    energy: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if isinstance(self.alpha, bool) or not isinstance(self.alpha, int | float):
            raise ParameterError(f"alpha should be a finite number such as 0.5, got {self.alpha!r}.")
        if not math.isfinite(self.alpha):
            raise ParameterError(f"alpha should be a finite number such as 0.5, got {self.alpha!r}.")
        check_count("draws", self.draws)

    def __call__(
        self,
        model: Any,
        encoder: Any,
        x: Float[Tensor, "samples features"],
        seen: Float[Tensor, "samples features"] | None = None,
    ) -> Float[Tensor, "samples"]:
        """Return the bound of each row; the encoder is shown ``seen``, such as corrupted rows, in place of x."""
        return weighted_bound(model, encoder(x if seen is None else seen), x, self.alpha, self.draws)


def weighted_bound(model: Any, law: Any, x: Tensor, alpha: float, draws: int) -> Float[Tensor, "samples"]:
    """Return the bound of each row, with the gradients of this file's head."""
    z, log_q = law.rsample_and_log_prob((draws,))
    log_joint = model.log_joint(x, z)
    log_weights = (log_joint - log_q).detach()
    bound = power_mean(log_weights, alpha)
    if not torch.is_grad_enabled():
        return bound
    weights = normalized((1 - alpha) * log_weights)
    if z.requires_grad:  # all that reaches z carries v: this makes it alpha v + (1 - alpha) v^2
        factor = (alpha + (1 - alpha) * weights).unsqueeze(-1)
        z.register_hook(lambda gradient: gradient * factor)
    return with_gradient(bound, average(weights, log_joint - (slope_in_code(law, z) * z).sum(-1)))


def power_mean(log_weights: Float[Tensor, "draws samples"], alpha: float) -> Float[Tensor, "samples"]:
    """Return log of the mean of w^(1 - alpha), over 1 - alpha: the mean of log w at alpha = 1. Weights may be 0.

    Examples
    --------
    >>> power_mean(torch.tensor([[0.0], [-torch.inf]]), alpha=0.0)    # log 1/2
    tensor([-0.6931])
    """
    centre = log_weights.mean(0)
    if alpha == 1:
        return centre
    largest = log_weights.amax(0).nan_to_num(neginf=0.0)
    centre = torch.where(log_weights.isfinite().all(0), centre, largest)
    powers = (1 - alpha) * (log_weights - centre)
    total = powers.logsumexp(0) - math.log(len(log_weights))
    near = torch.log1p(
        torch.expm1(powers.clamp(-1, 1)).mean(0)
    )  # nothing cancels where all powers are near 1
    return centre + torch.where(powers.abs().amax(0) < 0.5, near, total) / (1 - alpha)


def normalized(log_weights: Float[Tensor, "draws samples"]) -> Float[Tensor, "draws samples"]:
    """Return the weights of each row over their sum; zeros where they have none."""
    return log_weights.softmax(0).nan_to_num()


def average(
    weights: Float[Tensor, "draws samples"], terms: Float[Tensor, "draws samples"]
) -> Float[Tensor, "samples"]:
    """Return sum_s v_s t_s, where draws without weight have no part though their term be infinite."""
    return torch.where(weights > 0, weights * terms, torch.zeros_like(terms)).sum(0)


def slope_in_code(law: Any, z: Tensor) -> Tensor:
    """Return the gradient of log q(z) in z alone, without gradients of the law's parameters."""
    leaf = z.detach().requires_grad_()
    (slope,) = torch.autograd.grad(law.log_prob(leaf).sum(), leaf, retain_graph=True)
    return slope


def with_gradient(value: Tensor, surrogate: Tensor) -> Tensor:
    """Return the value, with the gradient of the surrogate."""
    return value + (surrogate - surrogate.detach())
