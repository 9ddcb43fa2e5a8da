"""The compiled sweep has the stationary law of the plain one, and that of numerical integration."""

import numpy as np
import pytest
import torch

from probae.inference.gibbs.chains import Chains
from probae.inference.gibbs.compiled_chains import CompiledChains
from probae.inference.parameter_draws import problem_of
from probae.models import FactorAnalysis, ProbabilisticPCA
from probae.parameter_priors import Fixed, Flat, InverseGamma, Normal
from probae.statistics import SufficientStatistics

CASES = {
    "more rows than features": (FactorAnalysis, 8, 4, 2, Fixed()),
    "fewer rows than features": (FactorAnalysis, 3, 5, 2, Flat()),
    "fewer rows than factors": (FactorAnalysis, 2, 4, 3, Fixed()),
    "isotropic noise": (ProbabilisticPCA, 6, 4, 2, Flat()),
    "many rows": (FactorAnalysis, 60, 5, 1, Flat()),
    "a feature that its factor determines": (FactorAnalysis, 40, 3, 1, Flat()),
}
# The plain sweep draws noise variances given the scores, and creeps where these determine them: at 60 sweeps its
# moments are still 6 to 12 standard errors off, at 300 they are not.
BURN_IN = {"a feature that its factor determines": 600}


def chains_of(kind, rows, features, latents, mean, chains, seed):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, features, generator=generator, dtype=torch.float64)
    x = x + 2.0 * torch.randn(rows, 1, generator=generator, dtype=torch.float64)
    model = kind(features, latents).with_priors(
        loadings=Normal(0.8), noise_variance=InverseGamma(2.0, 0.1), mean=mean
    )
    problem = problem_of(model.point(), SufficientStatistics.from_data(x), "Gibbs")
    return Chains(problem, chains, np.random.Generator(np.random.SFC64(seed)))


def functions(found):
    """Twelve functions of the parameters that no frame changes, for each state."""
    noise = found["noise_variance"].log()
    size = found["loadings"].square().sum(-1).log()
    product = torch.tanh((found["loadings"][..., 0, :] * found["loadings"][..., -1, :]).sum(-1))
    parts = [noise[..., 0], noise[..., -1], noise.mean(-1), size[..., 0], size.mean(-1), product]
    values = torch.stack(parts, -1)
    return torch.cat([values, values.square()], -1)


@pytest.mark.parametrize("name", CASES)
def test_both_sweeps_have_the_same_moments(name):
    """Chains are independent: z from means of chains. Twelve functions, six cases: |z| > 4.5 has probability 5e-4."""
    plain = chains_of(*CASES[name], chains=1000, seed=1)
    compiled = CompiledChains(chains_of(*CASES[name], chains=100, seed=2))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain.sweeps(BURN_IN.get(name, 60))
        ours = functions(plain.sweeps(30)).mean(0)
        for _ in range(4):
            compiled.sweeps(50)
            compiled.adapt()
        theirs = functions(compiled.sweeps(800)).mean(0)
    error = (ours.var(0) / len(ours) + theirs.var(0) / len(theirs)).sqrt()
    assert float(((ours.mean(0) - theirs.mean(0)) / error).abs().max()) < 4.5


def test_one_feature_and_one_factor_against_integration():
    """p(w, psi | x) on a grid of 1,500 x 1,500 points; 100 chains of 1,000 draws, four standard errors."""
    chains = chains_of(FactorAnalysis, 12, 1, 1, Fixed(), chains=100, seed=3)
    squares = float(chains.rows.squares)
    found = CompiledChains(chains)
    found.sweeps(100)
    draws = found.sweeps(1000)
    prior, noise = chains.prior, chains.noise_prior
    w = torch.linspace(-6 * float(prior.scale), 6 * float(prior.scale), 1500, dtype=torch.float64)[:, None]
    log_psi = torch.linspace(-9, 5, 1500, dtype=torch.float64)
    total = w.square() + log_psi.exp()
    density = -6 * total.log() - 0.5 * squares / total + noise.log_prob(log_psi.exp()) + log_psi
    weight = (density - 0.5 * (w / float(prior.scale)).square()).flatten().softmax(0).reshape(1500, 1500)
    psi, square = draws["noise_variance"][..., 0], draws["loadings"][..., 0, 0].square()
    for name, values, exact in (
        ("log psi", psi.log(), (weight * log_psi).sum()),
        ("w^2", square, (weight * w.square()).sum()),
        ("log total", (psi + square).log(), (weight * total.log()).sum()),
    ):
        means = values.mean(0)
        assert means.mean().item() == pytest.approx(exact.item(), abs=4 * means.std().item() / 10), name


def test_likelihoods_are_those_of_the_states_before():
    """log p(x | W, Psi) of each state against the dense normal law; to rounding."""
    chains = chains_of(*CASES["more rows than features"], chains=2, seed=4)
    found = CompiledChains(chains)
    draws = found.sweeps(5)
    root, count = chains.rows.root, chains.rows.count
    for step in range(4):
        for chain in range(2):
            w, psi = draws["loadings"][step, chain], draws["noise_variance"][step, chain]
            covariance = w @ w.T + psi.diag()
            quadratic = torch.linalg.solve(covariance, root.T @ root).trace()
            dense = -0.5 * (count * torch.logdet(2 * torch.pi * covariance) + quadratic)
            torch.testing.assert_close(draws["likelihood"][step + 1, chain], dense, rtol=1e-10, atol=1e-10)


def test_the_noise_of_a_feature_that_its_factors_determine_mixes():
    """Communality .99 at n = 1,000: given the scores a draw keeps 9/10 of the last; without them less than 1/2."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(1000, 1, generator=generator, dtype=torch.float64)
    x = z + torch.randn(1000, 6, generator=generator, dtype=torch.float64) * torch.tensor([0.1] + [1.0] * 5)
    problem = problem_of(FactorAnalysis(6, 1), SufficientStatistics.from_data(x), "Gibbs")

    def persistence(engine):
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            engine.sweeps(100)
            values = engine.sweeps(150)["noise_variance"][..., 0].log()
        apart = values - values.mean((0, 1))
        return float((apart[1:] * apart[:-1]).mean() / apart.square().mean())

    plain = Chains(problem, 20, np.random.Generator(np.random.SFC64(5)))
    compiled = CompiledChains(Chains(problem, 20, np.random.Generator(np.random.SFC64(6))))
    assert persistence(plain) > 0.8
    assert persistence(compiled) < 0.5
