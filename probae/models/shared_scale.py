r"""Factors that share one random scale: p(x) of a linear model with a multivariate t law, by one integral.

With z given tau ~ N(0, tau I), tau inverse gamma of shape a = nu / 2 and scale b = (nu - 2) / 2, the singular values
:math:`\Psi^{-1/2} W = U S V'`, :math:`d = s^2` and :math:`y = U' \Psi^{-1/2} (x - \mu)`,

.. math:: p(x) = \int IG(\tau)\, N(x; \mu, \tau W W' + \Psi)\, d\tau, \qquad
          \log N = \text{remainder} - \tfrac12 \sum_k \Big[\log(1 + \tau d_k) + \frac{y_k^2}{1 + \tau d_k}\Big].

In t = log tau the integrand is analytic for :math:`|\mathrm{Im}\, t| < \pi / 2` and at most
:math:`(\cos \theta)^{-(a + K/2)}` times larger on the line Im t = theta, so the trapezoidal rule of step h errs by
:math:`e^{-2 \pi \theta / h} (\cos \theta)^{-(a + K / 2)}`: the step below makes that 1e-14. One lattice serves all
rows, so that everything is a product of matrices (rows, nodes) and (nodes, factors).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

LOG_TWO_PI = math.log(2 * math.pi)
LOG_ERROR = -32.0  # log of the relative error of the trapezoidal rule
TAIL = 50.0  # nats below its largest value where the integrand is cut at the latest
NEGLIGIBLE = 37.0  # and where it may be cut: below the rounding of the sum
STRIDE = 4  # steps between the points that look for the range
CHUNK = 4_000_000  # numbers held at once


@dataclass(frozen=True, eq=False)
class WhitenedScores:
    r"""The part of x that depends on z: y = S V' z + N(0, I), of as many coordinates as W has singular values.

    Attributes
    ----------
    values : Tensor (N, R)
    strengths : Tensor (R,)
        s, the singular values of Psi^{-1/2} W; R = min(D, K).
    frame : Tensor (K, R)
        V.
    remainder : Tensor (N,)
        log p(x) - log p(y) in nats, but for the constant of y.
    """

    values: Float[Tensor, "samples rank"]
    strengths: Float[Tensor, " rank"]
    frame: Float[Tensor, "latents rank"]
    remainder: Float[Tensor, " samples"]

    @classmethod
    def of(cls, x: Tensor, loadings: Tensor, noise: Tensor, mean: Tensor) -> WhitenedScores:
        """Compute the scores of complete rows."""
        scale = noise.sqrt()
        left, strengths, right = torch.linalg.svd(loadings / scale.unsqueeze(1), full_matrices=False)
        rows = (x.double() - mean) / scale
        values = rows @ left
        rest = (rows - values @ left.mT).square().sum(1)
        constant = loadings.shape[0] * LOG_TWO_PI + noise.log().sum()
        return cls(values, strengths, right.mT, -0.5 * (rest + constant))


@dataclass(frozen=True, eq=False)
class ScaleRule:
    """The law of tau as points with weights that sum to one.

    Attributes
    ----------
    log_scales : Tensor (J,)
        log tau, at equal distances.
    log_weights : Tensor (J,)
    """

    log_scales: Float[Tensor, " nodes"]
    log_weights: Float[Tensor, " nodes"]

    @classmethod
    def over(cls, log_scales: Float[Tensor, " nodes"], df: float) -> ScaleRule:
        """Weigh points of a lattice by the law with df degrees of freedom."""
        density = _log_law(log_scales, df)
        return cls(log_scales, density - density.logsumexp(0))

    @classmethod
    def of(
        cls, values: Float[Tensor, "samples rank"], strengths: Float[Tensor, " rank"], df: float
    ) -> ScaleRule:
        """Choose the points that serve all rows, and weigh them.

        Slopes of the integrand in t grow with every y_k^2, so all rows lie between one with y = 0 and one that has the
        largest y_k^2 of any row in each coordinate: the range of these two is the range of all.
        """
        a, b = df / 2, (df - 2) / 2
        power = strengths.square()
        square = torch.zeros(2, len(strengths), dtype=torch.float64)
        if len(values):
            square[1] = values.square().amax(0)
        step = trapezoid_step(a + len(strengths) / 2)
        half = math.sqrt(2 * TAIL / a)
        reach = float((square[1] / power)[power > 0].sum())  # E |z|^2 of that row at most
        low = math.log(b / a) - min(half, 1.0) - math.log1p((len(strengths) / 2 + TAIL) / a)
        high = math.log((b + reach / 2) / a) + half + 2 * TAIL / a
        first, last = math.floor(low / step), math.ceil(high / step)
        coarse = step * torch.arange(first, last + STRIDE, STRIDE, dtype=torch.float64)
        law = _log_law(coarse, df)
        height = torch.cat([law + log_kernel(square, power, coarse), law.unsqueeze(0)])
        needed = (height > height.amax(1, keepdim=True) - NEGLIGIBLE).any(0).nonzero().flatten()
        start, stop = int(needed[0]) - 1, int(needed[-1]) + 1
        lattice = torch.arange(first + STRIDE * start, first + STRIDE * stop + 1, dtype=torch.float64)
        return cls.over(step * lattice, df)

    @property
    def scales(self) -> Float[Tensor, " nodes"]:
        """The points tau."""
        return self.log_scales.exp()


def trapezoid_step(exponent: float) -> float:
    """Return the step in log tau for an integrand that grows by (cos theta)^-exponent off the real line.

    Examples
    --------
    >>> round(trapezoid_step(2.5), 2), round(trapezoid_step(500.0), 3)
    (0.24, 0.035)
    """
    angle = torch.linspace(0.01, 1.56, 400, dtype=torch.float64)
    return float((2 * math.pi * angle / (-LOG_ERROR - exponent * angle.cos().log())).max())


def _log_law(log_scales: Tensor, df: float) -> Tensor:
    """Return the log density of log tau, up to a constant and without large terms that cancel."""
    a = df / 2
    u = log_scales - math.log((df - 2) / df)
    return -a * (u + torch.expm1(-u))


def log_kernel(
    square: Float[Tensor, "samples rank"], power: Float[Tensor, " rank"], log_scales: Float[Tensor, " nodes"]
) -> Float[Tensor, "samples nodes"]:
    """Return -1/2 sum_k [log(1 + tau d_k) + y_k^2 / (1 + tau d_k)] for every row and point."""
    spread = torch.outer(log_scales.exp(), power)
    return -0.5 * (torch.log1p(spread).sum(1) + square @ (1 / (1 + spread)).mT)


def shared_scale_log_density(
    x: Tensor, loadings: Tensor, noise: Tensor, mean: Tensor, df: float
) -> Float[Tensor, " samples"]:
    """Return log p(x) per row in nats for complete rows."""
    scores = WhitenedScores.of(x, loadings, noise, mean)
    return scores.remainder + log_evidence(scores, df)


def log_evidence(scores: WhitenedScores, df: float) -> Float[Tensor, " samples"]:
    """Return log p(y), but for its constant, rows in blocks."""
    rule = ScaleRule.of(scores.values, scores.strengths, df)
    power, square = scores.strengths.square(), scores.values.square()
    blocks = square.split(max(1, CHUNK // len(rule.log_scales)))
    parts = [(rule.log_weights + log_kernel(block, power, rule.log_scales)).logsumexp(1) for block in blocks]
    return torch.cat(parts)
