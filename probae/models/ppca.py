"""Probabilistic principal component analysis: Gaussian factors, one noise variance for all features."""

from __future__ import annotations

from probae.models.linear import LinearFactorModel
from probae.priors import Gaussian


class ProbabilisticPCA(LinearFactorModel):
    r"""Probabilistic PCA with K standard normal components.

    .. math:: x = \mu + W z + \varepsilon, \quad z \sim N(0, I), \quad \varepsilon \sim N(0, \sigma^2 I)

    Parameters
    ----------
    features, latents : int

    References
    ----------
    .. [1] Tipping, M. E. & Bishop, C. M. (1999). Probabilistic principal component analysis. Journal of the
       Royal Statistical Society B 61, 611-622.

    Examples
    --------
    >>> import probae as pa
    >>> from sklearn.datasets import load_iris
    >>> x = load_iris().data
    >>> run = pa.fit(pa.ProbabilisticPCA(4, 2), x)
    >>> round(run.model.log_likelihood(x).mean().item(), 6)
    -2.699752
    """

    def __init__(self, features: int, latents: int) -> None:
        super().__init__(features, latents, prior=Gaussian(), noise="isotropic")
