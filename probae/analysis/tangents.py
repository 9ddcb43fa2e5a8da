"""Tangent spaces of the manifold that an encoder has learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import ParameterError, check_count, check_data
from probae.inference import Fit
from probae.inference.regularizers.jacobian import code_jacobian, reconstruction_jacobian
from probae.models.pyro_context import local_parameters


@dataclass(frozen=True, eq=False)
class Tangents:
    """Directions of x along which the code changes most, at each row.

    Attributes
    ----------
    basis : Tensor (N, D, k)
        Orthonormal columns, the direction of most change first.
    spectrum : Tensor (N, R)
        All singular values of the Jacobian, largest first. A sharp fall after the k-th says that k directions are
        kept and the others contracted.
    """

    basis: Float[Tensor, "samples features k"]
    spectrum: Float[Tensor, "samples rank"]

    def __repr__(self) -> str:
        samples, features, k = self.basis.shape
        return f"Tangents({samples} rows, {features} features, {k} directions)"


@local_parameters
def tangents(run: Fit, x: Any, k: int, *, reconstruction: bool = False) -> Tangents:
    """Return the leading right singular vectors, and the spectrum, of the Jacobian of the code at each row.

    Parameters
    ----------
    run : Fit
        With an encoder: of SVI, or of MAP(encoder=...).
    x : array, DataFrame or Tensor (N, D)
    k : int
        Dimensions of the tangent space, at most the latents and the features.
    reconstruction : bool
        Take the Jacobian of the reconstruction E[x | z(x)] in place of that of the code E[z | x].

    Returns
    -------
    Tangents

    Raises
    ------
    ParameterError
        If the run has no encoder, or k is too large.

    References
    ----------
    .. [1] Rifai, S., Dauphin, Y., Vincent, P., Bengio, Y. & Muller, X. (2011). The manifold tangent
       classifier. NeurIPS.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> run = pa.fit(pa.FactorAnalysis(9, 3), x, pa.SVI(pa.MLPEncoder(9, 3), epochs=300))
    >>> pa.tangents(run, x, k=2)
    Tangents(301 rows, 9 features, 2 directions)
    """
    encoder = getattr(run.posterior, "encoder", None)
    if encoder is None:
        raise ParameterError(
            "tangents needs a fit with an encoder, such as one of MAP(encoder=OneLayerEncoder(9, 3)), "
            f"got one by {type(run.method).__name__}."
        )
    largest = min(run.model.features, run.model.latents)
    if check_count("k", k) > largest:
        raise ParameterError(f"k should be at most {largest}, the rank of the Jacobian, got {k}.")
    data = check_data(x, features=run.model.features, names=run.names)
    with torch.no_grad():
        jacobian = (
            reconstruction_jacobian(run.model, encoder, data.values)
            if reconstruction
            else code_jacobian(encoder, data.values)
        ).expand(len(data.values), -1, -1)
        _, spectrum, right = torch.linalg.svd(jacobian, full_matrices=False)
    return Tangents(right[:, :k].mT.to(data.dtype), spectrum[:, :largest].to(data.dtype))
