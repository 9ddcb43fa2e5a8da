"""What `Gibbs` promises to those who call it."""

import pytest
import torch
from arviz_stats.base import array_stats

import probae as pa
from probae.inference.gibbs import method as method_module
from probae.inference.gibbs.chains import Chains

X = pa.datasets.linear_factors(200, 5, 2, noise=0.4, seed=0).x


def invariants(run):
    """Noise variances and W W' of every draw, (chains, draws, D + D^2)."""
    loadings = run.draws["loadings"]
    return torch.cat([run.draws["noise_variance"], (loadings @ loadings.mT).flatten(-2)], -1)


def separation(a, b):
    """Largest difference of two posterior means, in Monte Carlo standard errors."""
    first, second = invariants(a), invariants(b)
    error = sum(
        values.flatten(0, 1).var(0)
        / torch.as_tensor(array_stats.ess(values.numpy(), chain_axis=0, draw_axis=1))
        for values in (first, second)
    ).sqrt()
    return float(((first.mean((0, 1)) - second.mean((0, 1))) / error).abs().max())


def test_shapes_and_statistics_of_the_sampler():
    run = pa.fit(pa.FactorAnalysis(5, 2), X, pa.Gibbs(draws=60, warmup=30, chains=3))
    shapes = {name: tuple(value.shape) for name, value in run.draws.items()}
    assert shapes == {"loadings": (3, 60, 5, 2), "noise_variance": (3, 60, 5), "mean": (3, 60, 5)}
    assert run.sample_stats["lp"].shape == run.sample_stats["acceptance_rate"].shape == (3, 60)
    assert run.draws["loadings"].dtype == torch.float64
    isotropic = pa.fit(pa.ProbabilisticPCA(5, 2), X, pa.Gibbs(draws=60, warmup=30, chains=3))
    assert isotropic.draws["noise_variance"].shape == (3, 60)


def test_units_of_x_are_units_of_the_draws():
    """Powers of two change no digit."""
    units = torch.tensor([2.0, 4.0, 0.5, 1.0, 1024.0], dtype=torch.float64)
    one = pa.fit(pa.FactorAnalysis(5, 2), X, pa.Gibbs(draws=40, warmup=20))
    other = pa.fit(pa.FactorAnalysis(5, 2), X * units, pa.Gibbs(draws=40, warmup=20))
    assert torch.equal(one.draws["loadings"] * units[:, None], other.draws["loadings"])
    assert torch.equal(one.draws["noise_variance"] * units**2, other.draws["noise_variance"])
    assert torch.equal(one.draws["mean"] * units, other.draws["mean"])


def test_statistics_serve_in_place_of_rows_and_cost_does_not_depend_on_their_number():
    """A billion rows: as many sweeps of the same matrices. psi has the relative sd sqrt(2/n) or a little more."""
    few = pa.fit(pa.FactorAnalysis(5, 2), X, pa.Gibbs(draws=40, warmup=20))
    same = pa.fit(
        pa.FactorAnalysis(5, 2), pa.SufficientStatistics.from_data(X), pa.Gibbs(draws=40, warmup=20)
    )
    assert torch.equal(few.draws["loadings"], same.draws["loadings"])
    small = pa.SufficientStatistics.from_data(X)
    many = pa.SufficientStatistics.from_covariance(small.covariance, count=10**9)
    run = pa.fit(pa.FactorAnalysis(5, 2), many, pa.Gibbs(draws=400, warmup=400))
    noise = run.draws["noise_variance"].flatten(0, 1)
    spread = noise.std(0) / noise.mean(0)
    assert (spread > 0.9 * (2 / 10**9) ** 0.5).all()
    assert (spread < 30 * (2 / 10**9) ** 0.5).all()
    best = pa.fit(pa.FactorAnalysis(5, 2), many).model.noise_variance.detach()
    assert ((noise.mean(0) - best) / noise.std(0)).abs().max() < 1


def test_many_rows_bring_the_posterior_to_maximum_likelihood(covariance_of):
    """W W' + Psi at n = 100,000 differs from the best by less than four posterior standard deviations sqrt(2/n) s^2."""
    x = pa.datasets.linear_factors(100_000, 5, 2, noise=0.4, seed=1).x
    run = pa.fit(pa.FactorAnalysis(5, 2), x, pa.Gibbs(draws=200))
    best = covariance_of(pa.fit(pa.FactorAnalysis(5, 2), x).model)
    loadings, noise = run.draws["loadings"], run.draws["noise_variance"]
    found = (loadings @ loadings.mT + torch.diag_embed(noise)).mean((0, 1))
    size = best.diagonal().sqrt()
    assert ((found - best) / torch.outer(size, size)).abs().max() < 4 * (2 / 100_000) ** 0.5


def test_the_plain_sweep_and_the_compiled_one_agree(monkeypatch):
    """Every mean within four combined standard errors of each other."""
    method = pa.Gibbs(draws=500, chains=8)
    compiled = pa.fit(pa.FactorAnalysis(5, 2), X, method)
    monkeypatch.setattr(Chains, "compilable", False)
    assert separation(compiled, pa.fit(pa.FactorAnalysis(5, 2), X, method)) < 4


def test_nearly_complete_rows_say_what_complete_ones_do():
    """One entry of a thousand missing moves means by less than four standard errors and a tenth of their sd."""
    x = X.clone()
    x[0, 0] = torch.nan
    method = pa.Gibbs(draws=500, chains=8)
    complete, missing = (pa.fit(pa.FactorAnalysis(5, 2), rows, method) for rows in (X, x))
    first, second = invariants(complete), invariants(missing)
    apart = (first.mean((0, 1)) - second.mean((0, 1))).abs() / first.flatten(0, 1).std(0)
    assert apart.max() < 0.25  # 4,000 draws worth 1,000: 4 sqrt(2 / 1000) = .18, and the entry itself
    assert missing.draws["mean"].isfinite().all()


def test_frames_are_turned_at_random_or_stay(monkeypatch):
    """On: raw R-hat one, and mean W far below its sd, the signature of a flat orbit. Off: chains keep their frames."""
    on = pa.fit(pa.FactorAnalysis(5, 2), X, pa.Gibbs(draws=200)).draws["loadings"]
    off = pa.fit(pa.FactorAnalysis(5, 2), X, pa.Gibbs(draws=200, rotate=False)).draws["loadings"]
    r_hat = [array_stats.rhat(draws.numpy(), chain_axis=0, draw_axis=1).max() for draws in (on, off)]
    assert r_hat[0] < 1.05
    assert r_hat[1] > 1.5
    flat = on.flatten(0, 1)
    error = 1 / len(flat) ** 0.5  # every draw has a frame of its own
    assert (flat.mean(0).abs() / flat.std(0)).max() < 5 * error


def test_the_program_keeps_a_law_of_the_mean():
    model = pa.FactorAnalysis(5, 2).with_priors(mean=pa.parameter_priors.Normal(2.0))
    run = pa.fit(model, X, pa.Gibbs(draws=40, warmup=20))
    assert "mean" in run.program.random_parameters
    with torch.no_grad():
        assert not torch.equal(*(run.program.sample(3, seed=seed) for seed in (0, 1)))


def test_more_factors_than_features_and_two_rows():
    run = pa.fit(pa.FactorAnalysis(5, 7), X, pa.Gibbs(draws=50, warmup=50))
    assert run.draws["loadings"].shape == (4, 50, 5, 7)
    tiny = pa.fit(pa.FactorAnalysis(5, 2), X[:2], pa.Gibbs(draws=50, warmup=50))
    assert all(value.isfinite().all() for value in (*tiny.draws.values(), *tiny.sample_stats.values()))


@pytest.mark.parametrize("model", [pa.SparseCoding(5, 2), pa.LinearFactorModel(5, 5, noise="none")])
def test_other_models_are_refused_with_the_method_that_takes_them(model):
    with pytest.raises(pa.NotExactError, match=r"Gibbs needs a linear model .* StochasticEM"):
        pa.fit(model, X, pa.Gibbs())


class Interrupted:
    """An engine whose user presses Ctrl-C after some calls."""

    def __init__(self, chains, calls):
        self.chains, self.calls = chains, calls

    def adapt(self):
        self.chains.adapt()

    def sweeps(self, count):
        self.calls -= 1
        if self.calls == 0:
            raise KeyboardInterrupt
        return self.chains.sweeps(count)


@pytest.mark.parametrize(("calls", "draws"), [(4, 99), (1, 1)])
def test_an_interrupt_returns_the_draws_so_far(calls, draws, monkeypatch):
    """Warmup is one block of 50; two blocks follow, and the last state's density is not known; or nothing did."""
    monkeypatch.setattr(method_module, "engine_of", lambda chains: Interrupted(chains, calls))
    run = pa.fit(pa.FactorAnalysis(5, 2), X, pa.Gibbs(draws=500, warmup=50))
    assert run.interrupted
    assert run.draws["loadings"].shape[1] == draws


def test_the_log_density_is_that_of_rows_and_priors():
    """lp of a draw, with a fixed mean, is the model's likelihood at it plus the priors; to rounding."""
    priors = pa.parameter_priors
    laws = {
        "loadings": priors.Normal(0.7),
        "noise_variance": priors.InverseGamma(3.0, 0.2),
        "mean": priors.Fixed(),
    }
    model = pa.FactorAnalysis(5, 2)
    run = pa.fit(model.with_priors(**laws), X, pa.Gibbs(draws=5, warmup=5, chains=1))
    units = X.std(0, correction=0)
    for step in range(5):
        loadings, noise = (run.draws[name][0, step] for name in ("loadings", "noise_variance"))
        with torch.no_grad():
            model.loadings, model.noise_variance = loadings, noise
            density = model.log_likelihood(X).sum() + len(X) * units.log().sum()
        scaled = laws["loadings"].in_units(units), laws["noise_variance"].in_units(units)
        density = density + scaled[0].log_prob({}, (loadings / units[:, None])[None])[0]
        density = density + scaled[1].log_prob(noise / units**2).sum()
        torch.testing.assert_close(run.sample_stats["lp"][0, step], density, rtol=1e-9, atol=1e-9)
