"""The importance-weighted bound: per row, rising to log p(x), with an honest error."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import RenyiELBO

import probae as pa
from probae.inference.importance import ImportancePosterior
from probae.priors import GeneralizedNormal, Laplace, Logistic, StudentT

MODELS = {"ppca": pa.ProbabilisticPCA, "fa": pa.FactorAnalysis}


@pytest.fixture(params=MODELS)
def gaussian(request):
    """A Gaussian model with six features and two latents, rows, and a proposal that is off by half a deviation."""
    model = MODELS[request.param](6, 2)
    generator = torch.Generator().manual_seed(5)
    model.loadings = torch.randn(6, 2, generator=generator, dtype=torch.float64)
    x = model.sample(40, seed=0)

    def proposal(rows):
        exact = model.posterior(rows)
        covariance = 1.5 * exact.covariance_matrix
        shifted = exact.mean + 0.5 * exact.variance.sqrt()
        return dist.MultivariateNormal(shifted, covariance, validate_args=False)

    return model, x, proposal


def averages(model, x, proposal, draws, repeats):
    """Mean of the bound per row, over rows and repeats, and its standard error over repeats."""
    means = torch.stack(
        [
            pa.log_evidence(model, x, pa.ImportanceWeighted(draws, proposal), seed=seed).value.mean()
            for seed in range(repeats)
        ]
    )
    return float(means.mean()), float(means.std() / repeats**0.5)


def test_bound_rises_to_the_exact_evidence(gaussian):
    model, x, proposal = gaussian
    exact = float(model.log_likelihood(x).mean())
    bounds = {draws: averages(model, x, proposal, draws, 40) for draws in (1, 10, 90)}
    assert bounds[1][0] < bounds[10][0] < bounds[90][0]
    for mean, error in bounds.values():
        assert mean - 3 * error < exact
    fine, error = averages(model, x, proposal, 1000, 3)
    assert abs(fine - exact) < 0.01


def test_one_draw_is_the_elbo(gaussian):
    """E log w = log p(x) - KL(q | p), which two Gaussians have in closed form."""
    model, x, proposal = gaussian
    exact = model.posterior(x)
    posterior = dist.MultivariateNormal(exact.mean, exact.covariance_matrix, validate_args=False)
    elbo = model.log_likelihood(x) - torch.distributions.kl_divergence(proposal(x), posterior)
    mean, error = averages(model, x, proposal, 1, 100)
    assert abs(mean - float(elbo.mean())) < 3.5 * error


def test_a_prior_on_the_loadings_changes_nothing(gaussian):
    """Pyro's bound over several particles averages whole batches once a global site exists; this one averages rows."""
    model, x, proposal = gaussian
    program = model.with_priors(loadings=dist.Normal(0.0, 1.0))
    loadings = model.loadings.detach()

    def guide(x):
        pyro.sample("loadings", dist.Delta(loadings, event_dim=2))
        with pyro.plate("samples", len(x)):
            pyro.sample("z", proposal(x))

    def plain(x):
        with pyro.plate("samples", len(x)):
            pyro.sample("z", proposal(x))

    pyro.set_rng_seed(0)
    renyi = RenyiELBO(alpha=0, num_particles=10, max_plate_nesting=1, vectorize_particles=False)
    with pyro.settings.context(module_local_params=True):
        rows = torch.tensor([-renyi.loss(model, plain, x) / len(x) for _ in range(20)])
        log_prior = float(dist.Normal(0.0, 1.0).log_prob(loadings).sum())
        batch = torch.tensor([(-renyi.loss(program, guide, x) - log_prior) / len(x) for _ in range(20)])
    mean, error = averages(model, x, proposal, 10, 40)
    combined = math.hypot(error, float(rows.std()) / 20**0.5)
    assert abs(mean - float(rows.mean())) < 3.5 * combined  # without a global site Pyro's is per row as well
    # ten particles for 40 rows at once gain little over one: about the bound of one draw
    assert float(batch.mean()) < mean - 10 * combined
    point = pa.fit(model, x, pa.MaximumLikelihood())
    assert pa.log_evidence(point, x, pa.ImportanceWeighted(10, point.posterior)).value.shape == (40,)


def test_exact_posterior_as_proposal_has_equal_weights(gaussian):
    model, x, _ = gaussian
    result = pa.log_evidence(model, x, pa.ImportanceWeighted(100, model.posterior))
    assert torch.allclose(result.value, model.log_likelihood(x), atol=1e-10)
    assert result.standard_error.max() < 1e-10
    assert not result.doubtful.any()


def test_orthonormal_dictionary_with_many_draws(orthonormal):
    """1e5 draws of eight codes: the sum over rows within three standard errors of the one-dimensional evidences."""
    model = orthonormal(8)
    x = model.sample(6, seed=1)
    exact = pa.log_evidence(model, x)
    result = pa.log_evidence(model, x, pa.ImportanceWeighted(draws=100_000))
    assert abs(result.total - exact.total) < 3 * result.total_standard_error
    # six rows: the largest of six standard normals is beyond 3.5 once in 400
    assert ((result.value - exact.value).abs() < 3.5 * result.standard_error).all()
    assert result.standard_error.max() < 0.02
    assert not result.doubtful.any()


@pytest.mark.parametrize("prior", [Laplace(), StudentT(3), Logistic(), GeneralizedNormal(4.0)], ids=repr)
@pytest.mark.parametrize("features", [1, 3])
def test_more_or_fewer_latents_against_quadrature(build, prior, features):
    model = build(features, 2, prior)
    x = model.sample(10, seed=2)
    exact = pa.log_evidence(model, x, pa.Quadrature(points=8))
    result = pa.log_evidence(model, x, pa.ImportanceWeighted(draws=4000))
    fine = ~result.doubtful
    assert fine.sum() >= 5
    # ten rows within 4 standard errors: 1 in 1,600 for normal errors
    assert ((result.value - exact.value).abs()[fine] < 4 * result.standard_error[fine] + 1e-6).all()


def test_doubtful_rows_are_marked():
    """A proposal far too narrow: k-hat says so, though the standard error does not."""
    model = pa.ProbabilisticPCA(3, 2)
    x = model.sample(5, seed=0)

    def narrow(rows):
        exact = model.posterior(rows)
        return dist.MultivariateNormal(exact.mean, 0.2 * exact.covariance_matrix, validate_args=False)

    # weights exp(|u|^2 (1 - .2)/2) with |u|^2 ~ chi-square: a tail of shape .8, estimated within .1 from 1e4 draws
    result = pa.log_evidence(model, x, pa.ImportanceWeighted(10_000, narrow))
    assert result.k_hat.mean() > 0.7
    assert result.doubtful.any()


def test_agrees_with_the_posterior_of_a_fit(build):
    model = build(5, 2)
    x = model.sample(8, seed=0)
    ours = pa.log_evidence(model, x, pa.ImportanceWeighted(draws=4000))
    theirs = ImportancePosterior(model, count=4000, seed=1).log_likelihood(x)
    assert ((ours.value - theirs).abs() < 5 * 2**0.5 * ours.standard_error + 1e-6).all()
