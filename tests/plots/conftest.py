"""Fits to draw, and a clean pyplot after every test."""

import matplotlib.pyplot as plt
import pyro
import pytest
import torch

import probae as pa


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def pupils():
    return pa.datasets.holzinger_swineford()


@pytest.fixture(scope="session")
def factors(pupils):
    return pa.fit(pa.FactorAnalysis(9, 3), pupils.x)


@pytest.fixture(scope="session")
def known():
    """Return a function that makes the Fit of given loadings (D, K), with noise of variance 1 or none."""

    def make(loadings, prior=None, noise="diagonal", names=None):
        W = torch.as_tensor(loadings, dtype=torch.float64)
        model = pa.LinearFactorModel(*W.shape, prior=prior, noise=noise)
        with pyro.settings.context(module_local_params=True):
            model.loadings = W
        model.requires_grad_(False)
        history = torch.zeros(0, dtype=torch.float64)
        return pa.Fit(
            model=model,
            program=model,
            posterior=model.posterior,
            method=pa.MaximumLikelihood(),
            seed=0,
            names=names,
            history=history,
            converged=True,
            seconds=0.0,
        )

    return make
