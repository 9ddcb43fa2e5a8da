"""The registry of laws: a line each, with the log density written a second time in plain Python."""

from math import cosh, exp, gamma, inf, lgamma, log, log1p, pi, sqrt

import numpy as np
import pytest
import torch
from scipy import integrate, special

from probae.priors import Gaussian, GeneralizedNormal, Laplace, Logistic, Scaled, SpikeSlab, StudentT, Uniform


def student(df):
    constant = lgamma((df + 1) / 2) - lgamma(df / 2) - 0.5 * log(pi * (df - 2))
    return lambda z: constant - (df + 1) / 2 * log1p(z * z / (df - 2))


def generalized(beta):
    alpha = sqrt(gamma(1 / beta) / gamma(3 / beta))
    return lambda z: log(beta / (2 * alpha * gamma(1 / beta))) - (abs(z) / alpha) ** beta


def normal(z, variance=1.0):
    return -0.5 * (z * z / variance + log(2 * pi * variance))


def logistic(z, s=sqrt(3) / pi):
    return -abs(z) / s - 2 * log1p(exp(-abs(z) / s)) - log(s)


def mixture(z, q=0.2, spike=0.1):
    slab = (1 - (1 - q) * spike**2) / q
    return np.logaddexp(log(q) + normal(z, slab), log(1 - q) + normal(z, spike**2))


def uniform(z):
    return -log(2 * sqrt(3)) if abs(z) <= sqrt(3) else -inf


LAWS = {
    "gaussian": (Gaussian, normal),
    "laplace": (Laplace, lambda z: -sqrt(2) * abs(z) - 0.5 * log(2)),
    "t2.5": (lambda: StudentT(df=2.5), student(2.5)),
    "t5": (lambda: StudentT(df=5), student(5)),
    "t100-learnt": (lambda: StudentT(df=100, learn=True), student(100)),
    "logistic": (Logistic, logistic),
    "ggd0.4": (lambda: GeneralizedNormal(shape=0.4), generalized(0.4)),
    "ggd0.8": (lambda: GeneralizedNormal(shape=0.8), generalized(0.8)),
    "ggd1": (lambda: GeneralizedNormal(shape=1), generalized(1)),
    "ggd1.5-learnt": (lambda: GeneralizedNormal(shape=1.5, learn=True), generalized(1.5)),
    "ggd4": (lambda: GeneralizedNormal(shape=4), generalized(4)),
    "spike-slab": (SpikeSlab, mixture),
    "uniform": (Uniform, uniform),
    "3 laplace": (lambda: Scaled(Laplace(), sd=3.0), lambda z: -sqrt(2) * abs(z) / 3 - 0.5 * log(2) - log(3)),
}
