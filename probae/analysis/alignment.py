"""Draws of a factor model in one frame: loadings, and every site that moves with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probae.analysis.draws_source import Source, read_source
from probae.checks import DataError, ParameterError
from probae.inference.aligned import Aligner, OrthogonalProcrustes, SignedPermutations
from probae.inference.identified_group import IdentifiedGroup, in_frame_of
from probae.inference.intervals import quantile_interval
from probae.inference.linked_sites import move_scores, move_sites

__all__ = ["Alignment", "align"]

SHOWN = 40  # rows of loadings in print


@dataclass(frozen=True, eq=False)
class Alignment:
    """Draws turned to one frame, jointly over all chains and runs.

    Attributes
    ----------
    draws : dict
        (chain, draw, ...) by site name: aligned loadings, and the sites that move with them.
    rotations : Tensor (chain, draw, K, K)
        What each draw was multiplied by from the right: aligned loadings are W R, aligned scores R^-1 z.
    method : Aligner
    group : IdentifiedGroup or None
        What the model leaves free; None for bare draws.
    names : tuple of str, or None
        Of the features.
    left_out : tuple of str
        Sites that cannot follow a rotation, such as precisions of columns.

    Examples
    --------
    >>> import torch, probae as pa
    >>> W = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> print(pa.align(torch.stack([W, -W, W.flip(1)]).unsqueeze(0), pa.SignedPermutations()))
    Loadings of 1 chain of 3 draws, aligned by SignedPermutations: mean (sd)
                  z[0]           z[1]
      0  2.000 (0.000)  0.000 (0.000)
      1  0.000 (0.000)  1.000 (0.000)
      2  1.000 (0.000)  1.000 (0.000)
    """

    draws: dict[str, Tensor]
    rotations: Float[Tensor, "chains draws latents latents"]
    method: Aligner
    group: IdentifiedGroup | None
    names: tuple[str, ...] | None
    left_out: tuple[str, ...]

    @property
    def loadings(self) -> Float[Tensor, "chains draws features latents"]:
        """The aligned loadings."""
        return self.draws["loadings"]

    @property
    def mean(self) -> Float[Tensor, "features latents"]:
        """Posterior mean of the aligned loadings."""
        return self.loadings.mean((0, 1))

    @property
    def sd(self) -> Float[Tensor, "features latents"]:
        """Posterior standard deviation of the aligned loadings."""
        return self.loadings.flatten(0, 1).std(0, correction=0)

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """Lower and upper ends (D, K) of equal-tailed intervals of the aligned loadings.

        Parameters
        ----------
        level : float
            Posterior probability, between 0 and 1.
        """
        return quantile_interval(self.loadings, level)

    def scores(self, z: Any) -> Float[Tensor, "chains draws samples latents"]:
        """Turn draws of the factors with their loadings: W z does not change.

        Parameters
        ----------
        z : Tensor (chain, draw, N, K)
            In the frames of the draws as they were.

        Raises
        ------
        DataError
            If there is not one set of rows for each draw.
        """
        z, shape = torch.as_tensor(z).double(), self.rotations.shape
        if z.dim() != 4 or z.shape[:2] != shape[:2] or z.shape[3] != shape[3]:
            raise DataError(
                f"z should have shape ({shape[0]}, {shape[1]}, samples, {shape[3]}), one set of rows for each draw, "
                f"got {tuple(z.shape)}."
            )
        return move_scores(z, self.rotations)

    @property
    def caution(self) -> str:
        """What the frame may and may not be read as; empty for bare draws."""
        if self.group is None:
            return ""
        name, method = self.group.name, type(self.method).__name__
        if isinstance(self.method, IdentifiedGroup):
            convention = " The axes are a convention." if self.group.rotates else ""
            return f"Identified up to {name}, by {self.group.reason}.{convention}"
        if not self.group.rotates:
            if isinstance(self.method, SignedPermutations):
                return ""
            return (
                f"The model identifies axes up to {name}: {method} turns their uncertainty away, and the intervals "
                "are too narrow."
            )
        if isinstance(self.method, SignedPermutations):
            return f"The model leaves {name} free, which signs and order alone do not settle: chains may stay apart."
        if isinstance(self.method, OrthogonalProcrustes):
            return f"The model leaves {name} free: the axes are a convention."
        return f"The model leaves {name} free: {method} chose the axes, and chains agree in them by construction."

    def __str__(self) -> str:
        chains, draws, features, latents = self.loadings.shape
        by = self.group.name if isinstance(self.method, IdentifiedGroup) else type(self.method).__name__  # type: ignore[union-attr]
        number = f"{chains} chain{'s' * (chains > 1)} of {draws} draw{'s' * (draws > 1)}"
        lines = [f"Loadings of {number}, aligned by {by}: mean (sd)"]
        names = self.names or tuple(str(d) for d in range(features))
        width = max(map(len, names[:SHOWN]))
        cells = [[f"{m:.3f} ({s:.3f})" for m, s in zip(*row, strict=True)] for row in self._rows()]
        cell = max((len(text) for row in cells for text in row), default=0)
        lines.append(" " * (width + 2) + "".join(f"{f'z[{k}]':>{cell + 2}}" for k in range(latents)).rstrip())
        lines += [
            f"  {name:<{width}}" + "".join(f"{text:>{cell + 2}}" for text in row)
            for name, row in zip(names, cells, strict=False)
        ]
        if features > SHOWN:
            lines.append(f"  ... {features - SHOWN} more rows")
        lines += [self.caution] if self.caution else []
        if self.left_out:
            lines.append(f"Left out, as no rotation can move them: {', '.join(self.left_out)}.")
        return "\n".join(lines)

    def _rows(self) -> list[tuple[list[float], list[float]]]:
        return list(zip(self.mean[:SHOWN].tolist(), self.sd[:SHOWN].tolist(), strict=True))


def align(source: Any, method: Aligner | None = None) -> Alignment:
    """Turn draws of loadings to one frame, jointly over chains, replicates and seeds; all linked sites move along.

    Parameters
    ----------
    source : Fit, sequence of Fit, Tensor (chain, draw, D, K), or dict of such draws
        A fit of a sampler; several runs of one model, whose chains are joined (a fit without draws is a chain of one
        draw); or draws by site name.
    method : Aligner, optional
        By default the group that model and prior leave free: `OrthogonalProcrustes` for Gaussian factors,
        `SignedPermutations` for other independent ones (signs where their law is symmetric, places among equal laws),
        each for its part where there are both. A single fit keeps the frame of its model, so that loadings and scores
        of the fit are those of the alignment.

    Returns
    -------
    Alignment

    Raises
    ------
    ParameterError
        Bare draws without a method; a fit without draws; runs of different models.
    DataError
        Draws of a wrong shape, or not finite.

    Examples
    --------
    >>> import torch, probae as pa
    >>> from probae.linalg import haar_rotation
    >>> generator = torch.Generator().manual_seed(0)
    >>> W = torch.randn(6, 2, dtype=torch.float64, generator=generator)
    >>> draws = W @ haar_rotation(2, generator, 100).view(4, 25, 2, 2)               # one frame for each draw
    >>> alignment = pa.align(draws, pa.OrthogonalProcrustes())
    >>> bool(draws.mean((0, 1)).norm() < 0.3 * W.norm()), bool((alignment.mean.norm() - W.norm()).abs() < 1e-9)
    (True, True)
    """
    read = read_source(source, "align")
    return _aligned(read, read.group, method)


def _aligned(read: Source, group: IdentifiedGroup | None, method: Aligner | None) -> Alignment:
    chosen = method if method is not None else group
    if chosen is None:
        raise ParameterError(
            "align needs a method for draws without a model: OrthogonalProcrustes() where the factors are Gaussian, "
            "SignedPermutations() where they are not."
        )
    if not isinstance(chosen, Aligner):
        raise ParameterError(
            f"method should be a value such as OrthogonalProcrustes(), got {type(chosen).__name__}."
        )
    loadings = read.draws["loadings"]
    if method is None and len(read.fits) == 1:
        rotations = in_frame_of(read.fits[0].model, loadings, chosen)
    else:
        rotations = chosen.rotations(loadings)
    draws, left_out = move_sites(read.draws, rotations)
    return Alignment(draws, rotations, chosen, group, read.names, left_out)
