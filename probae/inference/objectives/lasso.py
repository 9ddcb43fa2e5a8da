r"""What an encoder of sparse codes is trained for: the lasso energy of its code, or predictive sparse decomposition.

.. math:: E(x, h) = \tfrac12 \|x - \mu - W h\|^2 + \sqrt2 \sigma^2 \|h\|_1
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import check_positive
from probae.codes import lasso


@dataclass(frozen=True)
class LassoEnergy:
    r"""Minus the lasso energy -E(x, f(x)) of the encoder's code f(x), the mean of its law.

    The noise variance is given, not learned, and with it the penalty. Where :class:`probae.MAP` learns the loadings
    too, it holds their columns at one norm [1]_: small codes beside large atoms would cost nothing.

    References
    ----------
    .. [1] Olshausen, B. A. & Field, D. J. (1997). Sparse coding with an overcomplete basis set: a strategy employed by
       V1? Vision Research 37, 3311-3325.

    Examples
    --------
    >>> import torch, probae as pa
    >>> model, encoder = pa.SparseCoding(4, 6), pa.LISTAEncoder(4, 6)
    >>> encoder.attach(model)
    >>> pa.LassoEnergy()(model, encoder, torch.ones(3, 4)).shape
    torch.Size([3])
    """

    name: ClassVar[str] = "negative lasso energy"
    energy: ClassVar[bool] = True

    def __call__(
        self,
        model: Any,
        encoder: Any,
        x: Float[Tensor, "samples features"],
        seen: Float[Tensor, "samples features"] | None = None,
    ) -> Float[Tensor, "samples"]:
        """Return minus the energy of each row; the encoder is shown ``seen`` in place of x."""
        code = point_code(encoder, x if seen is None else seen)
        return -energy(x - model.mean.to(x), model.loadings.to(x), penalty_of(model), code)


@dataclass(frozen=True)
class PredictiveSparseDecomposition:
    r"""Minus :math:`\min_h E(x, h) + \gamma \|h - f(x)\|^2`: the best code that stays near the encoder's f(x).

    The best h is a lasso of the rows :math:`(x, \sqrt{2 \gamma} f(x))` with the atoms
    :math:`(W, \sqrt{2 \gamma} I)`, solved to a certified gap. Encoder and dictionary get the gradient at that h, which
    is the gradient of the minimum (envelope theorem). For a large gamma this is `LassoEnergy`; for a small one h is the
    lasso code, and the encoder regresses on it.

    Parameters
    ----------
    gamma : float
        Weight of the distance, in squared units of x for codes without units.

    References
    ----------
    .. [1] Kavukcuoglu, K., Ranzato, M. & LeCun, Y. (2008). Fast inference in sparse coding algorithms with applications
       to object recognition. Technical report CBLL-TR-2008-12-01, New York University.

    Examples
    --------
    >>> import torch, probae as pa
    >>> model, encoder = pa.SparseCoding(4, 6), pa.LISTAEncoder(4, 6)
    >>> encoder.attach(model)
    >>> pa.PredictiveSparseDecomposition(gamma=1.0).codes(model, encoder, torch.ones(3, 4)).shape
    torch.Size([3, 6])
    """

    gamma: float = 1.0
    name: ClassVar[str] = "negative PSD energy"
    energy: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive("gamma", self.gamma)

    def __call__(
        self,
        model: Any,
        encoder: Any,
        x: Float[Tensor, "samples features"],
        seen: Float[Tensor, "samples features"] | None = None,
    ) -> Float[Tensor, "samples"]:
        """Return minus the minimum of each row; the encoder is shown ``seen`` in place of x."""
        code = point_code(encoder, x if seen is None else seen)
        best = self._best(model, x, code.detach())
        far = self.gamma * (best - code).square().sum(-1)
        return -energy(x - model.mean.to(x), model.loadings.to(x), penalty_of(model), best) - far

    @torch.no_grad()
    def codes(
        self, model: Any, encoder: Any, x: Float[Tensor, "samples features"]
    ) -> Float[Tensor, "samples latents"]:
        """Return the best code h of each row."""
        return self._best(model, x, point_code(encoder, x))

    @torch.no_grad()
    def _best(self, model: Any, x: Tensor, code: Tensor) -> Tensor:
        root = math.sqrt(2 * self.gamma)
        loadings = model.loadings.double()
        eye = torch.eye(loadings.shape[1], dtype=torch.float64, device=loadings.device)
        rows = torch.cat([x.double() - model.mean.double(), root * code.double()], 1)
        return lasso(rows, torch.cat([loadings, root * eye]), penalty_of(model), 1e-8, 10_000).z.to(x.dtype)


def point_code(encoder: Any, x: Tensor) -> Tensor:
    """Return the code of an encoder: of LISTA without its scales, else the mean of the law."""
    return encoder.codes(x) if hasattr(encoder, "codes") else encoder(x).mean


def penalty_of(model: Any) -> float:
    r"""Return :math:`\sqrt2 \sigma^2`, which makes the lasso of z the posterior mode of unit-variance Laplace codes."""
    return math.sqrt(2) * float(model.noise_variance.detach().mean())


def energy(x: Tensor, dictionary: Tensor, penalty: float, z: Tensor) -> Float[Tensor, "samples"]:
    """Return 1/2 ||x - A z||^2 + penalty ||z||_1."""
    return 0.5 * (x - z @ dictionary.mT).square().sum(-1) + penalty * z.abs().sum(-1)
