r"""Maximum likelihood with noise: the covariance of segment s is :math:`C_s = W \operatorname{diag}(v_s) W' + \Psi`.

With M_s the second moments about the mean, :math:`L_s = W \operatorname{diag}(v_s)^{1/2}` and
:math:`A_s = C_s^{-1} - C_s^{-1} M_s C_s^{-1}`, the log-likelihood per row
:math:`-\tfrac12 \sum_s w_s (D \log 2 \pi + \log |C_s| + \operatorname{tr} C_s^{-1} M_s)` has the derivatives

.. math:: - w_s A_s L_s \text{ in } L_s, \qquad -\tfrac12 \sum_s w_s \operatorname{diag} A_s \text{ in } \Psi, \qquad
          \sum_s w_s C_s^{-1} (\bar x_s - \mu) \text{ in } \mu.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.optimize
import torch
from jaxtyping import Float
from torch import Tensor

from probae.inference.base import Loop
from probae.inference.joint_diagonalization import SegmentMoments
from probae.inference.profile import FLOOR
from probae.linalg import LowRankCovariance

LOG_TWO_PI = math.log(2 * math.pi)
LEAST = math.log(1e-6)  # of the variance of a factor in a segment
LEAST_CURVATURE = 1e-6  # nats per row, of an entry that a step is scaled by
DRAWS = 10  # random combinations of segments among which the start is chosen


@dataclass(frozen=True, eq=False)
class SegmentParameters:
    """Loadings (D, K), noise variances (D,), mean (D,) and the variances of the factors in each segment (S, K)."""

    loadings: Float[Tensor, "features latents"]
    noise: Float[Tensor, " features"]
    mean: Float[Tensor, " features"]
    variances: Float[Tensor, "segments latents"]


class SegmentLikelihood:
    """The likelihood of segments as a function of one vector: loadings, log noise (one or D), mean, log variances."""

    def __init__(self, moments: SegmentMoments, latents: int, diagonal: bool) -> None:
        self.moments = moments
        self.features = moments.means.shape[1]
        self.diagonal = diagonal
        self.sizes = [
            self.features * latents,
            self.features if diagonal else 1,
            self.features,
            len(moments.shares) * latents,
        ]
        variance = moments.pooled.diagonal()
        floor = FLOOR * variance.clamp_min(1e-6 * float(variance.mean()))
        self.floor = (floor if diagonal else floor.mean().view(1)).log()

    def join(self, parts: SegmentParameters) -> Tensor:
        """Return the vector."""
        noise = parts.noise.log() if self.diagonal else parts.noise.mean().log().view(1)
        return torch.cat(
            [
                parts.loadings.flatten(),
                torch.maximum(noise, self.floor),
                parts.mean,
                parts.variances.log().clamp_min(LEAST).flatten(),
            ]
        )

    def split(self, theta: Tensor) -> SegmentParameters:
        """Return the parameters."""
        loadings, noise, mean, variances = theta.split(self.sizes)
        return SegmentParameters(
            loadings.view(self.features, -1),
            noise.exp().expand(self.features),
            mean,
            variances.view(len(self.moments.shares), -1).exp(),
        )

    def bounds(self) -> list[tuple[float | None, float | None]]:
        """Return the range of each entry of the vector."""
        loadings, _, mean, variances = self.sizes
        floors: list[tuple[float | None, float | None]] = [(low, None) for low in self.floor.tolist()]
        return [(None, None)] * loadings + floors + [(None, None)] * mean + [(LEAST, None)] * variances

    def evaluate(self, theta: Tensor) -> tuple[float, Tensor]:
        """Return the log-likelihood per row in nats and its gradient."""
        parts, shares = self.split(theta), self.moments.shares
        root = parts.variances.sqrt().unsqueeze(1)
        scaled = parts.loadings * root  # (S, D, K)
        covariance = LowRankCovariance.factor(scaled, parts.noise)
        second = self.moments.about(parts.mean)
        value = -0.5 * shares @ (self.features * LOG_TWO_PI + covariance.log_det + covariance.trace(second))
        gains = covariance.posterior_map  # L' C^-1
        slope = gains.mT - covariance.solve(gains @ second).mT
        slope = -shares.view(-1, 1, 1) * slope
        inverse = (1 - covariance.orthogonal.square().sum(-1)) / covariance.noise
        solved = covariance.solve(covariance.solve(second).mT)  # C^-1 M C^-1
        noise = -0.5 * (shares @ (inverse - solved.diagonal(dim1=1, dim2=2))) * parts.noise
        shift = (self.moments.means - parts.mean).unsqueeze(1)
        mean = shares @ covariance.solve(shift).squeeze(1)
        gradient = [
            (slope * root).sum(0).flatten(),
            noise if self.diagonal else noise.sum().view(1),
            mean,
            0.5 * (slope * scaled).sum(1).flatten(),
        ]
        return float(value), torch.cat(gradient)

    def curvatures(self, theta: Tensor) -> Tensor:
        """Return the diagonal of the expected information per row: the scale of each entry of the vector."""
        parts, shares = self.split(theta), self.moments.shares
        covariance = LowRankCovariance.factor(
            parts.loadings * parts.variances.sqrt().unsqueeze(1), parts.noise
        )
        inverse = (1 - covariance.orthogonal.square().sum(-1)) / covariance.noise  # diag C^-1
        gains = covariance.posterior_map.mT  # C^-1 L
        reached = (gains * covariance.loadings).sum(1)  # diag L' C^-1 L
        loadings = gains.square() + inverse.unsqueeze(2) * reached.unsqueeze(1)
        loadings = loadings * parts.variances.unsqueeze(1)
        noise = 0.5 * shares @ (inverse * parts.noise).square()
        found = [
            torch.einsum("s,sdk->dk", shares, loadings).flatten(),
            noise if self.diagonal else noise.sum().view(1),
            shares @ inverse,
            (0.5 * shares.unsqueeze(1) * reached.square()).flatten(),
        ]
        return torch.cat(found)


def maximize(
    problem: SegmentLikelihood, start: Tensor, steps: int, loop: Loop
) -> tuple[Tensor, list[float], bool]:
    """Run L-BFGS within the bounds; return the best vector, the likelihood at each step, and if it has converged."""
    history = [problem.evaluate(start)[0]]

    size = problem.curvatures(start).clamp_min(LEAST_CURVATURE).rsqrt()
    bounds = [
        (None if low is None else low / s, None)
        for (low, _), s in zip(problem.bounds(), size.tolist(), strict=True)
    ]

    def negative(vector: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = problem.evaluate(size * torch.from_numpy(vector))
        return -value, -(size * gradient).numpy()

    ticks = loop.steps(steps)

    def record(intermediate_result: scipy.optimize.OptimizeResult) -> None:
        history.append(-float(intermediate_result.fun))
        loop.value = history[-1]
        next(ticks, None)

    answer = scipy.optimize.minimize(
        negative,
        (start / size).numpy(),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        callback=record,
        options={"maxiter": steps, "maxfun": 10 * steps, "ftol": 1e-14, "gtol": 1e-7, "maxcor": 30},
    )
    found = size * torch.from_numpy(answer.x)
    # L-BFGS gives up where rounding hides a gain: that is an end as well as a vanished gradient
    return found, history, bool(answer.success) or float(np.abs(answer.jac).max()) < 1e-5


def start_from(
    parts: SegmentParameters, problem: SegmentLikelihood, seed: int
) -> list[Float[Tensor, " size"]]:
    """Turn the pooled fit into frames that random combinations of the segments single out; the best two.

    The scores y = z + N(0, G^{-1}) of a segment have the covariance diag(v_s) + G^{-1} in the right frame.
    """
    whitened = parts.loadings / parts.noise.sqrt().unsqueeze(1)
    solve = torch.linalg.pinv(whitened) / parts.noise.sqrt()
    scores = problem.moments.mapped(solve).about(solve @ parts.mean)
    signal = scores - torch.linalg.pinv(whitened.mT @ whitened)
    generator = torch.Generator().manual_seed(seed)
    starts = []
    for _ in range(DRAWS):
        weights = torch.randn(len(signal), generator=generator, dtype=torch.float64)
        weights = weights * problem.moments.shares.sqrt()
        combined = torch.einsum("s,sij->ij", weights, signal)
        frame = torch.linalg.eigh(0.5 * (combined + combined.mT))[1]
        variances = (frame.mT @ signal @ frame).diagonal(dim1=1, dim2=2).clamp_min(0.02)
        turned = SegmentParameters(parts.loadings @ frame, parts.noise, parts.mean, variances)
        starts.append(problem.join(turned))
    starts.sort(key=lambda theta: -problem.evaluate(theta)[0])
    return starts[:2]
