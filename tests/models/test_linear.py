"""Identities of the linear factor model, over the registry and over random parameters."""

import math
import pickle

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from probae import NotExactError, ParameterError, SufficientStatistics
from probae.linalg import haar_rotation
from probae.models import (
    FactorAnalysis,
    LinearFactorModel,
    ProbabilisticPCA,
    SparseCoding,
)
from probae.priors import (
    Gaussian,
    Logistic,
    MultivariateStudentT,
    StudentT,
)

cases = st.tuples(st.integers(2, 60), st.integers(1, 10), st.integers(0, 2**31 - 1))


def gaussian_case(features, latents, seed, noise=1.0):
    """A FactorAnalysis with random parameters, its dense covariance, and rows from about its own law."""
    generator = torch.Generator().manual_seed(seed)
    model = FactorAnalysis(features, latents)
    model.loadings = torch.randn(features, latents, generator=generator, dtype=torch.float64)
    model.mean = torch.randn(features, generator=generator, dtype=torch.float64)
    model.noise_variance = noise * (0.5 + torch.rand(features, generator=generator, dtype=torch.float64))
    z = torch.randn(5, latents, generator=generator, dtype=torch.float64)
    e = torch.randn(5, features, generator=generator, dtype=torch.float64)
    loadings, psi, mean = (p.detach() for p in (model.loadings, model.noise_variance, model.mean))
    return model, loadings @ loadings.T + psi.diag(), mean + z @ loadings.T + e * psi.sqrt()


def test_bayes_rule(gaussian_model, assert_close):
    model = gaussian_model
    x = model.sample(7, seed=5)
    z = torch.randn(7, model.latents, dtype=torch.float64)
    left = model.log_joint(x, z) - model.log_likelihood(x)
    assert_close(left, model.posterior(x).log_prob(z), 1e-10)


def test_bayes_rule_with_missing_entries(gaussian_model, assert_close):
    model = gaussian_model
    x = model.sample(7, seed=5)
    x[::2, 0] = x[1, 1] = torch.nan
    z = torch.randn(7, model.latents, dtype=torch.float64)
    assert_close(model.log_joint(x, z) - model.log_likelihood(x), model.posterior(x).log_prob(z), 1e-10)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(cases)
def test_bayes_rule_over_random_sizes(case):
    model, _, x = gaussian_case(*case)
    z = torch.randn(5, model.latents, dtype=torch.float64)
    joint = model.log_joint(x, z)
    error = joint - model.log_likelihood(x) - model.posterior(x).log_prob(z)
    assert error.abs().max() <= 1e-10 * joint.abs().max()


def test_factor_analysis_and_ppca_are_the_linear_factor_model_with_a_gaussian_prior(randomize, assert_close):
    for named, noise in ((FactorAnalysis(6, 2), "diagonal"), (ProbabilisticPCA(6, 2), "isotropic")):
        general = randomize(LinearFactorModel(6, 2, prior=Gaussian(), noise=noise), seed=1)
        randomize(named, seed=1)
        x = named.sample(7, seed=5)
        assert_close(general.log_likelihood(x), named.log_likelihood(x), 1e-10)
        assert_close(general.posterior(x).mean, named.posterior(x).mean, 1e-10)
        assert_close(general.posterior(x).covariance_matrix, named.posterior(x).covariance_matrix, 1e-10)


def test_ppca_is_factor_analysis_with_equal_uniquenesses(randomize, assert_close):
    ppca, fa = randomize(ProbabilisticPCA(6, 2)), FactorAnalysis(6, 2)
    fa.loadings, fa.mean = ppca.loadings.detach(), ppca.mean.detach()
    fa.uniquenesses = ppca.noise_variance.detach().expand(6).clone()
    x = ppca.sample(7, seed=5)
    assert_close(fa.log_likelihood(x), ppca.log_likelihood(x), 1e-12)
    z = torch.randn(7, 2, dtype=torch.float64)
    assert_close(fa.log_joint(x, z), ppca.log_joint(x, z), 1e-12)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(cases)
def test_log_likelihood_against_the_dense_normal(assert_close, case):
    model, covariance, x = gaussian_case(*case)
    dense = stats.multivariate_normal(model.mean.detach().numpy(), covariance.numpy()).logpdf(x.numpy())
    assert_close(model.log_likelihood(x), torch.from_numpy(np.atleast_1d(dense)), 1e-9)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(cases, st.floats(-6, 3))
def test_posterior_against_least_squares_by_svd(assert_close, case, exponent):
    """E[z given x] minimises |Psi^-1/2 (x - W z)|^2 + |z|^2; its covariance is (A'A)^-1 for the stacked A."""
    model, _, x = gaussian_case(*case, noise=10.0**exponent)
    scale = model.uniquenesses.detach().sqrt().numpy()
    stacked = np.vstack([model.loadings.detach().numpy() / scale[:, None], np.eye(model.latents)])
    inverse = np.linalg.pinv(stacked, rcond=1e-15)
    whitened = (x - model.mean.detach()).numpy() / scale
    target = np.hstack([whitened, np.zeros((len(x), model.latents))])
    posterior = model.posterior(x)
    assert_close(posterior.mean, torch.from_numpy(target @ inverse.T), 1e-10)
    for covariance in posterior.covariance_matrix[[0, -1]]:
        assert_close(covariance, torch.from_numpy(inverse @ inverse.T), 1e-10)


def exact_log_density(x, loadings, noise, mean):
    """log N(x; mean, W W' + Psi) in 80-digit arithmetic."""
    with mpmath.workdps(80):
        W = mpmath.matrix(loadings.tolist())
        covariance = W * W.T + mpmath.diag([mpmath.mpf(p) for p in noise.tolist()])
        centred = mpmath.matrix(
            [mpmath.mpf(a) - mpmath.mpf(b) for a, b in zip(x.tolist(), mean.tolist(), strict=True)]
        )
        quadratic = (centred.T * mpmath.lu_solve(covariance, centred))[0]
        return float(
            -(quadratic + mpmath.log(mpmath.det(covariance)) + len(x) * mpmath.log(2 * mpmath.pi)) / 2
        )


@pytest.mark.parametrize(
    ("noise", "relative"), [(1.0, 1e-12), (1e-4, 1e-10), (1e-6, 1e-10), (1e-8, 1e-6), (1e-10, 1e-6)]
)
def test_log_likelihood_at_a_high_ratio_of_signal_to_noise(noise, relative, assert_close):
    model, _, x = gaussian_case(12, 3, seed=3, noise=noise)
    loadings, psi, mean = (p.detach() for p in (model.loadings, model.uniquenesses, model.mean))
    exact = [exact_log_density(row, loadings, psi, mean) for row in x[:2]]
    assert_close(model.log_likelihood(x[:2]), torch.tensor(exact, dtype=torch.float64), relative)
    total = model.collapsed(SufficientStatistics.from_data(x[:2]))
    assert total.item() == pytest.approx(sum(exact), rel=relative)
    assert_close(model.marginal().log_prob(x[:2]), torch.tensor(exact, dtype=torch.float64), relative)


def test_closed_forms_of_a_float32_model_run_in_float64(assert_close):
    """float32 arithmetic loses all digits here: the ratio of signal to noise is 1e8."""
    model, _, x = gaussian_case(12, 3, seed=3, noise=1e-8)
    model.to(torch.float32)
    loadings, psi, mean = (p.detach().double() for p in (model.loadings, model.uniquenesses, model.mean))
    expected = torch.tensor(
        [exact_log_density(row, loadings, psi, mean) for row in x[:2]], dtype=torch.float64
    )
    assert_close(model.log_likelihood(x[:2]), expected, 1e-6)
    marginal = model.marginal()
    assert_close(marginal.log_prob(x[:2].to(marginal.mean.dtype)).double(), expected, 1e-6)


def test_a_float32_model_takes_float64_rows(model, assert_close):
    """A model trained in float32 answers as its float64 copy would, to the rounding of its parameters."""
    model.to(torch.float32)
    x = model.sample(5, seed=0).double()
    copy_in_float64 = pickle.loads(pickle.dumps(model)).to(torch.float64)
    try:
        expected = copy_in_float64.log_likelihood(x)
    except (NotExactError, ParameterError):
        return
    assert_close(model.log_likelihood(x), expected, 1e-5)
    if model.gaussian or model.noise == "none":
        assert_close(model.posterior(x).mean, copy_in_float64.posterior(x).mean, 1e-4)


def test_collapsed_is_the_sum_of_the_rows(gaussian_model):
    x = gaussian_model.sample(20, seed=5)
    total = gaussian_model.collapsed(SufficientStatistics.from_data(x))
    assert total.item() == pytest.approx(gaussian_model.log_likelihood(x).sum().item(), rel=1e-12)


def test_marginal_is_the_law_of_log_likelihood(gaussian_model, assert_close):
    x = gaussian_model.sample(7, seed=5)
    marginal = gaussian_model.marginal()
    assert_close(marginal.log_prob(x), gaussian_model.log_likelihood(x), 1e-10)
    loadings, phi = gaussian_model.loadings.detach(), gaussian_model.factor_correlation
    noise = gaussian_model.noise_variance.detach().expand(gaussian_model.features)
    assert_close(marginal.covariance_matrix, loadings @ phi @ loadings.T + noise.diag(), 1e-12)
    assert marginal.sample((4,)).shape == (4, gaussian_model.features)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(cases)
def test_gaussian_likelihood_is_blind_to_rotation(case):
    model, _, x = gaussian_case(*case)
    before = model.log_likelihood(x)
    model.loadings = model.loadings.detach() @ haar_rotation(model.latents)
    assert (model.log_likelihood(x) / before - 1).abs().max() < 1e-9


@pytest.mark.parametrize("prior", [Gaussian(), MultivariateStudentT(5)], ids=repr)
def test_a_spherical_law_is_blind_to_rotation_jointly(prior):
    model = LinearFactorModel(5, 3, prior=prior)
    x = model.sample(50, seed=0)
    z = torch.randn(50, 3, dtype=torch.float64)
    before = model.log_joint(x, z)
    rotation = haar_rotation(3)
    model.loadings = model.loadings.detach() @ rotation
    assert (model.log_joint(x, z @ rotation) / before - 1).abs().max() < 1e-12


def test_laplace_likelihood_is_not_blind_to_rotation():
    """A square orthogonal dictionary keeps the marginal a product in every frame, so both sides are exact.

    The gain per row of the true frame is a Kullback-Leibler divergence, so positive; on n rows its standard
    error is sd / sqrt(n).
    """
    model = SparseCoding(2, 2)
    model.loadings, model.noise_variance = torch.eye(2, dtype=torch.float64) * 2, torch.tensor(0.1)
    x = model.sample(4000, seed=0)
    true = model.log_likelihood(x)
    turned = SparseCoding(2, 2)
    half = math.sqrt(0.5)
    turned.loadings = 2 * torch.tensor([[half, -half], [half, half]], dtype=torch.float64)
    turned.noise_variance = torch.tensor(0.1, dtype=torch.float64)
    gain = true - turned.log_likelihood(x)
    assert gain.mean() > 5 * gain.std() / 4000**0.5
    assert gain.abs().max() > 0.1


def test_joint_is_prior_plus_likelihood(noisy_model, assert_close):
    x = noisy_model.sample(7, seed=5)
    z = 0.3 * torch.randn(3, 7, noisy_model.latents, dtype=torch.float64)
    expected = noisy_model.prior.joint_log_prob(z) + noisy_model.likelihood(z).log_prob(x)
    assert_close(noisy_model.log_joint(x, z), expected, 1e-12)


@pytest.mark.parametrize("prior", [Gaussian(), StudentT(5), Logistic(), MultivariateStudentT(5)], ids=repr)
def test_gradients_of_the_joint(prior, randomize):
    """Second derivatives as well: a Laplace approximation needs them."""
    model = randomize(LinearFactorModel(4, 2, prior=prior))
    x = model.sample(3, seed=0).requires_grad_()
    z = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(model.log_joint, (x, z), eps=1e-6, atol=1e-6)
    assert torch.autograd.gradgradcheck(lambda z: model.log_joint(x.detach(), z), (z,), eps=1e-6, atol=1e-5)


def test_every_parameter_gets_the_right_gradient(noisy_model):
    """Against a central difference along a random direction of all unconstrained parameters at once."""
    model = noisy_model
    x = model.sample(7, seed=5)
    z = 0.3 * torch.randn(7, model.latents, dtype=torch.float64)
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(model.log_joint(x, z).sum(), parameters)
    assert all(g.abs().max() > 0 for g in gradients)
    directions = [torch.randn_like(p) for p in parameters]
    slope = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True)).item()
    values, step = [], 1e-6
    for sign in (1, -1):
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p += sign * step * d
            values.append(model.log_joint(x, z).sum().item())
            for p, d in zip(parameters, directions, strict=True):
                p -= sign * step * d
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(slope, rel=1e-5, abs=1e-4)


def test_sufficient_scores_carry_all_of_x_about_z(noisy_model, assert_close):
    """log p(x, z) - log p(z) - log N(y; z, V) does not depend on z, and is the stated remainder."""
    model = noisy_model
    if model.latents > model.features:
        with pytest.raises(ParameterError, match="full column rank"):
            model.sufficient_scores(model.sample(7, seed=5))
        return
    x = model.sample(7, seed=5)
    scores = model.sufficient_scores(x)
    for _ in range(3):
        z = 0.3 * torch.randn(7, model.latents, dtype=torch.float64)
        law = torch.distributions.MultivariateNormal(z, scores.covariance)
        assert_close(model.likelihood(z).log_prob(x), scores.remainder + law.log_prob(scores.values), 1e-9)
