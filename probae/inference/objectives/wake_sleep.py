r"""Reweighted wake-sleep: the model climbs the importance-weighted bound, the encoder fits the posterior.

With z_s ~ q(z | x) held fixed, w_s = p(x, z_s) / q(z_s | x) and v = softmax(log w) over the draws of a row:

    model     sum_s v_s d log p(x, z_s)
    encoder   (1 - sleep) sum_s v_s d log q(z_s | x)  +  sleep d log q(z' | x'),   (x', z') ~ p(x, z)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import ParameterError, check_count
from probae.inference.objectives.importance_weighted import average, normalized, power_mean, with_gradient


@dataclass(frozen=True)
class ReweightedWakeSleep:
    r"""Reweighted wake-sleep: the value is the IWAE bound, the encoder's gradient another.

    The encoder lessens KL(p(z | x) || q(z | x)), which covers the posterior, in place of KL(q || p). No gradient goes
    through z, so codes may be discrete. The encoder is to share no parameters with the model.

    Parameters
    ----------
    draws : int
        Draws of z per row.
    sleep : float
        Share of the encoder's step, from 0 to 1, that is taken on rows simulated from the model.

    Raises
    ------
    ParameterError
        If sleep is outside [0, 1].

    References
    ----------
    .. [1] Bornschein, J. & Bengio, Y. (2015). Reweighted wake-sleep. ICLR.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> objective = pa.ReweightedWakeSleep(draws=5)
    >>> objective(pa.FactorAnalysis(9, 3), pa.LinearGaussianEncoder(9, 3).double(), x).shape
    torch.Size([301])
    """

    draws: int = 10
    sleep: float = 0.0
    name: ClassVar[str] = "IWAE bound"
    energy: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_count("draws", self.draws)
        if not isinstance(self.sleep, int | float) or not 0 <= self.sleep <= 1:
            raise ParameterError(f"sleep is a share between 0 and 1, got {self.sleep!r}.")

    def __call__(
        self,
        model: Any,
        encoder: Any,
        x: Float[Tensor, "samples features"],
        seen: Float[Tensor, "samples features"] | None = None,
    ) -> Float[Tensor, "samples"]:
        """Return the bound of each row; the encoder is shown ``seen``, such as corrupted rows, in place of x."""
        law = encoder(x if seen is None else seen)
        with torch.no_grad():
            z, drawn = law.rsample_and_log_prob((self.draws,))
        log_joint = model.log_joint(x, z)
        log_weights = log_joint.detach() - drawn
        bound = power_mean(log_weights, 0.0)
        if not torch.is_grad_enabled():
            return bound
        weights = normalized(log_weights)
        surrogate = average(weights, log_joint + (1 - self.sleep) * law.log_prob(z))
        if self.sleep:
            surrogate = surrogate + self.sleep * dreamed_density(model, encoder, x)
        return with_gradient(bound, surrogate)


def dreamed_density(model: Any, encoder: Any, x: Tensor) -> Float[Tensor, "samples"]:
    """Return log q(z | x) of as many rows as x has, simulated from the model."""
    with torch.no_grad():
        z = model.prior.distribution(model.latents, like=x).sample((len(x),))
        rows = model.likelihood(z).sample()
    return encoder(rows).log_prob(z)
