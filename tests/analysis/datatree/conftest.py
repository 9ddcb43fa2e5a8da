"""A fit as a sampler gives it, its rows, and the tree of both."""

import warnings

import pandas as pd
import pytest
import torch

import probae as pa
from probae.inference import Fit
from probae.inference.draws_posterior import DrawsPosterior

P = pa.parameter_priors
CHAINS, DRAWS, ROWS, D, K = 2, 30, 25, 5, 2


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sampler_fit(model=None, names=None, draws=DRAWS, spread=0.1, **hyper):
    """A Fit as a sampler gives it, its draws around the truth."""
    model = pa.FactorAnalysis(D, K) if model is None else model
    d, k = model.features, model.latents
    model.loadings, model.mean = normal(d, k, seed=5), normal(d, seed=6)
    found = {
        "loadings": model.loadings.detach() + spread * normal(CHAINS, draws, d, k, seed=1),
        "noise_variance": (spread * normal(CHAINS, draws, *model.noise_variance.shape, seed=2)).exp(),
        "mean": model.mean.detach() + spread * normal(CHAINS, draws, d, seed=3),
        **hyper,
    }
    program = model.with_priors(loadings=P.Normal(2.0), noise_variance=P.InverseGamma(), mean=P.Flat())
    noise = found["noise_variance"].reshape(CHAINS * draws, -1).expand(-1, d)
    model.requires_grad_(False)
    return Fit(
        model=model,
        program=program,
        posterior=DrawsPosterior(found["loadings"].flatten(0, 1), noise, found["mean"].flatten(0, 1)),
        method=pa.MaximumLikelihood(),
        seed=0,
        names=names,
        history=torch.zeros(1),
        converged=True,
        seconds=2.0,
        warnings=("a sentence", "another"),
        draws=found,
        sample_stats={"lp": normal(CHAINS, draws, seed=8), "diverging": normal(CHAINS, draws, seed=9) > 1},
    )


def quiet_fit(*arguments):
    """A fit of a few steps, of which nobody expects convergence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pa.ProbaeWarning)
        return pa.fit(*arguments)


@pytest.fixture(name="normal", scope="session")
def normal_fixture():
    return normal


@pytest.fixture(name="sampler_fit", scope="session")
def sampler_fit_fixture():
    return sampler_fit


@pytest.fixture(name="quiet_fit", scope="session")
def quiet_fit_fixture():
    return quiet_fit


@pytest.fixture(scope="module")
def frame():
    index = [f"person {i}" for i in range(ROWS)]
    return pd.DataFrame(normal(ROWS, D, seed=4).numpy(), columns=list("abcde"), index=index)


@pytest.fixture(scope="module")
def run():
    return sampler_fit(names=tuple("abcde"))


@pytest.fixture(scope="module")
def tree(run, frame):
    return pa.to_datatree(run, frame, draws=20)


@pytest.fixture(scope="module")
def exact():
    return quiet_fit(pa.FactorAnalysis(D, K), pa.datasets.linear_factors(200, D, K, seed=1).x)
