"""Promax: varimax, then the oblique frame closest to its loadings raised to a power."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import ParameterError, check_positive
from probae.rotation.base import Criterion
from probae.rotation.orthomax import Varimax

__all__ = ["Promax"]


@dataclass(frozen=True)
class Promax:
    r"""Promax: the loadings of an orthogonal rotation V, sharpened by a power, as target of a regression. Oblique only.

    .. math:: Q_{dk} = \operatorname{sign}(v_{dk}) |v_{dk}|^m, \qquad U = (V'V)^{-1} V'Q,

    and the columns of U scaled so that the factors :math:`(U'U)^{-1}` have variance 1. A procedure, not a criterion:
    ``Rotation.value`` is that of the orthogonal rotation, which ``normalize=True`` does on normalised loadings.

    Parameters
    ----------
    power : float
        The exponent m, above 1; larger powers make the factors more correlated.
    first : Criterion
        Criterion of the orthogonal rotation.

    Raises
    ------
    ParameterError
        If the power is 1 or less, or `first` is no orthogonal criterion.

    References
    ----------
    .. [1] Hendrickson, A. E. & White, P. O. (1964). Promax: a quick method for rotation to oblique simple structure.
       British Journal of Statistical Psychology 17, 65-70.

    Examples
    --------
    >>> import probae as pa
    >>> run = pa.fit(pa.FactorAnalysis(9, 3), pa.datasets.holzinger_swineford().x)
    >>> pa.rotate(run, Promax(), oblique=True, normalize=True).factor_correlation.diagonal()
    tensor([1., 1., 1.], dtype=torch.float64)
    """

    power: float = 4.0
    first: Criterion = Varimax()

    def __post_init__(self) -> None:
        if check_positive("power", self.power) <= 1:
            raise ParameterError(f"power should be above 1, got {self.power}: common choices are 3 and 4.")
        if not isinstance(self.first, Criterion) or not self.first.orthogonal:
            raise ParameterError(
                f"first should be an orthogonal criterion such as Varimax(), got {self.first!r}."
            )

    def matrix(self, loadings: Float[Tensor, "features latents"]) -> Float[Tensor, "latents latents"]:
        """Return U for orthogonally rotated loadings of full column rank.

        Examples
        --------
        >>> import torch
        >>> Promax().matrix(torch.eye(2, dtype=torch.float64))
        tensor([[1., 0.],
                [0., 1.]], dtype=torch.float64)
        """
        target = loadings.sign() * loadings.abs().pow(self.power)
        regression = torch.linalg.lstsq(loadings, target).solution
        if torch.linalg.matrix_rank(regression) < len(regression):
            raise ParameterError(
                f"Promax with power {self.power:g} gives collinear factors here: use a smaller power, or Quartimin()."
            )
        return regression * torch.linalg.inv(regression.mT @ regression).diagonal().sqrt()
