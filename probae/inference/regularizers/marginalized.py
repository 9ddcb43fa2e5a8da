r"""Denoising without draws: for a linear reconstruction the mean loss over the noise is a formula.

With B the Jacobian of the reconstruction r, and corrupted entries that are independent, of mean m(x) and variance v(x),

    E |x - r(seen)|^2 = |x - r(m(x))|^2 + sum_i v_i(x) |B_i|^2,    B_i the columns of B.

For Gaussian noise that is |x - r(x)|^2 + s^2 |B|^2, ridge on the whole map (Bishop, 1995).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from probae.inference.objectives import SquaredError
from probae.inference.regularizers.base import Regularizer
from probae.inference.regularizers.denoising import Denoising, IndependentNoise
from probae.models import LinearFactorModel


def marginal_noise(
    objective: Callable[..., Tensor], regularizers: Sequence[Regularizer], model: Any, encoder: Any
) -> IndependentNoise | None:
    """Return the noise over which the mean loss is known: the only corruption, of a linear map, with squared error.

    Examples
    --------
    >>> import probae as pa
    >>> model, noisy = pa.FactorAnalysis(5, 2), (pa.Denoising(pa.GaussianNoise(0.5)),)
    >>> marginal_noise(pa.SquaredError(), noisy, model, pa.LinearGaussianEncoder(5, 2))
    GaussianNoise(sd=0.5)
    >>> marginal_noise(pa.SquaredError(), noisy, model, pa.MLPEncoder(5, 2)) is None
    True
    """
    corrupting = [one for one in regularizers if type(one).corrupt is not Regularizer.corrupt]
    linear = isinstance(model, LinearFactorModel) and getattr(encoder, "linear", False)
    if not linear or not isinstance(objective, SquaredError) or len(corrupting) != 1:
        return None
    noise = corrupting[0].noise if isinstance(corrupting[0], Denoising) else None
    return noise if isinstance(noise, IndependentNoise) else None


def added_error(
    model: LinearFactorModel,
    encoder: Any,
    x: Float[Tensor, "samples features"],
    variance: Float[Tensor, "samples features"],
) -> Float[Tensor, "samples"]:
    """Return what the variance of the entries shown adds to half the squared error of each row."""
    weight, loadings = encoder.jacobian(x)[0], model.loadings.to(x.dtype)
    columns = (weight * (loadings.mT @ loadings @ weight)).sum(0)  # |B_i|^2 for B = loadings @ weight
    return 0.5 * variance @ columns
