"""The sweeps of Gibbs against their own model: Geweke's test of every kernel and SBC, each with planted errors.

Chains of one engine carry simulations of their own here: chain c has data of its own, so that a thousand simulations
are one run. What `fit` does around the sweeps is calibrated by `test_calibration_of_samplers.py`.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

import probae as pa
from probae.inference.gibbs import chains as engine
from probae.inference.gibbs.chains import Chains
from probae.inference.gibbs.mean import draw_flat_mean
from probae.inference.gibbs.rows import Centred, contrasts, root_of
from probae.inference.gibbs.start import start_loadings, start_noise
from probae.inference.parameter_draws import Problem
from probae.statistics import SufficientStatistics

LAWS = pa.parameter_priors
DRAWS = 99


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
        self.case, self.generator = case, np.random.default_rng(seed)
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
            mean = case.mean.scale * torch.randn(mean.shape, dtype=torch.float64)
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
        own = self.engine
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


def functions(theta, x):
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
    own = Simulations(case, chains, seed, wrong_loadings)
    return pa.joint_distribution_test(
        own.parameters, own.data, own.kernel, functions, iterations=iterations, chains=chains, seed=seed
    )


SCALES = torch.tensor([[0.5, 1.5], [1.0, 1.0], [2.0, 0.7], [1.0, 0.3]]).double()
KERNELS = {
    "one normal law": Case(),
    "a remainder of full rank": Case(rows=10),
    "fewer rows than features": Case(rows=3, features=5),
    "more factors than features": Case(features=2, latents=3),
    "a scale of its own for each loading": Case(loadings=LAWS.Normal(SCALES)),
    "isotropic noise": Case(isotropic=True),
    "no orthogonal move": Case(turn=False),
    "flat mean": Case(mean=LAWS.Flat()),
    "normal mean": Case(mean=LAWS.Normal(0.7)),
    "missing entries": Case(missing=True),
    "missing entries, normal mean": Case(missing=True, mean=LAWS.Normal(0.7), rows=5),
    "ARD": Case(loadings=LAWS.ARD()),
    "multiplicative gamma": Case(loadings=LAWS.MultiplicativeGamma()),
    "horseshoe": Case(loadings=LAWS.Horseshoe()),
    "spike and slab": Case(loadings=LAWS.SpikeSlab()),
    "half-normal noise": Case(noise=LAWS.HalfNormal(0.8)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_keeps_the_joint_law(name):
    """Twenty moments: |z| > 4 in one of 800 runs."""
    found = geweke(KERNELS[name])
    assert found.passed, str(found)


def test_the_common_kernel_keeps_the_joint_law():
    assert geweke(KERNELS["one normal law"], iterations=60, chains=100).passed


@pytest.mark.parametrize("scale", [0.9, 1.1])
def test_a_scale_of_the_prior_that_is_10_percent_off_gives_z_above_6(scale):
    """At six rows the prior has a say; of the averaged functions |I + W'W| sees it best."""
    found = geweke(KERNELS["one normal law"], wrong_loadings=LAWS.Normal(scale))
    assert found.z.abs().max() > 6, str(found)


def quantities(case, theta, x):
    """As `invariant_quantities`, for a data set of its own of each parameter; entries hidden are the same in all."""
    W, noise = theta["loadings"], theta["noise"].expand(theta["mean"].shape)
    seen = ~x[0].isnan()
    seen = (seen[:1] if seen.all() else seen).double()
    weight = seen / noise[:, None]
    precision = (W.mT[:, None] * weight[..., None, :]) @ W[:, None]
    lower = torch.linalg.cholesky(precision + torch.eye(case.latents).double())
    apart = (x - theta["mean"][:, None]).nan_to_num()
    inner = torch.linalg.solve_triangular(lower, ((apart * weight) @ W)[..., None], upper=False)
    log_det = (seen * noise.log()[:, None]).sum(-1) + 2 * lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    distance = (apart.square() * weight).sum(-1) - inner.square().sum((-2, -1))
    likelihood = -0.5 * (log_det + distance).sum(-1)
    prior = case.loadings.log_prob(theta["hyper"], W) + case.noise.log_prob(theta["noise"]).sum(-1)
    z = torch.linalg.solve_triangular(lower[:, 0].mT, inner[:, 0], upper=True)[..., 0]
    found = {f"log psi[{d}]": theta["noise"][:, d].log() for d in range(theta["noise"].shape[1])}
    found |= {f"log (WW')[{d},{d}]": W[:, d].square().sum(-1).log() for d in range(case.features)}
    found |= {f"(WW')[{d},{e}]": (W[:, d] * W[:, e]).sum(-1) for d, e in ((0, 1), (0, -1), (1, -1))}
    found["log largest eigenvalue"] = torch.linalg.eigvalsh(W.mT @ W)[:, -1].log()
    found |= {"log p(x | theta)": likelihood, "log p(x, theta)": likelihood + prior}
    found["E(x[0,0] | x[0])"] = (W[:, 0] * z).sum(-1) + theta["mean"][:, 0] - x[:, :, 0].nanmean(1)
    if not isinstance(case.mean, LAWS.Fixed):
        found["mean[0]"] = theta["mean"][:, 0] - x[:, :, 0].nanmean(1)
    return found


def calibration(case, simulations=1000, warmup=30, thin=3, seed=0, wrong_loadings=None):
    """SBC of the sweeps, one simulation in each chain, which starts where every chain starts, not at the truth."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        own = Simulations(case, simulations, seed, wrong_loadings)
        truth = own.parameters(simulations)
        x = own.data(truth)
        theta, kept = own.start(x), []
        for sweep in range(warmup + DRAWS * thin):
            theta = own.kernel(theta, x)
            if sweep >= warmup and (sweep - warmup) % thin == thin - 1:
                kept.append(torch.stack(list(quantities(case, own.with_mean(theta), x).values()), -1))
        exact = quantities(case, truth, x)
    return pa.Calibration.from_draws(
        list(exact), torch.stack(list(exact.values()), -1), torch.stack(kept), seed=seed
    )


CALIBRATED = {
    "one normal law": Case(rows=12),
    "fewer rows than features": Case(rows=5, features=8),
    "missing entries": Case(rows=12, missing=True, mean=LAWS.Normal(0.7)),
    "missing entries, flat mean": Case(rows=12, missing=True, mean=LAWS.Flat()),
    "flat mean": Case(rows=12, mean=LAWS.Flat()),
    "isotropic noise": Case(rows=8, isotropic=True),
    "no orthogonal move": Case(rows=12, turn=False),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CALIBRATED)
def test_the_sweeps_are_calibrated(name):
    """False alarm: .02."""
    found = calibration(CALIBRATED[name])
    assert found.passed, str(found)


@pytest.mark.slow
def test_the_sweeps_are_calibrated_at_100_features_and_10_latents():
    """207 quantities; the largest eigenvalue takes some tens of sweeps from the start."""
    case = Case(rows=200, features=100, latents=10)
    found = calibration(case, simulations=300, warmup=100, thin=5)
    assert found.passed, str(found)


def with_remainder_of_n(monkeypatch, case):
    """n degrees of freedom in place of n - rank."""
    exact = engine.remainder

    def wrong(generator, lead, latents, freedom):
        return exact(generator, lead, latents, case.rows)

    monkeypatch.setattr(engine, "remainder", wrong)


def with_exponent_n(monkeypatch, case):
    """|A|^n in place of |A|^(n - D) in the move along the orbit."""
    exact = engine.move_frame

    def wrong(loadings, square, variance, count, generator, *, turn):
        return exact(loadings, square, variance, count + case.features, generator, turn=turn)

    monkeypatch.setattr(engine, "move_frame", wrong)


def with_rows_of_n(monkeypatch, case):
    """n rows about their own mean in place of n - 1."""
    exact = Centred.about_their_mean
    monkeypatch.setattr(Centred, "about_their_mean", lambda self: exact(self)._replace(count=self.count))


@pytest.mark.slow
@pytest.mark.parametrize("plant", [with_remainder_of_n, with_exponent_n, with_rows_of_n])
def test_an_error_planted_in_a_sweep_is_caught_by_both(plant, monkeypatch):
    case = Case(rows=12, mean=LAWS.Flat())
    plant(monkeypatch, case)
    assert not calibration(case).passed
    assert geweke(case).z.abs().max() > 6


@pytest.mark.slow
def test_a_scale_of_the_prior_half_as_large_again_is_caught():
    assert not calibration(Case(), wrong_loadings=LAWS.Normal(1.5)).passed
