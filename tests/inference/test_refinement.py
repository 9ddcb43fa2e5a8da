"""Refined posteriors: up the bound at every step, to the best of the family; no steps leave the encoder's answer."""

from dataclasses import replace

import pytest
import torch

from probae import GaussianPosterior, ParameterError, load, save
from probae.encoders import LinearGaussianEncoder, MLPEncoder
from probae.inference import SVI, RefinedPosterior
from probae.inference.fit import fit
from probae.inference.gaussian_expectation import LinearExpectation, SampledExpectation
from probae.inference.refinement import climb, gaussians_of
from probae.models import FactorAnalysis, LinearFactorModel, SparseCoding
from probae.priors import CorrelatedGaussian, Gaussian, Independent, Laplace, SpikeSlab, StudentT

PRIORS = {
    "gaussian": Gaussian(),
    "laplace": Laplace(),
    "student": StudentT(5),
    "mixed": Independent([Laplace(), Gaussian(), StudentT(5)]),
    "correlated": CorrelatedGaussian([[1.0, 0.5, 0.2], [0.5, 1.0, 0.0], [0.2, 0.0, 1.0]]),
}


@pytest.fixture(params=PRIORS)
def model(request):
    return LinearFactorModel(4, 3, prior=PRIORS[request.param])


def started(x, covariance="full"):
    encoder = MLPEncoder(4, 3, hidden=(5,), covariance=covariance).double()
    encoder.start(x, torch.Generator().manual_seed(1))
    return encoder


def bound(model, q, x):
    """The evidence lower bound of laws, in closed form."""
    return climb(LinearExpectation(model), x, gaussians_of(q), 0)[1]


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_every_step_raises_the_bound_of_every_row(model, covariance):
    x = 3 * model.sample(20, seed=0)  # far out, where whole steps would overshoot
    encoder = started(x, covariance)
    values = [bound(model, RefinedPosterior(encoder, model, T)(x), x) for T in (0, 1, 2, 3, 5, 10, 30, 200)]
    for lower, higher in zip(values, values[1:], strict=False):
        assert (higher >= lower - 1e-9).all()  # rounding of hundreds of nats
    assert (values[-1] > values[0] + 0.1).all()


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_200_steps_end_where_the_gradient_vanishes(model, covariance):
    """At a maximum E grad log p = 0, and the precision of q is the curvature, or its diagonal."""
    x = model.sample(20, seed=0)
    q = gaussians_of(RefinedPosterior(started(x, covariance), model, 200)(x))
    expected = LinearExpectation(model)(x, q.mean, q.root)
    precision = torch.cholesky_inverse(q.root)
    wanted = expected.curvature
    if covariance == "diagonal":
        wanted = torch.diag_embed(wanted.diagonal(dim1=-2, dim2=-1))
    # a step that gains less than 1e-12 nats ends a row: the gradient is then of order 1e-6 in units of the curvature
    assert expected.gradient.abs().max() < 1e-4
    assert (precision - wanted).abs().max() < 1e-3


def test_one_step_reaches_the_posterior_of_a_gaussian_model():
    model = LinearFactorModel(4, 3)
    x = model.sample(9, seed=0)
    q, exact = RefinedPosterior(started(x), model, 1)(x), model.posterior(x)
    assert torch.allclose(q.mean, exact.mean, atol=1e-10)
    assert torch.allclose(q.covariance_matrix, exact.covariance_matrix, atol=1e-10)


def test_200_steps_equal_the_optimum_of_laplace_codes():
    """Overcomplete, within 1e-3 nats: the concave bound has one maximum, found by another ascent."""
    model = SparseCoding(4, 6)
    x = model.sample(25, seed=0)
    encoder = MLPEncoder(4, 6).double()
    encoder.start(x, torch.Generator().manual_seed(1))
    best = GaussianPosterior(model).bound(x)
    assert (best - bound(model, RefinedPosterior(encoder, model, 200)(x), x)).abs().max() < 1e-3


def test_no_steps_leave_the_answer_of_the_encoder(model):
    x = model.sample(5, seed=0)
    encoder = started(x)
    q, plain = RefinedPosterior(encoder, model, 0)(x), encoder(x)
    assert torch.equal(q.mean, plain.mean)
    assert torch.allclose(q.covariance_matrix, plain.covariance_matrix, atol=1e-15)


@pytest.mark.parametrize("prior", ["gaussian", "correlated"])
def test_balanced_draws_are_exact_for_a_quadratic(prior):
    """Value, gradient and curvature by 256 draws against the closed form, to rounding."""
    model = LinearFactorModel(4, 3, prior=PRIORS[prior])
    x = model.sample(6, seed=0)
    q = gaussians_of(started(x)(x))
    q = q._replace(mean=q.mean.detach(), root=q.root.detach())
    for one, other in zip(
        LinearExpectation(model)(x, q.mean, q.root),
        SampledExpectation(model, 256, 0)(x, q.mean, q.root),
        strict=True,
    ):
        assert torch.allclose(one, other, atol=1e-8)


@pytest.mark.parametrize("prior", ["laplace", "student"])
def test_draws_estimate_the_closed_form(prior):
    """Quasi-random averages of 32,768 draws: errors of a smooth or kinked integrand well below 1 / sqrt(draws)."""
    model = LinearFactorModel(4, 3, prior=PRIORS[prior])
    x = model.sample(6, seed=0)
    q = gaussians_of(started(x)(x))
    q = q._replace(mean=q.mean.detach(), root=q.root.detach())
    exact = LinearExpectation(model)(x, q.mean, q.root)
    drawn = SampledExpectation(model, 32_768, 0)(x, q.mean, q.root)
    for one, other in zip(exact, drawn, strict=True):
        assert (one - other).abs().max() < 32_768**-0.5 * (1 + one.abs().max())


def test_a_fit_with_no_steps_comes_back_from_disk(tmp_path):
    x = FactorAnalysis(4, 1).sample(20, seed=0)
    with pytest.warns(match="stopped before it converged"):
        run = fit(FactorAnalysis(4, 1), x, SVI(LinearGaussianEncoder(4, 1), epochs=3))
    run = replace(run, posterior=RefinedPosterior(run.posterior.encoder, run.model, 0))
    assert load(save(run, tmp_path / "run")).posterior.steps == 0


def test_svi_refines_and_the_file_keeps_it(tmp_path):
    x = FactorAnalysis(4, 1).sample(40, seed=0) * 100.0  # in units that the fit takes out
    with pytest.warns(match="stopped before it converged"):
        run = fit(FactorAnalysis(4, 1), x, SVI(LinearGaussianEncoder(4, 1), epochs=3, refine=2))
    exact = run.model.posterior(x)
    assert torch.allclose(run.posterior(x).mean, exact.mean, atol=1e-8)
    save(run, tmp_path / "run")
    again = load(tmp_path / "run")
    assert torch.equal(again.posterior(x).mean, run.posterior(x).mean)
    assert again.posterior.model is again.model


def test_the_dtype_of_x_comes_back():
    model = FactorAnalysis(4, 3)
    x = model.sample(3, seed=0).float()
    q = RefinedPosterior(started(x.double()), model, 2)(x)
    assert q.mean.dtype == torch.float32


def test_what_is_refused():
    model, encoder = FactorAnalysis(4, 3), LinearGaussianEncoder(4, 3)
    with pytest.raises(ParameterError, match="encoder should be an Encoder"):
        RefinedPosterior(model, model)
    with pytest.raises(ParameterError, match="model should be a probae model"):
        RefinedPosterior(encoder, encoder)
    with pytest.raises(ParameterError, match="steps"):
        RefinedPosterior(encoder, model, -1)
    with pytest.raises(ParameterError, match="refine"):
        SVI(encoder, refine=-1)


def test_a_law_that_is_not_gaussian_is_refused():
    class Heavy(LinearGaussianEncoder):
        def forward(self, x):
            centre = (x - self.offset) @ self.weight.mT
            return torch.distributions.Independent(torch.distributions.Laplace(centre, 1.0), 1)

    model = FactorAnalysis(4, 3)
    with pytest.raises(ParameterError, match="needs a Gaussian encoder"):
        RefinedPosterior(Heavy(4, 3).double(), model)(model.sample(2, seed=0))


def test_spike_and_slab_rows_stay_finite():
    """A density of two scales, where curvature changes sign: no row ends below where it started."""
    model = LinearFactorModel(4, 3, prior=SpikeSlab(0.3, 0.3))
    x = 4 * model.sample(20, seed=0)
    encoder = started(x)
    start, end = (bound(model, RefinedPosterior(encoder, model, T)(x), x) for T in (0, 200))
    assert end.isfinite().all()
    assert (end > start).all()
