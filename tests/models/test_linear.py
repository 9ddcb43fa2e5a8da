"""Identities of the linear factor model, over the registry and over random parameters."""

import math
import pickle
import warnings

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats

from probae import DataError, MissingRowWarning, NotExactError, ParameterError, SufficientStatistics
from probae.linalg import haar_rotation
from probae.models import FactorAnalysis, IndependentComponents, LinearFactorModel, ProbabilisticPCA, SparseCoding
from probae.priors import (
    Gaussian,
    GeneralizedNormal,
    Independent,
    Laplace,
    Logistic,
    MultivariateStudentT,
    Scaled,
    SpikeSlab,
    StudentT,
    Uniform,
)

cases = st.tuples(st.integers(2, 60), st.integers(1, 10), st.integers(0, 2**31 - 1))


def random_rows(model, count=7, seed=5):
    return model.sample(count, seed=seed)


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


def close(actual, expected, relative):
    """Largest error, relative to the largest value."""
    actual, expected = torch.as_tensor(actual).detach(), torch.as_tensor(expected).detach()
    assert actual.shape == expected.shape
    assert actual.isfinite().all()
    assert (actual - expected).abs().max() <= relative * expected.abs().max()


# -- Bayes' rule ------------------------------------------------------------------------------------------------


def test_bayes_rule(gaussian_model):
    model = gaussian_model
    x = random_rows(model)
    z = torch.randn(7, model.latents, dtype=torch.float64)
    left = model.log_joint(x, z) - model.log_likelihood(x)
    close(left, model.posterior(x).log_prob(z), 1e-10)


def test_bayes_rule_with_missing_entries(gaussian_model):
    model = gaussian_model
    x = random_rows(model)
    x[::2, 0] = x[1, 1] = torch.nan
    z = torch.randn(7, model.latents, dtype=torch.float64)
    close(model.log_joint(x, z) - model.log_likelihood(x), model.posterior(x).log_prob(z), 1e-10)


@settings(max_examples=200, deadline=None)
@given(cases)
def test_bayes_rule_over_random_sizes(case):
    model, _, x = gaussian_case(*case)
    z = torch.randn(5, model.latents, dtype=torch.float64)
    joint = model.log_joint(x, z)
    error = joint - model.log_likelihood(x) - model.posterior(x).log_prob(z)
    assert error.abs().max() <= 1e-10 * joint.abs().max()


def test_factor_analysis_and_ppca_are_the_linear_factor_model_with_a_gaussian_prior(randomize):
    for named, noise in ((FactorAnalysis(6, 2), "diagonal"), (ProbabilisticPCA(6, 2), "isotropic")):
        general = randomize(LinearFactorModel(6, 2, prior=Gaussian(), noise=noise), seed=1)
        randomize(named, seed=1)
        x = random_rows(named)
        close(general.log_likelihood(x), named.log_likelihood(x), 1e-10)
        close(general.posterior(x).mean, named.posterior(x).mean, 1e-10)
        close(general.posterior(x).covariance_matrix, named.posterior(x).covariance_matrix, 1e-10)


def test_ppca_is_factor_analysis_with_equal_uniquenesses(randomize):
    ppca, fa = randomize(ProbabilisticPCA(6, 2)), FactorAnalysis(6, 2)
    fa.loadings, fa.mean = ppca.loadings.detach(), ppca.mean.detach()
    fa.uniquenesses = ppca.noise_variance.detach().expand(6).clone()
    x = random_rows(ppca)
    close(fa.log_likelihood(x), ppca.log_likelihood(x), 1e-12)
    z = torch.randn(7, 2, dtype=torch.float64)
    close(fa.log_joint(x, z), ppca.log_joint(x, z), 1e-12)


# -- Densities against other arithmetic -------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(cases)
def test_log_likelihood_against_the_dense_normal(case):
    model, covariance, x = gaussian_case(*case)
    dense = stats.multivariate_normal(model.mean.detach().numpy(), covariance.numpy()).logpdf(x.numpy())
    close(model.log_likelihood(x), torch.from_numpy(np.atleast_1d(dense)), 1e-9)


@settings(max_examples=500, deadline=None)
@given(cases, st.floats(-6, 3))
def test_posterior_against_least_squares_by_svd(case, exponent):
    """E[z given x] solves min |Psi^-1/2 (x - W z)|^2 + |z|^2; its covariance is (A'A)^-1 for the stacked A."""
    model, _, x = gaussian_case(*case, noise=10.0**exponent)
    scale = model.uniquenesses.detach().sqrt().numpy()
    stacked = np.vstack([model.loadings.detach().numpy() / scale[:, None], np.eye(model.latents)])
    inverse = np.linalg.pinv(stacked, rcond=1e-15)
    whitened = (x - model.mean.detach()).numpy() / scale
    target = np.hstack([whitened, np.zeros((len(x), model.latents))])
    posterior = model.posterior(x)
    close(posterior.mean, torch.from_numpy(target @ inverse.T), 1e-10)
    for covariance in posterior.covariance_matrix[[0, -1]]:
        close(covariance, torch.from_numpy(inverse @ inverse.T), 1e-10)


def exact_log_density(x, loadings, noise, mean):
    """log N(x; mean, W W' + Psi) in 80-digit arithmetic."""
    with mpmath.workdps(80):
        W = mpmath.matrix(loadings.tolist())
        covariance = W * W.T + mpmath.diag([mpmath.mpf(p) for p in noise.tolist()])
        centred = mpmath.matrix([mpmath.mpf(a) - mpmath.mpf(b) for a, b in zip(x.tolist(), mean.tolist(), strict=True)])
        quadratic = (centred.T * mpmath.lu_solve(covariance, centred))[0]
        return float(-(quadratic + mpmath.log(mpmath.det(covariance)) + len(x) * mpmath.log(2 * mpmath.pi)) / 2)


@pytest.mark.parametrize(("noise", "relative"), [(1.0, 1e-12), (1e-4, 1e-10), (1e-6, 1e-10), (1e-8, 1e-6), (1e-10, 1e-6)])
def test_log_likelihood_at_a_high_ratio_of_signal_to_noise(noise, relative):
    model, _, x = gaussian_case(12, 3, seed=3, noise=noise)
    loadings, psi, mean = (p.detach() for p in (model.loadings, model.uniquenesses, model.mean))
    exact = [exact_log_density(row, loadings, psi, mean) for row in x[:2]]
    close(model.log_likelihood(x[:2]), torch.tensor(exact, dtype=torch.float64), relative)
    total = model.collapsed(SufficientStatistics.from_data(x[:2]))
    assert total.item() == pytest.approx(sum(exact), rel=relative)
    close(model.marginal().log_prob(x[:2]), torch.tensor(exact, dtype=torch.float64), relative)


def test_closed_forms_of_a_float32_model_run_in_float64():
    """float32 arithmetic loses all digits here: the ratio of signal to noise is 1e8."""
    model, _, x = gaussian_case(12, 3, seed=3, noise=1e-8)
    model.to(torch.float32)
    loadings, psi, mean = (p.detach().double() for p in (model.loadings, model.uniquenesses, model.mean))
    expected = torch.tensor([exact_log_density(row, loadings, psi, mean) for row in x[:2]], dtype=torch.float64)
    close(model.log_likelihood(x[:2]), expected, 1e-6)
    marginal = model.marginal()
    close(marginal.log_prob(x[:2].to(marginal.mean.dtype)).double(), expected, 1e-6)


def test_a_float32_model_takes_float64_rows(model):
    """A model trained in float32 answers as its float64 copy would, to the rounding of its parameters."""
    model.to(torch.float32)
    x = model.sample(5, seed=0).double()
    copy_in_float64 = pickle.loads(pickle.dumps(model)).to(torch.float64)
    try:
        expected = copy_in_float64.log_likelihood(x)
    except (NotExactError, ParameterError):
        return
    close(model.log_likelihood(x), expected, 1e-5)
    if model.gaussian or model.noise == "none":
        close(model.posterior(x).mean, copy_in_float64.posterior(x).mean, 1e-4)


def test_collapsed_is_the_sum_of_the_rows(gaussian_model):
    x = random_rows(gaussian_model, 20)
    total = gaussian_model.collapsed(SufficientStatistics.from_data(x))
    assert total.item() == pytest.approx(gaussian_model.log_likelihood(x).sum().item(), rel=1e-12)


def test_marginal_is_the_law_of_log_likelihood(gaussian_model):
    x = random_rows(gaussian_model)
    marginal = gaussian_model.marginal()
    close(marginal.log_prob(x), gaussian_model.log_likelihood(x), 1e-10)
    loadings = gaussian_model.loadings.detach()
    noise = gaussian_model.noise_variance.detach().expand(gaussian_model.features)
    close(marginal.covariance_matrix, loadings @ loadings.T + noise.diag(), 1e-12)
    assert marginal.sample((4,)).shape == (4, gaussian_model.features)


# -- Rotations --------------------------------------------------------------------------------------------------


@settings(max_examples=500, deadline=None)
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


# -- Laplace and other non-Gaussian laws ------------------------------------------------------------------------


def laplace_evidence(x, b, s):
    """log of the density of Laplace(0, b) + N(0, s^2) at x."""
    left = -x / b + special.log_ndtr(x / s - s / b)
    right = x / b + special.log_ndtr(-x / s - s / b)
    return s**2 / (2 * b**2) - np.log(2 * b) + np.logaddexp(left, right)


def test_orthonormal_dictionary_evidence_is_a_sum_of_closed_forms():
    """x = c U z + e with U (D, K) orthonormal: K Laplace-Gaussian convolutions and D - K pure noises."""
    for features, latents in ((4, 4), (6, 3)):
        U = torch.linalg.qr(torch.randn(features, features, dtype=torch.float64))[0]
        model, c, s = SparseCoding(features, latents), 1.7, 0.6
        model.loadings = c * U[:, :latents]
        model.noise_variance = torch.tensor(s**2, dtype=torch.float64)
        x = 3 * torch.randn(40, features, dtype=torch.float64)
        inside, outside = (x @ U[:, :latents]).numpy(), (x @ U[:, latents:]).numpy()
        expected = laplace_evidence(inside, c / math.sqrt(2), s).sum(1) + stats.norm(scale=s).logpdf(outside).sum(1)
        close(model.log_likelihood(x), torch.from_numpy(expected), 1e-10)


@pytest.mark.parametrize(
    "prior",
    [
        Laplace(),
        StudentT(4),
        Logistic(),
        GeneralizedNormal(0.8),
        GeneralizedNormal(5.0),
        SpikeSlab(),
        Uniform(),
        Scaled(Laplace(), 3.0),
        Independent([StudentT(5)]),
    ],
    ids=repr,
)
def test_one_latent_likelihood_equals_quadrature(prior, randomize):
    """With one latent the score noise is always uncorrelated, so log p(x) = log of the integral of p(x, z)."""
    model = randomize(LinearFactorModel(4, 1, prior=prior), seed=2)
    x = model.sample(3, seed=1)
    exact = model.log_likelihood(x)
    centre = model.sufficient_scores(x).values[:, 0]
    for row, value, middle in zip(x, exact, centre, strict=True):

        def integrand(z, row=row, value=value):
            point = torch.tensor([[z]], dtype=torch.float64)
            return math.exp((model.log_joint(row[None], point) - value).item())

        edges = sorted({0.0, middle.item(), *(s * e for s in (-1, 1) for e in (3**0.5, 0.5, 4.0, 40.0))})
        parts = [integrate.quad(integrand, a, b, epsabs=1e-11, epsrel=1e-11)[0] for a, b in zip(edges, edges[1:], strict=False)]
        assert sum(parts) == pytest.approx(1.0, abs=1e-8)


def test_separable_likelihood_with_diagonal_noise_and_unequal_laws():
    """W' Psi^-1 W diagonal by construction: the density is the product of what each score says."""
    model = LinearFactorModel(5, 2, prior=Independent([Laplace(), GeneralizedNormal(4.0)]))
    psi = torch.tensor([0.2, 0.5, 0.9, 0.3, 0.6], dtype=torch.float64)
    U = torch.linalg.qr(torch.randn(5, 2, dtype=torch.float64))[0]
    lengths = torch.tensor([3.0, 1.5], dtype=torch.float64)
    model.loadings = psi.sqrt()[:, None] * U * lengths
    model.noise_variance = psi
    x = model.sample(3, seed=3)
    grid = torch.linspace(-8, 8, 1601, dtype=torch.float64)  # trapezium error ~ step^2 at the Laplace kink
    z = torch.cartesian_prod(grid, grid)
    for row, value in zip(x, model.log_likelihood(x), strict=True):
        step = (grid[1] - grid[0]).item()
        parts = [model.log_joint(row.expand(len(block), -1), block).logsumexp(0) for block in z.split(400_000)]
        integral = torch.stack(parts).logsumexp(0).item() + 2 * math.log(step)
        assert value.item() == pytest.approx(integral, abs=5 * step**2)


def test_correlated_score_noise_has_no_closed_form(randomize):
    model = randomize(LinearFactorModel(5, 2, prior=Laplace()))
    x = random_rows(model)
    for query in (lambda: model.log_likelihood(x), lambda: model.posterior(x), model.marginal):
        with pytest.raises(NotExactError, match="no closed form"):
            query()
    with pytest.raises(NotExactError, match="no closed form"):
        model.collapsed(SufficientStatistics.from_data(x))


def test_overcomplete_likelihood_names_an_alternative(randomize):
    model = randomize(SparseCoding(4, 7))
    with pytest.raises(NotExactError):
        model.log_likelihood(random_rows(model))


def test_an_empty_column_of_loadings_leaves_pure_noise():
    """A code that reaches no feature changes nothing: x is N(mean, Psi)."""
    model = SparseCoding(4, 1)
    model.loadings = torch.zeros(4, 1, dtype=torch.float64)
    x = torch.randn(5, 4, dtype=torch.float64)
    close(model.log_likelihood(x), torch.from_numpy(stats.norm.logpdf(x.numpy()).sum(1)), 1e-12)


# -- No noise ---------------------------------------------------------------------------------------------------


def test_noiseless_density_is_the_change_of_variables(noiseless_model):
    model = noiseless_model
    x = random_rows(model)
    loadings, mean = model.loadings.detach().numpy(), model.mean.detach().numpy()
    z = np.linalg.solve(loadings, (x.numpy() - mean).T).T
    law = {
        "Gaussian": stats.norm(),
        "Laplace": stats.laplace(scale=1 / math.sqrt(2)),
        "Logistic": stats.logistic(scale=math.sqrt(3) / math.pi),
    }[type(model.prior).__name__]
    expected = law.logpdf(z).sum(1) - np.linalg.slogdet(loadings)[1]
    close(model.log_likelihood(x), torch.from_numpy(expected), 1e-10)
    close(model.marginal().log_prob(x), torch.from_numpy(expected), 1e-10)
    close(model.posterior(x).mean, torch.from_numpy(z), 1e-10)


def test_noiseless_density_integrates_to_one():
    model = IndependentComponents(1, 1)
    model.loadings, model.mean = torch.tensor([[2.5]], dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64)

    def density(x):
        return math.exp(model.log_likelihood(torch.tensor([[x]], dtype=torch.float64)).item())

    assert sum(integrate.quad(density, *ends)[0] for ends in ((-60, 1), (1, 60))) == pytest.approx(1.0, abs=1e-8)


def test_noiseless_queries_that_need_noise_say_so(noiseless_model):
    x = random_rows(noiseless_model)
    z = torch.zeros(7, noiseless_model.latents, dtype=torch.float64)
    with pytest.raises(ParameterError, match='noise="none"'):
        noiseless_model.likelihood(z)
    with pytest.raises(ParameterError, match='noise="none"'):
        noiseless_model.log_joint(x, z)
    with pytest.raises(ParameterError, match='noise="none"'):
        noiseless_model.sufficient_scores(x)


def test_collapsed_without_noise(randomize):
    model = randomize(LinearFactorModel(3, 3, noise="none"))
    x = random_rows(model, 20)
    total = model.collapsed(SufficientStatistics.from_data(x))
    assert total.item() == pytest.approx(model.log_likelihood(x).sum().item(), rel=1e-9)


def test_noiseless_model_needs_as_many_latents_as_features():
    with pytest.raises(ParameterError, match="reduce the data"):
        IndependentComponents(4, 3)


def test_a_prior_of_an_absent_parameter_is_refused():
    import pyro.distributions as dist

    with pytest.raises(ParameterError, match="noise_variance"):
        IndependentComponents(3, 3).with_priors(noise_variance=dist.Gamma(1.0, 1.0))


# -- Missing entries --------------------------------------------------------------------------------------------


def test_missing_entries_give_the_density_of_the_rest():
    generator = torch.Generator().manual_seed(8)
    model, covariance, _ = gaussian_case(7, 3, seed=11)
    x = model.sample(200, seed=2)
    mask = torch.rand(200, 7, generator=generator) < torch.rand(200, 1, generator=generator)
    mask[:3] = True
    x[mask] = torch.nan
    with pytest.warns(MissingRowWarning):
        value = model.log_likelihood(x)
    mean = model.mean.detach().numpy()
    for row, missing, actual in zip(x.numpy(), mask.numpy(), value.tolist(), strict=True):
        seen = ~missing
        expected = 0.0
        if seen.any():
            block = covariance.numpy()[np.ix_(seen, seen)]
            expected = stats.multivariate_normal(mean[seen], block).logpdf(row[seen])
        assert actual == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_missing_entries_give_the_posterior_of_the_rest(gaussian_model):
    model = gaussian_model
    x = random_rows(model, 6)
    x[1, 0] = x[2, 1:] = x[3] = torch.nan
    with pytest.warns(MissingRowWarning, match="row 3"):
        posterior = model.posterior(x)
    loadings = model.loadings.detach().numpy()
    noise = model.noise_variance.detach().expand(model.features).numpy()
    for n, row in enumerate(x.numpy()):
        seen = ~np.isnan(row)
        W = loadings[seen]
        M = np.eye(model.latents) + W.T @ (W / noise[seen, None])
        mean = np.linalg.solve(M, W.T @ ((row - model.mean.detach().numpy())[seen] / noise[seen]))
        np.testing.assert_allclose(posterior.mean[n], mean, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(posterior.covariance_matrix[n], np.linalg.inv(M), rtol=1e-9, atol=1e-12)
    assert torch.equal(posterior.mean[3], torch.zeros(model.latents, dtype=torch.float64))
    close(posterior.covariance_matrix[3], torch.eye(model.latents, dtype=torch.float64), 1e-14)


def test_joint_leaves_missing_entries_out(noisy_model):
    model = noisy_model
    x = random_rows(model)
    z = 0.3 * torch.randn(7, model.latents, dtype=torch.float64)
    holes = x.clone()
    holes[0, 0] = holes[2, 1] = torch.nan
    like = model.likelihood(z).base_dist.log_prob(x).detach()
    dropped = torch.zeros(7, dtype=torch.float64)
    dropped[0], dropped[2] = like[0, 0], like[2, 1]
    close(model.log_joint(holes, z), model.log_joint(x, z).detach() - dropped, 1e-10)


def test_missing_entries_where_they_cannot_be_integrated_out_are_refused(randomize):
    x = torch.zeros(2, 4, dtype=torch.float64)
    x[1, 2] = torch.nan
    for query in (SparseCoding(4, 1).log_likelihood, randomize(IndependentComponents(4, 4)).log_likelihood):
        with pytest.raises(DataError, match="NaN at row 1, column 2"):
            query(x)
    with pytest.raises(DataError, match="NaN at row 1, column 2"):
        randomize(LinearFactorModel(4, 4, noise="none")).posterior(x)


def test_missing_entries_of_a_gaussian_model_without_noise(randomize):
    """Integrated out, as the documentation of `log_likelihood` says, or refused; never NaN."""
    model = randomize(LinearFactorModel(3, 3, noise="none"))
    x = torch.tensor([[0.5, torch.nan, 1.0]], dtype=torch.float64)
    covariance, mean = (model.loadings @ model.loadings.mT).detach().numpy(), model.mean.detach().numpy()
    try:
        value = model.log_likelihood(x)
    except DataError:
        return
    expected = stats.multivariate_normal(mean[[0, 2]], covariance[np.ix_([0, 2], [0, 2])]).logpdf([0.5, 1.0])
    assert value.item() == pytest.approx(expected, rel=1e-10)


# -- Joint, likelihood, gradients -------------------------------------------------------------------------------


def test_joint_is_prior_plus_likelihood(noisy_model):
    x = random_rows(noisy_model)
    z = 0.3 * torch.randn(3, 7, noisy_model.latents, dtype=torch.float64)
    expected = noisy_model.prior.joint_log_prob(z) + noisy_model.likelihood(z).log_prob(x)
    close(noisy_model.log_joint(x, z), expected, 1e-12)


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
    x = random_rows(model)
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


def test_sufficient_scores_carry_all_of_x_about_z(noisy_model):
    """log p(x, z) - log p(z) - log N(y; z, V) does not depend on z, and is the stated remainder."""
    model = noisy_model
    if model.latents > model.features:
        with pytest.raises(ParameterError, match="full column rank"):
            model.sufficient_scores(random_rows(model))
        return
    x = random_rows(model)
    scores = model.sufficient_scores(x)
    for _ in range(3):
        z = 0.3 * torch.randn(7, model.latents, dtype=torch.float64)
        law = torch.distributions.MultivariateNormal(z, scores.covariance)
        close(model.likelihood(z).log_prob(x), scores.remainder + law.log_prob(scores.values), 1e-9)


# -- What the caller sees ---------------------------------------------------------------------------------------


def test_results_come_in_the_dtype_of_x_and_with_float64_digits(gaussian_model):
    x32 = random_rows(gaussian_model).float()
    posterior, value = gaussian_model.posterior(x32), gaussian_model.log_likelihood(x32)
    assert posterior.mean.dtype == posterior.covariance_matrix.dtype == value.dtype == torch.float32
    exact = gaussian_model.log_likelihood(x32.double())
    assert exact.dtype == torch.float64
    assert (value.double() / exact - 1).abs().max() < 1e-6  # one rounding to float32 is 6e-8
    assert (posterior.mean.double() - gaussian_model.posterior(x32.double()).mean).abs().max() < 1e-6


@pytest.mark.parametrize("kind", ["list", "int", "numpy", "fortran", "float16", "requires_grad", "readonly"])
def test_any_table_is_taken(kind, randomize):
    model = randomize(FactorAnalysis(4, 2))
    base = torch.arange(12.0, dtype=torch.float64).reshape(3, 4) % 5
    frozen = base.numpy().copy()
    frozen.flags.writeable = False
    x = {
        "list": base.tolist(),
        "int": base.int(),
        "numpy": base.numpy(),
        "fortran": np.asfortranarray(base.numpy()),
        "float16": base.half(),
        "requires_grad": base.clone().requires_grad_(),
        "readonly": frozen,
    }[kind]
    close(model.log_likelihood(x).double(), model.log_likelihood(base), 1e-6 if kind == "float16" else 0)


def test_the_callers_x_is_never_changed(model):
    x = random_rows(model)
    kept = pickle.dumps(x.numpy())
    for query in (model.log_likelihood, model.posterior, model.sufficient_scores):
        try:
            query(x)
        except (NotExactError, ParameterError):
            continue
    model(x)
    assert pickle.dumps(x.numpy()) == kept


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 5), r"shape \(samples, 4\)"),
        (torch.zeros(4), "two-dimensional"),
        (torch.zeros(0, 4), "at least 1 row"),
        ([["a", "b", "c", "d"]], "real numbers"),
        (torch.full((1, 4), math.inf), "inf at row 0"),
        (None, "table"),
    ],
)
def test_wrong_rows_end_in_one_sentence(x, message):
    model = FactorAnalysis(4, 1)
    for query in (model.log_likelihood, model.posterior):
        with pytest.raises(DataError, match=message):
            query(x)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FactorAnalysis(0, 1), "features should be a whole number of at least 1"),
        (lambda: FactorAnalysis(4, 0), "latents should be a whole number of at least 1"),
        (lambda: FactorAnalysis(4, 1.5), "latents should be a whole number"),
        (lambda: FactorAnalysis("4", 1), "features should be a whole number"),
        (lambda: LinearFactorModel(4, 1, prior="laplace"), "prior should be a law"),
        (lambda: LinearFactorModel(4, 1, prior=Laplace), "prior should be a law"),
        (lambda: LinearFactorModel(4, 1, noise="full"), "noise should be"),
        (lambda: LinearFactorModel(4, 3, prior=Independent([Laplace(), Laplace()])), "latents should be 2"),
    ],
)
def test_wrong_settings_end_in_one_sentence(build, message, as_installed):
    with pytest.raises(ParameterError, match=message):
        build()


def test_the_prior_is_the_models_own():
    prior = StudentT(5, learn=True)
    model = LinearFactorModel(4, 1, prior=prior)
    assert model.prior is not prior
    assert {p.data_ptr() for p in prior.parameters()}.isdisjoint(p.data_ptr() for p in model.parameters())


def test_for_data_reads_the_width():
    assert FactorAnalysis.for_data([[1.0, 2.0, 3.0]], latents=1).features == 3
    assert ProbabilisticPCA.for_data(np.zeros((2, 4)), latents=2).loadings.shape == (4, 2)


# -- Simulation -------------------------------------------------------------------------------------------------


def test_sample_is_reproducible_and_leaves_the_random_state(model, random_state):
    before = random_state()
    first, second, other = model.sample(5, seed=1), model.sample(5, seed=1), model.sample(5, seed=2)
    assert random_state() == before
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert first.shape == (5, model.features)
    assert not first.requires_grad
    model.sample(5)
    assert random_state() != before  # without a seed it draws from the caller's generator


def test_sample_has_the_moments_of_the_model(model):
    """Mean and covariance entries within five standard errors, estimated from the fourth moments of the sample."""
    n = 40_000
    x = model.sample(n, seed=0)
    loadings = model.loadings.detach()
    variance = model.prior.distribution(model.latents).variance.detach().expand(model.latents)
    expected = (loadings * variance) @ loadings.T
    if model.noise != "none":
        expected = expected + model.noise_variance.detach().expand(model.features).diag()
    centred = x - model.mean.detach()
    assert (centred.mean(0).abs() < 5 * (expected.diagonal() / n).sqrt()).all()
    products = centred[:, :, None] * centred[:, None, :]
    error = (products.mean(0) - expected).abs()
    assert (error < 5 * products.std(0) / n**0.5).all()


def test_sample_refuses_a_wrong_size():
    with pytest.raises(ParameterError, match="size should be a whole number of at least 1"):
        FactorAnalysis(3, 1).sample(0)


def test_queries_give_no_warnings(model):
    x = random_rows(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            model.log_likelihood(x)
            model.posterior(x)
        except (NotExactError, ParameterError) as refusal:
            assert not model.gaussian, refusal
