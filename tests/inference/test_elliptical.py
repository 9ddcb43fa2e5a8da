"""EM with a multivariate t law of the factors: never downhill, no slope at the end, the classical case."""

import math

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch

import probae as pa
from probae import BoundaryWarning, DataError, fit
from probae.datasets import linear_factors
from probae.inference.elliptical import FEWEST
from probae.inference.factor_likelihood import FactorLikelihood
from probae.inference.shared_scale import SharedScaleLikelihood
from probae.models import LinearFactorModel
from probae.models.patterns import Patterns
from probae.priors import Gaussian, MultivariateStudentT
from probae.statistics import SufficientStatistics


def planted(df=4.0, rows=1500, features=8, latents=2, **settings):
    prior = MultivariateStudentT(df)
    return linear_factors(rows, features, latents, prior=prior, seed=3, **settings)


def learning(features, latents, noise="diagonal", df=8.0):
    return LinearFactorModel(features, latents, MultivariateStudentT(df, learn=True), noise=noise)


def problem_of(x, latents, diagonal):
    moments = SufficientStatistics.from_data(x)
    frame = FactorLikelihood(Patterns.of_statistics(moments), latents, diagonal, moments.variances)
    return SharedScaleLikelihood(x, frame, learn=True)


def random_point(problem, features, latents):
    loadings = torch.randn(features, latents, dtype=torch.float64)
    noise, mean = 0.5 + torch.rand(features, dtype=torch.float64), torch.randn(features, dtype=torch.float64)
    body = problem.gaussian.join(loadings, noise, mean)
    return torch.cat([body, torch.tensor([1.0], dtype=torch.float64)])


@pytest.mark.parametrize("diagonal", [True, False])
@pytest.mark.parametrize("latents", [1, 3, 6])
def test_gradient_of_the_likelihood(diagonal, latents):
    """Central differences of step 1e-5 in every coordinate: errors of 1e-10 plus rounding."""
    x = planted(rows=40, features=5).x
    problem = problem_of(x, latents, diagonal)
    theta = random_point(problem, 5, latents)
    point = problem.evaluate(theta)
    for index in range(len(theta)):
        step = torch.zeros_like(theta)
        step[index] = 1e-5
        slope = (problem.evaluate(theta + step).value - problem.evaluate(theta - step).value) / 2e-5
        assert slope == pytest.approx(float(point.gradient[index]), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("diagonal", [True, False])
def test_a_plain_step_never_goes_down(diagonal):
    x = planted(rows=60, features=5).x
    problem = problem_of(x, 2, diagonal)
    theta = random_point(problem, 5, 2)
    values = []
    for _ in range(60):
        point = problem.evaluate(theta)
        values.append(point.value)
        theta = point.following
    assert np.diff(values).min() > -1e-12 * abs(values[0])
    assert values[-1] > values[0] + 0.1


@pytest.mark.parametrize(
    ("noise", "communality"), [("diagonal", 0.6), ("isotropic", 0.9), ("isotropic", 0.9999)]
)
def test_history_rises_to_a_point_without_slope(noise, communality):
    """Also where there is next to no noise, and EM without parameter expansion would not move."""
    x = planted(communality=communality).x
    run = fit(learning(8, 2, noise), x, pa.EM())
    assert run.converged
    assert (run.history.diff() >= 0).all()
    assert run.history[-1].item() == pytest.approx(run.log_likelihood(x).mean().item(), rel=1e-12)
    assert len(run.history) < 60
    problem = problem_of(x, 2, noise == "diagonal")
    body = problem.gaussian.join(*run.model._gaussian_parameters())
    excess = (run.model.prior.df.detach() - 2).log().view(1)
    point = problem.evaluate(torch.cat([body, excess]))
    assert problem.slope(point) < 1e-4  # nats per row, in directions without units


def test_planted_law_is_recovered():
    """The likelihood is not below that of the truth, and its excess is that of chi-square / 2n."""
    data = planted(df=4.0, rows=3000, communality=0.7)
    run = fit(learning(8, 2), data.x, pa.EM())
    truth = LinearFactorModel(8, 2, MultivariateStudentT(4.0))
    for name in ("loadings", "noise_variance", "mean"):
        setattr(truth, name, data.truth[name])
    excess = 2 * float((run.log_likelihood(data.x) - truth.log_likelihood(data.x)).sum())
    parameters = 8 * 2 - 1 + 8 + 8 + 1
    assert 0 < excess < scipy.stats.chi2.isf(1e-4, parameters)
    # Fisher information of nu at known scale: a multivariate t of 2 coordinates and 4 degrees of freedom
    # has .0082 per row, so its standard error is at least 1 / sqrt(3000 * .0082) = .2; noise adds to it
    assert abs(float(run.model.prior.df) - 4.0) < 1.2
    assert float(pa.principal_angles(data.truth["loadings"], run.model.loadings).max()) < 5.0


def test_fixed_degrees_of_freedom_stay():
    x = planted().x
    run = fit(LinearFactorModel(8, 2, MultivariateStudentT(6.0)), x)
    assert float(run.model.prior.df) == 6.0
    free = fit(learning(8, 2), x)
    assert free.history[-1] >= run.history[-1]


def test_maximum_likelihood_and_em_agree():
    x = planted(rows=400).x
    one, two = fit(learning(8, 2), x, pa.EM()), fit(learning(8, 2), x, pa.MaximumLikelihood())
    assert one.history[-1].item() == pytest.approx(two.history[-1].item(), abs=1e-9)


def test_gaussian_data_end_near_the_gaussian_fit():
    """A nested model: not below it, and above it by about half a chi-square of one degree of freedom."""
    x = linear_factors(1000, 6, 2, prior=Gaussian(), seed=1).x
    run, gaussian = fit(learning(6, 2), x), fit(pa.FactorAnalysis(6, 2), x)
    gain = 1000 * float(run.history[-1] - gaussian.history[-1])
    assert -1e-2 < gain < 10
    assert float(run.model.prior.df) > 20


def test_units_do_not_matter():
    x = planted(rows=300).x
    units = torch.logspace(-3, 3, 8, dtype=torch.float64)
    one, two = fit(learning(8, 2), x), fit(learning(8, 2), x * units)
    assert torch.allclose(two.model.loadings, one.model.loadings * units.unsqueeze(1), rtol=1e-4, atol=1e-9)
    assert two.history[-1].item() == pytest.approx(
        one.history[-1].item() - float(units.log().sum()), abs=1e-8
    )


def test_as_many_factors_as_features_and_more():
    x = planted(rows=200, features=4).x
    with pytest.warns(pa.UnderidentifiedWarning):
        run = fit(learning(4, 5, "isotropic"), x)
    assert run.history.isfinite().all()
    assert run.posterior(x).mean.isfinite().all()


def test_without_noise_it_is_the_classical_multivariate_t():
    """No slope in mean, covariance and degrees of freedom, by differences of scipy's density."""
    z = MultivariateStudentT(5.0).sample(800, 3).double()
    x = z @ torch.tensor([[2.0, 0.3, 0.0], [0.0, 1.0, 0.5], [0.4, 0.0, 1.5]], dtype=torch.float64) + 4.0
    run = fit(learning(3, 3, "none"), x, pa.EM())
    assert run.converged
    assert (run.history.diff() > -1e-12).all()
    df, mean = float(run.model.prior.df), run.model.mean.numpy()
    covariance = (run.model.loadings @ run.model.loadings.mT).numpy()

    def value(change):
        nu = df + change[0]
        lower = np.zeros((3, 3))
        lower[np.tril_indices(3)] = change[4:]
        root = np.linalg.cholesky(covariance) @ (np.eye(3) + lower)
        scale = root @ root.T * (nu - 2) / nu
        return scipy.stats.multivariate_t(mean + change[1:4], scale, df=nu).logpdf(x.numpy()).mean()

    slope = scipy.optimize.approx_fprime(np.zeros(10), value, 1e-6)
    assert np.abs(slope).max() < 2e-5  # 1e-6 of difference and the tolerance of 1e-10 nats: sqrt of it
    assert value(np.zeros(10)) == pytest.approx(run.history[-1].item(), abs=1e-9)


def test_collinear_rows_without_noise_are_refused():
    x = torch.randn(50, 3, dtype=torch.float64)
    x[:, 2] = x[:, 0] + x[:, 1]
    with pytest.raises(DataError, match="singular"):
        fit(learning(3, 3, "none"), x)


def test_so_many_equal_rows_that_the_law_collapses_are_refused():
    x = torch.randn(100, 3, dtype=torch.float64)
    x[:70] = x[0]
    with pytest.raises(DataError, match="singular"):
        fit(learning(3, 3, "none"), x)


def test_tails_without_a_variance_warn():
    """A Cauchy law has no variance: the degrees of freedom stop at their bound, and the fit says so."""
    x = torch.distributions.Cauchy(0.0, 1.0).sample((400, 2)).double()
    with pytest.warns(BoundaryWarning, match="next to 2"):
        run = fit(learning(2, 2, "none"), x)
    assert float(run.model.prior.df) == pytest.approx(2 + math.exp(FEWEST))


def test_missing_values_and_summaries_are_refused():
    x = planted(rows=60).x
    with pytest.raises(DataError, match="needs the rows"):
        fit(learning(8, 2), SufficientStatistics.from_data(x))
    x[0, 0] = torch.nan
    with pytest.raises(DataError, match="NaN"):
        fit(learning(8, 2), x)
