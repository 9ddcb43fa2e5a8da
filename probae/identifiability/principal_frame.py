r"""Principal axes of Gaussian factors: a convention, and how well even that one is known.

Where rotations are free, the frame with W' Psi^{-1} W diagonal is the usual choice. With lambda_i its entries plus 1,
the variances of Psi^{-1/2} x along the axes (1 across them; the variances of x itself without noise), n rows know

    the angle in the plane of axes i and j   to sqrt(lambda_i lambda_j / n) / |lambda_i - lambda_j|,
    axis i against the noise                 to sqrt((D - K) lambda_i / n) / (lambda_i - 1),

radians of standard error (Anderson, 1963; Psi taken as known). Tied values leave a subspace, in which no axis is better
than another for any n; nearly tied ones the same for this n.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.checks import NotExactError, check_count
from probae.identifiability.group_information import connected
from probae.identifiability.precision import LARGEST_ERROR
from probae.models import LinearFactorModel

__all__ = ["PrincipalFrame", "principal_frame"]

TIED = 1e-9  # relative difference of variances that are one


@dataclass(frozen=True, eq=False)
class PrincipalFrame:
    """Variances along the principal axes, and the subspaces that they tell apart.

    Attributes
    ----------
    variances : Tensor (K,)
        Descending, in units of the noise; those of x where there is no noise.
    blocks : tuple of tuples of int
        Axes that cannot be told from each other: each block is known as a subspace.
    errors : tuple of ((int, int), float)
        Standard error of the angle in each plane, in degrees (asymptotic); infinite for a tie.
    subspace_error : float
        The largest standard error of an axis against the noise, in degrees: of what all rotations leave unchanged.
    samples : int
        0 where the number of rows is not known, and only exact ties were looked for.

    Examples
    --------
    >>> import probae as pa
    >>> x = pa.datasets.holzinger_swineford().x
    >>> found = principal_frame(pa.fit(pa.FactorAnalysis(9, 3), x).model, samples=len(x))
    >>> found.distinct, round(found.subspace_error)
    (True, 8)
    """

    variances: Float[Tensor, " latents"]
    blocks: tuple[tuple[int, ...], ...]
    errors: tuple[tuple[tuple[int, int], float], ...]
    subspace_error: float
    samples: int

    @property
    def distinct(self) -> bool:
        """Whether every axis can be told from every other."""
        return all(len(block) == 1 for block in self.blocks)

    def describe(self) -> str:
        """Say which subspaces are known, in a sentence."""
        values = ", ".join(f"{value:.3g}" for value in self.variances[:8].tolist())
        more = ", ..." if len(self.variances) > 8 else ""
        rows = f" at {self.samples} rows (asymptotic)" if self.samples else ""
        if self.distinct:
            told = "each axis is told from the others"
        else:
            tied = "; ".join(
                " and ".join(str(i) for i in block) for block in self.blocks[:4] if len(block) > 1
            )
            told = f"tied, known only as the subspaces they span: axes {tied}"
        return f"principal axes (a convention): variances {values}{more}; {told}{rows}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON; infinity as None."""
        return {
            "variances": self.variances.tolist(),
            "blocks": [list(block) for block in self.blocks],
            "errors_degrees": [
                {"plane": list(plane), "degrees": degrees if math.isfinite(degrees) else None}
                for plane, degrees in self.errors
            ],
            "subspace_error_degrees": self.subspace_error if math.isfinite(self.subspace_error) else None,
            "samples": self.samples,
        }


def principal_frame(model: LinearFactorModel, samples: int | None = None) -> PrincipalFrame:
    """Return the principal axes' variances, their errors, and the subspaces they tell apart.

    Parameters
    ----------
    model : LinearFactorModel
        With Gaussian factors.
    samples : int, optional
        Rows it was fitted to; without it only exact ties are found.

    Raises
    ------
    NotExactError
        The factors are not Gaussian: their axes are no convention.

    References
    ----------
    .. [1] Anderson, T. W. (1963). Asymptotic theory for principal component analysis. Annals of Mathematical
       Statistics 34, 122-148.

    Examples
    --------
    >>> import probae as pa, torch
    >>> model = pa.ProbabilisticPCA(4, 3)
    >>> model.loadings = torch.diag(torch.tensor([3.0, 1.0, 1.0, 0.0])).double()[:, :3]
    >>> found = principal_frame(model, samples=1000)
    >>> found.variances.tolist(), found.blocks
    ([10.0, 2.0, 2.0], ((0,), (1, 2)))
    """
    if not isinstance(model, LinearFactorModel) or not model.gaussian:
        raise NotExactError(f"Principal axes are those of Gaussian factors, got {model!r}.")
    count = 0 if samples is None else check_count("samples", samples, minimum=2)
    loadings, noise, _ = model._standard_parameters()
    quiet = model.noise == "none"
    whitened = loadings if quiet else loadings / noise.sqrt().unsqueeze(1)
    variances = torch.linalg.svdvals(whitened).square()
    variances = torch.cat([variances, torch.zeros(model.latents - len(variances)).double()])
    if not quiet:
        variances = variances + 1
    values = variances.tolist()
    errors = tuple(
        ((i, j), _angle(values[i], values[j], 1, count))
        for i, j in itertools.combinations(range(model.latents), 2)
    )
    edges = {plane for plane, degrees in errors if degrees > LARGEST_ERROR}
    across = 0 if quiet else model.features - model.latents
    outside = max((_angle(value, 1.0, across, count) for value in values), default=0.0) if across > 0 else 0.0
    return PrincipalFrame(variances, connected(model.latents, edges), errors, outside, count)


def _angle(one: float, other: float, directions: int, samples: int) -> float:
    """Return the standard error of an axis against others of one variance, in degrees; 0 without a number of rows."""
    if abs(one - other) <= TIED * max(one, other, 1e-300):
        return math.inf
    if not samples:
        return 0.0
    return math.degrees(math.sqrt(directions * one * other / samples) / abs(one - other))
