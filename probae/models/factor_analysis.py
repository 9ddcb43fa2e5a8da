"""Factor analysis: Gaussian factors, one noise variance for each feature."""

from __future__ import annotations

from typing import ClassVar

from probae.models.linear import LinearFactorModel
from probae.priors import Gaussian


class FactorAnalysis(LinearFactorModel):
    r"""Factor analysis with K standard normal factors and diagonal noise.

    .. math:: x = \mu + W z + \varepsilon, \quad z \sim N(0, I), \quad \varepsilon \sim N(0, \operatorname{diag}\psi)

    ``uniquenesses`` is another name of ``noise_variance``, in squared units of x. The loadings are identified
    up to a rotation only; psi is identified locally while (D - K)^2 >= D + K (Ledermann).

    Parameters
    ----------
    features, latents : int

    Examples
    --------
    >>> import probae as pa
    >>> data = pa.datasets.holzinger_swineford()
    >>> run = pa.fit(pa.FactorAnalysis(9, 3), data.x)
    >>> round(run.model.log_likelihood(data.x).mean().item(), 6)
    -12.314088
    """

    aliases: ClassVar[dict[str, str]] = {"uniquenesses": "noise_variance"}

    def __init__(self, features: int, latents: int) -> None:
        super().__init__(features, latents, prior=Gaussian(), noise="diagonal")
