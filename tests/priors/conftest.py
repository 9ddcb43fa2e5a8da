"""The registry of laws: a line each, with its log density written a second time in plain Python.

A test that asks for `law` runs for every line, one that asks for `mixture` for every Gaussian scale mixture, one
that asks for `convex` for every law whose -log p is convex, and so on.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from math import exp, gamma, inf, lgamma, log, log1p, pi, sqrt

import numpy as np
import pytest
import torch
from scipy import integrate

from probae.priors import Gaussian, GeneralizedNormal, Laplace, Logistic, Scaled, SpikeSlab, StudentT, Uniform


def normal(z, variance=1.0):
    return -0.5 * (z * z / variance + log(2 * pi * variance))


def laplace(z, sd=1.0):
    return -sqrt(2) * abs(z) / sd - log(sqrt(2) * sd)


def student(df):
    constant = lgamma((df + 1) / 2) - lgamma(df / 2) - 0.5 * log(pi * (df - 2))
    return lambda z: constant - (df + 1) / 2 * log1p(z * z / (df - 2))


def logistic(z, s=sqrt(3) / pi):
    return -abs(z) / s - 2 * log1p(exp(-abs(z) / s)) - log(s)


def generalized(beta):
    alpha = sqrt(gamma(1 / beta) / gamma(3 / beta))
    return lambda z: log(beta / (2 * alpha * gamma(1 / beta))) - (abs(z) / alpha) ** beta


def mixture(z, q=0.2, spike=0.1):
    slab = (1 - (1 - q) * spike**2) / q
    return float(np.logaddexp(log(q) + normal(z, slab), log(1 - q) + normal(z, spike**2)))


def uniform(z):
    return -log(2 * sqrt(3)) if abs(z) <= sqrt(3) else -inf


# constructor, log density, kappa (from the table of Cramer-Rao bounds where it has the law, to its digits)
LAWS = {
    "gaussian": (Gaussian, normal, 1.0),
    "laplace": (Laplace, laplace, 2.000),
    "t3": (lambda: StudentT(df=3), student(3), 2.000),
    "t5": (lambda: StudentT(df=5), student(5), 1.250),
    "t10": (lambda: StudentT(df=10), student(10), 1.0577),
    "t30, learnt": (lambda: StudentT(df=30, learn=True), student(30), 1.0065),
    "logistic": (Logistic, logistic, 1.0966),
    "ggd 0.4": (lambda: GeneralizedNormal(shape=0.4), generalized(0.4), inf),
    "ggd 0.8": (lambda: GeneralizedNormal(shape=0.8), generalized(0.8), 4.222),
    "ggd 1": (lambda: GeneralizedNormal(shape=1), generalized(1), 2.000),
    "ggd 1.5, learnt": (lambda: GeneralizedNormal(shape=1.5, learn=True), generalized(1.5), 1.0958),
    "ggd 4": (lambda: GeneralizedNormal(shape=4), generalized(4), 1.371),
    "spike and slab": (SpikeSlab, mixture, None),
    "uniform": (Uniform, uniform, inf),
    "laplace, sd 3": (lambda: Scaled(Laplace(), sd=3.0), lambda z: laplace(z, 3.0), 2 / 9),
}
EDGE = sqrt(3)  # of the uniform law


@cache
def masses(name):
    """Points z = sinh(u)^3 / 100, dense at 0 and far out, and the mass of the law around each."""
    u = np.linspace(-5, 5, 40_000)  # an even number, so that 0 is no point
    z = np.sinh(u) ** 3 / 100
    density = np.exp([LAWS[name][1](float(point)) for point in z])
    mass = density * 3 * np.sinh(u) ** 2 * np.cosh(u) / 100 * (u[1] - u[0])
    assert mass.sum() == pytest.approx(1, abs=2e-4)  # the jump of the uniform law; 1e-6 for the others
    return z, mass


@dataclass
class Law:
    """A line of the registry."""

    name: str

    @cached_property
    def prior(self):
        return LAWS[self.name][0]()

    @property
    def log_density(self):
        return LAWS[self.name][1]

    @property
    def kappa(self):
        return LAWS[self.name][2]

    @property
    def variance(self):
        return 9.0 if self.name == "laplace, sd 3" else 1.0

    def integral(self, function):
        """Integral of function(z) p(z), by scipy, on pieces that end at the kinks and follow the scales."""
        reach = EDGE if self.name == "uniform" else inf
        ends = [0.0, *(10.0**k for k in range(-6, 2)), EDGE, 3.0, 30.0, inf]
        ends = sorted({min(end, reach) for end in ends})
        both = lambda z: exp(self.log_density(z)) * (function(z) + function(-z))  # noqa: E731
        pieces = zip(ends[:-1], ends[1:], strict=True)
        return sum(integrate.quad(both, *piece, epsabs=0, epsrel=1e-11)[0] for piece in pieces)

    def noisy_log_density(self, y, variance):
        """Log density of z + N(0, variance) at y, by scipy, relative to the peak of the integrand."""
        sd = sqrt(variance)
        height = lambda z: self.log_density(z) + normal(y - z, variance)  # noqa: E731
        line = np.concatenate([y + sd * np.linspace(-9, 9, 181), np.linspace(0, y, 2001), [0.0, -EDGE, EDGE]])
        heights = np.array([height(float(z)) for z in line])
        peak, top = float(line[heights.argmax()]), float(heights.max())
        near = sd * np.array([0, 0.01, 0.03, 0.1, 0.3, 1, 3, 10])
        ends = np.concatenate([y + near, y - near, peak + near, peak - near, [0.0, -EDGE, EDGE]])
        low, high = min(y, 0.0) - 10 * sd, max(y, 0.0) + 10 * sd
        ends = np.unique(np.clip(ends, low, high))
        share = lambda z: exp(height(z) - top)  # noqa: E731
        pieces = zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
        settings = {"epsabs": 1e-11 * sd, "epsrel": 1e-10, "limit": 200}
        return top + log(sum(integrate.quad(share, *piece, **settings)[0] for piece in pieces))

    def distribution_function(self):
        """The distribution function, interpolated between the points of `masses`."""
        z, mass = masses(self.name)
        below = np.cumsum(mass) - mass / 2
        return lambda draws: np.interp(draws, z, below)

    def mean(self, function):
        """Mean of function(z) under the law, for a function of tensors; to 1e-5."""
        z, mass = masses(self.name)
        return float(function(torch.from_numpy(z)).detach() @ torch.from_numpy(mass))

    @property
    def is_convex(self):
        """Whether second differences of -log p are nowhere negative."""
        z = np.linspace(-1, 1, 2001) * (EDGE if self.name == "uniform" else 40.0)
        second = np.diff([-self.log_density(float(point)) for point in z[1:-1]], 2)
        return bool((second > -1e-12).all())


def select(name):
    """The laws a test argument stands for."""
    laws = [Law(name) for name in LAWS]
    return {
        "law": laws,
        "mixture": [law for law in laws if law.prior.has_scale_mixture],
        "convex": [law for law in laws if law.is_convex],
        "not_convex": [law for law in laws if not law.is_convex],
        "learnt": [law for law in laws if list(law.prior.parameters())],
    }[name]


def pytest_generate_tests(metafunc):
    for name in ("law", "mixture", "convex", "not_convex", "learnt"):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, select(name), ids=lambda law: law.name)


@pytest.fixture
def points():
    """Points of float64 away from 0 and from the edge of the uniform law, some of them outside of it."""
    return torch.tensor([-9.0, -2.3, -1.1, -0.3, -0.02, 0.05, 0.4, 0.9, 1.5, 4.0, 25.0], dtype=torch.float64)
