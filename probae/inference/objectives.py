"""Objectives of stochastic variational inference, each one term per row in nats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from probae.checks import check_count


@dataclass(frozen=True)
class ELBO:
    r"""Evidence lower bound, one reparametrised draw per row by default.

    .. math:: \log p(x) \ge E_{q(z | x)}[\log p(x, z) - \log q(z | x)]

    Parameters
    ----------
    draws : int
        Draws of z per row.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> pa.ELBO()(pa.FactorAnalysis(9, 3), pa.LinearGaussianEncoder(9, 3).double(), x).shape
    torch.Size([301])
    """

    draws: int = 1
    name: ClassVar[str] = "ELBO"

    def __post_init__(self) -> None:
        check_count("draws", self.draws)

    def __call__(
        self, model: Any, encoder: Any, x: Float[Tensor, "samples features"]
    ) -> Float[Tensor, "samples"]:
        """Return the bound of each row."""
        if self.draws == 1:
            z, log_q = encoder(x).rsample_and_log_prob()
            return model.log_joint(x, z) - log_q
        z, log_q = encoder(x).rsample_and_log_prob((self.draws,))
        return (model.log_joint(x, z) - log_q).mean(0)
