"""NUTS on factors that are normal given a random scale, through `fit`."""

import warnings

import jaxtyping
import numpy as np
import pytest
import torch
from arviz_stats.base import array_stats
from scipy import stats

import probae as pa
from probae import ConvergenceWarning, DataError, NotExactError, ParameterError, fit
from probae.inference import NUTS
from probae.inference.code_draws_posterior import CodeDrawsPosterior
from probae.inference.identified_group import group_of_run
from probae.inference.nuts import trajectory
from probae.parameter_priors import ARD, Fixed, HalfNormal, InverseGamma, Normal, SpikeSlab
from probae.priors import Laplace, Logistic, StudentT

SHORT = NUTS(draws=40, warmup=40, chains=2)
unready = pytest.mark.filterwarnings("ignore::probae.ConvergenceWarning")


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rows(count, features, latents, prior=None, noise=0.5, seed=0):
    """Rows, and the loadings that they were made of."""
    model = pa.LinearFactorModel(features, latents, prior=prior or Laplace())
    model.loadings = normal(features, latents, seed=seed)
    model.noise_variance = torch.full((features,), noise**2, dtype=torch.float64)
    model.mean = torch.full((features,), 2.0, dtype=torch.float64)
    return model.sample(count, seed=seed), model.loadings.detach()


@unready
@pytest.mark.parametrize("prior", [Laplace(), StudentT(5.0)])
def test_shapes_names_and_the_model(prior):
    x, _ = rows(30, 4, 2, prior)
    run = fit(pa.LinearFactorModel(4, 2, prior=prior), x, SHORT)
    assert run.draws["loadings"].shape == (2, 40, 4, 2)
    assert run.draws["noise_variance"].shape == run.draws["mean"].shape == (2, 40, 4)
    assert set(run.sample_stats) == set(trajectory.STATISTICS)
    assert run.sample_stats["diverging"].dtype == torch.bool
    assert run.sample_stats["n_steps"].dtype == torch.int64
    torch.testing.assert_close(run.model.mean, run.draws["mean"].mean((0, 1)))
    assert isinstance(run.posterior, CodeDrawsPosterior)
    torch.testing.assert_close(run.posterior.loadings.mean(0), run.model.loadings)
    assert run.posterior(x[:3]).mean.shape == (3, 2)


def test_planted_loadings_come_back_up_to_signs_and_order():
    """The posterior says how far off its mean may be; aligned chains agree."""
    x, planted = rows(300, 6, 2)
    run = fit(pa.LinearFactorModel(6, 2, prior=Laplace()), x, NUTS(draws=400, warmup=250), seed=1)
    group = group_of_run(run)
    assert group.name == "SP(2)"
    aligned = run.draws["loadings"] @ group.rotations(run.draws["loadings"])
    mean = aligned.mean((0, 1))
    mean = mean @ group.onto(mean, planted)
    sd = aligned.flatten(0, 1).std(0) @ group.onto(aligned.mean((0, 1)), planted).abs()
    assert ((mean - planted).abs() < 4 * sd).all()  # twelve numbers, of which one in 16,000 is further off
    assert sd.max() < 0.25  # and it is no idle statement: loadings are of order one
    values = aligned.flatten(2).numpy()
    assert np.max(array_stats.rhat(values, chain_axis=0, draw_axis=1)) < 1.02
    assert not run.sample_stats["diverging"].any()
    scores = run.posterior(x).mean
    assert scores.shape == (300, 2)


@unready
def test_hyperparameters_are_drawn_with_the_rest():
    """ARD: given the loadings the precisions are gamma, whatever the chain did."""
    x, _ = rows(50, 6, 2)
    model = pa.LinearFactorModel(6, 2, prior=Laplace()).with_priors(loadings=ARD(2.0, 0.5))
    run = fit(model, x, NUTS(draws=200, warmup=60))
    precision = run.draws["loadings_precision"]
    squares = run.draws["loadings"].square().sum(2)
    level = stats.gamma(2.0 + 3.0).cdf((precision * (0.5 + 0.5 * squares)).numpy())
    assert stats.kstest(level[:, ::5].ravel(), stats.uniform.cdf).pvalue > 1e-4


@unready
def test_units_change_nothing():
    """Priors are by default in units of the columns, and so is all that is done."""
    x, _ = rows(40, 3, 1)
    units = torch.tensor([1.0, 1024.0, 0.125], dtype=torch.float64)  # powers of two: exact
    one, other = (fit(pa.LinearFactorModel(3, 1, prior=Laplace()), y, SHORT) for y in (x, x * units))
    torch.testing.assert_close(
        other.draws["loadings"], one.draws["loadings"] * units[:, None], rtol=1e-9, atol=0
    )
    torch.testing.assert_close(other.draws["mean"], one.draws["mean"] * units, rtol=1e-9, atol=0)


@unready
def test_one_seed_gives_one_result_and_the_callers_state_is_kept():
    x, _ = rows(30, 3, 2)
    state = torch.get_rng_state()
    runs = [fit(pa.SparseCoding(3, 2), x, SHORT, seed=seed) for seed in (5, 5, 6)]
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in runs[0].draws.items():
        assert torch.equal(value, runs[1].draws[name])
        assert not torch.equal(value, runs[2].draws[name])
    assert runs[0].draws["noise_variance"].shape == (2, 40)


@unready
def test_more_factors_than_features_are_sampled():
    x, _ = rows(40, 3, 2)
    run = fit(pa.SparseCoding(3, 4), x, SHORT)
    assert run.draws["loadings"].shape == (2, 40, 3, 4)
    assert run.posterior(x[:5]).mean.shape == (5, 4)


@unready
def test_a_fixed_mean_stays():
    x, _ = rows(40, 3, 1)
    model = pa.LinearFactorModel(3, 1, prior=Laplace())
    model.mean = torch.tensor([2.0, 1.5, 2.5]).double()
    run = fit(model.with_priors(mean=Fixed()), x, SHORT)
    torch.testing.assert_close(run.draws["mean"], model.mean.detach().expand(2, 40, 3))


@unready
def test_control_c_gives_the_draws_so_far(interrupt_after):
    interrupt_after(60)
    x, _ = rows(30, 3, 1)
    run = fit(pa.LinearFactorModel(3, 1, prior=Laplace()), x, SHORT)
    assert run.interrupted
    assert run.draws["loadings"].shape[1] == run.sample_stats["lp"].shape[1] == 20


@unready
def test_a_run_is_stored(tmp_path):
    x, _ = rows(30, 3, 1)
    run = fit(pa.LinearFactorModel(3, 1, prior=StudentT(5.0)), x, SHORT)
    pa.save(run, tmp_path / "run")
    back = pa.load(tmp_path / "run")
    assert torch.equal(back.posterior(x).draws, run.posterior(x).draws)
    assert torch.equal(back.draws["loadings"], run.draws["loadings"])


@pytest.mark.parametrize(
    ("model", "x", "method", "error", "message"),
    [
        (pa.SparseCoding(3, 2), [[1.0, 2.0, float("nan")]] * 3, SHORT, DataError, "missing"),
        (
            pa.SparseCoding(3, 2),
            pa.SufficientStatistics.from_data(normal(9, 3)),
            SHORT,
            DataError,
            "needs the rows",
        ),
        (
            pa.SparseCoding(3, 2),
            normal(9, 3),
            NUTS(engine="nutpie"),
            ParameterError,
            "takes Gaussian factors",
        ),
        (
            pa.LinearFactorModel(3, 1, prior=StudentT(5.0, learn=True)),
            normal(9, 3),
            SHORT,
            NotExactError,
            "degrees of freedom",
        ),
        (pa.SparseCoding(3, 2).with_priors(loadings=SpikeSlab()), normal(9, 3), SHORT, NotExactError, "jump"),
        (
            pa.LinearFactorModel(3, 1, prior=Laplace()).with_priors(noise_variance=HalfNormal(1.0)),
            normal(9, 3) * torch.tensor([1.0, 0.0, 1.0]),
            SHORT,
            ParameterError,
            "no proper posterior",
        ),
    ],
)
def test_what_it_cannot_take_is_refused(model, x, method, error, message):
    with pytest.raises(error, match=message):
        fit(model, x, method)


@unready
def test_other_laws_go_to_pyro():
    x, _ = rows(8, 3, 1)
    with pytest.warns(pa.ProbaeWarning, match="the factors of every row"):
        run = fit(pa.SparseCoding(3, 1, prior=Logistic()), x, NUTS(draws=5, warmup=4, chains=1, tree_depth=2))
    assert run.draws["loadings"].shape == (1, 5, 3, 1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::probae.ProbaeWarning")
@pytest.mark.parametrize("prior", [Laplace(), StudentT(3.0)])
def test_pyro_agrees(prior):
    """Pyro moves z of every row, in another density: the same posterior of psi, W W' and the mean."""
    x, _ = rows(5, 3, 1, prior)
    priors = {"loadings": Normal(1.0), "noise_variance": InverseGamma(3.0, 1.0), "mean": Normal(2.0)}
    model = pa.LinearFactorModel(3, 1, prior=prior).with_priors(**priors)
    own = fit(model, x, NUTS(draws=3000))
    jaxtyping.config.update("jaxtyping_disable", True)  # run-time checks of types take longer than Pyro
    try:
        other = fit(model, x, NUTS(draws=300, warmup=150, chains=2, tree_depth=5, engine="pyro"))
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    (m1, s1, n1), (m2, s2, n2) = moments(own), moments(other)
    assert np.abs((m1 - m2) / np.sqrt(s1**2 / n1 + s2**2 / n2)).max() < 4
    # relative error of a standard deviation: sqrt((kurtosis - 1) / 4 n), kurtosis below 9
    assert (np.abs(np.log(s1 / s2)) / np.sqrt(2 / n1 + 2 / n2)).max() < 4


def moments(run):
    """Mean, standard deviation and effective number of draws of psi, W W' and the mean."""
    square = run.draws["loadings"] @ run.draws["loadings"].mT
    parts = [run.draws["noise_variance"], square.flatten(2), run.draws["mean"]]
    values = torch.cat(parts, -1).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        worth = np.asarray(array_stats.ess(values, chain_axis=0, draw_axis=1))
    flat = values.reshape(-1, values.shape[-1])
    return flat.mean(0), flat.std(0), worth
