"""Learning by sampled codes: the maximum of the marginal likelihood, within its statistical error."""

import functools
import warnings

import pytest
import torch

from probae import (
    ConvergenceWarning,
    DataError,
    FactorAnalysis,
    GibbsPosterior,
    MaximumLikelihood,
    NotExactError,
    ParameterError,
    StochasticEM,
    VariationalPosterior,
    fit,
    match_columns,
)
from probae.datasets import linear_factors
from probae.models import ConfirmatoryFactorAnalysis, IndependentComponents, LinearFactorModel, SparseCoding
from probae.priors import Gaussian, Laplace, Logistic, StudentT


def run_of(model, x, seed=1, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return fit(model, x, StochasticEM(**settings), seed=seed)


def model_of(data, prior, noise):
    """The model with the true parameters."""
    features, latents = data.truth["loadings"].shape
    model = LinearFactorModel(features, latents, prior=prior, noise=noise)
    model.loadings = data.truth["loadings"]
    psi = data.truth["noise_variance"]
    model.noise_variance = psi.mean() if noise == "isotropic" else psi
    return model


def standard_errors(model, x):
    """Of the log noise variances, the log lengths and the directions of the columns, from the scores at the truth.

    Fisher's identity gives the score of a row as the posterior mean of that of (x, z); the information is the mean of
    the outer products of the scores, and the inverse takes every other parameter as unknown too.
    """
    W, psi, mean = model._gaussian_parameters()
    draws = GibbsPosterior(model, draws=60, warmup=40, chains=4)(x).draws.flatten(0, 1)
    residual = (x - mean - draws @ W.T) / psi
    loadings = torch.einsum("snd,snk->ndk", residual, draws).flatten(1) / len(draws)
    log_noise = 0.5 * ((residual.square() * psi).mean(0) - 1)
    if model.noise == "isotropic":
        log_noise = log_noise.sum(1, keepdim=True)
    scores = torch.cat([loadings, log_noise, residual.mean(0)], 1)
    covariance = torch.linalg.inv(scores.T @ scores)
    features, latents = W.shape
    gradient = torch.zeros(latents, len(covariance), dtype=torch.float64)
    for k in range(latents):
        gradient[k, k : features * latents : latents] = W[:, k] / W[:, k].square().sum()
    lengths = (gradient @ covariance @ gradient.T).diagonal().sqrt()
    count = 1 if model.noise == "isotropic" else features
    noise = covariance.diagonal()[features * latents :][:count].sqrt()
    spread = covariance.diagonal()[: features * latents].view(features, latents).sum(0) / W.square().sum(0)
    return noise, lengths, (spread - lengths.square()).clamp_min(0).sqrt()  # what is not along is across


def evidence(model, x, draws=2000, width=1.2, freedom=8):
    """log p(x) per row by importance sampling around the tangent posterior, with a t law that is wider."""
    q = VariationalPosterior(model, steps=60)(x)
    latents, log_weights = model.latents, []
    for _ in range(draws // 100):
        z = q.sample((100,))
        chi = torch.distributions.Chi2(float(freedom)).sample(z.shape[:2]).double()
        step = width * (z - q.mean) * (freedom / chi).sqrt().unsqueeze(-1)
        # log q of the Gaussian gives the quadratic form, and its value at the mean the determinant
        top = q.log_prob(q.mean)
        form = 2 * (top - q.log_prob(q.mean + step)) / width**2
        constant = torch.lgamma(torch.tensor(0.5 * (freedom + latents))) - torch.lgamma(
            torch.tensor(0.5 * freedom)
        )
        constant = constant - 0.5 * latents * torch.log(torch.tensor(freedom / 2.0))
        density = top + constant - latents * torch.log(torch.tensor(width))
        density = density - 0.5 * (freedom + latents) * torch.log1p(form / freedom)
        log_weights.append(model.log_joint(x, q.mean + step).detach() - density)
    weights = torch.cat(log_weights)
    return weights.logsumexp(0) - torch.log(torch.tensor(float(draws))), 1 / weights.softmax(0).square().sum(
        0
    )


def test_the_evidence_of_this_file_is_right():
    """One Laplace factor has an exact one."""
    model = LinearFactorModel(4, 1, prior=Laplace())
    x = model.sample(100, seed=0)
    value, size = evidence(model, x)
    assert ((value - model.log_likelihood(x)).abs() < 5 / size.sqrt()).all()
    assert size.min() > 200


@pytest.mark.parametrize("noise", ["isotropic", "diagonal"])
def test_a_gaussian_prior_gives_maximum_likelihood(noise):
    """The sampled answer wanders around the exact one, by about its statistical error over sqrt(60 averaged passes)."""
    x = linear_factors(500, 5, 2, prior=Gaussian(), noise=0.5, seed=3).x
    run = run_of(LinearFactorModel(5, 2, noise=noise), x, steps=120)
    best = fit(LinearFactorModel(5, 2, noise=noise), x, MaximumLikelihood())
    shortfall = best.log_likelihood(x).mean() - run.model.log_likelihood(x).mean()
    assert -1e-9 < shortfall.item() < 0.01


@pytest.mark.parametrize("noise", ["isotropic", "diagonal"])
def test_fewer_factors_than_features_within_the_statistical_error(noise):
    """Noisy ICA: noise variances, lengths and directions of columns within 4 standard errors of the truth."""
    psi = 0.4 if noise == "isotropic" else [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.4, 0.3]
    data = linear_factors(2000, 8, 3, noise=psi, seed=5)
    run = run_of(LinearFactorModel(8, 3, prior=Laplace(), noise=noise), data.x, steps=200)
    truth = model_of(data, Laplace(), noise)
    noise_error, length_error, angle_error = standard_errors(truth, data.x)
    match = match_columns(data.truth["loadings"], run.model.loadings)
    assert (match.cosines.clamp_max(1).acos() < 4 * angle_error).all()
    assert (angle_error < 0.1).all()
    ratio = run.model.noise_variance / truth.noise_variance.detach()
    assert (ratio.log().abs() < 4 * noise_error).all()
    lengths = match.matched.norm(dim=0) / data.truth["loadings"].norm(dim=0)
    assert (lengths.log().abs() < 4 * length_error).all()
    assert (noise_error < 0.2).all()  # the rows say enough of each for the test to mean something


def test_the_likelihood_is_at_least_that_of_the_truth():
    """On the rows it was fitted to, a maximum cannot be below the truth; evidence to a few thousandths of a nat."""
    data = linear_factors(1500, 5, 3, noise=0.4, seed=6)
    run = run_of(SparseCoding(5, 3), data.x, steps=100)
    x = data.x[:500]
    difference = evidence(run.model, x)[0] - evidence(model_of(data, Laplace(), "isotropic"), x)[0]
    # of 500 of the rows: the gain is 19 / 3000 in the mean, with the scatter of the rows
    assert difference.mean() > -4 * difference.std() / 500**0.5
    assert run.converged


@functools.cache
def planted(features, latents, samples):
    """Unit atoms with t3 codes: the rows learned from, 500 others, the true model and what was learned."""
    atoms = torch.randn(features, latents, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    data = linear_factors(
        samples + 500,
        features,
        latents,
        prior=StudentT(3),
        noise=0.05,
        loadings=atoms / atoms.norm(dim=0),
        seed=5,
    )
    x, held_out = data.x[:samples], data.x[samples:]
    run = run_of(SparseCoding(features, latents, prior=StudentT(3)), x, steps=300)
    return x, held_out, model_of(data, StudentT(3), "isotropic"), run


@pytest.mark.slow
@pytest.mark.parametrize("case", [(8, 12, 6000), (16, 32, 8000)])
def test_a_planted_overcomplete_dictionary(case):
    """The atoms are matched, new rows are as probable as under the truth, and those learned from not less so.

    The last is what a maximum of the likelihood must do, whatever its noise variance: for 32 codes of 16 features that
    is .069 after 300 steps and .014 after 900, for .05, and the evidence of 3,000 rows is .013 (standard error .008)
    and .028 (.007) nats a row above that of the truth.
    """
    features, latents, samples = case
    x, held_out, truth, run = planted(*case)
    match = match_columns(truth.loadings, run.model.loadings)
    assert (match.cosines > 0.95).double().mean() >= 0.9
    difference = evidence(run.model, held_out)[0] - evidence(truth, held_out)[0]
    # fitted parameters lose features (latents + 1) / (2 samples) nats on new rows on average
    lost = features * (latents + 1) / (2 * samples)
    assert difference.mean() > -lost - 4 * difference.std() / 500**0.5
    gain = torch.cat(
        [evidence(run.model, rows)[0] - evidence(truth, rows)[0] for rows in x[:3000].split(500)]
    )
    assert gain.mean() > -3 * gain.std() / len(gain) ** 0.5


@pytest.mark.slow
def test_noise_and_lengths_of_a_planted_overcomplete_dictionary():
    """Within their standard errors for 12 codes of 8 features.

    Not for 32 codes of 16 features: the standard errors of this file are of the truth, and the most likely noise of
    8,000 such rows is far from it (see the test above).
    """
    x, _, truth, run = planted(8, 12, 6000)
    match = match_columns(truth.loadings, run.model.loadings)
    noise_error, length_error, _ = standard_errors(truth, x[:3000])
    noise_error, length_error = ((3000 / len(x)) ** 0.5 * error for error in (noise_error, length_error))
    assert (run.model.noise_variance / 0.05).log().abs() < 4 * noise_error
    found = match.cosines > 0.95
    assert (match.matched.norm(dim=0)[found].log().abs() < 4.5 * length_error[found]).all()


def test_it_ends_where_maximum_likelihood_does():
    """Fewer factors than features have another route, importance sampling and quasi-Newton steps; .002 nats per row."""
    x = linear_factors(1000, 6, 2, noise=0.4, seed=5).x
    sampled = run_of(LinearFactorModel(6, 2, prior=Laplace()), x, steps=120)
    best = fit(LinearFactorModel(6, 2, prior=Laplace()), x, MaximumLikelihood())
    difference = evidence(best.model, x, 500)[0] - evidence(sampled.model, x, 500)[0]
    assert abs(difference.mean().item()) < 0.002
    assert torch.allclose(sampled.model.noise_variance, best.model.noise_variance, rtol=0.1)


def test_the_degrees_of_freedom_are_learned():
    """Two t4 factors in 3,000 rows, started at nu = 12; the range tells it from there and from the bound of 2."""
    data = linear_factors(3000, 5, 2, prior=StudentT(4), noise=0.1, seed=2)
    model = LinearFactorModel(5, 2, prior=StudentT(12, learn=True), noise="isotropic")
    run = run_of(model, data.x, steps=80)
    assert 3 < run.model.prior.df.item() < 5.5
    assert model.prior.df.item() == pytest.approx(12)


def test_batches_of_rows_end_where_all_rows_do():
    data = linear_factors(1200, 5, 3, noise=0.4, seed=6)
    one, many = (run_of(SparseCoding(5, 3), data.x, steps=100, batch=size) for size in (1200, 300))
    ratio = one.model.noise_variance / many.model.noise_variance
    assert ratio.item() == pytest.approx(1.0, abs=0.1)
    assert match_columns(one.model.loadings, many.model.loadings).cosines.min() > 0.99


def test_refusals():
    x = torch.randn(50, 4)
    with pytest.raises(NotExactError, match="Gaussian scale mixture"):
        fit(SparseCoding(4, 6, prior=Logistic()), x, StochasticEM())
    with pytest.raises(ParameterError, match="model with noise"):
        fit(IndependentComponents(4, 4), x, StochasticEM())
    with pytest.raises(NotExactError, match="zeros"):
        fit(ConfirmatoryFactorAnalysis([[1], [1], [1], [0]]), x, StochasticEM())
    with pytest.raises(DataError, match="missing|NaN"):
        fit(FactorAnalysis(4, 2), x.where(x < 1, torch.nan), StochasticEM())
    for settings in ({"steps": 1}, {"draws": 0}, {"batch": 0}, {"tol": 0.0}):
        with pytest.raises(ParameterError, match=next(iter(settings))):
            StochasticEM(**settings)
