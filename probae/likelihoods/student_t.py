"""Heavy-tailed noise."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor, nn

from probae.checks import ParameterError, check_positive
from probae.likelihoods.base import Noise


class StudentT(Noise):
    r"""x = output + Student-t noise, independent over features: outlying entries weigh less than with a Gaussian.

    .. math:: p(x_d \mid z) = t_\nu(\text{output}_d, s_d), \quad s_d^2 = \psi_d (\nu - 2) / \nu

    Parameters
    ----------
    df : float
        Degrees of freedom nu, above 2, so that psi is the variance.
    noise : {"isotropic", "diagonal"}
        One learned variance for all features, or one for each.
    learn : bool
        Whether nu is learned too.

    Raises
    ------
    ParameterError
        If ``df`` is not above 2.

    Examples
    --------
    >>> import torch, probae as pa
    >>> pa.likelihoods.StudentT(df=4.0)(torch.zeros(2, 3)).event_shape
    torch.Size([3])
    """

    log_excess: Tensor

    def __init__(self, df: float = 5.0, noise: str = "isotropic", learn: bool = False) -> None:
        super().__init__(noise)
        excess = check_positive("df", df) - 2.0
        if excess <= 0:
            raise ParameterError(f"df should be above 2, so that the noise has a variance, got {df}.")
        if not isinstance(learn, bool):
            raise ParameterError(f"learn should be True or False, got {learn!r}.")
        self.learn = learn
        value = torch.tensor(excess, dtype=torch.float64).log()
        if learn:
            self.log_excess = nn.Parameter(value)
        else:
            self.register_buffer("log_excess", value)

    def __repr__(self) -> str:
        return f"StudentT(df={float(self.df.detach()):.3g}, noise={self.noise!r}, learn={self.learn})"

    @property
    def df(self) -> Float[Tensor, ""]:
        """Degrees of freedom."""
        return 2.0 + self.log_excess.exp()

    def forward(self, output: Float[Tensor, "*batch features"]) -> dist.TorchDistribution:
        """Return the t law about the output."""
        df = self.df.to(output.dtype)
        scale = (self.noise_variance * (df - 2.0) / df).sqrt()
        return dist.StudentT(df, output, scale).to_event(1)
