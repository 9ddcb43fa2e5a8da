"""The score of the corrupted rows, from an autoencoder that has learned to denoise."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import ParameterError, check_data
from probae.inference import Denoising, Fit, GaussianNoise
from probae.models.pyro_context import local_parameters


@local_parameters
def denoising_score(run: Fit, x: Any) -> Float[Tensor, "samples features"]:
    r"""Return (r(x) - x) / s^2, an estimate of the score of rows with Gaussian noise of sd s added.

    .. math:: \nabla \log p_s(x), \qquad p_s = p * N(0, s^2 I)

    It is exact for r(x) = E[clean | x], which minimises the squared error of denoising. It is the score of p itself
    only as far as s is small: at s = 1 the two differ by most of their size on two well separated clusters.

    Parameters
    ----------
    run : Fit
        Of ``MAP(encoder=..., regularizers=(Denoising(GaussianNoise(s)),))``, or of SVI with the same.
    x : array, DataFrame or Tensor (N, D)
        Where the score is wanted, in the units of the fit.

    Returns
    -------
    Tensor (N, D)
        In nats per unit of x.

    Raises
    ------
    ParameterError
        If the run was not fitted with Gaussian denoising.

    References
    ----------
    .. [1] Vincent, P. (2011). A connection between score matching and denoising autoencoders. Neural Computation 23.
    .. [2] Alain, G. & Bengio, Y. (2014). What regularized auto-encoders learn from the data-generating distribution.
       Journal of Machine Learning Research 15, 3743-3773.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> encoder, noise = pa.LinearGaussianEncoder(9, 3), pa.Denoising(pa.GaussianNoise(0.5))
    >>> method = pa.MAP(encoder=encoder, objective=pa.SquaredError(), regularizers=(noise,), epochs=200)
    >>> pa.denoising_score(pa.fit(pa.ProbabilisticPCA(9, 3), x, method), x).shape
    torch.Size([301, 9])
    """
    regularizers = getattr(run.method, "regularizers", ())
    noises = [one.noise for one in regularizers if isinstance(one, Denoising)]
    if len(noises) != 1 or not isinstance(noises[0], GaussianNoise):
        raise ParameterError(
            "denoising_score needs a fit with regularizers=(Denoising(GaussianNoise(sd)),), "
            f"got one with regularizers={regularizers!r}."
        )
    data = check_data(x, features=run.model.features, names=run.names)
    with torch.no_grad():
        rebuilt = run.model.likelihood(run.posterior(data.values).mean).mean
    return ((rebuilt - data.values) / noises[0].sd ** 2).to(data.dtype)
