"""Simulations of parameters and rows, one in each chain: what leaves their joint law alone is exact."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch

import probae as pa
from probae.inference.gibbs.chains import Chains
from probae.inference.gibbs.mean import draw_flat_mean
from probae.inference.gibbs.rows import Centred, contrasts, root_of
from probae.inference.gibbs.start import start_loadings, start_noise
from probae.inference.parameter_draws import Problem
from probae.statistics import SufficientStatistics

LAWS = pa.parameter_priors


@dataclass(frozen=True)
class Case:
    """A model, its priors and the number of rows."""

    rows: int = 6
    features: int = 4
    latents: int = 2
    loadings: object = LAWS.Normal(1.0)
    noise: object = LAWS.InverseGamma(2.0, 0.5)
    mean: object = LAWS.Fixed()
    isotropic: bool = False
    missing: bool = False  # the same entries in every simulation, one in each row
    turn: bool = True

    def problem(self, loadings=None):
        """The problem of the engine; its data are replaced by those of each chain."""
        kind = pa.ProbabilisticPCA if self.isotropic else pa.FactorAnalysis
        unit, zero = torch.ones(self.features).double(), torch.zeros(self.features).double()
        x = torch.randn(self.rows, self.features).double()
        if self.missing:
            x[self.hidden] = torch.nan
            data = pa.checks.check_data(x, missing="allow")
        else:
            data = SufficientStatistics.from_data(x)
        model = kind(self.features, self.latents)
        laws = [law.in_units(unit) for law in (loadings or self.loadings, self.noise, self.mean)]
        return Problem(model, data, *laws, zero, unit)

    @property
    def hidden(self):
        """Entry n mod D of row n."""
        hidden = torch.zeros(self.rows, self.features, dtype=torch.bool)
        hidden[torch.arange(self.rows), torch.arange(self.rows) % self.features] = True
        return hidden


class Simulations:
    """Parameters (C, ...) and data (C, n, D) of many simulations, and chains that move the first given the second."""

    def __init__(self, case, chains, seed=0, wrong_loadings=None):
        self.case, self.generator, self.seen = case, np.random.default_rng(seed), None
        self.engine = Chains(case.problem(wrong_loadings), chains, self.generator, turn=case.turn)

    def parameters(self, chains):
        """Draw from the priors, in the order of the engine: hyperparameters, loadings, noise, mean."""
        case, shape = self.case, (chains, self.case.features, self.case.latents)
        hyper = case.loadings.start(*shape)
        loadings = case.loadings.variance(hyper).sqrt() * torch.randn(shape, dtype=torch.float64)
        name, size = "noise_variance", torch.Size([chains, 1 if case.isotropic else case.features])
        [(_, law)] = case.noise.sites(name, size).items()
        mean = torch.zeros(chains, case.features, dtype=torch.float64)
        if isinstance(case.mean, LAWS.Normal):
            mean = case.mean.loc + case.mean.scale * torch.randn(mean.shape, dtype=torch.float64)
        return {"loadings": loadings, "noise": law.sample().double(), "mean": mean, "hyper": hyper}

    def data(self, theta):
        """Draw x given the parameters."""
        lead = (len(theta["loadings"]), self.case.rows)
        z, own = (
            torch.randn(*lead, width, dtype=torch.float64)
            for width in (self.case.latents, self.case.features)
        )
        x = theta["mean"][:, None] + z @ theta["loadings"].mT + own * theta["noise"].sqrt()[:, None]
        return torch.where(self.case.hidden, torch.nan, x) if self.case.missing else x

    def give(self, x):
        """Let chain c see x[c]."""
        if x is self.seen:
            return
        self.seen, own = x, self.engine
        if own.imputation is not None:
            own.imputation.rows = x.nan_to_num()
            own.imputation.origin = torch.zeros(x.shape[-1], dtype=torch.float64)
            return
        count, mean = x.shape[1], x.mean(1)
        apart = x - mean[:, None]
        root = contrasts(x) if count <= x.shape[-1] else root_of(apart.mT @ apart)
        own.centred = Centred(root, apart.square().sum(1), mean, count)

    def start(self, x):
        """Return the first state of chains that see x."""
        own, chains = self.engine, len(x)
        self.give(x)
        if own.imputation is not None:
            prior = self.parameters(chains)
            own.centred = own.imputation.draw(
                prior["loadings"], prior["noise"], prior["mean"], self.generator
            )
        about = own.centred.about_their_mean()
        noise = start_noise(about, chains, self.case.isotropic, self.generator)
        loadings = start_loadings(about, noise, self.case.latents, self.generator)
        fixed = isinstance(self.case.mean, LAWS.Fixed)
        mean = torch.zeros_like(own.centred.mean) if fixed else own.centred.mean
        return {"loadings": loadings, "noise": noise, "mean": mean, "hyper": own.hyper}

    def with_mean(self, theta):
        """Draw the mean that sweeps have integrated out."""
        own = self.engine
        if not own.mean_is_integrated:
            return theta
        given = own.centred.mean, own.centred.count, theta["loadings"], theta["noise"]
        return theta | {"mean": draw_flat_mean(*given, self.generator)}

    def kernel(self, theta, x):
        """One sweep."""
        own = self.engine
        self.give(x)
        own.loadings, own.noise, own.mean, own.hyper = (
            theta[name] for name in ("loadings", "noise", "mean", "hyper")
        )
        if own.imputation is None:
            own.rows = own._rows()
        own.sweep()
        return {"loadings": own.loadings, "noise": own.noise, "mean": own.mean, "hyper": own.hyper}


def functions_of_parameters(theta):
    """Twenty functions of the parameters that no rotation of W changes; averages over features, which see most."""
    loadings, mean = theta["loadings"], theta["mean"]
    noise = theta["noise"].expand(mean.shape).log()
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


def functions_of_both(theta, x):
    """Ten functions with moments under heavy tails too; those of a flat mean do not depend on the place of x."""
    W, noise, x = theta["loadings"], theta["noise"].log(), x - x.nanmean(1, keepdim=True)
    lengths, square = W.square(), x.square()
    cross = (W[:, 0] * W[:, 1]).sum(-1).tanh()
    size = square.nanmean((1, 2)).log()
    together = (x[..., 0] * x[..., 1]).nan_to_num().sum(1).tanh()
    return {
        "log psi[0]": noise[:, 0],
        "mean log psi": noise.mean(-1),
        "log(1 + mean W^2)": lengths.mean((1, 2)).log1p(),
        "log(1 + |w_0|^2)": lengths[:, 0].sum(-1).log1p(),
        "tanh (WW')[0,1]": cross,
        "log |I + W'W|": torch.logdet(torch.eye(W.shape[-1]).double() + W.mT @ W),
        "log mean x^2": size,
        "log mean x^2 - mean log psi": size - noise.mean(-1),
        "sign of x0 x1 and of (WW')[0,1]": together * cross,
        "log(1 + mean W^2) - log mean x^2": lengths.mean((1, 2)).log1p() - size,
    }


def geweke(case, iterations=150, chains=400, wrong_loadings=None, seed=0):
    """Compare draws of (theta, x) with those of sweeps and new rows in turns."""
    own = Simulations(case, chains, seed, wrong_loadings)
    return pa.joint_distribution_test(
        own.parameters,
        own.data,
        own.kernel,
        functions_of_both,
        iterations=iterations,
        chains=chains,
        seed=seed,
    )


def joint_test(case, chains=4000, sweeps=8, change=None, seed=0):
    """Largest |z| of what sweeps and new rows, in turn, change in the mean of a function (Geweke, 2004).

    Every chain starts at a draw from the prior, with rows drawn given it: chains are independent and, if the sweep is
    right, are draws from the prior for ever, so that differences from the start have mean 0 and z is normal.
    """
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        own = Simulations(case, chains, seed)
        theta = own.parameters(chains)
        before = functions_of_parameters(theta)
        if change is not None:
            change(own.engine)
        for _ in range(sweeps):
            theta = own.kernel(theta, own.data(theta))
        apart = functions_of_parameters(theta) - before
    z = apart.mean(0) / (apart.std(0) / chains**0.5).clamp_min(1e-12)
    return float(z.abs().max())


@pytest.fixture(name="joint_test")
def joint_test_fixture():
    return joint_test


@pytest.fixture(name="geweke")
def geweke_fixture():
    return geweke


@pytest.fixture(name="Case")
def case_fixture():
    return Case


@pytest.fixture(name="Simulations")
def simulations_fixture():
    return Simulations


@pytest.fixture(name="Setting")
def setting_fixture():
    """A case whose noise has four finite moments of its logarithm in few draws."""
    return partial(Case, noise=LAWS.InverseGamma(3.0, 1.0))
