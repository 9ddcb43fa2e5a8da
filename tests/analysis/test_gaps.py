"""gaps: the parts of the distance to log p(x), where each is a formula, and what has none."""

import math

import pandas as pd
import pytest
import torch
from torch.distributions import kl_divergence

import probae as pa
from probae.analysis.encoder_bound import bounds_of, sampled_bounds
from probae.encoders.laws import GaussianCode
from probae.inference.draws import Draws
from probae.inference.refinement import gaussians_of


@pytest.fixture
def gaussian(build):
    """A linear Gaussian model with correlated posteriors, and rows of it."""
    model = build(5, 3, prior=pa.priors.Gaussian())
    return model, model.sample(12, seed=0)


def started(encoder, x):
    encoder.double().start(x, torch.Generator().manual_seed(1))
    return encoder


@pytest.mark.parametrize("covariance", ["full", "diagonal", "low_rank"])
def test_the_total_is_the_divergence_from_the_exact_posterior(gaussian, encoded, covariance):
    """log p(x) - ELBO = KL(q || p(z | x)), by torch's formula for two Gaussians; 1e-9 is rounding of ~1e2 nats."""
    model, x = gaussian
    run = encoded(model, started(pa.MLPEncoder(5, 3, hidden=(4,), covariance=covariance), x))
    found = pa.gaps(run, x)
    q = run.posterior(x)
    full = torch.distributions.MultivariateNormal(
        q.mean, q.covariance_matrix if covariance != "diagonal" else torch.diag_embed(q.variance)
    )
    assert torch.allclose(found.total.rows, kl_divergence(full, model.posterior(x)), atol=1e-9)
    assert found.total.error.max() == 0


def test_the_parts_add_up_and_none_is_negative(gaussian, encoded):
    model, x = gaussian
    found = pa.gaps(encoded(model, started(pa.MLPEncoder(5, 3, covariance="diagonal"), x)), x)
    assert torch.allclose(found.approximation.rows + found.amortization.rows, found.total.rows, atol=1e-10)
    assert found.approximation.rows.min() > 0
    assert found.amortization.rows.min() > 0


def test_the_best_of_independent_codes_is_hadamards_formula(gaussian, encoded):
    """1/2 [sum log M_kk - log |M|] in every row, M the precision of the posterior."""
    model, x = gaussian
    found = pa.gaps(encoded(model, started(pa.MLPEncoder(5, 3, covariance="diagonal"), x)), x)
    M = torch.eye(3) + model.loadings.mT @ model.loadings / model.noise_variance
    formula = 0.5 * (M.diagonal().log().sum() - torch.logdet(M))
    assert torch.allclose(found.approximation.rows, formula.detach().expand(12), atol=1e-10)


def test_correlated_factors_have_hadamards_gap_too(encoded):
    prior = pa.priors.CorrelatedGaussian([[1.0, 0.6], [0.6, 1.0]])
    model = pa.LinearFactorModel(4, 2, prior=prior)
    x = model.sample(5, seed=0)
    M = torch.linalg.inv(prior.matrix) + model.loadings.mT @ model.loadings / model.noise_variance[0]
    formula = 0.5 * (M.diagonal().log().sum() - torch.logdet(M))
    found = pa.gaps(encoded(model, started(pa.MLPEncoder(4, 2, covariance="diagonal"), x)), x)
    assert torch.allclose(found.approximation.rows, formula.detach().expand(5), atol=1e-10)
    assert "Ledermann bound" in found.notes[0]  # what the fit of its parameters warned of


def test_an_exact_posterior_has_no_gap_and_the_maximum_no_parameter_gap():
    x = pa.datasets.holzinger_swineford().x
    found = pa.gaps(pa.fit(pa.FactorAnalysis(9, 3), x), x)
    for gap in (found.approximation, found.amortization, found.total, found.parameter):
        assert gap.rows.abs().max() < 1e-6  # the maximum is found to 1e-9 of the likelihood, rows to its root


def test_the_parameter_gap_is_a_difference_of_likelihoods(gaussian, encoded):
    model, x = gaussian
    run = encoded(model, started(pa.LinearGaussianEncoder(5, 3), x))
    best = pa.fit(model, x, pa.MaximumLikelihood())
    found = pa.gaps(run, x).parameter
    assert torch.allclose(found.rows, best.log_likelihood(x) - run.log_likelihood(x), atol=1e-9)
    assert found.mean > 0


def test_the_best_gaussian_of_laplace_codes_is_that_of_gaussian_posterior(build, encoded):
    """The bound is concave, so two ascents meet: each stops within 1e-8 nats of a step of Newton's."""
    model = build(4, 3)
    x = model.sample(10, seed=3)
    found = pa.gaps(encoded(model, started(pa.MLPEncoder(4, 3), x)), x, pa.ImportanceWeighted(1000))
    assert torch.allclose(found.optimal, pa.GaussianPosterior(model).bound(x), atol=1e-6)
    assert found.parameter is None
    assert "no closed form" in found.notes[0]
    assert "lower bound" in str(found)


def test_draws_agree_with_the_closed_form(gaussian):
    """E_q [log p(x, z) - log q] of 4,000 draws, within 5 standard errors of log p(x) - KL(q || p)."""
    model, x = gaussian
    law = GaussianCode(
        torch.zeros(12, 3, dtype=torch.float64), torch.eye(3, dtype=torch.float64).expand(12, 3, 3)
    )
    value, error = sampled_bounds(model, x, [law], 4000, 0)
    exact = model.log_likelihood(x) - kl_divergence(law, model.posterior(x))
    assert ((value[0] - exact).abs() < 5 * error[0]).all()


class TestNonlinear:
    """x = sin(w z) + noise with one latent, against integrals over a grid of 4,001 points."""

    GRID = torch.linspace(-8, 8, 4001, dtype=torch.float64)

    @pytest.fixture
    def found(self, curved, encoded):
        model = curved(3, 1)
        x = model.sample(15, seed=0)
        return model, x, pa.gaps(encoded(model, started(pa.MLPEncoder(3, 1, hidden=(4,)), x)), x, draws=4000)

    def joint(self, model, x):
        return model.log_joint(x, self.GRID.view(-1, 1, 1).expand(-1, len(x), 1))

    def test_the_evidence_is_the_integral(self, found):
        model, x, result = found
        exact = (self.joint(model, x) + math.log(16 / 4000)).logsumexp(0)
        # below by half the squared error, besides the error itself
        slack = 5 * result.evidence.standard_error + result.evidence.standard_error.square()
        assert ((result.evidence.value - exact).abs() < slack + 1e-6).all()

    def bound(self, joint, mean, sd):
        """E log p(x, z) + entropy of N(mean, sd^2), one for each row; sums over 5 points an sd are exact to 1e-9."""
        q = (-0.5 * ((self.GRID.unsqueeze(1) - mean) / sd).square()).softmax(0)
        return (q * joint).sum(0) + 0.5 * math.log(2 * math.pi * math.e) + sd.log()

    def test_the_best_law_is_better_than_its_neighbours(self, curved, encoded):
        """Of 15 x 441 laws up to an sd away and half to twice as wide, none is better than the search can tell apart.

        It compares averages over 256 draws that integrate quadratics, log q among them, without error: one average is
        off by sd_q(log p - log q) / 16 at most, 4000^.5 / 16 = 4 errors of the bound of 4,000 draws; 3 of these twice.
        """
        model = curved(3, 1)
        x = model.sample(15, seed=0)
        bounds = bounds_of(encoded(model, started(pa.MLPEncoder(3, 1, hidden=(4,)), x)), x, 4000, 0)
        joint, mean, sd = self.joint(model, x), bounds.best.mean[:, 0], bounds.best.root[:, 0, 0]
        own = self.bound(joint, mean, sd)
        assert ((bounds.optimal - own).abs() < 5 * bounds.optimal_error + 1e-9).all()
        slack = 2 * 3 * (4000 / 256) ** 0.5 * bounds.optimal_error + 1e-5  # and the stop of the search
        for shift in torch.linspace(-1, 1, 21, dtype=torch.float64):
            for factor in torch.logspace(-1, 1, 21, base=2, dtype=torch.float64):
                assert (self.bound(joint, mean + shift * sd, factor * sd) < own + slack).all()
        assert slack.mean() < 0.1

    def test_the_parts(self, found):
        _, _, result = found
        assert (result.amortization.rows > -5 * result.amortization.error).all()
        assert result.approximation.mean > -3 * result.approximation.standard_error
        sums = result.approximation.rows + result.amortization.rows
        assert torch.allclose(sums, result.total.rows, atol=1e-9)


def test_a_diagonal_encoder_of_any_model_has_hadamards_gap(build, hidden, encoded):
    """A linear model that is not known for one: 1/2 [sum log M_kk - log |M|] again, here of draws.

    log p(x) of 1,000 draws is off by .02 a row and the best bound by about as much, .03 / sqrt 40 = .005 of their mean.
    """
    model = build(8, 6, prior=pa.priors.Gaussian())
    x = model.sample(40, seed=0)
    found = pa.gaps(encoded(hidden(model), started(pa.MLPEncoder(8, 6, covariance="diagonal"), x)), x)
    M = torch.eye(6) + model.loadings.mT @ model.loadings / model.noise_variance
    formula = float((0.5 * (M.diagonal().log().sum() - torch.logdet(M))).detach())
    assert formula > 1  # the family does not hold the posterior
    assert found.approximation.mean == pytest.approx(formula, abs=0.05)
    assert not found.evidence.doubtful.any()
    assert not any("not to be trusted" in note for note in found.notes)


def test_an_encoder_of_laplace_laws_leaves_log_p_alone(build, hidden, encoded):
    """log p(x) does not depend on the encoder: that of a far and narrow one, too, is within 5 standard errors."""
    model = build(5, 3, prior=pa.priors.Gaussian())
    x = model.sample(20, seed=0)
    far = model.posterior(x).mean + 1
    law = torch.distributions.Independent(torch.distributions.Laplace(far, 0.05), 1)
    found = pa.gaps(encoded(hidden(model), pa.LinearGaussianEncoder(5, 3), lambda rows: law), x)
    error = found.evidence.value - model.log_likelihood(x)
    assert (error.abs() < 5 * found.evidence.standard_error).all()
    assert not found.evidence.doubtful.any()


def test_an_estimate_that_failed_is_said(build, hidden, encoded):
    """Draws of a law ten times too narrow are weighed by exp(99 e^2 / 2): k-hat is near 1."""
    model = build(3, 2, prior=pa.priors.Gaussian())
    x = model.sample(10, seed=0)

    def narrow(rows):
        q = model.posterior(rows)
        return torch.distributions.MultivariateNormal(q.mean, q.covariance_matrix / 100)

    run = encoded(hidden(model), started(pa.MLPEncoder(3, 2), x))
    found = pa.gaps(run, x, pa.ImportanceWeighted(1000, narrow))
    bad = int(found.evidence.doubtful.sum())
    assert bad > 5
    assert f"log p(x) of {bad} of 10 rows is not to be trusted" in str(found)


@pytest.mark.filterwarnings("ignore::probae.ConvergenceWarning")  # two steps of MAP
def test_a_point_mass_is_refused_with_the_reason(build):
    x = build(2, 3).sample(30, seed=0)
    run = pa.fit(pa.SparseCoding(2, 3), x, pa.MAP(steps=2))
    with pytest.raises(pa.ParameterError, match="point mass: its density is infinite"):
        pa.gaps(run, x)


@pytest.mark.parametrize("ask", [pa.gaps, pa.pareto_k, pa.collapse])
def test_a_model_without_noise_is_not_sent_to_a_method_that_refuses_it(ask):
    x = pa.IndependentComponents(2, 2).sample(200, seed=0)
    run = pa.fit(pa.IndependentComponents(2, 2), x)
    with pytest.raises(pa.ParameterError, match='noise="none".*Use a model with noise') as caught:
        ask(run, x)
    assert "SVI" not in str(caught.value)


def test_draws_without_a_density_are_refused(gaussian, encoded):
    model, x = gaussian
    draws = lambda rows: Draws(torch.zeros(1, 4, len(rows), 3))  # noqa: E731
    with pytest.raises(pa.ParameterError, match="without a density"):
        pa.gaps(encoded(model, pa.LinearGaussianEncoder(5, 3), draws), x)


def test_what_is_not_a_fit_and_what_is_missing(gaussian, encoded):
    model, x = gaussian
    with pytest.raises(pa.ParameterError, match="needs the result of fit"):
        pa.gaps(model, x)
    with pytest.raises(pa.ParameterError, match="estimator should be one such as"):
        pa.gaps(encoded(model, pa.LinearGaussianEncoder(5, 3)), x, "ais")
    x[0, 0] = float("nan")
    with pytest.raises(pa.DataError, match="NaN"):
        pa.gaps(encoded(model, pa.LinearGaussianEncoder(5, 3)), x)


def test_a_bound_of_minus_infinity_is_refused(encoded):
    """A Gaussian q has mass outside a uniform prior."""
    model = pa.LinearFactorModel(3, 2, prior=pa.priors.Uniform())
    x = model.sample(4, seed=0)
    with pytest.raises(pa.DataError, match="4 of 4 rows have none"):
        pa.gaps(encoded(model, pa.LinearGaussianEncoder(3, 2)), x)


def test_tables_dtypes_and_seeds(curved, encoded):
    model = curved(3, 2)
    x = model.sample(6, seed=0)
    run = encoded(model, started(pa.MLPEncoder(3, 2, hidden=(4,)), x))
    state = torch.get_rng_state()
    once, again = pa.gaps(run, x, draws=50, seed=4), pa.gaps(run, pd.DataFrame(x.numpy()), draws=50, seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(once.total.rows, again.total.rows)
    assert not torch.equal(once.total.rows, pa.gaps(run, x, draws=50, seed=5).total.rows)
    assert pa.gaps(run, x.float(), draws=50).total.rows.shape == (6,)


def test_a_transformed_normal_is_not_taken_for_one():
    """tanh of independent normals has a base that is normal, and is not."""
    base = torch.distributions.Normal(torch.zeros(12, 3).double(), 1.0)
    shift = torch.distributions.transforms.TanhTransform()
    law = torch.distributions.TransformedDistribution(base, [shift])
    assert gaussians_of(law) is None
    assert gaussians_of(torch.distributions.Independent(law, 1)) is None


def test_a_family_without_a_search_has_a_total_only(gaussian, encoded):
    model, x = gaussian
    law = torch.distributions.Independent(torch.distributions.Laplace(torch.zeros(12, 3).double(), 1.0), 1)
    found = pa.gaps(encoded(model, pa.LinearGaussianEncoder(5, 3), lambda rows: law), x)
    assert found.approximation is None
    assert found.amortization is None
    assert found.total.mean > 0
    assert "not available" in str(found)
