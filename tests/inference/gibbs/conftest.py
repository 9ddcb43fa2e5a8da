"""Chains that each have rows of their own, drawn from the prior: what leaves their joint law alone is exact."""

from typing import NamedTuple

import numpy as np
import pytest
import torch

from probae.inference.gibbs import chains as chains_module
from probae.inference.gibbs.rows import Centred, contrasts, root_of
from probae.inference.parameter_draws import problem_of
from probae.models import FactorAnalysis, ProbabilisticPCA
from probae.parameter_priors import Fixed, InverseGamma, Normal
from probae.statistics import SufficientStatistics


class Setting(NamedTuple):
    rows: int
    features: int
    latents: int
    isotropic: bool = False
    mean: object = Fixed()
    loadings: object = Normal(1.0)
    noise: object = InverseGamma(3.0, 1.0)  # four finite moments of its logarithm in few draws
    turn: bool = True


def unit_rows(rows, features):
    """Rows whose columns have mean 0 and variance 1, so that the priors of the problem are those that were given."""
    x = torch.randn(rows, features, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = x - x.mean(0)
    return x / x.square().mean(0).sqrt()


def problem(setting):
    model = (ProbabilisticPCA if setting.isotropic else FactorAnalysis)(setting.features, setting.latents)
    random = model.with_priors(loadings=setting.loadings, noise_variance=setting.noise, mean=setting.mean)
    data = SufficientStatistics.from_data(unit_rows(setting.rows, setting.features))
    return problem_of(random.point(), data, "Gibbs")


def centred_of(x):
    """Moments of the rows of every chain."""
    mean, root = x.mean(1), contrasts(x)
    if root.shape[1] > x.shape[2]:
        root = root_of(root.mT @ root)
    return Centred(root, root.square().sum(-2), mean, x.shape[1])


def functions(loadings, noise, mean):
    """Twenty functions of the parameters that no rotation of W changes; averages over features, which see most."""
    noise = noise.expand(loadings.shape[:2]).log()
    square = loadings @ loadings.mT
    size = square.diagonal(dim1=1, dim2=2).log()
    first, last = square[:, 0, 0].log(), torch.tanh(square[:, 0, -1])
    parts = [
        noise[:, 0],
        noise.mean(1),
        size.mean(1),
        first,
        last,
        mean[:, 0],
        torch.tanh(size - noise).mean(1),
    ]
    parts += [(size * noise).mean(1), size.mean(1) * noise.mean(1), torch.tanh(square.mean((1, 2)))]
    values = torch.stack(parts, 1)
    return torch.cat([values, values.square()], 1)


def joint_test(setting, chains=4000, sweeps=8, change=None, seed=0):
    """Largest |z| of what sweeps and new rows, in turn, change in the mean of a function (Geweke, 2004).

    Every chain starts at a draw from the prior, with rows drawn given it: chains are independent and, if the sweep is
    right, are draws from the prior for ever, so that differences from the start have mean 0 and z is normal.
    """
    generator = np.random.Generator(np.random.SFC64(seed))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = chains_module.Chains(problem(setting), chains, generator, turn=setting.turn)
        start(found, setting, chains, generator)
        before = functions(found.loadings, found.noise, found.mean)
        if change is not None:
            change(found)
        for _ in range(sweeps):
            found.centred = centred_of(rows_of(found, setting.rows, generator))
            found.rows = found._rows()
            found.sweep()
        apart = functions(found.loadings, found.noise, found.mean) - before
    z = apart.mean(0) / (apart.std(0) / chains**0.5).clamp_min(1e-12)
    return float(z.abs().max())


def start(found, setting, chains, generator):
    """Draw the parameters of every chain from the prior."""
    shape = (chains, setting.features, setting.latents)
    found.hyper = setting.loadings.start(*shape)
    spread = setting.loadings.variance(found.hyper).sqrt()
    found.loadings = spread * torch.from_numpy(generator.standard_normal(shape))
    width = 1 if setting.isotropic else setting.features
    found.noise = setting.noise.draw(torch.zeros(chains, width).double(), 0)
    mean = torch.zeros(chains, setting.features).double()
    if isinstance(setting.mean, Normal):
        mean = setting.mean.loc + setting.mean.scale * torch.from_numpy(generator.standard_normal(shape[:2]))
    found.mean = mean


def rows_of(found, rows, generator):
    """Draw rows given the parameters of every chain."""
    chains, features, latents = found.loadings.shape
    z = torch.from_numpy(generator.standard_normal((chains, rows, latents)))
    error = torch.from_numpy(generator.standard_normal((chains, rows, features)))
    return found.mean[:, None] + z @ found.loadings.mT + found.noise.sqrt()[:, None] * error


@pytest.fixture(name="joint_test")
def joint_test_fixture():
    return joint_test


@pytest.fixture(name="Setting")
def setting_fixture():
    return Setting
