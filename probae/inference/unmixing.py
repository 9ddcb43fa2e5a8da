r"""The likelihood of an unmixing matrix, its relative gradient and its curvature, in one pass over the rows.

For white rows y and sources s = B y with independent laws p_i,

.. math:: \ell(B) = \frac1N \sum_n \sum_i \log p_i(s_{in}) + \log |\det B|.

Along B -> (I + E) B the derivative is G and minus the second derivative is, for laws that hold (Pham & Garat, 1997;
Cardoso & Laheld, 1996),

.. math:: G_{ij} = \delta_{ij} - E\,\psi_i(s_i) s_j, \qquad
          \sum_{ij} E_{ij}^2\, h_{ij} + E_{ij} E_{ji}, \qquad h_{ij} = E\,\psi_i'(s_i) s_j^2,

because E psi_i'(s_i) s_j s_l vanishes for j != l. Blocks of rows small enough for the cache are unmixed, scored and
multiplied while they are there: y is read once an evaluation and the sources are never written to memory. h is only a
preconditioner, so a part of the rows is enough for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probae.inference.source_laws import Block, SourceLaw, source_law
from probae.priors import Prior

BLOCK = 64_000  # entries of a block for each thread: a few such blocks stay in the second cache
CURVATURE = 4  # blocks of which one is used for h, once there are many


@dataclass(frozen=True, eq=False)
class Point:
    """An unmixing matrix and shapes of the laws, with log-likelihood per row, derivatives and curvatures."""

    unmixing: Float[Tensor, "k k"]
    shapes: Float[Tensor, " learnt"]
    value: float
    gradient: Float[Tensor, "k k"]
    curvature: Float[Tensor, "k k"]
    shape_gradient: Float[Tensor, " learnt"]
    shape_curvature: Float[Tensor, " learnt"]

    @property
    def slope(self) -> float:
        """Largest entry of the gradient."""
        largest = float(self.gradient.abs().max())
        return max(largest, float(self.shape_gradient.abs().max())) if len(self.shapes) else largest


class UnmixingLikelihood:
    """Mean log-likelihood of white rows; sources of one law stand side by side.

    Parameters
    ----------
    white : Tensor (N, K)
    laws : list of Prior
        Of each source; equal objects next to each other are evaluated together, and share what is learnt.

    Examples
    --------
    >>> from probae.priors import Gaussian
    >>> white = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    >>> point = UnmixingLikelihood(white, [Gaussian()] * 2).evaluate(torch.eye(2, dtype=torch.float64))
    >>> round(point.value, 4), point.slope
    (-2.8379, 0.0)
    """

    def __init__(self, white: Float[Tensor, "samples k"], laws: list[Prior]) -> None:
        self.white = white
        self.groups: list[tuple[SourceLaw, slice]] = []
        first = 0
        for last in range(1, len(laws) + 1):
            if last == len(laws) or laws[last] is not laws[first]:
                self.groups.append((source_law(laws[first]), slice(first, last)))
                first = last
        found = [law.shape for law, _ in self.groups if law.shape is not None]
        self.learnt = list({id(shape): shape for shape in found}.values())

    @property
    def shapes(self) -> Float[Tensor, " learnt"]:
        """The learnt shapes as they are, unbounded."""
        return torch.tensor([float(shape.log_excess.detach()) for shape in self.learnt], dtype=torch.float64)

    def set_shapes(self, shapes: Float[Tensor, " learnt"]) -> None:
        """Write the learnt shapes into the laws."""
        for shape, value in zip(self.learnt, shapes, strict=True):
            shape.log_excess.data.fill_(float(value))

    def evaluate(
        self, unmixing: Float[Tensor, "k k"], shapes: Tensor | None = None, width: float = 0.0
    ) -> Point:
        """Return the point at an unmixing matrix; its value is minus infinity where the matrix is singular."""
        shapes = self.shapes if shapes is None else shapes
        self.set_shapes(shapes)
        count, latents = self.white.shape
        moment, curvature = torch.zeros(2, latents, latents, dtype=torch.float64)
        sums = np.zeros((len(self.groups), 3))  # of log density, and about the shape
        blocks = self.white.split(max(64, BLOCK * torch.get_num_threads() // latents))
        every = CURVATURE if len(blocks) > CURVATURE else 1
        score, slope = torch.empty(2, latents, len(blocks[0]), dtype=torch.float64)
        curved = 0
        for number, rows in enumerate(blocks):
            if len(rows) < score.shape[1]:
                score, slope = torch.empty(2, latents, len(rows), dtype=torch.float64)
            sources, wanted = unmixing @ rows.T, number % every == 0
            for found, (law, part) in zip(sums, self.groups, strict=True):
                each = law(Block(sources[part], score[part], slope[part], width, wanted))
                found += each[:-2].sum(), each[-2], each[-1]
            moment.addmm_(score, sources.T)
            if wanted:
                curvature.addmm_(slope, sources.square_().T)
                curved += len(rows)
        sign, log_det = torch.linalg.slogdet(unmixing)
        learnt = torch.zeros(len(shapes), 2, dtype=torch.float64)
        for index, shape in enumerate(self.learnt):
            learnt[index] = torch.from_numpy(
                sums[[law.shape is shape for law, _ in self.groups], 1:].sum(0) / count
            )
        return Point(
            unmixing,
            shapes,
            float(sums[:, 0].sum() / count + log_det) if sign != 0 else -math.inf,
            torch.eye(latents, dtype=torch.float64) - moment / count,
            curvature / curved,
            learnt[:, 0],
            learnt[:, 1],
        )
