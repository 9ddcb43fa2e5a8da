"""How well chains of draws have mixed: split R-hat and the effective sample size, for many quantities at once."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

BLOCK = 4_000_000  # numbers in the chains that are transformed at once


def split_r_hat(draws: Float[Tensor, "chains draws *batch"]) -> Float[Tensor, "*batch"]:
    r"""Return sqrt(((n - 1)/n W + B/n) / W), each chain cut in two halves of n draws; 1 where nothing varies.

    NaN with fewer than 4 draws a chain.

    References
    ----------
    .. [1] Vehtari, A., Gelman, A., Simpson, D., Carpenter, B. & Burkner, P.-C. (2021). Rank-normalization, folding, and
       localization: an improved R-hat. Bayesian Analysis 16, 667-718, eqs. 1-4.

    Examples
    --------
    >>> import torch
    >>> chains = torch.randn(4, 1000, generator=torch.Generator().manual_seed(0))
    >>> 0.99 < split_r_hat(chains).item() < 1.01, split_r_hat(chains + torch.arange(4)[:, None]).item() > 1.5
    (True, True)
    """
    half = draws.shape[1] // 2
    if half < 2:
        return draws.new_full(draws.shape[2:], torch.nan)
    halves = torch.cat([draws[:, :half], draws[:, -half:]])
    within = halves.var(1).mean(0)
    pooled = (half - 1) / half * within + halves.mean(1).var(0)
    return torch.where(pooled == 0, 1.0, (pooled / within).sqrt())


def effective_sample_size(draws: Float[Tensor, "chains draws *batch"]) -> Float[Tensor, "*batch"]:
    r"""Return how many independent draws would give the mean the same standard error.

    The number of draws over 1 + 2 sum_t rho_t, the autocorrelations summed while those of two neighbouring lags
    together are positive and falling (Geyer, 1992); NaN with fewer than 4 draws a chain.

    References
    ----------
    .. [1] Vehtari, A. et al. (2021). Bayesian Analysis 16, 667-718, eqs. 10 and 11.

    Examples
    --------
    >>> import torch
    >>> chains = torch.randn(4, 1000, generator=torch.Generator().manual_seed(0))
    >>> 3000 < effective_sample_size(chains).item() < 5000
    True
    """
    chains, length = draws.shape[:2]
    if length < 4:
        return draws.new_full(draws.shape[2:], torch.nan)
    columns = draws.reshape(chains, length, -1)
    height = max(1, BLOCK // (chains * length))
    parts = [_effective(part) for part in columns.split(height, dim=2)]
    return torch.cat(parts).reshape(draws.shape[2:])


def _effective(draws: Float[Tensor, "chains draws columns"]) -> Float[Tensor, "columns"]:
    chains, length = draws.shape[:2]
    centred = draws - draws.mean(1, keepdim=True)
    spectrum = torch.fft.rfft(centred, n=2 * length, dim=1)
    covariance = torch.fft.irfft(spectrum.abs().square(), n=2 * length, dim=1)[:, :length] / length
    within = covariance[:, 0].mean(0) * length / (length - 1)
    pooled = within * (length - 1) / length
    if chains > 1:
        pooled = pooled + draws.mean(1).var(0)
    correlation = 1 - (within - covariance.mean(0) * length / (length - 1)) / pooled
    correlation[0] = 1.0
    even = length // 2 * 2
    pairs = correlation[:even].reshape(even // 2, 2, -1).sum(1)
    positive = (pairs > 0).cummin(0).values  # Geyer's initial positive sequence
    falling = torch.where(positive, pairs, torch.zeros_like(pairs)).cummin(0).values
    time = (2 * falling.sum(0) - 1).clamp_min(1 / torch.tensor(float(chains * length)).log10())
    size = chains * length / time
    return torch.where(pooled == 0, float(chains * length), size)
