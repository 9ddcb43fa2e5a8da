"""Independent component analysis: non-Gaussian sources, no noise in their span."""

from __future__ import annotations

from probae.models.linear import LinearFactorModel
from probae.priors import Laplace, Prior


class IndependentComponents(LinearFactorModel):
    r"""Noise-free independent components, as many as features or fewer.

    .. math:: x = \mu + W z, \qquad \log p(x) = \sum_k \log p_k\big((W^{-1}(x - \mu))_k\big) - \log |\det W|

    With fewer sources than features, ``noise="complement"``: x leaves the span of W by Gaussian noise of variance
    sigma^2 in each of the D - K directions orthogonal to it, and by nothing within it,

    .. math:: \log p(x) = \sum_k \log p_k\big((W^+(x - \mu))_k\big) - \tfrac12 \log |W'W|
              - \tfrac{D - K}2 \log 2\pi\sigma^2 - \frac{\|(I - WW^+)(x - \mu)\|^2}{2\sigma^2}.

    Either way z = W^+ (x - mu) is a function of x.

    Parameters
    ----------
    features, latents : int
        No more latents than features.
    prior : Prior
        Law of the sources; ``Laplace()`` by default. One law stands for all of them, with one shape where it is
        learnt; ``Independent([...])`` gives each its own.

    Raises
    ------
    ParameterError
        For more latents than features.

    References
    ----------
    .. [1] Comon, P. (1994). Independent component analysis, a new concept? Signal Processing 36, 287-314.

    Examples
    --------
    >>> import probae as pa
    >>> pa.IndependentComponents(3, 3).loadings.shape
    torch.Size([3, 3])
    >>> pa.IndependentComponents(5, 3).noise
    'complement'
    """

    def __init__(self, features: int, latents: int, prior: Prior | None = None) -> None:
        noise = "complement" if latents < features else "none"
        super().__init__(features, latents, prior=Laplace() if prior is None else prior, noise=noise)
