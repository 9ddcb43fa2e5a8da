"""Codes from the signs of linear functions: random directions, and directions turned to lose little."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from probae.checks import DataError, check_count, check_data
from probae.linalg import haar_rotation


@dataclass(frozen=True, eq=False, repr=False)
class Hyperplanes:
    """The code x -> [(x - centre) directions > 0].

    Attributes
    ----------
    centre : Tensor (D,)
    directions : Tensor (D, K)

    Examples
    --------
    >>> planes = Hyperplanes(torch.zeros(2).double(), torch.eye(2).double())
    >>> planes, planes.bits([[1.0, -1.0]])
    (Hyperplanes(2 features, 2 bits), tensor([[ True, False]]))
    """

    centre: Float[Tensor, "features"]
    directions: Float[Tensor, "features bits"]

    def __repr__(self) -> str:
        features, bits = self.directions.shape
        return f"Hyperplanes({features} features, {bits} bits)"

    def bits(self, x: Any) -> Bool[Tensor, "samples bits"]:
        """Return the code of each row."""
        return (check_data(x, features=len(self.centre)).values - self.centre) @ self.directions > 0


@dataclass(frozen=True)
class RandomHyperplanes:
    r"""Locality-sensitive hashing by random directions: two rows at angle t differ in each bit with probability t / pi.

    Parameters
    ----------
    bits : int

    References
    ----------
    .. [1] Charikar, M. S. (2002). Similarity estimation techniques from rounding algorithms. STOC.

    Examples
    --------
    >>> RandomHyperplanes(8).fit([[1.0, 0.0], [0.0, 1.0]], seed=0)
    Hyperplanes(2 features, 8 bits)
    """

    bits: int

    def __post_init__(self) -> None:
        check_count("bits", self.bits)

    def fit(self, x: Any, seed: int = 0) -> Hyperplanes:
        """Draw standard normal directions around the mean of x."""
        values = check_data(x).values
        generator = torch.Generator().manual_seed(check_count("seed", seed, minimum=0))
        shape = values.shape[1], self.bits
        return Hyperplanes(values.mean(0), torch.randn(shape, generator=generator, dtype=torch.float64))


@dataclass(frozen=True)
class ITQ:
    r"""Iterative quantisation: principal components, turned so that their signs lose least.

    .. math:: \min_{B \in \{-1, 1\}^{N \times K},\; R'R = I} \|B - V R\|^2

    with V the principal scores: B = sign(V R) and the Procrustes rotation in turn [1]_ (section 2.2).

    Parameters
    ----------
    bits : int
        At most the number of features.
    iterations : int

    References
    ----------
    .. [1] Gong, Y. & Lazebnik, S. (2011). Iterative quantization: a Procrustean approach to learning binary codes.
       CVPR.

    Examples
    --------
    >>> x = torch.tensor([[2.0, 0.1], [-2.0, 0.0], [2.1, 0.0], [-2.1, -0.1]])
    >>> code = ITQ(1).fit(x).bits(x).flatten()
    >>> bool((code == (x[:, 0] > 0)).all() or (code == (x[:, 0] < 0)).all())
    True
    """

    bits: int
    iterations: int = 50

    def __post_init__(self) -> None:
        check_count("bits", self.bits)
        check_count("iterations", self.iterations)

    def fit(self, x: Any, seed: int = 0) -> Hyperplanes:
        """Find the components and the rotation, from a random one."""
        values = check_data(x, minimum_rows=2).values
        if self.bits > values.shape[1]:
            raise DataError(
                f"ITQ needs at least as many features as bits, got {values.shape[1]} for {self.bits} bits: "
                "use RandomHyperplanes, or fewer bits."
            )
        generator = torch.Generator().manual_seed(check_count("seed", seed, minimum=0))
        centre = values.mean(0)
        centred = values - centre
        components = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)[:, : self.bits]
        scores = centred @ components
        rotation = haar_rotation(self.bits, generator)
        for _ in range(self.iterations):
            codes = torch.where(scores @ rotation > 0, 1.0, -1.0).double()
            left, _, right = torch.linalg.svd(scores.T @ codes)
            rotation = left @ right
        return Hyperplanes(centre, components @ rotation)
