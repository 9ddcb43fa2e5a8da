"""The likelihood of a Gaussian linear factor model on grouped rows, as a problem for an accelerated ascent."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from probae.inference.acceleration import Point
from probae.inference.expectation import expect
from probae.inference.gaussian import SMALLEST
from probae.inference.profile import FLOOR
from probae.models.patterns import Patterns

LARGEST_STEP = 3.0  # of a log noise variance
SMALL = 0.05  # noise variance, relative to that of the column, from where the floor is tried


class FactorLikelihood:
    """The likelihood of grouped rows; theta holds the loadings, log noise variances (one or D) and the mean."""

    def __init__(self, patterns: Patterns, latents: int, diagonal: bool, variance: Tensor) -> None:
        self.patterns = patterns
        self.shape = (patterns.features, latents)
        self.diagonal = diagonal
        split = patterns.features * latents
        self.noise = slice(split, split + (patterns.features if diagonal else 1))
        typical = float(variance.mean())
        floor = (
            FLOOR * variance.clamp_min(1e-6 * typical)
            if diagonal
            else variance.new_full((1,), SMALLEST * typical)
        )
        self.floor = floor.log()
        self.tried = self.floor + math.inf  # log noise variances at which the floor was tried

    def join(self, loadings: Tensor, noise: Tensor, mean: Tensor) -> Tensor:
        """Return theta."""
        log_noise = (noise if self.diagonal else noise[:1]).log()
        return torch.cat([loadings.flatten(), torch.maximum(log_noise, self.floor), mean])

    def split(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return loadings (D, K), noise variances (D,) and mean (D,)."""
        noise = theta[self.noise].exp().expand(self.shape[0])
        return theta[: self.noise.start].view(self.shape), noise, theta[self.noise.stop :]

    def evaluate(self, theta: Tensor) -> Point:
        """Return the log-likelihood per row, its gradient, and the EM step."""
        if not theta.isfinite().all():
            return Point(theta, -math.inf, theta, theta)
        loadings, noise, mean = self.split(theta)
        found = expect(self.patterns, loadings, noise, mean)
        scale, back = noise.sqrt().unsqueeze(1), found.frame.mT
        whitened, slope = found.gradient()
        slope = slope if self.diagonal else slope.sum(0, keepdim=True)
        gradient = torch.cat(
            [(whitened[:, :-1] @ back / scale).flatten(), slope, whitened[:, -1] / scale[:, 0]]
        )
        updated, residual = found.maximum()
        residual = noise * residual
        if not self.diagonal:
            residual = residual.sum(0, keepdim=True).expand(self.shape[0])
        counts = found.counts if self.diagonal else found.counts.sum()
        moved = (
            updated[:, :-1] @ back * scale,
            (residual / counts).clamp_min(1e-300),
            mean + updated[:, -1] * scale[:, 0],
        )
        rows = self.patterns.rows
        return Point(theta, found.value / rows, gradient / rows, self.join(*moved))

    def bounded(self, start: Tensor, step: Tensor) -> Tensor:
        """Shorten a step that changes a noise variance too much, and keep all above their floors."""
        theta = start + step * min(1.0, LARGEST_STEP / max(float(step[self.noise].abs().max()), 1e-300))
        theta[self.noise] = torch.maximum(theta[self.noise], self.floor)
        return theta

    def slope(self, point: Point) -> float:
        """Return the largest derivative in whitened loadings and in log noise variances above their floor."""
        log_noise, slope = point.theta[self.noise], point.gradient[self.noise]
        held = (log_noise <= self.floor) & (slope < 0)
        scale = (0.5 * log_noise).exp().expand(self.shape[0]).unsqueeze(1)
        loadings = point.gradient[: self.noise.start].view(self.shape) * scale
        return float(torch.cat([loadings.flatten(), slope.masked_fill(held, 0.0)]).abs().max())

    def leap(self, point: Point) -> Point | None:
        """Try the floor for the small noise variance that pulls there most: EM alone would take forever."""
        if not self.diagonal:
            return None
        log_noise, slope = point.theta[self.noise], point.gradient[self.noise]
        small = (log_noise < self.floor - math.log(FLOOR) + math.log(SMALL)) & (log_noise > self.floor + 1e-9)
        small &= (slope < 0) & (log_noise < self.tried - 1.0)
        if not small.any():
            return None
        index = int(torch.where(small, slope * (-log_noise).exp(), 0.0).argmin())
        self.tried[index] = log_noise[index]
        theta = point.theta.clone()
        theta[self.noise.start + index] = self.floor[index]
        trial = self.evaluate(theta)
        stays = float(trial.gradient[self.noise.start + index]) <= 0
        return trial if stays and trial.value >= point.value else None

    def at_floor(self, theta: Tensor) -> list[int]:
        """Return the features whose noise variance is at its floor."""
        if not self.diagonal:
            return []
        return torch.nonzero(theta[self.noise] <= self.floor + 0.01).flatten().tolist()
