"""The no-U-turn sampler through `fit`: its draws, its density, its engines, and what it promises of randomness."""

import math
import warnings

import arviz as az
import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

import probae as pa
from probae import ConvergenceWarning, NotExactError, ParameterError, SufficientStatistics, fit
from probae.inference import NUTS
from probae.inference.nuts import trajectory
from probae.inference.nuts.diagnosis import energy_fraction, warn_of_moves
from probae.inference.parameter_draws import check_mixing
from probae.parameter_priors import ARD, Fixed, HalfNormal, InverseGamma, Normal

QUICK = NUTS(draws=400, warmup=200)


def rows(count=60, features=4, latents=1, missing=0.0):
    generator = torch.Generator().manual_seed(7)
    z = torch.randn(count, latents, generator=generator, dtype=torch.float64)
    loadings = torch.randn(latents, features, generator=generator, dtype=torch.float64)
    x = z @ loadings + 0.6 * torch.randn(count, features, generator=generator, dtype=torch.float64) + 2.0
    hidden = torch.rand(x.shape, generator=generator) < missing
    return x.masked_fill(hidden, torch.nan)


def quantities(run):
    """Noise variances, W W', the mean and the density of each draw, by name (C, T)."""
    draws = run.draws
    square = draws["loadings"] @ draws["loadings"].mT
    parts = [draws["noise_variance"].reshape(*square.shape[:2], -1), square.flatten(2)]
    return torch.cat([*parts, draws["mean"]], -1).numpy()


def moments(run):
    """Mean, standard deviation and effective number of draws of each quantity."""
    values = quantities(run)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        worth = az.ess(az.convert_to_dataset({"q": values}))["q"].values
    flat = values.reshape(-1, values.shape[-1])
    return flat.mean(0), flat.std(0), worth


def apart(one, other):
    """Largest difference of means, and of standard deviations, of two runs in combined Monte Carlo standard errors."""
    (m1, s1, n1), (m2, s2, n2) = moments(one), moments(other)
    means = np.abs(m1 - m2) / np.sqrt(s1**2 / n1 + s2**2 / n2)
    # relative error of a standard deviation: sqrt((kurtosis - 1) / 4 n), kurtosis below 9 here
    spreads = np.abs(np.log(s1 / s2)) / np.sqrt(2 / n1 + 2 / n2)
    return means.max(), spreads.max()


def test_shapes_names_and_the_model():
    x = rows()
    run = fit(pa.FactorAnalysis(4, 1), x, QUICK)
    assert run.draws["loadings"].shape == (4, 400, 4, 1)
    assert run.draws["noise_variance"].shape == run.draws["mean"].shape == (4, 400, 4)
    assert set(run.sample_stats) == set(trajectory.STATISTICS)
    assert all(value.shape == (4, 400) for value in run.sample_stats.values())
    assert run.sample_stats["diverging"].dtype == torch.bool
    assert run.sample_stats["tree_depth"].dtype == torch.int64
    assert run.converged
    torch.testing.assert_close(run.model.mean, run.draws["mean"].mean((0, 1)))
    torch.testing.assert_close(run.model.noise_variance, run.draws["noise_variance"].mean((0, 1)))


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_the_density_of_a_draw_is_that_of_the_model(missing):
    """lp = log p(x | W, psi) + log p(W) + log p(psi) in the units of the fit."""
    x = rows(30, missing=missing)
    loadings, noise = Normal(2.0), InverseGamma(3.0, 1.0)
    model = pa.FactorAnalysis(4, 1)
    model.mean = torch.full((4,), 2.0, dtype=torch.float64)
    run = fit(model.with_priors(loadings, noise, Fixed()), x, NUTS(draws=200, warmup=50, chains=2))
    spread = torch.from_numpy(np.nanstd(x.numpy(), 0))
    fixed = pa.FactorAnalysis(4, 1)
    found, expected = [], []
    for draw in (3, 11, 40):
        fixed.loadings = run.draws["loadings"][1, draw]
        fixed.noise_variance = run.draws["noise_variance"][1, draw]
        fixed.mean = model.mean.detach()
        likelihood = fixed.log_likelihood(x).sum()
        prior = (
            loadings.log_prob({}, fixed.loadings[None].detach())[0]
            + noise.log_prob(fixed.noise_variance).sum()
        )
        found.append(run.sample_stats["lp"][1, draw])
        expected.append(likelihood + prior)
    units = (~x.isnan()).sum(0) + 1 + 2  # of x, of one loading, of psi in squared units
    shift = spread.log() @ units.double()
    torch.testing.assert_close(
        torch.stack(found), torch.stack(expected).detach() + shift, rtol=1e-9, atol=1e-8
    )


def test_the_mean_has_its_conditional_law():
    """Given W and psi a flat mean is N(mean of x, S / n), a normal one the product of that and its prior."""
    x = rows(25)
    for prior, precision in ((None, 0.0), (Normal(0.3, 1.0), 1 / 0.09)):
        run = fit(pa.FactorAnalysis(4, 1).with_priors(mean=prior), x, NUTS(draws=600, warmup=150))
        W, psi = run.draws["loadings"].flatten(0, 1), run.draws["noise_variance"].flatten(0, 1)
        inner = 25 * torch.linalg.inv(W @ W.mT + torch.diag_embed(psi))
        covariance = torch.linalg.inv(inner + precision * torch.eye(4))
        pulled = (inner @ x.mean(0)) + precision * torch.ones(4)
        centre = (covariance @ pulled[..., None])[..., 0]
        root = torch.linalg.cholesky(covariance)
        apart = (run.draws["mean"].flatten(0, 1) - centre)[..., None]
        white = torch.linalg.solve_triangular(root, apart, upper=False)[..., 0]
        for column in white.T:  # exact draws, independent given W and psi
            assert stats.kstest(column.numpy(), stats.norm.cdf).pvalue > 1e-4


def test_loadings_turn_freely_where_their_prior_lets_them():
    """A fresh uniform rotation for every draw: entries of W are uncorrelated in time and of mean 0."""
    run = fit(pa.FactorAnalysis(6, 2), rows(80, 6, 2), QUICK)
    W = run.draws["loadings"].flatten(2)
    flat = W.flatten(0, 1)
    assert (flat.mean(0).abs() < 5 * flat.std(0) / len(flat) ** 0.5).all()
    lag = ((W[:, 1:] * W[:, :-1]).mean((0, 1)) / W.square().mean((0, 1))).abs()
    # products of squares of turned loadings: kurtosis below 3
    assert (lag < 5 * (3 / len(flat)) ** 0.5).all()


def test_statistics_serve_as_well_as_rows():
    x = rows()
    whole = fit(pa.FactorAnalysis(4, 1), x, QUICK)
    brief = fit(pa.FactorAnalysis(4, 1), SufficientStatistics.from_data(x), QUICK)
    for name in whole.draws:
        assert torch.equal(whole.draws[name], brief.draws[name])


def test_the_order_of_features_does_not_matter():
    x = rows(50, 5, 2)
    order = [3, 0, 4, 1, 2]
    one = fit(pa.FactorAnalysis(5, 2), x, NUTS(draws=1500))
    other = fit(pa.FactorAnalysis(5, 2), x[:, order], NUTS(draws=1500), seed=1)
    back = torch.tensor(order).argsort()
    for name in ("noise_variance", "mean"):
        other.draws[name] = other.draws[name][..., back]
    other.draws["loadings"] = other.draws["loadings"][..., back, :]
    assert max(apart(one, other)) < 4


def test_one_seed_gives_one_result_and_the_callers_state_is_kept():
    x, method = rows(), NUTS(draws=150, warmup=100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        state, numpys = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        runs = [fit(pa.FactorAnalysis(4, 1), x, method, seed=seed) for seed in (5, 5, 6)]
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpys).all()  # noqa: NPY002
    for name, value in runs[0].draws.items():
        assert torch.equal(value, runs[1].draws[name])
        assert not torch.equal(value, runs[2].draws[name])


def test_control_c_gives_the_draws_so_far(interrupt_after):
    interrupt_after(300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        run = fit(pa.FactorAnalysis(4, 1), rows(), NUTS(draws=300, warmup=200))
    assert run.interrupted
    assert not run.converged
    assert run.draws["loadings"].shape[1] == run.sample_stats["lp"].shape[1] == 100


@pytest.mark.filterwarnings("ignore::probae.ConvergenceWarning")
def test_hyperparameters_are_drawn_with_the_rest():
    """ARD: given the loadings the precisions are gamma, whatever the chain did."""
    x = rows(80, 6, 2)
    prior = ARD(2.0, 0.5)
    run = fit(pa.FactorAnalysis(6, 3).with_priors(loadings=prior), x, NUTS(draws=300, warmup=200))
    precision = run.draws["loadings_precision"]
    assert precision.shape == (4, 300, 3)
    squares = run.draws["loadings"].square().sum(2)
    level = stats.gamma(2.0 + 3.0).cdf((precision * (0.5 + 0.5 * squares)).numpy())
    assert stats.kstest(level[:, ::10].ravel(), stats.uniform.cdf).pvalue > 1e-4


def test_nutpie_agrees():
    pytest.importorskip("nutpie")
    x = rows(60, 5, 2)
    own = fit(pa.FactorAnalysis(5, 2), x, NUTS(draws=1500))
    other = fit(pa.FactorAnalysis(5, 2), x, NUTS(draws=500, warmup=300, engine="nutpie"))
    assert max(apart(own, other)) < 4
    for name in ("acceptance_rate", "tree_depth", "n_steps", "step_size", "energy", "lp"):
        assert other.sample_stats[name].shape == (4, 500)
    with pytest.raises(ParameterError, match="hyperparameters"):
        fit(pa.FactorAnalysis(5, 2).with_priors(loadings=ARD()), x, NUTS(engine="nutpie"))


@pytest.mark.filterwarnings("ignore::probae.ProbaeWarning")
def test_few_draws_of_pyro_are_returned_as_they_are():
    run = fit(pa.FactorAnalysis(3, 1), rows(20, 3), NUTS(draws=2, warmup=2, chains=2, engine="pyro"))
    assert run.draws["loadings"].shape == (2, 2, 3, 1)
    assert set(run.sample_stats["diverging"].unique().tolist()) <= {0.0, 1.0}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::probae.ConvergenceWarning")
@pytest.mark.parametrize("missing", [0.0, 0.15])
def test_pyro_agrees(missing):
    """Another density, in which W turns and the mean is sampled, by another sampler."""
    x = rows(40, 4, 1, missing)
    model = pa.FactorAnalysis(4, 1).with_priors(noise_variance=HalfNormal(0.7), mean=Normal(2.0))
    # noise near 0 is likely under a half-normal law: at the default acceptance up to 2 % of the moves diverge there
    own = fit(model, x, NUTS(draws=3000, target_acceptance=0.95))
    other = fit(model, x, NUTS(draws=300, warmup=200, chains=2, target_acceptance=0.95, engine="pyro"))
    assert max(apart(own, other)) < 4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::probae.ConvergenceWarning")
def test_pyro_agrees_where_the_loadings_turn():
    x = rows(60, 5, 2)
    own = fit(pa.FactorAnalysis(5, 2), x, NUTS(draws=5000))
    other = fit(pa.FactorAnalysis(5, 2), x, NUTS(draws=300, warmup=200, chains=2, engine="pyro"))
    assert max(apart(own, other)) < 4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::probae.ProbaeWarning")
@pytest.mark.parametrize(
    ("count", "features", "latents", "missing"), [(30, 3, 1, 0.0), (4, 6, 2, 0.0), (15, 4, 2, 0.2)]
)
def test_ranks_of_the_truth_are_uniform(count, features, latents, missing):
    """Simulation-based calibration of psi, W W', the mean and the likelihood, also with fewer rows than features."""
    replicates, thin = 200, 20
    generator = torch.Generator().manual_seed(count)
    priors = {"loadings": Normal(1.0), "noise_variance": InverseGamma(3.0, 1.0), "mean": Normal(1.0)}
    ranks = []
    for number in range(replicates):
        truth = pa.FactorAnalysis(features, latents)
        truth.loadings = torch.randn(features, latents, generator=generator, dtype=torch.float64)
        precisions = np.random.default_rng([count, number]).gamma(3.0, size=features)
        truth.noise_variance = 1.0 / torch.from_numpy(precisions)
        truth.mean = torch.randn(features, generator=generator, dtype=torch.float64)
        x = truth.sample(count, seed=number)
        hidden = torch.rand(x.shape, generator=generator) < missing
        hidden[:2] = False
        x = x.masked_fill(hidden, torch.nan)
        run = fit(
            pa.FactorAnalysis(features, latents).with_priors(**priors), x, NUTS(500, 200, 2), seed=number
        )
        W = truth.loadings.detach()
        true = torch.stack([truth.noise_variance[0], (W @ W.mT)[0, 0], (W @ W.mT)[0, 1], truth.mean[0]])
        square = run.draws["loadings"] @ run.draws["loadings"].mT
        drawn = [
            run.draws["noise_variance"][..., 0],
            square[..., 0, 0],
            square[..., 0, 1],
            run.draws["mean"][..., 0],
        ]
        drawn = torch.stack(drawn, -1)[:, ::thin].flatten(0, 1)
        ranks.append((drawn < true.detach()).sum(0))
    share = (torch.stack(ranks) + torch.rand(replicates, 4, generator=generator)) / (2 * 500 / thin + 1)
    for column in share.T.numpy():
        assert stats.kstest(column, stats.uniform.cdf).pvalue > 1e-3 / 4


def test_chains_that_never_moved_are_not_converged():
    draws = {
        "loadings": torch.ones(2, 5, 3, 1),
        "noise_variance": torch.ones(2, 5),
        "mean": torch.zeros(2, 5, 3),
    }
    with pytest.warns(ConvergenceWarning, match="No chain moved"):
        assert not check_mixing(draws)


def test_warnings_name_what_went_wrong():
    good = {
        "diverging": torch.zeros(2, 100, dtype=torch.bool),
        "tree_depth": torch.full((2, 100), 3),
        "energy": torch.randn(2, 100, generator=torch.Generator().manual_seed(0)),
    }
    warn_of_moves(good, 10)
    bad = good["diverging"].clone()
    bad[0, 3] = True
    with pytest.warns(pa.DivergenceWarning, match="1 of 200 moves"):
        warn_of_moves(good | {"diverging": bad}, 10)
    with pytest.warns(pa.TreeDepthWarning, match="100%"):
        warn_of_moves(good, 3)
    with pytest.warns(pa.EnergyWarning, match="E-BFMI"):
        warn_of_moves(good | {"energy": good["energy"].cumsum(1)}, 10)


def test_the_energy_fraction_of_independent_energies_is_2():
    energy = torch.randn(3, 20_000, generator=torch.Generator().manual_seed(1)).double()
    # a ratio of means of 20,000 squares: standard error about 2 sqrt(3 / N)
    assert (energy_fraction(energy) - 2).abs().max() < 5 * 2 * math.sqrt(3 / 20_000)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"draws": 0}, "draws should be a whole number of at least 1"),
        ({"warmup": -1}, "warmup should be"),
        ({"chains": 1.5}, "chains should be"),
        ({"tree_depth": 0}, "tree_depth should be"),
        ({"target_acceptance": 1.0}, "target_acceptance should be a number between 0 and 1"),
        ({"engine": "stan"}, "engine should be 'probae', 'nutpie' or 'pyro'"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ParameterError, match=message):
        NUTS(**settings)


def test_a_model_without_noise_is_refused():
    with pytest.raises(NotExactError, match="noise"):
        fit(pa.IndependentComponents(4, 4), rows(), NUTS())


@pytest.mark.filterwarnings("ignore::probae.ConvergenceWarning")
def test_priors_of_pyro_are_sampled_with_the_factors_integrated_out():
    """A prior that happens to be ours in Pyro's clothes: the program has its density, and says what it costs."""
    x = rows(25, 3)
    model = pa.FactorAnalysis(3, 1).with_priors(
        loadings=dist.Normal(torch.zeros(1).double(), 1.0), mean=Fixed()
    )
    with pytest.warns(pa.ProbaeWarning, match="6 coordinates, the factors integrated out"):
        run = fit(model, x, NUTS(draws=6, warmup=4, chains=1, tree_depth=2))
    assert run.draws["loadings"].shape == (1, 6, 3, 1)
    assert run.draws["mean"].shape == (1, 6, 3)
    spread = torch.from_numpy(x.numpy().std(0))
    W, psi = run.draws["loadings"][0, 4], run.draws["noise_variance"][0, 4]
    normal = dist.MultivariateNormal(model.point().mean.detach(), W @ W.mT + torch.diag(psi))
    prior = dist.Normal(0.0, 1.0).log_prob(W).sum() + InverseGamma(2.0, 0.5 * spread**2).log_prob(psi).sum()
    expected = normal.log_prob(x).sum() + prior + psi.log().sum()  # Pyro moves log psi
    assert run.sample_stats["lp"][0, 4].item() == pytest.approx(expected.item(), rel=1e-5)  # float32 inside


@pytest.mark.filterwarnings("ignore::probae.ProbaeWarning")
@pytest.mark.parametrize(
    ("law", "group"), [(dist.Laplace(torch.zeros(1).double(), 1.0), "SP(2)"), (dist.Normal(0.0, 2.0), "O(2)")]
)
def test_a_law_of_pyro_that_holds_the_axes_is_not_turned(law, group):
    """The point model is the mean of the draws after what model and prior leave free, and no more."""
    run = fit(
        pa.FactorAnalysis(4, 2).with_priors(loadings=law), rows(30, 4, 2), NUTS(20, 20, 1, tree_depth=4)
    )
    found = pa.align(run)
    assert found.group.name == group
    own = run.model.loadings
    # where both turn they do so by two ways to the same mean, of which 20 draws are
    assert float((found.mean - own).norm() / own.norm()) < (0.1 if group == "O(2)" else 1e-12)


@pytest.mark.filterwarnings("ignore::probae.ProbaeWarning")
@pytest.mark.parametrize("kind", [pa.FactorAnalysis, pa.ProbabilisticPCA])
def test_default_priors_are_the_same_whoever_samples(kind):
    """Beside a law of Pyro the other parameters keep the defaults of the compiled engine, missing entries or not."""
    x = rows(40, 3, missing=0.3) * torch.tensor([1.0, 10.0, 0.1]).double()
    brief = NUTS(draws=4, warmup=2, chains=1, tree_depth=1)
    own = fit(kind(3, 1), x, brief).program.parameter_priors
    spread = torch.from_numpy(np.nanstd(x.numpy(), 0))
    spread = spread if kind is pa.FactorAnalysis else spread.square().mean().sqrt()
    law = dist.Normal(torch.zeros(1).double(), 1.0)
    noise = fit(kind(3, 1).with_priors(loadings=law), x, brief).program.parameter_priors["noise_variance"]
    torch.testing.assert_close(noise.rate, torch.as_tensor(own["noise_variance"].scale).double())
    torch.testing.assert_close(noise.rate, 0.5 * spread.square())
    scale = dist.HalfNormal(1.0).expand([3] if kind is pa.FactorAnalysis else [])
    loadings = fit(kind(3, 1).with_priors(noise_variance=scale), x, brief).program.parameter_priors[
        "loadings"
    ]
    torch.testing.assert_close(loadings.scale.expand(3, 1), own["loadings"].scale.reshape(3, 1))


@pytest.mark.filterwarnings("ignore::probae.ConvergenceWarning")
def test_the_reference_moves_factors_that_are_not_gaussian():
    x = rows(8, 3)
    method = NUTS(draws=5, warmup=10, chains=1, tree_depth=3, engine="pyro")
    with pytest.warns(pa.ProbaeWarning, match="26 coordinates, the factors of every row"):
        run = fit(pa.SparseCoding(3, 2), x, method)  # 16 + 6 + 1 + 3
    assert run.draws["loadings"].shape == (1, 5, 3, 2)
    assert run.posterior(x).mean.shape == (8, 2)
