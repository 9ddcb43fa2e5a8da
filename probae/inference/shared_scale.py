r"""EM for a linear factor model whose factors share one random scale: a multivariate t law of z, with noise.

Given tau the model is Gaussian, so with r_nj the probability of tau_j given x_n, and in the frame of the whitened
scores :math:`y = S V' z + N(0, I)`,

.. math:: E[z \mid x] = y \circ \sum_j r_j c_j, \qquad
          E[z z' \mid x] = \sum_j r_j \Big[\operatorname{diag} \frac{\tau_j}{1 + \tau_j d} + (c_j c_j') \circ y y'\Big],
          \qquad c_{jk} = \frac{\tau_j s_k}{1 + \tau_j d_k}.

Loadings, mean and noise follow by regression of x on (z, 1). The law of z given tau is then read off as if it were
free, N(a, tau Phi), and put back into W and the mean, which takes larger steps to the same end (parameter expansion:
Liu, Rubin & Wu, 1998). The degrees of freedom solve :math:`\log b + a / b - \psi(a) = E \log \tau + E \tau^{-1}`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import scipy.optimize
import scipy.special
import torch
from jaxtyping import Float
from torch import Tensor

from probae.inference.acceleration import Point
from probae.inference.factor_likelihood import FactorLikelihood
from probae.models.shared_scale import CHUNK, ScaleRule, WhitenedScores, log_kernel

FEWEST, MOST = math.log(1e-2), math.log(1e4)  # log of the degrees of freedom beyond 2
LARGEST_STEP = 1.0  # of it


@dataclass(eq=False)
class ScaleMoments:
    """Sums over rows of what the M step needs, in the frame of the whitened scores.

    Attributes
    ----------
    value : float
        Log-likelihood of all rows in nats.
    first, first_scaled : Tensor (R,)
        Sums of E z and E z / tau.
    second, second_scaled : Tensor (R, R)
        Sums of E z z' and E z z' / tau.
    cross : Tensor (D, R)
        Sum of whitened rows times E z'.
    inverse_scale, log_scale : float
        Means of E 1 / tau and E log tau.
    """

    value: float
    first: Float[Tensor, " rank"]
    first_scaled: Float[Tensor, " rank"]
    second: Float[Tensor, "rank rank"]
    second_scaled: Float[Tensor, "rank rank"]
    cross: Float[Tensor, "features rank"]
    inverse_scale: float
    log_scale: float


def collect(scores: WhitenedScores, rows: Float[Tensor, "samples features"], df: float) -> ScaleMoments:
    """Run the E step on whitened rows."""
    rule = ScaleRule.of(scores.values, scores.strengths, df)
    nodes, rank = len(rule.log_scales), len(scores.strengths)
    scales, power = rule.scales, scores.strengths.square()
    shrunk = 1 / (1 + torch.outer(scales, power))
    gains = scales.unsqueeze(1) * scores.strengths * shrunk
    upper = torch.triu_indices(rank, rank)
    grams = torch.zeros(nodes, upper.shape[1], dtype=torch.float64)
    load = torch.zeros(nodes, dtype=torch.float64)
    first, first_scaled = torch.zeros(2, rank, dtype=torch.float64)
    cross = torch.zeros(rows.shape[1], rank, dtype=torch.float64)
    value = float(scores.remainder.sum())
    size = max(1, CHUNK // max(nodes, upper.shape[1]))
    for y, block in zip(scores.values.split(size), rows.split(size), strict=True):
        joint = rule.log_weights + log_kernel(y.square(), power, rule.log_scales)
        evidence = joint.logsumexp(1, keepdim=True)
        weights = (joint - evidence).exp()
        value += float(evidence.sum())
        z = y * (weights @ gains)
        first += z.sum(0)
        first_scaled += (y * (weights @ (gains / scales.unsqueeze(1)))).sum(0)
        cross += block.mT @ z
        load += weights.sum(0)
        grams += weights.mT @ (y[:, upper[0]] * y[:, upper[1]])
    products = gains[:, upper[0]] * gains[:, upper[1]]
    second = _symmetric((grams * products).sum(0), upper, rank)
    second_scaled = _symmetric((grams * products / scales.unsqueeze(1)).sum(0), upper, rank)
    second.diagonal().add_(load @ (scales.unsqueeze(1) * shrunk))
    second_scaled.diagonal().add_(load @ shrunk)
    share = load / len(rows)
    return ScaleMoments(
        value,
        first,
        first_scaled,
        second,
        second_scaled,
        cross,
        float(share @ (1 / scales)),
        float(share @ rule.log_scales),
    )


def _symmetric(values: Tensor, upper: Tensor, rank: int) -> Tensor:
    matrix = values.new_zeros(rank, rank)
    matrix[upper[0], upper[1]] = values
    matrix[upper[1], upper[0]] = values
    return matrix


class SharedScaleLikelihood:
    """The likelihood as a problem for an accelerated ascent: theta of the Gaussian model, then log(nu - 2)."""

    def __init__(self, x: Float[Tensor, "samples features"], gaussian: FactorLikelihood, learn: bool) -> None:
        self.x, self.gaussian, self.learn = x, gaussian, learn

    def evaluate(self, theta: Tensor) -> Point:
        """Return the log-likelihood per row, its gradient, and the EM step."""
        if not theta.isfinite().all():
            return Point(theta, -math.inf, theta, theta)
        loadings, noise, mean = self.gaussian.split(theta[:-1])
        df = 2 + math.exp(float(theta[-1]))
        scores = WhitenedScores.of(self.x, loadings, noise, mean)
        rows = (self.x - mean) / noise.sqrt()
        found = collect(scores, rows, df)
        whitened = loadings / noise.sqrt().unsqueeze(1) @ scores.frame
        total, power, count = rows.sum(0), rows.square().sum(0), len(rows)
        slopes = self._slopes(found, whitened, total, power, count)
        moved = maximum(found, total, power, count)
        scale, back = noise.sqrt(), scores.frame.mT
        gradient = torch.cat(
            [(slopes[0] @ back / scale.unsqueeze(1)).flatten(), slopes[1], slopes[2] / scale]
        )
        body = self.gaussian.join(
            moved[0] @ back * scale.unsqueeze(1), (noise * self._pooled(moved[1])).clamp_min(1e-300),
            mean + moved[2] * scale,
        )  # fmt: skip
        slope = 0.5 * (df - 2) * _freedom_slope(df, found) if self.learn else 0.0
        excess = _best_excess(found) if self.learn else float(theta[-1])
        return Point(
            theta,
            found.value / count,
            torch.cat([gradient / count, theta.new_tensor([slope])]),
            torch.cat([body, theta.new_tensor([excess])]),
        )

    def _slopes(
        self, found: ScaleMoments, whitened: Tensor, total: Tensor, power: Tensor, count: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the derivatives in whitened loadings, log noise and whitened mean (Fisher's identity)."""
        loadings = found.cross - whitened @ found.second
        residual = power - (whitened * (found.cross + loadings)).sum(1)
        noise = 0.5 * (residual - count)
        return (
            loadings,
            noise if self.gaussian.diagonal else noise.sum().view(1),
            total - whitened @ found.first,
        )

    def _pooled(self, residual: Tensor) -> Tensor:
        return residual if self.gaussian.diagonal else residual.mean().expand(len(residual))

    def bounded(self, start: Tensor, step: Tensor) -> Tensor:
        """Shorten a step that changes the noise or the degrees of freedom too much, and keep both in range."""
        body = self.gaussian.bounded(start[:-1], step[:-1])
        excess = start[-1:] + step[-1:].clamp(-LARGEST_STEP, LARGEST_STEP)
        return torch.cat([body, excess.clamp(FEWEST, MOST) if self.learn else start[-1:]])

    def slope(self, point: Point) -> float:
        """Return the largest derivative in directions without units, but for what pulls beyond a bound."""
        body = Point(point.theta[:-1], point.value, point.gradient[:-1], point.following[:-1])
        excess, pull = float(point.theta[-1]), float(point.gradient[-1])
        held = (excess <= FEWEST and pull < 0) or (excess >= MOST and pull > 0)
        return max(self.gaussian.slope(body), 0.0 if held else abs(pull))

    def leap(self, point: Point) -> Point | None:
        """No leaps: the tails of z keep noise variances off their floor."""
        return None


def maximum(found: ScaleMoments, total: Tensor, power: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Run the M step: whitened loadings (D, R), noise (D,) relative to the old one, and shift of the mean (D,)."""
    rank = len(found.first)
    moment = torch.zeros(rank + 1, rank + 1, dtype=torch.float64)
    moment[:rank, :rank], moment[rank, rank] = found.second, count
    moment[:rank, rank] = moment[rank, :rank] = found.first
    cross = torch.cat([found.cross, total.unsqueeze(1)], 1)
    size = moment.diagonal().sqrt()
    updated = torch.linalg.lstsq(
        moment / torch.outer(size, size), (cross / size).mT, driver="gelsd"
    ).solution.mT
    updated = updated / size
    residual = (power - (updated * cross).sum(1)) / count
    loadings, shift = updated[:, :-1], updated[:, -1]
    centre = found.first_scaled / (count * found.inverse_scale)
    spread = found.second_scaled / count - torch.outer(centre, found.first_scaled / count)
    values, vectors = torch.linalg.eigh(spread)
    root = (vectors * values.clamp_min(0.0).sqrt()) @ vectors.mT
    return loadings @ root, residual, shift + loadings @ centre


def _freedom_slope(df: float, found: ScaleMoments) -> float:
    """Return the derivative of E log p(tau) in nu, twice."""
    a, b = df / 2, (df - 2) / 2
    return float(math.log(b) + a / b - scipy.special.digamma(a) - found.log_scale - found.inverse_scale)


def _best_excess(found: ScaleMoments) -> float:
    """Return log(nu - 2) with the best expected log p(tau), within its range."""

    def slope(excess: float) -> float:
        return _freedom_slope(2 + math.exp(excess), found)

    if slope(FEWEST) <= 0:
        return FEWEST
    if slope(MOST) >= 0:
        return MOST
    return float(scipy.optimize.brentq(slope, FEWEST, MOST, xtol=1e-12))
