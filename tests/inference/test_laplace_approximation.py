"""The normal law around the mode: a maximum, exact as rows abound, right in its invariances, close to the posterior."""

import numpy as np
import pytest
import torch
from scipy import stats

import probae as pa
from probae.datasets import holzinger_swineford
from probae.inference import LaplaceApproximation, VariationalBayes
from probae.inference.fit import fit
from probae.inference.gibbs import Gibbs
from probae.inference.parameter_density import CollapsedDensity
from probae.inference.parameter_draws import problem_of
from probae.inference.parameter_mode import find_mode
from probae.models import FactorAnalysis, ProbabilisticPCA
from probae.parameter_priors import ARD, Fixed, HalfNormal, Horseshoe, Normal
from probae.statistics import SufficientStatistics

X = holzinger_swineford().x.double()


def mode_of(model, x=X):
    return find_mode(
        CollapsedDensity(problem_of(model, SufficientStatistics.from_data(x), "Laplace")), "Laplace"
    )


def invariants(run):
    """Noise variances and communalities of all draws."""
    noise = run.draws["noise_variance"]
    noise = noise[..., None] if noise.dim() == 2 else noise
    return torch.cat([noise, run.draws["loadings"].square().sum(-1)], -1).flatten(0, 1)


MODELS = {
    "fa": FactorAnalysis(9, 3),
    "fa, scaled": FactorAnalysis(9, 2).with_priors(loadings=Normal(torch.linspace(0.5, 2.0, 9))).point(),
    "fa, ARD": FactorAnalysis(9, 2).with_priors(loadings=ARD()).point(),
    "fa, half normal": FactorAnalysis(9, 2)
    .with_priors(noise_variance=HalfNormal(), mean=Normal(5.0))
    .point(),
    "ppca": ProbabilisticPCA(9, 3),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_mode_is_a_maximum(model):
    mode = mode_of(model)
    assert mode.converged
    _, gradient = mode.coordinates.value_and_gradient(mode.theta.numpy())
    gradient = torch.from_numpy(gradient)
    # half the squared length of the gradient in units of curvature: nats still to be gained
    assert 0.5 * gradient @ torch.linalg.solve(mode.precision, gradient) < 1e-9
    assert torch.linalg.eigvalsh(mode.precision)[0] > 0


def test_draws_have_the_normal_law_of_the_mode():
    mode = mode_of(MODELS["fa, ARD"])  # no frame: log noise variances are coordinates either way
    run = fit(MODELS["fa, ARD"], X, LaplaceApproximation(draws=4000))
    units = X.std(0, correction=0)
    logs = (run.draws["noise_variance"][0] / units.square()).log()
    sd = torch.linalg.inv(mode.precision).diagonal().sqrt()[-9:]
    for d in range(9):
        law = stats.norm(float(mode.theta[-9 + d]), float(sd[d]))
        assert stats.kstest(logs[:, d].numpy(), law.cdf).pvalue > 1e-4


def test_weighted_draws_agree_with_gibbs_sampling():
    """One factor: weights make the draws those of the posterior, as an exact sampler has it."""
    model = FactorAnalysis(9, 1)
    run = fit(model, X, LaplaceApproximation(draws=8000))
    weights = run.sample_stats["log_weight"][0].softmax(0)
    values = invariants(run)
    mean = weights @ values
    sd = (weights @ (values - mean).square()).sqrt()
    exact = invariants(fit(model, X, Gibbs(draws=500)))
    # standard errors: of 2,000 draws in chains, worth 400 or more (the sampler warns below), and of the weights
    error = (1 / 400 + weights.square().sum()).sqrt()
    assert bool((((mean - exact.mean(0)) / sd).abs() < 4 * error).all())
    assert bool(((exact.std(0) / sd).log().abs() < 4 * error).all())


def test_many_rows_leave_no_difference_between_weighted_and_plain_draws():
    """The posterior becomes normal: at 100 times the rows, means move by a tenth of what they do here."""
    ratios = []
    for copies in (1, 100):
        x = X.repeat(copies, 1)
        run = fit(FactorAnalysis(9, 2), x, LaplaceApproximation(draws=2000))
        weights = run.sample_stats["log_weight"][0].softmax(0)
        ratios.append(float(1 / weights.square().sum() / 2000))
    assert ratios[1] > 0.9  # skewness falls as n^{-1/2}; the variance of weights as 1 / n
    assert ratios[0] < ratios[1]


@pytest.mark.parametrize("method", [LaplaceApproximation(draws=2000), VariationalBayes(draws=2000, steps=20)])
@pytest.mark.filterwarnings("ignore::probae.ConvergenceWarning")
def test_loadings_are_turned_uniformly(method):
    run = fit(FactorAnalysis(9, 2), X, method)
    first = run.draws["loadings"][0, :, 0]
    angle = torch.atan2(first[:, 1], first[:, 0]).numpy()
    assert stats.kstest(angle, stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-4


def test_signs_and_order_are_free_under_ard():
    run = fit(MODELS["fa, ARD"], X, LaplaceApproximation(draws=2000))
    loadings, precision = run.draws["loadings"][0], run.draws["loadings_precision"][0]
    largest = loadings.abs().sum(1).argmax(1).double()
    # halves of 2,000: the standard error of a share is .011
    assert abs(largest.mean() - 0.5) < 0.05
    assert abs((loadings[:, 0] > 0).double().mean() - 0.5) < 0.05
    # precisions follow the columns: alpha | W ~ Gamma(1 + 9 / 2, .01 + |w|^2 / 2)
    rate = 0.01 + 0.5 * loadings.square().sum(1)  # the prior is in the units of x
    assert stats.kstest((rate * precision).flatten().numpy(), stats.gamma(5.5).cdf).pvalue > 1e-4


def test_units_of_columns_change_nothing_but_units():
    units = torch.tensor([1.0, 10.0, 0.1, 1.0, 5.0, 1.0, 1.0, 100.0, 1.0]).double()
    one, other = (fit(FactorAnalysis(9, 2), x, LaplaceApproximation(draws=50)) for x in (X, X * units))
    torch.testing.assert_close(other.draws["noise_variance"], one.draws["noise_variance"] * units.square())
    torch.testing.assert_close(
        other.draws["loadings"], one.draws["loadings"] * units[:, None], rtol=1e-6, atol=1e-6
    )
    torch.testing.assert_close(
        other.sample_stats["log_weight"], one.sample_stats["log_weight"], rtol=1e-6, atol=1e-6
    )


def test_statistics_serve_in_place_of_rows_and_the_seed_decides():
    one = fit(FactorAnalysis(9, 2), X, LaplaceApproximation(draws=20), seed=3)
    other = fit(
        FactorAnalysis(9, 2), SufficientStatistics.from_data(X), LaplaceApproximation(draws=20), seed=3
    )
    assert torch.equal(one.draws["loadings"], other.draws["loadings"])
    again = fit(FactorAnalysis(9, 2), X, LaplaceApproximation(draws=20), seed=4)
    assert not torch.equal(one.draws["loadings"], again.draws["loadings"])


def test_a_missing_entry_is_integrated_out():
    """Entries missing in one column only: as the complete data give it, but wider for that column."""
    x = X.clone()
    x[:200, 0] = torch.nan
    run = fit(FactorAnalysis(9, 1), x, LaplaceApproximation(draws=1000))
    full = fit(FactorAnalysis(9, 1), X, LaplaceApproximation(draws=1000))
    spread = run.draws["noise_variance"][0].std(0) / full.draws["noise_variance"][0].std(0)
    assert spread[0] > 1.3  # a third of the rows: sqrt(3) = 1.7
    assert bool(((spread[1:] > 0.8) & (spread[1:] < 1.25)).all())
    assert run.draws["mean"].shape == (1, 1000, 9)


def test_fewer_rows_than_features_leave_a_maximum():
    run = fit(FactorAnalysis(9, 2), X[:6], LaplaceApproximation(draws=50))
    assert run.converged
    assert bool(run.draws["loadings"].isfinite().all())


def test_a_fixed_mean_stays_fixed():
    model = FactorAnalysis(9, 1)
    model.mean = X.mean(0)
    run = fit(model.with_priors(mean=Fixed()), X, LaplaceApproximation(draws=10))
    torch.testing.assert_close(run.draws["mean"], X.mean(0).expand(1, 10, 9))


@pytest.mark.parametrize("model", [FactorAnalysis(9, 1), FactorAnalysis(9, 2)])
def test_a_column_that_does_not_vary_has_a_mode_only_under_a_proper_law(model):
    x = X.clone()
    x[:, 3] = 2.0
    with pytest.warns(pa.ConstantColumnWarning):
        run = fit(model, x, LaplaceApproximation(draws=50))
    assert run.converged
    assert run.draws["noise_variance"][0, :, 3].max() < 0.1 * X.var()  # IG(2, 1/2) and 300 residuals of 0
    with pytest.raises(pa.ParameterError, match="no proper posterior"):
        fit(model.with_priors(noise_variance=HalfNormal()), x, LaplaceApproximation())


def test_loadings_without_a_closed_density_are_refused():
    model = FactorAnalysis(9, 2).with_priors(loadings=Horseshoe())
    for method in (LaplaceApproximation(), VariationalBayes()):
        with pytest.raises(pa.NotExactError, match=r"Gibbs\(\) draws both"):
            fit(model, X, method)


def test_more_latents_than_features_are_refused():
    with pytest.raises(pa.ParameterError, match="no more latents than features"):
        fit(FactorAnalysis(9, 10), X, LaplaceApproximation())
