"""Models whose evidence is known, or hard."""

from dataclasses import dataclass
from typing import ClassVar

import pyro.distributions as dist
import pytest
import torch

from probae.inference import SVI, Fit, MaximumLikelihood, Method
from probae.inference.base import Outcome
from probae.inference.svi import EncoderPosterior
from probae.models import FactorAnalysis, LatentModel, LinearFactorModel, SparseCoding
from probae.priors import Gaussian, Laplace


def build(features, latents, prior=None, noise_variance=0.3, seed=2, loadings=None):
    """A linear model with isotropic noise and random loadings and mean."""
    generator = torch.Generator().manual_seed(seed)
    model = LinearFactorModel(
        features, latents, prior=Laplace() if prior is None else prior, noise="isotropic"
    )
    drawn = torch.randn(features, latents, generator=generator, dtype=torch.float64)
    model.loadings = drawn if loadings is None else loadings
    model.mean = torch.randn(features, generator=generator, dtype=torch.float64)
    model.noise_variance = torch.tensor(noise_variance, dtype=torch.float64)
    return model


def orthonormal(size, noise_variance=0.25, prior=None):
    """A square dictionary with orthonormal atoms: the evidence is a product of one-dimensional ones."""
    generator = torch.Generator().manual_seed(3)
    atoms = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q
    return build(size, size, prior, noise_variance, loadings=atoms)


def overcomplete(features=16, latents=32, decibels=10.0):
    """Random unit atoms and unit-variance Laplace codes; the noise is so many decibels below the signal."""
    generator = torch.Generator().manual_seed(0)
    atoms = torch.randn(features, latents, generator=generator, dtype=torch.float64)
    model = SparseCoding(features, latents)
    model.loadings = atoms / atoms.norm(dim=0)
    model.noise_variance = torch.tensor(latents / features / 10 ** (decibels / 10), dtype=torch.float64)
    return model


@pytest.fixture(name="build")
def build_fixture():
    return build


@pytest.fixture(name="orthonormal")
def orthonormal_fixture():
    return orthonormal


@pytest.fixture(name="overcomplete")
def overcomplete_fixture():
    return overcomplete


def encoded(model, encoder, posterior=None):
    """The Fit of a model and an encoder as they are."""
    return Fit(
        model=model,
        program=model,
        posterior=EncoderPosterior(encoder.double()) if posterior is None else posterior,
        method=SVI(encoder),
        seed=0,
        names=None,
        history=torch.zeros(1),
        converged=True,
        seconds=0.0,
    )


class Curved(LatentModel):
    """x = sin(W z) + noise of variance 0.1: no closed form."""

    def __init__(self, features, latents):
        super().__init__(features, latents, Gaussian())
        generator = torch.Generator().manual_seed(5)
        self.register_buffer(
            "weight", torch.randn(features, latents, generator=generator, dtype=torch.float64)
        )

    def likelihood(self, z):
        return dist.Normal((z @ self.weight.mT).sin(), 0.1**0.5, validate_args=False).to_event(1)


class Hidden(LatentModel):
    """A linear model that does not say so: its answers are known, and nothing in closed form may be used."""

    def __init__(self, model):
        super().__init__(model.features, model.latents, model.prior)
        self.inner = model

    def likelihood(self, z):
        return self.inner.likelihood(z)


@pytest.fixture(name="hidden")
def hidden_fixture():
    return Hidden


@pytest.fixture(name="encoded")
def encoded_fixture():
    return encoded


@pytest.fixture(name="curved")
def curved_fixture():
    return Curved


@dataclass(frozen=True)
class NormalMean(Method):
    """The mean of x alone is unknown, with a flat prior: p(mean | x) = N(sample mean, Sigma / N), drawn exactly.

    Or, ``wider`` times as wide, from an approximation, with the log weights of the draws.
    """

    random: ClassVar[bool] = True

    draws: int = 1000
    chains: int = 4
    wider: float = 1.0

    def fit(self, model, data, seed):
        x = self.rows(data).values
        law = dist.MultivariateNormal(x.mean(0), model.marginal().covariance_matrix.detach() / len(x))
        wide = dist.MultivariateNormal(law.mean, law.covariance_matrix * self.wider**2)
        mean = wide.sample((self.chains, self.draws))
        model.mean = mean.mean((0, 1))
        stats = None if self.wider == 1 else {"log_weight": law.log_prob(mean) - wide.log_prob(mean)}
        return Outcome(model.posterior, [0.0], True, draws={"mean": mean}, sample_stats=stats)


@pytest.fixture(name="normal_mean")
def normal_mean_fixture():
    return NormalMean


def factors(features=6, latents=2, noise=0.5, seed=0):
    """Factor analysis with communalities of 1, uniquenesses of one size and a mean."""
    generator = torch.Generator().manual_seed(seed)
    model = FactorAnalysis(features, latents)
    loadings = torch.randn(features, latents, generator=generator, dtype=torch.float64)
    model.loadings = loadings / loadings.norm(dim=1, keepdim=True)
    model.noise_variance = torch.full((features,), noise, dtype=torch.float64)
    model.mean = torch.randn(features, generator=generator, dtype=torch.float64)
    return model


@pytest.fixture(name="factors")
def factors_fixture():
    return factors


@pytest.fixture(name="sampled")
def sampled_fixture():
    """Return a function that makes the Fit of given draws of the loadings (chain, draw, D, K)."""

    def make(loadings, codes=None, loadings_prior=None, names=None, **sites):
        chains, draws, features, latents = loadings.shape
        model = LinearFactorModel(features, latents, prior=codes)
        model.loadings = loadings[0, 0].clone()
        program = model if loadings_prior is None else model.with_priors(loadings=loadings_prior)
        found = {"loadings": loadings, "noise_variance": torch.ones(chains, draws, features).double()}
        return Fit(
            model=model.requires_grad_(False),
            program=program,
            posterior=model.posterior,
            method=MaximumLikelihood(),
            seed=0,
            names=names,
            history=torch.zeros(0, dtype=torch.float64),
            converged=True,
            seconds=0.0,
            draws=found | sites,
        )

    return make
