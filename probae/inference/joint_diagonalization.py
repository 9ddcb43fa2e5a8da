r"""Joint diagonalisation of the covariances of segments: maximum likelihood of sources whose variances change.

With M_s the second moments of z = B (x - mu) in segment s and w_s its share of the rows, the likelihood per row is

.. math:: -\tfrac12 \sum_s w_s \sum_k \log (M_s)_{kk} + \log |\det B| + \text{constant}

(Pham, 2001). A relative step B <- (I + E) B has the slope :math:`G_{ij} = \sum_s w_s (M_s)_{ij} / (M_s)_{ii} -
\delta_{ij}` downhill and, near diagonal M_s, a curvature that couples E_ij with E_ji alone:

.. math:: \begin{pmatrix} \omega_{ij} & 1 \\ 1 & \omega_{ji} \end{pmatrix}, \qquad
          \omega_{ij} = \sum_s w_s (M_s)_{jj} / (M_s)_{ii},

positive definite unless the two variances are proportional over the segments: then no data tell the axes apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from probae.inference.base import Loop

FLOOR = 1e-3  # least curvature of a plane that a step trusts
HALVINGS = 30
CALM = 1e-9  # largest slope at the end, in nats per row


@dataclass(frozen=True, eq=False)
class SegmentMoments:
    """Share of the rows, mean and covariance of each segment.

    Attributes
    ----------
    shares : Tensor (S,)
    means : Tensor (S, D)
    covariances : Tensor (S, D, D)
        Divisor: the rows of the segment.
    """

    shares: Float[Tensor, " segments"]
    means: Float[Tensor, "segments features"]
    covariances: Float[Tensor, "segments features features"]

    @property
    def mean(self) -> Float[Tensor, " features"]:
        """Mean of all rows."""
        return self.shares @ self.means

    @property
    def pooled(self) -> Float[Tensor, "features features"]:
        """Covariance of all rows."""
        return torch.einsum("s,sde->de", self.shares, self.about(self.mean))

    def about(self, centre: Float[Tensor, " features"]) -> Float[Tensor, "segments features features"]:
        """Second moments about a centre."""
        shift = self.means - centre
        return self.covariances + shift.unsqueeze(2) * shift.unsqueeze(1)

    def mapped(self, matrix: Float[Tensor, "columns features"]) -> SegmentMoments:
        """Moments of matrix @ x."""
        return SegmentMoments(self.shares, self.means @ matrix.mT, matrix @ self.covariances @ matrix.mT)


@dataclass(frozen=True, eq=False)
class Diagonalization:
    """The unmixing matrix, the centre of the sources, and the objective in nats per row at each step."""

    unmixing: Float[Tensor, "latents features"]
    centre: Float[Tensor, " latents"]
    history: list[float]
    converged: bool


def diagonalize(
    moments: SegmentMoments, start: Float[Tensor, "latents features"], steps: int, loop: Loop
) -> Diagonalization:
    """Climb from one start by relative quasi-Newton steps; the objective never falls.

    Examples
    --------
    >>> shares = torch.tensor([0.5, 0.5], dtype=torch.float64)
    >>> variances = torch.tensor([[1.0, 4.0], [3.0, 0.5]], dtype=torch.float64)
    >>> mixing = torch.tensor([[1.0, 1.0], [-1.0, 2.0]], dtype=torch.float64)
    >>> covariances = mixing @ torch.diag_embed(variances) @ mixing.T
    >>> moments = SegmentMoments(shares, torch.zeros(2, 2, dtype=torch.float64), covariances)
    >>> with Loop("segments") as loop:
    ...     found = diagonalize(moments, torch.eye(2, dtype=torch.float64), 50, loop)
    >>> product = (found.unmixing @ mixing).abs()
    >>> bool((product.min(0).values < 1e-8 * product.max(0).values).all()), found.converged
    (True, True)
    """
    unmixing = start
    own = moments.mapped(unmixing)
    centre = _centre(own, own.mean)
    value = objective(own.about(centre), moments.shares, unmixing)
    history, converged = [value], False
    for _ in loop.steps(steps):
        second = own.about(centre)
        slope, step = relative_step(second, moments.shares)
        taken = _search(moments, unmixing, centre, step, value)
        if taken is not None:
            unmixing, own, centre, value = taken
            history.append(value)
            loop.value = value
        if taken is None or float(slope.abs().max()) < CALM:
            converged = float(slope.abs().max()) < math.sqrt(CALM)
            break
    return Diagonalization(unmixing, centre, history, converged)


def objective(
    second: Float[Tensor, "segments latents latents"], shares: Float[Tensor, " segments"], unmixing: Tensor
) -> float:
    """Return the likelihood per row in nats, but for constants; minus infinity where a variance vanishes."""
    variances = second.diagonal(dim1=1, dim2=2)
    return float(torch.linalg.slogdet(unmixing).logabsdet - 0.5 * (shares @ variances.log()).sum())


def relative_step(
    second: Float[Tensor, "segments latents latents"], shares: Float[Tensor, " segments"]
) -> tuple[Float[Tensor, "latents latents"], Float[Tensor, "latents latents"]]:
    """Return the slope G and the quasi-Newton step E."""
    variances = second.diagonal(dim1=1, dim2=2)
    slope = torch.einsum("s,sij->ij", shares, second / variances.unsqueeze(2))
    slope = slope - torch.eye(len(slope), dtype=torch.float64)
    one = ratios(variances, shares)
    two = one.mT
    least = 0.5 * (one + two) - (0.25 * (one - two).square() + 1).sqrt()
    lift = (FLOOR - least).clamp_min(0.0)
    one, two = one + lift, two + lift
    step = (slope.mT - two * slope) / (one * two - 1)
    step.fill_diagonal_(0.0)
    return slope, step


def ratios(
    variances: Float[Tensor, "segments latents"], shares: Float[Tensor, " segments"]
) -> Float[Tensor, "latents latents"]:
    """Return omega_ij, the mean over rows of v_j / v_i."""
    return torch.einsum("s,si,sj->ij", shares, 1 / variances, variances)


def _search(
    moments: SegmentMoments, unmixing: Tensor, centre: Tensor, step: Tensor, value: float
) -> tuple[Tensor, SegmentMoments, Tensor, float] | None:
    """Halve the step until the objective rises; None when rounding hides any rise."""
    identity = torch.eye(len(step), dtype=torch.float64)
    for _ in range(HALVINGS):
        turn = identity + step
        moved = turn @ unmixing
        own = moments.mapped(moved)
        best = _centre(own, turn @ centre)
        found = objective(own.about(best), moments.shares, moved)
        if found > value:
            scale = own.about(best).diagonal(dim1=1, dim2=2)
            size = (moments.shares @ scale).sqrt()
            scaled = moved / size.unsqueeze(1)
            return scaled, moments.mapped(scaled), best / size, found
        step = step / 2
    return None


def _centre(own: SegmentMoments, current: Tensor) -> Float[Tensor, " latents"]:
    """Return the mean of the sources, each segment weighed by its precision: a step that cannot lower the objective."""
    variances = own.about(current).diagonal(dim1=1, dim2=2)
    weights = own.shares.unsqueeze(1) / variances
    return (weights * own.means).sum(0) / weights.sum(0)


def starting_frames(
    moments: SegmentMoments, count: int, seed: int
) -> list[Float[Tensor, "latents features"]]:
    """Return unmixing matrices that diagonalise the pooled covariance and a random combination of the segments.

    Each is right in the limit of many rows, where all segments share their axes.
    """
    values, vectors = torch.linalg.eigh(moments.pooled)
    whitener = (vectors / values.sqrt()).mT
    white = moments.mapped(whitener).about(whitener @ moments.mean)
    generator = torch.Generator().manual_seed(seed)
    frames = []
    for _ in range(count):
        weights = torch.randn(len(white), generator=generator, dtype=torch.float64) * moments.shares.sqrt()
        frames.append(torch.linalg.eigh(torch.einsum("s,sij->ij", weights, white))[1].mT @ whitener)
    return frames
