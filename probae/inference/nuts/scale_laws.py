r"""The laws of factors that are normal given a random variance, as the compiled density reads them.

.. math:: z_k \mid \tau \sim N(0, \tau), \quad \tau = c_k\, g^{\pm 1}, \quad g = \log(1 + e^w) \sim \Gamma(a_k, 1)
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from probae.checks import NotExactError
from probae.priors import Laplace, Prior, Scaled, StudentT

__all__ = ["coordinates_of", "scale_laws"]

RANGE = 1e-300, 1e300  # of g, whose logarithm is taken


def scale_laws(prior: Prior, latents: int) -> NDArray[np.float64] | None:
    """Return shape a, power +1 or -1, and size c of each factor, (3, K); None where a factor has another law.

    Raises
    ------
    NotExactError
        Degrees of freedom that are to be learned.

    Examples
    --------
    >>> from probae.priors import Gaussian
    >>> scale_laws(Laplace(), 2).tolist(), scale_laws(StudentT(5.0), 1).tolist()
    ([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]], [[2.5], [-1.0], [1.5]])
    >>> scale_laws(Gaussian(), 2) is None
    True
    """
    laws = prior.coordinates(latents)
    found = [_law(law) for law in laws or [prior]]
    return None if None in found else np.ascontiguousarray(np.array(found, dtype=np.float64).T)


def _law(law: Prior) -> tuple[float, float, float] | None:
    if isinstance(law, Scaled):
        inner = _law(law.law)
        return None if inner is None else (*inner[:2], float(law.sd) ** 2 * inner[2])
    if isinstance(law, Laplace):
        return 1.0, 1.0, 1.0
    if not isinstance(law, StudentT):
        return None
    if law.freedom.learn:
        raise NotExactError(
            "NUTS has no prior for the degrees of freedom of StudentT factors: give them without learn=True, or learn "
            "them by StochasticEM()."
        )
    df = float(law.df.detach())
    return df / 2, -1.0, (df - 2) / 2


def coordinates_of(
    scales: Float[Tensor, "*chains samples latents"], laws: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return w (..., N K) of the scales tau.

    Examples
    --------
    >>> import torch
    >>> coordinates_of(torch.ones(1, 2), scale_laws(StudentT(4.0), 2)).round(4)       # tau = 1 / g, w = log(e - 1)
    array([0.5413, 0.5413])
    """
    g = np.clip((scales.double().numpy() / laws[2]) ** laws[1], *RANGE)
    w = g + np.log(-np.expm1(-g))
    return w.reshape(*w.shape[:-2], -1)
