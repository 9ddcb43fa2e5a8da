"""Independent component analysis: as many non-Gaussian sources as features, no noise."""

from __future__ import annotations

from probae.models.linear import LinearFactorModel
from probae.priors import Laplace, Prior


class IndependentComponents(LinearFactorModel):
    r"""Noise-free independent components, K = D.

    .. math:: x = \mu + W z, \qquad \log p(x) = \sum_k \log p_k\big((W^{-1}(x - \mu))_k\big) - \log |\det W|

    Parameters
    ----------
    features, latents : int
        Equal; reduce the data first when there are more features than sources.
    prior : Prior
        Law of the sources; ``Laplace()`` by default.

    References
    ----------
    .. [1] Comon, P. (1994). Independent component analysis, a new concept? Signal Processing 36, 287-314.

    Examples
    --------
    >>> import probae as pa
    >>> pa.IndependentComponents(3, 3).loadings.shape
    torch.Size([3, 3])
    """

    def __init__(self, features: int, latents: int, prior: Prior | None = None) -> None:
        super().__init__(features, latents, prior=Laplace() if prior is None else prior, noise="none")
