"""What a law of one coordinate says of its axis: its spread, its information, whether it is Gaussian or symmetric."""

import math

import torch

from probae.priors.base import Prior

__all__ = ["information_of", "is_positive", "is_symmetric", "spread_of"]

SMOOTHING = 0.05  # noise variance, of a law of variance 1, that gives one without finite information some
PROBES = (0.1, 0.37, 0.81, 1.3, 2.2, 4.0)  # standard deviations at which the two sides of a law are compared
ROUNDING = 1e-9


def spread_of(law: Prior) -> float:
    """Return the standard deviation of a coordinate: 1, but for a scaled law.

    Examples
    --------
    >>> from probae import priors
    >>> round(spread_of(priors.Laplace()), 9), round(spread_of(priors.Scaled(priors.Laplace(), 2.0)), 9)
    (1.0, 2.0)
    """
    return float(law.distribution(1).variance.detach().sqrt())


def information_of(law: Prior) -> float:
    """Return the Fisher information E psi^2 of the location of a law, smoothed a little where it is infinite.

    Examples
    --------
    >>> from probae import priors
    >>> information_of(priors.Gaussian()), information_of(priors.Laplace())
    (1.0, 2.0)
    """
    kappa = law.fisher_information()
    if math.isfinite(kappa):
        return kappa
    variance = spread_of(law) ** 2
    return law.noisy_fisher_information(SMOOTHING * variance) / variance


def is_symmetric(law: Prior) -> bool:
    """Whether the density is the same on both sides of 0, so that the sign of a factor is free.

    Examples
    --------
    >>> from probae import priors
    >>> is_symmetric(priors.StudentT(df=5.0))
    True
    """
    z = spread_of(law) * torch.tensor(PROBES, dtype=torch.float64)
    left, right = law.log_prob(-z).double(), law.log_prob(z).double()
    return bool(torch.allclose(left, right, rtol=ROUNDING, atol=ROUNDING))


def is_positive(law: Prior) -> bool:
    """Whether the density is above 0 on both sides as far as it was looked at, 4 standard deviations.

    Examples
    --------
    >>> from probae import priors
    >>> is_positive(priors.Laplace()), is_positive(priors.Uniform())
    (True, False)
    """
    z = spread_of(law) * torch.tensor(PROBES, dtype=torch.float64)
    return bool(law.log_prob(torch.cat([-z, z])).isfinite().all())
