"""Sparse coding as a generative model: Laplace codes, a dictionary, isotropic noise."""

from __future__ import annotations

from typing import ClassVar

from probae.models.linear import LinearFactorModel
from probae.priors import Laplace, Prior


class SparseCoding(LinearFactorModel):
    r"""Sparse coding with K codes of a heavy-tailed law and isotropic noise; K may exceed D.

    .. math:: x = \mu + W z + \varepsilon, \quad z_k \sim \text{Laplace with unit variance}, \quad
              \varepsilon \sim N(0, \sigma^2 I)

    ``dictionary`` is another name of ``loadings``. The MAP codes solve the lasso
    :math:`\tfrac12 \|x - \mu - A h\|^2 + \lambda \|h\|_1` with atoms A = W / c, h = c z and
    :math:`\lambda = \sqrt2 \sigma^2 / c`.

    Parameters
    ----------
    features, latents : int
    prior : Prior
        Law of the codes; ``Laplace()`` by default.

    References
    ----------
    .. [1] Olshausen, B. A. & Field, D. J. (1997). Sparse coding with an overcomplete basis set: a strategy employed
       by V1? Vision Research 37, 3311-3325.

    Examples
    --------
    >>> import probae as pa
    >>> model = pa.SparseCoding(16, 32)
    >>> model.dictionary.shape
    torch.Size([16, 32])
    """

    aliases: ClassVar[dict[str, str]] = {"dictionary": "loadings"}

    def __init__(self, features: int, latents: int, prior: Prior | None = None) -> None:
        super().__init__(features, latents, prior=Laplace() if prior is None else prior, noise="isotropic")
