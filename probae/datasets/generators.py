"""Seeded data from a linear factor model whose truth is known: x = W z + noise.

Every function uses one seed and nothing else: equal arguments give bitwise equal data, and the caller's
random state is as it was. Parameters are drawn before rows, so a longer draw has the same W and psi.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.signal import lfilter
from scipy.stats import binom, norm
from torch import Tensor

from probae.checks import ParameterError, check_count, check_positive
from probae.datasets.base import Dataset
from probae.priors import Laplace, Prior


def linear_factors(
    samples: int,
    features: int,
    latents: int,
    *,
    prior: Prior = Laplace(),
    communality: float | None = None,
    noise: float | Sequence[float] | Float[Tensor, " features"] | None = None,
    loadings: Float[Tensor, "features latents"] | None = None,
    seed: int = 0,
) -> Dataset:
    """Draw rows x = W z + e with z from any prior and e ~ N(0, diag(psi)).

    Parameters
    ----------
    samples, features, latents : N, D, K; K may exceed D
    prior : law of z. `MultivariateStudentT(df)` gives heavy tails without axes,
        `StudentT(30)` latents that are nearly Gaussian
    communality : scale psi by the one number that makes the mean over features of
        (W W')_dd / ((W W')_dd + psi_d) equal to this, between 0 and 1; None leaves psi as it is
    noise : psi, one number or D of them, 0 for none; None draws each uniformly from [.1, .3]
    loadings : W (D, K); None draws independent standard normal entries
    seed : of parameters and rows

    Returns
    -------
    Dataset
        `truth` holds loadings (D, K), noise_variance (D,), mean (D,) of zeros, and z (N, K).

    Raises
    ------
    ParameterError
        If a setting is out of its range or a shape does not fit.

    Examples
    --------
    >>> data = linear_factors(1000, 10, 3, seed=1)
    >>> data.x.shape, data.truth["loadings"].shape, data.truth["z"].shape
    (torch.Size([1000, 10]), torch.Size([10, 3]), torch.Size([1000, 3]))
    """
    with _seeded(seed, samples, features, latents):
        W, psi = _parameters(features, latents, communality, noise, loadings)
        z = prior.sample(samples, latents).detach().to(torch.float64)
        return _observe(W, psi, z, f"linear factor model, {type(prior).__name__} latents, seed {seed}")


def autoregressive(
    samples: int,
    features: int,
    latents: int,
    *,
    phi: float | Sequence[float] = 0.8,
    communality: float | None = None,
    noise: float | Sequence[float] | Float[Tensor, " features"] | None = None,
    loadings: Float[Tensor, "features latents"] | None = None,
    seed: int = 0,
) -> Dataset:
    """Draw a time series x_t = W z_t + e_t whose latents are Gaussian AR(1), each of variance 1.

    z_t = phi z_{t-1} + sqrt(1 - phi^2) u_t, started in its stationary law. Rows depend on each other, which
    tests that assume independent rows mistake for non-Gaussian latents.

    Parameters
    ----------
    phi : autocorrelation at lag 1 of each latent, one number or K of them, strictly between -1 and 1
    samples, features, latents, communality, noise, loadings, seed : as in `linear_factors`

    Returns
    -------
    Dataset
        `truth` as in `linear_factors`, with phi (K,).

    Raises
    ------
    ParameterError
        If a setting is out of its range or a shape does not fit.

    Examples
    --------
    >>> z = autoregressive(2000, 6, 3, phi=(0.9, 0.6, 0.3)).truth["z"]
    >>> round(torch.corrcoef(torch.stack([z[1:, 0], z[:-1, 0]]))[0, 1].item(), 1)
    0.9
    """
    with _seeded(seed, samples, features, latents):
        W, psi = _parameters(features, latents, communality, noise, loadings)
        lag = _vector("phi", phi, latents)
        if not (lag.abs() < 1).all():
            raise ParameterError(f"phi should lie strictly between -1 and 1, got {lag.tolist()}.")
        innovations = torch.randn(samples, latents, dtype=torch.float64)
        innovations[1:] *= (1 - lag.square()).sqrt()
        pairs = zip(lag.tolist(), innovations.T.numpy(), strict=True)
        z = torch.from_numpy(np.stack([lfilter([1.0], [1.0, -p], u) for p, u in pairs], axis=1))
        return _observe(W, psi, z, f"linear factor model, Gaussian AR(1) latents, seed {seed}", phi=lag)


def likert(
    samples: int, features: int = 9, latents: int = 3, *, levels: int = 5, skew: bool = True, seed: int = 0
) -> Dataset:
    """Draw answers 1, 2, ..., levels: Gaussian factor data of variance 1 cut at fixed thresholds.

    Skewed answers have probabilities falling by .55 from each level to the next (.47, .26, .14, .08, .04
    for five); symmetric ones have those of Binomial(levels - 1, 1/2). The latents are Gaussian, yet the
    answers are not, so they look as if they carried information about axes.

    Parameters
    ----------
    samples, features, latents : N, D, K
    levels : number of answers, at least 2
    skew : skewed or symmetric answers
    seed : of parameters and rows

    Returns
    -------
    Dataset
        x holds whole numbers. `truth` describes the continuous variables before the cut (loadings,
        noise_variance, mean, z), and has thresholds (levels - 1,).

    Raises
    ------
    ParameterError
        If a setting is out of its range.

    Examples
    --------
    >>> likert(500).x.unique()
    tensor([1., 2., 3., 4., 5.], dtype=torch.float64)
    """
    check_count("levels", levels, 2)
    with _seeded(seed, samples, features, latents):
        W, psi = _parameters(features, latents, None, None, None)
        variance = W.square().sum(1) + psi
        z = torch.randn(samples, latents, dtype=torch.float64)
        shape = f"{levels} {'skewed' if skew else 'symmetric'} levels"
        continuous = _observe(
            W / variance.sqrt()[:, None], psi / variance, z, f"Gaussian factors cut into {shape}, seed {seed}"
        )
    thresholds = torch.from_numpy(norm.ppf(np.cumsum(_answer_probabilities(levels, skew))[:-1]))
    return Dataset(
        x=1.0 + torch.bucketize(continuous.x, thresholds).to(torch.float64),
        feature_names=continuous.feature_names,
        source=continuous.source,
        truth={**(continuous.truth or {}), "thresholds": thresholds},
    )


@contextmanager
def _seeded(seed: int, samples: int, features: int, latents: int) -> Iterator[None]:
    """Check the sizes, then run on torch's generator with this seed and give the caller's state back."""
    for name, value in (("samples", samples), ("features", features), ("latents", latents)):
        check_count(name, value)
    with torch.random.fork_rng(devices=[]):
        # not torch.manual_seed, which also seeds the caller's other devices
        torch.random.default_generator.manual_seed(check_count("seed", seed, 0))
        yield


def _parameters(
    features: int,
    latents: int,
    communality: float | None,
    noise: float | Sequence[float] | Tensor | None,
    loadings: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """W and psi. Both are drawn in any case, so that giving one leaves the other as it was."""
    W = torch.randn(features, latents, dtype=torch.float64)
    psi = 0.1 + 0.2 * torch.rand(features, dtype=torch.float64)
    if loadings is not None:
        W = torch.as_tensor(loadings, dtype=torch.float64).detach().clone()
        if W.shape != (features, latents) or not W.isfinite().all():
            raise ParameterError(
                f"loadings should be finite with shape ({features}, {latents}), got {tuple(W.shape)}."
            )
    if noise is not None:
        psi = _vector("noise", noise, features)
        if not ((psi >= 0) & psi.isfinite()).all():
            raise ParameterError(f"noise should be a finite variance, at least 0, got {psi.tolist()}.")
    return W, psi if communality is None else psi * _noise_scale(W, psi, communality)


def _noise_scale(W: Tensor, psi: Tensor, communality: float) -> float:
    """Solve mean_d (W W')_dd / ((W W')_dd + c psi_d) = communality for c; the left side falls in c."""
    check_positive("communality", communality)
    if not (psi > 0).all():
        raise ParameterError("noise should be above 0 for every feature to be scaled to a communality.")
    signal = W.square().sum(1)
    top = (signal > 0).double().mean().item()
    if communality >= top:
        raise ParameterError(
            f"communality should lie between 0 and {top:g}, the share of features with a loading, "
            f"got {communality}."
        )

    def excess(log_scale: float) -> float:
        return (signal / (signal + np.exp(log_scale) * psi)).mean().item() - communality

    return float(np.exp(brentq(excess, -200, 200, xtol=1e-13)))


def _vector(name: str, value: float | Sequence[float] | Tensor, length: int) -> Tensor:
    vector = torch.as_tensor(value, dtype=torch.float64).detach()
    if vector.ndim == 0:
        vector = vector.expand(length)
    if vector.shape != (length,):
        raise ParameterError(
            f"{name} should be one number or {length} of them, got shape {tuple(vector.shape)}."
        )
    return vector.clone()


def _observe(W: Tensor, psi: Tensor, z: Tensor, source: str, **more: Tensor) -> Dataset:
    mean = torch.zeros(len(W), dtype=torch.float64)
    x = z @ W.T + psi.sqrt() * torch.randn(len(z), len(W), dtype=torch.float64)
    truth = {"loadings": W, "noise_variance": psi, "mean": mean, "z": z, **more}
    return Dataset(x, tuple(f"x{d + 1}" for d in range(len(W))), source, truth)


def _answer_probabilities(levels: int, skew: bool) -> np.ndarray:
    if skew:
        weights = 0.55 ** np.arange(levels)
        return weights / weights.sum()
    return binom.pmf(np.arange(levels), levels - 1, 0.5)
